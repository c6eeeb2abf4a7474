//! What must not fire while changes are applied, on a target whose role may not set `session_replication_role`: triggers and rules
//! are disabled, foreign keys are dropped, and both are back before the gate opens. Keys come back without a look at the rows,
//! which were equal to the other side's, and are validated once the target serves.

pub(crate) mod kept;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tokio_postgres::Client;

use super::database::absent;
use crate::error::{Error, Result};
use crate::model::plan::Plan;
use crate::postgres::check::definitions;
use crate::postgres::client::{as_replica, failed};
use crate::postgres::sql::quote_literal;
use crate::postgres::{Postgres, fence};
use kept::{DEFINITIONS, Definition, TABLE};

/// A row is one statement that puts something back, what must be validated afterwards, and whether it is back. The row
/// without a statement has the definitions of all of them as they were.
const INSTALL: &str = "CREATE SCHEMA IF NOT EXISTS headgate;
    CREATE TABLE IF NOT EXISTS headgate.set_aside (
        migration text NOT NULL, name text NOT NULL, back text NOT NULL, validate text NOT NULL, stands boolean NOT NULL,
        PRIMARY KEY (migration, name))";
/// Nobody else uses these tables: whoever does is to be named, and not waited for.
const LOCK_TIMEOUT: &str = "5s";
/// How long another session of ours may take for it, which reads all definitions twice.
const TURN_TIMEOUT: &str = "60s";
/// From this version on a foreign key of a partitioned table can be added without a look at its rows.
const PARTITIONED_FROM: i32 = 180_000;

/// Triggers and rules that would fire and foreign keys of these tables: what takes each out of the way, its name, what puts it back,
/// and what validates it then.
const FIRING: &str = "SELECT format('ALTER TABLE ONLY %s DISABLE TRIGGER %I', t.tgrelid::regclass, t.tgname),
        format('trigger %I of %s', t.tgname, t.tgrelid::regclass),
        format('ALTER TABLE ONLY %s ENABLE %s TRIGGER %I', t.tgrelid::regclass,
            CASE t.tgenabled WHEN 'A' THEN 'ALWAYS' ELSE '' END, t.tgname), ''
    FROM pg_catalog.pg_trigger t
    WHERE t.tgrelid IN (SELECT name::regclass FROM unnest($1::text[]) name) AND NOT t.tgisinternal
      AND t.tgenabled IN ('O', 'A') AND t.tgname NOT IN ('headgate_fence', 'headgate_guard')
    UNION ALL
    SELECT format('ALTER TABLE %s DISABLE RULE %I', r.ev_class::regclass, r.rulename),
        format('rule %I of %s', r.rulename, r.ev_class::regclass),
        format('ALTER TABLE %s ENABLE %s RULE %I', r.ev_class::regclass,
            CASE r.ev_enabled WHEN 'A' THEN 'ALWAYS' ELSE '' END, r.rulename), ''
    FROM pg_catalog.pg_rewrite r
    WHERE r.ev_class IN (SELECT name::regclass FROM unnest($1::text[]) name) AND r.ev_type <> '1'
      AND r.ev_enabled IN ('O', 'A')
    UNION ALL
    SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname),
        format('foreign key %I of %s', k.conname, k.conrelid::regclass),
        format('ALTER TABLE %s ADD CONSTRAINT %I %s%s', k.conrelid::regclass, k.conname,
            pg_catalog.pg_get_constraintdef(k.oid), CASE WHEN k.convalidated THEN ' NOT VALID' ELSE '' END)
            || format('; COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, k.conrelid::regclass,
                pg_catalog.obj_description(k.oid, 'pg_constraint')),
        CASE WHEN k.convalidated
            THEN format('ALTER TABLE %s VALIDATE CONSTRAINT %I', k.conrelid::regclass, k.conname) ELSE '' END
    FROM pg_catalog.pg_constraint k
    WHERE k.contype = 'f' AND k.conparentid = 0
      AND (k.conrelid IN (SELECT name::regclass FROM unnest($1::text[]) name)
        OR k.confrelid IN (SELECT name::regclass FROM unnest($1::text[]) name))
    ORDER BY 2";

/// Sees to it that nothing fires for what is applied to the target. Finds nothing to do where the role may be a replica's,
/// and where that is done. Written down and done in one transaction.
pub(crate) async fn make_way(postgres: &Postgres, plan: &Plan) -> Result<()> {
    let target = postgres.connect_target("set aside").await?;
    if as_replica(&target).await? {
        return Ok(());
    }
    refuse_impossible(postgres, &target, plan).await?;
    let source = postgres.connect_source("set aside").await?;
    // The follower and a check may both come to it.
    let turn = quote_literal(&format!("headgate set aside {}", postgres.slot()));
    let begin = format!(
        "SET quote_all_identifiers = on; BEGIN; SET LOCAL lock_timeout = '{TURN_TIMEOUT}';
         SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended({turn}, 0));
         SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; {INSTALL}"
    );
    target.batch_execute(&begin).await.map_err(cannot)?;
    let rows = target.query(FIRING, &[&fence::fenced(plan)]).await.map_err(cannot)?;
    if rows.is_empty() {
        return target.batch_execute("COMMIT").await.map_err(cannot);
    }
    let before = definitions::of_target(postgres, &source, &target).await?;
    let mut batch = String::new();
    for row in &rows {
        let text = |column: usize| row.try_get::<_, String>(column).map_err(cannot);
        let _ = write!(
            batch,
            "{}; INSERT INTO {TABLE} VALUES ({}, {}, {}, {}, false)
             ON CONFLICT (migration, name) DO UPDATE SET back = excluded.back, stands = false;",
            text(0)?,
            quote_literal(&postgres.key()),
            quote_literal(&text(1)?),
            quote_literal(&text(2)?),
            quote_literal(&text(3)?),
        );
    }
    target.batch_execute(&batch).await.map_err(cannot)?;
    let after = definitions::of_target(postgres, &source, &target).await?;
    let changed: BTreeMap<&String, &Definition> =
        before.iter().filter(|(name, definition)| after.get(*name) != Some(definition)).collect();
    let written = serde_json::to_string(&changed)
        .map_err(|error| Error::fatal("definitions cannot be written").because(error))?;
    target
        .execute(
            // What was written down first is how it was: put back after an attempt, a key is not validated.
            "INSERT INTO headgate.set_aside VALUES ($1, $2, $3, '', true) ON CONFLICT (migration, name) DO NOTHING",
            &[&postgres.key(), &DEFINITIONS, &written],
        )
        .await
        .map_err(cannot)?;
    target.batch_execute("COMMIT").await.map_err(cannot)
}

