//! The one way to reach a server: TCP over all addresses of a name, or a Unix socket, with TLS or without, within a deadline.

pub mod mysql;
mod password;
pub mod postgres;
mod stream;
pub mod tls;
mod tunnel;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use protocol::progress::Progress;
use protocol::proxy_protocol::Header;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

pub use password::Password;
pub use stream::{Stream, ended};
pub use tls::Tls;
pub use tunnel::Tunnel;
use zeroize::Zeroize;

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
pub struct Address<'a> {
    /// A host name or an address.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// The Unix socket that is used instead of both.
    pub socket: Option<&'a Path>,
    /// The PROXY header that the server wants first, if it does.
    pub header: Option<Header>,
}

/// How a peer that is gone without a word is told from one that has nothing to say. Unix sockets need none of it.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    /// How long a connection is quiet before the kernel asks the peer.
    pub after: Duration,
    /// The time between the askings.
    pub every: Duration,
    /// How long what was sent may stay unacknowledged, where the system's own limit is too long.
    pub unheard_max: Option<Duration>,
}

/// Sets what every TCP connection has, to servers and from clients: no delay, and keepalive.
pub fn tune(stream: &TcpStream, alive: &Keepalive) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(alive.after).with_interval(alive.every))?;
    #[cfg(target_os = "linux")]
    if alive.unheard_max.is_some() {
        socket.set_tcp_user_timeout(alive.unheard_max)?;
    }
    Ok(())
}

/// Opens a connection that is not encrypted yet, behind its PROXY header where it has one. Fails with the system's error, or `TimedOut`.
pub async fn connect(address: Address<'_>, within: Duration, alive: &Keepalive) -> io::Result<Stream> {
    let deadline = Instant::now() + within;
    let opening = async {
        let mut stream = if let Some(path) = address.socket {
            Stream::Unix(UnixStream::connect(path).await?)
        } else {
            let all = lookup_host((address.host, address.port)).await?;
            let stream = first_of(&all.collect::<Vec<_>>(), deadline).await?;
            tune(&stream, alive)?;
            Stream::Tcp(stream)
        };
        if let Some(header) = address.header {
            let mut out = BytesMut::new();
            as_seen_there(header, &stream)?.encode(&mut out);
            stream.write_all(&out).await?;
        }
        Ok(stream)
    };
    timeout_at(deadline, opening).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The header as it is true at the other end. A loopback address means the host that it is used on: a server elsewhere would
/// take it for its own, and whoever has it for somebody who is there. Such a connection counts as one of this host.
fn as_seen_there(header: Header, stream: &Stream) -> io::Result<Header> {
    let is_loopback = |address: SocketAddr| address.ip().to_canonical().is_loopback();
    match (header, stream) {
        (Header::Proxied(addresses), Stream::Tcp(stream)) if is_loopback(addresses.source) => {
            Ok(if is_loopback(stream.local_addr()?) { header } else { Header::Local })
        }
        (header, _) => Ok(header),
    }
}

/// Tries all in their order. Each has its share of what is left of the time: one that never answers, such as an IPv6
/// address without a route, leaves some to the next.
async fn first_of(all: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any address");
    for (address, rest) in all.iter().zip((1..=all.len()).rev()) {
        let share = deadline.saturating_duration_since(Instant::now()) / u32::try_from(rest).unwrap_or(u32::MAX);
        failure = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
    }
    Err(failure)
}

/// Sends `outgoing`, and then what `step` appends to it whenever something has arrived, until `step` is done or fails.
/// Where it asks for that, the connection is encrypted as `tls` says, to the server of that name; what arrived before that
/// counts as said by anybody, and fails the login with `InvalidData`. What was sent is wiped: logins have passwords in it.
/// Fails with `UnexpectedEof` where the server closes. The caller sets the deadline.
pub async fn log_in<T, F>(
    mut stream: Stream,
    (tls, host): (&Tls, &str),
    incoming: &mut BytesMut,
    outgoing: BytesMut,
    mut step: impl FnMut(&mut BytesMut, &mut BytesMut) -> Result<Progress<T>, F>,
) -> io::Result<Result<(Stream, T), F>> {
    let mut outgoing = Wiped(outgoing);
    loop {
        stream.write_all(&outgoing.0).await?;
        stream.flush().await?;
        outgoing.0.as_mut().zeroize();
        outgoing.0.clear();
        if stream.read_buf(incoming).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut next = step(incoming, &mut outgoing.0);
        while let Ok(Progress::Encrypt) = next {
            stream.write_all(&outgoing.0).await?;
            outgoing.0.clear();
            if !incoming.is_empty() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the server went on before TLS had begun"));
            }
            stream = stream.encrypt(tls, host, None).await?;
            next = step(incoming, &mut outgoing.0);
        }
        match next {
            Ok(Progress::Done(outcome)) => return Ok(Ok((stream, outcome))),
            Ok(Progress::More | Progress::Encrypt) => {}
            Err(failed) => return Ok(Err(failed)),
        }
    }
}

