//! Whenever Headgate is killed, its next start finds the way by itself: forward or back, and nothing is lost.

use mysql_async::Conn;
use tests::mysql::{Mysql, Pair, Record, connect, rows, single, try_connect, try_rows};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, PASSWORD, USER, World, numbers};

use super::compare::until_alike;

for_every_pair! {
    a_kill_while_following_is_resumed_and_every_change_is_applied_once,
    a_kill_while_the_cutover_holds_ends_with_the_source_serving_and_the_next_cutover_going_through,
    a_kill_while_the_fence_is_raised_leaves_the_source_writable_after_the_restart,
    a_kill_after_the_switch_leaves_the_route_on_the_target,
    a_lost_connection_to_either_side_is_taken_up_again,
}

/// The copy of 600,000 rows is the longest of all cases: one source with GTIDs and one without tell all there is.
mod a_kill_while_copying_is_resumed_and_no_row_is_missing_or_double {
    use tests::mysql::Pair;

    #[tokio::test]
    async fn from_mysql_56_to_97() {
        super::a_kill_while_copying(Pair::Mysql56to97).await;
    }

    #[tokio::test]
    async fn from_mariadb_1011_to_1011() {
        super::a_kill_while_copying(Pair::Mariadb1011to1011).await;
    }
}

async fn a_kill_while_copying(pair: Pair) {
    let mut world = World::of_copying(pair).await;
    world.headgate.kill().await;
    world
        .source
        .sql(
            DATABASE,
            "INSERT INTO big VALUES (-1, 'while dead'); DELETE FROM big WHERE id = 5; UPDATE big SET v = 'changed' WHERE id = 599999",
        )
        .await;
    world.headgate.launch().await;
    world.until_state("following", MIGRATION).await;
    let digest = "SELECT COUNT(*), SUM(id), MIN(id), SUM(CRC32(v)) FROM big";
    world.until_equal(digest).await;
    world.check().await;
}

fn small() -> String {
    format!(
        "CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(40)) ENGINE = InnoDB;
         INSERT INTO t (v) SELECT 'old' FROM {} WHERE n <= 100",
        numbers(2)
    )
}

async fn ready(pair: Pair) -> World<Mysql> {
    let world = World::of(pair, &small()).await;
    world.follow().await;
    world.check().await;
    world
}

async fn is_at(client: &mut Conn, server: &Mysql) -> bool {
    single(&rows(client, "SELECT @@port").await, "the port") == server.port().to_string()
}

async fn until_closing(world: &World<Mysql>) {
    let closing = |row: &Record| row.get("gate").is_some_and(|gate| gate != "open");
    let ask = || world.row("SHOW ROUTES");
    until("the gate closes", SOON, ask, closing).await;
}

async fn a_kill_while_following_is_resumed_and_every_change_is_applied_once(pair: Pair) {
    let schema = format!(
        "{}; CREATE TABLE counter (id INT PRIMARY KEY, n INT) ENGINE = InnoDB; INSERT INTO counter VALUES (1, 0);
         CREATE TABLE keyless (n INT) ENGINE = InnoDB",
        small()
    );
    let mut world = World::of(pair, &schema).await;
    world.follow().await;
    for round in 0..3 {
        let mut session = world.source.connect(DATABASE).await;
        for _ in 0..50 {
            rows(
                &mut session,
                "UPDATE counter SET n = n + 1; INSERT INTO t (v) VALUES ('new'); INSERT INTO keyless VALUES (1)",
            )
            .await;
        }
        world.headgate.kill().await;
        rows(&mut session, &format!("INSERT INTO t (v) VALUES ('round {round}')")).await;
        world.headgate.launch().await;
    }
    world.until_state("following", MIGRATION).await;
    until_alike(&world).await;
    world.check().await;
    let counted = "SELECT CONCAT_WS('/', n, (SELECT COUNT(*) FROM keyless), (SELECT COUNT(*) FROM t)) FROM counter";
    assert_eq!(world.target.value(DATABASE, counted).await, "150/150/253");
}

async fn a_kill_while_the_cutover_holds_ends_with_the_source_serving_and_the_next_cutover_going_through(pair: Pair) {
    let mut world = ready(pair).await;
    let mut slow = world.client().await;
    rows(&mut slow, "START TRANSACTION; INSERT INTO t (v) VALUES ('slow')").await;
    let mut console = world.headgate.mysql_console().await;
    let cutover =
        tokio::spawn(
            async move { try_rows(&mut console, "CUTOVER MIGRATION m WITH (max_hold = '20s')").await.is_ok() },
        );
    until_closing(&world).await;
    world.headgate.kill().await;
    assert!(!cutover.await.expect("it did not panic"), "the console outlived the kill");

    world.headgate.launch().await;
    serves_and_then_moves(&world).await;
}

