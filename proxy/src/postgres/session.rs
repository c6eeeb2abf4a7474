//! One client from accept to close: greet, log in, relay, wait at the gate, move to another cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::postgres::auth::AuthRequest;
use protocol::postgres::handshake::Startup;
use protocol::postgres::refusal::Severity;
use protocol::postgres::{command, frame, refusal, reply};
use rand::Rng;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tracing::{debug, info, warn};

use super::accept::{self, Arrival, Rejected};
use super::cancel;
use super::connect::{self, Refused, ServerSession};
use super::handover::{self, Identity, NotMovable, Spare};
use super::wire::PostgresWire;
use crate::gate::{Outcome, Ticket};
use crate::metrics::HoldEnd;
use crate::plane::Plane;
use crate::registry::{Activity, Entry, NewSession, Registered, ServerKey};
use crate::relay::{Broken, Entrance, Relay, Stop, Wire};
use crate::route::Route;
use crate::turnstile::State;
use crate::upstream::Upstream;

/// The database name that means the admin console.
pub const CONSOLE_DATABASE: &[u8] = b"headgate";

/// How long a farewell to either side may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves one accepted connection to its end. Every failure is told to the client where there is one, logged once,
/// and ends here.
pub async fn serve(plane: Arc<Plane>, mut client: TcpStream, peer: SocketAddr) {
    let mut buffer = BytesMut::with_capacity(1 << 10);
    let deadline = tokio::time::Instant::now() + plane.limits.login_timeout;
    let arrival = tokio::time::timeout_at(deadline, accept::first(&mut client, &mut buffer)).await;
    let rejected = match arrival {
        Err(_) => {
            plane.metrics.login_failed("timeout");
            return;
        }
        Ok(Ok(Arrival::Gone)) => return,
        Ok(Ok(Arrival::Cancel { pid, secret })) => {
            if let Err(error) = cancel::cancel(&plane, &(pid, secret)).await {
                debug!(%peer, %error, "a cancel request did not reach its server");
            }
            return;
        }
        Ok(Ok(Arrival::Session(startup))) => {
            let opening = open(&plane, &mut client, &mut buffer, startup, peer);
            match tokio::time::timeout_at(deadline, opening).await {
                Ok(Ok(Opened::Console(user))) => {
                    if let Some(console) = &plane.console {
                        console.serve(client, buffer, user).await;
                    }
                    return;
                }
                Ok(Ok(Opened::Session(session))) => {
                    session.run(client, &buffer).await;
                    return;
                }
                Ok(Ok(Opened::Nothing)) => return,
                Ok(Err(rejected)) => rejected,
                Err(_) => {
                    plane.metrics.login_failed("timeout");
                    return;
                }
            }
        }
        Ok(Err(rejected)) => rejected,
    };
    plane.metrics.login_failed(match &rejected {
        Rejected::Io(_) => "connection lost",
        Rejected::Malformed(_) => "malformed",
        Rejected::Password(_) => "password",
        Rejected::Unsupported(_) => "unsupported",
    });
    debug!(%peer, %rejected, "login rejected");
    say_goodbye(&mut client, &accept::refuse(&rejected)).await;
}

enum Opened {
    Console(String),
    Session(Box<Session>),
    /// The client was told why, and it ends here.
    Nothing,
}

