//! Connections of the data plane: how they are opened to a cluster, and what all of them have.

use std::time::Duration;

use protocol::proxy_protocol::{Addresses, Header};
use transport::{Address, Keepalive};

use crate::route::Cluster;

pub use transport::Stream as Upstream;

/// How long a silent peer, client or server, is trusted to be alive before the kernel asks it.
pub const KEEPALIVE: Keepalive =
    Keepalive { after: Duration::from_mins(1), every: Duration::from_secs(10), unheard_max: None };

/// Who a connection to a cluster is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Headgate itself.
    Headgate,
    /// A client with a connection between these ends.
    Client(Addresses),
}

impl Origin {
    fn header(self) -> Header {
        match self {
            Self::Headgate => Header::Local,
            Self::Client(addresses) => Header::Proxied(addresses),
        }
    }
}

/// Where the cluster is: its Unix socket where it has one; and who it is told that a connection is for, if it wants to know.
pub fn address(cluster: &Cluster, origin: Origin) -> Address<'_> {
    let header = cluster.proxy_protocol.then(|| origin.header());
    Address { host: &cluster.host, port: cluster.port, socket: cluster.socket.as_deref(), header }
}
