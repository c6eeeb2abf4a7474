//! The wire of a session: ids, boundaries, and every split of the bytes.

use std::cell::Cell;

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;
use protocol::mysql::frame;
use protocol::mysql::reply::{Error, Okay, status};

use super::*;
use crate::mysql::sql_text::KillScope;

/// A gate that obeys the test.
#[derive(Default)]
struct Fake {
    closed: Cell<bool>,
    inside: Cell<bool>,
}

impl GateAccess for Fake {
    fn enter(&self) -> bool {
        self.inside.set(!self.closed.get());
        self.inside.get()
    }

    fn is_open(&self) -> bool {
        !self.closed.get()
    }

    fn is_inside(&self) -> bool {
        self.inside.get()
    }

    fn leave(&self) {
        self.inside.set(false);
    }

    fn is_closing(&self) -> bool {
        false
    }
}

fn packet(sequence: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::put(&mut out, &mut { sequence }, body);
    out.to_vec()
}

fn okay(status: u16, info: &[u8], changes: &[u8], tracked: bool) -> Vec<u8> {
    let mut out = BytesMut::new();
    let okay = Okay { status: status::AUTOCOMMIT | status, info, changes, ..Okay::default() };
    okay.encode(&mut out, 0, tracked);
    packet(1, &out)
}

fn error() -> Vec<u8> {
    let mut out = BytesMut::new();
    Error { code: 1062, state: b"23000", message: b"Duplicate entry" }.encode(&mut out);
    packet(1, &out)
}

fn query(text: &str) -> Vec<u8> {
    packet(0, &[&[command::QUERY], text.as_bytes()].concat())
}

fn wire() -> MysqlWire {
    MysqlWire::new(1 << 30, Capabilities::default(), Capabilities::SESSION_TRACK, status::AUTOCOMMIT)
}

fn clear(wire: &mut MysqlWire, gate: &Fake, bytes: &[u8]) -> (usize, NextStep) {
    let seen = wire.client(&mut bytes.to_vec(), gate).expect("whole packets");
    (seen.clear, seen.then)
}

fn hear(wire: &mut MysqlWire, gate: &Fake, bytes: &[u8]) {
    wire.server(&mut bytes.to_vec(), gate).expect("whole packets");
}

#[test]
fn a_statement_at_a_closed_gate_is_not_cleared_and_a_ping_is() {
    let (mut wire, gate) = (wire(), Fake::default());
    gate.closed.set(true);
    let select = query("select 1");
    assert_eq!(clear(&mut wire, &gate, &select), (0, NextStep::Gate));
    assert_eq!(clear(&mut wire, &gate, &packet(0, &[command::PING])), (5, NextStep::More));
    hear(&mut wire, &gate, &okay(0, b"", b"", true));
    gate.closed.set(false);
    assert_eq!(clear(&mut wire, &gate, &select), (select.len(), NextStep::More));
    assert!(gate.inside.get());
    hear(&mut wire, &gate, &okay(0, b"", b"", true));
    assert!(!gate.inside.get(), "still inside behind the statement");
}

#[test]
fn a_transaction_and_locked_tables_keep_a_session_inside() {
    let (mut wire, gate) = (wire(), Fake::default());
    for (text, status, inside) in [
        ("begin", status::IN_TRANSACTION, true),
        ("commit", 0, false),
        ("lock tables t write", 0, true),
        ("update t set a = 1", 0, true),
        ("unlock tables", 0, false),
        ("set transaction isolation level serializable", 0, false),
    ] {
        clear(&mut wire, &gate, &query(text));
        hear(&mut wire, &gate, &okay(status, b"", b"", true));
        assert_eq!(gate.inside.get(), inside, "{text}");
    }
    let set = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE";
    assert_eq!(wire.learned.pending_statement(), Some(set));
    clear(&mut wire, &gate, &query("select 1"));
    hear(&mut wire, &gate, &okay(0, b"", b"", true));
    assert!(wire.learned.is_pending_unknown(), "it may be used up or not");
    clear(&mut wire, &gate, &query("select a from t"));
    hear(&mut wire, &gate, &okay(0, b"", b"", true));
    assert!(!wire.learned.is_pending_unknown());
    clear(&mut wire, &gate, &query("lock tables nowhere write"));
    hear(&mut wire, &gate, &error());
    clear(&mut wire, &gate, &query("select 1"));
    hear(&mut wire, &gate, &okay(0, b"", b"", true));
    assert!(!gate.inside.get(), "inside for locks that were refused");
}

