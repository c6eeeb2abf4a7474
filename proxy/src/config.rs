//! The configuration file: read and validated as a whole, with every problem told, before the first socket opens.

mod keys;
mod kinds;
mod nearest;
mod reader;
mod secret;
mod section;
mod sections;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use keys::{Admin, Cluster, Http, Journal, Limits, Listen, Login, Migrator, Route, User, reference};
pub use nearest::nearest;
pub use reader::{Problem, bytes as parse_bytes, duration as parse_duration};
pub use secret::Secret;
pub use section::{Change, DefaultValue, Key};

use reader::Reader;
use section::Section;
use transport::Password;
use transport::tls::{Settings, Tls};

use crate::tls;

/// The database name of the admin console; no route can have it.
pub const ADMIN_DATABASE: &str = "headgate";

/// Everything that the operator decides.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where applications connect.
    pub listen: Listen,
    /// Where metrics are served, if anywhere.
    pub http: Http,
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

/// Whether clients are to come by TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsDemand {
    /// As the engine's servers have it.
    Auto,
    /// They cannot.
    Off,
    /// They can.
    Allow,
    /// They must.
    Require,
}

impl TlsDemand {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Off, Self::Allow, Self::Require];

    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Off => "off",
            Self::Allow => "allow",
            Self::Require => "require",
        }
    }
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

impl Listen {
    /// The files of clients' TLS, as far as they are given.
    pub fn tls_files(&self) -> tls::Files {
        let own = self.tls_certificate.clone().zip(self.tls_key.clone());
        tls::Files { own, clients: self.tls_client_ca.clone() }
    }
}

impl Default for Migrator {
    fn default() -> Self {
        Self::take(&mut Reader::new("", &|_| None), "").expect("every key has a default that it accepts")
    }
}

impl Migrator {
    /// The keys that a migration may have of its own.
    pub fn options() -> impl Iterator<Item = &'static Key> + Clone {
        Self::KEYS.iter().filter(|key| key.change == Change::ByMigration)
    }

    /// Sets one of [`Migrator::options`] by its name; none where `name` is none of them. Fails with what is accepted.
    pub fn set_option(&mut self, name: &str, text: &str) -> Option<Result<(), &'static str>> {
        self.set(name, text)
    }
}

impl Cluster {
    /// The password of Headgate's own account there.
    pub fn own_password(&self) -> Option<Password> {
        let by_command = self.password_command.as_ref().map(|command| Password::command(command.reveal()));
        by_command.or_else(|| self.password.as_ref().map(Secret::for_connections))
    }

    /// The TLS of connections to it, with its files as they are now.
    pub fn tls(&self) -> Tls {
        Tls::new(Settings {
            mode: self.tls,
            authorities: self.tls_ca.clone(),
            certificate: self.tls_certificate.clone(),
            key: self.tls_key.clone(),
        })
    }

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

/// How applications prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// They need not; the cluster decides.
    Trust,
    /// By SCRAM-SHA-256 against the users of the configuration.
    ScramSha256,
    /// As the cluster's own accounts have it.
    Accounts,
    /// By their password, which the cluster judges: over TLS only.
    Password,
}

impl Method {
    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::ScramSha256 => "scram-sha-256",
            Self::Accounts => "accounts",
            Self::Password => "password",
        }
    }
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

    /// Every key with its value; secrets are only told to be there.
    pub fn entries(&self) -> Vec<(String, String)> {
        let mut entries = Vec::new();
        self.listen.show("", &mut entries);
        self.http.show("", &mut entries);
        self.admin.show("", &mut entries);
        self.clusters.iter().for_each(|(name, cluster)| cluster.show(name, &mut entries));
        let default = self.default_route.iter();
        entries.extend(default.map(|cluster| ("routes.*.cluster".to_owned(), cluster.clone())));
        self.routes.iter().for_each(|(name, route)| route.show(name, &mut entries));
        self.login.show("", &mut entries);
        self.users.iter().for_each(|(name, user)| user.show(name, &mut entries));
        self.limits.show("", &mut entries);
        self.journal.show("", &mut entries);
        self.migrator.show("", &mut entries);
        entries
    }

    /// This configuration with what `read` says, as far as that counts before a restart.
    #[must_use]
    pub fn reloaded(&self, read: &Self) -> Self {
        let mut config = self.clone();
        config.listen.reload(&read.listen);
        if read.listen.tls_files().own.is_none() {
            // A certificate that is left out is made at the start only.
            config.listen.tls_certificate.clone_from(&self.listen.tls_certificate);
            config.listen.tls_key.clone_from(&self.listen.tls_key);
        }
        config.http.reload(&read.http);
        config.admin.reload(&read.admin);
        config.clusters = reload_named(&self.clusters, &read.clusters);
        config.routes = reload_named(&self.routes, &read.routes);
        config.default_route.clone_from(&read.default_route);
        config.login.reload(&read.login);
        config.users = reload_named(&self.users, &read.users);
        config.limits.reload(&read.limits);
        config.journal.reload(&read.journal);
        config.migrator.reload(&read.migrator);
        config
    }
}

/// What `read` names; of what was there before, that which counts before a restart.
fn reload_named<S: Section + Clone>(now: &BTreeMap<String, S>, read: &BTreeMap<String, S>) -> BTreeMap<String, S> {
    let one = |(name, read): (&String, &S)| {
        let mut section = now.get(name).unwrap_or(read).clone();
        section.reload(read);
        (name.clone(), section)
    };
    read.iter().map(one).collect()
}
