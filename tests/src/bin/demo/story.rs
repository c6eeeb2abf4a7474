//! The demo from the first server to the verdict, in the order in which it happens.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::console::Console;
use super::engine::Engine;
use super::failure::{Failure, Result};
use super::link::{Link, Record};
use super::load::{Load, Stretch};
use super::screen::Screen;
use super::stage::Stage;
use super::{outcome, report, shop};

/// How long the load runs before the migration, and on the new cluster.
const BEFORE: Duration = Duration::from_secs(3);
const AFTER: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The copy, or the check, of these few rows is broken when it takes longer.
const TIMEOUT: Duration = Duration::from_mins(2);
/// Following counts as close when the target is less than this behind.
const LAG_MS_MAX: f64 = 1000.0;
const MIGRATION: &str = "to_green";
/// On a machine that is busy elsewhere the pause may not fit its limit at once.
const ATTEMPTS: u32 = 3;

/// Plays it all; says whether everything is proved.
pub(super) async fn play<E: Engine>(stage: &mut Stage<E>, screen: Screen, keep: bool) -> Result<bool> {
    let engine = stage.engine();
    let (from, to) = stage.names();
    screen.heading("The shop");
    let begun = Instant::now();
    let mut superuser = stage.look(&stage.source(E::SUPERUSER)).await?;
    let rows = engine.furnish(&mut superuser).await?;
    let catalogue = Arc::new(shop::catalogue(engine, &mut superuser).await?);
    screen.good(&format!("{rows} rows on {from} (blue) in {:.1} s", begun.elapsed().as_secs_f64()));

    // A superuser that stays connected would be a finding of the precheck.
    drop(superuser);

    let mut console = Console(stage.start_headgate(keep).await?);
    screen.good(&format!("headgate serves the route \"{}\" from blue", shop::DATABASE));
    let load = Load::start(engine, &stage.application(), Arc::clone(&catalogue)).await?;
    screen.good(&format!("{} clients are connected through headgate, and stay so until the end", Load::clients()));
    let moved = migrate(stage, screen, &mut console, &load, &to).await;
    if moved.is_err() {
        for text in load.board.texts() {
            screen.bad(&text);
        }
    }
    let reports = moved?;
    let board = Arc::clone(&load.board);
    let total = load.stop().await?;
    let kept_up = way_back(screen, &mut console).await?;
    let proved = outcome::tell(screen, stage, &catalogue, &reports, &board, &total).await?;
    Ok(kept_up && proved)
}

/// From the load before the migration to the load after the last cutover; answers with the reports of the switches.
async fn migrate<E: Engine>(
    stage: &Stage<E>,
    screen: Screen,
    console: &mut Console<E::Link>,
    load: &Load,
    to: &str,
) -> Result<Vec<Record>> {
    watch_load(screen, load, "load", BEFORE).await;

    screen.heading(&format!("The migration to {to} (green)"));
    console.ask(&format!("CREATE MIGRATION {MIGRATION} FROM blue TO green FOR ROUTE {}", shop::DATABASE)).await?;
    precheck(screen, console, stage).await?;
    load.enter(Stretch::Moving);
    console.ask(&format!("START MIGRATION {MIGRATION}")).await?;
    follow(screen, console, load).await?;
    check(screen, console, load).await?;

    screen.heading("Rehearsal: the real gate, fence, marker and checks, then back to blue");
    let rehearsal = attempt(screen, console, "REHEARSE", "rehearsed").await?;
    report::show(screen, &rehearsal);

    let mut reports = Vec::new();
    for (verb, title, serves) in [
        ("CUTOVER", "Cutover", "green"),
        ("ROLLBACK", "Back again: a rollback, with all that was written since", "blue"),
        ("CUTOVER", "And there again", "green"),
    ] {
        if !reports.is_empty() {
            // What was proved was about the other direction.
            check(screen, console, load).await?;
        }
        screen.heading(title);
        load.enter(Stretch::Cutover);
        let switch = attempt(screen, console, verb, "switched").await;
        load.enter(Stretch::After);
        let switch = switch?;
        screen.good(&format!("{serves} serves the shop; statements waited for {} ms at most", switch.text("hold_ms")));
        watch_load(screen, load, "load", AFTER).await;
        if serves == "green" {
            way_back(screen, console).await?;
        }
        reports.push(console.ask_one(&format!("SHOW CUTOVER REPORT {MIGRATION}")).await?);
    }
    Ok(reports)
}

