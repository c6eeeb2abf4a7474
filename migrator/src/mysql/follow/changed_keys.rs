//! Names the rows that a batch changes by their keys, for whoever compares them later.

use protocol::mysql::change::{self, Cell};

use super::apply::{ApplyBatch, Item};
use super::coalesce::Row;
use super::tables::{Table, Tables};
use super::values::{Purpose, write};
use crate::residue::Marking;

/// Marks the keys of all rows that the batch changes, before and after.
pub(crate) fn mark(tables: &Tables, batch: &ApplyBatch, marking: &mut Marking<'_>) {
    for item in &batch.items {
        match item {
            Item::Change(change) => {
                let Some(table) = tables.all.get(change.table) else {
                    continue;
                };
                let wire = batch.wires.get(change.table).and_then(Option::as_deref).unwrap_or_default();
                let kept = |old: &Row, new: &Row| table.key.iter().all(|&column| old.get(column) == new.get(column));
                let old = change.old.as_ref().filter(|old| !change.new.as_ref().is_some_and(|new| kept(old, new)));
                for row in old.into_iter().chain(&change.new) {
                    mark_row(table, wire, row, marking);
                }
            }
            Item::Truncate(table) => {
                if let Some(table) = tables.all.get(*table) {
                    marking.unknown(&table.title, "all rows were removed by TRUNCATE");
                }
            }
        }
    }
}

fn mark_row(table: &Table, wire: &[change::Column], row: &[Cell], marking: &mut Marking<'_>) {
    marking.key(&table.title, table.key.len(), |number, written| {
        let Some(&column) = table.key.get(number) else {
            return false;
        };
        let (Some(described), Some(wire), Some(cell @ Cell::Value(_))) =
            (table.columns.get(column), wire.get(column), row.get(column))
        else {
            return false;
        };
        write(written, cell, *wire, &described.traits, Purpose::Name).is_ok()
    });
}
