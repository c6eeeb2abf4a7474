//! What is told on both engines, and the tests that run it.

use super::{Of, Shown, Table};

/// How many rows are open; it may only become less.
pub(super) const OPEN_MAX: usize = 32;

pub(super) const ROWS: Table = &[
    (Of::Finding("accounts"), Shown::Open),
    (Of::Finding("change_stream"), Shown::Open),
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
    (Of::Finding("definitions"), Shown::Open),
    (Of::Finding("follower"), Shown::Open),
    (Of::Finding("hidden_writes"), Shown::Open),
    (Of::Finding("lag"), Shown::Open),
    (Of::Finding("proof"), Shown::Open),
    (Of::Finding("ready"), Shown::Open),
    (Of::Finding("refusal"), Shown::Open),
    (Of::Finding("sessions"), Shown::Open),
    (Of::Finding("sessions_to_close"), Shown::Open),
    (Of::Finding("state"), Shown::Open),
    (
        Of::Finding("statistics"),
        Shown::Advice("which views and statistics must be new only the application knows"),
    ),
    (
        Of::Finding("switch_mark"),
        Shown::By(&["without_its_journal_a_switched_route_is_not_served_from_the_source"]),
    ),
    (Of::Finding("transactions"), Shown::Open),
    (Of::Finding("writers"), Shown::Open),
    (Of::Statement("CHECK MIGRATION {name}"), Shown::Open),
    (
        Of::Statement("CREATE MIGRATION {name} FROM {cluster} TO …"),
        Shown::Open,
    ),
    (
        Of::Statement("CREATE MIGRATION … FROM … TO … makes one"),
        Shown::Open,
    ),
    (
        Of::Statement("CUTOVER MIGRATION {name} WITH (waive_check=true)"),
        Shown::Open,
    ),
    (
        Of::Statement("CUTOVER MIGRATION {name} WITH (waive_sessions=true)"),
        Shown::Open,
    ),
    (Of::Statement("CUTOVER MIGRATION {name}"), Shown::Open),
    (
        Of::Statement("DROP MIGRATION {0} and begin again"),
        Shown::Open,
    ),
    (
        Of::Statement("DROP MIGRATION {name} if that one is not needed any more"),
        Shown::Open,
    ),
    (
        Of::Statement("DROP MIGRATION {name} to give it up"),
        Shown::Open,
    ),
    (
        Of::Statement("DROP MIGRATION {name} without target_objects"),
        Shown::Open,
    ),
    (Of::Statement("DROP MIGRATION {other} first"), Shown::Open),
    (Of::Statement("FINISH MIGRATION {name} first"), Shown::Open),
    (
        Of::Statement("START MIGRATION {0} goes on where it stopped"),
        Shown::Open,
    ),
    (
        Of::Statement("START MIGRATION {name} copies all tables"),
        Shown::Open,
    ),
    (Of::Statement("START MIGRATION {name}"), Shown::Open),
    (Of::Statement("START MIGRATION {} tries again"), Shown::Open),
    (Of::Statement("STOP MIGRATION {name} first"), Shown::Open),
    (Of::Statement("SHOW "), Shown::Open),
];
