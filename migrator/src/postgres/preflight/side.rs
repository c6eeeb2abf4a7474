//! A server that answered, and how the checks ask it.

use tokio_postgres::Client;
use tokio_postgres::types::{FromSqlOwned, ToSql};

use crate::error::Result;
use crate::postgres::client::failed;
use crate::postgres::service::{self, Facts};

/// A server that answered.
pub(crate) struct Side {
    pub(crate) session: Client,
    pub(crate) version: i32,
    /// Who runs it.
    pub(crate) facts: Facts,
    /// Whether the migration's own database is the one that the session is in.
    pub(crate) has_database: bool,
}

impl Side {
    pub(crate) async fn open(session: Client, has_database: bool) -> Result<Self> {
        let version = one(&session, "SELECT current_setting('server_version_num')::int", &[]).await?;
        let facts = service::of(&session).await?;
        Ok(Self { session, version, facts, has_database })
    }

    pub(crate) fn major(&self) -> i32 {
        self.version / 10_000
    }
}

/// The one value of a query.
pub(crate) async fn one<T: FromSqlOwned>(session: &Client, query: &str, values: &[&(dyn ToSql + Sync)]) -> Result<T> {
    session
        .query_one(query, values)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| failed("a check could not run", error))
}

/// The rows of a query whose columns are the evidence and the statement that mends it.
pub(crate) async fn pairs(
    session: &Client,
    query: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<(String, String)>> {
    let rows = session.query(query, values).await.map_err(|error| failed("a check could not run", error))?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| failed("a check could not run", error))
}
