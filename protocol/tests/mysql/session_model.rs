//! The session tracker against replies of every shape, as a server may make them up, in every order.

use bytes::BytesMut;
use proptest::prelude::*;
use protocol::mysql::command;
use protocol::mysql::frame::Header;
use protocol::mysql::lenenc;
use protocol::mysql::reply::{Error, Okay, capability, status};
use protocol::mysql::session::{Expected, HEAD_BYTES, Says, Sent, Session};

const SPLIT: usize = 0xFF_FFFF;

/// A packet of the server: its length, and its first bytes.
type Packet = (usize, Vec<u8>);

fn okay(first: u8, status: u16) -> Packet {
    let mut out = BytesMut::new();
    let okay = Okay { affected_rows: 300, last_insert_id: 70_000, status, ..Okay::default() };
    okay.encode(&mut out, first, false);
    (out.len(), out.to_vec())
}

fn error() -> Packet {
    let mut out = BytesMut::new();
    Error { code: 1062, state: b"23000", message: b"Duplicate entry" }.encode(&mut out);
    (out.len(), out.to_vec())
}

fn count(number: u64) -> Packet {
    let mut out = BytesMut::new();
    lenenc::put_count(&mut out, number);
    (out.len(), out.to_vec())
}

fn definition() -> Packet {
    (40, b"\x03def\x01a\x01b\x01c\x01d\x01e\x0c\x3f\0\x0b\0\0\0\x08\0\0\0\0\0".to_vec())
}

/// What a server says, as a list of choices.
#[derive(Clone, Copy, Debug)]
struct Choice {
    kind: u8,
    number: u8,
    in_transaction: bool,
    more: bool,
}

#[derive(Debug)]
struct Script {
    deprecate: bool,
    packets: Vec<Packet>,
}

impl Script {
    fn end(&mut self, status: u16) {
        self.packets.push(if self.deprecate {
            okay(0xFE, status)
        } else {
            let [low, high] = status.to_le_bytes();
            (5, vec![0xFE, 0, 0, low, high])
        });
    }

    fn definitions(&mut self, count: u8) {
        for _ in 0..count {
            self.packets.push(definition());
        }
    }

    fn rows(&mut self, count: u8) {
        for row in 0..count {
            self.packets.push(match row % 5 {
                // A first value that fills more than a packet begins like EOF does.
                0 => (SPLIT, vec![0xFE, 0, 0, 0, 1, 0, 0, 0, 0]),
                1 => (3, vec![0xFB, 0xFB, 0xFB]),
                2 => (1, vec![0]),
                3 => (260, vec![0xFC, 0, 1]),
                _ => (4, vec![3, 0xFF, 0xFE, 0xFF]),
            });
            if row % 5 == 0 {
                // It goes on with whatever bytes.
                self.packets.push((5, vec![0xFE, 0, 0, 1, 0]));
            }
        }
    }

    /// One result of a statement. True where its reply goes on.
    fn result(&mut self, choice: Choice, flags: u16) -> bool {
        match choice.kind % 3 {
            0 => self.packets.push(error()),
            1 => self.packets.push(okay(0, flags)),
            _ => {
                let columns = choice.number % 3 + 1;
                self.packets.push(count(u64::from(columns)));
                self.definitions(columns);
                if !self.deprecate {
                    self.end(status::AUTOCOMMIT);
                }
                self.rows(choice.number % 7);
                self.end(flags);
            }
        }
        !choice.kind.is_multiple_of(3)
    }
}

fn flags_of(choice: Choice, more: bool) -> u16 {
    let mut flags = status::AUTOCOMMIT;
    if choice.in_transaction {
        flags |= status::IN_TRANSACTION;
    }
    if more {
        flags |= status::MORE_RESULTS;
    }
    flags
}

