//! Checks of each server by itself: version, settings, rights, room, and the client programs.

use super::super::client::failed;
use super::super::{Postgres, schema, service};
use super::rights;
use super::side::{Side, one};
use crate::error::{Kind, Result};
use crate::model::definitions::named;
use crate::postgres::schema::tools;
use crate::preflight::Findings;

const SLOTS_NEEDED: i64 = 2;
/// What the settings for them are raised to, at least.
const SLOTS_SET: i64 = 20;
const SOURCE_MAJOR_MIN: i32 = 14;

pub(super) async fn open_source(postgres: &Postgres) -> Result<Side> {
    Side::open(postgres.connect_source("precheck").await?, true).await
}

/// The target, through a database of its own where the migration's does not exist yet.
pub(super) async fn open_target(postgres: &Postgres) -> Result<Side> {
    let failure = match postgres.connect_target("precheck").await {
        Ok(session) => return Side::open(session, true).await,
        Err(failure) => failure,
    };
    // An unreachable server is not asked again.
    if failure.kind() == Kind::Transient {
        return Err(failure);
    }
    let Ok(session) = schema::database::connect_maintenance(postgres, postgres.target()).await else {
        return Err(failure);
    };
    let there: bool = one(
        &session,
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)",
        &[&postgres.target().database],
    )
    .await?;
    if there { Err(failure) } else { Side::open(session, false).await }
}

pub(super) async fn source(postgres: &Postgres, source: &Side, findings: &mut Findings) {
    let evidence = format!("{:?}, version {}", postgres.source(), source.version);
    findings.ok("source_reachable", evidence);
    if source.major() < SOURCE_MAJOR_MIN {
        findings.error(
            "source_version",
            format!("the source is version {}", source.major()),
            "the source must be version 14 or newer: upgrade it in place first",
            "",
        );
    } else {
        findings.ok("source_version", format!("version {}", source.major()));
    }
    let outcome = settings(source, findings).await;
    findings.ran("source_settings", outcome);
    let outcome = service(source, "source_service", findings).await;
    findings.ran("source_service", outcome);
    rights::source(postgres, source, findings).await;
}

/// Names who runs a server, where it is not its owner, and the roles that stay there.
async fn service(side: &Side, check: &'static str, findings: &mut Findings) -> Result<()> {
    let facts = side.facts;
    if !facts.service().is_managed() {
        findings.ok(check, "no managed service is known by its roles: a server of one's own");
        return Ok(());
    }
    let roles = service::roles(&side.session).await?;
    let evidence = format!("{}; its roles are neither made nor granted elsewhere: {}", facts.service(), named(&roles));
    findings.ok(check, evidence);
    Ok(())
}

async fn settings(source: &Side, findings: &mut Findings) -> Result<()> {
    let row = source
        .session
        .query_one(
            "SELECT current_setting('wal_level'),
                (SELECT count(*) FROM pg_catalog.pg_replication_slots),
                (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'walsender'),
                current_setting('max_slot_wal_keep_size'),
                coalesce(current_setting('idle_replication_slot_timeout', true), '0'),
                pg_catalog.pg_is_in_recovery(),
                pg_catalog.pg_size_pretty(pg_catalog.pg_database_size(current_database())),
                current_setting('max_replication_slots')::bigint, current_setting('max_wal_senders')::bigint",
            &[],
        )
        .await
        .map_err(|error| failed("the source's settings cannot be read", error))?;
    let text =
        |column: usize| row.try_get::<_, String>(column).map_err(|error| failed("a setting cannot be read", error));
    let number =
        |column: usize| row.try_get::<_, i64>(column).map_err(|error| failed("a setting cannot be read", error));
    let facts = source.facts;
    if text(0)? == "logical" {
        findings.ok("wal_level", "logical");
    } else {
        let (words, fix) = facts.setting("wal_level", "logical", true);
        findings.error("wal_level", format!("wal_level is {} on the source", text(0)?), &words, fix);
    }
    for (name, used, all) in
        [("max_replication_slots", number(1)?, number(7)?), ("max_wal_senders", number(2)?, number(8)?)]
    {
        let free = all - used;
        if free >= SLOTS_NEEDED {
            findings.ok(name, format!("{free} free on the source"));
        } else {
            let (words, fix) = facts.setting(name, &(used + SLOTS_NEEDED).max(SLOTS_SET).to_string(), true);
            findings.error(
                name,
                format!("{free} free on the source, {SLOTS_NEEDED} needed"),
                &format!("drop unused slots, or raise it: {words}"),
                fix,
            );
        }
    }
    if text(3)? == "-1" {
        findings.ok("max_slot_wal_keep_size", "the source keeps all changes that a slot needs");
    } else {
        let (words, fix) = facts.setting("max_slot_wal_keep_size", "-1", false);
        findings.warning(
            "max_slot_wal_keep_size",
            format!("the source drops changes that a slot needs beyond {}", text(3)?),
            &format!(
                "a migration that lags more than this must start again; remove the limit for its duration: {words}"
            ),
            fix,
        );
    }
    if !matches!(text(4)?.as_str(), "0" | "0s" | "0min") {
        let (words, fix) = facts.setting("idle_replication_slot_timeout", "0", false);
        findings.warning(
            "idle_replication_slot_timeout",
            format!("the source drops a slot that is not used for {}", text(4)?),
            &format!("a long copy leaves the slot unused; switch the limit off for its duration: {words}"),
            fix,
        );
    }
    if row.try_get::<_, bool>(5).map_err(|error| failed("a setting cannot be read", error))? {
        findings.error(
            "source_primary",
            "the source is a standby",
            "point the cluster at the primary: the fence must stop its writers",
            "",
        );
    } else {
        findings.ok("source_primary", "the source is a primary");
    }
    let evidence =
        format!("the source's database takes {}; the free room on the target cannot be asked for over SQL", text(6)?);
    findings.ok("disk_room", evidence);
    Ok(())
}

