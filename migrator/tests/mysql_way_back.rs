//! Goes from one real server to another and back, and there again: what the new side takes comes back, and nothing else.

mod servers;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use migrator::accounts::Verdict;
use migrator::database::{
    ChangeStream as _, Comparison as _, Counters as _, Fencing as _, NextLeg as _, Preflight as _, SchemaAndLoad as _,
};
use migrator::error::Error;
use migrator::follow::Follow;
use migrator::model::leg::Leg;
use migrator::model::mark::{Mark, Stage};
use migrator::model::plan::{Plan, Settings};
use migrator::model::progress::Progress;
use migrator::mysql::heartbeat;
use migrator::mysql::heartbeat::Signal;
use migrator::mysql::{BinlogPosition, Mysql, MysqlDatabase};
use migrator::preflight::Level;
use mysql_async::prelude::Queryable;
use servers::mysql::{Kind, Pair, Server};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TIMEOUT: Duration = Duration::from_mins(1);
const HOLD: Duration = Duration::from_secs(5);

const SCHEMA: &str = "CREATE DATABASE shop; USE shop;
    CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, n INT NOT NULL, note VARCHAR(40), body LONGBLOB);
    CREATE TABLE audit (id BIGINT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(80) NOT NULL);
    CREATE TABLE ticks (id BIGINT AUTO_INCREMENT PRIMARY KEY);
    CREATE TABLE hot (id INT PRIMARY KEY, n INT NOT NULL); INSERT INTO hot VALUES (1, 0);
    INSERT INTO t (n, note) VALUES (1, 'one'), (2, 'two'), (3, 'three')";

/// Each is created under modes and in a character set of its own. Where a table may have several, their order counts.
const TRIGGERS: [(&str, &str); 3] = [
    (
        "SET NAMES latin1; SET SESSION sql_mode = 'ANSI_QUOTES'",
        "CREATE TRIGGER named BEFORE INSERT ON t FOR EACH ROW SET NEW.\"note\" = CONCAT(COALESCE(NEW.\"note\", ''), 'n')",
    ),
    (
        "SET NAMES utf8; SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES'",
        "CREATE TRIGGER told AFTER INSERT ON t FOR EACH ROW INSERT INTO audit (what) VALUES (CONCAT('new \\ ', NEW.id, ' ü'))",
    ),
    (
        "SET NAMES utf8; SET SESSION sql_mode = ''",
        "CREATE TRIGGER gone AFTER DELETE ON t FOR EACH ROW INSERT INTO audit (what) VALUES (CONCAT('gone ', OLD.id))",
    ),
];
const MORE: &str =
    "CREATE TRIGGER earlier AFTER INSERT ON t FOR EACH ROW PRECEDES told INSERT INTO audit (what) VALUES ('earlier')";

struct World {
    pair: Pair,
    leg: MysqlDatabase,
    plan: Plan,
}

struct Running {
    follow: Follow<BinlogPosition>,
    progress: Arc<Progress>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// Row changes that it applied.
    fn applied(&self) -> u64 {
        self.progress.tables().values().map(|table| table.changes_applied).sum()
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("it ends").unwrap_or_else(|error| panic!("{}", error.full_text()));
    }
}

#[allow(clippy::needless_pass_by_value, reason = "`unwrap_or_else` hands it over")]
fn unexpected<T>(error: Error) -> T {
    panic!("{error}")
}

/// Nobody comes through a gate.
#[allow(clippy::unnecessary_wraps, reason = "as what asks the gate")]
fn nobody() -> Result<Vec<i64>, Error> {
    Ok(Vec::new())
}

impl World {
    async fn new(kind: Kind) -> Self {
        Self::with(Pair::of(kind)).await
    }

