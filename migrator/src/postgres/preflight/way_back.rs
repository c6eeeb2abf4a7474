//! Whether a cutover will have a way back: what the target lacks to be followed, and the source to take what comes back.

use super::super::Postgres;
use super::super::client::failed;
use super::side::Side;
use crate::error::Result;
use crate::postgres::schema::set_aside;
use crate::postgres::{fence, plan, rights};
use crate::preflight::Findings;
use crate::rights::Side as Which;

const SOURCE: &str = "source_way_back";
const TARGET: &str = "target_way_back";
/// The leg's own slot and its walsender.
const NEEDED: i64 = 1;
const SLOTS_SET: i64 = 20;
const REMEDY: &str = "a cutover is refused without it, unless it says WITH (way_back = 'none')";

pub(super) async fn run(postgres: &Postgres, source: &Side, target: &Side, findings: &mut Findings) {
    let outcome = on_source(postgres, source, findings).await;
    findings.ran(SOURCE, outcome);
    let outcome = on_target(postgres, target, findings).await;
    findings.ran(TARGET, outcome);
}

async fn on_source(postgres: &Postgres, source: &Side, findings: &mut Findings) -> Result<()> {
    let before = findings.checks.len();
    lacking(postgres, source, Which::Source, SOURCE, findings).await?;
    if findings.checks.len() > before {
        let tables = fence::fenced(&plan::read(postgres).await?);
        for key in set_aside::in_the_way(&source.session, source.version, &tables).await? {
            findings.warning(
                SOURCE,
                format!(
                    "version {} of the source cannot set aside the foreign key {key} of a partitioned table while changes come \
                     back",
                    source.major()
                ),
                REMEDY,
                "",
            );
        }
    }
    if findings.checks.len() == before {
        findings.ok(SOURCE, "the source can take what comes back");
    }
    Ok(())
}

async fn on_target(postgres: &Postgres, target: &Side, findings: &mut Findings) -> Result<()> {
    let before = findings.checks.len();
    settings(target, findings).await?;
    lacking(postgres, target, Which::Target, TARGET, findings).await?;
    if findings.checks.len() == before {
        findings.ok(TARGET, "the target's log can be followed for a way back");
    }
    Ok(())
}

async fn lacking(
    postgres: &Postgres,
    side: &Side,
    which: Which,
    check: &'static str,
    findings: &mut Findings,
) -> Result<()> {
    let lacking = rights::lacking(postgres, &side.session, which).await?;
    let service = side.facts.service();
    let user = match which {
        Which::Source => &postgres.source().user,
        Which::Target => &postgres.target().user,
    };
    for grant in lacking.iter().filter(|grant| grant.check == check) {
        let evidence = format!("{} may not {} on the {}: {}", user, grant.what, which.name(), grant.without);
        let remedy = match which {
            // It goes without, in another way.
            Which::Source => rights::remedy(grant, service),
            Which::Target => REMEDY.to_owned(),
        };
        findings.warning(check, evidence, &remedy, grant.statement.clone());
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
    let facts = target.facts;
    if level != "logical" {
        let (words, fix) = facts.setting("wal_level", "logical", true);
        findings.warning(TARGET, format!("wal_level is {level} on the target"), &format!("{words}; {REMEDY}"), fix);
    }
    for (setting, used, all) in [("max_replication_slots", 1, 3), ("max_wal_senders", 2, 4)] {
        let (used, all): (i64, i64) = (row.try_get(used).map_err(cannot)?, row.try_get(all).map_err(cannot)?);
        if all - used < NEEDED {
            let (words, fix) = facts.setting(setting, &(used + NEEDED).max(SLOTS_SET).to_string(), true);
            findings.warning(
                TARGET,
                format!("no {setting} are free on the target"),
                &format!("drop unused slots, or raise it: {words}; {REMEDY}"),
                fix,
            );
        }
    }
    Ok(())
}
