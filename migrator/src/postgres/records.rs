//! Reads and writes the target's records: what of the schema was restored, what of the rows was loaded.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use crate::error::Result;
use crate::model::plan::{Plan, Table};
use crate::model::progress::Progress;
use crate::postgres::Postgres;
use crate::postgres::client::failed;
use crate::postgres::position::Lsn;
use crate::postgres::sql::{quote_literal, title};
pub use crate::records::Part;
use crate::records::{self, Loaded, Tables};

/// Creates the folder of records on the target; finds nothing to do where it is.
///
/// * `headgate.migrations`: the dump of the schema, and which parts of it were restored.
/// * `headgate.tables`: as of which position a table was loaded; changes committed before it are in the load.
/// * `headgate.chunks`: which ranges of it, written in the transaction that loaded them.
/// * `headgate.progress`: how far the follower is, written in the transaction that applied it, and the timeline of the source
///   on which that is.
pub async fn install_records(target: &Client) -> Result<()> {
    target
        .batch_execute(
            "CREATE SCHEMA IF NOT EXISTS headgate;
             CREATE TABLE IF NOT EXISTS headgate.migrations (
                 migration text PRIMARY KEY,
                 archive bytea,
                 pre_data text NOT NULL DEFAULT 'waiting',
                 post_data text NOT NULL DEFAULT 'waiting');
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
                 lsn pg_lsn NOT NULL,
                 timeline bigint);
             ALTER TABLE headgate.progress ADD COLUMN IF NOT EXISTS timeline bigint",
        )
        .await
        .map_err(|error| failed("cannot create Headgate's records on the target", error))
}

/// Drops Headgate's schema where nothing is in it.
pub(crate) async fn drop_empty_schema(session: &Client) -> std::result::Result<(), tokio_postgres::Error> {
    let empty: bool = session
        .query_one(
            "SELECT pg_catalog.to_regnamespace('headgate') IS NOT NULL
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_class
                     WHERE relnamespace = pg_catalog.to_regnamespace('headgate'))
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc
                     WHERE pronamespace = pg_catalog.to_regnamespace('headgate'))",
            &[],
        )
        .await?
        .try_get(0)?;
    if empty { session.batch_execute("DROP SCHEMA headgate").await } else { Ok(()) }
}

fn unreadable(error: tokio_postgres::Error) -> crate::Error {
    failed("cannot read Headgate's records on the target", error)
}

fn unwritable(error: tokio_postgres::Error) -> crate::Error {
    failed("cannot write Headgate's records on the target", error)
}

/// The kept dump of the schema.
pub async fn archive(postgres: &Postgres, target: &Client) -> Result<Option<Vec<u8>>> {
    let row = target
        .query_opt("SELECT archive FROM headgate.migrations WHERE migration = $1", &[&postgres.key()])
        .await
        .map_err(unreadable)?;
    row.map_or(Ok(None), |row| row.try_get(0).map_err(unreadable))
}

/// Keeps the dump of the schema.
pub async fn keep_archive(postgres: &Postgres, target: &Client, archive: &[u8]) -> Result<()> {
    target
        .execute(
            "INSERT INTO headgate.migrations (migration, archive) VALUES ($1, $2)
             ON CONFLICT (migration) DO UPDATE SET archive = excluded.archive",
            &[&postgres.key(), &archive],
        )
        .await
        .map_err(unwritable)?;
    Ok(())
}

/// Where `pre_data` or `post_data` stands.
pub async fn part(postgres: &Postgres, target: &Client, column: &str) -> Result<Part> {
    let query = format!("SELECT {column} FROM headgate.migrations WHERE migration = $1");
    let row = target.query_opt(&query, &[&postgres.key()]).await.map_err(unreadable)?;
    let text: Option<String> = row.map(|row| row.try_get(0)).transpose().map_err(unreadable)?;
    Ok(Part::read(text.as_deref()))
}

/// Records where `pre_data` or `post_data` stands.
pub async fn set_part(postgres: &Postgres, target: &Client, column: &str, part: Part) -> Result<()> {
    let query = format!("UPDATE headgate.migrations SET {column} = $2 WHERE migration = $1");
    target.execute(&query, &[&postgres.key(), &part.text()]).await.map_err(unwritable)?;
    Ok(())
}

