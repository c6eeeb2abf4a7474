//! The fence: `read_only` on the source, which is barrier and refusal in one, and the marker that says "everything
//! before me". Headgate's own account passes it, so that the marker can be written once nobody else writes. Where nobody
//! may set `read_only`, table locks and locked accounts take its place.

pub mod counters;
mod durable;
mod kept;
mod locked;
mod look;
pub(crate) mod mark;
mod obstacles;
pub(crate) mod passing;
mod write_block;
pub(crate) mod writers;

use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::client::{self, Version, failed};
use super::{BinlogPosition, Mysql, position, stale_sessions};
use crate::database::{GatedBackends, Raised};
use crate::error::{Error, Result};
use crate::model::plan::Plan;
use crate::mysql::check::drift;
use crate::mysql::fence::passing::{Means, Passing};
use crate::mysql::heartbeat;
use crate::mysql::heartbeat::Signal;
pub(super) use durable::finding as refusal_finding;
pub use durable::{state, uphold};
pub(super) use locked::events_finding;
pub use look::UnderFence;
pub use write_block::lift;
use write_block::{END_TIMEOUT, PURPOSES};
pub(super) use write_block::{forget, install, is_sealed, open_again};

/// How long a reply may be late where the server has nothing to wait for.
const REPLY_GRACE: Duration = Duration::from_secs(5);
/// The barrier is up; its refusal would not outlive a restart of the server, or its session.
pub struct Fence {
    pub(super) session: Conn,
    /// What holds the tables' locks, where these are the barrier.
    barrier: Option<(Conn, Plan)>,
    who: Option<Passing>,
    version: Version,
    /// Whether the server lists the locks of its transactions.
    tells_of_locks: bool,
    marker: BinlogPosition,
    /// The look inside the hold, under way since the fence goes up.
    looking: Option<JoinHandle<Result<()>>>,
}

/// The two sessions that raising the fence needs.
pub struct Ready {
    fence: Conn,
    marker: Conn,
    version: Version,
    /// Whether the server lists the locks of its transactions.
    tells_of_locks: bool,
    means: Means,
    look: Option<UnderFence>,
    /// Who would pass a fence of locked accounts.
    who: Option<Passing>,
}

impl Ready {
    /// Keeps what was looked at before the hold, so that it is looked at again under the barrier.
    pub fn look(&mut self, look: UnderFence) {
        self.look = Some(look);
    }
}

/// Installs what the fence needs, opens the sessions, and looks for what would make the fence fail.
pub async fn warm_up(mysql: &Mysql, plan: &Plan) -> Result<Ready> {
    let mut ready = open(mysql).await?;
    drift::refuse(&mut ready.marker, mysql, plan).await?;
    obstacles::refuse(&mut ready.marker).await?;
    writers::refuse_hiding(&mut ready.marker).await?;
    if ready.means == Means::Accounts {
        locked::refuse_events(&mut ready.marker).await?;
        let who = Passing::read(mysql, &mut ready.marker).await?;
        who.refuse_accounts()?;
        ready.who = Some(who);
        write_block::refuse_others(mysql, &mut ready.marker).await?;
        return Ok(ready);
    }
    Ok(ready)
}

async fn open(mysql: &Mysql) -> Result<Ready> {
    let (mut fence, mut marker) =
        tokio::try_join!(mysql.connect_source(PURPOSES[0]), mysql.connect_source(PURPOSES[1]))?;
    for (session, purpose) in [(&mut fence, PURPOSES[0]), (&mut marker, PURPOSES[1])] {
        if !stale_sessions::mark(mysql, session, purpose).await? {
            stale_sessions::end(mysql, session, purpose, END_TIMEOUT).await?;
            stale_sessions::mark(mysql, session, purpose).await?;
        }
    }
    let version = client::version(&mut marker).await?;
    write_block::arm(mysql, &mut marker, version).await?;
    let means = obstacles::means(&mut marker, version).await?;
    if means == Means::Accounts {
        locked::prepare(&mut fence).await?;
    }
    heartbeat::install(&mut marker).await?;
    Ok(Ready {
        fence,
        tells_of_locks: writers::tells_of_locks(&mut marker).await?,
        marker,
        version,
        means,
        look: None,
        who: None,
    })
}

