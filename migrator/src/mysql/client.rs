//! The only place that opens ordinary connections, and the one reading of the server's errors.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error as Failure, OptsBuilder};
use protocol::proxy_protocol::Header;
use transport::{Address, Keepalive, Password, Stream, Tls};
use zeroize::Zeroizing;

use super::session;
use crate::error::{Error, READER_REMEDY, Result, TLS_REMEDY};
use crate::mysql::refusal::ACCOUNT;

/// Where a server is and who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A host name or address, or the absolute path of the server's socket file.
    pub host: String,
    /// The port; unused with a socket.
    pub port: u16,
    /// The account to log in as.
    pub user: String,
    /// Its password, where the server asks for one.
    pub password: Option<Password>,
    /// What the connection must be.
    pub tls: Tls,
    /// Connections begin with a PROXY header, which calls them Headgate's own.
    pub proxy_protocol: bool,
    /// The database that moves, unless the settings name others.
    pub database: String,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }
}

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// MySQL, and what calls itself so.
    Mysql,
    /// MariaDB.
    Mariadb,
}

/// What a server says it is. Calendar versions such as 26.7 are later than 9.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Whose server it is.
    pub flavor: Flavor,
    /// Major, minor and patch numbers.
    pub number: (u16, u16, u16),
}

impl Version {
    /// Reads what `SELECT VERSION()` answers.
    pub fn parse(text: &str) -> Option<Self> {
        let flavor = if text.to_ascii_lowercase().contains("mariadb") { Flavor::Mariadb } else { Flavor::Mysql };
        // MariaDB used to hide behind this prefix from replicas that did not know it.
        let plain = text.strip_prefix("5.5.5-").unwrap_or(text);
        let mut parts = plain.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse::<u16>().ok());
        let number = (parts.next()??, parts.next()??, parts.next()??);
        Some(Self { flavor, number })
    }

    /// Whether it is MariaDB.
    pub fn is_mariadb(self) -> bool {
        self.flavor == Flavor::Mariadb
    }

    /// Whether the server can lock accounts (`ACCOUNT LOCK`).
    pub fn locks_accounts(self) -> bool {
        self.is_mysql_from(5, 7, 6) || self.is_mariadb() && self.number >= (10, 4, 2)
    }

    /// Whether it is MySQL of at least this version.
    pub fn is_mysql_from(self, major: u16, minor: u16, patch: u16) -> bool {
        self.flavor == Flavor::Mysql && self.number >= (major, minor, patch)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.number;
        let name = match self.flavor {
            Flavor::Mysql => "MySQL",
            Flavor::Mariadb => "MariaDB",
        };
        write!(formatter, "{name} {major}.{minor}.{patch}")
    }
}

/// How long opening a connection, login included, may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE: Keepalive =
    Keepalive { after: Duration::from_secs(15), every: Duration::from_secs(15), unheard_max: None };

impl Endpoint {
    /// The password as it is now.
    pub(super) async fn read_password(&self) -> Result<Option<Zeroizing<String>>> {
        crate::error::read_password(self.password.as_ref(), self).await
    }

    fn header(&self) -> Option<Header> {
        self.proxy_protocol.then_some(Header::Local)
    }

    /// Opens a connection, without a login. The driver takes none that is open: it opens its own.
    pub(super) async fn open(&self) -> io::Result<Stream> {
        let socket = self.host.starts_with('/').then(|| Path::new(&self.host));
        let address = Address { host: &self.host, port: self.port, socket, header: self.header() };
        transport::connect(address, CONNECT_TIMEOUT, &KEEPALIVE).await
    }
}

/// More than any server takes in one packet. Where the driver were to ask, a setting of the server could leave it without an
/// answer.
const PACKET_BYTES_MAX: usize = 1 << 30;
const IDLE_SECONDS_MAX: usize = 86_400;

/// Opens a session; `purpose` is told to the server as its `program_name`. It ends when it is dropped.
pub async fn connect(endpoint: &Endpoint, purpose: &str) -> Result<Conn> {
    connect_with(endpoint, options(endpoint, purpose)).await
}

fn options(endpoint: &Endpoint, purpose: &str) -> OptsBuilder {
    let options = OptsBuilder::default()
        .user(Some(&endpoint.user))
        .prefer_socket(false)
        .tcp_keepalive(Some(KEEPALIVE.after))
        .max_allowed_packet(Some(PACKET_BYTES_MAX))
        .wait_timeout(Some(IDLE_SECONDS_MAX))
        .connect_attributes([("program_name".to_owned(), format!("headgate {purpose}"))].into());
    if endpoint.host.starts_with('/') {
        options.socket(Some(&endpoint.host))
    } else {
        options.ip_or_hostname(&endpoint.host).tcp_port(endpoint.port)
    }
}

