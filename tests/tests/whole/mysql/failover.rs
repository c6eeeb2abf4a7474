//! Endpoints that move: a replica takes the place of a server whose changes are followed.

use tests::failover::{Moving, With};
use tests::fault::Relay;
use tests::headgate::{signal, signal_server};
use tests::mysql::disposable::Kind;
use tests::mysql::{Mysql, Record, rows, single};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, SLOWLY, World, mysql_clusters, numbers};

const ROWS: &str = "SELECT * FROM t ORDER BY id";

/// Starts all of it, with a migration that follows and both sides equal.
async fn start(with: With) -> Moving<Mysql> {
    let schema = format!(
        "CREATE TABLE t (id BIGINT PRIMARY KEY, body VARCHAR(40)); INSERT INTO t SELECT n, 'old' FROM {} WHERE n <= 500",
        numbers(3)
    );
    let moving = prepare(with, &schema, "").await;
    moving.world.follow().await;
    moving.world.until_equal(ROWS).await;
    moving
}

/// Starts the servers and Headgate, with further sections of the configuration.
async fn prepare(with: With, schema: &str, sections: &str) -> Moving<Mysql> {
    let (source, target) = tokio::join!(Mysql::start(Kind::Mysql97), Mysql::start(Kind::Mysql97));
    let moves = if with == With::Source { &source } else { &target };
    let standby = moves.start_replica().await;
    let endpoint = Relay::to(moves.port()).await;
    let (blue, green) = with.ports(&endpoint, source.port(), target.port());
    let configuration = mysql_clusters(blue, green) + sections;
    let world = World::of_clusters(source, target, schema, &configuration).await;
    Moving { world, endpoint, standby }
}

/// The replica takes the primary's place.
async fn promote(moving: &mut Moving<Mysql>, with: With) {
    moving.standby.promote().await;
    moving.replace(with, moving.standby.port());
}

/// Kills the primary when the replica has all that it has, and all that Headgate has read there.
async fn fail_over(moving: &mut Moving<Mysql>, with: With) {
    let pid = moving.world.headgate.pid();
    signal(pid, "STOP").await;
    let primary = if with == With::Source { &moving.world.source } else { &moving.world.target };
    primary.is_copied_to(&moving.standby).await;
    moving.primary(with).server.kill().await.expect("it ends");
    promote(moving, with).await;
    signal(pid, "CONT").await;
}

fn insert(from: u32) -> String {
    format!("INSERT INTO t SELECT n + {from}, 'later' FROM {} WHERE n <= 100", numbers(2))
}

#[tokio::test]
async fn a_failover_of_the_target_costs_time_only() {
    let mut moving = start(With::Target).await;
    // What the replica does not get comes from the source again.
    moving.standby.sql("", "STOP REPLICA").await;
    moving.world.source.sql(DATABASE, &insert(1000)).await;
    moving.world.until_equal(ROWS).await;
    moving.world.target.server.kill().await.expect("it ends");
    // A moment before the replica is promoted the endpoint leads to it already.
    moving.endpoint.lead_to(moving.standby.port());
    moving.world.source.sql(DATABASE, &insert(2000)).await;
    let status = moving.until_error("takes no writes: read_only is ON").await;
    assert_eq!(status["state"], "following", "{status:?}");
    promote(&mut moving, With::Target).await;
    moving.world.until_equal(ROWS).await;
    moving.world.check().await;
    moving.world.cutover().await;
}

#[tokio::test]
async fn a_failover_of_the_target_while_rows_are_copied_loses_none_of_them() {
    let schema = format!(
        "CREATE TABLE t (id INT PRIMARY KEY, body TEXT); INSERT INTO t SELECT n, REPEAT(LPAD(HEX(n * 2654435761), 32, 'x'), 8) FROM {} WHERE n <= 200000; ANALYZE TABLE t",
        numbers(6)
    );
    let mut moving = prepare(With::Target, &schema, SLOWLY).await;
    let Moving { world, endpoint, standby } = &mut moving;
    // Who loads a chunk locks its record first.
    let (mut keeps, mut next) = tokio::join!(world.target.connect(""), world.target.connect(""));
    let lock = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; BEGIN;
        SELECT MIN(chunk) FROM headgate.chunks WHERE loaded = 0 FOR UPDATE";
    world.start_migration().await;
    let (there, chunks) = (
        "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'headgate' AND TABLE_NAME = 'chunks'",
        "SELECT COUNT(*) > 2 FROM headgate.chunks",
    );
    world.target.until_value("", there, "1").await;
    world.target.until_value("", chunks, "1").await;
    let first = single(&rows(&mut keeps, lock).await, lock);
    // The replica has what is loaded until here, and gets no more.
    world.target.is_copied_to(standby).await;
    standby.sql("", "STOP REPLICA").await;
    // One chunk more is loaded.
    rows(&mut next, &format!("{lock} SKIP LOCKED")).await;
    rows(&mut keeps, "ROLLBACK").await;
    let loaded = format!("SELECT loaded FROM headgate.chunks WHERE chunk = {first}");
    world.target.until_value("", &loaded, "1").await;
    assert_eq!(standby.value("", &loaded).await, "0", "the replica lacks what was loaded last");

    world.target.server.kill().await.expect("it ends");
    standby.promote().await;
    endpoint.lead_to(standby.port());
    moving.replace(With::Target, moving.standby.port());
    moving.world.until_state("following", MIGRATION).await;
    moving.world.until_equal(ROWS).await;
    moving.world.check().await;
}

