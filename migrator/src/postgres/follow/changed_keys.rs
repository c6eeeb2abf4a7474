//! Names the rows that a batch changes by their keys, for whoever compares them later.

use protocol::postgres::change::Value;

use super::apply::{ApplyBatch, Item};
use super::coalesce::Kind;
use super::tables::{Table, Tables};
use crate::residue::Marking;

/// Marks the keys of all rows that the batch changes, before and after.
pub(crate) fn mark(tables: &Tables, batch: &ApplyBatch, marking: &mut Marking<'_>) {
    for item in &batch.items {
        match item {
            Item::Change(change) => {
                let Some(table) = tables.all.get(change.table) else {
                    continue;
                };
                match &change.kind {
                    Kind::Insert(row) | Kind::Delete(row) => mark_row(table, row, marking),
                    Kind::Update { old, new } => {
                        if let Some(old) = old {
                            mark_row(table, old, marking);
                        }
                        mark_row(table, new, marking);
                    }
                }
            }
            Item::Truncate(which) => {
                for table in which.iter().filter_map(|table| tables.all.get(*table)) {
                    marking.unknown(&table.title, "all rows were removed by TRUNCATE");
                }
            }
        }
    }
}

fn mark_row(table: &Table, row: &[Value], marking: &mut Marking<'_>) {
    marking.key(&table.title, table.key.len(), |number, written| {
        let column = table.key.get(number).and_then(|column| row.get(*column));
        let Some(Value::Text(text)) = column else {
            return false;
        };
        written.extend_from_slice(text);
        true
    });
}
