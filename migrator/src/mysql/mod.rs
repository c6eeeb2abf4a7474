//! MySQL's and MariaDB's half of the control plane.

pub mod accounts;
mod apply;
pub mod archive;
mod batch;
mod beside;
mod catalog_objects;
mod catalog_tables;
pub mod catalogue;
pub mod chunks;
pub mod clean;
pub mod client;
mod coalesce;
pub mod copy;
pub mod counters;
mod ddl;
pub mod definitions;
mod digest;
mod drift;
pub mod fence;
pub mod follow;
pub mod grants;
mod guard;
pub mod heartbeat;
pub mod inventory;
mod json;
mod json_text;
mod link;
pub mod load;
mod login;
mod made;
mod mark;
mod passing;
pub mod plan;
pub mod position;
mod post_cutover;
pub mod post_data;
pub mod preflight;
mod printed;
mod processlist;
mod ranges;
pub mod records;
mod reprinted;
pub mod rights;
pub mod rows;
pub mod schema;
pub mod session;
pub mod snapshot;
mod snapshot_pair;
pub mod sql;
pub mod stale_sessions;
pub mod stamp;
mod statements;
mod stream;
mod tables;
pub mod tokens;
pub mod triggers;
mod values;
pub mod verify;
mod writers;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql_async::Conn;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::accounts::{Account, Secrets};
use crate::database::{Database, GatedBackends, Raised};
use crate::definitions::{Compared, Fingerprint};
use crate::error::{Error, Result};
use crate::follow::Follow;
use crate::mark::Mark;
use crate::plan::{Plan, Settings, Table};
use crate::preflight::Check;
use crate::progress::Progress;
use crate::verify::Checked;
pub use client::Endpoint;
use fence::Fence;
pub use position::BinlogPosition;

/// The database of Headgate's own records, on both sides.
pub const RECORDS: &str = "headgate";

/// How long writers wait for the target while the fence is lifted.
const TRIGGERS_PATIENCE: Duration = Duration::from_secs(1);

/// One migration between two servers of MySQL or MariaDB.
#[derive(Clone)]
pub struct Mysql {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    source: Endpoint,
    target: Endpoint,
    settings: Settings,
    secrets: Arc<dyn Secrets>,
    /// Opened ahead of a cutover, so that the pause does not wait for connections.
    warm: Mutex<Warm>,
    /// While the fence is up nothing but its marker may be written to the source, not even a heartbeat.
    fenced: AtomicBool,
    /// Held while a heartbeat is on its way to the source.
    beating: tokio::sync::Mutex<()>,
    /// Held by whoever builds the source's definitions in a scratch database on the target.
    printing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Warm {
    fence: Option<fence::Ready>,
    counters: Option<(Conn, Conn)>,
}

impl fmt::Debug for Mysql {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Mysql")
            .field("name", &self.inner.name)
            .field("source", &self.inner.source)
            .field("target", &self.inner.target)
            .finish_non_exhaustive()
    }
}

