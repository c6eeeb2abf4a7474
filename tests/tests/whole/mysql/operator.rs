//! What the operator is shown is true: while a side is away, before the switch and after it.

use mysql_async::Conn;
use tests::headgate::signal_server;
use tests::mysql::{Mysql, Pair, connect, rows, try_connect, try_records};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, PASSWORD, USER, World};

const SCHEMA: &str = "CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(40)) ENGINE = InnoDB;
    INSERT INTO t (v) VALUES ('old')";

/// The line of readiness that sums up.
async fn ready(world: &World<Mysql>) -> String {
    let lines = world.headgate.admin("SHOW READINESS m").await;
    let first = lines.first().expect("a first line");
    assert_eq!(first.get("check").map(String::as_str), Some("ready"));
    first.get("evidence").cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_side_that_is_away_is_seen_in_status_readiness_and_metrics_and_comes_back() {
    let world = World::of(Pair::Mariadb1011to1011, SCHEMA).await;
    world.follow().await;
    world.check().await;
    let page = world.headgate.page("/readyz").await;
    assert!(page.contains(" 200 "), "{page}");
    // The target: what is applied there cannot be known either.
    let pid = world.target.server.pid().expect("it runs");
    signal_server(pid, "STOP").await;
    let lag = || async {
        let lag = world.status("lag_ms").await;
        lag.parse::<f64>().unwrap_or_default()
    };
    until("the lag grows", SOON, lag, |lag| *lag > 8_000.0).await;
    assert_ne!(world.status("interrupted_since").await, "");
    assert_ne!(world.status("error_message").await, "", "nobody says why");
    let first = ready(&world).await;
    assert!(first.starts_with("NOT READY: "), "{first}");
    // Clients are on the source, so that Headgate is ready for them.
    let page = world.headgate.page("/readyz").await;
    assert!(page.contains(" 200 "), "{page}");
    let page = world.headgate.page("/metrics").await;
    for line in [
        "\nheadgate_cluster_up{cluster=\"blue\"} 1\n",
        "\nheadgate_cluster_up{cluster=\"green\"} 0\n",
        "\nheadgate_migration_interrupted{migration=\"m\"} 1\n",
    ] {
        assert!(page.contains(line), "no {line} in {page}");
    }
    signal_server(pid, "CONT").await;
    until("the lag is small again", SOON, lag, |lag| *lag < 1_500.0).await;
    let reported = || world.status("error_message");
    until("nothing is wrong", SOON, reported, String::is_empty).await;

    // A wrong password and every statement are in the log, secrets are not.
    let port = world.headgate.port();
    try_connect(port, USER, Some("a guess"), DATABASE).await.expect_err("a wrong password");
    let log = world.headgate.logged(&["a login failed", "START MIGRATION m"]).await;
    assert!(!log.contains("a guess"), "a secret is in the log");

    // After the switch: what is left to do, then the end of it.
    world.until_state("following", MIGRATION).await;
    world.cutover().await;
    let first = ready(&world).await;
    assert!(first.starts_with("SWITCHED"), "{first}");
    world.headgate.admin("FINISH MIGRATION m").await;
    assert_eq!(world.status("state").await, "finished");
    let write = world.write_around("INSERT INTO t (v) VALUES ('late')").await;
    assert!(write.is_err(), "the refusal went with the migration");
    world.headgate.admin("DROP MIGRATION m").await;
    let report = world.row("SHOW CUTOVER REPORT m").await;
    assert_eq!(report.get("outcome").map(String::as_str), Some("switched"));
}

#[tokio::test]
async fn a_cutover_for_which_the_target_has_too_few_connections_is_refused_and_the_clients_stay() {
    let world = World::of(Pair::Mysql97to97, SCHEMA).await;
    let limit = format!("ALTER USER {USER} WITH MAX_USER_CONNECTIONS 8");
    world.source.sql("", &limit).await;
    world.follow().await;
    world.check().await;
    let mut clients: Vec<Conn> = Vec::new();
    for _ in 0..4 {
        clients.push(world.client().await);
    }
    // Somebody else is on the target already.
    let mut others: Vec<Conn> = Vec::new();
    for _ in 0..8 {
        others.push(connect(world.target.port(), USER, Some(PASSWORD), DATABASE).await);
    }
    let (code, text) = world.headgate.refused("CUTOVER MIGRATION m").await;
    assert!(code == "55000" && text.contains("sessions of route shop cannot be opened on green"), "{code} {text}");
    for client in &mut clients {
        rows(client, "INSERT INTO t (v) VALUES ('on the source')").await;
    }
    for other in others {
        other.disconnect().await.expect("it leaves");
    }
    let went = async || {
        let mut console = world.headgate.mysql_console().await;
        try_records(&mut console, "CUTOVER MIGRATION m WITH (waive_accounts = 'app')").await
    };
    let _went = until("there is room again", SOON, went, Result::is_ok).await;
    for client in &mut clients {
        rows(client, "INSERT INTO t (v) VALUES ('on the target')").await;
    }
}
