//! The way back: what is written after the switch comes back to the fenced source, and a rollback loses nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use mysql_async::Conn;
use tests::mysql::disposable::Kind;
use tests::mysql::{Mysql, Pair, Record, finish, rows, single, try_rows};
use tests::wait::{SOON, until, within};
use tests::world::{DATABASE, MIGRATION, World, numbers};
use tokio::sync::watch;

use super::cutover::{LEDGER, WRITERS, sysbench, write_ledger};

fn schema() -> String {
    format!(
        "CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(40)) ENGINE = InnoDB;
         CREATE TABLE audit (id BIGINT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(40)) ENGINE = InnoDB;
         INSERT INTO t (v) SELECT 'old' FROM {} WHERE n <= 100;
         CREATE TRIGGER audited AFTER INSERT ON t FOR EACH ROW INSERT INTO audit (what) VALUES (NEW.v)",
        numbers(2)
    )
}

async fn proved(world: &World<Mysql>) {
    world.follow().await;
    world.check().await;
}

async fn ready(pair: Pair) -> World<Mysql> {
    let world = World::of(pair, &schema()).await;
    proved(&world).await;
    world
}

/// Between servers of one kind, where the target has settings of its own.
async fn with_target(kind: Kind, settings: &[(&str, &str)]) -> World<Mysql> {
    let (source, target) = tokio::join!(Mysql::start(kind), Mysql::start_with(kind, settings));
    World::of_servers(source, target, &schema(), "").await
}

async fn is_on(client: &mut Conn, server: &Mysql) -> bool {
    single(&rows(client, "SELECT @@port").await, "the port") == server.port().to_string()
}

fn of<'a>(row: &'a Record, column: &str) -> &'a str {
    row.get(column).map_or("", String::as_str)
}

/// Waits until STATUS says so of the way back.
async fn until_way_back(world: &World<Mysql>, state: &str) -> Record {
    let ask = || world.row("SHOW MIGRATION STATUS m");
    until("the way back is as it should be", SOON, ask, |row| of(row, "way_back") == state).await
}

/// A write around Headgate.
async fn is_refused(server: &Mysql) -> bool {
    let port = server.port();
    let session = tests::mysql::try_connect(port, tests::world::USER, Some(tests::world::PASSWORD), DATABASE).await;
    match session {
        Ok(mut session) => try_rows(&mut session, "INSERT INTO t (v) VALUES ('around')").await.is_err(),
        Err(_) => true,
    }
}

async fn rollback(world: &World<Mysql>) -> Record {
    world.row("ROLLBACK MIGRATION m WITH (max_hold = '10s')").await
}

const TRIGGERS: &str = "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'shop'";
const NEXT: &str = "INSERT INTO t (v) VALUES ('next'); SELECT LAST_INSERT_ID()";

async fn next(client: &mut Conn) -> u64 {
    single(&rows(client, NEXT).await, NEXT).parse().expect("a number")
}

#[tokio::test]
async fn what_is_written_after_the_switch_comes_back_and_a_rollback_goes_on_with_it() {
    comes_back(Pair::Mysql56to97).await;
    comes_back(Pair::Mariadb1011to1011).await;
}

async fn comes_back(pair: Pair) {
    let world = ready(pair).await;
    let mut app = world.client().await;
    world.cutover().await;
    rows(
        &mut app,
        "INSERT INTO t (v) VALUES ('new'); UPDATE t SET v = 'changed' WHERE id = 1; DELETE FROM t WHERE id = 2",
    )
    .await;
    assert!(is_on(&mut app, &world.target).await);
    let there = "SELECT GROUP_CONCAT(id, v ORDER BY id) FROM t WHERE id < 3 OR v = 'new'";
    let expected = world.target.value(DATABASE, there).await;
    world.source.until_value(DATABASE, there, &expected).await;
    until_way_back(&world, "lossless").await;
    // The new side's trigger has written it once, and the old side's would have again.
    let audit = "SELECT COUNT(*) FROM audit WHERE what = 'new'";
    world.source.until_value(DATABASE, audit, "1").await;
    assert_eq!(world.source.value("", TRIGGERS).await, "0", "the old side's triggers fire for what comes back");
    world.source.until_value("headgate", "SELECT COUNT(*) FROM signals WHERE migration = 'm'", "0").await;
    // The source refuses everybody else.
    assert!(is_refused(&world.source).await, "the source takes writes of others");
    // The highest value is used up and leaves no row behind.
    rows(&mut app, "START TRANSACTION").await;
    let used = next(&mut app).await;
    rows(&mut app, "ROLLBACK").await;

    let report = if pair == Pair::Mysql56to97 {
        // The check finds what the newer server's catalogue has besides.
        world.row("ROLLBACK MIGRATION m WITH (max_hold = '10s', waive_check = true)").await
    } else {
        world.check().await;
        rollback(&world).await
    };
    assert_eq!((of(&report, "outcome"), of(&report, "kind")), ("switched", "rollback"), "{report:?}");
    assert!(is_on(&mut app, &world.source).await);
    world.target.until_value("headgate", "SELECT COUNT(*) FROM signals WHERE migration = 'm/2'", "0").await;
    let given = next(&mut app).await;
    assert!(given > used, "{given} was given out on the other side, as {used} was");
    assert!(is_refused(&world.target).await, "the target takes writes of others");
    assert_eq!(world.source.value("", TRIGGERS).await, "1", "a trigger of the old side is gone");
    assert_eq!(world.source.value(DATABASE, "SELECT COUNT(*) FROM audit WHERE what = 'next'").await, "1");
    assert_eq!(world.source.value(DATABASE, "SELECT COUNT(*) FROM t").await, "101");
}

