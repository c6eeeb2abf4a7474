//! A session behind its login.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use super::connect::{Identity, ServerSession};
use super::session::Logins;
use crate::client::Client;
use crate::gate::Ticket;
use crate::registry::{Activity, Registered};
use crate::route::Route;

/// A session behind its login.
pub struct Session {
    /// What a change of the user needs, and the plane.
    pub logins: Arc<Logins>,
    /// Its route.
    pub route: Arc<Route>,
    /// Who logged in.
    pub identity: Identity,
    /// The server session.
    pub server: ServerSession,
    /// Its entry.
    pub registered: Registered,
    /// Its ticket at the gate.
    pub ticket: Ticket,
    /// The route's generation at the login.
    pub generation: u64,
    /// The connection's number as the client was told.
    pub id: u32,
    /// Where the client connects from.
    pub peer: SocketAddr,
}

impl Session {
    /// Serves it to its end.
    pub async fn run(self, mut client: Client, leftover: &[u8]) {
        let _count = self.route.count_session();
        self.registered.entry().set_activity(Activity::Serving);
        let mut server = self.server.stream;
        let forwarding = async {
            client.write_all(&self.server.buffer).await?;
            client.flush().await?;
            server.write_all(leftover).await?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await
        };
        drop(forwarding.await);
    }
}
