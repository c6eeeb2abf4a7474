//! A MySQL client made of bare bytes, for what no driver would ever send.

use std::net::Ipv4Addr;

use protocol::mysql::auth::native;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::headgate::ADMIN_PASSWORD;
use crate::wait::{SOON, within};

/// `COM_QUIT`.
pub const QUIT: u8 = 0x01;
/// `COM_INIT_DB`.
pub const INIT_DB: u8 = 0x02;
/// `COM_QUERY`.
pub const QUERY: u8 = 0x03;
/// `COM_FIELD_LIST`.
pub const FIELD_LIST: u8 = 0x04;
/// `COM_STATISTICS`.
pub const STATISTICS: u8 = 0x09;
/// `COM_PROCESS_KILL`.
pub const PROCESS_KILL: u8 = 0x0c;
/// `COM_PING`.
pub const PING: u8 = 0x0e;
/// `COM_CHANGE_USER`.
pub const CHANGE_USER: u8 = 0x11;
/// `COM_BINLOG_DUMP`.
pub const BINLOG_DUMP: u8 = 0x12;
/// `COM_STMT_PREPARE`.
pub const PREPARE: u8 = 0x16;
/// `COM_STMT_EXECUTE`.
pub const EXECUTE: u8 = 0x17;
/// `COM_STMT_SEND_LONG_DATA`.
pub const LONG_DATA: u8 = 0x18;
/// `COM_STMT_CLOSE`.
pub const CLOSE: u8 = 0x19;
/// `COM_STMT_RESET`.
pub const RESET: u8 = 0x1a;
/// `COM_SET_OPTION`.
pub const SET_OPTION: u8 = 0x1b;
/// `COM_STMT_FETCH`.
pub const FETCH: u8 = 0x1c;
/// `COM_RESET_CONNECTION`.
pub const RESET_CONNECTION: u8 = 0x1f;

/// A plain client's capabilities: long password and flags, a database, protocol 4.1, transactions, secure login,
/// several statements and results, named plugins. Rows end with an EOF packet.
pub const CAPABILITIES: u32 = 0x0001 | 0x0004 | 0x0008 | 0x0200 | 0x2000 | 0x8000 | 0x1_0000 | 0x2_0000 | 0x8_0000;

/// A login by TLS.
pub const SSL: u32 = 0x0800;
/// The client has files for LOAD DATA LOCAL.
pub const LOCAL_FILES: u32 = 0x0080;
/// One text may hold several statements.
pub const MULTI_STATEMENTS: u32 = 0x1_0000;
/// One statement may have several results.
pub const MULTI_RESULTS: u32 = 0x2_0000;
/// One execution of a prepared statement may have several results.
pub const PS_MULTI_RESULTS: u32 = 0x4_0000;
/// OK packets tell changes of the session.
pub const SESSION_TRACK: u32 = 0x80_0000;
/// Rows end in OK packets.
pub const DEPRECATE_EOF: u32 = 0x100_0000;
/// Statements carry attributes.
pub const QUERY_ATTRIBUTES: u32 = 0x800_0000;

/// The longest body of one packet; what is longer goes on in the next.
pub const PACKET_BYTES_MAX: usize = 0xff_ffff;

const CONNECT_WITH_DB: u32 = 0x0008;

/// Says in a status that another result follows.
const MORE_RESULTS: u16 = 0x0008;

/// One packet of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Its number in the exchange.
    pub sequence: u8,
    /// What follows the header.
    pub body: Vec<u8>,
}

impl Packet {
    /// Whether it says that all went well.
    pub fn is_ok(&self) -> bool {
        self.body.first() == Some(&0x00)
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.body.first() == Some(&0xff)
    }

    /// Whether it ends columns or rows.
    pub fn is_end(&self) -> bool {
        self.body.first() == Some(&0xfe) && self.body.len() < 9
    }

    /// Number, SQLSTATE and text of an error; panics for any other packet.
    pub fn error(&self) -> (u16, String, String) {
        assert!(self.is_error(), "not an error: {self:?}");
        let number = u16::from_le_bytes([self.body[1], self.body[2]]);
        let text = String::from_utf8_lossy(&self.body[3..]).into_owned();
        // Before the login the server tells no SQLSTATE.
        match text.strip_prefix('#') {
            Some(rest) if rest.len() >= 5 => (number, rest[..5].to_owned(), rest[5..].to_owned()),
            _ => (number, String::new(), text),
        }
    }

    /// The status that an OK or the end of rows carries.
    pub fn status(&self) -> u16 {
        let at = if self.is_end() {
            3
        } else {
            assert!(self.is_ok(), "no status: {self:?}");
            let affected = 1 + length_of(self.body[1]);
            affected + length_of(self.body[affected])
        };
        u16::from_le_bytes([self.body[at], self.body[at + 1]])
    }
}

/// How many bytes a length-encoded number takes, by its first.
fn length_of(first: u8) -> usize {
    match first {
        0xfc => 3,
        0xfd => 4,
        0xfe => 9,
        _ => 1,
    }
}

