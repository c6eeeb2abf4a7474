//! Connections of the data plane: how they are opened to a cluster, and what all of them have.

use std::io;
use std::time::Duration;

use transport::{Address, Keepalive};

use crate::route::Cluster;

pub use transport::Stream as Upstream;

/// How long a silent peer, client or server, is trusted to be alive before the kernel asks it.
pub const KEEPALIVE: Keepalive =
    Keepalive { after: Duration::from_mins(1), every: Duration::from_secs(10), unheard_max: None };

/// Where the cluster is.
fn address(cluster: &Cluster) -> Address<'_> {
    Address { host: &cluster.host, port: cluster.port, socket: cluster.socket.as_deref() }
}

/// Opens a connection to PostgreSQL within the cluster's `connect_timeout`, over its Unix socket where it has one, and in TLS
/// as the cluster says. Fails with the system's error, or `TimedOut`.
pub async fn connect_postgres(cluster: &Cluster) -> io::Result<Upstream> {
    transport::postgres::connect(address(cluster), &cluster.tls, cluster.connect_timeout, &KEEPALIVE).await
}

/// The same for MySQL, where TLS begins within the login.
pub async fn connect_mysql(cluster: &Cluster) -> io::Result<Upstream> {
    transport::connect(address(cluster), cluster.connect_timeout, &KEEPALIVE).await
}
