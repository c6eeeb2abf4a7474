//! Throwaway servers of MySQL and MariaDB, for the demo and the tests.

mod binaries;
mod template;

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::time::{Instant, sleep};

use crate::disposable::ground::{Account, ground, new_folder};
use crate::disposable::process::{LOOK_EVERY, PORT_ATTEMPTS, Process, TIMEOUT, free_port, run};
use crate::disposable::reachable::reachable;
use crate::disposable::{tail, while_doing};

pub use crate::disposable::Error;
pub use binaries::{Binaries, Kind, find};
use template::template;

/// What every server of this family says once it takes connections.
const READY: &str = "ready for connections";
/// What it says when another process has its port.
const TAKEN: &str = "Bind on TCP/IP port";

/// What MySQL 9.7 takes 200 MB less memory with: touching it is a quarter of its start.
const LITTLE_MEMORY: [&str; 8] = [
    "--innodb-log-buffer-size=2M",
    "--performance-schema-digests-size=100",
    "--performance-schema-error-size=100",
    "--performance-schema-events-stages-history-long-size=10",
    "--performance-schema-events-statements-history-long-size=10",
    "--performance-schema-events-transactions-history-long-size=10",
    "--performance-schema-events-waits-history-long-size=10",
    "--performance-schema-max-digest-length=256",
];

/// How many errors of a log are told.
const ERRORS_MAX: usize = 5;

/// What a throwaway server shall be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which server.
    pub binaries: Binaries,
    /// Settings that replace or extend the usual ones of a throwaway server, by the names that they have on the server's command line.
    pub settings: Vec<(String, String)>,
    /// Whether MySQL 9.7 counts its transactions by GTID. MariaDB always does, and 5.6 does not here.
    pub gtid: bool,
    /// Whether a commit is on the disk before it is answered. Without it a crash of the machine loses commits, a crash of the server none.
    pub durable: bool,
    /// An existing folder for the server's own folder; without it the system's temporary folder.
    pub base_dir: Option<PathBuf>,
}

impl Options {
    /// A server that knows root without a password and is ready to be a migration's source or target.
    pub fn new(binaries: Binaries) -> Self {
        Self { binaries, settings: Vec::new(), gtid: true, durable: true, base_dir: None }
    }

    /// Adds a setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leaves it to the operating system when commits go to the disk, which is many times faster.
    #[must_use]
    pub fn relaxed(mut self) -> Self {
        self.durable = false;
        self
    }

    /// Without GTIDs: positions are files and offsets.
    #[must_use]
    pub fn without_gtid(mut self) -> Self {
        self.gtid = false;
        self
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = [
            "--bind-address=127.0.0.1",
            "--log-bin=binlog",
            "--binlog-format=ROW",
            "--local-infile=ON",
            "--secure-file-priv=",
            "--max-connections=300",
            "--innodb-buffer-pool-size=64M",
        ]
        .map(str::to_owned)
        .into();
        arguments.extend(self.of_the_kind().iter().map(|&setting| setting.to_owned()));
        if self.binaries.kind == Kind::Mysql97 {
            arguments.extend(LITTLE_MEMORY.iter().map(|&setting| setting.to_owned()));
        }
        if !self.durable {
            arguments.push("--innodb-flush-log-at-trx-commit=2".to_owned());
            arguments.push("--sync-binlog=0".to_owned());
        }
        for (name, value) in &self.settings {
            arguments.push(format!("--{name}={value}"));
        }
        arguments
    }

    fn of_the_kind(&self) -> &'static [&'static str] {
        match (self.binaries.kind, self.gtid) {
            (Kind::Mysql97, true) => {
                &["--mysqlx=OFF", "--binlog-row-metadata=FULL", "--gtid-mode=ON", "--enforce-gtid-consistency=ON"]
            }
            (Kind::Mysql97, false) => {
                &["--mysqlx=OFF", "--binlog-row-metadata=FULL", "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"]
            }
            // Its performance schema takes memory for as many tables as may be open.
            (Kind::Mysql56, _) => {
                &["--innodb-log-file-size=16M", "--table-open-cache=256", "--table-definition-cache=400"]
            }
            (Kind::Mariadb1011, _) => {
                &["--innodb-log-file-size=16M", "--binlog-row-metadata=FULL", "--log-basename=server"]
            }
        }
    }
}

/// A running throwaway server. Dropping it stops the server at once and removes its files.
#[derive(Debug)]
pub struct Server {
    binaries: Binaries,
    arguments: Vec<String>,
    user: Option<Account>,
    base: PathBuf,
    port: u16,
    process: Option<Process>,
    keep: bool,
}

impl Server {
    /// Creates a server in a folder of its own, starts it on a free loopback port, and waits until it accepts.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let ground = options.base_dir.clone().unwrap_or_else(ground);
        let kind = options.binaries.kind;
        let base = new_folder(&ground, &format!("headgate-{}", kind.folder()))?;
        let mut server = Self {
            user: Account::for_servers(&base)?,
            arguments: options.arguments(),
            binaries: options.binaries,
            base,
            port: 0,
            process: None,
            keep: false,
        };
        if let Some(account) = &server.user {
            let binaries = &server.binaries;
            let program = binaries.program(kind.server());
            server.binaries.root = reachable(&binaries.root, &program, kind.folder()).await?;
            while_doing(chown(&server.base, Some(account.uid), Some(account.gid)), || {
                format!("giving {} to the user nobody", server.base.display())
            })?;
        }
        server.create().await?;
        for attempt in 1.. {
            server.port = free_port()?;
            match server.launch().await {
                Ok(()) => break,
                Err(Error::Failed { output, .. }) if attempt < PORT_ATTEMPTS && output.contains(TAKEN) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(server)
    }

    /// The loopback port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.base.join("socket")
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.base.join("data")
    }

