//! The program `headgate` as its users run it: a child process with a configuration file of its own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use futures_util::future::BoxFuture;
use mysql_async::Conn;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_postgres::Client;

use crate::disk::SmallDisk;
use crate::disposable::new_folder;
use crate::mysql;
use crate::postgres::{Record, connect, try_connect, try_records};
use crate::wait::{SOON, until, within};

/// The admin console's password in these tests.
pub const ADMIN_PASSWORD: &str = "open sesame";

/// One running, or stopped, or killed, instance with its own folder, port and journal.
#[derive(Debug)]
pub struct Headgate {
    folder: PathBuf,
    port: u16,
    http_port: u16,
    process: Option<Child>,
    engine: Engine,
    environment: Vec<(&'static str, &'static str)>,
}

/// What its clusters are, and so what its console speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// MySQL or MariaDB.
    Mysql,
}

impl Headgate {
    /// Starts the program for PostgreSQL with these sections of the configuration besides the listeners, the admin user and the journal.
    pub async fn start(sections: &str) -> Self {
        Self::start_for(Engine::Postgres, sections).await
    }

    /// As [`Headgate::start`], for clusters of either engine.
    pub async fn start_for(engine: Engine, sections: &str) -> Self {
        let mut headgate = Self::prepare_for(engine, sections);
        headgate.launch().await;
        headgate
    }

    /// Writes the configuration for PostgreSQL and starts nothing yet.
    pub fn prepare(sections: &str) -> Self {
        Self::prepare_for(Engine::Postgres, sections)
    }

    /// As [`Headgate::prepare`], for clusters of either engine.
    pub fn prepare_for(engine: Engine, sections: &str) -> Self {
        let folder = new_folder(&std::env::temp_dir(), "headgate-test").expect("the temporary folder takes a new one");
        let (port, http_port) = free_ports();
        let journal = folder.join("journal");
        let text = format!(
            "[listen]\naddress = \"127.0.0.1:{port}\"\n[http]\naddress = \"127.0.0.1:{http_port}\"\n\
             [admin]\nuser = \"headgate\"\npassword = \"{ADMIN_PASSWORD}\"\n[journal]\npath = \"{}\"\n{sections}",
            journal.display()
        );
        fs::write(folder.join("headgate.toml"), text).expect("the folder is ours");
        Self { folder, port, http_port, process: None, engine, environment: Vec::new() }
    }

    /// Moves its journal and its log to a disk of so many KiB; for one that does not run yet. `None` where this user may
    /// not mount one.
    pub fn on_small_disk(&self, kib: u32) -> Option<SmallDisk> {
        let disk = SmallDisk::mount(&self.folder.join("journal"), kib)?;
        std::os::unix::fs::symlink("journal/log", self.folder.join("log")).expect("the folder is ours");
        Some(disk)
    }

    /// Sets a variable of its environment; for one that does not run.
    pub fn set(&mut self, name: &'static str, value: &'static str) {
        self.environment.push((name, value));
    }

