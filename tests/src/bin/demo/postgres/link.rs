//! A connection of the demo's own: to the proxy, to its admin console, or straight to a server.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage};

use crate::failure::{Answer, Failure, Result, Trouble};
use crate::link::{Address, Link, Record};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How a person connects there.
pub(super) fn psql(address: &Address) -> String {
    let Address { port, user, database, password } = address;
    let password = password.as_ref().map(|word| format!("PGPASSWORD={word} ")).unwrap_or_default();
    format!("{password}psql -h 127.0.0.1 -p {port} -U {user} {database}")
}

/// An open connection; `heard` counts the notifications that arrived on it.
pub(crate) struct Session {
    pub(super) sql: Arc<Client>,
    pub(super) heard: Arc<AtomicU64>,
}

impl Link for Session {
    async fn open(address: &Address, name: &str) -> Result<Self> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(address.port).user(&address.user).dbname(&address.database);
        config.application_name(name).connect_timeout(CONNECT_TIMEOUT);
        if let Some(password) = &address.password {
            config.password(password);
        }
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, config.connect(NoTls)).await;
        let late = |_| Failure(format!("no connection to port {} within {CONNECT_TIMEOUT:?}", address.port));
        let (client, mut connection) = connecting.map_err(late)??;
        let heard = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if matches!(message, AsyncMessage::Notification(_)) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { sql: Arc::new(client), heard })
    }

    async fn run(&mut self, statements: &str) -> Answer<()> {
        Ok(self.sql.batch_execute(statements).await?)
    }

    async fn ask(&mut self, statement: &str) -> Answer<Vec<Record>> {
        let mut columns: Arc<[String]> = Arc::default();
        let mut records = Vec::new();
        for message in self.sql.simple_query(statement).await? {
            match message {
                SimpleQueryMessage::RowDescription(reported) => {
                    columns = reported.iter().map(|column| column.name().to_owned()).collect();
                }
                SimpleQueryMessage::Row(row) => {
                    let value = |index| row.get(index).unwrap_or("").to_owned();
                    records.push(Record { columns: Arc::clone(&columns), values: (0..row.len()).map(value).collect() });
                }
                _ => {}
            }
        }
        Ok(records)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self(said(&error))
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        let reply = error.as_db_error();
        match reply.and_then(DbError::parsed_severity) {
            Some(Severity::Error) => Self::Refused(said(&error)),
            _ => Self::Ended(said(&error)),
        }
    }
}

/// What a server or the connection to it said.
fn said(error: &tokio_postgres::Error) -> String {
    let Some(reply) = error.as_db_error() else {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            cause = inner.source();
        }
        return text;
    };
    let mut text = format!("{} {}: {}", reply.severity(), reply.code().code(), reply.message());
    for more in [reply.detail(), reply.hint()].into_iter().flatten() {
        text.push_str("; ");
        text.push_str(more);
    }
    text
}
