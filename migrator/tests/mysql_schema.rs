//! The schema comes over whole: what the source shows of itself the target shows too, between each pair of servers.

mod servers;

use std::collections::BTreeMap;
use std::sync::Arc;

use migrator::database::{Counters as _, SchemaAndLoad as _};
use migrator::model::plan::{Plan, Settings};
use migrator::model::progress::Progress;
use migrator::mysql::schema::archive::Archive;
use migrator::mysql::schema::{accounts, post_data, triggers};
use migrator::mysql::{Mysql, MysqlDatabase, schema};
use servers::mysql::{Kind, Pair, Server};
use tokio_util::sync::CancellationToken;

const MYSQL_97: &str = include_str!("mysql_schema/mysql97.sql");
const MYSQL_56: &str = include_str!("mysql_schema/mysql56.sql");
const MARIADB: &str = include_str!("mysql_schema/mariadb.sql");

/// Everything but the rows, as a migration does it, twice.
async fn bring_over(mysql: &MysqlDatabase) -> Plan {
    let plan = mysql.plan().await.expect("the source can be read");
    let progress = Arc::new(Progress::default());
    let stop = CancellationToken::new();
    for _ in 0..2 {
        schema::prepare(mysql, &plan).await.expect("the target can be prepared");
        let mut target = mysql.connect_target("test").await.expect("the target answers");
        let archive = Archive::open(mysql, &mut target).await.expect("it is kept");
        for table in &plan.tables {
            post_data::plain_indexes(mysql, &mut target, &archive, table).await.expect("plain indexes can be built");
        }
        post_data::rest(mysql, &plan, &progress, &stop).await.expect("the rest can be built");
    }
    plan
}

/// Each thing of the databases and its definition, as far as both servers write it the same.
async fn shown(server: &Server, mysql: &MysqlDatabase) -> BTreeMap<String, String> {
    let archive = Archive::read(&MysqlDatabase::new(Mysql::new(
        "look",
        server.endpoint("shop"),
        server.endpoint("shop"),
        mysql.settings().clone(),
        Arc::new(migrator::accounts::NoSecrets),
    )))
    .await
    .expect("definitions can be read");
    let mut shown = BTreeMap::new();
    for table in archive.tables.iter().chain(&archive.sequences) {
        shown.insert(format!("{}.{}", table.schema, table.name), table.create.clone());
    }
    for one in &archive.programs {
        let under = format!("{} {} {} {}", one.sql_mode, one.client, one.collation, one.time_zone);
        let key = format!("{:?} {}.{}", one.kind, one.schema, one.name);
        shown.insert(key, format!("{under} {}", one.create));
    }
    shown
}

fn settings(schemas: &[&str]) -> Settings {
    Settings { schemas: schemas.iter().map(|name| (*name).to_owned()).collect(), ..Settings::default() }
}

/// A definition without what counters have counted, and without the end of the statement that a script wrote.
fn plain(definition: &str) -> String {
    let digits = |part: &str| part.trim_start_matches(|letter: char| letter.is_ascii_digit()).to_owned();
    let parts: Vec<String> = definition.split(" AUTO_INCREMENT=").map(digits).collect();
    let text = parts.concat();
    // MariaDB forgets what means nothing to InnoDB as soon as the table is altered.
    let text = text.replace(" PAGE_CHECKSUM=1", "");
    // MySQL turns a constant into the character set of the column that a check compares it with.
    let text = text.replace("_latin1'", "_utf8mb4'");
    // MySQL names the character set too where a collation was given and not inherited.
    text.replace(" CHARACTER SET latin1 COLLATE latin1_german1_ci", " COLLATE latin1_german1_ci")
        .trim_end_matches(';')
        .to_owned()
}

fn compare(there: &BTreeMap<String, String>, here: &BTreeMap<String, String>) {
    for (name, definition) in there {
        let found = here.get(name).unwrap_or_else(|| panic!("{name} is not on the target"));
        assert_eq!(plain(found), plain(definition), "{name}");
    }
    assert_eq!(there.len(), here.len());
}

/// The order in which triggers fire.
async fn firing(server: &Server) -> Vec<String> {
    server
        .rows(
            "shop",
            "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'shop' ORDER BY ACTION_ORDER",
        )
        .await
}

