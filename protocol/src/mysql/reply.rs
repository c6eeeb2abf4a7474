//! The server's packets that end or change a state: OK, ERR, EOF, and what is needed to read rows.

use bytes::{BufMut, BytesMut};

use crate::error::Malformed;

use crate::mysql::lenenc::{self, Fields};

/// The first byte of OK.
pub const OK: u8 = 0x00;
/// The first byte of the request for a local file.
pub const LOCAL_INFILE: u8 = 0xFB;
/// The first byte of EOF, and of an OK that ends rows.
pub const EOF: u8 = 0xFE;
/// The first byte of ERR.
pub const ERR: u8 = 0xFF;

/// EOF is never longer; a row that begins like it is.
pub const EOF_BYTES_MAX: usize = 8;

/// What the server says of the session in every OK and EOF.
pub mod status {
    /// A transaction is open.
    pub const IN_TRANSACTION: u16 = 0x0001;
    /// Each statement is a transaction of its own.
    pub const AUTOCOMMIT: u16 = 0x0002;
    /// Another result follows.
    pub const MORE_RESULTS: u16 = 0x0008;
    /// A cursor was opened instead of sending rows.
    pub const CURSOR_EXISTS: u16 = 0x0040;
    /// The cursor has no more rows, and is closed.
    pub const LAST_ROW_SENT: u16 = 0x0080;
    /// Backslashes are no escapes.
    pub const NO_BACKSLASH_ESCAPES: u16 = 0x0200;
    /// The OK tells what of the session has changed.
    pub const STATE_CHANGED: u16 = 0x4000;
}

/// What the client and the server agreed upon, as far as packets depend on it.
pub mod capability {
    /// OK packets may carry what of the session has changed.
    pub const SESSION_TRACK: u64 = 1 << 23;
    /// Rows end in OK, and definitions in nothing.
    pub const DEPRECATE_EOF: u64 = 1 << 24;
    /// Statements may carry attributes.
    pub const QUERY_ATTRIBUTES: u64 = 1 << 27;
}

/// An OK packet, as far as it was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Okay<'a> {
    /// Rows that the statement changed.
    pub affected_rows: u64,
    /// The value that AUTO_INCREMENT made.
    pub last_insert_id: u64,
    /// The flags of [`status`].
    pub status: u16,
    /// Warnings that wait to be asked for.
    pub warnings: u16,
    /// A line for people.
    pub info: &'a [u8],
    /// What of the session has changed, as a block of tracker records.
    pub changes: &'a [u8],
}

impl<'a> Okay<'a> {
    /// Reads a whole payload; `tracked` where SESSION_TRACK was agreed upon.
    pub fn parse(payload: &'a [u8], tracked: bool) -> Result<Self, Malformed> {
        let mut fields = Fields::new("OK packet", payload);
        fields.u8()?;
        let mut okay = Self {
            affected_rows: fields.count()?,
            last_insert_id: fields.count()?,
            status: fields.u16()?,
            warnings: fields.u16()?,
            ..Self::default()
        };
        if fields.remaining() > 0 {
            okay.info = fields.string()?;
        }
        if tracked && okay.status & status::STATE_CHANGED != 0 && fields.remaining() > 0 {
            okay.changes = fields.string()?;
        }
        Ok(okay)
    }

    /// The status alone, of a payload that may be cut behind it.
    #[inline]
    pub fn status_of(head: &[u8]) -> Result<u16, Malformed> {
        let mut fields = Fields::new("OK packet", head);
        fields.u8()?;
        fields.count()?;
        fields.count()?;
        fields.u16()
    }

    /// Appends the payload behind `first`, which is [`OK`], or [`EOF`] where it ends rows.
    pub fn encode(&self, out: &mut BytesMut, first: u8, tracked: bool) {
        out.put_u8(first);
        lenenc::put_count(out, self.affected_rows);
        lenenc::put_count(out, self.last_insert_id);
        let changed = tracked && !self.changes.is_empty();
        let status = if changed { self.status | status::STATE_CHANGED } else { self.status & !status::STATE_CHANGED };
        out.put_u16_le(status);
        out.put_u16_le(self.warnings);
        // The manual lets the line end the packet where nothing is tracked; servers tell its length there too.
        if changed || !self.info.is_empty() {
            lenenc::put_string(out, self.info);
        }
        if changed {
            lenenc::put_string(out, self.changes);
        }
    }
}

