//! The invented shop: its schema and rows on the source.

use std::time::Duration;

use tokio_postgres::Client;

use crate::failure::{Failure, Result};
use crate::shop::{DATABASE, ROLE};

/// Created by the application's role, so that it owns everything.
const SCHEMA: &str = include_str!("schema.sql");
/// Loaded by a superuser, with triggers and foreign keys asleep.
const ROWS: &str = include_str!("rows.sql");
const TIMEOUT: Duration = Duration::from_mins(1);

/// Creates the application's role and its empty database.
pub(super) async fn found(server: &Client) -> Result<()> {
    server.batch_execute(&format!("CREATE ROLE {ROLE} LOGIN")).await?;
    server.batch_execute(&format!("CREATE DATABASE {DATABASE} OWNER {ROLE}")).await?;
    Ok(())
}

/// Creates the schema and its rows; says how many rows there are.
pub(super) async fn furnish(superuser: &Client) -> Result<u64> {
    let work = async {
        superuser.batch_execute(&format!("SET ROLE {ROLE}")).await?;
        superuser.batch_execute(SCHEMA).await?;
        superuser.batch_execute("RESET ROLE").await?;
        superuser.batch_execute(ROWS).await?;
        superuser.batch_execute("VACUUM ANALYZE").await
    };
    let done = tokio::time::timeout(TIMEOUT, work).await;
    done.map_err(|_| Failure(format!("the shop was not ready within {TIMEOUT:?}")))??;
    let rows = "SELECT sum(c.reltuples)::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname IN ('public', 'accounting') AND c.relkind = 'r' AND c.reltuples > 0";
    let count: i64 = superuser.query_one(rows, &[]).await?.try_get(0)?;
    Ok(u64::try_from(count).unwrap_or(0))
}
