//! The cutover: no error, no lost write, no doubled write, and back to where it was when it cannot go through.

use std::collections::BTreeSet;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tests::mysql::raw::{self, Raw};
use tests::mysql::{Login, Mysql, Pair, Record, connect, finish, rows, single, try_rows};
use tests::wait::{SOON, until, within};
use tests::world::{DATABASE, MIGRATION, PASSWORD, USER, World, numbers};
use tokio::sync::watch;

use super::compare::until_alike;

for_every_pair! {
    sysbench_with_prepared_statements_loses_and_doubles_nothing,
    an_open_transaction_that_outlasts_the_hold_undoes_the_cutover_and_everybody_goes_on_at_the_source,
    locked_tables_that_outlast_the_hold_undo_the_cutover_and_a_prepared_xa_transaction_refuses_it,
    a_held_statement_runs_once_and_on_the_target,
    a_held_statement_can_be_killed_and_one_of_a_client_that_left_is_forgotten,
    a_session_that_moves_has_the_state_it_had,
    sessions_that_cannot_move_end_with_an_error_that_says_to_come_again_and_are_counted,
    after_the_switch_the_source_refuses_writers_that_go_around_and_still_answers_readers,
    a_counter_never_gives_a_value_twice,
    a_rehearsal_goes_through_every_step_and_leaves_everything_on_the_source,
    a_cutover_without_a_passed_check_is_refused_unless_that_is_waived,
    accounts_of_the_source_log_in_after_the_switch,
}

/// Plain statements are the proxy's part alone, and this pair has both families.
const WITH_PLAIN_STATEMENTS: Pair = Pair::Mariadb1011toMysql97;

#[tokio::test]
async fn sysbench_with_plain_statements_loses_and_doubles_nothing() {
    sysbench_survives(WITH_PLAIN_STATEMENTS, "disable").await;
}

/// So many rows take their time, and what refuses is the same for all.
const LARGE_COPY: Pair = Pair::Mysql97to97;

#[tokio::test]
async fn a_cutover_while_copying_is_refused_and_the_copy_goes_on() {
    let world = World::of_copying(LARGE_COPY).await;
    let (code, text) = world.headgate.refused("CUTOVER MIGRATION m").await;
    assert!(code == "55000" && text.contains("copying"), "{code} {text}");
    assert!(at_source(&world, &mut world.client().await).await);
    world.until_state("following", MIGRATION).await;
    world.check().await;
    world.cutover().await;
    assert!(at_target(&world, &mut world.client().await).await);
}

fn schema() -> String {
    format!(
        "CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(40)) ENGINE = InnoDB;
         INSERT INTO t (v) SELECT 'old' FROM {} WHERE n <= 100",
        numbers(2)
    )
}

/// A world whose migration follows and has passed its check.
async fn ready(pair: Pair) -> World<Mysql> {
    let world = World::of(pair, &schema()).await;
    world.follow().await;
    world.check().await;
    world
}

async fn port(client: &mut Conn) -> String {
    single(&rows(client, "SELECT @@port").await, "the port")
}

async fn at_source(world: &World<Mysql>, client: &mut Conn) -> bool {
    port(client).await == world.source.port().to_string()
}

async fn at_target(world: &World<Mysql>, client: &mut Conn) -> bool {
    port(client).await == world.target.port().to_string()
}

/// A session of the application past Headgate, for what root could do whatever the fence says.
async fn around(server: &Mysql) -> Conn {
    connect(server.port(), USER, Some(PASSWORD), DATABASE).await
}

/// Waits until so many statements wait at the gate.
async fn until_held(world: &World<Mysql>, count: &str) {
    let ask = || world.row("SHOW ROUTES");
    until("so many statements are held", SOON, ask, |row| row.get("statements_held").is_some_and(|held| held == count))
        .await;
}

async fn until_closing(world: &World<Mysql>) {
    let closing = |row: &Record| row.get("gate").is_some_and(|gate| gate != "open");
    let ask = || world.row("SHOW ROUTES");
    until("the gate closes", SOON, ask, closing).await;
}

