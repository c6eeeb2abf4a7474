//! One raw connection to a server that speaks the replication protocol: socket, frames, login.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{ErrorResponseBody, Header, Message};
use postgres_protocol::message::frontend;
use protocol::postgres::auth::Credential;
use protocol::postgres::handshake::Startup;
use protocol::postgres::login::{Account, Failed, Login};
use protocol::postgres::{frame, reply};
use rand::RngExt;
use rand::distr::Alphanumeric;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use transport::Stream;

use super::client::{CONNECT_TIMEOUT, Endpoint, unreachable};
use super::session;
use super::sql::quote_literal;
use crate::error::{Error, Result};

/// Nothing but row data is larger; a row's field holds at most 1 GiB.
const FRAME_BYTES_MAX: usize = (1 << 30) + (1 << 20);
const READ_BYTES: usize = 256 << 10;
/// The length of our part of SCRAM's nonce: about 140 random bits.
const NONCE_CHARS: usize = 24;

/// How the values of a change stream are written, so that they mean the same on every server.
const SETTINGS: [(&str, &str); 8] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("search_path", ""),
];

/// A logged-in connection that carries whole frames.
pub(super) struct Link {
    stream: Stream,
    incoming: BytesMut,
    outgoing: BytesMut,
}

/// What a server refused, as it said it.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The SQLSTATE.
    pub(super) code: String,
    /// The server's own text.
    pub(super) message: String,
}

