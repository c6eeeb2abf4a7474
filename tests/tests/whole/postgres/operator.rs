//! What the operator is shown is true: while a side is away, before the switch and after it.

use std::time::Duration;

use tests::headgate::signal_server;
use tests::postgres::{Record, rows, try_connect};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, World};

const SCHEMA: &str =
    "create table t (id bigserial primary key, v text); insert into t (v) select 'old' from generate_series(1, 100)";

/// The line of readiness that sums up.
async fn ready(world: &World) -> String {
    let lines = world.headgate.admin("SHOW READINESS m").await;
    let first = lines.first().expect("a first line");
    assert_eq!(first.get("check").map(String::as_str), Some("ready"));
    first.get("evidence").cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_side_that_is_away_is_seen_in_status_readiness_and_metrics_and_comes_back() {
    let world = World::start(SCHEMA).await;
    world.follow().await;
    world.check().await;
    assert!(world.headgate.page("/readyz").await.contains(" 200 "));
    let pid = world.source.server.pid().expect("it runs");
    signal_server(pid, "STOP").await;
    let lag = || async { world.status("lag_ms").await.parse::<f64>().unwrap_or_default() };
    until("the lag grows", SOON, lag, |lag| *lag > 8_000.0).await;
    assert_ne!(world.status("interrupted_since").await, "");
    let reported = world.status("error_message").await;
    assert!(!reported.is_empty(), "nobody says why");
    let first = ready(&world).await;
    assert!(first.starts_with("NOT READY: "), "{first}");
    let page = world.headgate.page("/readyz").await;
    assert!(page.contains(" 503 ") && page.contains("blue"), "{page}");
    let page = world.headgate.page("/metrics").await;
    for line in [
        "\nheadgate_cluster_up{cluster=\"blue\"} 0\n",
        "\nheadgate_cluster_up{cluster=\"green\"} 1\n",
        "\nheadgate_migration_interrupted{migration=\"m\"} 1\n",
        "\nheadgate_migration_check_passed{migration=\"m\"} 1\n",
    ] {
        assert!(page.contains(line), "no {line} in {page}");
    }
    signal_server(pid, "CONT").await;
    until("the lag is small again", SOON, lag, |lag| *lag < 500.0).await;
    let reported = || world.status("error_message");
    until("nothing is wrong", SOON, reported, String::is_empty).await;
    let answers = || world.headgate.page("/readyz");
    until("it is ready", SOON, answers, |page| page.contains(" 200 ")).await;

    // A wrong password, an undone cutover and every statement are in the log.
    let port = world.headgate.port();
    try_connect(port, "headgate", Some("a guess"), "headgate").await.expect_err("a wrong password");
    let slow = world.client().await;
    rows(&slow, "begin; insert into t (v) values ('slow')").await;
    world.headgate.refused("CUTOVER MIGRATION m WITH (max_hold = '200ms')").await;
    rows(&slow, "commit").await;
    let log = world.headgate.logged(&["a login failed", "CUTOVER MIGRATION m", "were still open"]).await;
    assert!(!log.contains("a guess"), "a secret is in the log");

    // After the switch: what is left to do, then the end of it.
    world.until_state("following", MIGRATION).await;
    world.cutover().await;
    let first = ready(&world).await;
    assert!(first.starts_with("SWITCHED"), "{first}");
    let slots = "select count(*) from pg_replication_slots";
    assert_eq!(world.source.value(DATABASE, slots).await, "0", "the source keeps its log for a leg that is over");
    assert_eq!(world.target.value(DATABASE, slots).await, "1");
    world.headgate.admin("FINISH MIGRATION m").await;
    assert_eq!(world.status("state").await, "finished");
    assert_eq!(world.target.value(DATABASE, slots).await, "0");
    let around = world.source.connect(DATABASE).await;
    let write = tests::postgres::try_rows(&around, "insert into t (v) values ('late')").await;
    assert!(write.is_err(), "the refusal went with the migration");
    world.headgate.admin("DROP MIGRATION m").await;
    let report = world.row("SHOW CUTOVER REPORT m").await;
    assert_eq!(report.get("outcome").map(String::as_str), Some("switched"));
}

#[tokio::test]
async fn a_start_that_waits_for_an_open_transaction_says_for_whose() {
    let world = World::start(SCHEMA).await;
    let blocker = world.source.connect(DATABASE).await;
    rows(&blocker, "begin; insert into t (v) values ('blocker')").await;
    let pid = tests::postgres::single(&rows(&blocker, "select pg_backend_pid()").await, "the pid");
    world.start_migration().await;
    let stage = || world.status("stage");
    let whose = format!("pid {pid}, user postgres");
    until("the stage names who is waited for", SOON, stage, |stage| stage.contains(&whose)).await;
    rows(&blocker, "commit").await;
    world.until_state("following", MIGRATION).await;
    let stage = || world.status("stage");
    until("nobody is waited for", Duration::from_secs(5), stage, |stage| stage == "following").await;
}

#[tokio::test]
async fn a_cutover_for_which_the_target_has_too_few_connections_is_refused_and_the_clients_stay() {
    let (source, target) = tokio::join!(
        tests::postgres::Postgres::start(14),
        tests::postgres::Postgres::start_with(18, &[("max_connections", "20")], None)
    );
    let world = World::between(source, target, SCHEMA, "").await;
    world.follow().await;
    world.check().await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(world.client().await);
    }
    let mut hogs = Vec::new();
    let port = world.target.port();
    while let Ok(hog) = try_connect(port, "postgres", None, DATABASE).await {
        hogs.push(hog);
    }
    // What the cutover itself needs has room; one session of the six has, too.
    hogs.truncate(hogs.len().saturating_sub(6));
    let (code, text) = world.headgate.refused("CUTOVER MIGRATION m").await;
    assert!(code == "55000" && text.contains("sessions of route shop cannot be opened on green"), "{code} {text}");
    for client in &clients {
        rows(client, "insert into t (v) values ('on the source')").await;
    }
    drop(hogs);
    let went = async || {
        let answer = world.headgate.console().await;
        tests::postgres::try_records(&answer, "CUTOVER MIGRATION m").await
    };
    let _went = until("there is room again", SOON, went, Result::is_ok).await;
    for client in &clients {
        rows(client, "insert into t (v) values ('on the target')").await;
    }
}

