//! The cutover report: what was done, how long it took, what the clients felt, and what was proved.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::model::leg::Leg;
use crate::model::switch_proof::SwitchProof;
use crate::traffic::{Handovers, Holds};

/// Whether it was meant to switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The real gate, fence, marker and checks, then open again on the source.
    Rehearsal,
    /// Meant to switch, away from the source.
    Cutover,
    /// Meant to switch, back to the source.
    Rollback,
}

impl Kind {
    /// The kind's name in every output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rehearsal => "rehearsal",
            Self::Cutover => "cutover",
            Self::Rollback => "rollback",
        }
    }
}

impl Kind {
    /// The word that begins its statement.
    pub fn statement(self) -> &'static str {
        match self {
            Self::Rehearsal => "REHEARSE",
            Self::Cutover => "CUTOVER",
            Self::Rollback => "ROLLBACK",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The route is on the target.
    Switched,
    /// All steps went well, and the source goes on serving, as asked.
    Rehearsed,
    /// It did not go through; the source goes on serving.
    Undone {
        /// The state of the cutover in which it failed.
        at: String,
        /// Why.
        why: String,
        /// What the operator can do.
        remedy: Option<String>,
    },
}

impl Outcome {
    /// The outcome's name in every output.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Switched => "switched",
            Self::Rehearsed => "rehearsed",
            Self::Undone { .. } => "undone",
        }
    }
}

/// The hold, split by step; a step that was not reached is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps {
    /// From closing the gate until no transaction was open.
    pub gate: Duration,
    /// Until the source refused writes and the marker was written.
    pub fence: Duration,
    /// Until the marker was durable on the target.
    pub catch_up: Duration,
    /// Until counters were set and positions compared.
    pub check: Duration,
    /// Until the refusal was durable.
    pub seal: Duration,
    /// Until the decision was in the journal, the route changed and the gate open.
    pub switch: Duration,
    /// Until fence and gate were open again; zero after a switch.
    pub undo: Duration,
}

/// What was known to be equal, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proved {
    /// Ranges that the last check found equal.
    pub ranges: u64,
    /// Rows in these ranges.
    pub rows: u64,
    /// The position at which the last of them was read; `None` where no check passed.
    pub position: Option<String>,
    /// When that check ended.
    pub finished: Option<SystemTime>,
    /// Counters that were set past the source's.
    pub counters: u64,
}

/// What had changed since the last check, and was compared inside the hold, before the decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residual {
    /// Keys whose rows were compared, and found equal.
    pub keys: u64,
    /// How long that took.
    pub took: Duration,
}

/// The report of one cutover or rehearsal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutoverReport {
    /// The migration.
    pub migration: String,
    /// The route.
    pub route: String,
    /// The cluster it was on.
    pub source: String,
    /// The cluster it was meant for.
    pub target: String,
    /// Which leg of the migration it ended.
    #[serde(default)]
    pub leg: Leg,
    /// Rehearsal, cutover or rollback.
    pub kind: Kind,
    /// Its number, unique and growing within the journal.
    pub epoch: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// When the gate was closed.
    pub started: SystemTime,
    /// The limit that was asked for.
    pub max_hold: Duration,
    /// From closing the gate until it was open again.
    pub hold: Duration,
    /// The same, split by step.
    pub steps: Steps,
    /// What the held statements went through.
    pub holds: Holds,
    /// What became of the sessions; zero unless it switched.
    pub handovers: Handovers,
    /// The marker's position, where one was written.
    pub marker: Option<String>,
    /// What was known to be equal.
    pub proved: Proved,
    /// It was done without a passed check, on the operator's word.
    pub check_waived: bool,
    /// What was compared before the decision; `None` where that was not asked for, or did not come to its end.
    #[serde(default)]
    pub residual: Option<Residual>,
    /// The proof that both sides were equal at the switch, as it stands when the report is shown.
    #[serde(skip)]
    pub switch_proof: Option<SwitchProof>,
}

impl CutoverReport {
    /// What clients saw go wrong: held statements that were refused, and sessions that were closed.
    pub fn errors(&self) -> u64 {
        self.handovers.closed.values().fold(self.holds.refused, |sum, count| sum.saturating_add(*count))
    }
}
