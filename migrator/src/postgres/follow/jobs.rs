//! Statements with their parameters and the number of rows that they must meet.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::postgres::change::Value;

use super::coalesce::{Change, Effects, Kind, Step};
use super::literals::{Literal, array};
use super::statements::{
    Find, delete_one, delete_set, insert_one, insert_set, replace_one, replace_set, update_one, update_set,
};
use super::tables::{Table, Tables};
use crate::postgres::sql::quote_literal;

/// A statement to run.
pub(crate) struct Job {
    pub(crate) sql: String,
    pub(crate) parameters: Vec<Literal>,
    /// How many rows it must meet, where that is known.
    pub(crate) rows: Option<u64>,
    /// The table, for messages.
    pub(crate) place: Arc<str>,
}

impl Job {
    /// A statement that steers the transaction.
    pub(crate) fn control(sql: &str) -> Self {
        Self { sql: sql.to_owned(), parameters: Vec::new(), rows: None, place: "the target".into() }
    }
}

/// Adds what writes `steps`.
pub(crate) fn set_by_set(table: &Table, steps: &[Step<'_>], jobs: &mut Vec<Job>) {
    for step in steps {
        match step {
            Step::One(change) => jobs.push(one_by_one(table, change)),
            Step::Set(effects) => write_set(table, effects, jobs),
        }
    }
}

fn write_set(table: &Table, effects: &Effects<'_>, jobs: &mut Vec<Job>) {
    let all: Vec<usize> = (0..table.columns.len()).collect();
    if !effects.deletes.is_empty() {
        let parameters = arrays(table, &table.key, &effects.deletes);
        jobs.push(job(table, delete_set(table), parameters, effects.deletes.len()));
    }
    let mut shapes: BTreeMap<Vec<usize>, Vec<&[Value]>> = BTreeMap::new();
    for row in &effects.updates {
        shapes.entry(present(row)).or_default().push(row);
    }
    for (columns, rows) in &shapes {
        let parameters = arrays(table, columns, rows);
        // A key's columns are never set here.
        let refused = |column: &usize| is_refused(table, *column) && !table.key.contains(column);
        let sql = if columns.iter().any(refused) { replace_set(table, columns) } else { update_set(table, columns) };
        jobs.push(job(table, sql, parameters, rows.len()));
    }
    if effects.inserts.is_empty() {
        return;
    }
    if all.is_empty() {
        let more = effects.inserts.iter().map(|_| job(table, insert_one(table), Vec::new(), 1));
        jobs.extend(more);
        return;
    }
    let rows: Vec<&[Value]> = effects.inserts.iter().map(Cow::as_ref).collect();
    jobs.push(job(table, insert_set(table), arrays(table, &all, &rows), rows.len()));
}

fn job(table: &Table, sql: String, parameters: Vec<Literal>, rows: usize) -> Job {
    let rows = Some(u64::try_from(rows).unwrap_or(u64::MAX));
    Job { sql, parameters, rows, place: Arc::clone(&table.place) }
}

fn present(row: &[Value]) -> Vec<usize> {
    let carried = row.iter().enumerate();
    carried.filter(|(_, value)| !matches!(value, Value::UnchangedToast)).map(|(index, _)| index).collect()
}

fn arrays(table: &Table, columns: &[usize], rows: &[&[Value]]) -> Vec<Literal> {
    let one = |&column: &usize| {
        let values = rows.iter().filter_map(|row| row.get(column));
        array(values, table.columns[column].set_delimiter())
    };
    columns.iter().map(one).collect()
}

/// What writes one change on its own.
pub(crate) fn one_by_one(table: &Table, change: &Change) -> Job {
    match &change.kind {
        Kind::Insert(row) => job(table, insert_one(table), row.iter().map(Literal::from).collect(), 1),
        Kind::Delete(old) => {
            let (find, parameters) = find(table, old);
            job(table, delete_one(table, &find), parameters, 1)
        }
        Kind::Update { old, new } => {
            let (find, conditions) = find(table, old.as_ref().unwrap_or(new));
            let assigned: Vec<usize> = present(new)
                .into_iter()
                .filter(|column| old.is_some() || !table.key.contains(column))
                .filter(|&column| !is_refused(table, column) || differs(table, change, column))
                .collect();
            if assigned.is_empty() {
                return job(table, update_nothing(table, &find), conditions, 1);
            }
            let values = assigned.iter().filter_map(|&column| new.get(column)).map(Literal::from);
            let parameters = values.chain(conditions).collect();
            let sql = if assigned.iter().any(|&column| is_refused(table, column)) {
                replace_one(table, &assigned, &find)
            } else {
                update_one(table, &assigned, &find)
            };
            job(table, sql, parameters, 1)
        }
    }
}

/// Whether no update may set the column: then the row is replaced.
fn is_refused(table: &Table, column: usize) -> bool {
    table.columns.get(column).is_some_and(|column| column.always_identity)
}

/// Whether an update may change this column.
fn differs(table: &Table, change: &Change, column: usize) -> bool {
    match &change.kind {
        Kind::Update { old: Some(old), new } if table.key.is_empty() || table.key.contains(&column) => {
            old.get(column) != new.get(column)
        }
        _ => true,
    }
}

/// The row must be there even where nothing about it can change.
fn update_nothing(table: &Table, find: &Find) -> String {
    delete_one(table, find).replacen("DELETE FROM", "SELECT FROM", 1)
}

fn find(table: &Table, old: &[Value]) -> (Find, Vec<Literal>) {
    let all: Vec<usize>;
    let columns = if table.key.is_empty() {
        all = (0..table.columns.len()).collect();
        &all
    } else {
        &table.key
    };
    let mut find = Find { with_value: Vec::new(), null: Vec::new() };
    let mut parameters = Vec::new();
    for &column in columns {
        match old.get(column) {
            Some(value @ Value::Text(_)) => {
                find.with_value.push(column);
                parameters.push(Literal::from(value));
            }
            _ => find.null.push(column),
        }
    }
    (find, parameters)
}

/// What empties these tables and no others, whatever refers to them: the source names every table that it emptied, and
/// one that was loaded later must keep its rows.
pub(crate) fn truncate(tables: &Tables, which: &[usize]) -> Job {
    let names: Vec<&str> = which.iter().map(|&index| tables.all[index].relation.as_str()).collect();
    // Refused where a table that is not among them refers to one of them.
    let body = format!(
        "BEGIN TRUNCATE ONLY {}; EXCEPTION WHEN feature_not_supported THEN DELETE FROM ONLY {}; END",
        names.join(", ONLY "),
        names.join("; DELETE FROM ONLY ")
    );
    Job {
        sql: format!("DO {}", quote_literal(&body)),
        parameters: Vec::new(),
        rows: None,
        place: "truncated tables".into(),
    }
}
