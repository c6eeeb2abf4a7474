//! Checks of what Headgate's own accounts may do on both servers.

use std::collections::BTreeSet;

use super::super::Mysql;
use super::super::catalogue::{ask, listed};
use super::Side;
use crate::error::Result;
use crate::preflight::{Findings, Level};

/// A right, and the names under which servers have it: one of them is enough.
type Right = (&'static str, &'static [&'static str]);

const SOURCE: [Right; 7] = [
    (
        "read the binary log",
        &["REPLICATION SLAVE", "REPLICATION SLAVE ADMIN"],
    ),
    (
        "ask for the log's position",
        &["REPLICATION CLIENT", "BINLOG MONITOR", "SUPER"],
    ),
    ("create the database headgate", &["CREATE"]),
    ("see every session", &["PROCESS"]),
    ("write its signals", &["INSERT"]),
    ("keep its records", &["UPDATE"]),
    ("keep its records", &["DELETE"]),
];
/// What may also be granted for each database that moves.
const SOURCE_DATABASES: [Right; 5] = [
    ("read the rows", &["SELECT"]),
    ("lock tables for a moment", &["LOCK TABLES"]),
    ("read the triggers", &["TRIGGER"]),
    ("read the views", &["SHOW VIEW"]),
    ("see the events", &["EVENT"]),
];
const TARGET: [Right; 2] = [
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

/// What the session's account holds: on everything, and on each database that moves.
struct Held {
    account: String,
    everywhere: BTreeSet<String>,
    databases: Vec<(String, BTreeSet<String>)>,
}

impl Held {
    async fn read(mysql: &Mysql, side: &mut Side) -> Result<Self> {
        const WHAT: &str = "cannot read what Headgate's account may do";
        let grantee =
            "CONCAT('''', REPLACE(SUBSTRING_INDEX(CURRENT_USER(), '@', 1), '''', ''''''), '''@''',
            SUBSTRING_INDEX(CURRENT_USER(), '@', -1), '''')";
        let query = format!(
            "SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = {grantee}"
        );
        let rows = ask(&mut side.session, &query, WHAT).await?;
        let account = rows
            .first()
            .map_or_else(|| "its account".to_owned(), |row| row.owned(0));
        let everywhere = rows.iter().map(|row| row.text(1).to_uppercase()).collect();
        let query = format!(
            "SELECT TABLE_SCHEMA, PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES
             WHERE GRANTEE = {grantee} AND REPLACE(TABLE_SCHEMA, '\\\\', '') IN ({})",
            listed(mysql)
        );
        let rows = ask(&mut side.session, &query, WHAT).await?;
        let databases = mysql
            .databases()
            .into_iter()
            .map(|database| {
                let of_it = rows
                    .iter()
                    .filter(|row| row.text(0).replace('\\', "") == database);
                let held = of_it.map(|row| row.text(1).to_uppercase()).collect();
                (database, held)
            })
            .collect();
        Ok(Self {
            account,
            everywhere,
            databases,
        })
    }

    fn has(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.everywhere.contains(*name))
    }

    /// What of these it lacks, as (evidence, fix).
    fn lacking(
        &self,
        everywhere: &[Right],
        databases: &[Right],
        side: &str,
    ) -> Vec<(String, String)> {
        let account = &self.account;
        let mut lacking = Vec::new();
        for (what, names) in everywhere.iter().filter(|(_, names)| !self.has(names)) {
            let name = names.first().copied().unwrap_or_default();
            lacking.push((
                format!("{account} may not {what} on the {side}: it lacks {name}"),
                format!("GRANT {name} ON *.* TO {account}"),
            ));
        }
        for (what, names) in databases.iter().filter(|(_, names)| !self.has(names)) {
            let name = names.first().copied().unwrap_or_default();
            for (database, held) in &self.databases {
                if !names.iter().any(|name| held.contains(*name)) {
                    lacking.push((
                        format!(
                            "{account} may not {what} in {database} on the {side}: it lacks {name}"
                        ),
                        format!(
                            "GRANT {name} ON {}.* TO {account}",
                            super::super::sql::quote_ident(database)
                        ),
                    ));
                }
            }
        }
        lacking
    }
}

const REMEDY: &str =
    "grant the right, or let an account with all of them migrate; what roles grant is not counted";

pub(super) async fn source(mysql: &Mysql, source: &mut Side, findings: &mut Findings) {
    let outcome = on_source(mysql, source, findings).await;
    findings.ran("source_rights", outcome);
}

async fn on_source(mysql: &Mysql, source: &mut Side, findings: &mut Findings) -> Result<()> {
    let held = Held::read(mysql, source).await?;
    let mut lacking = held.lacking(&SOURCE, &SOURCE_DATABASES, "source");
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
    let held = Held::read(mysql, target).await?;
    let lacking = held.lacking(&TARGET, &TARGET_DATABASES, "target");
    findings.each(
        "target_rights",
        Level::Error,
        &lacking,
        REMEDY,
        "Headgate's account has the rights it needs on the target",
    );
    Ok(())
}
