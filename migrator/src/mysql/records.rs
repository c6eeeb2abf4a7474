//! Reads and writes the target's records: what of the schema was built, what of the rows was loaded.

use std::collections::BTreeMap;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Params, params};

use crate::error::{Error, Result};
use crate::model::plan::{Plan, Table};
use crate::model::progress::Progress;
use crate::mysql::client::failed;
use crate::mysql::context::RECORDS;
use crate::mysql::position::unread;
use crate::mysql::sql::{quote_literal, title};
use crate::mysql::{BinlogPosition, Mysql};
pub use crate::records::Part;
use crate::records::{self, Loaded, Tables};

/// One recorded chunk: keys above `lo`, up to and with `hi`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkRecord {
    /// Its number within the table.
    pub number: u64,
    /// The key before its first, as SQL writes it; `None` where it begins with the table.
    pub lo: Option<Vec<String>>,
    /// Its last key, as SQL writes it; `None` where it ends with the table.
    pub hi: Option<Vec<String>>,
    /// Whether its rows are there.
    pub loaded: bool,
}

/// What holds Headgate's records. Names of databases and tables are compared byte by byte.
const TABLES: [&str; 5] = [
    "CREATE DATABASE IF NOT EXISTS headgate CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS headgate.migrations (
         migration VARCHAR(128) NOT NULL PRIMARY KEY,
         archive LONGTEXT,
         pre_data VARCHAR(16) NOT NULL DEFAULT 'waiting',
         post_data VARCHAR(16) NOT NULL DEFAULT 'waiting',
         settled VARCHAR(16) NOT NULL DEFAULT 'waiting') ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS headgate.tables (
         migration VARCHAR(128) NOT NULL,
         table_schema VARCHAR(64) NOT NULL,
         table_name VARCHAR(64) NOT NULL,
         valid_from LONGTEXT NOT NULL,
         state VARCHAR(16) NOT NULL,
         PRIMARY KEY (migration, table_schema, table_name)) ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS headgate.chunks (
         migration VARCHAR(128) NOT NULL,
         table_schema VARCHAR(64) NOT NULL,
         table_name VARCHAR(64) NOT NULL,
         chunk BIGINT UNSIGNED NOT NULL,
         lo TEXT,
         hi TEXT,
         loaded TINYINT NOT NULL DEFAULT 0,
         position LONGTEXT,
         `row_count` BIGINT UNSIGNED,
         bytes BIGINT UNSIGNED,
         PRIMARY KEY (migration, table_schema, table_name, chunk)) ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS headgate.progress (
         migration VARCHAR(128) NOT NULL PRIMARY KEY,
         position LONGTEXT NOT NULL) ENGINE=InnoDB",
];

/// Creates the database of records on the target; finds nothing to do where it is.
///
/// * `headgate.migrations`: the definitions of the schema, and which parts of them were built.
/// * `headgate.tables`: as of which position a table was loaded, and how far its load is.
/// * `headgate.chunks`: its ranges, marked in the transaction that loaded them.
/// * `headgate.progress`: how far the follower is, written in the transaction that applied it.
pub async fn install_records(target: &mut Conn) -> Result<()> {
    for statement in TABLES {
        target
            .query_drop(statement)
            .await
            .map_err(|error| failed("cannot create Headgate's records on the target", error))?;
    }
    Ok(())
}

fn unreadable(error: mysql_async::Error) -> Error {
    failed("cannot read Headgate's records on the target", error)
}

fn unwritable(error: mysql_async::Error) -> Error {
    failed("cannot write Headgate's records on the target", error)
}

/// A position as it is stored.
pub fn written(position: &BinlogPosition) -> Result<String> {
    serde_json::to_string(position).map_err(|error| Error::fatal("a position cannot be written").because(error))
}

/// A position as it was stored.
pub fn read_position(text: &str) -> Result<BinlogPosition> {
    serde_json::from_str(text).map_err(unread)
}

fn of_table(mysql: &Mysql, table: &Table) -> Params {
    params! {
        "migration" => mysql.key(),
        "schema" => &table.schema,
        "name" => &table.name,
    }
}

/// The kept definitions of the schema.
pub async fn archive(mysql: &Mysql, target: &mut Conn) -> Result<Option<String>> {
    let found: Option<Option<String>> = target
        .exec_first("SELECT archive FROM headgate.migrations WHERE migration = ?", (mysql.key(),))
        .await
        .map_err(unreadable)?;
    Ok(found.flatten())
}

