//! One trip to the admin console.

use std::time::Duration;

use migrator::postgres::channel;
use protocol::proxy_protocol::Header;
use proxy::config::{Cluster, Secret};
use proxy::upstream::KEEPALIVE;
use tokio_postgres::error::DbError;
use tokio_postgres::{Config, Error, SimpleQueryMessage};
use transport::Address;

use crate::engine::Reply;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends the statements and takes what comes.
pub(super) async fn run(console: &Cluster, database: &str, statements: &str) -> Result<Vec<Reply>, String> {
    let mut config = Config::new();
    config.user(&console.user).dbname(database).application_name("headgate sql");
    if let Some(password) = &console.password {
        config.password(Secret::reveal(password));
    }
    let socket = console.socket();
    let header = console.proxy_protocol.then_some(Header::Local);
    let address = Address { host: &console.host, port: console.port, socket: socket.as_deref(), header };
    let opened = transport::postgres::connect(address, &console.tls(), CONNECT_TIMEOUT, &KEEPALIVE).await;
    let stream = opened.map_err(|error| format!("error connecting to server: {error}"))?;
    let (client, connection) = channel::log_in(config, stream).await.map_err(|error| reported(&error))?;
    let mut asking = std::pin::pin!(client.simple_query(statements));
    let mut connection = std::pin::pin!(connection);
    // A cutover takes as long as its limits allow: the console answers every statement in the end.
    let messages = tokio::select! {
        messages = &mut asking => messages,
        ended = &mut connection => match ended {
            Ok(()) => asking.await,
            Err(error) => Err(error),
        },
    };
    Ok(said(messages.map_err(|error| reported(&error))?))
}

fn said(messages: Vec<SimpleQueryMessage>) -> Vec<Reply> {
    let mut all = Vec::new();
    let mut columns: Vec<String> = Vec::new();
    let mut rows: Vec<Vec<Option<String>>> = Vec::new();
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(description) => {
                columns = description.iter().map(|column| column.name().to_owned()).collect();
            }
            SimpleQueryMessage::Row(row) => {
                let values = (0..row.len()).map(|at| row.try_get(at).ok().flatten().map(str::to_owned));
                rows.push(values.collect());
            }
            SimpleQueryMessage::CommandComplete(_) if columns.is_empty() => all.push(Reply::Done),
            SimpleQueryMessage::CommandComplete(_) => {
                all.push(Reply::Rows { columns: std::mem::take(&mut columns), rows: std::mem::take(&mut rows) });
            }
            _ => {}
        }
    }
    all
}

/// What the console said, with its hint; or why it said nothing.
fn reported(error: &Error) -> String {
    let Some(said) = error.as_db_error() else {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        return text;
    };
    let hint = DbError::hint(said).map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    format!("{} (SQLSTATE {}){hint}", said.message(), said.code().code())
}
