//! The leg that comes after a switch: armed before the gate closes, begun by the switch, and followed behind what serves.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::migration::{Migration, Worker};
use crate::backoff::Backoff;
use crate::database::{Database, Kept};
use crate::error::{Error, Kind, Result};
use crate::model::definitions::named;
use crate::model::leg::Leg;
use crate::model::report;
use crate::model::status::{State, WayBack};

/// Slots are created and a marker goes the whole way; only a server that is silent takes longer.
const ARM_TIMEOUT: Duration = Duration::from_mins(2);
const RETIRE_TIMEOUT: Duration = Duration::from_secs(20);
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(10);
/// What it costs is looked at so often.
const COST_EVERY: Duration = Duration::from_secs(5);
const COST_TIMEOUT: Duration = Duration::from_secs(10);

impl<D: Database> Migration<D> {
    /// Arms the leg that the switch would begin. Where that cannot be, nothing of it is left, and the gate stays open.
    pub(super) async fn arm(&self, kind: report::Kind) -> Result<D> {
        let next = self.leg().next();
        self.shown.stage.lock().replace_range(.., "arming the way back");
        let armed = self.try_to_arm(next).await;
        self.shown.stage.lock().clear();
        let error = match armed {
            Ok(database) => return Ok(database),
            Err(error) => error,
        };
        self.disarm().await;
        let waive = format!(
            "{} MIGRATION {} WITH (way_back = 'none') goes without: what is written after a switch is lost when \
             one goes back",
            kind.statement(),
            self.name()
        );
        let remedy = error.remedy_text().map_or_else(|| waive.clone(), |remedy| format!("{remedy}; or {waive}"));
        Err(Error::refused(format!("the way back cannot be armed: {}", error.full_text())).remedy(remedy))
    }

    async fn try_to_arm(&self, next: Leg) -> Result<D> {
        let late = || Error::transient("arming the way back did not end");
        let database = self.database_for(next)?;
        let plan = timeout(ARM_TIMEOUT, database.plan()).await.map_err(|_| late())??;
        let running = self.live().plan.clone().unwrap_or_default();
        let plan = plan.shared_with(&running);
        let lacking = running.lacking_in(&plan);
        if !lacking.is_empty() {
            let (_, target) = self.ends();
            return Err(Error::refused(format!("{target} lacks {}", named(&lacking)))
                .remedy("create there what the source has, and check again"));
        }
        self.journal.begin_arming(self.name(), next, &plan).await?;
        let token = format!("{}-arm-{:016x}", next.key(self.name()), rand::random::<u64>());
        timeout(ARM_TIMEOUT, database.arm(&plan, &token)).await.map_err(|_| late())??;
        self.journal.armed(self.name(), next).await?;
        Ok(database)
    }

    /// Takes back what arming has made, where no switch came. What cannot be taken back now is at the next attempt.
    pub(super) async fn disarm(&self) {
        let next = self.leg().next();
        match self.journal.leg(self.name(), next) {
            Ok(Some(record)) if record.begun.is_none() => {}
            _ => return,
        }
        let outcome = async {
            let database = self.database_for(next)?;
            timeout(RETIRE_TIMEOUT, database.clean_up())
                .await
                .unwrap_or_else(|_| Err(Error::transient("it was not removed in time")))?;
            self.journal.disarmed(self.name(), next).await
        };
        if let Err(error) = outcome.await {
            tracing::warn!(
                migration = self.name(), leg = next.number(), %error,
                "what was made for a way back that is not needed could not be removed; it is tried again"
            );
        }
    }

    async fn retire(&self, leg: Leg) -> Result<()> {
        let database = self.database_for(leg)?;
        timeout(RETIRE_TIMEOUT, database.retire())
            .await
            .unwrap_or_else(|_| Err(Error::transient("a stream that is not needed any more was not removed in time")))
    }

    /// Removes the stream of a leg that is over; says whether that is done.
    async fn retired(&self, over: Leg) -> bool {
        let Err(error) = self.retire(over).await else {
            return true;
        };
        tracing::warn!(
            migration = self.name(), leg = over.number(), %error,
            "the stream of the leg that is over is not removed yet; it is tried again"
        );
        false
    }

    /// Does what follows the last switch until all of it is done, behind all else. Done again, it changes nothing.
    async fn complete_switch(&self, mut completed: bool) {
        let Some(over) = self.switched_leg().filter(|_| !completed) else {
            return;
        };
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        let mut retired = false;
        loop {
            if !completed
                && let Ok(conductor) = self.completing(over)
                && let Ok(Some((epoch, _))) = self.journal.cutover::<D::Position>(self.name())
            {
                completed = conductor.complete(epoch).await;
            }
            retired = retired || self.retired(over).await;
            if completed && retired {
                return;
            }
            sleep(backoff.step()).await;
        }
    }

