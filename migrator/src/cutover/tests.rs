//! The whole machine against a table written by hand, and every path with a restart after every step.

use std::collections::BTreeSet;

use super::{Cutover, Event, Failure, Marker, UndoReason};

fn marker() -> Marker<u64> {
    Marker { position: 7, token: "t".to_owned() }
}

fn failure() -> Failure {
    Failure { at: "somewhere".to_owned(), what: "it broke".to_owned(), remedy: None }
}

fn states() -> Vec<Cutover<u64>> {
    vec![
        Cutover::Following,
        Cutover::Holding,
        Cutover::Fencing,
        Cutover::CatchingUp { marker: marker() },
        Cutover::Checking { marker: marker() },
        Cutover::Switching,
        Cutover::Switched,
        Cutover::Undoing { why: UndoReason::Rehearsed },
    ]
}

fn events() -> Vec<Event<u64>> {
    vec![
        Event::Requested,
        Event::Quiet,
        Event::Fenced(marker()),
        Event::Covered,
        Event::Equal,
        Event::Rehearsed,
        Event::Routed,
        Event::Failed(failure()),
        Event::Undone,
    ]
}

#[test]
fn every_pair_of_state_and_event_does_what_the_table_says() {
    // One column per event, in the order of `events`; a dash is a pair that must be refused.
    let table = "
        Following:  Holding - - - - - - - -
        Holding:    - Fencing - - - - - Undoing -
        Fencing:    - - CatchingUp - - - - Undoing -
        CatchingUp: - - - Checking - - - Undoing -
        Checking:   - - - - Switching Undoing - Undoing -
        Switching:  - - - - - - Switched - -
        Switched:   - - - - - - - - -
        Undoing:    - - - - - - - - Following
    ";
    let lines: Vec<&str> = table.trim().lines().map(str::trim).collect();
    assert_eq!(lines.len(), states().len());
    for (state, line) in states().into_iter().zip(lines) {
        let (name, cells) = line.split_once(':').expect("a line names its state");
        assert_eq!(name, state.name());
        let cells: Vec<&str> = cells.split_whitespace().collect();
        assert_eq!(cells.len(), events().len());
        for (event, cell) in events().into_iter().zip(cells) {
            let pair = format!("{} with {}", state.name(), event.name());
            match state.clone().next(event) {
                Ok(next) => assert_eq!(next.name(), cell, "{pair}"),
                Err(illegal) => {
                    assert_eq!(cell, "-", "{pair}");
                    assert!(illegal.to_string().contains(state.name()), "{illegal}");
                }
            }
        }
    }
}

/// Walks on from `state` in every legal way, `depth` steps far, and hands each path to `visit`.
fn walk(path: &mut Vec<Cutover<u64>>, depth: usize, visit: &mut impl FnMut(&[Cutover<u64>])) {
    visit(path);
    if depth == 0 {
        return;
    }
    let state = path.last().expect("a path has a beginning").clone();
    for event in events() {
        if let Ok(next) = state.clone().next(event) {
            path.push(next);
            walk(path, depth - 1, visit);
            path.pop();
        }
    }
}

#[test]
fn a_restart_after_any_step_of_any_path_ends_as_before_or_switched() {
    let mut paths = 0;
    walk(&mut vec![Cutover::Following], 12, &mut |path| {
        paths += 1;
        let text = serde_json::to_string(path.last().expect("not empty")).expect("a state is JSON");
        let journalled: Cutover<u64> = serde_json::from_str(&text).expect("and comes back");
        assert_eq!(Some(&journalled), path.last(), "the journal changed a state");
        let decided = path.iter().any(|state| matches!(state, Cutover::Switching));
        // What the conductor does in a fresh process: only the undo and the switch have an effect then.
        let settled = match journalled.resumed() {
            state @ Cutover::Undoing { .. } => state.next(Event::Undone),
            state @ Cutover::Switching => state.next(Event::Routed),
            state => Ok(state),
        };
        let expected = if decided { Cutover::Switched } else { Cutover::Following };
        assert_eq!(settled, Ok(expected), "after {path:?}");
    });
    assert!(paths > 50, "only {paths} paths were walked");
}

#[test]
fn no_path_reaches_the_switch_without_each_guard_before_it() {
    let mut switched = 0;
    walk(&mut vec![Cutover::Following], 12, &mut |path| {
        if !matches!(path.last(), Some(Cutover::Switched)) {
            return;
        }
        switched += 1;
        let names: Vec<&str> = path.iter().rev().take(7).rev().map(Cutover::name).collect();
        let order = ["Following", "Holding", "Fencing", "CatchingUp", "Checking", "Switching", "Switched"];
        assert_eq!(names, order);
    });
    assert!(switched > 1, "no path was walked through an undo and on to the switch");
}

#[test]
fn nothing_leaves_the_switch_backwards() {
    let mut after = BTreeSet::new();
    for state in [Cutover::Switching, Cutover::Switched] {
        for event in events() {
            if let Ok(next) = state.clone().next(event) {
                after.insert(next.name());
            }
        }
    }
    assert_eq!(after, BTreeSet::from(["Switched"]));
}

#[test]
fn a_restart_undoes_exactly_the_states_between_the_request_and_the_decision() {
    let resumed: Vec<&str> = states().into_iter().map(|state| state.resumed().name()).collect();
    let expected = ["Following", "Undoing", "Undoing", "Undoing", "Undoing", "Switching", "Switched", "Undoing"];
    assert_eq!(resumed, expected);
}