async fn no_triggers_until_the_switch(pair: &Pair, mysql: &MysqlDatabase) {
    assert!(firing(&pair.target).await.is_empty());
    let mut target = mysql.connect_target("test").await.expect("it answers");
    for _ in 0..2 {
        triggers::create(mysql, &mut target).await.expect("triggers can be created");
        assert_eq!(firing(&pair.target).await, firing(&pair.source).await);
    }
    // One of a table that lacks another fires where it did.
    pair.target.run("shop", "DROP TRIGGER t_first").await;
    triggers::create(mysql, &mut target).await.expect("triggers can be created");
    assert_eq!(firing(&pair.target).await, firing(&pair.source).await);
    post_data::enable_events(mysql).await.expect("events can be enabled");
}

/// What the table hands out next, as its definition says: the catalogue's numbers may be old.
async fn next_value(server: &Server) -> Option<u64> {
    let shown: Vec<(String, String)> = server.rows("shop", "SHOW CREATE TABLE `select`").await;
    let (_, after) = shown.first()?.1.split_once("AUTO_INCREMENT=")?;
    after.split(' ').next()?.parse().ok()
}

async fn counters_are_past(pair: &Pair, mysql: &MysqlDatabase, plan: &Plan) {
    mysql.advance_counters(plan).await.expect("counters can be set");
    let there = next_value(&pair.source).await;
    let here = next_value(&pair.target).await;
    assert_eq!(there, Some(1000));
    assert_eq!(here, Some(11_000));
}

#[tokio::test]
async fn between_two_of_mysql_every_definition_is_the_same() {
    let pair = Pair::start(Kind::Mysql97, Kind::Mysql97);
    pair.source.run("", MYSQL_97).await;
    let mysql = pair.migration("m", settings(&["shop", "ne.xt`door"]));
    pair.mend(&mysql).await;
    let plan = bring_over(&mysql).await;
    assert_eq!(plan.tables.len(), 8);
    no_triggers_until_the_switch(&pair, &mysql).await;
    counters_are_past(&pair, &mysql, &plan).await;
    let (there, here) = (shown(&pair.source, &mysql).await, shown(&pair.target, &mysql).await);
    compare(&there, &here);
}

#[tokio::test]
async fn between_two_of_mariadb_every_definition_is_the_same() {
    let pair = Pair::start(Kind::Mariadb1011, Kind::Mariadb1011);
    pair.source.run("", MARIADB).await;
    pair.source
        .run(
            "shop",
            "CREATE SEQUENCE seq START WITH 5 INCREMENT BY 3 CACHE 10;
             CREATE TABLE only_here (id BIGINT PRIMARY KEY DEFAULT NEXTVAL(seq), u UUID, i INET6); DO NEXTVAL(seq)",
        )
        .await;
    let mysql = pair.migration("m", Settings::default());
    pair.mend(&mysql).await;
    let plan = bring_over(&mysql).await;
    no_triggers_until_the_switch(&pair, &mysql).await;
    counters_are_past(&pair, &mysql, &plan).await;
    let next: Vec<i64> = pair.target.rows("shop", "SELECT next_not_cached_value FROM seq").await;
    assert_eq!(next, [35 + 3 * 10_000]);
    let (there, here) = (shown(&pair.source, &mysql).await, shown(&pair.target, &mysql).await);
    compare(&there, &here);
}

/// Nothing was loaded yet: what was mended on the source is in the next attempt, whatever the last one has left.
#[tokio::test]
async fn what_was_mended_on_the_source_before_anything_was_loaded_is_in_the_next_attempt() {
    for (source, refused) in [(Kind::Mysql56, "DOUBLE AUTO_INCREMENT"), (Kind::Mariadb1011, "DECIMAL(65,38)")] {
        let pair = Pair::start(source, Kind::Mysql97);
        // One session in four creates the first, the fifth and the last of them, in this order.
        let tables = ["a", "b", "c", "d", "gone", "h", "i", "j"];
        let tables = tables.map(|name| format!("CREATE TABLE {name} (id INT PRIMARY KEY);"));
        let tables = tables.concat();
        pair.source
            .run(
                "",
                &format!(
                    "CREATE DATABASE shop; USE shop; SET default_storage_engine = InnoDB;
                     {tables}
                     CREATE TABLE z (id {refused} PRIMARY KEY); CREATE USER app@'%'"
                ),
            )
            .await;
        let mysql = pair.migration("m", Settings::default());
        assert!(!mysql.has_schema().await.expect("it can be seen"));
        let plan = mysql.plan().await.expect("a plan");
        let failure = mysql.prepare(&plan).await.expect_err("it is refused");
        assert!(failure.full_text().contains("shop.z"), "{}", failure.full_text());
        let tables = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'shop' ORDER BY 1";
        let left: Vec<String> = pair.target.rows("", tables).await;
        assert!(left.contains(&"gone".to_owned()), "{left:?}");
        assert!(!mysql.has_schema().await.expect("it can be seen"));
        pair.source
            .run(
                "shop",
                "SET default_storage_engine = InnoDB; ALTER TABLE z MODIFY id BIGINT; ALTER TABLE a ADD late INT; DROP TABLE gone;
                 CREATE TABLE fresh (id INT PRIMARY KEY)",
            )
            .await;
        // What others put there meanwhile is theirs.
        pair.target.run("shop", "CREATE TABLE theirs (id INT)").await;
        bring_over(&mysql).await;
        assert!(mysql.has_schema().await.expect("it can be seen"));
        let now: Vec<String> = pair.target.rows("", tables).await;
        assert_eq!(now, ["a", "b", "c", "d", "fresh", "h", "i", "j", "theirs", "z"]);
        let late: Vec<String> = pair
            .target
            .rows("", "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'shop' AND TABLE_NAME = 'a' ORDER BY 1")
            .await;
        assert_eq!(late, ["id", "late"]);
        let stays = mysql.remove_made().await.expect("it is dropped");
        assert_eq!(stays, ["database shop, which holds what others made"]);
        assert_eq!(pair.target.rows::<String>("", tables).await, ["theirs"]);
        let accounts = "SELECT CAST(User AS CHAR) FROM mysql.user WHERE User = 'app'";
        assert_eq!(pair.target.rows::<String>("", accounts).await, Vec::<String>::new());
    }
}

