//! Every condition that would spoil a migration of MySQL or MariaDB is a finding before it starts.

mod servers;

use migrator::accounts::Verdict;
use migrator::database::{Preflight as _, SchemaAndLoad as _};
use migrator::model::plan::Settings;
use migrator::mysql::preflight::NOT_PERSISTENT;
use migrator::mysql::session::VARIABLES;
use migrator::mysql::{Mysql, MysqlDatabase};
use migrator::preflight::{Check, Level};
use mysql_async::prelude::Queryable;
use servers::mysql::{Kind, Pair, Server, migration};

async fn findings(mysql: &MysqlDatabase) -> Vec<Check> {
    mysql.preflight().await.expect("the checks run")
}

fn worse(checks: &[Check]) -> Vec<String> {
    let bad = checks.iter().filter(|check| check.level != Level::Ok);
    bad.map(|check| format!("{:?} {}: {}", check.level, check.name, check.evidence)).collect()
}

fn has(checks: &[Check], level: Level, name: &str, part: &str) {
    let found = checks.iter().any(|check| check.level == level && check.name == name && check.evidence.contains(part));
    assert!(found, "no {level:?} {name} with {part:?} in {:#?}", worse(checks));
}

fn has_fix(checks: &[Check], name: &str, part: &str) {
    let found = checks.iter().any(|check| check.name == name && check.fix.contains(part));
    assert!(found, "no fix {part:?} of {name} in {checks:#?}");
}

const PLAIN: &str =
    "CREATE DATABASE shop CHARACTER SET utf8mb4; CREATE TABLE shop.t (id INT PRIMARY KEY) ENGINE = InnoDB";

/// A plain database gives no error, and only these warnings.
async fn plain(source: Kind, target: Kind, expected: &[&str]) {
    let pair = Pair::start(source, target);
    pair.source.run("", PLAIN).await;
    let mysql = pair.migration("m", Settings::default());
    pair.mend(&mysql).await;
    let checks = findings(&mysql).await;
    let bad = names(&checks);
    assert_eq!(bad, expected, "{:#?}", worse(&checks));
    assert!(checks.len() > 25);
    // What can be mended by a statement is mended by it.
    let (left, _) = follow_the_remedies(&mysql, &pair).await;
    let allowed = ["binlog_row_metadata", "version_pair", "client_settings", "source_refusal"];
    assert!(left.iter().all(|check| check.fix.is_empty() && allowed.contains(&check.name.as_str())), "{left:#?}");
}

/// The names of the findings that are not in order, each once.
fn names(checks: &[Check]) -> Vec<&str> {
    let bad = checks.iter().filter(|check| check.level != Level::Ok);
    let mut names: Vec<&str> = bad.map(|check| check.name.as_str()).collect();
    names.dedup();
    names
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
    plain(Kind::Mysql56, Kind::Mysql97, &["binlog_row_metadata", "source_refusal", "sql_mode", "client_settings"])
        .await;
    plain(Kind::Mariadb1011, Kind::Mysql97, &["version_pair", "sql_mode", "client_settings"]).await;
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
             CREATE TABLE made (a INT NOT NULL, b INT AS (a + 1) STORED, PRIMARY KEY (b)); INSERT INTO made (a) VALUES (1), (2);
             CREATE TABLE counting (n INT AUTO_INCREMENT, v INT, KEY (n)); INSERT INTO counting (v) VALUES (1), (1);
             SET GLOBAL log_bin_trust_function_creators = ON;
             CREATE FUNCTION dice() RETURNS INT RETURN RAND() * 6;
             CREATE DEFINER = ghost@nowhere VIEW v AS SELECT id FROM parent;
             CREATE USER app@'%' IDENTIFIED BY 'a'; GRANT CONNECTION_ADMIN ON *.* TO app@'%';
             CREATE USER odd@'%' IDENTIFIED WITH sha256_password BY 'a';
             XA START 'x1'; INSERT INTO parent VALUES (1, 1); XA END 'x1'; XA PREPARE 'x1'",
        )
        .await;
    pair.target
        .run("", "CREATE DATABASE shop; CREATE TABLE shop.here (a INT); CREATE USER app@'%' IDENTIFIED BY 'b'")
        .await;
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
    warning("keys", "shop.made");
    warning("keys", "shop.counting");
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
    has_fix(&checks, "binlog_row_image", "SET PERSIST binlog_row_image = 'FULL'");
    has_fix(&checks, "engines", "ALTER TABLE `shop`.`old` ENGINE = InnoDB");
    has_fix(&checks, "keys", "ADD COLUMN headgate_id");
    has_fix(&checks, "other_databases", "schemas = 'shop, other'");
    // The statements that mend it do, once nothing is prepared any more that holds its tables.
    pair.source.run("", "XA ROLLBACK 'x1'").await;
    let (left, ran) = follow_the_remedies(&pair.migration("m", Settings::default()), &pair).await;
    for check in &left {
        // These take a restart, or the owner's judgement.
        let by_hand = [
            "binlog_filters",
            "other_databases",
            "float_keys",
            "definers",
            "accounts",
            "fence_procedures",
            "max_allowed_packet",
        ];
        assert!(by_hand.contains(&check.name.as_str()), "{check:#?} {ran:#?}");
        assert!(check.fix.is_empty() || check.fix.starts_with("CREATE MIGRATION"), "{check:#?}");
    }
}

