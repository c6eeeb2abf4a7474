//! The schema comes over whole: what the source shows of itself the target shows too, between each pair of servers.

mod servers;

use std::collections::BTreeMap;
use std::sync::Arc;

use migrator::database::Database;
use migrator::mysql::archive::Archive;
use migrator::mysql::{Mysql, post_data, schema, triggers};
use migrator::plan::{Plan, Settings};
use migrator::progress::Progress;
use servers::mysql::{Kind, Pair, Server};
use tokio_util::sync::CancellationToken;

const MYSQL_97: &str = include_str!("mysql_schema/mysql97.sql");
const MYSQL_56: &str = include_str!("mysql_schema/mysql56.sql");
const MARIADB: &str = include_str!("mysql_schema/mariadb.sql");

/// Everything but the rows, as a migration does it, twice.
async fn bring_over(mysql: &Mysql) -> Plan {
    let plan = mysql.plan().await.expect("the source can be read");
    let progress = Arc::new(Progress::default());
    let stop = CancellationToken::new();
    for _ in 0..2 {
        schema::prepare(mysql, &plan)
            .await
            .expect("the target can be prepared");
        let mut target = mysql
            .connect_target("test")
            .await
            .expect("the target answers");
        let archive = Archive::open(mysql, &mut target).await.expect("it is kept");
        for table in &plan.tables {
            post_data::plain_indexes(mysql, &mut target, &archive, table)
                .await
                .expect("plain indexes can be built");
        }
        post_data::rest(mysql, &plan, &progress, &stop)
            .await
            .expect("the rest can be built");
    }
    plan
}

/// Each thing of the databases and its definition, as far as both servers write it the same.
async fn shown(server: &Server, mysql: &Mysql) -> BTreeMap<String, String> {
    let archive = Archive::read(&Mysql::new(
        "look",
        server.endpoint("shop"),
        server.endpoint("shop"),
        mysql.settings().clone(),
        Arc::new(migrator::mysql::accounts::NoSecrets),
    ))
    .await
    .expect("definitions can be read");
    let mut shown = BTreeMap::new();
    for table in archive.tables.iter().chain(&archive.sequences) {
        shown.insert(
            format!("{}.{}", table.schema, table.name),
            table.create.clone(),
        );
    }
    for one in &archive.programs {
        let under = format!(
            "{} {} {} {}",
            one.sql_mode, one.client, one.collation, one.time_zone
        );
        let key = format!("{:?} {}.{}", one.kind, one.schema, one.name);
        shown.insert(key, format!("{under} {}", one.create));
    }
    shown
}

fn settings(schemas: &[&str]) -> Settings {
    Settings {
        schemas: schemas.iter().map(|name| (*name).to_owned()).collect(),
        ..Settings::default()
    }
}

/// A definition without what counters have counted, and without the end of the statement that a script wrote.
fn plain(definition: &str) -> String {
    let digits = |part: &str| {
        part.trim_start_matches(|letter: char| letter.is_ascii_digit())
            .to_owned()
    };
    let parts: Vec<String> = definition.split(" AUTO_INCREMENT=").map(digits).collect();
    let text = parts.concat();
    // MariaDB forgets what means nothing to InnoDB as soon as the table is altered.
    text.replace(" PAGE_CHECKSUM=1", "")
        .trim_end_matches(';')
        .to_owned()
}

fn compare(there: &BTreeMap<String, String>, here: &BTreeMap<String, String>) {
    for (name, definition) in there {
        let found = here
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not on the target"));
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

async fn no_triggers_until_the_switch(pair: &Pair, mysql: &Mysql) {
    assert!(firing(&pair.target).await.is_empty());
    let mut target = mysql.connect_target("test").await.expect("it answers");
    for _ in 0..2 {
        triggers::create(mysql, &mut target)
            .await
            .expect("triggers can be created");
        assert_eq!(firing(&pair.target).await, firing(&pair.source).await);
    }
    // One of a table that lacks another fires where it did.
    pair.target.run("shop", "DROP TRIGGER t_first").await;
    triggers::create(mysql, &mut target)
        .await
        .expect("triggers can be created");
    assert_eq!(firing(&pair.target).await, firing(&pair.source).await);
    post_data::enable_events(mysql)
        .await
        .expect("events can be enabled");
}

/// What the table hands out next, as its definition says: the catalogue's numbers may be old.
async fn next_value(server: &Server) -> Option<u64> {
    let shown: Vec<(String, String)> = server.rows("shop", "SHOW CREATE TABLE `select`").await;
    let (_, after) = shown.first()?.1.split_once("AUTO_INCREMENT=")?;
    after.split(' ').next()?.parse().ok()
}

async fn counters_are_past(pair: &Pair, mysql: &Mysql, plan: &Plan) {
    mysql
        .advance_counters(plan)
        .await
        .expect("counters can be set");
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
    let plan = bring_over(&mysql).await;
    assert_eq!(plan.tables.len(), 8);
    no_triggers_until_the_switch(&pair, &mysql).await;
    counters_are_past(&pair, &mysql, &plan).await;
    let (there, here) = (
        shown(&pair.source, &mysql).await,
        shown(&pair.target, &mysql).await,
    );
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
    let plan = bring_over(&mysql).await;
    no_triggers_until_the_switch(&pair, &mysql).await;
    counters_are_past(&pair, &mysql, &plan).await;
    let next: Vec<i64> = pair
        .target
        .rows("shop", "SELECT next_not_cached_value FROM seq")
        .await;
    assert_eq!(next, [35 + 3 * 10_000]);
    let (there, here) = (
        shown(&pair.source, &mysql).await,
        shown(&pair.target, &mysql).await,
    );
    compare(&there, &here);
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
            if let Some(short) = name.as_ref().and_then(|name| {
                name.strip_prefix("utf8")
                    .filter(|rest| rest.is_empty() || rest.starts_with('_'))
            }) {
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
    let plan = bring_over(&mysql).await;
    no_triggers_until_the_switch(pair, &mysql).await;
    counters_are_past(pair, &mysql, &plan).await;
    assert_eq!(columns(&pair.target).await, columns(&pair.source).await);
    assert_eq!(indexes(&pair.target).await, indexes(&pair.source).await);
    let (there, here) = (
        shown(&pair.source, &mysql).await,
        shown(&pair.target, &mysql).await,
    );
    let (there, here): (Vec<_>, Vec<_>) = (there.keys().collect(), here.keys().collect());
    assert_eq!(here, there);
    let ran: Vec<String> = pair
        .target
        .rows(
            "shop",
            "SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_NAME = 'ev'",
        )
        .await;
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
