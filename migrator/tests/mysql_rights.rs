//! The printed rights are enough for a whole migration, and none of them is too much.

mod servers;

use std::collections::BTreeSet;
use std::sync::Arc;

use migrator::accounts::Secrets;
use migrator::model::plan::Settings;
use migrator::mysql::{Endpoint, Mysql, MysqlDatabase};
use migrator::preflight::{Check, Level};
use migrator::rights::{Need, Side};
use mysql_async::prelude::Queryable as _;
use servers::mysql::{Kind, LEAST, Pair, Server};
use servers::whole::{errors, found, mended, whole};

/// How often what is mended may let more be seen.
const ROUNDS: usize = 3;

/// An application's database, with everything that has a definer, and its account.
const SCHEMA: &str = "CREATE DATABASE shop CHARACTER SET utf8mb4; USE shop; SET default_storage_engine = InnoDB;
    SET GLOBAL log_bin_trust_function_creators = ON;
    CREATE USER app@'%' IDENTIFIED BY 'app'; GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE, TRIGGER, EVENT ON shop.* TO app@'%';
    CREATE TABLE customers (id INT PRIMARY KEY, name VARCHAR(50), UNIQUE (name));
    CREATE TABLE orders (id BIGINT AUTO_INCREMENT PRIMARY KEY, customer INT, note VARCHAR(50), KEY (note),
        CONSTRAINT whose FOREIGN KEY (customer) REFERENCES customers (id));
    INSERT INTO customers VALUES (1, 'a'), (2, 'b'); INSERT INTO orders (customer, note) VALUES (1, 'x'), (2, 'y');
    CREATE TABLE keyless (a INT, b VARCHAR(9)); INSERT INTO keyless VALUES (1, 'x'), (1, 'x');
    CREATE DEFINER = app@'%' VIEW noted AS SELECT id, note FROM orders;
    CREATE DEFINER = app@'%' FUNCTION twice(n INT) RETURNS INT DETERMINISTIC RETURN 2 * n;
    CREATE DEFINER = app@'%' PROCEDURE forget() DELETE FROM keyless WHERE a = 99;
    CREATE DEFINER = app@'%' TRIGGER touch BEFORE INSERT ON orders FOR EACH ROW SET NEW.note = CONCAT(NEW.note, '!');
    CREATE DEFINER = app@'%' EVENT nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM keyless WHERE a = 98";

const CHANGE: &str =
    "INSERT INTO orders (customer, note) VALUES (1, 'z'); UPDATE customers SET name = 'c' WHERE id = 2;
    TRUNCATE TABLE keyless; INSERT INTO keyless VALUES (2, 'y'), (2, 'y'); DELETE FROM keyless LIMIT 1;
    INSERT INTO customers VALUES (3, 'd')";

/// The application's password, as the configuration has it.
struct Configured;

impl Secrets for Configured {
    fn password(&self, user: &str) -> Option<String> {
        (user == "app").then(|| "app".to_owned())
    }
}

struct World(Pair);

impl World {
    async fn new(from: Kind, to: Kind) -> Self {
        let pair = Pair::start(from, to);
        pair.source.run("", SCHEMA).await;
        // As the precheck says where the target's log is on.
        let trust = "SET GLOBAL log_bin_trust_function_creators = ON";
        pair.target.run("", trust).await;
        Self(pair)
    }

    fn migration(source: Endpoint, target: Endpoint) -> MysqlDatabase {
        MysqlDatabase::new(Mysql::new("m", source, target, Settings::default(), Arc::new(Configured)))
    }