/// Keeps the definitions of the schema.
pub async fn keep_archive(mysql: &Mysql, target: &mut Conn, archive: &str) -> Result<()> {
    target
        .exec_drop(
            "INSERT INTO headgate.migrations (migration, archive) VALUES (?, ?)
             ON DUPLICATE KEY UPDATE archive = VALUES(archive)",
            (mysql.key(), archive),
        )
        .await
        .map_err(unwritable)
}

/// Whether the target has room for the records.
pub async fn are_there(target: &mut Conn) -> Result<bool> {
    let query = format!(
        "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{RECORDS}' AND TABLE_NAME = 'migrations'"
    );
    let found: Option<u8> = target.query_first(query).await.map_err(unreadable)?;
    Ok(found.is_some())
}

/// Where `pre_data`, `post_data` or `settled` stands.
pub async fn part(mysql: &Mysql, target: &mut Conn, column: &str) -> Result<Part> {
    let query = format!("SELECT {column} FROM headgate.migrations WHERE migration = ?");
    let found: Option<String> = target.exec_first(query, (mysql.key(),)).await.map_err(unreadable)?;
    Ok(Part::read(found.as_deref()))
}

/// Records where `pre_data`, `post_data` or `settled` stands.
pub async fn set_part(mysql: &Mysql, target: &mut Conn, column: &str, part: Part) -> Result<()> {
    let query = format!(
        "INSERT INTO headgate.migrations (migration, {column}) VALUES (?, ?)
         ON DUPLICATE KEY UPDATE {column} = VALUES({column})"
    );
    target.exec_drop(query, (mysql.key(), part.text())).await.map_err(unwritable)
}

/// What is recorded of every table, by database and name.
pub async fn tables(mysql: &Mysql, target: &mut Conn) -> Result<Tables<BinlogPosition>> {
    let rows: Vec<(String, String, String, String)> = target
        .exec(
            "SELECT table_schema, table_name, valid_from, state FROM headgate.tables WHERE migration = ?",
            (mysql.key(),),
        )
        .await
        .map_err(unreadable)?;
    let mut tables = BTreeMap::new();
    for (schema, name, valid_from, state) in rows {
        tables.insert((schema, name), Loaded::read(read_position(&valid_from)?, &state));
    }
    Ok(tables)
}

/// How far the follower is; `None` before the load begins.
pub async fn progress(mysql: &Mysql, target: &mut Conn) -> Result<Option<BinlogPosition>> {
    let found: Option<String> = target
        .exec_first("SELECT position FROM headgate.progress WHERE migration = ?", (mysql.key(),))
        .await
        .map_err(unreadable)?;
    found.as_deref().map(read_position).transpose()
}

/// Records where the follower begins, unless it has begun. What was committed before is in the load.
pub async fn begin_progress(mysql: &Mysql, target: &mut Conn, at: &BinlogPosition) -> Result<()> {
    target
        .exec_drop(
            "INSERT IGNORE INTO headgate.progress (migration, position) VALUES (?, ?)",
            (mysql.key(), written(at)?),
        )
        .await
        .map_err(unwritable)
}

/// The statement that records how far the follower is.
pub fn progressed(mysql: &Mysql, at: &BinlogPosition) -> Result<String> {
    Ok(format!(
        "UPDATE headgate.progress SET position = {} WHERE migration = {}",
        quote_literal(&written(at)?),
        quote_literal(&mysql.key())
    ))
}

/// Records that tables with a key are loaded from here on, as far as they are not recorded yet.
pub async fn begin_keyed(
    mysql: &Mysql,
    target: &mut Conn,
    tables: &[Table],
    valid_from: &BinlogPosition,
) -> Result<()> {
    let valid_from = written(valid_from)?;
    let rows = tables.iter().map(|table| {
        params! {
            "migration" => mysql.key(),
            "schema" => &table.schema,
            "name" => &table.name,
            "valid_from" => &valid_from,
        }
    });
    write_all(
        target,
        "INSERT IGNORE INTO headgate.tables (migration, table_schema, table_name, valid_from, state)
         VALUES (:migration, :schema, :name, :valid_from, 'copying')",
        rows.collect(),
    )
    .await
}

