//! Where a session stands before its route's gate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use crate::gate::Ticket;
use crate::hidden_writes::HiddenWrites;
use crate::registry::{Activity, Entry};
use crate::relay::Entrance;
use crate::route::Route;
use crate::turnstile::{Look, State};

/// How the hot loop sees the gate.
pub(crate) struct Standing {
    pub(crate) ticket: Ticket,
    pub(crate) generation: AtomicU64,
    pub(crate) entry: Arc<Entry>,
    pub(crate) route: Arc<Route>,
}

impl Entrance for Standing {
    fn enter(&self) -> bool {
        let entered = self.ticket.enter(self.generation.load(Relaxed));
        // What was held runs now: who cancels it from here on means what runs on the server.
        if entered && self.entry.activity() == Activity::Held {
            self.entry.set_activity(Activity::Serving);
            self.entry.take_cancel();
        }
        entered
    }

    fn is_open(&self) -> bool {
        self.ticket.gate().look() == Look::new(State::Open, self.generation.load(Relaxed))
    }

    fn is_inside(&self) -> bool {
        self.ticket.is_inside()
    }

    fn leave(&self) {
        self.ticket.leave();
    }

    fn is_closing(&self) -> bool {
        self.entry.is_closing()
    }

    fn hides_writes(&self, what: &'static str) {
        let server = self.entry.server();
        self.route.hidden_writes.begin(HiddenWrites {
            session: self.entry.id,
            pid: server.map(|server| server.pid).unwrap_or_default(),
            user: self.entry.user.clone(),
            client: self.entry.client,
            what,
            since: SystemTime::now(),
            until: None,
        });
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.route.hidden_writes.end(self.entry.id);
    }
}
