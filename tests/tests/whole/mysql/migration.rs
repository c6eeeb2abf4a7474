//! A migration copies everything, follows every change, proves both sides equal, and says no before it touches anything.

use tests::headgate::{Engine, Headgate};
use tests::mysql::{Mysql, Pair, Record};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, World, mysql_clusters, numbers};

use super::compare::until_alike;

for_every_pair! {
    rows_of_every_type_are_copied_and_every_kind_of_change_follows,
    a_difference_on_the_target_is_found_by_the_check,
    a_source_that_does_not_log_rows_is_refused_with_the_remedy_and_its_fix_lets_the_migration_start,
    a_target_that_has_the_tables_is_refused_and_left_as_it_is,
    a_table_without_a_key_is_named_and_follows_row_by_row,
    a_target_that_cannot_be_reached_is_told_and_nothing_is_touched,
    a_dropped_migration_leaves_nothing_behind_on_either_side,
    a_changed_definition_of_a_table_stops_the_migration_with_a_remedy,
    every_row_fires_its_triggers_once_before_and_after_the_switch,
    events_run_on_one_side_only,
}

/// What real schemas have and every server knows.
fn schema() -> String {
    format!(
        "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO', time_zone = '+03:00', NAMES utf8mb4;
CREATE TABLE everything (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, tiny TINYINT, few_tiny TINYINT UNSIGNED, small SMALLINT,
    medium MEDIUMINT, whole INT, counted INT UNSIGNED ZEROFILL, big BIGINT, huge BIGINT UNSIGNED, exact DECIMAL(40,20),
    `single` FLOAT, `double` DOUBLE, bits BIT(13), flag BOOL, words TEXT CHARACTER SET utf8mb4,
    west VARCHAR(50) CHARACTER SET latin1, few VARCHAR(20), fixed CHAR(5), raw_fixed BINARY(4), raw VARBINARY(300), blobs BLOB,
    large MEDIUMBLOB, day DATE, moment TIME(6), at_time DATETIME(6), stamp TIMESTAMP(3) NULL, year_of YEAR,
    feeling ENUM('sad','ok','it''s'), feelings SET('a','b','c','d'), place POINT, area GEOMETRY,
    KEY (whole, few), UNIQUE KEY (big), KEY (words(10)), KEY (huge)) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
INSERT INTO everything (tiny, few_tiny, small, medium, whole, counted, big, huge, exact, `single`, `double`, bits, flag, words,
    west, few, fixed, raw_fixed, raw, blobs, large, day, moment, at_time, stamp, year_of, feeling, feelings, place, area)
SELECT n % 128, n % 256, -n, n * 1000, n * -7, n, n * 1000000007, 18446744073709551615 - n, n / 7, n / 3, n / 3e-300, n % 8192,
    n % 2, REPEAT('é🙂', n % 60), 'Zürich ÿ', 'few\\'\\\\', 'fix', UNHEX('00ff0a0d'), UNHEX(REPEAT('5c0027', n % 90)),
    UNHEX(LPAD(HEX(n * 2654435761), 16, '0')), REPEAT(UNHEX('00010203'), n), DATE_ADD('2024-02-28', INTERVAL n DAY), SEC_TO_TIME(n * -1000.123456),
    DATE_ADD('1001-01-01 12:34:56.789012', INTERVAL n DAY), FROM_UNIXTIME(n * 8000000 + 0.125), 1901 + n % 255,
    1 + n % 3, n % 16, Point(n, -n / 3), GeomFromText('POLYGON((0 0,0 3,3 0,0 0))') FROM {numbers} WHERE n <= 200;
INSERT INTO everything (id, day, at_time, stamp, year_of, moment, feeling, feelings, words, raw_fixed)
    VALUES (0, '0000-00-00', '2024-00-00', '0000-00-00 00:00:00', 0, '-838:59:59', '', '', '', ''),
    (18446744073709551000, NULL, NULL, NULL, NULL, '838:59:59', NULL, NULL, NULL, NULL);
CREATE TABLE parts (id INT, region VARCHAR(5), PRIMARY KEY (id, region)) ENGINE = InnoDB
    PARTITION BY LIST COLUMNS (region) (PARTITION north VALUES IN ('n'), PARTITION rest VALUES IN ('s', 'w'));
INSERT INTO parts SELECT n, IF(n % 3 = 0, 'n', 's') FROM {numbers} WHERE n <= 300;
CREATE TABLE parents (id INT PRIMARY KEY) ENGINE = InnoDB;
CREATE TABLE children (id INT PRIMARY KEY, parent INT, CONSTRAINT of_parent FOREIGN KEY (parent) REFERENCES parents (id)) ENGINE = InnoDB;
INSERT INTO parents SELECT n FROM {numbers} WHERE n <= 50; INSERT INTO children SELECT n, n FROM {numbers} WHERE n <= 50;
CREATE TABLE large (id INT PRIMARY KEY, big LONGTEXT, n INT, KEY (n)) ENGINE = InnoDB;
INSERT INTO large SELECT n, REPEAT(LPAD(HEX(n * 2654435761), 32, 'x'), 3000), 0 FROM {numbers} WHERE n <= 20;
CREATE TABLE pair_key (a VARCHAR(20) CHARACTER SET utf8 COLLATE utf8_bin, b DECIMAL(10,2), c VARBINARY(8), v INT, PRIMARY KEY (a, b, c)) ENGINE = InnoDB;
INSERT INTO pair_key SELECT CONCAT(IF(n % 2, 'A', 'a'), n DIV 2), n / 4, UNHEX(HEX(n)), n FROM {numbers} WHERE n <= 100;
CREATE TABLE swapped (id INT PRIMARY KEY, spot INT UNIQUE) ENGINE = InnoDB; INSERT INTO swapped VALUES (1, 10), (2, 20), (3, NULL), (4, NULL);
CREATE TABLE keyless (a INT, b VARCHAR(20), d DOUBLE) ENGINE = InnoDB; INSERT INTO keyless VALUES (1, 'one', 0.1), (1, 'one', 0.1), (2, NULL, NULL), (3, 'three', 1e300);
CREATE TABLE `Odd ``Name` (`Ké y` VARCHAR(50) PRIMARY KEY, `select` INT) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4; INSERT INTO `Odd ``Name` VALUES ('x', 1);
CREATE VIEW sums AS SELECT SUM(n) AS sum FROM large;
CREATE FUNCTION doubled(n INT) RETURNS INT DETERMINISTIC RETURN n * 2;
CREATE PROCEDURE note(n INT) BEGIN IF n > 0 THEN INSERT INTO parents VALUES (n); END IF; END",
        numbers = numbers(3)
    )
}

