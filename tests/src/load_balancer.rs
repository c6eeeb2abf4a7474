//! A load balancer on this host: it passes connections on from an address of its own, behind a header of its own.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// The beginning of a PROXY header of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// One that runs; its connections end when it is dropped.
#[derive(Debug)]
pub struct LoadBalancer {
    port: u16,
    _serving: JoinSet<()>,
}

impl LoadBalancer {
    /// Passes connections on to a port of this host, from `address`. What it says first is `header`.
    pub async fn start(address: Ipv4Addr, to: u16, header: &[u8]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let header = header.to_vec();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass_on(client, address, to, header.clone()));
            }
        });
        Self { port, _serving: serving }
    }

    /// The port for its clients.
    pub fn port(&self) -> u16 {
        self.port
    }
}

async fn pass_on(mut client: TcpStream, address: Ipv4Addr, to: u16, header: Vec<u8>) {
    let mut server = connect_from(address, to).await;
    // A server that closes is passed on as such.
    if server.write_all(&header).await.is_ok() {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

/// A connection from one of this host's addresses to a port of it.
pub async fn connect_from(address: Ipv4Addr, to: u16) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((address, 0))).expect("an address of this host");
    socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, to))).await.expect("it listens")
}

/// The header of a connection that is passed on for a client, with values behind the addresses as some balancers add.
pub fn proxied(client: SocketAddrV4) -> Vec<u8> {
    let addresses = [client.ip().octets(), [198, 51, 100, 1]].concat();
    let ports = [client.port().to_be_bytes(), 4000_u16.to_be_bytes()].concat();
    let values: &[u8] = &[0xEA, 0, 4, 1, b'v', b'p', b'c'];
    let rest = [&addresses[..], &ports, values].concat();
    let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
    [SIGNATURE, &[0x21, 0x11], &length, &rest].concat()
}

/// The header of a connection of the balancer's own.
pub fn local() -> Vec<u8> {
    [SIGNATURE, &[0x20, 0, 0, 0]].concat()
}
