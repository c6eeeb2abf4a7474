//! Arms the leg that comes after a switch: its slot on the cluster that will serve, its progress record on the other, and
//! one marker that goes the whole way. What it makes its source keep, and how that goes away again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::Postgres;
use super::client::failed;
use super::position::Lsn;
use super::sql::quote_literal;
use super::stream::Replication;
use crate::database::Kept;
use crate::error::{Error, Result};
use crate::follow::{self, Follow};
use crate::model::plan::Plan;
use crate::model::progress::Progress;
use crate::postgres::schema::set_aside;
use crate::postgres::{clean, client, heartbeat, records, schema, service};

/// A marker that does not come back within this does not come.
const MARKER_TIMEOUT: Duration = Duration::from_secs(30);
/// Why a leg cannot run without it.
const LOGICAL: &str = "the cluster that will serve writes no log that changes could be read from";

/// Makes the leg's stream and records, and sends one marker the whole way. Returns the session that tells where the
/// stream ends.
pub(crate) async fn arm(postgres: &Postgres, plan: &Plan, token: &str) -> Result<Client> {
    let (source, target) = tokio::try_join!(postgres.connect_source("arm"), postgres.connect_target("arm"))?;
    refuse_unable(postgres, plan, &source, &target).await?;
    clean::drop_stream(postgres, &source).await?;
    records::install_records(&target).await?;
    schema::publish(postgres, plan, &source).await?;
    let begins = create_slot(postgres).await?;
    record(postgres, plan, &target, begins).await?;
    let marking = format!(
        "SELECT pg_catalog.pg_logical_emit_message(true, '{}', {})",
        heartbeat::PREFIX,
        quote_literal(&format!("{}{token}", heartbeat::MARKER))
    );
    source.batch_execute(&marking).await.map_err(|error| failed("cannot write a marker into the log", error))?;
    let stop = CancellationToken::new();
    let opening = Box::pin(super::follow::open_idle(postgres, plan));
    let (follow, progress) = (Follow::default(), Arc::<Progress>::default());
    let following = follow::run(opening, follow, progress, Some(token.to_owned()), &stop);
    let arrived = timeout(MARKER_TIMEOUT, following).await.unwrap_or_else(|_| {
        Err(Error::transient(format!("no marker came the way back within {} s", MARKER_TIMEOUT.as_secs())))
    })?;
    if arrived { Ok(source) } else { Err(Error::transient("the way back was not looked through to its end")) }
}

/// Where the stream ends now.
pub(crate) async fn stream_end(session: &Client) -> Result<Lsn> {
    let cannot = |error| failed("cannot read where the log ends", error);
    let row = session.query_one("SELECT pg_catalog.pg_current_wal_insert_lsn()::text", &[]).await.map_err(cannot)?;
    row.try_get::<_, String>(0).map_err(cannot)?.parse()
}

/// The statement that records where the leg begins, for the transaction that makes the refusal durable.
pub(crate) fn beginning(postgres: &Postgres, at: Lsn) -> String {
    format!(
        "INSERT INTO headgate.progress (migration, lsn) VALUES ({}, '{at}')
         ON CONFLICT (migration) DO UPDATE SET lsn = excluded.lsn",
        quote_literal(&postgres.key())
    )
}

/// What the slot keeps.
pub(crate) async fn kept(postgres: &Postgres) -> Result<Kept> {
    let cannot = |error| failed("cannot see what a slot keeps", error);
    let source = postgres.connect_source("kept").await?;
    let row = source
        .query_opt(
            "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn)::bigint, safe_wal_size
             FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND coalesce(wal_status, '') <> 'lost'",
            &[&postgres.slot()],
        )
        .await
        .map_err(cannot)?;
    let Some(row) = row else {
        return Err(Error::fatal(format!("the slot {} is gone, and with it the changes since", postgres.slot())));
    };
    let bytes = row.try_get::<_, Option<i64>>(0).map_err(cannot)?.unwrap_or_default();
    let more: Option<i64> = row.try_get(1).map_err(cannot)?;
    Ok(Kept {
        bytes: bytes.max(0).unsigned_abs(),
        bytes_max: more.map(|more| bytes.saturating_add(more).max(0).unsigned_abs()),
        time_max: None,
    })
}

/// Refuses where a setting or a right of either side would break the leg once it runs.
async fn refuse_unable(postgres: &Postgres, plan: &Plan, source: &Client, target: &Client) -> Result<()> {
    let cannot = |error| failed("cannot see whether a way back is possible", error);
    let row = source.query_one("SELECT pg_catalog.current_setting('wal_level')", &[]).await.map_err(cannot)?;
    let level: String = row.try_get(0).map_err(cannot)?;
    if level != "logical" {
        let (words, statement) = service::of(source).await?.setting("wal_level", "logical", true);
        let remedy = if statement.is_empty() { words } else { format!("{words}: {statement}") };
        return Err(Error::refused(format!("{LOGICAL}: its wal_level is {level}")).remedy(remedy));
    }
    if client::as_replica(target).await? {
        return Ok(());
    }
    set_aside::refuse_impossible(postgres, target, plan).await
}

async fn create_slot(postgres: &Postgres) -> Result<Lsn> {
    let mut maker = Replication::connect(postgres.source(), &postgres.purpose("snapshot")).await?;
    let made = maker.create_slot(&postgres.slot(), false, postgres.settings().slot_create_timeout).await?;
    Ok(made.consistent_point)
}

/// The target has all that came before.
async fn record(postgres: &Postgres, plan: &Plan, target: &Client, begins: Lsn) -> Result<()> {
    // What an earlier arming has recorded was of another stream, maybe of another server.
    let forget = format!("BEGIN; DELETE FROM headgate.progress WHERE migration = {}", quote_literal(&postgres.key()));
    let mut batch = vec![forget, beginning(postgres, begins)];
    for table in &plan.tables {
        batch.push(records::begin_table(postgres, table, begins));
        batch.push(records::complete(postgres, table));
    }
    batch.push("COMMIT".to_owned());
    target
        .batch_execute(&batch.join(";\n"))
        .await
        .map_err(|error| failed("cannot record where the way back begins", error))
}
