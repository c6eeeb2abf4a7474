//! (e) After a switch: how fast changes come back, against the way there, and what the proof of the switch costs.

use tests::postgres::Postgres;
use tests::world::DATABASE;
use tokio::time::Instant;

use crate::postgres::follow::{until_there, write};
use crate::postgres::load::{self, At};
use crate::postgres::migration::Ground;
use crate::way_back::{Paused, Windows, print_both_ways};

const CLIENTS: &str = "8";

/// Switches there and back again and again, and measures after each.
pub(crate) async fn run(quick: bool, proof_rate: Option<u64>) {
    let (scale, rounds, seconds, transactions) = if quick { (2, 1, 3, 2_000) } else { (20, 3, 20, 100_000) };
    let ground = Ground::start(scale).await;
    let with = proof_rate.map(|rate| format!(" WITH (proof_rate = {rate})")).unwrap_or_default();
    ground.admin(&format!("CREATE MIGRATION m FROM blue TO green FOR ROUTE {DATABASE}{with}")).await;
    ground.admin("START MIGRATION m").await;
    ground.until_state("m", "following").await;

    let (mut there, mut back, mut windows) = (Vec::new(), Vec::new(), Windows::default());
    let seconds = seconds.to_string();
    for _ in 0..rounds {
        there.push(catch_up(&ground, (&ground.source, &ground.target), transactions).await);
        switch(&ground, "CUTOVER", &seconds, &mut windows).await;
        back.push(catch_up(&ground, (&ground.target, &ground.source), transactions).await);
        switch(&ground, "ROLLBACK", &seconds, &mut windows).await;
    }
    let title = format!("{transactions} transactions of pgbench -N, scale {scale}, between PostgreSQL 14 and 18");
    print_both_ways(&title, transactions, (&there, &back));
    windows.print(&format!(
        "{CLIENTS} TPC-B clients, scale {scale}, prepared, for {seconds} s after a switch, and again without the proof"
    ));
}

/// How many seconds it takes to catch up with what was written to one side while Headgate stood still.
async fn catch_up(ground: &Ground, (written, behind): (&Postgres, &Postgres), transactions: u32) -> f64 {
    let watch = behind.connect(DATABASE).await;
    let paused = Paused::begin(ground.headgate.pid());
    let last = write(written, DATABASE, transactions).await;
    let began = Instant::now();
    drop(paused);
    until_there(&watch, &last).await;
    began.elapsed().as_secs_f64()
}

async fn switch(ground: &Ground, statement: &str, seconds: &str, windows: &mut Windows) {
    ground.check("m").await;
    ground.admin(&format!("{statement} MIGRATION m WITH (max_hold = '10s')")).await;
    let status = async || ground.row("SHOW MIGRATION STATUS m").await;
    windows.measure(status, async || window(ground, seconds).await).await;
}

/// Transactions a second of a load through Headgate.
async fn window(ground: &Ground, seconds: &str) -> f64 {
    let arguments = ["-M", "prepared", "-c", CLIENTS, "-j", "2", "-T", seconds];
    let load = load::start(&At::loopback(ground.headgate.port(), DATABASE), &arguments);
    load::finish(load).await.tps
}
