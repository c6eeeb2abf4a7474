//! PgBouncer, as its manual says to run it.

use std::fs;
use std::os::unix::fs::chown;
use std::process::Stdio;

use tests::postgres::try_connect;
use tests::wait::{SOON, until};
use tokio::process::{Child, Command};

use crate::peers::{Folder, NOBODY, find, free_port};

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
        for (path, text) in [(&users, "\"postgres\" \"\"\n"), (&configuration, text.as_str())] {
            fs::write(path, text).expect("the folder is ours");
        }
        // As root it refuses to run; an ordinary user may give files to nobody else.
        let all = [folder.path(), users.as_path(), configuration.as_path()];
        if all.iter().all(|path| chown(path, Some(NOBODY), None).is_ok()) {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.arg("-q").arg(&configuration);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let process = command.kill_on_drop(true).spawn().expect("pgbouncer can be run");
        let ask = || async { try_connect(port, "postgres", None, database).await.is_ok() };
        until("pgbouncer serves", SOON, ask, |serves| *serves).await;
        Self { process, port, _folder: folder }
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
