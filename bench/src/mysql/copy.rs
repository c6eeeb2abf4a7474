//! (c) Copying a database: Headgate, mydumper with myloader, and mysqldump piped into mysql.

use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::Instant;

use super::ground::tool;
use super::load::{Data, output};
use super::migration::{DATABASE, Ground, create};
use crate::peers::{Folder, find};
use crate::table::{Table, median, ratio};

/// Headgate's default, and so many for the others too.
const THREADS: &str = "4";

/// Who copies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Contender {
    Headgate,
    Mydumper,
    Pipe,
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Headgate => "Headgate (START until following)",
            Self::Mydumper => "mydumper, then myloader",
            Self::Pipe => "mysqldump piped into mysql",
        }
    }
}

/// Copies into a new database each time and prints the table.
pub(crate) async fn run(quick: bool) {
    let (rows, rounds) = if quick { (20_000, 1) } else { (1_000_000, 3) };
    let ground = Ground::start(Data { tables: 4, rows }).await;
    let mut contenders = vec![Contender::Headgate, Contender::Pipe];
    match find("mydumper").and(find("myloader")) {
        Some(_) => contenders.push(Contender::Mydumper),
        None => println!("\nthere is no mydumper here (tests/servers/fetch bench brings it)"),
    }
    let mut seconds = vec![Vec::new(); contenders.len()];
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            if let (Some(contender), Some(seconds)) = (contenders.get(index), seconds.get_mut(index)) {
                let took = copy(&ground, *contender, &format!("copy_{round}")).await;
                seconds.push(took.as_secs_f64());
            }
        }
    }
    let ours = seconds.first().cloned().unwrap_or_default();
    let mut table = Table::new(&["copy", "seconds", "each round", "Headgate's time / this"]);
    for (contender, seconds) in contenders.iter().zip(&seconds) {
        let each: Vec<String> = seconds.iter().map(|seconds| format!("{seconds:.1}")).collect();
        table.line(vec![
            contender.name().to_owned(),
            format!("{:.1}", median(seconds)),
            each.join(" "),
            format!("{:.2}", ratio(&ours, seconds)),
        ]);
    }
    table.print(&format!("4 tables of sysbench with {rows} rows each, MySQL 9.7 to 9.7, {THREADS} threads"));
}

async fn copy(ground: &Ground, contender: Contender, name: &str) -> Duration {
    let (source, target) = (ground.source.port(), ground.target.port());
    if contender == Contender::Headgate {
        let gone = format!("DROP DATABASE IF EXISTS {DATABASE}");
        ground.target.sql("", &gone).await;
        ground.create_migration(name).await;
        let began = Instant::now();
        ground.admin(&format!("START MIGRATION {name}")).await;
        ground.until_state(name, "following").await;
        let took = began.elapsed();
        ground.admin(&format!("STOP MIGRATION {name}")).await;
        ground.until_state(name, "stopped").await;
        ground.admin(&format!("DROP MIGRATION {name}")).await;
        return took;
    }
    create(&ground.target).await;
    let began = Instant::now();
    if contender == Contender::Pipe {
        output("the pipe", pipe(source, target)).await;
    } else {
        let folder = Folder::new("mydumper");
        let files = folder.path().join("dump");
        output("mydumper", dump(source, &files)).await;
        output("myloader", load(target, &files)).await;
    }
    began.elapsed()
}

fn mydumper(name: &str, port: u16) -> Command {
    let mut command = Command::new(find(name).expect("it was there"));
    command.args(["-h", "127.0.0.1", "-P", &port.to_string(), "-u", "root"]);
    command.args(["-B", DATABASE, "-t", THREADS]);
    command
}

fn dump(port: u16, files: &Path) -> Command {
    let mut command = mydumper("mydumper", port);
    command.arg("-o").arg(files);
    command
}

fn load(port: u16, files: &Path) -> Command {
    let mut command = mydumper("myloader", port);
    command.arg("-d").arg(files);
    command
}

fn pipe(source: u16, target: u16) -> Command {
    let script = "set -o pipefail; \
        \"$1\" --no-defaults -h127.0.0.1 -uroot -P\"$3\" --single-transaction --set-gtid-purged=OFF \"$5\" \
        | \"$2\" --no-defaults -h127.0.0.1 -uroot -P\"$4\" \"$5\"";
    let mut command = Command::new("bash");
    command.args(["-c", script, "pipe"]).arg(tool("mysqldump")).arg(tool("mysql")).args([
        &source.to_string(),
        &target.to_string(),
        DATABASE,
    ]);
    command
}
