//! PostgreSQL's half of the control plane.

pub mod channel;
pub mod check;
pub mod clean;
pub mod client;
mod context;
pub mod fence;
pub mod follow;
pub(crate) mod guard;
pub(crate) mod heartbeat;
mod link;
pub mod load;
mod login;
mod next_leg;
pub mod plan;
pub mod position;
pub mod preflight;
pub mod records;
pub mod rights;
pub mod schema;
pub(crate) mod service;
mod session;
pub mod sql;
mod stale_sessions;
pub mod stream;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::accounts::Account;
use crate::database::{
    ChangeStream, Comparison, Counters, Fencing, GatedBackends, Kept, KeyComparison, NextLeg, Preflight, Raised,
    SchemaAndLoad, SwitchSnapshots,
};
use crate::error::Result;
use crate::follow::Follow;
use crate::model::definitions::{Compared, Fingerprint};
use crate::model::leg::Leg;
use crate::model::mark::Mark;
use crate::model::plan::{Plan, Table};
use crate::model::progress::Progress;
use crate::model::proof::Checked;
use crate::model::switch_proof::{SwitchProgress, SwitchVerdict};
use crate::preflight::Check;
use crate::residue::Key;
pub use client::Endpoint;
pub use context::{Postgres, Tools};
use fence::Fence;
pub use position::Lsn;

/// One migration between two servers, and what was opened ahead of its cutover.
#[derive(Clone)]
pub struct PostgresDatabase {
    postgres: Postgres,
    warm: Arc<Mutex<Warm>>,
}

/// Opened ahead of a cutover, so that the pause does not wait for connections.
#[derive(Default)]
struct Warm {
    fence: Option<fence::Ready>,
    counters: Option<(Client, Client)>,
    guard: Option<Client>,
    /// On the target, where the leg before has left its refusal.
    opening: Option<Client>,
    /// On the source of a leg that is armed.
    armed: Option<Client>,
}

impl PostgresDatabase {
    /// The migration that `postgres` speaks of. Opens nothing yet.
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres, warm: Arc::default() }
    }
}

impl Deref for PostgresDatabase {
    type Target = Postgres;

    fn deref(&self) -> &Postgres {
        &self.postgres
    }
}

impl Preflight for PostgresDatabase {
    async fn preflight(&self) -> Result<Vec<Check>> {
        preflight::run(self).await
    }

    async fn ready_accounts(&self) -> Result<()> {
        schema::roles::set_known_passwords(self).await
    }

    async fn accounts(&self) -> Result<Vec<Account>> {
        preflight::accounts(self).await
    }
}

impl SchemaAndLoad for PostgresDatabase {
    async fn plan(&self) -> Result<Plan> {
        plan::read(self).await
    }

    async fn has_schema(&self) -> Result<bool> {
        schema::is_there(self).await
    }

    async fn prepare(&self, plan: &Plan) -> Result<()> {
        schema::prepare(self, plan).await
    }

    fn waits_for(&self) -> Option<String> {
        self.inner.waits_for.lock().clone()
    }

    async fn copy(&self, plan: &Plan, progress: Arc<Progress>, stop: CancellationToken) -> Result<()> {
        load::run(self, plan, progress, stop).await
    }

    async fn recopy(&self, tables: &[Table], progress: Arc<Progress>, stop: CancellationToken) -> Result<()> {
        load::again(self, tables, progress, stop).await
    }

    async fn remove_made(&self) -> Result<Vec<String>> {
        clean::made::remove(self).await
    }

    async fn clean_up(&self) -> Result<()> {
        clean::run(self).await
    }
}

impl ChangeStream for PostgresDatabase {
    type Position = Lsn;

    async fn follow(
        &self,
        plan: &Plan,
        follow: Follow<Lsn>,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<()> {
        follow::run(self, plan, follow, progress, stop).await
    }
}

impl Comparison for PostgresDatabase {
    async fn check(
        &self,
        plan: &Plan,
        follow: Follow<Lsn>,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<Checked> {
        check::run(self, plan, follow, progress, stop).await
    }

    async fn definitions(&self, _plan: &Plan) -> Result<Compared> {
        check::definitions::compare(self).await
    }

    async fn definitions_stamp(&self) -> Result<String> {
        check::stamp::Stamp::open(self).await?.read().await
    }
}

impl KeyComparison for PostgresDatabase {
    type KeySessions = check::residue::Sessions;

    async fn open_key_sessions(&self, plan: &Plan) -> Result<Self::KeySessions> {
        check::residue::open(self, plan).await
    }

    async fn differing_rows(&self, sessions: &mut Self::KeySessions, table: &str, keys: &[Key]) -> Result<Vec<String>> {
        sessions.differing(table, keys).await
    }
}

impl Fencing for PostgresDatabase {
    type Fence = Fence;

    fn databases(&self) -> Vec<String> {
        vec![self.source().database.clone()]
    }

    async fn writers(&self, gated_backends: GatedBackends<'_>) -> Result<Vec<Check>> {
        let (source, target) = tokio::try_join!(fence::writers::findings(self, gated_backends), guard::findings(self))?;
        Ok([source, target].concat())
    }

