//! Definitions of real databases of MySQL and MariaDB: all classes of the inventory arrive, and every change of one is seen
//! and named.

mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use migrator::accounts::Verdict;
use migrator::database::{Comparison as _, Preflight as _, SchemaAndLoad as _};
use migrator::model::plan::{Plan, Settings};
use migrator::model::progress::Progress;
use migrator::mysql::check::inventory::{INVENTORY, Treatment};
use migrator::mysql::check::stamp::Stamp;
use migrator::mysql::client::Version;
use migrator::mysql::schema::archive::Archive;
use migrator::mysql::schema::post_data;
use migrator::mysql::{Mysql, MysqlDatabase, schema};
use migrator::preflight::Level;
use mysql_async::prelude::Queryable as _;
use servers::mysql::{Kind, Pair, Server};
use tokio_util::sync::CancellationToken;

const MYSQL_97: &str = include_str!("mysql_schema/mysql97.sql");
const MYSQL_56: &str = include_str!("mysql_schema/mysql56.sql");
const MARIADB: &str = include_str!("mysql_schema/mariadb.sql");
const KINDS: [Kind; 3] = [Kind::Mysql97, Kind::Mariadb1011, Kind::Mysql56];

/// Everything but the rows, as a migration does it.
async fn bring_over(mysql: &MysqlDatabase) -> Plan {
    let plan = mysql.plan().await.expect("the source can be read");
    let prepared = schema::prepare(mysql, &plan).await;
    prepared.unwrap_or_else(|error| panic!("{}", error.full_text()));
    let mut target = mysql.connect_target("test").await.expect("it answers");
    let archive = Archive::open(mysql, &mut target).await.expect("it is kept");
    for table in &plan.tables {
        let built = post_data::plain_indexes(mysql, &mut target, &archive, table).await;
        built.unwrap_or_else(|error| panic!("{}", error.full_text()));
    }
    let stop = CancellationToken::new();
    let rest = post_data::rest(mysql, &plan, &Arc::new(Progress::default()), &stop).await;
    rest.unwrap_or_else(|error| panic!("{}", error.full_text()));
    plan
}

/// What a check finds while somebody watches the definitions too.
async fn differences(mysql: &MysqlDatabase) -> Vec<String> {
    let plan = Plan::default();
    let (compared, watched) = tokio::join!(mysql.definitions(&plan), mysql.definitions(&plan));
    let [compared, watched] = [compared, watched].map(|one| {
        let compared = one.unwrap_or_else(|error| panic!("{}", error.full_text()));
        compared.differences
    });
    assert_eq!(compared, watched);
    compared
}

fn settings(schemas: &[&str]) -> Settings {
    Settings { schemas: schemas.iter().map(|name| (*name).to_owned()).collect(), ..Settings::default() }
}

async fn version(server: &Server) -> Version {
    let reported: Vec<String> = server.rows("", "SELECT VERSION()").await;
    Version::parse(&reported[0]).expect("a version")
}

