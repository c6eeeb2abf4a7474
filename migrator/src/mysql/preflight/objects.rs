//! Checks of what is beside tables: programs and their definers, other databases, what is in the way.

use super::super::catalogue::{ask, listed};
use super::super::records::{self, Part};
use super::super::sql::quote_ident;
use super::super::{Mysql, RECORDS};
use super::Side;
use crate::error::Result;
use crate::preflight::{Findings, Level};

pub(super) async fn source(mysql: &Mysql, source: &mut Side, findings: &mut Findings) {
    let outcome = programs(mysql, source, findings).await;
    findings.ran("programs", outcome);
    let outcome = definers(mysql, source, findings).await;
    findings.ran("definers", outcome);
    let outcome = databases(mysql, source, findings).await;
    findings.ran("source_databases", outcome);
}

async fn programs(mysql: &Mysql, source: &mut Side, findings: &mut Findings) -> Result<()> {
    let databases = listed(mysql);
    let rows = ask(
        &mut source.session,
        &format!(
            "SELECT (SELECT COUNT(*) FROM information_schema.VIEWS WHERE TABLE_SCHEMA IN ({databases})),
                 (SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA IN ({databases})),
                 (SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA IN ({databases})),
                 (SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA IN ({databases})),
                 (SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA IN ({databases}) AND STATUS = 'ENABLED')"
        ),
        "cannot count the source's programs",
    )
    .await?;
    let Some(row) = rows.first() else {
        return Ok(());
    };
    findings.ok(
        "programs",
        format!(
            "{} views and {} routines; {} triggers, which come with the switch; {} events, of which {} run after it",
            row.text(0),
            row.text(1),
            row.text(2),
            row.text(3),
            row.text(4)
        ),
    );
    Ok(())
}

/// What runs as an account that does not exist fails when it is used, on the target as on the source.
async fn definers(mysql: &Mysql, source: &mut Side, findings: &mut Findings) -> Result<()> {
    let databases = listed(mysql);
    let found = source
        .pairs(&format!(
            "SELECT CONCAT(d.what, ' runs as ', d.definer, ', which is no account'), '' FROM (
                 SELECT CONCAT('the view ', TABLE_SCHEMA, '.', TABLE_NAME) what, DEFINER definer, SECURITY_TYPE security
                     FROM information_schema.VIEWS WHERE TABLE_SCHEMA IN ({databases})
                 UNION ALL SELECT CONCAT('the routine ', ROUTINE_SCHEMA, '.', ROUTINE_NAME), DEFINER, SECURITY_TYPE
                     FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA IN ({databases})
                 UNION ALL SELECT CONCAT('the trigger ', TRIGGER_SCHEMA, '.', TRIGGER_NAME), DEFINER, 'DEFINER'
                     FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA IN ({databases})
                 UNION ALL SELECT CONCAT('the event ', EVENT_SCHEMA, '.', EVENT_NAME), DEFINER, 'DEFINER'
                     FROM information_schema.EVENTS WHERE EVENT_SCHEMA IN ({databases})) d
             WHERE d.security = 'DEFINER' AND NOT EXISTS (
                 SELECT 1 FROM mysql.user u WHERE CONVERT(CONCAT(u.User, '@', u.Host) USING utf8) = CONVERT(d.definer USING utf8))
             LIMIT 100"
        ))
        .await?;
    findings.each(
        "definers",
        Level::Warning,
        &found,
        "create the account, or let it run as another",
        "every program runs as an account that exists",
    );
    Ok(())
}

/// The fence stops the whole server, not only the databases that move.
async fn databases(mysql: &Mysql, source: &mut Side, findings: &mut Findings) -> Result<()> {
    let rows = ask(
        &mut source.session,
        "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN
             ('mysql', 'information_schema', 'performance_schema', 'sys', 'test') ORDER BY 1",
        "cannot read the source's databases",
    )
    .await?;
    let there: Vec<String> = rows.iter().map(|row| row.owned(0)).collect();
    let moving = mysql.databases();
    let absent: Vec<_> = moving
        .iter()
        .filter(|name| !there.contains(name))
        .map(|name| {
            (
                format!("there is no database {name} on the source"),
                String::new(),
            )
        })
        .collect();
    let remedy =
        "see that the route's database, or the schemas of the migration, are the ones meant";
    findings.each(
        "source_databases",
        Level::Error,
        &absent,
        remedy,
        &moving.join(", "),
    );
    let others: Vec<&str> = there
        .iter()
        .filter(|name| *name != RECORDS && !moving.contains(name))
        .map(String::as_str)
        .collect();
    if others.is_empty() {
        findings.ok("other_databases", "the source has no other database");
    } else {
        let all: Vec<&str> = moving
            .iter()
            .map(String::as_str)
            .chain(others.iter().copied())
            .collect();
        findings.warning(
            "other_databases",
            format!(
                "these databases do not move and become read-only at the cutover: {}",
                others.join(", ")
            ),
            "move them in the same migration, or see that nobody writes to them by then",
            format!("CREATE MIGRATION … WITH (schemas = '{}')", all.join(", ")),
        );
    }
    Ok(())
}

pub(super) async fn target(mysql: &Mysql, target: &mut Side, findings: &mut Findings) {
    let outcome = conflicts(mysql, target, findings).await;
    findings.ran("target_objects", outcome);
}

async fn conflicts(mysql: &Mysql, target: &mut Side, findings: &mut Findings) -> Result<()> {
    const NAME: &str = "target_objects";
    if begun(mysql, target).await? {
        findings.ok(NAME, "what is there was put there by this migration");
        return Ok(());
    }
    let databases = listed(mysql);
    let rows = ask(
        &mut target.session,
        &format!(
            "SELECT schema_name, COUNT(*) FROM (
                 SELECT TABLE_SCHEMA schema_name FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({databases})
                 UNION ALL SELECT ROUTINE_SCHEMA FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA IN ({databases})
                 UNION ALL SELECT EVENT_SCHEMA FROM information_schema.EVENTS WHERE EVENT_SCHEMA IN ({databases})) there
             GROUP BY schema_name"
        ),
        "cannot read the target's databases",
    )
    .await?;
    let found: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                format!(
                    "the database {} on the target holds {} tables, views, routines or events",
                    row.text(0),
                    row.text(1)
                ),
                format!("DROP DATABASE {}", quote_ident(row.text(0))),
            )
        })
        .collect();
    findings.each(
        NAME,
        Level::Error,
        &found,
        "drop what is in the way after making sure that nobody needs it, or name another cluster",
        "nothing on the target is in the way",
    );
    Ok(())
}

/// Whether the target has records of this migration, so that what else it has is the migration's.
async fn begun(mysql: &Mysql, target: &mut Side) -> Result<bool> {
    let query = format!(
        "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{RECORDS}' AND TABLE_NAME = 'migrations'"
    );
    let there = ask(
        &mut target.session,
        &query,
        "cannot look for Headgate's records",
    )
    .await?;
    if there.is_empty() {
        return Ok(false);
    }
    Ok(records::part(mysql, &mut target.session, "pre_data").await? != Part::Waiting)
}
