//! What a run of changes comes to: for every row one final effect, so that it can be written set by set.

use std::borrow::Cow;
use std::collections::HashMap;

use protocol::postgres::change::Value;

use crate::follow::coalesce::{Contradiction, key_of};

/// A row's values in the order of the table's columns.
pub(crate) type Row = Vec<Value>;

/// One change of one row, in the source's order.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Which table, as an index into the follower's tables.
    pub(crate) table: usize,
    /// What happened to the row.
    pub(crate) kind: Kind,
}

/// What happened to a row. Old rows hold at least the key's columns, or all columns where there is no key.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A new row, complete.
    Insert(Row),
    /// The row that `old` describes (by default: the one with the new key) became `new`.
    Update { old: Option<Row>, new: Row },
    /// The row is gone.
    Delete(Row),
}

/// Something to write, in this order within its table.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// Rows whose order does not matter: first every delete, then every update, then every insert.
    Set(Effects<'a>),
    /// A change that must be written alone.
    One(&'a Change),
}

/// The final effects on rows that all differ in their key.
#[derive(Debug, Default)]
pub(crate) struct Effects<'a> {
    /// Rows that are gone, by their key's columns.
    pub(crate) deletes: Vec<&'a [Value]>,
    /// Rows that changed; columns with [`Value::UnchangedToast`] keep their value.
    pub(crate) updates: Vec<Cow<'a, [Value]>>,
    /// New rows, complete.
    pub(crate) inserts: Vec<Cow<'a, [Value]>>,
}

/// The steps that one table's `changes` come to. `key` has the positions of the key's columns; without any, rows
/// cannot be told apart and only inserts are put together.
pub(crate) fn coalesce<'a>(
    changes: impl Iterator<Item = &'a Change>,
    key: &[usize],
) -> Result<Vec<Step<'a>>, Contradiction> {
    let mut run = Run { key, steps: Vec::new(), entries: Vec::new(), found: HashMap::new() };
    for change in changes {
        run.add(change)?;
    }
    run.close();
    Ok(run.steps)
}

/// Whether some column of the row kept a value that the stream does not carry.
pub(crate) fn is_partial(row: &[Value]) -> bool {
    row.iter().any(|value| matches!(value, Value::UnchangedToast))
}

/// Takes from `before` what `row` does not carry.
pub(crate) fn complete<'a>(mut row: Cow<'a, [Value]>, before: &[Value]) -> Cow<'a, [Value]> {
    if is_partial(&row) {
        for (value, kept) in row.to_mut().iter_mut().zip(before) {
            if matches!(value, Value::UnchangedToast) {
                *value = kept.clone();
            }
        }
    }
    row
}

/// Whether both rows have the same key.
pub(crate) fn same_key(key: &[usize], one: &[Value], other: &[Value]) -> bool {
    key.iter().all(|&column| bytes(one, column) == bytes(other, column))
}

fn bytes(row: &[Value], column: usize) -> &[u8] {
    match row.get(column) {
        Some(Value::Text(text) | Value::Binary(text)) => text,
        _ => &[],
    }
}

struct Entry<'a> {
    /// The row as it was found before the run, if it was there.
    before: Option<&'a [Value]>,
    /// The row that was there before the run is gone, whatever is there now.
    replaced: bool,
    now: Option<Cow<'a, [Value]>>,
}

struct Run<'a, 'k> {
    key: &'k [usize],
    steps: Vec<Step<'a>>,
    entries: Vec<Entry<'a>>,
    found: HashMap<Cow<'a, [u8]>, usize>,
}

