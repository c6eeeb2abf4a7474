//! `headgate run`: serves until a signal, then leaves in good order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use migrator::journal::Journal;
use proxy::config::{Config, Problem};
use proxy::listener;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::dispatch;
use super::engine::{Engine, Task};
use super::http::{self, Pages};
use super::log::Log;
use super::output::{complain, fail, print};
use super::reload::{self, Reload, Running};
use super::wiring;

/// What comes after the sessions were drained: a cutover that is waited for, and workers that stop.
const LEAVE_WITHIN: Duration = Duration::from_secs(90);

/// Tells every problem of the file, or that there is none.
pub(crate) fn check(path: &Path) -> ExitCode {
    match Config::read(path) {
        Ok(config) => {
            let (clusters, routes) = (config.clusters.len(), config.routes.len());
            print(&format!("{} is in order: {clusters} clusters, {routes} routes\n", path.display()));
            tell_switches(&config);
            ExitCode::SUCCESS
        }
        Err(problems) => tell(path, &problems),
    }
}

/// Tells which routes a cutover has moved since the file was written: the journal overrules it.
fn tell_switches(config: &Config) {
    let folder = &config.journal.path;
    if !folder.join("journal.sqlite").exists() {
        return;
    }
    let moved = match Journal::open(folder).and_then(|journal| journal.route_clusters()) {
        Ok(moved) => moved,
        Err(error) => return complain(&format!("what cutovers decided is not looked at: {error}")),
    };
    for (name, cluster) in moved {
        let Some(route) = config.routes.get(&name) else {
            complain(&format!("a cutover moved route {name} to {cluster}; the file has no such route any more"));
            continue;
        };
        if route.cluster != cluster {
            complain(&format!(
                "routes.{name}.cluster is {:?}, but a cutover moved the route to {cluster:?}, which holds as long as the \
                 journal {} is there; write cluster = {cluster:?}",
                route.cluster,
                folder.display()
            ));
        }
    }
}

fn tell(path: &Path, problems: &[Problem]) -> ExitCode {
    for problem in problems {
        complain(&problem.to_string());
    }
    let count = problems.len();
    let noun = if count == 1 { "problem" } else { "problems" };
    fail(&format!("{}: {count} {noun}; nothing was started", path.display()))
}

/// Serves until a signal.
pub(crate) async fn run(path: &Path, log: Log) -> ExitCode {
    let config = match Config::read(path) {
        Ok(config) => config,
        Err(problems) => return tell(path, &problems),
    };
    dispatch::with(config.engine, Serve(path.to_owned(), config, log)).await
}

struct Serve(PathBuf, Config, Log);

impl Task for Serve {
    async fn run<E: Engine>(self) -> ExitCode {
        match serve::<E>(&self.0, self.1, self.2).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(text) => fail(&text),
        }
    }
}

async fn serve<E: Engine>(path: &Path, config: Config, log: Log) -> Result<(), String> {
    let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
    hear_signals(stop.clone(), cut.clone())?;
    let hangups = reload::hangups()?;
    let drain_timeout = config.limits.drain_timeout;
    let (address, http_address) = (config.listen.address, config.http.address);
    // The journal before the sockets: whoever has it open is the one Headgate that may serve these routes.
    let threads = config.listen.threads;
    let running = Running::new(config, Some(path));
    let wired = wiring::join::<E>(running).map_err(|error| error.to_string())?;
    let listening = open("listen.address", address)?;
    let http = http_address.map(|address| open("http.address", address)).transpose()?;
    if let Ok(address) = listening.local_addr() {
        info!(%address, "accepting sessions; the admin console is the database \"headgate\"");
    }
    wired.supervisor.resume();
    let reload = Arc::new(Reload {
        running: Arc::clone(&wired.running),
        plane: Arc::clone(&wired.plane),
        sessions: Arc::clone(&wired.sessions),
        supervisor: Arc::clone(&wired.supervisor),
    });
    let reloading = tokio::spawn(reload.serve(hangups));
    wired.metrics.set_ready(true);
    let end_of_http = CancellationToken::new();
    let serving_http =
        http.map(|listener| tokio::spawn(http::serve(listener, Pages::new(&wired, log), end_of_http.clone())));
    let workers = wiring::start_workers(threads)?;
    let serving = tokio::spawn(wiring::serve(Arc::clone(&wired.sessions), listening, workers, stop.clone()));
    stop.cancelled().await;
    reloading.abort();
    wired.metrics.set_ready(false);
    let leaving = async {
        // A cutover under way decides first; until then its held clients are served.
        wired.supervisor.shutdown().await;
        let served = serving.await;
        end_of_http.cancel();
        if let Some(http) = serving_http {
            drop(http.await);
        }
        served.map_err(|error| format!("the listener failed: {error}"))
    };
    let limit = drain_timeout.saturating_add(LEAVE_WITHIN);
    let left = tokio::select! {
        left = leaving => left,
        () = tokio::time::sleep(limit) => Err(format!("what was open did not end within {} s", limit.as_secs())),
        () = cut.cancelled() => Err("a second signal cut the sessions that were still open".to_owned()),
    };
    info!("stopped");
    left
}

fn open(key: &str, address: SocketAddr) -> Result<TcpListener, String> {
    listener::bind(address).map_err(|error| format!("{key}: {address} cannot be opened: {error}"))
}

/// The first SIGTERM or SIGINT asks to stop in good order; the second does not wait for that.
fn hear_signals(stop: CancellationToken, cut: CancellationToken) -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be heard: {error}"));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for order in [stop, cut] {
            tokio::select! {
                _ = terminate.recv() => info!("SIGTERM: stopping"),
                _ = interrupt.recv() => info!("SIGINT: stopping"),
            }
            order.cancel();
        }
    });
    Ok(())
}
