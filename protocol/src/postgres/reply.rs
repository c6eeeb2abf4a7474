//! The server's frames: tags, and the bodies that a proxy must understand or say itself.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::Malformed;
use crate::postgres::frame;
use crate::reader::Reader;

/// A demand for proof, or its success.
pub const AUTHENTICATION: u8 = b'R';
/// The key for cancelling.
pub const BACKEND_KEY_DATA: u8 = b'K';
/// CloseComplete.
pub const CLOSE_COMPLETE: u8 = b'3';
/// A statement is done.
pub const COMMAND_COMPLETE: u8 = b'C';
/// The server is ready for the client's COPY data.
pub const COPY_IN_RESPONSE: u8 = b'G';
/// The server is about to send COPY data.
pub const COPY_OUT_RESPONSE: u8 = b'H';
/// Both sides send COPY data: replication.
pub const COPY_BOTH_RESPONSE: u8 = b'W';
/// A piece of a COPY.
pub const COPY_DATA: u8 = b'd';
/// The end of a COPY.
pub const COPY_DONE: u8 = b'c';
/// One row.
pub const DATA_ROW: u8 = b'D';
/// Something failed.
pub const ERROR_RESPONSE: u8 = b'E';
/// The minor version and the options that the server knows.
pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
/// Something worth knowing; may come at any time.
pub const NOTICE_RESPONSE: u8 = b'N';
/// A NOTIFY of another session; may come at any time.
pub const NOTIFICATION_RESPONSE: u8 = b'A';
/// The parameters of a statement.
pub const PARAMETER_DESCRIPTION: u8 = b't';
/// A setting's value; may come at any time.
pub const PARAMETER_STATUS: u8 = b'S';
/// Everything before this is answered.
pub const READY_FOR_QUERY: u8 = b'Z';
/// The columns of the rows to come.
pub const ROW_DESCRIPTION: u8 = b'T';

/// The longest secret of a cancel key (since protocol 3.2; before, always four bytes).
pub const SECRET_BYTES_MAX: usize = 256;
/// The shortest secret of a cancel key.
pub const SECRET_BYTES_MIN: usize = 4;

/// The transaction status that a ReadyForQuery reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReadyStatus {
    /// No transaction is open.
    #[default]
    Idle,
    /// In a transaction.
    InTransaction,
    /// In a transaction that failed and waits for its end.
    Failed,
}

impl ReadyStatus {
    /// Reads the body of a ReadyForQuery.
    #[inline]
    pub const fn parse(body: &[u8]) -> Result<Self, Malformed> {
        match body {
            [b'I'] => Ok(Self::Idle),
            [b'T'] => Ok(Self::InTransaction),
            [b'E'] => Ok(Self::Failed),
            _ => Err(Malformed { what: "ReadyForQuery", at: 0, limit: body.len() }),
        }
    }

    /// The byte that says it.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }

    /// Appends the ReadyForQuery that says it.
    pub fn encode(self, out: &mut BytesMut) {
        frame::put(out, READY_FOR_QUERY, |out| out.put_u8(self.byte()));
    }
}

/// A setting and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterStatus {
    /// The setting.
    pub name: Bytes,
    /// Its value now.
    pub value: Bytes,
}

impl ParameterStatus {
    /// Reads the body.
    pub fn parse(body: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new("ParameterStatus", body);
        let status = Self { name: reader.cstr()?, value: reader.cstr()? };
        reader.end()?;
        Ok(status)
    }

    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        frame::put(out, PARAMETER_STATUS, |out| {
            frame::put_cstr(out, &self.name);
            frame::put_cstr(out, &self.value);
        });
    }
}

/// The key with which a session's statements can be cancelled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendKeyData {
    /// The server process.
    pub pid: i32,
    /// What proves the right to cancel.
    pub secret: Bytes,
}

impl BackendKeyData {
    /// Reads the body.
    pub fn parse(body: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new("BackendKeyData", body);
        let pid = reader.get_i32()?;
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&reader.remaining()) {
            return Err(reader.malformed());
        }
        Ok(Self { pid, secret: reader.take_rest() })
    }

    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        frame::put(out, BACKEND_KEY_DATA, |out| {
            out.put_i32(self.pid);
            out.extend_from_slice(&self.secret);
        });
    }
}

/// What an ErrorResponse or a NoticeResponse says. Fields that a server left out are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorFields {
    /// How bad it is, in the server's language unless the server sent it in English too.
    pub severity: Bytes,
    /// The SQLSTATE.
    pub code: Bytes,
    /// What happened.
    pub message: Bytes,
    /// More about it.
    pub detail: Bytes,
    /// What to do.
    pub hint: Bytes,
}

impl ErrorFields {
    /// Reads the body as far as it makes sense: even a broken error is an error.
    pub fn parse(body: Bytes) -> Self {
        let mut fields = Self::default();
        let mut reader = Reader::new("ErrorResponse", body);
        while let Ok(kind @ 1..) = reader.get_u8() {
            let Ok(text) = reader.cstr() else { break };
            match kind {
                b'V' => fields.severity = text,
                b'S' if fields.severity.is_empty() => fields.severity = text,
                b'C' => fields.code = text,
                b'M' => fields.message = text,
                b'D' => fields.detail = text,
                b'H' => fields.hint = text,
                _ => {}
            }
        }
        fields
    }

    /// One line for people: severity, code and message.
    pub fn summary(&self) -> String {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        format!("{} {}: {}", text(&self.severity), text(&self.code), text(&self.message))
    }
}

/// The text of a CommandComplete, such as `INSERT 0 1`.
pub fn command_complete(body: Bytes) -> Result<Bytes, Malformed> {
    let mut reader = Reader::new("CommandComplete", body);
    let text = reader.cstr()?;
    reader.end()?;
    Ok(text)
}

/// The type oids of a ParameterDescription.
pub fn parameter_description(body: Bytes) -> Result<Vec<u32>, Malformed> {
    let mut reader = Reader::new("ParameterDescription", body);
    let count = usize::from(reader.get_u16()?);
    if reader.remaining() != count.saturating_mul(size_of::<u32>()) {
        return Err(reader.malformed());
    }
    (0..count).map(|_| reader.get_u32()).collect()
}

/// One column of a RowDescription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, as the server encoded it.
    pub name: Bytes,
    /// Its type.
    pub type_oid: u32,
}

/// The columns of a RowDescription.
pub fn row_description(body: Bytes) -> Result<Vec<Column>, Malformed> {
    /// After the name: table, column number, type, size, modifier, format.
    const FIXED: usize = 18;
    let mut reader = Reader::new("RowDescription", body);
    let count = usize::from(reader.get_u16()?);
    if count.saturating_mul(FIXED) > reader.remaining() {
        return Err(reader.malformed());
    }
    let mut columns = Vec::with_capacity(count);
    for _ in 0..count {
        let name = reader.cstr()?;
        reader.get_u32()?;
        reader.get_u16()?;
        let type_oid = reader.get_u32()?;
        reader.slice(8)?;
        columns.push(Column { name, type_oid });
    }
    reader.end()?;
    Ok(columns)
}

/// Appends the frame that names the protocol version and the options which are not known.
pub fn negotiate_protocol_version(minor: u16, unknown_options: &[Bytes], out: &mut BytesMut) {
    frame::put(out, NEGOTIATE_PROTOCOL_VERSION, |out| {
        out.put_u16(3);
        out.put_u16(minor);
        out.put_u32(u32::try_from(unknown_options.len()).unwrap_or(u32::MAX));
        for option in unknown_options {
            frame::put_cstr(out, option);
        }
    });
}
