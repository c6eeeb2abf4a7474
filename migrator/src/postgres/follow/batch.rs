//! What was read from the change stream and not applied yet.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use protocol::postgres::change::{self, Change, Decoder, Identity, Value};

use super::apply::{ApplyBatch, Item};
use super::coalesce;
use super::coalesce::{Kind, Row, complete};
use super::tables::Tables;
use crate::error::{Error, Result};
use crate::follow::batch::{Gathered, PendingChanges, Summary};
use crate::postgres::heartbeat::{BEAT, MARKER, PREFIX};
use crate::postgres::position::Lsn;

const CHANGES_MAX: usize = 60_000;

struct Open {
    commit: Lsn,
    /// The target has it already.
    skip: bool,
}

/// Gathers decoded changes until they are taken.
pub(crate) struct TransactionBuffer {
    decoder: Decoder,
    tables: Arc<Tables>,
    /// The stream's numbers of the tables; `None` for our own.
    relations: HashMap<u32, Option<usize>>,
    stored: Lsn,
    gathered: Gathered<Item>,
    open: Option<Open>,
    /// Where the last transaction ends that is not told yet.
    end: Option<Lsn>,
    pause_at: Option<Lsn>,
    /// Where the commit of a transaction is that has to wait.
    held: Option<Lsn>,
    arrived: Lsn,
}

impl PendingChanges for TransactionBuffer {
    type Position = Lsn;
    type Batch = ApplyBatch;

    fn takes_in(&self) -> bool {
        let ends = self.gathered.is_parted() && self.open.is_none() && self.end.is_some();
        self.gathered.takes_in(CHANGES_MAX, self.open.is_none()) && self.held.is_none() && !ends
    }

    fn is_between_transactions(&self) -> bool {
        self.open.is_none()
    }

    fn is_empty(&self) -> bool {
        self.gathered.items.is_empty() && self.open.is_none() && self.end.is_none()
    }

    fn is_held(&self) -> bool {
        self.held.is_some()
    }

    fn hold_at(&mut self, pause_at: Option<Lsn>) -> Result<()> {
        self.pause_at = pause_at;
        if let Some(commit) = self.held.take() {
            self.begin(commit);
        }
        Ok(())
    }

    fn has_reached(&self, position: &Lsn) -> bool {
        self.arrived >= *position
    }

    fn beyond(&self, applied: &Lsn, pause_at: Option<&Lsn>) -> Option<Lsn> {
        let reached = *pause_at.unwrap_or(&self.arrived);
        (reached > *applied).then_some(reached)
    }

    fn take_whole(&mut self) -> Option<(ApplyBatch, Summary<Lsn>)> {
        let end = self.end.take()?;
        let piece = ApplyBatch { end: Some(end), ..self.take_part() };
        let titles = self.tables.all.iter().map(|table| &table.title);
        let summary = self.gathered.take_summary(end, piece.items.is_empty(), titles);
        Some((piece, summary))
    }

    fn take_part(&mut self) -> ApplyBatch {
        ApplyBatch { items: self.gathered.take_items(), end: None }
    }
}

impl TransactionBuffer {
    /// What the changes are of.
    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Transactions that end at or before `stored` are skipped.
    pub(crate) fn new(tables: Arc<Tables>, stored: Lsn) -> Self {
        Self {
            decoder: Decoder::default(),
            gathered: Gathered::new(tables.all.len(), usize::MAX),
            tables,
            relations: HashMap::new(),
            stored,
            open: None,
            end: None,
            pause_at: None,
            held: None,
            arrived: Lsn(0),
        }
    }

    /// Everything that ends at or before this position was read.
    pub(crate) fn arrived(&self) -> Lsn {
        self.arrived
    }

    /// The source says that it sent everything up to `end`.
    pub(crate) fn arrived_up_to(&mut self, end: Lsn) {
        self.arrived = self.arrived.max(end);
    }

    fn begin(&mut self, commit: Lsn) {
        if self.pause_at.is_some_and(|pause_at| commit >= pause_at) {
            self.held = Some(commit);
        } else {
            self.open = Some(Open { commit, skip: commit < self.stored });
        }
    }

