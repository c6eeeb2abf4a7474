//! Why a cutover goes back.

use serde::{Deserialize, Serialize};

/// Why a cutover goes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setback {
    /// It was a rehearsal, and all went well.
    Rehearsed,
    /// The process ended in between.
    Restarted,
    /// A step failed or did not end in time.
    Failed(Failure),
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
