//! A session behind its login: forwards, waits at the gate, moves to another cluster, says goodbye.

mod databases;
mod held;
mod own;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::mysql::handshake::Capabilities;
use protocol::mysql::{command, error_response, frame};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::ahead::{Ahead, answer_all};
use super::client_login;
use super::handover::{self, Moved, Old};
use super::introspection::SessionInfo;
use super::prewarmed::PrewarmedSession;
use super::server_login::{Identity, ServerSession};
use super::session::Logins;
use super::state::NotMovable;
use super::wire::MysqlWire;
use crate::client::Client;
use crate::data_plane::DataPlane;
use crate::gate::GateHandle;
use crate::registry::{Activity, Entry, Movable, Registered, ServerKey};
use crate::relay::{Broken, GateAccess, Relay, Stop, Wire};
use crate::route::{Destination, Route, SessionCount};
use crate::session_gate::{SessionGate, Turn};
use crate::upstream::Upstream;

/// How long a farewell to the server may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

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
    pub ticket: GateHandle,
    /// The route's generation at the login.
    pub generation: u64,
    /// The database that it begins in.
    pub database: Option<String>,
    /// The connection's number as the client was told.
    pub id: u32,
    /// Where the client connects from.
    pub peer: SocketAddr,
}

/// Why a session ends.
enum End {
    /// Its client or its server left; nobody is to be told.
    Left,
    /// The client is told that the server ends, so that it connects again.
    Terminated,
    /// One side broke the protocol.
    Broken,
}

impl Session {
    /// Serves it to its end.
    pub async fn run(self, client: Client, leftover: &[u8]) {
        let plane = Arc::clone(&self.logins.plane);
        let count = self.route.count_session();
        plane.metrics.session_opened(&self.route.name);
        let entry = Arc::clone(self.registered.entry());
        entry.set_activity(Activity::Serving);
        let server = self.server;
        let mut wire = MysqlWire::new(
            plane.limits.frame_bytes_max,
            self.identity.capabilities,
            server.capabilities,
            server.status,
        );
        wire.begin_in(self.database.as_deref());
        let mut serving = Serving {
            wire,
            relay: Relay::new(client, server.stream, leftover, Arc::clone(&entry.flow)),
            standing: SessionGate {
                ticket: self.ticket,
                generation: AtomicU64::new(self.generation),
                entry: Arc::clone(&entry),
                route: Arc::clone(&self.route),
                also: Vec::new(),
                dares: AtomicBool::new(false),
            },
            capabilities: server.capabilities,
            version: server.version,
            plane,
            logins: self.logins,
            route: self.route,
            identity: Arc::new(self.identity),
            entry,
            peer: self.peer,
            prewarmed: None,
            heading: None,
            registered: self.registered,
            count,
        };
        let end = serving.serve().await;
        serving.close(end).await;
    }
}

/// A session that forwards.
struct Serving {
    plane: Arc<DataPlane>,
    logins: Arc<Logins>,
    route: Arc<Route>,
    identity: Arc<Identity>,
    entry: Arc<Entry>,
    peer: SocketAddr,
    wire: MysqlWire,
    relay: Relay<Client, Upstream>,
    standing: SessionGate,
    /// What was agreed with the present server.
    capabilities: Capabilities,
    /// The present server's version.
    version: String,
    /// A server session on the cluster that the route is about to lead to.
    prewarmed: Option<PrewarmedSession>,
    /// The default database to go on in, where it is another route's on another cluster.
    heading: Option<Vec<u8>>,
    registered: Registered,
    count: SessionCount,
}

