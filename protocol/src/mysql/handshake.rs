//! The first packets of a connection: the server's greeting, the request for TLS, and who the client is.
//!
//! MySQL internals manual, "Protocol::HandshakeV10", "Protocol::SSLRequest", "Protocol::HandshakeResponse41" and
//! "COM_CHANGE_USER". MariaDB tells 32 more capabilities in bytes that MySQL leaves zero; a server that says
//! [`Capabilities::LONG_PASSWORD`] is taken for a MySQL server and never asked for them.

use std::ops::{BitAnd, BitOr, BitOrAssign};

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::Malformed;
use crate::mysql::frame::put_cstr;
use crate::mysql::lenenc::{Fields, put_string};

/// The length of what a password is scrambled with.
pub const NONCE_BYTES: usize = 20;

/// The only version of the greeting that anybody speaks.
const PROTOCOL_VERSION: u8 = 10;

/// The longest text of connection attributes, as in the server.
const ATTRIBUTES_BYTES_MAX: usize = 64 << 10;

/// What both sides agree on, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(pub u32);

macro_rules! capabilities {
    ($($name:ident: $bit:literal, $doc:literal;)*) => {
        impl Capabilities {
            $(
                #[doc = $doc]
                pub const $name: Self = Self(1 << $bit);
            )*
        }
    };
}

capabilities! {
    LONG_PASSWORD: 0, "Nothing any more; from a server it says \"not MariaDB\", from a client \"no bits of MariaDB's\".";
    FOUND_ROWS: 1, "An UPDATE counts the rows that it found instead of those that it changed.";
    LONG_FLAG: 2, "Column flags have two bytes.";
    CONNECT_WITH_DB: 3, "The login names a database.";
    COMPRESS: 5, "Packets come compressed by zlib.";
    LOCAL_FILES: 7, "The client can send files for LOAD DATA LOCAL.";
    IGNORE_SPACE: 8, "Spaces are allowed between a function's name and its parenthesis.";
    PROTOCOL_41: 9, "The protocol of version 4.1.";
    INTERACTIVE: 10, "A person types: the longer timeout counts.";
    SSL: 11, "The connection goes on in TLS.";
    TRANSACTIONS: 13, "Status flags tell about transactions.";
    SECURE_CONNECTION: 15, "Passwords are scrambled with twenty bytes.";
    MULTI_STATEMENTS: 16, "One query may hold several statements.";
    MULTI_RESULTS: 17, "One query may have several results.";
    PS_MULTI_RESULTS: 18, "One execution of a prepared statement may have several results.";
    PLUGIN_AUTH: 19, "Login plugins are told by name.";
    CONNECT_ATTRS: 20, "The login tells attributes of the client.";
    PLUGIN_AUTH_LENENC: 21, "What the client proves may be longer than 255 bytes.";
    EXPIRED_PASSWORDS: 22, "The client copes with a session that may only change its password.";
    SESSION_TRACK: 23, "OK packets tell changes of the session.";
    DEPRECATE_EOF: 24, "OK packets stand in place of EOF packets.";
    OPTIONAL_METADATA: 25, "Results may come without the description of their columns.";
    ZSTD: 26, "Packets come compressed by zstd.";
    QUERY_ATTRIBUTES: 27, "Statements carry attributes.";
    MULTI_FACTOR: 28, "A login may ask for several proofs.";
    PROGRESS: 29, "MariaDB's servers report the progress of long statements.";
}

impl Capabilities {
    /// Whether all of `other` are there.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These, and those that are only in `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These, but none of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those that are in both.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl BitOrAssign for Capabilities {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.with(other);
    }
}

impl BitAnd for Capabilities {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        self.common(other)
    }
}

/// What the server says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Its version, as text.
    pub version: Bytes,
    /// The connection's number.
    pub thread: u32,
    /// What the password is to be scrambled with.
    pub nonce: [u8; NONCE_BYTES],
    /// What it can do.
    pub capabilities: Capabilities,
    /// What only MariaDB can do, the upper 32 bits; zero elsewhere.
    pub extended: u32,
    /// The collation that sessions begin with.
    pub charset: u8,
    /// The status of the session.
    pub status: u16,
    /// The login plugin that it takes unless the account has another.
    pub plugin: Bytes,
}

