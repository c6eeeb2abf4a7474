//! The invented shop: what its clients must know of it, in either engine.

use std::collections::HashMap;

use super::engine::Engine;
use super::failure::{Failure, Result};
use super::ledger::Sum;
use super::link::{Link, Record};

/// The application's role.
pub(super) const ROLE: &str = "app";
/// The database, and the route.
pub(super) const DATABASE: &str = "shop";

/// What the clients know from the beginning.
#[derive(Debug)]
pub(super) struct Catalogue {
    /// Prices by product, the first product's first.
    pub(super) prices: Vec<i64>,
    /// Every sum before the load.
    pub(super) opening: HashMap<(Sum, i64), (i128, i128)>,
}

/// Reads what the clients must know before they start.
pub(super) async fn catalogue<E: Engine>(engine: E, server: &mut E::Link) -> Result<Catalogue> {
    let mut prices = Vec::new();
    for row in server.ask("SELECT price FROM product ORDER BY id").await? {
        prices.push(number(&row, 0, "product.price")?);
    }
    let mut opening = HashMap::new();
    for sum in Sum::ALL {
        for (key, value, proof) in sums(engine, server, sum).await? {
            opening.insert((sum, key), (value, proof));
        }
    }
    Ok(Catalogue { prices, opening })
}

/// The present values of one kind of sum: key, value, proof.
pub(super) async fn sums<E: Engine>(engine: E, server: &mut E::Link, sum: Sum) -> Result<Vec<(i64, i128, i128)>> {
    let mut found = Vec::new();
    for row in server.ask(engine.sums(sum)).await? {
        found.push((number(&row, 0, sum.name())?, number(&row, 1, sum.name())?, number(&row, 2, sum.name())?));
    }
    Ok(found)
}

/// A whole number of an answer.
pub(super) fn number<N: std::str::FromStr>(row: &Record, index: usize, what: &str) -> Result<N> {
    let text = row.at(index);
    text.parse().map_err(|_| Failure(format!("{what} holds {text:?}")))
}
