//! Runs the effect of a cutover's state with its deadline, turns the outcome into an event, and journals what follows.
//!
//! A state is durable before its effect starts. Two rules make that safe when the journal itself fails: a state before
//! the decision that cannot be written is undone, as is a decision that is known not to be on the disk; and while a
//! failed decision may be on the disk all the same, nothing is undone before the undo is durable.

mod effects;
#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::backoff::Backoff;
use crate::cutover::{Cutover, Event, Failure, UndoReason};
use crate::database::{Counters, Fencing, KeyComparison, NextLeg, SwitchSnapshots};
use crate::error::{Error, Kind as Failing, Result};
use crate::failpoint;
use crate::follow::Follow;
use crate::journal::{Journal, Unwritten};
use crate::model::leg::Leg;
use crate::model::mark::Stage;
use crate::model::plan::Plan;
use crate::model::report::{Kind, Outcome, Residual, Steps};
use crate::other_routes;
use crate::residue::proof_before::ProofBefore;
use crate::switch_proof::Held;
use crate::traffic::Traffic;

/// What the cutovers of one leg of a migration work with.
pub(crate) struct Conductor<D: Fencing + Counters + KeyComparison + NextLeg + SwitchSnapshots> {
    pub(crate) name: String,
    pub(crate) leg: Leg,
    pub(crate) route: String,
    /// The clusters as this leg has them.
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) database: D,
    /// The next leg, where it is armed: it begins with the switch.
    pub(crate) next: Option<D>,
    /// What proves the switch afterwards.
    pub(crate) snapshots: Held<D>,
    /// What is compared before the switch, where that was asked for.
    pub(crate) proof_before: Option<ProofBefore<D>>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) follow: Follow<D::Position>,
    pub(crate) journal: Journal,
    pub(crate) traffic: Arc<dyn Traffic>,
    /// What the operator is shown while something is under way.
    pub(crate) shown: Arc<Shown>,
}

/// What the operator is shown of a cutover that is under way.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// The current state's name; empty while nothing is under way.
    pub(crate) stage: Mutex<String>,
    /// What keeps it from going on: text and remedy.
    trouble: Mutex<Option<(String, Option<String>)>>,
    /// All is done but the record of it, which cannot be written.
    pub(crate) unrecorded: watch::Sender<bool>,
}

impl Shown {
    /// What keeps it from going on, and what the operator can do.
    pub(crate) fn trouble(&self) -> Option<(String, Option<String>)> {
        self.trouble.lock().clone()
    }

    fn meet(&self, trouble: Option<&Error>) {
        *self.trouble.lock() = trouble.map(|error| {
            let remedy = error.remedy_text().map(ToOwned::to_owned);
            (error.full_text(), remedy)
        });
    }
}

/// What happened, for the report.
#[derive(Debug)]
pub(crate) struct CutoverRun {
    pub(crate) epoch: u64,
    pub(crate) outcome: Outcome,
    pub(crate) started: SystemTime,
    pub(crate) hold: Duration,
    pub(crate) steps: Steps,
    pub(crate) marker: Option<String>,
    pub(crate) counters: u64,
    /// What was compared before the decision.
    pub(crate) residual: Option<Residual>,
    /// All that follows a switch is done, too.
    pub(crate) completed: bool,
    /// Why it acted no more: a later cutover has left its mark, which is another process's.
    pub(crate) superseded: Option<Error>,
}

/// A cutover that is under way.
struct Run<'a, D: Fencing + Counters + KeyComparison + NextLeg + SwitchSnapshots> {
    conductor: &'a Conductor<D>,
    kind: Kind,
    epoch: u64,
    started: SystemTime,
    limits: Limits,
    /// When the last step ended; the next one's time counts from here, so that the steps add up to the hold.
    mark: Instant,
    steps: Steps,
    hold: Option<Duration>,
    fence: Fence<D::Fence>,
    marker: Option<String>,
    counters: u64,
    residual: Option<Residual>,
    /// A write of the decision was tried, and may be on the disk.
    decided: bool,
    /// All that follows a switch is done.
    completed: bool,
    /// Why it acts no more.
    superseded: Option<Error>,
}

/// When what must have ended.
struct Limits {
    closed: Instant,
    max_hold: Duration,
}

