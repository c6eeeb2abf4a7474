//! The cutover: no error, no lost write, no doubled write, and back to where it was when it cannot go through.

use tests::client::Raw;
use tests::message::{cancel_request, query};
use tests::pgbench;
use tests::postgres::{rows, single, try_rows};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, World};
use tokio_postgres::Client;

const SCHEMA: &str =
    "create table t (id bigserial primary key, v text); insert into t (v) select 'old' from generate_series(1, 100)";

/// A world whose migration follows and has passed its check.
async fn ready() -> World {
    let world = World::start(SCHEMA).await;
    world.follow().await;
    world.check().await;
    world
}

async fn version(client: &Client) -> String {
    single(&rows(client, "show server_version_num").await, "the version")
}

/// Waits until so many statements wait at the gate.
async fn until_held(world: &World, count: &str) {
    let ask = || world.row("SHOW ROUTES");
    until("a statement is held", SOON, ask, |row| row.get("statements_held").is_some_and(|held| held == count)).await;
}

/// Moves a database under the usual load, in one protocol, and proves that each transaction is there once.
async fn pgbench_survives(protocol: &str) {
    let world = World::start("").await;
    pgbench::fill(world.source.port(), DATABASE, 5).await;
    world.source.sql(DATABASE, "alter table pgbench_history replica identity full").await;
    world.follow().await;
    world.check().await;

    let port = world.headgate.port();
    let load = pgbench::start(port, DATABASE, &["-c", "16", "-j", "2", "-T", "100", "-R", "600", "-M", protocol]);
    let going = "select count(*) > 500 from pgbench_history";
    world.source.until_value(DATABASE, going, "t").await;
    let report = world.cutover().await;
    let by_then = world.target.value(DATABASE, "select count(*) from pgbench_history").await;
    let more = format!("select count(*) > {by_then} + 500 from pgbench_history");
    world.target.until_value(DATABASE, &more, "t").await;
    let run = pgbench::end(load).await;

    assert_eq!(run.failed, 0, "{report:?}");
    let moved = world.target.value(DATABASE, "select count(*) from pgbench_history").await;
    assert_eq!(moved, run.processed.to_string(), "acknowledged transactions on the target; {report:?}");
    let sums = "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)
        and (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history)
        and (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history)";
    assert_eq!(world.target.value(DATABASE, sums).await, "t");
}

#[tokio::test]
async fn pgbench_with_simple_queries_loses_and_doubles_nothing() {
    pgbench_survives("simple").await;
}

#[tokio::test]
async fn pgbench_with_extended_queries_loses_and_doubles_nothing() {
    pgbench_survives("extended").await;
}

#[tokio::test]
async fn pgbench_with_prepared_statements_loses_and_doubles_nothing() {
    pgbench_survives("prepared").await;
}

#[tokio::test]
async fn an_open_transaction_that_outlasts_the_hold_undoes_the_cutover_and_everybody_goes_on_at_the_source() {
    let world = ready().await;
    let (slow, other) = (world.client().await, world.client().await);
    rows(&slow, "begin; insert into t (v) values ('slow')").await;

    let statement = "CUTOVER MIGRATION m WITH (max_hold = '500ms')";
    let write = rows(&other, "insert into t (v) values ('other')");
    let ((code, text), _) = tokio::join!(world.headgate.refused(statement), write);
    assert!(code == "55000" && text.contains("undone"), "{code} {text}");
    let report = world.row("SHOW CUTOVER REPORT m").await;
    assert_eq!(report.get("outcome").map(String::as_str), Some("undone"), "{report:?}");
    rows(&slow, "commit").await;
    assert!(version(&slow).await.starts_with("14") && version(&other).await.starts_with("14"));
    assert_eq!(world.source.value(DATABASE, "select count(*) from t where v <> 'old'").await, "2");

    world.until_state("following", MIGRATION).await;
    world.cutover().await;
    assert!(version(&slow).await.starts_with("18"), "the next cutover goes through");
    assert_eq!(world.target.value(DATABASE, "select count(*) from t where v <> 'old'").await, "2");
}