/// A sequence that begins anew is at the very value, whichever way it went since the last time.
#[tokio::test]
async fn a_sequence_that_cycles_goes_on_where_it_stood() {
    let pair = Pair::start(Kind::Mariadb1011, Kind::Mariadb1011);
    pair.source
        .run(
            "",
            "CREATE DATABASE shop; USE shop;
             CREATE SEQUENCE up MINVALUE 1 MAXVALUE 10 INCREMENT 3 NOCACHE CYCLE; DO NEXTVAL(up), NEXTVAL(up), NEXTVAL(up);
             CREATE SEQUENCE down MINVALUE -9 MAXVALUE -1 START -5 INCREMENT -4 NOCACHE CYCLE;
             CREATE SEQUENCE set_to MINVALUE 1 MAXVALUE 100 NOCACHE CYCLE; SELECT SETVAL(set_to, 77, 0)",
        )
        .await;
    let mysql = pair.migration("m", Settings::default());
    pair.mend(&mysql).await;
    let plan = bring_over(&mysql).await;
    let next = async |server: &Server| -> Vec<Option<i64>> {
        let query = "SELECT NEXTVAL(up) UNION ALL SELECT NEXTVAL(down) UNION ALL SELECT NEXTVAL(set_to)";
        server.rows("shop", query).await
    };
    // The target goes forward, begins anew with the source, was used by itself, and meets one that is at its end.
    for (target_first, expected) in [(0, [10, -5, 77]), (0, [4, -1, 79]), (4, [10, -9, 81]), (0, [4, -5, 83])] {
        for _ in 0..target_first {
            let _ = next(&pair.target).await;
        }
        mysql.advance_counters(&plan).await.expect("counters can be set");
        assert_eq!(next(&pair.target).await, expected.map(Some));
        assert_eq!(next(&pair.source).await, expected.map(Some));
        let _ = next(&pair.source).await;
    }
}

async fn columns(server: &Server) -> Vec<(String, String, Option<String>, Option<String>)> {
    let mut rows: Vec<(String, String, Option<String>, Option<String>)> = server
        .rows(
            "shop",
            "SELECT CONCAT(TABLE_NAME, '.', COLUMN_NAME) name, CONCAT(IS_NULLABLE, ' ', DATA_TYPE), CHARACTER_SET_NAME, COLLATION_NAME
             FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'shop' ORDER BY TABLE_NAME, ORDINAL_POSITION",
        )
        .await;
    for (_, _, charset, collation) in &mut rows {
        for name in [charset, collation] {
            if let Some(short) = name
                .as_ref()
                .and_then(|name| name.strip_prefix("utf8").filter(|rest| rest.is_empty() || rest.starts_with('_')))
            {
                *name = Some(format!("utf8mb3{short}"));
            }
        }
    }
    rows
}

async fn indexes(server: &Server) -> Vec<(String, u8)> {
    server
        .rows(
            "shop",
            "SELECT CONCAT(TABLE_NAME, '.', INDEX_NAME, '.', SEQ_IN_INDEX, '.', COLUMN_NAME, COALESCE(SUB_PART, ''), INDEX_TYPE) name, NON_UNIQUE
             FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = 'shop' ORDER BY name",
        )
        .await
}

