//! Exact snapshots of the source, and the records on the target that say what was loaded as of which position.

use super::client::failed;
use super::{BinlogPosition, Mysql};
use crate::error::{Error, Result};
use crate::plan::Table;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio_util::sync::CancellationToken;
/// Sessions whose transactions see exactly what was committed before one position.
pub struct Exact {
    /// Everything of the tables that was committed before it is seen, and nothing else.
    pub position: BinlogPosition,
    /// The sessions, in a read-only transaction each.
    pub sessions: Vec<Conn>,
}
/// Opens `count` sessions at one exact position, by a read lock on `tables` that lasts some milliseconds. None when `stop` was cancelled first.
pub async fn exact(
    _mysql: &Mysql,
    _tables: &[Table],
    _count: usize,
    _stop: &CancellationToken,
) -> Result<Option<Exact>> {
    Err(Error::refused("not there"))
}
/// What holds Headgate's records. Names of databases and tables are compared byte by byte.
const RECORDS: [&str; 5] = [
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
    for statement in RECORDS {
        target
            .query_drop(statement)
            .await
            .map_err(|error| failed("cannot create Headgate's records on the target", error))?;
    }
    Ok(())
}
