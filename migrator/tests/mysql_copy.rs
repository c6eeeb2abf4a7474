//! Loads real tables from real servers into real servers of MySQL and MariaDB.

mod servers;

use std::sync::Arc;
use std::time::Duration;

use migrator::accounts::NoSecrets;
use migrator::model::plan::{Plan, Settings, Table};
use migrator::model::progress::Progress;
use migrator::mysql::load::chunks::{Cutter, condition};
use migrator::mysql::load::range::ClusterPair;
use migrator::mysql::load::snapshot;
use migrator::mysql::records;
use migrator::mysql::{Endpoint, Mysql, MysqlDatabase, load, plan, position};
use mysql_async::Row;
use mysql_async::prelude::Queryable;
use servers::mysql::{Kind, Pair, Server};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A column's type, and values as the source's SQL writes them.
type Sample = (&'static str, &'static [&'static str]);

const EVERYWHERE: &[Sample] = &[
    (
        "VARCHAR(40) CHARACTER SET utf8mb4",
        &["'a\\tb\\nc\\\\d\\0e\\'f\\r'", "_utf8mb4 x'F09F9880C3A9'", "''", "NULL", "'NULL'", "'\\\\N'", "' x '"],
    ),
    ("VARCHAR(40) CHARACTER SET latin1", &["_latin1 x'E9FF5C090A00'"]),
    ("VARCHAR(40) CHARACTER SET ucs2", &["_ucs2 x'00410042005C0009000A0000'", "_ucs2 x'5C5C0A0A'"]),
    ("VARCHAR(40) CHARACTER SET utf16", &["_utf16 x'D83DDE000041'"]),
    ("LONGTEXT CHARACTER SET utf32", &["_utf32 x'0001F600'"]),
    ("VARCHAR(40) CHARACTER SET utf16le", &["_utf16le x'41003DD800DE'"]),
    ("VARCHAR(40) CHARACTER SET sjis", &["_sjis x'835C8140'"]),
    ("VARCHAR(40) CHARACTER SET gbk", &["_gbk x'815C'"]),
    ("CHAR(10) CHARACTER SET utf8mb4", &["'a  '", "''"]),
    ("BIT(17)", &["b'10101010101010101'", "0", "9", "92"]),
    ("BIT(1)", &["1", "0"]),
    ("BIT(64)", &["x'FFFFFFFFFFFFFF09'", "x'0A5C00000000005C'"]),
    ("BINARY(8)", &["x'0001095C0A0D2700'", "x'00'"]),
    ("VARBINARY(300)", &["x'5C4E'", "''", ALL_BYTES]),
    ("BLOB", &["x'5C4E'", ALL_BYTES, "REPEAT(x'5C090A00', 15000)"]),
    ("LONGBLOB", &["REPEAT(x'5C090A0041', 500000)"]),
    ("FLOAT", &["1.1", "16777217", "3.4028234663852886e38", "1.4e-45", "-0.0e0", "0.1", "123456.789"]),
    ("FLOAT(7,2)", &["1234.56", "99999.99", "0.1"]),
    (
        "DOUBLE",
        &[
            "1.1",
            "1e308",
            "5e-324",
            "0.1e0 + 0.2e0",
            "1 / 3e0",
            "-0.0e0",
            "123456789012345678",
            "1.7976931348623157e308",
        ],
    ),
    ("DOUBLE(30,5)", &["1.12345", "123456789012345678901234.5", "99999999.99999"]),
    ("DECIMAL(65,30)", &["-1.000000000000000000000000000001", "12345678901234567890123456789012345.5"]),
    ("BIGINT UNSIGNED", &["18446744073709551615", "0"]),
    ("BIGINT", &["-9223372036854775808", "9223372036854775807"]),
    ("INT(8) ZEROFILL", &["5"]),
    ("YEAR", &["0", "2020", "1901", "2155"]),
    ("DATE", &["'0000-00-00'", "'2020-00-00'", "'2021-02-31'", "'9999-12-31'"]),
    ("DATETIME(6)", &["'0000-00-00 00:00:00'", "'2020-01-01 01:02:03.000001'"]),
    (
        "TIMESTAMP(6) NULL",
        &["'0000-00-00 00:00:00'", "'2020-10-25 00:30:00.5'", "'2038-01-19 03:14:07.999999'", "NULL"],
    ),
    ("TIME(6)", &["'-838:59:59'", "'-00:00:00.000001'", "'12:00:00.5'"]),
    ("ENUM('a','','1','3','2') CHARACTER SET utf8mb4", &["'a'", "''", "'1'", "'3'", "5", "NULL", "0"]),
    ("ENUM('a','2','1') CHARACTER SET latin1", &["'a'", "0", "'2'", "0"]),
    ("ENUM('a','b') CHARACTER SET ucs2", &["'a'", "'b'"]),
    ("SET('a','b','1','2')", &["'a,b'", "''", "'1'", "'2'", "'a,2'"]),
    ("GEOMETRY", &["ST_GeomFromText('LINESTRING(0 0,1 1)')", "ST_GeomFromText('POINT(10 20)', 4326)"]),
];

const ALL_BYTES: &str = "x'000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F202122232425262728292A2B2C2D2E2F303132333435363738393A3B3C3D3E3F404142434445464748494A4B4C4D4E4F505152535455565758595A5B5C5D5E5F606162636465666768696A6B6C6D6E6F707172737475767778797A7B7C7D7E7F808182838485868788898A8B8C8D8E8F909192939495969798999A9B9C9D9E9FA0A1A2A3A4A5A6A7A8A9AAABACADAEAFB0B1B2B3B4B5B6B7B8B9BABBBCBDBEBFC0C1C2C3C4C5C6C7C8C9CACBCCCDCECFD0D1D2D3D4D5D6D7D8D9DADBDCDDDEDFE0E1E2E3E4E5E6E7E8E9EAEBECEDEEEFF0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF'";

const IN_MYSQL: &[Sample] = &[
    (
        "JSON",
        &[
            "'{\"a\": [1, 2.5, 1e300, 0.1, 18446744073709551615, \"x\\\\ty\\\\\\\\\", null]}'",
            "'{\"k\":\"\u{e9}\"}'",
            "CAST(0.1e0 + 0.2e0 AS JSON)",
            "JSON_OBJECT('price', CAST(1.10 AS DECIMAL(10,2)), 'it''s', JSON_ARRAY(CAST('-0.500' AS DECIMAL(65,30)), 2.5e0, '1.10'))",
            "CAST(CAST('99999999999999999999' AS DECIMAL(20)) AS JSON)",
        ],
    ),
    ("VECTOR(3)", &["TO_VECTOR('[1,2,9]')"]),
    ("POINT SRID 4326", &["ST_GeomFromText('POINT(10 20)', 4326)"]),
    ("INT INVISIBLE", &["7"]),
];

const IN_MARIADB: &[Sample] = &[
    ("JSON", &["'{\"a\": 1}'"]),
    ("UUID", &["'123e4567-e89b-12d3-a456-426655440000'"]),
    ("INET6", &["'2001:db8::1'"]),
    ("INET4", &["'1.2.3.4'"]),
    ("INT INVISIBLE", &["7"]),
];

const PERMISSIVE: &str = "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone = '+00:00'";

fn settings() -> Settings {
    Settings { copy_workers: 4, copy_chunk_bytes: 4 << 20, ..Settings::default() }
}

/// Runs statements on one or both servers.
async fn define(pair: &Pair, both: bool, statements: &[String]) {
    let mut servers = vec![&pair.source];
    if both {
        servers.push(&pair.target);
    }
    for server in servers {
        let mut session = server.connect("").await;
        session.query_drop(PERMISSIVE).await.expect("it is set");
        for statement in statements {
            let done = session.query_drop(statement).await;
            done.unwrap_or_else(|error| panic!("{error}; in {statement}"));
        }
    }
}

/// Loads what is not loaded, without what comes behind the load.
async fn load(mysql: &MysqlDatabase, plan: &Plan, stop: &CancellationToken) -> migrator::error::Result<Arc<Progress>> {
    let mut source = mysql.connect_source("test").await?;
    let mut target = mysql.connect_target("test").await?;
    records::install_records(&mut target).await?;
    if records::progress(mysql, &mut target).await?.is_none() {
        let begin = position::current(&mut source).await?;
        records::begin_progress(mysql, &mut target, &begin).await?;
    }
    let begin = records::progress(mysql, &mut target).await?.expect("just recorded");
    let keyed: Vec<Table> = plan.tables.iter().filter(|table| !table.key.is_empty()).cloned().collect();
    records::begin_keyed(mysql, &mut target, &keyed, &begin).await?;
    let recorded = records::tables(mysql, &mut target).await?;
    let to_load: Vec<Table> = plan
        .tables
        .iter()
        .filter(|table| {
            !recorded.get(&(table.schema.clone(), table.name.clone())).is_some_and(|reported| reported.rows)
        })
        .cloned()
        .collect();
    let progress = Arc::new(Progress::default());
    let (loaded, mut to_build) = mpsc::channel(plan.tables.len().max(1));
    load::load(mysql, to_load, loaded, &progress, stop).await?;
    while to_build.recv().await.is_some() {}
    Ok(progress)
}

async fn contents(server: &Server, table: &str, expression: &str) -> Vec<(u64, Option<String>)> {
    let mut session = server.connect("").await;
    session.query_drop(PERMISSIVE).await.expect("it is set");
    session.query(format!("SELECT id, {expression} FROM shop.{table} ORDER BY id")).await.expect("it is there")
}

/// What tells two values of a type apart, in text of ASCII.
fn exactly(data_type: &str, target: Kind) -> &'static str {
    let name = data_type.split(['(', ' ']).next().unwrap_or_default();
    match name {
        // It shows no sign of a zero.
        "FLOAT" | "DOUBLE" if target == Kind::Mariadb1011 => "CONCAT(c + 0e0)",
        "FLOAT" | "DOUBLE" => "CONCAT(c * 1e0)",
        "ENUM" | "SET" | "INT" | "BIGINT" => "CONCAT(c + 0)",
        "YEAR" | "DATE" | "DATETIME" | "TIMESTAMP" | "TIME" | "DECIMAL" => "CONCAT(c)",
        "LONGBLOB" => "SHA2(c, 256)",
        "UUID" | "INET4" | "INET6" => "HEX(CAST(c AS BINARY))",
        _ => "HEX(c)",
    }
}

async fn every_type(source: Kind, target: Kind, files: bool) {
    let local = if files { "ON" } else { "OFF" };
    let pair = Pair::start_with((source, &[]), (target, &[("local-infile", local)]));
    let mut samples = EVERYWHERE.to_vec();
    match (source, target) {
        (Kind::Mysql97, Kind::Mysql97) => samples.extend(IN_MYSQL),
        (Kind::Mariadb1011, Kind::Mariadb1011) => samples.extend(IN_MARIADB),
        _ => {}
    }
    let (mut tables, mut rows) = (vec!["CREATE DATABASE shop".to_owned()], Vec::new());
    for (number, (data_type, values)) in samples.iter().enumerate() {
        tables.push(format!("CREATE TABLE shop.t{number} (id INT PRIMARY KEY, c {data_type}) ENGINE=InnoDB"));
        tables.push(format!("CREATE TABLE shop.k{number} (id INT, c {data_type}) ENGINE=InnoDB"));
        for (id, value) in values.iter().enumerate() {
            for kind in ["t", "k"] {
                rows.push(format!("INSERT INTO shop.{kind}{number} (id, c) VALUES ({id}, {value})"));
            }
        }
    }
    define(&pair, true, &tables).await;
    define(&pair, false, &rows).await;
    let mysql = pair.migration("types", settings());
    let plan = plan::read(&mysql).await.expect("a plan");
    load(&mysql, &plan, &CancellationToken::new()).await.expect("it loads");
    for (number, (data_type, values)) in samples.iter().enumerate() {
        for kind in ["t", "k"] {
            let (table, expression) = (format!("{kind}{number}"), exactly(data_type, target));
            let there = contents(&pair.source, &table, expression).await;
            assert_eq!(there.len(), values.len());
            let here = contents(&pair.target, &table, expression).await;
            assert_eq!(there, here, "{data_type} from {source:?} to {target:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_byte_for_byte_in_mysql() {
    every_type(Kind::Mysql97, Kind::Mysql97, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_byte_for_byte_in_mysql_that_takes_no_files() {
    every_type(Kind::Mysql97, Kind::Mysql97, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_byte_for_byte_in_mariadb() {
    every_type(Kind::Mariadb1011, Kind::Mariadb1011, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_byte_for_byte_in_mariadb_that_takes_no_files() {
    every_type(Kind::Mariadb1011, Kind::Mariadb1011, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_an_old_server_arrives_byte_for_byte_in_mysql() {
    every_type(Kind::Mysql56, Kind::Mysql97, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_an_old_server_arrives_byte_for_byte_in_mariadb() {
    every_type(Kind::Mysql56, Kind::Mariadb1011, true).await;
}

const DIGITS: &str = "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 \
    UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";

/// A table of `10_000 * times` rows made from the number `n` of each.
fn filled(name: &str, columns: &str, values: &str, times: u32) -> Vec<String> {
    let mut statements = vec![format!("CREATE TABLE shop.{name} ({columns}) ENGINE=InnoDB")];
    for turn in 0..times {
        statements.push(format!(
            "INSERT INTO shop.{name} SELECT {values} FROM (SELECT {turn} * 10000 + a.d * 1000 + b.d * 100 + c.d * 10 + e.d AS n
             FROM {DIGITS} a, {DIGITS} b, {DIGITS} c, {DIGITS} e) numbers ORDER BY n"
        ));
    }
    statements.push(format!("ANALYZE TABLE shop.{name}"));
    statements
}

async fn cut_everything(kind: Kind) {
    let server = Server::start(kind, &[]);
    let shapes = [
        ("signed", "k BIGINT PRIMARY KEY", "(n - 5000) * 1000003"),
        ("far", "k BIGINT UNSIGNED PRIMARY KEY", "IF(n < 5000, n, 18446744073709541615 + n)"),
        ("dense", "k INT PRIMARY KEY", "n"),
        (
            "words",
            "a VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci, b INT, PRIMARY KEY (a, b)",
            "CONCAT(IF(n % 2, 'W\u{f6}rt', 'wort'), n % 7), n",
        ),
        ("wide", "a CHAR(20) CHARACTER SET ucs2 COLLATE ucs2_general_ci PRIMARY KEY", "CONCAT('\u{e9}', n)"),
        (
            "bytes",
            "a VARBINARY(16), b DATETIME(6), c DECIMAL(20,5), PRIMARY KEY (a, b, c)",
            "UNHEX(MD5(n % 100)), '2020-01-01 00:00:00.5' + INTERVAL n % 10 HOUR, n / 3",
        ),
        ("floating", "k DOUBLE PRIMARY KEY", "n / 3"),
        ("half", "a INT, b ENUM('x','y'), c INT, PRIMARY KEY (a, b, c)", "n % 50, 1 + n % 2, n"),
        ("alike", "a INT, b DOUBLE, PRIMARY KEY (a, b)", "n % 2, n"),
    ];
    let mut session = server.connect("").await;
    session.query_drop("CREATE DATABASE shop").await.expect("it is made");
    for (name, columns, values) in shapes {
        let values = if kind == Kind::Mysql97 {
            values
                .replace("MD5(n % 100)", "SHA2(n % 100, 224)")
                .replace("UNHEX(", "LEFT(UNHEX(")
                .replace("224))", "224)), 16)")
        } else {
            values.to_owned()
        };
        for statement in filled(name, columns, &values, 1) {
            let done = session.query_drop(&statement).await;
            done.unwrap_or_else(|error| panic!("{error}; in {statement}"));
        }
    }
    let mysql = servers::mysql::migration("cut", &server, &server, settings());
    let plan = plan::read(&mysql).await.expect("a plan");
    assert_eq!(plan.tables.len(), shapes.len());
    for mut table in plan.tables {
        table.rows_estimated = 10_000;
        table.bytes = 64 << 20;
        let mut source = mysql.connect_source("test").await.expect("a session");
        let (mut chunks, mut conditions) = (Vec::new(), Vec::new());
        let mut cutter = Cutter::new(&table, &[], mysql.settings());
        while let Some(chunk) = cutter.next(&mut source).await.expect("a chunk") {
            // As after a crash: whoever knows the chunks so far goes on where they end.
            chunks.push(chunk);
            cutter = Cutter::new(&table, &chunks, mysql.settings());
        }
        let mut total = 0;
        for chunk in &chunks {
            let condition = condition(&table, chunk);
            let query = format!("SELECT COUNT(*) FROM shop.{}{condition}", table.name);
            let rows: u64 = source.query_first(&query).await.expect("it counts").unwrap_or_default();
            assert!(
                chunks.len() == 1 || rows < 5_500,
                "{rows} rows in one of {} chunks of {}",
                chunks.len(),
                table.name
            );
            total += rows;
            conditions.push(condition.replacen(" WHERE ", "", 1));
        }
        assert_eq!(total, 10_000, "{}: {conditions:?}", table.name);
        let single = table.name == "floating";
        let enough = if table.name == "alike" { 2 } else { 5 };
        assert_eq!(chunks.len() == 1, single, "{}", table.name);
        assert!(single || chunks.len() >= enough, "{} chunks of {}", chunks.len(), table.name);
        if single {
            continue;
        }
        let any = conditions.join(") OR (");
        let query = format!("SELECT COUNT(*) FROM shop.{} WHERE ({any})", table.name);
        let covered: Option<u64> = source.query_first(query).await.expect("it counts");
        assert_eq!(covered, Some(10_000), "{}", table.name);
        if table.key.len() > 1 {
            let last = conditions.get(conditions.len() - 2).expect("several");
            let explained: Option<Row> = source
                .query_first(format!("EXPLAIN FORMAT=TRADITIONAL SELECT * FROM shop.{} WHERE {last}", table.name))
                .await
                .expect("a plan");
            let access: Option<String> = explained.expect("a row").get("type");
            assert_eq!(access.as_deref(), Some("range"), "{last}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_meet_without_a_gap_or_an_overlap_on_mysql() {
    cut_everything(Kind::Mysql97).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_meet_without_a_gap_or_an_overlap_on_an_old_server() {
    cut_everything(Kind::Mysql56).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_meet_without_a_gap_or_an_overlap_on_mariadb() {
    cut_everything(Kind::Mariadb1011).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_loses_a_connection_goes_on_with_another() {
    let pair = Pair::start(Kind::Mysql97, Kind::Mysql97);
    define(&pair, true, &["CREATE DATABASE shop".to_owned()]).await;
    define(&pair, false, &filled("big", "id INT PRIMARY KEY, c VARCHAR(200)", "n, 'x'", 1)).await;
    let mut locker = pair.target.connect("").await;
    let empty = "CREATE TABLE shop.big (id INT PRIMARY KEY, c VARCHAR(200)) ENGINE=InnoDB";
    locker.query_drop(empty).await.expect("it is made");
    let mysql = pair.migration("lost", settings());
    let plan = plan::read(&mysql).await.expect("a plan");
    let mut target = pair.target.connect("").await;
    records::install_records(&mut target).await.expect("records");
    locker.query_drop("LOCK TABLES shop.big WRITE").await.expect("it is locked");
    let ending = async {
        let waiting = "SELECT id FROM information_schema.processlist
            WHERE state = 'Waiting for table metadata lock' AND info LIKE 'LOAD DATA%'";
        let session = loop {
            let found: Option<u64> = target.query_first(waiting).await.expect("the target answers");
            if let Some(session) = found {
                break session;
            }
        };
        target.query_drop(format!("KILL {session}")).await.expect("it is ended");
        locker.query_drop("UNLOCK TABLES").await.expect("it is free");
    };
    let ending = tokio::time::timeout(Duration::from_mins(1), ending);
    let stop = CancellationToken::new();
    let (loaded, ended) = tokio::join!(load(&mysql, &plan, &stop), ending);
    ended.expect("the load waits for the lock");
    loaded.expect("the load comes to its end");
    let query = "SELECT COUNT(*), CAST(SUM(id) AS UNSIGNED) FROM shop.big";
    let there: Vec<(u64, u64)> = pair.source.rows("shop", query).await;
    let here: Vec<(u64, u64)> = pair.target.rows("shop", query).await;
    assert_eq!(there, here);
}

/// A load that is aborted again and again goes on where it was, and loads nothing twice.
async fn abort_and_resume(source: Kind, target: Kind) {
    let pair = Pair::start(source, target);
    define(&pair, true, &["CREATE DATABASE shop".to_owned()]).await;
    let columns = "id INT PRIMARY KEY, c VARCHAR(200)";
    let rows = filled("big", columns, "n, REPEAT(CHAR(97 + n % 26), 200)", 12);
    define(&pair, false, &rows).await;
    let plain = filled("plain", "id INT, c VARCHAR(200)", "n, REPEAT('x', n % 200)", 4);
    define(&pair, false, &plain).await;
    let empty = ["big (id INT PRIMARY KEY", "plain (id INT"]
        .map(|begin| format!("CREATE TABLE shop.{begin}, c VARCHAR(200)) ENGINE=InnoDB"));
    let mut session = pair.target.connect("").await;
    for statement in empty {
        session.query_drop(statement).await.expect("it is made");
    }
    let mysql = pair.migration(
        "resume",
        Settings {
            copy_workers: 2,
            // A table without a key comes in several pieces.
            copy_chunk_bytes: 16 << 10,
            ..settings()
        },
    );
    let plan = plan::read(&mysql).await.expect("a plan");
    let done = "SELECT COUNT(*) FROM headgate.chunks WHERE loaded = 1";
    let mut target = pair.target.connect("").await;
    records::install_records(&mut target).await.expect("records");
    for wanted in [1_u64, 2, 4] {
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let (mysql, plan, stop) = (mysql.clone(), plan.clone(), stop.clone());
            async move { load(&mysql, &plan, &stop).await.map(|_| ()) }
        });
        let reached = async {
            while !running.is_finished() {
                let loaded: Option<u64> = target.query_first(done).await.expect("records");
                if loaded.unwrap_or(0) >= wanted {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_mins(1), reached).await.expect("it loads");
        if wanted == 2 {
            stop.cancel();
            running.await.expect("no panic").expect("it stops without an error");
        } else {
            running.abort();
            let _ = running.await;
        }
    }
    load(&mysql, &plan, &CancellationToken::new()).await.expect("it loads");
    let chunks: Option<(u64, u64, u64)> = target
        .query_first(
            "SELECT COUNT(*), CAST(SUM(loaded) AS UNSIGNED), CAST(SUM(`row_count`) AS UNSIGNED) FROM headgate.chunks",
        )
        .await
        .expect("records");
    let (count, loaded, rows) = chunks.expect("a row");
    assert!(count > 4 && count == loaded, "{loaded} of {count} chunks");
    assert_eq!(rows, 160_000);
    for table in ["big", "plain"] {
        let query = format!("SELECT COUNT(*), CAST(SUM(CRC32(CONCAT(id, c))) AS UNSIGNED) FROM shop.{table}");
        let there: Vec<(u64, u64)> = pair.source.rows("shop", &query).await;
        let here: Vec<(u64, u64)> = pair.target.rows("shop", &query).await;
        assert_eq!(there, here, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_is_cut_off_again_and_again_loads_nothing_twice_into_mysql() {
    abort_and_resume(Kind::Mysql56, Kind::Mysql97).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_is_cut_off_again_and_again_loads_nothing_twice_into_mariadb() {
    abort_and_resume(Kind::Mariadb1011, Kind::Mariadb1011).await;
}

/// The position of a snapshot tells exactly which transactions it sees, while others write.
async fn exact_while_writing(kind: Kind) {
    let server = Server::start(kind, &[]);
    let mut session = server.connect("").await;
    for statement in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.counted (id INT PRIMARY KEY, n BIGINT) ENGINE=InnoDB",
        "INSERT INTO shop.counted VALUES (0, 0), (1, 0), (2, 0), (3, 0)",
    ] {
        session.query_drop(statement).await.expect("it is done");
    }
    let mysql = servers::mysql::migration("exact", &server, &server, settings());
    let plan = plan::read(&mysql).await.expect("a plan");
    let commits_before = |file: String, offset: u64| {
        let server = &server;
        async move {
            // The server may meet the end of the log while a group of commits is being written there.
            let mut asking = server.connect("").await;
            let query = format!("SHOW BINLOG EVENTS IN '{file}'");
            let events: Vec<Row> = loop {
                match asking.query(query.as_str()).await {
                    Ok(events) => break events,
                    Err(mysql_async::Error::Server(reported)) if reported.code == 1220 => {}
                    Err(error) => panic!("{error}"),
                }
            };
            let is_commit = |row: &&Row| {
                let (event, end): (String, u64) = (row.get(2).expect("a type"), row.get(4).expect("an end"));
                event == "Xid" && end <= offset
            };
            events.iter().filter(is_commit).count() as u64
        }
    };
    let begin = position::current(&mut session).await.expect("a position");
    let base = commits_before(begin.file.clone(), begin.offset).await;
    let stop = CancellationToken::new();
    let mut writers = Vec::new();
    for id in 0..4 {
        let (mut writer, stop) = (server.connect("").await, stop.clone());
        writers.push(tokio::spawn(async move {
            let mut written = 0_u64;
            while !stop.is_cancelled() {
                let update = format!("UPDATE shop.counted SET n = n + 1 WHERE id = {id}");
                // Half of them hold their transaction open between two statements.
                let around = if id % 2 == 0 { ["DO 0"; 2] } else { ["BEGIN", "COMMIT"] };
                for statement in [around[0], &update, around[1]] {
                    writer.query_drop(statement).await.expect("it writes");
                }
                written += 1;
            }
            written
        }));
    }
    let mut last = 0;
    for _ in 0..40 {
        let exact = snapshot::exact(&mysql, &plan.tables, 3, &stop).await.expect("a snapshot").expect("not stopped");
        let mut seen = Vec::new();
        for mut session in exact.sessions {
            let sum: Option<u64> =
                session.query_first("SELECT CAST(SUM(n) AS UNSIGNED) FROM shop.counted").await.expect("a sum");
            seen.push(sum.unwrap_or(0));
        }
        assert_eq!(exact.position.file, begin.file);
        let commits = commits_before(exact.position.file, exact.position.offset).await - base;
        assert_eq!(seen, [commits; 3]);
        assert!(commits > last, "nobody wrote");
        last = commits;
    }
    stop.cancel();
    for writer in writers {
        assert!(writer.await.expect("no panic") > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_sees_exactly_what_is_before_its_position_on_mysql() {
    exact_while_writing(Kind::Mysql97).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_sees_exactly_what_is_before_its_position_on_an_old_server() {
    exact_while_writing(Kind::Mysql56).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_sees_exactly_what_is_before_its_position_on_mariadb() {
    exact_while_writing(Kind::Mariadb1011).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_a_writer_blocks_names_it_and_holds_no_other_writer_back_for_long() {
    let server = Server::start(Kind::Mysql97, &[]);
    let mut blocker = server.connect("").await;
    for statement in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.t (id INT PRIMARY KEY) ENGINE=InnoDB",
        "INSERT INTO shop.t VALUES (1)",
    ] {
        blocker.query_drop(statement).await.expect("it is done");
    }
    let id = blocker.id();
    let blocking = tokio::spawn(async move {
        // No lock of any kind is to be had on a table, or on all of them, while a statement writes to it.
        let long = "UPDATE shop.t SET id = 2 WHERE id = 1 AND SLEEP(600) = 0";
        let _ = blocker.query_drop(long).await;
    });
    let mut watcher = server.connect("").await;
    // InnoDB's own list would be a copy that is made anew only where nobody has asked for a tenth of a second.
    let runs = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE state = 'User sleep'";
    while watcher.query_first::<u64, _>(runs).await.expect("a count") != Some(1) {}
    let mysql = servers::mysql::migration("exact", &server, &server, settings());
    let plan = plan::read(&mysql).await.expect("a plan");
    let stop = CancellationToken::new();
    let writing = async {
        let mut writer = server.connect("").await;
        let mut longest = Duration::ZERO;
        for id in 10.. {
            let begun = std::time::Instant::now();
            writer.query_drop(format!("INSERT INTO shop.t VALUES ({id})")).await.expect("it writes");
            longest = longest.max(begun.elapsed());
            if stop.is_cancelled() {
                break;
            }
        }
        longest
    };
    let asking = async {
        let refused = snapshot::exact(&mysql, &plan.tables, 1, &stop).await.map(|_| ());
        stop.cancel();
        refused.expect_err("the blocker is in the way")
    };
    let (longest, error) = tokio::join!(writing, asking);
    assert!(error.to_string().contains(&format!("connection {id}")), "{error}");
    assert!(longest < Duration::from_millis(900), "{longest:?}");
    blocking.abort();
}

/// Snapshots of several tables, while transactions write to them in opposite orders: nobody's transaction is ended, and
/// one that is open and has written keeps no snapshot back.
async fn no_client_notices_snapshots(kind: Kind) {
    let server = Server::start(kind, &[]);
    let mut session = server.connect("").await;
    for statement in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.a (id INT PRIMARY KEY, n BIGINT) ENGINE=InnoDB",
        "CREATE TABLE shop.b (id INT PRIMARY KEY, n BIGINT) ENGINE=InnoDB",
        "INSERT INTO shop.a VALUES (0, 0), (1, 0), (2, 0), (3, 0), (4, 0)",
        "INSERT INTO shop.b SELECT * FROM shop.a",
        "BEGIN",
        "UPDATE shop.b SET n = 1 WHERE id = 4",
    ] {
        session.query_drop(statement).await.expect("it is done");
    }
    let mysql = servers::mysql::migration("unnoticed", &server, &server, settings());
    let plan = plan::read(&mysql).await.expect("a plan");
    let stop = CancellationToken::new();
    let mut writers = Vec::new();
    for id in 0..4 {
        let (mut writer, stop) = (server.connect("").await, stop.clone());
        writers.push(tokio::spawn(async move {
            let order = if id % 2 == 0 { ["a", "b"] } else { ["b", "a"] };
            let mut written = 0_u64;
            while !stop.is_cancelled() {
                writer.query_drop("BEGIN").await.expect("it begins");
                for table in order {
                    let update = format!("UPDATE shop.{table} SET n = n + 1 WHERE id = {id}");
                    writer.query_drop(update).await.expect("it writes");
                }
                writer.query_drop("COMMIT").await.expect("it commits");
                written += 1;
            }
            written
        }));
    }
    for _ in 0..100 {
        let exact = snapshot::exact(&mysql, &plan.tables, 2, &stop).await.expect("a snapshot").expect("not stopped");
        for mut session in exact.sessions {
            let halves: Option<u64> = session
                .query_first("SELECT COUNT(*) FROM shop.a JOIN shop.b USING (id) WHERE a.n <> b.n")
                .await
                .expect("a count");
            assert_eq!(halves, Some(0), "a snapshot shows half a transaction");
        }
    }
    stop.cancel();
    for writer in writers {
        assert!(writer.await.expect("no client met an error") > 0);
    }
    session.query_drop("COMMIT").await.expect("it commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_of_mysql_notices_snapshots() {
    no_client_notices_snapshots(Kind::Mysql97).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_of_an_old_server_notices_snapshots() {
    no_client_notices_snapshots(Kind::Mysql56).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_of_mariadb_notices_snapshots() {
    no_client_notices_snapshots(Kind::Mariadb1011).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_does_not_begin_while_a_transaction_is_prepared() {
    let server = Server::start(Kind::Mysql97, &[]);
    let mut session = server.connect("").await;
    for statement in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.t (id INT PRIMARY KEY) ENGINE=InnoDB",
        "XA START 'gtrid', 'bqual', 7",
        "INSERT INTO shop.t VALUES (1)",
        "XA END 'gtrid', 'bqual', 7",
        "XA PREPARE 'gtrid', 'bqual', 7",
    ] {
        session.query_drop(statement).await.expect("it is done");
    }
    let settings = Settings { slot_create_timeout: Duration::from_millis(300), ..settings() };
    let mysql = servers::mysql::migration("prepared", &server, &server, settings);
    let plan = plan::read(&mysql).await.expect("a plan");
    let mut source = mysql.connect_source("test").await.expect("a session");
    let mut target = mysql.connect_target("test").await.expect("a session");
    records::install_records(&mut target).await.expect("records");
    let error = load::begin(&mysql, &plan, &mut source, &mut target)
        .await
        .expect_err("a change is in the log and in no snapshot");
    assert!(error.to_string().contains("XA RECOVER"), "{error}");
    let recorded = records::progress(&mysql, &mut target).await;
    assert_eq!(recorded.expect("it is read"), None);
    session.query_drop("XA COMMIT 'gtrid', 'bqual', 7").await.expect("it is committed");
    load::begin(&mysql, &plan, &mut source, &mut target).await.expect("nothing is prepared any more");
    let begun = records::progress(&mysql, &mut target).await.expect("it is read").expect("it is recorded");
    load::begin(&mysql, &plan, &mut source, &mut target).await.expect("it may be called again");
    let kept = records::progress(&mysql, &mut target).await;
    assert_eq!(kept.expect("it is read"), Some(begun));
}

/// The load's own connections log in as ordinary ones do, also where the server has never seen the password before.
async fn log_in_with_a_password(kind: Kind) {
    let server = Server::start(kind, &[]);
    for statement in
        ["CREATE USER mover@'127.0.0.1' IDENTIFIED BY 'p\u{e4}ss w\\'ord'", "GRANT ALL ON *.* TO mover@'127.0.0.1'"]
    {
        server.run("", statement).await;
    }
    let migration = |password: &str| {
        let endpoint = Endpoint { user: "mover".into(), password: Some(password.into()), ..server.endpoint("shop") };
        let secrets = Arc::new(NoSecrets);
        MysqlDatabase::new(Mysql::new("login", endpoint.clone(), endpoint, settings(), secrets))
    };
    for _ in 0..2 {
        ClusterPair::open(&migration("p\u{e4}ss w'ord")).await.expect("it logs in");
    }
    let refused = ClusterPair::open(&migration("wrong")).await.map(|_| ());
    let error = refused.expect_err("the password is wrong");
    assert!(error.to_string().contains("1045"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_logs_in_with_a_password_to_mysql() {
    log_in_with_a_password(Kind::Mysql97).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_logs_in_with_a_password_to_an_old_server() {
    log_in_with_a_password(Kind::Mysql56).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_logs_in_with_a_password_to_mariadb() {
    log_in_with_a_password(Kind::Mariadb1011).await;
}

/// Rows of several packets arrive, whatever the target takes in one packet.
async fn enormous_rows(kind: Kind, packet: &str) {
    let large: &[(&str, &str)] = &[("max-allowed-packet", "64M")];
    let small: &[(&str, &str)] = &[("max-allowed-packet", packet)];
    let pair = Pair::start_with((kind, large), (kind, small));
    let tables = [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.t (id INT PRIMARY KEY, a LONGBLOB, b LONGBLOB, c INT) ENGINE=InnoDB",
    ];
    define(&pair, true, &tables.map(str::to_owned)).await;
    // The second fills a packet to its last byte: id, length and bytes of a, an empty b, NULL.
    let rows = [
        "INSERT INTO shop.t VALUES (1, REPEAT(x'5C0A00FE', 5000000), REPEAT('b', 17000000), 3)",
        "INSERT INTO shop.t VALUES (2, REPEAT('a', 16777215 - 2 - 4 - 1 - 1), '', NULL)",
        "INSERT INTO shop.t VALUES (3, REPEAT('a', 16777215 - 2 - 4 - 1 - 2), '', NULL)",
        "INSERT INTO shop.t VALUES (4, '', '', 4)",
    ];
    define(&pair, false, &rows.map(str::to_owned)).await;
    let mysql = pair.migration("enormous", settings());
    let plan = plan::read(&mysql).await.expect("a plan");
    load(&mysql, &plan, &CancellationToken::new()).await.expect("it loads");
    let sums = "CONCAT_WS('/', LENGTH(a), CRC32(a), LENGTH(b), CRC32(b), IFNULL(c, 'NULL'))";
    let there = contents(&pair.source, "t", sums).await;
    assert_eq!(there.len(), 4);
    assert_eq!(there, contents(&pair.target, "t", sums).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_several_packets_arrives_in_mysql() {
    enormous_rows(Kind::Mysql97, "1M").await;
}

/// As statements: it takes minutes for such a value in a file.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_several_packets_arrives_in_mariadb() {
    enormous_rows(Kind::Mariadb1011, "128M").await;
}

/// Rows of five megabytes arrive in a target that takes one in a transaction, and one in a packet.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_stay_below_what_the_target_takes_in_a_transaction() {
    let little: &[(&str, &str)] =
        &[("max-binlog-cache-size", "1048576"), ("binlog-cache-size", "32768"), ("max-allowed-packet", "1M")];
    for kind in [Kind::Mysql97, Kind::Mariadb1011] {
        let pair = Pair::start_with((kind, &[]), (kind, little));
        let tables = [
            "CREATE DATABASE shop",
            "CREATE TABLE shop.t (id INT PRIMARY KEY, b LONGBLOB) ENGINE=InnoDB",
            "CREATE TABLE shop.keyless (id INT, b LONGBLOB) ENGINE=InnoDB",
        ];
        define(&pair, true, &tables.map(str::to_owned)).await;
        let mut rows = Vec::new();
        for table in ["t", "keyless"] {
            rows.extend(
                (0..50).map(|id| format!("INSERT INTO shop.{table} VALUES ({id}, REPEAT(x'275CFE41', 25000))")),
            );
            // More than the target takes in a packet, where it is escaped.
            rows.push(format!("INSERT INTO shop.{table} VALUES (1000, REPEAT(x'27', 700000))"));
            rows.push(format!("ANALYZE TABLE shop.{table}"));
        }
        define(&pair, false, &rows).await;
        let mysql = pair.migration("little", settings());
        let plan = plan::read(&mysql).await.expect("a plan");
        load(&mysql, &plan, &CancellationToken::new()).await.expect("it loads");
        for table in ["t", "keyless"] {
            let sums = "CONCAT_WS('/', id, LENGTH(b), CRC32(b))";
            let there = contents(&pair.source, table, sums).await;
            assert_eq!(there.len(), 51);
            assert_eq!(there, contents(&pair.target, table, sums).await, "{kind:?}: {table}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_position_counts_exactly_the_transactions_before_it() {
    let pair = Pair::start(Kind::Mysql97, Kind::Mysql97);
    let tables = ["CREATE DATABASE shop", "CREATE TABLE shop.t (id BIGINT AUTO_INCREMENT PRIMARY KEY)"];
    define(&pair, false, &tables.map(str::to_owned)).await;
    let stop = CancellationToken::new();
    let mut writers = Vec::new();
    for _ in 0..8 {
        let (mut session, stop) = (pair.source.connect("shop").await, stop.clone());
        writers.push(tokio::spawn(async move {
            while !stop.is_cancelled() {
                let wrote = session.query_drop("INSERT INTO t VALUES ()").await;
                wrote.expect("the source takes rows");
            }
        }));
    }
    for round in 0..20 {
        let mysql = pair.migration(&format!("m{round}"), settings());
        let plan = plan::read(&mysql).await.expect("a plan");
        let mut source = mysql.connect_source("test").await.expect("a session");
        let mut target = mysql.connect_target("test").await.expect("a session");
        records::install_records(&mut target).await.expect("installed");
        // The log may be read just as its last event is written; whoever runs a migration tries again, too.
        let mut tries = 0;
        while let Err(error) = load::begin(&mysql, &plan, &mut source, &mut target).await {
            tries += 1;
            assert!(error.kind() == migrator::error::Kind::Transient && tries < 10, "it begins: {error:?}");
        }
        let begin = records::progress(&mysql, &mut target).await.expect("readable").expect("recorded");
        let query = format!("SHOW BINLOG EVENTS IN '{}' FROM {} LIMIT 1", begin.file, begin.offset);
        let next: Row = source.query_first(query).await.expect("readable").expect("one");
        let info: String = next.get(5).expect("a text");
        let (server, number) = info.split('\'').nth(1).and_then(|gtid| gtid.rsplit_once(':')).expect("a GTID");
        let number: u64 = number.parse().expect("a number");
        assert_eq!(begin.gtids, format!("{server}:1-{}", number - 1));
    }
    stop.cancel();
    for writer in writers {
        writer.await.expect("it wrote");
    }
}