impl Greeting {
    /// Reads the body. A server that does not scramble with twenty bytes is too old to be spoken to.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Fields::new("greeting", body);
        if reader.u8()? != PROTOCOL_VERSION {
            return Err(reader.malformed());
        }
        let version = copied(reader.cstr()?);
        let thread = reader.u32()?;
        let first = reader.take(8)?;
        reader.take(1)?;
        let low = reader.u16()?;
        let charset = reader.u8()?;
        let status = reader.u16()?;
        let high = reader.u16()?;
        let capabilities = Capabilities(u32::from(low) | (u32::from(high) << 16));
        let nonce_length = reader.u8()?;
        reader.take(6)?;
        let extended = reader.u32()?;
        let required = Capabilities::PROTOCOL_41 | Capabilities::SECURE_CONNECTION;
        if !capabilities.has(required) {
            return Err(reader.malformed());
        }
        // The second part has thirteen bytes or more; the last is a zero that belongs to no nonce.
        let rest = usize::from(nonce_length).saturating_sub(8).max(13);
        let second = reader.take(rest.min(reader.remaining()))?;
        let mut nonce = [0; NONCE_BYTES];
        let bytes = first.iter().chain(second.iter());
        if first.len().saturating_add(second.len()) < NONCE_BYTES {
            return Err(reader.malformed());
        }
        for (to, from) in nonce.iter_mut().zip(bytes) {
            *to = *from;
        }
        let plugin = if capabilities.has(Capabilities::PLUGIN_AUTH) { cstr_or_rest(&mut reader) } else { Bytes::new() };
        let is_mariadb = !capabilities.has(Capabilities::LONG_PASSWORD);
        Ok(Self {
            version,
            thread,
            nonce,
            capabilities,
            extended: if is_mariadb { extended } else { 0 },
            charset,
            status,
            plugin,
        })
    }

    /// Appends the body.
    pub fn encode(&self, out: &mut BytesMut) {
        let (first, second) = self.nonce.split_at(8);
        let [b0, b1, b2, b3] = self.capabilities.0.to_le_bytes();
        out.put_u8(PROTOCOL_VERSION);
        put_cstr(out, &self.version);
        out.put_u32_le(self.thread);
        out.extend_from_slice(first);
        out.put_u8(0);
        out.extend_from_slice(&[b0, b1]);
        out.put_u8(self.charset);
        out.put_u16_le(self.status);
        out.extend_from_slice(&[b2, b3]);
        // The nonce and its closing zero.
        out.put_u8(21);
        out.put_bytes(0, 6);
        let is_mariadb = !self.capabilities.has(Capabilities::LONG_PASSWORD);
        out.put_u32_le(if is_mariadb { self.extended } else { 0 });
        out.extend_from_slice(second);
        out.put_u8(0);
        if self.capabilities.has(Capabilities::PLUGIN_AUTH) {
            put_cstr(out, &self.plugin);
        }
    }
}

/// What a client says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstPacket {
    /// That the connection goes on in TLS; who it is comes behind it.
    Ssl(Capabilities),
    /// Who it is.
    Response(Box<Response>),
}

/// Who the client is and what it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// What it can do and wants.
    pub capabilities: Capabilities,
    /// What only MariaDB's clients want of MariaDB's servers.
    pub extended: u32,
    /// The largest packet that it takes.
    pub max_packet: u32,
    /// The collation of its statements.
    pub charset: u8,
    /// The user.
    pub user: Bytes,
    /// What it proves itself with.
    pub proof: Bytes,
    /// The database that it wants to begin in.
    pub database: Option<Bytes>,
    /// The plugin that made the proof.
    pub plugin: Bytes,
    /// The connection attributes: lengths and texts, without the length of the whole.
    pub attributes: Bytes,
    /// The level of compression by zstd.
    pub zstd_level: Option<u8>,
}

impl FirstPacket {
    /// Reads the body. The protocol from before 4.1 is refused.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Fields::new("handshake response", body);
        let capabilities = Capabilities(reader.u32()?);
        if !capabilities.has(Capabilities::PROTOCOL_41) {
            return Err(reader.malformed());
        }
        let max_packet = reader.u32()?;
        let charset = reader.u8()?;
        reader.take(19)?;
        let extended = reader.u32()?;
        if reader.remaining() == 0 && capabilities.has(Capabilities::SSL) {
            return Ok(Self::Ssl(capabilities));
        }
        let user = copied(reader.cstr()?);
        let proof = if capabilities.has(Capabilities::PLUGIN_AUTH_LENENC) {
            copied(reader.string()?)
        } else if capabilities.has(Capabilities::SECURE_CONNECTION) {
            let length = reader.u8()?;
            copied(reader.take(usize::from(length))?)
        } else {
            copied(reader.cstr()?)
        };
        let wants_database = capabilities.has(Capabilities::CONNECT_WITH_DB);
        let database = optional(&mut reader, wants_database).filter(|name| !name.is_empty());
        let names_plugin = capabilities.has(Capabilities::PLUGIN_AUTH);
        let plugin = optional(&mut reader, names_plugin).unwrap_or_default();
        let attributes = read_attributes(&mut reader, capabilities)?;
        let zstd_level =
            if capabilities.has(Capabilities::ZSTD) && reader.remaining() > 0 { Some(reader.u8()?) } else { None };
        let is_mariadb = !capabilities.has(Capabilities::LONG_PASSWORD);
        Ok(Self::Response(Box::new(Response {
            capabilities,
            extended: if is_mariadb { extended } else { 0 },
            max_packet,
            charset,
            user,
            proof,
            database,
            plugin,
            attributes,
            zstd_level,
        })))
    }
}

