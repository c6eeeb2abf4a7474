//! The barrier and the durable refusal on the source, and the marker that says "everything before me".

use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::Postgres;
use super::client::{self, failed};
use super::position::Lsn;
use super::sql::{qualified, quote_literal, relation};
use crate::database::Raised;
use crate::error::{Error, Result};
use crate::plan::Plan;

/// Autovacuum gives way to a waiting lock only after the waiter's `deadlock_timeout`.
const DEADLOCK_TIMEOUT: &str = "5ms";
const TRIGGER: &str = "headgate_fence";
const LIFT_PATIENCE: Duration = Duration::from_mins(1);
/// How long a reply may be late beyond the server's own timeout.
const REPLY_GRACE: Duration = Duration::from_secs(5);
const PREFIX: &str = "headgate";

/// A session whose open transaction locks the migrated tables against writers and holds the refusal, not yet committed.
pub struct Fence {
    session: Client,
}

/// The two sessions that raising the fence needs.
pub struct Ready {
    fence: Client,
    marker: Client,
}

/// Installs what the refusal needs, opens the sessions, and looks for what would block the fence.
pub async fn warm_up(postgres: &Postgres, plan: &Plan) -> Result<Ready> {
    let ready = open(postgres).await?;
    install(&ready.marker).await?;
    if let Some(blockers) = blockers(&ready.marker, plan, "30 seconds").await? {
        return Err(
            Error::refused(format!("the fence would have to wait: {blockers}"))
                .remedy("let these end, or end them, and try again"),
        );
    }
    Ok(ready)
}

async fn open(postgres: &Postgres) -> Result<Ready> {
    let (fence, marker) = tokio::try_join!(
        postgres.connect_source("fence"),
        postgres.connect_source("marker")
    )?;
    // A durable refusal and a marker that the change stream can see: both must reach this server's own disk.
    for session in [&fence, &marker] {
        session
            .batch_execute("SET synchronous_commit = local")
            .await
            .map_err(|error| failed("cannot prepare the fence", error))?;
    }
    // Not everyone may set this; without it the fence waits longer where autovacuum is at work.
    let setting = format!("SET deadlock_timeout = '{DEADLOCK_TIMEOUT}'");
    match fence.batch_execute(&setting).await {
        Err(error) if error.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            return Err(failed("cannot prepare the fence", error));
        }
        _ => {}
    }
    Ok(Ready { fence, marker })
}

async fn install(session: &Client) -> Result<()> {
    session
        .batch_execute(
            "CREATE SCHEMA IF NOT EXISTS headgate;
             CREATE OR REPLACE FUNCTION headgate.refuse_write() RETURNS trigger LANGUAGE plpgsql
             SET search_path = pg_catalog AS $$
             BEGIN
                 RAISE EXCEPTION USING ERRCODE = '25006',
                     MESSAGE = 'cannot execute ' || TG_OP || ': this database has moved',
                     HINT = 'Connect to where the database is served now.';
             END $$",
        )
        .await
        .map_err(|error| {
            failed(
                "cannot create the function that refuses writes on the source",
                error,
            )
            .remedy(
                "the migrator's role must be allowed to create a schema in the source's database",
            )
        })
}

/// Locks the tables against writers within `patience`, readies the refusal, and commits the marker elsewhere.
pub async fn raise(
    ready: Option<Ready>,
    postgres: &Postgres,
    plan: &Plan,
    token: &str,
    patience: Duration,
) -> Result<Raised<Fence, Lsn>> {
    let usable = ready.filter(|ready| !ready.fence.is_closed() && !ready.marker.is_closed());
    let ready = if let Some(ready) = usable {
        ready
    } else {
        let ready = open(postgres).await?;
        install(&ready.marker).await?;
        ready
    };
    let names = fenced(plan);
    let mut batch = format!(
        "BEGIN; SET LOCAL statement_timeout = {0}; SET LOCAL lock_timeout = {0};",
        patience.as_millis().max(1)
    );
    if !names.is_empty() {
        let only: Vec<String> = names.iter().map(|name| format!("ONLY {name}")).collect();
        let _ = write!(
            batch,
            "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE;",
            only.join(", ")
        );
    }
    for name in &names {
        let _ = write!(
            batch,
            "CREATE TRIGGER {TRIGGER} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {name}
             FOR EACH STATEMENT EXECUTE FUNCTION headgate.refuse_write();"
        );
    }
    // Sealing must not meet a timeout that was meant for the locks.
    batch.push_str("SET LOCAL statement_timeout = 0");
    let cancel = ready.fence.cancel_token();
    let outcome = timeout(patience + REPLY_GRACE, ready.fence.batch_execute(&batch)).await;
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(not_raised(&ready, plan, patience, error).await),
        Err(_) => {
            // The server would go on waiting in the queue, with writers behind it.
            let cancelling = cancel.cancel_query(tokio_postgres::NoTls);
            let _ = timeout(REPLY_GRACE, cancelling).await;
            return Err(Error::transient(
                "the source did not answer while the fence was raised",
            ));
        }
    }
    let marker = mark(&ready.marker, token, patience.max(REPLY_GRACE)).await?;
    Ok(Raised {
        fence: Fence {
            session: ready.fence,
        },
        marker,
    })
}

