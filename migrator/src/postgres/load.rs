//! The bulk load: a queue of ranges shared by workers, and each table's indexes as soon as its rows are there.

pub mod range;
pub mod snapshot;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Kind, Result};
use crate::model::plan::{Plan, Table};
use crate::model::progress::{Progress, Stage};
use crate::postgres::Postgres;
use crate::postgres::client::failed;
use crate::postgres::load::range::{Chunk, ClusterPair, Format, Range};
use crate::postgres::position::Lsn;
use crate::postgres::records;
use crate::postgres::schema::post_data::PostData;
use crate::postgres::sql::{relation, title};

/// A big table is cut into this many ranges per worker, so that none waits long for the last one.
const RANGES_PER_WORKER: u64 = 4;
const RANGE_BYTES_MIN: u64 = 4 << 20;
const PAGE_BYTES: u64 = 8192;
/// Tables below this size have their indexes built together, so many at a time.
const SMALL_BYTES: u64 = 16 << 20;
const BUILT_TOGETHER: usize = 50;
/// A range whose connection was lost is tried this often while the snapshot lives.
const TRIES: u32 = 3;

/// Loads every table of the plan that is not loaded yet, then builds the rest of the schema.
pub async fn run(postgres: &Postgres, plan: &Plan, progress: Arc<Progress>, stop: CancellationToken) -> Result<()> {
    progress.expect(plan, title);
    let target = postgres.connect_target("copy").await?;
    records::install_records(&target).await?;
    crate::postgres::schema::archive::end_orphans(postgres, &target).await?;
    let recorded = records::tables(postgres, &target).await?;
    records::report(postgres, &target, plan, &progress).await?;
    let post_data = Arc::new(PostData::open(postgres, plan, &target).await?);
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
    let nothing_loaded = to_load.len() == plan.tables.len();
    let building = build(postgres, &post_data, to_build, &progress, &stop);
    let loading = load(postgres, to_load, nothing_loaded, &target, loaded, &progress, &stop);
    tokio::try_join!(Box::pin(loading), Box::pin(building))?;
    if stop.is_cancelled() {
        return Ok(());
    }
    post_data.finish(postgres, &target).await
}

/// Loads tables anew that were loaded before, under a snapshot of their own; their indexes and constraints stay.
pub async fn again(
    postgres: &Postgres,
    tables: &[Table],
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<()> {
    let target = postgres.connect_target("copy").await?;
    crate::postgres::schema::archive::end_orphans(postgres, &target).await?;
    // Nobody takes them from here: there is room for all.
    let (loaded, _kept) = mpsc::channel(tables.len().max(1));
    let all = tables.to_vec();
    let loading = load(postgres, all, false, &target, loaded, &progress, &stop);
    Box::pin(loading).await?;
    if stop.is_cancelled() {
        return Ok(());
    }
    for table in tables {
        let built = records::indexed(postgres, table);
        target
            .batch_execute(&built)
            .await
            .map_err(|error| failed("cannot record a loaded table on the target", error))?;
        progress.update(&title(table), |numbers| numbers.stage = Stage::Copied);
    }
    Ok(())
}

/// What the workers share.
struct Load {
    postgres: Postgres,
    tables: Vec<Table>,
    formats: Vec<Format>,
    queue: Mutex<VecDeque<(usize, i64, Range)>>,
    /// Ranges of each table that are not loaded yet.
    remaining: Mutex<Vec<usize>>,
    snapshot: String,
    valid_from: Lsn,
    progress: Arc<Progress>,
    stop: CancellationToken,
}

async fn load(
    postgres: &Postgres,
    tables: Vec<Table>,
    nothing_loaded: bool,
    target: &Client,
    loaded: mpsc::Sender<Table>,
    progress: &Arc<Progress>,
    stop: &CancellationToken,
) -> Result<()> {
    let source = postgres.connect_source("copy").await?;
    // The slot is made even where there is no table: the stream starts there.
    if tables.is_empty() && !nothing_loaded {
        return Ok(());
    }
    let Some(held) = snapshot::open(postgres, &source, nothing_loaded, stop).await? else {
        return Ok(());
    };
    begin(postgres, target, &tables, held.valid_from).await?;
    let ends = ClusterPair::open(postgres, &held.snapshot).await?;
    let text = needs_text(&source).await?;
    let (mut queue, mut remaining, mut formats) = (VecDeque::new(), Vec::new(), Vec::new());
    for (index, table) in tables.iter().enumerate() {
        let ranges = cut(ends.pages(table).await?, postgres);
        remaining.push(ranges.len());
        for (number, range) in (0_i64..).zip(ranges) {
            queue.push_back((index, number, range));
        }
        let binary = !text.contains(&(table.schema.clone(), table.name.clone()));
        formats.push(if binary { Format::Binary } else { Format::Text });
    }
    let workers = postgres.settings().copy_workers.clamp(1, 64).min(queue.len().max(1));
    let load = Arc::new(Load {
        postgres: postgres.clone(),
        tables,
        formats,
        queue: Mutex::new(queue),
        remaining: Mutex::new(remaining),
        snapshot: held.snapshot.clone(),
        valid_from: held.valid_from,
        progress: Arc::clone(progress),
        stop: stop.clone(),
    });
    let mut tasks = JoinSet::new();
    let mut first = Some(ends);
    for _ in 0..workers {
        tasks.spawn(work(Arc::clone(&load), first.take(), loaded.clone()));
    }
    drop(loaded);
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| Error::fatal("a copy worker ended").because(error))??;
    }
    Ok(())
}

