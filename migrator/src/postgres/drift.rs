//! Tells what of the source is no longer as the plan has it: such a change is in no stream and on no target.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::client::failed;
use super::sql::{relation, title_of};
use super::{Postgres, plan};
use crate::error::{Error, Result};
use crate::plan::{Plan, Table};

/// How many changes a message names.
const NAMED_MAX: usize = 10;

/// Refuses where the source's catalogue differs from the plan, and names what does.
pub(super) async fn refuse(session: &Client, postgres: &Postgres, plan: &Plan) -> Result<()> {
    let (now, mut changes) = tokio::try_join!(
        plan::read_in(session, &postgres.settings().schemas),
        unpublished(session, postgres, plan)
    )?;
    changes.extend(compare(plan, &now));
    if changes.is_empty() {
        return Ok(());
    }
    let more = match changes.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    changes.truncate(NAMED_MAX);
    Err(Error::refused(format!(
        "the source is not what the migration was planned for: {}{more}",
        changes.join("; ")
    ))
    .remedy(
        "undo the change on the source, or drop the migration and create it anew; \
         change no schema while a migration is under way",
    ))
}

/// A text that changes with everything that [`refuse`] looks at, and sometimes without; reading it is much quicker.
pub(super) async fn fingerprint(session: &Client) -> Result<String> {
    session
        .query_one(
            "WITH ours AS MATERIALIZED (
                 SELECT c.oid, hashtextextended(concat_ws(' ', c.oid, c.relnamespace, c.relkind,
                     c.relpersistence, c.relreplident, c.relname), 0) AS hash
                 FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't')
             SELECT concat_ws(' ',
                 (SELECT concat_ws(',', count(*), sum(hash)) FROM ours),
                 (SELECT concat_ws(',', count(*), sum(a.xmin::text::bigint)) FROM pg_catalog.pg_attribute a
                  JOIN ours ON ours.oid = a.attrelid WHERE a.attnum > 0),
                 (SELECT concat_ws(',', count(*), sum(i.xmin::text::bigint)) FROM pg_catalog.pg_index i
                  JOIN ours ON ours.oid = i.indrelid),
                 (SELECT concat_ws(',', count(*), sum(xmin::text::bigint)) FROM pg_catalog.pg_publication_rel),
                 (SELECT concat_ws(',', count(*), sum(xmin::text::bigint)) FROM pg_catalog.pg_namespace))",
            &[],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| failed("cannot read the source's catalogue", error))
}

/// Tables that were dropped and made again under their name are not published any more.
async fn unpublished(session: &Client, postgres: &Postgres, plan: &Plan) -> Result<Vec<String>> {
    let names: Vec<String> = plan.tables.iter().map(relation).collect();
    session
        .query(
            "SELECT 'table ' || name || ' was made anew and is not published'
             FROM pg_catalog.pg_publication p, unnest($1::text[]) AS name
             WHERE p.pubname = $2 AND to_regclass(name) IS NOT NULL AND NOT EXISTS (
                 SELECT FROM pg_catalog.pg_publication_rel r
                 WHERE r.prpubid = p.oid AND r.prrelid = to_regclass(name))",
            &[&names, &postgres.publication()],
        )
        .await
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
        .map_err(|error| failed("cannot read what the source publishes", error))
}

fn compare(planned: &Plan, now: &Plan) -> Vec<String> {
    let mut changes = Vec::new();
    let (before, after) = (tables(planned), tables(now));
    for (name, table) in &before {
        match after.get(name) {
            None => changes.push(format!("table {} is gone", title_of(name.0, name.1))),
            Some(other) => changes.extend(changed(table, other)),
        }
    }
    for name in after.keys().filter(|name| !before.contains_key(*name)) {
        changes.push(format!("table {} is new", title_of(name.0, name.1)));
    }
    let parents = |plan: &Plan| plan.parents.clone();
    let counters = |plan: &Plan| {
        let names = plan.counters.iter();
        names
            .map(|counter| (counter.schema.clone(), counter.name.clone()))
            .collect::<Vec<_>>()
    };
    for (what, before, after) in [
        ("partitioned table", parents(planned), parents(now)),
        ("sequence", counters(planned), counters(now)),
    ] {
        for name in before.iter().filter(|name| !after.contains(name)) {
            changes.push(format!("{what} {} is gone", title_of(&name.0, &name.1)));
        }
        for name in after.iter().filter(|name| !before.contains(name)) {
            changes.push(format!("{what} {} is new", title_of(&name.0, &name.1)));
        }
    }
    changes
}

fn tables(plan: &Plan) -> BTreeMap<(&str, &str), &Table> {
    let tables = plan.tables.iter();
    tables
        .map(|table| ((table.schema.as_str(), table.name.as_str()), table))
        .collect()
}

fn changed(before: &Table, after: &Table) -> Option<String> {
    let shape = |table: &Table| -> Vec<(String, String)> {
        let columns = table.columns.iter();
        columns
            .map(|column| (column.name.clone(), column.type_name.clone()))
            .collect()
    };
    let title = title_of(&before.schema, &before.name);
    let (there, here) = (shape(before), shape(after));
    let odd = here
        .iter()
        .find(|column| !there.contains(column))
        .or_else(|| there.iter().find(|column| !here.contains(column)));
    if let Some((column, type_name)) = odd {
        return Some(format!(
            "table {title} differs in column {column:?} {type_name}"
        ));
    }
    if there != here {
        return Some(format!("table {title} has its columns in another order"));
    }
    (before.key != after.key).then(|| format!("table {title} has another replica identity"))
}
