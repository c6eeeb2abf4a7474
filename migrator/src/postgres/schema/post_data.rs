//! Builds the rest of the schema on loaded tables: each table's indexes as soon as its rows are there, the rest last.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use super::archive::{Archive, Entry};
use super::roles;
use crate::error::{Error, Result};
use crate::model::plan::{Plan, Table};
use crate::postgres::client::failed;
use crate::postgres::records;
use crate::postgres::records::Part;
use crate::postgres::sql::{qualified, relation};
use crate::postgres::{Postgres, schema};

const POST_DATA: &str = "post_data";

/// What is to be built, by when it can be.
pub struct PostData {
    archive: Archive,
    of_tables: BTreeMap<(String, String), Vec<Index>>,
    last: Vec<Entry>,
}

struct Index {
    entry: Entry,
    name: String,
}

impl PostData {
    /// Sorts what the archive holds. Nothing is built yet.
    pub async fn open(postgres: &Postgres, plan: &Plan, target: &Client) -> Result<Self> {
        let archive = Archive::open(postgres, target).await?;
        let entries = archive.list(postgres, "post-data").await?;
        let source = postgres.connect_source("schema").await?;
        let mut owners = owners(&source, &entries).await?;
        let mut of_tables: BTreeMap<_, Vec<Index>> =
            plan.tables.iter().map(|table| ((table.schema.clone(), table.name.clone()), Vec::new())).collect();
        let mut last = Vec::new();
        for entry in entries {
            let owner = owners.remove(&entry.object).filter(|_| is_index(&entry));
            match owner.and_then(|(table, name)| of_tables.get_mut(&table).map(|list| (list, name))) {
                Some((list, name)) => list.push(Index { entry, name }),
                None => last.push(entry),
            }
        }
        Ok(Self { archive, of_tables, last })
    }

    /// Builds what is still missing of these loaded tables' indexes and refreshes their statistics.
    pub async fn build(&self, postgres: &Postgres, tables: &[Table], target: &Client) -> Result<()> {
        let indexes: Vec<&Index> = tables
            .iter()
            .filter_map(|table| self.of_tables.get(&(table.schema.clone(), table.name.clone())))
            .flatten()
            .collect();
        let names: Vec<String> = indexes.iter().map(|index| index.name.clone()).collect();
        let absent = if names.is_empty() { names } else { schema::database::absent(target, &names).await? };
        let absent: BTreeSet<String> = absent.into_iter().collect();
        let entries: Vec<Entry> =
            indexes.iter().filter(|index| absent.contains(&index.name)).map(|index| index.entry.clone()).collect();
        self.archive.restore(postgres, &entries).await?;
        let names: Vec<String> = tables.iter().map(relation).collect();
        target
            .batch_execute(&format!("ANALYZE {}", names.join(", ")))
            .await
            .map_err(|error| failed("cannot refresh the statistics of loaded tables", error))?;
        let records: Vec<String> = tables.iter().map(|table| records::indexed(postgres, table)).collect();
        target
            .batch_execute(&records.join(";"))
            .await
            .map_err(|error| failed("cannot record that tables are built", error))
    }

    /// Builds everything else, once all tables have their rows and indexes.
    pub async fn finish(&self, postgres: &Postgres, target: &Client) -> Result<()> {
        let part = records::part(postgres, target, POST_DATA).await?;
        if part == Part::Done {
            return Ok(());
        }
        let source = postgres.connect_source("schema").await?;
        // A run that was killed may have left them.
        roles::dismiss(postgres, &source, target).await?;
        match part {
            Part::Done => {}
            // It is one transaction: where one of its objects is there, all are.
            Part::Begun if self.any_exists(&source, target).await? => {}
            Part::Begun | Part::Waiting => {
                records::set_part(postgres, target, POST_DATA, Part::Begun).await?;
                roles::stand_in(&source, target).await?;
                self.archive.restore(postgres, &self.last).await?;
                roles::dismiss(postgres, &source, target).await?;
            }
        }
        analyze_extended(target).await?;
        records::set_part(postgres, target, POST_DATA, Part::Done).await
    }

