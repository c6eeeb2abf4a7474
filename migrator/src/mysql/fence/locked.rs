//! The fence where nobody is permitted `read_only`, as with many services: locks on the tables are the barrier, and
//! accounts that are locked, with their sessions ended, the refusal.

use std::collections::BTreeSet;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure, Row};
use tokio::time::{Instant, sleep};

use super::super::Mysql;
use super::super::client::failed;
use super::super::processlist::sessions;
use super::super::sql::{qualified, quote_ident, quote_literal};
use super::writers::is_servers;
use crate::database::GatedBackends;
use crate::error::{Error, Result};
use crate::model::plan::Plan;
use crate::mysql::catalogue::text;
use crate::mysql::schema::accounts;
use crate::mysql::schema::accounts::account::Account;
use crate::mysql::service;
use crate::preflight::{Findings, Level};

/// How long the sessions of locked accounts have to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The account lacks a right.
const DENIED: u16 = 1227;
/// There is no such account any more.
const NO_SUCH_ACCOUNT: u16 = 1396;
/// Nobody can log in by an account whose plugin the server does not have.
const NO_PLUGIN: u16 = 1524;
const NO_SUCH_THREAD: u16 = 1094;
/// The session is of an account above Headgate's.
const NOT_OURS: u16 = 1095;
/// Who a session is of as long as it has not logged in.
const LOGGING_IN: &str = "unauthenticated user";
/// Accounts in one statement.
const TOGETHER: usize = 50;
const NAMED_MAX: usize = 5;

/// Whether Headgate's account may lock accounts: asked by locking one that nobody has.
pub(super) async fn is_permitted(session: &mut Conn) -> Result<bool> {
    let nobody = "ALTER USER IF EXISTS `headgate nobody`@`localhost` ACCOUNT LOCK";
    match session.query_drop(nobody).await {
        Ok(()) => Ok(true),
        Err(Failure::Server(reported)) if reported.code == DENIED => Ok(false),
        Err(error) => Err(failed("cannot try to lock an account", error)),
    }
}

/// The statement that puts the barrier up, in a session that [`prepare`] has made ready: who reads goes on.
pub(super) fn barrier(plan: &Plan) -> String {
    let tables = plan.tables.iter().map(|one| (&one.schema, &one.name));
    let counters = plan.counters.iter().map(|one| (&one.schema, &one.name));
    let all: BTreeSet<_> = tables.chain(counters).collect();
    let locks: Vec<String> =
        all.into_iter().map(|(schema, name)| format!("{} READ", qualified(schema, name))).collect();
    if locks.is_empty() { "DO 0".to_owned() } else { format!("LOCK TABLES {}", locks.join(", ")) }
}

/// With autocommit some servers lock the tables for statements only, and InnoDB's writers pass.
pub(super) async fn prepare(session: &mut Conn) -> Result<()> {
    session
        .query_drop("SET SESSION autocommit = 0, innodb_table_locks = 1")
        .await
        .map_err(|error| failed("cannot prepare the fence", error))
}

/// The events that run on the source, in whichever database.
async fn running_events(session: &mut Conn) -> Result<Vec<String>> {
    let events: Vec<(String, String)> = session
        .query(
            "SELECT EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS
             WHERE STATUS = 'ENABLED' AND @@GLOBAL.event_scheduler = 'ON' ORDER BY 1, 2",
        )
        .await
        .map_err(|error| failed("cannot list the source's events", error))?;
    let name = |(schema, event): &(String, String)| qualified(schema, event);
    Ok(events.iter().map(name).collect())
}

/// Refuses where events would go on writing: nobody without the right to set `read_only` can stop them all. What is
/// disabled now would be a change of the definitions that move.
pub(super) async fn refuse_events(session: &mut Conn) -> Result<()> {
    let events = running_events(session).await?;
    if events.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = events.iter().take(NAMED_MAX).cloned().collect();
    Err(Error::refused(format!(
        "{} events are enabled on the source, and Headgate's account may not stop the event scheduler: {}",
        events.len(),
        named.join(", ")
    ))
    .remedy(
        "an administrator, or the service's settings, can stop it until the switch: SET GLOBAL event_scheduler = OFF",
    ))
}

/// The same before anything moves.
pub(in super::super) async fn events_finding(session: &mut Conn, findings: &mut Findings) -> Result<()> {
    let events = running_events(session).await?;
    let rows: Vec<(String, String)> = events
        .into_iter()
        .map(|event| {
            (
                format!("the event {event} is enabled on the source, and Headgate's account may not stop the event scheduler"),
                format!("ALTER EVENT {event} DISABLE"),
            )
        })
        .collect();
    findings.each(
        "source_events",
        Level::Error,
        &rows,
        "what it writes during and after the cutover would be lost: disable it before the migration starts and enable it \
         on the target after the switch, or have an administrator stop the scheduler until then",
        "no event runs on the source",
    );
    Ok(())
}

/// The accounts that may log in now: all but Headgate's and the server's own. Not the list of those that are copied:
/// here nobody may be forgotten.
pub(super) async fn accounts(mysql: &Mysql, session: &mut Conn) -> Result<Vec<(String, String)>> {
    let all = accounts::all(session).await?;
    let open = |account: &Account| {
        !account.is_role && !account.locked && !is_servers(&account.user) && account.user != mysql.source().user
    };
    Ok(all.into_iter().filter(open).map(|account| (account.user, account.host)).collect())
}

