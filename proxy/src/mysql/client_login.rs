//! The client's half of the login: from an accepted socket until it has proven who it is.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use protocol::mysql::auth::{self, caching_sha2, native};
use protocol::mysql::handshake::{Capabilities, FirstPacket, Greeting, NONCE_BYTES, Response};
use protocol::mysql::{error_response, frame};
use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::accounts::{Account, Accounts};
use super::cipher::KeyPair;
use super::greeting::Offer;
use super::passwords::{Password, Passwords};
use super::server_login::Credential;
use crate::client::{Client, send_error_and_close};
use crate::failed_logins::Rejected;
use crate::proxy_header;
use crate::tls::ListenerTls;
use crate::upstream::Origin;

/// The largest packet of a client that is not logged in yet: its attributes alone may have 64 KiB.
const LOGIN_PACKET_BYTES_MAX: usize = 128 << 10;

/// The flag of a session in which each statement is a transaction of its own.
const AUTOCOMMIT: u16 = 0x0002;

/// A client that said who it is, and did not prove it yet.
pub struct Arrival {
    /// Its connection.
    pub stream: Client,
    /// What was read of it already.
    pub buffer: BytesMut,
    /// The number of the next packet to it.
    pub sequence: u8,
    /// Who it is and what it wants.
    pub response: Response,
    /// What its proof is against.
    pub nonce: [u8; NONCE_BYTES],
}

/// Random bytes that fit into a text, as every server sends them.
pub fn nonce() -> [u8; NONCE_BYTES] {
    let mut random = rand::rng();
    std::array::from_fn(|_| random.random_range(1..=0x7F))
}

/// Greets a client and hears who it is, through TLS where it wants that. `None` where it left without a word.
pub async fn greet(
    mut stream: TcpStream,
    offer: &Offer,
    id: u32,
    tls: &ListenerTls,
) -> Result<Option<Arrival>, Rejected> {
    let nonce = nonce();
    let greeting = Greeting {
        version: offer.version.clone(),
        thread: id,
        nonce,
        capabilities: if tls.is_offered() { offer.capabilities } else { offer.capabilities.without(Capabilities::SSL) },
        extended: 0,
        charset: offer.charset,
        status: AUTOCOMMIT,
        plugin: Bytes::from_static(offer.plugin),
    };
    let (mut body, mut out) = (BytesMut::new(), BytesMut::new());
    greeting.encode(&mut body);
    frame::put(&mut out, &mut 0, &body);
    stream.write_all(&out).await?;
    // Nothing is read beyond the packet: what follows a request for TLS is not for us but for TLS.
    let Some(first) = read_exactly_one(&mut stream).await? else {
        return Ok(None);
    };
    let parsed = match FirstPacket::parse(&first.body) {
        Ok(parsed) => parsed,
        Err(malformed) => {
            let mut sequence = first.sequence.wrapping_add(1);
            let mut words = BytesMut::new();
            error_response::error(&mut words, &mut sequence, 1043, "08S01", "Bad handshake");
            send_error_and_close(&mut Client::Plain(stream), &words).await;
            return Err(malformed.into());
        }
    };
    let arrival = match parsed {
        FirstPacket::Response(_) if tls.is_required() => {
            let mut sequence = first.sequence.wrapping_add(1);
            let mut words = BytesMut::new();
            error_response::insecure(&mut words, &mut sequence);
            send_error_and_close(&mut Client::Plain(stream), &words).await;
            return Err(Rejected::Insecure { offered: true });
        }
        FirstPacket::Ssl(_) if !tls.is_offered() => {
            return Err(Rejected::Unsupported("TLS, which listen.tls does not offer"));
        }
        FirstPacket::Response(response) => Arrival {
            stream: Client::Plain(stream),
            buffer: BytesMut::new(),
            sequence: first.sequence.wrapping_add(1),
            response: *response,
            nonce,
        },
        FirstPacket::Ssl(_) => {
            let stream = tls.accept(stream).await?;
            let mut stream = Client::Tls(stream);
            let mut buffer = BytesMut::with_capacity(1 << 10);
            let mut line = Line::new(&mut stream, &mut buffer, 0);
            let body = line.read().await?;
            let sequence = line.sequence;
            let FirstPacket::Response(response) = FirstPacket::parse(&body)? else {
                return Err(Rejected::Unsupported("a second request for TLS"));
            };
            Arrival { stream, buffer, sequence, response: *response, nonce }
        }
    };
    Ok(Some(arrival))
}

