//! What the check reads of both catalogues: which tables and columns there are, and whether they are the same.

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::printed::{alias, type_name};
use crate::check::table::{self, NAMED_MAX};
use crate::error::Result;
use crate::model::definitions::Compared;
use crate::model::plan::Plan;
use crate::model::proof::Proof;
use crate::mysql::BinlogPosition;
use crate::mysql::catalogue::{optional, text};
use crate::mysql::client::failed;
use crate::mysql::sql::{qualified, quote_literal, title_of};

const WHOLE_NUMBERS: [&str; 5] = ["tinyint", "smallint", "mediumint", "int", "bigint"];

/// One server of a check, and how to read it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side {
    /// `source` or `target`, for people.
    pub(crate) name: &'static str,
    /// One side is MySQL and the other MariaDB: they write the same expression in different words.
    pub(crate) mixed: bool,
}

/// A column as one side's catalogue describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    /// The type's name without modifiers, such as `varchar`.
    pub(crate) kind: String,
    /// The type with its modifiers, as every version would write it.
    pub(crate) type_name: String,
    /// The character set of a text.
    pub(crate) charset: Option<String>,
}

/// A table; its key is the primary key, else a unique key without nulls.
pub(crate) type Described = table::Described<Column>;

impl Column {
    /// MariaDB has JSON as text, so a pair of both is compared by what it means.
    pub(crate) fn is_json_beside_text(&self, other: &Self) -> bool {
        let kinds = [self.kind.as_str(), other.kind.as_str()];
        kinds == ["json", "longtext"] || kinds == ["longtext", "json"]
    }
}

impl table::Column for Column {
    fn compares(&self, other: &Self) -> bool {
        (self.type_name == other.type_name && self.charset == other.charset) || self.is_json_beside_text(other)
    }

    fn is_whole_number(&self) -> bool {
        WHOLE_NUMBERS.contains(&self.kind.as_str())
    }
}

/// `IN (…)` of the databases that move; there is always one.
pub(crate) fn among(databases: &[String]) -> String {
    let names: Vec<String> = databases.iter().map(|name| quote_literal(name)).collect();
    format!("IN ({})", names.join(", "))
}

/// Every table with rows of its own, the largest first.
pub(crate) async fn read(session: &mut Conn, side: Side, databases: &[String]) -> Result<Vec<Described>> {
    let cannot = |error| failed(&format!("cannot read the {}'s catalogue", side.name), error);
    let among = among(databases);
    let rows: Vec<Row> = session
        .query(format!(
            "SELECT t.table_schema, t.table_name, CAST(COALESCE(t.table_rows, 0) AS CHAR)
             FROM information_schema.tables AS t
             WHERE t.table_schema {among} AND t.table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')
             ORDER BY COALESCE(t.data_length, 0) DESC, 1, 2"
        ))
        .await
        .map_err(cannot)?;
    let mut tables = Vec::with_capacity(rows.len());
    for row in &rows {
        let (schema, name) = (text(row, 0)?, text(row, 1)?);
        let described = Described {
            title: title_of(&schema, &name),
            relation: qualified(&schema, &name),
            columns: BTreeMap::new(),
            key: Vec::new(),
            rows_estimated: text(row, 2)?.parse().unwrap_or(0),
        };
        tables.push(((schema, name), described));
    }
    let places: BTreeMap<(String, String), usize> =
        tables.iter().enumerate().map(|(index, (names, _))| (names.clone(), index)).collect();
    let rows: Vec<Row> = session
        .query(format!(
            "SELECT c.table_schema, c.table_name, c.column_name, c.data_type, c.column_type, c.character_set_name
             FROM information_schema.columns AS c WHERE c.table_schema {among}"
        ))
        .await
        .map_err(cannot)?;
    for row in &rows {
        let names = (text(row, 0)?, text(row, 1)?);
        let place = places.get(&names).and_then(|index| tables.get_mut(*index));
        if let Some((_, table)) = place {
            table.columns.insert(text(row, 2)?, column(row)?);
        }
    }
    for (names, key) in keys(session, side, &among).await? {
        let place = places.get(&names).and_then(|index| tables.get_mut(*index));
        if let Some((_, table)) = place
            && table.key.is_empty()
        {
            table.key = key;
        }
    }
    Ok(tables.into_iter().map(|(_, table)| table).collect())
}

