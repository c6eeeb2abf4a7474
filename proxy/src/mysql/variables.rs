//! Which of a session's variables must be made the same on another server, and how.
//!
//! What a session has changed is what differs from its server's global value. Beyond that, some defaults are part of
//! what an application relies on, and are made the same where both servers differ in them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::not_movable::NotMovable;

/// The limit of rows that a join may look at; setting it turns off the next one.
pub const JOIN_SIZE: &str = "max_join_size";

/// Whether that limit does not count.
pub const BIG_SELECTS: &str = "sql_big_selects";

/// Variables by name, as SHOW VARIABLES tells them.
pub type Variables = BTreeMap<String, String>;

/// Defaults that change what statements mean or how long they may take.
const PINNED: &[&str] = &[
    "autocommit",
    "block_encryption_mode",
    "completion_type",
    "default_week_format",
    "div_precision_increment",
    "foreign_key_checks",
    "group_concat_max_len",
    "innodb_lock_wait_timeout",
    "interactive_timeout",
    "lc_time_names",
    "lock_wait_timeout",
    "max_execution_time",
    "max_statement_time",
    "net_read_timeout",
    "net_write_timeout",
    "sql_auto_is_null",
    "sql_safe_updates",
    "time_zone",
    "transaction_isolation",
    "transaction_read_only",
    "unique_checks",
    "wait_timeout",
];

/// Defaults that only definitions of tables or new numbers feel; a session that may not set them goes on without.
const TRIED: &[&str] = &[
    "auto_increment_increment",
    "auto_increment_offset",
    "default_storage_engine",
    "explicit_defaults_for_timestamp",
    "old_alter_table",
];

/// What is no setting of the session, or is carried over in another way.
const PASSED_OVER: &[&str] = &[
    "character_set_client",
    "character_set_connection",
    "character_set_database",
    "character_set_results",
    "collation_connection",
    "collation_database",
    "error_count",
    "external_user",
    "gtid_binlog_pos",
    "gtid_binlog_state",
    "gtid_current_pos",
    "gtid_executed",
    "gtid_owned",
    "gtid_purged",
    "gtid_seq_no",
    "gtid_slave_pos",
    "identity",
    "immediate_server_version",
    "in_transaction",
    "last_gtid",
    "last_insert_id",
    "max_allowed_packet",
    "max_user_connections",
    "net_buffer_length",
    "original_commit_timestamp",
    "original_server_version",
    "proxy_user",
    "pseudo_thread_id",
    "rand_seed1",
    "rand_seed2",
    "sql_mode",
    "sql_select_limit",
    "statement_id",
    "time_zone",
    "timestamp",
    "warning_count",
    "wsrep_gtid_seq_no",
];

/// What only concerns speed or instruments of the old server: it may be missing on the new one.
const HARMLESS: &[&str] = &[
    "debug_sync",
    "have_query_cache",
    "join_cache_level",
    "join_buffer_space_limit",
    "optimizer_prune_level",
    "optimizer_search_depth",
    "optimizer_trace",
    "optimizer_use_condition_selectivity",
    "profiling",
    "profiling_history_size",
    "query_cache_type",
    "query_cache_wlock_invalidate",
    "use_stat_tables",
];

/// Names that changed between versions, old and new.
const RENAMED: &[(&str, &str)] = &[
    ("tx_isolation", "transaction_isolation"),
    ("tx_read_only", "transaction_read_only"),
    ("storage_engine", "default_storage_engine"),
    ("pseudo_slave_mode", "pseudo_replica_mode"),
];

/// Modes that change nothing that a session of a newer server can do.
const MODES_GONE: &[&str] = &["NO_AUTO_CREATE_USER", "NO_FIELD_OPTIONS", "NO_KEY_OPTIONS", "NO_TABLE_OPTIONS"];

/// A variable to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name on the new server.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The session goes on where it cannot be set.
    pub may_fail: bool,
}