/// What only this pair has in common.
fn further(pair: Pair) -> String {
    let both = "
CREATE TABLE docs (id INT PRIMARY KEY, doc JSON, n INT, twice INT AS (n * 2) STORED, thrice INT AS (n * 3) VIRTUAL, hidden INT INVISIBLE DEFAULT 7, KEY (thrice)) ENGINE = InnoDB;
INSERT INTO docs (id, doc, n, hidden) VALUES (1, '{\"a\": [1, 2.5, null, true, \"é\"], \"b\": {\"c\": \"x\"}}', 5, 1), (2, '[]', NULL, NULL), (3, NULL, 7, 3), (4, '{\"big\": 18446744073709551615, \"d\": 0.1}', 0, 4);";
    match pair {
        Pair::Mysql56to97 => String::new(),
        Pair::Mysql97to97 => format!(
            "{both} CREATE TABLE modern (id INT PRIMARY KEY, at_place POINT NOT NULL SRID 4326, v VECTOR(3), price DECIMAL(10,2) DEFAULT (1.5), SPATIAL KEY (at_place), KEY ((price * 2)), CHECK (id > 0));
             INSERT INTO modern (id, at_place, v) VALUES (1, ST_SRID(POINT(1, 2), 4326), STRING_TO_VECTOR('[1,2.5,-3]')), (2, ST_SRID(POINT(3, 4), 4326), NULL);
             CREATE TABLE sons (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE ON UPDATE CASCADE);
             INSERT INTO sons SELECT id, id + 40 FROM parents WHERE id <= 10"
        ),
        Pair::Mariadb1011to1011 => format!(
            "{both} CREATE TABLE modern (id UUID PRIMARY KEY, net INET6, n INT DEFAULT (1 + 1)) ENGINE = InnoDB;
             INSERT INTO modern VALUES ('123e4567-e89b-12d3-a456-426655440000', '::1', 1), ('00000000-0000-0000-0000-000000000001', '2001:db8::ff00:42:8329', 2);
             CREATE SEQUENCE loose START WITH 100 INCREMENT BY 5; SELECT NEXTVAL(loose)"
        ),
        Pair::Mariadb1011toMysql97 => both.replace("doc JSON", "doc LONGTEXT"),
    }
}

