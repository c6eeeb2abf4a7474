//! What a client says first: a wish for encryption, a cancel request, or who it is and what it wants.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::Malformed;
use crate::postgres::frame;
use crate::postgres::reply::{self, SECRET_BYTES_MAX, SECRET_BYTES_MIN};
use crate::reader::Reader;

/// The largest first packet after its length, as the server has it (`MAX_STARTUP_PACKET_LENGTH`).
pub const STARTUP_BYTES_MAX: usize = 10_000;

/// The newest minor version that is spoken here.
pub const MINOR_MAX: u16 = 2;

const LENGTH_BYTES: usize = 4;
const CODE_BYTES: usize = 4;
const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
/// The request for TLS, whole.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];
/// The answer that TLS begins now.
pub const SSL_YES: u8 = b'S';
/// The answer that there is none, and that the conversation goes on as it is.
pub const SSL_NO: u8 = b'N';
/// The protocol's name in TLS (RFC 7301).
pub const ALPN: &[u8] = b"postgresql";
const GSS_ENC: u32 = 80_877_104;

/// The first packet of a connection; after `Ssl` and `GssEnc` another first packet follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstPacket {
    /// May we use TLS?
    Ssl,
    /// May we use GSSAPI encryption?
    GssEnc,
    /// Cancel what that session runs.
    Cancel {
        /// The server process, as BackendKeyData named it.
        pid: i32,
        /// What proves the right to cancel; 4 to 256 bytes.
        secret: Bytes,
    },
    /// Let us begin.
    Startup(Startup),
}

/// Who the client is and what it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// The major version of the protocol; with another than 3 nothing else was read.
    pub major: u16,
    /// The minor version.
    pub minor: u16,
    /// All settings but the protocol's own, in their order, as the client encoded them.
    pub parameters: Vec<(Bytes, Bytes)>,
    /// The settings named `_pq_.…`, which concern the protocol.
    pub protocol_options: Vec<(Bytes, Bytes)>,
}

/// What a client that asked for `minor` and for some options is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiation {
    /// The minor version to speak.
    pub minor: u16,
    /// The options that are not known here: all of them.
    pub unknown_options: Vec<Bytes>,
    /// Whether the client must be told, because it asked for something else.
    pub differs: bool,
}

/// A major version that is not spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{MINOR_MAX}")]
pub struct UnsupportedProtocol {
    /// The major version that was asked for.
    pub major: u16,
    /// The minor version that was asked for.
    pub minor: u16,
}

/// Takes the first packet off `buffer`; `None`, and nothing taken, where it is not complete yet. Lengths are refused
/// before the bytes arrive.
pub fn take_first(buffer: &mut BytesMut) -> Result<Option<FirstPacket>, Malformed> {
    let Some(&length) = buffer.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    let body = length.saturating_sub(LENGTH_BYTES);
    if !(CODE_BYTES..=STARTUP_BYTES_MAX).contains(&body) {
        return Err(Malformed { what: "length of startup packet", at: 0, limit: STARTUP_BYTES_MAX });
    }
    if buffer.len() < length {
        return Ok(None);
    }
    let mut packet = buffer.split_to(length).freeze();
    let mut reader = Reader::new("startup packet", packet.split_off(LENGTH_BYTES));
    let code = reader.get_u32()?;
    Ok(Some(match code {
        SSL => {
            reader.end()?;
            FirstPacket::Ssl
        }
        GSS_ENC => {
            reader.end()?;
            FirstPacket::GssEnc
        }
        CANCEL => {
            let pid = reader.get_i32()?;
            if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&reader.remaining()) {
                return Err(reader.malformed());
            }
            FirstPacket::Cancel { pid, secret: reader.take_rest() }
        }
        version => {
            let [a, b, c, d] = version.to_be_bytes();
            let (major, minor) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            FirstPacket::Startup(startup(major, minor, reader)?)
        }
    }))
}

