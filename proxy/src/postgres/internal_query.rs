//! Asking a server session something on Headgate's own behalf, between two statements of the client.

use bytes::{Bytes, BytesMut};
use protocol::error::Malformed;
use protocol::postgres::{frame, reply};
use protocol::reader::Reader;
use tokio::io::AsyncWriteExt;

use super::server_login::{Refused, next_frame};
use crate::upstream::Upstream;

/// A row of values in UTF-8; the session's `client_encoding` must be that.
pub type Row = Vec<Option<String>>;

/// What the server answered, up to its ReadyForQuery.
#[derive(Debug, Default)]
pub struct Answer {
    /// The rows of each statement that returned rows.
    pub results: Vec<Vec<Row>>,
    /// Parameter statuses that came by.
    pub parameters: Vec<(Bytes, Bytes)>,
    /// Notifications that came by, as whole frames: they are the client's.
    pub asides: BytesMut,
    /// The first error's code and message, if one came.
    pub error: Option<String>,
    /// The SQLSTATE of that.
    pub code: Bytes,
}

impl Answer {
    /// Adds the notifications that were read behind the answer. Anything else there is the end of that session.
    pub fn keep_notifications(&mut self, unread: &mut BytesMut) {
        while let Ok(Some(frame)) = frame::take(unread, ANSWER_BYTES_MAX) {
            if frame.tag == reply::NOTIFICATION_RESPONSE {
                frame::put(&mut self.asides, frame.tag, |out| {
                    out.extend_from_slice(&frame.body);
                });
            }
        }
    }
}

/// An answer holds at most this many bytes of rows.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Sends `question` (whole frames that end in exactly one ReadyForQuery) and reads the answer. What was read behind it
/// stays in `buffer`. The caller sets the deadline.
pub async fn ask(stream: &mut Upstream, buffer: &mut BytesMut, question: &[u8]) -> Result<Answer, Refused> {
    stream.write_all(question).await?;
    let mut answer = Answer::default();
    let mut bytes = 0_usize;
    loop {
        let Some(frame) = next_frame(stream, buffer).await? else {
            return Err(Refused::Unreachable(std::io::ErrorKind::UnexpectedEof.into()));
        };
        bytes = bytes.saturating_add(frame.body.len());
        if bytes > ANSWER_BYTES_MAX {
            return Err(Refused::Unsupported("more room than a handover may take"));
        }
        match frame.tag {
            reply::ROW_DESCRIPTION => answer.results.push(Vec::new()),
            reply::DATA_ROW => {
                if let Some(rows) = answer.results.last_mut() {
                    rows.push(text_row(frame.body)?);
                }
            }
            reply::PARAMETER_STATUS => {
                let status = reply::ParameterStatus::parse(frame.body)?;
                answer.parameters.push((status.name, status.value));
            }
            reply::ERROR_RESPONSE => {
                let error = reply::ErrorFields::parse(frame.body);
                if answer.error.is_none() {
                    answer.error = Some(error.summary());
                    answer.code = error.code;
                }
            }
            reply::NOTIFICATION_RESPONSE => {
                frame::put(&mut answer.asides, frame.tag, |out| {
                    out.extend_from_slice(&frame.body);
                });
            }
            reply::READY_FOR_QUERY => return Ok(answer),
            _ => {}
        }
    }
}

/// A DataRow's values as text.
pub(super) fn text_row(body: Bytes) -> Result<Row, Malformed> {
    let mut reader = Reader::new("DataRow", body);
    let count = reader.get_u16()?;
    let mut row = Row::new();
    for _ in 0..count {
        let length = reader.get_i32()?;
        row.push(match usize::try_from(length) {
            Ok(length) => {
                let value = reader.slice(length)?;
                Some(String::from_utf8(value.into()).map_err(|_| reader.malformed())?)
            }
            Err(_) => None,
        });
    }
    Ok(row)
}

/// A simple query as a frame.
pub fn query(sql: &str) -> BytesMut {
    let mut out = BytesMut::new();
    frame::put(&mut out, b'Q', |out| {
        out.extend_from_slice(sql.as_bytes());
        out.extend_from_slice(b"\0");
    });
    out
}
