//! The stored statements "this range was equal on both sides at this position".

use serde::{Deserialize, Serialize};

use crate::model::definitions::Fingerprint;

/// What a check of both sides found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// One proof per range, the definitions' first.
    pub proofs: Vec<Proof>,
    /// What the definitions of both sides were when the ranges were compared.
    pub fingerprint: Fingerprint,
}

/// What one comparison of one range found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The table, as `schema.table`, quoted where it must be.
    pub table: String,
    /// The range, told for people: `all`, or the bounds of its key.
    pub range: String,
    /// Rows in the range on the source.
    pub source_rows: u64,
    /// Rows in the range on the target.
    pub target_rows: u64,
    /// The source's digest of the range.
    pub source_digest: String,
    /// The target's digest of the range.
    pub target_digest: String,
    /// The position at which both were read.
    pub position: String,
    /// Where they differ: the keys of at most ten rows, never their contents.
    pub differing_keys: Vec<String>,
}

impl Proof {
    /// Whether the range was equal.
    pub fn equal(&self) -> bool {
        self.source_rows == self.target_rows && self.source_digest == self.target_digest
    }
}
