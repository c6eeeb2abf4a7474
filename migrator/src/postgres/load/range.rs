//! Loads one range of one table: raw COPY bytes from the source's snapshot into one transaction on the target.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, CopyInSink};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::model::plan::Table;
use crate::model::progress::Progress;
use crate::postgres::Postgres;
use crate::postgres::client::{as_replica, failed};
use crate::postgres::position::Lsn;
use crate::postgres::sql::{quote_ident, quote_literal, relation, title};

/// Bytes per message to the target: large enough that its cost is in the rows.
const BATCH_BYTES: usize = 256 << 10;
const ROWS_AT_ONCE: usize = 4096;
/// A server answers, gives the next bytes of a range or takes them within this, or the connection is taken for dead.
const STALL: Duration = Duration::from_mins(5);

/// How the bytes of a table travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As the server keeps them.
    Binary,
    /// As text, where the binary form names types by numbers that differ on the target.
    Text,
}

/// A range of a table's pages; `hi` is the first page that is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first page.
    pub lo: u64,
    /// The page to stop before; `None` for the rest of the table.
    pub hi: Option<u64>,
}

impl Range {
    fn condition(&self) -> String {
        match (self.lo, self.hi) {
            (0, None) => String::new(),
            (lo, None) => format!(" WHERE ctid >= '({lo},0)'"),
            (lo, Some(hi)) => format!(" WHERE ctid >= '({lo},0)' AND ctid < '({hi},0)'"),
        }
    }
}

/// One range of one table as of one snapshot.
pub struct Chunk<'a> {
    /// The table.
    pub table: &'a Table,
    /// The range's number within the table.
    pub number: i64,
    /// The pages.
    pub range: Range,
    /// How the bytes travel.
    pub format: Format,
    /// The snapshot's position.
    pub valid_from: Lsn,
}

/// The two ends of one worker.
pub struct ClusterPair {
    source: Client,
    target: Client,
}

impl ClusterPair {
    /// Opens both: the source in the shared snapshot, the target without triggers and without waiting for the disk
    /// at each commit (the record that a table is loaded waits for all of them).
    pub async fn open(postgres: &Postgres, snapshot: &str) -> Result<Self> {
        let (source, target) = tokio::try_join!(postgres.connect_source("copy"), postgres.connect_target("copy"))?;
        let begin = format!(
            "SET jit = off; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            quote_literal(snapshot)
        );
        moving("a snapshot", source.batch_execute(&begin)).await?.map_err(|error| {
            snapshot_gone(&error).unwrap_or_else(|| failed("cannot read the source in the shared snapshot", error))
        })?;
        moving("the settings", target.batch_execute("SET synchronous_commit = off"))
            .await?
            .map_err(|error| failed("cannot prepare the load on the target", error))?;
        // Where it may not, nothing that would fire is there yet, or any more.
        moving("the settings", as_replica(&target)).await??;
        Ok(Self { source, target })
    }

    /// Whether the chunk's transaction was committed, for when its reply was lost.
    pub async fn is_recorded(&self, postgres: &Postgres, chunk: &Chunk<'_>) -> Result<bool> {
        let (migration, valid_from) = (postgres.key(), chunk.valid_from.to_string());
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&migration, &chunk.table.schema, &chunk.table.name, &chunk.number, &valid_from];
        let asked = self.target.query_opt(
            "SELECT FROM headgate.chunks WHERE migration = $1 AND table_schema = $2 AND table_name = $3
             AND chunk = $4 AND valid_from = $5::text::pg_lsn",
            &parameters,
        );
        let row = moving(&title(chunk.table), asked)
            .await?
            .map_err(|error| failed("cannot read Headgate's records on the target", error))?;
        Ok(row.is_some())
    }

    /// How many chunks of a table are recorded as loaded as of that position; none where the table's own record is gone.
    pub async fn recorded(&self, postgres: &Postgres, table: &Table, valid_from: Lsn) -> Result<u64> {
        let (migration, valid_from) = (postgres.key(), valid_from.to_string());
        let parameters: [&(dyn ToSql + Sync); 4] = [&migration, &table.schema, &table.name, &valid_from];
        let asked = self.target.query_one(
            "SELECT count(*) FROM headgate.tables JOIN headgate.chunks USING (migration, table_schema, table_name, valid_from)
             WHERE migration = $1 AND table_schema = $2 AND table_name = $3 AND valid_from = $4::text::pg_lsn",
            &parameters,
        );
        let counted = moving(&title(table), asked).await?.and_then(|row| row.try_get::<_, i64>(0));
        let counted = counted.map_err(|error| failed("cannot read Headgate's records on the target", error))?;
        Ok(counted.try_into().unwrap_or(0))
    }

    /// Runs statements on the target and waits until all that was loaded before is on its disk.
    pub async fn record_durably(&self, statement: &str) -> Result<()> {
        let durably = format!("BEGIN; SET LOCAL synchronous_commit = on; {statement}; COMMIT");
        moving("a table's record", self.target.batch_execute(&durably))
            .await?
            .map_err(|error| failed("cannot record a loaded table on the target", error))
    }

    /// Loads the chunk and records it, in one transaction. `false` when `stop` came first: then nothing is loaded.
    pub async fn load(
        &self,
        postgres: &Postgres,
        chunk: &Chunk<'_>,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<bool> {
        let title = title(chunk.table);
        let reading = |error| failed(&format!("cannot read {title} on the source"), error);
        let writing = |error| failed(&format!("cannot load {title} on the target"), error);
        let (read, write) = statements(chunk);
        moving(&title, self.target.batch_execute("BEGIN")).await?.map_err(writing)?;
        let (rows_out, sink) = tokio::join!(
            moving(&title, self.source.copy_out(read.as_str())),
            moving(&title, self.target.copy_in::<_, Bytes>(write.as_str()))
        );
        let mut rows_out = pin!(rows_out?.map_err(reading)?.ready_chunks(ROWS_AT_ONCE));
        let mut sink = Box::pin(sink?.map_err(writing)?);
        let mut batch = BytesMut::with_capacity(BATCH_BYTES * 2);
        let mut bytes = 0_u64;
        while let Some(rows) = moving(&title, rows_out.next()).await? {
            for row in rows {
                batch.extend_from_slice(&row.map_err(reading)?);
            }
            if batch.len() < BATCH_BYTES {
                continue;
            }
            bytes += send(&mut sink, &mut batch, &title, progress).await?;
            if stop.is_cancelled() {
                return Ok(false);
            }
        }
        bytes += send(&mut sink, &mut batch, &title, progress).await?;
        let rows = moving(&title, sink.as_mut().finish()).await?.map_err(writing)?;
        let end = format!("{}; COMMIT", record(postgres, chunk, rows, bytes));
        moving(&title, self.target.batch_execute(&end)).await?.map_err(writing)?;
        progress.update(&title, |table| table.rows_copied += rows);
        Ok(true)
    }
}

