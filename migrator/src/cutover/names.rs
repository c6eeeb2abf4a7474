//! What states and events are called in journal, logs and reports, and the refusal of a pair that does not fit.

use std::fmt;

use super::{Cutover, Event};

/// An event that its state does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Illegal {
    pub(super) state: &'static str,
    pub(super) event: &'static str,
}

impl<P> Cutover<P> {
    /// The state's name in journal, logs and reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Following => "Following",
            Self::Holding => "Holding",
            Self::Fencing => "Fencing",
            Self::CatchingUp { .. } => "CatchingUp",
            Self::Checking { .. } => "Checking",
            Self::Switching => "Switching",
            Self::Switched => "Switched",
            Self::Undoing { .. } => "Undoing",
        }
    }
}

impl<P> Event<P> {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Requested => "Requested",
            Self::Quiet => "Quiet",
            Self::Fenced(_) => "Fenced",
            Self::Covered => "Covered",
            Self::Equal => "Equal",
            Self::Rehearsed => "Rehearsed",
            Self::Routed => "Routed",
            Self::Failed(_) => "Failed",
            Self::Undone => "Undone",
        }
    }
}

impl fmt::Display for Illegal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the cutover does not know {} in {}", self.event, self.state)
    }
}

impl std::error::Error for Illegal {}
