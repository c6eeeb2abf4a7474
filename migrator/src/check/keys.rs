//! Compares the rows of given keys on both sides as they are at the moment, without snapshots.
//!
//! Nothing here shares code with what moves rows.

use std::collections::HashMap;

use super::snapshot_pair::{Named, Range, SnapshotPair};
use super::table::Described;
use crate::error::{Error, Result};
use crate::residue::Key;

/// Two sessions without a snapshot, and how rows are found in them.
pub(crate) trait KeyPair: SnapshotPair {
    /// That the column, quoted, has this value, which the change stream has told.
    fn value(text: &str) -> String;

    /// Whether the row behind this digest could be read in full.
    fn is_complete(digest: &str) -> bool;
}

/// The sessions, and the tables by their titles.
pub(crate) struct KeySessions<P: SnapshotPair> {
    pair: P,
    tables: HashMap<String, Keyed<P::Column>>,
}

struct Keyed<C> {
    described: Described<C>,
    /// The columns by whose values the change stream names rows, quoted.
    key: Vec<String>,
}

impl<P: KeyPair> KeySessions<P> {
    /// `keys` has the columns by which the change stream names the rows of each table, by the table's title.
    pub(crate) fn new(
        pair: P,
        here: Vec<Described<P::Column>>,
        there: &[Described<P::Column>],
        mut keys: HashMap<String, Vec<String>>,
    ) -> Self {
        let comparable = here.into_iter().filter(|table| there.iter().any(|other| other.matches(table)));
        let keyed = comparable.filter_map(|described| {
            let key = keys.remove(&described.title)?.iter().map(|column| P::quoted(column)).collect();
            Some((described.title.clone(), Keyed { described, key }))
        });
        Self { tables: keyed.collect(), pair }
    }

    /// Names the rows of these keys that are not the same on both sides.
    pub(crate) async fn differing(&mut self, table: &str, keys: &[Key]) -> Result<Vec<String>> {
        let Some(Keyed { described, key }) = self.tables.get(table) else {
            return Err(Error::refused(format!(
                "the rows of {table} cannot be compared: it is not the same on both sides"
            )));
        };
        let range = Range { title: String::new(), condition: condition::<P>(key, keys) };
        let query = self.pair.by_key(described, &range, 1, 0);
        let (here, there) = self.pair.named(described, &query).await?;
        let unread = here.iter().chain(&there).find(|(_, digest)| !P::is_complete(digest));
        if let Some((row, _)) = unread {
            return Err(Error::refused(format!("the row {row} of {table} cannot be compared: it is too long")));
        }
        Ok(differing(&here, &there))
    }
}

/// The names for which both sides do not answer the same.
pub(crate) fn differing(here: &Named, there: &Named) -> Vec<String> {
    let changed = here.iter().filter(|(name, digest)| there.get(*name) != Some(digest)).map(|(name, _)| name.clone());
    let surplus = there.keys().filter(|name| !here.contains_key(*name)).cloned();
    changed.chain(surplus).collect()
}

/// That a row has one of these keys, in words for which each server looks into the key's index.
fn condition<P: KeyPair>(columns: &[String], keys: &[Key]) -> String {
    if let [column] = columns {
        let values: Vec<String> = keys.iter().flat_map(Key::values).map(P::value).collect();
        return format!("({column} IN ({}))", values.join(", "));
    }
    let one = |key: &Key| {
        let pairs: Vec<String> =
            columns.iter().zip(key.values()).map(|(column, value)| format!("{column} = {}", P::value(value))).collect();
        format!("({})", pairs.join(" AND "))
    };
    format!("({})", keys.iter().map(one).collect::<Vec<_>>().join(" OR "))
}
