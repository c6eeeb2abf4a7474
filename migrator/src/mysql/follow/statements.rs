//! The SQL that writes changes into one table, as bytes, with the number of rows that it must meet.

use protocol::mysql::change::{self, Cell};

use super::coalesce::Change;
use super::literals::quoted;
use super::tables::Table;
use super::values::{Purpose, write};
use crate::error::{Error, Result};

/// Rows of one statement: past that a larger one gains nothing.
const ROWS_MAX: usize = 1000;

const ENUM: u8 = 247;

/// A statement to run.
pub(crate) struct Job {
    pub(crate) sql: Vec<u8>,
    /// What is run before: values that do not fit into the statement, put into variables piece by piece.
    pub(crate) before: Vec<Vec<u8>>,
    /// How many rows it must meet, where that is known.
    pub(crate) rows: Option<u64>,
    /// Which table it writes.
    pub(crate) table: usize,
    /// It holds a value that a strict session refuses although the source has it.
    pub(crate) lenient: bool,
}

/// The bytes of a value.
fn length(cell: &Cell) -> usize {
    match cell {
        Cell::Value(value) => value.len(),
        Cell::Null | Cell::Absent => 0,
    }
}

/// Writes rows of one table into statements of at most so many bytes, unless a single row is larger.
pub(crate) struct Writer<'a> {
    pub(crate) table: &'a Table,
    pub(crate) index: usize,
    /// How the log describes the table's columns.
    pub(crate) wire: &'a [change::Column],
    pub(crate) bytes_max: usize,
    /// What the target takes in one packet.
    pub(crate) packet_max: usize,
    /// Whether deletes must meet their rows.
    pub(crate) strict: bool,
}

