//! MySQL's and MariaDB's half of the control plane.

pub mod catalogue;
pub mod check;
pub mod clean;
pub mod client;
mod context;
pub mod fence;
pub mod follow;
pub(crate) mod guard;
pub mod heartbeat;
pub(crate) mod limits;
mod link;
pub mod load;
mod login;
mod next_leg;
pub mod plan;
pub mod position;
pub mod preflight;
mod processlist;
pub mod records;
mod refusal;
pub mod rights;
pub mod schema;
pub(crate) mod service;
pub mod session;
pub mod sql;
pub mod stale_sessions;
mod stream;
pub mod tokens;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::accounts::Account;
use crate::database::{
    ChangeStream, Comparison, Counters, Fencing, GatedBackends, Kept, KeyComparison, NextLeg, Preflight, Raised,
    SchemaAndLoad, SwitchSnapshots,
};
use crate::error::{Error, Kind, Result};
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
pub use context::{Mysql, RECORDS};
use fence::Fence;
pub use position::BinlogPosition;

/// One leg of a migration between two servers, and what was opened ahead of its cutover.
#[derive(Clone)]
pub struct MysqlDatabase {
    mysql: Mysql,
    warm: Arc<Mutex<Warm>>,
}

/// Opened ahead of a cutover, so that the pause does not wait for connections.
#[derive(Default)]
struct Warm {
    fence: Option<fence::Ready>,
    counters: Option<(Conn, Conn)>,
    /// On the target that refuses writers as long as this leg is not switched.
    target: Option<Conn>,
    /// Tells where the source's log ends, for the leg that begins there.
    armed: Option<next_leg::Armed>,
}

impl MysqlDatabase {
    /// The leg that `mysql` speaks of. Opens nothing yet.
    pub fn new(mysql: Mysql) -> Self {
        Self { mysql, warm: Arc::default() }
    }

    /// What keeps a way back from going on: it cannot begin anew, as most remedies of a first leg tell to.
    fn on_the_way(&self, error: Error) -> Error {
        let begins_anew =
            |remedy: &str| ["DROP MIGRATION", "RECOPY TABLE"].iter().any(|statement| remedy.contains(statement));
        if self.leg() == Leg::FIRST || !error.remedy_text().is_some_and(begins_anew) {
            return error;
        }
        let text = error.full_text();
        match error.kind() {
            Kind::Transient => Error::transient(text),
            Kind::Refused => Error::refused(text),
            Kind::Fatal => Error::fatal(text),
        }
    }

    /// The session that lets writers in to the target, if it still answers.
    async fn target_session(&self) -> Result<Conn> {
        let warm = self.warm.lock().target.take();
        if let Some(mut session) = warm
            && session.query_drop("DO 0").await.is_ok()
        {
            return Ok(session);
        }
        schema::connect(self, "open").await
    }
}

impl Deref for MysqlDatabase {
    type Target = Mysql;

    fn deref(&self) -> &Mysql {
        &self.mysql
    }
}

impl Preflight for MysqlDatabase {
    async fn preflight(&self) -> Result<Vec<Check>> {
        preflight::run(self).await
    }

    async fn accounts(&self) -> Result<Vec<Account>> {
        preflight::accounts(self).await
    }
}

impl SchemaAndLoad for MysqlDatabase {
    async fn plan(&self) -> Result<Plan> {
        plan::read(self).await
    }

    async fn has_schema(&self) -> Result<bool> {
        schema::is_there(self).await
    }