#[tokio::test]
async fn a_cutover_for_which_the_target_has_too_few_connections_goes_through_at_the_operator_s_word() {
    let schema = format!("{SCHEMA}; create role app login; grant all on t, t_id_seq to app");
    let world = World::start(&schema).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(world.headgate.connect("app", DATABASE).await);
    }
    world.source.sql(DATABASE, "alter role app connection limit 2").await;
    world.follow().await;
    world.check().await;
    let waived = "CUTOVER MIGRATION m WITH (waive_sessions=true)";
    prints(&world, "CUTOVER MIGRATION m", &["sessions of route shop cannot be opened on green", waived]).await;
    let report = world.row(waived).await;
    assert_eq!(report.get("outcome").map(String::as_str), Some("switched"));
    // Who could not move has lost the connection, and nobody else has.
    let mut moved = 0;
    for client in &clients {
        let wrote = tests::postgres::try_rows(client, "insert into t (v) values ('later')").await;
        moved += u64::from(wrote.is_ok());
    }
    assert_eq!(moved, 2);
    let there = "select count(*) from t where v = 'later'";
    assert_eq!(world.target.value(DATABASE, there).await, "2");
}

#[tokio::test]
async fn a_session_that_may_have_written_past_the_log_voids_the_proof_until_it_has_ended_and_a_check_passed() {
    let world = World::start(SCHEMA).await;
    world.follow().await;
    world.check().await;
    let client = world.client().await;
    rows(&client, "set session_replication_role = replica").await;
    rows(&client, "insert into t (v) values ('hidden')").await;
    let hidden = || async { line(&world, "hidden_writes").await.0 };
    until("it is seen", SOON, hidden, |level| level == "error").await;
    let remedy = "end these sessions, or let them undo the setting and connect anew; then run CHECK MIGRATION again";
    prints(&world, "CUTOVER MIGRATION m", &["the proof is void", remedy]).await;
    // Neither the end of it nor a new check is enough without the other.
    world.check().await;
    prints(&world, "CUTOVER MIGRATION m", &["the proof is void"]).await;
    drop(client);
    let sessions = || async { world.headgate.admin("SHOW SESSIONS").await.len() };
    until("it has ended", SOON, sessions, |count| *count == 0).await;
    prints(&world, "CUTOVER MIGRATION m", &["the proof is void"]).await;
    world.check().await;
    assert_eq!(line(&world, "hidden_writes").await.0, "ok");
    world.cutover().await;
}

