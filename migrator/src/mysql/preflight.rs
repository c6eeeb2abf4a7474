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

use super::{Mysql, fence};
use crate::accounts::Account;
use crate::error::Result;
use crate::preflight::{Check, Findings};
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

/// Every account that can log in on the source, and whether it can on the target, as things are now.
pub async fn accounts(mysql: &Mysql) -> Result<Vec<Account>> {
    let (mut source, mut target) =
        tokio::try_join!(Side::open(mysql.connect_source("readiness")), Side::open(mysql.connect_target("readiness")))?;
    accounts::judge(mysql, &mut source, &mut target).await
}
