//! What will move: immutable once made.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A table that moves, leaf partitions one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The schema's name as the catalogue has it, unquoted.
    pub schema: String,
    /// The table's name as the catalogue has it, unquoted.
    pub name: String,
    /// The columns that are copied, in the table's order; generated columns are left out.
    pub columns: Vec<Column>,
    /// The columns of the key by which changes find their row; empty where the whole row is the key.
    pub key: Vec<String>,
    /// The catalogue's estimate of the rows.
    pub rows_estimated: u64,
    /// The table's size on disk without indexes, in bytes.
    pub bytes: u64,
}

/// A column that is copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name as the catalogue has it, unquoted.
    pub name: String,
    /// The type as the engine writes it, with its modifier, such as `numeric(10,2)`.
    pub type_name: String,
    /// What kind of type it is, for the engine's own use.
    pub kind: String,
}

/// A counter (sequence, identity) whose next value must not be handed out twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// The schema's name, unquoted.
    pub schema: String,
    /// The counter's name, unquoted.
    pub name: String,
}

/// What a migration moves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Every table with rows of its own, the largest first.
    pub tables: Vec<Table>,
    /// Tables without rows of their own that writers may name (partitioned parents): fenced, not copied.
    pub parents: Vec<(String, String)>,
    /// Every counter.
    pub counters: Vec<Counter>,
}

impl Plan {
    /// What of this plan moves in `other` too: what else is there is somebody else's.
    #[must_use]
    pub fn shared_with(mut self, other: &Self) -> Self {
        let tables: BTreeSet<_> = other.tables.iter().map(|table| (&table.schema, &table.name)).collect();
        let counters: BTreeSet<_> = other.counters.iter().map(|counter| (&counter.schema, &counter.name)).collect();
        self.tables.retain(|table| tables.contains(&(&table.schema, &table.name)));
        self.counters.retain(|counter| counters.contains(&(&counter.schema, &counter.name)));
        self.parents.retain(|parent| other.parents.contains(parent));
        self
    }

    /// What moves here and not in `other`, by name.
    pub fn lacking_in(&self, other: &Self) -> Vec<String> {
        let tables: BTreeSet<_> = other.tables.iter().map(|table| (&table.schema, &table.name)).collect();
        let counters: BTreeSet<_> = other.counters.iter().map(|counter| (&counter.schema, &counter.name)).collect();
        let ours = self.tables.iter().map(|table| (&table.schema, &table.name)).filter(|name| !tables.contains(name));
        let counted = self.counters.iter().map(|counter| (&counter.schema, &counter.name));
        let counted = counted.filter(|name| !counters.contains(name));
        ours.chain(counted).map(|(schema, name)| format!("{schema}.{name}")).collect()
    }
}

impl Table {
    /// The statement of the console that takes this table anew.
    pub fn recopying(&self, migration: &str) -> String {
        let word = |name: &str| {
            let plain = |letter: char| matches!(letter, 'a'..='z' | '0'..='9' | '_');
            let begins = |letter: char| matches!(letter, 'a'..='z' | '_');
            if name.chars().all(plain) && name.starts_with(begins) {
                name.to_owned()
            } else {
                format!("\"{}\"", name.replace('"', "\"\""))
            }
        };
        let (schema, name) = (word(&self.schema), word(&self.name));
        format!("RECOPY TABLE {schema}.{name} OF MIGRATION {migration}")
    }
}

/// How a migration goes about it; every field has a default that suits most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Connections that copy at the same time.
    pub copy_workers: usize,
    /// Ranges of a big table are about this large, in bytes.
    pub copy_chunk_bytes: u64,
    /// Connections that compute digests at the same time on each side.
    pub check_workers: usize,
    /// Rows per digest range.
    pub check_range_rows: u64,
    /// Rows that the proof of the switch compares in a second.
    pub proof_rate: u64,
    /// How long rows that changed since the check may be compared inside of the hold, where that is asked for.
    pub check_budget: Duration,
    /// Keys of changed rows that are remembered between two checks, at most.
    pub residue_keys: usize,
    /// Of these, so many are compared again in a second while changes are followed; zero for none.
    pub residue_rate: u64,
    /// How far past the source's counters the target's are set.
    pub counter_gap: i64,
    /// Schemas to move; empty means all that are not the system's.
    pub schemas: Vec<String>,
    /// How long the creation of the change stream may wait for open transactions before it gives up and retries.
    #[serde(alias = "stream_patience")]
    pub slot_create_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            copy_workers: 4,
            copy_chunk_bytes: 64 << 20,
            check_workers: 2,
            check_range_rows: 100_000,
            proof_rate: 200_000,
            check_budget: Duration::from_millis(500),
            residue_keys: 100_000,
            residue_rate: 5000,
            counter_gap: 10_000,
            schemas: Vec::new(),
            slot_create_timeout: Duration::from_secs(10),
        }
    }
}
