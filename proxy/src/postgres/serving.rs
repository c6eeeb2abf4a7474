//! A session behind its login: forwards, waits at the gate, moves to another cluster, says goodbye.

mod held;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::BytesMut;
use protocol::postgres::handshake::Startup;
use protocol::postgres::{command, error_response, frame};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::custom::CustomSettings;
use super::handover::{self, Identity};
use super::passwords::Passwords;
use super::prewarmed::PrewarmedSession;
use super::server_login::ServerSession;
use super::session::send_error_and_close;
use super::state::NotMovable;
use super::wire::PostgresWire;
use crate::config::Secret;
use crate::data_plane::DataPlane;
use crate::gate::GateHandle;
use crate::gate_state::State;
use crate::registry::{Activity, Entry, Movable, Registered, ServerKey};
use crate::relay::{Broken, GateAccess, Relay, Stop, Wire};
use crate::route::Route;
use crate::session_gate::SessionGate;
use crate::upstream::Upstream;

/// How long a farewell to the server may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// A session behind its login.
pub(super) struct Session {
    pub(super) plane: Arc<DataPlane>,
    pub(super) route: Arc<Route>,
    pub(super) startup: Startup,
    pub(super) passwords: Arc<Passwords>,
    pub(super) password: Option<Secret>,
    pub(super) server: ServerSession,
    pub(super) registered: Registered,
    pub(super) ticket: GateHandle,
    pub(super) generation: u64,
    pub(super) gated: bool,
}

/// Why a session ends.
enum End {
    /// Its client or its server left; nobody is to be told.
    Left,
    /// The client is told that an administrator ended it.
    Terminated,
    /// The server sent what cannot be forwarded.
    Broken,
    /// The client broke the protocol.
    Violation(&'static str),
}

impl Session {
    /// Serves it to its end.
    pub(super) async fn run(self, client: TcpStream, leftover: &[u8]) {
        let _count = self.route.count_session();
        self.plane.metrics.session_opened(&self.route.name);
        let entry = Arc::clone(self.registered.entry());
        entry.set_activity(Activity::Serving);
        let mut serving = Serving {
            wire: PostgresWire::new(self.plane.limits.frame_bytes_max, self.server.parameters, self.gated),
            relay: Relay::new(client, self.server.stream, leftover, Arc::clone(&entry.flow)),
            standing: SessionGate {
                ticket: self.ticket,
                generation: AtomicU64::new(self.generation),
                entry: Arc::clone(&entry),
                route: Arc::clone(&self.route),
                also: Vec::new(),
                dares: AtomicBool::new(false),
            },
            plane: self.plane,
            route: self.route,
            startup: self.startup,
            passwords: self.passwords,
            password: self.password,
            entry,
            prewarmed: None,
        };
        serving.look_at_startup();
        let end = serving.serve().await;
        serving.close(end).await;
        drop(self.registered);
    }
}

/// A session that forwards.
struct Serving {
    plane: Arc<DataPlane>,
    route: Arc<Route>,
    startup: Startup,
    passwords: Arc<Passwords>,
    /// The password of the login.
    password: Option<Secret>,
    entry: Arc<Entry>,
    wire: PostgresWire,
    relay: Relay<TcpStream, Upstream>,
    standing: SessionGate,
    /// A server session on the cluster that the route is about to lead to.
    prewarmed: Option<PrewarmedSession>,
}

impl Serving {
    /// The settings that a client logs in with may hide its writes too.
    fn look_at_startup(&self) {
        let mut asked = CustomSettings::default();
        for name in [&b"session_replication_role"[..], b"options"] {
            let value = self.startup.get(name).unwrap_or_default();
            let text = [name, b"=", &value].concat();
            asked.learn(&text);
        }
        if let Some(what) = asked.take_hides_writes() {
            self.standing.hides_writes(what);
        }
    }

