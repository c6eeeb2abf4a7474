//! What the sequences of MariaDB were told to do: no catalogue of the server shows it, so that each is asked by itself.

use mysql_async::Conn;

use super::record::{Asked, Record, WHAT};
use super::{CLASS, Class, Part};
use crate::error::Result;
use crate::mysql::catalogue::{TextRow, ask};
use crate::mysql::sql::{qualified, quote_literal};

/// The table that they would have in the inventory.
pub(super) const EVERY_SEQUENCE: &str = "every sequence";
/// How they are compared. Where one stands is no definition, and is set at the cutover.
pub(super) const SEQUENCES: Class = Class {
    called: "sequence",
    named_by: &["table_schema", "table_name"],
    part: Part::Relation("table_schema", "table_name"),
    ..CLASS
};
const TOLD: [&str; 6] = ["start_value", "minimum_value", "maximum_value", "increment", "cache_size", "cycle_option"];
/// Each of them is opened for it.
const AT_ONCE: usize = 100;

/// Reads those among these records.
pub(super) async fn read(session: &mut Conn, records: &[Record]) -> Result<(Asked, Vec<TextRow>)> {
    let sequences = records.iter().filter(|one| one.text("TABLE_TYPE") == "SEQUENCE");
    let columns = TOLD.join(", ");
    let selects: Vec<String> = sequences
        .map(|one| {
            let (schema, name) = (one.text("TABLE_SCHEMA"), one.text("TABLE_NAME"));
            let relation = qualified(schema, name);
            let (schema, name) = (quote_literal(schema), quote_literal(name));
            format!("SELECT {schema}, {name}, {columns} FROM {relation}")
        })
        .collect();
    let mut rows = Vec::new();
    for some in selects.chunks(AT_ONCE) {
        rows.extend(ask(session, &some.join(" UNION ALL "), WHAT).await?);
    }
    let columns = SEQUENCES.named_by.iter().chain(&TOLD);
    let asked = Asked {
        table: EVERY_SEQUENCE,
        class: &SEQUENCES,
        columns: columns.map(|column| (*column).to_owned()).collect(),
        select: String::new(),
    };
    Ok((asked, rows))
}
