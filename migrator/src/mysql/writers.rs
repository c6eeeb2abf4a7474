//! Who writes to the source, as the source itself says: also around Headgate, and past the fence.

use std::collections::BTreeSet;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure, Row};

use super::Mysql;
use super::client::failed;
use super::described::text;
use super::sql::quote_literal;
use super::watched::sessions;
use crate::database::Carried;
use crate::error::{Error, Result};
use crate::preflight::{Check, Findings, Level};

/// How many are named.
const NAMED_MAX: usize = 10;
/// Rights that let a session write to a server that is read only, or keep its account from being locked.
const PASSING: &str =
    "'SUPER', 'CONNECTION_ADMIN', 'READ_ONLY ADMIN', 'READ ONLY ADMIN', 'SYSTEM_USER'";

/// A write transaction that the source has open.
struct Writer {
    id: i64,
    user: String,
    /// What it is, for people.
    who: String,
}

/// Sessions that changed rows in an open transaction, or locked them for that, and are not Headgate's own. Its account may
/// be somebody else's too.
async fn open(mysql: &Mysql, session: &mut Conn) -> Result<Vec<Writer>> {
    let ours = quote_literal(&mysql.source().user);
    let now = format!(
        "SELECT DISTINCT CAST(t.processlist_id AS CHAR), t.processlist_user, t.processlist_host
         FROM performance_schema.data_locks AS l JOIN performance_schema.threads AS t ON t.thread_id = l.thread_id
         WHERE l.lock_type = 'TABLE' AND l.lock_mode IN ('IX', 'X') AND t.processlist_id IS NOT NULL
           AND (t.processlist_user <> {ours} OR NOT EXISTS (
               SELECT 1 FROM performance_schema.session_connect_attrs AS a WHERE a.processlist_id = t.processlist_id
               AND a.attr_name = 'program_name' AND a.attr_value LIKE 'headgate %'))"
    );
    // What others than MySQL 8 tell is up to a tenth of a second old where somebody asks often. Headgate's own sessions
    // there leave no transaction idle that changed something.
    let before = format!(
        "SELECT CAST(p.id AS CHAR), p.user, p.host FROM information_schema.innodb_trx AS t
         JOIN information_schema.processlist AS p ON p.id = t.trx_mysql_thread_id
         WHERE t.trx_rows_modified > 0 AND p.user <> 'system user' AND (p.user <> {ours} OR p.command = 'Sleep')"
    );
    let rows: std::result::Result<Vec<Row>, Failure> = session.query(now).await;
    let rows = match rows {
        Ok(rows) => rows,
        Err(Failure::Server(_)) => sessions(session, &before).await.map_err(unseen)?,
        Err(error) => return Err(unseen(error)),
    };
    rows.iter()
        .map(|row| {
            let (id, user) = (text(row, 0)?, text(row, 1)?);
            Ok(Writer {
                who: format!("session {id} of user {user} from {}", text(row, 2)?),
                id: id.parse().unwrap_or_default(),
                user,
            })
        })
        .collect()
}

/// The users that hold a right which passes the fence, by themselves or by a role.
async fn passing(session: &mut Conn) -> Result<BTreeSet<String>> {
    let rows: Vec<Row> = session
        .query(format!(
            "SELECT DISTINCT SUBSTRING_INDEX(SUBSTRING(grantee, 2), '''@''', 1)
             FROM information_schema.user_privileges WHERE privilege_type IN ({PASSING})"
        ))
        .await
        .map_err(unseen)?;
    let mut users: BTreeSet<String> = rows.iter().map(|row| text(row, 0)).collect::<Result<_>>()?;
    for edges in [
        "SELECT from_user, to_user FROM mysql.role_edges",
        "SELECT Role, User FROM mysql.roles_mapping",
    ] {
        let rows: Vec<Row> = match session.query(edges).await {
            Ok(rows) => rows,
            // Each family has a table of its own, and old servers have no roles.
            Err(Failure::Server(told)) if told.code == 1146 => continue,
            Err(error) => return Err(unseen(error)),
        };
        loop {
            let before = users.len();
            for row in &rows {
                if users.contains(&text(row, 0)?) {
                    users.insert(text(row, 1)?);
                }
            }
            if users.len() == before {
                break;
            }
        }
    }
    Ok(users)
}

/// Refuses where somebody has a write open that the fence does not stop.
pub(super) async fn refuse(mysql: &Mysql, session: &mut Conn) -> Result<()> {
    let writers = open(mysql, session).await?;
    if writers.is_empty() {
        return Ok(());
    }
    let users = passing(session).await?;
    let passing: Vec<String> = writers
        .into_iter()
        .filter(|writer| users.contains(&writer.user))
        .map(|writer| writer.who)
        .take(NAMED_MAX)
        .collect();
    crate::writers::refuse(
        mysql.name(),
        &passing,
        "no application may have SUPER, CONNECTION_ADMIN, READ_ONLY ADMIN or SYSTEM_USER",
    )
}

