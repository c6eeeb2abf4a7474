//! What the check reads of both catalogues: which tables and columns there are, and whether they are the same.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use crate::check::table::{Column, NAMED_MAX};
use crate::error::Result;
use crate::model::definitions::Compared;
use crate::model::plan::Plan;
use crate::model::proof::Proof;
use crate::postgres::client::failed;
use crate::postgres::position::Lsn;
use crate::postgres::sql::{qualified, title_of};

/// A table; of each column its type, and whether it is generated.
pub(crate) type Described = crate::check::table::Described<(String, String)>;

impl Column for (String, String) {
    fn compares(&self, other: &Self) -> bool {
        self == other
    }

    fn is_whole_number(&self) -> bool {
        matches!(self.0.as_str(), "smallint" | "integer" | "bigint")
    }
}

/// Every table with rows of its own.
pub(crate) async fn read(client: &Client, side: &str, schemas: &[String]) -> Result<Vec<Described>> {
    let cannot = |error| failed(&format!("cannot read the {side}'s catalogue"), error);
    let rows = client
        .query(
            "SELECT n.nspname, c.relname, greatest(c.reltuples, 0)::int8,
                    coalesce(k.names, '{}'), coalesce(a.names, '{}'), coalesce(a.types, '{}'), coalesce(a.generated, '{}')
             FROM pg_catalog.pg_class AS c
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
             CROSS JOIN LATERAL (
                 SELECT array_agg(attname::text) AS names,
                        array_agg(pg_catalog.format_type(atttypid, atttypmod)) AS types,
                        array_agg(attgenerated::text) AS generated
                 FROM pg_catalog.pg_attribute
                 WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS a
             LEFT JOIN LATERAL (
                 SELECT array_agg(b.attname::text ORDER BY array_position(i.indkey::int2[], b.attnum)) AS names
                 FROM pg_catalog.pg_index AS i
                 JOIN pg_catalog.pg_attribute AS b ON b.attrelid = c.oid
                  AND array_position((i.indkey::int2[])[0:i.indnkeyatts - 1], b.attnum) IS NOT NULL
                 WHERE i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident)
                 GROUP BY i.indexrelid ORDER BY bool_or(i.indisprimary) DESC LIMIT 1) AS k ON true
             WHERE c.relkind = 'r' AND c.relpersistence <> 't'
               AND n.nspname !~ '^pg_' AND n.nspname <> ALL ('{information_schema,headgate}')
               AND (cardinality($1::text[]) = 0 OR n.nspname = ANY ($1::text[]))
               AND (NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                       WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
                   OR c.oid IN (SELECT unnest(extconfig) FROM pg_catalog.pg_extension))
             ORDER BY c.relpages DESC, 1, 2",
            &[&schemas],
        )
        .await
        .map_err(cannot)?;
    rows.iter()
        .map(|row| {
            let (schema, name): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let names: Vec<String> = row.try_get(4)?;
            let types: Vec<String> = row.try_get(5)?;
            let generated: Vec<String> = row.try_get(6)?;
            Ok(Described {
                title: title_of(&schema, &name),
                relation: qualified(&schema, &name),
                columns: names.into_iter().zip(types.into_iter().zip(generated)).collect(),
                key: row.try_get(3)?,
                rows_estimated: row.try_get::<_, i64>(2)?.try_into().unwrap_or(0),
            })
        })
        .collect::<std::result::Result<_, tokio_postgres::Error>>()
        .map_err(cannot)
}

/// Whether both sides are defined alike, and the plan knows of all tables.
pub(crate) fn proof(plan: &Plan, source: &[Described], compared: &Compared, position: Lsn) -> Proof {
    let planned = plan.tables.iter().map(|table| title_of(&table.schema, &table.name));
    let planned: BTreeSet<String> = planned.collect();
    // A table that nobody planned to move is a difference even where the target has one of the same name.
    let unplanned = source
        .iter()
        .filter(|table| !planned.contains(&table.title))
        .map(|table| format!("table {} (not in the plan)", table.title));
    let gone = planned
        .iter()
        .filter(|title| !source.iter().any(|table| table.title == **title))
        .map(|title| format!("table {title} (gone from the source)"));
    let mut differing_keys: Vec<String> = unplanned.chain(gone).collect();
    differing_keys.extend(compared.differences.iter().cloned());
    let count = |side: &BTreeMap<String, String>| u64::try_from(side.len()).unwrap_or(u64::MAX);
    let equal = if differing_keys.is_empty() { "equal" } else { "different" };
    // Rows of the target that may be more are none of this comparison.
    let source_rows = count(&compared.fingerprint.source);
    let proof = Proof {
        table: "catalogue".to_owned(),
        range: "catalogue".to_owned(),
        source_rows,
        target_rows: source_rows,
        source_digest: "equal".to_owned(),
        target_digest: equal.to_owned(),
        position: position.to_string(),
        differing_keys: Vec::new(),
    };
    differing_keys.truncate(NAMED_MAX);
    Proof { differing_keys, ..proof }
}
