//! What simulated managed services of both engines have in common.

use crate::mysql::Record;

/// The statements of a service's script, which end with their lines; lines of comment are left out.
pub(crate) fn statements(script: &str) -> impl Iterator<Item = String> {
    let without_comments =
        |statement: &str| statement.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
    script.split(";\n").map(without_comments).filter(|statement| !statement.trim().is_empty())
}

/// The findings of one check that are at least warnings.
pub fn findings<'a>(checks: &'a [Record], name: &str) -> Vec<&'a Record> {
    checks.iter().filter(|check| check["check"] == name && check["level"] != "ok").collect()
}