impl Serving {
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
                    let prewarmed = if probes.is_empty() {
                        None
                    } else {
                        // The ring may have been for more than the question.
                        self.answer_ahead(probes);
                        self.prewarmed.take()
                    };
                    let end = self.look_at_route().await;
                    self.prewarmed = self.prewarmed.take().or(prewarmed);
                    look_at_orders(&self.entry, &self.identity, &self.logins, &mut self.prewarmed);
                    end
                }
                Some(Ok(Stop::AtGate)) => Box::pin(self.wait_at_gate()).await,
                Some(Ok(Stop::Own)) => Box::pin(self.answer_own()).await,
                Some(Ok(Stop::InDoubt)) => self.settle_doubt().await,
                Some(Ok(Stop::ClientClosed)) => {
                    let closed = self.relay.server.shutdown().await;
                    closed.is_err().then_some(End::Left)
                }
                Some(Ok(Stop::ServerClosed)) => Some(End::Left),
                Some(Ok(Stop::Closing)) => Some(End::Terminated),
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
                End::Broken
            }
            Broken::ServerFrame(malformed) => {
                warn!(client = %self.entry.client, %malformed, "the server broke the protocol; the session ends");
                End::Broken
            }
        }
    }

    /// Tells whether the session could move, as far as its statements and its cluster's own account tell.
    fn answer_ahead(&self, askers: Vec<oneshot::Sender<Movable>>) {
        let busy = if !self.standing.is_open() {
            Some("its route is held or was switched")
        } else if self.standing.is_inside() || !self.wire.at_boundary() {
            Some("it is in a transaction")
        } else if self.route.hidden_writes.names(self.entry.id) {
            Some("it may write past the binary log")
        } else {
            None
        };
        if let Some(why) = busy {
            answer_all(askers, Movable::NotKnown(why));
            return;
        }
        let (logins, server) = (Arc::clone(&self.logins), self.entry.server());
        let ahead = Ahead::of(&self.wire);
        tokio::spawn(async move {
            let reported = match &server {
                Some(server) => logins.witnesses.ask(&server.cluster.name, server.pid).await,
                None => SessionInfo::default(),
            };
            answer_all(askers, ahead.movable(&reported));
        });
    }

    /// Between statements: moves to where the route leads, if that has changed.
    async fn look_at_route(&mut self) -> Option<End> {
        match self.standing.turn() {
            Turn::Closed(_) | Turn::Wary(_) => return self.settle_doubt().await,
            _ if self.entry.is_closing() => return self.settle_doubt().await,
            // The switch that it was opened for did not come.
            Turn::GatePass => self.prewarmed = None,
            Turn::Elsewhere => {
                let idle = self.wire.at_boundary()
                    && self.relay.is_told()
                    && self.relay.held_bytes().is_empty()
                    && !self.standing.ticket.is_inside();
                if idle {
                    return Box::pin(self.follow_routes()).await;
                }
            }
        }
        None
    }

    /// An error leaves it in doubt whether a transaction is open. While somebody waits for this session to be idle,
    /// the server is asked.
    async fn settle_doubt(&mut self) -> Option<End> {
        if !self.wire.in_doubt() || !self.relay.is_forwarded() {
            return None;
        }
        self.wire.ask(command::PING);
        let mut ping = BytesMut::new();
        frame::put(&mut ping, &mut 0, &[command::PING]);
        match tokio::time::timeout(FAREWELL_TIMEOUT, self.relay.inject(&ping)).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) | Err(_) => Some(End::Left),
        }
    }

    /// Answers a command that was not forwarded.
    async fn answer(&mut self, words: &[u8]) -> Option<End> {
        let said = self.say(words).await;
        if self.wire.at_boundary() {
            self.standing.leave();
        }
        said.err()
    }

    /// Puts words of our own in line for the client.
    async fn say(&mut self, words: &[u8]) -> Result<(), End> {
        let saying = self.relay.say(&mut self.wire, &self.standing, words);
        match tokio::time::timeout(FAREWELL_TIMEOUT, saying).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Left),
        }
    }

    /// Another server session takes the place of the present one, which ends.
    async fn take_server(&mut self, server: ServerSession, destination: &Destination) {
        let ServerSession { stream, buffer, thread, capabilities, version, .. } = server;
        let mut old = self.relay.replace_server(stream, &buffer);
        self.capabilities = capabilities;
        self.version = version;
        self.standing.generation.store(destination.generation, Relaxed);
        self.entry.set_server(ServerKey {
            cluster: Arc::clone(&destination.cluster),
            pid: i64::from(thread),
            secret: Bytes::new(),
        });
        terminate(&mut old).await;
    }

    /// Moves the session to the cluster that serves its route now.
    async fn hand_over(&mut self) -> Option<End> {
        self.entry.set_activity(Activity::Moving);
        let route = Arc::clone(&self.route);
        let limit = handover::TIMEOUT;
        let permit = tokio::time::timeout(limit, route.handover_permits.acquire()).await;
        let Ok(permit) = permit else {
            return Some(self.cannot_move(&NotMovable::Late));
        };
        let destination = route.destination();
        let old = Old {
            stream: &mut self.relay.server,
            capabilities: self.capabilities,
            version: &self.version,
            server: self.entry.server(),
            witnesses: &self.logins.witnesses,
            database: self.heading.take(),
        };
        let moved =
            handover::hand_over(old, &destination.cluster, &self.identity, &self.wire, self.prewarmed.take()).await;
        drop(permit);
        let Moved { session, statements, names, named } = match moved {
            Ok(moved) => moved,
            Err(why) => return Some(self.cannot_move(&why)),
        };
        self.wire.move_to(session.capabilities, &statements, named);
        self.wire.learned.move_on(&names);
        self.take_server(session, &destination).await;
        self.entry.set_activity(Activity::Serving);
        route.count_moved();
        self.plane.metrics.handover(&route.name, "moved");
        None
    }

    fn cannot_move(&self, why: &NotMovable) -> End {
        self.route.count_closed(why.reason());
        self.plane.metrics.handover(&self.route.name, why.reason());
        warn!(
            client = %self.entry.client, user = %self.entry.user, route = %self.route.name, %why,
            "the session cannot move to the new cluster and was ended with error 1053; its client may reconnect"
        );
        End::Terminated
    }

    async fn close(mut self, end: End) {
        let mut words = BytesMut::new();
        // Clients expect the answer to what they said last, or will say next, under this number.
        let mut sequence = frame::peek(self.relay.held_bytes()).map_or(0, |header| header.sequence).wrapping_add(1);
        match end {
            End::Left => {}
            End::Terminated => error_response::terminating(&mut words, &mut sequence),
            End::Broken => error_response::malformed(&mut words, &mut sequence),
        }
        if !words.is_empty() {
            client_login::send_error_and_close(&mut self.relay.client, &words).await;
        }
        if self.wire.at_boundary() {
            terminate(&mut self.relay.server).await;
        }
        let metrics = &self.plane.metrics;
        metrics.bytes_carried(&self.route.name, self.entry.flow.take());
        metrics.session_closed(&self.route.name);
    }
}

/// Opens a session on the cluster that the route is about to lead to, beside the client's work.
fn look_at_orders(
    entry: &Entry,
    identity: &Arc<Identity>,
    logins: &Arc<Logins>,
    prewarmed: &mut Option<PrewarmedSession>,
) {
    if let Some(order) = entry.take_warm_order() {
        *prewarmed = Some(PrewarmedSession::open(order, Arc::clone(identity), Arc::clone(logins), entry.server()));
    }
}

/// Tells a server session that is idle to end.
async fn terminate(server: &mut Upstream) {
    let mut out = BytesMut::new();
    frame::put(&mut out, &mut 0, &[command::QUIT]);
    let close = async {
        server.write_all(&out).await?;
        server.shutdown().await
    };
    // A server that does not listen learns of the end when the socket closes.
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, close).await;
}
