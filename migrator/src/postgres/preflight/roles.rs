//! Checks of the roles: who could not log in on the target.

use super::super::sql::quote_ident;
use super::{Side, one};
use crate::error::Result;
use crate::preflight::{Findings, Level};

pub(super) async fn run(source: &Side, target: &Side, findings: &mut Findings) {
    let outcome = passwords(source, target, findings).await;
    findings.ran("role_passwords", outcome);
}

/// As things are once the target has the roles.
pub(super) async fn ready(source: &Side, target: &Side, findings: &mut Findings) {
    let outcome = missing(source, target, findings).await;
    findings.ran("roles", outcome);
    run(source, target, findings).await;
}

/// Roles are created at the start; those that came later are on the source alone.
async fn missing(source: &Side, target: &Side, findings: &mut Findings) -> Result<()> {
    let there: Vec<String> = one(
        &source.session,
        "SELECT coalesce(array_agg(rolname::text), '{}') FROM pg_catalog.pg_roles
         WHERE rolcanlogin AND rolname !~ '^pg_'",
        &[],
    )
    .await?;
    let missing: Vec<String> = one(
        &target.session,
        "SELECT coalesce(array_agg(there ORDER BY there), '{}') FROM unnest($1::text[]) AS there
         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = there AND rolcanlogin)",
        &[&there],
    )
    .await?;
    let missing: Vec<_> = missing
        .into_iter()
        .map(|name| {
            let name = quote_ident(&name);
            let evidence = format!("the role {name} cannot log in on the target");
            (evidence, format!("CREATE ROLE {name} LOGIN PASSWORD '…'"))
        })
        .collect();
    findings.each(
        "roles",
        Level::Warning,
        &missing,
        "create it on the target as it is on the source, else its sessions end at the switch",
        &format!("all {} roles can log in on the target", there.len()),
    );
    Ok(())
}

/// A role that is on both sides keeps the target's password; clients know the source's. No verifier leaves a server:
/// they are compared by digests under a salt of this run.
async fn passwords(source: &Side, target: &Side, findings: &mut Findings) -> Result<()> {
    const NAME: &str = "role_passwords";
    for side in [source, target] {
        let readable: bool = one(
            &side.session,
            "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')",
            &[],
        )
        .await?;
        if !readable {
            findings.ok(
                NAME,
                "the passwords of roles cannot be compared without the right to read pg_authid",
            );
            return Ok(());
        }
    }
    let salt = format!("{:032x}", rand::random::<u128>());
    let digests = "SELECT coalesce(array_agg(rolname || ' ' || encode(sha256(convert_to(
            $1::text || rolpassword, 'UTF8')), 'hex')), '{}')
        FROM pg_catalog.pg_authid WHERE rolcanlogin AND rolpassword IS NOT NULL AND rolname !~ '^pg_'";
    let there: Vec<String> = one(&source.session, digests, &[&salt]).await?;
    let differing: Vec<String> = one(
        &target.session,
        "SELECT coalesce(array_agg(rolname::text ORDER BY rolname), '{}') FROM pg_catalog.pg_authid
         WHERE rolname IN (SELECT left(known, -65) FROM unnest($2::text[]) AS known)
           AND rolname || ' ' || coalesce(encode(sha256(convert_to($1::text || rolpassword, 'UTF8')), 'hex'), '')
               <> ALL ($2::text[])",
        &[&salt, &there],
    )
    .await?;
    let differing: Vec<_> = differing
        .into_iter()
        .map(|name| {
            let name = quote_ident(&name);
            let evidence = format!(
                "the role {name} has another password, or another form of it, on the target"
            );
            (evidence, String::new())
        })
        .collect();
    findings.each(
        NAME,
        Level::Warning,
        &differing,
        "set the same password on the target, else its clients may be refused after the switch",
        "roles that are on both sides have the same passwords",
    );
    Ok(())
}
