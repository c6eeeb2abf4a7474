//! The packets of the admin console: read whole, bounded, and taken apart without trust.
//!
//! Not served by opensrv-mysql: what it has published reads past its own buffer where a client sends two packets at
//! once, and answers commands that it did not carry out.

use std::error::Error;
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use protocol::mysql::frame;
use protocol::mysql::lenenc::{put_count, put_string};
use proxy::client::Client;

use super::values;
use crate::console::answer::{Refusal, Type, Value};
use crate::console::session::{Connection, MESSAGE_BYTES_MAX};

/// Flags of the capabilities that change how the console speaks.
mod capability {
    pub(super) const DEPRECATE_EOF: u32 = 1 << 24;
    pub(super) const OPTIONAL_METADATA: u32 = 1 << 25;
    pub(super) const QUERY_ATTRIBUTES: u32 = 1 << 27;
    pub(super) const MULTI_STATEMENTS: u32 = 1 << 16;
    pub(super) const SESSION_TRACK: u32 = 1 << 23;
}

/// Flags of the status in OK and EOF packets.
pub(super) mod status {
    pub(in super::super) const IN_TRANSACTION: u16 = 0x0001;
    pub(in super::super) const AUTOCOMMIT: u16 = 0x0002;
    pub(in super::super) const MORE_RESULTS: u16 = 0x0008;
}

/// A column of an answer: its title and type.
pub(super) type Titled = (String, Type);

/// The client's connection, and what is written to it.
pub(super) struct Wire {
    pub(super) connection: Connection,
    sequence: u8,
    capabilities: u32,
}

impl Wire {
    /// Goes on with a connection after its login.
    pub(super) fn new(stream: Client, leftover: BytesMut, capabilities: u32) -> Self {
        Self { connection: Connection::new(stream, leftover), sequence: 0, capabilities }
    }

    /// Whether the client may send several statements in one text.
    pub(super) fn takes_several(&self) -> bool {
        self.capabilities & capability::MULTI_STATEMENTS != 0
    }

    /// Whether statements come with attributes before them.
    pub(super) fn has_attributes(&self) -> bool {
        self.capabilities & capability::QUERY_ATTRIBUTES != 0
    }

    /// Takes the next command with its body, where all of it was read.
    pub(super) fn take(&mut self) -> io::Result<Option<(u8, Bytes)>> {
        let invalid = |error: Box<dyn Error + Send + Sync>| io::Error::new(io::ErrorKind::InvalidData, error);
        let taken = frame::take(&mut self.connection.incoming, MESSAGE_BYTES_MAX);
        let Some(payload) = taken.map_err(|error| invalid(error.into()))? else {
            return Ok(None);
        };
        self.sequence = payload.sequence.wrapping_add(1);
        let mut body = payload.body;
        let command = body.try_get_u8().map_err(|_| invalid("a packet without a command".into()))?;
        Ok(Some((command, body)))
    }

    fn put(&mut self, body: &[u8]) {
        frame::put(&mut self.connection.outgoing, &mut self.sequence, body);
    }

    /// Writes one packet as it is.
    pub(super) fn raw(&mut self, body: &[u8]) {
        self.put(body);
    }

    /// Writes that a statement is done.
    pub(super) fn ok(&mut self, status: u16, warnings: u16) {
        self.done(0x00, status, warnings);
    }

    fn done(&mut self, head: u8, status: u16, warnings: u16) {
        let mut body = BytesMut::new();
        body.put_slice(&[head, 0, 0]);
        body.put_u16_le(status);
        body.put_u16_le(warnings);
        if self.capabilities & capability::SESSION_TRACK != 0 {
            body.put_u8(0);
        }
        self.put(&body);
    }

    /// Writes what ends columns, or rows.
    pub(super) fn eof(&mut self, status: u16, warnings: u16) {
        let mut body = BytesMut::new();
        body.put_u8(0xFE);
        body.put_u16_le(warnings);
        body.put_u16_le(status);
        self.put(&body);
    }

    fn end_of_rows(&mut self, status: u16, warnings: u16) {
        if self.deprecates_eof() {
            self.done(0xFE, status, warnings);
        } else {
            self.eof(status, warnings);
        }
    }

    fn deprecates_eof(&self) -> bool {
        self.capabilities & capability::DEPRECATE_EOF != 0
    }

    /// Writes an error.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        let mut body = BytesMut::new();
        body.put_u8(0xFF);
        body.put_u16_le(number(refusal.code));
        body.put_u8(b'#');
        body.put_slice(refusal.code.as_bytes());
        body.put_slice(refusal.text.as_bytes());
        if !refusal.hint.is_empty() {
            body.put_slice(b"; ");
            body.put_slice(refusal.hint.as_bytes());
        }
        self.put(&body);
    }

    /// Writes columns and rows, in the text or the binary form.
    pub(super) fn rows(&mut self, columns: &[Titled], rows: &[Vec<Value>], binary: bool, status: u16, warnings: u16) {
        let mut body = BytesMut::new();
        if self.capabilities & capability::OPTIONAL_METADATA != 0 {
            body.put_u8(1);
        }
        put_count(&mut body, columns.len() as u64);
        self.put(&body);
        self.columns(columns);
        if !self.deprecates_eof() {
            self.eof(status, warnings);
        }
        for row in rows {
            body.clear();
            if binary {
                values::put_binary_row(&mut body, row);
            } else {
                for value in row {
                    match values::text(value) {
                        Some(text) => put_string(&mut body, text.as_bytes()),
                        None => body.put_u8(0xFB),
                    }
                }
            }
            self.put(&body);
        }
        self.end_of_rows(status, warnings);
    }

    /// Writes the descriptions of columns alone.
    pub(super) fn columns(&mut self, columns: &[Titled]) {
        for (title, of) in columns {
            let (kind, length, charset, decimals) = values::described(*of);
            let mut body = BytesMut::new();
            for text in ["def", "headgate", "", "", title.as_str(), ""] {
                put_string(&mut body, text.as_bytes());
            }
            body.put_u8(12);
            body.put_u16_le(charset);
            body.put_u32_le(length);
            body.put_u8(kind);
            body.put_u16_le(0);
            body.put_u8(decimals);
            body.put_u16_le(0);
            self.put(&body);
        }
    }

    /// Writes the answer to COM_STMT_PREPARE.
    pub(super) fn prepared(&mut self, id: u32, columns: &[Titled], parameters: usize, status: u16) {
        let mut body = BytesMut::new();
        body.put_u8(0);
        body.put_u32_le(id);
        body.put_u16_le(u16::try_from(columns.len()).unwrap_or(u16::MAX));
        body.put_u16_le(u16::try_from(parameters).unwrap_or(u16::MAX));
        body.put_slice(&[0, 0, 0]);
        if self.capabilities & capability::OPTIONAL_METADATA != 0 {
            body.put_u8(1);
        }
        self.put(&body);
        let places: Vec<Titled> = (0..parameters).map(|_| ("?".to_owned(), Type::Text)).collect();
        for described in [&places[..], columns] {
            if !described.is_empty() {
                self.columns(described);
                if !self.deprecates_eof() {
                    self.eof(status, 0);
                }
            }
        }
    }
}

/// The error number that drivers choose their classes of errors by.
pub(super) fn number(code: &str) -> u16 {
    match code {
        "42601" => 1064,
        "0A000" => 1235,
        "26000" => 1243,
        "08S01" => 1047,
        "28000" => 1045,
        "54000" => 1461,
        _ => 1105,
    }
}
