//! PostgreSQL's data plane inside of the test's own process, for what needs a switch and no migration.

use std::net::SocketAddr;
use std::sync::Arc;

use proxy::config::Config;
use proxy::data_plane::DataPlane;
use proxy::listener;
use proxy::metrics::Metrics;
use proxy::postgres::session::PostgresSessions;
use proxy::route::Route;
use proxy::workers::Workers;
use tokio_util::sync::CancellationToken;

use crate::client::Raw;
use crate::postgres::Postgres;
use crate::wait::{SOON, within};
use crate::world::{DATABASE, clusters};

/// One server under the names of two clusters, `blue` and `green`, and the route `shop` on `blue`.
pub struct Stage {
    /// The server.
    pub server: Postgres,
    /// The data plane.
    pub plane: Arc<DataPlane>,
    address: SocketAddr,
}

impl Stage {
    /// Starts the server and creates the database.
    pub async fn start(version: u32) -> Self {
        let server = Postgres::start(version).await;
        let create = format!("create database {DATABASE}");
        server.sql("postgres", &create).await;
        Self::before(server, "")
    }

    /// Serves before a server, with further sections of the configuration.
    pub fn before(server: Postgres, sections: &str) -> Self {
        let port = server.port();
        let admin = "[admin]\npassword = \"x\"\n";
        let text = [&clusters(port, port), admin, sections].concat();
        let config =
            Config::parse(&text, &|_| None).unwrap_or_else(|problems| panic!("the configuration: {problems:?}"));
        let metrics = Metrics::new().expect("unique names");
        let plane = Arc::new(DataPlane::new(&config, Arc::new(metrics), None));
        let sessions = Arc::new(PostgresSessions::new(Arc::clone(&plane), &config).expect("no certificate of its own"));
        let any = "127.0.0.1:0".parse().expect("an address");
        let listening = listener::bind(any).expect("a port");
        let address = listening.local_addr().expect("an address");
        let workers = Workers::start(1.try_into().expect("one")).expect("a thread");
        tokio::spawn(async move {
            let stop = CancellationToken::new();
            listener::serve(sessions, listening, &workers, stop).await;
        });
        Self { server, plane, address }
    }

    /// The port that it serves.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// A session through it.
    pub async fn client(&self) -> Raw {
        Raw::login(self.port(), "postgres", DATABASE).await
    }

    /// The route `shop`.
    pub fn route(&self) -> Arc<Route> {
        self.plane.routes.route(DATABASE).expect("the route")
    }

    /// Holds, waits until no transaction is open, and switches the route to `green`.
    pub async fn switch(&self) {
        let route = self.route();
        route.gate.close();
        for entry in self.plane.registry.of_route(&route.name) {
            entry.notify.notify_one();
        }
        within("no transaction is open", SOON, route.gate.quiet()).await;
        let green = self.plane.routes.cluster("green").expect("a cluster");
        route.switch(&green);
        route.gate.open();
    }
}
