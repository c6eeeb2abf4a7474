//! Every condition that would spoil a migration of MySQL or MariaDB is a finding before it starts.

mod servers;

use migrator::accounts::Verdict;
use migrator::database::Database;
use migrator::mysql::Mysql;
use migrator::plan::Settings;
use migrator::preflight::{Check, Level};
use servers::mysql::{Kind, Pair, migration};

async fn findings(mysql: &Mysql) -> Vec<Check> {
    mysql.preflight().await.expect("the checks run")
}

fn worse(checks: &[Check]) -> Vec<String> {
    let bad = checks.iter().filter(|check| check.level != Level::Ok);
    bad.map(|check| format!("{:?} {}: {}", check.level, check.name, check.evidence))
        .collect()
}

fn has(checks: &[Check], level: Level, name: &str, part: &str) {
    let found = checks
        .iter()
        .any(|check| check.level == level && check.name == name && check.evidence.contains(part));
    assert!(
        found,
        "no {level:?} {name} with {part:?} in {:#?}",
        worse(checks)
    );
}

fn has_fix(checks: &[Check], name: &str, part: &str) {
    let found = checks
        .iter()
        .any(|check| check.name == name && check.fix.contains(part));
    assert!(found, "no fix {part:?} of {name} in {checks:#?}");
}

const PLAIN: &str = "CREATE DATABASE shop CHARACTER SET utf8mb4; CREATE TABLE shop.t (id INT PRIMARY KEY) ENGINE = InnoDB";

/// A plain database gives no error, and only these warnings.
async fn plain(source: Kind, target: Kind, expected: &[&str]) {
    let pair = Pair::start(source, target);
    pair.source.run("", PLAIN).await;
    let mysql = pair.migration("m", Settings::default());
    let checks = findings(&mysql).await;
    let bad: Vec<&str> = checks
        .iter()
        .filter(|check| check.level != Level::Ok)
        .map(|check| check.name.as_str())
        .collect();
    assert_eq!(bad, expected, "{:#?}", worse(&checks));
    assert!(checks.len() > 25);
}

#[tokio::test]
async fn a_plain_database_of_mysql_97_gives_no_finding() {
    plain(Kind::Mysql97, Kind::Mysql97, &[]).await;
}

#[tokio::test]
async fn a_plain_database_of_mariadb_gives_no_finding_towards_mariadb() {
    plain(Kind::Mariadb1011, Kind::Mariadb1011, &[]).await;
}

#[tokio::test]
async fn towards_mysql_97_the_older_and_the_other_family_are_warned_of_what_differs() {
    plain(
        Kind::Mysql56,
        Kind::Mysql97,
        &["binlog_row_metadata", "sql_mode"],
    )
    .await;
    plain(
        Kind::Mariadb1011,
        Kind::Mysql97,
        &["version_pair", "sql_mode"],
    )
    .await;
}

