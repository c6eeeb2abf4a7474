//! Turns what both planes know into rows; each function's values stand in the order of its columns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use migrator::model::progress::{Stage, TableProgress};
use migrator::model::report::{CutoverReport, Outcome};
use migrator::model::status::{CheckStatus, State, Status, Summary};
use migrator::model::switch_proof::SwitchProof;
use migrator::preflight::Check;
use proxy::admission::Admission;
use proxy::config::Cluster;
use proxy::data_plane::DataPlane;
use proxy::gate_state::State as Gate;
use proxy::registry::Activity;
use proxy::route::Route;

use super::answer::{Value, millis, time_text};
use crate::reload::Loaded;
use crate::statement::FORMS;

type Row = Vec<Value>;

macro_rules! row {
    ($($value:expr),* $(,)?) => { vec![$(Value::from($value)),*] };
}

fn is_active(state: State) -> bool {
    matches!(state, State::Copying | State::Following | State::Cutover)
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}

pub(super) fn summary(summary: Summary) -> Row {
    row![
        summary.name,
        summary.route,
        summary.source,
        summary.target,
        summary.state.name(),
        is_active(summary.state),
        summary.since,
        round(summary.percent),
        summary.lag.map(millis),
        summary.error,
    ]
}

pub(super) fn status(status: Status) -> Row {
    row![
        status.name,
        status.route,
        status.source,
        status.target,
        status.state.name(),
        is_active(status.state),
        status.stage,
        status.since,
        status.tables,
        status.tables_copied,
        status.rows_copied,
        status.rows_estimated,
        status.bytes_copied,
        status.bytes_estimated,
        round(status.percent),
        status.rows_per_second.map(round),
        status.eta.map(seconds),
        status.lag.map(millis),
        status.behind_bytes,
        status.transactions_applied,
        status.applied_position,
        status.check_passed,
        status.unproved_keys,
        status.epoch,
        status.interrupted,
        status.error,
        status.remedy,
        status.way_back.name(),
        status.way_back.to_string(),
        status.switch_proof.as_ref().map(SwitchProof::name),
        status.switch_proof.map(|proof| proof.to_string()),
    ]
}

pub(super) fn table((name, table): (String, TableProgress)) -> Row {
    let stage = match table.stage {
        Stage::Waiting => "waiting",
        Stage::Copying => "copying",
        Stage::Indexing => "indexing",
        Stage::Copied => "copied",
    };
    row![
        name,
        stage,
        table.rows_copied,
        table.rows_estimated,
        table.bytes_copied,
        table.bytes_estimated,
        table.changes_applied,
        table.ranges_equal,
        table.ranges_different,
        table.ranges,
    ]
}

pub(super) fn checks(mut checks: Vec<Check>) -> Vec<Row> {
    // What sums up comes first.
    checks.sort_by_key(|check| (check.name != "ready", std::cmp::Reverse(check.level)));
    let row = |check: Check| row![check.name, check.level.as_str(), check.evidence, check.remedy, check.fix];
    checks.into_iter().map(row).collect()
}

pub(super) fn check_status(status: CheckStatus) -> Row {
    let end = status.finished.unwrap_or_else(std::time::SystemTime::now);
    let lasted = end.duration_since(status.started).unwrap_or_default();
    row![
        status.verdict.name(),
        percent(status.ranges_equal.saturating_add(status.ranges_different), status.ranges),
        status.ranges,
        status.ranges_equal,
        status.ranges_different,
        status.rows,
        status.position,
        status.started,
        status.finished,
        seconds(lasted),
        status.differing.join("; "),
        status.error,
        status.remedy,
    ]
}

#[allow(clippy::cast_precision_loss, reason = "a percentage for people")]
fn percent(done: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { round(done as f64 * 100.0 / all as f64) }
}

pub(super) fn report(report: &CutoverReport) -> Row {
    let (at, why, remedy) = match &report.outcome {
        Outcome::Undone { at, why, remedy } => (Some(at.clone()), Some(why.clone()), remedy.clone()),
        Outcome::Switched | Outcome::Rehearsed => (None, None, None),
    };
    let closed = &report.handovers.closed;
    let reasons = closed.iter().map(|(reason, count)| format!("{reason}: {count}"));
    let reasons = reasons.collect::<Vec<_>>().join(", ");
    row![
        report.migration.clone(),
        report.route.clone(),
        report.source.clone(),
        report.target.clone(),
        report.kind.name(),
        report.epoch,
        report.outcome.name(),
        at,
        why,
        remedy,
        report.started,
        millis(report.max_hold),
        millis(report.hold),
        millis(report.steps.gate),
        millis(report.steps.fence),
        millis(report.steps.catch_up),
        millis(report.steps.check),
        millis(report.steps.seal),
        millis(report.steps.switch),
        millis(report.steps.undo),
        report.holds.held,
        millis(report.holds.p50),
        millis(report.holds.p99),
        millis(report.holds.max),
        report.holds.cancelled,
        report.holds.gone,
        report.holds.refused,
        report.handovers.moved,
        report.handovers.pending,
        closed.values().sum::<u64>(),
        reasons,
        report.errors(),
        report.marker.clone(),
        report.proved.ranges,
        report.proved.rows,
        report.proved.position.clone(),
        report.proved.finished,
        report.proved.counters,
        report.check_waived,
        report.residual.map(|residual| residual.keys),
        report.residual.map(|residual| millis(residual.took)),
        report.switch_proof.as_ref().map(SwitchProof::name),
        report.switch_proof.as_ref().map(ToString::to_string),
    ]
}

