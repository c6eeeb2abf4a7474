//! The mark of a switch, kept on the source beside the refusal, and how it is read, confirmed and removed.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::error::{Error, Result};
use crate::model::mark::{self, Mark, Stage};
use crate::postgres::Postgres;
use crate::postgres::client::failed;
use crate::postgres::sql::{quote_ident, quote_literal};

/// Everybody may read it: whoever looks later need not be who wrote it.
const INSTALL: &str = "CREATE SCHEMA IF NOT EXISTS headgate;
    CREATE TABLE IF NOT EXISTS headgate.switches (
        migration text PRIMARY KEY, route text NOT NULL, source text NOT NULL, target text NOT NULL,
        epoch bigint NOT NULL, journal text NOT NULL, switched boolean NOT NULL DEFAULT false,
        sealed timestamptz NOT NULL DEFAULT clock_timestamp());
    GRANT USAGE ON SCHEMA headgate TO PUBLIC;
    GRANT SELECT ON headgate.switches TO PUBLIC";

/// Creates what marks are kept in, on the source, before anything is held.
pub(crate) async fn install(session: &Client) -> Result<()> {
    if is_there(session).await? {
        return Ok(());
    }
    session.batch_execute(INSTALL).await.map_err(|error| {
        failed("cannot create on the source what the mark of the switch is kept in", error)
            .remedy("the migrator's role must be allowed to create a schema in the source's database")
    })
}

/// The statement that writes the mark; it belongs into the transaction of the refusal, which it ends with
/// [`SqlState::NOT_NULL_VIOLATION`] where the mark of a later cutover is there.
pub(crate) fn writing(mark: &Mark) -> String {
    let values = [&mark.migration, &mark.route, &mark.source, &mark.target, &mark.epoch.to_string(), &mark.journal];
    let values: Vec<String> = values.iter().map(|value| quote_literal(value)).collect();
    format!(
        "INSERT INTO headgate.switches (migration, route, source, target, epoch, journal) VALUES ({})
         ON CONFLICT (migration) DO UPDATE SET route = excluded.route, source = excluded.source,
             target = excluded.target, journal = excluded.journal,
             epoch = CASE WHEN switches.epoch <= excluded.epoch THEN excluded.epoch END, switched = false, sealed = excluded.sealed",
        values.join(", ")
    )
}

/// What the transaction of the refusal met where the mark of a later cutover is there.
pub(super) fn superseded(error: tokio_postgres::Error) -> Error {
    Error::fatal("the source carries the mark of a later cutover of this migration").because(error)
}

/// The marks on the source of `postgres`.
pub(crate) async fn read(postgres: &Postgres) -> Result<Vec<Mark>> {
    let session = match postgres.connect_source("marks").await {
        Ok(session) => session,
        // A database that does not exist carries nothing.
        Err(error) if error.full_text().contains("(SQLSTATE 3D000)") => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    if !is_there(&session).await? {
        return Ok(Vec::new());
    }
    let rows = session
        .query(
            "SELECT migration, route, source, target, epoch, journal, switched,
                 to_char(sealed AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS \"UTC\"')
             FROM headgate.switches ORDER BY migration",
            &[],
        )
        .await
        .map_err(|error| unreadable(error, &postgres.source().user))?;
    rows.iter()
        .map(|row| {
            Ok(Mark {
                migration: row.try_get(0)?,
                route: row.try_get(1)?,
                source: row.try_get(2)?,
                target: row.try_get(3)?,
                epoch: row.try_get::<_, i64>(4)?.unsigned_abs(),
                journal: row.try_get(5)?,
                stage: if row.try_get(6)? { Stage::Switched } else { Stage::Sealed },
                sealed: row.try_get(7)?,
            })
        })
        .collect::<std::result::Result<_, tokio_postgres::Error>>()
        .map_err(|error| unreadable(error, &postgres.source().user))
}

/// Refuses to act for the cutover `epoch` where the database has the mark of a later one.
pub(crate) async fn refuse_later(session: &Client, migration: &str, epoch: u64) -> Result<()> {
    let asked = session.query_opt("SELECT epoch FROM headgate.switches WHERE migration = $1", &[&migration]).await;
    let found = match asked {
        Ok(row) => row.map(|row| row.try_get::<_, i64>(0)).transpose(),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
        Err(error) => Err(error),
    };
    let found = found.map_err(|error| failed("the mark of a switch cannot be read", error))?;
    mark::refuse_later(migration, found.map(i64::unsigned_abs), epoch)
}

/// Writes onto the mark that the switch took place, unless it is of a later cutover than `epoch`.
pub(crate) async fn confirm(postgres: &Postgres, epoch: u64) -> Result<()> {
    let session = postgres.connect_source("marks").await?;
    session
        .execute(
            "UPDATE headgate.switches SET switched = true WHERE migration = $1 AND epoch <= $2 AND NOT switched",
            &[&postgres.name(), &i64::try_from(epoch).unwrap_or(i64::MAX)],
        )
        .await
        .map(drop)
        .map_err(|error| failed("cannot write the mark of the switch on the source", error))
}

/// Removes this migration's mark, if there is one.
pub(crate) async fn remove(session: &Client, postgres: &Postgres) -> Result<()> {
    if !is_there(session).await? {
        return Ok(());
    }
    session
        .execute("DELETE FROM headgate.switches WHERE migration = $1", &[&postgres.name()])
        .await
        .map(drop)
        .map_err(|error| failed("cannot remove the mark of the switch from the source", error))
}

/// Drops what marks are kept in where there is none.
pub(crate) async fn forget(session: &Client) -> Result<()> {
    let cannot = |error| failed("cannot remove Headgate's records from the source", error);
    if !is_there(session).await? {
        return Ok(());
    }
    let row = session
        .query_one(
            "SELECT EXISTS (SELECT FROM headgate.switches) OR NOT pg_catalog.pg_has_role(relowner, 'USAGE')
             FROM pg_catalog.pg_class WHERE oid = 'headgate.switches'::pg_catalog.regclass",
            &[],
        )
        .await
        .map_err(cannot)?;
    if row.try_get(0).map_err(cannot)? {
        return Ok(());
    }
    session.batch_execute("DROP TABLE headgate.switches").await.map_err(cannot)
}

async fn is_there(session: &Client) -> Result<bool> {
    session
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = 'headgate' AND c.relname = 'switches')",
            &[],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| failed(UNREADABLE, error))
}

const UNREADABLE: &str = "it cannot be known whether a switch away from this cluster took place";

fn unreadable(error: tokio_postgres::Error, user: &str) -> Error {
    let denied = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
    let reported = failed(UNREADABLE, error);
    if denied {
        let user = quote_ident(user);
        reported
            .remedy(format!("GRANT USAGE ON SCHEMA headgate TO {user}; GRANT SELECT ON headgate.switches TO {user}"))
    } else {
        reported
    }
}