fn of<'a>(row: &'a Record, column: &str) -> &'a str {
    row.get(column).map_or("", String::as_str)
}

/// What an application's writer was promised.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) acknowledged: BTreeSet<u64>,
}

/// Where they write.
pub(super) const LEDGER: &str = "CREATE TABLE ledger (entry BIGINT AUTO_INCREMENT PRIMARY KEY, number BIGINT NOT NULL, KEY (number)) ENGINE = InnoDB";

/// Inserts one row after another, each under a number that nobody else has, and keeps those that were acknowledged.
pub(super) async fn write_ledger(port: u16, writer: u64, mut go_on: watch::Receiver<bool>) -> Ledger {
    let mut session = connect(port, USER, Some(PASSWORD), DATABASE).await;
    let mut ledger = Ledger::default();
    let mut number = writer * 1_000_000;
    while *go_on.borrow_and_update() {
        number += 1;
        let acknowledged = if number.is_multiple_of(2) {
            session.query_drop(format!("INSERT INTO ledger (number) VALUES ({number})")).await
        } else {
            session.exec_drop("INSERT INTO ledger (number) VALUES (?)", (number,)).await
        };
        acknowledged.unwrap_or_else(|error| panic!("writer {writer}, {number}: {error:?}"));
        ledger.acknowledged.insert(number);
    }
    ledger
}

pub(super) const WRITERS: u64 = 4;

pub(super) fn sysbench(port: u16, statements: &str, arguments: &[&str]) -> tokio::process::Command {
    let login = Login { port, user: USER, password: PASSWORD, database: DATABASE };
    let statements = format!("--db-ps-mode={statements}");
    let mut all = vec![
        "oltp_read_write",
        "--tables=2",
        "--table-size=20000",
        // Hot rows would make the server itself find deadlocks now and then, which sysbench counts as errors.
        "--rand-type=uniform",
        "--mysql-ssl=off",
        statements.as_str(),
    ];
    all.extend_from_slice(arguments);
    login.sysbench(&all)
}

/// Moves a database under the usual load and under writers who keep books, and compares the books.
async fn sysbench_survives(pair: Pair, statements: &str) {
    let world = World::of(pair, LEDGER).await;
    let fill = sysbench(world.source.port(), statements, &["prepare"]);
    finish("sysbench prepare", MIGRATION, fill).await;
    world.follow().await;
    world.check().await;

    let port = world.headgate.port();
    // At a rate, so that it does not starve what moves it.
    let load = sysbench(port, statements, &["--threads=16", "--time=20", "--rate=150", "run"]);
    let load = tokio::spawn(finish("sysbench", Duration::from_mins(3), load));
    let (go_on, going) = watch::channel(true);
    let writers = (1..=WRITERS).map(|writer| tokio::spawn(write_ledger(port, writer, going.clone())));
    let writers: Vec<_> = writers.collect();
    let written = "SELECT COUNT(*) > 300 FROM ledger";
    world.source.until_value(DATABASE, written, "1").await;
    let rehearsed = world.row("REHEARSE MIGRATION m WITH (max_hold = '10s')").await;
    assert_eq!(of(&rehearsed, "outcome"), "rehearsed", "{rehearsed:?}");
    let report = world.cutover().await;
    let by_then = world.target.value(DATABASE, "SELECT COUNT(*) FROM ledger").await;
    let log = world.headgate.logged(&["by_counters="]).await;
    assert_eq!(
        (log.matches("by_counters=true").count(), log.matches("by_counters=false").count()),
        (2, 0),
        "definitions were read while clients were held"
    );
    assert!(!load.is_finished(), "the load ended too early to show anything");
    let reported = load.await.expect("sysbench ended well");
    go_on.send(false).expect("writers listen");
    let mut acknowledged = BTreeSet::new();
    for writer in writers {
        let ended = within("a writer ends", SOON, writer).await;
        acknowledged.extend(ended.expect("no write failed").acknowledged);
    }

    assert_eq!(of(&report, "errors"), "0", "{report:?}");
    for label in ["ignored errors:", "reconnects:"] {
        let mut lines = reported.lines().map(str::trim_start);
        let rest = lines.find_map(|line| line.strip_prefix(label));
        let rest = rest.unwrap_or_else(|| panic!("no {label:?} in {reported}"));
        let number = rest.split_whitespace().next();
        assert_eq!(number, Some("0"), "{label} {reported}\n{report:?}");
    }
    let there = world.target.sql(DATABASE, "SELECT number FROM ledger ORDER BY number");
    let there: Vec<u64> = there
        .await
        .iter()
        .map(|row| row[0].as_deref().and_then(|number| number.parse().ok()).expect("a number"))
        .collect();
    let wanted: Vec<u64> = acknowledged.into_iter().collect();
    assert!(
        wanted.len() > 300 && there == wanted,
        "acknowledged: {}, on the target: {}; {report:?}",
        wanted.len(),
        there.len()
    );
    assert_ne!(by_then, there.len().to_string(), "nothing was written after the switch");
    // Each transaction deletes one row and inserts it again.
    for table in ["sbtest1", "sbtest2"] {
        let count = format!("SELECT COUNT(*) FROM {table}");
        assert_eq!(world.target.value(DATABASE, &count).await, "20000", "{table}");
    }
}