/// The routes of the configuration; then that of every other name, with the sessions of all of them, and those of them
/// that are not simply let in.
pub(super) fn routes(plane: &DataPlane) -> Vec<Row> {
    let mut rows: Vec<Row> = plane.routes.routes().iter().map(|one| route(one)).collect();
    if let Some(cluster) = plane.routes.default_cluster() {
        let others = plane.routes.others();
        let here = || others.iter().filter(|route| plane.routes.route(&route.name).is_none());
        rows.push(row![
            "*",
            "*",
            cluster.name.clone(),
            1_u64,
            "open",
            here().map(|route| route.sessions()).sum::<u64>(),
            here().map(|route| route.gate.in_line()).sum::<u64>(),
            // Names at which something was found stand below.
            "open",
            None::<String>,
            None::<String>,
        ]);
        let reported = |one: &&Arc<Route>| !matches!(one.door.admission(), Admission::Open);
        rows.extend(here().filter(reported).map(|one| route(one)));
    }
    rows
}

fn route(route: &Route) -> Row {
    let destination = route.destination();
    let gate = match route.gate.look().state() {
        Gate::Open => "open",
        Gate::Wary => "wary",
        Gate::Closing => "closing",
        Gate::Closed => "closed",
    };
    let (admission, reason, remedy) = match route.door.admission() {
        Admission::Open => ("open", None, None),
        Admission::Looking(met) => ("not looked at yet", met, None),
        Admission::Unseen { why, remedy } => ("unknown", Some(why), Some(remedy)),
        Admission::Refused { why, remedy } => ("refused", Some(why), Some(remedy)),
    };
    let text = |text: Option<Arc<str>>| text.map(|text| String::from(&*text));
    row![
        route.name.clone(),
        route.database.clone(),
        destination.cluster.name.clone(),
        destination.generation,
        gate,
        route.sessions(),
        route.gate.in_line(),
        admission,
        text(reason),
        text(remedy),
    ]
}

pub(super) fn cluster((name, cluster): (&String, &Cluster)) -> Row {
    row![name.clone(), cluster.engine.word(), cluster.host.clone(), cluster.port, cluster.user.clone()]
}

pub(super) fn sessions(plane: &DataPlane) -> Vec<Row> {
    let mut open = BTreeMap::new();
    for route in plane.routes.routes().iter().chain(&plane.routes.others()) {
        for inside in route.gate.inside() {
            open.insert((route.name.clone(), inside.ticket), inside.age);
        }
    }
    let sessions = plane.registry.snapshot().into_iter();
    sessions
        .map(|session| {
            let transaction = open.get(&(session.route.clone(), session.ticket)).copied();
            let state = match (session.activity, transaction) {
                (Activity::Serving, Some(_)) => "in transaction",
                (Activity::Serving, None) => "idle",
                (activity, _) => activity.word(),
            };
            row![
                session.id,
                session.user,
                session.route,
                session.client.to_string(),
                session.application,
                state,
                session.cluster,
                session.server_pid,
                session.client_tls,
                session.server_tls,
                seconds(session.age),
                transaction.map(seconds),
            ]
        })
        .collect()
}

/// The configuration, where a cutover has overruled it, and how it came to count.
pub(super) fn config(loaded: &Loaded, plane: &DataPlane) -> Vec<Row> {
    let config = &loaded.config;
    let overruled = |key: &str| {
        let name = key.strip_prefix("routes.")?.strip_suffix(".cluster")?;
        let route = plane.routes.route(name)?;
        let now = route.destination().cluster.name.clone();
        (config.routes.get(name)?.cluster != now).then_some(now)
    };
    let entry = |(key, value): (String, String)| {
        let waits = loaded.waiting.contains(&key);
        let note = match overruled(&key) {
            Some(now) => {
                format!(" (a cutover moved the route to {now}, which overrules this)")
            }
            None if waits => " (the file has another value, which needs a restart)".to_owned(),
            None => String::new(),
        };
        row![key, format!("{value}{note}")]
    };
    let file = loaded.file.as_ref();
    let refused = loaded.refused.as_ref();
    let refused = refused.map(|(at, why)| format!("{}: {why}", time_text(*at)));
    let about = [
        ("file", file.map(|file| file.display().to_string())),
        ("file.loaded", Some(time_text(loaded.since))),
        ("file.reload_error", refused),
    ];
    let about = about.map(|(key, value)| row![key, value.unwrap_or_default()]);
    let entries = config.entries().into_iter().map(entry);
    about.into_iter().chain(entries).collect()
}

pub(crate) fn help() -> Vec<Row> {
    FORMS.iter().map(|form| row![form.text.as_str(), form.meaning]).collect()
}
