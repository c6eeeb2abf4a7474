//! What Headgate's own accounts need on each server: one table per engine, which `headgate grants` prints and the precheck
//! asks for, so that neither knows a right that the other does not.

use std::fmt::Write as _;

/// One of the two servers of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The server that has the rows now.
    Source,
    /// The server that gets them.
    Target,
}

impl Side {
    /// Its name in texts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }
}

/// How much depends on a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// No migration starts without it.
    Always,
    /// A migration can do without it, and loses what the right's text says.
    Helpful,
    /// It is needed only where this holds.
    Where(&'static str),
}

/// A right with the statement that grants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The check of the precheck that says that it lacks.
    pub check: &'static str,
    /// What it lets the account do, as it follows "may".
    pub what: &'static str,
    /// What is so without it.
    pub without: &'static str,
    /// How much depends on it.
    pub need: Need,
    /// The statement, without its semicolon.
    pub statement: String,
}

/// The grants as a script that an administrator can read and run. What is needed only in some cases is commented out.
/// `frame` stands around the statements.
pub fn script(head: &[String], frame: (&str, &str), grants: &[Grant]) -> String {
    let mut text = String::new();
    for line in head {
        let _ = writeln!(text, "-- {line}");
    }
    text.push_str(frame.0);
    for grant in grants {
        let _ = match grant.need {
            Need::Always => writeln!(text, "\n-- To {}. Without it {}.", grant.what, grant.without),
            Need::Helpful => {
                writeln!(text, "\n-- Not necessary: to {}. Without it {}.", grant.what, grant.without)
            }
            Need::Where(condition) => {
                writeln!(text, "\n-- Only where {condition}: to {}. Without it {}.", grant.what, grant.without)
            }
        };
        let dashes = if matches!(grant.need, Need::Where(_)) { "-- " } else { "" };
        for line in grant.statement.lines() {
            let _ = writeln!(text, "{dashes}{line}");
        }
        // The semicolon ends the last line.
        text.pop();
        text.push_str(";\n");
    }
    text.push_str(frame.1);
    text
}