async fn sysbench_with_prepared_statements_loses_and_doubles_nothing(pair: Pair) {
    sysbench_survives(pair, "auto").await;
}

async fn an_open_transaction_that_outlasts_the_hold_undoes_the_cutover_and_everybody_goes_on_at_the_source(pair: Pair) {
    let world = ready(pair).await;
    let (mut slow, mut other) = (world.client().await, world.client().await);
    rows(&mut slow, "START TRANSACTION; INSERT INTO t (v) VALUES ('slow')").await;

    let statement = "CUTOVER MIGRATION m WITH (max_hold = '500ms')";
    let write = rows(&mut other, "INSERT INTO t (v) VALUES ('other')");
    let ((code, text), _) = tokio::join!(world.headgate.refused(statement), write);
    assert!(code == "55000" && text.contains("undone"), "{code} {text}");
    let report = world.row("SHOW CUTOVER REPORT m").await;
    assert_eq!(of(&report, "outcome"), "undone", "{report:?}");
    rows(&mut slow, "COMMIT").await;
    assert!(at_source(&world, &mut slow).await && at_source(&world, &mut other).await);
    let new = "SELECT COUNT(*) FROM t WHERE v <> 'old'";
    assert_eq!(world.source.value(DATABASE, new).await, "2");

    world.until_state("following", MIGRATION).await;
    world.cutover().await;
    assert!(at_target(&world, &mut slow).await, "the next cutover goes through");
    assert_eq!(world.target.value(DATABASE, new).await, "2");
}

async fn locked_tables_that_outlast_the_hold_undo_the_cutover_and_a_prepared_xa_transaction_refuses_it(pair: Pair) {
    let world = ready(pair).await;
    let mut client = world.client().await;
    rows(&mut client, "LOCK TABLES t WRITE; INSERT INTO t (v) VALUES ('locked')").await;
    let statement = "CUTOVER MIGRATION m WITH (max_hold = '500ms')";
    let (code, text) = world.headgate.refused(statement).await;
    assert!(code == "55000" && text.contains("undone"), "{code} {text}");
    rows(&mut client, "INSERT INTO t (v) VALUES ('still locked'); UNLOCK TABLES").await;

    // Around Headgate, where nobody but the server knows of it, and beside what moves: it stops the whole server's fence.
    let prepare = "CREATE DATABASE beside; CREATE TABLE beside.t (id INT PRIMARY KEY) ENGINE = InnoDB;
        XA START 'x'; INSERT INTO beside.t VALUES (1); XA END 'x'; XA PREPARE 'x'";
    let mut owner = world.source.connect(DATABASE).await;
    rows(&mut owner, prepare).await;
    world.until_state("following", MIGRATION).await;
    let (code, text) = world.headgate.refused(statement).await;
    assert!(code == "55000" && text.contains("XA"), "{code} {text}");
    rows(&mut owner, "XA COMMIT 'x'").await;
    drop(owner);
    world.until_state("following", MIGRATION).await;
    until_alike(&world).await;
    world.cutover().await;
    assert!(at_target(&world, &mut client).await);
    let new = "SELECT GROUP_CONCAT(v ORDER BY id) FROM t WHERE v <> 'old'";
    assert_eq!(world.target.value(DATABASE, new).await, "locked,still locked");
}

