//! The harness's own servers are what the other tests take them for.

use std::path::Path;

use tests::client::Raw;
use tests::fault::{Fault, Relay};
use tests::mysql::disposable::{Kind, Options, Server, find};
use tests::mysql::{Login, Mysql, Pair, finish};
use tests::postgres::{Postgres, try_connect};
use tests::wait::{SOON, until, within};
use tests::world::million_numbers;
use tokio::io::{AsyncBufReadExt, BufReader};

async fn check(version: u32) {
    let mut postgres = Postgres::start(version).await;
    let said = postgres.value("postgres", "select version()").await;
    assert!(said.starts_with(&format!("PostgreSQL {version}.")), "{said}");
    assert_eq!(postgres.value("postgres", "show wal_level").await, "logical");

    postgres.sql("postgres", "create table kept (id int); insert into kept values (1)").await;
    postgres.server.kill().await.expect("a running server can be killed");
    assert!(try_connect(postgres.port(), "postgres", None, "postgres").await.is_err(), "it still accepts");
    postgres.server.restart().await.expect("a killed server starts again");
    assert_eq!(postgres.value("postgres", "select count(*) from kept").await, "1");

    let folder = postgres.server.data_dir();
    let port = postgres.port();
    drop(postgres);
    assert!(!folder.exists(), "{} is still there", folder.display());
    assert!(try_connect(port, "postgres", None, "postgres").await.is_err(), "it still accepts");
}

#[tokio::test]
async fn a_throwaway_postgres_14_answers_survives_a_kill_and_leaves_nothing() {
    check(14).await;
}

#[tokio::test]
async fn a_throwaway_postgres_15_answers_survives_a_kill_and_leaves_nothing() {
    check(15).await;
}

#[tokio::test]
async fn a_throwaway_postgres_18_answers_survives_a_kill_and_leaves_nothing() {
    check(18).await;
}

#[tokio::test]
async fn a_setting_that_the_server_refuses_is_told_with_the_servers_own_words() {
    let binaries = tests::postgres::disposable::find(15).expect("fetched before");
    let options = tests::postgres::disposable::Options::new(binaries).set("wal_level", "nonsense");
    let error = tests::postgres::disposable::Server::start(options).await.expect_err("such a level does not exist");
    assert!(error.to_string().contains("invalid value for parameter \"wal_level\""), "{error}");
}

async fn check_mysql(kind: Kind) {
    let mut mysql = Mysql::start(kind).await;
    let said = mysql.value("", "SELECT VERSION()").await;
    assert!(said.starts_with(&format!("{}.", kind.version())), "{said}");
    assert_eq!(said.contains("MariaDB"), kind == Kind::Mariadb1011, "{said}");
    assert_eq!(
        mysql.sql("", "SELECT @@log_bin, @@binlog_format, @@local_infile").await,
        [["1", "ROW", "1"].map(|value| Some(value.to_owned()))]
    );
    assert_eq!(mysql.value("mysql", "SELECT COUNT(*) FROM user WHERE user = ''").await, "0");
    for host in ["localhost", "127.0.0.1"] {
        let query = format!("SELECT COUNT(*) FROM user WHERE user = 'root' AND host = '{host}'");
        assert_eq!(mysql.value("mysql", &query).await, "1", "root at {host}");
    }

    mysql.make_database("shop").await;
    mysql.make_account("app", "secret", "shop").await;
    let mut client = tests::mysql::connect(mysql.port(), "app", Some("secret"), "shop").await;
    let kept = "CREATE TABLE kept (id INT) ENGINE = InnoDB; INSERT INTO kept VALUES (1)";
    tests::mysql::rows(&mut client, kept).await;
    let port = mysql.port();
    mysql.server.kill().await.expect("a running server can be killed");
    let refused = tests::mysql::try_connect(port, "root", None, "").await;
    assert!(refused.is_err(), "it still accepts");
    mysql.server.restart().await.expect("a killed server starts again");
    assert_eq!(mysql.port(), port);
    assert_eq!(mysql.value("shop", "SELECT COUNT(*) FROM kept").await, "1");
    mysql.server.restart().await.expect("a running server stops and starts again");
    assert_eq!(mysql.value("shop", "SELECT COUNT(*) FROM kept").await, "1");

    let folder = mysql.server.data_dir();
    drop(mysql);
    assert!(!folder.exists(), "{} is still there", folder.display());
    let refused = tests::mysql::try_connect(port, "root", None, "").await;
    assert!(refused.is_err(), "it still accepts");
}

