//! Which cluster is *the* cluster now: one atomic value with a generation number for each route.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::gate::Gate;
use crate::hidden_writes::HiddenWritesLog;

/// A database server, or its primary's address, that sessions can be opened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The name in the configuration.
    pub name: String,
    /// A host name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The Unix socket that is used instead of both.
    pub socket: Option<PathBuf>,
    /// How long opening a connection and logging in may take.
    pub connect_timeout: Duration,
}

/// Where a route leads, and since which switch.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The cluster that serves the route.
    pub cluster: Arc<Cluster>,
    /// Grows by one with every switch.
    pub generation: u64,
}

/// What became of the sessions of a route since its last switch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandoverLog {
    /// Sessions moved with their state.
    pub moved: u64,
    /// Sessions closed because they could not be moved, by reason.
    pub closed: BTreeMap<&'static str, u64>,
}

/// The name that applications connect to.
#[derive(Debug)]
pub struct Route {
    /// The database name that the application gives.
    pub name: String,
    /// The database's name on the clusters.
    pub database: String,
    /// What its sessions pass to begin a transaction.
    pub gate: Arc<Gate>,
    destination: ArcSwap<Destination>,
    handovers: Mutex<HandoverLog>,
    /// Sessions that may have written past the log.
    pub hidden_writes: HiddenWritesLog,
    /// Connections that sessions open to the target at the same time during a handover.
    pub handover_permits: tokio::sync::Semaphore,
    /// Rung when a session has moved or was closed instead.
    pub settled: tokio::sync::Notify,
    sessions: AtomicU64,
}

/// Handovers that run at the same time on one route: enough to be quick, few enough for the target's listen queue.
const HANDOVERS_MAX: usize = 64;

impl Route {
    /// A route of the first generation.
    pub fn new(name: String, database: String, cluster: Arc<Cluster>) -> Self {
        let generation = 1;
        Self {
            name,
            database,
            gate: Gate::new(generation),
            destination: ArcSwap::from_pointee(Destination {
                cluster,
                generation,
            }),
            handovers: Mutex::default(),
            hidden_writes: HiddenWritesLog::default(),
            handover_permits: tokio::sync::Semaphore::new(HANDOVERS_MAX),
            settled: tokio::sync::Notify::new(),
            sessions: AtomicU64::new(0),
        }
    }

    /// Where the route leads now.
    pub fn destination(&self) -> Arc<Destination> {
        self.destination.load_full()
    }

    /// Points the route at `cluster` under a new generation. The gate stays as it is; sessions that serve the old
    /// generation hand over before their next statement. Pointing it where it points already changes nothing.
    pub fn switch(&self, cluster: &Arc<Cluster>) {
        let now = self.destination();
        if now.cluster.name == cluster.name {
            return;
        }
        let generation = now.generation.saturating_add(1);
        *self.handovers.lock() = HandoverLog::default();
        self.destination.store(Arc::new(Destination {
            cluster: Arc::clone(cluster),
            generation,
        }));
        self.gate.renew(generation);
    }

    /// Counts a session that moved.
    pub fn count_moved(&self) {
        self.handovers.lock().moved += 1;
        self.settled.notify_waiters();
    }

    /// Counts a session that was closed because it could not be moved.
    pub fn count_closed(&self, reason: &'static str) {
        *self.handovers.lock().closed.entry(reason).or_default() += 1;
        self.settled.notify_waiters();
    }

    /// What became of the sessions since the last switch.
    pub fn handovers(&self) -> HandoverLog {
        self.handovers.lock().clone()
    }

    /// Counts the sessions of this route; the count falls when the value is dropped.
    pub fn count_session(self: &Arc<Self>) -> SessionCount {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        SessionCount(Arc::clone(self))
    }

    /// How many sessions the route has.
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }
}

/// One counted session.
#[derive(Debug)]
pub struct SessionCount(Arc<Route>);

impl Drop for SessionCount {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All routes and clusters, fixed once the program runs; but for those of the default route, which last as long as they
/// have sessions.
#[derive(Debug, Default)]
pub struct Routes {
    clusters: BTreeMap<String, Arc<Cluster>>,
    named: BTreeMap<String, Arc<Route>>,
    default: Option<Arc<Cluster>>,
    others: Mutex<HashMap<String, Weak<Route>>>,
}

impl Routes {
    /// Makes `cluster` known.
    pub fn add_cluster(&mut self, cluster: Cluster) {
        self.clusters
            .insert(cluster.name.clone(), Arc::new(cluster));
    }

    /// Adds a route to a known cluster; false where the cluster is unknown.
    #[must_use]
    pub fn add_route(&mut self, name: &str, database: &str, cluster: &str) -> bool {
        let Some(cluster) = self.clusters.get(cluster) else {
            return false;
        };
        let route = Route::new(name.to_owned(), database.to_owned(), Arc::clone(cluster));
        self.named.insert(name.to_owned(), Arc::new(route));
        true
    }

    /// Names that have no route of their own lead to this cluster, if it is known.
    pub fn set_default(&mut self, cluster: &str) {
        self.default = self.clusters.get(cluster).cloned();
    }

    /// The cluster of the names that have no route of their own.
    pub fn default_cluster(&self) -> Option<&Arc<Cluster>> {
        self.default.as_ref()
    }

    /// The route of a session that names this database: its own, or the one that all sessions of this name share for as
    /// long as there are any.
    pub fn for_session(&self, name: &str) -> Option<Arc<Route>> {
        if let Some(route) = self.named.get(name) {
            return Some(Arc::clone(route));
        }
        let cluster = self.default.as_ref()?;
        let mut others = self.others.lock();
        if let Some(route) = others.get(name).and_then(Weak::upgrade) {
            return Some(route);
        }
        others.retain(|_, route| route.strong_count() > 0);
        let route = Route::new(name.to_owned(), name.to_owned(), Arc::clone(cluster));
        let route = Arc::new(route);
        others.insert(name.to_owned(), Arc::downgrade(&route));
        Some(route)
    }

    /// The cluster of that name.
    pub fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    /// The route of that name.
    pub fn route(&self, name: &str) -> Option<&Arc<Route>> {
        self.named.get(name)
    }

    /// Every cluster, by name.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.values()
    }

    /// Every route, by name.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.named.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_renews_the_generation_once() {
        let mut routes = Routes::default();
        for name in ["blue", "green"] {
            routes.add_cluster(Cluster {
                name: name.to_owned(),
                host: "127.0.0.1".to_owned(),
                port: 5432,
                socket: None,
                connect_timeout: Duration::from_secs(1),
            });
        }
        assert!(routes.add_route("shop", "shop", "blue"));
        assert!(routes.for_session("nowhere").is_none());
        routes.set_default("blue");
        let shop = routes.for_session("shop").expect("its own");
        assert!(Arc::ptr_eq(&shop, routes.route("shop").expect("there")));
        let other = routes.for_session("x").expect("the default");
        assert!(Arc::ptr_eq(
            &other,
            &routes.for_session("x").expect("the same")
        ));
        drop(other);
        for number in 0..1000 {
            drop(routes.for_session(&number.to_string()));
        }
        assert_eq!(routes.others.lock().len(), 1, "kept without sessions");
        assert!(
            !routes.add_route("other", "other", "red"),
            "took an unknown cluster"
        );
        let route = routes.route("shop").expect("the route was added");
        let green = routes.cluster("green").expect("the cluster was added");
        route.switch(green);
        route.switch(green);
        assert_eq!(route.destination().generation, 2);
        assert_eq!(route.gate.look().generation(), 2);
        assert_eq!(route.destination().cluster.name, "green");
    }
}
