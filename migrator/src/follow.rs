//! The follower's loop: takes in what the source's change stream brings, and keeps the target a prefix of the source.

pub(crate) mod apply;
pub(crate) mod batch;
pub(crate) mod coalesce;
mod handle;
pub(crate) mod heartbeat;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::model::position::Position;
use crate::model::progress::Progress;
use crate::residue::{Generation, Marking};
use batch::{PendingChanges, Summary};
pub(crate) use handle::Pause;
pub use handle::{Applied, Follow};

/// How long a batch under way may take to finish when the follower is asked to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// A position that no change of ours goes with is recorded on the target all the same where the last record is as old as
/// this: the source's log is kept from the record on.
const RECORD_AFTER: Duration = Duration::from_secs(3);
/// How long each step of the opening that asks a server something may take.
const OPEN_TIMEOUT: Duration = Duration::from_mins(1);

/// What a source of changes was woken by.
pub(crate) enum Woken {
    /// More of the stream, or nothing worth a word.
    Stream,
    /// A heartbeat was written to the source.
    Beat,
}

/// Yields the transactions of a source's change stream.
pub(crate) trait ChangeSource: Send {
    /// A place in the stream.
    type Position: Position;
    /// What is written to the target at once.
    type Batch: Send + Sync + 'static;
    /// Gathers the changes until the target takes them.
    type Buffer: PendingChanges<Position = Self::Position, Batch = Self::Batch>;

    /// What was read and not applied yet.
    fn buffer(&mut self) -> &mut Self::Buffer;

    /// Reads what arrived already, as far as there is room for it. Never waits.
    fn take_in(&mut self) -> Result<()>;

    /// Waits for more of the stream, if there is room for it, and for heartbeats. While the target is `busy` there is no
    /// hurry. Cancel safe.
    fn wait(&mut self, busy: bool) -> impl Future<Output = Result<Woken>> + Send;

    /// Makes an idle source say how far it is.
    fn ask(&mut self);

    /// The target has a record of its own, durable, that it has everything before `recorded`; these heartbeats are applied.
    fn confirm(&mut self, recorded: &Self::Position, beats: &[String]);

    /// Names the rows that the batch changes.
    fn mark(&self, batch: &Self::Batch, marking: &mut Marking<'_>);

    /// How far `applied` is behind the source, in time and in bytes of the stream; nothing before the first heartbeat.
    fn lag(&self, applied: &Self::Position) -> Option<(Duration, u64)>;
}

/// Writes batches to the target, and records in the same transaction how far it is.
pub(crate) trait TargetApplier: Send + 'static {
    /// A place in the stream.
    type Position: Position;
    /// What is written at once.
    type Batch: Send + Sync + 'static;
    /// The target's own word how far it is.
    fn stored(&self) -> &Self::Position;

    /// Whether a transaction waits for the rest of a source transaction.
    fn is_open(&self) -> bool;

    /// Writes a batch; commits, durably, where it has an end.
    fn apply(&mut self, batch: &Self::Batch) -> impl Future<Output = Result<()>> + Send;
}

/// Applies changes until `stop` is cancelled, something fails, or everything before the marker `until` is durable on the
/// target. True in the last case.
pub(crate) async fn run<S, A>(
    opening: impl Future<Output = Result<(S, A)>>,
    follow: Follow<S::Position>,
    progress: Arc<Progress>,
    until: Option<String>,
    stop: &CancellationToken,
) -> Result<bool>
where
    S: ChangeSource,
    A: TargetApplier<Position = S::Position, Batch = S::Batch>,
{
    let (source, applier) = tokio::select! {
        opened = opening => opened?,
        () = stop.cancelled() => return Ok(false),
    };
    let applied = applier.stored().clone();
    let orders = follow.pause_orders();
    follow.advance(applied.clone(), Vec::new());
    let mut follower = Follower {
        source,
        follow: follow.clone(),
        progress,
        orders,
        pause_at: None,
        marked: None,
        recorded: applied.clone(),
        applied,
        recorded_at: Instant::now(),
        until,
        is_at_marker: false,
    };
    // Before anything is taken in: a pause may have been ordered already.
    follower.apply_pause()?;
    let outcome = Box::pin(follower.run(applier, stop)).await;
    follow.report_paused(false);
    outcome
}

type Applying<A> = Pin<Box<dyn Future<Output = (A, Result<()>)> + Send>>;

/// Who has the target session.
enum ApplierState<A, P> {
    Idle(A),
    /// A batch is being written; the summary is there if its end commits it.
    Busy(Applying<A>, Option<Summary<P>>),
}

struct Follower<S: ChangeSource> {
    source: S,
    follow: Follow<S::Position>,
    progress: Arc<Progress>,
    orders: watch::Receiver<Option<S::Position>>,
    pause_at: Option<S::Position>,
    /// What was marked last.
    marked: Option<Generation>,
    /// Everything before this is durable on the target.
    applied: S::Position,
    /// The last position that the target itself has a record of: a source may forget what is before it. A target that is
    /// found behind it has lost something.
    recorded: S::Position,
    recorded_at: Instant,
    /// The marker at which the work is done.
    until: Option<String>,
    is_at_marker: bool,
}

