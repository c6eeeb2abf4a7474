//! Loads rows: one SELECT on the source, piped into LOAD DATA within one transaction on the target.

mod insert_fallback;
mod refused;

use insert_fallback::Apart;
use mysql_async::Conn;
use protocol::error::Malformed;
use protocol::mysql::frame::HEADER_BYTES;
use tokio_util::sync::CancellationToken;

use super::chunks::condition;
use super::rows;
use super::rows::{Counts, ValueFormat};
use super::snapshot;
use crate::copy::behind;
use crate::error::{Error, Result};
use crate::model::plan::Table;
use crate::model::progress::Progress;
use crate::mysql::client::Version;
use crate::mysql::limits::TransactionLimit;
use crate::mysql::link;
use crate::mysql::link::{Done, Link};
use crate::mysql::records;
use crate::mysql::records::ChunkRecord;
use crate::mysql::sql::{relation, title};
use crate::mysql::{BinlogPosition, Mysql, client, position};

/// Bytes per packet to the target: large enough that its cost is in the rows.
const BATCH_BYTES: usize = 128 << 10;
/// A table without a key is committed in pieces of so many chunks, so that a target's binary log need not hold all of
/// it at once.
const CHUNKS_PER_PIECE: u64 = 16;
/// MariaDB makes room for a file's value in steps of some kilobytes and copies it each time: longer rows go apart.
const FILE_ROW_BYTES_MAX: usize = 4 << 20;

/// The two ends of one worker.
pub struct ClusterPair {
    source: Link,
    target: Link,
    /// Asks the source for its position.
    asking: Conn,
    target_is_mariadb: bool,
    /// Whether the target takes files; where it does not, rows go in INSERTs.
    files: bool,
    /// The longest INSERT that the target takes.
    statement_bytes: usize,
    /// What the target takes in one transaction.
    limit: TransactionLimit,
}

impl ClusterPair {
    /// Opens both ends.
    pub async fn open(mysql: &Mysql) -> Result<Self> {
        let purpose = mysql.purpose("copy");
        let (mut source, mut target, mut asking, limit) = tokio::try_join!(
            link::open(mysql.source(), &purpose),
            link::open(mysql.target(), &purpose),
            mysql.connect_source("copy position"),
            async { TransactionLimit::of(&mut mysql.connect_target("copy limits").await?).await },
        )?;
        source.execute(snapshot::ISOLATION, "cannot prepare the source for the copy").await?;
        let what = "cannot prepare the target for the load";
        target.execute("SET SESSION unique_checks = 0, foreign_key_checks = 0", what).await?;
        let reported = target.rows("SELECT VERSION(), @@local_infile, @@max_allowed_packet", what).await?;
        let text = |at: usize| {
            let cell = reported.first()?.get(at)?.as_ref()?;
            String::from_utf8(cell.to_vec()).ok()
        };
        let version = text(0)
            .and_then(|text| Version::parse(&text))
            .ok_or_else(|| Error::fatal("the target does not tell its version"))?;
        let unlimited = client::version(&mut asking).await?;
        unlimit(&mut source, unlimited).await?;
        unlimit(&mut target, version).await?;
        Ok(Self {
            source,
            target,
            asking,
            target_is_mariadb: version.is_mariadb(),
            files: text(1).as_deref() == Some("1"),
            limit,
            statement_bytes: text(2).and_then(|text| text.parse().ok()).unwrap_or(1 << 20),
        })
    }

    fn ways(&self, table: &Table) -> Vec<ValueFormat> {
        table.columns.iter().map(|column| ValueFormat::of(&column.kind, self.target_is_mariadb)).collect()
    }

