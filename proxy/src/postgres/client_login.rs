//! The client's half of the login: from an accepted socket until user, database and password are known.

use std::io;

use bytes::{Bytes, BytesMut};
use protocol::postgres::auth::{self, AuthRequest, Credential, ScramKeys, ScramServer, Verifier};
use protocol::postgres::error_response;
use protocol::postgres::handshake::{self, ALPN, FirstPacket, SSL_NO, SSL_YES, Startup, UnsupportedProtocol};
use protocol::postgres::{command, frame};
use rand::RngExt;
use rand::distr::Alphanumeric;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing::debug;
use zeroize::Zeroizing;

use super::passwords::Demand;
use crate::client::Client;
use crate::failed_logins::Rejected;
use crate::proxy_header;
use crate::tls::ListenerTls;

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

/// The first byte of a client that begins with TLS at once.
const TLS_HANDSHAKE: u8 = 0x16;

/// Reads until the client has said what it wants, in TLS where it asks for that and is offered it. Fails where the connection
/// broke; what else is wrong comes with the connection, so that its client can be told.
pub async fn first(
    stream: TcpStream,
    tls: &ListenerTls,
    buffer: &mut BytesMut,
) -> Result<(Client, Result<Arrival, Rejected>), Rejected> {
    let mut first = [0];
    let direct = tls.is_offered() && stream.peek(&mut first).await? > 0 && first == [TLS_HANDSHAKE];
    let mut client = Client::Plain(stream);
    if direct {
        client = encrypt(client, tls).await?;
        if client.protocol() != Some(ALPN) {
            // Somebody may have led a client of another protocol here.
            return Err(Rejected::Unsupported("TLS from the first byte on without the protocol's name"));
        }
    }
    let mut encryption_requests = 0;
    loop {
        match handshake::take_first(buffer) {
            Ok(Some(asked @ (FirstPacket::Ssl | FirstPacket::GssEnc))) => {
                encryption_requests += 1;
                if client.is_encrypted() || encryption_requests > ENCRYPTION_REQUESTS_MAX {
                    return Ok((client, Err(Rejected::Unsupported("too many requests for encryption"))));
                }
                if asked == FirstPacket::GssEnc || !tls.is_offered() {
                    put(&mut client, &[SSL_NO]).await?;
                    continue;
                }
                if !buffer.is_empty() {
                    // It would count as said in TLS, and anybody could have said it.
                    return Ok((client, Err(Rejected::Unsupported("received unencrypted data after SSL request"))));
                }
                put(&mut client, &[SSL_YES]).await?;
                client = encrypt(client, tls).await?;
            }
            Ok(Some(FirstPacket::Cancel { pid, secret })) => return Ok((client, Ok(Arrival::Cancel { pid, secret }))),
            Ok(Some(FirstPacket::Startup(_))) if tls.is_required() && !client.is_encrypted() => {
                return Ok((client, Err(Rejected::Insecure { offered: true })));
            }
            Ok(Some(FirstPacket::Startup(startup))) => return Ok((client, Ok(Arrival::Session(startup)))),
            Ok(None) => {
                if client.read_buf(buffer).await? == 0 {
                    return Ok((client, Ok(Arrival::Gone)));
                }
            }
            Err(_) if buffer.starts_with(proxy_header::BEGINNING) => return Ok((client, Err(Rejected::ProxyHeader))),
            Err(malformed) => return Ok((client, Err(malformed.into()))),
        }
    }
}

async fn encrypt(client: Client, tls: &ListenerTls) -> Result<Client, Rejected> {
    Ok(match client {
        Client::Plain(stream) => Client::Tls(tls.accept(stream).await?),
        encrypted @ Client::Tls(_) => encrypted,
    })
}

async fn put(client: &mut Client, words: &[u8]) -> Result<(), Rejected> {
    client.write_all(words).await?;
    client.flush().await?;
    Ok(())
}

/// Agrees on the protocol's version and options; what must be told to the client goes to `out`.
pub fn negotiate(startup: &Startup, out: &mut BytesMut) -> Result<u16, UnsupportedProtocol> {
    let negotiation = handshake::negotiate(startup)?;
    negotiation.encode(out);
    Ok(negotiation.minor)
}

