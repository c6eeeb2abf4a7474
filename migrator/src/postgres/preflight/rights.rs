//! Checks of what Headgate's own roles may do on both servers.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::super::client::failed;
use super::super::rights::{self, For};
use super::super::sql::{quote_ident, quote_literal};
use super::super::{Postgres, schema};
use super::side::{Side, one, pairs};
use crate::error::Result;
use crate::postgres::schema::{properties, roles, set_aside};
use crate::postgres::service;
use crate::postgres::{fence, plan};
use crate::preflight::{Findings, Level};
use crate::rights::{Grant, Side as Which};
use crate::service::Service;

const LISTED_MAX: usize = 100;

/// The grant that lets one connect, where it is that which lacks.
pub(super) fn to_connect(postgres: &Postgres, failure: &crate::Error) -> String {
    let code = SqlState::INSUFFICIENT_PRIVILEGE;
    if !failure.full_text().contains(code.code()) {
        return String::new();
    }
    // Nobody was asked who runs it: this right is the same everywhere.
    let whose = For::own(postgres, Which::Source, Service::Own);
    rights::statement(Which::Source, rights::NEWEST, "source_reachable", whose)
}

/// What lets verifiers be read on both sides, as far as it lacks: in words, and the statement where there is one.
pub(super) fn to_read_passwords(
    postgres: &Postgres,
    (source, readable_there): (&Side, bool),
    (target, readable_here): (&Side, bool),
) -> (String, String) {
    let sides = [
        (readable_there, source, Which::Source, "source_passwords"),
        (readable_here, target, Which::Target, "target_passwords"),
    ];
    let Some((_, side, which, check)) = sides.into_iter().find(|(readable, ..)| !readable) else {
        return Default::default();
    };
    let facts = side.facts;
    let whose = For::own(postgres, which, facts.service());
    let statement = rights::statement(which, rights::NEWEST, check, whose);
    let log_in = "let its client log in through Headgate, over TLS";
    let words = match (statement.is_empty(), facts.verifiers) {
        (false, _) => "let the migrator read pg_authid on both sides".to_owned(),
        (true, "") => format!("{} lets nobody read pg_authid: {log_in}", facts.service()),
        (true, words) => format!("on {}, {words}, or {log_in}", facts.service()),
    };
    (words, statement)
}

/// What the role lacks of the rights that this check is about, as (evidence, fix).
fn of(lacking: &[Grant], check: &str, who: &str, which: Which) -> Vec<(String, String)> {
    let rows = lacking.iter().filter(|grant| grant.check == check);
    rows.map(|grant| {
        let evidence = format!("{who} may not {} on the {}", grant.what, which.name());
        (evidence, grant.statement.clone())
    })
    .collect()
}

pub(super) async fn source(postgres: &Postgres, source: &Side, findings: &mut Findings) {
    let outcome = on_source(postgres, source, findings).await;
    findings.ran("source_rights", outcome);
}

async fn on_source(postgres: &Postgres, source: &Side, findings: &mut Findings) -> Result<()> {
    let lacking = rights::lacking(postgres, &source.session, Which::Source).await?;
    let service = source.facts.service();
    let who = &postgres.source().user;
    let rows = |check| of(&lacking, check, who, Which::Source);
    let mut lacks: Vec<_> = rows("source_rights");
    // Each object by name, with a statement for it alone.
    lacks.retain(|(_, fix)| !fix.starts_with("DO "));
    lacks.extend(objects(postgres, source).await?);
    findings.each(
        "source_rights",
        Level::Error,
        &lacks,
        rights::REMEDY,
        "the migrator's role has the rights it needs on the source",
    );
    for (check, level, ok) in [
        ("source_sessions", Level::Error, "the migrator's role can see what other sessions do"),
        ("source_passwords", Level::Warning, "the migrator's role can read the verifiers of passwords"),
        ("source_user_mappings", Level::Warning, "the migrator's role can read the options of every user mapping"),
        (
            "source_origins",
            Level::Warning,
            "the migrator's role can see whether other replication writes to the source",
        ),
    ] {
        for grant in lacking.iter().filter(|grant| grant.check == check) {
            findings.checks.push(crate::preflight::Check::new(
                check,
                level,
                format!("{who} may not {} on the source: {}", grant.what, grant.without),
                rights::remedy(grant, service),
                grant.statement.clone(),
            ));
        }
        if rows(check).is_empty() {
            findings.ok(check, ok);
        }
    }
    let deadlock = source.session.batch_execute("SET deadlock_timeout = '5ms'; RESET deadlock_timeout").await.is_ok();
    if deadlock {
        findings.ok("deadlock_timeout", "the fence may make autovacuum give way at once");
    } else {
        let fix = rows("deadlock_timeout").into_iter().next();
        findings.warning(
            "deadlock_timeout",
            format!("{who} may not set deadlock_timeout on the source"),
            "the fence may wait a second where autovacuum works on a table",
            // Before version 15 nobody but superusers may set it: that is more than this needs.
            fix.map_or_else(String::new, |(_, fix)| fix),
        );
    }
    Ok(())
}

