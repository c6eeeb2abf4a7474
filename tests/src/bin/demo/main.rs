//! The demo: a live shop moves from one server to another, and every write is proved.

mod basket;
mod console;
mod engine;
mod failure;
mod ledger;
mod link;
mod load;
mod mysql;
mod outcome;
mod postgres;
mod report;
mod screen;
mod shop;
mod shopper;
mod stage;
mod story;
#[cfg(test)]
mod tests;
mod verdict;

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use engine::Engine;
use failure::{Failure, Result};
use mysql::Mysql;
use postgres::Postgres;
use screen::Screen;
use stage::Stage;

/// Moves a live shop from one server to another by Headgate, and proves every write.
#[derive(Clone, Copy, Debug, Parser)]
#[command(name = "demo")]
struct Demo {
    /// Whose servers play
    #[arg(long, value_enum, default_value_t = Cast::Postgres)]
    engine: Cast,
    /// Leave servers and Headgate running afterwards, and print how to connect
    #[arg(long)]
    keep: bool,
}

/// Whose servers play.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Cast {
    /// PostgreSQL 14 to 18
    Postgres,
    /// MySQL 9.7 to another 9.7
    Mysql,
    /// MariaDB 10.11 to another 10.11
    Mariadb,
}

/// Succeeds only if nothing failed, was lost or was doubled.
#[tokio::main]
async fn main() -> ExitCode {
    Box::pin(Demo::parse().run()).await
}

impl Demo {
    async fn run(self) -> ExitCode {
        let screen = Screen::new();
        let played = match self.engine {
            Cast::Postgres => Box::pin(self.perform(screen, Postgres)).await,
            Cast::Mysql => Box::pin(self.perform(screen, Mysql::MYSQL)).await,
            Cast::Mariadb => Box::pin(self.perform(screen, Mysql::MARIADB)).await,
        };
        match played {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(failure) => {
                screen.verdict(false, &format!("FAILED: {failure}"));
                ExitCode::FAILURE
            }
        }
    }

    async fn perform<E: Engine>(self, screen: Screen, engine: E) -> Result<bool> {
        screen.heading("Two clusters");
        let mut stage = tokio::select! {
            stage = Stage::set(engine) => stage?,
            text = interrupted() => return Err(text),
        };
        let (from, to) = stage.names();
        screen.good(&format!("{from} is blue, the source; {to} is green, the target"));
        let played = tokio::select! {
            played = story::play(&mut stage, screen, self.keep) => played,
            text = interrupted() => Err(text),
        };
        let passed = matches!(played, Ok(true));
        if !passed {
            screen.heading("The end of headgate's log");
            for line in stage.log_tail() {
                screen.line(&line);
            }
            screen.line(&format!("configuration, journal and log are in {}", stage.folder().display()));
        }
        if self.keep && played.is_ok() {
            screen.heading("Everything is left running");
            screen.pairs(&stage.keep());
        } else {
            stage.clear(!passed).await;
        }
        played
    }
}

/// Resolves when somebody wants the demo to end.
async fn interrupted() -> Failure {
    let waits = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = waits else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Failure("interrupted; servers and headgate are being stopped".to_owned())
}