async fn a_held_statement_runs_once_and_on_the_target(pair: Pair) {
    let world = ready(pair).await;
    let (mut slow, mut held) = (world.client().await, world.client().await);
    rows(&mut slow, "START TRANSACTION; INSERT INTO t (v) VALUES ('slow')").await;
    let steps = async {
        until_held(&world, "1").await;
        rows(&mut slow, "COMMIT").await;
    };
    let held_one = async {
        until_closing(&world).await;
        rows(&mut held, "INSERT INTO t (v) VALUES ('held')").await;
    };
    // Without a way back: what came to the source by itself would be told from nothing that comes back.
    let cutting = world.row("CUTOVER MIGRATION m WITH (max_hold = '10s', way_back = 'none')");
    let (report, (), ()) = tokio::join!(cutting, steps, held_one);
    assert_eq!((of(&report, "outcome"), of(&report, "errors")), ("switched", "0"), "{report:?}");
    let count = |v: &str| format!("SELECT COUNT(*) FROM t WHERE v = '{v}'");
    assert_eq!(world.target.value(DATABASE, &count("held")).await, "1");
    assert_eq!(world.source.value(DATABASE, &count("held")).await, "0");
    assert_eq!(world.target.value(DATABASE, &count("slow")).await, "1");
}

async fn a_held_statement_can_be_killed_and_one_of_a_client_that_left_is_forgotten(pair: Pair) {
    let schema = format!("{}; CREATE USER plain@'%'; GRANT ALL ON shop.* TO plain@'%'", schema());
    let world = World::of(pair, &schema).await;
    world.follow().await;
    world.check().await;
    let through = world.headgate.port();
    let mut slow = world.client().await;
    rows(&mut slow, "START TRANSACTION; INSERT INTO t (v) VALUES ('slow')").await;
    let (mut patient, mut killer) = (world.client().await, world.client().await);
    let (mut gone, _) = Raw::login(through, "plain", DATABASE).await;
    let steps = async {
        until_closing(&world).await;
        let id = patient.id();
        let waiting = try_rows(&mut patient, "INSERT INTO t (v) VALUES ('killed')");
        let others = async {
            let insert = b"INSERT INTO t (v) VALUES ('gone')";
            gone.send(&raw::command(raw::QUERY, insert)).await;
            until_held(&world, "2").await;
            drop(gone);
            until_held(&world, "1").await;
            rows(&mut killer, &format!("KILL QUERY {id}")).await;
        };
        let (reported, ()) = tokio::join!(waiting, others);
        match reported {
            Err(mysql_async::Error::Server(error)) => assert_eq!(error.code, 1317, "{error:?}"),
            other => panic!("it was not killed: {other:?}"),
        }
        rows(&mut slow, "COMMIT").await;
    };
    tokio::join!(world.cutover(), steps);
    assert!(at_target(&world, &mut patient).await, "the session does not go on");
    let left = "SELECT COUNT(*) FROM t WHERE v IN ('killed', 'gone')";
    for side in [&world.source, &world.target] {
        assert_eq!(side.value(DATABASE, left).await, "0");
    }
}

