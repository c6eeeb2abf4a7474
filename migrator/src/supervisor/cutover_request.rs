//! A cutover or rehearsal from the operator's request to the report, and what is left of one after a restart.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout};

use super::migration::{Busy, Migration};
use crate::accounts;
use crate::backoff::Backoff;
use crate::conductor::{Conductor, CutoverRun};
use crate::cutover::Cutover;
use crate::database::Database;
use crate::error::{self, Error, Result};
use crate::model::definition::{Definition, Options};
use crate::model::leg::Leg;
use crate::model::report::{CutoverReport, Kind, Outcome, Proved};
use crate::model::status::{CheckStatus, State, Verdict};
use crate::switch_proof::Held;
use crate::traffic::Holds;

/// Preparations touch no client; this is only against a server that is silent.
const WARM_UP_TIMEOUT: Duration = Duration::from_mins(1);
/// A lag that is only a moment's is waited out before the cutover is refused for it.
const LAG_TIMEOUT: Duration = Duration::from_secs(5);
const LAG_INTERVAL: Duration = Duration::from_millis(50);
/// The held go on within moments; the report does not wait longer for the slowest.
const HOLDS_TIMEOUT: Duration = Duration::from_secs(5);
const HANDOVERS_TIMEOUT: Duration = Duration::from_secs(2);

impl<D: Database> Migration<D> {
    /// Runs a cutover or rehearsal in a task of its own, so that it ends also when the caller goes away.
    pub(super) async fn begin_cut(self: &Arc<Self>, kind: Kind, options: Options) -> Result<CutoverReport> {
        options.validate()?;
        let busy = self.occupy(match kind {
            Kind::Cutover => "a cutover",
            Kind::Rollback => "a rollback",
            Kind::Rehearsal => "a rehearsal",
        })?;
        self.admit_direction(kind)?;
        self.following(match kind {
            Kind::Rollback => "be rolled back",
            Kind::Cutover | Kind::Rehearsal => "be cut over",
        })?;
        let mut unrecorded = self.shown.unrecorded.subscribe();
        let cutting = tokio::spawn(Arc::clone(self).cut(kind, options, busy));
        tokio::select! {
            biased;
            ended = cutting => ended.unwrap_or_else(|fault| {
                Err(Error::fatal("the cutover met a fault of its own; the log has it").because(fault))
            }),
            Ok(_) = unrecorded.wait_for(|unrecorded| *unrecorded) => Err(self.unrecorded(kind)),
        }
    }

    /// A cutover leaves the source, a rollback comes back to it.
    fn admit_direction(&self, kind: Kind) -> Result<()> {
        let Definition { name, route, target, .. } = &self.definition;
        let (state, is_way_back) = (self.live().state, self.leg().is_way_back());
        match kind {
            Kind::Cutover if is_way_back => Err(Error::refused(format!("route {route} is on {target} already"))
                .remedy(format!("ROLLBACK MIGRATION {name} goes back; FINISH MIGRATION {name} closes the way back"))),
            Kind::Rollback if !is_way_back && state == State::Switched => Err(Error::refused(format!(
                "migration {name} was cut over without a way back: what was written since is on {target} alone"
            ))
            .remedy(format!("CREATE MIGRATION … FROM {target} TO {} moves it back", self.definition.source))),
            Kind::Rollback if !is_way_back => {
                Err(Error::refused(format!("migration {name} is {state}: there is nothing to go back from"))
                    .remedy(format!("SHOW MIGRATION STATUS {name}")))
            }
            Kind::Cutover | Kind::Rollback | Kind::Rehearsal => Ok(()),
        }
    }