/// The application and the operator go there, back, and there again, all the time under load.
#[tokio::test]
async fn there_and_back_and_there_again_under_load_loses_and_doubles_nothing() {
    under_load(Pair::Mysql97to97, "30").await;
    under_load(Pair::Mariadb1011to1011, "10").await;
}

async fn under_load(pair: Pair, seconds: &str) {
    let world = World::of(pair, LEDGER).await;
    let fill = sysbench(world.source.port(), "auto", &["prepare"]);
    finish("sysbench prepare", MIGRATION, fill).await;
    proved(&world).await;
    let port = world.headgate.port();
    let time = format!("--time={seconds}");
    let load = sysbench(port, "auto", &["--threads=8", &time, "run"]);
    let load = tokio::spawn(finish("sysbench", Duration::from_mins(3), load));
    let (go_on, going) = watch::channel(true);
    let writers: Vec<_> = (1..=WRITERS).map(|writer| tokio::spawn(write_ledger(port, writer, going.clone()))).collect();
    world.source.until_value(DATABASE, "SELECT COUNT(*) > 300 FROM ledger", "1").await;
    let mut reports = vec![world.cutover().await];
    for statement in ["ROLLBACK", "CUTOVER"] {
        world.check().await;
        reports.push(world.row(&format!("{statement} MIGRATION m WITH (max_hold = '10s')")).await);
    }
    for report in &reports {
        assert_eq!((of(report, "outcome"), of(report, "errors")), ("switched", "0"), "{report:?}");
    }
    go_on.send(false).expect("writers listen");
    let mut acknowledged = BTreeSet::new();
    for writer in writers {
        let ended = within("a writer ends", SOON, writer).await;
        acknowledged.extend(ended.expect("no write failed").acknowledged);
    }
    let reported = load.await.expect("sysbench ended well");
    for label in ["ignored errors:", "reconnects:"] {
        let mut lines = reported.lines().filter_map(|line| line.trim_start().strip_prefix(label));
        let number = lines.next().and_then(|rest| rest.split_whitespace().next());
        assert_eq!(number, Some("0"), "{label} {reported}\n{reports:?}");
    }
    let there = world.target.sql(DATABASE, "SELECT number FROM ledger ORDER BY number").await;
    let there: Vec<u64> =
        there.iter().map(|row| row[0].as_deref().and_then(|number| number.parse().ok()).expect("a number")).collect();
    let wanted: Vec<u64> = acknowledged.into_iter().collect();
    assert!(wanted == there, "acknowledged: {}, on the target: {}; {reports:?}", wanted.len(), there.len());
    // And all of that has come back.
    let sums =
        "SELECT (SELECT CONCAT_WS('/', COUNT(*), MAX(entry), SUM(CRC32(CONCAT_WS('-', entry, number)))) FROM ledger),
        (SELECT CONCAT_WS('/', COUNT(*), SUM(k), SUM(CRC32(CONCAT_WS('-', id, k, c, pad)))) FROM sbtest1),
        (SELECT CONCAT_WS('/', COUNT(*), SUM(k), SUM(CRC32(CONCAT_WS('-', id, k, c, pad)))) FROM sbtest2)";
    let sums = world.until_equal(sums).await;
    // Each transaction deletes one row and inserts it again.
    assert!(sums[0][1..].iter().all(|sum| sum.as_deref().is_some_and(|sum| sum.starts_with("20000/"))), "{sums:?}");
    world.until_state("switched", MIGRATION).await;
}

