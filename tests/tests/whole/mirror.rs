//! Both engines mirror one another, file for file and case for case. What one has and the other lacks is listed here
//! with its reason; a reason that no longer holds fails as well.

use std::collections::BTreeSet;
use std::path::Path;

use super::tidy::{check, read, sources};

/// Files that only one engine has, under what makes it so.
const FILES: &[(&str, &[&str])] = &[
    (
        "tokio-postgres is handed a connection that is open; mysql_async opens its own, for the cluster's own account",
        &["migrator/src/postgres/channel.rs", "proxy/src/mysql/own_account.rs"],
    ),
    (
        "a position of MySQL names its server and transactions, and opening the stream compares them; one of PostgreSQL is a number",
        &["migrator/src/postgres/follow/continuity.rs"],
    ),
    ("each engine has its own peers in the benches", &["bench/src/mysql/router.rs", "bench/src/postgres/pgbouncer.rs"]),
    (
        "PostgreSQL has roles; MySQL has accounts, with hosts, plugins and grants that must be written out",
        &[
            "migrator/src/postgres/schema/properties.rs",
            "migrator/src/postgres/schema/roles.rs",
            "migrator/src/postgres/preflight/roles.rs",
            "migrator/src/mysql/schema/accounts.rs",
            "migrator/src/mysql/schema/accounts/account.rs",
            "migrator/src/mysql/schema/accounts/options.rs",
            "migrator/src/mysql/schema/accounts/refused.rs",
            "migrator/src/mysql/schema/beside.rs",
            "migrator/src/mysql/fence/passing.rs",
            "migrator/src/mysql/fence/passing/holders.rs",
            "migrator/src/mysql/schema/grants.rs",
            "migrator/src/mysql/preflight/accounts.rs",
            "migrator/src/mysql/preflight/left.rs",
            "migrator/src/mysql/preflight/visible.rs",
        ],
    ),
    (
        "pg_dump and pg_restore move PostgreSQL's schema; MySQL's is read, taken apart and written for the other version by us",
        &[
            "migrator/src/postgres/preflight/event_triggers.rs",
            "migrator/src/postgres/schema/tools.rs",
            "migrator/src/mysql/preflight/collations.rs",
            "migrator/src/mysql/preflight/inherited.rs",
            "migrator/src/mysql/preflight/trial/builder.rs",
            "migrator/src/mysql/preflight/trial/called.rs",
            "migrator/src/mysql/preflight/trial/remedy.rs",
            "migrator/src/mysql/preflight/trial/scratch.rs",
            "migrator/src/mysql/schema/archive/written.rs",
            "migrator/src/mysql/tokens.rs",
            "migrator/src/mysql/preflight/defaults.rs",
        ],
    ),
    (
        "PostgreSQL's catalogues say of their own columns what they refer to; MySQL's definitions are texts, and tables of texts",
        &[
            "migrator/src/postgres/check/catalogue.rs",
            "migrator/src/mysql/catalogue.rs",
            "migrator/src/mysql/check/differences.rs",
            "migrator/src/mysql/check/inventory/record.rs",
            "migrator/src/mysql/check/catalog_tables.rs",
            "migrator/src/mysql/schema/create_table.rs",
        ],
    ),
    (
        "MySQL has no session that triggers and events leave alone: they come with and after the switch",
        &[
            "migrator/src/mysql/schema/triggers.rs",
            "migrator/src/mysql/schema/triggers/set_aside.rs",
            "migrator/src/mysql/schema/triggers/statements.rs",
            "migrator/src/mysql/schema/post_cutover.rs",
        ],
    ),
    (
        "PostgreSQL has such a session, and where the role may not open one, foreign keys go out of the way as well",
        &["migrator/src/postgres/schema/set_aside.rs", "migrator/src/postgres/schema/set_aside/kept.rs"],
    ),
    ("the tests' MySQL clients log in by their driver in TLS", &["tests/src/postgres/psql.rs"]),
    (
        "PostgreSQL's copy is a pipe of bytes under one snapshot; MySQL's cuts tables by key and turns rows into another form",
        &[
            "migrator/src/mysql/follow/json_text.rs",
            "migrator/src/mysql/load/range/insert_fallback.rs",
            "migrator/src/mysql/load/range/refused.rs",
            "migrator/src/mysql/link/session.rs",
            "migrator/src/mysql/load/chunks.rs",
            "migrator/src/mysql/load/rows.rs",
        ],
    ),
    (
        "PostgreSQL takes transactions of any size; MySQL's log, its groups and Galera have limits",
        &["migrator/src/mysql/limits.rs"],
    ),
    (
        "PostgreSQL's stream has texts and no DDL; MySQL's log has packed values, documents and statements",
        &[
            "migrator/src/postgres/follow/jobs.rs",
            "migrator/src/mysql/follow/batch/rows.rs",
            "migrator/src/mysql/follow/batch/distributed.rs",
            "migrator/src/mysql/follow/batch/statements.rs",
            "migrator/src/mysql/follow/ddl.rs",
            "migrator/src/mysql/follow/ddl/harmless.rs",
            "migrator/src/mysql/follow/json.rs",
            "migrator/src/mysql/follow/values.rs",
            "protocol/src/postgres/change/replication.rs",
            "protocol/src/postgres/change/transaction.rs",
            "protocol/src/mysql/lenenc.rs",
            "protocol/src/mysql/change/xid.rs",
        ],
    ),
    (
        "PostgreSQL's owner of a table may always fence it; MySQL's read_only is the server's, and not everybody's to set",
        &[
            "migrator/src/mysql/fence/locked.rs",
            "migrator/src/mysql/fence/durable.rs",
            "migrator/src/mysql/fence/kept.rs",
        ],
    ),
    (
        "PostgreSQL's fence waits for locks by itself; MySQL's must be told who stands in the way of read_only",
        &["migrator/src/mysql/processlist.rs", "migrator/src/mysql/fence/obstacles.rs"],
    ),
    (
        "PostgreSQL's catalogues say of themselves what they refer to, and hold parsed forms; MySQL's versions and families \
         print whole definitions in other words",
        &[
            "migrator/src/postgres/check/expressions.rs",
            "migrator/src/mysql/check/inventory/reading.rs",
            "migrator/src/mysql/check/inventory/sequences.rs",
            "migrator/src/mysql/check/printed.rs",
            "migrator/src/mysql/check/reprinted.rs",
        ],
    ),
    (
        "a database of PostgreSQL is created from a session on another one, after the source's",
        &["migrator/src/postgres/schema/database.rs"],
    ),
    (
        "MySQL's refusals name the rights of which one is needed; PostgreSQL's name the object",
        &["migrator/src/mysql/refusal.rs"],
    ),
    (
        "each engine has its own kinds of proof at login",
        &[
            "protocol/src/postgres/auth/scram.rs",
            "protocol/src/mysql/auth/caching_sha2.rs",
            "protocol/src/mysql/auth/ed25519.rs",
            "protocol/src/mysql/auth/native.rs",
            "protocol/tests/postgres/scram.rs",
            "protocol/tests/mysql/auth.rs",
        ],
    ),
    (
        "the same crate tests, cut by what the engine's bytes are",
        &[
            "protocol/tests/postgres/change.rs",
            "protocol/tests/postgres/reply.rs",
            "protocol/tests/postgres/session.rs",
            "protocol/tests/mysql/position.rs",
            "migrator/tests/postgres_move.rs",
            "migrator/tests/mysql_copy.rs",
            "migrator/tests/mysql_fence.rs",
            "migrator/tests/mysql_schema.rs",
            "migrator/tests/mysql_servers.rs",
        ],
    ),
    (
        "MySQL's server speaks first and judges accounts by host; its login may be sealed by a key of ours",
        &[
            "proxy/src/mysql/cipher.rs",
            "proxy/src/mysql/greeting.rs",
            "proxy/src/mysql/host.rs",
            "proxy/src/mysql/logins.rs",
            "tests/tests/whole/mysql/accounts.rs",
        ],
    ),
    (
        "MySQL's data plane without a program around it is shown in tests/tests/mysql_session.rs",
        &["tests/tests/whole/postgres/wary.rs"],
    ),
    (
        "PostgreSQL lists a session's state; of MySQL's some is learned from statements, and ids of statements are mapped",
        &[
            "proxy/src/mysql/user_variables.rs",
            "proxy/src/mysql/introspection.rs",
            "proxy/src/postgres/custom.rs",
            "proxy/src/mysql/session_tracking.rs",
            "proxy/src/mysql/serving/databases.rs",
            "proxy/src/mysql/serving/own.rs",
            "proxy/src/mysql/statements.rs",
            "proxy/src/mysql/variables.rs",
            "proxy/src/mysql/wire/chosen.rs",
            "proxy/src/mysql/wire/own.rs",
            "proxy/src/mysql/wire/tests.rs",
        ],
    ),
    (
        "clients of MySQL ask the console for variables, and bind values of many types",
        &["proxy/src/bin/headgate/mysql/dialect.rs", "proxy/src/bin/headgate/mysql/values.rs"],
    ),
    (
        "the harness needs sysbench, drivers and bare bytes of MySQL; PostgreSQL's are in pgbench.rs, client.rs and message.rs",
        &["tests/tests/whole/mysql/compare.rs", "tests/src/mysql/programs.rs", "tests/src/mysql/raw.rs"],
    ),
];

