//! (b) The distribution of the hold: rehearsals under writing clients.

use std::time::Duration;

use tokio::time::sleep;

use super::load::{self, Data, Until, Work};
use super::migration::{DATABASE, Ground, number, text};
use crate::table::{Table, median, quantile};

const STEPS: [&str; 7] = [
    "gate_ms",
    "fence_ms",
    "catch_up_ms",
    "check_ms",
    "seal_ms",
    "switch_ms",
    "undo_ms",
];
const THREADS: u32 = 16;

/// Rehearses again and again, each time in the middle of a load of its own, and prints what the clients felt.
pub(crate) async fn run(quick: bool) {
    let (rows, rehearsals, seconds) = if quick {
        (10_000, 3, 3)
    } else {
        (100_000, 20, 5)
    };
    let data = Data { tables: 4, rows };
    let ground = Ground::start(data).await;
    ground.create_migration("m").await;
    ground.admin("START MIGRATION m").await;
    ground.until_state("m", "following").await;
    ground.check("m").await;

    let mut columns = vec!["rehearsal", "hold ms"];
    columns.extend(STEPS);
    columns.extend([
        "held",
        "held p50 ms",
        "held p99 ms",
        "held max ms",
        "transactions",
        "ignored errors, reconnects",
    ]);
    let mut table = Table::new(&columns);
    let (mut holds, mut longest) = (Vec::new(), Vec::new());
    let mut steps = vec![Vec::new(); STEPS.len()];
    for rehearsal in 1..=rehearsals {
        let work = Work {
            script: "oltp_read_write",
            threads: THREADS,
            prepared: true,
        };
        let until = Until::Seconds(seconds);
        let load = load::start(ground.headgate.port(), DATABASE, data, work, until);
        // Into the middle of the load, not at an event.
        sleep(Duration::from_secs(seconds) / 2).await;
        let report = ground
            .row("REHEARSE MIGRATION m WITH (max_hold = '5s')")
            .await;
        assert_eq!(
            text(&report, "outcome"),
            "rehearsed",
            "{report:?}\n{}",
            ground.headgate.log()
        );
        let run = load::finish(load).await;
        holds.push(number(&report, "hold_ms"));
        longest.push(number(&report, "hold_max_ms"));
        let mut cells = vec![
            rehearsal.to_string(),
            format!("{:.1}", number(&report, "hold_ms")),
        ];
        for (step, values) in STEPS.iter().zip(&mut steps) {
            values.push(number(&report, step));
            cells.push(format!("{:.1}", number(&report, step)));
        }
        cells.push(text(&report, "statements_held"));
        for column in ["hold_p50_ms", "hold_p99_ms", "hold_max_ms"] {
            cells.push(format!("{:.1}", number(&report, column)));
        }
        cells.push(format!("{:.0}", run.transactions));
        cells.push(format!("{:.0}, {:.0}", run.ignored_errors, run.reconnects));
        table.line(cells);
    }
    table.print(&format!(
        "{rehearsals} rehearsals under {THREADS} threads of oltp_read_write, 4 tables of {rows} rows, prepared"
    ));

    let mut table = Table::new(&["over all rehearsals, ms", "p50", "p99", "max"]);
    let named = [("hold", &holds), ("longest held statement", &longest)];
    let split = STEPS
        .iter()
        .map(|step| step.trim_end_matches("_ms"))
        .zip(&steps);
    for (name, values) in named.into_iter().chain(split) {
        let cells = [
            median(values),
            quantile(values, 0.99),
            quantile(values, 1.0),
        ];
        let mut line = vec![name.to_owned()];
        line.extend(cells.map(|value| format!("{value:.1}")));
        table.line(line);
    }
    table.print("the hold, split by step");
    ground.check("m").await;
    println!("\nboth sides are equal after all rehearsals");
}
