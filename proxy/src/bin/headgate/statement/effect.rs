//! What a statement changes, as the log tells it.

use super::Statement;

impl Statement {
    /// The statement as the log has it, where it changes something.
    pub(crate) fn effect(&self) -> Option<String> {
        let (words, name) = match self {
            Self::Create { name, source, target, .. } => {
                return Some(format!("CREATE MIGRATION {name} FROM {source} TO {target}"));
            }
            Self::ClearMark { cluster, route, give_up_switch } => {
                return Some(format!(
                    "CLEAR SWITCH MARK ON {cluster} FOR ROUTE {route} WITH (give_up_switch = {give_up_switch})"
                ));
            }
            Self::Rehearse(name, options) | Self::Cutover(name, options) | Self::Rollback(name, options) => {
                let words = match self {
                    Self::Rehearse(..) => "REHEARSE",
                    Self::Rollback(..) => "ROLLBACK",
                    _ => "CUTOVER",
                };
                let hold = options.max_hold.as_millis();
                return Some(format!(
                    "{words} MIGRATION {name} WITH (max_hold = '{hold}ms', waive_check = {}, waive_accounts = '{}', \
                     waive_sessions = {}, way_back = '{}', proof = '{}'{})",
                    options.waive_check,
                    options.waive_accounts.join(","),
                    options.waive_sessions,
                    if options.way_back { "armed" } else { "none" },
                    if options.proof_before { "before" } else { "after" },
                    options
                        .check_budget
                        .map_or_else(String::new, |budget| { format!(", check_budget = '{}ms'", budget.as_millis()) })
                ));
            }
            Self::Recopy { name, schema, table } => {
                let schema = schema.as_ref().map(|schema| format!("{schema}."));
                return Some(format!("RECOPY TABLE {}{table} OF MIGRATION {name}", schema.unwrap_or_default()));
            }
            Self::Precheck(name) => ("PRECHECK", name),
            Self::Start(name) => ("START", name),
            Self::Stop(name) => ("STOP", name),
            Self::Check(name) => ("CHECK", name),
            Self::Finish { name, waive_proof } => {
                return Some(format!("FINISH MIGRATION {name} WITH (waive_proof = {waive_proof})"));
            }
            Self::Drop { name, target_objects } => {
                let fate = if *target_objects { "drop" } else { "keep" };
                return Some(format!("DROP MIGRATION {name} WITH (target_objects = '{fate}')"));
            }
            Self::ShowList
            | Self::ShowStatus(_)
            | Self::ShowTables(_)
            | Self::ShowChecks(_)
            | Self::ShowCheckStatus(_)
            | Self::ShowReadiness(_)
            | Self::ShowReport(_)
            | Self::ShowRoutes
            | Self::ShowClusters
            | Self::ShowSessions
            | Self::ShowConfig
            | Self::ShowVersion
            | Self::ShowSetting(_)
            | Self::Help
            | Self::Begin
            | Self::End { .. }
            | Self::Set
            | Self::Select(_)
            | Self::Later(_) => return None,
        };
        Some(format!("{words} MIGRATION {name}"))
    }
}
