//! Everything that can say no before anything is touched: all checks run, all findings are returned together.

mod event_triggers;
mod objects;
mod pair;
mod rights;
mod roles;
mod rows;
mod server;
mod side;
mod tables;
mod trial;
mod way_back;

use super::Postgres;
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
        way_back::run(postgres, source, target, &mut findings).await;
    }
    Ok(findings.checks)
}

/// Every role that can log in on the source, and whether it can on the target, as things are now.
pub async fn accounts(postgres: &Postgres) -> Result<Vec<Account>> {
    let (source, target) = tokio::try_join!(server::open_source(postgres), server::open_target(postgres))?;
    roles::judge(postgres, &source, &target).await
}
