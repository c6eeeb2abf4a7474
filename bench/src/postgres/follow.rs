//! (d) Catching up: what was written while nobody followed, by Headgate and by a native subscription.

use std::time::Duration;

use tests::postgres::{Postgres, rows};
use tests::wait::until;
use tests::world::DATABASE;
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::cpu;
use crate::postgres::ground;
use crate::postgres::load::{self, At};
use crate::postgres::migration::{Ground, LIMIT, create, fill};
use crate::table::{Table, median, ratio};

const CLIENTS: u32 = 8;
const NATIVE: &str = "native";

/// What one contender did in each round.
#[derive(Default)]
struct Runs {
    seconds: Vec<f64>,
    /// CPU per transaction of the process that follows.
    follower_us: Vec<f64>,
    /// CPU per transaction of its session on the target, where that is another process.
    session_us: Vec<f64>,
}

/// Lets both catch up with the same load, each on its own pair of servers, and prints the table.
pub(crate) async fn run(quick: bool) {
    let (scale, rounds, transactions) = if quick { (2, 1, 2_000) } else { (20, 3, 100_000) };
    let ground = Ground::start(scale).await;
    ground.create_migration("m").await;
    ground.admin("START MIGRATION m").await;
    ground.until_state("m", "following").await;
    let native = Native::start(scale).await;

    let (mut ours, mut theirs) = (Runs::default(), Runs::default());
    for round in 0..rounds {
        let ours_first = round % 2 == 0;
        if ours_first {
            by_headgate(&ground, transactions, &mut ours).await;
        }
        native.catch_up(transactions, &mut theirs).await;
        if !ours_first {
            by_headgate(&ground, transactions, &mut ours).await;
        }
    }
    ground.check("m").await;

    let mut table = Table::new(&[
        "catching up",
        "seconds",
        "each round",
        "transactions/s",
        "Headgate's time / this",
        "follower's CPU us/transaction",
        "target session's",
    ]);
    for (name, runs) in [("Headgate", &ours), ("native subscription", &theirs)] {
        let each: Vec<String> = runs.seconds.iter().map(|seconds| format!("{seconds:.1}")).collect();
        table.line(vec![
            name.to_owned(),
            format!("{:.2}", median(&runs.seconds)),
            each.join(" "),
            format!("{:.0}", f64::from(transactions) / median(&runs.seconds)),
            format!("{:.2}", ratio(&ours.seconds, &runs.seconds)),
            format!("{:.1}", median(&runs.follower_us)),
            format!("{:.1}", median(&runs.session_us)),
        ]);
    }
    table.print(&format!("{transactions} transactions of pgbench -N, scale {scale}, from PostgreSQL 14 to 18"));
    println!(
        "\nthe native subscription's worker is follower and session in one;\n\
         both sides are equal after all rounds"
    );
}

async fn by_headgate(ground: &Ground, transactions: u32, runs: &mut Runs) {
    ground.admin("STOP MIGRATION m").await;
    ground.until_state("m", "stopped").await;
    let last = write(&ground.source, DATABASE, transactions).await;
    let watch = ground.target.connect(DATABASE).await;
    let before = cpu::used(ground.headgate.pid());
    let began = Instant::now();
    ground.admin("START MIGRATION m").await;
    until_there(&watch, &last).await;
    runs.seconds.push(began.elapsed().as_secs_f64());
    let used = cpu::used(ground.headgate.pid()).saturating_sub(before);
    let per = |used| cpu::micros_per(used, f64::from(transactions));
    runs.follower_us.push(per(used));
    // The session is new after each start.
    let session = "select pid::text from pg_stat_activity where application_name = 'headgate m apply'";
    let pid = ground.target.value(DATABASE, session).await;
    runs.session_us.push(per(cpu::used(pid.parse().expect("a process id"))));
    ground.until_state("m", "following").await;
}

/// A publication on a PostgreSQL 14 and a subscription on a PostgreSQL 18.
struct Native {
    source: Postgres,
    target: Postgres,
}

impl Native {
    async fn start(scale: u32) -> Self {
        let (source, target) = tokio::join!(ground::server(14), ground::server(18));
        for server in [&source, &target] {
            create(server, NATIVE).await;
            fill(server, NATIVE, scale).await;
        }
        let empty = "truncate pgbench_accounts, pgbench_branches, pgbench_tellers, pgbench_history";
        target.sql(NATIVE, empty).await;
        source.sql(NATIVE, "create publication bench for all tables").await;
        let subscribe = format!(
            "create subscription bench connection 'host=127.0.0.1 port={} user=postgres dbname={NATIVE}' publication bench",
            source.port()
        );
        target.sql(NATIVE, &subscribe).await;
        let ready = "select bool_and(srsubstate = 'r')::text from pg_subscription_rel";
        let client = target.connect(NATIVE).await;
        until(
            "the subscription follows",
            LIMIT,
            || rows(&client, ready),
            |answer| *answer == [[Some("true".to_owned())]],
        )
        .await;
        Self { source, target }
    }

    async fn catch_up(&self, transactions: u32, runs: &mut Runs) {
        self.target.sql(NATIVE, "alter subscription bench disable").await;
        let watch = self.target.connect(NATIVE).await;
        let worker = "select pid::text from pg_stat_subscription where pid is not null";
        until("the worker is gone", LIMIT, || rows(&watch, worker), Vec::is_empty).await;
        let last = write(&self.source, NATIVE, transactions).await;
        let began = Instant::now();
        rows(&watch, "alter subscription bench enable").await;
        until_there(&watch, &last).await;
        runs.seconds.push(began.elapsed().as_secs_f64());
        // A worker is new after each enabling, so that all it has used is this.
        let pid = self.target.value(NATIVE, worker).await.parse().expect("a process id");
        let used = cpu::micros_per(cpu::used(pid), f64::from(transactions));
        runs.follower_us.push(used);
        runs.session_us.push(0.0);
    }
}

/// Writes so many transactions around Headgate, and one more that shows on the target when all are there; returns its query.
pub(super) async fn write(source: &Postgres, database: &str, transactions: u32) -> String {
    let each = (transactions / CLIENTS).to_string();
    let clients = CLIENTS.to_string();
    let arguments = ["-N", "-M", "prepared", "-c", &clients, "-j", "2", "-t", &each];
    // The load is not what is measured.
    let load = load::start_hasty(&At::loopback(source.port(), database), &arguments);
    let run = load::finish(load).await;
    assert_eq!((run.processed, run.failed), (transactions.into(), 0));
    let last = "update pgbench_branches set bbalance = bbalance + 1 where bid = 1 returning bbalance::text";
    let value = source.value(database, last).await;
    format!("select 1 from pgbench_branches where bid = 1 and bbalance = {value}")
}

pub(super) async fn until_there(target: &Client, query: &str) {
    let deadline = Instant::now() + LIMIT;
    while rows(target, query).await.is_empty() {
        assert!(Instant::now() < deadline, "it did not catch up within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