/// Further changes of what [`further`] made.
fn further_changes(pair: Pair) -> &'static [&'static str] {
    match pair {
        Pair::Mysql56to97 => &[],
        Pair::Mysql97to97 => &[
            "UPDATE docs SET doc = JSON_SET(doc, '$.a[1]', 3.25, '$.new', 'ü'), n = n + 1 WHERE id = 1",
            "INSERT INTO docs (id, doc) VALUES (9, '{\"k\": \"v\"}')",
            "UPDATE modern SET v = STRING_TO_VECTOR('[9,9,9]'), at_place = ST_SRID(POINT(7, 8), 4326) WHERE id = 2",
            // One row of the parent changes others by itself.
            "DELETE FROM children WHERE parent IN (45, 46); DELETE FROM parents WHERE id = 45; UPDATE parents SET id = 4600 WHERE id = 46",
        ],
        Pair::Mariadb1011to1011 => &[
            "UPDATE docs SET doc = JSON_SET(doc, '$.new', 'ü'), n = n + 1, hidden = 9 WHERE id = 1",
            "UPDATE modern SET net = '::2' WHERE n = 1; DELETE FROM modern WHERE n = 2",
            "INSERT INTO modern VALUES (UUID(), '::3', NEXTVAL(loose))",
        ],
        Pair::Mariadb1011toMysql97 => &[
            "UPDATE docs SET doc = REPLACE(doc, 'x', 'ü'), n = n + 1 WHERE id = 1",
            "INSERT INTO docs (id, doc) VALUES (9, '{\"k\": \"v\"}')",
        ],
    }
}

const CHANGES: [&str; 16] = [
    "SET sql_mode = ''; UPDATE everything SET words = CONCAT(COALESCE(words, ''), 'x🙂'), feeling = 'it''s', feelings = 'a,d', raw = NULL WHERE id % 3 = 0",
    "DELETE FROM everything WHERE id % 7 = 0 AND id > 0",
    "INSERT INTO everything (whole, words, big) SELECT id, 'later', -id FROM parents",
    "UPDATE everything SET `single` = `single` / 3, `double` = -0.0, exact = -exact, stamp = '2001-02-03 04:05:06.789', year_of = 2155, place = NULL WHERE id BETWEEN 20 AND 60",
    "UPDATE everything SET id = id + 100000 WHERE id BETWEEN 150 AND 160",
    "UPDATE parts SET region = 'n' WHERE id = 1; UPDATE parts SET id = id + 1000 WHERE id > 290",
    "DELETE FROM children WHERE id = 7; DELETE FROM parents WHERE id = 7",
    "START TRANSACTION; INSERT INTO parents VALUES (1001); INSERT INTO children VALUES (1001, 1001); COMMIT",
    "UPDATE large SET n = n + 1 WHERE id <= 10; UPDATE large SET id = id + 100 WHERE id > 15",
    "START TRANSACTION; INSERT INTO parents VALUES (2000); SAVEPOINT s; INSERT INTO parents VALUES (2001); ROLLBACK TO s; COMMIT",
    "START TRANSACTION; INSERT INTO parents VALUES (3000); ROLLBACK",
    "UPDATE `Odd ``Name` SET `Ké y` = 'ÿ', `select` = NULL",
    "UPDATE pair_key SET a = LOWER(a), b = b + 0.01 WHERE v < 20; DELETE FROM pair_key WHERE v > 90; INSERT INTO pair_key VALUES ('', 0, '', 1), ('Ä', -1, 0x00ff, 2)",
    "START TRANSACTION; UPDATE swapped SET spot = 30 WHERE id = 1; UPDATE swapped SET spot = 10 WHERE id = 2; UPDATE swapped SET spot = 20 WHERE id = 1; COMMIT",
    "DELETE FROM keyless WHERE a = 1 LIMIT 1; UPDATE keyless SET d = 2.5 WHERE a = 3; INSERT INTO keyless VALUES (4, 'four', NULL)",
    "CALL note(5000); TRUNCATE children; INSERT INTO children VALUES (9, 9); REPLACE INTO large VALUES (1, 'replaced', 3); INSERT INTO parents VALUES (8) ON DUPLICATE KEY UPDATE id = 8000",
];

