//! Everything that can say no before anything is touched: all checks run, all findings are returned together.

mod accounts;
mod collations;
mod defaults;
mod inherited;
mod left;
mod objects;
mod pair;
mod rights;
mod rows;
mod server;
mod side;
mod tables;
pub(crate) mod trial;
mod visible;

use super::{Mysql, catalogue, fence};
use crate::accounts::Account;
use crate::error::{Error, Result};
use crate::preflight::{Check, Findings, Level};
pub use side::NOT_PERSISTENT;
use side::Side;

const UNREACHABLE: &str =
    "check the cluster's address, that it runs, the user, the password and from which hosts it may come";

/// Runs every check that the reachable servers allow.
pub async fn run(mysql: &Mysql) -> Result<Vec<Check>> {
    let mut findings = Findings::default();
    let (source, target) =
        tokio::join!(Side::open(mysql.connect_source("precheck")), Side::open(mysql.connect_target("precheck")));
    let mut source = findings.reached("source_reachable", source, UNREACHABLE);
    let mut target = findings.reached("target_reachable", target, UNREACHABLE);
    let mut place = objects::Place::Taken;
    if let Some(source) = &mut source {
        findings.ok("source_reachable", source.version.to_string());
        server::source(mysql, source, &mut findings).await;
        rights::source(mysql, source, &mut findings).await;
        tables::run(mysql, source, &mut findings).await;
        objects::source(mysql, source, &mut findings).await;
        visible::run(mysql, "source_definitions", "source", source, &mut findings).await;
        let outcome = fence::refusal_finding(&mut source.session, &mut findings).await;
        findings.ran("source_refusal", outcome);
    }
    if let Some(target) = &mut target {
        findings.ok("target_reachable", target.version.to_string());
        server::target(mysql, target, &mut findings).await;
        rights::target(mysql, target, &mut findings).await;
        let recovered = trial::scratch::recover(mysql).await;
        findings.ran("earlier_trial", recovered);
        place = objects::target(mysql, target, &mut findings).await;
        visible::run(mysql, "target_definitions", "target", target, &mut findings).await;
    }
    if let (Some(source), Some(target)) = (&mut source, &mut target) {
        pair::run(mysql, source, target, &mut findings).await;
        accounts::run(mysql, source, target, &mut findings).await;
        left::run(mysql, source, target, &mut findings).await;
        let definers = objects::definers(mysql, source, target, &mut findings).await;
        findings.ran("definers", definers);
        trial::run(mysql, source, target, place, &mut findings).await;
    }
    Ok(findings.checks)
}

/// Refuses where changes could not go back: from the source of `mysql`, which is yet to serve, to its target, which serves.
pub(super) async fn refuse_way_back(mysql: &Mysql) -> Result<()> {
    let (mut source, mut target) =
        tokio::try_join!(Side::open(mysql.connect_source("arm")), Side::open(mysql.connect_target("arm")))?;
    let mut findings = Findings::default();
    server::stream(mysql, &mut source, &mut findings).await;
    let outcome = tables::cascades(&mut source, &catalogue::listed(mysql), &mut findings).await;
    findings.ran("foreign_key_cascades", outcome);
    rights::source(mysql, &mut source, &mut findings).await;
    rights::applier(mysql, &mut target, &mut findings).await;
    let errors: Vec<Check> = findings.checks.into_iter().filter(|check| check.level == Level::Error).collect();
    let Some(first) = errors.first() else {
        return Ok(());
    };
    let evidence: Vec<&str> = errors.iter().map(|check| check.evidence.as_str()).collect();
    let (came_from, goes_to) = (mysql.target(), mysql.source());
    let fixes: Vec<&str> = errors.iter().map(|check| check.fix.as_str()).filter(|fix| !fix.is_empty()).collect();
    Err(Error::refused(format!(
        "there would be no way back from {goes_to:?} (called the source here) to {came_from:?}: {}",
        evidence.join("; ")
    ))
    .remedy(if fixes.is_empty() { first.remedy.clone() } else { fixes.join("; ") }))
}

/// Every account that can log in on the source, and whether it can on the target, as things are now.
pub async fn accounts(mysql: &Mysql) -> Result<Vec<Account>> {
    let (mut source, mut target) =
        tokio::try_join!(Side::open(mysql.connect_source("readiness")), Side::open(mysql.connect_target("readiness")))?;
    accounts::judge(mysql, &mut source, &mut target).await
}
