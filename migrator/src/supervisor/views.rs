//! What the operator is shown of a migration, put together from memory and journal.

use std::time::Duration;

use tokio::time::timeout;

use super::migration::{Live, Migration};
use super::{CheckStatus, CutoverReport, Options, Outcome, State, Status, Summary, Verdict};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::preflight::{Check, Level};
use crate::progress::{Stage, TableProgress};

/// An open transaction older than this is likely to outlast a hold.
const LONG_TRANSACTION: Duration = Duration::from_secs(1);
/// How long the servers may take to tell who can log in.
const LOGINS_PATIENCE: Duration = Duration::from_secs(10);
/// Shown while the estimates say that all is there but the copy does not.
const ALMOST: f64 = 99.9;

impl<D: Database> Migration<D> {
    pub(super) fn summary(&self) -> Summary {
        let status = self.status();
        Summary {
            name: status.name,
            route: status.route,
            source: status.source,
            target: status.target,
            state: status.state,
            since: status.since,
            percent: status.percent,
            lag: status.lag,
            error: status.error,
        }
    }

    pub(super) fn status(&self) -> Status {
        let tables = self.progress.tables();
        let sum = |number: fn(&TableProgress) -> u64| tables.values().map(number).sum::<u64>();
        let (rows_copied, rows_estimated) = (
            sum(|table| table.rows_copied),
            sum(|table| table.rows_estimated),
        );
        let applied = self.follow.applied();
        let stage = self.stage.lock().clone();
        let checked = self.journal.check(self.name()).ok().flatten();
        let last = self
            .journal
            .cutover::<D::Position>(self.name())
            .ok()
            .flatten();
        let live = self.live();
        let follows = matches!(live.state, State::Following | State::Cutover);
        let percent = percent(&live, rows_copied, rows_estimated);
        let rows_per_second = rate(&live, rows_copied);
        let eta = rows_per_second.filter(|rate| *rate > 0.0).and_then(|rate| {
            Duration::try_from_secs_f64(as_f64(rows_estimated.saturating_sub(rows_copied)) / rate)
                .ok()
        });
        Status {
            name: self.definition.name.clone(),
            route: self.definition.route.clone(),
            source: self.definition.source.clone(),
            target: self.definition.target.clone(),
            state: live.state,
            since: live.since,
            stage: if stage.is_empty() {
                live.work.clone()
            } else {
                stage
            },
            tables: tables.len() as u64,
            tables_copied: sum(|table| u64::from(table.stage == Stage::Copied)),
            rows_copied,
            rows_estimated,
            bytes_copied: sum(|table| table.bytes_copied),
            bytes_estimated: sum(|table| table.bytes_estimated),
            percent,
            rows_per_second,
            eta,
            lag: applied.lag.filter(|_| follows),
            behind_bytes: applied.behind_bytes.filter(|_| follows),
            transactions_applied: self.progress.transactions_applied(),
            applied_position: applied.position.map(|position| position.to_string()),
            error: live.error.clone(),
            remedy: live.remedy.clone(),
            check_passed: checked.map(|check| check.verdict == Verdict::Passed),
            epoch: last.map_or(0, |(epoch, _)| epoch),
        }
    }

    pub(super) fn check_status(&self) -> Result<Option<CheckStatus>> {
        let Some(started) = self.live().check.as_ref().map(|check| check.started) else {
            return self.journal.check(self.name());
        };
        let tables = self.progress.tables();
        let sum = |number: fn(&TableProgress) -> u64| tables.values().map(number).sum::<u64>();
        Ok(Some(CheckStatus {
            verdict: Verdict::Running,
            started,
            finished: None,
            ranges: sum(|table| table.ranges),
            ranges_equal: sum(|table| table.ranges_equal),
            ranges_different: sum(|table| table.ranges_different),
            rows: 0,
            position: None,
            differing: Vec::new(),
            error: None,
        }))
    }

    /// The newest report; sessions go on moving after it was written, so these are counted again.
    pub(super) fn newest_report(&self) -> Result<Option<CutoverReport>> {
        let mut report = self.journal.report(self.name())?;
        if let Some(report) = &mut report {
            let here = self.live().switched_epoch == Some(report.epoch);
            if here && report.outcome == Outcome::Switched {
                report.handovers = self.traffic.handovers(&report.route)?;
            }
        }
        Ok(report)
    }

