//! Names and values written into SQL text, always quoted.

use crate::model::plan::Table;

/// A name as an identifier, quoted whatever it holds.
pub fn quote_ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text as a string constant. The session's `sql_mode` must not hold `NO_BACKSLASH_ESCAPES`, and ours does not.
pub fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// `database.name`, both quoted, for use in SQL.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(name))
}

/// `database.table` for SQL.
pub fn relation(table: &Table) -> String {
    qualified(&table.schema, &table.name)
}

/// `database.table` for people and as the key of progress and proofs: quoted only where it must be.
pub fn title(table: &Table) -> String {
    title_of(&table.schema, &table.name)
}

/// As [`title`], for any database and name.
pub fn title_of(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_where_needed(schema), quote_where_needed(name))
}

fn quote_where_needed(name: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || character == '_';
    if !name.is_empty() && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        name.to_owned()
    } else {
        quote_ident(name)
    }
}

#[cfg(test)]
mod tests {
    use super::{quote_ident, quote_literal, title_of};

    #[test]
    fn a_quote_inside_a_name_does_not_end_it() {
        assert_eq!(quote_ident("a`; DROP TABLE b; -- "), "`a``; DROP TABLE b; -- `");
    }

    #[test]
    fn a_quote_or_backslash_inside_a_value_does_not_end_it() {
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("\\'"), "'\\\\'''");
    }

    #[test]
    fn two_tables_never_share_a_title() {
        assert_eq!(title_of("shop", "Orders"), "shop.Orders");
        assert_ne!(title_of("a.b", "c"), title_of("a", "b.c"));
    }
}