    /// Keeps the refusal on the side that does not serve up, and completes the switch that led to it.
    pub(super) async fn look_after_switch(&self, completed: bool, stop: &CancellationToken) {
        let looking = async { tokio::join!(self.complete_switch(completed), self.guard()) };
        stop.run_until_cancelled(looking).await;
    }

    /// The leg whose switch was the last; `None` before the first.
    pub(super) fn switched_leg(&self) -> Option<Leg> {
        let (leg, state) = (self.leg(), self.live().state);
        match (leg.is_way_back(), state) {
            (true, State::RolledBack) | (false, State::Switched | State::Finished) => Some(leg),
            _ => leg.before(),
        }
    }

    /// Goes over to the leg that the switch has begun, or to none. The caller holds the right to work on the migration.
    pub(super) async fn go_over(self: &Arc<Self>, completed: bool) {
        self.halt().await;
        let over = self.leg();
        let retired = self.retired(over).await;
        let next = over.next();
        let begun = matches!(self.journal.leg(self.name(), next), Ok(Some(record)) if record.begun.is_some());
        let plan = self.journal.leg_plan(self.name(), next).ok().flatten();
        if begun && let Some(plan) = plan {
            self.begin_leg(next);
            let mut live = self.live();
            live.plan = Some(Arc::new(plan));
            live.differences.clear();
            live.enter(if next.is_way_back() { State::Switched } else { State::Following });
        } else {
            self.live().enter(if over.is_way_back() { State::RolledBack } else { State::Switched });
        }
        self.run_on(completed && retired);
    }

    /// Starts what runs in the state in which the migration is; `completed` says whether what follows its last switch is
    /// done.
    pub(super) fn run_on(self: &Arc<Self>, completed: bool) {
        let (state, leg) = (self.live().state, self.leg());
        match state {
            State::Copying | State::Following => {
                self.live().way_back = WayBack::None;
                self.spawn_worker(completed);
            }
            State::Switched if leg.is_way_back() => self.spawn_way_back(completed),
            State::Switched | State::RolledBack => {
                self.live().way_back = WayBack::Waived;
                self.spawn_guard(completed);
            }
            State::Created | State::Prechecked | State::Cutover | State::Finished | State::Stopped | State::Failed => {}
        }
    }

    /// Takes a way back up again that could not go on, if it is one.
    pub(super) async fn take_up_way_back(self: &Arc<Self>) -> Result<bool> {
        if !self.leg().is_way_back() || !matches!(self.live().way_back, WayBack::Lost { .. }) {
            return Ok(false);
        }
        self.halt().await;
        self.journal.set_lost(self.name(), self.leg(), None).await?;
        self.spawn_way_back(true);
        Ok(true)
    }

    /// Removes what all legs have left on both sides, the latest first.
    pub(super) async fn clean_up(&self) -> Result<()> {
        self.clean_up_later().await?;
        self.database_for(Leg::FIRST)?.clean_up().await
    }

    /// The same of all but the first.
    pub(super) async fn clean_up_later(&self) -> Result<()> {
        let mut leg = self.leg().next();
        while let Some(before) = leg.before() {
            if self.journal.leg(self.name(), leg)?.is_some() {
                self.database_for(leg)?.clean_up().await?;
            }
            leg = before;
        }
        Ok(())
    }

    /// Brings back what is written on the cluster that serves, in a task of its own, and keeps the refusal on the other up.
    pub(super) fn spawn_way_back(self: &Arc<Self>, completed: bool) {
        let stop = CancellationToken::new();
        let (migration, stopped) = (Arc::clone(self), stop.clone());
        let task = tokio::spawn(async move {
            tokio::join!(migration.come_back(&stopped), migration.look_after_switch(completed, &stopped));
        });
        self.live().worker = Some(Worker { stop, task });
    }