/// Whether this user can log in; the session is closed again.
pub async fn try_login(endpoint: &Endpoint, purpose: &str) -> Result<()> {
    let connecting = async {
        let session = open(endpoint, options(endpoint, purpose)).await?;
        let refused = |error| failed("the login was refused", error);
        session.map_err(refused)?.disconnect().await.map_err(refused)
    };
    tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .unwrap_or_else(|_| Err(Error::transient("the login was not answered in time")))
}

async fn connect_with(endpoint: &Endpoint, options: OptsBuilder) -> Result<Conn> {
    let connecting = async {
        let opened = open(endpoint, options).await?;
        let mut session = opened.map_err(|error| failed(&format!("cannot connect to {endpoint:?}"), error))?;
        shed(&mut session).await?;
        Ok(session)
    };
    tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(late(endpoint)))
}

async fn open(endpoint: &Endpoint, options: OptsBuilder) -> Result<Result<Conn, Failure>> {
    let password = endpoint.read_password().await?;
    let options = options.pass(password.as_ref().map(|password| password.as_str()));
    Ok(transport::mysql::open(options, &endpoint.tls, endpoint.header()).await)
}

/// Gives a session that has just begun what it needs.
async fn shed(conn: &mut Conn) -> Result<()> {
    const WHAT: &str = "cannot set a session up";
    conn.query_drop(session::first()).await.map_err(|error| failed(WHAT, error))?;
    transport::mysql::activate_roles(conn).await.map_err(|error| failed(WHAT, error))?;
    let shown: Vec<(String, String)> = conn.query(session::rest()).await.map_err(|error| failed(WHAT, error))?;
    let odd: Vec<session::Odd> = shown.iter().filter_map(|(name, shown)| session::Odd::of(name, shown)).collect();
    if odd.is_empty() || conn.query_drop(session::statement(&odd)).await.is_ok() {
        return Ok(());
    }
    for one in &odd {
        if let Err(error) = conn.query_drop(session::statement([one])).await {
            let code = match &error {
                Failure::Server(reported) => reported.code,
                _ => 0,
            };
            let account: Option<String> = conn.query_first(ACCOUNT).await.unwrap_or_default();
            let refusal = one.refused(code, failed(WHAT, error), &account.unwrap_or_default());
            if let Some(refusal) = refusal {
                return Err(refusal);
            }
        }
    }
    Ok(())
}

/// A connection that was not there in time.
pub(super) fn late(endpoint: &Endpoint) -> Error {
    Error::transient(format!("cannot connect to {endpoint:?} within {} s", CONNECT_TIMEOUT.as_secs()))
}

/// What the server at the other end says it is.
pub async fn version(session: &mut Conn) -> Result<Version> {
    let reported: Option<String> = session
        .query_first("SELECT VERSION()")
        .await
        .map_err(|error| failed("cannot ask the server's version", error))?;
    let reported = reported.unwrap_or_default();
    Version::parse(&reported).ok_or_else(|| Error::fatal(format!("the server calls its version {reported:?}")))
}

/// Tells the operator what failed, without any value that the server quoted from a row.
#[expect(clippy::needless_pass_by_value, reason = "it ends here, and `map_err` hands it over")]
pub fn failed(what: &str, error: Failure) -> Error {
    match &error {
        Failure::Server(reported) => {
            let text = if quotes_values(reported.code) {
                format!("{what}: the server refused a value, error {} ({})", reported.code, reported.state)
            } else {
                format!("{what}: {} (error {}, {})", reported.message, reported.code, reported.state)
            };
            // A replica where the primary was, whatever keeps it from writing: the option is named in the message.
            let reader = reported.code == READ_ONLY_MODE
                || reported.code == OPTION_PREVENTS
                    && ["read-only", "read_only"].iter().any(|name| text.contains(name));
            let transient = reader || is_transient(reported.code);
            let error = if transient { Error::transient(text) } else { Error::fatal(text) };
            match remedy(reported.code).or(reader.then_some(READER_REMEDY)) {
                Some(remedy) => error.remedy(remedy),
                None => error,
            }
        }
        // It stays so until somebody looks at it.
        untrusted if transport::mysql::is_not_trusted(untrusted) => {
            Error::fatal(format!("{what}: {error}")).remedy(TLS_REMEDY)
        }
        Failure::Driver(DriverError::UnknownAuthPlugin { .. } | DriverError::CleartextPluginDisabled) => {
            Error::fatal(format!("{what}: {error}")).remedy(PLUGIN_REMEDY)
        }
        Failure::Io(_) | Failure::Driver(DriverError::ConnectionClosed) => Error::transient(format!("{what}: {error}")),
        _ => Error::fatal(format!("{what}: {error}")),
    }
}

/// What to do where the server asks for a login plugin that is not ours.
pub(super) const PLUGIN_REMEDY: &str = "give Headgate's account one of these login plugins: caching_sha2_password, mysql_native_password, \
     ed25519 (MariaDB)";