async fn rows_of_every_type_are_copied_and_every_kind_of_change_follows(pair: Pair) {
    let mut schema = schema();
    if pair.kinds().0 == tests::mysql::disposable::Kind::Mysql97 {
        schema = schema.replace("GeomFromText", "ST_GeomFromText");
    }
    let world = World::of(pair, &[&schema, ";", &further(pair)].concat()).await;
    world.follow().await;
    assert!(until_alike(&world).await > 650);

    for change in CHANGES.iter().chain(further_changes(pair)) {
        // The row that children still point to goes too.
        world.source.sql(DATABASE, &format!("SET NAMES utf8mb4; {change}")).await;
    }
    assert!(until_alike(&world).await > 650);
    world.check().await;
    let counted = "SELECT (SELECT COUNT(*) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = 'shop'),
        (SELECT COUNT(*) FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = 'shop'),
        (SELECT COUNT(*) FROM information_schema.PARTITIONS WHERE TABLE_SCHEMA = 'shop' AND PARTITION_NAME IS NOT NULL),
        (SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'shop'), (SELECT sum FROM sums), doubled(21)";
    world.until_equal(counted).await;
}

async fn a_difference_on_the_target_is_found_by_the_check(pair: Pair) {
    let schema = format!(
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20)) ENGINE = InnoDB; INSERT INTO t SELECT n, n FROM {} WHERE n <= 5000",
        numbers(4)
    );
    let world = World::of(pair, &schema).await;
    world.follow().await;
    world.check().await;
    world.target.sql(DATABASE, "UPDATE t SET v = 'other' WHERE id = 2500").await;
    world.headgate.admin("CHECK MIGRATION m").await;
    let ended = |row: &Record| row.get("result").is_some_and(|result| result != "running");
    let ask = || world.row("SHOW MIGRATION CHECK STATUS m");
    let row = until("the check ends", MIGRATION, ask, ended).await;
    assert_eq!(row.get("result").map(String::as_str), Some("different"), "{row:?}");
    let (code, text) = world.headgate.refused("CUTOVER MIGRATION m").await;
    assert_eq!(code, "55000", "{text}");
}

/// The precheck's findings that are errors.
async fn errors(headgate: &Headgate) -> Vec<Record> {
    headgate.admin(&format!("CREATE MIGRATION m FROM blue TO green FOR ROUTE {DATABASE}")).await;
    findings(headgate, "error").await
}

async fn findings(headgate: &Headgate, level: &str) -> Vec<Record> {
    let findings = headgate.admin("PRECHECK MIGRATION m").await;
    findings.into_iter().filter(|row| row.get("level").is_some_and(|found| found == level)).collect()
}

fn mentions(findings: &[Record], words: &[&str]) -> bool {
    findings.iter().any(|finding| words.iter().all(|word| finding.values().any(|value| value.contains(word))))
}

async fn a_source_that_does_not_log_rows_is_refused_with_the_remedy_and_its_fix_lets_the_migration_start(pair: Pair) {
    let (source, target) = pair.kinds();
    let settings = [("binlog-format", "STATEMENT"), ("binlog-row-image", "MINIMAL")];
    let (source, target) = tokio::join!(Mysql::start_with(source, &settings), Mysql::start(target));
    let schema = "CREATE TABLE t (id INT PRIMARY KEY) ENGINE = InnoDB; INSERT INTO t VALUES (1)";
    let world = World::of_servers(source, target, schema, "").await;
    let errors = errors(&world.headgate).await;
    assert!(mentions(&errors, &["binlog_format", "ROW"]), "{errors:?}");
    assert!(mentions(&errors, &["binlog_row_image", "FULL"]), "{errors:?}");
    let (code, text) = world.headgate.refused("START MIGRATION m").await;
    assert!(code == "55000" && text.contains("binlog_format"), "{code} {text}");
    for finding in &errors {
        let fix = finding.get("fix").map(String::as_str).unwrap_or_default();
        assert!(!fix.is_empty(), "no statement mends {finding:?}");
        world.source.sql("", fix).await;
    }
    world.headgate.admin("START MIGRATION m").await;
    world.until_state("following", MIGRATION).await;
    world.source.sql(DATABASE, "INSERT INTO t VALUES (2); UPDATE t SET id = 3 WHERE id = 1").await;
    world.until_equal("SELECT id FROM t ORDER BY id").await;
}