#[tokio::test]
async fn a_session_that_is_still_on_the_old_side_is_listed_and_moves_with_its_next_statement() {
    let world = World::start(&format!("{SCHEMA}; create view other as select 1 as one")).await;
    world.follow().await;
    world.check().await;
    let client = world.client().await;
    rows(&client, "prepare one as select * from other").await;
    let slow = world.client().await;
    rows(&slow, "begin; insert into t (v) values ('slow')").await;
    let console = world.headgate.console().await;
    let cutting = tokio::spawn(async move {
        let cutover = "CUTOVER MIGRATION m WITH (max_hold = '20s')";
        tests::postgres::try_records(&console, cutover).await
    });
    let stage = || world.status("stage");
    until("it holds", MIGRATION, stage, |stage| stage == "Holding").await;
    // The statement cannot be prepared on the target before this ends.
    let busy = world.target.connect(DATABASE).await;
    rows(&busy, "begin; lock table other").await;
    rows(&slow, "commit").await;
    let state = || world.status("state");
    until("it has switched", MIGRATION, state, |state| state == "switched").await;
    let left = async || {
        let lines = world.headgate.admin("SHOW READINESS m").await;
        let line = lines.into_iter().find(|line| line["check"] == "sessions");
        line.expect("the line").remove("evidence").unwrap_or_default()
    };
    assert_eq!(left().await, "1 sessions of route shop are still on blue");
    assert_eq!(line(&world, "sessions").await.0, "warning");
    let listed = world.headgate.admin("SHOW SESSIONS").await;
    let on_blue = listed.iter().filter(|row| row.get("cluster").is_some_and(|at| at == "blue"));
    assert_eq!(on_blue.count(), 1, "{listed:?}");
    rows(&busy, "rollback").await;
    assert!(!rows(&client, "execute one").await.is_empty());
    cutting.await.expect("no panic").expect("it went through");
    assert_eq!(line(&world, "sessions").await.0, "ok");
    assert_eq!(left().await, "no session of route shop is left on blue");
}

#[tokio::test]
async fn a_failure_that_is_mended_ends_with_the_start_that_it_printed() {
    let world = World::start(SCHEMA).await;
    world.follow().await;
    let refuse = "alter table t add constraint odd check (v <> 'odd')";
    world.target.sql(DATABASE, refuse).await;
    world.source.sql(DATABASE, "insert into t (v) values ('odd')").await;
    let state = || world.status("state");
    until("it stops", SOON, state, |state| state == "failed").await;
    let remedy = world.status("remedy").await;
    assert!(
        remedy.starts_with("mend what the text names, then START MIGRATION m goes on where it stopped"),
        "{remedy}"
    );
    world.target.sql(DATABASE, "alter table t drop constraint odd").await;
    world.headgate.admin("START MIGRATION m").await;
    world.until_state("following", MIGRATION).await;
    world.until_equal("select count(*), sum(id) from t").await;
    world.check().await;
}

/// What refuses `asked`: it prints these statements, in this order.
async fn prints(world: &World, asked: &str, printed: &[&str]) {
    let (_, text) = world.headgate.refused(asked).await;
    for statement in printed {
        assert!(text.contains(statement), "{asked}: {text}");
    }
}

/// The level and the statement of a line of readiness.
async fn line(world: &World, name: &str) -> (String, String) {
    let lines = world.headgate.admin("SHOW READINESS m").await;
    let of = |line: &&Record| line.get("check").is_some_and(|check| check == name);
    let line = lines.iter().find(of).unwrap_or_else(|| panic!("{name}: {lines:#?}"));
    (line["level"].clone(), line.get("fix").cloned().unwrap_or_default())
}

/// A check that was begun by what somebody printed ends, and both sides are equal.
async fn passes(world: &World) {
    let ask = || world.row("SHOW MIGRATION CHECK STATUS m");
    let passed = |row: &Record| row.get("result").is_some_and(|result| result == "passed");
    until("the check passes", MIGRATION, ask, passed).await;
}

