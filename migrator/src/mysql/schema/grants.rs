//! What the source's accounts may do, as far as it concerns the databases that move, granted on the target.

use std::collections::BTreeSet;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure};

use super::accounts::account::Account;
use crate::error::Result;
use crate::mysql::Mysql;
use crate::mysql::catalogue::ask;
use crate::mysql::client::Version;
use crate::mysql::refusal::right_needed;
use crate::mysql::tokens::{name, placed_words, split, words};

/// Privileges that every server of today knows.
const KNOWN: [&str; 31] = [
    "ALL PRIVILEGES",
    "ALTER",
    "ALTER ROUTINE",
    "CREATE",
    "CREATE ROUTINE",
    "CREATE TABLESPACE",
    "CREATE TEMPORARY TABLES",
    "CREATE USER",
    "CREATE VIEW",
    "DELETE",
    "DROP",
    "EVENT",
    "EXECUTE",
    "FILE",
    "INDEX",
    "INSERT",
    "LOCK TABLES",
    "PROCESS",
    "REFERENCES",
    "RELOAD",
    "REPLICATION CLIENT",
    "REPLICATION SLAVE",
    "SELECT",
    "SHOW DATABASES",
    "SHOW VIEW",
    "SHUTDOWN",
    "SUPER",
    "TRIGGER",
    "UPDATE",
    "USAGE",
    "GRANT OPTION",
];

const DEFAULT_ROLE: &str = "SET DEFAULT ROLE ";
/// Errors by which a server says that its asker may not: of databases, tables, columns, routines, accounts, PROXY.
const DENIED: [u16; 8] = [1044, 1045, 1142, 1143, 1227, 1370, 1410, 1698];

/// The statements that grant on the target what the source grants.
pub async fn read(
    mysql: &Mysql,
    source: &mut Conn,
    accounts: &[Account],
    versions: (Version, Version),
) -> Result<Vec<String>> {
    let databases = mysql.databases();
    let crosses = versions.0.is_mariadb() != versions.1.is_mariadb();
    let mut statements = Vec::new();
    for account in accounts {
        let query = format!("SHOW GRANTS FOR {}", account.quoted());
        let rows = ask(source, &query, "cannot read what an account may do").await?;
        statements.extend(rows.iter().filter_map(|row| carried(row.text(0), &databases, crosses)));
    }
    Ok(statements)
}

/// Grants it, and tells what the target refuses because Headgate's account may not. What names something that is not there
/// yet is granted by a later call; a privilege that the target does not know is nobody's there.
pub(crate) async fn carry_over(target: &mut Conn, statements: &[String]) -> Vec<NotAllowed> {
    let mut refused = Vec::new();
    for statement in statements {
        let Err(failure) = target.query_drop(statement).await else {
            continue;
        };
        let single = one_by_one(statement);
        let tried = if single.len() < 2 {
            vec![(statement.clone(), Err(failure))]
        } else {
            let mut tried = Vec::new();
            for one in single {
                let outcome = target.query_drop(&one).await;
                tried.push((one, outcome));
            }
            tried
        };
        for (statement, outcome) in tried {
            match outcome {
                Ok(()) => {}
                Err(Failure::Server(reported)) if is_about_rights(&statement, reported.code) => {
                    refused.push(NotAllowed { statement, message: reported.message });
                }
                Err(failure) => tracing::debug!(%failure, "a grant is left out"),
            }
        }
    }
    refused
}

/// A grant that Headgate's account may not pass on.
pub(crate) struct NotAllowed {
    /// What was refused.
    pub(crate) statement: String,
    /// The server's words.
    pub(crate) message: String,
}

/// Whether a server refuses a grant, or a default role, with this error because its asker may not.
pub(crate) fn is_about_rights(statement: &str, code: u16) -> bool {
    (statement.starts_with("GRANT ") || statement.starts_with(DEFAULT_ROLE)) && DENIED.contains(&code)
}

/// The statement after which this account may do what a server refused with these words: it holds the same and may pass it
/// on, or has the right by which one grants what one does not hold.
pub(crate) fn lets_pass_on(statement: &str, message: &str, account: &str) -> Option<String> {
    if statement.starts_with(DEFAULT_ROLE) {
        // MariaDB lets nobody else set the default role of another.
        return Some(format!("GRANT UPDATE ON `mysql`.* TO {account}"));
    }
    let of_a_role = !placed_words(statement).iter().any(|(_, word)| *word == "ON");
    let option = match (of_a_role, right_needed(message)) {
        (true, Some(right)) => return Some(format!("GRANT {right} ON *.* TO {account}")),
        (true, None) => " WITH ADMIN OPTION",
        (false, _) => " WITH GRANT OPTION",
    };
    let (_, own) = to_another(statement, account)?;
    let plain = own.strip_suffix(option).unwrap_or(&own);
    Some(format!("{plain}{option}"))
}

