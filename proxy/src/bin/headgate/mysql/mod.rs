//! MySQL's and MariaDB's half of the program.

mod console;
mod dialect;
mod query;
#[cfg(test)]
mod tests;
mod url;
mod values;
mod wire;

use std::future::Future;
use std::io;
use std::sync::Arc;

use migrator::Error;
use migrator::accounts::Secrets;
use migrator::model::definition::Definition;
use migrator::mysql::client::Flavor;
use migrator::mysql::{Endpoint, rights};
use proxy::config::{Cluster, Config};
use proxy::console::AdminClient;
use proxy::data_plane::DataPlane;
use proxy::mysql::session::MysqlSessions;

use super::command::{Family, Grants};
use super::console::Execute;
use super::engine::{ClusterPair, Engine, Reply};

/// MySQL and MariaDB.
pub(crate) struct Mysql;

impl Engine for Mysql {
    type Sessions = MysqlSessions;
    type Database = migrator::mysql::MysqlDatabase;

    const URL: &'static str = url::FORM;

    fn sessions(plane: Arc<DataPlane>, config: &Config) -> Result<Self::Sessions, Error> {
        MysqlSessions::new(plane, config).map_err(|error| Error::fatal("sessions cannot be served").because(error))
    }

    fn database(
        sessions: &Arc<Self::Sessions>,
        _: &Config,
        definition: &Definition,
        pair: &ClusterPair<'_>,
    ) -> Self::Database {
        migrator::mysql::MysqlDatabase::new(migrator::mysql::Mysql::new(
            &definition.name,
            endpoint(pair.source, pair.database),
            endpoint(pair.target, pair.database),
            definition.settings.clone(),
            Arc::new(Captured(Arc::clone(sessions))),
        ))
    }

    fn serve_admin(execute: &impl Execute, client: AdminClient) -> impl Future<Output = io::Result<()>> + Send {
        console::serve(execute, client)
    }

    fn grants(asked: &Grants) -> Result<String, String> {
        let flavor = if asked.engine == Family::Mariadb { Flavor::Mariadb } else { Flavor::Mysql };
        let version = rights::version(flavor, asked.server_version.as_deref())
            .ok_or("--server-version: write a version such as 8.4, 5.6 or 10.11")?;
        let whose = rights::For { account: &rights::account(&asked.user, &asked.host), databases: &asked.database };
        Ok(rights::script(asked.side(), version, whose))
    }

    fn parse_url(option: &str, url: &str) -> Result<(Cluster, Option<String>), String> {
        url::parse(option, url)
    }

    fn query(
        console: &Cluster,
        database: &str,
        statements: &str,
    ) -> impl Future<Output = Result<Vec<Reply>, String>> + Send {
        query::run(console, database, statements)
    }
}

/// What the data plane knows of passwords, as the migrator sees it.
struct Captured(Arc<MysqlSessions>);

impl Secrets for Captured {
    fn password(&self, user: &str) -> Option<String> {
        self.0.captured_password(user)
    }
}

fn endpoint(cluster: &Cluster, database: &str) -> Endpoint {
    Endpoint {
        host: cluster.host.clone(),
        port: cluster.port,
        user: cluster.user.clone(),
        password: cluster.own_password(),
        tls: cluster.tls(),
        proxy_protocol: cluster.proxy_protocol,
        database: database.to_owned(),
    }
}
