//! What the clients felt of rehearsals, one line for each, and the hold split by step over all of them.

use std::collections::BTreeMap;

use crate::table::{Table, median, quantile};

const STEPS: [&str; 7] = ["gate_ms", "fence_ms", "catch_up_ms", "check_ms", "seal_ms", "switch_ms", "undo_ms"];

/// Rehearsals take turns between these kinds.
pub(crate) const WAYS_BACK: [&str; 2] = ["armed", "none"];

/// The reports of rehearsals so far.
#[derive(Debug)]
pub(crate) struct Rehearsals {
    table: Table,
    count: usize,
    holds: Vec<f64>,
    longest: Vec<f64>,
    steps: Vec<Vec<f64>>,
}

impl Rehearsals {
    /// None yet. `load` names what is told of the load under each.
    pub(crate) fn new(load: &[&str]) -> Self {
        let mut columns = vec!["rehearsal", "hold ms"];
        columns.extend(STEPS);
        columns.extend(["held", "held p50 ms", "held p99 ms", "held max ms"]);
        columns.extend(load);
        Self {
            table: Table::new(&columns),
            count: 0,
            holds: Vec::new(),
            longest: Vec::new(),
            steps: vec![Vec::new(); STEPS.len()],
        }
    }

    /// Takes in a report, and what is told of its load.
    pub(crate) fn add(&mut self, report: &BTreeMap<String, String>, load: Vec<String>) {
        self.count += 1;
        self.holds.push(number(report, "hold_ms"));
        self.longest.push(number(report, "hold_max_ms"));
        let ms = |column: &str| format!("{:.1}", number(report, column));
        let mut cells = vec![self.count.to_string(), ms("hold_ms")];
        for (step, values) in STEPS.iter().zip(&mut self.steps) {
            values.push(number(report, step));
            cells.push(ms(step));
        }
        cells.push(text(report, "statements_held"));
        cells.extend(["hold_p50_ms", "hold_p99_ms", "hold_max_ms"].map(ms));
        cells.extend(load);
        self.table.line(cells);
    }

    /// Prints all of it, and by how much the hold is longer than that of `other`.
    pub(crate) fn print(&self, load: &str, other: &Self) {
        self.table.print(&format!("{} rehearsals under {load}", self.count));
        let mut table = Table::new(&["over all rehearsals, ms", "p50", "p99", "max"]);
        let named = [("hold", &self.holds), ("longest held statement", &self.longest)];
        let split = STEPS.iter().map(|step| step.trim_end_matches("_ms")).zip(&self.steps);
        for (name, values) in named.into_iter().chain(split) {
            let cells = [median(values), quantile(values, 0.99), quantile(values, 1.0)];
            let mut line = vec![name.to_owned()];
            line.extend(cells.map(|value| format!("{value:.1}")));
            table.line(line);
        }
        table.print("the hold, split by step");
        let longer = median(&self.holds) - median(&other.holds);
        println!("\nthe median hold is {longer:+.1} ms against the other kind of the same run");
    }
}

/// A value by the name of its column; empty where it is null.
pub(crate) fn text(row: &BTreeMap<String, String>, column: &str) -> String {
    row.get(column).cloned().unwrap_or_default()
}

/// A number by the name of its column; not a number where it is null.
fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    text(row, column).parse().unwrap_or(f64::NAN)
}
