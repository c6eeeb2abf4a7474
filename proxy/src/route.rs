//! Which cluster is *the* cluster now: one atomic value with a generation number for each route.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use transport::Tls;

use crate::admission::{Admission, AdmissionSlot};
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
    /// What connections to it must be.
    pub tls: Tls,
    /// Connections to it begin with a PROXY header.
    pub proxy_protocol: bool,
    /// How long opening a connection and logging in may take.
    pub connect_timeout: Duration,
}

impl Cluster {
    /// Whether both lead to one server, whatever they are called.
    pub fn is_same_server(&self, other: &Self) -> bool {
        let of = |cluster: &Self| (cluster.host.clone(), cluster.port, cluster.socket.clone());
        self.name == other.name || of(self) == of(other)
    }
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
    /// Whether sessions are let in.
    pub door: AdmissionSlot,
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
/// Anybody can make up names.
const KEPT_MAX: usize = 100;

impl Route {
    /// A route of the first generation.
    pub fn new(name: String, database: String, cluster: Arc<Cluster>) -> Self {
        let generation = 1;
        Self {
            name,
            database,
            gate: Gate::new(generation),
            door: AdmissionSlot::default(),
            destination: ArcSwap::from_pointee(Destination { cluster, generation }),
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
        self.destination.store(Arc::new(Destination { cluster: Arc::clone(cluster), generation }));
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

    /// What must hold where new sessions of the name will be elsewhere.
    fn stays_empty(&self) -> Result<(), NotNow> {
        match self.sessions() {
            0 => Ok(()),
            sessions => {
                Err(NotNow::Open { route: self.name.clone(), sessions, from: self.destination().cluster.name.clone() })
            }
        }
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

/// What the configuration wants there to be.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The clusters.
    pub clusters: Vec<Cluster>,
    /// The routes.
    pub routes: Vec<WantedRoute>,
    /// The cluster of every name without a route of its own.
    pub default: Option<String>,
    /// Routes that are new or lead elsewhere let nobody in before their cluster was looked at.
    pub unseen: bool,
}

/// One route as the configuration has it.
#[derive(Clone, Debug)]
pub struct WantedRoute {
    /// The database name that applications give.
    pub name: String,
    /// The database's name on the clusters.
    pub database: String,
    /// The cluster that it is to lead to.
    pub cluster: String,
    /// A route that exists stays where it leads.
    pub stays: bool,
}

/// What speaks against a change of the routes while sessions are open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// Its sessions would go on where the route led, and new ones would be elsewhere.
    #[error("route {route} has sessions on cluster {from}, which would go on writing there ({sessions} open)")]
    Open {
        /// The route.
        route: String,
        /// How many.
        sessions: u64,
        /// Where they are.
        from: String,
    },
    /// A route names a cluster that is not among those of the configuration.
    #[error("route {route} leads to cluster {cluster}, which is not there")]
    NoCluster {
        /// The route.
        route: String,
        /// The cluster.
        cluster: String,
    },
}

/// All routes and clusters. Each set of them is one value that stands whole until another takes its place; the routes
/// of the default route, and those that were taken out of the configuration, last as long as they have sessions.
#[derive(Debug, Default)]
pub struct Routes {
    table: ArcSwap<Table>,
    others: Mutex<HashMap<String, Weak<Route>>>,
    looker: OnceLock<Looker>,
    /// Names of the default route that let nobody in, or are doubtful: they are shown also when nobody asks for them.
    kept: Mutex<BTreeMap<String, Arc<Route>>>,
}

/// Who looks at the cluster of a name that the default route serves, before anybody is let in there.
pub struct Looker(pub Box<dyn Fn(&str) + Send + Sync>);

impl std::fmt::Debug for Looker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Looker")
    }
}

#[derive(Debug, Default)]
struct Table {
    clusters: BTreeMap<String, Arc<Cluster>>,
    named: BTreeMap<String, Arc<Route>>,
    default: Option<Arc<Cluster>>,
}

impl Routes {
    /// Makes the routes those that are wanted, or nothing at all of it. A name keeps its gate for as long as anybody
    /// has a session of it, whatever becomes of its route. Clusters that exist stay as they are.
    pub fn renew(&self, wanted: &Wanted) -> Result<(), NotNow> {
        // Under this lock nobody makes a route of the default route.
        let mut others = self.others.lock();
        let now = self.table.load_full();
        let clusters: BTreeMap<String, Arc<Cluster>> = (wanted.clusters.iter())
            .map(|cluster| {
                let known = now.clusters.get(&cluster.name).cloned();
                let cluster = known.unwrap_or_else(|| Arc::new(cluster.clone()));
                (cluster.name.clone(), cluster)
            })
            .collect();
        let find = |route: &str, name: &str| {
            let missing = || NotNow::NoCluster { route: route.to_owned(), cluster: name.to_owned() };
            clusters.get(name).cloned().ok_or_else(missing)
        };
        let default = (wanted.default.as_ref()).map(|name| find("*", name)).transpose()?;
        let mut alive: BTreeMap<String, Arc<Route>> = (others.iter())
            .filter_map(|(name, route)| Some((name.clone(), route.upgrade()?)))
            .chain(now.named.clone())
            .collect();
        let mut named = BTreeMap::new();
        let mut switches = Vec::new();
        for WantedRoute { name, database, cluster, stays } in &wanted.routes {
            let old = alive.remove(name);
            let leads = old.as_ref().filter(|_| *stays).map(|old| old.destination());
            let cluster = match &leads {
                Some(leads) => find(name, &leads.cluster.name)?,
                None => find(name, cluster)?,
            };
            let route = match old {
                Some(old) if old.database == *database => {
                    if old.destination().cluster.name != cluster.name {
                        old.stays_empty()?;
                        switches.push((Arc::clone(&old), cluster));
                    }
                    old
                }
                old => {
                    old.map_or(Ok(()), |old| old.stays_empty())?;
                    let new = Route::new(name.clone(), database.clone(), cluster);
                    if wanted.unseen {
                        new.door.set(Admission::Looking(None));
                    }
                    Arc::new(new)
                }
            };
            named.insert(name.clone(), route);
        }
        for (name, route) in &alive {
            let at = route.destination();
            let moves = |default: &Arc<Cluster>| default.name != at.cluster.name || route.database != *name;
            if default.as_ref().is_some_and(moves) {
                route.stays_empty()?;
            }
        }
        *others = (alive.iter()).map(|(name, route)| (name.clone(), Arc::downgrade(route))).collect();
        self.table.store(Arc::new(Table { clusters, named, default }));
        for (route, cluster) in switches {
            // Who logged in just now meets the new generation before the first statement.
            if wanted.unseen {
                route.door.set(Admission::Looking(None));
            }
            route.switch(&cluster);
        }
        Ok(())
    }

