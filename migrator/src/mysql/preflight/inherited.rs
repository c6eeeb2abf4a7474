//! Settings that new sessions of clients inherit and that differ between the servers, each with the statement that makes
//! them equal. Which variables there are, the servers say; which mean nothing to a client, the table of variables says.

use std::collections::BTreeSet;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure};

use super::super::Mysql;
use super::super::client::failed;
use super::super::session::VARIABLES;
use super::super::sql::quote_literal;
use super::side::Side;
use crate::error::Result;
use crate::preflight::{Check, Findings, Level};

const NAME: &str = "client_settings";
/// Two names of one variable, the older one first.
const RENAMED: [(&str, &str); 2] =
    [("tx_isolation", "transaction_isolation"), ("tx_read_only", "transaction_read_only")];
/// Variables of which another check tells more.
const OF_ANOTHER_CHECK: [&str; 4] = ["sql_mode", "time_zone", "max_allowed_packet", "restrict_fk_on_non_standard_key"];

pub(super) async fn run(mysql: &Mysql, source: &Side, target: &Side, findings: &mut Findings) -> Result<()> {
    // Values are tried in a session that is used for nothing else.
    let mut tried = mysql.connect_target("precheck settings").await?;
    let mut found = 0;
    for (name, there) in &source.settings {
        let Some((called, here)) = counterpart(name, target) else {
            continue;
        };
        let known = VARIABLES.iter().find(|variable| variable.name == name);
        let matters = known.is_none_or(|variable| variable.clients);
        if !matters || OF_ANOTHER_CHECK.contains(&name.as_str()) || is_same(there, here) {
            continue;
        }
        let takes = takes(&mut tried, called, there).await?;
        // What no session can have is no session's.
        if known.is_none() && takes != Takes::InASession {
            continue;
        }
        found += 1;
        let fix = if takes == Takes::No { String::new() } else { target.set(called, &constant(there)) };
        let remedy = if fix.is_empty() {
            "the target does not take this value: see that the application sets what it needs".to_owned()
        } else if fix.starts_with("SET PERSIST") {
            "let new sessions get the same on the target, or see that the application does not depend on it".to_owned()
        } else {
            format!(
                "let new sessions get the same on the target, also in its configuration, for a restart \
                 forgets it ({called} = {there}), or see that the application does not depend on it"
            )
        };
        findings.checks.push(Check::new(
            NAME,
            Level::Warning,
            format!("new sessions get {name} = {there:?} on the source and {here:?} on the target"),
            remedy,
            fix,
        ));
    }
    if found == 0 {
        findings
            .ok(NAME, "new sessions get the same settings on both sides, as far as they mean something to a client");
    }
    Ok(())
}

/// The variable as the target calls it, with its value there.
fn counterpart<'a>(name: &'a str, target: &'a Side) -> Option<(&'a str, &'a str)> {
    let other =
        RENAMED.iter().find_map(|(old, new)| (name == *old).then_some(*new).or_else(|| (name == *new).then_some(*old)));
    [Some(name), other].into_iter().flatten().find_map(|called| {
        let value = target.setting(called)?;
        Some((called, value))
    })
}

fn is_same(one: &str, other: &str) -> bool {
    let plain = |value: &str| match value {
        "ON" | "YES" => "1".to_owned(),
        "OFF" | "NO" => "0".to_owned(),
        value => value.to_ascii_lowercase(),
    };
    let (one, other) = (plain(one), plain(other));
    let number = |value: &str| value.parse::<f64>().ok();
    match (number(&one), number(&other)) {
        (Some(one), Some(other)) => one.to_bits() == other.to_bits(),
        _ if one.contains(',') || other.contains(',') => {
            let parts = |value: &str| -> BTreeSet<String> { value.split(',').map(str::to_owned).collect() };
            parts(&one) == parts(&other)
        }
        _ => one == other,
    }
}

/// The value as SQL writes it.
fn constant(value: &str) -> String {
    if value.parse::<f64>().is_ok() { value.to_owned() } else { quote_literal(value) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    InASession,
    /// It is the whole server's.
    Globally,
    No,
}

/// Whether the target takes this value.
async fn takes(session: &mut Conn, name: &str, value: &str) -> Result<Takes> {
    const IS_GLOBAL: u16 = 1229;
    const IS_READ_ONLY: u16 = 1621;
    // Headgate's account may not, whoever runs the statement may.
    const IS_DENIED: u16 = 1227;
    let set = format!("SET SESSION `{name}` = {}", constant(value));
    match session.query_drop(set).await {
        Ok(()) => Ok(Takes::InASession),
        Err(Failure::Server(reported)) if matches!(reported.code, IS_GLOBAL | IS_READ_ONLY | IS_DENIED) => {
            Ok(Takes::Globally)
        }
        Err(Failure::Server(_)) => Ok(Takes::No),
        Err(failure) => Err(failed("cannot try a setting on the target", failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::is_same;

    #[test]
    fn servers_write_the_same_value_in_different_ways() {
        assert!(is_same("ON", "1") && is_same("0.000000", "0") && is_same("A,b", "B,a"));
        assert!(!is_same("ON", "OFF") && !is_same("64", "1024") && !is_same("", "0"));
    }
}
