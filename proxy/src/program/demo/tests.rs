//! The shop, its clients and the proof against one real server, without a Headgate in between.

use std::sync::Arc;
use std::time::Duration;

use proxy::postgres::disposable::{Options, Server, find};

use super::link::{Address, Link};
use super::load::{Load, Stretch};
use super::verdict::prove;
use super::{shop, stage};

const PATIENCE: Duration = Duration::from_mins(1);
/// Enough for every style to have done each of its things.
const TRANSACTIONS: u64 = 1_500;

#[tokio::test(flavor = "multi_thread")]
async fn the_proof_is_clean_for_an_untouched_server_and_finds_every_tampering() {
    let server = Server::start(Options::new(find(stage::SOURCES[0]).unwrap()))
        .await
        .unwrap();
    let founder = Link::open(&Address::new(server.port(), "postgres", "postgres"), "test")
        .await
        .unwrap();
    shop::found(&founder.sql).await.unwrap();
    let superuser = Link::open(&Address::new(server.port(), "postgres", "shop"), "test")
        .await
        .unwrap();
    assert!(shop::furnish(&superuser.sql).await.unwrap() >= 500_000);
    let catalogue = Arc::new(shop::catalogue(&superuser.sql).await.unwrap());

    let load = Load::start(
        &Address::new(server.port(), shop::ROLE, "shop"),
        Arc::clone(&catalogue),
    )
    .await
    .unwrap();
    load.enter(Stretch::After);
    let board = Arc::clone(&load.board);
    tokio::time::timeout(PATIENCE, board.reached(TRANSACTIONS))
        .await
        .unwrap();
    let total = load.stop().await.unwrap();
    assert_eq!((board.errors(), board.texts()), (0, Vec::new()));
    assert_eq!(total.versions.len(), Load::clients());

    let verdict = prove(&superuser.sql, &total.ledger, &catalogue)
        .await
        .unwrap();
    assert!(verdict.clean(), "{verdict:?}");
    assert!(verdict.compared > TRANSACTIONS);

    // Each of these is taken back again, so that each is seen alone.
    for (tampering, lost, doubled, sums) in [
        (
            "DELETE FROM review WHERE stamp = (SELECT max(stamp) FROM review)",
            1,
            0,
            0,
        ),
        (
            "UPDATE orders SET total = total + 1 WHERE stamp = (SELECT max(stamp) FROM orders)",
            1,
            0,
            0,
        ),
        (
            "INSERT INTO order_audit (order_id, change, stamp)
          SELECT order_id, change, stamp FROM order_audit WHERE stamp IS NOT NULL LIMIT 1",
            0,
            1,
            0,
        ),
        (
            "INSERT INTO page_view (path, stamp) VALUES ('/product/1', 77)",
            0,
            1,
            0,
        ),
        (
            "UPDATE shelf_count SET counted_proof = counted_proof + 1 WHERE shelf = 5",
            0,
            0,
            1,
        ),
        ("UPDATE product SET stock = stock - 1 WHERE id = 5", 0, 0, 1),
    ] {
        superuser
            .sql
            .batch_execute(&format!("BEGIN; {tampering}"))
            .await
            .unwrap();
        let verdict = prove(&superuser.sql, &total.ledger, &catalogue)
            .await
            .unwrap();
        superuser.sql.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(
            (verdict.lost, verdict.doubled, verdict.wrong_sums),
            (lost, doubled, sums),
            "{tampering}"
        );
        assert!(!verdict.clean());
    }
}
