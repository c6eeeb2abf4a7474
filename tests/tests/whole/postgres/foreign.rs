//! Somebody else writes to the target: refused until the switch, and where it went past that, the proof is void.

use tests::postgres::{Record, rows};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, World};

const SCHEMA: &str =
    "create table t (id int primary key, v text); insert into t select n, 'old' from generate_series(1, 100) n;
    create table p (id int primary key, v text) partition by range (id);
    create table p1 partition of p for values from (1) to (100); insert into p values (1, 'old')";

/// The target's error for a statement of somebody else.
async fn refused(world: &World, statement: &str) -> String {
    let foreign = world.target.connect(DATABASE).await;
    let error = foreign.simple_query(statement).await.expect_err(statement);
    let reported = error.as_db_error().expect("the server refused it");
    format!("{} {}", reported.code().code(), reported.message())
}

async fn finding(world: &World, check: &str) -> Record {
    let readiness = world.headgate.admin("SHOW READINESS m").await;
    let mut found = readiness.into_iter();
    found.find(|row| row.get("check").map(String::as_str) == Some(check)).unwrap_or_default()
}

#[tokio::test]
async fn nobody_else_writes_to_the_target_before_the_switch_or_the_proof_is_void() {
    let world = World::start(SCHEMA).await;
    world.follow().await;
    // The follower raises the guard, and somebody who may takes it away.
    let ask = || finding(&world, "foreign_writes");
    let is_up = |found: &Record| found.get("level").map(String::as_str) == Some("ok");
    until("the guard is up", SOON, ask, is_up).await;
    let away = "do $$ declare f regprocedure; begin
        for f in select tgfoid from pg_trigger where tgname = 'headgate_guard' and tgrelid = 't'::regclass loop
            execute format('drop function %s cascade', f); end loop; end $$";
    world.target.sql(DATABASE, away).await;
    let open = finding(&world, "foreign_writes").await;
    assert_eq!(open.get("level").map(String::as_str), Some("warning"));
    assert_eq!(open.get("fix").map(String::as_str), Some("CHECK MIGRATION m"));
    world.check().await;
    let refused_now = finding(&world, "foreign_writes").await;
    assert_eq!(refused_now.get("level").map(String::as_str), Some("ok"));

    for statement in [
        "update t set v = 'foreign' where id = 5",
        "set session_replication_role = replica; delete from t",
        "truncate t",
        "insert into p values (2, 'foreign')",
        "delete from p1",
    ] {
        let reported = refused(&world, statement).await;
        assert!(reported.starts_with("25006") && reported.contains("migration m"), "{statement}: {reported}");
    }
    // What Headgate writes passes, and a rehearsal leaves the guard and the proof as they are.
    let client = world.client().await;
    rows(&client, "insert into t values (101, 'new'); update p set v = 'new'").await;
    world.row("REHEARSE MIGRATION m").await;
    refused(&world, "update t set v = 'foreign'").await;
    let proved = finding(&world, "definitions").await;
    assert_eq!(proved.get("level").map(String::as_str), Some("ok"));

    // The owner of a table can do anything, but not unseen.
    let around = "alter table t disable trigger all; update t set v = 'foreign' where id = 5;
        alter table t enable trigger all";
    world.target.sql(DATABASE, around).await;
    let (_, text) = world.headgate.refused("CUTOVER MIGRATION m").await;
    assert!(
        text.contains("writes of others to public.t was changed on the target") && text.contains("CHECK"),
        "{text}"
    );
    let void = finding(&world, "definitions").await;
    assert_eq!(void.get("level").map(String::as_str), Some("error"));
    world.headgate.admin("CHECK MIGRATION m").await;
    let ask = || world.row("SHOW MIGRATION CHECK STATUS m");
    let ended = |row: &Record| row.get("result").is_some_and(|result| result == "different");
    until("the check finds it", MIGRATION, ask, ended).await;
    world.headgate.admin("RECOPY TABLE t OF MIGRATION m").await;
    world.until_state("following", MIGRATION).await;
    world.check().await;

    // Inside the hold nothing was looked at since it began but this.
    let slow = world.client().await;
    rows(&slow, "begin; insert into t values (900, 'slow')").await;
    let cutting = world.headgate.refused("CUTOVER MIGRATION m WITH (max_hold = '10s')");
    let writing = async {
        let ask = || world.status("stage");
        until("it holds", SOON, ask, |stage| stage == "Holding").await;
        refused(&world, "update t set v = 'foreign'").await;
        world.target.sql(DATABASE, around).await;
        rows(&slow, "commit").await;
    };
    let ((_, text), ()) = tokio::join!(cutting, writing);
    assert!(text.contains("writes of others to public.t"), "{text}");
    world.headgate.admin("RECOPY TABLE t OF MIGRATION m").await;
    world.until_state("following", MIGRATION).await;
    world.check().await;
    world.cutover().await;

    // Everybody writes now, and nothing is left of the guard.
    rows(&client, "insert into t values (102, 'switched')").await;
    let direct = "set application_name = 'psql'; update t set v = 'direct' where id = 1; select count(*) from t where v = 'foreign'";
    assert_eq!(world.target.value(DATABASE, direct).await, "0");
    let left = "select count(*) from pg_trigger where tgname like 'headgate%'";
    until("the guard goes", SOON, || world.target.value(DATABASE, left), |left| left == "0").await;
}
