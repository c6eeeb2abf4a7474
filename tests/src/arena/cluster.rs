//! What an arena asks of a server, for either engine.

use mysql_async::Conn;
use tokio_postgres::Client;

use crate::headgate::Engine;
use crate::history::{Application, Failure};
use crate::mysql::{Mysql, Pair};
use crate::postgres::{Postgres, Rows};
use crate::wait::{SOON, until};
use crate::world::{DATABASE, PASSWORD, Side, USER, clusters, mysql_clusters};

/// Which servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// PostgreSQL of these major versions.
    Postgres(u32, u32),
    /// MySQL or MariaDB.
    Mysql(Pair),
}

impl Pairing {
    /// Its name in tables.
    pub fn title(self) -> String {
        match self {
            Self::Postgres(source, target) => format!("PostgreSQL {source} to {target}"),
            Self::Mysql(pair) => {
                let (source, target) = pair.kinds();
                format!("{} to {}", source.title(), target.title())
            }
        }
    }
}

/// A server of a migration under a load.
pub trait Cluster: Side + Sized + Send + Sync {
    /// A session of the load.
    type Client: Application;
    /// What its Headgate speaks.
    const ENGINE: Engine;

    /// Starts the source and the target, with an empty database and the application's account.
    fn pair(pairing: Pairing) -> impl Future<Output = [Self; 2]> + Send;

    /// The configuration of the two clusters, reached at these ports.
    fn sections(blue: u16, green: u16) -> String;

    /// The loopback port.
    fn port(&self) -> u16;

    /// Its process, while it runs.
    fn pid(&self) -> Option<u32>;

    /// Ends it as a crash does.
    fn crash(&mut self) -> impl Future<Output = ()> + Send;

    /// Starts it again, after stopping it in order where it runs.
    fn restart(&mut self) -> impl Future<Output = ()> + Send;

    /// Takes all connections that it has left, for as long as the value lives.
    fn crowd(&self) -> impl Future<Output = Vec<Self::Client>> + Send;

    /// Lets connections in again, where the crowd alone did not keep them out.
    fn disperse(&self) -> impl Future<Output = ()> + Send;

    /// What is on it of Headgate's that has an effect, or keeps something from going away, by name.
    fn in_effect(&self) -> impl Future<Output = Vec<String>> + Send;

    /// Everything that is on it of Headgate's, by name.
    fn kept_by_headgate(&self) -> impl Future<Output = Vec<String>> + Send;

    /// Whether the application may write, going around Headgate.
    fn takes_writes(&self) -> impl Future<Output = bool> + Send {
        async {
            let Some(mut around) = Self::Client::open(self.port()).await else {
                return false;
            };
            let written = around.ask("UPDATE accounts SET balance = balance WHERE id = 1").await;
            !matches!(written, Err(Failure::Refused(_)))
        }
    }
}

/// Names without the number of the leg, so that one leg can be compared with another.
fn names(rows: Rows) -> Vec<String> {
    let one = |row: Vec<Option<String>>| {
        let name = row.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let mut parts = name.split("headgate");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |name, part| name + "headgate" + part.trim_start_matches(|one: char| one.is_ascii_digit()))
    };
    let mut names: Vec<String> = rows.into_iter().map(one).collect();
    names.sort();
    names
}

impl Cluster for Postgres {
    type Client = Client;
    const ENGINE: Engine = Engine::Postgres;

    async fn pair(pairing: Pairing) -> [Self; 2] {
        let Pairing::Postgres(source, target) = pairing else { panic!("{pairing:?} is not PostgreSQL") };
        // Few, so that all of them can be taken.
        let few = [("max_connections", "70")];
        let start = |version| Self::start_with(version, &few, None);
        let (source, target) = tokio::join!(start(source), start(target));
        for server in [&source, &target] {
            server.sql("postgres", &format!("create database {DATABASE}")).await;
        }
        [source, target]
    }

    fn sections(blue: u16, green: u16) -> String {
        clusters(blue, green)
    }

    fn port(&self) -> u16 {
        Self::port(self)
    }

    fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    async fn crash(&mut self) {
        self.server.kill().await.expect("it runs");
    }

    async fn restart(&mut self) {
        self.server.restart().await.expect("it starts");
    }

    async fn crowd(&self) -> Vec<Client> {
        let mut crowd = Vec::new();
        while let Some(one) = Client::open(self.port()).await {
            crowd.push(one);
        }
        crowd
    }