/// Has the client prove what is demanded, and says by what it can be logged in elsewhere, where that is known then. The
/// password itself is taken over TLS only. What an account demands has to be known before.
pub async fn authenticate(
    client: &mut Client,
    buffer: &mut BytesMut,
    (user, demand): (&str, Demand),
    tls: &ListenerTls,
) -> Result<Option<Credential>, Rejected> {
    match demand {
        Demand::Nothing => Ok(None),
        Demand::Scram(verifier) => scram(client, buffer, verifier, tls.end_point()).await.map(Some),
        Demand::Md5(verifier) => {
            let salt: [u8; 4] = rand::random();
            ask(client, &AuthRequest::Md5 { salt }).await?;
            let proof = auth::password(password_message(client, buffer).await?)?;
            if !verifier.check(&proof, salt) {
                return Err(Rejected::Password { given: !proof.is_empty() });
            }
            Ok(Some(Credential::Md5(verifier)))
        }
        Demand::Password | Demand::OfAccount if !client.is_encrypted() => {
            debug!(user, "the client came without TLS, and its password would have to be asked for");
            Err(Rejected::Insecure { offered: tls.is_offered() })
        }
        Demand::Password | Demand::OfAccount => {
            ask(client, &AuthRequest::Cleartext).await?;
            let password = auth::password(password_message(client, buffer).await?)?;
            if password.is_empty() {
                return Err(Rejected::Password { given: false });
            }
            Ok(Some(Credential::Shown(Zeroizing::new(password.to_vec()))))
        }
    }
}

async fn ask(client: &mut Client, request: &AuthRequest) -> Result<(), Rejected> {
    let mut out = BytesMut::new();
    request.encode(&mut out);
    put(client, &out).await
}

/// Our part of a SCRAM nonce, on either side of a login.
pub(super) fn nonce() -> String {
    rand::rng().sample_iter(Alphanumeric).take(NONCE_CHARS).map(char::from).collect()
}

/// By SCRAM-SHA-256, bound to the certificate that hashes to `end_point` where the client can do that.
async fn scram(
    client: &mut Client,
    buffer: &mut BytesMut,
    verifier: Verifier,
    end_point: Option<&[u8]>,
) -> Result<Credential, Rejected> {
    let end_point = end_point.filter(|_| client.is_encrypted());
    let mut exchange = ScramServer::new(verifier.clone(), &nonce()).offering(end_point);
    ask(client, &AuthRequest::scram(end_point.is_some())).await?;

    let wrong = || Rejected::Password { given: true };
    let initial = auth::SaslInitialResponse::parse(password_message(client, buffer).await?)?;
    let plus = initial.mechanism == auth::SCRAM_SHA_256_PLUS;
    if !plus && initial.mechanism != auth::SCRAM_SHA_256 {
        return Err(wrong());
    }
    let first = exchange.first(&initial.data.unwrap_or_default(), plus).map_err(|_| wrong())?;
    ask(client, &AuthRequest::SaslContinue(first.into())).await?;

    let last = password_message(client, buffer).await?;
    let (last, key) = exchange.finish(&last).map_err(|_| wrong())?;
    ask(client, &AuthRequest::SaslFinal(last.into())).await?;
    Ok(Credential::Scram(ScramKeys::new(key, &verifier)))
}

async fn password_message(client: &mut Client, buffer: &mut BytesMut) -> Result<Bytes, Rejected> {
    loop {
        if let Some(frame) = frame::take(buffer, LOGIN_FRAME_BYTES_MAX)? {
            if frame.tag != command::PASSWORD {
                return Err(Rejected::Unsupported("expected a password message"));
            }
            return Ok(frame.body);
        }
        if client.read_buf(buffer).await? == 0 {
            return Err(Rejected::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// What the client is told of a rejection; nothing where there is nobody to tell.
pub fn refuse(rejected: &Rejected, user: &str) -> BytesMut {
    let mut out = BytesMut::new();
    match rejected {
        Rejected::Io(_) | Rejected::ProxyHeader => {}
        Rejected::Malformed(_) => {
            error_response::protocol_violation(&mut out, "invalid startup packet");
        }
        Rejected::Unsupported(what) => error_response::protocol_violation(&mut out, what),
        Rejected::Insecure { offered } => error_response::insecure(&mut out, *offered),
        Rejected::Password { .. } => error_response::invalid_password(&mut out, user),
    }
    out
}
