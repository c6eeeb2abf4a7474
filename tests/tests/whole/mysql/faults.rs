//! Full disks, servers that stand still, and an old source that is restarted: clients are served again within the hold and
//! a second, nobody is told, and the refusal stands.

use std::time::{Duration, Instant};

use tests::headgate::signal_server;
use tests::mysql::{Mysql, Pair, Record, rows, single};
use tests::wait::{SOON, until, within};
use tests::world::{DATABASE, MIGRATION, World};

const SCHEMA: &str = "CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(40)) ENGINE = InnoDB;
    INSERT INTO t (v) VALUES ('old')";

/// Room for the journal, its log, what is reserved, and the log file.
const DISK_KIB: u32 = 1200;

async fn stage_is(world: &World<Mysql>, stage: &str) {
    let ask = || world.status("stage");
    until(stage, SOON, ask, |shown| shown == stage).await;
}

/// What the journal does is the same for all, and the fence of the others is one of these.
#[tokio::test]
async fn a_disk_that_fills_up_during_a_cutover_costs_nobody_anything() {
    fills_up(Pair::Mysql97to97).await;
    fills_up(Pair::Mariadb1011to1011).await;
}

async fn fills_up(pair: Pair) {
    let Some((mut world, disk)) = World::of_small_disk(pair, SCHEMA, DISK_KIB).await else {
        return;
    };
    world.follow().await;
    world.check().await;

    // Full before it begins, without anything in reserve: refused, and the gate stays open.
    disk.fill();
    let (_, text) = world.headgate.refused("CUTOVER MIGRATION m").await;
    assert!(text.contains("journal") && text.contains("room"), "{text}");
    let mut client = world.client().await;
    rows(&mut client, "INSERT INTO t (v) VALUES ('a')").await;
    disk.free();

    // Killed in Holding; what starts again on the full disk serves the source.
    world.row("REHEARSE MIGRATION m").await;
    let mut slow = world.client().await;
    rows(&mut slow, "BEGIN").await;
    rows(&mut slow, "INSERT INTO t (v) VALUES ('slow')").await;
    let cutting = async {
        let refusing = world.headgate.refused("CUTOVER MIGRATION m WITH (max_hold = '2s')");
        let filling = async {
            stage_is(&world, "Holding").await;
            disk.fill();
            let begun = Instant::now();
            rows(&mut client, "INSERT INTO t (v) VALUES ('held')").await;
            begun.elapsed()
        };
        tokio::join!(refusing, filling)
    };
    let ((_, text), held) = cutting.await;
    assert!(text.contains("still open"), "{text}");
    assert!(held < Duration::from_secs(3), "held for {held:?}");
    eprintln!("full from Holding on, undone: held for {held:?}");
    world.headgate.kill().await;
    let begun = Instant::now();
    world.headgate.launch().await;
    let mut client = world.client().await;
    let write = "INSERT INTO t (v) VALUES ('after the kill')";
    within("clients are served after a restart on a full disk", Duration::from_secs(5), rows(&mut client, write)).await;
    eprintln!("full disk, killed: served after {:?}", begun.elapsed());
    disk.free();
    world.until_state("following", MIGRATION).await;

    // Full from Holding on, and all goes well: switched.
    world.row("REHEARSE MIGRATION m").await;
    let mut slow = world.client().await;
    rows(&mut slow, "BEGIN").await;
    rows(&mut slow, "INSERT INTO t (v) VALUES ('last')").await;
    let filling = async {
        stage_is(&world, "Holding").await;
        disk.fill();
        rows(&mut slow, "COMMIT").await;
    };
    let (report, ()) = tokio::join!(world.cutover(), filling);
    assert_eq!(report.get("errors").map(String::as_str), Some("0"));
    rows(&mut client, "INSERT INTO t (v) VALUES ('on the target')").await;
    world.headgate.kill().await;
    world.headgate.launch().await;
    let mut again = world.client().await;
    let port = single(&rows(&mut again, "SELECT @@port").await, "the port");
    assert_eq!(port, world.target.port().to_string());
    let counted = "SELECT COUNT(*) FROM t WHERE v <> 'old'";
    assert_eq!(world.target.value(DATABASE, counted).await, "5");
}

#[tokio::test]
async fn a_source_that_stands_still_during_the_hold_shows_nobody_its_fence() {
    let world = World::of(Pair::Mysql97to97, SCHEMA).await;
    world.follow().await;
    world.check().await;
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let mut writers = Vec::new();
    for number in 0..8 {
        let mut client = world.client().await;
        let mut stopping = stopping.clone();
        writers.push(tokio::spawn(async move {
            let mut written = 0_u64;
            while !*stopping.borrow_and_update() {
                let write = format!("INSERT INTO t (v) VALUES ('{number}-{written}')");
                rows(&mut client, &write).await;
                written += 1;
            }
            written
        }));
    }
    let pid = |server: &Mysql| server.server.pid().expect("it runs");
    let (source, target) = (pid(&world.source), pid(&world.target));
    let mut slow = world.client().await;
    rows(&mut slow, "BEGIN").await;
    rows(&mut slow, "INSERT INTO t (v) VALUES ('slow')").await;
    let cutting = world.headgate.refused("CUTOVER MIGRATION m WITH (max_hold = '3s')");
    let standing = async {
        stage_is(&world, "Holding").await;
        // The fence is up when the source stands still, because the target stands still already.
        signal_server(target, "STOP").await;
        rows(&mut slow, "COMMIT").await;
        stage_is(&world, "CatchingUp").await;
        signal_server(source, "STOP").await;
        stage_is(&world, "Undoing").await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        signal_server(target, "CONT").await;
        signal_server(source, "CONT").await;
        let begun = Instant::now();
        let ask = || world.row("SHOW ROUTES");
        let open = |row: &Record| row.get("gate").is_some_and(|gate| gate == "open");
        until("the gate is open", SOON, ask, open).await;
        eprintln!("open {:?} after the source went on", begun.elapsed());
    };
    let round = async { tokio::join!(cutting, standing) };
    within("the round", MIGRATION, Box::pin(round)).await;
    world.until_state("following", MIGRATION).await;
    let before = world.source.value(DATABASE, "SELECT COUNT(*) FROM t").await;
    let more = format!("SELECT COUNT(*) > {before} FROM t");
    world.source.until_value(DATABASE, &more, "1").await;
    stop.send_replace(true);
    let mut written = 2;
    for writer in writers {
        written += writer.await.expect("no writer was shown an error");
    }
    let counted = world.source.value(DATABASE, "SELECT COUNT(*) FROM t").await;
    assert_eq!(counted, written.to_string());
}