/// A table that a future version brings, or that no server has any more, is found here.
/// The findings of this name that are not in order, with their statements.
async fn found(mysql: &MysqlDatabase, name: &str) -> Vec<(String, String)> {
    let checks = mysql.preflight().await.expect("it runs").into_iter();
    checks
        .filter(|check| check.name == name && check.level != Level::Ok)
        .map(|check| (check.evidence, check.fix))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inventory_knows_every_table_of_every_server_and_leaves_out_no_column_that_is_not_there() {
    let known: BTreeSet<&str> = INVENTORY.iter().map(|(name, ..)| *name).collect();
    assert_eq!(known.len(), INVENTORY.len(), "a table stands there twice");
    let mut unseen: BTreeSet<(&str, String)> = BTreeSet::new();
    for (table, _, treatment) in INVENTORY {
        if let Treatment::Compared(class) = treatment {
            let named = class.without.iter().chain(class.apart);
            let named = named.chain(class.renamed).map(|(column, _)| *column);
            for column in named.chain(class.named_by.iter().copied()) {
                let column = column.split('.').next().unwrap_or(column);
                unseen.insert((table, column.to_lowercase()));
            }
        }
    }
    let mut missing: BTreeSet<&str> = known.clone();
    for kind in KINDS {
        let server = Server::start(kind, &[]);
        let version = version(&server).await;
        let rows: Vec<(String, String, String)> = server
            .rows(
                "",
                "SELECT LOWER(TABLE_SCHEMA), TABLE_NAME, LOWER(COLUMN_NAME) FROM information_schema.COLUMNS
                 WHERE LOWER(TABLE_SCHEMA) IN ('information_schema', 'mysql')",
            )
            .await;
        let mut there: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (schema, table, column) in rows {
            let columns = there.entry(format!("{schema}.{table}")).or_default();
            columns.insert(column);
        }
        for table in there.keys() {
            assert!(known.contains(table.as_str()), "{version} has {table}, which the inventory lacks");
        }
        for (table, on, treatment) in INVENTORY {
            let columns = there.get(*table);
            assert_eq!(columns.is_some(), on.has(version), "whether {version} has {table}");
            let Some(columns) = columns else {
                continue;
            };
            missing.remove(table);
            unseen.retain(|(of, column)| of != table || !columns.contains(column));
            if let Treatment::Compared(class) = treatment {
                for (column, derived, _) in class.derived {
                    let has = columns.contains(&column.to_lowercase());
                    assert!(!(has && derived.has(version)), "{version} has {table}.{column}");
                }
            }
        }
    }
    assert!(missing.is_empty(), "no server has {missing:?}");
    // A check is found by its table, which MySQL has elsewhere.
    unseen.retain(|(table, _)| *table != "information_schema.CHECK_CONSTRAINTS");
    assert!(unseen.is_empty(), "named, and on no server: {unseen:?}");
}

/// What is equal must be called equal, else nobody can cut over.
async fn no_difference_is_seen(source: Kind, target: Kind, script: &str, schemas: &[&str]) {
    let pair = Pair::start(source, target);
    pair.source.run("", script).await;
    let mysql = pair.migration("m", settings(schemas));
    pair.mend(&mysql).await;
    bring_over(&mysql).await;
    assert_eq!(differences(&mysql).await, Vec::<String>::new());
    let left: Vec<String> = pair.target.rows("", "SHOW DATABASES LIKE 'headgate%'").await;
    assert_eq!(left, ["headgate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn between_two_of_mysql_no_difference_is_seen_where_there_is_none() {
    no_difference_is_seen(Kind::Mysql97, Kind::Mysql97, MYSQL_97, &["shop", "ne.xt`door"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn between_two_of_mariadb_no_difference_is_seen_where_there_is_none() {
    no_difference_is_seen(Kind::Mariadb1011, Kind::Mariadb1011, MARIADB, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_mysql_56_no_difference_is_seen_where_there_is_none() {
    no_difference_is_seen(Kind::Mysql56, Kind::Mysql97, MYSQL_56, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_mariadb_to_mysql_no_difference_is_seen_where_there_is_none() {
    const MORE: &str = "CREATE TABLE defaults (id INT PRIMARY KEY, a TEXT DEFAULT '', j JSON DEFAULT '[]',
        d DATETIME DEFAULT (now() + interval 1 day), k INT CHECK (k + 1 > 0), CHECK (id <> k * (2 + 3)),
        g INT AS (id * (2 + 3)) STORED)";
    no_difference_is_seen(Kind::Mariadb1011, Kind::Mysql97, &format!("{MARIADB}{MORE}"), &[]).await;
}

/// The same migration, by accounts that may see the databases that move, and nothing else.
async fn by_poor_accounts(pair: &Pair) -> MysqlDatabase {
    for server in [&pair.source, &pair.target] {
        server
            .run(
                "",
                "CREATE USER poor@'127.0.0.1' IDENTIFIED BY 'p';
                 GRANT SELECT ON shop.* TO poor@'127.0.0.1'",
            )
            .await;
    }
    let endpoint = |server: &Server| {
        let mut endpoint = server.endpoint("shop");
        "poor".clone_into(&mut endpoint.user);
        endpoint.password = Some("p".into());
        endpoint
    };
    MysqlDatabase::new(Mysql::new(
        "m",
        endpoint(&pair.source),
        endpoint(&pair.target),
        Settings::default(),
        Arc::new(migrator::accounts::NoSecrets),
    ))
}

/// What may not be read is no reason to call both sides equal; the grant that is named shows it, and no more.
async fn what_may_not_be_read_is_told(source: Kind, target: Kind) {
    let pair = Pair::start(source, target);
    pair.source
        .run(
            "",
            "CREATE DATABASE shop; USE shop; CREATE TABLE t (a INT PRIMARY KEY) ENGINE = InnoDB;
             CREATE PROCEDURE p() SELECT 1; CREATE VIEW v AS SELECT a FROM t;
             CREATE USER app@'127.0.0.1'; GRANT SELECT ON shop.* TO app@'127.0.0.1'",
        )
        .await;
    let moving = pair.migration("m", Settings::default());
    pair.mend(&moving).await;
    bring_over(&moving).await;
    let poor = by_poor_accounts(&pair).await;
    let before = poor.definitions(&Plan::default()).await.expect("compared");
    for (side, server) in [("source", &pair.source), ("target", &pair.target)] {
        let lead = format!("(cannot be known on the {side}: ");
        let mut seen = 0;
        // What both print differently is found once their texts are seen.
        for _ in 0..2 {
            for found in differences(&poor).await {
                let Some((_, grant)) = found.split_once(&lead) else {
                    continue;
                };
                let grant = grant.trim_end_matches(')');
                server.run("", grant).await;
                seen += 1;
            }
        }
        // Tables of the server's own, the routines, and three privileges on the database.
        let tables = match server.kind {
            Kind::Mysql97 => 10,
            Kind::Mariadb1011 => 9,
            Kind::Mysql56 => 7,
        };
        // Where the versions differ, the target is to print what it makes of the source's.
        let print = usize::from(side == "target" && source == Kind::Mysql56);
        assert_eq!(seen, tables + 4 + print, "{side}");
    }
    assert_eq!(differences(&poor).await, Vec::<String>::new());
    let after = poor.definitions(&Plan::default()).await.expect("compared");
    assert_ne!(before.fingerprint, after.fingerprint);
    // What is not even a right on all of a database shows no other table of the server's own.
    let mut session = pair.source.connect_as("poor", Some("p"), "").await;
    let denied = mysql_async::prelude::Queryable::query_drop(&mut session, "SELECT 1 FROM mysql.help_topic LIMIT 1");
    assert!(denied.await.is_err(), "the grants opened more than they name");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_of_mysql_97_is_told_with_the_least_grant() {
    what_may_not_be_read_is_told(Kind::Mysql97, Kind::Mysql97).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_of_mariadb_is_told_with_the_least_grant() {
    what_may_not_be_read_is_told(Kind::Mariadb1011, Kind::Mariadb1011).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_of_mysql_56_is_told_with_the_least_grant() {
    what_may_not_be_read_is_told(Kind::Mysql56, Kind::Mysql97).await;
}

/// At least one object of every class that MySQL 9.7 has and a migration carries.
const RICH_97: &str = r#"
CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci; USE shop;
CREATE TABLE parents (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40) COLLATE utf8mb4_bin NOT NULL DEFAULT 'it''s' COMMENT 'a name',
    n DECIMAL(12,2), hidden INT INVISIBLE DEFAULT 3, twice DECIMAL(14,2) AS (n * 2) STORED, p POINT NOT NULL SRID 4326, e ENUM('a','b'),
    later DATETIME DEFAULT (NOW() + INTERVAL 1 DAY), j JSON DEFAULT (JSON_ARRAY()), UNIQUE KEY name (name, n), KEY seen (n DESC) INVISIBLE COMMENT 'x',
    KEY low ((LOWER(name))), FULLTEXT KEY words (name), SPATIAL KEY place (p), CONSTRAINT many CHECK (n > 0.5), CHECK (hidden <> 7) NOT ENFORCED) COMMENT 'the parents';
CREATE TABLE children (id INT PRIMARY KEY, parent BIGINT UNSIGNED, CONSTRAINT of_parent FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE SET NULL);
CREATE TABLE days (at DATE NOT NULL PRIMARY KEY, n INT) PARTITION BY RANGE COLUMNS (at)
    (PARTITION old VALUES LESS THAN ('2024-01-01') COMMENT 'past', PARTITION now VALUES LESS THAN (MAXVALUE));
CREATE FUNCTION half(a INT) RETURNS INT DETERMINISTIC COMMENT 'a half' RETURN a / 2;
CREATE PROCEDURE work(IN a INT, OUT b VARCHAR(9)) SQL SECURITY INVOKER SET b = a;
CREATE VIEW named AS SELECT id, name, half(n) h FROM parents WHERE n > 1 WITH CHECK OPTION;
CREATE TRIGGER seen BEFORE INSERT ON children FOR EACH ROW SET NEW.id = NEW.id + 1;
CREATE EVENT tick ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01' COMMENT 'daily' DO SET @a = 1;
CREATE ROLE reader, writer; GRANT SELECT ON shop.* TO reader;
CREATE USER app@'127.0.0.1' IDENTIFIED BY 'x' REQUIRE SSL WITH MAX_USER_CONNECTIONS 7 FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME 2 ATTRIBUTE '{"of": "shop"}';
GRANT reader TO app@'127.0.0.1'; SET DEFAULT ROLE reader TO app@'127.0.0.1';
GRANT INSERT (id), UPDATE ON shop.children TO app@'127.0.0.1'; GRANT EXECUTE ON FUNCTION shop.half TO app@'127.0.0.1';
GRANT PROCESS, BACKUP_ADMIN ON *.* TO app@'127.0.0.1';
CREATE USER shut@'%' ACCOUNT LOCK;
INSERT INTO parents (name, n, p) VALUES ('a', 1, ST_GeomFromText('POINT(1 2)', 4326)), ('b', 2, ST_GeomFromText('POINT(1 2)', 4326))"#;

/// The same of MariaDB 10.11.
const RICH_MARIADB: &str = r"
CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci COMMENT 'the shop'; USE shop;
CREATE TABLE parents (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40) COLLATE utf8mb4_bin NOT NULL DEFAULT 'it''s' COMMENT 'a name',
    n DECIMAL(12,2), hidden INT INVISIBLE DEFAULT 3, twice DECIMAL(14,2) AS (n * 2) STORED, e ENUM('a','b'),
    later DATETIME DEFAULT (NOW() + INTERVAL 1 DAY), j JSON DEFAULT '[]', UNIQUE KEY name (name, n), KEY seen (n) IGNORED COMMENT 'x',
    FULLTEXT KEY words (name), CONSTRAINT many CHECK (n > 0.5)) COMMENT 'the parents';
CREATE TABLE children (id INT PRIMARY KEY, parent BIGINT UNSIGNED, CONSTRAINT of_parent FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE SET NULL);
CREATE TABLE days (at DATE NOT NULL PRIMARY KEY, n INT) PARTITION BY RANGE COLUMNS (at)
    (PARTITION old VALUES LESS THAN ('2024-01-01'), PARTITION now VALUES LESS THAN (MAXVALUE));
CREATE FUNCTION half(a INT) RETURNS INT DETERMINISTIC COMMENT 'a half' RETURN a / 2;
CREATE PROCEDURE work(IN a INT, OUT b VARCHAR(9)) SQL SECURITY INVOKER SET b = a;
CREATE VIEW named AS SELECT id, name, half(n) h FROM parents WHERE n > 1 WITH CHECK OPTION;
CREATE TRIGGER seen BEFORE INSERT ON children FOR EACH ROW SET NEW.id = NEW.id + 1;
CREATE EVENT tick ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01' COMMENT 'daily' DO SET @a = 1;
CREATE ROLE reader; CREATE ROLE writer; GRANT SELECT ON shop.* TO reader;
CREATE USER app@'127.0.0.1' IDENTIFIED BY 'x' REQUIRE SSL WITH MAX_USER_CONNECTIONS 7;
GRANT reader TO app@'127.0.0.1'; SET DEFAULT ROLE reader FOR app@'127.0.0.1';
GRANT INSERT (id), UPDATE ON shop.children TO app@'127.0.0.1'; GRANT EXECUTE ON FUNCTION shop.half TO app@'127.0.0.1';
GRANT PROCESS ON *.* TO app@'127.0.0.1';
CREATE USER shut@'%' ACCOUNT LOCK;
CREATE SEQUENCE round START 5 MINVALUE 2 MAXVALUE 99 INCREMENT 3 CACHE 7 CYCLE";

/// Statements that change a definition, what names it then, and how it is undone.
const CHANGES: &[(&str, &str, &str)] = &[
    ("CREATE VIEW v AS SELECT 1 AS one", "view `shop`.`v`", "DROP VIEW v"),
    (
        "ALTER VIEW named AS SELECT id, name, half(n) h FROM parents WHERE n > 2 WITH CHECK OPTION",
        "view `shop`.`named`",
        "ALTER VIEW named AS SELECT id, name, half(n) h FROM parents WHERE n > 1 WITH CHECK OPTION",
    ),
    (
        "ALTER SQL SECURITY INVOKER VIEW named AS SELECT id, name, half(n) h FROM parents WHERE n > 1 WITH CHECK OPTION",
        "view `shop`.`named`",
        "ALTER SQL SECURITY DEFINER VIEW named AS SELECT id, name, half(n) h FROM parents WHERE n > 1 WITH CHECK OPTION",
    ),
    ("CREATE TABLE extra (a INT PRIMARY KEY)", "table `shop`.`extra`", "DROP TABLE extra"),
    (
        "ALTER TABLE parents ALTER name SET DEFAULT 'its'",
        "column `shop`.`parents`.`name`",
        "ALTER TABLE parents ALTER name SET DEFAULT 'it''s'",
    ),
    (
        "ALTER TABLE parents MODIFY n DECIMAL(12,2) COMMENT 'much'",
        "column `shop`.`parents`.`n`",
        "ALTER TABLE parents MODIFY n DECIMAL(12,2)",
    ),
    (
        "ALTER TABLE children MODIFY parent BIGINT UNSIGNED AFTER id, ADD more INT FIRST",
        "column `shop`.`children`",
        "ALTER TABLE children DROP more",
    ),
    ("ALTER TABLE parents COMMENT 'others'", "table `shop`.`parents`", "ALTER TABLE parents COMMENT 'the parents'"),
    ("CREATE INDEX late ON children (id, parent)", "index `shop`.`children`.`late`", "DROP INDEX late ON children"),
    (
        "ALTER TABLE parents DROP CONSTRAINT many, ADD CONSTRAINT many CHECK (n > 0.25)",
        "check `shop`.`parents`.`many`",
        "ALTER TABLE parents DROP CONSTRAINT many, ADD CONSTRAINT many CHECK (n > 0.5)",
    ),
    (
        "ALTER TABLE children DROP FOREIGN KEY of_parent",
        "foreign key `shop`.`children`.`of_parent`",
        "ALTER TABLE children ADD CONSTRAINT of_parent FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE SET NULL",
    ),
    (
        "ALTER TABLE days REORGANIZE PARTITION now INTO (PARTITION now VALUES LESS THAN ('2030-01-01'), PARTITION more VALUES LESS THAN (MAXVALUE))",
        "partition `shop`.`days`",
        "ALTER TABLE days REORGANIZE PARTITION now, more INTO (PARTITION now VALUES LESS THAN (MAXVALUE))",
    ),
    ("ALTER PROCEDURE work SQL SECURITY DEFINER", "routine `shop`.`work`", "ALTER PROCEDURE work SQL SECURITY INVOKER"),
    (
        "DROP FUNCTION half",
        "routine `shop`.`half`",
        "CREATE FUNCTION half(a INT) RETURNS INT DETERMINISTIC COMMENT 'a half' RETURN a / 2; GRANT EXECUTE ON FUNCTION shop.half TO app@'127.0.0.1'",
    ),
    (
        "ALTER EVENT tick ON SCHEDULE EVERY 2 DAY STARTS '2037-01-01'",
        "event `shop`.`tick`",
        "ALTER EVENT tick ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01'",
    ),
    ("ALTER DATABASE shop COLLATE utf8mb4_bin", "database `shop`", "ALTER DATABASE shop COLLATE DEFAULT"),
    ("CREATE USER other@'%' ACCOUNT LOCK", "account `other`@`%`", "DROP USER other@'%'"),
    (
        "ALTER USER app@'127.0.0.1' WITH MAX_USER_CONNECTIONS 8",
        "account `app`@`127.0.0.1`",
        "ALTER USER app@'127.0.0.1' WITH MAX_USER_CONNECTIONS 7",
    ),
    ("ALTER USER app@'127.0.0.1' REQUIRE NONE", "account `app`@`127.0.0.1`", "ALTER USER app@'127.0.0.1' REQUIRE SSL"),
    ("ALTER USER shut@'%' ACCOUNT UNLOCK", "account `shut`@`%`", "ALTER USER shut@'%' ACCOUNT LOCK"),
    ("GRANT DELETE ON shop.* TO reader", "grants of `reader`@`%`", "REVOKE DELETE ON shop.* FROM reader"),
    (
        "REVOKE UPDATE ON shop.children FROM app@'127.0.0.1'",
        "grants of `app`@`127.0.0.1`",
        "GRANT UPDATE ON shop.children TO app@'127.0.0.1'",
    ),
    (
        "GRANT UPDATE (parent) ON shop.children TO app@'127.0.0.1'",
        "grants of `app`@`127.0.0.1`",
        "REVOKE UPDATE (parent) ON shop.children FROM app@'127.0.0.1'",
    ),
    (
        "GRANT ALTER ROUTINE ON FUNCTION shop.half TO app@'127.0.0.1'",
        "grants of `app`@`127.0.0.1`",
        "REVOKE ALTER ROUTINE ON FUNCTION shop.half FROM app@'127.0.0.1'",
    ),
    (
        "GRANT RELOAD ON *.* TO app@'127.0.0.1'",
        "account `app`@`127.0.0.1`",
        "REVOKE RELOAD ON *.* FROM app@'127.0.0.1'",
    ),
    ("GRANT writer TO app@'127.0.0.1'", "roles of `app`@`127.0.0.1`", "REVOKE writer FROM app@'127.0.0.1'"),
    (
        "GRANT PROXY ON shut@'%' TO app@'127.0.0.1'",
        "proxies of `app`@`127.0.0.1`",
        "REVOKE PROXY ON shut@'%' FROM app@'127.0.0.1'",
    ),
    (
        "CREATE SERVER far FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'h', USER 'u', PASSWORD 'p')",
        "server `far`",
        "DROP SERVER far",
    ),
];
const CHANGES_97: &[(&str, &str, &str)] = &[
    (
        "ALTER TABLE parents ALTER COLUMN hidden SET VISIBLE",
        "column `shop`.`parents`.`hidden`",
        "ALTER TABLE parents ALTER COLUMN hidden SET INVISIBLE",
    ),
    (
        "ALTER TABLE parents ALTER CHECK many NOT ENFORCED",
        "constraint `shop`.`parents`.`many`",
        "ALTER TABLE parents ALTER CHECK many ENFORCED",
    ),
    (
        "ALTER TABLE parents ALTER INDEX seen VISIBLE",
        "index `shop`.`parents`.`seen`",
        "ALTER TABLE parents ALTER INDEX seen INVISIBLE",
    ),
    (
        "ALTER USER app@'127.0.0.1' ATTRIBUTE '{\"of\": \"other\"}'",
        "account `app`@`127.0.0.1`",
        "ALTER USER app@'127.0.0.1' ATTRIBUTE '{\"of\": \"shop\"}'",
    ),
    (
        "ALTER USER app@'127.0.0.1' FAILED_LOGIN_ATTEMPTS 4",
        "account `app`@`127.0.0.1`",
        "ALTER USER app@'127.0.0.1' FAILED_LOGIN_ATTEMPTS 3",
    ),
    (
        "GRANT FLUSH_TABLES ON *.* TO app@'127.0.0.1'",
        "grants of `app`@`127.0.0.1`",
        "REVOKE FLUSH_TABLES ON *.* FROM app@'127.0.0.1'",
    ),
    (
        "SET DEFAULT ROLE NONE TO app@'127.0.0.1'",
        "default roles of `app`@`127.0.0.1`",
        "SET DEFAULT ROLE reader TO app@'127.0.0.1'",
    ),
    (
        "CREATE LIBRARY lib LANGUAGE JAVASCRIPT AS 'export function f(n) { return n }'",
        "library `shop`.`lib`",
        "DROP LIBRARY lib",
    ),
    (
        "ANALYZE TABLE parents UPDATE HISTOGRAM ON n WITH 5 BUCKETS",
        "histogram `shop`.`parents`.`n`",
        "ANALYZE TABLE parents DROP HISTOGRAM ON n",
    ),
    (
        "CREATE SPATIAL REFERENCE SYSTEM 4120000 NAME 'own' DEFINITION 'GEOGCS[\"own\",DATUM[\"own\",SPHEROID[\"own\",6378137,298.25]],PRIMEM[\"Greenwich\",0],UNIT[\"degree\",0.017453292519943278],AXIS[\"Lat\",NORTH],AXIS[\"Lon\",EAST]]'",
        "spatial reference system `4120000`",
        "DROP SPATIAL REFERENCE SYSTEM 4120000",
    ),
];
const CHANGES_MARIADB: &[(&str, &str, &str)] = &[
    (
        "ALTER TABLE parents MODIFY hidden INT DEFAULT 3",
        "column `shop`.`parents`.`hidden`",
        "ALTER TABLE parents MODIFY hidden INT INVISIBLE DEFAULT 3",
    ),
    (
        "ALTER TABLE parents ALTER INDEX seen NOT IGNORED",
        "index `shop`.`parents`.`seen`",
        "ALTER TABLE parents ALTER INDEX seen IGNORED",
    ),
    (
        "SET DEFAULT ROLE NONE FOR app@'127.0.0.1'",
        "account `app`@`127.0.0.1`",
        "SET DEFAULT ROLE reader FOR app@'127.0.0.1'",
    ),
    ("ALTER DATABASE shop COMMENT 'a shop'", "database `shop`", "ALTER DATABASE shop COMMENT 'the shop'"),
    ("CREATE SEQUENCE seq INCREMENT 5", "table `shop`.`seq`", "DROP SEQUENCE seq"),
    ("ALTER SEQUENCE round START 6", "sequence `shop`.`round`", "ALTER SEQUENCE round START 5"),
    ("ALTER SEQUENCE round MINVALUE 1", "sequence `shop`.`round`", "ALTER SEQUENCE round MINVALUE 2"),
    ("ALTER SEQUENCE round MAXVALUE 98", "sequence `shop`.`round`", "ALTER SEQUENCE round MAXVALUE 99"),
    ("ALTER SEQUENCE round INCREMENT 4", "sequence `shop`.`round`", "ALTER SEQUENCE round INCREMENT 3"),
    ("ALTER SEQUENCE round CACHE 8", "sequence `shop`.`round`", "ALTER SEQUENCE round CACHE 7"),
    ("ALTER SEQUENCE round NOCYCLE", "sequence `shop`.`round`", "ALTER SEQUENCE round CYCLE"),
];

async fn every_change_is_seen_and_named(kind: Kind, script: &str, more: &[(&str, &str, &str)]) {
    let pair = Pair::start(kind, kind);
    pair.source.run("", script).await;
    let mysql = pair.migration("m", Settings::default());
    pair.mend(&mysql).await;
    bring_over(&mysql).await;
    assert_eq!(differences(&mysql).await, Vec::<String>::new());
    let mut stamp = Stamp::open(&mysql).await.expect("opened");
    let quiet = stamp.read().await.expect("read");
    // What comes and goes by itself is no change, and needs no reading.
    for harmless in [
        "UPDATE parents SET n = n + 1",
        "BEGIN; DELETE FROM children; ROLLBACK",
        "CALL work(1, @b)",
        "SET @a = 1",
        "SHOW TABLES",
    ] {
        pair.source.run("shop", harmless).await;
        assert_eq!(stamp.read().await.expect("read"), quiet, "{harmless}");
        assert!(stamp.was_quick(), "{harmless}");
    }
    pair.source.run("shop", "CREATE TEMPORARY TABLE passing (a INT PRIMARY KEY)").await;
    assert_eq!(stamp.read().await.expect("read"), quiet);
    for (change, object, undo) in CHANGES.iter().chain(more) {
        let collation = if kind == Kind::Mysql97 { "utf8mb4_0900_ai_ci" } else { "utf8mb4_general_ci" };
        let undo = undo.replace("COLLATE DEFAULT", &format!("COLLATE {collation}"));
        for (side, server) in [("source", &pair.source), ("target", &pair.target)] {
            let before = stamp.read().await.expect("read");
            server.run("shop", change).await;
            let after = stamp.read().await.expect("read");
            assert!(!stamp.was_quick(), "{change} on the {side} was not counted");
            let found = differences(&mysql).await;
            // What nobody names on the target harms nobody there.
            let harmless = ["server ", "spatial ", "account `other`"];
            let harmless = side == "target" && harmless.iter().any(|lead| object.starts_with(lead));
            if !harmless {
                let named = before.changes(&after);
                assert!(
                    named.iter().any(|text| text.starts_with(object) && text.ends_with(side)),
                    "{change} on the {side}: {named:?}"
                );
                assert!(found.iter().any(|text| text.starts_with(object)), "{change} on the {side}: {found:?}");
            }
            server.run("shop", &undo).await;
            let left = differences(&mysql).await;
            assert!(left.is_empty(), "after {change} and {undo} on the {side}: {left:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_class_of_mysql_arrives_and_every_change_of_one_is_seen_and_named() {
    every_change_is_seen_and_named(Kind::Mysql97, RICH_97, CHANGES_97).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_class_of_mariadb_arrives_and_every_change_of_one_is_seen_and_named() {
    every_change_is_seen_and_named(Kind::Mariadb1011, RICH_MARIADB, CHANGES_MARIADB).await;
}

/// Both ways to look, one after the other, and the middle of each one's times.
async fn times_of(kind: Kind, tables: usize) -> (Duration, Duration) {
    let pair = Pair::start(kind, kind);
    for server in [&pair.source, &pair.target] {
        let mut script = "CREATE DATABASE shop; USE shop;".to_owned();
        for number in 0..tables {
            let _ = write!(
                script,
                "CREATE TABLE t{number} (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, a INT NOT NULL DEFAULT 1,
                 b VARCHAR(50), c DATETIME, d DECIMAL(10,2), KEY (a), KEY (b, c)) ENGINE = InnoDB;"
            );
        }
        server.run("", &script).await;
    }
    let mysql = pair.migration("m", Settings::default());
    let mut stamp = Stamp::open(&mysql).await.expect("opened");
    let quiet = stamp.read().await.expect("read");
    let (mut full, mut quick) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        // Every definition is read where something was counted.
        pair.source.run("", "FLUSH STATUS; ANALYZE TABLE shop.t0").await;
        let began = Instant::now();
        let now = stamp.read().await.expect("read");
        full.push(began.elapsed());
        assert!(!stamp.was_quick() && now == quiet);
        let began = Instant::now();
        assert!(stamp.stands().await.expect("asked"));
        quick.push(began.elapsed());
    }
    full.sort();
    quick.sort();
    (full[4], quick[4])
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_was_counted_the_look_inside_the_hold_is_quick() {
    let (full, quick) = times_of(Kind::Mysql97, 100).await;
    assert!(quick < full, "{quick:?}, and {full:?} where all is read");
    assert!(quick < Duration::from_millis(20), "{quick:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, which takes minutes"]
async fn the_look_inside_the_hold_of_every_server_at_100_and_1000_tables() {
    for kind in KINDS {
        for tables in [100, 1000] {
            let (full, quick) = times_of(kind, tables).await;
            println!("{kind:?}, {tables} tables: all is read {full:?}, counters alone {quick:?}");
        }
    }
}

/// What the source's and the target's accounts have beside tables, and what is told of tables, comes along.
#[tokio::test(flavor = "multi_thread")]
async fn what_mysql_has_beside_tables_and_programs_arrives() {
    let pair = Pair::start(Kind::Mysql97, Kind::Mysql97);
    pair.source
        .run(
            "",
            "CREATE DATABASE shop; USE shop; CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(9));
             INSERT INTO t VALUES (1, 1, 'x'), (2, 2, 'y');
             ANALYZE TABLE t UPDATE HISTOGRAM ON a WITH 7 BUCKETS; ANALYZE TABLE t UPDATE HISTOGRAM ON b WITH 9 BUCKETS AUTO UPDATE;
             CREATE LIBRARY lib COMMENT 'functions' LANGUAGE JAVASCRIPT AS 'export function f(n) { return n }';
             CREATE FUNCTION g(n INT) RETURNS INT DETERMINISTIC LANGUAGE JAVASCRIPT USING (lib) AS 'return lib.f(n)';
             CREATE USER twice@'%' IDENTIFIED BY 'old'; ALTER USER twice@'%' IDENTIFIED BY 'new' RETAIN CURRENT PASSWORD;
             CREATE USER plain@'%' ACCOUNT LOCK; GRANT PROXY ON plain@'%' TO twice@'%' WITH GRANT OPTION;
             CREATE SERVER far FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'it''s', USER 'u', PASSWORD 'p', PORT 3307, DATABASE 'd')",
        )
        .await;
    let mysql = pair.migration("m", Settings::default());
    pair.mend(&mysql).await;
    bring_over(&mysql).await;
    assert_eq!(differences(&mysql).await, Vec::<String>::new());
    for password in ["old", "new"] {
        let session = pair.target.try_connect_as("twice", Some(password), "").await;
        assert!(session.is_ok(), "{password}: {session:?}");
    }
    assert!(pair.target.try_connect_as("twice", Some("other"), "").await.is_err());
    let verdicts = mysql.accounts().await.expect("judged");
    let proved = |verdict: &Verdict| matches!(verdict, Verdict::Proved(_));
    assert!(verdicts.iter().all(|one| proved(&one.verdict)), "{verdicts:?}");
    for (query, expected) in [
        (
            "SELECT CONCAT(COLUMN_NAME, HISTOGRAM -> '$.\"number-of-buckets-specified\"', HISTOGRAM -> '$.\"auto-update\"')
             FROM information_schema.COLUMN_STATISTICS WHERE SCHEMA_NAME = 'shop' ORDER BY 1",
            &["a7false", "b9true"][..],
        ),
        ("SELECT CONCAT(Server_name, Host, Username, Password, Port, Db) FROM mysql.servers", &["farit'sup3307d"]),
        ("SELECT LIBRARY_COMMENT FROM information_schema.LIBRARIES", &["functions"]),
        ("SELECT LIBRARY_NAME FROM information_schema.ROUTINE_LIBRARIES", &["lib"]),
        ("SELECT CONCAT(User, Proxied_user, With_grant) FROM mysql.proxies_priv WHERE User = 'twice'", &["twiceplain1"]),
    ] {
        assert_eq!(pair.target.rows::<String>("", query).await, expected, "{query}");
    }
    // A second password that is gone from the source is a change.
    let before = mysql.definitions_stamp().await.expect("read");
    pair.source.run("", "ALTER USER twice@'%' DISCARD OLD PASSWORD").await;
    assert_ne!(mysql.definitions_stamp().await.expect("read"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_that_mariadb_keeps_in_tables_are_made_anew_and_a_server_arrives() {
    let pair = Pair::start(Kind::Mariadb1011, Kind::Mariadb1011);
    pair.source
        .run(
            "",
            "CREATE DATABASE shop; USE shop; CREATE TABLE t (id INT PRIMARY KEY, a INT); CREATE TABLE u (id INT PRIMARY KEY);
             CREATE SERVER far FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'h', USER 'u', PASSWORD 'p');
             CREATE USER low@'%' ACCOUNT LOCK; CREATE USER high@'%' ACCOUNT LOCK; GRANT PROXY ON low@'%' TO high@'%'",
        )
        .await;
    let _: Vec<mysql_async::Row> = pair.source.rows("shop", "ANALYZE TABLE t PERSISTENT FOR ALL").await;
    let mysql = pair.migration("m", Settings::default());
    pair.mend(&mysql).await;
    bring_over(&mysql).await;
    assert_eq!(differences(&mysql).await, Vec::<String>::new());
    let kept = "SELECT table_name FROM mysql.table_stats WHERE db_name = 'shop'";
    assert_eq!(pair.target.rows::<String>("", kept).await, ["t"]);
    let servers = "SELECT CONCAT(Server_name, Host, Password) FROM mysql.servers";
    assert_eq!(pair.target.rows::<String>("", servers).await, ["farhp"]);
}

/// What is not carried is named before anything begins, and what ends it was run.
#[tokio::test(flavor = "multi_thread")]
async fn what_stays_behind_is_named_and_its_remedy_ends_the_finding() {
    let pair = Pair::start(Kind::Mysql97, Kind::Mysql97);
    pair.source
        .run(
            "",
            "CREATE DATABASE shop; USE shop; CREATE TABLESPACE ts ADD DATAFILE 'ts.ibd';
             CREATE TABLE t (id INT PRIMARY KEY) TABLESPACE ts;
             CREATE RESOURCE GROUP rg TYPE = USER VCPU = 0 THREAD_PRIORITY = 0 DISABLE;
             INSTALL COMPONENT 'file://component_query_attributes';
             CREATE USER app@'%' IDENTIFIED BY 'x' PASSWORD HISTORY 3;
             UPDATE mysql.server_cost SET cost_value = 0.25 WHERE cost_name = 'row_evaluate_cost';
             INSERT INTO mysql.engine_cost (engine_name, device_type, cost_name, cost_value) VALUES ('InnoDB', 0, 'io_block_read_cost', 3);
             ALTER DATABASE shop READ ONLY = 1",
        )
        .await;
    let mysql = pair.migration("m", Settings::default());
    pair.mend(&mysql).await;
    let found = async |name| found(&mysql, name).await;
    for (name, count, evidence, server) in [
        ("read_only_databases", 1, "the database shop is READ ONLY, and will take writes on the target", &pair.source),
        (
            "tablespaces",
            1,
            "`shop`.`t` is in a tablespace with others, and gets a file of its own on the target",
            &pair.source,
        ),
        ("resource_groups", 1, "the resource group rg is not on the target", &pair.target),
        (
            "plugins",
            1,
            "the component file://component_query_attributes is installed on the source and not on the target",
            &pair.target,
        ),
        (
            "optimizer_costs",
            2,
            "mysql.server_cost has another cost than the target: 'row_evaluate_cost', 0.25",
            &pair.target,
        ),
    ] {
        let before = found(name).await;
        assert_eq!(before.len(), count, "{before:?}");
        assert_eq!(before[0].0, evidence);
        for (_, fix) in before {
            server.run("", &fix).await;
        }
        assert_eq!(found(name).await, [], "{name}");
    }
    let history = found("password_history").await;
    assert_eq!(
        history[0].0,
        "1 earlier passwords that accounts may not use again (PASSWORD HISTORY, PASSWORD REUSE INTERVAL) are not carried over"
    );
}

/// A class that is reported by a check is reported by one that there is.
#[tokio::test(flavor = "multi_thread")]
async fn every_check_that_the_inventory_names_is_run() {
    let mut run = BTreeSet::new();
    for (source, target) in
        [(Kind::Mysql97, Kind::Mysql97), (Kind::Mariadb1011, Kind::Mysql97), (Kind::Mariadb1011, Kind::Mariadb1011)]
    {
        let pair = Pair::start(source, target);
        pair.source.run("", "CREATE DATABASE shop").await;
        let checks = pair.migration("m", Settings::default()).preflight().await;
        run.extend(checks.expect("it runs").into_iter().map(|check| check.name));
    }
    for (table, _, treatment) in INVENTORY {
        if let Treatment::Reported(check) = treatment {
            assert!(run.contains(*check), "{table} is reported by {check}, which is not among {run:?}");
        }
    }
}

/// A program means what it meant where it was made: the character set of its text, the modes, and the collation that its
/// database had then.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_keeps_the_character_set_of_its_text_and_the_collation_of_its_database() {
    for (source, target) in [
        (Kind::Mysql97, Kind::Mysql97),
        (Kind::Mysql56, Kind::Mysql97),
        (Kind::Mariadb1011, Kind::Mysql97),
        (Kind::Mariadb1011, Kind::Mariadb1011),
    ] {
        let pair = Pair::start(source, target);
        pair.source
            .run(
                "",
                "CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_bin; USE shop; CREATE TABLE t (a INT PRIMARY KEY) ENGINE = InnoDB;
                 CREATE FUNCTION earlier() RETURNS VARCHAR(9) DETERMINISTIC RETURN 'a';
                 ALTER DATABASE shop COLLATE utf8mb4_general_ci; SET NAMES latin1;
                 CREATE FUNCTION odd() RETURNS VARCHAR(9) CHARACTER SET utf8mb4 DETERMINISTIC RETURN '\u{fc}';
                 CREATE VIEW v AS SELECT '\u{e9}' AS x; CREATE EVENT e ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01' DO SET @a = '\u{e4}'",
            )
            .await;
        let mysql = pair.migration("m", Settings::default());
        pair.mend(&mysql).await;
        bring_over(&mysql).await;
        assert_eq!(differences(&mysql).await, Vec::<String>::new(), "{source:?}");
        let reported = "SELECT CONCAT_WS(' ', ROUTINE_NAME, CHARACTER_SET_CLIENT, DATABASE_COLLATION)
            FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'shop' ORDER BY 1";
        let there: Vec<String> = pair.source.rows("", reported).await;
        assert_eq!(pair.target.rows::<String>("", reported).await, there, "{source:?}");
        assert!(there[1].starts_with("odd latin1 utf8mb4_general_ci"), "{there:?}");
        let value = "SELECT HEX(odd())";
        let there: Vec<String> = pair.source.rows("shop", value).await;
        assert_eq!(pair.target.rows::<String>("shop", value).await, there, "{source:?}");
        let now = "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'shop'";
        assert_eq!(pair.target.rows::<String>("", now).await, ["utf8mb4_general_ci"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_under_way_with_any_character_keeps_nobody_from_comparing() {
    for kind in KINDS {
        let pair = Pair::start(kind, kind);
        pair.source.run("", "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY)").await;
        pair.target.run("", "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY)").await;
        let mut session = pair.source.connect_as("root", None, "").await;
        let number: u32 = session.query_first("SELECT CONNECTION_ID()").await.expect("it answers").expect("a number");
        session.query_drop("SET NAMES utf8mb4").await.expect("set");
        let running = tokio::spawn(async move {
            // It is ended below.
            let _ = session.query_drop(format!("SELECT SLEEP(60), '\u{1F9C0}ÿ{}'", "xy ".repeat(1_000_000))).await;
        });
        let seen =
            format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {number} AND COMMAND = 'Query'");
        let mut watching = pair.source.connect("").await;
        // MySQL shows nothing of any session while such a statement runs.
        let there = |count: Result<Option<u64>, _>| count.is_err() || count.is_ok_and(|count| count == Some(1));
        while !there(watching.query_first(&seen).await) {}
        let mysql = pair.migration("m", settings(&["shop"]));
        differences(&mysql).await;
        pair.source.run("", &format!("KILL {number}")).await;
        running.await.expect("it ends");
    }
}

/// Of every option an account that the target lacks and one that it has already, without the option.
async fn what_accounts_demand(source: Kind, target: Kind, options: &[&str]) -> (Pair, MysqlDatabase) {
    let pair = Pair::start(source, target);
    pair.source.run("", "CREATE DATABASE shop; CREATE TABLE shop.t (a INT PRIMARY KEY) ENGINE = InnoDB").await;
    for (number, option) in options.iter().enumerate() {
        for name in ["new", "had"] {
            let account = format!("{name}{number}@'%'");
            let create = format!("CREATE USER {account}");
            pair.source.run("", &create).await;
            if name == "had" {
                pair.target.run("", &create).await;
            }
            pair.source.run("", &option.replace("{}", &account)).await;
        }
    }
    let mysql = pair.migration("m", Settings::default());
    pair.mend(&mysql).await;
    let found = async |name| found(&mysql, name).await;
    let timed = found("account_statement_time").await;
    let crosses = source == Kind::Mariadb1011 && target == Kind::Mysql97;
    assert_eq!(timed.len(), if crosses { 2 } else { 0 }, "{timed:?}");
    for (_, fix) in timed {
        pair.source.run("", &fix).await;
    }
    assert_eq!(found("account_statement_time").await, []);
    let differing = found("account_options").await;
    assert!(
        differing.len() >= options.len() - usize::from(crosses)
            && differing.iter().all(|(evidence, _)| evidence.starts_with("`had")),
        "{differing:#?}"
    );
    for (_, fix) in differing {
        pair.target.run("", &fix).await;
    }
    assert_eq!(found("account_options").await, []);
    bring_over(&mysql).await;
    assert_eq!(differences(&mysql).await, Vec::<String>::new());
    let query =
        "SELECT CONCAT_WS('|', User, ssl_type, ssl_cipher, x509_issuer, x509_subject, max_questions, max_updates,
            max_connections, max_user_connections, password_expired)
        FROM mysql.user WHERE User LIKE 'new%' OR User LIKE 'had%' ORDER BY User";
    let there: Vec<String> = pair.source.rows("", query).await;
    assert_eq!(there.len(), options.len() * 2);
    assert_eq!(pair.target.rows::<String>("", query).await, there);
    (pair, mysql)
}

const DEMANDS: [&str; 5] = [
    "GRANT USAGE ON *.* TO {} REQUIRE SSL",
    "GRANT USAGE ON *.* TO {} REQUIRE X509",
    "GRANT USAGE ON *.* TO {} REQUIRE ISSUER '/O=it''s/CN=ca' AND SUBJECT '/CN=app' AND CIPHER 'AES128-SHA'",
    "GRANT USAGE ON *.* TO {} WITH MAX_QUERIES_PER_HOUR 5 MAX_UPDATES_PER_HOUR 6 MAX_CONNECTIONS_PER_HOUR 7 MAX_USER_CONNECTIONS 8",
    "ALTER USER {} PASSWORD EXPIRE",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_accounts_of_mysql_56_demand_comes_to_mysql_97() {
    what_accounts_demand(Kind::Mysql56, Kind::Mysql97, &DEMANDS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_accounts_of_mariadb_demand_comes_to_mysql_97_and_to_mariadb() {
    const MORE: [&str; 6] = [
        "ALTER USER {} ACCOUNT LOCK",
        "ALTER USER {} PASSWORD EXPIRE NEVER",
        "ALTER USER {} PASSWORD EXPIRE INTERVAL 9 DAY",
        "ALTER USER {} PASSWORD EXPIRE INTERVAL 9 DAY; ALTER USER {} PASSWORD EXPIRE",
        "ALTER USER {} REQUIRE SSL WITH MAX_USER_CONNECTIONS 3 ACCOUNT LOCK PASSWORD EXPIRE",
        "GRANT USAGE ON *.* TO {} WITH MAX_STATEMENT_TIME 2.5",
    ];
    let all = [&DEMANDS[..], &MORE[..]].concat();
    for target in [Kind::Mysql97, Kind::Mariadb1011] {
        let (pair, mysql) = what_accounts_demand(Kind::Mariadb1011, target, &all).await;
        // Neither family's table has these where the other's has them.
        let undo = "ALTER USER new5@'%' ACCOUNT UNLOCK; ALTER USER new6@'%' PASSWORD EXPIRE DEFAULT;
            ALTER USER new7@'%' PASSWORD EXPIRE INTERVAL 8 DAY";
        pair.target.run("", undo).await;
        let found = differences(&mysql).await;
        for account in ["account `new5`", "account `new6`", "account `new7`"] {
            assert!(found.iter().any(|one| one.starts_with(account)), "{found:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_accounts_of_mysql_97_demand_comes_to_mysql_97() {
    const ALL: [&str; 15] = [
        "ALTER USER {} REQUIRE SSL",
        "ALTER USER {} REQUIRE X509",
        "ALTER USER {} REQUIRE ISSUER '/O=it''s/CN=ca' AND SUBJECT '/CN=app' AND CIPHER 'AES128-SHA'",
        "ALTER USER {} WITH MAX_QUERIES_PER_HOUR 5 MAX_UPDATES_PER_HOUR 6 MAX_CONNECTIONS_PER_HOUR 7 MAX_USER_CONNECTIONS 8",
        "ALTER USER {} PASSWORD EXPIRE",
        "ALTER USER {} PASSWORD EXPIRE NEVER",
        "ALTER USER {} PASSWORD EXPIRE INTERVAL 9 DAY; ALTER USER {} PASSWORD EXPIRE",
        "ALTER USER {} ACCOUNT LOCK",
        "ALTER USER {} PASSWORD HISTORY 3",
        "ALTER USER {} PASSWORD REUSE INTERVAL 30 DAY",
        "ALTER USER {} PASSWORD REQUIRE CURRENT",
        "ALTER USER {} PASSWORD REQUIRE CURRENT OPTIONAL",
        "ALTER USER {} FAILED_LOGIN_ATTEMPTS 4 PASSWORD_LOCK_TIME UNBOUNDED",
        "ALTER USER {} ATTRIBUTE '{\"of\": \"it''s\"}'",
        "ALTER USER {} REQUIRE SSL WITH MAX_USER_CONNECTIONS 3 PASSWORD EXPIRE INTERVAL 9 DAY ACCOUNT LOCK",
    ];
    what_accounts_demand(Kind::Mysql97, Kind::Mysql97, &ALL).await;
}
