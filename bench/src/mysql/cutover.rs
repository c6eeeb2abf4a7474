//! (b) The distribution of the hold: rehearsals under writing clients.

use std::time::Duration;

use tokio::time::sleep;

use super::load::{self, Data, Until, Work};
use super::migration::{DATABASE, Ground};
use crate::rehearsals::{Rehearsals, WAYS_BACK, text};

const THREADS: u32 = 16;

/// Rehearses again and again, each time in the middle of a load of its own, and prints what the clients felt.
pub(crate) async fn run(quick: bool) {
    let (rows, rehearsals, seconds) = if quick { (10_000, 3, 3) } else { (100_000, 20, 5) };
    let data = Data { tables: 4, rows };
    let ground = Ground::start(data).await;
    ground.create_migration("m").await;
    ground.admin("START MIGRATION m").await;
    ground.until_state("m", "following").await;
    ground.check("m").await;

    let mut kinds = WAYS_BACK.map(|_| Rehearsals::new(&["transactions", "ignored errors, reconnects"]));
    for number in 0..rehearsals * WAYS_BACK.len() {
        let kind = number % WAYS_BACK.len();
        let work = Work { script: "oltp_read_write", threads: THREADS, prepared: true };
        let until = Until::Seconds(seconds);
        let load = load::start(ground.headgate.port(), DATABASE, data, work, until);
        // Into the middle of the load, not at an event.
        sleep(Duration::from_secs(seconds) / 2).await;
        let report =
            ground.row(&format!("REHEARSE MIGRATION m WITH (max_hold = '5s', way_back = '{}')", WAYS_BACK[kind])).await;
        assert_eq!(text(&report, "outcome"), "rehearsed", "{report:?}\n{}", ground.headgate.log());
        let run = load::finish(load).await;
        let reported =
            vec![format!("{:.0}", run.transactions), format!("{:.0}, {:.0}", run.ignored_errors, run.reconnects)];
        kinds[kind].add(&report, reported);
    }
    let [armed, none] = &kinds;
    let load = &format!("{THREADS} threads of oltp_read_write, 4 tables of {rows} rows, prepared");
    armed.print(&format!("{load}, the way back armed"), none);
    none.print(&format!("{load}, without a way back"), armed);
    ground.check("m").await;
    println!("\nboth sides are equal after all rehearsals");
}
