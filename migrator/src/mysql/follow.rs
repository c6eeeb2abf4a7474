//! The follower: reads the binary log and keeps the target a prefix of the source.

pub(crate) mod apply;
pub(crate) mod batch;
pub(crate) mod coalesce;
pub(crate) mod ddl;
pub(crate) mod json;
pub(crate) mod json_text;
pub(crate) mod literals;
pub(crate) mod statements;
pub(crate) mod tables;
pub(crate) mod values;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::stream::{Raw, Stream};
use super::{BinlogPosition, Mysql, position};
use crate::error::{Error, Result};
use crate::follow::Follow;
use crate::model::plan::Plan;
use crate::model::position::Position as _;
use crate::model::progress::Progress;
use crate::mysql::follow::apply::Applier;
use crate::mysql::follow::batch::{Summary, TransactionBuffer};
use crate::mysql::follow::ddl::harmless;
use crate::mysql::follow::tables::Tables;
use crate::mysql::heartbeat;
use crate::mysql::heartbeat::Heartbeat;
use crate::mysql::schema::triggers;

/// How long a group under way may take to finish when the follower is asked to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long each step of the opening that asks a server something may take.
const OPEN_TIMEOUT: Duration = Duration::from_mins(1);
/// Events that are read before anything else is looked at again.
const AT_ONCE: usize = 500;
/// The target's own word of how far it is, is never older than this while the source goes on.
const TELL_AFTER: Duration = Duration::from_secs(3);

