//! Names of settings of an application's own making (`app.user_id`), learned from the statements that go by.
//!
//! The server lists every setting but these, so a handover can only ask for those whose names it knows. A statement
//! that merely looks like one that sets something teaches a name that turns out not to be set; that costs nothing.
//! What is set inside of a function, without its name in any statement of the client, stays unknown.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use memchr::memmem::Finder;

/// Names beyond this are not learned; the session then counts as one whose settings are not known.
const NAMES_MAX: usize = 64;

/// The longest name of a setting, as of a column or a table.
const NAME_BYTES_MAX: usize = 128;

static SET_LOWER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"set"));
static SET_UPPER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"SET"));

/// What is known of one session's own settings.
#[derive(Debug, Default)]
pub struct CustomSettings {
    names: BTreeSet<String>,
    unknown: bool,
}

impl CustomSettings {
    /// Looks at the text of a statement. Allocates only where a name is new.
    pub fn learn(&mut self, text: &[u8]) {
        for finder in [&*SET_LOWER, &*SET_UPPER] {
            for at in finder.find_iter(text) {
                let before = at.checked_sub(1).and_then(|before| text.get(before));
                if !before.is_some_and(|&byte| byte != b'.' && is_name_byte(byte)) {
                    self.learn_at(text.get(at + 3..).unwrap_or_default());
                }
            }
        }
    }

    /// The names.
    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// Whether something was set whose name the statement did not tell.
    pub fn are_unknown(&self) -> bool {
        self.unknown
    }

    fn learn_at(&mut self, rest: &[u8]) {
        if let Some(call) = strip_word(rest, b"_config") {
            self.learn_call(call);
            return;
        }
        if !rest.first().is_some_and(u8::is_ascii_whitespace) {
            return;
        }
        let rest = rest.trim_ascii_start();
        if strip_word(rest, b"local").is_some_and(starts_new_word) {
            return;
        }
        let rest = match strip_word(rest, b"session") {
            Some(after) if starts_new_word(after) => after.trim_ascii_start(),
            _ => rest,
        };
        let end = rest
            .iter()
            .position(|&byte| !is_name_byte(byte) && byte != b'"');
        let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
        let after = after.trim_ascii_start();
        let assigns =
            after.first() == Some(&b'=') || strip_word(after, b"to").is_some_and(starts_new_word);
        if assigns {
            self.add(name);
        }
    }

    /// `set_config(name, value, is_local)`.
    fn learn_call(&mut self, rest: &[u8]) {
        let Some(arguments) = rest.trim_ascii_start().strip_prefix(b"(") else {
            return;
        };
        let arguments = arguments.trim_ascii_start();
        let quoted = arguments.strip_prefix(b"'").and_then(|rest| {
            let end = memchr::memchr(b'\'', rest)?;
            rest.get(..end)
        });
        if let Some(name) = quoted {
            self.add(name);
            return;
        }
        // A call whose last argument says that it ends with the transaction leaves nothing behind.
        let end = memchr::memchr(b';', arguments).unwrap_or(arguments.len());
        let call = arguments.get(..end).unwrap_or_default().trim_ascii_end();
        let local = call.strip_suffix(b")").is_some_and(|call| {
            let last = call.trim_ascii_end().to_ascii_lowercase();
            last.ends_with(b"true")
        });
        self.unknown |= !local;
    }

    fn add(&mut self, name: &[u8]) {
        if !name.contains(&b'.') || name.len() > NAME_BYTES_MAX {
            return;
        }
        let Ok(name) = std::str::from_utf8(name) else {
            return;
        };
        let name = name.replace('"', "");
        if self.names.contains(&name) {
            return;
        }
        if self.names.len() < NAMES_MAX {
            self.names.insert(name);
        } else {
            self.unknown = true;
        }
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.' || byte == b'$' || byte >= 0x80
}

fn starts_new_word(rest: &[u8]) -> bool {
    !rest.first().is_some_and(|&byte| is_name_byte(byte))
}

/// What follows `word`, whatever its case.
fn strip_word<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = text.split_at_checked(word.len())?;
    head.eq_ignore_ascii_case(word).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, names: &[&str], unknown: bool) {
        let mut custom = CustomSettings::default();
        custom.learn(text.as_bytes());
        let learned: Vec<&str> = custom.names().iter().map(String::as_str).collect();
        assert_eq!(learned, names, "{text}");
        assert_eq!(custom.are_unknown(), unknown, "{text}");
    }

    #[test]
    fn names_are_learned_from_every_form_that_lasts() {
        check("SET app.user_id = '42'", &["app.user_id"], false);
        check("set session app.user_id to 42", &["app.user_id"], false);
        check(
            "begin; SET \"app\".\"tenant\" TO 'x'; set a.b=c",
            &["a.b", "app.tenant"],
            false,
        );
        check(
            "select set_config('app.user_id', $1, false)",
            &["app.user_id"],
            false,
        );
        check(
            "SELECT pg_catalog.set_config ( 'app.x' , 'y', true)",
            &["app.x"],
            false,
        );
    }

    #[test]
    fn what_ends_with_the_transaction_or_is_listed_by_the_server_is_not_learned() {
        check("SET LOCAL app.user_id = '42'", &[], false);
        check("SET search_path = app, public", &[], false);
        check("update t set a = 1 where offset.x = 2", &[], false);
        check("select reset_config('a.b'), asset.x", &[], false);
        check("", &[], false);
        check("set", &[], false);
    }

    #[test]
    fn a_name_that_is_not_told_is_known_to_be_missing() {
        check("select set_config($1, $2, false)", &[], true);
        check("select set_config($1, $2, true)", &[], false);
        check(
            "select set_config(name, value, $1) from settings",
            &[],
            true,
        );
    }

    #[test]
    fn more_names_than_are_kept_make_the_settings_unknown() {
        let mut custom = CustomSettings::default();
        for number in 0..=NAMES_MAX {
            custom.learn(format!("set app.n{number} = 1").as_bytes());
        }
        assert!(custom.are_unknown());
    }
}
