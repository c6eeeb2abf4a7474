//! Somebody else writes to the target: what was written voids the proof, and who is connected there is named.

use tests::mysql::{Mysql, Pair, Record, rows};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, PASSWORD, USER, World};

use tests::mysql::disposable::Kind;

for_every_pair! {
    nobody_else_writes_to_the_target_before_the_switch_or_the_proof_is_void,
}

const SCHEMA: &str =
    "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20)) ENGINE = InnoDB; INSERT INTO t VALUES (1, 'old'), (5, 'old');
    CREATE TABLE e (id INT PRIMARY KEY) ENGINE = InnoDB";

/// MariaDB counts only where it is told to.
async fn counting(pair: Pair) -> World<Mysql> {
    let (source, target) = pair.kinds();
    let counts = [("performance-schema", "ON")];
    let (source, target) = tokio::join!(Mysql::start(source), Mysql::start_with(target, &counts));
    let known = format!("[users.{USER}]\npassword = \"{PASSWORD}\"\n");
    World::of_servers(source, target, SCHEMA, &known).await
}

async fn finding(world: &World<Mysql>, check: &str) -> Record {
    let readiness = world.headgate.admin("SHOW READINESS m").await;
    let mut found = readiness.into_iter();
    found.find(|row| row.get("check").map(String::as_str) == Some(check)).unwrap_or_default()
}

async fn level(world: &World<Mysql>, check: &str) -> String {
    let found = finding(world, check).await;
    found.get("level").cloned().unwrap_or_default()
}

/// The cutover is refused for this, and a new check says how it ends.
async fn void(world: &World<Mysql>, what: &str, result: &str) {
    let (_, text) = world.headgate.refused("CUTOVER MIGRATION m").await;
    assert!(text.contains(what) && text.contains("CHECK"), "{what}: {text}");
    assert_eq!(level(world, "definitions").await, "error", "{what}");
    world.headgate.admin("CHECK MIGRATION m").await;
    let ask = || world.row("SHOW MIGRATION CHECK STATUS m");
    let ended = |row: &Record| row.get("result").is_some_and(|shown| shown == result);
    until(&format!("{what}: {result}"), MIGRATION, ask, ended).await;
}

async fn nobody_else_writes_to_the_target_before_the_switch_or_the_proof_is_void(pair: Pair) {
    let world = counting(pair).await;
    world.follow().await;
    world.check().await;

    // What Headgate writes counts for nothing, a rehearsal neither.
    let mut client = world.client().await;
    rows(&mut client, "INSERT INTO t VALUES (2, 'new'); UPDATE t SET v = 'new' WHERE id = 1").await;
    world.row("REHEARSE MIGRATION m").await;
    world.target.until_value(DATABASE, "SELECT COUNT(*) FROM t", "3").await;
    assert_eq!(level(&world, "definitions").await, "ok");
    assert_eq!(level(&world, "foreign_writes").await, "ok");

    // A write that is open is in no check, and one that was taken back is told all the same: nobody can tell it apart.
    let mut foreign = world.target.connect(DATABASE).await;
    rows(&mut foreign, "START TRANSACTION; UPDATE t SET v = 'foreign' WHERE id = 5").await;
    let named = finding(&world, "foreign_writes").await;
    assert_eq!(named.get("level").map(String::as_str), Some("error"), "{named:?}");
    assert!(named.values().any(|text| text.contains(&format!("session {}", foreign.id()))), "{named:?}");
    world.headgate.admin("CHECK MIGRATION m").await;
    let ask = || world.row("SHOW MIGRATION CHECK STATUS m");
    let ended = |row: &Record| row.get("result").is_some_and(|shown| shown == "broken");
    let broken = until("a check that cannot be", MIGRATION, ask, ended).await;
    assert!(broken.values().any(|text| text.contains("writes open on the target")), "{broken:?}");
    rows(&mut foreign, "COMMIT").await;
    world.headgate.admin("CHECK MIGRATION m").await;
    let ended = |row: &Record| row.get("result").is_some_and(|shown| shown == "different");
    until("the check finds it", MIGRATION, ask, ended).await;
    world.headgate.admin("RECOPY TABLE t OF MIGRATION m").await;
    world.until_state("following", MIGRATION).await;
    world.check().await;

    // A row, all rows, and a restart that makes the server forget what it counted.
    rows(&mut foreign, "INSERT INTO e VALUES (7)").await;
    void(&world, "writes of others to `shop`.`e` is new on the target", "different").await;
    rows(&mut foreign, "TRUNCATE TABLE e").await;
    world.check().await;
    rows(&mut foreign, "TRUNCATE TABLE e").await;
    void(&world, "statements of others that empty", "passed").await;
    let named = finding(&world, "foreign_writes").await;
    assert!(named.values().any(|text| text.contains(&format!("session {}", foreign.id()))), "{named:?}");
    drop(foreign);

    // Inside the hold nothing was looked at since it began but this.
    let mut slow = world.client().await;
    rows(&mut slow, "BEGIN; INSERT INTO t VALUES (900, 'slow')").await;
    let cutting = world.headgate.refused("CUTOVER MIGRATION m WITH (max_hold = '10s')");
    let writing = async {
        let ask = || world.status("stage");
        until("it holds", SOON, ask, |stage| stage == "Holding").await;
        let write = "INSERT INTO e VALUES (8)";
        world.target.sql(DATABASE, write).await;
        rows(&mut slow, "COMMIT").await;
    };
    let ((_, text), ()) = tokio::join!(cutting, writing);
    assert!(text.contains("writes of others to `shop`.`e`"), "{text}");
    world.target.sql(DATABASE, "TRUNCATE TABLE e").await;
    world.check().await;

    let report = world.cutover().await;
    eprintln!("{report:?}");
    rows(&mut client, "INSERT INTO t VALUES (3, 'switched')").await;
    let foreign = "SELECT COUNT(*) FROM t WHERE v = 'foreign'";
    assert_eq!(world.target.value(DATABASE, foreign).await, "0");
}

#[tokio::test]
async fn where_the_target_counts_nothing_or_forgot_it_that_is_said() {
    let mut world = World::of(Pair::Mysql97to97, SCHEMA).await;
    world.follow().await;
    world.check().await;
    world.target.server.restart().await.expect("it restarts");
    let following = || world.status("state");
    until("it follows", MIGRATION, following, |state| state == "following").await;
    let interrupted = || world.status("interrupted_since");
    until("it goes on", MIGRATION, interrupted, String::is_empty).await;
    void(&world, "time since which writes of others are counted was changed", "passed").await;

    let source = Mysql::start(Kind::Mariadb1011);
    let target = Mysql::start(Kind::Mariadb1011);
    let (source, target) = tokio::join!(source, target);
    let known = format!("[users.{USER}]\npassword = \"{PASSWORD}\"\n");
    let world = World::of_servers(source, target, SCHEMA, &known).await;
    world.follow().await;
    world.check().await;
    let reported = finding(&world, "foreign_writes").await;
    assert_eq!(reported.get("level").map(String::as_str), Some("warning"), "{reported:?}");
    assert!(reported.values().any(|text| text.contains("cannot be known: performance_schema is off")), "{reported:?}");
    world.cutover().await;
}