/// Waits until nothing that was written on green is missing on blue; says whether going back loses nothing.
async fn way_back<L: Link>(screen: Screen, console: &mut Console<L>) -> Result<bool> {
    let begun = Instant::now();
    loop {
        let status = console.ask_one(&format!("SHOW MIGRATION STATUS {MIGRATION}")).await?;
        let detail = status.text("way_back_detail");
        match status.text("way_back") {
            "lossless" if detail.contains(" ms behind") => {
                screen.good(detail);
                return Ok(true);
            }
            "lossless" | "interrupted" if begun.elapsed() < TIMEOUT => {}
            _ => {
                screen.bad(detail);
                return Ok(false);
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Shows the load for a while.
async fn watch_load(screen: Screen, load: &Load, label: &str, span: Duration) {
    let mut live = screen.live(label);
    let (begun, first) = (Instant::now(), load.board.transactions());
    while begun.elapsed() < span {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        live.show(millis(begun.elapsed()), millis(span), &spoken(load));
        sleep(LOOK_EVERY).await;
    }
    let done = u128::from(load.board.transactions() - first);
    let rate = done * 1000 / begun.elapsed().as_millis().max(1);
    live.finish(&format!("{rate} transactions/s, {} errors", load.board.errors()));
}

fn spoken(load: &Load) -> String {
    format!("clients: {} transactions, {} errors", load.board.transactions(), load.board.errors())
}

/// Shows the findings, applies what mends the table without a key, and looks again.
async fn precheck<E: Engine>(screen: Screen, console: &mut Console<E::Link>, stage: &Stage<E>) -> Result<()> {
    let ask = format!("PRECHECK MIGRATION {MIGRATION}");
    let findings = console.ask(&ask).await?;
    let ok = findings.iter().filter(|finding| finding.text("level") == "ok").count();
    screen.good(&format!("precheck: {ok} of {} checks are in order", findings.len()));
    for finding in findings.iter().filter(|finding| finding.text("level") != "ok") {
        let (name, level) = (finding.text("check"), finding.text("level"));
        screen.note(&format!("{level}: {name}: {}", finding.text("evidence")));
        let fix = finding.text("fix");
        if stage.engine().mends(name) && !fix.is_empty() {
            let mut owner = E::Link::open(&stage.owner(), "shop-owner").await?;
            owner.run(fix).await?;
            screen.line(&format!("   fixed with: {fix}"));
        }
    }
    let errors: Vec<String> = console
        .ask(&ask)
        .await?
        .iter()
        .filter(|finding| finding.text("level") == "error")
        .map(|finding| format!("{}: {}", finding.text("check"), finding.text("evidence")))
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(Failure(format!("the precheck still finds: {}", errors.join("; ")))) }
}

/// Shows the copy, then the lag, until the target is close behind.
async fn follow<L: Link>(screen: Screen, console: &mut Console<L>, load: &Load) -> Result<()> {
    let begun = Instant::now();
    let mut live = screen.live("copying");
    let mut copied_after = None;
    loop {
        let status = console.ask_one(&format!("SHOW MIGRATION STATUS {MIGRATION}")).await?;
        let (copied, all) = (status.count("processed_records_count"), status.count("estimated_records_count"));
        match status.text("state") {
            "failed" | "stopped" => {
                let (error, remedy) = (status.text("error_message"), status.text("remedy"));
                return Err(Failure(format!("the migration {}: {error}; {remedy}", status.text("state"))));
            }
            "following" => {
                let took = *copied_after.get_or_insert_with(|| begun.elapsed());
                let (lag, behind) = (status.number("lag_ms"), status.count("behind_bytes"));
                let close = !status.text("lag_ms").is_empty() && lag < LAG_MS_MAX;
                if close {
                    let megabytes = status.number("bytes_copied") / 1e6;
                    let rate = status.number("processed_records_count") / took.as_secs_f64();
                    live.finish(&format!(
                        "{copied} rows, {megabytes:.0} MB copied in {:.1} s ({rate:.0} rows/s), indexes built; \
                         following {lag:.0} ms behind",
                        took.as_secs_f64()
                    ));
                    return Ok(());
                }
                live.show(all, all, &format!("lag {lag:.0} ms, {behind} bytes; {}", spoken(load)));
            }
            _ => {
                let rate = status.number("rows_per_second");
                let megabytes = status.number("bytes_copied") / 1e6;
                let stage = status.text("stage");
                let text =
                    format!("{copied} of {all} rows, {megabytes:.0} MB, {rate:.0} rows/s {stage}; {}", spoken(load));
                live.show(copied, all, &text);
            }
        }
        if begun.elapsed() > TIMEOUT {
            return Err(Failure(format!("the target was not close behind within {TIMEOUT:?}: {status:?}")));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Compares both sides while changes go on.
async fn check<L: Link>(screen: Screen, console: &mut Console<L>, load: &Load) -> Result<()> {
    let begun = Instant::now();
    console.ask(&format!("CHECK MIGRATION {MIGRATION}")).await?;
    let mut live = screen.live("comparing");
    loop {
        let status = console.ask_one(&format!("SHOW MIGRATION CHECK STATUS {MIGRATION}")).await?;
        let (ranges, equal) = (status.count("ranges"), status.count("ranges_equal"));
        match status.text("result") {
            "passed" => {
                let rows = status.count("rows");
                let took = begun.elapsed().as_secs_f64();
                live.finish(&format!("checked: {rows} rows in {ranges} ranges are equal on both sides ({took:.1} s)"));
                return Ok(());
            }
            "different" | "broken" => {
                let (result, error) = (status.text("result"), status.text("error_message"));
                let differing = status.text("differing");
                return Err(Failure(format!("the check ended as {result}: {error} {differing}")));
            }
            _ => live.show(equal, ranges, &format!("{equal} of {ranges} ranges equal; {}", spoken(load))),
        }
        if begun.elapsed() > TIMEOUT {
            return Err(Failure(format!("the check was not complete within {TIMEOUT:?}")));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Asks for a cutover or a rehearsal. One that was undone changed nothing, and is asked for again.
async fn attempt<L: Link>(screen: Screen, console: &mut Console<L>, verb: &str, wanted: &str) -> Result<Record> {
    let mut undone = String::new();
    for _ in 0..ATTEMPTS {
        let report = console.ask_one(&format!("{verb} MIGRATION {MIGRATION}")).await?;
        if report.text("outcome") == wanted {
            return Ok(report);
        }
        let (at, why, remedy) = (report.text("undone_at"), report.text("why"), report.text("remedy"));
        undone = format!("{verb} was undone in {at}: {why}; {remedy}");
        screen.note(&undone);
    }
    Err(Failure(undone))
}
