//! Who serves the sessions that ask for the admin console; the program brings the console, the library the login.

use std::future::Future;
use std::pin::Pin;

use bytes::BytesMut;
use tokio::net::TcpStream;

/// Serves one admin session after its login.
pub trait Console: Send + Sync + 'static {
    /// Serves a session that has been told that it is logged in (AuthenticationOk) and nothing
    /// else: the parameters and the word that the server is ready are the console's.
    /// `leftover` is what the client sent early.
    fn serve(
        &self,
        stream: TcpStream,
        leftover: BytesMut,
        user: String,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}