    async fn warm_up(&self, plan: &Plan, proved: Option<&Fingerprint>) -> Result<()> {
        let mut ready = fence::warm_up(self, plan).await?;
        let guard = guard::raise(self, plan).await?;
        ready.look(fence::UnderFence::open(self, proved).await?);
        let counters = self.counter_sessions().await?;
        let opening = match self.leg().before() {
            Some(_) => Some(self.connect_target("lift").await?),
            None => None,
        };
        let mut warm = self.warm.lock();
        (warm.fence, warm.counters, warm.guard, warm.opening) = (Some(ready), Some(counters), Some(guard), opening);
        Ok(())
    }

    async fn raise_fence(&self, plan: &Plan, token: &str, limit: Duration) -> Result<Raised<Fence, Lsn>> {
        let ready = self.warm.lock().fence.take();
        fence::raise(ready, self, plan, token, limit).await
    }

    async fn confirm_fence(&self, plan: &Plan, fence: &mut Fence) -> Result<()> {
        fence::confirm(self, plan, fence).await
    }

    async fn seal_fence(
        &self,
        fence: Fence,
        mark: &Mark,
        next_begins: Option<&Lsn>,
        _carried: GatedBackends<'_>,
    ) -> Result<()> {
        let mut recording = vec![fence::mark::writing(mark)];
        recording.extend(next_begins.map(|at| next_leg::beginning(&self.for_leg(self.leg().next()).postgres, *at)));
        fence::seal(fence, &recording).await
    }

    async fn drop_fence(&self, fence: Fence, _epoch: u64) -> Result<()> {
        fence::drop_fence(fence).await
    }

    async fn lift_fence(&self, plan: &Plan, epoch: u64) -> Result<()> {
        fence::mark::refuse_later(&self.connect_source("marks").await?, self.name(), epoch).await?;
        let clearing = Box::pin(schema::set_aside::make_way(self, plan));
        tokio::join!(fence::lift(self), self.fires().clear(self.name(), clearing)).0
    }

    async fn admit_writers(&self) -> Result<()> {
        let warm = self.warm.lock().guard.take();
        let session = match warm.filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => self.connect_target("guard").await?,
        };
        schema::set_aside::put_back(self, &session).await?;
        guard::lift(self, &session).await
    }

    async fn open_target(&self, _plan: &Plan, epoch: u64) -> Result<()> {
        let Some(before) = self.leg().before() else {
            return Ok(());
        };
        let warm = self.warm.lock().opening.take().filter(|session| !session.is_closed());
        let session = match warm {
            Some(session) => session,
            None => self.connect_target("lift").await?,
        };
        fence::mark::refuse_later(&session, self.name(), epoch).await?;
        fence::disarm(&session, &self.postgres.for_leg(before)).await
    }

    async fn after_switch(&self, _plan: &Plan) -> Result<()> {
        let target = self.connect_target("guard").await?;
        let forgotten = guard::forget(&target, self).await.and(schema::set_aside::finish(self, &target).await);
        match self.leg().before() {
            Some(before) => fence::forget(&target, &self.postgres.for_leg(before)).await.and(forgotten),
            None => forgotten,
        }
    }

    async fn marks(&self) -> Result<Vec<Mark>> {
        fence::mark::read(self).await
    }

    async fn confirm_mark(&self, epoch: u64) -> Result<()> {
        fence::mark::confirm(self, epoch).await
    }

    async fn clear_mark(&self) -> Result<()> {
        clean::clear_mark(self).await
    }
}

impl Counters for PostgresDatabase {
    async fn advance_counters(&self, plan: &Plan) -> Result<()> {
        let warm = self.warm.lock().counters.take();
        let warm = warm.filter(|(source, target)| !source.is_closed() && !target.is_closed());
        let (source, target) = match warm {
            Some(sessions) => sessions,
            None => self.counter_sessions().await?,
        };
        fence::counters::advance(self, plan, &source, &target).await
    }
}

impl NextLeg for PostgresDatabase {
    fn for_leg(&self, leg: Leg) -> Self {
        Self::new(self.postgres.for_leg(leg))
    }

    async fn arm(&self, plan: &Plan, token: &str) -> Result<()> {
        let session = next_leg::arm(self, plan, token).await?;
        self.warm.lock().armed = Some(session);
        Ok(())
    }

    async fn stream_end(&self) -> Result<Lsn> {
        let warm = self.warm.lock().armed.take().filter(|session| !session.is_closed());
        let session = match warm {
            Some(session) => session,
            None => self.connect_source("arm").await?,
        };
        next_leg::stream_end(&session).await
    }

    async fn retire(&self) -> Result<()> {
        let source = self.connect_source("retire").await?;
        clean::drop_stream(self, &source).await
    }

    async fn kept(&self) -> Result<Kept> {
        next_leg::kept(self).await
    }
}

impl SwitchSnapshots for PostgresDatabase {
    type Prepared = check::switch_snapshots::Prepared;
    type Snapshots = check::switch_snapshots::Snapshots;

    async fn prepare_snapshots(&self, plan: &Plan, _proved: Option<&Fingerprint>) -> Result<Self::Prepared> {
        check::switch_snapshots::prepare(self, plan).await
    }

    async fn open_snapshots(&self, prepared: Self::Prepared) -> Result<Self::Snapshots> {
        check::switch_snapshots::open(prepared).await
    }

    async fn compare_snapshots(
        &self,
        snapshots: Self::Snapshots,
        rows_per_second: u64,
        progress: Arc<SwitchProgress>,
        stop: CancellationToken,
    ) -> Result<SwitchVerdict> {
        check::switch_snapshots::compare(self, snapshots, rows_per_second, &progress, &stop).await
    }
}
