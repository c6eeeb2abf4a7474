//! Full disks, and servers that stand still: clients are served again within the hold and a second, and nobody is told.

use std::time::{Duration, Instant};

use tests::headgate::signal_server;
use tests::mysql::{Mysql, Pair, Record, rows, single};
use tests::wait::{SOON, until, within};
use tests::world::{DATABASE, MIGRATION, World};

const SCHEMA: &str =
    "CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(40)) ENGINE = InnoDB;
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
        let refusing = world
            .headgate
            .refused("CUTOVER MIGRATION m WITH (max_hold = '2s')");
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
    within(
        "clients are served after a restart on a full disk",
        Duration::from_secs(5),
        rows(&mut client, write),
    )
    .await;
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
    let cutting = world
        .headgate
        .refused("CUTOVER MIGRATION m WITH (max_hold = '3s')");
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
