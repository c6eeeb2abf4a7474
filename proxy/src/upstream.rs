//! Opens connections to a cluster: TCP or Unix socket, within a deadline.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::route::Cluster;

/// A connection to a server.
#[derive(Debug)]
pub enum Upstream {
    /// Over TCP, without Nagle's delay.
    Tcp(TcpStream),
    /// Over the server's Unix socket.
    Unix(UnixStream),
}

/// How long a silent peer is trusted to be alive before the kernel asks it.
const KEEPALIVE_AFTER: Duration = Duration::from_mins(1);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

/// What every TCP connection of the data plane has: no delay, and keepalive.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Opens a connection within the cluster's `connect_timeout`, over its Unix socket where it has one. Fails with the system's error, or `TimedOut`.
pub async fn connect(cluster: &Cluster) -> io::Result<Upstream> {
    let opening = async {
        if let Some(path) = &cluster.socket {
            return UnixStream::connect(path).await.map(Upstream::Unix);
        }
        let stream = TcpStream::connect((cluster.host.as_str(), cluster.port)).await?;
        tune(&stream)?;
        Ok(Upstream::Tcp(stream))
    };
    tokio::time::timeout(cluster.connect_timeout, opening).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

impl Upstream {
    /// Whether an idle connection is still there: a peer that closed it can be read from at once.
    pub fn is_open(&self) -> bool {
        let mut byte = [0];
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut byte),
            Self::Unix(stream) => stream.try_read(&mut byte),
        };
        // Words from a server that was asked nothing are an end, or the announcement of one.
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for Upstream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Upstream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets have nothing of their own to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
