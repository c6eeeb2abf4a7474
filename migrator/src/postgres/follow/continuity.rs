//! Whether source and target still are what they were when changes were applied last. Where a standby has taken the place of
//! either, it may lack what its predecessor had, and the stream would go on as if nothing were missing.

use tokio_postgres::Client;

use super::tables::start_anew;
use crate::error::{Error, Result};
use crate::postgres::Postgres;
use crate::postgres::client::failed;
use crate::postgres::position::Lsn;
use crate::postgres::stream::Replication;

/// Up to where the source has forgotten the changes, as the target had confirmed them; nothing where there is no slot.
pub(super) async fn forgotten(postgres: &Postgres, source: &Client) -> Result<Option<Lsn>> {
    let cannot = |error| failed("cannot see what was confirmed to the source", error);
    let query = "SELECT confirmed_flush_lsn::text FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";
    let row = source.query_opt(query, &[&postgres.slot()]).await.map_err(cannot)?;
    let text = row.map(|row| row.try_get::<_, Option<String>>(0)).transpose().map_err(cannot)?.flatten();
    text.map(|text| text.parse()).transpose()
}

/// Refuses a target that is behind what it had confirmed: the stream would leave out what is between the two.
pub(super) fn refuse_lost_record(postgres: &Postgres, forgotten: Option<Lsn>, stored: Lsn) -> Result<()> {
    match forgotten {
        Some(forgotten) if forgotten > stored => Err(Error::fatal(format!(
            "the target has lost changes that it had confirmed: by its own record it has those up to {stored}, and the \
             source keeps them only from {forgotten} on; a standby or a backup that was behind has taken its place"
        ))
        .remedy(start_anew(postgres.name()))),
        _ => Ok(()),
    }
}

/// Refuses a source that does not have what was applied up to `stored`, when its log was on timeline `known`: what the target
/// has beyond it was never on this source, and what this source wrote there instead would be left out. Returns the timeline
/// that it is on.
pub(super) async fn refuse_other_history(
    postgres: &Postgres,
    replication: &mut Replication,
    stored: Lsn,
    known: Option<u32>,
) -> Result<u32> {
    let (timeline, end) = replication.identify().await?;
    let Some(known) = known else { return Ok(timeline) };
    let left_at = if known == timeline {
        end
    } else {
        let history = replication.history(timeline).await?;
        let left = history.into_iter().find(|(passed, _)| *passed == known);
        left.map_or(Lsn(0), |(_, at)| at)
    };
    if stored <= left_at {
        return Ok(timeline);
    }
    Err(Error::fatal(format!(
        "the target has changes that the source has not: it is at {stored} of timeline {known}, and the source, on timeline \
         {timeline}, has that one up to {left_at} only; a standby or a backup that was behind has taken its place"
    ))
    .remedy(start_anew(postgres.name())))
}
