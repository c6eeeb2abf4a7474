//! The proof of a switch in the scripted world: its verdict is what the test says.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::World;
use crate::database::SwitchSnapshots;
use crate::error::{Error, Result};
use crate::model::definitions::Fingerprint;
use crate::model::plan::Plan;
use crate::model::switch_proof::{SwitchProgress, SwitchVerdict};

impl SwitchSnapshots for World {
    type Prepared = ();
    type Snapshots = ();

    async fn prepare_snapshots(&self, _: &Plan, _: Option<&Fingerprint>) -> Result<()> {
        self.act("prepare_snapshots", &[], |_| ()).await
    }

    async fn open_snapshots(&self, (): ()) -> Result<()> {
        self.act("open_snapshots", &["Checking"], |_| ()).await
    }

    async fn compare_snapshots(
        &self,
        (): (),
        _: u64,
        _: Arc<SwitchProgress>,
        stop: CancellationToken,
    ) -> Result<SwitchVerdict> {
        let verdict = self.facts.lock().switch_verdict.clone();
        if let Some(verdict) = verdict {
            return Ok(verdict);
        }
        stop.cancelled().await;
        Err(Error::refused("stopped"))
    }
}
