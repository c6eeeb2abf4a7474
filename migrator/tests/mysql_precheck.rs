//! Every condition that would spoil a migration of MySQL or MariaDB is a finding before it starts.

mod servers;

use migrator::accounts::Verdict;
use migrator::database::Database;
use migrator::mysql::Mysql;
use migrator::plan::Settings;
use migrator::preflight::{Check, Level};
use servers::mysql::{Kind, Pair, Server, migration};

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

fn of<'a>(checks: &'a [Check], name: &str, level: Level) -> Vec<&'a Check> {
    let of_it = checks
        .iter()
        .filter(|check| check.name == name && check.level == level);
    of_it.collect()
}

/// What a precheck may leave on the target: nothing.
async fn nothing_is_left(server: &Server) {
    let databases: Vec<String> = server
        .rows(
            "",
            "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN ('shop', 'headgate')",
        )
        .await;
    assert_eq!(databases, Vec::<String>::new());
    let accounts: Vec<String> = server
        .rows(
            "",
            "SELECT CAST(User AS CHAR) FROM mysql.user WHERE User NOT LIKE 'mysql.%' AND User NOT IN ('root', 'mariadb.sys', 'PUBLIC', 'mover')",
        )
        .await;
    assert_eq!(accounts, Vec::<String>::new());
}

#[tokio::test]
async fn what_mysql_97_refuses_of_56_is_told_at_once_and_the_trial_leaves_nothing() {
    let pair = Pair::start(Kind::Mysql56, Kind::Mysql97);
    pair.source
        .run(
            "",
            "CREATE DATABASE shop CHARACTER SET utf8mb4; USE shop; SET default_storage_engine = InnoDB;
             CREATE TABLE t (id INT PRIMARY KEY, b VARCHAR(99), KEY (b(10))); CREATE TABLE gone (a INT PRIMARY KEY);
             CREATE TABLE counted (a DOUBLE AUTO_INCREMENT PRIMARY KEY);
             CREATE TABLE child (a DOUBLE PRIMARY KEY, CONSTRAINT of_counted FOREIGN KEY (a) REFERENCES counted (a));
             CREATE VIEW fine AS SELECT id, b FROM t; CREATE VIEW on_fine AS SELECT id FROM fine;
             CREATE VIEW broken AS SELECT * FROM gone; DROP TABLE gone; CREATE VIEW on_broken AS SELECT id FROM t;
             CREATE VIEW hashed AS SELECT id, MD5(b) h FROM t; CREATE VIEW on_hashed AS SELECT h FROM hashed;
             CREATE VIEW on_counted AS SELECT a FROM counted;
             CREATE VIEW cached AS SELECT SQL_CACHE id FROM t;
             CREATE VIEW downwards AS SELECT b FROM t GROUP BY b DESC;
             SET GLOBAL log_bin_trust_function_creators = ON;
             CREATE FUNCTION secret(a TEXT) RETURNS TEXT DETERMINISTIC RETURN PASSWORD(a);
             CREATE PROCEDURE ranked() SELECT id rank FROM t;
             CREATE PROCEDURE sorted() SELECT b FROM t GROUP BY b DESC;
             CREATE FUNCTION dice() RETURNS INT RETURN RAND() * 6;
             CREATE PROCEDURE quiet() SELECT CONCAT('sha1(', id, ')') FROM t WHERE b = SHA1 (b); -- it calls nothing else
             CREATE TRIGGER hashes BEFORE INSERT ON t FOR EACH ROW SET NEW.b = MD5(NEW.b);
             CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO UPDATE t SET b = ENCRYPT(b);
             GRANT SELECT ON shop.* TO app@'%'; GRANT SELECT ON shop.t TO reader@'%'",
        )
        .await;
    let mysql = pair.migration("m", Settings::default());
    let checks = findings(&mysql).await;
    let refused = of(&checks, "schema_trial", Level::Error);
    let told = [
        "the table shop.counted: Incorrect column specifier",
        "the view shop.broken: ",
        "the view shop.hashed: FUNCTION shop.md5",
        "the view shop.cached: You have an error in your SQL syntax",
        "the view shop.downwards: You have an error in your SQL syntax",
        "the function shop.secret: You have",
        "the procedure shop.ranked: You have",
        "the procedure shop.sorted: You have",
        "the function shop.dice: This function has none of DETERMINISTIC",
    ];
    for part in told {
        let one = refused.iter().find(|check| check.evidence.contains(part));
        let one = one.unwrap_or_else(|| panic!("no {part}: {refused:#?}"));
        assert!(one.evidence.contains("the statement: CREATE"), "{one:?}");
        assert!(!one.remedy.is_empty(), "{one:?}");
    }
    assert_eq!(refused.len(), told.len(), "{refused:#?}");
    let called = of(&checks, "called_functions", Level::Error);
    let told = [
        "the procedure shop.quiet calls SHA1()",
        "the trigger shop.hashes calls MD5()",
        "the event shop.nightly calls ENCRYPT()",
    ];
    for part in told {
        assert!(
            called.iter().any(|check| check.evidence.contains(part)),
            "{part}: {called:#?}"
        );
    }
    assert_eq!(called.len(), told.len(), "{called:#?}");
    nothing_is_left(&pair.target).await;
    // Each remedy is run where it says, and the rest is mended by hand.
    for check in refused.iter().chain(&called) {
        if check.fix.starts_with("DROP VIEW") {
            pair.source.run("", &check.fix).await;
        } else if check.fix.starts_with("SET") {
            pair.target.run("", &check.fix).await;
        }
    }
    let installs: Vec<&str> = refused
        .iter()
        .chain(&called)
        .map(|check| check.fix.as_str())
        .filter(|fix| fix.starts_with("INSTALL"))
        .collect();
    assert_eq!(installs.len(), 3, "{refused:#?} {called:#?}");
    pair.target.run("", installs[0]).await;
    pair.source
        .run(
            "shop",
            "DROP FUNCTION secret; DROP PROCEDURE ranked; DROP PROCEDURE sorted; DROP EVENT nightly; DROP TABLE child;
             ALTER TABLE counted MODIFY a BIGINT AUTO_INCREMENT;
             CREATE OR REPLACE VIEW cached AS SELECT id FROM t;
             CREATE OR REPLACE VIEW downwards AS SELECT b FROM t GROUP BY b ORDER BY b DESC",
        )
        .await;
    let checks = findings(&mysql).await;
    for name in ["schema_trial", "called_functions"] {
        assert_eq!(
            of(&checks, name, Level::Ok).len(),
            1,
            "{:#?}",
            worse(&checks)
        );
    }
    nothing_is_left(&pair.target).await;
}