#[tokio::test]
async fn mysql_97_is_checked_for_all_that_would_spoil_it() {
    let source: &[(&str, &str)] = &[
        ("binlog-format", "STATEMENT"),
        ("binlog-row-image", "MINIMAL"),
        ("binlog-row-metadata", "MINIMAL"),
        ("binlog-row-value-options", "PARTIAL_JSON"),
        ("binlog-order-commits", "OFF"),
        ("binlog-expire-logs-seconds", "3600"),
        ("binlog-ignore-db", "shop"),
        ("innodb-native-foreign-keys", "ON"),
        ("event-scheduler", "ON"),
        ("max-allowed-packet", "134217728"),
        ("server-id", "7"),
    ];
    let target: &[(&str, &str)] = &[
        ("server-id", "7"),
        ("read-only", "ON"),
        ("local-infile", "OFF"),
        ("event-scheduler", "OFF"),
        ("max-allowed-packet", "1048576"),
        ("lower-case-table-names", "0"),
        ("sql-mode", "STRICT_ALL_TABLES"),
        ("default-time-zone", "+02:00"),
    ];
    let pair = Pair::start_with((Kind::Mysql97, source), (Kind::Mysql97, target));
    pair.source
        .run(
            "",
            "CREATE DATABASE shop; CREATE DATABASE other; USE shop;
             CREATE TABLE parent (id INT PRIMARY KEY, plain INT, KEY (plain));
             CREATE TABLE child (id INT PRIMARY KEY, p INT, o INT, q INT, CONSTRAINT casc FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE);
             CREATE TABLE other.o (id INT PRIMARY KEY);
             ALTER TABLE child ADD CONSTRAINT away FOREIGN KEY (o) REFERENCES other.o (id);
             SET restrict_fk_on_non_standard_key = OFF;
             ALTER TABLE child ADD CONSTRAINT odd FOREIGN KEY (q) REFERENCES parent (plain);
             CREATE TABLE old (a INT) ENGINE = MyISAM;
             CREATE TABLE fl (a FLOAT PRIMARY KEY);
             SET GLOBAL log_bin_trust_function_creators = ON;
             CREATE FUNCTION dice() RETURNS INT RETURN RAND() * 6;
             CREATE DEFINER = ghost@nowhere VIEW v AS SELECT id FROM parent;
             CREATE USER app@'%' IDENTIFIED BY 'a'; GRANT CONNECTION_ADMIN ON *.* TO app@'%';
             CREATE USER odd@'%' IDENTIFIED WITH sha256_password BY 'a';
             XA START 'x1'; INSERT INTO parent VALUES (1, 1); XA END 'x1'; XA PREPARE 'x1'",
        )
        .await;
    pair.target.run("", "CREATE DATABASE shop; CREATE TABLE shop.here (a INT); CREATE USER app@'%' IDENTIFIED BY 'b'").await;
    let checks = findings(&pair.migration("m", Settings::default())).await;
    let error = |name, part| has(&checks, Level::Error, name, part);
    let warning = |name, part| has(&checks, Level::Warning, name, part);
    error("binlog_format", "STATEMENT");
    error("binlog_row_image", "MINIMAL");
    warning("binlog_row_metadata", "MINIMAL");
    error("binlog_row_value_options", "PARTIAL_JSON");
    error("binlog_order_commits", "OFF");
    warning("binlog_retention", "1 hours");
    error("binlog_filters", "shop");
    error("foreign_key_cascades", "casc");
    error("foreign_key_databases", "away");
    warning("foreign_key_targets", "odd");
    error("engines", "old");
    warning("keys", "shop.old");
    warning("float_keys", "fl");
    error("functions", "dice");
    warning("definers", "ghost@nowhere");
    warning("other_databases", "other");
    error("xa_transactions", "x1");
    warning("fence_accounts", "'app'@'%'");
    warning("accounts", "`app`@`%`");
    error("server_ids", "7");
    error("target_read_only", "ON");
    error("local_infile", "OFF");
    error("max_allowed_packet", "134217728");
    warning("sql_mode", "STRICT_ALL_TABLES");
    warning("time_zone", "+02:00");
    warning("event_scheduler", "not on the target");
    error("target_objects", "shop");
    has_fix(
        &checks,
        "binlog_row_image",
        "SET PERSIST binlog_row_image = 'FULL'",
    );
    has_fix(
        &checks,
        "engines",
        "ALTER TABLE `shop`.`old` ENGINE = InnoDB",
    );
    has_fix(&checks, "keys", "ADD COLUMN headgate_id");
    has_fix(&checks, "other_databases", "schemas = 'shop, other'");
    // The statements that mend it do, once nothing is prepared any more that holds its tables.
    pair.source.run("", "XA ROLLBACK 'x1'").await;
    for name in [
        "engines",
        "keys",
        "foreign_key_cascades",
        "binlog_format",
        "binlog_row_value_options",
        "fence_accounts",
    ] {
        for check in checks
            .iter()
            .filter(|check| check.name == name && !check.fix.is_empty())
        {
            pair.source.run("", &check.fix).await;
        }
    }
    let after = findings(&pair.migration("m", Settings::default())).await;
    for name in [
        "engines",
        "keys",
        "foreign_key_cascades",
        "binlog_format",
        "binlog_row_value_options",
        "fence_accounts",
    ] {
        let left = after
            .iter()
            .find(|check| check.name == name)
            .expect("the check ran");
        assert_eq!(left.level, Level::Ok, "{left:?}");
    }
}

