//! The check: both sides compared, range by range, at one position, while changes go on.
//!
//! Nothing here shares code with what moves rows: own connections, own reading of the catalogue, own SQL.

pub(crate) mod catalog_objects;
pub(crate) mod catalog_tables;
pub(crate) mod digest;
pub(crate) mod drift;
pub mod inventory;
pub(crate) mod printed;
pub(crate) mod ranges;
pub(crate) mod reprinted;
pub(crate) mod snapshot_pair;
pub mod stamp;
use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::try_join_all;
use mysql_async::Conn;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::follow::Follow;
use crate::model::definitions::Compared;
use crate::model::plan::Plan;
use crate::model::progress::Progress;
use crate::model::proof::{Checked, Proof};
use crate::mysql::check::catalog_tables::{Described, Side};
use crate::mysql::check::digest::Pair;
use crate::mysql::check::ranges::Range;
use crate::mysql::check::snapshot_pair::Pinned;
use crate::mysql::guard;
use crate::mysql::{BinlogPosition, Mysql, client};

/// Compares every table on both sides as of one position. One proof per range, the catalogue's first.
pub async fn run(
    mysql: &Mysql,
    plan: &Plan,
    follow: Follow<BinlogPosition>,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<Checked> {
    let comparing = async {
        // Before the snapshots: what changes between the two is seen by the next look.
        let compared = catalog_objects::compare(mysql).await?;
        guard::refuse_open(mysql).await?;
        let pinned = snapshot_pair::open(mysql, plan, follow, &stop).await?;
        let pinned = pinned.ok_or_else(stopped)?;
        let proofs = compare(mysql, plan, pinned, &compared, &progress).await?;
        Ok(Checked { proofs, fingerprint: compared.fingerprint })
    };
    tokio::select! {
        proofs = Box::pin(comparing) => proofs,
        () = stop.cancelled() => Err(stopped()),
    }
}

fn stopped() -> Error {
    Error::refused("the check was stopped before it was done")
}

struct Work {
    table: Arc<(Described, Described)>,
    range: Range,
}

async fn compare(
    mysql: &Mysql,
    plan: &Plan,
    pinned: Pinned,
    compared: &Compared,
    progress: &Progress,
) -> Result<Vec<Proof>> {
    let Pinned { position, mut sources, mut targets } = pinned;
    let (Some(source), Some(target)) = (sources.first_mut(), targets.first_mut()) else {
        return Err(Error::refused("a check needs at least one worker"));
    };
    let (from, to) = tokio::try_join!(client::version(source), client::version(target))?;
    let mixed = from.flavor != to.flavor;
    let side = |name| Side { name, mixed };
    let sides = (side("source"), side("target"));
    let mut pair = Pair { source: (&mut *source, sides.0), target: (&mut *target, sides.1) };
    digest::agree(&mut pair).await?;
    let databases = mysql.databases();
    let here = catalog_tables::read(source, sides.0, &databases).await?;
    let there = catalog_tables::read(target, sides.1, &databases).await?;
    let mut proofs = vec![catalog_tables::proof(plan, compared, (&here, &there), &position)];
    let mut queue = VecDeque::new();
    for table in here {
        let Some(other) = there.iter().find(|other| other.matches(&table)) else {
            continue;
        };
        let rows_max = mysql.settings().check_range_rows;
        let ranges = ranges::cut(source, &table, rows_max).await?;
        progress.update(&table.title, |numbers| {
            numbers.ranges = u64::try_from(ranges.len()).unwrap_or(u64::MAX);
            numbers.ranges_equal = 0;
            numbers.ranges_different = 0;
        });
        let both = Arc::new((table, other.clone()));
        queue.extend(ranges.into_iter().map(|range| Work { table: Arc::clone(&both), range }));
    }
    let queue = Mutex::new(queue);
    let pairs = sources.iter_mut().zip(&mut targets);
    let workers = pairs.map(|(source, target)| {
        let (queue, position) = (&queue, &position);
        async move {
            let mut found = Vec::new();
            loop {
                let work = queue.lock().pop_front();
                let Some(work) = work else {
                    return Ok::<_, Error>(found);
                };
                let mut pair = Pair { source: (&mut *source, sides.0), target: (&mut *target, sides.1) };
                found.push(prove(&mut pair, &work, position, progress).await?);
            }
        }
    });
    proofs.extend(try_join_all(workers).await?.into_iter().flatten());
    for session in sources.into_iter().chain(targets) {
        end(session).await;
    }
    Ok(proofs)
}

/// Ends a session in good order, so that the server does not count it as aborted.
async fn end(session: Conn) {
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), session.disconnect()).await;
}

async fn prove(pair: &mut Pair<'_>, work: &Work, position: &BinlogPosition, progress: &Progress) -> Result<Proof> {
    let Work { table, range } = work;
    let (here, there) = tokio::try_join!(
        digest::range(pair.source.0, pair.source.1, &table.0, range),
        digest::range(pair.target.0, pair.target.1, &table.1, range)
    )?;
    let title = &table.0.title;
    let mut proof = Proof {
        table: title.clone(),
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
        proof.differing_keys = digest::differing_keys(pair, &table.0, range, rows).await?;
    }
    progress.update(title, |numbers| {
        numbers.ranges_equal += u64::from(equal);
        numbers.ranges_different += u64::from(!equal);
    });
    Ok(proof)
}
