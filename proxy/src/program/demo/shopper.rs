//! One client of the shop: a connection that is never replaced, and everything that was answered on it.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_postgres::error::Severity;
use tokio_postgres::{Client, Statement};

use super::failure::{Result, said};
use super::ledger::{Effect, Ledger, Outcome, proof_of, scatter};
use super::link::Link;
use super::load::{Board, Harvest, Latencies};
use super::shop::Catalogue;

/// A statement that takes longer counts as lost.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// What a client does between two transactions: nothing, for about this long.
const PAUSE_MICROS: u64 = 20_000;

/// How a client talks to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Explicit transactions in the simple protocol, some of them in one message.
    Checkout,
    /// Explicit transactions in the extended protocol.
    CheckoutTyped,
    /// Statements prepared once, before the migration, and executed until the end.
    Prepared,
    /// Single statements in the simple protocol.
    Autocommit,
    /// COPY in both directions.
    Bulk,
    /// Reports.
    Reader,
    /// A session with settings, SQL-level prepared statements and a LISTEN channel.
    Settled,
}

/// Nothing more can be asked on this connection.
pub(super) struct Lost;

/// What one statement came to: an error of the server or the connection, or `None` when time ran out.
pub(super) type Answer<T> = std::result::Result<T, Option<tokio_postgres::Error>>;

/// A client, its connection, and what it remembers.
pub(super) struct Shopper {
    pub(super) number: u8,
    pub(super) style: Style,
    pub(super) sql: Arc<Client>,
    pub(super) link: Link,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) board: Arc<Board>,
    pub(super) ledger: Ledger,
    pub(super) latencies: Latencies,
    /// Counts what the client did; every stamp comes from it.
    pub(super) sequence: u32,
    /// Statements that live as long as the connection.
    pub(super) prepared: Vec<Statement>,
    /// Orders that only this client touches: id, time, index of the state.
    pub(super) own_orders: VecDeque<(i64, String, usize)>,
    /// A number that only ever grows: what this client must see next at least, or exactly.
    pub(super) expected: i64,
    /// What the client did last, for the text of an error.
    pub(super) doing: &'static str,
}

impl Shopper {
    /// Prepares whatever the style needs before the first transaction.
    pub(super) async fn new(
        number: u8,
        style: Style,
        link: Link,
        catalogue: Arc<Catalogue>,
        board: Arc<Board>,
    ) -> Result<Self> {
        let mut shopper = Self {
            number,
            style,
            sql: Arc::clone(&link.sql),
            link,
            catalogue,
            board,
            ledger: Ledger::default(),
            latencies: Latencies::new()?,
            sequence: 0,
            prepared: Vec::new(),
            own_orders: VecDeque::new(),
            expected: 0,
            doing: "",
        };
        match style {
            Style::Prepared => shopper.prepare_errands().await?,
            Style::Reader => shopper.prepare_reports().await?,
            Style::Settled => shopper.settle_in().await?,
            Style::Checkout | Style::CheckoutTyped | Style::Autocommit | Style::Bulk => {}
        }
        Ok(shopper)
    }

    /// One transaction after the other until it is time to stop or the connection is lost.
    pub(super) async fn shop(mut self) -> Harvest {
        let mut lost = false;
        while !self.board.stopping() && !lost {
            let (stretch, begun) = (self.board.stretch(), Instant::now());
            let done = match self.style {
                Style::Checkout => self.check_out().await,
                Style::CheckoutTyped => self.check_out_typed().await,
                Style::Prepared => self.run_errand().await,
                Style::Autocommit => self.do_small_things().await,
                Style::Bulk => self.copy_views().await,
                Style::Reader => self.read_report().await,
                Style::Settled => self.live_on().await,
            };
            lost = done.is_err();
            if !lost {
                self.latencies
                    .record(stretch, self.board.stretch(), begun.elapsed());
            }
            let jitter = Duration::from_micros(self.random(PAUSE_MICROS));
            tokio::time::sleep(Duration::from_micros(PAUSE_MICROS / 2) + jitter).await;
        }
        let version = if lost { None } else { self.version().await };
        Harvest {
            ledger: self.ledger,
            latencies: self.latencies,
            version,
        }
    }

    async fn version(&self) -> Option<String> {
        let row = timeout(
            ANSWER_PATIENCE,
            self.sql.query_one("SHOW server_version", &[]),
        )
        .await
        .ok()?
        .ok()?;
        row.try_get(0).ok()
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
        let error = match answer {
            Ok(value) => {
                self.ledger.record(Outcome::Acknowledged, effects);
                self.board.count();
                return Ok(Some(value));
            }
            Err(error) => error,
        };
        // A server that leaves in the middle of a commit may have done it: only an ordinary error says that it did not.
        let refused = error
            .as_ref()
            .and_then(tokio_postgres::Error::as_db_error)
            .is_some_and(|reply| {
                matches!(reply.parsed_severity(), Some(Severity::Error)) || !commit_sent
            });
        let outcome = if refused || !commit_sent {
            Outcome::Failed
        } else {
            Outcome::Unknown
        };
        self.ledger.record(outcome, effects);
        let text = error
            .as_ref()
            .map_or_else(|| format!("no answer within {ANSWER_PATIENCE:?}"), said);
        self.complain(&text);
        if error.is_none() || self.sql.is_closed() || !refused {
            Err(Lost)
        } else {
            Ok(None)
        }
    }

    /// Reports something that must not happen.
    pub(super) fn complain(&self, text: &str) {
        self.board.complain(format!(
            "client {} ({:?}, {}): {text}",
            self.number, self.style, self.doing
        ));
    }

    /// Ends a transaction block: commits what went well, takes back what did not.
    pub(super) async fn finish(
        &mut self,
        body: Answer<()>,
        effects: Vec<Effect>,
    ) -> std::result::Result<(), Lost> {
        let sql = Arc::clone(&self.sql);
        match body {
            Ok(()) => {
                let committed = ask(sql.batch_execute("COMMIT")).await;
                self.settle(committed, true, effects)?;
            }
            Err(error) => {
                self.settle::<()>(Err(error), false, effects)?;
                let rolled_back = ask(sql.batch_execute("ROLLBACK")).await;
                if rolled_back.is_err() {
                    return Err(Lost);
                }
            }
        }
        Ok(())
    }
}

/// Waits for an answer, though not for ever.
pub(super) async fn ask<T>(
    work: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
) -> Answer<T> {
    match timeout(ANSWER_PATIENCE, work).await {
        Ok(answer) => answer.map_err(Some),
        Err(_) => Err(None),
    }
}
