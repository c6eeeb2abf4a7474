//! What Headgate says of itself to a new client: what all clusters can do, in the name of the one that serves.
//!
//! A client keeps what it agreed on for as long as it is connected, so that only what every cluster can do is offered.
//! A cluster is asked once, by a login with the account that the configuration has for it, because a connection that
//! ends without a login counts against us; every later login tells what it is now.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use protocol::mysql::auth;
use protocol::mysql::handshake::{Capabilities, Greeting};
use tokio::time::Instant;
use tracing::{debug, warn};
use transport::Password;
use zeroize::Zeroizing;

use super::server_login::{self, Credential, Identity};
use crate::config::{self, Config};
use crate::per_cluster::PerCluster;
use crate::route::{Cluster, Routes};
use crate::upstream::Origin;

/// How long a cluster that could not be asked is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What Headgate's own end of the connection can do, whatever the clusters can.
const OURS: Capabilities = Capabilities::LONG_PASSWORD
    .with(Capabilities::PROTOCOL_41)
    .with(Capabilities::SECURE_CONNECTION)
    .with(Capabilities::TRANSACTIONS)
    .with(Capabilities::CONNECT_WITH_DB)
    .with(Capabilities::CONNECT_ATTRS)
    .with(Capabilities::PLUGIN_AUTH)
    .with(Capabilities::PLUGIN_AUTH_LENENC)
    .with(Capabilities::SSL);

/// What it cannot, whatever the clusters can: packets are forwarded as they are, one proof is asked for, and reports
/// of progress would look like errors.
const NOT_OURS: Capabilities = Capabilities::COMPRESS
    .with(Capabilities::OPTIONAL_METADATA)
    .with(Capabilities::ZSTD)
    .with(Capabilities::MULTI_FACTOR)
    .with(Capabilities::PROGRESS);

/// What every server can do that anybody still runs.
const EVERYBODYS: Capabilities = Capabilities::FOUND_ROWS
    .with(Capabilities::LONG_FLAG)
    .with(Capabilities::LOCAL_FILES)
    .with(Capabilities::IGNORE_SPACE)
    .with(Capabilities::INTERACTIVE)
    .with(Capabilities::MULTI_STATEMENTS)
    .with(Capabilities::MULTI_RESULTS)
    .with(Capabilities::PS_MULTI_RESULTS);

/// What is told where no cluster could be asked, so that the console can be reached even then.
const NOBODYS_VERSION: &str = "8.0.0-headgate";
/// The collation `utf8mb4_general_ci`, which every server has.
const NOBODYS_CHARSET: u8 = 45;

/// What a new client is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What all clusters and Headgate can do.
    pub capabilities: Capabilities,
    /// The version of the cluster that serves.
    pub version: Bytes,
    /// Its collation.
    pub charset: u8,
    /// The login plugin that clients begin with.
    pub plugin: &'static [u8],
}

/// What the clusters said of themselves.
pub struct Greetings {
    clusters: PerCluster<Known>,
    /// Held by whoever asks the clusters for the first time.
    asking: tokio::sync::Mutex<()>,
}

struct Known {
    password: Option<Password>,
    identity: Identity,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reported: Option<Reported>,
    asked: Option<Instant>,
}

#[derive(Clone, PartialEq, Eq)]
struct Reported {
    capabilities: Capabilities,
    version: Bytes,
    charset: u8,
    plugin: Bytes,
}

fn known(_: &str, cluster: &config::Cluster) -> Known {
    Known {
        password: cluster.own_password(),
        identity: Identity {
            user: cluster.user.clone().into_bytes(),
            credential: Credential::Clear(Zeroizing::default()),
            capabilities: Capabilities::default(),
            charset: NOBODYS_CHARSET,
            attributes: Bytes::new(),
            max_packet: 1 << 24,
            plain: false,
        },
        state: Mutex::default(),
    }
}

impl Greetings {
    /// Asks nobody yet.
    pub fn new(config: &Config) -> Self {
        Self { clusters: PerCluster::new(config, known), asking: tokio::sync::Mutex::default() }
    }

    /// Knows the clusters of another configuration.
    pub fn renew(&self, config: &Config) {
        self.clusters.renew(config, known);
    }

    /// What a new client is offered now. Waits for the clusters only as long as none of them has ever answered.
    pub async fn offer(self: &Arc<Self>, routes: &Routes) -> Offer {
        let missing = self.take_missing(routes);
        if !missing.is_empty() || self.serving(routes).is_none() {
            let nobody_answered = self.clusters.all().values().all(|known| known.state.lock().reported.is_none());
            // Not by the client itself: it may leave before the answer that all others need too.
            let asking = tokio::spawn(Arc::clone(self).ask(missing));
            if nobody_answered && let Err(error) = asking.await {
                warn!(%error, "the clusters could not be asked for their capabilities");
            }
        }
        self.current(routes)
    }

    /// Keeps what a cluster said to somebody who logged in there.
    pub fn learn(&self, cluster: &str, greeting: &Greeting) {
        let Some(known) = self.clusters.get(cluster) else {
            return;
        };
        let reported = Reported {
            capabilities: greeting.capabilities,
            version: greeting.version.clone(),
            charset: greeting.charset,
            plugin: greeting.plugin.clone(),
        };
        let mut state = known.state.lock();
        if state.reported.as_ref() != Some(&reported) {
            debug!(cluster, version = %String::from_utf8_lossy(&reported.version), "the cluster introduced itself");
            state.reported = Some(reported);
        }
    }

