//! The only place that opens ordinary connections, and the one reading of the server's errors.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use protocol::proxy_protocol::Header;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};
use transport::{Address, Keepalive, Password, Stream, Tls, Tunnel};
use zeroize::Zeroizing;

use super::{channel, session};
use crate::error::{Error, READER_REMEDY, Result};

/// Where a database is and who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A host name or address, or the absolute path of the folder with the server's socket.
    pub host: String,
    /// The port, which names the socket too.
    pub port: u16,
    /// The role to log in as.
    pub user: String,
    /// Its password, where the server asks for one.
    pub password: Option<Password>,
    /// What the connection must be.
    pub tls: Tls,
    /// Connections begin with a PROXY header, which calls them Headgate's own.
    pub proxy_protocol: bool,
    /// The database.
    pub database: String,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }
}

/// How long opening a connection, login included, may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE: Keepalive = Keepalive {
    after: Duration::from_secs(15),
    every: Duration::from_secs(15),
    unheard_max: Some(Duration::from_mins(1)),
};

impl Endpoint {
    /// The password as it is now.
    pub(super) async fn read_password(&self) -> Result<Option<Zeroizing<String>>> {
        crate::error::read_password(self.password.as_ref(), self).await
    }

    fn header(&self) -> Option<Header> {
        self.proxy_protocol.then_some(Header::Local)
    }

    /// A port of this host for programs that open their own connections, where these must begin with a PROXY header.
    pub(super) async fn tunnel(&self) -> io::Result<Option<Tunnel>> {
        let Some(header) = self.header() else {
            return Ok(None);
        };
        let address = Address { host: &self.host, port: self.port, socket: None, header: Some(header) };
        Tunnel::open(address, CONNECT_TIMEOUT, &KEEPALIVE).await.map(Some)
    }

    /// Opens a connection, in TLS as it must be, without a login.
    pub(super) async fn open(&self) -> io::Result<Stream> {
        let folder = self.host.starts_with('/').then(|| Path::new(&self.host));
        let socket = folder.map(|folder| folder.join(format!(".s.PGSQL.{}", self.port)));
        let address = Address { host: &self.host, port: self.port, socket: socket.as_deref(), header: self.header() };
        transport::postgres::connect(address, &self.tls, CONNECT_TIMEOUT, &KEEPALIVE).await
    }
}

/// Opens a session whose `application_name` is `headgate <purpose>`, and that inherits no setting which changes what
/// values mean. It ends when the client is dropped.
pub async fn connect(endpoint: &Endpoint, purpose: &str) -> Result<Client> {
    within(endpoint, async {
        let client = login(endpoint, purpose).await?;
        let prepared = session::prepare(&client).await;
        prepared.map_err(|error| failed(&cannot_connect(endpoint), error))?;
        Ok(client)
    })
    .await
}

/// Opens a session with everything that sessions of this role inherit in this database.
pub async fn connect_plainly(endpoint: &Endpoint, purpose: &str) -> Result<Client> {
    within(endpoint, login(endpoint, purpose)).await
}

async fn login(endpoint: &Endpoint, purpose: &str) -> Result<Client> {
    let mut config = Config::new();
    config.user(&endpoint.user).dbname(&endpoint.database).application_name(format!("headgate {purpose}"));
    if let Some(password) = endpoint.read_password().await? {
        config.password(password.as_bytes());
    }
    let stream = endpoint.open().await.map_err(|error| unreachable(endpoint, &error))?;
    let logged_in = channel::log_in(config, stream).await;
    let (client, connection) = logged_in.map_err(|error| failed(&cannot_connect(endpoint), error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of the migrator ended");
        }
    });
    Ok(client)
}

/// Asks the server to end what `client` runs. Whether it did, it does not tell.
pub(super) async fn interrupt(endpoint: &Endpoint, client: &Client) {
    if let Ok(stream) = endpoint.open().await {
        // The connection is in TLS already, where it must be.
        let _ = client.cancel_token().cancel_query_raw(stream, channel::AsItIs).await;
    }
}

async fn within(endpoint: &Endpoint, opening: impl Future<Output = Result<Client>>) -> Result<Client> {
    tokio::time::timeout(CONNECT_TIMEOUT, opening).await.unwrap_or_else(|_| Err(late(endpoint)))
}

/// Why no connection came about. One that is not what it must be stays so, until somebody looks at it.
pub(super) fn unreachable(endpoint: &Endpoint, error: &io::Error) -> Error {
    let text = format!("{}: error connecting to server: {error}", cannot_connect(endpoint));
    match error.kind() {
        io::ErrorKind::TimedOut => late(endpoint),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Error::fatal(text).remedy(crate::error::TLS_REMEDY),
        _ => Error::transient(text),
    }
}

fn cannot_connect(endpoint: &Endpoint) -> String {
    format!("cannot connect to {endpoint:?}")
}

fn late(endpoint: &Endpoint) -> Error {
    Error::transient(format!("{} within {} s", cannot_connect(endpoint), CONNECT_TIMEOUT.as_secs()))
}