    /// Its programs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Which server it is.
    pub fn kind(&self) -> Kind {
        self.binaries.kind
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// A connection string for root.
    pub fn url(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{database}", self.port)
    }

    /// The last lines of its log, after its last errors: these servers say much more when they give up.
    pub fn log(&self) -> String {
        let log = fs::read(self.base.join("log")).unwrap_or_default();
        let end = tail(&log);
        let text = String::from_utf8_lossy(&log);
        let errors: Vec<&str> = text.lines().filter(|line| line.contains("[ERROR]")).collect();
        let last = errors.get(errors.len().saturating_sub(ERRORS_MAX)..);
        let earlier = last.unwrap_or_default().iter().filter(|line| !end.contains(**line));
        earlier.fold(String::new(), |all, line| all + line + "\n") + &end
    }

    /// Leaves the server and its files in place when this value is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Ends the sessions, writes everything to disk, and stops.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.end("TERM").await
    }

    /// Ends the server at once, as a crash would; what is committed stays.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.end("KILL").await
    }

    /// Starts again on the same port and data; stops first when still running.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.stop().await?;
        self.launch().await
    }

    async fn end(&mut self, signal: &str) -> Result<(), Error> {
        let Some(process) = self.process.take() else {
            return Ok(());
        };
        if process.end(signal).await {
            return Ok(());
        }
        Err(self.failed(&format!("did not stop on SIG{signal}")))
    }

    async fn create(&self) -> Result<(), Error> {
        let template = template(&self.binaries, self.user.as_ref()).await?;
        let mut copy = as_account(Command::new("cp"), self.user.as_ref());
        copy.arg("-R").arg(template.join("data")).arg(&self.base);
        run(copy, &format!("copying {}", template.display())).await?;
        if self.kind() == Kind::Mariadb1011 {
            return Ok(());
        }
        // Left to themselves, two servers of 5.6 that start at the same time take the same one.
        let identity = self.data_dir().join("auto.cnf");
        let text = format!("[auto]\nserver-uuid={}\n", new_uuid());
        while_doing(fs::write(&identity, text), || format!("writing {}", identity.display()))
    }

    /// Starts the server process and waits until it says that it takes connections.
    async fn launch(&mut self) -> Result<(), Error> {
        let path = self.base.join("log");
        let log = File::options().create(true).append(true).open(&path);
        let log = while_doing(log, || format!("opening {}", path.display()))?;
        let errors = while_doing(log.try_clone(), || format!("opening {}", path.display()))?;
        let said_before = fs::metadata(&path).map_or(0, |log| log.len());
        let mut command = command(&self.binaries, self.user.as_ref(), &self.base);
        command
            .arg("--no-defaults")
            .arg(format!("--basedir={}", self.binaries.root.display()))
            .arg(format!("--datadir={}", self.data_dir().display()))
            .arg(format!("--tmpdir={}", self.base.display()))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!("--pid-file={}", self.base.join("pid").display()))
            .arg(format!("--port={}", self.port))
            // Servers of one replication must differ, and ports on one machine do.
            .arg(format!("--server-id={}", self.port))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        let process = Process::start(command, "KILL", &self.base)?;
        let process = self.process.insert(process);
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = process.ended() {
                self.process = None;
                return Err(self.failed(&format!("ended with {status} while starting")));
            }
            if said_since(&path, said_before).contains(READY) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.failed(&format!("was not ready after {TIMEOUT:?}")));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn failed(&self, what: &str) -> Error {
        Error::Failed { what: format!("{} {what}", self.kind().title()), output: self.log() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let process = self.process.take();
        if self.keep {
            if let Some(process) = process {
                process.release();
            }
            return;
        }
        if let Some(process) = process {
            process.end_now("KILL");
        }
        let _ = fs::remove_dir_all(&self.base);
    }
}

fn new_uuid() -> String {
    let digits = format!("{:032x}", rand::random::<u128>());
    let mut uuid = String::with_capacity(36);
    for (place, digit) in digits.chars().enumerate() {
        if matches!(place, 8 | 12 | 16 | 20) {
            uuid.push('-');
        }
        uuid.push(digit);
    }
    uuid
}

/// What a log has got after its first bytes.
fn said_since(path: &Path, before: u64) -> String {
    let all = fs::read(path).unwrap_or_default();
    let before = usize::try_from(before).unwrap_or(usize::MAX);
    String::from_utf8_lossy(all.get(before..).unwrap_or_default()).into_owned()
}

/// The server's program, run as the user that servers run as.
fn command(binaries: &Binaries, account: Option<&Account>, folder: &Path) -> Command {
    let mut command = Command::new(binaries.program(binaries.kind.server()));
    // Settings of the caller's own database client must not reach the server.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"MYSQL")) {
        command.env_remove(name);
    }
    command.current_dir(folder).env("LC_ALL", "C");
    as_account(command, account)
}

fn as_account(mut command: Command, account: Option<&Account>) -> Command {
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}