async fn open(
    plane: &Arc<Plane>,
    client: &mut TcpStream,
    buffer: &mut BytesMut,
    startup: Startup,
    peer: SocketAddr,
) -> Result<Opened, Rejected> {
    let mut greeting = BytesMut::new();
    let minor = match accept::negotiate(&startup, &mut greeting) {
        Ok(minor) => minor,
        Err(unsupported) => {
            let mut out = BytesMut::new();
            let message = unsupported.to_string();
            refusal::feature_not_supported(&mut out, Severity::Fatal, &message);
            say_goodbye(client, &out).await;
            return Ok(Opened::Nothing);
        }
    };
    client.write_all(&greeting).await?;
    greeting.clear();
    let Some(user) = startup.user() else {
        refusal::no_user(&mut greeting);
        say_goodbye(client, &greeting).await;
        return Ok(Opened::Nothing);
    };
    let user = String::from_utf8_lossy(&user).into_owned();
    let database = startup.database().unwrap_or_default();

    if database == CONSOLE_DATABASE && plane.console.is_some() {
        accept::authenticate(client, buffer, &user, Some(plane.passwords.of_admin(&user))).await?;
        AuthRequest::Ok.encode(&mut greeting);
        client.write_all(&greeting).await?;
        return Ok(Opened::Console(user));
    }

    let route_name = String::from_utf8_lossy(&database).into_owned();
    let Some(route) = plane.routes.route(&route_name) else {
        plane.metrics.login_failed("unknown route");
        refusal::unknown_route(&mut greeting, &route_name);
        say_goodbye(client, &greeting).await;
        return Ok(Opened::Nothing);
    };
    accept::authenticate(client, buffer, &user, plane.passwords.of_user(&user)).await?;
    let password = plane.passwords.for_server(&user);

    let destination = route.destination();
    let ticket = route.gate.ticket();
    let password_text = password.as_ref().map(|secret| secret.reveal());
    let login = connect::login(
        &destination.cluster,
        &startup,
        &route.database,
        password_text,
    )
    .await;
    let server = match login {
        Ok(server) => server,
        Err(refused) => {
            plane.metrics.login_failed("server");
            say_goodbye(client, &explain(&refused, &destination.cluster.name, peer)).await;
            return Ok(Opened::Nothing);
        }
    };

    let application = startup.get(b"application_name").unwrap_or_default();
    let registered = plane.registry.add(NewSession {
        user: user.clone(),
        route: route.name.clone(),
        client: peer,
        application: String::from_utf8_lossy(&application).into_owned(),
        ticket: ticket.number(),
    });
    let secret = client_secret(&registered, server.key.pid, minor);
    registered.entry().set_server(ServerKey {
        cluster: Arc::clone(&destination.cluster),
        pid: server.key.pid,
        secret: server.key.secret.clone(),
    });

    AuthRequest::Ok.encode(&mut greeting);
    for (name, value) in &server.parameters {
        let status = reply::ParameterStatus {
            name: name.clone(),
            value: value.clone(),
        };
        status.encode(&mut greeting);
    }
    greeting.extend_from_slice(&server.notices);
    reply::BackendKeyData {
        pid: server.key.pid,
        secret,
    }
    .encode(&mut greeting);
    reply::ReadyStatus::Idle.encode(&mut greeting);
    client.write_all(&greeting).await?;

    let gated = !startup.replication();
    Ok(Opened::Session(Box::new(Session {
        plane: Arc::clone(plane),
        route: Arc::clone(route),
        startup,
        password,
        server,
        registered,
        ticket,
        generation: destination.generation,
        gated,
    })))
}

/// A secret that no other session has: four bytes, or thirty-two where the client speaks protocol 3.2.
fn client_secret(registered: &Registered, pid: i32, minor: u16) -> Bytes {
    loop {
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        let secret = Bytes::copy_from_slice(if minor >= 2 { &bytes } else { &bytes[..4] });
        if registered.listen_for((pid, secret.clone())) {
            return secret;
        }
    }
}

fn explain(refused: &Refused, cluster: &str, peer: SocketAddr) -> BytesMut {
    let mut out = BytesMut::new();
    match refused {
        Refused::ByServer(frame) => out.extend_from_slice(frame),
        Refused::Unreachable(error) => {
            warn!(%peer, cluster, %error, "the cluster cannot be reached; the client was told to try again");
            refusal::cannot_connect_now(
                &mut out,
                "the database system cannot be reached at the moment",
            );
        }
        Refused::Malformed(_) | Refused::Unsupported(_) => {
            warn!(%peer, cluster, %refused, "the login on the cluster failed; set users.NAME.password if it asks for one");
            refusal::error(
                &mut out,
                Severity::Fatal,
                "28000",
                "the database system could not complete the login",
            );
        }
    }
    out
}

/// Tells a client that there is no place for it.
pub async fn too_many(client: &mut TcpStream) {
    let mut words = BytesMut::new();
    refusal::too_many_connections(&mut words);
    say_goodbye(client, &words).await;
}

async fn say_goodbye(client: &mut TcpStream, words: &[u8]) {
    let farewell = async {
        client.write_all(words).await?;
        client.shutdown().await
    };
    // Whoever does not take the words in time goes without them.
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, farewell).await;
}

/// A session behind its login.
struct Session {
    plane: Arc<Plane>,
    route: Arc<Route>,
    startup: Startup,
    password: Option<crate::config::Secret>,
    server: ServerSession,
    registered: Registered,
    ticket: Ticket,
    generation: u64,
    gated: bool,
}

/// How the hot loop sees the gate.
struct Standing {
    ticket: Ticket,
    generation: AtomicU64,
    entry: Arc<Entry>,
}

impl Entrance for Standing {
    fn enter(&self) -> bool {
        self.ticket.enter(self.generation.load(Relaxed))
    }

    fn is_open(&self) -> bool {
        self.ticket.gate().look()
            == crate::turnstile::Look::new(State::Open, self.generation.load(Relaxed))
    }

    fn leave(&self) {
        self.ticket.leave();
    }

    fn is_closing(&self) -> bool {
        self.entry.is_closing()
    }
}

