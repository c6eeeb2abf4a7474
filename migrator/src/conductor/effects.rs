//! What each state of a cutover does when it is entered. Every effect can be run again.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Conductor, Fence, Limits, RETRY_FIRST, RETRY_LONGEST, Run, failed};
use crate::backoff::Backoff;
use crate::cutover::{Cutover, Event, Marker};
use crate::database::{Counters, Fencing, KeyComparison, NextLeg, Raised, SwitchSnapshots};
use crate::error::{self, Error, Result};
use crate::model::mark::{Mark, Stage};
use crate::model::position::Position;
use crate::model::report::Kind;
use crate::traffic::OpenTransaction;

/// How long the undo keeps the gate closed for a fence of which it is not known that it is down: a source that answers
/// again within this time refuses nobody. It is the time after which held statements are refused by default; after
/// that the clients may as well hear from the source itself what is wrong with it.
pub(super) const LIFT_GRACE: Duration = Duration::from_secs(30);
/// One try to lift it: the first is short, as a lost packet may be all that is wrong.
const LIFT_TRY_FIRST: Duration = Duration::from_secs(2);
const LIFT_TIMEOUT: Duration = Duration::from_secs(10);
/// One try to lift the refusal that an earlier switch left on the target.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const DROP_TIMEOUT: Duration = Duration::from_secs(1);
/// While clients are held, the pauses between tries stay short.
const CLOSED_PAUSE_MAX: Duration = Duration::from_millis(500);
/// Nobody waits for what comes after the switch but the one who asked for the cutover.
pub(super) const COMPLETE_TIMEOUT: Duration = Duration::from_secs(30);
/// Whoever asked for the cutover does not wait longer for a source that is gone.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
/// Open transactions that are named in a message.
const NAMED_MAX: usize = 5;