    /// Why a cutover does not end although nothing is left to do but to record that.
    fn unrecorded(&self, kind: Kind) -> Error {
        let Definition { name, route, .. } = &self.definition;
        let (trouble, remedy) = self.shown.trouble().unwrap_or_default();
        let stage = self.shown.stage.lock().clone();
        let text = if stage == "Switching" {
            format!("route {route} is switched, and that cannot be recorded: {trouble}")
        } else {
            format!("the {kind} cannot be undone before that is recorded: {trouble}")
        };
        let more = format!("it is tried again all the time; SHOW MIGRATION STATUS {name}");
        Error::transient(text).remedy(remedy.map_or(more.clone(), |remedy| format!("{remedy}; {more}")))
    }

    async fn cut(self: Arc<Self>, kind: Kind, options: Options, busy: Busy) -> Result<CutoverReport> {
        let waived = self.admit(kind, &options)?;
        if !waived {
            self.refuse_hidden_writes()?;
        }
        if options.proof_before {
            self.admit_proof_before()?;
        }
        let conductor = self.conductor(None)?;
        conductor.refuse_other_routes()?;
        // Whoever went on from a copy of this journal must not be disturbed by what is made ready here.
        conductor.refuse_overtaken().await?;
        if kind != Kind::Rehearsal {
            self.admit_accounts(&options).await?;
        }
        let next = if options.way_back {
            Some(self.arm(kind).await?)
        } else {
            self.disarm().await;
            tracing::warn!(
                migration = self.name(),
                kind = kind.name(),
                "no way back is armed: what is written after the switch is lost when one goes back; going on at the \
                 operator's word"
            );
            None
        };
        let cut = self.cut_armed(kind, &options, waived, next).await;
        // What a superseded cutover has armed may be another process's by now.
        let is_over = self.live().state == State::Failed;
        if !is_over && !cut.as_ref().is_ok_and(|report| report.outcome == Outcome::Switched) {
            self.disarm().await;
        }
        drop(busy);
        cut
    }

    async fn cut_armed(
        self: &Arc<Self>,
        kind: Kind,
        options: &Options,
        waived: bool,
        next: Option<D>,
    ) -> Result<CutoverReport> {
        let mut conductor = self.conductor(next)?;
        if options.proof_before {
            conductor.proof_before = Some(self.proof_before(&conductor, options).await?);
        }
        let conductor = Arc::new(conductor);
        let proved = if waived { None } else { self.journal.fingerprint(self.name())? };
        self.prepare_proof(&conductor, proved.as_ref()).await?;
        let warming = conductor.database.warm_up(&conductor.plan, proved.as_ref());
        timeout(WARM_UP_TIMEOUT, warming)
            .await
            .unwrap_or_else(|_| Err(Error::transient("the preparations did not end")))?;
        let route = &self.definition.route;
        let looking = timeout(WARM_UP_TIMEOUT, conductor.database.is_target_locked());
        let locked = looking.await.unwrap_or_else(|_| Err(Error::transient("the target did not answer in time")))?;
        let unopened = if locked {
            tracing::info!(migration = self.name(), "sessions are opened on the target once it lets them in again");
            Vec::new()
        } else {
            self.traffic.warm(route, &conductor.target, WARM_UP_TIMEOUT).await?
        };
        if let Err(refusal) = self.admit_sessions(&unopened, kind, options) {
            self.traffic.cool(route)?;
            return Err(refusal);
        }
        if let Err(late) = self.wait_for_small_lag(options.max_hold).await {
            self.traffic.cool(route)?;
            return Err(late);
        }
        if waived {
            tracing::warn!(
                migration = self.name(),
                kind = kind.name(),
                "no check has passed; going on at the operator's word"
            );
        }
        if let Err(full) = self.journal.reserve().await {
            self.traffic.cool(route)?;
            return Err(full);
        }
        let check = self.journal.leg_check(self.name()).ok().flatten();
        let before = self.begin_visibly();
        let (running, max_hold) = (Arc::clone(&conductor), options.max_hold);
        let run = tokio::spawn(async move { running.run(kind, max_hold).await });
        let course = match run.await {
            Ok(course) => course,
            Err(fault) => {
                tracing::error!(migration = self.name(), %fault, "the cutover broke off and is settled");
                settle(&conductor).await.ok_or_else(|| Error::fatal("the cutover broke off").because(fault))
            }
        };
        if let Some(course) = course.as_ref().ok().filter(|course| course.outcome == Outcome::Switched) {
            self.begin_proof(&conductor, course.epoch).await;
        }
        self.after(course.as_ref().ok(), before).await;
        let course = course?;
        if let Some(error) = &course.superseded {
            self.fail(error).await;
        }
        let holds = self.traffic.holds(route, HOLDS_TIMEOUT).await;
        if course.outcome == Outcome::Switched {
            self.wait_for_handovers().await;
        }
        let mut report = self.report(&conductor, kind, course, options, (check, waived), holds.unwrap_or_default());
        let proof = self.switch_proof().ok().flatten();
        report.switch_proof = proof.filter(|proof| proof.epoch == report.epoch);
        if let Err(error) = self.journal.add_report(&report).await {
            tracing::error!(migration = self.name(), %error, "the report was not journalled");
        }
        Ok(report)
    }

