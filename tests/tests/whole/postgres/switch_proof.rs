//! The proof of the switch as the operator meets it: green behind the application, red where the mover was wrong, and
//! unknown once its snapshots are gone.

use tests::postgres::{rows, try_rows};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, World};

const SCHEMA: &str = "create table t (id int primary key, v text);
    insert into t select i, 'old' from generate_series(1, 2000) i; create index by_v on t (v)";

async fn shown(world: &World<tests::postgres::Postgres>, wanted: &str) -> String {
    until("the proof's name", SOON, || world.status("switch_proof"), |name| name == wanted).await;
    world.status("switch_proof_detail").await
}

#[tokio::test]
async fn a_switch_is_proved_behind_the_application_while_both_sides_are_written_to() {
    let world = World::start(SCHEMA).await;
    world.follow().await;
    world.check().await;
    assert_eq!(world.status("switch_proof").await, "");
    let client = world.client().await;
    rows(&client, "update t set v = 'before' where id % 2 = 0").await;
    let report = world.cutover().await;
    // What is written from here on flows back, and is in neither snapshot.
    rows(&client, "update t set v = 'after'; insert into t values (5000, 'new')").await;
    let detail = shown(&world, "equal").await;
    assert!(detail.starts_with("proved equal at the switch: 2000 rows, "), "{detail}");
    let now = world.row("SHOW CUTOVER REPORT m").await;
    assert_eq!(now.get("switch_proof_detail"), Some(&detail), "{report:?}");
    let steps = world.headgate.admin("SHOW READINESS m").await;
    let step =
        steps.iter().find(|step| step.get("check").is_some_and(|name| name == "switch_proof")).expect("it is there");
    assert_eq!(step.get("level").map(String::as_str), Some("ok"));
    world.headgate.admin("FINISH MIGRATION m").await;
    assert_eq!(world.status("switch_proof").await, "equal");
}

#[tokio::test]
async fn a_fault_of_the_mover_that_nobody_saw_is_found_by_the_proof_of_the_switch_and_keeps_the_way_back_open() {
    let world = World::start(SCHEMA).await;
    world.follow().await;
    world.check().await;
    // As if the mover had done it.
    let mover = world.target.connect(DATABASE).await;
    rows(
        &mover,
        "set application_name = 'headgate m apply'; delete from t where id = 77; update t set v = 'ol' where id = 5",
    )
    .await;
    world.cutover().await;
    let detail = shown(&world, "different").await;
    assert!(detail.contains("public.t (") && detail.contains(": (77)") && detail.contains(": (5)"), "{detail}");
    let (code, text) = world.headgate.refused("FINISH MIGRATION m").await;
    assert!(code == "55000" && text.contains("is not proved: different at the switch"), "{code} {text}");
    let hint = "FINISH MIGRATION m WITH (waive_proof=true)";
    let console = world.headgate.console().await;
    let refused = try_rows(&console, "FINISH MIGRATION m").await.expect_err("it is not proved");
    let printed = refused.as_db_error().and_then(|error| error.hint()).unwrap_or_default().to_owned();
    assert!(printed.ends_with(hint), "{printed}");
    world.headgate.admin(hint).await;
    assert_eq!(world.status("state").await, "finished");
}

#[tokio::test]
async fn a_proof_does_not_outlive_its_snapshots() {
    let world = World::start_with(SCHEMA, "[migrator]\nproof_rate = 100\n").await;
    world.follow().await;
    world.check().await;
    world.cutover().await;
    // A range of a hundred rows in a second.
    let detail = shown(&world, "running").await;
    assert!(detail.starts_with("running: "), "{detail}");
    let end = "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity
        where application_name = 'headgate m proof'";
    assert_eq!(world.target.value(DATABASE, end).await, "1");
    let detail = shown(&world, "unknown").await;
    assert!(detail.starts_with("cannot be known: a snapshot was lost: "), "{detail}");
    world.headgate.refused("FINISH MIGRATION m").await;
}

#[tokio::test]
async fn a_proof_does_not_outlive_its_process() {
    let mut world = World::start_with(SCHEMA, "[migrator]\nproof_rate = 100\n").await;
    world.follow().await;
    world.check().await;
    world.cutover().await;
    shown(&world, "running").await;
    world.headgate.kill().await;
    world.headgate.launch().await;
    let detail = shown(&world, "unknown").await;
    assert!(detail.starts_with("cannot be known: Headgate was restarted"), "{detail}");
    let snapshots = "select count(*) from pg_stat_activity where application_name = 'headgate m proof'";
    until("the snapshots are gone", SOON, || world.target.value(DATABASE, snapshots), |count| count == "0").await;

    // The way back has a proof of its own.
    world.headgate.admin("ROLLBACK MIGRATION m WITH (waive_check = true)").await;
    shown(&world, "running").await;
}
