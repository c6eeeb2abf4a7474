//! Whenever Headgate is killed, its next start finds the way by itself: forward or back, and nothing is lost.

use tests::postgres::{Record, rows, single, try_connect, try_rows};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, World};

const SMALL: &str =
    "create table t (id bigserial primary key, v text); insert into t (v) select 'old' from generate_series(1, 100)";

#[tokio::test]
async fn a_kill_while_copying_is_resumed_and_no_row_is_missing_or_double() {
    let mut world = World::start_copying().await;
    world.headgate.kill().await;
    world.source.sql(DATABASE, "insert into big values (-1, 'while dead'); delete from big where id = 5").await;
    world.headgate.launch().await;
    world.until_state("following", MIGRATION).await;
    world.until_equal("select count(*), sum(id), min(id) from big").await;
    world.check().await;
}

#[tokio::test]
async fn a_kill_while_following_is_resumed_and_every_change_is_applied_once() {
    let mut world = World::start(&format!(
        "{SMALL}; create table counter (id int primary key, n int); insert into counter values (1, 0)"
    ))
    .await;
    world.follow().await;
    for round in 0..3 {
        for _ in 0..50 {
            world.source.sql(DATABASE, "update counter set n = n + 1; insert into t (v) values ('new')").await;
        }
        world.headgate.kill().await;
        world.source.sql(DATABASE, &format!("insert into t (v) values ('round {round}')")).await;
        world.headgate.launch().await;
    }
    world.until_state("following", MIGRATION).await;
    world.until_equal("select (select n from counter), count(*), max(id) from t").await;
    world.check().await;
    assert_eq!(world.target.value(DATABASE, "select n from counter").await, "150");
}

#[tokio::test]
async fn a_kill_while_the_cutover_holds_ends_with_the_source_serving_and_the_next_cutover_going_through() {
    let mut world = World::start(SMALL).await;
    world.follow().await;
    world.check().await;
    // Around Headgate, so that it does not end with it: the fence waits for this transaction.
    let blocker = world.source.connect(DATABASE).await;
    rows(&blocker, "begin; insert into t (v) values ('blocker')").await;
    let console = world.headgate.console().await;
    let cutover =
        tokio::spawn(async move { console.simple_query("CUTOVER MIGRATION m WITH (max_hold = '20s')").await.is_ok() });
    let closed = |row: &Record| row.get("gate").is_some_and(|gate| gate != "open");
    until("the gate closes", SOON, || world.row("SHOW ROUTES"), closed).await;
    world.headgate.kill().await;
    assert!(!cutover.await.expect("it did not panic"), "the console outlived the kill");
    rows(&blocker, "commit").await;

    world.headgate.launch().await;
    let client = world.client().await;
    rows(&client, "insert into t (v) values ('after the kill')").await;
    assert!(single(&rows(&client, "show server_version").await, "version").starts_with("14"));
    world.until_state("following", MIGRATION).await;
    world.check().await;
    world.cutover().await;
    assert_eq!(single(&rows(&client, "select count(*) from t").await, "count"), "102");
    assert!(single(&rows(&client, "show server_version").await, "version").starts_with("18"));
}

#[tokio::test]
async fn a_kill_after_the_switch_leaves_the_route_on_the_target() {
    let mut world = World::start(SMALL).await;
    world.follow().await;
    world.check().await;
    world.cutover().await;
    rows(&world.client().await, "insert into t (v) values ('new')").await;
    world.headgate.kill().await;
    world.headgate.launch().await;
    let client = world.client().await;
    assert!(single(&rows(&client, "show server_version").await, "version").starts_with("18"));
    assert_eq!(single(&rows(&client, "select count(*) from t").await, "count"), "101");
    assert!(try_rows(&world.source.connect(DATABASE).await, "insert into t (v) values ('x')").await.is_err());
}

#[tokio::test]
async fn a_lost_connection_to_either_side_is_taken_up_again() {
    let mut world = World::start(SMALL).await;
    world.follow().await;
    world.target.server.kill().await.expect("it runs");
    world.source.sql(DATABASE, "insert into t (v) values ('target down')").await;
    world.target.server.restart().await.expect("it starts again");
    world.until_equal("select count(*) from t").await;
    world.source.server.restart().await.expect("it starts again");
    world.source.sql(DATABASE, "insert into t (v) values ('source was down')").await;
    world.until_equal("select count(*) from t").await;
}

#[tokio::test]
async fn a_polite_stop_ends_with_success_and_lets_an_open_transaction_finish() {
    let mut world = World::start(SMALL).await;
    let client = world.client().await;
    rows(&client, "begin; insert into t (v) values ('mine')").await;
    let port = world.headgate.port();
    let finishing = async {
        let knock = || async { try_connect(port, "postgres", None, DATABASE).await.is_err() };
        until("nobody new is let in", SOON, knock, |refused| *refused).await;
        rows(&client, "commit").await
    };
    let (code, _) = tokio::join!(world.headgate.stop(), finishing);
    assert_eq!(code, Some(0));
    assert_eq!(world.source.value(DATABASE, "select count(*) from t where v = 'mine'").await, "1");
}
