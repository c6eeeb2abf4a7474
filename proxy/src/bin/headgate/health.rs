//! Whether the clusters answer: asked when a monitor asks, by a login and a query, and remembered for a moment.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use proxy::upstream::KEEPALIVE;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use transport::Address;

use super::engine::Engine;
use super::reload::Running;

/// A monitor that asks more often gets the last answer.
const FRESH: Duration = Duration::from_secs(5);
/// A cluster that takes longer does not serve anybody.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

type Answer = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// Asks the clusters.
#[derive(Clone)]
pub(crate) struct Health {
    ask: Arc<dyn Fn(&str) -> Answer + Send + Sync>,
    running: Arc<Running>,
    known: Arc<Mutex<Option<(Instant, Down)>>>,
}

/// Each cluster, and why it does not answer, if so.
pub(crate) type Down = BTreeMap<String, Option<String>>;

impl Health {
    pub(crate) fn new<E: Engine>(running: Arc<Running>) -> Self {
        let known = Arc::clone(&running);
        let ask = move |name: &str| -> Answer {
            let (config, name) = (known.config(), name.to_owned());
            Box::pin(async move {
                let cluster = config.clusters.get(&name)?;
                // Any database of a route that leads there now or may later.
                let route = config.routes.values().find(|route| route.cluster == name);
                let route = route.or_else(|| config.routes.values().next())?;
                let asking = async {
                    if let Some(socket) = cluster.socket() {
                        let (host, port, socket) = (&cluster.host, cluster.port, Some(&*socket));
                        let address = Address { host, port, socket, header: None };
                        let open = transport::connect(address, ANSWER_WITHIN, &KEEPALIVE).await;
                        return open.map(drop).map_err(|error| error.to_string());
                    }
                    E::query(cluster, &route.database, "SELECT 1").await.map(drop)
                };
                match timeout(ANSWER_WITHIN, asking).await {
                    Ok(Ok(())) => None,
                    Ok(Err(why)) if is_up(&why) => None,
                    Ok(Err(why)) => Some(why),
                    Err(_) => Some(format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
                }
            })
        };
        Self { ask: Arc::new(ask), running, known: Arc::default() }
    }

    /// Why clusters do not answer, for all of them.
    pub(crate) async fn clusters(&self) -> Down {
        let mut known = self.known.lock().await;
        if let Some((since, down)) = known.as_ref()
            && since.elapsed() < FRESH
        {
            return down.clone();
        }
        let config = self.running.config();
        let asking = config.clusters.keys().map(|name| {
            let answer = (self.ask)(name);
            async move { (name.clone(), answer.await) }
        });
        let down: Down = futures_util::future::join_all(asking).await.into_iter().collect();
        *known = Some((Instant::now(), down.clone()));
        down
    }
}

/// A server that refuses what was asked answers all the same, unless it says that it serves nobody.
fn is_up(why: &str) -> bool {
    why.contains("(SQLSTATE ")
        && !["(SQLSTATE 57P", "(SQLSTATE 53"].iter().any(|serves_nobody| why.contains(serves_nobody))
}

#[cfg(test)]
mod tests {
    use super::is_up;

    #[test]
    fn a_server_that_says_no_is_up_and_one_that_is_starting_is_not() {
        assert!(is_up("database \"shop\" does not exist (SQLSTATE 3D000)"));
        assert!(!is_up("the database system is starting up (SQLSTATE 57P03)"));
        assert!(!is_up("error connecting to server: Connection refused"));
    }
}