/// What is known about the barrier and the refusal on the source.
enum Fence<F> {
    /// Nothing was done there.
    Untouched,
    /// The barrier is up; nothing of it is durable.
    Raised(F),
    /// Anything may be there: only lifting it makes sure.
    Unknown,
}

/// What remains of the hold for steps after the gate is quiet, at most.
const AFTER_QUIET_MAX: Duration = Duration::from_millis(500);
/// What remains of the hold for the undo, at most.
const UNDO_MAX: Duration = Duration::from_millis(100);
/// A journal that stalls longer than this does not keep the gate closed while the undo may go on without it.
const UNDO_RECORD_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the end of an undo is tried to be recorded. Without it a restart finds the undo, and nothing to undo.
const END_RECORD_TIMEOUT: Duration = Duration::from_secs(2);
/// A write that nobody may give up is told of after this, or at the end of the hold, and then every so often.
const WRITE_TIMEOUT: Duration = Duration::from_millis(500);
const WRITE_TOLD_EVERY: Duration = Duration::from_secs(5);
/// A server that is silent for longer is away.
const MARKS_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

impl Limits {
    fn new(max_hold: Duration) -> Self {
        Self { closed: Instant::now(), max_hold }
    }

    /// The gate must be quiet by then, so that the rest still fits.
    fn quiet_by(&self) -> Instant {
        self.closed + self.max_hold.saturating_sub(AFTER_QUIET_MAX.min(self.max_hold / 4))
    }

    /// Everything up to the decision must have ended by then, so that the undo still fits.
    fn decide_by(&self) -> Instant {
        self.closed + self.max_hold.saturating_sub(UNDO_MAX.min(self.max_hold / 10))
    }
}

impl<D: Fencing + Counters + KeyComparison + NextLeg + SwitchSnapshots> Conductor<D> {
    /// Runs a cutover or a rehearsal from the request to its end. Fails only where nothing was done.
    pub(crate) async fn run(&self, kind: Kind, max_hold: Duration) -> Result<CutoverRun> {
        let last = self.journal.cutover::<D::Position>(&self.name)?;
        if last.is_some_and(|(_, state)| !matches!(state, Cutover::Following | Cutover::Switched)) {
            // Its end was not recorded.
            self.settle().await?;
        }
        let begun = Cutover::Following.next(Event::Requested).map_err(broken)?;
        let epoch = self.journal.enter(&self.name, &begun).await?;
        let run = Run::new(self, kind, epoch, max_hold, Fence::Untouched);
        Ok(run.drive(begun).await)
    }

    /// Waits for a write that may still land, whatever it takes, and tells the operator what everybody waits for.
    async fn waited_for<T>(
        &self,
        state: &Cutover<D::Position>,
        hold_ends: Instant,
        write: impl Future<Output = T>,
    ) -> T {
        tokio::pin!(write);
        let begun = Instant::now();
        let mut tell_at = hold_ends.max(begun + WRITE_TIMEOUT);
        loop {
            if let Ok(written) = timeout_at(tell_at, &mut write).await {
                return written;
            }
            let waited = begun.elapsed().as_secs();
            let what = match state {
                Cutover::Switching => "the decision to switch",
                _ => "a record of the cutover",
            };
            let error = Error::transient(format!(
                "{what} has been on its way to the journal's disk for {waited} s, and may be there already: until the disk \
                 answers it can be neither carried out nor undone, and the gate stays closed"
            ))
            .remedy(
                "make the disk of the journal's folder answer: it goes on by itself then; or kill Headgate, and start it \
                 where this folder can be read: it does what the journal says",
            );
            self.shown.meet(Some(&error));
            tracing::error!(migration = self.name, state = state.name(), %error, "the journal's disk does not answer");
            tell_at = Instant::now() + WRITE_TOLD_EVERY;
        }
    }

    /// Refuses where another gate lets clients into what moves.
    pub(crate) fn refuse_other_routes(&self) -> Result<()> {
        let databases = self.database.databases();
        other_routes::refuse(&*self.traffic, &self.route, &self.source, &databases)
    }

