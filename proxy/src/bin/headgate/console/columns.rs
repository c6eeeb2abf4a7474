//! The columns of every statement's answer, known before it is carried out.

use super::answer::Column;
use super::answer::Type::{Bool, Float, Int, Text, Time};
use crate::statement::{Constant, Statement};

/// The columns that a statement answers; none where it answers no rows.
pub(crate) fn of(statement: &Statement) -> &'static [Column] {
    match statement {
        Statement::ShowList => SUMMARY,
        Statement::ShowStatus(_) => STATUS,
        Statement::ShowTables(_) => TABLES,
        Statement::Precheck(_) | Statement::ShowChecks(_) | Statement::ShowReadiness(_) => CHECKS,
        Statement::ShowCheckStatus(_) => CHECK_STATUS,
        Statement::Rehearse(..) | Statement::Cutover(..) | Statement::Rollback(..) | Statement::ShowReport(_) => REPORT,
        Statement::ShowRoutes => ROUTES,
        Statement::ShowClusters => CLUSTERS,
        Statement::ShowSessions => SESSIONS,
        Statement::ShowConfig => &[("key", Text), ("value", Text)],
        Statement::ShowVersion | Statement::Select(Constant::Version) => &[("version", Text)],
        Statement::Help => &[("statement", Text), ("meaning", Text)],
        Statement::ShowSetting(_) => &[("setting", Text)],
        Statement::Select(Constant::One) => &[("?column?", Int)],
        Statement::Select(Constant::Database) => &[("current_database", Text)],
        Statement::Select(Constant::User) => &[("current_user", Text)],
        Statement::Create { .. }
        | Statement::Start(_)
        | Statement::Stop(_)
        | Statement::Check(_)
        | Statement::Finish { .. }
        | Statement::ClearMark { .. }
        | Statement::Recopy { .. }
        | Statement::Drop { .. }
        | Statement::Begin
        | Statement::End { .. }
        | Statement::Set
        | Statement::Later(_) => &[],
    }
}

const SUMMARY: &[Column] = &[
    ("id", Text),
    ("route", Text),
    ("source", Text),
    ("target", Text),
    ("state", Text),
    ("active", Bool),
    ("since", Time),
    ("inventory_finished_percentage", Float),
    ("lag_ms", Float),
    ("error_message", Text),
];

const STATUS: &[Column] = &[
    ("id", Text),
    ("route", Text),
    ("source", Text),
    ("target", Text),
    ("state", Text),
    ("active", Bool),
    ("stage", Text),
    ("since", Time),
    ("tables", Int),
    ("tables_copied", Int),
    ("processed_records_count", Int),
    ("estimated_records_count", Int),
    ("bytes_copied", Int),
    ("bytes_estimated", Int),
    ("inventory_finished_percentage", Float),
    ("rows_per_second", Float),
    ("remaining_seconds", Float),
    ("lag_ms", Float),
    ("behind_bytes", Int),
    ("transactions_applied", Int),
    ("applied_position", Text),
    ("check_passed", Bool),
    ("unproved_keys", Int),
    ("epoch", Int),
    ("interrupted_since", Time),
    ("error_message", Text),
    ("remedy", Text),
    ("way_back", Text),
    ("way_back_detail", Text),
    ("switch_proof", Text),
    ("switch_proof_detail", Text),
];

const TABLES: &[Column] = &[
    ("table", Text),
    ("stage", Text),
    ("processed_records_count", Int),
    ("estimated_records_count", Int),
    ("bytes_copied", Int),
    ("bytes_estimated", Int),
    ("changes_applied", Int),
    ("ranges_equal", Int),
    ("ranges_different", Int),
    ("ranges", Int),
];

const CHECKS: &[Column] = &[("check", Text), ("level", Text), ("evidence", Text), ("remedy", Text), ("fix", Text)];

const CHECK_STATUS: &[Column] = &[
    ("result", Text),
    ("finished_percentage", Float),
    ("ranges", Int),
    ("ranges_equal", Int),
    ("ranges_different", Int),
    ("rows", Int),
    ("position", Text),
    ("check_begin_time", Time),
    ("check_end_time", Time),
    ("duration_seconds", Float),
    ("differing", Text),
    ("error_message", Text),
    ("remedy", Text),
];

const REPORT: &[Column] = &[
    ("id", Text),
    ("route", Text),
    ("source", Text),
    ("target", Text),
    ("kind", Text),
    ("epoch", Int),
    ("outcome", Text),
    ("undone_at", Text),
    ("why", Text),
    ("remedy", Text),
    ("started", Time),
    ("max_hold_ms", Float),
    ("hold_ms", Float),
    ("gate_ms", Float),
    ("fence_ms", Float),
    ("catch_up_ms", Float),
    ("check_ms", Float),
    ("seal_ms", Float),
    ("switch_ms", Float),
    ("undo_ms", Float),
    ("statements_held", Int),
    ("hold_p50_ms", Float),
    ("hold_p99_ms", Float),
    ("hold_max_ms", Float),
    ("cancelled", Int),
    ("gone", Int),
    ("refused", Int),
    ("sessions_moved", Int),
    ("sessions_pending", Int),
    ("sessions_closed", Int),
    ("closed_reasons", Text),
    ("errors", Int),
    ("marker", Text),
    ("proved_ranges", Int),
    ("proved_rows", Int),
    ("proved_position", Text),
    ("proved_time", Time),
    ("counters", Int),
    ("check_waived", Bool),
    ("residue_keys", Int),
    ("residue_ms", Float),
    ("switch_proof", Text),
    ("switch_proof_detail", Text),
];

const ROUTES: &[Column] = &[
    ("route", Text),
    ("database", Text),
    ("cluster", Text),
    ("generation", Int),
    ("gate", Text),
    ("sessions", Int),
    ("statements_held", Int),
    ("admission", Text),
    ("reason", Text),
    ("remedy", Text),
];

const CLUSTERS: &[Column] = &[("cluster", Text), ("engine", Text), ("host", Text), ("port", Int), ("user", Text)];

const SESSIONS: &[Column] = &[
    ("id", Int),
    ("user", Text),
    ("route", Text),
    ("client", Text),
    ("application_name", Text),
    ("state", Text),
    ("cluster", Text),
    ("server_pid", Int),
    ("client_tls", Bool),
    ("server_tls", Bool),
    ("age_seconds", Float),
    ("transaction_seconds", Float),
];
