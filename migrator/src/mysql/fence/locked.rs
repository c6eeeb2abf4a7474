//! The fence where nobody is permitted `read_only`, as with many services: locks on the tables are the barrier, and
//! accounts that are locked, with their sessions ended, the refusal.

use std::collections::BTreeSet;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure, Row};
use tokio::time::{Instant, sleep};

use super::super::accounts::{self, Account};
use super::super::client::failed;
use super::super::described::text;
use super::super::sql::{qualified, quote_ident, quote_literal};
use super::super::watched::sessions;
use super::super::{Mysql, orphans};
use crate::error::{Error, Result};
use crate::plan::Plan;

/// How long the sessions of locked accounts have to end.
const END_PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The account lacks a right.
const DENIED: u16 = 1227;
/// There is no such account any more.
const NO_SUCH_ACCOUNT: u16 = 1396;
const NAMED_MAX: usize = 5;

/// Whether Headgate's account may lock accounts: asked by locking one that nobody has.
pub(super) async fn is_permitted(session: &mut Conn) -> Result<bool> {
    let nobody = "ALTER USER IF EXISTS `headgate nobody`@`localhost` ACCOUNT LOCK";
    match session.query_drop(nobody).await {
        Ok(()) => Ok(true),
        Err(Failure::Server(told)) if told.code == DENIED => Ok(false),
        Err(error) => Err(failed("cannot try to lock an account", error)),
    }
}

/// The statement that puts the barrier up, in a session that [`prepare`] has made ready: who reads goes on.
pub(super) fn barrier(plan: &Plan) -> String {
    let tables = plan.tables.iter().map(|one| (&one.schema, &one.name));
    let counters = plan.counters.iter().map(|one| (&one.schema, &one.name));
    let all: BTreeSet<_> = tables.chain(counters).collect();
    let locks: Vec<String> = all
        .into_iter()
        .map(|(schema, name)| format!("{} READ", qualified(schema, name)))
        .collect();
    if locks.is_empty() {
        "DO 0".to_owned()
    } else {
        format!("LOCK TABLES {}", locks.join(", "))
    }
}

/// With autocommit some servers lock the tables for statements only, and InnoDB's writers pass.
pub(super) async fn prepare(session: &mut Conn) -> Result<()> {
    session
        .query_drop("SET SESSION autocommit = 0, innodb_table_locks = 1")
        .await
        .map_err(|error| failed("cannot prepare the fence", error))
}

/// Refuses where events would go on writing: nobody without the right to set `read_only` can stop them all.
pub(super) async fn refuse_events(mysql: &Mysql, session: &mut Conn) -> Result<()> {
    for database in mysql.databases() {
        // The list of all events leaves out those that the account may not see; this refuses instead.
        let seeing = session.query_drop(format!("SHOW EVENTS FROM {}", quote_ident(&database)));
        seeing.await.map_err(|error| {
            failed("cannot list the source's events", error)
                .remedy("GRANT EVENT ON *.* to Headgate's account on the source")
        })?;
    }
    let events: Vec<(String, String)> = session
        .query(
            "SELECT EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS
             WHERE STATUS = 'ENABLED' AND @@GLOBAL.event_scheduler = 'ON' ORDER BY 1, 2",
        )
        .await
        .map_err(|error| failed("cannot list the source's events", error))?;
    let Some(first) = events.first() else {
        return Ok(());
    };
    let name = |(schema, event): &(String, String)| qualified(schema, event);
    let named: Vec<String> = events.iter().take(NAMED_MAX).map(name).collect();
    Err(Error::refused(format!(
        "{} events are enabled on the source, and Headgate's account may not stop the event scheduler: {}",
        events.len(),
        named.join(", ")
    ))
    .remedy(format!(
        "disable them before the migration starts (ALTER EVENT {} DISABLE) and enable them on the target \
         after the switch, or grant SYSTEM_VARIABLES_ADMIN (MySQL 8) or SUPER",
        name(first)
    )))
}

/// The accounts that applications use and that may log in now.
pub(super) async fn accounts(mysql: &Mysql, session: &mut Conn) -> Result<Vec<(String, String)>> {
    let all = accounts::read(mysql, session).await?;
    let open = |account: &Account| !account.is_role && !account.locked;
    Ok(all
        .into_iter()
        .filter(open)
        .map(|account| (account.user, account.host))
        .collect())
}

/// Locks accounts, or lets them in again. One that is gone meanwhile needs neither.
pub(super) async fn set(
    session: &mut Conn,
    accounts: &[(String, String)],
    locked: bool,
) -> Result<()> {
    let word = if locked { "LOCK" } else { "UNLOCK" };
    for (user, host) in accounts {
        let (user, host) = (quote_ident(user), quote_ident(host));
        let statement = format!("ALTER USER {user}@{host} ACCOUNT {word}");
        match session.query_drop(statement).await {
            Ok(()) => {}
            Err(Failure::Server(told)) if told.code == NO_SUCH_ACCOUNT => {}
            Err(error) => {
                return Err(failed(
                    &format!("cannot {} accounts of the source", word.to_lowercase()),
                    error,
                )
                .remedy("GRANT CREATE USER ON *.* to Headgate's account on the source"));
            }
        }
    }
    Ok(())
}

/// Ends the sessions of locked accounts, but those that the gate carries, and sees that they are gone.
pub(super) async fn end_sessions(
    session: &mut Conn,
    accounts: &[(String, String)],
    carried: &[i64],
) -> Result<()> {
    let users: BTreeSet<String> = accounts
        .iter()
        .map(|(user, _)| quote_literal(user))
        .collect();
    let users: Vec<String> = users.into_iter().collect();
    if users.is_empty() {
        return Ok(());
    }
    // Whoever was in the middle of a login when its account was locked is seen by the next look.
    let query = format!(
        "SELECT CAST(id AS CHAR), user, host FROM information_schema.processlist
         WHERE user IN ({}) AND command NOT IN ('Binlog Dump', 'Binlog Dump GTID')",
        users.join(", ")
    );
    let give_up = Instant::now() + END_PATIENCE;
    let mut clear = 0;
    while clear < 2 {
        let rows = sessions(session, &query)
            .await
            .map_err(|error| failed("cannot see the sessions of the source", error))?;
        let mut left = Vec::new();
        for row in &rows {
            let id = text(row, 0)?.parse::<u64>().unwrap_or_default();
            if !carried.iter().any(|&one| u64::try_from(one) == Ok(id)) {
                left.push((id, row));
            }
        }
        let Some((first, row)) = left.first() else {
            clear += 1;
            continue;
        };
        clear = 0;
        if Instant::now() >= give_up {
            return Err(late(*first, row));
        }
        for (id, _) in &left {
            let killed = orphans::kill(session, *id).await;
            killed.map_err(|error| {
                error.remedy(
                    "GRANT CONNECTION_ADMIN (MySQL), or CONNECTION ADMIN (MariaDB), ON *.* to Headgate's account",
                )
            })?;
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn late(id: u64, row: &Row) -> Error {
    let cell = |at| text(row, at).unwrap_or_default();
    Error::transient(format!(
        "the session {id} of user {} from {} did not end",
        cell(1),
        cell(2)
    ))
    .remedy("look at what it waits for, end it, and try again")
}