fn startup(major: u16, minor: u16, mut reader: Reader) -> Result<Startup, Malformed> {
    let mut startup = Startup { major, minor, parameters: Vec::new(), protocol_options: Vec::new() };
    if major != 3 {
        return Ok(startup);
    }
    loop {
        let name = reader.cstr()?;
        if name.is_empty() {
            break;
        }
        let value = reader.cstr()?;
        if name.starts_with(b"_pq_.") {
            startup.protocol_options.push((name, value));
        } else {
            startup.parameters.push((name, value));
        }
    }
    reader.end()?;
    Ok(startup)
}

impl Startup {
    /// The value of a setting; the last one counts, as it does in the server.
    pub fn get(&self, name: &[u8]) -> Option<Bytes> {
        let found = self.parameters.iter().rev().find(|(key, _)| key.as_ref() == name);
        found.map(|(_, value)| value.clone())
    }

    /// The user, unless it is missing or empty.
    pub fn user(&self) -> Option<Bytes> {
        self.get(b"user").filter(|user| !user.is_empty())
    }

    /// The database; the user's name where none is named.
    pub fn database(&self) -> Option<Bytes> {
        self.get(b"database").filter(|database| !database.is_empty()).or_else(|| self.user())
    }

    /// Whether this is a replication connection. A value that the server will refuse counts as yes.
    pub fn replication(&self) -> bool {
        let Some(value) = self.get(b"replication") else {
            return false;
        };
        let value = value.to_ascii_lowercase();
        let names = |word: &str, least: usize| value.len() >= least && word.as_bytes().starts_with(&value);
        !(names("false", 1) || names("no", 1) || names("off", 2) || value == b"0")
    }

    /// Appends this packet with the same settings in the same order. It asks for protocol 3.2 where the client
    /// knows it and else for 3.0, and for none of the protocol's options.
    pub fn encode(&self, out: &mut BytesMut) {
        self.encode_with(None, out);
    }

    /// Appends this packet with `database` in place of the client's.
    pub fn encode_for_server(&self, database: &[u8], out: &mut BytesMut) {
        self.encode_with(Some(database), out);
    }

    fn encode_with(&self, database: Option<&[u8]>, out: &mut BytesMut) {
        frame::put_untagged(out, |out| {
            out.put_u16(3);
            out.put_u16(if self.minor >= 2 { 2 } else { 0 });
            for (name, value) in &self.parameters {
                if database.is_none() || name.as_ref() != b"database" {
                    frame::put_cstr(out, name);
                    frame::put_cstr(out, value);
                }
            }
            if let Some(database) = database {
                frame::put_cstr(out, b"database");
                frame::put_cstr(out, database);
            }
            out.put_u8(0);
        });
    }
}

/// Decides what `startup` is granted. Version 3.1 was never given a meaning, so it is answered with 3.0.
pub fn negotiate(startup: &Startup) -> Result<Negotiation, UnsupportedProtocol> {
    let (major, asked) = (startup.major, startup.minor);
    if major != 3 {
        return Err(UnsupportedProtocol { major, minor: asked });
    }
    let minor = if asked >= MINOR_MAX { MINOR_MAX } else { 0 };
    let unknown_options: Vec<Bytes> = startup.protocol_options.iter().map(|(name, _)| name.clone()).collect();
    let differs = minor != asked || !unknown_options.is_empty();
    Ok(Negotiation { minor, unknown_options, differs })
}

impl Negotiation {
    /// Appends NegotiateProtocolVersion where the client must be told.
    pub fn encode(&self, out: &mut BytesMut) {
        if self.differs {
            reply::negotiate_protocol_version(self.minor, &self.unknown_options, out);
        }
    }
}

/// Appends a cancel request.
pub fn encode_cancel(pid: i32, secret: &[u8], out: &mut BytesMut) {
    frame::put_untagged(out, |out| {
        out.put_u32(CANCEL);
        out.put_i32(pid);
        out.extend_from_slice(secret);
    });
}