/// The source serves, and the next cutover takes everything along.
async fn serves_and_then_moves(world: &World<Mysql>) {
    let mut client = world.client().await;
    rows(&mut client, "INSERT INTO t (v) VALUES ('after the kill')").await;
    assert!(is_at(&mut client, &world.source).await);
    // Not only for those who pass the fence.
    let mut around = connect(world.source.port(), USER, Some(PASSWORD), DATABASE).await;
    rows(&mut around, "INSERT INTO t (v) VALUES ('around')").await;
    world.until_state("following", MIGRATION).await;
    world.check().await;
    world.cutover().await;
    let new = "SELECT GROUP_CONCAT(v ORDER BY id) FROM t WHERE v NOT IN ('old', 'blocker')";
    assert_eq!(single(&rows(&mut client, new).await, new), "after the kill,around");
    assert!(is_at(&mut client, &world.target).await);
}

async fn a_kill_while_the_fence_is_raised_leaves_the_source_writable_after_the_restart(pair: Pair) {
    let mut world = ready(pair).await;
    // Around Headgate, so that it does not end with it: the fence waits for this lock.
    let mut blocker = world.source.connect(DATABASE).await;
    rows(&mut blocker, "LOCK TABLES t WRITE; INSERT INTO t (v) VALUES ('blocker')").await;
    let mut console = world.headgate.mysql_console().await;
    let cutover =
        tokio::spawn(
            async move { try_rows(&mut console, "CUTOVER MIGRATION m WITH (max_hold = '20s')").await.is_ok() },
        );
    let waiting = "SELECT COUNT(*) > 0 FROM information_schema.PROCESSLIST WHERE INFO = 'SET GLOBAL read_only = ON'";
    world.source.until_value("", waiting, "1").await;
    world.headgate.kill().await;
    assert!(!cutover.await.expect("it did not panic"), "the console outlived the kill");
    // What the fence waits for is over while nobody is there to lift it.
    rows(&mut blocker, "UNLOCK TABLES").await;
    world.headgate.launch().await;
    let writable = "SELECT @@GLOBAL.read_only";
    world.source.until_value("", writable, "0").await;
    serves_and_then_moves(&world).await;
}

async fn a_kill_after_the_switch_leaves_the_route_on_the_target(pair: Pair) {
    let mut world = ready(pair).await;
    world.cutover().await;
    rows(&mut world.client().await, "INSERT INTO t (v) VALUES ('new')").await;
    world.headgate.kill().await;
    world.headgate.launch().await;
    let mut client = world.client().await;
    assert!(is_at(&mut client, &world.target).await);
    let count = "SELECT COUNT(*) FROM t";
    assert_eq!(single(&rows(&mut client, count).await, count), "101");
    let refused = world.write_around("INSERT INTO t (v) VALUES ('x')").await;
    assert!(refused.is_err(), "the source is writable again");
}

async fn a_lost_connection_to_either_side_is_taken_up_again(pair: Pair) {
    let mut world = World::of(pair, &small()).await;
    world.follow().await;
    world.target.server.kill().await.expect("it runs");
    world.source.sql(DATABASE, "INSERT INTO t (v) VALUES ('target down')").await;
    world.target.server.restart().await.expect("it starts again");
    world.until_equal("SELECT COUNT(*) FROM t").await;
    world.source.server.restart().await.expect("it starts again");
    world.source.sql(DATABASE, "INSERT INTO t (v) VALUES ('source was down')").await;
    world.until_equal("SELECT COUNT(*) FROM t").await;
    world.until_state("following", MIGRATION).await;
    world.check().await;
}

#[tokio::test]
async fn a_polite_stop_ends_with_success_and_lets_an_open_transaction_finish() {
    let mut world = World::of(Pair::Mysql97to97, &small()).await;
    let mut client = world.client().await;
    rows(&mut client, "START TRANSACTION; INSERT INTO t (v) VALUES ('mine')").await;
    let port = world.headgate.port();
    let finishing = async {
        let knock = || async { try_connect(port, USER, Some(PASSWORD), DATABASE).await.is_err() };
        until("nobody new is let in", SOON, knock, |refused| *refused).await;
        rows(&mut client, "COMMIT").await
    };
    let (code, _) = tokio::join!(world.headgate.stop(), finishing);
    assert_eq!(code, Some(0));
    let mine = "SELECT COUNT(*) FROM t WHERE v = 'mine'";
    assert_eq!(world.source.value(DATABASE, mine).await, "1");
}
