//! The bulk load: a queue of chunks shared by workers, and each table's plain indexes as soon as its rows are there.

pub mod chunks;
pub mod range;
pub mod rows;
pub mod snapshot;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::copy::{self, Chunks, TableLoader};
use crate::error::{Error, Result};
use crate::model::plan::{Plan, Table};
use crate::model::progress::{Progress, Stage};
use crate::mysql::client::failed;
use crate::mysql::heartbeat;
use crate::mysql::heartbeat::Signal;
use crate::mysql::limits::TransactionLimit;
use crate::mysql::load::chunks::Cutter;
use crate::mysql::load::range::ClusterPair;
use crate::mysql::records::{self, ChunkRecord};
use crate::mysql::rights::with_grants;
use crate::mysql::schema::archive::Archive;
use crate::mysql::schema::post_data;
use crate::mysql::sql::title;
use crate::mysql::{BinlogPosition, Mysql, follow, link, position, schema};
use crate::records::left_to_load;

/// Chunks are recorded together, so many at a time, before any of them is loaded.
const RECORDED_TOGETHER: usize = 32;
/// How often the first position is read before the copy is tried again later.
const POSITION_TRIES: u32 = 5;

/// Loads every table of the plan that is not loaded yet, brings all of them to one position, and builds the rest of
/// the schema.
pub async fn run(mysql: &Mysql, plan: &Plan, progress: Arc<Progress>, stop: CancellationToken) -> Result<()> {
    progress.expect(plan, title);
    let mut target = mysql.connect_target("copy").await?;
    records::install_records(&mut target).await?;
    if records::part(mysql, &mut target, "settled").await? == records::Part::Done {
        return records::report(mysql, &mut target, plan, &progress).await;
    }
    let mut source = mysql.connect_source("copy").await?;
    begin(mysql, plan, &mut source, &mut target).await?;
    records::report(mysql, &mut target, plan, &progress).await?;
    let recorded = records::tables(mysql, &mut target).await?;
    let archive = Arc::new(Archive::open(mysql, &mut target).await?);
    let (to_load, loaded, to_build) = left_to_load(plan, &recorded);
    let building = copy::build_loaded(to_build, mysql.settings().copy_workers, &stop, |tables| {
        build(mysql.clone(), Arc::clone(&archive), tables, Arc::clone(&progress))
    });
    let loading = load(mysql, to_load, loaded, &progress, &stop);
    tokio::try_join!(Box::pin(loading), Box::pin(building))?;
    if stop.is_cancelled() {
        return Ok(());
    }
    // By the session of before the first row: had another server taken the target's place, it would be lost.
    let recorded = records::tables(mysql, &mut target).await?;
    let lacks = plan.tables.iter().find(|table| {
        let record = recorded.get(&(table.schema.clone(), table.name.clone()));
        !record.is_some_and(|record| record.indexes)
    });
    if let Some(table) = lacks {
        return Err(copy::behind(&title(table)));
    }
    drop(target);
    // Chunks were read at different moments. What the stream brought until the last of them puts them together.
    let marker = format!("loaded-{:016x}", rand::random::<u64>());
    heartbeat::signal(&mut source, &mysql.key(), Signal::Marker, &marker).await?;
    drop(source);
    if !Box::pin(follow::catch_up(mysql, plan, &marker, &progress, &stop)).await? {
        return Ok(());
    }
    Box::pin(post_data::rest(mysql, plan, &progress, &stop)).await
}

/// Loads tables anew that were loaded before, each as of one exact position; their indexes and constraints stay.
pub async fn again(mysql: &Mysql, tables: &[Table], progress: Arc<Progress>, stop: CancellationToken) -> Result<()> {
    let mut target = mysql.connect_target("copy").await?;
    let (loader, mut pair) = (Loader(mysql.clone()), None);
    for table in tables {
        progress.update(&title(table), |numbers| numbers.stage = Stage::Copying);
        records::forget_chunks(mysql, &mut target, table).await?;
        if !copy::load_chunk(&loader, &mut pair, table, &Chunk::Whole, &progress, &stop).await? {
            return Ok(());
        }
        records::set_indexed(mysql, &mut target, table).await?;
        progress.update(&title(table), |numbers| numbers.stage = Stage::Copied);
    }
    Ok(())
}

