//! Names of settings of an application's own making (`app.user_id`), learned from the statements that go by.
//!
//! The server lists every setting but these, so a handover can only ask for those whose names it knows. A statement
//! that merely looks like one that sets something adds a name that turns out not to be set; that costs nothing.
//! Where a statement sets something and its name cannot be read there, the session does not move. What is set inside
//! of a function, without its name in any statement of the client, stays unknown.
//!
//! The text is searched everywhere, literals and bodies of DO included, because it may be run from there.

use std::collections::BTreeSet;

use protocol::postgres::sql::{after_blanks, is_name_byte, is_start_of, strip_word};

use super::hidden_writes::{Hides, hides_writes};

/// Names beyond this are not learned; the session then counts as one whose settings are not known.
const NAMES_MAX: usize = 64;

/// The longest name of a setting, as of a column or a table.
const NAME_BYTES_MAX: usize = 128;

/// Of a text that arrives in pieces, the most that is kept to see where a setting's name ends.
const KEPT_BYTES_MAX: usize = 8 << 10;

/// Pieces are looked at in steps of this size, which bounds what is kept in memory.
const STEP_BYTES: usize = 4 << 10;

/// What is known of one session's own settings.
#[derive(Debug, Default)]
pub struct CustomSettings {
    names: BTreeSet<String>,
    unknown: bool,
    hides_writes: Option<&'static str>,
    /// The end of the piece before, where a setting may begin in it.
    kept: Vec<u8>,
}

/// What stands at one place of a text.
enum Found<'a> {
    Nothing,
    Name(std::borrow::Cow<'a, [u8]>),
    /// Something is set whose name is not told.
    Unknown,
    /// The text ends before it can be said; what it is where nothing follows.
    Short(bool),
}

/// What follows blanks; leaves with `Short` where the text may go on in them.
macro_rules! behind_blanks {
    ($text:expr) => {
        match after_blanks($text) {
            [] | [b'/' | b'-'] => return Found::Short(false),
            rest => rest,
        }
    };
}

impl CustomSettings {
    /// Looks at the whole text of a statement. Allocates only where a name is new.
    pub fn learn(&mut self, text: &[u8]) {
        self.search(text, 0, true);
    }

    /// Looks at the next piece of a text that is too long to be looked at as a whole.
    pub fn learn_piece(&mut self, piece: &[u8], is_last: bool) {
        let mut kept = std::mem::take(&mut self.kept);
        // The first byte is only what stands before.
        if kept.is_empty() {
            kept.push(b' ');
        }
        for step in piece.chunks(STEP_BYTES) {
            kept.extend_from_slice(step);
            let from = self.search(&kept, 1, false);
            kept.drain(..from);
            if kept.len() > KEPT_BYTES_MAX {
                // Something that long between a setting's first word and its name is nothing that can be read.
                self.unknown = true;
                kept.truncate(1);
            }
        }
        if is_last {
            self.search(&kept, 1, true);
            kept.clear();
        }
        self.kept = kept;
    }

    /// What the last text named that lets a session write past what follows the log.
    pub fn take_hides_writes(&mut self) -> Option<&'static str> {
        self.hides_writes.take()
    }

    /// Something was set whose name was not told.
    pub fn set_unknown(&mut self) {
        self.unknown = true;
    }

    /// The names.
    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// Whether something was set whose name the statement did not tell.
    pub fn are_unknown(&self) -> bool {
        self.unknown
    }

    /// Looks at every place of `text` but the first ones. Answers from where on it must be kept until more of it is
    /// there.
    fn search(&mut self, text: &[u8], first: usize, is_whole: bool) -> usize {
        let places = memchr::memchr2_iter(b's', b'S', text.get(first..).unwrap_or_default());
        for at in places.map(|at| at + first) {
            let before = &text[..at];
            match hides_writes(&text[at..]) {
                Hides::Nothing => {}
                Hides::Writes(what) => self.hides_writes = Some(what),
                Hides::Short if is_whole => {}
                Hides::Short => return at.saturating_sub(1),
            }
            let inside_word = before.last().is_some_and(|&byte| byte != b'.' && is_name_byte(byte));
            if inside_word {
                continue;
            }
            match setting(&text[at..], before) {
                Found::Nothing => {}
                Found::Name(name) => self.add(&name),
                Found::Unknown => self.unknown = true,
                Found::Short(unknown) if is_whole => self.unknown |= unknown,
                Found::Short(_) => return at.saturating_sub(1),
            }
        }
        text.len().saturating_sub(1)
    }

    fn add(&mut self, name: &[u8]) {
        if !name.contains(&b'.') {
            return;
        }
        // In which encoding other letters are written is not known here.
        let readable = name.is_ascii() && name.len() <= NAME_BYTES_MAX;
        let Some(name) = std::str::from_utf8(name).ok().filter(|_| readable) else {
            self.unknown = true;
            return;
        };
        if self.names.contains(name) {
            return;
        }
        if self.names.len() < NAMES_MAX {
            self.names.insert(name.to_owned());
        } else {
            self.unknown = true;
        }
    }
}

