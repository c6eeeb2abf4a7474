//! Checks of the roles: who can log in on the target.

use std::collections::BTreeMap;

use super::super::client::failed;
use super::super::sql::quote_ident;
use super::super::{Postgres, login, service};
use super::rights;
use super::side::Side;
use crate::accounts::{self, Account, Verdict};
use crate::error::Result;
use crate::preflight::Findings;

pub(super) async fn run(postgres: &Postgres, source: &Side, target: &Side, findings: &mut Findings) {
    match judge(postgres, source, target).await {
        Ok(accounts) => findings.checks.extend(accounts::early(&accounts)),
        Err(failure) => findings.ran("accounts", Err(failure)),
    }
}

/// What one side's catalogue says of a role.
struct Login {
    /// Whether it may log in at all.
    may: bool,
    /// A digest of its verifier under a salt of this run; `None` where it has none.
    verifier: Option<String>,
    /// Whether it is a database's or server's time limit that has passed.
    expired: bool,
}

/// Whether each role of the source that can log in can do so on the target with what its clients know. No verifier
/// leaves a server: they are compared by digests under a salt of this run.
pub(super) async fn judge(postgres: &Postgres, source: &Side, target: &Side) -> Result<Vec<Account>> {
    let salt = format!("{:032x}", rand::random::<u128>());
    let (ours, theirs) = (readable(source).await?, readable(target).await?);
    let readable = ours && theirs;
    let (words, fix) = rights::to_read_passwords(postgres, (source, ours), (target, theirs));
    let of_service = service::roles(&source.session).await?;
    let there = logins(source, readable, &salt).await?;
    let here = logins(target, readable, &salt).await?;
    let mut judged = Vec::new();
    for (name, login) in there.iter().filter(|(name, login)| login.may && !of_service.contains(name)) {
        let verdict = if login.expired {
            Verdict::Proved("its password is no longer valid on the source either")
        } else {
            verdict(postgres, name, (login, here.get(name)), readable, (&words, &fix)).await
        };
        let (source, target) = (postgres.source(), postgres.target());
        let both = *name == source.user && *name == target.user;
        let verdict = match verdict {
            Verdict::Unproved { .. } if both && source.password == target.password => {
                Verdict::Proved("Headgate itself logs in as it on both sides with the same password")
            }
            verdict => verdict,
        };
        let own = *name == postgres.source().user;
        judged.push(Account { name: name.clone(), verdict, turned_away: !own && postgres.secrets().turns_away(name) });
    }
    Ok(judged)
}

async fn verdict(
    postgres: &Postgres,
    name: &str,
    (source, target): (&Login, Option<&Login>),
    readable: bool,
    (words, fix): (&str, &str),
) -> Verdict {
    let Some(target) = target else {
        return Verdict::Unproved {
            why: "the target has no such role".to_owned(),
            remedy: "START creates it; one that was made on the source since must be created on the target with the same password".to_owned(),
            fix: String::new(),
        };
    };
    if !target.may {
        return Verdict::Unproved {
            why: "it may not log in on the target".to_owned(),
            remedy: "let it log in there as it does on the source".to_owned(),
            fix: format!("ALTER ROLE {} LOGIN", quote_ident(name)),
        };
    }
    if readable {
        return match (&source.verifier, &target.verifier) {
            (Some(ours), Some(theirs)) if ours == theirs => Verdict::Proved("the same verifier on both sides"),
            (None, _) => Verdict::Proved("no password on the source"),
            _ => Verdict::Unproved {
                why: "it has another password, or another form of it, on the target".to_owned(),
                remedy: "give the role on the target the verifier that it has on the source (pg_authid.rolpassword)"
                    .to_owned(),
                fix: String::new(),
            },
        };
    }
    match login::try_on_target(postgres, name).await {
        Some(Ok(())) => Verdict::Proved("logged in on the target with the configured password"),
        Some(Err(failure)) => Verdict::Unproved {
            why: format!("the configured password does not log in on the target: {}", failure.full_text()),
            remedy: "set this password on the target".to_owned(),
            fix: String::new(),
        },
        None => Verdict::Unproved {
            why: "its password cannot be read on both sides, and Headgate does not know it".to_owned(),
            remedy: format!("{words}, or give Headgate the password as users.NAME.password"),
            fix: fix.to_owned(),
        },
    }
}

async fn readable(side: &Side) -> Result<bool> {
    super::side::one(&side.session, "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')", &[]).await
}

async fn logins(side: &Side, readable: bool, salt: &str) -> Result<BTreeMap<String, Login>> {
    let unreadable = |error| failed("the roles cannot be read", error);
    let (catalogue, verifier) = if readable {
        ("pg_authid", "encode(sha256(convert_to($1::text || rolpassword, 'UTF8')), 'hex')")
    } else {
        ("pg_roles", "NULLIF($1::text, $1::text)")
    };
    let rows = side
        .session
        .query(
            &format!(
                "SELECT rolname::text, {verifier}, coalesce(rolvaliduntil <= now(), false), rolcanlogin
                 FROM pg_catalog.{catalogue} WHERE rolname !~ '^pg_'"
            ),
            &[&salt],
        )
        .await
        .map_err(unreadable)?;
    rows.iter()
        .map(|row| {
            let login = Login { verifier: row.try_get(1)?, expired: row.try_get(2)?, may: row.try_get(3)? };
            Ok((row.try_get(0)?, login))
        })
        .collect::<std::result::Result<_, tokio_postgres::Error>>()
        .map_err(unreadable)
}
