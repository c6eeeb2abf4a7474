//! A client's connection: over TCP, with or without TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use transport::ended;
use transport::tls::common_name;

/// How long either side may take to hear the last words, or a short word of our own.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Tells a client the last words and closes.
pub(crate) async fn send_error_and_close(client: &mut (impl AsyncWrite + Unpin), words: &[u8]) {
    let close = async {
        client.write_all(words).await?;
        client.flush().await?;
        client.shutdown().await
    };
    // Whoever does not take the words in time goes without them.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
}

/// A connection that a client opened.
#[derive(Debug)]
pub enum Client {
    /// As it came.
    Plain(TcpStream),
    /// Behind TLS. What was written is on its way only after a flush.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Client {
    /// Whether it is in TLS.
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The common name of the certificate that the client showed, which is of an authority that is trusted for that.
    pub fn certificate_name(&self) -> Option<String> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => common_name(stream.get_ref().1.peer_certificates()?.first()?),
        }
    }

    /// The name of the protocol that was agreed on in TLS.
    pub fn protocol(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }
}

impl From<TcpStream> for Client {
    fn from(stream: TcpStream) -> Self {
        Self::Plain(stream)
    }
}

impl AsyncRead for Client {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => ended(Pin::new(stream).poll_read(context, buffer)),
        }
    }
}

impl AsyncWrite for Client {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // A socket has nothing of its own to flush.
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
