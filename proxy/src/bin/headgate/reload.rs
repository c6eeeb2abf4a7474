//! SIGHUP: the configuration is read again as a whole, and either all of it that can change counts, or nothing of it.

mod decide;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use migrator::database::Database;
use migrator::supervisor::Supervisor;
use proxy::config::Config;
use proxy::data_plane::DataPlane;
use proxy::listener::Sessions;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use decide::{Decided, Known, decide};

/// The configuration that counts now.
pub(crate) struct Running(ArcSwap<Loaded>);

/// One configuration, and how it came to count.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// What counts.
    pub config: Arc<Config>,
    /// The file; `migrate` has none.
    pub file: Option<PathBuf>,
    /// When it was read.
    pub since: SystemTime,
    /// The keys that the file has otherwise, and that a restart takes over.
    pub waiting: Vec<String>,
    /// When the file was read again and why it was not taken, if nothing was taken since.
    pub refused: Option<(SystemTime, String)>,
}

impl Running {
    /// The configuration that the program starts with.
    pub(crate) fn new(config: Config, file: Option<&Path>) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(Loaded {
            config: Arc::new(config),
            file: file.map(Path::to_owned),
            since: SystemTime::now(),
            waiting: Vec::new(),
            refused: None,
        })))
    }

    /// What counts now, and how it came to.
    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        self.0.load_full()
    }

    /// What counts now.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.0.load().config)
    }
}

/// SIGHUP, heard from the start of the program on, so that it never ends it.
pub(crate) fn hangups() -> Result<Signal, String> {
    signal(SignalKind::hangup()).map_err(|error| format!("signals cannot be heard: {error}"))
}

/// Everything that another configuration changes.
pub(crate) struct Reload<S, D: Database> {
    pub running: Arc<Running>,
    pub plane: Arc<DataPlane>,
    pub sessions: Arc<S>,
    pub supervisor: Arc<Supervisor<D>>,
}

impl<S: Sessions, D: Database> Reload<S, D> {
    /// Reads the file anew with every signal.
    pub(crate) async fn serve(self: Arc<Self>, mut hangups: Signal) {
        while hangups.recv().await.is_some() {
            let this = Arc::clone(&self);
            // Passwords take thousands of hashes each, and files may be slow.
            if let Err(error) = tokio::task::spawn_blocking(move || this.reload()).await {
                error!(%error, "SIGHUP: the file could not be read");
            }
        }
    }

    fn reload(&self) {
        let now = self.running.loaded();
        let Some(path) = &now.file else {
            return;
        };
        let path = path.display();
        match self.take(&now) {
            Ok(loaded) => {
                for key in &loaded.waiting {
                    warn!(%path, key, "SIGHUP: the file has another value for this key, which needs a restart");
                }
                let users = loaded.config.users.len();
                let routes = loaded.config.routes.len();
                info!(%path, users, routes, "SIGHUP: the file counts from now on; sessions that are open stay");
                self.running.0.store(Arc::new(loaded));
                self.supervisor.look_for_marks();
            }
            Err(problems) => {
                for problem in &problems {
                    error!(%path, problem, "SIGHUP: nothing was changed");
                }
                let refused = Some((SystemTime::now(), problems.join("; ")));
                self.running.0.store(Arc::new(Loaded { refused, ..Loaded::clone(&now) }));
            }
        }
    }

    /// Changes everything, or tells everything that speaks against it.
    fn take(&self, now: &Loaded) -> Result<Loaded, Vec<String>> {
        let path = now.file.as_deref().unwrap_or(Path::new(""));
        let read =
            Config::read(path).map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let one = |text: String| vec![text];
        let moved = self.supervisor.route_clusters();
        let known = Known {
            migrations: self.supervisor.list(),
            moved: moved.map_err(|error| one(format!("the journal cannot be read: {error}")))?,
            leads: (self.plane.routes.routes().iter())
                .map(|route| (route.name.clone(), route.destination().cluster.name.clone()))
                .collect(),
        };
        let Decided { config, wanted, waiting } = decide(&now.config, &read, &known)?;
        let renewal = self.sessions.prepare(&config).map_err(one)?;
        // The one step that may still say no comes first.
        let renewed = self.plane.routes.renew(&wanted);
        renewed.map_err(|error| one(format!("{error}; end them first, or move the route by a migration")))?;
        self.sessions.renew(renewal);
        self.plane.proxy_networks.store(Arc::new(config.listen.proxy_protocol_networks.clone()));
        Ok(Loaded {
            config: Arc::new(config),
            file: now.file.clone(),
            since: SystemTime::now(),
            waiting,
            refused: None,
        })
    }
}
