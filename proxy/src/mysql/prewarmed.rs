//! A server session that is opened ahead of a switch, so that the switch need not wait for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::server_login::{self, Identity, ServerSession};
use super::session::Logins;
use crate::registry::{ServerKey, WarmOrder};
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
    /// Begins to open one, beside whatever the session does. Whoever ordered it learns of a failure.
    /// Whoever tells more of the session on `server`, its present one, is called too.
    pub fn open(order: WarmOrder, identity: Arc<Identity>, logins: Arc<Logins>, server: Option<ServerKey>) -> Self {
        let cluster = order.cluster.name.clone();
        let opening = tokio::spawn(async move {
            let introspection = async {
                if let Some(server) = &server {
                    logins.witnesses.prepare(&server.cluster.name).await;
                }
            };
            let opening = server_login::login(&order.cluster, &identity, None);
            let (session, ()) = tokio::join!(opening, Box::pin(introspection));
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