/// Records anew that the follower begins here, and that the target has everything of these tables that came before.
pub async fn begin_anew(mysql: &Mysql, target: &mut Conn, tables: &[Table], at: &BinlogPosition) -> Result<()> {
    let key = mysql.key();
    let position = written(at)?;
    let rows = tables.iter().map(|table| (&key, &table.schema, &table.name, &position));
    target.query_drop("BEGIN").await.map_err(unwritable)?;
    target
        .exec_drop("REPLACE INTO headgate.progress (migration, position) VALUES (?, ?)", (&key, &position))
        .await
        .map_err(unwritable)?;
    target.exec_drop("DELETE FROM headgate.tables WHERE migration = ?", (&key,)).await.map_err(unwritable)?;
    target
        .exec_batch(
            "INSERT INTO headgate.tables (migration, table_schema, table_name, valid_from, state)
             VALUES (?, ?, ?, ?, 'indexed')",
            rows,
        )
        .await
        .map_err(unwritable)?;
    target.query_drop("COMMIT").await.map_err(unwritable)
}

/// Records that a table without a key is loaded as of this position, from its beginning.
pub async fn begin_keyless(mysql: &Mysql, target: &mut Conn, table: &Table, valid_from: &BinlogPosition) -> Result<()> {
    target
        .exec_drop(
            "INSERT INTO headgate.tables (migration, table_schema, table_name, valid_from, state)
             VALUES (?, ?, ?, ?, 'copying')
             ON DUPLICATE KEY UPDATE valid_from = VALUES(valid_from), state = 'copying'",
            (mysql.key(), &table.schema, &table.name, written(valid_from)?),
        )
        .await
        .map_err(unwritable)
}

/// The statement that records that a table's rows are there.
pub fn loaded(mysql: &Mysql, table: &Table) -> String {
    format!("{} AND state = 'copying'", set_table(mysql, table, "loaded"))
}

/// Whether a table's rows are recorded to be there.
pub async fn is_loaded(mysql: &Mysql, target: &mut Conn, table: &Table) -> Result<bool> {
    let query = format!("SELECT state <> 'copying' FROM headgate.tables WHERE {}", is_table(mysql, table));
    let found: Option<bool> = target.query_first(query).await.map_err(unreadable)?;
    Ok(found == Some(true))
}

/// Records that a table's rows are there.
pub async fn set_loaded(mysql: &Mysql, target: &mut Conn, table: &Table) -> Result<()> {
    target.query_drop(loaded(mysql, table)).await.map_err(unwritable)
}

/// The statement that records that a table whose rows are there has its plain indexes.
pub fn indexed(mysql: &Mysql, table: &Table) -> String {
    format!("{} AND state <> 'copying'", set_table(mysql, table, "indexed"))
}

/// Records that a table whose rows are there has its plain indexes.
pub async fn set_indexed(mysql: &Mysql, target: &mut Conn, table: &Table) -> Result<()> {
    target.query_drop(indexed(mysql, table)).await.map_err(unwritable)
}

fn set_table(mysql: &Mysql, table: &Table, state: &str) -> String {
    format!("UPDATE headgate.tables SET state = {} WHERE {}", quote_literal(state), is_table(mysql, table))
}

fn is_table(mysql: &Mysql, table: &Table) -> String {
    format!(
        "migration = {} AND table_schema = {} AND table_name = {}",
        quote_literal(&mysql.key()),
        quote_literal(&table.schema),
        quote_literal(&table.name)
    )
}

/// The query that locks a table's record and tells its state.
pub fn lock_table(mysql: &Mysql, table: &Table) -> String {
    format!("SELECT state FROM headgate.tables WHERE {} FOR UPDATE", is_table(mysql, table))
}

/// The query that locks a chunk's record and tells whether it is loaded: 1 or 0.
pub fn lock_chunk(mysql: &Mysql, table: &Table, number: u64) -> String {
    format!("SELECT loaded FROM headgate.chunks WHERE {} AND chunk = {number} FOR UPDATE", is_table(mysql, table))
}

/// The statement that records that a chunk's rows are there, in the transaction that loaded them.
pub fn chunk_loaded(
    mysql: &Mysql,
    table: &Table,
    number: u64,
    position: &BinlogPosition,
    rows: u64,
    bytes: u64,
) -> Result<String> {
    Ok(format!(
        "UPDATE headgate.chunks SET loaded = 1, position = {}, `row_count` = {rows}, bytes = {bytes}
         WHERE {} AND chunk = {number} AND loaded = 0",
        quote_literal(&written(position)?),
        is_table(mysql, table)
    ))
}

