//! What the check reads of both catalogues: which tables and columns there are, and whether they are the same.

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};

use super::BinlogPosition;
use super::client::{Version, failed};
use super::defined::{self, differences, normal};
use super::sql::{qualified, quote_ident, quote_literal, title_of};
use crate::definitions::Definitions;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::verify::Proof;

/// At most this many differences are named.
pub(super) const NAMED_MAX: usize = 10;

/// One server of a check, and how to read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    /// `source` or `target`, for people.
    pub(super) name: &'static str,
    /// What it runs.
    pub(super) version: Version,
    /// One side is MySQL and the other MariaDB: they write the same expression in different words.
    pub(super) mixed: bool,
}

/// A column as one side's catalogue describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// The type's name without modifiers, such as `varchar`.
    pub(super) kind: String,
    /// The type with its modifiers, as every version would write it.
    pub(super) type_name: String,
    /// The character set of a text.
    pub(super) charset: Option<String>,
    /// Everything else that must be the same, for people too.
    attributes: String,
}

/// A table as one side's catalogue describes it.
#[derive(Clone, Debug)]
pub(super) struct Described {
    /// `database.table` for people.
    pub(super) title: String,
    /// `database.table` for SQL.
    pub(super) relation: String,
    /// Every column by name, generated and invisible ones too.
    pub(super) columns: BTreeMap<String, Column>,
    /// The columns of the primary key, else of a unique key without nulls.
    pub(super) key: Vec<String>,
    /// The catalogue's estimate.
    pub(super) rows_estimated: u64,
}

impl Column {
    /// MariaDB has JSON as text, so a pair of both is compared by what it means.
    pub(super) fn is_json_beside_text(&self, other: &Self) -> bool {
        let kinds = [self.kind.as_str(), other.kind.as_str()];
        kinds == ["json", "longtext"] || kinds == ["longtext", "json"]
    }

    fn compares(&self, other: &Self) -> bool {
        (self.type_name == other.type_name && self.charset == other.charset)
            || self.is_json_beside_text(other)
    }
}

impl Described {
    /// Whether both can be compared row by row.
    pub(super) fn matches(&self, other: &Self) -> bool {
        let columns = self.columns.iter().zip(&other.columns);
        self.title == other.title
            && self.columns.len() == other.columns.len()
            && columns
                .into_iter()
                .all(|((here, one), (there, two))| here == there && one.compares(two))
    }
}

/// `IN (…)` of the databases that move; there is always one.
pub(super) fn among(databases: &[String]) -> String {
    let names: Vec<String> = databases.iter().map(|name| quote_literal(name)).collect();
    format!("IN ({})", names.join(", "))
}

/// Whether this server's `information_schema` has such a table with such a column.
pub(super) async fn knows(session: &mut Conn, table: &str, column: &str) -> Result<bool> {
    let found: Option<u64> = session
        .query_first(format!(
            "SELECT COUNT(*) FROM information_schema.columns
             WHERE table_schema = 'information_schema' AND table_name = {} AND column_name = {}",
            quote_literal(table),
            quote_literal(column)
        ))
        .await
        .map_err(|error| failed("cannot see what the catalogue has", error))?;
    Ok(found.unwrap_or(0) > 0)
}

/// A column of an answer as text; empty for NULL.
pub(super) fn text(row: &Row, index: usize) -> Result<String> {
    Ok(optional(row, index)?.unwrap_or_default())
}

/// A column of an answer as text.
pub(super) fn optional(row: &Row, index: usize) -> Result<Option<String>> {
    let bytes = match row.as_ref(index) {
        Some(Value::NULL) => return Ok(None),
        Some(Value::Bytes(bytes)) => bytes.clone(),
        Some(other) => return Ok(Some(other.as_sql(true))),
        None => return Err(Error::fatal("a server's answer has too few columns")),
    };
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|error| Error::fatal("a server's answer is not text").because(error))
}

