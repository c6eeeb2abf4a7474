//! What sessions pass to begin a transaction: open, closing, closed.
//!
//! Sessions hold a [`GateHandle`]; the controller closes, waits until quiet and opens. While the gate is not open, a
//! session that stands at it waits in line and is let go in the order of its arrival.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::gate_state::{ActiveFlag, GatePass, GateSnapshot, GateState, State};

/// How many hold times one hold keeps for its percentiles; later ones only count.
const HOLD_TIMES_MAX: usize = 100_000;

/// What a statement that met the gate went through in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It went on, to whichever cluster serves the route now.
    Released,
    /// Its client asked to cancel it.
    Cancelled,
    /// Its client went away.
    Gone,
    /// It was refused, because it had waited for as long as the limits allow.
    Refused,
}

/// The counts and times of one hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HoldLog {
    /// Statements that were held.
    pub held: u64,
    /// Of those, cancelled by their client.
    pub cancelled: u64,
    /// Of those, left by their client.
    pub gone: u64,
    /// Of those, refused at the limit.
    pub refused: u64,
    /// How long each of those that went on had waited.
    pub times: Vec<Duration>,
}

/// A place at the gate, one for each session.
#[derive(Debug)]
pub struct GateHandle {
    gate: Arc<Gate>,
    number: u64,
    place: Arc<GateEntry>,
}

#[derive(Debug)]
struct GateEntry {
    seat: ActiveFlag,
    /// When the transaction that is open now began, in microseconds of the gate's own clock.
    entered: AtomicU64,
}

/// A session that is inside, told by its ticket's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside {
    /// The ticket's number.
    pub ticket: u64,
    /// For how long.
    pub age: Duration,
}

/// One route's gate.
#[derive(Debug)]
pub struct Gate {
    turnstile: GateState,
    clock: Instant,
    places: Mutex<HashMap<u64, Arc<GateEntry>>>,
    next_number: AtomicU64,
    closings: AtomicU64,
    /// Rung when a session left, or stood back, while the gate was not open.
    notify: Notify,
    /// Those who wait for the gate to change, in the order in which they came.
    line: Notify,
    waiting: AtomicU64,
    /// Rung when the line may be empty.
    line_empty: Notify,
    log: Mutex<HoldLog>,
}

impl Gate {
    /// An open gate.
    pub fn new(generation: u64) -> Arc<Self> {
        Arc::new(Self {
            turnstile: GateState::new(generation),
            clock: Instant::now(),
            places: Mutex::default(),
            next_number: AtomicU64::new(0),
            closings: AtomicU64::new(0),
            notify: Notify::new(),
            line: Notify::new(),
            waiting: AtomicU64::new(0),
            line_empty: Notify::new(),
            log: Mutex::default(),
        })
    }

    /// A place for a new session, outside.
    pub fn ticket(self: &Arc<Self>) -> GateHandle {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let place = Arc::new(GateEntry { seat: ActiveFlag::default(), entered: AtomicU64::new(0) });
        self.places.lock().insert(number, Arc::clone(&place));
        GateHandle { gate: Arc::clone(self), number, place }
    }

    /// The state and the generation now.
    pub fn look(&self) -> GateSnapshot {
        self.turnstile.look()
    }

    /// Closes the gate and forgets the last hold's log. Closing a closed gate changes nothing.
    pub fn close(&self) {
        let look = self.look();
        if matches!(look.state(), State::Open | State::Wary) {
            *self.log.lock() = HoldLog::default();
            self.closings.fetch_add(1, Ordering::SeqCst);
            self.turnstile.set(GateSnapshot::new(State::Closing, look.generation()));
        }
    }

    /// Resolves once the gate is not open and no session is inside. Cancel safe.
    pub async fn quiet(&self) {
        loop {
            // The ear is at the bell before the count, so that no ring is missed in between.
            let rung = self.notify.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            let look = self.look();
            if look.state() != State::Open && self.inside().is_empty() {
                self.turnstile.set(GateSnapshot::new(State::Closed, look.generation()));
                return;
            }
            rung.await;
        }
    }

    /// The sessions inside, the oldest first.
    pub fn inside(&self) -> Vec<Inside> {
        let now = self.micros();
        let mut inside: Vec<Inside> = self
            .places
            .lock()
            .iter()
            .filter(|(_, place)| place.seat.is_taken())
            .map(|(&ticket, place)| {
                let since = place.entered.load(Ordering::Relaxed);
                Inside { ticket, age: Duration::from_micros(now.saturating_sub(since)) }
            })
            .collect();
        inside.sort_by_key(|session| std::cmp::Reverse(session.age));
        inside
    }

    /// The controller: a new generation, the state stays. Sessions learn of it at their next look.
    pub fn renew(&self, generation: u64) {
        self.turnstile.set(GateSnapshot::new(self.look().state(), generation));
        self.line.notify_waiters();
    }

    /// Opens the gate; those in line go on.
    pub fn open(&self) {
        self.turnstile.set(GateSnapshot::new(State::Open, self.look().generation()));
        self.line.notify_waiters();
    }

    /// Lets statements pass, of which the server may refuse any: whether its fence is down is not known.
    pub fn open_warily(&self) {
        self.turnstile.set(GateSnapshot::new(State::Wary, self.look().generation()));
        self.line.notify_waiters();
    }

    /// How often it has been closed: who compares two of these learns whether it was closed in between.
    pub fn closings(&self) -> u64 {
        self.closings.load(Ordering::SeqCst)
    }

    /// Resolves when the gate is open, whatever its generation; for who `dares`, also where the server may refuse what
    /// passes. Cancel safe.
    pub async fn opened(&self, dares: bool) {
        loop {
            let changed = self.line.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let state = self.look().state();
            if state == State::Open || dares && state == State::Wary {
                return;
            }
            changed.await;
        }
    }

