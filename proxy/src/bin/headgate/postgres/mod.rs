//! PostgreSQL's half of the program.

mod console;
mod query;
#[cfg(test)]
mod tests;
mod url;
mod wire;

use std::future::Future;
use std::io;
use std::sync::Arc;

use migrator::Error;
use migrator::accounts::{Secrets, Trial};
use migrator::model::definition::Definition;
use migrator::postgres::{Endpoint, Tools, rights};
use proxy::config::{Cluster, Config};
use proxy::console::AdminClient;
use proxy::data_plane::DataPlane;
use proxy::postgres::session::PostgresSessions;

use super::command::Grants;
use super::console::Execute;
use super::engine::{ClusterPair, Engine, Reply};

/// PostgreSQL.
pub(crate) struct Postgres;

impl Engine for Postgres {
    type Sessions = PostgresSessions;
    type Database = migrator::postgres::PostgresDatabase;

    const URL: &'static str = url::FORM;

    fn sessions(plane: Arc<DataPlane>, config: &Config) -> Result<Self::Sessions, Error> {
        PostgresSessions::new(plane, config).map_err(|error| Error::fatal("sessions cannot be served").because(error))
    }

    fn database(
        sessions: &Arc<Self::Sessions>,
        config: &Config,
        definition: &Definition,
        pair: &ClusterPair<'_>,
    ) -> Self::Database {
        let tools = Tools { pg_dump: config.migrator.pg_dump.clone(), pg_restore: config.migrator.pg_restore.clone() };
        migrator::postgres::PostgresDatabase::new(migrator::postgres::Postgres::new(
            &definition.name,
            endpoint(pair.source, pair.database),
            endpoint(pair.target, pair.database),
            definition.settings.clone(),
            tools,
            Arc::new(Configured {
                sessions: Arc::clone(sessions),
                clusters: [(&definition.source, pair.source), (&definition.target, pair.target)]
                    .map(|(name, cluster)| (name.clone(), cluster.host.clone(), cluster.port)),
            }),
        ))
    }

    fn serve_admin(execute: &impl Execute, client: AdminClient) -> impl Future<Output = io::Result<()>> + Send {
        console::serve(execute, client.stream, client.leftover)
    }

    fn grants(asked: &Grants) -> Result<String, String> {
        let [database] = asked.database.as_slice() else {
            return Err("--database: a migration of PostgreSQL moves one database".to_owned());
        };
        let major = match &asked.server_version {
            None => Some(rights::NEWEST),
            Some(text) => {
                text.split('.').next().and_then(|major| major.parse().ok()).filter(|major| *major >= rights::OLDEST)
            }
        };
        let major =
            major.ok_or_else(|| format!("--server-version: write a major version of at least {}", rights::OLDEST))?;
        let whose = rights::For { user: &asked.user, database, schemas: &[], service: asked.service };
        Ok(rights::script(asked.side(), major, whose))
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
struct Configured {
    sessions: Arc<PostgresSessions>,
    /// The migration's, with their hosts and ports.
    clusters: [(String, String, u16); 2],
}

impl Secrets for Configured {
    fn password(&self, user: &str) -> Option<String> {
        self.sessions.known_password(user)
    }

    fn log_in<'a>(&'a self, host: &'a str, port: u16, database: &'a str, user: &'a str) -> Trial<'a> {
        let found = self.clusters.iter().find(|(_, at, number)| at == host && *number == port);
        Box::pin(async move { self.sessions.try_revealed(&found?.0, database, user).await })
    }

    fn turns_away(&self, user: &str) -> bool {
        self.sessions.turns_away(user)
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
