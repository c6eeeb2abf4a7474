//! What a migration makes on its target, recorded there before it is made, and how all of that goes away again.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::clean;
use crate::error::{Error, Result};
use crate::postgres::client::failed;
use crate::postgres::load::records;
use crate::postgres::sql::{quote_ident, quote_literal};
use crate::postgres::{Postgres, schema};

const DATABASE: &str = "database";
const ROLE: &str = "role";
/// The row that says that the record is complete.
const COMPLETE: &str = "complete";
/// Sessions of ours that are ending, and whoever looks at the database for a moment.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Everything that somebody made, as DROP names it, but for what goes with something else, and what extensions brought.
const OBJECTS: &str = "SELECT o.type, o.identity, coalesce(n.nspname, CASE WHEN o.type = 'schema' THEN o.name END, '')
     FROM (SELECT 'pg_catalog.pg_class'::regclass::oid, oid, relnamespace FROM pg_catalog.pg_class
             WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c') AND NOT relispartition
           UNION ALL SELECT 'pg_catalog.pg_type'::regclass, oid, typnamespace FROM pg_catalog.pg_type t
             WHERE typtype IN ('b', 'd', 'e', 'r') AND NOT EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.typarray = t.oid)
           UNION ALL SELECT 'pg_catalog.pg_proc'::regclass, oid, pronamespace FROM pg_catalog.pg_proc
           UNION ALL SELECT 'pg_catalog.pg_operator'::regclass, oid, oprnamespace FROM pg_catalog.pg_operator
           UNION ALL SELECT 'pg_catalog.pg_opclass'::regclass, oid, opcnamespace FROM pg_catalog.pg_opclass
           UNION ALL SELECT 'pg_catalog.pg_opfamily'::regclass, oid, opfnamespace FROM pg_catalog.pg_opfamily
           UNION ALL SELECT 'pg_catalog.pg_collation'::regclass, oid, collnamespace FROM pg_catalog.pg_collation
           UNION ALL SELECT 'pg_catalog.pg_conversion'::regclass, oid, connamespace FROM pg_catalog.pg_conversion
           UNION ALL SELECT 'pg_catalog.pg_ts_config'::regclass, oid, cfgnamespace FROM pg_catalog.pg_ts_config
           UNION ALL SELECT 'pg_catalog.pg_ts_dict'::regclass, oid, dictnamespace FROM pg_catalog.pg_ts_dict
           UNION ALL SELECT 'pg_catalog.pg_ts_parser'::regclass, oid, prsnamespace FROM pg_catalog.pg_ts_parser
           UNION ALL SELECT 'pg_catalog.pg_ts_template'::regclass, oid, tmplnamespace FROM pg_catalog.pg_ts_template
           UNION ALL SELECT 'pg_catalog.pg_statistic_ext'::regclass, oid, stxnamespace FROM pg_catalog.pg_statistic_ext
           UNION ALL SELECT 'pg_catalog.pg_namespace'::regclass, oid, 0 FROM pg_catalog.pg_namespace
           UNION ALL SELECT 'pg_catalog.pg_extension'::regclass, oid, 0 FROM pg_catalog.pg_extension
           UNION ALL SELECT 'pg_catalog.pg_cast'::regclass, oid, 0 FROM pg_catalog.pg_cast
           UNION ALL SELECT 'pg_catalog.pg_event_trigger'::regclass, oid, 0 FROM pg_catalog.pg_event_trigger
           UNION ALL SELECT 'pg_catalog.pg_foreign_data_wrapper'::regclass, oid, 0 FROM pg_catalog.pg_foreign_data_wrapper
           UNION ALL SELECT 'pg_catalog.pg_foreign_server'::regclass, oid, 0 FROM pg_catalog.pg_foreign_server
           UNION ALL SELECT 'pg_catalog.pg_language'::regclass, oid, 0 FROM pg_catalog.pg_language
          ) x (class, number, space)
     CROSS JOIN LATERAL pg_catalog.pg_identify_object(class, number, 0) o
     LEFT JOIN pg_catalog.pg_namespace n ON n.oid = space
     WHERE number >= 16384 AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
             WHERE d.classid = class AND d.objid = number AND d.objsubid = 0 AND d.deptype IN ('e', 'i'))
       AND coalesce(n.nspname, '') !~ '^pg_' AND coalesce(n.nspname, '') NOT IN ('information_schema', 'headgate')
       AND NOT (o.type = 'schema' AND (o.name = 'headgate' OR o.name ~ '^pg_'))
     ORDER BY number DESC";

/// What a server had before anything was made.
pub(crate) struct Before {
    roles: BTreeSet<String>,
    database: bool,
}

