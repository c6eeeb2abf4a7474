//! The machine with its effects: every call fails, hangs, or is the last that the process makes.

use std::time::Duration;

use tokio::time::Instant;

use super::CutoverRun;
use super::effects::{COMPLETE_TIMEOUT, LIFT_GRACE};
use super::scripted::{Mishap, Place, World, definition, plan, run};
use crate::cutover::Cutover;
use crate::database::NextLeg as _;
use crate::model::leg::Leg;
use crate::model::mark::{Mark, Stage};
use crate::model::report::{Kind, Outcome};
use crate::residue::Residue;
use crate::residue::proof_before::ProofBefore;
use crate::traffic::OpenTransaction;

const KINDS: [Kind; 3] = [Kind::Cutover, Kind::Rehearsal, Kind::Rollback];
/// More calls than any run makes.
const CALLS_MAX: usize = 16;

async fn fresh(mishaps: &[(usize, Mishap)]) -> (World, crate::journal::Journal) {
    fresh_for(Kind::Cutover, mishaps).await
}

/// Before a rollback there was a switch.
async fn fresh_for(kind: Kind, mishaps: &[(usize, Mishap)]) -> (World, crate::journal::Journal) {
    let world = World::new();
    let journal = world.start();
    journal.insert(&definition()).await.expect("inserted");
    if kind == Kind::Rollback {
        arm(&journal, Leg::FIRST.next()).await;
        let course = run(world.conductor(&journal), Kind::Cutover).await.expect("it ends");
        assert_eq!(course.outcome, Outcome::Switched);
        arm(&journal, Leg::FIRST.next().next()).await;
        let mut facts = world.facts.lock();
        assert_eq!(facts.next_begins, Some(Place(1)), "nothing says where the way back begins");
        facts.calls.clear();
    }
    world.facts.lock().mishaps = mishaps.to_vec();
    (world, journal)
}

async fn arm(journal: &crate::journal::Journal, leg: Leg) {
    journal.begin_arming("m", leg, &plan()).await.expect("written");
    journal.armed("m", leg).await.expect("written");
}

/// What must be true when nothing is under way any more.
fn assert_settled(world: &World, note: &str) {
    let last = world.journalled();
    let facts = world.facts.lock();
    assert!(!facts.gate_closed, "the gate stayed closed {note}: {:?}", facts.calls);
    assert!(!facts.barrier, "the barrier stayed up {note}: {:?}", facts.calls);
    let sides = (facts.sealed, facts.back_sealed, facts.route.as_str(), facts.marks.len(), facts.back_marks.len());
    let legs = world.legs();
    match last {
        Some(Cutover::Switched) if legs == 3 => {
            assert_eq!(sides, (false, true, "blue", 0, 1), "after the rollback {note}: {:?}", facts.calls);
        }
        Some(Cutover::Switched) => {
            assert_eq!(sides, (true, false, "green", 1, 0), "after the switch {note}: {:?}", facts.calls);
        }
        Some(Cutover::Following) if legs == 2 => {
            assert_eq!(sides, (true, false, "green", 1, 0), "as before the rollback {note}: {:?}", facts.calls);
        }
        Some(Cutover::Following) | None => {
            assert_eq!(sides, (false, false, "blue", 0, 0), "as before {note}: {:?}", facts.calls);
        }
        Some(other) => panic!("{} is not an end {note}: {:?}", other.name(), facts.calls),
    }
}

