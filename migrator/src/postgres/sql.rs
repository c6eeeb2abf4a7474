//! Names and values written into SQL text, always quoted.

use crate::model::plan::Table;

/// A name as an identifier, quoted whatever it holds.
pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as a string constant that reads the same under every setting of `standard_conforming_strings`.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// `schema.name`, both quoted, for use in SQL.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(name))
}

/// `schema.table` for SQL.
pub fn relation(table: &Table) -> String {
    qualified(&table.schema, &table.name)
}

/// `schema.table` for people and as the key of progress and proofs: quoted only where it must be.
pub fn title(table: &Table) -> String {
    title_of(&table.schema, &table.name)
}

/// As [`title`], for any schema and name.
pub fn title_of(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_where_needed(schema), quote_where_needed(name))
}

fn quote_where_needed(name: &str) -> String {
    let plain = |character: char| character.is_ascii_lowercase() || character == '_';
    let starts = name.starts_with(plain);
    if starts && name.chars().all(|character| plain(character) || character.is_ascii_digit()) {
        name.to_owned()
    } else {
        quote_ident(name)
    }
}

/// SQL of the name of the object with the number `value` in the catalogue `to`.
pub(super) fn named(to: &str, value: &str) -> String {
    match to {
        "pg_class" => format!("({value})::oid::regclass::text"),
        "pg_type" => format!("pg_catalog.format_type(({value})::oid, NULL)"),
        "pg_proc" => format!("({value})::oid::regprocedure::text"),
        "pg_operator" => format!("({value})::oid::regoperator::text"),
        "pg_namespace" => format!("({value})::oid::regnamespace::text"),
        "pg_collation" => format!("({value})::oid::regcollation::text"),
        "pg_ts_config" => format!("({value})::oid::regconfig::text"),
        "pg_ts_dict" => format!("({value})::oid::regdictionary::text"),
        "pg_authid" => {
            format!("CASE WHEN ({value})::oid = 0 THEN '-' ELSE pg_catalog.pg_get_userbyid({value})::text END")
        }
        other => format!(
            "CASE WHEN ({value})::oid <> 0 THEN (SELECT i.identity
                 FROM pg_catalog.pg_identify_object('pg_catalog.{other}'::regclass, {value}, 0) i) END"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{quote_ident, quote_literal, title_of};

    #[test]
    fn a_quote_inside_a_name_does_not_end_it() {
        assert_eq!(quote_ident("a\"; DROP TABLE b; --"), "\"a\"\"; DROP TABLE b; --\"");
    }

    #[test]
    fn a_quote_or_backslash_inside_a_value_does_not_end_it() {
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("\\'"), "E'\\\\'''");
    }

    #[test]
    fn two_tables_never_share_a_title() {
        assert_eq!(title_of("public", "orders"), "public.orders");
        assert_ne!(title_of("a.b", "c"), title_of("a", "b.c"));
        assert_ne!(title_of("a", "B"), title_of("a", "b"));
    }
}