/// Records that these tables are loaded as of this position, and empties those that an earlier run left half full.
async fn begin(postgres: &Postgres, target: &Client, tables: &[Table], valid_from: Lsn) -> Result<()> {
    let recorded = records::tables(postgres, target).await?;
    records::begin_progress(postgres, target, valid_from).await?;
    let mut deleted = brought_along(target).await?;
    deleted.extend(referenced(target).await?);
    for some in tables.chunks(100) {
        // A table that is loaded anew has its triggers already.
        let mut batch = vec!["BEGIN; SET LOCAL session_replication_role = replica".to_owned()];
        for table in some {
            if deleted.contains(&relation(table)) {
                batch.push(format!("DELETE FROM ONLY {}", relation(table)));
            } else if recorded.contains_key(&(table.schema.clone(), table.name.clone())) {
                batch.push(format!("TRUNCATE ONLY {}", relation(table)));
            }
            batch.push(records::begin_table(postgres, table, valid_from));
        }
        batch.push("COMMIT".to_owned());
        target
            .batch_execute(&batch.join(";\n"))
            .await
            .map_err(|error| failed("cannot record the start of the load on the target", error))?;
    }
    Ok(())
}

/// The quoted names of tables that an extension has filled on the target already: the source's rows replace these.
async fn brought_along(target: &Client) -> Result<Vec<String>> {
    target
        .query(
            "SELECT '\"' || replace(n.nspname, '\"', '\"\"') || '\".\"' || replace(c.relname, '\"', '\"\"') || '\"'
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_depend d
                 WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')",
            &[],
        )
        .await
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
        .map_err(|error| failed("cannot read what extensions brought to the target", error))
}

/// The quoted names of tables that foreign keys refer to: the server refuses to truncate these.
async fn referenced(target: &Client) -> Result<Vec<String>> {
    target
        .query(
            "SELECT '\"' || replace(n.nspname, '\"', '\"\"') || '\".\"' || replace(c.relname, '\"', '\"\"') || '\"'
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_constraint k
                 WHERE k.contype = 'f' AND (k.confrelid = c.oid
                     OR c.relispartition AND k.confrelid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors(c.oid))))",
            &[],
        )
        .await
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
        .map_err(|error| failed("cannot read the target's foreign keys", error))
}

async fn work(load: Arc<Load>, ends: Option<ClusterPair>, loaded: mpsc::Sender<Table>) -> Result<()> {
    let mut ends = match ends {
        Some(ends) => ends,
        None => ClusterPair::open(&load.postgres, &load.snapshot).await?,
    };
    loop {
        let next = load.queue.lock().pop_front();
        let Some((index, number, range)) = next else {
            return Ok(());
        };
        let (Some(table), Some(format)) = (load.tables.get(index), load.formats.get(index)) else {
            return Ok(());
        };
        let chunk = Chunk { table, number, range, format: *format, valid_from: load.valid_from };
        load.progress.update(&title(table), |numbers| numbers.stage = Stage::Copying);
        if !load_with_retries(&load, &mut ends, &chunk).await? {
            return Ok(());
        }
        let left = load.remaining.lock().get_mut(index).map_or(0, |left| {
            *left -= 1;
            *left
        });
        if left == 0 {
            ends.record_durably(&records::loaded(&load.postgres, table, load.valid_from)).await?;
            // Nobody builds any more only where another failure ends this load as well.
            let _ = loaded.send(table.clone()).await;
        }
    }
}