/// Every table with rows of its own, the largest first.
pub(super) async fn read(
    session: &mut Conn,
    side: Side,
    databases: &[String],
) -> Result<Vec<Described>> {
    let cannot = |error| failed(&format!("cannot read the {}'s catalogue", side.name), error);
    let among = among(databases);
    let generated = if knows(session, "COLUMNS", "GENERATION_EXPRESSION").await? {
        "c.generation_expression"
    } else {
        "''"
    };
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
    let places: BTreeMap<(String, String), usize> = tables
        .iter()
        .enumerate()
        .map(|(index, (names, _))| (names.clone(), index))
        .collect();
    let rows: Vec<Row> = session
        .query(format!(
            "SELECT c.table_schema, c.table_name, c.column_name, c.data_type, c.column_type,
                    c.character_set_name, c.collation_name, c.is_nullable, c.column_default, c.extra, {generated}
             FROM information_schema.columns AS c WHERE c.table_schema {among}"
        ))
        .await
        .map_err(cannot)?;
    for row in &rows {
        let names = (text(row, 0)?, text(row, 1)?);
        let place = places.get(&names).and_then(|index| tables.get_mut(*index));
        if let Some((_, table)) = place {
            table.columns.insert(text(row, 2)?, column(row, side)?);
        }
    }
    for ((names, key), _) in defined::keys(session, side, databases).await? {
        let place = places.get(&names).and_then(|index| tables.get_mut(*index));
        if let Some((_, table)) = place
            && table.key.is_empty()
        {
            table.key = key;
        }
    }
    Ok(tables.into_iter().map(|(_, table)| table).collect())
}

fn column(row: &Row, side: Side) -> Result<Column> {
    let extra = text(row, 9)?.to_ascii_lowercase();
    let kind = text(row, 3)?.to_ascii_lowercase();
    let charset = optional(row, 5)?.map(|name| alias(&name));
    let mut attributes = String::new();
    if text(row, 7)? == "NO" {
        attributes.push_str(" not null");
    }
    // Neither family has all of the other's collations, and JSON as text has one of its own.
    if let (Some(name), false) = (optional(row, 6)?, side.mixed) {
        attributes.push_str(" collate ");
        attributes.push_str(&alias(&name));
    }
    let expression = text(row, 10)?;
    if expression.is_empty() {
        if let Some(default) = default(side, &extra, optional(row, 8)?, &kind) {
            attributes.push_str(" default ");
            attributes.push_str(&default);
        }
    } else if !side.mixed {
        attributes.push_str(" as ");
        attributes.push_str(&normal(&expression));
    }
    let extra = extra
        .replace("default_generated", "")
        .replace("persistent", "stored generated")
        .replace("()", "");
    for word in extra.split_whitespace() {
        attributes.push(' ');
        attributes.push_str(word);
    }
    Ok(Column {
        type_name: type_name(&text(row, 4)?),
        kind,
        charset,
        attributes,
    })
}

/// Old versions call `utf8mb3` so, and its collations too.
fn alias(name: &str) -> String {
    match name.strip_prefix("utf8") {
        Some("") => "utf8mb3".to_owned(),
        Some(rest) if rest.starts_with('_') => format!("utf8mb3{rest}"),
        _ => name.to_owned(),
    }
}

/// The type as MySQL writes it since it has no display widths any more. They stay where they show zeros.
fn type_name(written: &str) -> String {
    let (name, rest) = match written.split_once('(') {
        Some((name, rest)) => (name.to_ascii_lowercase(), format!("({rest}")),
        None => (written.to_ascii_lowercase(), String::new()),
    };
    let whole = ["tinyint", "smallint", "mediumint", "int", "bigint", "year"];
    if whole.contains(&name.as_str()) && !rest.contains("zerofill") {
        let after = rest.split_once(')').map_or("", |(_, after)| after);
        return format!("{name}{after}");
    }
    if name == "geomcollection" {
        return "geometrycollection".to_owned();
    }
    format!("{name}{rest}")
}

/// A default as both families would write it: MariaDB quotes its constants.
fn default(side: Side, extra: &str, written: Option<String>, kind: &str) -> Option<String> {
    let written = written?;
    let computed = if side.version.is_mariadb() {
        if written == "NULL" {
            return None;
        }
        let inner = written
            .strip_prefix('\'')
            .and_then(|rest| rest.strip_suffix('\''));
        if let Some(inner) = inner {
            return Some(inner.replace("''", "'").replace("\\\\", "\\"));
        }
        let number = written.starts_with(|first: char| first.is_ascii_digit() || first == '-');
        !number && !written.starts_with("b'")
    } else {
        let times = ["timestamp", "datetime"].contains(&kind);
        extra.contains("default_generated") || (times && written.starts_with("CURRENT_TIMESTAMP"))
    };
    if !computed {
        return Some(written);
    }
    let now = normal(&written);
    if side.mixed && !now.starts_with("current_timestamp") {
        return Some("computed".to_owned());
    }
    Some(now)
}