/// Makes the source read only within `limit` and commits the marker.
pub async fn raise(
    ready: Option<Ready>,
    mysql: &Mysql,
    plan: &Plan,
    token: &str,
    limit: Duration,
) -> Result<Raised<Fence, BinlogPosition>> {
    let mut usable = ready;
    if let Some(ready) = &mut usable
        && (answers(&mut ready.fence).await.is_err() || answers(&mut ready.marker).await.is_err())
    {
        usable = None;
    }
    let mut ready = match usable {
        Some(ready) => ready,
        None => open(mysql).await?,
    };
    mysql.set_fenced(true);
    // A heartbeat behind the marker would look like a writer that the fence let through.
    drop(timeout(REPLY_GRACE, mysql.beating()).await.map_err(|_| late())?);
    // The target has nothing to do while the source is fenced.
    let (marked, is_marked) = oneshot::channel();
    let looking = ready.look.take().map(|look| {
        let (mysql, plan) = (mysql.clone(), plan.clone());
        let tells_of_locks = ready.tells_of_locks;
        tokio::spawn(async move { look.again(&mysql, &plan, tells_of_locks, is_marked).await })
    });
    match ready.means {
        Means::ReadOnly => {
            tokio::try_join!(
                write_block::remember(mysql, &mut ready.marker, ready.version),
                end_by_itself(&mut ready.fence, limit)
            )?;
            run(&mut ready.marker, "SET GLOBAL event_scheduler = OFF", "stop the source's events", true).await?;
            close(&mut ready, "SET GLOBAL read_only = ON", limit).await?;
            // A prepared transaction may have come since the last look, and its commit is no write of a session.
            tokio::try_join!(holds(&mut ready.marker), obstacles::refuse_prepared(&mut ready.fence))?;
        }
        Means::Accounts => {
            end_by_itself(&mut ready.fence, limit).await?;
            close(&mut ready, &locked::barrier(plan), limit).await?;
            obstacles::refuse_prepared(&mut ready.marker).await?;
        }
    }
    let marking = async {
        heartbeat::signal(&mut ready.marker, &mysql.key(), Signal::Marker, token).await?;
        // Where the look has ended already, with a failure, that is reported by the look.
        let _ = marked.send(());
        position::current(&mut ready.marker).await
    };
    let marker = timeout(limit.max(REPLY_GRACE), marking)
        .await
        .map_err(|_| Error::transient("the source did not commit the marker in time"))??;
    Ok(Raised {
        fence: Fence {
            session: ready.marker,
            barrier: (ready.means == Means::Accounts).then(|| (ready.fence, plan.clone())),
            who: ready.who,
            version: ready.version,
            tells_of_locks: ready.tells_of_locks,
            marker: marker.clone(),
            looking,
        },
        marker,
    })
}

async fn answers(session: &mut Conn) -> Result<()> {
    run(session, "DO 0", "reach the source", false).await
}

/// Lets the server end the barrier's session, should nobody be left to do it.
async fn end_by_itself(session: &mut Conn, limit: Duration) -> Result<()> {
    let (waiting, idle) = (limit.as_secs().saturating_add(1), limit.as_secs().saturating_add(10));
    let limits = format!(
        "SET SESSION lock_wait_timeout = {waiting}, innodb_lock_wait_timeout = {waiting}, wait_timeout = {idle}"
    );
    run(session, &limits, "prepare the fence", false).await
}

/// Puts the barrier up. While that waits for running statements, others wait behind it: it is ended when its time is over.
async fn close(ready: &mut Ready, statement: &str, limit: Duration) -> Result<()> {
    let id = ready.fence.id();
    let setting = ready.fence.query_drop(statement);
    tokio::pin!(setting);
    let outcome = tokio::select! {
        outcome = &mut setting => outcome,
        () = sleep(limit) => {
            let who = obstacles::running(&mut ready.marker, id).await;
            run(&mut ready.marker, &format!("KILL QUERY {id}"), "end the waiting fence", false).await?;
            let _ = timeout(REPLY_GRACE, &mut setting).await;
            let who = who.unwrap_or_else(|error| error.full_text());
            return Err(Error::transient(format!(
                "writers on the source did not end within {} ms: {who}",
                limit.as_millis()
            ))
            .remedy("let these end, or end them, and try again"));
        }
    };
    outcome.map_err(|error| failed("the fence could not be raised on the source", error))
}