impl Writer<'_> {
    /// Without a key rows cannot be told apart: each is written in its turn, and only new ones come together.
    pub(crate) fn keyless(&self, changes: &[&Change], jobs: &mut Vec<Job>) -> Result<()> {
        let mut new: Vec<&[Cell]> = Vec::new();
        for change in changes {
            if let Some(old) = &change.old {
                self.inserts(&std::mem::take(&mut new), jobs)?;
                jobs.push(self.delete_whole(old)?);
            }
            new.extend(change.new.as_deref());
        }
        self.inserts(&new, jobs)
    }

    /// Deletes rows by their key.
    pub(crate) fn deletes(&self, rows: &[&[Cell]], jobs: &mut Vec<Job>) -> Result<()> {
        let head = format!("DELETE FROM {} WHERE ", self.table.relation);
        let rows_expected = |count| self.strict.then_some(count);
        if let [column] = self.table.key[..] {
            let head = format!("{head}{} IN (", self.table.columns[column].quoted);
            return self.gather(&head, ",", ")", rows, rows_expected, jobs, |out, row| {
                self.value(out, row, column, Purpose::Find)
            });
        }
        // Every server finds rows through the index this way; not all do with rows of values.
        self.gather(&head, " OR ", "", rows, rows_expected, jobs, |out, row| {
            for (number, &column) in self.table.key.iter().enumerate() {
                out.extend_from_slice(if number == 0 { b"(" } else { b" AND " });
                out.extend_from_slice(self.table.columns[column].quoted.as_bytes());
                out.push(b'=');
                self.value(out, row, column, Purpose::Find)?;
            }
            out.push(b')');
            Ok(())
        })
    }

    /// Inserts rows.
    pub(crate) fn inserts(&self, rows: &[&[Cell]], jobs: &mut Vec<Job>) -> Result<()> {
        if !self.wire.iter().any(|wire| wire.kind == ENUM) {
            return self.insert(rows, jobs);
        }
        let (odd, plain): (Vec<&[Cell]>, Vec<&[Cell]>) = rows.iter().partition(|row| self.has_no_label(row));
        self.insert(&plain, jobs)?;
        let begin = jobs.len();
        self.insert(&odd, jobs)?;
        for job in jobs.iter_mut().skip(begin) {
            job.lenient = true;
        }
        Ok(())
    }

    /// Whether an enum holds what a session that is not strict made of a label that it did not have.
    fn has_no_label(&self, row: &[Cell]) -> bool {
        let mut cells = self.wire.iter().zip(row);
        cells.any(|(wire, cell)| {
            wire.kind == ENUM && matches!(cell, Cell::Value(value) if value.iter().all(|byte| *byte == 0))
        })
    }

    fn insert(&self, rows: &[&[Cell]], jobs: &mut Vec<Job>) -> Result<()> {
        let names: Vec<&str> = self.table.columns.iter().map(|column| column.quoted.as_str()).collect();
        // What was loaded at a later moment may have the same key although it is not the same text, as where a key is
        // only the beginning of a column.
        let replaces = !self.strict && !self.table.key.is_empty();
        let verb = if replaces { "REPLACE" } else { "INSERT" };
        let head = format!("{verb} INTO {} ({}) VALUES ", self.table.relation, names.join(","));
        let rows_expected = |count| (!replaces).then_some(count);
        // Where all is escaped, a value doubles.
        let is_long = |row: &&[Cell]| row.iter().map(length).sum::<usize>() >= self.packet_max / 4;
        let (long, rows): (Vec<&[Cell]>, Vec<&[Cell]>) = rows.iter().partition(|row| is_long(row));
        for row in long {
            jobs.push(self.insert_long(&head, row, rows_expected(1))?);
        }
        self.gather(&head, ",", "", &rows, rows_expected, jobs, |out, row| {
            for column in 0..self.table.columns.len() {
                out.push(if column == 0 { b'(' } else { b',' });
                self.value(out, row, column, Purpose::Store)?;
            }
            out.push(b')');
            Ok(())
        })
    }

    /// Inserts a row that may be longer than a packet: what is long in it goes ahead in pieces.
    fn insert_long(&self, head: &str, row: &[Cell], rows: Option<u64>) -> Result<Job> {
        let piece = (self.packet_max / 8).max(1);
        let (mut sql, mut before) = (head.as_bytes().to_vec(), Vec::new());
        for column in 0..self.table.columns.len() {
            sql.push(if column == 0 { b'(' } else { b',' });
            // A function's result that is longer than a packet is NULL.
            let takes = |value: &&[u8]| value.len() > piece && value.len() < self.packet_max;
            let Some(value) = self.bytes_alone(row, column).filter(takes) else {
                self.value(&mut sql, row, column, Purpose::Store)?;
                continue;
            };
            let name = format!("@headgate_{column}");
            for (number, part) in value.chunks(piece).enumerate() {
                let mut set = format!("SET {name} = ").into_bytes();
                if number > 0 {
                    set.extend_from_slice(format!("CONCAT({name}, ").as_bytes());
                }
                quoted(&mut set, part);
                if number > 0 {
                    set.push(b')');
                }
                before.push(set);
            }
            sql.extend_from_slice(name.as_bytes());
        }
        sql.push(b')');
        Ok(Job { sql, before, rows, table: self.index, lenient: false })
    }

    /// The bytes of a value that lands as it is, whatever the column's character set.
    fn bytes_alone<'r>(&self, row: &'r [Cell], column: usize) -> Option<&'r [u8]> {
        let (Cell::Value(value), wire, described) =
            (row.get(column)?, self.wire.get(column)?, self.table.columns.get(column)?)
        else {
            return None;
        };
        let traits = &described.traits;
        let is_text = matches!(wire.kind, 15 | 242 | 249..=255);
        let plain = !traits.is_json && !traits.is_uuid && traits.converted_from.is_none();
        (is_text && plain && value.len() >= traits.padded_to).then_some(&value[..])
    }

    /// Deletes one of the rows that are exactly this one, of a table without a key.
    pub(crate) fn delete_whole(&self, row: &[Cell]) -> Result<Job> {
        let mut sql = format!("DELETE FROM {} WHERE ", self.table.relation).into_bytes();
        for (index, column) in self.table.columns.iter().enumerate() {
            if index > 0 {
                sql.extend_from_slice(b" AND ");
            }
            let name = column.quoted.as_bytes();
            if matches!(row.get(index), Some(Cell::Null)) {
                sql.extend_from_slice(name);
                sql.extend_from_slice(b" IS NULL");
                continue;
            }
            // Documents and vectors are compared as they look, and what has labels by its number.
            let (before, between, after): (&[u8], &[u8], &[u8]) = match self.wire.get(index).map(|wire| wire.kind) {
                _ if column.traits.is_json => (b"CAST(", b" AS CHAR)<=>CAST(", b" AS CHAR)"),
                _ if column.traits.is_vector => (b"HEX(", b")<=>HEX(", b")"),
                Some(16 | 247 | 248) => (b"", b"+0<=>", b""),
                _ => (b"", b"<=>", b""),
            };
            sql.extend_from_slice(before);
            sql.extend_from_slice(name);
            sql.extend_from_slice(between);
            let purpose = if column.traits.is_json { Purpose::Find } else { Purpose::Store };
            if column.traits.is_json {
                sql.extend_from_slice(b"CAST(");
            }
            self.value(&mut sql, row, index, purpose)?;
            if column.traits.is_json {
                sql.extend_from_slice(b" AS JSON)");
            }
            sql.extend_from_slice(after);
        }
        sql.extend_from_slice(b" LIMIT 1");
        Ok(Job { sql, before: Vec::new(), rows: Some(1), table: self.index, lenient: false })
    }

    fn value(&self, out: &mut Vec<u8>, row: &[Cell], column: usize, purpose: Purpose) -> Result<()> {
        let described = &self.table.columns[column];
        let (Some(cell), Some(wire)) = (row.get(column), self.wire.get(column)) else {
            return Err(self.senseless(column));
        };
        write(out, cell, *wire, &described.traits, purpose).map_err(|_| self.senseless(column))
    }

    fn senseless(&self, column: usize) -> Error {
        let name = self.table.columns.get(column).map_or("", |column| &column.name);
        let title = &self.table.title;
        Error::fatal(format!("the binary log's value of {title}.{name} cannot be read")).remedy(format!(
            "set binlog_row_image=FULL on the source, for open sessions too, then {}",
            self.table.recopy
        ))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one statement")]
    fn gather(
        &self,
        head: &str,
        between: &str,
        tail: &str,
        rows: &[&[Cell]],
        expected: impl Fn(u64) -> Option<u64>,
        jobs: &mut Vec<Job>,
        put: impl Fn(&mut Vec<u8>, &[Cell]) -> Result<()>,
    ) -> Result<()> {
        let mut sql: Vec<u8> = Vec::new();
        let mut count = 0_u64;
        let mut close = |sql: &mut Vec<u8>, count: &mut u64| {
            if *count > 0 {
                sql.extend_from_slice(tail.as_bytes());
                jobs.push(Job {
                    sql: std::mem::take(sql),
                    before: Vec::new(),
                    rows: expected(std::mem::take(count)),
                    table: self.index,
                    lenient: false,
                });
            }
        };
        for row in rows {
            let begin = sql.len();
            if count == 0 {
                sql.extend_from_slice(head.as_bytes());
            } else {
                sql.extend_from_slice(between.as_bytes());
            }
            put(&mut sql, row)?;
            if count > 0 && sql.len() + tail.len() > self.bytes_max {
                // It does not fit any more: it begins the next statement.
                let last = sql.split_off(begin + between.len());
                sql.truncate(begin);
                close(&mut sql, &mut count);
                sql.extend_from_slice(head.as_bytes());
                sql.extend_from_slice(&last);
            }
            count += 1;
            if count >= ROWS_MAX as u64 {
                close(&mut sql, &mut count);
            }
        }
        close(&mut sql, &mut count);
        Ok(())
    }
}
