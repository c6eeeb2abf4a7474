//! Full disks, and servers that stand still: clients are served again within the hold and a second, and nobody is told.

use std::time::{Duration, Instant};

use tests::headgate::signal_server;
use tests::postgres::{Record, rows, single, try_connect};
use tests::wait::{SOON, until, within};
use tests::world::{DATABASE, MIGRATION, World};

const SCHEMA: &str =
    "create table t (id bigserial primary key, v text); insert into t (v) select 'old' from generate_series(1, 100)";

/// Room for the journal, its log, what is reserved, and the log file.
const DISK_KIB: u32 = 1200;

async fn stage_is(world: &World, stage: &str) {
    let ask = || world.status("stage");
    until(stage, SOON, ask, |shown| shown == stage).await;
}

#[tokio::test]
async fn a_disk_that_fills_up_during_a_cutover_costs_nobody_anything() {
    let Some((mut world, disk)) = World::start_on_small_disk(SCHEMA, DISK_KIB).await else {
        return;
    };
    world.follow().await;
    world.check().await;

    // Full before it begins, without anything in reserve: refused, and the gate stays open.
    disk.fill();
    let (_, text) = world.headgate.refused("CUTOVER MIGRATION m").await;
    assert!(text.contains("journal") && text.contains("room"), "{text}");
    let client = world.client().await;
    rows(&client, "insert into t (v) values ('a')").await;
    disk.free();

    // Full from Holding on: the undo is recorded in the room that was reserved.
    world.row("REHEARSE MIGRATION m").await;
    let slow = world.client().await;
    rows(&slow, "begin; insert into t (v) values ('slow')").await;
    let filling = async {
        stage_is(&world, "Holding").await;
        disk.fill();
        let begun = Instant::now();
        rows(&client, "insert into t (v) values ('held')").await;
        begun.elapsed()
    };
    let ((_, text), held) = tokio::join!(world.headgate.refused("CUTOVER MIGRATION m WITH (max_hold = '2s')"), filling);
    assert!(text.contains("still open"), "{text}");
    assert!(held < Duration::from_secs(3), "held for {held:?}");
    eprintln!("full from Holding on, undone: held for {held:?}");

    // The same with a kill: what starts again on the full disk serves the source.
    let console = world.headgate.console().await;
    let cutting =
        tokio::spawn(async move { console.simple_query("CUTOVER MIGRATION m WITH (max_hold = '20s')").await.is_err() });
    stage_is(&world, "Holding").await;
    world.headgate.kill().await;
    assert!(cutting.await.expect("no panic"));
    disk.fill();
    let begun = Instant::now();
    world.headgate.launch().await;
    let client = world.client().await;
    within(
        "clients are served after a restart on a full disk",
        Duration::from_secs(5),
        rows(&client, "insert into t (v) values ('after the kill')"),
    )
    .await;
    eprintln!("killed in Holding, full disk: served after {:?}", begun.elapsed());
    disk.free();
    world.until_state("following", MIGRATION).await;

    // Full from Holding on, and all goes well: switched.
    world.row("REHEARSE MIGRATION m").await;
    let slow = world.client().await;
    rows(&slow, "begin; insert into t (v) values ('last')").await;
    let filling = async {
        stage_is(&world, "Holding").await;
        disk.fill();
        rows(&slow, "commit").await;
    };
    let (report, ()) = tokio::join!(world.cutover(), filling);
    assert_eq!(report.get("errors").map(String::as_str), Some("0"));
    rows(&client, "insert into t (v) values ('on the target')").await;
    let version = single(&rows(&client, "show server_version_num").await, "it");
    assert!(version.starts_with("18"), "{version}");

    // The log's disk is full as well; a restart finds the switch.
    let lost = || async {
        world.row("SHOW ROUTES").await;
        let page = world.headgate.page("/metrics").await;
        let mut lines = page.lines();
        lines.find_map(|line| line.strip_prefix("headgate_log_lines_lost_total ")).map(str::to_owned)
    };
    until("lines are counted as lost", SOON, lost, |lost| lost.as_deref().is_some_and(|lost| lost != "0")).await;
    world.headgate.kill().await;
    world.headgate.launch().await;
    let again = world.client().await;
    let version = single(&rows(&again, "show server_version_num").await, "it");
    assert!(version.starts_with("18"), "{version}");
    let counted = "select count(*) from t where v <> 'old'";
    assert_eq!(world.target.value(DATABASE, counted).await, "5");
}

