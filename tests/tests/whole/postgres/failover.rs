//! Endpoints that move: a standby takes the place of a server whose changes are copied or followed.

use tests::failover::{Moving, With};
use tests::fault::Relay;
use tests::headgate::{Headgate, signal_server};
use tests::postgres::{Postgres, Record, rows, single};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, SLOWLY, World, clusters};

const SCHEMA: &str = "create table t (id int primary key, body text); insert into t select i, 'row ' || i from generate_series(1, 500) i";
const ROWS: &str = "select count(*), md5(string_agg(t::text, ',' order by id)) from t";

/// The slots of a standby by which the way back could go on.
const SYNCED: &str = "select count(*) from pg_replication_slots
    where slot_name = 'headgate2_m' and synced and not temporary and invalidation_reason is null";

/// Starts all of it, with a migration that follows and both sides equal.
async fn start(with: With) -> Moving<Postgres> {
    let moving = prepare(with, SCHEMA, "").await;
    moving.world.follow().await;
    moving.world.until_equal(ROWS).await;
    moving
}

/// Starts the servers and Headgate, with further sections of the configuration.
async fn prepare(with: With, schema: &str, sections: &str) -> Moving<Postgres> {
    let (mut source, mut target) = tokio::join!(Postgres::start(14), Postgres::start(18));
    let moves = if with == With::Source { &mut source } else { &mut target };
    let standby = moves.start_standby().await;
    let endpoint = Relay::to(moves.port()).await;
    for server in [&source, &target] {
        server.sql("postgres", &format!("create database {DATABASE}")).await;
    }
    source.sql(DATABASE, schema).await;
    let (blue, green) = with.ports(&endpoint, source.port(), target.port());
    let headgate = Headgate::start(&(clusters(blue, green) + sections)).await;
    Moving { world: World { source, target, headgate }, endpoint, standby }
}

/// From now on nothing is committed on the target that the standby has not, and nothing leaves it before.
async fn lose_nothing(moving: &Moving<Postgres>) {
    let target = &moving.world.target;
    for setting in ["synchronous_standby_names", "synchronized_standby_slots"] {
        target.sql("postgres", &format!("alter system set {setting} = 'standby'")).await;
    }
    target.sql("postgres", "select pg_reload_conf()").await;
    let state = "select sync_state from pg_stat_replication where application_name = 'standby'";
    target.until_value("postgres", state, "sync").await;
}

/// The route is on the target, and the way back could go on from the standby.
async fn switch(moving: &Moving<Postgres>) {
    moving.world.check().await;
    moving.world.cutover().await;
    // It takes over a slot once that needs nothing that it never had.
    let ask = || async {
        moving.world.target.sql("postgres", "select pg_log_standby_snapshot()").await;
        moving.standby.value("postgres", SYNCED).await
    };
    until("the standby has the slot", MIGRATION, ask, |count| count == "1").await;
}

/// The standby takes the primary's place.
async fn promote(moving: &mut Moving<Postgres>, with: With) {
    assert_eq!(moving.standby.value("postgres", "select pg_promote()").await, "t");
    moving.replace(with, moving.standby.port());
}

/// Writes rows on the source.
async fn write(moving: &Moving<Postgres>, ids: &str) {
    let insert = format!("insert into t select i, 'later ' || i from generate_series({ids}) i");
    moving.world.source.sql(DATABASE, &insert).await;
}

#[tokio::test]
async fn a_failover_of_the_target_costs_time_only() {
    let mut moving = start(With::Target).await;
    lose_nothing(&moving).await;
    write(&moving, "1001, 1100").await;
    moving.world.until_equal(ROWS).await;
    moving.world.target.server.kill().await.expect("it ends");
    // A moment before the standby is promoted the endpoint leads to it already.
    moving.endpoint.lead_to(moving.standby.port());
    write(&moving, "1101, 1200").await;
    let status = moving.until_error("is a standby, which takes no writes").await;
    assert_eq!(status["state"], "following", "{status:?}");
    promote(&mut moving, With::Target).await;
    moving.world.until_equal(ROWS).await;
    moving.world.check().await;
    moving.world.cutover().await;
}

#[tokio::test]
async fn a_failover_of_the_target_while_rows_are_copied_loses_none_of_them() {
    let schema = "create table t (id int primary key, body text);
        insert into t select n, repeat(md5(n::text), 8) from generate_series(1, 200000) n";
    let mut moving = prepare(With::Target, schema, SLOWLY).await;
    let Moving { world, endpoint, standby } = &mut moving;
    // Who asks for the table's lock is behind the range that is being loaded, and before the next one.
    let (keeps, next) = tokio::join!(world.target.connect(DATABASE), world.target.connect(DATABASE));
    let lock = "begin; lock table t in share mode; select count(*) from headgate.chunks";
    world.start_migration().await;
    world.target.until_value(DATABASE, "select to_regclass('headgate.chunks') is not null", "t").await;
    world.target.until_value(DATABASE, "select count(*) from headgate.tables", "1").await;
    let loaded = single(&rows(&keeps, lock).await, lock);
    // The standby has what is loaded until here, and gets no more.
    let at = world.target.value(DATABASE, "select pg_current_wal_lsn()").await;
    standby.until_value(DATABASE, &format!("select pg_last_wal_replay_lsn() >= '{at}'"), "t").await;
    standby.sql("postgres", "alter system set primary_conninfo = ''").await;
    standby.sql("postgres", "select pg_reload_conf()").await;
    standby.until_value("postgres", "select count(*) from pg_stat_wal_receiver", "0").await;
    // One range more is loaded.
    let waits = |mode: &str| {
        format!("select count(*) from pg_locks where not granted and relation = 't'::regclass and mode = '{mode}'")
    };
    world.target.until_value(DATABASE, &waits("RowExclusiveLock"), "1").await;
    let releasing = async {
        world.target.until_value(DATABASE, &waits("ShareLock"), "1").await;
        rows(&keeps, "rollback").await;
    };
    let (then, ()) = tokio::join!(rows(&next, lock), releasing);
    let then = single(&then, lock);
    assert_ne!(then, loaded);
    let had = standby.value(DATABASE, "select count(*) from headgate.chunks").await;
    assert_eq!(had, loaded, "the standby lacks what was loaded last");

    world.target.server.kill().await.expect("it ends");
    assert_eq!(standby.value("postgres", "select pg_promote()").await, "t");
    endpoint.lead_to(standby.port());
    moving.replace(With::Target, moving.standby.port());
    moving.world.until_state("following", MIGRATION).await;
    moving.world.until_equal(ROWS).await;
    moving.world.check().await;
}

