//! A real PostgreSQL server for one test.

pub mod disposable;
pub mod psql;
pub mod services;

use disposable::{Options, Server, find};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::least;
use crate::wait::{SOON, until, within};

/// Rows as text, as `psql` would show them.
pub type Rows = Vec<Vec<Option<String>>>;

/// A running server; stopped and removed when dropped.
#[derive(Debug)]
pub struct Postgres {
    /// The server itself: start, stop, kill, restart, port, log.
    pub server: Server,
}

impl Postgres {
    /// Starts a server of a major version that trusts everybody on this machine.
    pub async fn start(version: u32) -> Self {
        Self::start_with(version, &[], None).await
    }

    /// Starts a server with settings of its own and, if given, its own `pg_hba.conf`.
    pub async fn start_with(version: u32, settings: &[(&str, &str)], hba: Option<&str>) -> Self {
        let binaries = find(version).unwrap_or_else(|error| panic!("{error}"));
        // Durability against a crash of the machine is not what these tests show; a killed server loses nothing.
        let mut options = Options::new(binaries).set("fsync", "off").set("shared_buffers", "32MB");
        options.hba = hba.map(str::to_owned);
        for (name, value) in settings {
            options = options.set(name, value);
        }
        let server = Server::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        let started = Self { server };
        if least::with_least_rights() {
            started.replace_superuser().await;
        }
        started
    }

    /// Makes another role than the server's first one the superuser `postgres`: what that one owns nobody can give away.
    async fn replace_superuser(&self) {
        self.sql("postgres", "create role keeper superuser login").await;
        let keeper = connect(self.port(), "keeper", None, "postgres").await;
        let renamed = "alter role postgres rename to first; create role postgres superuser login createrole createdb";
        rows(&keeper, renamed).await;
        self.sql("postgres", "drop role keeper").await;
    }

    /// Where migrations have the least rights, creates their role with what is printed for a side, and gives what is on the
    /// source to somebody who is no superuser.
    pub async fn let_migrate(&self, side: &str, database: &str) {
        if !least::with_least_rights() {
            return;
        }
        if side == "source" {
            self.sql(database, least::GIVE_AWAY).await;
        }
        let version = "select current_setting('server_version_num')::int / 10000";
        let version = self.value("postgres", version).await;
        let printed = least::printed("postgres", side, &version, database, "none").await;
        self.sql(database, &printed).await;
    }

    /// Starts a standby of this server, and waits until it follows.
    pub async fn start_standby(&mut self) -> Self {
        self.sql("postgres", "select pg_create_physical_replication_slot('standby', true)").await;
        let server = self.server.start_standby().await.unwrap_or_else(|error| panic!("{error}"));
        self.until_value("postgres", "select count(*) from pg_stat_replication where state = 'streaming'", "1").await;
        Self { server }
    }

    /// The loopback port.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// A new connection of the superuser.
    pub async fn connect(&self, database: &str) -> Client {
        connect(self.port(), "postgres", None, database).await
    }

    /// Runs statements in a session of their own and returns the rows of the last one that had any.
    pub async fn sql(&self, database: &str, statements: &str) -> Rows {
        rows(&self.connect(database).await, statements).await
    }

    /// The single value of a query.
    pub async fn value(&self, database: &str, query: &str) -> String {
        single(&self.sql(database, query).await, query)
    }
}

impl Postgres {
    /// Waits until a query gives a value.
    pub async fn until_value(&self, database: &str, query: &str, value: &str) {
        let what = format!("{query} gives {value}");
        let client = self.connect(database).await;
        let ask = || async { single(&rows(&client, query).await, query) };
        until(&what, SOON, ask, |answer| answer == value).await;
    }
}

/// Connects and drives the connection in a task of its own; panics when it cannot.
pub async fn connect(port: u16, user: &str, password: Option<&str>, database: &str) -> Client {
    let connected = try_connect(port, user, password, database).await;
    connected.unwrap_or_else(|error| panic!("connecting to {database} on port {port} as {user}: {error:?}"))
}

/// Connects, or tells why not.
pub async fn try_connect(
    port: u16,
    user: &str,
    password: Option<&str>,
    database: &str,
) -> Result<Client, tokio_postgres::Error> {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user(user).dbname(database);
    if let Some(password) = password {
        config.password(password);
    }
    let (client, connection) = within("connecting", SOON, config.connect(NoTls)).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Runs statements by the simple protocol and returns the rows of the last one that had any.
pub async fn try_rows(client: &Client, statements: &str) -> Result<Rows, tokio_postgres::Error> {
    let mut rows = Rows::new();
    for message in client.simple_query(statements).await? {
        match message {
            SimpleQueryMessage::RowDescription(_) => rows.clear(),
            SimpleQueryMessage::Row(row) => {
                rows.push((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect());
            }
            _ => {}
        }
    }
    Ok(rows)
}

/// As [`try_rows`], for statements that must succeed.
pub async fn rows(client: &Client, statements: &str) -> Rows {
    try_rows(client, statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"))
}

/// One row by the names of its columns; a null is absent.
pub type Record = std::collections::BTreeMap<String, String>;

/// Runs one statement by the simple protocol and returns its rows by name.
pub async fn try_records(client: &Client, statement: &str) -> Result<Vec<Record>, tokio_postgres::Error> {
    let mut records = Vec::new();
    for message in client.simple_query(statement).await? {
        if let SimpleQueryMessage::Row(row) = message {
            let named = row.columns().iter().enumerate();
            let record =
                named.filter_map(|(index, column)| Some((column.name().to_owned(), row.get(index)?.to_owned())));
            records.push(record.collect());
        }
    }
    Ok(records)
}

/// The only value of rows that must be exactly one value.
pub fn single(rows: &Rows, query: &str) -> String {
    match rows.as_slice() {
        [row] if row.len() == 1 => row[0].clone().unwrap_or_else(|| panic!("{query}: null")),
        _ => panic!("{query}: not one value: {rows:?}"),
    }
}
