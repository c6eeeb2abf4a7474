//! The start of the change stream, and the snapshots that the load reads under.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::postgres::Postgres;
use crate::postgres::client::failed;
use crate::postgres::follow::tables::start_anew;
use crate::postgres::position::Lsn;
use crate::postgres::stream::{Obstacle, Replication, obstacle};

/// A snapshot that is exactly "everything committed before `valid_from`", alive as long as this is kept.
pub struct Held {
    /// The name to import it by.
    pub snapshot: String,
    /// Every transaction committed before this is in it, and no other.
    pub valid_from: Lsn,
    _keeper: Replication,
}

/// How many times the creation of a slot is tried before the operator is told who blocks it.
const ATTEMPTS: u32 = 6;
/// How often it is looked whose open transactions are waited for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Opens the snapshot to load under: that of the permanent slot when it does not exist yet, created here,
/// else that of a temporary slot, whose position is later. `None` when `stop` was cancelled first.
pub async fn open(
    postgres: &Postgres,
    source: &Client,
    nothing_loaded: bool,
    stop: &CancellationToken,
) -> Result<Option<Held>> {
    let exists = slot_exists(postgres, source).await?;
    if !exists && !nothing_loaded {
        return Err(Error::fatal(format!(
            "the slot {} is gone from the source, and with it the changes since the load",
            postgres.slot()
        ))
        .remedy(format!("{}; keep other tools from dropping its slot", start_anew(postgres.name()))));
    }
    // A name of its own: the server may still be ending the temporary slot of a process that was killed.
    let name = if exists {
        let slot: String = postgres.slot().chars().take(40).collect();
        format!("{slot}_{:08x}", rand::random::<u32>())
    } else {
        postgres.slot()
    };
    for _ in 0..ATTEMPTS {
        if stop.is_cancelled() {
            return Ok(None);
        }
        let mut keeper = Replication::connect(postgres.source(), &postgres.purpose("snapshot")).await?;
        let made = {
            let making = keeper.create_slot(&name, exists, postgres.settings().slot_create_timeout);
            tokio::select! {
                made = making => made,
                never = tell_blockers(postgres, source) => match never {},
            }
        };
        postgres.set_waits_for(None);
        match made {
            Ok(made) => {
                return Ok(Some(Held { snapshot: made.snapshot, valid_from: made.consistent_point, _keeper: keeper }));
            }
            Err(error) if obstacle(&error) == Some(Obstacle::OpenTransactions) => {
                let blockers = blockers(source).await?;
                tracing::warn!(blockers, "open transactions block the slot");
                postgres.set_waits_for(Some(blockers));
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::transient(format!(
        "the change stream cannot start while older transactions are open on the source: {}",
        blockers(source).await?
    ))
    .remedy("end them, or wait; the start is tried again"))
}

/// Whether the permanent slot is there and usable. One whose creation was cut short is removed by the server itself.
async fn slot_exists(postgres: &Postgres, source: &Client) -> Result<bool> {
    let unreadable = |error| failed("cannot read the source's slots", error);
    let row = source
        .query_opt(
            "SELECT confirmed_flush_lsn IS NOT NULL, coalesce(wal_status = 'lost', false), active_pid
             FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
            &[&postgres.slot()],
        )
        .await
        .map_err(unreadable)?;
    let Some(row) = row else { return Ok(false) };
    if row.try_get::<_, bool>(1).map_err(unreadable)? {
        return Err(Error::fatal(format!("the source has dropped changes that slot {} needs", postgres.slot()))
            .remedy(format!("raise max_slot_wal_keep_size on the source; {}", start_anew(postgres.name()))));
    }
    if row.try_get::<_, bool>(0).map_err(unreadable)? {
        return Ok(true);
    }
    if let Some(pid) = row.try_get::<_, Option<i32>>(2).map_err(unreadable)? {
        source.execute("SELECT pg_catalog.pg_terminate_backend($1, 5000)", &[&pid]).await.map_err(unreadable)?;
    }
    Ok(false)
}

/// The open transactions that a new slot waits for, told for people.
/// Keeps up to date what the operator is shown while the slot waits.
async fn tell_blockers(postgres: &Postgres, source: &Client) -> Infallible {
    loop {
        sleep(LOOK_EVERY).await;
        if let Ok(blockers) = blockers(source).await {
            postgres.set_waits_for(Some(blockers));
        }
    }
}

async fn blockers(source: &Client) -> Result<String> {
    let row = source
        .query_one(
            "SELECT coalesce(string_agg(who, '; '), 'none by now') FROM (
                 SELECT format('pid %s, user %s, application %s, open for %s s', pid, usename,
                        quote_literal(application_name), extract(epoch FROM now() - xact_start)::int) AS who
                 FROM pg_catalog.pg_stat_activity
                 WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
                 UNION ALL
                 SELECT format('prepared transaction %s of %s', quote_literal(gid), owner)
                 FROM pg_catalog.pg_prepared_xacts LIMIT 10) blockers",
            &[],
        )
        .await
        .map_err(|error| failed("cannot see who blocks the start of the change stream", error))?;
    row.try_get(0).map_err(|error| failed("cannot see who blocks the start of the change stream", error))
}