/// Sealed and decided: who is new is served by the target at once, whatever the source does.
#[tokio::test]
async fn a_source_that_stands_still_at_the_decision_keeps_nobody_from_the_target() {
    let world = World::of(Pair::Mysql97to97, SCHEMA).await;
    world.follow().await;
    world.check().await;
    let source = world.source.server.pid().expect("it runs");
    let (mut idle, mut slow, mut held) = tokio::join!(world.client(), world.client(), world.client());
    rows(&mut slow, "BEGIN; INSERT INTO t (v) VALUES ('slow')").await;
    let cutting = world.cutover();
    let standing = async {
        stage_is(&world, "Holding").await;
        let writing = rows(&mut held, "INSERT INTO t (v) VALUES ('held')");
        let deciding = async {
            let ask = || world.row("SHOW ROUTES");
            until("it is held", SOON, ask, |row| row.get("statements_held").is_some_and(|count| count == "1")).await;
            rows(&mut slow, "COMMIT").await;
            // Nothing waits between two looks: the sessions are on their way by then, or not yet.
            let decided = async {
                while !world.headgate.log().contains("state=\"Switching\"") {
                    tokio::task::yield_now().await;
                }
            };
            within("the decision", SOON, decided).await;
            signal_server(source, "STOP").await;
            let begun = Instant::now();
            let mut new = world.client().await;
            rows(&mut new, "INSERT INTO t (v) VALUES ('new')").await;
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(3), "{took:?}");
            tokio::time::sleep(Duration::from_secs(2)).await;
            signal_server(source, "CONT").await;
            let begun = Instant::now();
            rows(&mut idle, "INSERT INTO t (v) VALUES ('idle')").await;
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(3), "{took:?}");
        };
        tokio::join!(writing, deciding)
    };
    let round = async { tokio::join!(cutting, standing) };
    within("the round", MIGRATION, Box::pin(round)).await;
    let counted = "SELECT GROUP_CONCAT(v ORDER BY v) FROM t WHERE v <> 'old'";
    assert_eq!(world.target.value(DATABASE, counted).await, "held,idle,new,slow");
    world.source.until_value(DATABASE, counted, "held,idle,new,slow").await;
}

#[tokio::test]
async fn an_old_source_that_is_killed_and_restarted_still_refuses_writes_and_runs_no_events() {
    still_refuses(Pair::Mysql97to97).await;
    still_refuses(Pair::Mariadb1011to1011).await;
}

async fn still_refuses(pair: Pair) {
    let schema = format!("{SCHEMA}; CREATE EVENT tick ON SCHEDULE EVERY 1 HOUR DO INSERT INTO t (v) VALUES ('tick')");
    let mut world = World::of(pair, &schema).await;
    world.source.sql("", "SET GLOBAL event_scheduler = ON").await;
    world.follow().await;
    world.check().await;
    let warned = world.headgate.admin("SHOW MIGRATION CHECKS m").await;
    let reported = |row: &&Record| row.get("check").is_some_and(|name| name == "source_refusal");
    let reported = warned.iter().find(reported).expect("what a restart will do");
    assert!(reported.get("evidence").is_some_and(|text| text.contains("over a restart")));
    world.cutover().await;
    let steps = world.headgate.admin("SHOW READINESS m").await;
    let refusal = |row: &&Record| row.get("check").is_some_and(|name| name == "refusal");
    let refusal = steps.iter().find(refusal).expect("how the refusal stands");
    assert_eq!(refusal.get("level").map(String::as_str), Some("ok"), "{refusal:?}");

    world.source.server.kill().await.expect("it runs");
    world.source.server.restart().await.expect("it starts again");
    let write = "INSERT INTO t (v) VALUES ('around')";
    let around = world.write_around(write).await;
    assert!(around.is_err(), "{pair:?}: accepted after the restart");
    // And by those who could not be locked out, once Headgate has seen it.
    let closed = "SELECT @@GLOBAL.read_only = 1 AND @@GLOBAL.event_scheduler <> 'ON'";
    world.source.until_value("", closed, "1").await;
    world.headgate.kill().await;
    world.source.server.restart().await.expect("it starts again");
    let around = world.write_around(write).await;
    assert!(around.is_err(), "{pair:?}: accepted without Headgate");
    world.headgate.launch().await;
    world.source.until_value("", closed, "1").await;
    let count = "SELECT COUNT(*) FROM t WHERE v = 'around'";
    assert_eq!(world.source.value(DATABASE, count).await, "0");
}
