//! The proof of the switch between real servers: every fault that is planted on one side is found and named, writes that
//! come after the snapshots are not seen, and what is gone from a snapshot cannot be known.

mod servers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use migrator::database::{Comparison, SwitchSnapshots};
use migrator::model::plan::{Plan, Settings};
use migrator::model::switch_proof::{SwitchOutcome, SwitchProgress, SwitchVerdict};
use migrator::mysql::check::switch_snapshots::{Prepared, Snapshots};
use migrator::mysql::{MysqlDatabase, plan};
use servers::mysql::{Kind, Pair};
use tokio_util::sync::CancellationToken;

const SCHEMA: &str = "SET sql_mode = '', NAMES utf8mb4 COLLATE utf8mb4_general_ci;
    CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci; USE shop;
    CREATE TABLE accounts (id INT PRIMARY KEY, balance DECIMAL(20,2), note VARCHAR(50), KEY by_balance (balance)) ENGINE = InnoDB;
    INSERT INTO accounts VALUES (1, 1.5, 'note'), (2, 3, 'note'), (3, 4.5, 'note'), (4, 6, 'note'), (5, 7.5, 'note');
    INSERT INTO accounts SELECT a.id + 5 * b.id + 25 * c.id + 125 * d.id + 625 * e.id - 775, a.balance, a.note
        FROM accounts a, accounts b, accounts c, accounts d, accounts e
        WHERE a.id + 5 * b.id + 25 * c.id + 125 * d.id + 625 * e.id - 780 > 0;
    CREATE TABLE parents (id INT PRIMARY KEY) ENGINE = InnoDB;
    INSERT INTO parents SELECT id FROM accounts WHERE id <= 50;
    CREATE TABLE children (id INT PRIMARY KEY, parent INT,
        CONSTRAINT of_parent FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE) ENGINE = InnoDB;
    INSERT INTO children SELECT id, id % 50 + 1 FROM accounts WHERE id <= 200;
    CREATE TABLE docs (id VARCHAR(20) PRIMARY KEY, doc LONGTEXT) ENGINE = InnoDB;
    INSERT INTO docs SELECT CONCAT('d', id), REPEAT(id, 20000) FROM accounts WHERE id <= 30;
    CREATE TABLE bag (a VARCHAR(9), b VARCHAR(9)) ENGINE = InnoDB;
    INSERT INTO bag SELECT 'a', CONCAT('b', id % 3) FROM accounts WHERE id <= 10;
    CREATE DEFINER = root@localhost VIEW rich AS SELECT id FROM accounts WHERE balance > 2;
    ANALYZE TABLE accounts";

/// All rows of all tables.
const ROWS: u64 = 3130 + 50 + 200 + 30 + 10;
/// Fast enough that nothing waits.
const ALL_AT_ONCE: u64 = 100_000_000;
const TIMEOUT: Duration = Duration::from_mins(1);

struct World {
    pair: Pair,
    mysql: MysqlDatabase,
    plan: Plan,
}

impl World {
    async fn new(source: Kind) -> Self {
        let pair = Pair::of(source);
        for server in [&pair.source, &pair.target] {
            server.run("", SCHEMA).await;
        }
        let mysql = pair.migration("m", Settings { check_range_rows: 300, ..Settings::default() });
        let plan = plan::read(&mysql).await.expect("the plan is read");
        Self { pair, mysql, plan }
    }

    async fn prepared(&self) -> Prepared {
        let proved = self.mysql.definitions(&self.plan).await.expect("compared").fingerprint;
        self.mysql.prepare_snapshots(&self.plan, Some(&proved)).await.expect("prepared")
    }

    async fn opened(&self) -> Snapshots {
        let prepared = self.prepared().await;
        self.mysql.open_snapshots(prepared).await.expect("opened")
    }

    async fn compared(&self, snapshots: Snapshots) -> SwitchVerdict {
        let progress = Arc::new(SwitchProgress::default());
        let comparing =
            self.mysql.compare_snapshots(snapshots, ALL_AT_ONCE, Arc::clone(&progress), CancellationToken::new());
        let verdict = comparing.await.expect("nobody stops it");
        assert_eq!(progress.done(), verdict.ranges, "{verdict:?}");
        verdict
    }

