//! What an operator asks for: a migration's definition, and how a cutover of it may go about.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::leg::Leg;
use crate::model::plan::Settings;

/// A named plan to move a route from the cluster that serves it to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// The name that all statements use.
    pub name: String,
    /// The cluster that serves the route now.
    pub source: String,
    /// The cluster that shall serve it.
    pub target: String,
    /// The route that moves.
    pub route: String,
    /// How the migration goes about it.
    pub settings: Settings,
}

/// A name becomes part of a slot's name, where the shortest limit of the engines rules.
const NAME_BYTES_MAX: usize = 40;

impl Definition {
    /// Source and target as this leg has them.
    pub fn ends(&self, leg: Leg) -> (&str, &str) {
        if leg.is_way_back() { (&self.target, &self.source) } else { (&self.source, &self.target) }
    }

    /// Whether names are usable and the ends differ.
    pub(crate) fn validate(&self) -> Result<()> {
        let legal = |letter: char| matches!(letter, 'a'..='z' | '0'..='9' | '_');
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || !self.name.chars().all(legal) {
            return Err(Error::refused(format!("{:?} cannot name a migration", self.name))
                .remedy(format!("use 1 to {NAME_BYTES_MAX} lower-case letters, digits and underscores")));
        }
        if self.source == self.target {
            return Err(Error::refused(format!("source and target are both {}", self.source))
                .remedy("name two different clusters; SHOW CLUSTERS lists them"));
        }
        Ok(())
    }
}

/// How a cutover or a rehearsal may go about.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// No statement waits longer for the cutover; what does not fit is undone.
    pub max_hold: Duration,
    /// Switch without a passed check. The log and the report say so.
    pub waive_check: bool,
    /// Switch although nobody has seen that these accounts can log in on the target.
    pub waive_accounts: Vec<String>,
    /// Switch although sessions could not be opened on the target when it was tried.
    pub waive_sessions: bool,
    /// Switch only where the way back is armed. Without, nothing that is written after the switch comes back.
    pub way_back: bool,
    /// Switch only where the rows that changed since the check were found equal on both sides inside of the hold.
    pub proof_before: bool,
    /// How long that may take; as the migration's settings say where nothing is named.
    pub check_budget: Option<Duration>,
}

/// Below this not even an idle database gets through.
const MAX_HOLD_MIN: Duration = Duration::from_millis(50);
/// Longer than this is an outage, whatever the gate says.
const MAX_HOLD_MAX: Duration = Duration::from_mins(1);

impl Options {
    /// Whether the limits are within reason.
    pub(crate) fn validate(&self) -> Result<()> {
        if (MAX_HOLD_MIN..=MAX_HOLD_MAX).contains(&self.max_hold) {
            return Ok(());
        }
        Err(Error::refused(format!("a max_hold of {} ms is out of range", self.max_hold.as_millis()))
            .remedy("use a duration from 50ms to 60s, such as WITH (max_hold='2s')"))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_hold: Duration::from_secs(2),
            waive_check: false,
            waive_accounts: Vec::new(),
            waive_sessions: false,
            way_back: true,
            proof_before: false,
            check_budget: None,
        }
    }
}
