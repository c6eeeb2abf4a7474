//! The check: both sides compared, range by range, at one position, while changes go on.
//!
//! Nothing here shares code with what moves rows: own connections, own reading of the catalogue, own SQL.

pub(crate) mod catalogue;
pub(crate) mod definitions;
pub(crate) mod digest;
pub(crate) mod drift;
pub(crate) mod expressions;
pub mod inventory;
pub(crate) mod ranges;
pub(crate) mod snapshot_pair;
pub(crate) mod stamp;
use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::postgres::Postgres;
use crate::postgres::check::catalogue::Described;

use crate::error::{Error, Result};
use crate::follow::Follow;
use crate::model::plan::Plan;
use crate::model::progress::Progress;
use crate::model::proof::{Checked, Proof};
use crate::postgres::check::digest::Hash;
use crate::postgres::check::ranges::Range;
use crate::postgres::check::snapshot_pair::Pinned;
use crate::postgres::check::stamp::Stamp;
use crate::postgres::guard;
use crate::postgres::position::Lsn;

/// Compares every table on both sides as of one position. One proof per range, the catalogue's first.
pub async fn run(
    postgres: &Postgres,
    plan: &Plan,
    follow: Follow<Lsn>,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<Checked> {
    tokio::select! {
        proofs = Box::pin(compare(postgres, plan, follow, progress)) => proofs,
        () = stop.cancelled() => Err(Error::refused("the check was stopped before it was done")),
    }
}

struct Work {
    table: Arc<Described>,
    range: Range,
}

async fn compare(postgres: &Postgres, plan: &Plan, follow: Follow<Lsn>, progress: Arc<Progress>) -> Result<Checked> {
    // What is proved stays true only where nobody else writes from here on.
    drop(guard::raise(postgres, plan).await?);
    let stamp = Stamp::open(postgres).await?;
    let before = stamp.read().await?;
    let Pinned { position, sources, targets } = snapshot_pair::open(postgres, follow).await?;
    let (Some(source), Some(target)) = (sources.first(), targets.first()) else {
        return Err(Error::refused("a check needs at least one worker"));
    };
    let hash = digest::agree(source, target).await?;
    let schemas = &postgres.settings().schemas;
    let (here, there) =
        tokio::try_join!(catalogue::read(source, "source", schemas), catalogue::read(target, "target", schemas))?;
    let compared = definitions::compare(postgres).await?;
    // What catalogue functions tell is of this moment, not of the snapshot: nothing may have changed meanwhile.
    if stamp.read().await? != before {
        return Err(Error::transient("definitions changed while the check began")
            .remedy("run CHECK MIGRATION again; change no schema meanwhile"));
    }
    let mut proofs = vec![catalogue::proof(plan, &here, &compared, position)];
    let mut queue = VecDeque::new();
    for table in here {
        if !there.iter().any(|other| other.matches(&table)) {
            continue;
        }
        let table = Arc::new(table);
        let rows_max = postgres.settings().check_range_rows;
        let ranges = ranges::cut(source, &table, rows_max).await?;
        progress.update(&table.title, |numbers| {
            numbers.ranges = u64::try_from(ranges.len()).unwrap_or(u64::MAX);
            numbers.ranges_equal = 0;
            numbers.ranges_different = 0;
        });
        queue.extend(ranges.into_iter().map(|range| Work { table: Arc::clone(&table), range }));
    }
    let queue = Mutex::new(queue);
    let pairs = sources.iter().zip(&targets);
    let workers = pairs.map(|(source, target)| async {
        let mut found = Vec::new();
        loop {
            let work = queue.lock().pop_front();
            let Some(work) = work else {
                return Ok::<_, Error>(found);
            };
            found.push(prove(source, target, &work, hash, position, &progress).await?);
        }
    });
    proofs.extend(try_join_all(workers).await?.into_iter().flatten());
    Ok(Checked { proofs, fingerprint: compared.fingerprint })
}

async fn prove(
    source: &Client,
    target: &Client,
    work: &Work,
    hash: Hash,
    position: Lsn,
    progress: &Progress,
) -> Result<Proof> {
    let Work { table, range } = work;
    let (here, there) = tokio::try_join!(
        digest::range(source, "source", table, range, hash),
        digest::range(target, "target", table, range, hash)
    )?;
    let mut proof = Proof {
        table: table.title.clone(),
        range: range.title.clone(),
        source_rows: here.rows,
        target_rows: there.rows,
        source_digest: here.digest,
        target_digest: there.digest,
        position: position.to_string(),
        differing_keys: Vec::new(),
    };
    let equal = proof.equal();
    if !equal {
        let rows = proof.source_rows.max(proof.target_rows);
        proof.differing_keys = digest::differing_keys(source, target, table, range, hash, rows).await?;
    }
    progress.update(&table.title, |numbers| {
        numbers.ranges_equal += u64::from(equal);
        numbers.ranges_different += u64::from(!equal);
    });
    Ok(proof)
}
