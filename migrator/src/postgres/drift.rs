//! What of PostgreSQL's source is looked at for changes since the plan.

use tokio_postgres::Client;

use super::client::failed;
use super::sql::{relation, title_of};
use super::{Postgres, plan};
use crate::definitions::Fingerprint;
use crate::drift::{self, Speech};
use crate::error::Result;
use crate::plan::Plan;

const SPEECH: Speech = Speech {
    title: title_of,
    counter: "sequence",
    key: "replica identity",
};

/// Refuses where the source's catalogue differs from the plan, and names what does.
pub(super) async fn refuse(session: &Client, postgres: &Postgres, plan: &Plan) -> Result<()> {
    let (now, changes) = tokio::try_join!(
        plan::read_in(session, &postgres.settings().schemas),
        unpublished(session, postgres, plan)
    )?;
    drift::refuse(plan, &now, &SPEECH, changes)
}

/// A text that changes with everything that [`refuse`] looks at, and sometimes without; reading it is much quicker.
pub(super) async fn fingerprint(session: &Client) -> Result<String> {
    session
        .query_one(
            "WITH ours AS MATERIALIZED (
                 SELECT c.oid, hashtextextended(concat_ws(' ', c.oid, c.relnamespace, c.relkind,
                     c.relpersistence, c.relreplident, c.relname), 0) AS hash
                 FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't')
             SELECT concat_ws(' ',
                 (SELECT concat_ws(',', count(*), sum(hash)) FROM ours),
                 (SELECT concat_ws(',', count(*), sum(a.xmin::text::bigint)) FROM pg_catalog.pg_attribute a
                  JOIN ours ON ours.oid = a.attrelid WHERE a.attnum > 0),
                 (SELECT concat_ws(',', count(*), sum(i.xmin::text::bigint)) FROM pg_catalog.pg_index i
                  JOIN ours ON ours.oid = i.indrelid),
                 (SELECT concat_ws(',', count(*), sum(xmin::text::bigint)) FROM pg_catalog.pg_publication_rel),
                 (SELECT concat_ws(',', count(*), sum(xmin::text::bigint)) FROM pg_catalog.pg_namespace))",
            &[],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| failed("cannot read the source's catalogue", error))
}

/// Tables that were dropped and made again under their name are not published any more.
async fn unpublished(session: &Client, postgres: &Postgres, plan: &Plan) -> Result<Vec<String>> {
    let names: Vec<String> = plan.tables.iter().map(relation).collect();
    session
        .query(
            "SELECT 'table ' || name || ' was made anew and is not published'
             FROM pg_catalog.pg_publication p, unnest($1::text[]) AS name
             WHERE p.pubname = $2 AND to_regclass(name) IS NOT NULL AND NOT EXISTS (
                 SELECT FROM pg_catalog.pg_publication_rel r
                 WHERE r.prpubid = p.oid AND r.prrelid = to_regclass(name))",
            &[&names, &postgres.publication()],
        )
        .await
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
        .map_err(|error| failed("cannot read what the source publishes", error))
}

/// Refuses where the definitions of a side are no longer those of the proof, and names what changed.
pub(super) async fn unproved(
    postgres: &Postgres,
    plan: &Plan,
    proved: Option<&Fingerprint>,
) -> Result<()> {
    let Some(proved) = proved else { return Ok(()) };
    let now = super::definitions::compare(postgres, plan).await?;
    drift::unproved(proved, &now)
}