#[tokio::test]
async fn a_failover_of_the_source_costs_time_only() {
    let mut moving = start(With::Source).await;
    moving.world.source.sql(DATABASE, &insert(1000)).await;
    fail_over(&mut moving, With::Source).await;
    moving.world.source.sql(DATABASE, &insert(2000)).await;
    moving.world.until_equal(ROWS).await;
    moving.world.check().await;
    moving.world.cutover().await;
}

#[tokio::test]
async fn a_failover_of_the_new_cluster_leaves_the_way_back_lossless() {
    let mut moving = start(With::Target).await;
    moving.world.check().await;
    moving.world.cutover().await;
    moving.world.target.sql(DATABASE, &insert(1000)).await;
    fail_over(&mut moving, With::Target).await;
    moving.world.target.sql(DATABASE, &insert(2000)).await;
    moving.world.until_equal(ROWS).await;
    moving.until_way_back("lossless").await;
    moving.world.roll_back().await;
    assert_eq!(moving.world.source.value(DATABASE, "SELECT COUNT(*) FROM t WHERE id > 1000").await, "200");
}

#[tokio::test]
async fn a_new_cluster_that_lost_what_came_back_has_no_lossless_way_back() {
    let mut moving = start(With::Target).await;
    moving.world.check().await;
    moving.world.cutover().await;
    moving.world.target.is_copied_to(&moving.standby).await;
    moving.standby.sql("", "STOP REPLICA").await;
    moving.world.target.sql(DATABASE, "INSERT INTO t VALUES (3001, 'acknowledged')").await;
    moving.world.until_equal(ROWS).await;
    moving.world.target.server.kill().await.expect("it ends");
    promote(&mut moving, With::Target).await;
    moving.world.target.sql(DATABASE, &insert(4000)).await;
    let status = moving.until_way_back("lost").await;
    assert!(status["way_back_detail"].contains("lacks what was applied"), "{status:?}");
}

#[tokio::test]
async fn a_source_whose_replacement_cannot_go_on_stops_the_migration() {
    let mut moving = start(With::Source).await;
    moving.world.source.is_copied_to(&moving.standby).await;
    moving.standby.sql("", "STOP REPLICA").await;
    moving.world.source.sql(DATABASE, &insert(1000)).await;
    moving.world.until_equal(ROWS).await;
    moving.world.source.server.kill().await.expect("it ends");
    promote(&mut moving, With::Source).await;
    let status = moving.until_error("lacks what was applied").await;
    assert_eq!(status["state"], "failed", "{status:?}");
}

#[tokio::test]
async fn a_failover_of_the_target_inside_the_hold_undoes_the_cutover() {
    let mut moving = start(With::Target).await;
    moving.world.check().await;
    // The gate waits for this transaction.
    let mut open = moving.world.client().await;
    rows(&mut open, "BEGIN; INSERT INTO t VALUES (5001, 'in the hold')").await;
    let cutting = moving.world.headgate.try_admin("CUTOVER MIGRATION m WITH (max_hold = '10s')");
    let failing = async {
        let closing = |row: &Record| row.get("gate").is_some_and(|gate| gate != "open");
        until("the gate closes", SOON, || moving.world.row("SHOW ROUTES"), closing).await;
        let pid = moving.world.target.server.pid().expect("it runs");
        signal_server(pid, "KILL").await;
        rows(&mut open, "COMMIT").await;
    };
    let (outcome, ()) = tokio::join!(cutting, failing);
    let refusal = outcome.expect_err("it is undone");
    rows(&mut open, "INSERT INTO t VALUES (5002, 'after it')").await;
    let counted = "SELECT COUNT(*) FROM t WHERE id > 5000";
    assert_eq!(moving.world.source.value(DATABASE, counted).await, "2", "{refusal}");
    moving.world.target.server.kill().await.expect("it is gone");
    promote(&mut moving, With::Target).await;
    moving.world.until_equal(ROWS).await;
    moving.world.check().await;
    moving.world.cutover().await;
    assert_eq!(single(&rows(&mut open, counted).await, counted), "2");
}