/// Cases that only one engine has, under what makes it so.
const CASES: &[(&str, &[&str])] = &[
    (
        "the console is the same code for both engines",
        &[
            "operator::each_statement_that_the_console_prints_goes_through_and_ends_what_it_was_printed_for",
            "operator::a_cutover_for_which_the_target_has_too_few_connections_goes_through_at_the_operator_s_word",
            "operator::a_failure_that_is_mended_ends_with_the_start_that_it_printed",
            "operator::a_session_that_is_still_on_the_old_side_is_listed_and_moves_with_its_next_statement",
            "operator::a_session_that_may_have_written_past_the_log_voids_the_proof_until_it_has_ended_and_a_check_passed",
        ],
    ),
    (
        "what Cloud SQL and Azure give on MySQL is not enough to go there; Neon has PostgreSQL alone",
        &[
            "services::azure_moves_there_and_back",
            "services::cloud_sql_moves_there_and_back",
            "services::neon_moves_there_and_back",
        ],
    ),
    (
        "on MySQL a privilege is part of its account, and an account of a service stays with all of its own; nothing is owned",
        &["services::what_a_service_s_own_roles_have_is_named_and_does_not_break_the_schema_elsewhere"],
    ),
    (
        "`headgate grants` prints for MySQL what every server grants; a service's administrator is enough",
        &["services::a_role_with_what_is_printed_for_a_service_moves_there_and_back"],
    ),
    (
        "PostgreSQL's stream tells no definition but of tables: another one that differs is told while it follows",
        &["recopy::a_follower_that_stopped_at_a_changed_definition_goes_on_once_it_is_undone"],
    ),
    (
        "MySQL's follower reads a table's shape from the log, and goes on once the change is undone",
        &["recopy::a_follower_that_stopped_at_a_changed_table_goes_on_by_its_remedy"],
    ),
    (
        "a slot of PostgreSQL forgets what the target has confirmed; MySQL's log is read again from where the target is",
        &["failover::a_target_that_lost_what_it_had_confirmed_stops_the_migration"],
    ),
    (
        "GTIDs go on on another server; slots do from version 17 on, which the way back of the same file shows",
        &["failover::a_failover_of_the_source_costs_time_only"],
    ),
    (
        "the same promise in the engine's own words",
        &[
            "cancel::a_cancel_request_ends_the_statement_of_its_session_and_of_no_other",
            "cancel::a_cancel_request_with_a_wrong_secret_does_nothing",
            "cancel::a_kill_ends_the_session_that_is_meant_and_no_other",
            "cancel::a_kill_of_a_query_ends_the_statement_of_its_session_and_of_no_other",
            "cancel::a_session_of_another_account_is_out_of_reach_in_the_servers_own_words",
            "console::prepared_statements_work_as_texts",
            "console::the_extended_protocol_works_as_the_simple_one",
            "cutover::a_held_statement_can_be_cancelled_and_one_of_a_client_that_left_is_forgotten",
            "cutover::a_held_statement_can_be_killed_and_one_of_a_client_that_left_is_forgotten",
            "cutover::a_session_with_a_temporary_table_is_closed_with_an_error_that_says_to_come_again",
            "cutover::sessions_that_cannot_move_end_with_an_error_that_says_to_come_again_and_are_counted",
            "hostile::a_frame_over_the_limit_ends_its_session_only_and_says_why",
            "hostile::a_packet_over_the_limit_ends_its_session_only_and_says_why",
            "hostile::frames_that_lie_about_their_length_end_their_session_only",
            "hostile::packets_that_lie_about_their_length_end_their_session_only",
            "login::the_admin_console_asks_for_its_own_password",
            "login::the_admin_console_asks_for_its_password_whatever_the_login_method",
            "login::the_right_password_opens_a_session_of_the_same_user",
            "login::with_scram_the_right_password_opens_a_session_of_the_same_user",
            "migration::a_dropped_migration_leaves_nothing_behind_on_either_side",
            "migration::a_dropped_migration_leaves_nothing_behind_on_the_source",
            "migration::a_source_that_does_not_log_for_replication_is_refused_with_the_remedy",
            "migration::a_source_that_does_not_log_rows_is_refused_with_the_remedy_and_its_fix_lets_the_migration_start",
            "migration::a_table_without_a_key_is_named_and_follows_row_by_row",
            "migration::a_table_without_a_key_is_named_and_the_fix_that_is_given_lets_its_updates_follow",
            "moving::a_held_batch_without_its_sync_is_cancelled_at_once",
            "moving::a_held_execution_is_forgotten_with_its_client_and_runs_for_all_others",
            "resume::a_kill_while_copying_is_resumed_and_no_row_is_missing_or_double",
            "resume::from_mariadb_1011_to_1011",
            "resume::from_mysql_56_to_97",
        ],
    ),
    (
        "each engine has its own load: pgbench with three protocols, sysbench with and without prepared statements",
        &[
            "cutover::pgbench_with_extended_queries_loses_and_doubles_nothing",
            "cutover::pgbench_with_prepared_statements_loses_and_doubles_nothing",
            "cutover::pgbench_with_simple_queries_loses_and_doubles_nothing",
            "cutover::sysbench_with_plain_statements_loses_and_doubles_nothing",
            "cutover::sysbench_with_prepared_statements_loses_and_doubles_nothing",
        ],
    ),
    (
        "each driver and client of MySQL also reads the same word for word; of PostgreSQL that is shown by pgbench, psql and its own suite",
        &[
            "console::mysql2_of_node_shows_routes",
            "console::pymysql_shows_routes",
            "console::the_clients_mysql_and_mariadb_show_routes",
            "drivers::mysql2_of_node_reads_the_same_with_a_cutover_in_the_middle",
            "drivers::mysql_async_reads_the_same_with_a_cutover_in_the_middle",
            "drivers::mysql_connector_reads_the_same_with_a_cutover_in_the_middle",
            "drivers::mysqlclient_reads_the_same_with_a_cutover_in_the_middle",
            "drivers::pymysql_reads_the_same_with_a_cutover_in_the_middle",
            "drivers::the_client_of_mariadb_reads_the_same_with_a_cutover_in_the_middle",
            "drivers::the_client_of_mysql_reads_the_same_with_a_cutover_in_the_middle",
        ],
    ),
    (
        "MySQL's accounts decide who comes in, with hosts, plugins and a change of the user; PostgreSQL's login is the configuration's or the cluster's",
        &[
            "accounts::a_client_becomes_another_user_by_its_own_proof_only",
            "accounts::a_database_moves_and_comes_back_with_and_by_accounts_of_signatures",
            "accounts::a_plugin_that_headgate_lacks_is_named_to_the_client_and_to_the_operator",
            "accounts::accounts_of_sha256_decide_with_and_without_tls_to_the_server",
            "accounts::accounts_of_signatures_decide_for_clients_with_and_without_tls",
            "accounts::an_account_of_a_plugin_that_the_target_lacks_moves_once_its_client_has_shown_its_password",
            "accounts::accounts_decide_where_passwords_are_captured_too",
            "accounts::mariadbs_accounts_decide",
            "accounts::mysqls_accounts_decide",
            "accounts::the_accounts_of_an_old_server_decide",
            "accounts::the_console_has_an_account_of_its_own",
            "cutover::accounts_of_the_source_log_in_after_the_switch",
            "drivers::no_driver_notices_a_move_there_and_back_where_headgate_asks_for_its_password",
            "hostile::a_change_of_the_user_that_is_none_ends_its_session_only",
            "hostile::a_password_that_is_garbage_under_every_cover_is_refused",
            "login::a_headgate_that_is_full_says_what_a_server_would",
            "login::a_headgate_that_starts_before_its_cluster_serves_once_that_is_there",
            "login::a_login_without_a_database_means_the_only_route_and_begins_in_none",
            "login::a_password_that_is_known_needs_no_encryption_and_one_that_is_not_does",
            "login::a_password_that_the_server_has_changed_is_refused_and_the_new_one_accepted",
            "login::a_proof_that_is_none_is_a_wrong_password",
            "login::a_server_that_is_full_says_so_itself",
            "login::a_session_becomes_another_users_and_ends_where_the_password_is_wrong",
            "login::an_account_that_requires_encryption_hears_why_it_is_refused",
            "login::an_account_without_a_password_needs_none_and_takes_none",
            "login::the_clients_of_both_servers_log_in_with_and_without_tls",
            "login::with_trust_the_cluster_decides_and_a_configured_password_is_asked_for",
            "tls::a_certificate_proves_the_user_that_the_configuration_names_and_nobody_else",
            "tls::a_password_that_the_cluster_does_not_ask_for_lets_nobody_in",
            "tls::roles_log_in_by_what_the_server_stores_of_them_and_the_server_has_the_last_word",
            "tls::thirty_roles_whose_verifiers_can_be_read_come_in_on_the_target_though_none_has_shown_anything",
            "tls::thirty_roles_whose_verifiers_nobody_reads_come_in_on_the_target_once_each_has_shown_its_password",
            "tls::where_no_verifier_can_be_read_a_password_is_asked_for_over_tls_only_and_the_server_judges_it",
        ],
    ),
    (
        "PostgreSQL's owner of a table may always fence it; MySQL's read_only is the server's, and not everybody's to set",
        &[
            "cutover::where_read_only_is_not_permitted_the_accounts_of_mariadb_are_the_fence",
            "cutover::where_read_only_is_not_permitted_the_accounts_of_mysql_are_the_fence",
            "faults::an_old_source_that_is_killed_and_restarted_still_refuses_writes_and_runs_no_events",
            "marks::a_fence_without_a_mark_is_named_and_can_be_lifted",
            "marks::where_accounts_are_the_refusal_clearing_the_mark_lets_them_in",
        ],
    ),
    (
        "PostgreSQL's target refuses the writes of others; MySQL's can only count them",
        &[
            "faults::a_source_that_stands_still_once_it_is_sealed_and_not_decided_shows_nobody_its_fence",
            "foreign::where_the_target_counts_nothing_or_forgot_it_that_is_said",
        ],
    ),
    (
        "PostgreSQL's first packet may ask for encryption, another protocol or a second login; MySQL's packets have numbers and a client that speaks second",
        &[
            "hostile::a_client_that_sends_and_never_reads_costs_no_memory",
            "hostile::a_newer_protocol_is_negotiated_down_as_the_server_does",
            "hostile::a_second_first_packet_inside_a_session_is_no_second_login",
            "hostile::packets_out_of_order_are_judged_by_the_server",
            "hostile::pieces_and_statements_without_end_cost_no_memory",
            "hostile::replication_and_unknown_commands_are_refused_and_the_session_goes_on",
            "hostile::requests_for_encryption_are_answered_and_not_for_ever",
            "hostile::what_is_longer_than_the_servers_limit_is_refused_in_its_own_words",
        ],
    ),
    (
        "what only PostgreSQL has: schemas within a database, a schema restored in one transaction, a change stream whose start waits for open transactions, notifications, the backend's pid at login, versions in one run, COPY, encodings and settings of the application's own making",
        &[
            "drop::a_database_that_the_migration_made_goes_with_it",
            "migration::what_was_mended_on_the_source_before_anything_was_copied_is_seen_by_the_next_start",
            "drop::what_others_put_into_a_schema_that_the_migration_made_stays_with_it",
            "operator::a_start_that_waits_for_an_open_transaction_says_for_whose",
            "moving::a_session_with_a_setting_whose_name_was_never_told_ends_visibly",
            "moving::each_session_that_a_switch_will_close_is_named_before_it_and_none_notices",
            "moving::what_may_hide_writes_from_the_log_is_kept_after_its_session_has_gone",
            "moving::every_statement_that_sets_a_custom_setting_moves_it_or_ends_its_session",
            "moving::statements_of_types_with_other_numbers_on_the_target_and_with_semicolons_in_literals_move",
            "moving::an_idle_session_whose_copy_failed_does_not_block_a_rehearsal",
            "moving::settings_of_the_applications_own_making_move_along",
            "transparency::a_notification_reaches_the_session_that_listens_and_no_other",
            "transparency::every_script_reads_the_same_on_the_newest_server",
            "transparency::the_process_id_that_a_client_is_told_is_the_servers",
        ],
    ),
    (
        "what only MySQL has: a greeting before the client speaks, packets of 16 MiB, cursors of the protocol, locked tables, XA, triggers and events that come with the switch, a fence that outlives its owner, schema changes in the log",
        &[
            "cutover::locked_tables_that_outlast_the_hold_undo_the_cutover_and_a_prepared_xa_transaction_refuses_it",
            "migration::a_changed_definition_of_a_table_stops_the_migration_with_a_remedy",
            "migration::events_run_on_one_side_only",
            "migration::every_row_fires_its_triggers_once_before_and_after_the_switch",
            "moving::a_begin_that_was_prepared_on_mariadb_goes_on_at_mysql",
            "moving::a_prepared_statement_keeps_its_parameters_types_and_the_pieces_that_were_sent",
            "moving::a_session_may_begin_anew_after_it_moved",
            "moving::a_session_with_an_open_cursor_ends_visibly_and_is_counted",
            "resume::a_kill_while_the_fence_is_raised_leaves_the_source_writable_after_the_restart",
            "transparency::bodies_of_sixteen_megabytes_and_more_are_the_same_in_both_directions",
            "cancel::the_list_of_sessions_has_the_servers_number_and_a_kill_takes_both",
            "transparency::the_greeting_is_the_servers_but_for_what_headgate_does_itself",
        ],
    ),
    (
        "MySQL's data plane without a program around it is shown in tests/tests/mysql_session.rs",
        &[
            "faults::a_source_that_stands_still_for_longer_than_an_undo_waits_shows_nobody_its_fence",
            "wary::what_the_fence_refuses_is_held_and_runs_once_it_is_down",
        ],
    ),
    (
        "PostgreSQL's users are those of the file, and MySQL's those of the cluster; MySQL's clients are offered encryption",
        &[
            "reload::a_certificate_that_is_replaced_is_served_and_one_that_does_not_fit_is_not",
            "reload::roles_that_could_not_come_through_are_named_until_the_file_has_them",
            "reload::a_user_that_is_added_logs_in_and_a_broken_file_changes_nothing",
        ],
    ),
    (
        "MySQL's clients ask more of a console: variables, several statements in one text, warnings",
        &[
            "console::clients_that_agreed_on_more_read_the_same_rows",
            "console::every_statement_has_the_columns_that_it_has_for_postgres",
            "console::odd_commands_do_not_end_the_session_or_end_it_alone",
            "console::several_statements_in_one_text_are_carried_out_one_by_one",
            "console::warnings_tell_an_error_and_its_remedy_once_more",
            "console::what_tools_ask_at_first_is_answered",
        ],
    ),
];

