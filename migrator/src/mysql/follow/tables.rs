//! The tables that the follower writes: what the plan, both servers and the binary log say of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mysql_async::Conn;
use protocol::mysql::change::{self, TableMap};

use super::values::Traits;
use crate::error::{Error, Result};
use crate::model::plan::Plan;
use crate::mysql::catalogue;
use crate::mysql::catalogue::{TextRow, ask};
use crate::mysql::context::RECORDS;
use crate::mysql::heartbeat;
use crate::mysql::plan::is_generated;
use crate::mysql::records;
use crate::mysql::sql::{qualified, quote_ident, title};
use crate::mysql::{BinlogPosition, Mysql};

/// What is left where what the log lacks may be of any table.
pub(crate) const START_ANEW: &str = "nothing tells which rows it is about: DROP MIGRATION … WITH (target_objects = 'drop'), \
    then create and start it again";

/// A column that is written.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The name for SQL.
    pub(crate) quoted: String,
    /// The type without its length, as the source names it.
    data_type: String,
    pub(crate) traits: Traits,
}

/// A column of the source, copied or not.
#[derive(Clone, Debug)]
struct Listed {
    name: String,
    is_virtual: bool,
}

/// A table that is written.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// `database.table` for people and progress.
    pub(crate) title: String,
    /// `database.table` for SQL.
    pub(crate) relation: String,
    /// The statement that takes it anew.
    pub(crate) recopy: String,
    pub(crate) columns: Vec<Column>,
    /// The key's columns; empty where the whole row is the key.
    pub(crate) key: Vec<usize>,
    /// Changes before this were there when the table was loaded.
    pub(crate) valid_from: BinlogPosition,
    listed: Vec<Listed>,
}

/// How rows of one description in the log become rows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) table: usize,
    /// The log's columns.
    pub(crate) wire: Vec<change::Column>,
    /// For each of the table's columns, which of the log's it is.
    pub(crate) picks: Vec<usize>,
    /// The log's description of each of the table's columns.
    pub(crate) picked: Arc<[change::Column]>,
}

/// Whose rows follow.
#[derive(Clone, Debug)]
pub(crate) enum Announced {
    /// A table of the plan.
    Ours(Layout),
    /// The signals of Headgate.
    Signals(Vec<change::Column>),
    /// Nothing that moves.
    Foreign,
}

/// Every table of the plan, by its name.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) all: Vec<Table>,
    by_name: HashMap<(String, String), usize>,
    databases: BTreeSet<String>,
    counters: BTreeSet<(String, String)>,
}

type Name = (String, String);