    async fn with(pair: Pair) -> Self {
        pair.source.run("", SCHEMA).await;
        for (under, create) in TRIGGERS {
            let mut session = pair.source.connect("shop").await;
            session.query_drop(under).await.expect("it is set");
            if pair.source.kind == Kind::Mysql56 {
                // The other side does not know it.
                let more = "SET SESSION sql_mode = CONCAT(@@SESSION.sql_mode, ',NO_AUTO_CREATE_USER')";
                session.query_drop(more).await.expect("it is set");
            }
            session.query_drop(create).await.unwrap_or_else(|error| panic!("{error}; in {create}"));
        }
        if pair.source.kind != Kind::Mysql56 {
            pair.source.run("shop", MORE).await;
        }
        let accounts = "CREATE EVENT tick ON SCHEDULE EVERY 1 HOUR STARTS '2020-01-01 00:30:00' DO INSERT INTO shop.ticks () VALUES ();
            CREATE EVENT never ON SCHEDULE EVERY 1 HOUR DISABLE DO INSERT INTO shop.ticks () VALUES ();
            CREATE USER app@'127.0.0.1' IDENTIFIED BY 'app'; GRANT ALL ON shop.* TO app@'127.0.0.1';
            CREATE USER app@localhost IDENTIFIED BY 'app'; GRANT ALL ON shop.* TO app@localhost;
            SET GLOBAL event_scheduler = ON";
        pair.source.run("shop", accounts).await;
        let leg = pair.migration("m", Settings::default());
        pair.mend(&leg).await;
        let plan = leg.plan().await.expect("a plan");
        leg.prepare(&plan).await.unwrap_or_else(|error| panic!("{error}"));
        let copied = leg.copy(&plan, Arc::default(), CancellationToken::new()).await;
        copied.unwrap_or_else(unexpected);
        if (pair.source.kind, pair.target.kind) == (Kind::Mysql56, Kind::Mysql97) {
            // Its old password is none there.
            let accounts = "CREATE USER app@'127.0.0.1' IDENTIFIED BY 'app'; GRANT ALL ON shop.* TO app@'127.0.0.1';
                CREATE USER app@localhost IDENTIFIED BY 'app'; GRANT ALL ON shop.* TO app@localhost";
            pair.target.run("", accounts).await;
        }
        Self { pair, leg, plan }
    }

    fn blue(&self) -> &Server {
        &self.pair.source
    }

    fn green(&self) -> &Server {
        &self.pair.target
    }

    fn follow(&self) -> Running {
        let (follow, stop, progress) = (Follow::default(), CancellationToken::new(), Arc::new(Progress::default()));
        let (leg, plan) = (self.leg.clone(), self.plan.clone());
        let given = (follow.clone(), Arc::clone(&progress), stop.clone());
        let task = tokio::spawn(async move { leg.follow(&plan, given.0, given.1, given.2).await });
        Running { follow, progress, stop, task }
    }

    /// Waits until everything that was written is applied.
    async fn arrive(&self, running: &mut Running) {
        let token = format!("{:x}", rand::random::<u64>());
        let mut source = self.leg.connect_source("test").await.expect("a session");
        heartbeat::signal(&mut source, &self.leg.key(), Signal::Marker, &token).await.expect("written");
        tokio::select! {
            arrived = running.follow.wait_marker(&token, TIMEOUT) => arrived.expect("the marker arrives"),
            ended = &mut running.task => panic!("the follower ended before the marker: {ended:?}"),
        }
    }

    fn next(&self) -> MysqlDatabase {
        self.leg.for_leg(self.leg.leg().next())
    }

    fn mark(&self) -> Mark {
        Mark {
            migration: "m".into(),
            route: "shop".into(),
            source: "a".into(),
            target: "b".into(),
            epoch: u64::from(self.leg.leg().number()),
            journal: "j".into(),
            sealed: String::new(),
            stage: Stage::Sealed,
        }
    }

