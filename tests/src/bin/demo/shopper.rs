//! One client of the shop: a connection that is never replaced, and everything that was answered on it.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::engine::Engine;
use super::failure::{Answer, Result, Trouble};
use super::ledger::{Effect, Ledger, Outcome, proof_of, scatter};
use super::link::Link;
use super::load::{Board, Harvest, Latencies};
use super::shop::Catalogue;

/// A statement that takes longer counts as lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// What a client does between two transactions: nothing, for about this long.
const PAUSE_MICROS: u64 = 20_000;

/// How a client talks to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Explicit transactions of statements in plain text, some of them in one message.
    Checkout,
    /// Explicit transactions of statements with parameters.
    CheckoutTyped,
    /// Statements prepared once, before the migration, and executed until the end.
    Prepared,
    /// Single statements in plain text.
    Autocommit,
    /// Many rows at once, in both directions.
    Bulk,
    /// Reports.
    Reader,
    /// A session with settings and all else that a new connection would not have.
    Settled,
}

/// Nothing more can be asked on this connection.
pub(super) struct Lost;

/// A client, its connection, and what it remembers.
pub(super) struct Shopper<E: Engine> {
    pub(super) engine: E,
    pub(super) number: u8,
    pub(super) style: Style,
    pub(super) link: E::Link,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) board: Arc<Board>,
    pub(super) ledger: Ledger,
    pub(super) latencies: Latencies,
    /// Counts what the client did; every stamp comes from it.
    pub(super) sequence: u32,
    /// Statements that live as long as the connection.
    pub(super) prepared: Vec<E::Statement>,
    /// Orders that only this client touches: id, time, index of the state.
    pub(super) own_orders: VecDeque<(i64, String, usize)>,
    /// A number that only ever grows: what this client must see next at least, or exactly.
    pub(super) expected: i64,
    /// What the session's settings are, as the server told them when they were made.
    pub(super) settings: String,
    /// What the client did last, for the text of an error.
    pub(super) doing: &'static str,
}

impl<E: Engine> Shopper<E> {
    /// Prepares whatever the style needs before the first transaction.
    pub(super) async fn new(
        engine: E,
        (number, style): (u8, Style),
        link: E::Link,
        catalogue: Arc<Catalogue>,
        board: Arc<Board>,
    ) -> Result<Self> {
        let mut shopper = Self {
            engine,
            number,
            style,
            link,
            catalogue,
            board,
            ledger: Ledger::default(),
            latencies: Latencies::new()?,
            sequence: 0,
            prepared: Vec::new(),
            own_orders: VecDeque::new(),
            expected: 0,
            settings: String::new(),
            doing: "",
        };
        E::prepare(&mut shopper).await?;
        Ok(shopper)
    }

    /// One transaction after the other until it is time to stop or the connection is lost.
    pub(super) async fn shop(mut self) -> Harvest {
        let mut lost = false;
        while !self.board.stopping() && !lost {
            let (stretch, begun) = (self.board.stretch(), Instant::now());
            lost = E::transact(&mut self).await.is_err();
            if !lost {
                self.latencies.record(stretch, self.board.stretch(), begun.elapsed());
            }
            let jitter = Duration::from_micros(self.random(PAUSE_MICROS));
            tokio::time::sleep(Duration::from_micros(PAUSE_MICROS / 2) + jitter).await;
        }
        let whereabouts = if lost { None } else { self.whereabouts().await };
        Harvest { ledger: self.ledger, latencies: self.latencies, whereabouts }
    }

    async fn whereabouts(&mut self) -> Option<String> {
        let asked = timeout(ANSWER_TIMEOUT, self.link.ask(E::WHEREABOUTS));
        let rows = asked.await.ok()?.ok()?;
        rows.first().map(|row| row.at(0).to_owned())
    }

    /// A number that no other write of the demo carries.
    pub(super) fn stamp(&mut self) -> i64 {
        self.sequence += 1;
        (i64::from(self.number) << 32) | i64::from(self.sequence)
    }

    /// A number below `limit` that looks random, and is the same in every run.
    pub(super) fn random(&mut self, limit: u64) -> u64 {
        scatter(self.stamp().unsigned_abs()) % limit
    }

    /// Like [`Self::random`], from 1 to `most`, for the keys of the database.
    pub(super) fn random_key(&mut self, most: u64) -> i64 {
        i64::try_from(1 + self.random(most)).unwrap_or(1)
    }

    /// An addition of `add` with a new proof.
    pub(super) fn proof(&mut self) -> i64 {
        proof_of(self.stamp())
    }

    /// Writes down what became of a transaction. Says whether it was acknowledged; an error is reported and,
    /// where the connection survived it, left behind.
    pub(super) fn settle<T>(
        &mut self,
        answer: Answer<T>,
        commit_sent: bool,
        effects: Vec<Effect>,
    ) -> std::result::Result<Option<T>, Lost> {
        let trouble = match answer {
            Ok(value) => {
                self.ledger.record(Outcome::Acknowledged, effects);
                self.board.count();
                return Ok(Some(value));
            }
            Err(trouble) => trouble,
        };
        // A server that leaves in the middle of a commit may have done it: only an ordinary error says that it did not.
        let refused = matches!(trouble, Trouble::Refused(_));
        let outcome = if refused || !commit_sent { Outcome::Failed } else { Outcome::Unknown };
        self.ledger.record(outcome, effects);
        match trouble {
            Trouble::Refused(text) | Trouble::Ended(text) => self.complain(&text),
            Trouble::Late => self.complain(&format!("no answer within {ANSWER_TIMEOUT:?}")),
        }
        if refused { Ok(None) } else { Err(Lost) }
    }

    /// Reports something that must not happen.
    pub(super) fn complain(&self, text: &str) {
        self.board.complain(format!("client {} ({:?}, {}): {text}", self.number, self.style, self.doing));
    }

    /// Ends a transaction block: commits what went well, takes back what did not.
    pub(super) async fn finish(&mut self, body: Answer<()>, effects: Vec<Effect>) -> std::result::Result<(), Lost> {
        match body {
            Ok(()) => {
                let committed = ask(self.link.run("COMMIT")).await;
                self.settle(committed, true, effects)?;
            }
            Err(error) => {
                self.settle::<()>(Err(error), false, effects)?;
                let rolled_back = ask(self.link.run("ROLLBACK")).await;
                rolled_back.map_err(|_| Lost)?;
            }
        }
        Ok(())
    }
}

/// Waits for an answer, though not for ever.
pub(super) async fn ask<T, F: Into<Trouble>>(work: impl Future<Output = std::result::Result<T, F>>) -> Answer<T> {
    match timeout(ANSWER_TIMEOUT, work).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(Trouble::Late),
    }
}
