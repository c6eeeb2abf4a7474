//! What a migration makes on its target, recorded there before it is made.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use crate::error::Result;
use crate::postgres::client::failed;
use crate::postgres::records;
use crate::postgres::{Postgres, schema};

pub(crate) const DATABASE: &str = "database";
pub(crate) const ROLE: &str = "role";
/// The row that says that the record is complete.
const COMPLETE: &str = "complete";

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
    pub(crate) database: bool,
}

/// Looks at the target's server before anything is made there.
pub(crate) async fn before(postgres: &Postgres) -> Result<Before> {
    let maintenance = schema::database::connect_maintenance(postgres, postgres.target()).await;
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

pub(crate) async fn recorded(postgres: &Postgres, target: &Client) -> Result<BTreeSet<(String, String)>> {
    if !schema::database::absent(target, &["headgate.made".to_owned()]).await?.is_empty() {
        return Ok(BTreeSet::new());
    }
    pairs(target.query("SELECT kind, name, '' FROM headgate.made WHERE migration = $1", &[&postgres.name()]).await, &[])
        .map(|made| made.into_iter().collect())
}

/// What is there, the newest first; of some schemas alone, what is in these.
pub(crate) async fn objects(session: &Client, schemas: &[String]) -> Result<Vec<(String, String)>> {
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