#[tokio::test]
async fn each_statement_that_the_console_prints_goes_through_and_ends_what_it_was_printed_for() {
    let world = World::start("create table t (id int primary key); create view v as select 1 as one").await;
    let run = async |statement: &str| world.headgate.admin(statement).await;
    let create = "CREATE MIGRATION m FROM blue TO green FOR ROUTE shop";
    prints(&world, "START MIGRATION m", &["SHOW MIGRATION LIST names all", "CREATE MIGRATION … FROM … TO … makes one"])
        .await;
    assert_eq!(run("SHOW MIGRATION LIST").await.len(), 0);
    run(create).await;
    let other = "CREATE MIGRATION n FROM blue TO green FOR ROUTE shop";
    prints(&world, create, &["DROP MIGRATION m if that one is not needed any more"]).await;
    prints(&world, other, &["DROP MIGRATION m first"]).await;
    run("DROP MIGRATION m").await;
    run(other).await;
    run("DROP MIGRATION n").await;
    run(create).await;
    prints(&world, "RECOPY TABLE t OF MIGRATION m", &["START MIGRATION m copies all tables"]).await;
    prints(&world, "CHECK MIGRATION m", &["START MIGRATION m"]).await;
    assert_eq!(line(&world, "state").await.0, "error");
    run("START MIGRATION m").await;
    world.until_state("following", MIGRATION).await;
    assert_eq!(line(&world, "state").await.0, "ok");
    prints(&world, "PRECHECK MIGRATION m", &["SHOW MIGRATION CHECKS m shows what the last one found"]).await;
    assert!(!run("SHOW MIGRATION CHECKS m").await.is_empty());
    prints(&world, "START MIGRATION m", &["SHOW MIGRATION STATUS m"]).await;
    run("SHOW MIGRATION STATUS m").await;
    prints(&world, "DROP MIGRATION m", &["STOP MIGRATION m first"]).await;
    prints(&world, "FINISH MIGRATION m", &["CUTOVER MIGRATION m", "DROP MIGRATION m to give it up"]).await;
    let waived = "CUTOVER MIGRATION m WITH (waive_check=true)";
    prints(&world, "CUTOVER MIGRATION m", &["CHECK MIGRATION m", waived]).await;
    assert_eq!(line(&world, "proof").await, ("error".to_owned(), "CHECK MIGRATION m".to_owned()));
    let ready = line(&world, "ready").await;
    assert_eq!(ready.1, "CHECK MIGRATION m", "the first line has the first statement");
    run(&ready.1).await;
    passes(&world).await;
    assert_eq!(line(&world, "proof").await.0, "ok");
    assert_eq!(line(&world, "ready").await.0, "ok");
    let change = "create or replace view v as select 2 as one";
    world.source.sql(DATABASE, change).await;
    world.target.sql(DATABASE, change).await;
    let (level, fix) = line(&world, "definitions").await;
    assert_eq!((level.as_str(), fix.as_str()), ("error", "CHECK MIGRATION m"));
    run(&fix).await;
    passes(&world).await;
    assert_eq!(line(&world, "definitions").await.0, "ok");
    // What is taken anew is not proved.
    run("RECOPY TABLE t OF MIGRATION m").await;
    world.until_state("following", MIGRATION).await;
    let lag = || async { line(&world, "lag").await.0 };
    until("the lag is known", MIGRATION, lag, |level| level == "ok").await;
    prints(&world, "CUTOVER MIGRATION m", &[waived]).await;
    run(waived).await;
    assert_eq!(world.status("state").await, "switched");
    prints(&world, "CLEAR SWITCH MARK ON blue FOR ROUTE shop", &["FINISH MIGRATION m first"]).await;
    let (level, fix) = line(&world, "way_back").await;
    assert_eq!((level.as_str(), fix.as_str()), ("warning", "FINISH MIGRATION m"));
    run(&fix).await;
    assert_eq!(line(&world, "way_back").await.0, "ok");
    prints(&world, "DROP MIGRATION m WITH (target_objects = 'drop')", &["DROP MIGRATION m without target_objects"])
        .await;
    run("DROP MIGRATION m").await;
    prints(&world, other, &["CREATE MIGRATION n FROM green TO …"]).await;
    run("CREATE MIGRATION n FROM green TO blue FOR ROUTE shop").await;
    run("DROP MIGRATION n").await;
}