/// What of the objects that move is out of the role's reach, as (evidence, fix).
async fn objects(postgres: &Postgres, source: &Side) -> Result<Vec<(String, String)>> {
    let of_service: Vec<String> =
        service::roles(&source.session).await?.iter().map(|name| quote_literal(name)).collect();
    // Owners whose members may do more than the owner.
    let not_to_join =
        format!("o.rolsuper OR o.rolname ~ '^pg_' OR o.rolname = ANY (ARRAY[{}]::text[])", of_service.join(", "));
    let user = quote_ident(&postgres.source().user);
    let user_text = quote_literal(&user);
    let query = For::own(postgres, Which::Source, Service::Own).fill(&format!(
        "SELECT format('own the table %s', string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid)),
             format('GRANT %I TO %s', o.rolname, {user_text})
         FROM {{moving}} AND c.relkind IN ('r', 'p') AND NOT pg_has_role(c.relowner, 'USAGE') AND NOT ({not_to_join})
         GROUP BY o.rolname
         UNION ALL SELECT format('own the table %s', c.oid::regclass),
             format('ALTER TABLE %s OWNER TO %s', c.oid::regclass, {user_text})
         FROM {{moving}} AND c.relkind IN ('r', 'p') AND NOT pg_has_role(c.relowner, 'USAGE') AND ({not_to_join})
         UNION ALL SELECT DISTINCT format('find anything in the schema %I', n.nspname),
             format('GRANT USAGE ON SCHEMA %I TO %s', n.nspname, {user_text})
         FROM {{moving}} AND c.relkind IN ('r', 'p', 'S') AND NOT has_schema_privilege(n.oid, 'USAGE')
         UNION ALL SELECT format('read the sequence %I.%I', n.nspname, c.relname),
             format('GRANT SELECT ON SEQUENCE %I.%I TO %s', n.nspname, c.relname, {user_text})
         FROM {{moving}} AND c.relkind = 'S' AND NOT has_table_privilege(c.oid, 'SELECT')
         LIMIT {LISTED_MAX}"
    ));
    let rows = pairs(&source.session, &query, &[]).await?;
    let who = &postgres.source().user;
    let rows = rows.into_iter();
    Ok(rows.map(|(what, fix)| (format!("{who} may not {what} on the source"), fix)).collect())
}

pub(super) async fn target(postgres: &Postgres, source: Option<&Side>, target: &Side, findings: &mut Findings) {
    let outcome = on_target(postgres, source, target, findings).await;
    findings.ran("target_rights", outcome);
}

