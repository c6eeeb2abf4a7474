//! Sessions of the account that the configuration has for a cluster: for what only that may ask.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, IoError, OptsBuilder};
use protocol::proxy_protocol::Header;
use transport::{Password, Tls};

use crate::config::Cluster;

/// No limit of the server's ends them in the middle of an answer, or between two. The last is MySQL's, or MariaDB's: either
/// takes the other's for a comment.
const LASTING: &str = "SET SESSION wait_timeout = 86400, net_read_timeout = 600, net_write_timeout = 600, lock_wait_timeout = 600 \
    /*!50708 , max_execution_time = 0 */ /*M!100101 , max_statement_time = 0 */";

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
        session.query_drop(LASTING).await?;
        transport::mysql::activate_roles(&mut session).await?;
        Ok(session)
    }
}