/// Whether the source refuses writes at this moment.
async fn holds(session: &mut Conn) -> Result<()> {
    let asking = session.query_first("SELECT @@GLOBAL.read_only = 1");
    let on: Option<u8> = timeout(REPLY_GRACE, asking)
        .await
        .map_err(|_| late())?
        .map_err(|error| failed("cannot see whether the fence holds", error))?;
    if on == Some(1) {
        return Ok(());
    }
    Err(Error::transient("somebody made the source writable again while the fence was up")
        .remedy("find out who sets read_only on the source, and try again"))
}

/// Looks under the barrier for changed definitions and for open writes that the fence does not stop.
pub async fn confirm(mysql: &Mysql, plan: &Plan, fence: &mut Fence) -> Result<()> {
    let Some(looking) = fence.looking.as_mut() else {
        writers::refuse(mysql, &mut fence.session, fence.tells_of_locks).await?;
        return drift::refuse(&mut fence.session, mysql, plan).await;
    };
    let found = looking
        .await
        .unwrap_or_else(|fault| Err(Error::transient("the look under the barrier broke off").because(fault)));
    fence.looking = None;
    found
}

/// Makes the refusal outlive a restart of the server, and proves that nobody wrote since the marker. Returns the session
/// that did.
pub async fn seal(mysql: &Mysql, mut fence: Fence, gated_backends: GatedBackends<'_>) -> Result<Conn> {
    match fence.barrier.take() {
        Some((barrier, plan)) => seal_accounts(mysql, fence, barrier, &plan, gated_backends).await,
        None => seal_read_only(mysql, fence).await,
    }
}

/// The tables stay locked until nobody is left who could write to them. That the session which locks them answers at
/// the end proves that it did so all the time.
async fn seal_accounts(
    mysql: &Mysql,
    mut fence: Fence,
    mut barrier: Conn,
    plan: &Plan,
    gated_backends: GatedBackends<'_>,
) -> Result<Conn> {
    let session = &mut fence.session;
    // Written down before the accounts are read, so that of two migrations neither takes the other's locks for its own.
    write_block::remember_accounts(mysql, session, &[]).await?;
    write_block::refuse_others(mysql, session).await?;
    let who = match fence.who.take() {
        Some(who) => who,
        None => Passing::read(mysql, session).await?,
    };
    writers::refuse_unlockable(mysql, session, &who, gated_backends).await?;
    let accounts = locked::accounts(mysql, session).await?;
    write_block::remember_accounts(mysql, session, &accounts).await?;
    locked::lock(mysql, session, &accounts).await?;
    locked::end_sessions(mysql, session, gated_backends).await?;
    locked::refuse_events(session).await?;
    drift::refuse(session, mysql, plan).await?;
    write_block::seal(mysql, session).await?;
    answers(&mut barrier).await?;
    Ok(fence.session)
}

/// An account that passes `read_only` may have written.
async fn seal_read_only(mysql: &Mysql, mut fence: Fence) -> Result<Conn> {
    let session = &mut fence.session;
    timeout(REPLY_GRACE, durable::persist(mysql, session, fence.version)).await.map_err(|_| late())??;
    // Whoever began to write since the look.
    writers::refuse(mysql, session, fence.tells_of_locks).await?;
    holds(session).await?;
    let now = timeout(REPLY_GRACE, position::current(session)).await.map_err(|_| late())??;
    if !unmoved(&fence.marker, &now, counts_all(session, fence.version).await?) {
        return Err(Error::transient(format!(
            "something was written to the source behind the fence: the marker is at {}, and the log ends at {now}",
            fence.marker
        ))
        .remedy(
            "stop what writes with an account that passes read_only (SUPER, CONNECTION_ADMIN, READ_ONLY ADMIN), \
                 a replication thread of the source, or an event of such an account; then try again",
        ));
    }
    write_block::seal(mysql, session).await?;
    Ok(fence.session)
}

/// GTIDs count only what was written; a log may also be rotated. A server that has GTIDs need not give them to all of
/// its transactions: only where it `counts_all` of them do they tell.
fn unmoved(marker: &BinlogPosition, now: &BinlogPosition, counts_all: bool) -> bool {
    if marker.server != now.server {
        return false;
    }
    if marker.file == now.file {
        return marker.offset == now.offset && marker.gtids == now.gtids;
    }
    counts_all && !marker.gtids.is_empty() && marker.gtids == now.gtids
}