    /// Refuses to undo what the source says was decided: this journal is older than that, as a copy that was restored is.
    pub(crate) async fn refuse_overtaken(&self) -> Result<()> {
        let asked = timeout(MARKS_TIMEOUT, self.database.marks()).await;
        let asked = asked.unwrap_or_else(|_| Err(Error::transient("the source did not show its marks in time")));
        let marks = match asked {
            Ok(marks) => marks,
            Err(error) if error.kind() == Failing::Transient => return Err(error),
            Err(error) => {
                tracing::warn!(
                    migration = self.name, %error,
                    "it cannot be known whether the source was switched away from meanwhile"
                );
                return Ok(());
            }
        };
        for mark in marks.iter().filter(|mark| mark.migration == self.name) {
            if mark.stage == Stage::Switched || !self.journal.knows(mark)? {
                let (name, route, target) = (&self.name, &self.route, &self.target);
                return Err(Error::refused(format!(
                    "this journal is older than the switch, and must not undo it: {}",
                    mark.evidence(&self.source)
                ))
                .remedy(format!(
                    "restore the newest journal of this Headgate and restart; or DROP MIGRATION {name}, then write \
                     cluster = \"{target}\" into [routes.{route}] and reload (SIGHUP)"
                )));
            }
        }
        Ok(())
    }

    /// After a restart, or after a run that broke off: undoes or finishes what the journal says was under way. What
    /// follows a switch is done again: nothing says whether it was done.
    pub(crate) async fn settle(&self) -> Result<Option<CutoverRun>> {
        let Some((epoch, last)) = self.journal.cutover::<D::Position>(&self.name)? else {
            return Ok(None);
        };
        let state = last.clone().resumed();
        let mut run = Run::new(self, Kind::Cutover, epoch, Duration::ZERO, Fence::Unknown);
        match state {
            Cutover::Following => return Ok(None),
            Cutover::Switched => {
                self.complete(epoch).await;
                return Ok(None);
            }
            Cutover::Undoing { .. } if state != last => {
                // What is there leads every process to the same undo, so that clients need not wait for a full disk.
                if let Err(error) = run.record(&state).await {
                    run.unrecorded(&state, &error);
                }
            }
            Cutover::Undoing { .. }
            | Cutover::Holding
            | Cutover::Fencing
            | Cutover::CatchingUp { .. }
            | Cutover::Checking { .. }
            | Cutover::Switching => {}
        }
        Ok(Some(run.drive(state).await))
    }
}

impl<'a, D: Fencing + Counters + KeyComparison + NextLeg + SwitchSnapshots> Run<'a, D> {
    fn new(conductor: &'a Conductor<D>, kind: Kind, epoch: u64, max_hold: Duration, fence: Fence<D::Fence>) -> Self {
        Self {
            conductor,
            kind,
            epoch,
            started: SystemTime::now(),
            limits: Limits::new(max_hold),
            mark: Instant::now(),
            steps: Steps::default(),
            hold: None,
            fence,
            marker: None,
            counters: 0,
            residual: None,
            decided: false,
            completed: false,
            superseded: None,
        }
    }

    /// From state to state until nothing is left to do.
    async fn drive(mut self, mut state: Cutover<D::Position>) -> CutoverRun {
        let mut outcome = Outcome::Switched;
        loop {
            self.announce(&state);
            failpoint::before("effect", state.name());
            let event = self.effect(&state).await;
            failpoint::after("effect", state.name());
            let Some(event) = event else {
                self.conductor.shown.stage.lock().clear();
                self.conductor.shown.meet(None);
                return self.course(outcome);
            };
            if let Cutover::Undoing { why } = &state {
                outcome = why.outcome();
            }
            state = self.advance(state, event).await;
        }
    }

    /// The next state, durable; where that cannot be had before the decision, the undo.
    async fn advance(&mut self, state: Cutover<D::Position>, event: Event<D::Position>) -> Cutover<D::Position> {
        const KNOWN: &str = "effects raise what their state knows";
        let mut next = state.clone().next(event).expect(KNOWN);
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        let begun = Instant::now();
        loop {
            let Err(error) = self.record(&next).await else {
                self.conductor.shown.meet(None);
                self.conductor.shown.unrecorded.send_replace(false);
                return next;
            };
            self.unrecorded(&next, &error);
            let late = begun.elapsed() >= END_RECORD_TIMEOUT;
            match &next {
                // A restart finds an undo, and nothing to undo; the next cutover records its end first.
                Cutover::Following if late => return next,
                Cutover::Following => {}
                Cutover::Switched => {
                    self.conductor.shown.unrecorded.send_replace(late);
                }
                Cutover::Undoing { .. } if self.decided => {
                    self.conductor.shown.unrecorded.send_replace(late);
                }
                // Any row before the decision leads a fresh process to the same undo.
                Cutover::Undoing { .. } => return next,
                Cutover::Holding
                | Cutover::Fencing
                | Cutover::CatchingUp { .. }
                | Cutover::Checking { .. }
                | Cutover::Switching => {
                    next = state.clone().next(failed(&state, &error)).expect(KNOWN);
                    continue;
                }
            }
            sleep(backoff.step()).await;
        }
    }