/// Connects by `attempt`, which is told with what TLS. Where that is only preferred and does not come about, it is tried once
/// more without, as libpq does; where the server has no TLS, the connections that follow soon are without from the beginning.
pub async fn preferring<T, E, F>(
    tls: &Tls,
    attempt: impl Fn(Tls) -> F,
    failed_in_tls: impl Fn(&E) -> bool,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let asked = tls.to_ask_for();
    match attempt(asked.clone()).await {
        Err(error) if asked.mode() == tls::Mode::Prefer && failed_in_tls(&error) => attempt(Tls::disabled()).await,
        met => met,
    }
}

/// Whether TLS could not be agreed on: either end does not speak what the other does, or closed at it.
pub fn is_of_handshake(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<tls::HandshakeFailed>)
}

/// Bytes that do not stay in memory, however the login ends.
struct Wiped(BytesMut);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.as_mut().zeroize();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use protocol::proxy_protocol::Addresses;
    use socket2::{Domain, Socket, Type};

    use super::*;

    const ALIVE: Keepalive = Keepalive {
        after: Duration::from_secs(21),
        every: Duration::from_secs(7),
        unheard_max: Some(Duration::from_secs(13)),
    };
    /// Much more than a connection on this host takes, and short enough to wait for.
    const SHORT: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_secs(20);

    /// A listener whose queue is full: the kernel answers no further connection.
    struct Silent {
        _listener: Socket,
        _queued: Vec<TcpStream>,
        address: SocketAddr,
    }

    impl Silent {
        async fn new() -> Self {
            let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
            listener.listen(0).expect("a queue");
            let address = listener.local_addr().expect("bound").as_socket().expect("of TCP");
            let mut queued = Vec::new();
            while let Ok(stream) = timeout(SHORT, TcpStream::connect(address)).await {
                queued.push(stream.expect("in the queue"));
                assert!(queued.len() < 64, "the queue has no end");
            }
            Self { _listener: listener, _queued: queued, address }
        }
    }

    fn at(address: SocketAddr) -> Address<'static> {
        Address { host: "127.0.0.1", port: address.port(), socket: None, header: None }
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_given_up_at_the_deadline() {
        let silent = Silent::new().await;
        let begun = Instant::now();
        let opening = timeout(LONG, connect(at(silent.address), SHORT, &ALIVE));
        let failure = opening.await.expect("given up by itself").expect_err("silent");
        assert_eq!(failure.kind(), io::ErrorKind::TimedOut);
        assert!((SHORT..LONG).contains(&begun.elapsed()));
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_leaves_time_for_the_next() {
        let silent = Silent::new().await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let answering = listener.local_addr().expect("bound");
        let begun = Instant::now();
        let opened = first_of(&[silent.address, answering], begun + 6 * SHORT).await.expect("the second");
        assert_eq!(opened.peer_addr().expect("connected"), answering);
        assert!(begun.elapsed() >= 3 * SHORT, "half of the time is the first one's");
    }

    #[tokio::test]
    async fn a_refusal_is_told_as_the_system_tells_it() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let nobody = listener.local_addr().expect("bound");
        drop(listener);
        let failure = connect(at(nobody), LONG, &ALIVE).await.expect_err("nobody listens");
        assert_eq!(failure.kind(), io::ErrorKind::ConnectionRefused);
        let nowhere = Address { socket: Some(Path::new("/nowhere/at/all")), ..at(nobody) };
        let failure = connect(nowhere, LONG, &ALIVE).await.expect_err("no such socket");
        assert_eq!(failure.kind(), io::ErrorKind::NotFound);
        assert!(first_of(&[], Instant::now() + LONG).await.is_err(), "a name without an address");
    }

    #[tokio::test]
    async fn a_client_on_this_host_is_called_so_to_servers_on_this_host_alone() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let there = connect(at(listener.local_addr().expect("bound")), LONG, &ALIVE).await.expect("connected");
        let of = |source: &str| {
            let source = source.parse().expect("an address");
            Header::Proxied(Addresses { source, destination: source })
        };
        for source in ["127.0.0.2:5", "[::1]:5", "192.0.2.1:5"] {
            assert_eq!(as_seen_there(of(source), &there).expect("asked"), of(source));
        }
        // Where this host has another address than that of its loopback.
        let any = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
        let probe = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
        let Ok(own) = probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr()) else { return };
        let address = SocketAddr::new(own.ip(), any.local_addr().expect("bound").port());
        let host = own.ip().to_string();
        let elsewhere = Address { host: &host, ..at(address) };
        let there = connect(elsewhere, LONG, &ALIVE).await.expect("connected");
        assert_eq!(as_seen_there(of("127.0.0.2:5"), &there).expect("asked"), Header::Local);
        assert_eq!(as_seen_there(of("192.0.2.1:5"), &there).expect("asked"), of("192.0.2.1:5"));
    }

    #[tokio::test]
    async fn a_tcp_connection_has_no_delay_and_is_kept_alive() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let by_name = Address { host: "localhost", ..at(address) };
        let Stream::Tcp(stream) = connect(by_name, LONG, &ALIVE).await.expect("connected") else {
            panic!("not over TCP");
        };
        assert!(stream.nodelay().expect("asked"));
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("asked"));
        assert_eq!(socket.tcp_keepalive_time().expect("asked"), ALIVE.after);
        assert_eq!(socket.tcp_keepalive_interval().expect("asked"), ALIVE.every);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().expect("asked"), ALIVE.unheard_max);
    }
}
