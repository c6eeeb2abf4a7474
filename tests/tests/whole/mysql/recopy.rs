//! A table is taken anew: after a check that differs, after something else wrote to the target, and across a kill.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tests::mysql::{Mysql, Pair, Record, rows};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, World, numbers};

for_every_pair! {
    what_differs_is_taken_anew_under_load_by_the_statement_that_the_check_prints,
    a_follower_that_stopped_at_a_foreign_write_goes_on_by_its_remedy,
    a_follower_that_stopped_at_a_changed_definition_goes_on_once_it_is_undone,
}

/// A table that others refer to, and one without a key.
fn schema() -> String {
    format!(
        "CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(40) UNIQUE) ENGINE = InnoDB;
         CREATE TABLE o (id BIGINT AUTO_INCREMENT PRIMARY KEY, t BIGINT, FOREIGN KEY (t) REFERENCES t (id)) ENGINE = InnoDB;
         CREATE TABLE `odd name` (id INT, v VARCHAR(40)) ENGINE = InnoDB;
         INSERT INTO `odd name` VALUES (1, 'a'), (2, 'b');
         INSERT INTO t (v) SELECT CONCAT('old ', n) FROM {0} WHERE n <= 100;
         INSERT INTO o (t) SELECT id FROM t",
        numbers(2)
    )
}

/// Compares both sides and returns what is shown of that.
async fn checked(world: &World<Mysql>) -> Record {
    world.headgate.admin("CHECK MIGRATION m").await;
    let ask = || world.row("SHOW MIGRATION CHECK STATUS m");
    let ended = |row: &Record| row.get("result").is_some_and(|result| result != "running");
    until("the check ends", MIGRATION, ask, ended).await
}

/// Writes through Headgate until it is told to stop; returns how many rows were acknowledged.
async fn load(world: &World<Mysql>, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<u64> {
    let mut client = world.client().await;
    tokio::spawn(async move {
        let mut written = 0;
        while !stop.load(Ordering::SeqCst) {
            let write = format!(
                "START TRANSACTION; INSERT INTO t (v) VALUES ('load {written}'); UPDATE o SET t = LAST_INSERT_ID() WHERE id = 7;
                 UPDATE `odd name` SET v = '{written}' WHERE id = 1; COMMIT"
            );
            rows(&mut client, &write).await;
            written += 1;
        }
        written
    })
}

async fn what_differs_is_taken_anew_under_load_by_the_statement_that_the_check_prints(pair: Pair) {
    let world = World::of(pair, &schema()).await;
    world.follow().await;
    world
        .target
        .sql(
            DATABASE,
            "SET foreign_key_checks = 0; UPDATE t SET v = 'odd' WHERE id = 5; DELETE FROM t WHERE id = 6;
             UPDATE `odd name` SET v = 'odd' WHERE id = 2",
        )
        .await;
    let status = checked(&world).await;
    assert_eq!(status.get("result").map(String::as_str), Some("different"));
    let remedy = status.get("remedy").cloned().unwrap_or_default();
    let (_, text) = world.headgate.refused("CUTOVER MIGRATION m").await;
    assert!(text.contains("RECOPY TABLE shop.t OF MIGRATION m"), "{text}");

    let stop = Arc::new(AtomicBool::new(false));
    let writing = load(&world, Arc::clone(&stop)).await;
    let statements: Vec<&str> = remedy.split("; ").filter(|part| part.starts_with("RECOPY")).collect();
    assert_eq!(statements.len(), 2, "{remedy}");
    for statement in statements {
        world.headgate.admin(statement).await;
    }
    // What was proved is void, and nothing switches meanwhile.
    assert_eq!(world.headgate.admin("SHOW MIGRATION CHECK STATUS m").await, Vec::new());
    world.until_state("following", MIGRATION).await;
    world.check().await;
    world.cutover().await;
    stop.store(true, Ordering::SeqCst);
    let written = writing.await.expect("no write failed");
    let rows = "SELECT COUNT(*) FROM t WHERE v LIKE 'load %'";
    assert_eq!(world.target.value(DATABASE, rows).await, written.to_string());
    let left = "SELECT COUNT(*) FROM t WHERE v LIKE 'old %'";
    assert_eq!(world.target.value(DATABASE, left).await, "100");
}

async fn a_follower_that_stopped_at_a_changed_definition_goes_on_once_it_is_undone(pair: Pair) {
    let world = World::of(pair, &format!("{}; CREATE VIEW w AS SELECT 1 AS one", schema())).await;
    world.follow().await;
    let change = "CREATE OR REPLACE VIEW w AS SELECT 2 AS one; UPDATE t SET v = 'new' WHERE id = 5";
    world.source.sql(DATABASE, change).await;
    let state = || world.status("state");
    until("it stops", SOON, state, |state| state == "failed").await;
    let remedy = world.status("remedy").await;
    assert!(remedy.starts_with("undo it on the source and START MIGRATION m;"), "{remedy}");
    let undo = "CREATE OR REPLACE VIEW w AS SELECT 1 AS one";
    world.source.sql(DATABASE, undo).await;
    world.headgate.admin("START MIGRATION m").await;
    world.until_state("following", MIGRATION).await;
    world.check().await;
}

#[tokio::test]
async fn a_kill_while_a_table_is_taken_anew_is_resumed_and_the_check_passes() {
    let mut world = World::of_copying(Pair::Mariadb1011to1011).await;
    world.until_state("following", MIGRATION).await;
    world.target.sql(DATABASE, "UPDATE big SET v = 'odd' WHERE id = 17").await;
    world.headgate.admin("RECOPY TABLE big OF MIGRATION m").await;
    let copied = |row: &Record| {
        let copied = row.get("processed_records_count").and_then(|rows| rows.parse::<u64>().ok());
        copied.is_some_and(|rows| rows > 0 && rows < 600_000)
    };
    let ask = || world.row("SHOW MIGRATION TABLES m");
    until("some rows are there", MIGRATION, ask, copied).await;
    let (_, text) = world.headgate.refused("CUTOVER MIGRATION m").await;
    assert!(text.contains("copying"), "{text}");
    world.headgate.kill().await;
    world.source.sql(DATABASE, "INSERT INTO big VALUES (-1, 'while dead'); DELETE FROM big WHERE id = 5").await;
    world.headgate.launch().await;
    world.until_state("following", MIGRATION).await;
    world.until_equal("SELECT COUNT(*), SUM(id), MIN(id) FROM big").await;
    world.check().await;
}

async fn a_follower_that_stopped_at_a_foreign_write_goes_on_by_its_remedy(pair: Pair) {
    let world = World::of(pair, &schema()).await;
    world.follow().await;
    world.target.sql(DATABASE, "SET foreign_key_checks = 0; DELETE FROM t WHERE id = 5").await;
    world.source.sql(DATABASE, "UPDATE t SET v = 'new' WHERE id = 5").await;
    let state = || world.status("state");
    until("it stops", SOON, state, |state| state == "failed").await;
    let remedy = world.status("remedy").await;
    let statement = "RECOPY TABLE shop.t OF MIGRATION m";
    assert!(remedy.contains(statement), "{remedy}");
    world.headgate.admin(statement).await;
    world.until_state("following", MIGRATION).await;
    world.check().await;
}