impl Tables {
    /// Reads what both servers say of the plan's tables, and compares it with the plan.
    pub(crate) async fn load(mysql: &Mysql, plan: &Plan, source: &mut Conn, target: &mut Conn) -> Result<Self> {
        let on_source = columns(mysql, source).await?;
        let on_target = columns(mysql, target).await?;
        let loaded = records::tables(mysql, target).await?;
        let counters = plan.counters.iter();
        let mut tables = Self {
            all: Vec::new(),
            by_name: HashMap::new(),
            databases: mysql.databases().into_iter().collect(),
            counters: counters.map(|counter| (counter.schema.clone(), counter.name.clone())).collect(),
        };
        for planned in &plan.tables {
            let title = title(planned);
            let name = (planned.schema.clone(), planned.name.clone());
            let recopy = planned.recopying(mysql.name());
            let Some(loaded) = loaded.get(&name) else {
                let what = format!("the table {title} has no record of its load");
                return Err(Error::fatal(what).remedy(recopy));
            };
            let from = on_source.get(&name).map(Vec::as_slice).unwrap_or_default();
            let to = on_target.get(&name).map(Vec::as_slice).unwrap_or_default();
            let mut columns = Vec::with_capacity(planned.columns.len());
            for column in &planned.columns {
                let Some(seen) = find(from, &column.name) else {
                    return Err(changed(&title, &recopy, &format!("the column {} is gone", column.name)));
                };
                if seen.text(3) != column.type_name {
                    let what = format!("the column {} is now {}", column.name, seen.text(3));
                    return Err(changed(&title, &recopy, &what));
                }
                let Some(there) = find(to, &column.name) else {
                    let what = format!("the target's table {title} has no column {}", column.name);
                    let remedy = format!("give it back to the target's table, then {recopy}");
                    return Err(Error::fatal(what).remedy(remedy));
                };
                columns.push(Column {
                    name: column.name.clone(),
                    quoted: quote_ident(&column.name),
                    data_type: seen.text(4).to_ascii_lowercase(),
                    traits: traits(seen, there),
                });
            }
            let position = |key: &String| planned.columns.iter().position(|column| column.name == *key);
            let key: Option<Vec<usize>> = planned.key.iter().map(position).collect();
            let key = key.ok_or_else(|| changed(&title, &recopy, "a column of its key is not copied"))?;
            let listed = from.iter().map(|row| Listed {
                name: row.owned(2),
                is_virtual: is_generated(row.text(6)) && row.text(6).to_ascii_uppercase().contains("VIRTUAL"),
            });
            tables.by_name.insert(name, tables.all.len());
            tables.all.push(Table {
                relation: qualified(&planned.schema, &planned.name),
                title,
                recopy,
                columns,
                key,
                valid_from: loaded.valid_from.clone(),
                listed: listed.collect(),
            });
        }
        Ok(tables)
    }

    /// Whether the database moves.
    pub(crate) fn moves(&self, database: &str) -> bool {
        self.databases.contains(database)
    }

    /// The planned table of that name.
    pub(crate) fn named(&self, database: &str, name: &str) -> Option<usize> {
        self.by_name.get(&(database.to_owned(), name.to_owned())).copied()
    }

    /// The table that the log describes; fails where it is not what was planned.
    pub(crate) fn announced(&self, map: TableMap) -> Result<Announced> {
        let database = String::from_utf8_lossy(&map.database);
        let name = String::from_utf8_lossy(&map.table);
        if database == RECORDS && name == heartbeat::TABLE {
            return Ok(Announced::Signals(map.columns));
        }
        if !self.moves(&database) || self.counters_only(&database, &name) {
            return Ok(Announced::Foreign);
        }
        let Some(index) = self.named(&database, &name) else {
            let what = format!("the source has changes in {database}.{name}, which is not in the plan");
            return Err(Error::fatal(what).remedy(
                "no table may be created or renamed while it runs: to take this one along, DROP MIGRATION … \
                 WITH (target_objects = 'drop'), then create and start it again",
            ));
        };
        let Some(table) = self.all.get(index) else {
            return Ok(Announced::Foreign);
        };
        let names: Option<Vec<String>> = map
            .names
            .as_ref()
            .map(|names| names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect());
        // Without names in the log the order of the columns tells, with or without those that are only computed.
        let names = names.or_else(|| {
            let all: Vec<String> = table.listed.iter().map(|column| column.name.clone()).collect();
            if all.len() == map.columns.len() {
                return Some(all);
            }
            let real = table.listed.iter().filter(|column| !column.is_virtual);
            let real: Vec<String> = real.map(|column| column.name.clone()).collect();
            (real.len() == map.columns.len()).then_some(real)
        });
        let Some(names) = names else {
            let what = format!("it has {} columns in the binary log", map.columns.len());
            return Err(changed(&table.title, &table.recopy, &what));
        };
        let mut picks = Vec::with_capacity(table.columns.len());
        let mut picked = Vec::with_capacity(table.columns.len());
        for column in &table.columns {
            let at = names.iter().position(|name| name.eq_ignore_ascii_case(&column.name));
            let Some((at, wire)) = at.and_then(|at| Some((at, *map.columns.get(at)?))) else {
                return Err(changed(&table.title, &table.recopy, &format!("the log has no column {}", column.name)));
            };
            if !fits(&column.data_type, wire.kind) {
                let what = format!(
                    "the log has the column {} as type {}, which is no {}",
                    column.name, wire.kind, column.data_type
                );
                return Err(changed(&table.title, &table.recopy, &what));
            }
            picks.push(at);
            picked.push(wire);
        }
        Ok(Announced::Ours(Layout { table: index, wire: map.columns, picks, picked: picked.into() }))
    }

