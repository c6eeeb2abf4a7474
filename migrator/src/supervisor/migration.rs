//! One migration: its ends, where it stands, and the rule that one statement at a time works on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::conductor::Shown;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::follow::Follow;
use crate::journal::{Entry, Journal};
use crate::model::definition::Definition;
use crate::model::leg::Leg;
use crate::model::plan::Plan;
use crate::model::progress::Progress;
use crate::model::status::{State, WayBack};
use crate::model::switch_proof::SwitchProgress;
use crate::traffic::Traffic;

/// One migration; everything that works on it shares this value.
pub(super) struct Migration<D: Database> {
    pub(super) definition: Definition,
    /// The two databases as the first leg has them.
    first: Result<D>,
    running: Mutex<Running<D>>,
    pub(super) progress: Arc<Progress>,
    pub(super) journal: Journal,
    pub(super) traffic: Arc<dyn Traffic>,
    /// What is shown of a cutover that is under way.
    pub(super) shown: Arc<Shown>,
    live: Mutex<Live>,
    busy: Arc<tokio::sync::Mutex<()>>,
}

/// The leg that runs, or whose cutover is under way.
struct Running<D: Database> {
    leg: Leg,
    /// `None` where the configuration does not name both clusters.
    database: Option<D>,
    follow: Follow<D::Position>,
}

/// Where it stands in this process.
pub(super) struct Live {
    pub(super) state: State,
    pub(super) since: SystemTime,
    /// What the worker does, for the operator.
    pub(super) work: String,
    /// The worker waits for its next attempt.
    pub(super) retrying: bool,
    /// Since when it is interrupted, attempt by attempt.
    pub(super) interrupted: Option<SystemTime>,
    pub(super) error: Option<String>,
    pub(super) remedy: Option<String>,
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) copied: bool,
    /// Tables that are taken anew, by schema and name.
    pub(super) recopy: Vec<(String, String)>,
    /// When this process began to copy, and how many rows were there already.
    pub(super) copy_begun: Option<(Instant, u64)>,
    pub(super) worker: Option<Worker>,
    pub(super) check: Option<RunningCheck>,
    pub(super) proof: Option<RunningProof>,
    /// Objects that are not defined alike on both sides, as of the last look.
    pub(super) differences: Vec<String>,
    /// Since when they were seen to differ.
    pub(super) differences_since: Option<SystemTime>,
    /// Sessions that were seen to hide from the log, by what was seen, and when that was last.
    pub(super) hidden: BTreeMap<String, SystemTime>,
    /// Whether what is written after the switch comes back.
    pub(super) way_back: WayBack,
    /// The switch that this process has made, whose sessions still move.
    pub(super) switched_epoch: Option<u64>,
    /// The statement that is at work, for the refusal of others.
    doing: &'static str,
}

/// The task that copies and follows.
pub(super) struct Worker {
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

/// A check that is under way.
pub(super) struct RunningCheck {
    pub(super) stop: CancellationToken,
    pub(super) started: SystemTime,
}

/// A proof of a switch that is under way.
pub(super) struct RunningProof {
    pub(super) leg: Leg,
    pub(super) epoch: u64,
    pub(super) started: SystemTime,
    pub(super) progress: Arc<SwitchProgress>,
    pub(super) stop: CancellationToken,
    /// Cancelled once it has ended.
    pub(super) ended: CancellationToken,
}

/// The right to work on a migration, alone.
pub(super) struct Busy {
    _alone: OwnedMutexGuard<()>,
}

/// A worker that does not stop within this is cut off; what it had not committed is done again.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

impl<D: Database> Migration<D> {
    pub(super) fn new(entry: Entry, database: Result<D>, journal: Journal, traffic: Arc<dyn Traffic>) -> Self {
        let progress = Progress::default();
        for (table, numbers) in entry.tables {
            progress.update(&table, |known| *known = numbers);
        }
        let live = Live {
            state: entry.state,
            since: entry.since,
            work: String::new(),
            retrying: false,
            interrupted: None,
            error: entry.error,
            remedy: entry.remedy,
            plan: entry.plan.map(Arc::new),
            copied: entry.copied,
            recopy: entry.recopy,
            copy_begun: None,
            worker: None,
            check: None,
            proof: None,
            differences: Vec::new(),
            differences_since: None,
            hidden: BTreeMap::new(),
            way_back: WayBack::default(),
            switched_epoch: None,
            doing: "",
        };
        let in_direction = database.as_ref().ok().map(|first| first.for_leg(entry.leg));
        Self {
            definition: entry.definition,
            first: database,
            running: Mutex::new(Running { leg: entry.leg, database: in_direction, follow: Follow::default() }),
            progress: Arc::new(progress),
            journal,
            traffic,
            shown: Arc::default(),
            live: Mutex::new(live),
            busy: Arc::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.definition.name
    }

    /// Where it stands. Held for moments only.
    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock()
    }

    /// Whether nothing of it is left to do, on any side.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.live().state, State::Finished | State::RolledBack)
    }

