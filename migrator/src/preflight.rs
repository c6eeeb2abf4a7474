//! The findings of a precheck: everything that can say no before anything is touched.

use serde::{Deserialize, Serialize};

use crate::error::Result;

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

impl Level {
    /// As the console shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
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
        Self { name: name.to_owned(), level, evidence: evidence.into(), remedy: remedy.into(), fix: fix.into() }
    }
}

/// The finding that matters most; [`Level::Ok`] where there is none.
pub fn worst(checks: &[Check]) -> Level {
    checks.iter().map(|check| check.level).max().unwrap_or(Level::Ok)
}

/// What checks have found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) checks: Vec<Check>,
}

impl Findings {
    pub(crate) fn ok(&mut self, name: &str, evidence: impl Into<String>) {
        self.checks.push(Check::ok(name, evidence));
    }

    pub(crate) fn warning(&mut self, name: &str, evidence: impl Into<String>, remedy: &str, fix: impl Into<String>) {
        self.checks.push(Check::new(name, Level::Warning, evidence, remedy, fix));
    }

    pub(crate) fn error(&mut self, name: &str, evidence: impl Into<String>, remedy: &str, fix: impl Into<String>) {
        self.checks.push(Check::new(name, Level::Error, evidence, remedy, fix));
    }

    /// One check's outcome; a check that could not run is an error of its own and ends no other.
    pub(crate) fn ran(&mut self, name: &str, outcome: Result<()>) {
        if let Err(failure) = outcome {
            let remedy = failure.remedy_text().unwrap_or("this check could not run; mend that first").to_owned();
            let fix = failure.fix_text().unwrap_or_default();
            self.error(name, failure.full_text(), &remedy, fix);
        }
    }

    /// One finding per row of (evidence, fix), or one that all is in order.
    pub(crate) fn each(&mut self, name: &str, level: Level, rows: &[(String, String)], remedy: &str, otherwise: &str) {
        if rows.is_empty() {
            self.ok(name, otherwise);
        }
        for (evidence, fix) in rows {
            self.checks.push(Check::new(name, level, evidence, remedy, fix));
        }
    }

    /// A server, where it answered.
    pub(crate) fn reached<S>(&mut self, name: &str, side: Result<S>, remedy: &str) -> Option<S> {
        side.inspect_err(|failure| {
            let remedy = failure.remedy_text().unwrap_or(remedy);
            let fix = failure.fix_text().unwrap_or_default();
            self.error(name, failure.full_text(), remedy, fix);
        })
        .ok()
    }
}
