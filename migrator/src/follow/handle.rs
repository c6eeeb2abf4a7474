//! What the follower tells and obeys: the applied position, the markers, the lag, and a place to pause at.

use std::time::Duration;

use std::sync::Arc;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{Error, Result};
use crate::model::position::Position;
use crate::residue::Residue;

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
    /// Since when the follower is interrupted, and by what.
    pub interrupted: Option<(Instant, String)>,
    /// When the lag was last told.
    reported: Option<Instant>,
    /// When the position was last told.
    advanced: Option<Instant>,
}

impl<P> Applied<P> {
    /// For how long nothing was heard of the source or nothing was applied, beyond what is usual.
    pub fn silence(&self) -> Option<Duration> {
        let stands = self.advanced.map(|advanced| advanced.elapsed());
        let behind = self.lag.is_some_and(|lag| lag > STANDS_AFTER);
        let stalled = stands.filter(|stands| behind && *stands > STANDS_AFTER);
        self.unheard().max(stalled)
    }

    /// For how long nothing was heard of the follower, beyond what is usual between two heartbeats.
    fn unheard(&self) -> Option<Duration> {
        let silent = self.reported?.elapsed();
        (silent > BEATS_WITHIN).then_some(silent)
    }

    /// What was told last, grown by the time since: a lag that stands still is none.
    fn grown(mut self) -> Self {
        if let Some(silent) = self.unheard() {
            self.lag = self.lag.map(|lag| lag.saturating_add(silent));
        }
        self
    }
}

/// The shared handle between one follower and those who watch it. Clones share one state.
#[derive(Clone, Debug)]
pub struct Follow<P> {
    applied: Arc<watch::Sender<Applied<P>>>,
    pause_at: Arc<watch::Sender<Option<P>>>,
    /// Whether no follower may begin any more; held while one does.
    closed: Arc<Mutex<bool>>,
    /// What it has changed since the last check.
    residue: Residue,
}

const MARKERS_MAX: usize = 16;
/// Heartbeats come every second at most; one may be late.
const BEATS_WITHIN: Duration = Duration::from_secs(3);
/// A target that is behind and takes nothing for that long stands still.
const STANDS_AFTER: Duration = Duration::from_secs(5);
/// A follower that is interrupted for that long is not waited for.
const INTERRUPTED_MAX: Duration = Duration::from_secs(3);

impl<P: Position> Default for Follow<P> {
    fn default() -> Self {
        let applied = Applied {
            position: None,
            lag: None,
            behind_bytes: None,
            markers: Vec::new(),
            paused: false,
            interrupted: None,
            reported: None,
            advanced: None,
        };
        Self {
            applied: Arc::new(watch::Sender::new(applied)),
            pause_at: Arc::new(watch::Sender::new(None)),
            closed: Arc::default(),
            residue: Residue::default(),
        }
    }
}

impl<P: Position> Follow<P> {
    /// The follower: `position` is durable on the target now, with the markers that came before it.
    pub fn advance(&self, position: P, markers: Vec<String>) {
        self.applied.send_modify(|applied| {
            applied.position = Some(position);
            applied.advanced = Some(Instant::now());
            applied.markers.extend(markers);
            let surplus = applied.markers.len().saturating_sub(MARKERS_MAX);
            applied.markers.drain(..surplus);
        });
    }

    /// The follower: kept for as long as it prepares the target (keeps others from writing, takes triggers out of the way).
    /// Refused from [`Follow::close`] on: the target is about to serve, or does.
    pub(crate) async fn begin(&self) -> Result<OwnedMutexGuard<bool>> {
        let closed = Arc::clone(&self.closed).lock_owned().await;
        if *closed {
            return Err(Error::transient("no follower may begin while a cutover is under way, or after its switch"));
        }
        Ok(closed)
    }

    /// No follower may begin any more; one that does is waited for. What runs goes on.
    pub(crate) async fn close(&self, limit: Duration) -> Result<()> {
        match timeout(limit, self.closed.lock()).await {
            Ok(mut closed) => {
                *closed = true;
                Ok(())
            }
            Err(_) => Err(Error::transient("the follower is just beginning again").remedy("try again when it follows")),
        }
    }

    /// One may begin again.
    pub(crate) async fn reopen(&self) {
        *self.closed.lock().await = false;
    }

    /// What was changed on the target since the last check.
    pub(crate) fn residue(&self) -> &Residue {
        &self.residue
    }

    /// The follower: how far behind it is.
    pub fn report_lag(&self, lag: Duration, behind_bytes: u64) {
        self.applied.send_modify(|applied| {
            applied.lag = Some(lag);
            applied.reported = Some(Instant::now());
            applied.interrupted = None;
            applied.behind_bytes = Some(behind_bytes);
        });
    }

