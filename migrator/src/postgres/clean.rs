//! Removes what a migration left on both sides, and finds nothing to do where there is nothing.

pub(crate) mod made;

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::error::{Error, Result};
use crate::postgres::client::failed;
use crate::postgres::fence::mark;
use crate::postgres::guard;
use crate::postgres::records::drop_empty_schema;
use crate::postgres::schema;
use crate::postgres::schema::set_aside;
use crate::postgres::sql::{quote_ident, quote_literal};
use crate::postgres::{Postgres, fence};

const SLOT_TIMEOUT: Duration = Duration::from_secs(30);
const SLOT_LOOK_EVERY: Duration = Duration::from_millis(50);

/// Drops the slot and the publication on the source, the records and the origin on the target.
/// A sealed fence stays, with the function that it needs.
pub async fn run(postgres: &Postgres) -> Result<()> {
    let source = postgres.connect_source("clean up").await?;
    drop_stream(postgres, &source).await?;
    fence::forget(&source, postgres).await?;
    mark::forget(&source).await?;
    drop_empty_schema(&source)
        .await
        .map_err(|error| failed("cannot remove Headgate's schema from the source", error))?;
    clean_target(postgres).await
}

/// Drops the slot and the publication.
pub(crate) async fn drop_stream(postgres: &Postgres, source: &Client) -> Result<()> {
    drop_slot(postgres, source).await?;
    source
        .batch_execute(&format!("DROP PUBLICATION IF EXISTS {}", quote_ident(&postgres.publication())))
        .await
        .map_err(|error| failed("cannot drop the publication on the source", error))
}

async fn drop_slot(postgres: &Postgres, source: &Client) -> Result<()> {
    let failure = |error| failed("cannot drop the slot on the source", error);
    let give_up = Instant::now() + SLOT_TIMEOUT;
    loop {
        let row = source
            .query_opt(
                "SELECT active_pid FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
                &[&postgres.slot()],
            )
            .await
            .map_err(failure)?;
        let Some(row) = row else { return Ok(()) };
        match row.try_get::<_, Option<i32>>(0).map_err(failure)? {
            None => {
                let drop = format!("SELECT pg_catalog.pg_drop_replication_slot({})", quote_literal(&postgres.slot()));
                match source.batch_execute(&drop).await {
                    Ok(()) => return Ok(()),
                    Err(error) if Instant::now() >= give_up => return Err(failure(error)),
                    Err(_) => {}
                }
            }
            Some(pid) => {
                source.execute("SELECT pg_catalog.pg_terminate_backend($1)", &[&pid]).await.map_err(failure)?;
            }
        }
        if Instant::now() >= give_up {
            return Err(Error::transient(format!("the slot {} is still in use", postgres.slot())));
        }
        sleep(SLOT_LOOK_EVERY).await;
    }
}

/// Lifts the fence that the mark tells of, with the mark; what held both goes with the last one.
pub async fn clear_mark(postgres: &Postgres) -> Result<()> {
    let session = postgres.connect_source("marks").await?;
    for leg in fence::legs(&session, postgres).await? {
        // Whichever leg it was, what the mark is on is its source.
        let fenced = postgres.on_source(leg);
        fence::lift(&fenced).await?;
        // What comes back to a fenced database is guarded by a function of the same name.
        guard::forget(&session, &fenced).await?;
        drop_origin(&session, &fenced).await?;
    }
    mark::remove(&session, postgres).await?;
    // What came back to it is recorded there, too.
    let name = quote_literal(postgres.name());
    remove_records(&session, &format!("pg_catalog.split_part(migration, '/', 1) = {name}")).await?;
    mark::forget(&session).await?;
    drop_empty_schema(&session).await.map_err(|error| failed("cannot remove Headgate's schema from the source", error))
}

async fn clean_target(postgres: &Postgres) -> Result<()> {
    let failure = |error| failed("cannot remove Headgate's records from the target", error);
    let maintenance = schema::database::connect_maintenance(postgres, postgres.target()).await;
    if let Ok(server) = maintenance {
        let there = server
            .query_opt("SELECT FROM pg_catalog.pg_database WHERE datname = $1", &[&postgres.target().database])
            .await
            .map_err(failure)?;
        if there.is_none() {
            return Ok(());
        }
    }
    let target = postgres.connect_target("clean up").await?;
    set_aside::finish(postgres, &target).await?;
    remove_records(&target, &format!("migration = {}", quote_literal(&postgres.key()))).await?;
    guard::forget(&target, postgres).await?;
    drop_empty_schema(&target).await.map_err(failure)?;
    drop_origin(&target, postgres).await
}

/// Removes the records for which the condition holds, and the tables of records that are empty then.
async fn remove_records(session: &Client, whose: &str) -> Result<()> {
    let failure = |error| failed("cannot remove Headgate's records", error);
    for table in ["made", "chunks", "tables", "progress", "migrations"] {
        let there = schema::database::absent(session, &[format!("headgate.{table}")]).await?.is_empty();
        if !there {
            continue;
        }
        session.batch_execute(&format!("DELETE FROM headgate.{table} WHERE {whose}")).await.map_err(failure)?;
        let row = session
            .query_one(&format!("SELECT NOT EXISTS (SELECT FROM headgate.{table})"), &[])
            .await
            .map_err(failure)?;
        if row.try_get(0).map_err(failure)? {
            session.batch_execute(&format!("DROP TABLE headgate.{table}")).await.map_err(failure)?;
        }
    }
    Ok(())
}

async fn drop_origin(session: &Client, postgres: &Postgres) -> Result<()> {
    let cannot = |error| failed("cannot drop a replication origin", error);
    let named = "SELECT FROM pg_catalog.pg_replication_origin WHERE roname = $1";
    // Who may not make one may not call what drops it, either.
    if session.query_opt(named, &[&postgres.slot()]).await.map_err(cannot)?.is_none() {
        return Ok(());
    }
    let name = quote_literal(&postgres.slot());
    session.batch_execute(&format!("SELECT pg_catalog.pg_replication_origin_drop({name})")).await.map_err(cannot)
}
