//! A PostgreSQL client made of bare bytes, for what no driver would ever send.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::message::{query, startup};
use crate::wait::{SOON, within};

/// One frame of the server: its tag and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The type byte.
    pub tag: u8,
    /// What follows the length.
    pub body: Vec<u8>,
}

impl Frame {
    /// The value of a field of an error or notice, by its letter.
    pub fn field(&self, letter: char) -> Option<String> {
        self.body.split(|byte| *byte == 0).find_map(|field| {
            let (first, text) = field.split_first()?;
            (char::from(*first) == letter).then(|| String::from_utf8_lossy(text).into_owned())
        })
    }

    /// The SQLSTATE of an error; panics for any other frame.
    pub fn sqlstate(&self) -> String {
        assert_eq!(char::from(self.tag), 'E', "not an error: {self:?}");
        self.field('C').unwrap_or_else(|| panic!("an error without SQLSTATE: {self:?}"))
    }
}

/// What a client hears.
#[derive(Debug)]
pub struct Hearing {
    stream: BufReader<OwnedReadHalf>,
}

impl Hearing {
    /// One untagged byte, such as the answer to a request for TLS; none at the end.
    pub async fn byte(&mut self) -> Option<u8> {
        let read = within("reading one byte", SOON, self.stream.read_u8());
        read.await.ok()
    }

    /// The next frame; none when the peer closed.
    pub async fn frame(&mut self) -> Option<Frame> {
        let read = async {
            let tag = self.stream.read_u8().await.ok()?;
            let length = self.stream.read_u32().await.ok()?;
            let length = usize::try_from(length).ok()?.checked_sub(4)?;
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.ok()?;
            Some(Frame { tag, body })
        };
        within("reading a frame", SOON, read).await
    }

    /// All frames up to and including the next `ReadyForQuery`, or up to the end of the connection.
    pub async fn until_ready(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame().await {
            let ready = frame.tag == b'Z';
            frames.push(frame);
            if ready {
                break;
            }
        }
        frames
    }

    /// Everything that comes until the peer closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = self.stream.read_to_end(&mut bytes);
        let _ = within("reading to the end", SOON, read).await;
        bytes
    }
}

/// What a client says.
#[derive(Debug)]
pub struct Saying {
    stream: OwnedWriteHalf,
}

impl Saying {
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
}

/// A connection; its halves may be used apart.
#[derive(Debug)]
pub struct Raw {
    /// What the peer says.
    pub hearing: Hearing,
    /// What we say.
    pub saying: Saying,
}

impl Raw {
    /// Connects to a loopback port and says nothing yet.
    pub async fn connect(port: u16) -> Self {
        let connecting = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        let stream = within("connecting", SOON, connecting).await;
        let stream = stream.unwrap_or_else(|error| panic!("connecting to port {port}: {error}"));
        let _ = stream.set_nodelay(true);
        let (read, write) = stream.into_split();
        Self { hearing: Hearing { stream: BufReader::new(read) }, saying: Saying { stream: write } }
    }

    /// Connects and logs in where nobody asks for a password.
    pub async fn login(port: u16, user: &str, database: &str) -> Self {
        Self::login_with_key(port, user, database).await.0
    }

    /// As [`Raw::login`]; also tells the server's process id and the session's secret.
    pub async fn login_with_key(port: u16, user: &str, database: &str) -> (Self, u32, Vec<u8>) {
        let mut raw = Self::connect(port).await;
        let packet = startup(&[("user", user), ("database", database)]);
        raw.send(&packet).await;
        let frames = raw.until_ready().await;
        let error = frames.iter().find(|frame| frame.tag == b'E');
        assert!(error.is_none(), "refused: {error:?}");
        let key = frames.iter().find(|frame| frame.tag == b'K');
        let key = key.expect("a login has a BackendKeyData");
        let (pid, secret) = key.body.split_first_chunk::<4>().expect("a key begins with a process id");
        (raw, u32::from_be_bytes(*pid), secret.to_vec())
    }

    /// See [`Saying::send`].
    pub async fn send(&mut self, bytes: &[u8]) {
        self.saying.send(bytes).await;
    }

    /// See [`Hearing::frame`].
    pub async fn frame(&mut self) -> Option<Frame> {
        self.hearing.frame().await
    }

    /// See [`Hearing::until_ready`].
    pub async fn until_ready(&mut self) -> Vec<Frame> {
        self.hearing.until_ready().await
    }

    /// See [`Hearing::rest`].
    pub async fn rest(&mut self) -> Vec<u8> {
        self.hearing.rest().await
    }

    /// Sends a simple query and returns the frames of its answer.
    pub async fn query(&mut self, sql: &str) -> Vec<Frame> {
        self.send(&query(sql)).await;
        self.until_ready().await
    }
}
