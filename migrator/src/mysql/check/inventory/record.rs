//! One row of a server's catalogue, and how it is asked for.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Among, Class};
use crate::mysql::sql::quote_literal;

pub(super) const WHAT: &str = "cannot read a server's definitions";

#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) table: &'static str,
    pub(super) class: &'static Class,
    pub(super) columns: Vec<String>,
    pub(super) select: String,
}

/// One row of a server's catalogue.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its table's place in the inventory.
    pub class: &'static Class,
    /// The table, as the inventory calls it.
    pub table: &'static str,
    /// The object's class and name as people write them, such as `` view `shop`.`totals` ``.
    pub object: String,
    /// Whose it is, where it is an account's: the user and the host.
    pub account: Option<(String, String)>,
    /// The columns by their names in lower case.
    pub values: BTreeMap<String, Option<String>>,
}

impl Record {
    /// The column's value; empty where it is NULL, or where the server has no such column.
    pub fn text(&self, column: &str) -> &str {
        self.values.get(&column.to_ascii_lowercase()).and_then(Option::as_deref).unwrap_or_default()
    }

    /// Everything that it says, in one order.
    pub fn reported(&self) -> String {
        let mut text = format!("{};", self.table);
        for (column, value) in &self.values {
            let _ = write!(text, "{column}={value:?};");
        }
        text
    }
}

impl Asked {
    pub(super) fn query(&self, databases: &[String]) -> String {
        let names: Vec<String> = databases.iter().map(|name| quote_literal(name)).collect();
        let condition = match self.class.among {
            Among::Server => return self.select.clone(),
            Among::Databases(column) => format!("c.{column} IN ({})", names.join(", ")),
            Among::Patterns(column) => {
                let likes: Vec<String> = names.iter().map(|name| format!("{name} LIKE c.{column}")).collect();
                format!("({})", likes.join(" OR "))
            }
        };
        let word = if self.class.only.is_empty() { "WHERE" } else { "AND" };
        format!("{} {word} {condition}", self.select)
    }
}
