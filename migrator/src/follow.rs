//! What the follower tells and obeys: the applied position, the markers, the lag, and a place to pause at.

use std::time::Duration;

use std::sync::Arc;
use tokio::sync::watch;

use crate::database::Position;
use crate::error::{Error, Result};

/// How far the target is.
#[derive(Clone, Debug)]
pub struct Applied<P> {
    /// Everything before this position is durable on the target; `None` before the first word of the follower.
    pub position: Option<P>,
    /// How long ago the last applied heartbeat was written to the source.
    pub lag: Option<Duration>,
    /// How much of the stream lies between the source's end and the applied position, in bytes.
    pub behind_bytes: Option<u64>,
    /// The tokens of the newest markers that are durable on the target, the newest last; at most 16.
    pub markers: Vec<String>,
    /// The follower stands still at the position it was asked to pause at.
    pub paused: bool,
}

/// The shared handle between one follower and those who watch it. Clones share one state.
#[derive(Clone, Debug)]
pub struct Follow<P> {
    applied: Arc<watch::Sender<Applied<P>>>,
    pause_at: Arc<watch::Sender<Option<P>>>,
}

const MARKERS_MAX: usize = 16;

impl<P: Position> Default for Follow<P> {
    fn default() -> Self {
        let applied = Applied {
            position: None,
            lag: None,
            behind_bytes: None,
            markers: Vec::new(),
            paused: false,
        };
        Self {
            applied: Arc::new(watch::Sender::new(applied)),
            pause_at: Arc::new(watch::Sender::new(None)),
        }
    }
}

impl<P: Position> Follow<P> {
    /// The follower: `position` is durable on the target now, with the markers that came before it.
    pub fn advance(&self, position: P, markers: Vec<String>) {
        self.applied.send_modify(|applied| {
            applied.position = Some(position);
            applied.markers.extend(markers);
            let surplus = applied.markers.len().saturating_sub(MARKERS_MAX);
            applied.markers.drain(..surplus);
        });
    }

    /// The follower: how far behind it is.
    pub fn report_lag(&self, lag: Duration, behind_bytes: u64) {
        self.applied.send_modify(|applied| {
            applied.lag = Some(lag);
            applied.behind_bytes = Some(behind_bytes);
        });
    }

    /// The follower: whether it stands still at the position it was asked to pause at.
    pub fn report_paused(&self, paused: bool) {
        self.applied.send_if_modified(|applied| {
            let changed = applied.paused != paused;
            applied.paused = paused;
            changed
        });
    }

    /// The follower: where to pause, if anywhere. Nothing at or after that position may be applied while it is set,
    /// and everything before it must be, before [`Follow::report_paused`] is called.
    pub fn pause_orders(&self) -> watch::Receiver<Option<P>> {
        self.pause_at.subscribe()
    }

    /// How far the target is now.
    pub fn applied(&self) -> Applied<P> {
        self.applied.borrow().clone()
    }

    /// Resolves with how far the target is, once the follower has told it for the first time. Cancel safe.
    pub async fn wait_begun(&self, patience: Duration) -> Result<Option<P>> {
        let begun = |applied: &Applied<P>| applied.position.is_some();
        self.wait(begun, patience, "the follower did not begin")
            .await?;
        Ok(self.applied().position)
    }

    /// Resolves when `position` is applied. Cancel safe.
    pub async fn wait_covers(&self, position: &P, patience: Duration) -> Result<()> {
        let reached = |applied: &Applied<P>| {
            applied
                .position
                .as_ref()
                .is_some_and(|at| at.covers(position))
        };
        self.wait(
            reached,
            patience,
            &format!("the target did not reach {position}"),
        )
        .await
    }

    /// Resolves when the marker with `token` is durable on the target. Cancel safe.
    pub async fn wait_marker(&self, token: &str, patience: Duration) -> Result<()> {
        let reached = |applied: &Applied<P>| applied.markers.iter().any(|seen| seen == token);
        self.wait(reached, patience, "the target did not apply the marker")
            .await
    }

    /// Asks the follower to stand still exactly before the first transaction at or after `position`, and resolves
    /// when it does. The pause lasts until [`Follow::resume`].
    pub async fn pause_at(&self, position: P, patience: Duration) -> Result<()> {
        self.pause_at.send_replace(Some(position));
        let paused = self
            .wait(
                |applied| applied.paused,
                patience,
                "the follower did not pause",
            )
            .await;
        if paused.is_err() {
            self.resume();
        }
        paused
    }

    /// Lets a paused follower go on.
    pub fn resume(&self) {
        self.pause_at.send_replace(None);
    }

    async fn wait(
        &self,
        reached: impl Fn(&Applied<P>) -> bool,
        patience: Duration,
        otherwise: &str,
    ) -> Result<()> {
        let mut watching = self.applied.subscribe();
        let outcome =
            tokio::time::timeout(patience, watching.wait_for(|applied| reached(applied))).await;
        match outcome {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::transient("the follower is gone")),
            Err(_) => Err(Error::transient(format!(
                "{otherwise} within {} ms",
                patience.as_millis()
            ))
            .remedy("look at the lag in SHOW MIGRATION STATUS; try again when it is small")),
        }
    }
}
