//! (a) One more hop: direct, through Headgate, and through MySQL Router.

use std::fs;
use std::path::{Path, PathBuf};

use tests::certificates::{Authority, Says, headgate as headgate_that_shows};
use tests::headgate::{Engine, Headgate};
use tests::mysql::Mysql;

use super::ground;
use super::load::{self, Data, Until, Work};
use super::migration::{DATABASE, create};
use super::router::Router;
use crate::cpu;
use crate::peers::Folder;
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

/// Measures without TLS and with it on both halves, and prints the tables.
pub(crate) async fn run(quick: bool) {
    let size = if quick {
        Size { data: Data { tables: 2, rows: 10_000 }, seconds: 3, rounds: 1, threads: &[1, 16] }
    } else {
        Size { data: Data { tables: 4, rows: 250_000 }, seconds: 5, rounds: 3, threads: &[1, 16, 64] }
    };
    let (authority, folder) = (Authority::new(), Folder::new("sysbench"));
    let shown = authority.sign_openly("bench", Says { hosts: &["localhost", "127.0.0.1"], ..Says::default() });
    let files = [&authority.file(), &shown.0, &shown.1].map(|path| path.display().to_string());
    // sysbench looks at the certificate of whoever it speaks to.
    let [ca, certificate, key] = &files;
    let server = ground::server_with(&[("ssl-ca", ca), ("ssl-cert", certificate), ("ssl-key", key)]).await;
    create(&server).await;
    load::fill(server.port(), DATABASE, size.data).await;
    contest(&server, &size, "no TLS", None).await;

    for (from, to) in [(&shown.0, "client-cert.pem"), (&shown.1, "client-key.pem"), (&authority.file(), "cacert.pem")] {
        fs::copy(from, folder.path().join(to)).expect("the folder is ours");
    }
    contest(&server, &size, "TLS from the client and to the server", Some((&shown, folder.path()))).await;
}

/// All contenders against one another; in TLS with this certificate, and that folder of sysbench.
async fn contest(server: &Mysql, size: &Size, title: &str, tls: Option<(&(PathBuf, PathBuf), &Path)>) {
    let sections = format!(
        "[clusters.blue]\nengine = \"mysql\"\nhost = \"127.0.0.1\"\nport = {}\nuser = \"root\"\ntls = \"{}\"\n\
         [routes.{DATABASE}]\ncluster = \"blue\"\n",
        server.port(),
        if tls.is_some() { "require" } else { "disable" }
    );
    let shown = tls.map(|(shown, _)| shown);
    let headgate = match shown {
        Some(shown) => headgate_that_shows(Engine::Mysql, shown, "tls = \"require\"\n", &sections).await,
        None => Headgate::start_for(Engine::Mysql, &sections).await,
    };
    let router = Router::start(server.port(), shown).await;
    let folder = tls.map(|(_, folder)| folder);
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
                let [direct, ours, theirs] = rounds(&contenders, work, size, folder).await;
                table.line(line(work, &direct, &ours, &theirs));
            }
        }
    }
    table.print(&format!(
        "sessions, {title}: {} rounds of {} s, {} tables of {} rows",
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
async fn rounds(contenders: &[Contender; 3], work: Work, size: &Size, tls: Option<&Path>) -> [Runs; 3] {
    let mut all = [Runs::default(), Runs::default(), Runs::default()];
    for round in 0..size.rounds {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            if let (Some(contender), Some(runs)) = (contenders.get(index), all.get_mut(index)) {
                slice(contender, work, size, tls, runs).await;
            }
        }
    }
    all
}

async fn slice(contender: &Contender, work: Work, size: &Size, tls: Option<&Path>, runs: &mut Runs) {
    let before = contender.pid.map(cpu::used);
    let until = Until::Seconds(size.seconds);
    let load = match tls {
        Some(folder) => load::start_in_tls(folder, contender.port, size.data, work, until, DATABASE),
        None => load::start(contender.port, DATABASE, size.data, work, until),
    };
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
