//! The worker of one migration: prepares, copies, follows, and tries again what was only interrupted.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::migration::{Migration, Worker};
use crate::backoff::Backoff;
use crate::database::Database;
use crate::error::{Error, Kind, Result};
use crate::model::plan::Plan;
use crate::model::status::{State, WayBack};

const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// Work that goes on for this long is not interrupted any more.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// Reading a catalogue takes seconds at most; a server that is silent for longer is lost.
const PLAN_TIMEOUT: Duration = Duration::from_mins(2);

impl<D: Database> Migration<D> {
    /// Starts the worker. The caller holds the right to work on the migration; `completed` says whether what follows its
    /// last switch is done.
    pub(super) fn spawn_worker(self: &Arc<Self>, completed: bool) {
        let stop = CancellationToken::new();
        let (migration, stopped) = (Arc::clone(self), stop.clone());
        let task = tokio::spawn(async move {
            // After a rollback, the side that was left refuses and is looked after as after a cutover.
            tokio::join!(
                Arc::clone(&migration).work(stopped.clone()),
                migration.look_after_switch(completed, &stopped)
            );
        });
        self.live().worker = Some(Worker { stop, task });
    }

    async fn work(self: Arc<Self>, stop: CancellationToken) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        loop {
            let attempt = AssertUnwindSafe(self.attempt(&stop, &mut backoff)).catch_unwind().await;
            if stop.is_cancelled() {
                return;
            }
            let error = match attempt {
                Ok(Ok(())) => Error::transient("the follower ended without being asked to"),
                Ok(Err(error)) => error,
                Err(_) => Error::fatal("the worker met a fault of its own; the log has it")
                    .remedy(format!("START MIGRATION {} tries again", self.name())),
            };
            if error.kind() != Kind::Transient {
                self.fail(&error).await;
                return;
            }
            let pause = backoff.step();
            self.follow().report_interrupted(&error.full_text());
            tracing::warn!(
                migration = self.name(), %error, retry_ms = pause.as_millis(), "migration interrupted"
            );
            {
                let mut live = self.live();
                live.note(Some(&error));
                live.interrupted.get_or_insert_with(SystemTime::now);
                live.work = format!("retrying in {:.1} s", pause.as_secs_f64());
                live.retrying = true;
            }
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Everything from where it stands up to following; ends only by `stop` or an error.
    async fn attempt(&self, stop: &CancellationToken, backoff: &mut Backoff) -> Result<()> {
        let database = &self.database()?;
        let unmarked = stop.run_until_cancelled(self.source_unmarked(database)).await;
        if unmarked.transpose()?.is_none() {
            return Ok(());
        }
        let planned = stop.run_until_cancelled(self.planned(database)).await;
        let Some(plan) = planned.transpose()? else {
            return Ok(());
        };
        if !self.live().copied {
            self.at_work("preparing");
            let prepared = stop.run_until_cancelled(database.prepare(&plan)).await;
            if prepared.transpose()?.is_none() {
                return Ok(());
            }
            self.at_work("copying");
            let rows = self.progress.tables().values().map(|table| table.rows_copied).sum();
            self.live().copy_begun = Some((Instant::now(), rows));
            let copying = database.copy(&plan, Arc::clone(&self.progress), stop.clone());
            self.observed(copying, backoff).await?;
            if stop.is_cancelled() {
                return Ok(());
            }
            self.journal.set_copied(self.name(), &self.progress.tables()).await?;
            let mut live = self.live();
            (live.copied, live.copy_begun) = (true, None);
            live.enter(State::Following);
            tracing::info!(migration = self.name(), "all tables are copied");
        }
        self.recopied(database, &plan, stop, backoff).await?;
        if stop.is_cancelled() {
            return Ok(());
        }
        self.at_work("following");
        let (follow, progress) = (self.follow(), Arc::clone(&self.progress));
        let following = async {
            tokio::select! {
                outcome = database.follow(&plan, follow, progress, stop.clone()) => outcome,
                never = self.watch_definitions(database, &plan) => match never {},
                never = self.reverify(database, &plan) => match never {},
            }
        };
        self.observed(following, backoff).await
    }

    /// Work that has lived for a while shows that what interrupted the attempt before is mended.
    pub(super) async fn observed(&self, work: impl Future<Output = Result<()>>, backoff: &mut Backoff) -> Result<()> {
        let mut work = pin!(work);
        if let Ok(ended) = timeout(SETTLED_AFTER, &mut work).await {
            return ended;
        }
        backoff.reset();
        {
            let mut live = self.live();
            live.note(None);
            live.interrupted = None;
            if let WayBack::Lossless { interrupted, .. } = &mut live.way_back {
                *interrupted = None;
            }
        }
        work.await
    }

    async fn planned(&self, database: &D) -> Result<Arc<Plan>> {
        let (plan, copied) = {
            let live = self.live();
            (live.plan.clone(), live.copied)
        };
        if let Some(plan) = plan
            && (copied || database.has_schema().await?)
        {
            return Ok(plan);
        }
        self.at_work("planning");
        let Ok(plan) = timeout(PLAN_TIMEOUT, database.plan()).await else {
            return Err(Error::transient("reading the source's catalogue did not end"));
        };
        let plan = Arc::new(plan?);
        self.journal.set_plan(self.name(), &plan).await?;
        self.live().plan = Some(Arc::clone(&plan));
        Ok(plan)
    }

    pub(super) fn at_work(&self, work: &str) {
        let mut live = self.live();
        work.clone_into(&mut live.work);
        live.retrying = false;
    }

    pub(super) async fn fail(&self, error: &Error) {
        // Nobody is left with a failure and nothing to do.
        let helped = error.remedy_text().is_none().then(|| {
            Error::fatal(error.full_text()).remedy(format!(
                "mend what the text names, then START MIGRATION {0} goes on where it stopped; \
                 where that cannot be mended, DROP MIGRATION {0} WITH (target_objects = 'drop') and begin again",
                self.name()
            ))
        });
        let error = helped.as_ref().unwrap_or(error);
        tracing::error!(migration = self.name(), %error, "migration failed");
        if let Err(unwritten) = self.enter(State::Failed, Some(error)).await {
            tracing::error!(migration = self.name(), error = %unwritten, "the failure was not journalled");
            let mut live = self.live();
            live.enter(State::Failed);
            live.note(Some(error));
        }
        self.live().work.clear();
    }
}
