//! Reads what a server's catalogue tells: rows of texts, whatever the columns' types.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};

use super::Mysql;
use super::client::{self, Version, failed};
use super::sql::quote_literal;
use crate::error::{Error, Result};

/// One row of a catalogue's answer, every value as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextRow(Vec<Option<String>>);

impl TextRow {
    /// Reads a row of any answer.
    pub(super) fn read(row: Row) -> Self {
        let text = |value| match value {
            Value::NULL => None,
            Value::Bytes(bytes) => Some(match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            }),
            Value::Int(number) => Some(number.to_string()),
            Value::UInt(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::Double(number) => Some(number.to_string()),
            dated @ (Value::Date(..) | Value::Time(..)) => Some(dated.as_sql(true).trim_matches('\'').to_owned()),
        };
        Self(row.unwrap_raw().into_iter().map(|value| value.and_then(text)).collect())
    }

    /// A row made up for a test; the text NULL stands for none.
    #[cfg(test)]
    pub fn of(values: &[&str]) -> Self {
        Self(values.iter().map(|value| (*value != "NULL").then(|| (*value).to_owned())).collect())
    }

    /// The value, or nothing where it is NULL or the row has no such column.
    pub fn get(&self, column: usize) -> Option<&str> {
        self.0.get(column)?.as_deref()
    }

    /// The value; empty where it is NULL.
    pub fn text(&self, column: usize) -> &str {
        self.get(column).unwrap_or_default()
    }

    /// The value as an owned text; empty where it is NULL.
    pub fn owned(&self, column: usize) -> String {
        self.text(column).to_owned()
    }

    /// The value as a number; 0 where it is none.
    pub fn number(&self, column: usize) -> u64 {
        self.text(column).parse().unwrap_or(0)
    }

    /// Whether the server says yes.
    pub fn is_on(&self, column: usize) -> bool {
        matches!(self.text(column).to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "Y" | "TRUE")
    }
}

/// The rows that a query answers; `what` says what failed where it does.
pub async fn ask(session: &mut Conn, query: &str, what: &str) -> Result<Vec<TextRow>> {
    let rows: Vec<Row> = session.query(query).await.map_err(|error| failed(what, error))?;
    Ok(rows.into_iter().map(TextRow::read).collect())
}

/// Runs a statement for its effect.
pub async fn run(session: &mut Conn, statement: &str, what: &str) -> Result<()> {
    session.query_drop(statement).await.map_err(|error| failed(what, error))
}

/// A setting of the server, or nothing where it knows none of this name.
pub async fn variable(session: &mut Conn, name: &str) -> Result<Option<String>> {
    let query = format!("SHOW GLOBAL VARIABLES WHERE Variable_name = {}", quote_literal(name));
    let rows = ask(session, &query, "cannot read the server's settings").await?;
    Ok(rows.first().map(|row| row.owned(1)))
}

/// The databases that move as a list for `IN (…)`.
pub fn listed(mysql: &Mysql) -> String {
    let names: Vec<String> = mysql.databases().iter().map(|name| quote_literal(name)).collect();
    names.join(", ")
}

/// Lets a session see what is there now: fresh numbers, and the keys that the server made up.
pub async fn prepare(session: &mut Conn) -> Result<Version> {
    let version = client::version(session).await?;
    if version.is_mysql_from(8, 0, 3) {
        run(session, "SET SESSION information_schema_stats_expiry = 0", "cannot ask for fresh statistics").await?;
    }
    if version.is_mysql_from(8, 0, 30) {
        run(
            session,
            "SET SESSION show_gipk_in_create_table_and_information_schema = ON",
            "cannot ask for generated keys",
        )
        .await?;
    }
    Ok(version)
}

/// A column of an answer as text; empty for NULL.
pub(crate) fn text(row: &Row, index: usize) -> Result<String> {
    Ok(optional(row, index)?.unwrap_or_default())
}

/// A column of an answer as text.
pub(crate) fn optional(row: &Row, index: usize) -> Result<Option<String>> {
    let bytes = match row.as_ref(index) {
        Some(Value::NULL) => return Ok(None),
        Some(Value::Bytes(bytes)) => bytes.clone(),
        Some(other) => return Ok(Some(other.as_sql(true))),
        None => return Err(Error::fatal("a server's answer has too few columns")),
    };
    String::from_utf8(bytes).map(Some).map_err(|error| Error::fatal("a server's answer is not text").because(error))
}