    /// The cluster of the names that have no route of their own.
    pub fn default_cluster(&self) -> Option<Arc<Cluster>> {
        self.table.load().default.clone()
    }

    /// The route of a session that names this database: its own, or the one that all sessions of this name share for as
    /// long as there are any.
    pub fn for_session(&self, name: &str) -> Option<Arc<Route>> {
        let table = self.table.load();
        if let Some(route) = table.named.get(name) {
            return Some(Arc::clone(route));
        }
        table.default.as_ref()?;
        drop(table);
        let mut others = self.others.lock();
        // It may have become another while the lock was not ours.
        let table = self.table.load();
        if let Some(route) = table.named.get(name) {
            return Some(Arc::clone(route));
        }
        let cluster = table.default.as_ref()?;
        if let Some(route) = others.get(name).and_then(Weak::upgrade)
            && route.destination().cluster.name == cluster.name
        {
            return Some(route);
        }
        others.retain(|_, route| route.strong_count() > 0);
        let route = Route::new(name.to_owned(), name.to_owned(), Arc::clone(cluster));
        let looker = self.looker.get();
        if looker.is_some() {
            route.door.set(Admission::Looking(None));
        }
        let route = Arc::new(route);
        others.insert(name.to_owned(), Arc::downgrade(&route));
        drop(others);
        if let Some(Looker(look)) = looker {
            look(name);
        }
        Some(route)
    }

    /// Keeps a route without a name of its own as long as it is worth to be shown, up to a limit; or no longer.
    pub fn keep(&self, route: &Arc<Route>, worth: bool) {
        let mut kept = self.kept.lock();
        if !worth || self.route(&route.name).is_some() {
            kept.remove(&route.name);
        } else if kept.len() < KEPT_MAX {
            kept.insert(route.name.clone(), Arc::clone(route));
        }
    }

    /// Has names of the default route looked at by `looker` from now on; nobody is let in before. The first one stays.
    pub fn looked_at_by(&self, looker: Looker) {
        let _ = self.looker.set(looker);
    }

    /// The route that serves the database which the clusters call so; where several do, the one that is named alike.
    /// Servers that do not tell names of other case apart mean the same.
    pub fn of_database(&self, name: &str) -> Option<Arc<Route>> {
        let table = self.table.load();
        let is = |route: &&Arc<Route>| route.database == name;
        let alike = |route: &&Arc<Route>| route.database.eq_ignore_ascii_case(name);
        let all = || table.named.values();
        let found = table.named.get(name).filter(is);
        let found = found.or_else(|| all().find(is)).or_else(|| all().find(alike));
        found.cloned()
    }

