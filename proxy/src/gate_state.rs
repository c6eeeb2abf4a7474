//! The begin-versus-close race, decided by one pair of sequentially consistent operations.
//!
//! A session that wants to begin a transaction first writes *I am inside* into its own [`ActiveFlag`], then reads the
//! turnstile's word. The controller first writes *closing* into the word, then reads every seat. Both sides write
//! before they read, and all four operations are sequentially consistent, so in the one total order of these
//! operations at least one of the two sees the other's write: either the session sees *closing* and stands back, or
//! the controller sees the session inside and waits for it. Both may see each other; that costs one ring of the bell
//! and nothing else. A session alone never writes to memory that other sessions write to.
//!
//! The word holds the route's generation next to the state, so that the one look also tells a session that its
//! server is no longer the right one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// The two kinds of shared memory that the race is about. The model checker brings its own.
pub trait Memory {
    /// A flag that one session writes and the controller reads.
    type Flag: Flag;
    /// The word that the controller writes and every session reads.
    type Word: Word;
}

/// A sequentially consistent boolean.
pub trait Flag {
    /// Starts false.
    fn new() -> Self;
    /// Reads it.
    fn get(&self) -> bool;
    /// Writes it.
    fn set(&self, value: bool);
}

/// A sequentially consistent integer.
pub trait Word {
    /// Starts at `value`.
    fn new(value: u64) -> Self;
    /// Reads it.
    fn get(&self) -> u64;
    /// Writes it.
    fn set(&self, value: u64);
}

/// The memory of the running program.
#[derive(Debug)]
pub struct Real;

impl Memory for Real {
    type Flag = AtomicBool;
    type Word = AtomicU64;
}

impl Flag for AtomicBool {
    fn new() -> Self {
        Self::new(false)
    }

    fn get(&self) -> bool {
        self.load(SeqCst)
    }

    fn set(&self, value: bool) {
        self.store(value, SeqCst);
    }
}

impl Word for AtomicU64 {
    fn new(value: u64) -> Self {
        Self::new(value)
    }

    fn get(&self) -> u64 {
        self.load(SeqCst)
    }

    fn set(&self, value: u64) {
        self.store(value, SeqCst);
    }
}

/// Whether sessions may begin transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Sessions pass.
    Open,
    /// Sessions may pass one statement at a time, and the server may refuse it: whether its fence is down is not known.
    Wary,
    /// Nobody passes any more; some may still be inside.
    Closing,
    /// Nobody is inside.
    Closed,
}

/// What one look at the turnstile tells: the state, and the generation of the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateSnapshot(u64);

impl GateSnapshot {
    /// The look of a turnstile in `state` under `generation`.
    pub fn new(state: State, generation: u64) -> Self {
        let state = match state {
            State::Open => 0,
            State::Closing => 1,
            State::Closed => 2,
            State::Wary => 3,
        };
        Self((generation << 2) | state)
    }

    /// The state.
    pub fn state(self) -> State {
        match self.0 & 3 {
            0 => State::Open,
            1 => State::Closing,
            2 => State::Closed,
            _ => State::Wary,
        }
    }

    /// The generation of the route.
    pub fn generation(self) -> u64 {
        self.0 >> 2
    }
}

/// One session's own place: whether it is inside.
#[derive(Debug)]
pub struct ActiveFlag<M: Memory = Real> {
    inside: M::Flag,
}

impl<M: Memory> Default for ActiveFlag<M> {
    fn default() -> Self {
        Self { inside: M::Flag::new() }
    }
}

impl<M: Memory> ActiveFlag<M> {
    /// Whether the session is inside.
    pub fn is_taken(&self) -> bool {
        self.inside.get()
    }
}

/// What came of trying to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatePass {
    /// The session is inside.
    Inside,
    /// The session stands outside; the bell must be rung, because the controller may have seen it inside.
    Refused(GateSnapshot),
}

/// The word that decides who passes.
#[derive(Debug)]
pub struct GateState<M: Memory = Real> {
    word: M::Word,
}

impl<M: Memory> GateState<M> {
    /// An open turnstile of the given generation.
    pub fn new(generation: u64) -> Self {
        Self { word: M::Word::new(GateSnapshot::new(State::Open, generation).0) }
    }

    /// One look.
    pub fn look(&self) -> GateSnapshot {
        GateSnapshot(self.word.get())
    }

    /// A session tries to begin a transaction on the server of `generation`.
    pub fn enter(&self, seat: &ActiveFlag<M>, generation: u64) -> GatePass {
        self.enter_where(seat, |look| look == GateSnapshot::new(State::Open, generation))
    }

    /// The same for who knows what to do where the server refuses it.
    pub fn enter_warily(&self, seat: &ActiveFlag<M>, generation: u64) -> GatePass {
        let passes = [State::Open, State::Wary].map(|state| GateSnapshot::new(state, generation));
        self.enter_where(seat, |look| passes.contains(&look))
    }

