//! The HTTP port: metrics, and whether the process is alive and ready.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use migrator::model::status::{Status, WayBack};
use proxy::admission::Admission;
use proxy::data_plane::DataPlane;
use proxy::gate_state::State as Gate;
use proxy::metrics::{Metrics, MigrationStats};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::engine::Engine;
use super::health::Health;
use super::log::Log;
use super::wiring::Wired;

/// A scraper that does not read its answer does not keep the process from ending.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(2);

/// What the pages tell about.
#[derive(Clone)]
pub(crate) struct Pages {
    metrics: Arc<Metrics>,
    migrations: Arc<dyn Fn() -> Vec<Status> + Send + Sync>,
    plane: Arc<DataPlane>,
    health: Health,
    log: Log,
}

impl Pages {
    pub(crate) fn new<E: Engine>(wired: &Wired<E>, log: Log) -> Self {
        let supervisor = Arc::clone(&wired.supervisor);
        let migrations = move || {
            let all = supervisor.list().into_iter();
            all.filter_map(|one| supervisor.status(&one.name).ok()).collect()
        };
        Self {
            metrics: Arc::clone(&wired.metrics),
            migrations: Arc::new(migrations),
            plane: Arc::clone(&wired.plane),
            health: wired.health.clone(),
            log,
        }
    }
}

/// Serves until `stop` is cancelled.
pub(crate) async fn serve(listener: TcpListener, pages: Pages, stop: CancellationToken) {
    if let Ok(address) = listener.local_addr() {
        info!(%address, "serving /metrics, /healthz and /readyz");
    }
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(pages);
    let serving = axum::serve(listener, router);
    let serving = serving.with_graceful_shutdown(stop.clone().cancelled_owned());
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(CLOSING_TIMEOUT).await;
    };
    tokio::select! {
        served = serving => if let Err(error) = served {
            warn!(%error, "the HTTP port failed");
        },
        () = late => {}
    }
}

async fn metrics(State(pages): State<Pages>) -> Response {
    let numbers: Vec<_> = (pages.migrations)().into_iter().map(numbers).collect();
    pages.metrics.set_migrations(&numbers);
    let clusters = pages.health.clusters().await;
    let up: Vec<_> = clusters.iter().map(|(name, down)| (name.as_str(), down.is_none())).collect();
    pages.metrics.set_clusters_up(&up);
    for (route, carried) in pages.plane.registry.take_flows() {
        pages.metrics.bytes_carried(&route, carried);
    }
    pages.metrics.set_log_lines_lost(pages.log.lost());
    match pages.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn ready(State(pages): State<Pages>) -> Response {
    let unready = |text: String| (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    if !pages.metrics.is_ready() {
        return unready("not accepting sessions\n".to_owned());
    }
    for status in (pages.migrations)() {
        let route = pages.plane.routes.route(&status.route);
        let closed = route.is_some_and(|route| route.gate.look().state() != Gate::Open);
        if let Some(why) = status.error.filter(|_| closed) {
            let (migration, route) = (&status.name, &status.route);
            let remedy = status.remedy.unwrap_or_default();
            return unready(format!("route {route} is held by migration {migration}: {why}; {remedy}\n"));
        }
    }
    let clusters = pages.health.clusters().await;
    let mut text = "ready\n".to_owned();
    for route in pages.plane.routes.routes() {
        let cluster = &route.destination().cluster.name;
        // As a client does, a monitor waits for the first look.
        let _ = route.door.pass(pages.plane.limits.connect_timeout).await;
        match route.door.admission() {
            Admission::Open => {}
            Admission::Unseen { why, remedy } => {
                let _ = writeln!(text, "route {} is served, but {why}; {remedy}", route.name);
            }
            Admission::Looking(met) => {
                let met = met.as_deref().unwrap_or("it is being asked");
                let route = &route.name;
                return unready(format!("cluster {cluster} of route {route} was not looked at yet: {met}\n"));
            }
            Admission::Refused { why, remedy } => {
                let route = &route.name;
                return unready(format!("route {route} is not served: {why}; {remedy}\n"));
            }
        }
        if let Some(Some(why)) = clusters.get(cluster) {
            let route = &route.name;
            return unready(format!("cluster {cluster} of route {route} does not answer: {why}\n"));
        }
    }
    text.into_response()
}

fn numbers(status: Status) -> MigrationStats {
    MigrationStats {
        state: status.state.name().to_owned(),
        name: status.name,
        rows_copied: status.rows_copied,
        rows_estimated: status.rows_estimated,
        bytes_copied: status.bytes_copied,
        lag: status.lag,
        behind_bytes: status.behind_bytes,
        transactions_applied: status.transactions_applied,
        interrupted: status.interrupted.is_some(),
        check_passed: status.check_passed,
        way_back_lossless: match status.way_back {
            WayBack::None => None,
            WayBack::Lossless { .. } => Some(true),
            WayBack::Waived | WayBack::Lost { .. } => Some(false),
        },
        way_back_lag: match status.way_back {
            WayBack::Lossless { lag, .. } => lag,
            WayBack::None | WayBack::Waived | WayBack::Lost { .. } => None,
        },
    }
}
