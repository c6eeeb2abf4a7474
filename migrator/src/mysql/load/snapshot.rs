//! Exact snapshots of the source.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::try_join_all;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::backoff::Backoff;
use crate::error::{Error, Kind, Result};
use crate::model::plan::Table;
use crate::mysql::catalogue::text;
use crate::mysql::client;
use crate::mysql::client::{Version, failed};
use crate::mysql::processlist::{MACHINE_TIME, sessions};
use crate::mysql::sql::{relation, title};
use crate::mysql::{BinlogPosition, Mysql, position};

/// Makes a session's next transaction see one moment only, and write nothing.
pub(crate) const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
/// What a session needs before [`BEGIN`].
pub(crate) const ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ";

/// How long the lock may wait, and with it every writer that came after it.
const WAIT_MAX: Duration = Duration::from_millis(200);
/// How long everything may take while the lock is held.
const HOLD_MAX: Duration = Duration::from_secs(2);
/// How often the lock is tried before the operator is told who is in its way.
const ATTEMPTS: u32 = 8;
/// A statement that runs for longer is not quick.
const QUICK: Duration = Duration::from_millis(30);
/// How many of these attempts hold the whole server's commits back, where the account may do that.
const WHOLE_ATTEMPTS: u32 = 5;

/// Sessions whose transactions see exactly what was committed before one position.
pub struct Exact {
    /// Everything of the tables that was committed before it is seen, and nothing else.
    pub position: BinlogPosition,
    /// The sessions, in a read-only transaction each.
    pub sessions: Vec<Conn>,
}

/// Opens `count` sessions at one exact position, while nothing is committed for some milliseconds. `None` when `stop`
/// was cancelled first.
pub async fn exact(mysql: &Mysql, tables: &[Table], count: usize, stop: &CancellationToken) -> Result<Option<Exact>> {
    let sessions = try_join_all((0..count).map(|_| async {
        let mut session = mysql.connect_source("snapshot").await?;
        session
            .query_drop(ISOLATION)
            .await
            .map_err(|error| failed("cannot prepare a snapshot of the source", error))?;
        Ok::<_, Error>(session)
    }))
    .await?;
    let begun = async move {
        try_join_all(sessions.into_iter().map(|mut session| async move {
            session.query_drop(BEGIN).await.map_err(|error| failed("cannot open a snapshot of the source", error))?;
            Ok::<_, Error>(session)
        }))
        .await
    };
    let held = while_locked(mysql, tables, stop, begun).await?;
    Ok(held.map(|(position, sessions)| Exact { position, sessions }))
}

/// A way to hold commits back, and how that ends. The end of the connection ends it as well.
#[derive(Debug)]
struct Freeze {
    take: Vec<String>,
    release: &'static str,
}

impl Freeze {
    /// Nothing is committed on the whole server. Transactions wait at their next write, or on MariaDB at their COMMIT, for
    /// one lock that nobody holds while waiting for another: none is ended as a deadlock. Needs RELOAD.
    fn whole(version: Version) -> Self {
        if version.is_mariadb() {
            // MariaDB's manual, "BACKUP STAGE": closes no tables and waits for no reader.
            Self {
                take: vec!["BACKUP STAGE START".to_owned(), "BACKUP STAGE BLOCK_COMMIT".to_owned()],
                release: "BACKUP STAGE END",
            }
        } else {
            Self { take: vec!["FLUSH TABLES WITH READ LOCK".to_owned()], release: "UNLOCK TABLES" }
        }
    }

    /// Nothing is written to these tables. It waits for open transactions that wrote to one of them while it holds
    /// others, so that the server may end a client's transaction that closes the circle.
    fn of(tables: &[Table]) -> Self {
        let locks: Vec<String> = tables.iter().map(|table| format!("{} READ", relation(table))).collect();
        let take = if locks.is_empty() { Vec::new() } else { vec![format!("LOCK TABLES {}", locks.join(", "))] };
        Self { take, release: "UNLOCK TABLES" }
    }
}

/// Runs `begin` while nothing is committed to `tables`, and tells the position at which that was. All goes on when this
/// returns, in whatever way.
pub(crate) async fn while_locked<T>(
    mysql: &Mysql,
    tables: &[Table],
    stop: &CancellationToken,
    begin: impl Future<Output = Result<T>>,
) -> Result<Option<(BinlogPosition, T)>> {
    let Some((mut locker, freeze)) = lock(mysql, tables, stop).await? else {
        return Ok(None);
    };
    let held = async {
        let position = position::current(&mut locker).await?;
        Ok::<_, Error>((position, begin.await?))
    };
    let outcome = tokio::time::timeout(HOLD_MAX, held).await;
    // The connection's end releases the lock as well, where this statement fails.
    let releasing = tokio::time::timeout(HOLD_MAX, locker.query_drop(freeze.release)).await;
    drop(locker);
    let held = outcome.map_err(|_| {
        Error::transient(format!(
            "the source did not open a snapshot within {} s; its writers were held up no longer",
            HOLD_MAX.as_secs()
        ))
    })??;
    // The end of the connection released it, if this did not.
    if let Ok(released) = releasing {
        released.map_err(|error| failed("cannot release the source's writers", error))?;
    }
    Ok(Some(held))
}