#[tokio::test]
async fn mariadb_is_checked_for_what_it_does_its_own_way() {
    let source: &[(&str, &str)] = &[
        ("log-bin-compress", "ON"),
        ("expire-logs-days", "1"),
        ("lower-case-table-names", "1"),
    ];
    let pair = Pair::start_with((Kind::Mariadb1011, source), (Kind::Mysql97, &[]));
    pair.source
        .run(
            "",
            "CREATE DATABASE shop; USE shop; CREATE SEQUENCE seq;
             CREATE TABLE v (a INT PRIMARY KEY) WITH SYSTEM VERSIONING;
             CREATE TABLE u (id UUID PRIMARY KEY, i INET6, n INT DEFAULT NEXTVAL(seq));
             CREATE TABLE c (a VARCHAR(9) CHARACTER SET utf8mb4 COLLATE uca1400_ai_ci PRIMARY KEY);
             CREATE TABLE w (`rank` INT PRIMARY KEY);
             CREATE TABLE ch (a INT PRIMARY KEY, b INT, CONSTRAINT casc FOREIGN KEY (b) REFERENCES w (`rank`) ON UPDATE CASCADE);
             CREATE USER app@'%' IDENTIFIED BY 'a'; GRANT READ_ONLY ADMIN ON *.* TO app@'%'",
        )
        .await;
    let checks = findings(&pair.migration("m", Settings::default())).await;
    let error = |name, part| has(&checks, Level::Error, name, part);
    let warning = |name, part| has(&checks, Level::Warning, name, part);
    error("log_bin_compress", "ON");
    warning("binlog_retention", "24 hours");
    error("lower_case_table_names", "1 on the source and 0");
    error("system_versioned", "v");
    error("mariadb_only", "the sequence shop.seq");
    error("mariadb_only", "shop.u.id is of the type uuid");
    error("mariadb_only", "shop.u.n defaults");
    error("collations", "utf8mb4_uca1400_ai_ci");
    warning("reserved_words", "rank");
    error("foreign_key_cascades", "casc");
    warning("accounts", "`app`@`%`: it logs in by mysql_native_password");
    warning("fence_accounts", "'app'@'%'");
    warning("version_pair", "MariaDB 10.11");
}

#[tokio::test]
async fn what_cannot_be_reached_or_is_not_allowed_is_a_finding_and_ends_no_other_check() {
    let pair = Pair::start(Kind::Mysql56, Kind::Mysql97);
    pair.source.run("", PLAIN).await;
    pair.source
        .run("", "GRANT SELECT ON shop.* TO poor@'localhost' IDENTIFIED BY 'p'; GRANT SELECT ON shop.* TO poor@'127.0.0.1' IDENTIFIED BY 'p'")
        .await;
    let mut source = pair.source.endpoint("shop");
    "poor".clone_into(&mut source.user);
    source.password = Some("p".into());
    let mysql = Mysql::new(
        "m",
        source,
        pair.target.endpoint("shop"),
        Settings::default(),
        std::sync::Arc::new(migrator::accounts::NoSecrets),
    );
    let checks = findings(&mysql).await;
    has(&checks, Level::Error, "source_rights", "REPLICATION SLAVE");
    has(&checks, Level::Error, "source_rights", "SUPER");
    has(&checks, Level::Warning, "source_accounts", "mysql.user");
    has(&checks, Level::Warning, "source_snapshots", "RELOAD");
    has_fix(
        &checks,
        "source_rights",
        "GRANT LOCK TABLES ON `shop`.* TO 'poor'@",
    );
    let mut pair = pair;
    pair.target.kill();
    let checks = findings(&pair.migration("m", Settings::default())).await;
    has(&checks, Level::Error, "target_reachable", "cannot connect");
    has(&checks, Level::Ok, "binlog_format", "ROW");
    // Onto itself.
    let checks = findings(&migration(
        "m",
        &pair.source,
        &pair.source,
        Settings::default(),
    ))
    .await;
    has(&checks, Level::Error, "same_server", "same server");
}