    /// The application's account may do on the target what it might, with all that was there, and not on the source.
    async fn arrived(&self) {
        let (source, target) = (&self.0.source, &self.0.target);
        let write =
            "INSERT INTO orders (customer, note) VALUES (1, 'late'); UPDATE customers SET name = 'e' WHERE id = 3";
        // Where a restart would forget the fence, the account is locked as well.
        if let Ok(mut old) = source.try_connect_as("app", Some("app"), "shop").await {
            assert!(old.query_drop(write).await.is_err(), "the fence stands");
        }
        let mut new = target.connect_as("app", Some("app"), "shop").await;
        new.query_drop(write).await.expect("it may write");
        let twice: Option<i32> = new.query_first("SELECT twice(4)").await.expect("it may call");
        assert_eq!(twice, Some(8));
        let last = "SELECT note FROM noted ORDER BY id DESC LIMIT 1";
        assert_eq!(target.rows::<String>("shop", last).await, ["late!"]);
        let events = "SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'shop'";
        assert_eq!(target.rows::<String>("", events).await, ["nightly"]);
    }

    /// Lets the account that has the least rights migrate, with a way back or without one.
    async fn grant(&self, way_back: bool) {
        for (server, side) in [(&self.0.source, Side::Source), (&self.0.target, Side::Target)] {
            let left_out = Server::left_out(&server.grants(side, LEAST), way_back);
            server.grant(side, LEAST, &left_out).await;
        }
    }

    /// Runs a finding's statement where it is to be run, as root.
    async fn mend(&self, check: &Check) {
        let server = if check.name.starts_with("source") { &self.0.source } else { &self.0.target };
        server.run("", &check.fix).await;
    }
}

/// A whole migration of an account that has nothing but what is printed, with a way back or without one.
async fn moves(from: Kind, to: Kind, known: &[&str]) {
    for way_back in [true, false] {
        moves_with(way_back, from, to, known).await;
    }
}