    /// Loads a chunk and records it, in one transaction; finds nothing to do where that was done. `false` when
    /// `stop` came first: then nothing is loaded.
    pub async fn load(
        &mut self,
        mysql: &Mysql,
        table: &Table,
        chunk: &ChunkRecord,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<bool> {
        let place = refused::place(chunk);
        let writing = format!("cannot load {}{place} on the target", title(table));
        let reading = format!("cannot read {} on the source", title(table));
        // The record's lock also waits for a transaction of a run that was killed and whose end is not known.
        self.target.execute("BEGIN", &writing).await?;
        let lock = records::lock_chunk(mysql, table, chunk.number);
        let state = self.target.rows(&lock, &writing).await?;
        match state.first().and_then(|row| row.first()?.as_deref()) {
            Some(b"0") => {}
            Some(_) => {
                self.target.execute("ROLLBACK", &writing).await?;
                return Ok(true);
            }
            None => {
                return Err(behind(&title(table)));
            }
        }
        // Everything before this position was committed before the snapshot opens.
        let asked = position::current(&mut self.asking);
        let position = link::in_time(&reading, asked).await?;
        self.source.execute(snapshot::BEGIN, &reading).await?;
        let ways = self.ways(table);
        let read =
            format!("SELECT {} FROM {}{}", rows::selected(table, &ways), relation(table), condition(table, chunk));
        let columns = self.source.begin_rows(&read, &reading).await?;
        let mut pipe = Pipe { ends: self, table, ways: &ways, columns, progress, stop };
        let Some((counts, _)) = pipe.run(&writing, u64::MAX).await? else {
            return Ok(false);
        };
        self.source.execute("COMMIT", &reading).await?;
        let record = records::chunk_loaded(mysql, table, chunk.number, &position, counts.rows, counts.bytes)?;
        self.record(&record, &writing).await?;
        self.target.execute("COMMIT", &writing).await?;
        progress.update(&title(table), |numbers| numbers.rows_copied += counts.rows);
        Ok(true)
    }

    /// Loads a whole table, exactly as of one position: one without a key, or one that is loaded anew. `false` when `stop` came first: then it is to be
    /// loaded again.
    pub async fn load_keyless(
        &mut self,
        mysql: &Mysql,
        table: &Table,
        target: &mut Conn,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<bool> {
        let writing = format!("cannot load {} on the target", title(table));
        let reading = format!("cannot read {} on the source", title(table));
        let what = reading.clone();
        let begun = async {
            self.source.execute(snapshot::BEGIN, &what).await?;
            Ok(())
        };
        let one = std::slice::from_ref(table);
        let Some((valid_from, ())) = snapshot::while_locked(mysql, one, stop, begun).await? else {
            return Ok(false);
        };
        self.begin_keyless(mysql, table, target, &valid_from).await?;
        let lock = records::lock_table(mysql, table);
        let ways = self.ways(table);
        let read = format!("SELECT {} FROM {}", rows::selected(table, &ways), relation(table));
        let columns = self.source.begin_rows(&read, &reading).await?;
        let piece_bytes = self.limit.batch_bytes(mysql.settings().copy_chunk_bytes * CHUNKS_PER_PIECE);
        let mut total = Counts::default();
        loop {
            self.target.execute("BEGIN", &writing).await?;
            self.target.rows(&lock, &writing).await?;
            let mut pipe = Pipe { ends: self, table, ways: &ways, columns, progress, stop };
            let Some((counts, more)) = pipe.run(&writing, piece_bytes).await? else {
                return Ok(false);
            };
            total.rows += counts.rows;
            total.bytes += counts.bytes;
            if !more {
                let sum = records::whole_loaded(mysql, table, &valid_from, total.rows, total.bytes)?;
                self.target.execute(&sum, &writing).await?;
                self.record(&records::loaded(mysql, table), &writing).await?;
            }
            self.target.execute("COMMIT", &writing).await?;
            progress.update(&title(table), |numbers| numbers.rows_copied += counts.rows);
            if !more {
                break;
            }
        }
        self.source.execute("COMMIT", &reading).await?;
        Ok(true)
    }

    /// Empties the table of what an earlier run left, and records as of when it is loaded.
    async fn begin_keyless(
        &mut self,
        mysql: &Mysql,
        table: &Table,
        target: &mut Conn,
        valid_from: &BinlogPosition,
    ) -> Result<()> {
        let recorded = records::tables(mysql, target).await?;
        if recorded.contains_key(&(table.schema.clone(), table.name.clone())) {
            let what = format!("cannot empty {} on the target", title(table));
            self.target.execute(&format!("TRUNCATE TABLE {}", relation(table)), &what).await?;
        }
        records::begin_keyless(mysql, target, table, valid_from).await
    }

    /// Writes a record that must hit exactly one row.
    async fn record(&mut self, statement: &str, what: &str) -> Result<()> {
        let done = self.target.execute(statement, what).await?;
        if done.affected == 1 {
            Ok(())
        } else {
            Err(Error::transient(format!("{what}: another run of this migration changed its records")))
        }
    }
}

/// Rows on their way from a SELECT that has begun.
struct Pipe<'a> {
    ends: &'a mut ClusterPair,
    table: &'a Table,
    ways: &'a [ValueFormat],
    columns: usize,
    progress: &'a Progress,
    stop: &'a CancellationToken,
}

impl Pipe<'_> {
    /// Loads rows until they end, or about `bytes_max` were loaded; then says that there are more. `None` when `stop`
    /// came first: the connections are of no further use then.
    async fn run(&mut self, writing: &str, bytes_max: u64) -> Result<Option<(Counts, bool)>> {
        if self.columns != self.ways.len() {
            return Err(Error::fatal(format!("{} has other columns than the plan says", title(self.table))));
        }
        if self.ends.files { self.by_file(writing, bytes_max).await } else { self.by_inserts(writing, bytes_max).await }
    }

