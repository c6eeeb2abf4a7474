//! A source, a target and Headgate between them and an application.

use std::collections::BTreeSet;
use std::time::Duration;

use mysql_async::Conn;
use tokio_postgres::Client;

use crate::disk::SmallDisk;
use crate::headgate::{Engine, Headgate};
use crate::least::{self, LEAST};
use crate::managed::findings;
use crate::mysql::{Mysql, Pair, try_connect, try_rows};
use crate::postgres::{Postgres, Record, Rows};
use crate::wait::{SOON, until};

/// The database that moves: the same name on both servers and as the route.
pub const DATABASE: &str = "shop";

/// How long a migration of a test's few rows may take on a busy machine.
pub const MIGRATION: Duration = Duration::from_mins(1);

/// The application's account in a world of MySQL.
pub const USER: &str = "app";

/// Its password.
pub const PASSWORD: &str = "a secret of the application";

/// Everything that one migration needs, with the clusters `blue` and `green`: PostgreSQL 14 and 18 unless told otherwise.
#[derive(Debug)]
pub struct World<S = Postgres> {
    /// The cluster `blue`.
    pub source: S,
    /// The cluster `green`.
    pub target: S,
    /// The program, with the route `shop` on `blue`.
    pub headgate: Headgate,
}

/// A server of either engine, as far as both sides of a migration are asked alike.
pub trait Side {
    /// Runs statements in a session of their own and returns the rows of the last one that had any.
    fn sql(&self, database: &str, statements: &str) -> impl Future<Output = Rows> + Send;
}

impl Side for Postgres {
    async fn sql(&self, database: &str, statements: &str) -> Rows {
        Self::sql(self, database, statements).await
    }
}

impl Side for Mysql {
    async fn sql(&self, database: &str, statements: &str) -> Rows {
        Self::sql(self, database, statements).await
    }
}

impl World<Postgres> {
    /// Starts both servers, creates the database on each, runs `schema` on the source, and starts Headgate.
    pub async fn start(schema: &str) -> Self {
        Self::start_with(schema, "").await
    }

    /// As [`World::start`], with further sections of the configuration.
    pub async fn start_with(schema: &str, sections: &str) -> Self {
        let (source, target) = tokio::join!(Postgres::start(14), Postgres::start(18));
        Self::between(source, target, schema, sections).await
    }

    /// As [`World::start_with`], between servers that are there.
    pub async fn between(source: Postgres, target: Postgres, schema: &str, sections: &str) -> Self {
        for server in [&source, &target] {
            server.sql("postgres", &format!("create database {DATABASE}")).await;
        }
        if !schema.is_empty() {
            source.sql(DATABASE, schema).await;
        }
        source.let_migrate("source", DATABASE).await;
        target.let_migrate("target", DATABASE).await;
        let clusters = least::account(&clusters(source.port(), target.port()));
        let sections = [clusters.as_str(), sections].concat();
        Self { headgate: Headgate::start(&sections).await, source, target }
    }

    /// As [`World::start`], with the journal and the log on a disk of so many KiB. `None` where this user may not mount.
    pub async fn start_on_small_disk(schema: &str, kib: u32) -> Option<(Self, SmallDisk)> {
        let (source, target) = tokio::join!(Postgres::start(14), Postgres::start(18));
        for server in [&source, &target] {
            server.sql("postgres", &format!("create database {DATABASE}")).await;
        }
        source.sql(DATABASE, schema).await;
        source.let_migrate("source", DATABASE).await;
        target.let_migrate("target", DATABASE).await;
        let clusters = least::account(&clusters(source.port(), target.port()));
        let mut headgate = Headgate::prepare(&clusters);
        let disk = headgate.on_small_disk(kib)?;
        headgate.launch().await;
        let world = Self { source, target, headgate };
        Some((world, disk))
    }

    /// A session of the application through Headgate.
    pub async fn client(&self) -> Client {
        self.headgate.connect("postgres", DATABASE).await
    }

    /// A world whose migration is in the middle of copying the table `big` of 600,000 rows.
    pub async fn start_copying() -> Self {
        let schema = "create table big (id int primary key, v text);
            insert into big select n, repeat(md5(n::text), 8) from generate_series(1, 600000) n";
        let world = Self::start_with(schema, SLOWLY).await;
        world.start_migration().await;
        world.until_copying().await;
        world
    }
}

impl World<Mysql> {
    /// As [`World::start`], between servers of MySQL and MariaDB.
    pub async fn of(pair: Pair, schema: &str) -> Self {
        Self::of_with(pair, schema, "").await
    }