async fn moves_with(way_back: bool, from: Kind, to: Kind, known: &[&str]) {
    let world = World::new(from, to).await;
    let (source, target) = (&world.0.source, &world.0.target);
    world.grant(way_back).await;
    let mysql = World::migration(source.least("shop"), target.least("shop"));
    let mut checks = found(&mysql).await;
    assert!(errors(&checks).is_empty(), "{checks:#?}");
    if !way_back {
        for (server, side, check) in
            [(source, Side::Source, "source_way_back"), (target, Side::Target, "target_way_back")]
        {
            let printed = server.grants(side, LEAST);
            let lacking: BTreeSet<&str> =
                (printed.iter().filter(|grant| grant.check == check)).map(|grant| grant.statement.as_str()).collect();
            // What cannot be looked at without one of them is told beside it.
            let reported = checks.iter().filter(|one| one.name == check && !one.fix.is_empty());
            let reported = reported.map(|one| one.fix.as_str());
            assert_eq!(reported.collect::<BTreeSet<_>>(), lacking, "{check}");
        }
        checks.retain(|check| !check.name.ends_with("_way_back"));
    }
    let unknown: Vec<&Check> =
        checks.iter().filter(|check| check.name != "keys" && !known.contains(&check.name.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    whole(&mysql, async || source.run("shop", CHANGE).await).await;
    world.arrived().await;
}

/// The findings that miss a printed right.
const CHECKED: [&str; 15] = [
    "source_rights",
    "source_snapshots",
    "source_sessions",
    "source_databases",
    "source_left_behind",
    "source_refusal",
    "target_rights",
    "target_prints",
    "target_proof",
    "target_definitions",
    "target_sessions",
    "target_writers",
    "schema_trial",
    "source_way_back",
    "target_way_back",
];

/// Leaves one statement after the other out: each is missed, by a finding whose statement brings it back.
async fn walks(from: Kind, to: Kind, side: Side) {
    let world = World::new(from, to).await;
    let (source, target) = (&world.0.source, &world.0.target);
    world.grant(true).await;
    let least = (source.least("shop"), target.least("shop"));
    let mut always: BTreeSet<String> = {
        let checks = found(&World::migration(least.0.clone(), least.1.clone())).await;
        assert!(errors(&checks).is_empty(), "{checks:#?}");
        checks.into_iter().map(|check| check.name).collect()
    };
    // The accounts of this test pass the fence for one another.
    always.insert("fence_accounts".to_owned());
    let server = if side == Side::Source { source } else { target };
    let printed = server.grants(side, LEAST);
    assert!(printed.len() > 1, "nothing is printed");
    for without in 1..printed.len() {
        let user = format!("without_{without}");
        let grant = &server.grants(side, &user)[without];
        // What is printed as needed without a way back is missed where there is none.
        let way_back = !matches!(grant.need, Need::Where(_));
        let mut left_out = Server::left_out(&printed, way_back);
        left_out.push(without);
        server.grant(side, &user, &left_out).await;
        assert!(CHECKED.contains(&grant.check), "{}", grant.check);
        let mut ends = least.clone();
        let end = if side == Side::Source { &mut ends.0 } else { &mut ends.1 };
        end.user.clone_from(&user);
        let mysql = World::migration(ends.0, ends.1);
        let missed = |checks: &[Check]| -> Vec<Check> {
            let new = checks.iter().filter(|check| !always.contains(&check.name));
            new.cloned().collect()
        };
        let mut left = missed(&found(&mysql).await);
        assert!(
            left.iter().any(|check| check.name == grant.check && check.level != Level::Ok && !check.fix.is_empty()),
            "nobody misses {}: {left:#?}",
            grant.statement
        );
        let mut done = BTreeSet::new();
        for _ in 0..ROUNDS {
            for check in left.iter().filter(|check| !check.fix.is_empty()) {
                if done.insert(check.fix.clone()) {
                    world.mend(check).await;
                }
            }
            left = missed(&found(&mysql).await);
            if left.is_empty() {
                break;
            }
        }
        assert_eq!(left, Vec::<Check>::new(), "after {done:#?}");
        server.run("", &format!("DROP USER '{user}'@'%'")).await;
    }
}

/// What an account with the printed rights may not see or carry is told before anything begins, and arrives once the account
/// has what is told.
async fn arrives_by_what_is_told(kind: Kind, make: &str, expected: &[(&str, &str, &str)]) {
    let world = World::new(kind, kind).await;
    let (source, target) = (&world.0.source, &world.0.target);
    source.run("shop", make).await;
    world.grant(false).await;
    let mysql = World::migration(source.least("shop"), target.least("shop"));
    let checks = found(&mysql).await;
    for (name, part, fix) in expected {
        let named = |check: &Check| check.name == *name && check.evidence.contains(part) && check.fix == *fix;
        assert!(checks.iter().any(named), "{name}, {part}, {fix}: {checks:#?}");
    }
    let secret = |check: &Check| check.evidence.contains("s3cret") || check.fix.contains("s3cret");
    assert!(!checks.iter().any(secret), "{checks:#?}");
    let wanted =
        |check: &Check| ["schema_trial", "target_left_behind", "resource_groups"].contains(&check.name.as_str());
    mended(&mysql, wanted, async |check| world.mend(check).await).await;
    whole(&mysql, async || source.run("shop", CHANGE).await).await;
    world.arrived().await;
}

/// A server, a proxy, and what belongs to them.
const BESIDE: &str =
    "CREATE SERVER far FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'h', USER 'u', PASSWORD 's3cret', DATABASE 'd');
    CREATE USER low@'%' ACCOUNT LOCK; CREATE USER high@'%' ACCOUNT LOCK; GRANT PROXY ON low@'%' TO high@'%'";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_printed_rights_do_not_carry_of_97_is_told_with_the_grant_that_does() {
    let make = format!("{BESIDE}; CREATE RESOURCE GROUP rg TYPE = USER VCPU = 0 THREAD_PRIORITY = 0");
    let expected = [
        ("schema_trial", "a grant to `high`@`%`", "GRANT PROXY ON `low`@`%` TO `headgate`@`%` WITH GRANT OPTION"),
        ("schema_trial", "the server far", "GRANT SUPER ON *.* TO `headgate`@`%`"),
        ("target_left_behind", "resource groups", "GRANT RESOURCE_GROUP_USER ON *.* TO 'headgate'@'%'"),
    ];
    arrives_by_what_is_told(Kind::Mysql97, &make, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_printed_rights_do_not_carry_of_mariadb_is_told_with_the_grant_that_does() {
    let make = format!(
        "{BESIDE}; CREATE ROLE clerk; GRANT SELECT ON shop.* TO clerk; GRANT clerk TO high@'%'; SET DEFAULT ROLE clerk FOR high@'%'"
    );
    let expected = [
        ("schema_trial", "a grant to 'high'@'%'", "GRANT PROXY ON 'low'@'%' TO `headgate`@`%` WITH GRANT OPTION"),
        ("schema_trial", "the server far", "GRANT FEDERATED ADMIN ON *.* TO `headgate`@`%`"),
        ("schema_trial", "the default role of `high`@`%`", "GRANT UPDATE ON `mysql`.* TO `headgate`@`%`"),
    ];
    arrives_by_what_is_told(Kind::Mariadb1011, &make, &expected).await;
}

/// The old side's triggers are out of the way while changes come back, and are created anew then.
#[tokio::test]
async fn an_account_that_could_not_put_a_trigger_back_is_told_before_anything_begins_what_lets_it() {
    let world = World::new(Kind::Mysql97, Kind::Mysql97).await;
    world.grant(true).await;
    let mysql = World::migration(world.0.source.least("shop"), world.0.target.least("shop"));
    let reported = async || {
        let checks = found(&mysql).await.into_iter().filter(|check| check.name == "source_way_back");
        checks.collect::<Vec<Check>>()
    };
    assert_eq!(reported().await, Vec::new());
    let make = "CREATE TRIGGER of_root AFTER INSERT ON keyless FOR EACH ROW SET @seen = NEW.a;
        SET GLOBAL log_bin_trust_function_creators = OFF";
    world.0.source.run("shop", make).await;
    let checks = reported().await;
    let fixes: Vec<&str> = checks.iter().map(|check| check.fix.as_str()).collect();
    assert!(
        matches!(fixes[..], [trust, "GRANT SYSTEM_USER ON *.* TO 'headgate'@'%'"]
            if trust.contains("log_bin_trust_function_creators")),
        "{checks:#?}"
    );
    for check in &checks {
        world.mend(check).await;
    }
    assert_eq!(reported().await, Vec::new());
}

/// Rights of a side that not every migration comes to use, and when it does.
const SOMETIMES: [(Side, &str, &str); 9] = [
    (Side::Source, "GRANT LOCK TABLES ", "where a long statement keeps FLUSH TABLES from being used"),
    (
        Side::Source,
        "GRANT BINLOG MONITOR ",
        "where a statement of the log may change a definition, and what comes after it tells",
    ),
    (Side::Source, "GRANT READ_ONLY ADMIN ", "where accounts may not be locked, which is the fence otherwise"),
    (Side::Target, "GRANT DROP ON `shop`", "the trial of the schema, and a copy that begins anew"),
    (Side::Target, "`performance_schema`", "the precheck, which says that it cannot know otherwise"),
    (Side::Source, "GRANT EXECUTE ", "where a view calls a function"),
    (Side::Source, "GRANT SLAVE MONITOR ", "the precheck, which says that it cannot know otherwise"),
    (Side::Target, "GRANT SLAVE MONITOR ", "the precheck, which says that it cannot know otherwise"),
    (Side::Target, "GRANT REPLICATION CLIENT ", "the precheck, which says that it cannot know otherwise"),
];

/// Without any one of these rights a migration does not come to its end, whatever the precheck said.
async fn is_needed(from: Kind, to: Kind, side: Side) {
    let mut idle = Vec::new();
    let count = Server::printed(if side == Side::Source { from } else { to }, side, LEAST).len();
    for without in 1..count {
        let world = World::new(from, to).await;
        let (source, target) = (&world.0.source, &world.0.target);
        for (server, of) in [(source, Side::Source), (target, Side::Target)] {
            let mut left_out = Server::left_out(&server.grants(of, LEAST), false);
            left_out.extend((side == of).then_some(without));
            server.grant(of, LEAST, &left_out).await;
        }
        let server = if side == Side::Source { source } else { target };
        let grant = server.grants(side, LEAST).swap_remove(without);
        let excused = SOMETIMES.iter().any(|(of, right, _)| *of == side && grant.statement.contains(right));
        if grant.need == Need::Helpful || excused {
            continue;
        }
        let mysql = World::migration(source.least("shop"), target.least("shop"));
        let moving = tokio::spawn(async move {
            whole(&mysql, async || world.0.source.run("shop", CHANGE).await).await;
            world.arrived().await;
        });
        if moving.await.is_ok() {
            idle.push(grant.statement);
        }
    }
    assert_eq!(idle, Vec::<String>::new(), "nothing fails without them");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes minutes"]
async fn every_printed_right_is_needed_on_a_source_of_97() {
    is_needed(Kind::Mysql97, Kind::Mysql97, Side::Source).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes minutes"]
async fn every_printed_right_is_needed_on_a_target_of_97() {
    is_needed(Kind::Mysql97, Kind::Mysql97, Side::Target).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes minutes"]
async fn every_printed_right_is_needed_on_a_source_of_mariadb() {
    is_needed(Kind::Mariadb1011, Kind::Mariadb1011, Side::Source).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes minutes"]
async fn every_printed_right_is_needed_on_a_target_of_mariadb() {
    is_needed(Kind::Mariadb1011, Kind::Mariadb1011, Side::Target).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes minutes"]
async fn every_printed_right_is_needed_on_a_source_of_56() {
    is_needed(Kind::Mysql56, Kind::Mysql97, Side::Source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_the_printed_rights_moves_from_97_to_97() {
    moves(Kind::Mysql97, Kind::Mysql97, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_the_printed_rights_moves_from_56_to_97() {
    moves(Kind::Mysql56, Kind::Mysql97, &["binlog_row_metadata", "sql_mode", "client_settings", "source_refusal"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_the_printed_rights_moves_from_1011_to_1011() {
    moves(Kind::Mariadb1011, Kind::Mariadb1011, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_printed_right_is_too_much_on_a_source_of_97() {
    walks(Kind::Mysql97, Kind::Mysql97, Side::Source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_printed_right_is_too_much_on_a_target_of_97() {
    walks(Kind::Mysql97, Kind::Mysql97, Side::Target).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_printed_right_is_too_much_on_a_source_of_56() {
    walks(Kind::Mysql56, Kind::Mysql97, Side::Source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_printed_right_is_too_much_on_a_source_of_mariadb() {
    walks(Kind::Mariadb1011, Kind::Mariadb1011, Side::Source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_printed_right_is_too_much_on_a_target_of_mariadb() {
    walks(Kind::Mariadb1011, Kind::Mariadb1011, Side::Target).await;
}

/// Tables without a key, one that counts and one in partitions among them.
const WITHOUT_KEYS: &str = "CREATE TABLE counted (n INT NOT NULL AUTO_INCREMENT, v INT, KEY (n)); INSERT INTO counted (v) VALUES (7);
    CREATE TABLE parted (x INT, y INT) PARTITION BY HASH (x + y) PARTITIONS 3; INSERT INTO parted VALUES (1, 2), (3, 4)";

#[tokio::test(flavor = "multi_thread")]
async fn tables_without_a_key_are_named_where_the_target_demands_one_and_each_remedy_ends_that() {
    let world = World::new(Kind::Mysql97, Kind::Mysql97).await;
    let (source, target) = (&world.0.source, &world.0.target);
    source.run("shop", WITHOUT_KEYS).await;
    // With what a way back takes it may switch them off.
    world.grant(false).await;
    let mysql = World::migration(source.least("shop"), target.least("shop"));
    let demands = async || {
        let mut checks = found(&mysql).await;
        checks.retain(|check| check.level == Level::Error);
        checks
    };
    assert_eq!(demands().await, []);
    let grant = format!("GRANT SESSION_VARIABLES_ADMIN ON *.* TO '{LEAST}'@'%'");
    let mut keys = Vec::new();
    for setting in ["sql_generate_invisible_primary_key", "sql_require_primary_key"] {
        target.run("", &format!("SET GLOBAL {setting} = ON")).await;
        let checks = demands().await;
        assert!(checks.iter().all(|check| check.name == "primary_keys"), "{checks:#?}");
        for table in ["keyless", "counted", "parted"] {
            let of_it = checks.iter().find(|check| check.evidence.contains(&format!("shop.{table} ")));
            let of_it = of_it.unwrap_or_else(|| panic!("{table}: {checks:#?}"));
            assert!(of_it.evidence.contains(setting), "{of_it:?}");
            let (_, key) = of_it.remedy.split_once("; or give it a key on the source: ").expect("two ways");
            keys.push(key.to_owned());
            assert_eq!(of_it.fix, grant);
        }
        assert_eq!(checks.len(), 3, "{checks:#?}");
        target.run("", &grant).await;
        assert_eq!(demands().await, []);
        target.run("", &grant.replace("GRANT", "REVOKE").replace(" TO ", " FROM ")).await;
    }
    // Both settings ask for the same keys.
    for key in &keys[..3] {
        source.run("", key).await;
    }
    assert_eq!(keys[..3], keys[3..]);
    assert_eq!(demands().await, []);
    whole(&mysql, async || source.run("shop", CHANGE).await).await;
    world.arrived().await;
    assert_eq!(target.rows::<(i32, i32)>("shop", "SELECT * FROM parted ORDER BY x").await, [(1, 2), (3, 4)]);
}

/// Whether the source shows such a column or not, it is one like others.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_source_has_made_up_moves_with_its_values_and_stays_hidden() {
    let world = World::new(Kind::Mysql97, Kind::Mysql97).await;
    let (source, target) = (&world.0.source, &world.0.target);
    source
        .run(
            "shop",
            "SET SESSION sql_generate_invisible_primary_key = ON; CREATE TABLE made (v INT); INSERT INTO made VALUES (4), (5), (6);
             DELETE FROM made WHERE v = 5",
        )
        .await;
    for server in [source, target] {
        server.run("", "SET GLOBAL show_gipk_in_create_table_and_information_schema = OFF").await;
    }
    world.grant(true).await;
    let mysql = World::migration(source.least("shop"), target.least("shop"));
    let checks = found(&mysql).await;
    assert!(!checks.iter().any(|check| check.evidence.contains("shop.made")), "{checks:#?}");
    let change = format!(
        "{CHANGE}; INSERT INTO made VALUES (7), (7); UPDATE made SET v = 8 WHERE v = 6; DELETE FROM made WHERE v = 7 LIMIT 1"
    );
    whole(&mysql, async || source.run("shop", &change).await).await;
    world.arrived().await;
    let rows = "SELECT my_row_id, v FROM made ORDER BY my_row_id";
    assert_eq!(target.rows::<(u64, i32)>("shop", rows).await, [(1, 4), (3, 8), (5, 7)]);
    // The server takes it for its own: it hides it, and goes on with its numbers.
    let shown: Vec<String> =
        target.rows("shop", "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_NAME = 'made'").await;
    assert_eq!(shown, ["v"]);
    target.run("shop", "INSERT INTO made VALUES (9)").await;
    let numbers: Vec<u64> = target.rows("shop", "SELECT my_row_id FROM made WHERE v = 9").await;
    assert!(numbers[0] > 5, "{numbers:?}");
}