#[tokio::test]
async fn mariadb_is_checked_for_what_it_does_its_own_way() {
    let source: &[(&str, &str)] =
        &[("log-bin-compress", "ON"), ("expire-logs-days", "1"), ("lower-case-table-names", "1")];
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
    let mysql = MysqlDatabase::new(Mysql::new(
        "m",
        source,
        pair.target.endpoint("shop"),
        Settings::default(),
        std::sync::Arc::new(migrator::accounts::NoSecrets),
    ));
    let checks = findings(&mysql).await;
    has(&checks, Level::Error, "source_rights", "REPLICATION SLAVE");
    has(&checks, Level::Error, "source_rights", "SUPER");
    has(&checks, Level::Error, "source_definitions", "mysql.user");
    has(&checks, Level::Warning, "source_snapshots", "RELOAD");
    has_fix(&checks, "source_rights", "GRANT LOCK TABLES ON `shop`.* TO 'poor'@");
    let mut pair = pair;
    pair.target.kill();
    let checks = findings(&pair.migration("m", Settings::default())).await;
    has(&checks, Level::Error, "target_reachable", "cannot connect");
    has(&checks, Level::Ok, "binlog_format", "ROW");
    // Onto itself.
    let checks = findings(&migration("m", &pair.source, &pair.source, Settings::default())).await;
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
    let mysql = MysqlDatabase::new(Mysql::new(
        "m",
        source,
        pair.target.endpoint("shop"),
        Settings::default(),
        std::sync::Arc::new(migrator::accounts::NoSecrets),
    ));
    let checks = findings(&mysql).await;
    let warning = |part| has(&checks, Level::Warning, "source_sessions", part);
    warning("performance_schema");
    has(&checks, Level::Error, "source_rights", "routines of others");
    has_fix(&checks, "source_rights", "GRANT SHOW_ROUTINE ON *.* TO 'poor'@'%'");
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
    pair.target.run("", "CREATE USER other IDENTIFIED BY 'b'; CREATE USER twice IDENTIFIED BY 'new'").await;
    let mysql = pair.migration("m", Settings::default());
    let verdict = async |name: &str| {
        let accounts = mysql.accounts().await.expect("they can be read");
        let account = accounts.into_iter().find(|account| account.name == name);
        account.map(|account| account.verdict)
    };
    let proved = |verdict: Option<Verdict>| matches!(verdict, Some(Verdict::Proved(_)));
    assert!(proved(verdict("`same`@`%`").await), "it comes with its hash");
    assert!(!proved(verdict("`other`@`%`").await), "its hash is another one");
    assert_eq!(verdict("`shut`@`%`").await, None, "nobody can log in as it");
    let Some(Verdict::Unproved { fix, .. }) = verdict("`twice`@`%`").await else {
        panic!("its old password does not come along");
    };
    pair.source.run("", &fix).await;
    assert!(!proved(verdict("`twice`@`%`").await), "its hash is salted anew");
    pair.target.run("", "DROP USER twice").await;
    assert!(proved(verdict("`twice`@`%`").await), "it comes with its hash");
}

fn of<'a>(checks: &'a [Check], name: &str, level: Level) -> Vec<&'a Check> {
    let of_it = checks.iter().filter(|check| check.name == name && check.level == level);
    of_it.collect()
}

