//! The start of the change stream, and the records on the target that say what was loaded as of which position.

use tokio_postgres::Client;

use super::client::failed;
use crate::error::Result;

/// Creates the folder of records on the target; finds nothing to do where it is.
///
/// * `headgate.migrations`: the dump of the schema, and which parts of it were restored.
/// * `headgate.tables`: as of which position a table was loaded; changes committed before it are in the load.
/// * `headgate.chunks`: which ranges of it, written in the transaction that loaded them.
/// * `headgate.progress`: how far the follower is, written in the transaction that applied it.
pub async fn install_records(target: &Client) -> Result<()> {
    target
        .batch_execute(
            "CREATE SCHEMA IF NOT EXISTS headgate;
             CREATE TABLE IF NOT EXISTS headgate.migrations (
                 migration text PRIMARY KEY,
                 archive bytea,
                 pre_data boolean NOT NULL DEFAULT false,
                 post_data boolean NOT NULL DEFAULT false);
             CREATE TABLE IF NOT EXISTS headgate.tables (
                 migration text NOT NULL,
                 table_schema text NOT NULL,
                 table_name text NOT NULL,
                 valid_from pg_lsn NOT NULL,
                 state text NOT NULL CHECK (state IN ('copying', 'loaded', 'indexed')),
                 PRIMARY KEY (migration, table_schema, table_name));
             CREATE TABLE IF NOT EXISTS headgate.chunks (
                 migration text NOT NULL,
                 table_schema text NOT NULL,
                 table_name text NOT NULL,
                 chunk bigint NOT NULL,
                 valid_from pg_lsn NOT NULL,
                 lo text NOT NULL,
                 hi text NOT NULL,
                 rows bigint NOT NULL,
                 bytes bigint NOT NULL,
                 PRIMARY KEY (migration, table_schema, table_name, chunk));
             CREATE TABLE IF NOT EXISTS headgate.progress (
                 migration text PRIMARY KEY,
                 lsn pg_lsn NOT NULL)",
        )
        .await
        .map_err(|error| failed("cannot create Headgate's records on the target", error))
}
