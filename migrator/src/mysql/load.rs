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
use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::error::{Error, Kind, Result};
use crate::model::plan::{Plan, Table};
use crate::model::progress::{Progress, Stage};
use crate::mysql::client::failed;
use crate::mysql::heartbeat;
use crate::mysql::heartbeat::Signal;
use crate::mysql::load::chunks::Cutter;
use crate::mysql::load::range::ClusterPair;
use crate::mysql::records::{self, ChunkRecord};
use crate::mysql::rights::with_grants;
use crate::mysql::schema::archive::Archive;
use crate::mysql::schema::post_data;
use crate::mysql::sql::title;
use crate::mysql::{BinlogPosition, Mysql, follow, link, position, schema};

/// A chunk whose connection was lost is tried this often before the whole copy is.
const TRIES: u32 = 3;
/// Chunks that are cut ahead of the workers.
const CUT_AHEAD: usize = 64;
/// Chunks are recorded together, so many at a time, before any of them is loaded.
const RECORDED_TOGETHER: usize = 32;
/// How often the first position is read before the copy is tried again later.
const POSITION_TRIES: u32 = 5;
/// Tables below this size have their indexes built together, so many at a time.
const SMALL_BYTES: u64 = 16 << 20;
const BUILT_TOGETHER: usize = 50;

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
    let (loaded, to_build) = mpsc::channel(plan.tables.len().max(1));
    let mut to_load = Vec::new();
    for table in &plan.tables {
        match recorded.get(&(table.schema.clone(), table.name.clone())) {
            Some(record) if record.indexes => {}
            Some(record) if record.rows => {
                let _ = loaded.try_send(table.clone());
            }
            _ => to_load.push(table.clone()),
        }
    }
    let building = build(mysql, &archive, to_build, &progress, &stop);
    let loading = load(mysql, to_load, loaded, &progress, &stop);
    tokio::try_join!(Box::pin(loading), Box::pin(building))?;
    if stop.is_cancelled() {
        return Ok(());
    }
    // Chunks were read at different moments. What the stream brought until the last of them puts them together.
    let marker = format!("loaded-{:016x}", rand::random::<u64>());
    heartbeat::signal(&mut source, mysql.name(), Signal::Marker, &marker).await?;
    drop(source);
    if !Box::pin(follow::catch_up(mysql, plan, &marker, &progress, &stop)).await? {
        return Ok(());
    }
    Box::pin(post_data::rest(mysql, plan, &progress, &stop)).await
}

