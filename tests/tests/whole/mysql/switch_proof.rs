//! The proof of the switch as the operator meets it: green behind the application, red where the mover was wrong, and
//! unknown once its snapshots are gone.

use tests::mysql::{Mysql, Pair, rows, single};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, World};

const SCHEMA: &str = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(40), KEY by_v (v)) ENGINE = InnoDB;
    INSERT INTO t VALUES (1, 'old'), (2, 'old'), (3, 'old'), (4, 'old'), (5, 'old'), (6, 'old'), (7, 'old'), (8, 'old');
    INSERT INTO t SELECT 8 * a.id + 64 * b.id + 512 * c.id + d.id, 'old' FROM t a, t b, t c, t d WHERE c.id <= 3;
    CREATE TABLE noted (id INT AUTO_INCREMENT PRIMARY KEY) ENGINE = InnoDB;
    CREATE TRIGGER notes AFTER INSERT ON t FOR EACH ROW INSERT INTO noted VALUES (NULL);
    ANALYZE TABLE t";

async fn shown(world: &World<Mysql>, wanted: &str) -> String {
    until("the proof's name", SOON, || world.status("switch_proof"), |name| name == wanted).await;
    world.status("switch_proof_detail").await
}

async fn is_proved(pair: Pair) {
    let world = World::of(pair, SCHEMA).await;
    world.follow().await;
    world.check().await;
    assert_eq!(world.status("switch_proof").await, "");
    let mut client = world.client().await;
    rows(&mut client, "UPDATE t SET v = 'before' WHERE id % 2 = 0").await;
    world.cutover().await;
    rows(&mut client, "UPDATE t SET v = 'after'").await;
    rows(&mut client, "INSERT INTO t VALUES (50000, 'new')").await;
    let detail = shown(&world, "equal").await;
    assert!(detail.starts_with("proved equal at the switch: 1544 rows, "), "{detail}");
    let now = world.row("SHOW CUTOVER REPORT m").await;
    assert_eq!(now.get("switch_proof_detail"), Some(&detail));
    world.headgate.admin("FINISH MIGRATION m").await;
    assert_eq!(world.status("switch_proof").await, "equal");
}

#[tokio::test]
async fn a_switch_is_proved_behind_the_application_while_both_sides_are_written_to() {
    for pair in [Pair::Mysql97to97, Pair::Mysql56to97, Pair::Mariadb1011to1011] {
        is_proved(pair).await;
    }
}

#[tokio::test]
async fn a_fault_of_the_mover_that_nobody_saw_is_found_by_the_proof_of_the_switch_and_keeps_the_way_back_open() {
    let world = World::of(Pair::Mysql97to97, SCHEMA).await;
    world.follow().await;
    world.check().await;
    // As if the mover had done it: nobody counts it.
    let uncounted = "UPDATE performance_schema.threads SET INSTRUMENTED = 'NO' WHERE PROCESSLIST_ID = CONNECTION_ID()";
    let harm =
        format!("{uncounted}; DELETE FROM {DATABASE}.t WHERE id = 600; UPDATE {DATABASE}.t SET v = 'ol' WHERE id = 5");
    world.target.sql("", &harm).await;
    world.cutover().await;
    let detail = shown(&world, "different").await;
    assert!(detail.contains(".t (") && detail.contains(": (600)") && detail.contains(": (5)"), "{detail}");
    let (code, text) = world.headgate.refused("FINISH MIGRATION m").await;
    assert!(code == "55000" && text.contains("is not proved: different at the switch"), "{code} {text}");
    world.headgate.admin("FINISH MIGRATION m WITH (waive_proof=true)").await;
    assert_eq!(world.status("state").await, "finished");
}

#[tokio::test]
async fn a_proof_does_not_outlive_its_process() {
    let mut world = World::of_with(Pair::Mariadb1011to1011, SCHEMA, "[migrator]\nproof_rate = 100\n").await;
    world.follow().await;
    world.check().await;
    world.cutover().await;
    let detail = shown(&world, "running").await;
    assert!(detail.starts_with("running: "), "{detail}");
    world.headgate.kill().await;
    world.headgate.launch().await;
    let detail = shown(&world, "unknown").await;
    assert!(detail.starts_with("cannot be known: Headgate was restarted"), "{detail}");
    world.headgate.refused("FINISH MIGRATION m").await;
}

#[tokio::test]
async fn a_proof_does_not_outlive_its_snapshots() {
    let world = World::of_with(Pair::Mysql97to97, SCHEMA, "[migrator]\nproof_rate = 100\n").await;
    world.follow().await;
    world.check().await;
    world.cutover().await;
    shown(&world, "running").await;
    // The list in information_schema may be older than the snapshots.
    let snapshots = "SELECT PROCESSLIST_ID FROM performance_schema.events_transactions_current
        JOIN performance_schema.threads USING (THREAD_ID) WHERE STATE = 'ACTIVE' AND ACCESS_MODE = 'READ ONLY'";
    let snapshot = single(&world.source.sql("", snapshots).await, "the one snapshot of the source");
    world.source.sql("", &format!("KILL {snapshot}")).await;
    let detail = shown(&world, "unknown").await;
    assert!(detail.starts_with("cannot be known: a snapshot was lost: "), "{detail}");
}