async fn crossing(pair: &Pair, script: &str) {
    pair.source.run("", script).await;
    let mysql = pair.migration("m", Settings::default());
    pair.mend(&mysql).await;
    let plan = bring_over(&mysql).await;
    no_triggers_until_the_switch(pair, &mysql).await;
    counters_are_past(pair, &mysql, &plan).await;
    assert_eq!(columns(&pair.target).await, columns(&pair.source).await);
    assert_eq!(indexes(&pair.target).await, indexes(&pair.source).await);
    let (there, here) = (shown(&pair.source, &mysql).await, shown(&pair.target, &mysql).await);
    let (there, here): (Vec<_>, Vec<_>) = (there.keys().collect(), here.keys().collect());
    assert_eq!(here, there);
    let ran: Vec<String> =
        pair.target.rows("shop", "SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_NAME = 'ev'").await;
    assert_eq!(ran, ["ENABLED"]);
}

#[tokio::test]
async fn from_mysql_56_every_column_keeps_its_collation_and_every_index_its_columns() {
    crossing(&Pair::start(Kind::Mysql56, Kind::Mysql97), MYSQL_56).await;
}

#[tokio::test]
async fn from_mariadb_to_mysql_every_column_keeps_its_collation_and_every_index_its_columns() {
    crossing(&Pair::start(Kind::Mariadb1011, Kind::Mysql97), MARIADB).await;
}

async fn log_in(server: &Server, user: &str, password: &str) -> bool {
    let mut endpoint = server.endpoint("shop");
    user.clone_into(&mut endpoint.user);
    endpoint.password = Some(password.into());
    migrator::mysql::client::connect(&endpoint, "test").await.is_ok()
}

/// Knows the password of one account, as if its client had shown it.
struct Shown;

impl migrator::accounts::Secrets for Shown {
    fn password(&self, user: &str) -> Option<String> {
        (user == "old").then(|| "old's".to_owned())
    }
}

fn with_secrets(pair: &Pair) -> MysqlDatabase {
    MysqlDatabase::new(Mysql::new(
        "m",
        pair.source.endpoint("shop"),
        pair.target.endpoint("shop"),
        Settings::default(),
        Arc::new(Shown),
    ))
}

#[tokio::test]
async fn between_two_of_mysql_accounts_log_in_with_the_same_password_and_the_same_rights() {
    let pair = Pair::start(Kind::Mysql97, Kind::Mysql97);
    pair.source
        .run(
            "",
            "CREATE DATABASE shop; CREATE TABLE shop.t (a INT PRIMARY KEY, b INT); CREATE DATABASE other;
             CREATE PROCEDURE shop.p() SELECT 1;
             CREATE ROLE reader; GRANT SELECT ON shop.* TO reader;
             CREATE USER app@'127.0.0.1' IDENTIFIED BY 'it''s' WITH MAX_USER_CONNECTIONS 7; GRANT reader TO app@'127.0.0.1';
             SET DEFAULT ROLE reader TO app@'127.0.0.1';
             GRANT INSERT (a), UPDATE ON shop.t TO app@'127.0.0.1' WITH GRANT OPTION; GRANT ALL ON other.* TO app@'127.0.0.1';
             GRANT EXECUTE ON PROCEDURE shop.p TO app@'127.0.0.1'; GRANT PROCESS, BACKUP_ADMIN ON *.* TO app@'127.0.0.1';
             CREATE USER shut@'%' ACCOUNT LOCK",
        )
        .await;
    let mysql = pair.migration("m", Settings::default());
    pair.mend(&mysql).await;
    bring_over(&mysql).await;
    assert!(log_in(&pair.target, "app", "it's").await);
    assert!(!log_in(&pair.target, "app", "its").await);
    let grants = "SHOW GRANTS FOR app@'127.0.0.1'";
    let mut there: Vec<String> = pair.source.rows("", grants).await;
    there.retain(|line| !line.contains("`other`"));
    let here: Vec<String> = pair.target.rows("", grants).await;
    assert_eq!(here, there);
    for user in ["app@'127.0.0.1'", "shut@'%'", "reader"] {
        let shown = format!(
            "SELECT User, account_locked, max_user_connections FROM mysql.user WHERE CONCAT(User, Host) = CONCAT(SUBSTRING_INDEX(\"{user}\", '@', 1), IF(\"{user}\" LIKE '%127%', '127.0.0.1', '%'))"
        );
        let there: Vec<(String, String, u32)> = pair.source.rows("", &shown).await;
        assert_eq!(pair.target.rows::<(String, String, u32)>("", &shown).await, there);
        assert_eq!(there.len(), 1);
    }
    let roles = "SELECT CAST(CONCAT(DEFAULT_ROLE_USER, USER) AS CHAR) FROM mysql.default_roles";
    assert_eq!(pair.target.rows::<String>("", roles).await, ["readerapp"]);
    assert!(accounts::missing(&mysql).await.expect("accounts can be read").is_empty());
}

