//! The invented shop: its schema and rows on the source, and what its clients must know of them.

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::Client;

use super::failure::{Failure, Result};
use super::ledger::Sum;

/// Created by the application's role, so that it owns everything.
const SCHEMA: &str = include_str!("schema.sql");
/// Loaded by a superuser, with triggers and foreign keys asleep.
const ROWS: &str = include_str!("rows.sql");
const PATIENCE: Duration = Duration::from_mins(1);

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

/// Creates the application's role and its empty database.
pub(super) async fn found(server: &Client) -> Result<()> {
    server
        .batch_execute(&format!("CREATE ROLE {ROLE} LOGIN"))
        .await?;
    server
        .batch_execute(&format!("CREATE DATABASE {DATABASE} OWNER {ROLE}"))
        .await?;
    Ok(())
}

/// Creates the schema and its rows; says how many rows there are.
pub(super) async fn furnish(superuser: &Client) -> Result<u64> {
    let work = async {
        superuser.batch_execute(&format!("SET ROLE {ROLE}")).await?;
        superuser.batch_execute(SCHEMA).await?;
        superuser.batch_execute("RESET ROLE").await?;
        superuser.batch_execute(ROWS).await?;
        superuser.batch_execute("VACUUM ANALYZE").await
    };
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.map_err(|_| Failure(format!("the shop was not ready within {PATIENCE:?}")))??;
    let rows = "SELECT sum(c.reltuples)::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname IN ('public', 'accounting') AND c.relkind = 'r' AND c.reltuples > 0";
    let count: i64 = superuser.query_one(rows, &[]).await?.try_get(0)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Reads what the clients must know before they start.
pub(super) async fn catalogue(server: &Client) -> Result<Catalogue> {
    let mut prices = Vec::new();
    for row in server
        .query("SELECT price::bigint FROM product ORDER BY id", &[])
        .await?
    {
        prices.push(row.try_get(0)?);
    }
    let mut opening = HashMap::new();
    for sum in Sum::ALL {
        for (key, value, proof) in sums(server, sum).await? {
            opening.insert((sum, key), (value, proof));
        }
    }
    Ok(Catalogue { prices, opening })
}

/// The present values of one kind of sum: key, value, proof.
pub(super) async fn sums(server: &Client, sum: Sum) -> Result<Vec<(i64, i128, i128)>> {
    let number = |text: &str| {
        text.parse()
            .map_err(|_| Failure(format!("{} holds {text:?}", sum.name())))
    };
    let mut found = Vec::new();
    for row in server.query(sum.query(), &[]).await? {
        found.push((
            row.try_get(0)?,
            number(row.try_get(1)?)?,
            number(row.try_get(2)?)?,
        ));
    }
    Ok(found)
}