/// Looks at the target's server before anything is made there.
pub(crate) async fn before(postgres: &Postgres) -> Result<Before> {
    let maintenance = schema::connect_maintenance(postgres, postgres.target()).await;
    let server = match maintenance {
        Ok(server) => server,
        // Only its own database may be connected to, which is there then.
        Err(_) => postgres.connect_target("prepare").await?,
    };
    let cannot = |error| failed("cannot read what is on the target", error);
    let there = server
        .query_opt("SELECT FROM pg_catalog.pg_database WHERE datname = $1", &[&postgres.target().database])
        .await
        .map_err(cannot)?;
    Ok(Before { roles: roles(&server).await?, database: there.is_some() })
}

/// Records what will be made: all of the source's that the target does not have. Finds nothing to do where that is done.
pub(crate) async fn record(postgres: &Postgres, source: &Client, target: &Client, before: &Before) -> Result<()> {
    let cannot = |error| failed("cannot record what is made on the target", error);
    target
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS headgate.made (
                 migration text NOT NULL, kind text NOT NULL, name text NOT NULL,
                 PRIMARY KEY (migration, kind, name))",
        )
        .await
        .map_err(cannot)?;
    let part = records::part(postgres, target, "pre_data").await?;
    if part == records::Part::Done && !recorded(postgres, target).await?.is_empty() {
        return Ok(());
    }
    let schemas = &postgres.settings().schemas;
    let there: BTreeSet<(String, String)> = objects(target, &[]).await?.into_iter().collect();
    let mut made: BTreeSet<(String, String)> = objects(source, schemas).await?.into_iter().collect();
    made.retain(|object| !there.contains(object));
    let new = roles(source).await?.into_iter();
    let new = new.filter(|role| !before.roles.contains(role));
    made.extend(new.map(|role| (ROLE.to_owned(), role)));
    if !before.database {
        let name = postgres.target().database.clone();
        made.insert((DATABASE.to_owned(), name));
    }
    made.insert((COMPLETE.to_owned(), String::new()));
    let (kinds, names): (Vec<String>, Vec<String>) = made.into_iter().unzip();
    target
        .execute(
            "INSERT INTO headgate.made SELECT $1, kind, name FROM unnest($2::text[], $3::text[]) AS made (kind, name)
             ON CONFLICT DO NOTHING",
            &[&postgres.name(), &kinds, &names],
        )
        .await
        .map(drop)
        .map_err(cannot)
}

/// Drops what this migration made and nothing else, and all that [`clean::run`] removes. Returns what had to stay.
pub(crate) async fn remove(postgres: &Postgres) -> Result<Vec<String>> {
    let before = before(postgres).await?;
    if !before.database {
        clean::run(postgres).await?;
        return Ok(Vec::new());
    }
    let target = postgres.connect_target("drop").await?;
    super::archive::end_orphans(postgres, &target).await?;
    let made = recorded(postgres, &target).await?;
    drop_keys(&target, &made).await?;
    let mut stays = drop_objects(&target, &made).await?;
    for (_, role) in made.iter().filter(|(kind, _)| kind == ROLE) {
        if let Err(error) = drop_role(&target, role).await {
            stays.push(format!("role {role} ({error})"));
        }
    }
    let emptied = objects(&target, &[]).await?.is_empty();
    drop(target);
    clean::run(postgres).await?;
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

async fn recorded(postgres: &Postgres, target: &Client) -> Result<BTreeSet<(String, String)>> {
    if !schema::absent(target, &["headgate.made".to_owned()]).await?.is_empty() {
        return Ok(BTreeSet::new());
    }
    pairs(target.query("SELECT kind, name, '' FROM headgate.made WHERE migration = $1", &[&postgres.name()]).await, &[])
        .map(|made| made.into_iter().collect())
}

/// What is there, the newest first; of some schemas alone, what is in these.
async fn objects(session: &Client, schemas: &[String]) -> Result<Vec<(String, String)>> {
    pairs(session.query(OBJECTS, &[]).await, schemas)
}

fn pairs(
    rows: std::result::Result<Vec<tokio_postgres::Row>, tokio_postgres::Error>,
    schemas: &[String],
) -> Result<Vec<(String, String)>> {
    let cannot = |error| failed("cannot read the objects of a database", error);
    let mut found = Vec::new();
    for row in rows.map_err(cannot)? {
        let space: String = row.try_get(2).map_err(cannot)?;
        if schemas.is_empty() || schemas.contains(&space) {
            found.push((row.try_get(0).map_err(cannot)?, row.try_get(1).map_err(cannot)?));
        }
    }
    Ok(found)
}

async fn roles(session: &Client) -> Result<BTreeSet<String>> {
    session
        .query("SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_'", &[])
        .await
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
        .map_err(|error| failed("cannot read a server's roles", error))
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
    let server = schema::connect_maintenance(postgres, postgres.target()).await?;
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
