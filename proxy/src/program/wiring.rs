//! Joins both planes: journal, data plane, migrations and console, in the order in which they need one another.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::SystemTime;

use migrator::Error;
use migrator::journal::Journal;
use migrator::postgres::{Endpoint, Postgres, Tools};
use migrator::supervisor::{Definition, Supervisor};
use proxy::config::{Config, Engine, Secret};
use proxy::listener;
use proxy::metrics::Metrics;
use proxy::plane::Plane;
use proxy::postgres::session::PostgresSessions;
use proxy::workers::Workers;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::console::{Admin, Door};
use super::traffic::PlaneTraffic;

/// Everything that runs, before the first socket is open.
pub(crate) struct Wired {
    pub(crate) sessions: Arc<PostgresSessions>,
    pub(crate) supervisor: Arc<Supervisor<Postgres>>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Opens the journal and joins the parts. Migrations go on only with [`Supervisor::resume`].
pub(crate) fn join(config: Config) -> Result<Wired, Error> {
    let config = Arc::new(config);
    let metrics = Metrics::new()
        .map_err(|error| Error::fatal("metrics cannot be registered").because(error))?;
    let metrics = Arc::new(metrics);
    if let Ok(since) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        metrics.set_started(since);
    }
    let journal = Journal::open(&config.journal.path)?;
    let door = Arc::new(Door::default());
    let console: Arc<dyn proxy::console::Console> = door.clone();
    let plane = Arc::new(Plane::new(&config, Arc::clone(&metrics), Some(console)));
    follow_switches(&plane, &journal)?;
    let traffic = Arc::new(PlaneTraffic(Arc::clone(&plane)));
    let known = Arc::clone(&config);
    let factory = Box::new(move |definition: &Definition| database(&known, definition));
    let supervisor = Supervisor::open(journal, traffic, factory)?;
    let sessions = Arc::new(PostgresSessions::new(Arc::clone(&plane), &config));
    let admin = Admin {
        config,
        plane,
        supervisor: Arc::clone(&supervisor),
    };
    door.open(admin);
    Ok(Wired {
        sessions,
        supervisor,
        metrics,
    })
}

/// Cutovers of the past overrule the configuration: the route stays where it was switched to.
fn follow_switches(plane: &Plane, journal: &Journal) -> Result<(), Error> {
    for (name, cluster) in journal.route_clusters()? {
        let Some(route) = plane.routes.route(&name) else {
            continue;
        };
        let configured = route.destination().cluster.name.clone();
        if configured == cluster {
            continue;
        }
        let Some(target) = plane.routes.cluster(&cluster) else {
            let text =
                format!("route {name} was switched to {cluster}, which the configuration lacks");
            return Err(Error::fatal(text).remedy(format!("write a section [clusters.{cluster}]")));
        };
        info!(route = name, %cluster, configured, "the route stays where it was switched to");
        route.switch(target);
    }
    Ok(())
}

/// Starts the threads that serve sessions.
pub(crate) fn start_workers(count: NonZeroUsize) -> Result<Workers, String> {
    Workers::start(count).map_err(|error| format!("{count} threads cannot be started: {error}"))
}

/// Serves sessions until `stop` is cancelled and they have ended.
pub(crate) async fn serve(
    sessions: Arc<PostgresSessions>,
    listening: TcpListener,
    workers: Workers,
    stop: CancellationToken,
) {
    listener::serve(sessions, listening, &workers, stop).await;
    // Ending the threads waits for them, which is no work for a thread that serves others.
    drop(tokio::task::spawn_blocking(move || drop(workers)).await);
}

fn database(config: &Config, definition: &Definition) -> Result<Postgres, Error> {
    let source = endpoint(config, &definition.source, &definition.route)?;
    let target = endpoint(config, &definition.target, &definition.route)?;
    let tools = Tools {
        pg_dump: config.migrator.pg_dump.clone(),
        pg_restore: config.migrator.pg_restore.clone(),
    };
    Ok(Postgres::new(
        &definition.name,
        source,
        target,
        definition.settings.clone(),
        tools,
    ))
}

fn endpoint(config: &Config, cluster: &str, route: &str) -> Result<Endpoint, Error> {
    let missing = |what: &str, name: &str| {
        Error::refused(format!("the configuration lacks the {what} {name}"))
            .remedy("write it back into the configuration, or drop the migration")
    };
    let at = config
        .clusters
        .get(cluster)
        .ok_or_else(|| missing("cluster", cluster))?;
    let route = config
        .routes
        .get(route)
        .ok_or_else(|| missing("route", route))?;
    match at.engine {
        Engine::Postgres => Ok(Endpoint {
            host: at.host.clone(),
            port: at.port,
            user: at.user.clone(),
            password: at.password.as_ref().map(Secret::reveal).map(str::to_owned),
            database: route.database.clone(),
        }),
        Engine::Mysql => Err(Error::refused("not there")),
    }
}
