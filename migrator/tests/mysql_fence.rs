//! Fences real servers while writers go around Headgate: nothing is acknowledged behind the fence, and undo lets all go on.

mod servers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use migrator::database::{Comparison as _, Fencing as _, Preflight as _};
use migrator::follow::Follow;
use migrator::model::plan::{Plan, Settings};
use migrator::model::progress::Progress;
use migrator::mysql::clean;
use migrator::mysql::fence::{self, Fence};
use migrator::mysql::heartbeat;
use migrator::mysql::records;
use migrator::mysql::{BinlogPosition, Mysql, MysqlDatabase, follow, plan, position};
use migrator::preflight::{Check, Level};
use migrator::rights::Side;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use servers::mysql::{Kind, LEAST, Pair, Server};
use servers::whole;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);
const READ_ONLY: u16 = 1290;
const SCHEMA: &str = "CREATE DATABASE shop; USE shop;
    CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, writer INT NOT NULL, n BIGINT NOT NULL);
    CREATE EVENT tick ON SCHEDULE EVERY 1 HOUR DO INSERT INTO shop.t (writer, n) VALUES (99, 1);
    CREATE USER app@'127.0.0.1' IDENTIFIED BY 'app';
    GRANT ALL ON shop.* TO app@'127.0.0.1';
    CREATE USER app@localhost IDENTIFIED BY 'app';
    GRANT ALL ON shop.* TO app@localhost;
    SET GLOBAL event_scheduler = ON";

struct World {
    pair: Pair,
    mysql: MysqlDatabase,
    plan: Plan,
}

impl World {
    async fn new(kind: Kind) -> Self {
        Self::with(kind, &[]).await
    }

    async fn with(kind: Kind, settings: &[(&str, &str)]) -> Self {
        let pair = Pair::start_with((kind, settings), (Kind::Mysql97, &[]));
        pair.source.run("", SCHEMA).await;
        let mysql = pair.migration("m", Settings::default());
        let plan = plan::read(&mysql).await.expect("the plan can be read");
        let mut target = pair.target.connect("").await;
        records::install_records(&mut target).await.expect("there is room for records");
        Self { pair, mysql, plan }
    }

    fn source(&self) -> &Server {
        &self.pair.source
    }

    async fn raise(&self) -> migrator::database::Raised<Fence, BinlogPosition> {
        let ready = fence::warm_up(&self.mysql, &self.plan).await.expect("nothing is in the way");
        fence::raise(Some(ready), &self.mysql, &self.plan, "token", 2 * SECOND)
            .await
            .unwrap_or_else(|error| panic!("{}", error.full_text()))
    }

    async fn setting(&self, name: &str) -> String {
        let query = format!("SHOW GLOBAL VARIABLES LIKE '{name}'");
        let rows: Vec<(String, String)> = self.source().rows("", &query).await;
        rows.into_iter().next().expect("one row").1
    }

    async fn app(&self) -> Conn {
        self.source().connect_as("app", Some("app"), "shop").await
    }

    async fn assert_open(&self) {
        assert_eq!(self.setting("read_only").await, "OFF");
        assert_eq!(self.setting("event_scheduler").await, "ON");
        let wrote = self.app().await.query_drop("INSERT INTO t (writer, n) VALUES (50, 1)").await;
        wrote.expect("writers go on");
        assert!(!self.mysql.is_fenced());
    }
}

/// Nobody comes through a gate.
#[allow(clippy::unnecessary_wraps, reason = "as what asks the gate")]
fn nobody() -> Result<Vec<i64>, migrator::Error> {
    Ok(Vec::new())
}

/// Applications that write around Headgate as fast as they can.
struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    async fn start(world: &World, count: i32) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for writer in 0..count {
            let mut session = world.app().await;
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            tasks.push(tokio::spawn(async move {
                let mut n = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let insert = format!("INSERT INTO t (writer, n) VALUES ({writer}, {n})");
                    let done = if n.is_multiple_of(2) {
                        session.query_drop(format!("BEGIN; {insert}; COMMIT")).await
                    } else {
                        session.query_drop(insert).await
                    };
                    match done {
                        Ok(()) => drop(acknowledged.fetch_add(1, Ordering::SeqCst)),
                        Err(Error::Server(reported)) if reported.code == READ_ONLY => {
                            let _ = session.query_drop("ROLLBACK").await;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }));
        }
        Self { stop, acknowledged, tasks }
    }

    async fn until(&self, more: u64) {
        let goal = self.acknowledged.load(Ordering::SeqCst) + more;
        while self.acknowledged.load(Ordering::SeqCst) < goal {
            tokio::task::yield_now().await;
        }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a writer met only the fence");
        }
    }
}

async fn fences(kind: Kind) {
    let world = World::new(kind).await;
    let mut idle = world.app().await;
    idle.query_drop("BEGIN; INSERT INTO t (writer, n) VALUES (77, 1)").await.expect("it writes");
    let writers = Writers::start(&world, 8).await;
    writers.until(100).await;

    let raised = world.raise().await;
    assert_eq!(world.setting("read_only").await, "ON");
    assert_ne!(world.setting("event_scheduler").await, "ON");
    assert!(world.mysql.is_fenced());
    let rows: u64 = count(&world).await;
    let late = idle.query_drop("COMMIT").await;
    assert!(matches!(late, Err(Error::Server(reported)) if reported.code == READ_ONLY));
    idle.query_drop("ROLLBACK").await.expect("it goes back");
    let mut session = world.source().connect("").await;
    let now = position::current(&mut session).await.expect("it is told");
    assert_eq!(now, raised.marker, "something was written behind the marker");
    fence::seal(&world.mysql, raised.fence, &nobody).await.expect("nothing was written since");
    assert_eq!(count(&world).await, rows);
    let acknowledged = writers.acknowledged.load(Ordering::SeqCst);

    fence::lift(&world.mysql, &world.plan).await.expect("it is lifted");
    fence::lift(&world.mysql, &world.plan).await.expect("and once more");
    writers.until(100).await;
    assert!(rows >= acknowledged, "{acknowledged} were acknowledged and {rows} are there");
    writers.end().await;
    world.assert_open().await;
    clean::run(&world.mysql).await.expect("it is cleaned");
    clean::run(&world.mysql).await.expect("and once more");
    let left: Vec<(String,)> = world
        .source()
        .rows("", "SELECT schema_name FROM information_schema.schemata WHERE schema_name = 'headgate'")
        .await;
    assert!(left.is_empty());
}

/// What an account of a managed service may do: all but to set `read_only`.
fn mover(kind: Kind) -> String {
    let rights = match kind {
        Kind::Mariadb1011 => "BINLOG MONITOR, SLAVE MONITOR, CONNECTION ADMIN",
        Kind::Mysql56 | Kind::Mysql97 => "REPLICATION CLIENT, CONNECTION_ADMIN, XA_RECOVER_ADMIN",
    };
    ["127.0.0.1", "localhost"]
        .map(|host| {
            format!(
                "CREATE USER mover@'{host}' IDENTIFIED BY 'mover';
                 GRANT SELECT, LOCK TABLES, EVENT, CREATE, INSERT, UPDATE, DELETE, DROP, RELOAD, PROCESS, CREATE USER,
                     REPLICATION SLAVE, {rights} ON *.* TO mover@'{host}';"
            )
        })
        .concat()
}

