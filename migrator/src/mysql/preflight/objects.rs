//! Checks of what is beside tables: programs and their definers, other databases, what is in the way.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Mysql;
use super::super::catalogue::{ask, listed};
use super::super::rights::Held;
use super::super::sql::quote_ident;
use super::rights;
use super::side::Side;
use crate::error::Result;
use crate::mysql::context::RECORDS;
use crate::mysql::records;
use crate::mysql::records::Part;
use crate::mysql::schema::accounts;
use crate::mysql::schema::accounts::account::Account;
use crate::preflight::{Check, Findings, Level};
use crate::rights::Side as Which;

pub(super) async fn source(mysql: &Mysql, source: &mut Side, findings: &mut Findings) {
    let outcome = programs(mysql, source, findings).await;
    findings.ran("programs", outcome);
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

/// What runs as an account that does not exist fails when it is used. What the source refuses too is nothing new.
pub(super) async fn definers(
    mysql: &Mysql,
    source: &mut Side,
    target: &mut Side,
    findings: &mut Findings,
) -> Result<()> {
    const NAME: &str = "definers";
    let databases = listed(mysql);
    let rows = source
        .pairs(&format!(
            "SELECT d.definer, d.what FROM (
                 SELECT CONCAT('the view ', TABLE_SCHEMA, '.', TABLE_NAME) what, DEFINER definer, SECURITY_TYPE security
                     FROM information_schema.VIEWS WHERE TABLE_SCHEMA IN ({databases})
                 UNION ALL SELECT CONCAT('the routine ', ROUTINE_SCHEMA, '.', ROUTINE_NAME), DEFINER, SECURITY_TYPE
                     FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA IN ({databases})
                 UNION ALL SELECT CONCAT('the trigger ', TRIGGER_SCHEMA, '.', TRIGGER_NAME), DEFINER, 'DEFINER'
                     FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA IN ({databases})
                 UNION ALL SELECT CONCAT('the event ', EVENT_SCHEMA, '.', EVENT_NAME), DEFINER, 'DEFINER'
                     FROM information_schema.EVENTS WHERE EVENT_SCHEMA IN ({databases})) d
             WHERE d.security = 'DEFINER' ORDER BY 1, 2"
        ))
        .await?;
    let mut by_definer: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (definer, what) in rows {
        by_definer.entry(definer).or_default().push(what);
    }
    let there = accounts::all(&mut source.session).await?;
    let mut to_be: BTreeSet<_> = accounts::all(&mut target.session).await?.iter().map(Account::key).collect();
    let offered = accounts::plugins(&mut target.session).await?;
    to_be.extend(
        accounts::read(mysql, &mut source.session)
            .await?
            .iter()
            .filter(|account| accounts::is_possible(mysql, account, &offered))
            .map(Account::key),
    );
    let (mut nowhere, mut only_there) = (Vec::new(), Vec::new());
    for (definer, programs) in &by_definer {
        // A role of MariaDB has no host, and is one of any host on MySQL.
        let (user, host) = definer.rsplit_once('@').unwrap_or((definer, ""));
        let host = if host.is_empty() { "%" } else { host };
        let key = (user.to_owned(), host.to_lowercase());
        let first = programs.first().map_or("", String::as_str);
        let what = match programs.len() {
            1 => format!("{first} runs as {definer}"),
            count => format!("{first} and {} others run as {definer}", count - 1),
        };
        if !there.iter().any(|account| account.key() == key) {
            nowhere.push((format!("{what}, which is no account"), String::new()));
        } else if !to_be.contains(&key) {
            let account = format!("{}@{}", quote_ident(user), quote_ident(host));
            let mut fix = vec![format!("CREATE USER {account} ACCOUNT LOCK")];
            fix.extend(mysql.databases().iter().map(|database| {
                format!("GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON {}.* TO {account}", quote_ident(database))
            }));
            // It would be the one by which others of its name log in from its host.
            if to_be.iter().any(|(other, _)| other == user) {
                fix.clear();
            }
            only_there
                .push((format!("{what}, which is no account of the target and does not come along"), fix.join("; ")));
        }
    }
    if nowhere.is_empty() && only_there.is_empty() {
        findings.ok(NAME, "every program runs as an account that exists");
    }
    for (level, found, remedy) in [
        (Level::Warning, nowhere, "create the account, or let it run as another"),
        (
            Level::Error,
            only_there,
            "create the account on the target, locked unless somebody of its name logs in from its host; or let it run as another on the source",
        ),
    ] {
        for (evidence, fix) in found {
            findings.checks.push(Check::new(NAME, level, evidence, remedy, fix));
        }
    }
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
        .map(|name| (format!("there is no database {name} on the source"), String::new()))
        .collect();
    let remedy = "see that the route's database, or the schemas of the migration, are the ones meant";
    findings.each("source_databases", Level::Error, &absent, remedy, &moving.join(", "));
    let others: Vec<&str> =
        there.iter().filter(|name| *name != RECORDS && !moving.contains(name)).map(String::as_str).collect();
    let held = Held::read(&mut source.session).await?;
    let lacking = held.lacking(Which::Source, source.version, &moving);
    let unseen = rights::of(&lacking, "source_databases", &held.account, Which::Source);
    for (evidence, fix) in &unseen {
        let remedy = "it cannot be known otherwise which databases do not move and become read-only at the cutover";
        findings.warning("source_databases", evidence, remedy, fix);
    }
    if others.is_empty() && unseen.is_empty() {
        findings.ok("other_databases", "the source has no other database");
    }
    if !others.is_empty() {
        let all: Vec<&str> = moving.iter().map(String::as_str).chain(others.iter().copied()).collect();
        findings.warning(
            "other_databases",
            format!("these databases do not move and become read-only at the cutover: {}", others.join(", ")),
            "move them in the same migration, or see that nobody writes to them by then",
            format!("CREATE MIGRATION … WITH (schemas = '{}')", all.join(", ")),
        );
    }
    Ok(())
}

/// What the target's databases are to what moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// There is nothing in them.
    Free,
    /// Others have something there, or it cannot be known.
    Taken,
    /// The migration has put its schema there.
    Built,
}

pub(super) async fn target(mysql: &Mysql, target: &mut Side, findings: &mut Findings) -> Place {
    match conflicts(mysql, target, findings).await {
        Ok(place) => place,
        Err(failure) => {
            findings.ran("target_objects", Err(failure));
            Place::Taken
        }
    }
}

async fn conflicts(mysql: &Mysql, target: &mut Side, findings: &mut Findings) -> Result<Place> {
    const NAME: &str = "target_objects";
    if begun(mysql, target).await? {
        findings.ok(NAME, "what is there was put there by this migration");
        return Ok(Place::Built);
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
        "drop what is in the way after making sure that nobody needs it, or name another cluster; what a migration made \
         goes with it by DROP MIGRATION … WITH (target_objects = 'drop')",
        "nothing on the target is in the way",
    );
    Ok(if found.is_empty() { Place::Free } else { Place::Taken })
}

/// Whether the target has records of this migration, so that what else it has is the migration's.
async fn begun(mysql: &Mysql, target: &mut Side) -> Result<bool> {
    Ok(records::are_there(&mut target.session).await?
        && records::part(mysql, &mut target.session, "pre_data").await? != Part::Waiting)
}
