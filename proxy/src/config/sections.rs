//! The sections of the file, one after the other, and what must hold between keys.

use std::collections::BTreeMap;

use super::keys::{Admin, Cluster, Http, Journal, Limits, Listen, Login, Migrator, Route, User};
use super::kinds::{CLUSTER_NAME, ENGINE, PEM, name};
use super::reader::Reader;
use super::section::Section;
use super::{ADMIN_DATABASE, Config, Engine, Method, TlsDemand};
use transport::tls::{File, Mode, Wrong};

use crate::tls::{self, Files};

pub(super) fn take_config(reader: &mut Reader<'_>) -> Option<Config> {
    // Every part is read before any is missed, so that all problems are told.
    let http = Http::take(reader, "");
    let admin = Admin::take(reader, "");
    let clusters = take_clusters(reader);
    let engine = take_engine(reader, &clusters);
    reader.context.engine = engine;
    let listen = take_listen(reader, engine);
    let mut routes = take_routes(reader);
    let default_route = take_default_route(reader, &mut routes);
    let login = take_login(reader, engine);
    let certificates = listen.as_ref().is_some_and(|listen| listen.tls_client_ca.is_some());
    let users = take_users(reader, login.as_ref().map(|login| login.method), certificates);
    let limits = Limits::take(reader, "");
    let journal = Journal::take(reader, "");
    let migrator = Migrator::take(reader, "");
    if let (Some(listen), Some(Http { address: Some(address) })) = (&listen, &http)
        && listen.address == *address
        && address.port() != 0
    {
        let text = format!("{address} is taken by listen.address; write another port");
        let line = reader.line(&["http"]);
        reader.complain(&["http", "address"], line, text);
    }
    Some(Config {
        listen: listen?,
        http: http?,
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
    const KEYS: [&str; 3] = ["tls_certificate", "tls_key", "tls_client_ca"];
    let at = |file: usize| ["listen", KEYS[file]];
    let lines = [0, 1, 2].map(|file| reader.line(&at(file)));
    let files = [0, 1, 2].map(|file| reader.peek(&at(file), &PEM).flatten());
    let listen = Listen::take(reader, "");
    if engine == Some(Engine::Mysql) && lines[2].is_some() {
        let text = "is set, and only PostgreSQL's clients are asked for certificates; remove it";
        reader.complain(&at(2), lines[2], text);
        return listen;
    }
    if lines[0].is_some() != lines[1].is_some() {
        let (missing, there) = if lines[0].is_some() { (1, 0) } else { (0, 1) };
        let text = format!("is missing, and {} is set; write both", at(there).join("."));
        reader.complain(&at(missing), None, text);
    }
    if let Some(listen) = &listen {
        let demand = listen.tls.word();
        let offers = match listen.tls {
            TlsDemand::Off => false,
            TlsDemand::Auto => lines[0].is_some(),
            TlsDemand::Allow | TlsDemand::Require => true,
        };
        if lines[2].is_some() && !offers {
            let text = format!("is set, and listen.tls is {demand}, so that clients are not offered TLS");
            reader.complain(&at(2), lines[2], text);
        }
    }
    let [certificate, key, clients] = files;
    let files = Files { own: certificate.zip(key), clients };
    if files != Files::default()
        && let Err((what, text)) = tls::check(&files)
    {
        let file = match what {
            tls::File::Certificate => 0,
            tls::File::Key => 1,
            tls::File::Clients => 2,
        };
        reader.complain(&at(file), lines[file], text);
    }
    listen
}

fn take_clusters(reader: &mut Reader<'_>) -> BTreeMap<String, Cluster> {
    let mut clusters = BTreeMap::new();
    for section in reader.names("clusters") {
        reader.context.engine = reader.peek(&["clusters", &section, "engine"], &ENGINE);
        let lines = TLS_FILES.map(|key| reader.line(&["clusters", &section, key]));
        let password = reader.line(&["clusters", &section, "password"]);
        let proxied = reader.line(&["clusters", &section, "proxy_protocol"]);
        let cluster = Cluster::take(reader, &section);
        check_name(reader, "clusters", &section);
        if let Some(cluster) = &cluster {
            check_tls(reader, &section, cluster, lines);
            if cluster.proxy_protocol && cluster.socket().is_some() {
                let text = "is true, and host is a Unix socket, which has no addresses to tell; write a host name and a port, or \
                            remove it";
                reader.complain(&["clusters", &section, "proxy_protocol"], proxied, text);
            }
            if cluster.password.is_some() && cluster.password_command.is_some() {
                let text = "is set, and so is password_command; write one of them";
                reader.complain(&["clusters", &section, "password"], password, text);
            }
        }
        if let Some(cluster) = cluster {
            clusters.insert(section, cluster);
        }
    }
    if reader.names("clusters").is_empty() {
        reader.complain(&["clusters"], None, "names no cluster; write a section [clusters.NAME]");
    }
    clusters
}

/// The keys that name files, in the order of `check_tls`.
const TLS_FILES: [&str; 3] = ["tls_ca", "tls_certificate", "tls_key"];

/// Whether the files of a cluster's TLS are there, fit one another, and are looked at.
fn check_tls(reader: &mut Reader<'_>, section: &str, cluster: &Cluster, lines: [Option<usize>; 3]) {
    let at = |file: usize| ["clusters", section, TLS_FILES[file]];
    let given = [&cluster.tls_ca, &cluster.tls_certificate, &cluster.tls_key].map(Option::is_some);
    let mode = cluster.tls.word();
    if given[0] && !cluster.tls.verifies() {
        let text = format!("is set, and tls is {mode}, which trusts everybody; write verify-ca or verify-full");
        reader.complain(&at(0), lines[0], text);
        return;
    }
    if cluster.engine == Engine::Mysql && cluster.tls == Mode::VerifyCa {
        let text = "is verify-ca, and the driver of MySQL's and MariaDB's SQL looks at the host's name all the same; write \
                    verify-full, for which the certificate needs the host among its alternative names, or require";
        reader.complain(&["clusters", section, "tls"], None, text);
        return;
    }
    if given[1] && cluster.tls == Mode::Disable {
        reader.complain(&at(1), lines[1], format!("is set, and tls is {mode}; remove it"));
        return;
    }
    if given[1] != given[2] {
        let (missing, there) = if given[1] { (2, 1) } else { (1, 2) };
        let text = format!("is missing, and {} is set; write both", at(there).join("."));
        reader.complain(&at(missing), None, text);
        return;
    }
    if let Some(Wrong { file, text }) = cluster.tls().problem() {
        let file = match file {
            File::Authorities => 0,
            File::Certificate => 1,
            File::Key => 2,
        };
        reader.complain(&at(file), lines[file], text.clone());
    }
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
        let at = ["routes", section.as_str(), "cluster"];
        let line = reader.line(&at);
        // What is wrong with the cluster's name is told even where the route is not read.
        let cluster = reader.peek(&at, &CLUSTER_NAME);
        let route = Route::take(reader, &section);
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
            reader.complain(&at, line, text);
        }
        if let Some(route) = route {
            routes.insert(section, route);
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
    let users = reader.names("users");
    reader.context.knows_passwords = users.iter().any(|user| reader.line(&["users", user, "password"]).is_some());
    let at = ["login", "method"];
    let (line, query) = (reader.line(&at), reader.line(&["login", "auth_query"]));
    let login = Login::take(reader, "");
    if let (Some(login), Some(engine)) = (&login, engine)
        && engine == Engine::Mysql
        && login.method != Method::Accounts
    {
        let text = format!("is {}, which {} clusters do not have; leave it out", login.method.word(), engine.word());
        reader.complain(&at, line, text);
    }
    if let (Some(Login { auth_query: Some(_), .. }), Some(Engine::Mysql)) = (&login, engine) {
        let text = "is set, and MySQL's accounts are read from mysql.user; remove it";
        reader.complain(&["login", "auth_query"], query, text);
    }
    login
}

fn take_users(reader: &mut Reader<'_>, method: Option<Method>, certificates: bool) -> BTreeMap<String, User> {
    let mut users = BTreeMap::new();
    for section in reader.names("users") {
        let path = ["users", section.as_str(), "password"];
        let line = reader.line(&path);
        let user = User::take(reader, &section);
        check_name(reader, "users", &section);
        let by_certificate = user.as_ref().is_some_and(|user| user.certificate.is_some());
        if by_certificate && !certificates {
            let at = ["users", section.as_str(), "certificate"];
            let text = "is set, and nobody's certificate is looked at: write listen.tls_client_ca";
            reader.complain(&at, None, text);
        }
        if method == Some(Method::ScramSha256) && line.is_none() && !by_certificate {
            let text = "is missing, and login.method is scram-sha-256; write it, or use trust";
            reader.complain(&path, None, text);
        }
        users.extend(user.map(|user| (section, user)));
    }
    if method == Some(Method::ScramSha256) && reader.names("users").is_empty() && !reader.names("routes").is_empty() {
        let text = "names no user, and login.method is scram-sha-256; write a section [users.NAME] with a password";
        reader.complain(&["users"], None, text);
    }
    users
}

fn check_name(reader: &mut Reader<'_>, section: &str, given: &str) {
    if name(given).is_none() {
        let line = reader.line(&[section, given]);
        reader.complain(&[section, given], line, "is not a name; write 1 to 63 bytes without NUL");
    }
}