/// Makes names the same that two versions call differently.
pub fn by_present_names(variables: Variables) -> Variables {
    let mut present = Variables::new();
    for (name, value) in variables {
        match RENAMED.iter().find(|(old, _)| *old == name) {
            // Where a server knows both names, the present one counts.
            Some((_, new)) => {
                present.entry((*new).to_owned()).or_insert(value);
            }
            None => {
                present.insert(name, value);
            }
        }
    }
    present
}

/// Whether two values mean the same.
pub fn same(one: &str, other: &str) -> bool {
    one == other || charset(one) == charset(other)
}

/// `utf8` under the name that says what it is.
pub fn charset(name: &str) -> String {
    match name.strip_prefix("utf8") {
        Some("") => "utf8mb3".to_owned(),
        Some(rest) if rest.starts_with('_') => format!("utf8mb3{rest}"),
        _ => name.to_owned(),
    }
}

/// What must be set on a new session that shows `fresh`, so that it is like one that shows `session` on a server
/// with `global` values. All three by present names.
pub fn settings(session: &Variables, global: &Variables, fresh: &Variables) -> Result<Vec<Setting>, NotMovable> {
    let mut out = Vec::new();
    for (name, value) in session {
        if PASSED_OVER.contains(&name.as_str()) {
            continue;
        }
        let changed = global.get(name).is_none_or(|global| global != value);
        let tried = TRIED.contains(&name.as_str());
        let pinned = tried || PINNED.contains(&name.as_str());
        if !changed && !pinned {
            continue;
        }
        let Some(have) = fresh.get(name) else {
            // What no session of the old server can change, the new one need not know.
            if changed && global.contains_key(name) && !HARMLESS.contains(&name.as_str()) {
                return Err(NotMovable::Variable(name.clone()));
            }
            continue;
        };
        if same(have, value) {
            continue;
        }
        let value = match name.as_str() {
            "optimizer_switch" => switches(value, have),
            _ => value.clone(),
        };
        out.push(Setting { name: name.clone(), value, may_fail: tried && !changed });
    }
    if let Some(zone) = time_zone(session, fresh) {
        out.push(Setting { name: "time_zone".to_owned(), value: zone, may_fail: false });
    }
    Ok(out)
}

/// The time zone to be set. SYSTEM means what the server's machine has, which may differ.
fn time_zone(session: &Variables, fresh: &Variables) -> Option<String> {
    let of = |variables: &Variables, name: &str| variables.get(name).cloned().unwrap_or_default();
    let zone = |variables: &Variables| match of(variables, "time_zone") {
        zone if zone == "SYSTEM" => match of(variables, "system_time_zone") {
            system if system == "UTC" || system == "GMT" => "+00:00".to_owned(),
            system => system,
        },
        zone if zone == "UTC" => "+00:00".to_owned(),
        zone => zone,
    };
    if of(session, "time_zone") == of(fresh, "time_zone") && zone(session) == zone(fresh) {
        return None;
    }
    match of(session, "time_zone") {
        shown if shown == "SYSTEM" && zone(session) == zone(fresh) => Some(shown),
        shown if shown == "SYSTEM" => Some(zone(session)),
        shown => Some(shown),
    }
}

/// The switches that both servers know, as the session has them.
fn switches(wanted: &str, have: &str) -> String {
    let known: Vec<&str> = have.split(',').filter_map(|switch| switch.split_once('=').map(|(name, _)| name)).collect();
    let kept = wanted.split(',').filter(|switch| switch.split_once('=').is_some_and(|(name, _)| known.contains(&name)));
    kept.collect::<Vec<_>>().join(",")
}

/// The SQL mode without what is gone and means nothing any more on a server of `version`.
pub fn sql_mode(mode: &str, version: &str) -> String {
    // As a name for several others, ANSI includes this one on newer servers of MySQL.
    let short = !version.contains("MariaDB") && !mode.split(',').any(|mode| mode == "ONLY_FULL_GROUP_BY");
    mode.split(',')
        .filter(|mode| !(MODES_GONE.contains(mode) || short && *mode == "ANSI"))
        .collect::<Vec<_>>()
        .join(",")
}

