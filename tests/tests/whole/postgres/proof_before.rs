//! The proof before the switch: what changed since the check is compared inside the hold, and undoes the cutover where it
//! differs, does not fit, or is not known.

use std::sync::atomic::{AtomicBool, Ordering};

use tests::postgres::{Postgres, rows};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, World};

const SCHEMA: &str = "create table t (id int primary key, v text);
    insert into t select i, 'old' from generate_series(1, 20000) i; create table loose (v text);
    alter table loose replica identity full;
    create table counts (id int primary key, n int not null); insert into counts select id, 0 from t where id <= 1000";
/// Nothing is compared again before the hold.
const LEFT_TO_THE_HOLD: &str = "[migrator]\nresidue_rate = 0\n";
/// As if the mover had done it.
const AS_MOVER: &str = "set application_name = 'headgate m apply'";

async fn checked(schema: &str, sections: &str) -> World<Postgres> {
    let world = World::start_with(schema, sections).await;
    world.follow().await;
    world.check().await;
    world
}

async fn until_unproved(world: &World<Postgres>, wanted: &str) {
    until("so many keys are unproved", SOON, || world.status("unproved_keys"), |keys| keys == wanted).await;
}

async fn harm(world: &World<Postgres>, statement: &str) {
    let mover = world.target.connect(DATABASE).await;
    rows(&mover, &format!("{AS_MOVER}; {statement}")).await;
}

/// The cutover is undone, and the route serves from the source as before.
async fn is_undone(world: &World<Postgres>, statement: &str) -> String {
    let (code, text) = world.headgate.refused(statement).await;
    assert!(code == "55000" && text.contains("undone"), "{code} {text}");
    let report = world.row("SHOW CUTOVER REPORT m").await;
    assert_eq!(report.get("undone_at").map(String::as_str), Some("Checking"), "{report:?}");
    assert_eq!(report.get("residue_keys").map_or("", String::as_str), "", "{report:?}");
    let client = world.client().await;
    let version = rows(
        &client,
        "insert into t values (90000, 'at the source'); delete from t where id = 90000; \
        show server_version_num",
    )
    .await;
    assert!(format!("{version:?}").contains("\"14"), "{version:?}");
    world.until_state("following", MIGRATION).await;
    text
}

#[tokio::test]
async fn a_cutover_under_load_is_proved_before_the_switch_and_tells_how_many_rows_that_took() {
    let world = checked(SCHEMA, "").await;
    let ended = AtomicBool::new(false);
    let load = async {
        let client = world.client().await;
        let mut written = 0;
        while !ended.load(Ordering::Relaxed) {
            rows(&client, &format!("update counts set n = n + 1 where id in (1, {})", 2 + written % 900)).await;
            written += 1;
        }
        written
    };
    let cutting = async {
        let going = "select n > 50 from counts where id = 1";
        world.target.until_value(DATABASE, going, "t").await;
        let report =
            world.row("CUTOVER MIGRATION m WITH (max_hold = '10s', proof = 'before', check_budget = '5s')").await;
        ended.store(true, Ordering::Relaxed);
        report
    };
    let (written, report) = tokio::join!(load, cutting);
    assert_eq!(report.get("outcome").map(String::as_str), Some("switched"), "{report:?}");
    let number = |column: &str| report.get(column).and_then(|text| text.parse::<f64>().ok());
    assert!(number("residue_keys").is_some() && number("residue_ms").is_some(), "{report:?}");
    until("the proof's name", SOON, || world.status("switch_proof"), |name| name == "equal").await;
    let counted = world.target.value(DATABASE, "select n from counts where id = 1").await;
    assert_eq!(counted, written.to_string());
}

#[tokio::test]
async fn what_changed_is_compared_again_while_changes_are_followed_and_not_left_to_the_hold() {
    let world = checked(SCHEMA, "").await;
    until_unproved(&world, "0").await;
    let client = world.client().await;
    rows(
        &client,
        "update t set v = 'new' where id <= 3000; delete from t where id between 100 and 200; \
        update t set id = id + 50000 where id between 300 and 310",
    )
    .await;
    world.target.until_value(DATABASE, "select count(*) from t where id > 50000", "11").await;
    until_unproved(&world, "0").await;
    let report = world.row("CUTOVER MIGRATION m WITH (proof = 'before')").await;
    assert_eq!(report.get("outcome").map(String::as_str), Some("switched"), "{report:?}");
    assert_eq!(report.get("residue_keys").map(String::as_str), Some("0"), "{report:?}");
}