impl<'a> Run<'a, '_> {
    fn add(&mut self, change: &'a Change) -> Result<(), Contradiction> {
        if self.key.is_empty() {
            match &change.kind {
                Kind::Insert(row) => {
                    let now = Some(Cow::Borrowed(row.as_slice()));
                    self.entries.push(Entry { before: None, replaced: false, now });
                }
                Kind::Update { .. } | Kind::Delete(_) => self.alone(change),
            }
            return Ok(());
        }
        match &change.kind {
            Kind::Insert(row) => self.insert(row, Cow::Borrowed(row)),
            Kind::Delete(row) => self.delete(row),
            Kind::Update { old: Some(old), new } if !same_key(self.key, old, new) => {
                let known = self.found.get(&self.key_of(old)).and_then(|&at| self.entries.get(at));
                let mut row = Cow::Borrowed(new.as_slice());
                if let Some(now) = known.and_then(|entry| entry.now.as_ref()) {
                    row = complete(row, now);
                }
                if is_partial(&row) {
                    self.alone(change);
                    return Ok(());
                }
                self.delete(old)?;
                self.insert(new, row)
            }
            Kind::Update { new, .. } => self.update(new),
        }
    }

    fn insert(&mut self, key_row: &'a [Value], row: Cow<'a, [Value]>) -> Result<(), Contradiction> {
        let next = self.entries.len();
        let at = *self.found.entry(self.key_of(key_row)).or_insert(next);
        match self.entries.get_mut(at) {
            None => self.entries.push(Entry { before: None, replaced: false, now: Some(row) }),
            Some(Entry { now: Some(_), .. }) => return Err(Contradiction),
            Some(entry) => {
                entry.replaced = entry.before.is_some();
                entry.now = Some(row);
            }
        }
        Ok(())
    }

    fn update(&mut self, new: &'a [Value]) -> Result<(), Contradiction> {
        let next = self.entries.len();
        let at = *self.found.entry(self.key_of(new)).or_insert(next);
        let row = Cow::Borrowed(new);
        match self.entries.get_mut(at) {
            None => self.entries.push(Entry { before: Some(new), replaced: false, now: Some(row) }),
            Some(entry) => {
                let before = entry.now.as_ref().ok_or(Contradiction)?;
                entry.now = Some(complete(row, before));
            }
        }
        Ok(())
    }

    fn delete(&mut self, old: &'a [Value]) -> Result<(), Contradiction> {
        let next = self.entries.len();
        let at = *self.found.entry(self.key_of(old)).or_insert(next);
        match self.entries.get_mut(at) {
            None => self.entries.push(Entry { before: Some(old), replaced: false, now: None }),
            Some(entry) => {
                entry.now.take().ok_or(Contradiction)?;
            }
        }
        Ok(())
    }

    fn alone(&mut self, change: &'a Change) {
        self.close();
        self.steps.push(Step::One(change));
    }

    fn close(&mut self) {
        self.found.clear();
        let mut effects = Effects::default();
        for entry in self.entries.drain(..) {
            match (entry.before, entry.now) {
                (Some(_), Some(row)) if !entry.replaced => effects.updates.push(row),
                (before, now) => {
                    effects.deletes.extend(before);
                    effects.inserts.extend(now);
                }
            }
        }
        let Effects { deletes, updates, inserts } = &effects;
        if !(deletes.is_empty() && updates.is_empty() && inserts.is_empty()) {
            self.steps.push(Step::Set(effects));
        }
    }

    fn key_of<'r>(&self, row: &'r [Value]) -> Cow<'r, [u8]> {
        key_of(self.key, |column| bytes(row, column))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{Change, Contradiction, Kind, Row, Step, Value, coalesce, same_key};

    /// Key, number, and a large value that the stream may leave out.
    type Model = BTreeMap<Vec<u8>, Row>;

    fn text(value: u32) -> Value {
        Value::Text(value.to_string().into())
    }

    fn key_of(row: &[Value]) -> Vec<u8> {
        super::bytes(row, 0).to_vec()
    }

    fn write(model: &mut Model, kind: &Kind) {
        match kind {
            Kind::Insert(row) => {
                let before = model.insert(key_of(row), row.clone());
                assert!(before.is_none(), "inserted over a row");
            }
            Kind::Delete(old) => {
                model.remove(&key_of(old)).expect("deleted a row that is not there");
            }
            Kind::Update { old, new } => {
                let found = key_of(old.as_ref().unwrap_or(new));
                let before = model.remove(&found).expect("updated a row that is not there");
                let row = super::complete(new.into(), &before).into_owned();
                assert!(model.insert(key_of(&row), row).is_none(), "updated onto a row");
            }
        }
    }

    fn write_steps(model: &mut Model, steps: &[Step<'_>]) {
        for step in steps {
            match step {
                Step::One(change) => write(model, &change.kind),
                Step::Set(effects) => {
                    for row in &effects.deletes {
                        write(model, &Kind::Delete(row.to_vec()));
                    }
                    for row in &effects.updates {
                        write(model, &Kind::Update { old: None, new: row.to_vec() });
                    }
                    for row in &effects.inserts {
                        write(model, &Kind::Insert(row.to_vec()));
                    }
                }
            }
        }
    }

    /// What the source would send for an attempt at a change, if it can happen.
    fn attempt(model: &Model, (what, key, other, value): (u8, u32, u32, u32)) -> Option<Kind> {
        let here = model.get(key.to_string().as_bytes());
        let large = if what % 2 == 0 { Value::UnchangedToast } else { text(value + 1000) };
        match what / 2 {
            0 => here.is_none().then(|| Kind::Insert(vec![text(key), text(value), text(value)])),
            1 => here.map(|_| Kind::Delete(vec![text(key), Value::Null, Value::Null])),
            2 => here.map(|_| Kind::Update { old: None, new: vec![text(key), text(value), large] }),
            _ => (here.is_some() && !model.contains_key(other.to_string().as_bytes())).then(|| {
                let old = Some(vec![text(key), Value::Null, Value::Null]);
                Kind::Update { old, new: vec![text(other), text(value), large] }
            }),
        }
    }

    proptest! {
        #[test]
        fn the_steps_come_to_the_same_rows_as_the_changes(
            attempts in prop::collection::vec((0_u8..8, 0_u32..6, 0_u32..6, 0_u32..100), 0..60)
        ) {
            let start: Model = (0..4_u32)
                .map(|key| (key.to_string().into_bytes(), vec![text(key), text(7), text(8)]))
                .collect();
            let mut serial = start.clone();
            let mut changes = Vec::new();
            for tried in attempts {
                if let Some(kind) = attempt(&serial, tried) {
                    write(&mut serial, &kind);
                    changes.push(Change { table: 0, kind });
                }
            }
            let steps = coalesce(changes.iter(), &[0]).expect("the changes are possible");
            let mut by_set = start;
            write_steps(&mut by_set, &steps);
            prop_assert_eq!(by_set, serial);
        }
    }

    #[test]
    fn an_update_of_a_deleted_row_is_a_contradiction() {
        let row = vec![text(1), text(2), text(3)];
        let changes = [
            Change { table: 0, kind: Kind::Delete(row.clone()) },
            Change { table: 0, kind: Kind::Update { old: None, new: row } },
        ];
        assert_eq!(coalesce(changes.iter(), &[0]).err(), Some(Contradiction));
    }

    #[test]
    fn keys_of_several_columns_are_not_confused_by_where_they_end() {
        let row = |one: &'static str, two: &'static str| vec![Value::Text(one.into()), Value::Text(two.into())];
        assert!(!same_key(&[0, 1], &row("a", "bc"), &row("ab", "c")));
        let changes =
            [("a", "bc"), ("ab", "c")].map(|(one, two)| Change { table: 0, kind: Kind::Insert(row(one, two)) });
        assert!(coalesce(changes.iter(), &[0, 1]).is_ok());
    }
}
