//! Whose connection a load balancer passes on: by the PROXY header that it begins with.

use std::io;

use bytes::BytesMut;
use protocol::proxy_protocol::{Addresses, Header, Invalid, Parsed, parse};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::networks::Networks;

/// What every header begins with, as far as a client's first packet goes before it is refused: a number that no length is.
pub(crate) const BEGINNING: &[u8; 4] = b"\r\n\r\n";

/// Room for a header with addresses and few values behind them.
const USUAL_BYTES: usize = 128;

/// Why nobody knows whose connection it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unknown {
    /// There is no header, or none that is valid.
    #[error(
        "{0}; its address is in listen.proxy_protocol_networks, from where every connection must begin with a PROXY header of \
         version 2"
    )]
    Invalid(#[from] Invalid),
    /// The connection failed.
    #[error("the connection failed within its PROXY header: {0}")]
    Io(#[from] io::Error),
    /// Nothing came, or not all of it.
    #[error(
        "no PROXY header came within limits.login_timeout; its address is in listen.proxy_protocol_networks, from where every \
         connection must begin with one"
    )]
    Late,
}

impl Unknown {
    /// The reason by which it is counted.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "proxy header",
            Self::Io(_) => "connection lost",
            Self::Late => "timeout",
        }
    }
}

/// The ends of a client's connection: where it comes from one of the `trusted` networks as its header says, which is taken off;
/// else its own. `None` where it closed before it said anything, as the plainest of health checks do.
pub(crate) async fn client_addresses(
    stream: &mut TcpStream,
    own: Addresses,
    trusted: &Networks,
) -> Result<Option<Addresses>, Unknown> {
    let own = own.canonical();
    if !trusted.contains(own.source.ip()) {
        return Ok(Some(own));
    }
    Ok(take(stream).await?.map(|header| match header {
        Header::Local => own,
        Header::Proxied(addresses) => addresses,
    }))
}

/// Reads the header and nothing behind it: that is the client's, or TLS's.
async fn take(stream: &mut TcpStream) -> Result<Option<Header>, Unknown> {
    let mut bytes = BytesMut::with_capacity(USUAL_BYTES);
    loop {
        let needs = match parse(&bytes)? {
            Parsed::Complete(header) => return Ok(Some(header)),
            Parsed::Needs(needs) => needs,
        };
        let limit = u64::try_from(needs).unwrap_or(u64::MAX);
        match (&mut *stream).take(limit).read_buf(&mut bytes).await {
            Ok(0) | Err(_) if bytes.is_empty() => return Ok(None),
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use transport::Address;

    use super::*;
    use crate::upstream::KEEPALIVE;

    /// What comes of these words and an end, and what is left of them for the client's login.
    async fn taken(trusted: &str, words: &[&[u8]]) -> (Result<Option<Addresses>, Unknown>, Addresses, Vec<u8>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let at = Address { host: "127.0.0.1", port: address.port(), socket: None, header: None };
        let mut client = transport::connect(at, Duration::from_secs(20), &KEEPALIVE).await.expect("connected");
        let (mut stream, source) = listener.accept().await.expect("accepted");
        let own = Addresses { source, destination: address };
        let networks = Networks::parse(trusted).expect("valid");
        let saying = async move {
            for part in words {
                client.write_all(part).await.expect("it is open");
                tokio::task::yield_now().await;
            }
        };
        let (addresses, ()) = tokio::join!(client_addresses(&mut stream, own, &networks), saying);
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest).await);
        (addresses, own, rest)
    }

    fn header(header: Header) -> Vec<u8> {
        let mut out = BytesMut::new();
        header.encode(&mut out);
        out.to_vec()
    }

    fn of_somebody() -> Addresses {
        let address = |text: &str| text.parse().expect("an address");
        Addresses { source: address("192.0.2.1:5"), destination: address("198.51.100.1:6") }
    }

    #[tokio::test]
    async fn a_header_is_taken_off_byte_by_byte_or_whole_and_what_follows_stays() {
        let proxied = header(Header::Proxied(of_somebody()));
        let whole = [&proxied[..], b"first packet"].concat();
        let (addresses, _, rest) = taken("127.0.0.0/8", &[&whole]).await;
        assert_eq!((addresses.expect("valid"), &rest[..]), (Some(of_somebody()), &b"first packet"[..]));
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        let (addresses, _, rest) = taken("127.0.0.1", &bytes).await;
        assert_eq!((addresses.expect("valid"), &rest[..]), (Some(of_somebody()), &b"first packet"[..]));
        let (addresses, own, rest) = taken("127.0.0.1", &[&header(Header::Local), b"x"]).await;
        assert_eq!((addresses.expect("valid"), &rest[..]), (Some(own), &b"x"[..]));
    }

    #[tokio::test]
    async fn from_elsewhere_nothing_is_read_and_from_there_nothing_else_is_taken() {
        let proxied = header(Header::Proxied(of_somebody()));
        let (addresses, own, rest) = taken("10.0.0.0/8, ::1", &[&proxied]).await;
        assert_eq!((addresses.expect("its own"), rest), (Some(own), proxied.clone()));
        let (refused, ..) = taken("127.0.0.1", &[b"\0\0\0\x08\x04\xD2\x16\x2F"]).await;
        assert!(matches!(refused, Err(Unknown::Invalid(Invalid::Missing))), "{refused:?}");
        let (refused, ..) = taken("127.0.0.1", &[b"PROXY TCP4 1.1.1.1 2.2.2.2 3 4\r\n"]).await;
        assert!(matches!(refused, Err(Unknown::Invalid(Invalid::Text))), "{refused:?}");
        let (lost, ..) = taken("127.0.0.1", &[&proxied[..20]]).await;
        assert!(matches!(lost, Err(Unknown::Io(_))), "{lost:?}");
        assert!(matches!(taken("127.0.0.1", &[]).await.0, Ok(None)), "a health check");
    }
}
