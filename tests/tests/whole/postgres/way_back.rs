//! The way back: what is written after the switch comes back to the fenced source, and a rollback loses nothing.

use tests::pgbench;
use tests::postgres::{Postgres, Record, Rows, rows, single, try_rows};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, World};
use tokio_postgres::Client;

const SCHEMA: &str =
    "create table t (id bigserial primary key, v text); insert into t (v) select 'old' from generate_series(1, 100)";

const SLOTS: &str = "select count(*) from pg_replication_slots where slot_name ~ '^headgate[0-9]*_m$'";

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
    // A slot that nobody reads would fill the disk.
    world.source.until_value(DATABASE, SLOTS, "0").await;
    // The source refuses everybody else.
    assert!(writes(&world.source).await.is_err(), "the source takes writes of others");

    // The highest value is used up and leaves no row behind.
    let next = "select nextval('t_id_seq')";
    let used: i64 = single(&rows(&app, next).await, next).parse().expect("a number");
    world.check().await;
    let report = rollback(&world).await;
    assert_eq!(report.get("outcome").map(String::as_str), Some("switched"), "{report:?}");
    assert_eq!(report.get("kind").map(String::as_str), Some("rollback"), "{report:?}");
    assert!(version(&app).await.starts_with("14"));
    world.target.until_value(DATABASE, SLOTS, "0").await;
    let given: i64 = single(&rows(&app, next).await, next).parse().expect("a number");
    assert!(given > used, "{given} was given out on the other side, as {used} was");
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

#[tokio::test]
async fn a_way_back_that_cannot_be_armed_refuses_the_cutover_until_that_is_mended_or_waived() {
    let target = Postgres::start_with(18, &[("wal_level", "replica")], None).await;
    let world = World::between(Postgres::start(14).await, target, SCHEMA, "").await;
    world.follow().await;
    world.check().await;
    let app = world.client().await;

    let (code, text) = world.headgate.refused("CUTOVER MIGRATION m").await;
    assert!(
        code == "55000" && text.contains("the way back cannot be armed") && text.contains("wal_level"),
        "{code} {text}"
    );
    assert!(version(&app).await.starts_with("14"), "the gate was closed for it");
    let report = world.headgate.admin("SHOW CUTOVER REPORT m").await;
    assert!(report.is_empty(), "a cutover was begun: {report:?}");

    world.row("CUTOVER MIGRATION m WITH (way_back = 'none')").await;
    rows(&app, "insert into t (v) values ('new')").await;
    until_way_back(&world, "waived").await;
    let (_, text) = world.headgate.refused("ROLLBACK MIGRATION m").await;
    assert!(text.contains("without a way back"), "{text}");
    assert_eq!(world.source.value(DATABASE, "select count(*) from t where v = 'new'").await, "0");
    world.headgate.admin("FINISH MIGRATION m").await;
}

#[tokio::test]
async fn a_target_whose_log_is_made_fit_by_the_printed_remedy_arms_the_way_back() {
    let target = Postgres::start_with(18, &[("wal_level", "replica")], None).await;
    let mut world = World::between(Postgres::start(14).await, target, SCHEMA, "").await;
    world.follow().await;
    let (_, text) = world.headgate.refused("REHEARSE MIGRATION m").await;
    assert!(text.contains("ALTER SYSTEM SET wal_level = 'logical'"), "{text}");
    world.target.sql(DATABASE, "ALTER SYSTEM SET wal_level = 'logical'").await;
    world.target.server.restart().await.expect("it restarts");
    let steady = |row: &Record| row.get("interrupted_since").is_none_or(String::is_empty) && row.contains_key("lag_ms");
    until("it follows again", MIGRATION, || world.row("SHOW MIGRATION STATUS m"), steady).await;
    let rehearse = || async { try_rows(&world.headgate.console().await, "REHEARSE MIGRATION m").await.is_ok() };
    until("the way back is armed", MIGRATION, rehearse, |armed| *armed).await;
}

#[tokio::test]
async fn a_rehearsal_arms_in_both_directions_and_leaves_nothing() {
    let world = ready().await;
    let slots = "select count(*) from pg_replication_slots where slot_name ~ '^headgate[0-9]+_'";
    let rehearsed = world.row("REHEARSE MIGRATION m").await;
    assert_eq!(rehearsed.get("outcome").map(String::as_str), Some("rehearsed"), "{rehearsed:?}");
    assert_eq!(world.target.value(DATABASE, slots).await, "0", "a slot keeps the target's log for nothing");
    let origins = "select count(*) from pg_replication_origin";
    assert_eq!(world.source.value(DATABASE, origins).await, "0", "an origin stays on the source");
    let records = "select to_regclass('headgate.progress') is null";
    assert_eq!(world.source.value(DATABASE, records).await, "t", "a record stays on the source");
    world.cutover().await;
    until_way_back(&world, "lossless").await;
    let rehearsed = world.row("REHEARSE MIGRATION m WITH (max_hold = '5s')").await;
    assert_eq!(rehearsed.get("outcome").map(String::as_str), Some("rehearsed"), "{rehearsed:?}");
    assert_eq!(world.source.value(DATABASE, slots).await, "0", "a slot keeps the source's log for nothing");
    let app = world.client().await;
    assert!(version(&app).await.starts_with("18"), "the rehearsal went back");
    rows(&app, "insert into t (v) values ('after')").await;
    world.source.until_value(DATABASE, "select count(*) from t where v = 'after'", "1").await;
}