    async fn prepare(&self, plan: &Plan) -> Result<()> {
        schema::prepare(self, plan).await
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

impl ChangeStream for MysqlDatabase {
    type Position = BinlogPosition;

    async fn follow(
        &self,
        plan: &Plan,
        follow: Follow<BinlogPosition>,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<()> {
        let beginning = follow.begin().await?;
        schema::triggers::make_way(self).await?;
        drop(beginning);
        let following = follow::run(self, plan, follow, progress, stop).await;
        following.map_err(|error| self.on_the_way(error))
    }

    async fn hiding(&self) -> Result<Vec<String>> {
        fence::writers::hidden(self).await
    }
}

impl Comparison for MysqlDatabase {
    async fn check(
        &self,
        plan: &Plan,
        follow: Follow<BinlogPosition>,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<Checked> {
        // Who is still to come is proved with all that he may do: else the cutover makes what nobody proved.
        schema::accounts::complete(self).await?;
        check::run(self, plan, follow, progress, stop).await
    }

    async fn definitions(&self, _plan: &Plan) -> Result<Compared> {
        check::definitions::compare(self).await
    }

    async fn definitions_stamp(&self) -> Result<String> {
        Ok(check::stamp::short(&check::stamp::fingerprint(self).await?))
    }
}

impl KeyComparison for MysqlDatabase {
    type KeySessions = check::residue::Sessions;

    async fn open_key_sessions(&self, plan: &Plan) -> Result<Self::KeySessions> {
        check::residue::open(self, plan).await
    }

    async fn differing_rows(&self, sessions: &mut Self::KeySessions, table: &str, keys: &[Key]) -> Result<Vec<String>> {
        sessions.differing(table, keys).await
    }
}

impl Fencing for MysqlDatabase {
    type Fence = Fence;

    fn databases(&self) -> Vec<String> {
        self.mysql.databases()
    }

    async fn writers(&self, gated_backends: GatedBackends<'_>) -> Result<Vec<Check>> {
        let (source, target) = tokio::try_join!(fence::writers::findings(self, gated_backends), guard::findings(self))?;
        Ok([source, target].concat())
    }

    async fn warm_up(&self, plan: &Plan, proved: Option<&Fingerprint>) -> Result<()> {
        let mut ready = fence::warm_up(self, plan).await?;
        schema::accounts::complete(self).await?;
        let mut counters = self.counter_sessions().await?;
        fence::mark::install(&mut counters.0).await?;
        fence::counters::advance_early(self, plan, &mut counters.0, &mut counters.1).await?;
        let refuses = self.leg() != Leg::FIRST;
        let target = if refuses { Some(schema::connect(self, "open").await?) } else { None };
        // The last, because the servers count Headgate's own statements too.
        ready.look(fence::UnderFence::open(self, proved).await?);
        let mut warm = self.warm.lock();
        (warm.fence, warm.counters, warm.target) = (Some(ready), Some(counters), target);
        Ok(())
    }

    async fn raise_fence(&self, plan: &Plan, token: &str, limit: Duration) -> Result<Raised<Fence, BinlogPosition>> {
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
        next_begins: Option<&BinlogPosition>,
        gated_backends: GatedBackends<'_>,
    ) -> Result<()> {
        let mut session = fence::seal(self, fence, gated_backends).await?;
        fence::mark::write(self, &mut session, mark, next_begins).await
    }

    async fn drop_fence(&self, mut fence: Fence, epoch: u64) -> Result<()> {
        fence::mark::refuse_later(&mut fence.session, self.name(), epoch).await?;
        tokio::join!(fence::drop_fence(self, fence), self.fires().clear(self.name(), schema::triggers::remove(self))).0
    }

    async fn lift_fence(&self, plan: &Plan, epoch: u64) -> Result<()> {
        fence::mark::refuse_later(&mut self.connect_source("marks").await?, self.name(), epoch).await?;
        let (lifted, ()) =
            tokio::join!(fence::lift(self, plan), self.fires().clear(self.name(), schema::triggers::remove(self)));
        lifted?;
        // Whoever might still have written it is gone by now.
        fence::mark::remove(self).await
    }

    async fn open_target(&self, _plan: &Plan, epoch: u64) -> Result<()> {
        if self.leg() == Leg::FIRST {
            return Ok(());
        }
        let mut target = self.target_session().await?;
        fence::mark::refuse_later(&mut target, self.name(), epoch).await?;
        next_leg::open_target(self, &mut target).await
    }

    async fn is_target_locked(&self) -> Result<bool> {
        let mut target = self.connect_target("warm").await?;
        let locked = schema::accounts::refused::read(self, &mut target).await?;
        Ok(!locked.is_empty())
    }

    async fn after_switch(&self, _plan: &Plan) -> Result<()> {
        // Both are tried, whatever becomes of the other.
        let (upheld, enabled) = tokio::join!(fence::uphold(self), schema::post_cutover::run(self));
        upheld.map(drop).and(enabled)
    }

    async fn marks(&self) -> Result<Vec<Mark>> {
        fence::mark::read(self).await
    }

    async fn confirm_mark(&self, epoch: u64) -> Result<()> {
        fence::mark::confirm(self, epoch).await
    }

    async fn clear_mark(&self) -> Result<()> {
        fence::clear_mark(self).await
    }

    async fn uphold_fence(&self) -> Result<bool> {
        fence::uphold(self).await
    }

    async fn fence_state(&self) -> Result<Vec<Check>> {
        fence::state(self).await
    }
}

impl Counters for MysqlDatabase {
    async fn advance_counters(&self, plan: &Plan) -> Result<()> {
        let warm = self.warm.lock().counters.take();
        let (source, target) = match warm {
            Some(sessions) => sessions,
            None => self.counter_sessions().await?,
        };
        fence::counters::advance(self, plan, source, target).await
    }
}

impl NextLeg for MysqlDatabase {
    fn for_leg(&self, leg: Leg) -> Self {
        Self::new(self.mysql.for_leg(leg))
    }

    async fn arm(&self, plan: &Plan, token: &str) -> Result<()> {
        let armed = next_leg::arm(self, plan, token).await?;
        self.warm.lock().armed = Some(armed);
        Ok(())
    }

    async fn stream_end(&self) -> Result<BinlogPosition> {
        let warm = self.warm.lock().armed.take();
        let reported = match warm {
            Some(mut armed) => armed.stream_end().await.ok().map(|end| (end, armed)),
            None => None,
        };
        let (end, armed) = if let Some(reported) = reported {
            reported
        } else {
            let mut armed = next_leg::Armed::open(self).await?;
            (armed.stream_end().await?, armed)
        };
        self.warm.lock().armed = Some(armed);
        Ok(end)
    }

    async fn retire(&self) -> Result<()> {
        self.warm.lock().armed = None;
        next_leg::retire(self).await
    }

    async fn kept(&self) -> Result<Kept> {
        next_leg::kept(self).await
    }
}

impl SwitchSnapshots for MysqlDatabase {
    type Prepared = check::switch_snapshots::Prepared;
    type Snapshots = check::switch_snapshots::Snapshots;

    async fn prepare_snapshots(&self, _plan: &Plan, proved: Option<&Fingerprint>) -> Result<Self::Prepared> {
        check::switch_snapshots::prepare(self, proved).await
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