    /// How many stand in line.
    pub fn in_line(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Resolves once nobody stands in line. Cancel safe.
    pub async fn line_empty(&self) {
        loop {
            let rung = self.line_empty.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            if self.in_line() == 0 {
                return;
            }
            rung.await;
        }
    }

    /// The log of the last hold.
    pub fn log(&self) -> HoldLog {
        self.log.lock().clone()
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl GateHandle {
    /// The number by which [`Gate::inside`] names this session.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Tries to begin a transaction on the server of `generation`. True means: inside, until [`GateHandle::leave`].
    pub fn enter(&self, generation: u64) -> bool {
        let pass = self.gate.turnstile.enter(&self.place.seat, generation);
        self.entered(pass)
    }

    /// The same for who knows what to do where the server refuses it.
    pub fn enter_warily(&self, generation: u64) -> bool {
        let turnstile = &self.gate.turnstile;
        self.entered(turnstile.enter_warily(&self.place.seat, generation))
    }

    fn entered(&self, pass: GatePass) -> bool {
        match pass {
            GatePass::Inside => {
                self.place.entered.store(self.gate.micros(), Ordering::Relaxed);
                true
            }
            GatePass::Refused(_) => {
                self.gate.notify.notify_waiters();
                false
            }
        }
    }

    /// The transaction is over. Leaving without being inside changes nothing.
    pub fn leave(&self) {
        if self.place.seat.is_taken() && self.gate.turnstile.leave(&self.place.seat) {
            self.gate.notify.notify_waiters();
        }
    }

    /// Whether this session is inside.
    pub fn is_inside(&self) -> bool {
        self.place.seat.is_taken()
    }

    /// The gate this ticket is for.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Stands in line. The returned value counts as one held statement until it is finished or dropped.
    pub fn stand_in_line(&self) -> InLine {
        self.gate.waiting.fetch_add(1, Ordering::SeqCst);
        self.gate.log.lock().held += 1;
        InLine { gate: Arc::clone(&self.gate), since: Instant::now(), outcome: Outcome::Gone }
    }
}

impl Drop for GateHandle {
    fn drop(&mut self) {
        self.leave();
        self.gate.places.lock().remove(&self.number);
        self.gate.notify.notify_waiters();
    }
}

/// One held statement.
#[derive(Debug)]
pub struct InLine {
    gate: Arc<Gate>,
    since: Instant,
    outcome: Outcome,
}

impl InLine {
    /// As [`Gate::opened`].
    pub async fn opened(&self, dares: bool) {
        self.gate.opened(dares).await;
    }

    /// For how long the statement has been held.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// The statement leaves the line. Dropping without this means that its client is gone.
    pub fn finish(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        let waited = self.since.elapsed();
        let mut log = self.gate.log.lock();
        match self.outcome {
            Outcome::Released => {
                if log.times.len() < HOLD_TIMES_MAX {
                    log.times.push(waited);
                }
            }
            Outcome::Cancelled => log.cancelled += 1,
            Outcome::Gone => log.gone += 1,
            Outcome::Refused => log.refused += 1,
        }
        drop(log);
        if self.gate.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.gate.line_empty.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_open_transaction_keeps_the_gate_from_being_quiet() {
        let gate = Gate::new(1);
        let ticket = gate.ticket();
        assert!(ticket.enter(1));
        gate.close();
        let quiet = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.quiet().await }
        });
        tokio::task::yield_now().await;
        assert!(!quiet.is_finished(), "quiet with a transaction inside");
        assert_eq!(gate.inside().len(), 1);
        ticket.leave();
        quiet.await.expect("the waiter does not panic");
        assert_eq!(gate.look().state(), State::Closed);
    }

    #[tokio::test]
    async fn a_session_that_vanishes_inside_does_not_block_quiet() {
        let gate = Gate::new(1);
        let ticket = gate.ticket();
        assert!(ticket.enter(1));
        gate.close();
        drop(ticket);
        gate.quiet().await;
    }

    #[tokio::test]
    async fn nobody_passes_a_closed_gate_or_with_an_old_generation() {
        let gate = Gate::new(1);
        let ticket = gate.ticket();
        gate.close();
        assert!(!ticket.enter(1), "passed a closing gate");
        gate.quiet().await;
        assert!(!ticket.enter(1), "passed a closed gate");
        gate.renew(2);
        gate.open();
        assert!(!ticket.enter(1), "passed with the old generation");
        assert!(ticket.enter(2));
    }

    #[tokio::test]
    async fn those_in_line_go_on_in_the_order_of_their_arrival() {
        let gate = Gate::new(1);
        gate.close();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiters = Vec::new();
        for number in 0..5 {
            let line = gate.ticket().stand_in_line();
            let order = Arc::clone(&order);
            waiters.push(tokio::spawn(async move {
                line.opened(true).await;
                order.lock().push(number);
                line.finish(Outcome::Released);
            }));
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.in_line(), 5);
        gate.open();
        gate.line_empty().await;
        for waiter in waiters {
            waiter.await.expect("the waiter does not panic");
        }
        assert_eq!(*order.lock(), [0, 1, 2, 3, 4]);
        let log = gate.log();
        assert_eq!((log.held, log.times.len(), log.gone), (5, 5, 0));
    }

    #[tokio::test]
    async fn a_held_statement_whose_session_is_dropped_counts_as_gone() {
        let gate = Gate::new(1);
        gate.close();
        let line = gate.ticket().stand_in_line();
        drop(line);
        assert_eq!((gate.in_line(), gate.log().gone), (0, 1));
    }
}