    /// Starts the program, again after a kill or a stop, with the same configuration and journal.
    pub async fn launch(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.join("log")).expect("the folder is ours");
        let out = log.try_clone().expect("a file");
        self.launch_into(Stdio::from(out), Stdio::from(log)).await;
    }

    /// As [`Headgate::launch`], with a log that nobody can read: the pipe is broken.
    pub async fn launch_unheard(&mut self) {
        self.launch_into(Stdio::null(), Stdio::piped()).await;
        let process = self.process.as_mut().expect("just started");
        drop(process.stderr.take());
    }

    async fn launch_into(&mut self, out: Stdio, log: Stdio) {
        let mut command = Command::new(binary());
        command.args(["run", "--config"]).arg(self.folder.join("headgate.toml")).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(out).stderr(log).kill_on_drop(true);
        command.env("HEADGATE_FAILPOINTS", self.failpoints()).envs(self.environment.iter().copied());
        self.process = Some(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", binary().display())));
        let port = self.port;
        let process = self.process.as_mut().expect("just started");
        let accepts = until(
            "headgate accepts",
            SOON,
            || async move { TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() },
            |accepts| *accepts || process_ended(process),
        );
        assert!(accepts.await, "headgate ended while starting:\n{}", self.log());
    }

    /// Runs `headgate run` with this configuration to its end, which must come by itself; for a configuration that is wrong.
    pub async fn run_to_end(&self) -> (Option<i32>, String) {
        let mut command = Command::new(binary());
        command.args(["run", "--config"]).arg(self.folder.join("headgate.toml")).current_dir(&self.folder);
        let output = within("headgate ends", SOON, command.kill_on_drop(true).output()).await.expect("it can be run");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Where applications and the admin console connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where metrics are served.
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().and_then(Child::id).expect("it runs")
    }

    /// The folder of its configuration, journal and log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of its failpoints, which count from when it is made.
    pub fn failpoints(&self) -> PathBuf {
        self.folder.join("failpoints")
    }

    /// Whether the process that was started last has ended.
    pub fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(process_ended)
    }

    /// All that it has written to its log so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("log")).unwrap_or_default()).into_owned()
    }

    /// The log once it has all of these: a thread of the program's writes it.
    pub async fn logged(&self, parts: &[&str]) -> String {
        let log = || async { self.log() };
        until("the log has it", SOON, log, |log| parts.iter().all(|part| log.contains(part))).await
    }

    /// Takes the journal away; for one that does not run. It is kept beside its place.
    pub fn lose_journal(&self) {
        let (journal, lost) = (self.folder.join("journal"), self.folder.join("journal.lost"));
        if lost.exists() {
            fs::remove_dir_all(&lost).expect("the folder is ours");
        }
        fs::rename(journal, lost).expect("it has run");
    }

    /// Puts the journal that was lost back; for one that does not run.
    pub fn restore_journal(&self) {
        let journal = self.folder.join("journal");
        fs::remove_dir_all(&journal).expect("it has run");
        fs::rename(self.folder.join("journal.lost"), journal).expect("it was lost");
    }

    /// Keeps a copy of the journal beside its place, as a backup does; for one that does not run.
    pub fn back_up_journal(&self) {
        let (journal, lost) = (self.folder.join("journal"), self.folder.join("journal.lost"));
        fs::create_dir(&lost).expect("there was no copy");
        for entry in fs::read_dir(journal).expect("it has run") {
            let file = entry.expect("the folder is ours").path();
            let name = file.file_name().expect("a file").to_owned();
            fs::copy(&file, lost.join(name)).expect("the folder is ours");
        }
    }

    /// Replaces a text of the configuration; for one that does not run.
    pub fn configure(&self, old: &str, new: &str) {
        let path = self.folder.join("headgate.toml");
        let text = fs::read_to_string(&path).expect("the folder is ours");
        assert!(text.contains(old), "no {old} in {text}");
        fs::write(&path, text.replace(old, new)).expect("the folder is ours");
    }

    /// Ends the process at once, as `kill -9` does.
    pub async fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        within("headgate dies", SOON, process.kill()).await.expect("it runs");
    }

    /// Writes the configuration anew, as `change` makes it of the present one, and has it read (SIGHUP). Returns what the
    /// log says of it.
    pub async fn reload(&self, change: impl FnOnce(&str) -> String) -> String {
        let file = self.folder.join("headgate.toml");
        let text = fs::read_to_string(&file).expect("it is there");
        fs::write(&file, change(&text)).expect("the folder is ours");
        let before = self.log().len();
        signal(self.pid(), "HUP").await;
        let log = || async { self.log().split_off(before) };
        until("the file was read", SOON, log, |log| {
            log.contains("counts from now on") || log.contains("nothing was changed")
        })
        .await
    }

    /// A value of SHOW CONFIG.
    pub async fn shown(&self, key: &str) -> String {
        let rows = self.admin("SHOW CONFIG").await;
        let row = rows.iter().find(|row| row.get("key").is_some_and(|one| one == key));
        let value = row.and_then(|row| row.get("value").cloned());
        value.unwrap_or_default()
    }

    /// Asks it to stop (SIGTERM) and returns its exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        signal(self.pid(), "TERM").await;
        let mut process = self.process.take().expect("it runs");
        within("headgate stops", SOON, process.wait()).await.expect("it ran").code()
    }

    /// A session of an application of PostgreSQL.
    pub async fn connect(&self, user: &str, database: &str) -> Client {
        connect(self.port, user, None, database).await
    }

    /// A session of an application of MySQL.
    pub async fn connect_mysql(&self, user: &str, password: &str, database: &str) -> Conn {
        mysql::connect(self.port, user, Some(password), database).await
    }

    /// A session of the admin console of a Headgate for PostgreSQL.
    pub async fn console(&self) -> Client {
        connect(self.port, "headgate", Some(ADMIN_PASSWORD), "headgate").await
    }

    /// A session of the admin console of a Headgate for MySQL.
    pub async fn mysql_console(&self) -> Conn {
        mysql::connect(self.port, "headgate", Some(ADMIN_PASSWORD), "headgate").await
    }

    /// Runs an admin statement that must succeed; its rows by the names of their columns.
    pub async fn admin(&self, statement: &str) -> Vec<Record> {
        self.ask(statement).await.unwrap_or_else(|(state, text)| panic!("{statement}: {text} ({state})"))
    }

    /// Runs an admin statement that must fail; returns its SQLSTATE, and its text with detail and hint.
    pub async fn refused(&self, statement: &str) -> (String, String) {
        match self.ask(statement).await {
            Ok(records) => panic!("{statement} was not refused: {records:?}"),
            Err(refusal) => refusal,
        }
    }

    /// Runs an admin statement of which nobody knows whether the program lives long enough to answer.
    pub fn try_admin(&self, statement: &str) -> BoxFuture<'static, Result<Vec<Record>, String>> {
        self.operator()(statement)
    }

    /// Somebody who runs admin statements as [`Headgate::try_admin`] does, beside this value.
    pub fn operator(&self) -> impl Fn(&str) -> BoxFuture<'static, Result<Vec<Record>, String>> + Send + 'static {
        let (port, engine) = (self.port, self.engine);
        move |statement| {
            let statement = statement.to_owned();
            Box::pin(async move {
                match engine {
                    Engine::Postgres => {
                        let console = try_connect(port, "headgate", Some(ADMIN_PASSWORD), "headgate").await;
                        let console = console.map_err(|error| error.to_string())?;
                        try_records(&console, &statement).await.map_err(|error| match error.as_db_error() {
                            Some(_) => refusal_of_postgres(&statement, &error).1,
                            None => error.to_string(),
                        })
                    }
                    Engine::Mysql => {
                        let console = mysql::try_connect(port, "headgate", Some(ADMIN_PASSWORD), "headgate").await;
                        let mut console = console.map_err(|error| error.to_string())?;
                        mysql::try_records(&mut console, &statement).await.map_err(|error| error.to_string())
                    }
                }
            })
        }
    }

    async fn ask(&self, statement: &str) -> Result<Vec<Record>, (String, String)> {
        match self.engine {
            Engine::Postgres => {
                let answer = try_records(&self.console().await, statement).await;
                answer.map_err(|error| refusal_of_postgres(statement, &error))
            }
            Engine::Mysql => {
                let mut console = self.mysql_console().await;
                let answer = mysql::try_records(&mut console, statement).await;
                answer.map_err(|error| match error {
                    mysql_async::Error::Server(reported) => (reported.state, reported.message),
                    other => panic!("{statement}: {other:?}"),
                })
            }
        }
    }

    /// What its HTTP port answers, head and body.
    pub async fn page(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let asking = async {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.http_port)).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        within("a page", SOON, asking).await.expect("it is served")
    }

    /// The most memory that the process ever had, in KiB.
    pub fn memory_peak_kib(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The memory that the process has now, in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, which: &str) -> u64 {
        let pid = self.pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("this is Linux");
        let line = status.lines().find_map(|line| line.strip_prefix(which)).expect("Linux tells it");
        line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
    }
}

