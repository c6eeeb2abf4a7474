//! Everything that the sessions of the data plane share, built once and passed down.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::{Config, Limits};
use crate::console::Console;
use crate::failed_logins::FailedLogins;
use crate::metrics::Metrics;
use crate::networks::Networks;
use crate::registry::Registry;
use crate::route::{Cluster, Routes, Wanted, WantedRoute};

/// The data plane's shared values.
pub struct DataPlane {
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
    /// From where connections begin with a PROXY header, which is believed.
    pub proxy_networks: ArcSwap<Networks>,
}

impl DataPlane {
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
            proxy_networks: ArcSwap::from_pointee(config.listen.proxy_protocol_networks.clone()),
        }
    }
}

/// The routes and clusters of a validated configuration.
pub fn wanted(config: &Config) -> Wanted {
    let clusters = config.clusters.iter().map(|(name, cluster)| Cluster {
        name: name.clone(),
        host: cluster.host.clone(),
        port: cluster.port,
        socket: cluster.socket(),
        tls: cluster.tls(),
        proxy_protocol: cluster.proxy_protocol,
        connect_timeout: config.limits.connect_timeout,
    });
    let routes = config.routes.iter().map(|(name, route)| WantedRoute {
        name: name.clone(),
        database: route.database.clone(),
        cluster: route.cluster.clone(),
        stays: false,
    });
    Wanted {
        unseen: false,
        clusters: clusters.collect(),
        routes: routes.collect(),
        default: config.default_route.clone(),
    }
}

fn routes(config: &Config) -> Routes {
    let routes = Routes::default();
    let renewed = routes.renew(&wanted(config));
    debug_assert!(renewed.is_ok(), "the configuration was validated");
    routes
}
