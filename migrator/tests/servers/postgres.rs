//! Real servers of PostgreSQL.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use migrator::model::plan::Settings;
use migrator::postgres::{Endpoint, Postgres, PostgresDatabase, Tools};
use migrator::postgres::{client, rights};
use migrator::preflight::Check;
use migrator::rights::{Grant, Need, Side};
use migrator::service::Service;
use tokio_postgres::Client;

use super::whole::mended;
use super::{command, free_port, new_folder, root_of, wait_for, with_least_rights};

/// The role that has the least rights, and its password.
pub(crate) const LEAST: &str = "headgate";
const PASSWORD: &str = "least";

/// A running server.
pub(crate) struct Server {
    /// Its major version.
    pub(crate) major: u32,
    bin: PathBuf,
    folder: PathBuf,
    /// Where it listens.
    pub(crate) port: u16,
}

impl Server {
    /// Starts the major version with these lines added to its configuration.
    pub(crate) fn start(major: u32, settings: &str) -> Self {
        let bin = binaries(major);
        let (folder, port) = (new_folder(), free_port());
        let server = Self { major, bin, folder, port };
        let data = server.data();
        let data = data.to_str().expect("the path is text");
        server.run("initdb", &["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", "-D", data]);
        let configuration = format!(
            "port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{}'\nfsync=off\n\
             wal_level=logical\nmax_connections=50\n{settings}\n",
            server.folder.display()
        );
        let file = server.data().join("postgresql.conf");
        let old = fs::read_to_string(&file).expect("initdb wrote its configuration");
        fs::write(&file, format!("{old}\n{configuration}")).expect("the configuration can be written");
        server.control(&["start"]);
        if with_least_rights() {
            wait_for(server.replace_superuser());
        }
        server
    }

    /// Stops it and starts it again; every session ends.
    pub(crate) fn restart(&self) {
        self.control(&["-m", "fast", "restart"]);
    }

    fn control(&self, what: &[&str]) {
        let (data, log) = (self.data(), self.folder.join("log"));
        let mut arguments =
            vec!["-D", data.to_str().expect("the path is text"), "-l", log.to_str().expect("the path is text"), "-w"];
        arguments.extend(what);
        self.run("pg_ctl", &arguments);
    }