#[tokio::test]
async fn a_rollback_is_proved_before_the_switch_by_a_check_of_its_own_direction() {
    let world = checked(SCHEMA, LEFT_TO_THE_HOLD).await;
    world.cutover().await;
    let client = world.client().await;
    rows(&client, "update counts set n = 7 where id <= 30").await;
    world.source.until_value(DATABASE, "select count(*) from counts where n = 7", "30").await;
    let rollback = "ROLLBACK MIGRATION m WITH (max_hold = '10s', waive_check = true, proof = 'before')";
    let (code, text) = world.headgate.refused(rollback).await;
    assert!(code == "55000" && text.contains("there is no passed check to begin with"), "{code} {text}");
    world.check().await;
    until_unproved(&world, "0").await;
    rows(&client, "update counts set n = 8 where id <= 20").await;
    until_unproved(&world, "20").await;
    let report = world.row(rollback).await;
    assert_eq!(report.get("outcome").map(String::as_str), Some("switched"), "{report:?}");
    assert_eq!(report.get("residue_keys").map(String::as_str), Some("20"), "{report:?}");
    assert_eq!(world.source.value(DATABASE, "select count(*) from counts where n = 8").await, "20");
}

#[tokio::test]
async fn a_row_that_differs_undoes_the_cutover_and_is_named() {
    let world = checked(SCHEMA, LEFT_TO_THE_HOLD).await;
    let client = world.client().await;
    rows(&client, "update t set v = 'new' where id in (5, 7)").await;
    world.target.until_value(DATABASE, "select count(*) from t where v = 'new'", "2").await;
    until_unproved(&world, "2").await;
    harm(&world, "update t set v = 'ol' where id = 5").await;
    let cutover = "CUTOVER MIGRATION m WITH (max_hold = '10s', proof = 'before')";
    let text = is_undone(&world, cutover).await;
    assert!(text.contains("differ on both sides: public.t: (5)") && !text.contains("'ol'"), "{text}");
    // What the text tells to run.
    world.headgate.admin("CHECK MIGRATION m").await;
    let ask = || world.row("SHOW MIGRATION CHECK STATUS m");
    let status =
        until("the check ends", MIGRATION, ask, |row| row.get("result").is_some_and(|it| it != "running")).await;
    let remedy = status.get("remedy").cloned().unwrap_or_default();
    assert_eq!(remedy, "RECOPY TABLE public.t OF MIGRATION m; then CHECK MIGRATION m");
    world.headgate.admin("RECOPY TABLE public.t OF MIGRATION m").await;
    world.until_state("following", MIGRATION).await;
    world.check().await;
    let report = world.row(cutover).await;
    assert_eq!(report.get("outcome").map(String::as_str), Some("switched"), "{report:?}");
}

#[tokio::test]
async fn what_does_not_fit_into_the_budget_undoes_the_cutover() {
    let world = checked(SCHEMA, LEFT_TO_THE_HOLD).await;
    let client = world.client().await;
    rows(&client, "update t set v = 'new'").await;
    until_unproved(&world, "20000").await;
    let text =
        is_undone(&world, "CUTOVER MIGRATION m WITH (max_hold = '10s', proof = 'before', check_budget = '1ms')").await;
    assert!(text.contains("20000 keys changed since the check") && text.contains("check_budget of 1 ms"), "{text}");
    // What was written to the source since must be on the target, else it counts as written after the check.
    until_unproved(&world, "20001").await;
    world.check().await;
    until_unproved(&world, "0").await;
    let report = world.row("CUTOVER MIGRATION m WITH (max_hold = '10s', proof = 'before', check_budget = '5s')").await;
    assert_eq!(report.get("outcome").map(String::as_str), Some("switched"), "{report:?}");
}