/// Whether both sides have the same tables with the same columns, keys, constraints and other objects, and the plan
/// knows of all the tables.
pub(super) fn proof(
    plan: &Plan,
    (source, source_defines): (&[Described], &Definitions),
    (target, target_defines): (&[Described], &Definitions),
    position: &BinlogPosition,
) -> Proof {
    let mut here = told(source, target);
    let there = told(target, source);
    let planned = plan
        .tables
        .iter()
        .map(|table| title_of(&table.schema, &table.name));
    let planned: BTreeSet<String> = planned.collect();
    // A table that nobody planned to move is a difference even where the target has one of the same name.
    let unplanned = source
        .iter()
        .filter(|table| !planned.contains(&table.title));
    here.extend(unplanned.map(|table| format!("{} (not in the plan)", table.title)));
    let gone = planned
        .iter()
        .filter(|title| !source.iter().any(|table| table.title == **title));
    let mut differing_keys: Vec<String> = here.symmetric_difference(&there).cloned().collect();
    differing_keys.extend(gone.map(|title| format!("{title} (gone from the source)")));
    differing_keys.extend(differences(source_defines, target_defines));
    let digest =
        |side: &BTreeSet<String>, defines: &Definitions| format!("{}", side.len() + defines.len());
    let mut proof = Proof {
        table: "catalogue".to_owned(),
        range: "catalogue".to_owned(),
        source_rows: u64::try_from(source.len()).unwrap_or(u64::MAX),
        target_rows: u64::try_from(target.len()).unwrap_or(u64::MAX),
        source_digest: digest(&here, source_defines),
        target_digest: digest(&there, target_defines),
        position: position.to_string(),
        differing_keys: Vec::new(),
    };
    if !differing_keys.is_empty() && proof.equal() {
        proof.target_digest.push_str(", other ones");
    }
    differing_keys.truncate(NAMED_MAX);
    proof.differing_keys = differing_keys;
    proof
}

fn told(tables: &[Described], others: &[Described]) -> BTreeSet<String> {
    let columns = tables.iter().flat_map(|table| {
        let other = others.iter().find(|other| other.title == table.title);
        let told = move |(name, column): (&String, &Column)| {
            let beside = other.and_then(|other| other.columns.get(name));
            let json = beside.is_some_and(|beside| column.is_json_beside_text(beside));
            let type_name = if json { "json" } else { &column.type_name };
            let charset = column.charset.as_ref().filter(|_| !json);
            let charset = charset.map(|name| format!(" {name}")).unwrap_or_default();
            format!(
                "{}.{} {type_name}{charset}{}",
                table.title,
                quote_ident(name),
                column.attributes
            )
        };
        table.columns.iter().map(told).chain([table.title.clone()])
    });
    columns.collect()
}

#[cfg(test)]
mod tests {
    use super::super::client::{Flavor, Version};
    use super::{Side, alias, default, type_name};

    #[test]
    fn what_versions_write_differently_is_the_same_type() {
        assert_eq!(type_name("int(10) unsigned"), type_name("int unsigned"));
        assert_eq!(type_name("year(4)"), "year");
        assert_ne!(
            type_name("int(5) unsigned zerofill"),
            type_name("int unsigned")
        );
        assert_eq!(type_name("enum('A','b(1)')"), "enum('A','b(1)')");
        assert_ne!(type_name("varchar(10)"), type_name("varchar(11)"));
        assert_eq!(
            (alias("utf8"), alias("utf8_bin")),
            ("utf8mb3".into(), "utf8mb3_bin".into())
        );
        assert_eq!(alias("utf8mb4_bin"), "utf8mb4_bin");
    }

    #[test]
    fn both_families_have_the_same_defaults_in_the_end() {
        let side = |flavor| Side {
            name: "source",
            version: Version {
                flavor,
                number: (10, 11, 0),
            },
            mixed: false,
        };
        let mariadb = |text: &str| default(side(Flavor::Mariadb), "", Some(text.into()), "varchar");
        let mysql =
            |text: &str, extra| default(side(Flavor::Mysql), extra, Some(text.into()), "datetime");
        assert_eq!(mariadb("'it''s'"), mysql("it's", ""));
        assert_eq!(mariadb("NULL"), None);
        assert_eq!(
            mariadb("current_timestamp(6)"),
            mysql("CURRENT_TIMESTAMP(6)", "default_generated")
        );
        assert_ne!(mariadb("'0'"), mariadb("'1'"));
    }
}
