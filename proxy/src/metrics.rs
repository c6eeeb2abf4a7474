//! Every metric and label name, once. Built in `main` and passed down; nothing here is global.
//!
//! The hot path never comes here: sessions report once when they end, and once per held statement.

use std::time::Duration;

use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// Pauses are told from 1 ms up to the half minute at which a hold ends by itself.
const HOLD_SECONDS: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

/// The counters of one process.
pub struct Metrics {
    registry: Registry,
    sessions: IntGaugeVec,
    sessions_total: IntCounterVec,
    logins_failed: IntCounterVec,
    refused: IntCounterVec,
    bytes: IntCounterVec,
    held_now: IntGaugeVec,
    held: IntCounterVec,
    hold_seconds: Histogram,
    handovers: IntCounterVec,
    cancels: IntCounterVec,
    panics: IntCounter,
    log_lines_lost: IntCounter,
    migration_state: GaugeVec,
    migration_rows: GaugeVec,
    migration_bytes: GaugeVec,
    migration_rows_estimated: GaugeVec,
    migration_lag: GaugeVec,
    migration_behind: GaugeVec,
    migration_transactions: IntCounterVec,
    migration_interrupted: GaugeVec,
    migration_check: GaugeVec,
    migration_way_back: GaugeVec,
    migration_way_back_lag: GaugeVec,
    cluster_up: GaugeVec,
    ready: IntGauge,
    started: Gauge,
}

/// What became of a held statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldEnd {
    /// It went on to the cluster that serves the route.
    Released,
    /// Its client cancelled it.
    Cancelled,
    /// Its client went away.
    Gone,
    /// It was held too long and refused.
    Refused,
}

/// One migration's numbers at the moment of a scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MigrationStats {
    /// The migration's name.
    pub name: String,
    /// Its state's word, as the console shows it.
    pub state: String,
    /// Rows loaded by the copy.
    pub rows_copied: u64,
    /// Rows that the catalogue expected when the plan was made.
    pub rows_estimated: u64,
    /// Bytes that went through the copy.
    pub bytes_copied: u64,
    /// Age of the newest applied heartbeat.
    pub lag: Option<Duration>,
    /// Bytes of the stream that are not applied yet.
    pub behind_bytes: Option<u64>,
    /// Transactions of the source applied since this process started.
    pub transactions_applied: u64,
    /// Nothing is copied or followed although it should be.
    pub interrupted: bool,
    /// The verdict of the last finished check.
    pub check_passed: Option<bool>,
    /// After a switch: whether going back loses nothing.
    pub way_back_lossless: Option<bool>,
    /// After a switch: how far the old side is behind.
    pub way_back_lag: Option<Duration>,
}

