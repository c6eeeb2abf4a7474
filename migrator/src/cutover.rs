//! THE state machine of a cutover: its states, its events, and the only way from one state to another.
//!
//! Pure: what a state does when it is entered is the conductor's, and every state is in the journal before its effect
//! starts. The record of [`Cutover::Switching`] is the point of no return: before it everything can be undone and is,
//! after it everything can only be finished. No step rests on a timer: a deadline leads to the undo, never to the switch.

mod names;
mod undo_reason;

use serde::{Deserialize, Serialize};

pub use names::Illegal;
pub use undo_reason::{Failure, UndoReason};

/// A unique record in the source's change stream, written behind the fence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker<P> {
    /// Where it is: a target that has applied it has everything before it.
    pub position: P,
    /// What makes it unique.
    pub token: String,
}

/// Where a cutover stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cutover<P> {
    /// Changes are followed; no cutover is under way.
    Following,
    /// The gate is closed; open transactions finish.
    Holding,
    /// The source is made to refuse writes, and the marker is written.
    Fencing,
    /// The target applies what came before the marker.
    CatchingUp {
        /// What must be durable on the target.
        marker: Marker<P>,
    },
    /// Counters are set, positions compared, the refusal made durable.
    Checking {
        /// What is durable on the target.
        marker: Marker<P>,
    },
    /// The decision is made: the route changes and the gate opens.
    Switching,
    /// The route is on the target.
    Switched,
    /// The fence is lifted and the gate opens; the route was not touched.
    Undoing {
        /// What led here.
        why: UndoReason,
    },
}

/// What can happen to a cutover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<P> {
    /// The operator asked, and the predicted pause fits.
    Requested,
    /// No transaction is open through the gate.
    Quiet,
    /// The source refuses writes and the marker is written.
    Fenced(Marker<P>),
    /// The marker is durable on the target.
    Covered,
    /// Both sides are equal at the marker, and the refusal is durable.
    Equal,
    /// Both sides are equal at the marker, and it was a rehearsal.
    Rehearsed,
    /// The route is on the target and the gate is open.
    Routed,
    /// The effect failed or did not end in time.
    Failed(Failure),
    /// The fence is gone and the gate is open.
    Undone,
}

impl<P> Cutover<P> {
    /// The only way from one state to another.
    pub fn next(self, event: Event<P>) -> Result<Self, Illegal> {
        use Cutover as S;
        use Event as E;
        Ok(match (self, event) {
            (S::Following, E::Requested) => S::Holding,
            (S::Holding, E::Quiet) => S::Fencing,
            (S::Fencing, E::Fenced(marker)) => S::CatchingUp { marker },
            (S::CatchingUp { marker }, E::Covered) => S::Checking { marker },
            (S::Checking { .. }, E::Equal) => S::Switching,
            (S::Checking { .. }, E::Rehearsed) => S::Undoing { why: UndoReason::Rehearsed },
            (S::Switching, E::Routed) => S::Switched,
            (S::Undoing { .. }, E::Undone) => S::Following,
            (S::Holding | S::Fencing | S::CatchingUp { .. } | S::Checking { .. }, E::Failed(failure)) => {
                S::Undoing { why: UndoReason::Failed(failure) }
            }
            (state, event) => {
                return Err(Illegal { state: state.name(), event: event.name() });
            }
        })
    }

    /// What a fresh process makes of the last journalled state.
    #[must_use]
    pub fn resumed(self) -> Self {
        match self {
            Self::Holding | Self::Fencing | Self::CatchingUp { .. } | Self::Checking { .. } => {
                Self::Undoing { why: UndoReason::Restarted }
            }
            settled @ (Self::Following | Self::Switching | Self::Switched | Self::Undoing { .. }) => settled,
        }
    }
}

#[cfg(test)]
mod tests;