async fn a_session_that_moves_has_the_state_it_had(pair: Pair) {
    let world = ready(pair).await;
    let mut client = world.client().await;
    rows(
        &mut client,
        "SET NAMES latin1; SET SESSION sort_buffer_size = 654321, sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES', time_zone = '+05:30',
            group_concat_max_len = 77, autocommit = 0, lc_time_names = 'de_DE';
         SET @number = 18446744073709551615, @text = 'it''s', @bytes = 0x00ff, @none = NULL, @exact = 1.50, @double = 1e-300, @\"odd name\" = -3",
    )
    .await;
    rows(&mut client, "INSERT INTO t (v) VALUES ('last'); COMMIT").await;
    let count = client.prep("SELECT COUNT(*) FROM t WHERE v = ? OR id = ?").await.expect("a statement");
    let counted: Option<u64> = client.exec_first(&count, ("old", 7_u32)).await.expect("it runs");
    assert_eq!(counted, Some(100));
    let insert = client.prep("INSERT INTO t (v) VALUES (?)").await.expect("a statement");
    // A transaction of its own is still open: autocommit is off.
    rows(&mut client, "COMMIT").await;
    let state = "SELECT CONCAT_WS('/', @@sort_buffer_size, @@sql_mode, @@time_zone, @@group_concat_max_len, @@autocommit + 0, @@lc_time_names,
        @@character_set_client, @@character_set_results, @@character_set_connection, DATABASE(), LAST_INSERT_ID(), USER() LIKE 'app@%',
        @number, @text, HEX(@bytes), @none IS NULL, @exact, @double, @\"odd name\", @@collation_connection)";
    let before = single(&rows(&mut client, state).await, state);
    rows(&mut client, "COMMIT").await;
    world.cutover().await;

    assert!(at_target(&world, &mut client).await);
    let after = single(&rows(&mut client, state).await, state);
    assert_eq!(before, after);
    let counted: Option<u64> = client.exec_first(&count, ("old", 7_u32)).await.expect("the statement is there");
    assert_eq!(counted, Some(100));
    client.exec_drop(&insert, ("not committed",)).await.expect("the statement is there");
    rows(&mut client, "ROLLBACK").await;
    let left = world.target.value(DATABASE, "SELECT COUNT(*) FROM t WHERE v = 'not committed'");
    assert_eq!(left.await, "0");
}

async fn sessions_that_cannot_move_end_with_an_error_that_says_to_come_again_and_are_counted(pair: Pair) {
    let world = ready(pair).await;
    let ties = [
        ("CREATE TEMPORARY TABLE scratch (a INT)", "temporary table"),
        ("SELECT GET_LOCK('mine', 0)", "user lock"),
        ("HANDLER t OPEN", "handler"),
    ];
    let mut tied = Vec::new();
    for (statement, _) in ties {
        let mut client = world.client().await;
        rows(&mut client, statement).await;
        tied.push(client);
    }
    let mut free = world.client().await;
    rows(&mut free, "PREPARE s FROM 'SELECT 7'").await;
    world.cutover().await;
    for (client, (statement, _)) in tied.iter_mut().zip(ties) {
        let reported = try_rows(client, "SELECT 1").await;
        match reported.expect_err("it cannot move") {
            mysql_async::Error::Server(error) => {
                assert_eq!((error.code, error.state.as_str()), (1053, "08S01"), "{statement}");
            }
            error => panic!("{statement}: it was not told why: {error:?}"),
        }
    }
    assert!(at_target(&world, &mut free).await);
    let execute = "EXECUTE s";
    assert_eq!(single(&rows(&mut free, execute).await, execute), "7");
    assert!(at_target(&world, &mut world.client().await).await, "coming again works");
    let report = world.row("SHOW CUTOVER REPORT m").await;
    assert_eq!(of(&report, "sessions_closed"), "3", "{report:?}");
    for (statement, reason) in ties {
        let counted = format!("{reason}: 1");
        assert!(of(&report, "closed_reasons").contains(&counted), "{statement}: {report:?}");
    }
}

