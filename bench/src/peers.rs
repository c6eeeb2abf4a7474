//! The peers, as their manuals say to run them.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tests::postgres::try_connect;
use tests::wait::{SOON, until};
use tokio::process::{Child, Command};

/// The user that daemons run as when we are root, which they refuse; Debian's number.
const NOBODY: u32 = 65534;

/// Finds a peer's program: in the folder that the environment names, fetched into `target/servers`, or on PATH.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let named = std::env::var_os("HEADGATE_PEERS").map(PathBuf::from);
    // `make` runs in the clone's own folder.
    let fetched = std::env::current_dir()
        .ok()
        .map(|clone| clone.join("target/servers/peers/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let mut folders = named.into_iter().chain(fetched).chain(installed);
    folders.find_map(|folder| Some(folder.join(name)).filter(|program| program.is_file()))
}

/// A new folder in the temporary one, removed with this value.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes one.
    pub(crate) fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("headgate-bench-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running PgBouncer in session mode.
#[derive(Debug)]
pub(crate) struct PgBouncer {
    process: Child,
    port: u16,
    _folder: Folder,
}

impl PgBouncer {
    /// Starts one in front of a database; `host` may be the folder of a Unix socket.
    pub(crate) async fn start(name: &str, host: &str, server_port: u16, database: &str) -> Self {
        let program = find("pgbouncer").expect("tests/servers/fetch bench brings pgbouncer");
        let folder = Folder::new(name);
        let port = free_port();
        let users = folder.path().join("users");
        let configuration = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n{database} = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = session\n\
             default_pool_size = 200\nmax_client_conn = 1000\nlog_connections = 0\nlog_disconnections = 0\n\
             ignore_startup_parameters = extra_float_digits\n",
            users.display()
        );
        let mut command = Command::new(program);
        for (path, text) in [
            (&users, "\"postgres\" \"\"\n"),
            (&configuration, text.as_str()),
        ] {
            fs::write(path, text).expect("the folder is ours");
        }
        // As root it refuses to run; an ordinary user may give files to nobody else.
        let all = [folder.path(), users.as_path(), configuration.as_path()];
        if all
            .iter()
            .all(|path| chown(path, Some(NOBODY), None).is_ok())
        {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.arg("-q").arg(&configuration);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        let process = command
            .kill_on_drop(true)
            .spawn()
            .expect("pgbouncer can be run");
        let ask = || async { try_connect(port, "postgres", None, database).await.is_ok() };
        until("pgbouncer serves", SOON, ask, |serves| *serves).await;
        Self {
            process,
            port,
            _folder: folder,
        }
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id().expect("it runs")
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    listener.local_addr().expect("it is bound").port()
}
