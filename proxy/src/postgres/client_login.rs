//! The client's half of the login: from an accepted socket until user, database and password are known.

use std::io;

use bytes::{Bytes, BytesMut};
use protocol::postgres::auth::{self, AuthRequest, ScramServer, Verifier};
use protocol::postgres::error_response;
use protocol::postgres::handshake::{self, FirstPacket, Startup, UnsupportedProtocol};
use protocol::postgres::{command, frame};
use rand::RngExt;
use rand::distr::Alphanumeric;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::failed_logins::Rejected;

/// The largest frame of a client that is not logged in yet.
const LOGIN_FRAME_BYTES_MAX: usize = 16 << 10;

/// A client asks for encryption at most once of each kind.
const ENCRYPTION_REQUESTS_MAX: u32 = 2;

/// The length of our part of a SCRAM nonce: about 140 random bits.
const NONCE_CHARS: usize = 24;

/// What a fresh connection wants.
#[derive(Debug)]
pub enum Arrival {
    /// To cancel what the session with this key runs.
    Cancel {
        /// The pid that the client was told.
        pid: i32,
        /// The secret that the client was told.
        secret: Bytes,
    },
    /// To open a session.
    Session(Startup),
    /// Nothing: it closed before it said anything.
    Gone,
}

/// Reads until the client has said what it wants. Answers requests for encryption with "no".
pub async fn first(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<Arrival, Rejected> {
    let mut encryption_requests = 0;
    loop {
        match handshake::take_first(buffer)? {
            Some(FirstPacket::Ssl | FirstPacket::GssEnc) => {
                encryption_requests += 1;
                if encryption_requests > ENCRYPTION_REQUESTS_MAX {
                    return Err(Rejected::Unsupported("too many requests for encryption"));
                }
                stream.write_all(b"N").await?;
            }
            Some(FirstPacket::Cancel { pid, secret }) => {
                return Ok(Arrival::Cancel { pid, secret });
            }
            Some(FirstPacket::Startup(startup)) => return Ok(Arrival::Session(startup)),
            None => {
                if stream.read_buf(buffer).await? == 0 {
                    return Ok(Arrival::Gone);
                }
            }
        }
    }
}

/// Agrees on the protocol's version and options; what must be told to the client goes to `out`.
pub fn negotiate(startup: &Startup, out: &mut BytesMut) -> Result<u16, UnsupportedProtocol> {
    let negotiation = handshake::negotiate(startup)?;
    negotiation.encode(out);
    Ok(negotiation.minor)
}

/// Proves who the client is, against `verifier`. Without one nothing is asked, and the server decides.
pub async fn authenticate(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    verifier: Option<Verifier>,
) -> Result<(), Rejected> {
    match verifier {
        None => Ok(()),
        Some(verifier) => scram(stream, buffer, verifier).await,
    }
}

/// Our part of a SCRAM nonce, on either side of a login.
pub(super) fn nonce() -> String {
    rand::rng().sample_iter(Alphanumeric).take(NONCE_CHARS).map(char::from).collect()
}

async fn scram(stream: &mut TcpStream, buffer: &mut BytesMut, verifier: Verifier) -> Result<(), Rejected> {
    let mut exchange = ScramServer::new(verifier, &nonce());

    let mut out = BytesMut::new();
    AuthRequest::scram().encode(&mut out);
    stream.write_all(&out).await?;

    let wrong = || Rejected::Password { given: true };
    let initial = auth::SaslInitialResponse::parse(password_message(stream, buffer).await?)?;
    if initial.mechanism != auth::SCRAM_SHA_256 {
        return Err(wrong());
    }
    let first = exchange.first(&initial.data.unwrap_or_default()).map_err(|_| wrong())?;
    out.clear();
    AuthRequest::SaslContinue(first.into()).encode(&mut out);
    stream.write_all(&out).await?;

    let last = password_message(stream, buffer).await?;
    let (last, _) = exchange.finish(&last).map_err(|_| wrong())?;
    out.clear();
    AuthRequest::SaslFinal(last.into()).encode(&mut out);
    stream.write_all(&out).await?;
    Ok(())
}

async fn password_message(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<Bytes, Rejected> {
    loop {
        if let Some(frame) = frame::take(buffer, LOGIN_FRAME_BYTES_MAX)? {
            if frame.tag != command::PASSWORD {
                return Err(Rejected::Unsupported("expected a password message"));
            }
            return Ok(frame.body);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(Rejected::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// What the client is told of a rejection; nothing where there is nobody to tell.
pub fn refuse(rejected: &Rejected, user: &str) -> BytesMut {
    let mut out = BytesMut::new();
    match rejected {
        Rejected::Io(_) => {}
        Rejected::Malformed(_) => {
            error_response::protocol_violation(&mut out, "invalid startup packet");
        }
        Rejected::Unsupported(what) => error_response::protocol_violation(&mut out, what),
        Rejected::Password { .. } => error_response::invalid_password(&mut out, user),
    }
    out
}
