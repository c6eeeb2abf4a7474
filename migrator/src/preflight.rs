//! The findings of a precheck: everything that can say no before anything is touched.

use serde::{Deserialize, Serialize};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Looked at, and in order.
    Ok,
    /// The migration can go on; the operator should know.
    Warning,
    /// The migration must not start.
    Error,
}

/// One finding. All checks run and all findings are shown together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The check's stable name, such as `wal_level`.
    pub name: String,
    /// How much it matters.
    pub level: Level,
    /// What was seen, with the object's name and the numbers.
    pub evidence: String,
    /// What the operator can do; empty where there is nothing to do.
    pub remedy: String,
    /// A statement that mends it as it stands; empty where none does.
    pub fix: String,
}

impl Check {
    /// A check that found everything in order.
    pub fn ok(name: &str, evidence: impl Into<String>) -> Self {
        Self::new(name, Level::Ok, evidence, "", "")
    }

    /// A finding with its remedy and the statement that mends it.
    pub fn new(
        name: &str,
        level: Level,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            level,
            evidence: evidence.into(),
            remedy: remedy.into(),
            fix: fix.into(),
        }
    }
}

/// The finding that matters most; [`Level::Ok`] where there is none.
pub fn worst(checks: &[Check]) -> Level {
    checks
        .iter()
        .map(|check| check.level)
        .max()
        .unwrap_or(Level::Ok)
}