impl Metrics {
    /// Registers every metric.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            prometheus::Result::Ok(metric)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let metric = GaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            prometheus::Result::Ok(metric)
        };
        let int_gauges = |name: &str, help: &str| {
            let metric = IntGaugeVec::new(Opts::new(name, help), &["route"])?;
            registry.register(Box::new(metric.clone()))?;
            prometheus::Result::Ok(metric)
        };
        let buckets =
            HistogramOpts::new("headgate_hold_seconds", "How long statements were held at a closed gate, in seconds.")
                .buckets(HOLD_SECONDS.to_vec());
        let metrics = Self {
            sessions: int_gauges("headgate_sessions", "Client sessions that are logged in now.")?,
            sessions_total: counters("headgate_sessions_total", "Client sessions that logged in.", &["route"])?,
            logins_failed: counters("headgate_logins_failed_total", "Logins that failed, by reason.", &["reason"])?,
            refused: counters(
                "headgate_connections_refused_total",
                "Connections that were refused before a login, by reason.",
                &["reason"],
            )?,
            bytes: counters("headgate_bytes_total", "Bytes carried, by direction.", &["route", "direction"])?,
            held_now: int_gauges("headgate_held_statements", "Statements held at the gate now.")?,
            held: counters(
                "headgate_held_statements_total",
                "Statements that were held, by what became of them.",
                &["route", "end"],
            )?,
            hold_seconds: Histogram::with_opts(buckets)?,
            handovers: counters(
                "headgate_handovers_total",
                "Sessions that met a new generation of their route, by outcome.",
                &["route", "outcome"],
            )?,
            cancels: counters("headgate_cancel_requests_total", "Query cancel requests, by what they met.", &["met"])?,
            panics: IntCounter::new(
                "headgate_panics_total",
                "Sessions that ended because of a mistake in Headgate. Any is worth a report.",
            )?,
            log_lines_lost: IntCounter::new(
                "headgate_log_lines_lost_total",
                "Lines of the log that could not be written.",
            )?,
            migration_state: gauges(
                "headgate_migration_state",
                "1 for the state that the migration is in.",
                &["migration", "state"],
            )?,
            migration_rows: gauges("headgate_migration_rows_copied", "Rows loaded by the copy.", &["migration"])?,
            migration_bytes: gauges(
                "headgate_migration_bytes_copied",
                "Bytes that went through the copy.",
                &["migration"],
            )?,
            migration_rows_estimated: gauges(
                "headgate_migration_rows_estimated",
                "Rows that the source's catalogue expected when the plan was made.",
                &["migration"],
            )?,
            migration_lag: gauges(
                "headgate_migration_lag_seconds",
                "Age of the newest heartbeat that the target has applied.",
                &["migration"],
            )?,
            migration_behind: gauges(
                "headgate_migration_behind_bytes",
                "Bytes of the change stream that the target has not applied yet.",
                &["migration"],
            )?,
            migration_transactions: counters(
                "headgate_migration_transactions_applied_total",
                "Transactions of the source applied since Headgate started.",
                &["migration"],
            )?,
            migration_interrupted: gauges(
                "headgate_migration_interrupted",
                "1 while nothing is copied or followed although it should be.",
                &["migration"],
            )?,
            migration_check: gauges(
                "headgate_migration_check_passed",
                "1 where the last finished check found both sides equal, 0 where it did not.",
                &["migration"],
            )?,
            migration_way_back: gauges(
                "headgate_migration_way_back_lossless",
                "After a switch: 1 where going back loses nothing, 0 where it does.",
                &["migration"],
            )?,
            migration_way_back_lag: gauges(
                "headgate_migration_way_back_lag_seconds",
                "After a switch: age of the newest heartbeat that came back to the old side.",
                &["migration"],
            )?,
            cluster_up: gauges("headgate_cluster_up", "1 where the cluster answered within 3 seconds.", &["cluster"])?,
            ready: IntGauge::new("headgate_ready", "1 while new sessions are accepted.")?,
            started: Gauge::new("headgate_start_time_seconds", "When this process started, in seconds since 1970.")?,
            registry,
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.hold_seconds.clone()))?;
        registry.register(Box::new(metrics.panics.clone()))?;
        registry.register(Box::new(metrics.log_lines_lost.clone()))?;
        registry.register(Box::new(metrics.ready.clone()))?;
        registry.register(Box::new(metrics.started.clone()))?;
        Ok(metrics)
    }

    /// When the process started, as time since 1970.
    pub fn set_started(&self, since_1970: Duration) {
        self.started.set(since_1970.as_secs_f64());
    }

    /// Whether new sessions are accepted.
    pub fn set_ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    /// Whether new sessions are accepted.
    pub fn is_ready(&self) -> bool {
        self.ready.get() == 1
    }

    /// A session logged in.
    pub fn session_opened(&self, route: &str) {
        self.sessions.with_label_values(&[route]).inc();
        self.sessions_total.with_label_values(&[route]).inc();
    }

    /// A session that was counted as opened has ended.
    pub fn session_closed(&self, route: &str) {
        self.sessions.with_label_values(&[route]).dec();
    }

    /// So many bytes were carried: from the client, to the client.
    pub fn bytes_carried(&self, route: &str, (from_client, to_client): (u64, u64)) {
        for (direction, bytes) in [("from_client", from_client), ("to_client", to_client)] {
            self.bytes.with_label_values(&[route, direction]).inc_by(bytes);
        }
    }

    /// A login failed.
    pub fn login_failed(&self, reason: &'static str) {
        self.logins_failed.with_label_values(&[reason]).inc();
    }

    /// A connection was refused before any login.
    pub fn connection_refused(&self, reason: &'static str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// A statement begins to be held.
    pub fn hold_began(&self, route: &str) {
        self.held_now.with_label_values(&[route]).inc();
    }

    /// A statement that was counted as held is not any more.
    pub fn hold_ended(&self, route: &str, end: HoldEnd, lasted: Duration) {
        let word = match end {
            HoldEnd::Released => "released",
            HoldEnd::Cancelled => "cancelled",
            HoldEnd::Gone => "gone",
            HoldEnd::Refused => "refused",
        };
        self.held_now.with_label_values(&[route]).dec();
        self.held.with_label_values(&[route, word]).inc();
        self.hold_seconds.observe(lasted.as_secs_f64());
    }

    /// A session met a new generation of its route: `moved`, or the reason why it was closed.
    pub fn handover(&self, route: &str, outcome: &str) {
        self.handovers.with_label_values(&[route, outcome]).inc();
    }

    /// A cancel request came: `server` it went to, `held` statement, `unknown` key, or `failed`.
    pub fn cancel_request(&self, met: &'static str) {
        self.cancels.with_label_values(&[met]).inc();
    }

    /// A session's task panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// How many lines of the log could not be written so far.
    pub fn set_log_lines_lost(&self, lost: u64) {
        let more = lost.saturating_sub(self.log_lines_lost.get());
        self.log_lines_lost.inc_by(more);
    }

    /// Replaces the numbers of all migrations.
    pub fn set_migrations(&self, migrations: &[MigrationStats]) {
        for gauges in [
            &self.migration_state,
            &self.migration_rows,
            &self.migration_bytes,
            &self.migration_rows_estimated,
            &self.migration_lag,
            &self.migration_behind,
            &self.migration_interrupted,
            &self.migration_check,
            &self.migration_way_back,
            &self.migration_way_back_lag,
        ] {
            gauges.reset();
        }
        self.migration_transactions.reset();
        for numbers in migrations {
            let name = [numbers.name.as_str()];
            let set = |gauges: &GaugeVec, value: u64| {
                gauges.with_label_values(&name).set(approximate(value));
            };
            let state = [numbers.name.as_str(), numbers.state.as_str()];
            self.migration_state.with_label_values(&state).set(1.0);
            set(&self.migration_rows, numbers.rows_copied);
            set(&self.migration_bytes, numbers.bytes_copied);
            set(&self.migration_rows_estimated, numbers.rows_estimated);
            self.migration_transactions.with_label_values(&name).inc_by(numbers.transactions_applied);
            set(&self.migration_interrupted, u64::from(numbers.interrupted));
            if let Some(passed) = numbers.check_passed {
                set(&self.migration_check, u64::from(passed));
            }
            if let Some(lossless) = numbers.way_back_lossless {
                set(&self.migration_way_back, u64::from(lossless));
            }
            if let Some(lag) = numbers.way_back_lag {
                self.migration_way_back_lag.with_label_values(&name).set(lag.as_secs_f64());
            }
            if let Some(lag) = numbers.lag {
                self.migration_lag.with_label_values(&name).set(lag.as_secs_f64());
            }
            if let Some(behind) = numbers.behind_bytes {
                set(&self.migration_behind, behind);
            }
        }
    }

    /// Which clusters answer.
    pub fn set_clusters_up(&self, clusters: &[(&str, bool)]) {
        for (cluster, up) in clusters {
            self.cluster_up.with_label_values(&[*cluster]).set(if *up { 1.0 } else { 0.0 });
        }
    }

    /// Everything in prometheus' text format.
    pub fn render(&self) -> prometheus::Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

/// Prometheus knows floating point numbers only.
#[allow(clippy::cast_precision_loss, reason = "a gauge for people; 53 bits are enough")]
fn approximate(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::{HoldEnd, Metrics, MigrationStats};
    use std::time::Duration;

    #[test]
    fn what_is_counted_is_rendered_and_a_dropped_migration_disappears() {
        let metrics = Metrics::new().expect("unique names");
        metrics.session_opened("shop");
        metrics.hold_began("shop");
        metrics.hold_ended("shop", HoldEnd::Released, Duration::from_millis(7));
        let numbers = MigrationStats {
            name: "m".to_owned(),
            state: "copying".to_owned(),
            rows_copied: 12,
            transactions_applied: 7,
            ..MigrationStats::default()
        };
        metrics.set_migrations(&[numbers]);
        let text = metrics.render().expect("text");
        for line in [
            "headgate_sessions{route=\"shop\"} 1",
            "headgate_held_statements{route=\"shop\"} 0",
            "headgate_held_statements_total{end=\"released\",route=\"shop\"} 1",
            "headgate_hold_seconds_bucket{le=\"0.01\"} 1",
            "headgate_hold_seconds_bucket{le=\"0.005\"} 0",
            "headgate_migration_state{migration=\"m\",state=\"copying\"} 1",
            "headgate_migration_rows_copied{migration=\"m\"} 12",
            "# TYPE headgate_migration_transactions_applied_total counter",
            "headgate_migration_transactions_applied_total{migration=\"m\"} 7",
        ] {
            assert!(text.lines().any(|have| have == line), "no {line} in\n{text}");
        }
        metrics.set_migrations(&[]);
        assert!(!metrics.render().expect("text").contains("migration=\"m\""));
    }
}
