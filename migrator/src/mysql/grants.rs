//! What the source's accounts may do, as far as it concerns the databases that move, granted on the target.

use std::collections::BTreeSet;

use mysql_async::Conn;

use super::Mysql;
use super::accounts::Account;
use super::catalogue::{ask, run};
use super::client::Version;
use super::tokens::{name, placed_words, split, words};
use crate::error::Result;

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
        statements.extend(
            rows.iter()
                .filter_map(|row| carried(row.text(0), &databases, crosses)),
        );
    }
    Ok(statements)
}

/// Grants it. What names something that is not there yet is granted by a later call; a privilege that the target does
/// not know is nobody's there.
pub async fn carry_over(target: &mut Conn, statements: &[String]) {
    const WHAT: &str = "cannot grant on the target";
    for statement in statements {
        let Err(failure) = run(target, statement, WHAT).await else {
            continue;
        };
        let single = one_by_one(statement);
        if single.len() < 2 {
            tracing::debug!(%failure, "a grant is left out");
        }
        for one in single {
            if let Err(failure) = run(target, &one, WHAT).await {
                tracing::debug!(%failure, "a grant is left out");
            }
        }
    }
}

/// The same grant, each privilege in a statement of its own.
pub(super) fn one_by_one(statement: &str) -> Vec<String> {
    let Some((listed, rest)) = parts(statement) else {
        return Vec::new();
    };
    split(listed)
        .into_iter()
        .map(|one| format!("GRANT {one} {rest}"))
        .collect()
}

/// What stands between `GRANT` and `ON`, and everything from `ON`.
fn parts(statement: &str) -> Option<(&str, &str)> {
    let (on, _) = *placed_words(statement)
        .iter()
        .find(|(_, word)| *word == "ON")?;
    Some((
        statement.get(..on)?.strip_prefix("GRANT ")?.trim(),
        statement.get(on..)?,
    ))
}

/// The object that a grant is about, and what it grants there; nothing of a role or of single columns.
pub(super) fn held(line: &str) -> Option<(String, BTreeSet<String>)> {
    let (listed, rest) = line.starts_with("GRANT ").then(|| parts(line)).flatten()?;
    let reported = words(rest);
    let to = reported.iter().position(|word| *word == "TO")?;
    let object = *reported.get(to.checked_sub(1)?)?;
    let whole = split(listed).into_iter().filter(|one| !one.contains('('));
    Some((object.to_owned(), whole.map(str::to_uppercase).collect()))
}

fn carried(line: &str, databases: &[String], crosses: bool) -> Option<String> {
    if let Some(role) = line.strip_prefix("SET DEFAULT ROLE ") {
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
        .map(|one| {
            if crosses && one == "BINLOG MONITOR" {
                "REPLICATION CLIENT"
            } else {
                one
            }
        })
        .filter(|one| !crosses || KNOWN.contains(&one.split(" (").next().unwrap_or(one)))
        .collect();
    if kept.is_empty() || !concerns(object, databases) {
        return None;
    }
    // How the account proves itself and what it must encrypt is told by its definition.
    let after = reported.get(to + 2..).unwrap_or_default();
    let grants_on = after.windows(2).any(|pair| pair == ["GRANT", "OPTION"]);
    let option = if grants_on { " WITH GRANT OPTION" } else { "" };
    let place = reported.get(..to + 2)?.join(" ");
    Some(format!("GRANT {} {place}{option}", kept.join(", ")))
}

/// Whether an object such as ``*.*``, ``shop_%`.*`` or ``shop`.`orders`` is on every server or in a database that moves.
pub(super) fn concerns(object: &str, databases: &[String]) -> bool {
    let Some((database, rest)) = name(object) else {
        return object == "*.*";
    };
    if rest == ".*" {
        databases.iter().any(|moving| is_like(moving, &database))
    } else {
        databases.contains(&database)
    }
}

/// Whether the text matches a pattern with `%` and `_`, each of which a backslash makes an ordinary letter.
pub(super) fn is_like(text: &str, pattern: &str) -> bool {
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
    use super::{carried, is_like, one_by_one};

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
        assert!(carried("GRANT SELECT ON `sh%`.* TO `u`@`%`", &moving(), false).is_some());
        assert!(carried("GRANT SELECT ON `a\\_b`.* TO `u`@`%`", &moving(), false).is_some());
        assert!(
            carried(
                "GRANT EXECUTE ON PROCEDURE `shop`.`p` TO `u`@`%`",
                &moving(),
                false
            )
            .is_some()
        );
        assert!(carried("GRANT PROXY ON `a`@`%` TO `u`@`%`", &moving(), false).is_some());
        assert!(is_like("shop", "sh_p") && !is_like("shop", "sh\\_p") && !is_like("shops", "shop"));
    }

    #[test]
    fn what_the_other_server_does_not_know_is_left_out() {
        assert_eq!(
            carried(
                "GRANT SELECT, DELETE HISTORY, BINLOG MONITOR ON *.* TO `u`@`%`",
                &moving(),
                true
            )
            .as_deref(),
            Some("GRANT SELECT, REPLICATION CLIENT ON *.* TO `u`@`%`")
        );
        assert_eq!(
            carried("SET DEFAULT ROLE `r` FOR `u`@`%`", &moving(), true).as_deref(),
            Some("SET DEFAULT ROLE `r` TO `u`@`%`")
        );
        assert_eq!(
            one_by_one("GRANT SELECT (`a`,`b`), INSERT ON `s`.`t` TO `u`@`%`"),
            [
                "GRANT SELECT (`a`,`b`) ON `s`.`t` TO `u`@`%`",
                "GRANT INSERT ON `s`.`t` TO `u`@`%`"
            ]
        );
    }
}
