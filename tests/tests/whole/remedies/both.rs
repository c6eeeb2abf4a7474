//! What is told on both engines, and the tests that run it.

use super::{Of, Shown, Table};

/// Every statement that the console prints on the way of a migration, in the state that prints it.
const CONSOLE: &[&str] = &["each_statement_that_the_console_prints_goes_through_and_ends_what_it_was_printed_for"];
/// A migration that cannot go on is given up with all that it made, and made anew.
const ANEW: &[&str] = &["a_follower_that_stopped_at_a_changed_table_goes_on_by_its_remedy"];
/// What changed since the check and is not known is so until a check passes.
const UNKNOWN_CHANGES: &[&str] = &["what_changed_and_is_not_known_refuses_the_cutover_before_the_gate_closes"];

pub(super) const ROWS: Table = &[
    (Of::Finding("accounts"), Shown::Advice("each statement comes from the engine, whose table has it")),
    (Of::Finding("way_back"), Shown::By(CONSOLE)),
    (Of::Finding("configuration"), Shown::Advice("a line of the operator's own file")),
    (
        Of::Finding("configured_users"),
        Shown::Advice("a section of the operator's own file, with a password that only the operator knows"),
    ),
    (Of::Finding("decommissioning"), Shown::Advice("the old cluster is the operator's to shut down")),
    (Of::Finding("definitions"), Shown::By(CONSOLE)),
    (Of::Finding("follower"), Shown::Advice("it goes on by itself once the servers answer")),
    (
        Of::Finding("hidden_writes"),
        Shown::By(&[
            "a_session_that_may_have_written_past_the_log_voids_the_proof_until_it_has_ended_and_a_check_passed",
        ]),
    ),
    (Of::Finding("lag"), Shown::Advice("it passes with the load")),
    (Of::Finding("other_routes"), Shown::By(&["what_another_route_serves_is_not_cut_over_before_that_route_is_gone"])),
    (Of::Finding("proof"), Shown::By(CONSOLE)),
    (Of::Finding("ready"), Shown::By(CONSOLE)),
    (Of::Finding("refusal"), Shown::Advice("each statement comes from the engine, whose table has it")),
    (
        Of::Finding("sessions"),
        Shown::By(&["a_session_that_is_still_on_the_old_side_is_listed_and_moves_with_its_next_statement"]),
    ),
    (
        Of::Finding("switch_proof"),
        Shown::Advice("what a proof found is looked at on both sides, and no statement does that"),
    ),
    (Of::Finding("sessions_to_close"), Shown::Advice("what a session keeps is its application's to give up")),
    (Of::Finding("state"), Shown::By(CONSOLE)),
    (Of::Finding("statistics"), Shown::Advice("which views and statistics must be new only the application knows")),
    (Of::Finding("switch_mark"), Shown::By(&["without_its_journal_a_switched_route_is_not_served_from_the_source"])),
    (Of::Finding("transactions"), Shown::Advice("whose transactions are ended is the operator's to decide")),
    (Of::Finding("writers"), Shown::Advice("each statement comes from the engine, whose table has it")),
    (Of::Statement("CHECK MIGRATION {name}"), Shown::By(CONSOLE)),
    (Of::Statement("CHECK MIGRATION {migration}"), Shown::By(UNKNOWN_CHANGES)),
    (Of::Statement("CHECK MIGRATION {migration} when less is written"), Shown::By(UNKNOWN_CHANGES)),
    (
        Of::Statement("CHECK MIGRATION {migration} and try again"),
        Shown::By(&["what_does_not_fit_into_the_budget_undoes_the_cutover"]),
    ),
    (
        Of::Statement("CHECK MIGRATION {migration} compares everything"),
        Shown::By(&["a_row_that_differs_undoes_the_cutover_and_is_named"]),
    ),
    (Of::Statement("CREATE MIGRATION {name} FROM {cluster}"), Shown::By(CONSOLE)),
    (Of::Statement("CREATE MIGRATION … FROM … TO …"), Shown::By(CONSOLE)),
    (Of::Statement("CUTOVER MIGRATION {name}"), Shown::By(CONSOLE)),
    (Of::Statement("DROP MIGRATION {0} WITH (target_objects"), Shown::By(ANEW)),
    (Of::Statement("DROP MIGRATION {name} if"), Shown::By(CONSOLE)),
    (Of::Statement("DROP MIGRATION {name} to give it up"), Shown::By(CONSOLE)),
    (Of::Statement("DROP MIGRATION {name} without target_objects"), Shown::By(CONSOLE)),
    (Of::Statement("DROP MIGRATION {other} first"), Shown::By(CONSOLE)),
    (Of::Statement("FINISH MIGRATION {name} first"), Shown::By(CONSOLE)),
    (
        Of::Statement("FINISH MIGRATION {name} WITH (waive_proof=true)"),
        Shown::By(&[
            "a_fault_of_the_mover_that_nobody_saw_is_found_by_the_proof_of_the_switch_and_keeps_the_way_back_open",
        ]),
    ),
    (
        Of::Statement("START MIGRATION {0} goes on where it stopped"),
        Shown::By(&["a_failure_that_is_mended_ends_with_the_start_that_it_printed"]),
    ),
    (Of::Statement("START MIGRATION {name} copies"), Shown::By(CONSOLE)),
    (Of::Statement("START MIGRATION {name}"), Shown::By(CONSOLE)),
    (
        Of::Statement("START MIGRATION {} tries again"),
        Shown::By(&["a_fault_of_the_worker_stops_the_migration_and_the_start_that_is_printed_tries_again"]),
    ),
    (Of::Statement("STOP MIGRATION {name} first"), Shown::By(CONSOLE)),
    (Of::Statement("SHOW "), Shown::By(CONSOLE)),
    (Of::Statement("DROP MIGRATION {name}"), Shown::By(&["a_journal_from_before_the_switch_does_not_undo_it"])),
    (
        Of::Statement("FINISH MIGRATION {name} closes the way back"),
        Shown::By(&["finishing_leaves_nothing_on_either_side_but_the_refusal_and_its_mark"]),
    ),
    (
        Of::Statement("FINISH MIGRATION {name} gives the way back up"),
        Shown::By(&["a_lost_stream_is_seen_within_seconds_and_disturbs_no_client"]),
    ),
    (Of::Statement("CREATE MIGRATION … FROM {target} TO {} moves it back"), Shown::By(CONSOLE)),
    (Of::Statement("CREATE MIGRATION … FROM {serving} TO {other}"), Shown::By(CONSOLE)),
];