#[tokio::test]
async fn a_held_statement_runs_once_and_on_the_target() {
    let world = ready().await;
    let (slow, held) = (world.client().await, world.client().await);
    rows(&slow, "begin; insert into t (v) values ('slow')").await;
    let steps = async {
        until_held(&world, "1").await;
        rows(&slow, "commit").await;
    };
    let held_one = async {
        let closing = |row: &tests::postgres::Record| row.get("gate").is_some_and(|gate| gate != "open");
        until("the gate closes", SOON, || world.row("SHOW ROUTES"), closing).await;
        rows(&held, "insert into t (v) values ('held')").await;
    };
    // Without a way back: what came to the source by itself would be told from nothing that comes back.
    let cutting = world.row("CUTOVER MIGRATION m WITH (max_hold = '10s', way_back = 'none')");
    let (report, (), ()) = tokio::join!(cutting, steps, held_one);
    assert_eq!(report.get("errors").map(String::as_str), Some("0"), "{report:?}");
    assert_eq!(world.target.value(DATABASE, "select count(*) from t where v = 'held'").await, "1");
    assert_eq!(world.source.value(DATABASE, "select count(*) from t where v = 'held'").await, "0");
    assert_eq!(world.target.value(DATABASE, "select count(*) from t where v = 'slow'").await, "1");
}

#[tokio::test]
async fn a_held_statement_can_be_cancelled_and_one_of_a_client_that_left_is_forgotten() {
    let world = ready().await;
    let port = world.headgate.port();
    let slow = world.client().await;
    rows(&slow, "begin; insert into t (v) values ('slow')").await;
    let (mut patient, pid, secret) = Raw::login_with_key(port, "postgres", DATABASE).await;
    let mut gone = Raw::login(port, "postgres", DATABASE).await;
    let steps = async {
        let closing = |row: &tests::postgres::Record| row.get("gate").is_some_and(|gate| gate != "open");
        until("the gate closes", SOON, || world.row("SHOW ROUTES"), closing).await;
        patient.send(&query("insert into t (v) values ('cancelled')")).await;
        gone.send(&query("insert into t (v) values ('gone')")).await;
        until_held(&world, "2").await;
        drop(gone);
        until_held(&world, "1").await;
        Raw::connect(port).await.send(&cancel_request(pid, &secret)).await;
        let frames = patient.until_ready().await;
        let error = frames.iter().find(|frame| frame.tag == b'E').expect("it was cancelled");
        assert_eq!(error.sqlstate(), "57014");
        rows(&slow, "commit").await;
    };
    tokio::join!(world.cutover(), steps);
    let frames = patient.query("select 1").await;
    assert!(frames.iter().any(|frame| frame.tag == b'D'), "the session does not go on: {frames:?}");
    for side in [&world.source, &world.target] {
        assert_eq!(side.value(DATABASE, "select count(*) from t where v in ('cancelled', 'gone')").await, "0");
    }
}

#[tokio::test]
async fn a_session_that_moves_has_the_state_it_had() {
    let world = ready().await;
    world.source.sql(DATABASE, "create role clerk; grant all on all tables in schema public to clerk").await;
    world
        .target
        .sql(
            DATABASE,
            "do $$ begin create role clerk; exception when duplicate_object then null; end $$;
        grant all on all tables in schema public to clerk",
        )
        .await;
    // The proof was about other definitions.
    world.check().await;
    let client = world.client().await;
    rows(&client, "set work_mem = '7MB'; set application_name = 'mover'; set datestyle = 'German'").await;
    rows(&client, "listen news; set role clerk").await;
    // Alone in its message: the server keeps the whole text of a message as the statement's own.
    rows(&client, "prepare by_sql (int) as select $1 + 1").await;
    let statement = client.prepare("select count(*) from t where v = $1").await.expect("a statement");
    world.cutover().await;

    assert_eq!(client.query_one(&statement, &[&"old"]).await.expect("the statement is there").get::<_, i64>(0), 100);
    assert!(version(&client).await.starts_with("18"));
    for (setting, value) in
        [("work_mem", "7MB"), ("application_name", "mover"), ("datestyle", "German, DMY"), ("role", "clerk")]
    {
        assert_eq!(single(&rows(&client, &format!("show {setting}")).await, setting), value, "{setting}");
    }
    assert_eq!(single(&rows(&client, "execute by_sql(41)").await, "by_sql"), "42");
    assert_eq!(single(&rows(&client, "select pg_listening_channels()").await, "channels"), "news");
}

