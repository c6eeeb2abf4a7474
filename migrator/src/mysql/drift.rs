//! Tells what of the source is no longer as the plan has it: it was not moved, and the follower would stop at it.

use std::collections::BTreeMap;

use mysql_async::Conn;

use super::sql::title_of;
use super::{Mysql, plan};
use crate::error::{Error, Result};
use crate::plan::{Plan, Table};

/// How many changes a message names.
const NAMED_MAX: usize = 10;

/// Refuses where the source's catalogue differs from the plan, and names what does.
pub(super) async fn refuse(session: &mut Conn, mysql: &Mysql, plan: &Plan) -> Result<()> {
    let now = plan::read_in(session, &mysql.databases()).await?;
    let mut changes = compare(plan, &now);
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
    let counters = |plan: &Plan| -> Vec<(String, String)> {
        let counters = plan.counters.iter();
        counters
            .map(|counter| (counter.schema.clone(), counter.name.clone()))
            .collect()
    };
    let (before, after) = (counters(planned), counters(now));
    for name in before.iter().filter(|name| !after.contains(name)) {
        changes.push(format!("counter {} is gone", title_of(&name.0, &name.1)));
    }
    for name in after.iter().filter(|name| !before.contains(name)) {
        changes.push(format!("counter {} is new", title_of(&name.0, &name.1)));
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
    (before.key != after.key).then(|| format!("table {title} has another key"))
}

#[cfg(test)]
mod tests {
    use super::compare;
    use crate::plan::{Column, Plan, Table};

    fn plan(tables: &[(&str, &str)]) -> Plan {
        let table = |(name, type_name): &(&str, &str)| Table {
            schema: "shop".into(),
            name: (*name).into(),
            columns: vec![Column {
                name: "id".into(),
                type_name: (*type_name).into(),
                kind: "int".into(),
            }],
            key: vec!["id".into()],
            rows_estimated: 0,
            bytes: 0,
        };
        Plan {
            tables: tables.iter().map(table).collect(),
            ..Plan::default()
        }
    }

    #[test]
    fn each_change_since_the_plan_is_named() {
        let planned = plan(&[("a", "int"), ("b", "int")]);
        assert!(compare(&planned, &planned).is_empty());
        let now = plan(&[("a", "bigint"), ("c", "int")]);
        assert_eq!(
            compare(&planned, &now),
            [
                "table shop.a differs in column \"id\" bigint",
                "table shop.b is gone",
                "table shop.c is new"
            ]
        );
    }
}
