//! The servers that the tests of MySQL and MariaDB run against are what those take them for.

mod servers;

use migrator::mysql::client;
use servers::mysql::{Kind, Pair};

async fn check(source: Kind, target: Kind, versions: [&str; 2]) {
    let mut pair = Pair::start(source, target);
    for (server, version) in [&pair.source, &pair.target].into_iter().zip(versions) {
        let mut session = client::connect(&server.endpoint("mysql"), "test").await.expect("the migrator can log in");
        let reported = client::version(&mut session).await.expect("it answers");
        assert!(reported.to_string().starts_with(version), "{reported}");
        let logged: Vec<(bool, String)> = server.rows("mysql", "SELECT @@log_bin, @@binlog_format").await;
        assert_eq!(logged, [(true, "ROW".to_owned())]);
    }
    pair.source
        .run(
            "",
            "CREATE DATABASE shop; CREATE TABLE shop.kept (id INT) ENGINE = InnoDB; INSERT INTO shop.kept VALUES (1)",
        )
        .await;
    pair.source.restart();
    let kept: Vec<i32> = pair.source.rows("shop", "SELECT id FROM kept").await;
    assert_eq!(kept, [1]);
}

#[tokio::test]
async fn mysql_56_and_mysql_97_log_rows_and_keep_them_over_a_crash() {
    check(Kind::Mysql56, Kind::Mysql97, ["MySQL 5.6.", "MySQL 9.7."]).await;
}

#[tokio::test]
async fn mariadb_1011_and_mysql_97_log_rows_and_keep_them_over_a_crash() {
    let versions = ["MariaDB 10.11.", "MySQL 9.7."];
    check(Kind::Mariadb1011, Kind::Mysql97, versions).await;
}

/// An excuse that names no test excuses nothing any more.
#[test]
fn each_test_that_needs_more_than_the_least_rights_is_there_and_tells_why() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = std::fs::read_dir(folder).expect("it can be listed");
    let text: String = files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok()).collect();
    for (test, reason) in servers::SUPERUSERS {
        assert!(text.contains(&format!("fn {test}(")), "there is no {test}");
        assert!(!reason.is_empty(), "{test}");
    }
}