    /// As [`World::start_with`], between servers of MySQL and MariaDB.
    pub async fn of_with(pair: Pair, schema: &str, sections: &str) -> Self {
        let (source, target) = pair.start().await;
        // The target has no plugin for the source's hashes: an account can only be made from its password.
        let known = match pair {
            Pair::Mysql56to97 | Pair::Mariadb1011toMysql97 => {
                format!("[users.{USER}]\npassword = \"{PASSWORD}\"\n")
            }
            Pair::Mysql97to97 | Pair::Mariadb1011to1011 => String::new(),
        };
        Self::of_servers(source, target, schema, &[&known, sections].concat()).await
    }

    /// Between servers that are there: creates the database on each and the application's account on the source, runs
    /// `schema` on the source, and starts Headgate.
    pub async fn of_servers(source: Mysql, target: Mysql, schema: &str, sections: &str) -> Self {
        let clusters = least::account(&mysql_clusters(source.port(), target.port()));
        Self::of_clusters(source, target, schema, &[&clusters, sections].concat()).await
    }

    /// As [`World::of`], where Headgate's account on the source is `mover`, which may do all but set `read_only`.
    pub async fn of_managed_source(pair: Pair, schema: &str) -> Self {
        let (source, target) = pair.start().await;
        let rights = match pair {
            Pair::Mariadb1011to1011 | Pair::Mariadb1011toMysql97 => {
                "BINLOG MONITOR, SLAVE MONITOR, CONNECTION ADMIN, EXECUTE"
            }
            Pair::Mysql56to97 | Pair::Mysql97to97 => {
                "REPLICATION CLIENT, CONNECTION_ADMIN, XA_RECOVER_ADMIN, SHOW_ROUTINE"
            }
        };
        let rights = format!(
            "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, LOCK TABLES, TRIGGER, SHOW VIEW, EVENT, RELOAD, PROCESS, \
             CREATE USER, REPLICATION SLAVE, {rights}"
        );
        // An account without a name at this host would be taken for it otherwise.
        for host in ["localhost", "127.0.0.1"] {
            let create =
                format!("CREATE USER mover@'{host}' IDENTIFIED BY 'mover'; GRANT {rights} ON *.* TO mover@'{host}'");
            source.sql("", &create).await;
        }
        let clusters = mysql_clusters(source.port(), target.port());
        let mover = "user = \"mover\"\npassword = \"mover\"\n";
        let clusters = clusters.replacen("user = \"root\"\n", mover, 1);
        Self::of_clusters(source, target, schema, &clusters).await
    }

    /// As [`World::of_servers`], with the sections of the clusters too.
    pub async fn of_clusters(source: Mysql, target: Mysql, schema: &str, sections: &str) -> Self {
        for server in [&source, &target] {
            server.make_database(DATABASE).await;
        }
        source.make_account(USER, PASSWORD, DATABASE).await;
        if !schema.is_empty() {
            source.sql(DATABASE, schema).await;
        }
        if sections.contains(&format!("user = \"{LEAST}\"")) {
            source.let_migrate("source", DATABASE).await;
            target.let_migrate("target", DATABASE).await;
        }
        Self { headgate: Headgate::start_for(Engine::Mysql, sections).await, source, target }
    }

    /// As [`World::of`], with the journal and the log on a disk of so many KiB. `None` where this user may not mount.
    pub async fn of_small_disk(pair: Pair, schema: &str, kib: u32) -> Option<(Self, SmallDisk)> {
        let mut world = Self::of(pair, schema).await;
        world.headgate.kill().await;
        let clusters = least::account(&mysql_clusters(world.source.port(), world.target.port()));
        world.headgate = Headgate::prepare_for(Engine::Mysql, &clusters);
        let disk = world.headgate.on_small_disk(kib)?;
        world.headgate.launch().await;
        Some((world, disk))
    }

    /// A session of the application through Headgate.
    pub async fn client(&self) -> Conn {
        self.headgate.connect_mysql(USER, PASSWORD, DATABASE).await
    }

    /// Runs statements of the application straight on the source, which may not even let it in.
    pub async fn write_around(&self, statements: &str) -> Result<Rows, mysql_async::Error> {
        let port = self.source.port();
        let mut around = try_connect(port, USER, Some(PASSWORD), DATABASE).await?;
        try_rows(&mut around, statements).await
    }

