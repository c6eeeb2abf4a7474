//! The tables that the follower writes: what the plan, the source, the target and the stream say of them.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Client;

use crate::error::{Error, Result};
use crate::model::plan::Plan;
use crate::postgres::Postgres;
use crate::postgres::client::failed;
use crate::postgres::position::Lsn;
use crate::postgres::sql::{qualified, quote_ident, title};

/// What restarts a migration whose tables are no longer what was planned.
pub(crate) fn start_anew(migration: &str) -> String {
    format!(
        "DROP MIGRATION {migration} WITH (target_objects = 'drop'), then create it anew; do not change the schema while it runs"
    )
}

/// A column that is written.
#[expect(clippy::struct_excessive_bools, reason = "four independent facts of the catalogue")]
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The name for SQL.
    pub(crate) quoted: String,
    /// The type without its modifier: a cast with one would cut or round what does not fit, where an assignment to
    /// the column refuses it.
    pub(crate) type_name: String,
    /// The type on the source.
    source_type: (u32, i32),
    /// There are no arrays of arrays, and a set of composites would fall apart into their fields.
    carried_as_text: bool,
    /// What separates elements in an array of this type.
    delimiter: u8,
    /// An identity that an update cannot set.
    pub(crate) always_identity: bool,
    /// The type has an equality that an index may serve.
    pub(crate) comparable: bool,
    /// Values that are equal look the same too.
    pub(crate) equal_is_identical: bool,
}

impl Column {
    /// The type of the parameter that carries a set of values.
    pub(crate) fn set_type(&self) -> String {
        if self.carried_as_text { "text[]".to_owned() } else { format!("{}[]", self.type_name) }
    }

    /// What separates the elements of that parameter.
    pub(crate) fn set_delimiter(&self) -> u8 {
        if self.carried_as_text { b',' } else { self.delimiter }
    }

    /// The value of one element of the set.
    pub(crate) fn element(&self) -> String {
        if self.carried_as_text {
            format!("u.{}::{}", self.quoted, self.type_name)
        } else {
            format!("u.{}", self.quoted)
        }
    }
}

/// A table that is written.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// `schema.table` for people and progress.
    pub(crate) title: String,
    /// The same, for messages.
    pub(crate) place: Arc<str>,
    /// `schema.table` for SQL.
    pub(crate) relation: String,
    pub(crate) columns: Vec<Column>,
    /// The key's columns; empty where the whole row is the key.
    pub(crate) key: Vec<usize>,
    /// Changes committed before this were there when the table was loaded.
    pub(crate) valid_from: Lsn,
}

/// Every table of the plan, by its name.
pub(crate) struct Tables {
    migration: String,
    pub(crate) all: Vec<Table>,
    by_name: HashMap<(String, String), usize>,
}

impl Tables {
    /// Reads what both servers say of the plan's tables, and compares it with the plan.
    pub(crate) async fn load(postgres: &Postgres, plan: &Plan, source: &Client, target: &Client) -> Result<Self> {
        let types = source_types(source).await?;
        let traits = target_traits(target).await?;
        let valid = valid_from(target, &postgres.key()).await?;
        let mut tables = Self { migration: postgres.name().to_owned(), all: Vec::new(), by_name: HashMap::new() };
        for table in &plan.tables {
            let title = title(table);
            let name = (table.schema.clone(), table.name.clone());
            let Some(&valid_from) = valid.get(&name) else {
                return Err(Error::fatal(format!("the table {title} has no record of its load"))
                    .remedy(start_anew(postgres.name())));
            };
            let mut columns = Vec::with_capacity(table.columns.len());
            for column in &table.columns {
                let at = (table.schema.clone(), table.name.clone(), column.name.clone());
                let Some(source_type) = types.get(&at) else {
                    return Err(tables.changed(&title, &format!("the column {} is gone", column.name)));
                };
                if source_type.reported != column.type_name {
                    let seen = format!("the column {} is now {}", column.name, source_type.reported);
                    return Err(tables.changed(&title, &seen));
                }
                let Some(seen) = traits.get(&at) else {
                    let what = format!("the target's table {title} has no column {}", column.name);
                    return Err(Error::fatal(what).remedy(format!(
                        "give it this column there as it is on the source, then RECOPY TABLE {title} OF MIGRATION {}",
                        postgres.name()
                    )));
                };
                columns.push(Column {
                    name: column.name.clone(),
                    quoted: quote_ident(&column.name),
                    type_name: source_type.bare.clone(),
                    source_type: source_type.number,
                    carried_as_text: matches!(column.kind.as_str(), "a" | "c" | "d"),
                    delimiter: seen.delimiter,
                    always_identity: seen.always_identity,
                    comparable: seen.comparable,
                    equal_is_identical: EQUAL_IS_IDENTICAL.contains(&seen.base_type),
                });
            }
            let position = |key: &String| table.columns.iter().position(|column| column.name == *key);
            let key: Option<Vec<usize>> = table.key.iter().map(position).collect();
            let key = key.ok_or_else(|| tables.changed(&title, "a column of its key is generated"))?;
            tables.by_name.insert(name, tables.all.len());
            let relation = qualified(&table.schema, &table.name);
            let place = title.as_str().into();
            tables.all.push(Table { title, place, relation, columns, key, valid_from });
        }
        Ok(tables)
    }

    /// The same, according to which each change that may come is in the tables already.
    pub(crate) fn passed_over(mut self) -> Self {
        for table in &mut self.all {
            table.valid_from = Lsn(u64::MAX);
        }
        self
    }

