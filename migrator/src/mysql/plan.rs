//! Reads from the source’s catalogue what will move.

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::Conn;

use super::Mysql;
use super::catalogue::{self, TextRow, ask};
use super::sql::quote_literal;
use crate::error::Result;
use crate::model::plan::{Column, Counter, Plan, Table};
use crate::mysql::context::RECORDS;

type Name = (String, String);

/// Reads the plan.
///
/// A column's `type_name` is the server's `COLUMN_TYPE`, such as `int(10) unsigned` or `enum('a','b')`. Its `kind` is
/// the `DATA_TYPE` in lower case, and for texts, enums and sets a space and the character set: `int`, `varchar latin1`,
/// `enum utf8mb4`, `json`. A counter is a sequence of MariaDB, or the AUTO_INCREMENT of the table of that name.
pub async fn read(mysql: &Mysql) -> Result<Plan> {
    let mut source = mysql.connect_source("plan").await?;
    read_in(&mut source, &mysql.databases()).await
}

/// Reads the plan of these databases in a session of the caller's.
pub async fn read_in(source: &mut Conn, databases: &[String]) -> Result<Plan> {
    catalogue::prepare(source).await?;
    let databases: Vec<String> =
        databases.iter().filter(|name| *name != RECORDS).map(|name| quote_literal(name)).collect();
    if databases.is_empty() {
        return Ok(Plan::default());
    }
    let databases = databases.join(", ");
    let found = ask(
        source,
        &format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, TABLE_ROWS, DATA_LENGTH
             FROM information_schema.TABLES
             WHERE TABLE_SCHEMA IN ({databases})
               AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE')
             ORDER BY TABLE_SCHEMA, TABLE_NAME"
        ),
        "cannot read the source's tables",
    )
    .await?;
    let columns = ask(
        source,
        &format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, DATA_TYPE, CHARACTER_SET_NAME, EXTRA
             FROM information_schema.COLUMNS WHERE TABLE_SCHEMA IN ({databases})
             ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
        ),
        "cannot read the source's columns",
    )
    .await?;
    let keys = ask(
        source,
        &format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COLUMN_NAME, SUB_PART, NULLABLE
             FROM information_schema.STATISTICS
             WHERE TABLE_SCHEMA IN ({databases}) AND NON_UNIQUE = 0
             ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME = 'PRIMARY' DESC, INDEX_NAME, SEQ_IN_INDEX"
        ),
        "cannot read the source's keys",
    )
    .await?;
    Ok(assemble(&found, &columns, &keys))
}

fn name(row: &TextRow) -> Name {
    (row.owned(0), row.owned(1))
}

fn assemble(found: &[TextRow], columns: &[TextRow], keys: &[TextRow]) -> Plan {
    let mut copied: BTreeMap<Name, Vec<Column>> = BTreeMap::new();
    let mut counting: BTreeSet<Name> = BTreeSet::new();
    for row in columns {
        let extra = row.text(6).to_ascii_lowercase();
        if extra.contains("auto_increment") {
            counting.insert(name(row));
        }
        if !is_generated(&extra) {
            copied.entry(name(row)).or_default().push(Column {
                name: row.owned(2),
                type_name: row.owned(3),
                kind: kind(row.text(4), row.get(5)),
            });
        }
    }
    let mut identities = identities(keys, &copied);
    let mut plan = Plan::default();
    for row in found {
        let (schema, table) = name(row);
        let key = (schema.clone(), table.clone());
        let is_sequence = row.text(2) == "SEQUENCE";
        if is_sequence || counting.contains(&key) {
            plan.counters.push(Counter { schema: schema.clone(), name: table.clone() });
        }
        if is_sequence {
            continue;
        }
        plan.tables.push(Table {
            columns: copied.remove(&key).unwrap_or_default(),
            key: identities.remove(&key).unwrap_or_default(),
            rows_estimated: row.number(3),
            bytes: row.number(4),
            schema,
            name: table,
        });
    }
    // The sort is stable: of the same size, by name.
    plan.tables.sort_by_key(|table| std::cmp::Reverse(table.bytes));
    plan
}