    /// As [`World::start_copying`], between servers of MySQL and MariaDB.
    pub async fn of_copying(pair: Pair) -> Self {
        let schema = format!(
            "CREATE TABLE big (id INT PRIMARY KEY, v TEXT) ENGINE = InnoDB;
             INSERT INTO big SELECT n, REPEAT(LPAD(HEX(n * 2654435761), 32, 'x'), 8) FROM {} WHERE n <= 600000",
            million_numbers()
        );
        let world = Self::of_with(pair, &schema, SLOWLY).await;
        world.start_migration().await;
        world.until_copying().await;
        world
    }
}

impl<S: Side> World<S> {
    /// Creates the migration `m` from `blue` to `green` and starts it.
    pub async fn start_migration(&self) {
        self.headgate.admin("CREATE MIGRATION m FROM blue TO green FOR ROUTE shop").await;
        if least::with_least_rights() {
            self.mend().await;
        }
        self.headgate.admin("START MIGRATION m").await;
    }

    /// Grants what the precheck asks for besides what is printed, because of what the source's database has.
    async fn mend(&self) {
        for check in self.headgate.admin("PRECHECK MIGRATION m").await {
            let [name, fix] = ["check", "fix"].map(|column| check.get(column).map_or("", String::as_str));
            if fix.starts_with("GRANT ") || fix.contains("log_bin_trust_function_creators") {
                if name.starts_with("source") {
                    self.source.sql(DATABASE, fix).await;
                } else {
                    self.target.sql(DATABASE, fix).await;
                }
            }
        }
    }

    /// Waits until some rows are copied and not all.
    async fn until_copying(&self) {
        let copying = |row: &Record| {
            let state = row.get("state").map(String::as_str);
            assert_ne!(state, Some("following"), "the copy was too fast to be met: {row:?}");
            let copied = row.get("processed_records_count");
            copied.and_then(|count| count.parse::<u64>().ok()).is_some_and(|count| count > 0)
        };
        let ask = || self.row("SHOW MIGRATION STATUS m");
        until("some rows are copied", MIGRATION, ask, copying).await;
    }

    /// The one row of a statement about the migration `m`.
    pub async fn row(&self, statement: &str) -> Record {
        let rows = self.headgate.admin(statement).await;
        assert_eq!(rows.len(), 1, "{statement}: {rows:?}");
        rows.into_iter().next().unwrap_or_default()
    }

    /// One value of `SHOW MIGRATION STATUS m`; empty where it is null.
    pub async fn status(&self, column: &str) -> String {
        let row = self.row("SHOW MIGRATION STATUS m").await;
        row.get(column).cloned().unwrap_or_default()
    }

    /// Waits until the migration is in a state, and fails at once when it has failed instead.
    pub async fn until_state(&self, wanted: &str, limit: Duration) {
        let what = format!("migration m is {wanted}");
        let ask = || self.row("SHOW MIGRATION STATUS m");
        let ended = |row: &Record| row.get("state").is_some_and(|state| state == wanted || state == "failed");
        let row = until(&what, limit, ask, ended).await;
        assert_eq!(row.get("state").map(String::as_str), Some(wanted), "{row:?}");
    }

    /// Creates the migration `m`, whose precheck must find no error, starts it, and waits until it follows and both sides
    /// are equal. What the precheck found is returned.
    pub async fn follow_without_errors(&self) -> Vec<Record> {
        self.headgate.admin("CREATE MIGRATION m FROM blue TO green FOR ROUTE shop").await;
        let checks = self.start_without_errors().await;
        self.check().await;
        checks
    }

    /// As [`World::follow_without_errors`], for a migration that is there, and without the comparison.
    pub async fn start_without_errors(&self) -> Vec<Record> {
        let checks = self.headgate.admin("PRECHECK MIGRATION m").await;
        let errors: Vec<_> = checks.iter().filter(|check| check["level"] == "error").collect();
        assert!(errors.is_empty(), "{errors:?}");
        self.headgate.admin("START MIGRATION m").await;
        self.until_state("following", MIGRATION).await;
        checks
    }

    /// Creates and starts the migration `m`, and waits until it follows.
    pub async fn follow(&self) {
        self.start_migration().await;
        self.until_state("following", MIGRATION).await;
    }

    /// Compares both sides; panics unless they are equal.
    pub async fn check(&self) {
        self.headgate.admin("CHECK MIGRATION m").await;
        let ask = || self.row("SHOW MIGRATION CHECK STATUS m");
        let ended = |row: &Record| row.get("result").is_some_and(|result| result != "running");
        let row = until("the check ends", MIGRATION, ask, ended).await;
        assert_eq!(row.get("result").map(String::as_str), Some("passed"), "{row:?}");
    }

