//! (d) Catching up: what was written while nobody followed, by Headgate and by a native replica with four workers.

use std::time::Duration;

use tests::mysql::{Mysql, rows};
use tokio::time::{Instant, sleep};

use super::ground;
use super::load::{self, Data, Until, Work};
use super::migration::{DATABASE, Ground, LIMIT, create};
use crate::cpu;
use crate::table::{Table, median, ratio};

/// How many write at the same time, and so what a replica may apply side by side.
const THREADS: u32 = 8;

/// What one contender did in each round.
#[derive(Default)]
struct Runs {
    seconds: Vec<f64>,
    /// CPU per transaction of the process that follows, where that is one of its own.
    follower_us: Vec<f64>,
}

/// Lets both catch up with the same load, each on its own pair of servers, and prints the table.
pub(crate) async fn run(quick: bool) {
    let (rows, rounds, transactions) = if quick { (10_000, 1, 1_000) } else { (100_000, 3, 40_000) };
    let data = Data { tables: 4, rows };
    let ground = Ground::start(data).await;
    ground.create_migration("m").await;
    ground.admin("START MIGRATION m").await;
    ground.until_state("m", "following").await;
    let native = Native::start(data).await;

    let (mut ours, mut theirs) = (Runs::default(), Runs::default());
    for round in 0..rounds {
        let ours_first = round % 2 == 0;
        if ours_first {
            by_headgate(&ground, data, transactions, &mut ours).await;
        }
        native.catch_up(data, transactions, &mut theirs).await;
        if !ours_first {
            by_headgate(&ground, data, transactions, &mut ours).await;
        }
    }
    ground.check("m").await;

    let mut table = Table::new(&[
        "catching up",
        "seconds",
        "each round",
        "transactions/s",
        "Headgate's speed / this",
        "follower's CPU us/transaction",
    ]);
    for (name, runs) in [("Headgate", &ours), ("native replica, 4 workers", &theirs)] {
        let each: Vec<String> = runs.seconds.iter().map(|seconds| format!("{seconds:.1}")).collect();
        let cpu = if runs.follower_us.is_empty() { String::new() } else { format!("{:.1}", median(&runs.follower_us)) };
        table.line(vec![
            name.to_owned(),
            format!("{:.2}", median(&runs.seconds)),
            each.join(" "),
            format!("{:.0}", f64::from(transactions) / median(&runs.seconds)),
            format!("{:.2}", ratio(&runs.seconds, &ours.seconds)),
            cpu,
        ]);
    }
    table.print(&format!(
        "{transactions} transactions of oltp_write_only, written by {THREADS} threads while nobody followed"
    ));
    println!("\nboth sides of Headgate's pair are equal");
}

async fn by_headgate(ground: &Ground, data: Data, transactions: u32, runs: &mut Runs) {
    ground.admin("STOP MIGRATION m").await;
    ground.until_state("m", "stopped").await;
    let last = write(&ground.source, data, transactions).await;
    let before = cpu::used(ground.headgate.pid());
    let began = Instant::now();
    ground.admin("START MIGRATION m").await;
    until_there(&ground.target, &last).await;
    runs.seconds.push(began.elapsed().as_secs_f64());
    let used = cpu::used(ground.headgate.pid()).saturating_sub(before);
    runs.follower_us.push(cpu::micros_per(used, f64::from(transactions)));
}

/// A server and its replica.
struct Native {
    source: Mysql,
    replica: Mysql,
}

impl Native {
    async fn start(data: Data) -> Self {
        let (source, replica) = tokio::join!(ground::server(), ground::server());
        create(&source).await;
        source.sql("", "CREATE USER copy@'%' IDENTIFIED BY 'copy'; GRANT REPLICATION SLAVE ON *.* TO copy@'%'").await;
        load::fill(source.port(), DATABASE, data).await;
        let change = format!(
            "SET GLOBAL replica_parallel_workers = 4; \
             CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {}, SOURCE_USER = 'copy', \
             SOURCE_PASSWORD = 'copy', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1",
            source.port()
        );
        replica.sql("", &change).await;
        let native = Self { source, replica };
        let last = native.source.value("", "SELECT @@gtid_executed").await;
        native.apply_up_to(&last).await;
        native
    }

    async fn apply_up_to(&self, executed: &str) {
        let mut session = self.replica.connect("").await;
        rows(&mut session, "START REPLICA").await;
        let wait = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{executed}', 600)");
        let waited = rows(&mut session, &wait).await;
        assert_eq!(waited, [[Some("0".to_owned())]], "the replica stood still");
        rows(&mut session, "STOP REPLICA").await;
    }

    async fn catch_up(&self, data: Data, transactions: u32, runs: &mut Runs) {
        write(&self.source, data, transactions).await;
        let last = self.source.value("", "SELECT @@gtid_executed").await;
        let mut session = self.replica.connect("").await;
        let wait = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{last}', 600)");
        let began = Instant::now();
        rows(&mut session, "START REPLICA").await;
        let waited = rows(&mut session, &wait).await;
        runs.seconds.push(began.elapsed().as_secs_f64());
        assert_eq!(waited, [[Some("0".to_owned())]], "the replica stood still");
        rows(&mut session, "STOP REPLICA").await;
    }
}

/// Writes, and returns a query that has a row where all of it has arrived.
pub(super) async fn write(source: &Mysql, data: Data, transactions: u32) -> String {
    let work = Work { script: "oltp_write_only", threads: THREADS, prepared: true };
    let until = Until::Transactions(transactions);
    let load = load::start(source.port(), DATABASE, data, work, until);
    let run = load::finish(load).await;
    assert!(run.transactions >= f64::from(transactions), "{run:?}");
    // A value that no earlier round wrote.
    let mark = source.value("", "SELECT UUID()").await;
    let text = format!("REPLACE INTO sbtest1 (id, k, c, pad) VALUES (1, 1, '{mark}', 'mark')");
    source.sql(DATABASE, &text).await;
    format!("SELECT 1 FROM sbtest1 WHERE id = 1 AND c = '{mark}'")
}

pub(super) async fn until_there(target: &Mysql, query: &str) {
    let deadline = Instant::now() + LIMIT;
    let mut session = target.connect(DATABASE).await;
    while rows(&mut session, query).await.is_empty() {
        assert!(Instant::now() < deadline, "it did not catch up");
        sleep(Duration::from_millis(10)).await;
    }
}
