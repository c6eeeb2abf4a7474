//! `headgate grants`: prints the least rights that Headgate's own account needs, as SQL that runs.

use std::process::ExitCode;

use proxy::config::Engine as Kind;

use super::command::{Family, Grants};
use super::dispatch;
use super::engine::{Engine, Task};
use super::output;

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
