//! How it ended: the proof from the ledger, Headgate's own report, what the clients felt, and the verdict.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::engine::Engine;
use super::failure::{Failure, Result};
use super::ledger::Outcome;
use super::link::{Link, Record};
use super::load::{Board, Latencies, Load, Stretch, Total};
use super::report;
use super::screen::Screen;
use super::shop::Catalogue;
use super::stage::Stage;
use super::verdict::{Verdict, prove};

/// What was written last comes back within this, or something is wrong.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Proves and prints everything; says whether all of it is as promised.
pub(super) async fn tell<E: Engine>(
    screen: Screen,
    stage: &Stage<E>,
    catalogue: &Catalogue,
    reports: &[Record],
    board: &Board,
    total: &Total,
) -> Result<bool> {
    let mut target = stage.look(&stage.target(E::SUPERUSER)).await?;
    screen.heading("The proof: the demo's own ledger against green, past headgate");
    let verdict = prove(stage.engine(), &mut target, &total.ledger, catalogue).await?;
    show_proof(screen, total, &verdict);
    let back = show_old_side(screen, stage, catalogue, total).await?;
    let fenced = show_fence(screen, stage).await?;
    let moved = show_whereabouts(screen, stage, &mut target, &total.whereabouts).await?;

    for report in reports {
        screen.heading(&format!("The {}, as headgate reports it", report.text("kind")));
        report::show(screen, report);
    }
    screen.heading("Transactions, as the clients felt them");
    show_latencies(screen, &total.latencies);

    let errors = board.errors();
    for text in board.texts() {
        screen.bad(&text);
    }
    let passed = errors == 0 && verdict.clean() && verdict.unknown == 0 && back && fenced && moved;
    let holds: Vec<&str> = reports.iter().map(|report| report.text("hold_max_ms")).collect();
    let text = format!(
        "{}: {} transactions acknowledged, {} of them writing, {errors} errors, {} lost, {} doubled, {} unknown; the longest holds were {} ms",
        if passed { "PASSED" } else { "FAILED" },
        board.transactions(),
        total.ledger.count(Outcome::Acknowledged),
        verdict.lost + verdict.wrong_sums,
        verdict.doubled,
        verdict.unknown,
        holds.join(", "),
    );
    screen.verdict(passed, &text);
    Ok(passed)
}

fn show_proof(screen: Screen, total: &Total, verdict: &Verdict) {
    let say = |fine: bool, text: &str| {
        if fine {
            screen.good(text);
        } else {
            screen.bad(text);
        }
    };
    let transactions = total.ledger.count(Outcome::Acknowledged);
    say(
        verdict.lost + verdict.doubled + verdict.wrong_sums == 0,
        &format!(
            "{} writes of {transactions} acknowledged transactions looked for: {} lost, {} doubled, {} sums wrong",
            verdict.compared, verdict.lost, verdict.doubled, verdict.wrong_sums
        ),
    );
    let failed = total.ledger.count(Outcome::Failed);
    if failed + total.ledger.count(Outcome::Unknown) > 0 {
        screen.note(&format!("{failed} transactions failed, {} have no known outcome", verdict.unknown));
    }
    for example in &verdict.examples {
        screen.bad(example);
    }
    for (rule, broken) in &verdict.rules {
        if *broken == 0 {
            screen.good(rule);
        } else {
            screen.bad(&format!("{rule}: broken {broken} times"));
        }
    }
}

/// The old cluster has all of it too: it came back there.
async fn show_old_side<E: Engine>(
    screen: Screen,
    stage: &Stage<E>,
    catalogue: &Catalogue,
    total: &Total,
) -> Result<bool> {
    let mut source = stage.look(&stage.source(E::SUPERUSER)).await?;
    let begun = Instant::now();
    loop {
        let verdict = prove(stage.engine(), &mut source, &total.ledger, catalogue).await?;
        // The rules of the catalogue are the new side's: here Headgate's own triggers refuse everybody else.
        let clean = verdict.lost + verdict.doubled + verdict.wrong_sums == 0;
        if !clean && begun.elapsed() < COMES_BACK_WITHIN {
            // The last of it is on its way.
            sleep(LOOK_EVERY).await;
            continue;
        }
        let text = format!(
            "the same on blue, where the way back brings it: {} writes looked for, {} lost, {} doubled, {} sums wrong",
            verdict.compared, verdict.lost, verdict.doubled, verdict.wrong_sums
        );
        if clean {
            screen.good(&text);
        } else {
            screen.bad(&text);
            verdict.examples.iter().for_each(|example| screen.bad(example));
        }
        return Ok(clean);
    }
}

/// A write that goes around Headgate, straight to the old cluster.
async fn show_fence<E: Engine>(screen: Screen, stage: &Stage<E>) -> Result<bool> {
    let attempt = async {
        let mut link = E::Link::open(&stage.owner(), "around-headgate").await?;
        link.run("BEGIN").await?;
        let write = link.run("UPDATE shelf_count SET counted = counted + 1 WHERE shelf = 1").await;
        Ok::<_, Failure>(write.map_err(Failure::from))
    };
    let refusal = match attempt.await {
        Ok(Ok(())) => None,
        Ok(Err(refusal)) | Err(refusal) => Some(refusal),
    };
    match &refusal {
        Some(text) => screen.good(&format!("blue refuses a write that goes around headgate: {text}")),
        None => screen.bad("blue still accepts a write that goes around headgate"),
    }
    Ok(refusal.is_some())
}

/// What the connections that were opened before the migration say now.
async fn show_whereabouts<E: Engine>(
    screen: Screen,
    stage: &Stage<E>,
    target: &mut E::Link,
    seen: &[String],
) -> Result<bool> {
    let rows = target.ask(E::WHEREABOUTS).await?;
    let there = rows.first().map_or("", |row| row.at(0));
    let moved = seen.iter().filter(|text| *text == there).count();
    let text = format!(
        "{moved} of {} connections, opened before the migration and still open, are on {} {there}",
        Load::clients(),
        stage.engine().product()
    );
    let all = moved == Load::clients();
    if all {
        screen.good(&text);
    } else {
        screen.bad(&text);
    }
    Ok(all)
}

fn show_latencies(screen: Screen, latencies: &Latencies) {
    let heads = ["", "transactions", "p50 ms", "p99 ms", "max ms"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for (stretch, histogram) in Stretch::ALL.iter().zip(&latencies.0) {
        let millis = |micros: u64| format!("{}.{}", micros / 1000, micros % 1000 / 100);
        rows.push(vec![
            stretch.name().to_owned(),
            histogram.len().to_string(),
            millis(histogram.value_at_quantile(0.5)),
            millis(histogram.value_at_quantile(0.99)),
            millis(histogram.max()),
        ]);
    }
    screen.table(&rows);
}
