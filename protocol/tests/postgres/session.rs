//! The session tracker, trap by trap. A script reads `>` client frames, `<` server frames; `Z` is an idle ready.

use protocol::postgres::reply::ReadyStatus;
use protocol::postgres::session::{Begins, Session};

/// Plays `script` and returns the tracker: words that begin with `>` or `<`, one letter per frame; after `<`, `Z`,
/// `t` and `e` are ready frames of the three statuses.
fn play(script: &str) -> Session {
    let mut session = Session::default();
    for word in script.split_whitespace() {
        let (side, frames) = word.split_at(1);
        for tag in frames.bytes() {
            match (side, tag) {
                (">", tag) => session.client(tag),
                ("<", b'Z') => session.ready(ReadyStatus::Idle),
                ("<", b't') => session.ready(ReadyStatus::InTransaction),
                ("<", b'e') => session.ready(ReadyStatus::Failed),
                (_, tag) => session.server(tag),
            }
        }
    }
    session
}

fn check(script: &str, at_boundary: bool) {
    let session = play(script);
    assert_eq!(session.at_boundary(), at_boundary, "{script}: {session:?}");
}

#[test]
fn a_session_is_at_a_boundary_between_transactions_only() {
    check("", true);
    check(">Q", false);
    check(">Q <TDC", false);
    check(">Q <TDCZ", true);
    check(">Q <Ct", false);
    check(">Q <Ct >Q <Ee", false);
    check(">Q <Ct >Q <Ee >Q <CZ", true);
    check(">F <VZ", true);
}

#[test]
fn a_batch_is_open_until_its_sync_is_answered() {
    check(">P", false);
    check(">PBE", false);
    check(">PBEH <12C", false);
    check(">PBES <12C", false);
    check(">PBES <12CZ", true);
    check(">PBES <12CZ >B", false);
}

#[test]
fn a_flush_alone_begins_nothing() {
    check(">H", true);
    assert!(!play(">H").in_batch());
}

#[test]
fn pipelined_syncs_are_each_answered() {
    check(">PBES >BES >S <12CZ", false);
    check(">PBES >BES >S <12CZ <2CZ", false);
    check(">PBES >BES >S <12CZ <2CZ <Z", true);
    assert_eq!(play(">QQS").expecting(), 3);
    // The error of one batch is no error of the next.
    check(">PBES >BES <EZ <2CZ", true);
}

#[test]
fn a_query_in_place_of_sync_is_answered_once() {
    check(">PBE >Q <12CTDC", false);
    check(">PBE >Q <12CTDCZ", true);
}

#[test]
fn a_query_behind_a_failed_batch_may_be_skipped_and_is_never_forgotten() {
    // The batch failed: the Query is skipped, and only the Sync is answered.
    check(">PBE >Q >S <E", false);
    check(">PBE >Q >S <EZ", false);
    assert!(play(">PBE >Q >S <EZ").in_doubt());
    check(">PBE >Q >S <EZ >Q <CZ", true);
    // The Query itself failed.
    check(">PBE >Q <12CEZ", true);
}

#[test]
fn a_copy_in_a_query_ends_with_its_ready() {
    check(">Q <G", false);
    assert!(play(">Q <G").copying());
    check(">Q <G >dddc", false);
    check(">Q <G >dddc <CZ", true);
    check(">Q <G >ddf <EZ", true);
    check(">Q <G >d <EZ", true);
    check(">Q <G >d <EZ >dc", true);
    // Two in one Query.
    check(">Q <G >dc <C <G", false);
    check(">Q <G >dc <C <G >dc <CZ", true);
    check(">Qdcdc <GC <GCZ", true);
}

#[test]
fn a_sync_that_was_sent_before_the_copy_began_is_ignored() {
    check(">BES <2G", false);
    check(">BES <2G >ddc", false);
    check(">BES <2G >ddcS <C", false);
    check(">BES <2G >ddcS <CZ", true);
    // All of it before the server said anything.
    check(">BESddcS <2GCZ", true);
    // A batch behind it.
    check(">BESddcS >BES <2GCZ", false);
    check(">BESddcS >BES <2GCZ <2CZ", true);
}

