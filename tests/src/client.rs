//! A PostgreSQL client made of bare bytes, for what no driver would ever send.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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
        self.field('C')
            .unwrap_or_else(|| panic!("an error without SQLSTATE: {self:?}"))
    }
}

/// A connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Connects to a loopback port and says nothing yet.
    pub async fn connect(port: u16) -> Self {
        let stream = within(
            "connecting",
            SOON,
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)),
        )
        .await;
        let stream = stream.unwrap_or_else(|error| panic!("connecting to port {port}: {error}"));
        stream
            .set_nodelay(true)
            .expect("a fresh socket takes options");
        Self { stream }
    }

    /// Connects and logs in where nobody asks for a password.
    pub async fn login(port: u16, user: &str, database: &str) -> Self {
        let mut raw = Self::connect(port).await;
        raw.send(&startup(&[("user", user), ("database", database)]))
            .await;
        let frames = raw.until_ready().await;
        assert!(
            frames.iter().all(|frame| frame.tag != b'E'),
            "refused: {frames:?}"
        );
        raw
    }

    /// Sends bytes as they are; a peer that has closed already is not an error here, reading will tell.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = within("sending", SOON, self.stream.write_all(bytes)).await;
    }

    /// Sends every byte in a segment of its own.
    pub async fn send_bytewise(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send(std::slice::from_ref(byte)).await;
        }
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub async fn half_close(&mut self) {
        let _ = within("closing", SOON, self.stream.shutdown()).await;
    }

    /// One untagged byte, such as the answer to a request for TLS; none at the end.
    pub async fn byte(&mut self) -> Option<u8> {
        within("reading one byte", SOON, self.stream.read_u8())
            .await
            .ok()
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
        let _ = within(
            "reading to the end",
            SOON,
            self.stream.read_to_end(&mut bytes),
        )
        .await;
        bytes
    }

    /// Sends a simple query and returns the frames of its answer.
    pub async fn query(&mut self, sql: &str) -> Vec<Frame> {
        self.send(&query(sql)).await;
        self.until_ready().await
    }
}

/// A frame as it goes over the wire.
pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], length_of(body).as_slice(), body].concat()
}

/// A simple query.
pub fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &[sql.as_bytes(), &[0]].concat())
}

/// A first packet for protocol 3.0 with these parameters.
pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 0x0003_0000_u32.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend([name.as_bytes(), &[0], value.as_bytes(), &[0]].concat());
    }
    body.push(0);
    first_packet(&body)
}

/// An untagged first packet.
pub fn first_packet(body: &[u8]) -> Vec<u8> {
    [length_of(body).as_slice(), body].concat()
}

fn length_of(body: &[u8]) -> [u8; 4] {
    u32::try_from(body.len() + 4)
        .expect("test packets are small")
        .to_be_bytes()
}
