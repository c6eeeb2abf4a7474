//! (e) After a switch: how fast changes come back, against the way there, and what the proof of the switch costs.

use tests::mysql::Mysql;
use tokio::time::Instant;

use super::follow::{until_there, write};
use super::load::{self, Data, Until, Work};
use super::migration::{DATABASE, Ground};
use crate::way_back::{Paused, Windows, print_both_ways};

const THREADS: u32 = 8;

/// Switches there and back again and again, and measures after each.
pub(crate) async fn run(quick: bool, proof_rate: Option<u64>) {
    let (rows, rounds, seconds, transactions) = if quick { (10_000, 1, 3, 1_000) } else { (250_000, 3, 20, 40_000) };
    let data = Data { tables: 4, rows };
    let ground = Ground::start(data).await;
    let with = proof_rate.map(|rate| format!(" WITH (proof_rate = {rate})")).unwrap_or_default();
    ground.admin(&format!("CREATE MIGRATION m FROM blue TO green FOR ROUTE {DATABASE}{with}")).await;
    ground.admin("START MIGRATION m").await;
    ground.until_state("m", "following").await;

    let (mut there, mut back, mut windows) = (Vec::new(), Vec::new(), Windows::default());
    for _ in 0..rounds {
        there.push(catch_up(&ground, (&ground.source, &ground.target), (data, transactions)).await);
        switch(&ground, "CUTOVER", (data, seconds), &mut windows).await;
        back.push(catch_up(&ground, (&ground.target, &ground.source), (data, transactions)).await);
        switch(&ground, "ROLLBACK", (data, seconds), &mut windows).await;
    }
    let title = format!("{transactions} transactions of oltp_write_only, 4 tables of {rows} rows");
    print_both_ways(&title, transactions, (&there, &back));
    windows.print(&format!(
        "{THREADS} threads of oltp_read_write, 4 tables of {rows} rows, prepared, for {seconds} s after a switch, and again without \
         the proof"
    ));
}

/// How many seconds it takes to catch up with what was written to one side while Headgate stood still.
async fn catch_up(ground: &Ground, (written, behind): (&Mysql, &Mysql), (data, transactions): (Data, u32)) -> f64 {
    let paused = Paused::begin(ground.headgate.pid());
    let last = write(written, data, transactions).await;
    let began = Instant::now();
    drop(paused);
    until_there(behind, &last).await;
    began.elapsed().as_secs_f64()
}

async fn switch(ground: &Ground, statement: &str, load: (Data, u64), windows: &mut Windows) {
    ground.check("m").await;
    ground.admin(&format!("{statement} MIGRATION m WITH (max_hold = '10s')")).await;
    let status = async || ground.row("SHOW MIGRATION STATUS m").await;
    windows.measure(status, async || window(ground, load).await).await;
}

/// Transactions a second of a load through Headgate.
async fn window(ground: &Ground, (data, seconds): (Data, u64)) -> f64 {
    let work = Work { script: "oltp_read_write", threads: THREADS, prepared: true };
    let load = load::start(ground.headgate.port(), DATABASE, data, work, Until::Seconds(seconds));
    load::finish(load).await.tps
}
