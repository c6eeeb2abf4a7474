//! Why a cutover goes back.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a cutover goes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UndoReason {
    /// It was a rehearsal, and all went well.
    Rehearsed,
    /// The process ended in between.
    Restarted,
    /// A step failed or did not end in time.
    Failed(Failure),
}

impl fmt::Display for UndoReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rehearsed => formatter.write_str("it was a rehearsal"),
            Self::Restarted => formatter.write_str("the process ended before the decision"),
            Self::Failed(Failure { at, what, .. }) => write!(formatter, "{at} failed: {what}"),
        }
    }
}

/// A step that failed or did not end in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The state whose effect failed.
    pub at: String,
    /// What failed, with its numbers.
    pub what: String,
    /// What the operator can do.
    pub remedy: Option<String>,
}
