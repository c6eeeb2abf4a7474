//! The follower: reads the source's change stream and keeps the target a prefix of the source.

pub(crate) mod apply;
pub(crate) mod batch;
pub(crate) mod coalesce;
pub(crate) mod jobs;
pub(crate) mod literals;
pub(crate) mod statements;
pub(crate) mod tables;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::Postgres;
use super::client::failed;
use super::position::Lsn;
use super::stream::{Event, Obstacle, Replication, Stream, obstacle};
use crate::error::{Error, Result};
use crate::follow::Follow;
use crate::model::plan::Plan;
use crate::model::progress::Progress;
use crate::postgres::follow::apply::Applier;
use crate::postgres::follow::batch::{Summary, TransactionBuffer};
use crate::postgres::follow::tables::Tables;
use crate::postgres::guard;
use crate::postgres::heartbeat::Heartbeat;

/// How long the stream of a predecessor that just ended may keep the slot.
const START_TRIES: u32 = 40;
const START_PAUSE: Duration = Duration::from_millis(250);
/// How long a group under way may take to finish when the follower is asked to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long each step of the opening that asks a server something may take.
const OPEN_TIMEOUT: Duration = Duration::from_mins(1);

/// Follows until `stop` is cancelled or something fails.
pub async fn run(
    postgres: &Postgres,
    plan: &Plan,
    follow: Follow<Lsn>,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<()> {
    if let Err(error) = guard::raise(postgres, plan).await {
        tracing::warn!(migration = postgres.name(), %error, "others may write to the target; a check will ask again");
    }
    let follower = tokio::select! {
        opened = Follower::open(postgres, plan, follow.clone(), progress) => opened?,
        () = stop.cancelled() => return Ok(()),
    };
    let (follower, applier) = follower;
    let outcome = Box::pin(follower.run(applier, &stop)).await;
    follow.report_paused(false);
    outcome
}

type Applying = Pin<Box<dyn Future<Output = (Applier, Result<()>)> + Send>>;

/// Who has the target session.
enum ApplierState {
    Idle(Applier),
    /// A piece is being written; the summary is there if its end commits it.
    Busy(Applying, Option<Summary>),
}

struct Follower {
    stream: Stream,
    batch: TransactionBuffer,
    heartbeat: Heartbeat,
    follow: Follow<Lsn>,
    progress: Arc<Progress>,
    orders: watch::Receiver<Option<Lsn>>,
    pause_at: Option<Lsn>,
    /// Everything before this is durable on the target.
    applied: Lsn,
}

impl Follower {
    async fn open(
        postgres: &Postgres,
        plan: &Plan,
        follow: Follow<Lsn>,
        progress: Arc<Progress>,
    ) -> Result<(Self, Applier)> {
        let source = postgres.connect_source("heartbeat").await?;
        let target = postgres.connect_target("apply").await?;
        let tables = Tables::load(postgres, plan, &source, &target);
        let tables = Arc::new(in_time("tell about the tables", tables).await?);
        let applier = Applier::open(postgres, target, Arc::clone(&tables));
        let applier = in_time("open the session that applies", applier).await?;
        let applied = applier.stored();
        let stream = start(postgres, &source, applied).await?;
        let orders = follow.pause_orders();
        follow.advance(applied, Vec::new());
        let batch = TransactionBuffer::new(tables, applied);
        let heartbeat = Heartbeat::new(source);
        let pause_at = None;
        let mut follower = Self { stream, batch, heartbeat, follow, progress, orders, pause_at, applied };
        // Before anything is taken in: a pause may have been ordered already.
        follower.apply_pause();
        Ok((follower, applier))
    }

    async fn run(mut self, applier: Applier, stop: &CancellationToken) -> Result<()> {
        let mut hands = ApplierState::Idle(applier);
        loop {
            self.take_in()?;
            hands = self.dispatch(hands);
            self.update_idle_position(matches!(hands, ApplierState::Idle(_)));
            let taking_in = self.batch.takes_in();
            let busy = matches!(hands, ApplierState::Busy(..));
            tokio::select! {
                biased;
                () = stop.cancelled() => return finish(hands).await,
                (applier, outcome) = done(&mut hands) => {
                    outcome?;
                    let before = std::mem::replace(&mut hands, ApplierState::Idle(applier));
                    if let ApplierState::Busy(_, Some(summary)) = before {
                        self.record_commit(summary);
                    }
                }
                changed = self.orders.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.apply_pause();
                }
                beaten = self.heartbeat.beat() => {
                    beaten?;
                    self.heartbeat.look_after(&mut self.stream)?;
                    self.report_lag();
                }
                waited = wait(&mut self.stream, taking_in, busy) => waited?,
            }
        }
    }

    /// Decodes what arrived, as far as there is room for it.
    fn take_in(&mut self) -> Result<()> {
        while self.batch.takes_in() {
            match self.stream.take()? {
                Some(Event::Data(message)) => self.batch.add(message)?,
                Some(Event::Keepalive(end)) => self.batch.arrived_up_to(end),
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
            if piece.items.is_empty() && !applier.is_open() {
                // Nothing to write: all that came before is durable already.
                self.record_commit(summary);
                return ApplierState::Idle(applier);
            }
            (piece, Some(summary))
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
    fn record_commit(&mut self, summary: Summary) {
        self.applied = self.applied.max(summary.end);
        self.stream.confirm(self.applied);
        self.progress.count_transactions(summary.transactions);
        for (title, changes) in &summary.changes {
            self.progress.update(title, |table| table.changes_applied += changes);
        }
        self.heartbeat.applied(&summary.beats);
        self.follow.advance(self.applied, summary.markers);
        self.report_lag();
    }

    fn report_lag(&self) {
        let end = self.heartbeat.source_end().max(self.batch.arrived());
        let behind_bytes = end.0.saturating_sub(self.applied.0);
        if let Some(lag) = self.heartbeat.lag() {
            self.follow.report_lag(lag, behind_bytes);
        }
    }

    /// When nothing is left to apply, the target is as far as the stream is, or at the place to pause at.
    fn update_idle_position(&mut self, idle: bool) {
        let still = idle && self.batch.is_empty();
        let arrived = self.batch.arrived();
        let (paused, reached) = match self.pause_at {
            Some(pause_at) if self.batch.is_held() || arrived >= pause_at => (still, pause_at),
            _ => (false, arrived),
        };
        // The pause first: who waits for the position may rely on it.
        self.follow.report_paused(paused);
        if still && reached > self.applied {
            self.applied = reached;
            self.stream.confirm(reached);
            self.follow.advance(reached, Vec::new());
        }
    }

    fn apply_pause(&mut self) {
        self.pause_at = *self.orders.borrow_and_update();
        self.batch.hold_at(self.pause_at);
        if self.pause_at.is_some() {
            // Both make an idle source say how far it is.
            self.heartbeat.beat_now();
            self.stream.ask();
        }
    }
}

/// A server that stands still ends this too.
async fn in_time<T>(what: &str, opening: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(OPEN_TIMEOUT, opening).await.unwrap_or_else(|_| {
        let seconds = OPEN_TIMEOUT.as_secs();
        Err(Error::transient(format!("the servers did not {what} within {seconds} s")))
    })
}

/// The source sends each message by itself, and waking for each costs more than reading it. While the target is busy
/// there is no hurry: so much is let come together.
const GATHER: Duration = Duration::from_millis(1);

/// Waits for more of the stream, or only keeps the source informed while there is no room for more. Cancel safe.
async fn wait(stream: &mut Stream, taking_in: bool, busy: bool) -> Result<()> {
    if !taking_in {
        return stream.tend().await;
    }
    if busy {
        sleep(GATHER).await;
    }
    stream.fill().await
}

/// Resolves when the piece under way is written. Cancel safe.
async fn done(hands: &mut ApplierState) -> (Applier, Result<()>) {
    match hands {
        ApplierState::Idle(_) => std::future::pending().await,
        ApplierState::Busy(applying, _) => applying.await,
    }
}

/// Lets the piece under way finish. What is not committed by then is rolled back by the target.
async fn finish(hands: ApplierState) -> Result<()> {
    if let ApplierState::Busy(applying, Some(_)) = hands
        && let Ok((_, Err(error))) = timeout(STOP_TIMEOUT, applying).await
    {
        tracing::warn!(%error, "the last group before the stop was not applied");
    }
    Ok(())
}

async fn start(postgres: &Postgres, source: &Client, from: Lsn) -> Result<Stream> {
    let purpose = postgres.purpose("stream");
    let mut tries = 0;
    loop {
        let replication = Replication::connect(postgres.source(), &purpose).await?;
        match replication.start(&postgres.slot(), from, &postgres.publication()).await {
            Err(error) if obstacle(&error) == Some(Obstacle::Busy) && tries < START_TRIES => {
                tries += 1;
                let slot = postgres.slot();
                let ending = end_predecessor(source, &slot, &purpose);
                in_time("end an earlier run's stream", ending).await?;
                sleep(START_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Ends the stream of a run of ours that is gone but whose server side has not noticed.
async fn end_predecessor(source: &Client, slot: &str, purpose: &str) -> Result<()> {
    source
        .execute(
            "SELECT pg_catalog.pg_terminate_backend(s.active_pid)
             FROM pg_catalog.pg_replication_slots s
             JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid
             WHERE s.slot_name = $1 AND a.application_name = pg_catalog.left('headgate ' || $2, 63)",
            &[&slot, &purpose],
        )
        .await
        .map(drop)
        .map_err(|error| failed("cannot end the stream of an earlier run", error))
}
