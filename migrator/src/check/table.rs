//! What the check knows of a table, as one side's catalogue describes it.

use std::collections::BTreeMap;

/// At most this many differences are named.
pub(crate) const NAMED_MAX: usize = 10;

/// A column as one side's catalogue describes it.
pub(crate) trait Column: Clone + Send + Sync {
    /// Whether the values of both sides can be compared.
    fn compares(&self, other: &Self) -> bool;

    /// Whether every server puts its values into the same order.
    fn is_whole_number(&self) -> bool;
}

/// A table as one side's catalogue describes it.
#[derive(Clone, Debug)]
pub(crate) struct Described<C> {
    /// `schema.table` for people.
    pub(crate) title: String,
    /// `schema.table` for SQL.
    pub(crate) relation: String,
    /// Every column by name, generated and invisible ones too.
    pub(crate) columns: BTreeMap<String, C>,
    /// The columns of the key that tells rows apart; empty where there is none.
    pub(crate) key: Vec<String>,
    /// The catalogue's estimate.
    pub(crate) rows_estimated: u64,
}

impl<C: Column> Described<C> {
    /// Whether both can be compared row by row.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        let columns = self.columns.iter().zip(&other.columns);
        self.title == other.title
            && self.columns.len() == other.columns.len()
            && columns.into_iter().all(|((here, one), (there, two))| here == there && one.compares(two))
    }
}
