//! Values of a catalogue as another version or family would print them, where nothing is lost by it. What needs more is
//! decided by the target's own print.

use super::inventory::Class;
use super::inventory::record::Record;
use crate::mysql::client::Version;
use crate::mysql::schema::archive;

/// Whether the record is a check of a table.
pub(crate) fn is_check(record: &Record) -> bool {
    record.table == "information_schema.CHECK_CONSTRAINTS" || record.text("CONSTRAINT_TYPE") == "CHECK"
}

/// Whether the column holds a name that both families give by themselves, and differently.
pub(crate) fn is_name_of_check(class: &Class, column: &str) -> bool {
    matches!(class.called, "check" | "constraint") && column == "constraint_name"
}

/// A column's value of a server of `version`, as it is compared between servers of `versions`.
pub(crate) fn value(record: &Record, column: &str, version: Version, versions: (Version, Version)) -> Option<String> {
    let text = record.values.get(column)?.as_deref();
    // Once it was locked and is not any more, it says so for good.
    if column == "priv.account_locked" && text == Some("false") {
        return None;
    }
    if versions.0 == versions.1 {
        return text.map(|text| plain(column, text));
    }
    let crosses = versions.0.flavor != versions.1.flavor;
    match column {
        "column_default" => return default(record, text?, version),
        "column_type" | "data_type" | "dtd_identifier" => return text.map(type_name),
        "extra" => {
            let lower = text?.to_lowercase().replace("default_generated", "");
            return Some(lower.replace("()", "").split_whitespace().collect::<Vec<_>>().join(" "));
        }
        "sql_mode" => return text.map(|modes| archive::known_modes(modes, versions.1)),
        "table_priv" if crosses => {
            let kept = text?.split(',').filter(|one| !one.starts_with("Delete versioning"));
            return Some(kept.collect::<Vec<_>>().join(","));
        }
        _ => {}
    }
    let of_text = column.contains("character_set") || column.contains("collation");
    if of_text {
        return text.map(alias);
    }
    // Where there is none of it, some versions say NULL and others nothing.
    text.filter(|text| !text.is_empty()).map(|text| plain(column, text))
}

/// What says the same in two ways even on one server: InnoDB does the same for RESTRICT and NO ACTION, and a server keeps
/// the semicolon behind a program that was created together with others in one packet, and drops that of one alone.
pub(crate) fn plain(column: &str, value: &str) -> String {
    match column {
        "update_rule" | "delete_rule" => value.replace("RESTRICT", "NO ACTION"),
        "routine_definition" | "event_definition" | "action_statement" => {
            let end = |letter: char| letter == ';' || letter.is_whitespace();
            value.trim_end_matches(end).to_owned()
        }
        _ => value.to_owned(),
    }
}

/// Old versions call `utf8mb3` so, and its collations too.
pub(crate) fn alias(name: &str) -> String {
    match name.strip_prefix("utf8") {
        Some("") => "utf8mb3".to_owned(),
        Some(rest) if rest.starts_with('_') => format!("utf8mb3{rest}"),
        _ => name.to_owned(),
    }
}

/// The type as MySQL writes it since it has no display widths any more. They stay where they show zeros.
pub(crate) fn type_name(written: &str) -> String {
    let (name, rest) = match written.split_once('(') {
        Some((name, rest)) => (name.to_ascii_lowercase(), format!("({rest}")),
        None => (written.to_ascii_lowercase(), String::new()),
    };
    // It stays where it is what drivers take for a truth value.
    if written == "tinyint(1)" {
        return written.to_owned();
    }
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

/// A default: a constant in quotes, or an expression as it stands. MariaDB quotes its constants, MySQL says otherwise
/// which are none.
fn default(record: &Record, written: &str, version: Version) -> Option<String> {
    let constant = |text: &str| Some(format!("'{text}'"));
    let is_now = |text: &str| text.to_lowercase().starts_with("current_timestamp");
    let now = |text: &str| Some(text.to_lowercase().replace("()", ""));
    if version.is_mariadb() {
        if written == "NULL" {
            return None;
        }
        let inner = written.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        if let Some(inner) = inner {
            return constant(&inner.replace("''", "'").replace("\\\\", "\\"));
        }
        let number = written.starts_with(|first: char| first.is_ascii_digit() || first == '-');
        return match written {
            _ if is_now(written) => now(written),
            _ if number || written.starts_with("b'") => constant(written),
            _ => Some(written.to_owned()),
        };
    }
    let timed = ["timestamp", "datetime"].contains(&record.text("DATA_TYPE"));
    let computed = record.text("EXTRA").to_uppercase().contains("DEFAULT_GENERATED");
    match written {
        _ if (computed || timed) && is_now(written) => now(written),
        _ if computed => Some(written.to_owned()),
        _ => constant(written),
    }
}

#[cfg(test)]
mod tests {
    use super::{alias, type_name};

    #[test]
    fn what_versions_write_differently_is_the_same_type() {
        assert_eq!(type_name("int(10) unsigned"), type_name("int unsigned"));
        assert_eq!(type_name("year(4)"), "year");
        assert_ne!(type_name("int(5) unsigned zerofill"), type_name("int unsigned"));
        assert_eq!(type_name("enum('A','b(1)')"), "enum('A','b(1)')");
        assert_ne!(type_name("varchar(10)"), type_name("varchar(11)"));
        assert_eq!((alias("utf8"), alias("utf8_bin")), ("utf8mb3".into(), "utf8mb3_bin".into()));
        assert_eq!(alias("utf8mb4_bin"), "utf8mb4_bin");
    }
}