    async fn verdict(&self) -> SwitchVerdict {
        self.compared(self.opened().await).await
    }

    async fn on_target(&self, sql: &str) {
        if !sql.is_empty() {
            self.pair.target.run("shop", sql).await;
        }
    }

    async fn on_source(&self, sql: &str) {
        if !sql.is_empty() {
            self.pair.source.run("shop", sql).await;
        }
    }

    async fn assert_green(&self) {
        let verdict = self.verdict().await;
        assert!(verdict.is_green(), "{verdict}");
        assert_eq!((verdict.rows, verdict.tables), (ROWS, 5), "{verdict:?}");
        assert!(verdict.ranges > 10, "{verdict:?}");
    }

    /// Damages one side or both; the verdict must be different, and name just this.
    async fn finds(
        &self,
        what: &str,
        (on_source, on_target): (&str, &str),
        named: &[&str],
        (back, there): (&str, &str),
    ) {
        self.on_source(on_source).await;
        self.on_target(on_target).await;
        let verdict = self.verdict().await;
        assert_eq!(verdict.outcome, SwitchOutcome::Different, "{what}: {verdict}");
        assert_eq!(verdict.unknown, Vec::<String>::new(), "{what}");
        let mut left = verdict.differing.clone();
        for one in named {
            let at = left.iter().position(|found| found.contains(one));
            let at = at.unwrap_or_else(|| panic!("{what}: {one} is not in {verdict}"));
            left.remove(at);
        }
        assert_eq!(left, Vec::<String>::new(), "{what}: more than {named:?}");
        self.on_source(back).await;
        self.on_target(there).await;
    }
}

