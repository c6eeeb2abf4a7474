//! Commands that Headgate answers itself or puts in other words: KILL, a change of the user, and what it refuses.

use std::sync::Arc;

use bytes::BytesMut;
use protocol::mysql::handshake::Capabilities;
use protocol::mysql::reply::{self, Okay};
use protocol::mysql::{command, error_response, frame};
use tracing::{debug, warn};

use super::Mysql;
use crate::client::send_error_and_close;
use crate::mysql::cancel;
use crate::mysql::client_login::Line;
use crate::mysql::logins::{Changed, Entered, change_user, welcome};
use crate::mysql::sql_text::KillScope;
use crate::mysql::wire::Own;
use crate::registry::Activity;
use crate::relay::GateAccess;
use crate::session::{End, Session};

impl Session<Mysql> {
    /// Sends the server something in place of the first `held` bytes of the client.
    async fn send_instead(&mut self, words: &[u8], held: usize) -> Option<End> {
        self.relay.discard_held(held);
        // The server may be slow to read because it has much to read: the client's own deadline decides.
        self.relay.inject(words).await.is_err().then_some(End::Left)
    }

    /// The next command is one that Headgate answers itself or puts in other words.
    pub(super) async fn answer_own(&mut self) -> Option<End> {
        let own = self.wire.take_own()?;
        match own {
            Own::Kill(ends, id) => self.kill(ends, id).await,
            Own::ChangeUser => self.change_user().await,
            Own::Use => Box::pin(self.choose_databases()).await,
            Own::Splice(client) => {
                let spliced = self.wire.splice(client, self.relay.held_bytes());
                let Some((words, held)) = spliced else {
                    warn!(client = %self.gate.entry.client,
                        "an execution relies on types of parameters that cannot be sent again; its session ends");
                    return Some(End::Terminated);
                };
                self.send_instead(&words, held).await
            }
            Own::Replication => self.refuse(error_response::replication).await,
            Own::Unknown => self.refuse(error_response::unknown_command).await,
            Own::NoStatement => self.refuse(error_response::unknown_statement).await,
        }
    }

    /// The client ends another session of Headgate's, which it knows by the number that Headgate gave it.
    async fn kill(&mut self, ends: KillScope, id: u64) -> Option<End> {
        let header = frame::peek(self.relay.held_bytes())?;
        let mut words = BytesMut::new();
        let mut sequence = header.sequence.wrapping_add(1);
        let named = u32::try_from(id).ok();
        let entry = named.and_then(|id| self.plane.registry.by_client_id(id));
        let Some((entry, server)) = entry.and_then(|entry| Some((Arc::clone(&entry), entry.server()?))) else {
            self.plane.metrics.cancel_request("unknown");
            error_response::unknown_thread(&mut words, &mut sequence, id);
            self.relay.discard_held(header.total());
            return self.answer(&words).await;
        };
        let waits = matches!(entry.activity(), Activity::Held | Activity::Moving);
        if ends == KillScope::Query && waits && entry.user.as_bytes() == self.engine.identity.user {
            self.plane.metrics.cancel_request("held");
            entry.order_cancel();
            self.okay(&mut words, &mut sequence);
            self.relay.discard_held(header.total());
            return self.answer(&words).await;
        }
        self.plane.metrics.cancel_request("server");
        let here = self.gate.entry.server();
        if here.is_some_and(|here| here.cluster.name == server.cluster.name) {
            self.wire.send_instead(command::QUERY);
            let words = cancel::packet(self.engine.capabilities, ends, server.pid);
            return self.send_instead(&words, header.total()).await;
        }
        match cancel::elsewhere(&server, (&self.engine.identity, self.engine.origin), ends).await {
            Ok(None) => self.okay(&mut words, &mut sequence),
            Ok(Some((code, message))) => {
                error_response::error(&mut words, &mut sequence, code, "HY000", &message);
            }
            Err(refused) => {
                debug!(client = %self.gate.entry.client, %refused, "a KILL did not reach its server");
                error_response::unknown_thread(&mut words, &mut sequence, id);
            }
        }
        self.relay.discard_held(header.total());
        self.answer(&words).await
    }

    fn okay(&self, out: &mut BytesMut, sequence: &mut u8) {
        let okay = Okay { status: self.wire.status(), ..Okay::default() };
        let mut payload = BytesMut::new();
        let tracked = self.wire.client_capabilities().has(Capabilities::SESSION_TRACK);
        okay.encode(&mut payload, reply::OK, tracked);
        frame::put(out, sequence, &payload);
    }

    /// The client becomes another user: it proves itself anew, and gets a new server session.
    async fn change_user(&mut self) -> Option<End> {
        let header = frame::peek(self.relay.held_bytes())?;
        if self.relay.held_bytes().len() < header.total() {
            return self.refuse(error_response::malformed).await;
        }
        let held = self.relay.take_held();
        let (packet, behind) = held.split_at(header.total());
        let mut buffer = BytesMut::from(behind);
        let body = packet.get(frame::HEADER_BYTES + 1..).unwrap_or_default();
        let mut line = Line::new(&mut self.relay.client, &mut buffer, header.sequence.wrapping_add(1));
        let current = (&*self.engine.identity, self.engine.origin);
        let changing = change_user(&self.engine.logins, &mut line, body, current, &self.gate.route);
        let limit = self.plane.limits.login_timeout;
        let changed = tokio::time::timeout(limit, Box::pin(changing)).await;
        let mut sequence = line.sequence;
        let Changed { entered: Entered { identity, server, destination }, route, database } = match changed {
            Ok(Ok(changed)) => changed,
            Ok(Err(denied)) => {
                // Who it wanted to be stands first.
                let user = body.split(|&byte| byte == 0).next().unwrap_or_default();
                let words = denied.explain(&self.plane.routes, user, self.gate.entry.client, &mut sequence);
                send_error_and_close(&mut self.relay.client, &words).await;
                return Some(End::Left);
            }
            Err(_) => return Some(End::Left),
        };
        let welcome = welcome(&server, identity.capabilities);
        let mut words = BytesMut::new();
        frame::put(&mut words, &mut sequence, &welcome);
        self.engine.identity = Arc::new(identity);
        self.prewarmed = None;
        let status = server.status;
        let capabilities = server.capabilities;
        self.gate.leave();
        self.settle_at(&route, destination.generation);
        self.take_server(server, &destination).await;
        self.wire.begin_anew(capabilities, status, database.as_deref());
        self.relay.give_back(&buffer);
        self.answer(&words).await
    }
}