/// The reply to `command`, and whether it ends in an error.
fn reply(script: &mut Script, command: u8, choices: &[Choice]) -> bool {
    let first = choices[0];
    let flags = flags_of(first, false);
    match command {
        command::STMT_PREPARE if first.kind.is_multiple_of(4) => {
            script.packets.push(error());
            true
        }
        command::STMT_PREPARE => {
            let (columns, parameters) = (first.number % 3, first.number / 3 % 3);
            script.packets.push((12, vec![0, 9, 0, 0, 0, columns, 0, parameters, 0, 0, 0, 0]));
            for count in [parameters, columns] {
                script.definitions(count);
                if count > 0 && !script.deprecate {
                    script.end(0);
                }
            }
            false
        }
        command::STMT_FETCH | command::FIELD_LIST => {
            if first.kind.is_multiple_of(5) {
                script.packets.push(error());
                return true;
            }
            if command == command::STMT_FETCH {
                script.rows(first.number % 7);
            } else {
                script.definitions(first.number % 4);
            }
            script.end(flags);
            false
        }
        command::STATISTICS => {
            script.packets.push((60, b"Uptime: 5".to_vec()));
            false
        }
        command::PING | command::INIT_DB | command::STMT_RESET if !first.kind.is_multiple_of(4) => {
            script.packets.push(okay(0, flags));
            false
        }
        command::PING | command::INIT_DB | command::STMT_RESET => {
            script.packets.push(error());
            true
        }
        command::SET_OPTION => {
            script.end(flags);
            false
        }
        _ => {
            for (at, &choice) in choices.iter().enumerate() {
                let more = choice.more && at + 1 < choices.len();
                if !script.result(choice, flags_of(choice, more)) {
                    return true;
                }
                if !more {
                    return false;
                }
            }
            false
        }
    }
}

/// The status that is known behind these packets, where they tell one.
fn is_in_transaction(command: u8, choices: &[Choice]) -> Option<bool> {
    match command {
        command::STMT_PREPARE | command::STATISTICS => None,
        command::QUERY | command::STMT_EXECUTE => {
            let last = choices.iter().position(|choice| !choice.more);
            let last = last.unwrap_or(choices.len() - 1);
            Some(choices[last].in_transaction)
        }
        _ => Some(choices[0].in_transaction),
    }
}

fn expected(command: u8, tag: u32) -> Expected {
    Expected { command, tag, cursor: false, own: false }
}

fn header(length: usize) -> Header {
    Header { length, sequence: 0 }
}

fn choice() -> impl Strategy<Value = Choice> {
    (any::<u8>(), any::<u8>(), any::<bool>(), any::<bool>()).prop_map(|(kind, number, in_transaction, more)| Choice {
        kind,
        number,
        in_transaction,
        more,
    })
}

