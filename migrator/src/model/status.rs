//! What the operator sees of a migration, read from memory and journal without touching a database.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::model::switch_proof::SwitchProof;

/// Where a migration stands, in the order in which a user sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Defined; nothing was touched.
    Created,
    /// The precheck found no error; nothing was touched.
    Prechecked,
    /// Schema and rows are on their way.
    Copying,
    /// Changes are applied as they come.
    Following,
    /// A cutover or a rehearsal is under way, or is being undone.
    Cutover,
    /// The route is on the target.
    Switched,
    /// The route is on the target, and nothing of the migration is left on either side but the refusal.
    Finished,
    /// The route is back on the source, and nothing is followed any more.
    RolledBack,
    /// The operator stopped it; it goes on where it was with the next start.
    Stopped,
    /// It cannot go on until the operator acts; the error says why.
    Failed,
}

impl State {
    /// The state's name in every output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Prechecked => "prechecked",
            Self::Copying => "copying",
            Self::Following => "following",
            Self::Cutover => "cutover",
            Self::Switched => "switched",
            Self::Finished => "finished",
            Self::RolledBack => "rolledback",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

impl State {
    /// Whether the route was switched, and no forward leg runs.
    pub fn is_after_switch(self) -> bool {
        matches!(self, Self::Switched | Self::Finished | Self::RolledBack)
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// One line of the list of migrations.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The migration.
    pub name: String,
    /// The route that moves.
    pub route: String,
    /// The cluster it leaves.
    pub source: String,
    /// The cluster it goes to.
    pub target: String,
    /// Where it stands.
    pub state: State,
    /// Since when it stands there.
    pub since: SystemTime,
    /// Rows copied, of 100.
    pub percent: f64,
    /// How far the target is behind; `None` while not following.
    pub lag: Option<Duration>,
    /// What went wrong last, if it still matters.
    pub error: Option<String>,
}

/// Everything that is known about one migration without asking a database.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The migration.
    pub name: String,
    /// The route that moves.
    pub route: String,
    /// The cluster it leaves.
    pub source: String,
    /// The cluster it goes to.
    pub target: String,
    /// Where it stands.
    pub state: State,
    /// Since when it stands there.
    pub since: SystemTime,
    /// What it does within that state, such as `preparing`, `retrying in 4 s` or `Fencing`; empty where nothing runs.
    pub stage: String,
    /// Tables that move.
    pub tables: u64,
    /// Tables that are loaded and complete.
    pub tables_copied: u64,
    /// Rows loaded.
    pub rows_copied: u64,
    /// The catalogue's estimate of all rows.
    pub rows_estimated: u64,
    /// Bytes that went through the copy.
    pub bytes_copied: u64,
    /// Bytes of all tables on the source's disk.
    pub bytes_estimated: u64,
    /// Rows copied, of 100; 100 only once all is copied.
    pub percent: f64,
    /// Rows per second since this process began to copy; `None` while not copying.
    pub rows_per_second: Option<f64>,
    /// How long the copy still takes at that rate.
    pub eta: Option<Duration>,
    /// How far the target is behind, in time; `None` while not following.
    pub lag: Option<Duration>,
    /// How far the target is behind, in bytes of the stream.
    pub behind_bytes: Option<u64>,
    /// Transactions of the source applied since this process started.
    pub transactions_applied: u64,
    /// Everything before this position is durable on the target.
    pub applied_position: Option<String>,
    /// What went wrong last, if it still matters.
    pub error: Option<String>,
    /// What the operator can do about it.
    pub remedy: Option<String>,
    /// Since when nothing is copied or followed although it should be.
    pub interrupted: Option<SystemTime>,
    /// Whether going back loses anything.
    pub way_back: WayBack,
    /// The verdict of the last finished check; `None` before the first.
    pub check_passed: Option<bool>,
    /// Keys of rows that changed since that check, and were not found equal again; `None` where that is not known.
    pub unproved_keys: Option<u64>,
    /// The number of the last cutover or rehearsal; 0 before the first.
    pub epoch: u64,
    /// The proof that both sides were equal at the last switch; `None` before the first.
    pub switch_proof: Option<SwitchProof>,
}

/// How a check goes or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is under way.
    Running,
    /// Every range was equal on both sides.
    Passed,
    /// At least one range differs.
    Different,
    /// It could not be finished; nothing is proved either way.
    Broken,
}

impl Verdict {
    /// The verdict's name in every output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Passed => "passed",
            Self::Different => "different",
            Self::Broken => "broken",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// The running check, or the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckStatus {
    /// How it goes or went.
    pub verdict: Verdict,
    /// When it began.
    pub started: SystemTime,
    /// When it ended.
    pub finished: Option<SystemTime>,
    /// Ranges, as far as known.
    pub ranges: u64,
    /// Ranges found equal.
    pub ranges_equal: u64,
    /// Ranges that differ.
    pub ranges_different: u64,
    /// Rows of the source in all ranges; known once finished.
    pub rows: u64,
    /// The position at which the last range was read; known once finished.
    pub position: Option<String>,
    /// Where both sides differ: `table (range): key`, at most 100, never contents.
    pub differing: Vec<String>,
    /// Why it could not be finished.
    pub error: Option<String>,
    /// What takes anew the tables that differ.
    #[serde(default)]
    pub remedy: Option<String>,
}

/// Whether going back loses anything, as it is known at this moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum WayBack {
    /// There was no switch, or it is over.
    #[default]
    None,
    /// The switch was made without one.
    Waived,
    /// What is written on the cluster that serves comes back to the other.
    Lossless {
        /// When the switch was.
        since: SystemTime,
        /// How far the other cluster is behind; `None` before it is known.
        lag: Option<Duration>,
        /// What it costs the cluster that serves, in words.
        cost: String,
        /// What keeps it from going on at this moment. Nothing is lost: what was written is kept.
        interrupted: Option<String>,
    },
    /// What was written since is not on the other cluster, and will not come by itself.
    Lost {
        /// Since when.
        since: SystemTime,
        /// Why.
        why: String,
        /// What may mend it.
        remedy: String,
    },
}

impl WayBack {
    /// The name of the state in every output.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Waived => "waived",
            Self::Lossless { interrupted: None, .. } => "lossless",
            Self::Lossless { interrupted: Some(_), .. } => "interrupted",
            Self::Lost { .. } => "lost",
        }
    }
}

impl fmt::Display for WayBack {
    /// One line for people; nothing where there is nothing to say.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ago = |since: &SystemTime| since.elapsed().unwrap_or_default().as_secs();
        match self {
            Self::None => Ok(()),
            Self::Waived => {
                formatter.write_str("going back loses what was written since the switch: no way back was armed")
            }
            Self::Lossless { since, lag, cost, interrupted } => {
                write!(formatter, "going back is lossless for {} s", ago(since))?;
                match (interrupted, lag) {
                    (Some(why), _) => write!(formatter, "; interrupted, what is written is kept: {why}")?,
                    (None, Some(lag)) => write!(formatter, "; {} ms behind", lag.as_millis())?,
                    (None, None) => formatter.write_str("; the lag is not known yet")?,
                }
                if cost.is_empty() { Ok(()) } else { write!(formatter, "; {cost}") }
            }
            Self::Lost { since, why, remedy } => {
                write!(formatter, "going back is NOT lossless for {} s: {why}; {remedy}", ago(since))
            }
        }
    }
}