impl<S: ChangeSource> Follower<S> {
    async fn run<A>(mut self, applier: A, stop: &CancellationToken) -> Result<bool>
    where
        A: TargetApplier<Position = S::Position, Batch = S::Batch>,
    {
        let mut state = ApplierState::Idle(applier);
        loop {
            self.source.take_in()?;
            state = self.dispatch(state);
            if self.is_at_marker {
                return Ok(true);
            }
            let busy = matches!(state, ApplierState::Busy(..));
            self.update_idle_position(!busy);
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    finish(state).await;
                    return Ok(false);
                }
                (applier, outcome) = done(&mut state) => {
                    outcome?;
                    let before = std::mem::replace(&mut state, ApplierState::Idle(applier));
                    if let ApplierState::Busy(_, Some(summary)) = before {
                        if let Some(marked) = self.marked.take() {
                            self.follow.residue().applied(marked);
                        }
                        self.recorded = summary.end.clone();
                        self.count_commit(summary);
                    }
                }
                changed = self.orders.changed() => {
                    if changed.is_err() {
                        return Ok(false);
                    }
                    self.apply_pause()?;
                }
                woken = self.source.wait(busy) => match woken? {
                    Woken::Beat => self.report_lag(),
                    Woken::Stream => {}
                },
            }
        }
    }

    /// Hands what was gathered to the applier, if it is idle and there is something that makes sense alone.
    fn dispatch<A>(&mut self, state: ApplierState<A, S::Position>) -> ApplierState<A, S::Position>
    where
        A: TargetApplier<Position = S::Position, Batch = S::Batch>,
    {
        let ApplierState::Idle(mut applier) = state else {
            return state;
        };
        let buffer = self.source.buffer();
        let (batch, summary) = if buffer.is_between_transactions() {
            let Some((batch, summary)) = buffer.take_whole() else {
                return ApplierState::Idle(applier);
            };
            let recent = self.recorded_at.elapsed() < RECORD_AFTER && summary.markers.is_empty();
            if summary.is_blank && !applier.is_open() && recent {
                // Nothing to write: all that came before is durable already.
                self.count_commit(summary);
                return ApplierState::Idle(applier);
            }
            self.recorded_at = Instant::now();
            (batch, Some(summary))
        } else if buffer.takes_in() {
            return ApplierState::Idle(applier);
        } else {
            (buffer.take_part(), None)
        };
        if let Some(mut marking) = self.follow.residue().marking() {
            self.source.mark(&batch, &mut marking);
            self.marked = Some(marking.generation());
        }
        let applying = async move {
            let outcome = applier.apply(&batch).await;
            (applier, outcome)
        };
        ApplierState::Busy(Box::pin(applying), summary)
    }

    /// Tells what is durable now.
    fn count_commit(&mut self, summary: Summary<S::Position>) {
        self.applied = summary.end;
        self.source.confirm(&self.recorded, &summary.beats);
        self.progress.count_transactions(summary.transactions);
        for (title, changes) in &summary.changes {
            self.progress.update(title, |table| table.changes_applied += changes);
        }
        self.is_at_marker |= self.until.as_ref().is_some_and(|until| summary.markers.contains(until));
        self.follow.advance(self.applied.clone(), summary.markers);
        self.report_lag();
    }

    fn report_lag(&self) {
        if let Some((lag, behind_bytes)) = self.source.lag(&self.applied) {
            self.follow.report_lag(lag, behind_bytes);
        }
    }

    /// When nothing is left to apply, the target is as far as the stream is, or at the place to pause at.
    fn update_idle_position(&mut self, idle: bool) {
        let buffer = self.source.buffer();
        let still = idle && buffer.is_empty();
        let pause_at = self.pause_at.as_ref().filter(|pause_at| buffer.is_held() || buffer.has_reached(pause_at));
        let reached = if still { buffer.beyond(&self.applied, pause_at) } else { None };
        // The pause first: who waits for the position may rely on it.
        self.follow.report_paused(still && pause_at.is_some());
        if let Some(reached) = reached {
            self.applied = reached;
            self.follow.advance(self.applied.clone(), Vec::new());
        }
    }

    fn apply_pause(&mut self) -> Result<()> {
        self.pause_at.clone_from(&self.orders.borrow_and_update());
        self.source.buffer().hold_at(self.pause_at.clone())?;
        if self.pause_at.is_some() {
            self.source.ask();
        }
        Ok(())
    }
}

/// A server that stands still ends the opening of a follower too.
pub(crate) async fn in_time<T>(what: &str, opening: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(OPEN_TIMEOUT, opening).await.unwrap_or_else(|_| {
        let seconds = OPEN_TIMEOUT.as_secs();
        Err(Error::transient(format!("the servers did not {what} within {seconds} s")))
    })
}

/// Resolves when the batch under way is written. Cancel safe.
async fn done<A, P>(state: &mut ApplierState<A, P>) -> (A, Result<()>) {
    match state {
        ApplierState::Idle(_) => std::future::pending().await,
        ApplierState::Busy(applying, _) => applying.await,
    }
}

/// Lets the batch under way finish. What is not committed by then is rolled back by the target.
async fn finish<A, P>(state: ApplierState<A, P>) {
    if let ApplierState::Busy(applying, Some(_)) = state
        && let Ok((_, Err(error))) = timeout(STOP_TIMEOUT, applying).await
    {
        tracing::warn!(%error, "the last group before the stop was not applied");
    }
}