    async fn come_back(&self, stop: &CancellationToken) {
        let record = self.journal.leg(self.name(), self.leg()).ok().flatten();
        let since = record.as_ref().and_then(|record| record.begun).unwrap_or_else(SystemTime::now);
        if let Some((since, why, remedy)) = record.and_then(|record| record.lost) {
            self.live().way_back = WayBack::Lost { since, why, remedy: remedy.unwrap_or_default() };
            return;
        }
        self.live().way_back = WayBack::Lossless { since, lag: None, cost: String::new(), interrupted: None };
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        loop {
            let attempt = AssertUnwindSafe(self.attempt_back(stop, &mut backoff)).catch_unwind().await;
            if stop.is_cancelled() {
                return;
            }
            let error = match attempt {
                Ok(Ok(())) => Error::transient("the follower ended without being asked to"),
                Ok(Err(error)) => error,
                Err(_) => Error::fatal("the follower met a fault of its own; the log has it"),
            };
            if error.kind() != Kind::Transient {
                self.lose_way_back(&error).await;
                return;
            }
            self.follow().report_interrupted(&error.full_text());
            if let WayBack::Lossless { interrupted, .. } = &mut self.live().way_back {
                *interrupted = Some(error.full_text());
            }
            let pause = backoff.step();
            tracing::warn!(migration = self.name(), %error, retry_ms = pause.as_millis(), "the way back is interrupted");
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    async fn attempt_back(&self, stop: &CancellationToken, backoff: &mut Backoff) -> Result<()> {
        let database = self.database()?;
        let plan = self.live().plan.clone().ok_or_else(|| Error::fatal("there is no plan of what comes back"))?;
        let (follow, progress) = (self.follow(), Arc::clone(&self.progress));
        let following = async {
            tokio::select! {
                outcome = database.follow(&plan, follow, progress, stop.clone()) => outcome,
                never = self.watch_definitions(&database, &plan) => match never {},
                never = self.reverify(&database, &plan) => match never {},
                lost = self.watch_cost(&database) => Err(lost),
            }
        };
        self.observed(following, backoff).await
    }

    /// What is written from here on does not come back. The application is not disturbed.
    async fn lose_way_back(&self, error: &Error) {
        let (name, (serving, other)) = (self.name(), self.ends());
        // The engine speaks of this leg's source, which serves, and of its target.
        let why = error.full_text().replace("the source", serving).replace("the target", other);
        let remedy = format!(
            "mend what the text names, then START MIGRATION {name} goes on where it stopped; where that cannot be mended, \
             FINISH MIGRATION {name} gives the way back up, and CREATE MIGRATION … FROM {serving} TO {other} copies anew"
        );
        tracing::error!(migration = name, why, remedy, "going back is not lossless any more");
        let lost = Error::fatal(why.clone()).remedy(remedy.clone());
        if let Err(error) = self.journal.set_lost(name, self.leg(), Some(&lost)).await {
            tracing::error!(migration = name, %error, "that the way back is lost was not journalled");
        }
        self.live().way_back = WayBack::Lost { since: SystemTime::now(), why, remedy };
    }

    /// Keeps up to date what the way back costs; ends where its source has not kept what it needs.
    async fn watch_cost(&self, database: &D) -> Error {
        let mut before: Option<(Instant, u64)> = None;
        loop {
            match timeout(COST_TIMEOUT, database.kept()).await {
                Ok(Ok(kept)) => {
                    let now = Instant::now();
                    let grown = before.and_then(|(at, bytes)| {
                        let seconds = now.duration_since(at).as_secs();
                        kept.bytes.saturating_sub(bytes).checked_div(seconds)
                    });
                    let (serving, _) = self.ends();
                    let text = cost_text(serving, &kept, grown.unwrap_or_default());
                    if let WayBack::Lossless { cost, .. } = &mut self.live().way_back {
                        *cost = text;
                    }
                    before.get_or_insert((now, kept.bytes));
                }
                Ok(Err(error)) if error.kind() != Kind::Transient => return error,
                // The follower reports a server that does not answer.
                Ok(Err(_)) | Err(_) => {}
            }
            sleep(COST_EVERY).await;
        }
    }
}

/// What it costs, in words, at so many bytes more per second.
fn cost_text(cluster: &str, kept: &Kept, per_second: u64) -> String {
    const MIB: u64 = 1 << 20;
    let left = kept.bytes_max.map(|most| most.saturating_sub(kept.bytes));
    let more = match (left, left.and_then(|left| left.checked_div(per_second))) {
        (Some(left), Some(seconds)) => {
            format!(" and may keep {} MiB more, {seconds} s at the present rate", left / MIB)
        }
        (Some(left), None) => format!(" and may keep {} MiB more", left / MIB),
        (None, _) if kept.time_max.is_none() => " and lets it grow up to its disk".to_owned(),
        (None, _) => String::new(),
    };
    let most = kept.time_max.map(|most| format!(", for {} h at most", most.as_secs() / 3600));
    format!("{cluster} keeps {} MiB of its log for it{more}{}", kept.bytes / MIB, most.unwrap_or_default())
}
