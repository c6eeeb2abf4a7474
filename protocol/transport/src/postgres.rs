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
        SSL_NO if tls.mode() == Mode::Prefer => {
            tls.is_declined();
            Ok(stream)
        }
        SSL_NO => {
            let why = "the server does not offer TLS, which the configuration requires";
            Err(io::Error::new(io::ErrorKind::InvalidData, why))
        }
        // An error from before TLS, which anybody could have said: it is not shown.
        _ => Err(io::Error::other("the server answers the request for TLS with an error")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;
    use crate::tls::Settings;

    const LONG: Duration = Duration::from_secs(20);
    const ALIVE: Keepalive = Keepalive { after: LONG, every: LONG, unheard_max: None };

    #[tokio::test]
    async fn a_server_without_tls_is_asked_for_it_once_where_it_is_preferred_and_always_where_it_must_be() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let address = Address { host: "127.0.0.1", port, socket: None, header: None };
        // Whether the connection begins with the request, and whether it came about.
        let opened = async |tls: &Tls| {
            let asked = async {
                let (mut peer, _) = listener.accept().await.expect("one comes");
                let mut first = [0; SSL_REQUEST.len()];
                let asked = peer.read_exact(&mut first).await.is_ok() && first == SSL_REQUEST;
                let _ = peer.write_all(&[SSL_NO]).await;
                asked
            };
            let opening = async {
                let stream = connect(address, tls, LONG, &ALIVE).await;
                // What a session says first is longer, and is no request.
                if let Ok(mut stream) = stream {
                    stream.write_all(&[0; SSL_REQUEST.len()]).await.expect("it is open");
                    return true;
                }
                false
            };
            tokio::join!(asked, opening)
        };
        let preferred = Tls::default();
        assert_eq!(opened(&preferred).await, (true, true));
        assert_eq!(opened(&preferred.clone()).await, (false, true), "asked again");
        let required = Tls::new(Settings { mode: Mode::Require, ..Settings::default() });
        assert_eq!(opened(&required).await, (true, false));
        assert_eq!(opened(&required).await, (true, false));
    }
}
