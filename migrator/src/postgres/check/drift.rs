//! What of PostgreSQL's source is looked at for changes since the plan.

use tokio_postgres::Client;

use crate::drift::{self, ObjectNames};
use crate::error::Result;
use crate::model::plan::Plan;
use crate::postgres::client::failed;
use crate::postgres::sql::{relation, title_of};
use crate::postgres::{Postgres, plan};

const SPEECH: ObjectNames = ObjectNames { title: title_of, counter: "sequence", key: "replica identity" };

/// Refuses where the source's catalogue differs from the plan, and names what does.
pub(crate) async fn refuse(session: &Client, postgres: &Postgres, plan: &Plan) -> Result<()> {
    let (now, changes) =
        tokio::try_join!(plan::read_in(session, &postgres.settings().schemas), unpublished(session, postgres, plan))?;
    drift::refuse(plan, &now, &SPEECH, changes)
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
