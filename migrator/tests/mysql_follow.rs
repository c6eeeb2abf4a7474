//! Follows real servers of MySQL and MariaDB while they are written to.

mod servers;

use std::sync::Arc;
use std::time::Duration;

use migrator::database::SchemaAndLoad as _;
use migrator::error::{Error, Kind as Failure};
use migrator::follow::Follow;
use migrator::model::plan::{Plan, Settings};
use migrator::model::position::Position as _;
use migrator::model::progress::Progress;
use migrator::mysql::heartbeat;
use migrator::mysql::heartbeat::Signal;
use migrator::mysql::records;
use migrator::mysql::schema::archive::Archive;
use migrator::mysql::{BinlogPosition, MysqlDatabase, follow, plan, position};
use mysql_async::prelude::Queryable;
use mysql_async::{Row, Value};
use servers::mysql::{Kind, Pair, Server};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TIMEOUT: Duration = Duration::from_mins(1);
const PERMISSIVE: &str = "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone = '+00:00'";

async fn all(server: &Server, statements: &[String]) {
    let mut session = server.connect("").await;
    session.query_drop(PERMISSIVE).await.expect("it is set");
    for statement in statements {
        let done = session.query_drop(statement).await;
        done.unwrap_or_else(|error| panic!("{error}; in {statement}"));
    }
}

/// A pair whose both sides have the same empty tables, and the migration between them.
struct Moving {
    pair: Pair,
    mysql: MysqlDatabase,
    plan: Plan,
}

impl Moving {
    async fn new(pair: Pair, tables: &[&str]) -> Self {
        let mut statements = vec!["CREATE DATABASE shop".to_owned(), "USE shop".to_owned()];
        statements.extend(tables.iter().map(|table| (*table).to_owned()));
        all(&pair.source, &statements).await;
        all(&pair.target, &statements).await;
        let mysql = pair.migration("follow", Settings::default());
        let plan = plan::read(&mysql).await.expect("a plan");
        let moving = Self { pair, mysql, plan };
        let mut source = moving.mysql.connect_source("test").await.expect("a session");
        let mut target = moving.mysql.connect_target("test").await.expect("a session");
        heartbeat::install(&mut source).await.expect("installed");
        records::install_records(&mut target).await.expect("installed");
        Archive::open(&moving.mysql, &mut target).await.expect("the definitions are kept");
        let begin = position::current(&mut source).await.expect("a position");
        records::begin_progress(&moving.mysql, &mut target, &begin).await.expect("recorded");
        records::begin_keyed(&moving.mysql, &mut target, &moving.plan.tables, &begin).await.expect("recorded");
        moving
    }

    fn follow(&self) -> Running {
        let follow = Follow::default();
        let stop = CancellationToken::new();
        let (mysql, plan, reported, stopped) = (self.mysql.clone(), self.plan.clone(), follow.clone(), stop.clone());
        let task =
            tokio::spawn(
                async move { follow::run(&mysql, &plan, reported, Arc::new(Progress::default()), stopped).await },
            );
        Running { follow, stop, task }
    }

    async fn write(&self, statements: &[&str]) {
        let statements: Vec<String> = statements.iter().map(|text| (*text).to_owned()).collect();
        let mut with = vec!["USE shop".to_owned()];
        with.extend(statements);
        all(&self.pair.source, &with).await;
    }

    /// Waits until everything that was written is applied.
    async fn arrive(&self, running: &mut Running) {
        let token = format!("{:x}", rand::random::<u64>());
        let mut source = self.mysql.connect_source("test").await.expect("a session");
        heartbeat::signal(&mut source, self.mysql.name(), Signal::Marker, &token).await.expect("written");
        tokio::select! {
            arrived = running.follow.wait_marker(&token, TIMEOUT) => arrived.expect("the marker arrives"),
            ended = &mut running.task => panic!("the follower ended before the marker: {ended:?}"),
        }
    }

    /// Does what RECOPY TABLE does.
    async fn recopy(&self, table: &str) {
        let tables: Vec<_> = (self.plan.tables.iter()).filter(|one| one.name == table).cloned().collect();
        let (progress, stop) = Default::default();
        let copied = self.mysql.recopy(&tables, progress, stop).await;
        copied.unwrap_or_else(|error| panic!("{}", error.full_text()));
    }

    async fn assert_equal(&self) {
        for table in &self.plan.tables {
            let columns: Vec<String> =
                table.columns.iter().map(|column| exactly(&column.name, &column.kind, self.pair.target.kind)).collect();
            let query = format!("SELECT {} FROM shop.{}", columns.join(", "), table.name);
            let source = rows(&self.pair.source, &query).await;
            let target = rows(&self.pair.target, &query).await;
            assert_eq!(source.len(), target.len(), "rows of {}", table.name);
            for (one, other) in source.iter().zip(&target) {
                assert_eq!(one, other, "{} {:?}", table.name, table.columns);
            }
        }
    }
}

/// What tells two values of a type apart.
fn exactly(name: &str, kind: &str, target: Kind) -> String {
    let data_type = kind.split(' ').next().unwrap_or_default();
    match data_type {
        // It shows no sign of a zero.
        "float" | "double" if target == Kind::Mariadb1011 => format!("CONCAT({name} + 0e0)"),
        "float" | "double" => format!("CONCAT({name} * 1e0)"),
        "enum" | "set" | "bit" => format!("CONCAT({name} + 0)"),
        "json" => format!("CAST({name} AS CHAR)"),
        "decimal" | "uuid" | "inet4" | "inet6" => format!("CONCAT({name})"),
        _ => format!("HEX({name})"),
    }
}

