//! The sections of the file, one after the other: what each key becomes, and what must hold between keys.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::reader::{Reader, bytes, duration};
use super::{
    ADMIN_DATABASE, Admin, Cluster, Config, Engine, Http, Journal, Limits, Listen, Login, Method, Migrator, Route,
    TlsFiles, User,
};
use crate::tls;

/// PostgreSQL's own limit for a name; a longer one would be cut by the server.
const NAME_BYTES_MAX: usize = 63;

/// PostgreSQL refuses frames of one GiB and above.
const FRAME_BYTES_LIMIT: u64 = 1 << 30;

pub(super) fn take_config(reader: &mut Reader<'_>) -> Option<Config> {
    // Every part is read before any is missed, so that all problems are told.
    let http = take_http(reader);
    let admin = take_admin(reader);
    let clusters = take_clusters(reader);
    let engine = take_engine(reader, &clusters);
    let listen = take_listen(reader, engine);
    let mut routes = take_routes(reader);
    let default_route = take_default_route(reader, &mut routes);
    let login = take_login(reader, engine);
    let users = take_users(reader, login.as_ref().map(|login| login.method));
    let limits = take_limits(reader);
    let journal = reader.take(&["journal", "path"], path).map(|path| Journal { path });
    let migrator = take_migrator(reader);
    if let (Some(listen), Some(http)) = (&listen, &http)
        && listen.address == http.address
        && listen.address.port() != 0
    {
        let text = format!("{} is taken by listen.address; write another port", http.address);
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
        default_route,
        login: login?,
        users,
        limits: limits?,
        journal: journal?,
        migrator: migrator?,
    })
}

fn take_listen(reader: &mut Reader<'_>, engine: Option<Engine>) -> Option<Listen> {
    let address = reader.take(&["listen", "address"], |text| text.parse().ok());
    let sessions_max = reader.take(&["listen", "sessions_max"], |text| number(text, 1, 1_000_000));
    let threads = reader.take(&["listen", "threads"], threads);
    let tls = take_tls(reader, engine);
    Some(Listen { address: address?, sessions_max: sessions_max?, threads: threads?, tls })
}

fn take_tls(reader: &mut Reader<'_>, engine: Option<Engine>) -> Option<TlsFiles> {
    let paths = [["listen", "tls_certificate"], ["listen", "tls_key"]];
    let lines = paths.map(|at| reader.line(&at));
    let files = paths.map(|at| reader.take(&at, path));
    let first = usize::from(lines[0].is_none());
    lines[first]?;
    if engine == Some(Engine::Postgres) {
        let text = "is set, and only MySQL's clients are offered TLS; remove it";
        reader.complain(&paths[first], lines[first], text);
        return None;
    }
    if lines[1 - first].is_none() {
        let text = format!("is missing, and {} is set; write both", paths[first].join("."));
        reader.complain(&paths[1 - first], None, text);
    }
    let [certificate, key] = files;
    let files = TlsFiles { certificate: certificate?, key: key? };
    if let Err((what, text)) = tls::check(&files) {
        let at = match what {
            tls::File::Certificate => 0,
            tls::File::Key => 1,
        };
        reader.complain(&paths[at], lines[at], text);
    }
    Some(files)
}

fn threads(text: &str) -> Option<NonZeroUsize> {
    if text == "auto" {
        let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        return Some(processors);
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
    Some(Admin { user: user?, password: password? })
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
        let cluster = (|| Some(Cluster { engine: engine?, host: host?, port: port?, user: user?, password }))();
        if let Some(cluster) = cluster {
            clusters.insert(section, cluster);
        }
    }
    if reader.names("clusters").is_empty() {
        reader.complain(&["clusters"], None, "names no cluster; write a section [clusters.NAME]");
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
                format!("{cluster:?} is not a cluster; write one of {}", known.join(", "))
            };
            reader.complain(&at("cluster"), line, text);
        }
        if let (Some(cluster), Some(database)) = (cluster, database) {
            routes.insert(section, Route { cluster, database });
        }
    }
    routes
}

/// The route of every other name is none by itself: it has no gate of its own.
fn take_default_route(reader: &mut Reader<'_>, routes: &mut BTreeMap<String, Route>) -> Option<String> {
    let route = routes.remove(ANY_ROUTE)?;
    if route.database != ANY_ROUTE {
        let at = ["routes", ANY_ROUTE, "database"];
        let line = reader.line(&at);
        let text = "is for one database; under routes.\"*\" each has its own name";
        reader.complain(&at, line, text);
    }
    Some(route.cluster)
}

/// The section whose route is for every name that has no section.
const ANY_ROUTE: &str = "*";

fn take_login(reader: &mut Reader<'_>, engine: Option<Engine>) -> Option<Login> {
    let at = ["login", "method"];
    let line = reader.line(&at);
    let is_mysql = engine == Some(Engine::Mysql);
    let method = reader.take(&at, |text| match text {
        "auto" if is_mysql => Some(Method::Accounts),
        "trust" => Some(Method::Trust),
        "auto" | "scram-sha-256" => Some(Method::ScramSha256),
        "accounts" => Some(Method::Accounts),
        _ => None,
    });
    if let (Some(method), Some(engine)) = (method, engine)
        && (method == Method::Accounts) != is_mysql
    {
        let text = format!("is {}, which {} clusters do not have; leave it out", method.word(), engine.word());
        reader.complain(&at, line, text);
    }
    let capture = reader.take(&["login", "capture_passwords"], |text| match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    });
    Some(Login { method: method?, capture_passwords: capture? })
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
    if method == Some(Method::ScramSha256) && users.is_empty() && !reader.names("routes").is_empty() {
        let text = "names no user, and login.method is scram-sha-256; write a section [users.NAME] with a password";
        reader.complain(&["users"], None, text);
    }
    users
}

fn take_limits(reader: &mut Reader<'_>) -> Option<Limits> {
    let at = |key| ["limits", key];
    let frame = reader.take(&at("frame_bytes_max"), |text| size(text, 64 << 10, FRAME_BYTES_LIMIT));
    let login = reader.take(&at("login_timeout"), duration);
    let connect = reader.take(&at("connect_timeout"), duration);
    let hold = reader.take(&at("hold_timeout"), duration);
    let drain = reader.take(&at("drain_timeout"), duration);
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
    let check_range = reader.take(&at("check_range_rows"), |text| number(text, 100, 100_000_000));
    let counter_gap = reader.take(&at("counter_gap"), |text| number(text, 0, 1_000_000_000));
    let limit = reader.take(&at("slot_create_timeout"), duration);
    Some(Migrator {
        pg_dump: pg_dump?,
        pg_restore: pg_restore?,
        copy_workers: copy_workers?,
        copy_chunk_bytes: copy_chunk?,
        check_workers: check_workers?,
        check_range_rows: check_range?,
        counter_gap: counter_gap?,
        slot_create_timeout: limit?,
    })
}

fn check_name(reader: &mut Reader<'_>, section: &str, given: &str) {
    if name(given).is_none() {
        let line = reader.line(&[section, given]);
        reader.complain(&[section, given], line, "is not a name; write 1 to 63 bytes without NUL");
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
    let value = text.parse::<i64>().ok().filter(|value| (least..=most).contains(value))?;
    T::try_from(value).ok()
}

fn size(text: &str, least: u64, most: u64) -> Option<u64> {
    bytes(text).filter(|bytes| (least..=most).contains(bytes))
}
