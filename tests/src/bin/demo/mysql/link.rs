//! A connection of the demo's own: to the proxy, to its admin console, or straight to a server.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder, Row, Value};

use crate::failure::{Answer, Failure, Result, Trouble};
use crate::link::{Address, Link, Record};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What the demo sends is far smaller; told, so that the driver asks no server for its limits.
const PACKET_MAX: usize = 16 << 20;
const WAIT_SECONDS: usize = 86_400;

/// How a person connects there.
pub(super) fn client(mariadb: bool, address: &Address) -> String {
    let Address { port, user, database, password } = address;
    let program = if mariadb { "mariadb" } else { "mysql" };
    let password = password.as_ref().map(|word| format!("MYSQL_PWD={word} ")).unwrap_or_default();
    format!("{password}{program} -h 127.0.0.1 -P {port} -u {user} {database}")
}

/// An open connection.
pub(crate) struct Session {
    pub(super) sql: Conn,
}

impl Link for Session {
    async fn open(address: &Address, name: &str) -> Result<Self> {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(address.port)
            .user(Some(&address.user))
            .pass(address.password.as_deref())
            .db_name(Some(&address.database))
            .prefer_socket(false)
            .max_allowed_packet(Some(PACKET_MAX))
            .wait_timeout(Some(WAIT_SECONDS))
            .connect_attributes([("program_name".to_owned(), name.to_owned())].into());
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, Conn::new(options)).await;
        let late = |_| Failure(format!("no connection to port {} within {CONNECT_TIMEOUT:?}", address.port));
        let sql = connecting.map_err(late)??;
        Ok(Self { sql })
    }

    async fn run(&mut self, statements: &str) -> Answer<()> {
        Ok(self.sql.query_drop(statements).await?)
    }

    async fn ask(&mut self, statement: &str) -> Answer<Vec<Record>> {
        let answer = self.sql.query_iter(statement).await?;
        let columns: Arc<[String]> = answer.columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
        let rows: Vec<Row> = answer.collect_and_drop().await?;
        let record =
            |row: Row| Record { columns: Arc::clone(&columns), values: row.unwrap().into_iter().map(text).collect() };
        Ok(rows.into_iter().map(record).collect())
    }
}

fn text(value: Value) -> String {
    match value {
        Value::NULL => String::new(),
        Value::Bytes(bytes) => {
            String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
        }
        other => other.as_sql(true),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(said(&error))
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match &error {
            Error::Server(reply) if !leaves_open(reply.code) => Self::Refused(said(&error)),
            _ => Self::Ended(said(&error)),
        }
    }
}

/// Errors after which the session is gone, or a commit may have been carried out: shutdown, KILL, lost in the
/// middle, and a commit that broke.
fn leaves_open(code: u16) -> bool {
    matches!(code, 1053 | 1079 | 1080 | 1152..=1161 | 1180 | 1184 | 1927 | 2006 | 2013 | 3168 | 3169 | 4031)
}

/// What a server or the connection to it said.
fn said(error: &Error) -> String {
    match error {
        Error::Server(reply) => {
            format!("ERROR {} ({}): {}", reply.code, reply.state, reply.message)
        }
        other => other.to_string(),
    }
}