async fn a_target_that_has_the_tables_is_refused_and_left_as_it_is(pair: Pair) {
    let schema = "CREATE TABLE t (id INT PRIMARY KEY) ENGINE = InnoDB; INSERT INTO t VALUES (1)";
    let world = World::of(pair, schema).await;
    let theirs = "CREATE TABLE t (id INT PRIMARY KEY, mine TEXT); INSERT INTO t VALUES (7, 'mine')";
    world.target.sql(DATABASE, theirs).await;
    let errors = errors(&world.headgate).await;
    assert!(mentions(&errors, &["target_objects", DATABASE]), "{errors:?}");
    world.headgate.refused("START MIGRATION m").await;
    let mine = world.target.value(DATABASE, "SELECT mine FROM t WHERE id = 7");
    assert_eq!(mine.await, "mine");
    nothing_of_headgate(&world.source).await;
    nothing_of_headgate(&world.target).await;
}

/// No records, no signals, no read_only: as if Headgate had never been there.
async fn nothing_of_headgate(server: &Mysql) {
    let left = "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'headgate'";
    assert_eq!(server.value("", left).await, "0");
    assert_eq!(server.value("", "SELECT @@GLOBAL.read_only").await, "0");
}

async fn a_table_without_a_key_is_named_and_follows_row_by_row(pair: Pair) {
    let world = World::of(
        pair,
        "CREATE TABLE keyless (a INT, b TEXT) ENGINE = InnoDB; INSERT INTO keyless VALUES (1, 'one'), (1, 'one'), (1, 'one'), (2, 'two'), (3, NULL)",
    )
    .await;
    let errors = errors(&world.headgate).await;
    assert!(errors.is_empty(), "{errors:?}");
    let warnings = findings(&world.headgate, "warning").await;
    assert!(mentions(&warnings, &["keyless"]), "{warnings:?}");
    world.headgate.admin("START MIGRATION m").await;
    world.until_state("following", MIGRATION).await;
    let changes = "UPDATE keyless SET b = 'changed' WHERE a = 2; DELETE FROM keyless WHERE a = 1 LIMIT 1;
        UPDATE keyless SET b = 'other' WHERE a = 1 LIMIT 1; DELETE FROM keyless WHERE a = 3; INSERT INTO keyless VALUES (1, 'one')";
    world.source.sql(DATABASE, changes).await;
    let rows = world.until_equal("SELECT CONCAT(a, b) FROM keyless ORDER BY 1").await;
    let wanted = ["1one", "1one", "1other", "2changed"].map(|text| vec![Some(text.to_owned())]);
    assert_eq!(rows, wanted);
    world.check().await;
}

async fn a_target_that_cannot_be_reached_is_told_and_nothing_is_touched(pair: Pair) {
    let source = Mysql::start(pair.kinds().0).await;
    source.make_database(DATABASE).await;
    let headgate = Headgate::start_for(Engine::Mysql, &mysql_clusters(source.port(), 1)).await;
    let errors = errors(&headgate).await;
    assert!(mentions(&errors, &["green"]) || mentions(&errors, &["target"]), "{errors:?}");
    headgate.refused("START MIGRATION m").await;
    nothing_of_headgate(&source).await;
}

async fn a_dropped_migration_leaves_nothing_behind_on_either_side(pair: Pair) {
    let schema = "CREATE TABLE t (id INT PRIMARY KEY) ENGINE = InnoDB; INSERT INTO t VALUES (1)";
    let world = World::of(pair, schema).await;
    world.follow().await;
    world.headgate.admin("STOP MIGRATION m").await;
    world.headgate.admin("DROP MIGRATION m").await;
    nothing_of_headgate(&world.source).await;
    nothing_of_headgate(&world.target).await;
    assert!(world.headgate.admin("SHOW MIGRATION LIST").await.is_empty());
    let sessions = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'";
    world.source.until_value("", sessions, "0").await;
}

async fn a_changed_definition_of_a_table_stops_the_migration_with_a_remedy(pair: Pair) {
    let schema = "CREATE TABLE t (id INT PRIMARY KEY) ENGINE = InnoDB; INSERT INTO t VALUES (1)";
    let world = World::of(pair, schema).await;
    world.follow().await;
    // What does not touch a table that moves is nothing to stop for.
    let harmless = "CREATE DATABASE elsewhere; CREATE TABLE elsewhere.t (id INT) ENGINE = InnoDB; ALTER TABLE elsewhere.t ADD COLUMN v INT;
        INSERT INTO elsewhere.t VALUES (1, 1); CREATE TEMPORARY TABLE scratch (a INT); INSERT INTO scratch VALUES (1); DROP TEMPORARY TABLE scratch;
        ANALYZE TABLE t; FLUSH TABLES; INSERT INTO t VALUES (2)";
    world.source.sql(DATABASE, harmless).await;
    world.until_equal("SELECT COUNT(*) FROM t").await;
    assert_eq!(world.status("state").await, "following");
    world.source.sql(DATABASE, "ALTER TABLE t ADD COLUMN v INT; INSERT INTO t VALUES (3, 3)").await;
    let ask = || world.row("SHOW MIGRATION STATUS m");
    let failed = |row: &Record| row.get("state").is_some_and(|state| state == "failed");
    let row = until("the migration stops", SOON, ask, failed).await;
    let reported = |column: &str| row.get(column).cloned().unwrap_or_default();
    assert!(reported("error_message").contains('t'), "{row:?}");
    assert!(!reported("remedy").is_empty(), "{row:?}");
    let count = world.target.value(DATABASE, "SELECT COUNT(*) FROM t");
    assert_eq!(count.await, "2", "a row that it cannot know came over");
}

