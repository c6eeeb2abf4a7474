//! What a session of MySQL's does in its own way while it is served: questions, errors, another server session.

mod databases;
mod own;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::mysql::handshake::Capabilities;
use protocol::mysql::{command, error_response, frame};
use tokio::sync::oneshot;

use super::ahead::Ahead;
use super::handover::{self, Moved, Old};
use super::introspection::SessionInfo;
use super::logins::Logins;
use super::not_movable::NotMovable;
use super::server_login::{self, Identity, ServerSession};
use super::trial;
use super::wire::MysqlWire;
use crate::client::Client;
use crate::config::Limits;
use crate::registry::{Movable, answer_probes};
use crate::relay::{GateAccess, Verdict, Wire};
use crate::route::Cluster;
use crate::session::{End, HoldRefusal, NewServer, Session, SessionEngine};
use crate::session_gate::SessionGate;
use crate::upstream::Origin;

/// Who a session of MySQL's is, and what was agreed with its server.
pub(super) struct Mysql {
    /// What a change of the user needs.
    pub(super) logins: Arc<Logins>,
    pub(super) identity: Arc<Identity>,
    /// Whose its server sessions are.
    pub(super) origin: Origin,
    /// What was agreed with the present server.
    pub(super) capabilities: Capabilities,
    /// The present server's version.
    pub(super) version: String,
    /// The default database to go on in, where it is another route's on another cluster.
    pub(super) heading: Option<Vec<u8>>,
}

impl SessionEngine for Mysql {
    type Wire = MysqlWire;
    type Client = Client;
    type Server = ServerSession;
    type NotMovable = NotMovable;

    const LATE: NotMovable = NotMovable::Late;
    const TERMINATED: &'static str = "error 1053";

    fn reason(why: &NotMovable) -> &'static str {
        why.reason()
    }

    fn last_words(session: &Session<Self>, end: End) -> BytesMut {
        let mut words = BytesMut::new();
        // Clients expect the answer to what they said last, or will say next, under this number.
        let mut sequence = frame::peek(session.relay.held_bytes()).map_or(0, |header| header.sequence).wrapping_add(1);
        match end {
            End::Left => {}
            End::Terminated => error_response::terminating(&mut words, &mut sequence),
            End::ClientBroken | End::ServerBroken => error_response::malformed(&mut words, &mut sequence),
        }
        words
    }

    fn quit() -> BytesMut {
        one(command::QUIT)
    }

    /// An error leaves it in doubt whether a transaction is open.
    fn probe(wire: &mut MysqlWire) -> Option<BytesMut> {
        if !wire.in_doubt() {
            return None;
        }
        wire.ask(command::PING);
        Some(one(command::PING))
    }

    /// As far as its statements and its cluster's own account tell.
    fn ask_ahead(session: &mut Session<Self>, askers: Vec<oneshot::Sender<Movable>>) -> Option<BytesMut> {
        let Session { engine, wire, gate, .. } = session;
        let busy = if gate.is_inside() || !wire.at_boundary() {
            Some("it is in a transaction")
        } else if gate.route.hidden_writes.names(gate.entry.id) {
            Some("it may write past the binary log")
        } else {
            None
        };
        if let Some(why) = busy {
            answer_probes(askers, Movable::NotKnown(why));
            return None;
        }
        let (logins, server) = (Arc::clone(&engine.logins), gate.entry.server());
        let ahead = Ahead::of(wire);
        tokio::spawn(async move {
            let reported = match &server {
                Some(server) => logins.witnesses.ask(&server.cluster.name, server.pid).await,
                None => SessionInfo::default(),
            };
            answer_probes(askers, ahead.movable(&reported));
        });
        None
    }

    fn answer_own(session: &mut Session<Self>) -> impl Future<Output = Option<End>> + Send {
        session.answer_own()
    }

    fn unit(wire: &MysqlWire, held: &[u8]) -> Option<usize> {
        wire.unit(held)
    }

    fn judge(answer: &[u8]) -> Verdict {
        trial::judge(answer)
    }

    fn refuse_held(session: &mut Session<Self>, why: HoldRefusal) -> impl Future<Output = Option<End>> + Send {
        session.refuse(match why {
            HoldRefusal::Cancelled => error_response::query_interrupted,
            HoldRefusal::TooLong => error_response::held_too_long,
        })
    }

    /// Who can tell more of the present session is called too.
    fn prewarm(
        &self,
        gate: &SessionGate,
        cluster: Arc<Cluster>,
    ) -> impl Future<Output = Result<ServerSession, String>> + Send + 'static {
        let (identity, logins, origin) = (Arc::clone(&self.identity), Arc::clone(&self.logins), self.origin);
        let server = gate.entry.server();
        async move {
            let introspection = async {
                if let Some(server) = &server {
                    logins.witnesses.prepare(&server.cluster.name).await;
                }
            };
            let opening = server_login::login(&cluster, origin, &identity, None);
            let (session, ()) = tokio::join!(opening, Box::pin(introspection));
            session.map_err(|refused| refused.to_string())
        }
    }

    fn follow_routes(session: &mut Session<Self>) -> impl Future<Output = Option<End>> + Send {
        session.follow_routes()
    }

    fn permit_timeout(_: &Limits) -> Duration {
        handover::TIMEOUT
    }

    async fn rebuild(session: &mut Session<Self>, cluster: &Cluster) -> Result<(ServerSession, BytesMut), NotMovable> {
        let Session { engine, wire, relay, gate, prewarmed, .. } = session;
        let old = Old {
            stream: &mut relay.server,
            capabilities: engine.capabilities,
            version: &engine.version,
            server: gate.entry.server(),
            witnesses: &engine.logins.witnesses,
            database: engine.heading.take(),
        };
        let moved =
            handover::hand_over(old, (cluster, engine.origin), &engine.identity, wire, prewarmed.take()).await?;
        let Moved { session, statements, names, named } = moved;
        wire.move_to(session.capabilities, &statements, named);
        wire.learned.move_on(&names);
        Ok((session, BytesMut::new()))
    }

    fn adopt(session: &mut Session<Self>, server: ServerSession) -> NewServer {
        let ServerSession { stream, buffer, thread, capabilities, version, .. } = server;
        session.engine.capabilities = capabilities;
        session.engine.version = version;
        NewServer { stream, buffer, pid: i64::from(thread), secret: Bytes::new() }
    }
}

/// A command without anything else.
fn one(command: u8) -> BytesMut {
    let mut out = BytesMut::new();
    frame::put(&mut out, &mut 0, &[command]);
    out
}

impl Session<Mysql> {
    /// Answers a command that was not forwarded.
    async fn answer(&mut self, words: &[u8]) -> Option<End> {
        let said = self.say(words).await;
        if self.wire.at_boundary() {
            self.gate.leave();
        }
        said.err()
    }

    /// Answers the command that stands next with an error, once the client has sent all of it.
    async fn refuse(&mut self, error: impl FnOnce(&mut BytesMut, &mut u8)) -> Option<End> {
        if self.relay.held_bytes().get(frame::HEADER_BYTES) == Some(&command::STMT_PREPARE) {
            // Who executes "the statement prepared last" behind it must not get an older one.
            self.wire.statements.refused();
        }
        let mut sequence = 0;
        let next = |held: &[u8]| {
            let header = frame::peek(held);
            Ok(header.map(|header| {
                sequence = header.sequence.wrapping_add(1);
                (header.total(), !header.is_continued())
            }))
        };
        if let Err(end) = self.discard_held(next).await {
            return Some(end);
        }
        let mut words = BytesMut::new();
        error(&mut words, &mut sequence);
        self.answer(&words).await
    }
}
