//! (c) Copying a database: Headgate, pgcopydb, and a bare binary COPY pipe without indexes.

use std::path::Path;
use std::time::Duration;

use tests::world::DATABASE;
use tokio::process::Command;
use tokio::time::Instant;

use crate::peers::{Folder, find};
use crate::postgres::ground::tool;
use crate::postgres::load::output;
use crate::postgres::migration::{Ground, create};
use crate::table::{Table, median, ratio};

/// Headgate's default, and so many for the others too.
const JOBS: &str = "4";
/// What pgcopydb offers for speed; its users get by default what comes without.
const FASTEST: [&str; 4] = ["--use-copy-binary", "--split-tables-larger-than", "64MB", "--skip-vacuum"];
const TABLES: [&str; 4] = ["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"];

/// Who copies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Contender {
    Headgate,
    PgCopyDb,
    FastestPgCopyDb,
    Pipe,
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Headgate => "Headgate (START until following)",
            Self::PgCopyDb => "pgcopydb clone",
            Self::FastestPgCopyDb => "pgcopydb clone, binary, split by 64MB, no vacuum",
            Self::Pipe => "binary COPY pipe, without indexes",
        }
    }
}

/// Copies into a new database each time and prints the table.
pub(crate) async fn run(quick: bool) {
    let (scale, rounds) = if quick { (2, 1) } else { (50, 3) };
    let ground = Ground::start(scale).await;
    let mut contenders = vec![Contender::Headgate, Contender::Pipe];
    match find("pgcopydb") {
        Some(_) => contenders.extend([Contender::PgCopyDb, Contender::FastestPgCopyDb]),
        None => println!("\nthere is no pgcopydb here (tests/servers/fetch bench brings it)"),
    }
    let mut seconds = vec![Vec::new(); contenders.len()];
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            if let (Some(contender), Some(seconds)) = (contenders.get(index), seconds.get_mut(index)) {
                create(&ground.target, DATABASE).await;
                ground.target.sql("postgres", "checkpoint").await;
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
    table.print(&format!("pgbench -i -s {scale} from PostgreSQL 14 to 18, {JOBS} jobs"));
}

async fn copy(ground: &Ground, contender: Contender, name: &str) -> Duration {
    let urls = [&ground.source, &ground.target].map(|server| server.server.url(DATABASE));
    match contender {
        Contender::Headgate => {
            ground.create_migration(name).await;
            let began = Instant::now();
            ground.admin(&format!("START MIGRATION {name}")).await;
            ground.until_state(name, "following").await;
            let took = began.elapsed();
            ground.admin(&format!("STOP MIGRATION {name}")).await;
            ground.until_state(name, "stopped").await;
            ground.admin(&format!("DROP MIGRATION {name}")).await;
            took
        }
        Contender::PgCopyDb => pgcopydb(&urls, &[]).await,
        Contender::FastestPgCopyDb => pgcopydb(&urls, &FASTEST).await,
        Contender::Pipe => {
            let mut tables = Command::new(tool("pgbench"));
            tables.args(["-i", "-I", "t", &urls[1]]);
            output("pgbench -i -I t", tables).await;
            let began = Instant::now();
            for table in TABLES {
                output("the pipe", pipe(&tool("psql"), &urls, table)).await;
            }
            began.elapsed()
        }
    }
}

async fn pgcopydb(urls: &[String; 2], options: &[&str]) -> Duration {
    let program = find("pgcopydb").expect("it was there");
    let folder = Folder::new("pgcopydb");
    let mut command = Command::new(&program);
    command.args(["clone", "--source", &urls[0], "--target", &urls[1], "--table-jobs", JOBS]);
    command.args(["--index-jobs", JOBS, "--dir"]).arg(folder.path().join("work")).args(options);
    // It looks for pg_dump, pg_restore and psql there; those beside it are of its own version.
    let beside = program.parent().map(Path::to_path_buf).into_iter();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(beside.chain(std::env::split_paths(&path)));
    command.env("PATH", path.expect("PATH was one before"));
    let began = Instant::now();
    output("pgcopydb clone", command).await;
    began.elapsed()
}

fn pipe(psql: &Path, urls: &[String; 2], table: &str) -> Command {
    let script = "set -o pipefail; \
        \"$1\" -XqAt -v ON_ERROR_STOP=1 -d \"$2\" -c \"copy $4 to stdout (format binary)\" \
        | \"$1\" -Xq -v ON_ERROR_STOP=1 -d \"$3\" -c \"copy $4 from stdin (format binary)\"";
    let mut command = Command::new("bash");
    command.args(["-c", script, "pipe"]).arg(psql).args([&urls[0], &urls[1], table]);
    command
}