/// Applies changes until stopped. Every row must be on the target as the source had it.
pub async fn run(
    mysql: &Mysql,
    plan: &Plan,
    follow: Follow<BinlogPosition>,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<()> {
    triggers::remove(mysql).await?;
    let opened = tokio::select! {
        opened = Follower::open(mysql, plan, follow.clone(), progress, None) => opened?,
        () = stop.cancelled() => return Ok(()),
    };
    let (follower, applier) = opened;
    let outcome = Box::pin(follower.run(applier, &stop)).await;
    follow.report_paused(false);
    outcome.map(drop)
}

/// Applies changes until everything before the marker with this token, written to the source after the last load, is
/// durable on the target. Rows that were loaded from a later moment than a change are brought to the same end. False
/// where `stop` was cancelled first.
pub async fn catch_up(
    mysql: &Mysql,
    plan: &Plan,
    marker: &str,
    progress: &Arc<Progress>,
    stop: &CancellationToken,
) -> Result<bool> {
    let follow = Follow::default();
    let until = Some(marker.to_owned());
    let opened = tokio::select! {
        opened = Follower::open(mysql, plan, follow, Arc::clone(progress), until) => opened?,
        () = stop.cancelled() => return Ok(false),
    };
    let (follower, applier) = opened;
    Box::pin(follower.run(applier, stop)).await
}

type Judging = Pin<Box<dyn Future<Output = Result<BinlogPosition>> + Send>>;
type Applying = Pin<Box<dyn Future<Output = (Applier, Result<()>)> + Send>>;

/// Who has the target session.
enum ApplierState {
    Idle(Applier),
    /// A piece is being written; where it ends and what that says is there if its end commits it.
    Busy(Applying, Option<(BinlogPosition, Summary)>),
}

struct Follower {
    mysql: Mysql,
    /// Finds out what a statement of the log has changed.
    judging: Option<Judging>,
    stream: Stream,
    batch: TransactionBuffer,
    heartbeat: Heartbeat,
    follow: Follow<BinlogPosition>,
    progress: Arc<Progress>,
    orders: watch::Receiver<Option<BinlogPosition>>,
    pause_at: Option<BinlogPosition>,
    /// Everything before this is durable on the target.
    applied: BinlogPosition,
    /// When the target was told last.
    reported: Instant,
    /// The marker at which the work is done.
    until: Option<String>,
    arrived_at_marker: bool,
}

impl Follower {
    async fn open(
        mysql: &Mysql,
        plan: &Plan,
        follow: Follow<BinlogPosition>,
        progress: Arc<Progress>,
        until: Option<String>,
    ) -> Result<(Self, Applier)> {
        let mut source = mysql.connect_source("heartbeat").await?;
        let mut target = mysql.connect_target("apply").await?;
        if !mysql.is_fenced() {
            in_time("prepare the heartbeat", heartbeat::install(&mut source)).await?;
        }
        let tables = Tables::load(mysql, plan, &mut source, &mut target);
        let tables = Arc::new(in_time("tell about the tables", tables).await?);
        let applier = Applier::open(mysql, target, Arc::clone(&tables), until.is_none());
        let applier = in_time("open the session that applies", applier).await?;
        let applied = applier.stored().clone();
        let server = in_time("tell who it is", position::server(&mut source)).await?;
        // In the files of another server nothing tells what was applied of what is between the two.
        let from =
            applier.since().filter(|since| since.server == server && applied.server == server && applied.covers(since));
        let from = from.unwrap_or(&applied).clone();
        let stream = Stream::open(mysql, &mut source, &from);
        let (stream, end) = in_time("open the change stream", stream).await?;
        let orders = follow.pause_orders();
        follow.advance(applied.clone(), Vec::new());
        let batch = TransactionBuffer::new(mysql, tables, applied.clone(), &from, end);
        let heartbeat = Heartbeat::new(mysql, source);
        let mut follower = Self {
            mysql: mysql.clone(),
            judging: None,
            stream,
            batch,
            heartbeat,
            follow,
            progress,
            orders,
            pause_at: None,
            applied,
            reported: Instant::now(),
            until,
            arrived_at_marker: false,
        };
        // Before anything is taken in: a pause may have been ordered already.
        follower.apply_pause()?;
        Ok((follower, applier))
    }

    async fn run(mut self, applier: Applier, stop: &CancellationToken) -> Result<bool> {
        let mut hands = ApplierState::Idle(applier);
        loop {
            self.take_in()?;
            hands = self.dispatch(hands);
            if self.arrived_at_marker {
                return Ok(true);
            }
            self.update_idle_position(matches!(hands, ApplierState::Idle(_)));
            let taking_in = self.batch.takes_in();
            if self.judging.is_none()
                && let Some(doubt) = self.batch.doubt().cloned()
            {
                let mysql = self.mysql.clone();
                self.judging = Some(Box::pin(async move { harmless::judge(&mysql, &doubt).await }));
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    finish(hands).await;
                    return Ok(false);
                }
                (applier, outcome) = done(&mut hands) => {
                    outcome?;
                    let before = std::mem::replace(&mut hands, ApplierState::Idle(applier));
                    if let ApplierState::Busy(_, Some((end, summary))) = before {
                        self.record_commit(end, summary);
                    }
                }
                changed = self.orders.changed() => {
                    if changed.is_err() {
                        return Ok(false);
                    }
                    self.apply_pause()?;
                }
                beaten = self.heartbeat.beat() => {
                    beaten?;
                    self.heartbeat.look_after(self.stream.heard())?;
                    self.report_lag();
                }
                until = judged(&mut self.judging) => {
                    self.judging = None;
                    self.batch.settle_doubt(until?)?;
                }
                raw = next(&mut self.stream, taking_in) => self.batch.add(raw?)?,
            }
        }
    }

    /// Decodes what arrived, as far as there is room for it.
    fn take_in(&mut self) -> Result<()> {
        for _ in 0..AT_ONCE {
            if !self.batch.takes_in() {
                break;
            }
            match self.stream.take()? {
                Some(raw) => self.batch.add(raw)?,
                None => break,
            }
        }
        Ok(())
    }

    /// Hands what was gathered to the applier, if it is idle and there is something that makes sense alone.
    fn dispatch(&mut self, hands: ApplierState) -> ApplierState {
        let ApplierState::Idle(mut applier) = hands else {
            return hands;
        };
        let (piece, summary) = if self.batch.is_between_transactions() {
            let Some((piece, summary)) = self.batch.take_whole() else {
                return ApplierState::Idle(applier);
            };
            let end = piece.end.clone().unwrap_or_else(|| self.applied.clone());
            // What holds no change of ours needs no word on the target, except at a marker.
            // Now and then it does, or a restart would begin at a place that the source's log no longer has.
            let reported = self.reported.elapsed() < TELL_AFTER && summary.markers.is_empty();
            if piece.items.is_empty() && !applier.is_open() && reported {
                self.record_commit(end, summary);
                return ApplierState::Idle(applier);
            }
            self.reported = Instant::now();
            (piece, Some((end, summary)))
        } else if self.batch.takes_in() {
            return ApplierState::Idle(applier);
        } else {
            (self.batch.take_part(), None)
        };
        let applying = async move {
            let outcome = applier.apply(&piece).await;
            (applier, outcome)
        };
        ApplierState::Busy(Box::pin(applying), summary)
    }

    /// Tells what is durable now.
    fn record_commit(&mut self, end: BinlogPosition, summary: Summary) {
        self.applied = end;
        self.progress.count_transactions(summary.transactions);
        for (title, changes) in &summary.changes {
            self.progress.update(title, |table| table.changes_applied += changes);
        }
        self.heartbeat.applied(&summary.beats);
        if let Some(until) = &self.until
            && summary.markers.contains(until)
        {
            self.arrived_at_marker = true;
        }
        self.follow.advance(self.applied.clone(), summary.markers);
        self.report_lag();
    }

    fn report_lag(&self) {
        let Some(lag) = self.heartbeat.lag() else {
            return;
        };
        let behind = match self.heartbeat.source_end() {
            Some(end) if end.server == self.applied.server && !self.applied.covers(end) => {
                if end.file == self.applied.file {
                    end.offset - self.applied.offset.min(end.offset)
                } else {
                    // How long the files between are is not known; the last one counts.
                    end.offset
                }
            }
            _ => 0,
        };
        self.follow.report_lag(lag, behind);
    }

    /// When nothing is left to apply, the target is as far as the stream is, or at the place to pause at.
    fn update_idle_position(&mut self, idle: bool) {
        let still = idle && self.batch.is_empty();
        let paused = self
            .pause_at
            .as_ref()
            .is_some_and(|pause_at| still && (self.batch.is_held() || self.batch.has_reached(pause_at)));
        // The pause first: who waits for the position may rely on it.
        self.follow.report_paused(paused);
        if still && !self.batch.is_at_or_before(&self.applied) {
            self.applied = self.batch.here();
            self.follow.advance(self.applied.clone(), Vec::new());
        }
    }

    fn apply_pause(&mut self) -> Result<()> {
        self.pause_at.clone_from(&self.orders.borrow_and_update());
        self.batch.hold_at(self.pause_at.clone())?;
        if self.pause_at.is_some() {
            // It makes an idle source say how far it is.
            self.heartbeat.beat_now();
        }
        Ok(())
    }
}

