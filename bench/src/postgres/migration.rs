//! Headgate with a source and a target, and one console session that is kept open, so that asking costs next to nothing.

use std::time::Duration;

use tests::headgate::Headgate;
use tests::postgres::{Postgres, Record, try_records};
use tests::wait::until;
use tests::world::{DATABASE, clusters};
use tokio_postgres::Client;

use crate::postgres::ground;
use crate::postgres::load::{self, At};
use crate::rehearsals::text;

/// How long any step of a migration of this size may take.
pub(crate) const LIMIT: Duration = Duration::from_mins(10);

/// A source with the usual tables, an empty target, and Headgate between.
#[derive(Debug)]
pub(crate) struct Ground {
    /// PostgreSQL 14.
    pub(crate) source: Postgres,
    /// PostgreSQL 18.
    pub(crate) target: Postgres,
    /// The program.
    pub(crate) headgate: Headgate,
    console: Client,
}

impl Ground {
    /// Starts all of it and fills the source.
    pub(crate) async fn start(scale: u32) -> Self {
        let (source, target) = tokio::join!(ground::server(14), ground::server(18));
        create(&source, DATABASE).await;
        fill(&source, DATABASE, scale).await;
        let headgate = Headgate::start(&clusters(source.port(), target.port())).await;
        let console = headgate.console().await;
        Self { source, target, headgate, console }
    }

    /// Runs a statement of the console that must succeed.
    pub(crate) async fn admin(&self, statement: &str) -> Vec<Record> {
        let answer = try_records(&self.console, statement).await;
        answer.unwrap_or_else(|error| panic!("{statement}: {error:?}\n{}", self.headgate.log()))
    }

    /// The one row of a statement of the console.
    pub(crate) async fn row(&self, statement: &str) -> Record {
        let rows = self.admin(statement).await;
        rows.into_iter().next().unwrap_or_else(|| panic!("{statement}: no row"))
    }

    /// Creates a migration of the whole database.
    pub(crate) async fn create_migration(&self, name: &str) {
        self.admin(&format!("CREATE MIGRATION {name} FROM blue TO green FOR ROUTE {DATABASE}")).await;
    }

    /// Waits until a migration is in a state; panics when it has failed instead.
    pub(crate) async fn until_state(&self, name: &str, state: &str) {
        let statement = format!("SHOW MIGRATION STATUS {name}");
        let ended = |row: &Record| ["failed", state].contains(&text(row, "state").as_str());
        let row = until(&format!("{name} is {state}"), LIMIT, || self.row(&statement), ended).await;
        assert_eq!(text(&row, "state"), state, "{row:?}\n{}", self.headgate.log());
    }

    /// Compares both sides; panics unless they are equal.
    pub(crate) async fn check(&self, name: &str) {
        self.admin(&format!("CHECK MIGRATION {name}")).await;
        let statement = format!("SHOW MIGRATION CHECK STATUS {name}");
        let ended = |row: &Record| text(row, "result") != "running";
        let row = until("the check ends", LIMIT, || self.row(&statement), ended).await;
        assert_eq!(text(&row, "result"), "passed", "{row:?}");
    }
}

/// Creates an empty database, again if it is there.
pub(crate) async fn create(server: &Postgres, database: &str) {
    server.sql("postgres", &format!("drop database if exists {database} with (force)")).await;
    server.sql("postgres", &format!("create database {database}")).await;
}

/// Fills a database with the usual tables, so that every change of them can be followed.
pub(crate) async fn fill(server: &Postgres, database: &str, scale: u32) {
    load::fill(&At::loopback(server.port(), database), scale).await;
    server.sql(database, "alter table pgbench_history replica identity full").await;
    server.sql(database, "checkpoint").await;
}
