//! A snapshot of the work for the operator: what is done, what remains, how fast.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::model::plan::Plan;

/// Where a table stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Not begun.
    #[default]
    Waiting,
    /// Rows are being loaded.
    Copying,
    /// Rows are there; indexes and constraints are being built.
    Indexing,
    /// Loaded and complete.
    Copied,
}

/// One table's numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableProgress {
    /// Where it stands.
    pub stage: Stage,
    /// The catalogue's estimate of its rows when the plan was made.
    pub rows_estimated: u64,
    /// Rows loaded.
    pub rows_copied: u64,
    /// Bytes on the source's disk when the plan was made.
    pub bytes_estimated: u64,
    /// Bytes that went through the copy so far.
    pub bytes_copied: u64,
    /// Inserts, updates, deletes and truncates applied since.
    pub changes_applied: u64,
    /// Ranges of the running or last check that were found equal.
    pub ranges_equal: u64,
    /// Ranges of the running or last check that differ.
    pub ranges_different: u64,
    /// Ranges of the running or last check, in all.
    pub ranges: u64,
}

/// What the workers report to and the console reads from. Keys are `schema.table`, as in [`crate::model::proof::Proof`].
#[derive(Debug, Default)]
pub struct Progress {
    tables: Mutex<BTreeMap<String, TableProgress>>,
    transactions_applied: Mutex<u64>,
}

impl Progress {
    /// Starts with the plan's tables, all waiting.
    pub fn expect(&self, plan: &Plan, title: impl Fn(&crate::model::plan::Table) -> String) {
        let mut tables = self.tables.lock();
        for table in &plan.tables {
            let entry = tables.entry(title(table)).or_default();
            entry.rows_estimated = table.rows_estimated;
            entry.bytes_estimated = table.bytes;
        }
    }

    /// Changes one table's numbers.
    pub fn update(&self, table: &str, change: impl FnOnce(&mut TableProgress)) {
        change(self.tables.lock().entry(table.to_owned()).or_default());
    }

    /// Counts applied transactions of the source.
    pub fn count_transactions(&self, more: u64) {
        *self.transactions_applied.lock() += more;
    }

    /// Transactions of the source applied since this process started.
    pub fn transactions_applied(&self) -> u64 {
        *self.transactions_applied.lock()
    }

    /// Every table's numbers, by name.
    pub fn tables(&self) -> BTreeMap<String, TableProgress> {
        self.tables.lock().clone()
    }
}
