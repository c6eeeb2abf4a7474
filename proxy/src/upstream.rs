//! Connections of the data plane: how they are opened to a cluster, and what all of them have.

use std::time::Duration;

use transport::{Address, Keepalive};

use crate::route::Cluster;

pub use transport::Stream as Upstream;

/// How long a silent peer, client or server, is trusted to be alive before the kernel asks it.
pub const KEEPALIVE: Keepalive =
    Keepalive { after: Duration::from_mins(1), every: Duration::from_secs(10), unheard_max: None };

/// Where the cluster is: its Unix socket where it has one.
pub fn address(cluster: &Cluster) -> Address<'_> {
    Address { host: &cluster.host, port: cluster.port, socket: cluster.socket.as_deref() }
}
