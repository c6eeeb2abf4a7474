//! Packets: three bytes that say how long, one that counts, then the body; what is longer comes in several.
//!
//! MySQL internals manual, "Protocol::Packet". A payload of 16 MiB - 1 or more is split: every packet of exactly
//! [`SPLIT_BYTES`] is continued by the next one, which may be empty.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::Malformed;

/// The length of every packet that is continued by the next one.
pub const SPLIT_BYTES: usize = 0xFF_FFFF;

/// The bytes before a body.
pub const HEADER_BYTES: usize = 4;

/// What stands before a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The body's length in bytes, at most [`SPLIT_BYTES`].
    pub length: usize,
    /// Counts the packets of one exchange from zero, and wraps.
    pub sequence: u8,
}

impl Header {
    /// The header and its body, in bytes.
    pub fn total(self) -> usize {
        self.length.saturating_add(HEADER_BYTES)
    }

    /// Whether the payload goes on in the next packet.
    pub fn is_continued(self) -> bool {
        self.length == SPLIT_BYTES
    }
}

/// The header at the start of `bytes`; `None` where it is not whole yet.
pub fn peek(bytes: &[u8]) -> Option<Header> {
    let header: [u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
    let [low, middle, high, sequence] = header;
    let length = u32::from_le_bytes([low, middle, high, 0]);
    Some(Header { length: usize::try_from(length).unwrap_or(SPLIT_BYTES), sequence })
}

/// A payload, put together from its packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The number of its last packet.
    pub sequence: u8,
    /// What it says.
    pub body: Bytes,
}

/// Takes one whole payload off the front; `None` where it is not there yet. Fails where it is longer than
/// `bytes_max`, as soon as that is known.
pub fn take(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Payload>, Malformed> {
    let mut at = 0_usize;
    let mut length = 0_usize;
    let last = loop {
        let Some(header) = peek(buffer.get(at..).unwrap_or_default()) else {
            return Ok(None);
        };
        length = length.saturating_add(header.length);
        if length > bytes_max {
            return Err(Malformed { what: "packet", at, limit: bytes_max });
        }
        at = at.saturating_add(header.total());
        if at > buffer.len() {
            return Ok(None);
        }
        if !header.is_continued() {
            break header;
        }
    };
    let mut whole = buffer.split_to(at);
    if length == last.length {
        let body = whole.split_off(HEADER_BYTES).freeze();
        return Ok(Some(Payload { sequence: last.sequence, body }));
    }
    let mut body = BytesMut::with_capacity(length);
    while let Some(header) = peek(&whole) {
        let packet = whole.split_to(header.total().min(whole.len()));
        body.extend_from_slice(packet.get(HEADER_BYTES..).unwrap_or_default());
    }
    Ok(Some(Payload { sequence: last.sequence, body: body.freeze() }))
}

/// Appends one payload, split where it must be, and counts `sequence` on.
pub fn put(out: &mut BytesMut, sequence: &mut u8, body: &[u8]) {
    let mut rest = body;
    loop {
        let (now, later) = rest.split_at(rest.len().min(SPLIT_BYTES));
        out.put_uint_le(now.len() as u64, 3);
        out.put_u8(*sequence);
        out.extend_from_slice(now);
        *sequence = sequence.wrapping_add(1);
        rest = later;
        if now.len() < SPLIT_BYTES {
            break;
        }
    }
}

/// Appends bytes and a zero byte. Bytes from a zero byte on would mean something else and are left out.
pub fn put_cstr(out: &mut BytesMut, bytes: &[u8]) {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    out.extend_from_slice(bytes.get(..end).unwrap_or_default());
    out.put_u8(0);
}
