//! The check: both sides compared, range by range, at one position, while changes go on.
//!
//! Nothing here shares code with what moves rows: own connections, own reading of the catalogue, own SQL.

pub(crate) mod catalogue;
pub(crate) mod definitions;
pub(crate) mod digest;
pub(crate) mod drift;
pub(crate) mod expressions;
pub mod inventory;
pub mod residue;
pub(crate) mod snapshot_pair;
pub(crate) mod stamp;
pub mod switch_snapshots;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::check::{self, no_worker, unless_stopped};
use crate::error::{Error, Result};
use crate::follow::Follow;
use crate::model::plan::Plan;
use crate::model::progress::Progress;
use crate::model::proof::Checked;
use crate::postgres::Postgres;
use crate::postgres::check::digest::Pair;
use crate::postgres::check::snapshot_pair::Pinned;
use crate::postgres::check::stamp::Stamp;
use crate::postgres::guard;
use crate::postgres::position::Lsn;
use crate::postgres::schema::set_aside;

/// Compares every table on both sides as of one position. One proof per range, the catalogue's first.
pub async fn run(
    postgres: &Postgres,
    plan: &Plan,
    follow: Follow<Lsn>,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<Checked> {
    unless_stopped(&stop, Box::pin(compare(postgres, plan, follow, &progress))).await
}

async fn compare(postgres: &Postgres, plan: &Plan, follow: Follow<Lsn>, progress: &Progress) -> Result<Checked> {
    // What is proved stays true only where nobody else writes from here on.
    drop(guard::raise(postgres, plan).await?);
    set_aside::make_way(postgres, plan).await?;
    let stamp = Stamp::open(postgres).await?;
    let before = stamp.read().await?;
    let Pinned { position, sources, targets } = snapshot_pair::open(postgres, follow).await?;
    let (source, target) = sources.first().zip(targets.first()).ok_or_else(no_worker)?;
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
    let mut pairs: Vec<Pair> =
        sources.into_iter().zip(targets).map(|(source, target)| Pair { source, target, hash }).collect();
    let rows_max = postgres.settings().check_range_rows;
    proofs.extend(check::compare(&mut pairs, here, &there, rows_max, &position, progress).await?);
    Ok(Checked { proofs, fingerprint: compared.fingerprint })
}
