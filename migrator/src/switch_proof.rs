//! The proof of the switch: both databases are compared in full, as two snapshots from inside the hold show them, at a rate
//! that leaves the servers to their clients.
//!
//! Nothing here shares code with what moves rows. Each range is read by itself: between two of them no lock on a table is
//! held, so that nobody's DDL waits for the proof. What such DDL takes away from a snapshot cannot be known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use parking_lot::Mutex;

use crate::check::table::{Column, Described};
use crate::check::{Both, Range, SnapshotPair, differing_keys, ranges, stopped};
use crate::database::SwitchSnapshots;
use crate::error::{Error, Kind, Result};
use crate::model::switch_proof::{DIFFERING_MAX, SwitchOutcome, SwitchProgress, SwitchVerdict};

/// Cutting a table asks an index for its two ends.
const CUT_TIMEOUT: Duration = Duration::from_mins(10);
/// A range has at most as many rows as may be read in this time.
const RANGE_SECONDS: u64 = 1;

/// What the proof of one cutover has: sessions until the hold, snapshots from then on. They end with it.
pub(crate) struct Held<D: SwitchSnapshots> {
    prepared: Mutex<Option<D::Prepared>>,
    opened: Mutex<Option<D::Snapshots>>,
}

impl<D: SwitchSnapshots> Default for Held<D> {
    fn default() -> Self {
        Self { prepared: Mutex::new(None), opened: Mutex::new(None) }
    }
}

impl<D: SwitchSnapshots> Held<D> {
    /// Keeps what was opened ahead of the hold.
    pub(crate) fn prepare(&self, prepared: D::Prepared) {
        *self.prepared.lock() = Some(prepared);
    }

    /// Opens the snapshots, where something was prepared for them.
    pub(crate) async fn open(&self, database: &D) -> Result<()> {
        let prepared = self.prepared.lock().take();
        if let Some(prepared) = prepared {
            let opened = database.open_snapshots(prepared).await?;
            *self.opened.lock() = Some(opened);
        }
        Ok(())
    }

    /// The snapshots, where they were opened.
    pub(crate) fn take_opened(&self) -> Option<D::Snapshots> {
        self.opened.lock().take()
    }
}