/// Records, before the first row is read, where the follower begins, and which tables are loaded by their key.
pub async fn begin(mysql: &Mysql, plan: &Plan, source: &mut Conn, target: &mut Conn) -> Result<()> {
    heartbeat::install(source).await?;
    let stored = records::progress(mysql, target).await?;
    let begin = if let Some(stored) = stored {
        stored
    } else {
        let begin = first_position(mysql, source).await?;
        records::begin_progress(mysql, target, &begin).await?;
        begin
    };
    let (keyed, _) = chunks::by_key(plan);
    records::begin_keyed(mysql, target, &keyed, &begin).await
}

/// A position before which everything is in every snapshot that is opened later.
async fn first_position(mysql: &Mysql, source: &mut Conn) -> Result<BinlogPosition> {
    for _ in 0..POSITION_TRIES {
        let begin = position::current(source).await?;
        wait_for_prepared(mysql, source).await?;
        // Commits become visible in the order of the log: when this one has returned, so are all before it.
        let barrier = format!("begin-{:016x}", rand::random::<u64>());
        heartbeat::signal(source, &mysql.key(), Signal::Marker, &barrier).await?;
        let now = position::current(source).await?;
        if let Some(begin) = position::exact(source, begin, &now).await? {
            return Ok(begin);
        }
    }
    Err(Error::transient(format!(
        "the source's binary log went on to another file {POSITION_TRIES} times while its position was read"
    )))
}

/// Waits until no transaction is prepared that was when this began: its changes are in the log already, before the
/// follower begins, and in no snapshot until it is committed.
async fn wait_for_prepared(mysql: &Mysql, source: &mut Conn) -> Result<()> {
    let mut open = prepared(source).await?;
    let deadline = Instant::now() + mysql.settings().slot_create_timeout;
    let mut pause = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
    while !open.is_empty() {
        if Instant::now() >= deadline {
            return Err(Error::transient(format!(
                "{} prepared transactions (XA) are open on the source, and the copy cannot begin before they end",
                open.len()
            ))
            .remedy("commit or roll back what XA RECOVER lists; the start is tried again"));
        }
        tokio::time::sleep(pause.step()).await;
        let now = prepared(source).await?;
        open.retain(|one| now.contains(one));
    }
    Ok(())
}

/// The transactions that are prepared now.
async fn prepared(source: &mut Conn) -> Result<BTreeSet<Vec<u8>>> {
    let rows: Vec<Row> = match source.query("XA RECOVER").await {
        Ok(rows) => rows,
        Err(error) => {
            let error = failed("cannot see the source's prepared transactions", error);
            return Err(with_grants(error, source, &["XA_RECOVER_ADMIN ON *.*"]).await);
        }
    };
    let mut open = BTreeSet::new();
    for row in rows {
        // Its lengths belong to its name: format, lengths of both parts, both parts.
        let parts = row.unwrap().into_iter().flat_map(|value| {
            let mut part = value.as_sql(false).into_bytes();
            part.push(0);
            part
        });
        open.insert(parts.collect());
    }
    Ok(open)
}

/// What is loaded at once.
enum Chunk {
    /// A range of a table's key.
    Range(ChunkRecord),
    /// All of a table, exactly as of one position.
    Whole,
}

/// Loads ranges of keys, and tables without a key as a whole.
struct Loader(Mysql);

impl TableLoader for Loader {
    type Chunk = Chunk;
    /// What moves rows, and a session on the target for records.
    type Pair = (ClusterPair, Conn);
    /// Sessions on the source and on the target.
    type Cutter = (Conn, Conn);

