//! Everything that can say no before anything is touched: all checks run, all findings are returned together.

mod event_triggers;
mod objects;
mod pair;
mod rights;
mod roles;
mod rows;
mod server;
mod tables;
mod trial;

use tokio_postgres::Client;
use tokio_postgres::types::{FromSqlOwned, ToSql};

use super::Postgres;
use super::client::failed;
use crate::accounts::Account;
use crate::error::Result;
use crate::preflight::{Check, Findings};

const UNREACHABLE: &str = "check the cluster's address, that it runs, the user, the password and pg_hba.conf";

/// Runs every check that the reachable servers allow.
pub async fn run(postgres: &Postgres) -> Result<Vec<Check>> {
    let mut findings = Findings::default();
    let (source, target) = tokio::join!(server::open_source(postgres), server::open_target(postgres));
    let fix = source.as_ref().err().map(|failure| rights::to_connect(postgres, failure));
    let source = findings.reached("source_reachable", source, UNREACHABLE);
    if let (Some(fix), Some(check)) = (fix, findings.checks.last_mut()) {
        check.fix = fix;
    }
    let target = findings.reached("target_reachable", target, UNREACHABLE);
    if let Some(source) = &source {
        server::source(postgres, source, &mut findings).await;
        tables::run(postgres, source, &mut findings).await;
        objects::source(postgres, source, &mut findings).await;
        event_triggers::run(postgres, source, &mut findings).await;
        rows::run(postgres, source, &mut findings).await;
    }
    if let Some(target) = &target {
        server::target(postgres, source.as_ref(), target, &mut findings).await;
        objects::target(postgres, target, source.as_ref(), &mut findings).await;
    }
    server::tools(postgres, source.as_ref(), target.as_ref(), &mut findings).await;
    if let (Some(source), Some(target)) = (&source, &target) {
        pair::run(postgres, source, target, &mut findings).await;
        roles::run(postgres, source, target, &mut findings).await;
        trial::run(postgres, source, target, &mut findings).await;
    }
    Ok(findings.checks)
}

/// Every role that can log in on the source, and whether it can on the target, as things are now.
pub async fn accounts(postgres: &Postgres) -> Result<Vec<Account>> {
    let (source, target) = tokio::try_join!(server::open_source(postgres), server::open_target(postgres))?;
    roles::judge(postgres, &source, &target).await
}

/// A server that answered.
struct Side {
    session: Client,
    version: i32,
    /// Whether the migration's own database is the one that the session is in.
    has_database: bool,
}

impl Side {
    async fn open(session: Client, has_database: bool) -> Result<Self> {
        let version = one(&session, "SELECT current_setting('server_version_num')::int", &[]).await?;
        Ok(Self { session, version, has_database })
    }

    fn major(&self) -> i32 {
        self.version / 10_000
    }
}

/// The one value of a query.
async fn one<T: FromSqlOwned>(session: &Client, query: &str, values: &[&(dyn ToSql + Sync)]) -> Result<T> {
    session
        .query_one(query, values)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| failed("a check could not run", error))
}

/// The rows of a query whose columns are the evidence and the statement that mends it.
async fn pairs(session: &Client, query: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<(String, String)>> {
    let rows = session.query(query, values).await.map_err(|error| failed("a check could not run", error))?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| failed("a check could not run", error))
}
