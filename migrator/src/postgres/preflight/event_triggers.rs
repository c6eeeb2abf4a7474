//! The source's event triggers, by trying: what Headgate will create is created in transactions that are rolled back, and
//! the server tells whether a trigger refuses it, and what it writes meanwhile.

use tokio_postgres::Client;

use super::super::Postgres;
use super::super::client;
use super::super::client::failed;
use super::super::plan::OURS_TO_MOVE;
use super::side::{Side, one};
use crate::error::Result;
use crate::preflight::{Findings, Level};

const NAME: &str = "event_triggers";
/// The ways of firing in a session that is no replica.
const ON_ORIGIN: &str = "'O', 'A'";
/// What a migration creates on the source, in small.
const CREATED: &str = "CREATE SCHEMA headgate_trial; CREATE TABLE headgate_trial.t ();
    CREATE FUNCTION headgate_trial.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';";
const PUBLISHED: &str = "CREATE PUBLICATION headgate_trial FOR TABLE headgate_trial.t;
    DROP PUBLICATION headgate_trial;";
const FENCED: &str = "CREATE TRIGGER t BEFORE INSERT ON headgate_trial.t
    FOR EACH STATEMENT EXECUTE FUNCTION headgate_trial.f();
    DROP TRIGGER t ON headgate_trial.t;";

pub(super) async fn run(postgres: &Postgres, source: &Side, findings: &mut Findings) {
    let outcome = tried(postgres, &source.session, findings).await;
    findings.ran(NAME, outcome);
}

async fn tried(postgres: &Postgres, session: &Client, findings: &mut Findings) -> Result<()> {
    if enabled(session, "'O', 'A', 'R'").await?.is_empty() {
        findings.ok(NAME, "the source has no event trigger");
        return Ok(());
    }
    let replica = client::as_replica(session).await?;
    if replica {
        session
            .batch_execute("RESET session_replication_role")
            .await
            .map_err(|error| failed("a check could not run", error))?;
    }
    let (role, in_fence) =
        if replica { ("SET LOCAL session_replication_role = replica;", "'R', 'A'") } else { ("", ON_ORIGIN) };
    let mut reported = Vec::new();
    if let Err(refusal) = attempt(session, postgres, &format!("{CREATED}{PUBLISHED}")).await {
        reported.push((refusal, ON_ORIGIN));
    }
    match attempt(session, postgres, &format!("{role}{CREATED}{FENCED}")).await {
        Err(refusal) => reported.push((refusal, in_fence)),
        Ok(written) if written.is_empty() => {}
        Ok(written) => {
            let so = if replica {
                "behind the marker: what it writes there is not moved"
            } else {
                "which the fence refuses"
            };
            let tables = written.join(", ");
            reported.push((format!("creating the fence's triggers writes to {tables}, {so}"), in_fence));
        }
    }
    let mut rows = Vec::new();
    for (what, ways) in reported {
        for name in enabled(session, ways).await? {
            rows.push((
                format!("the event trigger {name} is enabled: {what}"),
                format!("ALTER EVENT TRIGGER {name} DISABLE"),
            ));
        }
    }
    rows.dedup_by(|one, other| one.1 == other.1);
    findings.each(
        NAME,
        Level::Error,
        &rows,
        "disable it for the time of the migration, or let it pass over the schema headgate and what is created there",
        "the source's event triggers let Headgate create what it needs and write to no table that is fenced: tried",
    );
    Ok(())
}

/// Creates all this in a transaction that is rolled back. Returns the tables of the migration that were written to, or
/// what the server said.
async fn attempt(session: &Client, postgres: &Postgres, statements: &str) -> Result<Vec<String>, String> {
    let limits = "BEGIN; SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '10s';";
    let written = format!(
        "SELECT coalesce(array_agg(format('%I.%I', n.nspname, c.relname) ORDER BY 1), '{{}}')
         FROM pg_catalog.pg_stat_xact_user_tables s
         JOIN pg_catalog.pg_class c ON c.oid = s.relid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE s.n_tup_ins + s.n_tup_upd + s.n_tup_del > 0 AND n.nspname <> 'headgate_trial' AND {OURS_TO_MOVE}"
    );
    let what = "cannot create what a migration needs on the source";
    let outcome = match session.batch_execute(&format!("{limits}{statements}")).await {
        Ok(()) => one(session, &written, &[&postgres.settings().schemas]).await.map_err(|failure| failure.full_text()),
        Err(error) => Err(failed(what, error).full_text()),
    };
    match session.batch_execute("ROLLBACK").await {
        Ok(()) => outcome,
        Err(error) => Err(failed(what, error).full_text()),
    }
}

/// The quoted names of event triggers that fire in one of these ways.
async fn enabled(session: &Client, ways: &str) -> Result<Vec<String>> {
    one(
        session,
        &format!(
            "SELECT coalesce(array_agg(quote_ident(evtname) ORDER BY evtname), '{{}}')
             FROM pg_catalog.pg_event_trigger WHERE evtenabled IN ({ways})"
        ),
        &[],
    )
    .await
}
