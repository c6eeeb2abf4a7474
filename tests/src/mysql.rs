//! A real MySQL or MariaDB server for one test.

pub mod disposable;
mod programs;
pub mod raw;
pub mod services;

use disposable::{Kind, Options, Server, find};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, Value};

use crate::least;
use crate::wait::{SOON, until, within};
pub use programs::{Login, finish, java, node, python};

/// Rows as text, as the client `mysql` would show them.
pub type Rows = Vec<Vec<Option<String>>>;

/// One row by the names of its columns; a null is absent.
pub type Record = std::collections::BTreeMap<String, String>;

/// Source and target of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pair {
    /// MySQL 9.7 to MySQL 9.7.
    Mysql97to97,
    /// MySQL 5.6 to MySQL 9.7.
    Mysql56to97,
    /// MariaDB 10.11 to MariaDB 10.11.
    Mariadb1011to1011,
    /// MariaDB 10.11 to MySQL 9.7.
    Mariadb1011toMysql97,
}

impl Pair {
    /// What each end is: the source, then the target.
    pub fn kinds(self) -> (Kind, Kind) {
        match self {
            Self::Mysql97to97 => (Kind::Mysql97, Kind::Mysql97),
            Self::Mysql56to97 => (Kind::Mysql56, Kind::Mysql97),
            Self::Mariadb1011to1011 => (Kind::Mariadb1011, Kind::Mariadb1011),
            Self::Mariadb1011toMysql97 => (Kind::Mariadb1011, Kind::Mysql97),
        }
    }

    /// Starts both servers.
    pub async fn start(self) -> (Mysql, Mysql) {
        let (source, target) = self.kinds();
        tokio::join!(Mysql::start(source), Mysql::start(target))
    }
}

/// A running server; stopped and removed when dropped.
#[derive(Debug)]
pub struct Mysql {
    /// The server itself: start, stop, kill, restart, port, log.
    pub server: Server,
}

impl Mysql {
    /// Starts a server whose root needs no password from this machine.
    pub async fn start(kind: Kind) -> Self {
        Self::start_with(kind, &[]).await
    }

    /// Starts a server with settings of its own, named as on its command line.
    pub async fn start_with(kind: Kind, settings: &[(&str, &str)]) -> Self {
        Self::start_as(kind, |mut options| {
            for (name, value) in settings {
                options = options.set(name, value);
            }
            options
        })
        .await
    }

    /// Starts a server as `options` makes it.
    pub async fn start_as(kind: Kind, options: impl FnOnce(Options) -> Options) -> Self {
        let binaries = find(kind).unwrap_or_else(|error| panic!("{error}"));
        // Durability against a crash of the machine is not what these tests show; a killed server loses nothing.
        let options = options(Options::new(binaries).relaxed());
        let server = Server::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        Self { server }
    }

