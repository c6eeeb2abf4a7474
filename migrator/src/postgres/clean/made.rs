//! Removes what a migration made on its target, by the record of that, and nothing else.

use crate::error::{Error, Result};
use crate::postgres::client::failed;
use crate::postgres::schema::archive;
use crate::postgres::schema::made::{DATABASE, ROLE, before, objects, recorded};
use crate::postgres::schema::set_aside;
use crate::postgres::sql::{quote_ident, quote_literal};
use crate::postgres::{Postgres, schema};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
/// Sessions of ours that are ending, and whoever looks at the database for a moment.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Drops what this migration made and nothing else, and all that [`super::run`] removes. Returns what had to stay.
pub(crate) async fn remove(postgres: &Postgres) -> Result<Vec<String>> {
    let before = before(postgres).await?;
    if !before.database {
        super::run(postgres).await?;
        return Ok(Vec::new());
    }
    let target = postgres.connect_target("drop").await?;
    archive::end_orphans(postgres, &target).await?;
    let made = recorded(postgres, &target).await?;
    drop_keys(&target, &made).await?;
    let mut stays = drop_objects(&target, &made).await?;
    for (_, role) in made.iter().filter(|(kind, _)| kind == ROLE) {
        if let Err(error) = drop_role(&target, role).await {
            stays.push(format!("role {role} ({error})"));
        }
    }
    set_aside::forget(postgres, &target).await?;
    let emptied = objects(&target, &[]).await?.is_empty();
    drop(target);
    super::run(postgres).await?;
    if made.iter().any(|(kind, _)| kind == DATABASE) {
        if emptied {
            drop_database(postgres).await?;
        } else {
            let name = &postgres.target().database;
            stays.push(format!("database {name}, which holds what others made"));
        }
    }
    Ok(stays)
}

/// Tables that refer to one another could not go one by one.
async fn drop_keys(target: &Client, made: &BTreeSet<(String, String)>) -> Result<()> {
    let cannot = |error| failed("cannot drop the foreign keys of what was made on the target", error);
    let keys = target
        .query(
            "SELECT o.identity, format('ALTER TABLE %s DROP CONSTRAINT %I', o.identity, k.conname)
             FROM pg_catalog.pg_constraint k
             CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, k.conrelid, 0) o
             WHERE k.contype = 'f' AND k.conparentid = 0",
            &[],
        )
        .await
        .map_err(cannot)?;
    for key in keys {
        let table: String = key.try_get(0).map_err(cannot)?;
        let statement: String = key.try_get(1).map_err(cannot)?;
        if made.contains(&("table".to_owned(), table)) {
            target.batch_execute(&statement).await.map_err(cannot)?;
        }
    }
    Ok(())
}

/// One by one, and never what somebody else's depends on: the server sees to that. Schemas and extensions that others use
/// stay and are returned.
async fn drop_objects(target: &Client, made: &BTreeSet<(String, String)>) -> Result<Vec<String>> {
    loop {
        let present: Vec<_> = objects(target, &[]).await?.into_iter().filter(|object| made.contains(object)).collect();
        let (mut dropped, mut first, mut used) = (false, None, Vec::new());
        for (kind, name) in present {
            let kind = kind.replace('-', " ").to_uppercase();
            let kind = kind.replace(" OBJECT", "").replace("COMPOSITE TYPE", "TYPE");
            match target.batch_execute(&format!("DROP {kind} {name}")).await {
                Ok(()) => dropped = true,
                // It went with something else.
                Err(error) if is_gone(&error) => dropped = true,
                Err(error)
                    if matches!(kind.as_str(), "SCHEMA" | "EXTENSION")
                        && error.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) =>
                {
                    used.push(format!("{} {name}, which others use", kind.to_lowercase()));
                }
                Err(error) => {
                    first.get_or_insert((kind, name, error));
                }
            }
        }
        if dropped {
            continue;
        }
        let Some((kind, name, error)) = first else {
            return Ok(used);
        };
        {
            let detail = error.as_db_error().and_then(|reported| reported.detail());
            let detail = detail.map(|detail| format!(" ({})", detail.replace('\n', "; ")));
            let text = format!(
                "cannot drop what the migration made on the target: {} {name}{}",
                kind.to_lowercase(),
                detail.unwrap_or_default()
            );
            return Err(failed(&text, error).remedy(
                "drop what others made upon it, or drop the migration without target_objects and clean up by hand",
            ));
        }
    }
}

fn is_gone(error: &tokio_postgres::Error) -> bool {
    let gone = [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_OBJECT,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::INVALID_SCHEMA_NAME,
    ];
    error.code().is_some_and(|code| gone.contains(code))
}

/// A role that owns something still is somebody's.
async fn drop_role(target: &Client, role: &str) -> Result<()> {
    let cannot = |error| failed("it cannot be dropped", error);
    let row = target
        .query_opt(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_shdepend
                 WHERE refclassid = 'pg_catalog.pg_authid'::regclass AND refobjid = r.oid AND deptype = 'o')
             FROM pg_catalog.pg_roles r WHERE rolname = $1",
            &[&role],
        )
        .await
        .map_err(cannot)?;
    let Some(row) = row else { return Ok(()) };
    if row.try_get(0).map_err(cannot)? {
        return Err(Error::refused("it owns what others made"));
    }
    let name = quote_ident(role);
    // Nothing is its own: only what it was granted goes.
    let statements = format!("DROP OWNED BY {name}; DROP ROLE {name}");
    target.batch_execute(&statements).await.map_err(cannot)
}

async fn drop_database(postgres: &Postgres) -> Result<()> {
    let server = schema::database::connect_maintenance(postgres, postgres.target()).await?;
    let name = &postgres.target().database;
    let statement = format!("DROP DATABASE IF EXISTS {}", quote_ident(name));
    let give_up = Instant::now() + DATABASE_TIMEOUT;
    loop {
        let Err(error) = server.batch_execute(&statement).await else {
            return Ok(());
        };
        let busy = error.code() == Some(&SqlState::OBJECT_IN_USE);
        if !busy || Instant::now() >= give_up {
            return Err(failed("cannot drop the database that the migration made", error).remedy(format!(
                "end its sessions (SELECT * FROM pg_stat_activity WHERE datname = {}), and drop it by hand",
                quote_literal(name)
            )));
        }
        sleep(LOOK_EVERY).await;
    }
}