async fn read_exactly_one(stream: &mut TcpStream) -> Result<Option<frame::Payload>, Rejected> {
    let mut bytes = BytesMut::zeroed(frame::HEADER_BYTES);
    match stream.read(&mut bytes[..1]).await? {
        0 => return Ok(None),
        _ => stream.read_exact(&mut bytes[1..]).await?,
    };
    if bytes.starts_with(proxy_header::BEGINNING) {
        return Err(Rejected::ProxyHeader);
    }
    let length = frame::peek(&bytes).map_or(0, |header| header.length);
    if length > LOGIN_PACKET_BYTES_MAX {
        return Err(Rejected::Unsupported("a first packet that is too long"));
    }
    bytes.resize(frame::HEADER_BYTES + length, 0);
    stream.read_exact(&mut bytes[frame::HEADER_BYTES..]).await?;
    Ok(frame::take(&mut bytes, LOGIN_PACKET_BYTES_MAX)?)
}

/// A client's connection during a login, its own or that of a COM_CHANGE_USER.
pub struct Line<'a> {
    stream: &'a mut Client,
    buffer: &'a mut BytesMut,
    /// The number of the next packet to the client.
    pub sequence: u8,
}

impl<'a> Line<'a> {
    /// Goes on with a connection whose next packet to the client has the number `sequence`.
    pub fn new(stream: &'a mut Client, buffer: &'a mut BytesMut, sequence: u8) -> Self {
        Self { stream, buffer, sequence }
    }

