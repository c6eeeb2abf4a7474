//! Statements of the binary log on their way into the batch: what begins and ends transactions, what empties a table, and
//! what waits until it is known whether it changed a definition.

use std::sync::Arc;

use protocol::mysql::change;

use super::{TransactionBuffer, out_of_place, unreadable};
use crate::error::{Error, Result};
use crate::model::position::Position as _;
use crate::mysql::BinlogPosition;
use crate::mysql::follow::apply::Item;
use crate::mysql::follow::ddl::harmless::Doubt;
use crate::mysql::follow::ddl::{Meaning, meaning, moves_rows};
use crate::mysql::follow::tables::START_ANEW;
use crate::mysql::stream::Raw;

impl TransactionBuffer {
    /// The statement of which it must be known what it changed.
    pub(crate) fn doubt(&self) -> Option<&Doubt> {
        self.doubted.as_ref().map(|(_, doubt)| doubt)
    }

    /// No statement before `until` has changed a definition: goes on.
    pub(crate) fn settle_doubt(&mut self, until: BinlogPosition) -> Result<()> {
        self.harmless = Some(until);
        match self.doubted.take() {
            Some((raw, _)) => self.query(&raw),
            None => Ok(()),
        }
    }

    pub(super) fn query(&mut self, raw: &Raw) -> Result<()> {
        let query = change::query(raw.body.clone()).map_err(unreadable)?;
        let database = String::from_utf8_lossy(&query.database).into_owned();
        let tables = Arc::clone(&self.tables);
        let meaning = meaning(&query.text, &database, |name| tables.moves(name));
        let Some(open) = &mut self.open else {
            return Err(out_of_place(raw));
        };
        if meaning == Meaning::Begin {
            open.begun = true;
            // Whether it is committed comes later.
            open.aside = query.text.get(..2).is_some_and(|word| word.eq_ignore_ascii_case(b"XA"));
            return Ok(());
        }
        let (skip, begun, changes) = (open.skip, open.begun, open.changes);
        let mut ends = !begun;
        match meaning {
            Meaning::Commit => ends = true,
            Meaning::XaCommit => {
                self.commit_prepared(&query.text)?;
                ends = true;
            }
            Meaning::XaRollback => {
                self.forget_prepared(&query.text);
                ends = true;
            }
            Meaning::Rollback => {
                if changes > 0 {
                    return Err(Error::fatal("a transaction that changed what moves was undone within the binary log")
                        .remedy(format!("use InnoDB for every table; {START_ANEW}")));
                }
                // A rollback to a savepoint does not end it.
                ends = ends || query.text.len() <= "ROLLBACK".len();
            }
            Meaning::Truncate(database, name) if !skip => {
                let Some(table) = self.tables.named(&database, &name) else {
                    return self.statement(&format!("TRUNCATE {database}.{name}"));
                };
                if self.is_new(table) {
                    self.gathered.items.push(Item::Truncate(table));
                    self.count(table, 0);
                }
            }
            Meaning::Stop(what) if !skip && changes == 0 && defines(&what) && !moves_rows(&query.text) => {
                let at = self.here();
                let settled = self.harmless.as_ref();
                if !settled.is_some_and(|until| until.server == at.server && until.covers(&at) && *until != at) {
                    self.doubted = Some((raw.clone(), Doubt { what, at }));
                    return Ok(());
                }
            }
            Meaning::Stop(what) if !skip => return self.statement(&what),
            Meaning::Begin | Meaning::Nothing | Meaning::Truncate(..) | Meaning::Stop(_) => {}
        }
        if ends {
            self.end();
        }
        Ok(())
    }

    /// What came as a statement cannot be followed.
    pub(super) fn statement(&self, what: &str) -> Result<()> {
        if self.is_skipped() {
            return Ok(());
        }
        let is_rows = ["INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "LOAD DATA"].contains(&what);
        let error = Error::fatal(format!("{what} ran on the source at {} during the migration", self.here()));
        Err(error.remedy(if is_rows {
            format!("set binlog_format=ROW on the source for all sessions; {START_ANEW}")
        } else {
            START_ANEW.to_owned()
        }))
    }
}

/// Whether it defines something, so that the definitions tell what it did.
fn defines(what: &str) -> bool {
    let verb = what.split(' ').next().unwrap_or_default();
    ["CREATE", "ALTER", "DROP", "RENAME"].contains(&verb)
}
