//! What every part of a PostgreSQL migration needs: both servers, the settings, names, and sessions.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_postgres::Client;

use super::client::{self, Endpoint};
use crate::accounts::Secrets;
use crate::error::Result;
use crate::fires::Fires;
use crate::model::leg::Leg;
use crate::model::plan::Settings;

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
        Self { pg_dump: "pg_dump".into(), pg_restore: "pg_restore".into() }
    }
}

/// One migration between two PostgreSQL databases.
#[derive(Clone)]
pub struct Postgres {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) name: String,
    pub(super) leg: Leg,
    pub(super) source: Endpoint,
    pub(super) target: Endpoint,
    pub(super) settings: Settings,
    pub(super) tools: Tools,
    pub(super) secrets: Arc<dyn Secrets>,
    /// What the start of the change stream waits for.
    pub(super) waits_for: Mutex<Option<String>>,
    pub(super) fires: Fires,
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
        let (name, leg, waits_for, fires) = (name.to_owned(), Leg::FIRST, Mutex::default(), Fires::default());
        Self { inner: Arc::new(Inner { name, leg, source, target, settings, tools, secrets, waits_for, fires }) }
    }

    /// The same two databases, with source and target as this leg has them.
    #[must_use]
    pub fn for_leg(&self, leg: Leg) -> Self {
        let (source, target) = (self.inner.source.clone(), self.inner.target.clone());
        let turned = leg.is_way_back() != self.inner.leg.is_way_back();
        let (source, target) = if turned { (target, source) } else { (source, target) };
        self.between(leg, source, target)
    }

    /// What this leg has on the cluster that is the source here.
    pub(super) fn on_source(&self, leg: Leg) -> Self {
        self.between(leg, self.inner.source.clone(), self.inner.target.clone())
    }

    fn between(&self, leg: Leg, source: Endpoint, target: Endpoint) -> Self {
        let inner = &self.inner;
        let (settings, tools, secrets) = (inner.settings.clone(), inner.tools.clone(), Arc::clone(&inner.secrets));
        let (name, waits_for, fires) = (inner.name.clone(), Mutex::default(), Fires::default());
        Self { inner: Arc::new(Inner { name, leg, source, target, settings, tools, secrets, waits_for, fires }) }
    }

    /// Whether something on the target would fire for what is applied.
    pub(super) fn fires(&self) -> &Fires {
        &self.inner.fires
    }

    pub(super) fn set_waits_for(&self, whom: Option<String>) {
        *self.inner.waits_for.lock() = whom;
    }

    /// The migration's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Which direction of it this is.
    pub fn leg(&self) -> Leg {
        self.inner.leg
    }

    /// What this leg's records, sessions and locks go by.
    pub fn key(&self) -> String {
        self.inner.leg.key(&self.inner.name)
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
        slot_name(self.inner.leg, &self.inner.name)
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

    pub(super) async fn counter_sessions(&self) -> Result<(Client, Client)> {
        tokio::try_join!(self.connect_source("counters"), self.connect_target("counters"))
    }

    /// What follows `headgate ` in the `application_name` of a session with this purpose.
    pub fn purpose(&self, purpose: &str) -> String {
        format!("{} {purpose}", self.key())
    }
}

/// Slots allow lower-case letters, digits and underscores only, at most 63; what does not fit is told apart by a hash.
fn slot_name(leg: Leg, migration: &str) -> String {
    let fits = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_';
    let number = if leg == Leg::FIRST { String::new() } else { leg.to_string() };
    if migration.len() <= 40 && migration.chars().all(fits) {
        return format!("headgate{number}_{migration}");
    }
    let kept: String =
        migration.chars().take(30).map(|character| if fits(character) { character } else { '_' }).collect();
    let hash = migration
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut name = format!("headgate{number}_{kept}_");
    name.truncate(63 - 16);
    format!("{name}{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::Leg;

    fn slot_name(migration: &str) -> String {
        super::slot_name(Leg::FIRST, migration)
    }

    #[test]
    fn no_leg_has_the_slot_of_another_or_of_another_migration() {
        let second = |migration| super::slot_name(Leg::new(2), migration);
        assert_eq!(second("shop"), "headgate2_shop");
        assert_ne!(second("shop"), slot_name("2_shop"));
        assert_ne!(second("shop"), super::slot_name(Leg::new(22), "shop"));
        assert!(super::slot_name(Leg::new(u32::MAX), &"x".repeat(200)).len() <= 63);
    }

    #[test]
    fn names_that_differ_get_slots_that_differ() {
        assert_eq!(slot_name("shop"), "headgate_shop");
        assert_ne!(slot_name("Shop"), slot_name("shop"));
        assert_ne!(slot_name("a-b"), slot_name("a_b"));
        assert_ne!(slot_name(&"x".repeat(99)), slot_name(&"x".repeat(98)));
        assert!(slot_name(&"ü".repeat(200)).len() <= 63);
    }
}
