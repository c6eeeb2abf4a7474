//! What the operator is shown of a migration, put together from memory and journal.

use std::time::{Duration, SystemTime};

use tokio::time::timeout;

use super::migration::{Live, Migration};
use super::next_steps::summed_up;
use crate::accounts;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::model::definition::Options;
use crate::model::definitions::named;
use crate::model::progress::{Stage, TableProgress};
use crate::model::report::{CutoverReport, Outcome};
use crate::model::status::{CheckStatus, State, Status, Summary, Verdict, WayBack};
use crate::preflight::{Check, Level};

/// An open transaction older than this is likely to outlast a hold.
const LONG_TRANSACTION: Duration = Duration::from_secs(1);
/// How long the servers may take to answer one question of the readiness.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// What ends a difference of definitions.
pub(super) const DEFINITIONS_REMEDY: &str = "run on the target the statement that was run on the source, or undo it on the source; \
     then check again; where a table's rows changed with it, RECOPY TABLE … takes it anew";
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
        let (rows_copied, rows_estimated) = (sum(|table| table.rows_copied), sum(|table| table.rows_estimated));
        let applied = self.follow().applied();
        let unproved = self.follow().residue().count().ok().and_then(|count| u64::try_from(count).ok());
        let waits_for = self.database().ok().and_then(|database| database.waits_for());
        let stage = self.shown.stage.lock().clone();
        let trouble = self.shown.trouble();
        let checked = self.journal.leg_check(self.name()).ok().flatten();
        let last = self.journal.cutover::<D::Position>(self.name()).ok().flatten();
        let switch_proof = self.switch_proof().ok().flatten();
        let live = self.live();
        let follows = matches!(live.state, State::Following | State::Cutover);
        let way_back = way_back(&live, applied.lag);
        let silence = applied.silence().filter(|_| follows);
        let interrupted =
            live.interrupted.or_else(|| silence.and_then(|silence| SystemTime::now().checked_sub(silence)));
        let (error, remedy) = match (trouble, &live.error, silence) {
            (Some((text, remedy)), _, _) => (Some(text), remedy),
            (None, Some(error), _) => (Some(error.clone()), live.remedy.clone()),
            (None, None, Some(silence)) => (
                Some(format!("nothing was heard of the source or applied on the target for {} s", silence.as_secs())),
                Some("look whether both clusters answer; it goes on by itself".to_owned()),
            ),
            (None, None, None) if follows && !live.differences.is_empty() => (
                Some(format!("the definitions of both sides differ: {}", named(&live.differences))),
                Some(DEFINITIONS_REMEDY.to_owned()),
            ),
            (None, None, None) => (None, None),
        };
        let percent = percent(&live, rows_copied, rows_estimated);
        let rows_per_second = rate(&live, rows_copied);
        let eta = rows_per_second.filter(|rate| *rate > 0.0).and_then(|rate| {
            Duration::try_from_secs_f64(as_f64(rows_estimated.saturating_sub(rows_copied)) / rate).ok()
        });
        Status {
            name: self.definition.name.clone(),
            route: self.definition.route.clone(),
            source: self.definition.source.clone(),
            target: self.definition.target.clone(),
            state: live.state,
            since: live.since,
            stage: match (stage.is_empty(), waits_for) {
                (false, _) => stage,
                (true, Some(whom)) if !live.work.is_empty() && !live.retrying => {
                    format!("{}; waits for open transactions: {whom}", live.work)
                }
                (true, _) => live.work.clone(),
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
            error,
            remedy,
            interrupted,
            way_back,
            check_passed: checked.map(|check| check.verdict == Verdict::Passed),
            unproved_keys: unproved,
            epoch: last.map_or(0, |(epoch, _)| epoch),
            switch_proof,
        }
    }

    pub(super) fn check_status(&self) -> Result<Option<CheckStatus>> {
        let Some(started) = self.live().check.as_ref().map(|check| check.started) else {
            let mut last = self.journal.check(self.name())?;
            if let Some(last) = &mut last {
                let recopy = self.recopy_remedy()?;
                last.remedy = recopy.map(|recopy| format!("{recopy}; then CHECK MIGRATION {}", self.name()));
            }
            return Ok(last);
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
            remedy: None,
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
            let proof = self.switch_proof()?;
            report.switch_proof = proof.filter(|proof| proof.epoch == report.epoch);
        }
        Ok(report)
    }

    /// What stands between now and a cutover; once switched, what is left to do. The first line sums it up.
    pub(super) async fn readiness(&self) -> Result<Vec<Check>> {
        let state = self.live().state;
        let checks = match state {
            State::Switched | State::Finished | State::RolledBack => {
                let mut steps = self.next_steps()?;
                let over = self.switched_leg().unwrap_or_default();
                let state = async |_: &D| self.database_for(over)?.fence_state().await;
                steps.extend(self.asked("refusal", state).await);
                steps
            }
            _ => self.obstacles().await?,
        };
        let all = std::iter::once(summed_up(self.name(), state, &checks));
        Ok(all.chain(checks).collect())
    }

    async fn obstacles(&self) -> Result<Vec<Check>> {
        let options = Options::default();
        let mut checks = vec![finding("state", self.following("be cut over").map(|()| "it follows".to_owned()))];
        if self.live().state == State::Following {
            checks.extend([
                finding("follower", self.steady()),
                finding("lag", self.predicted(options.max_hold).map(|lag| format!("{} ms", lag.as_millis()))),
            ]);
        }
        checks.extend([self.proof_finding()?, self.transactions_finding()?]);
        let (accounts, writers, definitions) = tokio::join!(
            self.asked("accounts", async |database: &D| {
                database.ready_accounts().await?;
                Ok(accounts::findings(&database.accounts().await?, &[]))
            }),
            self.asked("writers", async |database: &D| {
                let gated_backends = || self.traffic.gated_backends(&self.definition.route);
                database.writers(&gated_backends).await
            }),
            self.asked("definitions", async |database: &D| { self.definitions_findings(database).await }),
        );
        checks.extend(accounts.into_iter().chain(writers).chain(definitions));
        checks.extend([self.hidden_writes_finding()?, self.other_routes_finding()?]);
        checks.extend(self.sessions_findings().await?);
        Ok(checks)
    }

    /// What the servers answer in time; that they do not is a finding of its own.
    async fn asked(&self, name: &str, ask: impl AsyncFnOnce(&D) -> Result<Vec<Check>>) -> Vec<Check> {
        let asking = async { ask(&self.database()?).await };
        let asked = timeout(ASK_TIMEOUT, asking).await;
        let asked =
            asked.unwrap_or_else(|_| Err(Error::transient("it cannot be known: the servers did not answer in time")));
        asked.unwrap_or_else(|error| vec![finding(name, Err(error))])
    }

    /// Whether both sides are defined alike, and as they were when they were proved.
    async fn definitions_findings(&self, database: &D) -> Result<Vec<Check>> {
        const NAME: &str = "definitions";
        let Some(plan) = self.live().plan.clone() else {
            return Ok(Vec::new());
        };
        let now = database.definitions(&plan).await?;
        let error =
            |evidence: String, remedy: &str, fix: String| vec![Check::new(NAME, Level::Error, evidence, remedy, fix)];
        if !now.differences.is_empty() {
            return Ok(error(
                format!("both sides differ: {}", named(&now.differences)),
                DEFINITIONS_REMEDY,
                String::new(),
            ));
        }
        let changes = match self.journal.fingerprint(self.name())? {
            Some(proved) => proved.changes(&now.fingerprint),
            None => Vec::new(),
        };
        if !changes.is_empty() {
            return Ok(error(
                format!("changed since the last check: {}", named(&changes)),
                "check again: the proof was about other definitions",
                format!("CHECK MIGRATION {}", self.name()),
            ));
        }
        let objects = now.fingerprint.source.len();
        Ok(vec![Check::ok(NAME, format!("{objects} definitions are the same on both sides"))])
    }

    fn steady(&self) -> Result<String> {
        self.uninterrupted()?;
        if let Some(silence) = self.follow().applied().silence() {
            return Err(Error::refused(format!(
                "nothing was heard of the source or applied on the target for {} s",
                silence.as_secs()
            ))
            .remedy("look whether both clusters answer; it goes on by itself"));
        }
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
        if self.live().check.is_some() {
            return Ok(Check::new(
                "proof",
                Level::Error,
                "a check is under way",
                "wait for its end",
                format!("SHOW MIGRATION CHECK STATUS {}", self.name()),
            ));
        }
        Ok(match self.journal.leg_check(self.name())? {
            Some(check) if check.verdict == Verdict::Passed => Check::ok(
                "proof",
                format!(
                    "{} rows in {} ranges, and the definitions, were equal on both sides at {}, {} s ago",
                    check.rows,
                    check.ranges,
                    check.position.unwrap_or_default(),
                    check.finished.and_then(|finished| finished.elapsed().ok()).unwrap_or_default().as_secs()
                ),
            ),
            Some(check) => Check::new(
                "proof",
                Level::Error,
                format!("the last check ended as {} ({} ranges differ)", check.verdict, check.ranges_different),
                match self.recopy_remedy()? {
                    Some(recopy) => format!("{recopy}; then check again"),
                    None => format!("look at SHOW MIGRATION CHECK STATUS {}; check again", self.name()),
                },
                statement,
            ),
            None => Check::new("proof", Level::Error, "no check was made yet", "make one", statement),
        })
    }

    fn transactions_finding(&self) -> Result<Check> {
        let open = self.traffic.open_transactions(&self.definition.route)?;
        let long: Vec<String> = open
            .iter()
            .filter(|one| one.age >= LONG_TRANSACTION)
            .map(|one| format!("pid {} of user {} for {:.1} s", one.pid, one.user, one.age.as_secs_f64()))
            .collect();
        Ok(match long.as_slice() {
            [] => Check::ok("transactions", format!("{} open, none for long", open.len())),
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

/// The way back as it is known at this moment.
fn way_back(live: &Live, applied: Option<Duration>) -> WayBack {
    match (&live.way_back, live.differences_since) {
        (WayBack::Lossless { .. }, Some(since)) => WayBack::Lost {
            since,
            why: format!("the definitions of both sides differ: {}", named(&live.differences)),
            remedy: "run on the other cluster the statement that was run on the one that serves, or undo it there"
                .to_owned(),
        },
        (WayBack::Lossless { since, cost, interrupted, .. }, None) => {
            WayBack::Lossless { since: *since, lag: applied, cost: cost.clone(), interrupted: interrupted.clone() }
        }
        (other, _) => other.clone(),
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
    (live.state == State::Copying && seconds > 0.0).then(|| as_f64(rows.saturating_sub(before)) / seconds)
}

/// For ratios that people read; beyond 2^53 the last digits do not matter.
#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn as_f64(number: u64) -> f64 {
    number as f64
}
