//! Rows that no file can hold, collected into an INSERT.

use protocol::error::Malformed;

use crate::model::plan::Table;
use crate::mysql::load::rows;
use crate::mysql::load::rows::{Counts, ValueFormat};

/// Rows that no file can hold, as an INSERT.
pub(super) struct Apart {
    pub(super) statement: Vec<u8>,
    pub(super) counts: Counts,
}

impl Apart {
    pub(super) fn of(table: &Table) -> Self {
        Self { statement: rows::insert_statement(table).into_bytes(), counts: Counts::default() }
    }

    pub(super) fn put(&mut self, row: &[u8], ways: &[ValueFormat]) -> Result<(), Malformed> {
        if self.counts.rows > 0 {
            self.statement.push(b',');
        }
        self.counts.without_label += rows::put_values(row, ways, &mut self.statement)?;
        self.counts.rows += 1;
        Ok(())
    }
}
