//! A server session that is opened ahead of a switch, so that the switch need not wait for it.

use std::time::Duration;

use protocol::postgres::handshake::Startup;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::server_login::{self, ServerSession};
use crate::config::Secret;
use crate::registry::WarmOrder;
use crate::route::Cluster;

/// A server session that was opened on another cluster ahead of a switch.
#[derive(Debug)]
pub struct PrewarmedSession {
    cluster: String,
    since: Instant,
    opening: JoinHandle<Option<ServerSession>>,
}

/// A spare that was not used for this long is not used at all: its server may have closed it.
const SPARE_AGE_MAX: Duration = Duration::from_secs(30);

impl PrewarmedSession {
    /// Begins to open one, beside whatever the session does. Whoever ordered it learns of a failure, and the handover
    /// meets it again.
    pub fn open(order: WarmOrder, startup: Startup, database: String, password: Option<Secret>) -> Self {
        let cluster = order.cluster.name.clone();
        let opening = tokio::spawn(async move {
            let password = password.as_ref().map(Secret::reveal);
            let session = server_login::login(&order.cluster, &startup, &database, password).await;
            session.inspect_err(|refused| drop(order.done.send(refused.to_string()))).ok()
        });
        Self { cluster, since: Instant::now(), opening }
    }

    /// The session on `cluster`; `None` where there is none that is fresh and alive.
    pub async fn session_on(self, cluster: &Cluster) -> Option<ServerSession> {
        if self.cluster != cluster.name || self.since.elapsed() > SPARE_AGE_MAX {
            return None;
        }
        let session = self.opening.await.ok().flatten()?;
        // A server that hung up is seen here; then a fresh session is opened.
        session.stream.is_open().then_some(session)
    }
}
