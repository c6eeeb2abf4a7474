//! The bulk load: a queue of ranges shared by workers, and each table's indexes as soon as its rows are there.

pub mod range;
pub mod snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::copy::{self, Chunks, TableLoader};
use crate::error::Result;
use crate::model::plan::{Plan, Settings, Table};
use crate::model::progress::{Progress, Stage};
use crate::postgres::Postgres;
use crate::postgres::client::{as_replica, failed};
use crate::postgres::load::range::{Chunk, ClusterPair, Format, Range};
use crate::postgres::position::Lsn;
use crate::postgres::records;
use crate::postgres::schema::post_data::PostData;
use crate::postgres::sql::{relation, title};
use crate::records::left_to_load;

/// A big table is cut into this many ranges per worker, so that none waits long for the last one.
const RANGES_PER_WORKER: u64 = 4;
const RANGE_BYTES_MIN: u64 = 4 << 20;
const PAGE_BYTES: u64 = 8192;

/// Loads every table of the plan that is not loaded yet, then builds the rest of the schema.
pub async fn run(postgres: &Postgres, plan: &Plan, progress: Arc<Progress>, stop: CancellationToken) -> Result<()> {
    progress.expect(plan, title);
    let target = postgres.connect_target("copy").await?;
    records::install_records(&target).await?;
    crate::postgres::schema::archive::end_orphans(postgres, &target).await?;
    let recorded = records::tables(postgres, &target).await?;
    records::report(postgres, &target, plan, &progress).await?;
    let post_data = Arc::new(PostData::open(postgres, plan, &target).await?);
    let (to_load, loaded, to_build) = left_to_load(plan, &recorded);
    let nothing_loaded = to_load.len() == plan.tables.len();
    let workers = postgres.settings().copy_workers;
    let building = copy::build_loaded(to_build, workers, &stop, |tables| {
        build(postgres.clone(), Arc::clone(&post_data), tables, Arc::clone(&progress))
    });
    let loading = load(postgres, to_load, nothing_loaded, &target, loaded, (&progress, &stop));
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
    let loading = load(postgres, all, false, &target, loaded, (&progress, &stop));
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

/// Loads ranges of pages under one snapshot.
struct Loader {
    postgres: Postgres,
    /// The tables that travel as text.
    text: BTreeSet<(String, String)>,
    /// How many pages each table had when the snapshot was opened.
    pages: BTreeMap<(String, String), u64>,
    snapshot: String,
    valid_from: Lsn,
}

impl TableLoader for Loader {
    type Chunk = (i64, Range, Format);
    type Pair = ClusterPair;
    type Cutter = ();

    fn title(table: &Table) -> String {
        title(table)
    }

    async fn open(&self) -> Result<ClusterPair> {
        ClusterPair::open(&self.postgres, &self.snapshot).await
    }

    async fn cut(&self, (): &mut (), table: &Table, chunks: &Chunks<'_, Self>) -> Result<bool> {
        let name = (table.schema.clone(), table.name.clone());
        let format = if self.text.contains(&name) { Format::Text } else { Format::Binary };
        let ranges = cut(self.pages.get(&name).copied().unwrap_or_default(), self.postgres.settings());
        for (number, range) in (0_i64..).zip(ranges) {
            if !chunks.give((number, range, format)).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn load(
        &self,
        pair: &mut ClusterPair,
        table: &Table,
        (number, range, format): &Self::Chunk,
        again: bool,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<bool> {
        let (number, range, format) = (*number, range.clone(), *format);
        let chunk = Chunk { table, number, range, format, valid_from: self.valid_from };
        if again && pair.is_recorded(&self.postgres, &chunk).await? {
            return Ok(true);
        }
        pair.load(&self.postgres, &chunk, progress, stop).await
    }

    async fn is_whole(&self, pair: &mut ClusterPair, table: &Table, chunks: u64) -> Result<bool> {
        Ok(pair.recorded(&self.postgres, table, self.valid_from).await? == chunks)
    }

    async fn complete(&self, pair: &mut ClusterPair, table: &Table) -> Result<()> {
        pair.record_durably(&records::loaded(&self.postgres, table, self.valid_from)).await
    }
}

async fn load(
    postgres: &Postgres,
    tables: Vec<Table>,
    nothing_loaded: bool,
    target: &Client,
    loaded: mpsc::Sender<Table>,
    (progress, stop): (&Arc<Progress>, &CancellationToken),
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
    let text = needs_text(&source).await?;
    let mut pages = BTreeMap::new();
    for table in &tables {
        pages.insert((table.schema.clone(), table.name.clone()), range::pages(&source, table).await?);
    }
    let snapshot = held.snapshot.clone();
    let loader = Loader { postgres: postgres.clone(), text, pages, snapshot, valid_from: held.valid_from };
    let workers = postgres.settings().copy_workers;
    copy::load(loader, (), tables, workers, loaded, (progress, stop)).await
}

/// Records that these tables are loaded as of this position, and empties those that an earlier run left half full.
async fn begin(postgres: &Postgres, target: &Client, tables: &[Table], valid_from: Lsn) -> Result<()> {
    let recorded = records::tables(postgres, target).await?;
    records::begin_progress(postgres, target, valid_from).await?;
    let mut deleted = brought_along(target).await?;
    deleted.extend(referenced(target).await?);
    // A table that is loaded anew has its triggers already, but for where they are set aside.
    let replica = if as_replica(target).await? { "SET LOCAL session_replication_role = replica" } else { "" };
    for some in tables.chunks(100) {
        let mut batch = vec![format!("BEGIN; {replica}")];
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

/// Builds what comes after the rows of these tables.
async fn build(
    postgres: Postgres,
    post_data: Arc<PostData>,
    tables: Vec<Table>,
    progress: Arc<Progress>,
) -> Result<()> {
    for table in &tables {
        progress.update(&title(table), |numbers| numbers.stage = Stage::Indexing);
    }
    let target = postgres.connect_target("index").await?;
    post_data.build(&postgres, &tables, &target).await?;
    for table in &tables {
        progress.update(&title(table), |numbers| numbers.stage = Stage::Copied);
    }
    Ok(())
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
fn cut(pages: u64, settings: &Settings) -> Vec<Range> {
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