impl Drop for Headgate {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The only evidence of what the program did goes with the folder.
            eprintln!("--- headgate's log ---\n{}", self.log());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn refusal_of_postgres(statement: &str, error: &tokio_postgres::Error) -> (String, String) {
    let reported = error.as_db_error().unwrap_or_else(|| panic!("{statement}: {error:?}"));
    let parts = [Some(reported.message()), reported.detail(), reported.hint()];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
    (reported.code().code().to_owned(), text)
}

/// Sends a signal to a process.
pub async fn signal(pid: u32, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().await;
    assert!(sent.is_ok_and(|status| status.success()), "SIG{name} could not be sent to {pid}");
}

/// Sends a signal to a server: its process and all those that it started. Of these some may be gone by then.
pub async fn signal_server(pid: u32, name: &str) {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    signal(pid, name).await;
    let children = children.unwrap_or_default();
    let _gone = Command::new("sh").args(["-c", &format!("kill -{name} {children} 2>/dev/null")]).status().await;
}

fn process_ended(process: &mut Child) -> bool {
    process.try_wait().is_ok_and(|status| status.is_some())
}

/// The program under test: named by `HEADGATE_BIN`, or built by cargo beside this test.
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("HEADGATE_BIN") {
        return PathBuf::from(named);
    }
    let own = std::env::current_exe().expect("a program knows its own path");
    // Tests lie in target/PROFILE/deps, programs in target/PROFILE.
    let beside = own.ancestors().skip(1).take(2);
    let mut built = beside.map(|folder| folder.join("headgate"));
    built.find(|built| built.is_file()).unwrap_or_else(|| {
        panic!("there is no headgate beside {}: run cargo build -p proxy, or set HEADGATE_BIN", own.display())
    })
}

/// Two ports, which are not the same because both are held while they are asked for.
pub fn free_ports() -> (u16, u16) {
    let listener = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    let listeners = (listener(), listener());
    let port = |listener: &TcpListener| {
        let address = listener.local_addr();
        address.expect("a bound listener has an address").port()
    };
    (port(&listeners.0), port(&listeners.1))
}
