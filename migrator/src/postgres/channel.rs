//! Hands the driver a connection that is open, and in TLS already where it must be; its logins are bound to that.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, Connection, Error};
use transport::Stream;

/// A connection in TLS, as the driver sees it.
#[derive(Debug)]
pub struct Channel(Stream);

/// Takes connections as they are.
#[derive(Clone, Copy, Debug)]
pub struct AsItIs;

/// Logs in on an open connection.
pub async fn log_in(mut config: Config, stream: Stream) -> Result<(Client, Connection<Stream, Channel>), Error> {
    if stream.is_encrypted() {
        // The driver is to ask for nothing, and to take the connection for one in TLS.
        config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    } else {
        config.ssl_mode(SslMode::Disable);
    }
    config.connect_raw(stream, AsItIs).await
}

impl TlsConnect<Stream> for AsItIs {
    type Stream = Channel;
    type Error = Infallible;
    type Future = Ready<Result<Channel, Infallible>>;

    fn connect(self, stream: Stream) -> Self::Future {
        ready(Ok(Channel(stream)))
    }
}

impl TlsStream for Channel {
    fn channel_binding(&self) -> ChannelBinding {
        self.0.end_point().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl AsyncRead for Channel {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Channel {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }
}