/// What `text` sets, which begins with the letter S behind `before`.
fn setting<'a>(text: &'a [u8], before: &[u8]) -> Found<'a> {
    const WORDS: [&[u8]; 2] = [b"set", b"set_config"];
    if WORDS.iter().any(|word| word.len() > text.len() && is_start_of(text, word)) {
        return Found::Short(false);
    }
    if let Some(rest) = strip_word(text, b"set_config") {
        return call(rest.strip_prefix(b"\"").unwrap_or(rest));
    }
    let Some(after) = strip_word(text, b"set") else {
        return Found::Nothing;
    };
    let rest = behind_blanks!(after);
    if rest.len() == after.len() && rest.first() != Some(&b'"') {
        return Found::Nothing;
    }
    let rest = match scope(rest) {
        Scope::Partial => return Found::Short(false),
        Scope::Local => return Found::Nothing,
        Scope::Session(rest) => rest,
    };
    assignment(rest, begins_statement(before))
}

enum Scope<'a> {
    Session(&'a [u8]),
    Local,
    Partial,
}

/// Passes over SESSION, as far as it is that word and not the first part of a name.
fn scope(rest: &[u8]) -> Scope<'_> {
    for word in [&b"session"[..], b"local"] {
        if rest.len() <= word.len() && is_start_of(rest, word) {
            return Scope::Partial;
        }
        let Some(after) = strip_word(rest, word) else {
            continue;
        };
        let behind = after_blanks(after);
        return match behind.first() {
            None | Some(b'/' | b'-') => Scope::Partial,
            Some(b'.' | b'=') => Scope::Session(rest),
            Some(_) if starts_inside_word(after) => Scope::Session(rest),
            Some(_) if word == b"local" => Scope::Local,
            Some(_) => Scope::Session(behind),
        };
    }
    Scope::Session(rest)
}

/// `name = value`, `name TO value`.
fn assignment(text: &[u8], begins: bool) -> Found<'_> {
    let mut name: Vec<u8> = Vec::new();
    let mut rest = text;
    loop {
        let part = match identifier(rest) {
            Identifier::Partial => return Found::Short(false),
            Identifier::Part(part, after) => {
                rest = after;
                part
            }
            // What is put together at run time is a statement only where one begins, or a name's second half.
            Identifier::None if begins || !name.is_empty() => return put_together(rest),
            Identifier::None => return Found::Nothing,
        };
        name.extend_from_slice(&part);
        let behind = behind_blanks!(rest);
        if let [b'.', after @ ..] = behind {
            name.push(b'.');
            rest = behind_blanks!(after);
            if name.len() > NAME_BYTES_MAX {
                return Found::Unknown;
            }
            continue;
        }
        if name.eq_ignore_ascii_case(b"u") && behind.first() == Some(&b'&') {
            return Found::Unknown;
        }
        if begins && matches!(rest.first(), Some(b'%' | b'\'')) {
            return put_together(rest);
        }
        if behind.first() == Some(&b'=') {
            return Found::Name(name.into());
        }
        return match strip_word(behind, b"to") {
            Some([]) => Found::Short(false),
            Some(after) if !starts_inside_word(after) => Found::Name(name.into()),
            None if behind.len() < 2 && is_start_of(behind, b"to") => Found::Short(false),
            _ => Found::Nothing,
        };
    }
}

enum Identifier<'a> {
    Part(std::borrow::Cow<'a, [u8]>, &'a [u8]),
    None,
    Partial,
}

/// One part of a name, without its quotes.
fn identifier(text: &[u8]) -> Identifier<'_> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|&byte| !is_name_byte(byte)).unwrap_or(text.len());
        let (part, after) = text.split_at(end);
        return match (part, after) {
            (_, []) => Identifier::Partial,
            ([], _) => Identifier::None,
            _ => Identifier::Part(part.into(), after),
        };
    };
    let Some(end) = memchr::memchr(b'"', quoted) else {
        return Identifier::Partial;
    };
    let (part, after) = (&quoted[..end], &quoted[end + 1..]);
    match after.first() {
        None => Identifier::Partial,
        // A quote inside of a name: no setting is called so.
        Some(b'"') => Identifier::None,
        Some(_) => Identifier::Part(part.into(), after),
    }
}

