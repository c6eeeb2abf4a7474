//! Applications that stay connected while their database moves: real drivers, each with a script in `tests/drivers/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::mysql::{java, node, python};
use crate::wait::within;
use crate::world::{DATABASE, Side, World};

/// What is configured for logins while dozens of interpreters share the machine.
pub const UNHURRIED: &str = "[limits]\nlogin_timeout = \"120s\"\n";

/// As long as Headgate gives them.
const TIMEOUT: Duration = Duration::from_mins(2);

/// What a driver's script is.
#[derive(Clone, Debug)]
pub enum Script {
    /// By Python's drivers: a file in `tests/drivers/`, and what its arguments begin with.
    Python(&'static str, Option<PathBuf>),
    /// By Node's.
    Node(&'static str),
    /// By Java's, of this engine's driver.
    Jdbc(&'static str),
    /// By one of Rust's: the program `staying`, and what its arguments begin with.
    Rust(&'static str, &'static str),
}

impl Script {
    fn command(&self) -> Command {
        let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers").join(name);
        match self {
            Self::Python(name, first) => {
                let mut command = python();
                command.arg(file(name)).args(first);
                command
            }
            Self::Node(name) => {
                let mut command = node();
                command.arg(file(name));
                command
            }
            Self::Jdbc(engine) => {
                let mut command = java();
                // Small and soon there: it runs for seconds.
                command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx128m"]);
                command.arg(file("Jdbc.java")).arg(engine);
                command
            }
            Self::Rust(program, driver) => {
                let mut command = Command::new(program);
                command.arg(driver);
                command
            }
        }
    }
}

/// A driver, how it is encrypted and how it logs in.
#[derive(Clone, Debug)]
pub struct Login<'a> {
    /// What it is called here.
    pub driver: &'a str,
    /// What runs it.
    pub script: Script,
    /// `disable`, `require`, `verify-full`, or what is more than that one; see `tests/drivers/staying.py`.
    pub tls: &'a str,
    /// The account.
    pub user: &'a str,
    /// Its password; empty for none.
    pub password: &'a str,
    /// Files of the authority, and of a certificate and its key.
    pub files: [&'a Path; 3],
}

impl Login<'_> {
    /// What its rows are of.
    pub fn name(&self) -> String {
        format!("{} {} {}", self.driver, self.tls, self.user)
    }

    fn start(&self, port: u16) -> Staying {
        let name = self.name();
        let mut command = self.script.command();
        let port = port.to_string();
        command.args([name.as_str(), "localhost", &port, self.user, self.password, DATABASE, self.tls]);
        command.args(self.files);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("tests/servers/fetch brings it");
        Staying {
            name,
            to: process.stdin.take().expect("piped"),
            from: BufReader::new(process.stdout.take().expect("piped")).lines(),
            errors: process.stderr.take().expect("piped"),
            process,
        }
    }
}

/// A script that runs.
struct Staying {
    name: String,
    process: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
    errors: ChildStderr,
}

impl Staying {
    async fn say(&mut self, word: &str) {
        // Why it could not be written is what the script's next line says.
        let _ = self.to.write_all(format!("{word}\n").as_bytes()).await;
    }

    /// The next line, or what went wrong instead.
    async fn line(&mut self, when: &str) -> Result<String, String> {
        let line = within(&format!("{} {when}", self.name), TIMEOUT, self.from.next_line()).await;
        if let Some(line) = line.expect("UTF-8") {
            return if line.starts_with("error ") { Err(format!("{} {when}: {line}", self.name)) } else { Ok(line) };
        }
        let mut text = String::new();
        self.errors.read_to_string(&mut text).await.expect("UTF-8");
        Err(format!("{} {when}: it ended: {text}", self.name))
    }

    /// Waits until each of its sessions has begun and ended a transaction.
    async fn progress(&mut self, when: &str) -> Result<(), String> {
        if when != READY {
            self.say("progress").await;
        }
        self.line(when).await.map(drop)
    }

    /// Ends it; how many of its transactions were acknowledged.
    async fn stop(mut self) -> Result<u64, String> {
        self.say("stop").await;
        let last = self.line("at the end").await?;
        let counted = last.strip_prefix("acknowledged ").and_then(|rest| rest.strip_suffix(", errors 0"));
        let ended = within(&self.name, TIMEOUT, self.process.wait()).await.expect("it ran");
        let count = counted.and_then(|count| count.parse().ok()).filter(|_| ended.success());
        count.ok_or_else(|| format!("{}: {last}, {ended}", self.name))
    }
}

const READY: &str = "at first";

/// Waits until all have made progress; panics with every one that had an error.
async fn all_progress(running: &mut [Staying], when: &str) {
    all_well(join_all(running.iter_mut().map(|one| one.progress(when))).await);
}

fn all_well<T>(results: Vec<Result<T, String>>) -> Vec<T> {
    let (well, wrong): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    let wrong: Vec<String> = wrong.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{} drivers noticed:\n{}", wrong.len(), wrong.join("\n"));
    well.into_iter().filter_map(Result::ok).collect()
}

/// All of these where `HEADGATE_TEST_DRIVERS` is `all`; else each driver once, and each encryption and account once.
fn chosen<'a, 'b>(logins: &'a [Login<'b>]) -> Vec<&'a Login<'b>> {
    let all = std::env::var_os("HEADGATE_TEST_DRIVERS").is_some_and(|wanted| wanted == "all");
    let (mut drivers, mut ways) = (BTreeSet::new(), BTreeSet::new());
    let is_new = |login: &&Login<'_>| {
        let (driver, way) =
            (drivers.insert(login.driver.to_owned()), ways.insert(format!("{} {}", login.tls, login.user)));
        all || driver || way
    };
    logins.iter().filter(is_new).collect()
}

/// Has the database of a world move and come back under these drivers, all at once. None may have an error, each must go on
/// after each switch, and the source must have what they were acknowledged and nothing else: `counted` gives the rows of
/// each driver that are as they were written, and all its rows.
pub async fn there_and_back<S: Side>(world: &World<S>, logins: &[Login<'_>], counted: &str) {
    let (port, logins) = (world.headgate.port(), chosen(logins));
    let mut running: Vec<Staying> = logins.iter().map(|login| login.start(port)).collect();
    all_progress(&mut running, READY).await;
    world.follow().await;
    world.check().await;
    all_progress(&mut running, "before the cutover").await;
    world.cutover().await;
    all_progress(&mut running, "after the cutover").await;
    world.roll_back().await;
    all_progress(&mut running, "after the rollback").await;
    let acknowledged = all_well(join_all(running.into_iter().map(Staying::stop)).await);
    let mut expected: Vec<_> = logins.iter().map(|login| login.name()).zip(acknowledged).collect();
    expected.sort();
    for (name, count) in &expected {
        println!("{name}: {count}");
    }
    let row = |(name, count): (String, u64)| [name, count.to_string(), count.to_string()].map(Some).to_vec();
    let expected: Vec<_> = expected.into_iter().map(row).collect();
    assert_eq!(world.source.sql(DATABASE, counted).await, expected);
}