    /// The superuser's way into a database.
    pub(crate) fn endpoint(&self, database: &str) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".into(),
            port: self.port,
            user: "postgres".into(),
            password: None,
            tls: transport::Tls::default(),
            proxy_protocol: false,
            database: database.into(),
        }
    }

    /// The same for another role.
    pub(crate) fn endpoint_as(&self, user: &str, database: &str) -> Endpoint {
        Endpoint { user: user.into(), ..self.endpoint(database) }
    }

    /// A session with the server's own defaults for names.
    pub(crate) async fn connect(&self, database: &str) -> Client {
        let session = client::connect(&self.endpoint(database), "test").await.expect("the server answers");
        session.batch_execute("RESET search_path").await.expect("the session works");
        session
    }

    /// The way into a database of the role that has the least rights.
    pub(crate) fn least(&self, database: &str) -> Endpoint {
        Endpoint { user: LEAST.into(), password: Some(PASSWORD.into()), ..self.endpoint(database) }
    }

    /// Creates a role with the printed rights, but for the statements with these numbers.
    pub(crate) async fn grant(&self, side: Side, user: &str, without: &[usize]) {
        let session = self.connect("shop").await;
        for (number, grant) in self.grants(side, user).into_iter().enumerate() {
            if !without.contains(&number) {
                let statement = grant.statement.replace(":'password'", &format!("'{PASSWORD}'"));
                let done = session.batch_execute(&statement).await;
                done.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
            }
        }
    }

    /// Makes another role than the server's first one the superuser `postgres`: what that one owns nobody can give away.
    async fn replace_superuser(&self) {
        let keeper = Endpoint { user: "keeper".into(), ..self.endpoint("postgres") };
        let first = self.connect("postgres").await;
        let made = first.batch_execute("CREATE ROLE keeper SUPERUSER LOGIN");
        made.await.expect("created");
        let session = client::connect(&keeper, "test").await;
        let session = session.expect("the server answers");
        let renamed = "ALTER ROLE postgres RENAME TO first; CREATE ROLE postgres SUPERUSER LOGIN CREATEROLE CREATEDB";
        session.batch_execute(renamed).await.expect("renamed");
        let dropped = self.connect("postgres").await;
        let dropped = dropped.batch_execute("DROP ROLE keeper");
        dropped.await.expect("it owns nothing");
    }

    /// Makes an empty database, where it is not there yet.
    pub(crate) async fn make_database(&self, name: &str) {
        let admin = self.connect("postgres").await;
        let asked = "SELECT FROM pg_database WHERE datname = $1";
        let there = admin.query(asked, &[&name]).await;
        if there.expect("it can be asked").is_empty() {
            let create = format!("CREATE DATABASE {name} TEMPLATE template0");
            admin.batch_execute(&create).await.expect("created");
        }
    }

    /// Lets the role with the least rights migrate, and nobody but superusers own what only superusers can.
    async fn prepare_least(&self, side: Side, forced: bool) {
        let admin = self.connect("postgres").await;
        let asked = "SELECT FROM pg_roles WHERE rolname = $1";
        let known = admin.query(asked, &[&LEAST]).await;
        let known = !known.expect("it can be asked").is_empty();
        self.make_database("shop").await;
        if side == Side::Source {
            self.give_away().await;
        }
        let printed = self.grants(side, LEAST);
        let left_out = |(number, grant): (usize, &Grant)| {
            let needed = match grant.need {
                Need::Where(_) => forced && grant.statement.contains("BYPASSRLS"),
                Need::Always | Need::Helpful => true,
            };
            (!needed || known && number == 0).then_some(number)
        };
        let left_out: Vec<usize> = printed.iter().enumerate().filter_map(left_out).collect();
        self.grant(side, LEAST, &left_out).await;
        let made = "SELECT FROM pg_shdepend s JOIN pg_database d ON d.oid = s.dbid AND d.datname = 'shop'
            WHERE s.refobjid = 'postgres'::regrole AND s.deptype = 'o'";
        let made = admin.query(made, &[]).await.expect("it can be asked");
        if side == Side::Target && !made.is_empty() {
            // As if the migration itself had brought it.
            let owner = client::connect(&self.least("shop"), "test").await;
            let owner = owner.expect("the server answers");
            let with = if self.major < 16 { "" } else { " WITH INHERIT TRUE, SET TRUE" };
            let create = format!(
                "DO $$ BEGIN IF to_regrole('suite_owner') IS NULL THEN
                    CREATE ROLE suite_owner; GRANT suite_owner TO {LEAST}{with}; END IF; END $$"
            );
            owner.batch_execute(&create).await.expect("created");
            self.give_away().await;
            let given = format!("ALTER DATABASE shop OWNER TO suite_owner; GRANT CREATE ON DATABASE shop TO {LEAST}");
            admin.batch_execute(&given).await.expect("given away");
        }
    }

    /// Gives what the superuser made to a role that is none, where migrations have the least rights.
    pub(crate) async fn give_away(&self) {
        if with_least_rights() {
            let session = self.connect("shop").await;
            session.batch_execute(GIVE_AWAY).await.expect("given away");
        }
    }

    /// Grants, where migrations have the least rights, what the precheck asks for besides because of what these databases
    /// have; `self` is the source.
    pub(crate) async fn mend(&self, target: &Self, postgres: &PostgresDatabase) {
        if with_least_rights() {
            let wanted = |check: &Check| check.name == "target_roles" && !check.fix.is_empty();
            mended(postgres, wanted, async |check| {
                let server = if check.name.starts_with("target") { target } else { self };
                let done = server.connect("shop").await.batch_execute(&check.fix).await;
                done.unwrap_or_else(|error| panic!("{check:#?}: {error:?}"));
            })
            .await;
        }
    }

    /// The printed rights for this server.
    pub(crate) fn grants(&self, side: Side, user: &str) -> Vec<Grant> {
        let whose = rights::For { user, database: "shop", schemas: &[], service: Service::Own };
        let major = i32::try_from(self.major).expect("it is small");
        rights::grants(side, major, whose)
    }

    /// From now on this role must show a password.
    pub(crate) fn ask_for_passwords_of(&self, role: &str) {
        self.ask_by("scram-sha-256", role);
    }

    /// From now on this role must show its password by this method.
    pub(crate) fn ask_by(&self, method: &str, role: &str) {
        let file = self.data().join("pg_hba.conf");
        let old = fs::read_to_string(&file).expect("initdb wrote it");
        let rule = format!("host all {role} 127.0.0.1/32 {method}\n");
        fs::write(&file, format!("{rule}{old}")).expect("it can be written");
        let data = self.data();
        self.run("pg_ctl", &["-D", data.to_str().expect("the path is text"), "reload"]);
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let status = command(&self.bin.join(program))
            .args(arguments)
            .current_dir(&self.folder)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("the program can be run");
        assert!(status.success(), "{program} failed; see {}", self.folder.display());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.data();
        self.run("pg_ctl", &["-D", data.to_str().unwrap_or("."), "-m", "immediate", "-w", "stop"]);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn binaries(major: u32) -> PathBuf {
    root_of(
        &format!("PostgreSQL {major}"),
        &format!("HEADGATE_POSTGRES_{major}"),
        &format!("postgres-{major}"),
        &format!("/usr/lib/postgresql/{major}"),
        "postgres",
    )
    .join("bin")
}

/// See there.
const GIVE_AWAY: &str = include_str!("give_away.sql");

/// The ways into the database `shop` of both ends, for a migration with whatever rights it is to have.
fn ends(source: &Server, target: &Server) -> (Endpoint, Endpoint) {
    if !with_least_rights() {
        return (source.endpoint("shop"), target.endpoint("shop"));
    }
    wait_for(async {
        let forced = "SELECT FROM pg_class WHERE relforcerowsecurity";
        let forced = source.connect("shop").await.query(forced, &[]).await;
        let forced = !forced.expect("it can be asked").is_empty();
        source.prepare_least(Side::Source, forced).await;
        target.prepare_least(Side::Target, forced).await;
    });
    (source.least("shop"), target.least("shop"))
}

/// A migration of the database `shop` between two servers.
pub(crate) fn migration(name: &str, source: &Server, target: &Server, settings: Settings) -> PostgresDatabase {
    let (source, target) = ends(source, target);
    PostgresDatabase::new(Postgres::new(
        name,
        source,
        target,
        settings,
        Tools::default(),
        std::sync::Arc::new(migrator::accounts::NoSecrets),
    ))
}

/// A migration between these two, whoever logs in there.
pub(crate) fn between(name: &str, source: Endpoint, target: Endpoint) -> PostgresDatabase {
    let (settings, tools) = (Settings::default(), Tools::default());
    let secrets = std::sync::Arc::new(migrator::accounts::NoSecrets);
    PostgresDatabase::new(Postgres::new(name, source, target, settings, tools, secrets))
}