    pub(super) async fn readiness(&self) -> Result<Vec<Check>> {
        let options = Options::default();
        let mut checks = vec![
            finding(
                "state",
                self.following("be cut over")
                    .map(|()| "it follows".to_owned()),
            ),
            finding("follower", self.steady()),
            finding(
                "lag",
                self.predicted(options.max_hold)
                    .map(|lag| format!("{} ms", lag.as_millis())),
            ),
            self.proof_finding()?,
            self.transactions_finding()?,
        ];
        let asking = async { self.database()?.logins().await };
        let asked = timeout(LOGINS_PATIENCE, asking).await;
        match asked.unwrap_or_else(|_| Err(Error::transient("the servers did not tell in time"))) {
            Ok(found) => checks.extend(found),
            Err(error) => checks.push(finding("logins", Err(error))),
        }
        Ok(checks)
    }

    fn steady(&self) -> Result<String> {
        let live = self.live();
        match &live.error {
            None => Ok("nothing interrupts it".to_owned()),
            Some(error) => {
                let refused = Error::refused(error.clone());
                Err(match &live.remedy {
                    Some(remedy) => refused.remedy(remedy.clone()),
                    None => refused,
                })
            }
        }
    }

    fn proof_finding(&self) -> Result<Check> {
        let statement = format!("CHECK MIGRATION {}", self.name());
        Ok(match self.journal.check(self.name())? {
            Some(check) if check.verdict == Verdict::Passed => Check::ok(
                "proof",
                format!(
                    "{} rows in {} ranges were equal on both sides",
                    check.rows, check.ranges
                ),
            ),
            Some(check) => Check::new(
                "proof",
                Level::Error,
                format!(
                    "the last check ended as {} ({} ranges differ)",
                    check.verdict, check.ranges_different
                ),
                format!(
                    "look at SHOW MIGRATION CHECK STATUS {}; check again",
                    self.name()
                ),
                statement,
            ),
            None => Check::new(
                "proof",
                Level::Error,
                "no check was made yet",
                "make one",
                statement,
            ),
        })
    }

    fn transactions_finding(&self) -> Result<Check> {
        let open = self.traffic.open_transactions(&self.definition.route)?;
        let long: Vec<String> = open
            .iter()
            .filter(|one| one.age >= LONG_TRANSACTION)
            .map(|one| {
                format!(
                    "pid {} of user {} for {:.1} s",
                    one.pid,
                    one.user,
                    one.age.as_secs_f64()
                )
            })
            .collect();
        Ok(match long.as_slice() {
            [] => Check::ok(
                "transactions",
                format!("{} open, none for long", open.len()),
            ),
            long => Check::new(
                "transactions",
                Level::Warning,
                format!("{} are open for long: {}", long.len(), long.join(", ")),
                "a cutover waits for them and is undone if they outlast max_hold; let them end, or end them",
                "",
            ),
        })
    }
}

fn finding(name: &str, looked: Result<String>) -> Check {
    match looked {
        Ok(evidence) => Check::ok(name, evidence),
        Err(error) => {
            let remedy = error.remedy_text().unwrap_or_default();
            Check::new(name, Level::Error, error.full_text(), remedy, "")
        }
    }
}

fn percent(live: &Live, rows: u64, estimated: u64) -> f64 {
    if live.copied {
        100.0
    } else if estimated == 0 {
        0.0
    } else {
        (as_f64(rows) * 100.0 / as_f64(estimated)).min(ALMOST)
    }
}

fn rate(live: &Live, rows: u64) -> Option<f64> {
    let (begun, before) = live.copy_begun?;
    let seconds = begun.elapsed().as_secs_f64();
    (live.state == State::Copying && seconds > 0.0)
        .then(|| as_f64(rows.saturating_sub(before)) / seconds)
}

/// For ratios that people read; beyond 2^53 the last digits do not matter.
#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn as_f64(number: u64) -> f64 {
    number as f64
}