    /// Cuts over; panics unless the route is on the target then.
    pub async fn cutover(&self) -> Record {
        self.cutover_with("").await
    }

    /// Compares both sides and goes back; panics unless the route is on the source again.
    pub async fn roll_back(&self) -> Record {
        self.check().await;
        let report = self.row("ROLLBACK MIGRATION m WITH (max_hold = '10s')").await;
        assert_eq!(report.get("outcome").map(String::as_str), Some("switched"), "{report:?}");
        report
    }

    /// As [`World::cutover`], where Headgate's accounts may not do what a way back takes.
    pub async fn cutover_without_way_back(&self) -> Record {
        self.cutover_with(", way_back = 'none'").await
    }

    async fn cutover_with(&self, options: &str) -> Record {
        let report = self.row(&format!("CUTOVER MIGRATION m WITH (max_hold = '10s'{options})")).await;
        assert_eq!(report.get("outcome").map(String::as_str), Some("switched"), "{report:?}");
        report
    }

    /// The accounts of which SHOW READINESS says that nobody has seen them log in on the target.
    pub async fn unproved(&self) -> BTreeSet<String> {
        let checks = self.headgate.admin("SHOW READINESS m").await;
        let names =
            findings(&checks, "accounts").into_iter().filter_map(|finding| finding["evidence"].split(':').next());
        names.map(str::to_owned).collect()
    }

    /// Waits until both servers answer a query alike, and returns the answer.
    pub async fn until_equal(&self, query: &str) -> Rows {
        let (source, _) = until(
            &format!("both sides answer alike to {query}"),
            SOON,
            || async { (self.source.sql(DATABASE, query).await, self.target.sql(DATABASE, query).await) },
            |(source, target)| source == target,
        )
        .await;
        source
    }
}

/// A copy that a test can meet on its way: the configuration of one.
pub const SLOWLY: &str = "[migrator]\ncopy_workers = 1\ncopy_chunk = \"1MiB\"\n";

/// A derived table `numbers` with the numbers from 1 to a million as `n`, which servers of every version can make.
pub fn million_numbers() -> String {
    numbers(6)
}

/// As [`million_numbers`], up to the power of ten with so many zeros.
pub fn numbers(zeros: u32) -> String {
    let digits: Vec<String> = (0..10).map(|digit| format!("SELECT {digit} AS d")).collect();
    let digits = digits.join(" UNION ALL ");
    let places: Vec<String> = (0..zeros).map(|place| format!("({digits}) AS d{place}")).collect();
    let sum: Vec<String> = (0..zeros).map(|place| format!("d{place}.d * {}", 10_u32.pow(place))).collect();
    format!("(SELECT 1 + {} AS n FROM {}) AS numbers", sum.join(" + "), places.join(" CROSS JOIN "))
}

/// The configuration of two clusters of PostgreSQL and the route between them, for everybody who is trusted by the servers.
pub fn clusters(source: u16, target: u16) -> String {
    format!(
        "[clusters.blue]\nhost = \"127.0.0.1\"\nport = {source}\nuser = \"postgres\"\n\
         [clusters.green]\nhost = \"127.0.0.1\"\nport = {target}\nuser = \"postgres\"\n\
         [routes.{DATABASE}]\ncluster = \"blue\"\n[login]\nmethod = \"trust\"\n"
    )
}

/// The configuration of one cluster, `blue`, and one route of the same name as its database.
pub fn route_to(port: u16, database: &str) -> String {
    format!(
        "[clusters.blue]\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"postgres\"\n\
         [routes.{database}]\ncluster = \"blue\"\n[login]\nmethod = \"trust\"\n"
    )
}

/// The configuration of two clusters of MySQL or MariaDB and the route between them.
pub fn mysql_clusters(source: u16, target: u16) -> String {
    format!(
        "[clusters.blue]\nengine = \"mysql\"\nhost = \"127.0.0.1\"\nport = {source}\nuser = \"root\"\n\
         [clusters.green]\nengine = \"mysql\"\nhost = \"127.0.0.1\"\nport = {target}\nuser = \"root\"\n\
         [routes.{DATABASE}]\ncluster = \"blue\"\n"
    )
}

/// The configuration of one cluster of MySQL or MariaDB, `blue`, and one route of the same name as its database.
pub fn mysql_route_to(port: u16, database: &str) -> String {
    format!(
        "[clusters.blue]\nengine = \"mysql\"\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"root\"\n\
         [routes.{database}]\ncluster = \"blue\"\n"
    )
}
