//! The server's half of the login: from an open socket until the server says that it is ready.

use std::io;

use bytes::{Bytes, BytesMut};
use protocol::error::Malformed;
use protocol::postgres::handshake::Startup;
use protocol::postgres::login::{Account, Failed, Login, Welcome};
use protocol::postgres::{frame, reply};
use tokio::io::AsyncReadExt;

use super::client_login::nonce;
use crate::route::Cluster;
use crate::upstream::{KEEPALIVE, Origin, Upstream, address};

pub use protocol::postgres::auth::Credential;

/// No frame is larger that Headgate itself asked for.
const FRAME_BYTES_MAX: usize = 1 << 20;

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
    /// The server asked for a proof, and took it.
    pub proven: bool,
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

impl From<Failed> for Refused {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused { frame, welcomed } => Self::ByServer { frame, welcomed },
            Failed::Malformed(malformed) => Self::Malformed(malformed),
            // As good as somebody else at the other end.
            Failed::Scram(refused) => Self::Unreachable(io::Error::other(refused)),
            Failed::NoPassword => Self::Unsupported("a password, and the configuration has none for this user"),
            Failed::Public => {
                Self::Unsupported("the password in clear text, and the connection to it is not encrypted")
            }
            Failed::Mechanism => Self::Unsupported("a SASL mechanism other than SCRAM-SHA-256"),
            Failed::Method => Self::Unsupported("a kind of authentication that is not supported"),
            Failed::OutOfOrder => Self::Unsupported("a step of the login out of order"),
        }
    }
}

/// Opens a connection within the cluster's `connect_timeout`, in TLS as the cluster says. Fails with the system's error, or `TimedOut`.
pub async fn connect(cluster: &Cluster, origin: Origin) -> io::Result<Upstream> {
    transport::postgres::connect(address(cluster, origin), &cluster.tls, cluster.connect_timeout, &KEEPALIVE).await
}

/// Logs in on `cluster` with the client's own startup parameters, within the cluster's `connect_timeout`.
pub async fn login(
    cluster: &Cluster,
    origin: Origin,
    startup: &Startup,
    database: &str,
    credential: Option<&Credential>,
) -> Result<ServerSession, Refused> {
    let stream = connect(cluster, origin).await?;
    let (mut buffer, mut out) = (BytesMut::new(), BytesMut::new());
    startup.encode_for_server(database.as_bytes(), &mut out);
    let (user, nonce) = (startup.user().unwrap_or_default(), nonce());
    let end_point = stream.end_point();
    let private = stream.is_local() || stream.is_encrypted();
    let account = Account { user: &user, credential, end_point: end_point.as_deref(), private, nonce: &nonce };
    let mut login = Login::new(account);
    let step = |incoming: &mut BytesMut, outgoing: &mut BytesMut| login.feed(incoming, outgoing);
    let logging_in = transport::log_in(stream, (&cluster.tls, &cluster.host), &mut buffer, out, step);
    let (stream, welcome) = tokio::time::timeout(cluster.connect_timeout, logging_in)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))???;
    let Welcome { parameters, key, notices, proven } = welcome;
    Ok(ServerSession { stream, buffer, parameters, key, notices, proven })
}

/// Reads one frame; `None` where the server closed.
pub async fn next_frame(stream: &mut Upstream, buffer: &mut BytesMut) -> Result<Option<frame::Frame>, Refused> {
    loop {
        if let Some(frame) = frame::take(buffer, FRAME_BYTES_MAX)? {
            return Ok(Some(frame));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}
