//! Rows on their way: from the server's text result into the file that `LOAD DATA` reads, or into an INSERT.

use memchr::memchr3;
use protocol::error::Malformed;
use protocol::mysql::lenenc::Fields;

use crate::model::plan::Table;
use crate::mysql::follow::json_text;
use crate::mysql::sql::{quote_ident, relation};

/// What was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) without_label: u64,
}

/// How a file is told to the server. Everything but these three bytes stands for itself.
const FORMAT: &str = "CHARACTER SET binary FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n'";

/// How a column's value travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueFormat {
    /// Its own bytes.
    Plain,
    /// As a double, since the text of a FLOAT is rounded to six digits.
    Float,
    /// As text in utf8mb4, since the server does not take an address as plain bytes.
    Text,
    /// A document, as text in utf8mb4. One that holds a decimal is written as an expression: its text says a double.
    Document,
    /// The number of its label: the error value shows as empty, as does a label that is. The server gives a warning
    /// when the error value, zero, is stored.
    Enumeration,
}

impl ValueFormat {
    /// How a column of the plan's kind travels.
    pub fn of(kind: &str, target_is_mariadb: bool) -> Self {
        let (data_type, _charset) = kind.split_once(' ').unwrap_or((kind, ""));
        match data_type {
            "float" => Self::Float,
            "json" if !target_is_mariadb => Self::Document,
            "uuid" | "inet4" | "inet6" => Self::Text,
            "enum" => Self::Enumeration,
            _ => Self::Plain,
        }
    }
}

/// The columns that are read, for a SELECT.
pub fn selected(table: &Table, ways: &[ValueFormat]) -> String {
    let columns = table.columns.iter().zip(ways).map(|(column, way)| {
        let name = quote_ident(&column.name);
        match way {
            // To add zero would make a zero of a negative one.
            ValueFormat::Float => format!("{name} * 1e0"),
            ValueFormat::Enumeration => format!("{name} + 0"),
            ValueFormat::Plain | ValueFormat::Text | ValueFormat::Document => name,
        }
    });
    columns.collect::<Vec<_>>().join(", ")
}

/// The statement that loads what [`put_row`] writes.
pub fn load_statement(table: &Table, ways: &[ValueFormat]) -> String {
    let (mut names, mut sets) = (Vec::new(), Vec::new());
    let plain = |way: &ValueFormat| matches!(way, ValueFormat::Plain | ValueFormat::Float);
    let any_set = !ways.iter().all(plain);
    for (number, (column, way)) in table.columns.iter().zip(ways).enumerate() {
        let name = quote_ident(&column.name);
        let set = match way {
            ValueFormat::Text | ValueFormat::Document => {
                format!("{name} = CONVERT(@hg{number} USING utf8mb4)")
            }
            ValueFormat::Enumeration => format!("{name} = CAST(@hg{number} AS UNSIGNED)"),
            // Where anything is SET, MariaDB forgets that a counter was given its zero, and counts on instead.
            ValueFormat::Plain if any_set && may_count(&column.kind) => {
                format!("{name} = @hg{number}")
            }
            ValueFormat::Plain | ValueFormat::Float => {
                names.push(name);
                continue;
            }
        };
        names.push(format!("@hg{number}"));
        sets.push(set);
    }
    let sets = if sets.is_empty() { String::new() } else { format!(" SET {}", sets.join(", ")) };
    format!("LOAD DATA LOCAL INFILE 'headgate' INTO TABLE {} {FORMAT} ({}){sets}", relation(table), names.join(", "))
}

/// Whether a column of the plan's kind may be an AUTO_INCREMENT.
fn may_count(kind: &str) -> bool {
    matches!(kind, "tinyint" | "smallint" | "mediumint" | "int" | "bigint")
}

/// The beginning of an INSERT whose rows [`put_values`] writes.
pub fn insert_statement(table: &Table) -> String {
    let names: Vec<_> = table.columns.iter().map(|column| quote_ident(&column.name)).collect();
    format!("INSERT INTO {} ({}) VALUES ", relation(table), names.join(", "))
}