/// Runs the statements of the findings as root where they belong, until none is left or nothing changes. What is left,
/// and what was run.
async fn follow_the_remedies(mysql: &Mysql, pair: &Pair) -> (Vec<Check>, Vec<String>) {
    let mut ran = Vec::new();
    for _ in 0..6 {
        let mut left = findings(mysql).await;
        left.retain(|check| check.level != Level::Ok);
        let known = ran.len();
        for check in &left {
            let server = if check.name.starts_with("source") {
                &pair.source
            } else {
                &pair.target
            };
            let fix = check.fix.clone();
            let side = std::ptr::eq(server, &raw const pair.source);
            if !check.fix.is_empty() && !ran.contains(&(side, fix.clone())) {
                server.run("", &check.fix).await;
                ran.push((side, fix));
            }
        }
        if ran.len() == known {
            return (left, ran.into_iter().map(|(_, fix)| fix).collect());
        }
    }
    panic!("{ran:#?}; {:#?}", worse(&findings(mysql).await));
}

/// Accounts that may do nothing but log in are told all that they lack, by what each server calls it.
async fn the_least_rights_are_found_by_trying(source: Kind, kind: Kind, expected: &[&str]) {
    let pair = Pair::start(source, kind);
    pair.source
        .run("", "CREATE USER `debian-sys-maint`@localhost; GRANT SELECT ON *.* TO `debian-sys-maint`@localhost")
        .await;
    pair.source
        .run(
            "",
            "CREATE DATABASE shop CHARACTER SET utf8mb4; USE shop; SET GLOBAL log_bin_trust_function_creators = ON;
             SET default_storage_engine = InnoDB; CREATE TABLE t (id INT PRIMARY KEY, b INT);
             CREATE USER app@'%'; GRANT SELECT ON shop.* TO app@'%'; GRANT PROCESS ON *.* TO app@'%';
             CREATE DEFINER = `debian-sys-maint`@localhost VIEW v AS SELECT id FROM t;
             CREATE DEFINER = app@'%' VIEW w AS SELECT id FROM t;
             CREATE DEFINER = app@'%' FUNCTION f() RETURNS INT DETERMINISTIC RETURN 1;
             CREATE DEFINER = `debian-sys-maint`@localhost TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.b = f()",
        )
        .await;
    if source != Kind::Mysql56 {
        let role = "CREATE ROLE reader; GRANT SELECT ON shop.* TO reader; GRANT reader TO app@'%'";
        pair.source.run("", role).await;
    }
    let mut ends = Vec::new();
    for server in [&pair.source, &pair.target] {
        let account = "CREATE USER mover@'127.0.0.1' IDENTIFIED BY 'm'";
        server.run("", account).await;
        let mut end = server.endpoint("shop");
        "mover".clone_into(&mut end.user);
        end.password = Some("m".into());
        ends.push(end);
    }
    let [there, here] = [ends.remove(0), ends.remove(0)];
    let secrets = std::sync::Arc::new(migrator::accounts::NoSecrets);
    let mysql = Mysql::new("m", there, here, Settings::default(), secrets);
    let (left, ran) = follow_the_remedies(&mysql, &pair).await;
    let names: Vec<&str> = left.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, expected, "{:#?}", worse(&left));
    let definer = if kind == Kind::Mysql97 {
        "GRANT SET_ANY_DEFINER ON *.* TO"
    } else {
        "GRANT SET USER ON *.* TO"
    };
    for part in [
        definer,
        "CREATE USER `debian-sys-maint`@`localhost` ACCOUNT LOCK",
        "log_bin_trust_function_creators = ON",
        "GRANT PROCESS ON *.* TO `mover`@`127.0.0.1` WITH GRANT OPTION",
        "GRANT INSERT ON `headgate`.* TO",
    ] {
        assert!(ran.iter().any(|fix| fix.contains(part)), "{part}: {ran:#?}");
    }
    assert!(!ran.iter().any(|fix| fix.contains("ALL")), "{ran:#?}");
    let plan = mysql.plan().await.expect("it may read what moves");
    mysql
        .prepare(&plan)
        .await
        .expect("it may create what moves");
    // A view can be used that runs as the account that was created so.
    pair.target
        .run(
            "shop",
            "CREATE DEFINER = `debian-sys-maint`@localhost VIEW v AS SELECT id FROM shop.t",
        )
        .await;
    let rows: Vec<i32> = pair.target.rows("", "SELECT id FROM shop.v").await;
    assert!(rows.is_empty());
}