    /// Whether the request may go on without a passed check; refuses where it may not.
    fn admit(&self, kind: Kind, options: &Options) -> Result<bool> {
        let name = self.name();
        self.uninterrupted()?;
        let verdict = self.journal.leg_check(name)?.map(|check| check.verdict);
        let passed = verdict == Some(Verdict::Passed);
        if passed || options.waive_check || kind == Kind::Rehearsal {
            return Ok(!passed);
        }
        let found = match verdict {
            None => "no check was made yet".to_owned(),
            Some(verdict) => format!("the last check ended as {verdict}"),
        };
        let first = self.recopy_remedy()?;
        let first = first.map_or_else(String::new, |recopy| format!("{recopy}; then "));
        Err(Error::refused(format!("migration {name} is not proved: {found}")).remedy(format!(
            "{first}CHECK MIGRATION {name}; or, at your own risk, {} MIGRATION {name} WITH (waive_check=true)",
            kind.statement()
        )))
    }

    /// Nobody is locked out: every account was seen to be able to log in on the target, or is waived by its name.
    async fn admit_accounts(&self, options: &Options) -> Result<()> {
        let database = self.database()?;
        let asking = async {
            database.ready_accounts().await?;
            database.accounts().await
        };
        let asked = timeout(WARM_UP_TIMEOUT, asking).await;
        let accounts =
            asked.unwrap_or_else(|_| Err(Error::transient("the servers did not name their accounts in time")))?;
        accounts::admit(&accounts, &options.waive_accounts)?;
        for account in &options.waive_accounts {
            tracing::warn!(
                migration = self.name(),
                account,
                "the login of this account on the target is not proved; going on at the operator's word"
            );
        }
        Ok(())
    }

    /// Sessions that have nothing to do move within moments; with them the report counts those that could not.
    async fn wait_for_handovers(&self) {
        let deadline = Instant::now() + HANDOVERS_TIMEOUT;
        let pending = || {
            let reported = self.traffic.handovers(&self.definition.route);
            reported.is_ok_and(|reported| reported.pending > 0)
        };
        while pending() && Instant::now() < deadline {
            sleep(LAG_INTERVAL).await;
        }
    }

    async fn wait_for_small_lag(&self, max_hold: Duration) -> Result<()> {
        let deadline = Instant::now() + LAG_TIMEOUT;
        loop {
            let Err(refusal) = self.predicted(max_hold) else {
                return Ok(());
            };
            if Instant::now() >= deadline {
                return Err(refusal);
            }
            sleep(LAG_INTERVAL).await;
        }
    }

