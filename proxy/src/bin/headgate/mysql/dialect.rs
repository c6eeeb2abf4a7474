//! What MySQL's clients ask of any server: their greeting statements, variables, warnings. Everything else is the
//! console's own language.

use proxy::config::ADMIN_DATABASE;

use crate::console::answer::Refusal;
use crate::statement::{self, Statement, Token, Word};

/// A statement of a client that speaks MySQL.
#[derive(Debug, PartialEq)]
pub(super) enum Spoken {
    /// One of the console's.
    Statement(Statement),
    /// Constants in one row: titles and values.
    Row(Vec<(String, Option<String>)>),
    /// One column of names.
    Names(&'static str, Vec<&'static str>),
    /// `SHOW VARIABLES`, those whose name is like the pattern.
    Variables(Option<String>),
    /// `SHOW WARNINGS` and `SHOW ERRORS`.
    Warnings,
    /// Something without an effect here.
    Nothing,
}

/// Who asks, for the statements that want to know.
pub(super) struct Asker {
    /// The console's user.
    pub user: String,
    /// What the console calls its version.
    pub version: &'static str,
}

/// What clients ask a server for, and what this one is. The console runs nothing of theirs, so that most are what
/// every server has.
const VARIABLES: [(&str, &str); 26] = [
    ("auto_increment_increment", "1"),
    ("autocommit", "1"),
    ("character_set_client", "utf8mb4"),
    ("character_set_connection", "utf8mb4"),
    ("character_set_database", "utf8mb4"),
    ("character_set_results", "utf8mb4"),
    ("character_set_server", "utf8mb4"),
    ("collation_connection", "utf8mb4_general_ci"),
    ("collation_server", "utf8mb4_general_ci"),
    ("init_connect", ""),
    ("interactive_timeout", "28800"),
    ("license", "MIT OR Apache-2.0"),
    ("lower_case_table_names", "0"),
    ("max_allowed_packet", "1048576"),
    ("net_write_timeout", "60"),
    ("performance_schema", "0"),
    ("query_cache_size", "0"),
    ("query_cache_type", "OFF"),
    ("sql_mode", ""),
    ("system_time_zone", "UTC"),
    ("time_zone", "+00:00"),
    ("transaction_isolation", "READ-COMMITTED"),
    ("tx_isolation", "READ-COMMITTED"),
    ("tx_read_only", "0"),
    ("version_comment", "Headgate admin console"),
    ("wait_timeout", "28800"),
];

/// The value of one variable, which may be NULL.
fn variable(name: &str, asker: &Asker) -> Result<Option<String>, Refusal> {
    match name {
        "version" => return Ok(Some(asker.version.to_owned())),
        "socket" => return Ok(None),
        "transaction_read_only" | "read_only" | "super_read_only" => return Ok(Some("0".into())),
        _ => {}
    }
    let found = VARIABLES.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, value)| Some((*value).to_owned()))
        .ok_or_else(|| Refusal::new("HY000", format!("Unknown system variable '{name}'"), ""))
}

/// Every variable whose name is like `pattern`.
pub(super) fn variables(pattern: Option<&str>, asker: &Asker) -> Vec<(String, String)> {
    let version = ("version".to_owned(), asker.version.to_owned());
    let all = VARIABLES.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    all.chain([version])
        .filter(|(name, _)| pattern.is_none_or(|pattern| is_like(name, &pattern.to_lowercase())))
        .collect()
}

/// SQL's LIKE with `%` and `_`. Where the letters behind a `%` do not fit, it takes one letter more: only the last `%`
/// need ever do so, and no pattern takes long.
fn is_like(text: &str, pattern: &str) -> bool {
    let letters: Vec<char> = text.chars().collect();
    let signs: Vec<char> = pattern.chars().collect();
    let (mut at, mut sign) = (0, 0);
    // The last `%`, and up to where it takes letters.
    let mut taking = None;
    while at < letters.len() {
        match signs.get(sign) {
            Some('%') => {
                taking = Some((sign, at));
                sign += 1;
            }
            Some(&one) if one == '_' || one == letters[at] => {
                at += 1;
                sign += 1;
            }
            _ => {
                let Some((percent, taken)) = taking else {
                    return false;
                };
                taking = Some((percent, taken + 1));
                at = taken + 1;
                sign = percent + 1;
            }
        }
    }
    signs[sign..].iter().all(|sign| *sign == '%')
}

