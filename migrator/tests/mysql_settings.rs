//! Nothing that a server's settings say changes how Headgate's own sessions read, write, compare or limit values.

mod servers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use migrator::database::{ChangeStream as _, Comparison as _, SchemaAndLoad as _};
use migrator::follow::Follow;
use migrator::model::plan::Settings;
use migrator::model::progress::Progress;
use migrator::mysql::heartbeat;
use migrator::mysql::session::{Ours, VARIABLES, Variable};
use migrator::mysql::{MysqlDatabase, client};
use mysql_async::prelude::Queryable;
use servers::mysql::{Kind, Pair, Server};
use tokio_util::sync::CancellationToken;

const TIMEOUT: Duration = Duration::from_mins(1);
/// What no session of a client can be left with by these tests: not even their own statements would run.
const UNTRIED: &[&str] = &["enforce_storage_engine", "sql_log_bin"];
/// Values that some variables take and that are not built in, tried in this order.
const ODD: &[&str] = &[
    "2",
    "1",
    "0",
    "'ON'",
    "'OFF'",
    "'CHAIN'",
    "'RELEASE'",
    "'SERIALIZABLE'",
    "'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH'",
    "'+05:30'",
    "'latin2'",
    "'latin2_general_ci'",
    "'de_DE'",
    "'MyISAM'",
    "'aes-256-cbc'",
    "'utf8mb4_general_ci'",
    "'DOTALL'",
    "'ZERO_DATE_TIME_CAST'",
    "'2001-01-01 00:00:00'",
    "'KEEP'",
    "'INPLACE'",
    "'BEFORE_8_0_26'",
    "'MIXED'",
    "'MINIMAL'",
    "'PARTIAL_JSON'",
    "7",
];

async fn shown(server: &Server, scope: &str) -> BTreeMap<String, String> {
    let rows: Vec<(String, String)> = server.rows("", &format!("SHOW {scope} VARIABLES")).await;
    rows.into_iter().collect()
}

/// Gives every variable of the table that the server has globally a value that is not built in. Tells which.
async fn make_odd(server: &Server) -> Vec<&'static Variable> {
    let before = shown(server, "GLOBAL").await;
    let mut session = server.connect("").await;
    let mut odd = Vec::new();
    for variable in VARIABLES {
        let name = variable.name;
        if matches!(variable.ours, Ours::Left) || UNTRIED.contains(&name) {
            continue;
        }
        let Some(before) = before.get(name) else {
            continue;
        };
        let mut found = false;
        for value in ODD {
            let set = session.query_drop(format!("SET GLOBAL {name} = {value}")).await;
            // It is the same session that looks, and later ones would not show their rows any more.
            let now: Vec<(String, String)> =
                session.query(format!("SHOW GLOBAL VARIABLES LIKE '{name}'")).await.expect("shown");
            let now = now.into_iter().next().map(|(_, value)| value);
            let wanted = variable.shown().unwrap_or_default();
            if set.is_ok()
                && now.as_ref().is_some_and(|now| {
                    now != wanted && (now != before || variable.shown().is_some_and(|wanted| before != wanted))
                })
            {
                found = true;
                break;
            }
        }
        if name == "explicit_defaults_for_timestamp" && server.kind == Kind::Mysql56 {
            // No session of this server can have another value than the server.
            continue;
        }
        assert!(found, "{:?}: no odd value for {name}", server.kind);
        odd.push(variable);
    }
    odd
}

async fn every_variable_is_known(kind: Kind) {
    let server = Server::start(kind, &[]);
    let mut session = server.connect("").await;
    let names: Vec<(String, String)> = session.query("SHOW SESSION VARIABLES").await.expect("shown");
    let mut unknown = Vec::new();
    for (name, _) in &names {
        let settable = session.query_drop(format!("SET SESSION `{name}` = @@SESSION.`{name}`")).await.is_ok();
        if settable && !VARIABLES.iter().any(|variable| variable.name == name) {
            unknown.push(name);
        }
    }
    assert!(names.len() > 400, "{kind:?} has {} variables", names.len());
    assert!(unknown.is_empty(), "{kind:?} has session variables that the table lacks: {unknown:?}");
}

#[tokio::test]
async fn every_session_variable_of_mysql_is_pinned_or_known_to_be_without_meaning() {
    every_variable_is_known(Kind::Mysql97).await;
    every_variable_is_known(Kind::Mysql56).await;
}

#[tokio::test]
async fn every_session_variable_of_mariadb_is_pinned_or_known_to_be_without_meaning() {
    every_variable_is_known(Kind::Mariadb1011).await;
}

const SCHEMA: &str = r"CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci; USE shop;
    CREATE TABLE many (id INT AUTO_INCREMENT PRIMARY KEY, n INT) ENGINE = InnoDB;
    INSERT INTO many (n) VALUES (1), (2), (3); INSERT INTO many (n) SELECT a.n FROM many a, many b, many c, many d, many e;
    CREATE TABLE kinds (id BIGINT PRIMARY KEY, f FLOAT, d DOUBLE, de DECIMAL(30,10), b1 BIT(9), e ENUM('a','B'), s SET('x','y'), y YEAR,
        dt DATETIME(6), ts TIMESTAMP(6) NULL DEFAULT NULL, ti TIME(6), da DATE, c CHAR(10) CHARACTER SET latin1, v VARCHAR(50),
        vb VARBINARY(20), bi BINARY(5), lt LONGTEXT, lb LONGBLOB, g GEOMETRY) ENGINE = InnoDB CHARSET = utf8mb4;
    CREATE TABLE keyless (v VARCHAR(50), ts TIMESTAMP(3) NULL DEFAULT NULL) ENGINE = InnoDB CHARSET = utf8mb4;";

