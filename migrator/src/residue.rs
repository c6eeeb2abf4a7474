//! The residue of the last check: keys of rows that changed since, as the change stream tells them before they are applied.
//!
//! What is remembered is bounded. Where it does not fit, that is known, until the next check that passes.

pub(crate) mod proof_before;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::error::{Error, Result};

/// Keys take at most so much memory together, however many they are.
const BYTES_MAX: usize = 64 << 20;
/// What a key takes besides its text.
const KEY_BYTES: usize = 64;
/// Between two columns of a key; in no value.
const BETWEEN: char = '\0';

/// The key of a row: each column's value, as the engine compares with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Box<str>);

impl Key {
    /// The values, in the order of the key's columns.
    pub(crate) fn values(&self) -> impl Iterator<Item = &str> {
        self.0.split(BETWEEN)
    }
}

/// When a key changed last: a later change has a greater one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation(u64);

/// Why it cannot be known which rows changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// No check passed in this process.
    NoCheck,
    /// More keys changed than may be remembered.
    TooMany(usize),
    /// Something happened to a table that no key tells.
    Table(String, &'static str),
}

impl Unknown {
    /// What the operator is told of it.
    pub(crate) fn error(&self, migration: &str) -> Error {
        let why = match self {
            Self::NoCheck => "no check has passed since Headgate was started".to_owned(),
            Self::TooMany(most) => format!("more than {most} keys changed since the last check"),
            Self::Table(title, why) => format!("since the last check, {why} in {title}"),
        };
        let remedy = match self {
            Self::NoCheck | Self::Table(..) => format!("CHECK MIGRATION {migration}, and ask again soon after it"),
            Self::TooMany(_) => format!(
                "CHECK MIGRATION {migration} when less is written, and ask again soon after it; residue_keys and \
                 residue_rate in [migrator] say how many keys are remembered, and how fast they are compared again"
            ),
        };
        Error::refused(format!("it is not known which rows are still to be proved before the switch: {why}"))
            .remedy(remedy)
    }
}

/// Some keys of one table, each with when it changed.
pub(crate) struct ChangedKeys {
    pub(crate) table: String,
    pub(crate) keys: Vec<(Key, Generation)>,
}

/// The keys that changed since the last check. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Residue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Nothing is remembered before the first check.
    is_on: AtomicBool,
    tracked: Mutex<Tracked>,
}

#[derive(Debug, Default)]
struct Tracked {
    keys_max: usize,
    /// Of the newest batch.
    begun: Generation,
    /// Of the newest batch that is durable on the target.
    applied: Generation,
    /// A check has passed since the tracking began.
    is_proved: bool,
    tables: Vec<Table>,
    places: HashMap<String, usize>,
    /// The table of the last mark.
    last: usize,
    keys: usize,
    bytes: usize,
    /// What was forgotten for lack of room came before or with this.
    overflowed: Option<Generation>,
    /// Where [`Residue::take`] goes on.
    cursor: (usize, Option<Key>),
}

#[derive(Debug, Default)]
struct Table {
    title: String,
    keys: BTreeMap<Key, Generation>,
    /// When something happened to it that no key tells, and what.
    unknown: Option<(Generation, &'static str)>,
}

impl Residue {
    /// A check begins, whose snapshots are opened after this: what changes from now on is remembered, at most so many keys.
    pub(crate) fn check_begins(&self, keys_max: usize) -> Generation {
        let mut tracked = self.0.tracked.lock();
        tracked.keys_max = keys_max;
        self.0.is_on.store(true, Ordering::SeqCst);
        tracked.begun
    }

    /// The check that began then has passed: what changed before is proved.
    pub(crate) fn check_passed(&self, began: Generation) {
        let mut tracked = self.0.tracked.lock();
        let tracked = &mut *tracked;
        tracked.is_proved = true;
        tracked.overflowed = tracked.overflowed.filter(|lost| *lost > began);
        (tracked.keys, tracked.bytes) = (0, 0);
        for table in &mut tracked.tables {
            table.unknown = table.unknown.filter(|(since, _)| *since > began);
            table.keys.retain(|_, marked| *marked > began);
            tracked.keys += table.keys.len();
            tracked.bytes += table.keys.keys().map(size).sum::<usize>();
        }
    }

    /// What was proved is void; nothing is remembered before the next check.
    pub(crate) fn void(&self) {
        let mut tracked = self.0.tracked.lock();
        self.0.is_on.store(false, Ordering::SeqCst);
        let (begun, applied) = (tracked.begun, tracked.applied);
        *tracked = Tracked { begun, applied, ..Tracked::default() };
    }

    /// Remembers what a batch changes, which must not be applied before; nothing where nobody needs it.
    pub(crate) fn marking(&self) -> Option<Marking<'_>> {
        if !self.0.is_on.load(Ordering::SeqCst) {
            return None;
        }
        let mut tracked = self.0.tracked.lock();
        tracked.begun.0 += 1;
        Some(Marking { tracked, written: Vec::new() })
    }

    /// The batch of that generation, and all before it, is durable on the target.
    pub(crate) fn applied(&self, batch: Generation) {
        let mut tracked = self.0.tracked.lock();
        tracked.applied = tracked.applied.max(batch);
    }