    fn enter_where(&self, seat: &ActiveFlag<M>, passes: impl FnOnce(GateSnapshot) -> bool) -> GatePass {
        seat.inside.set(true);
        let look = self.look();
        if passes(look) {
            return GatePass::Inside;
        }
        seat.inside.set(false);
        GatePass::Refused(look)
    }

    /// A session's transaction is over. Tells whether the bell must be rung.
    #[must_use]
    pub fn leave(&self, seat: &ActiveFlag<M>) -> bool {
        seat.inside.set(false);
        self.look().state() != State::Open
    }

    /// The controller alone: writes the state and the generation.
    pub fn set(&self, look: GateSnapshot) {
        self.word.set(look.0);
    }
}

#[cfg(test)]
mod tests {
    use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
    use shuttle::sync::{Arc, Condvar, Mutex};
    use shuttle::thread;

    use super::*;

    #[derive(Debug)]
    struct Modelled;

    impl Memory for Modelled {
        type Flag = AtomicBool;
        type Word = AtomicU64;
    }

    impl Flag for AtomicBool {
        fn new() -> Self {
            Self::new(false)
        }

        fn get(&self) -> bool {
            self.load(SeqCst)
        }

        fn set(&self, value: bool) {
            self.store(value, SeqCst);
        }
    }

    impl Word for AtomicU64 {
        fn new(value: u64) -> Self {
            Self::new(value)
        }

        fn get(&self) -> u64 {
            self.load(SeqCst)
        }

        fn set(&self, value: u64) {
            self.store(value, SeqCst);
        }
    }

    struct World {
        turnstile: GateState<Modelled>,
        seats: Vec<ActiveFlag<Modelled>>,
        notify: (Mutex<u64>, Condvar),
        quiet: AtomicBool,
        generation_served: AtomicU64,
    }

    impl World {
        fn ring(&self) {
            *self.notify.0.lock().unwrap() += 1;
            self.notify.1.notify_all();
        }
    }

    /// Two sessions run transactions while the controller closes, waits until quiet, switches and opens again.
    fn a_cutover_between_transactions() {
        let world = Arc::new(World {
            turnstile: GateState::new(1),
            seats: vec![ActiveFlag::default(), ActiveFlag::default()],
            notify: (Mutex::new(0), Condvar::new()),
            quiet: AtomicBool::new(false),
            generation_served: AtomicU64::new(1),
        });
        let sessions: Vec<_> = (0..2)
            .map(|number| {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    let seat = &world.seats[number];
                    for _ in 0..2 {
                        match world.turnstile.enter_warily(seat, 1) {
                            GatePass::Inside => {
                                assert!(!world.quiet.load(SeqCst), "a transaction began while quiet");
                                thread::yield_now();
                                assert!(!world.quiet.load(SeqCst), "quiet was declared over a transaction");
                                assert_eq!(world.generation_served.load(SeqCst), 1, "served by the wrong side");
                                if world.turnstile.leave(seat) {
                                    world.ring();
                                }
                            }
                            GatePass::Refused(_) => world.ring(),
                        }
                    }
                })
            })
            .collect();

        world.turnstile.set(GateSnapshot::new(State::Wary, 1));
        world.turnstile.set(GateSnapshot::new(State::Closing, 1));
        let mut heard = world.notify.0.lock().unwrap();
        while world.seats.iter().any(ActiveFlag::is_taken) {
            heard = world.notify.1.wait(heard).unwrap();
        }
        drop(heard);
        world.quiet.store(true, SeqCst);
        world.turnstile.set(GateSnapshot::new(State::Closed, 1));
        world.generation_served.store(2, SeqCst);
        world.quiet.store(false, SeqCst);
        world.turnstile.set(GateSnapshot::new(State::Open, 2));
        for session in sessions {
            session.join().unwrap();
        }
        assert_eq!(world.turnstile.enter(&world.seats[0], 2), GatePass::Inside);
    }

    #[test]
    fn no_transaction_begins_after_quiet_in_any_random_schedule() {
        shuttle::check_random(a_cutover_between_transactions, 20_000);
    }

    #[test]
    fn no_transaction_begins_after_quiet_in_the_adversarial_schedules() {
        shuttle::check_pct(a_cutover_between_transactions, 20_000, 3);
    }

    #[test]
    fn a_look_keeps_its_state_and_generation() {
        for state in [State::Open, State::Wary, State::Closing, State::Closed] {
            for generation in [0, 1, 77, u64::MAX >> 2] {
                let look = GateSnapshot::new(state, generation);
                assert_eq!((look.state(), look.generation()), (state, generation));
            }
        }
    }
}