/// To whom a statement grants, or whose default role it sets, and the same statement with another in that place.
pub(crate) fn to_another(statement: &str, grantee: &str) -> Option<(String, String)> {
    let before = if statement.starts_with("GRANT ") {
        &["TO"][..]
    } else if statement.starts_with(DEFAULT_ROLE) {
        &["TO", "FOR"]
    } else {
        return None;
    };
    let words = placed_words(statement);
    let to = words.iter().rposition(|(_, word)| before.contains(word))?;
    let (at, theirs) = *words.get(to + 1)?;
    let (before, after) = (statement.get(..at)?, statement.get(at + theirs.len()..)?);
    Some((theirs.to_owned(), format!("{before}{grantee}{after}")))
}

/// The same grant, each privilege in a statement of its own.
pub(crate) fn one_by_one(statement: &str) -> Vec<String> {
    let Some((listed, rest)) = parts(statement) else {
        return Vec::new();
    };
    split(listed).into_iter().map(|one| format!("GRANT {one} {rest}")).collect()
}

/// What stands between `GRANT` and `ON`, and everything from `ON`.
fn parts(statement: &str) -> Option<(&str, &str)> {
    let (on, _) = *placed_words(statement).iter().find(|(_, word)| *word == "ON")?;
    Some((statement.get(..on)?.strip_prefix("GRANT ")?.trim(), statement.get(on..)?))
}

/// The object that a grant is about, and what it grants there; nothing of a role or of single columns.
pub(crate) fn held(line: &str) -> Option<(String, BTreeSet<String>)> {
    let (listed, rest) = line.starts_with("GRANT ").then(|| parts(line)).flatten()?;
    let reported = words(rest);
    let to = reported.iter().position(|word| *word == "TO")?;
    let object = *reported.get(to.checked_sub(1)?)?;
    let whole = split(listed).into_iter().filter(|one| !one.contains('('));
    Some((object.to_owned(), whole.map(str::to_uppercase).collect()))
}

fn carried(line: &str, databases: &[String], crosses: bool) -> Option<String> {
    if let Some(role) = line.strip_prefix(DEFAULT_ROLE) {
        let reported = words(role);
        return match (crosses, reported.as_slice()) {
            (true, [role, "FOR", account]) => Some(format!("SET DEFAULT ROLE {role} TO {account}")),
            _ => Some(line.to_owned()),
        };
    }
    if !line.starts_with("GRANT ") {
        return None;
    }
    let Some((listed, rest)) = parts(line) else {
        // Nothing stands between: a role is granted.
        return Some(line.to_owned());
    };
    if listed == "PROXY" {
        return Some(line.to_owned());
    }
    let reported = words(rest);
    let to = reported.iter().position(|word| *word == "TO")?;
    let object = *reported.get(to.checked_sub(1)?)?;
    let kept: Vec<&str> = split(listed)
        .into_iter()
        .map(|one| if crosses && one == "BINLOG MONITOR" { "REPLICATION CLIENT" } else { one })
        .filter(|one| !crosses || KNOWN.contains(&one.split(" (").next().unwrap_or(one)))
        .collect();
    if kept.is_empty() || !concerns(object, databases) {
        return None;
    }
    // How the account proves itself and what it must encrypt is told by its definition.
    let after = reported.get(to + 2..).unwrap_or_default();
    let grants_on = after.windows(2).any(|pair| pair == ["GRANT", "OPTION"]);
    let option = if grants_on { " WITH GRANT OPTION" } else { "" };
    // Every account may do nothing.
    if kept == ["USAGE"] && !grants_on {
        return None;
    }
    let place = reported.get(..to + 2)?.join(" ");
    Some(format!("GRANT {} {place}{option}", kept.join(", ")))
}

/// Whether an object such as ``*.*``, ``shop_%`.*`` or ``shop`.`orders`` is on every server or in a database that moves.
pub(crate) fn concerns(object: &str, databases: &[String]) -> bool {
    let Some((database, rest)) = name(object) else {
        return object == "*.*";
    };
    if rest == ".*" { databases.iter().any(|moving| is_like(moving, &database)) } else { databases.contains(&database) }
}