/// Reads one statement's tokens.
pub(super) fn parse(tokens: &[Token], asker: &Asker) -> Result<Spoken, Refusal> {
    let words: Vec<&Word> = tokens.iter().map(|token| &token.word).collect();
    let bare: Vec<&str> = words
        .iter()
        .map_while(|word| match word {
            Word::Bare(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    match bare.as_slice() {
        ["select", ..] => {
            if let Some(row) = select(&words[1..], asker)? {
                return Ok(Spoken::Row(row));
            }
        }
        ["show", "warnings" | "errors"] => return Ok(Spoken::Warnings),
        ["show", "databases" | "schemas"] => {
            return Ok(Spoken::Names("Database", vec![ADMIN_DATABASE]));
        }
        ["show", "tables", ..] | ["show", "full", "tables", ..] => {
            return Ok(Spoken::Names("Tables_in_headgate", Vec::new()));
        }
        ["show", "variables", ..] | ["show", "session" | "global", "variables", ..] => {
            let pattern = words.iter().find_map(|word| match word {
                Word::Text(text) | Word::Quoted(text) => Some(text.clone()),
                _ => None,
            });
            return Ok(Spoken::Variables(pattern));
        }
        ["use", ADMIN_DATABASE] => return Ok(Spoken::Nothing),
        ["use", other] => {
            let text = format!("the admin console has no database {other:?}");
            return Err(Refusal::new("42000", text, "connect to it as a database of its own"));
        }
        _ => {}
    }
    Ok(Spoken::Statement(statement::parse(tokens)?))
}

/// `SELECT` of variables and of what tools ask to see who answers; `None` where it is something else.
#[allow(clippy::type_complexity, reason = "titles and values of one row")]
fn select(words: &[&Word], asker: &Asker) -> Result<Option<Vec<(String, Option<String>)>>, Refusal> {
    let mut row = Vec::new();
    let mut rest = words;
    loop {
        let (title, value, used) = match rest {
            [Word::Sign('@'), Word::Sign('@'), more @ ..] => {
                let (scope, name, used) = match more {
                    [Word::Bare(scope), Word::Sign('.'), Word::Bare(name) | Word::Quoted(name), ..] => {
                        (format!("{scope}."), name, 5)
                    }
                    [Word::Bare(name) | Word::Quoted(name), ..] => (String::new(), name, 3),
                    _ => return Ok(None),
                };
                let value = variable(&name.to_lowercase(), asker)?;
                (format!("@@{scope}{name}"), value, used)
            }
            [Word::Bare(name), Word::Sign('('), Word::Sign(')'), ..] => {
                let value = match name.as_str() {
                    "version" => Some(asker.version.to_owned()),
                    "database" | "schema" => Some(ADMIN_DATABASE.to_owned()),
                    "user" | "current_user" | "session_user" => Some(asker.user.clone()),
                    _ => return Ok(None),
                };
                (format!("{name}()"), value, 3)
            }
            [Word::Number(number), ..] => (number.clone(), Some(number.clone()), 1),
            _ => return Ok(None),
        };
        rest = &rest[used..];
        let mut title = title;
        if let [Word::Bare(word), Word::Bare(alias) | Word::Quoted(alias) | Word::Text(alias), ..] = rest
            && word == "as"
        {
            title.clone_from(alias);
            rest = &rest[2..];
        }
        row.push((title, value));
        match rest {
            [Word::Sign(','), more @ ..] => rest = more,
            [] => return Ok(Some(row)),
            [Word::Bare(word), Word::Number(_)] if word == "limit" => return Ok(Some(row)),
            _ => return Ok(None),
        }
    }
}

/// Turns the question marks of a statement to prepare into parameters, and counts them.
pub(super) fn number_parameters(tokens: &mut [Token]) -> usize {
    let mut count = 0;
    for token in tokens {
        if token.word == Word::Sign('?') {
            count += 1;
            token.word = Word::Parameter(count);
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Spoken, Refusal> {
        let statements = statement::split(text).expect("one statement");
        let asker = Asker { user: "admin".to_owned(), version: "8.0.0-Headgate" };
        parse(&statements[0], &asker)
    }

    #[test]
    fn what_clients_ask_at_login_is_answered() {
        let row = |pairs: &[(&str, Option<&str>)]| {
            let owned = pairs.iter().map(|(title, value)| ((*title).to_owned(), value.map(str::to_owned)));
            Ok(Spoken::Row(owned.collect()))
        };
        assert_eq!(
            read("select @@version_comment limit 1"),
            row(&[("@@version_comment", Some("Headgate admin console"))])
        );
        assert_eq!(
            read("SELECT @@session.autocommit AS a, @@socket, DATABASE()"),
            row(&[("a", Some("1")), ("@@socket", None), ("database()", Some("headgate"))])
        );
        assert_eq!(read("SHOW WARNINGS"), Ok(Spoken::Warnings));
        assert_eq!(read("SET NAMES utf8mb4"), Ok(Spoken::Statement(Statement::Set)));
        assert!(read("select $$").is_err());
        assert!(read("SELECT @@no_such_thing").is_err());
    }

    #[test]
    fn the_consoles_own_statements_are_left_to_it() {
        assert_eq!(read("show routes"), Ok(Spoken::Statement(Statement::ShowRoutes)));
        assert!(read("select * from t").is_err());
    }

    #[test]
    fn like_knows_its_two_signs() {
        assert!(is_like("sql_mode", "sql%") && is_like("sql_mode", "sql_mod_"));
        assert!(!is_like("sql_mode", "sql") && !is_like("sql_mode", "%x"));
        assert!(is_like("sql_mode", "%l_m%de%") && is_like("", "%") && !is_like("", "_"));
        assert!(is_like("sql_mode", &"%".repeat(1_000_000)));
        assert!(!is_like("sql_mode", &("%_".repeat(1_000_000) + "x")));
    }
}
