//! Who writes to the source, as the source itself says: also around Headgate, and past the fence.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure, Row};

use super::passing::{Holders, Means, Passing};
use crate::database::GatedBackends;
use crate::error::{Error, Result};
use crate::mysql::Mysql;
use crate::mysql::catalogue::text;
use crate::mysql::catalogue::variable;
use crate::mysql::client;
use crate::mysql::client::{Version, failed};
use crate::mysql::processlist::monitored;
use crate::mysql::processlist::sessions;
use crate::mysql::refusal;
use crate::mysql::rights::with_grants;
use crate::mysql::service;
use crate::mysql::sql::quote_literal;
use crate::preflight::{Check, Findings, Level};

/// How many are named.
const NAMED_MAX: usize = 10;
/// The account may not read a table.
const DENIED: [u16; 3] = [1044, 1142, 1227];
/// Why the cutover must wait where the server says nothing.
const WRITERS_UNKNOWN: &str = "who has a write open on the source cannot be known";

/// A write transaction that the source has open.
struct Writer {
    id: i64,
    user: String,
    /// What it is, for people.
    who: String,
}

/// Sessions that changed rows in an open transaction, or locked them for that, and are not Headgate's own. Its account may
/// be somebody else's too.
async fn open(mysql: &Mysql, session: &mut Conn, tells_of_locks: bool) -> Result<Vec<Writer>> {
    let rows =
        if tells_of_locks { holding_locks(mysql, session).await? } else { having_changed(mysql, session).await? };
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

/// Whether the server lists the locks of its transactions. Without its performance schema the list is empty.
pub(crate) async fn tells_of_locks(session: &mut Conn) -> Result<bool> {
    let version = client::version(session).await?;
    if !version.is_mysql_from(8, 0, 1) {
        return Ok(false);
    }
    Ok(variable(session, "performance_schema").await?.as_deref() == Some("ON"))
}

async fn holding_locks(mysql: &Mysql, session: &mut Conn) -> Result<Vec<Row>> {
    let ours = quote_literal(&mysql.source().user);
    let query = format!(
        "SELECT DISTINCT CAST(t.processlist_id AS CHAR), t.processlist_user, t.processlist_host
         FROM performance_schema.data_locks AS l JOIN performance_schema.threads AS t ON t.thread_id = l.thread_id
         WHERE l.lock_type = 'TABLE' AND l.lock_mode IN ('IX', 'X') AND t.processlist_id IS NOT NULL
           AND (t.processlist_user <> {ours} OR NOT EXISTS (
               SELECT 1 FROM performance_schema.session_connect_attrs AS a WHERE a.processlist_id = t.processlist_id
               AND a.attr_name = 'program_name' AND a.attr_value LIKE 'headgate %'))"
    );
    match session.query(query).await {
        Ok(rows) => Ok(rows),
        Err(Failure::Server(reported)) if DENIED.contains(&reported.code) => {
            Err(Error::refused(format!("{WRITERS_UNKNOWN}: {}", reported.message)).remedy(sight_grant(session).await?))
        }
        Err(error) => Err(unseen(session, error).await),
    }
}

/// What lets Headgate's account see transactions and settings of other sessions, and nothing more.
async fn sight_grant(session: &mut Conn) -> Result<String> {
    let account = own_account(session).await?;
    let tables = ["data_locks", "threads", "session_connect_attrs", "variables_by_thread"];
    let grants = tables.map(|table| format!("GRANT SELECT ON performance_schema.{table} TO {account}"));
    Ok(grants.join("; "))
}

/// As InnoDB's monitor prints its transactions at this moment. The table of them in `information_schema` is up to a tenth
/// of a second old, and for as long as somebody asks for it more often. Headgate's own sessions leave no transaction idle
/// that changed something.
async fn having_changed(mysql: &Mysql, session: &mut Conn) -> Result<Vec<Row>> {
    let shown: Option<Row> = match session.query_first("SHOW ENGINE INNODB STATUS").await {
        Ok(shown) => shown,
        Err(error) => return Err(unseen(session, error).await),
    };
    let status = shown.map(|row| text(&row, 2)).transpose()?.unwrap_or_default();
    let Some(writing) = monitored(&status) else {
        return Err(Error::transient(format!(
            "{WRITERS_UNKNOWN}: there are too many transactions for InnoDB's monitor to print them all"
        ))
        .remedy("try again when the source has less to do"));
    };
    if writing.is_empty() {
        return Ok(Vec::new());
    }
    let ours = quote_literal(&mysql.source().user);
    let ids: Vec<String> = writing.iter().map(u64::to_string).collect();
    let query = format!(
        "SELECT CAST(id AS CHAR), user, host FROM information_schema.processlist
         WHERE id IN ({}) AND user <> 'system user' AND (user <> {ours} OR command = 'Sleep')",
        ids.join(", ")
    );
    seen(session, &query).await
}

/// Refuses where somebody has a write open that the fence does not stop.
pub(crate) async fn refuse(mysql: &Mysql, session: &mut Conn, tells_of_locks: bool) -> Result<()> {
    let writers = open(mysql, session, tells_of_locks).await?;
    if writers.is_empty() {
        return Ok(());
    }
    let who = Passing::read(mysql, session).await?;
    let passing: Vec<String> = writers
        .into_iter()
        .filter(|writer| who.passes(&writer.user))
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
pub(crate) async fn findings(mysql: &Mysql, gated_backends: GatedBackends<'_>) -> Result<Vec<Check>> {
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
    let tells_of_locks = tells_of_locks(&mut source).await?;
    let (writers, who) = (open(mysql, &mut source, tells_of_locks).await?, Passing::read(mysql, &mut source).await?);
    let gated = gated_backends()?;
    let direct: Vec<&Writer> = writers.iter().filter(|writer| !gated.contains(&writer.id)).collect();
    for writer in direct.iter().take(NAMED_MAX) {
        let (level, remedy) = if who.passes(&writer.user) {
            (Level::Error, "the fence does not stop it: let it end, or end it")
        } else {
            (Level::Warning, "it goes around Headgate; the fence refuses its commit")
        };
        let fix = format!("KILL {}", writer.id);
        findings.checks.push(Check::new("writers", level, writer.who.clone(), remedy, fix));
    }
    if direct.is_empty() {
        findings.ok("writers", "no write transaction goes around Headgate");
    }
    let passers = connected(mysql, &mut source, &who, &gated).await?;
    tell_of_passers(&who, &passers, &mut findings);
    let outcome = prepared(&mut source, &mut findings).await;
    findings.ran("xa_transactions", outcome);
    let outcome = tell_of_hiding(&mut source, &mut findings).await;
    findings.ran(HIDING, outcome);
    Ok(findings.checks)
}

/// Sessions that pass the fence, are no server's own and do not come through the gate.
async fn connected(mysql: &Mysql, session: &mut Conn, who: &Passing, gated: &[i64]) -> Result<Vec<Writer>> {
    let query = format!(
        "SELECT CAST(id AS CHAR), user, host FROM information_schema.processlist
         WHERE user NOT IN ('system user', 'event_scheduler', 'unauthenticated user', {}) AND command <> 'Daemon' ORDER BY id",
        quote_literal(&mysql.source().user)
    );
    let rows = seen(session, &query).await?;
    let mut found = Vec::new();
    for row in &rows {
        let (id, user) = (text(row, 0)?, text(row, 1)?);
        let id: i64 = id.parse().unwrap_or_default();
        if who.passes(&user) && !is_servers(&user) && !gated.contains(&id) {
            let who = format!("session {id} of user {user} from {}", text(row, 2)?);
            found.push(Writer { id, user, who });
        }
    }
    Ok(found)
}

fn tell_of_passers(who: &Passing, passers: &[Writer], findings: &mut Findings) {
    let (level, remedy) = match who.means() {
        Means::ReadOnly => (
            Level::Warning,
            "read_only does not stop it: what it writes to the old source after the switch is not moved",
        ),
        Means::Accounts => (
            Level::Error,
            "its account is above Headgate's, so that the fence can neither lock it out nor end it: let it end, or end it",
        ),
    };
    let rows: Vec<(String, String)> =
        passers.iter().take(NAMED_MAX).map(|one| (one.who.clone(), format!("KILL {}", one.id))).collect();
    findings.each(
        "fence_sessions",
        level,
        &rows,
        remedy,
        "no session that passes the fence is connected around Headgate",
    );
}

/// Refuses while somebody is connected whom a fence of locked accounts could not shut out.
pub(crate) async fn refuse_unlockable(
    mysql: &Mysql,
    session: &mut Conn,
    who: &Passing,
    gated_backends: GatedBackends<'_>,
) -> Result<()> {
    who.refuse_accounts()?;
    let passers = connected(mysql, session, who, &gated_backends()?).await?;
    if passers.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = passers.into_iter().map(|one| one.who).take(NAMED_MAX).collect();
    Err(Error::refused(format!(
        "sessions are connected that the fence can neither lock out nor end: {}",
        named.join("; ")
    ))
    .remedy("end them (an account with SYSTEM_USER may), and try again"))
}

/// Whose sessions belong to the server or to who runs it for others.
pub(crate) fn is_servers(user: &str) -> bool {
    user.starts_with("mysql.") || matches!(user, "mariadb.sys" | "PUBLIC") || service::is_services(user)
}

/// Prepared transactions, which may be committed whatever the server refuses, by their names.
pub(crate) async fn recoverable(session: &mut Conn) -> Result<Vec<String>> {
    const UNKNOWN: &str = "whether prepared transactions (XA) are on the source cannot be known";
    let rows: Vec<Row> = match session.query("XA RECOVER").await {
        Ok(rows) => rows,
        Err(error) => {
            let error = failed(UNKNOWN, error);
            return Err(with_grants(error, session, &["XA_RECOVER_ADMIN ON *.*"]).await);
        }
    };
    Ok(rows
        .iter()
        .map(|row| match row.get_opt::<Vec<u8>, _>(3) {
            Some(Ok(name)) => name.escape_ascii().to_string(),
            _ => String::new(),
        })
        .collect())
}

async fn prepared(session: &mut Conn, findings: &mut Findings) -> Result<()> {
    let names = recoverable(session).await?;
    let rows: Vec<(String, String)> = names
        .iter()
        .take(NAMED_MAX)
        .map(|name| {
            let of = names.len();
            let evidence = format!("one of {of} prepared transactions (XA): '{name}'");
            (evidence, String::new())
        })
        .collect();
    findings.each(
        "xa_transactions",
        Level::Error,
        &rows,
        "end it as its owner wants (XA COMMIT or XA ROLLBACK): it could be committed past the fence",
        "no transaction is prepared (XA) on the source",
    );
    Ok(())
}

const HIDING: &str = "unlogged_writes";
const HIDING_UNKNOWN: &str = "whether a session hides changes from the log cannot be known";

/// Sessions whose changes are in no log, or not row by row: what each does, and its number. `None` where the server
/// tells nobody of the settings of other sessions.
pub(crate) async fn hiding(session: &mut Conn) -> Result<Option<Vec<(String, i64)>>> {
    let version = client::version(session).await?;
    let tells =
        version.is_mysql_from(5, 7, 2) && variable(session, "performance_schema").await?.as_deref() == Some("ON");
    if !tells {
        return Ok(None);
    }
    let query = "SELECT CAST(t.processlist_id AS CHAR), t.processlist_user, v.variable_name, v.variable_value
        FROM performance_schema.variables_by_thread AS v
        JOIN performance_schema.threads AS t ON t.thread_id = v.thread_id
        WHERE (v.variable_name = 'sql_log_bin' AND v.variable_value = 'OFF'
           OR v.variable_name = 'binlog_format' AND v.variable_value <> 'ROW'
           OR v.variable_name = 'binlog_row_image' AND v.variable_value <> 'FULL')
          AND NOT EXISTS (
               SELECT 1 FROM performance_schema.session_connect_attrs AS a WHERE a.processlist_id = t.processlist_id
               AND a.attr_name = 'program_name' AND a.attr_value LIKE 'headgate %') LIMIT 100";
    let rows: Vec<Row> = match session.query(query).await {
        Ok(rows) => rows,
        Err(Failure::Server(reported)) if DENIED.contains(&reported.code) => {
            let error = Error::refused(format!("{HIDING_UNKNOWN}: {}", reported.message));
            return Err(error.remedy(sight_grant(session).await?));
        }
        Err(error) => return Err(failed(HIDING_UNKNOWN, error)),
    };
    let mut found = Vec::new();
    for row in &rows {
        let id = text(row, 0)?;
        let what = format!("session {id} of user {} has {} = {}", text(row, 1)?, text(row, 2)?, text(row, 3)?);
        found.push((what, id.parse().unwrap_or_default()));
    }
    Ok(Some(found))
}

/// What sessions hide from the log, in a session of its own; nothing where the server tells nobody.
pub(crate) async fn hidden(mysql: &Mysql) -> Result<Vec<String>> {
    let mut session = mysql.connect_source("look").await?;
    let found = hiding(&mut session).await?.unwrap_or_default();
    Ok(found.into_iter().map(|(what, _)| what).collect())
}

/// Refuses while a session hides its changes from the log.
pub(crate) async fn refuse_hiding(session: &mut Conn) -> Result<()> {
    let found = hiding(session).await?.unwrap_or_default();
    if found.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = found.into_iter().map(|(what, _)| what).take(NAMED_MAX).collect();
    Err(Error::refused(format!(
        "sessions hide their changes from the log, and these do not reach the target: {}",
        named.join("; ")
    ))
    .remedy("end these sessions, then CHECK the migration again"))
}

async fn tell_of_hiding(session: &mut Conn, findings: &mut Findings) -> Result<()> {
    let Some(found) = hiding(session).await? else {
        let version = client::version(session).await?;
        let who = Holders::read(session, version, hiding_rights(version)).await?;
        findings.warning(
            HIDING,
            format!(
                "{HIDING_UNKNOWN}: {version} tells nobody of the settings of other sessions; who may: {}",
                who.named(NAMED_MAX)
            ),
            "see that none of them sets sql_log_bin = 0 or another binlog_format on the source; where one did, CHECK the \
             migration again, which compares every row",
            "",
        );
        return Ok(());
    };
    let rows: Vec<(String, String)> = found
        .into_iter()
        .take(NAMED_MAX)
        .map(|(what, id)| (format!("{what}: its changes do not reach the target"), format!("KILL {id}")))
        .collect();
    findings.each(
        HIDING,
        Level::Error,
        &rows,
        "end the session, then CHECK the migration again: what it wrote is in no log",
        "no session hides its changes from the log",
    );
    Ok(())
}

/// The rights by which a session may keep its changes out of the log.
fn hiding_rights(version: Version) -> &'static [&'static str] {
    if version.is_mysql_from(8, 0, 0) {
        &["SUPER", "SYSTEM_VARIABLES_ADMIN", "SESSION_VARIABLES_ADMIN"]
    } else {
        &["SUPER", "BINLOG ADMIN", "ALL PRIVILEGES"]
    }
}

/// The server refuses this table to whoever may not see the sessions of others.
async fn sees_sessions(session: &mut Conn) -> Result<bool> {
    let asked: std::result::Result<Vec<Row>, Failure> =
        session.query("SELECT 1 FROM information_schema.innodb_trx LIMIT 1").await;
    match asked {
        Ok(_) => Ok(true),
        Err(Failure::Server(reported)) if reported.code == 1227 => Ok(false),
        Err(error) => Err(unseen(session, error).await),
    }
}

pub(crate) async fn own_account(session: &mut Conn) -> Result<String> {
    let reported: Option<String> = session
        .query_first(refusal::ACCOUNT)
        .await
        .map_err(|error| failed("cannot ask for Headgate's own account", error))?;
    Ok(reported.unwrap_or_default())
}

/// Asks what sessions do, as [`sessions`] does.
pub(crate) async fn seen(session: &mut Conn, query: &str) -> Result<Vec<Row>> {
    match sessions(session, query).await {
        Ok(rows) => Ok(rows),
        Err(error) => Err(unseen(session, error).await),
    }
}

/// Who writes cannot be seen: with the grant that lets the account look, where it lacks one.
async fn unseen(session: &mut Conn, error: Failure) -> Error {
    let error = failed("cannot see who writes to the source", error);
    with_grants(error, session, &["PROCESS ON *.*"]).await
}