impl Response {
    /// Appends the body, with those parts that the capabilities announce.
    pub fn encode(&self, out: &mut BytesMut) {
        self.put_head(out);
        put_cstr(out, &self.user);
        if self.capabilities.has(Capabilities::PLUGIN_AUTH_LENENC) {
            put_string(out, &self.proof);
        } else if self.capabilities.has(Capabilities::SECURE_CONNECTION) {
            let proof = self.proof.get(..255).unwrap_or(&self.proof);
            out.put_u8(u8::try_from(proof.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(proof);
        } else {
            put_cstr(out, &self.proof);
        }
        if self.capabilities.has(Capabilities::CONNECT_WITH_DB) {
            put_cstr(out, self.database.as_deref().unwrap_or_default());
        }
        if self.capabilities.has(Capabilities::PLUGIN_AUTH) {
            put_cstr(out, &self.plugin);
        }
        if self.capabilities.has(Capabilities::CONNECT_ATTRS) {
            put_string(out, &self.attributes);
        }
        if self.capabilities.has(Capabilities::ZSTD) {
            out.put_u8(self.zstd_level.unwrap_or_default());
        }
    }

    /// Appends the body of the request for TLS that goes ahead of this.
    pub fn encode_ssl_request(&self, out: &mut BytesMut) {
        self.put_head(out);
    }

    fn put_head(&self, out: &mut BytesMut) {
        out.put_u32_le(self.capabilities.0);
        out.put_u32_le(self.max_packet);
        out.put_u8(self.charset);
        out.put_bytes(0, 19);
        let is_mariadb = !self.capabilities.has(Capabilities::LONG_PASSWORD);
        out.put_u32_le(if is_mariadb { self.extended } else { 0 });
    }

    /// One of the connection attributes, such as `program_name`.
    pub fn attribute(&self, name: &[u8]) -> Option<Bytes> {
        attribute(&self.attributes, name)
    }
}

/// One attribute out of the text that a client sent; what is malformed has none.
pub fn attribute(attributes: &[u8], name: &[u8]) -> Option<Bytes> {
    let mut reader = Fields::new("connection attributes", attributes);
    while reader.remaining() > 0 {
        let key = reader.string().ok()?;
        let value = reader.string().ok()?;
        if key == name {
            return Some(copied(value));
        }
    }
    None
}

/// What a logged-in client says to become another user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeUser {
    /// The user.
    pub user: Bytes,
    /// What it proves itself with, against the nonce of the greeting.
    pub proof: Bytes,
    /// The database to begin in.
    pub database: Option<Bytes>,
    /// The collation of its statements, where it tells one.
    pub charset: Option<u16>,
    /// The plugin that made the proof.
    pub plugin: Bytes,
    /// The connection attributes, as in [`Response`].
    pub attributes: Bytes,
}

impl ChangeUser {
    /// Reads what follows the command's byte.
    pub fn parse(body: &[u8], capabilities: Capabilities) -> Result<Self, Malformed> {
        let mut reader = Fields::new("COM_CHANGE_USER", body);
        let user = copied(reader.cstr()?);
        let proof = if capabilities.has(Capabilities::SECURE_CONNECTION) {
            let length = reader.u8()?;
            copied(reader.take(usize::from(length))?)
        } else {
            copied(reader.cstr()?)
        };
        let database = optional(&mut reader, true).filter(|name| !name.is_empty());
        let charset = if reader.remaining() >= 2 { Some(reader.u16()?) } else { None };
        let names_plugin = capabilities.has(Capabilities::PLUGIN_AUTH);
        let plugin = optional(&mut reader, names_plugin).unwrap_or_default();
        let attributes = read_attributes(&mut reader, capabilities)?;
        Ok(Self { user, proof, database, charset, plugin, attributes })
    }
}

fn copied(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// A text up to its zero byte, which some clients leave out where it is the last; the server is as lenient.
fn cstr_or_rest(reader: &mut Fields<'_>) -> Bytes {
    copied(reader.cstr().unwrap_or_else(|_| reader.rest()))
}

fn optional(reader: &mut Fields<'_>, announced: bool) -> Option<Bytes> {
    (announced && reader.remaining() > 0).then(|| cstr_or_rest(reader))
}

fn read_attributes(reader: &mut Fields<'_>, capabilities: Capabilities) -> Result<Bytes, Malformed> {
    if !capabilities.has(Capabilities::CONNECT_ATTRS) || reader.remaining() == 0 {
        return Ok(Bytes::new());
    }
    let attributes = copied(reader.string()?);
    if attributes.len() > ATTRIBUTES_BYTES_MAX {
        return Err(reader.malformed());
    }
    Ok(attributes)
}
