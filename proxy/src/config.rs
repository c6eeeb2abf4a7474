//! The configuration file: read and validated as a whole, with every problem told, before the first socket opens.

mod keys;
mod nearest;
mod reader;
mod secret;
mod sections;
mod shown;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use keys::{Key, reference};
pub use nearest::nearest;
pub use reader::{Problem, bytes as parse_bytes, duration as parse_duration};
pub use secret::Secret;

use reader::Reader;

/// The database name of the admin console; no route can have it.
pub const ADMIN_DATABASE: &str = "headgate";

/// Everything that the operator decides.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where applications connect.
    pub listen: Listen,
    /// Where metrics are served, if anywhere.
    pub http: Option<Http>,
    /// Who may use the admin console.
    pub admin: Admin,
    /// What kind of server all clusters are.
    pub engine: Engine,
    /// The servers, by name.
    pub clusters: BTreeMap<String, Cluster>,
    /// What applications name as their database.
    pub routes: BTreeMap<String, Route>,
    /// The cluster of every database that no route names: `[routes."*"]`.
    pub default_route: Option<String>,
    /// How applications prove who they are.
    pub login: Login,
    /// Who they are.
    pub users: BTreeMap<String, User>,
    /// Bounds of sizes and waits.
    pub limits: Limits,
    /// Where migrations are remembered.
    pub journal: Journal,
    /// How migrations go about it.
    pub migrator: Migrator,
}

/// The listener.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The address and port; port 0 takes any free one.
    pub address: SocketAddr,
    /// Client sessions at the same time.
    pub sessions_max: usize,
    /// Threads that serve sessions.
    pub threads: NonZeroUsize,
    /// The certificate that clients are shown.
    pub tls: Option<TlsFiles>,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those that it was signed with.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The HTTP listener.
#[derive(Clone, Debug)]
pub struct Http {
    /// The address and port; port 0 takes any free one.
    pub address: SocketAddr,
}

/// The admin console's account.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The user's name.
    pub user: String,
    /// Asked for under every login method.
    pub password: Secret,
}

/// What kind of server a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// MySQL or MariaDB; which of them, and which version, the server says itself.
    Mysql,
}

impl Engine {
    /// The word in the configuration and in SHOW CLUSTERS.
    pub fn word(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
        }
    }

    /// The port that its servers listen on unless told otherwise.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
            Self::Mysql => 3306,
        }
    }
}

/// One database server that Headgate can reach.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// What kind of server it is.
    pub engine: Engine,
    /// A name, an IP address, or an absolute path: of a socket folder for PostgreSQL, of the socket for MySQL.
    pub host: String,
    /// The port, also for a socket folder.
    pub port: u16,
    /// The migrator's account.
    pub user: String,
    /// The migrator's password.
    pub password: Option<Secret>,
}

impl Cluster {
    /// The Unix socket that an absolute path as host names: PostgreSQL's is in that folder and named after the port,
    /// MySQL's is the path itself.
    pub fn socket(&self) -> Option<PathBuf> {
        let path = self.host.starts_with('/').then(|| Path::new(&self.host))?;
        Some(match self.engine {
            Engine::Postgres => path.join(format!(".s.PGSQL.{}", self.port)),
            Engine::Mysql => path.to_owned(),
        })
    }
}

/// One database name that applications use.
#[derive(Clone, Debug)]
pub struct Route {
    /// The cluster that serves it until a cutover moves it.
    pub cluster: String,
    /// The database's name there.
    pub database: String,
}

/// How applications prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// They need not; the cluster decides.
    Trust,
    /// By SCRAM-SHA-256 against the users of the configuration.
    ScramSha256,
    /// As the cluster's own accounts have it.
    Accounts,
}

impl Method {
    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::ScramSha256 => "scram-sha-256",
            Self::Accounts => "accounts",
        }
    }
}

/// The login's settings.
#[derive(Clone, Debug)]
pub struct Login {
    /// How applications prove who they are.
    pub method: Method,
    /// Whether the passwords that clients prove are kept in memory for a migration that needs them.
    pub capture_passwords: bool,
}

/// One application user.
#[derive(Clone, Debug)]
pub struct User {
    /// For the client's login and for the server's question.
    pub password: Option<Secret>,
}

/// Bounds of sizes and waits.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest frame of either side.
    pub frame_bytes_max: usize,
    /// From a client's first byte to the end of its login.
    pub login_timeout: Duration,
    /// To reach a cluster and log in there.
    pub connect_timeout: Duration,
    /// The longest that one statement is ever held.
    pub hold_timeout: Duration,
    /// How long a shutdown waits for open transactions.
    pub drain_timeout: Duration,
}

/// Where migrations are remembered.
#[derive(Clone, Debug)]
pub struct Journal {
    /// The folder; made if it is missing.
    pub path: PathBuf,
}

/// How migrations go about it, unless a migration says otherwise.
#[derive(Clone, Debug)]
pub struct Migrator {
    /// The program that writes the schema.
    pub pg_dump: PathBuf,
    /// The program that reads the schema.
    pub pg_restore: PathBuf,
    /// Connections per side that copy at the same time.
    pub copy_workers: usize,
    /// Big tables are copied in ranges of about this size.
    pub copy_chunk_bytes: u64,
    /// Connections per side that compute digests at the same time.
    pub check_workers: usize,
    /// Rows per compared range.
    pub check_range_rows: u64,
    /// How far past the source's counters the target's are set.
    pub counter_gap: i64,
    /// How long the start of the change stream waits for open transactions.
    pub slot_create_timeout: Duration,
}

/// The key of a problem that is not one key's; who knows the file's name puts it there.
const WHOLE_FILE: &str = "headgate.toml";

impl Config {
    /// Reads the file, with `${NAME}` from the process's environment.
    pub fn read(path: &Path) -> Result<Self, Vec<Problem>> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            vec![Problem { key: path.display().to_string(), line: None, text: format!("cannot be read: {error}") }]
        })?;
        Self::parse(&text, &|name| std::env::var(name).ok()).map_err(|mut problems| {
            for problem in &mut problems {
                if problem.key == WHOLE_FILE {
                    problem.key = path.display().to_string();
                }
            }
            problems
        })
    }

    /// Reads a text; `env` answers for `${NAME}`. Fails with every problem that there is.
    pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader::new(text, env);
        if !reader.problems.is_empty() {
            return Err(reader.problems);
        }
        let config = sections::take_config(&mut reader);
        let problems = reader.finish();
        config.filter(|_| problems.is_empty()).ok_or(problems)
    }
}