async fn after_the_switch_the_source_refuses_writers_that_go_around_and_still_answers_readers(pair: Pair) {
    let world = ready(pair).await;
    let (mut idle, mut open) = (around(&world.source).await, around(&world.source).await);
    rows(&mut idle, "INSERT INTO t (v) VALUES ('before')").await;
    rows(&mut open, "START TRANSACTION; INSERT INTO t (v) VALUES ('open')").await;
    world.cutover().await;
    for write in [
        "INSERT INTO t (v) VALUES ('after')",
        "UPDATE t SET v = 'after'",
        "DELETE FROM t",
        "TRUNCATE t",
        "CREATE TABLE more (id INT) ENGINE = InnoDB",
    ] {
        let refused = try_rows(&mut idle, write).await;
        assert!(refused.is_err(), "{write} went through on the source");
    }
    let committed = try_rows(&mut open, "COMMIT").await;
    assert!(committed.is_err(), "what was open at the fence was committed on the source");
    let count = "SELECT COUNT(*) FROM t";
    assert_eq!(single(&rows(&mut idle, count).await, count), "101");
    let before = "SELECT GROUP_CONCAT(v) FROM t WHERE v <> 'old'";
    assert_eq!(world.target.value(DATABASE, before).await, "before");
}

async fn a_counter_never_gives_a_value_twice(pair: Pair) {
    let world = ready(pair).await;
    let mut client = world.client().await;
    let next = "INSERT INTO t (v) VALUES ('new'); SELECT LAST_INSERT_ID()";
    let id = |found| single(&found, next).parse::<i64>().expect("a number");
    let before = id(rows(&mut client, next).await);
    // The highest value is used up and leaves no row behind.
    rows(&mut client, "START TRANSACTION; INSERT INTO t (v) VALUES ('rolled back'); ROLLBACK").await;
    rows(&mut client, "INSERT INTO t (v) VALUES ('deleted'); DELETE FROM t WHERE v = 'deleted'").await;
    world.cutover().await;
    let after = id(rows(&mut client, next).await);
    assert!(after > before + 2, "{after} after {before}");
    let again = id(rows(&mut client, next).await);
    assert_eq!(again, after + 1);
}

async fn a_rehearsal_goes_through_every_step_and_leaves_everything_on_the_source(pair: Pair) {
    let world = ready(pair).await;
    let mut client = world.client().await;
    for _ in 0..3 {
        let report = world.row("REHEARSE MIGRATION m WITH (max_hold = '5s')").await;
        assert_eq!(of(&report, "outcome"), "rehearsed", "{report:?}");
        rows(&mut client, "INSERT INTO t (v) VALUES ('between')").await;
    }
    assert!(at_source(&world, &mut client).await);
    let mut around = around(&world.source).await;
    rows(&mut around, "INSERT INTO t (v) VALUES ('around')").await;
    until_alike(&world).await;
    world.cutover().await;
    let count = "SELECT COUNT(*) FROM t";
    assert_eq!(single(&rows(&mut client, count).await, count), "104");
    assert!(at_target(&world, &mut client).await);
}

async fn a_cutover_without_a_passed_check_is_refused_unless_that_is_waived(pair: Pair) {
    let world = World::of(pair, &schema()).await;
    world.follow().await;
    let (code, text) = world.headgate.refused("CUTOVER MIGRATION m").await;
    assert!(code == "55000" && text.to_lowercase().contains("check"), "{code} {text}");
    let report = world.row("CUTOVER MIGRATION m WITH (waive_check = true, max_hold = '10s')").await;
    assert_eq!(of(&report, "outcome"), "switched", "{report:?}");
    assert_eq!(of(&report, "check_waived"), "1", "{report:?}");
}

