//! Compares real databases while the follower is told to stand still, and finds every kind of damage.

mod servers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use migrator::follow::Follow;
use migrator::model::plan::Settings;
use migrator::model::progress::Progress;
use migrator::model::proof::Proof;
use migrator::mysql::{BinlogPosition, MysqlDatabase, check, plan, position};
use servers::mysql::{Kind, Pair, Server};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What every version has, filled so that each kind of value is there.
const SCHEMA: &str = r#"SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone = '+00:00', NAMES utf8mb4 COLLATE utf8mb4_general_ci;
    CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci; USE shop;
    CREATE TABLE accounts (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, balance DECIMAL(20,5) NOT NULL DEFAULT '1.5',
        note VARCHAR(50) DEFAULT 'it''s', KEY by_note (note(10)), UNIQUE KEY pair (balance, id));
    INSERT INTO accounts (id, balance, note) VALUES (1, 1.5, 'one'), (2, 2.5, NULL), (3, 3.5, ''), (4, 4, 'two');
    INSERT INTO accounts (balance, note) SELECT a.id * 10 + b.id, a.note FROM accounts a, accounts b, accounts c, accounts d, accounts e
        ORDER BY a.id, b.id, c.id, d.id, e.id;
    CREATE TABLE kinds (id BIGINT UNSIGNED PRIMARY KEY, i8 TINYINT, i24 MEDIUMINT UNSIGNED, z INT(6) ZEROFILL, f FLOAT, fd FLOAT(7,3),
        d DOUBLE, dd DOUBLE(10,2), de DECIMAL(30,10), b1 BIT(1), b64 BIT(64), e ENUM('a','B'), s SET('x','y','z'), y YEAR,
        dt DATETIME(6), ts TIMESTAMP(6) NULL DEFAULT NULL, ti TIME(6), da DATE,
        c CHAR(10) CHARACTER SET latin1, v VARCHAR(50), vb VARBINARY(20), bi BINARY(5), lt LONGTEXT, lb LONGBLOB, g GEOMETRY);
    INSERT INTO kinds VALUES (1, -128, 16777215, 42, 1.1, 1.123, 0.1, 1.23, '-12345678901234567890.0123456789', b'1', 18446744073709551615,
        'B', 'x,z', 2155, '2024-01-01 12:34:56.123456', '2024-01-01 12:34:56.123456', '-838:59:59', '2024-02-30', 'e', 'Abc ', 'x', 'ab', 'long', 'lob',
        ST_GeomFromText('POINT(1 2)', 0)),
        (18446744073709551615, 1, 2, 3, -3.4028235e38, 0, -1.4074705188261364e113, 0, 0, 0, 0, 'a', '', 0, '0000-00-00', NULL, '00:00:00', '0000-00-00', '', '', '', '', '', '', NULL),
        (3, NULL, NULL, NULL, NULL, NULL, -2.2250738585072014e-308, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    CREATE TABLE words (w VARCHAR(40) COLLATE utf8mb4_bin NOT NULL, n INT NOT NULL, f DOUBLE, PRIMARY KEY (w, n));
    INSERT INTO words VALUES ('a,b', 1, 1), ('a', 2, 0.5), ('A', 2, 0.25), ('ü''"', 3, 1e300);
    CREATE TABLE bag (a VARCHAR(20), b VARCHAR(20));
    INSERT INTO bag VALUES ('a', 'b,c'), ('a', 'b,c'), ('a,b', 'c'), ('', NULL), (NULL, '');
    CREATE TABLE `we``ird` (`a b` BIGINT PRIMARY KEY, `ü` VARCHAR(10));
    INSERT INTO `we``ird` VALUES (-5, 'x'), (5, 'y');
    CREATE TABLE child (id INT PRIMARY KEY, account INT UNSIGNED, CONSTRAINT of_account FOREIGN KEY (account) REFERENCES accounts (id) ON DELETE RESTRICT);
    INSERT INTO child VALUES (1, 1), (2, NULL);
    CREATE TABLE parts (id INT PRIMARY KEY, n INT) PARTITION BY RANGE (id) (PARTITION low VALUES LESS THAN (10), PARTITION high VALUES LESS THAN MAXVALUE);
    INSERT INTO parts VALUES (1, 1), (11, 11);
    CREATE DEFINER = root@localhost VIEW seen AS SELECT id FROM accounts;
    CREATE DEFINER = root@localhost PROCEDURE work() SELECT 1;
    CREATE DEFINER = root@localhost EVENT tick ON SCHEDULE EVERY 1 HOUR STARTS '2037-01-01' DISABLE DO DO 0;
    ANALYZE TABLE accounts;"#;

const NEWER: &str =
    "USE shop; CREATE TABLE newer (id INT PRIMARY KEY, twice INT AS (id * 2) STORED, gone INT INVISIBLE DEFAULT 7,
    CONSTRAINT positive CHECK (id > 0)); INSERT INTO newer (id, gone) VALUES (1, 7), (2, 8);";
