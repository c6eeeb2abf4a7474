//! What was read from a change stream and not applied yet: whole transactions within a budget.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::model::position::Position;

/// Past this, no more is taken in until the target has taken what is there.
const BYTES_MAX: usize = 6 << 20;
/// What a change takes besides its message.
pub(crate) const ITEM_BYTES: usize = 200;

/// Gathers decoded changes until they are taken.
pub(crate) trait PendingChanges: Send {
    /// A place in the stream.
    type Position: Position;
    /// What is taken at once.
    type Batch;

    /// Whether there is room for more.
    fn takes_in(&self) -> bool;

    /// Whether the last transaction that was read is complete.
    fn is_between_transactions(&self) -> bool;

    /// Whether nothing waits to be applied.
    fn is_empty(&self) -> bool;

    /// Whether a transaction is there that must not be applied yet.
    fn is_held(&self) -> bool;

    /// From now on no transaction that comes at or after `pause_at` is let in.
    fn hold_at(&mut self, pause_at: Option<Self::Position>) -> Result<()>;

    /// Whether everything before `position` was read.
    fn has_reached(&self, position: &Self::Position) -> bool;

    /// Where the target is while nothing waits to be applied, if that is beyond `applied`; `pause_at` where it stands
    /// still there.
    fn beyond(&self, applied: &Self::Position, pause_at: Option<&Self::Position>) -> Option<Self::Position>;

    /// All transactions that were read, none of them half; nothing where there is none.
    fn take_whole(&mut self) -> Option<(Self::Batch, Summary<Self::Position>)>;

    /// What was read; its last transaction goes on in the next batch.
    fn take_part(&mut self) -> Self::Batch;
}

/// What becomes durable with the end of a batch.
#[derive(Debug)]
pub(crate) struct Summary<P> {
    /// Where the last of its transactions ends.
    pub(crate) end: P,
    /// It changes nothing that moves.
    pub(crate) is_blank: bool,
    pub(crate) transactions: u64,
    /// The tokens of the markers in it.
    pub(crate) markers: Vec<String>,
    pub(crate) beats: Vec<String>,
    /// Changes by the title of their table.
    pub(crate) changes: BTreeMap<String, u64>,
}

/// The changes themselves, and what is told with their end.
pub(crate) struct Gathered<I> {
    pub(crate) items: Vec<I>,
    pub(crate) transactions: u64,
    pub(crate) beats: Vec<String>,
    pub(crate) markers: Vec<String>,
    bytes: usize,
    bytes_max: usize,
    /// A part of a transaction was taken whose end was not.
    parted: bool,
    /// Changes of each table.
    counts: Vec<u64>,
}

impl<I> Gathered<I> {
    /// Gathers as many bytes as the target takes at once, and never more than is good for it.
    pub(crate) fn new(tables: usize, bytes_max: usize) -> Self {
        let (counts, bytes_max) = (vec![0; tables], bytes_max.min(BYTES_MAX));
        Self {
            items: Vec::new(),
            transactions: 0,
            beats: Vec::new(),
            markers: Vec::new(),
            bytes: 0,
            bytes_max,
            parted: false,
            counts,
        }
    }

    /// Whether there is room for more. A marker at the end of a transaction does not wait for others.
    pub(crate) fn takes_in(&self, items_max: usize, is_between_transactions: bool) -> bool {
        let full = self.bytes >= self.bytes_max || self.items.len() >= items_max;
        let urgent = is_between_transactions && !self.markers.is_empty();
        !full && !urgent
    }

    /// A change of a table, whose message has so many bytes.
    pub(crate) fn count(&mut self, table: usize, bytes: usize) {
        self.bytes += bytes + ITEM_BYTES;
        if let Some(count) = self.counts.get_mut(table) {
            *count += 1;
        }
    }

    /// Whether the target's open transaction waits for the end of a transaction: no other one may join it, or it would grow
    /// without a limit.
    pub(crate) fn is_parted(&self) -> bool {
        self.parted
    }

    /// The changes; there is room again.
    pub(crate) fn take_items(&mut self) -> Vec<I> {
        self.bytes = 0;
        self.parted = true;
        std::mem::take(&mut self.items)
    }

    /// What is told with the end of all that was gathered. `titles` are those of all tables.
    pub(crate) fn take_summary<'t, P>(
        &mut self,
        end: P,
        is_blank: bool,
        titles: impl Iterator<Item = &'t String>,
    ) -> Summary<P> {
        self.parted = false;
        let counted = self.counts.iter_mut().zip(titles).filter(|(count, _)| **count > 0);
        let changes = counted.map(|(count, title)| (title.clone(), std::mem::take(count))).collect();
        let [markers, beats] = [&mut self.markers, &mut self.beats].map(std::mem::take);
        Summary { end, is_blank, transactions: std::mem::take(&mut self.transactions), markers, beats, changes }
    }
}
