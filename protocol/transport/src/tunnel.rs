//! Ports of this host through which programs and drivers that open their own connections reach a server that wants a PROXY
//! header first. What goes through is not looked at: TLS and logins are between the ends.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::proxy_protocol::Header;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{Address, Keepalive, Stream, connect};

/// What is on its way in each direction, at most.
const BUFFER_BYTES: usize = 64 << 10;
/// Connections through one port at the same time.
const CONNECTIONS_MAX: usize = 256;
/// A pause after an accept that failed for want of resources, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a driver may take to come.
const DRIVER_TIMEOUT: Duration = Duration::from_secs(10);

/// A port for a program that may open several connections. They end when it is dropped.
#[derive(Debug)]
pub struct Tunnel {
    port: u16,
    _serving: JoinSet<()>,
}

/// Where a tunnel leads.
struct Server {
    host: String,
    port: u16,
    socket: Option<PathBuf>,
    header: Option<Header>,
}

impl Tunnel {
    /// Opens a port whose every connection is one to `address`, opened within so much time.
    pub async fn open(address: Address<'_>, within: Duration, alive: &Keepalive) -> io::Result<Self> {
        let (listener, port) = listen().await?;
        let Address { host, port: server_port, socket, header } = address;
        let server = Server { host: host.to_owned(), port: server_port, socket: socket.map(PathBuf::from), header };
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, server, within, *alive));
        Ok(Self { port, _serving: serving })
    }

    /// The port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

async fn listen() -> io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

async fn serve(listener: TcpListener, server: Server, within: Duration, alive: Keepalive) {
    let server = Arc::new(server);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let server = Arc::clone(&server);
        connections.spawn(async move {
            let Server { host, port, socket, header } = &*server;
            let address = Address { host, port: *port, socket: socket.as_deref(), header: *header };
            // The program sees that its connection ends.
            if let Ok(stream) = connect(address, within, &alive).await {
                forward(client, stream).await;
            }
        });
    }
}

/// Opens a port for one connection, which is the other end of `stream`. It ends with either of them.
pub(crate) async fn port_of(stream: Stream) -> io::Result<u16> {
    let (listener, port) = listen().await?;
    tokio::spawn(async move {
        if let Ok(Ok((client, _))) = timeout(DRIVER_TIMEOUT, listener.accept()).await {
            drop(listener);
            forward(client, stream).await;
        }
    });
    Ok(port)
}

async fn forward(mut client: TcpStream, mut server: Stream) {
    // Both ends see how it ended.
    let _ = client.set_nodelay(true);
    let _ = copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER_BYTES, BUFFER_BYTES).await;
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use bytes::BytesMut;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const ALIVE: Keepalive = Keepalive { after: LONG, every: LONG, unheard_max: None };

    fn at(address: SocketAddr) -> Address<'static> {
        Address { host: "127.0.0.1", port: address.port(), socket: None, header: Some(Header::Local) }
    }

    /// Says something through the port; the server hears it behind the header and answers; then the client leaves.
    async fn talk(server: &TcpListener, port: u16) {
        let mut expected = BytesMut::new();
        Header::Local.encode(&mut expected);
        expected.extend_from_slice(b"question");
        let answering = async {
            let (mut stream, _) = server.accept().await.expect("a connection");
            let mut heard = vec![0; expected.len()];
            stream.read_exact(&mut heard).await.expect("all of it");
            assert_eq!(heard, expected);
            stream.write_all(b"answer").await.expect("it is open");
            assert_eq!(stream.read(&mut [0]).await.expect("an end"), 0, "the client left");
        };
        let asking = async {
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("a tunnel");
            client.write_all(b"question").await.expect("it is open");
            let mut heard = [0; 6];
            client.read_exact(&mut heard).await.expect("the answer");
            assert_eq!(&heard, b"answer");
        };
        timeout(LONG, async { tokio::join!(answering, asking) }).await.expect("in time");
    }

    #[tokio::test]
    async fn every_connection_through_a_tunnel_begins_with_the_header_and_ends_with_the_tunnel() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = at(server.local_addr().expect("bound"));
        let tunnel = Tunnel::open(address, LONG, &ALIVE).await.expect("a port");
        talk(&server, tunnel.port()).await;
        talk(&server, tunnel.port()).await;
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, tunnel.port())).await.expect("a tunnel");
        let (_stream, _) = server.accept().await.expect("a connection");
        drop(tunnel);
        let ended = timeout(LONG, client.read(&mut [0])).await.expect("in time");
        assert!(matches!(ended, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn a_port_for_one_connection_takes_one() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = at(server.local_addr().expect("bound"));
        let port = port_of(connect(address, LONG, &ALIVE).await.expect("a server")).await.expect("a port");
        talk(&server, port).await;
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err(), "a second one");
    }
}
