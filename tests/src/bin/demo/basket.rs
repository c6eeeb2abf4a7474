//! An order before it is placed: what a client picks, and what it will leave behind.

use std::sync::Arc;

use super::engine::Engine;
use super::ledger::{Effect, Sum, Table};
use super::shopper::Shopper;

/// Customers and products that orders are made of; below what the rows hold.
const CUSTOMERS: u64 = 50_000;
const LINES_MOST: u64 = 4;

/// One product of an order.
pub(super) struct Line {
    pub(super) product: i64,
    pub(super) quantity: i64,
    pub(super) price: i64,
    pub(super) stamp: i64,
    pub(super) move_stamp: i64,
}

/// An order before it is placed.
pub(super) struct Basket {
    pub(super) customer: i64,
    pub(super) stamp: i64,
    pub(super) total: i64,
    pub(super) lines: Vec<Line>,
}

impl Basket {
    /// What the order leaves behind once it is committed.
    pub(super) fn effects(&self) -> Vec<Effect> {
        let mut effects = vec![Effect::row(Table::Orders, self.stamp, &format!("{}/{}", self.customer, self.total))];
        for line in &self.lines {
            let Line { product, quantity, price, stamp, move_stamp } = line;
            effects.push(Effect::row(Table::OrderLine, *stamp, &format!("{product}/{}", quantity * price)));
            effects.push(Effect::row(Table::StockMove, *move_stamp, &format!("{product}/{}", -quantity)));
            effects.push(Effect::Added { sum: Sum::Stock, key: *product, add: -quantity, proof: 0 });
        }
        effects
    }
}

impl<E: Engine> Shopper<E> {
    /// Picks what to order.
    pub(super) fn basket(&mut self) -> Basket {
        let catalogue = Arc::clone(&self.catalogue);
        let products = u64::try_from(catalogue.prices.len()).unwrap_or(1).max(1);
        let mut wanted: Vec<i64> = (0..=self.random(LINES_MOST)).map(|_| self.random_key(products)).collect();
        // In one order everywhere, so that two clients never wait for each other.
        wanted.sort_unstable();
        wanted.dedup();
        let mut lines = Vec::new();
        for product in wanted {
            let index = usize::try_from(product - 1).unwrap_or(0);
            let price = catalogue.prices.get(index).copied().unwrap_or(0);
            let quantity = self.random_key(5);
            lines.push(Line { product, quantity, price, stamp: self.stamp(), move_stamp: self.stamp() });
        }
        let total = lines.iter().map(|line| line.quantity * line.price).sum();
        Basket { customer: self.random_key(CUSTOMERS), stamp: self.stamp(), total, lines }
    }
}
