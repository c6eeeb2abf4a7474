//! The barrier and the durable refusal on the source, and the marker that says "everything before me".

pub mod counters;
mod look;
pub(crate) mod mark;
mod write_block;
pub(crate) mod writers;

use std::fmt::Write as _;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::Postgres;
use super::client::{failed, interrupt};
use super::position::Lsn;
use super::sql::{qualified, quote_literal, relation};
use crate::database::Raised;
use crate::error::{Error, Result};
use crate::model::plan::Plan;
use crate::postgres::check::drift;
use crate::postgres::client::as_replica;
pub use look::UnderFence;
pub(super) use write_block::NAME_KEPT;
use write_block::TRIGGER;
pub(super) use write_block::legs;
pub use write_block::{defining, disarm, forget, function, lift, standing};

/// Autovacuum gives way to a waiting lock only after the waiter's `deadlock_timeout`.
const DEADLOCK_TIMEOUT: &str = "5ms";
/// How long one try waits for a lock: longer than our `deadlock_timeout`, so that autovacuum gives way, and shorter
/// than that of a writer with locks in another order, so that we give way to it and not it to us.
const ONE_TRY: Duration = Duration::from_millis(200);
/// The same where `deadlock_timeout` could not be set and is a second.
const ONE_LONG_TRY: Duration = Duration::from_millis(1200);
/// How long a reply may be late beyond the server's own timeout.
const REPLY_GRACE: Duration = Duration::from_secs(5);
const PREFIX: &str = "headgate";

/// A session whose open transaction locks the migrated tables against writers and holds the refusal, not yet committed.
pub struct Fence {
    session: Client,
    /// The look under the barrier, which goes on while the target catches up.
    looking: Option<JoinHandle<Result<()>>>,
}

impl Drop for Fence {
    fn drop(&mut self) {
        if let Some(looking) = &self.looking {
            looking.abort();
        }
    }
}

/// The two sessions that raising the fence needs.
pub struct Ready {
    fence: Client,
    marker: Client,
    one_try: Duration,
    look: Option<UnderFence>,
}

impl Ready {
    /// Keeps what was looked at before the hold, so that it is looked at again under the barrier.
    pub fn look(&mut self, look: UnderFence) {
        self.look = Some(look);
    }
}

/// Installs what the refusal needs, opens the sessions, and looks for what would make the fence fail.
pub async fn warm_up(postgres: &Postgres, plan: &Plan) -> Result<Ready> {
    let ready = open(postgres).await?;
    write_block::arm(&ready.marker, postgres).await?;
    mark::install(&ready.marker).await?;
    drift::refuse(&ready.marker, postgres, plan).await?;
    if let Some(blockers) = blockers(&ready.marker, plan, "30 seconds").await? {
        return Err(Error::refused(format!("the fence would have to wait: {blockers}"))
            .remedy("let these end, or end them, and try again"));
    }
    Ok(ready)
}

async fn open(postgres: &Postgres) -> Result<Ready> {
    let (fence, marker) = tokio::try_join!(postgres.connect_source("fence"), postgres.connect_source("marker"))?;
    // A durable refusal and a marker that the change stream can see: both must reach this server's own disk.
    for session in [&fence, &marker] {
        session
            .batch_execute("SET synchronous_commit = local")
            .await
            .map_err(|error| failed("cannot prepare the fence", error))?;
    }
    as_replica(&fence).await?;
    // Not everyone may set this; without it the fence waits longer where autovacuum is at work.
    let setting = format!("SET deadlock_timeout = '{DEADLOCK_TIMEOUT}'");
    let one_try = match fence.batch_execute(&setting).await {
        Ok(()) => ONE_TRY,
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => ONE_LONG_TRY,
        Err(error) => return Err(failed("cannot prepare the fence", error)),
    };
    Ok(Ready { fence, marker, one_try, look: None })
}

/// Locks the tables against writers within `limit`, readies the refusal, and commits the marker elsewhere.
pub async fn raise(
    ready: Option<Ready>,
    postgres: &Postgres,
    plan: &Plan,
    token: &str,
    limit: Duration,
) -> Result<Raised<Fence, Lsn>> {
    let usable = ready.filter(|ready| !ready.fence.is_closed() && !ready.marker.is_closed());
    let mut ready = if let Some(ready) = usable {
        ready
    } else {
        let ready = open(postgres).await?;
        write_block::arm(&ready.marker, postgres).await?;
        ready
    };
    // The target has nothing to do while the source is locked.
    let (locked, is_locked) = oneshot::channel();
    let looking = ready.look.take().map(|look| {
        let (postgres, plan) = (postgres.clone(), plan.clone());
        tokio::spawn(async move { look.again(&postgres, &plan, is_locked).await })
    });
    lock(&ready, postgres, plan, limit).await?;
    // Where the look has ended already, with a failure, that is reported by the look.
    let _ = locked.send(());
    let fence = Fence { session: ready.fence, looking };
    let marker = write_marker(&ready.marker, token, limit.max(REPLY_GRACE)).await?;
    Ok(Raised { fence, marker })
}

