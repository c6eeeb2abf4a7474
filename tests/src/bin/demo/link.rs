//! A connection of the demo's own: to the proxy, to its admin console, or straight to a server.

use std::future::Future;
use std::sync::Arc;

use super::failure::{Answer, Result};

/// Where to connect, and as whom.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: Option<String>,
    pub(super) database: String,
}

impl Address {
    /// A database on this machine that asks for no password.
    pub(super) fn new(port: u16, user: &str, database: &str) -> Self {
        Self { port, user: user.to_owned(), password: None, database: database.to_owned() }
    }

    /// The same, with a password where one is asked for.
    pub(super) fn with_password(self, password: Option<&str>) -> Self {
        Self { password: password.map(str::to_owned), ..self }
    }
}

/// An open connection; it ends when it is dropped.
pub(super) trait Link: Sized + Send + 'static {
    /// Connects under a name that the server shows among its sessions.
    fn open(address: &Address, name: &str) -> impl Future<Output = Result<Self>> + Send;

    /// Runs statements whose rows nobody wants.
    fn run(&mut self, statements: &str) -> impl Future<Output = Answer<()>> + Send;

    /// Asks one statement and gathers its rows as texts.
    fn ask(&mut self, statement: &str) -> impl Future<Output = Answer<Vec<Record>>> + Send;
}

/// One row of an answer.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) columns: Arc<[String]>,
    /// As wide as the columns; empty where the value is null.
    pub(super) values: Vec<String>,
}

impl Record {
    /// A column's text; empty where it is null or does not exist.
    pub(super) fn text(&self, column: &str) -> &str {
        let index = self.columns.iter().position(|name| name == column);
        index.map_or("", |index| self.at(index))
    }

    /// The text of the column with this index, counted from zero.
    pub(super) fn at(&self, index: usize) -> &str {
        self.values.get(index).map_or("", String::as_str)
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