const JSON: &str = r#"USE shop; CREATE TABLE docs (id INT PRIMARY KEY, doc JSON); INSERT INTO docs VALUES (1, '{"b": 1, "a": [1.5, null, "x"]}');"#;

/// What is done to the target, and the table or object that the check must name.
const DAMAGE: &[(&str, &str)] = &[
    ("UPDATE accounts SET balance = balance + 0.00001 WHERE id = 700", "shop.accounts"),
    ("DELETE FROM accounts WHERE id = 2", "shop.accounts"),
    ("INSERT INTO accounts (id, balance) VALUES (4000000000, 1)", "shop.accounts"),
    ("UPDATE accounts SET note = '' WHERE id = 2", "shop.accounts"),
    ("UPDATE accounts SET note = NULL WHERE id = 3", "shop.accounts"),
    ("UPDATE accounts SET note = 'One' WHERE id = 1", "shop.accounts"),
    ("UPDATE accounts SET note = 'one ' WHERE id = 1", "shop.accounts"),
    ("UPDATE accounts SET balance = CASE id WHEN 1 THEN 2.5 ELSE 1.5 END WHERE id IN (1, 2)", "shop.accounts"),
    ("UPDATE kinds SET i8 = -127 WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET i24 = 16777214 WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET z = 43 WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET f = 1.10000014 WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET fd = 1.124 WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET d = 0.10000000000000002 WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET d = -1.4074705188261365e113 WHERE id > 5", "shop.kinds"),
    ("UPDATE kinds SET d = -2.225073858507202e-308 WHERE id = 3", "shop.kinds"),
    ("UPDATE kinds SET d = 0.1 * -1 WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET de = de + 0.0000000001 WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET b1 = b'0' WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET b64 = 18446744073709551614 WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET e = 'a' WHERE id = 1", "shop.kinds"),
    ("UPDATE IGNORE kinds SET e = 'none' WHERE id = 3", "shop.kinds"),
    ("UPDATE kinds SET s = 'x' WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET y = 2154 WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET dt = '2024-01-01 12:34:56.123457' WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET ts = '2024-01-01 12:34:56.123457' WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET ti = '838:59:59' WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET da = '2024-02-29' WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET da = NULL WHERE id > 5", "shop.kinds"),
    ("UPDATE kinds SET c = 'E' WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET v = 'Abc' WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET vb = 'X' WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET bi = 'ab1' WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET lt = 'lonG' WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET lb = 'loB' WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET g = ST_GeomFromText('POINT(1 3)', 0) WHERE id = 1", "shop.kinds"),
    ("UPDATE kinds SET g = ST_GeomFromText('POINT(1 2)', 3857) WHERE id = 1", "shop.kinds"),
    ("UPDATE words SET n = 4 WHERE n = 3", "shop.words"),
    ("UPDATE bag SET b = 'c', a = 'a,b' WHERE b = 'b,c' LIMIT 1", "shop.bag"),
    ("INSERT INTO bag VALUES ('a', 'b,c')", "shop.bag"),
    ("INSERT INTO bag VALUES ('z', 'z'), ('z', 'z')", "shop.bag"),
    ("DELETE FROM bag WHERE a = 'a' LIMIT 2", "shop.bag"),
    ("UPDATE bag SET a = NULL, b = '' WHERE a = ''", "shop.bag"),
    ("UPDATE `we``ird` SET `ü` = 'z' WHERE `a b` = -5", "shop.`we``ird`"),
    ("UPDATE parts SET n = 2 WHERE id = 11", "shop.parts"),
    ("DROP INDEX by_note ON accounts", "index `shop`.`accounts`.`by_note` (not on the target)"),
    (
        "DROP INDEX pair ON accounts; CREATE INDEX pair ON accounts (balance, id)",
        "index `shop`.`accounts`.`pair` (differs",
    ),
    (
        "DROP INDEX by_note ON accounts; CREATE INDEX by_note ON accounts (note(9))",
        "index `shop`.`accounts`.`by_note` (differs",
    ),
    ("ALTER TABLE child DROP FOREIGN KEY of_account", "foreign key `shop`.`child`.`of_account` (not on the target)"),
    ("ALTER TABLE accounts ALTER COLUMN note SET DEFAULT 'its'", "column `shop`.`accounts`.`note` (differs"),
    ("ALTER TABLE words MODIFY f DOUBLE NOT NULL", "column `shop`.`words`.`f` (differs"),
    (
        "CREATE TRIGGER early BEFORE INSERT ON words FOR EACH ROW SET @a = 1",
        "trigger `shop`.`early` (on the target before the switch)",
    ),
    ("DROP VIEW seen", "view `shop`.`seen` (not on the target)"),
    ("DROP PROCEDURE work; CREATE PROCEDURE work() SELECT 2", "routine `shop`.`work` (differs"),
    ("DROP EVENT tick", "event `shop`.`tick` (not on the target)"),
    ("CREATE TABLE surplus (id INT PRIMARY KEY)", "table `shop`.`surplus` (not on the source)"),
    ("DROP TABLE words", "table `shop`.`words` (not on the target)"),
    (
        "ALTER TABLE parts REORGANIZE PARTITION low INTO (PARTITION lower VALUES LESS THAN (5), PARTITION low VALUES LESS THAN (10))",
        "partition `shop`.`parts`.`lower` (not on the source)",
    ),
];

