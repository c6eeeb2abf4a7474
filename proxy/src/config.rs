//! The configuration file: read and validated as a whole, with every problem told, before the first socket opens.

mod keys;
mod nearest;
mod reader;
mod secret;
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

/// PostgreSQL's own limit for a name; a longer one would be cut by the server.
const NAME_BYTES_MAX: usize = 63;

/// PostgreSQL refuses frames of one GiB and above.
const FRAME_BYTES_LIMIT: u64 = 1 << 30;

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
}

/// The login's settings.
#[derive(Clone, Debug)]
pub struct Login {
    /// How applications prove who they are.
    pub method: Method,
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
    pub stream_patience: Duration,
}

impl Config {
    /// Reads the file, with `${NAME}` from the process's environment.
    pub fn read(path: &Path) -> Result<Self, Vec<Problem>> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            vec![Problem {
                key: path.display().to_string(),
                line: None,
                text: format!("cannot be read: {error}"),
            }]
        })?;
        Self::parse(&text, &|name| std::env::var(name).ok())
    }

    /// Reads a text; `env` answers for `${NAME}`. Fails with every problem that there is.
    pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader::new(text, env);
        if !reader.problems.is_empty() {
            return Err(reader.problems);
        }
        let config = take_config(&mut reader);
        let problems = reader.finish();
        config.filter(|_| problems.is_empty()).ok_or(problems)
    }
}

fn take_config(reader: &mut Reader<'_>) -> Option<Config> {
    // Every part is read before any is missed, so that all problems are told.
    let listen = take_listen(reader);
    let http = take_http(reader);
    let admin = take_admin(reader);
    let clusters = take_clusters(reader);
    let engine = take_engine(reader, &clusters);
    let routes = take_routes(reader);
    let login = take_login(reader);
    let users = take_users(reader, login.as_ref().map(|login| login.method));
    let limits = take_limits(reader);
    let journal = reader
        .take(&["journal", "path"], path)
        .map(|path| Journal { path });
    let migrator = take_migrator(reader);
    if let (Some(listen), Some(http)) = (&listen, &http)
        && listen.address == http.address
        && listen.address.port() != 0
    {
        let text = format!(
            "{} is taken by listen.address; write another port",
            http.address
        );
        let line = reader.line(&["http"]);
        reader.complain(&["http", "address"], line, text);
    }
    Some(Config {
        listen: listen?,
        http,
        admin: admin?,
        engine: engine?,
        clusters,
        routes,
        login: login?,
        users,
        limits: limits?,
        journal: journal?,
        migrator: migrator?,
    })
}

fn take_listen(reader: &mut Reader<'_>) -> Option<Listen> {
    let address = reader.take(&["listen", "address"], |text| text.parse().ok());
    let sessions_max = reader.take(&["listen", "sessions_max"], |text| {
        number(text, 1, 1_000_000)
    });
    let threads = reader.take(&["listen", "threads"], threads);
    Some(Listen {
        address: address?,
        sessions_max: sessions_max?,
        threads: threads?,
    })
}

/// A thread that shares its processor with others wakes at their pace, so that more threads than needed cost more and
/// carry less.
fn threads(text: &str) -> Option<NonZeroUsize> {
    if text == "auto" {
        let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        return Some(NonZeroUsize::new(processors.get() / 2).unwrap_or(NonZeroUsize::MIN));
    }
    NonZeroUsize::new(number(text, 1, 1024)?)
}

fn take_http(reader: &mut Reader<'_>) -> Option<Http> {
    let address = reader.take(&["http", "address"], |text| text.parse().ok());
    address.map(|address| Http { address })
}

fn take_admin(reader: &mut Reader<'_>) -> Option<Admin> {
    let user = reader.take(&["admin", "user"], name);
    let password = reader.take_secret(&["admin", "password"]);
    Some(Admin {
        user: user?,
        password: password?,
    })
}

fn take_clusters(reader: &mut Reader<'_>) -> BTreeMap<String, Cluster> {
    let mut clusters = BTreeMap::new();
    for section in reader.names("clusters") {
        let at = |key| ["clusters", section.as_str(), key];
        let engine = reader.take(&at("engine"), |text| match text {
            "postgres" => Some(Engine::Postgres),
            "mysql" | "mariadb" => Some(Engine::Mysql),
            _ => None,
        });
        let host = reader.take(&at("host"), host);
        let port = reader.take(&at("port"), |text| match text {
            "auto" => engine.map(Engine::default_port),
            text => number(text, 1, 65_535),
        });
        let user = reader.take(&at("user"), name);
        let password = reader.take_secret(&at("password"));
        check_name(reader, "clusters", &section);
        let cluster = (|| {
            Some(Cluster {
                engine: engine?,
                host: host?,
                port: port?,
                user: user?,
                password,
            })
        })();
        if let Some(cluster) = cluster {
            clusters.insert(section, cluster);
        }
    }
    if reader.names("clusters").is_empty() {
        reader.complain(
            &["clusters"],
            None,
            "names no cluster; write a section [clusters.NAME]",
        );
    }
    clusters
}

/// One port speaks one protocol: on MySQL's the server speaks first, on PostgreSQL's the client does.
fn take_engine(reader: &mut Reader<'_>, clusters: &BTreeMap<String, Cluster>) -> Option<Engine> {
    let engine = clusters.values().next()?.engine;
    if let Some((name, other)) = clusters.iter().find(|(_, one)| one.engine != engine) {
        let path = ["clusters", name.as_str(), "engine"];
        let line = reader.line(&path);
        let text = format!(
            "is {}, and other clusters are {}; run one Headgate for each engine",
            other.engine.word(),
            engine.word()
        );
        reader.complain(&path, line, text);
        return None;
    }
    Some(engine)
}

