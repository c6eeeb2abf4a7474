//! What every part of a migration of MySQL or MariaDB needs: both servers, the settings, names, and sessions.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure};

use super::client::{self, Endpoint};
use crate::accounts::Secrets;
use crate::error::Result;
use crate::fires::Fires;
use crate::model::leg::Leg;
use crate::model::plan::Settings;

/// The database of Headgate's own records, on both sides.
pub const RECORDS: &str = "headgate";
/// What the names of the databases begin with in which definitions of the source are built on the target to be compared.
pub(crate) const SCRATCH: &str = "headgate_scratch_";

/// One migration between two servers of MySQL or MariaDB.
#[derive(Clone)]
pub struct Mysql {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) name: String,
    pub(super) leg: Leg,
    /// The databases that move, where the definition names them.
    pub(super) databases: Vec<String>,
    pub(super) source: Endpoint,
    pub(super) target: Endpoint,
    pub(super) settings: Settings,
    pub(super) secrets: Arc<dyn Secrets>,
    /// While the fence is up nothing but its marker may be written to the source, not even a heartbeat.
    pub(super) fenced: AtomicBool,
    pub(super) fires: Fires,
    /// Held while a heartbeat is on its way to the source.
    pub(super) beating: tokio::sync::Mutex<()>,
    /// Held by whoever builds the source's definitions in a scratch database on the target.
    pub(super) printing: tokio::sync::Mutex<()>,
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
    pub fn new(name: &str, source: Endpoint, target: Endpoint, settings: Settings, secrets: Arc<dyn Secrets>) -> Self {
        let databases =
            if settings.schemas.is_empty() { vec![source.database.clone()] } else { settings.schemas.clone() };
        Self::between(name, Leg::FIRST, databases, (source, target), settings, secrets)
    }

    /// The same two servers, with source and target as this leg has them.
    #[must_use]
    pub fn for_leg(&self, leg: Leg) -> Self {
        let inner = &self.inner;
        let (source, target) = (inner.source.clone(), inner.target.clone());
        let turned = leg.is_way_back() != inner.leg.is_way_back();
        let ends = if turned { (target, source) } else { (source, target) };
        let (databases, settings) = (inner.databases.clone(), inner.settings.clone());
        Self::between(&inner.name, leg, databases, ends, settings, Arc::clone(&inner.secrets))
    }

    fn between(
        name: &str,
        leg: Leg,
        databases: Vec<String>,
        (source, target): (Endpoint, Endpoint),
        settings: Settings,
        secrets: Arc<dyn Secrets>,
    ) -> Self {
        let inner = Inner {
            name: name.to_owned(),
            leg,
            databases,
            source,
            target,
            settings,
            secrets,
            fenced: AtomicBool::new(false),
            fires: Fires::default(),
            beating: tokio::sync::Mutex::new(()),
            printing: tokio::sync::Mutex::new(()),
        };
        Self { inner: Arc::new(inner) }
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

    /// The databases that move.
    pub fn databases(&self) -> Vec<String> {
        self.inner.databases.clone()
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

    /// Whether something on the target would fire for what is applied.
    pub(super) fn fires(&self) -> &Fires {
        &self.inner.fires
    }

    /// Held while a heartbeat is on its way: whoever has it after [`Mysql::set_fenced`] knows that none comes any more.
    pub(crate) async fn beating(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.beating.lock().await
    }

    /// A session on the source, named after the migration and what it is for.
    pub async fn connect_source(&self, purpose: &str) -> Result<Conn> {
        let purpose = self.purpose(purpose);
        let connecting = client::connect(&self.inner.source, &purpose);
        let mut session = Box::pin(connecting).await?;
        // The source of a later leg is the target of the one before, where what others write is counted.
        if self.inner.leg != Leg::FIRST {
            Box::pin(uncounted(&mut session)).await?;
        }
        Ok(session)
    }

    /// A session on the target, named after the migration and what it is for.
    pub async fn connect_target(&self, purpose: &str) -> Result<Conn> {
        let purpose = self.purpose(purpose);
        let connecting = client::connect(&self.inner.target, &purpose);
        let mut session = Box::pin(connecting).await?;
        Box::pin(uncounted(&mut session)).await?;
        Ok(session)
    }

    pub(super) async fn counter_sessions(&self) -> Result<(Conn, Conn)> {
        tokio::try_join!(self.connect_source("counters"), self.connect_target("counters"))
    }

    /// What follows `headgate ` in the `program_name` of a session with this purpose.
    pub fn purpose(&self, purpose: &str) -> String {
        format!("{} {purpose}", self.key())
    }
}

/// Has the server leave a session of Headgate's own out of what it counts, where it counts and lets us ask for that.
async fn uncounted(session: &mut Conn) -> Result<()> {
    let asked = session
        .query_drop("UPDATE performance_schema.threads SET INSTRUMENTED = 'NO' WHERE PROCESSLIST_ID = CONNECTION_ID()")
        .await;
    match asked {
        // It is counted then, and the guard of the target tells that nothing is known.
        Ok(()) | Err(Failure::Server(_)) => Ok(()),
        Err(error) => Err(client::failed("cannot see whether others write to the target", error)),
    }
}