/// The pages of a table, by its own file and not by statistics.
pub(crate) async fn pages(source: &Client, table: &Table) -> Result<u64> {
    let name = relation(table);
    let parameters: [&(dyn ToSql + Sync); 1] = [&name];
    let asked = source.query_one(
        "SELECT (pg_catalog.pg_relation_size($1::text::regclass)
            / current_setting('block_size')::bigint)::bigint",
        &parameters,
    );
    let row = moving(&title(table), asked)
        .await?
        .map_err(|error| failed("cannot read the size of a table on the source", error))?;
    let pages: i64 = row.try_get(0).map_err(|error| failed("a size cannot be read", error))?;
    Ok(pages.try_into().unwrap_or(0))
}

/// The session that kept the snapshot was lost: the next run of the copy has another. Servers tell it differently.
fn snapshot_gone(error: &tokio_postgres::Error) -> Option<Error> {
    let reported =
        [SqlState::INVALID_PARAMETER_VALUE, SqlState::UNDEFINED_OBJECT, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE];
    reported
        .contains(error.code()?)
        .then(|| Error::transient("the shared snapshot on the source is gone; the copy goes on with another"))
}

async fn send(
    sink: &mut std::pin::Pin<Box<CopyInSink<Bytes>>>,
    batch: &mut BytesMut,
    title: &str,
    progress: &Progress,
) -> Result<u64> {
    let bytes = batch.len() as u64;
    if bytes > 0 {
        let message = batch.split().freeze();
        moving(title, sink.feed(message))
            .await?
            .map_err(|error| failed(&format!("cannot load {title} on the target"), error))?;
        progress.update(title, |table| table.bytes_copied += bytes);
    }
    Ok(bytes)
}

/// One wait on one server.
async fn moving<T>(what: &str, step: impl Future<Output = T>) -> Result<T> {
    timeout(STALL, step)
        .await
        .map_err(|_| Error::transient(format!("nothing moved for {} s while loading {what}", STALL.as_secs())))
}

fn statements(chunk: &Chunk<'_>) -> (String, String) {
    let columns: Vec<String> = chunk.table.columns.iter().map(|column| quote_ident(&column.name)).collect();
    let columns = columns.join(", ");
    let table = relation(chunk.table);
    let format = match chunk.format {
        Format::Binary => "(FORMAT binary)",
        Format::Text => "(FORMAT text)",
    };
    let condition = chunk.range.condition();
    let read = format!("COPY (SELECT {columns} FROM ONLY {table}{condition}) TO STDOUT {format}");
    let list = if columns.is_empty() { columns } else { format!("({columns})") };
    (read, format!("COPY {table} {list} FROM STDIN {format}"))
}

fn record(postgres: &Postgres, chunk: &Chunk<'_>, rows: u64, bytes: u64) -> String {
    let hi = chunk.range.hi.map_or_else(|| "end".to_owned(), |page| page.to_string());
    format!(
        "INSERT INTO headgate.chunks
             (migration, table_schema, table_name, chunk, valid_from, lo, hi, rows, bytes)
         VALUES ({}, {}, {}, {}, '{}', '{}', '{hi}', {rows}, {bytes})",
        quote_literal(&postgres.key()),
        quote_literal(&chunk.table.schema),
        quote_literal(&chunk.table.name),
        chunk.number,
        chunk.valid_from,
        chunk.range.lo,
    )
}

#[cfg(test)]
mod tests {
    use super::Range;

    #[test]
    fn ranges_meet_without_a_gap_or_an_overlap() {
        assert_eq!(Range { lo: 0, hi: None }.condition(), "");
        assert_eq!(Range { lo: 0, hi: Some(8) }.condition(), " WHERE ctid >= '(0,0)' AND ctid < '(8,0)'");
        assert_eq!(Range { lo: 8, hi: None }.condition(), " WHERE ctid >= '(8,0)'");
    }
}