impl<D: Fencing + Counters + KeyComparison + NextLeg + SwitchSnapshots> Run<'_, D> {
    /// Runs the effect of `state`; `None` where it has none.
    pub(super) async fn effect(&mut self, state: &Cutover<D::Position>) -> Option<Event<D::Position>> {
        let outcome = match state {
            Cutover::Following => return None,
            Cutover::Switched => {
                self.completed = self.conductor.complete(self.epoch).await;
                return None;
            }
            Cutover::Holding => self.hold().await.map(|()| Event::Quiet),
            Cutover::Fencing => self.fence().await.map(Event::Fenced),
            Cutover::CatchingUp { marker } => self.catch_up(marker).await.map(|()| Event::Covered),
            Cutover::Checking { marker } => self.check(marker).await,
            Cutover::Switching => {
                self.switch().await;
                Ok(Event::Routed)
            }
            Cutover::Undoing { .. } => {
                self.undo().await;
                Ok(Event::Undone)
            }
        };
        Some(outcome.unwrap_or_else(|error| failed(state, &error)))
    }

    async fn hold(&mut self) -> Result<()> {
        let (traffic, route) = (&self.conductor.traffic, &self.conductor.route);
        self.limits.closed = Instant::now();
        self.mark = self.limits.closed;
        traffic.hold(route)?;
        let outcome = timeout_at(self.limits.quiet_by(), traffic.quiet(route)).await;
        self.steps.gate = self.lap();
        outcome
            .unwrap_or_else(|_| Err(still_open(&traffic.open_transactions(route).unwrap_or_default(), self.steps.gate)))
    }

    async fn fence(&mut self) -> Result<Marker<D::Position>> {
        let conductor = self.conductor;
        let token = format!("{}-{}-{:016x}", conductor.name, self.epoch, rand::random::<u64>());
        let left = self.limits.decide_by().saturating_duration_since(Instant::now());
        // A follower that began again would take the target for one that does not serve yet.
        conductor.follow.close(left / 10).await?;
        // Less than all that is left: the database's own message names who is in the way.
        let raising = conductor.database.raise_fence(&conductor.plan, &token, left / 10 * 9);
        self.fence = Fence::Unknown;
        let Raised { fence, marker } = self.limits.within("raising the fence", raising).await?;
        self.fence = Fence::Raised(fence);
        self.marker = Some(marker.to_string());
        self.steps.fence = self.lap();
        Ok(Marker { position: marker, token })
    }

    async fn catch_up(&mut self, marker: &Marker<D::Position>) -> Result<()> {
        let follow = &self.conductor.follow;
        let left = || self.limits.decide_by().saturating_duration_since(Instant::now());
        follow.wait_marker(&marker.token, left()).await?;
        follow.wait_covers(&marker.position, left()).await?;
        self.steps.catch_up = self.lap();
        Ok(())
    }

    async fn check(&mut self, marker: &Marker<D::Position>) -> Result<Event<D::Position>> {
        let conductor = self.conductor;
        let advancing = conductor.database.advance_counters(&conductor.plan);
        self.limits.within("setting the counters", advancing).await?;
        // The counters were set and all of the source is applied: what the target writes from here on is the next leg's.
        let pinning = async {
            match &conductor.next {
                Some(next) => next.stream_end().await.map(Some),
                None => Ok(None),
            }
        };
        let confirming = async {
            match &mut self.fence {
                Fence::Raised(fence) => conductor.database.confirm_fence(&conductor.plan, fence).await,
                Fence::Untouched | Fence::Unknown => Ok(()),
            }
        };
        // Nothing moves on either side: both snapshots have the same content.
        let opening = conductor.snapshots.open(&conductor.database);
        let looking = async { tokio::try_join!(pinning, confirming, opening) };
        let (next_begins, (), ()) = self.limits.within("looking at both sides under the fence", looking).await?;
        self.counters = conductor.plan.counters.len() as u64;
        let applied = conductor.follow.applied();
        if !applied.position.as_ref().is_some_and(|at| at.covers(&marker.position)) {
            return Err(Error::transient(format!("the target is not at {}", marker.position)));
        }
        if let Some(before) = &conductor.proof_before {
            let proving = before.prove(&conductor.database, &conductor.name);
            self.residual = Some(self.limits.within("comparing what changed since the check", proving).await?);
        }
        self.steps.check = self.lap();
        if self.kind == Kind::Rehearsal {
            return Ok(Event::Rehearsed);
        }
        // The configuration may have been read again meanwhile.
        conductor.refuse_other_routes()?;
        let Fence::Raised(fence) = std::mem::replace(&mut self.fence, Fence::Unknown) else {
            return Err(Error::transient("the fence is not up"));
        };
        let gated_backends = || conductor.traffic.gated_backends(&conductor.route);
        let mark = Mark {
            migration: conductor.name.clone(),
            route: conductor.route.clone(),
            source: conductor.source.clone(),
            target: conductor.target.clone(),
            epoch: self.epoch,
            journal: conductor.journal.identity()?,
            sealed: String::new(),
            stage: Stage::Sealed,
        };
        let sealing = async {
            let sealing = conductor.database.seal_fence(fence, &mark, next_begins.as_ref(), &gated_backends);
            tokio::try_join!(sealing, conductor.database.admit_writers())
        };
        self.limits.within("making the fence durable", sealing).await?;
        self.steps.seal = self.lap();
        Ok(Event::Equal)
    }

    async fn switch(&mut self) {
        let conductor = self.conductor;
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        loop {
            let opening = timeout(OPEN_TIMEOUT, conductor.database.open_target(&conductor.plan, self.epoch)).await;
            let opened = opening.unwrap_or_else(|_| Err(Error::transient("the target was not opened in time")));
            let switched = opened.and_then(|()| conductor.traffic.switch(&conductor.route, &conductor.target));
            match switched.and_then(|()| conductor.traffic.release(&conductor.route)) {
                Ok(()) => break,
                Err(error) => {
                    conductor.shown.meet(Some(&error));
                    tracing::error!(
                        migration = conductor.name, route = conductor.route, target = conductor.target, %error,
                        "the decided switch did not go through; it is tried again"
                    );
                }
            }
            sleep(backoff.step().min(CLOSED_PAUSE_MAX)).await;
        }
        self.opened();
        self.steps.switch = self.lap();
    }

    /// The fence goes first, else the held writers would run into it when the gate opens.
    async fn undo(&mut self) {
        let fence = std::mem::replace(&mut self.fence, Fence::Unknown);
        let lifted = match fence {
            Fence::Untouched => true,
            Fence::Raised(fence) => {
                let dropping = self.conductor.database.drop_fence(fence, self.epoch);
                matches!(timeout(DROP_TIMEOUT, dropping).await, Ok(Ok(())))
            }
            Fence::Unknown => false,
        };
        if !lifted {
            self.lift().await;
        }
        if self.superseded.is_none() {
            self.conductor.follow.reopen().await;
        }
        self.release().await;
    }

    async fn lift(&mut self) {
        let conductor = self.conductor;
        let grace = Instant::now() + LIFT_GRACE;
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        let mut limit = Backoff::new(LIFT_TRY_FIRST, LIFT_TIMEOUT);
        loop {
            let closed_for = grace.saturating_duration_since(Instant::now());
            if self.hold.is_none() && closed_for.is_zero() {
                self.release_warily();
            }
            let open = self.hold.is_some();
            let limit = limit.step();
            let one_try = if open { limit } else { limit.min(closed_for) };
            let lifting = timeout(one_try, conductor.database.lift_fence(&conductor.plan, self.epoch)).await;
            let error = match lifting {
                Ok(Ok(())) => return,
                // Whoever has put it up keeps the clients out.
                Ok(Err(error)) if error.kind() == error::Kind::Fatal => {
                    self.superseded = Some(error);
                    return;
                }
                Ok(Err(error)) => error,
                Err(_) => Error::transient("lifting it did not end in time"),
            };
            conductor.shown.meet(Some(&error));
            tracing::error!(
                migration = conductor.name, epoch = self.epoch, gate_open = open, %error,
                "it is not known that the source's fence is down: statements are held, or refused once the gate had \
                 to be opened; lifting it is tried again"
            );
            let pause = backoff.step();
            sleep(if open { pause } else { pause.min(closed_for).min(CLOSED_PAUSE_MAX) }).await;
        }
    }

    /// Opens the gate while it is not known that the fence is down. Where it cannot be opened, it will be at the end.
    fn release_warily(&mut self) {
        let conductor = self.conductor;
        match conductor.traffic.release_warily(&conductor.route) {
            Ok(()) => {
                self.opened();
                self.steps.undo = self.lap();
            }
            Err(error) => {
                tracing::error!(route = conductor.route, %error, "the gate could not be opened");
            }
        }
    }

    /// Opens the gate, whatever it takes, unless there is none any more.
    async fn release(&mut self) {
        let conductor = self.conductor;
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        while let Err(error) = conductor.traffic.release(&conductor.route) {
            tracing::error!(route = conductor.route, %error, "the gate could not be opened");
            if error.kind() == error::Kind::Refused {
                break;
            }
            sleep(backoff.step()).await;
        }
        if self.hold.is_none() {
            self.opened();
            self.steps.undo = self.lap();
        }
    }

    fn opened(&mut self) {
        self.hold.get_or_insert(self.limits.closed.elapsed());
    }
}