    /// All of a cutover up to its decision; `early` is done on the target the moment after the next leg is pinned. Tells
    /// the last number that the side which serves has given out, whose row is gone.
    async fn decide(&self, running: &Running, next: &MysqlDatabase, early: impl AsyncFnOnce(&Server)) -> u64 {
        let (leg, plan) = (&self.leg, &self.plan);
        let of_next = next.plan().await.unwrap_or_else(unexpected);
        let serves = if leg.leg().is_way_back() { self.green() } else { self.blue() };
        let before: Vec<u64> = serves.rows("shop", "SELECT n FROM hot").await;
        let (mut session, armed) = (serves.connect("shop").await, CancellationToken::new());
        let writing = {
            let armed = armed.clone();
            tokio::spawn(async move {
                let mut count = 0;
                while !armed.is_cancelled() {
                    session.query_drop("UPDATE hot SET n = n + 1").await.expect("it serves");
                    count += 1;
                }
                count
            })
        };
        let arming = next.arm(&of_next, "armed").await;
        armed.cancel();
        let written: u64 = writing.await.expect("it ends");
        arming.unwrap_or_else(unexpected);
        let after: Vec<u64> = serves.rows("shop", "SELECT n FROM hot").await;
        assert_eq!(after, [before[0] + written], "what this leg has brought came back while the next one was armed");
        // What this leg carries from now on is behind the place where the next one was armed.
        write(serves, "INSERT INTO t (n) VALUES (40)").await.expect("it serves");
        let mut session = serves.connect("shop").await;
        session
            .query_drop("BEGIN; INSERT INTO t (n) VALUES (41); SET @given = LAST_INSERT_ID()")
            .await
            .expect("it serves");
        session.query_drop("DELETE FROM t WHERE id = @given; COMMIT").await.expect("it serves");
        let given: Option<u64> = session.query_first("SELECT @given").await.expect("it serves");
        leg.warm_up(plan, None).await.unwrap_or_else(unexpected);
        let mut raised = leg.raise_fence(plan, "decided", HOLD).await.unwrap_or_else(unexpected);
        running.follow.wait_marker("decided", HOLD).await.unwrap_or_else(unexpected);
        running.follow.wait_covers(&raised.marker, HOLD).await.unwrap_or_else(unexpected);
        leg.advance_counters(plan).await.unwrap_or_else(unexpected);
        let begins = next.stream_end().await.unwrap_or_else(unexpected);
        leg.confirm_fence(plan, &mut raised.fence).await.unwrap_or_else(unexpected);
        early(if leg.leg().is_way_back() { self.blue() } else { self.green() }).await;
        leg.seal_fence(raised.fence, &self.mark(), Some(&begins), &nobody).await.unwrap_or_else(unexpected);
        given.expect("a number")
    }

    /// What comes after the decision. From now on the next leg is this one.
    async fn complete(&mut self, running: Running, next: MysqlDatabase) {
        self.leg.open_target(&self.plan, self.mark().epoch).await.unwrap_or_else(unexpected);
        running.end().await;
        self.leg.after_switch(&self.plan).await.unwrap_or_else(unexpected);
        self.leg.confirm_mark(self.mark().epoch).await.unwrap_or_else(unexpected);
        self.leg.retire().await.unwrap_or_else(unexpected);
        self.plan = next.plan().await.unwrap_or_else(unexpected);
        self.leg = next;
    }

    /// The check of this leg's direction finds both sides equal, and nothing is in the way of its cutover.
    async fn assert_proved(&self, running: &Running) {
        let checked =
            self.leg.check(&self.plan, running.follow.clone(), Arc::default(), CancellationToken::new()).await;
        let unequal: Vec<_> =
            checked.unwrap_or_else(unexpected).proofs.into_iter().filter(|proof| !proof.equal()).collect();
        let is_old = self.blue().kind == Kind::Mysql56;
        assert!(is_old || unequal.is_empty(), "{unequal:?}");
        let checks = self.leg.writers(&nobody).await.unwrap_or_else(unexpected);
        let errors: Vec<_> = checks.iter().filter(|check| check.level == Level::Error).collect();
        assert!(errors.is_empty(), "{errors:?}");
        let accounts = self.leg.accounts().await.unwrap_or_else(unexpected);
        let app = accounts.iter().filter(|account| account.name.contains("app"));
        for account in app {
            assert!(is_old || matches!(account.verdict, Verdict::Proved(_)), "{account:?}");
        }
    }

    async fn assert_equal(&self) {
        for table in ["t", "audit", "ticks", "hot"] {
            let query = format!("SELECT * FROM shop.{table} ORDER BY id");
            let (blue, green) = (rows(self.blue(), &query).await, rows(self.green(), &query).await);
            assert_eq!(blue, green, "{table}");
        }
    }
}

