//! The session over a real socket: the order of packets, several in one segment, and that no bytes break it.

use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;
use proxy::client::Client;
use proxy::console::AdminClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::console;
use crate::console::answer::{Answer, Column, Refusal, Value};
use crate::console::{Execute, columns, rows, version};
use crate::statement::Statement;

/// The statements that need neither plane.
struct Offline;

impl Execute for Offline {
    fn columns(&self, statement: &Statement) -> &'static [Column] {
        columns::of(statement)
    }

    async fn execute(&self, statement: Statement) -> Result<Answer, Refusal> {
        match statement {
            Statement::Help => Ok(Answer::rows(rows::help())),
            Statement::ShowVersion => Ok(Answer::rows(vec![vec![Value::from(version())]])),
            Statement::Start(name) => Ok(Answer::done(&name)),
            _ => Err(Refusal::new("55000", "not without the planes", "")),
        }
    }
}

const MULTI_STATEMENTS: u32 = 1 << 16;
const DEPRECATE_EOF: u32 = 1 << 24;

/// Sends bytes, closes, and returns all that comes back; fails where the session hangs.
fn talk(capabilities: u32, early: &[u8], bytes: &[u8]) -> Vec<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut client = TcpStream::connect(address).await.expect("it listens");
        let (server, _) = listener.accept().await.expect("the client is there");
        let admin = AdminClient {
            stream: Client::Plain(server),
            leftover: BytesMut::from(early),
            user: "admin".to_owned(),
            capabilities,
        };
        let served = tokio::spawn(async move { console::serve(&Offline, admin).await });
        let mut reply = Vec::new();
        let talking = async {
            // The session may have ended by itself.
            drop(client.write_all(bytes).await);
            drop(client.shutdown().await);
            drop(client.read_to_end(&mut reply).await);
        };
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, talking).await.expect("an end");
        drop(served.await.expect("no panic"));
        packets(&reply)
    })
}

fn packets(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let [a, b, c, _, rest @ ..] = bytes {
        let length = u32::from_le_bytes([*a, *b, *c, 0]) as usize;
        found.push(rest[..length].to_vec());
        bytes = &rest[length..];
    }
    found
}

fn packet(command: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 1).expect("short").to_le_bytes();
    [&length[..3], &[0, command], body].concat()
}

/// The first byte of each packet.
fn heads(packets: &[Vec<u8>]) -> Vec<u8> {
    packets.iter().map(|packet| packet[0]).collect()
}

#[test]
fn a_statement_answers_columns_rows_and_an_end() {
    let query = packet(3, b"show version");
    let plain = talk(0, b"", &query);
    assert_eq!(plain.len(), 5, "count, column, EOF, row, EOF");
    assert_eq!((plain[2][0], plain[4][0]), (0xFE, 0xFE));
    let short = talk(DEPRECATE_EOF, b"", &query);
    assert_eq!(short.len(), 4, "count, column, row, OK");
    assert!(short[2].ends_with(version().as_bytes()));
}

#[test]
fn commands_that_come_in_one_segment_are_answered_in_their_order() {
    let bytes = [
        packet(0x19, &[1, 0, 0, 0]),
        packet(3, b"start migration a"),
        packet(0x0E, b""),
        packet(3, b"select $$"),
        packet(3, b"start migration b"),
    ]
    .concat();
    assert_eq!(heads(&talk(0, b"", &bytes)), [0, 0, 0xFF, 0]);
    let (early, late) = bytes.split_at(17);
    assert_eq!(heads(&talk(0, early, late)), [0, 0, 0xFF, 0]);
}

#[test]
fn a_slip_in_the_last_of_several_statements_stops_all_of_them() {
    let good = packet(3, b"start migration a; start migration b");
    let bad = packet(3, b"start migration a; strat migration b");
    let reported = talk(MULTI_STATEMENTS, b"", &good);
    assert_eq!(heads(&reported), [0, 0]);
    assert_eq!((reported[0][3] & 8, reported[1][3] & 8), (8, 0), "more results follow the first");
    assert_eq!(heads(&talk(MULTI_STATEMENTS, b"", &bad)), [0xFF]);
    assert_eq!(heads(&talk(0, b"", &good)), [0xFF], "the client did not ask for several");
}

#[test]
fn a_prepared_statement_runs_with_its_parameter() {
    let bytes = [
        packet(0x16, b"start migration ?"),
        packet(0x17, &[&[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0xFD, 0, 1][..], b"m"].concat()),
        packet(0x17, &[9, 0, 0, 0, 0, 1, 0, 0, 0]),
    ];
    let reported = talk(0, b"", &bytes.concat());
    assert_eq!(reported.len(), 5, "prepared, parameter, EOF, OK, error");
    assert_eq!((reported[3][0], reported[4][0]), (0, 0xFF));
}

#[test]
fn an_error_and_its_remedy_are_told_again_as_warnings() {
    let bytes = [packet(3, b"strat migration m"), packet(3, b"show warnings")];
    let reported = talk(DEPRECATE_EOF, b"", &bytes.concat());
    assert_eq!(reported[0][0], 0xFF);
    assert_eq!(reported.len(), 1 + 1 + 3 + 2 + 1, "error, count, columns, rows, end");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bodies_break_the_session(
        sent in prop::collection::vec(
            (
                prop::sample::select(vec![2_u8, 3, 4, 9, 0x0E, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B, 0x1F, 0x7F]),
                prop::collection::vec(any::<u8>(), 0..40),
            ),
            0..8,
        ),
        capabilities in any::<u32>(),
        rest in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        let mut bytes: Vec<u8> = sent.iter().flat_map(|(command, body)| packet(*command, body)).collect();
        bytes.extend(rest);
        talk(capabilities, b"", &bytes);
    }
}