#[tokio::test]
async fn what_changed_and_is_not_known_refuses_the_cutover_before_the_gate_closes() {
    let sections = "[migrator]\nresidue_rate = 0\nresidue_keys = 10\n";
    let world = World::start_with(SCHEMA, sections).await;
    world.follow().await;
    let rehearse = "REHEARSE MIGRATION m WITH (proof = 'before')";
    let refused = async |why: &str| {
        assert_eq!(world.status("unproved_keys").await, "");
        let (code, text) = world.headgate.refused(rehearse).await;
        assert!(code == "55000" && text.contains(why) && !text.contains("undone"), "{code} {text}");
        assert!(world.headgate.admin("SHOW CUTOVER REPORT m").await.is_empty(), "the gate was not closed");
    };
    refused("there is no passed check").await;
    world.check().await;
    let client = world.client().await;
    for (statement, why) in [
        ("update t set v = 'new' where id <= 11", "more than 10 keys changed since the last check"),
        ("insert into loose values ('a')", "rows changed that no key tells apart in public.loose"),
        ("truncate loose", "all rows were removed by TRUNCATE in public.loose"),
    ] {
        until_unproved(&world, "0").await;
        rows(&client, statement).await;
        until_unproved(&world, "").await;
        refused(why).await;
        world.check().await;
    }
    rows(&client, "update t set v = 'newer' where id <= 10").await;
    until_unproved(&world, "10").await;
    let report = world.row(rehearse).await;
    assert_eq!(report.get("residue_keys").map(String::as_str), Some("10"), "{report:?}");
}

/// Every kind of key, with two rows each.
const KINDS: &[(&str, &str, [&str; 2])] = &[
    ("k_text", "text", ["'it''s \\ \"é\"'", "''"]),
    ("k_char", "char(5)", ["'a'", "'b c'"]),
    ("k_bytea", "bytea", ["'\\x00ff5c27'", "'\\x'"]),
    ("k_numeric", "numeric(9, 2)", ["-1.5", "7"]),
    ("k_float", "float8", ["0.1", "-1e300"]),
    ("k_bool", "bool", ["true", "false"]),
    ("k_time", "timestamptz", ["'2024-02-29 12:00:00.123456+05'", "'infinity'"]),
    ("k_uuid", "uuid", ["'6ecd8c99-4036-403d-bf84-cf8400f67836'", "'00000000-0000-0000-0000-000000000000'"]),
    ("k_array", "int[]", ["'{1,2}'", "'{}'"]),
    ("k_enum", "mood", ["'so, so'", "'fine'"]),
    ("k_domain", "positive", ["1", "2"]),
    ("k_citext", "ext.citext", ["'Both'", "'None'"]),
];

#[tokio::test]
async fn rows_of_every_kind_of_key_are_found_on_both_sides() {
    let mut schema = String::from(
        "create schema ext; create extension citext schema ext; create type mood as enum ('so, so', 'fine');
         create domain positive as int check (value > 0);
         create table k_two (a text, b date, v text, primary key (b, a));
         insert into k_two values ('x, y', '2024-01-01', 'old'), (E'x\\ty', 'infinity', 'old');",
    );
    let mut names = vec!["k_two"];
    for (name, kind, [one, two]) in KINDS {
        let create = format!(
            "create table {name} (k {kind} primary key, v text); \
            insert into {name} values ({one}, 'old'), ({two}, 'old');"
        );
        schema.push_str(&create);
        names.push(name);
    }
    let world = checked(&schema, LEFT_TO_THE_HOLD).await;
    let client = world.client().await;
    for name in &names {
        rows(&client, &format!("update {name} set v = 'new'")).await;
    }
    until_unproved(&world, &(2 * names.len()).to_string()).await;
    let rehearse = "REHEARSE MIGRATION m WITH (max_hold = '10s', way_back = 'none', proof = 'before')";
    let report = world.row(rehearse).await;
    assert_eq!(report.get("residue_keys"), Some(&(2 * names.len()).to_string()), "{report:?}");
    for name in &names {
        harm(&world, &format!("update {name} set v = 'harmed'")).await;
        let (_, text) = world.headgate.refused(rehearse).await;
        let named = text.split_once(&format!("differ on both sides: public.{name}: (")).map(|(_, named)| named);
        assert!(named.is_some_and(|named| named.contains("); (")), "both rows of {name}: {text}");
        harm(&world, &format!("update {name} set v = 'new'")).await;
    }
    harm(&world, "delete from k_two where a = 'x, y'").await;
    let (_, text) = world.headgate.refused(rehearse).await;
    assert!(text.contains("public.k_two: (2024-01-01,\"x, y\")"), "{text}");
}
