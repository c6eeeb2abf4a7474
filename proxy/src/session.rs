//! A session behind its login: forwards, waits at the gate, moves to another cluster, ends.
//!
//! The loop is the same for both engines; [`SessionEngine`] has what it asks of one.

pub(crate) mod held;
pub(crate) mod login;
pub(crate) mod prewarmed;

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::client::{CLOSE_TIMEOUT, Client, send_error_and_close};
use crate::config::Limits;
use crate::data_plane::DataPlane;
use crate::registry::{Activity, Movable, Registered, ServerKey, answer_probes};
use crate::relay::{Broken, GateAccess, Relay, Stop, Verdict, Wire};
use crate::route::{Cluster, Destination, SessionCount};
use crate::session_gate::{SessionGate, Turn};
use crate::upstream::Upstream;
use prewarmed::PrewarmedSession;

/// What the loop of a session asks of its engine. The value is what one session has beside what is common to all.
pub(crate) trait SessionEngine: Send + Sync + Sized + 'static {
    /// What the engine makes of the bytes that go by.
    type Wire: Wire + Send;
    /// A client's connection.
    type Client: AsyncRead + AsyncWrite + Into<Client> + Unpin + Send;
    /// A server session behind its login, idle.
    type Server: AsRef<Upstream> + Send + 'static;
    /// Why a session cannot move to another cluster.
    type NotMovable: Display + Send;

    /// It took too long.
    const LATE: Self::NotMovable;
    /// The error of [`End::Terminated`], as the log calls it.
    const TERMINATED: &'static str;

    /// The reason by which sessions that cannot move are counted.
    fn reason(why: &Self::NotMovable) -> &'static str;

    /// Before anything is forwarded.
    fn begin(_: &mut Session<Self>) {}

    /// What the client hears last.
    fn last_words(session: &Session<Self>, end: End) -> BytesMut;

    /// Tells a server session that is idle to end.
    fn quit() -> BytesMut;

    /// Why the session never moves, where that is known before it is idle.
    fn stays(_: &Self::Wire) -> Option<Self::NotMovable> {
        None
    }

    /// The question that settles a doubt which keeps the session from its boundary, where there is one that it settles.
    /// It is sent at once.
    fn probe(wire: &mut Self::Wire) -> Option<BytesMut>;

    /// Tells `askers` whether the session could move; the question to the server, where that has to be asked.
    fn ask_ahead(session: &mut Session<Self>, askers: Vec<oneshot::Sender<Movable>>) -> Option<BytesMut>;

    /// The next command is one that Headgate answers itself or puts in other words.
    fn answer_own(_: &mut Session<Self>) -> impl Future<Output = Option<End>> + Send {
        std::future::ready(None)
    }

    /// The length of the transaction at the start of `held`, where all of it is there and it can be sent once more.
    fn unit(wire: &Self::Wire, held: &[u8]) -> Option<usize>;

    /// What the answer to it says so far.
    fn judge(answer: &[u8]) -> Verdict;

    /// Answers the statement that stands next, which was held, with an error.
    fn refuse_held(session: &mut Session<Self>, why: HoldRefusal) -> impl Future<Output = Option<End>> + Send;

    /// Logs in on another cluster ahead of a switch.
    fn prewarm(
        &self,
        gate: &SessionGate,
        cluster: Arc<Cluster>,
    ) -> impl Future<Output = Result<Self::Server, String>> + Send + 'static;

    /// The route leads elsewhere, or one that the session chose beside it does.
    fn follow_routes(session: &mut Session<Self>) -> impl Future<Output = Option<End>> + Send {
        session.hand_over()
    }

    /// How long a session may wait for its turn to move.
    fn permit_timeout(limits: &Limits) -> Duration;

    /// Rebuilds the session on `cluster`: the new server session, and what the client must hear of it.
    fn rebuild(
        session: &mut Session<Self>,
        cluster: &Cluster,
    ) -> impl Future<Output = Result<(Self::Server, BytesMut), Self::NotMovable>> + Send;

    /// The session goes on with this server session.
    fn adopt(session: &mut Session<Self>, server: Self::Server) -> NewServer;
}