pub(super) async fn target(postgres: &Postgres, source: Option<&Side>, target: &Side, findings: &mut Findings) {
    let evidence = format!("{:?}, version {}", postgres.target(), target.version);
    findings.ok("target_reachable", evidence);
    if target.has_database {
        findings.ok("target_database", format!("{} exists", postgres.target().database));
    } else {
        findings.ok("target_database", format!("{} will be created", postgres.target().database));
    }
    let outcome = service(target, "target_service", findings).await;
    findings.ran("target_service", outcome);
    rights::target(postgres, source, target, findings).await;
    let outcome = target_settings(target, findings).await;
    findings.ran("target_settings", outcome);
}

async fn target_settings(target: &Side, findings: &mut Findings) -> Result<()> {
    let row = target
        .session
        .query_one(
            "SELECT pg_catalog.pg_size_bytes(current_setting('max_wal_size')) < 2147483648,
                    current_setting('max_wal_size'), pg_catalog.pg_is_in_recovery()",
            &[],
        )
        .await
        .map_err(|error| failed("the target's settings cannot be read", error))?;
    let flag = |column| row.try_get::<_, bool>(column).map_err(|error| failed("a setting cannot be read", error));
    if flag(0)? {
        let size: String = row.try_get(1).map_err(|error| failed("a setting cannot be read", error))?;
        let (words, fix) = target.facts.setting("max_wal_size", "8GB", false);
        findings.warning(
            "max_wal_size",
            format!("max_wal_size is {size} on the target"),
            &format!("the load writes checkpoint after checkpoint, and is faster with more: {words}"),
            fix,
        );
    } else {
        findings.ok("max_wal_size", "large enough on the target");
    }
    if flag(2)? {
        findings.error("target_primary", "the target is a standby", "point the cluster at the primary", "");
    } else {
        findings.ok("target_primary", "the target is a primary");
    }
    Ok(())
}

/// The client programs must understand the source; where they are older than the target, new features are unknown to them.
pub(super) async fn tools(postgres: &Postgres, source: Option<&Side>, target: Option<&Side>, findings: &mut Findings) {
    let programs = [("pg_dump", &postgres.tools().pg_dump), ("pg_restore", &postgres.tools().pg_restore)];
    for (name, program) in programs {
        let wanted = target.or(source).map_or(18, Side::major);
        let install = format!("apt-get install postgresql-client-{wanted}, or configure where newer programs are");
        let major = match tools::major(program).await {
            Ok(major) => i32::try_from(major).unwrap_or(i32::MAX),
            Err(failure) => {
                findings.error(name, failure.full_text(), &install, "");
                continue;
            }
        };
        if source.is_some_and(|source| major < source.major()) {
            findings.error(name, format!("{name} is version {major}, older than the source"), &install, "");
        } else if target.is_some_and(|target| major < target.major()) {
            findings.warning(name, format!("{name} is version {major}, older than the target"), &install, "");
        } else {
            findings.ok(name, format!("version {major}"));
        }
    }
}