/// Whether a row cannot be a line of the file: it holds a document with a decimal.
pub fn needs_expression(row: &[u8], ways: &[ValueFormat]) -> Result<bool, Malformed> {
    let Some(last) = ways.iter().rposition(|way| *way == ValueFormat::Document) else {
        return Ok(false);
    };
    let mut fields = Fields::new("row", row);
    for way in ways.iter().take(last + 1) {
        let cell = fields.value()?;
        if *way == ValueFormat::Document && cell.is_some_and(json_text::has_decimal) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Appends one row as a line of the file. Tells how many of its enumerations hold the error value.
pub fn put_row(row: &[u8], ways: &[ValueFormat], out: &mut Vec<u8>) -> Result<u64, Malformed> {
    let (mut fields, mut empty) = (Fields::new("row", row), 0);
    for (number, way) in ways.iter().enumerate() {
        if number > 0 {
            out.push(b'\t');
        }
        match fields.value()? {
            None => out.extend_from_slice(b"\\N"),
            Some(cell) => {
                empty += u64::from(cell == b"0" && *way == ValueFormat::Enumeration);
                put_escaped(cell, out);
            }
        }
    }
    out.push(b'\n');
    if fields.remaining() == 0 { Ok(empty) } else { Err(fields.malformed()) }
}

/// Appends one row as the values of an INSERT. Tells how many of its enumerations hold the error value.
pub fn put_values(row: &[u8], ways: &[ValueFormat], out: &mut Vec<u8>) -> Result<u64, Malformed> {
    let (mut fields, mut empty) = (Fields::new("row", row), 0);
    for (number, way) in ways.iter().enumerate() {
        out.push(if number == 0 { b'(' } else { b',' });
        let Some(cell) = fields.value()? else {
            out.extend_from_slice(b"NULL");
            continue;
        };
        empty += u64::from(cell == b"0" && *way == ValueFormat::Enumeration);
        if *way == ValueFormat::Document && json_text::has_decimal(cell) {
            json_text::put_expression(out, cell)?;
            continue;
        }
        let (before, after): (&[u8], &[u8]) = match way {
            ValueFormat::Text | ValueFormat::Document => (b"CONVERT(_binary'", b"' USING utf8mb4)"),
            ValueFormat::Enumeration => (b"CAST('", b"' AS UNSIGNED)"),
            ValueFormat::Plain | ValueFormat::Float => (b"_binary'", b"'"),
        };
        out.extend_from_slice(before);
        for byte in cell {
            match byte {
                b'\'' => out.extend_from_slice(b"\\'"),
                b'\\' => out.extend_from_slice(b"\\\\"),
                0 => out.extend_from_slice(b"\\0"),
                byte => out.push(*byte),
            }
        }
        out.extend_from_slice(after);
    }
    out.push(b')');
    if fields.remaining() == 0 { Ok(empty) } else { Err(fields.malformed()) }
}

fn put_escaped(cell: &[u8], out: &mut Vec<u8>) {
    let mut rest = cell;
    while let Some(at) = memchr3(b'\\', b'\t', b'\n', rest) {
        let (before, from) = rest.split_at(at);
        out.extend_from_slice(before);
        let Some((special, after)) = from.split_first() else {
            return;
        };
        out.push(b'\\');
        out.push(match special {
            b'\t' => b't',
            b'\n' => b'n',
            other => *other,
        });
        rest = after;
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_the_word_null_and_an_empty_value_stay_apart() {
        let plain = [ValueFormat::Plain, ValueFormat::Plain, ValueFormat::Text];
        let mut out = Vec::new();
        assert_eq!(put_row(b"\xfb\x00\x04NULL", &plain, &mut out), Ok(0));
        assert_eq!(out, b"\\N\t\tNULL\n");
        out.clear();
        assert_eq!(put_values(b"\xfb\x00\x04NULL", &plain, &mut out), Ok(0));
        assert_eq!(out, b"(NULL,_binary'',CONVERT(_binary'NULL' USING utf8mb4))");
    }

    #[test]
    fn an_enumeration_travels_by_its_number_and_its_error_value_is_counted() {
        let ways = [ValueFormat::Enumeration; 2];
        let mut out = Vec::new();
        assert_eq!(put_row(b"\x010\x0210", &ways, &mut out), Ok(1));
        assert_eq!(out, b"0\t10\n");
        out.clear();
        assert_eq!(put_values(b"\x010\xfb", &ways, &mut out), Ok(1));
        assert_eq!(out, b"(CAST('0' AS UNSIGNED),NULL)");
    }

    #[test]
    fn what_ends_a_field_or_a_line_inside_a_value_does_not_end_it() {
        let mut out = Vec::new();
        assert_eq!(put_row(b"\x06a\\N\t\nb", &[ValueFormat::Plain], &mut out), Ok(0));
        assert_eq!(out, b"a\\\\N\\t\\nb\n");
        out.clear();
        assert_eq!(put_values(b"\x03'\\\0", &[ValueFormat::Plain], &mut out), Ok(0));
        assert_eq!(out, b"(_binary'\\'\\\\\\0')");
    }

    #[test]
    fn a_row_with_a_byte_too_few_or_too_many_is_refused() {
        let row = b"\xfc\x03\x00abc\x01x";
        let both = [ValueFormat::Plain, ValueFormat::Plain];
        assert_eq!(put_row(row, &both, &mut Vec::new()), Ok(0));
        for end in 0..row.len() {
            assert!(put_row(&row[..end], &both, &mut Vec::new()).is_err());
        }
        assert!(put_row(b"\x01a\x01b\x01c", &both, &mut Vec::new()).is_err());
        assert!(put_row(&[0xFE; 9], &[ValueFormat::Plain], &mut Vec::new()).is_err());
    }
}