/// What is recorded of every table, by schema and name.
pub async fn tables(postgres: &Postgres, target: &Client) -> Result<Tables<Lsn>> {
    let rows = target
        .query(
            "SELECT table_schema, table_name, valid_from::text, state FROM headgate.tables WHERE migration = $1",
            &[&postgres.key()],
        )
        .await
        .map_err(unreadable)?;
    let mut tables = BTreeMap::new();
    for row in rows {
        let name = (row.try_get(0).map_err(unreadable)?, row.try_get(1).map_err(unreadable)?);
        let valid_from: String = row.try_get(2).map_err(unreadable)?;
        let state: String = row.try_get(3).map_err(unreadable)?;
        tables.insert(name, Loaded::read(valid_from.parse()?, &state));
    }
    Ok(tables)
}

/// Records where the follower begins, unless it has begun. What was committed before is in the load.
pub async fn begin_progress(postgres: &Postgres, target: &Client, at: Lsn) -> Result<()> {
    target
        .execute(
            "INSERT INTO headgate.progress (migration, lsn) VALUES ($1, $2::text::pg_lsn)
             ON CONFLICT (migration) DO NOTHING",
            &[&postgres.key(), &at.to_string()],
        )
        .await
        .map_err(unwritable)?;
    Ok(())
}

/// The statement that records that a table's rows are there, unless the table is loaded anew from another position:
/// a late statement of a run that was killed must not speak for the next.
pub fn loaded(postgres: &Postgres, table: &Table, valid_from: Lsn) -> String {
    format!("{} AND valid_from = '{valid_from}' AND state = 'copying'", set_table(postgres, table, "loaded"))
}

/// The statement that records that a table whose rows are there has its indexes.
pub fn indexed(postgres: &Postgres, table: &Table) -> String {
    format!("{} AND state <> 'copying'", set_table(postgres, table, "indexed"))
}

/// The statement that records that a table is complete, of which nothing is loaded: its rows are where they were.
pub fn complete(postgres: &Postgres, table: &Table) -> String {
    set_table(postgres, table, "indexed")
}

fn set_table(postgres: &Postgres, table: &Table, state: &str) -> String {
    format!(
        "UPDATE headgate.tables SET state = {} WHERE migration = {} AND table_schema = {} AND table_name = {}",
        quote_literal(state),
        quote_literal(&postgres.key()),
        quote_literal(&table.schema),
        quote_literal(&table.name)
    )
}

/// The statement that records that a table is loaded from here on, and forgets its earlier chunks.
pub fn begin_table(postgres: &Postgres, table: &Table, valid_from: Lsn) -> String {
    let migration = quote_literal(&postgres.key());
    let schema = quote_literal(&table.schema);
    let name = quote_literal(&table.name);
    format!(
        "DELETE FROM headgate.chunks WHERE migration = {migration} AND table_schema = {schema}
             AND table_name = {name};
         INSERT INTO headgate.tables (migration, table_schema, table_name, valid_from, state)
         VALUES ({migration}, {schema}, {name}, '{valid_from}', 'copying')
         ON CONFLICT (migration, table_schema, table_name)
         DO UPDATE SET valid_from = excluded.valid_from, state = 'copying'"
    )
}

/// Tells the operator's progress what earlier runs loaded.
pub async fn report(postgres: &Postgres, target: &Client, plan: &Plan, progress: &Progress) -> Result<()> {
    let mut states = tables(postgres, target).await?;
    // A table that is not complete is loaded again from its beginning.
    states.retain(|_, state| state.rows);
    let rows = target
        .query(
            "SELECT table_schema, table_name, sum(rows)::bigint, sum(bytes)::bigint
             FROM headgate.chunks WHERE migration = $1 GROUP BY 1, 2",
            &[&postgres.key()],
        )
        .await
        .map_err(unreadable)?;
    let mut sums = BTreeMap::new();
    for row in rows {
        let name: (String, String) = (row.try_get(0).map_err(unreadable)?, row.try_get(1).map_err(unreadable)?);
        let rows: i64 = row.try_get(2).map_err(unreadable)?;
        let bytes: i64 = row.try_get(3).map_err(unreadable)?;
        sums.insert(name, (rows.try_into().unwrap_or(0), bytes.try_into().unwrap_or(0)));
    }
    records::report(plan, &states, &sums, title, progress);
    Ok(())
}
