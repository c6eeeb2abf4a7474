//! What a session inherits from its server, and what ours are given in its place: no setting of a server may change how
//! Headgate's own sessions read, write, compare or limit values. Every session variable that a server lets a session set stands here; a test asks each server for its own list.

use super::sql::quote_literal;
use crate::error::Error;
use crate::mysql::refusal::right_needed;

/// What our own sessions do about a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ours {
    /// Every server has it and it differs between them: each session sets it, to this constant of SQL.
    Set(&'static str),
    /// Set where the server shows anything else than this, which is its built-in value.
    BuiltIn(&'static str),
    /// As [`Ours::BuiltIn`] where that is permitted; where it is not, a check of its own tells of the server's value.
    IfPermitted(&'static str),
    /// Left as it is.
    Left,
}

/// One session variable.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name, as the server shows it.
    pub name: &'static str,
    /// What our own sessions do about it.
    pub ours: Ours,
    /// Whether an application may see another result, error or limit by it.
    pub clients: bool,
}

const fn set(name: &'static str, constant: &'static str) -> Variable {
    Variable { name, ours: Ours::Set(constant), clients: true }
}

const fn built_in(name: &'static str, shown: &'static str) -> Variable {
    Variable { name, ours: Ours::BuiltIn(shown), clients: true }
}

/// A variable that each client says itself at its login, or that follows from what it says.
const fn said(name: &'static str, constant: &'static str) -> Variable {
    Variable { clients: false, ..set(name, constant) }
}

/// A variable that matters to the log or to definitions, and to no client's results.
const fn inner(name: &'static str, shown: &'static str) -> Variable {
    Variable { clients: false, ..built_in(name, shown) }
}

const fn if_permitted(name: &'static str, shown: &'static str) -> Variable {
    Variable { name, ours: Ours::IfPermitted(shown), clients: false }
}

/// A variable that statements of an application may depend on, and none of ours.
const fn clients(name: &'static str) -> Variable {
    Variable { name, ours: Ours::Left, clients: true }
}

const fn left(name: &'static str) -> Variable {
    Variable { clients: false, ..clients(name) }
}

/// In the order in which they are set: a lower `max_join_size` switches `sql_big_selects` off.
pub const VARIABLES: &[Variable] = &[
    set("sql_select_limit", "18446744073709551615"),
    set("sql_safe_updates", "0"),
    set("max_join_size", "18446744073709551615"),
    set("sql_big_selects", "1"),
    set("autocommit", "1"),
    set("completion_type", "0"),
    set("sql_mode", "'NO_AUTO_VALUE_ON_ZERO'"),
    set("time_zone", "'+00:00'"),
    said("character_set_client", "utf8mb4"),
    said("character_set_results", "utf8mb4"),
    said("collation_connection", "utf8mb4_general_ci"),
    set("collation_server", "utf8mb4_general_ci"),
    built_in("character_set_filesystem", "binary"),
    set("sql_quote_show_create", "1"),
    set("sql_auto_is_null", "0"),
    set("sql_notes", "1"),
    set("foreign_key_checks", "1"),
    set("unique_checks", "1"),
    set("lc_time_names", "'en_US'"),
    set("lc_messages", "'en_US'"),
    set("default_week_format", "0"),
    set("div_precision_increment", "4"),
    set("group_concat_max_len", "67108864"),
    set("max_sort_length", "1024"),
    set("lock_wait_timeout", "86400"),
    set("innodb_lock_wait_timeout", "50"),
    set("innodb_table_locks", "1"),
    set("default_storage_engine", "InnoDB"),
    set("updatable_views_with_limit", "1"),
    set("wait_timeout", "86400"),
    set("net_read_timeout", "600"),
    set("net_write_timeout", "600"),
    built_in("transaction_isolation", "REPEATABLE-READ"),
    built_in("transaction_read_only", "OFF"),
    built_in("tx_isolation", "REPEATABLE-READ"),
    built_in("tx_read_only", "OFF"),
    built_in("auto_increment_increment", "1"),
    built_in("auto_increment_offset", "1"),
    built_in("block_encryption_mode", "aes-128-ecb"),
    built_in("check_constraint_checks", "ON"),
    built_in("default_collation_for_utf8mb4", "utf8mb4_0900_ai_ci"),
    built_in("default_regex_flags", ""),
    built_in("enforce_storage_engine", ""),
    built_in("enable_cascade_triggers", "OFF"),
    built_in("explicit_defaults_for_timestamp", "ON"),
    built_in("innodb_snapshot_isolation", "OFF"),
    built_in("innodb_strict_mode", "ON"),
    built_in("max_execution_time", "0"),
    built_in("max_statement_time", "0.000000"),
    built_in("max_points_in_geometry", "65536"),
    built_in("old_mode", "UTF8_IS_UTF8MB3"),
    built_in("idle_transaction_timeout", "0"),
    built_in("idle_readonly_transaction_timeout", "0"),
    built_in("idle_write_transaction_timeout", "0"),
    Variable { clients: true, ..if_permitted("sql_generate_invisible_primary_key", "OFF") },
    built_in("sql_if_exists", "OFF"),
    Variable { clients: true, ..if_permitted("sql_require_primary_key", "OFF") },
    built_in("system_versioning_asof", "DEFAULT"),
    built_in("system_versioning_insert_history", "OFF"),
    built_in("system_versioning_alter_history", "ERROR"),
    built_in("windowing_use_high_precision", "ON"),
    built_in("wsrep_dirty_reads", "OFF"),
    inner("alter_algorithm", "DEFAULT"),
    inner("show_create_table_verbosity", "OFF"),
    inner("show_gipk_in_create_table_and_information_schema", "ON"),
    inner("show_old_temporals", "OFF"),
    inner("sql_log_bin", "ON"),
    inner("terminology_use_previous", "NONE"),
    if_permitted("binlog_format", "ROW"),
    if_permitted("binlog_row_image", "FULL"),
    if_permitted("binlog_row_value_options", ""),
    clients("cte_max_recursion_depth"),
    clients("max_error_count"),
    clients("max_recursive_iterations"),
    clients("innodb_ft_enable_stopword"),
    clients("innodb_ft_user_stopword_table"),
    clients("interactive_timeout"),
    clients("max_sp_recursion_depth"),
    clients("old"),
    clients("old_passwords"),
    clients("print_identified_with_as_hex"),
    clients("standard_compliant_cte"),
    clients("session_track_gtids"),
    clients("session_track_schema"),
    clients("session_track_state_change"),
    clients("session_track_system_variables"),
    clients("session_track_transaction_info"),
    clients("restrict_fk_on_non_standard_key"),
    clients("query_cache_type"),
    clients("init_connect"),
    // Follow from others above, or from the database in use.
    left("character_set_connection"),
    left("character_set_server"),
    left("character_set_database"),
    left("collation_database"),
    left("storage_engine"),
    // How the target keeps its files, and how much its log says, is the target's own.
    left("binlog_alter_two_phase"),
    left("binlog_annotate_row_events"),
    left("binlog_direct_non_transactional_updates"),
    left("binlog_rows_query_log_events"),
    left("binlog_transaction_compression"),
    left("binlog_transaction_compression_level_zstd"),
    left("column_compression_threshold"),
    left("column_compression_zlib_level"),
    left("column_compression_zlib_strategy"),
    left("column_compression_zlib_wrap"),
    left("default_table_encryption"),
    left("default_tmp_storage_engine"),
    left("external_table_secondary_storage_engine"),
    left("external_table_storage_engine"),
    left("gtid_domain_id"),
    left("innodb_compression_default"),
    left("innodb_default_encryption_key_id"),
    left("innodb_tmpdir"),
    left("server_id"),
    // Of one session or statement.
    left("default_master_connection"),
    left("gtid_next"),
    left("gtid_seq_no"),
    left("identity"),
    left("immediate_server_version"),
    left("insert_id"),
    left("last_insert_id"),
    left("original_commit_timestamp"),
    left("original_server_version"),
    left("pseudo_replica_mode"),
    left("pseudo_slave_mode"),
    left("pseudo_thread_id"),
    left("rand_seed1"),
    left("rand_seed2"),
    left("require_row_format"),
    left("resultset_metadata"),
    left("show_create_table_skip_secondary_engine"),
    left("skip_parallel_replication"),
    left("skip_replication"),
    left("sql_slave_skip_counter"),
    left("timestamp"),
    left("transaction_allow_batching"),
    left("use_secondary_engine"),
    // How a statement is planned, measured and logged, and how much memory it takes.
    left("analyze_max_length"),
    left("analyze_sample_percentage"),
    left("aria_repair_threads"),
    left("aria_sort_buffer_size"),
    left("aria_stats_method"),
    left("big_tables"),
    left("bulk_insert_buffer_size"),
    left("connection_memory_chunk_size"),
    left("connection_memory_limit"),
    left("deadlock_search_depth_long"),
    left("deadlock_search_depth_short"),
    left("deadlock_timeout_long"),
    left("deadlock_timeout_short"),
    left("enable_secondary_engine_statistics"),
    left("end_markers_in_json"),
    left("eq_range_index_dive_limit"),
    left("expensive_subquery_limit"),
    left("explain_format"),
    left("explain_json_format_version"),
    left("generated_random_password_length"),
    left("global_connection_memory_tracking"),
    left("group_replication_consistency"),
    left("histogram_generation_max_mem_size"),
    left("histogram_size"),
    left("histogram_type"),
    left("in_predicate_conversion_threshold"),
    left("information_schema_stats_expiry"),
    left("innodb_ddl_buffer_size"),
    left("innodb_ddl_threads"),
    left("innodb_parallel_read_threads"),
    left("innodb_support_xa"),
    left("internal_tmp_mem_storage_engine"),
    left("join_buffer_size"),
    left("join_buffer_space_limit"),
    left("join_cache_level"),
    left("keep_files_on_create"),
    left("log_disabled_statements"),
    left("log_queries_not_using_indexes"),
    left("log_slow_admin_statements"),
    left("log_slow_disabled_statements"),
    left("log_slow_filter"),
    left("log_slow_max_warnings"),
    left("log_slow_min_examined_row_limit"),
    left("log_slow_query"),
    left("log_slow_query_time"),
    left("log_slow_rate_limit"),
    left("log_slow_slave_statements"),
    left("log_slow_verbosity"),
    left("log_warnings"),
    left("long_query_time"),
    left("low_priority_updates"),
    left("max_delayed_threads"),
    left("max_heap_table_size"),
    left("max_insert_delayed_threads"),
    left("max_length_for_sort_data"),
    left("max_relay_log_size"),
    left("max_rowid_filter_size"),
    left("max_seeks_for_key"),
    left("max_session_mem_used"),
    left("max_tmp_tables"),
    left("min_examined_row_limit"),
    left("mrr_buffer_size"),
    left("multi_range_count"),
    left("myisam_repair_threads"),
    left("myisam_sort_buffer_size"),
    left("myisam_stats_method"),
    left("net_retry_count"),
    left("new"),
    left("note_verbosity"),
    left("old_alter_table"),
    left("optimizer_adjust_secondary_key_costs"),
    left("optimizer_extra_pruning_depth"),
    left("optimizer_join_limit_pref_ratio"),
    left("optimizer_max_sel_arg_weight"),
    left("optimizer_max_sel_args"),
    left("optimizer_max_subgraph_pairs"),
    left("optimizer_prune_level"),
    left("optimizer_search_depth"),
    left("optimizer_selectivity_sampling_limit"),
    left("optimizer_switch"),
    left("optimizer_trace"),
    left("optimizer_trace_features"),
    left("optimizer_trace_limit"),
    left("optimizer_trace_max_mem_size"),
    left("optimizer_trace_offset"),
    left("optimizer_use_condition_selectivity"),
    left("parser_max_mem_size"),
    left("preload_buffer_size"),
    left("profiling"),
    left("profiling_history_size"),
    left("progress_report_time"),
    left("query_alloc_block_size"),
    left("query_cache_strip_comments"),
    left("query_cache_wlock_invalidate"),
    left("query_prealloc_size"),
    left("range_alloc_block_size"),
    left("range_optimizer_max_mem_size"),
    left("rbr_exec_mode"),
    left("read_buffer_size"),
    left("read_rnd_buffer_size"),
    left("rowid_merge_buff_size"),
    left("secondary_engine_cost_threshold"),
    left("select_into_buffer_size"),
    left("select_into_disk_sync"),
    left("select_into_disk_sync_delay"),
    left("set_operations_buffer_size"),
    left("slow_query_log"),
    left("sort_buffer_size"),
    left("sql_buffer_result"),
    left("sql_log_off"),
    left("sql_warnings"),
    left("tcp_nodelay"),
    left("thread_pool_priority"),
    left("tmp_disk_table_size"),
    left("tmp_memory_table_size"),
    left("tmp_table_size"),
    left("transaction_alloc_block_size"),
    left("transaction_prealloc_size"),
    left("use_stat_tables"),
    left("wsrep_causal_reads"),
    left("wsrep_on"),
    left("wsrep_osu_method"),
    left("wsrep_retry_autocommit"),
    left("wsrep_sync_wait"),
    left("wsrep_trx_fragment_size"),
    left("wsrep_trx_fragment_unit"),
    left("xa_detach_on_prepare"),
];

/// The statement that each session begins with. Every server takes it, from everybody.
pub(super) fn first() -> String {
    let set: Vec<String> = VARIABLES
        .iter()
        .filter_map(|variable| match variable.ours {
            Ours::Set(constant) => Some(format!("{} = {constant}", variable.name)),
            _ => None,
        })
        .collect();
    format!("SET SESSION {}", set.join(", "))
}

/// The query for what the server shows of the other variables.
pub(super) fn rest() -> String {
    let names: Vec<String> = VARIABLES
        .iter()
        .filter(|variable| variable.shown().is_some())
        .map(|variable| quote_literal(variable.name))
        .collect();
    format!("SHOW SESSION VARIABLES WHERE Variable_name IN ({})", names.join(", "))
}

impl Variable {
    /// What a server shows of it once it is as we want it.
    pub fn shown(&self) -> Option<&'static str> {
        match self.ours {
            Ours::BuiltIn(shown) | Ours::IfPermitted(shown) => Some(shown),
            Ours::Set(_) | Ours::Left => None,
        }
    }
}

