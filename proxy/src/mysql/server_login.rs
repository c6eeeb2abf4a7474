//! The server's half of the login: from an open socket until the server says welcome.

use std::io;

use bytes::{Bytes, BytesMut};
use protocol::error::Malformed;
use protocol::mysql::auth::seal;
use protocol::mysql::handshake::{Capabilities, Greeting};
use protocol::mysql::login::{Channel, Client, Failed, Login, Welcome};
use protocol::mysql::{frame, reply};
use rsa::rand_core::OsRng;
use tokio::io::AsyncWriteExt;
use transport::Tls;
use transport::tls::Mode;

use crate::route::Cluster;
use crate::upstream::{KEEPALIVE, Origin, Upstream, address};

pub use protocol::mysql::login::{Credential, Identity};

/// The command that ends a session.
const QUIT: &[u8] = &[0x01];

/// What Headgate asks a server for that has it, whatever the client asked for.
const WANTED: Capabilities = Capabilities::PLUGIN_AUTH_LENENC.with(Capabilities::SESSION_TRACK);

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

impl AsRef<Upstream> for ServerSession {
    fn as_ref(&self) -> &Upstream {
        &self.stream
    }
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
    /// The server asks for the password itself, or for what only who knows it can make.
    #[error("the server asks for the password itself, and only the key of mysql_native_password is known")]
    PasswordNeeded,
    /// The account logs in by a plugin that Headgate does not have.
    #[error("the server asks for the login plugin {0:?}, which is not supported")]
    UnknownPlugin(String),
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

impl From<Failed> for Refused {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(body) => Self::ByServer(body),
            Failed::Malformed(malformed) => Self::Malformed(malformed),
            Failed::Unsupported { why, .. } => Self::Unsupported(why),
            Failed::PasswordNeeded => Self::PasswordNeeded,
            Failed::UnknownPlugin(name) => Self::UnknownPlugin(name),
        }
    }
}

/// Logs in on `cluster` as the client, within the cluster's `connect_timeout`.
pub async fn login(
    cluster: &Cluster,
    origin: Origin,
    identity: &Identity,
    database: Option<&str>,
) -> Result<ServerSession, Refused> {
    let deadline = tokio::time::Instant::now() + cluster.connect_timeout;
    let plain = identity.plain && cluster.tls.mode() == Mode::Prefer;
    let tls = if plain { Tls::disabled() } else { cluster.tls.clone() };
    let attempt = |tls: Tls| async move {
        let logging_in = tokio::time::timeout_at(deadline, attempt((cluster, origin), &tls, identity, database));
        logging_in.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    };
    let failed_in_tls =
        |refused: &Refused| matches!(refused, Refused::Unreachable(error) if transport::is_of_handshake(error));
    transport::preferring(&tls, attempt, failed_in_tls).await
}

async fn attempt(
    (cluster, origin): (&Cluster, Origin),
    tls: &Tls,
    identity: &Identity,
    database: Option<&str>,
) -> Result<ServerSession, Refused> {
    let stream = transport::connect(address(cluster, origin), cluster.connect_timeout, &KEEPALIVE).await?;
    let mut buffer = BytesMut::with_capacity(1 << 10);
    let channel = if stream.is_local() { Channel::Socket } else { Channel::Network };
    let seal = |key: &[u8], clear: &[u8]| seal(key, clear, &mut OsRng);
    let encryption = transport::mysql::encryption(tls, &stream);
    let mut login = Login::new(Client { identity, also: WANTED, database, channel, encryption, seal });
    let step = |incoming: &mut BytesMut, outgoing: &mut BytesMut| login.feed(incoming, outgoing);
    let server = (tls, cluster.host.as_str());
    let (stream, welcome) = transport::log_in(stream, server, &mut buffer, BytesMut::new(), step).await??;
    let Welcome { greeting, capabilities, status, okay } = welcome;
    Ok(ServerSession {
        stream,
        buffer,
        thread: greeting.thread,
        capabilities,
        version: String::from_utf8_lossy(&greeting.version).into_owned(),
        status,
        greeting,
        welcome: okay,
    })
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
