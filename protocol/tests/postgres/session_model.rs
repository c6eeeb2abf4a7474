//! The session tracker against a small model of the server's own rules, in every order that a network allows.

use std::collections::VecDeque;

use proptest::prelude::*;
use protocol::postgres::reply::ReadyStatus;
use protocol::postgres::session::Session;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Main,
    /// After an error in a batch: everything up to a Sync is dropped.
    Skip,
    Copy {
        batch: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Tag(u8),
    Ready(ReadyStatus),
}

/// The server, and the bytes on their way in both directions.
#[derive(Debug)]
struct Server {
    mode: Mode,
    /// A batch began and no Sync was read.
    batch: bool,
    transaction: bool,
    dead: bool,
    arriving: VecDeque<u8>,
    leaving: VecDeque<Says>,
}

impl Server {
    fn new() -> Self {
        Self {
            mode: Mode::Main,
            batch: false,
            transaction: false,
            dead: false,
            arriving: VecDeque::new(),
            leaving: VecDeque::new(),
        }
    }

    fn say(&mut self, tags: &[u8]) {
        self.leaving.extend(tags.iter().map(|&tag| Says::Tag(tag)));
    }

    fn ready(&mut self) {
        let status = if self.transaction { ReadyStatus::InTransaction } else { ReadyStatus::Idle };
        self.mode = Mode::Main;
        self.leaving.push_back(Says::Ready(status));
    }

    fn fail(&mut self, batch: bool) {
        self.say(b"E");
        self.transaction = false;
        if batch {
            self.mode = Mode::Skip;
        } else {
            self.ready();
        }
    }

    /// Reads one frame, or fails in a COPY without reading; `chance` decides what the statement does.
    fn step(&mut self, chance: u8) {
        if let Mode::Copy { batch } = self.mode
            && chance % 16 == 15
        {
            return self.fail(batch);
        }
        let Some(tag) = self.arriving.pop_front() else {
            return;
        };
        match (self.mode, tag) {
            (Mode::Copy { .. }, b'd' | b'S' | b'H') | (_, b'H' | b'd') => {}
            (Mode::Copy { batch }, b'c') => match (chance % 4, batch) {
                (0, batch) => self.fail(batch),
                (1, false) => self.say(b"CG"),
                (_, true) => {
                    self.say(b"C");
                    self.mode = Mode::Main;
                }
                (_, false) => {
                    self.say(b"C");
                    self.ready();
                }
            },
            (Mode::Copy { batch }, b'f') => self.fail(batch),
            (Mode::Copy { .. }, _) => self.dead = true,
            (_, b'S') => {
                self.batch = false;
                self.ready();
            }
            (_, b'c' | b'f') | (Mode::Skip, _) => {}
            (Mode::Main, b'Q') => {
                self.batch = false;
                match chance % 8 {
                    0 => self.fail(false),
                    1 | 2 => {
                        self.say(b"NG");
                        self.mode = Mode::Copy { batch: false };
                    }
                    3 => {
                        self.say(b"HdcC");
                        self.ready();
                    }
                    4 => {
                        self.say(b"C");
                        self.transaction = !self.transaction;
                        self.ready();
                    }
                    _ => {
                        self.say(b"TDC");
                        self.ready();
                    }
                }
            }
            (Mode::Main, b'F') => {
                self.batch = false;
                self.say(b"V");
                self.ready();
            }
            (Mode::Main, tag) => {
                self.batch = true;
                match (tag, chance % 8) {
                    (_, 0) => self.fail(true),
                    (b'E', 1..=3) => {
                        self.say(b"G");
                        self.mode = Mode::Copy { batch: true };
                    }
                    (b'E', _) => self.say(b"DC"),
                    _ => self.say(b"1"),
                }
            }
        }
    }

