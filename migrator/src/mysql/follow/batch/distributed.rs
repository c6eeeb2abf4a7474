//! Distributed transactions (XA) in the binary log: their changes come when they are prepared, and whether they are
//! committed comes later, or never.

use std::collections::BTreeMap;

use protocol::mysql::change::{self, Xid};

use super::{TransactionBuffer, unreadable};
use crate::error::{Error, Result};
use crate::mysql::BinlogPosition;
use crate::mysql::follow::apply::Item;
use crate::mysql::follow::coalesce::Change;
use crate::mysql::follow::tables::START_ANEW;
use crate::mysql::position::order;
use crate::mysql::stream::Raw;

/// What all of them may take in memory, as the log has it.
const ASIDE_BYTES_MAX: usize = 64 << 20;

type Aside = Vec<(Change, usize)>;

/// Changes that are not committed.
#[derive(Default)]
pub(super) struct Distributed {
    /// Those of the transaction that is being read.
    reading: Aside,
    /// The others, each with the place at which it begins.
    prepared: BTreeMap<Xid, (BinlogPosition, Aside)>,
    bytes: usize,
}

impl Distributed {
    /// Where the oldest of them begins: who reads from there knows all of them again.
    pub(super) fn since(&self) -> Option<BinlogPosition> {
        let places = self.prepared.values().map(|(at, _)| at);
        places.min_by(|one, other| order(one, other)).cloned()
    }
}

impl TransactionBuffer {
    /// Puts a change of a distributed transaction aside.
    pub(super) fn put_aside(&mut self, change: Change, bytes: usize) -> Result<()> {
        self.distributed.bytes += bytes;
        if self.distributed.bytes > ASIDE_BYTES_MAX {
            return Err(Error::fatal(format!(
                "distributed transactions (XA) that are prepared changed more than {} MiB of what moves",
                ASIDE_BYTES_MAX >> 20
            ))
            .remedy("let them be ended, and be smaller or committed sooner, then start the migration again"));
        }
        self.distributed.reading.push((change, bytes));
        Ok(())
    }

    /// One is prepared, or committed at once.
    pub(super) fn prepared(&mut self, raw: &Raw) -> Result<()> {
        let (xid, at_once) = change::xa_prepare(raw.body.clone()).map_err(unreadable)?;
        let read = std::mem::take(&mut self.distributed.reading);
        if !at_once {
            let begins = self.here();
            self.distributed.prepared.insert(xid, (begins, read));
        } else if self.is_skipped() {
            self.give_room_back(&read);
        } else {
            self.take_from_aside(read);
        }
        self.end();
        Ok(())
    }

    /// One that was prepared is committed.
    pub(super) fn commit_prepared(&mut self, statement: &[u8]) -> Result<()> {
        let prepared = Xid::of(statement).and_then(|xid| self.distributed.prepared.remove(&xid));
        if self.is_skipped() {
            self.give_room_back(&prepared.map(|(_, changes)| changes).unwrap_or_default());
            return Ok(());
        }
        let Some((_, changes)) = prepared else {
            return Err(Error::fatal(
                "a distributed transaction (XA) was committed that was prepared before this follower began to read: what it changed is not known",
            )
            .remedy(START_ANEW));
        };
        self.take_from_aside(changes);
        Ok(())
    }

    /// One that was prepared is undone.
    pub(super) fn forget_prepared(&mut self, statement: &[u8]) {
        let prepared = Xid::of(statement).and_then(|xid| self.distributed.prepared.remove(&xid));
        self.give_room_back(&prepared.map(|(_, changes)| changes).unwrap_or_default());
    }

    fn give_room_back(&mut self, changes: &Aside) {
        let bytes: usize = changes.iter().map(|(_, bytes)| bytes).sum();
        self.distributed.bytes = self.distributed.bytes.saturating_sub(bytes);
    }

    /// What counts is the moment of the commit: a load that began after the changes were prepared lacks them.
    fn take_from_aside(&mut self, changes: Aside) {
        self.give_room_back(&changes);
        for (change, bytes) in changes {
            if self.is_new(change.table) {
                self.count(change.table, bytes);
                self.gathered.items.push(Item::Change(change));
            }
        }
    }
}
