//! Lets the migrator command the gate and the route.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use migrator::Error;
use migrator::error::Result;
use migrator::traffic::{Admission, Handovers, HiddenWrites, Holds, OpenTransaction, Traffic, Unmovable, Waiting};
use proxy::admission;
use proxy::data_plane::DataPlane;
use proxy::registry::{Entry, Movable};
use proxy::route::{Cluster, Route};

/// The data plane as the migrator sees it.
pub(crate) struct PlaneTraffic(pub(crate) Arc<DataPlane>);

impl PlaneTraffic {
    fn route(&self, name: &str) -> Result<Arc<Route>> {
        self.0.routes.route(name).ok_or_else(|| {
            Error::refused(format!("there is no route {name:?}")).remedy("SHOW ROUTES lists those of the configuration")
        })
    }

    /// A route of the configuration, or one of the default route's that has sessions.
    fn open_route(&self, name: &str) -> Result<Arc<Route>> {
        let others = || {
            let mut others = self.0.routes.others().into_iter();
            others.find(|route| route.name == name)
        };
        self.0.routes.route(name).or_else(others).map_or_else(|| self.route(name), Ok)
    }

    fn cluster(&self, name: &str) -> Result<Arc<Cluster>> {
        self.0.routes.cluster(name).ok_or_else(|| {
            Error::refused(format!("there is no cluster {name:?}"))
                .remedy("SHOW CLUSTERS lists those of the configuration")
        })
    }
}

/// Sessions that are asked to move at the same time while they are idle: those that have a statement waiting go first.
const IDLE_MOVES: usize = 4;

/// How long one group of idle sessions is waited for before the next is asked.
const IDLE_MOVE_TIMEOUT: Duration = Duration::from_millis(100);

/// Tells the sessions that have nothing to say that their route may lead elsewhere, a few at a time.
async fn move_the_idle(plane: Arc<DataPlane>, route: Arc<Route>) {
    route.gate.line_empty().await;
    let cluster = route.destination().cluster.name.clone();
    let elsewhere = |entry: &Arc<Entry>| entry.server().is_some_and(|at| at.cluster.name != cluster);
    let mut waiting = Vec::new();
    for entry in plane.registry.of_route(&route.name) {
        // Whoever stays hears that too: what was prepared for a switch that did not come is not needed.
        if elsewhere(&entry) {
            waiting.push(entry);
        } else {
            entry.notify.notify_one();
        }
    }
    for group in waiting.chunks(IDLE_MOVES) {
        for entry in group {
            entry.notify.notify_one();
        }
        let moved = async {
            loop {
                let settled = route.settled.notified();
                tokio::pin!(settled);
                settled.as_mut().enable();
                if !group.iter().any(elsewhere) {
                    return;
                }
                settled.await;
            }
        };
        // Whoever is in the middle of something moves with its next statement.
        let _ = tokio::time::timeout(IDLE_MOVE_TIMEOUT, moved).await;
    }
}

impl Traffic for PlaneTraffic {
    fn served(&self) -> Vec<(String, String)> {
        let (routes, others) = (self.0.routes.routes(), self.0.routes.others());
        let served = routes.iter().chain(&others).map(|route| {
            let cluster = route.destination().cluster.name.clone();
            (route.name.clone(), cluster)
        });
        served.collect()
    }

    fn admit(&self, route: &str, admission: Admission) -> Result<()> {
        let route = self.open_route(route)?;
        let reported = matches!(admission, Admission::Unseen { .. } | Admission::Refused { .. });
        self.0.routes.keep(&route, reported);
        route.door.set(match admission {
            Admission::Open => admission::Admission::Open,
            Admission::Looking(met) => admission::Admission::Looking(met.map(Into::into)),
            Admission::Unseen { why, remedy } => {
                admission::Admission::Unseen { why: why.into(), remedy: remedy.into() }
            }
            Admission::Refused { why, remedy } => {
                admission::Admission::Refused { why: why.into(), remedy: remedy.into() }
            }
        });
        Ok(())
    }

    fn admission(&self, route: &str) -> Result<Admission> {
        Ok(match self.open_route(route)?.door.admission() {
            admission::Admission::Open => Admission::Open,
            admission::Admission::Looking(met) => Admission::Looking(met.as_deref().map(ToOwned::to_owned)),
            admission::Admission::Unseen { why, remedy } => {
                Admission::Unseen { why: String::from(&*why), remedy: String::from(&*remedy) }
            }
            admission::Admission::Refused { why, remedy } => {
                Admission::Refused { why: String::from(&*why), remedy: String::from(&*remedy) }
            }
        })
    }

    fn other_routes(&self, route: &str, databases: &[String]) -> Result<Vec<(String, String)>> {
        let routes = &self.0.routes;
        let here = self.route(route)?.destination();
        let is_here = |cluster: &Cluster| cluster.is_same_server(&here.cluster);
        let default = routes.default_cluster().is_some_and(|at| is_here(&at));
        let by_default = |database: &&String| default && routes.route(database.as_str()).is_none();
        let (named, others) = (routes.routes(), routes.others());
        // What the default route serves is told once, whether or not it has sessions now.
        let others = (others.iter()).filter(|one| !by_default(&&one.name));
        let mut found = Vec::new();
        for other in named.iter().chain(others) {
            let mut moving = databases.iter();
            let moving = moving.find(|database| database.eq_ignore_ascii_case(&other.database));
            if let Some(database) = moving
                && other.name != route
                && is_here(&other.destination().cluster)
            {
                found.push((other.name.clone(), database.clone()));
            }
        }
        let unnamed = databases.iter().filter(by_default);
        found.extend(unnamed.map(|database| ("*".to_owned(), database.clone())));
        Ok(found)
    }