    async fn by_file(&mut self, writing: &str, bytes_max: u64) -> Result<Option<(Counts, bool)>> {
        let mut total = Counts::default();
        loop {
            let Some((counts, more)) = self.one_file(writing, bytes_max - total.bytes).await? else {
                return Ok(None);
            };
            total.rows += counts.rows;
            total.bytes += counts.bytes;
            if !more || total.bytes >= bytes_max {
                return Ok(Some((total, more)));
            }
        }
    }

    /// One file, which ends before its time where many rows do not fit into files.
    async fn one_file(&mut self, writing: &str, bytes_max: u64) -> Result<Option<(Counts, bool)>> {
        let reading = format!("cannot read {} on the source", title(self.table));
        let statement = rows::load_statement(self.table, self.ways);
        self.ends.target.begin_file(&statement, writing).await?;
        let mut batch = Vec::with_capacity(BATCH_BYTES * 2);
        batch.resize(HEADER_BYTES, 0);
        let mut counts = Counts::default();
        let mut apart = Apart::of(self.table);
        let apart_max = (self.ends.statement_bytes / 4).min(BATCH_BYTES * 4);
        // A row may double on its way, and the target has its limit.
        let large_from = if self.ends.target_is_mariadb { FILE_ROW_BYTES_MAX } else { usize::MAX };
        let large_to = (self.ends.statement_bytes / 2).saturating_sub(1 << 16);
        let mut more = true;
        while more && counts.bytes < bytes_max && apart.statement.len() < apart_max {
            let ways = self.ways;
            more = self
                .ends
                .source
                .some_rows(&reading, BATCH_BYTES, |row| {
                    let large = row.len() > large_from && row.len() < large_to;
                    if large || rows::needs_expression(row, ways).map_err(torn)? {
                        apart.put(row, ways).map_err(torn)?;
                        return Ok(batch.len() + apart.statement.len());
                    }
                    counts.without_label += rows::put_row(row, ways, &mut batch).map_err(torn)?;
                    counts.rows += 1;
                    Ok(batch.len())
                })
                .await?;
            if batch.len() >= BATCH_BYTES || !more {
                let bytes = (batch.len() - HEADER_BYTES) as u64;
                self.ends.target.file(&mut batch).await?;
                self.count(&mut counts, bytes);
                if self.stop.is_cancelled() {
                    return Ok(None);
                }
            }
        }
        let bytes = (batch.len() - HEADER_BYTES) as u64;
        self.ends.target.file(&mut batch).await?;
        self.count(&mut counts, bytes);
        let done = self.ends.target.end_file(writing).await?;
        self.judge(&done, counts, writing).await?;
        if apart.counts.rows > 0 {
            let target = &mut self.ends.target;
            let done = target.execute_bytes(&apart.statement, writing).await?;
            self.judge(&done, apart.counts, writing).await?;
            counts.rows += apart.counts.rows;
            self.count(&mut counts, apart.statement.len() as u64);
        }
        Ok(Some((counts, more)))
    }