/// Every fault that a mover could make in rows.
async fn rows(kind: Kind) {
    let world = World::new(kind).await;
    world.assert_green().await;
    let lost = "INSERT INTO accounts SELECT 777, balance, note FROM accounts WHERE id = 772";
    world.on_source(&format!("DELETE FROM accounts WHERE id = 777; {lost}")).await;
    world.on_target(&format!("DELETE FROM accounts WHERE id = 777; {lost}")).await;
    world.finds("a row lost", ("", "DELETE FROM accounts WHERE id = 777"), &["(777)"], ("", lost)).await;
    let update = "UPDATE accounts SET balance = balance + 1 WHERE id = 17";
    let undo = "UPDATE accounts SET balance = balance - 1 WHERE id = 17";
    world.finds("an update lost", (update, ""), &["(17)"], (undo, "")).await;
    let (first, second) =
        ("UPDATE accounts SET note = 'x' WHERE id = 5;", "UPDATE accounts SET note = 'y' WHERE id = 5;");
    let (right, swapped) = (format!("{first}{second}"), format!("{second}{first}"));
    let note = "UPDATE accounts SET note = 'note' WHERE id = 5";
    world.finds("two updates swapped", (&right, &swapped), &["(5)"], (note, note)).await;
    let cut = "UPDATE docs SET doc = LEFT(doc, LENGTH(doc) - 1) WHERE id = 'd7'";
    let whole = "UPDATE docs SET doc = REPEAT('7', 20000) WHERE id = 'd7'";
    world.finds("a text truncated by one character", ("", cut), &["shop.docs (all): ('d7')"], ("", whole)).await;
    for key in [-4, 900_000] {
        let insert = format!("INSERT INTO accounts (id) VALUES ({key})");
        let delete = format!("DELETE FROM accounts WHERE id = {key}");
        world.finds("an extra row on the target", ("", &insert), &[&format!("({key})")], ("", &delete)).await;
    }
    let alone = "SET foreign_key_checks = 0; DELETE FROM parents WHERE id = 9";
    let again =
        "INSERT IGNORE INTO parents VALUES (9); INSERT IGNORE INTO children VALUES (8, 9), (58, 9), (108, 9), (158, 9)";
    world
        .finds(
            "children that a cascade should have deleted",
            ("DELETE FROM parents WHERE id = 9", alone),
            &["(8)", "(58)", "(108)", "(158)"],
            (again, again),
        )
        .await;
    let null = "UPDATE docs SET doc = NULL WHERE id = 'd3'";
    let whole = "UPDATE docs SET doc = REPEAT('3', 20000) WHERE id = 'd3'";
    world.finds("a NULL for a large value", ("", null), &["('d3')"], ("", whole)).await;
    let twice = "INSERT INTO bag VALUES ('a', 'b1')";
    let once = "DELETE FROM bag WHERE b = 'b1' LIMIT 1";
    world.finds("a row twice in a table without a key", ("", twice), &["shop.bag (all): row "], ("", once)).await;
    world.assert_green().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_in_rows_is_found_between_two_mysql_97() {
    rows(Kind::Mysql97).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_in_rows_is_found_from_mysql_56_to_97() {
    rows(Kind::Mysql56).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_in_rows_is_found_between_two_mariadb() {
    rows(Kind::Mariadb1011).await;
}

/// Definitions, what comes after the snapshots, and what goes from them.
async fn around(kind: Kind) {
    let world = World::new(kind).await;
    let more = "CREATE TABLE surplus (id INT PRIMARY KEY) ENGINE = InnoDB";
    world.on_target(more).await;
    let verdict = world.verdict().await;
    assert_eq!(verdict.outcome, SwitchOutcome::Different, "{verdict}");
    assert_eq!(verdict.differing, ["table shop.surplus (not on the source)"], "{verdict}");
    world.on_target("DROP TABLE surplus").await;
    let index = ("", "DROP INDEX by_balance ON accounts; CREATE INDEX by_balance ON accounts (note)");
    let back = ("", "DROP INDEX by_balance ON accounts; CREATE INDEX by_balance ON accounts (balance)");
    world.finds("an index", index, &["`shop`.`accounts`.`by_balance`"], back).await;
    let define = |over| {
        format!(
            "CREATE OR REPLACE DEFINER = root@localhost VIEW rich AS SELECT id FROM accounts WHERE balance > {over}"
        )
    };
    world.finds("a view", ("", &define(3)), &["view `shop`.`rich`"], ("", &define(2))).await;
    world.assert_green().await;

    let snapshots = world.opened().await;
    world.on_source("UPDATE accounts SET balance = 1; DELETE FROM children; INSERT INTO bag VALUES ('s', 's')").await;
    world.on_target("DELETE FROM accounts WHERE id % 2 = 0; INSERT INTO parents VALUES (1000)").await;
    world.on_target("UPDATE docs SET doc = 'short'; CREATE TABLE later (id INT)").await;
    let verdict = world.compared(snapshots).await;
    assert!(verdict.is_green(), "{verdict}");
    assert_eq!(verdict.rows, ROWS);
    assert!(verdict.source_position.contains(':') && verdict.target_position.contains(':'), "{verdict}");
    let now = world.verdict().await;
    assert_eq!(now.outcome, SwitchOutcome::Different, "{now}");
    // How many keys are named follows the ranges, and those the server's estimates.
    let named = |title: &str| now.differing.iter().any(|one| one.contains(title));
    assert!(named("table shop.later") && named("shop.accounts (") && now.differing.len() > 50, "{now:?}");

    for server in [&world.pair.source, &world.pair.target] {
        server.run("", "DROP DATABASE shop").await;
        server.run("", SCHEMA).await;
    }
    for (ddl, table) in [
        ("TRUNCATE bag", "shop.bag"),
        ("ALTER TABLE children MODIFY id BIGINT", "shop.children"),
        ("DROP TABLE docs", "shop.docs"),
    ] {
        let snapshots = world.opened().await;
        world.on_target(ddl).await;
        let verdict = world.compared(snapshots).await;
        assert_eq!(verdict.outcome, SwitchOutcome::Unknown, "{ddl}: {verdict}");
        assert!(verdict.unknown.iter().all(|why| why.contains(table)), "{ddl}: {verdict}");
        assert_eq!(verdict.differing, Vec::<String>::new());
        assert!(verdict.rows > 3000, "{ddl}: {verdict:?}");
        world.on_source(ddl).await;
    }
    world.on_target("CREATE TABLE old (id INT PRIMARY KEY) ENGINE = MyISAM").await;
    world.on_source("CREATE TABLE old (id INT PRIMARY KEY) ENGINE = MyISAM").await;
    let verdict = world.verdict().await;
    assert_eq!(verdict.outcome, SwitchOutcome::Unknown, "{verdict}");
    assert!(verdict.to_string().contains("shop.old: MyISAM on the target keeps no rows"), "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_later_writes_and_lost_rows_are_told_apart_between_two_mysql_97() {
    around(Kind::Mysql97).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_later_writes_and_lost_rows_are_told_apart_between_two_mariadb() {
    around(Kind::Mariadb1011).await;
}

/// Rate, locks, stop, and a session that ends.
async fn way(kind: Kind) {
    let world = World::new(kind).await;
    let (snapshots, progress, stop) =
        (world.opened().await, Arc::new(SwitchProgress::default()), CancellationToken::new());
    let comparing = {
        let (mysql, progress, stop) = (world.mysql.clone(), Arc::clone(&progress), stop.clone());
        // A range of a hundred rows, and a second's rest.
        tokio::spawn(async move { mysql.compare_snapshots(snapshots, 100, progress, stop).await })
    };
    let deadline = Instant::now() + TIMEOUT;
    while progress.rows() == 0 {
        assert!(Instant::now() < deadline, "nothing was compared");
        world.on_target("DO 0").await;
    }
    // Whatever table it is at by now, and whatever it was at before, nobody waits for it.
    for table in ["accounts", "docs", "bag", "children", "parents"] {
        let alter = format!("SET SESSION lock_wait_timeout = 20; ALTER TABLE {table} ADD COLUMN more INT");
        world.on_target(&alter).await;
    }
    // It is cut as it goes.
    assert!(progress.ranges() > 1, "{progress:?}");
    stop.cancel();
    comparing.await.expect("no panic").expect_err("it was stopped");
    assert!(progress.done() < progress.ranges() / 2 + 5 && progress.rows() < ROWS / 2, "{progress:?}");
    for server in [&world.pair.source, &world.pair.target] {
        server.run("", "DROP DATABASE shop").await;
        server.run("", SCHEMA).await;
    }
    for server in [&world.pair.source, &world.pair.target] {
        let snapshots = world.opened().await;
        let ids = server
            .rows::<(u64,)>("", "SELECT TRX_MYSQL_THREAD_ID FROM information_schema.INNODB_TRX ORDER BY TRX_STARTED")
            .await;
        assert_eq!(ids.len(), 1, "{ids:?}");
        server.run("", &format!("KILL {}", ids[0].0)).await;
        let verdict = world.compared(snapshots).await;
        assert_eq!(verdict.outcome, SwitchOutcome::Unknown, "{verdict}");
        assert!(verdict.to_string().contains("a snapshot was lost"), "{verdict}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_its_rate_lets_ddl_pass_and_stops_when_told_between_two_mysql_97() {
    way(Kind::Mysql97).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_its_rate_lets_ddl_pass_and_stops_when_told_between_two_mariadb() {
    way(Kind::Mariadb1011).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_its_rate_lets_ddl_pass_and_stops_when_told_from_mysql_56() {
    way(Kind::Mysql56).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_that_no_look_vouches_for_cannot_be_known() {
    let world = World::new(Kind::Mysql97).await;
    let prepared = world.mysql.prepare_snapshots(&world.plan, None).await.expect("prepared");
    let snapshots = world.mysql.open_snapshots(prepared).await.expect("opened");
    let verdict = world.compared(snapshots).await;
    assert_eq!((verdict.outcome, verdict.rows), (SwitchOutcome::Unknown, ROWS), "{verdict}");
    let proved = world.mysql.definitions(&world.plan).await.expect("compared").fingerprint;
    world.on_target("CREATE INDEX more ON bag (a)").await;
    world.on_source("CREATE INDEX more ON bag (a)").await;
    let prepared = world.mysql.prepare_snapshots(&world.plan, Some(&proved)).await.expect("prepared");
    let snapshots = world.mysql.open_snapshots(prepared).await.expect("opened");
    let verdict = world.compared(snapshots).await;
    assert_eq!(verdict.unknown, ["the definitions at the switch: they changed after the check"], "{verdict}");
}