/// A row of every type; `{}` is its key.
const ROW: &str = r"SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone = '+00:00', NAMES utf8mb4;
    INSERT INTO shop.kinds VALUES ({}, 1.1, 0.1, '-12345678901234567890.0123456789', b'100000001', 'B', 'x,y', 2155,
        '2024-03-31 02:34:56.123456', '2024-03-31 02:34:56.123456', '-838:59:59', '2024-02-30', 'é', 'a\\b €😀 ', 'x\0', 'ab', 'long', 'lob', ST_GeomFromText('POINT(1 2)', 0)),
        (100 + {}, NULL, NULL, NULL, NULL, NULL, '', 0, '0000-00-00', NULL, '00:00:00', '0000-00-00', '', '', '', '', '', '', NULL);
    INSERT INTO shop.keyless VALUES ('a\\b €', '2024-03-31 02:34:56.123');
    UPDATE shop.kinds SET d = -0.5, v = 'ü\\' WHERE id = {}; UPDATE shop.many SET n = n + 1 WHERE id < 20;
    DELETE FROM shop.many WHERE id > 240";

async fn row(server: &Server, number: u32) {
    // Its own session must not be one of those with odd settings.
    let mut session = client::connect(&server.endpoint(""), "test").await.expect("a session");
    let statements = ROW.replace("{}", &number.to_string());
    session.query_drop(statements).await.expect("written");
}

async fn moves_under_odd_settings(source: Kind, target: Kind) {
    let pair = Pair::start(source, target);
    pair.source.run("", SCHEMA).await;
    row(&pair.source, 1).await;
    let mut tried = 0;
    for server in [&pair.source, &pair.target] {
        let odd = make_odd(server).await;
        let mut session = client::connect(&server.endpoint(""), "test").await.expect("a session");
        let rows: Vec<(String, String)> = session.query("SHOW SESSION VARIABLES").await.expect("shown");
        let ours: BTreeMap<String, String> = rows.into_iter().collect();
        for variable in &odd {
            let has = ours.get(variable.name).expect("a variable of the session");
            if let Some(wanted) = variable.shown() {
                assert_eq!(has, wanted, "{:?}: {}", server.kind, variable.name);
            } else {
                let global: Vec<(String, String)> =
                    session.query(format!("SHOW GLOBAL VARIABLES LIKE '{}'", variable.name)).await.expect("shown");
                let global = global.into_iter().next().expect("it is global").1;
                assert_ne!(*has, global, "{:?}: {} is inherited", server.kind, variable.name);
            }
        }
        tried += odd.len();
    }
    assert!(tried > 70, "only {tried} variables were odd");
    let mysql = pair.migration("m", Settings { copy_chunk_bytes: 4096, check_range_rows: 50, ..Settings::default() });
    pair.mend(&mysql).await;
    move_and_check(&mysql, &pair).await;
}

async fn move_and_check(mysql: &MysqlDatabase, pair: &Pair) {
    let progress = Arc::new(Progress::default());
    let plan = mysql.plan().await.expect("a plan");
    mysql.prepare(&plan).await.unwrap_or_else(|error| panic!("{}", error.full_text()));
    mysql
        .copy(&plan, Arc::clone(&progress), CancellationToken::new())
        .await
        .unwrap_or_else(|error| panic!("{}", error.full_text()));
    let (follow, stop) = (Follow::default(), CancellationToken::new());
    let following = {
        let (mysql, plan, follow, stop) = (mysql.clone(), plan.clone(), follow.clone(), stop.clone());
        tokio::spawn(async move { mysql.follow(&plan, follow, Arc::new(Progress::default()), stop).await })
    };
    row(&pair.source, 2).await;
    let mut session = mysql.connect_source("test").await.expect("a session");
    heartbeat::signal(&mut session, mysql.name(), heartbeat::Signal::Marker, "there").await.expect("written");
    follow.clone().wait_marker("there", TIMEOUT).await.unwrap_or_else(|error| panic!("{}", error.full_text()));
    let checked = mysql
        .check(&plan, follow, progress, CancellationToken::new())
        .await
        .unwrap_or_else(|error| panic!("{}", error.full_text()));
    for proof in &checked.proofs {
        assert!(proof.equal(), "{proof:?}");
    }
    let rows: u64 =
        checked.proofs.iter().filter(|proof| proof.table == "shop.many").map(|proof| proof.source_rows).sum();
    assert_eq!(rows, 240);
    stop.cancel();
    following.await.expect("no panic").unwrap_or_else(|error| panic!("{}", error.full_text()));
}

#[tokio::test]
async fn a_row_of_every_type_moves_from_mysql_56_to_97_whatever_is_set_on_both() {
    moves_under_odd_settings(Kind::Mysql56, Kind::Mysql97).await;
}

#[tokio::test]
async fn a_row_of_every_type_moves_between_two_mysql_97_whatever_is_set_on_both() {
    moves_under_odd_settings(Kind::Mysql97, Kind::Mysql97).await;
}

#[tokio::test]
async fn a_row_of_every_type_moves_from_mariadb_to_mysql_whatever_is_set_on_both() {
    moves_under_odd_settings(Kind::Mariadb1011, Kind::Mysql97).await;
}
