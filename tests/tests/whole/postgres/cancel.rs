//! A cancel request reaches the statement of its own session, and no other.

use tests::client::Raw;
use tests::headgate::Headgate;
use tests::message::{cancel_request, query};
use tests::postgres::Postgres;
use tests::world::route_to;

const BUSY: &str = "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active'";

#[tokio::test]
async fn a_cancel_request_ends_the_statement_of_its_session_and_of_no_other() {
    let postgres = Postgres::start(15).await;
    let headgate = Headgate::start(&route_to(postgres.port(), "postgres")).await;
    let (mut one, pid, secret) = Raw::login_with_key(headgate.port(), "postgres", "postgres").await;
    let mut other = Raw::login(headgate.port(), "postgres", "postgres").await;
    one.send(&query("select pg_sleep(60)")).await;
    other.send(&query("select pg_sleep(60)")).await;
    postgres.until_value("postgres", BUSY, "2").await;

    let mut cancel = Raw::connect(headgate.port()).await;
    cancel.send(&cancel_request(pid, &secret)).await;
    assert_eq!(cancel.rest().await, b"", "a cancel request gets no answer");

    let frames = one.until_ready().await;
    let error = frames.iter().find(|frame| frame.tag == b'E').expect("the statement was cancelled");
    assert_eq!(error.sqlstate(), "57014");
    postgres.until_value("postgres", BUSY, "1").await;
    assert_eq!(one.query("select 1").await.len(), 4, "the session goes on");
}

#[tokio::test]
async fn a_cancel_request_with_a_wrong_secret_does_nothing() {
    let postgres = Postgres::start(15).await;
    let headgate = Headgate::start(&route_to(postgres.port(), "postgres")).await;
    let (mut one, pid, mut secret) = Raw::login_with_key(headgate.port(), "postgres", "postgres").await;
    one.send(&query("select pg_sleep(60)")).await;
    postgres.until_value("postgres", BUSY, "1").await;

    let right = secret.clone();
    *secret.last_mut().expect("a secret has bytes") ^= 1;
    for wrong in [secret.as_slice(), &[], &[0; 4], &[7; 256]] {
        let mut cancel = Raw::connect(headgate.port()).await;
        cancel.send(&cancel_request(pid, wrong)).await;
        cancel.saying.finish().await;
        cancel.rest().await;
    }
    assert_eq!(postgres.value("postgres", BUSY).await, "1", "a wrong secret cancelled it");

    let mut cancel = Raw::connect(headgate.port()).await;
    cancel.send(&cancel_request(pid, &right)).await;
    let frames = one.until_ready().await;
    assert!(frames.iter().any(|frame| frame.tag == b'E'), "the right secret did not: {frames:?}");
}
