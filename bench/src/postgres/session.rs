//! (a) One more hop: direct, through Headgate, and through PgBouncer in session mode.

use std::path::PathBuf;

use tests::certificates::{Authority, Says, headgate as headgate_that_shows};
use tests::headgate::{Engine, Headgate};
use tests::postgres::Postgres;

use crate::peers::Folder;
use crate::postgres::ground;
use crate::postgres::load::{self, At};
use crate::postgres::pgbouncer::PgBouncer;
use crate::table::{Table, median, ratio};

const DATABASE: &str = "bench";

/// How much is done.
struct Size {
    scale: u32,
    seconds: &'static str,
    rounds: usize,
    clients: &'static [u32],
    protocols: &'static [&'static str],
}

/// One way to the server.
struct Contender {
    at: At,
    /// The process between, if there is one.
    pid: Option<u32>,
}

/// One row of the table: what is run.
struct Kind {
    script: &'static str,
    clients: u32,
    protocol: &'static str,
}

/// What one contender did in each round.
#[derive(Default)]
struct Runs {
    tps: Vec<f64>,
    latency_us: Vec<f64>,
    cpu_us: Vec<f64>,
}

/// Measures both transports, and TLS on both halves, and prints the tables.
pub(crate) async fn run(quick: bool) {
    let size = if quick {
        Size { scale: 1, seconds: "3", rounds: 1, clients: &[1, 16], protocols: &["prepared"] }
    } else {
        Size {
            scale: 50,
            seconds: "3",
            rounds: 3,
            clients: &[1, 16, 64],
            protocols: &["simple", "extended", "prepared"],
        }
    };
    let server = ground::server(14).await;
    server.sql("postgres", &format!("create database {DATABASE}")).await;
    load::fill(&At::loopback(server.port(), DATABASE), size.scale).await;
    server.sql(DATABASE, "checkpoint").await;

    let socket = server.server.socket_dir().display().to_string();
    transport(&server, &size, "127.0.0.1", &["select-only", "tpcb-like"], "TCP to the server", None).await;
    transport(&server, &size, &socket, &["select-only"], "a Unix socket to the server", None).await;
    let authority = Authority::new();
    let shown = authority.sign_openly("bench", Says { hosts: &["localhost", "127.0.0.1"], ..Says::default() });
    server.speak_tls(&shown, None).await;
    let title = "TLS from the client and to the server";
    transport(&server, &size, "127.0.0.1", &["select-only", "tpcb-like"], title, Some(&shown)).await;
}

async fn transport(
    server: &Postgres,
    size: &Size,
    host: &str,
    scripts: &[&'static str],
    title: &str,
    shown: Option<&(PathBuf, PathBuf)>,
) {
    let tls = shown.is_some();
    let sections = format!(
        "[clusters.blue]\nhost = \"{host}\"\nport = {}\nuser = \"postgres\"\ntls = \"{}\"\n\
         [routes.{DATABASE}]\ncluster = \"blue\"\n[login]\nmethod = \"trust\"\n",
        server.port(),
        if tls { "require" } else { "disable" }
    );
    let headgate = match shown {
        Some(shown) => headgate_that_shows(Engine::Postgres, shown, "tls = \"require\"\n", &sections).await,
        None => Headgate::start(&sections).await,
    };
    let pgbouncer = PgBouncer::start("pgbouncer", (host, server.port()), DATABASE, shown).await;
    let at = |host: &str, port: u16| At { host: host.to_owned(), port, database: DATABASE.to_owned(), tls };
    let contenders = [
        Contender { at: at(host, server.port()), pid: None },
        Contender { at: at("127.0.0.1", headgate.port()), pid: Some(headgate.pid()) },
        Contender { at: at("127.0.0.1", pgbouncer.port()), pid: Some(pgbouncer.pid()) },
    ];
    let mut table = Table::new(&[
        "script, clients, protocol",
        "direct tps",
        "Headgate tps",
        "PgBouncer tps",
        "Headgate / PgBouncer",
        "Headgate / direct",
        "Headgate CPU us/tx",
        "PgBouncer CPU us/tx",
        "CPU ratio",
        "p50 us direct, Headgate, PgBouncer",
        "p50 ratio",
    ]);
    for &script in scripts {
        for &clients in size.clients {
            for &protocol in size.protocols {
                let kind = Kind { script, clients, protocol };
                let [direct, ours, theirs] = rounds(server, &contenders, &kind, size).await;
                table.line(line(&kind, &direct, &ours, &theirs));
            }
        }
    }
    table.print(&format!("sessions, {title}: {} rounds of {} s, scale {}", size.rounds, size.seconds, size.scale));
}

fn line(kind: &Kind, direct: &Runs, ours: &Runs, theirs: &Runs) -> Vec<String> {
    let whole = |values: &[f64]| format!("{:.0}", median(values));
    let latencies = [direct, ours, theirs].map(|runs| whole(&runs.latency_us));
    let (latencies, latency_ratio) = if kind.clients == 1 {
        let ratio = ratio(&ours.latency_us, &theirs.latency_us);
        (latencies.join(", "), format!("{ratio:.2}"))
    } else {
        (String::new(), String::new())
    };
    vec![
        format!("{}, {}, {}", kind.script, kind.clients, kind.protocol),
        whole(&direct.tps),
        whole(&ours.tps),
        whole(&theirs.tps),
        format!("{:.2}", ratio(&ours.tps, &theirs.tps)),
        format!("{:.2}", ratio(&ours.tps, &direct.tps)),
        format!("{:.1}", median(&ours.cpu_us)),
        format!("{:.1}", median(&theirs.cpu_us)),
        format!("{:.2}", ratio(&ours.cpu_us, &theirs.cpu_us)),
        latencies,
        latency_ratio,
    ]
}

/// Every contender once per round, each round beginning with another one.
async fn rounds(server: &Postgres, contenders: &[Contender; 3], kind: &Kind, size: &Size) -> [Runs; 3] {
    let mut all = [Runs::default(), Runs::default(), Runs::default()];
    for round in 0..size.rounds {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            if let (Some(contender), Some(runs)) = (contenders.get(index), all.get_mut(index)) {
                if kind.script == "tpcb-like" {
                    // Each run would inherit the dead rows of the one before.
                    let tidy = "vacuum pgbench_branches; vacuum pgbench_tellers; truncate pgbench_history";
                    for statement in tidy.split("; ") {
                        server.sql(DATABASE, statement).await;
                    }
                }
                slice(contender, kind, size.seconds, runs).await;
            }
        }
    }
    all
}

async fn slice(contender: &Contender, kind: &Kind, seconds: &str, runs: &mut Runs) {
    let folder = Folder::new("latencies");
    let clients = kind.clients.to_string();
    let prefix = format!("--log-prefix={}/run", folder.path().display());
    let mut arguments = vec!["-b", kind.script, "-M", kind.protocol, "-c", &clients, "-P", "1", "-T", seconds];
    if kind.clients == 1 {
        arguments.extend(["-l", &prefix]);
    } else {
        arguments.extend(["-j", "2"]);
    }
    let mut load = load::start(&contender.at, &arguments);
    if let Some(pid) = contender.pid {
        runs.cpu_us.push(load::cpu_per_transaction(&mut load, pid).await);
    }
    let run = load::finish(load).await;
    assert_eq!(run.failed, 0, "{run:?}");
    runs.tps.push(run.tps);
    if kind.clients == 1 {
        runs.latency_us.push(median(&load::take_latencies(folder.path())));
    }
}
