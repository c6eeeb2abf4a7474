//! Limits of the servers on how long a session, a statement or a transaction lasts end nothing of Headgate's; what is ended all
//! the same costs time only.

use tests::headgate::Headgate;
use tests::limits::{MOVER, moves_and_comes_back, until_some};
use tests::postgres::Postgres;
use tests::world::{DATABASE, MIGRATION, World, clusters};

/// The limits that every version has, and the one of version 17.
const LIMITS: [&str; 4] =
    ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"];
const OF_17: &str = "transaction_timeout";

const WAITS: &str = "select count(*) from pg_stat_activity
    where usename = 'mover' and wait_event_type = 'Lock' and now() - query_start > '1500 ms'";
const IDLES: &str = "select count(*) from pg_stat_activity
    where usename = 'mover' and state like 'idle%' and now() - state_change > '1500 ms'";
const END: &str = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'mover'";

async fn hurried(version: u32) -> Postgres {
    let server = Postgres::start(version).await;
    server.sql("postgres", &format!("create role {MOVER} superuser login replication")).await;
    server.sql("postgres", &format!("create database {DATABASE}")).await;
    for limit in LIMITS.iter().chain((version >= 17).then_some(&OF_17)) {
        server.sql("postgres", &format!("alter role {MOVER} set {limit} = '1s'")).await;
    }
    server
}

#[tokio::test]
async fn a_database_moves_and_comes_back_where_servers_end_what_lasts() {
    // The limits of a newer source are met on the way back.
    let (source, target) = tokio::join!(hurried(14), hurried(18));
    source.sql(DATABASE, "create table t (id int primary key); insert into t select generate_series(1, 1000)").await;
    let clusters = clusters(source.port(), target.port()).replace("\"postgres\"", &format!("\"{MOVER}\""));
    let world = World { headgate: Headgate::start(&clusters).await, source, target };
    // The change stream cannot begin before this ends.
    let writer = world.source.connect(DATABASE).await;
    writer.batch_execute("begin; insert into t values (0)").await.expect("written");
    world.start_migration().await;
    until_some(&world.source, WAITS).await;
    // The copy cannot be written before this ends.
    let holder = world.target.connect(DATABASE).await;
    holder.batch_execute("begin; lock table t in access exclusive mode").await.expect("locked");
    writer.batch_execute("commit").await.expect("committed");
    until_some(&world.target, WAITS).await;
    until_some(&world.source, IDLES).await;
    holder.batch_execute("commit").await.expect("released");
    world.until_state("following", MIGRATION).await;
    // And neither can a change.
    holder.batch_execute("begin; lock table t in access exclusive mode").await.expect("locked");
    world.source.sql(DATABASE, "insert into t values (1000000)").await;
    until_some(&world.target, WAITS).await;
    holder.batch_execute("commit").await.expect("released");
    moves_and_comes_back(&world, async |side: &Postgres| {
        side.sql(DATABASE, END).await;
    })
    .await;
}
