//! The trial: the whole schema is built without rows in a database of its own on the target's server, so that all that the
//! target refuses is found before anything is copied.

use super::super::client::failed;
use super::super::sql::quote_ident;
use super::super::{Postgres, rights, schema};
use super::side::{Side, one};
use crate::error::Result;
use crate::model::definitions::named;
use crate::postgres::schema::archive::{Archive, extensions};
use crate::preflight::{Findings, Level};
use crate::rights::Side as Which;

const NAME: &str = "schema_trial";
const OF_SUPERUSERS: &str = "only a superuser may create this: let the cluster's user on the target be one for the time of the \
    migration, or drop the object on the source";
/// How many refusals are listed.
const LISTED_MAX: usize = 100;
const REMEDY: &str = "change or drop the object on the source, or give the target what it needs, before the start";

pub(super) async fn run(postgres: &Postgres, source: &Side, target: &Side, findings: &mut Findings) {
    let outcome = attempt(postgres, source, target, findings).await;
    findings.ran(NAME, outcome);
}

async fn attempt(postgres: &Postgres, source: &Side, target: &Side, findings: &mut Findings) -> Result<()> {
    let lacking = rights::lacking(postgres, &target.session, Which::Target).await?;
    if let Some(grant) = lacking.into_iter().find(|grant| grant.check == NAME) {
        findings.warning(
            NAME,
            "it cannot be known what the target refuses of the schema: the migrator may not create a database to try it in",
            "let it create databases for the time of the precheck; else what the target refuses is found at the start",
            grant.statement,
        );
        return Ok(());
    }
    let archive = Archive::fresh(postgres).await?;
    let server = schema::database::connect_maintenance(postgres, postgres.target()).await?;
    let database = format!("headgate_trial_{:016x}", rand::random::<u64>());
    schema::database::create_database(&database, None, &source.session, &server).await?;
    let reported = archive.try_in(postgres, &source.session, &target.session, &database).await;
    let dropped = server
        .batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote_ident(&database)))
        .await
        .map_err(|error| failed("cannot drop the database in which the schema was tried", error));
    let coming = roles_to_come(source, target).await?;
    let mut refusals = refusals(&reported?, &coming);
    // What somebody else created in the target's database need not be created by us, and not everybody may do so.
    let there = if target.has_database { extensions(&target.session).await? } else { Vec::new() };
    let of = |refusal: &Refusal| {
        let rest = refusal.text.strip_prefix("EXTENSION ")?;
        let (name, _) = rest.split_once(" (no owner): ")?;
        there.iter().find(|one| *one == name)
    };
    let absent: Vec<String> = refusals.iter().filter_map(|refusal| of(refusal).cloned()).collect();
    if !absent.is_empty() {
        let (unknown, known): (Vec<_>, Vec<_>) = refusals
            .into_iter()
            .filter(|refusal| of(refusal).is_none())
            .partition(|refusal| refusal.text.contains("does not exist"));
        refusals = known;
        if !unknown.is_empty() {
            let texts: Vec<String> = unknown.into_iter().map(|refusal| refusal.text).collect();
            findings.warning(
                "extensions",
                format!(
                    "it cannot be known whether the target takes what may need the extensions {}, which the migrator may not \
                     create in the database of the trial: {}",
                    absent.join(", "),
                    named(&texts)
                ),
                "they are in the target's database already; what is refused there all the same is told by the start",
                "",
            );
        }
    }
    let (of_superusers, others): (Vec<_>, Vec<_>) = refusals.into_iter().partition(|refusal| refusal.of_superusers);
    let rows = |refusals: Vec<Refusal>| -> Vec<_> {
        let rows = refusals.into_iter();
        rows.map(|refusal| (refusal.text, String::new())).collect()
    };
    if !of_superusers.is_empty() {
        let rows = rows(of_superusers);
        findings.each(NAME, Level::Error, &rows, OF_SUPERUSERS, "");
        if others.is_empty() {
            return dropped;
        }
    }
    findings.each(
        NAME,
        Level::Error,
        &rows(others),
        REMEDY,
        "the target takes the whole schema: it was built there without rows, and dropped again",
    );
    dropped
}

/// Roles that the start creates, so that what lacks them now is no refusal.
async fn roles_to_come(source: &Side, target: &Side) -> Result<Vec<String>> {
    let names = "SELECT coalesce(array_agg(rolname::text), '{}') FROM pg_catalog.pg_roles";
    let there: Vec<String> = one(&source.session, names, &[]).await?;
    let here: Vec<String> = one(&target.session, names, &[]).await?;
    Ok(there.into_iter().filter(|name| !here.contains(name)).collect())
}

/// An entry that the target does not take.
struct Refusal {
    text: String,
    /// Whether it would take it of a superuser.
    of_superusers: bool,
}

/// What `pg_restore` says of each entry that failed: the entry's line, then the server's first error. Statements are not
/// shown: they may hold secrets.
fn refusals(reported: &str, coming: &[String]) -> Vec<Refusal> {
    let mut entry = None;
    let mut found: Vec<Refusal> = Vec::new();
    let mut hinted = false;
    for line in reported.lines() {
        if let Some((_, of)) = line.split_once("from TOC entry ") {
            // Its number, its class and its object come first.
            entry = of.splitn(4, ' ').last();
            hinted = false;
        } else if let Some((_, error)) = line.split_once("could not execute query: ERROR:") {
            let error = error.trim();
            let lacks_role = coming.iter().any(|role| error == format!("role {} does not exist", quoted(role)));
            // The start makes us a member of those that own something, and the check of roles tells where it cannot.
            let member = ["must be member of role ", "must be able to SET ROLE "];
            if lacks_role || member.iter().any(|words| error.starts_with(words)) {
                continue;
            }
            // What follows for the same entry follows from its first error.
            if let Some(entry) = entry.take() {
                found.push(Refusal {
                    text: format!("{entry}: {error}"),
                    // Whoever may use an untrusted language may do what its server may.
                    of_superusers: error.starts_with("must be superuser")
                        || error.starts_with("permission denied for language"),
                });
                hinted = true;
            } else {
                hinted = false;
            }
        } else if let Some(last) = found.last_mut().filter(|_| hinted && line.starts_with("HINT:")) {
            last.of_superusers |= line.contains("Must be superuser");
        }
    }
    found.truncate(LISTED_MAX);
    found
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

#[cfg(test)]
mod tests {
    use super::refusals;

    #[test]
    fn each_refusal_is_told_with_its_object_and_roles_that_will_be_created_are_none() {
        let reported = "pg_restore: while PROCESSING TOC:\n\
            pg_restore: from TOC entry 215; 1255 16400 FUNCTION public f() app\n\
            pg_restore: error: could not execute query: ERROR:  function nope() does not exist\n\
            LINE 1: ...\nCommand was: CREATE FUNCTION f() PASSWORD 'secret'\n\
            pg_restore: from TOC entry 3; 2615 2200 SCHEMA app app\n\
            pg_restore: error: could not execute query: ERROR:  role \"app\" does not exist\n\
            pg_restore: warning: errors ignored on restore: 2\n";
        let found = refusals(reported, &["app".to_owned()]);
        let texts: Vec<&str> = found.iter().map(|refusal| refusal.text.as_str()).collect();
        assert_eq!(texts, ["FUNCTION public f() app: function nope() does not exist"]);
        assert_eq!(refusals(reported, &[]).len(), 2);
    }
}