async fn load_with_retries(load: &Load, ends: &mut ClusterPair, chunk: &Chunk<'_>) -> Result<bool> {
    let mut tries = 0;
    loop {
        if load.stop.is_cancelled() {
            return Ok(false);
        }
        let failure = match ends.load(&load.postgres, chunk, &load.progress, &load.stop).await {
            Ok(complete) => return Ok(complete),
            Err(failure) => failure,
        };
        tries += 1;
        if failure.kind() != Kind::Transient || tries == TRIES {
            return Err(failure);
        }
        tracing::warn!(%failure, "a range of the copy is tried again");
        *ends = ClusterPair::open(&load.postgres, &load.snapshot).await?;
        if ends.is_recorded(&load.postgres, chunk).await? {
            return Ok(true);
        }
    }
}

async fn build(
    postgres: &Postgres,
    post_data: &Arc<PostData>,
    mut to_build: mpsc::Receiver<Table>,
    progress: &Arc<Progress>,
    stop: &CancellationToken,
) -> Result<()> {
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    let at_once = postgres.settings().copy_workers.clamp(1, 16);
    while let Some(table) = to_build.recv().await {
        while tasks.len() >= at_once {
            finished(tasks.join_next().await)?;
        }
        if stop.is_cancelled() {
            break;
        }
        // Small tables share a run of the program; a large one has its own.
        let mut tables = vec![table];
        while tables.len() < BUILT_TOGETHER && tables.iter().all(|table| table.bytes < SMALL_BYTES) {
            let Ok(table) = to_build.try_recv() else {
                break;
            };
            tables.push(table);
        }
        let (postgres, post_data, progress) = (postgres.clone(), Arc::clone(post_data), Arc::clone(progress));
        tasks.spawn(async move {
            for table in &tables {
                progress.update(&title(table), |numbers| numbers.stage = Stage::Indexing);
            }
            let target = postgres.connect_target("index").await?;
            post_data.build(&postgres, &tables, &target).await?;
            for table in &tables {
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
        Some(Err(error)) => Err(Error::fatal("an index worker ended").because(error)),
        Some(Ok(outcome)) => outcome,
        None => Ok(()),
    }
}

/// The tables whose binary form would carry type numbers of the source, or has no binary form.
async fn needs_text(source: &Client) -> Result<BTreeSet<(String, String)>> {
    let rows = source
        .query(
            "WITH RECURSIVE bases (type, base) AS (
                 SELECT oid, oid FROM pg_catalog.pg_type
                 UNION SELECT b.type, t.typbasetype FROM bases b
                 JOIN pg_catalog.pg_type t ON t.oid = b.base WHERE t.typtype = 'd'),
             apart AS (
                 SELECT b.type FROM bases b JOIN pg_catalog.pg_type t ON t.oid = b.base
                 WHERE t.typtype NOT IN ('d', 'e') AND (t.oid >= 16384 OR t.typtype = 'c'
                     OR t.typsend = 0 OR t.typreceive = 0 OR t.typname ~ '^_?reg'))
             SELECT DISTINCT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             LEFT JOIN pg_catalog.pg_attribute a
                 ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
             WHERE c.relkind = 'r' AND (a.attrelid IS NULL OR a.atttypid IN (SELECT type FROM apart))",
            &[],
        )
        .await
        .map_err(|error| failed("cannot read the source's types", error))?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| failed("cannot read the source's types", error))
}

/// Cuts a table of so many pages; the last range is open, for pages that came since.
fn cut(pages: u64, postgres: &Postgres) -> Vec<Range> {
    let settings = postgres.settings();
    let workers = settings.copy_workers.clamp(1, 64) as u64;
    let even = pages * PAGE_BYTES / (workers * RANGES_PER_WORKER);
    let bytes = even.clamp(RANGE_BYTES_MIN, settings.copy_chunk_bytes.max(RANGE_BYTES_MIN));
    let step = (bytes / PAGE_BYTES).max(1);
    let count = pages.div_ceil(step).max(1);
    (0..count)
        .map(|number| {
            let lo = number * step;
            Range { lo, hi: (number + 1 < count).then_some(lo + step) }
        })
        .collect()
}