fn names(accounts: &[(String, String)]) -> Vec<String> {
    let name = |(user, host): &(String, String)| format!("{}@{}", quote_ident(user), quote_ident(host));
    accounts.iter().map(name).collect()
}

/// Locks accounts. One that is above Headgate's own is named in the log, as those are that pass `read_only`.
pub(super) async fn lock(mysql: &Mysql, session: &mut Conn, accounts: &[(String, String)]) -> Result<()> {
    let mut above = Vec::new();
    for (name, failure) in alter(session, accounts, "LOCK").await {
        match failure {
            Failure::Server(reported) if reported.code == DENIED => above.push(name),
            error => return Err(failed("cannot lock accounts of the source", error)),
        }
    }
    let left = self::accounts(mysql, session).await?;
    let left: Vec<String> = names(&left).into_iter().filter(|name| !above.contains(name)).collect();
    if !above.is_empty() {
        tracing::warn!(
            migration = mysql.name(),
            accounts = above.join(", "),
            "these accounts are above Headgate's and pass the fence: what they write to the old source is not moved"
        );
    }
    let Some(first) = left.first() else {
        return Ok(());
    };
    Err(Error::transient(format!("{} accounts of the source could not be locked, such as {first}", left.len()))
        .remedy("drop them or log in by none of them, and try again"))
}

/// Lets accounts in again. One that is gone meanwhile, or was never locked, needs nothing.
pub(super) async fn unlock(session: &mut Conn, accounts: &[(String, String)]) -> Result<()> {
    for (_, failure) in alter(session, accounts, "UNLOCK").await {
        match failure {
            Failure::Server(reported) if reported.code == DENIED => {}
            error => return Err(failed("cannot unlock accounts of the source", error)),
        }
    }
    Ok(())
}

/// Locks or unlocks accounts, many at a time where they let themselves, and tells which failed. Those that are gone, or
/// by which nobody can log in, need neither.
pub(super) async fn alter(session: &mut Conn, accounts: &[(String, String)], word: &str) -> Vec<(String, Failure)> {
    let mut failures = Vec::new();
    for some in accounts.chunks(TOGETHER) {
        let all = names(some);
        let together = format!("ALTER USER {} ACCOUNT {word}", all.join(", "));
        if session.query_drop(together).await.is_ok() {
            continue;
        }
        for name in all {
            match session.query_drop(format!("ALTER USER {name} ACCOUNT {word}")).await {
                Ok(()) => {}
                Err(Failure::Server(reported)) if matches!(reported.code, NO_SUCH_ACCOUNT | NO_PLUGIN) => {}
                Err(error) => failures.push((name, error)),
            }
        }
    }
    failures
}

/// Ends every session but those that the gate holds and Headgate's and the server's own, and sees that they are gone.
pub(super) async fn end_sessions(mysql: &Mysql, session: &mut Conn, gated_backends: GatedBackends<'_>) -> Result<()> {
    let query = format!(
        "SELECT CAST(id AS CHAR), user, host FROM information_schema.processlist
         WHERE user NOT IN ('system user', 'event_scheduler', {})
           AND command NOT IN ('Daemon', 'Binlog Dump', 'Binlog Dump GTID')",
        quote_literal(&mysql.source().user)
    );
    let give_up = Instant::now() + END_TIMEOUT;
    // A login reads its account when it begins: one that was under way when the accounts were locked may still succeed.
    let mut logging_in: Option<BTreeSet<u64>> = None;
    loop {
        let rows =
            sessions(session, &query).await.map_err(|error| failed("cannot see the sessions of the source", error))?;
        let spared = gated_backends()?;
        let (mut left, mut nameless) = (Vec::new(), BTreeSet::new());
        for row in &rows {
            let id = text(row, 0)?.parse::<u64>().unwrap_or_default();
            let user = text(row, 1)?;
            if user == LOGGING_IN {
                nameless.insert(id);
                if logging_in.as_ref().is_none_or(|first| first.contains(&id)) {
                    left.push((id, row));
                }
            } else if !is_servers(&user) && !spared.iter().any(|&one| u64::try_from(one) == Ok(id)) {
                left.push((id, row));
            }
        }
        logging_in.get_or_insert(nameless);
        let Some((first, row)) = left.first() else {
            return Ok(());
        };
        if Instant::now() >= give_up {
            return Err(late(*first, row));
        }
        for (id, _) in &left {
            match service::end_session(session, *id).await {
                Ok(()) => {}
                Err(Failure::Server(reported)) if reported.code == NO_SUCH_THREAD => {}
                // Its account is one that could not be locked either.
                Err(Failure::Server(reported)) if reported.code == NOT_OURS => {
                    return Err(Error::refused(format!(
                        "the fence can neither lock out nor end the session {id}: {}",
                        reported.message
                    ))
                    .remedy("end it (an account with SYSTEM_USER may), and try again"));
                }
                Err(error) => return Err(failed("cannot end a session", error)),
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

fn late(id: u64, row: &Row) -> Error {
    let cell = |at| text(row, at).unwrap_or_default();
    Error::transient(format!("the session {id} of user {} from {} did not end", cell(1), cell(2)))
        .remedy("look at what it waits for, end it, and try again")
}
