//! PostgreSQL's half of the control plane.

mod apply;
pub mod archive;
mod batch;
mod catalogue;
pub mod clean;
pub mod client;
mod coalesce;
pub mod copy;
pub mod counters;
mod definitions;
mod digest;
mod drift;
mod expressions;
pub mod fence;
pub mod follow;
mod guard;
mod heartbeat;
pub mod inventory;
mod jobs;
mod link;
mod literals;
pub mod load;
mod login;
mod made;
mod mark;
pub mod plan;
pub mod position;
pub mod post_data;
pub mod preflight;
pub mod properties;
mod ranges;
pub mod records;
pub mod rights;
pub mod roles;
pub mod schema;
mod session;
pub mod snapshot;
mod snapshot_pair;
pub mod sql;
mod stale_sessions;
mod stamp;
mod statements;
pub mod stream;
mod tables;
pub mod tools;
pub mod verify;
mod writers;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::accounts::{Account, Secrets};
use crate::database::{Database, GatedBackends, Raised};
use crate::definitions::{Compared, Fingerprint};
use crate::error::Result;
use crate::follow::Follow;
use crate::mark::Mark;
use crate::plan::{Plan, Settings, Table};
use crate::preflight::Check;
use crate::progress::Progress;
use crate::verify::Checked;
pub use client::Endpoint;
use fence::Fence;
pub use position::Lsn;

/// The client programs that move the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// `pg_dump`, at least as new as the source.
    pub pg_dump: PathBuf,
    /// `pg_restore`, of the same version.
    pub pg_restore: PathBuf,
}

impl Default for Tools {
    fn default() -> Self {
        Self {
            pg_dump: "pg_dump".into(),
            pg_restore: "pg_restore".into(),
        }
    }
}

/// One migration between two PostgreSQL databases.
#[derive(Clone)]
pub struct Postgres {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    source: Endpoint,
    target: Endpoint,
    settings: Settings,
    tools: Tools,
    secrets: Arc<dyn Secrets>,
    /// Opened ahead of a cutover, so that the pause does not wait for connections.
    warm: Mutex<Warm>,
    /// What the start of the change stream waits for.
    waits_for: Mutex<Option<String>>,
}

#[derive(Default)]
struct Warm {
    fence: Option<fence::Ready>,
    counters: Option<(Client, Client)>,
    guard: Option<Client>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Postgres")
            .field("name", &self.inner.name)
            .field("source", &self.inner.source)
            .field("target", &self.inner.target)
            .finish_non_exhaustive()
    }
}

