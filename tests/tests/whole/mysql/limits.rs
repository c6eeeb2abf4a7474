//! Limits of the servers on how long a session, a statement or a transaction lasts end nothing of Headgate's; what is ended all
//! the same costs time only.

use tests::limits::{MOVER, moves_and_comes_back, until_some};
use tests::mysql::disposable::Kind;
use tests::mysql::{Mysql, Pair, rows, try_rows};
use tests::wait::until;
use tests::world::{MIGRATION, World, mysql_clusters, numbers};

/// The limits that every server has, in seconds.
const LIMITS: [&str; 6] = [
    "wait_timeout",
    "interactive_timeout",
    "net_read_timeout",
    "net_write_timeout",
    "lock_wait_timeout",
    "innodb_lock_wait_timeout",
];

const WAITS: &str = "SELECT COUNT(*) FROM information_schema.PROCESSLIST
    WHERE USER = 'mover' AND STATE LIKE 'Waiting for % lock' AND TIME >= 2";
async fn hurried(kind: Kind) -> Mysql {
    let server = Mysql::start(kind).await;
    let mover = format!(
        "CREATE USER {MOVER}@'%' IDENTIFIED BY 'm'; GRANT ALL ON *.* TO {MOVER}@'%' WITH GRANT OPTION;
         DROP USER IF EXISTS ''@'localhost'"
    );
    server.sql("", &mover).await;
    let own = match kind {
        Kind::Mysql56 => "",
        Kind::Mysql97 => "SET GLOBAL max_execution_time = 1000;",
        Kind::Mariadb1011 => "SET GLOBAL max_statement_time = 1; SET GLOBAL idle_transaction_timeout = 1;",
    };
    let set: Vec<String> = LIMITS.iter().map(|limit| format!("SET GLOBAL {limit} = 1")).collect();
    server.sql("", &format!("{own}{}", set.join("; "))).await;
    server
}

/// Ends all sessions of Headgate's.
async fn end(server: &Mysql) {
    let mut session = server.connect("").await;
    let all = rows(&mut session, "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'mover'").await;
    for number in all.into_iter().flatten().flatten() {
        // One that has ended by itself meanwhile cannot be ended.
        let _ = try_rows(&mut session, &format!("KILL {number}")).await;
    }
}

#[tokio::test]
async fn a_database_moves_and_comes_back_where_servers_end_what_lasts() {
    for pair in [Pair::Mysql97to97, Pair::Mariadb1011to1011] {
        let (source, target) = tokio::join!(hurried(pair.kinds().0), hurried(pair.kinds().1));
        let clusters = mysql_clusters(source.port(), target.port());
        let own = format!("user = \"{MOVER}\"\npassword = \"m\"\n");
        let clusters = clusters.replace("user = \"root\"\n", &own);
        let schema =
            format!("CREATE TABLE t (id INT PRIMARY KEY) ENGINE = InnoDB; INSERT INTO t SELECT n FROM {}", numbers(3));
        let world = World::of_clusters(source, target, &schema, &clusters).await;
        let mut holder = world.target.connect("").await;
        rows(&mut holder, "SET SESSION wait_timeout = 600, lock_wait_timeout = 600").await;
        world.start_migration().await;
        let begun = |state: &String| ["copying", "following"].contains(&state.as_str());
        until("the copy has begun", MIGRATION, || world.status("state"), begun).await;
        // Whatever is written now waits: the copy, what comes after it, changes.
        rows(&mut holder, "FLUSH TABLES WITH READ LOCK").await;
        until_some(&world.target, WAITS).await;
        rows(&mut holder, "UNLOCK TABLES").await;
        world.until_state("following", MIGRATION).await;
        moves_and_comes_back(&world, end).await;
    }
}