/// A pair of snapshots that lasts for hours, and must not be in anybody's way.
pub(crate) trait LastingPair: SnapshotPair {
    /// Marks the place to which [`LastingPair::leave`] goes back.
    fn enter(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Lets go of every lock since [`LastingPair::enter`]. Fails where a snapshot is lost.
    fn leave(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// What was done to the table after the snapshots, where that hides its rows from them without an error.
    fn hidden(&mut self, table: &Both<Self::Column>) -> impl Future<Output = Result<Option<String>>> + Send;
}

/// What is compared, and how.
pub(crate) struct Comparison<C> {
    /// The tables of the source, by its own catalogue.
    pub(crate) here: Vec<Described<C>>,
    /// The tables of the target.
    pub(crate) there: Vec<Described<C>>,
    /// How the definitions differed, or why that cannot be known.
    pub(crate) definitions: std::result::Result<Vec<String>, String>,
    /// Tables whose rows no snapshot keeps, by their titles, each with the reason.
    pub(crate) unversioned: BTreeMap<String, String>,
    /// Where the logs were, the source's first.
    pub(crate) positions: (String, String),
    /// Rows of a range, at most about so many.
    pub(crate) rows_max: u64,
    /// Rows that are compared in a second.
    pub(crate) rows_per_second: u64,
}

/// What one range came to.
enum Looked {
    Equal(u64),
    Different(u64, Vec<String>),
    Unknown(String),
}

/// Compares all of it. That a snapshot is lost on the way is a verdict too; fails only where `stop` was cancelled.
pub(crate) async fn compare<P: LastingPair>(
    pair: &mut P,
    what: Comparison<P::Column>,
    progress: &SwitchProgress,
    stop: &CancellationToken,
) -> Result<SwitchVerdict> {
    let mut found = Found::new(&what);
    let comparing = compare_tables(pair, what, progress, &mut found);
    let compared = tokio::select! {
        compared = comparing => compared,
        () = stop.cancelled() => return Err(stopped()),
    };
    if let Err(error) = compared {
        found.unknown.push(lost(&error));
    }
    Ok(found.verdict())
}

/// That nothing could be read any more is a verdict too.
pub(crate) fn lost(error: &Error) -> String {
    format!("a snapshot was lost: {}", error.full_text())
}

async fn compare_tables<P: LastingPair>(
    pair: &mut P,
    what: Comparison<P::Column>,
    progress: &SwitchProgress,
    found: &mut Found,
) -> Result<()> {
    let rows_max = what.rows_max.min(what.rows_per_second.saturating_mul(RANGE_SECONDS)).max(1);
    let mut queue = Vec::new();
    for table in what.here {
        let Some(other) = what.there.iter().find(|other| other.matches(&table)) else {
            continue;
        };
        if let Some(why) = what.unversioned.get(&table.title) {
            found.unknown.push(format!("{}: {why}", table.title));
            continue;
        }
        let both = Arc::new((table, other.clone()));
        match cut(pair, &both.0, rows_max).await? {
            Ok(ranges) => queue.extend(ranges.into_iter().map(|range| (Arc::clone(&both), range))),
            Err(why) => found.unknown.push(why),
        }
    }
    progress.expect(queue.len());
    let mut last = "";
    for (table, range) in &queue {
        let begun = Instant::now();
        let looked = look(pair, table, range).await?;
        if last != table.0.title {
            found.tables += 1;
            last = &table.0.title;
        }
        found.ranges += 1;
        let rows = found.keep(table, range, looked);
        progress.count(rows);
        sleep(rest(rows, what.rows_per_second, begun.elapsed())).await;
    }
    Ok(())
}

/// How long nothing is asked after so many rows that took so long.
fn rest(rows: u64, rows_per_second: u64, took: Duration) -> Duration {
    let millis = rows.saturating_mul(1000) / rows_per_second.max(1);
    Duration::from_millis(millis).saturating_sub(took)
}

/// The ranges of a table, or why it cannot be read any more. Fails where a snapshot is lost.
async fn cut<P: LastingPair>(
    pair: &mut P,
    table: &Described<P::Column>,
    rows_max: u64,
) -> Result<std::result::Result<Vec<Range>, String>> {
    pair.enter().await?;
    let cutting = timeout(CUT_TIMEOUT, ranges::cut(pair, table, rows_max)).await;
    let cut = cutting.unwrap_or_else(|_| Err(Error::transient(format!("the bounds of {} were not told", table.title))));
    settled(pair, cut).await
}

async fn look<P: LastingPair>(pair: &mut P, table: &Both<P::Column>, range: &Range) -> Result<Looked> {
    pair.enter().await?;
    let looked = digested(pair, table, range).await;
    let looked = settled(pair, looked).await?;
    Ok(looked.unwrap_or_else(Looked::Unknown))
}

/// Goes back to where [`LastingPair::enter`] was. A failure that leaves the snapshots as they are is one of the table alone.
async fn settled<P: LastingPair, T>(pair: &mut P, outcome: Result<T>) -> Result<std::result::Result<T, String>> {
    // A session that may owe an answer must not be asked any more.
    let error = match outcome {
        Ok(done) => return pair.leave().await.map(|()| Ok(done)),
        Err(error) if error.kind() == Kind::Transient => return Err(error),
        Err(error) => error,
    };
    // The first failure says more.
    match pair.leave().await {
        Ok(()) => Ok(Err(error.full_text())),
        Err(_) => Err(error),
    }
}

async fn digested<P: LastingPair>(pair: &mut P, table: &Both<P::Column>, range: &Range) -> Result<Looked> {
    let (here, there) = pair.digests(table, range).await?;
    if here == there {
        return Ok(Looked::Equal(here.rows));
    }
    if let Some(why) = pair.hidden(table).await? {
        return Ok(Looked::Unknown(why));
    }
    let keys = differing_keys(pair, &table.0, range, here.rows.max(there.rows)).await?;
    Ok(Looked::Different(here.rows.max(there.rows), keys))
}

/// What was found so far.
struct Found {
    rows: u64,
    tables: u64,
    ranges: u64,
    differing: Vec<String>,
    unknown: Vec<String>,
    positions: (String, String),
}

impl Found {
    /// What the catalogues tell.
    fn new<C: Column>(what: &Comparison<C>) -> Self {
        let mut differing = Vec::new();
        for table in &what.here {
            match what.there.iter().find(|other| other.title == table.title) {
                None => differing.push(format!("table {} (not on the target)", table.title)),
                Some(other) if !other.matches(table) => {
                    differing.push(format!("table {} (its columns differ)", table.title));
                }
                Some(_) => {}
            }
        }
        let surplus = what.there.iter().filter(|other| !what.here.iter().any(|table| table.title == other.title));
        differing.extend(surplus.map(|table| format!("table {} (not on the source)", table.title)));
        let mut unknown = Vec::new();
        match &what.definitions {
            Ok(more) => {
                let (hidden, more): (Vec<&String>, Vec<&String>) =
                    more.iter().partition(|one| one.contains("(cannot be known"));
                unknown.extend(hidden.into_iter().cloned());
                // The definitions quote names as statements do.
                let plain = |text: &str| text.replace(['`', '"'], "");
                let named: BTreeSet<String> = differing.iter().map(|one| plain(one)).collect();
                differing.extend(more.into_iter().filter(|one| !named.contains(&plain(one))).cloned());
            }
            Err(why) => unknown.push(format!("the definitions at the switch: {why}")),
        }
        Self { rows: 0, tables: 0, ranges: 0, differing, unknown, positions: what.positions.clone() }
    }

    /// Keeps what a range came to; tells how many rows it has.
    fn keep<C>(&mut self, table: &Both<C>, range: &Range, looked: Looked) -> u64 {
        let (rows, keys) = match looked {
            Looked::Equal(rows) => (rows, None),
            Looked::Different(rows, keys) => (rows, Some(keys)),
            Looked::Unknown(why) => {
                if !self.unknown.contains(&why) {
                    self.unknown.push(why);
                }
                (0, None)
            }
        };
        self.rows += rows;
        if let Some(keys) = keys {
            let place = format!("{} ({})", table.0.title, range.title);
            let named = keys.iter().map(|key| format!("{place}: {key}"));
            self.differing.extend(named);
            if keys.is_empty() {
                self.differing.push(place);
            }
        }
        rows
    }

    fn verdict(mut self) -> SwitchVerdict {
        let outcome = match (self.differing.is_empty(), self.unknown.is_empty()) {
            (false, _) => SwitchOutcome::Different,
            (true, false) => SwitchOutcome::Unknown,
            (true, true) => SwitchOutcome::Equal,
        };
        self.differing.truncate(DIFFERING_MAX);
        self.unknown.truncate(DIFFERING_MAX);
        SwitchVerdict {
            outcome,
            rows: self.rows,
            tables: self.tables,
            ranges: self.ranges,
            source_position: self.positions.0,
            target_position: self.positions.1,
            differing: self.differing,
            unknown: self.unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::rest;

    #[test]
    fn a_rate_is_kept_whatever_a_range_took() {
        assert_eq!(rest(50_000, 25_000, Duration::from_millis(200)), Duration::from_millis(1800));
        assert_eq!(rest(50_000, 25_000, Duration::from_secs(3)), Duration::ZERO);
        assert_eq!(rest(0, 25_000, Duration::ZERO), Duration::ZERO);
        assert_eq!(rest(u64::MAX, 0, Duration::ZERO), Duration::from_millis(u64::MAX));
    }
}
