//! Real servers of PostgreSQL.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use migrator::plan::Settings;
use migrator::postgres::{Endpoint, Postgres, Tools};
use migrator::postgres::{client, rights};
use migrator::rights::{Grant, Side};
use tokio_postgres::Client;

use super::{command, free_port, new_folder, root_of};

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
        let server = Self {
            major,
            bin,
            folder,
            port,
        };
        let data = server.data();
        let data = data.to_str().expect("the path is text");
        server.run(
            "initdb",
            &[
                "-A",
                "trust",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
                "-D",
                data,
            ],
        );
        let configuration = format!(
            "port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{}'\nfsync=off\n\
             wal_level=logical\nmax_connections=50\n{settings}\n",
            server.folder.display()
        );
        let file = server.data().join("postgresql.conf");
        let old = fs::read_to_string(&file).expect("initdb wrote its configuration");
        fs::write(&file, format!("{old}\n{configuration}"))
            .expect("the configuration can be written");
        let log = server.folder.join("log");
        server.run(
            "pg_ctl",
            &[
                "-D",
                data,
                "-l",
                log.to_str().expect("the path is text"),
                "-w",
                "start",
            ],
        );
        server
    }

    /// The superuser's way into a database.
    pub(crate) fn endpoint(&self, database: &str) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".into(),
            port: self.port,
            user: "postgres".into(),
            password: None,
            database: database.into(),
        }
    }

    /// A session with the server's own defaults for names.
    pub(crate) async fn connect(&self, database: &str) -> Client {
        let session = client::connect(&self.endpoint(database), "test")
            .await
            .expect("the server answers");
        session
            .batch_execute("RESET search_path")
            .await
            .expect("the session works");
        session
    }

    /// The way into a database of the role that has the least rights.
    pub(crate) fn least(&self, database: &str) -> Endpoint {
        Endpoint {
            user: LEAST.into(),
            password: Some(PASSWORD.into()),
            ..self.endpoint(database)
        }
    }

    /// Creates a role with the printed rights, but for the statements with these numbers.
    pub(crate) async fn grant(&self, side: Side, user: &str, without: &[usize]) {
        let session = self.connect("shop").await;
        for (number, grant) in self.grants(side, user).into_iter().enumerate() {
            if !without.contains(&number) {
                let statement = grant
                    .statement
                    .replace(":'password'", &format!("'{PASSWORD}'"));
                let done = session.batch_execute(&statement).await;
                done.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
            }
        }
    }

    /// The printed rights for this server.
    pub(crate) fn grants(&self, side: Side, user: &str) -> Vec<Grant> {
        let whose = rights::For {
            user,
            database: "shop",
            schemas: &[],
        };
        let major = i32::try_from(self.major).expect("it is small");
        rights::grants(side, major, whose)
    }

    /// From now on this role must show a password.
    pub(crate) fn ask_for_passwords_of(&self, role: &str) {
        let file = self.data().join("pg_hba.conf");
        let old = fs::read_to_string(&file).expect("initdb wrote it");
        let rule = format!("host all {role} 127.0.0.1/32 scram-sha-256\n");
        fs::write(&file, format!("{rule}{old}")).expect("it can be written");
        let data = self.data();
        self.run(
            "pg_ctl",
            &["-D", data.to_str().expect("the path is text"), "reload"],
        );
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
        assert!(
            status.success(),
            "{program} failed; see {}",
            self.folder.display()
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.data();
        self.run(
            "pg_ctl",
            &[
                "-D",
                data.to_str().unwrap_or("."),
                "-m",
                "immediate",
                "-w",
                "stop",
            ],
        );
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

/// A migration of the database `shop` between two servers.
pub(crate) fn migration(
    name: &str,
    source: &Server,
    target: &Server,
    settings: Settings,
) -> Postgres {
    Postgres::new(
        name,
        source.endpoint("shop"),
        target.endpoint("shop"),
        settings,
        Tools::default(),
        std::sync::Arc::new(migrator::accounts::NoSecrets),
    )
}
