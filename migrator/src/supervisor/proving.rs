//! The proof of a switch: opened with the cutover, made behind the application after it, shown, and asked for before the
//! way back is closed.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::migration::{Migration, RunningProof};
use crate::conductor::Conductor;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::model::definitions::Fingerprint;
use crate::model::switch_proof::{SwitchOutcome, SwitchProgress, SwitchProof, SwitchVerdict};
use crate::preflight::{Check, Level};

/// Definitions are read; only a server that is silent takes longer.
const PREPARE_TIMEOUT: Duration = Duration::from_mins(1);
/// A proof that is nearly done is waited for before a finish is refused for it.
const NEARLY_DONE: Duration = Duration::from_secs(5);
const RESTARTED: &str = "Headgate was restarted before both sides were compared as they were at the switch";
const NOTHING_KEPT: &str = "Headgate was restarted at the switch, and has no snapshots of it";

impl<D: Database> Migration<D> {
    /// Opens what the snapshots inside the hold need. `proved` are the definitions that the look inside the hold holds
    /// against both sides.
    pub(super) async fn prepare_proof(&self, conductor: &Conductor<D>, proved: Option<&Fingerprint>) -> Result<()> {
        let preparing = conductor.database.prepare_snapshots(&conductor.plan, proved);
        let prepared = timeout(PREPARE_TIMEOUT, preparing).await;
        let prepared =
            prepared.unwrap_or_else(|_| Err(Error::transient("the proof of the switch could not be prepared in time")));
        conductor.snapshots.prepare(prepared?);
        Ok(())
    }

    /// Begins to compare both sides as they were at the switch; it runs on behind the application.
    pub(super) async fn begin_proof(self: &Arc<Self>, conductor: &Conductor<D>, epoch: u64) {
        // That of the switch before has nothing more to say about where the route is now.
        self.stop_proof();
        if let Err(error) = self.journal.begin_switch_proof(self.name(), conductor.leg, epoch).await {
            tracing::error!(migration = self.name(), %error, "that the proof of the switch began was not journalled");
        }
        let Some(snapshots) = conductor.snapshots.take_opened() else {
            self.keep_proof(epoch, &SwitchVerdict::unknown(NOTHING_KEPT)).await;
            return;
        };
        let (progress, stop) = (Arc::<SwitchProgress>::default(), CancellationToken::new());
        let ended = CancellationToken::new();
        self.live().proof = Some(RunningProof {
            leg: conductor.leg,
            epoch,
            started: SystemTime::now(),
            progress: Arc::clone(&progress),
            stop: stop.clone(),
            ended: ended.clone(),
        });
        let (migration, database) = (Arc::clone(self), conductor.database.clone());
        tokio::spawn(async move {
            let rate = migration.definition.settings.proof_rate;
            let comparing = database.compare_snapshots(snapshots, rate, progress, stop.clone());
            let compared = AssertUnwindSafe(comparing).catch_unwind().await;
            let verdict = match compared {
                Ok(Ok(verdict)) => Some(verdict),
                // It was stopped: the journal says that it did not end.
                Ok(Err(_)) => None,
                Err(_) => Some(SwitchVerdict::unknown("the proof met a fault of its own; the log has it")),
            };
            if let Some(verdict) = verdict.filter(|_| !stop.is_cancelled()) {
                migration.keep_proof(epoch, &verdict).await;
            }
            {
                let mut live = migration.live();
                if live.proof.as_ref().is_some_and(|proof| proof.epoch == epoch) {
                    live.proof = None;
                }
            }
            ended.cancel();
        });
    }