/// Tells the operator what failed, without any value that the server quoted from a row.
#[expect(clippy::needless_pass_by_value, reason = "it ends here, and `map_err` hands it over")]
pub fn failed(what: &str, error: tokio_postgres::Error) -> Error {
    let Some(reported) = error.as_db_error() else {
        let lost = error.is_closed()
            || error.source().is_some_and(<dyn std::error::Error>::is::<io::Error>)
            || error.to_string().contains("timed out");
        let mut text = format!("{what}: {error}");
        let mut cause = error.source();
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        return if lost { Error::transient(text) } else { Error::fatal(text) };
    };
    let code = reported.code();
    // Messages of class 22 quote the value that was wrong; so may those of checks written by the owner.
    let quotes_values = code.code().starts_with("22") || code.code().starts_with("P0");
    let mut text = if quotes_values {
        format!("{what}: the server refused a value, SQLSTATE {}", code.code())
    } else {
        format!("{what}: {} (SQLSTATE {})", reported.message(), code.code())
    };
    for (label, name) in
        [("table", reported.table()), ("column", reported.column()), ("constraint", reported.constraint())]
    {
        if let Some(name) = name {
            text = format!("{text}, {label} {name:?}");
        }
    }
    // A standby where the primary was; a fence of Headgate's refuses by the same state, in a function.
    let reader = *code == SqlState::READ_ONLY_SQL_TRANSACTION && reported.routine() != Some("exec_stmt_raise");
    let error = if reader || is_transient(code) { Error::transient(text) } else { Error::fatal(text) };
    match remedy(code).or(reader.then_some(READER_REMEDY)) {
        Some(remedy) => error.remedy(remedy),
        None => error,
    }
}

/// Refuses, for now, a server that takes no writes: where an endpoint follows the primary, that comes a moment later.
pub(super) async fn refuse_standby(session: &Client, endpoint: &Endpoint) -> Result<()> {
    let cannot = |error| failed("cannot see whether a server is a standby", error);
    let row = session.query_one("SELECT pg_catalog.pg_is_in_recovery()", &[]).await.map_err(cannot)?;
    if row.try_get(0).map_err(cannot)? {
        return Err(Error::transient(format!("{endpoint:?} is a standby, which takes no writes")).remedy(READER_REMEDY));
    }
    Ok(())
}

/// Whether the same statement may succeed on a new connection or at another time: lost connections (08), sessions that the server
/// ended because of the age of a transaction (25P03, 25P04), conflicts (40), no room, memory or connections (53), locks
/// (55P03), and what operators and a restart do (57).
pub fn is_transient(code: &SqlState) -> bool {
    // The database was dropped.
    const LASTS: [&str; 1] = ["57P04"];
    const AGE: [&str; 2] = ["25P03", "25P04"];
    let text = code.code();
    *code == SqlState::LOCK_NOT_AVAILABLE
        || AGE.contains(&text)
        || ["08", "53", "57"].iter().any(|class| text.starts_with(class)) && !LASTS.contains(&text)
        || [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code)
}

/// What the operator can do where waiting is not enough.
fn remedy(code: &SqlState) -> Option<&'static str> {
    Some(match code.code() {
        "53100" => "make room on that server's disk; Headgate tries again by itself",
        "53200" => "give that server more memory or less to do; Headgate tries again by itself",
        "53300" => "end sessions on that server or raise max_connections; Headgate tries again by itself",
        _ => return None,
    })
}

/// Where the role may, has the session count as a replica's: ordinary triggers, event triggers among them, do not fire, and
/// foreign keys are not looked at. Tells whether it may.
pub async fn as_replica(session: &Client) -> Result<bool> {
    let setting = "SET session_replication_role = replica";
    match session.batch_execute(setting).await {
        Ok(()) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(false),
        Err(error) => Err(failed("cannot set session_replication_role", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, SqlState, is_transient};

    #[test]
    fn trouble_that_passes_is_told_from_trouble_that_stays() {
        for passes in [
            "08006", "40001", "40P01", "53000", "53100", "53200", "53300", "53400", "55P03", "57014", "57P01", "57P02",
            "57P03", "57P05", "25P03", "25P04",
        ] {
            assert!(is_transient(&SqlState::from_code(passes)), "{passes}");
        }
        for stays in ["23505", "25006", "42501", "42P01", "57P04", "22P02", "55000"] {
            assert!(!is_transient(&SqlState::from_code(stays)), "{stays}");
        }
    }

    #[test]
    fn an_endpoint_never_shows_its_password() {
        let endpoint = Endpoint {
            host: "db".into(),
            port: 5432,
            user: "mover".into(),
            password: Some("s3cret".into()),
            tls: transport::Tls::disabled(),
            proxy_protocol: false,
            database: "shop".into(),
        };
        assert_eq!(format!("{endpoint:?}"), "mover@db:5432/shop");
    }
}
