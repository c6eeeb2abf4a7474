//! The statements that the precheck of MySQL and MariaDB prints, run as they stand on each server where they are printed:
//! the finding is gone afterwards.

mod servers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use migrator::accounts::NoSecrets;
use migrator::database::{Fencing as _, Preflight as _, SchemaAndLoad as _};
use migrator::model::plan::Settings;
use migrator::mysql::{Mysql, MysqlDatabase};
use migrator::preflight::{Check, Level};
use migrator::rights::Side;
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use servers::mysql::{Kind, LEAST, Pair, Server};
use tokio_util::sync::CancellationToken;

const PLAIN: &str =
    "CREATE DATABASE shop CHARACTER SET utf8mb4; CREATE TABLE shop.t (id INT PRIMARY KEY) ENGINE = InnoDB";
const PAIRS: [(Kind, Kind); 3] =
    [(Kind::Mysql97, Kind::Mysql97), (Kind::Mysql56, Kind::Mysql97), (Kind::Mariadb1011, Kind::Mariadb1011)];

/// The findings of this name that are not in order.
async fn found(mysql: &MysqlDatabase, name: &str) -> Vec<Check> {
    let mut checks = mysql.preflight().await.expect("the checks run");
    checks.retain(|check| check.name == name && check.level != Level::Ok);
    checks
}

/// Each finding is there, each has a statement, and no such finding is left once the statements were run there.
async fn end(mysql: &MysqlDatabase, server: &Server, names: &[&str]) {
    let checks = mysql.preflight().await.expect("the checks run");
    let of = |checks: &[Check]| -> Vec<Check> {
        let bad = checks.iter().filter(|check| check.level != Level::Ok);
        bad.filter(|check| names.contains(&check.name.as_str())).cloned().collect()
    };
    let reported = of(&checks);
    let seen: BTreeSet<&str> = reported.iter().map(|check| check.name.as_str()).collect();
    let wanted: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(seen, wanted, "{:?}", server.kind);
    let mut run = BTreeSet::new();
    for check in &reported {
        assert!(!check.fix.is_empty(), "{:?}: {check:?}", server.kind);
        // One statement may mend several findings.
        if run.insert(&check.fix) {
            server.run("", &check.fix).await;
        }
    }
    let checks = mysql.preflight().await.expect("the checks run");
    assert_eq!(of(&checks), [], "{:?}: after {run:#?}", server.kind);
}

#[tokio::test]
async fn settings_of_each_source_are_mended_by_the_statement_that_is_told() {
    for (source, target) in PAIRS {
        let pair = Pair::start(source, target);
        pair.source.run("", PLAIN).await;
        let mut provoked = vec![
            ("binlog_format", "SET GLOBAL binlog_format = 'STATEMENT'"),
            ("binlog_row_image", "SET GLOBAL binlog_row_image = 'MINIMAL'"),
        ];
        provoked.extend(match source {
            Kind::Mysql97 => vec![
                ("binlog_row_metadata", "SET GLOBAL binlog_row_metadata = 'MINIMAL'"),
                ("binlog_row_value_options", "SET GLOBAL binlog_row_value_options = 'PARTIAL_JSON'"),
                ("binlog_order_commits", "SET GLOBAL binlog_order_commits = OFF"),
                ("binlog_retention", "SET GLOBAL binlog_expire_logs_seconds = 3600"),
                ("server_id", "SET GLOBAL server_id = 0"),
            ],
            Kind::Mysql56 => vec![
                ("binlog_order_commits", "SET GLOBAL binlog_order_commits = OFF"),
                ("binlog_retention", "SET GLOBAL expire_logs_days = 1"),
                ("server_id", "SET GLOBAL server_id = 0"),
            ],
            Kind::Mariadb1011 => vec![
                ("binlog_row_metadata", "SET GLOBAL binlog_row_metadata = 'MINIMAL'"),
                ("binlog_retention", "SET GLOBAL expire_logs_days = 1"),
                ("log_bin_compress", "SET GLOBAL log_bin_compress = ON"),
            ],
        });
        for (_, statement) in &provoked {
            pair.source.run("", statement).await;
        }
        let names: Vec<&str> = provoked.iter().map(|(name, _)| *name).collect();
        end(&pair.migration("m", Settings::default()), &pair.source, &names).await;
    }
}

