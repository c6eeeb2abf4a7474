//! Asks an idle session ahead of a switch what keeps it where it is, without its client noticing.
//!
//! The question is a batch with a named statement of its own, so that it touches neither the client's unnamed
//! statement nor a setting of its. It goes out between two statements of the client, which may go on behind it at once:
//! the server answers in order, and the answer is taken out on its way to the client.

use bytes::{Bytes, BytesMut};
use protocol::postgres::{command, frame, reply};
use tokio::sync::oneshot;

use super::internal_query::{Row, text_row};
use super::state::{AHEAD, AHEAD_LIMIT, AHEAD_NAME, movable};
use crate::registry::{Movable, answer_probes};

/// A question that is on its way.
#[derive(Debug)]
pub(super) struct Ahead {
    askers: Vec<oneshot::Sender<Movable>>,
    row: Option<Row>,
    failed: bool,
}

impl Ahead {
    /// For those who want to know.
    pub(super) fn new(askers: Vec<oneshot::Sender<Movable>>) -> Self {
        Self { askers, row: None, failed: false }
    }

    /// The question, as whole frames.
    pub(super) fn frames() -> BytesMut {
        let mut out = BytesMut::new();
        for sql in [AHEAD_LIMIT, AHEAD] {
            // A question that failed leaves its statement behind.
            close(&mut out);
            frame::put(&mut out, command::PARSE, |out| {
                for text in [AHEAD_NAME, sql.as_bytes()] {
                    out.extend_from_slice(text);
                    out.extend_from_slice(b"\0");
                }
                out.extend_from_slice(&[0; 2]);
            });
            frame::put(&mut out, command::BIND, |out| {
                out.extend_from_slice(b"\0");
                out.extend_from_slice(AHEAD_NAME);
                out.extend_from_slice(&[0; 7]);
            });
            frame::put(&mut out, command::EXECUTE, |out| {
                out.extend_from_slice(&[0; 5]);
            });
        }
        close(&mut out);
        frame::put(&mut out, command::SYNC, |_| {});
        out
    }

    /// Whether a frame is part of the answer. What the server says by itself is the client's, its last words too.
    pub(super) fn is_answer(tag: u8, body: &[u8]) -> bool {
        match tag {
            reply::PARAMETER_STATUS | reply::NOTIFICATION_RESPONSE | reply::NOTICE_RESPONSE => false,
            reply::ERROR_RESPONSE => {
                let ends = |word: &[u8]| memchr::memmem::find(body, word).is_some();
                !ends(b"VFATAL\0") && !ends(b"VPANIC\0")
            }
            _ => true,
        }
    }

    /// The next frame of the answer.
    pub(super) fn hear(&mut self, tag: u8, body: &[u8]) {
        match tag {
            reply::DATA_ROW => self.row = text_row(Bytes::copy_from_slice(body)).ok(),
            reply::ERROR_RESPONSE => self.failed = true,
            _ => {}
        }
    }

    /// The answer is complete: everybody who asked is told.
    pub(super) fn finish(self) -> Movable {
        let answer = match &self.row {
            Some(row) if !self.failed => movable(row),
            _ => Movable::NotKnown("its server refused the question"),
        };
        answer_probes(self.askers, answer);
        answer
    }
}

fn close(out: &mut BytesMut) {
    frame::put(out, command::CLOSE, |out| {
        out.extend_from_slice(b"S");
        out.extend_from_slice(AHEAD_NAME);
        out.extend_from_slice(b"\0");
    });
}