/// Loads tables anew that were loaded before, each as of one exact position; their indexes and constraints stay.
pub async fn again(mysql: &Mysql, tables: &[Table], progress: Arc<Progress>, stop: CancellationToken) -> Result<()> {
    let mut target = mysql.connect_target("copy").await?;
    let load = Load {
        mysql: mysql.clone(),
        tables: Vec::new(),
        left: Mutex::default(),
        progress: Arc::clone(&progress),
        stop,
    };
    let mut ends = None;
    for (index, table) in tables.iter().enumerate() {
        progress.update(&title(table), |numbers| numbers.stage = Stage::Copying);
        records::forget_chunks(mysql, &mut target, table).await?;
        let whole = Work::Whole(index);
        if !load_with_retries(&load, &mut ends, &mut target, table, &whole).await? {
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
        heartbeat::signal(source, mysql.name(), Signal::Marker, &barrier).await?;
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

/// What a worker does next.
enum Work {
    /// A chunk of the table of this number.
    Chunk(usize, ChunkRecord),
    /// All of the table of this number, which has no key.
    Whole(usize),
}

/// What is left of one table.
#[derive(Clone, Copy, Default)]
struct Left {
    chunks: usize,
    cut: bool,
}

/// What the workers share.
struct Load {
    mysql: Mysql,
    tables: Vec<Table>,
    left: Mutex<Vec<Left>>,
    progress: Arc<Progress>,
    stop: CancellationToken,
}

impl Load {
    /// Changes what is left of a table; tells whether that was its end.
    fn change(&self, index: usize, change: impl FnOnce(&mut Left)) -> bool {
        self.left.lock().get_mut(index).is_some_and(|left| {
            change(left);
            left.cut && left.chunks == 0
        })
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
    let left = vec![Left::default(); tables.len()];
    let load = Arc::new(Load {
        mysql: mysql.clone(),
        tables,
        left: Mutex::new(left),
        progress: Arc::clone(progress),
        stop: stop.clone(),
    });
    let (queue, work) = mpsc::channel(CUT_AHEAD);
    let work = Arc::new(Turn::new(work));
    let mut tasks = JoinSet::new();
    tasks.spawn(cut(Arc::clone(&load), queue, loaded.clone()));
    for _ in 0..mysql.settings().copy_workers.clamp(1, 64) {
        tasks.spawn(do_work(Arc::clone(&load), Arc::clone(&work), loaded.clone()));
    }
    drop((loaded, work));
    while let Some(ended) = tasks.join_next().await {
        finished(Some(ended))?;
    }
    Ok(())
}

/// Cuts the tables, the largest first, and records each chunk before a worker sees it.
async fn cut(load: Arc<Load>, queue: mpsc::Sender<Work>, loaded: mpsc::Sender<Table>) -> Result<()> {
    let mysql = &load.mysql;
    let mut source = mysql.connect_source("copy cut").await?;
    let mut target = mysql.connect_target("copy cut").await?;
    for (index, table) in load.tables.iter().enumerate() {
        if !chunks::is_keyed(table) {
            load.change(index, |left| *left = Left { chunks: 1, cut: true });
            if queue.send(Work::Whole(index)).await.is_err() {
                return Ok(());
            }
            continue;
        }
        let recorded = records::chunks(mysql, &mut target, table).await?;
        let mut cutter = Cutter::new(table, &recorded, mysql.settings());
        let mut ready: Vec<ChunkRecord> = recorded.into_iter().filter(|chunk| !chunk.loaded).collect();
        let mut more = true;
        while more {
            let mut new = Vec::new();
            while more && new.len() < RECORDED_TOGETHER {
                let next = cutter.next(&mut source);
                match link::in_time("cannot cut a table for the copy", next).await? {
                    Some(chunk) => new.push(chunk),
                    None => more = false,
                }
                // The first chunks of a table are not kept waiting for those that take a walk to find.
                if load.stop.is_cancelled() || queue.capacity() > CUT_AHEAD / 2 {
                    break;
                }
            }
            let recording = records::add_chunks(mysql, &mut target, table, &new);
            link::in_time("cannot record a chunk", recording).await?;
            ready.append(&mut new);
            for chunk in ready.drain(..) {
                load.change(index, |left| left.chunks += 1);
                if queue.send(Work::Chunk(index, chunk)).await.is_err() {
                    return Ok(());
                }
            }
            if load.stop.is_cancelled() {
                return Ok(());
            }
        }
        if load.change(index, |left| left.cut = true) {
            complete(&load, index, &mut target, &loaded).await?;
        }
    }
    Ok(())
}

async fn do_work(load: Arc<Load>, work: Arc<Turn<mpsc::Receiver<Work>>>, loaded: mpsc::Sender<Table>) -> Result<()> {
    let mut ends = None;
    let mut target = load.mysql.connect_target("copy records").await?;
    loop {
        let next = {
            let mut work = work.lock().await;
            tokio::select! {
                () = load.stop.cancelled() => None,
                next = work.recv() => next,
            }
        };
        let Some(next) = next else { return Ok(()) };
        let (Work::Chunk(index, _) | Work::Whole(index)) = next;
        let Some(table) = load.tables.get(index) else {
            return Ok(());
        };
        load.progress.update(&title(table), |numbers| numbers.stage = Stage::Copying);
        if !load_with_retries(&load, &mut ends, &mut target, table, &next).await? {
            return Ok(());
        }
        if load.change(index, |left| left.chunks -= 1) {
            complete(&load, index, &mut target, &loaded).await?;
        }
    }
}

/// Records that a table's rows are there, and has its indexes built.
async fn complete(load: &Load, index: usize, target: &mut Conn, loaded: &mpsc::Sender<Table>) -> Result<()> {
    let Some(table) = load.tables.get(index) else {
        return Ok(());
    };
    if chunks::is_keyed(table) {
        let recording = records::set_loaded(&load.mysql, target, table);
        link::in_time("cannot record a loaded table", recording).await?;
    }
    // Nobody builds any more only where another failure ends this load as well.
    let _ = loaded.send(table.clone()).await;
    Ok(())
}

async fn load_with_retries(
    load: &Load,
    kept: &mut Option<ClusterPair>,
    target: &mut Conn,
    table: &Table,
    work: &Work,
) -> Result<bool> {
    let (mysql, progress, stop) = (&load.mysql, &load.progress, &load.stop);
    let mut tries = 0;
    loop {
        if stop.is_cancelled() {
            return Ok(false);
        }
        let once = async {
            let mut ends = match kept.take() {
                Some(ends) => ends,
                None => ClusterPair::open(mysql).await?,
            };
            let complete = match work {
                Work::Chunk(_, chunk) => ends.load(mysql, table, chunk, progress, stop).await?,
                Work::Whole(_) => ends.load_keyless(mysql, table, target, progress, stop).await?,
            };
            // Ends that stopped halfway are still in the middle of a file.
            *kept = complete.then_some(ends);
            Ok(complete)
        };
        let failure: Error = match Box::pin(once).await {
            Ok(complete) => return Ok(complete),
            Err(failure) => failure,
        };
        tries += 1;
        if failure.kind() != Kind::Transient || tries == TRIES {
            return Err(failure);
        }
        tracing::warn!(%failure, "a chunk of the copy is tried again");
    }
}

async fn build(
    mysql: &Mysql,
    archive: &Arc<Archive>,
    mut to_build: mpsc::Receiver<Table>,
    progress: &Arc<Progress>,
    stop: &CancellationToken,
) -> Result<()> {
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    let at_once = mysql.settings().copy_workers.clamp(1, 16);
    while let Some(table) = to_build.recv().await {
        while tasks.len() >= at_once {
            finished(tasks.join_next().await)?;
        }
        if stop.is_cancelled() {
            break;
        }
        // Small tables share a session; a large one has its own.
        let mut tables = vec![table];
        while tables.len() < BUILT_TOGETHER && tables.iter().all(|table| table.bytes < SMALL_BYTES) {
            let Ok(table) = to_build.try_recv() else {
                break;
            };
            tables.push(table);
        }
        let (mysql, progress) = (mysql.clone(), Arc::clone(progress));
        let archive = Arc::clone(archive);
        tasks.spawn(async move {
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
        });
    }
    while let Some(ended) = tasks.join_next().await {
        finished(Some(ended))?;
    }
    Ok(())
}

fn finished(ended: Option<std::result::Result<Result<()>, tokio::task::JoinError>>) -> Result<()> {
    match ended {
        Some(Err(error)) => Err(Error::fatal("a worker of the copy ended").because(error)),
        Some(Ok(outcome)) => outcome,
        None => Ok(()),
    }
}
