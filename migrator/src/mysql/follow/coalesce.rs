//! What a run of changes comes to: for every row one final effect, so that it can be written set by set.

use std::borrow::Cow;
use std::collections::HashMap;

use protocol::mysql::change::Cell;

use crate::follow::coalesce::{Contradiction, key_of};

/// A row's values in the order of the table's planned columns.
pub(crate) type Row = Vec<Cell>;

/// One change of one row, in the source's order.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Which table, as an index into the follower's tables.
    pub(crate) table: usize,
    /// The row before; none where it is new.
    pub(crate) old: Option<Row>,
    /// The row after; none where it is gone.
    pub(crate) new: Option<Row>,
}

/// The final effects on rows that all differ in their key: first every delete, then every insert. A row that changed
/// is among both, so that no row of the set is ever in another's way.
#[derive(Debug, Default)]
pub(crate) struct Effects<'a> {
    /// Rows that are to go, each of which holds at least its key.
    pub(crate) deletes: Vec<&'a [Cell]>,
    /// Rows that are to come.
    pub(crate) inserts: Vec<&'a [Cell]>,
}

struct Entry<'a> {
    /// The row as it was found before the run, if it was there.
    before: Option<&'a [Cell]>,
    /// Any row with this key.
    named: &'a [Cell],
    now: Option<&'a [Cell]>,
}

/// What one table's changes come to. `key` has the positions of the key's columns and is not empty.
///
/// A loose run says nothing of what was there before: every row that it names is to go, if it is there.
pub(crate) fn coalesce<'a>(
    changes: impl Iterator<Item = &'a Change>,
    key: &[usize],
    idempotent: bool,
) -> Result<Effects<'a>, Contradiction> {
    let mut entries: Vec<Entry<'a>> = Vec::new();
    let mut found: HashMap<Cow<'a, [u8]>, usize> = HashMap::new();
    for change in changes {
        if let Some(old) = change.old.as_deref() {
            let at = *found.entry(key_of(key, |column| bytes(old, column))).or_insert(entries.len());
            match entries.get_mut(at) {
                None => entries.push(Entry { before: Some(old), named: old, now: None }),
                Some(entry) => {
                    if entry.now.take().is_none() && !idempotent {
                        return Err(Contradiction);
                    }
                }
            }
        }
        if let Some(new) = change.new.as_deref() {
            let at = *found.entry(key_of(key, |column| bytes(new, column))).or_insert(entries.len());
            match entries.get_mut(at) {
                None => entries.push(Entry { before: None, named: new, now: Some(new) }),
                Some(entry) => {
                    if entry.now.replace(new).is_some() && !idempotent {
                        return Err(Contradiction);
                    }
                }
            }
        }
    }
    let mut effects = Effects::default();
    for entry in entries {
        let delete = if idempotent { Some(entry.named) } else { entry.before };
        effects.deletes.extend(delete);
        effects.inserts.extend(entry.now);
    }
    Ok(effects)
}

fn bytes(row: &[Cell], column: usize) -> &[u8] {
    match row.get(column) {
        Some(Cell::Value(value)) => value,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::{Cell, Change, Contradiction, Row, bytes, coalesce};

    type Model = BTreeMap<Vec<u8>, Row>;

    fn row(key: u8, value: u8) -> Row {
        vec![Cell::Value(Bytes::copy_from_slice(&[key])), Cell::Value(Bytes::copy_from_slice(&[value]))]
    }

    fn change(old: Option<Row>, new: Option<Row>) -> Change {
        Change { table: 0, old, new }
    }

    fn write(model: &mut Model, change: &Change) -> bool {
        let gone = change.old.as_ref().is_none_or(|old| model.remove(bytes(old, 0)).is_some());
        let came = change.new.as_ref().is_none_or(|new| model.insert(bytes(new, 0).to_vec(), new.clone()).is_none());
        gone && came
    }

    fn changes(start: &Model, tries: Vec<(u8, u8, u8, u8)>) -> (Vec<Change>, Model) {
        let mut model = start.clone();
        let mut changes = Vec::new();
        for (what, key, other, value) in tries {
            let here = model.get(&vec![key]).cloned();
            let made = match (what, here) {
                (0, None) => change(None, Some(row(key, value))),
                (1, Some(old)) => change(Some(old), None),
                (2, Some(old)) => change(Some(old), Some(row(key, value))),
                (3, Some(old)) if !model.contains_key(&vec![other]) => change(Some(old), Some(row(other, value))),
                _ => continue,
            };
            assert!(write(&mut model, &made));
            changes.push(made);
        }
        (changes, model)
    }

    fn start() -> Model {
        (0..4).map(|key| (vec![key], row(key, 7))).collect()
    }

    proptest! {
        #[test]
        fn the_effects_come_to_the_same_rows_as_the_changes(
            tries in prop::collection::vec((0_u8..4, 0_u8..6, 0_u8..6, 0_u8..100), 0..60)
        ) {
            let (changes, serial) = changes(&start(), tries);
            let effects = coalesce(changes.iter(), &[0], false).expect("the changes are possible");
            let mut by_set = start();
            for gone in effects.deletes {
                prop_assert!(by_set.remove(bytes(gone, 0)).is_some(), "deleted what is not there");
            }
            for new in effects.inserts {
                prop_assert!(by_set.insert(bytes(new, 0).to_vec(), new.to_vec()).is_none(), "inserted over a row");
            }
            prop_assert_eq!(by_set, serial);
        }

        #[test]
        fn a_loose_run_on_rows_of_any_later_moment_comes_to_the_same_rows(
            tries in prop::collection::vec((0_u8..4, 0_u8..6, 0_u8..6, 0_u8..100), 0..60),
            seen in 0_usize..60,
        ) {
            let (changes, serial) = changes(&start(), tries);
            let mut loaded = start();
            for change in changes.iter().take(seen) {
                write(&mut loaded, change);
            }
            let effects = coalesce(changes.iter(), &[0], true).expect("nothing contradicts a loose run");
            for gone in effects.deletes {
                loaded.remove(bytes(gone, 0));
            }
            for new in effects.inserts {
                prop_assert!(loaded.insert(bytes(new, 0).to_vec(), new.to_vec()).is_none(), "inserted over a row");
            }
            prop_assert_eq!(loaded, serial);
        }
    }

    #[test]
    fn an_update_of_a_deleted_row_is_a_contradiction() {
        let changes = [change(Some(row(1, 1)), None), change(Some(row(1, 1)), Some(row(1, 2)))];
        let strict = coalesce(changes.iter(), &[0], false).err();
        assert_eq!(strict, Some(Contradiction));
    }

    #[test]
    fn keys_of_several_columns_are_not_confused_by_where_they_end() {
        let row = |one: &'static str, two: &'static str| vec![Cell::Value(one.into()), Cell::Value(two.into())];
        let changes = [("a", "bc"), ("ab", "c")].map(|(one, two)| change(None, Some(row(one, two))));
        assert!(coalesce(changes.iter(), &[0, 1], false).is_ok());
    }
}