impl<D: Fencing + Counters + KeyComparison + NextLeg + SwitchSnapshots> Conductor<D> {
    /// Does what is better done once the target serves; says whether all of it is done. The switch stands, whatever
    /// comes of it.
    pub(crate) async fn complete(&self, epoch: u64) -> bool {
        let completing = self.database.after_switch(&self.plan);
        let outcome = timeout(COMPLETE_TIMEOUT, completing).await;
        let confirmed = self.confirm(epoch).await;
        let error = match outcome {
            Ok(Ok(())) => return confirmed,
            Ok(Err(error)) => error,
            Err(_) => Error::transient("it did not end in time"),
        };
        tracing::error!(
            migration = self.name, target = self.target, %error,
            "what follows the switch failed; it is tried again"
        );
        false
    }
}

impl<D: Fencing + Counters + KeyComparison + NextLeg + SwitchSnapshots> Conductor<D> {
    /// The mark alone would leave open whether the switch took place. A source that is gone needs no mark.
    async fn confirm(&self, epoch: u64) -> bool {
        let confirming = timeout(CONFIRM_TIMEOUT, self.database.confirm_mark(epoch)).await;
        let error = match confirming {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error,
            Err(_) => Error::transient("it did not answer in time"),
        };
        tracing::warn!(
            migration = self.name, source = self.source, %error,
            "the source's mark does not say yet that the switch took place; it is tried again"
        );
        false
    }
}

impl Limits {
    /// Bounds an effect by what the hold leaves for everything before the decision.
    async fn within<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        timeout_at(self.decide_by(), work).await.unwrap_or_else(|_| {
            let held = self.closed.elapsed().as_millis();
            Err(Error::transient(format!("{what} did not end; the hold was {held} ms old by then"))
                .remedy("try again when the servers have less to do, or raise max_hold"))
        })
    }
}

fn still_open(open: &[OpenTransaction], waited: Duration) -> Error {
    let named: Vec<String> = open
        .iter()
        .take(NAMED_MAX)
        .map(|one| {
            let age = one.age.as_secs_f64();
            format!("pid {} of user {} from {}, open for {age:.1} s", one.pid, one.user, one.client)
        })
        .collect();
    let more = match open.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    Error::transient(format!(
        "{} transactions were still open after {} ms: {}{more}",
        open.len(),
        waited.as_millis(),
        named.join("; "),
    ))
    .remedy("let them end or end them, or raise max_hold; SHOW SESSIONS lists them")
}