    fn warm<'a>(&'a self, route: &'a str, cluster: &'a str, limit: Duration) -> Waiting<'a, Result<Vec<String>>> {
        Box::pin(async move {
            self.route(route)?;
            let cluster = self.cluster(cluster)?;
            let deadline = tokio::time::Instant::now() + limit;
            Ok(self.0.registry.warm(route, &cluster, deadline).await)
        })
    }

    fn cool(&self, route: &str) -> Result<()> {
        self.route(route)?;
        for entry in self.0.registry.of_route(route) {
            entry.notify.notify_one();
        }
        Ok(())
    }

    fn hold(&self, route: &str) -> Result<()> {
        let gate = Arc::clone(&self.route(route)?.gate);
        gate.close();
        // Of those who are inside, some may only be in doubt whether they are.
        let inside: BTreeSet<u64> = gate.inside().iter().map(|inside| inside.ticket).collect();
        for entry in self.0.registry.of_route(route) {
            if entry.ticket_at(route).is_some_and(|ticket| inside.contains(&ticket)) {
                entry.notify.notify_one();
            }
        }
        Ok(())
    }

    fn quiet<'a>(&'a self, route: &'a str) -> Waiting<'a, Result<()>> {
        Box::pin(async move {
            self.route(route)?.gate.quiet().await;
            Ok(())
        })
    }

    fn open_transactions(&self, route: &str) -> Result<Vec<OpenTransaction>> {
        let inside = self.route(route)?.gate.inside();
        let sessions: BTreeMap<u64, _> = self
            .0
            .registry
            .snapshot()
            .into_iter()
            .filter_map(|session| Some((session.ticket_at(route)?, session)))
            .collect();
        let open = inside.iter().filter_map(|inside| {
            let session = sessions.get(&inside.ticket)?;
            Some(OpenTransaction {
                pid: session.server_pid.unwrap_or_default(),
                user: session.user.clone(),
                client: session.client.to_string(),
                age: inside.age,
            })
        });
        Ok(open.collect())
    }

    fn gated_backends(&self, route: &str) -> Result<Vec<i64>> {
        let destination = self.route(route)?.destination();
        let cluster = &destination.cluster.name;
        let sessions = self.0.registry.snapshot().into_iter();
        let here =
            sessions.filter(|session| session.ticket_at(route).is_some() && session.cluster.as_ref() == Some(cluster));
        Ok(here.filter_map(|session| session.server_pid).collect())
    }

    fn hidden_writes(&self, route: &str) -> Result<Vec<HiddenWrites>> {
        let all = self.route(route)?.hidden_writes.all().into_iter();
        let all = all.map(|one| HiddenWrites {
            pid: one.pid,
            user: one.user,
            client: one.client.to_string(),
            what: one.what.to_owned(),
            since: one.since,
            until: one.until,
        });
        Ok(all.collect())
    }

    fn unmovable<'a>(&'a self, route: &'a str, limit: Duration) -> Waiting<'a, Result<Vec<Unmovable>>> {
        Box::pin(async move {
            self.route(route)?;
            let found = self.0.registry.unmovable(route, limit).await.into_iter();
            let found = found.filter_map(|one| {
                let reason = match one.why {
                    Movable::Yes => return None,
                    Movable::No(reason) => reason.to_owned(),
                    Movable::NotKnown(why) => format!("not known: {why}"),
                };
                Some(Unmovable {
                    pid: one.session.server_pid.unwrap_or_default(),
                    user: one.session.user,
                    client: one.session.client.to_string(),
                    reason,
                })
            });
            Ok(found.collect())
        })
    }

    fn switch(&self, route: &str, cluster: &str) -> Result<()> {
        let route = self.route(route)?;
        route.switch(&self.cluster(cluster)?);
        Ok(())
    }

    fn release(&self, route: &str) -> Result<()> {
        let route = self.route(route)?;
        route.gate.open();
        tokio::spawn(move_the_idle(Arc::clone(&self.0), route));
        Ok(())
    }

    fn release_warily(&self, route: &str) -> Result<()> {
        self.route(route)?.gate.open_warily();
        Ok(())
    }

    fn holds<'a>(&'a self, route: &'a str, limit: Duration) -> Waiting<'a, Result<Holds>> {
        Box::pin(async move {
            let gate = Arc::clone(&self.route(route)?.gate);
            // What is not known within the limit is reported as it stands.
            let _ = tokio::time::timeout(limit, gate.line_empty()).await;
            let mut log = gate.log();
            log.times.sort_unstable();
            let at = |percent: usize| {
                let index = (log.times.len() * percent).div_ceil(100).saturating_sub(1);
                log.times.get(index).copied().unwrap_or_default()
            };
            Ok(Holds {
                held: log.held,
                p50: at(50),
                p99: at(99),
                max: at(100),
                cancelled: log.cancelled,
                gone: log.gone,
                refused: log.refused,
            })
        })
    }

    fn handovers(&self, route: &str) -> Result<Handovers> {
        let route = self.route(route)?;
        let log = route.handovers();
        let cluster = &route.destination().cluster.name;
        let pending = self
            .0
            .registry
            .snapshot()
            .iter()
            .filter(|session| session.ticket_at(&route.name).is_some())
            .filter(|session| session.cluster.as_ref().is_some_and(|at| at != cluster))
            .count();
        Ok(Handovers {
            moved: log.moved,
            pending: pending as u64,
            closed: log.closed.into_iter().map(|(why, count)| (why.to_owned(), count)).collect(),
        })
    }
}
