//! Tells what of the source is no longer as the plan has it: such a change is in no stream and on no target.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::model::definitions::{Compared, Fingerprint, named};
use crate::model::plan::{Plan, Table};

/// How an engine calls things.
pub(crate) struct ObjectNames {
    /// A schema and a name, as people write them.
    pub(crate) title: fn(&str, &str) -> String,
    pub(crate) counter: &'static str,
    pub(crate) key: &'static str,
}

/// Refuses where the source, as it is `now`, differs from the plan, or where `changes` tell so, and names what differs.
pub(crate) fn refuse(plan: &Plan, now: &Plan, speech: &ObjectNames, mut changes: Vec<String>) -> Result<()> {
    changes.extend(compare(plan, now, speech));
    if changes.is_empty() {
        return Ok(());
    }
    Err(Error::refused(format!(
        "the source is not what the migration was planned for: {}",
        named(&changes)
    ))
    .remedy(
        "undo the change on the source, or take it along: DROP MIGRATION … WITH (target_objects = 'drop'), then create and \
         start it again",
    ))
}

/// Refuses where the definitions are no longer those that were proved, and names what changed.
pub(crate) fn unproved(proved: &Fingerprint, now: &Compared) -> Result<()> {
    let changes = proved.changes(&now.fingerprint);
    if changes.is_empty() {
        return Ok(());
    }
    Err(Error::refused(format!(
        "definitions changed since the check that proved both sides equal: {}",
        named(&changes)
    ))
    .remedy("run CHECK MIGRATION again; where it finds a difference, run on the target the statement that was run on the source, or undo it there"))
}

fn compare(planned: &Plan, now: &Plan, speech: &ObjectNames) -> Vec<String> {
    let mut changes = Vec::new();
    let title = speech.title;
    let (before, after) = (tables(planned), tables(now));
    for (name, table) in &before {
        match after.get(name) {
            None => changes.push(format!("table {} is gone", title(name.0, name.1))),
            Some(other) => changes.extend(changed(table, other, speech)),
        }
    }
    for name in after.keys().filter(|name| !before.contains_key(*name)) {
        changes.push(format!("table {} is new", title(name.0, name.1)));
    }
    let parents = |plan: &Plan| plan.parents.clone();
    let counters = |plan: &Plan| {
        let names = plan.counters.iter();
        names.map(|counter| (counter.schema.clone(), counter.name.clone())).collect::<Vec<_>>()
    };
    for (what, before, after) in
        [("partitioned table", parents(planned), parents(now)), (speech.counter, counters(planned), counters(now))]
    {
        for name in before.iter().filter(|name| !after.contains(name)) {
            changes.push(format!("{what} {} is gone", title(&name.0, &name.1)));
        }
        for name in after.iter().filter(|name| !before.contains(name)) {
            changes.push(format!("{what} {} is new", title(&name.0, &name.1)));
        }
    }
    changes
}

fn tables(plan: &Plan) -> BTreeMap<(&str, &str), &Table> {
    let tables = plan.tables.iter();
    tables.map(|table| ((table.schema.as_str(), table.name.as_str()), table)).collect()
}

fn changed(before: &Table, after: &Table, speech: &ObjectNames) -> Option<String> {
    let shape = |table: &Table| -> Vec<(String, String)> {
        let columns = table.columns.iter();
        columns.map(|column| (column.name.clone(), column.type_name.clone())).collect()
    };
    let title = (speech.title)(&before.schema, &before.name);
    let (there, here) = (shape(before), shape(after));
    let odd = here
        .iter()
        .find(|column| !there.contains(column))
        .or_else(|| there.iter().find(|column| !here.contains(column)));
    if let Some((column, type_name)) = odd {
        return Some(format!("table {title} differs in column {column:?} {type_name}"));
    }
    if there != here {
        return Some(format!("table {title} has its columns in another order"));
    }
    (before.key != after.key).then(|| format!("table {title} has another {}", speech.key))
}

#[cfg(test)]
mod tests {
    use super::{ObjectNames, compare};
    use crate::model::plan::{Column, Plan, Table};

    fn plan(tables: &[(&str, &str)]) -> Plan {
        let table = |(name, type_name): &(&str, &str)| Table {
            schema: "shop".into(),
            name: (*name).into(),
            columns: vec![Column { name: "id".into(), type_name: (*type_name).into(), kind: "int".into() }],
            key: vec!["id".into()],
            rows_estimated: 0,
            bytes: 0,
        };
        Plan { tables: tables.iter().map(table).collect(), ..Plan::default() }
    }

    #[test]
    fn each_change_since_the_plan_is_named() {
        let planned = plan(&[("a", "int"), ("b", "int")]);
        let speech = ObjectNames { title: |schema, name| format!("{schema}.{name}"), counter: "sequence", key: "key" };
        assert!(compare(&planned, &planned, &speech).is_empty());
        let now = plan(&[("a", "bigint"), ("c", "int")]);
        assert_eq!(
            compare(&planned, &now, &speech),
            ["table shop.a differs in column \"id\" bigint", "table shop.b is gone", "table shop.c is new"]
        );
    }
}