async fn accounts_of_the_source_log_in_after_the_switch(pair: Pair) {
    // `app` is known to the configuration where the target has no plugin for it; `clerk` shows its password once.
    let world = World::of_with(
        pair,
        &format!(
            "{}; CREATE USER clerk@'%' IDENTIFIED BY 'the clerk''s own'; GRANT SELECT, INSERT ON shop.* TO clerk@'%'",
            schema()
        ),
        "[login]\ncapture_passwords = true\n",
    )
    .await;
    let through = world.headgate.port();
    let clerk = || connect(through, "clerk", Some("the clerk's own"), DATABASE);
    let mut before = clerk().await;
    world.follow().await;
    world.check().await;
    world.cutover().await;
    let mut after = clerk().await;
    for session in [&mut before, &mut after] {
        assert!(at_target(&world, session).await);
        rows(session, "INSERT INTO t (v) VALUES ('clerk')").await;
        let denied = try_rows(session, "DELETE FROM t").await;
        assert!(denied.is_err(), "it may do more than on the source");
    }
    rows(&mut world.client().await, "DELETE FROM t WHERE v = 'clerk'").await;
    let wrong = tests::mysql::try_connect(through, "clerk", Some("another"), DATABASE).await;
    assert!(wrong.is_err(), "any password is as good");
}

/// Writes past Headgate until it is not let in any more. Tells how often it was acknowledged.
async fn write_around(mut session: Conn) -> u64 {
    for n in 0.. {
        let insert = format!("INSERT INTO t (v) VALUES ('around {n}')");
        if session.query_drop(insert).await.is_err() {
            return n;
        }
    }
    0
}

/// As with services that give nobody the right to set `read_only`.
async fn accounts_are_the_fence(pair: Pair) {
    let world = World::of_managed_source(pair, &schema()).await;
    world.follow().await;
    world.check().await;
    let checks = world.headgate.admin("SHOW MIGRATION CHECKS m").await;
    let warned = checks.iter().any(|check| of(check, "check") == "source_fence" && of(check, "level") == "warning");
    assert!(warned, "{checks:?}");
    let mut clients = Vec::new();
    for n in 0..3 {
        let mut client = world.client().await;
        rows(&mut client, &format!("SET @mine = {n}")).await;
        clients.push(client);
    }
    let writing = tokio::spawn(write_around(around(&world.source).await));
    let some = "SELECT COUNT(*) > 20 FROM t WHERE v LIKE 'around%'";
    world.source.until_value(DATABASE, some, "1").await;

    let rehearsed = world.row("REHEARSE MIGRATION m WITH (way_back = 'none')").await;
    assert_eq!(of(&rehearsed, "outcome"), "rehearsed", "{rehearsed:?}");
    let moved = world.source.value(DATABASE, "SELECT COUNT(*) FROM t WHERE v LIKE 'around%'").await;
    let more = format!("SELECT COUNT(*) > {moved} FROM t WHERE v LIKE 'around%'");
    world.source.until_value(DATABASE, &more, "1").await;

    let report = world.cutover_without_way_back().await;
    assert_eq!(of(&report, "errors"), "0", "{report:?}");
    let acknowledged = within("the writer is ended", SOON, writing).await;
    let acknowledged = acknowledged.expect("it ended").to_string();
    for (n, client) in clients.iter_mut().enumerate() {
        assert!(at_target(&world, client).await);
        let mine = single(&rows(client, "SELECT CAST(@mine AS SIGNED)").await, "mine");
        assert_eq!(mine, n.to_string());
        rows(client, "INSERT INTO t (v) VALUES ('moved')").await;
    }
    let refused = tests::mysql::try_connect(world.source.port(), USER, Some(PASSWORD), DATABASE);
    assert!(refused.await.is_err(), "a locked account came in");
    let there = world.target.value(DATABASE, "SELECT COUNT(DISTINCT v) FROM t WHERE v LIKE 'around%'").await;
    assert_eq!(there, acknowledged, "{report:?}");
    assert!(at_target(&world, &mut world.client().await).await);
}

#[tokio::test]
async fn where_read_only_is_not_permitted_the_accounts_of_mysql_are_the_fence() {
    accounts_are_the_fence(Pair::Mysql97to97).await;
}

#[tokio::test]
async fn where_read_only_is_not_permitted_the_accounts_of_mariadb_are_the_fence() {
    accounts_are_the_fence(Pair::Mariadb1011to1011).await;
}