    /// The lag, if catching up would fit into half of the hold; the other half is for all the other steps.
    pub(super) fn predicted(&self, max_hold: Duration) -> Result<Duration> {
        let name = self.name();
        let applied = self.follow().applied();
        match applied.lag {
            Some(lag) if lag <= max_hold / 2 => Ok(lag),
            Some(lag) => Err(Error::refused(format!(
                "the target is {} ms and {} bytes behind, too far for a hold of {} ms",
                lag.as_millis(),
                applied.behind_bytes.unwrap_or_default(),
                max_hold.as_millis()
            ))
            .remedy(format!(
                "wait until SHOW MIGRATION STATUS {name} shows less than {} ms, or raise max_hold",
                (max_hold / 2).as_millis()
            ))),
            None => Err(Error::refused("the lag of the target is not known yet")
                .remedy(format!("wait until SHOW MIGRATION STATUS {name} shows it"))),
        }
    }

    /// What runs a cutover of the leg that runs; `next` is the leg that it begins, where that is armed.
    pub(super) fn conductor(&self, next: Option<D>) -> Result<Conductor<D>> {
        let plan = self.live().plan.clone();
        let (source, target) = self.ends();
        Ok(Conductor {
            name: self.name().to_owned(),
            route: self.definition.route.clone(),
            leg: self.leg(),
            source: source.to_owned(),
            target: target.to_owned(),
            database: self.database()?,
            next,
            snapshots: Held::default(),
            proof_before: None,
            plan: plan.ok_or_else(|| Error::fatal("there is no plan to cut over by"))?,
            follow: self.follow(),
            journal: self.journal.clone(),
            traffic: Arc::clone(&self.traffic),
            shown: Arc::clone(&self.shown),
        })
    }

    /// What completes the switch of a leg that is over.
    pub(super) fn completing(&self, over: Leg) -> Result<Conductor<D>> {
        let plan = self.journal.leg_plan(self.name(), over)?;
        let (source, target) = self.definition.ends(over);
        Ok(Conductor {
            leg: over,
            source: source.to_owned(),
            target: target.to_owned(),
            database: self.database_for(over)?,
            plan: Arc::new(plan.ok_or_else(|| Error::fatal("there is no plan of what was switched"))?),
            ..self.conductor(None)?
        })
    }

    /// Shows that a cutover is under way; returns what was shown before.
    fn begin_visibly(&self) -> (State, SystemTime) {
        let mut live = self.live();
        let before = (live.state, live.since);
        live.enter(State::Cutover);
        before
    }

    /// The visible state after a course, which the journal has already.
    async fn after(self: &Arc<Self>, course: Option<&CutoverRun>, before: (State, SystemTime)) {
        let switched = course.filter(|course| course.outcome == Outcome::Switched);
        {
            let mut live = self.live();
            if let Some(course) = switched {
                live.note(None);
                live.switched_epoch = Some(course.epoch);
            } else if live.state == State::Cutover {
                (live.state, live.since) = before;
            }
        }
        if switched.is_some() {
            self.go_over(switched.is_some_and(|course| course.completed)).await;
        }
    }

    fn report(
        &self,
        conductor: &Conductor<D>,
        kind: Kind,
        course: CutoverRun,
        options: &Options,
        (check, check_waived): (Option<CheckStatus>, bool),
        holds: Holds,
    ) -> CutoverReport {
        let passed = check.filter(|check| check.verdict == Verdict::Passed);
        let switched = course.outcome == Outcome::Switched;
        let handovers = switched.then(|| self.traffic.handovers(&self.definition.route).ok()).flatten();
        CutoverReport {
            migration: self.definition.name.clone(),
            route: self.definition.route.clone(),
            source: conductor.source.clone(),
            target: conductor.target.clone(),
            leg: conductor.leg,
            kind,
            epoch: course.epoch,
            outcome: course.outcome,
            started: course.started,
            max_hold: options.max_hold,
            hold: course.hold,
            steps: course.steps,
            holds,
            handovers: handovers.unwrap_or_default(),
            marker: course.marker,
            proved: Proved {
                ranges: passed.as_ref().map_or(0, |check| check.ranges),
                rows: passed.as_ref().map_or(0, |check| check.rows),
                finished: passed.as_ref().and_then(|check| check.finished),
                position: passed.and_then(|check| check.position),
                counters: course.counters,
            },
            check_waived,
            residual: course.residual,
            switch_proof: None,
        }
    }