#[tokio::test]
async fn a_source_that_stands_still_during_the_hold_shows_nobody_its_fence() {
    stands_still_for(Duration::from_secs(4)).await;
}

/// The gate is opened by then, whatever the fence does.
#[tokio::test]
async fn a_source_that_stands_still_for_longer_than_an_undo_waits_shows_nobody_its_fence() {
    stands_still_for(Duration::from_secs(35)).await;
}

/// Clients that write until they are told to stop, and count; any error ends them.
fn writing(world: &World) -> (tokio::sync::watch::Sender<bool>, Vec<tokio::task::JoinHandle<u64>>) {
    let port = world.headgate.port();
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = (0..16)
        .map(|number| {
            let mut stopping = stopping.clone();
            tokio::spawn(async move {
                let client = try_connect(port, "postgres", None, DATABASE).await.expect("a session");
                let mut written = 0_u64;
                while !*stopping.borrow_and_update() {
                    let write = format!("insert into t (v) values ('{number}-{written}')");
                    client.simple_query(&write).await.unwrap_or_else(|error| panic!("{write}: {error:?}"));
                    written += 1;
                }
                written
            })
        })
        .collect();
    (stop, writers)
}

async fn stands_still_for(pause: Duration) {
    let patient = "[limits]\nhold_timeout = \"90s\"\n";
    let world = World::start_with(SCHEMA, patient).await;
    world.follow().await;
    world.check().await;
    let (stop, writers) = writing(&world);
    let pid = |server: &tests::postgres::Postgres| server.server.pid().expect("it runs");
    let (source, target) = (pid(&world.source), pid(&world.target));
    let slow = world.client().await;
    rows(&slow, "begin; insert into t (v) values ('slow')").await;
    let cutting = world.headgate.refused("CUTOVER MIGRATION m WITH (max_hold = '3s')");
    let standing = async {
        stage_is(&world, "Holding").await;
        // The fence is up when the source stands still, because the target stands still already.
        signal_server(target, "STOP").await;
        rows(&slow, "commit").await;
        stage_is(&world, "CatchingUp").await;
        signal_server(source, "STOP").await;
        stage_is(&world, "Undoing").await;
        tokio::time::sleep(pause).await;
        let page = world.headgate.page("/readyz").await;
        signal_server(target, "CONT").await;
        signal_server(source, "CONT").await;
        assert!(page.contains("route shop is held by migration m"), "{page}");
        let begun = Instant::now();
        let ask = || world.row("SHOW ROUTES");
        let open = |row: &Record| row.get("gate").is_some_and(|gate| gate == "open");
        until("the gate is open", SOON, ask, open).await;
        eprintln!("open {:?} after the source went on", begun.elapsed());
    };
    let round = async { tokio::join!(cutting, standing) };
    within("the round", MIGRATION + pause, Box::pin(round)).await;
    world.until_state("following", MIGRATION).await;
    let before = world.source.value(DATABASE, "select count(*) from t").await;
    let more = format!("select count(*) > {before} from t");
    world.source.until_value(DATABASE, &more, "t").await;
    stop.send_replace(true);
    let mut written = 101;
    for writer in writers {
        written += writer.await.expect("no writer was shown an error");
    }
    let counted = world.source.value(DATABASE, "select count(*) from t").await;
    assert_eq!(counted, written.to_string());
}

