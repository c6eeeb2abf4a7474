//! Definitions of real databases of MySQL and MariaDB: all classes of the inventory arrive, and every change of one is seen
//! and named.

mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use migrator::database::Database as _;
use migrator::mysql::archive::Archive;
use migrator::mysql::client::Version;
use migrator::mysql::inventory::{INVENTORY, Treatment};
use migrator::mysql::{Mysql, post_data, schema};
use migrator::plan::{Plan, Settings};
use migrator::progress::Progress;
use servers::mysql::{Kind, Pair, Server};
use tokio_util::sync::CancellationToken;

const MYSQL_97: &str = include_str!("mysql_schema/mysql97.sql");
const MYSQL_56: &str = include_str!("mysql_schema/mysql56.sql");
const MARIADB: &str = include_str!("mysql_schema/mariadb.sql");
const KINDS: [Kind; 3] = [Kind::Mysql97, Kind::Mariadb1011, Kind::Mysql56];

/// Everything but the rows, as a migration does it.
async fn bring_over(mysql: &Mysql) -> Plan {
    let plan = mysql.plan().await.expect("the source can be read");
    let prepared = schema::prepare(mysql, &plan).await;
    prepared.unwrap_or_else(|error| panic!("{}", error.full_text()));
    let mut target = mysql.connect_target("test").await.expect("it answers");
    let archive = Archive::open(mysql, &mut target).await.expect("it is kept");
    for table in &plan.tables {
        let built = post_data::plain_indexes(mysql, &mut target, &archive, table).await;
        built.unwrap_or_else(|error| panic!("{}", error.full_text()));
    }
    let stop = CancellationToken::new();
    let rest = post_data::rest(mysql, &plan, &Arc::new(Progress::default()), &stop).await;
    rest.unwrap_or_else(|error| panic!("{}", error.full_text()));
    plan
}

async fn differences(mysql: &Mysql) -> Vec<String> {
    let compared = mysql.definitions(&Plan::default()).await;
    let compared = compared.unwrap_or_else(|error| panic!("{}", error.full_text()));
    compared.differences
}

fn settings(schemas: &[&str]) -> Settings {
    Settings {
        schemas: schemas.iter().map(|name| (*name).to_owned()).collect(),
        ..Settings::default()
    }
}

async fn version(server: &Server) -> Version {
    let told: Vec<String> = server.rows("", "SELECT VERSION()").await;
    Version::parse(&told[0]).expect("a version")
}

/// A table that a future version brings, or that no server has any more, is found here.
#[tokio::test(flavor = "multi_thread")]
async fn the_inventory_knows_every_table_of_every_server_and_leaves_out_no_column_that_is_not_there()
 {
    let known: BTreeSet<&str> = INVENTORY.iter().map(|(name, ..)| *name).collect();
    assert_eq!(known.len(), INVENTORY.len(), "a table stands there twice");
    let mut unseen: BTreeSet<(&str, String)> = BTreeSet::new();
    for (table, _, treatment) in INVENTORY {
        if let Treatment::Compared(class) = treatment {
            let named = class.without.iter().chain(class.apart);
            let named = named.chain(class.renamed).map(|(column, _)| *column);
            for column in named.chain(class.named_by.iter().copied()) {
                let column = column.split('.').next().unwrap_or(column);
                unseen.insert((table, column.to_lowercase()));
            }
        }
    }
    let mut missing: BTreeSet<&str> = known.clone();
    for kind in KINDS {
        let server = Server::start(kind, &[]);
        let version = version(&server).await;
        let rows: Vec<(String, String, String)> = server
            .rows(
                "",
                "SELECT LOWER(TABLE_SCHEMA), TABLE_NAME, LOWER(COLUMN_NAME) FROM information_schema.COLUMNS
                 WHERE LOWER(TABLE_SCHEMA) IN ('information_schema', 'mysql')",
            )
            .await;
        let mut there: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (schema, table, column) in rows {
            let columns = there.entry(format!("{schema}.{table}")).or_default();
            columns.insert(column);
        }
        for table in there.keys() {
            assert!(
                known.contains(table.as_str()),
                "{version} has {table}, which the inventory lacks"
            );
        }
        for (table, on, treatment) in INVENTORY {
            let columns = there.get(*table);
            assert_eq!(
                columns.is_some(),
                on.has(version),
                "whether {version} has {table}"
            );
            let Some(columns) = columns else {
                continue;
            };
            missing.remove(table);
            unseen.retain(|(of, column)| of != table || !columns.contains(column));
            if let Treatment::Compared(class) = treatment {
                for (column, derived, _) in class.derived {
                    let has = columns.contains(&column.to_lowercase());
                    assert!(
                        !(has && derived.has(version)),
                        "{version} has {table}.{column}"
                    );
                }
            }
        }
    }
    assert!(missing.is_empty(), "no server has {missing:?}");
    // A check is found by its table, which MySQL has elsewhere.
    unseen.retain(|(table, _)| *table != "information_schema.CHECK_CONSTRAINTS");
    assert!(unseen.is_empty(), "named, and on no server: {unseen:?}");
}

