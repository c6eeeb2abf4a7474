//! A dropped migration takes along what it made on the target where that is asked for, and nothing else.

use tests::mysql::{Mysql, Pair, rows};
use tests::world::{DATABASE, World};

for_every_pair! { what_a_migration_made_on_the_target_goes_with_it_and_what_others_made_stays }

const SCHEMA: &str = "CREATE TABLE a (id BIGINT PRIMARY KEY, b BIGINT) ENGINE = InnoDB;
    CREATE TABLE b (id BIGINT PRIMARY KEY, a BIGINT, FOREIGN KEY (a) REFERENCES a (id)) ENGINE = InnoDB;
    ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b (id);
    CREATE VIEW v AS SELECT id FROM a;
    CREATE PROCEDURE p() SELECT 1;
    CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO DO 1;
    CREATE USER other_app@'%' IDENTIFIED BY 'other'; GRANT SELECT ON shop.* TO other_app@'%';
    INSERT INTO a VALUES (1, NULL); INSERT INTO b VALUES (1, 1)";

/// What is there, by kind and name.
async fn there(world: &World<Mysql>) -> Vec<String> {
    let query = "SELECT CONCAT_WS('/', 'table', TABLE_SCHEMA, TABLE_NAME) FROM information_schema.TABLES
            WHERE TABLE_SCHEMA IN ('shop', 'theirs', 'headgate')
        UNION ALL SELECT CONCAT_WS('/', 'routine', ROUTINE_SCHEMA, ROUTINE_NAME) FROM information_schema.ROUTINES
            WHERE ROUTINE_SCHEMA IN ('shop', 'theirs')
        UNION ALL SELECT CONCAT_WS('/', 'event', EVENT_SCHEMA, EVENT_NAME) FROM information_schema.EVENTS
            WHERE EVENT_SCHEMA IN ('shop', 'theirs')
        UNION ALL SELECT CONCAT_WS('/', 'account', Host, User) FROM mysql.user ORDER BY 1";
    let mut session = world.target.connect("").await;
    let rows = rows(&mut session, query).await;
    rows.into_iter().flatten().flatten().collect()
}

async fn what_a_migration_made_on_the_target_goes_with_it_and_what_others_made_stays(pair: Pair) {
    let known = format!(
        "[users.{}]\npassword = \"{}\"\n[users.other_app]\npassword = \"other\"\n",
        tests::world::USER,
        tests::world::PASSWORD
    );
    let (source, target) = pair.start().await;
    let world = World::of_servers(source, target, SCHEMA, &known).await;
    let theirs = "CREATE DATABASE theirs; CREATE TABLE theirs.t (id INT PRIMARY KEY, v TEXT); INSERT INTO theirs.t VALUES (1, 'kept');
        CREATE USER theirs@'%'";
    world.target.sql("", theirs).await;
    let before = there(&world).await;
    world.follow().await;
    world.check().await;
    // Upon what is ours: the server refuses to take that away, and so does the statement.
    let upon = "CREATE TABLE theirs.upon (a BIGINT, FOREIGN KEY (a) REFERENCES shop.a (id)) ENGINE = InnoDB;
        CREATE TABLE shop.theirs (id INT PRIMARY KEY)";
    world.target.sql("", upon).await;
    world.headgate.admin("STOP MIGRATION m").await;
    let statement = "DROP MIGRATION m WITH (target_objects = 'drop')";
    let (_, text) = world.headgate.refused(statement).await;
    assert!(text.contains("shop.a"), "{text}");
    world.target.sql("", "DROP TABLE theirs.upon").await;
    world.headgate.admin(statement).await;
    let left = there(&world).await;
    let mut expected = before.clone();
    expected.push("table/shop/theirs".to_owned());
    expected.sort();
    let mut sorted = left.clone();
    sorted.sort();
    assert_eq!(sorted, expected);
    world.target.sql("", "DROP TABLE shop.theirs").await;
    world.follow().await;
    world.check().await;

    // What serves the route is not dropped.
    world.cutover().await;
    let (_, text) = world.headgate.refused(statement).await;
    assert!(text.contains("what is there is live"), "{text}");
    let kept = "SELECT v FROM theirs.t";
    assert_eq!(world.target.value(DATABASE, kept).await, "kept");
}
