//! Everything that can say no before anything is touched: all checks run, all findings are returned together.

mod objects;
mod pair;
mod server;
mod tables;

use tokio_postgres::Client;
use tokio_postgres::types::{FromSqlOwned, ToSql};

use super::Postgres;
use super::client::failed;
use crate::error::Result;
use crate::preflight::{Check, Level};

/// Runs every check that the reachable servers allow.
pub async fn run(postgres: &Postgres) -> Result<Vec<Check>> {
    let mut findings = Findings::default();
    let (source, target) =
        tokio::join!(server::open_source(postgres), server::open_target(postgres));
    let source = findings.reached("source_reachable", source);
    let target = findings.reached("target_reachable", target);
    if let Some(source) = &source {
        server::source(postgres, source, &mut findings).await;
        tables::run(postgres, source, &mut findings).await;
        objects::source(postgres, source, &mut findings).await;
    }
    if let Some(target) = &target {
        server::target(postgres, target, &mut findings).await;
        objects::target(postgres, target, source.as_ref(), &mut findings).await;
    }
    server::tools(postgres, source.as_ref(), target.as_ref(), &mut findings).await;
    if let (Some(source), Some(target)) = (&source, &target) {
        pair::run(postgres, source, target, &mut findings).await;
    }
    Ok(findings.checks)
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
        let version = one(
            &session,
            "SELECT current_setting('server_version_num')::int",
            &[],
        )
        .await?;
        Ok(Self {
            session,
            version,
            has_database,
        })
    }

    fn major(&self) -> i32 {
        self.version / 10_000
    }
}

#[derive(Default)]
struct Findings {
    checks: Vec<Check>,
}

impl Findings {
    fn ok(&mut self, name: &str, evidence: impl Into<String>) {
        self.checks.push(Check::ok(name, evidence));
    }

    fn warning(
        &mut self,
        name: &str,
        evidence: impl Into<String>,
        remedy: &str,
        fix: impl Into<String>,
    ) {
        self.checks
            .push(Check::new(name, Level::Warning, evidence, remedy, fix));
    }

    fn error(
        &mut self,
        name: &str,
        evidence: impl Into<String>,
        remedy: &str,
        fix: impl Into<String>,
    ) {
        self.checks
            .push(Check::new(name, Level::Error, evidence, remedy, fix));
    }

    /// One check's outcome; a check that could not run is an error of its own and ends no other.
    fn ran(&mut self, name: &str, outcome: Result<()>) {
        if let Err(failure) = outcome {
            let remedy = failure
                .remedy_text()
                .unwrap_or("this check could not run; mend that first")
                .to_owned();
            self.error(name, failure.full_text(), &remedy, "");
        }
    }

    /// One finding per row of (evidence, fix), or one that all is in order.
    fn each(
        &mut self,
        name: &str,
        level: Level,
        rows: &[(String, String)],
        remedy: &str,
        otherwise: &str,
    ) {
        if rows.is_empty() {
            self.ok(name, otherwise);
        }
        for (evidence, fix) in rows {
            self.checks
                .push(Check::new(name, level, evidence, remedy, fix));
        }
    }

    fn reached(&mut self, name: &str, outcome: Result<Side>) -> Option<Side> {
        match outcome {
            Ok(side) => Some(side),
            Err(failure) => {
                self.error(
                    name,
                    failure.full_text(),
                    "check the cluster's address, that it runs, the user, the password and pg_hba.conf",
                    "",
                );
                None
            }
        }
    }
}

/// The one value of a query.
async fn one<T: FromSqlOwned>(
    session: &Client,
    query: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<T> {
    session
        .query_one(query, values)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| failed("a check could not run", error))
}

/// The rows of a query whose columns are the evidence and the statement that mends it.
async fn pairs(
    session: &Client,
    query: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<(String, String)>> {
    let rows = session
        .query(query, values)
        .await
        .map_err(|error| failed("a check could not run", error))?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| failed("a check could not run", error))
}