/// Sealed, and not decided: the target's side of the same step is kept waiting.
#[tokio::test]
async fn a_source_that_stands_still_once_it_is_sealed_and_not_decided_shows_nobody_its_fence() {
    let patient = "[limits]\nhold_timeout = \"90s\"\n";
    let world = World::start_with(SCHEMA, patient).await;
    world.follow().await;
    world.check().await;
    let (stop, writers) = writing(&world);
    let locking = world.target.connect(DATABASE).await;
    rows(
        &locking,
        "begin; select 1 from pg_proc where pronamespace = 'headgate'::regnamespace and proname = 'headgate_m' for update",
    )
    .await;
    let source = world.source.server.pid().expect("it runs");
    // A way back could not be armed while a transaction is open on the target.
    let cutting = world.headgate.refused("CUTOVER MIGRATION m WITH (max_hold = '3s', way_back = 'none')");
    let standing = async {
        stage_is(&world, "Checking").await;
        let sealed = "select count(*) from headgate.switches where migration = 'm'";
        world.source.until_value(DATABASE, sealed, "1").await;
        signal_server(source, "STOP").await;
        stage_is(&world, "Undoing").await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        rows(&locking, "rollback").await;
        signal_server(source, "CONT").await;
        let begun = Instant::now();
        let ask = || world.row("SHOW ROUTES");
        let open = |row: &Record| row.get("gate").is_some_and(|gate| gate == "open");
        until("the gate is open", SOON, ask, open).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(4), "{took:?}");
        eprintln!("sealed, stalled for 4 s: open {took:?} after the source went on");
    };
    let round = async { tokio::join!(cutting, standing) };
    within("the round", MIGRATION, Box::pin(round)).await;
    world.until_state("following", MIGRATION).await;
    let before = world.source.value(DATABASE, "select count(*) from t").await;
    let more = format!("select count(*) > {before} from t");
    world.source.until_value(DATABASE, &more, "t").await;
    stop.send_replace(true);
    let mut written = 100;
    for writer in writers {
        written += writer.await.expect("no writer was shown an error");
    }
    let counted = world.source.value(DATABASE, "select count(*) from t").await;
    assert_eq!(counted, written.to_string());
    // The proof and the guard are as they were: the next one goes through.
    world.check().await;
    world.cutover().await;
}

/// Sealed and decided: who is new is served by the target at once, whatever the source does.
#[tokio::test]
async fn a_source_that_stands_still_at_the_decision_keeps_nobody_from_the_target() {
    let world = World::start(SCHEMA).await;
    world.follow().await;
    world.check().await;
    let source = world.source.server.pid().expect("it runs");
    let idle = world.client().await;
    let slow = world.client().await;
    rows(&slow, "begin; insert into t (v) values ('slow')").await;
    let held = world.client().await;
    let cutting = world.cutover();
    let standing = async {
        stage_is(&world, "Holding").await;
        let writing = rows(&held, "insert into t (v) values ('held')");
        let deciding = async {
            let held = || async { world.row("SHOW ROUTES").await };
            until("it is held", SOON, held, |row| row.get("statements_held").is_some_and(|count| count == "1")).await;
            rows(&slow, "commit").await;
            // Nothing waits between two looks: the sessions are on their way by then, or not yet.
            let decided = async {
                while !world.headgate.log().contains("state=\"Switching\"") {
                    tokio::task::yield_now().await;
                }
            };
            within("the decision", SOON, decided).await;
            signal_server(source, "STOP").await;
            let begun = Instant::now();
            let new = world.client().await;
            rows(&new, "insert into t (v) values ('new')").await;
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(3), "{took:?}");
            tokio::time::sleep(Duration::from_secs(2)).await;
            signal_server(source, "CONT").await;
            let begun = Instant::now();
            rows(&idle, "insert into t (v) values ('idle')").await;
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(3), "{took:?}");
        };
        tokio::join!(writing, deciding)
    };
    let round = async { tokio::join!(cutting, standing) };
    within("the round", MIGRATION, Box::pin(round)).await;
    let counted = "select string_agg(v, ',' order by v) from t where v <> 'old'";
    assert_eq!(world.target.value(DATABASE, counted).await, "held,idle,new,slow");
    world.source.until_value(DATABASE, counted, "held,idle,new,slow").await;
}
