//! A text that changes whenever a definition may have changed, quick enough to be read while clients are held.

use std::fmt::Write as _;

use tokio_postgres::{Client, Statement};

use crate::error::{Error, Result};
use crate::postgres::Postgres;
use crate::postgres::client::failed;

/// Two sessions that read the stamp, planned ahead: planning takes longer than reading.
pub(crate) struct Stamp {
    source: (Client, Statement),
    target: (Client, Statement),
}

impl Stamp {
    /// Opens the sessions.
    pub(crate) async fn open(postgres: &Postgres) -> Result<Self> {
        let (source, target) = tokio::try_join!(postgres.connect_source("look"), postgres.connect_target("look"))?;
        let (of_source, of_target) = tokio::try_join!(prepare(&source), prepare(&target))?;
        Ok(Self { source: (source, of_source), target: (target, of_target) })
    }

    /// A text that changes with every definition on either side.
    pub(crate) async fn read(&self) -> Result<String> {
        let (of_source, of_target) = tokio::try_join!(self.of_source(), self.of_target())?;
        Ok(Self::of_both(&of_source, &of_target))
    }

    /// A text that changes with every definition of the source.
    pub(crate) async fn of_source(&self) -> Result<String> {
        text(&self.source).await
    }

    /// A text that changes with every definition of the target.
    pub(crate) async fn of_target(&self) -> Result<String> {
        text(&self.target).await
    }

    /// The text for both sides.
    pub(crate) fn of_both(of_source: &str, of_target: &str) -> String {
        format!("{of_source} | {of_target}")
    }

    /// The session on the source.
    pub(crate) fn source(&self) -> &Client {
        &self.source.0
    }
}

/// The text for one side, as this session sees it.
pub(crate) async fn read_in(session: &Client) -> Result<String> {
    let statement = prepare(session).await?;
    session.query_one(&statement, &[]).await.and_then(|row| row.try_get(0)).map_err(cannot)
}

async fn text((session, statement): &(Client, Statement)) -> Result<String> {
    session.query_one(statement, &[]).await.and_then(|row| row.try_get(0)).map_err(cannot)
}

fn cannot(error: tokio_postgres::Error) -> Error {
    failed("cannot read a server's catalogue", error)
}