/// Refuses where a key could only be put back by reading all its rows while clients wait.
pub(crate) async fn refuse_impossible(postgres: &Postgres, target: &Client, plan: &Plan) -> Result<()> {
    let row = target.query_one("SELECT current_setting('server_version_num')::int", &[]).await.map_err(cannot)?;
    let names = in_the_way(target, row.try_get(0).map_err(cannot)?, &fence::fenced(plan)).await?;
    let Some(name) = names.first() else {
        return Ok(());
    };
    Err(Error::refused(format!(
        "{:?} may not set session_replication_role, and in its version the foreign key {name} of a partitioned table cannot be \
         set aside while changes are applied",
        postgres.target()
    ))
    .remedy("let the migrator set session_replication_role there, or drop the key for the time of the migration"))
}

/// Foreign keys of partitioned tables among these, where a server of this version cannot add one without a look at all rows.
pub(crate) async fn in_the_way(session: &Client, version: i32, tables: &[String]) -> Result<Vec<String>> {
    if version >= PARTITIONED_FROM {
        return Ok(Vec::new());
    }
    session
        .query_one(
            "SELECT coalesce(array_agg(format('%I of %s', k.conname, k.conrelid::regclass) ORDER BY 1), '{}')
             FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
             WHERE k.contype = 'f' AND k.conparentid = 0 AND c.relkind = 'p'
               AND c.oid IN (SELECT pg_catalog.to_regclass(name) FROM unnest($1::text[]) name)",
            &[&tables],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(cannot)
}

/// Puts back what is set aside. One transaction; finds nothing to do where there is nothing.
pub(crate) async fn put_back(postgres: &Postgres, target: &Client) -> Result<()> {
    let statements = waiting(postgres, target, "back", "NOT stands").await?;
    if statements.is_empty() {
        return Ok(());
    }
    let batch = format!(
        "BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; {};
         UPDATE {TABLE} SET stands = true WHERE migration = {}; COMMIT",
        statements.join("; "),
        quote_literal(&postgres.key()),
    );
    let outcome = target.batch_execute(&batch).await;
    outcome.map_err(|error| failed("cannot put back the triggers and foreign keys that were set aside", error))
}

/// Validates the keys that were put back, and forgets all of it: from then on it is the owner's again. What is not back yet
/// is put back first.
pub(crate) async fn finish(postgres: &Postgres, target: &Client) -> Result<()> {
    put_back(postgres, target).await?;
    for statement in waiting(postgres, target, "validate", "validate <> ''").await? {
        target.batch_execute(&statement).await.map_err(|error| {
            failed("a foreign key that was set aside cannot be validated", error).remedy(
                "see which rows it does not hold for, and run VALIDATE CONSTRAINT; new rows are held to it already",
            )
        })?;
    }
    forget(postgres, target).await
}

/// Forgets what was set aside, whose tables are gone.
pub(crate) async fn forget(postgres: &Postgres, target: &Client) -> Result<()> {
    if !absent(target, &[TABLE.to_owned()]).await?.is_empty() {
        return Ok(());
    }
    let forget = format!("DELETE FROM {TABLE} WHERE migration = {}", quote_literal(&postgres.key()));
    target.batch_execute(&forget).await.map_err(cannot)?;
    let row = target.query_one("SELECT NOT EXISTS (SELECT FROM headgate.set_aside)", &[]).await.map_err(cannot)?;
    if row.try_get(0).map_err(cannot)? {
        target.batch_execute(&format!("DROP TABLE IF EXISTS {TABLE}")).await.map_err(cannot)?;
    }
    Ok(())
}

async fn waiting(postgres: &Postgres, target: &Client, column: &str, which: &str) -> Result<Vec<String>> {
    if !absent(target, &[TABLE.to_owned()]).await?.is_empty() {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT coalesce(array_agg({column} ORDER BY name), '{{}}') FROM {TABLE}
         WHERE migration = $1 AND name <> '{DEFINITIONS}' AND {which}"
    );
    let row = target.query_one(&query, &[&postgres.key()]).await.map_err(cannot)?;
    row.try_get(0).map_err(cannot)
}

fn cannot(error: tokio_postgres::Error) -> Error {
    failed("cannot set aside the triggers and foreign keys of the target", error)
        .remedy("Headgate's role must own the target's tables, or be a member of the roles that do")
}
