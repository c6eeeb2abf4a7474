//! Everything that the sessions of the data plane share, built once and passed down.

use std::sync::Arc;

use crate::config::{Config, Limits};
use crate::console::Console;
use crate::failed_logins::FailedLogins;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::route::{Cluster, Routes};

/// The data plane's shared values.
pub struct Plane {
    /// Routes and clusters.
    pub routes: Routes,
    /// The open sessions.
    pub registry: Arc<Registry>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Bounds of sizes and waits.
    pub limits: Limits,
    /// Serves the sessions of the database `headgate`; without one, that name is a route like any other.
    pub console: Option<Arc<dyn Console>>,
    /// Sessions that may be open at the same time.
    pub sessions_max: usize,
    /// Failed logins in the log.
    pub failed_logins: FailedLogins,
}

impl Plane {
    /// The plane that `config` describes.
    pub fn new(config: &Config, metrics: Arc<Metrics>, console: Option<Arc<dyn Console>>) -> Self {
        Self {
            routes: routes(config),
            registry: Arc::default(),
            metrics,
            limits: config.limits.clone(),
            console,
            sessions_max: config.listen.sessions_max,
            failed_logins: FailedLogins::default(),
        }
    }
}

/// The routes and clusters of a validated configuration.
pub fn routes(config: &Config) -> Routes {
    let mut routes = Routes::default();
    for (name, cluster) in &config.clusters {
        routes.add_cluster(Cluster {
            name: name.clone(),
            host: cluster.host.clone(),
            port: cluster.port,
            socket: cluster.socket(),
            connect_timeout: config.limits.connect_timeout,
        });
    }
    if let Some(cluster) = &config.default_route {
        routes.set_default(cluster);
    }
    for (name, route) in &config.routes {
        let known = routes.add_route(name, &route.database, &route.cluster);
        debug_assert!(known, "the configuration was validated");
    }
    routes
}
