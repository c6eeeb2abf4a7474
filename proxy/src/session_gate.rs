//! Where a session stands before its route's gate, and before those of other databases that it has chosen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use crate::gate::GateHandle;
use crate::gate_state::{GateSnapshot, State};
use crate::hidden_writes::HiddenWrites;
use crate::registry::{Activity, Entry};
use crate::relay::GateAccess;
use crate::route::Route;

/// How the hot loop sees the gate.
pub(crate) struct SessionGate {
    pub(crate) ticket: GateHandle,
    pub(crate) generation: AtomicU64,
    pub(crate) entry: Arc<Entry>,
    pub(crate) route: Arc<Route>,
    /// Whoever chooses a database of another route may write there at any time from then on, also by a statement that was
    /// prepared while it was chosen: it begins no transaction that the other's gate does not let pass too.
    pub(crate) also: Vec<Also>,
    /// The next transaction may begin although the server may refuse it.
    pub(crate) dares: AtomicBool,
}

/// A place at another route's gate.
pub(crate) struct Also {
    pub(crate) route: Arc<Route>,
    pub(crate) ticket: GateHandle,
    pub(crate) generation: u64,
}

/// What the gates let a session do now.
pub(crate) enum Turn<'a> {
    /// Go on.
    GatePass,
    /// This one is not open.
    Closed(&'a GateHandle),
    /// All are open, and one of the routes leads elsewhere by now.
    Elsewhere,
    /// All are open, and behind this one the server may refuse what passes.
    Wary(&'a GateHandle),
}

impl SessionGate {
    fn looks(&self) -> impl Iterator<Item = (&GateHandle, u64)> {
        let also = self.also.iter().map(|also| (&also.ticket, also.generation));
        std::iter::once((&self.ticket, self.generation.load(Relaxed))).chain(also)
    }

    /// The routes whose gates it passes.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        std::iter::once(&self.route).chain(self.also.iter().map(|also| &also.route))
    }

    /// What the gates let this session do now.
    pub(crate) fn turn(&self) -> Turn<'_> {
        let mut elsewhere = false;
        let mut wary = None;
        for (ticket, generation) in self.looks() {
            let look = ticket.gate().look();
            match look.state() {
                State::Open => {}
                State::Wary => wary = Some(ticket),
                State::Closing | State::Closed => return Turn::Closed(ticket),
            }
            elsewhere |= look.generation() != generation;
        }
        match wary {
            _ if elsewhere => Turn::Elsewhere,
            Some(ticket) => Turn::Wary(ticket),
            None => Turn::GatePass,
        }
    }

    /// Takes a place at the gate of another route, outside.
    pub(crate) fn join(&mut self, route: &Arc<Route>, generation: u64) {
        let ticket = route.gate.ticket();
        self.entry.join(&route.name, ticket.number());
        for mut hidden in self.route.hidden_writes.all() {
            if hidden.session == self.entry.id && hidden.until.is_none() {
                hidden.since = SystemTime::now();
                route.hidden_writes.begin(hidden);
            }
        }
        self.also.push(Also { route: Arc::clone(route), ticket, generation });
    }

    /// Enters those gates that were joined inside a transaction. False where one does not let it.
    pub(crate) fn enter_joined(&self) -> bool {
        let mut outside = self.also.iter().filter(|also| !also.ticket.is_inside());
        outside.all(|also| self.passes(&also.ticket, also.generation))
    }

    fn passes(&self, ticket: &GateHandle, generation: u64) -> bool {
        ticket.enter(generation) || self.dares.load(Relaxed) && ticket.enter_warily(generation)
    }

    /// Leaves the places that `stays` does not name.
    pub(crate) fn keep(&mut self, stays: impl FnMut(&Also) -> bool) {
        self.also.retain(stays);
        self.entry.rejoin(self.also.iter().map(|also| {
            let name = also.route.name.clone();
            (name, also.ticket.number())
        }));
    }
}

impl GateAccess for SessionGate {
    fn enter(&self) -> bool {
        let generation = self.generation.load(Relaxed);
        let entered = self.passes(&self.ticket, generation) && {
            let all = self.enter_joined();
            if !all {
                self.leave();
            }
            all
        };
        // What was held runs now: who cancels it from here on means what runs on the server.
        if entered && self.entry.activity() == Activity::Held {
            self.entry.set_activity(Activity::Serving);
            self.entry.take_cancel();
        }
        entered
    }

    fn is_open(&self) -> bool {
        self.looks().all(|(ticket, generation)| ticket.gate().look() == GateSnapshot::new(State::Open, generation))
    }

    fn is_inside(&self) -> bool {
        self.ticket.is_inside()
    }

    fn leave(&self) {
        if self.dares.load(Relaxed) {
            self.dares.store(false, Relaxed);
        }
        self.ticket.leave();
        for also in &self.also {
            also.ticket.leave();
        }
    }

    fn is_closing(&self) -> bool {
        self.entry.is_closing()
    }

    fn hides_writes(&self, what: &'static str) {
        let server = self.entry.server();
        for route in self.routes() {
            route.hidden_writes.begin(HiddenWrites {
                session: self.entry.id,
                pid: server.as_ref().map(|server| server.pid).unwrap_or_default(),
                user: self.entry.user.clone(),
                client: self.entry.client,
                what,
                since: SystemTime::now(),
                until: None,
            });
        }
    }
}

impl Drop for SessionGate {
    fn drop(&mut self) {
        for route in self.routes() {
            route.hidden_writes.end(self.entry.id);
        }
    }
}