async fn rows(server: &Server, query: &str) -> Vec<String> {
    let mut session = server.connect("").await;
    let rows: Vec<mysql_async::Row> = session.query(query).await.unwrap_or_else(|error| panic!("{error}; in {query}"));
    rows.into_iter().map(|row| format!("{:?}", row.unwrap())).collect()
}

async fn setting(server: &Server, name: &str) -> String {
    let rows: Vec<(String, String)> = server.rows("", &format!("SHOW GLOBAL VARIABLES LIKE '{name}'")).await;
    rows.into_iter().next().expect("one row").1
}

/// Every trigger as its server shows it, but for when it was created, in the order in which they fire.
async fn triggers(server: &Server) -> Vec<Vec<String>> {
    let names: Vec<(String,)> = server
        .rows(
            "",
            "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'shop'
             ORDER BY EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER, TRIGGER_NAME",
        )
        .await;
    let mut shown = Vec::new();
    for (name,) in names {
        let all = rows(server, &format!("SHOW CREATE TRIGGER shop.{name}")).await;
        shown.extend(all);
    }
    // Name, modes, statement, character set and two collations; then the moment.
    let but_the_moment = |row: String| row.split(", Bytes(").take(6).map(str::to_owned).collect();
    shown.into_iter().map(but_the_moment).collect()
}

/// An application that goes to the server itself.
async fn write(server: &Server, statement: &str) -> Result<(), mysql_async::Error> {
    let mut session = server.try_connect_as("app", Some("app"), "shop").await?;
    session.query_drop(statement).await
}

