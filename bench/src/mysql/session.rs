//! (a) One more hop: direct, through Headgate, and through MySQL Router.

use tests::headgate::Headgate;

use super::ground;
use super::load::{self, Data, Until, Work};
use super::migration::{DATABASE, create};
use super::router::Router;
use crate::cpu;
use crate::table::{Table, median, ratio};

/// How much is done.
struct Size {
    data: Data,
    seconds: u64,
    rounds: usize,
    threads: &'static [u32],
}

/// One way to the server.
struct Contender {
    port: u16,
    /// The process between, if there is one.
    pid: Option<u32>,
}

/// What one contender did in each round.
#[derive(Default)]
struct Runs {
    tps: Vec<f64>,
    median_ms: Vec<f64>,
    cpu_us: Vec<f64>,
}

/// Measures and prints the table.
pub(crate) async fn run(quick: bool) {
    let size = if quick {
        Size { data: Data { tables: 2, rows: 10_000 }, seconds: 3, rounds: 1, threads: &[1, 16] }
    } else {
        Size { data: Data { tables: 4, rows: 250_000 }, seconds: 5, rounds: 3, threads: &[1, 16, 64] }
    };
    let server = ground::server().await;
    create(&server).await;
    load::fill(server.port(), DATABASE, size.data).await;
    let headgate = Headgate::start(&format!(
        "[clusters.blue]\nengine = \"mysql\"\nhost = \"127.0.0.1\"\nport = {}\nuser = \"root\"\ntls = \"disable\"\n\
         [routes.{DATABASE}]\ncluster = \"blue\"\n",
        server.port()
    ))
    .await;
    let router = Router::start(server.port(), DATABASE).await;
    let contenders = [
        Contender { port: server.port(), pid: None },
        Contender { port: headgate.port(), pid: Some(headgate.pid()) },
        Contender { port: router.port(), pid: Some(router.pid()) },
    ];
    let mut table = Table::new(&[
        "script, threads, statements",
        "direct tps",
        "Headgate tps",
        "Router tps",
        "Headgate / Router",
        "Headgate / direct",
        "Headgate CPU us/query",
        "Router CPU us/query",
        "CPU ratio",
        "p50 ms direct, Headgate, Router",
    ]);
    for script in ["oltp_point_select", "oltp_read_write"] {
        for &threads in size.threads {
            for prepared in [true, false] {
                let work = Work { script, threads, prepared };
                let [direct, ours, theirs] = rounds(&contenders, work, &size).await;
                table.line(line(work, &direct, &ours, &theirs));
            }
        }
    }
    table.print(&format!(
        "sessions: {} rounds of {} s, {} tables of {} rows",
        size.rounds, size.seconds, size.data.tables, size.data.rows
    ));
}

fn line(work: Work, direct: &Runs, ours: &Runs, theirs: &Runs) -> Vec<String> {
    let whole = |values: &[f64]| format!("{:.0}", median(values));
    let latencies = [direct, ours, theirs].map(|runs| format!("{:.2}", median(&runs.median_ms)));
    let how = if work.prepared { "prepared" } else { "text" };
    vec![
        format!("{}, {}, {how}", work.script, work.threads),
        whole(&direct.tps),
        whole(&ours.tps),
        whole(&theirs.tps),
        format!("{:.2}", ratio(&ours.tps, &theirs.tps)),
        format!("{:.2}", ratio(&ours.tps, &direct.tps)),
        format!("{:.1}", median(&ours.cpu_us)),
        format!("{:.1}", median(&theirs.cpu_us)),
        format!("{:.2}", ratio(&ours.cpu_us, &theirs.cpu_us)),
        latencies.join(", "),
    ]
}

/// Every contender once per round, each round beginning with another one.
async fn rounds(contenders: &[Contender; 3], work: Work, size: &Size) -> [Runs; 3] {
    let mut all = [Runs::default(), Runs::default(), Runs::default()];
    for round in 0..size.rounds {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            if let (Some(contender), Some(runs)) = (contenders.get(index), all.get_mut(index)) {
                slice(contender, work, size, runs).await;
            }
        }
    }
    all
}

async fn slice(contender: &Contender, work: Work, size: &Size, runs: &mut Runs) {
    let before = contender.pid.map(cpu::used);
    let until = Until::Seconds(size.seconds);
    let load = load::start(contender.port, DATABASE, size.data, work, until);
    let run = load::finish(load).await;
    // The connecting is in it: some milliseconds for each of some thousand statements.
    if let (Some(pid), Some(before)) = (contender.pid, before) {
        let used = cpu::used(pid).saturating_sub(before);
        runs.cpu_us.push(cpu::micros_per(used, run.queries));
    }
    assert!(run.reconnects < 0.5, "{run:?}");
    runs.tps.push(run.tps);
    runs.median_ms.push(run.median_ms);
}
