//! MySQL Router, as its manual says to run it.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Stdio;

use tests::wait::{SOON, until};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::peers::{Folder, NOBODY, find, free_port};

/// A running Router that passes connections on to one server.
#[derive(Debug)]
pub(crate) struct Router {
    process: Child,
    port: u16,
    _folder: Folder,
}

impl Router {
    /// Starts one in front of a server. With a certificate to show both halves of each connection are in TLS.
    pub(crate) async fn start(server_port: u16, shown: Option<&(PathBuf, PathBuf)>) -> Self {
        let program = find("mysqlrouter").expect("tests/servers/fetch bench brings mysqlrouter");
        let folder = Folder::new("router");
        let port = free_port();
        let plugins = program
            .parent()
            .and_then(|bin| bin.parent())
            .map(|root| root.join("root/usr/lib/mysqlrouter/plugin"))
            .filter(|plugins| plugins.is_dir())
            .unwrap_or_else(|| "/usr/lib/mysqlrouter/plugin".into());
        let at = folder.path().display();
        let tls = shown.map_or_else(
            || "client_ssl_mode=DISABLED\nserver_ssl_mode=DISABLED\n".to_owned(),
            |(certificate, key)| {
                format!(
                    "client_ssl_mode=REQUIRED\nclient_ssl_cert={}\nclient_ssl_key={}\nserver_ssl_mode=REQUIRED\n",
                    certificate.display(),
                    key.display()
                )
            },
        );
        let text = format!(
            "[DEFAULT]\nplugin_folder={}\nlogging_folder={at}\nruntime_folder={at}\ndata_folder={at}\n\
             [logger]\nlevel=WARNING\n\
             [routing:bench]\nbind_address=127.0.0.1\nbind_port={port}\n\
             destinations=127.0.0.1:{server_port}\nrouting_strategy=first-available\nprotocol=classic\n\
             max_connections=1000\n{tls}",
            plugins.display()
        );
        let configuration = folder.path().join("mysqlrouter.conf");
        fs::write(&configuration, text).expect("the folder is ours");
        let mut command = Command::new(program);
        // As root it would look for a user of its own; an ordinary user may give files to nobody else.
        let all = [folder.path(), configuration.as_path()];
        if all.iter().all(|path| chown(path, Some(NOBODY), None).is_ok()) {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.arg("--config").arg(&configuration);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let process = command.kill_on_drop(true).spawn().expect("mysqlrouter can be run");
        // It may take TLS only: that it listens is enough.
        let ask = || async { TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() };
        until("mysqlrouter listens", SOON, ask, |listens| *listens).await;
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