/// Takes the locks and readies the refusal in one transaction that stays open. Writers that hold one table and wait
/// for another are let through between the tries.
async fn lock(ready: &Ready, postgres: &Postgres, plan: &Plan, limit: Duration) -> Result<()> {
    let statements = statements(postgres, plan);
    let give_up = Instant::now() + limit;
    loop {
        let left = give_up.saturating_duration_since(Instant::now());
        let batch = format!(
            "BEGIN; SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; {statements}",
            left.as_millis().max(1),
            left.min(ready.one_try).as_millis().max(1),
        );
        let error = match timeout(left + REPLY_GRACE, ready.fence.batch_execute(&batch)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => {
                // The server would go on waiting in the queue, with writers behind it.
                let _ = timeout(REPLY_GRACE, interrupt(postgres.source(), &ready.fence)).await;
                return Err(Error::transient("the source did not answer while the fence was raised"));
            }
        };
        let pause = Duration::from_millis(10 + u64::from(rand::random::<u8>()) / 8);
        let yields = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
        let again = error.code().is_some_and(|code| yields.contains(code));
        if !again || Instant::now() + pause >= give_up {
            return Err(not_raised(ready, plan, limit, error).await);
        }
        timeout(REPLY_GRACE, ready.fence.batch_execute("ROLLBACK"))
            .await
            .map_err(|_| Error::transient("the source did not answer the fence's ROLLBACK"))?
            .map_err(|error| failed("the fence could not be raised on the source", error))?;
        sleep(pause).await;
    }
}

fn statements(postgres: &Postgres, plan: &Plan) -> String {
    let names = fenced(plan);
    let function = function(postgres);
    let mut statements = String::new();
    if !names.is_empty() {
        let only: Vec<String> = names.iter().map(|name| format!("ONLY {name}")).collect();
        let _ = write!(statements, "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE;", only.join(", "));
    }
    for name in &names {
        let _ = write!(
            statements,
            "CREATE TRIGGER {TRIGGER} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {name}
             FOR EACH STATEMENT EXECUTE FUNCTION {function}();"
        );
    }
    // Sealing must not meet a timeout that was meant for the locks.
    statements.push_str("SET LOCAL statement_timeout = 0");
    statements
}

/// Commits the marker; its position is that of the record, which lies before its commit.
async fn write_marker(session: &Client, token: &str, limit: Duration) -> Result<Lsn> {
    let content = format!("marker:{token}");
    let query = format!(
        "SELECT pg_catalog.pg_logical_emit_message(true, {}, {})::text",
        quote_literal(PREFIX),
        quote_literal(&content)
    );
    let reply = timeout(limit, session.simple_query(&query))
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

async fn not_raised(ready: &Ready, plan: &Plan, limit: Duration, error: tokio_postgres::Error) -> Error {
    let waited = [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
    if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
        return failed(
            "an event trigger of the source writes to a fenced table when the fence's triggers are created",
            error,
        )
        .remedy("disable it for the migration: the precheck names it");
    }
    if !error.code().is_some_and(|code| waited.contains(code)) {
        return failed("the fence could not be raised on the source", error);
    }
    let who = match blockers(&ready.marker, plan, "0 seconds").await {
        Ok(Some(blockers)) => blockers,
        Ok(None) => "none that is still there".to_owned(),
        Err(failure) => failure.full_text(),
    };
    Error::transient(format!("writers on the source did not end within {} ms: {who}", limit.as_millis()))
        .remedy("let these transactions end, or end them, and try again")
}

/// Who holds a lock on the plan's tables that the fence waits for, in a transaction older than `age`; prepared
/// transactions and maintenance are named whatever their age.
pub async fn blockers(session: &Client, plan: &Plan, age: &str) -> Result<Option<String>> {
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
        .map_err(|error| failed("cannot see who writes to the tables", error))?;
    row.try_get(0).map_err(|error| failed("cannot see who writes to the tables", error))
}

/// Waits for what the look found; looks from the beginning where none was begun.
pub async fn confirm(postgres: &Postgres, plan: &Plan, fence: &mut Fence) -> Result<()> {
    let Some(looking) = fence.looking.as_mut() else {
        let source = postgres.connect_source("look").await?;
        return drift::refuse(&source, postgres, plan).await;
    };
    let found = looking
        .await
        .unwrap_or_else(|fault| Err(Error::transient("the look under the barrier broke off").because(fault)));
    fence.looking = None;
    found
}

/// Commits the refusal, with what the statements `recording` write. That it commits proves that the locks were
/// held all the time.
pub async fn seal(fence: Fence, recording: &[String]) -> Result<()> {
    end(fence, &format!("{}; COMMIT", recording.join("; "))).await
}

/// Rolls the barrier and the refusal back.
pub async fn drop_fence(fence: Fence) -> Result<()> {
    end(fence, "ROLLBACK").await
}

async fn end(fence: Fence, how: &str) -> Result<()> {
    timeout(REPLY_GRACE, fence.session.batch_execute(how))
        .await
        .map_err(|_| Error::transient("the source did not answer the end of the fence's transaction"))?
        .map_err(|error| match error.code() {
            Some(&SqlState::NOT_NULL_VIOLATION) => mark::superseded(error),
            _ => failed("the fence was lost with its session on the source", error),
        })
}

/// Everything that writers may name, parents first, as writers lock them.
pub fn fenced(plan: &Plan) -> Vec<String> {
    let parents = plan.parents.iter().map(|(schema, name)| qualified(schema, name));
    parents.chain(plan.tables.iter().map(relation)).collect()
}