/// What `EXTRA` says of a column whose value the server computes; a default that is an expression is no such thing.
pub fn is_generated(extra: &str) -> bool {
    let extra = extra.to_ascii_lowercase();
    extra.split_whitespace().any(|word| matches!(word, "virtual" | "stored" | "persistent"))
}

fn kind(data_type: &str, charset: Option<&str>) -> String {
    let data_type = data_type.to_ascii_lowercase();
    match charset {
        Some(charset) => format!("{data_type} {charset}"),
        None => data_type,
    }
}

/// The columns of each table's primary key, or else of its first unique key that can only find one row.
fn identities(keys: &[TextRow], copied: &BTreeMap<Name, Vec<Column>>) -> BTreeMap<Name, Vec<String>> {
    let mut candidates: Vec<(Name, &str, Option<Vec<String>>)> = Vec::new();
    for row in keys {
        let table = name(row);
        let index = row.text(2);
        let primary = index == "PRIMARY";
        let is_copied =
            |column: &str| copied.get(&table).is_some_and(|columns| columns.iter().any(|one| one.name == column));
        // A NULL is not equal to another; half a column and an expression are not what an image of a row holds.
        let part = row
            .get(3)
            .filter(|column| is_copied(column))
            .filter(|_| primary || row.get(4).is_none() && row.text(5) != "YES")
            .map(str::to_owned);
        match candidates.last_mut() {
            Some((of, last, parts)) if *of == table && *last == index => match part {
                Some(part) => {
                    if let Some(parts) = parts {
                        parts.push(part);
                    }
                }
                None => *parts = None,
            },
            _ => candidates.push((table, index, part.map(|part| vec![part]))),
        }
    }
    let mut chosen = BTreeMap::new();
    for (table, _, parts) in candidates {
        if let Some(parts) = parts {
            chosen.entry(table).or_insert(parts);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::{TextRow, assemble, is_generated};

    fn column(name: &str, extra: &str) -> TextRow {
        TextRow::of(&["shop", "t", name, "int", "int", "", extra])
    }

    fn table() -> [TextRow; 1] {
        [TextRow::of(&["shop", "t", "BASE TABLE", "5", "16384"])]
    }

    fn part(index: &str, column: &str, nullable: &str) -> TextRow {
        TextRow::of(&["shop", "t", index, column, "NULL", nullable])
    }

    #[test]
    fn a_default_that_is_an_expression_makes_no_generated_column() {
        assert!(!is_generated("DEFAULT_GENERATED on update CURRENT_TIMESTAMP"));
        assert!(is_generated("VIRTUAL GENERATED INVISIBLE"));
        assert!(is_generated("STORED GENERATED"));
    }

    #[test]
    fn a_unique_key_that_may_hold_null_finds_no_row() {
        let columns = [column("a", ""), column("b", "")];
        let keys =
            [part("by_a", "a", "YES"), part("by_both", "b", ""), part("by_both", "a", "YES"), part("by_z", "b", "")];
        let plan = assemble(&table(), &columns, &keys);
        assert_eq!(plan.tables[0].key, ["b"]);
        let plan = assemble(&table(), &columns, &keys[..3]);
        assert!(plan.tables[0].key.is_empty());
    }

    #[test]
    fn a_key_on_a_computed_column_is_not_in_the_images_of_rows() {
        let columns = [column("a", "VIRTUAL GENERATED"), column("b", "auto_increment")];
        let keys = [part("by_a", "a", ""), part("by_b", "b", "")];
        let plan = assemble(&table(), &columns, &keys);
        assert_eq!(plan.tables[0].key, ["b"]);
        assert_eq!(plan.tables[0].columns.len(), 1);
        assert_eq!(plan.counters[0].name, "t");
    }
}