#[test]
fn an_error_leaves_a_doubt_that_a_ping_of_our_own_settles() {
    let (mut wire, gate) = (wire(), Fake::default());
    clear(&mut wire, &gate, &query("call p()"));
    hear(&mut wire, &gate, &error());
    assert!(wire.in_doubt() && !wire.at_boundary());
    gate.closed.set(true);
    assert_eq!(clear(&mut wire, &gate, &query("select 1")), (0, NextStep::Replies));
    wire.ask(command::PING);
    let pong = okay(0, b"", b"", true);
    let heard = wire.server(&mut pong.clone(), &gate).expect("a packet");
    assert_eq!((heard.clear, heard.swallow), (0, pong.len()));
    assert!(wire.at_boundary() && !gate.inside.get());
    assert_eq!(clear(&mut wire, &gate, &query("select 1")), (0, NextStep::Gate));
}

#[test]
fn a_transaction_behind_what_needs_no_gate_stands_at_it_all_the_same() {
    let begin = query("begin");
    let ping = packet(0, &[command::PING]);
    let kill = query("kill 17");
    for closed in [false, true] {
        // A ping that is not answered yet, and a KILL that failed.
        for first in [&ping, &kill] {
            let (mut wire, gate) = (wire(), Fake::default());
            clear(&mut wire, &gate, first);
            if first == &kill {
                hear(&mut wire, &gate, &error());
            }
            gate.closed.set(closed);
            let (cleared, then) = clear(&mut wire, &gate, &begin);
            assert_eq!((cleared > 0, then == NextStep::More), (!closed, !closed), "{first:?}");
            assert_eq!(gate.inside.get(), !closed, "{first:?}");
        }
    }
}

#[test]
fn a_reply_in_the_middle_of_a_packet_without_one_leaves_nobody_inside() {
    let (mut wire, gate) = (wire(), Fake::default());
    clear(&mut wire, &gate, &query("select 1"));
    let piece = [vec![command::STMT_SEND_LONG_DATA], vec![7; 20 << 10]].concat();
    let piece = packet(0, &piece);
    let (now, later) = piece.split_at(18 << 10);
    assert_eq!(clear(&mut wire, &gate, now).0, now.len());
    hear(&mut wire, &gate, &okay(0, b"", b"", true));
    assert!(gate.inside.get(), "in the middle of a packet");
    clear(&mut wire, &gate, later);
    assert!(wire.at_boundary() && !gate.inside.get());
}

#[test]
fn a_text_of_several_that_fails_may_have_locked_tables_all_the_same() {
    let (mut wire, gate) = (wire(), Fake::default());
    clear(&mut wire, &gate, &query("lock tables t read; select nothing"));
    hear(&mut wire, &gate, &error());
    clear(&mut wire, &gate, &query("select 1"));
    hear(&mut wire, &gate, &okay(0, b"", b"", true));
    assert!(gate.inside.get() && !wire.at_boundary());
    clear(&mut wire, &gate, &query("unlock tables"));
    hear(&mut wire, &gate, &okay(0, b"", b"", true));
    assert!(!gate.inside.get());
}