/// What a precheck may leave on the target: nothing.
async fn nothing_is_left(server: &Server) {
    let databases: Vec<String> = server
        .rows("", "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN ('shop', 'headgate')")
        .await;
    assert_eq!(databases, Vec::<String>::new());
    let accounts: Vec<String> = server
        .rows(
            "",
            "SELECT CAST(User AS CHAR) FROM mysql.user WHERE User NOT LIKE 'mysql.%' AND User NOT IN ('root', 'mariadb.sys', 'PUBLIC', 'mover', 'headgate')",
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
             CREATE TABLE keyless (v INT); INSERT INTO keyless VALUES (1), (1);
             CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO UPDATE t SET b = ENCRYPT(b);
             GRANT SELECT ON shop.* TO app@'%'; GRANT SELECT ON shop.t TO reader@'%'",
        )
        .await;
    let mysql = pair.migration("m", Settings::default());
    let checks = findings(&mysql).await;
    let refused = of(&checks, "schema_trial", Level::Error);
    let reported = [
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
    for part in reported {
        let one = refused.iter().find(|check| check.evidence.contains(part));
        let one = one.unwrap_or_else(|| panic!("no {part}: {refused:#?}"));
        assert!(one.evidence.contains("the statement: CREATE"), "{one:?}");
        assert!(!one.remedy.is_empty(), "{one:?}");
    }
    assert_eq!(refused.len(), reported.len(), "{refused:#?}");
    let called = of(&checks, "called_functions", Level::Error);
    let reported = [
        "the procedure shop.quiet calls SHA1()",
        "the trigger shop.hashes calls MD5()",
        "the event shop.nightly calls ENCRYPT()",
    ];
    for part in reported {
        assert!(called.iter().any(|check| check.evidence.contains(part)), "{part}: {called:#?}");
    }
    assert_eq!(called.len(), reported.len(), "{called:#?}");
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
    let keys = of(&checks, "keys", Level::Warning);
    assert_eq!(keys.len(), 1, "{keys:#?}");
    pair.source.run("", &keys[0].fix).await;
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
        assert_eq!(of(&checks, name, Level::Ok).len(), 1, "{:#?}", worse(&checks));
    }
    nothing_is_left(&pair.target).await;
}

/// Findings whose statements are the target's.
const OF_TARGET: [&str; 12] = [
    "schema_trial",
    "called_functions",
    "definers",
    "client_settings",
    "sql_mode",
    "time_zone",
    "event_scheduler",
    "max_allowed_packet",
    "local_infile",
    "functions",
    "foreign_key_targets",
    "server_ids",
];

/// Runs the statements of the findings as root where they belong, until none is left or nothing changes. What is left,
/// and what was run.
async fn follow_the_remedies(mysql: &MysqlDatabase, pair: &Pair) -> (Vec<Check>, Vec<String>) {
    follow_those(mysql, pair, |_| true).await
}

