//! Sessions on both sides that see exactly the same position, however long they look.

use std::time::Duration;

use futures_util::future::try_join_all;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::follow::{Follow, Pause};
use crate::model::plan::Plan;
use crate::mysql::client;
use crate::mysql::client::failed;
use crate::mysql::load::snapshot;
use crate::mysql::{BinlogPosition, Mysql};

const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// The sessions.
pub(crate) struct Pinned {
    /// What both sides show: everything committed on the source before this, and nothing else.
    pub(crate) position: BinlogPosition,
    pub(crate) sources: Vec<Conn>,
    pub(crate) targets: Vec<Conn>,
}

/// Opens the sessions; the follower stands still for a moment meanwhile. None when `stop` was cancelled first.
pub(crate) async fn open(
    mysql: &Mysql,
    plan: &Plan,
    follow: Follow<BinlogPosition>,
    stop: &CancellationToken,
) -> Result<Option<Pinned>> {
    let workers = mysql.settings().check_workers.max(1);
    let mut targets = try_join_all((0..workers).map(|_| mysql.connect_target("check"))).await?;
    for session in &mut targets {
        prepare(session).await?;
        run(session, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
    }
    let pause = Pause::begin(&follow, |at| BinlogPosition { offset: 4, ..at }).await?;
    let exact = snapshot::exact(mysql, &plan.tables, workers, stop).await?;
    let Some(snapshot::Exact { position, sessions: mut sources }) = exact else {
        return Ok(None);
    };
    pause.go_on_to(&position).await?;
    for session in &mut targets {
        run(session, "START TRANSACTION WITH CONSISTENT SNAPSHOT").await?;
    }
    // Nothing may have moved between the pause and the snapshots.
    pause.holds_at(&position)?;
    drop(pause);
    for session in &mut sources {
        prepare(session).await?;
    }
    Ok(Some(Pinned { position, sources, targets }))
}

/// A long digest must not be cut short by the server, and its text must not depend on the server's defaults.
pub(super) async fn prepare(session: &mut Conn) -> Result<()> {
    let version = client::version(session).await?;
    if version.is_mariadb() {
        run(session, "SET SESSION max_statement_time = 0").await?;
    } else if version.is_mysql_from(5, 7, 8) {
        run(session, "SET SESSION max_execution_time = 0").await?;
    }
    run(session, "SET NAMES utf8mb4").await
}

async fn run(session: &mut Conn, sql: &str) -> Result<()> {
    timeout(COMMAND_TIMEOUT, session.query_drop(sql))
        .await
        .map_err(|_| Error::transient("a server did not answer the check in time"))?
        .map_err(|error| failed("cannot open a snapshot for the check", error))
}
