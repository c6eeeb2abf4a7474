//! `sysbench` as the measuring client.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tests::mysql::Login;
use tests::wait::within;
use tokio::process::{Child, Command};

/// A load that nobody needs may go on for this long at most.
const LIMIT: Duration = Duration::from_mins(15);

/// The application's account.
pub(crate) const USER: &str = "bench";
/// Its password.
pub(crate) const PASSWORD: &str = "bench";

/// Tables and their rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Data {
    /// How many tables.
    pub(crate) tables: u32,
    /// Rows in each.
    pub(crate) rows: u32,
}

/// Who does what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// The script of sysbench.
    pub(crate) script: &'static str,
    /// Connections at the same time.
    pub(crate) threads: u32,
    /// Whether statements are prepared.
    pub(crate) prepared: bool,
}

/// When a load ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// After so many seconds.
    Seconds(u64),
    /// After so many transactions.
    Transactions(u32),
}

/// A finished run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// Transactions per second.
    pub(crate) tps: f64,
    /// Transactions that were answered with success.
    pub(crate) transactions: f64,
    /// Statements that were answered with success.
    pub(crate) queries: f64,
    /// Errors that sysbench took as usual, such as deadlocks.
    pub(crate) ignored_errors: f64,
    /// Connections that were lost and opened again.
    pub(crate) reconnects: f64,
    /// The median of a transaction's time, in milliseconds.
    pub(crate) median_ms: f64,
}

/// An account's way into the database behind a loopback port.
pub(crate) fn login(port: u16, database: &str) -> Login<'_> {
    Login { port, user: USER, password: PASSWORD, database }
}

/// Fills a database with the usual tables.
pub(crate) async fn fill(port: u16, database: &str, data: Data) {
    let arguments = arguments(data, "oltp_write_only", 4);
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.push("prepare");
    output("sysbench prepare", login(port, database).sysbench(&arguments)).await;
}

fn arguments(data: Data, script: &str, threads: u32) -> Vec<String> {
    vec![
        script.to_owned(),
        format!("--tables={}", data.tables),
        format!("--table-size={}", data.rows),
        format!("--threads={threads}"),
    ]
}

/// Starts a load.
pub(crate) fn start(port: u16, database: &str, data: Data, work: Work, until: Until) -> Child {
    spawn(command(port, database, data, work, until, &[]))
}

/// The same over TLS; sysbench takes its certificate, key and authority from files of fixed names in this folder.
pub(crate) fn start_in_tls(folder: &Path, port: u16, data: Data, work: Work, until: Until, database: &str) -> Child {
    let mut command = command(port, database, data, work, until, &["--mysql-ssl=on"]);
    command.current_dir(folder);
    spawn(command)
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null());
    command.spawn().expect("sysbench can be run")
}

fn command(port: u16, database: &str, data: Data, work: Work, until: Until, more: &[&str]) -> Command {
    let mut all = arguments(data, work.script, work.threads);
    all.push("--percentile=50".to_owned());
    all.push(format!("--db-ps-mode={}", if work.prepared { "auto" } else { "disable" }));
    match until {
        Until::Seconds(seconds) => all.push(format!("--time={seconds}")),
        Until::Transactions(count) => {
            all.extend(["--time=0".to_owned(), format!("--events={count}")]);
        }
    }
    let mut arguments: Vec<&str> = all.iter().map(String::as_str).collect();
    arguments.extend(more);
    arguments.push("run");
    login(port, database).sysbench(&arguments)
}

/// Waits for the end of a load; panics unless the program ended well.
pub(crate) async fn finish(child: Child) -> Run {
    let output = within("sysbench ends", LIMIT, child.wait_with_output()).await.expect("it ran");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "sysbench: {said}{}", String::from_utf8_lossy(&output.stderr));
    let line = |label: &str| {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(label));
        line.unwrap_or_else(|| panic!("no {label:?} in {said}")).to_owned()
    };
    let numbers =
        |label: &str| -> Vec<f64> { line(label).split([' ', '(']).filter_map(|word| word.parse().ok()).collect() };
    let first = |label: &str| numbers(label).first().copied().unwrap_or(f64::NAN);
    Run {
        tps: numbers("transactions:").get(1).copied().unwrap_or(f64::NAN),
        transactions: first("transactions:"),
        queries: first("queries:"),
        ignored_errors: first("ignored errors:"),
        reconnects: first("reconnects:"),
        median_ms: first("50th percentile:"),
    }
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