/// Why a session ends.
enum End {
    /// Its client or its server left; nobody is to be told.
    Left,
    /// The client is told that an administrator ended it.
    Terminated,
    /// The client broke the protocol.
    Violation(&'static str),
}

impl Session {
    async fn run(self, client: TcpStream, leftover: &[u8]) {
        let _count = self.route.count_session();
        self.plane.metrics.session_opened(&self.route.name);
        let entry = Arc::clone(self.registered.entry());
        entry.set_activity(Activity::Serving);
        let mut serving = Serving {
            wire: PostgresWire::new(
                self.plane.limits.frame_bytes_max,
                self.server.parameters,
                self.gated,
            ),
            relay: Relay::new(client, self.server.stream, leftover),
            standing: Standing {
                ticket: self.ticket,
                generation: AtomicU64::new(self.generation),
                entry: Arc::clone(&entry),
            },
            plane: self.plane,
            route: self.route,
            startup: self.startup,
            password: self.password,
            entry,
            spare: None,
        };
        let end = serving.serve().await;
        serving.farewell(end).await;
        drop(self.registered);
    }
}

/// A session that forwards.
struct Serving {
    plane: Arc<Plane>,
    route: Arc<Route>,
    startup: Startup,
    password: Option<crate::config::Secret>,
    entry: Arc<Entry>,
    wire: PostgresWire,
    relay: Relay<TcpStream, Upstream>,
    standing: Standing,
    /// A server session on the cluster that the route is about to lead to.
    spare: Option<Spare>,
}

impl Serving {
    async fn serve(&mut self) -> End {
        loop {
            let stop = tokio::select! {
                biased;
                stop = self.relay.run(&mut self.wire, &self.standing) => Some(stop),
                () = self.entry.bell.notified() => None,
            };
            let end = match stop {
                None => {
                    let end = self.look_at_route().await;
                    self.look_at_orders();
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
                Some(Err(broken)) => Some(self.break_off(&broken)),
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    fn break_off(&self, broken: &Broken) -> End {
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
                End::Terminated
            }
        }
    }

    /// Opens a session on the cluster that the route is about to lead to, beside the client's work.
    fn look_at_orders(&mut self) {
        if let Some(order) = self.entry.take_warm_order() {
            self.spare = Some(Spare::open(
                order,
                self.startup.clone(),
                self.route.database.clone(),
                self.password.clone(),
            ));
        }
    }

    /// Between statements: moves to where the route leads, if that has changed.
    async fn look_at_route(&mut self) -> Option<End> {
        let look = self.standing.ticket.gate().look();
        let stale = look.generation() != self.standing.generation.load(Relaxed);
        let idle = self.wire.at_boundary() && self.relay.held_bytes().is_empty();
        if stale && idle && !self.standing.ticket.is_inside() && look.state() == State::Open {
            return self.hand_over().await;
        }
        if !stale && look.state() == State::Open {
            // The switch that it was opened for did not come.
            self.spare = None;
        }
        None
    }

    /// The next statement stands at the gate.
    async fn wait_at_gate(&mut self) -> Option<End> {
        let look = self.standing.ticket.gate().look();
        if look.state() == State::Open {
            // Open and yet not passed: the route leads elsewhere now. Or the gate opened just now; then the next
            // try passes.
            if look.generation() == self.standing.generation.load(Relaxed) {
                return None;
            }
            return self.hand_over().await;
        }
        let line = self.standing.ticket.stand_in_line();
        self.plane.metrics.hold_began(&self.route.name);
        self.entry.take_cancel();
        self.entry.set_activity(Activity::Held);
        let deadline = tokio::time::Instant::now() + self.plane.limits.hold_timeout;
        let met = loop {
            tokio::select! {
                biased;
                () = line.opened() => break Met::Opened,
                stop = self.relay.wait_held(&mut self.wire, &self.standing) => break match stop {
                    Ok(_) => Met::Left(End::Left),
                    Err(broken) => Met::Left(self.break_off(&broken)),
                },
                () = self.entry.bell.notified() => {
                    self.look_at_orders();
                    if self.entry.take_cancel() {
                        break Met::Cancelled;
                    }
                    if self.entry.is_closing() {
                        break Met::Left(End::Terminated);
                    }
                }
                () = tokio::time::sleep_until(deadline) => break Met::TooLong,
            }
        };
        self.entry.set_activity(Activity::Serving);
        let lasted = line.age();
        let (outcome, hold_end) = match met {
            Met::Opened => (Outcome::Released, HoldEnd::Released),
            Met::Cancelled => (Outcome::Cancelled, HoldEnd::Cancelled),
            Met::TooLong => (Outcome::Refused, HoldEnd::Refused),
            Met::Left(_) => (Outcome::Gone, HoldEnd::Gone),
        };
        line.finish(outcome);
        self.plane
            .metrics
            .hold_ended(&self.route.name, hold_end, lasted);
        match met {
            Met::Opened => None,
            Met::Left(end) => Some(end),
            Met::Cancelled => self.refuse_batch(refusal::query_cancelled).await,
            Met::TooLong => {
                warn!(client = %self.entry.client, held_ms = lasted.as_millis(),
                    "a held statement was refused at limits.hold_timeout; it was not executed");
                self.refuse_batch(held_too_long).await
            }
        }
    }

    /// Answers the held statement with an error, as the server would: an extended batch is skipped up to its Sync.
    async fn refuse_batch(&mut self, error: fn(&mut BytesMut)) -> Option<End> {
        let mut words = BytesMut::new();
        error(&mut words);
        reply::ReadyStatus::Idle.encode(&mut words);
        let mut skip = 0;
        let mut over = false;
        loop {
            while let held @ [_, ..] = self.relay.held_bytes() {
                if skip > 0 {
                    let step = skip.min(held.len());
                    skip -= step;
                    self.relay.discard_held(step);
                    continue;
                }
                if over {
                    break;
                }
                match frame::peek(held, self.plane.limits.frame_bytes_max) {
                    Ok(Some(header)) => {
                        skip = header.total();
                        over = matches!(
                            header.tag,
                            command::SYNC | command::QUERY | command::FUNCTION_CALL
                        );
                    }
                    Ok(None) => break,
                    Err(_) => return Some(End::Violation("invalid message length")),
                }
            }
            if over && skip == 0 {
                break;
            }
            match self.relay.fill().await {
                Ok(true) => {}
                Ok(false) | Err(_) => return Some(End::Left),
            }
        }
        match self.relay.say(&mut self.wire, &self.standing, &words).await {
            Ok(()) => None,
            Err(_) => Some(End::Left),
        }
    }

    /// Moves the session to the cluster that serves its route now.
    async fn hand_over(&mut self) -> Option<End> {
        self.entry.set_activity(Activity::Moving);
        let route = Arc::clone(&self.route);
        let _permit = route.handover_permits.acquire().await;
        let destination = route.destination();
        let identity = Identity {
            startup: &self.startup,
            database: &route.database,
            password: self.password.as_ref().map(|secret| secret.reveal()),
        };
        let moved = handover::hand_over(
            &mut self.relay.server,
            &destination.cluster,
            identity,
            &self.wire,
            self.spare.take(),
        )
        .await;
        let moved = match moved {
            Ok(moved) => moved,
            Err(why) => return Some(self.cannot_move(&why)),
        };
        let ServerSession {
            stream,
            parameters,
            key,
            notices: _,
        } = moved.session;
        let mut old = self.relay.replace_server(stream);
        self.standing
            .generation
            .store(destination.generation, Relaxed);
        self.entry.set_server(ServerKey {
            cluster: Arc::clone(&destination.cluster),
            pid: key.pid,
            secret: key.secret,
        });
        self.wire.set_parameters(parameters);
        self.entry.set_activity(Activity::Serving);
        route.count_moved();
        self.plane.metrics.handover(&route.name, "moved");
        terminate(&mut old).await;
        match self
            .relay
            .say(&mut self.wire, &self.standing, &moved.changed)
            .await
        {
            Ok(()) => None,
            Err(_) => Some(End::Left),
        }
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

    async fn farewell(mut self, end: End) {
        let (from_client, to_client) = self.relay.traffic();
        let mut words = BytesMut::new();
        match end {
            End::Left => {}
            End::Terminated => refusal::terminating(&mut words),
            End::Violation(what) => refusal::protocol_violation(&mut words, what),
        }
        if !words.is_empty() {
            say_goodbye(&mut self.relay.client, &words).await;
        }
        if self.wire.at_boundary() {
            terminate(&mut self.relay.server).await;
        }
        self.plane
            .metrics
            .session_closed(&self.route.name, from_client, to_client);
    }
}

/// The text for a statement that was held for as long as the limits allow. It was sent nowhere.
fn held_too_long(out: &mut BytesMut) {
    let message =
        "canceling statement: the database did not become available in time; it was not executed";
    refusal::error(out, Severity::Error, "57014", message);
}

/// What a held statement met.
enum Met {
    Opened,
    Cancelled,
    TooLong,
    Left(End),
}

/// Tells a server session that is idle to end.
async fn terminate(server: &mut Upstream) {
    let mut out = BytesMut::new();
    frame::put(&mut out, command::TERMINATE, |_| {});
    let farewell = async {
        server.write_all(&out).await?;
        server.shutdown().await
    };
    // A server that does not listen learns of the end when the socket closes.
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, farewell).await;
}
