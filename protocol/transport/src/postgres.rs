//! TLS to PostgreSQL's servers, which comes before all else: for sessions, SQL, replication and cancel requests.

use std::io;
use std::time::Duration;

use protocol::postgres::handshake::{ALPN, SSL_NO, SSL_REQUEST, SSL_YES};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::tls::{Mode, Tls};
use crate::{Address, Keepalive, Stream};

/// Opens a connection, encrypted as `tls` says. Fails with the system's error or `TimedOut`, and with `InvalidData` where the
/// server does not offer what must be, or does not prove it.
pub async fn connect(address: Address<'_>, tls: &Tls, within: Duration, alive: &Keepalive) -> io::Result<Stream> {
    let deadline = Instant::now() + within;
    let left = || deadline.saturating_duration_since(Instant::now());
    let attempt = |tls: Tls| async move {
        let stream = crate::connect(address, left(), alive).await?;
        if stream.is_local() || tls.mode() == Mode::Disable {
            return Ok(stream);
        }
        let encrypting = timeout_at(deadline, encrypt(stream, &tls, address.host));
        encrypting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    };
    crate::preferring(tls, attempt, crate::is_of_handshake).await
}

async fn encrypt(mut stream: Stream, tls: &Tls, host: &str) -> io::Result<Stream> {
    stream.write_all(&SSL_REQUEST).await?;
    // One byte, and not more: what follows it in the clear would be taken for the server's word.
    match stream.read_u8().await? {
        SSL_YES => stream.encrypt(tls, host, Some(ALPN)).await,
        SSL_NO if tls.mode() == Mode::Prefer => Ok(stream),
        SSL_NO => {
            let why = "the server does not offer TLS, which the configuration requires";
            Err(io::Error::new(io::ErrorKind::InvalidData, why))
        }
        // An error from before TLS, which anybody could have said: it is not shown.
        _ => Err(io::Error::other("the server answers the request for TLS with an error")),
    }
}