#[tokio::test]
async fn a_throwaway_mysql_97_answers_survives_a_kill_and_leaves_nothing() {
    check_mysql(Kind::Mysql97).await;
}

#[tokio::test]
async fn a_throwaway_mysql_56_answers_survives_a_kill_and_leaves_nothing() {
    check_mysql(Kind::Mysql56).await;
}

#[tokio::test]
async fn a_throwaway_mariadb_1011_answers_survives_a_kill_and_leaves_nothing() {
    check_mysql(Kind::Mariadb1011).await;
}

#[tokio::test]
async fn two_throwaway_mysql_servers_are_different_servers() {
    for kind in [Kind::Mysql97, Kind::Mysql56] {
        let (one, other) = tokio::join!(Mysql::start(kind), Mysql::start(kind));
        for variable in ["@@server_uuid", "@@server_id"] {
            let query = format!("SELECT {variable}");
            assert_ne!(one.value("", &query).await, other.value("", &query).await, "{variable} of {}", kind.title());
        }
    }
}

async fn check_programs(pair: Pair) {
    const SECRET: &str = "a secret";
    let (source, target) = pair.start().await;
    for mysql in [&source, &target] {
        mysql.make_database("shop").await;
        mysql.make_account("app", SECRET, "shop").await;
        let login = Login { port: mysql.port(), user: "app", password: SECRET, database: "shop" };
        let table = "--execute=CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (7)";
        finish("mysql", SOON, login.mysql(&[table])).await;
        let asked = login.mariadb(&["--skip-column-names", "--execute=SELECT * FROM t"]);
        assert_eq!(finish("mariadb", SOON, asked).await, "7\n");
        let options = ["--skip-opt", "--no-tablespaces", "--compact"];
        let dumped = finish("dump", SOON, login.dump(mysql.server.kind(), &options)).await;
        assert!(dumped.contains("INSERT INTO `t` VALUES (7)"), "{dumped}");
        let fill = ["--tables=1", "--table-size=100", "oltp_read_write", "prepare"];
        finish("sysbench", SOON, login.sysbench(&fill)).await;
        assert_eq!(mysql.value("shop", "SELECT COUNT(*) FROM sbtest1").await, "100");
        let script = format!(
            "import importlib, sys
for name in ('pymysql', 'MySQLdb', 'mysql.connector'):
    driver = importlib.import_module(name)
    session = driver.connect(host='127.0.0.1', port={}, user='app', password='{SECRET}', database='shop')
    cursor = session.cursor()
    cursor.execute('SELECT id FROM t')
    print(cursor.fetchall()[0][0])",
            mysql.port()
        );
        let mut python = tests::mysql::python();
        python.args(["-c", &script]);
        assert_eq!(finish("python", SOON, python).await, "7\n7\n7\n");
    }
}

#[tokio::test]
async fn programs_and_drivers_of_both_families_log_in_to_mysql_56_and_97() {
    check_programs(Pair::Mysql56to97).await;
}

#[tokio::test]
async fn programs_and_drivers_of_both_families_log_in_to_mariadb_1011_and_mysql_97() {
    check_programs(Pair::Mariadb1011toMysql97).await;
}

#[tokio::test]
async fn bare_bytes_log_in_and_hear_every_result_of_every_server() {
    for kind in Kind::ALL {
        let mysql = Mysql::start(kind).await;
        let (mut raw, greeting) = tests::mysql::raw::Raw::login(mysql.port(), "root", "mysql").await;
        assert!(greeting.version.contains(kind.version()), "{greeting:?}");
        let packets = raw.query("SELECT CONNECTION_ID(); DO 1; SELECT '', 2").await;
        let row = &packets[3].body;
        assert_eq!(String::from_utf8_lossy(&row[1..]), greeting.id.to_string());
        // Two columns more, one of them with nothing in it, which looks like an OK.
        assert_eq!(packets.len(), 5 + 1 + 6, "{packets:?}");
        let error = raw.query("SELECT nonsense").await.pop().expect("an answer").error();
        assert_eq!((error.0, error.1.as_str()), (1054, "42S22"));
        raw.send_bytewise(&tests::mysql::raw::command(tests::mysql::raw::PING, &[])).await;
        assert!(raw.answer().await[0].is_ok());
        raw.send(&tests::mysql::raw::command(tests::mysql::raw::QUIT, &[])).await;
        assert_eq!(raw.packet().await, None);
    }
}