impl Mysql {
    /// The migration `name` from `source` to `target`. Opens nothing yet.
    pub fn new(
        name: &str,
        source: Endpoint,
        target: Endpoint,
        settings: Settings,
        secrets: Arc<dyn Secrets>,
    ) -> Self {
        let inner = Inner {
            name: name.to_owned(),
            source,
            target,
            settings,
            secrets,
            warm: Mutex::default(),
            fenced: AtomicBool::new(false),
            beating: tokio::sync::Mutex::new(()),
            printing: tokio::sync::Mutex::new(()),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The migration's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Where the rows are now.
    pub fn source(&self) -> &Endpoint {
        &self.inner.source
    }

    /// Where they go.
    pub fn target(&self) -> &Endpoint {
        &self.inner.target
    }

    /// How to go about it.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The databases that move.
    pub fn databases(&self) -> Vec<String> {
        if self.inner.settings.schemas.is_empty() {
            vec![self.inner.source.database.clone()]
        } else {
            self.inner.settings.schemas.clone()
        }
    }

    /// The passwords that clients proved to know, where the operator lets Headgate keep them.
    pub fn secrets(&self) -> &dyn Secrets {
        &*self.inner.secrets
    }

    /// Whether the fence is up, so that not even a heartbeat may be written to the source.
    pub fn is_fenced(&self) -> bool {
        self.inner.fenced.load(Ordering::SeqCst)
    }

    /// Says that the fence goes up, or that it is down again.
    pub fn set_fenced(&self, fenced: bool) {
        self.inner.fenced.store(fenced, Ordering::SeqCst);
    }

    /// Held while a heartbeat is on its way: whoever has it after [`Mysql::set_fenced`] knows that none comes any more.
    pub(crate) async fn beating(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.beating.lock().await
    }

    /// A session on the source, named after the migration and what it is for.
    pub async fn connect_source(&self, purpose: &str) -> Result<Conn> {
        client::connect(&self.inner.source, &self.purpose(purpose)).await
    }

    /// A session on the target, named after the migration and what it is for.
    pub async fn connect_target(&self, purpose: &str) -> Result<Conn> {
        let purpose = self.purpose(purpose);
        let connecting = client::connect(&self.inner.target, &purpose);
        let mut session = Box::pin(connecting).await?;
        Box::pin(guard::pass(&mut session)).await?;
        Ok(session)
    }

    async fn counter_sessions(&self) -> Result<(Conn, Conn)> {
        tokio::try_join!(
            self.connect_source("counters"),
            self.connect_target("counters")
        )
    }

    /// What follows `headgate ` in the `program_name` of a session with this purpose.
    pub fn purpose(&self, purpose: &str) -> String {
        format!("{} {purpose}", self.inner.name)
    }
}

impl Database for Mysql {
    type Position = BinlogPosition;
    type Fence = Fence;

    async fn preflight(&self) -> Result<Vec<Check>> {
        preflight::run(self).await
    }

    async fn accounts(&self) -> Result<Vec<Account>> {
        preflight::accounts(self).await
    }

    async fn writers(&self, gated_backends: GatedBackends<'_>) -> Result<Vec<Check>> {
        let (source, target) = tokio::try_join!(
            writers::findings(self, gated_backends),
            guard::findings(self)
        )?;
        Ok([source, target].concat())
    }

    async fn hiding(&self) -> Result<Vec<String>> {
        writers::hidden(self).await
    }

    async fn definitions(&self, _plan: &Plan) -> Result<Compared> {
        catalog_objects::compare(self).await
    }

    async fn definitions_stamp(&self) -> Result<String> {
        Ok(stamp::short(&stamp::fingerprint(self).await?))
    }

    async fn plan(&self) -> Result<Plan> {
        plan::read(self).await
    }

    async fn has_schema(&self) -> Result<bool> {
        schema::is_there(self).await
    }

    async fn prepare(&self, plan: &Plan) -> Result<()> {
        schema::prepare(self, plan).await
    }

    async fn copy(
        &self,
        plan: &Plan,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<()> {
        copy::run(self, plan, progress, stop).await
    }

    async fn recopy(
        &self,
        tables: &[Table],
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<()> {
        copy::again(self, tables, progress, stop).await
    }

    async fn follow(
        &self,
        plan: &Plan,
        follow: Follow<BinlogPosition>,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<()> {
        triggers::remove(self).await?;
        follow::run(self, plan, follow, progress, stop).await
    }

    async fn check(
        &self,
        plan: &Plan,
        follow: Follow<BinlogPosition>,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<Checked> {
        // Who is still to come is proved with all that he may do: else the cutover makes what nobody proved.
        accounts::complete(self).await?;
        verify::run(self, plan, follow, progress, stop).await
    }

    async fn warm_up(&self, plan: &Plan, proved: Option<&Fingerprint>) -> Result<()> {
        let mut ready = fence::warm_up(self, plan).await?;
        accounts::complete(self).await?;
        let mut counters = self.counter_sessions().await?;
        mark::install(&mut counters.0).await?;
        counters::advance_early(self, plan, &mut counters.0, &mut counters.1).await?;
        // The last, because the servers count Headgate's own statements too.
        ready.look(fence::UnderFence::open(self, proved).await?);
        *self.inner.warm.lock() = Warm {
            fence: Some(ready),
            counters: Some(counters),
        };
        Ok(())
    }

    async fn raise_fence(
        &self,
        plan: &Plan,
        token: &str,
        patience: Duration,
    ) -> Result<Raised<Fence, BinlogPosition>> {
        let ready = self.inner.warm.lock().fence.take();
        fence::raise(ready, self, plan, token, patience).await
    }

    async fn confirm_fence(&self, plan: &Plan, fence: &mut Fence) -> Result<()> {
        fence::confirm(self, plan, fence).await
    }

    async fn advance_counters(&self, plan: &Plan) -> Result<()> {
        let warm = self.inner.warm.lock().counters.take();
        let (source, target) = match warm {
            Some(sessions) => sessions,
            None => self.counter_sessions().await?,
        };
        counters::advance(self, plan, source, target).await
    }

    async fn seal_fence(
        &self,
        fence: Fence,
        mark: &Mark,
        gated_backends: GatedBackends<'_>,
    ) -> Result<()> {
        let mut session = fence::seal(self, fence, gated_backends).await?;
        mark::write(self, &mut session, mark).await
    }

    async fn drop_fence(&self, fence: Fence) -> Result<()> {
        // The follower goes on: what it applies must not fire them.
        triggers::remove(self).await?;
        fence::drop_fence(self, fence).await
    }

    async fn lift_fence(&self, plan: &Plan) -> Result<()> {
        // The source must accept writes again, whatever became of the target. The follower removes them too when it starts.
        let removing = tokio::time::timeout(TRIGGERS_PATIENCE, triggers::remove(self)).await;
        let removed = removing.unwrap_or_else(|_| {
            Err(Error::transient(
                "the target did not remove its triggers in time",
            ))
        });
        fence::lift(self, plan).await?;
        // Whoever might still have written it is gone by now.
        mark::remove(self).await?;
        removed
    }

    async fn after_switch(&self, _plan: &Plan) -> Result<()> {
        post_cutover::run(self).await
    }

    fn databases(&self) -> Vec<String> {
        Self::databases(self)
    }

    async fn marks(&self) -> Result<Vec<Mark>> {
        mark::read(self).await
    }

    async fn confirm_mark(&self) -> Result<()> {
        mark::confirm(self).await
    }

    async fn clear_mark(&self) -> Result<()> {
        mark::clear(self).await
    }

    async fn uphold_fence(&self) -> Result<bool> {
        fence::uphold(self).await
    }

    async fn fence_state(&self) -> Result<Vec<Check>> {
        fence::state(self).await
    }

    async fn remove_made(&self) -> Result<Vec<String>> {
        made::remove(self).await
    }

    async fn clean_up(&self) -> Result<()> {
        clean::run(self).await
    }
}
