//! The operator's statements against a scripted world, restarts included.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::Supervisor;
use crate::accounts;
use crate::conductor::scripted::{Mishap, World, definition};
use crate::error::{self, Error};
use crate::model::definition::{Definition, Options};
use crate::model::mark::{Mark, Stage};
use crate::model::proof::Proof;
use crate::model::report::{CutoverReport, Kind, Outcome};
use crate::model::status::{State, Verdict};
use crate::model::switch_proof::{SwitchOutcome, SwitchVerdict};
use crate::preflight::{Check, Level};
use crate::traffic::Admission;

type Supervised = Arc<Supervisor<World>>;

fn open(world: &World) -> Supervised {
    let journal = world.start();
    let databases = world.clone();
    Supervisor::open(journal, Arc::new(world.clone()), Box::new(move |_| Ok(databases.clone())))
        .expect("the supervisor opens")
}

fn proof(digest: &str) -> Proof {
    Proof {
        table: "public.a".to_owned(),
        range: "all".to_owned(),
        source_rows: 200,
        target_rows: 200,
        source_digest: "aa".to_owned(),
        target_digest: digest.to_owned(),
        position: "5".to_owned(),
        differing_keys: vec!["17".to_owned()],
    }
}

/// Lets the clock run on until `reached`; a minute of the script's time is the limit.
async fn until(what: &str, reached: impl Fn() -> bool) {
    for _ in 0..6000 {
        if reached() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} was not reached");
}

async fn until_state(supervisor: &Supervised, state: State) {
    let now = || supervisor.status("m").expect("it is there").state;
    until(state.name(), || now() == state).await;
}

/// A migration that follows, with a known lag.
async fn following(world: &World) -> Supervised {
    let supervisor = open(world);
    supervisor.create(definition()).await.expect("created");
    supervisor.start("m").await.expect("started");
    until("a known lag", || supervisor.status("m").expect("it is there").lag.is_some()).await;
    supervisor
}

async fn checked(world: &World) -> Supervised {
    let supervisor = following(world).await;
    world.facts.lock().proofs = vec![proof("aa")];
    supervisor.check("m").await.expect("begun");
    until("a passed check", || supervisor.status("m").expect("it is there").check_passed == Some(true)).await;
    until("the end of the check", || {
        let status = supervisor.check_status("m").expect("read").expect("one was made");
        status.verdict == Verdict::Passed
    })
    .await;
    supervisor
}

async fn refused<T: std::fmt::Debug>(asked: impl Future<Output = Result<T, Error>>) -> String {
    let error = asked.await.expect_err("it must be refused");
    assert_eq!(error.kind(), error::Kind::Refused, "{error}");
    assert!(error.remedy_text().is_some(), "no remedy: {error}");
    error.to_string()
}

