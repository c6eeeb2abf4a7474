//! Tagged frames: one byte that says what it is, four that say how long, then the body.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::Malformed;

/// The tag and the length.
pub const HEADER_BYTES: usize = 5;

/// The length counts itself.
const LENGTH_BYTES: usize = 4;

/// What the first five bytes of a frame say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub tag: u8,
    /// The bytes after the header.
    pub body: usize,
}

impl Header {
    /// The bytes of the whole frame.
    #[inline]
    pub const fn total(self) -> usize {
        self.body.saturating_add(HEADER_BYTES)
    }
}

/// One whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub tag: u8,
    /// What comes after its header.
    pub body: Bytes,
}

/// Reads the header at the front of `bytes`; `None` where it is not complete yet. A length that cannot be, or that
/// makes the frame larger than `frame_bytes_max`, is refused at once and not when the body has arrived.
#[inline]
pub fn peek(bytes: &[u8], frame_bytes_max: usize) -> Result<Option<Header>, Malformed> {
    let Some(&[tag, a, b, c, d]) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let malformed = Malformed { what: "frame length", at: 1, limit: frame_bytes_max };
    let body = length.checked_sub(LENGTH_BYTES).ok_or(malformed)?;
    let header = Header { tag, body };
    if header.total() > frame_bytes_max {
        return Err(malformed);
    }
    Ok(Some(header))
}

/// Takes the frame at the front of `buffer`; `None`, and nothing taken, where it is not complete yet.
pub fn take(buffer: &mut BytesMut, frame_bytes_max: usize) -> Result<Option<Frame>, Malformed> {
    let Some(header) = peek(buffer, frame_bytes_max)? else {
        return Ok(None);
    };
    if buffer.len() < header.total() {
        return Ok(None);
    }
    let mut body = buffer.split_to(header.total()).freeze();
    Ok(Some(Frame { tag: header.tag, body: body.split_off(HEADER_BYTES) }))
}

/// Appends a frame whose body is what `body` appends.
pub fn put(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    put_untagged(out, body);
}

/// Appends a length that counts itself and what `body` appends: the packets before the login have no tag.
pub(crate) fn put_untagged(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len().saturating_sub(start)).unwrap_or(u32::MAX);
    if let Some(slot) = out.get_mut(start..start.saturating_add(LENGTH_BYTES)) {
        slot.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends `text` and the zero byte that ends it. A zero byte inside would end it early, so it ends there.
pub(crate) fn put_cstr(out: &mut BytesMut, text: &[u8]) {
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    out.extend_from_slice(text.get(..end).unwrap_or_default());
    out.put_u8(0);
}