/// A session that holds commits back. `None` when `stop` was cancelled first.
async fn lock(mysql: &Mysql, tables: &[Table], stop: &CancellationToken) -> Result<Option<(Conn, Freeze)>> {
    let mut watcher = mysql.connect_source("snapshot watch").await?;
    let version = client::version(&mut watcher).await?;
    let mut may_whole = true;
    let mut pause = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    for attempt in 0..ATTEMPTS {
        if stop.is_cancelled() {
            return Ok(None);
        }
        let whole = may_whole && attempt < WHOLE_ATTEMPTS;
        if whole && (version.is_mariadb() || is_quick(&mut watcher).await?) {
            let freeze = Freeze::whole(version);
            let locker = mysql.connect_source("snapshot lock").await?;
            match try_lock(locker, &mut watcher, &freeze.take).await {
                Ok(Some(locker)) => return Ok(Some((locker, freeze))),
                // Given up, MySQL's lock leaves its tables waiting for whoever reads them: that is not tried twice.
                Ok(None) => may_whole = version.is_mariadb(),
                Err(error) => {
                    info!(%error, "the source's tables are locked one by one for a snapshot");
                    may_whole = false;
                }
            }
        }
        if !whole {
            let freeze = Freeze::of(tables);
            let locker = mysql.connect_source("snapshot lock").await?;
            if let Some(locker) = try_lock(locker, &mut watcher, &freeze.take).await? {
                return Ok(Some((locker, freeze)));
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(pause.step()) => {}
        }
    }
    let names: Vec<String> = tables.iter().take(5).map(title).collect();
    Err(Error::transient(format!(
        "an exact snapshot of {} needs a moment without writers, and none came in {ATTEMPTS} attempts; open for longest: {}",
        names.join(", "),
        blockers(&mut watcher).await
    ))
    .remedy("end those transactions, or wait; the snapshot is tried again"))
}

/// Whether no statement runs for long: FLUSH TABLES WITH READ LOCK waits for each that reads a table, and once it has
/// begun, so does everybody else who wants that table, even after it was given up. False where nobody tells.
async fn is_quick(watcher: &mut Conn) -> Result<bool> {
    let ours = u64::from(watcher.id());
    let query = "SELECT t.PROCESSLIST_ID, e.EVENT_ID, COALESCE(t.PROCESSLIST_TIME, 0)
         FROM performance_schema.threads t
         JOIN performance_schema.events_statements_current e ON e.THREAD_ID = t.THREAD_ID
         WHERE t.PROCESSLIST_COMMAND NOT IN ('Sleep', 'Daemon', 'Connect', 'Binlog Dump', 'Binlog Dump GTID')";
    let mut before: Option<BTreeSet<(u64, u64)>> = None;
    loop {
        let rows: Vec<(u64, u64, i64)> = match watcher.query(query).await {
            Ok(rows) => rows,
            Err(mysql_async::Error::Server(_)) => return Ok(false),
            Err(error) => return Err(failed("cannot see what the source's sessions do", error)),
        };
        let reported = rows.iter().any(|(session, ..)| *session == ours);
        let slow = rows.iter().any(|(_, _, seconds)| *seconds > 0);
        if !reported || slow {
            return Ok(false);
        }
        let running = rows.into_iter().map(|(session, statement, _)| (session, statement));
        let running: BTreeSet<_> = running.filter(|(session, _)| *session != ours).collect();
        if let Some(before) = before {
            return Ok(before.is_disjoint(&running));
        }
        before = Some(running);
        tokio::time::sleep(QUICK).await;
    }
}

/// One attempt, given up before it holds writers back for long. Gives the session back where it has the lock.
async fn try_lock(mut locker: Conn, watcher: &mut Conn, statements: &[String]) -> Result<Option<Conn>> {
    let refused = |error| failed("cannot lock the source for a snapshot", error);
    let id = locker.id();
    // With autocommit, servers before 5.7 lock the table for statements only, and InnoDB's writers pass.
    locker
        .query_drop("SET SESSION lock_wait_timeout = 1, innodb_table_locks = 1, autocommit = 0, wait_timeout = 10")
        .await
        .map_err(refused)?;
    let outcome = {
        let mut locking = pin!(async {
            for statement in statements {
                locker.query_drop(statement.as_str()).await?;
            }
            Ok(())
        });
        tokio::select! {
            outcome = &mut locking => Some(outcome),
            () = tokio::time::sleep(WAIT_MAX) => {
                // Dropping the connection alone would leave the statement waiting on the server, and writers behind it.
                watcher
                    .query_drop(format!("KILL {id}"))
                    .await
                    .map_err(|error| failed("cannot give up a lock on the source", error))?;
                None
            }
        }
    };
    match outcome {
        None => Ok(None),
        Some(Ok(())) => Ok(Some(locker)),
        Some(Err(error)) => {
            let error = refused(error);
            if error.kind() == Kind::Transient { Ok(None) } else { Err(error) }
        }
    }
}

/// The longest open transactions of the source, told for people.
async fn blockers(watcher: &mut Conn) -> String {
    let query = format!(
        "SELECT CAST(p.ID AS CHAR), p.USER, p.HOST, CAST(TIMESTAMPDIFF(SECOND, t.trx_started, {MACHINE_TIME}) AS CHAR)
         FROM information_schema.INNODB_TRX t
         JOIN information_schema.PROCESSLIST p ON p.ID = t.trx_mysql_thread_id
         WHERE p.ID <> CONNECTION_ID() ORDER BY t.trx_started LIMIT 5"
    );
    match sessions(watcher, &query).await {
        Ok(rows) if rows.is_empty() => "none by now".to_owned(),
        Ok(rows) => {
            let cell = |row: &Row, at: usize| text(row, at).unwrap_or_default();
            let named = rows.iter().map(|row| {
                format!("connection {} of {}@{} for {} s", cell(row, 0), cell(row, 1), cell(row, 2), cell(row, 3))
            });
            named.collect::<Vec<_>>().join("; ")
        }
        Err(_) => "not visible to Headgate's account, which needs PROCESS".to_owned(),
    }
}