/// What is equal must be called equal, else nobody can cut over.
async fn no_difference_is_seen(source: Kind, target: Kind, script: &str, schemas: &[&str]) {
    let pair = Pair::start(source, target);
    pair.source.run("", script).await;
    let mysql = pair.migration("m", settings(schemas));
    bring_over(&mysql).await;
    assert_eq!(differences(&mysql).await, Vec::<String>::new());
    let left: Vec<String> = pair
        .target
        .rows("", "SHOW DATABASES LIKE 'headgate%'")
        .await;
    assert_eq!(left, ["headgate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn between_two_of_mysql_no_difference_is_seen_where_there_is_none() {
    no_difference_is_seen(
        Kind::Mysql97,
        Kind::Mysql97,
        MYSQL_97,
        &["shop", "ne.xt`door"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn between_two_of_mariadb_no_difference_is_seen_where_there_is_none() {
    no_difference_is_seen(Kind::Mariadb1011, Kind::Mariadb1011, MARIADB, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_mysql_56_no_difference_is_seen_where_there_is_none() {
    no_difference_is_seen(Kind::Mysql56, Kind::Mysql97, MYSQL_56, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_mariadb_to_mysql_no_difference_is_seen_where_there_is_none() {
    const MORE: &str = "CREATE TABLE defaults (id INT PRIMARY KEY, a TEXT DEFAULT '', j JSON DEFAULT '[]',
        d DATETIME DEFAULT (now() + interval 1 day), k INT CHECK (k + 1 > 0), CHECK (id <> k * (2 + 3)),
        g INT AS (id * (2 + 3)) STORED)";
    no_difference_is_seen(
        Kind::Mariadb1011,
        Kind::Mysql97,
        &format!("{MARIADB}{MORE}"),
        &[],
    )
    .await;
}

/// The same migration, by accounts that may see the databases that move, and nothing else.
async fn by_poor_accounts(pair: &Pair) -> Mysql {
    for server in [&pair.source, &pair.target] {
        server
            .run(
                "",
                "CREATE USER poor@'127.0.0.1' IDENTIFIED BY 'p';
                 GRANT SELECT ON shop.* TO poor@'127.0.0.1'",
            )
            .await;
    }
    let endpoint = |server: &Server| {
        let mut endpoint = server.endpoint("shop");
        "poor".clone_into(&mut endpoint.user);
        endpoint.password = Some("p".to_owned());
        endpoint
    };
    Mysql::new(
        "m",
        endpoint(&pair.source),
        endpoint(&pair.target),
        Settings::default(),
        Arc::new(migrator::accounts::NoSecrets),
    )
}

/// What may not be read is no reason to call both sides equal; the grant that is named shows it, and no more.
async fn what_may_not_be_read_is_told(source: Kind, target: Kind) {
    let pair = Pair::start(source, target);
    pair.source
        .run(
            "",
            "CREATE DATABASE shop; USE shop; CREATE TABLE t (a INT PRIMARY KEY) ENGINE = InnoDB;
             CREATE PROCEDURE p() SELECT 1; CREATE VIEW v AS SELECT a FROM t;
             CREATE USER app@'127.0.0.1'; GRANT SELECT ON shop.* TO app@'127.0.0.1'",
        )
        .await;
    bring_over(&pair.migration("m", Settings::default())).await;
    let poor = by_poor_accounts(&pair).await;
    let before = poor.definitions(&Plan::default()).await.expect("compared");
    for (side, server) in [("source", &pair.source), ("target", &pair.target)] {
        let lead = format!("(cannot be known on the {side}: ");
        let mut seen = 0;
        // What both print differently is found once their texts are seen.
        for _ in 0..2 {
            for found in differences(&poor).await {
                let Some((_, grant)) = found.split_once(&lead) else {
                    continue;
                };
                let grant = grant.trim_end_matches(')');
                server.run("", grant).await;
                seen += 1;
            }
        }
        // Tables of the server's own, the routines, and three privileges on the database.
        let tables = match server.kind {
            Kind::Mysql97 => 10,
            Kind::Mariadb1011 => 9,
            Kind::Mysql56 => 7,
        };
        // Where the versions differ, the target is to print what it makes of the source's.
        let print = usize::from(side == "target" && source == Kind::Mysql56);
        assert_eq!(seen, tables + 4 + print, "{side}");
    }
    assert_eq!(differences(&poor).await, Vec::<String>::new());
    let after = poor.definitions(&Plan::default()).await.expect("compared");
    assert_ne!(before.fingerprint, after.fingerprint);
    // What is not even a right on all of a database shows no other table of the server's own.
    let mut session = pair.source.connect_as("poor", Some("p"), "").await;
    let denied = mysql_async::prelude::Queryable::query_drop(
        &mut session,
        "SELECT 1 FROM mysql.help_topic LIMIT 1",
    );
    assert!(
        denied.await.is_err(),
        "the grants opened more than they name"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_of_mysql_97_is_told_with_the_least_grant() {
    what_may_not_be_read_is_told(Kind::Mysql97, Kind::Mysql97).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_of_mariadb_is_told_with_the_least_grant() {
    what_may_not_be_read_is_told(Kind::Mariadb1011, Kind::Mariadb1011).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_of_mysql_56_is_told_with_the_least_grant() {
    what_may_not_be_read_is_told(Kind::Mysql56, Kind::Mysql97).await;
}