async fn goes_there_and_back(kind: Kind) {
    let mut world = World::new(kind).await;
    let there_before = triggers(world.blue()).await;
    assert_eq!(there_before.len(), if kind == Kind::Mysql56 { 3 } else { 4 });
    let mut running = world.follow();
    write(world.blue(), "INSERT INTO t (n, note) VALUES (4, 'four'); DELETE FROM t WHERE n = 2")
        .await
        .expect("blue serves");
    world.arrive(&mut running).await;
    world.assert_equal().await;

    // There.
    let next = world.next();
    let early = async |green: &Server| write(green, "INSERT INTO t (n) VALUES (50)").await.expect("the first write");
    world.decide(&running, &next, early).await;
    world.complete(running, next).await;
    assert_eq!(world.leg.leg(), Leg::FIRST.next());
    let mut running = world.follow();
    world.arrive(&mut running).await;
    // The first write fires both sides' audit on green alone: two or three rows of it, and nothing that blue wrote itself.
    let early = if kind == Kind::Mysql56 { 2 } else { 3 };
    assert_eq!(running.applied(), early, "what the forward leg wrote came back");
    world.assert_equal().await;
    assert!(triggers(world.blue()).await.is_empty(), "blue's triggers would fire");
    assert_ne!(setting(world.blue(), "event_scheduler").await, "ON");
    write(world.blue(), "INSERT INTO t (n) VALUES (60)").await.expect_err("blue refuses");
    write(
        world.green(),
        "INSERT INTO t (n, note) VALUES (51, 'ü€'); UPDATE t SET n = n + 100 WHERE n = 3; DELETE FROM t WHERE n = 1",
    )
    .await
    .expect("green serves");
    // The row does not come back, and its number may not be given out again.
    let given = "BEGIN; INSERT INTO t (id, n) VALUES (5000, 52); DELETE FROM t WHERE id = 5000; COMMIT";
    write(world.green(), given).await.expect("green serves");
    world.arrive(&mut running).await;
    world.assert_equal().await;
    let kept = world.leg.kept().await.expect("it is told");
    assert!(kept.bytes < 1 << 20, "{kept:?}");
    world.assert_proved(&running).await;

    // A rehearsal or a cutover that comes to nothing leaves blue refusing, and its triggers out of the way.
    let next = world.next();
    world.decide(&running, &next, async |_: &Server| {}).await;
    assert_eq!(triggers(world.blue()).await, there_before);
    world.leg.lift_fence(&world.plan, world.mark().epoch).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(triggers(world.blue()).await.is_empty(), "blue's triggers would fire");
    write(world.blue(), "INSERT INTO t (n) VALUES (61)").await.expect_err("blue refuses");
    write(world.green(), "INSERT INTO t (n) VALUES (53)").await.expect("green serves");
    world.arrive(&mut running).await;
    world.assert_equal().await;

    // And back.
    let next = world.next();
    let last = world.decide(&running, &next, async |_: &Server| {}).await;
    write(world.green(), "INSERT INTO t (n) VALUES (62)").await.expect_err("green refuses");
    write(world.blue(), "INSERT INTO t (n) VALUES (63)").await.expect_err("blue still refuses");
    world.complete(running, next).await;
    write(world.green(), "INSERT INTO t (n) VALUES (64)").await.expect_err("green refuses");
    assert_eq!(triggers(world.blue()).await, there_before);
    assert_eq!(setting(world.blue(), "event_scheduler").await, "ON");
    let events: Vec<(String, String)> =
        world.blue().rows("", "SELECT EVENT_NAME, STATUS FROM information_schema.EVENTS ORDER BY 1").await;
    assert_eq!(events, [("never".into(), "DISABLED".into()), ("tick".into(), "ENABLED".into())]);
    let marks: u64 = count(world.blue(), "headgate.switches").await;
    assert_eq!((marks, count(world.green(), "headgate.switches").await), (0, 1));
    let greens = triggers(world.green()).await;
    let mut running = world.follow();
    world.arrive(&mut running).await;
    assert_eq!(running.applied(), 0, "what the way back wrote went there again");
    write(world.blue(), "INSERT INTO t (n) VALUES (70)").await.expect("blue serves again");
    let given: Vec<(u64,)> = world.blue().rows("shop", "SELECT id FROM t WHERE n = 70").await;
    assert!(last > 5000 && given[0].0 > last, "{} was given out on the other side", given[0].0);
    world.arrive(&mut running).await;
    world.assert_equal().await;
    world.assert_proved(&running).await;

    // And there again.
    let next = world.next();
    world.decide(&running, &next, async |_: &Server| {}).await;
    world.complete(running, next).await;
    assert_eq!(triggers(world.green()).await, greens);
    write(world.blue(), "INSERT INTO t (n) VALUES (80)").await.expect_err("blue refuses");
    write(world.green(), "INSERT INTO t (n) VALUES (81)").await.expect("green serves");
    let mut running = world.follow();
    world.arrive(&mut running).await;
    world.assert_equal().await;
    running.end().await;

    // Nothing stays but the refusal and its mark.
    for number in [4, 3, 2, 1] {
        world.leg.for_leg(Leg::new(number)).clean_up().await.unwrap_or_else(|error| panic!("{error}"));
    }
    assert_eq!(triggers(world.blue()).await, there_before);
    let left = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'headgate' ORDER BY 1";
    assert_eq!(rows(world.green(), left).await, Vec::<String>::new());
    let left: Vec<(String,)> = world.blue().rows("", left).await;
    let left: Vec<&str> = left.iter().map(|(name,)| name.as_str()).collect();
    assert_eq!(left, ["fence_durable", "switches"]);
    write(world.blue(), "INSERT INTO t (n) VALUES (82)").await.expect_err("blue refuses");
    world.leg.for_leg(Leg::FIRST).clear_mark().await.unwrap_or_else(|error| panic!("{error}"));
    write(world.blue(), "INSERT INTO t (n) VALUES (83)").await.expect("blue is let go");
}

