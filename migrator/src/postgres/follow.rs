//! The follower: reads the source's change stream and keeps the target a prefix of the source.

pub(crate) mod apply;
pub(crate) mod batch;
pub(crate) mod changed_keys;
pub(crate) mod coalesce;
mod continuity;
pub(crate) mod jobs;
pub(crate) mod literals;
pub(crate) mod statements;
pub(crate) mod tables;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::Postgres;
use super::client::{self, failed};
use super::position::Lsn;
use super::stream::{Event, Obstacle, Replication, Stream, obstacle};
use crate::error::Result;
use crate::follow::batch::PendingChanges as _;
use crate::follow::{self, ChangeSource, Follow, TargetApplier as _, Woken, in_time};
use crate::model::plan::Plan;
use crate::model::progress::Progress;
use crate::postgres::follow::apply::{Applier, ApplyBatch};
use crate::postgres::follow::batch::TransactionBuffer;
use crate::postgres::follow::tables::Tables;
use crate::postgres::guard;
use crate::postgres::heartbeat::Heartbeat;
use crate::postgres::schema::set_aside;
use crate::residue::Marking;

/// How long the stream of a predecessor that just ended may keep the slot.
const START_TRIES: u32 = 40;
const START_PAUSE: Duration = Duration::from_millis(250);

/// Follows until `stop` is cancelled or something fails.
pub async fn run(
    postgres: &Postgres,
    plan: &Plan,
    follow: Follow<Lsn>,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<()> {
    let beginning = follow.begin().await?;
    if let Err(error) = guard::raise(postgres, plan).await {
        tracing::warn!(migration = postgres.name(), %error, "others may write to the target; a check will ask again");
    }
    set_aside::make_way(postgres, plan).await?;
    postgres.fires().out_of_the_way();
    drop(beginning);
    follow::run(Box::pin(open(postgres, plan)), follow, progress, None, &stop).await.map(drop)
}

async fn open(postgres: &Postgres, plan: &Plan) -> Result<(Source, Applier)> {
    opened(postgres, plan, Arc::new).await
}

/// As [`open`], but no change of a row is applied: what comes is the leg before's.
pub(crate) async fn open_idle(postgres: &Postgres, plan: &Plan) -> Result<(Source, Applier)> {
    opened(postgres, plan, |tables| Arc::new(tables.passed_over())).await
}

async fn opened(
    postgres: &Postgres,
    plan: &Plan,
    share: impl FnOnce(Tables) -> Arc<Tables>,
) -> Result<(Source, Applier)> {
    let source = postgres.connect_source("heartbeat").await?;
    let target = postgres.connect_target("apply").await?;
    for (side, endpoint) in [(&source, postgres.source()), (&target, postgres.target())] {
        in_time("tell whether they take writes", client::refuse_standby(side, endpoint)).await?;
    }
    // Before the target's word is read, which only grows.
    let forgotten = in_time("tell about the slot", continuity::forgotten(postgres, &source)).await?;
    let tables = Tables::load(postgres, plan, &source, &target);
    let tables = share(in_time("tell about the tables", tables).await?);
    let applier = Applier::open(postgres, target, Arc::clone(&tables));
    let applier = in_time("open the session that applies", applier).await?;
    let applied = *applier.stored();
    continuity::refuse_lost_record(postgres, forgotten, applied)?;
    let (stream, timeline) = start(postgres, &source, &applier).await?;
    in_time("record the timeline", applier.keep_timeline(timeline)).await?;
    let batch = TransactionBuffer::new(tables, applied);
    Ok((Source { stream, batch, heartbeat: Heartbeat::new(source) }, applier))
}

/// The change stream and the heartbeat in it.
pub(crate) struct Source {
    stream: Stream,
    batch: TransactionBuffer,
    heartbeat: Heartbeat,
}

impl ChangeSource for Source {
    type Position = Lsn;
    type Batch = ApplyBatch;
    type Buffer = TransactionBuffer;

    fn buffer(&mut self) -> &mut TransactionBuffer {
        &mut self.batch
    }

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

    async fn wait(&mut self, busy: bool) -> Result<Woken> {
        let taking_in = self.batch.takes_in();
        tokio::select! {
            biased;
            beaten = self.heartbeat.beat() => {
                beaten?;
                self.heartbeat.look_after(&mut self.stream)?;
                Ok(Woken::Beat)
            }
            waited = wait(&mut self.stream, taking_in, busy) => waited.map(|()| Woken::Stream),
        }
    }

    fn ask(&mut self) {
        self.heartbeat.beat_now();
        self.stream.ask();
    }

    fn confirm(&mut self, recorded: &Lsn, beats: &[String]) {
        self.stream.confirm(*recorded);
        self.heartbeat.applied(beats);
    }

    fn mark(&self, batch: &ApplyBatch, marking: &mut Marking<'_>) {
        changed_keys::mark(self.batch.tables(), batch, marking);
    }

    fn lag(&self, applied: &Lsn) -> Option<(Duration, u64)> {
        let end = self.heartbeat.source_end().max(self.batch.arrived());
        Some((self.heartbeat.lag()?, end.0.saturating_sub(applied.0)))
    }
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

/// Starts the stream where the target is, and returns the timeline of the source's log.
async fn start(postgres: &Postgres, source: &Client, applier: &Applier) -> Result<(Stream, u32)> {
    let from = *applier.stored();
    let purpose = postgres.purpose("stream");
    let mut tries = 0;
    loop {
        let mut replication = Replication::connect(postgres.source(), &purpose).await?;
        let timeline = continuity::refuse_other_history(postgres, &mut replication, from, applier.timeline()).await?;
        match replication.start(&postgres.slot(), from, &postgres.publication()).await {
            Err(error) if obstacle(&error) == Some(Obstacle::Busy) && tries < START_TRIES => {
                tries += 1;
                let slot = postgres.slot();
                let ending = end_predecessor(source, &slot, &purpose);
                in_time("end an earlier run's stream", ending).await?;
                sleep(START_PAUSE).await;
            }
            outcome => return outcome.map(|stream| (stream, timeline)),
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