/// The query for one side. A row that is written anew gets a newer transaction's number, so that of each catalogue the
/// count and the sum of these change together with its rows; `pg_class` changes by itself too, and is told by its columns.
async fn prepare(session: &Client) -> Result<Statement> {
    let newer: bool = session
        .query_one("SELECT pg_catalog.to_regclass('pg_catalog.pg_parameter_acl') IS NOT NULL", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(cannot)?;
    let readable: bool = session
        .query_one("SELECT has_table_privilege('pg_catalog.pg_user_mapping', 'SELECT')", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(cannot)?;
    let mappings = if readable { "pg_user_mapping" } else { "pg_user_mappings" };
    let mut sums = String::new();
    for (catalogue, condition) in STAMPED.iter().filter(|(name, _)| newer || *name != "pg_parameter_acl") {
        let _ = write!(
            sums,
            ", (SELECT concat_ws(',', count(*), sum(t.xmin::text::bigint)) FROM pg_catalog.{catalogue} t WHERE {condition})"
        );
    }
    let query = format!(
        "WITH passing AS MATERIALIZED (SELECT oid FROM pg_catalog.pg_namespace
             WHERE nspname ~ '^pg_(toast_)?temp_' OR nspname = 'headgate'),
         ours AS MATERIALIZED (
             SELECT c.oid, c.relkind, hashtextextended(concat_ws(' ', c.oid, c.relnamespace, c.relkind, c.relpersistence,
                 c.relreplident, c.relname, c.relowner, c.relam, c.relacl, c.reloptions, c.relrowsecurity,
                 c.relforcerowsecurity, c.relispopulated), 0) AS hash
             FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p', 'S', 'v', 'm', 'f', 'c') AND c.relrewrite = 0
               AND c.relnamespace NOT IN (SELECT oid FROM passing) AND (c.oid >= 16384 OR c.relacl IS NOT NULL))
         SELECT concat_ws(' ', (SELECT concat_ws(',', count(*), sum(hash)) FROM ours),
             (SELECT hashtextextended(concat_ws(' ', d.datdba, d.datconnlimit, d.datallowconn, d.datacl), 0)
              FROM pg_catalog.pg_database d WHERE d.datname = current_database()),
             (SELECT concat_ws(',', count(*), sum(hashtextextended(r::text, 0))) FROM pg_catalog.pg_roles r),
             (SELECT concat_ws(',', count(*), sum(hashtextextended(m::text, 0))) FROM pg_catalog.{mappings} m),
             (SELECT concat_ws(',', count(*), sum(d.xmin::text::bigint)) FROM pg_catalog.pg_depend d
              JOIN ours ON ours.oid = d.objid AND ours.relkind = 'S'
              WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i'))
             {sums})"
    );
    session.prepare(&query).await.map_err(cannot)
}

/// Catalogues, and which of their rows count: those of temporary tables come and go all the time.
const STAMPED: &[(&str, &str)] = &[
    ("pg_attribute", "t.attnum > 0 AND t.attrelid >= 16384 AND t.attrelid IN (SELECT oid FROM ours)"),
    ("pg_attrdef", "t.adrelid IN (SELECT oid FROM ours)"),
    ("pg_constraint", "t.oid >= 16384 AND t.connamespace NOT IN (SELECT oid FROM passing)"),
    ("pg_index", "t.indrelid >= 16384 AND t.indrelid IN (SELECT oid FROM ours)"),
    ("pg_trigger", "NOT t.tgisinternal AND t.tgrelid IN (SELECT oid FROM ours)"),
    ("pg_policy", "true"),
    ("pg_rewrite", "t.oid >= 16384 AND t.ev_class IN (SELECT oid FROM ours)"),
    ("pg_inherits", "t.inhrelid IN (SELECT oid FROM ours)"),
    ("pg_partitioned_table", "true"),
    ("pg_sequence", "t.seqrelid IN (SELECT oid FROM ours)"),
    ("pg_type", "t.oid >= 16384 AND t.typnamespace NOT IN (SELECT oid FROM passing)"),
    ("pg_enum", "true"),
    ("pg_range", "t.rngtypid >= 16384"),
    ("pg_proc", "(t.oid >= 16384 OR t.proacl IS NOT NULL) AND t.pronamespace NOT IN (SELECT oid FROM passing)"),
    ("pg_aggregate", "t.aggfnoid >= 16384"),
    ("pg_operator", "t.oid >= 16384"),
    ("pg_opclass", "t.oid >= 16384"),
    ("pg_opfamily", "t.oid >= 16384"),
    ("pg_amop", "t.oid >= 16384"),
    ("pg_amproc", "t.oid >= 16384"),
    ("pg_am", "true"),
    ("pg_cast", "t.oid >= 16384"),
    ("pg_conversion", "t.oid >= 16384"),
    ("pg_collation", "t.oid >= 16384"),
    ("pg_language", "true"),
    ("pg_transform", "true"),
    ("pg_ts_config", "t.oid >= 16384"),
    ("pg_ts_config_map", "t.mapcfg >= 16384"),
    ("pg_ts_dict", "t.oid >= 16384"),
    ("pg_ts_parser", "t.oid >= 16384"),
    ("pg_ts_template", "t.oid >= 16384"),
    ("pg_namespace", "t.oid NOT IN (SELECT oid FROM passing)"),
    ("pg_extension", "true"),
    ("pg_event_trigger", "true"),
    ("pg_foreign_data_wrapper", "true"),
    ("pg_foreign_server", "true"),
    ("pg_foreign_table", "true"),
    ("pg_statistic_ext", "true"),
    ("pg_default_acl", "true"),
    ("pg_description", "t.objoid >= 16384"),
    ("pg_seclabel", "true"),
    ("pg_largeobject_metadata", "true"),
    ("pg_auth_members", "true"),
    ("pg_db_role_setting", "true"),
    ("pg_shdescription", "true"),
    ("pg_shseclabel", "true"),
    ("pg_publication_rel", "true"),
    ("pg_parameter_acl", "true"),
];

#[cfg(test)]
mod tests {
    use super::STAMPED;
    use crate::postgres::check::inventory::{INVENTORY, Treatment};

    #[test]
    fn no_class_that_is_compared_is_missing_from_the_stamp() {
        // Told by their columns, or by the view that everybody may read.
        let otherwise = ["pg_class", "pg_database", "pg_authid", "pg_user_mapping"];
        for (catalogue, treatment) in INVENTORY {
            let stamped = STAMPED.iter().any(|(name, _)| name == catalogue);
            let compared = matches!(treatment, Treatment::Compared(_));
            assert!(
                !compared || stamped || otherwise.contains(catalogue),
                "{catalogue} is compared, and its changes leave the stamp as it was"
            );
        }
    }
}
