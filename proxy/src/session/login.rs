//! Where a login ends: the session's place on its route, its entry, and what a client meets that gets no session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use super::{Session, SessionEngine};
use crate::client::send_error_and_close;
use crate::console::AdminClient;
use crate::data_plane::DataPlane;
use crate::gate::GateHandle;
use crate::gate_state::State;
use crate::registry::{Activity, NewSession, Registered, ServerKey};
use crate::relay::Relay;
use crate::route::{Cluster, Destination, Route};
use crate::session_gate::SessionGate;
use crate::stack;
use crate::upstream::Upstream;

/// Where a session is to stand: taken before its login on the cluster, so that a switch meanwhile is seen after it.
pub(crate) struct Place {
    /// Its route.
    pub(crate) route: Arc<Route>,
    /// Where that leads.
    pub(crate) destination: Arc<Destination>,
    /// Its handle at the route's gate.
    pub(crate) handle: GateHandle,
}

impl Place {
    /// On that route, from now on.
    pub(crate) fn on(route: Arc<Route>) -> Self {
        Self { destination: route.destination(), handle: route.gate.ticket(), route }
    }

    /// The entry of a session that logged in on the cluster, where it has this pid and secret.
    pub(crate) fn register(
        &self,
        plane: &DataPlane,
        (user, client, application): (String, (SocketAddr, bool), &[u8]),
        (pid, secret, encrypted): (i64, Bytes, bool),
    ) -> Registered {
        let registered = plane.registry.add(NewSession {
            user,
            route: self.route.name.clone(),
            client: client.0,
            encrypted: client.1,
            application: String::from_utf8_lossy(application).into_owned(),
            ticket: self.handle.number(),
        });
        let cluster = Arc::clone(&self.destination.cluster);
        registered.entry().set_server(ServerKey { cluster, pid, secret, encrypted });
        registered
    }
}

/// Logs in where the route leads, and says where that was. A cluster that is being switched away from may refuse a login
/// for just that, and its words are not true of the route: the login is tried anew once the gate is open, for `limit`.
pub(crate) async fn log_in<T, E, F>(
    route: &Route,
    limit: Duration,
    attempt: impl Fn(Arc<Cluster>) -> F,
) -> (Arc<Destination>, Result<T, E>)
where
    F: Future<Output = Result<T, E>>,
{
    let Route { gate, .. } = route;
    let deadline = Instant::now() + limit;
    loop {
        let (closings, was_open) = (gate.closings(), gate.look().state() == State::Open);
        let destination = route.destination();
        let met = attempt(Arc::clone(&destination.cluster)).await;
        let stood =
            || was_open && gate.closings() == closings && route.destination().generation == destination.generation;
        if met.is_ok() || stood() || Instant::now() >= deadline {
            return (destination, met);
        }
        if timeout_at(deadline, gate.opened(false)).await.is_err() {
            return (destination, met);
        }
    }
}

/// A login that succeeded on both sides.
pub(crate) struct LoggedIn<E: SessionEngine> {
    /// What all sessions share.
    pub(crate) plane: Arc<DataPlane>,
    /// Where it stands.
    pub(crate) place: Place,
    /// Its entry.
    pub(crate) registered: Registered,
    /// The server's socket.
    pub(crate) server: Upstream,
    /// What the server sent behind its login.
    pub(crate) read: BytesMut,
    /// The conversation.
    pub(crate) wire: E::Wire,
    /// What only the engine's sessions have.
    pub(crate) engine: E,
}

impl<E: SessionEngine> LoggedIn<E> {
    /// Serves the session to its end. `leftover` is what the client sent behind its login.
    pub(crate) async fn run(self: Box<Self>, client: E::Client, leftover: &[u8]) {
        let Self { plane, place: Place { route, destination, handle }, registered, server, read, wire, engine } = *self;
        let count = route.count_session();
        plane.metrics.session_opened(&route.name);
        let entry = Arc::clone(registered.entry());
        entry.set_activity(Activity::Serving);
        let mut session = Session {
            relay: Relay::new(client, server, leftover, &read, Arc::clone(&entry.flow)),
            gate: SessionGate {
                ticket: handle,
                generation: AtomicU64::new(destination.generation),
                entry,
                route,
                also: Vec::new(),
                dares: AtomicBool::new(false),
            },
            plane,
            wire,
            engine,
            prewarmed: None,
            registered,
            count,
        };
        E::begin(&mut session);
        let end = session.serve().await;
        session.close(end).await;
    }
}

/// What a login came to.
pub(crate) enum Opened<E: SessionEngine> {
    /// A session of the admin console, for this user.
    Console(String),
    /// A session on a route.
    Session(Box<LoggedIn<E>>),
}

/// A login that came to nothing.
pub(crate) struct Failed {
    /// The reason by which it is counted; none where it is not.
    pub(crate) reason: Option<&'static str>,
    /// What the client hears last.
    pub(crate) words: BytesMut,
}

/// Serves a client to its end, whatever its login came to in its time.
pub(crate) async fn conclude<E: SessionEngine>(
    plane: &DataPlane,
    (mut stream, leftover, capabilities): (E::Client, BytesMut, u32),
    opened: Result<Result<Opened<E>, Failed>, Elapsed>,
) {
    stack::wipe();
    match opened {
        Ok(Ok(Opened::Session(session))) => session.run(stream, &leftover).await,
        Ok(Ok(Opened::Console(user))) => {
            if let Some(console) = &plane.console {
                console.serve(AdminClient { stream: stream.into(), leftover, user, capabilities }).await;
            }
        }
        Ok(Err(Failed { reason, words })) => {
            reason.inspect(|reason| plane.metrics.login_failed(reason));
            send_error_and_close(&mut stream, &words).await;
        }
        Err(_) => plane.metrics.login_failed("timeout"),
    }
}
