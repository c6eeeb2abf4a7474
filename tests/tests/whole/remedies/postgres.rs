//! What is told on PostgreSQL, and the tests that run it.

use super::{Of, Shown, Table};

/// Between superusers: everything is wrong at once, each statement is run, both servers are restarted, nothing is left.
const EACH: &[&str] = &[
    "each_statement_of_a_precheck_from_14_to_18_ends_its_finding",
    "each_statement_of_a_precheck_from_15_to_18_ends_its_finding",
    "each_statement_of_a_precheck_from_18_to_18_ends_its_finding",
];
/// A role without any right is led to all that it needs, and no further.
const RIGHTS: &[&str] = &[
    "a_role_without_rights_is_told_each_that_it_needs_from_14_to_14",
    "a_role_without_rights_is_told_each_that_it_needs_from_14_to_15",
    "a_role_without_rights_is_told_each_that_it_needs_from_15_to_18",
    "a_role_without_rights_is_told_each_that_it_needs_from_18_to_18",
];
const READINESS: &[&str] = &["what_readiness_tells_to_run_ends_its_finding_on_14_15_and_18"];
/// Before version 15 the schema `public` is a superuser's.
const PUBLIC: &[&str] = &[
    "a_role_with_the_printed_rights_moves_from_14_to_18",
    "a_role_with_the_printed_rights_moves_from_14_to_15_where_not_everybody_may_create",
];
const DATABASE: &[&str] =
    &["a_migrator_that_may_not_read_passwords_or_use_origins_is_told_the_least_grant_that_ends_it"];

const OBJECTS: &[&str] =
    &[EACH[0], EACH[1], EACH[2], "a_follower_that_stopped_at_a_changed_table_goes_on_by_its_remedy"];

