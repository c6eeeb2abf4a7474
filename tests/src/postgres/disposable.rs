//! Throwaway PostgreSQL servers, for the demo and the tests.

mod binaries;
mod template;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::time::{Instant, sleep};

use crate::disposable::ground::{Account, ground, new_folder};
use crate::disposable::process::{LOOK_EVERY, PORT_ATTEMPTS, Process, TIMEOUT, accepts, free_port, run};
use crate::disposable::reachable::reachable;
use crate::disposable::{tail, while_doing};

pub use crate::disposable::Error;
pub use binaries::{Binaries, find};
use template::{make_different, template};

/// What a throwaway server shall be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which server.
    pub binaries: Binaries,
    /// Settings that replace or extend the usual ones of a throwaway server.
    pub settings: Vec<(String, String)>,
    /// The content of `pg_hba.conf`; without it everybody on this machine is trusted.
    pub hba: Option<String>,
    /// An existing folder for the server's own folder; without it the system's temporary folder.
    pub base_dir: Option<PathBuf>,
}

impl Options {
    /// A server that trusts everybody on this machine and is ready to be a migration's source or target.
    pub fn new(binaries: Binaries) -> Self {
        Self { binaries, settings: Vec::new(), hba: None, base_dir: None }
    }

    /// Adds a setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running throwaway server. Dropping it stops the server at once and removes its files.
#[derive(Debug)]
pub struct Server {
    binaries: Binaries,
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
        let base = new_folder(&ground, &format!("headgate-postgres-{}", options.binaries.version))?;
        let mut server = Self {
            user: Account::for_servers(&base)?,
            binaries: options.binaries.clone(),
            base,
            port: 0,
            process: None,
            keep: false,
        };
        if let Some(account) = &server.user {
            let binaries = &server.binaries;
            let label = binaries.version.to_string();
            server.binaries.root = reachable(&binaries.root, &binaries.program("postgres"), &label).await?;
            while_doing(chown(&server.base, Some(account.uid), Some(account.gid)), || {
                format!("giving {} to the user nobody", server.base.display())
            })?;
        }
        server.create().await?;
        if let Some(hba) = &options.hba {
            let path = server.data_dir().join("pg_hba.conf");
            while_doing(fs::write(&path, hba), || format!("writing {}", path.display()))?;
        }
        for attempt in 1.. {
            server.port = free_port()?;
            server.configure(&options.settings)?;
            match server.launch().await {
                Ok(()) => break,
                Err(Error::Failed { output, .. }) if attempt < PORT_ATTEMPTS && output.contains("could not bind") => {}
                Err(error) => return Err(error),
            }
        }
        Ok(server)
    }

    /// Starts a standby that follows this server under the name `standby` by its physical slot of that name. This server is
    /// stopped for a moment, and its data directory copied.
    pub async fn start_standby(&mut self) -> Result<Self, Error> {
        let ground = self.base.parent().map_or_else(ground, Path::to_path_buf);
        let base = new_folder(&ground, &format!("headgate-postgres-{}", self.binaries.version))?;
        let mut standby = Self {
            user: Account::for_servers(&base)?,
            binaries: self.binaries.clone(),
            base,
            port: free_port()?,
            process: None,
            keep: false,
        };
        if let Some(account) = &standby.user {
            while_doing(chown(&standby.base, Some(account.uid), Some(account.gid)), || {
                format!("giving {} to the user nobody", standby.base.display())
            })?;
        }
        self.stop().await?;
        let mut copy = Command::new("cp");
        if let Some(account) = &self.user {
            copy.uid(account.uid).gid(account.gid);
        }
        copy.arg("-R").arg(self.data_dir()).arg(&standby.base);
        run(copy, "copying the primary").await?;
        // A slot is its server's own.
        let slot = standby.data_dir().join("pg_replslot/standby");
        while_doing(fs::remove_dir_all(&slot), || format!("removing {}", slot.display()))?;
        let signal = standby.data_dir().join("standby.signal");
        while_doing(fs::write(&signal, ""), || format!("writing {}", signal.display()))?;
        let primary =
            format!("host=127.0.0.1 port={} user=postgres dbname=postgres application_name=standby", self.port);
        let mut settings = vec![("primary_conninfo", primary.as_str()), ("primary_slot_name", "standby")];
        settings.push(("hot_standby_feedback", "on"));
        if self.binaries.version >= 17 {
            settings.push(("sync_replication_slots", "on"));
        }
        let settings: Vec<_> = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        standby.configure(&settings)?;
        self.launch().await?;
        standby.launch().await?;
        Ok(standby)
    }