#[test]
fn a_sync_during_the_copy_is_ignored() {
    check(">BES <2G >dSdSHdcS <CZ", true);
    check(">Q <G >dSdSc <CZ", true);
}

#[test]
fn a_copy_whose_syncs_were_all_ignored_still_needs_one() {
    check(">BES <2G >dc <C", false);
    assert!(play(">BES <2G >dc <C").in_batch());
    check(">BES <2G >dc <C >S <Z", true);
}

#[test]
fn a_copy_behind_a_flush_is_tracked_without_a_sync() {
    check(">BEH <2G >ddc <C", false);
    check(">BEH <2G >ddcS <CZ", true);
    check(">BEddcS <2GCZ", true);
}

#[test]
fn a_failed_copy_leaves_its_early_sync_in_doubt_until_something_proves_it_settled() {
    // The server failed before it read the Sync, as a trigger makes it: that Sync is answered.
    check(">BES <2GE", false);
    check(">BES <2GEZ", true);
    // It failed on the data, behind the Sync: only the later one is answered, and nobody can tell yet.
    check(">BES <2G >d <E >fS", false);
    check(">BES <2G >d <E >fS <Z", false);
    check(">BES <2G >d <E >fS <Z >Q <C", false);
    check(">BES <2G >d <E >fS <Z >Q <CZ", true);
    check(">BES <2G >d <E >fS <Z >PBES <12CZ", true);
    // Both were answered, the second late.
    check(">BES <2GE >fS <Z >Q <Z", false);
    check(">BES <2GE >fS <Z >Q <ZC", false);
    check(">BES <2GE >fS <Z >Q <ZCZ", true);
    // What comes at any time proves nothing.
    check(">BES <2G >d <E >fS <Z >Q <NAS", false);
    assert_eq!(play(">BES <2G >d <E >fS <Z >Q <NAS").expecting(), 2);
}

#[test]
fn copying_out_is_no_boundary() {
    check(">Q <Hdd", false);
    assert!(play(">Q <Hdd").copying());
    assert!(!play(">Q <Hddc").copying());
    check(">Q <HddcCZ", true);
    check(">Q <HddEZ", true);
}

#[test]
fn replication_is_no_boundary_until_its_query_is_answered() {
    check(">Q <Wddd >ddd", false);
    check(">Q <Wddd >c <c", false);
    check(">Q <Wddd >c <cCCZ", true);
}

#[test]
fn stray_copy_frames_change_nothing() {
    check(">dcf", true);
    check(">dcf >Q <CZ", true);
    check(">Q >c <CZ", true);
    check(">Q >c <EZ >BES <2G >dcS <CZ", true);
}

#[test]
fn a_ready_that_nobody_asked_for_does_no_harm() {
    check("<Z", true);
    check("<ZZZ >Q", false);
    check("<E >Q", false);
    check("<G", false);
    check("<G <Z", true);
}

#[test]
fn a_client_that_never_waits_is_stopped() {
    let mut session = Session::with_limit(3);
    for _ in 0..3 {
        assert!(!session.is_full());
        session.client(b'S');
    }
    assert!(session.is_full());
    session.ready(ReadyStatus::Idle);
    assert!(!session.is_full());
}

#[test]
fn what_needs_the_gate_is_told_by_the_tag() {
    for tag in *b"QPBEDCSF" {
        assert_eq!(Session::begins(tag), Begins::Batch);
    }
    for tag in *b"Hdcf" {
        assert_eq!(Session::begins(tag), Begins::Nothing);
    }
    assert_eq!(Session::begins(b'X'), Begins::Terminates);
}

#[test]
fn a_sync_ignored_in_a_querys_failed_copy_is_settled_by_the_next_query() {
    check(">Q <G >dSdc <EZ", false);
    check(">Q <G >dSdc <EZ >Q <TDCZ", true);
    check(">Q <NG >dSdc <EZ >Q <TDCZ", true);
}
