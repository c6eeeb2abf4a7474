//! A session that chooses the database of another route: it passes that route's gate too, or goes to its cluster.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use protocol::mysql::error_response;
use tracing::info;

use super::Mysql;
use crate::mysql::ahead::Ahead;
use crate::mysql::introspection::SessionInfo;
use crate::mysql::not_movable::NotMovable;
use crate::mysql::state::refuse_statements;
use crate::registry::{Movable, NewSession};
use crate::relay::{GateAccess, Wire};
use crate::route::Route;
use crate::session::held::Unheld;
use crate::session::{End, HoldRefusal, Session, SessionEngine};
use crate::session_gate::{Also, Turn};

/// No route ever has this generation: whoever stands there with it moves before anything else.
const NOWHERE: u64 = 0;

impl Session<Mysql> {
    /// The next command chooses databases. Those that a route serves from this cluster are joined before the command
    /// goes by; where another cluster serves it, the session goes there.
    pub(super) async fn choose_databases(&mut self) -> Option<End> {
        let here = self.gate.entry.server().map(|server| server.cluster.name.clone());
        let (names, lone) = self.wire.next_databases();
        let last = names.last().cloned().unwrap_or_default();
        let mut elsewhere = None;
        let mut joining = Vec::new();
        for name in names {
            let name = String::from_utf8_lossy(name);
            let serves = |route: &Arc<Route>| route.database.eq_ignore_ascii_case(&name);
            if self.gate.routes().any(serves) {
                continue;
            }
            let Some(route) = self.plane.routes.of_database(&name) else {
                continue;
            };
            let destination = route.destination();
            if here.as_ref() == Some(&destination.cluster.name) {
                joining.push((route, destination.generation));
            } else {
                elsewhere = Some(route);
            }
        }
        if let Some(route) = elsewhere {
            return self.head_for(&route, last, lone).await;
        }
        let before = self.gate.also.len();
        for (route, generation) in &joining {
            self.gate.join(route, *generation);
        }
        if self.wire.at_boundary() {
            // It has not begun yet, and passes all gates anew.
            self.gate.leave();
        } else {
            while !self.gate.enter_joined() {
                let unheld = match self.gate.turn() {
                    Turn::GatePass => continue,
                    Turn::Wary(_) => {
                        self.gate.dares.store(true, Relaxed);
                        continue;
                    }
                    Turn::Closed(_) => match self.hold(false).await {
                        Ok(()) => continue,
                        Err(unheld) => unheld,
                    },
                    Turn::Elsewhere => Unheld::Refused(HoldRefusal::Cancelled),
                };
                let mut count = 0;
                self.gate.keep(|_| {
                    count += 1;
                    count <= before
                });
                return match unheld {
                    Unheld::End(end) => Some(end),
                    Unheld::Refused(why) => Mysql::refuse_held(self, why).await,
                };
            }
        }
        self.wire.let_use_pass();
        None
    }

    /// The database that is chosen is served from another cluster: the session moves there, if it can, before the
    /// command goes by.
    async fn head_for(&mut self, route: &Arc<Route>, name: Vec<u8>, lone: bool) -> Option<End> {
        let why = if !lone || !self.wire.at_boundary() {
            Some("a session changes to it by a statement of its own, outside a transaction")
        } else if self.wire.statements.iter().next().is_some() || self.wire.learned.has_named() {
            Some("the session has prepared statements")
        } else {
            let reported = match self.gate.entry.server() {
                Some(server) => {
                    let witnesses = &self.engine.logins.witnesses;
                    witnesses.ask(&server.cluster.name, server.pid).await
                }
                None => SessionInfo::default(),
            };
            match Ahead::of(&self.wire).movable(&reported) {
                Movable::No(why) => Some(why),
                Movable::Yes | Movable::NotKnown(_) => None,
            }
        };
        if let Some(why) = why {
            let name = String::from_utf8_lossy(&name).into_owned();
            let cluster = route.destination().cluster.name.clone();
            info!(client = %self.gate.entry.client, database = name, cluster, why, "a session cannot change to a database of another cluster");
            let text = format!("Unknown database '{name}': another cluster serves it, and {why}");
            return self.refuse(|out, sequence| error_response::error(out, sequence, 1049, "42000", &text)).await;
        }
        self.gate.leave();
        self.settle_at(route, NOWHERE);
        self.engine.heading = Some(name);
        None
    }

    /// From now on the session is one of `route`, and of no other.
    pub(super) fn settle_at(&mut self, route: &Arc<Route>, generation: u64) {
        let metrics = &self.plane.metrics;
        metrics.bytes_carried(&self.gate.route.name, self.gate.entry.flow.take());
        for left in self.gate.routes() {
            left.hidden_writes.end(self.gate.entry.id);
        }
        self.gate.also.clear();
        self.gate.generation.store(generation, Relaxed);
        self.gate.ticket = route.gate.ticket();
        self.registered.renew(NewSession {
            user: String::from_utf8_lossy(&self.engine.identity.user).into_owned(),
            route: route.name.clone(),
            client: self.gate.entry.client,
            encrypted: self.gate.entry.encrypted,
            application: self.gate.entry.application.clone(),
            ticket: self.gate.ticket.number(),
        });
        self.gate.entry = Arc::clone(self.registered.entry());
        if !Arc::ptr_eq(&self.gate.route, route) {
            metrics.session_closed(&self.gate.route.name);
            metrics.session_opened(&route.name);
            self.count = route.count_session();
            self.gate.route = Arc::clone(route);
        }
    }

    /// The route leads elsewhere, or one whose database was chosen does: the session goes where its default database is.
    pub(super) async fn follow_routes(&mut self) -> Option<End> {
        // What was joined for a choice that did not go by yet is joined anew.
        self.wire.look_at_use_again();
        if self.gate.also.is_empty() {
            return self.hand_over().await;
        }
        let Some(database) = self.wire.database() else {
            return Some(self.cannot_move(&NotMovable::SeveralRoutes));
        };
        let database = String::from_utf8_lossy(database).into_owned();
        let serves = |route: &Arc<Route>| route.database.eq_ignore_ascii_case(&database);
        let at = self.gate.routes().find(|route| serves(route)).cloned();
        let at = at.unwrap_or_else(|| Arc::clone(&self.gate.route));
        if refuse_statements(&self.wire.learned, &self.wire.statements).is_err() {
            return Some(self.cannot_move(&NotMovable::SeveralRoutes));
        }
        let here = self.gate.entry.server().map(|server| server.cluster.name.clone());
        let stays = |route: &Arc<Route>| Some(&route.destination().cluster.name) == here.as_ref();
        if !stays(&at) {
            self.settle_at(&at, NOWHERE);
            return self.hand_over().await;
        }
        if !stays(&self.gate.route) {
            self.settle_at(&at, at.destination().generation);
            return None;
        }
        let generation = self.gate.route.destination().generation;
        self.gate.generation.store(generation, Relaxed);
        self.gate.keep(|also| stays(&also.route));
        for Also { route, generation, .. } in &mut self.gate.also {
            *generation = route.destination().generation;
        }
        None
    }
}
