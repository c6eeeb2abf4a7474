//! Reads from the source's catalogue what will move.

use tokio_postgres::Client;

use super::Postgres;
use super::client::failed;
use crate::error::{Error, Result};
use crate::model::plan::{Column, Counter, Plan, Table};

/// Which relations' rows move; `c` is a `pg_class`, `n` its schema, and `$1` the schemas asked for. What belongs to an
/// extension comes with the extension, but for the rows of the tables that it declares as the user's own
/// (`pg_extension_config_dump`): no dump of the extension has them.
pub(super) const OURS_TO_MOVE: &str = "c.relpersistence <> 't'
    AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'headgate')
    AND (cardinality($1::text[]) = 0 OR n.nspname = ANY ($1::text[]))
    AND (NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
            WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
        OR c.oid IN (SELECT unnest(x.extconfig) FROM pg_catalog.pg_extension x)
        OR c.relkind = 'S' AND EXISTS (SELECT FROM pg_catalog.pg_depend o
            WHERE o.classid = 'pg_catalog.pg_class'::regclass AND o.objid = c.oid AND o.deptype IN ('a', 'i')
              AND o.refobjid IN (SELECT unnest(x.extconfig) FROM pg_catalog.pg_extension x)))";

/// Reads the plan in one snapshot.
pub async fn read(postgres: &Postgres) -> Result<Plan> {
    let source = postgres.connect_source("plan").await?;
    source
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
        .map_err(|error| failed("cannot read the source's catalogue", error))?;
    read_in(&source, &postgres.settings().schemas).await
}

/// Reads the plan in a session whose transaction is the caller's.
pub(super) async fn read_in(source: &Client, schemas: &[String]) -> Result<Plan> {
    let (tables, parents, counters) =
        tokio::try_join!(tables(source, schemas), parents(source, schemas), counters(source, schemas))?;
    Ok(Plan { tables, parents, counters })
}

async fn tables(source: &Client, schemas: &[String]) -> Result<Vec<Table>> {
    let query = format!(
        "SELECT n.nspname, c.relname, greatest(c.reltuples, 0)::bigint,
                pg_catalog.pg_relation_size(c.oid),
                coalesce((SELECT array_agg(a.attname::text ORDER BY k.ordinality)
                    FROM pg_catalog.pg_index i,
                         unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, ordinality)
                    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
                    WHERE i.indrelid = c.oid AND k.ordinality <= i.indnkeyatts
                      AND CASE c.relreplident
                          WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END),
                    '{{}}'),
                coalesce(cols.names, '{{}}'), coalesce(cols.types, '{{}}'), coalesce(cols.kinds, '{{}}')
         FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN LATERAL (
             SELECT array_agg(a.attname::text ORDER BY a.attnum) AS names,
                    array_agg(pg_catalog.format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum) AS types,
                    array_agg(CASE WHEN t.typelem <> 0 AND t.typsubscript::oid
                                = 'pg_catalog.array_subscript_handler'::regproc THEN 'a'
                                ELSE t.typtype::text END ORDER BY a.attnum) AS kinds
             FROM pg_catalog.pg_attribute a
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
         ) cols ON true
         WHERE c.relkind = 'r' AND {OURS_TO_MOVE}
         ORDER BY pg_catalog.pg_relation_size(c.oid) DESC, n.nspname, c.relname"
    );
    let rows =
        source.query(&query, &[&schemas]).await.map_err(|error| failed("cannot read the source's tables", error))?;
    rows.iter()
        .map(|row| {
            let names: Vec<String> = row.try_get(5)?;
            let types: Vec<String> = row.try_get(6)?;
            let kinds: Vec<String> = row.try_get(7)?;
            let columns = names
                .into_iter()
                .zip(types)
                .zip(kinds)
                .map(|((name, type_name), kind)| Column { name, type_name, kind })
                .collect();
            Ok(Table {
                schema: row.try_get(0)?,
                name: row.try_get(1)?,
                rows_estimated: row.try_get::<_, i64>(2)?.try_into().unwrap_or(0),
                bytes: row.try_get::<_, i64>(3)?.try_into().unwrap_or(0),
                key: row.try_get(4)?,
                columns,
            })
        })
        .collect::<std::result::Result<_, tokio_postgres::Error>>()
        .map_err(unreadable)
}

async fn parents(source: &Client, schemas: &[String]) -> Result<Vec<(String, String)>> {
    named(source, schemas, "p").await
}

async fn counters(source: &Client, schemas: &[String]) -> Result<Vec<Counter>> {
    let names = named(source, schemas, "S").await?;
    Ok(names.into_iter().map(|(schema, name)| Counter { schema, name }).collect())
}

async fn named(source: &Client, schemas: &[String], kind: &str) -> Result<Vec<(String, String)>> {
    let query = format!(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind::text = $2 AND {OURS_TO_MOVE} ORDER BY 1, 2"
    );
    let rows = source
        .query(&query, &[&schemas, &kind])
        .await
        .map_err(|error| failed("cannot read the source's catalogue", error))?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<std::result::Result<_, tokio_postgres::Error>>()
        .map_err(unreadable)
}

fn unreadable(error: tokio_postgres::Error) -> Error {
    failed("the source's catalogue holds what cannot be read", error)
}
