//! Joins both planes: journal, data plane, migrations and console, in the order in which they need one another.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::SystemTime;

use migrator::Error;
use migrator::journal::Journal;
use migrator::model::definition::Definition;
use migrator::supervisor::Supervisor;
use proxy::config::Config;
use proxy::data_plane::DataPlane;
use proxy::listener::{self, Sessions};
use proxy::metrics::Metrics;
use proxy::route::Looker;
use proxy::workers::Workers;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::console::Admin;
use super::console::slot::ConsoleSlot;
use super::engine::{ClusterPair, Engine};
use super::health::Health;
use super::reload::Running;
use super::traffic::PlaneTraffic;

/// Everything that runs, before the first socket is open.
pub(crate) struct Wired<E: Engine> {
    pub(crate) sessions: Arc<E::Sessions>,
    pub(crate) supervisor: Arc<Supervisor<E::Database>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) plane: Arc<DataPlane>,
    pub(crate) health: Health,
    pub(crate) running: Arc<Running>,
}

/// Opens the journal and joins the parts. Migrations go on only with [`Supervisor::resume`].
pub(crate) fn join<E: Engine>(running: Arc<Running>) -> Result<Wired<E>, Error> {
    let config = running.config();
    let metrics = Metrics::new().map_err(|error| Error::fatal("metrics cannot be registered").because(error))?;
    let metrics = Arc::new(metrics);
    if let Ok(since) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        metrics.set_started(since);
    }
    let journal = Journal::open(&config.journal.path)?;
    let door = Arc::new(ConsoleSlot::<E>::default());
    let console: Arc<dyn proxy::console::Console> = door.clone();
    let plane = Arc::new(DataPlane::new(&config, Arc::clone(&metrics), Some(console)));
    follow_switches(&plane, &journal)?;
    let traffic = Arc::new(PlaneTraffic(Arc::clone(&plane)));
    let sessions = Arc::new(E::sessions(Arc::clone(&plane), &config)?);
    let (known, served) = (Arc::clone(&running), Arc::clone(&sessions));
    let factory = Box::new(move |definition: &Definition| {
        let known = known.config();
        let pair = pair(&known, definition)?;
        Ok(E::database(&served, &known, definition, &pair))
    });
    let supervisor = Supervisor::open(journal, traffic, factory)?;
    let looking = Arc::downgrade(&supervisor);
    let runtime = tokio::runtime::Handle::current();
    plane.routes.looked_at_by(Looker(Box::new(move |name| {
        if let Some(supervisor) = looking.upgrade() {
            let _entered = runtime.enter();
            supervisor.look_at(name.to_owned());
        }
    })));
    let health = Health::new::<E>(Arc::clone(&running));
    let admin = Admin { running: Arc::clone(&running), plane: Arc::clone(&plane), supervisor: Arc::clone(&supervisor) };
    door.open(admin);
    Ok(Wired { sessions, supervisor, metrics, plane, health, running })
}

/// Cutovers of the past overrule the configuration: the route stays where it was switched to.
fn follow_switches(plane: &DataPlane, journal: &Journal) -> Result<(), Error> {
    for (name, cluster) in journal.route_clusters()? {
        let Some(route) = plane.routes.route(&name) else {
            continue;
        };
        let configured = route.destination().cluster.name.clone();
        if configured == cluster {
            continue;
        }
        let Some(target) = plane.routes.cluster(&cluster) else {
            let text = format!("route {name} was switched to {cluster}, which the configuration lacks");
            return Err(Error::fatal(text).remedy(format!("write a section [clusters.{cluster}]")));
        };
        info!(route = name, %cluster, configured, "the route stays where it was switched to");
        route.switch(&target);
    }
    Ok(())
}

/// Starts the threads that serve sessions.
pub(crate) fn start_workers(count: NonZeroUsize) -> Result<Workers, String> {
    Workers::start(count).map_err(|error| format!("{count} threads cannot be started: {error}"))
}

/// Serves sessions until `stop` is cancelled and they have ended.
pub(crate) async fn serve<S: Sessions>(
    sessions: Arc<S>,
    listening: TcpListener,
    workers: Workers,
    stop: CancellationToken,
) {
    listener::serve(sessions, listening, &workers, stop).await;
    // Ending the threads waits for them, which is no work for a thread that serves others.
    drop(tokio::task::spawn_blocking(move || drop(workers)).await);
}

fn pair<'a>(config: &'a Config, definition: &'a Definition) -> Result<ClusterPair<'a>, Error> {
    let missing = |what: &str, name: &str| {
        Error::refused(format!("the configuration lacks the {what} {name}"))
            .remedy("write it back into the configuration, or drop the migration")
    };
    let cluster = |name: &String| config.clusters.get(name).ok_or_else(|| missing("cluster", name));
    let route = config.routes.get(&definition.route);
    // A look has one end, and may be at what the default route serves.
    let looks = definition.source == definition.target && config.default_route.is_some();
    let database = match route {
        Some(route) => &route.database,
        None if looks => &definition.route,
        None => return Err(missing("route", &definition.route)),
    };
    Ok(ClusterPair { source: cluster(&definition.source)?, target: cluster(&definition.target)?, database })
}