async fn count(server: &Server, table: &str) -> u64 {
    let rows: Vec<(u64,)> = server.rows("", &format!("SELECT COUNT(*) FROM {table}")).await;
    rows[0].0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_97_goes_there_and_back_and_there_again_and_nothing_is_lost_or_echoed() {
    goes_there_and_back(Kind::Mysql97).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_56_goes_there_and_back_and_there_again_and_nothing_is_lost_or_echoed() {
    goes_there_and_back(Kind::Mysql56).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_goes_there_and_back_and_there_again_and_nothing_is_lost_or_echoed() {
    goes_there_and_back(Kind::Mariadb1011).await;
}

/// Runs until it was woken so many times, then lets it go. True where it came to its end before.
async fn within(wakes: usize, work: impl Future<Output = Result<(), Error>>) -> bool {
    let mut work = pin!(work);
    let mut left = wakes;
    std::future::poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(outcome) => {
            outcome.unwrap_or_else(|error| panic!("{error}"));
            Poll::Ready(true)
        }
        Poll::Pending if left == 0 => Poll::Ready(false),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

#[tokio::test]
async fn whoever_dies_while_a_way_back_is_armed_or_its_target_opened_leaves_what_the_next_one_completes() {
    for kind in [Kind::Mysql97, Kind::Mariadb1011] {
        let mut world = World::new(kind).await;
        let there_before = triggers(world.blue()).await;
        let mut running = world.follow();
        // What the leg before applies meanwhile is its own.
        let writing = CancellationToken::new();
        let mut app = world.blue().connect_as("app", Some("app"), "shop").await;
        let stopped = writing.clone();
        let writer = tokio::spawn(async move {
            while !stopped.is_cancelled() {
                app.query_drop("INSERT INTO t (n) VALUES (7); UPDATE t SET n = n + 1 WHERE id = 1")
                    .await
                    .expect("blue serves");
            }
        });
        let mut steps = 0;
        while !within(steps, world.next().arm(&world.plan, &format!("armed {steps}"))).await {
            steps += 7;
        }
        assert!(steps > 100, "{steps}");
        writing.cancel();
        writer.await.expect("it ends");
        world.arrive(&mut running).await;
        world.assert_equal().await;
        let next = world.next();
        world.decide(&running, &next, async |_: &Server| {}).await;
        // Armed again, it would begin behind what is written from now on.
        let refused = next.arm(&world.plan, "again").await.expect_err("it has begun");
        assert!(refused.full_text().contains("has begun"), "{refused}");
        world.complete(running, next).await;

        // As of a process that died while the triggers were set aside.
        let mut steps = 0;
        let stop = CancellationToken::new();
        stop.cancel();
        while !within(
            steps,
            world.leg.for_leg(world.leg.leg()).follow(&world.plan, Follow::default(), Arc::default(), stop.clone()),
        )
        .await
        {
            steps += 5;
        }
        assert!(steps > 20, "{steps}");
        let mut running = world.follow();
        write(world.green(), "INSERT INTO t (n) VALUES (50)").await.expect("green serves");
        world.arrive(&mut running).await;
        world.assert_equal().await;
        let next = world.next();
        world.decide(&running, &next, async |_: &Server| {}).await;
        let mut steps = 0;
        // Nothing was prepared, and somebody has dropped what was put back.
        world.blue().run("shop", "DROP TRIGGER told").await;
        while !within(steps, world.leg.for_leg(world.leg.leg()).open_target(&world.plan, world.mark().epoch)).await {
            steps += 1;
        }
        assert!(steps > 10, "{steps}");
        world.complete(running, next).await;
        assert_eq!(triggers(world.blue()).await, there_before);
        write(world.blue(), "INSERT INTO t (n) VALUES (51)").await.expect("blue serves");
    }
}

#[tokio::test]
async fn a_row_that_the_old_version_does_not_take_stops_the_way_back_by_name_until_the_remedy_is_run() {
    let settings: &[(&str, &str)] = &[("innodb-log-file-size", "128M"), ("max-allowed-packet", "2M")];
    let mut world = World::with(Pair::start_with((Kind::Mysql56, settings), (Kind::Mysql97, &[]))).await;
    let running = world.follow();
    let next = world.next();
    world.decide(&running, &next, async |_: &Server| {}).await;
    world.complete(running, next).await;
    write(world.green(), "INSERT INTO t (n, body) VALUES (50, REPEAT('x', 3 << 20))").await.expect("green takes it");
    let running = world.follow();
    let stopped = tokio::time::timeout(TIMEOUT, running.task).await.expect("in time").expect("it ends");
    let stopped = stopped.expect_err("blue does not take it");
    assert!(stopped.full_text().contains("shop.t"), "{stopped}");
    assert!(stopped.remedy_text().is_some_and(|remedy| !remedy.contains("DROP")), "{stopped}");
    write(world.green(), "INSERT INTO t (n) VALUES (51)").await.expect("green is not disturbed");
    world.blue().run("", stopped.fix_text().expect("a statement")).await;
    let mut running = world.follow();
    world.arrive(&mut running).await;
    world.assert_equal().await;
}

#[tokio::test]
async fn a_definition_that_changes_on_the_new_side_stops_the_way_back_and_those_of_the_switch_do_not() {
    for (statement, named) in [
        ("ALTER TABLE t ADD COLUMN more INT", "ALTER TABLE"),
        ("DROP TRIGGER gone", "DROP TRIGGER"),
        ("ALTER EVENT tick DISABLE", "ALTER EVENT"),
    ] {
        let mut world = World::new(Kind::Mysql97).await;
        let running = world.follow();
        let next = world.next();
        world.decide(&running, &next, async |_: &Server| {}).await;
        world.complete(running, next).await;
        world.green().run("shop", "CREATE TABLE IF NOT EXISTS t (a INT)").await;
        let mut running = world.follow();
        world.arrive(&mut running).await;
        world.green().run("shop", statement).await;
        let stopped = tokio::time::timeout(TIMEOUT, running.task).await.expect("in time").expect("it ends");
        let stopped = stopped.expect_err("blue does not get it");
        assert!(stopped.full_text().contains(named), "{stopped}");
        assert!(stopped.remedy_text().is_none_or(|remedy| !remedy.contains("DROP MIGRATION")), "{stopped}");
    }
}

#[tokio::test]
async fn what_would_keep_changes_from_going_back_is_told_before_anything_is_held_and_the_remedy_ends_it() {
    let world =
        World::with(Pair::start_with((Kind::Mysql97, &[]), (Kind::Mysql97, &[("binlog-row-image", "MINIMAL")]))).await;
    let refused = world.next().arm(&world.plan, "armed").await.expect_err("rows are not whole");
    assert!(refused.full_text().contains("binlog_row_image"), "{refused}");
    world.green().run("", refused.fix_text().expect("a statement")).await;
    world.next().arm(&world.plan, "armed").await.unwrap_or_else(unexpected);
}

#[tokio::test]
async fn accounts_that_have_the_rights_of_one_direction_are_told_those_of_the_other_side_by_side() {
    for kind in [Kind::Mysql97, Kind::Mariadb1011] {
        let world = World::new(kind).await;
        for server in [world.blue(), world.green()] {
            let accounts = ["127.0.0.1", "localhost"].map(|host| {
                format!("CREATE USER turned@'{host}' IDENTIFIED BY 'least'; GRANT SELECT ON shop.* TO turned@'{host}'")
            });
            server.run("", &accounts.join("; ")).await;
        }
        let as_turned = |server: &Server| {
            let mut endpoint = server.endpoint("shop");
            "turned".clone_into(&mut endpoint.user);
            endpoint.password = Some("least".into());
            endpoint
        };
        let (blue, green) = (as_turned(world.blue()), as_turned(world.green()));
        let (there, here) = (format!("on {green:?}: "), format!("on {blue:?}: "));
        let first = Mysql::new("m", blue, green, Settings::default(), Arc::new(migrator::accounts::NoSecrets));
        let next = MysqlDatabase::new(first).for_leg(Leg::FIRST.next());
        let refused = next.arm(&world.plan, "armed").await.expect_err("it may not");
        let remedy = refused.remedy_text().expect("a remedy");
        let (on_green, on_blue) = remedy.split_once("; and ").expect("both sides lack some");
        world.green().run("", on_green.strip_prefix(&there).expect(remedy)).await;
        world.blue().run("", on_blue.strip_prefix(&here).expect(remedy)).await;
        if kind == Kind::Mysql97 {
            // The triggers of another definer, which it may see only now.
            let refused = next.arm(&world.plan, "armed").await.expect_err("it may not create them anew");
            let fix = refused.fix_text().expect("a statement");
            let both = ["log_bin_trust_function_creators = ON", "GRANT SYSTEM_USER ON *.* TO"];
            assert!(both.iter().all(|part| fix.contains(part)), "{fix}");
            world.blue().run("", fix).await;
        }
        next.arm(&world.plan, "armed").await.unwrap_or_else(unexpected);
    }
}
