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
mod way_back;

use super::{Mysql, fence};
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
        way_back::run(mysql, source, target, &mut findings).await;
    }
    Ok(findings.checks)
}

/// Refuses where changes could not go back: from the source of `mysql`, which is yet to serve, to its target, which serves.
pub(super) async fn refuse_way_back(mysql: &Mysql) -> Result<()> {
    let (mut source, mut target) =
        tokio::try_join!(Side::open(mysql.connect_source("arm")), Side::open(mysql.connect_target("arm")))?;
    let [here, there] = way_back::lacking(mysql, &mut source, &mut target).await;
    let (mut evidence, mut remedies, mut fixes) = (Vec::new(), Vec::new(), Vec::new());
    for (server, mut lacking) in [(mysql.source(), here), (mysql.target(), there)] {
        lacking.retain(|check| check.level == Level::Error);
        if lacking.is_empty() {
            continue;
        }
        evidence.extend(lacking.iter().map(|check| check.evidence.clone()));
        let fixes_here = lacking.iter().map(|check| check.fix.as_str());
        let statements: Vec<&str> = fixes_here.filter(|fix| !fix.is_empty()).collect();
        let statements = statements.join("; ");
        // A check that lacked a right is made again when it has it.
        let words: Vec<&str> = lacking.iter().map(|check| check.remedy.as_str()).collect();
        let mend = if statements.is_empty() { words.join("; ") } else { statements.clone() };
        remedies.push(format!("on {server:?}: {mend}"));
        fixes.push(statements);
    }
    if evidence.is_empty() {
        return Ok(());
    }
    // Statements for one server alone can be run as they stand.
    let fix = if let [fix] = fixes.as_slice() { fix.clone() } else { String::new() };
    Err(Error::refused(format!(
        "changes could not come from {:?} (the source of the way back) to {:?} (its target): {}",
        mysql.source(),
        mysql.target(),
        evidence.join("; ")
    ))
    .remedy(remedies.join("; and "))
    .fix(fix))
}

/// Every account that can log in on the source, and whether it can on the target, as things are now.
pub async fn accounts(mysql: &Mysql) -> Result<Vec<Account>> {
    let (mut source, mut target) =
        tokio::try_join!(Side::open(mysql.connect_source("readiness")), Side::open(mysql.connect_target("readiness")))?;
    accounts::judge(mysql, &mut source, &mut target).await
}
