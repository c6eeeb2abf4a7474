//! Headgate with a source and a target, and one console session that is kept open, so that asking costs next to nothing.

use std::time::Duration;

use mysql_async::Conn;
use tests::headgate::{ADMIN_PASSWORD, Headgate};
use tests::mysql::{Mysql, Record, connect, try_records};
use tests::wait::within;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::ground;
use super::load::{self, Data, PASSWORD, USER};
use crate::rehearsals::text;

/// How long any step of a migration of this size may take.
pub(crate) const LIMIT: Duration = Duration::from_mins(10);

/// The database that moves, and its route.
pub(crate) const DATABASE: &str = "bench";

/// How often a state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A source with the usual tables, an empty target, and Headgate between.
#[derive(Debug)]
pub(crate) struct Ground {
    /// MySQL 9.7 with rows.
    pub(crate) source: Mysql,
    /// MySQL 9.7 without any.
    pub(crate) target: Mysql,
    /// The program.
    pub(crate) headgate: Headgate,
    console: Mutex<Conn>,
}

impl Ground {
    /// Starts all of it and fills the source.
    pub(crate) async fn start(data: Data) -> Self {
        let (source, target) = tokio::join!(ground::server(), ground::server());
        create(&source).await;
        load::fill(source.port(), DATABASE, data).await;
        let headgate = Headgate::start(&clusters(source.port(), target.port())).await;
        let console = connect(headgate.port(), "headgate", Some(ADMIN_PASSWORD), "headgate").await;
        Self { source, target, headgate, console: Mutex::new(console) }
    }

    /// Runs a statement of the console that must succeed.
    pub(crate) async fn admin(&self, statement: &str) -> Vec<Record> {
        let mut console = self.console.lock().await;
        let answer = within(statement, LIMIT, try_records(&mut console, statement)).await;
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
        let waiting = async {
            loop {
                let row = self.row(&statement).await;
                let now = text(&row, "state");
                if now == state {
                    return;
                }
                assert_ne!(now, "failed", "{row:?}\n{}", self.headgate.log());
                sleep(LOOK_EVERY).await;
            }
        };
        within(&format!("{name} is {state}"), LIMIT, waiting).await;
    }

    /// Compares both sides; panics unless they are equal.
    pub(crate) async fn check(&self, name: &str) {
        self.admin(&format!("CHECK MIGRATION {name}")).await;
        let statement = format!("SHOW MIGRATION CHECK STATUS {name}");
        let checking = async {
            loop {
                let row = self.row(&statement).await;
                match text(&row, "result").as_str() {
                    "passed" => return,
                    "running" => sleep(LOOK_EVERY).await,
                    _ => panic!("{row:?}\n{}", self.headgate.log()),
                }
            }
        };
        within("the check ends", LIMIT, checking).await;
    }
}

/// Creates the database, empty, again if it is there, and the application's account.
pub(crate) async fn create(server: &Mysql) {
    let text = format!(
        "DROP DATABASE IF EXISTS {DATABASE}; CREATE DATABASE {DATABASE}; \
         CREATE USER IF NOT EXISTS {USER}@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON {DATABASE}.* TO {USER}@'%'"
    );
    server.sql("", &text).await;
}

fn clusters(source: u16, target: u16) -> String {
    let cluster = |name: &str, port: u16| {
        format!("[clusters.{name}]\nengine = \"mysql\"\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"root\"\n")
    };
    format!("{}{}[routes.{DATABASE}]\ncluster = \"blue\"\n", cluster("blue", source), cluster("green", target))
}
