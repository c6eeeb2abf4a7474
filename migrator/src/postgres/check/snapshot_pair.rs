//! Sessions on both sides that see exactly the same position, however long they look.

use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::error::{Error, Result};
use crate::follow::{Follow, Pause};
use crate::postgres::Postgres;
use crate::postgres::client::failed;
use crate::postgres::position::Lsn;
use crate::postgres::sql::quote_literal;
use crate::postgres::stream::{Obstacle, Replication, SlotSnapshot, obstacle};

/// How long the follower stands still for open transactions of the source before it is let go on for a while.
const SLOT_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 10;
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

const SESSION: &str = "SET lc_monetary = 'C'; SET xmlbinary = base64; SET quote_all_identifiers = off;
    SET jit = off; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The sessions.
pub(crate) struct Pinned {
    /// What both sides show: everything committed on the source before this, and nothing else.
    pub(crate) position: Lsn,
    pub(crate) sources: Vec<Client>,
    pub(crate) targets: Vec<Client>,
}

/// Opens the sessions; the follower stands still for a moment meanwhile.
pub(crate) async fn open(postgres: &Postgres, follow: Follow<Lsn>) -> Result<Pinned> {
    let workers = postgres.settings().check_workers.max(1);
    let sources = try_join_all((0..workers).map(|_| postgres.connect_source("check"))).await?;
    let targets = try_join_all((0..workers).map(|_| postgres.connect_target("check"))).await?;
    let keeper = postgres.connect_target("check").await?;
    for session in sources.iter().chain(&targets).chain([&keeper]) {
        run(session, SESSION).await?;
    }
    for _ in 0..ATTEMPTS {
        let mut creator = Replication::connect(postgres.source(), &postgres.purpose("check")).await?;
        let Some((made, theirs)) = pin(postgres, &follow, &mut creator, &keeper).await? else {
            continue;
        };
        try_join_all(sources.iter().map(|session| import(session, &made.snapshot))).await?;
        try_join_all(targets.iter().map(|session| import(session, &theirs))).await?;
        return Ok(Pinned { position: made.consistent_point, sources, targets });
    }
    Err(Error::transient("open transactions on the source kept the check from starting")
        .remedy("try again when no transaction of the source lasts longer than a second"))
}

/// The source's snapshot with its position, and the target's snapshot at that position.
async fn pin(
    postgres: &Postgres,
    follow: &Follow<Lsn>,
    creator: &mut Replication,
    keeper: &Client,
) -> Result<Option<(SlotSnapshot, String)>> {
    let pause = Pause::begin(follow, |_| Lsn(0)).await?;
    let slot: String = format!("headgate_check_{:016x}", rand::random::<u64>());
    let made = match creator.create_slot(&slot, true, SLOT_TIMEOUT).await {
        Err(error) if obstacle(&error) == Some(Obstacle::OpenTransactions) => {
            drop(pause);
            tracing::info!(migration = postgres.name(), "open transactions delay the check");
            return Ok(None);
        }
        made => made?,
    };
    let position = made.consistent_point;
    pause.go_on_to(&position).await?;
    let query = keeper.query_one("SELECT pg_catalog.pg_export_snapshot()", &[]);
    let row = timeout(COMMAND_TIMEOUT, query).await.map_err(|_| late())?;
    let cannot = |error| failed("the target cannot export a snapshot", error);
    let theirs = row.map_err(cannot)?.try_get(0).map_err(cannot)?;
    // Nothing may have moved between the pause and the snapshot.
    pause.holds_at(&position)?;
    drop(pause);
    Ok(Some((made, theirs)))
}

async fn import(session: &Client, snapshot: &str) -> Result<()> {
    run(session, &format!("SET TRANSACTION SNAPSHOT {}", quote_literal(snapshot))).await
}

async fn run(session: &Client, sql: &str) -> Result<()> {
    timeout(COMMAND_TIMEOUT, session.batch_execute(sql))
        .await
        .map_err(|_| late())?
        .map_err(|error| failed("cannot open a snapshot for the check", error))
}

fn late() -> Error {
    Error::transient("a server did not answer the check in time")
}