/// Whether the text goes on with what another value is put into: `' || name`, `%I` of format().
fn put_together(rest: &[u8]) -> Found<'_> {
    let is = |unknown| {
        if unknown { Found::Unknown } else { Found::Nothing }
    };
    if let [b'%', rest @ ..] = rest {
        return match rest.first() {
            None => Found::Short(false),
            Some(kind) => is(matches!(kind, b's' | b'I' | b'L' | b'-' | b'0'..=b'9')),
        };
    }
    let quotes = rest.iter().take_while(|&&byte| byte == b'\'').count();
    match rest.get(quotes..).unwrap_or_default() {
        _ if quotes == 0 => Found::Nothing,
        rest => match behind_blanks!(rest) {
            b"|" => Found::Short(false),
            rest => is(rest.starts_with(b"||")),
        },
    }
}

/// Whether a statement may begin behind `before`, in a text or in a literal that is run as one.
fn begins_statement(before: &[u8]) -> bool {
    let before = before.trim_ascii_end();
    match before.last() {
        None | Some(b';' | b'\'' | b'$' | b'/' | 0) => true,
        Some(_) => [&b"begin"[..], b"then", b"else", b"loop"].iter().any(|word| {
            let at = before.len().checked_sub(word.len());
            at.is_some_and(|at| before[at..].eq_ignore_ascii_case(word))
        }),
    }
}

/// `set_config(name, value, is_local)`, from behind its name.
fn call(text: &[u8]) -> Found<'_> {
    let Some(arguments) = behind_blanks!(text).strip_prefix(b"(") else {
        return Found::Nothing;
    };
    let rest = after_blanks(arguments);
    let quotes = rest.iter().take_while(|&&byte| byte == b'\'').count();
    // Inside of a literal the quotes stand twice.
    if matches!(quotes, 1 | 2) {
        let literal = &rest[quotes..];
        let Some(end) = memchr::memchr(b'\'', literal) else {
            return Found::Short(true);
        };
        let (name, after) = literal.split_at(end);
        let closing = after.iter().take_while(|&&byte| byte == b'\'').count();
        let behind = after_blanks(strip_cast(after_blanks(&after[closing..])));
        if behind.is_empty() {
            return Found::Short(true);
        }
        let is_literal = closing == quotes && behind.starts_with(b",");
        if is_literal && !name.is_empty() && !name.contains(&b'\\') {
            return Found::Name(name.into());
        }
    }
    // A call whose last argument says that it ends with the transaction leaves nothing behind.
    match last_argument(arguments) {
        None => Found::Short(true),
        Some(last) if is_true(last) => Found::Nothing,
        Some(_) => Found::Unknown,
    }
}

/// What follows `::text`.
fn strip_cast(text: &[u8]) -> &[u8] {
    let Some(cast) = text.strip_prefix(b"::") else {
        return text;
    };
    strip_word(after_blanks(cast), b"text").unwrap_or(text)
}

/// The text of a call's last argument; `None` where the call does not end in `arguments`.
fn last_argument(arguments: &[u8]) -> Option<&[u8]> {
    let (mut depth, mut from) = (0_usize, 0);
    let mut at = 0;
    while let Some(&byte) = arguments.get(at) {
        match byte {
            b'\'' => at += 1 + memchr::memchr(b'\'', arguments.get(at + 1..)?)?,
            b'(' => depth += 1,
            b')' if depth == 0 => return arguments.get(from..at),
            b')' => depth -= 1,
            b',' if depth == 0 => from = at + 1,
            _ => {}
        }
        at += 1;
    }
    None
}

fn is_true(argument: &[u8]) -> bool {
    let argument = after_blanks(argument).trim_ascii_end();
    [&b"true"[..], b"'true'", b"'t'", b"''t''", b"''true''"].iter().any(|word| argument.eq_ignore_ascii_case(word))
}

fn starts_inside_word(rest: &[u8]) -> bool {
    rest.first().is_some_and(|&byte| is_name_byte(byte))
}