    /// Whether the last cutover must be undone or finished before anything else.
    pub(super) fn unsettled(&self) -> Result<Option<Cutover<D::Position>>> {
        let last = self.journal.cutover::<D::Position>(self.name())?.map(|(_, state)| state.resumed());
        Ok(last.filter(|state| matches!(state, Cutover::Undoing { .. } | Cutover::Switching)))
    }

    /// After a restart: undoes or finishes what was under way, then lets the worker go on.
    pub(super) async fn resume(self: Arc<Self>, busy: Busy) {
        // A journal that cannot be read now may hold something: settling asks it again until it answers.
        let settled = matches!(self.unsettled(), Ok(None));
        if !settled && let Ok(conductor) = self.conductor(None) {
            let before = self.begin_visibly();
            if matches!(self.unsettled(), Ok(Some(Cutover::Undoing { .. })))
                && let Err(overtaken) = not_overtaken(&conductor).await
            {
                self.fail(&overtaken).await;
                // The door is what keeps the clients out.
                let _ = self.traffic.release(&self.definition.route);
                drop(busy);
                return;
            }
            let check = self.journal.leg_check(self.name()).ok().flatten();
            let course = settle(&conductor).await;
            let superseded = course.as_ref().and_then(|course| course.superseded.as_ref());
            if superseded.is_none() && !course.as_ref().is_some_and(|course| course.outcome == Outcome::Switched) {
                self.disarm().await;
            }
            self.after(course.as_ref(), before).await;
            if let Some(error) = superseded {
                return self.fail(error).await;
            }
            if let Some(course) = course.filter(|course| course.outcome == Outcome::Switched) {
                let options = Options { max_hold: Duration::ZERO, ..Options::default() };
                let kind = if conductor.leg.is_way_back() { Kind::Rollback } else { Kind::Cutover };
                let report = self.report(&conductor, kind, course, &options, (check, false), Holds::default());
                if let Err(error) = self.journal.add_report(&report).await {
                    tracing::error!(migration = self.name(), %error, "the report was not journalled");
                }
                drop(busy);
                return;
            }
        }
        // A journal that is older than a switch knows nothing of what its arming has become.
        if settled
            && let Ok(conductor) = self.conductor(None)
            && conductor.refuse_overtaken().await.is_ok()
        {
            self.disarm().await;
        }
        self.run_on(false);
        drop(busy);
    }
}

/// Fails where the source says that a switch took place which this journal would undo. A source that does not answer is
/// asked until it does: there is nothing to undo on it before.
async fn not_overtaken<D: Database>(conductor: &Conductor<D>) -> Result<()> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        match conductor.refuse_overtaken().await {
            Err(error) if error.kind() == error::Kind::Transient => {
                tracing::warn!(
                    migration = conductor.name, %error,
                    "the source cannot be asked whether it was switched away from; nothing is undone before"
                );
            }
            outcome => return outcome,
        }
        sleep(backoff.step()).await;
    }
}

/// Settles what the journal says is under way, however often it takes.
async fn settle<D: Database>(conductor: &Conductor<D>) -> Option<CutoverRun> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        match AssertUnwindSafe(conductor.settle()).catch_unwind().await {
            Ok(Ok(course)) => return course,
            Ok(Err(error)) => tracing::error!(
                migration = conductor.name, %error, "the cutover could not be settled; it is tried again"
            ),
            Err(_) => tracing::error!(
                migration = conductor.name,
                "settling the cutover met a fault of its own; it is tried again"
            ),
        }
        sleep(backoff.step()).await;
    }
}