/// Whether two modes hold the same, in whatever order.
pub fn same_modes(one: &str, other: &str) -> bool {
    let sorted = |modes: &str| {
        let mut modes: Vec<String> = modes.split(',').map(str::to_owned).collect();
        modes.sort();
        modes
    };
    sorted(one) == sorted(other)
}

/// Whether the new session shows what was set.
pub fn is_shown(setting: &Setting, shown: &Variables) -> bool {
    let Some(value) = shown.get(&setting.name) else {
        return false;
    };
    if setting.name == "optimizer_switch" {
        return setting.value.split(',').all(|switch| value.split(',').any(|have| have == switch));
    }
    same(value, &setting.value)
}

/// The value as it is written in a SET statement.
pub fn literal(value: &str) -> String {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let number = digits.starts_with(|first: char| first.is_ascii_digit())
        && digits.bytes().filter(|&byte| byte == b'.').count() <= 1
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if number { value.to_owned() } else { text(value) }
}

/// A string literal that means the same whatever the SQL mode says of backslashes, for text without any.
pub fn text(value: &str) -> String {
    if value.contains('\\') {
        return bytes(value);
    }
    format!("'{}'", value.replace('\'', "''"))
}

/// A string literal that means the same in whatever character set the statement is.
pub fn bytes(value: &str) -> String {
    let mut literal = String::from("_utf8mb4 X'");
    for byte in value.bytes() {
        // Writing to a String cannot fail.
        let _ = write!(literal, "{byte:02X}");
    }
    literal + "'"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        by_present_names(pairs.iter().map(owned).collect())
    }

    fn set(settings: &[Setting]) -> Vec<(&str, &str)> {
        settings.iter().map(|setting| (setting.name.as_str(), setting.value.as_str())).collect()
    }

    #[test]
    fn what_was_changed_and_what_is_pinned_is_set_and_nothing_else() {
        let session = variables(&[
            ("sort_buffer_size", "1024"),
            ("tx_isolation", "REPEATABLE-READ"),
            ("big_tables", "OFF"),
            ("wait_timeout", "60"),
        ]);
        let global = variables(&[
            ("sort_buffer_size", "2048"),
            ("tx_isolation", "REPEATABLE-READ"),
            ("big_tables", "OFF"),
            ("wait_timeout", "60"),
        ]);
        let fresh = variables(&[
            ("sort_buffer_size", "4096"),
            ("transaction_isolation", "READ-COMMITTED"),
            ("big_tables", "ON"),
            ("wait_timeout", "60"),
        ]);
        let found = settings(&session, &global, &fresh).expect("all are known");
        assert_eq!(set(&found), [("sort_buffer_size", "1024"), ("transaction_isolation", "REPEATABLE-READ")]);
    }

    #[test]
    fn a_changed_variable_that_the_new_server_lacks_keeps_the_session_from_moving() {
        let session = variables(&[("old_mode", "X")]);
        let global = variables(&[("old_mode", "")]);
        assert!(settings(&session, &global, &Variables::new()).is_err());
        assert!(settings(&session, &session, &Variables::new()).is_ok());
    }

    #[test]
    fn a_system_time_zone_is_the_one_of_the_old_machine() {
        let old = variables(&[("time_zone", "SYSTEM"), ("system_time_zone", "UTC")]);
        let new = variables(&[("time_zone", "SYSTEM"), ("system_time_zone", "CET")]);
        let found = settings(&old, &old, &new).expect("all are known");
        assert_eq!(set(&found), [("time_zone", "+00:00")]);
        assert!(settings(&old, &old, &old).is_ok_and(|found| found.is_empty()));
    }

    #[test]
    fn numbers_are_written_bare_and_texts_quoted() {
        assert_eq!(literal("-1.5"), "-1.5");
        assert_eq!(literal("+00:00"), "'+00:00'");
        assert_eq!(literal("ON"), "'ON'");
        assert_eq!(literal(""), "''");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(charset("utf8"), "utf8mb3");
        assert_eq!(charset("utf8_bin"), "utf8mb3_bin");
        assert_eq!(charset("utf8mb4_bin"), "utf8mb4_bin");
    }
}
