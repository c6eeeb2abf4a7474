//! What a session of PostgreSQL's does in its own way while it is served: questions, errors, another server session.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use protocol::postgres::error_response::Severity;
use protocol::postgres::handshake::Startup;
use protocol::postgres::{command, error_response, frame, reply};
use tokio::sync::oneshot;

use super::custom::CustomSettings;
use super::handover::{self, Identity};
use super::not_movable::NotMovable;
use super::passwords::Passwords;
use super::server_login::{self, Credential, ServerSession};
use super::trial;
use super::wire::PostgresWire;
use crate::client::Client;
use crate::config::Limits;
use crate::registry::Movable;
use crate::relay::{GateAccess, Verdict};
use crate::route::Cluster;
use crate::session::{End, HoldRefusal, NewServer, Session, SessionEngine};
use crate::session_gate::SessionGate;
use crate::upstream::Origin;

/// Who a session of PostgreSQL's is.
pub(super) struct Postgres {
    pub(super) startup: Startup,
    pub(super) passwords: Arc<Passwords>,
    /// What proved the login.
    pub(super) credential: Option<Credential>,
    /// Whose its server sessions are.
    pub(super) origin: Origin,
}

impl Postgres {
    /// The user's password as the configuration has it now, which may be another than at the login; else what proved that.
    fn credential(&self, gate: &SessionGate) -> Option<Credential> {
        self.passwords.credential(&gate.entry.user).or_else(|| self.credential.clone())
    }
}

impl SessionEngine for Postgres {
    type Wire = PostgresWire;
    type Client = Client;
    type Server = ServerSession;
    type NotMovable = NotMovable;

    const LATE: NotMovable = NotMovable::Late;
    const TERMINATED: &'static str = "57P01";

    fn reason(why: &NotMovable) -> &'static str {
        why.reason()
    }

    /// The settings that a client logs in with may hide its writes too.
    fn begin(session: &mut Session<Self>) {
        let mut asked = CustomSettings::default();
        for name in [&b"session_replication_role"[..], b"options"] {
            let value = session.engine.startup.get(name).unwrap_or_default();
            let text = [name, b"=", &value].concat();
            asked.learn(&text);
        }
        if let Some(what) = asked.take_hides_writes() {
            session.gate.hides_writes(what);
        }
    }

    fn last_words(_: &Session<Self>, end: End) -> BytesMut {
        let mut words = BytesMut::new();
        match end {
            End::Left => {}
            End::Terminated => error_response::terminating(&mut words),
            End::ClientBroken => error_response::protocol_violation(&mut words, "invalid message length"),
            End::ServerBroken => {
                let message = "the server sent a message that is too long or malformed";
                error_response::protocol_violation(&mut words, message);
            }
        }
        words
    }

    fn quit() -> BytesMut {
        let mut out = BytesMut::new();
        frame::put(&mut out, command::TERMINATE, |_| {});
        out
    }

    fn stays(wire: &PostgresWire) -> Option<NotMovable> {
        (!wire.is_gated()).then_some(NotMovable::Replication)
    }

    fn probe(wire: &mut PostgresWire) -> Option<BytesMut> {
        wire.probe()
    }

    fn ask_ahead(session: &mut Session<Self>, askers: Vec<oneshot::Sender<Movable>>) -> Option<BytesMut> {
        let inside = session.gate.is_inside() || !session.relay.is_forwarded();
        let sent = session.gate.entry.flow.total().0;
        session.wire.ask_ahead(askers, inside, sent)
    }

    fn unit(wire: &PostgresWire, held: &[u8]) -> Option<usize> {
        wire.unit(held)
    }

    fn judge(answer: &[u8]) -> Verdict {
        trial::judge(answer)
    }

    /// As the server would: at once, and an extended batch is then passed over up to its Sync.
    async fn refuse_held(session: &mut Session<Self>, why: HoldRefusal) -> Option<End> {
        let limit = session.plane.limits.frame_bytes_max;
        let Ok(Some(first)) = frame::peek(session.relay.held_bytes(), limit) else {
            return Some(End::ClientBroken);
        };
        let alone = matches!(first.tag, command::QUERY | command::FUNCTION_CALL);
        let mut words = BytesMut::new();
        match why {
            HoldRefusal::Cancelled => error_response::query_cancelled(&mut words),
            HoldRefusal::TooLong => held_too_long(&mut words),
        }
        if alone {
            reply::ReadyStatus::Idle.encode(&mut words);
        }
        if let Err(end) = session.say(&words).await {
            return Some(end);
        }
        let next = |held: &[u8]| {
            let header = frame::peek(held, limit)?;
            Ok(header.map(|header| (header.total(), alone || header.tag == command::SYNC)))
        };
        if let Err(end) = session.discard_held(next).await {
            return Some(end);
        }
        if alone {
            return None;
        }
        words.clear();
        reply::ReadyStatus::Idle.encode(&mut words);
        session.say(&words).await.err()
    }

    fn prewarm(
        &self,
        gate: &SessionGate,
        cluster: Arc<Cluster>,
    ) -> impl Future<Output = Result<ServerSession, String>> + Send + 'static {
        let startup = self.startup.clone();
        let database = gate.route.database.clone();
        let (credential, origin) = (self.credential(gate), self.origin);
        async move {
            let login = server_login::login(&cluster, origin, &startup, &database, credential.as_ref()).await;
            login.map_err(|refused| refused.to_string())
        }
    }

    fn permit_timeout(limits: &Limits) -> Duration {
        limits.connect_timeout
    }

    async fn rebuild(session: &mut Session<Self>, cluster: &Cluster) -> Result<(ServerSession, BytesMut), NotMovable> {
        let credential = session.engine.credential(&session.gate);
        let identity = Identity {
            startup: &session.engine.startup,
            database: &session.gate.route.database,
            credential: credential.as_ref(),
            origin: session.engine.origin,
        };
        let prewarmed = session.prewarmed.take();
        let moved = handover::hand_over(&mut session.relay.server, cluster, identity, &session.wire, prewarmed);
        let moved = moved.await?;
        Ok((moved.session, moved.changed))
    }

    fn adopt(session: &mut Session<Self>, server: ServerSession) -> NewServer {
        let ServerSession { stream, buffer, parameters, key, notices: _, proven: _ } = server;
        session.wire.set_parameters(parameters);
        NewServer { stream, buffer, pid: i64::from(key.pid), secret: key.secret }
    }
}

/// The text for a statement that was held for as long as the limits allow. It was sent nowhere.
fn held_too_long(out: &mut BytesMut) {
    let message = "canceling statement: the database did not become available in time; it was not executed";
    error_response::error(out, Severity::Error, "57014", message);
}
