//! Sessions of the account that the configuration has for a cluster: for what only that may ask.

use mysql_async::{Conn, Error, OptsBuilder};
use transport::Tls;

use crate::config::{Cluster, Secret};

/// How they are opened.
#[derive(Clone, Debug)]
pub(super) struct OwnAccount {
    options: OptsBuilder,
    tls: Tls,
}

impl OwnAccount {
    /// On that cluster.
    pub(super) fn on(cluster: &Cluster) -> Self {
        let options = OptsBuilder::default()
            .ip_or_hostname(cluster.host.clone())
            .tcp_port(cluster.port)
            .socket(cluster.socket().map(|path| path.display().to_string()))
            .prefer_socket(false)
            .user(Some(cluster.user.clone()))
            .pass(cluster.password.as_ref().map(Secret::reveal));
        Self { options, tls: cluster.tls() }
    }

    /// Opens one. The caller sets the deadline.
    pub(super) async fn open(&self) -> Result<Conn, Error> {
        transport::mysql::open(self.options.clone(), &self.tls).await
    }
}
