//! The command line keeps what its help says: ends, exit codes, signals, and files that are named as they are called.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tests::client::Raw;
use tests::headgate::{Engine, Headgate, binary, signal};
use tests::message::query;
use tests::mysql::disposable::Kind;
use tests::mysql::{Mysql, raw};
use tests::postgres::Postgres;
use tests::wait::{SOON, until, within};
use tests::world::{DATABASE, MIGRATION, World, mysql_route_to, route_to};
use tokio::process::Command;

const SCHEMA: &str =
    "create table t (id int primary key, v text); insert into t select n, 'x' from generate_series(1, 1000) n";

/// Runs `headgate migrate` to its end: its exit code and all that it said.
async fn migrate(folder: &std::path::Path, ends: [u16; 2], more: &[&str]) -> (Option<i32>, String) {
    let url = |port: u16| format!("postgresql://postgres@127.0.0.1:{port}/{DATABASE}");
    let mut command = Command::new(binary());
    command
        .args(["migrate", "--from", &url(ends[0]), "--to", &url(ends[1])])
        .arg("--journal")
        .arg(folder)
        .args(more)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = within("it ends", Duration::from_mins(1), command.output()).await.expect("it can be run");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn migrate_ends_when_it_says_so_and_tells_by_its_exit_code_how() {
    let (source, target) = tokio::join!(Postgres::start(14), Postgres::start(18));
    for server in [&source, &target] {
        let create = format!("create database {DATABASE}");
        server.sql("postgres", &create).await;
    }
    source.sql(DATABASE, SCHEMA).await;
    // Its folder is all that is needed of it.
    let headgate = Headgate::prepare("");
    let journal = headgate.folder().join("moves");
    let ends = [source.port(), target.port()];

    // Without --cutover: ready, plain lines, the source untouched.
    let (code, said) = migrate(&journal, ends, &[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("ready; the same command"), "{said}");
    assert!(said.contains("of about"), "no plain lines: {said}");
    source.sql(DATABASE, "insert into t values (0, 'later')").await;

    // Another database in the same folder is refused, and the first is not harmed.
    let other = format!("postgresql://postgres@127.0.0.1:{}/postgres", ends[0]);
    let there = format!("postgresql://postgres@127.0.0.1:{}/postgres", ends[1]);
    let mut command = Command::new(binary());
    command.args(["migrate", "--from", &other, "--to", &there, "--journal"]).arg(&journal);
    let output = within("it ends", SOON, command.output()).await;
    let output = output.expect("it can be run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("belongs to the migration of shop"), "{said}");

    let (code, said) = migrate(&journal, ends, &["--cutover"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(target.value(DATABASE, "select count(*) from t").await, "1001");
    let (code, said) = migrate(&journal, ends, &["--cutover"]).await;
    assert!(code == Some(0) && said.contains("serves already"), "{said}");
}

#[tokio::test]
async fn migrate_that_is_interrupted_says_so_by_its_exit_code_and_can_be_given_up() {
    let (source, target) = tokio::join!(Postgres::start(14), Postgres::start(18));
    for server in [&source, &target] {
        let create = format!("create database {DATABASE}");
        server.sql("postgres", &create).await;
    }
    source.sql(DATABASE, SCHEMA).await;
    let headgate = Headgate::prepare("");
    let journal = headgate.folder().join("moves");
    let ends = [source.port(), target.port()];
    // Its start waits for this transaction.
    let blocker = source.connect(DATABASE).await;
    tests::postgres::rows(&blocker, "begin; insert into t values (-1, 'blocker')").await;
    let mut command = Command::new(binary());
    let url = |port: u16| format!("postgresql://postgres@127.0.0.1:{port}/{DATABASE}");
    command
        .args(["migrate", "--from", &url(ends[0]), "--to", &url(ends[1])])
        .arg("--journal")
        .arg(&journal)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut moving = command.spawn().expect("it can be run");
    let slots = "select count(*) from pg_replication_slots";
    let waits = || source.value(DATABASE, slots);
    until("it waits", SOON, waits, |count| count == "1").await;
    signal(moving.id().expect("it runs"), "INT").await;
    let status = within("it ends", SOON, moving.wait()).await.expect("ended");
    assert_eq!(status.code(), Some(3));
    tests::postgres::rows(&blocker, "commit").await;
    let (code, said) = migrate(&journal, ends, &["--drop"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(source.value(DATABASE, slots).await, "0");
}

#[tokio::test]
async fn a_wish_that_cannot_be_met_is_refused_and_a_file_is_named_as_it_is_called() {
    let mut command = Command::new(binary());
    command.args([
        "migrate",
        "--from",
        "postgresql://me@localhost/shop?sslmode=allow",
        "--to",
        "postgresql://me@localhost/shop",
    ]);
    let output = within("it ends", SOON, command.output()).await;
    let said = String::from_utf8_lossy(&output.expect("run").stderr).into_owned();
    assert!(said.contains("sslmode=allow is not accepted") && said.contains("verify-full"), "{said}");

    let headgate = Headgate::prepare("");
    let file = headgate.folder().join("other.toml");
    std::fs::write(&file, "[listen\n").expect("the folder is ours");
    let mut command = Command::new(binary());
    command.args(["check-config", "--config"]).arg(&file);
    let output = within("it ends", SOON, command.output()).await;
    let said = String::from_utf8_lossy(&output.expect("run").stderr).into_owned();
    assert!(said.contains("other.toml") && !said.contains("headgate.toml"), "{said}");
}

#[tokio::test]
async fn a_hangup_never_ends_the_program_and_the_file_tells_where_a_cutover_moved_a_route() {
    let mut world = World::start(SCHEMA).await;
    world.follow().await;
    world.check().await;
    world.cutover().await;
    let file = world.headgate.folder().join("headgate.toml");
    let added = |text: &str| format!("{text}[users.clerk]\npassword = \"x\"\n");
    let said = world.headgate.reload(added).await;
    assert!(said.contains("counts from now on"), "{said}");
    let client = world.client().await;
    tests::postgres::rows(&client, "select 1").await;
    let shown = world.headgate.admin("SHOW CONFIG").await;
    let moved = shown.iter().any(|row| row.values().any(|value| value.contains("moved the route to green")));
    assert!(moved, "{shown:?}");
    drop(client);
    assert_eq!(world.headgate.stop().await, Some(0));
    let mut command = Command::new(binary());
    command.args(["check-config", "--config"]).arg(&file);
    let output = within("it ends", SOON, command.output()).await.expect("run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("a cutover moved the route to \"green\""), "{said}");
}

#[tokio::test]
async fn the_configuration_of_the_readme_is_in_order_and_lets_its_application_in() {
    let readme = include_str!("../../../README.md");
    let block = readme.split("```toml\n").nth(1).expect("a configuration");
    let text = block.split("```").next().expect("its end");
    let headgate = Headgate::prepare("");
    let file = headgate.folder().join("readme.toml");
    std::fs::write(&file, text).expect("the folder is ours");
    let mut command = Command::new(binary());
    command.args(["check-config", "--config"]).arg(&file).envs([
        ("HEADGATE_ADMIN_PASSWORD", "a"),
        ("BLUE_PASSWORD", "b"),
        ("GREEN_PASSWORD", "c"),
        ("APP_PASSWORD", "d"),
    ]);
    let output = within("it ends", SOON, command.output()).await.expect("run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.is_empty(), "{said}");
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_no_session_and_no_cutover() {
    let mut world = World::start(SCHEMA).await;
    world.follow().await;
    world.check().await;
    world.headgate.kill().await;
    world.headgate.launch_unheard().await;
    world.until_state("following", MIGRATION).await;
    let client = world.client().await;
    let rehearsed = world.row("REHEARSE MIGRATION m").await;
    assert_eq!(rehearsed.get("outcome").map(String::as_str), Some("rehearsed"));
    world.cutover().await;
    let version = tests::postgres::rows(&client, "show server_version_num").await;
    assert!(tests::postgres::single(&version, "it").starts_with("18"));
    let page = world.headgate.page("/metrics").await;
    let lost = page
        .lines()
        .find_map(|line| line.strip_prefix("headgate_log_lines_lost_total "))
        .and_then(|count| count.parse::<u64>().ok());
    assert!(lost.is_some_and(|lost| lost > 10), "{lost:?}");
}

#[tokio::test]
async fn a_stop_ends_within_its_limit_whatever_clients_do() {
    let postgres = Postgres::start(15).await;
    let limits = "[limits]\ndrain_timeout = \"1s\"\n";
    let sections = [&route_to(postgres.port(), "postgres"), limits].concat();
    let mut headgate = Headgate::start(&sections).await;
    let port = headgate.port();
    let open = headgate.connect("postgres", "postgres").await;
    tests::postgres::rows(&open, "begin; select 1").await;
    let mut deaf = Raw::login(port, "postgres", "postgres").await;
    deaf.send(&query("select repeat('x', 1000) from generate_series(1, 200000)")).await;
    until_clogged(&headgate).await;
    let _half = Raw::connect(port).await;
    let _console = headgate.console().await;
    let mut scraper = Raw::connect(headgate.http_port()).await;
    scraper.send(b"GET /metrics HTTP/1.1\r\n").await;
    ends_in_time(&mut headgate).await;
}

#[tokio::test]
async fn a_stop_of_one_for_mysql_ends_within_its_limit_whatever_clients_do() {
    let mysql = Mysql::start(Kind::Mysql97).await;
    mysql.make_database(DATABASE).await;
    let limits = "[limits]\ndrain_timeout = \"1s\"\n";
    let sections = [&mysql_route_to(mysql.port(), DATABASE), limits].concat();
    let mut headgate = Headgate::start_for(Engine::Mysql, &sections).await;
    let port = headgate.port();
    let mut open = headgate.connect_mysql("root", "", DATABASE).await;
    tests::mysql::rows(&mut open, "BEGIN").await;
    let mut next = headgate.connect_mysql("root", "", DATABASE).await;
    let set = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE";
    tests::mysql::rows(&mut next, set).await;
    let (mut deaf, _) = raw::Raw::login(port, "root", DATABASE).await;
    let rows = raw::command(3, b"SELECT REPEAT('x', 60000)");
    deaf.send(&rows.repeat(500)).await;
    until_clogged(&headgate).await;
    let _half = raw::Raw::connect(port).await;
    let _console = headgate.mysql_console().await;
    ends_in_time(&mut headgate).await;
}

/// Resolves once a client that does not read has been sent what it takes without reading.
async fn until_clogged(headgate: &Headgate) {
    let carried = || async {
        let page = headgate.page("/metrics").await;
        let lines = page.lines().filter(|line| line.starts_with("headgate_bytes_total"));
        let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        counts.sum::<u64>()
    };
    let mut before = carried().await;
    until("nothing flows", SOON, carried, |now| *now > 100_000 && std::mem::replace(&mut before, *now) == *now).await;
}

async fn ends_in_time(headgate: &mut Headgate) {
    let begun = Instant::now();
    assert_eq!(headgate.stop().await, Some(0));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "it took {took:?}");
}

/// What `headgate grants` prints.
async fn grants(arguments: &[&str]) -> String {
    let mut command = Command::new(binary());
    command.arg("grants").args(arguments).kill_on_drop(true);
    let output = within("it ends", SOON, command.output()).await;
    let output = output.expect("it can be run");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn the_printed_rights_run_as_they_stand_once_a_password_is_given() {
    let server = Postgres::start(14).await;
    server.sql("postgres", &format!("create database {DATABASE}")).await;
    server.sql(DATABASE, SCHEMA).await;
    for side in ["source", "target"] {
        let user = format!("mover {side}");
        let asked = ["--engine", "postgres", "--for", side, "--database", DATABASE];
        let more = ["--user", &user, "--server-version", "14"];
        let script = grants(&[&asked[..], &more[..]].concat()).await;
        assert!(!script.to_lowercase().contains("rdsadmin"), "{script}");
        let given = script.replace(":'password'", "'secret'");
        assert_ne!(script, given, "a password has its place");
        server.sql(DATABASE, &given).await;
        let made = format!("select 1 / count(*) from pg_roles where rolname = '{user}' and rolcanlogin");
        server.sql(DATABASE, &made).await;
    }
    for engine in ["mysql", "mariadb"] {
        let asked = ["--engine", engine, "--for", "source", "--database", "a_b", "--database", "c"];
        let script = grants(&asked).await;
        for part in ["`a\\_b`.*", "`c`.*", "IDENTIFIED BY <password>", "'headgate'@'%'"] {
            assert!(script.contains(part), "{part}: {script}");
        }
    }
}