fn take_routes(reader: &mut Reader<'_>) -> BTreeMap<String, Route> {
    let known = reader.names("clusters");
    let mut routes = BTreeMap::new();
    for section in reader.names("routes") {
        let at = |key| ["routes", section.as_str(), key];
        let line = reader.line(&at("cluster"));
        let cluster = reader.take(&at("cluster"), |text| Some(text.to_owned()));
        let database = reader.take(&at("database"), name);
        check_name(reader, "routes", &section);
        if section == ADMIN_DATABASE {
            let line = reader.line(&["routes", &section]);
            let text = "is the admin console's name; name the route otherwise";
            reader.complain(&["routes", &section], line, text);
        }
        if let Some(cluster) = &cluster
            && !known.contains(cluster)
        {
            let text = if known.is_empty() {
                format!("{cluster:?} is not a cluster; write a section [clusters.{cluster}]")
            } else {
                format!(
                    "{cluster:?} is not a cluster; write one of {}",
                    known.join(", ")
                )
            };
            reader.complain(&at("cluster"), line, text);
        }
        if let (Some(cluster), Some(database)) = (cluster, database) {
            routes.insert(section, Route { cluster, database });
        }
    }
    routes
}

fn take_login(reader: &mut Reader<'_>) -> Option<Login> {
    let method = reader.take(&["login", "method"], |text| match text {
        "trust" => Some(Method::Trust),
        "scram-sha-256" => Some(Method::ScramSha256),
        _ => None,
    });
    Some(Login { method: method? })
}

fn take_users(reader: &mut Reader<'_>, method: Option<Method>) -> BTreeMap<String, User> {
    let mut users = BTreeMap::new();
    for section in reader.names("users") {
        let path = ["users", section.as_str(), "password"];
        let line = reader.line(&path);
        let password = reader.take_secret(&path);
        check_name(reader, "users", &section);
        if method == Some(Method::ScramSha256) && line.is_none() {
            let text = "is missing, and login.method is scram-sha-256; write it, or use trust";
            reader.complain(&path, None, text);
        }
        users.insert(section, User { password });
    }
    if method == Some(Method::ScramSha256) && users.is_empty() && !reader.names("routes").is_empty()
    {
        let text = "names no user, and login.method is scram-sha-256; write a section [users.NAME] with a password";
        reader.complain(&["users"], None, text);
    }
    users
}

fn take_limits(reader: &mut Reader<'_>) -> Option<Limits> {
    let at = |key| ["limits", key];
    let frame = reader.take(&at("frame_bytes_max"), |text| {
        size(text, 64 << 10, FRAME_BYTES_LIMIT)
    });
    let login = reader.take(&at("login_timeout"), reader::duration);
    let connect = reader.take(&at("connect_timeout"), reader::duration);
    let hold = reader.take(&at("hold_timeout"), reader::duration);
    let drain = reader.take(&at("drain_timeout"), reader::duration);
    Some(Limits {
        frame_bytes_max: usize::try_from(frame?).ok()?,
        login_timeout: login?,
        connect_timeout: connect?,
        hold_timeout: hold?,
        drain_timeout: drain?,
    })
}

fn take_migrator(reader: &mut Reader<'_>) -> Option<Migrator> {
    let at = |key| ["migrator", key];
    let pg_dump = reader.take(&at("pg_dump"), path);
    let pg_restore = reader.take(&at("pg_restore"), path);
    let copy_workers = reader.take(&at("copy_workers"), |text| number(text, 1, 64));
    let copy_chunk = reader.take(&at("copy_chunk"), |text| size(text, 1 << 20, 1 << 40));
    let check_workers = reader.take(&at("check_workers"), |text| number(text, 1, 64));
    let check_range = reader.take(&at("check_range_rows"), |text| {
        number(text, 100, 100_000_000)
    });
    let counter_gap = reader.take(&at("counter_gap"), |text| number(text, 0, 1_000_000_000));
    let patience = reader.take(&at("stream_patience"), reader::duration);
    Some(Migrator {
        pg_dump: pg_dump?,
        pg_restore: pg_restore?,
        copy_workers: copy_workers?,
        copy_chunk_bytes: copy_chunk?,
        check_workers: check_workers?,
        check_range_rows: check_range?,
        counter_gap: counter_gap?,
        stream_patience: patience?,
    })
}

fn check_name(reader: &mut Reader<'_>, section: &str, given: &str) {
    if name(given).is_none() {
        let line = reader.line(&[section, given]);
        reader.complain(
            &[section, given],
            line,
            "is not a name; write 1 to 63 bytes without NUL",
        );
    }
}

fn name(text: &str) -> Option<String> {
    let fits = !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.contains('\0');
    fits.then(|| text.to_owned())
}

fn host(text: &str) -> Option<String> {
    let fits = !text.is_empty()
        && text.len() <= 255
        && !text.contains(|c: char| c == '\0' || c.is_whitespace())
        && (text.starts_with('/') || !text.contains('/'));
    fits.then(|| text.to_owned())
}

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
}

fn number<T: TryFrom<i64>>(text: &str, least: i64, most: i64) -> Option<T> {
    let value = text
        .parse::<i64>()
        .ok()
        .filter(|value| (least..=most).contains(value))?;
    T::try_from(value).ok()
}

fn size(text: &str, least: u64, most: u64) -> Option<u64> {
    reader::bytes(text).filter(|bytes| (least..=most).contains(bytes))
}
