//! `headgate sql`: one trip to the admin console from the command line.

use std::process::ExitCode;
use std::time::Duration;

use proxy::config::{ADMIN_DATABASE, Config};
use tokio_postgres::error::DbError;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::command::Sql;
use super::output::{fail, print, record, table};

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// More columns than this do not fit beside one another on a terminal.
const COLUMNS_MAX: usize = 10;

/// Sends the statement and prints what comes.
pub(crate) async fn run(sql: Sql) -> ExitCode {
    match ask(&sql).await {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(text) => fail(&text),
    }
}

async fn ask(sql: &Sql) -> Result<String, String> {
    let mut config = match &sql.url {
        Some(url) => url.parse().map_err(|error| format!("--url: {error}"))?,
        None => of_file(&sql.config)?,
    };
    if config.get_dbname().is_none() {
        config.dbname(ADMIN_DATABASE);
    }
    config
        .connect_timeout(CONNECT_PATIENCE)
        .application_name("headgate sql");
    let (client, connection) = config.connect(NoTls).await.map_err(|error| told(&error))?;
    let mut asking = std::pin::pin!(client.simple_query(&sql.statement));
    let mut connection = std::pin::pin!(connection);
    // A cutover takes as long as its limits allow: the console answers every statement in the end.
    let messages = tokio::select! {
        messages = &mut asking => messages,
        ended = &mut connection => match ended {
            Ok(()) => asking.await,
            Err(error) => Err(error),
        },
    };
    Ok(lay_out(messages.map_err(|error| told(&error))?))
}

fn of_file(path: &std::path::Path) -> Result<tokio_postgres::Config, String> {
    let config = Config::read(path).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        format!("{}: {}", path.display(), lines.join("; "))
    })?;
    let address = config.listen.address;
    let host = match address.ip() {
        ip if ip.is_unspecified() && ip.is_ipv6() => "::1".to_owned(),
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        ip => ip.to_string(),
    };
    let mut target = tokio_postgres::Config::new();
    target
        .host(host)
        .port(address.port())
        .user(&config.admin.user)
        .password(config.admin.password.reveal())
        .dbname(ADMIN_DATABASE);
    Ok(target)
}

fn lay_out(messages: Vec<SimpleQueryMessage>) -> String {
    let mut text = String::new();
    let mut columns: Vec<String> = Vec::new();
    let mut rows: Vec<Vec<Option<String>>> = Vec::new();
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(description) => {
                columns = description
                    .iter()
                    .map(|column| column.name().to_owned())
                    .collect();
            }
            SimpleQueryMessage::Row(row) => {
                let values =
                    (0..row.len()).map(|at| row.try_get(at).ok().flatten().map(str::to_owned));
                rows.push(values.collect());
            }
            SimpleQueryMessage::CommandComplete(_) if columns.is_empty() => text.push_str("done\n"),
            SimpleQueryMessage::CommandComplete(_) => {
                if columns.len() > COLUMNS_MAX {
                    let records = rows.iter().map(|row| record(&columns, row));
                    text.push_str(&records.collect::<Vec<_>>().join("\n"));
                } else {
                    text.push_str(&table(&columns, &rows));
                }
                columns.clear();
                rows.clear();
            }
            _ => {}
        }
    }
    text
}

/// What the console said, with its hint; or why it said nothing.
pub(crate) fn told(error: &tokio_postgres::Error) -> String {
    let Some(said) = error.as_db_error() else {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        return text;
    };
    let hint = DbError::hint(said)
        .map(|hint| format!("\nhint: {hint}"))
        .unwrap_or_default();
    format!("{} (SQLSTATE {}){hint}", said.message(), said.code().code())
}