    async fn disperse(&self) {}

    async fn in_effect(&self) -> Vec<String> {
        let marks = "select to_regclass('headgate.switches') is not null";
        let marked = if self.value(DATABASE, marks).await == "t" {
            "union all select 'mark', migration from headgate.switches"
        } else {
            ""
        };
        let effective = format!(
            "select 'slot', slot_name from pg_replication_slots where not temporary
             union all select 'publication', pubname from pg_publication
             union all select 'trigger', tgname || ' on ' || tgrelid::regclass from pg_trigger where tgname like 'headgate%'
             union all select 'event trigger', evtname from pg_event_trigger
             union all select 'prepared transaction', gid from pg_prepared_xacts {marked}"
        );
        names(self.sql(DATABASE, &effective).await)
    }

    async fn kept_by_headgate(&self) -> Vec<String> {
        let kept = self.sql(
            DATABASE,
            "select 'function', proname from pg_proc where pronamespace = to_regnamespace('headgate')
             union all select 'relation', relname from pg_class
                 where relnamespace = to_regnamespace('headgate') and relkind in ('r', 'v', 'm', 'S')",
        );
        [self.in_effect().await, names(kept.await)].concat()
    }
}

impl Cluster for Mysql {
    type Client = Conn;
    const ENGINE: Engine = Engine::Mysql;

    async fn pair(pairing: Pairing) -> [Self; 2] {
        let Pairing::Mysql(pair) = pairing else { panic!("{pairing:?} is not MySQL") };
        let (source, target) = pair.start().await;
        for server in [&source, &target] {
            server.make_database(DATABASE).await;
        }
        source.make_account(USER, PASSWORD, DATABASE).await;
        [source, target]
    }

    fn sections(blue: u16, green: u16) -> String {
        mysql_clusters(blue, green)
    }

    fn port(&self) -> u16 {
        Self::port(self)
    }

    fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    async fn crash(&mut self) {
        self.server.kill().await.expect("it runs");
    }

    async fn restart(&mut self) {
        self.server.restart().await.expect("it starts");
    }

    async fn crowd(&self) -> Vec<Conn> {
        // Administrators have one more than all others.
        self.sql("", "SET GLOBAL max_connections = 10").await;
        let mut crowd = Vec::new();
        while let Ok(one) = crate::mysql::try_connect(self.port(), "root", None, "").await {
            crowd.push(one);
        }
        crowd
    }

    async fn disperse(&self) {
        let restore = || async {
            let session = crate::mysql::try_connect(self.port(), "root", None, "").await.ok();
            match session {
                Some(mut session) => {
                    crate::mysql::try_rows(&mut session, "SET GLOBAL max_connections = 300").await.is_ok()
                }
                None => false,
            }
        };
        until("connections are let in again", SOON, restore, |restored| *restored).await;
    }

    async fn in_effect(&self) -> Vec<String> {
        let mut effective = names(
            self.sql(
                "",
                "SELECT 'trigger', trigger_name FROM information_schema.triggers WHERE trigger_schema <> 'sys'
                 UNION ALL SELECT 'event', CONCAT(event_name, ' ', status) FROM information_schema.events
                 UNION ALL SELECT 'account', CONCAT(user, '@', host) FROM mysql.user
                 UNION ALL SELECT 'read_only', @@GLOBAL.read_only
                 UNION ALL SELECT 'event_scheduler', CAST(@@GLOBAL.event_scheduler AS CHAR)",
            )
            .await,
        );
        let tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'headgate'";
        let tables = names(self.sql("", tables).await);
        for table in
            ["switches", "fence", "fence_durable"].into_iter().filter(|table| tables.iter().any(|one| one == table))
        {
            let query = format!("SELECT 'row of {table}' FROM headgate.{table}");
            effective.extend(names(self.sql("", &query).await));
        }
        effective
    }

    async fn kept_by_headgate(&self) -> Vec<String> {
        let kept = self.sql(
            "",
            "SELECT 'table', table_name FROM information_schema.tables WHERE table_schema = 'headgate'
             UNION ALL SELECT 'schema', schema_name FROM information_schema.schemata WHERE schema_name LIKE 'headgate%'",
        );
        [self.in_effect().await, names(kept.await)].concat()
    }
}