    async fn serve(&mut self) -> End {
        loop {
            let stop = tokio::select! {
                biased;
                stop = self.relay.run(&mut self.wire, &self.standing) => Some(stop),
                () = self.entry.notify.notified() => None,
            };
            let end = match stop {
                None => {
                    let probes = self.entry.take_probes();
                    let end = if probes.is_empty() {
                        self.look_at_route().await
                    } else {
                        // The ring may have been for more than the question.
                        let prewarmed = self.prewarmed.take();
                        let asked = self.ask_ahead(probes).await;
                        let end = match asked {
                            None => self.look_at_route().await,
                            end => end,
                        };
                        self.prewarmed = self.prewarmed.take().or(prewarmed);
                        end
                    };
                    let password = || newest(&self.passwords, &self.entry, self.password.as_ref());
                    look_at_orders(&self.entry, &self.startup, &self.route, password, &mut self.prewarmed);
                    end
                }
                Some(Ok(Stop::AtGate)) => self.wait_at_gate().await,
                Some(Ok(Stop::ClientClosed)) => {
                    if self.relay.server.shutdown().await.is_err() {
                        Some(End::Left)
                    } else {
                        None
                    }
                }
                Some(Ok(Stop::ServerClosed)) => Some(End::Left),
                Some(Ok(Stop::Closing)) => Some(End::Terminated),
                // PostgreSQL's wire has no words of its own; its doubts are settled where the route is looked at.
                Some(Ok(Stop::Own | Stop::InDoubt)) => None,
                Some(Err(broken)) => Some(self.abort(&broken)),
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    fn abort(&self, broken: &Broken) -> End {
        match broken {
            Broken::Client(error) => {
                debug!(client = %self.entry.client, %error, "the client's connection broke");
                End::Left
            }
            Broken::ClientFrame(malformed) => {
                info!(client = %self.entry.client, %malformed, "the client broke the protocol; its session ends");
                End::Violation("invalid message length")
            }
            Broken::ServerFrame(malformed) => {
                warn!(client = %self.entry.client, %malformed, "the server broke the protocol; the session ends");
                End::Broken
            }
        }
    }

    /// Tells whether the session could move, which its server may have to be asked.
    async fn ask_ahead(&mut self, askers: Vec<oneshot::Sender<Movable>>) -> Option<End> {
        if !self.standing.is_open() {
            for asker in askers {
                // Who does not listen any more has given up.
                let _ = asker.send(Movable::NotKnown("its route is held or was switched"));
            }
            return None;
        }
        let inside = self.standing.ticket.is_inside() || !self.relay.is_forwarded();
        let sent = self.entry.flow.total().0;
        let question = self.wire.ask_ahead(askers, inside, sent)?;
        match tokio::time::timeout(FAREWELL_TIMEOUT, self.relay.inject(&question)).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) | Err(_) => Some(End::Left),
        }
    }

    /// Between statements: moves to where the route leads, if that has changed.
    async fn look_at_route(&mut self) -> Option<End> {
        let look = self.standing.ticket.gate().look();
        let stale = look.generation() != self.standing.generation.load(Relaxed);
        if stale && !self.wire.is_gated() {
            return Some(self.cannot_move(&NotMovable::Replication));
        }
        if look.state() != State::Open || self.entry.is_closing() {
            return self.settle_doubt().await;
        }
        if !stale {
            // The switch that it was opened for did not come.
            self.prewarmed = None;
            return None;
        }
        let idle = self.wire.at_boundary()
            && self.relay.is_told()
            && self.relay.held_bytes().is_empty()
            && !self.standing.ticket.is_inside();
        if idle { self.hand_over().await } else { None }
    }

    /// Headers may have left it in doubt whether replies are still to come. While somebody waits for this session to
    /// be idle, the server is asked.
    async fn settle_doubt(&mut self) -> Option<End> {
        if !self.relay.is_forwarded() {
            return None;
        }
        let probe = self.wire.probe()?;
        match tokio::time::timeout(FAREWELL_TIMEOUT, self.relay.inject(&probe)).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) | Err(_) => Some(End::Left),
        }
    }

