//! The demo as an operator: statements to Headgate's admin console, and their rows by column name.

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use super::failure::{Failure, Result, said};
use super::link::Link;

const PATIENCE: Duration = Duration::from_mins(1);

/// One row of an answer.
#[derive(Clone, Debug)]
pub(super) struct Record(Vec<(String, String)>);

impl Record {
    /// A column's text; empty where it is null or does not exist.
    pub(super) fn text(&self, column: &str) -> &str {
        self.0
            .iter()
            .find(|(name, _)| name == column)
            .map_or("", |(_, value)| value)
    }

    /// A column's number; zero where there is none.
    pub(super) fn number(&self, column: &str) -> f64 {
        self.text(column).parse().unwrap_or(0.0)
    }

    /// A column's whole number; zero where there is none.
    pub(super) fn count(&self, column: &str) -> u64 {
        self.text(column).parse().unwrap_or(0)
    }
}

/// The admin console.
pub(super) struct Console(pub(super) Link);

impl Console {
    /// Sends a statement and gathers its rows.
    pub(super) async fn ask(&self, statement: &str) -> Result<Vec<Record>> {
        let answer = tokio::time::timeout(PATIENCE, self.0.sql.simple_query(statement)).await;
        let answer =
            answer.map_err(|_| Failure(format!("{statement}: no answer within {PATIENCE:?}")))?;
        let answer = answer.map_err(|error| Failure(format!("{statement}: {}", said(&error))))?;
        let mut records = Vec::new();
        for message in answer {
            if let SimpleQueryMessage::Row(row) = message {
                let names = row.columns().iter().enumerate();
                let value = |index| row.get(index).unwrap_or("").to_owned();
                records.push(Record(
                    names
                        .map(|(index, name)| (name.name().to_owned(), value(index)))
                        .collect(),
                ));
            }
        }
        Ok(records)
    }

    /// The first row of the answer.
    pub(super) async fn ask_one(&self, statement: &str) -> Result<Record> {
        let rows = self.ask(statement).await?;
        rows.into_iter()
            .next()
            .ok_or_else(|| Failure(format!("{statement}: no row came")))
    }
}
