//! Starts real PostgreSQL servers in temporary folders, as a user without rights, and stops them when dropped.

#![allow(dead_code, reason = "each test binary uses what it needs")]

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use migrator::plan::Settings;
use migrator::postgres::client;
use migrator::postgres::{Endpoint, Postgres, Tools};
use tokio_postgres::Client;

const NOBODY: u32 = 65534;

/// A running server.
pub(crate) struct Server {
    bin: PathBuf,
    folder: PathBuf,
    /// Where it listens.
    pub(crate) port: u16,
}

impl Server {
    /// Starts the major version with these lines added to its configuration.
    pub(crate) fn start(major: u32, settings: &str) -> Self {
        let bin = binaries(major);
        let folder =
            std::env::temp_dir().join(format!("headgate-test-{:032x}", rand::random::<u128>()));
        fs::create_dir(&folder).expect("the temporary folder can be created");
        if is_root() {
            chown(&folder, Some(NOBODY), Some(NOBODY)).expect("the folder can be given away");
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port is free")
            .port();
        let server = Self { bin, folder, port };
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
        let mut command = Command::new(self.bin.join(program));
        if is_root() {
            // PostgreSQL refuses to run as root.
            command.uid(NOBODY).gid(NOBODY);
        }
        let status = command
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
    let ours =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/servers/postgres-{major}"));
    let debian = PathBuf::from(format!("/usr/lib/postgresql/{major}"));
    let root = std::env::var_os(format!("HEADGATE_POSTGRES_{major}"))
        .map(PathBuf::from)
        .into_iter()
        .chain([ours, debian])
        .find(|root| root.join("bin/postgres").exists())
        .unwrap_or_else(|| {
            panic!("no PostgreSQL {major}: name the folder that holds its bin in HEADGATE_POSTGRES_{major}")
        });
    let root = root.canonicalize().expect("the folder is there");
    if is_root() {
        reachable(&root).join("bin")
    } else {
        root.join("bin")
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0)
}

/// The same programs where the user nobody can run them: a clone may lie in somebody's private folder.
fn reachable(root: &Path) -> PathBuf {
    let open = |folder: &Path| {
        fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
    };
    if root.ancestors().all(open) {
        return root.to_owned();
    }
    let mut which = DefaultHasher::new();
    root.hash(&mut which);
    let kept = std::env::temp_dir().join(format!("headgate-test-server-{:016x}", which.finish()));
    if kept.exists() {
        return kept;
    }
    let work = kept.with_extension(format!("{:032x}", rand::random::<u128>()));
    let copied = Command::new("cp").arg("-R").arg(root).arg(&work).status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "the server can be copied"
    );
    fs::set_permissions(&work, fs::Permissions::from_mode(0o755)).expect("it can be opened to all");
    // Renamed when complete: whoever runs beside us sees a whole server or none.
    if fs::rename(&work, &kept).is_err() {
        let _ = fs::remove_dir_all(&work);
    }
    kept
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
    )
}