    /// Puts words of our own in line for the client.
    async fn say(&mut self, words: &[u8]) -> Result<(), End> {
        let saying = self.relay.say(&mut self.wire, &self.standing, words);
        match tokio::time::timeout(FAREWELL_TIMEOUT, saying).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Left),
        }
    }

    /// Moves the session to the cluster that serves its route now.
    async fn hand_over(&mut self) -> Option<End> {
        self.entry.set_activity(Activity::Moving);
        let route = Arc::clone(&self.route);
        let limit = self.plane.limits.connect_timeout;
        let permit = tokio::time::timeout(limit, route.handover_permits.acquire()).await;
        let Ok(permit) = permit else {
            return Some(self.cannot_move(&NotMovable::Late));
        };
        let destination = route.destination();
        let password = newest(&self.passwords, &self.entry, self.password.as_ref());
        let identity = Identity {
            startup: &self.startup,
            database: &route.database,
            password: password.as_ref().map(Secret::reveal),
        };
        let moved = handover::hand_over(
            &mut self.relay.server,
            &destination.cluster,
            identity,
            &self.wire,
            self.prewarmed.take(),
        )
        .await;
        drop(permit);
        let moved = match moved {
            Ok(moved) => moved,
            Err(why) => return Some(self.cannot_move(&why)),
        };
        let ServerSession { stream, buffer, parameters, key, notices: _ } = moved.session;
        let mut old = self.relay.replace_server(stream, &buffer);
        self.standing.generation.store(destination.generation, Relaxed);
        self.entry.set_server(ServerKey {
            cluster: Arc::clone(&destination.cluster),
            pid: i64::from(key.pid),
            secret: key.secret,
        });
        self.wire.set_parameters(parameters);
        self.entry.set_activity(Activity::Serving);
        route.count_moved();
        self.plane.metrics.handover(&route.name, "moved");
        terminate(&mut old).await;
        self.say(&moved.changed).await.err()
    }

    fn cannot_move(&self, why: &NotMovable) -> End {
        self.route.count_closed(why.reason());
        self.plane.metrics.handover(&self.route.name, why.reason());
        warn!(
            client = %self.entry.client, user = %self.entry.user, route = %self.route.name, %why,
            "the session cannot move to the new cluster and was ended with 57P01; its client may reconnect"
        );
        End::Terminated
    }

    async fn close(mut self, end: End) {
        let mut words = BytesMut::new();
        match end {
            End::Left => {}
            End::Terminated => error_response::terminating(&mut words),
            End::Broken => {
                let message = "the server sent a message that is too long or malformed";
                error_response::protocol_violation(&mut words, message);
            }
            End::Violation(what) => error_response::protocol_violation(&mut words, what),
        }
        if !words.is_empty() {
            send_error_and_close(&mut self.relay.client, &words).await;
        }
        if self.wire.at_boundary() {
            terminate(&mut self.relay.server).await;
        }
        let metrics = &self.plane.metrics;
        metrics.bytes_carried(&self.route.name, self.entry.flow.take());
        metrics.session_closed(&self.route.name);
    }
}

/// The user's password as the configuration has it now, which may be another than at the login.
fn newest(passwords: &Passwords, entry: &Entry, at_login: Option<&Secret>) -> Option<Secret> {
    passwords.for_server(&entry.user).or(at_login.cloned())
}

/// Opens a session on the cluster that the route is about to lead to, beside the client's work.
fn look_at_orders(
    entry: &Entry,
    startup: &Startup,
    route: &Route,
    password: impl Fn() -> Option<Secret>,
    prewarmed: &mut Option<PrewarmedSession>,
) {
    if let Some(order) = entry.take_warm_order() {
        *prewarmed = Some(PrewarmedSession::open(order, startup.clone(), route.database.clone(), password()));
    }
}

/// Tells a server session that is idle to end.
async fn terminate(server: &mut Upstream) {
    let mut out = BytesMut::new();
    frame::put(&mut out, command::TERMINATE, |_| {});
    let close = async {
        server.write_all(&out).await?;
        server.shutdown().await
    };
    // A server that does not listen learns of the end when the socket closes.
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, close).await;
}
