//! `pgbench` as the measuring client.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tests::wait::within;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::cpu;
use crate::postgres::ground::tool;

/// A load that nobody needs may go on for this long at most.
const LIMIT: Duration = Duration::from_mins(15);

/// Where a load goes.
#[derive(Debug, Clone)]
pub(crate) struct At {
    /// The host, or the folder of a Unix socket.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
    /// The database.
    pub(crate) database: String,
    /// Whether the client insists on TLS; otherwise it asks for none.
    pub(crate) tls: bool,
}

impl At {
    /// A database behind a loopback port.
    pub(crate) fn loopback(port: u16, database: &str) -> Self {
        Self { host: "127.0.0.1".to_owned(), port, database: database.to_owned(), tls: false }
    }
}

/// A finished run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// Transactions per second, the connecting not counted.
    pub(crate) tps: f64,
    /// Transactions that were answered with success.
    pub(crate) processed: u64,
    /// Transactions that failed.
    pub(crate) failed: u64,
}

/// Fills a database with the usual tables, durably, and has it analysed.
pub(crate) async fn fill(at: &At, scale: u32) {
    let mut command = command(at);
    command.args(["-i", "-q", "-s"]).arg(scale.to_string()).arg(&at.database);
    output("pgbench -i", command).await;
}

/// Starts a load with these arguments; the tables are not vacuumed first.
pub(crate) fn start(at: &At, arguments: &[&str]) -> Child {
    let mut command = command(at);
    command.arg("-n").args(arguments).arg(&at.database);
    spawn(command)
}

/// As [`start`], by sessions whose commits do not wait for the disk.
pub(crate) fn start_hasty(at: &At, arguments: &[&str]) -> Child {
    let mut command = command(at);
    command.arg("-n").args(arguments).arg(&at.database);
    command.env("PGOPTIONS", "-c synchronous_commit=off");
    spawn(command)
}

/// Waits for the end of a load; panics unless the program ended well.
pub(crate) async fn finish(child: Child) -> Run {
    let output = within("pgbench ends", LIMIT, child.wait_with_output()).await.expect("it ran");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "pgbench: {said}{}", String::from_utf8_lossy(&output.stderr));
    let number = |label: &str| -> f64 {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(label));
        let number = line.and_then(|line| line.split(['/', '(']).next()?.trim().parse().ok());
        number.unwrap_or_else(|| panic!("no number after {label:?} in {said}"))
    };
    let count = |label: &str| -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count that pgbench printed")]
        let count = number(label) as u64;
        count
    };
    Run {
        tps: number("tps ="),
        processed: count("number of transactions actually processed:"),
        failed: count("number of failed transactions:"),
    }
}

/// Reads a process' CPU time whenever a load with `-P` tells its progress; the microseconds per transaction between the
/// first time and the last, so that neither connecting nor leaving is in it.
pub(crate) async fn cpu_per_transaction(load: &mut Child, pid: u32) -> f64 {
    let mut lines = BufReader::new(load.stderr.take().expect("it is piped")).lines();
    let (mut first, mut last, mut transactions) = (None, Duration::ZERO, 0.0);
    while let Ok(Some(line)) = lines.next_line().await {
        let Some((seconds, tps)) = progress(&line) else {
            eprintln!("{line}");
            continue;
        };
        last = cpu::used(pid);
        let (began, mut at) = first.unwrap_or((last, seconds));
        if first.is_some() {
            transactions += tps * (seconds - at);
            at = seconds;
        }
        first = Some((began, at));
    }
    let (began, _) = first.expect("pgbench -P tells its progress");
    cpu::micros_per(last.saturating_sub(began), transactions)
}

/// Reads `progress: 1.0 s, 100.0 tps, …`.
fn progress(line: &str) -> Option<(f64, f64)> {
    let (seconds, rest) = line.strip_prefix("progress: ")?.split_once(" s, ")?;
    let (tps, _) = rest.split_once(" tps")?;
    Some((seconds.parse().ok()?, tps.parse().ok()?))
}

/// The latencies of all transactions, in microseconds, that a run with `-l --log-prefix=FOLDER/…` left behind; takes
/// the files away.
pub(crate) fn take_latencies(folder: &Path) -> Vec<f64> {
    let files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder is ours")
        .map(|entry| entry.expect("the folder is ours").path())
        .collect();
    let mut latencies = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("pgbench wrote text");
        let latency = |line: &str| line.split(' ').nth(2)?.parse::<f64>().ok();
        latencies.extend(text.lines().filter_map(latency));
        fs::remove_file(&file).expect("the folder is ours");
    }
    latencies
}

/// Runs a program to its end; panics unless it ended well.
pub(crate) async fn output(what: &str, mut command: Command) {
    let output = within(what, LIMIT, command.kill_on_drop(true).output()).await;
    let output = output.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(
        output.status.success(),
        "{what}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("pgbench can be run")
}

fn command(at: &At) -> Command {
    let mut command = Command::new(tool("pgbench"));
    command.args(["-h", &at.host, "-U", "postgres", "-p", &at.port.to_string()]);
    command.env("PGSSLMODE", if at.tls { "require" } else { "disable" });
    command.kill_on_drop(true);
    command
}
