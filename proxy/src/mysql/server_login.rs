//! The server's half of the login: from an open socket until the server says welcome.

use std::fmt;
use std::io;

use bytes::{Bytes, BytesMut};
use protocol::error::Malformed;
use protocol::mysql::auth::{self, Step, caching_sha2, native};
use protocol::mysql::frame;
use protocol::mysql::handshake::{Capabilities, Greeting, NONCE_BYTES, Response};
use protocol::mysql::reply;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::cipher;
use crate::route::Cluster;
use crate::upstream::{self, Upstream};

/// A packet of a login is never larger than this.
const LOGIN_PACKET_BYTES_MAX: usize = 1 << 20;

/// A server may ask for a proof by another plugin that many times: accounts of MariaDB may have several.
const STEPS_MAX: usize = 16;

/// The first byte of an ERR packet.
const ERR: u8 = 0xFF;

/// The command that ends a session.
const QUIT: &[u8] = &[0x01];

/// What is agreed between client and server and changes what the bytes of statements and results mean: a server that
/// lacks one of them cannot serve a client that has it.
const BINDING: Capabilities = Capabilities::DEPRECATE_EOF
    .with(Capabilities::QUERY_ATTRIBUTES)
    .with(Capabilities::MULTI_RESULTS)
    .with(Capabilities::PS_MULTI_RESULTS);

/// What Headgate never asks a server for: its bytes are forwarded as they are, and TLS is for its own two ends.
const NEVER: Capabilities = Capabilities::COMPRESS
    .with(Capabilities::ZSTD)
    .with(Capabilities::SSL)
    .with(Capabilities::MULTI_FACTOR)
    .with(Capabilities::PROGRESS)
    .with(Capabilities::CONNECT_WITH_DB)
    .with(Capabilities::CONNECT_ATTRS);

/// What Headgate asks every server for.
const ALWAYS: Capabilities = Capabilities::LONG_PASSWORD
    .with(Capabilities::PROTOCOL_41)
    .with(Capabilities::SECURE_CONNECTION)
    .with(Capabilities::TRANSACTIONS);

/// What Headgate asks a server for that has it.
const WANTED: Capabilities =
    Capabilities::PLUGIN_AUTH.with(Capabilities::PLUGIN_AUTH_LENENC).with(Capabilities::SESSION_TRACK);

/// What proves who a client is, to any server that has the same account.
#[derive(Clone)]
pub enum Credential {
    /// The password itself; empty where the account has none.
    Clear(Zeroizing<Vec<u8>>),
    /// The key of an account of the plugin `mysql_native_password`.
    NativeKey(native::Key),
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Clear(_) => "Clear(***)",
            Self::NativeKey(_) => "NativeKey(***)",
        })
    }
}

/// Who logs in: all that is needed to log in once more, on any cluster.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user.
    pub user: Vec<u8>,
    /// What proves it.
    pub credential: Credential,
    /// What the client asked for, as far as it was offered.
    pub capabilities: Capabilities,
    /// The collation that the client named.
    pub charset: u8,
    /// The client's connection attributes, as they came.
    pub attributes: Bytes,
    /// The largest packet that the client takes.
    pub max_packet: u32,
}

/// A server session behind its login, idle.
#[derive(Debug)]
pub struct ServerSession {
    /// The socket.
    pub stream: Upstream,
    /// What was read of it already.
    pub buffer: BytesMut,
    /// The server's number of the connection.
    pub thread: u32,
    /// What was agreed with the server. More than the client asked for: SESSION_TRACK and what the login needs.
    pub capabilities: Capabilities,
    /// The server's version, as it told it.
    pub version: String,
    /// The session's status flags.
    pub status: u16,
    /// The server's greeting, whole.
    pub greeting: Greeting,
    /// The body of the OK packet that ended the login.
    pub welcome: Bytes,
}

/// Why no server session came about.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The server said no.
    #[error("the server refused the login: {}", summary(.0))]
    ByServer(
        /// The body of its own ERR packet.
        Bytes,
    ),
    /// The server cannot be reached or went away.
    #[error("the server cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    /// The server sent something that is not the protocol.
    #[error("the server's login is malformed: {0}")]
    Malformed(#[from] Malformed),
    /// The server asks for what we do not have or cannot do, or lacks what the client uses.
    #[error("the server {0}")]
    Unsupported(&'static str),
}

impl Refused {
    /// The code of the server's error, where it said no.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::ByServer(body) => Some(reply::Error::parse(body).ok()?.code),
            _ => None,
        }
    }
}

fn summary(body: &[u8]) -> String {
    reply::Error::parse(body).map_or_else(|malformed| malformed.to_string(), |error| error.summary())
}