#[tokio::test]
async fn a_changed_definition_on_the_new_side_is_seen_within_seconds_and_disturbs_no_client() {
    let world = ready().await;
    let app = world.client().await;
    world.cutover().await;
    until_way_back(&world, "lossless").await;
    rows(&app, "alter table t add column w int").await;
    let row = until_way_back(&world, "lost").await;
    let detail = row.get("way_back_detail").cloned().unwrap_or_default();
    assert!(detail.contains("NOT lossless") && detail.contains("public.t"), "{detail}");
    assert_eq!(row.get("state").map(String::as_str), Some("switched"), "{row:?}");
    rows(&app, "insert into t (v, w) values ('wide', 1)").await;
    let page = world.headgate.page("/metrics").await;
    assert!(page.contains("headgate_migration_way_back_lossless{migration=\"m\"} 0"), "{page}");
    let (_, text) = world.headgate.refused("ROLLBACK MIGRATION m").await;
    assert!(text.contains("way back"), "{text}");
    // What is printed: it is given up, and the move back is a migration of its own.
    world.headgate.admin("FINISH MIGRATION m").await;
    rows(&app, "insert into t (v, w) values ('after', 2)").await;
}

#[tokio::test]
async fn a_lost_stream_is_seen_within_seconds_and_disturbs_no_client() {
    let world = ready().await;
    let app = world.client().await;
    world.cutover().await;
    until_way_back(&world, "lossless").await;
    let drop = "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name ~ '^headgate2_' and active;
        select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name ~ '^headgate2_' and not active";
    let gone = "select count(*) from pg_replication_slots where slot_name ~ '^headgate2_'";
    let dropping = || async {
        let _busy = try_rows(&world.target.connect(DATABASE).await, drop).await;
        world.target.value(DATABASE, gone).await
    };
    until("the slot is dropped", SOON, dropping, |count| count == "0").await;
    let row = until_way_back(&world, "lost").await;
    let detail = row.get("way_back_detail").cloned().unwrap_or_default();
    assert!(detail.contains("NOT lossless") && detail.contains("slot"), "{detail}");
    rows(&app, "insert into t (v) values ('goes on')").await;
    let (_, text) = world.headgate.refused("ROLLBACK MIGRATION m").await;
    assert!(text.contains("way back"), "{text}");
    world.headgate.admin("FINISH MIGRATION m").await;
}

#[tokio::test]
async fn finishing_leaves_nothing_on_either_side_but_the_refusal_and_its_mark() {
    let world = ready().await;
    world.cutover().await;
    until_way_back(&world, "lossless").await;
    world.headgate.admin("FINISH MIGRATION m").await;
    let left = "select coalesce(string_agg(what, ', ' order by what), '') from (
        select 'slot ' || slot_name as what from pg_replication_slots
        union all select 'publication ' || pubname from pg_publication
        union all select 'origin ' || roname from pg_replication_origin
        union all select 'table ' || relname from pg_class where relnamespace = to_regnamespace('headgate') and relkind = 'r'
        union all select 'function ' || proname from pg_proc where pronamespace = to_regnamespace('headgate')
        union all select 'trigger ' || tgname from pg_trigger where tgname ~ '^headgate') all_of_it";
    assert_eq!(world.target.value(DATABASE, left).await, "", "on the target");
    let expected = "function headgate_m, table switches, trigger headgate_fence";
    assert_eq!(world.source.value(DATABASE, left).await, expected, "on the source");
}

#[tokio::test]
async fn a_restart_takes_the_way_back_up_where_it_was() {
    let mut world = ready().await;
    world.cutover().await;
    until_way_back(&world, "lossless").await;
    world.headgate.kill().await;
    // Around Headgate, as nobody else is there: what the new side takes meanwhile is kept for the way back.
    world.target.sql(DATABASE, "insert into t (v) select 'meanwhile' from generate_series(1, 50)").await;
    world.headgate.launch().await;
    until_way_back(&world, "lossless").await;
    world.source.until_value(DATABASE, "select count(*) from t where v = 'meanwhile'", "50").await;
    world.check().await;
    rollback(&world).await;
    let app = world.client().await;
    assert!(version(&app).await.starts_with("14"));
    assert_eq!(single(&rows(&app, "select count(*) from t").await, "the rows"), "150");
}