    /// Whether something is under way that a move of the session would destroy.
    fn is_busy(&self) -> bool {
        self.mode != Mode::Main
            || self.batch
            || self.transaction
            || self.arriving.iter().any(|tag| !b"Hdcf".contains(tag))
            || self.leaving.iter().any(|says| matches!(says, Says::Ready(_)))
    }
}

#[derive(Debug)]
struct World {
    server: Server,
    session: Session,
    log: String,
}

impl World {
    fn new() -> Self {
        Self { server: Server::new(), session: Session::default(), log: String::new() }
    }

    fn client(&mut self, tag: u8) {
        self.session.client(tag);
        self.server.arriving.push_back(tag);
        self.log.push('>');
        self.log.push(char::from(tag));
    }

    fn step(&mut self, chance: u8) {
        self.server.step(chance);
    }

    fn deliver(&mut self) {
        match self.server.leaving.pop_front() {
            Some(Says::Tag(tag)) => {
                self.session.server(tag);
                self.log.push('<');
                self.log.push(char::from(tag));
            }
            Some(Says::Ready(status)) => {
                self.session.ready(status);
                self.log.push_str("<Z");
            }
            None => {}
        }
    }

    fn settle(&mut self, chance: u8) {
        while !self.server.arriving.is_empty() && !self.server.dead {
            self.step(chance);
        }
        while !self.server.leaving.is_empty() {
            self.deliver();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn the_tracker_never_sees_a_boundary_where_something_is_under_way(
        events in prop::collection::vec((0_u8..8, any::<u8>()), 0..60),
    ) {
        const FRAMES: &[u8] = b"QQSSSPBEEEddcccfFHS";
        let mut world = World::new();
        for (event, chance) in events {
            match event {
                0..3 => world.client(FRAMES[usize::from(chance) % FRAMES.len()]),
                3..6 => world.step(chance),
                _ => world.deliver(),
            }
            if world.server.dead {
                break;
            }
            let wrong = world.session.at_boundary() && world.server.is_busy();
            prop_assert!(!wrong, "{} {:?}", world.log, world);
        }
    }

    #[test]
    fn the_tracker_finds_every_boundary_again_where_clients_wait_for_replies(
        rounds in prop::collection::vec((0_u8..6, any::<u8>(), any::<u8>(), any::<u8>()), 1..12),
    ) {
        const WELL: u8 = 7;
        let mut world = World::new();
        for (kind, chance, then, last) in rounds {
            let begin: &[u8] = match kind {
                0 => b"Q",
                1 => b"PBES",
                2 => b"PBESPBES",
                3 => b"BES",
                4 => b"S",
                _ => b"F",
            };
            for &tag in begin {
                world.client(tag);
                world.step(chance);
                if then % 2 == 0 {
                    world.deliver();
                }
                // A client does not go on behind what turns out to be a COPY.
                if matches!(world.server.mode, Mode::Copy { .. }) {
                    if tag == b'E' {
                        world.client(b'S');
                    }
                    break;
                }
            }
            world.settle(WELL);
            let mut last = last;
            while let Mode::Copy { batch } = world.server.mode {
                for &tag in if then % 3 == 0 { &b"dSdc"[..] } else { b"ddf" } {
                    world.client(tag);
                    world.step(last);
                }
                last = WELL;
                if batch {
                    world.client(b'S');
                }
                world.settle(WELL);
            }
            if world.server.mode == Mode::Skip {
                world.client(b'S');
                world.settle(WELL);
            }
            if world.server.transaction {
                world.client(b'Q');
                world.settle(4);
            }
            prop_assert!(!world.server.dead);
            prop_assert!(!world.server.is_busy(), "{:?}", world);
            prop_assert!(world.session.at_boundary() || world.session.in_doubt(), "{} {:?}", world.log, world);
            prop_assert!(!world.session.in_batch(), "{} {:?}", world.log, world);
        }
        world.client(b'Q');
        world.settle(WELL);
        prop_assert!(world.session.at_boundary(), "{} {:?}", world.log, world);
    }
}
