//! What the demo runs on: two throwaway servers, a folder, and a Headgate process of its own.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use tests::disposable::new_folder;
use tests::headgate::{binary, free_ports};

use super::engine::{Engine, Server};
use super::failure::{Failure, Result};
use super::link::{Address, Link};
use super::shop;

const START_TIMEOUT: Duration = Duration::from_secs(15);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOG_LINES: usize = 40;
const ADMIN: &str = "headgate";

/// Two servers and a Headgate between them and the shop's clients.
pub(super) struct Stage<E: Engine> {
    engine: E,
    folder: PathBuf,
    source: E::Server,
    target: E::Server,
    headgate: Option<Child>,
    port: u16,
    http_port: u16,
    password: String,
}

impl<E: Engine> Stage<E> {
    /// Starts both servers, with the empty database, and writes Headgate's configuration.
    pub(super) async fn set(engine: E) -> Result<Self> {
        let (source, target) = engine.servers().await?;
        let folder = new_folder(&std::env::temp_dir(), "headgate-demo").map_err(|error| Failure(error.to_string()))?;
        let (port, http_port) = free_ports();
        let password = format!("{:016x}", rand::random::<u64>());
        let stage = Self { engine, folder, source, target, headgate: None, port, http_port, password };
        fs::write(stage.config(), stage.config_text())?;
        Ok(stage)
    }

    /// Starts Headgate as a user would, and waits until its console answers.
    pub(super) async fn start_headgate(&mut self, keep: bool) -> Result<E::Link> {
        let log = fs::File::create(self.log())?;
        let mut command = Command::new(binary());
        command.arg("run").arg("--config").arg(self.config()).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // An interrupt at the terminal is for the demo alone, which stops its Headgate itself.
        command.process_group(0).kill_on_drop(!keep);
        let address = self.console();
        let child = self.headgate.insert(command.spawn()?);
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = child.try_wait()? {
                return Err(Failure(format!("headgate ended with {status} while it started")));
            }
            match E::Link::open(&address, "headgate-demo").await {
                Ok(link) => return Ok(link),
                Err(error) if Instant::now() > deadline => {
                    let text = format!("headgate's console did not answer within {START_TIMEOUT:?}: {error}");
                    return Err(Failure(text));
                }
                Err(_) => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// The application's own way in: through Headgate.
    pub(super) fn application(&self) -> Address {
        Address::new(self.port, shop::ROLE, shop::DATABASE).with_password(E::PASSWORD)
    }

    /// The application's account on the source, past Headgate.
    pub(super) fn owner(&self) -> Address {
        self.source(shop::ROLE).with_password(E::PASSWORD)
    }

    fn console(&self) -> Address {
        Address::new(self.port, ADMIN, "headgate").with_password(Some(&self.password))
    }

    /// The source, past Headgate.
    pub(super) fn source(&self, user: &str) -> Address {
        Address::new(self.source.port(), user, shop::DATABASE)
    }

    /// The target, past Headgate.
    pub(super) fn target(&self, user: &str) -> Address {
        Address::new(self.target.port(), user, shop::DATABASE)
    }

    /// Which engine plays.
    pub(super) fn engine(&self) -> E {
        self.engine
    }

    /// Product and version of source and target.
    pub(super) fn names(&self) -> (String, String) {
        (self.source.name(), self.target.name())
    }

    /// Connects past Headgate.
    pub(super) async fn look(&self, address: &Address) -> Result<E::Link> {
        E::Link::open(address, "headgate-demo").await
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
        lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().to_vec()
    }

    /// Stops everything; removes the folder unless it is wanted for a look.
    pub(super) async fn clear(mut self, keep_folder: bool) {
        if let Some(mut child) = self.headgate.take() {
            let asked = match child.id() {
                Some(pid) => Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().await.is_ok(),
                None => false,
            };
            if !asked || timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
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
        let command = |address: &Address| self.engine.command(address);
        let mut stop = String::from("kill");
        for pid in [headgate, self.source.pid(), self.target.pid()].into_iter().flatten() {
            let _ = write!(stop, " {pid}");
        }
        let folders = [self.folder.clone(), self.source.folder(), self.target.folder()];
        let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        [
            ("the shop, through Headgate", command(&self.application())),
            ("Headgate's console", command(&self.console())),
            ("the new cluster, directly", command(&self.target(E::SUPERUSER))),
            ("the old cluster, directly", command(&self.source(E::SUPERUSER))),
            ("metrics", format!("curl http://127.0.0.1:{}/metrics", self.http_port)),
            ("configuration, journal, log", self.folder.display().to_string()),
            ("to stop", stop),
            ("to clean up after that", format!("rm -r {}", folders.join(" "))),
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
        let Self { folder, source, target, port, http_port, password, .. } = self;
        let (source, target) = (source.port(), target.port());
        let (lines, sections) = (self.engine.cluster_lines(), self.engine.sections());
        let journal = quoted(&folder.join("journal"));
        format!(
            "[listen]\naddress = \"127.0.0.1:{port}\"\n\n\
             [http]\naddress = \"127.0.0.1:{http_port}\"\n\n\
             [admin]\nuser = \"{ADMIN}\"\npassword = \"{password}\"\n\n\
             [clusters.blue]\n{lines}host = \"127.0.0.1\"\nport = {source}\nuser = \"{user}\"\n\n\
             [clusters.green]\n{lines}host = \"127.0.0.1\"\nport = {target}\nuser = \"{user}\"\n\n\
             [routes.{route}]\ncluster = \"blue\"\n\n\
             [journal]\npath = {journal}\n\n\
             {sections}",
            user = E::SUPERUSER,
            route = shop::DATABASE,
        )
    }
}

/// A path as a text of the configuration file.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
