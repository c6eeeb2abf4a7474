//! (b) The distribution of the hold: rehearsals under writing clients.

use std::time::Duration;

use tests::world::DATABASE;
use tokio::time::sleep;

use crate::postgres::load::{self, At};
use crate::postgres::migration::Ground;
use crate::rehearsals::{Rehearsals, text};

const CLIENTS: &str = "16";

/// Rehearses again and again, each time in the middle of a load of its own, and prints what the clients felt.
pub(crate) async fn run(quick: bool) {
    let (scale, rehearsals, seconds) = if quick { (2, 3, 3) } else { (20, 20, 5) };
    let ground = Ground::start(scale).await;
    ground.create_migration("m").await;
    ground.admin("START MIGRATION m").await;
    ground.until_state("m", "following").await;
    ground.check("m").await;

    let mut all = Rehearsals::new(&["transactions", "failed"]);
    for _ in 0..rehearsals {
        let arguments = ["-M", "prepared", "-c", CLIENTS, "-j", "2", "-T", &seconds.to_string()];
        let load = load::start(&At::loopback(ground.headgate.port(), DATABASE), &arguments);
        // Into the middle of the load, not at an event.
        sleep(Duration::from_secs(seconds) / 2).await;
        let report = ground.row("REHEARSE MIGRATION m WITH (max_hold = '5s')").await;
        assert_eq!(text(&report, "outcome"), "rehearsed", "{report:?}\n{}", ground.headgate.log());
        let run = load::finish(load).await;
        let reported = vec![run.processed.to_string(), run.failed.to_string()];
        all.add(&report, reported);
    }
    all.print(&format!("{CLIENTS} TPC-B clients, scale {scale}, prepared"));
    ground.check("m").await;
    println!("\nboth sides are equal after all rehearsals");
}
