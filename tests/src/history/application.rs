//! A session of the load's application, in either engine.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls};

use crate::postgres::Rows;
use crate::world::{DATABASE, PASSWORD, USER};

/// What a client waits for, at most, before it gives its connection up.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Why a statement failed.
#[derive(Debug)]
pub enum Failure {
    /// The server said that it had no effect.
    Refused(String),
    /// Nobody can tell.
    Lost(String),
}

/// A session of an application.
pub trait Application: Sized + Send + Sync + 'static {
    /// The type of a column that a counter fills.
    const COUNTER: &'static str;
    /// What follows a table's columns.
    const TABLE_OPTIONS: &'static str;

    /// Connects to a port; `None` where that is not possible now.
    fn open(port: u16) -> impl Future<Output = Option<Self>> + Send;

    /// Runs one statement.
    fn ask(&mut self, statement: &str) -> impl Future<Output = Result<Rows, Failure>> + Send;

    /// Inserts one row and returns the number that the counter gave it, where that is told.
    fn insert(&mut self, statement: &str) -> impl Future<Output = Result<Option<i64>, Failure>> + Send;
}

impl Application for Client {
    const COUNTER: &'static str = "BIGSERIAL";
    const TABLE_OPTIONS: &'static str = "";

    async fn open(port: u16) -> Option<Self> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(port).user("postgres").dbname(DATABASE);
        let (client, connection) = timeout(TIMEOUT, config.connect(NoTls)).await.ok()?.ok()?;
        tokio::spawn(connection);
        Some(client)
    }

    async fn ask(&mut self, statement: &str) -> Result<Rows, Failure> {
        let asked = timeout(TIMEOUT, crate::postgres::try_rows(self, statement)).await;
        asked.map_err(|_| late())?.map_err(|error| match error.as_db_error() {
            Some(reported) => failure(reported.code().code(), reported.message()),
            None => Failure::Lost("the connection ended".to_owned()),
        })
    }

    async fn insert(&mut self, statement: &str) -> Result<Option<i64>, Failure> {
        let rows = self.ask(&format!("{statement} RETURNING id")).await?;
        Ok(rows.into_iter().flatten().flatten().find_map(|cell| cell.parse().ok()))
    }
}

impl Application for Conn {
    const COUNTER: &'static str = "BIGINT AUTO_INCREMENT";
    const TABLE_OPTIONS: &'static str = " ENGINE = InnoDB";

    async fn open(port: u16) -> Option<Self> {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(port)
            .user(Some(USER))
            .pass(Some(PASSWORD))
            .db_name(Some(DATABASE))
            .prefer_socket(false);
        timeout(TIMEOUT, Self::new(options)).await.ok()?.ok()
    }

    async fn ask(&mut self, statement: &str) -> Result<Rows, Failure> {
        let asked = timeout(TIMEOUT, crate::mysql::try_rows(self, statement)).await;
        asked.map_err(|_| late())?.map_err(|error| match error {
            mysql_async::Error::Server(reported) => failure(&reported.code.to_string(), &reported.message),
            _ => Failure::Lost("the connection ended".to_owned()),
        })
    }

    async fn insert(&mut self, statement: &str) -> Result<Option<i64>, Failure> {
        let inserted = timeout(TIMEOUT, self.query_drop(statement)).await;
        inserted.map_err(|_| late())?.map_err(|error| match error {
            mysql_async::Error::Server(reported) => failure(&reported.code.to_string(), &reported.message),
            _ => Failure::Lost("the connection ended".to_owned()),
        })?;
        Ok(self.last_insert_id().and_then(|id| i64::try_from(id).ok()))
    }
}

fn late() -> Failure {
    Failure::Lost("no answer came".to_owned())
}

/// What an error of the server's, or of Headgate's in its name, means for the statement: a session that is ended tells
/// nothing about what it was doing.
fn failure(code: &str, message: &str) -> Failure {
    const ENDS: [&str; 5] = ["1053", "1152", "1158", "1160", "1927"];
    let text = format!("{code} {message}");
    let ends = code.starts_with("57P") || code.starts_with("08") || ENDS.contains(&code);
    if ends { Failure::Lost(text) } else { Failure::Refused(text) }
}