    /// The cluster of that name.
    pub fn cluster(&self, name: &str) -> Option<Arc<Cluster>> {
        self.table.load().clusters.get(name).cloned()
    }

    /// The route of that name.
    pub fn route(&self, name: &str) -> Option<Arc<Route>> {
        self.table.load().named.get(name).cloned()
    }

    /// Every route that the configuration names, by name.
    pub fn routes(&self) -> Vec<Arc<Route>> {
        self.table.load().named.values().cloned().collect()
    }

    /// Routes of sessions whose database no route names: those of the default route, and what was taken out of the
    /// configuration while they were open.
    pub fn others(&self) -> Vec<Arc<Route>> {
        let others = self.others.lock();
        others.values().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(routes: &[(&str, &str)], default: Option<&str>) -> Wanted {
        let cluster = |name: &str| Cluster {
            name: name.to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 5432,
            socket: None,
            tls: Tls::disabled(),
            proxy_protocol: false,
            connect_timeout: Duration::from_secs(1),
        };
        let route = |(name, cluster): &(&str, &str)| WantedRoute {
            name: (*name).to_owned(),
            database: (*name).to_owned(),
            cluster: (*cluster).to_owned(),
            stays: false,
        };
        Wanted {
            unseen: false,
            clusters: ["blue", "green"].map(cluster).to_vec(),
            routes: routes.iter().map(route).collect(),
            default: default.map(str::to_owned),
        }
    }

    #[test]
    fn a_name_keeps_its_gate_while_it_has_sessions_and_never_leads_two_ways() {
        let routes = Routes::default();
        routes.renew(&wanted(&[("shop", "blue")], None)).expect("new");
        let shop = routes.for_session("shop").expect("there");
        let session = shop.count_session();
        let open = |result: Result<(), NotNow>| {
            assert!(matches!(result, Err(NotNow::Open { sessions: 1, .. })), "{result:?}");
            assert!(routes.for_session("shop").is_some_and(|at| Arc::ptr_eq(&at, &shop)));
        };
        open(routes.renew(&wanted(&[("shop", "green")], None)));
        // Removed, it would be the default route's, on another cluster.
        open(routes.renew(&wanted(&[], Some("green"))));
        routes.renew(&wanted(&[], None)).expect("no new sessions");
        assert!(routes.for_session("shop").is_none());
        assert_eq!(routes.others().len(), 1);
        // As somebody's of the default route, and with a section of its own again, it is the same one.
        for back in [wanted(&[], Some("blue")), wanted(&[("shop", "blue")], None)] {
            routes.renew(&back).expect("on the same cluster");
            let back = routes.for_session("shop").expect("there");
            assert!(Arc::ptr_eq(&back, &shop), "a second gate for one name");
        }
        drop(session);
        // A login that is under way meets a new generation.
        let before = shop.destination().generation;
        routes.renew(&wanted(&[("shop", "green")], None)).expect("empty");
        assert_eq!(shop.destination().generation, before + 1);
        assert_eq!(shop.destination().cluster.name, "green");
    }

    #[test]
    fn a_switch_renews_the_generation_once() {
        let routes = Routes::default();
        let mut all = wanted(&[("shop", "blue")], None);
        routes.renew(&all).expect("nobody is there");
        assert!(routes.for_session("nowhere").is_none());
        all.default = Some("blue".to_owned());
        routes.renew(&all).expect("nobody is there");
        let shop = routes.for_session("shop").expect("its own");
        assert!(Arc::ptr_eq(&shop, &routes.route("shop").expect("there")));
        let other = routes.for_session("x").expect("the default");
        assert!(Arc::ptr_eq(&other, &routes.for_session("x").expect("the same")));
        drop(other);
        for number in 0..1000 {
            drop(routes.for_session(&number.to_string()));
        }
        assert_eq!(routes.others.lock().len(), 1, "kept without sessions");
        let unknown = wanted(&[("other", "red")], None);
        assert!(routes.renew(&unknown).is_err(), "took an unknown cluster");
        let route = routes.route("shop").expect("the route was added");
        let green = routes.cluster("green").expect("the cluster was added");
        route.switch(&green);
        route.switch(&green);
        assert_eq!(route.destination().generation, 2);
        assert_eq!(route.gate.look().generation(), 2);
        assert_eq!(route.destination().cluster.name, "green");
    }
}