/// What stands in the way of a cutover, or that nobody does.
pub(super) async fn findings(mysql: &Mysql, carried: Carried<'_>) -> Result<Vec<Check>> {
    let mut findings = Findings::default();
    let mut source = mysql.connect_source("readiness").await?;
    if !sees_sessions(&mut source).await? {
        findings.error(
            "writers",
            "who writes to the source cannot be known: the server shows Headgate's account no other's sessions",
            "let Headgate's account on the source look",
            format!("GRANT PROCESS ON *.* TO {}", own_account(&mut source).await?),
        );
        return Ok(findings.checks);
    }
    let (writers, users) = (open(mysql, &mut source).await?, passing(&mut source).await?);
    let gated = carried()?;
    let direct: Vec<&Writer> = writers
        .iter()
        .filter(|writer| !gated.contains(&writer.id))
        .collect();
    for writer in direct.iter().take(NAMED_MAX) {
        let (level, remedy) = if users.contains(&writer.user) {
            (
                Level::Error,
                "the fence does not stop it: let it end, or end it",
            )
        } else {
            (
                Level::Warning,
                "it goes around Headgate; the fence refuses its commit",
            )
        };
        let fix = format!("KILL {}", writer.id);
        findings.checks.push(Check::new(
            "writers",
            level,
            writer.who.clone(),
            remedy,
            fix,
        ));
    }
    if direct.is_empty() {
        findings.ok("writers", "no write transaction goes around Headgate");
    }
    let outcome = hiding(&mut source, &mut findings).await;
    findings.ran("unlogged_writes", outcome);
    Ok(findings.checks)
}

/// Sessions whose changes are in no log, or not row by row, as far as the server tells of other sessions' settings.
async fn hiding(session: &mut Conn, findings: &mut Findings) -> Result<()> {
    const NAME: &str = "unlogged_writes";
    let query = "SELECT CAST(t.processlist_id AS CHAR), t.processlist_user, v.variable_name, v.variable_value
        FROM performance_schema.variables_by_thread AS v
        JOIN performance_schema.threads AS t ON t.thread_id = v.thread_id
        WHERE v.variable_name = 'sql_log_bin' AND v.variable_value = 'OFF'
           OR v.variable_name = 'binlog_format' AND v.variable_value <> 'ROW'
           OR v.variable_name = 'binlog_row_image' AND v.variable_value <> 'FULL' LIMIT 10";
    let rows: Vec<Row> = match session.query(query).await {
        Ok(rows) => rows,
        // MariaDB and MySQL before 5.7 tell nobody.
        Err(Failure::Server(told)) if told.code == 1146 => {
            findings.ok(
                NAME,
                "whether a session hides changes from the log cannot be known of this server: only accounts with SUPER \
                 or BINLOG ADMIN may, and the check compares every row",
            );
            return Ok(());
        }
        Err(error) => {
            return Err(failed(
                "whether a session hides changes from the log cannot be known",
                error,
            )
            .remedy("GRANT SELECT ON performance_schema.* to Headgate's account on the source"));
        }
    };
    let mut found = Vec::new();
    for row in &rows {
        let id = text(row, 0)?;
        let evidence = format!(
            "session {id} of user {} has {} = {}: its changes do not reach the target",
            text(row, 1)?,
            text(row, 2)?,
            text(row, 3)?
        );
        found.push((evidence, format!("KILL {id}")));
    }
    findings.each(
        NAME,
        Level::Error,
        &found,
        "end the session, then CHECK the migration again: what it wrote is in no log",
        "no session hides its changes from the log",
    );
    Ok(())
}

/// The server refuses this table to whoever may not see the sessions of others.
async fn sees_sessions(session: &mut Conn) -> Result<bool> {
    let asked: std::result::Result<Vec<Row>, Failure> = session
        .query("SELECT 1 FROM information_schema.innodb_trx LIMIT 1")
        .await;
    match asked {
        Ok(_) => Ok(true),
        Err(Failure::Server(told)) if told.code == 1227 => Ok(false),
        Err(error) => Err(unseen(error)),
    }
}

async fn own_account(session: &mut Conn) -> Result<String> {
    let told: Option<String> = session
        .query_first("SELECT CONCAT(QUOTE(SUBSTRING_INDEX(CURRENT_USER(), '@', 1)), '@', QUOTE(SUBSTRING_INDEX(CURRENT_USER(), '@', -1)))")
        .await
        .map_err(unseen)?;
    Ok(told.unwrap_or_default())
}

fn unseen(error: Failure) -> Error {
    failed("cannot see who writes to the source", error)
        .remedy("GRANT PROCESS ON *.*, and SELECT ON mysql.*, to Headgate's account on the source")
}