    /// Reads one message of the stream.
    pub(crate) fn add(&mut self, message: Bytes) -> Result<()> {
        let bytes = message.len();
        let change = self
            .decoder
            .decode(message)
            .map_err(|error| Error::fatal("the source sent a change that cannot be read").because(error))?;
        let Some(open) = &self.open else {
            match change {
                Change::Begin(begin) => self.begin(Lsn(begin.commit.0)),
                Change::Relation { relation, .. } => self.announce(&relation)?,
                // What is not part of a transaction never has to wait for one.
                Change::Type { .. } | Change::Origin(_) | Change::Message(_) => {}
                _ => return Err(out_of_place()),
            }
            return Ok(());
        };
        let skip = open.skip;
        let commit = open.commit;
        match change {
            Change::Commit(commit) => {
                let end = Lsn(commit.end.0);
                self.arrived = self.arrived.max(end);
                if !skip {
                    self.gathered.transactions += 1;
                    self.end = Some(end);
                }
                self.open = None;
            }
            Change::Relation { relation, .. } => self.announce(&relation)?,
            Change::Insert { relation, new, .. } => {
                self.push(relation, commit, skip, bytes, |_| Kind::Insert(new.columns))?;
            }
            Change::Update { relation, old, new, .. } => {
                self.push(relation, commit, skip, bytes, |key| update(old, new.columns, key))?;
            }
            Change::Delete { relation, old, .. } => {
                let (Identity::Key(old) | Identity::Full(old)) = old;
                self.push(relation, commit, skip, bytes, |_| Kind::Delete(old.columns))?;
            }
            Change::Truncate { relations, .. } if !skip => {
                let mut tables = Vec::with_capacity(relations.len());
                for relation in relations {
                    let table = self.table(relation)?;
                    tables.extend(table.filter(|&table| self.is_new(table, commit)));
                }
                if !tables.is_empty() {
                    self.gathered.items.push(Item::Truncate(tables));
                }
            }
            Change::Message(message) if !skip && message.transactional => {
                if message.prefix == PREFIX.as_bytes() {
                    self.note_message(&message.content);
                }
            }
            Change::Message(_) | Change::Truncate { .. } | Change::Type { .. } | Change::Origin(_) => {}
            _ => return Err(out_of_place()),
        }
        Ok(())
    }

    fn announce(&mut self, relation: &change::Relation) -> Result<()> {
        let schema = String::from_utf8_lossy(&relation.schema);
        let name = String::from_utf8_lossy(&relation.name);
        let names: Vec<_> = relation.columns.iter().map(|column| String::from_utf8_lossy(&column.name)).collect();
        let types = relation.columns.iter().map(|column| (column.type_oid, column.type_modifier));
        let columns = names.iter().map(AsRef::as_ref).zip(types);
        let table = if schema == PREFIX {
            None
        } else {
            match self.tables.announced(&schema, &name, columns) {
                Ok(table) => Some(table),
                // What it looked like before it was taken anew does not matter: none of these changes is applied.
                Err(_) if self.is_before_its_load(&schema, &name) => None,
                Err(changed) => return Err(changed),
            }
        };
        self.relations.insert(relation.oid, table);
        Ok(())
    }

    fn table(&self, relation: u32) -> Result<Option<usize>> {
        self.relations.get(&relation).copied().ok_or_else(out_of_place)
    }

    /// Whether the open transaction is a part of what was loaded of this table.
    fn is_before_its_load(&self, schema: &str, name: &str) -> bool {
        let open = self.open.as_ref();
        let loaded = self.tables.valid_from(schema, name);
        open.zip(loaded).is_some_and(|(open, loaded)| open.commit < loaded)
    }

    /// Whether a change committed there is not part of what was loaded.
    fn is_new(&self, table: usize, commit: Lsn) -> bool {
        self.tables.all.get(table).is_some_and(|table| commit >= table.valid_from)
    }

    fn push(
        &mut self,
        relation: u32,
        commit: Lsn,
        skip: bool,
        bytes: usize,
        kind: impl FnOnce(&[usize]) -> Kind,
    ) -> Result<()> {
        if skip {
            return Ok(());
        }
        let Some(table) = self.table(relation)? else {
            return Ok(());
        };
        let Some(description) = self.tables.all.get(table) else {
            return Ok(());
        };
        if commit < description.valid_from {
            return Ok(());
        }
        let kind = kind(&description.key);
        let columns = description.columns.len();
        let fits = match &kind {
            Kind::Insert(row) | Kind::Delete(row) => row.len() == columns,
            Kind::Update { old, new } => new.len() == columns && old.as_ref().is_none_or(|old| old.len() == columns),
        };
        if !fits {
            return Err(out_of_place());
        }
        self.gathered.count(table, bytes);
        self.gathered.items.push(Item::Change(coalesce::Change { table, kind }));
        Ok(())
    }

    fn note_message(&mut self, content: &[u8]) {
        let Ok(content) = std::str::from_utf8(content) else {
            return;
        };
        if let Some(token) = content.strip_prefix(MARKER) {
            self.gathered.markers.push(token.to_owned());
        } else if let Some(beat) = content.strip_prefix(BEAT) {
            self.gathered.beats.push(beat.to_owned());
        }
    }
}

/// An update whose old row is there only where the key changed or there is no key.
fn update(old: Option<Identity>, mut new: Row, key: &[usize]) -> Kind {
    let old = match old {
        None => return Kind::Update { old: None, new },
        Some(Identity::Full(old)) => {
            new = complete(new.into(), &old.columns).into_owned();
            old.columns
        }
        Some(Identity::Key(old)) => {
            for &column in key {
                if let (Some(value @ Value::UnchangedToast), Some(kept)) =
                    (new.get_mut(column), old.columns.get(column))
                {
                    *value = kept.clone();
                }
            }
            old.columns
        }
    };
    let needed = key.is_empty() || !coalesce::same_key(key, &old, &new);
    Kind::Update { old: needed.then_some(old), new }
}

fn out_of_place() -> Error {
    Error::fatal("the source sent a change where it does not belong")
}