impl Refusal {
    fn read(body: &ErrorResponseBody) -> Self {
        let mut refusal = Self { code: String::new(), message: String::new() };
        let mut fields = body.fields();
        while let Ok(Some(field)) = fields.next() {
            let text = String::from_utf8_lossy(field.value_bytes());
            match field.type_() {
                b'C' => refusal.code = text.into_owned(),
                b'M' => refusal.message = text.into_owned(),
                _ => {}
            }
        }
        refusal
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Refusal {}

/// One frame from the server.
pub(super) enum Frame {
    /// The payload of a CopyData frame.
    Copy(Bytes),
    /// The server is ready to stream.
    CopyBoth,
    /// Anything else.
    Other(Message),
}

impl Link {
    /// Connects and logs in for replication in `endpoint`'s database.
    pub(super) async fn connect(endpoint: &Endpoint, application: &str) -> Result<Self> {
        let opening = timeout(CONNECT_TIMEOUT, Self::open(endpoint, application));
        opening.await.unwrap_or_else(|_| Err(late(endpoint)))
    }

    async fn open(endpoint: &Endpoint, application: &str) -> Result<Self> {
        let stream = endpoint.open().await.map_err(|error| unreachable(endpoint, &error))?;
        let mut incoming = BytesMut::with_capacity(READ_BYTES);
        let stream = login(endpoint, application, stream, &mut incoming).await?;
        let mut link = Self { stream, incoming, outgoing: BytesMut::new() };
        link.pin(endpoint).await?;
        Ok(link)
    }

    /// What the session inherits goes first, then comes what the stream's values need.
    async fn pin(&mut self, endpoint: &Endpoint) -> Result<()> {
        let mut batch = session::PIN.to_owned();
        for (name, value) in SETTINGS {
            let _ = write!(batch, "; SET {name} = {}", quote_literal(value));
        }
        self.query(&batch, CONNECT_TIMEOUT)
            .await?
            .map(drop)
            .map_err(|refusal| Error::fatal(format!("{endpoint:?} refuses a setting of the stream")).because(refusal))
    }

    /// Where frames to send are put; [`Link::flush`] or [`Link::exchange`] sends them.
    pub(super) fn outgoing(&mut self) -> &mut BytesMut {
        &mut self.outgoing
    }

    /// Sends everything that waits. Cancel safe: what was not sent yet stays in the queue.
    pub(super) async fn flush(&mut self) -> Result<()> {
        while self.outgoing.has_remaining() {
            self.stream.write_buf(&mut self.outgoing).await.map_err(lost)?;
        }
        self.stream.flush().await.map_err(lost)
    }

    /// A whole frame that already arrived, if there is one.
    pub(super) fn take(&mut self) -> Result<Option<Frame>> {
        let Some(header) = Header::parse(&self.incoming).map_err(broken)? else {
            return Ok(None);
        };
        let length = usize::try_from(header.len()).map_err(|_| unexpected("a negative length"))?;
        if length > FRAME_BYTES_MAX {
            return Err(unexpected(&format!("a frame of {length} bytes")));
        }
        if self.incoming.len() < length + 1 {
            return Ok(None);
        }
        match header.tag() {
            b'd' => {
                let mut frame = self.incoming.split_to(length + 1);
                frame.advance(5);
                Ok(Some(Frame::Copy(frame.freeze())))
            }
            b'W' => {
                self.incoming.advance(length + 1);
                Ok(Some(Frame::CopyBoth))
            }
            _ => {
                // The parser trusts lengths inside of the body; a body that lies must not take the process down.
                let mut frame = self.incoming.split_to(length + 1);
                let message = Message::parse(&mut frame).map_err(broken)?;
                message.map(|message| Some(Frame::Other(message))).ok_or_else(|| unexpected("half a frame"))
            }
        }
    }

    /// Waits until more bytes arrived, and sends what waits meanwhile. Cancel safe.
    pub(super) async fn exchange(&mut self) -> Result<()> {
        if self.incoming.capacity() - self.incoming.len() < READ_BYTES / 4 {
            self.incoming.reserve(READ_BYTES);
        }
        let Self { stream, incoming, outgoing } = self;
        loop {
            if outgoing.is_empty() {
                return arrived(stream.read_buf(incoming).await);
            }
            let (mut reader, mut writer) = tokio::io::split(&mut *stream);
            tokio::select! {
                read = reader.read_buf(incoming) => return arrived(read),
                written = writer.write_buf(outgoing) => { written.map_err(lost)?; }
            }
        }
    }

    async fn frame(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            self.exchange().await?;
        }
    }

    /// Runs one statement by the simple protocol and returns the rows as text. At most `limit`.
    pub(super) async fn query(
        &mut self,
        statement: &str,
        limit: Duration,
    ) -> Result<Result<Vec<Vec<Option<String>>>, Refusal>> {
        frontend::query(statement, &mut self.outgoing).map_err(unsendable)?;
        timeout(limit, self.rows()).await.unwrap_or_else(|_| {
            Err(Error::transient(format!(
                "the server did not answer a replication command within {} ms",
                limit.as_millis()
            )))
        })
    }

    async fn rows(&mut self) -> Result<Result<Vec<Vec<Option<String>>>, Refusal>> {
        let mut rows = Vec::new();
        let mut refusal = None;
        loop {
            match self.frame().await? {
                Frame::Other(Message::DataRow(body)) => {
                    let mut row = Vec::new();
                    let mut ranges = body.ranges();
                    while let Some(range) = ranges.next().map_err(broken)? {
                        row.push(match range {
                            None => None,
                            Some(range) => {
                                let bytes = body.buffer().get(range).ok_or_else(|| unexpected("a row"))?;
                                Some(String::from_utf8_lossy(bytes).into_owned())
                            }
                        });
                    }
                    rows.push(row);
                }
                Frame::Other(Message::ErrorResponse(body)) => refusal = Some(Refusal::read(&body)),
                // Streaming begins; there will be no ready message.
                Frame::CopyBoth => return Ok(Ok(rows)),
                Frame::Other(Message::ReadyForQuery(_)) => {
                    return Ok(refusal.map_or(Ok(rows), Err));
                }
                Frame::Other(_) => {}
                Frame::Copy(_) => return Err(unexpected("data outside of a stream")),
            }
        }
    }

    /// Reads the server's refusal out of a frame that ends a stream.
    pub(super) fn ending(message: &Message) -> Error {
        match message {
            Message::ErrorResponse(body) => {
                let refusal = Refusal::read(body);
                let what = "the server ended the change stream";
                // A piece of its log is gone for good, or the slot was invalidated.
                let error = if matches!(refusal.code.as_str(), "58P01" | "55000") {
                    Error::fatal(what).remedy(
                        "the copy must start again: DROP MIGRATION … WITH (target_objects = 'drop'), then create it anew, and let the source keep more of its log",
                    )
                } else {
                    Error::transient(what)
                };
                error.because(refusal)
            }
            _ => Error::transient("the server ended the change stream"),
        }
    }
}

/// Logs in for replication; what the server said behind the welcome is left in `incoming`.
async fn login(endpoint: &Endpoint, application: &str, stream: Stream, incoming: &mut BytesMut) -> Result<Stream> {
    let parameters = [
        ("user", endpoint.user.as_str()),
        ("database", endpoint.database.as_str()),
        ("replication", "database"),
        ("application_name", application),
    ];
    let owned = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let parameters = parameters.iter().map(|(name, value)| (owned(name), owned(value))).collect();
    let mut startup = BytesMut::new();
    Startup { major: 3, minor: 0, parameters, protocol_options: Vec::new() }.encode(&mut startup);
    let nonce: String = rand::rng().sample_iter(Alphanumeric).take(NONCE_CHARS).map(char::from).collect();
    let password = endpoint.read_password().await?;
    let credential = password.map(|password| Credential::password(password.as_bytes()));
    let end_point = stream.end_point();
    let mut login = Login::new(Account {
        user: endpoint.user.as_bytes(),
        credential: credential.as_ref(),
        end_point: end_point.as_deref(),
        private: stream.is_local() || stream.is_encrypted(),
        nonce: &nonce,
    });
    let step = |incoming: &mut BytesMut, outgoing: &mut BytesMut| login.feed(incoming, outgoing);
    let server = (&endpoint.tls, endpoint.host.as_str());
    match transport::log_in(stream, server, incoming, startup, step).await {
        Ok(Ok((stream, _))) => Ok(stream),
        Ok(Err(failed)) => Err(not_let_in(endpoint, failed)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(closed()),
        Err(error) => Err(lost(error)),
    }
}

fn not_let_in(endpoint: &Endpoint, failed: Failed) -> Error {
    match failed {
        Failed::Refused { frame, .. } => {
            let fields = reply::ErrorFields::parse(frame.slice(frame::HEADER_BYTES.min(frame.len())..));
            let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
            let refusal = Refusal { code: text(&fields.code), message: text(&fields.message) };
            let what = format!("{endpoint:?} refuses a replication connection");
            let lasting = refusal.code.starts_with("28") || refusal.code == "42501";
            let error = if lasting {
                Error::fatal(what)
                    .remedy("the role needs the REPLICATION attribute, the right password, and an entry in pg_hba.conf")
            } else {
                Error::transient(what)
            };
            error.because(refusal)
        }
        Failed::NoPassword => Error::fatal(format!("{endpoint:?} asks for a password"))
            .remedy("give the cluster's password in the configuration"),
        Failed::Public => unexpected("a password in clear"),
        Failed::Mechanism => Error::fatal("the server offers no SCRAM-SHA-256 login"),
        Failed::Malformed(_) | Failed::Scram(_) => broken(io::Error::other(failed)),
        Failed::Method | Failed::OutOfOrder => unexpected("an unknown login request"),
    }
}

fn late(endpoint: &Endpoint) -> Error {
    let within = CONNECT_TIMEOUT.as_millis();
    Error::transient(format!("no replication connection to {endpoint:?} within {within} ms"))
}

fn arrived(read: io::Result<usize>) -> Result<()> {
    match read {
        Ok(0) => Err(closed()),
        Ok(_) => Ok(()),
        Err(error) => Err(lost(error)),
    }
}

fn closed() -> Error {
    Error::transient("the server closed the replication connection")
}

fn lost(error: io::Error) -> Error {
    Error::transient("the replication connection was lost").because(error)
}

fn broken(error: io::Error) -> Error {
    Error::transient("the server sent a malformed message").because(error)
}

fn unsendable(error: io::Error) -> Error {
    Error::fatal("a value cannot be sent to the server").because(error)
}

pub(super) fn unexpected(what: &str) -> Error {
    Error::transient(format!("the server sent {what}, which does not belong here"))
}