async fn rows(server: &Server, query: &str) -> Vec<Vec<Option<String>>> {
    let mut session = server.connect("").await;
    session.query_drop(PERMISSIVE).await.expect("it is set");
    let rows: Vec<Row> = session.query(query).await.unwrap_or_else(|error| panic!("{error}; in {query}"));
    let text = |value| match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(format!("{other:?}")),
    };
    let mut rows: Vec<Vec<Option<String>>> =
        rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect();
    rows.sort();
    rows
}

struct Running {
    follow: Follow<BinlogPosition>,
    stop: CancellationToken,
    task: JoinHandle<migrator::error::Result<()>>,
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(TIMEOUT, self.task).await.expect("it ends");
        ended.expect("no panic").expect("no failure");
    }

    async fn failure(self) -> Error {
        let ended = tokio::time::timeout(TIMEOUT, self.task).await.expect("it ends");
        ended.expect("no panic").expect_err("it fails")
    }
}

/// A column's type, and values as the source's SQL writes them.
type Sample = (&'static str, &'static [&'static str]);

const EVERYWHERE: &[Sample] = &[
    ("TINYINT", &["-128", "127"]),
    ("SMALLINT UNSIGNED", &["65535"]),
    ("MEDIUMINT", &["-8388608"]),
    ("MEDIUMINT UNSIGNED", &["16777215"]),
    ("INT UNSIGNED", &["4294967295"]),
    ("BIGINT", &["-9223372036854775808"]),
    ("BIGINT UNSIGNED", &["18446744073709551615"]),
    ("FLOAT", &["1.1", "16777217", "3.4028234663852886e38", "1.4e-45", "-0.0e0", "0.1"]),
    ("DOUBLE", &["1.1", "1e308", "5e-324", "0.1e0 + 0.2e0", "1.7976931348623157e308"]),
    ("DECIMAL(65,30)", &["-1.000000000000000000000000000001", "12345678901234567890123456789012345.5"]),
    ("DECIMAL(5,0)", &["-99999", "0"]),
    ("DECIMAL(4,4)", &["-0.0001"]),
    ("BIT(17)", &["b'10101010101010101'", "0", "92"]),
    ("BIT(64)", &["x'FFFFFFFFFFFFFF09'"]),
    ("BIT(1)", &["1"]),
    ("YEAR", &["0", "2020", "1901", "2155"]),
    ("DATE", &["'0000-00-00'", "'2020-00-00'", "'2021-02-31'", "'9999-12-31'"]),
    ("DATETIME", &["'0000-00-00 00:00:00'", "'2020-02-30 01:02:03'"]),
    ("DATETIME(6)", &["'2020-01-01 01:02:03.000001'"]),
    ("DATETIME(1)", &["'2020-01-01 01:02:03.9'"]),
    ("TIMESTAMP(6) NULL", &["'0000-00-00 00:00:00'", "'2038-01-19 03:14:07.999999'"]),
    ("TIMESTAMP NULL", &["'2020-10-25 00:30:00'"]),
    ("TIMESTAMP(3) NULL", &["'2020-10-25 00:30:00.123'"]),
    ("TIME", &["'-838:59:59'", "'12:00:00'"]),
    ("TIME(6)", &["'-838:59:58.123456'", "'-00:00:00.000001'"]),
    ("TIME(3)", &["'-00:00:01.100'", "'23:59:59.999'"]),
    ("TIME(2)", &["'-00:00:01.10'"]),
    ("CHAR(10) CHARACTER SET utf8mb4", &["'a  '", "''", "'it\\'s \\\\ \\0'"]),
    ("CHAR(255) CHARACTER SET utf8mb4", &["REPEAT('\u{e9}', 255)"]),
    ("VARCHAR(40) CHARACTER SET latin1", &["_latin1 x'E9FF5C090A00'"]),
    ("VARCHAR(40) CHARACTER SET ucs2", &["_ucs2 x'00410042005C0009000A0000'", "_ucs2 x'5C5C0A0A'"]),
    ("VARCHAR(40) CHARACTER SET utf16", &["_utf16 x'D83DDE000041'"]),
    ("LONGTEXT CHARACTER SET utf32", &["_utf32 x'0001F600'"]),
    ("VARCHAR(40) CHARACTER SET sjis", &["_sjis x'835C8140'"]),
    ("VARCHAR(40) CHARACTER SET gbk", &["_gbk x'815C'"]),
    ("VARCHAR(4000) CHARACTER SET utf8mb4", &["REPEAT('\u{1f600}', 1000)"]),
    ("BINARY(8)", &["x'0001095C0A0D2700'", "x'00'"]),
    ("VARBINARY(300)", &["x'5C4E0027'", "''"]),
    ("TINYBLOB", &["x'5C4E'"]),
    ("BLOB", &["x'5C4E27'"]),
    ("MEDIUMTEXT CHARACTER SET latin1", &["REPEAT('x', 70000)"]),
    ("ENUM('a','','1','3','2') CHARACTER SET utf8mb4", &["'a'", "'1'", "0"]),
    ("SET('a','b','1','2','c','d','e','f','g')", &["'a,b'", "''", "'g,2'"]),
    ("GEOMETRY", &["ST_GeomFromText('LINESTRING(0 0,1 1)')", "ST_GeomFromText('POINT(10 20)', 4326)"]),
];

const IN_MYSQL: &[Sample] = &[
    (
        "JSON",
        &[
            "'{\"a\": [1, 2.5, 1e300, 0.1, 18446744073709551615, \"x\\\\ty\\\\\\\\\", null, true, -70000]}'",
            "'{\"k\":\"\u{e9}\", \"\": {}}'",
            "CAST(0.1e0 + 0.2e0 AS JSON)",
            "JSON_OBJECT('d', CAST(-1.10 AS DECIMAL(30,2)), 'u', CAST(1 AS UNSIGNED), 't', CAST('-10:11:12.5' AS TIME(6)),
             'x', CAST('2020-01-02' AS DATE), 'y', CAST('2020-01-02 03:04:05.000006' AS DATETIME(6)), 'n', 5000000000)",
            "CONCAT('[\"', REPEAT('x', 70000), '\", 70000, 1]')",
        ],
    ),
    ("VECTOR(3)", &["TO_VECTOR('[1,2,9]')"]),
    ("POINT SRID 4326", &["ST_GeomFromText('POINT(10 20)', 4326)"]),
    ("INT INVISIBLE", &["7"]),
];

const IN_MARIADB: &[Sample] = &[
    ("JSON", &["'{\"a\": 1}'"]),
    ("UUID", &["'123e4567-e89b-12d3-a456-426655440000'", "'123e4567-e89b-72d3-a456-426655440000'"]),
    ("INET6", &["'2001:db8::'"]),
    ("INET4", &["'1.2.3.0'"]),
    ("INT INVISIBLE", &["7"]),
];

async fn every_type(source: Kind, target: Kind, settings: &[(&str, &str)]) {
    let pair = Pair::start_with((source, settings), (target, &[]));
    let mut samples = EVERYWHERE.to_vec();
    match (source, target) {
        (Kind::Mysql97, Kind::Mysql97) => samples.extend(IN_MYSQL),
        (Kind::Mariadb1011, Kind::Mariadb1011) => samples.extend(IN_MARIADB),
        _ => {}
    }
    let (mut tables, mut inserts, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    for (number, (data_type, values)) in samples.iter().enumerate() {
        tables.push(format!("CREATE TABLE t{number} (id INT PRIMARY KEY, c {data_type}) ENGINE=InnoDB"));
        tables.push(format!("CREATE TABLE k{number} (id INT, c {data_type}) ENGINE=InnoDB"));
        for (id, value) in values.iter().chain(["NULL"].iter()).enumerate() {
            for kind in ["t", "k"] {
                let table = format!("shop.{kind}{number}");
                inserts.push(format!("INSERT INTO {table} (id, c) VALUES ({id}, {value}), ({}, {value})", id + 100));
                // Each row is found again by all of its values where there is no key.
                changes.push(format!("UPDATE {table} SET id = id + 1000 WHERE id = {id}"));
                changes.push(format!("DELETE FROM {table} WHERE id = {}", id + 100));
            }
        }
    }
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    let moving = Moving::new(pair, &tables).await;
    let mut running = moving.follow();
    all(&moving.pair.source, &inserts).await;
    moving.arrive(&mut running).await;
    moving.assert_equal().await;
    all(&moving.pair.source, &changes).await;
    moving.arrive(&mut running).await;
    moving.assert_equal().await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_follows_byte_for_byte_between_two_of_mysql() {
    every_type(Kind::Mysql97, Kind::Mysql97, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_follows_compressed_and_without_gtids_and_names() {
    let settings = [
        ("gtid-mode", "OFF"),
        ("enforce-gtid-consistency", "OFF"),
        ("binlog-row-metadata", "MINIMAL"),
        ("binlog-transaction-compression", "ON"),
    ];
    every_type(Kind::Mysql97, Kind::Mysql97, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_follows_byte_for_byte_between_two_of_mariadb() {
    every_type(Kind::Mariadb1011, Kind::Mariadb1011, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_follows_byte_for_byte_from_an_old_server_to_mysql() {
    every_type(Kind::Mysql56, Kind::Mysql97, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_follows_byte_for_byte_from_an_old_server_to_mariadb() {
    every_type(Kind::Mysql56, Kind::Mariadb1011, &[]).await;
}

const DIGITS: &str = "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 \
    UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";

fn many(table: &str, values: &str) -> String {
    format!(
        "INSERT INTO {table} SELECT {values} FROM (SELECT a.d * 10000 + b.d * 1000 + c.d * 100 + e.d * 10 + f.d n
         FROM (SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4) a,
         {DIGITS} b, {DIGITS} c, {DIGITS} e, {DIGITS} f) numbers"
    )
}

async fn hard_cases(source: Kind, target: Kind, settings: &[(&str, &str)]) {
    let pair = Pair::start_with((source, settings), (target, &[]));
    let mut tables = vec![
        "CREATE TABLE unique_one (id INT PRIMARY KEY, u INT, UNIQUE (u)) ENGINE=InnoDB",
        "CREATE TABLE keyless (a INT, b VARCHAR(20), c DOUBLE) ENGINE=InnoDB",
        "CREATE TABLE emptied (a INT PRIMARY KEY) ENGINE=InnoDB",
        "CREATE TABLE pairs (a INT, b VARCHAR(20) CHARACTER SET latin1, v TEXT, PRIMARY KEY (a, b)) ENGINE=InnoDB",
    ];
    if source != Kind::Mysql56 {
        tables.push(
            "CREATE TABLE computed (a INT PRIMARY KEY, v INT AS (a + 1) VIRTUAL, b INT, s INT AS (a * 2) STORED, c INT,
             KEY (v)) ENGINE=InnoDB",
        );
    }
    let moving = Moving::new(pair, &tables).await;
    let mut running = moving.follow();
    moving
        .write(&[
            "INSERT INTO unique_one VALUES (1, 10), (2, 20), (3, 30)",
            "BEGIN",
            "UPDATE unique_one SET u = 0 WHERE id = 1",
            "UPDATE unique_one SET u = 10 WHERE id = 2",
            "UPDATE unique_one SET u = 20 WHERE id = 1",
            "UPDATE unique_one SET id = 9 WHERE id = 3",
            "UPDATE unique_one SET id = 3 WHERE id = 2",
            "INSERT INTO unique_one VALUES (2, 99)",
            "COMMIT",
            "INSERT INTO keyless VALUES (1, 'x', 0.1), (1, 'x', 0.1), (1, 'x', 0.1), (NULL, NULL, NULL), (NULL, NULL, NULL)",
            "DELETE FROM keyless WHERE a = 1 LIMIT 1",
            "UPDATE keyless SET b = 'X' WHERE a IS NULL LIMIT 1",
            "INSERT INTO emptied VALUES (1), (2)",
            "TRUNCATE TABLE emptied",
            "INSERT INTO emptied VALUES (2)",
            "INSERT INTO pairs VALUES (1, 'a', 'one'), (1, 'B', NULL), (2, 'a', 'two')",
            "UPDATE pairs SET b = 'A' WHERE a = 1 AND b = 'a'",
            "DELETE FROM pairs WHERE a = 2",
            "FLUSH LOGS",
            &many("pairs", "n + 10, CONCAT('k', n), REPEAT('v', n % 90)"),
            "UPDATE pairs SET v = 'new' WHERE a % 2 = 0",
            "DELETE FROM pairs WHERE a % 3 = 0",
        ])
        .await;
    if source != Kind::Mysql56 {
        moving
            .write(&[
                "INSERT INTO computed (a, b, c) VALUES (1, 2, 3), (4, 5, 6)",
                "UPDATE computed SET b = 7, a = 8 WHERE a = 1",
            ])
            .await;
    }
    moving.arrive(&mut running).await;
    moving.assert_equal().await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swaps_duplicates_and_large_transactions_follow_between_two_of_mysql() {
    hard_cases(Kind::Mysql97, Kind::Mysql97, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swaps_duplicates_and_large_transactions_follow_without_names_of_columns() {
    hard_cases(
        Kind::Mysql97,
        Kind::Mysql97,
        &[("binlog-row-metadata", "MINIMAL"), ("binlog-transaction-compression", "ON")],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swaps_duplicates_and_large_transactions_follow_between_two_of_mariadb() {
    hard_cases(Kind::Mariadb1011, Kind::Mariadb1011, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swaps_duplicates_and_large_transactions_follow_from_an_old_server() {
    hard_cases(Kind::Mysql56, Kind::Mysql97, &[]).await;
}

async fn crashes(kind: Kind) {
    let pair = Pair::start(kind, kind);
    let mut moving = Moving::new(
        pair,
        &["CREATE TABLE t (id INT PRIMARY KEY, n INT) ENGINE=InnoDB", "CREATE TABLE k (n INT) ENGINE=InnoDB"],
    )
    .await;
    for turn in 0..8 {
        let running = moving.follow();
        for step in 0..40 {
            let id = turn * 40 + step;
            moving
                .write(&[
                    &format!("INSERT INTO t VALUES ({id}, {step})"),
                    &format!("INSERT INTO k VALUES ({step})"),
                    &format!("UPDATE t SET n = n + 1 WHERE id % 7 = {}", step % 7),
                    &format!("DELETE FROM k WHERE n = {} LIMIT 1", step % 11),
                ])
                .await;
        }
        // Wherever it is, it ends without a word.
        running.task.abort();
        if turn == 4 {
            moving.pair.source.restart();
        }
    }
    let mut running = moving.follow();
    moving.arrive(&mut running).await;
    moving.assert_equal().await;
    moving.pair.source.restart();
    let failure = running.failure().await;
    assert_eq!(failure.kind(), Failure::Transient, "{failure}");
    let mut running = moving.follow();
    moving.write(&["INSERT INTO t VALUES (-1, 1)"]).await;
    moving.arrive(&mut running).await;
    moving.assert_equal().await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_killed_goes_on_where_it_was_with_mysql() {
    crashes(Kind::Mysql97).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_killed_goes_on_where_it_was_with_mariadb() {
    crashes(Kind::Mariadb1011).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_stands_still_before_the_first_transaction_after_the_pause() {
    let table = ["CREATE TABLE t (id INT PRIMARY KEY) ENGINE=InnoDB"];
    let moving = Moving::new(Pair::start(Kind::Mysql97, Kind::Mysql97), &table).await;
    let mut running = moving.follow();
    moving.write(&["INSERT INTO t VALUES (1)"]).await;
    let mut source = moving.mysql.connect_source("test").await.expect("a session");
    let here = position::current(&mut source).await.expect("a position");
    let pausing = running.follow.pause_at(here.clone(), TIMEOUT);
    moving.write(&["INSERT INTO t VALUES (2)"]).await;
    pausing.await.expect("it pauses");
    assert!(running.follow.applied().position.is_some_and(|at| at.covers(&here)));
    let ids = rows(&moving.pair.target, "SELECT id FROM shop.t").await;
    assert!(ids.iter().any(|row| row[0].as_deref() == Some("1")));
    let more = position::current(&mut source).await.expect("a position");
    if ids.len() == 1 {
        assert!(running.follow.applied().position.is_some_and(|at| !at.covers(&more)));
    }
    running.follow.resume();
    // As the check does it: everything is held back until the position is known.
    for round in 1..=5 {
        let now = position::current(&mut source).await.expect("a position");
        running.follow.pause_at(BinlogPosition { offset: 4, ..now }, TIMEOUT).await.expect("it pauses");
        moving.write(&[&format!("INSERT INTO t VALUES ({round}1)")]).await;
        let here = position::current(&mut source).await.expect("a position");
        moving.write(&[&format!("INSERT INTO t VALUES ({round}2)")]).await;
        running.follow.pause_at(here.clone(), TIMEOUT).await.expect("it pauses");
        running.follow.wait_covers(&here, TIMEOUT).await.expect("it goes on so far");
        let ids = rows(&moving.pair.target, "SELECT id FROM shop.t WHERE id > 10 ORDER BY id DESC LIMIT 1").await;
        assert_eq!(ids[0][0].as_deref(), Some(format!("{round}1").as_str()));
        let applied = running.follow.applied();
        assert!(applied.paused && applied.position.is_some_and(|at| at.covers(&here) && here.covers(&at)));
        running.follow.resume();
    }
    moving.arrive(&mut running).await;
    moving.assert_equal().await;
    running.end().await;
}

async fn stops(kind: Kind, settings: &[(&str, &str)], statement: &str, expected: &str) {
    let table = ["CREATE TABLE t (id INT PRIMARY KEY, c INT) ENGINE=InnoDB"];
    let pair = Pair::start_with((kind, settings), (kind, &[]));
    let moving = Moving::new(pair, &table).await;
    let running = moving.follow();
    moving.write(&["INSERT INTO t VALUES (1, 1)", statement]).await;
    let failure = running.failure().await;
    assert_eq!(failure.kind(), Failure::Fatal, "{failure}");
    assert!(failure.to_string().contains(expected), "{failure}");
    assert!(failure.remedy_text().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_tables_columns_stops_the_follower() {
    stops(Kind::Mysql97, &[], "ALTER TABLE t ADD d INT", "ALTER TABLE shop.t").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_stops_the_follower() {
    stops(Kind::Mariadb1011, &[], "CREATE TABLE u (id INT)", "CREATE TABLE shop.u").await;
}

/// Rows that the log has in a form that is not read: what is told is done, and the migration goes on.
#[tokio::test]
async fn a_table_whose_rows_the_log_did_not_have_whole_is_taken_anew_and_followed() {
    const DOCUMENTS: &str = "CREATE TABLE d (id INT PRIMARY KEY, j JSON, n INT) ENGINE = InnoDB";
    for (kind, spoil, mend, reported) in [
        (
            Kind::Mysql97,
            "SET GLOBAL binlog_row_value_options = 'PARTIAL_JSON'",
            "SET GLOBAL binlog_row_value_options = ''",
            "only parts of documents",
        ),
        (
            Kind::Mysql97,
            "SET GLOBAL binlog_row_image = 'MINIMAL'",
            "SET GLOBAL binlog_row_image = 'FULL'",
            "cannot be read",
        ),
        (Kind::Mariadb1011, "SET GLOBAL log_bin_compress = ON", "SET GLOBAL log_bin_compress = OFF", "compressed rows"),
        (
            Kind::Mariadb1011,
            "SET GLOBAL binlog_row_image = 'MINIMAL'",
            "SET GLOBAL binlog_row_image = 'FULL'",
            "cannot be read",
        ),
    ] {
        let moving = Moving::new(Pair::start(kind, kind), &[DOCUMENTS]).await;
        let mut running = moving.follow();
        let first =
            format!("INSERT INTO d VALUES (1, '{{\"a\": 1, \"b\": \"{}\"}}', 1), (2, '{{}}', 2)", "x".repeat(500));
        moving.write(&[&first]).await;
        moving.arrive(&mut running).await;
        moving.write(&[spoil]).await;
        moving.write(&["UPDATE d SET j = JSON_SET(j, '$.a', 2), n = 2 WHERE id = 1"]).await;
        let error = running.failure().await;
        let text = error.full_text();
        assert!(text.contains(reported), "{kind:?} {spoil}: {text}");
        let remedy = error.remedy_text().unwrap_or_default();
        assert!(remedy.ends_with("RECOPY TABLE shop.d OF MIGRATION follow"), "{remedy}");
        moving.write(&[mend]).await;
        moving.write(&["UPDATE d SET n = n + 1"]).await;
        moving.recopy("d").await;
        let mut running = moving.follow();
        moving.write(&["DELETE FROM d WHERE id = 2"]).await;
        moving.arrive(&mut running).await;
        running.end().await;
        moving.assert_equal().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_events_of_mariadb_stop_the_follower() {
    let settings = [("log-bin-compress", "ON"), ("log-bin-compress-min-len", "10")];
    stops(Kind::Mariadb1011, &settings, "INSERT INTO t VALUES (2, 2), (3, 3), (4, 4)", "compressed rows").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_not_as_it_should_be_stops_the_follower_and_names_its_key() {
    let table = ["CREATE TABLE t (id INT PRIMARY KEY, c INT) ENGINE=InnoDB"];
    let moving = Moving::new(Pair::start(Kind::Mysql97, Kind::Mysql97), &table).await;
    let mut running = moving.follow();
    moving.write(&["INSERT INTO t VALUES (1, 1), (42, 1)"]).await;
    moving.arrive(&mut running).await;
    moving.pair.target.run("shop", "DELETE FROM t WHERE id = 42").await;
    moving.write(&["UPDATE t SET c = 2"]).await;
    let failure = running.failure().await;
    assert!(failure.to_string().contains("id=42"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_loaded_from_a_later_moment_are_brought_to_the_markers() {
    let table = ["CREATE TABLE t (id INT PRIMARY KEY, c INT) ENGINE=InnoDB"];
    let moving = Moving::new(Pair::start(Kind::Mysql97, Kind::Mysql97), &table).await;
    moving
        .write(&[
            "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)",
            "UPDATE t SET id = 10 WHERE id = 1",
            "DELETE FROM t WHERE id = 2",
            "INSERT INTO t VALUES (2, 22)",
            "UPDATE t SET c = 33 WHERE id = 3",
            "DELETE FROM t WHERE id = 10",
        ])
        .await;
    // One row is from the end, one from the middle, one is gone already.
    moving.pair.target.run("shop", "INSERT INTO t VALUES (2, 22), (1, 1)").await;
    let mut source = moving.mysql.connect_source("test").await.expect("a session");
    heartbeat::signal(&mut source, moving.mysql.name(), Signal::Marker, "loaded").await.expect("written");
    let progress = Arc::new(Progress::default());
    let stop = CancellationToken::new();
    let caught = follow::catch_up(&moving.mysql, &moving.plan, "loaded", &progress, &stop).await;
    assert!(caught.expect("it catches up"));
    moving.assert_equal().await;
    // The same marker is behind now, and what was applied is not applied again.
    let mut target = moving.mysql.connect_target("test").await.expect("a session");
    let stored = records::progress(&moving.mysql, &mut target).await.expect("read");
    let mut running = moving.follow();
    moving.write(&["UPDATE t SET c = c + 1"]).await;
    moving.arrive(&mut running).await;
    moving.assert_equal().await;
    let now = running.follow.applied().position.expect("it is told");
    assert!(stored.is_some_and(|stored| now.covers(&stored)));
    running.end().await;
}

const PARTITIONED: &str = "CREATE TABLE part (id INT PRIMARY KEY, n INT) ENGINE = InnoDB COMMENT 'same'
    PARTITION BY RANGE (id) (PARTITION a VALUES LESS THAN (10), PARTITION b VALUES LESS THAN MAXVALUE)";
const PLAIN: &str = "CREATE TABLE t (id INT PRIMARY KEY, n INT, m INT) ENGINE = InnoDB";

async fn harmless(kind: Kind) {
    let mut moving = Moving::new(Pair::of(kind), &[PLAIN, PARTITIONED]).await;
    moving
        .write(&[
            "CREATE VIEW v AS SELECT id FROM t",
            "CREATE TRIGGER one BEFORE INSERT ON t FOR EACH ROW SET @one = 1",
        ])
        .await;
    // What the migration began with.
    let mut session = moving.mysql.connect_target("test").await.expect("a session");
    let again = "UPDATE headgate.migrations SET archive = NULL";
    session.query_drop(again).await.expect("it is forgotten");
    Archive::open(&moving.mysql, &mut session).await.expect("the definitions are kept");
    let mut source = moving.mysql.connect_source("test").await.expect("a session");
    let now = position::current(&mut source).await.expect("a position");
    let forget = "DELETE FROM headgate.progress";
    session.query_drop(forget).await.expect("it is forgotten");
    records::begin_progress(&moving.mysql, &mut session, &now).await.expect("recorded");

    let mut running = moving.follow();
    let mut statements = vec![
        "CREATE TABLE IF NOT EXISTS t (id INT PRIMARY KEY)",
        "INSERT INTO t VALUES (1, 1, 1)",
        "CREATE TABLE IF NOT EXISTS t (id INT PRIMARY KEY)",
        "DROP TABLE IF EXISTS none",
        "DROP TABLE IF EXISTS none, none_either",
        "DROP VIEW IF EXISTS no_view",
        "CREATE OR REPLACE VIEW v AS SELECT id FROM t",
        "ALTER TABLE part ANALYZE PARTITION ALL",
        "INSERT INTO part VALUES (1, 1), (20, 2)",
        "ANALYZE TABLE t",
        "OPTIMIZE TABLE t",
        "CHECK TABLE t",
        "REPAIR TABLE t",
        "FLUSH TABLES",
        "CREATE DATABASE IF NOT EXISTS shop",
        "GRANT SELECT ON shop.* TO root@'127.0.0.1'",
        "INSERT INTO t VALUES (2, 2, 2)",
    ];
    if kind != Kind::Mysql56 {
        statements.push("DROP USER IF EXISTS nobody@nowhere");
    }
    moving.write(&statements).await;
    moving.arrive(&mut running).await;
    moving.write(&["ALTER TABLE part COMMENT 'same'", "INSERT INTO part VALUES (2, 2)"]).await;
    moving.arrive(&mut running).await;
    running.end().await;
    moving.assert_equal().await;

    // What changes something stops it by name, and undone it goes on, unless rows may have been others meanwhile.
    for (change, undo, named, goes_on) in [
        ("CREATE VIEW w AS SELECT 1", "DROP VIEW w", "view `shop`.`w` is new", true),
        ("ALTER VIEW v AS SELECT n FROM t", "ALTER VIEW v AS SELECT id FROM t", "view `shop`.`v` was changed", true),
        (
            "DROP TRIGGER one",
            "CREATE TRIGGER one BEFORE INSERT ON t FOR EACH ROW SET @one = 1",
            "trigger `shop`.`one` is gone",
            true,
        ),
        (
            "ALTER TABLE t CHANGE n m INT, CHANGE m n INT",
            "ALTER TABLE t CHANGE n m INT, CHANGE m n INT",
            "table `shop`.`t` was changed",
            false,
        ),
        ("ALTER TABLE t ADD extra INT FIRST", "ALTER TABLE t DROP extra", "table `shop`.`t` was changed", false),
    ] {
        let running = moving.follow();
        moving.write(&[change]).await;
        let error = running.failure().await;
        assert!(error.full_text().contains(named), "{kind:?} {change}: {}", error.full_text());
        assert_ne!(error.kind(), Failure::Transient);
        moving.write(&["INSERT INTO t (id, n, m) SELECT MAX(id) + 1, 7, 8 FROM t AS o", undo]).await;
        let mut running = moving.follow();
        if goes_on {
            moving.arrive(&mut running).await;
            running.end().await;
            moving.assert_equal().await;
        } else {
            let error = running.failure().await;
            let text = error.full_text();
            assert!(text.contains("2 statements changed table shop.t"), "{kind:?}: {text}");
            let remedy = error.remedy_text().unwrap_or_default();
            assert!(remedy.contains("RECOPY TABLE"), "{remedy}");
            moving.recopy("t").await;
            let mut running = moving.follow();
            moving.arrive(&mut running).await;
            running.end().await;
            moving.assert_equal().await;
        }
    }
    moving.pair.source.kill();
}

#[tokio::test]
async fn what_changes_no_definition_stops_nothing_and_what_does_is_named_on_mysql_97() {
    harmless(Kind::Mysql97).await;
}

#[tokio::test]
async fn what_changes_no_definition_stops_nothing_and_what_does_is_named_on_mysql_56() {
    harmless(Kind::Mysql56).await;
}

#[tokio::test]
async fn what_changes_no_definition_stops_nothing_and_what_does_is_named_on_mariadb() {
    harmless(Kind::Mariadb1011).await;
}

#[tokio::test]
async fn what_takes_rows_away_and_leaves_the_definition_stops_all_the_same() {
    for (kind, statement) in [
        (Kind::Mysql97, "ALTER TABLE part TRUNCATE PARTITION a"),
        (Kind::Mysql56, "ALTER TABLE part TRUNCATE PARTITION a"),
        (Kind::Mariadb1011, "CREATE OR REPLACE TABLE t (id INT PRIMARY KEY, n INT, m INT) ENGINE = InnoDB"),
    ] {
        let moving = Moving::new(Pair::start(kind, Kind::Mysql97), &[PLAIN, PARTITIONED]).await;
        let mut running = moving.follow();
        moving.arrive(&mut running).await;
        moving.write(&["INSERT INTO part VALUES (1, 1)", "INSERT INTO t VALUES (1, 1, 1)", statement]).await;
        let error = running.failure().await;
        assert!(error.full_text().contains("ran on the source"), "{}", error.full_text());
    }
}

#[tokio::test]
async fn a_distributed_transaction_that_is_undone_changes_nothing_and_one_that_is_committed_counts_from_then() {
    for kind in [Kind::Mysql97, Kind::Mysql56, Kind::Mariadb1011] {
        let moving = Moving::new(Pair::of(kind), &[PLAIN]).await;
        let mut running = moving.follow();
        moving.arrive(&mut running).await;
        // The servers let a session do nothing else while it has one prepared.
        let (mut one, mut other) = (moving.pair.source.connect("shop").await, moving.pair.source.connect("shop").await);
        one.query_drop(
            "XA START 'a', 'b', 7; INSERT INTO t VALUES (1, 1, 1); XA END 'a', 'b', 7; XA PREPARE 'a', 'b', 7",
        )
        .await
        .expect("prepared");
        other
            .query_drop("XA START 'c'; INSERT INTO t VALUES (2, 2, 2); XA END 'c'; XA PREPARE 'c'")
            .await
            .expect("prepared");
        moving.write(&["INSERT INTO t VALUES (3, 3, 3)"]).await;
        moving.arrive(&mut running).await;
        let there = rows(&moving.pair.target, "SELECT CONCAT(id) FROM shop.t").await;
        assert_eq!(there, [[Some("3".to_owned())]], "{kind:?}");
        one.query_drop("XA ROLLBACK 'a', 'b', 7").await.expect("undone");
        other.query_drop("XA COMMIT 'c'").await.expect("committed");
        other
            .query_drop("XA START 'd'; INSERT INTO t VALUES (4, 4, 4); XA END 'd'; XA COMMIT 'd' ONE PHASE")
            .await
            .expect("committed");
        moving.arrive(&mut running).await;
        moving.assert_equal().await;
        let there = rows(&moving.pair.target, "SELECT CONCAT(id) FROM shop.t").await;
        assert_eq!(there.len(), 3, "{kind:?}");
        running.end().await;
    }
}

/// The follower ends between PREPARE and COMMIT, again and again, and by a stop or at once.
#[tokio::test]
async fn a_distributed_transaction_that_a_restart_comes_between_is_known_to_the_next_follower() {
    for kind in [Kind::Mysql97, Kind::Mysql56, Kind::Mariadb1011] {
        let moving = Moving::new(Pair::of(kind), &[PLAIN]).await;
        let mut running = moving.follow();
        moving.arrive(&mut running).await;
        let mut sessions = Vec::new();
        for (number, name) in ["'early'", "'kept', 'b', 9", "'undone'", "'late'"].iter().enumerate() {
            let mut session = moving.pair.source.connect("shop").await;
            let prepare =
                format!("XA START {name}; INSERT INTO t VALUES ({number}, 1, 1); XA END {name}; XA PREPARE {name}");
            session.query_drop(prepare).await.expect("prepared");
            sessions.push((session, *name));
            let row = format!("INSERT INTO t VALUES (1{number}, 1, 1)");
            moving.write(&[&row, "FLUSH BINARY LOGS"]).await;
            moving.arrive(&mut running).await;
            // What is committed before the next restart is not applied once more by it.
            if *name == "'kept', 'b', 9" {
                let early = &mut sessions[0].0;
                early.query_drop("XA COMMIT 'early'").await.expect("committed");
                moving.arrive(&mut running).await;
            }
            if number % 2 == 0 {
                running.end().await;
            } else {
                running.task.abort();
                let _ = running.task.await;
            }
            running = moving.follow();
            moving.arrive(&mut running).await;
        }
        for (session, name) in &mut sessions[1..] {
            let ending = if *name == "'undone'" { "ROLLBACK" } else { "COMMIT" };
            session.query_drop(format!("XA {ending} {name}")).await.expect("ended");
        }
        moving.write(&["UPDATE t SET n = 5 WHERE id = 1"]).await;
        moving.arrive(&mut running).await;
        moving.assert_equal().await;
        let there = rows(&moving.pair.target, "SELECT CONCAT(id) FROM shop.t").await;
        assert_eq!(there.len(), 7, "{kind:?}");
        // Once nothing is prepared, nothing is read again.
        let stored: Vec<String> = moving.pair.target.rows("", "SELECT position FROM headgate.progress").await;
        assert!(!stored[0].contains("since"), "{stored:?}");
        running.end().await;
    }
}

#[tokio::test]
async fn a_distributed_transaction_of_which_the_follower_knows_nothing_stops_it_when_it_is_committed() {
    for kind in [Kind::Mysql97, Kind::Mariadb1011] {
        let moving = Moving::new(Pair::start(kind, Kind::Mysql97), &[PLAIN]).await;
        let mut one = moving.pair.source.connect("shop").await;
        one.query_drop("XA START 'a'; INSERT INTO t VALUES (1, 1, 1); XA END 'a'; XA PREPARE 'a'")
            .await
            .expect("prepared");
        let mut source = moving.mysql.connect_source("test").await.expect("a session");
        let begin = position::current(&mut source).await.expect("a position");
        let begins = records::progressed(&moving.mysql, &begin).expect("written");
        moving.pair.target.run("", &begins).await;
        let mut running = moving.follow();
        moving.arrive(&mut running).await;
        one.query_drop("XA COMMIT 'a'").await.expect("committed");
        let text = running.failure().await.full_text();
        assert!(text.contains("was prepared before"), "{kind:?}: {text}");
    }
}

/// Both sides hold the same, told in less than a packet of the target.
async fn same_sums(moving: &Moving) {
    let sums = "SELECT id, LENGTH(b), CRC32(b) FROM shop.t";
    let there = rows(&moving.pair.source, sums).await;
    assert!(there.len() > 50, "{there:?}");
    assert_eq!(there, rows(&moving.pair.target, sums).await);
}

/// A target that takes little at once.
const LITTLE: &[(&str, &str)] =
    &[("max-binlog-cache-size", "1048576"), ("binlog-cache-size", "32768"), ("max-allowed-packet", "1M")];

#[tokio::test(flavor = "multi_thread")]
async fn batches_stay_below_what_the_target_takes_and_a_larger_transaction_stops_with_what_to_do() {
    for kind in [Kind::Mysql97, Kind::Mariadb1011] {
        let pair = Pair::start_with((kind, &[]), (kind, LITTLE));
        let moving = Moving::new(pair, &["CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB) ENGINE=InnoDB"]).await;
        // Together they are five times what the target takes, and all are there before the first is read.
        let many: Vec<String> =
            (0..50).map(|id| format!("INSERT INTO shop.t VALUES ({id}, REPEAT(x'275CFE41', 25000))")).collect();
        all(&moving.pair.source, &many).await;
        let mut running = moving.follow();
        moving.arrive(&mut running).await;
        // One row that fills a packet of the target all but a little.
        moving.write(&["INSERT INTO t VALUES (1000, REPEAT('x', 1000000))", "DELETE FROM t WHERE id = 1000"]).await;
        // One that is longer than a packet as it is written.
        moving.write(&["INSERT INTO t VALUES (1001, REPEAT(x'5C2700FE', 200000)), (1002, 'short')"]).await;
        moving.arrive(&mut running).await;
        same_sums(&moving).await;

        moving.write(&["INSERT INTO t SELECT id + 2000, b FROM t WHERE id < 30"]).await;
        let failure = running.failure().await;
        assert_eq!(failure.kind(), Failure::Fatal, "{}", failure.full_text());
        let remedy = failure.remedy_text().unwrap_or_default();
        assert!(failure.full_text().contains("shop.t"), "{}", failure.full_text());
        assert!(remedy.contains("raise max_binlog_cache_size"), "{kind:?}: {}", failure.full_text());
        moving.pair.target.run("", "SET GLOBAL max_binlog_cache_size = 67108864").await;
        let mut running = moving.follow();
        moving.arrive(&mut running).await;
        same_sums(&moving).await;
        running.end().await;
    }
}
