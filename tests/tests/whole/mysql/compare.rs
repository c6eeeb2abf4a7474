//! Both sides side by side, by the bytes of their columns: a comparison that shares nothing with Headgate's own check.

use tests::mysql::{Mysql, Rows};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, World};

/// Every row of every table of the database, with each value as the hexadecimal digits of its bytes.
async fn everything(server: &Mysql, queries: &[String]) -> Vec<Rows> {
    let mut session = server.connect(DATABASE).await;
    // An old result has room for 1024 bytes only; times are told alike.
    tests::mysql::rows(&mut session, "SET time_zone = '+00:00'").await;
    let mut tables = Vec::new();
    for query in queries {
        tables.push(tests::mysql::rows(&mut session, query).await);
    }
    tables
}

/// One query for each table of the database, made from the source's own list of columns.
async fn queries(source: &Mysql) -> Vec<String> {
    let columns = "SELECT c.TABLE_NAME, c.COLUMN_NAME, c.DATA_TYPE FROM information_schema.COLUMNS c \
        JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME \
        WHERE c.TABLE_SCHEMA = DATABASE() AND t.TABLE_TYPE = 'BASE TABLE' ORDER BY 1, c.ORDINAL_POSITION";
    let mut tables: Vec<(String, Vec<String>)> = Vec::new();
    for row in source.sql(DATABASE, columns).await {
        let [table, column, kind] = [0, 1, 2].map(|at| row[at].clone().unwrap_or_default());
        let quoted = format!("`{}`", column.replace('`', "``"));
        let value = match kind.as_str() {
            // As text a FLOAT keeps six digits; as a DOUBLE all that it has.
            "float" => format!("HEX(CAST({quoted} + 0.0e0 AS CHAR))"),
            "geometry" | "point" | "linestring" | "polygon" | "vector" => format!("HEX({quoted})"),
            _ => format!("HEX(CAST({quoted} AS BINARY))"),
        };
        match tables.last_mut() {
            Some((name, values)) if *name == table => values.push(value),
            _ => tables.push((table, vec![value])),
        }
    }
    tables
        .into_iter()
        .map(|(table, values)| {
            let places: Vec<String> = (1..=values.len()).map(|place| place.to_string()).collect();
            format!("SELECT {} FROM `{}` ORDER BY {}", values.join(", "), table.replace('`', "``"), places.join(", "))
        })
        .collect()
}

/// Waits until both sides hold the same bytes; returns how many rows that are.
pub(super) async fn until_alike(world: &World<Mysql>) -> usize {
    let queries = queries(&world.source).await;
    assert!(!queries.is_empty(), "there is nothing to compare");
    let ask = || async {
        let (source, target) = tokio::join!(everything(&world.source, &queries), everything(&world.target, &queries));
        let counted = source.iter().map(Vec::len).sum::<usize>();
        let differing = queries.iter().zip(source.iter().zip(&target));
        let differing = differing.filter(|(_, (source, target))| source != target);
        // The first row that only one side has says more than all of both.
        let shown = differing.map(|(query, (source, target))| {
            let source_only = source.iter().find(|row| !target.contains(row)).cloned();
            let target_only = target.iter().find(|row| !source.contains(row)).cloned();
            format!("{query}\n  only on the source: {source_only:?}\n  only on the target: {target_only:?}")
        });
        (counted, shown.collect::<Vec<_>>())
    };
    let (counted, _) = until("both sides hold the same bytes", SOON, ask, |(_, differing)| differing.is_empty()).await;
    counted
}