#[cfg(test)]
mod tests {
    use super::super::hidden_writes::ROLE;
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
        check("begin; SET \"app\".\"tenant\" TO 'x'; set a.b=c", &["a.b", "app.tenant"], false);
        check("select set_config('app.user_id', $1, false)", &["app.user_id"], false);
        check("SELECT pg_catalog.set_config ( 'app.x' , 'y', true)", &["app.x"], false);
    }

    #[test]
    fn blanks_comments_quotes_and_case_hide_no_name() {
        let names: &[&str] = &["app.x"];
        check("Set/* a /* b */ */app -- c\n . \"x\" /**/=1", names, false);
        check("set session/**/\"app\".x to'1'", names, false);
        check("select \"set_config\"('app.x'::text , '1', false)", names, false);
        check("do 'begin perform set_config(''app.x'', ''1'', false); end'", names, false);
        check("SET session.x = 1; set local.y = 2", &["local.y", "session.x"], false);
    }

    #[test]
    fn what_hides_writes_is_told_apart_from_what_asks_for_it() {
        let hides = |text: &str| {
            let mut custom = CustomSettings::default();
            custom.learn(text.as_bytes());
            let mut pieces = CustomSettings::default();
            for piece in text.as_bytes().chunks(3) {
                pieces.learn_piece(piece, false);
            }
            pieces.learn_piece(b"", true);
            let whole = custom.take_hides_writes();
            assert_eq!(whole, pieces.take_hides_writes(), "{text}");
            whole
        };
        for text in [
            "set session_replication_role = replica",
            "SET LOCAL Session_Replication_Role/**/to 'replica' ;",
            "select set_config('session_replication_role', $1, false)",
        ] {
            assert_eq!(hides(text), Some(ROLE), "{text}");
        }
        let origin = "select pg_replication_origin_session_setup('a')";
        assert_eq!(hides(origin), Some("pg_replication_origin_session_setup"));
        for text in [
            "set session_replication_role = origin",
            "set session_replication_role to default",
            "show session_replication_role",
            "select current_setting('session_replication_role')",
            "reset session_replication_role",
        ] {
            assert_eq!(hides(text), None, "{text}");
        }
    }

    #[test]
    fn a_text_in_pieces_tells_what_it_tells_as_a_whole() {
        let value = "v".repeat(3 * KEPT_BYTES_MAX);
        let texts = [
            format!("select '{value}'; SET /* a */ app . x = '{value}'; offset.y = 1"),
            format!("select set_config('app.x', '{value}', false), set_config($1, $2, true)"),
            "xset a.b = 1; set app.x to 1".to_owned(),
        ];
        for text in &texts {
            for size in [1, 2, 3, 7, 100, 5000] {
                let mut custom = CustomSettings::default();
                for piece in text.as_bytes().chunks(size) {
                    custom.learn_piece(piece, false);
                }
                custom.learn_piece(b"", true);
                let names: Vec<&String> = custom.names().iter().collect();
                assert_eq!(names, ["app.x"], "in pieces of {size}");
                assert!(!custom.are_unknown(), "in pieces of {size}");
            }
        }
        let mut custom = CustomSettings::default();
        custom.learn_piece(format!("select set_config('a.' || '{value}").as_bytes(), false);
        assert!(custom.are_unknown(), "kept without end");
        assert!(custom.kept.capacity() < 4 * KEPT_BYTES_MAX);
    }

    #[test]
    fn what_ends_with_the_transaction_or_is_listed_by_the_server_is_not_learned() {
        check("SET LOCAL app.user_id = '42'", &[], false);
        check("SET search_path = app, public", &[], false);
        check("update t set a = 1 where offset.x = 2", &[], false);
        check("select reset_config('a.b'), asset.x", &[], false);
        check("", &[], false);
        check("set", &[], false);
        check("update t set /* a */ b = '' || c", &[], false);
        check("insert into t values ('we have it all set up.', 'Set.')", &[], false);
        check("SET/**/LOCAL app.x = 1; set session = 1", &[], false);
    }

    #[test]
    fn a_name_that_is_not_told_is_known_to_be_missing() {
        check("select set_config($1, $2, false)", &[], true);
        check("select set_config($1, $2, true)", &[], false);
        check("select set_config(name, value, $1) from settings", &[], true);
        check("select set_config('app.' || 'a', '1', false)", &[], true);
        check("select set_config('app.' || $1, ')', true)", &[], false);
        check("set U&\"app\".a = 1", &[], true);
        check("set \"größe.x\" = 1", &[], true);
        check("do $$ begin execute 'set app.' || n || ' = 1'; end $$", &[], true);
        check("begin execute format('set %I = 1', 'a.b'); end", &[], true);
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