/// A packet's bytes with its header; several packets where the body does not fit into one.
pub fn packet(sequence: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 8);
    let (mut sequence, mut rest) = (sequence, body);
    loop {
        let (now, later) = rest.split_at(rest.len().min(PACKET_BYTES_MAX));
        let length = u32::try_from(now.len()).expect("it fits into three bytes");
        bytes.extend_from_slice(&length.to_le_bytes()[..3]);
        bytes.push(sequence);
        bytes.extend_from_slice(now);
        sequence = sequence.wrapping_add(1);
        rest = later;
        if now.len() < PACKET_BYTES_MAX {
            return bytes;
        }
    }
}

/// A command's bytes with its header.
pub fn command(code: u8, body: &[u8]) -> Vec<u8> {
    packet(0, &[&[code], body].concat())
}

/// What a client says of itself at its login.
#[derive(Debug, Clone)]
pub struct Hello<'a> {
    /// The account.
    pub user: &'a str,
    /// The database; empty for none.
    pub database: &'a str,
    /// The plugin that made the proof.
    pub plugin: &'a str,
    /// The proof of the password, of at most 250 bytes; empty for none.
    pub proof: &'a [u8],
    /// What it can do.
    pub capabilities: u32,
}

impl Hello<'_> {
    /// The body of the packet.
    pub fn body(&self) -> Vec<u8> {
        let mut capabilities = self.capabilities;
        if self.database.is_empty() {
            capabilities &= !CONNECT_WITH_DB;
        }
        let mut body = capabilities.to_le_bytes().to_vec();
        body.extend_from_slice(&0x4000_0000_u32.to_le_bytes());
        // utf8mb4_general_ci, which all servers know.
        body.push(45);
        body.extend_from_slice(&[0; 23]);
        body.extend_from_slice(self.user.as_bytes());
        body.push(0);
        body.push(u8::try_from(self.proof.len()).expect("a proof is short"));
        body.extend_from_slice(self.proof);
        if !self.database.is_empty() {
            body.extend_from_slice(self.database.as_bytes());
            body.push(0);
        }
        body.extend_from_slice(self.plugin.as_bytes());
        body.push(0);
        body
    }
}

/// The login of an account without a password.
pub fn login(user: &str, database: &str, plugin: &str) -> Vec<u8> {
    let hello = Hello { user, database, plugin, proof: &[], capabilities: CAPABILITIES };
    packet(1, &hello.body())
}

/// What a server says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// What it calls its version.
    pub version: String,
    /// The number of the connection.
    pub id: u32,
    /// The plugin that it would log in by.
    pub plugin: String,
    /// What it can do.
    pub capabilities: u32,
    /// What a proof is against.
    pub nonce: [u8; 20],
}

impl Greeting {
    fn read(body: &[u8]) -> Self {
        assert_eq!(body.first(), Some(&10), "not a greeting: {body:?}");
        let end = body.iter().position(|byte| *byte == 0).expect("a version");
        let id = body[end + 1..].first_chunk().expect("a number");
        let at = end + 1 + 4;
        let mut nonce = [0; 20];
        nonce[..8].copy_from_slice(&body[at..at + 8]);
        nonce[8..].copy_from_slice(&body[at + 27..at + 39]);
        let capabilities = [body[at + 9], body[at + 10], body[at + 14], body[at + 15]];
        // Half of the scramble, its end, capabilities, collation, status, length of the scramble, the reserve: then its rest.
        let rest = &body[end + 1 + 4 + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 10 + 13..];
        let plugin = rest.split(|byte| *byte == 0).next().unwrap_or_default();
        Self {
            version: String::from_utf8_lossy(&body[1..end]).into_owned(),
            id: u32::from_le_bytes(*id),
            plugin: String::from_utf8_lossy(plugin).into_owned(),
            capabilities: u32::from_le_bytes(capabilities),
            nonce,
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Connects to a loopback port and hears nothing yet.
    pub async fn connect(port: u16) -> Self {
        let connecting = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        let stream = within("connecting", SOON, connecting).await;
        let stream = stream.unwrap_or_else(|error| panic!("connecting to port {port}: {error}"));
        let _ = stream.set_nodelay(true);
        Self { stream }
    }

    /// Connects and hears the greeting.
    pub async fn greeted(port: u16) -> (Self, Greeting) {
        let mut raw = Self::connect(port).await;
        let greeting = raw.packet().await.expect("a server greets");
        (raw, Greeting::read(&greeting.body))
    }

    /// Connects and logs in as an account without a password; also tells what the server said first.
    pub async fn login(port: u16, user: &str, database: &str) -> (Self, Greeting) {
        let (raw, greeting, _) = Self::login_with(port, user, database, CAPABILITIES).await;
        (raw, greeting)
    }

    /// As [`Raw::login`], by a client that can do this, as far as the server offers it; also tells the last packet.
    pub async fn login_with(port: u16, user: &str, database: &str, capabilities: u32) -> (Self, Greeting, Packet) {
        let (mut raw, greeting) = Self::greeted(port).await;
        let hello = Hello {
            user,
            database,
            plugin: &greeting.plugin,
            proof: &[],
            capabilities: capabilities & greeting.capabilities,
        };
        raw.send(&packet(1, &hello.body())).await;
        let mut answer = raw.packet().await.expect("a login is answered");
        if answer.body.first() == Some(&0xfe) {
            // Whatever the other plugin is: a password of no bytes is answered by no bytes.
            raw.send(&packet(answer.sequence + 1, &[])).await;
            answer = raw.packet().await.expect("a login is answered");
        }
        assert!(answer.is_ok(), "refused: {answer:?}");
        (raw, greeting, answer)
    }

    /// Connects to the admin console and logs in with its password.
    pub async fn login_console(port: u16) -> Self {
        Self::login_console_with(port, CAPABILITIES).await
    }

    /// As [`Raw::login_console`], by a client that can do this, as far as it is offered.
    pub async fn login_console_with(port: u16, capabilities: u32) -> Self {
        let (mut raw, greeting) = Self::greeted(port).await;
        let hello = Hello {
            user: "headgate",
            database: "headgate",
            plugin: "mysql_native_password",
            proof: &native::Key::of(ADMIN_PASSWORD.as_bytes()).prove(&greeting.nonce),
            capabilities: capabilities & greeting.capabilities,
        };
        raw.send(&packet(1, &hello.body())).await;
        let answer = raw.packet().await.expect("a login is answered");
        assert!(answer.is_ok(), "refused: {answer:?}");
        raw
    }

    /// Sends bytes as they are; a peer that has closed already is not an error here, hearing will tell.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = within("sending", SOON, self.stream.write_all(bytes)).await;
    }

    /// Sends every byte in a segment of its own.
    pub async fn send_bytewise(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send(std::slice::from_ref(byte)).await;
        }
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        let _ = within("closing", SOON, self.stream.shutdown()).await;
    }

