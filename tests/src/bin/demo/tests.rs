//! The whole of the demo's shop, load and proof, straight against a server, without Headgate in between.

use std::sync::Arc;
use std::time::Duration;

use super::engine::{Engine, Server};
use super::link::{Address, Link};
use super::load::{Load, Stretch};
use super::mysql::Mysql;
use super::postgres::Postgres;
use super::shop::{self, DATABASE, ROLE};
use super::verdict::prove;

const TIMEOUT: Duration = Duration::from_mins(1);
/// Enough for every style to have done each of its things.
const TRANSACTIONS: u64 = 1_500;

/// A statement that spoils something, and what the proof must then count: lost, doubled.
type Tampering = (&'static str, u64, u64, u64);

async fn check<E: Engine>(engine: E, rows_at_least: u64, tamperings: &[Tampering]) {
    let (server, _other) = engine.servers().await.unwrap();
    let mut superuser = E::Link::open(&Address::new(server.port(), E::SUPERUSER, DATABASE), "test").await.unwrap();
    assert!(engine.furnish(&mut superuser).await.unwrap() >= rows_at_least);
    let catalogue = Arc::new(shop::catalogue(engine, &mut superuser).await.unwrap());

    let application = Address::new(server.port(), ROLE, DATABASE).with_password(E::PASSWORD);
    let load = Load::start(engine, &application, Arc::clone(&catalogue)).await.unwrap();
    load.enter(Stretch::After);
    let board = Arc::clone(&load.board);
    tokio::time::timeout(TIMEOUT, board.reached(TRANSACTIONS)).await.unwrap();
    let total = load.stop().await.unwrap();
    assert_eq!((board.errors(), board.texts()), (0, Vec::new()));
    assert_eq!(total.whereabouts.len(), Load::clients());

    let verdict = prove(engine, &mut superuser, &total.ledger, &catalogue).await.unwrap();
    assert!(verdict.clean(), "{verdict:?}");
    assert!(verdict.compared > TRANSACTIONS);

    // Each of these is taken back again, so that each is seen alone.
    for (tampering, lost, doubled, sums) in tamperings {
        superuser.run("BEGIN").await.unwrap();
        superuser.run(tampering).await.unwrap();
        let verdict = prove(engine, &mut superuser, &total.ledger, &catalogue).await.unwrap();
        superuser.run("ROLLBACK").await.unwrap();
        assert_eq!((verdict.lost, verdict.doubled, verdict.wrong_sums), (*lost, *doubled, *sums), "{tampering}");
        assert!(!verdict.clean());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proof_is_clean_for_an_untouched_postgres_and_finds_every_tampering() {
    let tamperings = [
        ("DELETE FROM review WHERE stamp = (SELECT max(stamp) FROM review)", 1, 0, 0),
        ("UPDATE orders SET total = total + 1 WHERE stamp = (SELECT max(stamp) FROM orders)", 1, 0, 0),
        (
            "INSERT INTO order_audit (order_id, change, stamp)
             SELECT order_id, change, stamp FROM order_audit WHERE stamp IS NOT NULL LIMIT 1",
            0,
            1,
            0,
        ),
        ("INSERT INTO page_view (path, stamp) VALUES ('/product/1', 77)", 0, 1, 0),
        ("UPDATE shelf_count SET counted_proof = counted_proof + 1 WHERE shelf = 5", 0, 0, 1),
        ("UPDATE product SET stock = stock - 1 WHERE id = 5", 0, 0, 1),
    ];
    check(Postgres, 500_000, &tamperings).await;
}

const MYSQL_TAMPERINGS: [Tampering; 6] = [
    ("DELETE FROM review WHERE stamp IS NOT NULL ORDER BY stamp DESC LIMIT 1", 1, 0, 0),
    ("UPDATE orders SET total = total + 1 WHERE stamp IS NOT NULL ORDER BY stamp DESC LIMIT 1", 1, 0, 0),
    (
        "INSERT INTO order_audit (order_id, `change`, stamp)
         SELECT order_id, `change`, stamp FROM order_audit WHERE stamp IS NOT NULL LIMIT 1",
        0,
        1,
        0,
    ),
    ("INSERT INTO page_view (path, stamp) VALUES ('/product/1', 77)", 0, 1, 0),
    ("UPDATE shelf_count SET counted_proof = counted_proof + 1 WHERE shelf = 5", 0, 0, 1),
    ("UPDATE product SET stock = stock - 1 WHERE id = 5", 0, 0, 1),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_proof_is_clean_for_an_untouched_mysql_and_finds_every_tampering() {
    check(Mysql::MYSQL, 500_000, &MYSQL_TAMPERINGS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proof_is_clean_for_an_untouched_mariadb_and_finds_every_tampering() {
    check(Mysql::MARIADB, 500_000, &MYSQL_TAMPERINGS).await;
}