    /// The next packet's body.
    async fn read(&mut self) -> Result<Bytes, Rejected> {
        loop {
            if let Some(payload) = frame::take(self.buffer, LOGIN_PACKET_BYTES_MAX)? {
                self.sequence = payload.sequence.wrapping_add(1);
                return Ok(payload.body);
            }
            if self.stream.read_buf(self.buffer).await? == 0 {
                return Err(Rejected::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    async fn write(&mut self, body: &[u8]) -> Result<(), Rejected> {
        let mut out = BytesMut::new();
        frame::put(&mut out, &mut self.sequence, body);
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Whether nobody on the way can read along.
    pub fn is_secure(&self) -> bool {
        matches!(self.stream, Client::Tls(_))
    }
}

/// Who a client says it is, and what it gave as proof.
pub struct Claim {
    /// The user.
    pub user: Bytes,
    /// The plugin that the client would rather use.
    pub preferred: Bytes,
    /// What made the proof; empty where the client is to be asked from the start.
    pub plugin: Bytes,
    /// The proof.
    pub proof: Bytes,
    /// What the proof is against.
    pub nonce: [u8; NONCE_BYTES],
    /// What the client can do.
    pub capabilities: Capabilities,
}

impl Claim {
    /// What the client gave at once. Clients that name no plugin mean the oldest. Nothing from a client that has
    /// another plugin than the one it was `offered` is not an empty password: it waits to be asked.
    pub fn of(response: &Response, nonce: [u8; NONCE_BYTES], offered: &[u8]) -> Self {
        let plugin = if response.capabilities.has(Capabilities::PLUGIN_AUTH) {
            response.plugin.clone()
        } else {
            Bytes::from_static(auth::NATIVE)
        };
        let waits = response.proof.is_empty() && plugin != offered;
        Self {
            user: response.user.clone(),
            preferred: plugin.clone(),
            plugin: if waits { Bytes::new() } else { plugin },
            proof: response.proof.clone(),
            nonce,
            capabilities: response.capabilities,
        }
    }

    /// A client that is to be asked from the start.
    pub fn anew(user: Bytes, preferred: Bytes, capabilities: Capabilities) -> Self {
        Self { user, preferred, plugin: Bytes::new(), proof: Bytes::new(), nonce: [0; NONCE_BYTES], capabilities }
    }
}

/// What can be told of the password itself.
pub enum Proven {
    /// This proves the client to any server that has the same account.
    Credential(Credential),
    /// The client said this is the password; whether that is so, the server has to say.
    Reported(Password),
}

/// What proofs are judged by.
pub struct Judge<'a> {
    /// The clusters' accounts.
    pub accounts: &'a Accounts,
    /// Passwords that are known.
    pub passwords: &'a Passwords,
    /// For clients without TLS.
    pub keys: &'a KeyPair,
    /// The cluster that has the account.
    pub cluster: &'a str,
    /// Where the client is.
    pub origin: Origin,
}

/// Sees whether the client has this password, as the console's user must.
pub async fn authenticate_admin(
    line: &mut Line<'_>,
    mut claim: Claim,
    password: Option<Password>,
) -> Result<(), Rejected> {
    let fits = |claim: &Claim| {
        let password = password.as_ref().filter(|password| fits(claim, password));
        password.is_some()
    };
    if !matches!(&claim.plugin[..], auth::NATIVE | auth::CACHING_SHA2) {
        ask(line, &mut claim, auth::CACHING_SHA2).await?;
    }
    let given = !claim.proof.is_empty();
    if !fits(&claim) {
        return Err(Rejected::Password { given });
    }
    accept_quick_proof(line, &claim).await
}

/// Has a client prove who it is. Where only the server can tell, the client gives its password, and the server has
/// to be asked.
pub async fn authenticate(line: &mut Line<'_>, mut claim: Claim, judge: &Judge<'_>) -> Result<Proven, Rejected> {
    if let Some(proven) = known(line, &claim, judge).await? {
        return Ok(proven);
    }
    let mut account = judge.accounts.find(judge.cluster, &claim.user, judge.origin).await;
    // A client that can send its password encrypted need not know the oldest plugin, as new clients do not.
    let rather_full = line.is_secure() && claim.preferred == auth::CACHING_SHA2;
    if let Some(Account::Native(verifier)) = account
        && !rather_full
        && !judge.passwords.capture()
    {
        if claim.plugin != auth::NATIVE {
            ask(line, &mut claim, auth::NATIVE).await?;
            if let Some(proven) = known(line, &claim, judge).await? {
                return Ok(proven);
            }
        }
        let check = |verifier: Option<native::Verifier>| {
            let key = verifier?.check(&claim.nonce, &claim.proof)?;
            Some(Proven::Credential(Credential::NativeKey(key)))
        };
        if let Some(proven) = check(verifier) {
            return Ok(proven);
        }
        account = judge.accounts.find_anew(judge.cluster, &claim.user, judge.origin).await;
        if let Some(Account::Native(verifier)) = account {
            return check(verifier).ok_or(Rejected::Password { given: true });
        }
    }
    full(line, claim, judge).await
}

/// What needs no account: a client without a password, which the server judges, and a password that is known.
async fn known(line: &mut Line<'_>, claim: &Claim, judge: &Judge<'_>) -> Result<Option<Proven>, Rejected> {
    if !matches!(&claim.plugin[..], auth::NATIVE | auth::CACHING_SHA2) {
        return Ok(None);
    }
    if is_empty(claim) {
        let nothing = Credential::Clear(Password::default());
        return Ok(Some(Proven::Credential(nothing)));
    }
    let mut all = judge.passwords.known(&claim.user).into_iter();
    let Some(password) = all.find(|password| fits(claim, password)) else {
        return Ok(None);
    };
    accept_quick_proof(line, claim).await?;
    Ok(Some(Proven::Credential(Credential::Clear(password))))
}

/// Has the client send its password itself, encrypted by TLS or by our key.
pub async fn full(line: &mut Line<'_>, mut claim: Claim, judge: &Judge<'_>) -> Result<Proven, Rejected> {
    if claim.plugin != auth::CACHING_SHA2 {
        ask(line, &mut claim, auth::CACHING_SHA2).await?;
        if let Some(proven) = known(line, &claim, judge).await? {
            return Ok(proven);
        }
    }
    if claim.proof.len() != caching_sha2::PROOF_BYTES {
        return Err(Rejected::Password { given: true });
    }
    more(line, &[auth::FULL_NEEDED]).await?;
    let mut reported = line.read().await?;
    let clear = if line.is_secure() {
        Zeroizing::new(reported.to_vec())
    } else {
        if reported[..] == [auth::KEY_WANTED] {
            let key = judge.keys.public().await;
            let key = key.ok_or(Rejected::Unsupported("RSA, for which no key could be made"))?;
            more(line, key.as_bytes()).await?;
            reported = line.read().await?;
        }
        let opened = judge.keys.open(reported.to_vec()).await;
        let masked = opened.ok_or(Rejected::Password { given: true })?;
        auth::mask(&masked, &claim.nonce)
    };
    // The text ends with a zero.
    let Some((0, password)) = clear.split_last() else {
        return Err(Rejected::Password { given: true });
    };
    Ok(Proven::Reported(Zeroizing::new(password.to_vec())))
}

/// Asks for a proof by `plugin` against a new nonce.
async fn ask(line: &mut Line<'_>, claim: &mut Claim, plugin: &'static [u8]) -> Result<(), Rejected> {
    if !claim.capabilities.has(Capabilities::PLUGIN_AUTH) {
        return Err(Rejected::Unsupported("a login plugin, which the client does not know of"));
    }
    claim.nonce = nonce();
    claim.plugin = Bytes::from_static(plugin);
    let mut body = BytesMut::new();
    auth::put_switch(&mut body, plugin, &claim.nonce);
    line.write(&body).await?;
    claim.proof = line.read().await?;
    Ok(())
}

async fn more(line: &mut Line<'_>, data: &[u8]) -> Result<(), Rejected> {
    let mut body = BytesMut::new();
    auth::put_more_data(&mut body, data);
    line.write(&body).await
}

/// The newer plugin wants to hear that its proof was enough before it hears anything else.
async fn accept_quick_proof(line: &mut Line<'_>, claim: &Claim) -> Result<(), Rejected> {
    if claim.plugin == auth::CACHING_SHA2 && !is_empty(claim) {
        more(line, &[auth::FAST_OK]).await?;
    }
    Ok(())
}

/// Whether the client has no password. The newer plugin's clients say so with a zero.
fn is_empty(claim: &Claim) -> bool {
    claim.proof.is_empty() || claim.proof[..] == [0]
}

fn fits(claim: &Claim, password: &[u8]) -> bool {
    match &claim.plugin[..] {
        auth::NATIVE => {
            let key = native::Key::of(password);
            key.verifier().check(&claim.nonce, &claim.proof).is_some()
        }
        auth::CACHING_SHA2 => caching_sha2::check(password, &claim.nonce, &claim.proof),
        _ => false,
    }
}

/// What the client is told of a rejection; nothing where there is nobody to tell.
pub fn refuse(rejected: &Rejected, user: &[u8], peer: SocketAddr, sequence: &mut u8) -> BytesMut {
    let mut out = BytesMut::new();
    match rejected {
        Rejected::Io(_) | Rejected::ProxyHeader => {}
        Rejected::Malformed(_) => error_response::malformed(&mut out, sequence),
        Rejected::Insecure { .. } => error_response::insecure(&mut out, sequence),
        Rejected::Unsupported(what) => {
            let text = format!("Headgate cannot log this client in: it asks for {what}");
            error_response::error(&mut out, sequence, 1251, "08004", &text);
        }
        Rejected::Password { given } => {
            let text = format!(
                "Access denied for user '{}'@'{}' (using password: {})",
                String::from_utf8_lossy(user),
                peer.ip(),
                if *given { "YES" } else { "NO" }
            );
            error_response::error(&mut out, sequence, 1045, "28000", &text);
        }
    }
    out
}