    /// As of where a table was loaded.
    pub(crate) fn valid_from(&self, schema: &str, name: &str) -> Option<Lsn> {
        let index = self.by_name.get(&(schema.to_owned(), name.to_owned()))?;
        self.all.get(*index).map(|table| table.valid_from)
    }

    /// What was planned of a table is what its rows are written by: undone, its rows are taken anew.
    fn changed(&self, title: &str, what: &str) -> Error {
        let migration = &self.migration;
        Error::fatal(format!("the table {title} was changed on the source: {what}")).remedy(format!(
            "undo it on the source, then RECOPY TABLE {title} OF MIGRATION {migration}; where it is to stay, {}",
            start_anew(migration)
        ))
    }

    /// The table that the stream announces, if it is ours and still as it was planned.
    ///
    /// `columns` has each column's name, and its type's number and modifier.
    pub(crate) fn announced<'a>(
        &self,
        schema: &str,
        name: &str,
        columns: impl Iterator<Item = (&'a str, (u32, i32))>,
    ) -> Result<usize> {
        let Some(&index) = self.by_name.get(&(schema.to_owned(), name.to_owned())) else {
            return Err(Error::fatal(format!("the source has changes in {schema}.{name}, which is not in the plan"))
                .remedy(start_anew(&self.migration)));
        };
        let table = &self.all[index];
        let planned = table.columns.iter().map(|column| (column.name.as_str(), column.source_type));
        let seen: Vec<_> = columns.collect();
        if !planned.clone().eq(seen.iter().copied()) {
            let differs = planned.zip(seen.iter().copied().map(Some).chain(std::iter::repeat(None)));
            let differs = differs
                .filter(|(planned, seen)| Some(*planned) != *seen)
                .map(|((planned, _), seen)| match seen {
                    Some((seen, _)) if seen == planned => {
                        format!("the type of {planned} is not the planned one")
                    }
                    Some((seen, _)) => format!("where {planned} was planned there is {seen}"),
                    None => format!("{planned} is gone"),
                })
                .next()
                .unwrap_or_else(|| "it has more columns than planned".to_owned());
            return Err(self.changed(&table.title, &differs));
        }
        Ok(index)
    }
}

type ColumnName = (String, String, String);

/// A column's type on the source.
struct SourceType {
    /// The type's number, and its modifier.
    number: (u32, i32),
    /// As the plan tells it.
    reported: String,
    /// Without its modifier.
    bare: String,
}

/// Every column's type on the source.
async fn source_types(source: &Client) -> Result<HashMap<ColumnName, SourceType>> {
    let rows = source
        .query(
            "SELECT n.nspname, c.relname, a.attname, a.atttypid, a.atttypmod,
                    pg_catalog.format_type(a.atttypid, a.atttypmod),
                    -- Not null: character and bit without a length would be one long.
                    pg_catalog.format_type(a.atttypid, -1)
             FROM pg_catalog.pg_attribute a
             JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
               AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'",
            &[],
        )
        .await
        .map_err(|error| failed("cannot read the source's columns", error))?;
    rows.iter()
        .map(|row| {
            let name = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let source_type = SourceType {
                number: (row.try_get(3)?, row.try_get(4)?),
                reported: row.try_get(5)?,
                bare: row.try_get(6)?,
            };
            Ok((name, source_type))
        })
        .collect::<std::result::Result<_, tokio_postgres::Error>>()
        .map_err(|error| failed("cannot read the source's columns", error))
}

struct Traits {
    delimiter: u8,
    always_identity: bool,
    comparable: bool,
    base_type: u32,
}

/// Types whose equality implies the same text: bool, bytea, "char", int8, int2, int4, text, oid, varchar, date,
/// timestamp, timestamptz, uuid. Text and varchar only under the database's own (deterministic) collation.
const EQUAL_IS_IDENTICAL: [u32; 10] = [16, 17, 18, 20, 21, 23, 26, 1082, 1114, 2950];

/// What the target's catalogue says of every column.
async fn target_traits(target: &Client) -> Result<HashMap<ColumnName, Traits>> {
    let rows = target
        .query(
            "SELECT n.nspname, c.relname, a.attname, t.typdelim::text, a.attidentity::text,
                    t.oid, EXISTS (SELECT FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_am m ON m.oid = o.opcmethod
                        WHERE m.amname = 'btree' AND o.opcdefault AND o.opcintype = t.oid)
             FROM pg_catalog.pg_attribute a
             JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
             WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
               AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'",
            &[],
        )
        .await
        .map_err(|error| failed("cannot read the target's columns", error))?;
    rows.iter()
        .map(|row| {
            let name = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let delimiter: String = row.try_get(3)?;
            let identity: String = row.try_get(4)?;
            let traits = Traits {
                delimiter: delimiter.bytes().next().unwrap_or(b','),
                always_identity: identity == "a",
                base_type: row.try_get(5)?,
                comparable: row.try_get(6)?,
            };
            Ok((name, traits))
        })
        .collect::<std::result::Result<_, tokio_postgres::Error>>()
        .map_err(|error| failed("cannot read the target's columns", error))
}

async fn valid_from(target: &Client, migration: &str) -> Result<HashMap<(String, String), Lsn>> {
    let rows = target
        .query(
            "SELECT table_schema, table_name, valid_from::text FROM headgate.tables WHERE migration = $1",
            &[&migration],
        )
        .await
        .map_err(|error| failed("cannot read the records of the load", error))?;
    let mut found = HashMap::new();
    for row in &rows {
        let read = || Ok::<_, tokio_postgres::Error>((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        let (schema, table, position): (String, String, String) =
            read().map_err(|error| failed("cannot read the records of the load", error))?;
        found.insert((schema, table), position.parse()?);
    }
    Ok(found)
}