/// The answer to a PREPARE of a statement with one parameter and no columns.
fn prepared(number: u8) -> Vec<u8> {
    let body = [0, number, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    let definition = packet(2, b"\x03def\0\0\0\x01?\0\x0c?\0\0\0\0\0\xfd\x80\0\0\0\0");
    let end = packet(3, &[0xFE, 0, 0, 2, 0]);
    [packet(1, &body), definition, end].concat()
}

#[test]
fn types_that_were_sent_ahead_of_the_answer_to_a_prepare_are_known_after_a_switch() {
    let (mut wire, gate) = (wire(), Fake::default());
    let last = command::LAST_PREPARED.to_le_bytes();
    let execute = |id: &[u8], types: &[u8]| {
        let body = [&[command::STMT_EXECUTE][..], id, &[0, 1, 0, 0, 0, 0], types, &[7, 0]];
        packet(0, &body.concat())
    };
    clear(&mut wire, &gate, &packet(0, b"\x16do ?"));
    clear(&mut wire, &gate, &execute(&last, &[1, 2, 0]));
    hear(&mut wire, &gate, &prepared(1));
    hear(&mut wire, &gate, &okay(0, b"", b"", true));
    assert!(wire.at_boundary());
    wire.move_to(Capabilities::SESSION_TRACK, &[(1, 5)], Vec::new());
    let again = execute(&[1, 0, 0, 0], &[0]);
    assert_eq!(clear(&mut wire, &gate, &again), (0, NextStep::Own));
    assert_eq!(wire.take_own(), Some(Own::Splice(1)));
}

#[test]
fn a_file_that_a_prepared_statement_asks_for_is_no_command() {
    let (mut wire, gate) = (wire(), Fake::default());
    let execute = packet(0, &[command::STMT_EXECUTE, 1, 0, 0, 0, 0, 1, 0, 0, 0]);
    clear(&mut wire, &gate, &execute);
    hear(&mut wire, &gate, &packet(1, b"\xfbfile"));
    let file = [packet(2, b"\x11 looks like a command"), packet(3, b"")].concat();
    assert_eq!(clear(&mut wire, &gate, &file), (file.len(), NextStep::More));
    hear(&mut wire, &gate, &okay(0, b"", b"", true));
    assert!(wire.at_boundary() && !gate.inside.get());
}

#[test]
fn what_a_prepared_statement_does_counts_when_it_is_executed() {
    let (mut wire, gate) = (wire(), Fake::default());
    clear(&mut wire, &gate, &packet(0, b"\x16lock tables t read"));
    hear(&mut wire, &gate, &error());
    clear(&mut wire, &gate, &query("select 1"));
    hear(&mut wire, &gate, &okay(0, b"", b"", true));
    assert!(!gate.inside.get(), "inside for locks that nobody has");
    clear(&mut wire, &gate, &packet(0, b"\x16set transaction read only"));
    hear(&mut wire, &gate, &packet(1, &[0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert!(!wire.learned.is_pending_unknown(), "nothing is set yet");
    let execute = packet(0, &[command::STMT_EXECUTE, 3, 0, 0, 0, 0, 1, 0, 0, 0]);
    clear(&mut wire, &gate, &execute);
    hear(&mut wire, &gate, &okay(0, b"", b"", true));
    assert!(wire.learned.is_pending_unknown() && wire.at_boundary());
}

#[test]
fn only_a_kill_of_a_number_of_our_own_is_taken_out_and_none_is_held() {
    let (mut wire, gate) = (wire(), Fake::default());
    gate.closed.set(true);
    // Behind all that a server passes over.
    for before in ["", "-- a\n", "# a\n", "\u{b}", "/* a */ "] {
        let kill = query(&format!("{before}KILL QUERY 2147483650"));
        assert_eq!(clear(&mut wire, &gate, &kill), (0, NextStep::Own), "{before:?}");
        assert_eq!(wire.take_own(), Some(Own::Kill(KillScope::Query, 2_147_483_650)));
    }
    let plain = query("kill 17");
    assert_eq!(clear(&mut wire, &gate, &plain), (plain.len(), NextStep::More));
}

#[test]
fn a_use_is_seen_behind_all_that_a_server_passes_over() {
    for before in ["", "-- a\n", "# a\n", "\u{b}", "/* a */ "] {
        let (mut wire, gate) = (wire(), Fake::default());
        assert_eq!(clear(&mut wire, &gate, &query(&format!("{before}USE shop"))), (0, NextStep::Own), "{before:?}");
        assert_eq!(wire.take_own(), Some(Own::Use), "{before:?}");
    }
}

#[test]
fn replication_and_what_nobody_knows_is_not_forwarded() {
    let (mut wire, gate) = (wire(), Fake::default());
    for (command, own) in [
        (command::BINLOG_DUMP, Own::Replication),
        (command::REGISTER_REPLICA, Own::Replication),
        (0x7F, Own::Unknown),
        (command::CHANGE_USER, Own::ChangeUser),
    ] {
        assert_eq!(clear(&mut wire, &gate, &packet(0, &[command, 1, 2])), (0, NextStep::Own));
        assert_eq!(wire.take_own(), Some(own));
    }
}

#[test]
fn a_client_that_executes_what_was_prepared_last_gets_no_older_statement() {
    let (mut wire, gate) = (wire(), Fake::default());
    let execute = [&[command::STMT_EXECUTE][..], &[0xFF; 4], &[0, 1, 0, 0, 0]].concat();
    assert_eq!(clear(&mut wire, &gate, &packet(0, &execute)), (0, NextStep::Own));
    assert_eq!(wire.take_own(), Some(Own::NoStatement));
}

/// A conversation: what one side says, and what must come out at the other.
struct Exchange {
    bytes: Vec<u8>,
    expected: Vec<u8>,
    by_client: bool,
}

fn conversation() -> Vec<Exchange> {
    let client = |bytes: Vec<u8>, expected: Vec<u8>| Exchange { bytes, expected, by_client: true };
    let server = |bytes: Vec<u8>, expected: Vec<u8>| Exchange { bytes, expected, by_client: false };
    let same = |bytes: Vec<u8>| (bytes.clone(), bytes);
    let mut all = Vec::new();
    let (bytes, expected) = same(query("update t set a = 1"));
    all.push(client(bytes, expected));
    all.push(server(
        okay(status::STATE_CHANGED, b"Rows matched: 1", b"\x01\x05\x04shop", true),
        okay(0, b"Rows matched: 1", b"", false),
    ));
    let (bytes, expected) = same(packet(0, b"\x16select ?"));
    all.push(client(bytes, expected));
    let definition = packet(2, b"\x03def\0\0\0\x01?\0\x0c\x3f\0\0\0\0\0\x08\0\0\0\0\0");
    let end = packet(3, &[0xFE, 0, 0, 2, 0]);
    let prepared = |id: u8| {
        let first = packet(1, &[0, id, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0]);
        [first, definition.clone(), end.clone(), definition.clone(), end.clone()].concat()
    };
    all.push(server(prepared(77), prepared(77)));
    let execute = |id: u8| {
        let mut body = vec![command::STMT_EXECUTE, id, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 8, 0];
        body.put_u64_le(5);
        packet(0, &body)
    };
    all.push(client(execute(77), execute(77)));
    let (bytes, expected) = same(
        [packet(1, &[1]), definition.clone(), end.clone(), packet(4, b"\0\0\x05\0\0\0\0\0\0\0"), end.clone()].concat(),
    );
    all.push(server(bytes, expected));
    let piece = |id: u8| packet(0, &[&[command::STMT_SEND_LONG_DATA, id, 0, 0, 0, 0, 0][..], b"piece"].concat());
    let close = |id: u8| packet(0, &[command::STMT_CLOSE, id, 0, 0, 0]);
    let ping = packet(0, &[command::PING]);
    all.push(client(
        [piece(77), close(77), close(9), ping.clone()].concat(),
        [piece(77), close(77), close(9), ping].concat(),
    ));
    all.push(server(okay(0, b"", b"", true), okay(0, b"", b"", false)));
    all
}

proptest! {
    #[test]
    fn the_same_goes_by_however_the_bytes_arrive(cuts in prop::collection::vec(1_usize..9, 1..200)) {
        let (mut wire, gate) = (wire(), Fake::default());
        let mut cuts = cuts.iter().cycle();
        for said in conversation() {
            let (mut unseen, mut out, mut at) = (Vec::new(), Vec::new(), 0);
            while at < said.bytes.len() {
                let next = (at + cuts.next().expect("a cycle")).min(said.bytes.len());
                unseen.extend_from_slice(&said.bytes[at..next]);
                at = next;
                loop {
                    let (clear, swallow) = if said.by_client {
                        let seen = wire.client(&mut unseen, &gate).expect("the protocol");
                        prop_assert_eq!(seen.then, NextStep::More);
                        (seen.clear, 0)
                    } else {
                        let heard = wire.server(&mut unseen, &gate).expect("the protocol");
                        (heard.clear, heard.swallow)
                    };
                    out.extend(unseen.drain(..clear));
                    unseen.drain(..swallow);
                    if swallow == 0 {
                        break;
                    }
                }
            }
            prop_assert_eq!(out, said.expected);
        }
        prop_assert!(wire.at_boundary() && !gate.inside.get());
    }
}