#[tokio::test]
async fn settings_of_each_target_are_mended_by_the_statement_that_is_told() {
    for (source, target) in PAIRS {
        let pair = Pair::start(source, target);
        pair.source
            .run(
                "",
                &format!(
                    "{PLAIN}; SET GLOBAL event_scheduler = ON; SET GLOBAL log_bin_trust_function_creators = ON;
                     SET GLOBAL max_allowed_packet = 134217728; SET GLOBAL time_zone = '+02:00';
                     CREATE FUNCTION shop.dice() RETURNS INT RETURN RAND() * 6"
                ),
            )
            .await;
        pair.target
            .run(
                "",
                "SET GLOBAL event_scheduler = OFF; SET GLOBAL log_bin_trust_function_creators = OFF;
                 SET GLOBAL binlog_format = 'MIXED'; SET GLOBAL binlog_row_image = 'MINIMAL';
                 SET GLOBAL local_infile = OFF; SET GLOBAL max_allowed_packet = 1048576; SET GLOBAL max_binlog_cache_size = 1048576; SET GLOBAL sql_mode = 'PAD_CHAR_TO_FULL_LENGTH';
                 CREATE DATABASE shop; CREATE TABLE shop.theirs (a INT); SET GLOBAL read_only = ON",
            )
            .await;
        let mysql = pair.migration("m", Settings::default());
        end(
            &mysql,
            &pair.target,
            &[
                "event_scheduler",
                "functions",
                "local_infile",
                "max_allowed_packet",
                "sql_mode",
                "target_objects",
                "target_read_only",
                "target_way_back",
                "time_zone",
                "transaction_size",
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn two_servers_of_one_number_are_told_apart_by_the_statement_that_is_told() {
    for kind in [Kind::Mysql97, Kind::Mariadb1011] {
        let settings: &[(&str, &str)] = &[("server-id", "7")];
        let pair = Pair::start_with((kind, settings), (kind, settings));
        pair.source.run("", PLAIN).await;
        end(&pair.migration("m", Settings::default()), &pair.target, &["server_ids"]).await;
    }
}

#[tokio::test]
async fn tables_of_each_source_are_mended_by_the_statement_that_is_told() {
    for (source, target) in PAIRS {
        let native: &[(&str, &str)] = &[("innodb-native-foreign-keys", "ON")];
        let settings = if source == Kind::Mysql97 { native } else { &[] };
        let pair = Pair::start_with((source, settings), (target, &[]));
        pair.source
            .run(
                "",
                "SET default_storage_engine = InnoDB; CREATE DATABASE shop; CREATE DATABASE other; USE shop;
                 CREATE TABLE parent (id INT PRIMARY KEY, b INT, UNIQUE KEY (b, id));
                 CREATE TABLE child (id INT PRIMARY KEY, p INT, b INT, CONSTRAINT casc FOREIGN KEY (b, p) REFERENCES parent (b, id) ON DELETE CASCADE,
                     CONSTRAINT nulls FOREIGN KEY (p) REFERENCES parent (id) ON UPDATE SET NULL);
                 CREATE TABLE other.o (id INT PRIMARY KEY);
                 ALTER TABLE child ADD o INT, ADD CONSTRAINT away FOREIGN KEY (o) REFERENCES other.o (id);
                 CREATE TABLE old (a INT) ENGINE = MyISAM; INSERT INTO old VALUES (1), (1)",
            )
            .await;
        let mut names = vec!["engines", "foreign_key_cascades", "foreign_key_databases", "keys"];
        if source == Kind::Mariadb1011 {
            let versioned =
                "CREATE TABLE v (a INT PRIMARY KEY) WITH SYSTEM VERSIONING; INSERT INTO v VALUES (1); DELETE FROM v";
            pair.source.run("shop", versioned).await;
            names.push("system_versioned");
        }
        let mysql = pair.migration("m", Settings::default());
        end(&mysql, &pair.source, &names).await;
        let rows: Vec<i32> = pair.source.rows("shop", "SELECT a FROM old").await;
        assert_eq!(rows, [1, 1]);
    }
}

/// What has no statement of its own is done as it says.
#[tokio::test]
async fn what_is_advised_ends_the_finding() {
    for (source, target) in PAIRS {
        let pair = Pair::start(source, target);
        pair.source
            .run(
                "",
                "SET default_storage_engine = InnoDB; CREATE DATABASE other; CREATE TABLE other.o (id INT PRIMARY KEY)",
            )
            .await;
        let alone = pair.migration("m", Settings::default());
        let checks = found(&alone, "source_databases").await;
        assert!(checks[0].evidence.contains("there is no database shop"), "{checks:?}");
        pair.source.run("", "CREATE DATABASE shop").await;
        assert_eq!(found(&alone, "source_databases").await, []);
        let checks = found(&alone, "plan").await;
        assert!(checks[0].evidence.contains("there is no table"), "{checks:?}");
        pair.source
            .run(
                "shop",
                "SET default_storage_engine = InnoDB; CREATE TABLE t (a FLOAT PRIMARY KEY, id INT UNIQUE);
                 ALTER TABLE t ADD CONSTRAINT away FOREIGN KEY (id) REFERENCES other.o (id);
                 ALTER TABLE other.o ADD CONSTRAINT back FOREIGN KEY (id) REFERENCES shop.t (id)",
            )
            .await;
        assert_eq!(found(&alone, "plan").await, []);
        // The statement is for Headgate, and names the databases; the definition is the operator's.
        let checks = found(&alone, "other_databases").await;
        assert_eq!(checks[0].fix, "CREATE MIGRATION … WITH (schemas = 'shop, other')");
        let schemas = ["shop", "other"].map(str::to_owned).to_vec();
        let both = pair.migration("m", Settings { schemas, ..Settings::default() });
        for name in ["other_databases", "foreign_key_databases", "foreign_keys_from_outside"] {
            assert_ne!(found(&alone, name).await, [], "{name}");
            assert_eq!(found(&both, name).await, [], "{name}");
        }
        let checks = found(&alone, "float_keys").await;
        assert!(checks[0].evidence.contains("a FLOAT") || checks[0].evidence.contains("a float"), "{checks:?}");
        pair.source.run("shop", "ALTER TABLE t MODIFY a DOUBLE").await;
        assert_eq!(found(&alone, "float_keys").await, []);
    }
}

#[tokio::test]
async fn an_account_that_is_locked_on_the_target_is_unlocked_by_the_statement_that_is_told() {
    for kind in [Kind::Mysql97, Kind::Mariadb1011] {
        let pair = Pair::start(kind, kind);
        pair.source.run("", &format!("{PLAIN}; CREATE USER app@'%'")).await;
        pair.target.run("", "CREATE USER app@'%' ACCOUNT LOCK").await;
        end(&pair.migration("m", Settings::default()), &pair.target, &["accounts"]).await;
    }
}

/// InnoDB lists transactions anew only after nobody has asked for a tenth of a second.
const LIST_OF_TRANSACTIONS_AGES: &str = "DO SLEEP(0.2)";

/// Runs a statement that ends a session, and waits for its end on the same connection: MySQL 5.6 closes the socket of the
/// session before it wakes it, which waits on for whoever connects in between.
async fn kill(boss: &mut Conn, fix: &str, id: u32) {
    boss.query_drop(fix).await.expect("the source obeys");
    let left = format!("SELECT 1 FROM information_schema.processlist WHERE id = {id}");
    let until = Instant::now() + Duration::from_mins(1);
    while boss.query_first::<i64, _>(&left).await.expect("it tells") == Some(1) {
        assert!(Instant::now() < until, "{fix} ends nobody");
    }
}

/// The sessions are named by their numbers, and nobody else's is ended.
#[tokio::test]
async fn sessions_that_a_cutover_would_wait_for_are_ended_by_the_statement_that_is_told() {
    let each = PAIRS.map(|(source, target)| {
        tokio::spawn(async move {
            let pair = Pair::start(source, target);
            pair.source
                .run("", &format!("{PLAIN}; CREATE USER app@'127.0.0.1' IDENTIFIED BY 'a'; GRANT ALL ON shop.* TO app@'127.0.0.1';
                     CREATE USER app@localhost IDENTIFIED BY 'a'; GRANT ALL ON shop.* TO app@localhost"))
                .await;
            let mysql = pair.migration("m", Settings::default());
            let mut app = pair.source.connect_as("app", Some("a"), "shop").await;
            let right = match source {
                Kind::Mysql97 => "CONNECTION_ADMIN",
                Kind::Mysql56 => "SUPER",
                Kind::Mariadb1011 => "READ_ONLY ADMIN",
            };
            for host in ["127.0.0.1", "localhost"] {
                let boss = format!("CREATE USER boss@'{host}' IDENTIFIED BY 'b'; GRANT {right} ON *.* TO boss@'{host}'");
                pair.source.run("", &boss).await;
            }
            let boss = pair.source.connect_as("boss", Some("b"), "").await;
            let write = "BEGIN; INSERT INTO t VALUES (1)";
            app.query_drop(write).await.expect("it writes");
            let nobody = || Ok(Vec::new());
            let mut root = pair.source.connect("").await;
            for (name, session) in [("writers", app.id()), ("fence_sessions", boss.id())] {
                let reported = async || {
                    let mut checks = mysql.writers(&nobody).await.expect("it can look");
                    checks.retain(|check| check.name == name && check.level != Level::Ok);
                    checks
                };
                let checks = reported().await;
                assert_eq!(checks.len(), 1, "{source:?}: {checks:?}");
                assert_eq!(checks[0].fix, format!("KILL {session}"));
                kill(&mut root, &checks[0].fix, session).await;
                assert_eq!(reported().await, [], "{source:?}: {name}");
            }
            let mut app = pair.source.connect_as("app", Some("a"), "shop").await;
            app.query_drop(write).await.expect("it writes");
            let until = Instant::now() + Duration::from_mins(1);
            let mut open = found(&mysql, "long_transactions").await;
            while open.is_empty() {
                assert!(Instant::now() < until, "{source:?} tells nobody");
                root.query_drop(LIST_OF_TRANSACTIONS_AGES).await.expect("it waits");
                open = found(&mysql, "long_transactions").await;
            }
            assert_eq!(open[0].fix, format!("KILL {}", app.id()));
            kill(&mut root, &open[0].fix, app.id()).await;
            root.query_drop(LIST_OF_TRANSACTIONS_AGES).await.expect("it waits");
            assert_eq!(found(&mysql, "long_transactions").await, [], "{source:?}");
        })
    });
    for one in each {
        one.await.expect("its remedies work");
    }
}

#[tokio::test]
async fn a_target_that_follows_another_server_follows_nobody_after_the_statement_that_is_told() {
    for (kind, follow) in [
        (
            Kind::Mysql97,
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = 1, SOURCE_USER = 'nobody'",
        ),
        (
            Kind::Mariadb1011,
            "CHANGE MASTER 'one' TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1, MASTER_USER = 'nobody'",
        ),
    ] {
        let pair = Pair::start(kind, kind);
        pair.source.run("", PLAIN).await;
        pair.target.run("", follow).await;
        end(&pair.migration("m", Settings::default()), &pair.target, &["target_replica"]).await;
    }
}

/// A migration by accounts that have the printed rights on both sides, but for those in which one of these occurs.
async fn without(pair: &Pair, rights: &[&str]) -> MysqlDatabase {
    for (server, side) in [(&pair.source, Side::Source), (&pair.target, Side::Target)] {
        let printed = server.grants(side, LEAST).into_iter().enumerate();
        let left_out = printed.filter(|(_, grant)| rights.iter().any(|right| grant.statement.contains(right)));
        let left_out: Vec<usize> = left_out.map(|(number, _)| number).collect();
        server.grant(side, LEAST, &left_out).await;
    }
    let (source, target) = (pair.source.least("shop"), pair.target.least("shop"));
    MysqlDatabase::new(Mysql::new("m", source, target, Settings::default(), Arc::new(NoSecrets)))
}

#[tokio::test]
async fn what_may_not_be_seen_of_what_stays_behind_is_seen_by_the_grant_that_is_told() {
    const NAMES: [&str; 2] = ["source_left_behind", "target_left_behind"];
    for (source, target) in PAIRS {
        let pair = Pair::start(source, target);
        pair.source.run("", PLAIN).await;
        let mysql = without(&pair, &["GRANT SELECT ON `mysql`", "GRANT PROCESS "]).await;
        let left = async || -> Vec<Check> {
            let mut left = found(&mysql, NAMES[0]).await;
            left.extend(found(&mysql, NAMES[1]).await);
            left
        };
        let first = left().await;
        let names: BTreeSet<&str> = first.iter().map(|check| check.name.as_str()).collect();
        assert_eq!(names, BTreeSet::from(NAMES), "{source:?}: {first:#?}");
        for check in &first {
            let server = if check.name == NAMES[0] { &pair.source } else { &pair.target };
            server.run("", &check.fix).await;
        }
        assert_eq!(left().await, [], "{source:?}: after {first:#?}");
    }
}

/// The rights can be lost after the precheck saw them.
#[tokio::test]
async fn who_else_writes_to_either_side_is_seen_by_the_grant_that_is_told() {
    let pair = Pair::start(Kind::Mysql97, Kind::Mysql97);
    pair.source.run("", PLAIN).await;
    let mysql = without(&pair, &["`performance_schema`"]).await;
    let nobody = || Ok(Vec::new());
    let refused = mysql.writers(&nobody).await.expect_err("it may not look");
    let grants = refused.remedy_text().expect("a remedy");
    pair.source.run("", grants).await;
    let reported = async || {
        let mut checks = mysql.writers(&nobody).await.expect("it can look");
        checks.retain(|check| check.name == "foreign_writes");
        checks
    };
    let unseen = reported().await;
    assert_eq!(unseen[0].level, Level::Error, "{unseen:?}");
    pair.target.run("", &unseen[0].fix).await;
    let seen = reported().await;
    assert_eq!(seen[0].level, Level::Ok, "{seen:?}");
}

#[tokio::test]
async fn a_copy_that_may_not_see_prepared_transactions_begins_after_the_grant_that_is_told() {
    let pair = Pair::start(Kind::Mysql97, Kind::Mysql97);
    pair.source.run("", &format!("{PLAIN}; INSERT INTO shop.t VALUES (1)")).await;
    let mysql = without(&pair, &["XA_RECOVER_ADMIN"]).await;
    let plan = mysql.plan().await.expect("the source can be read");
    mysql.prepare(&plan).await.unwrap_or_else(|error| panic!("{}", error.full_text()));
    let copy = async || mysql.copy(&plan, Arc::default(), CancellationToken::new()).await;
    let refused = copy().await.expect_err("it may not look");
    let grant = refused.remedy_text().expect("a remedy");
    assert_eq!(grant, format!("GRANT XA_RECOVER_ADMIN ON *.* TO '{LEAST}'@'%'"));
    pair.source.run("", grant).await;
    copy().await.unwrap_or_else(|error| panic!("{}", error.full_text()));
    let rows: Vec<i32> = pair.target.rows("shop", "SELECT id FROM t").await;
    assert_eq!(rows, [1]);
}

/// What another version or family has under this name nobody knows: then it is only named.
#[tokio::test]
async fn plugins_and_functions_that_the_target_lacks_are_installed_by_the_statement_that_is_told() {
    for (source, target, install, count) in [
        (
            Kind::Mysql97,
            Kind::Mysql97,
            "INSTALL PLUGIN mysql_no_login SONAME 'mysql_no_login.so';
             CREATE FUNCTION service_get_read_locks RETURNS INTEGER SONAME 'locking_service.so'",
            2,
        ),
        (Kind::Mariadb1011, Kind::Mariadb1011, "INSTALL PLUGIN locales SONAME 'locales.so'", 1),
        (Kind::Mariadb1011, Kind::Mysql97, "INSTALL PLUGIN locales SONAME 'locales.so'", 0),
    ] {
        let pair = Pair::start(source, target);
        pair.source.run("", &format!("{PLAIN}; {install}")).await;
        let mysql = pair.migration("m", Settings::default());
        let checks = found(&mysql, "plugins").await;
        let fixes: Vec<&str> = checks.iter().map(|check| check.fix.as_str()).filter(|fix| !fix.is_empty()).collect();
        assert_eq!(fixes.len(), count, "{source:?}: {checks:#?}");
        for fix in &fixes {
            pair.target.run("", fix).await;
        }
        assert_eq!(found(&mysql, "plugins").await.is_empty(), count > 0, "{source:?}");
    }
}
