//! What is looked at under the barrier: that the definitions of both sides are still those that were proved, and that
//! nobody has a write open that the fence does not stop.

use std::time::Duration;

use mysql_async::Conn;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::Mysql;
use super::writers;
use crate::drift::unproved;
use crate::error::{Error, Result};
use crate::model::definitions::{Compared, Definitions, Fingerprint};
use crate::model::plan::Plan;
use crate::mysql::check::drift;
use crate::mysql::check::stamp::Stamp;
use crate::mysql::guard::Counts;

/// Reading all definitions of an enormous catalogue may take a while; a server that is silent for longer is lost.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Sessions that look at both sides at the same time, and what they saw before the hold.
pub struct UnderFence {
    stamp: Stamp,
    watching: Conn,
    before: Fingerprint,
    /// What is counted of others on the target.
    counts: Counts,
}

impl UnderFence {
    /// Looks before the hold. Refuses where the definitions are no longer `proved`, and names what changed.
    pub async fn open(mysql: &Mysql, proved: Option<&Fingerprint>) -> Result<Self> {
        let mut stamp = Stamp::open(mysql).await?;
        let watching = mysql.connect_source("look").await?;
        let before = stamp.read().await?;
        let counts = Counts::open(mysql).await?;
        if let Some(proved) = proved {
            let mut now = before.clone();
            now.add_target(&counts.before());
            refuse(proved, now)?;
        }
        Ok(Self { stamp, watching, before, counts })
    }

    /// Looks again inside the hold, on the source behind the marker: whoever passes the fence may change a definition
    /// before that, and what comes later is seen in the log.
    pub async fn again(
        mut self,
        mysql: &Mysql,
        plan: &Plan,
        tells_of_locks: bool,
        is_marked: oneshot::Receiver<()>,
    ) -> Result<()> {
        let looking = async {
            let before = self.counts.before();
            let (source, watching) = (&mut self.stamp.source, &mut self.watching);
            // Before that, Headgate's own marker is an open write.
            let on_source = async {
                is_marked.await.map_err(|_| {
                    Error::transient("the marker was not written, behind which the source is looked at")
                })?;
                tokio::try_join!(writers::refuse(mysql, watching, tells_of_locks), source.stands())
            };
            let (((), source_stands), target_stands, counted) =
                tokio::try_join!(on_source, self.stamp.target.stands(), self.counts.again())?;
            let stands = source_stands && target_stands;
            tracing::info!(
                migration = mysql.name(),
                by_counters = stands,
                "definitions are looked at under the barrier"
            );
            let of = |counted| Fingerprint::of(&Definitions::new(), counted);
            refuse(&of(&before), of(&counted))?;
            if stands {
                return Ok(());
            }
            let now = self.stamp.read().await?;
            if now == self.before {
                return Ok(());
            }
            drift::refuse(self.stamp.source(), mysql, plan).await?;
            refuse(&self.before, now)
        };
        timeout(TIMEOUT, looking)
            .await
            .unwrap_or_else(|_| Err(Error::transient("the servers did not show their definitions in time")))
    }
}

fn refuse(proved: &Fingerprint, now: Fingerprint) -> Result<()> {
    let now = Compared { fingerprint: now, differences: Vec::new() };
    unproved(proved, &now)
}
