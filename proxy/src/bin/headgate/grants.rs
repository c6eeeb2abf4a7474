//! `headgate grants`: prints the least rights that Headgate's own account needs, as SQL that runs.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use migrator::rights::Side;
use proxy::config::Engine as Kind;

use super::dispatch;
use super::engine::{Engine, Task};
use super::output;

/// What is asked for.
#[derive(Args)]
pub(crate) struct Grants {
    /// The engine
    #[arg(long, value_enum)]
    pub(crate) engine: Family,
    /// The server that the account is for: the migration's source or its target
    #[arg(long = "for", value_enum)]
    pub(crate) side: For,
    /// The account's name
    #[arg(long, default_value = "headgate")]
    pub(crate) user: String,
    /// Where the account may come from; MySQL and MariaDB only
    #[arg(long, default_value = "%")]
    pub(crate) host: String,
    /// A database that moves; MySQL and MariaDB take several
    #[arg(long, required = true, value_name = "NAME")]
    pub(crate) database: Vec<String>,
    /// The server's version, such as 14 or 5.6, where it is not the newest known
    #[arg(long, value_name = "VERSION")]
    pub(crate) server_version: Option<String>,
}

/// The engines that can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Family {
    /// PostgreSQL
    Postgres,
    /// MySQL
    Mysql,
    /// MariaDB
    Mariadb,
}

/// The servers of a migration.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum For {
    /// The server that has the rows
    Source,
    /// The server that gets them
    Target,
}

impl Grants {
    /// The server that the account is for.
    pub(crate) fn side(&self) -> Side {
        match self.side {
            For::Source => Side::Source,
            For::Target => Side::Target,
        }
    }
}

impl Task for Grants {
    async fn run<E: Engine>(self) -> ExitCode {
        match E::grants(&self) {
            Ok(script) => {
                output::print(&script);
                ExitCode::SUCCESS
            }
            Err(problem) => output::fail(&problem),
        }
    }
}

/// Prints them.
pub(crate) async fn run(grants: Grants) -> ExitCode {
    let kind = if grants.engine == Family::Postgres { Kind::Postgres } else { Kind::Mysql };
    dispatch::with(kind, grants).await
}
