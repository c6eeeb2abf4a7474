//! The durable refusal: a function of the migration's own and the triggers that call it, and how they go away.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::super::client::{self, failed};
use super::super::sql::{qualified, quote_literal};
use super::super::{Postgres, stale_sessions};
use super::mark;
use crate::error::{Error, Result};
use crate::model::leg::Leg;

pub(super) const TRIGGER: &str = "headgate_fence";
/// Whoever reads a table keeps its trigger from being dropped, and would keep other readers waiting behind us.
const DROP_LOCK_TIMEOUT: &str = "100ms";
const PAUSE: Duration = Duration::from_millis(50);
/// Names of sessions are cut at 63 bytes; those of one leg begin alike this far.
pub(crate) const NAME_KEPT: usize = 40;
/// How long a session that may still commit the refusal has to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// How long triggers that do nothing any more are worth waiting for.
const DROP_TIMEOUT: Duration = Duration::from_secs(1);

/// The function that this migration's triggers call; other migrations of the same database have theirs.
pub fn function(postgres: &Postgres) -> String {
    qualified("headgate", &postgres.slot())
}

/// Creates the function that refuses. What an earlier fence could not remove goes first, else it would refuse again.
pub(super) async fn arm(session: &Client, postgres: &Postgres) -> Result<()> {
    stale_sessions::end(postgres, session, "lift", END_TIMEOUT).await?;
    let earlier = postgres.leg().earlier().map(|leg| postgres.for_leg(leg));
    for leg in std::iter::once(postgres.clone()).chain(earlier) {
        if let Some(table) = remove(session, &leg, DROP_TIMEOUT).await?.first() {
            return Err(Error::refused(format!("the trigger {TRIGGER} of an earlier fence is still on {table}"))
                .remedy("end the long transactions that read this table, and try again"));
        }
    }
    session.batch_execute("CREATE SCHEMA IF NOT EXISTS headgate").await.map_err(uncreatable)?;
    // For what comes back in a replica's session the triggers do not fire.
    let passes = if client::as_replica(session).await? { String::new() } else { passing_by_name(postgres) };
    let refusal = "RAISE EXCEPTION USING ERRCODE = '25006',
             MESSAGE = 'cannot execute ' || TG_OP || ': this database has moved',
             HINT = 'Connect to where the database is served now.';";
    define(session, postgres, &format!("{passes}{refusal}")).await
}

/// What lets the sessions of the next leg pass, by their role and their name.
fn passing_by_name(postgres: &Postgres) -> String {
    let next = postgres.for_leg(postgres.leg().next());
    let name: String = format!("headgate {}", next.purpose("")).chars().take(NAME_KEPT).collect();
    format!(
        "IF session_user = {} AND pg_catalog.starts_with(pg_catalog.current_setting('application_name'), {}) THEN
             RETURN NULL; END IF; ",
        quote_literal(&postgres.source().user),
        quote_literal(&name),
    )
}

async fn define(session: &Client, postgres: &Postgres, body: &str) -> Result<()> {
    session.batch_execute(&defining(postgres, body)).await.map_err(uncreatable)
}

/// The statement that gives the function this body; it takes no lock on any table.
pub fn defining(postgres: &Postgres, body: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql
         SET search_path = pg_catalog AS $guard$ BEGIN {body} RETURN NULL; END $guard$",
        function(postgres)
    )
}

fn uncreatable(error: tokio_postgres::Error) -> Error {
    failed("cannot create the function that refuses writes on the source", error)
        .remedy("the migrator's role must be allowed to create a schema in the source's database")
}

/// Lets writers go on: ends whoever may still commit a refusal, makes what was committed harmless without a lock on
/// any table, and removes the triggers as far as readers allow. Finds nothing to do where there is nothing.
pub async fn lift(postgres: &Postgres) -> Result<()> {
    let session = postgres.connect_source("lift").await?;
    client::as_replica(&session).await?;
    for purpose in ["fence", "marker"] {
        stale_sessions::end(postgres, &session, purpose, END_TIMEOUT).await?;
    }
    if standing(&session, postgres, TRIGGER).await?.is_empty() {
        return mark::remove(&session, postgres).await;
    }
    disarm(&session, postgres).await?;
    let left = remove(&session, postgres, DROP_TIMEOUT).await?;
    if !left.is_empty() {
        tracing::warn!(
            migration = postgres.name(),
            tables = left.join(", "),
            "triggers of the lifted fence stay until long transactions end; they refuse nothing"
        );
    }
    Ok(())
}