const COMMANDS: &[u8] = &[
    command::QUERY,
    command::QUERY,
    command::STMT_EXECUTE,
    command::STMT_PREPARE,
    command::STMT_FETCH,
    command::FIELD_LIST,
    command::STATISTICS,
    command::PING,
    command::INIT_DB,
    command::STMT_RESET,
    command::SET_OPTION,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn every_reply_ends_with_its_last_packet_and_the_status_is_the_last_one_told(
        deprecate in any::<bool>(),
        together in 1_usize..4,
        commands in prop::collection::vec((0..COMMANDS.len(), prop::collection::vec(choice(), 1..4)), 1..12),
    ) {
        let capabilities = if deprecate { capability::DEPRECATE_EOF } else { 0 };
        let mut session = Session::new(capabilities, status::AUTOCOMMIT);
        let (mut open, mut doubt) = (false, false);
        for batch in commands.chunks(together) {
            for (tag, (at, _)) in (0..).zip(batch) {
                session.command(header(1), expected(COMMANDS[*at], tag));
            }
            for (tag, (at, choices)) in (0..).zip(batch) {
                let command = COMMANDS[*at];
                let mut script = Script { deprecate, packets: Vec::new() };
                let failed = reply(&mut script, command, choices);
                let last = script.packets.len() - 1;
                for (at, (length, bytes)) in script.packets.iter().enumerate() {
                    prop_assert!(!session.at_boundary());
                    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
                    let step = session.server(header(*length), head).expect("a whole head");
                    prop_assert_eq!(step.ended.is_some(), at == last, "{:?} {:?}", script, step);
                    if let Some(ended) = step.ended {
                        prop_assert_eq!(ended.tag, tag);
                        prop_assert_eq!(step.says == Says::Error, failed);
                    }
                }
                if failed {
                    doubt = true;
                } else if let Some(reported) = is_in_transaction(command, choices) {
                    (open, doubt) = (reported, false);
                }
            }
            prop_assert_eq!(session.in_doubt(), doubt);
            prop_assert!(session.is_answered());
            prop_assert_eq!(session.at_boundary(), !doubt && !open);
        }
    }

    #[test]
    fn no_packets_whatever_break_the_tracker(
        deprecate in any::<bool>(),
        events in prop::collection::vec((any::<bool>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..40), any::<bool>()), 0..60),
    ) {
        let capabilities = if deprecate { capability::DEPRECATE_EOF } else { 0 };
        let mut session = Session::new(capabilities, 0);
        for (client, byte, bytes, long) in events {
            let length = if long { SPLIT } else { bytes.len() };
            if !client {
                let head = &bytes[..bytes.len().min(HEAD_BYTES)];
                let _ = session.is_okay(header(length), head);
                if session.server(header(length), head).is_err() {
                    break;
                }
            } else if session.sent() == Sent::Command {
                session.command(header(length), expected(byte, 0));
            } else {
                session.more(header(length));
            }
        }
    }
}

#[test]
fn a_local_file_is_the_clients_until_its_empty_packet() {
    let mut session = Session::new(0, status::AUTOCOMMIT);
    session.command(header(30), expected(command::QUERY, 0));
    session.server(header(9), b"\xFBfile.csv").expect("a request");
    for length in [SPLIT, 10, 5] {
        assert_ne!(session.sent(), Sent::Command);
        session.more(header(length));
    }
    assert!(!session.is_answered());
    session.more(header(0));
    assert_eq!(session.sent(), Sent::Command);
    let (length, bytes) = okay(0, status::AUTOCOMMIT);
    assert!(!session.at_boundary());
    session.server(header(length), &bytes).expect("OK");
    assert!(session.at_boundary());
}

#[test]
fn a_cursor_has_definitions_and_no_rows() {
    for deprecate in [false, true] {
        let capabilities = if deprecate { capability::DEPRECATE_EOF } else { 0 };
        let mut session = Session::new(capabilities, 0);
        let cursor = Expected { cursor: true, ..expected(command::STMT_EXECUTE, 1) };
        session.command(header(10), cursor);
        session.server(header(1), &[1]).expect("a count");
        let (length, bytes) = definition();
        session.server(header(length), &bytes).expect("a definition");
        let mut script = Script { deprecate, packets: Vec::new() };
        script.end(status::CURSOR_EXISTS);
        let (length, bytes) = &script.packets[0];
        let step = session.server(header(*length), bytes).expect("an end");
        assert!(step.ended.is_some(), "{deprecate}");
    }
}

#[test]
fn changes_of_the_session_are_taken_out_of_an_ok_packet() {
    let full = Okay {
        affected_rows: 300,
        last_insert_id: 70_000,
        status: status::AUTOCOMMIT | status::STATE_CHANGED,
        warnings: 2,
        info: b"Rows matched: 1",
        changes: b"\x01\x05\x04shop",
    };
    let mut payload = BytesMut::new();
    full.encode(&mut payload, 0, true);
    assert_eq!(Okay::parse(&payload, true), Ok(full.clone()));
    let length = protocol::mysql::reply::strip_changes(&mut payload).expect("an OK");
    let reported = Okay::parse(&payload[..length], false).expect("an OK");
    let wanted = Okay { status: status::AUTOCOMMIT, changes: b"", ..full };
    assert_eq!(reported, wanted);
}
