//! The way back: what is written after the switch comes back to the fenced source, and a rollback loses nothing.

use tests::pgbench;
use tests::postgres::{Postgres, Record, Rows, rows, single, try_rows};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, World};
use tokio_postgres::Client;

const SCHEMA: &str =
    "create table t (id bigserial primary key, v text); insert into t (v) select 'old' from generate_series(1, 100)";

async fn ready() -> World {
    let world = World::start(SCHEMA).await;
    world.follow().await;
    world.check().await;
    world
}

async fn version(client: &Client) -> String {
    single(&rows(client, "show server_version_num").await, "the version")
}

/// Waits until STATUS says so of the way back.
async fn until_way_back(world: &World, state: &str) -> Record {
    let ask = || world.row("SHOW MIGRATION STATUS m");
    until("the way back is as it should be", SOON, ask, |row| row.get("way_back").is_some_and(|seen| seen == state))
        .await
}

/// A write around Headgate.
async fn writes(server: &Postgres) -> Result<Rows, tokio_postgres::Error> {
    try_rows(&server.connect(DATABASE).await, "insert into t (v) values ('around')").await
}

async fn rollback(world: &World) -> Record {
    world.row("ROLLBACK MIGRATION m").await
}

#[tokio::test]
async fn what_is_written_after_the_switch_comes_back_and_a_rollback_goes_on_with_it() {
    let world = ready().await;
    let app = world.client().await;
    world.cutover().await;
    rows(&app, "insert into t (v) values ('new'); update t set v = 'changed' where id = 1; delete from t where id = 2")
        .await;
    assert!(version(&app).await.starts_with("18"));
    let there = "select string_agg(id || v, ',' order by id) from t where id < 3 or v = 'new'";
    let expected = world.target.value(DATABASE, there).await;
    world.source.until_value(DATABASE, there, &expected).await;
    until_way_back(&world, "lossless").await;
    // The source refuses everybody else.
    assert!(writes(&world.source).await.is_err(), "the source takes writes of others");

    world.check().await;
    let report = rollback(&world).await;
    assert_eq!(report.get("outcome").map(String::as_str), Some("switched"), "{report:?}");
    assert_eq!(report.get("kind").map(String::as_str), Some("rollback"), "{report:?}");
    assert!(version(&app).await.starts_with("14"));
    rows(&app, "insert into t (v) values ('back')").await;
    assert!(writes(&world.target).await.is_err(), "the target takes writes of others");
    // No value of a sequence came twice.
    assert_eq!(world.source.value(DATABASE, "select count(*) from t").await, "101");
}

/// The application and the operator go there, back, and there again, all the time under load.
#[tokio::test]
async fn there_and_back_and_there_again_under_load_loses_and_doubles_nothing() {
    let world = World::start("").await;
    pgbench::fill(world.source.port(), DATABASE, 5).await;
    world.source.sql(DATABASE, "alter table pgbench_history replica identity full").await;
    world.follow().await;
    world.check().await;
    let port = world.headgate.port();
    let load = pgbench::start(port, DATABASE, &["-c", "8", "-j", "2", "-T", "30", "-M", "prepared"]);
    let count = "select count(*) > 500 from pgbench_history";
    world.source.until_value(DATABASE, count, "t").await;
    let mut reports = vec![world.cutover().await];
    for statement in ["ROLLBACK MIGRATION m", "CUTOVER MIGRATION m"] {
        world.check().await;
        reports.push(world.row(statement).await);
    }
    for report in &reports {
        assert_eq!(report.get("outcome").map(String::as_str), Some("switched"), "{report:?}");
        assert_eq!(report.get("errors").map(String::as_str), Some("0"), "{report:?}");
    }
    let run = pgbench::finish(load).await;
    assert_eq!(run.failed, 0, "{reports:?}");
    let all = "select count(*) from pgbench_history";
    assert_eq!(
        world.target.value(DATABASE, all).await,
        run.processed.to_string(),
        "acknowledged transactions; {reports:?}"
    );
    world.source.until_value(DATABASE, all, &run.processed.to_string()).await;
    let sums = "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)
        and (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history)
        and (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history)";
    for side in [&world.source, &world.target] {
        assert_eq!(side.value(DATABASE, sums).await, "t");
    }
    world.until_state("switched", MIGRATION).await;
}