pub(super) const ROWS: Table = &[
    (Of::Finding("accounts"), Shown::By(EACH)),
    (Of::Finding("always_triggers"), Shown::By(EACH)),
    (Of::Finding("client_settings"), Shown::By(EACH)),
    (
        Of::Finding("collation"),
        Shown::Advice("the order of texts is what the target is to have; indexes are built anew for it"),
    ),
    (Of::Finding("constraint_rows"), Shown::By(EACH)),
    (Of::Finding("counters"), Shown::Advice("how far a column is widened is the application's to decide")),
    (Of::Finding("deadlock_timeout"), Shown::By(RIGHTS)),
    (Of::Finding("deferrable_key"), Shown::By(EACH)),
    (Of::Finding("direct_sessions"), Shown::By(READINESS)),
    (Of::Finding("encoding"), Shown::Advice("the target's database is named in the configuration")),
    (Of::Finding("event_triggers"), Shown::By(EACH)),
    (Of::Finding("expressions"), Shown::By(EACH)),
    (Of::Finding("extensions"), Shown::By(EACH)),
    (Of::Finding("foreign_tables"), Shown::Advice("what the target reaches is no matter of SQL")),
    (
        Of::Finding("idle_replication_slot_timeout"),
        Shown::By(&["each_statement_of_a_precheck_from_18_to_18_ends_its_finding"]),
    ),
    (Of::Finding("inheritance"), Shown::Advice("nothing is to be done")),
    (
        Of::Finding("large_objects"),
        Shown::Advice("whether their contents are moved or dropped is the application's to decide"),
    ),
    (Of::Finding("left_overs"), Shown::By(EACH)),
    (Of::Finding("long_transactions"), Shown::By(EACH)),
    (
        Of::Finding("materialized_views"),
        Shown::By(&["a_materialized_view_is_as_new_as_its_table_once_the_printed_statement_was_run"]),
    ),
    (Of::Finding("max_locks_per_transaction"), Shown::By(EACH)),
    (Of::Finding("max_replication_slots"), Shown::By(EACH)),
    (Of::Finding("max_slot_wal_keep_size"), Shown::By(EACH)),
    (Of::Finding("max_wal_senders"), Shown::By(EACH)),
    (Of::Finding("max_wal_size"), Shown::By(EACH)),
    (Of::Finding("partitioned_foreign"), Shown::Advice("what becomes of its rows is the application's to decide")),
    (Of::Finding("pg_dump"), Shown::Advice("a program of the machine that Headgate runs on")),
    (Of::Finding("pg_restore"), Shown::Advice("a program of the machine that Headgate runs on")),
    (Of::Finding("prepared_transactions"), Shown::By(EACH)),
    (Of::Finding("publications"), Shown::Advice("who subscribes to the target is not known here")),
    (Of::Finding("replica_identity"), Shown::By(EACH)),
    (Of::Finding("replica_identity_full"), Shown::Advice("nothing is to be done while the table is small")),
    (Of::Finding("replication_origins"), Shown::By(READINESS)),
    (Of::Finding("row_security"), Shown::By(RIGHTS)),
    (Of::Finding("rules"), Shown::By(EACH)),
    (Of::Finding("same_database"), Shown::Advice("the target is named in the configuration")),
    (Of::Finding("schema_trial"), Shown::By(RIGHTS)),
    (Of::Finding("schemas"), Shown::Advice("the schemas are named by CREATE MIGRATION")),
    (Of::Finding("source_objects"), Shown::Advice("the text tells why the check could not run")),
    (Of::Finding("source_origins"), Shown::By(RIGHTS)),
    (Of::Finding("source_passwords"), Shown::By(RIGHTS)),
    (Of::Finding("source_primary"), Shown::Advice("the cluster's address is in the configuration")),
    (Of::Finding("source_reachable"), Shown::By(RIGHTS)),
    (Of::Finding("source_rights"), Shown::By(RIGHTS)),
    (Of::Finding("source_sessions"), Shown::By(RIGHTS)),
    (Of::Finding("source_settings"), Shown::Advice("the text tells why the check could not run")),
    (Of::Finding("source_user_mappings"), Shown::By(RIGHTS)),
    (Of::Finding("source_version"), Shown::Advice("a server is upgraded by its own tools")),
    (
        Of::Finding("service_roles"),
        Shown::By(&["what_a_service_s_own_roles_have_is_named_and_does_not_break_the_schema_elsewhere"]),
    ),
    (Of::Finding("subscriptions"), Shown::By(EACH)),
    (Of::Finding("superuser_applications"), Shown::By(EACH)),
    (Of::Finding("tablespaces"), Shown::Advice("where files are to lie is not known here")),
    (Of::Finding("target_database"), Shown::By(RIGHTS)),
    (Of::Finding("target_objects"), Shown::By(OBJECTS)),
    (Of::Finding("target_others"), Shown::Advice("nothing is to be done")),
    (Of::Finding("target_passwords"), Shown::By(RIGHTS)),
    (Of::Finding("target_primary"), Shown::Advice("the cluster's address is in the configuration")),
    (Of::Finding("target_reachable"), Shown::Advice("address, password and pg_hba.conf are not reached by SQL")),
    (Of::Finding("target_origins"), Shown::By(RIGHTS)),
    (Of::Finding("target_rights"), Shown::By(RIGHTS)),
    (Of::Finding("target_roles"), Shown::By(RIGHTS)),
    (Of::Finding("target_row_security"), Shown::By(RIGHTS)),
    (Of::Finding("source_service"), Shown::Advice("it names who runs the server")),
    (Of::Finding("target_service"), Shown::Advice("it names who runs the server")),
    (Of::Finding("target_triggers"), Shown::By(&["no_printed_right_is_too_much_on_a_target_of_18"])),
    (Of::Finding("target_settings"), Shown::Advice("the text tells why the check could not run")),
    (Of::Finding("target_user_mappings"), Shown::By(RIGHTS)),
    (Of::Finding("target_version"), Shown::Advice("a server is upgraded by its own tools")),
    (Of::Finding("unlogged_tables"), Shown::By(EACH)),
    (Of::Finding("wal_level"), Shown::By(EACH)),
    (Of::Finding("source_way_back"), Shown::By(&["no_printed_right_is_too_much_on_a_source_of_15"])),
    (Of::Finding("target_way_back"), Shown::By(EACH)),
    (Of::Finding("writers"), Shown::By(READINESS)),
    (Of::Statement("ALTER ROLE {user} {word}"), Shown::By(RIGHTS)),
    (
        Of::Statement("CREATE ROLE {user} LOGIN PASSWORD"),
        Shown::By(&["a_role_with_the_printed_rights_moves_from_14_to_18"]),
    ),
    (Of::Statement("GRANT ALL ON SCHEMA {name}"), Shown::By(PUBLIC)),
    (Of::Statement("GRANT CREATE ON DATABASE {database}"), Shown::By(DATABASE)),
    (
        Of::Statement("GRANT USAGE ON SCHEMA headgate TO {user}"),
        Shown::By(&["a_mark_that_may_not_be_read_is_told_with_the_grants_that_let_us_look"]),
    ),
    (
        Of::Statement("GRANT SELECT ON headgate.switches TO {user}"),
        Shown::By(&["a_mark_that_may_not_be_read_is_told_with_the_grants_that_let_us_look"]),
    ),
    (Of::Statement("GRANT {group} TO {user} WITH ADMIN OPTION"), Shown::By(RIGHTS)),
    (Of::Statement("GRANT {privilege} ON PARAMETER"), Shown::By(RIGHTS)),
    (
        Of::Statement("RECOPY TABLE {"),
        Shown::By(&[
            "a_follower_that_stopped_at_a_foreign_write_goes_on_by_its_remedy",
            "a_follower_that_stopped_at_a_changed_table_goes_on_by_its_remedy",
        ]),
    ),
    (Of::Statement("REVOKE ALL ON SCHEMA {name}"), Shown::By(PUBLIC)),
    (
        Of::Finding("foreign_writes"),
        Shown::By(&["nobody_else_writes_to_the_target_before_the_switch_or_the_proof_is_void"]),
    ),
];
