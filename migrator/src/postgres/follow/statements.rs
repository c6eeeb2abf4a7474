//! The SQL that writes changes into one table.

use std::fmt::Write as _;

use super::tables::Table;

/// Inserts a set of rows; one array parameter per column.
pub(crate) fn insert_set(table: &Table) -> String {
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let names = list(table, &all, |column| column.quoted.clone());
    format!(
        "INSERT INTO {} ({names}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}",
        table.relation,
        list(table, &all, super::tables::Column::element),
        unnest(table, &all),
    )
}

/// Updates a set of rows by key; one array parameter per column in `present`, which includes the key's.
pub(crate) fn update_set(table: &Table, present: &[usize]) -> String {
    let mut assigned = String::new();
    for &index in present {
        let column = &table.columns[index];
        if table.key.contains(&index) {
            continue;
        }
        let comma = if assigned.is_empty() { "" } else { ", " };
        let _ = write!(assigned, "{comma}{} = {}", column.quoted, column.element());
    }
    if assigned.is_empty() {
        // Nothing to change, but the row must be there.
        let first = table.key.first().map_or("", |&index| table.columns[index].quoted.as_str());
        let _ = write!(assigned, "{first} = t.{first}");
    }
    format!(
        "UPDATE ONLY {} AS t SET {assigned} FROM {} WHERE {}",
        table.relation,
        unnest(table, present),
        keys_match(table),
    )
}

/// Does what [`update_set`] does to rows with an identity that no update may set: takes them out and puts them back
/// changed. What `present` leaves out is taken from the row itself.
pub(crate) fn replace_set(table: &Table, present: &[usize]) -> String {
    let delete = format!(
        "DELETE FROM ONLY {} AS t USING {} WHERE {}",
        table.relation,
        unnest(table, present),
        keys_match(table),
    );
    replace(table, &delete, |index| present.contains(&index).then(|| table.columns[index].element()))
}

/// As [`replace_set`], for the row that `find` describes and with the parameters of [`update_one`].
pub(crate) fn replace_one(table: &Table, assigned: &[usize], find: &Find) -> String {
    let delete = format!("DELETE FROM ONLY {} AS t WHERE {}", table.relation, find.condition(table, assigned.len()));
    replace(table, &delete, |index| {
        let number = assigned.iter().position(|&column| column == index)? + 1;
        Some(format!("${number}::{}", table.columns[index].type_name))
    })
}

fn replace(table: &Table, delete: &str, new: impl Fn(usize) -> Option<String>) -> String {
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let names = list(table, &all, |column| column.quoted.clone());
    let mut returned = String::new();
    for (index, column) in table.columns.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let name = &column.quoted;
        let value = new(index).unwrap_or_else(|| format!("t.{name}"));
        let _ = write!(returned, "{comma}{value} AS {name}");
    }
    format!(
        "WITH gone AS ({delete} RETURNING {returned})
         INSERT INTO {} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM gone",
        table.relation
    )
}

/// Deletes a set of rows by key; one array parameter per column of the key.
pub(crate) fn delete_set(table: &Table) -> String {
    format!("DELETE FROM ONLY {} AS t USING {} WHERE {}", table.relation, unnest(table, &table.key), keys_match(table))
}

/// Inserts one row; one parameter per column.
pub(crate) fn insert_one(table: &Table) -> String {
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let mut values = String::new();
    for (index, column) in table.columns.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(values, "{comma}${}::{}", index + 1, column.type_name);
    }
    let names = list(table, &all, |column| column.quoted.clone());
    if all.is_empty() {
        return format!("INSERT INTO {} DEFAULT VALUES", table.relation);
    }
    format!("INSERT INTO {} ({names}) OVERRIDING SYSTEM VALUE VALUES ({values})", table.relation)
}

/// Updates the row that `find` describes; first one parameter per column in `assigned`, then those of `find`.
pub(crate) fn update_one(table: &Table, assigned: &[usize], find: &Find) -> String {
    let mut set = String::new();
    for (number, &index) in assigned.iter().enumerate() {
        let column = &table.columns[index];
        let comma = if number == 0 { "" } else { ", " };
        let _ = write!(set, "{comma}{} = ${}::{}", column.quoted, number + 1, column.type_name);
    }
    format!("UPDATE ONLY {} AS t SET {set} WHERE {}", table.relation, find.condition(table, assigned.len()))
}

/// Deletes the row that `find` describes.
pub(crate) fn delete_one(table: &Table, find: &Find) -> String {
    format!("DELETE FROM ONLY {} AS t WHERE {}", table.relation, find.condition(table, 0))
}

/// How a single row is found.
pub(crate) struct Find {
    /// The columns to compare that are not null, in the order of the parameters.
    pub(crate) with_value: Vec<usize>,
    /// The columns that are null.
    pub(crate) null: Vec<usize>,
}

impl Find {
    fn condition(&self, table: &Table, parameters_before: usize) -> String {
        let mut text = String::new();
        for (number, &index) in self.with_value.iter().enumerate() {
            let column = &table.columns[index];
            let parameter = format!("${}::{}", parameters_before + number + 1, column.type_name);
            let and = if text.is_empty() { "" } else { " AND " };
            let name = &column.quoted;
            let keyed = !table.key.is_empty();
            if keyed || column.comparable {
                let _ = write!(text, "{and}t.{name} = {parameter}");
            }
            // Equal is not identical for every type (1.0 and 1.00); without a key only the identical row will do.
            if !keyed && !column.equal_is_identical {
                let and = if text.is_empty() { "" } else { " AND " };
                let _ = write!(text, "{and}t.{name}::text COLLATE \"C\" = {parameter}::text COLLATE \"C\"");
            }
        }
        for &index in &self.null {
            let and = if text.is_empty() { "" } else { " AND " };
            let _ = write!(text, "{and}t.{} IS NULL", table.columns[index].quoted);
        }
        if table.key.is_empty() {
            let inner = if text.is_empty() { "true" } else { &text };
            return format!("t.ctid = (SELECT t.ctid FROM ONLY {} AS t WHERE {inner} LIMIT 1)", table.relation);
        }
        text
    }
}

fn list(table: &Table, columns: &[usize], write: impl Fn(&super::tables::Column) -> String) -> String {
    columns.iter().map(|&index| write(&table.columns[index])).collect::<Vec<_>>().join(", ")
}

fn unnest(table: &Table, columns: &[usize]) -> String {
    let mut parameters = String::new();
    for (number, &index) in columns.iter().enumerate() {
        let comma = if number == 0 { "" } else { ", " };
        let _ = write!(parameters, "{comma}${}::{}", number + 1, table.columns[index].set_type());
    }
    format!("unnest({parameters}) AS u ({})", list(table, columns, |column| column.quoted.clone()))
}

fn keys_match(table: &Table) -> String {
    let pairs = table.key.iter().map(|&index| {
        let column = &table.columns[index];
        format!("t.{} = {}", column.quoted, column.element())
    });
    pairs.collect::<Vec<_>>().join(" AND ")
}
