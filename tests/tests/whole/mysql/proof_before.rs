//! The proof before the switch: what changed since the check is compared inside the hold, and undoes the cutover where it
//! differs, does not fit, or is not known.

use std::sync::atomic::{AtomicBool, Ordering};

use tests::mysql::{Mysql, Pair, rows, single};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, World, numbers};

for_every_pair! {
    a_cutover_under_load_is_proved_before_the_switch_and_tells_how_many_rows_that_took,
    a_row_that_differs_undoes_the_cutover_and_is_named,
    rows_of_every_kind_of_key_are_found_on_both_sides,
}

/// What does not depend on the servers.
const ONE: Pair = Pair::Mysql97to97;

fn schema() -> String {
    format!(
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(40)) ENGINE = InnoDB;
         INSERT INTO t SELECT n, 'old' FROM {} WHERE n <= 20000; CREATE TABLE loose (v INT) ENGINE = InnoDB;
         CREATE TABLE counts (id INT PRIMARY KEY, n INT NOT NULL) ENGINE = InnoDB; INSERT INTO counts SELECT id, 0 FROM t WHERE id <= 1000",
        numbers(5)
    )
}
/// Nothing is compared again before the hold.
const LEFT_TO_THE_HOLD: &str = "[migrator]\nresidue_rate = 0\n";
/// As if the mover had done it: nobody counts it.
const UNCOUNTED: &str =
    "UPDATE performance_schema.threads SET INSTRUMENTED = 'NO' WHERE PROCESSLIST_ID = CONNECTION_ID()";

async fn checked(pair: Pair, schema: &str, sections: &str) -> World<Mysql> {
    let world = World::of_with(pair, schema, sections).await;
    world.follow().await;
    world.check().await;
    world
}

async fn until_unproved(world: &World<Mysql>, wanted: &str) {
    until("so many keys are unproved", SOON, || world.status("unproved_keys"), |keys| keys == wanted).await;
}

async fn harm(world: &World<Mysql>, statement: &str) {
    world.target.sql(DATABASE, &format!("{UNCOUNTED}; {statement}")).await;
}

/// The cutover is undone, and the route serves from the source as before.
async fn is_undone(world: &World<Mysql>, statement: &str) -> String {
    let (code, text) = world.headgate.refused(statement).await;
    assert!(code == "55000" && text.contains("undone"), "{code} {text}");
    let report = world.row("SHOW CUTOVER REPORT m").await;
    assert_eq!(report.get("undone_at").map(String::as_str), Some("Checking"), "{report:?}");
    assert_eq!(report.get("residue_keys").map_or("", String::as_str), "", "{report:?}");
    let mut client = world.client().await;
    rows(&mut client, "INSERT INTO t VALUES (90000, 'at the source')").await;
    rows(&mut client, "DELETE FROM t WHERE id = 90000").await;
    let port = single(&rows(&mut client, "SELECT @@port").await, "the port");
    assert_eq!(port, world.source.port().to_string());
    world.until_state("following", MIGRATION).await;
    text
}

