//! The frames of the admin console: read whole, bounded, and taken apart without trust.
//!
//! An own reader instead of a crate's codec, because the console must say exactly what a body may hold: the codec that
//! was tried panics on bodies that are shorter than their fields, and alters texts that are not UTF-8.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::console::answer::{Column, Refusal, Type, Value, time_text};
use crate::console::session::{Connection, MESSAGE_BYTES_MAX};
use proxy::client::Client;

/// One frame of the client.
pub(crate) struct Frame {
    /// What kind of frame it is.
    pub tag: u8,
    /// What is after the length.
    pub body: Body,
}

/// The client's connection, and what is written to it.
pub(crate) struct Wire {
    pub connection: Connection,
}

impl Wire {
    /// Goes on with a connection after its login.
    pub(crate) fn new(stream: Client, leftover: BytesMut) -> Self {
        Self { connection: Connection::new(stream, leftover) }
    }

    /// Takes the next frame, where all of it was read.
    pub(crate) fn take(&mut self) -> io::Result<Option<Frame>> {
        let Some((&[tag, a, b, c, d], _)) = self.connection.incoming.split_first_chunk::<5>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of an illegal length"));
        }
        if self.connection.incoming.len() <= length {
            return Ok(None);
        }
        let mut frame = self.connection.incoming.split_to(length + 1).freeze();
        frame.advance(5);
        Ok(Some(Frame { tag, body: Body(frame) }))
    }

    /// Writes a frame without a body, or with one that is at hand.
    pub(crate) fn put(&mut self, tag: u8, body: &[u8]) {
        self.frame(tag, |out| out.put_slice(body));
    }

    /// Writes a command tag.
    pub(crate) fn complete(&mut self, tag: &str) {
        self.frame(b'C', |out| put_text(out, tag));
    }

    /// Writes one of the server's settings that clients want to know.
    pub(crate) fn parameter(&mut self, name: &str, value: &str) {
        self.frame(b'S', |out| {
            put_text(out, name);
            put_text(out, value);
        });
    }

    /// Writes the columns of an answer; `binary` tells the format of each.
    pub(crate) fn columns(&mut self, columns: &[Column], binary: impl Fn(usize) -> bool) {
        self.frame(b'T', |out| {
            out.put_i16(i16::try_from(columns.len()).unwrap_or(i16::MAX));
            for (at, (name, kind)) in columns.iter().enumerate() {
                put_text(out, name);
                out.put_i32(0);
                out.put_i16(0);
                out.put_u32(oid(*kind));
                out.put_i16(width(*kind));
                out.put_i32(-1);
                out.put_i16(i16::from(binary(at)));
            }
        });
    }

    /// Writes one row.
    pub(crate) fn row(&mut self, values: &[Value], binary: impl Fn(usize) -> bool) {
        self.frame(b'D', |out| {
            out.put_i16(i16::try_from(values.len()).unwrap_or(i16::MAX));
            for (at, value) in values.iter().enumerate() {
                write(value, binary(at), out);
            }
        });
    }

    /// Writes the types of a statement's parameters.
    pub(crate) fn parameter_types(&mut self, oids: &[u32]) {
        self.frame(b't', |out| {
            out.put_i16(i16::try_from(oids.len()).unwrap_or(i16::MAX));
            for oid in oids {
                out.put_u32(*oid);
            }
        });
    }

    /// Writes an error; a fatal one is the last thing that the client hears.
    pub(crate) fn refuse(&mut self, severity: &str, refusal: &Refusal) {
        self.frame(b'E', |out| {
            put_field(out, b'S', severity);
            put_field(out, b'V', severity);
            put_field(out, b'C', refusal.code);
            put_field(out, b'M', &refusal.text);
            if !refusal.hint.is_empty() {
                put_field(out, b'H', &refusal.hint);
            }
            if refusal.position > 0 {
                put_field(out, b'P', &refusal.position.to_string());
            }
            out.put_u8(0);
        });
    }

    /// Writes a warning.
    pub(crate) fn warn(&mut self, text: &str) {
        self.frame(b'N', |out| {
            put_field(out, b'S', "WARNING");
            put_field(out, b'V', "WARNING");
            put_field(out, b'C', "01000");
            put_field(out, b'M', text);
            out.put_u8(0);
        });
    }

    fn frame(&mut self, tag: u8, write: impl FnOnce(&mut BytesMut)) {
        self.connection.outgoing.put_u8(tag);
        let mut body = BytesMut::new();
        write(&mut body);
        let length = i32::try_from(body.len()).ok().and_then(|length| length.checked_add(4));
        self.connection.outgoing.put_i32(length.unwrap_or(i32::MAX));
        self.connection.outgoing.put_slice(&body);
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    // A NUL would end the text early and shift everything behind it.
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.put_u8(0);
}

