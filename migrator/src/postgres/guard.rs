//! Keeps others from writing to the target's tables until the switch: from the first check on, nobody but Headgate may.
//!
//! The guard is a function of the migration's own and triggers that call it, as the fence is on the source. They fire
//! for sessions that replicate too, and let pass who is named as this migration's sessions are. One statement, which
//! waits for no table, takes it down at the switch; the triggers do nothing from then on, and go afterwards.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::error::{Error, Result};
use crate::model::definitions::Definitions;
use crate::model::plan::Plan;
use crate::postgres::Postgres;
use crate::postgres::client;
use crate::postgres::client::as_replica;
use crate::postgres::client::failed;
use crate::postgres::fence;
use crate::postgres::fence::{NAME_KEPT, blockers, fenced, function, standing};
use crate::postgres::sql::quote_literal;
use crate::preflight::{Check, Level};

pub(crate) const TRIGGER: &str = "headgate_guard";
/// Whoever writes to a table keeps us waiting, and others would wait behind us.
const LOCK_TIMEOUT: &str = "200ms";
const PAUSE: Duration = Duration::from_millis(50);
/// The target serves by then: its clients must not notice that a trigger which does nothing goes away.
const DROP_LOCK_TIMEOUT: &str = "10ms";
const DROP_PAUSE: Duration = Duration::from_millis(500);
/// How long the guard may wait for those who write to the target's tables.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a reply may be late where the server has nothing to wait for.
const REPLY_GRACE: Duration = Duration::from_secs(5);
/// How long triggers that do nothing any more are worth waiting for.
const DROP_TIMEOUT: Duration = Duration::from_secs(5);

/// Raises the guard where it does not stand. That it could be raised on a table proves that no write of others is open
/// there. Returns the session that did, for [`lift`].
pub(crate) async fn raise(postgres: &Postgres, plan: &Plan) -> Result<Client> {
    let session = postgres.connect_target("guard").await?;
    as_replica(&session).await?;
    // The follower and a check may both find that it does not stand.
    take_turns(&session, postgres, "pg_advisory_lock").await?;
    put_up(&session, postgres, plan).await?;
    take_turns(&session, postgres, "pg_advisory_unlock").await?;
    Ok(session)
}

async fn take_turns(session: &Client, postgres: &Postgres, function: &str) -> Result<()> {
    let key = quote_literal(&format!("headgate guard {}", postgres.slot()));
    let turn = format!("SELECT pg_catalog.{function}(pg_catalog.hashtextextended({key}, 0))");
    session
        .batch_execute(&turn)
        .await
        .map_err(|error| failed("cannot take turns to keep others from writing to the target", error))
}

async fn put_up(session: &Client, postgres: &Postgres, plan: &Plan) -> Result<()> {
    let cannot = |error| {
        failed("cannot keep others from writing to the target", error)
            .remedy("Headgate's role must own the target's tables, or be a member of the roles that do")
    };
    let names = fenced(plan);
    let rows = session
        .query(
            "SELECT name FROM unnest($1::text[]) WITH ORDINALITY AS wanted (name, place)
             WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
                 WHERE t.tgrelid = name::regclass AND t.tgname = $2 AND t.tgenabled = 'A'
                   AND p.pronamespace = to_regnamespace('headgate') AND p.proname = $3)
             ORDER BY place",
            &[&names, &TRIGGER, &postgres.slot()],
        )
        .await
        .map_err(cannot)?;
    let lacking: Vec<String> =
        rows.iter().map(|row| row.try_get(0)).collect::<std::result::Result<_, _>>().map_err(cannot)?;
    if !refuses(session, postgres).await? {
        let moved = format!(
            "IF NOT pg_catalog.starts_with(pg_catalog.current_setting('application_name'), {}) THEN
                 RAISE EXCEPTION USING ERRCODE = '25006',
                     MESSAGE = 'cannot execute ' || TG_OP || ': migration ' || {} || ' is filling this table',
                     HINT = 'It takes writes once the migration is cut over; until then write to where the database is served.';
             END IF;",
            quote_literal(&own(session).await?),
            quote_literal(postgres.name()),
        );
        define(session, postgres, &moved).await?;
    }
    let give_up = Instant::now() + TIMEOUT;
    for name in &lacking {
        let batch = format!(
            "BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; DROP TRIGGER IF EXISTS {TRIGGER} ON {name};
             CREATE TRIGGER {TRIGGER} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {name}
                 FOR EACH STATEMENT EXECUTE FUNCTION {}();
             ALTER TABLE {name} ENABLE ALWAYS TRIGGER {TRIGGER}; COMMIT",
            function(postgres)
        );
        while let Err(error) = session.batch_execute(&batch).await {
            session.batch_execute("ROLLBACK").await.map_err(cannot)?;
            if !error.code().is_some_and(client::is_transient) {
                return Err(cannot(error));
            }
            if Instant::now() >= give_up {
                let who = blockers(session, plan, "0 seconds").await?;
                return Err(Error::transient(format!(
                    "others write to the target's tables: {}",
                    who.unwrap_or_else(|| "none that is still there".to_owned())
                ))
                .remedy("let these transactions end, or end them, and try again"));
            }
            sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// What all sessions of this migration are named, as the server has it.
async fn own(session: &Client) -> Result<String> {
    let cannot = |error| failed("cannot read the name of a session", error);
    let query = "SELECT pg_catalog.left(pg_catalog.regexp_replace(
        pg_catalog.current_setting('application_name'), 'guard$', ''), $1)";
    let kept = i32::try_from(NAME_KEPT).unwrap_or(i32::MAX);
    let row = session.query_one(query, &[&kept]).await.map_err(cannot)?;
    row.try_get(0).map_err(cannot)
}