    /// The follower ended with a failure and is to begin again; this holds until it tells its lag again.
    pub fn report_interrupted(&self, why: &str) {
        self.applied.send_modify(|applied| {
            let since = match applied.interrupted.take() {
                Some((since, _)) => since,
                None => Instant::now(),
            };
            applied.interrupted = Some((since, why.to_owned()));
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
        self.applied.borrow().clone().grown()
    }

    /// Resolves with how far the target is, once the follower has told it for the first time. Cancel safe.
    pub async fn wait_begun(&self, limit: Duration) -> Result<Option<P>> {
        let begun = |applied: &Applied<P>| applied.position.is_some();
        self.wait(begun, limit, "the follower did not begin").await?;
        Ok(self.applied().position)
    }

    /// Resolves when `position` is applied. Cancel safe.
    pub async fn wait_covers(&self, position: &P, limit: Duration) -> Result<()> {
        let reached = |applied: &Applied<P>| applied.position.as_ref().is_some_and(|at| at.covers(position));
        self.wait(reached, limit, &format!("the target did not reach {position}")).await
    }

    /// Resolves when the marker with `token` is durable on the target. Cancel safe.
    pub async fn wait_marker(&self, token: &str, limit: Duration) -> Result<()> {
        let reached = |applied: &Applied<P>| applied.markers.iter().any(|seen| seen == token);
        self.wait(reached, limit, "the target did not apply the marker").await
    }

    /// Asks the follower to stand still exactly before the first transaction at or after `position`, and resolves
    /// when it does. The pause lasts until [`Follow::resume`].
    pub async fn pause_at(&self, position: P, limit: Duration) -> Result<()> {
        self.pause_at.send_replace(Some(position));
        let paused = self.wait(|applied| applied.paused, limit, "the follower did not pause").await;
        if paused.is_err() {
            self.resume();
        }
        paused
    }

    /// Lets a paused follower go on.
    pub fn resume(&self) {
        self.pause_at.send_replace(None);
    }

    /// Whether the follower stands still exactly at `position`.
    fn stands_at(&self, position: &P) -> bool {
        let applied = self.applied();
        applied.paused && applied.position.is_some_and(|at| at.covers(position) && position.covers(&at))
    }

    async fn wait(&self, reached: impl Fn(&Applied<P>) -> bool, limit: Duration, otherwise: &str) -> Result<()> {
        let mut watching = self.applied.subscribe();
        let waiting = timeout(limit, watching.wait_for(|applied| reached(applied)));
        let outcome = tokio::select! {
            biased;
            outcome = waiting => outcome,
            why = self.given_up() => {
                return Err(Error::transient(format!("{otherwise}: it is interrupted: {why}"))
                    .remedy("mend what interrupts the follower; it goes on by itself"));
            }
        };
        match outcome {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::transient("the follower is gone")),
            Err(_) => Err(Error::transient(format!("{otherwise} within {} ms", limit.as_millis()))
                .remedy("look at the lag in SHOW MIGRATION STATUS; try again when it is small")),
        }
    }

    /// Resolves with the reason once the follower is interrupted for too long.
    async fn given_up(&self) -> String {
        let mut watching = self.applied.subscribe();
        loop {
            let met = watching.borrow_and_update().interrupted.clone();
            let changed = watching.changed();
            match met {
                Some((since, why)) => tokio::select! {
                    () = sleep_until(since + INTERRUPTED_MAX) => return why,
                    Ok(()) = changed => {}
                },
                None => {
                    if changed.await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }
}

/// How long the follower may take to stand still, and to reach a position.
const PAUSE_TIMEOUT: Duration = Duration::from_mins(1);

/// A pause of the follower. It goes on when this is dropped.
pub(crate) struct Pause<P: Position>(Follow<P>);

impl<P: Position> Drop for Pause<P> {
    fn drop(&mut self) {
        self.0.resume();
    }
}

impl<P: Position> Pause<P> {
    /// Lets the follower stand still at once: else it would be past a position before that is known. `before` makes of
    /// the applied position one that nothing still to come is before.
    pub(crate) async fn begin(follow: &Follow<P>, before: impl FnOnce(P) -> P) -> Result<Self> {
        let pause = Self(follow.clone());
        if let Some(at) = follow.wait_begun(PAUSE_TIMEOUT).await? {
            follow.pause_at(before(at), PAUSE_TIMEOUT).await?;
        }
        Ok(pause)
    }

    /// Lets the follower go on, and stand still exactly at `position`.
    pub(crate) async fn go_on_to(&self, position: &P) -> Result<()> {
        self.0.pause_at(position.clone(), PAUSE_TIMEOUT).await?;
        self.0.wait_covers(position, PAUSE_TIMEOUT).await?;
        self.holds_at(position)
    }

    /// Refuses where the follower does not stand still at `position`, as after it was started again meanwhile.
    pub(crate) fn holds_at(&self, position: &P) -> Result<()> {
        if self.0.stands_at(position) {
            return Ok(());
        }
        Err(Error::transient(format!("the follower does not stand still at {position}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conductor::scripted::Place;
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn a_lag_grows_while_nothing_is_heard_and_shrinks_with_the_next_word() {
        let follow = Follow::<Place>::default();
        follow.report_lag(Duration::from_millis(2), 10);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(follow.applied().lag, Some(Duration::from_millis(2)));
        sleep(Duration::from_secs(59)).await;
        let lag = follow.applied().lag.expect("known");
        assert!(lag >= Duration::from_mins(1), "{lag:?}");
        follow.report_lag(Duration::from_millis(3), 10);
        assert_eq!(follow.applied().lag, Some(Duration::from_millis(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_that_stays_interrupted_is_not_waited_for_and_one_that_comes_back_is() {
        let follow = Follow::<Place>::default();
        let begun = Instant::now();
        follow.report_interrupted("the source is gone");
        let waited = follow.wait_covers(&Place(5), Duration::from_mins(1)).await;
        let reported = waited.expect_err("nobody follows").to_string();
        assert!(reported.contains("the source is gone"), "{reported}");
        assert!(begun.elapsed() <= Duration::from_secs(4));

        let there = follow.clone();
        tokio::spawn(async move {
            sleep(Duration::from_secs(1)).await;
            there.report_lag(Duration::ZERO, 0);
            sleep(Duration::from_secs(10)).await;
            there.advance(Place(5), Vec::new());
        });
        follow.report_interrupted("a moment");
        // The first interruption lasts: the word of the follower ends it.
        follow.report_lag(Duration::ZERO, 0);
        follow.report_interrupted("a moment");
        let waited = follow.wait_covers(&Place(5), Duration::from_mins(1)).await;
        waited.expect("it came back");
    }
}
