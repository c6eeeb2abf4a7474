//! The load: sixteen clients on connections that stay open from before the migration until after the cutover.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::engine::Engine;
use super::failure::{Failure, Result};
use super::ledger::Ledger;
use super::link::{Address, Link};
use super::shop::Catalogue;
use super::shopper::{Shopper, Style};

/// Who takes part, in order.
const CAST: [Style; 16] = [
    Style::Checkout,
    Style::Checkout,
    Style::Checkout,
    Style::CheckoutTyped,
    Style::CheckoutTyped,
    Style::Prepared,
    Style::Prepared,
    Style::Prepared,
    Style::Autocommit,
    Style::Autocommit,
    Style::Autocommit,
    Style::Bulk,
    Style::Bulk,
    Style::Reader,
    Style::Reader,
    Style::Settled,
];

/// A client that was told to stop gets this long for what it has begun.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);
/// Errors beyond these are counted, their texts dropped.
const ERRORS_KEPT: usize = 20;

/// The stretch of the demo a transaction falls into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stretch {
    Before,
    Moving,
    Cutover,
    After,
}

impl Stretch {
    pub(super) const ALL: [Self; 4] = [Self::Before, Self::Moving, Self::Cutover, Self::After];

    /// What it is, for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Before => "before the migration",
            Self::Moving => "copying, following, checking",
            Self::Cutover => "across the three switches",
            Self::After => "between and after them",
        }
    }
}

/// What the clients share: their orders, and what they count.
#[derive(Debug, Default)]
pub(super) struct Board {
    stop: AtomicBool,
    stretch: AtomicU8,
    transactions: watch::Sender<u64>,
    errors: AtomicU64,
    texts: Mutex<Vec<String>>,
}

impl Board {
    /// Whether clients are to leave.
    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Index of the present stretch.
    pub(super) fn stretch(&self) -> usize {
        usize::from(self.stretch.load(Ordering::Relaxed))
    }

    /// One more transaction was acknowledged.
    pub(super) fn count(&self) {
        self.transactions.send_modify(|transactions| *transactions += 1);
    }

    /// A client saw an error, or something that cannot be.
    pub(super) fn complain(&self, text: String) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let mut texts = self.texts.lock();
        if texts.len() < ERRORS_KEPT {
            texts.push(text);
        }
    }

    /// Transactions acknowledged so far.
    pub(super) fn transactions(&self) -> u64 {
        *self.transactions.borrow()
    }

    /// Resolves once so many transactions are acknowledged.
    #[cfg(test)]
    pub(super) async fn reached(&self, wanted: u64) {
        let _ = self.transactions.subscribe().wait_for(|transactions| *transactions >= wanted).await;
    }

    /// Errors seen so far.
    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// The first of them, in words.
    pub(super) fn texts(&self) -> Vec<String> {
        self.texts.lock().clone()
    }
}

/// How long transactions took, by stretch, in microseconds.
pub(super) struct Latencies(pub(super) [Histogram<u64>; 4]);

impl Latencies {
    /// Nothing measured yet.
    pub(super) fn new() -> Result<Self> {
        let empty = || Histogram::new_with_max(60_000_000, 3).map_err(|error| Failure(error.to_string()));
        Ok(Self([empty()?, empty()?, empty()?, empty()?]))
    }

    /// Adds one measurement. What spans two stretches met the cutover, or is as good as on the edge of one.
    pub(super) fn record(&mut self, begun_in: usize, ended_in: usize, took: Duration) {
        let cutover = Stretch::Cutover as usize;
        let stretch = if begun_in == cutover || ended_in == cutover { cutover } else { ended_in };
        if let Some(histogram) = self.0.get_mut(stretch) {
            histogram.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }

    fn add(&mut self, other: &Self) -> Result<()> {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.add(theirs).map_err(|error| Failure(error.to_string()))?;
        }
        Ok(())
    }
}

/// What one client brings home.
pub(super) struct Harvest {
    pub(super) ledger: Ledger,
    pub(super) latencies: Latencies,
    /// The server's version, or what else tells it, as its connection, still open, reports it at the end.
    pub(super) whereabouts: Option<String>,
}

/// The running clients.
pub(super) struct Load {
    pub(super) board: Arc<Board>,
    clients: JoinSet<Harvest>,
}

/// What all clients bring home.
pub(super) struct Total {
    pub(super) ledger: Ledger,
    pub(super) latencies: Latencies,
    /// One for each client whose connection was still open at the end.
    pub(super) whereabouts: Vec<String>,
}

impl Load {
    /// Connects all clients, then lets them go.
    pub(super) async fn start<E: Engine>(engine: E, address: &Address, catalogue: Arc<Catalogue>) -> Result<Self> {
        let board = Arc::new(Board::default());
        let mut shoppers = Vec::new();
        for (number, style) in (1_u8..).zip(CAST) {
            let link = E::Link::open(address, &format!("shop-{number}")).await?;
            let shopper = Shopper::new(engine, (number, style), link, Arc::clone(&catalogue), Arc::clone(&board));
            shoppers.push(shopper.await?);
        }
        let mut clients = JoinSet::new();
        for shopper in shoppers {
            clients.spawn(shopper.shop());
        }
        Ok(Self { board, clients })
    }

    /// How many clients there are.
    pub(super) fn clients() -> usize {
        CAST.len()
    }

    /// From now on transactions count for this stretch.
    pub(super) fn enter(&self, stretch: Stretch) {
        self.board.stretch.store(stretch as u8, Ordering::Relaxed);
    }

    /// Lets every client finish what it is at, and gathers what they know.
    pub(super) async fn stop(mut self) -> Result<Total> {
        self.board.stop.store(true, Ordering::Relaxed);
        let mut total = Total { ledger: Ledger::default(), latencies: Latencies::new()?, whereabouts: Vec::new() };
        let deadline = tokio::time::Instant::now() + STOP_TIMEOUT;
        loop {
            let next = tokio::time::timeout_at(deadline, self.clients.join_next()).await;
            let Some(harvest) = next.map_err(|_| Failure(format!("a client did not stop within {STOP_TIMEOUT:?}")))?
            else {
                return Ok(total);
            };
            let harvest = harvest.map_err(|error| Failure(format!("a client of the demo broke: {error}")))?;
            total.ledger.append(harvest.ledger);
            total.latencies.add(&harvest.latencies)?;
            total.whereabouts.extend(harvest.whereabouts);
        }
    }
}
