//! Asking a server session something on Headgate's own behalf, between two statements of the client.
//!
//! Questions are sent one behind the other without waiting: a server reads its commands one by one, so their answers
//! come in the same order.

use bytes::{Bytes, BytesMut};
use protocol::mysql::handshake::Capabilities;
use protocol::mysql::reply::{self, Column, Prepared};
use protocol::mysql::session::{Expected, Says, Session as Tracker};
use protocol::mysql::{command, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::not_movable::NotMovable;
use super::server_login::Refused;
use crate::upstream::Upstream;

/// A row of values as the server wrote them.
pub type Row = Vec<Option<Vec<u8>>>;

/// What the server answered to one question.
#[derive(Debug, Default)]
pub struct Answer {
    /// The columns of the rows.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Vec<Row>,
    /// The error's code, and what it says.
    pub error: Option<(u16, String)>,
    /// The statement that was prepared.
    pub prepared: Option<Prepared>,
}

/// An answer holds at most this many bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Commands in line, each with what is needed to read its answer.
#[derive(Debug)]
pub struct Questions {
    words: BytesMut,
    commands: Vec<u8>,
    capabilities: Capabilities,
}

impl Questions {
    /// None yet, for a server session with these capabilities.
    pub fn new(capabilities: Capabilities) -> Self {
        Self { words: BytesMut::new(), commands: Vec::new(), capabilities }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.commands.len()
    }

    /// The packets.
    pub fn into_words(self) -> BytesMut {
        self.words
    }

    /// One command with what follows it.
    pub fn command(&mut self, command: u8, rest: &[u8]) {
        let mut payload = Vec::with_capacity(rest.len() + 1);
        payload.push(command);
        payload.extend_from_slice(rest);
        frame::put(&mut self.words, &mut 0, &payload);
        self.commands.push(command);
    }

    /// One statement as text.
    pub fn query(&mut self, sql: &str) {
        // Where statements may carry attributes, their number comes first, and the number of their sets.
        let attributes: &[u8] = if self.capabilities.has(Capabilities::QUERY_ATTRIBUTES) { &[0, 1] } else { &[] };
        self.command(command::QUERY, &[attributes, sql.as_bytes()].concat());
    }
}

/// Asks all of `questions` and reads their answers, of those commands that have one. What was read behind them stays
/// in `buffer`. The caller sets the deadline.
pub async fn ask(stream: &mut Upstream, buffer: &mut BytesMut, questions: &Questions) -> Result<Vec<Answer>, Refused> {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let sending = async {
        writing.write_all(&questions.words).await?;
        writing.flush().await?;
        Ok::<(), Refused>(())
    };
    // Both at once: a server that cannot write its answers reads no further questions.
    let (sent, answers) = tokio::join!(sending, answers(&mut reading, buffer, questions));
    sent?;
    answers
}

async fn answers<R: tokio::io::AsyncRead + Unpin>(
    reading: &mut R,
    buffer: &mut BytesMut,
    questions: &Questions,
) -> Result<Vec<Answer>, Refused> {
    let mut tracker = Tracker::new(u64::from(questions.capabilities.0), 0);
    let mut all = Vec::with_capacity(questions.commands.len());
    let mut bytes = 0_usize;
    for &command in &questions.commands {
        let one = frame::Header { length: 1, sequence: 0 };
        let expected = Expected { command, tag: 0, cursor: false, own: true };
        tracker.command(one, expected);
        if tracker.expecting() == 0 {
            continue;
        }
        let mut answer = Answer::default();
        loop {
            let body = next(reading, buffer).await?;
            bytes = bytes.saturating_add(body.len());
            if bytes > ANSWER_BYTES_MAX {
                return Err(Refused::Unsupported("answers more than a handover may take"));
            }
            let header = frame::Header { length: body.len().min(frame::SPLIT_BYTES - 1), sequence: 0 };
            let step = tracker.server(header, &body)?;
            match step.says {
                Says::Definition => answer.columns.push(Column::parse(&body)?),
                Says::Row => answer.rows.push(reply::text_row(&body, answer.columns.len())?),
                Says::Error => {
                    let error = reply::Error::parse(&body)?;
                    answer.error = Some((error.code, error.summary()));
                }
                Says::Prepared(prepared) => answer.prepared = Some(prepared),
                Says::Part | Says::Okay | Says::Eof => {}
            }
            if step.ended.is_some() {
                break;
            }
        }
        all.push(answer);
    }
    Ok(all)
}

async fn next<R: tokio::io::AsyncRead + Unpin>(reading: &mut R, buffer: &mut BytesMut) -> Result<Bytes, Refused> {
    loop {
        if let Some(payload) = frame::take(buffer, ANSWER_BYTES_MAX)? {
            return Ok(payload.body);
        }
        if reading.read_buf(buffer).await? == 0 {
            return Err(Refused::Unreachable(std::io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// An answer that says something else than it was asked for.
pub(super) fn odd() -> NotMovable {
    NotMovable::State("the server's answer was not understood".to_owned())
}

/// The rows of an answer that must not be an error.
pub(super) fn rows(answer: &Answer) -> Result<&[Row], NotMovable> {
    match &answer.error {
        Some((_, error)) => Err(NotMovable::State(error.clone())),
        None => Ok(&answer.rows),
    }
}

/// A value of a row as text, unless it is NULL.
pub(super) fn text(row: &Row, at: usize) -> Option<String> {
    let value = row.get(at)?.as_deref()?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// The first row of an answer that must not be an error.
pub(super) fn first_row(answer: &Answer) -> Result<&Row, NotMovable> {
    rows(answer)?.first().ok_or_else(odd)
}