#[tokio::test]
async fn mysql_tells_an_account_with_few_rights_each_right_that_it_lacks() {
    the_least_rights_are_found_by_trying(Kind::Mysql97, Kind::Mysql97, &[]).await;
}

#[tokio::test]
async fn mariadb_tells_an_account_with_few_rights_each_right_that_it_lacks() {
    the_least_rights_are_found_by_trying(Kind::Mariadb1011, Kind::Mariadb1011, &[]).await;
}

#[tokio::test]
async fn mysql_56_tells_an_account_with_few_rights_each_right_that_it_lacks() {
    the_least_rights_are_found_by_trying(Kind::Mysql56, Kind::Mysql97, &["binlog_row_metadata"])
        .await;
}

/// Rights that come with an active role are rights.
async fn by_a_role(kind: Kind) {
    let pair = Pair::start(kind, kind);
    pair.source.run("", PLAIN).await;
    let default = if kind == Kind::Mysql97 { "TO" } else { "FOR" };
    for server in [&pair.source, &pair.target] {
        server
            .run(
                "",
                &format!(
                    "CREATE ROLE moving; GRANT ALL ON *.* TO moving WITH GRANT OPTION; CREATE USER mover@'127.0.0.1' IDENTIFIED BY 'm';
                     GRANT moving TO mover@'127.0.0.1'; SET DEFAULT ROLE moving {default} mover@'127.0.0.1'"
                ),
            )
            .await;
    }
    let end = |server: &Server| {
        let mut end = server.endpoint("shop");
        "mover".clone_into(&mut end.user);
        end.password = Some("m".into());
        end
    };
    let secrets = std::sync::Arc::new(migrator::accounts::NoSecrets);
    let (there, here) = (end(&pair.source), end(&pair.target));
    let mysql = Mysql::new("m", there, here, Settings::default(), secrets);
    let checks = findings(&mysql).await;
    for name in ["source_rights", "target_rights", "schema_trial"] {
        assert_eq!(
            of(&checks, name, Level::Ok).len(),
            1,
            "{:#?}",
            worse(&checks)
        );
    }
}

