//! Checks of the roles: who can log in on the target.

use std::collections::BTreeMap;

use super::super::client::failed;
use super::super::sql::quote_ident;
use super::super::{Postgres, login, service};
use super::rights;
use super::side::{Side, pairs};
use crate::accounts::{self, Account, Verdict};
use crate::error::Result;
use crate::preflight::{Findings, Level};

const SERVICE_ROLES: &str = "service_roles";
/// What depends on these roles: what they own or is made for them, or else what they may do.
const OF_SERVICE: &str = "SELECT format(CASE WHEN s.deptype = 'a' THEN '%s has a privilege on %s' WHEN s.deptype = 'o' THEN '%s owns %s'
             ELSE '%s is named by %s' END,
         quote_ident(r.rolname), pg_catalog.pg_describe_object(s.classid, s.objid, s.objsubid)),
     CASE WHEN s.deptype = 'o' AND s.classid IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass,
             'pg_catalog.pg_type'::regclass, 'pg_catalog.pg_namespace'::regclass)
         THEN format('ALTER %s %s OWNER TO CURRENT_USER', upper(i.type), i.identity)
     WHEN s.deptype = 'a' AND s.classid = 'pg_catalog.pg_class'::regclass AND s.objsubid = 0
         THEN format('REVOKE ALL ON %s %s FROM %I', CASE i.type WHEN 'sequence' THEN 'SEQUENCE' ELSE 'TABLE' END, i.identity, r.rolname)
     WHEN s.deptype = 'a' AND s.classid = 'pg_catalog.pg_namespace'::regclass
         THEN format('REVOKE ALL ON SCHEMA %s FROM %I', i.identity, r.rolname)
     WHEN s.deptype = 'a' AND s.classid = 'pg_catalog.pg_proc'::regclass
         THEN format('REVOKE ALL ON ROUTINE %s FROM %I', i.identity, r.rolname)
     WHEN s.deptype = 'a' AND s.classid = 'pg_catalog.pg_type'::regclass
         THEN format('REVOKE ALL ON TYPE %s FROM %I', i.identity, r.rolname)
     ELSE '' END
     FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid
     CROSS JOIN LATERAL pg_catalog.pg_identify_object(s.classid, s.objid, s.objsubid) i
     WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass AND r.rolname = ANY ($1::text[])
       AND s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
       AND (s.objid >= 16384 OR s.deptype = 'a' AND s.classid = 'pg_catalog.pg_namespace'::regclass
           AND s.objid = pg_catalog.to_regnamespace('public'))
       AND s.deptype IN ('a', 'o', 'r')
       AND (s.deptype = 'a' AND s.classid <> 'pg_catalog.pg_default_acl'::regclass) = $2::bool
       AND coalesce(i.schema, '') NOT IN ('pg_catalog', 'information_schema', 'headgate')
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = s.classid AND d.objid = s.objid
           AND (d.deptype = 'e' OR s.deptype = 'o' AND d.deptype IN ('a', 'i') AND i.type = 'sequence'
               AND d.refclassid = 'pg_catalog.pg_class'::regclass))
     ORDER BY 1 LIMIT 100";

pub(super) async fn run(postgres: &Postgres, source: &Side, target: &Side, findings: &mut Findings) {
    match judge(postgres, source, target).await {
        Ok(accounts) => findings.checks.extend(accounts::early(&accounts)),
        Err(failure) => findings.ran("accounts", Err(failure)),
    }
    let outcome = of_service(source, target, findings).await;
    findings.ran(SERVICE_ROLES, outcome);
}

/// What depends on roles of the source's service that the target does not have: what each may do is left out, and whatever
/// it owns or is made for must be somebody else's before.
async fn of_service(source: &Side, target: &Side, findings: &mut Findings) -> Result<()> {
    let lacking = service::lacking(&source.session, &target.session).await?;
    let own = pairs(&source.session, OF_SERVICE, &[&lacking, &false]).await?;
    let granted = pairs(&source.session, OF_SERVICE, &[&lacking, &true]).await?;
    if !own.is_empty() {
        findings.each(
            SERVICE_ROLES,
            Level::Error,
            &own,
            "the target has no such role, and none is made there: give it to a role of your own on the source",
            "",
        );
    }
    findings.each(
        SERVICE_ROLES,
        Level::Warning,
        &granted,
        "the target has no such role: there the privilege is left out; take it back on the source where nobody needs it",
        "nothing depends on a role of a service that the target does not have",
    );
    Ok(())
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
        Some(Ok(())) => Verdict::Proved("logged in on the target with what Headgate knows of its password"),
        Some(Err(failure)) => Verdict::Unproved {
            why: format!("what logs it in on the source does not log it in on the target: {}", failure.full_text()),
            remedy: "set the same password on the target".to_owned(),
            fix: String::new(),
        },
        None => Verdict::Unproved {
            why: "its password cannot be read on both sides, and Headgate does not know it".to_owned(),
            remedy: format!(
                "have its client log in once through Headgate, or {words}, or give Headgate the password as users.NAME.password"
            ),
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
