//! What is looked at under the barrier: that the definitions of both sides are still those that were proved, and that
//! nobody has a write open that the fence does not stop.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::Postgres;
use super::writers;
use super::writers::Watch;
use crate::drift::unproved;
use crate::error::{Error, Result};
use crate::model::definitions::Fingerprint;
use crate::model::plan::Plan;
use crate::postgres::check::stamp::Stamp;
use crate::postgres::check::{definitions, drift};

/// Reading all definitions takes longer than any hold; a server that is silent for longer is lost.
const TIMEOUT: Duration = Duration::from_mins(1);
/// How often the sessions look before the look that counts.
const READ_BEFORE: u32 = 3;

/// Sessions that look at both sides at the same time, and what they saw before the hold.
pub struct UnderFence {
    stamp: Stamp,
    watch: Watch,
    before: String,
    fingerprint: Fingerprint,
}

impl UnderFence {
    /// Looks before the hold. Refuses where the definitions are no longer `proved`, and names what changed.
    pub async fn open(postgres: &Postgres, proved: Option<&Fingerprint>) -> Result<Self> {
        let stamp = Stamp::open(postgres).await?;
        let watch = Watch::open(postgres.connect_source("look").await?).await?;
        // A server reads faster what the session has read before.
        for _ in 0..READ_BEFORE {
            stamp.read().await?;
        }
        // The stamp first: what changes while the definitions are read is seen by the next look.
        let before = stamp.read().await?;
        let now = definitions::compare(postgres).await?;
        if let Some(proved) = proved {
            unproved(proved, &now)?;
        }
        Ok(Self { stamp, watch, before, fingerprint: now.fingerprint })
    }

    /// Looks again inside the hold, at the source once its tables are `locked`: what changed before is seen then, and what
    /// comes later waits for the locks. What is the same as before is known by its stamp alone.
    pub async fn again(&self, postgres: &Postgres, plan: &Plan, locked: oneshot::Receiver<()>) -> Result<()> {
        let looking = async {
            let at_source = async {
                locked
                    .await
                    .map_err(|_| Error::transient("the tables were not locked under which the source is looked at"))?;
                tokio::try_join!(self.stamp.of_source(), writers::refuse(postgres, &self.watch))
            };
            let ((of_source, ()), of_target) = tokio::try_join!(at_source, self.stamp.of_target())?;
            if Stamp::of_both(&of_source, &of_target) == self.before {
                return Ok(());
            }
            drift::refuse(self.stamp.source(), postgres, plan).await?;
            unproved(&self.fingerprint, &definitions::compare(postgres).await?)
        };
        timeout(TIMEOUT, looking)
            .await
            .unwrap_or_else(|_| Err(Error::transient("the servers did not show their definitions in time")))
    }
}