impl Postgres {
    /// The migration `name` from `source` to `target`. Opens nothing yet.
    pub fn new(
        name: &str,
        source: Endpoint,
        target: Endpoint,
        settings: Settings,
        tools: Tools,
        secrets: Arc<dyn Secrets>,
    ) -> Self {
        let warm = Mutex::default();
        let inner = Inner {
            name: name.to_owned(),
            source,
            target,
            settings,
            tools,
            secrets,
            warm,
            waits_for: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    pub(super) fn set_waits_for(&self, whom: Option<String>) {
        *self.inner.waits_for.lock() = whom;
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

    /// The client programs.
    pub fn tools(&self) -> &Tools {
        &self.inner.tools
    }

    /// The passwords of the application's roles that Headgate knows.
    pub fn secrets(&self) -> &dyn Secrets {
        &*self.inner.secrets
    }

    /// The name of the slot, the publication and the replication origin.
    pub fn slot(&self) -> String {
        slot_name(&self.inner.name)
    }

    /// The publication on the source.
    pub fn publication(&self) -> String {
        self.slot()
    }

    /// A session on the source, named after the migration and what it is for.
    pub async fn connect_source(&self, purpose: &str) -> Result<Client> {
        client::connect(&self.inner.source, &self.purpose(purpose)).await
    }

    /// A session on the target, named after the migration and what it is for.
    pub async fn connect_target(&self, purpose: &str) -> Result<Client> {
        client::connect(&self.inner.target, &self.purpose(purpose)).await
    }

    async fn counter_sessions(&self) -> Result<(Client, Client)> {
        tokio::try_join!(
            self.connect_source("counters"),
            self.connect_target("counters")
        )
    }

    /// What follows `headgate ` in the `application_name` of a session with this purpose.
    pub fn purpose(&self, purpose: &str) -> String {
        format!("{} {purpose}", self.inner.name)
    }
}

impl Database for Postgres {
    type Position = Lsn;
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

    async fn definitions(&self, _plan: &Plan) -> Result<Compared> {
        definitions::compare(self).await
    }

    async fn definitions_stamp(&self) -> Result<String> {
        stamp::Stamp::open(self).await?.read().await
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

    fn waits_for(&self) -> Option<String> {
        self.inner.waits_for.lock().clone()
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
        follow: Follow<Lsn>,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<()> {
        follow::run(self, plan, follow, progress, stop).await
    }

    async fn check(
        &self,
        plan: &Plan,
        follow: Follow<Lsn>,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<Checked> {
        verify::run(self, plan, follow, progress, stop).await
    }

    async fn warm_up(&self, plan: &Plan, proved: Option<&Fingerprint>) -> Result<()> {
        let mut ready = fence::warm_up(self, plan).await?;
        let guard = guard::raise(self, plan).await?;
        ready.look(fence::UnderFence::open(self, proved).await?);
        let counters = self.counter_sessions().await?;
        *self.inner.warm.lock() = Warm {
            fence: Some(ready),
            counters: Some(counters),
            guard: Some(guard),
        };
        Ok(())
    }

    async fn raise_fence(
        &self,
        plan: &Plan,
        token: &str,
        patience: Duration,
    ) -> Result<Raised<Fence, Lsn>> {
        let ready = self.inner.warm.lock().fence.take();
        fence::raise(ready, self, plan, token, patience).await
    }

    async fn confirm_fence(&self, plan: &Plan, fence: &mut Fence) -> Result<()> {
        fence::confirm(self, plan, fence).await
    }

    async fn advance_counters(&self, plan: &Plan) -> Result<()> {
        let warm = self.inner.warm.lock().counters.take();
        let warm = warm.filter(|(source, target)| !source.is_closed() && !target.is_closed());
        let (source, target) = match warm {
            Some(sessions) => sessions,
            None => self.counter_sessions().await?,
        };
        counters::advance(self, plan, &source, &target).await
    }

    async fn seal_fence(
        &self,
        fence: Fence,
        mark: &Mark,
        _carried: GatedBackends<'_>,
    ) -> Result<()> {
        fence::seal(fence, &mark::writing(mark)).await
    }

    async fn drop_fence(&self, fence: Fence) -> Result<()> {
        fence::drop_fence(fence).await
    }

    async fn lift_fence(&self, _plan: &Plan) -> Result<()> {
        fence::lift(self).await
    }

    async fn admit_writers(&self) -> Result<()> {
        let warm = self.inner.warm.lock().guard.take();
        guard::lift(self, warm).await
    }

    async fn after_switch(&self, _plan: &Plan) -> Result<()> {
        let target = self.connect_target("guard").await?;
        guard::forget(&target, self).await
    }

    fn databases(&self) -> Vec<String> {
        vec![self.source().database.clone()]
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

    async fn remove_made(&self) -> Result<Vec<String>> {
        made::remove(self).await
    }

    async fn clean_up(&self) -> Result<()> {
        clean::run(self).await
    }
}

/// Slots allow lower-case letters, digits and underscores only, at most 63; what does not fit is told apart by a hash.
fn slot_name(migration: &str) -> String {
    let fits = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_'
    };
    if migration.len() <= 40 && migration.chars().all(fits) {
        return format!("headgate_{migration}");
    }
    let kept: String = migration
        .chars()
        .take(30)
        .map(|character| if fits(character) { character } else { '_' })
        .collect();
    let hash = migration
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("headgate_{kept}_{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::slot_name;

    #[test]
    fn names_that_differ_get_slots_that_differ() {
        assert_eq!(slot_name("shop"), "headgate_shop");
        assert_ne!(slot_name("Shop"), slot_name("shop"));
        assert_ne!(slot_name("a-b"), slot_name("a_b"));
        assert_ne!(slot_name(&"x".repeat(99)), slot_name(&"x".repeat(98)));
        assert!(slot_name(&"ü".repeat(200)).len() <= 63);
    }
}