#[tokio::test(start_paused = true)]
async fn a_cutover_without_mishaps_makes_each_call_once_and_in_order() {
    let (world, journal) = fresh(&[]).await;
    let course = run(world.conductor(&journal), Kind::Cutover).await.expect("it ends");
    assert_eq!(course.outcome, Outcome::Switched);
    let expected = [
        "hold",
        "quiet",
        "raise_fence",
        "advance_counters",
        "stream_end",
        "confirm_fence",
        "open_snapshots",
        "seal_fence",
        "switch",
        "release",
        "after_switch",
    ];
    assert_eq!(world.facts.lock().calls, expected);
    assert_eq!((course.marker.as_deref(), course.counters), (Some("7"), 1));
    assert_settled(&world, "at the end");
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_neither_seals_nor_switches_and_opens_the_fence_before_the_gate() {
    let (world, journal) = fresh(&[]).await;
    let course = run(world.conductor(&journal), Kind::Rehearsal).await.expect("it ends");
    assert_eq!(course.outcome, Outcome::Rehearsed);
    let expected = [
        "hold",
        "quiet",
        "raise_fence",
        "advance_counters",
        "stream_end",
        "confirm_fence",
        "open_snapshots",
        "drop_fence",
        "release",
    ];
    assert_eq!(world.facts.lock().calls, expected);
    assert_settled(&world, "at the end");
}

/// Whether the run met its mishap, and its course.
async fn with_mishap(kind: Kind, at: usize, mishap: Mishap) -> Option<(World, CutoverRun, Duration)> {
    let (world, journal) = fresh_for(kind, &[(at, mishap)]).await;
    let begun = Instant::now();
    let course = run(world.conductor(&journal), kind).await.expect("it ends");
    let calls = world.facts.lock().calls.len();
    (calls > at).then(|| (world, course, begun.elapsed()))
}

#[tokio::test(start_paused = true)]
async fn any_call_may_fail_or_hang_and_the_cutover_still_ends_as_before_or_switched() {
    let mut met = 0;
    for kind in KINDS {
        for mishap in [Mishap::Fail, Mishap::FailAfter, Mishap::Hang, Mishap::HangAfter] {
            for at in 0..CALLS_MAX {
                let Some((world, course, took)) = with_mishap(kind, at, mishap).await else {
                    break;
                };
                met += 1;
                let note = format!("after {mishap:?} at call {at} of a {kind}");
                assert_settled(&world, &note);
                let calls = world.facts.lock().calls.clone();
                let decided = calls.contains(&"switch");
                assert_eq!(course.outcome == Outcome::Switched, decided, "{note}: {calls:?}");
                // An unfence that hangs costs its limit on top, and no more.
                let limit = Duration::from_secs(2) + LIFT_GRACE;
                assert!(course.hold <= limit, "{note}: held {:?}", course.hold);
                // By then everybody goes on.
                let after = if calls.last() == Some(&"after_switch") { COMPLETE_TIMEOUT } else { Duration::ZERO };
                assert!(took <= limit + after + Duration::from_secs(1), "{note}: took {took:?}");
            }
        }
    }
    assert!(met > 45, "only {met} mishaps were met");
}

#[tokio::test(start_paused = true)]
async fn what_fails_before_the_decision_keeps_the_hold_within_its_limit() {
    for (at, call) in ["hold", "quiet", "raise_fence", "advance_counters", "stream_end", "confirm_fence", "seal_fence"]
        .iter()
        .enumerate()
    {
        for mishap in [Mishap::Fail, Mishap::Hang, Mishap::HangAfter] {
            let (_, course, _) = with_mishap(Kind::Cutover, at, mishap).await.expect("it is met");
            assert!(course.hold <= Duration::from_secs(2), "{call}: held {:?}", course.hold);
            let Outcome::Undone { at, why, .. } = &course.outcome else { panic!("{call}: {:?}", course.outcome) };
            assert!(!at.is_empty() && !why.is_empty());
        }
    }
}

/// A restart of the process: what was closed or up within it is gone, and the gate is closed for an undo
/// or for what is left of a switch.
async fn restart(world: &World) -> Option<()> {
    let journal = world.start();
    if let Some(Cutover::Undoing { .. } | Cutover::Switching) = world.journalled().map(Cutover::resumed) {
        world.facts.lock().gate_closed = true;
    }
    let mut conductor = world.conductor(&journal);
    if world.journalled() == Some(Cutover::Switched) {
        // What follows the switch is done again, and is of the leg that is over.
        let over = conductor.leg.before().unwrap_or(conductor.leg);
        conductor.database = world.for_leg(over);
        conductor.leg = over;
    }
    drop(journal);
    tokio::spawn(async move { conductor.settle().await.expect("the journal works") }).await.ok().map(drop)
}

#[tokio::test(start_paused = true)]
async fn the_process_may_die_around_any_two_calls_and_a_restart_ends_as_before_or_switched() {
    let mut deaths = 0;
    for kind in KINDS {
        for first in [Mishap::DieBefore, Mishap::DieAfter] {
            for second in [Mishap::DieBefore, Mishap::DieAfter] {
                for at in 0..CALLS_MAX {
                    // The second death comes at each call that the restarted process makes.
                    for later in 1..CALLS_MAX {
                        let (world, journal) = fresh_for(kind, &[(at, first), (at + later, second)]).await;
                        let conductor = world.conductor(&journal);
                        drop(journal);
                        let survived = run(conductor, kind).await.is_some();
                        if survived {
                            break;
                        }
                        deaths += 1;
                        let decided = matches!(world.journalled(), Some(Cutover::Switching | Cutover::Switched));
                        let died_again = restart(&world).await.is_none();
                        if died_again {
                            assert_eq!(restart(&world).await, Some(()));
                        }
                        let note = format!("after {first:?} at {at} and {second:?} {later} later of a {kind}");
                        assert_settled(&world, &note);
                        let switched = world.journalled() == Some(Cutover::Switched);
                        assert_eq!(switched, decided, "{note}");
                        if !died_again {
                            break;
                        }
                    }
                }
            }
        }
    }
    assert!(deaths > 90, "only {deaths} deaths");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_outlasts_the_gate_is_named_and_the_cutover_undone() {
    let (world, journal) = fresh(&[(1, Mishap::Hang)]).await;
    world.facts.lock().open = vec![OpenTransaction {
        pid: 4711,
        user: "app".to_owned(),
        client: "10.1.2.3:5000".to_owned(),
        age: Duration::from_millis(12_300),
    }];
    let course = run(world.conductor(&journal), Kind::Cutover).await.expect("it ends");
    let Outcome::Undone { at, why, remedy } = course.outcome else { panic!("{:?}", course.outcome) };
    assert_eq!(at, "Holding");
    assert_eq!(
        why,
        "1 transactions were still open after 1500 ms: \
         pid 4711 of user app from 10.1.2.3:5000, open for 12.3 s"
    );
    assert!(remedy.is_some_and(|remedy| remedy.contains("max_hold")));
    // Nothing was done to the source, so nothing is undone there.
    assert_eq!(world.facts.lock().calls, ["hold", "quiet", "release"]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_does_not_apply_the_marker_undoes_the_cutover() {
    let (world, journal) = fresh(&[]).await;
    world.facts.lock().follower_idle = true;
    let course = run(world.conductor(&journal), Kind::Cutover).await.expect("it ends");
    let Outcome::Undone { at, why, .. } = course.outcome else { panic!("{:?}", course.outcome) };
    assert_eq!(at, "CatchingUp");
    assert!(why.contains("did not apply the marker"), "{why}");
    assert_eq!(course.hold, Duration::from_millis(1900));
    assert_settled(&world, "at the end");
}

#[tokio::test(start_paused = true)]
async fn a_fence_that_cannot_be_lifted_opens_the_gate_after_the_grace_and_is_tried_until_it_is_gone() {
    let (world, journal) = fresh(&[(7, Mishap::FailAfter)]).await;
    world.facts.lock().failing = vec!["lift_fence"; 20];
    let course = run(world.conductor(&journal), Kind::Cutover).await.expect("it ends");
    assert_settled(&world, "at the end");
    assert!(course.hold <= LIFT_GRACE + Duration::from_secs(1), "held {:?}", course.hold);
    let calls = world.facts.lock().calls.clone();
    let lifts = calls.iter().filter(|call| **call == "lift_fence").count();
    assert!(lifts > 8, "{calls:?}");
}

/// The source as a copy of this journal has left it that was taken up elsewhere meanwhile.
async fn overtaken(mishaps: &[(usize, Mishap)]) -> (World, crate::journal::Journal) {
    let (world, journal) = fresh(mishaps).await;
    let mut facts = world.facts.lock();
    facts.sealed = true;
    facts.marks = vec![Mark {
        migration: "m".to_owned(),
        route: "shop".to_owned(),
        source: "blue".to_owned(),
        target: "green".to_owned(),
        epoch: 1000,
        journal: journal.identity().expect("it has one"),
        sealed: String::new(),
        stage: Stage::Switched,
    }];
    drop(facts);
    (world, journal)
}

#[tokio::test(start_paused = true)]
async fn whoever_meets_the_mark_of_a_later_cutover_undoes_nothing_on_that_cluster_and_stops() {
    for mishaps in [&[][..], &[(3, Mishap::FailAfter)]] {
        let (world, journal) = overtaken(mishaps).await;
        let conductor = world.conductor(&journal);
        let follow = conductor.follow.clone();
        let course = run(conductor, Kind::Cutover).await.expect("it ends");
        assert!(matches!(course.outcome, Outcome::Undone { .. }), "{:?}", course.outcome);
        let superseded = course.superseded.expect("it says why it stopped").to_string();
        assert!(superseded.contains("epoch 1000"), "{superseded}");
        {
            let facts = world.facts.lock();
            assert!(facts.sealed && facts.marks.len() == 1, "the other's refusal was lifted: {:?}", facts.calls);
            assert!(!facts.gate_closed && facts.route == "blue", "{:?}", facts.calls);
        }
        assert!(follow.begin().await.is_err(), "the follower may begin again");
    }
}

/// Makes every journal write of a state fail until the guard's `mend`.
fn break_writes_of(world: &World, states: &str) -> rusqlite::Connection {
    world.facts.lock().disk_full = true;
    let raw = rusqlite::Connection::open(world.folder.0.join("journal.sqlite")).expect("opens");
    raw.execute_batch(&format!(
        "CREATE TRIGGER broken BEFORE INSERT ON steps WHEN NEW.state IN ({states})
         BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    ))
    .expect("the trigger is there");
    raw
}

#[tokio::test(start_paused = true)]
async fn a_state_that_cannot_be_journalled_undoes_the_cutover_without_its_effect() {
    for (state, never) in [
        ("Fencing", "raise_fence"),
        ("CatchingUp", "advance_counters"),
        ("Checking", "advance_counters"),
        ("Switching", "switch"),
    ] {
        let (world, journal) = fresh(&[]).await;
        let _raw = break_writes_of(&world, &format!("'{state}'"));
        let course = run(world.conductor(&journal), Kind::Cutover).await.expect("it ends");
        assert!(matches!(course.outcome, Outcome::Undone { .. }), "{state}: {:?}", course.outcome);
        let calls = world.facts.lock().calls.clone();
        assert!(!calls.contains(&never), "{state}: {calls:?}");
        assert_settled(&world, &format!("without {state} in the journal"));
        assert!(journal.route_clusters().expect("read").is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_may_be_on_the_disk_is_not_undone_before_the_undo_is_durable() {
    let (world, journal) = fresh(&[]).await;
    let raw = break_writes_of(&world, "'Switching', 'Undoing'");
    journal.blind();
    let conductor = world.conductor(&journal);
    let shown = std::sync::Arc::clone(&conductor.shown);
    let running = tokio::spawn(run(conductor, Kind::Cutover));
    tokio::time::sleep(Duration::from_mins(1)).await;
    {
        let facts = world.facts.lock();
        assert!(facts.gate_closed && facts.sealed, "{:?}", facts.calls);
        assert_eq!(facts.calls.last(), Some(&"seal_fence"));
    }
    let (trouble, remedy) = shown.trouble().expect("the operator is told why");
    assert!(trouble.contains("the disk is full"), "{trouble}");
    assert!(remedy.is_some_and(|remedy| remedy.contains("free space")));
    assert!(*shown.unrecorded.borrow(), "the statement waits for ever");
    raw.execute_batch("DROP TRIGGER broken").expect("mended");
    let course = running.await.expect("no panic").expect("it ends");
    assert!(matches!(course.outcome, Outcome::Undone { .. }));
    assert_settled(&world, "when the disk has room again");
    assert_eq!(shown.trouble(), None);
}

/// Not in paused time: the disk is a thread that is waited for.
#[tokio::test]
async fn a_disk_that_does_not_answer_the_decision_is_told_within_the_hold_and_a_second() {
    let (world, journal) = fresh(&[]).await;
    let conductor = world.conductor(&journal);
    let shown = std::sync::Arc::clone(&conductor.shown);
    let stalled = journal.stall();
    let max_hold = Duration::from_millis(300);
    let running = tokio::spawn(async move { conductor.run(Kind::Cutover, max_hold).await });
    let begun = Instant::now();
    let reported = loop {
        if let Some(reported) = shown.trouble() {
            break reported;
        }
        let waited = begun.elapsed();
        assert!(waited < max_hold + Duration::from_secs(1), "nothing is told");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(reported.0.contains("the decision to switch"), "{reported:?}");
    assert!(reported.1.is_some_and(|remedy| remedy.contains("kill Headgate")));
    assert!(world.facts.lock().gate_closed, "it may be on the disk");
    drop(stalled);
    let course = running.await.expect("no panic").expect("it ends");
    assert_eq!(course.outcome, Outcome::Switched);
    assert_eq!(shown.trouble(), None);
}

#[tokio::test(start_paused = true)]
async fn from_any_state_on_the_journals_disk_may_stay_full_and_clients_are_served_within_the_hold_and_a_second() {
    let states = ["Fencing", "CatchingUp", "Checking", "Switching", "Undoing", "Following"];
    for (kind, from) in KINDS.iter().flat_map(|kind| (0..states.len()).map(move |from| (*kind, from))) {
        let (world, journal) = fresh_for(kind, &[]).await;
        let broken = states[from..].join("', '");
        let raw = break_writes_of(&world, &format!("'{broken}'"));
        let begun = Instant::now();
        let course = run(world.conductor(&journal), kind).await.expect("it ends");
        let note = format!("without room from {} on, in a {kind}", states[from]);
        assert!(
            course.hold <= Duration::from_secs(3) && begun.elapsed() <= Duration::from_secs(6),
            "{note}: held {:?}, took {:?}",
            course.hold,
            begun.elapsed()
        );
        let switched = kind != Kind::Rehearsal && from > 3;
        {
            let facts = world.facts.lock();
            assert!(!facts.gate_closed && !facts.barrier, "{note}");
            let sides = (facts.sealed, facts.back_sealed, facts.route.as_str());
            let expected = match (kind, switched) {
                (Kind::Rollback, true) => (false, true, "blue"),
                (Kind::Cutover, true) | (Kind::Rollback, false) => (true, false, "green"),
                (Kind::Cutover | Kind::Rehearsal, _) => (false, false, "blue"),
            };
            assert_eq!(sides, expected, "{note}: {:?}", facts.calls);
        }
        // A restart finds the same, with room and without.
        drop(journal);
        assert_eq!(restart(&world).await, Some(()), "{note}");
        assert!(!world.facts.lock().gate_closed, "{note}, after a restart");
        raw.execute_batch("DROP TRIGGER broken").expect("mended");
        drop(raw);
        assert_eq!(restart(&world).await, Some(()), "{note}");
        assert_settled(&world, &note);
        assert_eq!(world.journalled() == Some(Cutover::Switched), switched, "{note}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_cannot_write_undoes_what_was_under_way_and_opens_the_gate() {
    // hold, quiet, raise_fence, advance_counters, stream_end, confirm_fence, open_snapshots, seal_fence: and then the process is gone.
    let (world, journal) = fresh(&[(7, Mishap::DieAfter)]).await;
    let conductor = world.conductor(&journal);
    drop(journal);
    assert!(run(conductor, Kind::Cutover).await.is_none());
    let _raw = break_writes_of(&world, "'Undoing', 'Following'");
    assert!(world.facts.lock().sealed);
    let begun = Instant::now();
    assert_eq!(restart(&world).await, Some(()));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "took {took:?}");
    let facts = world.facts.lock();
    assert!(!facts.gate_closed && !facts.sealed, "{:?}", facts.calls);
}

#[tokio::test(start_paused = true)]
async fn an_undo_whose_end_was_not_recorded_is_recorded_before_the_next_cutover() {
    let (world, journal) = fresh(&[]).await;
    let raw = break_writes_of(&world, "'Checking', 'Undoing', 'Following'");
    let course = run(world.conductor(&journal), Kind::Cutover).await.expect("it ends");
    assert!(matches!(course.outcome, Outcome::Undone { .. }));
    assert!(matches!(world.journalled(), Some(Cutover::CatchingUp { .. })));
    raw.execute_batch("DROP TRIGGER broken").expect("mended");
    let course = run(world.conductor(&journal), Kind::Cutover).await.expect("it ends");
    assert_eq!(course.outcome, Outcome::Switched);
    let steps: String = raw
        .query_row(
            "SELECT group_concat(state, ' ') FROM steps WHERE state IN ('Holding', 'Following', 'Switched')",
            [],
            |row| row.get(0),
        )
        .expect("read");
    assert_eq!(steps, "Holding Following Holding Switched");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_answer_keeps_the_gate_closed_until_its_fence_is_known_to_be_down() {
    // The sealing hangs when it has done its work, as do the first tries to lift what it left.
    let (world, journal) = fresh(&[(5, Mishap::HangAfter), (7, Mishap::Hang), (8, Mishap::Hang)]).await;
    let running = tokio::spawn(run(world.conductor(&journal), Kind::Cutover));
    let begun = Instant::now();
    while world.facts.lock().sealed || begun.elapsed() < Duration::from_secs(2) {
        {
            let facts = world.facts.lock();
            assert!(!facts.sealed || facts.gate_closed, "statements ran into the fence after {:?}", begun.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let course = running.await.expect("no panic").expect("it ends");
    assert!(matches!(course.outcome, Outcome::Undone { .. }));
    assert!(course.hold < Duration::from_secs(10), "{:?}", course.hold);
    assert_settled(&world, "when the source answers again");
}

#[tokio::test(start_paused = true)]
async fn the_steps_of_the_report_add_up_to_the_hold() {
    for (kind, mishaps) in [
        (Kind::Cutover, vec![]),
        (Kind::Rehearsal, vec![]),
        (Kind::Cutover, vec![(3, Mishap::Hang)]),
        (Kind::Cutover, vec![(5, Mishap::Hang), (7, Mishap::Hang)]),
    ] {
        let (world, journal) = fresh(&mishaps).await;
        let course = run(world.conductor(&journal), kind).await.expect("it ends");
        let steps = &course.steps;
        let sum = steps.gate + steps.fence + steps.catch_up + steps.check + steps.seal + steps.switch;
        assert_eq!(sum + steps.undo, course.hold, "{kind} with {mishaps:?}: {steps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_follows_the_switch_may_fail_or_hang_and_the_switch_stands() {
    for mishap in [Mishap::Fail, Mishap::Hang] {
        let (world, journal) = fresh(&[(10, mishap)]).await;
        let course = run(world.conductor(&journal), Kind::Cutover).await.expect("it ends");
        assert_eq!(course.outcome, Outcome::Switched, "{mishap:?}");
        assert!(!world.facts.lock().completed);
        assert!(course.hold < Duration::from_secs(1), "{mishap:?}");
        assert_settled(&world, "without what follows the switch");

        let settled = world.conductor(&journal).settle().await.expect("read");
        assert!(settled.is_none(), "the switch is not settled twice");
        assert!(world.facts.lock().completed, "it was not tried again");
    }
}

/// What is left after a check: two tables, of each one row that changed since.
fn left_by_check() -> Residue {
    let residue = Residue::default();
    let began = residue.check_begins(10);
    residue.check_passed(began);
    let mut marking = residue.marking().expect("a check has begun");
    for table in ["public.a", "public.b"] {
        marking.key(table, 1, |_, written| {
            written.push(b'1');
            true
        });
    }
    drop(marking);
    residue
}

/// A run that compares before the decision what changed since the check, for at most 300 ms.
async fn proved_before(kind: Kind, residue: Residue, mishaps: &[(usize, Mishap)]) -> (World, CutoverRun) {
    let (world, journal) = fresh_for(kind, mishaps).await;
    let mut conductor = world.conductor(&journal);
    conductor.proof_before = Some(ProofBefore::new((), residue, Duration::from_millis(300)));
    let course = run(conductor, kind).await.expect("it ends");
    assert_settled(&world, "at the end");
    (world, course)
}

#[tokio::test(start_paused = true)]
async fn what_changed_since_the_check_is_compared_after_the_look_and_before_the_refusal_is_durable() {
    for kind in KINDS {
        let (world, course) = proved_before(kind, left_by_check(), &[]).await;
        assert!(!matches!(course.outcome, Outcome::Undone { .. }), "{:?}", course.outcome);
        assert_eq!(course.residual.map(|residual| residual.keys), Some(2));
        let calls = world.facts.lock().calls.clone();
        let at = calls.iter().position(|call| *call == "open_snapshots").expect("it is made");
        assert_eq!(calls[at + 1..at + 3], ["differing_rows", "differing_rows"], "{calls:?}");
        assert!(["seal_fence", "drop_fence"].contains(&calls[at + 3]), "{calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_differs_does_not_fit_or_is_not_known_before_the_switch_undoes_it() {
    const FIRST_COMPARED: usize = 7;
    let overflowed = left_by_check();
    overflowed.marking().expect("on").unknown("public.a", "something happened");
    for (residue, mishaps, wanted) in [
        (left_by_check(), vec![(FIRST_COMPARED, Mishap::Fail)], "differing_rows failed"),
        (
            left_by_check(),
            vec![(FIRST_COMPARED + 1, Mishap::Hang)],
            "2 keys changed since the check and were left to be proved before the switch; 1 of them could be compared \
             within the check_budget of 300 ms",
        ),
        (overflowed, vec![], "since the last check, something happened in public.a"),
    ] {
        let (world, course) = proved_before(Kind::Cutover, residue, &mishaps).await;
        let Outcome::Undone { at, why, remedy } = course.outcome else { panic!("{:?}", course.outcome) };
        assert!(at == "Checking" && why.contains(wanted) && course.residual.is_none(), "{why}");
        assert!(remedy.is_some() || mishaps.first().is_some_and(|(_, mishap)| *mishap == Mishap::Fail));
        assert!(!world.facts.lock().calls.contains(&"seal_fence"));
        assert!(course.hold < Duration::from_millis(400), "{:?}", course.hold);
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_differs_before_the_switch_is_named_and_undoes_it() {
    let (world, journal) = fresh(&[]).await;
    world.facts.lock().differing_rows = vec!["(1)".to_owned()];
    let mut conductor = world.conductor(&journal);
    conductor.proof_before = Some(ProofBefore::new((), left_by_check(), Duration::from_millis(300)));
    let course = run(conductor, Kind::Cutover).await.expect("it ends");
    let Outcome::Undone { at, why, .. } = course.outcome else { panic!("{:?}", course.outcome) };
    assert_eq!(at, "Checking");
    assert_eq!(why, "rows that changed since the check differ on both sides: public.a: (1)");
    assert_settled(&world, "at the end");
}