    /// The next packet; none when the peer closed.
    pub async fn packet(&mut self) -> Option<Packet> {
        within("reading a packet", SOON, read(&mut self.stream)).await
    }

    /// Sends and hears at once, so that neither side waits for the other, until the last packet came or the peer
    /// closed.
    pub async fn exchange(
        &mut self,
        bytes: &[u8],
        bytewise: bool,
        mut is_last: impl FnMut(&Packet) -> bool,
    ) -> Vec<Packet> {
        let (mut hearing, mut saying) = self.stream.split();
        let say = async {
            let step = if bytewise { 1 } else { bytes.len().max(1) };
            for part in bytes.chunks(step) {
                // A peer that has closed already is not an error here, hearing will tell.
                if saying.write_all(part).await.is_err() {
                    break;
                }
            }
        };
        let hear = async {
            let mut packets = Vec::new();
            while let Some(packet) = read(&mut hearing).await {
                let last = is_last(&packet);
                packets.push(packet);
                if last {
                    break;
                }
            }
            packets
        };
        let both = async { tokio::join!(say, hear).1 };
        within("an exchange", SOON, both).await
    }

    /// All packets of a command's answer, or up to the end of the connection.
    pub async fn answer(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        // The first packet of a result, then columns, then rows.
        let mut ends = 0;
        while let Some(packet) = self.packet().await {
            let last = if packet.is_error() {
                true
            } else if packet.is_end() {
                ends += 1;
                ends == 2 && packet.status() & MORE_RESULTS == 0
            } else {
                ends == 0
                    && starts_result(&packets)
                    && (packet.is_ok() && packet.status() & MORE_RESULTS == 0 || packet.body.first() == Some(&0xfb))
            };
            ends %= 2;
            packets.push(packet);
            if last {
                break;
            }
        }
        packets
    }

    /// Everything that comes until the peer closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = self.stream.read_to_end(&mut bytes);
        let _ = within("reading to the end", SOON, read).await;
        bytes
    }

    /// Sends a command and returns the packets of its answer, which must be of one packet or a result.
    pub async fn command(&mut self, code: u8, body: &[u8]) -> Vec<Packet> {
        self.send(&command(code, body)).await;
        self.answer().await
    }

    /// Sends a query and returns the packets of its answer.
    pub async fn query(&mut self, sql: &str) -> Vec<Packet> {
        self.command(QUERY, sql.as_bytes()).await
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Packet> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await.ok()?;
    let [low, middle, high, sequence] = header;
    let length = u32::from_le_bytes([low, middle, high, 0]);
    let mut body = vec![0; usize::try_from(length).ok()?];
    stream.read_exact(&mut body).await.ok()?;
    Some(Packet { sequence, body })
}

/// Whether the next packet is the first of a result: nothing came yet, or what came last ended one.
fn starts_result(packets: &[Packet]) -> bool {
    let columns = packets.iter().filter(|packet| packet.is_end()).count() % 2 == 1;
    packets.last().is_none_or(|last| !columns && (last.is_end() || last.is_ok()))
}
