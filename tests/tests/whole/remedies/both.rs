//! What is told on both engines, and the tests that run it.

use super::{Of, Shown, Table};

/// Every statement that the console prints on the way of a migration, in the state that prints it.
const CONSOLE: &[&str] =
    &["each_statement_that_the_console_prints_goes_through_and_ends_what_it_was_printed_for"];
/// A migration that cannot go on is given up with all that it made, and made anew.
const ANEW: &[&str] = &["a_follower_that_stopped_at_a_changed_table_goes_on_by_its_remedy"];

/// How many rows are open; it may only become less.
pub(super) const OPEN_MAX: usize = 8;

pub(super) const ROWS: Table = &[
    (
        Of::Finding("accounts"),
        Shown::Advice("each statement comes from the engine, whose table has it"),
    ),
    (Of::Finding("change_stream"), Shown::By(CONSOLE)),
    (
        Of::Finding("configuration"),
        Shown::Advice("a line of the operator's own file"),
    ),
    (
        Of::Finding("configured_users"),
        Shown::Advice(
            "a section of the operator's own file, with a password that only the operator knows",
        ),
    ),
    (
        Of::Finding("decommissioning"),
        Shown::Advice("the old cluster is the operator's to shut down"),
    ),
    (Of::Finding("definitions"), Shown::By(CONSOLE)),
    (
        Of::Finding("follower"),
        Shown::Advice("it goes on by itself once the servers answer"),
    ),
    (Of::Finding("hidden_writes"), Shown::Open),
    (Of::Finding("lag"), Shown::Advice("it passes with the load")),
    (
        Of::Finding("other_routes"),
        Shown::By(&["what_another_route_serves_is_not_cut_over_before_that_route_is_gone"]),
    ),
    (Of::Finding("proof"), Shown::By(CONSOLE)),
    (Of::Finding("ready"), Shown::By(CONSOLE)),
    (
        Of::Finding("refusal"),
        Shown::Advice("each statement comes from the engine, whose table has it"),
    ),
    (Of::Finding("sessions"), Shown::Open),
    (
        Of::Finding("sessions_to_close"),
        Shown::Advice("what a session keeps is its application's to give up"),
    ),
    (Of::Finding("state"), Shown::By(CONSOLE)),
    (
        Of::Finding("statistics"),
        Shown::Advice("which views and statistics must be new only the application knows"),
    ),
    (
        Of::Finding("switch_mark"),
        Shown::By(&["without_its_journal_a_switched_route_is_not_served_from_the_source"]),
    ),
    (
        Of::Finding("transactions"),
        Shown::Advice("whose transactions are ended is the operator's to decide"),
    ),
    (
        Of::Finding("writers"),
        Shown::Advice("each statement comes from the engine, whose table has it"),
    ),
    (Of::Statement("CHECK MIGRATION {name}"), Shown::By(CONSOLE)),
    (
        Of::Statement("CREATE MIGRATION {name} FROM {cluster}"),
        Shown::Open,
    ),
    (
        Of::Statement("CREATE MIGRATION … FROM … TO …"),
        Shown::By(CONSOLE),
    ),
    (
        Of::Statement("CUTOVER MIGRATION {name} WITH (waive_check=true)"),
        Shown::By(CONSOLE),
    ),
    (
        Of::Statement("CUTOVER MIGRATION {name} WITH (waive_sessions=true)"),
        Shown::Open,
    ),
    (
        Of::Statement("CUTOVER MIGRATION {name}"),
        Shown::By(CONSOLE),
    ),
    (
        Of::Statement("DROP MIGRATION {0} WITH (target_objects"),
        Shown::By(ANEW),
    ),
    (
        Of::Statement("DROP MIGRATION {name} if"),
        Shown::By(CONSOLE),
    ),
    (
        Of::Statement("DROP MIGRATION {name} to give it up"),
        Shown::By(CONSOLE),
    ),
    (
        Of::Statement("DROP MIGRATION {name} without target_objects"),
        Shown::Open,
    ),
    (
        Of::Statement("DROP MIGRATION {other} first"),
        Shown::By(CONSOLE),
    ),
    (
        Of::Statement("FINISH MIGRATION {name} first"),
        Shown::By(CONSOLE),
    ),
    (
        Of::Statement("START MIGRATION {0} goes on where it stopped"),
        Shown::Open,
    ),
    (
        Of::Statement("START MIGRATION {name} copies"),
        Shown::By(CONSOLE),
    ),
    (Of::Statement("START MIGRATION {name}"), Shown::By(CONSOLE)),
    (Of::Statement("START MIGRATION {} tries again"), Shown::Open),
    (
        Of::Statement("STOP MIGRATION {name} first"),
        Shown::By(CONSOLE),
    ),
    (Of::Statement("SHOW "), Shown::By(CONSOLE)),
    (Of::Statement("DROP MIGRATION {name}"), Shown::Open),
];
