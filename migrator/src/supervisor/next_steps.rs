//! What is left to do after a switch, and the one line that says whether a migration is ready to be cut over.

use super::migration::Migration;
use crate::database::Database;
use crate::error::Result;
use crate::model::status::{State, WayBack};
use crate::preflight::{Check, Level};

/// The name of the line that sums up.
const READY: &str = "ready";

impl<D: Database> Migration<D> {
    /// What is left to do after the switch, in the order in which it is done.
    pub(super) fn next_steps(&self) -> Result<Vec<Check>> {
        let definition = &self.definition;
        let (name, route) = (&definition.name, &definition.route);
        let (source, target) = definition.ends(self.switched_leg().unwrap_or_default());
        let step = |name: &str, evidence: String, remedy: String, fix: String| {
            Check::new(name, Level::Warning, evidence, remedy, fix)
        };
        let status = self.status();
        let (finished, way_back) = (status.state == State::Finished, status.way_back);
        let moving = self.traffic.handovers(route)?;
        let sessions = if moving.pending == 0 {
            Check::ok("sessions", format!("no session of route {route} is left on {source}"))
        } else {
            step(
                "sessions",
                format!("{} sessions of route {route} are still on {source}", moving.pending),
                "they move with their next statement; SHOW SESSIONS lists them".to_owned(),
                String::new(),
            )
        };
        let proof = self.proof_step()?;
        let steps = vec![
            sessions,
            step(
                "configuration",
                format!("the journal overrules the configuration for route {route}: it leads to {target}"),
                format!("write cluster = \"{target}\" into [routes.{route}], so that it holds without this journal"),
                String::new(),
            ),
            step(
                "statistics",
                format!("{target} was filled by a copy; its materialized views and statistics are as old as that"),
                "refresh materialized views that must be new, and look at the slow queries of the first hour"
                    .to_owned(),
                String::new(),
            ),
            match way_back {
                WayBack::Lossless { interrupted: None, .. } => step(
                    "way_back",
                    way_back.to_string(),
                    format!(
                        "ROLLBACK MIGRATION {name} goes back to {source}; once {target} is trusted, finish the migration: it \
                         closes the way back and removes what Headgate left on both sides"
                    ),
                    format!("FINISH MIGRATION {name}"),
                ),
                WayBack::Lossless { interrupted: Some(_), .. } => step(
                    "way_back",
                    way_back.to_string(),
                    "mend what interrupts it: it goes on by itself".to_owned(),
                    String::new(),
                ),
                WayBack::Lost { ref remedy, .. } => {
                    Check::new("way_back", Level::Error, way_back.to_string(), remedy.clone(), "")
                }
                WayBack::Waived if !finished => step(
                    "way_back",
                    way_back.to_string(),
                    format!(
                        "once {target} is trusted, finish the migration: it removes what Headgate left on both sides"
                    ),
                    format!("FINISH MIGRATION {name}"),
                ),
                WayBack::None | WayBack::Waived => Check::ok(
                    "way_back",
                    format!("it is closed: neither {source} nor {target} keeps anything for this migration"),
                ),
            },
            step(
                "decommissioning",
                format!("{source} refuses writes to what has moved, and answers reads; it may not refuse new objects"),
                format!("keep a backup of {source}, look that nobody reads there any more, and shut it down"),
                String::new(),
            ),
        ];
        Ok(proof.into_iter().chain(steps).collect())
    }
}

/// The first line: READY, or NOT READY and why.
pub(super) fn summed_up(name: &str, state: State, checks: &[Check]) -> Check {
    if state.is_after_switch() {
        return Check::ok(READY, "SWITCHED: the lines below are what is left to do");
    }
    let errors: Vec<&Check> = checks.iter().filter(|check| check.level == Level::Error).collect();
    let Some(first) = errors.first() else {
        return Check::ok(READY, format!("READY: CUTOVER MIGRATION {name}"));
    };
    let more = match errors.len() {
        1 => String::new(),
        count => format!("; and {} more", count - 1),
    };
    Check::new(
        READY,
        Level::Error,
        format!("NOT READY: {}: {}{more}", first.name, first.evidence),
        first.remedy.clone(),
        first.fix.clone(),
    )
}