    /// The leg that runs, or whose cutover is under way.
    pub(super) fn leg(&self) -> Leg {
        self.running.lock().leg
    }

    /// Source and target of that leg.
    pub(super) fn ends(&self) -> (&str, &str) {
        self.definition.ends(self.leg())
    }

    /// What the follower of that leg tells and obeys.
    pub(super) fn follow(&self) -> Follow<D::Position> {
        self.running.lock().follow.clone()
    }

    /// Goes over to another leg, of which nothing is known yet.
    pub(super) fn begin_leg(&self, leg: Leg) {
        let database = self.first.as_ref().ok().map(|first| first.for_leg(leg));
        *self.running.lock() = Running { leg, database, follow: Follow::default() };
    }

    /// The two databases as the leg that runs has them; refused where the configuration does not name them any more.
    pub(super) fn database(&self) -> Result<D> {
        let database = self.running.lock().database.clone();
        database.map_or_else(|| self.database_for(Leg::FIRST), Ok)
    }

    /// The same as a leg has them that does not run.
    pub(super) fn database_for(&self, leg: Leg) -> Result<D> {
        self.first.as_ref().map(|first| first.for_leg(leg)).map_err(|error| {
            let refused = Error::refused(format!(
                "the clusters of migration {} cannot be used: {}",
                self.name(),
                error.full_text()
            ));
            match error.remedy_text() {
                Some(remedy) => refused.remedy(remedy),
                None => refused.remedy("put them back into the configuration and restart"),
            }
        })
    }

    /// Takes the right to work on it, or refuses with the name of what is under way.
    pub(super) fn occupy(&self, doing: &'static str) -> Result<Busy> {
        let Ok(alone) = Arc::clone(&self.busy).try_lock_owned() else {
            let under_way = self.live().doing;
            let name = self.name();
            return Err(match self.shown.trouble() {
                None => Error::refused(format!("{under_way} of migration {name} is under way"))
                    .remedy(format!("wait for its end; SHOW MIGRATION STATUS {name} tells how it goes")),
                Some((trouble, remedy)) => {
                    Error::refused(format!("{under_way} of migration {name} cannot end: {trouble}"))
                        .remedy(remedy.unwrap_or_else(|| format!("SHOW MIGRATION STATUS {name}")))
                }
            });
        };
        self.live().doing = doing;
        Ok(Busy { _alone: alone })
    }

    /// Takes the right to work on it as soon as it is free; a check that is under way is broken off.
    pub(super) async fn interrupt(&self, doing: &'static str) -> Result<Busy> {
        let checked = self.live().check.is_some();
        if !checked {
            return self.occupy(doing);
        }
        let free = timeout(STOP_TIMEOUT, self.wait_until_free(doing)).await;
        free.map_err(|_| Error::transient("the running check did not stop").remedy("try again"))
    }

    /// Takes the right to work on it once what is under way has ended; a check is broken off.
    pub(super) async fn wait_until_free(&self, doing: &'static str) -> Busy {
        if let Some(check) = &self.live().check {
            check.stop.cancel();
        }
        let alone = Arc::clone(&self.busy).lock_owned().await;
        self.live().doing = doing;
        Busy { _alone: alone }
    }

    /// Makes a new state durable, then visible.
    pub(super) async fn enter(&self, state: State, error: Option<&Error>) -> Result<()> {
        self.journal.set_state(self.name(), state, error).await?;
        let mut live = self.live();
        if !live.state.is_after_switch() {
            live.enter(state);
            live.note(error);
        }
        Ok(())
    }

    /// Stops the worker, if there is one, and waits for it.
    pub(super) async fn halt(&self) {
        let Some(worker) = self.live().worker.take() else {
            return;
        };
        worker.stop.cancel();
        let mut task = worker.task;
        if timeout(STOP_TIMEOUT, &mut task).await.is_err() {
            tracing::warn!(migration = self.name(), "the worker did not stop in time and was cut off");
            task.abort();
            let _cut_off = task.await;
        }
        let mut live = self.live();
        live.work.clear();
        live.retrying = false;
        live.interrupted = None;
    }

    /// Refuses while the follower is interrupted, with the reason.
    pub(super) fn uninterrupted(&self) -> Result<()> {
        let Some((since, why)) = self.follow().applied().interrupted else {
            return Ok(());
        };
        let name = self.name();
        Err(Error::refused(format!(
            "the follower of migration {name} is interrupted for {} s: {why}",
            since.elapsed().as_secs()
        ))
        .remedy(format!(
            "mend what interrupts it; it goes on by itself, and SHOW MIGRATION STATUS {name} tells when it does"
        )))
    }
}

impl Live {
    /// Changes the visible state.
    pub(super) fn enter(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.since = SystemTime::now();
        }
    }

    /// Remembers what went wrong, or that nothing is wrong any more.
    pub(super) fn note(&mut self, error: Option<&Error>) {
        self.error = error.map(Error::full_text);
        self.remedy = error.and_then(Error::remedy_text).map(ToOwned::to_owned);
    }
}
