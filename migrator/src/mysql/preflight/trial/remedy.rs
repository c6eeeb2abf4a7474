//! What ends a refusal of the trial: derived from the server's error, and never more than it asks for.

use super::super::super::sql::quote_ident;
use super::super::Side;
use super::{Refusal, to_another};
use crate::preflight::Level;

/// Functions that MySQL 9 has in a component of its own.
const CLASSIC_HASHES: [&str; 3] = ["md5", "sha", "sha1"];

const REMEDY: &str =
    "change or drop it on the source, or give the target what it needs, before the start";

pub(super) struct Mended {
    pub(super) level: Level,
    pub(super) remedy: String,
    pub(super) fix: String,
}

impl Mended {
    fn new(remedy: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            remedy: remedy.into(),
            fix: fix.into(),
        }
    }
}

/// `account` is Headgate's own on the target, as SQL writes it; `broken` tells that the source cannot use it either.
pub(super) fn of(refusal: &Refusal, account: &str, target: &Side, broken: bool) -> Mended {
    let grants = refusal.statement.starts_with("GRANT ");
    match refusal.code {
        1418 | 1419 => Mended::new(
            "the target refuses to create it while its binary log is on: let it trust whoever creates functions and triggers",
            target.set("log_bin_trust_function_creators", "ON"),
        ),
        1227 => {
            let right = needed(&refusal.message);
            let fix = right.map(|right| format!("GRANT {right} ON *.* TO {account}"));
            Mended::new(
                "give Headgate's account on the target the right that it lacks",
                fix.unwrap_or_default(),
            )
        }
        // Only what one holds with the grant option can be granted.
        1044 | 1045 | 1142 | 1143 | 1370 | 1410 if grants => {
            let own = to_another(&refusal.statement, account).map(|(_, own)| own);
            let own = own.map(|own| match own.strip_suffix(" WITH GRANT OPTION") {
                Some(_) => own,
                None => format!("{own} WITH GRANT OPTION"),
            });
            Mended::new(
                "Headgate's account on the target may not grant it: give it the same with the grant option, or the account has less rights there",
                own.unwrap_or_default(),
            )
        }
        _ if grants => Mended {
            level: Level::Warning,
            remedy: "it is left out: nobody has this right there, or on what is not there"
                .to_owned(),
            fix: String::new(),
        },
        1305 => match missing(&refusal.message).and_then(|name| component(name, target)) {
            Some(fix) => Mended::new("give the target the function before the start", fix),
            None => Mended::new(REMEDY, ""),
        },
        _ if broken => Mended::new(
            "it cannot be used on the source either: mend it, or drop it",
            refusal
                .name
                .split_once('.')
                .map(|(schema, name)| {
                    format!("DROP VIEW {}.{}", quote_ident(schema), quote_ident(name))
                })
                .unwrap_or_default(),
        ),
        _ => Mended::new(REMEDY, ""),
    }
}

/// The narrowest of the rights of which a server says that one is needed.
fn needed(message: &str) -> Option<&str> {
    let (_, after) = message.split_once("(at least one of) the ")?;
    let (listed, _) = after.split_once(" privilege")?;
    listed
        .split(" or ")
        .flat_map(|part| part.split(','))
        .map(str::trim)
        .filter(|right| *right != "SUPER" && !right.starts_with("WITH "))
        .last()
}

/// The function that a server says it does not have.
fn missing(message: &str) -> Option<&str> {
    let name = message.strip_prefix("FUNCTION ")?.split(' ').next()?;
    name.rsplit('.').next()
}

/// The statement that gives the target this function, where it has it in store.
pub(super) fn component(function: &str, target: &Side) -> Option<String> {
    let known = CLASSIC_HASHES.contains(&function.to_ascii_lowercase().as_str());
    (known && target.version.is_mysql_from(9, 0, 0))
        .then(|| "INSTALL COMPONENT 'file://component_classic_hashing'".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{missing, needed};

    #[test]
    fn the_least_right_is_read_from_the_server_s_own_words() {
        for (message, right) in [
            (
                "Access denied; you need (at least one of) the SUPER or ALLOW_NONEXISTENT_DEFINER privilege(s) for this operation",
                "ALLOW_NONEXISTENT_DEFINER",
            ),
            (
                "Access denied; you need (at least one of) the SUPER, SET USER privilege(s) for this operation",
                "SET USER",
            ),
            (
                "Access denied; you need (at least one of) the WITH ADMIN, ROLE_ADMIN, SUPER privilege(s) for this operation",
                "ROLE_ADMIN",
            ),
        ] {
            assert_eq!(needed(message), Some(right));
        }
        assert_eq!(needed("Access denied"), None);
        assert_eq!(missing("FUNCTION shop.MD5 does not exist"), Some("MD5"));
    }
}