fn put_field(out: &mut BytesMut, field: u8, text: &str) {
    out.put_u8(field);
    put_text(out, text);
}

/// A bound parameter.
pub(crate) enum Bound {
    /// No value.
    Null,
    /// A value in the client's format.
    Bytes(Bytes),
}

/// What is left of a frame's body. Every read fails softly where the body is too short.
pub(crate) struct Body(Bytes);

impl Body {
    /// A text up to its NUL; `None` where there is none, or where it is not UTF-8.
    pub(crate) fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        String::from_utf8(text.to_vec()).ok()
    }

    /// One byte.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    /// A count that is not negative.
    pub(crate) fn count(&mut self) -> Option<usize> {
        usize::try_from(self.0.try_get_i16().ok()?).ok()
    }

    /// A number of two bytes.
    pub(crate) fn short(&mut self) -> Option<i16> {
        self.0.try_get_i16().ok()
    }

    /// A number of four bytes.
    pub(crate) fn long(&mut self) -> Option<i32> {
        self.0.try_get_i32().ok()
    }

    /// A value with its length before it.
    pub(crate) fn value(&mut self) -> Option<Bound> {
        let length = self.long()?;
        if length == -1 {
            return Some(Bound::Null);
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= self.0.len())?;
        Some(Bound::Bytes(self.0.split_to(length)))
    }

    /// Whether everything was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The type's number in every PostgreSQL.
fn oid(kind: Type) -> u32 {
    match kind {
        Type::Bool => 16,
        Type::Int => 20,
        Type::Text => 25,
        Type::Float => 701,
        Type::Time => 1184,
    }
}

/// The type's width in bytes; negative where it varies.
fn width(kind: Type) -> i16 {
    match kind {
        Type::Bool => 1,
        Type::Int | Type::Float | Type::Time => 8,
        Type::Text => -1,
    }
}

/// Writes the value with its length before it, as text or in PostgreSQL's binary form.
fn write(value: &Value, binary: bool, out: &mut BytesMut) {
    let text = match value {
        Value::Null => return out.put_i32(-1),
        Value::Int(value) if binary => return put_value(out, &value.to_be_bytes()),
        Value::Float(value) if binary => return put_value(out, &value.to_be_bytes()),
        Value::Bool(value) if binary => return put_value(out, &[u8::from(*value)]),
        Value::Time(value) if binary => {
            return put_value(out, &micros_since_2000(*value).to_be_bytes());
        }
        Value::Text(value) => return put_value(out, value.as_bytes()),
        Value::Int(value) => value.to_string(),
        Value::Float(value) if value.is_infinite() => {
            if *value > 0.0 {
                "Infinity".to_owned()
            } else {
                "-Infinity".to_owned()
            }
        }
        Value::Float(value) => value.to_string(),
        Value::Bool(value) => if *value { "t" } else { "f" }.to_owned(),
        Value::Time(value) => format!("{}+00", time_text(*value)),
    };
    put_value(out, text.as_bytes());
}

fn put_value(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    out.put_slice(bytes);
}

const UNIX_TO_2000: Duration = Duration::from_hours(262_968);

fn micros_since_2000(time: SystemTime) -> i64 {
    let since = UNIX_EPOCH + UNIX_TO_2000;
    match time.duration_since(since) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_times_count_microseconds_from_2000() {
        assert_eq!(micros_since_2000(UNIX_EPOCH + UNIX_TO_2000 + Duration::from_millis(2)), 2_000);
        assert_eq!(micros_since_2000(UNIX_EPOCH), -946_684_800_000_000);
    }
}