    fn unrecorded(&self, state: &Cutover<D::Position>, error: &Error) {
        self.conductor.shown.meet(Some(error));
        tracing::error!(
            migration = self.conductor.name, epoch = self.epoch, state = state.name(),
            in_doubt = self.decided, %error,
            "a state of the cutover could not be journalled"
        );
    }

    /// Makes a state durable within the time that it has. The decision has no limit: a write that may still land
    /// must be waited for. Where it failed, the journal says whether it may be on the disk.
    async fn record(&mut self, state: &Cutover<D::Position>) -> Result<()> {
        let conductor = self.conductor;
        let write = conductor.journal.enter(&conductor.name, state);
        let hold_ends = self.limits.closed + self.limits.max_hold;
        let written = match state {
            Cutover::Switching => {
                self.decided = true;
                let written = conductor.waited_for(state, hold_ends, write).await;
                self.decided = written.as_ref().map_or_else(|failed| failed.in_doubt, |_| true);
                Ok(written)
            }
            Cutover::Undoing { .. } if !self.decided => timeout(UNDO_RECORD_TIMEOUT, write).await,
            Cutover::Following => timeout(END_RECORD_TIMEOUT, write).await,
            Cutover::Undoing { .. } | Cutover::Switched => Ok(conductor.waited_for(state, hold_ends, write).await),
            Cutover::Holding | Cutover::Fencing | Cutover::CatchingUp { .. } | Cutover::Checking { .. } => {
                timeout_at(self.limits.decide_by(), write).await
            }
        };
        match written {
            Ok(outcome) => outcome.map(drop).map_err(Unwritten::into),
            Err(_) => Err(Error::transient("the journal did not take a state in time")
                .remedy("look at the load of the journal's disk")),
        }
    }

    fn announce(&self, state: &Cutover<D::Position>) {
        state.name().clone_into(&mut self.conductor.shown.stage.lock());
        let conductor = self.conductor;
        let why = match state {
            Cutover::Undoing { why } => why.to_string(),
            _ => String::new(),
        };
        tracing::info!(
            migration = conductor.name,
            route = conductor.route,
            epoch = self.epoch,
            kind = self.kind.name(),
            state = state.name(),
            why,
            "cutover"
        );
    }

    fn course(self, outcome: Outcome) -> CutoverRun {
        CutoverRun {
            epoch: self.epoch,
            outcome,
            started: self.started,
            hold: self.hold.unwrap_or_default(),
            steps: self.steps,
            marker: self.marker,
            counters: self.counters,
            residual: self.residual,
            completed: self.completed,
            superseded: self.superseded,
        }
    }

    /// The time since the last step ended.
    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        let lap = now - self.mark;
        self.mark = now;
        lap
    }
}

impl UndoReason {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Rehearsed => Outcome::Rehearsed,
            Self::Restarted => Outcome::Undone {
                at: "a restart".to_owned(),
                why: "the process ended before the decision was made".to_owned(),
                remedy: Some("run the statement again".to_owned()),
            },
            Self::Failed(Failure { at, what, remedy }) => {
                Outcome::Undone { at: at.clone(), why: what.clone(), remedy: remedy.clone() }
            }
        }
    }
}

fn failed<P>(state: &Cutover<P>, error: &Error) -> Event<P> {
    Event::Failed(Failure {
        at: state.name().to_owned(),
        what: error.full_text(),
        remedy: error.remedy_text().map(ToOwned::to_owned),
    })
}

fn broken(illegal: crate::cutover::Illegal) -> Error {
    Error::fatal("the cutover took a way that does not exist").because(illegal)
}
