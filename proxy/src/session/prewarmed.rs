//! A server session that is opened ahead of a switch, so that the switch need not wait for it.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::registry::WarmOrder;
use crate::route::Cluster;
use crate::upstream::Upstream;

/// A server session that was opened on another cluster ahead of a switch.
#[derive(Debug)]
pub(crate) struct PrewarmedSession<S> {
    cluster: String,
    since: Instant,
    opening: JoinHandle<Option<S>>,
}

/// One that was not used for this long is not used at all: its server may have closed it.
const AGE_MAX: Duration = Duration::from_secs(30);

impl<S: AsRef<Upstream> + Send + 'static> PrewarmedSession<S> {
    /// Begins to open one, beside whatever the session does. Whoever ordered it learns of a failure, and the handover
    /// meets it again.
    pub(crate) fn open(order: WarmOrder, login: impl Future<Output = Result<S, String>> + Send + 'static) -> Self {
        let WarmOrder { cluster, done } = order;
        let opening = tokio::spawn(async move { login.await.inspect_err(|why| drop(done.send(why.clone()))).ok() });
        Self { cluster: cluster.name.clone(), since: Instant::now(), opening }
    }

    /// The session on `cluster`; `None` where there is none that is fresh and alive.
    async fn session_on(self, cluster: &Cluster) -> Option<S> {
        if self.cluster != cluster.name || self.since.elapsed() > AGE_MAX {
            return None;
        }
        let session = self.opening.await.ok().flatten()?;
        // A server that hung up is seen here; then a fresh session is opened.
        session.as_ref().is_open().then_some(session)
    }
}

/// The prewarmed session on `cluster`, or else one by `login`.
pub(crate) async fn take_or<S: AsRef<Upstream> + Send + 'static, R>(
    prewarmed: Option<PrewarmedSession<S>>,
    cluster: &Cluster,
    login: impl Future<Output = Result<S, R>>,
) -> Result<S, R> {
    if let Some(prewarmed) = prewarmed
        && let Some(session) = prewarmed.session_on(cluster).await
    {
        return Ok(session);
    }
    login.await
}