/// A server that stands still ends this too.
async fn in_time<T>(what: &str, opening: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(OPEN_TIMEOUT, opening).await.unwrap_or_else(|_| {
        let seconds = OPEN_TIMEOUT.as_secs();
        Err(Error::transient(format!("the servers did not {what} within {seconds} s")))
    })
}

/// The next event, or nothing ever while there is no room for more. Cancel safe.
async fn next(stream: &mut Stream, taking_in: bool) -> Result<Raw> {
    if !taking_in {
        stream.not_listening();
        return std::future::pending().await;
    }
    stream.next().await
}

/// Resolves when it is known what a statement has changed. Cancel safe.
async fn judged(judging: &mut Option<Judging>) -> Result<BinlogPosition> {
    match judging {
        Some(judging) => judging.await,
        None => std::future::pending().await,
    }
}

/// Resolves when the piece under way is written. Cancel safe.
async fn done(hands: &mut ApplierState) -> (Applier, Result<()>) {
    match hands {
        ApplierState::Idle(_) => std::future::pending().await,
        ApplierState::Busy(applying, _) => applying.await,
    }
}

/// Lets the piece under way finish. What is not committed by then is rolled back by the target.
async fn finish(hands: ApplierState) {
    if let ApplierState::Busy(applying, Some(_)) = hands
        && let Ok((_, Err(error))) = timeout(STOP_TIMEOUT, applying).await
    {
        tracing::warn!(%error, "the last group before the stop was not applied");
    }
}
