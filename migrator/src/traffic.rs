//! What the migrator needs from whoever carries the application's statements.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::Result;

/// A future that the trait object can hand out.
pub type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A session that has a transaction open, named so that the operator can find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// The pid of its server session, as `pg_stat_activity` shows it.
    pub pid: i64,
    /// The user that opened it.
    pub user: String,
    /// Where the client connects from.
    pub client: String,
    /// How long it has been open.
    pub age: Duration,
}

/// A session that may have written past the log which a migration follows, named so that the operator can find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenWrites {
    /// The pid of its server session at that time.
    pub pid: i64,
    /// The user that logged in.
    pub user: String,
    /// Where the client connects from.
    pub client: String,
    /// The setting or function by which it did: `sql_log_bin`, `session_replication_role`.
    pub what: String,
    /// When a statement of that kind went by first.
    pub since: SystemTime,
    /// When the session ended; none while it is open, since it may go on.
    pub until: Option<SystemTime>,
}

/// A session that the next switch will close, or of which that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmovable {
    /// The pid of its server session.
    pub pid: i64,
    /// The user that logged in.
    pub user: String,
    /// Where the client connects from.
    pub client: String,
    /// Why it cannot move, as the report of a cutover counts it; or `not known: ` and why it could not be asked.
    pub reason: String,
}

/// What the statements that met a closed gate went through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// How many statements were held.
    pub held: u64,
    /// The median time a statement was held.
    pub p50: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
    /// Held statements whose client asked to cancel them.
    pub cancelled: u64,
    /// Held statements whose client went away.
    pub gone: u64,
    /// Held statements that were refused because the hold lasted too long.
    pub refused: u64,
}

/// What became of the sessions after a switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handovers {
    /// Sessions that now run on the new cluster with their state rebuilt.
    pub moved: u64,
    /// Sessions that have not spoken since the switch and move with their next statement.
    pub pending: u64,
    /// Sessions that could not be moved, by reason.
    pub closed: BTreeMap<String, u64>,
}

/// Whether sessions of a route are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// They are.
    Open,
    /// The route's cluster was not looked at yet; what the last look met, where one failed.
    Looking(Option<String>),
    /// They are, though it cannot be known whether they should be.
    Unseen {
        /// What keeps it from being known.
        why: String,
        /// What the operator can do.
        remedy: String,
    },
    /// They are not.
    Refused {
        /// What was found.
        why: String,
        /// What the operator can do.
        remedy: String,
    },
}

/// Commands to the gate and the route that the application's sessions obey.
///
/// Every method names the route. A route that does not exist is an [`crate::Error`] of kind refused.
pub trait Traffic: Send + Sync + 'static {
    /// Every route that is there, and the cluster that serves it now; of the default route those names that have sessions.
    fn served(&self) -> Vec<(String, String)>;

    /// Says whether sessions of the route are let in from now on. Those that are in stay.
    fn admit(&self, route: &str, admission: Admission) -> Result<()>;

    /// Whether sessions of the route are let in.
    fn admission(&self, route: &str) -> Result<Admission>;

    /// Every other way to these databases on the server that serves the route now: routes whose clients pass gates of
    /// their own, and `*` for what the default route serves; each with the database.
    fn other_routes(&self, route: &str, databases: &[String]) -> Result<Vec<(String, String)>>;

    /// Opens sessions on `cluster` ahead of a switch, for as many of the route's clients as `limit` allows. Those
    /// that are not used within about half a minute are closed again. Tells of each session that could not be opened
    /// why not.
    fn warm<'a>(&'a self, route: &'a str, cluster: &'a str, limit: Duration) -> Waiting<'a, Result<Vec<String>>>;

    /// Gives up what [`Traffic::warm`] opened: the switch does not come.
    fn cool(&self, route: &str) -> Result<()>;

    /// Closes the gate: what would begin a transaction is held from now on. Starts a fresh count of holds.
    fn hold(&self, route: &str) -> Result<()>;

    /// Resolves once no transaction is open through the gate. Cancel safe.
    fn quiet<'a>(&'a self, route: &'a str) -> Waiting<'a, Result<()>>;

    /// The sessions that still have a transaction open, the oldest first.
    fn open_transactions(&self, route: &str) -> Result<Vec<OpenTransaction>>;

    /// The server sessions of the route's clients on the cluster which serves it now, by the numbers that the server
    /// gives them. Those of other routes pass other gates.
    fn gated_backends(&self, route: &str) -> Result<Vec<i64>>;

    /// The sessions of the route that may have written past the log, those included that have ended since. What they
    /// wrote is in no proof of a migration that copied before their `until`.
    fn hidden_writes(&self, route: &str) -> Result<Vec<HiddenWrites>>;

    /// The sessions that a switch at this moment would close, each with its reason. Idle sessions are asked, those in
    /// the middle of something are not; what could not be asked within `limit` is listed as not known.
    fn unmovable<'a>(&'a self, route: &'a str, limit: Duration) -> Waiting<'a, Result<Vec<Unmovable>>>;

    /// Points the route at `cluster` under a new generation. The gate stays as it is.
    /// Pointing it where it already points changes nothing.
    fn switch(&self, route: &str, cluster: &str) -> Result<()>;

    /// Opens the gate; the held go on, in the order in which they came. Opening an open gate changes nothing.
    fn release(&self, route: &str) -> Result<()>;

    /// Lets the held statements go on although the source may refuse them, because it is not known whether its fence is
    /// down. What it refuses is held again where nobody would notice, until [`Traffic::release`].
    fn release_warily(&self, route: &str) -> Result<()> {
        self.release(route)
    }

    /// What the held statements of the last hold went through. Resolves when the last of them has gone on,
    /// or after `limit` with what is known by then.
    fn holds<'a>(&'a self, route: &'a str, limit: Duration) -> Waiting<'a, Result<Holds>>;

    /// What became of the sessions since the last switch, as of now.
    fn handovers(&self, route: &str) -> Result<Handovers>;
}