struct World {
    pair: Pair,
    mysql: MysqlDatabase,
    schema: String,
}

impl World {
    async fn new(source: Kind, target: Kind) -> Self {
        let pair = Pair::start(source, target);
        let mut schema = SCHEMA.to_owned();
        let old = source == Kind::Mysql56;
        if old {
            schema = schema.replace("ALLOW_INVALID_DATES", "ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION");
        } else if source == target {
            schema.push_str(&NEWER.replace(
                "gone INT INVISIBLE DEFAULT 7",
                match source {
                    Kind::Mariadb1011 => "gone INT INVISIBLE DEFAULT 7",
                    _ => "gone INT DEFAULT 7 INVISIBLE",
                },
            ));
            schema.push_str(JSON);
        }
        let settings = Settings { check_range_rows: 200, ..Settings::default() };
        let mysql = pair.migration("m", settings);
        let world = Self { pair, mysql, schema };
        world.pair.source.run("", &world.schema).await;
        world.refill().await;
        world
    }

    fn target(&self) -> &Server {
        &self.pair.target
    }

    fn mixed(&self) -> bool {
        let mariadb = |server: &Server| server.kind == Kind::Mariadb1011;
        mariadb(&self.pair.source) != mariadb(&self.pair.target)
    }

    async fn refill(&self) {
        self.target().run("", "DROP DATABASE IF EXISTS shop").await;
        self.target().run("", &self.schema).await;
    }

    /// A check beside a follower that has nothing to apply but obeys its orders.
    async fn check(&self) -> Vec<Proof> {
        let plan = plan::read(&self.mysql).await.expect("the plan can be read");
        let mut session = self.pair.source.connect("").await;
        let end = position::current(&mut session).await.expect("it is told");
        let follow = Follow::default();
        follow.advance(end, Vec::new());
        let follower = obedient(follow.clone());
        let checked = check::run(&self.mysql, &plan, follow, Arc::new(Progress::default()), CancellationToken::new());
        let checked = tokio::time::timeout(Duration::from_mins(1), checked).await;
        follower.abort();
        checked.expect("in time").unwrap_or_else(|error| panic!("{}", error.full_text())).proofs
    }

    async fn assert_equal(&self) {
        let proofs = self.check().await;
        for proof in &proofs {
            assert!(proof.equal(), "{proof:?}");
        }
        let ranges = proofs.iter().filter(|proof| proof.table == "shop.accounts").count();
        assert!(ranges > 2, "accounts was cut into {ranges} ranges");
    }
}

