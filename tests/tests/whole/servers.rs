//! The harness's own servers are what the other tests take them for.

use tests::client::Raw;
use tests::fault::{Fault, Relay};
use tests::postgres::{Postgres, try_connect};

async fn check(version: u32) {
    let mut postgres = Postgres::start(version).await;
    let said = postgres.value("postgres", "select version()").await;
    assert!(
        said.starts_with(&format!("PostgreSQL {version}.")),
        "{said}"
    );
    assert_eq!(
        postgres.value("postgres", "show wal_level").await,
        "logical"
    );

    postgres
        .sql(
            "postgres",
            "create table kept (id int); insert into kept values (1)",
        )
        .await;
    postgres
        .server
        .kill()
        .await
        .expect("a running server can be killed");
    assert!(
        try_connect(postgres.port(), "postgres", None, "postgres")
            .await
            .is_err(),
        "it still accepts"
    );
    postgres
        .server
        .restart()
        .await
        .expect("a killed server starts again");
    assert_eq!(
        postgres
            .value("postgres", "select count(*) from kept")
            .await,
        "1"
    );

    let folder = postgres.server.data_dir();
    let port = postgres.port();
    drop(postgres);
    assert!(!folder.exists(), "{} is still there", folder.display());
    assert!(
        try_connect(port, "postgres", None, "postgres")
            .await
            .is_err(),
        "it still accepts"
    );
}

#[tokio::test]
async fn a_throwaway_postgres_14_answers_survives_a_kill_and_leaves_nothing() {
    check(14).await;
}

#[tokio::test]
async fn a_throwaway_postgres_15_answers_survives_a_kill_and_leaves_nothing() {
    check(15).await;
}

#[tokio::test]
async fn a_throwaway_postgres_18_answers_survives_a_kill_and_leaves_nothing() {
    check(18).await;
}

#[tokio::test]
async fn a_setting_that_the_server_refuses_is_told_with_the_servers_own_words() {
    let binaries = proxy::postgres::disposable::find(15).expect("fetched before");
    let options = proxy::postgres::disposable::Options::new(binaries).set("wal_level", "nonsense");
    let error = proxy::postgres::disposable::Server::start(options)
        .await
        .expect_err("such a level does not exist");
    assert!(
        error
            .to_string()
            .contains("invalid value for parameter \"wal_level\""),
        "{error}"
    );
}

#[tokio::test]
async fn a_relay_splits_into_single_bytes_and_cuts() {
    let postgres = Postgres::start(15).await;
    let relay = Relay::to(postgres.port()).await;
    relay.set(Fault::Bytewise);
    let mut raw = Raw::login(relay.port(), "postgres", "postgres").await;
    assert_eq!(raw.query("select 1").await.len(), 4);
    relay.set(Fault::Cut);
    assert_eq!(raw.frame().await, None);
}