    /// Some keys whose changes are applied, at most so many: others than those of the last call, until all had their turn.
    pub(crate) fn take(&self, most: usize) -> Option<ChangedKeys> {
        let mut tracked = self.0.tracked.lock();
        let tracked = &mut *tracked;
        for _ in 0..=tracked.tables.len() {
            let (at, after) = &tracked.cursor;
            let (at, after) = (*at, after.clone());
            let table = tracked.tables.get(at).or_else(|| tracked.tables.first())?;
            let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let keys = table.keys.range::<Key, _>((from, Bound::Unbounded));
            let applied = keys.filter(|(_, marked)| **marked <= tracked.applied);
            let keys: Vec<_> = applied.take(most).map(|(key, marked)| (key.clone(), *marked)).collect();
            if let Some((last, _)) = keys.last() {
                let title = table.title.clone();
                tracked.cursor = (at, Some(last.clone()));
                return Some(ChangedKeys { table: title, keys });
            }
            let next = if at + 1 < tracked.tables.len() { at + 1 } else { 0 };
            tracked.cursor = (next, None);
        }
        None
    }

    /// These keys are equal on both sides, unless they changed since.
    pub(crate) fn forget(&self, table: &str, keys: &[(Key, Generation)]) {
        let mut tracked = self.0.tracked.lock();
        let tracked = &mut *tracked;
        let Some(table) = tracked.places.get(table).and_then(|at| tracked.tables.get_mut(*at)) else {
            return;
        };
        for (key, marked) in keys {
            if table.keys.get(key) == Some(marked) {
                table.keys.remove(key);
                tracked.keys = tracked.keys.saturating_sub(1);
                tracked.bytes = tracked.bytes.saturating_sub(size(key));
            }
        }
    }

    /// How many keys are left to be proved; why that cannot be known.
    pub(crate) fn count(&self) -> Result<usize, Unknown> {
        let tracked = self.0.tracked.lock();
        tracked.known().map(|()| tracked.keys)
    }

    /// All keys that are left to be proved, by table.
    pub(crate) fn left(&self) -> Result<Vec<(String, Vec<Key>)>, Unknown> {
        let tracked = self.0.tracked.lock();
        tracked.known()?;
        let tables = tracked.tables.iter().filter(|table| !table.keys.is_empty());
        Ok(tables.map(|table| (table.title.clone(), table.keys.keys().cloned().collect())).collect())
    }
}

impl Tracked {
    fn known(&self) -> Result<(), Unknown> {
        if !self.is_proved {
            return Err(Unknown::NoCheck);
        }
        if self.overflowed.is_some() {
            return Err(Unknown::TooMany(self.keys_max));
        }
        let lost = self.tables.iter().find_map(|table| Some((table, table.unknown?.1)));
        lost.map_or(Ok(()), |(table, why)| Err(Unknown::Table(table.title.clone(), why)))
    }

    fn table(&mut self, title: &str) -> usize {
        if self.tables.get(self.last).is_some_and(|table| table.title == title) {
            return self.last;
        }
        if let Some(at) = self.places.get(title) {
            self.last = *at;
        } else {
            self.last = self.tables.len();
            self.places.insert(title.to_owned(), self.last);
            self.tables.push(Table { title: title.to_owned(), ..Table::default() });
        }
        self.last
    }

    fn mark(&mut self, title: &str, key: &str) {
        let (at, now) = (self.table(title), self.begun);
        let key = Key(key.into());
        let bytes = size(&key);
        let Some(table) = self.tables.get_mut(at) else {
            return;
        };
        if table.keys.insert(key, now).is_some() {
            return;
        }
        self.keys += 1;
        self.bytes += bytes;
        if self.keys > self.keys_max || self.bytes > BYTES_MAX {
            // The next check begins with what changes from here on.
            self.overflowed = Some(now);
            for table in &mut self.tables {
                table.keys.clear();
            }
            (self.keys, self.bytes) = (0, 0);
        }
    }

    fn mark_unknown(&mut self, title: &str, why: &'static str) {
        let (at, now) = (self.table(title), self.begun);
        if let Some(table) = self.tables.get_mut(at) {
            table.unknown = Some((now, why));
        }
    }
}

fn size(key: &Key) -> usize {
    key.0.len() + KEY_BYTES
}

/// What one batch changes, while it is remembered.
pub(crate) struct Marking<'a> {
    tracked: MutexGuard<'a, Tracked>,
    /// The key at hand.
    written: Vec<u8>,
}

impl Marking<'_> {
    /// The batch's generation.
    pub(crate) fn generation(&self) -> Generation {
        self.tracked.begun
    }

    /// A row changed whose key has so many columns; `write` appends the value of one of them, or says that it has none.
    pub(crate) fn key(&mut self, title: &str, columns: usize, write: impl Fn(usize, &mut Vec<u8>) -> bool) {
        if columns == 0 {
            self.unknown(title, "rows changed that no key tells apart");
            return;
        }
        self.written.clear();
        let mut complete = true;
        for column in 0..columns {
            if column > 0 {
                self.written.push(0);
            }
            complete &= write(column, &mut self.written);
        }
        match std::str::from_utf8(&self.written) {
            Ok(key) if complete => self.tracked.mark(title, key),
            _ => self.unknown(title, "a row changed whose key the change stream does not tell"),
        }
    }

    /// Something happened to the table that no key tells.
    pub(crate) fn unknown(&mut self, title: &str, why: &'static str) {
        self.tracked.mark_unknown(title, why);
    }
}

#[cfg(test)]
mod tests;
