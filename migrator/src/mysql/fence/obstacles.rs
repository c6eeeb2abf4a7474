//! What would make the fence fail, or let writers pass it: looked for before anything is held.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure, Row};

use super::super::client::{Version, failed};
use super::super::rights::{Held, READ_ONLY_FENCE, with_grants};
use super::locked;
use super::passing::{Means, own_rights};
use super::writers::{recoverable, seen};
use crate::error::{Error, Result};
use crate::mysql::catalogue::text;

/// The account lacks a right.
const DENIED: [u16; 3] = [1044, 1142, 1227];
/// A statement that has run this long may run on, and the fence would have to wait for it.
const LONG: u32 = 30;
const NAMED_MAX: usize = 5;

/// Refuses where the fence would not hold, or would have to wait.
pub(super) async fn refuse(session: &mut Conn) -> Result<()> {
    refuse_prepared(session).await?;
    refuse_replica(session).await?;
    let writers = writers(session, LONG).await?;
    if writers.is_empty() {
        return Ok(());
    }
    Err(Error::refused(format!("the fence would have to wait: {}", writers.join("; ")))
        .remedy("let these end, or end them, and try again"))
}

/// By what the account may fence the source. Refuses where by nothing.
pub(super) async fn means(session: &mut Conn, version: Version) -> Result<Means> {
    // It is off already, so this changes nothing and waits for nobody, but asks for the same right.
    match session.query_drop("SET GLOBAL read_only = OFF").await {
        Ok(()) => {
            refuse_without_passage(session, version).await?;
            Ok(Means::ReadOnly)
        }
        Err(Failure::Server(reported)) if DENIED.contains(&reported.code) => {
            let held = Held::read(session).await?;
            let locking = held.account_fence_grants(version);
            if let Some(lacking) = &locking
                && locked::is_permitted(session).await?
            {
                if lacking.is_empty() {
                    return Ok(Means::Accounts);
                }
                return Err(Error::refused(
                    "Headgate's account on the source may lock accounts in place of read_only, and may not end their \
                     sessions or see every event",
                )
                .remedy(lacking.join("; ")));
            }
            let mut remedy = held.grants(version, &READ_ONLY_FENCE).join("; ");
            if let Some(lacking) = locking {
                remedy = format!("{remedy}; or, where a service gives nobody these, {}", lacking.join("; "));
            }
            Err(Error::refused(
                "Headgate's account on the source may not set read_only, nor lock accounts in its place",
            )
            .remedy(remedy))
        }
        Err(error) => Err(failed("cannot try the fence", error)),
    }
}

async fn refuse_without_passage(session: &mut Conn, version: Version) -> Result<()> {
    let own = own_rights(session).await?;
    let mut passing = vec!["ALL PRIVILEGES", "READ_ONLY ADMIN", "CONNECTION_ADMIN"];
    // MariaDB took this right away from SUPER.
    if !version.is_mariadb() || version.number < (10, 11, 0) {
        passing.push("SUPER");
    }
    if passing.iter().any(|right| own.contains(*right)) {
        return Ok(());
    }
    let error = Error::refused("Headgate's account could not write its marker to a source that is read only");
    Err(with_grants(error, session, &READ_ONLY_FENCE).await)
}

/// A prepared transaction may be committed whatever the server refuses.
pub(super) async fn refuse_prepared(session: &mut Conn) -> Result<()> {
    let prepared = recoverable(session).await?;
    if prepared.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = prepared.iter().take(NAMED_MAX).map(|name| format!("'{name}'")).collect();
    Err(Error::refused(format!(
        "{} prepared transactions (XA) are on the source, and they could be committed behind the fence: {}",
        prepared.len(),
        named.join(", ")
    ))
    .remedy("XA RECOVER lists them: let them be committed or rolled back, and try again"))
}

/// What comes by replication passes `read_only`.
async fn refuse_replica(session: &mut Conn) -> Result<()> {
    let query = "SELECT id FROM information_schema.processlist
         WHERE user = 'system user' AND command NOT IN ('Daemon', 'Sleep')";
    let threads = seen(session, query).await?;
    if threads.is_empty() {
        return Ok(());
    }
    Err(Error::refused("the source replicates from another server, which passes the fence")
        .remedy("migrate from that server, or stop the replication"))
}

/// Statements that have been writing for at least so many seconds.
async fn writers(session: &mut Conn, seconds: u32) -> Result<Vec<String>> {
    let query = format!(
        "SELECT CAST(p.id AS CHAR), p.user, p.host, CAST(p.time AS CHAR), CAST(t.trx_rows_modified AS CHAR)
         FROM information_schema.innodb_trx AS t
         JOIN information_schema.processlist AS p ON p.id = t.trx_mysql_thread_id
         WHERE p.command <> 'Sleep' AND p.time >= {seconds} AND t.trx_rows_modified > 0
         ORDER BY p.time DESC LIMIT {NAMED_MAX}"
    );
    let rows = seen(session, &query).await?;
    rows.iter()
        .map(|row| {
            Ok(format!(
                "session {} of user {} from {} has been writing for {} s and changed {} rows",
                text(row, 0)?,
                text(row, 1)?,
                text(row, 2)?,
                text(row, 3)?,
                text(row, 4)?
            ))
        })
        .collect()
}

/// Who may be keeping the fence waiting at this moment, but never what they say.
pub(super) async fn running(session: &mut Conn, fence: u32) -> Result<String> {
    let ours = session.id();
    let query = format!(
        "SELECT CAST(id AS CHAR), user, host, command, COALESCE(state, ''), CAST(time AS CHAR)
         FROM information_schema.processlist
         WHERE id NOT IN ({ours}, {fence}) AND command NOT IN ('Sleep', 'Daemon', 'Binlog Dump', 'Binlog Dump GTID')
           AND COALESCE(state, '') NOT LIKE 'Waiting for%lock'
         ORDER BY time DESC LIMIT {NAMED_MAX}"
    );
    // The fence is holding writers back: one look must do.
    let rows: Vec<Row> =
        session.query(query).await.map_err(|error| failed("cannot see who writes to the source", error))?;
    let mut named = Vec::with_capacity(rows.len());
    for row in &rows {
        named.push(format!(
            "session {} of user {} from {}, {} {:?} for {} s",
            text(row, 0)?,
            text(row, 1)?,
            text(row, 2)?,
            text(row, 3)?,
            text(row, 4)?,
            text(row, 5)?
        ));
    }
    if named.is_empty() {
        return Ok("none that is still there; a session may hold LOCK TABLES".to_owned());
    }
    Ok(named.join("; "))
}