    /// The loopback port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its Unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.base
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.base.join("data")
    }

    /// Its programs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The process id of its first process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// A connection string for its superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The last lines of its log.
    pub fn log(&self) -> String {
        tail(&fs::read(self.base.join("log")).unwrap_or_default())
    }

    /// Leaves the server and its files in place when this value is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Ends the sessions, writes everything to disk, and stops.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.end("INT").await
    }

    /// Ends all processes of the server at once, as a crash of the machine would; what is committed stays.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.end("QUIT").await
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
        Err(self.failed(format!("postgres did not stop on SIG{signal}")))
    }

    async fn create(&self) -> Result<(), Error> {
        let template = template(&self.binaries, self.user.as_ref(), self.command("initdb")).await?;
        let mut copy = Command::new("cp");
        if let Some(account) = &self.user {
            copy.uid(account.uid).gid(account.gid);
        }
        copy.arg("-R").arg(template.join("data")).arg(&self.base);
        run(copy, &format!("copying {}", template.display())).await?;
        make_different(&self.data_dir())
    }

    fn configure(&self, settings: &[(String, String)]) -> Result<(), Error> {
        let path = self.data_dir().join("postgresql.conf");
        let mut text = format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n\
             wal_level = logical\nmax_connections = 300\nmax_wal_senders = 20\nmax_replication_slots = 20\n",
            self.port,
            self.base.display()
        );
        for (name, value) in settings {
            text.push_str(&[name, " = '", &value.replace('\'', "''"), "'\n"].concat());
        }
        let appended = File::options().append(true).open(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        while_doing(appended, || format!("writing {}", path.display()))
    }

    /// Starts the server process and waits until it says that it is ready and takes a connection.
    async fn launch(&mut self) -> Result<(), Error> {
        let path = self.base.join("log");
        let log = File::options().create(true).append(true).open(&path);
        let log = while_doing(log, || format!("opening {}", path.display()))?;
        let errors = while_doing(log.try_clone(), || format!("opening {}", path.display()))?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data_dir()).stdin(Stdio::null()).stdout(log).stderr(errors);
        let process = Process::start(command, "QUIT", &self.base)?;
        let process = self.process.insert(process);
        let (pid, state) = (process.id().to_string(), self.base.join("data/postmaster.pid"));
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = process.ended() {
                self.process = None;
                return Err(self.failed(format!("postgres ended with {status} while starting")));
            }
            // The server writes its state into the eighth line; the first is the process that wrote it.
            let said = fs::read_to_string(&state).unwrap_or_default();
            let mut lines = said.lines();
            if lines.next() == Some(&pid)
                && lines.nth(6).is_some_and(|line| ["ready", "standby"].contains(&line.trim()))
            {
                break;
            }
            if Instant::now() > deadline {
                return Err(self.failed(format!("postgres was not ready after {TIMEOUT:?}")));
            }
            sleep(LOOK_EVERY).await;
        }
        if accepts(self.port).await {
            return Ok(());
        }
        Err(self.failed(format!("postgres does not accept on 127.0.0.1:{}", self.port)))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.program(program));
        // Settings of the caller's own database client must not reach the server.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        command.current_dir(&self.base).env("LC_ALL", "C");
        if let Some(account) = &self.user {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    fn failed(&self, what: String) -> Error {
        Error::Failed { what, output: self.log() }
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
            // The server itself gives its children five seconds before it kills them.
            process.end_now("QUIT");
        }
        let _ = fs::remove_dir_all(&self.base);
    }
}
