//! What is recorded on the target of the schema and of each table's load.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use crate::model::plan::{Plan, Table};
use crate::model::progress::{Progress, Stage};

/// Where a part of the schema stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Not begun.
    Waiting,
    /// Begun: whether it was finished must be seen on the target.
    Begun,
    /// Finished.
    Done,
}

impl Part {
    pub(crate) fn read(text: Option<&str>) -> Self {
        match text {
            Some("done") => Self::Done,
            Some("begun") => Self::Begun,
            _ => Self::Waiting,
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Begun => "begun",
            Self::Done => "done",
        }
    }
}

/// What is recorded of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<P> {
    /// The changes before it are in the load.
    pub valid_from: P,
    /// Whether all its rows are there.
    pub rows: bool,
    /// Whether its indexes are there.
    pub indexes: bool,
}

impl<P> Loaded<P> {
    pub(crate) fn read(valid_from: P, state: &str) -> Self {
        Self { valid_from, rows: state != "copying", indexes: state == "indexed" }
    }
}

/// What is recorded of every table, by schema and name.
pub type Tables<P> = BTreeMap<(String, String), Loaded<P>>;

/// The plan's tables whose rows are to be loaded, and a queue of those that are loaded, in which there is room for all.
/// What was loaded before and lacks its indexes is in it already.
pub(crate) fn left_to_load<P>(
    plan: &Plan,
    recorded: &Tables<P>,
) -> (Vec<Table>, mpsc::Sender<Table>, mpsc::Receiver<Table>) {
    let (loaded, to_build) = mpsc::channel(plan.tables.len().max(1));
    let mut to_load = Vec::new();
    for table in &plan.tables {
        match recorded.get(&(table.schema.clone(), table.name.clone())) {
            Some(record) if record.indexes => {}
            Some(record) if record.rows => {
                let _ = loaded.try_send(table.clone());
            }
            _ => to_load.push(table.clone()),
        }
    }
    (to_load, loaded, to_build)
}

/// Tells the operator's progress what earlier runs loaded: rows and bytes, by schema and name.
pub(crate) fn report<P>(
    plan: &Plan,
    recorded: &Tables<P>,
    sums: &BTreeMap<(String, String), (u64, u64)>,
    title: impl Fn(&Table) -> String,
    progress: &Progress,
) {
    for table in &plan.tables {
        let name = (table.schema.clone(), table.name.clone());
        let Some(state) = recorded.get(&name) else {
            continue;
        };
        let (rows, bytes) = sums.get(&name).copied().unwrap_or((0, 0));
        progress.update(&title(table), |numbers| {
            numbers.stage = match (state.rows, state.indexes) {
                (_, true) => Stage::Copied,
                (true, false) => Stage::Indexing,
                (false, false) => Stage::Copying,
            };
            numbers.rows_copied = rows;
            numbers.bytes_copied = bytes;
        });
    }
}
