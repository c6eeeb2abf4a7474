//! Rows that changed since the last check are compared again while changes are followed, so that few are left to be proved
//! inside a hold that proves them before the switch.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::migration::Migration;
use crate::conductor::Conductor;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::model::definition::Options;
use crate::model::plan::Plan;
use crate::model::status::Verdict;
use crate::residue::proof_before::{ProofBefore, equal_now};

/// Keys of one statement.
const AT_ONCE: usize = 200;
/// A server that is silent for longer has something else to do.
const LOOK_TIMEOUT: Duration = Duration::from_secs(15);
const OPEN_TIMEOUT: Duration = Duration::from_mins(1);
/// How often it is looked whether something changed, and how long changes that are on their way are given.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Sessions that nobody needs for so long are closed.
const IDLE_MAX: Duration = Duration::from_mins(1);
/// Until the next attempt, where the servers did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The servers work for this at most every so many times as long.
const SHARE: u32 = 10;

impl<D: Database> Migration<D> {
    /// Compares again what changed, a few rows at a time.
    pub(super) async fn reverify(&self, database: &D, plan: &Plan) -> Infallible {
        let follow = self.follow();
        let rate = self.definition.settings.residue_rate;
        if rate == 0 {
            return std::future::pending().await;
        }
        let mut sessions = None;
        let mut needed = Instant::now();
        let mut reported = String::new();
        loop {
            let Some(changed) = follow.residue().take(AT_ONCE) else {
                if needed.elapsed() > IDLE_MAX {
                    sessions = None;
                }
                sleep(LOOK_EVERY).await;
                continue;
            };
            let begun = Instant::now();
            needed = begun;
            let looking = async {
                let opened = match sessions.take() {
                    Some(opened) => opened,
                    None => database.open_key_sessions(plan).await?,
                };
                let sessions = sessions.insert(opened);
                equal_now(database, sessions, &changed).await
            };
            let looked = timeout(LOOK_TIMEOUT, looking).await;
            let equal = match looked.unwrap_or_else(|_| Err(Error::transient("the servers did not answer in time"))) {
                Ok(equal) => equal,
                Err(error) => {
                    let trouble = error.full_text();
                    if trouble != reported {
                        tracing::warn!(migration = self.name(), %error, "changed rows cannot be compared again now");
                    }
                    reported = trouble;
                    sessions = None;
                    sleep(RETRY_AFTER).await;
                    continue;
                }
            };
            follow.residue().forget(&changed.table, &equal);
            let compared = u32::try_from(changed.keys.len()).unwrap_or(u32::MAX);
            let by_rate = Duration::from_secs(1) * compared / u32::try_from(rate).unwrap_or(u32::MAX);
            let by_share = begun.elapsed() * (SHARE - 1);
            let on_its_way = if equal.is_empty() { LOOK_EVERY } else { Duration::ZERO };
            sleep(by_rate.max(by_share).max(on_its_way)).await;
        }
    }

    /// Refuses where it is not known which rows are to be compared before the switch.
    pub(super) fn admit_proof_before(&self) -> Result<()> {
        let name = self.name();
        let verdict = self.journal.leg_check(name)?.map(|check| check.verdict);
        if verdict != Some(Verdict::Passed) {
            return Err(Error::refused(format!(
                "migration {name} cannot be proved before the switch: there is no passed check to begin with"
            ))
            .remedy(format!("CHECK MIGRATION {name}, and ask again soon after it")));
        }
        self.follow().residue().count().map(drop).map_err(|unknown| unknown.error(name))
    }

    /// Opens what compares, inside the hold, the rows that changed since the check.
    pub(super) async fn proof_before(&self, conductor: &Conductor<D>, options: &Options) -> Result<ProofBefore<D>> {
        let opening = timeout(OPEN_TIMEOUT, conductor.database.open_key_sessions(&conductor.plan)).await;
        let opened = opening.unwrap_or_else(|_| Err(Error::transient("the servers did not get ready in time")));
        let budget = options.check_budget.unwrap_or(self.definition.settings.check_budget);
        Ok(ProofBefore::new(opened?, conductor.follow.residue().clone(), budget))
    }
}
