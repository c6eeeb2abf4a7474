//! Everything that can say no before anything is touched: all checks run, all findings are returned together.

mod accounts;
mod defaults;
mod objects;
mod pair;
mod rights;
mod server;
mod tables;

use std::collections::BTreeMap;

use mysql_async::Conn;

use super::Mysql;
use super::catalogue::{self, ask};
use super::client::Version;
use crate::error::Result;
use crate::preflight::{Check, Level};

/// Runs every check that the reachable servers allow.
pub async fn run(mysql: &Mysql) -> Result<Vec<Check>> {
    let mut findings = Findings::default();
    let (source, target) = tokio::join!(
        Side::open(mysql.connect_source("precheck")),
        Side::open(mysql.connect_target("precheck"))
    );
    let mut source = findings.reached("source_reachable", source);
    let mut target = findings.reached("target_reachable", target);
    if let Some(source) = &mut source {
        server::source(mysql, source, &mut findings).await;
        rights::source(mysql, source, &mut findings).await;
        tables::run(mysql, source, &mut findings).await;
        objects::source(mysql, source, &mut findings).await;
    }
    if let Some(target) = &mut target {
        server::target(mysql, target, &mut findings).await;
        rights::target(mysql, target, &mut findings).await;
        objects::target(mysql, target, &mut findings).await;
    }
    if let (Some(source), Some(target)) = (&mut source, &mut target) {
        pair::run(mysql, source, target, &mut findings).await;
        accounts::run(mysql, source, target, &mut findings).await;
    }
    Ok(findings.checks)
}

/// A server that answered.
struct Side {
    session: Conn,
    version: Version,
    settings: BTreeMap<String, String>,
}

impl Side {
    async fn open(session: impl Future<Output = Result<Conn>>) -> Result<Self> {
        let mut session = session.await?;
        let version = catalogue::prepare(&mut session).await?;
        let rows = ask(
            &mut session,
            "SHOW GLOBAL VARIABLES",
            "cannot read a server's settings",
        )
        .await?;
        let settings = rows
            .iter()
            .map(|row| (row.owned(0), row.owned(1)))
            .collect();
        Ok(Self {
            session,
            version,
            settings,
        })
    }

    /// A setting's value, or nothing where the server has none of this name.
    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    fn is_on(&self, name: &str) -> bool {
        matches!(self.setting(name), Some("ON" | "1"))
    }

    fn number(&self, name: &str) -> Option<u64> {
        // MariaDB writes days with decimals.
        self.setting(name)?.split('.').next()?.parse().ok()
    }

    /// The statement that changes a setting, also over a restart where the server can.
    fn set(&self, name: &str, value: &str) -> String {
        let scope = if self.version.is_mysql_from(8, 0, 0) {
            "PERSIST"
        } else {
            "GLOBAL"
        };
        format!("SET {scope} {name} = {value}")
    }

    /// The rows of a query whose columns are the evidence and the statement that mends it.
    async fn pairs(&mut self, query: &str) -> Result<Vec<(String, String)>> {
        let rows = ask(&mut self.session, query, "a check could not run").await?;
        Ok(rows
            .iter()
            .map(|row| (row.owned(0), row.owned(1)))
            .collect())
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
            Ok(side) => {
                self.ok(name, side.version.to_string());
                Some(side)
            }
            Err(failure) => {
                let remedy = "check the cluster's address, that it runs, the user, the password and from which hosts it may come";
                self.error(name, failure.full_text(), remedy, "");
                None
            }
        }
    }
}