    fn counters_only(&self, database: &str, name: &str) -> bool {
        let name = (database.to_owned(), name.to_owned());
        self.counters.contains(&name) && !self.by_name.contains_key(&name)
    }
}

pub(crate) fn changed(title: &str, recopy: &str, what: &str) -> Error {
    Error::fatal(format!("the table {title} changed since the plan was made: {what}"))
        .remedy(format!("undo the change on the source, then {recopy}"))
}

fn find<'a>(columns: &'a [TextRow], name: &str) -> Option<&'a TextRow> {
    columns.iter().find(|column| column.text(2) == name)
}

async fn columns(mysql: &Mysql, session: &mut Conn) -> Result<BTreeMap<Name, Vec<TextRow>>> {
    catalogue::prepare(session).await?;
    let query = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, DATA_TYPE, CHARACTER_SET_NAME, EXTRA
         FROM information_schema.COLUMNS WHERE TABLE_SCHEMA IN ({})
         ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION",
        catalogue::listed(mysql)
    );
    let mut columns: BTreeMap<Name, Vec<TextRow>> = BTreeMap::new();
    for row in ask(session, &query, "cannot read the columns of the tables").await? {
        columns.entry((row.owned(0), row.owned(1))).or_default().push(row);
    }
    Ok(columns)
}

fn traits(source: &TextRow, target: &TextRow) -> Traits {
    let data_type = source.text(4).to_ascii_lowercase();
    let same = |charset: &str| charset.replace("utf8mb3", "utf8");
    let charset = target.get(5).map(str::to_owned);
    let converted_from = source
        .get(5)
        .filter(|from| charset.as_deref().is_some_and(|to| same(to) != same(from)))
        .map(|from| if from == "utf8mb3" { "utf8".to_owned() } else { from.to_owned() });
    let length = source.text(3).split(['(', ')']).nth(1).and_then(|digits| digits.parse().ok()).unwrap_or(0);
    let padded_to = match data_type.as_str() {
        "binary" => length,
        "uuid" | "inet6" => 16,
        "inet4" => 4,
        _ => 0,
    };
    Traits {
        unsigned: source.text(3).to_ascii_lowercase().contains("unsigned"),
        charset,
        converted_from,
        padded_to,
        is_json: target.text(4).eq_ignore_ascii_case("json"),
        is_uuid: data_type == "uuid",
        is_vector: data_type == "vector",
    }
}

/// Whether the log writes values of this type so.
fn fits(data_type: &str, kind: u8) -> bool {
    match data_type {
        "tinyint" => kind == 1,
        "smallint" => kind == 2,
        "mediumint" => kind == 9,
        "int" => kind == 3,
        "bigint" => kind == 8,
        "float" => kind == 4,
        "double" => kind == 5,
        "decimal" => kind == 246,
        "bit" => kind == 16,
        "year" => kind == 13,
        "date" => matches!(kind, 10 | 14),
        "time" => matches!(kind, 11 | 19),
        "datetime" => matches!(kind, 12 | 18),
        "timestamp" => matches!(kind, 7 | 17),
        "char" | "binary" | "uuid" | "inet4" | "inet6" => kind == 254,
        "varchar" | "varbinary" => matches!(kind, 15 | 253),
        "tinytext" | "text" | "mediumtext" | "longtext" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
            matches!(kind, 249..=252)
        }
        "json" => matches!(kind, 245 | 249..=252),
        "enum" => kind == 247,
        "set" => kind == 248,
        "vector" => matches!(kind, 15 | 242),
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
        | "geometrycollection" | "geomcollection" => kind == 255,
        _ => false,
    }
}
