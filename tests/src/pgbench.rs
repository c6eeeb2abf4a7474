//! The load that every PostgreSQL user knows: `pgbench`, from PostgreSQL's own packages.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use crate::headgate::signal;
use crate::postgres::disposable::find;
use tokio::process::{Child, Command};

use crate::wait::within;

/// A finished run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Transactions that were answered with success.
    pub processed: u64,
    /// Transactions that failed.
    pub failed: u64,
}

/// Fills a database with the usual tables.
pub async fn fill(port: u16, database: &str, scale: u32) {
    let mut command = command(port);
    command.args(["-i", "-q", "-s"]).arg(scale.to_string()).arg(database);
    let output = within("pgbench -i", LIMIT, command.output()).await.expect("pgbench can be run");
    assert!(output.status.success(), "{}", said(&output));
}

/// Starts the TPC-B load with these arguments besides; [`finish`] waits for its end.
pub fn start(port: u16, database: &str, arguments: &[&str]) -> Child {
    let mut command = command(port);
    command.arg("-n").args(arguments).arg(database);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("pgbench can be run")
}

/// Ends a load that has a time, as that time would: what has begun is finished.
pub async fn end(child: Child) -> Run {
    signal(child.id().expect("it runs"), "ALRM").await;
    finish(child).await
}

/// Waits for the end of a load; panics unless it ended well.
pub async fn finish(child: Child) -> Run {
    let output = within("pgbench ends", LIMIT, child.wait_with_output()).await.expect("pgbench ran");
    assert!(output.status.success(), "{}", said(&output));
    let said = said(&output);
    let number = |label: &str| -> u64 {
        let line = said.lines().find_map(|line| line.strip_prefix(label));
        let digits = line.unwrap_or_else(|| panic!("no {label:?} in {said}")).split(['/', '(']).next();
        digits.and_then(|digits| digits.trim().parse().ok()).unwrap_or_else(|| panic!("no number in {said}"))
    };
    Run {
        processed: number("number of transactions actually processed:"),
        failed: number("number of failed transactions:"),
    }
}

const LIMIT: Duration = Duration::from_mins(2);

fn command(port: u16) -> Command {
    let tools = std::env::var_os("HEADGATE_PG_TOOLS").map(PathBuf::from);
    let tools = tools.unwrap_or_else(|| find(15).expect("tests/servers/fetch brought it").root.join("bin"));
    let mut command = Command::new(tools.join("pgbench"));
    command.args(["-h", "127.0.0.1", "-U", "postgres", "-p"]).arg(port.to_string()).kill_on_drop(true);
    command
}

fn said(output: &Output) -> String {
    let bytes = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}