    fn title(table: &Table) -> String {
        title(table)
    }

    async fn open(&self) -> Result<Self::Pair> {
        tokio::try_join!(ClusterPair::open(&self.0), self.0.connect_target("copy records"))
    }

    /// Each chunk is recorded before a worker sees it.
    async fn cut(&self, (source, target): &mut Self::Cutter, table: &Table, chunks: &Chunks<'_, Self>) -> Result<bool> {
        if !chunks::is_keyed(table) {
            return Ok(chunks.give(Chunk::Whole).await);
        }
        let recorded = records::chunks(&self.0, target, table).await?;
        let limit = TransactionLimit::of(target).await?;
        let mut cutter = Cutter::new(table, &recorded, self.0.settings()).within(limit, self.0.settings());
        let mut ready: Vec<ChunkRecord> = recorded.into_iter().filter(|chunk| !chunk.loaded).collect();
        let mut more = true;
        while more {
            let mut new = Vec::new();
            while more && new.len() < RECORDED_TOGETHER {
                match link::in_time("cannot cut a table for the copy", cutter.next(source)).await? {
                    Some(chunk) => new.push(chunk),
                    None => more = false,
                }
                // The first chunks of a table are not kept waiting for those that take a walk to find.
                if chunks.are_awaited() {
                    break;
                }
            }
            let recording = records::add_chunks(&self.0, target, table, &new);
            link::in_time("cannot record a chunk", recording).await?;
            ready.append(&mut new);
            for chunk in ready.drain(..) {
                if !chunks.give(Chunk::Range(chunk)).await {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    async fn load(
        &self,
        (pair, target): &mut Self::Pair,
        table: &Table,
        chunk: &Chunk,
        _again: bool,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<bool> {
        match chunk {
            Chunk::Range(chunk) => pair.load(&self.0, table, chunk, progress, stop).await,
            Chunk::Whole => pair.load_keyless(&self.0, table, target, progress, stop).await,
        }
    }

    /// However many chunks this run loaded: those of earlier runs are to be there, too.
    async fn is_whole(&self, (_, target): &mut Self::Pair, table: &Table, _chunks: u64) -> Result<bool> {
        if !chunks::is_keyed(table) {
            return link::in_time("cannot read a table's record", records::is_loaded(&self.0, target, table)).await;
        }
        let recorded =
            link::in_time("cannot read the records of chunks", records::chunks(&self.0, target, table)).await?;
        Ok(chunks::cover(&recorded))
    }

    async fn complete(&self, (_, target): &mut Self::Pair, table: &Table) -> Result<()> {
        if !chunks::is_keyed(table) {
            return Ok(());
        }
        link::in_time("cannot record a loaded table", records::set_loaded(&self.0, target, table)).await
    }
}

/// Loads the rows of tables whose start is recorded, and hands each table on when its last row is there.
pub async fn load(
    mysql: &Mysql,
    tables: Vec<Table>,
    loaded: mpsc::Sender<Table>,
    progress: &Arc<Progress>,
    stop: &CancellationToken,
) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    let cutter = tokio::try_join!(mysql.connect_source("copy cut"), mysql.connect_target("copy cut"))?;
    let workers = mysql.settings().copy_workers;
    copy::load(Loader(mysql.clone()), cutter, tables, workers, loaded, (progress, stop)).await
}

/// Builds the plain indexes of these tables.
async fn build(mysql: Mysql, archive: Arc<Archive>, tables: Vec<Table>, progress: Arc<Progress>) -> Result<()> {
    for table in &tables {
        progress.update(&title(table), |numbers| numbers.stage = Stage::Indexing);
    }
    let mut target = schema::connect(&mysql, "index").await?;
    for table in &tables {
        post_data::plain_indexes(&mysql, &mut target, &archive, table).await?;
        records::set_indexed(&mysql, &mut target, table).await?;
        progress.update(&title(table), |numbers| numbers.stage = Stage::Copied);
    }
    Ok(())
}