/// Writes around Headgate until it is not let in any more. Tells how many writes were acknowledged.
async fn write_on(mut session: Conn, writer: i32, acknowledged: Arc<AtomicU64>) {
    for n in 1.. {
        let insert = format!("INSERT INTO t (writer, n) VALUES ({writer}, {n})");
        if session.query_drop(insert).await.is_err() {
            return;
        }
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
}

async fn fences_by_accounts(kind: Kind) {
    let mut world = World::new(kind).await;
    world.source().run("", &mover(kind)).await;
    let as_mover = |pair: &Pair| {
        let mut source = pair.source.endpoint("shop");
        "mover".clone_into(&mut source.user);
        source.password = Some("mover".into());
        MysqlDatabase::new(Mysql::new(
            "m",
            source,
            pair.target.endpoint("shop"),
            Settings::default(),
            Arc::new(migrator::accounts::NoSecrets),
        ))
    };
    world.mysql = as_mover(&world.pair);
    // While changes are followed, an event that is disabled is a changed definition: the scheduler is stopped instead.
    let refused = fence::warm_up(&world.mysql, &world.plan).await;
    let refused = refused.err().expect("nobody stops the event");
    assert!(refused.full_text().contains("`shop`.`tick`"), "{}", refused.full_text());
    let remedy = refused.remedy_text().expect("a remedy");
    let (_, stop) = remedy.split_once(": ").expect("a statement");
    assert_eq!(stop, "SET GLOBAL event_scheduler = OFF");
    world.source().run("", stop).await;
    let ready = fence::warm_up(&world.mysql, &world.plan).await;
    drop(ready.unwrap_or_else(|error| panic!("{}", error.full_text())));
    // Before the migration each event can be disabled by its owner.
    world.source().run("", "SET GLOBAL event_scheduler = ON").await;
    let checks = world.mysql.preflight().await.expect("the checks run");
    let event = one(&checks, "source_events", Level::Error, "`shop`.`tick`");
    world.source().run("", &event.fix).await;
    let checks = world.mysql.preflight().await.expect("the checks run");
    one(&checks, "source_events", Level::Ok, "no event");
    let ready = fence::warm_up(&world.mysql, &world.plan).await;
    drop(ready.unwrap_or_else(|error| panic!("{}", error.full_text())));
    // An account that its owner has locked stays so, whatever becomes of the fence.
    for host in ["127.0.0.1", "localhost"] {
        let shut = format!("CREATE USER shut@'{host}' IDENTIFIED BY 'shut' ACCOUNT LOCK");
        world.source().run("", &shut).await;
    }

    for sealed in [false, true] {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::new();
        for writer in 0..8 {
            let writing = write_on(world.app().await, writer, Arc::clone(&acknowledged));
            tasks.push(tokio::spawn(writing));
        }
        while acknowledged.load(Ordering::SeqCst) < 100 {
            tokio::task::yield_now().await;
        }
        let mut carried = world.app().await;
        let carried_id: Vec<i64> = carried.query("SELECT CONNECTION_ID()").await.expect("it is told");

        let raised = world.raise().await;
        assert_eq!(world.setting("read_only").await, "OFF");
        let (rows, then) = (count(&world).await, acknowledged.load(Ordering::SeqCst));
        carried.query_drop("SELECT COUNT(*) FROM t").await.expect("who reads goes on");
        if sealed {
            fence::seal(&world.mysql, raised.fence, &|| Ok(carried_id.clone()))
                .await
                .unwrap_or_else(|error| panic!("{}", error.full_text()));
            for task in tasks.drain(..) {
                task.await.expect("it ended");
            }
            let app = world.source().try_connect_as("app", Some("app"), "shop").await;
            assert!(app.is_err(), "a locked account came in");
            let there: Option<u64> = carried.query_first("SELECT COUNT(*) FROM t").await.expect("it is carried");
            assert_eq!(there, Some(rows));
        } else {
            // As after the death of a process.
            drop(raised);
        }
        if sealed {
            let all = acknowledged.load(Ordering::SeqCst);
            assert!(rows >= all && then <= all, "{all} were acknowledged and {rows} are there");
        }
        let fresh = as_mover(&world.pair);
        fence::lift(&fresh, &world.plan).await.expect("it is lifted");
        world.mysql.set_fenced(false);
        let mut app = world.app().await;
        app.query_drop("INSERT INTO t (writer, n) VALUES (50, 1)").await.expect("writers go on");
        carried.query_drop("INSERT INTO t (writer, n) VALUES (51, 1)").await.expect("and who was carried");
        let shut = world.source().try_connect_as("shut", Some("shut"), "");
        assert!(shut.await.is_err(), "the owner had locked it");
        for task in tasks {
            task.abort();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_read_only_is_not_permitted_accounts_are_the_fence_of_mysql() {
    fences_by_accounts(Kind::Mysql97).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_read_only_is_not_permitted_accounts_are_the_fence_of_mariadb() {
    fences_by_accounts(Kind::Mariadb1011).await;
}

async fn count(world: &World) -> u64 {
    let rows: Vec<(u64,)> = world.source().rows("shop", "SELECT COUNT(*) FROM t").await;
    rows[0].0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_acknowledged_behind_the_fence_of_mysql_97() {
    fences(Kind::Mysql97).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_acknowledged_behind_the_fence_of_mysql_56() {
    fences(Kind::Mysql56).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_acknowledged_behind_the_fence_of_mariadb() {
    fences(Kind::Mariadb1011).await;
}

#[tokio::test]
async fn a_fence_of_a_process_that_is_gone_is_lifted_by_the_next_one() {
    for kind in [Kind::Mysql97, Kind::Mariadb1011] {
        let world = World::new(kind).await;
        for sealed in [false, true] {
            let raised = world.raise().await;
            if sealed {
                fence::seal(&world.mysql, raised.fence, &nobody).await.expect("it is sealed");
            } else {
                drop(raised);
            }
            assert_eq!(world.setting("read_only").await, "ON");
            let fresh = world.pair.migration("m", Settings::default());
            fence::lift(&fresh, &world.plan).await.expect("it is lifted");
            world.mysql.set_fenced(false);
            world.assert_open().await;
        }
        let raised = world.raise().await;
        fence::drop_fence(&world.mysql, raised.fence).await.expect("it is dropped");
        world.assert_open().await;
    }
}

#[tokio::test]
async fn a_sealed_fence_of_mysql_outlives_a_restart_and_a_lifted_one_does_not_come_back() {
    let mut world = World::new(Kind::Mysql97).await;
    let raised = world.raise().await;
    fence::seal(&world.mysql, raised.fence, &nobody).await.expect("it is sealed");
    world.pair.source.restart();
    assert_eq!(world.setting("read_only").await, "ON");
    fence::lift(&world.mysql, &world.plan).await.expect("it is lifted");
    world.pair.source.restart();
    assert_eq!(world.setting("read_only").await, "OFF");
}

#[tokio::test]
async fn a_write_of_an_account_that_passes_the_fence_keeps_it_from_being_sealed() {
    for kind in [Kind::Mysql97, Kind::Mysql56, Kind::Mariadb1011] {
        let world = World::new(kind).await;
        let raised = world.raise().await;
        world.source().run("shop", "INSERT INTO t (writer, n) VALUES (1, 1)").await;
        let refused = fence::seal(&world.mysql, raised.fence, &nobody).await.expect_err("root wrote");
        assert!(refused.full_text().contains("behind the fence"), "{}", refused.full_text());
        fence::lift(&world.mysql, &world.plan).await.expect("it is lifted");
        world.assert_open().await;
    }
}

#[tokio::test]
async fn somebody_who_opens_the_source_again_keeps_the_fence_from_being_sealed() {
    let world = World::new(Kind::Mariadb1011).await;
    let raised = world.raise().await;
    world.source().run("", "SET GLOBAL read_only = OFF").await;
    let refused = fence::seal(&world.mysql, raised.fence, &nobody).await.expect_err("it is open");
    assert!(refused.full_text().contains("writable again"), "{}", refused.full_text());
}

#[tokio::test]
async fn a_fence_that_would_wait_too_long_gives_up_names_who_and_leaves_all_as_it_was() {
    for kind in [Kind::Mysql97, Kind::Mysql56, Kind::Mariadb1011] {
        let world = World::new(kind).await;
        let ready = fence::warm_up(&world.mysql, &world.plan).await.expect("nothing is in the way");
        let mut slow = world.app().await;
        let id = slow.id();
        let running = tokio::spawn(async move {
            let done = slow.query_drop("INSERT INTO t (writer, n) SELECT 1, SLEEP(30)").await;
            (slow, done)
        });
        let begun =
            format!("SELECT id FROM information_schema.processlist WHERE id = {id} AND info LIKE 'INSERT%SLEEP%'");
        while world.source().rows::<(u64,)>("", &begun).await.is_empty() {}
        let at = Instant::now();
        let limit = Duration::from_millis(300);
        let raised = fence::raise(Some(ready), &world.mysql, &world.plan, "token", limit).await;
        let refused = raised.err().expect("a statement writes");
        assert!(at.elapsed() < 2 * SECOND, "{kind:?} took {:?}", at.elapsed());
        assert!(
            refused.full_text().contains(&format!("session {id} of user app")),
            "{kind:?}: {}",
            refused.full_text()
        );
        fence::lift(&world.mysql, &world.plan).await.expect("it is lifted");
        world.assert_open().await;
        world.source().run("", &format!("KILL {id}")).await;
        running.await.expect("no panic").1.expect_err("it was ended");
    }
}

#[tokio::test]
async fn what_would_make_the_fence_fail_is_refused_before_anything_is_held() {
    for kind in [Kind::Mysql97, Kind::Mysql56, Kind::Mariadb1011] {
        let world = World::new(kind).await;
        let refused = async |what: &str| {
            let error = fence::warm_up(&world.mysql, &world.plan).await.err().expect(what);
            let text = error.full_text();
            assert!(text.contains(what), "{kind:?}: {text}");
            error.remedy_text().expect("a remedy").to_owned()
        };
        let mut holder = world.source().connect("shop").await;
        holder
            .query_drop("XA START 'x'; INSERT INTO t (writer, n) VALUES (1, 1); XA END 'x'; XA PREPARE 'x'")
            .await
            .expect("it is prepared");
        let remedy = refused("prepared transactions").await;
        assert!(remedy.starts_with("XA RECOVER lists them"), "{remedy}");
        let listed: Vec<mysql_async::Row> = world.source().rows("", "XA RECOVER").await;
        assert_eq!(listed.len(), 1);
        holder.query_drop("XA ROLLBACK 'x'").await.expect("it goes back");
        world.source().run("", "SET GLOBAL read_only = ON").await;
        let remedy = refused("read only already").await;
        assert!(remedy.contains("SET GLOBAL read_only = OFF"), "{remedy}");
        world.source().run("", "SET GLOBAL read_only = OFF").await;
        world.source().run("shop", "CREATE TABLE fresh (id INT PRIMARY KEY)").await;
        let _ = refused("table shop.fresh is new").await;
        world.source().run("shop", "DROP TABLE fresh").await;
        let ready = fence::warm_up(&world.mysql, &world.plan).await;
        assert!(ready.is_ok(), "what is gone is no obstacle");
    }
}

/// What an account is given ahead, and whether the way without `read_only` is gone where both are printed.
const POOR: [(&str, bool); 4] = [("", false), ("", true), ("SYSTEM_VARIABLES_ADMIN", false), ("CREATE USER", true)];
const OR: &str = "; or, where a service gives nobody these, ";

/// An account with next to no right is led to a fence by the statements that are printed, one refusal after the other.
#[tokio::test]
async fn an_account_without_the_rights_is_told_statements_that_let_it_put_up_the_fence() {
    for kind in [Kind::Mysql97, Kind::Mysql56, Kind::Mariadb1011] {
        let mut world = World::new(kind).await;
        world.source().run("shop", "ALTER EVENT tick DISABLE").await;
        for (number, (given, by_accounts)) in POOR.into_iter().enumerate() {
            let exists = match kind {
                Kind::Mysql97 => true,
                Kind::Mysql56 => given.is_empty() && !by_accounts,
                Kind::Mariadb1011 => !given.contains('_'),
            };
            if !exists {
                continue;
            }
            let user = format!("poor{number}");
            for host in ["127.0.0.1", "localhost"] {
                let account = format!("{user}@'{host}'");
                let grants = ["headgate.*", "shop.*"].map(|to| format!("GRANT ALL ON {to} TO {account}"));
                let create = format!("CREATE USER {account} IDENTIFIED BY '{user}'; {}", grants.join("; "));
                world.source().run("", &create).await;
                if !given.is_empty() {
                    let grant = format!("GRANT {given} ON *.* TO {account}");
                    world.source().run("", &grant).await;
                }
            }
            world.mysql = as_account(&world, &user);
            let mut done: Vec<String> = Vec::new();
            while let Err(error) = fence::warm_up(&world.mysql, &world.plan).await {
                let text = error.full_text();
                let remedy = error.remedy_text().unwrap_or_default().to_owned();
                let grants = match remedy.split_once(OR) {
                    Some((_, others)) if by_accounts => others,
                    Some((first, _)) => first,
                    None => &remedy,
                };
                assert!(!done.iter().any(|one| one == grants), "{kind:?}: {text} after {done:#?}");
                for grant in grants.split("; ") {
                    assert!(grant.starts_with("GRANT "), "{kind:?}: {text}: {remedy}");
                    world.source().run("", grant).await;
                }
                done.push(grants.to_owned());
            }
            let all = done.join("; ");
            let fence = if by_accounts { "CONNECTION" } else { "PROCESS" };
            assert!(all.contains(fence), "{kind:?}: {all}");
            assert_eq!(all.contains("GRANT EVENT "), by_accounts, "{kind:?}: {all}");
            assert_eq!(all.contains("GRANT SELECT ON `mysql`.* "), by_accounts, "{kind:?}: {all}");
        }
    }
}

#[tokio::test]
async fn what_the_server_does_not_tell_of_accounts_and_sessions_is_told_by_the_grant_that_is_printed() {
    for kind in [Kind::Mysql97, Kind::Mysql56, Kind::Mariadb1011] {
        let mut world = World::new(kind).await;
        for host in ["127.0.0.1", "localhost"] {
            let blind = format!("blind@'{host}'");
            let create = format!("CREATE USER {blind} IDENTIFIED BY 'blind'; GRANT ALL ON shop.* TO {blind}");
            world.source().run("", &create).await;
        }
        world.mysql = as_account(&world, "blind");
        let mut done: Vec<String> = Vec::new();
        loop {
            let grants = match world.mysql.writers(&nobody).await {
                Err(error) => error.remedy_text().expect("a remedy").to_owned(),
                Ok(checks) => {
                    let mut unknown = checks.into_iter().filter(|check| check.evidence.contains("cannot be known"));
                    // Only newer servers tell of the settings of others.
                    let unknown = unknown.find(|check| check.level == Level::Error);
                    let Some(check) = unknown else { break };
                    if check.fix.is_empty() { check.remedy } else { check.fix }
                }
            };
            assert!(!done.contains(&grants), "{kind:?}: {grants} after {done:#?}");
            world.source().run("", &grants).await;
            done.push(grants);
        }
        let all = done.join("; ");
        assert!(all.contains("GRANT SELECT ON `mysql`.* TO"), "{kind:?}: {all}");
        assert!(all.contains("GRANT PROCESS ON *.* TO"), "{kind:?}: {all}");
    }
}

#[tokio::test]
async fn an_account_that_may_not_set_read_only_is_told_the_grants_and_the_warning_goes() {
    for kind in [Kind::Mysql97, Kind::Mariadb1011] {
        let mut world = World::new(kind).await;
        world.source().run("", &mover(kind)).await;
        world.mysql = as_account(&world, "mover");
        let checks = world.mysql.preflight().await.expect("the checks run");
        let fence = one(&checks, "source_fence", Level::Warning, "may not set read_only");
        world.source().run("", &fence.fix).await;
        let checks = world.mysql.preflight().await.expect("the checks run");
        assert_eq!(of(&checks, "source_fence"), Vec::<&Check>::new());
    }
}

/// Accounts that one migration has locked must not be let in by another one: that one waits for FINISH MIGRATION.
#[tokio::test]
async fn a_source_that_another_migration_has_fenced_by_accounts_is_fenced_again_once_that_is_finished() {
    for kind in [Kind::Mysql97, Kind::Mariadb1011] {
        let mut world = World::new(kind).await;
        world.source().run("", &mover(kind)).await;
        world.source().run("shop", "ALTER EVENT tick DISABLE").await;
        world.mysql = as_account(&world, "mover");
        let raised = world.raise().await;
        fence::seal(&world.mysql, raised.fence, &nobody).await.unwrap_or_else(|error| panic!("{}", error.full_text()));
        let mut source = world.source().endpoint("shop");
        "mover".clone_into(&mut source.user);
        source.password = Some("mover".into());
        let secrets = Arc::new(migrator::accounts::NoSecrets);
        let other = MysqlDatabase::new(Mysql::new(
            "n",
            source,
            world.pair.target.endpoint("shop"),
            Settings::default(),
            secrets,
        ));
        let refused = fence::warm_up(&other, &world.plan).await.err().expect("it is fenced");
        assert!(refused.full_text().contains("migration m has fenced"), "{}", refused.full_text());
        let remedy = refused.remedy_text().expect("a remedy");
        assert!(remedy.ends_with("FINISH MIGRATION m"), "{remedy}");
        // What the statement does on the servers.
        clean::run(&world.mysql).await.expect("it is cleaned");
        let ready = fence::warm_up(&other, &world.plan).await;
        drop(ready.unwrap_or_else(|error| panic!("{}", error.full_text())));
    }
}

#[tokio::test]
async fn cleaning_up_keeps_other_migrations_and_a_sealed_fence() {
    let world = World::new(Kind::Mysql97).await;
    let mut session = world.source().connect("").await;
    heartbeat::install(&mut session).await.expect("it is there");
    for name in ["m", "other"] {
        heartbeat::signal(&mut session, name, heartbeat::Signal::Beat, "1").await.expect("it is written");
    }
    let raised = world.raise().await;
    fence::seal(&world.mysql, raised.fence, &nobody).await.expect("it is sealed");
    clean::run(&world.mysql).await.expect("it is cleaned");
    assert_eq!(world.setting("read_only").await, "ON");
    let left: Vec<(String,)> = world.source().rows("headgate", "SELECT DISTINCT migration FROM signals").await;
    assert_eq!(left, [("other".to_owned(),)]);
}

#[tokio::test]
async fn events_are_enabled_once_after_the_switch_and_then_left_to_their_owner() {
    let world = World::new(Kind::Mysql97).await;
    world.pair.mend(&world.mysql).await;
    let target = &world.pair.target;
    target.run("", "CREATE DATABASE shop; CREATE EVENT shop.tick ON SCHEDULE EVERY 1 HOUR DISABLE DO DO 0").await;
    let status = async || {
        let query = "SELECT status FROM information_schema.events WHERE event_name = 'tick'";
        target.rows::<(String,)>("", query).await.remove(0).0
    };
    world.mysql.after_switch(&world.plan).await.expect("it is done");
    assert_eq!(status().await, "ENABLED");
    target.run("shop", "ALTER EVENT tick DISABLE").await;
    world.mysql.after_switch(&world.plan).await.expect("it was done");
    assert_eq!(status().await, "DISABLED");
}

/// Tells how long the fence takes; run with `--run-ignored only --no-capture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn how_long_raising_and_sealing_takes_under_eight_writers() {
    for kind in [Kind::Mysql97, Kind::Mysql56, Kind::Mariadb1011] {
        let world = World::new(kind).await;
        let writers = Writers::start(&world, 8).await;
        let (mut raises, mut seals) = (Vec::new(), Vec::new());
        for _ in 0..60 {
            writers.until(40).await;
            let ready = fence::warm_up(&world.mysql, &world.plan).await.expect("nothing is in the way");
            let begun = Instant::now();
            let raised = fence::raise(Some(ready), &world.mysql, &world.plan, "token", 2 * SECOND)
                .await
                .unwrap_or_else(|error| panic!("{}", error.full_text()));
            raises.push(begun.elapsed());
            let begun = Instant::now();
            fence::seal(&world.mysql, raised.fence, &nobody).await.expect("it is sealed");
            seals.push(begun.elapsed());
            fence::lift(&world.mysql, &world.plan).await.expect("it is lifted");
        }
        writers.end().await;
        raises.sort();
        seals.sort();
        println!(
            "{kind:?}: raise p50 {:?} max {:?}; seal p50 {:?} max {:?}",
            raises[30], raises[59], seals[30], seals[59]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_beats_of_another_migration_from_the_same_server_do_not_undo_a_cutover() {
    let world = World::new(Kind::Mysql97).await;
    let other = world.pair.migration("other", Settings::default());
    let mut source = other.connect_source("test").await.expect("a session");
    let mut target = other.connect_target("test").await.expect("a session");
    heartbeat::install(&mut source).await.expect("installed");
    let begin = position::current(&mut source).await.expect("a position");
    records::begin_progress(&other, &mut target, &begin).await.expect("recorded");
    let (follow, stop) = (Follow::default(), CancellationToken::new());
    let task = tokio::spawn({
        let (other, follow, stop) = (other.clone(), follow.clone(), stop.clone());
        async move {
            let progress = Arc::new(Progress::default());
            follow::run(&other, &Plan::default(), follow, progress, stop).await
        }
    });
    let beaten = heartbeat::signal(&mut source, "other", heartbeat::Signal::Marker, "begun").await;
    beaten.expect("written");
    follow.wait_marker("begun", 30 * SECOND).await.expect("the other migration follows");
    let raised = world.raise().await;
    // Several beats are due until then.
    assert!(follow.wait_marker("never written", 4 * SECOND).await.is_err());
    fence::seal(&world.mysql, raised.fence, &nobody).await.unwrap_or_else(|error| panic!("{}", error.full_text()));
    assert!(!task.is_finished(), "the other migration goes on");
    fence::lift(&world.mysql, &world.plan).await.expect("lifted");
    heartbeat::signal(&mut source, "other", heartbeat::Signal::Marker, "ended").await.expect("written");
    follow.wait_marker("ended", 30 * SECOND).await.expect("the other migration still follows");
    stop.cancel();
    task.await.expect("no panic").expect("it ended well");
}

async fn named_under_the_fence(world: &World, part: &str) {
    let mysql = &world.mysql;
    let raised = mysql
        .raise_fence(&world.plan, "token", 2 * SECOND)
        .await
        .unwrap_or_else(|error| panic!("{}", error.full_text()));
    let mut fence = raised.fence;
    let found = mysql.confirm_fence(&world.plan, &mut fence).await;
    match found {
        Ok(()) => assert!(part.is_empty(), "nobody named {part}"),
        Err(error) => {
            let text = error.full_text();
            assert!(!part.is_empty() && text.contains(part), "{part:?}: {text}");
        }
    }
    mysql.drop_fence(fence, 1).await.expect("it is dropped");
}

#[tokio::test]
async fn an_open_write_that_passes_the_fence_is_named_under_the_barrier_and_no_other() {
    for kind in [Kind::Mysql97, Kind::Mysql56, Kind::Mariadb1011] {
        let world = World::new(kind).await;
        let same = "CREATE DATABASE shop; CREATE TABLE shop.t (id BIGINT AUTO_INCREMENT PRIMARY KEY, writer INT NOT NULL, n BIGINT NOT NULL)";
        let rights = match kind {
            Kind::Mysql97 => {
                "CREATE ROLE bosses; GRANT CONNECTION_ADMIN ON *.* TO bosses; GRANT bosses TO boss@'127.0.0.1', boss@localhost;
                 SET DEFAULT ROLE bosses TO boss@'127.0.0.1', boss@localhost"
            }
            Kind::Mysql56 => "GRANT SUPER ON *.* TO boss@'127.0.0.1', boss@localhost",
            Kind::Mariadb1011 => {
                "CREATE ROLE bosses; CREATE ROLE most; GRANT READ_ONLY ADMIN ON *.* TO bosses; GRANT bosses TO most;
                 GRANT most TO boss@'127.0.0.1'; GRANT most TO boss@localhost;
                 SET DEFAULT ROLE most FOR boss@'127.0.0.1'; SET DEFAULT ROLE most FOR boss@localhost"
            }
        };
        world
            .source()
            .run(
                "",
                &format!(
                    "CREATE USER boss@'127.0.0.1', boss@localhost; GRANT ALL ON shop.* TO boss@'127.0.0.1', boss@localhost; {rights}"
                ),
            )
            .await;
        // While the databases are free the precheck says which of these rights Headgate's account may not pass on.
        world.pair.mend(&world.mysql).await;
        world.pair.target.run("", same).await;
        let warm = async || world.mysql.warm_up(&world.plan, None).await.expect("warm");
        let mut app = world.app().await;
        let write = "BEGIN; INSERT INTO t (writer, n) VALUES (7, 7)";
        app.query_drop(write).await.expect("it writes");
        warm().await;
        named_under_the_fence(&world, "").await;
        let mut boss = world.source().connect_as("boss", None, "shop").await;
        boss.query_drop(write).await.expect("it writes");
        let checks = world.mysql.writers(&nobody).await.expect("it can look");
        for (user, level) in [("boss", Level::Error), ("app", Level::Warning)] {
            let named = |check: &&Check| check.level == level && check.evidence.contains(user);
            assert!(checks.iter().any(|check| named(&check)), "{kind:?}: {checks:?}");
        }
        warm().await;
        named_under_the_fence(&world, "user boss from").await;
        boss.query_drop("COMMIT").await.expect("it passes");
        warm().await;
        named_under_the_fence(&world, "").await;
        // The migrator's account is root's.
        let mut root = world.source().connect("shop").await;
        root.query_drop(write).await.expect("it writes");
        warm().await;
        named_under_the_fence(&world, "user root from").await;
    }
}

#[tokio::test]
async fn what_changed_since_the_proof_or_the_warm_up_is_named_before_anything_is_lost() {
    for kind in [Kind::Mysql97, Kind::Mysql56, Kind::Mariadb1011] {
        let world = World::new(kind).await;
        world.pair.mend(&world.mysql).await;
        let same = "CREATE DATABASE shop; CREATE TABLE shop.t (id BIGINT AUTO_INCREMENT PRIMARY KEY, writer INT NOT NULL, n BIGINT NOT NULL)";
        world.pair.target.run("", same).await;
        let source = world.source();
        source
            .run("shop", "CREATE VIEW v AS SELECT id FROM t; CREATE PROCEDURE p() SELECT 1; CREATE USER other@'%'")
            .await;
        for (change, name) in [
            ("ALTER VIEW v AS SELECT id + 1 AS id FROM t", "view `shop`.`v` was changed on the source"),
            (
                "DROP PROCEDURE p; CREATE PROCEDURE p() COMMENT 'a long comment' SELECT 2",
                "routine `shop`.`p` was changed",
            ),
            ("ALTER TABLE t ALTER n SET DEFAULT 5", "column `shop`.`t`.`n` was changed"),
            ("CREATE INDEX late ON t (n)", "index `shop`.`t`.`late` is new"),
            ("CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET @a = 1", "trigger `shop`.`g` is new"),
            ("GRANT SELECT ON shop.* TO other@'%'", "grants of `other`@`%` is new"),
            ("REVOKE SELECT ON shop.* FROM other@'%'", "grants of `other`@`%` is gone"),
            ("SET PASSWORD FOR other@'%' = PASSWORD('x')", "account `other`@`%` was changed"),
            ("ALTER DATABASE shop CHARACTER SET utf8", "database `shop` was changed"),
            ("DROP VIEW v", "view `shop`.`v` is gone"),
        ] {
            let change = if kind == Kind::Mysql97 { change.replace("PASSWORD('x')", "'x'") } else { change.to_owned() };
            let proved = world.mysql.definitions(&world.plan).await.expect("read").fingerprint;
            let stamp = world.mysql.definitions_stamp().await.expect("read");
            assert_eq!(stamp, world.mysql.definitions_stamp().await.expect("read"));
            world.mysql.warm_up(&world.plan, Some(&proved)).await.expect("all is as it was");
            source.run("shop", &change).await;
            named_under_the_fence(&world, name).await;
            let refused = world.mysql.warm_up(&world.plan, Some(&proved)).await;
            let text = refused.expect_err("it differs from the proof").full_text();
            assert!(text.contains(name), "{kind:?}: {change}: {text}");
            assert_ne!(stamp, world.mysql.definitions_stamp().await.expect("read"));
        }
    }
}

/// Neither a proof nor a cutover goes on with an account that may do less than on the source, and none is left on the target.
#[tokio::test]
async fn an_account_that_comes_late_comes_with_all_that_it_may_do_or_what_lacks_is_told() {
    for kind in [Kind::Mysql97, Kind::Mariadb1011] {
        let pair = Pair::start(kind, kind);
        pair.source.run("", SCHEMA).await;
        let same = "CREATE DATABASE shop; CREATE TABLE shop.t (id BIGINT AUTO_INCREMENT PRIMARY KEY, writer INT NOT NULL, n BIGINT NOT NULL)";
        pair.target.run("", same).await;
        pair.target.grant(Side::Target, LEAST, &[]).await;
        let secrets = Arc::new(migrator::accounts::NoSecrets);
        let ends = (pair.source.endpoint("shop"), pair.target.least("shop"));
        let mysql = MysqlDatabase::new(Mysql::new("m", ends.0, ends.1, Settings::default(), secrets));
        let plan = plan::read(&mysql).await.expect("the plan can be read");
        let mut session = mysql.connect_target("test").await.expect("a session");
        records::install_records(&mut session).await.expect("there is room for records");
        let proved = mysql.definitions(&plan).await.expect("read").fingerprint;
        let here = "SELECT COUNT(*) FROM mysql.user WHERE User = 'app'";
        let (follow, stop) = (Follow::default(), CancellationToken::new());
        let checked = mysql.check(&plan, follow, Arc::default(), stop).await;
        let warm = mysql.warm_up(&plan, Some(&proved)).await;
        for refused in [checked.map(drop), warm] {
            let error = refused.expect_err("an account would have less");
            let text = error.full_text();
            let all = "GRANT ALL PRIVILEGES ON `shop`.* TO `app`@`127.0.0.1`";
            assert!(text.contains(all), "{kind:?}: {text}");
            assert_eq!(
                error.fix_text(),
                Some("GRANT ALL PRIVILEGES ON `shop`.* TO 'headgate'@'%' WITH GRANT OPTION"),
                "{kind:?}"
            );
            assert_eq!(pair.target.rows::<u64>("", here).await, [0], "{kind:?}");
        }
        let error = mysql.warm_up(&plan, Some(&proved)).await;
        let error = error.expect_err("nobody mended it");
        pair.target.run("", error.fix_text().expect("a statement")).await;
        mysql.warm_up(&plan, Some(&proved)).await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        let grants = "SHOW GRANTS FOR app@'127.0.0.1'";
        let mut both = Vec::new();
        for server in [&pair.source, &pair.target] {
            both.push(server.rows::<String>("", grants).await);
        }
        assert_eq!(both[0], both[1], "{kind:?}");
    }
}

fn of<'a>(checks: &'a [Check], name: &str) -> Vec<&'a Check> {
    checks.iter().filter(|check| check.name == name).collect()
}

/// Exactly one finding of this name, at this level, that says this.
fn one<'a>(checks: &'a [Check], name: &str, level: Level, part: &str) -> &'a Check {
    let found = of(checks, name);
    let fits = |check: &&&Check| check.level == level && check.evidence.contains(part);
    let fitting: Vec<_> = found.iter().filter(fits).collect();
    assert_eq!(fitting.len(), 1, "{level:?} {name} {part:?}: {found:#?}");
    fitting[0]
}

/// The migration as an account that may do less than root.
fn as_account(world: &World, user: &str) -> MysqlDatabase {
    let mut source = world.source().endpoint("shop");
    user.clone_into(&mut source.user);
    source.password = Some(user.into());
    let secrets = Arc::new(migrator::accounts::NoSecrets);
    MysqlDatabase::new(Mysql::new("m", source, world.pair.target.endpoint("shop"), Settings::default(), secrets))
}

#[tokio::test]
async fn a_write_that_begins_right_before_the_seal_is_seen_however_often_somebody_else_looks() {
    for kind in [Kind::Mysql97, Kind::Mysql56, Kind::Mariadb1011] {
        let world = World::new(kind).await;
        let mut watcher = world.source().connect("").await;
        let mut root = world.source().connect("shop").await;
        let raised = world.raise().await;
        // What the table shows is kept for a tenth of a second after each look.
        watcher.query_drop("SELECT * FROM information_schema.innodb_trx").await.expect("it looks");
        root.query_drop("BEGIN; INSERT INTO t (writer, n) VALUES (7, 7)").await.expect("it passes");
        let sealed = fence::seal(&world.mysql, raised.fence, &nobody).await;
        let text = sealed.expect_err("a write is open").full_text();
        assert!(text.contains("user root from"), "{kind:?}: {text}");
        root.query_drop("ROLLBACK").await.expect("it goes back");
        fence::lift(&world.mysql, &world.plan).await.expect("lifted");
    }
}

#[tokio::test]
async fn each_way_past_read_only_is_named_and_its_remedy_closes_it() {
    for kind in [Kind::Mysql97, Kind::Mysql56, Kind::Mariadb1011] {
        let world = World::new(kind).await;
        let checks = async || world.mysql.preflight().await.expect("the checks run");
        one(&checks().await, "fence_accounts", Level::Ok, "no account");
        one(&checks().await, "fence_procedures", Level::Ok, "no procedure");
        let (make, ways) = match kind {
            Kind::Mysql97 => (
                "CREATE ROLE bosses; GRANT CONNECTION_ADMIN ON *.* TO bosses; CREATE USER a@localhost, b@localhost, c@localhost;
                 GRANT bosses TO a@localhost; GRANT SUPER, CONNECTION_ADMIN ON *.* TO b@localhost;
                 GRANT PROXY ON b@localhost TO c@localhost",
                vec!["'a'@'localhost'", "'b'@'localhost'", "'c'@'localhost'"],
            ),
            Kind::Mysql56 => (
                "CREATE USER b@localhost, c@localhost; GRANT SUPER ON *.* TO b@localhost;
                 GRANT PROXY ON b@localhost TO c@localhost",
                vec!["'b'@'localhost'", "'c'@'localhost'"],
            ),
            Kind::Mariadb1011 => (
                "CREATE ROLE bosses; GRANT READ_ONLY ADMIN ON *.* TO bosses; CREATE USER a@localhost, b@localhost, c@localhost;
                 GRANT bosses TO a@localhost; GRANT READ_ONLY ADMIN ON *.* TO b@localhost;
                 GRANT PROXY ON b@localhost TO c@localhost",
                vec!["'a'@'localhost'", "'b'@'localhost'", "'c'@'localhost'"],
            ),
        };
        world.source().run("", make).await;
        for way in ways {
            let fix = one(&checks().await, "fence_accounts", Level::Warning, way).fix.clone();
            world.source().run("", &fix).await;
            let after = checks().await;
            let named = |check: &&Check| check.evidence.contains(way);
            assert!(!of(&after, "fence_accounts").iter().any(named), "{kind:?}: {fix}");
            // The proxy passes as long as the other does, and the other was mended first.
            if kind == Kind::Mysql56 || way.contains("'b'") {
                break;
            }
        }
        world.source().run("", "REVOKE ALL PRIVILEGES, GRANT OPTION FROM b@localhost").await;
        one(&checks().await, "fence_accounts", Level::Ok, "no account");

        // Whoever may call it writes to a server that is read only.
        world.source().run("shop", "CREATE PROCEDURE p() INSERT INTO t (writer, n) VALUES (8, 8)").await;
        world.source().run("", "SET GLOBAL read_only = ON").await;
        let called = world.app().await.query_drop("CALL p()").await;
        called.expect("it passes");
        world.source().run("", "SET GLOBAL read_only = OFF").await;
        let fix = one(&checks().await, "fence_procedures", Level::Warning, "`shop`.`p`").fix.clone();
        world.source().run("", &fix).await;
        one(&checks().await, "fence_procedures", Level::Ok, "no procedure");
        world.source().run("", "SET GLOBAL read_only = ON").await;
        let called = world.app().await.query_drop("CALL p()").await;
        assert!(matches!(called, Err(Error::Server(reported)) if reported.code == READ_ONLY), "{kind:?}");
        world.source().run("", "SET GLOBAL read_only = OFF").await;
    }
}

#[tokio::test]
async fn a_right_that_everybody_has_is_named_once_and_its_remedy_takes_it_back() {
    for kind in [Kind::Mysql97, Kind::Mariadb1011] {
        let world = World::new(kind).await;
        let make = match kind {
            Kind::Mysql97 => {
                "CREATE ROLE bosses; GRANT CONNECTION_ADMIN ON *.* TO bosses; SET GLOBAL mandatory_roles = 'bosses'"
            }
            _ => "GRANT READ_ONLY ADMIN ON *.* TO PUBLIC",
        };
        world.source().run("", make).await;
        let checks = world.mysql.preflight().await.expect("the checks run");
        let fix = one(&checks, "fence_accounts", Level::Warning, "every account").fix.clone();
        let mut app = world.app().await;
        app.query_drop("BEGIN; INSERT INTO t (writer, n) VALUES (7, 7)").await.expect("it writes");
        let checks = world.mysql.writers(&nobody).await.expect("it can look");
        one(&checks, "writers", Level::Error, "user app from");
        world.source().run("", &fix).await;
        let checks = world.mysql.writers(&nobody).await.expect("it can look");
        one(&checks, "writers", Level::Warning, "user app from");
        let checks = world.mysql.preflight().await.expect("the checks run");
        one(&checks, "fence_accounts", Level::Ok, "no account");
    }
}

#[tokio::test]
async fn an_account_that_cannot_be_locked_is_an_error_is_refused_and_its_remedy_ends_that() {
    let mut world = World::new(Kind::Mysql97).await;
    world.source().run("", &mover(Kind::Mysql97)).await;
    world.source().run("shop", "ALTER EVENT tick DISABLE").await;
    world.mysql = as_account(&world, "mover");
    let preflight = async || world.mysql.preflight().await.expect("the checks run");
    one(&preflight().await, "fence_accounts", Level::Ok, "no account");
    world
        .source()
        .run(
            "",
            "CREATE ROLE above; GRANT SYSTEM_USER ON *.* TO above; CREATE USER a@localhost, b@localhost;
             GRANT above TO a@localhost; GRANT SYSTEM_USER ON *.* TO b@localhost",
        )
        .await;
    for account in ["'a'@'localhost'", "'b'@'localhost'"] {
        let checks = preflight().await;
        let finding = one(&checks, "fence_accounts", Level::Error, account);
        let refused = fence::warm_up(&world.mysql, &world.plan).await;
        let text = refused.err().expect("it could write on").full_text();
        assert!(text.contains("can neither lock these"), "{text}");
        world.source().run("", &finding.fix).await;
        let named = |check: &&Check| check.evidence.contains(account);
        assert!(!of(&preflight().await, "fence_accounts").iter().any(named));
    }
    one(&preflight().await, "fence_accounts", Level::Ok, "no account");

    // The administrator is no application, and yet nobody may be connected whom the fence does not stop.
    let root = world.source().connect("shop").await;
    let checks = world.mysql.writers(&nobody).await.expect("it can look");
    let session = format!("session {} of user root", root.id());
    one(&checks, "fence_sessions", Level::Error, &session);
    let raised = world.raise().await;
    let sealed = fence::seal(&world.mysql, raised.fence, &nobody).await;
    let text = sealed.expect_err("somebody passes").full_text();
    assert!(text.contains(&session), "{text}");
    fence::lift(&world.mysql, &world.plan).await.expect("lifted");
    let mut app = world.app().await;
    app.query_drop("INSERT INTO t (writer, n) VALUES (1, 1)").await.expect("nobody was locked");
    root.disconnect().await.expect("it leaves");
    let raised = world.raise().await;
    fence::seal(&world.mysql, raised.fence, &nobody).await.expect("nobody is left who passes");
    fence::lift(&world.mysql, &world.plan).await.expect("lifted");
}

#[tokio::test]
async fn what_may_not_be_seen_of_writers_cannot_be_known_and_the_grant_that_is_named_shows_it() {
    let mut world = World::new(Kind::Mysql97).await;
    let rights = "PROCESS, REPLICATION CLIENT, SYSTEM_VARIABLES_ADMIN, CONNECTION_ADMIN";
    for host in ["127.0.0.1", "localhost"] {
        let create = format!(
            "CREATE USER blind@'{host}' IDENTIFIED BY 'blind'; GRANT {rights} ON *.* TO blind@'{host}';
             GRANT SELECT ON mysql.* TO blind@'{host}'"
        );
        world.source().run("", &create).await;
    }
    world.mysql = as_account(&world, "blind");
    let mut boss = world.source().connect("shop").await;
    boss.query_drop("BEGIN; INSERT INTO t (writer, n) VALUES (7, 7)").await.expect("it writes");
    let refused = world.mysql.writers(&nobody).await.expect_err("it may not look");
    assert!(refused.full_text().contains("cannot be known"), "{}", refused.full_text());
    let grant = refused.remedy_text().expect("a remedy").to_owned();
    world.source().run("", &grant).await;
    let checks = world.mysql.writers(&nobody).await.expect("it may look");
    one(&checks, "writers", Level::Error, "user root from");
    one(&checks, "unlogged_writes", Level::Ok, "no session");

    let finding = one(&checks, "xa_transactions", Level::Error, "cannot be known");
    world.source().run("", &finding.remedy).await;
    let checks = world.mysql.writers(&nobody).await.expect("it may look");
    one(&checks, "xa_transactions", Level::Ok, "no transaction");
}

#[tokio::test]
async fn prepared_transactions_are_counted_and_named_before_a_cutover() {
    for kind in [Kind::Mysql97, Kind::Mysql56, Kind::Mariadb1011] {
        let world = World::new(kind).await;
        let mut holders = Vec::new();
        for name in ["one", "an'other"] {
            let mut app = world.app().await;
            let name = name.replace('\'', "''");
            let prepare = format!(
                "XA START '{name}'; INSERT INTO t (writer, n) VALUES (1, 1); XA END '{name}'; XA PREPARE '{name}'"
            );
            app.query_drop(prepare).await.expect("it is prepared");
            // Older servers roll it back when its session ends.
            holders.push(app);
        }
        let checks = world.mysql.writers(&nobody).await.expect("it can look");
        one(&checks, "xa_transactions", Level::Error, "one of 2 prepared transactions (XA): 'one'");
        one(&checks, "xa_transactions", Level::Error, "'an\\'other'");
    }
}

#[tokio::test]
async fn a_session_that_hides_its_changes_from_the_log_is_seen_or_said_to_be_unknowable() {
    for kind in [Kind::Mysql97, Kind::Mysql56, Kind::Mariadb1011] {
        let world = World::new(kind).await;
        let mut root = world.source().connect("shop").await;
        root.query_drop("SET SESSION sql_log_bin = 0; INSERT INTO t (writer, n) VALUES (7, 7)")
            .await
            .expect("it hides");
        let checks = world.mysql.writers(&nobody).await.expect("it can look");
        let warmed = fence::warm_up(&world.mysql, &world.plan).await;
        if kind != Kind::Mysql97 {
            let finding = one(&checks, "unlogged_writes", Level::Warning, "cannot be known");
            assert!(finding.evidence.contains("`root`@`127.0.0.1`"), "{finding:?}");
            assert!(!finding.evidence.contains("`app`"), "{finding:?}");
            continue;
        }
        let session = format!("session {} of user root has sql_log_bin = OFF", root.id());
        let fix = one(&checks, "unlogged_writes", Level::Error, &session).fix.clone();
        let text = warmed.err().expect("it is refused").full_text();
        assert!(text.contains(&session), "{text}");
        world.source().run("", &fix).await;
        root.query_drop("DO 0").await.expect_err("it was ended");
        let checks = world.mysql.writers(&nobody).await.expect("it can look");
        one(&checks, "unlogged_writes", Level::Ok, "no session");
    }
}

/// Somebody who goes around Headgate to a server that may not even let him in.
async fn direct_write(world: &World) -> Result<(), Error> {
    let server = world.source();
    let mut app = server.try_connect_as("app", Some("app"), "shop").await?;
    app.query_drop("INSERT INTO t (writer, n) VALUES (60, 1)").await
}

async fn outlives_a_restart(kind: Kind, without_defaults: bool, locks: bool) {
    let mut world = World::with(kind, &[("event-scheduler", "ON")]).await;
    if without_defaults {
        world.pair.source.without_defaults = true;
        world.pair.source.restart();
    }
    if kind != Kind::Mysql56 {
        for host in ["127.0.0.1", "localhost"] {
            let shut = format!("CREATE USER shut@'{host}' IDENTIFIED BY 'shut' ACCOUNT LOCK");
            world.source().run("", &shut).await;
        }
    }
    world.pair.mend(&world.mysql).await;
    let checks = world.mysql.preflight().await.expect("the checks run");
    let level = if kind == Kind::Mysql56 { Level::Warning } else { Level::Ok };
    one(&checks, "source_refusal", level, "over a restart");

    let raised = world.raise().await;
    fence::seal(&world.mysql, raised.fence, &nobody).await.expect("it is sealed");
    let again = fence::uphold(&world.mysql).await.expect("it is completed");
    assert_eq!(again, kind != Kind::Mysql97 || without_defaults, "{kind:?}");
    let state = fence::state(&world.mysql).await.expect("it is told");
    if locks {
        one(&state, "refusal", Level::Ok, "2 of its accounts are locked");
    }
    world.pair.source.restart();
    if kind == Kind::Mysql56 {
        // Nobody but Headgate can do anything about it.
        let state = fence::state(&world.mysql).await.expect("it is told");
        one(&state, "refusal", Level::Error, "accepts writes");
    } else {
        direct_write(&world).await.expect_err("it is still refused");
        let reported = if kind == Kind::Mysql97 && !without_defaults { "OFF" } else { "ON" };
        assert_eq!(world.setting("event_scheduler").await, reported, "{kind:?}");
    }
    // As a new process does.
    let fresh = world.pair.migration("m", Settings::default());
    fence::uphold(&fresh).await.expect("it is raised again");
    fence::uphold(&fresh).await.expect("and once more");
    assert_eq!(world.setting("read_only").await, "ON");
    assert_ne!(world.setting("event_scheduler").await, "ON");
    direct_write(&world).await.expect_err("it is refused");

    for _ in 0..2 {
        fence::lift(&fresh, &world.plan).await.expect("it is lifted");
        world.mysql.set_fenced(false);
        world.assert_open().await;
        direct_write(&world).await.expect("nobody is left out");
        let shut = world.source().try_connect_as("shut", Some("shut"), "").await;
        assert!(shut.is_err(), "the owner had locked it");
        world.pair.source.restart();
    }
    assert!(!fence::uphold(&fresh).await.expect("there is none any more"));
    world.assert_open().await;
}

#[tokio::test]
async fn the_refusal_of_mysql_97_outlives_a_restart_and_goes_with_the_fence() {
    outlives_a_restart(Kind::Mysql97, false, false).await;
}

#[tokio::test]
async fn the_refusal_of_mysql_97_that_reads_no_settings_outlives_a_restart_and_goes_with_the_fence() {
    outlives_a_restart(Kind::Mysql97, true, true).await;
}

#[tokio::test]
async fn the_refusal_of_mariadb_outlives_a_restart_and_goes_with_the_fence() {
    outlives_a_restart(Kind::Mariadb1011, false, true).await;
}

#[tokio::test]
async fn the_refusal_of_mysql_56_is_raised_again_after_a_restart_and_goes_with_the_fence() {
    outlives_a_restart(Kind::Mysql56, false, false).await;
}

#[tokio::test]
async fn a_fence_whose_completion_broke_off_is_taken_back_by_the_next_process() {
    let world = World::new(Kind::Mariadb1011).await;
    let raised = world.raise().await;
    fence::seal(&world.mysql, raised.fence, &nobody).await.expect("it is sealed");
    fence::uphold(&world.mysql).await.expect("it is completed");
    // Written down and not locked yet, and the other way round.
    world.source().run("", "ALTER USER app@localhost ACCOUNT UNLOCK").await;
    let fresh = world.pair.migration("m", Settings::default());
    fence::lift(&fresh, &world.plan).await.expect("it is lifted");
    world.mysql.set_fenced(false);
    direct_write(&world).await.expect("nobody is left out");
    world.assert_open().await;
}

#[tokio::test]
async fn an_account_that_may_not_lock_others_is_told_what_a_restart_will_do() {
    let mut world = World::new(Kind::Mariadb1011).await;
    for host in ["127.0.0.1", "localhost"] {
        let create = format!(
            "CREATE USER mover@'{host}' IDENTIFIED BY 'mover'; GRANT SUPER, READ_ONLY ADMIN, PROCESS, SELECT ON *.* TO mover@'{host}'"
        );
        world.source().run("", &create).await;
    }
    world.mysql = as_account(&world, "mover");
    let checks = world.mysql.preflight().await.expect("the checks run");
    let fix = one(&checks, "source_refusal", Level::Warning, "may not lock").fix.clone();
    world.source().run("", &fix).await;
    let checks = world.mysql.preflight().await.expect("the checks run");
    one(&checks, "source_refusal", Level::Ok, "over a restart");
}

#[tokio::test]
async fn whoever_was_overtaken_by_a_later_cutover_neither_seals_nor_lifts() {
    for kind in [Kind::Mysql56, Kind::Mysql97, Kind::Mariadb1011] {
        let world = World::new(kind).await;
        let later = "SET sql_log_bin = 0; INSERT INTO headgate.switches (switch_of, route, source, target, epoch, journal, switched, sealed,
                moved, event_scheduler) VALUES ('m', 'shop', 'blue', 'green', 9, 'j', 1, '', '[\"shop\"]', 'OFF')";
        whole::superseded(&world.mysql, "m", async || world.source().run("", later).await).await;
        world.assert_open().await;
    }
}
