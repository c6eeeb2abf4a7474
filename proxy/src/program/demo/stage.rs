//! What the demo runs on: two throwaway servers, a folder, and a Headgate process of its own.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use proxy::postgres::disposable::{Binaries, Options, Server, find};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::failure::{Failure, Result};
use super::link::{Address, Link};
use super::shop;

/// The servers that the demo would rather have, and what else will do.
pub(super) const SOURCES: [u32; 5] = [14, 15, 16, 17, 18];
const TARGETS: [u32; 5] = [18, 17, 16, 15, 14];

const START_PATIENCE: Duration = Duration::from_secs(15);
const STOP_PATIENCE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOG_LINES: usize = 40;
/// The migrator's account on both servers.
const SUPERUSER: &str = "postgres";
const ADMIN: &str = "headgate";

/// Two servers and a Headgate between them and the shop's clients.
pub(super) struct Stage {
    folder: PathBuf,
    source: Server,
    target: Server,
    headgate: Option<Child>,
    port: u16,
    http_port: u16,
    password: String,
}

impl Stage {
    /// Starts both servers, makes the empty database on each, and writes Headgate's configuration.
    pub(super) async fn set() -> Result<Self> {
        let (from, to) = versions()?;
        let server = |binaries| Server::start(Options::new(binaries).set("max_wal_size", "2GB"));
        let (source, target) = tokio::join!(server(from), server(to));
        let (source, target) = (source.map_err(told)?, target.map_err(told)?);
        for server in [&source, &target] {
            let link = Link::open(
                &Address::new(server.port(), SUPERUSER, "postgres"),
                "headgate-demo",
            )
            .await?;
            shop::found(&link.sql).await?;
        }
        let folder = std::env::temp_dir().join(format!("headgate-demo-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let (port, http_port) = two_free_ports()?;
        let password = format!("{:016x}", rand::random::<u64>());
        let stage = Self {
            folder,
            source,
            target,
            headgate: None,
            port,
            http_port,
            password,
        };
        fs::write(stage.config(), stage.config_text())?;
        Ok(stage)
    }

    /// Starts this very program as a user would, and waits until its console answers.
    pub(super) async fn start_headgate(&mut self, keep: bool) -> Result<Link> {
        let log = fs::File::create(self.log())?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("run")
            .arg("--config")
            .arg(self.config())
            .current_dir(&self.folder);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // An interrupt at the terminal is for the demo alone, which stops its Headgate itself.
        command.process_group(0).kill_on_drop(!keep);
        let child = self.headgate.insert(command.spawn()?);
        let deadline = Instant::now() + START_PATIENCE;
        let address = Address {
            password: Some(self.password.clone()),
            ..Address::new(self.port, ADMIN, "headgate")
        };
        loop {
            if let Some(status) = child.try_wait()? {
                return Err(Failure(format!(
                    "headgate ended with {status} while it started"
                )));
            }
            match Link::open(&address, "headgate-demo").await {
                Ok(link) => return Ok(link),
                Err(error) if Instant::now() > deadline => {
                    let text = format!(
                        "headgate's console did not answer within {START_PATIENCE:?}: {error}"
                    );
                    return Err(Failure(text));
                }
                Err(_) => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// The application's own way in: through Headgate.
    pub(super) fn application(&self) -> Address {
        Address::new(self.port, shop::ROLE, shop::DATABASE)
    }

    /// The source, past Headgate.
    pub(super) fn source(&self, user: &str) -> Address {
        Address::new(self.source.port(), user, shop::DATABASE)
    }

    /// The target, past Headgate.
    pub(super) fn target(&self, user: &str) -> Address {
        Address::new(self.target.port(), user, shop::DATABASE)
    }

    /// Major versions of source and target.
    pub(super) fn versions(&self) -> (u32, u32) {
        (
            self.source.binaries().version,
            self.target.binaries().version,
        )
    }

    /// Connects past Headgate with all rights.
    pub(super) async fn look(&self, address: &Address) -> Result<Link> {
        Link::open(
            &Address {
                user: SUPERUSER.to_owned(),
                ..address.clone()
            },
            "headgate-demo",
        )
        .await
    }

    /// The folder of configuration, journal and log.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The end of Headgate's log.
    pub(super) fn log_tail(&self) -> Vec<String> {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines
            .get(lines.len().saturating_sub(LOG_LINES)..)
            .unwrap_or_default()
            .to_vec()
    }

    /// Stops everything; removes the folder unless it is wanted for a look.
    pub(super) async fn clear(mut self, keep_folder: bool) {
        if let Some(mut child) = self.headgate.take() {
            let asked = match child.id() {
                Some(pid) => Command::new("sh")
                    .args(["-c", &format!("kill -TERM {pid}")])
                    .status()
                    .await
                    .is_ok(),
                None => false,
            };
            if !asked || timeout(STOP_PATIENCE, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
        if !keep_folder {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    /// Leaves everything running, and says how to use and how to stop it.
    pub(super) fn keep(mut self) -> Vec<(String, String)> {
        let headgate = self.headgate.take().and_then(|child| child.id());
        self.source.keep();
        self.target.keep();
        let admin = Address {
            password: Some(self.password.clone()),
            ..Address::new(self.port, ADMIN, "headgate")
        };
        let mut stop = String::from("kill");
        for pid in [headgate, self.source.pid(), self.target.pid()]
            .into_iter()
            .flatten()
        {
            let _ = write!(stop, " {pid}");
        }
        let folders = [
            self.folder.as_path(),
            self.source.socket_dir(),
            self.target.socket_dir(),
        ];
        let folders: Vec<String> = folders
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        [
            ("the shop, through Headgate", self.application().psql()),
            ("Headgate's console", admin.psql()),
            ("the new cluster, directly", self.target(SUPERUSER).psql()),
            ("the old cluster, directly", self.source(SUPERUSER).psql()),
            (
                "metrics",
                format!("curl http://127.0.0.1:{}/metrics", self.http_port),
            ),
            (
                "configuration, journal, log",
                self.folder.display().to_string(),
            ),
            ("to stop", stop),
            (
                "to clean up after that",
                format!("rm -r {}", folders.join(" ")),
            ),
        ]
        .map(|(what, how)| (what.to_owned(), how))
        .to_vec()
    }

    fn config(&self) -> PathBuf {
        self.folder.join("headgate.toml")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("headgate.log")
    }

    fn config_text(&self) -> String {
        let Self {
            folder,
            source,
            target,
            port,
            http_port,
            password,
            ..
        } = self;
        let (source, target) = (source.port(), target.port());
        let journal = quoted(&folder.join("journal").display().to_string());
        let mut text = format!(
            "[listen]\naddress = \"127.0.0.1:{port}\"\n\n\
             [http]\naddress = \"127.0.0.1:{http_port}\"\n\n\
             [admin]\nuser = \"{ADMIN}\"\npassword = \"{password}\"\n\n\
             [login]\nmethod = \"trust\"\n\n\
             [clusters.blue]\nhost = \"127.0.0.1\"\nport = {source}\nuser = \"{SUPERUSER}\"\n\n\
             [clusters.green]\nhost = \"127.0.0.1\"\nport = {target}\nuser = \"{SUPERUSER}\"\n\n\
             [routes.{route}]\ncluster = \"blue\"\n\n\
             [journal]\npath = {journal}\n",
            route = shop::DATABASE,
        );
        if let Some(folder) = tools() {
            let program = |name: &str| quoted(&folder.join(name).display().to_string());
            let (dump, restore) = (program("pg_dump"), program("pg_restore"));
            let _ = write!(
                text,
                "\n[migrator]\npg_dump = {dump}\npg_restore = {restore}\n"
            );
        }
        text
    }
}

fn told(error: impl std::fmt::Display) -> Failure {
    Failure(error.to_string())
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The oldest server for the source and the newest for the target, two different ones.
fn versions() -> Result<(Binaries, Binaries)> {
    let first = |wanted: &[u32]| wanted.iter().find_map(|version| find(*version).ok());
    let source = first(&SOURCES);
    let target = first(&TARGETS);
    match (source, target) {
        (Some(source), Some(target)) if source.version < target.version => Ok((source, target)),
        _ => {
            let reasons: Vec<String> = [14, 18]
                .into_iter()
                .filter_map(|version| find(version).err())
                .map(|error| error.to_string())
                .collect();
            Err(Failure(format!(
                "the demo wants two PostgreSQL servers of different versions: {}",
                reasons.join("; ")
            )))
        }
    }
}

/// Debian keeps the tools of each version in a folder; the newest is taken where PATH has none.
fn tools() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join("pg_dump").is_file()) {
        return None;
    }
    let folders = (14..=18)
        .rev()
        .map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
    folders
        .into_iter()
        .find(|folder| folder.join("pg_dump").is_file())
}

fn two_free_ports() -> Result<(u16, u16)> {
    let one = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok((one.local_addr()?.port(), other.local_addr()?.port()))
}
