//! What the check asks of two sessions that show one position.

use std::collections::BTreeMap;
use std::future::Future;

use super::table::{Column, Described};
use crate::error::Result;

/// Some of a table's rows.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    /// Which, for people.
    pub(crate) title: String,
    /// Which, for SQL.
    pub(crate) condition: String,
}

/// What a range comes to on one side.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) rows: u64,
    pub(crate) digest: String,
}

/// A table as the source's and as the target's catalogue describe it.
pub(crate) type Both<C> = (Described<C>, Described<C>);

/// Digests by their name.
pub(crate) type Named = BTreeMap<String, String>;

/// A session on each side, both of which show the same position for as long as they live.
pub(crate) trait SnapshotPair: Send {
    /// A column as a catalogue describes it.
    type Column: Column;

    /// A column's name for SQL.
    fn quoted(name: &str) -> String;

    /// A whole number for SQL, as it is compared with a column.
    fn number(value: i128) -> String;

    /// The least and the greatest value on the source of a column of whole numbers; nothing where there is no row.
    fn bounds(
        &mut self,
        table: &Described<Self::Column>,
        column: &str,
    ) -> impl Future<Output = Result<Option<(i128, i128)>>> + Send;

    /// Count and digest of a range on the source and on the target.
    fn digests(
        &mut self,
        table: &Both<Self::Column>,
        range: &Range,
    ) -> impl Future<Output = Result<(Digest, Digest)>> + Send;

    /// The query for the digest of each of so many buckets of a range, each with its number as its name.
    fn by_bucket(&self, table: &Described<Self::Column>, range: &Range, buckets: u64) -> String;

    /// The query for the digest of each row of one of these buckets, by its key, or by a fingerprint where it has none.
    fn by_key(&self, table: &Described<Self::Column>, range: &Range, buckets: u64, bucket: i64) -> String;

    /// What the source and the target answer to such a query.
    fn named(
        &mut self,
        table: &Described<Self::Column>,
        query: &str,
    ) -> impl Future<Output = Result<(Named, Named)>> + Send;
}
