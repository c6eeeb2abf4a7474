//! (b) The distribution of the hold: rehearsals under writing clients.

use std::time::Duration;

use tests::world::DATABASE;
use tokio::time::sleep;

use crate::postgres::load::{self, At};
use crate::postgres::migration::Ground;
use crate::rehearsals::{Rehearsals, WAYS_BACK, text};

const CLIENTS: &str = "16";

/// Rehearses again and again, each time in the middle of a load of its own, and prints what the clients felt.
pub(crate) async fn run(quick: bool) {
    let (scale, rehearsals, seconds) = if quick { (2, 3, 3) } else { (20, 20, 5) };
    let ground = Ground::start(scale).await;
    ground.create_migration("m").await;
    ground.admin("START MIGRATION m").await;
    ground.until_state("m", "following").await;
    ground.check("m").await;

    let mut kinds = WAYS_BACK.map(|_| Rehearsals::new(&["transactions", "failed"]));
    for number in 0..rehearsals * WAYS_BACK.len() {
        let kind = number % WAYS_BACK.len();
        let arguments = ["-M", "prepared", "-c", CLIENTS, "-j", "2", "-T", &seconds.to_string()];
        let load = load::start(&At::loopback(ground.headgate.port(), DATABASE), &arguments);
        // Into the middle of the load, not at an event.
        sleep(Duration::from_secs(seconds) / 2).await;
        let report =
            ground.row(&format!("REHEARSE MIGRATION m WITH (max_hold = '5s', way_back = '{}')", WAYS_BACK[kind])).await;
        assert_eq!(text(&report, "outcome"), "rehearsed", "{report:?}\n{}", ground.headgate.log());
        let run = load::finish(load).await;
        let reported = vec![run.processed.to_string(), run.failed.to_string()];
        kinds[kind].add(&report, reported);
    }
    let [armed, none] = &kinds;
    let load = &format!("{CLIENTS} TPC-B clients, scale {scale}, prepared");
    armed.print(&format!("{load}, the way back armed"), none);
    none.print(&format!("{load}, without a way back"), armed);
    ground.check("m").await;
    println!("\nboth sides are equal after all rehearsals");
}
