//! The invented shop: its schema and rows on the source.

use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::failure::{Failure, Result};
use crate::shop::{DATABASE, ROLE};

/// Created by root, on behalf of the application's account.
const SCHEMA: &str = include_str!("schema.sql");
/// Loaded by root, with foreign keys and the binary log asleep.
const ROWS: &str = include_str!("rows.sql");
/// What only MariaDB has.
const SEQUENCE: &str = include_str!("sequence.sql");
const TIMEOUT: Duration = Duration::from_mins(2);
/// Tables that have rows before the load.
const FURNISHED: [&str; 12] = [
    "warehouse",
    "category",
    "product",
    "customer",
    "orders",
    "order_line",
    "stock_move",
    "payment",
    "posting",
    "review",
    "page_view",
    "shelf_count",
];

/// Creates the application's account and its empty database.
pub(super) async fn found(server: &mut Conn, password: &str) -> Result<()> {
    let statements = format!(
        "CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4;
         CREATE USER {ROLE}@`%` IDENTIFIED BY '{password}';
         GRANT ALL ON {DATABASE}.* TO {ROLE}@`%`"
    );
    server.query_drop(statements).await?;
    Ok(())
}

/// Creates the schema and its rows; says how many rows there are.
pub(super) async fn furnish(superuser: &mut Conn, mariadb: bool) -> Result<u64> {
    let mut scripts = vec![SCHEMA, ROWS];
    if mariadb {
        scripts.push(SEQUENCE);
    }
    let work = async {
        for script in scripts {
            superuser.query_drop(script).await?;
        }
        let tables = FURNISHED.join(", ");
        superuser.query_drop(format!("ANALYZE TABLE {tables}")).await?;
        let counts = FURNISHED.map(|table| format!("(SELECT count(*) FROM {table})"));
        superuser.query_first(format!("SELECT {}", counts.join(" + "))).await
    };
    let done = tokio::time::timeout(TIMEOUT, work).await;
    let rows: Option<u64> = done.map_err(|_| Failure(format!("the shop was not ready within {TIMEOUT:?}")))??;
    Ok(rows.unwrap_or(0))
}
