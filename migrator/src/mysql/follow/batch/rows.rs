//! Rows of the binary log on their way into the batch: whose they are, and whether the load has them already.

use std::sync::Arc;

use protocol::mysql::change::{self, Cell, Image, Verb};

use super::{LAYOUTS_MAX, NO_TABLE, TransactionBuffer, out_of_place, unreadable};
use crate::error::{Error, Result};
use crate::follow::batch::ITEM_BYTES;
use crate::mysql::follow::apply::Item;
use crate::mysql::follow::coalesce::{Change, Row};
use crate::mysql::follow::tables::{Announced, Layout, START_ANEW, changed};
use crate::mysql::heartbeat::Signal;
use crate::mysql::stream::Raw;

impl TransactionBuffer {
    pub(super) fn describe(&mut self, raw: &Raw) -> Result<()> {
        if self.is_passed_over() {
            return Ok(());
        }
        let number = change::table_number(&raw.body);
        if self.layouts.get(&number).is_some_and(|(body, _)| *body == raw.body) {
            return Ok(());
        }
        let map = change::table_map(raw.body.clone()).map_err(unreadable)?;
        let named =
            (String::from_utf8_lossy(&map.database).into_owned(), String::from_utf8_lossy(&map.table).into_owned());
        let announced = match self.tables.announced(map) {
            // What it was like before it was taken anew does not matter any more.
            Err(failure) => match self.tables.named(&named.0, &named.1) {
                Some(table) if !self.is_new(table) => Announced::Foreign,
                _ => return Err(failure),
            },
            Ok(announced) => announced,
        };
        if let Announced::Ours(layout) = &announced
            && let Some(wire) = self.wires.get_mut(layout.table)
        {
            if wire.as_ref().is_some_and(|wire| *wire != layout.picked) {
                let table = self.tables.all.get(layout.table);
                return Err(changed(
                    table.map_or("", |table| &table.title),
                    table.map_or("", |table| &table.recopy),
                    "its columns are others in the binary log than before",
                ));
            }
            *wire = Some(Arc::clone(&layout.picked));
        }
        if self.layouts.len() >= LAYOUTS_MAX {
            self.layouts.clear();
        }
        self.layouts.insert(number, (raw.body.clone(), Arc::new(announced)));
        Ok(())
    }

    /// Events of rows that are not read: nothing is missed where the table was taken anew since, or does not move.
    pub(super) fn unread_rows(&mut self, raw: &Raw, what: &str, setting: &str) -> Result<()> {
        if self.is_passed_over() {
            return Ok(());
        }
        let layout = self.layouts.get(&change::table_number(&raw.body));
        let announced = layout.map(|(_, announced)| Arc::clone(announced));
        let table = match announced.as_deref() {
            Some(Announced::Foreign) => return Ok(()),
            // Without its markers nobody would know how far it is.
            Some(Announced::Signals(_)) => {
                return Err(Error::fatal(format!("the binary log has {what} of Headgate's own signals"))
                    .remedy(format!("set {setting} on the source; {START_ANEW}")));
            }
            Some(Announced::Ours(layout)) => layout.table,
            None => return Err(out_of_place(raw)),
        };
        if !self.is_new(table) {
            return Ok(());
        }
        let table = self.tables.all.get(table);
        let (title, recopy) = table.map_or(("", ""), |table| (&table.title, &table.recopy));
        Err(Error::fatal(format!("the binary log has {what} of {title}"))
            .remedy(format!("set {setting} on the source, for open sessions too, then {recopy}")))
    }

    /// Whether the open transaction is not part of what was loaded.
    pub(super) fn is_new(&mut self, table: usize) -> bool {
        if self.passed.get(table).copied().unwrap_or(false) {
            return true;
        }
        let start = self.open.as_ref().map_or(self.offset, |open| open.start);
        let Some(valid_from) = self.tables.all.get(table).map(|table| &table.valid_from) else {
            return false;
        };
        let is_new = self.is_at(start, valid_from);
        if let Some(passed) = self.passed.get_mut(table) {
            *passed = is_new;
        }
        is_new
    }

    pub(super) fn count(&mut self, table: usize, bytes: usize) {
        self.gathered.count(table, bytes);
        if let Some(open) = &mut self.open {
            open.changes += 1;
        }
    }

    pub(super) fn rows(&mut self, raw: &Raw, verb: Verb, second: bool) -> Result<()> {
        let number = change::table_number(&raw.body);
        if self.is_passed_over() || number == NO_TABLE {
            return Ok(());
        }
        let Some((_, announced)) = self.layouts.get(&number) else {
            return Err(out_of_place(raw));
        };
        let announced = Arc::clone(announced);
        match &*announced {
            Announced::Foreign => Ok(()),
            Announced::Signals(_) if self.is_skipped() => Ok(()),
            Announced::Signals(columns) => {
                let mut rows = change::rows(raw.body.clone(), verb, second).map_err(unreadable)?;
                while let Some((_, new)) = rows.next(columns).map_err(unreadable)? {
                    self.signal(new.as_deref().unwrap_or_default());
                }
                Ok(())
            }
            Announced::Ours(layout) => {
                let aside = self.open.as_ref().is_some_and(|open| open.aside);
                if !aside && !self.is_new(layout.table) {
                    return Ok(());
                }
                let mut rows = change::rows(raw.body.clone(), verb, second).map_err(unreadable)?;
                let mut length = raw.body.len();
                while let Some((old, new)) = rows.next(&layout.wire).map_err(unreadable)? {
                    let old = old.map(|image| pick(image, layout));
                    let new = new.map(|image| pick(image, layout));
                    let table = layout.table;
                    if aside {
                        let bytes = std::mem::take(&mut length) + ITEM_BYTES;
                        self.put_aside(Change { table, old, new }, bytes)?;
                        continue;
                    }
                    self.count(table, std::mem::take(&mut length));
                    self.gathered.items.push(Item::Change(Change { table, old, new }));
                }
                Ok(())
            }
        }
    }

    fn signal(&mut self, row: &[Cell]) {
        let [Cell::Value(migration), Cell::Value(kind), Cell::Value(token), ..] = row else {
            return;
        };
        if *migration != self.migration {
            return;
        }
        let token = String::from_utf8_lossy(token).into_owned();
        match Signal::read(kind) {
            Some(Signal::Marker) => self.gathered.markers.push(token),
            Some(Signal::Beat) => self.gathered.beats.push(token),
            None => {}
        }
    }
}

/// The table's columns of what the log has.
fn pick(mut image: Image, layout: &Layout) -> Row {
    if layout.picks.len() == image.len() && layout.picks.iter().enumerate().all(|(to, from)| to == *from) {
        return image;
    }
    let take = |&at: &usize| image.get_mut(at).map(std::mem::take).unwrap_or_default();
    layout.picks.iter().map(take).collect()
}