fn listed<'a>(lists: &[(&str, &[&'a str])]) -> BTreeSet<&'a str> {
    lists.iter().flat_map(|(_, all)| all.iter().copied()).collect()
}

/// The same place on the other engine's side, where the file is on one's.
fn counterpart(file: &str) -> Option<String> {
    let swap = |part: &str| match part {
        "postgres" => Some("mysql"),
        "mysql" => Some("postgres"),
        _ => None,
    };
    if let Some(name) = file.strip_prefix("migrator/tests/") {
        let (engine, rest) = name.split_once('_')?;
        return swap(engine).map(|other| format!("migrator/tests/{other}_{rest}"));
    }
    let (folder, name) = file.rsplit_once('/')?;
    let mut swapped = false;
    let parts: Vec<&str> = folder
        .split('/')
        .map(|part| {
            let other = swap(part);
            swapped |= other.is_some();
            other.unwrap_or(part)
        })
        .collect();
    swapped.then(|| format!("{}/{name}", parts.join("/")))
}

#[test]
fn every_file_of_one_engine_has_its_twin_or_a_reason() {
    let all: BTreeSet<String> = sources().into_iter().collect();
    let alone: BTreeSet<&String> =
        all.iter().filter(|file| counterpart(file).is_some_and(|twin| !all.contains(&twin))).collect();
    let excused = listed(FILES);
    check(
        "one engine has it, and nothing says why the other has not",
        alone.iter().filter(|file| !excused.contains(file.as_str())).map(|file| (*file).clone()),
    );
    check(
        "listed as alone, and is not",
        excused.iter().filter(|file| !alone.iter().any(|one| one.as_str() == **file)).map(|file| (*file).to_owned()),
    );
}