/// What all server sessions have.
pub(crate) struct NewServer {
    /// The socket.
    pub(crate) stream: Upstream,
    /// What was read of it already.
    pub(crate) buffer: BytesMut,
    /// What the server calls it.
    pub(crate) pid: i64,
    /// By which it is cancelled.
    pub(crate) secret: Bytes,
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Its client or its server left; nobody is to be told.
    Left,
    /// The client is told to connect again.
    Terminated,
    /// The client broke the protocol.
    ClientBroken,
    /// The server sent what cannot be forwarded.
    ServerBroken,
}

/// Why a held statement is answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HoldRefusal {
    /// Its client cancelled it.
    Cancelled,
    /// It waited for as long as the limits allow, and was sent nowhere.
    TooLong,
}

/// A session that forwards.
pub(crate) struct Session<E: SessionEngine> {
    /// What all sessions share.
    pub(crate) plane: Arc<DataPlane>,
    /// What only the engine's sessions have.
    pub(crate) engine: E,
    /// The conversation.
    pub(crate) wire: E::Wire,
    /// Both ways of it.
    pub(crate) relay: Relay<E::Client, Upstream>,
    /// Where it stands at the gates; its entry and its route too.
    pub(crate) gate: SessionGate,
    /// A server session on the cluster that the route is about to lead to.
    pub(crate) prewarmed: Option<PrewarmedSession<E::Server>>,
    /// Its hold on its entry.
    pub(crate) registered: Registered,
    /// It counts as a session of its route.
    pub(crate) count: SessionCount,
}

