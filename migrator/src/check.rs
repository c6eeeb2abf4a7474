//! The check's loop: tables are cut into ranges, and the digests of each range are compared, as many at a time as there
//! are pairs of sessions.
//!
//! Nothing here shares code with what moves rows.

pub(crate) mod keys;
pub(crate) mod ranges;
pub(crate) mod snapshot_pair;
pub(crate) mod table;

use std::collections::VecDeque;
use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;

use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::model::progress::Progress;
use crate::model::proof::{Checked, Proof};
pub(crate) use keys::{KeyPair, KeySessions};
pub(crate) use snapshot_pair::{Both, Digest, Named, Range, SnapshotPair};
use table::{Described, NAMED_MAX};

/// Rows looked at one by one where a bucket of a range differs.
const ROWS_PER_BUCKET: u64 = 1000;
const BUCKETS_MAX: u64 = 16_384;

/// What `checking` comes to, unless `stop` is cancelled before.
pub(crate) async fn unless_stopped(
    stop: &CancellationToken,
    checking: impl Future<Output = Result<Checked>>,
) -> Result<Checked> {
    tokio::select! {
        checked = checking => checked,
        () = stop.cancelled() => Err(stopped()),
    }
}

pub(crate) fn stopped() -> Error {
    Error::refused("the check was stopped before it was done")
}

/// A check that has no session cannot say that nothing differs.
pub(crate) fn no_worker() -> Error {
    Error::refused("a check needs at least one worker")
}

struct Work<C> {
    table: Arc<Both<C>>,
    range: Range,
}

/// Compares the tables that are alike `here`, on the source, and `there`. One proof per range.
pub(crate) async fn compare<P: SnapshotPair>(
    pairs: &mut [P],
    here: Vec<Described<P::Column>>,
    there: &[Described<P::Column>],
    rows_max: u64,
    position: &(impl Display + Sync),
    progress: &Progress,
) -> Result<Vec<Proof>> {
    let first = pairs.first_mut().ok_or_else(no_worker)?;
    let mut queue = VecDeque::new();
    for table in here {
        let Some(other) = there.iter().find(|other| other.matches(&table)) else {
            continue;
        };
        let ranges = ranges::cut(first, &table, rows_max).await?;
        progress.update(&table.title, |numbers| {
            numbers.ranges = u64::try_from(ranges.len()).unwrap_or(u64::MAX);
            numbers.ranges_equal = 0;
            numbers.ranges_different = 0;
        });
        let both = Arc::new((table, other.clone()));
        queue.extend(ranges.into_iter().map(|range| Work { table: Arc::clone(&both), range }));
    }
    let queue = Mutex::new(queue);
    let workers = pairs.iter_mut().map(async |pair| {
        let mut found = Vec::new();
        loop {
            let work = queue.lock().pop_front();
            let Some(work) = work else {
                return Ok::<_, Error>(found);
            };
            found.push(prove(pair, &work, position, progress).await?);
        }
    });
    Ok(try_join_all(workers).await?.into_iter().flatten().collect())
}

async fn prove<P: SnapshotPair>(
    pair: &mut P,
    work: &Work<P::Column>,
    position: &(impl Display + Sync),
    progress: &Progress,
) -> Result<Proof> {
    let Work { table, range } = work;
    let (here, there) = pair.digests(table, range).await?;
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
        proof.differing_keys = differing_keys(pair, &table.0, range, rows).await?;
    }
    progress.update(title, |numbers| {
        numbers.ranges_equal += u64::from(equal);
        numbers.ranges_different += u64::from(!equal);
    });
    Ok(proof)
}

/// The keys of some rows of the range that differ. Where there is no key, a fingerprint of the row.
pub(crate) async fn differing_keys<P: SnapshotPair>(
    pair: &mut P,
    table: &Described<P::Column>,
    range: &Range,
    rows: u64,
) -> Result<Vec<String>> {
    let buckets = (rows / ROWS_PER_BUCKET).clamp(1, BUCKETS_MAX);
    let by_bucket = pair.by_bucket(table, range, buckets);
    let mut keys = Vec::new();
    for bucket in differing(pair, table, &by_bucket).await? {
        let by_key = pair.by_key(table, range, buckets, bucket.parse().unwrap_or(0));
        keys.extend(differing(pair, table, &by_key).await?);
        if keys.len() >= NAMED_MAX {
            break;
        }
    }
    keys.truncate(NAMED_MAX);
    Ok(keys)
}

/// The names for which both sides do not answer the same.
async fn differing<P: SnapshotPair>(pair: &mut P, table: &Described<P::Column>, query: &str) -> Result<Vec<String>> {
    let (here, there) = pair.named(table, query).await?;
    Ok(keys::differing(&here, &there))
}