#[tokio::test]
async fn a_way_back_that_cannot_be_armed_refuses_the_cutover_until_that_is_mended_or_waived() {
    let world = with_target(Kind::Mysql97, &[("skip-log-bin", "")]).await;
    proved(&world).await;
    let mut app = world.client().await;

    let (code, text) = world.headgate.refused("CUTOVER MIGRATION m").await;
    let parts = ["the way back cannot be armed", "log_bin", "way_back = 'none'"];
    assert!(code == "55000" && parts.iter().all(|part| text.contains(part)), "{code} {text}");
    assert!(is_on(&mut app, &world.source).await, "the gate was closed for it");
    let report = world.headgate.admin("SHOW CUTOVER REPORT m").await;
    assert!(report.is_empty(), "a cutover was begun: {report:?}");

    world.row("CUTOVER MIGRATION m WITH (way_back = 'none')").await;
    rows(&mut app, "INSERT INTO t (v) VALUES ('new')").await;
    until_way_back(&world, "waived").await;
    let (_, text) = world.headgate.refused("ROLLBACK MIGRATION m").await;
    assert!(text.contains("without a way back"), "{text}");
    assert_eq!(world.source.value(DATABASE, "SELECT COUNT(*) FROM t WHERE v = 'new'").await, "0");
    world.headgate.admin("FINISH MIGRATION m").await;
}

#[tokio::test]
async fn a_target_whose_log_is_made_fit_by_the_printed_remedy_arms_the_way_back() {
    for (kind, remedy) in [
        (Kind::Mysql97, "SET PERSIST binlog_format = 'ROW'; SET PERSIST binlog_row_image = 'FULL'"),
        (Kind::Mariadb1011, "SET GLOBAL binlog_format = 'ROW'; SET GLOBAL binlog_row_image = 'FULL'"),
    ] {
        let world = with_target(kind, &[("binlog-format", "MIXED"), ("binlog-row-image", "MINIMAL")]).await;
        world.follow().await;
        let (_, text) = world.headgate.refused("REHEARSE MIGRATION m").await;
        assert!(text.contains(remedy), "{text}");
        world.target.sql("", remedy).await;
        let rehearsed = world.row("REHEARSE MIGRATION m").await;
        assert_eq!(of(&rehearsed, "outcome"), "rehearsed", "{rehearsed:?}");
    }
}

/// How many signals of later legs are on a server, where it has any.
async fn signals(server: &Mysql) -> String {
    let there =
        "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'headgate' AND TABLE_NAME = 'signals'";
    if server.value("", there).await == "0" {
        return "0".to_owned();
    }
    let count = "SELECT COUNT(*) FROM headgate.signals WHERE migration LIKE '%/2' OR migration LIKE '%/3'";
    server.value("", count).await
}

#[tokio::test]
async fn a_rehearsal_arms_in_both_directions_and_leaves_nothing() {
    let world = ready(Pair::Mysql97to97).await;
    let rehearsed = world.row("REHEARSE MIGRATION m WITH (max_hold = '5s')").await;
    assert_eq!(of(&rehearsed, "outcome"), "rehearsed", "{rehearsed:?}");
    assert_eq!(signals(&world.target).await, "0", "signals of a leg that never began");
    assert!(is_on(&mut world.client().await, &world.source).await, "the rehearsal went there");
    world.cutover().await;
    until_way_back(&world, "lossless").await;
    let rehearsed = world.row("REHEARSE MIGRATION m WITH (max_hold = '5s')").await;
    assert_eq!(of(&rehearsed, "outcome"), "rehearsed", "{rehearsed:?}");
    assert_eq!(signals(&world.source).await, "0", "signals of a leg that never began");
    let mut app = world.client().await;
    assert!(is_on(&mut app, &world.target).await, "the rehearsal went back");
    // What a switch would have put back is out of the way again.
    assert!(is_refused(&world.source).await, "the source takes writes of others");
    rows(&mut app, "INSERT INTO t (v) VALUES ('after')").await;
    world.source.until_value(DATABASE, "SELECT COUNT(*) FROM t WHERE v = 'after'", "1").await;
    assert_eq!(world.source.value("", TRIGGERS).await, "0", "the old side's triggers fire for what comes back");
}

#[tokio::test]
async fn a_changed_definition_on_the_new_side_is_seen_within_seconds_and_disturbs_no_client() {
    changed_definition(Pair::Mysql97to97).await;
    changed_definition(Pair::Mariadb1011to1011).await;
}

async fn changed_definition(pair: Pair) {
    let world = ready(pair).await;
    let mut app = world.client().await;
    world.cutover().await;
    until_way_back(&world, "lossless").await;
    rows(&mut app, "ALTER TABLE t ADD COLUMN w INT").await;
    let row = until_way_back(&world, "lost").await;
    let detail = of(&row, "way_back_detail");
    assert!(detail.contains("NOT lossless") && detail.contains("ALTER TABLE"), "{detail}");
    assert_eq!(of(&row, "state"), "switched", "{row:?}");
    rows(&mut app, "INSERT INTO t (v, w) VALUES ('wide', 1)").await;
    let page = world.headgate.page("/metrics").await;
    assert!(page.contains("headgate_migration_way_back_lossless{migration=\"m\"} 0"), "{page}");
    let (_, text) = world.headgate.refused("ROLLBACK MIGRATION m").await;
    assert!(text.contains("way back"), "{text}");
    // What is printed: it is given up, and the move back is a migration of its own.
    world.headgate.admin("FINISH MIGRATION m").await;
    rows(&mut app, "INSERT INTO t (v, w) VALUES ('after', 2)").await;
}

