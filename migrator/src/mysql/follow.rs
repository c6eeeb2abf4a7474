//! The follower: reads the binary log and keeps the target a prefix of the source.

pub(crate) mod apply;
pub(crate) mod batch;
pub(crate) mod changed_keys;
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

use tokio_util::sync::CancellationToken;

use super::stream::{Raw, Stream};
use super::{BinlogPosition, Mysql, position};
use crate::error::Result;
use crate::follow::batch::PendingChanges as _;
use crate::follow::{self, ChangeSource, Follow, TargetApplier as _, Woken, in_time};
use crate::model::leg::Leg;
use crate::model::plan::Plan;
use crate::model::position::Position as _;
use crate::model::progress::Progress;
use crate::mysql::client;
use crate::mysql::follow::apply::{Applier, ApplyBatch};
use crate::mysql::follow::batch::TransactionBuffer;
use crate::mysql::follow::ddl::harmless;
use crate::mysql::follow::tables::Tables;
use crate::mysql::heartbeat;
use crate::mysql::heartbeat::Heartbeat;
use crate::mysql::limits::TransactionLimit;
use crate::mysql::schema::triggers;
use crate::residue::Marking;

/// Events that are read before anything else is looked at again.
const AT_ONCE: usize = 500;

/// Applies changes until stopped. Every row must be on the target as the source had it.
pub async fn run(
    mysql: &Mysql,
    plan: &Plan,
    follow: Follow<BinlogPosition>,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<()> {
    triggers::make_way(mysql).await?;
    follow::run(Box::pin(open(mysql, Some(plan), true)), follow, progress, None, &stop).await.map(drop)
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
    let until = Some(marker.to_owned());
    follow::run(Box::pin(open(mysql, Some(plan), false)), Follow::default(), Arc::clone(progress), until, stop).await
}

/// Follows the signals alone until the marker with this token is durable on the target. Nothing that moves is looked at.
/// False where `stop` was cancelled first.
pub(super) async fn marker(mysql: &Mysql, marker: &str, stop: &CancellationToken) -> Result<bool> {
    let until = Some(marker.to_owned());
    follow::run(Box::pin(open(mysql, None, true)), Follow::default(), Arc::default(), until, stop).await
}

type Judging = Pin<Box<dyn Future<Output = Result<BinlogPosition>> + Send>>;

/// Where rows were loaded from a later moment than a change, nothing is `strict` about what the change finds. Without a
/// plan nothing moves.
async fn open(mysql: &Mysql, plan: Option<&Plan>, strict: bool) -> Result<(Source, Applier)> {
    let mut source = mysql.connect_source("heartbeat").await?;
    let mut target = mysql.connect_target("apply").await?;
    if !mysql.is_fenced() {
        // The refusal of a leg before this one may stand on either side.
        let later = mysql.leg() != Leg::FIRST;
        for (side, endpoint, may_be_fenced) in
            [(&mut source, mysql.source(), true), (&mut target, mysql.target(), later)]
        {
            let looking = client::refuse_reader(side, endpoint, may_be_fenced);
            in_time("tell whether they take writes", looking).await?;
        }
        in_time("prepare the heartbeat", heartbeat::install(&mut source)).await?;
    }
    let tables = match plan {
        Some(plan) => in_time("tell about the tables", Tables::load(mysql, plan, &mut source, &mut target)).await?,
        None => Tables::default(),
    };
    let tables = Arc::new(tables);
    let limit = in_time("tell how much the target takes at once", TransactionLimit::of(&mut target)).await?;
    let applier = Applier::open(mysql, target, Arc::clone(&tables), strict);
    let applier = in_time("open the session that applies", applier).await?;
    let applied = applier.stored().clone();
    let server = in_time("tell who it is", position::server(&mut source)).await?;
    // In the files of another server nothing tells what was applied of what is between the two.
    let from =
        applier.since().filter(|since| since.server == server && applied.server == server && applied.covers(since));
    let from = from.unwrap_or(&applied).clone();
    let stream = Stream::open(mysql, &mut source, &from);
    let (stream, end) = in_time("open the change stream", stream).await?;
    let batch = TransactionBuffer::new(mysql, tables, applied, &from, end, limit);
    let heartbeat = Heartbeat::new(mysql, source);
    Ok((Source { mysql: mysql.clone(), judging: None, stream, batch, heartbeat }, applier))
}

/// The binary log and the heartbeat in it.
struct Source {
    mysql: Mysql,
    /// Finds out what a statement of the log has changed.
    judging: Option<Judging>,
    stream: Stream,
    batch: TransactionBuffer,
    heartbeat: Heartbeat,
}

impl ChangeSource for Source {
    type Position = BinlogPosition;
    type Batch = ApplyBatch;
    type Buffer = TransactionBuffer;

    fn buffer(&mut self) -> &mut TransactionBuffer {
        &mut self.batch
    }

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

    async fn wait(&mut self, _busy: bool) -> Result<Woken> {
        let taking_in = self.batch.takes_in();
        if self.judging.is_none()
            && let Some(doubt) = self.batch.doubt().cloned()
        {
            let mysql = self.mysql.clone();
            self.judging = Some(Box::pin(async move { harmless::judge(&mysql, &doubt).await }));
        }
        tokio::select! {
            biased;
            beaten = self.heartbeat.beat() => {
                beaten?;
                self.heartbeat.look_after(self.stream.heard())?;
                return Ok(Woken::Beat);
            }
            until = judged(&mut self.judging) => {
                self.judging = None;
                self.batch.settle_doubt(until?)?;
            }
            raw = next(&mut self.stream, taking_in) => self.batch.add(raw?)?,
        }
        Ok(Woken::Stream)
    }

    fn ask(&mut self) {
        self.heartbeat.beat_now();
    }

    fn confirm(&mut self, _recorded: &BinlogPosition, beats: &[String]) {
        self.heartbeat.applied(beats);
    }

    fn mark(&self, batch: &ApplyBatch, marking: &mut Marking<'_>) {
        changed_keys::mark(self.batch.tables(), batch, marking);
    }

    fn lag(&self, applied: &BinlogPosition) -> Option<(Duration, u64)> {
        let behind = match self.heartbeat.source_end() {
            Some(end) if end.server == applied.server && !applied.covers(end) => {
                if end.file == applied.file {
                    end.offset - applied.offset.min(end.offset)
                } else {
                    // How long the files between are is not known; the last one counts.
                    end.offset
                }
            }
            _ => 0,
        };
        Some((self.heartbeat.lag()?, behind))
    }
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
