//! PgBouncer, as its manual says to run it.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Stdio;

use tests::wait::{SOON, until};
use tokio::net::TcpStream;
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
    /// Starts one in front of a database; `host` may be the folder of a Unix socket. With a certificate to show both halves
    /// of each connection are in TLS.
    pub(crate) async fn start(
        name: &str,
        (host, server_port): (&str, u16),
        database: &str,
        shown: Option<&(PathBuf, PathBuf)>,
    ) -> Self {
        let program = find("pgbouncer").expect("tests/servers/fetch bench brings pgbouncer");
        let folder = Folder::new(name);
        let port = free_port();
        let users = folder.path().join("users");
        let configuration = folder.path().join("pgbouncer.ini");
        let own = folder.path().join("key");
        let tls = shown.map_or_else(
            || "server_tls_sslmode = disable\n".to_owned(),
            |(certificate, key)| {
                fs::copy(key, &own).expect("the folder is ours");
                format!(
                    "client_tls_sslmode = require\nclient_tls_cert_file = {}\nclient_tls_key_file = {}\n\
                     server_tls_sslmode = require\n",
                    certificate.display(),
                    own.display()
                )
            },
        );
        let text = format!(
            "[databases]\n{database} = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = session\n\
             default_pool_size = 200\nmax_client_conn = 1000\nlog_connections = 0\nlog_disconnections = 0\n\
             ignore_startup_parameters = extra_float_digits\n{tls}",
            users.display()
        );
        let mut command = Command::new(program);
        for (path, text) in [(&users, "\"postgres\" \"\"\n"), (&configuration, text.as_str())] {
            fs::write(path, text).expect("the folder is ours");
        }
        // As root it refuses to run; an ordinary user may give files to nobody else.
        let all = [folder.path(), users.as_path(), configuration.as_path(), own.as_path()];
        if all.iter().filter(|path| path.exists()).all(|path| chown(path, Some(NOBODY), None).is_ok()) {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.arg("-q").arg(&configuration);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let process = command.kill_on_drop(true).spawn().expect("pgbouncer can be run");
        // It may take TLS only: that it listens is enough.
        let ask = || async { TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() };
        until("pgbouncer listens", SOON, ask, |listens| *listens).await;
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