/// A variable that differs, with what the server shows of it.
pub(super) struct Odd {
    variable: &'static Variable,
    shown: String,
}

impl Odd {
    /// `None` where it is as it should be.
    pub(super) fn of(name: &str, shown: &str) -> Option<Self> {
        let variable = VARIABLES.iter().find(|variable| variable.name == name)?;
        let wanted = variable.shown()?;
        (wanted != shown).then(|| Self { variable, shown: shown.to_owned() })
    }

    /// The assignment that makes it so.
    fn assignment(&self) -> String {
        let name = self.variable.name;
        let wanted = self.variable.shown().unwrap_or_default();
        let constant = match (name, wanted) {
            ("enforce_storage_engine", _) => "NULL".to_owned(),
            // Of this one variable the server's value does not become the session's by that.
            ("system_versioning_asof", _) => "DEFAULT".to_owned(),
            _ if wanted.parse::<f64>().is_ok() => wanted.to_owned(),
            _ => quote_literal(wanted),
        };
        format!("{name} = {constant}")
    }

    /// What becomes of a refusal with the error `code`, or of a lost connection: `None` where it can be lived with.
    pub(super) fn refused(&self, code: u16, failure: Error, account: &str) -> Option<Error> {
        const DENIED: u16 = 1227;
        // Before MySQL 8 some are the whole server's, and the same for everybody.
        const NOT_OF_A_SESSION: u16 = 1238;
        match (code, self.variable.ours) {
            (NOT_OF_A_SESSION, _) | (DENIED, Ours::IfPermitted(_)) => return None,
            (DENIED, _) => {}
            _ => return Some(failure),
        }
        let name = self.variable.name;
        let wanted = self.variable.shown().unwrap_or_default();
        let reported = failure.full_text();
        let right = right_needed(&reported).unwrap_or("SUPER");
        Some(
            Error::refused(format!(
                "{name} is {:?} on the server, and Headgate's account may not set it to {wanted:?} in its own sessions",
                self.shown
            ))
            .remedy(format!(
                "GRANT {} ON *.* TO {account}; or set it back on the server: SET GLOBAL {}",
                right_needed(&reported).unwrap_or("SUPER"),
                self.assignment()
            ))
            .fix(format!("GRANT {right} ON *.* TO {account}")),
        )
    }
}

/// The statement that sets these.
pub(super) fn statement<'a>(odd: impl IntoIterator<Item = &'a Odd>) -> String {
    let assignments: Vec<String> = odd.into_iter().map(Odd::assignment).collect();
    format!("SET SESSION {}", assignments.join(", "))
}
