//! Sessions of the account that the configuration has for a cluster: for what only that may ask.

use mysql_async::{Conn, Error, IoError, OptsBuilder};
use protocol::proxy_protocol::Header;
use transport::{Password, Tls};

use crate::config::Cluster;

/// How they are opened.
#[derive(Clone, Debug)]
pub(super) struct OwnAccount {
    options: OptsBuilder,
    password: Option<Password>,
    tls: Tls,
    header: Option<Header>,
}

impl OwnAccount {
    /// On that cluster.
    pub(super) fn on(cluster: &Cluster) -> Self {
        let options = OptsBuilder::default()
            .ip_or_hostname(cluster.host.clone())
            .tcp_port(cluster.port)
            .socket(cluster.socket().map(|path| path.display().to_string()))
            .prefer_socket(false)
            .user(Some(cluster.user.clone()));
        let header = cluster.proxy_protocol.then_some(Header::Local);
        Self { options, password: cluster.own_password(), tls: cluster.tls(), header }
    }

    /// Opens one. The caller sets the deadline.
    pub(super) async fn open(&self) -> Result<Conn, Error> {
        let password = match &self.password {
            Some(password) => Some(password.read().await.map_err(|error| Error::Io(IoError::Io(error)))?),
            None => None,
        };
        let options = self.options.clone().pass(password.as_ref().map(|password| password.as_str()));
        let mut session = transport::mysql::open(options, &self.tls, self.header).await?;
        transport::mysql::activate_roles(&mut session).await?;
        Ok(session)
    }
}