/// Whether the text matches a pattern with `%` and `_`, each of which a backslash makes an ordinary letter.
pub(crate) fn is_like(text: &str, pattern: &str) -> bool {
    let mut pattern = pattern.chars();
    let rest = |letters: &std::str::Chars<'_>| letters.as_str().to_owned();
    let Some(first) = pattern.next() else {
        return text.is_empty();
    };
    let mut letters = text.chars();
    match first {
        '%' => {
            let pattern = rest(&pattern);
            text.char_indices()
                .map(|(at, _)| at)
                .chain([text.len()])
                .any(|at| text.get(at..).is_some_and(|left| is_like(left, &pattern)))
        }
        '_' => letters.next().is_some() && is_like(letters.as_str(), pattern.as_str()),
        '\\' => {
            let wanted = pattern.next().unwrap_or('\\');
            letters.next() == Some(wanted) && is_like(letters.as_str(), pattern.as_str())
        }
        wanted => letters.next() == Some(wanted) && is_like(letters.as_str(), pattern.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::{carried, is_like, lets_pass_on, one_by_one, to_another};

    fn moving() -> Vec<String> {
        vec!["shop".to_owned(), "a_b".to_owned()]
    }

    #[test]
    fn a_grant_brings_no_password_along() {
        let line = "GRANT SELECT (`a`), INSERT ON `shop`.`t` TO 'u'@'h' IDENTIFIED BY PASSWORD '*B69 ON' REQUIRE SSL WITH GRANT OPTION";
        assert_eq!(
            carried(line, &moving(), false).as_deref(),
            Some("GRANT SELECT (`a`), INSERT ON `shop`.`t` TO 'u'@'h' WITH GRANT OPTION")
        );
    }

    #[test]
    fn only_what_concerns_moving_databases_is_granted() {
        assert!(carried("GRANT SELECT ON `other`.* TO `u`@`%`", &moving(), false).is_none());
        assert!(carried("GRANT USAGE ON *.* TO `u`@`%` REQUIRE SSL", &moving(), false).is_none());
        assert!(carried("GRANT SELECT ON `sh%`.* TO `u`@`%`", &moving(), false).is_some());
        assert!(carried("GRANT SELECT ON `a\\_b`.* TO `u`@`%`", &moving(), false).is_some());
        assert!(carried("GRANT EXECUTE ON PROCEDURE `shop`.`p` TO `u`@`%`", &moving(), false).is_some());
        assert!(carried("GRANT PROXY ON `a`@`%` TO `u`@`%`", &moving(), false).is_some());
        assert!(is_like("shop", "sh_p") && !is_like("shop", "sh\\_p") && !is_like("shops", "shop"));
    }

    #[test]
    fn what_the_other_server_does_not_know_is_left_out() {
        assert_eq!(
            carried("GRANT SELECT, DELETE HISTORY, BINLOG MONITOR ON *.* TO `u`@`%`", &moving(), true).as_deref(),
            Some("GRANT SELECT, REPLICATION CLIENT ON *.* TO `u`@`%`")
        );
        assert_eq!(
            carried("SET DEFAULT ROLE `r` FOR `u`@`%`", &moving(), true).as_deref(),
            Some("SET DEFAULT ROLE `r` TO `u`@`%`")
        );
        assert_eq!(
            one_by_one("GRANT SELECT (`a`,`b`), INSERT ON `s`.`t` TO `u`@`%`"),
            ["GRANT SELECT (`a`,`b`) ON `s`.`t` TO `u`@`%`", "GRANT INSERT ON `s`.`t` TO `u`@`%`"]
        );
    }

    #[test]
    fn a_grant_is_tried_on_another_account() {
        for (statement, whose, tried) in [
            (
                "GRANT SELECT ON `TO`.* TO `u`@`%` WITH GRANT OPTION",
                "`u`@`%`",
                "GRANT SELECT ON `TO`.* TO `x`@`y` WITH GRANT OPTION",
            ),
            ("SET DEFAULT ROLE `r` FOR `u`@`%`", "`u`@`%`", "SET DEFAULT ROLE `r` FOR `x`@`y`"),
        ] {
            let expected = (whose.to_owned(), tried.to_owned());
            assert_eq!(to_another(statement, "`x`@`y`"), Some(expected));
        }
        assert_eq!(to_another("CREATE USER `u`@`%`", "`x`@`y`"), None);
    }

    #[test]
    fn what_may_not_be_passed_on_can_be_once_it_is_held_so() {
        const ROLES: &str = "Access denied; you need (at least one of) the WITH ADMIN, ROLE_ADMIN, SUPER privilege(s) for this operation";
        for (statement, message, fix) in [
            (
                "GRANT SELECT ON `shop`.* TO `u`@`%`",
                "Access denied",
                "GRANT SELECT ON `shop`.* TO `h`@`%` WITH GRANT OPTION",
            ),
            (
                "GRANT PROXY ON `ON`@`%` TO `u`@`%` WITH GRANT OPTION",
                "Access denied",
                "GRANT PROXY ON `ON`@`%` TO `h`@`%` WITH GRANT OPTION",
            ),
            ("GRANT `ON`@`%` TO `u`@`%`", ROLES, "GRANT ROLE_ADMIN ON *.* TO `h`@`%`"),
            ("GRANT `r` TO `u`@`%`", "Access denied", "GRANT `r` TO `h`@`%` WITH ADMIN OPTION"),
            ("SET DEFAULT ROLE `r` FOR `u`@`%`", "Access denied", "GRANT UPDATE ON `mysql`.* TO `h`@`%`"),
        ] {
            let statement = lets_pass_on(statement, message, "`h`@`%`");
            assert_eq!(statement.as_deref(), Some(fix));
        }
    }
}