#[tokio::test]
async fn a_million_numbers_are_a_million_numbers_for_every_server() {
    for kind in Kind::ALL {
        let query = format!("SELECT CONCAT(COUNT(*), ' ', MIN(n), ' ', MAX(n)) FROM {}", million_numbers());
        let mysql = Mysql::start(kind).await;
        assert_eq!(mysql.value("", &query).await, "1000000 1 1000000", "{}", kind.title());
    }
}

#[tokio::test]
async fn gtids_of_a_throwaway_mysql_can_be_switched_off() {
    let on = Mysql::start(Kind::Mysql97).await;
    assert_eq!(on.value("", "SELECT @@gtid_mode").await, "ON");
    let off = Mysql::start_as(Kind::Mysql97, Options::without_gtid).await;
    assert_eq!(off.value("", "SELECT @@gtid_mode").await, "OFF");
}

#[tokio::test]
async fn an_argument_that_mysql_refuses_is_told_with_the_servers_own_words() {
    for kind in Kind::ALL {
        let binaries = find(kind).expect("fetched before");
        let options = Options::new(binaries).set("no-such-thing", "1");
        let error = Server::start(options).await.expect_err("such a setting does not exist");
        assert!(error.to_string().contains("unknown variable 'no-such-thing=1'"), "{error}");
    }
}

/// Says to this test that it is the one that gets killed.
const OWNER: &str = "HEADGATE_TEST_OWNER";

#[tokio::test]
async fn a_throwaway_server_ends_and_its_files_go_when_its_owner_is_killed() {
    if std::env::var_os(OWNER).is_some() {
        let (mysql, postgres) = tokio::join!(Mysql::start(Kind::Mariadb1011), Postgres::start(15));
        let folders = [mysql.server.data_dir(), postgres.server.data_dir()];
        let folders = folders.map(|folder| folder.display().to_string());
        println!("\nowned: {} {}", folders.join(" "), mysql.port());
        std::future::pending::<()>().await;
    }
    let mut owner = tokio::process::Command::new(std::env::current_exe().expect("a path"))
        .args(["--nocapture", "--exact"])
        .arg("servers::a_throwaway_server_ends_and_its_files_go_when_its_owner_is_killed")
        .env(OWNER, "1")
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("this program can be run");
    let mut lines = BufReader::new(owner.stdout.take().expect("piped")).lines();
    let owned = loop {
        let line = within("the owner starts", SOON, lines.next_line()).await;
        let line = line.expect("text").expect("the owner told what it owns");
        if let Some(owned) = line.strip_prefix("owned: ") {
            break owned.to_owned();
        }
    };
    let owned: Vec<&str> = owned.split(' ').collect();
    let [mysql, postgres, port] = owned.as_slice() else {
        panic!("{owned:?}");
    };
    let port = port.parse().expect("a port");
    let folders = [mysql, postgres].map(Path::new);
    assert!(folders.iter().all(|folder| folder.exists()), "{folders:?}");
    owner.kill().await.expect("it runs");
    let left = || async { folders.map(|folder| folder.parent().is_some_and(Path::exists)) };
    until("their folders go", SOON, left, |left| *left == [false; 2]).await;
    let refused = tests::mysql::try_connect(port, "root", None, "").await;
    assert!(refused.is_err(), "it still accepts");
}

#[tokio::test]
async fn a_relay_splits_into_single_bytes_and_cuts() {
    let postgres = Postgres::start(15).await;
    let relay = Relay::to(postgres.port()).await;
    relay.set(Fault::Bytewise);
    let mut raw = Raw::login(relay.port(), "postgres", "postgres").await;
    assert_eq!(raw.query("select 1").await.len(), 4);
    relay.set(Fault::Cut);
    assert_eq!(raw.frame().await, None);
}