/// Accounts whose way to log in is gone on the target come when their password is known, and are named until then.
async fn accounts_of_another_kind(source: Kind, role: bool) {
    let pair = Pair::start(source, Kind::Mysql97);
    pair.source
        .run(
            "",
            "CREATE DATABASE shop; CREATE TABLE shop.t (a INT PRIMARY KEY) ENGINE = InnoDB;
             CREATE USER old@'127.0.0.1' IDENTIFIED BY 'old''s'; GRANT SELECT, INSERT ON shop.* TO old@'127.0.0.1';
             CREATE USER unknown@'%' IDENTIFIED BY 'x'; CREATE USER empty@'127.0.0.1'; GRANT SELECT ON shop.t TO empty@'127.0.0.1'",
        )
        .await;
    if role {
        pair.source
            .run("", "CREATE ROLE writer; GRANT UPDATE ON shop.* TO writer; GRANT writer TO old@'127.0.0.1'; SET DEFAULT ROLE writer FOR old@'127.0.0.1'; \
                 CREATE USER shut@'127.0.0.1' ACCOUNT LOCK")
            .await;
    }
    let mysql = pair.migration("m", Settings::default());
    pair.mend(&mysql).await;
    bring_over(&mysql).await;
    assert!(log_in(&pair.target, "empty", "").await);
    if role {
        let locked = "SELECT CAST(account_locked AS CHAR) FROM mysql.user WHERE User = 'shut'";
        assert_eq!(pair.target.rows::<String>("", locked).await, ["Y"]);
    }
    let missing = accounts::missing(&mysql).await.expect("accounts can be read");
    assert_eq!(missing.len(), 2, "{missing:?}");
    assert!(missing[0].starts_with("`old`@`127.0.0.1` logs in by mysql_native_password"), "{missing:?}");
    let mysql = with_secrets(&pair);
    accounts::complete(&mysql).await.expect("accounts can be created");
    assert!(log_in(&pair.target, "old", "old's").await);
    let missing = accounts::missing(&mysql).await.expect("accounts can be read");
    assert_eq!(missing.len(), 1, "{missing:?}");
    let here: Vec<String> = pair.target.rows("", "SHOW GRANTS FOR old@'127.0.0.1'").await;
    assert!(here.contains(&"GRANT SELECT, INSERT ON `shop`.* TO `old`@`127.0.0.1`".to_owned()), "{here:?}");
    assert_eq!(here.contains(&"GRANT `writer`@`%` TO `old`@`127.0.0.1`".to_owned()), role, "{here:?}");
}

#[tokio::test]
async fn accounts_of_mysql_56_come_to_mysql_97_once_their_password_is_known() {
    accounts_of_another_kind(Kind::Mysql56, false).await;
}

#[tokio::test]
async fn accounts_of_mariadb_come_to_mysql_97_once_their_password_is_known() {
    accounts_of_another_kind(Kind::Mariadb1011, true).await;
}

#[tokio::test]
async fn between_two_of_mariadb_accounts_log_in_with_the_same_password_and_the_same_rights() {
    let pair = Pair::start(Kind::Mariadb1011, Kind::Mariadb1011);
    pair.source
        .run(
            "",
            "CREATE DATABASE shop; CREATE TABLE shop.t (a INT PRIMARY KEY);
             CREATE ROLE reader; GRANT SELECT ON shop.* TO reader;
             CREATE USER app@'127.0.0.1' IDENTIFIED BY 'it''s'; GRANT reader TO app@'127.0.0.1'; SET DEFAULT ROLE reader FOR app@'127.0.0.1';
             GRANT UPDATE ON shop.t TO app@'127.0.0.1' WITH GRANT OPTION; GRANT BINLOG MONITOR ON *.* TO app@'127.0.0.1'",
        )
        .await;
    let mysql = pair.migration("m", Settings::default());
    pair.mend(&mysql).await;
    bring_over(&mysql).await;
    assert!(log_in(&pair.target, "app", "it's").await);
    for account in ["app@'127.0.0.1'", "reader"] {
        let grants = format!("SHOW GRANTS FOR {account}");
        let there: Vec<String> = pair.source.rows("", &grants).await;
        assert_eq!(pair.target.rows::<String>("", &grants).await, there);
    }
}
