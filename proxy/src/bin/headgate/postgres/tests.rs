//! The session over a real socket: order of replies, skipping after errors, and that no bytes break it.

use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;
use proxy::client::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::console as session;
use crate::console::answer::{Answer, Column, Refusal, Value};
use crate::console::{Execute, columns, rows, version};
use crate::statement::{FORMS, Statement};

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
            _ => Err(Refusal::new("55000", "not without the planes", "")),
        }
    }
}

/// Sends bytes, closes, and returns all that comes back after the greeting; fails where the session hangs.
fn talk(early: &[u8], bytes: &[u8]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut client = TcpStream::connect(address).await.expect("it listens");
        let (server, _) = listener.accept().await.expect("the client is there");
        let early = BytesMut::from(early);
        let served = tokio::spawn(async move { session::serve(&Offline, Client::Plain(server), early).await });
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
        let greeting = frames(&reply).iter().position(|(tag, _)| *tag == b'Z').expect("ready");
        let skipped: usize = frames(&reply).iter().take(greeting + 1).map(|(_, size)| size).sum();
        reply.split_off(skipped)
    })
}

/// The tags and sizes of complete frames.
fn frames(mut bytes: &[u8]) -> Vec<(u8, usize)> {
    let mut found = Vec::new();
    while let [tag, a, b, c, d, ..] = bytes {
        let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize + 1;
        found.push((*tag, size));
        bytes = bytes.get(size..).unwrap_or_default();
    }
    found
}

fn tags(bytes: &[u8]) -> String {
    frames(bytes).iter().map(|(tag, _)| char::from(*tag)).collect()
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

#[test]
fn simple_statements_answer_in_order_and_a_slip_stops_all_of_them() {
    assert_eq!(tags(&talk(b"", &frame(b'Q', b"show version; help;\0"))), format!("TDCT{}CZ", "D".repeat(FORMS.len())));
    assert_eq!(tags(&talk(b"", &frame(b'Q', b"show version; hlep;\0"))), "EZ");
    assert_eq!(tags(&talk(b"", &frame(b'Q', b" ; \0"))), "IZ");
}

#[test]
fn what_a_client_sent_before_it_was_logged_in_is_answered() {
    let whole = frame(b'Q', b"show version\0");
    let (early, late) = whole.split_at(7);
    assert_eq!(tags(&talk(early, late)), "TDCZ");
}

#[test]
fn an_error_of_the_extended_protocol_skips_to_the_next_sync() {
    let bytes = [
        frame(b'P', b"\0cutover\0\0\0"),
        frame(b'B', b"\0\0\0\0\0\0\0\0"),
        frame(b'E', b"\0\0\0\0\0"),
        frame(b'S', b""),
        frame(b'P', b"\0show version\0\0\0"),
        frame(b'D', b"S\0"),
        frame(b'B', b"\0\0\0\0\0\0\0\0"),
        frame(b'D', b"P\0"),
        frame(b'E', b"\0\0\0\0\0"),
        frame(b'S', b""),
    ];
    assert_eq!(tags(&talk(b"", &bytes.concat())), "EZ1tT2TDCZ");
}

#[test]
fn a_failed_transaction_takes_nothing_but_its_end() {
    let bytes = [
        frame(b'Q', b"begin\0"),
        frame(b'Q', b"start migration m\0"),
        frame(b'Q', b"show version\0"),
        frame(b'Q', b"rollback\0"),
        frame(b'Q', b"show version\0"),
    ];
    assert_eq!(tags(&talk(b"", &bytes.concat())), "CZEZEZCZTDCZ");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bodies_break_the_session(
        sent in prop::collection::vec(
            (prop::sample::select(b"QPBDECSHdcf".to_vec()), prop::collection::vec(any::<u8>(), 0..40)),
            0..8,
        ),
        rest in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        let mut bytes: Vec<u8> = sent.iter().flat_map(|(tag, body)| frame(*tag, body)).collect();
        bytes.extend(rest);
        talk(b"", &bytes);
    }
}