    async fn keep_proof(&self, epoch: u64, verdict: &SwitchVerdict) {
        let name = self.name();
        match verdict.outcome {
            SwitchOutcome::Equal => tracing::info!(migration = name, epoch, %verdict, "the proof of the switch"),
            SwitchOutcome::Unknown => tracing::warn!(migration = name, epoch, %verdict, "the proof of the switch"),
            SwitchOutcome::Different => tracing::error!(migration = name, epoch, %verdict, "the proof of the switch"),
        }
        if let Err(error) = self.journal.end_switch_proof(name, epoch, verdict).await {
            tracing::error!(migration = name, %error, "the verdict of the proof of the switch was not journalled");
            self.live().note(Some(&error));
        }
    }

    /// Ends a proof that is under way, and its snapshots with it.
    pub(super) fn stop_proof(&self) {
        if let Some(proof) = self.live().proof.take() {
            proof.stop.cancel();
        }
    }

    /// How the proof of the last switch goes, or what it came to; nothing before the first switch.
    pub(super) fn switch_proof(&self) -> Result<Option<SwitchProof>> {
        let Some(over) = self.switched_leg() else {
            return Ok(None);
        };
        if let Some(proof) = self.live().proof.as_ref().filter(|proof| proof.leg == over) {
            return Ok(Some(SwitchProof {
                epoch: proof.epoch,
                started: Some(proof.started),
                finished: None,
                ranges_done: proof.progress.done(),
                ranges: proof.progress.ranges(),
                rows: proof.progress.rows(),
                verdict: None,
            }));
        }
        let kept = self.journal.switch_proof(self.name(), over)?;
        let mut proof = kept.unwrap_or_else(|| SwitchProof {
            verdict: Some(SwitchVerdict::unknown(NOTHING_KEPT)),
            ..SwitchProof::default()
        });
        proof.verdict.get_or_insert_with(|| SwitchVerdict::unknown(RESTARTED));
        Ok(Some(proof))
    }

    /// Refuses to close the way back before it is proved that both sides were equal at the switch.
    pub(super) async fn admit_finish(&self, waived: bool) -> Result<()> {
        let ended = self.live().proof.as_ref().map(|proof| proof.ended.clone());
        if let Some(ended) = ended.filter(|_| !waived) {
            let _late = timeout(NEARLY_DONE, ended.cancelled()).await;
        }
        let proof = self.switch_proof()?;
        let Some(proof) = proof.filter(|proof| !proof.is_green()) else {
            return Ok(());
        };
        let name = self.name();
        if waived {
            tracing::warn!(
                migration = name, %proof,
                "it is not proved that both sides were equal at the switch; the way back is closed at the operator's word"
            );
            return Ok(());
        }
        Err(Error::refused(format!("the switch of migration {name} is not proved: {proof}")).remedy(format!(
            "{}; or, at your own risk, FINISH MIGRATION {name} WITH (waive_proof=true)",
            self.proof_remedy(&proof)
        )))
    }

    fn proof_remedy(&self, proof: &SwitchProof) -> String {
        let name = self.name();
        match proof.verdict.as_ref().map(|verdict| verdict.outcome) {
            None => format!("wait until SHOW MIGRATION STATUS {name} shows its verdict"),
            Some(_) if self.leg().is_way_back() => format!(
                "look at what is named on both sides; CHECK MIGRATION {name} compares them as they are now, and ROLLBACK \
                 MIGRATION {name} goes back"
            ),
            Some(_) => format!("look at what is named on both sides, SHOW CUTOVER REPORT {name}"),
        }
    }

    /// The proof among what is left to do.
    pub(super) fn proof_step(&self) -> Result<Option<Check>> {
        const NAME: &str = "switch_proof";
        Ok(self.switch_proof()?.map(|proof| {
            let evidence = proof.to_string();
            let level = match proof.verdict.as_ref().map(|verdict| verdict.outcome) {
                Some(SwitchOutcome::Equal) => return Check::ok(NAME, evidence),
                Some(SwitchOutcome::Different) => Level::Error,
                Some(SwitchOutcome::Unknown) | None => Level::Warning,
            };
            Check::new(NAME, level, evidence, self.proof_remedy(&proof), "")
        }))
    }
}