async fn every_row_fires_its_triggers_once_before_and_after_the_switch(pair: Pair) {
    let world = World::of(
        pair,
        "CREATE TABLE t (id INT PRIMARY KEY, v INT) ENGINE = InnoDB;
         CREATE TABLE fired (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(20), row_id INT) ENGINE = InnoDB;
         INSERT INTO t VALUES (1, 1);
         CREATE TRIGGER inserted AFTER INSERT ON t FOR EACH ROW INSERT INTO fired (what, row_id) VALUES ('insert', NEW.id);
         CREATE TRIGGER updated AFTER UPDATE ON t FOR EACH ROW BEGIN IF NEW.v <> OLD.v THEN INSERT INTO fired (what, row_id) VALUES ('update', NEW.id); END IF; END;
         CREATE TRIGGER deleted BEFORE DELETE ON t FOR EACH ROW INSERT INTO fired (what, row_id) VALUES ('delete', OLD.id)",
    )
    .await;
    world.follow().await;
    let mut client = world.client().await;
    let changes = |id: u32| {
        format!("INSERT INTO t VALUES ({id}, 0); UPDATE t SET v = {id} WHERE id = {id}; DELETE FROM t WHERE id = {id}")
    };
    tests::mysql::rows(&mut client, &changes(2)).await;
    world.check().await;
    let rehearsed = world.row("REHEARSE MIGRATION m WITH (max_hold = '10s')").await;
    assert_eq!(rehearsed.get("outcome").map(String::as_str), Some("rehearsed"), "{rehearsed:?}");
    tests::mysql::rows(&mut client, &changes(3)).await;
    world.until_equal("SELECT COUNT(*) FROM fired").await;
    world.cutover().await;
    tests::mysql::rows(&mut client, &changes(4)).await;
    let ledger = "SELECT GROUP_CONCAT(CONCAT(what, row_id) ORDER BY row_id, what) FROM fired";
    assert_eq!(
        world.target.value(DATABASE, ledger).await,
        "delete2,insert2,update2,delete3,insert3,update3,delete4,insert4,update4"
    );
}

async fn events_run_on_one_side_only(pair: Pair) {
    let (source, target) = pair.kinds();
    let on = [("event-scheduler", "ON")];
    let (source, target) = tokio::join!(Mysql::start_with(source, &on), Mysql::start_with(target, &on));
    let users = format!("[users.{}]\npassword = \"{}\"\n", tests::world::USER, tests::world::PASSWORD);
    let world = World::of_servers(
        source,
        target,
        "CREATE TABLE ticks (id INT AUTO_INCREMENT PRIMARY KEY, port INT) ENGINE = InnoDB;
         CREATE EVENT tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO ticks (port) VALUES (@@port)",
        &users,
    )
    .await;
    let (blue, green) = (world.source.port(), world.target.port());
    world.follow().await;
    let ticking = "SELECT COUNT(*) > 1 FROM ticks";
    world.target.until_value(DATABASE, ticking, "1").await;
    world.check().await;
    let of = |port: u16| format!("SELECT COUNT(*) FROM ticks WHERE port = {port}");
    assert_eq!(world.target.value(DATABASE, &of(green)).await, "0");
    world.cutover().await;
    let last = world.source.value(DATABASE, &of(blue)).await;
    let new = format!("SELECT COUNT(*) > 1 FROM ticks WHERE port = {green}");
    world.target.until_value(DATABASE, &new, "1").await;
    // More than two seconds on: the source's own would have come twice.
    assert_eq!(world.source.value(DATABASE, &of(blue)).await, last);
    // And the target's come back, whose events alone run.
    world.source.until_value(DATABASE, &new, "1").await;
    assert_eq!(world.target.value(DATABASE, &of(blue)).await, last);
}