async fn refuses(session: &Client, postgres: &Postgres) -> Result<bool> {
    session
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_proc
                 WHERE pronamespace = to_regnamespace('headgate') AND proname = $1 AND prosrc LIKE '%RAISE%')",
            &[&postgres.slot()],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| failed("cannot see whether the target refuses writes of others", error))
}

async fn define(session: &Client, postgres: &Postgres, body: &str) -> Result<()> {
    session
        .batch_execute(&fence::defining(postgres, body))
        .await
        .map_err(|error| failed("cannot create the function that keeps others from writing to the target", error))
}

/// Lets others write. Waits for nobody. `session` is one of the target's.
pub(crate) async fn lift(postgres: &Postgres, session: &Client) -> Result<()> {
    timeout(REPLY_GRACE, define(session, postgres, ""))
        .await
        .unwrap_or_else(|_| Err(Error::transient("the target did not answer in time when it was to take writes")))
}

/// What tells, among the target's definitions, whether the guard stood without a break: what was taken away and came
/// again, or was disabled meanwhile, is another one.
pub(crate) async fn definitions(target: &Client, postgres: &Postgres) -> Result<Definitions> {
    let cannot = |error| failed("cannot see whether the target refuses writes of others", error);
    let rows = target
        .query(
            "SELECT 'refusal of writes of others to ' || t.tgrelid::regclass::text,
                 concat_ws(' ', t.oid, t.xmin, t.tgenabled, p.oid, p.xmin)
             FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
             WHERE p.pronamespace = to_regnamespace('headgate') AND p.proname = $1 AND t.tgname = $2",
            &[&postgres.slot(), &TRIGGER],
        )
        .await
        .map_err(cannot)?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<std::result::Result<_, tokio_postgres::Error>>()
        .map_err(cannot)
}

/// Whether others may write to the target, for the operator.
pub(crate) async fn findings(postgres: &Postgres) -> Result<Vec<Check>> {
    const NAME: &str = "foreign_writes";
    let target = postgres.connect_target("readiness").await?;
    let tables = standing(&target, postgres, TRIGGER).await?.len();
    if tables > 0 && refuses(&target, postgres).await? {
        let evidence = format!("the target refuses writes of others to {tables} tables");
        return Ok(vec![Check::ok(NAME, evidence)]);
    }
    Ok(vec![Check::new(
        NAME,
        Level::Warning,
        "the target takes writes of others; from the next check on it refuses them",
        "CHECK the migration",
        format!("CHECK MIGRATION {}", postgres.name()),
    )])
}

/// Removes the guard, and finds nothing to do where there is none.
pub(crate) async fn forget(session: &Client, postgres: &Postgres) -> Result<()> {
    as_replica(session).await?;
    if refuses(session, postgres).await? {
        define(session, postgres, "").await?;
    }
    let give_up = Instant::now() + DROP_TIMEOUT;
    let left = loop {
        let left = drop_some(session, postgres).await?;
        if left.is_empty() || Instant::now() >= give_up {
            break left;
        }
        sleep(DROP_PAUSE).await;
    };
    if let Some(table) = left.first() {
        return Err(Error::transient(format!(
            "the trigger {TRIGGER}, which does nothing any more, cannot be dropped from {table} on the target"
        ))
        .remedy("end the long transactions that use this table, and try again"));
    }
    session
        .batch_execute(&format!("DROP FUNCTION IF EXISTS {}()", function(postgres)))
        .await
        .map_err(|error| failed("cannot drop the function that kept others from writing to the target", error))
}

/// Drops the triggers one by one where nobody is in the way. Returns where they stay.
async fn drop_some(session: &Client, postgres: &Postgres) -> Result<Vec<String>> {
    let failure = |error| failed("cannot drop the triggers of the target's guard", error);
    let mut stay = Vec::new();
    for name in standing(session, postgres, TRIGGER).await? {
        let batch = format!(
            "BEGIN; SET LOCAL lock_timeout = '{DROP_LOCK_TIMEOUT}'; DROP TRIGGER IF EXISTS {TRIGGER} ON {name}; COMMIT"
        );
        let Err(error) = session.batch_execute(&batch).await else {
            continue;
        };
        session.batch_execute("ROLLBACK").await.map_err(failure)?;
        // A table that is gone took its trigger along.
        if error.code() == Some(&SqlState::UNDEFINED_TABLE) {
            continue;
        }
        if !error.code().is_some_and(client::is_transient) {
            return Err(failure(error));
        }
        stay.push(name);
    }
    Ok(stay)
}