    async fn any_exists(&self, source: &Client, target: &Client) -> Result<bool> {
        for entry in self.last.iter().filter(|entry| entry.object != 0) {
            let Ok(Some(address)) = source
                .query_opt(
                    "SELECT type, object_names, object_args
                     FROM pg_catalog.pg_identify_object_as_address($1, $2, 0)",
                    &[&entry.class, &entry.object],
                )
                .await
            else {
                continue;
            };
            let unreadable = |error| failed("the source's catalogue cannot be read", error);
            let kind: String = address.try_get(0).map_err(unreadable)?;
            let names: Vec<String> = address.try_get(1).map_err(unreadable)?;
            let arguments: Vec<String> = address.try_get(2).map_err(unreadable)?;
            let found = target
                .query_one(
                    "SELECT objid FROM pg_catalog.pg_get_object_address($1, $2, $3)",
                    &[&kind, &names, &arguments],
                )
                .await;
            match found {
                Ok(_) => return Ok(true),
                Err(error) if error.as_db_error().is_some() => {}
                Err(error) => return Err(failed("cannot read the target's catalogue", error)),
            }
        }
        Ok(false)
    }
}

/// Statistics objects are created last, behind the ANALYZE of their tables: they get their data here.
async fn analyze_extended(target: &Client) -> Result<()> {
    let cannot = |error| failed("cannot refresh the extended statistics of loaded tables", error);
    let tables: Vec<String> = target
        .query(
            "SELECT DISTINCT format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_statistic_ext s
             JOIN pg_catalog.pg_class c ON c.oid = s.stxrelid
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_'",
            &[],
        )
        .await
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
        .map_err(cannot)?;
    if tables.is_empty() {
        return Ok(());
    }
    let analyze = format!("ANALYZE {}", tables.join(", "));
    target.batch_execute(&analyze).await.map_err(cannot)
}

/// An index, or a constraint that is one.
fn is_index(entry: &Entry) -> bool {
    entry.description.starts_with("INDEX ") && !entry.description.starts_with("INDEX ATTACH ")
        || entry.description.starts_with("CONSTRAINT ")
}

type Owner = ((String, String), String);

/// The table of each index and constraint, and the quoted name of the index, by the source's identifiers.
async fn owners(source: &Client, entries: &[Entry]) -> Result<BTreeMap<u32, Owner>> {
    let objects: Vec<u32> = entries.iter().filter(|entry| is_index(entry)).map(|entry| entry.object).collect();
    let rows = source
        .query(
            "SELECT x.object, n.nspname::text, t.relname::text, n.nspname::text, i.relname::text FROM (
                 SELECT indexrelid AS object, indexrelid AS index, indrelid AS owner
                 FROM pg_catalog.pg_index WHERE indexrelid = ANY ($1)
                 UNION ALL SELECT oid, conindid, conrelid FROM pg_catalog.pg_constraint
                 WHERE oid = ANY ($1) AND contype IN ('p', 'u', 'x')) x
             JOIN pg_catalog.pg_class t ON t.oid = x.owner AND t.relkind = 'r'
             JOIN pg_catalog.pg_class i ON i.oid = x.index
             JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace",
            &[&objects],
        )
        .await
        .map_err(|error| failed("cannot read the source's indexes", error))?;
    let mut owners = BTreeMap::new();
    for row in rows {
        let read = || -> std::result::Result<_, tokio_postgres::Error> {
            let schema: String = row.try_get(1)?;
            let index: String = row.try_get(4)?;
            let name = qualified(&schema, &index);
            Ok((row.try_get::<_, u32>(0)?, ((schema, row.try_get(2)?), name)))
        };
        let (object, owner) =
            read().map_err(|error| Error::fatal("the source's indexes cannot be read").because(error))?;
        owners.insert(object, owner);
    }
    Ok(owners)
}