async fn a_cutover_under_load_is_proved_before_the_switch_and_tells_how_many_rows_that_took(pair: Pair) {
    let world = checked(pair, &schema(), "").await;
    let ended = AtomicBool::new(false);
    let load = async {
        let mut client = world.client().await;
        let mut written = 0;
        while !ended.load(Ordering::Relaxed) {
            let one = format!("UPDATE counts SET n = n + 1 WHERE id IN (1, {})", 2 + written % 900);
            rows(&mut client, &one).await;
            written += 1;
        }
        written
    };
    let cutting = async {
        let going = "SELECT n > 50 FROM counts WHERE id = 1";
        world.target.until_value(DATABASE, going, "1").await;
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
    let counted = world.target.value(DATABASE, "SELECT n FROM counts WHERE id = 1").await;
    assert_eq!(counted, written.to_string());
}

#[tokio::test]
async fn what_changed_is_compared_again_while_changes_are_followed_and_not_left_to_the_hold() {
    let world = checked(ONE, &schema(), "").await;
    until_unproved(&world, "0").await;
    let mut client = world.client().await;
    rows(&mut client, "UPDATE t SET v = 'new' WHERE id <= 3000").await;
    rows(&mut client, "DELETE FROM t WHERE id BETWEEN 100 AND 200").await;
    rows(&mut client, "UPDATE t SET id = id + 50000 WHERE id BETWEEN 300 AND 310").await;
    world.target.until_value(DATABASE, "SELECT COUNT(*) FROM t WHERE id > 50000", "11").await;
    until_unproved(&world, "0").await;
    let report = world.row("CUTOVER MIGRATION m WITH (proof = 'before')").await;
    assert_eq!(report.get("outcome").map(String::as_str), Some("switched"), "{report:?}");
    assert_eq!(report.get("residue_keys").map(String::as_str), Some("0"), "{report:?}");
}

#[tokio::test]
async fn a_rollback_is_proved_before_the_switch_by_a_check_of_its_own_direction() {
    // MariaDB's fence locks accounts, which would have to be waived for one of the other family.
    for pair in [Pair::Mysql97to97, Pair::Mysql56to97, Pair::Mariadb1011to1011] {
        goes_back_proved(pair).await;
    }
}

async fn goes_back_proved(pair: Pair) {
    let world = checked(pair, &schema(), LEFT_TO_THE_HOLD).await;
    world.cutover().await;
    let mut client = world.client().await;
    rows(&mut client, "UPDATE counts SET n = 7 WHERE id <= 30").await;
    world.source.until_value(DATABASE, "SELECT COUNT(*) FROM counts WHERE n = 7", "30").await;
    let rollback = "ROLLBACK MIGRATION m WITH (max_hold = '10s', waive_check = true, proof = 'before')";
    let (code, text) = world.headgate.refused(rollback).await;
    assert!(code == "55000" && text.contains("there is no passed check to begin with"), "{code} {text}");
    world.check().await;
    until_unproved(&world, "0").await;
    rows(&mut client, "UPDATE counts SET n = 8 WHERE id <= 20").await;
    until_unproved(&world, "20").await;
    let report = world.row(rollback).await;
    assert_eq!(report.get("outcome").map(String::as_str), Some("switched"), "{report:?}");
    assert_eq!(report.get("residue_keys").map(String::as_str), Some("20"), "{report:?}");
    assert_eq!(world.source.value(DATABASE, "SELECT COUNT(*) FROM counts WHERE n = 8").await, "20");
}

async fn a_row_that_differs_undoes_the_cutover_and_is_named(pair: Pair) {
    let world = checked(pair, &schema(), LEFT_TO_THE_HOLD).await;
    let mut client = world.client().await;
    rows(&mut client, "UPDATE t SET v = 'new' WHERE id IN (5, 7)").await;
    world.target.until_value(DATABASE, "SELECT COUNT(*) FROM t WHERE v = 'new'", "2").await;
    until_unproved(&world, "2").await;
    harm(&world, "UPDATE t SET v = 'ol' WHERE id = 5").await;
    let cutover = "CUTOVER MIGRATION m WITH (max_hold = '10s', proof = 'before')";
    let text = is_undone(&world, cutover).await;
    let named = format!("differ on both sides: {DATABASE}.t: (5)");
    assert!(text.contains(&named) && !text.contains("'ol'"), "{text}");
    // What the text tells to run.
    world.headgate.admin("CHECK MIGRATION m").await;
    let ask = || world.row("SHOW MIGRATION CHECK STATUS m");
    let status =
        until("the check ends", MIGRATION, ask, |row| row.get("result").is_some_and(|it| it != "running")).await;
    let remedy = status.get("remedy").cloned().unwrap_or_default();
    assert_eq!(remedy, format!("RECOPY TABLE {DATABASE}.t OF MIGRATION m; then CHECK MIGRATION m"));
    world.headgate.admin(&format!("RECOPY TABLE {DATABASE}.t OF MIGRATION m")).await;
    world.until_state("following", MIGRATION).await;
    world.check().await;
    let report = world.row(cutover).await;
    assert_eq!(report.get("outcome").map(String::as_str), Some("switched"), "{report:?}");
}

#[tokio::test]
async fn what_does_not_fit_into_the_budget_undoes_the_cutover() {
    let world = checked(ONE, &schema(), LEFT_TO_THE_HOLD).await;
    let mut client = world.client().await;
    rows(&mut client, "UPDATE t SET v = 'new'").await;
    until_unproved(&world, "20000").await;
    let text =
        is_undone(&world, "CUTOVER MIGRATION m WITH (max_hold = '10s', proof = 'before', check_budget = '1ms')").await;
    assert!(text.contains("keys changed since the check") && text.contains("check_budget of 1 ms"), "{text}");
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
    let world = World::of_with(ONE, &schema(), sections).await;
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
    let mut client = world.client().await;
    let (unkeyed, truncated) = (
        format!("rows changed that no key tells apart in {DATABASE}.loose"),
        format!("all rows were removed by TRUNCATE in {DATABASE}.loose"),
    );
    for (statement, why) in [
        ("UPDATE t SET v = 'new' WHERE id <= 11", "more than 10 keys changed since the last check"),
        ("INSERT INTO loose VALUES (1)", &unkeyed),
        ("TRUNCATE loose", &truncated),
    ] {
        until_unproved(&world, "0").await;
        rows(&mut client, statement).await;
        until_unproved(&world, "").await;
        refused(why).await;
        world.check().await;
    }
    rows(&mut client, "UPDATE t SET v = 'newer' WHERE id <= 10").await;
    until_unproved(&world, "10").await;
    let report = world.row(rehearse).await;
    assert_eq!(report.get("residue_keys").map(String::as_str), Some("10"), "{report:?}");
}

/// Every kind of key, with two rows each.
const KINDS: &[(&str, &str, [&str; 2])] = &[
    ("k_text", "VARCHAR(20) CHARACTER SET utf8mb4", ["_utf8mb4'it''s \\\\ \"é\"'", "''"]),
    ("k_latin", "VARCHAR(20) CHARACTER SET latin1", ["_utf8mb4'é'", "'e, f'"]),
    ("k_char", "CHAR(5) CHARACTER SET latin1 COLLATE latin1_bin", ["'a'", "'b c'"]),
    ("k_bytes", "VARBINARY(9)", ["X'00ff5c27'", "''"]),
    ("k_fixed", "BINARY(4)", ["X'ff'", "X'00000000'"]),
    ("k_decimal", "DECIMAL(9, 2)", ["-1.5", "7"]),
    ("k_double", "DOUBLE", ["0.1", "-1e300"]),
    ("k_unsigned", "BIGINT UNSIGNED", ["18446744073709551615", "1"]),
    ("k_bits", "BIT(7)", ["b'1010101'", "b'0'"]),
    ("k_enum", "ENUM('so, so', 'fine')", ["'so, so'", "'fine'"]),
    ("k_year", "YEAR", ["1999", "2024"]),
    ("k_date", "DATE", ["'2024-02-29'", "'9999-12-31'"]),
    ("k_datetime", "DATETIME(3)", ["'2024-02-29 12:00:00.123'", "'1000-01-01'"]),
    ("k_stamp", "TIMESTAMP(6) DEFAULT '2000-01-01'", ["'2024-02-29 12:00:00.123456'", "'2001-01-01'"]),
    ("k_time", "TIME(2)", ["'-12:34:56.78'", "'800:00:00'"]),
];

async fn rows_of_every_kind_of_key_are_found_on_both_sides(pair: Pair) {
    let mut schema = String::from(
        "CREATE TABLE k_two (a VARCHAR(20), b DATE, v VARCHAR(9), PRIMARY KEY (b, a)) ENGINE = InnoDB \
         DEFAULT CHARSET = utf8mb4;
         INSERT INTO k_two VALUES ('x, y', '2024-01-01', 'old'), ('x', '2024-01-01', 'old');",
    );
    let mut names = vec!["k_two"];
    for (name, kind, [one, two]) in KINDS {
        let create = format!(
            "CREATE TABLE {name} (k {kind} NOT NULL PRIMARY KEY, v VARCHAR(9)) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4; \
             INSERT INTO {name} VALUES ({one}, 'old'), ({two}, 'old');"
        );
        schema.push_str(&create);
        names.push(name);
    }
    let world = checked(pair, &schema, LEFT_TO_THE_HOLD).await;
    let mut client = world.client().await;
    for name in &names {
        rows(&mut client, &format!("UPDATE {name} SET v = 'new'")).await;
    }
    until_unproved(&world, &(2 * names.len()).to_string()).await;
    let rehearse = "REHEARSE MIGRATION m WITH (max_hold = '10s', way_back = 'none', proof = 'before')";
    let report = world.row(rehearse).await;
    assert_eq!(report.get("residue_keys"), Some(&(2 * names.len()).to_string()), "{report:?}");
    for name in &names {
        harm(&world, &format!("UPDATE {name} SET v = 'harmed'")).await;
        let (_, text) = world.headgate.refused(rehearse).await;
        let named = text.split_once(&format!("differ on both sides: {DATABASE}.{name}: (")).map(|(_, named)| named);
        assert!(named.is_some_and(|named| named.contains("); (")), "both rows of {name}: {text}");
        harm(&world, &format!("UPDATE {name} SET v = 'new'")).await;
    }
    harm(&world, "DELETE FROM k_two WHERE a = 'x, y'").await;
    let (_, text) = world.headgate.refused(rehearse).await;
    assert!(text.contains(&format!("{DATABASE}.k_two: (2024-01-01,'x, y')")), "{text}");
}
