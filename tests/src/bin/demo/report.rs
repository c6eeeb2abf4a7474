//! Headgate's report of a cutover or a rehearsal, for people.

use super::link::Record;
use super::screen::Screen;

/// The parts of the hold, in the order in which they happen: column, and what it is.
const STEPS: [(&str, &str); 7] = [
    ("gate_ms", "gate closed, open transactions ended"),
    ("fence_ms", "source fenced, marker written"),
    ("catch_up_ms", "marker applied on the target"),
    ("check_ms", "counters set, positions compared"),
    ("seal_ms", "refusal durable on the source"),
    ("switch_ms", "decision journalled, route changed, gate open"),
    ("undo_ms", "fence and gate open again"),
];

/// Prints a report.
pub(super) fn show(screen: Screen, report: &Record) {
    let text = |column: &str| report.text(column).to_owned();
    let mut rows = vec![
        vec!["outcome".to_owned(), format!("{}: {} -> {}", text("outcome"), text("source"), text("target"))],
        vec!["gate closed for".to_owned(), format!("{} ms of at most {} ms", text("hold_ms"), text("max_hold_ms"))],
    ];
    for (column, meaning) in STEPS {
        if report.number(column) > 0.0 {
            rows.push(vec![format!("  {meaning}"), format!("{} ms", text(column))]);
        }
    }
    let holds =
        format!("p50 {} ms, p99 {} ms, max {} ms", text("hold_p50_ms"), text("hold_p99_ms"), text("hold_max_ms"));
    rows.push(vec!["statements held".to_owned(), format!("{}: {holds}", text("statements_held"))]);
    if report.text("kind") != "rehearsal" {
        let sessions = format!(
            "{} handed over, {} yet to speak, {} closed {}",
            text("sessions_moved"),
            text("sessions_pending"),
            text("sessions_closed"),
            text("closed_reasons")
        );
        rows.push(vec!["sessions".to_owned(), sessions.trim_end().to_owned()]);
    }
    rows.push(vec!["errors that clients saw".to_owned(), text("errors")]);
    let proved =
        format!("{} rows in {} ranges, {} counters", text("proved_rows"), text("proved_ranges"), text("counters"));
    rows.push(vec!["proved equal before it".to_owned(), proved]);
    screen.table(&rows);
}