/// Whether every transaction of the server has a GTID.
async fn counts_all(session: &mut Conn, version: Version) -> Result<bool> {
    if version.is_mariadb() {
        return Ok(true);
    }
    let asking = session.query_first("SHOW GLOBAL VARIABLES LIKE 'gtid_mode'");
    let mode: Option<(String, String)> = timeout(REPLY_GRACE, asking)
        .await
        .map_err(|_| late())?
        .map_err(|error| failed("cannot see whether the source counts its transactions", error))?;
    Ok(mode.is_some_and(|(_, mode)| mode == "ON"))
}

/// Lets the writers go on.
pub async fn drop_fence(mysql: &Mysql, mut fence: Fence) -> Result<()> {
    if let Some((barrier, _)) = &mut fence.barrier {
        run(barrier, "UNLOCK TABLES", "unlock the source's tables", false).await?;
    }
    write_block::lower_unsealed(mysql, &mut fence.session).await?;
    mysql.set_fenced(false);
    Ok(())
}

/// One statement that waits for nobody. With `or_disabled`, what the server was started without may stay so.
async fn run(session: &mut Conn, sql: &str, what: &str, or_disabled: bool) -> Result<()> {
    const WITHOUT_IT: u16 = 1290;
    let outcome = timeout(REPLY_GRACE, session.query_drop(sql)).await.map_err(|_| late())?;
    match outcome {
        Err(mysql_async::Error::Server(reported)) if or_disabled && reported.code == WITHOUT_IT => Ok(()),
        outcome => outcome.map_err(|error| failed(&format!("cannot {what}"), error)),
    }
}

fn late() -> Error {
    Error::transient("the source did not answer the fence in time")
}

/// Lifts the fence that the mark tells of, with the mark; what held both goes with the last one.
pub async fn clear_mark(mysql: &Mysql) -> Result<()> {
    let mut session = mysql.connect_source("marks").await?;
    mark::install(&mut session).await?;
    install(&mut session).await?;
    // Whichever leg's it is, and a finished migration has its fence remembered here alone.
    let (key, name) = (mysql.key(), mysql.name());
    let adopting = session.exec_drop(
        "UPDATE IGNORE headgate.fence SET migration = ? WHERE SUBSTRING_INDEX(migration, '/', 1) = ?",
        (&key, name),
    );
    adopting.await.map_err(|error| failed("cannot read what the source's fence has changed", error))?;
    let remembering = session.exec_drop(
        "INSERT IGNORE INTO headgate.fence (migration, sealed, event_scheduler, persisted, accounts)
         SELECT ?, 1, event_scheduler, persisted, accounts FROM headgate.switches WHERE switch_of = ?",
        (&key, name),
    );
    remembering.await.map_err(|error| failed("cannot read what the source's fence has changed", error))?;
    lift(mysql, &Plan::default()).await?;
    mark::remove(mysql).await?;
    mark::forget(&mut session).await
}

#[cfg(test)]
mod tests {
    use super::unmoved;
    use crate::mysql::BinlogPosition;

    #[test]
    fn a_rotated_log_is_no_write_and_a_new_gtid_is_one() {
        let at = |file: &str, offset, gtids: &str| BinlogPosition {
            server: "s".into(),
            file: file.into(),
            offset,
            gtids: gtids.into(),
        };
        let counted = |then, now| unmoved(&then, &now, true);
        assert!(counted(at("b.1", 400, "u:1-5"), at("b.2", 157, "u:1-5")));
        assert!(!counted(at("b.1", 400, "u:1-5"), at("b.1", 700, "u:1-6")));
        assert!(!counted(at("b.1", 400, "u:1-5"), at("b.2", 700, "u:1-6")));
        let uncounted = |then, now| unmoved(&then, &now, false);
        assert!(uncounted(at("b.1", 400, ""), at("b.1", 400, "")));
        assert!(!uncounted(at("b.1", 400, ""), at("b.1", 401, "")));
        assert!(!uncounted(at("b.1", 400, ""), at("b.2", 157, "")));
        // GTIDs of a time when they were on, and a write without one.
        assert!(!uncounted(at("b.1", 400, "u:1-5"), at("b.1", 700, "u:1-5")));
        assert!(!uncounted(at("b.1", 400, "u:1-5"), at("b.2", 700, "u:1-5")));
    }
}
