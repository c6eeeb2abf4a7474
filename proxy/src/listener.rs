//! Accepts connections within a limit, serves each in a task of its own, and stops in good order.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use protocol::proxy_protocol::Addresses;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::data_plane::DataPlane;
use crate::pending_logins::{PendingLogin, PendingLogins};
use crate::proxy_header::{Unknown, client_addresses};
use crate::upstream;
use crate::workers::Workers;

/// Connections that the kernel keeps for us while we are busy: enough for an application that reconnects as a whole.
const BACKLOG: i32 = 1024;

/// A pause after an accept that failed for want of resources, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Places beyond `sessions_max` for connections that only log in, cancel, or use the console.
const RESERVED_PLACES: usize = 32;

/// How long a connection that gives way may take to do so.
const GIVE_WAY_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection before its client has said anything.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// The client's own address, and the one that it connected to: as a load balancer says, where one is believed.
    pub addresses: Addresses,
    /// Its place among those that are not logged in; dropped once its login is over.
    pub pending: PendingLogin,
    /// When its login must be over.
    pub deadline: Instant,
}

/// What an engine makes of accepted connections.
pub trait Sessions: Send + Sync + 'static {
    /// What another configuration means for logins.
    type Renewal: Send;

    /// What the sessions share with the rest of the data plane.
    fn plane(&self) -> &Arc<DataPlane>;

    /// Makes ready what another configuration means for logins, and changes nothing yet. Fails with what is wrong.
    fn prepare(&self, config: &Config) -> Result<Self::Renewal, String>;

    /// From now on logins are as it says; sessions that are open stay.
    fn renew(&self, renewal: Self::Renewal);

    /// Serves one connection to its end. Every failure ends here.
    fn serve(self: Arc<Self>, accepted: Accepted) -> impl Future<Output = ()> + Send + 'static;

    /// Tells a client, in its protocol, that there is no place for it.
    fn reject(client: TcpStream) -> impl Future<Output = ()> + Send + 'static;
}

/// Binds the address. Fails with the system's error, such as "address in use".
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until `stop` is cancelled, then waits for the open sessions: each ends at its next transaction boundary,
/// and all that are still open after `limits.drain_timeout` are cut.
pub async fn serve<S: Sessions>(sessions: Arc<S>, listener: TcpListener, workers: &Workers, stop: CancellationToken) {
    let plane = Arc::clone(sessions.plane());
    let places = Arc::new(Semaphore::new(plane.sessions_max.saturating_add(RESERVED_PLACES)));
    let logins = Arc::new(PendingLogins::default());
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((client, peer)) => {
                let Some(place) = place(&places, &logins).await else {
                    plane.metrics.connection_refused("too many connections");
                    tokio::spawn(S::reject(client));
                    continue;
                };
                // The thread that serves the session registers the socket anew with its own poller.
                let client = match client.into_std() {
                    Ok(client) => client,
                    Err(error) => {
                        warn!(%peer, %error, "a client's socket could not be handed to its thread");
                        continue;
                    }
                };
                let sessions = Arc::clone(&sessions);
                let cut = cut.clone();
                let metrics = Arc::clone(&plane.metrics);
                let (pending, gives_way) = logins.add();
                let (thread, seat) = workers.place();
                thread.spawn(async move {
                    let _places = (place, seat);
                    tokio::select! {
                        () = one(sessions, client, peer, pending) => {}
                        () = cut.cancelled() => {}
                        () = gives_way.cancelled() => metrics.login_failed("gave way"),
                    }
                });
            }
            Err(error) => {
                warn!(%error, "a connection could not be accepted; raise the limit of open files if this goes on");
                // Those who log in need files for their sessions on a cluster, too.
                logins.end_oldest(RESERVED_PLACES);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    drain(&plane).await;
    cut.cancel();
}

/// A place for one more: a free one, or that of the connection that takes longest to log in; `None` where all have.
async fn place(places: &Arc<Semaphore>, logins: &PendingLogins) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = Arc::clone(places).try_acquire_owned() {
        return Some(place);
    }
    if logins.end_oldest(1) == 0 {
        return None;
    }
    let freed = tokio::time::timeout(GIVE_WAY_TIMEOUT, Arc::clone(places).acquire_owned()).await;
    freed.ok()?.ok()
}

async fn one<S: Sessions>(sessions: Arc<S>, client: std::net::TcpStream, peer: SocketAddr, pending: PendingLogin) {
    let plane = Arc::clone(sessions.plane());
    let deadline = Instant::now() + plane.limits.login_timeout;
    let ready = TcpStream::from_std(client).and_then(|client| {
        transport::tune(&client, &upstream::KEEPALIVE)?;
        let destination = client.local_addr()?;
        Ok((client, Addresses { source: peer, destination }))
    });
    let (mut stream, own) = match ready {
        Ok(ready) => ready,
        Err(error) => {
            warn!(%peer, %error, "a client's socket could not be set up");
            return;
        }
    };
    let trusted = plane.proxy_networks.load_full();
    let known = timeout_at(deadline, client_addresses(&mut stream, own, &trusted)).await;
    let addresses = match known.unwrap_or(Err(Unknown::Late)) {
        Ok(Some(addresses)) => addresses,
        Ok(None) => return,
        Err(unknown) => {
            plane.metrics.login_failed(unknown.reason());
            plane.failed_logins.log(peer, "", &unknown);
            return;
        }
    };
    drop(trusted);
    let session = AssertUnwindSafe(Box::pin(sessions.serve(Accepted { stream, addresses, pending, deadline })));
    if session.catch_unwind().await.is_err() {
        plane.metrics.panicked();
        let peer = addresses.source;
        error!(%peer, "a session failed inside Headgate; the others are not affected. This is a defect: report it");
    }
}

async fn drain(plane: &DataPlane) {
    let open = plane.registry.len();
    info!(open, "no new connections; waiting for open transactions");
    plane.registry.close_all();
    if tokio::time::timeout(plane.limits.drain_timeout, plane.registry.emptied()).await.is_err() {
        warn!(
            open = plane.registry.len(),
            waited_ms = plane.limits.drain_timeout.as_millis(),
            "sessions with open transactions were cut; raise limits.drain_timeout to wait longer"
        );
    }
}
