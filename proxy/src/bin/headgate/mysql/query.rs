//! One trip to the admin console.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder, Row, Value};
use protocol::proxy_protocol::Header;
use proxy::config::{Cluster, Secret};

use crate::engine::Reply;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends the statements and takes what comes.
pub(super) async fn run(console: &Cluster, database: &str, statements: &str) -> Result<Vec<Reply>, String> {
    let options = OptsBuilder::default()
        .ip_or_hostname(&console.host)
        .tcp_port(console.port)
        .user(Some(&console.user))
        .pass(console.password.as_ref().map(Secret::reveal))
        .db_name(Some(database))
        .prefer_socket(false);
    let (tls, header) = (console.tls(), console.proxy_protocol.then_some(Header::Local));
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, transport::mysql::open(options, &tls, header)).await;
    let mut connection = match connecting {
        Ok(opened) => opened.map_err(|error| reported(&error))?,
        Err(_) => {
            return Err(format!(
                "no connection to {}:{} within {} s",
                console.host,
                console.port,
                CONNECT_TIMEOUT.as_secs()
            ));
        }
    };
    let said = talk(&mut connection, statements).await;
    // The answer is there; whether the farewell arrives changes nothing.
    drop(tokio::time::timeout(CONNECT_TIMEOUT, connection.disconnect()).await);
    said.map_err(|error| reported(&error))
}

async fn talk(connection: &mut Conn, statements: &str) -> Result<Vec<Reply>, Error> {
    // A cutover takes as long as its limits allow: the console answers every statement in the end.
    let mut results = connection.query_iter(statements).await?;
    let mut all = Vec::new();
    while let Some(columns) = results.columns() {
        if columns.is_empty() {
            results.collect::<Row>().await?;
            all.push(Reply::Done);
        } else {
            let columns = columns.iter().map(|column| column.name_str().into_owned());
            let columns: Vec<String> = columns.collect();
            let rows: Vec<Row> = results.collect().await?;
            let rows = rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect());
            all.push(Reply::Rows { columns, rows: rows.collect() });
        }
    }
    Ok(all)
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true)),
    }
}

/// What the console said; or why it said nothing.
fn reported(error: &Error) -> String {
    match error {
        Error::Server(said) => format!("{} (SQLSTATE {})", said.message, said.state),
        other => other.to_string(),
    }
}
