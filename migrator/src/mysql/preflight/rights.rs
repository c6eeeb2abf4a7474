//! Checks of what Headgate's own accounts may do on both servers.

use std::collections::BTreeSet;

use super::super::catalogue::ask;
use super::super::sql::{quote_ident, quote_literal};
use super::super::{Mysql, RECORDS, grants};
use super::Side;
use crate::error::Result;
use crate::preflight::{Findings, Level};

/// A right, and the names under which servers have it: one of them is enough.
type Right = (&'static str, &'static [&'static str]);

const SOURCE: [Right; 4] = [
    (
        "read the binary log",
        &["REPLICATION SLAVE", "REPLICATION SLAVE ADMIN"],
    ),
    (
        "ask for the log's position",
        &["BINLOG MONITOR", "REPLICATION CLIENT", "SUPER"],
    ),
    ("see every session", &["PROCESS"]),
    FOLLOWS,
];
const FOLLOWS: Right = (
    "ask whether it follows another server",
    &["SLAVE MONITOR", "REPLICATION CLIENT", "SUPER"],
);
/// Only some servers ask for it.
const PREPARED: Right = ("look for prepared XA transactions", &["XA_RECOVER_ADMIN"]);
/// What both sides need in the database of Headgate's records.
const IN_RECORDS: [Right; 6] = [
    ("create its records", &["CREATE"]),
    ("read its records", &["SELECT"]),
    ("write its records", &["INSERT"]),
    ("write its records", &["UPDATE"]),
    ("write its records", &["DELETE"]),
    ("remove its records", &["DROP"]),
];
/// What may also be granted for each database that moves.
const SOURCE_DATABASES: [Right; 5] = [
    ("read the rows", &["SELECT"]),
    ("lock tables for a moment", &["LOCK TABLES"]),
    ("read the triggers", &["TRIGGER"]),
    ("read the views", &["SHOW VIEW"]),
    ("see the events", &["EVENT"]),
];
const TARGET: [Right; 3] = [
    FOLLOWS,
    ("create accounts", &["CREATE USER"]),
    (
        "create objects of other definers",
        &["SET_ANY_DEFINER", "SET_USER_ID", "SET USER", "SUPER"],
    ),
];
const TARGET_DATABASES: [Right; 14] = [
    ("read", &["SELECT"]),
    ("write", &["INSERT"]),
    ("write", &["UPDATE"]),
    ("write", &["DELETE"]),
    ("create tables", &["CREATE"]),
    ("drop", &["DROP"]),
    ("build indexes", &["INDEX"]),
    ("build indexes", &["ALTER"]),
    ("create foreign keys", &["REFERENCES"]),
    ("create views", &["CREATE VIEW"]),
    ("create routines", &["CREATE ROUTINE"]),
    ("call routines", &["EXECUTE"]),
    ("create triggers", &["TRIGGER"]),
    ("create events", &["EVENT"]),
];

/// What the session's account holds, itself and by the roles that are active.
struct Held {
    account: String,
    /// What the server calls its rights.
    known: BTreeSet<String>,
    /// Each object as grants name it, and what is held on it.
    rights: Vec<(String, BTreeSet<String>)>,
}

impl Held {
    async fn read(side: &mut Side) -> Result<Self> {
        const WHAT: &str = "cannot read what Headgate's account may do";
        let rows = ask(&mut side.session, "SELECT CURRENT_USER()", WHAT).await?;
        let account = rows.first().map_or("", |row| row.text(0));
        let (user, host) = account.rsplit_once('@').unwrap_or((account, "%"));
        let account = format!("{}@{}", quote_literal(user), quote_literal(host));
        let rows = ask(&mut side.session, "SHOW PRIVILEGES", WHAT).await?;
        let known = rows.iter().map(|row| row.text(0).to_uppercase()).collect();
        let rows = ask(&mut side.session, "SHOW GRANTS", WHAT).await?;
        let rights = rows.iter().filter_map(|row| grants::held(row.text(0)));
        Ok(Self {
            account,
            known,
            rights: rights.collect(),
        })
    }

    /// Whether one of these is held on everything.
    fn has(&self, names: &[&str]) -> bool {
        self.holds(names, |object| object == "*.*")
    }

    fn holds(&self, names: &[&str], wanted: impl Fn(&str) -> bool) -> bool {
        self.rights
            .iter()
            .filter(|(object, _)| wanted(object))
            .any(|(_, held)| {
                held.contains("ALL PRIVILEGES") || names.iter().any(|name| held.contains(*name))
            })
    }

    /// The right as this server calls it.
    fn called(&self, names: &[&'static str]) -> &'static str {
        let known = names.iter().find(|name| self.known.contains(**name));
        known.or(names.first()).copied().unwrap_or_default()
    }

    /// What of these it lacks on everything, as (evidence, fix).
    fn lacking(&self, wanted: &[Right], side: &str) -> Vec<(String, String)> {
        let account = &self.account;
        let lacking = wanted.iter().filter(|(_, names)| !self.has(names));
        lacking
            .map(|(what, names)| {
                let name = self.called(names);
                (
                    format!("{account} may not {what} on the {side}: it lacks {name}"),
                    format!("GRANT {name} ON *.* TO {account}"),
                )
            })
            .collect()
    }

    /// What of these it lacks in a database, as (evidence, fix).
    fn lacking_in(&self, database: &str, wanted: &[Right], side: &str) -> Vec<(String, String)> {
        let account = &self.account;
        let mut lacking = Vec::new();
        for (what, names) in wanted {
            // What is held on a single table is not enough.
            let there = |object: &str| {
                object.ends_with(".*") && grants::concerns(object, &[database.to_owned()])
            };
            if !self.holds(names, there) {
                let name = self.called(names);
                lacking.push((
                    format!(
                        "{account} may not {what} in {database} on the {side}: it lacks {name}"
                    ),
                    format!("GRANT {name} ON {}.* TO {account}", quote_ident(database)),
                ));
            }
        }
        lacking
    }

    /// As [`Held::lacking_in`] for every database that moves, and for that of the records.
    fn lacking_everywhere(
        &self,
        mysql: &Mysql,
        wanted: &[Right],
        side: &str,
    ) -> Vec<(String, String)> {
        let mut lacking = self.lacking_in(RECORDS, &IN_RECORDS, side);
        for database in mysql.databases() {
            lacking.extend(self.lacking_in(&database, wanted, side));
        }
        lacking
    }
}

const REMEDY: &str = "grant the right, to the account or to a role that is active in its sessions";

pub(super) async fn source(mysql: &Mysql, source: &mut Side, findings: &mut Findings) {
    let outcome = on_source(mysql, source, findings).await;
    findings.ran("source_rights", outcome);
}

async fn on_source(mysql: &Mysql, source: &mut Side, findings: &mut Findings) -> Result<()> {
    let held = Held::read(source).await?;
    let mut lacking = held.lacking(&SOURCE, "source");
    if held.known.contains("XA_RECOVER_ADMIN") {
        lacking.extend(held.lacking(&[PREPARED], "source"));
    }
    lacking.extend(held.lacking_everywhere(mysql, &SOURCE_DATABASES, "source"));
    // A routine of somebody else is not even listed otherwise, and would be left behind in silence.
    let routines = if source.version.is_mysql_from(8, 0, 0) {
        let may = held.has(&["SHOW_ROUTINE", "SELECT"]);
        (!may).then_some("SHOW_ROUTINE ON *.*")
    } else {
        let programs = "SELECT COUNT(*) FROM mysql.proc";
        let may = ask(&mut source.session, programs, "routines").await.is_ok();
        (!may).then_some("SELECT ON mysql.proc")
    };
    if let Some(right) = routines {
        lacking.push((
            format!(
                "{} may not see all routines of the source: it lacks {right}",
                held.account
            ),
            format!("GRANT {right} TO {}", held.account),
        ));
    }
    // What lets an account switch read_only, and write while it is on.
    let (fences, name) = if source.version.is_mariadb() && source.version.number >= (10, 11, 0) {
        (
            held.has(&["READ_ONLY ADMIN"]) && held.has(&["SUPER"]),
            "READ_ONLY ADMIN, SUPER",
        )
    } else if source.version.is_mysql_from(8, 0, 0) {
        let both = held.has(&["SYSTEM_VARIABLES_ADMIN"]) && held.has(&["CONNECTION_ADMIN"]);
        (
            both || held.has(&["SUPER"]),
            "SYSTEM_VARIABLES_ADMIN, CONNECTION_ADMIN",
        )
    } else {
        (held.has(&["SUPER"]), "SUPER")
    };
    let locks = source.version.locks_accounts()
        && held.has(&["CREATE USER"])
        && held.has(&["CONNECTION_ADMIN", "CONNECTION ADMIN", "SUPER"])
        && held.has(&["EVENT"])
        // With this one `read_only` would be tried, and the other right be missed.
        && !held.has(&["READ_ONLY ADMIN"]);
    if !fences && locks {
        findings.warning(
            "source_fence",
            format!("{} may not set read_only on the source", held.account),
            "the fence will lock every account of the server but Headgate's, whatever database it uses, and end all \
             sessions that do not come through this route; a login in the moment before the switch may be refused",
            format!("GRANT {name} ON *.* TO {}", held.account),
        );
    } else if !fences {
        lacking.push((
            format!("{} may not fence the source: it lacks {name}", held.account),
            format!("GRANT {name} ON *.* TO {}", held.account),
        ));
    }
    findings.each(
        "source_rights",
        Level::Error,
        &lacking,
        REMEDY,
        "Headgate's account has the rights it needs on the source",
    );
    let table = if source.version.is_mariadb() && source.version.locks_accounts() {
        "mysql.global_priv"
    } else {
        "mysql.user"
    };
    let hashes = &format!("SELECT COUNT(*) FROM (SELECT User FROM {table} LIMIT 1) one");
    if ask(&mut source.session, hashes, "accounts").await.is_err() {
        findings.warning(
            "source_accounts",
            format!("{} may not read mysql.user on the source", held.account),
            "without it no account is created on the target",
            format!("GRANT SELECT ON mysql.* TO {}", held.account),
        );
    }
    if held.has(&["RELOAD"]) {
        findings.ok(
            "source_snapshots",
            "Headgate's account may hold all commits back for the moment of an exact snapshot",
        );
    } else {
        findings.warning(
            "source_snapshots",
            format!("{} lacks RELOAD on the source", held.account),
            "exact snapshots lock the tables one by one; the server may then end a client's transaction as a deadlock",
            format!("GRANT RELOAD ON *.* TO {}", held.account),
        );
    }
    let untold = untold(source, &held.account).await?;
    findings.each(
        "source_sessions",
        Level::Warning,
        &untold,
        "sessions of which the server does not tell enough end at the switch, with the error of a lost connection",
        "Headgate's account can see the state of the sessions that will move",
    );
    Ok(())
}

/// What of sessions' states the account cannot see and needs for their handover, as (evidence, fix).
async fn untold(source: &mut Side, account: &str) -> Result<Vec<(String, String)>> {
    let mut untold = Vec::new();
    // MariaDB's sessions tell their variables themselves; older servers have nobody who does.
    let variables = "SELECT COUNT(*) FROM performance_schema.user_variables_by_thread";
    if source.version.is_mysql_from(5, 7, 0)
        && ask(&mut source.session, variables, "sessions")
            .await
            .is_err()
    {
        untold.push((
            format!("{account} may not read performance_schema on the source"),
            format!("GRANT SELECT ON performance_schema.* TO {account}"),
        ));
    }
    let programs =
        "SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_DEFINITION IS NULL
        AND ROUTINE_SCHEMA NOT IN ('sys', 'mysql', 'information_schema', 'performance_schema')";
    let rows = ask(
        &mut source.session,
        programs,
        "cannot list the source's stored programs",
    )
    .await?;
    let hidden = rows.first().map_or_else(String::new, |row| row.owned(0));
    if hidden != "0" {
        let right = if source.version.is_mysql_from(8, 0, 20) {
            "SHOW_ROUTINE ON *.*"
        } else {
            "SELECT ON mysql.proc"
        };
        untold.push((
            format!("{account} cannot read the text of {hidden} stored programs on the source"),
            format!("GRANT {right} TO {account}"),
        ));
    }
    Ok(untold)
}

pub(super) async fn target(mysql: &Mysql, target: &mut Side, findings: &mut Findings) {
    let outcome = on_target(mysql, target, findings).await;
    findings.ran("target_rights", outcome);
}

async fn on_target(mysql: &Mysql, target: &mut Side, findings: &mut Findings) -> Result<()> {
    let held = Held::read(target).await?;
    let mut lacking = held.lacking(&TARGET, "target");
    lacking.extend(held.lacking_everywhere(mysql, &TARGET_DATABASES, "target"));
    let accounts = "SELECT COUNT(*) FROM mysql.user";
    if ask(&mut target.session, accounts, "accounts")
        .await
        .is_err()
    {
        let account = &held.account;
        lacking.push((
            format!("{account} may not read which accounts and time zones there are on the target: it lacks SELECT on mysql.*"),
            format!("GRANT SELECT ON mysql.* TO {account}"),
        ));
    }
    findings.each(
        "target_rights",
        Level::Error,
        &lacking,
        REMEDY,
        "Headgate's account has the rights it needs on the target",
    );
    Ok(())
}
