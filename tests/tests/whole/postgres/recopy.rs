//! A table is taken anew: after a check that differs, after something else wrote to the target, and across a kill.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tests::postgres::{Record, rows};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, World};

/// A table that others refer to, with a trigger that must not fire for what is copied.
const SCHEMA: &str = "create table t (id bigserial primary key, v text unique);
    create table o (id bigserial primary key, t bigint references t);
    create table log (n bigint primary key); insert into log values (0);
    create function tick() returns trigger language plpgsql as $$ begin update log set n = n + 1; return null; end $$;
    create trigger counted after insert or delete on t for each row execute function tick();
    create table \"Odd name\" (id int primary key, v text); insert into \"Odd name\" values (1, 'a'), (2, 'b');
    insert into t (v) select 'old ' || n from generate_series(1, 100) n; insert into o (t) select id from t";

/// Compares both sides and returns what is shown of that.
async fn checked(world: &World) -> Record {
    world.headgate.admin("CHECK MIGRATION m").await;
    let ask = || world.row("SHOW MIGRATION CHECK STATUS m");
    let ended = |row: &Record| row.get("result").is_some_and(|result| result != "running");
    until("the check ends", MIGRATION, ask, ended).await
}

/// Writes through Headgate until it is told to stop; returns how many rows were acknowledged.
async fn load(world: &World, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<u64> {
    let client = world.client().await;
    tokio::spawn(async move {
        let mut written = 0;
        while !stop.load(Ordering::SeqCst) {
            let write = format!(
                "begin; insert into t (v) values ('load {written}'); update o set t = (select max(id) from t) where id = 7;
                 update \"Odd name\" set v = '{written}' where id = 1; commit"
            );
            rows(&client, &write).await;
            written += 1;
        }
        written
    })
}

#[tokio::test]
async fn what_differs_is_taken_anew_under_load_by_the_statement_that_the_check_prints() {
    let world = World::start(SCHEMA).await;
    world.follow().await;
    world
        .target
        .sql(
            DATABASE,
            "set application_name = 'headgate m by hand'; set session_replication_role = replica; update t set v = 'odd' where id = 5; delete from t where id = 6;
             update \"Odd name\" set v = 'odd' where id = 2",
        )
        .await;
    let status = checked(&world).await;
    assert_eq!(status.get("result").map(String::as_str), Some("different"));
    let remedy = status.get("remedy").cloned().unwrap_or_default();
    let (_, text) = world.headgate.refused("CUTOVER MIGRATION m").await;
    assert!(text.contains("RECOPY TABLE public.t OF MIGRATION m"), "{text}");

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
    let rows = "select count(*) from t where v like 'load %'";
    assert_eq!(world.target.value(DATABASE, rows).await, written.to_string());
    let left = "select count(*) from t where v like 'old %'";
    assert_eq!(world.target.value(DATABASE, left).await, "100");
}

#[tokio::test]
async fn a_kill_while_a_table_is_taken_anew_is_resumed_and_the_check_passes() {
    let mut world = World::start_copying().await;
    world.until_state("following", MIGRATION).await;
    world
        .target
        .sql(DATABASE, "set application_name = 'headgate m by hand'; update big set v = 'odd' where id = 17")
        .await;
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
    world.source.sql(DATABASE, "insert into big values (-1, 'while dead'); delete from big where id = 5").await;
    world.headgate.launch().await;
    world.until_state("following", MIGRATION).await;
    world.until_equal("select count(*), sum(id), min(id) from big").await;
    world.check().await;
}

#[tokio::test]
async fn a_follower_that_stopped_at_a_foreign_write_goes_on_by_its_remedy() {
    let world = World::start(SCHEMA).await;
    world.follow().await;
    world
        .target
        .sql(
            DATABASE,
            "set application_name = 'headgate m by hand'; set session_replication_role = replica; delete from t where id = 5",
        )
        .await;
    world.source.sql(DATABASE, "update t set v = 'new' where id = 5").await;
    let state = || world.status("state");
    until("it stops", SOON, state, |state| state == "failed").await;
    let remedy = world.status("remedy").await;
    let statement = "RECOPY TABLE public.t OF MIGRATION m";
    assert!(remedy.contains(statement), "{remedy}");
    world.headgate.admin(statement).await;
    world.until_state("following", MIGRATION).await;
    world.check().await;
}

/// What is carried is what was planned: a table that changed and was written to meanwhile is taken anew once it is undone.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_stopped_at_a_changed_table_goes_on_by_its_remedy() {
    let world = World::start(SCHEMA).await;
    world.follow().await;
    let change = "alter table t add column more int; update t set v = 'new' where id = 5";
    world.source.sql(DATABASE, change).await;
    let state = || world.status("state");
    until("it stops", SOON, state, |state| state == "failed").await;
    let remedy = world.status("remedy").await;
    let statement = "RECOPY TABLE public.t OF MIGRATION m";
    let anew = "DROP MIGRATION m WITH (target_objects = 'drop')";
    for part in ["undo it on the source", statement, anew] {
        assert!(remedy.contains(part), "{remedy}");
    }
    world.source.sql(DATABASE, "alter table t drop column more; update t set v = 'newer' where id = 6").await;
    world.headgate.admin(statement).await;
    world.until_state("following", MIGRATION).await;
    world.check().await;
    // Where it is to stay, all is taken anew.
    world.source.sql(DATABASE, change).await;
    until("it stops", SOON, state, |state| state == "failed").await;
    world.headgate.admin(anew).await;
    world.headgate.admin("CREATE MIGRATION m FROM blue TO green FOR ROUTE shop").await;
    world.headgate.admin("START MIGRATION m").await;
    world.until_state("following", MIGRATION).await;
    world.check().await;
}
