//! Whether a cutover will have a way back: what the target lacks to be followed, and the source to take what comes back.

use super::super::Postgres;
use super::super::client::failed;
use super::rights;
use super::side::Side;
use crate::error::Result;
use crate::postgres::rights::{self as table};
use crate::preflight::Findings;
use crate::rights::{Need, Side as Which};

const NAME: &str = "way_back";
/// The leg's own slot and its walsender.
const NEEDED: i64 = 1;
const SLOTS_SET: i64 = 20;
const REMEDY: &str = "a cutover is refused without it, unless it says WITH (way_back = 'none')";

pub(super) async fn run(postgres: &Postgres, source: &Side, target: &Side, findings: &mut Findings) {
    let outcome = look(postgres, source, target, findings).await;
    findings.ran(NAME, outcome);
}

async fn look(postgres: &Postgres, source: &Side, target: &Side, findings: &mut Findings) -> Result<()> {
    let before = findings.checks.len();
    settings(target, findings).await?;
    for (side, which) in [(source, Which::Source), (target, Which::Target)] {
        let whose = rights::whose(postgres, which);
        let lacking = table::lacking(&side.session, which, side.major(), whose).await?;
        for grant in lacking.iter().filter(|grant| grant.check == NAME) {
            let evidence = format!("{} may not {} on the {}: {}", whose.user, grant.what, which.name(), grant.without);
            // Where only a superuser may, that is more than this needs.
            let fix = if grant.need == Need::Helpful { grant.statement.clone() } else { String::new() };
            findings.warning(NAME, evidence, REMEDY, fix);
        }
    }
    if findings.checks.len() == before {
        findings.ok(NAME, "the target's log can be followed, and the source can take what comes back");
    }
    Ok(())
}

async fn settings(target: &Side, findings: &mut Findings) -> Result<()> {
    let cannot = |error| failed("the target's settings cannot be read", error);
    let row = target
        .session
        .query_one(
            "SELECT current_setting('wal_level'),
                (SELECT count(*) FROM pg_catalog.pg_replication_slots),
                (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'walsender'),
                current_setting('max_replication_slots')::bigint, current_setting('max_wal_senders')::bigint",
            &[],
        )
        .await
        .map_err(cannot)?;
    let level: String = row.try_get(0).map_err(cannot)?;
    if level != "logical" {
        findings.warning(
            NAME,
            format!("wal_level is {level} on the target"),
            &format!("set it to logical and restart the target; {REMEDY}"),
            "ALTER SYSTEM SET wal_level = 'logical'",
        );
    }
    for (setting, used, all) in [("max_replication_slots", 1, 3), ("max_wal_senders", 2, 4)] {
        let (used, all): (i64, i64) = (row.try_get(used).map_err(cannot)?, row.try_get(all).map_err(cannot)?);
        if all - used < NEEDED {
            findings.warning(
                NAME,
                format!("no {setting} are free on the target"),
                &format!("drop unused slots, or raise the setting and restart the target; {REMEDY}"),
                format!("ALTER SYSTEM SET {setting} = {}", (used + NEEDED).max(SLOTS_SET)),
            );
        }
    }
    Ok(())
}