fn obedient(follow: Follow<BinlogPosition>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut orders = follow.pause_orders();
        loop {
            let order = orders.borrow_and_update().clone();
            if let Some(at) = &order {
                let applied = follow.applied().position.expect("it was told");
                if at.offset > applied.offset || at.file != applied.file {
                    follow.advance(at.clone(), Vec::new());
                }
            }
            follow.report_paused(order.is_some());
            if orders.changed().await.is_err() {
                return;
            }
        }
    })
}

async fn finds_all(source: Kind, target: Kind, more: &[(&str, &str)]) {
    let world = World::new(source, target).await;
    world.assert_equal().await;
    for (damage, named) in DAMAGE.iter().chain(more) {
        // The families do not keep the same text of a program.
        if world.mixed() && named.starts_with("procedure ") {
            continue;
        }
        let statement = format!("SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'; {damage}");
        world.target().run("shop", &statement).await;
        let proofs = world.check().await;
        let different: Vec<&Proof> = proofs.iter().filter(|proof| !proof.equal()).collect();
        let tables: BTreeSet<&str> = different.iter().map(|proof| proof.table.as_str()).collect();
        let in_catalogue = different
            .iter()
            .filter(|proof| proof.table == "catalogue")
            .flat_map(|proof| &proof.differing_keys)
            .any(|difference| difference.starts_with(named));
        assert!((tables.len() == 1 && tables.contains(named)) || in_catalogue, "{damage}: {different:?}");
        assert!(
            different.iter().all(|proof| (1..=10).contains(&proof.differing_keys.len())),
            "{damage}: {different:?}"
        );
        world.refill().await;
    }
    world.assert_equal().await;
}

#[tokio::test]
async fn every_damage_is_found_between_two_mysql_97() {
    finds_all(
        Kind::Mysql97,
        Kind::Mysql97,
        &[
            ("UPDATE kinds SET d = -0e0 WHERE id = 1; UPDATE kinds SET d = 0.1 WHERE id = 3", "shop.kinds"),
            ("UPDATE newer SET gone = 9 WHERE id = 2", "shop.newer"),
            ("ALTER TABLE newer DROP CHECK positive", "check `shop`.`newer`.`positive` (not on the target)"),
            (
                "ALTER TABLE newer DROP CHECK positive; ALTER TABLE newer ADD CONSTRAINT positive CHECK (id > 1 - 1)",
                "check `shop`.`newer`.`positive` (differs",
            ),
            (r#"UPDATE docs SET doc = '{"b": 1, "a": [1.5, null, "y"]}'"#, "shop.docs"),
            ("ALTER TABLE newer MODIFY twice INT AS (id * 3) STORED", "column `shop`.`newer`.`twice` (differs"),
        ],
    )
    .await;
}

#[tokio::test]
async fn every_damage_is_found_from_mysql_56_to_97() {
    finds_all(Kind::Mysql56, Kind::Mysql97, &[]).await;
}

#[tokio::test]
async fn every_damage_is_found_between_two_mariadb() {
    finds_all(
        Kind::Mariadb1011,
        Kind::Mariadb1011,
        &[
            ("UPDATE newer SET gone = 9 WHERE id = 2", "shop.newer"),
            ("ALTER TABLE newer DROP CONSTRAINT positive", "check `shop`.`newer`.`positive` (not on the target)"),
            (r#"UPDATE docs SET doc = '{"b": 1, "a": [1.5, null, "y"]}'"#, "shop.docs"),
        ],
    )
    .await;
}

#[tokio::test]
async fn every_damage_is_found_from_mariadb_to_mysql() {
    finds_all(Kind::Mariadb1011, Kind::Mysql97, &[]).await;
}

#[tokio::test]
async fn a_differing_row_is_named_by_its_key_and_nothing_else_of_it() {
    let world = World::new(Kind::Mysql97, Kind::Mysql97).await;
    world
        .target()
        .run("shop", "UPDATE accounts SET note = 'secret' WHERE id = 3; UPDATE words SET f = 9 WHERE n = 3")
        .await;
    let proofs = world.check().await;
    let named: Vec<&String> = proofs.iter().flat_map(|proof| &proof.differing_keys).collect();
    assert_eq!(named, ["(3)", r#"('ü\'"',3)"#]);
}