/// Makes a whole OK payload of a tracked session one for a client that asked for no tracking, in place. Answers the
/// new length, which is never longer.
pub fn strip_changes(payload: &mut [u8]) -> Result<usize, Malformed> {
    let mut fields = Fields::new("OK packet", payload);
    fields.u8()?;
    fields.count()?;
    fields.count()?;
    let flags_at = fields.at();
    let flags = fields.u16()? & !status::STATE_CHANGED;
    fields.u16()?;
    let mut end = fields.at();
    // An empty line stands only in front of changes.
    if fields.remaining() > 0 && !fields.string()?.is_empty() {
        end = fields.at();
    }
    let [low, high] = flags.to_le_bytes();
    for (at, byte) in [(flags_at, low), (flags_at.saturating_add(1), high)] {
        if let Some(place) = payload.get_mut(at) {
            *place = byte;
        }
    }
    Ok(end)
}

/// An ERR packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error<'a> {
    /// The server's number for it.
    pub code: u16,
    /// The SQLSTATE.
    pub state: &'a [u8],
    /// What happened.
    pub message: &'a [u8],
}

impl<'a> Error<'a> {
    /// Reads a whole payload.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new("ERR packet", payload);
        fields.u8()?;
        let code = fields.u16()?;
        let rest = fields.rest();
        // An error before the login, or of an old server, has no state.
        let (state, message) = match rest.split_first() {
            Some((b'#', rest)) => rest.split_at_checked(5).unwrap_or((b"HY000", rest)),
            _ => (&b"HY000"[..], rest),
        };
        Ok(Self { code, state, message })
    }

    /// Appends the payload.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u8(ERR);
        out.put_u16_le(self.code);
        out.put_u8(b'#');
        out.extend_from_slice(self.state);
        out.extend_from_slice(self.message);
    }

    /// Code, state and message in one line, for logs.
    pub fn summary(&self) -> String {
        format!("{} ({}): {}", self.code, String::from_utf8_lossy(self.state), String::from_utf8_lossy(self.message))
    }
}

/// What the server says of a statement that it has prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The server's number for it.
    pub statement: u32,
    /// Columns of its result.
    pub columns: u16,
    /// Parameters.
    pub parameters: u16,
}

impl Prepared {
    /// Where the statement's number stands in the payload.
    pub const STATEMENT_AT: usize = 1;

    /// Reads the start of a payload.
    pub fn parse(head: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new("reply to a PREPARE", head);
        fields.u8()?;
        Ok(Self { statement: fields.u32()?, columns: fields.u16()?, parameters: fields.u16()? })
    }
}

/// What a reader of rows must know of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The column's name.
    pub name: Vec<u8>,
    /// The number of its collation.
    pub collation: u16,
    /// The number of its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u16,
}

impl Column {
    /// The flag of a number without a sign.
    pub const UNSIGNED: u16 = 32;

    /// Reads a whole definition.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new("column definition", payload);
        for _ in 0..4 {
            fields.string()?;
        }
        let name = fields.string()?.to_vec();
        fields.string()?;
        fields.count()?;
        let collation = fields.u16()?;
        fields.u32()?;
        let kind = fields.u8()?;
        let flags = fields.u16()?;
        Ok(Self { name, collation, kind, flags })
    }
}

/// Reads a row of a text result.
pub fn text_row(payload: &[u8], columns: usize) -> Result<Vec<Option<Vec<u8>>>, Malformed> {
    let mut fields = Fields::new("row", payload);
    // A value takes at least one byte: a server's word on the number of columns is no reason to allocate.
    let mut row = Vec::with_capacity(columns.min(payload.len()));
    for _ in 0..columns {
        row.push(fields.value()?.map(<[u8]>::to_vec));
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What MySQL 9.7 and MariaDB 10.11 send to a client without SESSION_TRACK.
    const UNTRACKED: &[u8] = b"\x00\x02\x01\x02\x00\x00\x00\x09Records 2";

    fn check_stripped(tracked: &[u8], expected: &[u8]) {
        let mut payload = tracked.to_vec();
        let stripped = strip_changes(&mut payload).map(|length| payload.get(..length));
        assert_eq!(stripped, Ok(Some(expected)));
    }

    #[test]
    fn the_line_for_people_has_its_length_before_it_where_nothing_is_tracked_too() {
        let okay = Okay::parse(UNTRACKED, false);
        let reported = okay.as_ref().map(|okay| (okay.affected_rows, okay.info));
        assert_eq!(reported, Ok((2, &b"Records 2"[..])));
        let mut out = BytesMut::new();
        okay.unwrap_or_default().encode(&mut out, OK, false);
        assert_eq!(out, UNTRACKED);
    }

    #[test]
    fn without_its_changes_a_packet_is_what_a_server_sends_that_tracks_nothing() {
        check_stripped(UNTRACKED, UNTRACKED);
        check_stripped(b"\x00\x02\x01\x02\x40\x00\x00\x09Records 2\x03\x02\x01\x31", UNTRACKED);
        let bare = b"\x00\x00\x00\x02\x00\x00\x00";
        check_stripped(b"\x00\x00\x00\x02\x40\x00\x00\x00\x03\x02\x01\x31", bare);
        check_stripped(bare, bare);
    }
}