/// The names of the cases in one engine's folder: tests as they stand, and those that a macro makes for every pair or
/// server.
fn cases(engine: &str) -> BTreeSet<String> {
    let folder = format!("tests/tests/whole/{engine}/");
    let files = sources().into_iter().filter(|file| file.starts_with(&folder) && !file.ends_with("/mod.rs"));
    let mut names = BTreeSet::new();
    for file in files {
        let text = read(&file);
        let mut found = Vec::new();
        for part in text.split("#[tokio::test").skip(1) {
            let after = part.split("async fn ").nth(1).unwrap_or_default();
            found.extend(after.split('(').next());
        }
        for maker in ["for_every_pair! {", "on_every_server! {", "on_every_server!("] {
            for part in text.split(maker).skip(1) {
                let list = part.split(['}', ')']).next().unwrap_or_default();
                let words = list.split(|letter: char| letter == ',' || letter.is_whitespace());
                found.extend(words.filter(|word| !word.is_empty()));
            }
        }
        names.extend(found.iter().map(|name| format!("{}::{name}", stem(&file))));
    }
    names
}

fn stem(file: &str) -> String {
    let stem = Path::new(file).file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

#[test]
fn every_case_of_one_engine_is_shown_for_the_other_or_has_a_reason() {
    let (postgres, mysql) = (cases("postgres"), cases("mysql"));
    let alone: BTreeSet<&String> = postgres.symmetric_difference(&mysql).collect();
    let excused = listed(CASES);
    check(
        "one engine shows it, and nothing says why the other does not",
        alone.iter().filter(|case| !excused.contains(case.as_str())).map(|case| (*case).clone()),
    );
    check(
        "listed as shown for one engine alone, and is not",
        excused.iter().filter(|case| !alone.iter().any(|one| one.as_str() == **case)).map(|case| (*case).to_owned()),
    );
}