/// `ER_READ_ONLY_MODE`.
const READ_ONLY_MODE: u16 = 1836;
/// `ER_OPTION_PREVENTS_STATEMENT`.
const OPTION_PREVENTS: u16 = 1290;

/// Refuses, for now, a server that takes no writes: where an endpoint follows the primary, that comes a moment later.
/// `read_only` alone may be Headgate's own fence where `may_be_fenced`; it stops nobody who has the right to pass it, whose
/// writes to a replica would be lost.
pub async fn refuse_reader(session: &mut Conn, endpoint: &Endpoint, may_be_fenced: bool) -> Result<()> {
    let read: Option<(Option<u8>, Option<u8>)> = session
        .query_first("SELECT @@GLOBAL.innodb_read_only = 1, @@GLOBAL.read_only = 1")
        .await
        .map_err(|error| failed("cannot see whether a server takes writes", error))?;
    let (innodb, all) = read.unwrap_or_default();
    let reason = match (innodb, all) {
        (Some(1), _) => "innodb_read_only",
        (_, Some(1)) if !may_be_fenced => "read_only",
        _ => return Ok(()),
    };
    Err(Error::transient(format!("{endpoint:?} takes no writes: {reason} is ON")).remedy(READER_REMEDY))
}

/// Duplicate entries, bad and truncated values, and what a SIGNAL of the owner says.
fn quotes_values(code: u16) -> bool {
    matches!(
        code,
        1062 | 1169 | 1264 | 1265 | 1292 | 1366 | 1367 | 1406 | 1411 | 1525 | 1586 | 1644 | 3140..=3158 | 3819
    )
}

/// Whether the same statement may succeed on a new connection or at another time.
pub fn is_transient(code: u16) -> bool {
    matches!(
        code,
        // Disk full, out of memory, a table's or a temporary file's room: waited for until there is some.
        1021 | 1037 | 1038 | 1041 | 1114 | 1135
        // The log was read while its last event was being written.
        | 1220
        // Too many connections, shutdown, lock waits and deadlocks, killed, too old or too long idle, lost, starting up.
        | 1040 | 1053 | 1077 | 1079 | 1129 | 1152 | 1158
            ..=1161 | 1203 | 1205 | 1213 | 1226 | 1317 | 1927 | 1969 | 2006 | 2013 | 3024 | 3168 | 3169 | 4031
    )
}

/// What the operator can do where waiting is not enough.
fn remedy(code: u16) -> Option<&'static str> {
    Some(match code {
        1021 | 1114 => "make room on that server's disk; Headgate tries again by itself",
        1037 | 1038 | 1041 | 1135 => "give that server more memory or less to do; Headgate tries again by itself",
        1040 | 1203 | 1226 => {
            "end sessions on that server or raise its limits (max_connections, max_user_connections); \
             Headgate tries again by itself"
        }
        1153 => "raise max_allowed_packet on that server, and start the migration again",
        1197 => {
            "a transaction is larger than that server's binary log takes: raise max_binlog_cache_size there, and start the \
             migration again"
        }
        1180 | 3100 => {
            "where a transaction is larger than the servers that replicate from one another take, raise the limit \
             (group_replication_transaction_size_limit, wsrep_max_ws_size, wsrep_max_ws_rows), and start the migration again"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Flavor, Version, is_transient};

    #[test]
    fn trouble_that_passes_is_told_from_trouble_that_stays() {
        for passes in [1021, 1040, 1053, 1114, 1203, 1205, 1213, 1220, 1317, 1927, 1969, 2013, 3024, 4031] {
            assert!(is_transient(passes), "{passes}");
        }
        for stays in [1045, 1062, 1064, 1142, 1146, 1236, 1290, 1366] {
            assert!(!is_transient(stays), "{stays}");
        }
    }

    #[test]
    fn an_endpoint_never_shows_its_password() {
        let endpoint = Endpoint {
            host: "db".into(),
            port: 3306,
            user: "mover".into(),
            password: Some("s3cret".into()),
            tls: transport::Tls::disabled(),
            proxy_protocol: false,
            database: "shop".into(),
        };
        assert_eq!(format!("{endpoint:?}"), "mover@db:3306/shop");
    }

    #[test]
    fn versions_of_both_families_are_read_and_ordered() {
        let read = |text| Version::parse(text).expect(text);
        assert_eq!(read("9.7.4-2").number, (9, 7, 4));
        let mariadb = read("5.5.5-10.11.19-MariaDB-0+deb12u1-log");
        assert_eq!((mariadb.flavor, mariadb.number), (Flavor::Mariadb, (10, 11, 19)));
        assert!(!mariadb.is_mysql_from(5, 6, 0));
        assert!(read("26.7.0").is_mysql_from(9, 7, 0));
        assert!(Version::parse("a server").is_none());
    }
}