/// The same of those that are wanted.
async fn follow_those(
    mysql: &MysqlDatabase,
    pair: &Pair,
    wanted: impl Fn(&Check) -> bool,
) -> (Vec<Check>, Vec<String>) {
    let mut ran = Vec::new();
    for _ in 0..6 {
        let mut left = findings(mysql).await;
        left.retain(|check| check.level != Level::Ok && wanted(check));
        let known = ran.len();
        for check in &left {
            let of_target = OF_TARGET.contains(&check.name.as_str()) || check.name.starts_with("target");
            let server = if of_target && !check.fix.starts_with("DROP VIEW") { &pair.target } else { &pair.source };
            let fix = check.fix.clone();
            let side = std::ptr::eq(server, &raw const pair.source);
            // This one is a statement for Headgate.
            let ours = fix.starts_with("CREATE MIGRATION");
            if !fix.is_empty() && !ours && !ran.contains(&(side, fix.clone())) {
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
    if source == Kind::Mysql56 {
        // The target's account may not set it back in its own sessions; see the test of that.
        pair.source.run("", "SET GLOBAL innodb_strict_mode = ON").await;
    } else {
        let role = "CREATE ROLE reader; GRANT SELECT ON shop.* TO reader; GRANT reader TO app@'%'";
        pair.source.run("", role).await;
    }
    if source == Kind::Mysql97 {
        pair.source.run("shop", "CREATE TABLE keyless (v INT)").await;
        pair.target.run("", "SET GLOBAL sql_require_primary_key = ON").await;
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
    let mysql = MysqlDatabase::new(Mysql::new("m", there, here, Settings::default(), secrets));
    // Rights for a way back may be as good as others.
    let (left, ran) = follow_those(&mysql, &pair, |check| !check.name.ends_with("_way_back")).await;
    assert_eq!(names(&left), expected, "{:#?}", worse(&left));
    let (left, _) = follow_the_remedies(&mysql, &pair).await;
    assert_eq!(names(&left), expected, "{:#?}", worse(&left));
    let definer = if kind == Kind::Mysql97 { "GRANT SET_ANY_DEFINER ON *.* TO" } else { "GRANT SET USER ON *.* TO" };
    for part in [
        definer,
        "CREATE USER `debian-sys-maint`@`localhost` ACCOUNT LOCK",
        "log_bin_trust_function_creators = ON",
        "GRANT PROCESS ON *.* TO `mover`@`127.0.0.1` WITH GRANT OPTION",
        "GRANT INSERT ON `headgate`.* TO",
    ] {
        assert!(ran.iter().any(|fix| fix.contains(part)), "{part}: {ran:#?}");
    }
    assert!(!ran.iter().any(|fix| fix.contains("ALL ")), "{ran:#?}");
    let plan = mysql.plan().await.expect("it may read what moves");
    mysql.prepare(&plan).await.expect("it may create what moves");
    // A view can be used that runs as the account that was created so.
    pair.target.run("shop", "CREATE DEFINER = `debian-sys-maint`@localhost VIEW v AS SELECT id FROM shop.t").await;
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
    the_least_rights_are_found_by_trying(Kind::Mysql56, Kind::Mysql97, &["binlog_row_metadata", "source_refusal"])
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
    let mysql = MysqlDatabase::new(Mysql::new("m", there, here, Settings::default(), secrets));
    let checks = findings(&mysql).await;
    for name in ["source_rights", "target_rights", "schema_trial"] {
        assert_eq!(of(&checks, name, Level::Ok).len(), 1, "{:#?}", worse(&checks));
    }
}

#[tokio::test]
async fn rights_that_come_with_a_role_are_rights() {
    by_a_role(Kind::Mysql97).await;
    by_a_role(Kind::Mariadb1011).await;
}

#[tokio::test]
async fn a_definer_that_the_target_lacks_and_that_would_shadow_another_is_not_created_by_the_remedy() {
    let pair = Pair::start(Kind::Mysql97, Kind::Mysql97);
    pair.source
        .run("", &format!("{PLAIN}; CREATE DEFINER = root@localhost VIEW shop.v AS SELECT id FROM shop.t"))
        .await;
    pair.target.run("", "DROP USER root@localhost").await;
    let mysql = pair.migration("m", Settings::default());
    let checks = findings(&mysql).await;
    has(&checks, Level::Error, "definers", "the view shop.v runs as root@localhost");
    assert_eq!(of(&checks, "definers", Level::Error)[0].fix, "");
    pair.target.run("", "CREATE USER root@localhost IDENTIFIED BY 'p'").await;
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
    mysql.clean_up().await.expect("a dropped migration cleans up");
    let tables: Vec<String> = pair
        .target
        .rows(
            "",
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ('shop', 'headgate') ORDER BY 1",
        )
        .await;
    assert_eq!(tables, ["theirs", "u"]);
    let accounts: Vec<String> =
        pair.target.rows("", "SELECT CAST(User AS CHAR) FROM mysql.user WHERE User IN ('app', 'used')").await;
    assert_eq!(accounts, ["used"]);
    // In what others have nothing is tried.
    let checks = findings(&mysql).await;
    has(&checks, Level::Error, "target_objects", "shop");
    has(&checks, Level::Warning, "schema_trial", "cannot be known");
}

#[tokio::test]
async fn what_mysql_97_refuses_of_mariadb_is_told_at_once_and_what_is_left_moves() {
    let pair = Pair::start(Kind::Mariadb1011, Kind::Mysql97);
    pair.source
        .run(
            "",
            "CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_nopad_ci; USE shop;
             CREATE TABLE deep (a DECIMAL(65,38) PRIMARY KEY);
             CREATE TABLE packed (a INT PRIMARY KEY, b VARCHAR(99) COMPRESSED NOT NULL DEFAULT 'x' COMMENT 'c, d', c TEXT COMPRESSED, d BLOB);
             INSERT INTO packed VALUES (1, REPEAT('b', 99), 'c', 'd');
             CREATE TABLE times (a INT PRIMARY KEY, t TIME(2), u TIME(6)); INSERT INTO times VALUES (1, '838:59:59.99', '-838:59:59.5'), (2, '838:59:59', '1:00:00');
             CREATE TABLE checked (a INT, b INT, n INT CHECK (n > 0), j JSON, PRIMARY KEY (a, b), CONSTRAINT sum CHECK (a + b < 10));
             SET check_constraint_checks = 0; INSERT INTO checked VALUES (1, 2, 3, '{}'), (8, 9, 1, NULL), (1, 1, -1, 'no');
             CREATE TABLE texts (a VARCHAR(9) COLLATE utf8mb4_nopad_bin NOT NULL DEFAULT 'z' COMMENT 'k', b VARCHAR(9) CHARACTER SET latin1 COLLATE latin1_german1_ci,
                 c VARCHAR(9) COLLATE utf8mb4_uca1400_ai_ci, UNIQUE KEY (a)) DEFAULT COLLATE utf8mb4_uca1400_as_cs;
             INSERT INTO texts VALUES ('a', 'x', 'y'), ('A', 'x', 'y');
             CREATE TABLE ids (id UUID NOT NULL DEFAULT UUID() PRIMARY KEY, i INET6 NOT NULL, f INET4); INSERT INTO ids (i, f) VALUES ('::1', '10.0.0.1');
             CREATE TABLE counting (n INT AUTO_INCREMENT, v INT, KEY (n)); INSERT INTO counting (v) VALUES (1), (1);
             CREATE TABLE plain (v INT); INSERT INTO plain VALUES (1), (1);
             CREATE TABLE other (a INT PRIMARY KEY) ENGINE = Aria; INSERT INTO other VALUES (1);
             CREATE TABLE versioned (a INT PRIMARY KEY) WITH SYSTEM VERSIONING;
             CREATE TABLE parent (id INT PRIMARY KEY); CREATE TABLE child (id INT PRIMARY KEY, p INT, CONSTRAINT of_parent FOREIGN KEY (p) REFERENCES parent (id));
             SET foreign_key_checks = 0; INSERT INTO child VALUES (1, 7);
             CREATE VIEW old AS SELECT a FROM packed; CREATE PROCEDURE p() SELECT OLD_PASSWORD('x')",
        )
        .await;
    let mysql = pair.migration("m", Settings::default());
    let checks = findings(&mysql).await;
    let error = |name, part| has(&checks, Level::Error, name, part);
    error("schema_trial", "the table shop.deep: Too big scale 38");
    error("compressed_columns", "shop.packed.b");
    error("compressed_columns", "shop.packed.c");
    error("refused_rows", "1 rows of shop.times hold a time in t");
    error("refused_rows", "1 rows of shop.times hold a time in u");
    error(
        "refused_rows",
        "1 rows of shop.checked break the constraint sum: CHECK (`a` + `b` < 10); the first has the key (8, 9)",
    );
    error("refused_rows", "break the constraint n: CHECK (`n` > 0); the first has the key (1, 1)");
    error("refused_rows", "break the constraint j");
    error(
        "collations",
        "shop.texts.a has the collation utf8mb4_nopad_bin, which the target does not know; nearest is utf8mb4_bin",
    );
    error("collations", "shop.texts.c");
    error("collations", "shop has the collation utf8mb4_unicode_nopad_ci");
    error("mariadb_only", "shop.ids.id is of the type uuid");
    error("mariadb_only", "shop.ids.i is of the type inet6");
    error("engines", "Aria");
    error("called_functions", "OLD_PASSWORD()");
    for table in ["counting", "plain"] {
        has(&checks, Level::Warning, "keys", &format!("shop.{table} has no key"));
    }
    nothing_is_left(&pair.target).await;
    let (left, ran) = follow_the_remedies(&mysql, &pair).await;
    let names = names(&left);
    let expected = ["version_pair", "refused_rows", "schema_trial", "called_functions"];
    assert_eq!(names, expected, "{:#?} {ran:#?}", worse(&left));
    for lead in ["ALTER DATABASE `shop` ", "ALTER TABLE `shop`.`texts` CHARACTER SET ", "UPDATE `shop`.`times` "] {
        assert!(ran.iter().any(|fix| fix.starts_with(lead)), "{lead}: {ran:#?}");
    }
    // Statements changed what they had to, and nothing beside it.
    let column: Vec<(String, String, String, Option<String>)> = pair
        .source
        .rows(
            "",
            "SELECT COLUMN_TYPE, IS_NULLABLE, COLUMN_COMMENT, COLLATION_NAME FROM information_schema.COLUMNS
             WHERE TABLE_SCHEMA = 'shop' AND (TABLE_NAME, COLUMN_NAME) IN (('texts', 'a'), ('texts', 'b'), ('packed', 'b')) ORDER BY TABLE_NAME, COLUMN_NAME",
        )
        .await;
    let short: Vec<String> = column
        .iter()
        .map(|(kind, null, comment, collation)| {
            format!("{kind} {null} {comment} {}", collation.clone().unwrap_or_default())
        })
        .collect();
    assert_eq!(short[1..], ["varchar(9) NO k utf8mb4_bin", "varchar(9) YES  latin1_german1_ci"]);
    assert!(short[0].starts_with("varchar(99) NO c, d "), "{short:?}");
    pair.source
        .run(
            "shop",
            "DELETE FROM checked WHERE a + b >= 10 OR n <= 0; ALTER TABLE deep MODIFY a DECIMAL(65,30); DROP PROCEDURE p",
        )
        .await;
    let checks = findings(&mysql).await;
    assert!(!checks.iter().any(|check| check.level == Level::Error), "{:#?}", worse(&checks));
    // Now the whole copy goes through; a row without its parent comes as it is.
    let plan = mysql.plan().await.expect("a plan");
    mysql.prepare(&plan).await.expect("prepared");
    let (progress, stop) = Default::default();
    let copied = mysql.copy(&plan, progress, stop).await;
    copied.unwrap_or_else(|error| panic!("{}", error.full_text()));
    for table in &plan.tables {
        let count = format!("SELECT COUNT(*) FROM shop.{}", table.name);
        let (there, here): (Vec<u32>, Vec<u32>) =
            (pair.source.rows("", &count).await, pair.target.rows("", &count).await);
        assert_eq!(here, there, "{}", table.name);
    }
}

#[tokio::test]
async fn a_spatial_reference_system_of_one_s_own_is_told_and_its_remedy_creates_it() {
    let pair = Pair::start(Kind::Mysql97, Kind::Mysql97);
    pair.source
        .run(
            "",
            &format!(
                r#"{PLAIN}; CREATE SPATIAL REFERENCE SYSTEM 4120001 NAME 'Greek''s' ORGANIZATION 'own' IDENTIFIED BY 7 DEFINITION
                 'GEOGCS["Greek",DATUM["Greek",SPHEROID["Bessel 1841",6377397.155,299.1528128,AUTHORITY["EPSG","7004"]],AUTHORITY["EPSG","6120"]],PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],UNIT["degree",0.017453292519943278,AUTHORITY["EPSG","9122"]],AXIS["Lat",NORTH],AXIS["Lon",EAST],AUTHORITY["EPSG","4120"]]'
                 DESCRIPTION 'of our own';
                 CREATE TABLE shop.places (id INT PRIMARY KEY, p POINT NOT NULL SRID 4120001, SPATIAL KEY (p))"#
            ),
        )
        .await;
    let mysql = pair.migration("m", Settings::default());
    let checks = findings(&mysql).await;
    has(
        &checks,
        Level::Error,
        "schema_trial",
        "the table shop.places: There's no spatial reference system with SRID 4120001",
    );
    let (left, _) = follow_the_remedies(&mysql, &pair).await;
    assert_eq!(worse(&left), Vec::<String>::new());
    let shown = "SELECT CONCAT_WS('|', SRS_NAME, DEFINITION, ORGANIZATION, ORGANIZATION_COORDSYS_ID, DESCRIPTION)
        FROM information_schema.ST_SPATIAL_REFERENCE_SYSTEMS WHERE SRS_ID = 4120001";
    let there: Vec<String> = pair.source.rows("", shown).await;
    assert_eq!(pair.target.rows::<String>("", shown).await, there);
}

/// Settings of the source under which its applications work; a new session on the target must get the same.
async fn settings_of_clients_are_made_equal(source: Kind, target: Kind, set: &[(&str, &str)]) {
    let pair = Pair::start(source, target);
    pair.source.run("", PLAIN).await;
    for (name, value) in set {
        pair.source.run("", &format!("SET GLOBAL {name} = {value}")).await;
    }
    let mysql = pair.migration("m", Settings::default());
    let checks = findings(&mysql).await;
    for (name, _) in set {
        let found = of(&checks, "client_settings", Level::Warning);
        let one = found.iter().find(|check| check.evidence.contains(&format!("get {name} = ")));
        let one = one.unwrap_or_else(|| panic!("{name}: {found:#?}"));
        assert!(one.fix.starts_with("SET "), "{one:?}");
    }
    let (left, ran) = follow_the_remedies(&mysql, &pair).await;
    let settings: Vec<&Check> = left.iter().filter(|check| check.name == "client_settings").collect();
    assert!(settings.iter().all(|check| check.fix.is_empty()), "{settings:#?}");
    if source == target {
        assert!(settings.is_empty(), "{settings:#?} {ran:#?}");
    }
    for (name, _) in set {
        assert!(!settings.iter().any(|check| check.evidence.contains(&format!("get {name} = "))));
    }
}

const SET_BY_OWNERS: &[(&str, &str)] = &[
    ("autocommit", "0"),
    ("completion_type", "'CHAIN'"),
    ("group_concat_max_len", "77"),
    ("default_week_format", "3"),
    ("div_precision_increment", "9"),
    ("collation_server", "latin1_german1_ci"),
    ("init_connect", "'SET @a = 1'"),
    ("auto_increment_increment", "2"),
    ("innodb_lock_wait_timeout", "7"),
    ("wait_timeout", "777"),
    ("sql_select_limit", "900"),
    ("lc_time_names", "'de_DE'"),
    ("max_sort_length", "100"),
    ("sql_safe_updates", "1"),
    ("foreign_key_checks", "0"),
];

#[tokio::test]
async fn settings_that_clients_inherit_from_mysql_97_are_told_and_made_equal() {
    let set =
        [SET_BY_OWNERS, &[("transaction_isolation", "'READ-COMMITTED'"), ("max_execution_time", "9000")]].concat();
    settings_of_clients_are_made_equal(Kind::Mysql97, Kind::Mysql97, &set).await;
}

#[tokio::test]
async fn settings_that_clients_inherit_from_mariadb_are_told_and_made_equal() {
    let set = [SET_BY_OWNERS, &[("tx_isolation", "'READ-COMMITTED'"), ("max_statement_time", "90")]].concat();
    settings_of_clients_are_made_equal(Kind::Mariadb1011, Kind::Mariadb1011, &set).await;
}

#[tokio::test]
async fn settings_that_clients_inherit_from_mysql_56_are_told_and_made_equal_on_97() {
    let set = [SET_BY_OWNERS, &[("tx_isolation", "'READ-COMMITTED'")]].concat();
    settings_of_clients_are_made_equal(Kind::Mysql56, Kind::Mysql97, &set).await;
}

#[tokio::test]
async fn no_setting_of_a_server_breaks_the_precheck() {
    for (source, target) in
        [(Kind::Mysql97, Kind::Mysql97), (Kind::Mysql56, Kind::Mysql97), (Kind::Mariadb1011, Kind::Mariadb1011)]
    {
        let pair = Pair::start(source, target);
        pair.source
            .run(
                "",
                &format!("{PLAIN}; CREATE VIEW shop.v AS SELECT id FROM shop.t; CREATE PROCEDURE shop.p() SELECT 1"),
            )
            .await;
        for server in [&pair.source, &pair.target] {
            let limit = match server.kind {
                Kind::Mysql97 => {
                    "SET GLOBAL max_execution_time = 1; SET GLOBAL sql_generate_invisible_primary_key = ON; SET GLOBAL sql_require_primary_key = ON"
                }
                Kind::Mysql56 => "DO 1",
                Kind::Mariadb1011 => "SET GLOBAL max_statement_time = 1",
            };
            let odd = format!(
                "SET GLOBAL completion_type = 'CHAIN'; SET GLOBAL group_concat_max_len = 4; SET GLOBAL autocommit = 0; SET GLOBAL sql_select_limit = 1;
                 SET GLOBAL sql_safe_updates = 1; SET GLOBAL sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,ONLY_FULL_GROUP_BY'; {limit}"
            );
            server.run("", &odd).await;
        }
        let mysql = pair.migration("m", Settings::default());
        pair.mend(&mysql).await;
        let checks = findings(&mysql).await;
        let allowed = ["binlog_row_metadata", "source_refusal", "client_settings", "fence_procedures"];
        let bad: Vec<String> =
            names(&checks).into_iter().filter(|name| !allowed.contains(name)).map(str::to_owned).collect();
        assert!(bad.is_empty(), "{source:?}: {:#?}", worse(&checks));
        has(&checks, Level::Ok, "schema_trial", "the whole schema");
        has(&checks, Level::Ok, "programs", "1 views and 1 routines");
    }
}

#[tokio::test]
async fn a_transaction_is_as_old_as_it_is_whatever_the_server_s_time_zone() {
    for kind in [Kind::Mysql97, Kind::Mysql56, Kind::Mariadb1011] {
        let target = if kind == Kind::Mysql56 { Kind::Mysql97 } else { kind };
        let pair = Pair::start_with((kind, &[("TZ", "XYZ3")]), (target, &[]));
        pair.source.run("", PLAIN).await;
        let mysql = pair.migration("m", Settings::default());
        for zone in ["'+05:00'", "'-08:00'", "SYSTEM"] {
            pair.source.run("", &format!("SET GLOBAL time_zone = {zone}")).await;
            let mut open = pair.source.connect("shop").await;
            open.query_drop("BEGIN; INSERT INTO t VALUES (1)").await.expect("written");
            let checks = findings(&mysql).await;
            has(&checks, Level::Ok, "long_transactions", "older");
        }
    }
}

#[tokio::test]
async fn an_account_that_may_not_undo_a_setting_in_its_sessions_is_told_the_right_for_it() {
    let pair = Pair::start(Kind::Mysql97, Kind::Mysql97);
    pair.source.run("", PLAIN).await;
    pair.target
        .run("", "SET GLOBAL innodb_strict_mode = OFF; CREATE USER mover@'127.0.0.1' IDENTIFIED BY 'm'; GRANT ALL ON shop.* TO mover@'127.0.0.1'")
        .await;
    let mut target = pair.target.endpoint("shop");
    "mover".clone_into(&mut target.user);
    target.password = Some("m".into());
    let secrets = std::sync::Arc::new(migrator::accounts::NoSecrets);
    let mysql = MysqlDatabase::new(Mysql::new("m", pair.source.endpoint("shop"), target, Settings::default(), secrets));
    let checks = findings(&mysql).await;
    has(&checks, Level::Error, "target_reachable", "innodb_strict_mode");
    let reported = of(&checks, "target_reachable", Level::Error);
    let (grant, back) = reported[0].remedy.split_once("; or set it back on the server: ").expect("two ways");
    assert_eq!(grant, "GRANT SESSION_VARIABLES_ADMIN ON *.* TO 'mover'@'127.0.0.1'");
    assert_eq!(reported[0].fix, grant);
    pair.target.run("", grant).await;
    has(&findings(&mysql).await, Level::Ok, "target_reachable", "9.7");
    pair.target.run("", &format!("REVOKE SESSION_VARIABLES_ADMIN ON *.* FROM mover@'127.0.0.1'; {back}")).await;
    has(&findings(&mysql).await, Level::Ok, "target_reachable", "9.7");
}

#[tokio::test]
async fn a_value_that_the_target_does_not_take_is_named_by_its_column_and_place_and_not_quoted() {
    let pair = Pair::start(Kind::Mariadb1011, Kind::Mysql97);
    pair.source
        .run(
            "",
            "CREATE DATABASE shop; USE shop; CREATE TABLE times (id INT PRIMARY KEY, t TIME(2), filler CHAR(200) DEFAULT 'f');
             INSERT INTO times (id, t) SELECT seq, '1:00:00' FROM seq_1_to_5000; UPDATE times SET t = '838:59:59.99' WHERE id = 4333; ANALYZE TABLE times",
        )
        .await;
    let settings = Settings { copy_chunk_bytes: 20_000, ..Settings::default() };
    let mysql = pair.migration("m", settings);
    let plan = mysql.plan().await.expect("a plan");
    mysql.prepare(&plan).await.expect("prepared");
    let (progress, stop) = Default::default();
    let refusal = mysql.copy(&plan, progress, stop).await.expect_err("MySQL has no such time");
    let text = refusal.full_text();
    assert!(text.contains("shop.times") && text.contains("column t, row 4333 of those sent"), "{text}");
    assert!(!text.contains("838"), "{text}");
}

#[tokio::test]
async fn every_setting_whose_statement_persists_can_be_persisted() {
    let server = Server::start(Kind::Mysql97, &[]);
    let mut session = server.connect("").await;
    let mut refused = Vec::new();
    for variable in VARIABLES.iter().filter(|variable| variable.clients) {
        let name = variable.name;
        let there = session.query_drop(format!("SELECT @@GLOBAL.`{name}`")).await;
        let kept = session.query_drop(format!("SET PERSIST `{name}` = @@GLOBAL.`{name}`")).await;
        if there.is_ok() && kept.is_err() {
            refused.push(name);
        }
    }
    assert_eq!(refused, NOT_PERSISTENT);
}