#[tokio::test]
async fn an_account_that_sees_too_little_of_sessions_for_their_handover_is_a_finding() {
    let pair = Pair::start(Kind::Mysql97, Kind::Mysql97);
    let text = format!(
        "{PLAIN}; CREATE PROCEDURE shop.p() SELECT 1; CREATE USER poor@'%' IDENTIFIED BY 'p'; \
         GRANT SELECT, EXECUTE ON shop.* TO poor@'%'"
    );
    pair.source.run("", &text).await;
    let mut source = pair.source.endpoint("shop");
    "poor".clone_into(&mut source.user);
    source.password = Some("p".into());
    let mysql = Mysql::new(
        "m",
        source,
        pair.target.endpoint("shop"),
        Settings::default(),
        std::sync::Arc::new(migrator::accounts::NoSecrets),
    );
    let checks = findings(&mysql).await;
    let warning = |part| has(&checks, Level::Warning, "source_sessions", part);
    warning("performance_schema");
    warning("1 stored programs");
    has_fix(
        &checks,
        "source_sessions",
        "GRANT SHOW_ROUTINE ON *.* TO 'poor'@'%'",
    );
}

#[tokio::test]
async fn an_account_is_proved_only_by_the_same_hash_or_a_login_and_a_second_password_is_none() {
    let pair = Pair::start(Kind::Mysql97, Kind::Mysql97);
    pair.source.run("", PLAIN).await;
    pair.source
        .run(
            "",
            "CREATE USER same IDENTIFIED BY 'a'; CREATE USER other IDENTIFIED BY 'a'; CREATE USER shut ACCOUNT LOCK;
             CREATE USER twice IDENTIFIED BY 'old'; ALTER USER twice IDENTIFIED BY 'new' RETAIN CURRENT PASSWORD",
        )
        .await;
    pair.target
        .run(
            "",
            "CREATE USER other IDENTIFIED BY 'b'; CREATE USER twice IDENTIFIED BY 'new'",
        )
        .await;
    let mysql = pair.migration("m", Settings::default());
    let verdict = async |name: &str| {
        let accounts = mysql.accounts().await.expect("they can be read");
        let account = accounts.into_iter().find(|account| account.name == name);
        account.map(|account| account.verdict)
    };
    let proved = |verdict: Option<Verdict>| matches!(verdict, Some(Verdict::Proved(_)));
    assert!(
        proved(verdict("`same`@`%`").await),
        "it comes with its hash"
    );
    assert!(
        !proved(verdict("`other`@`%`").await),
        "its hash is another one"
    );
    assert_eq!(verdict("`shut`@`%`").await, None, "nobody can log in as it");
    let Some(Verdict::Unproved { fix, .. }) = verdict("`twice`@`%`").await else {
        panic!("its old password does not come along");
    };
    pair.source.run("", &fix).await;
    assert!(
        !proved(verdict("`twice`@`%`").await),
        "its hash is salted anew"
    );
    pair.target.run("", "DROP USER twice").await;
    assert!(
        proved(verdict("`twice`@`%`").await),
        "it comes with its hash"
    );
}