    async fn by_inserts(&mut self, writing: &str, bytes_max: u64) -> Result<Option<(Counts, bool)>> {
        let reading = format!("cannot read {} on the source", title(self.table));
        let begin = rows::insert_statement(self.table).into_bytes();
        let mut total = Counts::default();
        // A row may double on its way; beyond that the server says itself that its limit is too low.
        let limit = (self.ends.statement_bytes / 4).min(BATCH_BYTES * 4);
        let mut statement = begin.clone();
        let mut counts = Counts::default();
        let mut more = true;
        while more {
            let (ways, start) = (self.ways, begin.len());
            more = self
                .ends
                .source
                .some_rows(&reading, limit, |row| {
                    if statement.len() > start {
                        statement.push(b',');
                    }
                    counts.without_label += rows::put_values(row, ways, &mut statement).map_err(torn)?;
                    counts.rows += 1;
                    Ok(statement.len())
                })
                .await?;
            if counts.rows > 0 && (statement.len() >= limit || !more) {
                let done = self.ends.target.execute_bytes(&statement, writing).await?;
                self.judge(&done, counts, writing).await?;
                let bytes = (statement.len() - start) as u64;
                self.count(&mut total, bytes);
                total.rows += counts.rows;
                counts = Counts::default();
                statement.truncate(start);
                if self.stop.is_cancelled() {
                    return Ok(None);
                }
                if total.bytes >= bytes_max {
                    break;
                }
            }
        }
        Ok(Some((total, more)))
    }

    fn count(&self, counts: &mut Counts, bytes: u64) {
        counts.bytes += bytes;
        self.progress.update(&title(self.table), |numbers| {
            numbers.bytes_copied += bytes;
        });
    }

    /// LOAD DATA LOCAL turns every failure of a row into a warning: each must be explained, and every row be there.
    async fn judge(&mut self, done: &Done, counts: Counts, writing: &str) -> Result<()> {
        if done.affected != counts.rows {
            return Err(Error::fatal(format!(
                "{writing}: {} rows were sent and {} are there{}",
                counts.rows,
                done.affected,
                self.first_warning().await
            ))
            .remedy(
                "see who else writes to the target's table, then start the migration again: it loads what is not there",
            ));
        }
        if done.warnings == 0 {
            return Ok(());
        }
        let count = "SHOW COUNT(*) WARNINGS";
        let reported = self.ends.target.rows(count, writing).await?;
        let warnings = reported
            .first()
            .and_then(|row| std::str::from_utf8(row.first()?.as_deref()?).ok()?.parse().ok())
            .unwrap_or(u64::MAX);
        if warnings <= counts.without_label {
            return Ok(());
        }
        Err(Error::fatal(format!(
            "{writing}: the target does not take {} of {} rows as they are{}",
            warnings - counts.without_label,
            counts.rows,
            self.first_warning().await
        ))
        .remedy("compare the table's definitions and the servers' settings on both sides"))
    }

    /// The first warning, without what it quotes of a row.
    async fn first_warning(&mut self) -> String {
        let what = "cannot read the target's warnings";
        let reported = self.ends.target.rows("SHOW WARNINGS LIMIT 1", what).await;
        let Some(row) = reported.ok().and_then(|rows| rows.into_iter().next()) else {
            return String::new();
        };
        let text = |at: usize| {
            let cell = row.get(at).and_then(|cell| cell.as_deref());
            String::from_utf8_lossy(cell.unwrap_or_default()).into_owned()
        };
        refused::warning(&text(1), &text(2))
    }
}

/// Lifts what a server may be set to end long statements by.
async fn unlimit(link: &mut Link, version: Version) -> Result<()> {
    let statement = if version.is_mariadb() {
        "SET SESSION max_statement_time = 0"
    } else if version.is_mysql_from(5, 7, 8) {
        "SET SESSION max_execution_time = 0"
    } else {
        return Ok(());
    };
    let what = "cannot lift a limit on long statements";
    link.execute(statement, what).await.map(|_| ())
}

fn torn(_: Malformed) -> Error {
    Error::fatal("the source sent a row whose lengths do not add up")
}
