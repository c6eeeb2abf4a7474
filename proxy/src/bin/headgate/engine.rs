//! What of the program depends on the engine.

use std::future::Future;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use migrator::Error;
use migrator::database::Database;
use migrator::model::definition::Definition;
use proxy::config::{Cluster, Config};
use proxy::console::AdminClient;
use proxy::data_plane::DataPlane;
use proxy::listener::Sessions;

use super::command::Grants;
use super::console::Execute;

/// One engine's half of the program.
pub(crate) trait Engine: Send + Sync + 'static {
    /// Its half of the data plane.
    type Sessions: Sessions;
    /// Its half of the control plane.
    type Database: Database;

    /// What a URL of this engine looks like.
    const URL: &'static str;

    /// The data plane's sessions.
    fn sessions(plane: Arc<DataPlane>, config: &Config) -> Result<Self::Sessions, Error>;

    /// The two databases of a migration.
    fn database(
        sessions: &Arc<Self::Sessions>,
        config: &Config,
        definition: &Definition,
        pair: &ClusterPair<'_>,
    ) -> Self::Database;

    /// Serves one admin session after its login.
    fn serve_admin(execute: &impl Execute, client: AdminClient) -> impl Future<Output = io::Result<()>> + Send;

    /// Takes a URL apart into a server with an account, and a database where it names one. The error begins with the
    /// `option` that gave the URL and never holds the password.
    fn parse_url(option: &str, url: &str) -> Result<(Cluster, Option<String>), String>;

    /// The least rights that Headgate's account needs, as a script; or what is wrong with what was asked for.
    fn grants(asked: &Grants) -> Result<String, String>;

    /// Sends statements to the admin console at `console`.
    fn query(
        console: &Cluster,
        database: &str,
        statements: &str,
    ) -> impl Future<Output = Result<Vec<Reply>, String>> + Send;
}

/// Where a migration goes from and to.
pub(crate) struct ClusterPair<'a> {
    /// The cluster that has the rows now.
    pub source: &'a Cluster,
    /// The cluster that gets them.
    pub target: &'a Cluster,
    /// The database's name on both.
    pub database: &'a str,
}

/// What the console said to one statement.
pub(crate) enum Reply {
    /// Rows of text.
    Rows {
        /// The names of the columns.
        columns: Vec<String>,
        /// The values, as wide as the columns.
        rows: Vec<Vec<Option<String>>>,
    },
    /// That it is done.
    Done,
}

/// Something that the command line asks for.
pub(crate) trait Task {
    /// Carries it out for one engine.
    fn run<E: Engine>(self) -> impl Future<Output = ExitCode>;
}