    fn serving(&self, routes: &Routes) -> Option<Reported> {
        // The cluster of the first route speaks for all of them.
        let name = match routes.routes().first() {
            Some(route) => route.destination().cluster.name.clone(),
            None => routes.default_cluster()?.name.clone(),
        };
        let known = self.clusters.get(&name)?;
        known.state.lock().reported.clone()
    }

    fn current(&self, routes: &Routes) -> Offer {
        let clusters = self.clusters.all();
        let mut reported = clusters.values().filter_map(|known| known.state.lock().reported.clone());
        let common = match reported.next() {
            Some(first) => reported.fold(first.capabilities, |all, one| all & one.capabilities),
            None => EVERYBODYS,
        };
        let capabilities = common.without(NOT_OURS) | OURS;
        match self.serving(routes) {
            Some(serving) => Offer {
                capabilities,
                version: serving.version,
                charset: serving.charset,
                plugin: if serving.plugin == auth::CACHING_SHA2 { auth::CACHING_SHA2 } else { auth::NATIVE },
            },
            None => Offer {
                capabilities,
                version: Bytes::from_static(NOBODYS_VERSION.as_bytes()),
                charset: NOBODYS_CHARSET,
                plugin: auth::NATIVE,
            },
        }
    }

    /// The clusters that never answered and were not asked just now.
    fn take_missing(&self, routes: &Routes) -> Vec<Arc<Cluster>> {
        let mut missing = Vec::new();
        for (name, known) in self.clusters.all().iter() {
            let mut state = known.state.lock();
            let rests = state.asked.is_some_and(|asked| asked.elapsed() < RETRY_AFTER);
            if state.reported.is_none()
                && !rests
                && let Some(cluster) = routes.cluster(name)
            {
                state.asked = Some(Instant::now());
                missing.push(cluster);
            }
        }
        missing
    }

    /// Asks the clusters; whoever comes meanwhile and needs an answer waits for it here.
    async fn ask(self: Arc<Self>, clusters: Vec<Arc<Cluster>>) {
        let _asking = self.asking.lock().await;
        join_all(clusters.iter().map(|cluster| self.ask_one(cluster))).await;
    }

    async fn ask_one(&self, cluster: &Cluster) {
        let Some(known) = self.clusters.get(&cluster.name) else {
            return;
        };
        let mut identity = known.identity.clone();
        if let Some(password) = &known.password {
            match password.read().await {
                Ok(password) => identity.credential = Credential::Clear(Zeroizing::new(password.as_bytes().to_vec())),
                Err(error) => {
                    return warn!(cluster = cluster.name, %error, "the cluster's capabilities are not known yet");
                }
            }
        }
        match server_login::login(cluster, Origin::Headgate, &identity, None).await {
            Ok(session) => {
                self.learn(&cluster.name, &session.greeting);
                server_login::quit(session).await;
            }
            Err(refused) => warn!(
                cluster = cluster.name,
                %refused,
                "the cluster's capabilities are not known yet; sessions that are opened meanwhile may not be movable there"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_plane;

    fn greeting(version: &'static str, capabilities: Capabilities) -> Greeting {
        Greeting {
            version: Bytes::from_static(version.as_bytes()),
            thread: 7,
            nonce: [1; 20],
            capabilities,
            extended: 0,
            charset: 8,
            status: 2,
            plugin: Bytes::from_static(auth::CACHING_SHA2),
        }
    }

    #[test]
    fn only_what_every_cluster_can_do_is_offered_in_the_name_of_the_one_that_serves() {
        let text = "[admin]\npassword = \"a\"\n[clusters.blue]\nengine = \"mysql\"\nhost = \"h\"\nuser = \"u\"\n\
             [clusters.green]\nengine = \"mysql\"\nhost = \"h\"\nuser = \"u\"\n[routes.shop]\ncluster = \"blue\"\n";
        let config = Config::parse(text, &|_| None).expect("valid");
        let (greetings, routes) = (Greetings::new(&config), Routes::default());
        routes.renew(&data_plane::wanted(&config)).expect("valid");
        assert_eq!(greetings.current(&routes).version, NOBODYS_VERSION);
        let (eof, track) = (Capabilities::DEPRECATE_EOF, Capabilities::SESSION_TRACK);
        greetings.learn("blue", &greeting("old", eof | Capabilities::COMPRESS));
        let offer = greetings.current(&routes);
        assert!(offer.capabilities.has(eof) && !offer.capabilities.has(Capabilities::COMPRESS));
        greetings.learn("green", &greeting("new", track));
        let offer = greetings.current(&routes);
        assert_eq!(offer.capabilities, OURS);
        assert_eq!((&offer.version[..], offer.charset), (&b"old"[..], 8));
        let green = routes.cluster("green").expect("there");
        routes.route("shop").expect("there").switch(&green);
        assert_eq!(greetings.current(&routes).version, "new");
    }
}