#[tokio::test]
async fn rights_that_come_with_a_role_are_rights() {
    by_a_role(Kind::Mysql97).await;
    by_a_role(Kind::Mariadb1011).await;
}

#[tokio::test]
async fn a_definer_that_the_target_lacks_and_that_would_shadow_another_is_not_created_by_the_remedy()
 {
    let pair = Pair::start(Kind::Mysql97, Kind::Mysql97);
    pair.source
        .run(
            "",
            &format!(
                "{PLAIN}; CREATE DEFINER = root@localhost VIEW shop.v AS SELECT id FROM shop.t"
            ),
        )
        .await;
    pair.target.run("", "DROP USER root@localhost").await;
    let mysql = pair.migration("m", Settings::default());
    let checks = findings(&mysql).await;
    has(
        &checks,
        Level::Error,
        "definers",
        "the view shop.v runs as root@localhost",
    );
    assert_eq!(of(&checks, "definers", Level::Error)[0].fix, "");
    pair.target
        .run("", "CREATE USER root@localhost IDENTIFIED BY 'p'")
        .await;
    let checks = findings(&mysql).await;
    has(&checks, Level::Ok, "definers", "exists");
}

#[tokio::test]
async fn what_a_trial_left_behind_is_taken_away_and_what_others_have_made_since_is_not() {
    let pair = Pair::start(Kind::Mysql97, Kind::Mysql97);
    pair.source
        .run("", "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY); CREATE TABLE shop.u (id INT PRIMARY KEY); CREATE USER app; CREATE USER used")
        .await;
    let left = "CREATE DATABASE headgate; CREATE TABLE headgate.trials (migration VARCHAR(128), kind VARCHAR(16), name VARCHAR(400));
        CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY); CREATE TABLE shop.u (id INT PRIMARY KEY);
        CREATE USER app ACCOUNT LOCK; CREATE USER used ACCOUNT LOCK;
        INSERT INTO headgate.trials VALUES ('m', 'database', 'shop'), ('m', 'account', '`app`@`%`'), ('m', 'account', '`used`@`%`')";
    pair.target.run("", left).await;
    let mysql = pair.migration("m", Settings::default());
    let checks = findings(&mysql).await;
    has(&checks, Level::Ok, "target_objects", "nothing");
    has(&checks, Level::Ok, "schema_trial", "the whole schema");
    nothing_is_left(&pair.target).await;
    // Somebody took the place meanwhile: rows, another table, an account that is in use.
    pair.target
        .run("", &format!("{left}; INSERT INTO shop.u VALUES (1); CREATE TABLE shop.theirs (id INT); ALTER USER used ACCOUNT UNLOCK"))
        .await;
    mysql
        .clean_up()
        .await
        .expect("a dropped migration cleans up");
    let tables: Vec<String> = pair
        .target
        .rows("", "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ('shop', 'headgate') ORDER BY 1")
        .await;
    assert_eq!(tables, ["theirs", "u"]);
    let accounts: Vec<String> = pair
        .target
        .rows(
            "",
            "SELECT CAST(User AS CHAR) FROM mysql.user WHERE User IN ('app', 'used')",
        )
        .await;
    assert_eq!(accounts, ["used"]);
    // In what others have nothing is tried.
    let checks = findings(&mysql).await;
    has(&checks, Level::Error, "target_objects", "shop");
    has(&checks, Level::Warning, "schema_trial", "cannot be known");
}
