//! The demo's own book: what each client asked for, and what the server answered.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A table whose rows carry the stamp of the write that made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Table {
    Orders,
    OrderLine,
    StockMove,
    Payment,
    Review,
    PageView,
    OrderAudit,
}

impl Table {
    pub(super) const ALL: [Self; 7] =
        [Self::Orders, Self::OrderLine, Self::StockMove, Self::Payment, Self::Review, Self::PageView, Self::OrderAudit];

    /// Its name in the database.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::OrderLine => "order_line",
            Self::StockMove => "stock_move",
            Self::Payment => "payment",
            Self::Review => "review",
            Self::PageView => "page_view",
            Self::OrderAudit => "order_audit",
        }
    }
}

/// A number that clients add to in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Sum {
    Stock,
    Points,
    Helpful,
    Counted,
}

impl Sum {
    pub(super) const ALL: [Self; 4] = [Self::Stock, Self::Points, Self::Helpful, Self::Counted];

    /// What it is, for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stock => "product.stock",
            Self::Points => "customer.points",
            Self::Helpful => "review.helpful",
            Self::Counted => "shelf_count.counted",
        }
    }
}

/// What one write leaves behind in the database.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    /// One row with this stamp and evidence.
    Row { table: Table, stamp: i64, evidence: u64 },
    /// A number grew by `add`, and its proof by `proof`.
    Added { sum: Sum, key: i64, add: i64, proof: i64 },
}

impl Effect {
    /// A row, recognised by its stamp and the text that its evidence in the database will be.
    pub(super) fn row(table: Table, stamp: i64, evidence: &str) -> Self {
        Self::Row { table, stamp, evidence: digest(evidence) }
    }
}

/// What is known of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server said that it is committed.
    Acknowledged,
    /// The server said that it failed, or its commit was never sent.
    Failed,
    /// The connection was lost, or time ran out, while the answer was awaited.
    Unknown,
}

/// One client's transactions, or those of all.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    transactions: Vec<(Outcome, Vec<Effect>)>,
}

impl Ledger {
    /// Writes a transaction down.
    pub(super) fn record(&mut self, outcome: Outcome, effects: Vec<Effect>) {
        if !effects.is_empty() {
            self.transactions.push((outcome, effects));
        }
    }

    /// Takes over what another client wrote down.
    pub(super) fn append(&mut self, mut other: Self) {
        self.transactions.append(&mut other.transactions);
    }

    /// How many transactions ended like this.
    pub(super) fn count(&self, outcome: Outcome) -> usize {
        self.transactions.iter().filter(|(seen, _)| *seen == outcome).count()
    }

    /// The rows of one table that were asked for, by stamp.
    pub(super) fn rows(&self, wanted: Table) -> HashMap<i64, (Outcome, u64)> {
        let mut rows = HashMap::new();
        for (outcome, effects) in &self.transactions {
            for effect in effects {
                if let Effect::Row { table, stamp, evidence } = effect
                    && *table == wanted
                {
                    rows.insert(*stamp, (*outcome, *evidence));
                }
            }
        }
        rows
    }

    /// What was added to one kind of number, by key.
    pub(super) fn sums(&self, wanted: Sum) -> HashMap<i64, Added> {
        let mut sums: HashMap<i64, Added> = HashMap::new();
        for (outcome, effects) in &self.transactions {
            for effect in effects {
                if let Effect::Added { sum, key, add, proof } = effect
                    && *sum == wanted
                {
                    let added = sums.entry(*key).or_default();
                    match outcome {
                        Outcome::Acknowledged => {
                            added.value += i128::from(*add);
                            added.proof += i128::from(*proof);
                            added.times += 1;
                        }
                        Outcome::Unknown => added.unknown += 1,
                        Outcome::Failed => {}
                    }
                }
            }
        }
        sums
    }
}

/// What the acknowledged additions to one number come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) value: i128,
    pub(super) proof: i128,
    pub(super) times: u64,
    pub(super) unknown: u64,
}

/// A short stand-in for a text.
pub(super) fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// A number that looks random and depends on the stamp alone: sums of these tell which stamps are in them.
pub(super) fn proof_of(stamp: i64) -> i64 {
    i64::try_from(scatter(stamp.unsigned_abs()) >> 20).unwrap_or(0)
}

/// Spreads a number over all 64 bits.
pub(super) fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
