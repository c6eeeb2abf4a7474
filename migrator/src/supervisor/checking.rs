//! A check of both sides, run behind the statement that asked for it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::migration::{Busy, Migration, RunningCheck};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::model::proof::{Checked, Proof};
use crate::model::status::{CheckStatus, State, Verdict, WayBack};

/// Keys that are shown of all that differ.
const DIFFERING_MAX: usize = 100;
/// How long making what accounts lack on the target may take before a check.
const ACCOUNTS_TIMEOUT: Duration = Duration::from_secs(30);

impl<D: Database> Migration<D> {
    /// Begins a check; it runs on when the caller goes away.
    pub(super) fn begin_check(self: &Arc<Self>) -> Result<()> {
        let busy = self.occupy("a check")?;
        self.following("be checked")?;
        self.uninterrupted()?;
        self.database()?;
        let stop = CancellationToken::new();
        let started = SystemTime::now();
        self.live().check = Some(RunningCheck { stop: stop.clone(), started });
        self.progress.tables().keys().for_each(|table| {
            self.progress.update(table, |numbers| {
                (numbers.ranges, numbers.ranges_equal, numbers.ranges_different) = (0, 0, 0);
            });
        });
        tokio::spawn(Arc::clone(self).run_check(stop, started, busy));
        Ok(())
    }

    /// Refuses unless it follows changes.
    pub(super) fn following(&self, wanted: &str) -> Result<()> {
        let (state, comes_back) = {
            let live = self.live();
            (live.state, matches!(live.way_back, WayBack::Lossless { .. }))
        };
        let name = self.name();
        let remedy = match state {
            State::Following => return Ok(()),
            State::Switched if comes_back => return Ok(()),
            State::Switched if self.leg().is_way_back() => {
                format!("SHOW MIGRATION STATUS {name} tells what interrupts the way back")
            }
            State::Created | State::Prechecked | State::Stopped | State::Failed => {
                format!("START MIGRATION {name}, and wait until it follows")
            }
            State::Copying => format!("wait until SHOW MIGRATION STATUS {name} says following"),
            State::Cutover => format!("wait for the end; SHOW CUTOVER REPORT {name}"),
            State::Switched | State::Finished | State::RolledBack => format!("look at SHOW CUTOVER REPORT {name}"),
        };
        Err(Error::refused(format!("migration {name} is {state} and cannot {wanted} now")).remedy(remedy))
    }

    async fn run_check(self: Arc<Self>, stop: CancellationToken, started: SystemTime, busy: Busy) {
        let residue = self.follow().residue().clone();
        let began = residue.check_begins(self.definition.settings.residue_keys);
        let checked = AssertUnwindSafe(self.compare(stop.clone())).catch_unwind().await;
        // A check that fell asleep in its pause would stop the follower for good.
        self.follow().resume();
        let outcome = checked.unwrap_or_else(|_| Err(Error::fatal("the check met a fault of its own; the log has it")));
        if !stop.is_cancelled() && self.keep_check(started, outcome).await == Verdict::Passed {
            residue.check_passed(began);
        }
        self.live().check = None;
        drop(busy);
    }

    async fn compare(&self, stop: CancellationToken) -> Result<Checked> {
        let plan = self.live().plan.clone();
        let plan = plan.ok_or_else(|| Error::fatal("there is no plan to check by"))?;
        // Made later, what an account lacks would be a change since the check. Whoever cannot log in then is named elsewhere.
        let ready = timeout(ACCOUNTS_TIMEOUT, self.database()?.ready_accounts()).await;
        match ready.unwrap_or_else(|_| Err(Error::transient("the servers did not answer in time"))) {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(migration = self.name(), %error, "what accounts lack on the target was not made before the check");
            }
        }
        let (follow, progress) = (self.follow(), Arc::clone(&self.progress));
        self.database()?.check(&plan, follow, progress, stop).await
    }

    async fn keep_check(&self, started: SystemTime, outcome: Result<Checked>) -> Verdict {
        let (status, checked) = match outcome {
            Ok(checked) => (summed_up(started, &checked.proofs), checked),
            Err(error) => {
                let broken =
                    CheckStatus { verdict: Verdict::Broken, error: Some(error.to_string()), ..summed_up(started, &[]) };
                (broken, Checked::default())
            }
        };
        tracing::info!(
            migration = self.name(),
            verdict = status.verdict.name(),
            ranges = status.ranges,
            different = status.ranges_different,
            rows = status.rows,
            error = status.error,
            "check ended"
        );
        if let Err(error) = self.journal.set_check(self.name(), &status, &checked).await {
            tracing::error!(migration = self.name(), %error, "the check's verdict was not journalled");
            self.live().note(Some(&error));
            return Verdict::Broken;
        }
        status.verdict
    }
}

fn summed_up(started: SystemTime, proofs: &[Proof]) -> CheckStatus {
    let equal = proofs.iter().filter(|proof| proof.equal()).count();
    let differing = proofs.iter().filter(|proof| !proof.equal()).flat_map(|proof| {
        let place = format!("{} ({})", proof.table, proof.range);
        let keys = proof.differing_keys.iter().map(|key| format!("{place}: {key}"));
        if proof.differing_keys.is_empty() { vec![place.clone()] } else { keys.collect() }
    });
    CheckStatus {
        verdict: if equal == proofs.len() { Verdict::Passed } else { Verdict::Different },
        started,
        finished: Some(SystemTime::now()),
        ranges: proofs.len() as u64,
        ranges_equal: equal as u64,
        ranges_different: (proofs.len() - equal) as u64,
        rows: proofs.iter().map(|proof| proof.source_rows).sum(),
        position: proofs.last().map(|proof| proof.position.clone()),
        differing: differing.take(DIFFERING_MAX).collect(),
        error: None,
        remedy: None,
    }
}
