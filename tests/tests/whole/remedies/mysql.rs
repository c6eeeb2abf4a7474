//! What is told on MySQL and MariaDB, and the tests that run it.

use super::{Of, Shown, Table};

/// An account with too few rights for the fence is led to it.
const FENCES: &[&str] = &[
    "an_account_without_the_rights_is_told_statements_that_let_it_put_up_the_fence",
    "what_the_server_does_not_tell_of_accounts_and_sessions_is_told_by_the_grant_that_is_printed",
];
/// Events where nobody may stop the scheduler.
const EVENTS: &[&str] = &[
    "where_read_only_is_not_permitted_accounts_are_the_fence_of_mysql",
    "where_read_only_is_not_permitted_accounts_are_the_fence_of_mariadb",
];

pub(super) const ROWS: Table = &[
    (Of::Statement("SET GLOBAL event_scheduler = OFF"), Shown::By(EVENTS)),
    (
        Of::Finding("account_options"),
        Shown::By(&[
            "what_accounts_of_mysql_56_demand_comes_to_mysql_97",
            "what_accounts_of_mariadb_demand_comes_to_mysql_97_and_to_mariadb",
            "what_accounts_of_mysql_97_demand_comes_to_mysql_97",
        ]),
    ),
    (
        Of::Finding("account_statement_time"),
        Shown::By(&["what_accounts_of_mariadb_demand_comes_to_mysql_97_and_to_mariadb"]),
    ),
    (
        Of::Finding("accounts"),
        Shown::By(&[
            "an_account_that_is_locked_on_the_target_is_unlocked_by_the_statement_that_is_told",
            "an_account_is_proved_only_by_the_same_hash_or_a_login_and_a_second_password_is_none",
        ]),
    ),
    (Of::Finding("binlog_filters"), Shown::Advice("a line of the source's configuration, and a restart")),
    (Of::Finding("binlog_format"), Shown::By(&["settings_of_each_source_are_mended_by_the_statement_that_is_told"])),
    (
        Of::Finding("binlog_order_commits"),
        Shown::By(&["settings_of_each_source_are_mended_by_the_statement_that_is_told"]),
    ),
    (Of::Finding("binlog_retention"), Shown::By(&["settings_of_each_source_are_mended_by_the_statement_that_is_told"])),
    (Of::Finding("binlog_row_image"), Shown::By(&["settings_of_each_source_are_mended_by_the_statement_that_is_told"])),
    (
        Of::Finding("binlog_row_metadata"),
        Shown::By(&["settings_of_each_source_are_mended_by_the_statement_that_is_told"]),
    ),
    (
        Of::Finding("binlog_row_value_options"),
        Shown::By(&["settings_of_each_source_are_mended_by_the_statement_that_is_told"]),
    ),
    (
        Of::Finding("called_functions"),
        Shown::By(&["what_mysql_97_refuses_of_56_is_told_at_once_and_the_trial_leaves_nothing"]),
    ),
    (
        Of::Finding("client_settings"),
        Shown::By(&[
            "settings_that_clients_inherit_from_mysql_97_are_told_and_made_equal",
            "settings_that_clients_inherit_from_mariadb_are_told_and_made_equal",
            "settings_that_clients_inherit_from_mysql_56_are_told_and_made_equal_on_97",
        ]),
    ),
    (
        Of::Finding("collations"),
        Shown::By(&["what_mysql_97_refuses_of_mariadb_is_told_at_once_and_what_is_left_moves"]),
    ),
    (
        Of::Finding("compressed_columns"),
        Shown::By(&["what_mysql_97_refuses_of_mariadb_is_told_at_once_and_what_is_left_moves"]),
    ),
    (Of::Finding("computed_columns"), Shown::Advice("it counts what there is")),
    (
        Of::Finding("definers"),
        Shown::By(&[
            "mysql_tells_an_account_with_few_rights_each_right_that_it_lacks",
            "mariadb_tells_an_account_with_few_rights_each_right_that_it_lacks",
        ]),
    ),
    (Of::Finding("earlier_trial"), Shown::Advice("it says what Headgate itself took away")),
    (
        Of::Finding("engines"),
        Shown::By(&[
            "tables_of_each_source_are_mended_by_the_statement_that_is_told",
            "what_mysql_97_refuses_of_mariadb_is_told_at_once_and_what_is_left_moves",
        ]),
    ),
    (Of::Finding("event_scheduler"), Shown::By(&["settings_of_each_target_are_mended_by_the_statement_that_is_told"])),
    (
        Of::Finding("fence_accounts"),
        Shown::By(&[
            "each_way_past_read_only_is_named_and_its_remedy_closes_it",
            "a_right_that_everybody_has_is_named_once_and_its_remedy_takes_it_back",
            "an_account_that_cannot_be_locked_is_an_error_is_refused_and_its_remedy_ends_that",
        ]),
    ),
    (Of::Finding("fence_procedures"), Shown::By(&["each_way_past_read_only_is_named_and_its_remedy_closes_it"])),
    (
        Of::Finding("fence_sessions"),
        Shown::By(&["sessions_that_a_cutover_would_wait_for_are_ended_by_the_statement_that_is_told"]),
    ),
    (Of::Finding("float_keys"), Shown::By(&["what_is_advised_ends_the_finding"])),
    (
        Of::Finding("foreign_key_cascades"),
        Shown::By(&["tables_of_each_source_are_mended_by_the_statement_that_is_told"]),
    ),
    (
        Of::Finding("foreign_key_databases"),
        Shown::By(&[
            "tables_of_each_source_are_mended_by_the_statement_that_is_told",
            "what_is_advised_ends_the_finding",
        ]),
    ),
    (Of::Finding("foreign_key_targets"), Shown::By(&["mysql_97_is_checked_for_all_that_would_spoil_it"])),
    (Of::Finding("foreign_keys_from_outside"), Shown::By(&["what_is_advised_ends_the_finding"])),
    (Of::Finding("functions"), Shown::By(&["settings_of_each_target_are_mended_by_the_statement_that_is_told"])),
    (Of::Finding("keys"), Shown::By(&["tables_of_each_source_are_mended_by_the_statement_that_is_told"])),
    (Of::Finding("local_infile"), Shown::By(&["settings_of_each_target_are_mended_by_the_statement_that_is_told"])),
    (Of::Finding("log_bin"), Shown::Advice("a line of the source's configuration, and a restart")),
    (Of::Finding("log_bin_compress"), Shown::By(&["settings_of_each_source_are_mended_by_the_statement_that_is_told"])),
    (
        Of::Finding("long_transactions"),
        Shown::By(&["sessions_that_a_cutover_would_wait_for_are_ended_by_the_statement_that_is_told"]),
    ),
    (
        Of::Finding("lower_case_table_names"),
        Shown::Advice("the target's server is set up anew, and no statement does that"),
    ),
    (
        Of::Finding("mariadb_only"),
        Shown::By(&["what_mysql_97_refuses_of_mariadb_is_told_at_once_and_what_is_left_moves"]),
    ),
    (
        Of::Finding("max_allowed_packet"),
        Shown::By(&["settings_of_each_target_are_mended_by_the_statement_that_is_told"]),
    ),
    (Of::Finding("optimizer_costs"), Shown::By(&["what_stays_behind_is_named_and_its_remedy_ends_the_finding"])),
    (Of::Finding("other_databases"), Shown::By(&["what_is_advised_ends_the_finding"])),
    (
        Of::Finding("password_history"),
        Shown::Advice("nothing is to be done: the rules come along and count from the switch on"),
    ),
    (Of::Finding("plan"), Shown::By(&["what_is_advised_ends_the_finding"])),
    (
        Of::Finding("plugins"),
        Shown::By(&[
            "what_stays_behind_is_named_and_its_remedy_ends_the_finding",
            "plugins_and_functions_that_the_target_lacks_are_installed_by_the_statement_that_is_told",
        ]),
    ),
    (
        Of::Finding("primary_keys"),
        Shown::By(&["tables_without_a_key_are_named_where_the_target_demands_one_and_each_remedy_ends_that"]),
    ),
    (Of::Finding("programs"), Shown::Advice("it counts what there is")),
    (Of::Finding("read_only_databases"), Shown::By(&["what_stays_behind_is_named_and_its_remedy_ends_the_finding"])),
    (
        Of::Finding("refusal"),
        Shown::Advice("Headgate sets it again by itself; who lifts it only the operator can find out"),
    ),
    (
        Of::Finding("refused_rows"),
        Shown::By(&["what_mysql_97_refuses_of_mariadb_is_told_at_once_and_what_is_left_moves"]),
    ),
    (Of::Finding("reserved_words"), Shown::Advice("the application's own statements must quote the name")),
    (Of::Finding("resource_groups"), Shown::By(&["what_stays_behind_is_named_and_its_remedy_ends_the_finding"])),
    (Of::Finding("same_server"), Shown::Advice("which cluster is meant only the operator knows")),
    (
        Of::Finding("schema_trial"),
        Shown::By(&[
            "what_mysql_97_refuses_of_56_is_told_at_once_and_the_trial_leaves_nothing",
            "what_the_printed_rights_do_not_carry_of_97_is_told_with_the_grant_that_does",
            "what_the_printed_rights_do_not_carry_of_mariadb_is_told_with_the_grant_that_does",
        ]),
    ),
    (Of::Finding("server_id"), Shown::By(&["settings_of_each_source_are_mended_by_the_statement_that_is_told"])),
    (Of::Finding("server_ids"), Shown::By(&["two_servers_of_one_number_are_told_apart_by_the_statement_that_is_told"])),
    (
        Of::Finding("source_databases"),
        Shown::By(&["what_is_advised_ends_the_finding", "no_printed_right_is_too_much_on_a_source_of_97"]),
    ),
    (Of::Finding("source_events"), Shown::By(EVENTS)),
    (
        Of::Finding("source_fence"),
        Shown::By(&["an_account_that_may_not_set_read_only_is_told_the_grants_and_the_warning_goes"]),
    ),
    (
        Of::Finding("source_left_behind"),
        Shown::By(&[
            "no_printed_right_is_too_much_on_a_source_of_97",
            "what_may_not_be_seen_of_what_stays_behind_is_seen_by_the_grant_that_is_told",
        ]),
    ),
    (Of::Finding("source_reachable"), Shown::Advice("an address, a password or a server that does not run")),
    (Of::Finding("source_read_only"), Shown::Advice("which server is the primary only the operator knows")),
    (Of::Finding("source_refusal"), Shown::By(&["an_account_that_may_not_lock_others_is_told_what_a_restart_will_do"])),
    (Of::Finding("source_replica"), Shown::Advice("whether a replication is needed only the operator knows")),
    (
        Of::Finding("source_rights"),
        Shown::By(&[
            "no_printed_right_is_too_much_on_a_source_of_97",
            "no_printed_right_is_too_much_on_a_source_of_56",
            "no_printed_right_is_too_much_on_a_source_of_mariadb",
        ]),
    ),
    (
        Of::Finding("source_sessions"),
        Shown::By(&[
            "no_printed_right_is_too_much_on_a_source_of_97",
            "no_printed_right_is_too_much_on_a_source_of_56",
            "no_printed_right_is_too_much_on_a_source_of_mariadb",
        ]),
    ),
    (
        Of::Finding("source_snapshots"),
        Shown::By(&[
            "no_printed_right_is_too_much_on_a_source_of_97",
            "no_printed_right_is_too_much_on_a_source_of_56",
            "no_printed_right_is_too_much_on_a_source_of_mariadb",
        ]),
    ),
    (
        Of::Finding("source_way_back"),
        Shown::By(&[
            "an_account_that_could_not_put_a_trigger_back_is_told_before_anything_begins_what_lets_it",
            "no_printed_right_is_too_much_on_a_source_of_97",
            "no_printed_right_is_too_much_on_a_source_of_56",
            "no_printed_right_is_too_much_on_a_source_of_mariadb",
        ]),
    ),
    (Of::Finding("source_version"), Shown::Advice("the source is upgraded in place, and no statement does that")),
    (Of::Finding("sql_mode"), Shown::By(&["settings_of_each_target_are_mended_by_the_statement_that_is_told"])),
    (Of::Finding("system_versioned"), Shown::By(&["tables_of_each_source_are_mended_by_the_statement_that_is_told"])),
    (Of::Finding("tablespaces"), Shown::By(&["what_stays_behind_is_named_and_its_remedy_ends_the_finding"])),
    (
        Of::Finding("target_left_behind"),
        Shown::By(&[
            "what_the_printed_rights_do_not_carry_of_97_is_told_with_the_grant_that_does",
            "what_may_not_be_seen_of_what_stays_behind_is_seen_by_the_grant_that_is_told",
        ]),
    ),
    (Of::Finding("target_objects"), Shown::By(&["settings_of_each_target_are_mended_by_the_statement_that_is_told"])),
    (
        Of::Finding("target_prints"),
        Shown::By(&[
            "no_printed_right_is_too_much_on_a_target_of_97",
            "no_printed_right_is_too_much_on_a_target_of_mariadb",
        ]),
    ),
    (Of::Finding("target_proof"), Shown::By(&["no_printed_right_is_too_much_on_a_target_of_mariadb"])),
    (
        Of::Finding("target_reachable"),
        Shown::By(&["an_account_that_may_not_undo_a_setting_in_its_sessions_is_told_the_right_for_it"]),
    ),
    (Of::Finding("target_read_only"), Shown::By(&["settings_of_each_target_are_mended_by_the_statement_that_is_told"])),
    (
        Of::Finding("target_replica"),
        Shown::By(&["a_target_that_follows_another_server_follows_nobody_after_the_statement_that_is_told"]),
    ),
    (
        Of::Finding("target_rights"),
        Shown::By(&[
            "no_printed_right_is_too_much_on_a_target_of_97",
            "no_printed_right_is_too_much_on_a_target_of_mariadb",
        ]),
    ),
    (Of::Finding("target_sessions"), Shown::By(&["no_printed_right_is_too_much_on_a_target_of_97"])),
    (
        Of::Finding("target_way_back"),
        Shown::By(&[
            "settings_of_each_target_are_mended_by_the_statement_that_is_told",
            "no_printed_right_is_too_much_on_a_target_of_97",
            "no_printed_right_is_too_much_on_a_target_of_mariadb",
        ]),
    ),
    (Of::Finding("time_zone"), Shown::By(&["settings_of_each_target_are_mended_by_the_statement_that_is_told"])),
    (Of::Finding("time_zones"), Shown::Advice("a program of the server's loads its time zones, not a statement")),
    (
        Of::Finding("unlogged_writes"),
        Shown::By(&["a_session_that_hides_its_changes_from_the_log_is_seen_or_said_to_be_unknowable"]),
    ),
    (Of::Finding("transaction_size"), Shown::By(&["settings_of_each_target_are_mended_by_the_statement_that_is_told"])),
    (
        Of::Finding("triggers"),
        Shown::By(&["an_account_that_could_not_put_a_trigger_back_is_told_before_anything_begins_what_lets_it"]),
    ),
    (Of::Finding("version_pair"), Shown::Advice("which cluster is meant only the operator knows")),
    (
        Of::Finding("writers"),
        Shown::By(&[
            "sessions_that_a_cutover_would_wait_for_are_ended_by_the_statement_that_is_told",
            "what_may_not_be_seen_of_writers_cannot_be_known_and_the_grant_that_is_named_shows_it",
        ]),
    ),
    (
        Of::Finding("xa_transactions"),
        Shown::By(&[
            "mysql_97_is_checked_for_all_that_would_spoil_it",
            "what_may_not_be_seen_of_writers_cannot_be_known_and_the_grant_that_is_named_shows_it",
        ]),
    ),
    (
        Of::Statement("ALTER DATABASE {} {set}"),
        Shown::By(&["what_mysql_97_refuses_of_mariadb_is_told_at_once_and_what_is_left_moves"]),
    ),
    (
        Of::Statement("ALTER TABLE {} {set}"),
        Shown::By(&["what_mysql_97_refuses_of_mariadb_is_told_at_once_and_what_is_left_moves"]),
    ),
    (
        Of::Statement("CREATE USER {} IDENTIFIED BY <password>"),
        Shown::By(&[
            "an_account_with_the_printed_rights_moves_from_97_to_97",
            "an_account_with_the_printed_rights_moves_from_56_to_97",
            "an_account_with_the_printed_rights_moves_from_1011_to_1011",
        ]),
    ),
    (
        Of::Statement("GRANT SELECT ON headgate.* TO {account}"),
        Shown::By(&["marks_that_may_not_be_read_are_said_to_be_unknown_until_the_printed_right_is_granted"]),
    ),
    (
        Of::Statement("GRANT {name} ON {object} TO {account}"),
        Shown::By(&[
            FENCES[0],
            FENCES[1],
            "a_copy_that_may_not_see_prepared_transactions_begins_after_the_grant_that_is_told",
            "no_printed_right_is_too_much_on_a_source_of_97",
            "no_printed_right_is_too_much_on_a_target_of_97",
            "no_printed_right_is_too_much_on_a_source_of_56",
            "no_printed_right_is_too_much_on_a_source_of_mariadb",
            "no_printed_right_is_too_much_on_a_target_of_mariadb",
        ]),
    ),
    (
        Of::Statement("GRANT {} ON *.* TO {account}"),
        Shown::By(&["an_account_that_may_not_undo_a_setting_in_its_sessions_is_told_the_right_for_it"]),
    ),
    (
        Of::Statement("RECOPY TABLE"),
        Shown::By(&[
            "a_table_whose_rows_the_log_did_not_have_whole_is_taken_anew_and_followed",
            "what_changes_no_definition_stops_nothing_and_what_does_is_named_on_mysql_97",
            "what_changes_no_definition_stops_nothing_and_what_does_is_named_on_mysql_56",
            "what_changes_no_definition_stops_nothing_and_what_does_is_named_on_mariadb",
        ]),
    ),
    (
        Of::Statement("SET GLOBAL read_only = OFF"),
        Shown::By(&["what_would_make_the_fence_fail_is_refused_before_anything_is_held"]),
    ),
    (
        Of::Statement("SET GLOBAL {}"),
        Shown::By(&["an_account_that_may_not_undo_a_setting_in_its_sessions_is_told_the_right_for_it"]),
    ),
    (
        Of::Statement("START MIGRATION {name}"),
        Shown::By(&["a_follower_that_stopped_at_a_changed_definition_goes_on_once_it_is_undone"]),
    ),
    (
        Of::Statement("UPDATE {} SET {column} = IF({column} > 0"),
        Shown::By(&["what_mysql_97_refuses_of_mariadb_is_told_at_once_and_what_is_left_moves"]),
    ),
    (
        Of::Statement("XA RECOVER lists them"),
        Shown::By(&["what_would_make_the_fence_fail_is_refused_before_anything_is_held"]),
    ),
    (Of::Statement("XA RECOVER"), Shown::By(&["the_copy_does_not_begin_while_a_transaction_is_prepared"])),
    (
        Of::Finding("foreign_writes"),
        Shown::By(&[
            "nobody_else_writes_to_the_target_before_the_switch_or_the_proof_is_void",
            "who_else_writes_to_either_side_is_seen_by_the_grant_that_is_told",
        ]),
    ),
    (Of::Finding("target_writers"), Shown::By(&["no_printed_right_is_too_much_on_a_target_of_97"])),
];