#[tokio::test]
async fn a_failover_of_the_new_cluster_leaves_the_way_back_lossless() {
    let mut moving = start(With::Target).await;
    lose_nothing(&moving).await;
    switch(&moving).await;
    let insert = |ids: &str| format!("insert into t select i, 'back ' || i from generate_series({ids}) i");
    moving.world.target.sql(DATABASE, &insert("1001, 1100")).await;
    moving.world.target.server.kill().await.expect("it ends");
    promote(&mut moving, With::Target).await;
    moving.world.target.sql(DATABASE, &insert("1101, 1200")).await;
    moving.world.until_equal(ROWS).await;
    moving.until_way_back("lossless").await;
    moving.world.roll_back().await;
    assert_eq!(moving.world.source.value(DATABASE, "select count(*) from t where id > 1000").await, "200");
}

#[tokio::test]
async fn a_new_cluster_that_lost_what_came_back_has_no_lossless_way_back() {
    let mut moving = start(With::Target).await;
    switch(&moving).await;
    moving.standby.server.stop().await.expect("it ends");
    moving.world.target.sql(DATABASE, "insert into t values (3001, 'acknowledged')").await;
    moving.world.until_equal(ROWS).await;
    moving.world.target.server.kill().await.expect("it ends");
    moving.standby.server.restart().await.expect("it starts");
    promote(&mut moving, With::Target).await;
    // It has written as much as was lost, before Headgate sees it.
    moving.world.target.sql(DATABASE, "insert into t select i, 'another' from generate_series(4001, 4500) i").await;
    let status = moving.until_way_back("lost").await;
    assert!(status["way_back_detail"].contains("blue has changes that green has not"), "{status:?}");
}

#[tokio::test]
async fn a_source_whose_replacement_cannot_go_on_stops_the_migration() {
    let mut moving = start(With::Source).await;
    moving.world.source.server.kill().await.expect("it ends");
    promote(&mut moving, With::Source).await;
    let status = moving.until_error("the source refused the slot headgate_m").await;
    assert_eq!(status["state"], "failed", "{status:?}");
}

#[tokio::test]
async fn a_target_that_lost_what_it_had_confirmed_stops_the_migration() {
    let mut moving = start(With::Target).await;
    moving.standby.server.stop().await.expect("it ends");
    write(&moving, "1001, 1100").await;
    moving.world.until_equal(ROWS).await;
    let written = moving.world.source.value("postgres", "select pg_current_wal_lsn()").await;
    let confirmed = format!("select count(*) from pg_replication_slots where confirmed_flush_lsn >= '{written}'");
    moving.world.source.until_value(DATABASE, &confirmed, "1").await;
    moving.world.target.server.kill().await.expect("it ends");
    moving.standby.server.restart().await.expect("it starts");
    promote(&mut moving, With::Target).await;
    let status = moving.until_error("the target has lost changes that it had confirmed").await;
    assert_eq!(status["state"], "failed", "{status:?}");
}

#[tokio::test]
async fn a_failover_of_the_target_inside_the_hold_undoes_the_cutover() {
    let mut moving = start(With::Target).await;
    lose_nothing(&moving).await;
    moving.world.check().await;
    // The gate waits for this transaction.
    let open = moving.world.client().await;
    rows(&open, "begin; insert into t values (2001, 'in the hold')").await;
    let cutting = moving.world.headgate.try_admin("CUTOVER MIGRATION m WITH (max_hold = '10s')");
    let failing = async {
        let closing = |row: &Record| row.get("gate").is_some_and(|gate| gate != "open");
        until("the gate closes", SOON, || moving.world.row("SHOW ROUTES"), closing).await;
        let pid = moving.world.target.server.pid().expect("it runs");
        signal_server(pid, "QUIT").await;
        rows(&open, "commit").await;
    };
    let (outcome, ()) = tokio::join!(cutting, failing);
    let refusal = outcome.expect_err("it is undone");
    rows(&open, "insert into t values (2002, 'after it')").await;
    assert_eq!(moving.world.source.value(DATABASE, "select count(*) from t where id > 2000").await, "2", "{refusal}");
    moving.world.target.server.kill().await.expect("it is gone");
    promote(&mut moving, With::Target).await;
    moving.world.until_equal(ROWS).await;
    moving.world.check().await;
    moving.world.cutover().await;
    assert_eq!(rows(&open, "select count(*) from t where id > 2000").await, [[Some("2".to_owned())]]);
}