/// Logs in on `cluster` as the client, within the cluster's `connect_timeout`.
pub async fn login(cluster: &Cluster, identity: &Identity, database: Option<&str>) -> Result<ServerSession, Refused> {
    let deadline = tokio::time::Instant::now() + cluster.connect_timeout;
    let stream = upstream::connect(cluster).await?;
    let logging_in = Box::pin(authenticate(stream, identity, database));
    tokio::time::timeout_at(deadline, logging_in).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Ends a server session that nobody uses, as the protocol asks: a connection that is just cut counts as failed.
pub async fn quit(mut session: ServerSession) {
    let mut out = BytesMut::new();
    frame::put(&mut out, &mut 0, QUIT);
    // A server that is gone already needs no farewell.
    if session.stream.write_all(&out).await.is_ok() {
        drop(session.stream.shutdown().await);
    }
}

/// A connection during its login.
struct Line {
    stream: Upstream,
    buffer: BytesMut,
    sequence: u8,
}

impl Line {
    async fn read(&mut self) -> Result<Bytes, Refused> {
        loop {
            if let Some(payload) = frame::take(&mut self.buffer, LOGIN_PACKET_BYTES_MAX)? {
                self.sequence = payload.sequence.wrapping_add(1);
                return Ok(payload.body);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(Refused::Unreachable(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    async fn write(&mut self, body: &[u8]) -> Result<(), Refused> {
        let mut out = Zeroizing::new(Vec::new());
        let mut packet = BytesMut::new();
        frame::put(&mut packet, &mut self.sequence, body);
        out.extend_from_slice(&packet);
        zeroize::Zeroize::zeroize(&mut packet[..]);
        self.stream.write_all(&out).await?;
        Ok(())
    }
}

/// What is asked of this server for this client. Fails where the server lacks what the client was promised.
fn agree(
    wanted: Capabilities,
    offered: Capabilities,
    database: bool,
    attributes: bool,
) -> Result<Capabilities, Refused> {
    let missing = (wanted & BINDING).without(offered);
    if missing != Capabilities::default() {
        return Err(Refused::Unsupported("lacks a capability that the client uses"));
    }
    let mut agreed = (wanted & offered).without(NEVER) | ALWAYS | (WANTED & offered);
    if database {
        agreed |= Capabilities::CONNECT_WITH_DB;
    }
    if attributes {
        agreed |= Capabilities::CONNECT_ATTRS & offered;
    }
    Ok(agreed)
}

async fn authenticate(stream: Upstream, identity: &Identity, database: Option<&str>) -> Result<ServerSession, Refused> {
    let mut line = Line { stream, buffer: BytesMut::with_capacity(1 << 10), sequence: 0 };
    let first = line.read().await?;
    if first.first() == Some(&ERR) {
        return Err(Refused::ByServer(first));
    }
    let greeting = Greeting::parse(&first)?;
    let capabilities =
        agree(identity.capabilities, greeting.capabilities, database.is_some(), !identity.attributes.is_empty())?;
    let mut exchange = Exchange::begin(identity, &greeting);
    let response = Response {
        capabilities,
        extended: 0,
        max_packet: identity.max_packet,
        charset: identity.charset,
        user: Bytes::copy_from_slice(&identity.user),
        proof: exchange.first_proof(),
        database: database.map(|name| Bytes::copy_from_slice(name.as_bytes())),
        plugin: exchange.plugin.clone(),
        attributes: identity.attributes.clone(),
        zstd_level: None,
    };
    let mut out = BytesMut::new();
    response.encode(&mut out);
    line.write(&out).await?;
    for _ in 0..STEPS_MAX {
        match Step::parse(line.read().await?)? {
            Step::Ok(welcome) => {
                return Ok(ServerSession {
                    stream: line.stream,
                    buffer: line.buffer,
                    thread: greeting.thread,
                    capabilities,
                    version: String::from_utf8_lossy(&greeting.version).into_owned(),
                    status: reply::Okay::status_of(&welcome)?,
                    greeting,
                    welcome,
                });
            }
            Step::Err(body) => return Err(Refused::ByServer(body)),
            Step::Switch { plugin, data } => {
                let proof = exchange.switch(plugin, &data, &line.stream)?;
                line.write(&proof).await?;
            }
            Step::MoreData(data) => {
                if let Some(answer) = exchange.go_on(&data, &line.stream)? {
                    line.write(&answer).await?;
                }
            }
            Step::OldSwitch => {
                return Err(Refused::Unsupported("asks for a proof from before version 4.1"));
            }
            Step::NextFactor => return Err(Refused::Unsupported("asks for a second factor")),
        }
    }
    Err(Refused::Unsupported("does not come to an end with the login"))
}

/// The client's side of whatever plugin the server asks for.
struct Exchange<'a> {
    credential: &'a Credential,
    plugin: Bytes,
    nonce: [u8; NONCE_BYTES],
    /// The server was asked for its RSA key.
    key_wanted: bool,
}

const NO_PASSWORD: Refused =
    Refused::Unsupported("asks for the password itself, and only the key of mysql_native_password is known");

impl<'a> Exchange<'a> {
    /// Begins with the server's own plugin where we can speak it, else with that of our credential.
    fn begin(identity: &'a Identity, greeting: &Greeting) -> Self {
        let plugin = match identity.credential {
            Credential::Clear(_) if greeting.plugin == auth::CACHING_SHA2 => auth::CACHING_SHA2,
            _ => auth::NATIVE,
        };
        Self {
            credential: &identity.credential,
            plugin: Bytes::from_static(plugin),
            nonce: greeting.nonce,
            key_wanted: false,
        }
    }

    fn first_proof(&self) -> Bytes {
        self.prove().map_or_else(|_| Bytes::new(), |proof| Bytes::copy_from_slice(&proof))
    }

    fn prove(&self) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let proof = match (&self.plugin[..], self.credential) {
            (auth::NATIVE, Credential::NativeKey(key)) => key.prove(&self.nonce).to_vec(),
            (auth::NATIVE | auth::CACHING_SHA2, Credential::Clear(password)) if password.is_empty() => Vec::new(),
            (auth::NATIVE, Credential::Clear(password)) => native::Key::of(password).prove(&self.nonce).to_vec(),
            (auth::CACHING_SHA2, Credential::Clear(password)) => caching_sha2::prove(password, &self.nonce).to_vec(),
            _ => return Err(NO_PASSWORD),
        };
        Ok(Zeroizing::new(proof))
    }

    /// The answer to a server that asks for another plugin, or for the same one against another nonce.
    fn switch(&mut self, plugin: Bytes, data: &[u8], stream: &Upstream) -> Result<Zeroizing<Vec<u8>>, Refused> {
        self.plugin = plugin;
        if let Some(nonce) = auth::nonce_of(data) {
            self.nonce = nonce;
        }
        let password = || match self.credential {
            Credential::Clear(password) => Ok(password),
            Credential::NativeKey(_) => Err(NO_PASSWORD),
        };
        match &self.plugin[..] {
            auth::NATIVE | auth::CACHING_SHA2 => self.prove(),
            auth::SHA256 => {
                self.key_wanted = !password()?.is_empty();
                let word = if self.key_wanted { auth::KEY_WANTED_SHA256 } else { 0 };
                Ok(Zeroizing::new(vec![word]))
            }
            auth::CLEAR if matches!(stream, Upstream::Unix(_)) => Ok(closed(password()?)),
            auth::CLEAR => {
                Err(Refused::Unsupported("asks for the password in clear text, which goes over its Unix socket only"))
            }
            _ => Err(Refused::Unsupported("asks for a login plugin that is not supported")),
        }
    }

    /// The answer to the plugin's next words, where it wants one.
    fn go_on(&mut self, data: &[u8], stream: &Upstream) -> Result<Option<Zeroizing<Vec<u8>>>, Refused> {
        let Credential::Clear(password) = self.credential else {
            return Err(NO_PASSWORD);
        };
        if std::mem::take(&mut self.key_wanted) {
            let masked = auth::mask(&closed(password), &self.nonce);
            let sealed =
                cipher::seal(data, &masked).ok_or(Refused::Unsupported("sent a public key that cannot be used"))?;
            return Ok(Some(Zeroizing::new(sealed)));
        }
        match (&self.plugin[..], data) {
            (auth::CACHING_SHA2, [auth::FAST_OK]) => Ok(None),
            (auth::CACHING_SHA2, [auth::FULL_NEEDED]) => match stream {
                Upstream::Unix(_) => Ok(Some(closed(password))),
                Upstream::Tcp(_) => {
                    self.key_wanted = true;
                    Ok(Some(Zeroizing::new(vec![auth::KEY_WANTED])))
                }
            },
            _ => Err(Refused::Unsupported("asks for more than its login plugin knows")),
        }
    }
}

/// The password with its closing zero.
fn closed(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut closed = Zeroizing::new(Vec::with_capacity(password.len() + 1));
    closed.extend_from_slice(password);
    closed.push(0);
    closed
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODERN: Capabilities = Capabilities::DEPRECATE_EOF
        .with(Capabilities::SESSION_TRACK)
        .with(Capabilities::CONNECT_ATTRS)
        .with(Capabilities::COMPRESS)
        .with(Capabilities::LOCAL_FILES);

    #[test]
    fn a_server_is_asked_for_what_the_client_asked_and_for_nothing_that_changes_the_bytes() {
        let wanted = Capabilities::LOCAL_FILES | Capabilities::COMPRESS | Capabilities::SSL;
        let agreed = agree(wanted, MODERN, true, false).expect("agreed");
        assert!(agreed.has(Capabilities::LOCAL_FILES | Capabilities::CONNECT_WITH_DB));
        assert!(agreed.has(Capabilities::SESSION_TRACK), "Headgate's own wish");
        for never in
            [Capabilities::COMPRESS, Capabilities::SSL, Capabilities::DEPRECATE_EOF, Capabilities::CONNECT_ATTRS]
        {
            assert!(!agreed.has(never), "{never:?}");
        }
    }

    #[test]
    fn a_server_that_lacks_what_the_clients_results_rely_on_is_refused() {
        let old = MODERN.without(Capabilities::DEPRECATE_EOF);
        assert!(agree(Capabilities::DEPRECATE_EOF, old, false, false).is_err());
        assert!(agree(Capabilities::DEPRECATE_EOF, MODERN, false, false).is_ok());
        // What a server lacks besides is only missed by whoever uses it.
        assert!(agree(Capabilities::LOCAL_FILES, Capabilities::default(), false, false).is_ok());
    }
}
