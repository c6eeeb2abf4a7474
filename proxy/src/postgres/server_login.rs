//! The server's half of the login: from an open socket until the server says that it is ready.

use std::io;

use bytes::{Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use protocol::error::Malformed;
use protocol::postgres::auth::AuthRequest;
use protocol::postgres::handshake::Startup;
use protocol::postgres::{frame, reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::route::Cluster;
use crate::upstream::{self, Upstream};

/// A frame of a login is never larger than this.
const LOGIN_FRAME_BYTES_MAX: usize = 1 << 20;

/// A server session behind its login, idle.
#[derive(Debug)]
pub struct ServerSession {
    /// The socket.
    pub stream: Upstream,
    /// What was read of it already and belongs to the client.
    pub buffer: BytesMut,
    /// The parameter statuses that the server reported.
    pub parameters: Vec<(Bytes, Bytes)>,
    /// The server's pid and secret.
    pub key: reply::BackendKeyData,
    /// Notices of the login, as whole frames, for the client.
    pub notices: BytesMut,
}

/// Why no server session came about.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The server said no.
    #[error("the server refused the login: {}", reply::ErrorFields::parse(.frame.slice(frame::HEADER_BYTES.min(.frame.len())..)).summary())]
    ByServer {
        /// Its own error frame, whole.
        frame: Bytes,
        /// It had accepted the password, if it asked for one, before it said so.
        welcomed: bool,
    },
    /// The server cannot be reached or went away.
    #[error("the server cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    /// The server sent something that is not the protocol.
    #[error("the server's login is malformed: {0}")]
    Malformed(#[from] Malformed),
    /// The server asks for what we do not have or cannot do.
    #[error("the server asks for {0}")]
    Unsupported(&'static str),
}

/// Logs in on `cluster` with the client's own startup parameters, within the cluster's `connect_timeout`.
pub async fn login(
    cluster: &Cluster,
    startup: &Startup,
    database: &str,
    password: Option<&str>,
) -> Result<ServerSession, Refused> {
    let mut stream = upstream::connect(cluster).await?;
    let mut buffer = BytesMut::new();
    let logging_in = authenticate(&mut stream, &mut buffer, startup, database, password);
    let (parameters, key, notices) = tokio::time::timeout(cluster.connect_timeout, logging_in)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(ServerSession { stream, buffer, parameters, key, notices })
}

type Greeting = (Vec<(Bytes, Bytes)>, reply::BackendKeyData, BytesMut);

async fn authenticate(
    stream: &mut Upstream,
    buffer: &mut BytesMut,
    startup: &Startup,
    database: &str,
    password: Option<&str>,
) -> Result<Greeting, Refused> {
    let mut out = BytesMut::new();
    startup.encode_for_server(database.as_bytes(), &mut out);
    stream.write_all(&out).await?;

    let user = startup.user().unwrap_or_default();
    let mut parameters = Vec::new();
    let mut key = reply::BackendKeyData { pid: 0, secret: Bytes::new() };
    let mut notices = BytesMut::new();
    let mut scram = None;
    let mut welcomed = false;
    loop {
        let Some(frame) = next_frame(stream, buffer).await? else {
            return Err(Refused::Unreachable(io::ErrorKind::UnexpectedEof.into()));
        };
        match frame.tag {
            reply::AUTHENTICATION => {
                let request = AuthRequest::parse(frame.body)?;
                welcomed = request == AuthRequest::Ok;
                if let Some(answer) = answer(&request, &user, password, &mut scram)? {
                    stream.write_all(&answer).await?;
                }
            }
            reply::PARAMETER_STATUS => {
                let status = reply::ParameterStatus::parse(frame.body)?;
                parameters.push((status.name, status.value));
            }
            reply::BACKEND_KEY_DATA => key = reply::BackendKeyData::parse(frame.body)?,
            reply::READY_FOR_QUERY => return Ok((parameters, key, notices)),
            reply::ERROR_RESPONSE => {
                return Err(Refused::ByServer { frame: whole(&frame), welcomed });
            }
            reply::NOTICE_RESPONSE => notices.extend_from_slice(&whole(&frame)),
            // NegotiateProtocolVersion and whatever a newer server adds do not concern the client of the proxy.
            _ => {}
        }
    }
}

/// Reads one frame; `None` where the server closed.
pub async fn next_frame(stream: &mut Upstream, buffer: &mut BytesMut) -> Result<Option<frame::Frame>, Refused> {
    loop {
        if let Some(frame) = frame::take(buffer, LOGIN_FRAME_BYTES_MAX)? {
            return Ok(Some(frame));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn whole(frame: &frame::Frame) -> Bytes {
    let mut out = BytesMut::new();
    frame::put(&mut out, frame.tag, |out| {
        out.extend_from_slice(&frame.body);
    });
    out.freeze()
}

fn answer(
    request: &AuthRequest,
    user: &Bytes,
    password: Option<&str>,
    scram: &mut Option<ScramSha256>,
) -> Result<Option<Bytes>, Refused> {
    const NO_PASSWORD: Refused = Refused::Unsupported("a password, and the configuration has none for this user");
    let mut out = BytesMut::new();
    let message = |out: &mut BytesMut, bytes: &[u8], end: &[u8]| {
        frame::put(out, b'p', |out| {
            out.extend_from_slice(bytes);
            out.extend_from_slice(end);
        });
    };
    match request {
        AuthRequest::Ok => return Ok(None),
        AuthRequest::Cleartext => {
            message(&mut out, password.ok_or(NO_PASSWORD)?.as_bytes(), b"\0");
        }
        AuthRequest::Md5 { salt } => {
            let password = password.ok_or(NO_PASSWORD)?;
            message(&mut out, md5_hash(user, password.as_bytes(), *salt).as_bytes(), b"\0");
        }
        AuthRequest::Sasl { mechanisms } => {
            if !mechanisms.iter().any(|mechanism| mechanism == SCRAM_SHA_256.as_bytes()) {
                return Err(Refused::Unsupported("a SASL mechanism other than SCRAM-SHA-256"));
            }
            let password = password.ok_or(NO_PASSWORD)?;
            let exchange = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
            frame::put(&mut out, b'p', |out| {
                let first = exchange.message();
                out.extend_from_slice(SCRAM_SHA_256.as_bytes());
                out.extend_from_slice(b"\0");
                out.extend_from_slice(&u32::try_from(first.len()).unwrap_or(0).to_be_bytes());
                out.extend_from_slice(first);
            });
            *scram = Some(exchange);
        }
        AuthRequest::SaslContinue(data) => {
            let exchange = scram.as_mut().ok_or(Refused::Unsupported("SASL out of order"))?;
            exchange.update(data)?;
            message(&mut out, exchange.message(), b"");
        }
        AuthRequest::SaslFinal(data) => {
            let exchange = scram.as_mut().ok_or(Refused::Unsupported("SASL out of order"))?;
            exchange.finish(data)?;
            return Ok(None);
        }
        AuthRequest::Other(_) => {
            return Err(Refused::Unsupported("a kind of authentication that is not supported"));
        }
    }
    Ok(Some(out.freeze()))
}
