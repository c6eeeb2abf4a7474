//! The program `headgate`: reads the command line and runs one command; the only place that sees both the data plane and the
//! control plane.

mod command;
mod console;
mod dispatch;
mod engine;
mod grants;
mod health;
mod http;
mod log;
mod migrate;
mod mysql;
mod output;
mod postgres;
mod reload;
mod run;
mod sql;
mod statement;
mod traffic;
mod url;
mod wiring;

use std::alloc::System;
use std::process::ExitCode;

use clap::Parser;
use zeroizing_alloc::ZeroAlloc;

use command::{Command, ConfigCommand, Line};
use log::Log;

/// What is freed is wiped: passwords pass through buffers of TLS, of drivers and of our own, and no core may have one whose use is
/// over.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// Reads the command line and runs one command: 0 says success, 1 failure, 2 a command line that is not understood.
fn main() -> ExitCode {
    let line = Line::parse();
    // Bars and tables are this command's output; the log only tells what is wrong.
    let quiet = matches!(line.command, Command::Migrate(_) | Command::Sql(_) | Command::Grants(_));
    let log = Log::start(line.log_json, if quiet { "warn" } else { "info" });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(Box::pin(run(line.command, log.clone()))),
        Err(error) => output::fail(&format!("the runtime could not be started: {error}")),
    };
    log.finish();
    ended
}

async fn run(command: Command, log: Log) -> ExitCode {
    match command {
        Command::Run { config } => run::run(&config, log).await,
        Command::CheckConfig { config } => run::check(&config),
        Command::Config(ConfigCommand { reference: _ }) => {
            output::print(&proxy::config::reference());
            ExitCode::SUCCESS
        }
        Command::Grants(grants) => grants::run(grants).await,
        Command::Migrate(migrate) => Box::pin(migrate::run(migrate)).await,
        Command::Sql(sql) => sql::run(sql).await,
        Command::Version => {
            output::print(&format!("{}\n", console::version()));
            ExitCode::SUCCESS
        }
    }
}