#[tokio::test]
async fn a_lost_stream_is_seen_within_seconds_and_disturbs_no_client() {
    lost_stream(Pair::Mysql97to97).await;
    lost_stream(Pair::Mariadb1011to1011).await;
}

async fn lost_stream(pair: Pair) {
    let mut world = ready(pair).await;
    world.cutover().await;
    until_way_back(&world, "lossless").await;
    world.headgate.kill().await;
    // What was not read yet is purged as soon as the server lets go of it: its sender must notice that nobody reads there
    // any more, and MariaDB's checkpoint must have passed it.
    world.target.sql(DATABASE, "INSERT INTO t (v) VALUES ('unread'); FLUSH BINARY LOGS").await;
    let files = || async {
        let files = world.target.sql("", "SHOW BINARY LOGS").await;
        files.into_iter().map(|row| row[0].clone().expect("a file")).collect::<Vec<_>>()
    };
    let current = files().await.pop().expect("a file");
    let purging = || async {
        world.target.sql(DATABASE, "INSERT INTO t (v) VALUES ('unread')").await;
        world.target.sql("", &format!("PURGE BINARY LOGS TO '{current}'")).await;
        files().await
    };
    until("the log is purged", SOON, purging, |files| files.first() == Some(&current)).await;
    world.headgate.launch().await;
    let mut app = world.client().await;
    let row = until_way_back(&world, "lost").await;
    let detail = of(&row, "way_back_detail");
    assert!(detail.contains("NOT lossless") && detail.contains("log"), "{detail}");
    assert!(is_on(&mut app, &world.target).await);
    rows(&mut app, "INSERT INTO t (v) VALUES ('goes on')").await;
    let (_, text) = world.headgate.refused("ROLLBACK MIGRATION m").await;
    assert!(text.contains("way back"), "{text}");
    // The restart has ended the proof of the switch, too.
    world.headgate.admin("FINISH MIGRATION m WITH (waive_proof = true)").await;
}

#[tokio::test]
async fn finishing_leaves_nothing_on_either_side_but_the_refusal_and_its_mark() {
    let world = ready(Pair::Mysql97to97).await;
    world.cutover().await;
    until_way_back(&world, "lossless").await;
    world.headgate.admin("FINISH MIGRATION m").await;
    let left = "SELECT COALESCE(GROUP_CONCAT(what ORDER BY what SEPARATOR ', '), '') FROM (
        SELECT CONCAT('table ', TABLE_NAME) AS what FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'headgate'
        UNION ALL SELECT CONCAT('trigger ', TRIGGER_NAME) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'shop'
        UNION ALL SELECT CONCAT('scratch ', SCHEMA_NAME) FROM information_schema.SCHEMATA
            WHERE SCHEMA_NAME LIKE 'headgate_%') AS all_of_it";
    assert_eq!(world.target.value("", left).await, "trigger audited", "on the target");
    assert_eq!(
        world.source.value("", left).await,
        "table fence_durable, table switches, trigger audited",
        "on the source"
    );
    assert!(is_refused(&world.source).await, "the source takes writes of others");
}

#[tokio::test]
async fn a_restart_takes_the_way_back_up_where_it_was() {
    taken_up(Pair::Mysql97to97).await;
    taken_up(Pair::Mariadb1011to1011).await;
}

async fn taken_up(pair: Pair) {
    let mut world = ready(pair).await;
    world.cutover().await;
    until_way_back(&world, "lossless").await;
    world.headgate.kill().await;
    // Around Headgate, as nobody else is there: what the new side takes meanwhile is kept for the way back.
    let meanwhile = format!("INSERT INTO t (v) SELECT 'meanwhile' FROM {} WHERE n <= 50", numbers(2));
    world.target.sql(DATABASE, &meanwhile).await;
    world.headgate.launch().await;
    until_way_back(&world, "lossless").await;
    world.source.until_value(DATABASE, "SELECT COUNT(*) FROM t WHERE v = 'meanwhile'", "50").await;
    world.check().await;
    let report = rollback(&world).await;
    assert_eq!(of(&report, "outcome"), "switched", "{report:?}");
    let mut app = world.client().await;
    assert!(is_on(&mut app, &world.source).await);
    assert_eq!(single(&rows(&mut app, "SELECT COUNT(*) FROM t").await, "the rows"), "150");
}