/// The statement that keeps the sums of a table without a key, in the transaction that ends its load.
pub fn whole_loaded(mysql: &Mysql, table: &Table, position: &BinlogPosition, rows: u64, bytes: u64) -> Result<String> {
    Ok(format!(
        "REPLACE INTO headgate.chunks
             (migration, table_schema, table_name, chunk, loaded, position, `row_count`, bytes)
         VALUES ({}, {}, {}, 0, 1, {}, {rows}, {bytes})",
        quote_literal(&mysql.key()),
        quote_literal(&table.schema),
        quote_literal(&table.name),
        quote_literal(&written(position)?)
    ))
}

/// Runs one statement many times in one transaction.
async fn write_all(target: &mut Conn, statement: &str, rows: Vec<Params>) -> Result<()> {
    target.query_drop("BEGIN").await.map_err(unwritable)?;
    target.exec_batch(statement, rows).await.map_err(unwritable)?;
    target.query_drop("COMMIT").await.map_err(unwritable)
}

/// Records chunks that are to be loaded.
pub async fn add_chunks(mysql: &Mysql, target: &mut Conn, table: &Table, chunks: &[ChunkRecord]) -> Result<()> {
    let bound = |keys: &Option<Vec<String>>| -> Result<Option<String>> {
        keys.as_ref()
            .map(serde_json::to_string)
            .transpose()
            .map_err(|error| Error::fatal("a key cannot be written").because(error))
    };
    let mut rows = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        rows.push(params! {
            "migration" => mysql.key(),
            "schema" => &table.schema,
            "name" => &table.name,
            "chunk" => chunk.number,
            "lo" => bound(&chunk.lo)?,
            "hi" => bound(&chunk.hi)?,
        });
    }
    write_all(
        target,
        "INSERT INTO headgate.chunks (migration, table_schema, table_name, chunk, lo, hi)
         VALUES (:migration, :schema, :name, :chunk, :lo, :hi)",
        rows,
    )
    .await
}

/// Forgets a table's chunks: it is loaded anew, as a whole.
pub async fn forget_chunks(mysql: &Mysql, target: &mut Conn, table: &Table) -> Result<()> {
    let all = format!("DELETE FROM headgate.chunks WHERE {}", is_table(mysql, table));
    target.query_drop(all).await.map_err(unwritable)
}

/// A table's recorded chunks, in order.
pub async fn chunks(mysql: &Mysql, target: &mut Conn, table: &Table) -> Result<Vec<ChunkRecord>> {
    let rows: Vec<(u64, Option<String>, Option<String>, bool)> = target
        .exec(
            "SELECT chunk, lo, hi, loaded FROM headgate.chunks
             WHERE migration = :migration AND table_schema = :schema AND table_name = :name ORDER BY chunk",
            of_table(mysql, table),
        )
        .await
        .map_err(unreadable)?;
    let bound = |text: Option<String>| -> Result<Option<Vec<String>>> {
        text.as_deref()
            .map(serde_json::from_str)
            .transpose()
            .map_err(|error| Error::fatal("a recorded chunk cannot be read").because(error))
    };
    rows.into_iter()
        .map(|(number, lo, hi, loaded)| Ok(ChunkRecord { number, lo: bound(lo)?, hi: bound(hi)?, loaded }))
        .collect()
}

/// Tells the operator's progress what earlier runs loaded.
pub async fn report(mysql: &Mysql, target: &mut Conn, plan: &Plan, progress: &Progress) -> Result<()> {
    let states = tables(mysql, target).await?;
    let rows: Vec<(String, String, u64, u64)> = target
        .exec(
            "SELECT table_schema, table_name, CAST(SUM(`row_count`) AS UNSIGNED), CAST(SUM(bytes) AS UNSIGNED)
             FROM headgate.chunks WHERE migration = ? AND loaded = 1 GROUP BY table_schema, table_name",
            (mysql.key(),),
        )
        .await
        .map_err(unreadable)?;
    let sums: BTreeMap<_, _> =
        rows.into_iter().map(|(schema, name, rows, bytes)| ((schema, name), (rows, bytes))).collect();
    records::report(plan, &states, &sums, title, progress);
    Ok(())
}