#[tokio::test]
async fn a_session_with_a_temporary_table_is_closed_with_an_error_that_says_to_come_again() {
    let world = ready().await;
    let (tied, free) = (world.client().await, world.client().await);
    rows(&tied, "create temporary table scratch (a int)").await;
    let report = world.cutover().await;
    let error = try_rows(&tied, "select 1").await.expect_err("it cannot move");
    if let Some(error) = error.as_db_error() {
        assert_eq!(error.code().code(), "57P01", "{error:?}");
    } else {
        assert!(error.is_closed(), "{error:?}");
    }
    assert!(version(&free).await.starts_with("18"), "{report:?}");
    assert!(version(&world.client().await).await.starts_with("18"), "coming again works");
}

#[tokio::test]
async fn after_the_switch_the_source_refuses_writers_that_go_around_and_still_answers_readers() {
    let world = ready().await;
    let around = world.source.connect(DATABASE).await;
    rows(&around, "insert into t (v) values ('before')").await;
    world.cutover().await;
    for write in ["insert into t (v) values ('after')", "update t set v = 'after'", "delete from t", "truncate t"] {
        let refused = try_rows(&around, write).await;
        assert!(refused.is_err(), "{write} went through on the source");
    }
    assert_eq!(single(&rows(&around, "select count(*) from t").await, "count"), "101");
    assert_eq!(world.target.value(DATABASE, "select count(*) from t where v = 'before'").await, "1");
}

#[tokio::test]
async fn a_counter_never_gives_a_value_twice() {
    let world = ready().await;
    let client = world.client().await;
    let next = "insert into t (v) values ('new') returning id";
    let before: i64 = single(&rows(&client, next).await, next).parse().expect("a number");
    rows(&client, "begin; insert into t (v) values ('rolled back'); rollback").await;
    world.cutover().await;
    let after: i64 = single(&rows(&client, next).await, next).parse().expect("a number");
    assert!(after > before + 1, "{after} after {before}");
}

#[tokio::test]
async fn a_rehearsal_goes_through_every_step_and_leaves_everything_on_the_source() {
    let world = ready().await;
    let client = world.client().await;
    for _ in 0..3 {
        let report = world.row("REHEARSE MIGRATION m WITH (max_hold = '5s')").await;
        assert_eq!(report.get("outcome").map(String::as_str), Some("rehearsed"), "{report:?}");
        rows(&client, "insert into t (v) values ('between')").await;
    }
    assert!(version(&client).await.starts_with("14"));
    let around = world.source.connect(DATABASE).await;
    rows(&around, "insert into t (v) values ('around')").await;
    world.until_equal("select count(*), max(id) from t").await;
    world.cutover().await;
    assert_eq!(single(&rows(&client, "select count(*) from t").await, "count"), "104");
}

#[tokio::test]
async fn a_cutover_without_a_passed_check_is_refused_unless_that_is_waived() {
    let world = World::start(SCHEMA).await;
    world.follow().await;
    let (code, text) = world.headgate.refused("CUTOVER MIGRATION m").await;
    assert!(code == "55000" && text.to_lowercase().contains("check"), "{code} {text}");
    let report = world.row("CUTOVER MIGRATION m WITH (waive_check = true, max_hold = '10s')").await;
    assert_eq!(report.get("outcome").map(String::as_str), Some("switched"), "{report:?}");
    assert_eq!(report.get("check_waived").map(String::as_str), Some("t"), "{report:?}");
}

#[tokio::test]
async fn a_cutover_while_copying_is_refused_and_the_copy_goes_on() {
    let world = World::start_copying().await;
    let (code, text) = world.headgate.refused("CUTOVER MIGRATION m").await;
    assert!(code == "55000" && text.contains("copying"), "{code} {text}");
    assert!(version(&world.client().await).await.starts_with("14"));
    world.until_state("following", MIGRATION).await;
    world.check().await;
    world.cutover().await;
}