    /// Starts a replica of this server, which writes nothing by itself, and waits until it follows.
    pub async fn start_replica(&self) -> Self {
        let replica = Self::start(self.server.kind()).await;
        let account = "CREATE USER replica@'127.0.0.1' IDENTIFIED BY 'replica'; GRANT REPLICATION SLAVE ON *.* TO replica@'127.0.0.1'";
        self.sql("", account).await;
        let follow = format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {}, SOURCE_USER = 'replica',
                 SOURCE_PASSWORD = 'replica', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1;
             START REPLICA; SET GLOBAL super_read_only = ON",
            self.port()
        );
        replica.sql("", &follow).await;
        self.is_copied_to(&replica).await;
        replica
    }

    /// Waits until a replica has all that is here now.
    pub async fn is_copied_to(&self, replica: &Self) {
        let all = self.value("", "SELECT @@GLOBAL.gtid_executed").await;
        replica.until_value("", &format!("SELECT GTID_SUBSET('{all}', @@GLOBAL.gtid_executed)"), "1").await;
    }

    /// Makes a replica a server that writes.
    pub async fn promote(&self) {
        self.sql("", "STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF")
            .await;
    }

    /// The loopback port.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// A new connection of root; without a database where its name is empty.
    pub async fn connect(&self, database: &str) -> Conn {
        connect(self.port(), "root", None, database).await
    }

    /// Runs statements in a session of their own and returns the rows of the last one that had any.
    pub async fn sql(&self, database: &str, statements: &str) -> Rows {
        rows(&mut self.connect(database).await, statements).await
    }

    /// The single value of a query.
    pub async fn value(&self, database: &str, query: &str) -> String {
        single(&self.sql(database, query).await, query)
    }

    /// Waits until a query gives a value.
    pub async fn until_value(&self, database: &str, query: &str, value: &str) {
        let what = format!("{query} gives {value}");
        let ask = || self.value(database, query);
        until(&what, SOON, ask, |answer| answer == value).await;
    }

    /// Makes an empty database.
    pub async fn make_database(&self, name: &str) {
        self.sql("", &format!("CREATE DATABASE `{name}`")).await;
    }

    /// Where migrations have the least rights, creates their account with what is printed for a side.
    pub async fn let_migrate(&self, side: &str, database: &str) {
        if !least::with_least_rights() {
            return;
        }
        let version = self.value("", "SELECT VERSION()").await;
        let engine = if version.contains("MariaDB") { "mariadb" } else { "mysql" };
        let numbers: String = version.chars().take_while(|one| *one == '.' || one.is_ascii_digit()).collect();
        let printed = least::printed(engine, side, &numbers, database, "none").await;
        self.sql("", &printed).await;
    }

    /// Makes an application's account from anywhere, with a password, that may do everything in one database.
    pub async fn make_account(&self, user: &str, password: &str, database: &str) {
        self.sql(
            "",
            &format!(
                "CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'; \
                 GRANT ALL ON `{database}`.* TO '{user}'@'%'"
            ),
        )
        .await;
    }
}

/// Connects; panics when it cannot.
pub async fn connect(port: u16, user: &str, password: Option<&str>, database: &str) -> Conn {
    let connected = try_connect(port, user, password, database).await;
    connected.unwrap_or_else(|error| panic!("connecting to {database:?} on port {port} as {user}: {error:?}"))
}

/// Connects, or tells why not.
pub async fn try_connect(
    port: u16,
    user: &str,
    password: Option<&str>,
    database: &str,
) -> Result<Conn, mysql_async::Error> {
    let options = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .user(Some(user))
        .pass(password)
        .db_name((!database.is_empty()).then_some(database))
        .prefer_socket(false);
    within("connecting", SOON, Conn::new(options)).await
}

/// Runs statements by the text protocol and returns the rows of the last one that had any.
pub async fn try_rows(client: &mut Conn, statements: &str) -> Result<Rows, mysql_async::Error> {
    let mut rows = Rows::new();
    let mut result = client.query_iter(statements).await?;
    loop {
        // The last round finds no rows, but the error of a statement that was not the first.
        let last = result.is_empty();
        let found: Vec<Row> = result.collect().await?;
        if !found.is_empty() {
            rows = found.into_iter().map(|row| row.unwrap().into_iter().map(shown).collect()).collect();
        }
        if last {
            break;
        }
    }
    Ok(rows)
}

/// As [`try_rows`], for statements that must succeed.
pub async fn rows(client: &mut Conn, statements: &str) -> Rows {
    try_rows(client, statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"))
}

/// Runs one statement by the text protocol and returns its rows by name.
pub async fn try_records(client: &mut Conn, statement: &str) -> Result<Vec<Record>, mysql_async::Error> {
    let found: Vec<Row> = client.query(statement).await?;
    let named = |row: Row| {
        let columns = row.columns();
        let names = columns.iter().map(|column| column.name_str().into_owned());
        names.zip(row.unwrap()).filter_map(|(name, value)| Some((name, shown(value)?))).collect()
    };
    Ok(found.into_iter().map(named).collect())
}

/// The only value of rows that must be exactly one value.
pub fn single(rows: &Rows, query: &str) -> String {
    match rows.as_slice() {
        [row] if row.len() == 1 => row[0].clone().unwrap_or_else(|| panic!("{query}: null")),
        _ => panic!("{query}: not one value: {rows:?}"),
    }
}

/// A value of the text protocol.
fn shown(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true)),
    }
}