impl<E: SessionEngine> Session<E> {
    /// Serves it until it is to end.
    async fn serve(&mut self) -> End {
        loop {
            let stop = tokio::select! {
                biased;
                stop = self.relay.run(&mut self.wire, &self.gate) => Some(stop),
                () = self.gate.entry.notify.notified() => None,
            };
            let end = match stop {
                None => Box::pin(self.look_around()).await,
                Some(Ok(Stop::AtGate)) => Box::pin(self.wait_at_gate()).await,
                Some(Ok(Stop::Own)) => Box::pin(E::answer_own(self)).await,
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

    pub(crate) fn abort(&self, broken: &Broken) -> End {
        let client = &self.gate.entry.client;
        match broken {
            Broken::Client(error) => {
                debug!(%client, %error, "the client's connection broke");
                End::Left
            }
            Broken::ClientFrame(malformed) => {
                info!(%client, %malformed, "the client broke the protocol; its session ends");
                End::ClientBroken
            }
            Broken::ServerFrame(malformed) => {
                warn!(%client, %malformed, "the server broke the protocol; the session ends");
                End::ServerBroken
            }
        }
    }

    /// Somebody rang: there is a question or an order, or the gate or the route has changed.
    async fn look_around(&mut self) -> Option<End> {
        let askers = self.gate.entry.take_probes();
        let mut prewarmed = None;
        let mut end = None;
        if !askers.is_empty() {
            // The ring may have been for more than the question.
            prewarmed = self.prewarmed.take();
            end = self.ask_ahead(askers).await;
        }
        if end.is_none() {
            end = self.look_at_route().await;
        }
        self.prewarmed = self.prewarmed.take().or(prewarmed);
        look_at_orders(&self.engine, &self.gate, &mut self.prewarmed);
        end
    }

    /// Tells whether the session could move, which its server may have to be asked.
    async fn ask_ahead(&mut self, askers: Vec<oneshot::Sender<Movable>>) -> Option<End> {
        if !self.gate.is_open() {
            answer_probes(askers, Movable::NotKnown("its route is held or was switched"));
            return None;
        }
        let question = E::ask_ahead(self, askers)?;
        self.inject(&question).await
    }

    /// Between statements: moves to where the route leads, if that has changed.
    async fn look_at_route(&mut self) -> Option<End> {
        match self.gate.turn() {
            Turn::Elsewhere if let Some(why) = E::stays(&self.wire) => return Some(self.cannot_move(&why)),
            Turn::Closed(_) | Turn::Wary(_) => return self.settle_doubt().await,
            _ if self.gate.is_closing() => return self.settle_doubt().await,
            // The switch that it was opened for did not come.
            Turn::GatePass => self.prewarmed = None,
            Turn::Elsewhere => {
                let idle = self.wire.at_boundary()
                    && self.relay.is_told()
                    && self.relay.held_bytes().is_empty()
                    && !self.gate.is_inside();
                if idle {
                    let end = E::follow_routes(self).await;
                    // Who cancels while nothing runs cancels nothing, and no later statement either.
                    self.gate.entry.take_cancel();
                    return end;
                }
            }
        }
        None
    }

    /// What went by may leave it in doubt whether the session is between transactions. While somebody waits for it to be
    /// idle, the server is asked.
    async fn settle_doubt(&mut self) -> Option<End> {
        if !self.relay.is_forwarded() {
            return None;
        }
        let probe = E::probe(&mut self.wire)?;
        self.inject(&probe).await
    }

    /// Asks the server something of our own.
    async fn inject(&mut self, question: &[u8]) -> Option<End> {
        match timeout(CLOSE_TIMEOUT, self.relay.inject(question)).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) | Err(_) => Some(End::Left),
        }
    }

    /// Puts words of our own in line for the client.
    pub(crate) async fn say(&mut self, words: &[u8]) -> Result<(), End> {
        let saying = self.relay.say(&mut self.wire, &self.gate, words);
        match timeout(CLOSE_TIMEOUT, saying).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Left),
        }
    }

    /// Moves the session to the cluster that serves its route now.
    pub(crate) async fn hand_over(&mut self) -> Option<End> {
        self.gate.entry.set_activity(Activity::Moving);
        let route = Arc::clone(&self.gate.route);
        let limit = E::permit_timeout(&self.plane.limits);
        let Ok(permit) = timeout(limit, route.handover_permits.acquire()).await else {
            return Some(self.cannot_move(&E::LATE));
        };
        let destination = route.destination();
        let rebuilt = E::rebuild(self, &destination.cluster).await;
        drop(permit);
        let (server, changed) = match rebuilt {
            Ok(rebuilt) => rebuilt,
            Err(why) => return Some(self.cannot_move(&why)),
        };
        self.take_server(server, &destination).await;
        self.gate.entry.set_activity(Activity::Serving);
        route.count_moved();
        self.plane.metrics.handover(&route.name, "moved");
        if changed.is_empty() { None } else { self.say(&changed).await.err() }
    }

    /// Another server session takes the place of the present one, which ends.
    pub(crate) async fn take_server(&mut self, server: E::Server, destination: &Destination) {
        let NewServer { stream, buffer, pid, secret } = E::adopt(self, server);
        let encrypted = stream.is_encrypted();
        let mut old = self.relay.replace_server(stream, &buffer);
        self.gate.generation.store(destination.generation, Relaxed);
        self.gate.entry.set_server(ServerKey { cluster: Arc::clone(&destination.cluster), pid, secret, encrypted });
        terminate::<E>(&mut old).await;
    }

    pub(crate) fn cannot_move(&self, why: &E::NotMovable) -> End {
        let SessionGate { entry, route, .. } = &self.gate;
        route.count_closed(E::reason(why));
        self.plane.metrics.handover(&route.name, E::reason(why));
        warn!(
            client = %entry.client, user = %entry.user, route = %route.name, %why,
            "the session cannot move to the new cluster and was ended with {}; its client may reconnect", E::TERMINATED
        );
        End::Terminated
    }

    async fn close(mut self, end: End) {
        if end != End::Left {
            let words = E::last_words(&self, end);
            send_error_and_close(&mut self.relay.client, &words).await;
        }
        if self.wire.at_boundary() {
            terminate::<E>(&mut self.relay.server).await;
        }
        let SessionGate { entry, route, .. } = &self.gate;
        self.plane.metrics.bytes_carried(&route.name, entry.flow.take());
        self.plane.metrics.session_closed(&route.name);
    }
}

/// Opens a session on the cluster that the route is about to lead to, beside the client's work.
fn look_at_orders<E: SessionEngine>(
    engine: &E,
    gate: &SessionGate,
    prewarmed: &mut Option<PrewarmedSession<E::Server>>,
) {
    if let Some(order) = gate.entry.take_warm_order() {
        let login = engine.prewarm(gate, Arc::clone(&order.cluster));
        *prewarmed = Some(PrewarmedSession::open(order, login));
    }
}

/// Tells a server session that is idle to end.
async fn terminate<E: SessionEngine>(server: &mut Upstream) {
    let words = E::quit();
    let close = async {
        server.write_all(&words).await?;
        server.flush().await?;
        server.shutdown().await
    };
    // A server that does not listen learns of the end when the socket closes.
    let _ = timeout(CLOSE_TIMEOUT, close).await;
}