/// Commits the marker; its position is that of the record, which lies before its commit.
async fn mark(session: &Client, token: &str, patience: Duration) -> Result<Lsn> {
    let content = format!("marker:{token}");
    let query = format!(
        "SELECT pg_catalog.pg_logical_emit_message(true, {}, {})::text",
        quote_literal(PREFIX),
        quote_literal(&content)
    );
    let reply = timeout(patience, session.simple_query(&query))
        .await
        .map_err(|_| Error::transient("the source did not commit the marker in time"))?
        .map_err(|error| failed("cannot write the marker on the source", error))?;
    reply
        .iter()
        .find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .ok_or_else(|| Error::fatal("the source did not say where the marker is"))?
        .parse()
}

async fn not_raised(
    ready: &Ready,
    plan: &Plan,
    patience: Duration,
    error: tokio_postgres::Error,
) -> Error {
    let waited = [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE];
    if !error.code().is_some_and(|code| waited.contains(code)) {
        return failed("the fence could not be raised on the source", error);
    }
    let who = match blockers(&ready.marker, plan, "0 seconds").await {
        Ok(Some(blockers)) => blockers,
        Ok(None) => "none that is still there".to_owned(),
        Err(failure) => failure.full_text(),
    };
    Error::transient(format!(
        "writers on the source did not end within {} ms: {who}",
        patience.as_millis()
    ))
    .remedy("let these transactions end, or end them, and try again")
}

/// Who holds a lock on the plan's tables that the fence waits for, in a transaction older than `age`; prepared
/// transactions and maintenance are named whatever their age.
async fn blockers(session: &Client, plan: &Plan, age: &str) -> Result<Option<String>> {
    let names = fenced(plan);
    let row = session
        .query_one(
            "SELECT string_agg(DISTINCT who, '; ') FROM (
                 SELECT CASE WHEN l.pid IS NULL THEN 'a prepared transaction on ' || l.relation::regclass::text
                     ELSE format('pid %s, user %s, application %s, %s on %s for %s s', a.pid, a.usename,
                         quote_literal(a.application_name), l.mode, l.relation::regclass,
                         extract(epoch FROM clock_timestamp() - a.xact_start)::int) END AS who
                 FROM pg_catalog.pg_locks l
                 LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
                 WHERE l.locktype = 'relation' AND l.granted
                   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
                   AND l.relation IN (SELECT name::regclass FROM unnest($1::text[]) AS name)
                   AND l.mode IN ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock',
                       'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
                   AND a.backend_type IS DISTINCT FROM 'autovacuum worker'
                   AND (l.pid IS NULL OR clock_timestamp() - a.xact_start > $2::text::interval
                       OR l.mode = 'ShareUpdateExclusiveLock')
                 LIMIT 10) blockers",
            &[&names, &age],
        )
        .await
        .map_err(|error| failed("cannot see who writes to the source's tables", error))?;
    row.try_get(0)
        .map_err(|error| failed("cannot see who writes to the source's tables", error))
}

/// Commits the refusal. That it commits proves that the locks were held all the time.
pub async fn seal(fence: Fence) -> Result<()> {
    end(fence, "COMMIT").await
}

/// Rolls the barrier and the refusal back.
pub async fn drop_fence(fence: Fence) -> Result<()> {
    end(fence, "ROLLBACK").await
}

async fn end(fence: Fence, how: &str) -> Result<()> {
    timeout(REPLY_GRACE, fence.session.batch_execute(how))
        .await
        .map_err(|_| Error::transient(format!("the source did not answer the fence's {how}")))?
        .map_err(|error| failed("the fence was lost with its session on the source", error))
}

/// Removes the triggers of a sealed fence, and finds nothing to do where there is none.
pub async fn lift(postgres: &Postgres, plan: &Plan) -> Result<()> {
    let session = postgres.connect_source("fence").await?;
    session
        .batch_execute("SET lock_timeout = '1s'")
        .await
        .map_err(|error| failed("cannot lift the fence", error))?;
    // All at once where nobody is in the way, else one by one.
    let mut at_once = usize::MAX;
    let lifting = async {
        loop {
            let standing = standing(&session, plan).await?;
            if standing.is_empty() {
                return Ok(());
            }
            for some in standing.chunks(at_once.min(standing.len())) {
                let drops: Vec<String> = some
                    .iter()
                    .map(|name| format!("DROP TRIGGER IF EXISTS {TRIGGER} ON {name}"))
                    .collect();
                match session.batch_execute(&drops.join(";")).await {
                    Ok(()) => {}
                    // Readers hold it up; the next round tries again.
                    Err(error) if error.code().is_some_and(client::is_transient) => at_once = 1,
                    Err(error) => return Err(failed("cannot lift the fence", error)),
                }
            }
        }
    };
    timeout(LIFT_PATIENCE, lifting).await.map_err(|_| {
        Error::transient(format!(
            "the fence could not be lifted within {} s",
            LIFT_PATIENCE.as_secs()
        ))
        .remedy("end the long transactions on the source's tables; it is tried again")
    })?
}

/// The plan's tables and parents that carry the refusal.
async fn standing(session: &Client, plan: &Plan) -> Result<Vec<String>> {
    session
        .query(
            "SELECT name FROM unnest($1::text[]) AS name WHERE EXISTS (
                 SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
                 WHERE t.tgrelid = pg_catalog.to_regclass(name) AND t.tgname = $2
                   AND p.pronamespace = pg_catalog.to_regnamespace('headgate'))",
            &[&fenced(plan), &TRIGGER],
        )
        .await
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
        .map_err(|error| failed("cannot see whether the source is fenced", error))
}

/// Everything that writers may name, parents first, as writers lock them.
fn fenced(plan: &Plan) -> Vec<String> {
    let parents = plan
        .parents
        .iter()
        .map(|(schema, name)| qualified(schema, name));
    parents.chain(plan.tables.iter().map(relation)).collect()
}
