//! The snapshots of the moment of the switch: sessions that are opened ahead, a transaction on each side that begins inside
//! the hold, and what of it can be read afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, SimpleQueryMessage};
use tokio_util::sync::CancellationToken;

use super::catalogue::{self, Described};
use super::digest::{self, Hash, Pair};
use super::stamp::{self, Stamp};
use super::{definitions, guard};
use crate::check::Both;
use crate::error::{Error, Result};
use crate::model::plan::Plan;
use crate::model::switch_proof::{SwitchProgress, SwitchVerdict};
use crate::postgres::Postgres;
use crate::postgres::client::failed;
use crate::switch_proof::{self, Comparison, LastingPair};

/// A digest takes one process of the server, and no more.
const SESSION: &str = "SET lc_monetary = 'C'; SET xmlbinary = base64; SET quote_all_identifiers = off;
    SET jit = off; SET max_parallel_workers_per_gather = 0";
/// The first query after BEGIN takes the snapshot.
const BEGIN: &str =
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_catalog.pg_current_wal_insert_lsn()::text";
/// Opening a snapshot waits for nobody.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a reply may be late where the server has nothing to wait for.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// The sessions, and what was read before the hold.
pub struct Prepared {
    pair: Pair,
    /// What tells whether a definition is another one, for both sides.
    stamp: String,
    differences: Vec<String>,
}

/// A transaction on each side that sees what was there inside the hold, for as long as its session lives.
pub struct Snapshots {
    prepared: Prepared,
    positions: (String, String),
}

/// Opens the sessions, and compares the definitions.
pub(crate) async fn prepare(postgres: &Postgres, plan: &Plan) -> Result<Prepared> {
    // Its triggers are among what the stamp tells, and would come after it.
    drop(guard::raise(postgres, plan).await?);
    let (source, target) = tokio::try_join!(postgres.connect_source("proof"), postgres.connect_target("proof"))?;
    tokio::try_join!(run(&source, SESSION), run(&target, SESSION))?;
    let hash: Hash = digest::agree(&source, &target).await?;
    let watch = Stamp::open(postgres).await?;
    let stamp = watch.read().await?;
    let compared = definitions::compare(postgres).await?;
    if watch.read().await? != stamp {
        return Err(Error::transient("definitions changed while the proof of the switch was prepared")
            .remedy("try again; change no schema meanwhile"));
    }
    Ok(Prepared { pair: Pair { source, target, hash }, stamp, differences: compared.differences })
}

/// Begins both transactions at the same time.
pub(crate) async fn open(prepared: Prepared) -> Result<Snapshots> {
    let Pair { source, target, .. } = &prepared.pair;
    let positions = tokio::try_join!(begin(source, "source"), begin(target, "target"))?;
    Ok(Snapshots { prepared, positions })
}

async fn begin(session: &Client, side: &str) -> Result<String> {
    let beginning = timeout(OPEN_TIMEOUT, session.simple_query(BEGIN)).await;
    let answer = beginning
        .map_err(|_| Error::transient(format!("the {side} did not open a snapshot in time")))?
        .map_err(|error| failed(&format!("cannot open a snapshot of the {side}"), error))?;
    let position = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(position.unwrap_or_default().to_owned())
}

/// Compares all that the snapshots show.
pub(crate) async fn compare(
    postgres: &Postgres,
    snapshots: Snapshots,
    rows_per_second: u64,
    progress: &SwitchProgress,
    stop: &CancellationToken,
) -> Result<SwitchVerdict> {
    let Snapshots { prepared: Prepared { mut pair, stamp, differences }, positions } = snapshots;
    let seeing = async {
        pair.enter().await?;
        let seen = seen(postgres, &pair).await?;
        pair.leave().await.map(|()| seen)
    };
    let (now, here, there) = match seeing.await {
        Ok(seen) => seen,
        Err(error) => return Ok(SwitchVerdict::unknown(switch_proof::lost(&error))),
    };
    let definitions = if now == stamp {
        Ok(differences)
    } else {
        Err("a definition was changed between their comparison and the switch".to_owned())
    };
    let what = Comparison {
        here,
        there,
        definitions,
        unversioned: BTreeMap::new(),
        positions,
        rows_max: postgres.settings().check_range_rows,
        rows_per_second,
    };
    switch_proof::compare(&mut pair, what, progress, stop).await
}

/// The stamp of the definitions and the tables of both sides, as the snapshots show the catalogues.
async fn seen(postgres: &Postgres, pair: &Pair) -> Result<(String, Vec<Described>, Vec<Described>)> {
    let schemas = &postgres.settings().schemas;
    let (source, target) = (&pair.source, &pair.target);
    let reading = async {
        let (of_source, of_target) = tokio::try_join!(stamp::read_in(source), stamp::read_in(target))?;
        let (here, there) =
            tokio::try_join!(catalogue::read(source, "source", schemas), catalogue::read(target, "target", schemas))?;
        Ok((Stamp::of_both(&of_source, &of_target), here, there))
    };
    let read = timeout(Duration::from_mins(10), reading).await;
    read.unwrap_or_else(|_| Err(Error::transient("the servers did not show their catalogues in time")))
}

impl LastingPair for Pair {
    async fn enter(&mut self) -> Result<()> {
        const MARK: &str = "SAVEPOINT headgate_range";
        tokio::try_join!(run(&self.source, MARK), run(&self.target, MARK)).map(drop)
    }

    async fn leave(&mut self) -> Result<()> {
        // Unlike the end of the range's statement, this lets go of the lock on the table.
        const BACK: &str = "ROLLBACK TO SAVEPOINT headgate_range; RELEASE SAVEPOINT headgate_range";
        tokio::try_join!(run(&self.source, BACK), run(&self.target, BACK)).map(drop)
    }

    async fn hidden(&mut self, (table, _): &Both<Self::Column>) -> Result<Option<String>> {
        let (here, there) =
            tokio::try_join!(is_rewritten(&self.source, &table.relation), is_rewritten(&self.target, &table.relation))?;
        let sides = [(here, "source"), (there, "target")];
        Ok(sides.iter().find(|(rewritten, _)| *rewritten).map(|(_, side)| {
            format!("{}: it was truncated or written anew on the {side} after the switch", table.title)
        }))
    }
}

/// Whether the table's rows are in other files by now than the snapshot's catalogue says: a TRUNCATE, and an ALTER TABLE
/// that writes all rows anew, leave nothing for older snapshots. The function tells of now.
async fn is_rewritten(session: &Client, relation: &str) -> Result<bool> {
    let query = "SELECT coalesce((SELECT c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid)
        FROM pg_catalog.pg_class AS c WHERE c.oid = pg_catalog.to_regclass($1)), true)";
    let asking = timeout(COMMAND_TIMEOUT, session.query_one(query, &[&relation])).await;
    asking
        .map_err(|_| late())?
        .and_then(|row| row.try_get(0))
        .map_err(|error| failed("cannot see whether a table was written anew", error))
}

async fn run(session: &Client, sql: &str) -> Result<()> {
    timeout(COMMAND_TIMEOUT, session.batch_execute(sql))
        .await
        .map_err(|_| late())?
        .map_err(|error| failed("a session of the proof of the switch failed", error))
}

fn late() -> Error {
    Error::transient("a server did not answer the proof of the switch in time")
}