/// Makes a sealed refusal harmless, and removes its mark, without a lock on any table.
pub async fn disarm(session: &Client, postgres: &Postgres) -> Result<()> {
    let failure = |error| failed("cannot lift the source's fence", error);
    session.batch_execute("BEGIN").await.map_err(failure)?;
    if !standing(session, postgres, TRIGGER).await?.is_empty() {
        define(session, postgres, "").await?;
    }
    mark::remove(session, postgres).await?;
    session.batch_execute("COMMIT").await.map_err(failure)
}

/// The legs of this migration whose fences have left their function on a database.
pub(in super::super) async fn legs(session: &Client, postgres: &Postgres) -> Result<Vec<Leg>> {
    let first = postgres.for_leg(Leg::FIRST).slot();
    let pattern = format!("^headgate([0-9]*){}$", first.strip_prefix("headgate").unwrap_or(&first));
    session
        .query(
            "SELECT coalesce(nullif(substring(proname from $1), ''), '1')::bigint FROM pg_catalog.pg_proc
             WHERE pronamespace = to_regnamespace('headgate') AND proname ~ $1",
            &[&pattern],
        )
        .await
        .and_then(|rows| rows.iter().map(|row| row.try_get::<_, i64>(0)).collect::<std::result::Result<Vec<_>, _>>())
        .map(|legs| legs.into_iter().filter_map(|leg| u32::try_from(leg).ok()).map(Leg::new).collect())
        .map_err(|error| failed("cannot see which fences a database has", error))
}

/// Removes the function, and triggers that do nothing; a refusal that is in force stays with what it needs.
pub async fn forget(session: &Client, postgres: &Postgres) -> Result<()> {
    client::as_replica(session).await?;
    let failure = |error| failed("cannot remove the fence's function from the source", error);
    let row = session
        .query_opt(
            "SELECT prosrc LIKE '%RAISE%' FROM pg_catalog.pg_proc
             WHERE pronamespace = to_regnamespace('headgate') AND proname = $1",
            &[&postgres.slot()],
        )
        .await
        .map_err(failure)?;
    let Some(row) = row else { return Ok(()) };
    if row.try_get(0).map_err(failure)? {
        if !standing(session, postgres, TRIGGER).await?.is_empty() {
            return Ok(());
        }
    } else if let Some(table) = remove(session, postgres, DROP_TIMEOUT).await?.first() {
        return Err(Error::transient(format!("the trigger {TRIGGER} cannot be dropped from {table}"))
            .remedy("end the long transactions that read this table, and try again"));
    }
    session.batch_execute(&format!("DROP FUNCTION {}()", function(postgres))).await.map_err(failure)
}

/// Drops the triggers: all at once where nobody is in the way, else one by one. Returns where they stay.
async fn remove(session: &Client, postgres: &Postgres, limit: Duration) -> Result<Vec<String>> {
    let failure = |error| failed("cannot drop the fence's triggers", error);
    let give_up = Instant::now() + limit;
    let mut at_once = usize::MAX;
    loop {
        let standing = standing(session, postgres, TRIGGER).await?;
        if standing.is_empty() || Instant::now() >= give_up {
            return Ok(standing);
        }
        for some in standing.chunks(at_once.min(standing.len())) {
            let drops: Vec<String> =
                some.iter().map(|name| format!("DROP TRIGGER IF EXISTS {TRIGGER} ON {name}")).collect();
            let batch = format!("BEGIN; SET LOCAL lock_timeout = '{DROP_LOCK_TIMEOUT}'; {}; COMMIT", drops.join(";"));
            let Err(error) = session.batch_execute(&batch).await else {
                continue;
            };
            // A table that is gone took its trigger along; a reader may be gone at the next look.
            let passes =
                error.code().is_some_and(|code| client::is_transient(code) || *code == SqlState::UNDEFINED_TABLE);
            if !passes {
                return Err(failure(error));
            }
            at_once = 1;
            session.batch_execute("ROLLBACK").await.map_err(failure)?;
            if Instant::now() >= give_up {
                break;
            }
        }
        if at_once == 1 {
            sleep(PAUSE).await;
        }
    }
}

/// The quoted names of the tables that carry this migration's triggers.
pub async fn standing(session: &Client, postgres: &Postgres, trigger: &str) -> Result<Vec<String>> {
    session
        .query(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_trigger t
             JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
             JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE p.pronamespace = to_regnamespace('headgate') AND p.proname = $1
               AND t.tgname = $2 ORDER BY 1",
            &[&postgres.slot(), &trigger],
        )
        .await
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
        .map_err(|error| failed("cannot see which tables refuse writes", error))
}
