//! The check: both sides compared, range by range, at one position, while changes go on.
//!
//! Nothing here shares code with what moves rows: own connections, own reading of the catalogue, own SQL.

pub(crate) mod catalog_tables;
pub(crate) mod definitions;
mod differences;
pub(crate) mod digest;
pub(crate) mod drift;
pub mod inventory;
pub(crate) mod printed;
pub(crate) mod reprinted;
pub mod residue;
pub(crate) mod snapshot_pair;
pub mod stamp;
pub mod switch_snapshots;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::Conn;
use tokio_util::sync::CancellationToken;

use crate::check::{self, no_worker, stopped, unless_stopped};
use crate::error::Result;
use crate::follow::Follow;
use crate::model::definitions::Compared;
use crate::model::plan::Plan;
use crate::model::progress::Progress;
use crate::model::proof::{Checked, Proof};
use crate::mysql::check::catalog_tables::Side;
use crate::mysql::check::digest::Pair;
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
        let compared = definitions::compare(mysql).await?;
        guard::refuse_open(mysql).await?;
        let pinned = snapshot_pair::open(mysql, plan, follow, &stop).await?;
        let pinned = pinned.ok_or_else(stopped)?;
        let proofs = compare(mysql, plan, pinned, &compared, &progress).await?;
        Ok(Checked { proofs, fingerprint: compared.fingerprint })
    };
    unless_stopped(&stop, Box::pin(comparing)).await
}

async fn compare(
    mysql: &Mysql,
    plan: &Plan,
    pinned: Pinned,
    compared: &Compared,
    progress: &Progress,
) -> Result<Vec<Proof>> {
    let Pinned { position, mut sources, mut targets } = pinned;
    let (source, target) = sources.first_mut().zip(targets.first_mut()).ok_or_else(no_worker)?;
    let (from, to) = tokio::try_join!(client::version(source), client::version(target))?;
    let mixed = from.flavor != to.flavor;
    let side = |name| Side { name, mixed };
    let sessions = sources.into_iter().zip(targets);
    let mut pairs: Vec<Pair> = sessions
        .map(|(source, target)| Pair { source: (source, side("source")), target: (target, side("target")) })
        .collect();
    let first = pairs.first_mut().ok_or_else(no_worker)?;
    digest::agree(first).await?;
    let databases = mysql.databases();
    let here = catalog_tables::read(&mut first.source.0, first.source.1, &databases).await?;
    let there = catalog_tables::read(&mut first.target.0, first.target.1, &databases).await?;
    let mut proofs = vec![catalog_tables::proof(plan, compared, (&here, &there), &position)];
    let rows_max = mysql.settings().check_range_rows;
    proofs.extend(check::compare(&mut pairs, here, &there, rows_max, &position, progress).await?);
    for Pair { source, target } in pairs {
        end(source.0).await;
        end(target.0).await;
    }
    Ok(proofs)
}

/// Ends a session in good order, so that the server does not count it as aborted.
async fn end(session: Conn) {
    let _ = tokio::time::timeout(Duration::from_secs(5), session.disconnect()).await;
}