#[tokio::test(start_paused = true)]
async fn a_migration_goes_from_its_definition_to_the_switch_and_is_forgotten() {
    let world = World::new();
    let supervisor = checked(&world).await;
    let status = supervisor.status("m").expect("it is there");
    assert_eq!((status.state, status.rows_copied), (State::Following, 200));
    assert!((status.percent - 100.0).abs() < f64::EPSILON);
    assert_eq!(supervisor.proofs("m").expect("read").len(), 1);
    let ready = supervisor.readiness("m").await.expect("read");
    assert!(ready.iter().all(|check| check.level == Level::Ok), "{ready:?}");

    let rehearsal = supervisor.rehearse("m", Options::default()).await.expect("rehearsed");
    assert_eq!((rehearsal.outcome, rehearsal.kind, rehearsal.epoch), (Outcome::Rehearsed, Kind::Rehearsal, 1));
    assert_eq!(supervisor.status("m").expect("it is there").state, State::Following);

    let report = supervisor.cutover("m", Options::default()).await.expect("cut over");
    assert_eq!((&report.outcome, report.epoch, report.check_waived), (&Outcome::Switched, 2, false));
    assert_eq!((report.proved.rows, report.proved.counters, report.holds.held), (200, 1, 5));
    assert_eq!(report.errors(), 3, "one refused statement and two closed sessions");
    let shown = supervisor.report("m").expect("read").expect("there is one");
    let without_proof = |report| CutoverReport { switch_proof: None, ..report };
    assert_eq!(without_proof(shown), without_proof(report));
    assert_eq!(supervisor.status("m").expect("it is there").state, State::Switched);
    assert_eq!(supervisor.route_clusters().expect("read").get("shop").map(String::as_str), Some("green"));

    supervisor.drop_migration("m", false).await.expect("dropped");
    assert!(supervisor.list().is_empty());
    assert_eq!(world.facts.lock().calls.last(), Some(&"clean_up"));
    let again = refused(supervisor.create(definition())).await;
    assert!(again.contains("route shop is on cluster green"), "{again}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_now_is_refused_with_a_statement_that_helps() {
    let world = World::new();
    let supervisor = open(&world);
    let nobody = refused(supervisor.start("m")).await;
    assert!(nobody.contains("there is no migration m") && nobody.contains("SHOW MIGRATION LIST"), "{nobody}");
    supervisor.create(definition()).await.expect("created");

    let mut other = definition();
    "n".clone_into(&mut other.name);
    assert!(refused(supervisor.create(other.clone())).await.contains("DROP MIGRATION m"));
    "m".clone_into(&mut other.name);
    assert!(refused(supervisor.create(other.clone())).await.contains("exists already"));
    "M'; --".clone_into(&mut other.name);
    assert!(refused(supervisor.create(other)).await.contains("lower-case letters"));

    assert!(refused(supervisor.check("m")).await.contains("START MIGRATION m"));
    assert!(refused(supervisor.cutover("m", Options::default())).await.contains("START MIGRATION m"));
    assert!(refused(supervisor.stop("m")).await.contains("created"));
    let hasty = Options { max_hold: Duration::from_millis(1), waive_check: false, ..Options::default() };
    assert!(refused(supervisor.cutover("m", hasty)).await.contains("50ms to 60s"));
    supervisor.start("m").await.expect("started");
    until("a known lag", || supervisor.status("m").expect("it is there").lag.is_some()).await;
    assert!(refused(supervisor.start("m")).await.contains("following already"));
    assert!(refused(supervisor.precheck("m")).await.contains("SHOW MIGRATION CHECKS m"));
    assert!(refused(supervisor.drop_migration("m", false)).await.contains("STOP MIGRATION m"));
}

#[tokio::test(start_paused = true)]
async fn a_cutover_while_copying_touches_nothing() {
    let world = World::new();
    world.facts.lock().follower_idle = true;
    let supervisor = open(&world);
    supervisor.create(definition()).await.expect("created");
    supervisor.start("m").await.expect("started");
    until("copying", || world.facts.lock().calls.contains(&"copy")).await;
    let message = refused(supervisor.cutover("m", Options::default())).await;
    assert!(message.contains("copying") && message.contains("SHOW MIGRATION STATUS m"), "{message}");
    assert!(!world.facts.lock().calls.contains(&"hold"));
    until("half of the rows", || supervisor.status("m").expect("it is there").rows_copied == 100).await;
    let status = supervisor.status("m").expect("it is there");
    assert!((status.percent - 50.0).abs() < f64::EPSILON, "{status:?}");
    supervisor.stop("m").await.expect("stopped");
    assert_eq!(supervisor.status("m").expect("it is there").state, State::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_cutover_needs_a_passed_check_or_the_operators_word() {
    let world = World::new();
    let supervisor = following(&world).await;
    let message = refused(supervisor.cutover("m", Options::default())).await;
    assert!(message.contains("no check was made") && message.contains("CHECK MIGRATION m"), "{message}");
    world.facts.lock().proofs = vec![proof("bb")];
    supervisor.check("m").await.expect("begun");
    until("a verdict", || supervisor.status("m").expect("it is there").check_passed == Some(false)).await;
    let status = supervisor.check_status("m").expect("read").expect("one was made");
    assert_eq!((status.verdict, status.ranges_different), (Verdict::Different, 1));
    assert_eq!(status.differing, ["public.a (all): 17"]);
    let message = refused(supervisor.cutover("m", Options::default())).await;
    assert!(message.contains("ended as different"), "{message}");
    assert!(!world.facts.lock().calls.contains(&"hold"));
    let waived = Options { waive_check: true, waive_accounts: Vec::new(), ..Options::default() };
    let report = supervisor.cutover("m", waived).await.expect("cut over");
    assert!(report.check_waived);
    assert_eq!((report.outcome, report.proved.ranges), (Outcome::Switched, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lag_that_does_not_fit_into_the_hold_refuses_the_cutover() {
    let world = World::new();
    let supervisor = checked(&world).await;
    world.known_follow().report_lag(Duration::from_millis(3400), 12_000_000);
    let message = refused(supervisor.cutover("m", Options::default())).await;
    assert!(message.contains("8400 ms") && message.contains("1000 ms"), "{message}");
    assert!(!world.facts.lock().calls.contains(&"hold"));
}

#[tokio::test(start_paused = true)]
async fn one_statement_at_a_time_works_on_a_migration() {
    let world = World::new();
    let supervisor = checked(&world).await;
    world.facts.lock().follower_idle = true;
    let first = tokio::spawn({
        let supervisor = Arc::clone(&supervisor);
        async move { supervisor.cutover("m", Options::default()).await }
    });
    until("the hold", || world.facts.lock().calls.contains(&"hold")).await;
    assert_eq!(supervisor.status("m").expect("it is there").state, State::Cutover);
    let second = refused(supervisor.cutover("m", Options::default())).await;
    assert!(second.contains("a cutover of migration m is under way"), "{second}");
    assert!(refused(supervisor.stop("m")).await.contains("a cutover"));
    let report = first.await.expect("no panic").expect("a report");
    assert!(matches!(report.outcome, Outcome::Undone { .. }), "{:?}", report.outcome);
    assert_eq!(supervisor.status("m").expect("it is there").state, State::Following);
    assert_eq!(supervisor.report("m").expect("read"), Some(report));
}

#[tokio::test(start_paused = true)]
async fn a_cutover_goes_on_when_its_caller_goes_away() {
    let world = World::new();
    let supervisor = checked(&world).await;
    let caller = tokio::spawn({
        let supervisor = Arc::clone(&supervisor);
        async move { supervisor.cutover("m", Options::default()).await }
    });
    until("the hold", || world.facts.lock().calls.contains(&"hold")).await;
    caller.abort();
    until_state(&supervisor, State::Switched).await;
}

#[tokio::test(start_paused = true)]
async fn a_fault_in_the_middle_of_a_cutover_is_settled_at_once() {
    for mishap in [Mishap::DieBefore, Mishap::DieAfter] {
        for step in ["quiet", "raise_fence", "seal_fence", "switch"] {
            let world = World::new();
            let supervisor = checked(&world).await;
            let order = [
                "arm",
                "prepare_snapshots",
                "warm_up",
                "warm",
                "hold",
                "quiet",
                "raise_fence",
                "advance_counters",
                "stream_end",
                "confirm_fence",
                "open_snapshots",
                "seal_fence",
                "switch",
            ];
            let ahead = order.iter().position(|call| *call == step).expect("a known step");
            let at = world.facts.lock().calls.len() + ahead;
            world.facts.lock().mishaps = vec![(at, mishap)];
            let report = supervisor.cutover("m", Options::default()).await.expect("a report");
            let switched = step == "switch";
            assert_eq!(report.outcome == Outcome::Switched, switched, "{mishap:?} at {step}");
            let facts = world.facts.lock();
            assert!(!facts.gate_closed && facts.sealed == switched, "{mishap:?} at {step}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_in_the_settling_of_a_fault_does_not_keep_the_gate_closed() {
    let world = World::new();
    let supervisor = checked(&world).await;
    // arm, prepare_snapshots, warm_up, warm, hold, quiet, raise_fence, advance_counters, stream_end, confirm_fence,
    // open_snapshots, seal_fence; then the settling.
    let calls = world.facts.lock().calls.len();
    world.facts.lock().mishaps = [11, 12, 13].map(|ahead| (calls + ahead, Mishap::DieAfter)).to_vec();
    let report = supervisor.cutover("m", Options::default()).await.expect("a report");
    assert!(matches!(report.outcome, Outcome::Undone { .. }));
    let facts = world.facts.lock();
    assert!(!facts.gate_closed && !facts.sealed, "{:?}", facts.calls);
}

/// Takes the journal's disk away: nothing that a cutover records can be written.
fn fill_the_disk(world: &World) -> rusqlite::Connection {
    let raw = rusqlite::Connection::open(world.folder.0.join("journal.sqlite")).expect("opens");
    raw.execute_batch("CREATE TRIGGER full BEFORE INSERT ON steps BEGIN SELECT RAISE(ABORT, 'the disk is full'); END")
        .expect("the trigger is there");
    raw
}

#[tokio::test(start_paused = true)]
async fn a_switch_that_cannot_be_recorded_is_told_and_the_statement_ends() {
    let world = World::new();
    let supervisor = checked(&world).await;
    let raw = rusqlite::Connection::open(world.folder.0.join("journal.sqlite")).expect("opens");
    raw.execute_batch(
        "CREATE TRIGGER full BEFORE INSERT ON steps WHEN NEW.state = 'Switched'
         BEGIN SELECT RAISE(ABORT, 'the disk is full'); END",
    )
    .expect("the trigger is there");
    let reported = supervisor.cutover("m", Options::default()).await.expect_err("it is not recorded").to_string();
    assert!(reported.contains("route shop is switched") && reported.contains("the disk is full"), "{reported}");
    let status = supervisor.status("m").expect("it is there");
    assert!(status.error.is_some_and(|text| text.contains("disk is full")));
    let other = refused(supervisor.stop("m")).await;
    assert!(other.contains("the disk is full"), "{other}");
    raw.execute_batch("DROP TRIGGER full").expect("mended");
    until_state(&supervisor, State::Switched).await;
    assert_eq!(supervisor.status("m").expect("it is there").error, None);
}

#[tokio::test(start_paused = true)]
async fn a_cutover_that_cannot_be_begun_for_a_full_disk_is_refused_and_leaves_the_gate_open() {
    let world = World::new();
    let supervisor = checked(&world).await;
    let _raw = fill_the_disk(&world);
    let reported = supervisor.cutover("m", Options::default()).await.expect_err("it cannot begin").to_string();
    assert!(reported.contains("the disk is full"), "{reported}");
    assert!(!world.facts.lock().gate_closed);
    assert_eq!(supervisor.status("m").expect("it is there").state, State::Following);
}

#[tokio::test(start_paused = true)]
async fn sessions_that_the_target_does_not_take_refuse_the_cutover_unless_that_is_waived() {
    let world = World::new();
    let supervisor = checked(&world).await;
    world.facts.lock().unopened = vec!["too many connections".to_owned(); 5];
    let reported = refused(supervisor.cutover("m", Options::default())).await;
    assert!(reported.contains("5 sessions of route shop") && reported.contains("too many connections"), "{reported}");
    assert!(!world.facts.lock().calls.contains(&"hold"));
    let waived = Options { waive_sessions: true, ..Options::default() };
    let report = supervisor.cutover("m", waived).await.expect("a report");
    assert_eq!(report.outcome, Outcome::Switched);
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_is_interrupted_is_told_since_when_and_nothing_waits_for_it() {
    let world = World::new();
    let supervisor = checked(&world).await;
    let lost = || Error::transient("the source is gone");
    world.facts.lock().follower_errors = (0..20).map(|_| lost()).collect();
    supervisor.stop("m").await.expect("stopped");
    supervisor.start("m").await.expect("started");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let status = supervisor.status("m").expect("it is there");
    assert!(status.interrupted.is_some());
    assert!(status.error.is_some_and(|text| text.contains("the source is gone")));
    assert!(status.lag.expect("known") >= Duration::from_secs(9));
    let begun = tokio::time::Instant::now();
    for reported in [refused(supervisor.check("m")).await, refused(supervisor.cutover("m", Options::default())).await] {
        assert!(reported.contains("the source is gone"), "{reported}");
    }
    assert!(begun.elapsed() < Duration::from_secs(1));
    let ready = supervisor.readiness("m").await.expect("read");
    let first = ready.first().expect("a line that sums up");
    assert_eq!((first.name.as_str(), first.level), ("ready", Level::Error));
    assert!(first.evidence.starts_with("NOT READY: follower: "), "{first:?}");
}

#[tokio::test(start_paused = true)]
async fn a_switched_migration_is_finished_once_and_its_report_outlives_it() {
    let world = World::new();
    let supervisor = checked(&world).await;
    let early = refused(supervisor.finish("m", false)).await;
    assert!(early.contains("following"), "{early}");
    supervisor.cutover("m", Options::default()).await.expect("a report");
    world.facts.lock().failing = vec!["clean_up"];
    supervisor.finish("m", false).await.expect_err("a side is away");
    assert_eq!(supervisor.status("m").expect("it is there").state, State::Switched);
    supervisor.finish("m", false).await.expect("finished");
    supervisor.finish("m", false).await.expect("nothing is left to do");
    assert!(world.facts.lock().sealed, "the refusal stays");
    supervisor.shutdown().await;
    drop(supervisor);

    let supervisor = open(&world);
    supervisor.resume();
    let status = supervisor.status("m").expect("it is there");
    assert_eq!(status.state, State::Finished);
    // The way is free for the next migration of the route.
    let back =
        Definition { name: "back".to_owned(), source: "green".to_owned(), target: "blue".to_owned(), ..definition() };
    supervisor.create(back).await.expect("created");
    supervisor.drop_migration("m", false).await.expect("dropped");
    let report = supervisor.report("m").expect("read").expect("it is kept");
    assert_eq!(report.outcome, Outcome::Switched);
    assert!(supervisor.report("other").is_err());
}

#[tokio::test(start_paused = true)]
async fn the_way_back_is_closed_once_the_switch_is_proved_or_at_the_operators_word() {
    let differing = SwitchVerdict {
        outcome: SwitchOutcome::Different,
        differing: vec!["public.a (all): (7)".to_owned()],
        ..SwitchVerdict::equal()
    };
    let unknown = SwitchVerdict::unknown("a snapshot was lost: gone");
    for (verdict, name, said) in [
        (None, "running", "running: 0 of 0 ranges are compared"),
        (Some(differing), "different", "different at the switch: public.a (all): (7)"),
        (Some(unknown), "unknown", "cannot be known: a snapshot was lost: gone"),
    ] {
        let world = World::new();
        world.facts.lock().switch_verdict.clone_from(&verdict);
        let supervisor = checked(&world).await;
        assert_eq!(supervisor.status("m").expect("it is there").switch_proof, None);
        supervisor.cutover("m", Options::default()).await.expect("a report");
        until("a verdict", || {
            supervisor.status("m").expect("it is there").switch_proof.is_some_and(|proof| proof.name() == name)
        })
        .await;
        let report = supervisor.report("m").expect("read").expect("there is one");
        assert!(report.switch_proof.is_some_and(|proof| proof.to_string().contains(said)));
        let steps = supervisor.readiness("m").await.expect("read");
        let step = steps.iter().find(|step| step.name == "switch_proof").expect("it is told");
        assert!(step.level != Level::Ok && step.evidence.contains(said) && !step.remedy.is_empty(), "{step:?}");
        let early = refused(supervisor.finish("m", false)).await;
        assert!(early.contains(said), "{early}");
        assert!(!world.facts.lock().calls.contains(&"clean_up"));
        supervisor.shutdown().await;
        drop(supervisor);

        // A snapshot ends with its process.
        let supervisor = open(&world);
        supervisor.resume();
        let said = if verdict.is_none() { "cannot be known: Headgate was restarted" } else { said };
        let mut early = refused(supervisor.finish("m", false)).await;
        while early.contains("the recovery") {
            tokio::time::sleep(Duration::from_millis(10)).await;
            early = refused(supervisor.finish("m", false)).await;
        }
        assert!(early.contains(said), "{early}");
        supervisor.finish("m", true).await.expect("at the operator's word");
        assert_eq!(supervisor.status("m").expect("it is there").state, State::Finished);
    }
    let world = World::new();
    let supervisor = checked(&world).await;
    supervisor.cutover("m", Options::default()).await.expect("a report");
    supervisor.finish("m", false).await.expect("it is proved");
}

#[tokio::test(start_paused = true)]
async fn readiness_says_one_line_first_and_after_the_switch_what_is_left_to_do() {
    let world = World::new();
    let supervisor = checked(&world).await;
    let first = |lines: Vec<Check>| lines.into_iter().next().expect("a first line");
    let ready = first(supervisor.readiness("m").await.expect("read"));
    assert_eq!(ready.evidence, "READY: CUTOVER MIGRATION m");

    let at = world.facts.lock().calls.len();
    world.facts.lock().mishaps = vec![(at, Mishap::Hang)];
    supervisor.check("m").await.expect("begun");
    let running = first(supervisor.readiness("m").await.expect("read"));
    assert_eq!(running.evidence, "NOT READY: proof: a check is under way");
    supervisor.stop("m").await.expect("stopped");
    supervisor.start("m").await.expect("started");
    until("a known lag", || supervisor.status("m").expect("it is there").lag.is_some()).await;
    supervisor.cutover("m", Options::default()).await.expect("a report");
    let left = supervisor.readiness("m").await.expect("read");
    let names: Vec<&str> = left.iter().map(|line| line.name.as_str()).collect();
    assert_eq!(
        names,
        ["ready", "switch_proof", "sessions", "configuration", "statistics", "way_back", "decommissioning"]
    );
    assert!(left[0].evidence.starts_with("SWITCHED"));
    assert!(left.iter().any(|line| line.fix == "FINISH MIGRATION m"));
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_retried_and_a_real_failure_stops_with_its_remedy() {
    let world = World::new();
    world.facts.lock().follower_errors = vec![
        Error::fatal("row 17 of public.a is not there").remedy("drop the migration"),
        Error::transient("the source is gone"),
        Error::transient("the source is gone"),
    ];
    let supervisor = open(&world);
    supervisor.create(definition()).await.expect("created");
    supervisor.start("m").await.expect("started");
    until("a retry", || supervisor.status("m").expect("it is there").stage.starts_with("retrying")).await;
    let status = supervisor.status("m").expect("it is there");
    assert_eq!((status.state, status.error.as_deref()), (State::Following, Some("the source is gone")));
    until_state(&supervisor, State::Failed).await;
    let status = supervisor.status("m").expect("it is there");
    assert_eq!(status.error.as_deref(), Some("row 17 of public.a is not there"));
    assert_eq!(status.remedy.as_deref(), Some("drop the migration"));
    supervisor.start("m").await.expect("the operator may try again");
    until("a known lag", || supervisor.status("m").expect("it is there").lag.is_some()).await;
    let copies = world.facts.lock().calls.iter().filter(|call| **call == "copy").count();
    assert_eq!(copies, 1, "what is copied was copied again");
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_worker_stops_the_migration_and_the_start_that_is_printed_tries_again() {
    let world = World::new();
    let supervisor = open(&world);
    supervisor.create(definition()).await.expect("created");
    let at = world.facts.lock().calls.len();
    world.facts.lock().mishaps = vec![(at, Mishap::DieBefore)];
    supervisor.start("m").await.expect("started");
    until_state(&supervisor, State::Failed).await;
    let remedy = supervisor.status("m").expect("it is there").remedy;
    assert_eq!(remedy.as_deref(), Some("START MIGRATION m tries again"));
    supervisor.start("m").await.expect("started");
    until("a known lag", || supervisor.status("m").expect("it is there").lag.is_some()).await;
    assert_eq!(supervisor.status("m").expect("it is there").state, State::Following);
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_precheck_block_the_start_all_at_once() {
    let world = World::new();
    world.facts.lock().findings = vec![
        Check::new("wal_level", Level::Error, "replica", "set it to logical", "ALTER SYSTEM …"),
        Check::ok("slots", "9 free"),
        Check::new("target", Level::Error, "has table a", "drop it", "DROP TABLE a"),
    ];
    let supervisor = open(&world);
    supervisor.create(definition()).await.expect("created");
    let message = refused(supervisor.start("m")).await;
    assert!(message.contains("2 errors: wal_level: replica; target: has table a"), "{message}");
    assert_eq!(supervisor.checks("m").expect("read").len(), 5);
    assert!(world.facts.lock().calls.is_empty(), "something was touched");
    world.facts.lock().findings.clear();
    supervisor.precheck("m").await.expect("prechecked");
    assert_eq!(supervisor.status("m").expect("it is there").state, State::Prechecked);
}

#[tokio::test(start_paused = true)]
async fn what_ran_before_a_restart_runs_after_it_and_what_was_stopped_does_not() {
    let world = World::new();
    let supervisor = following(&world).await;
    supervisor.shutdown().await;
    drop(supervisor);
    let supervisor = open(&world);
    assert_eq!(supervisor.status("m").expect("it is there").rows_copied, 200);
    supervisor.resume();
    until("a known lag", || supervisor.status("m").expect("it is there").lag.is_some()).await;
    supervisor.stop("m").await.expect("stopped");
    supervisor.shutdown().await;
    drop(supervisor);
    let calls = world.facts.lock().calls.len();
    let supervisor = open(&world);
    supervisor.resume();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(supervisor.status("m").expect("it is there").state, State::Stopped);
    assert_eq!(world.facts.lock().calls.len(), calls);
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_middle_of_a_cutover_keeps_the_gate_closed_until_it_is_undone() {
    let world = World::new();
    let supervisor = checked(&world).await;
    supervisor.shutdown().await;
    drop(supervisor);
    let journal = world.start();
    let conductor = world.conductor(&journal);
    drop(journal);
    // hold, quiet, raise_fence, advance_counters, stream_end, confirm_fence, open_snapshots, and then the refusal is
    // durable and the process is gone.
    let at = world.facts.lock().calls.len() + 7;
    world.facts.lock().mishaps = vec![(at, Mishap::DieAfter)];
    assert!(crate::conductor::scripted::run(conductor, Kind::Cutover).await.is_none());
    let supervisor = open(&world);
    {
        let facts = world.facts.lock();
        assert!(facts.sealed && facts.gate_closed, "writers would run into the refusal");
    }
    supervisor.resume();
    until_state(&supervisor, State::Following).await;
    until("the undo", || !world.facts.lock().gate_closed).await;
    assert!(!world.facts.lock().sealed);
    until("a follower", || supervisor.status("m").expect("it is there").lag.is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_after_the_decision_finishes_the_switch_and_reports_it() {
    let world = World::new();
    let supervisor = checked(&world).await;
    supervisor.shutdown().await;
    drop(supervisor);
    let journal = world.start();
    let conductor = world.conductor(&journal);
    drop(journal);
    let at = world.facts.lock().calls.len() + 8;
    world.facts.lock().mishaps = vec![(at, Mishap::DieBefore)];
    assert!(crate::conductor::scripted::run(conductor, Kind::Cutover).await.is_none());
    let supervisor = open(&world);
    let route = supervisor.route_clusters().expect("read").remove("shop");
    assert_eq!(route.as_deref(), Some("green"), "the route is decided before the listener opens");
    supervisor.resume();
    until_state(&supervisor, State::Switched).await;
    until("a report", || supervisor.report("m").expect("read").is_some()).await;
    assert!(world.facts.lock().sealed && !world.facts.lock().gate_closed);
}

#[tokio::test(start_paused = true)]
async fn a_stop_breaks_off_a_check_and_leaves_no_verdict() {
    let world = World::new();
    let supervisor = following(&world).await;
    let at = world.facts.lock().calls.len();
    world.facts.lock().mishaps = vec![(at, Mishap::Hang)];
    supervisor.check("m").await.expect("begun");
    let running = supervisor.check_status("m").expect("read").expect("one runs");
    assert_eq!(running.verdict, Verdict::Running);
    assert!(refused(supervisor.cutover("m", Options::default())).await.contains("a check"));
    supervisor.stop("m").await.expect("stopped");
    assert_eq!(supervisor.check_status("m").expect("read"), None);
    assert_eq!(supervisor.status("m").expect("it is there").state, State::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_definition_that_differs_while_following_is_told_within_seconds_and_until_it_is_gone() {
    let world = World::new();
    let supervisor = checked(&world).await;
    assert_eq!(supervisor.status("m").expect("known").error, None);
    world.facts.lock().definitions.differences = vec!["view public.v (differs)".to_owned()];
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.known_follow().report_lag(Duration::from_millis(3), 0);
    let status = supervisor.status("m").expect("known");
    assert_eq!(status.state, State::Following);
    let text = status.error.expect("it is told");
    assert!(text.contains("view public.v (differs)"), "{text}");
    assert!(status.remedy.is_some(), "nobody says what to do");
    let readiness = supervisor.readiness("m").await.expect("it answers");
    let finding = readiness.iter().find(|check| check.name == "definitions");
    assert_eq!(finding.map(|check| check.level), Some(Level::Error));
    world.facts.lock().definitions.differences.clear();
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.known_follow().report_lag(Duration::from_millis(3), 0);
    assert_eq!(supervisor.status("m").expect("known").error, None);
}

#[tokio::test(start_paused = true)]
async fn a_cutover_is_refused_for_an_account_that_nobody_proved_and_for_definitions_that_were_not_checked() {
    let world = World::new();
    let supervisor = checked(&world).await;
    let unproved = accounts::Account {
        name: "till".to_owned(),
        verdict: accounts::Verdict::Unproved {
            why: "its password cannot be read".to_owned(),
            remedy: "say it".to_owned(),
            fix: String::new(),
        },
        turned_away: false,
    };
    world.facts.lock().accounts = vec![unproved];
    let refused = supervisor.cutover("m", Options::default()).await;
    let text = refused.expect_err("till may be locked out").full_text();
    assert!(text.contains("till"), "{text}");
    world.facts.lock().definitions.fingerprint.source = [("view public.v".to_owned(), "digest".to_owned())].into();
    let waived = || Options { waive_accounts: vec!["till".to_owned()], ..Options::default() };
    let refused = supervisor.cutover("m", waived()).await;
    let text = refused.expect_err("the view is new").full_text();
    assert!(text.contains("view public.v is new on the source"), "{text}");
    world.facts.lock().definitions.fingerprint.source.clear();
    let report = supervisor.cutover("m", waived()).await.expect("it runs");
    assert_eq!(report.outcome, Outcome::Switched);
}

#[tokio::test(start_paused = true)]
async fn a_mark_of_another_journal_is_refused_until_it_is_cleared_and_ones_own_is_not() {
    let world = World::new();
    let supervisor = checked(&world).await;
    let cut = supervisor.cutover("m", Options::default()).await;
    assert_eq!(cut.expect("a report").outcome, Outcome::Switched);
    let mark = world.facts.lock().marks.first().cloned().expect("a mark");
    assert_eq!(mark.stage, Stage::Switched);
    end(supervisor).await;

    let refused = |world: &World| {
        let admission = world.facts.lock().admission.clone();
        matches!(admission, Some(Admission::Refused { .. }))
    };
    let is_open = |world: &World| world.facts.lock().admission == Some(Admission::Open);
    // The journal knows its own mark.
    let supervisor = open(&world);
    supervisor.resume();
    until("its own mark is in nobody's way", || is_open(&world)).await;
    end(supervisor).await;

    // Another journal does not, whatever it calls its migrations; nor does an older state of the same.
    for (journal, epoch) in [("another", 1), (mark.journal.as_str(), mark.epoch + 1)] {
        world.facts.lock().marks = vec![Mark { journal: journal.to_owned(), epoch, ..mark.clone() }];
        let supervisor = open(&world);
        supervisor.resume();
        until("the mark is seen", || refused(&world)).await;
        let again = Definition { name: "n".to_owned(), ..definition() };
        let text = refused_text(supervisor.create(again).await);
        assert!(text.contains("moved route shop to green"), "{text}");
        let text = refused_text(supervisor.clear_mark("blue", "shop", false).await);
        assert!(text.contains("give_up_switch"), "{text}");
        supervisor.clear_mark("blue", "shop", true).await.expect("cleared");
        assert!(is_open(&world) && world.facts.lock().marks.is_empty());
        end(supervisor).await;
    }
}

/// Ends a process in good order.
async fn end(supervisor: Supervised) {
    supervisor.shutdown().await;
    until("nothing goes on behind", || Arc::strong_count(&supervisor) == 1).await;
}

fn refused_text(outcome: error::Result<()>) -> String {
    let error = outcome.expect_err("it went through");
    assert_eq!(error.kind(), error::Kind::Refused, "{error}");
    error.to_string()
}