async fn on_target(postgres: &Postgres, source: Option<&Side>, target: &Side, findings: &mut Findings) -> Result<()> {
    let lacking = rights::lacking(postgres, &target.session, Which::Target).await?;
    let who = &postgres.target().user;
    let superuser: bool =
        one(&target.session, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user", &[]).await?;
    if !superuser && !target.has_database {
        // Rights to functions are kept in a database, and one that is made anew has none.
        let fix = match source {
            Some(source) => schema::database::creation(&postgres.target().database, Some(who), &source.session).await?,
            None => String::new(),
        };
        findings.error(
            "target_database",
            format!(
                "the database {} is not there, and nobody but a superuser has the rights that are needed in one that \
                is made at the start",
                postgres.target().database
            ),
            "create it, and run there what headgate grants prints",
            fix,
        );
        return Ok(());
    }
    findings.each(
        "target_rights",
        Level::Error,
        &of(&lacking, "target_rights", who, Which::Target),
        rights::REMEDY,
        "the migrator's role has the rights it needs on the target",
    );
    let mapped: bool = match source {
        Some(source) => one(&source.session, "SELECT EXISTS (SELECT FROM pg_catalog.pg_user_mappings)", &[]).await?,
        None => false,
    };
    let service = target.facts.service();
    for grant in lacking.iter().filter(|grant| {
        ["target_passwords", "target_origins", "target_triggers"].contains(&grant.check)
            || mapped && grant.check == "target_user_mappings"
    }) {
        findings.warning(
            grant.check,
            format!("{who} may not {} on the target: {}", grant.what, grant.without),
            &rights::remedy(grant, service),
            grant.statement.clone(),
        );
    }
    let Some(source) = source else { return Ok(()) };
    if lacking.iter().any(|grant| grant.check == "target_triggers") {
        keys_in_the_way("target_triggers", source, target, (postgres, who), findings).await?;
    }
    let forced: Vec<String> = one(
        &source.session,
        "SELECT coalesce(array_agg(oid::regclass::text), '{}') FROM pg_catalog.pg_class WHERE relforcerowsecurity",
        &[],
    )
    .await?;
    let rows: Vec<_> =
        if forced.is_empty() { Vec::new() } else { of(&lacking, "target_row_security", who, Which::Target) };
    findings.each(
        "target_row_security",
        Level::Error,
        &rows,
        rights::REMEDY,
        "no policy keeps rows from the migrator on the target",
    );
    // Where more than that lacks, it is known once that is granted.
    if target.has_database && !lacking.iter().any(|grant| grant.check == "target_rights") {
        let refused = tried(postgres, &source.session, &target.session, &lacking).await?;
        findings.each(
            "target_roles",
            Level::Error,
            &refused,
            "grant the right, or run the statement on the target as a superuser",
            "the roles of the source, and what they and the database have beside objects, can be carried over: it was tried, \
             and undone",
        );
    }
    Ok(())
}

/// Foreign keys of the source that its version of the target cannot put back in the hold.
async fn keys_in_the_way(
    check: &'static str,
    source: &Side,
    target: &Side,
    (postgres, who): (&Postgres, &str),
    findings: &mut Findings,
) -> Result<()> {
    let tables = fence::fenced(&plan::read(postgres).await?);
    for key in set_aside::in_the_way(&source.session, target.version, &tables).await? {
        findings.error(
            check,
            format!(
                "{who} may not set session_replication_role, and version {} cannot set aside the foreign key {key} of a \
                 partitioned table while changes are applied",
                target.major()
            ),
            "let the migrator set session_replication_role there, or drop the key for the time of the migration",
            "",
        );
    }
    Ok(())
}

/// Does what the start does with roles and properties, each step by itself, in a transaction that is rolled back.
async fn tried(
    postgres: &Postgres,
    source: &Client,
    target: &Client,
    lacking: &[Grant],
) -> Result<Vec<(String, String)>> {
    run(target, "BEGIN").await?;
    let mut refused = Vec::new();
    let outcome = steps(postgres, source, target, lacking, &mut refused).await;
    run(target, "ROLLBACK").await?;
    outcome.map(|()| refused)
}

async fn steps(
    postgres: &Postgres,
    source: &Client,
    target: &Client,
    lacking: &[Grant],
    refused: &mut Vec<(String, String)>,
) -> Result<()> {
    let steps = roles::missing(postgres, source, target).await?;
    attempt(target, &steps, lacking, refused).await?;
    let steps = properties::missing(postgres, source, target).await?;
    attempt(target, &steps, lacking, refused).await
}

async fn attempt(
    target: &Client,
    steps: &[roles::Step],
    lacking: &[Grant],
    refused: &mut Vec<(String, String)>,
) -> Result<()> {
    for step in steps {
        run(target, "SAVEPOINT one").await?;
        let Err(error) = target.batch_execute(&step.statement).await else {
            run(target, "RELEASE SAVEPOINT one").await?;
            continue;
        };
        run(target, "ROLLBACK TO SAVEPOINT one").await?;
        if refused.len() >= LISTED_MAX {
            continue;
        }
        // A role that could not be made is told once, and not with everything that it has.
        if error.code() == Some(&SqlState::UNDEFINED_OBJECT) && !refused.is_empty() {
            continue;
        }
        let gives = step.fix.starts_with("ALTER DATABASE") && step.fix.contains(" OWNER TO ");
        let needed = if gives { "schema_trial" } else { "target_roles" };
        let fix = lacking
            .iter()
            .find(|grant| grant.check == needed)
            .map(|grant| grant.statement.clone())
            .or_else(|| {
                let parameter =
                    error.as_db_error().is_some_and(|reported| reported.message().contains("set parameter"));
                step.parameter.clone().filter(|_| parameter)
            })
            .unwrap_or_else(|| step.fix.clone());
        let failure = failed(&format!("the migrator cannot carry over {}", step.what), error);
        let row = (failure.full_text(), fix);
        if !refused.iter().any(|(_, fix)| !fix.is_empty() && *fix == row.1) {
            refused.push(row);
        }
    }
    Ok(())
}

async fn run(session: &Client, statement: &str) -> Result<()> {
    session.batch_execute(statement).await.map_err(|error| failed("what may be carried over cannot be tried", error))
}
