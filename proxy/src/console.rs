//! Who serves the sessions that ask for the admin console; the program brings the console, the library the login.

use std::future::Future;
use std::pin::Pin;

use bytes::BytesMut;

use crate::client::Client;

/// A client of the console behind its login.
#[derive(Debug)]
pub struct AdminClient {
    /// Its connection. PostgreSQL's clients were told that they are logged in and nothing else: the parameters and the
    /// word that the server is ready are the console's. MySQL's clients were told everything.
    pub stream: Client,
    /// What it sent early.
    pub leftover: BytesMut,
    /// Who it is.
    pub user: String,
    /// The capabilities that both sides agreed on, where the engine's login agrees on any.
    pub capabilities: u32,
}

/// Serves one admin session after its login.
pub trait Console: Send + Sync + 'static {
    /// Serves it to its end.
    fn serve(&self, client: AdminClient) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}