fn column(row: &Row) -> Result<Column> {
    Ok(Column {
        kind: text(row, 3)?.to_ascii_lowercase(),
        type_name: compared_type(&text(row, 4)?),
        charset: optional(row, 5)?.map(|name| alias(&name)),
    })
}

/// The type as far as values depend on it.
fn compared_type(written: &str) -> String {
    if written == "tinyint(1)" {
        return "tinyint".to_owned();
    }
    type_name(written)
}

/// Every key that tells rows apart, of each table the best first.
async fn keys(session: &mut Conn, side: Side, among: &str) -> Result<Vec<((String, String), Vec<String>)>> {
    let query = format!(
        "SELECT table_schema, table_name, index_name, column_name, CAST(sub_part AS CHAR), nullable
         FROM information_schema.statistics WHERE table_schema {among} AND non_unique = 0
         ORDER BY table_schema, table_name, index_name, seq_in_index"
    );
    let rows: Vec<Row> = session
        .query(query)
        .await
        .map_err(|error| failed(&format!("cannot read the {}'s indexes", side.name), error))?;
    let mut found: BTreeMap<(String, String, String), Option<Vec<String>>> = BTreeMap::new();
    for row in &rows {
        let name = (text(row, 0)?, text(row, 1)?, text(row, 2)?);
        let columns = found.entry(name).or_insert_with(|| Some(Vec::new()));
        // An expression has no name, and a part of a column or a NULL tells no rows apart.
        let whole = optional(row, 3)?.filter(|_| text(row, 4).is_ok_and(|part| part.is_empty()));
        let whole = whole.filter(|_| text(row, 5).is_ok_and(|nullable| nullable != "YES"));
        match (whole, columns.as_mut()) {
            (Some(column), Some(columns)) => columns.push(column),
            _ => *columns = None,
        }
    }
    let mut keys: Vec<_> = found
        .into_iter()
        .filter_map(|((schema, table, index), columns)| Some((index, (schema, table), columns?)))
        .collect();
    keys.sort_by_key(|(index, _, columns)| (index != "PRIMARY", columns.len()));
    Ok(keys.into_iter().map(|(_, table, columns)| (table, columns)).collect())
}

/// Whether both sides are defined alike, and every table that moves can be compared row by row.
pub(crate) fn proof(
    plan: &Plan,
    compared: &Compared,
    (source, target): (&[Described], &[Described]),
    position: &BinlogPosition,
) -> Proof {
    let mut differing_keys = compared.differences.clone();
    let planned = plan.tables.iter().map(|table| title_of(&table.schema, &table.name));
    let planned: BTreeSet<String> = planned.collect();
    for table in source {
        // A table that nobody planned to move is a difference even where the target has one of the same name.
        if !planned.contains(&table.title) {
            differing_keys.push(format!("{} (not in the plan)", table.title));
        } else if !target.iter().any(|other| other.matches(table)) {
            differing_keys.push(format!("{} (its rows cannot be compared)", table.title));
        }
    }
    let gone = planned.iter().filter(|title| !source.iter().any(|table| table.title == **title));
    differing_keys.extend(gone.map(|title| format!("{title} (gone from the source)")));
    let mut proof = Proof {
        table: "catalogue".to_owned(),
        range: "catalogue".to_owned(),
        source_rows: u64::try_from(source.len()).unwrap_or(u64::MAX),
        target_rows: u64::try_from(target.len()).unwrap_or(u64::MAX),
        source_digest: compared.fingerprint.source.len().to_string(),
        target_digest: compared.fingerprint.source.len().to_string(),
        position: position.to_string(),
        differing_keys: Vec::new(),
    };
    if !differing_keys.is_empty() {
        proof.target_digest = format!("{} differences", differing_keys.len());
    }
    differing_keys.truncate(NAMED_MAX);
    proof.differing_keys = differing_keys;
    proof
}
