//! Who may come in, and what the ones hear who may not.

use tests::headgate::{ADMIN_PASSWORD, Headgate};
use tests::postgres::{Postgres, rows, try_connect};
use tests::wait::{SOON, within};
use tests::world::{DATABASE, World, route_to};
use tokio::sync::watch;
use tokio_postgres::error::SqlState;

/// The server asks everybody but its superuser for a password.
const HBA: &str =
    "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";

async fn server() -> Postgres {
    let postgres = Postgres::start_with(15, &[("password_encryption", "scram-sha-256")], Some(HBA)).await;
    postgres.sql("postgres", "create role app login password 'right'; create role other login password 'other'").await;
    postgres
}

async fn code(headgate: &Headgate, user: &str, password: &str, database: &str) -> String {
    match try_connect(headgate.port(), user, Some(password), database).await {
        Ok(_) => "let in".to_owned(),
        Err(error) => error.code().map_or_else(|| format!("{error:?}"), |code| code.code().to_owned()),
    }
}

#[tokio::test]
async fn with_scram_the_right_password_opens_a_session_of_the_same_user() {
    let postgres = server().await;
    let users =
        "[login]\nmethod = \"scram-sha-256\"\n[users.app]\npassword = \"right\"\n[users.other]\npassword = \"other\"\n";
    let route = format!(
        "[clusters.blue]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"postgres\"\n[routes.postgres]\ncluster = \"blue\"\n",
        postgres.port()
    );
    let headgate = Headgate::start(&[route.as_str(), users].concat()).await;
    let client = try_connect(headgate.port(), "app", Some("right"), "postgres").await.expect("the right password");
    assert_eq!(rows(&client, "select session_user").await, [[Some("app".to_owned())]]);

    assert_eq!(code(&headgate, "app", "wrong", "postgres").await, "28P01");
    assert_eq!(code(&headgate, "app", "other", "postgres").await, "28P01", "the password of another user");
    assert_eq!(code(&headgate, "stranger", "right", "postgres").await, "28P01");
    assert_eq!(code(&headgate, "app", "right", "nowhere").await, "3D000");
}

#[tokio::test]
async fn an_unknown_user_hears_the_same_as_one_with_a_wrong_password() {
    let postgres = server().await;
    let sections = route_to(postgres.port(), "postgres").replace("\"trust\"", "\"scram-sha-256\"");
    let headgate = Headgate::start(&[sections.as_str(), "[users.app]\npassword = \"right\"\n"].concat()).await;
    let mut texts = Vec::new();
    for user in ["app", "ghost"] {
        let error = try_connect(headgate.port(), user, Some("wrong"), "postgres").await.expect_err("refused");
        let error = error.as_db_error().expect("a proper refusal").clone();
        texts.push((error.code().code().to_owned(), error.message().replace(user, "USER")));
    }
    assert_eq!(texts[0], texts[1]);
}

#[tokio::test]
async fn with_trust_the_cluster_decides_and_a_configured_password_is_asked_for() {
    let postgres = server().await;
    let sections = [
        route_to(postgres.port(), "postgres").as_str(),
        "[users.app]\npassword = \"right\"\n[users.other]\npassword = \"wrong\"\n",
    ]
    .concat();
    let headgate = Headgate::start(&sections).await;
    // Nobody has given a password for this user, and the cluster trusts it.
    let client = headgate.connect("postgres", "postgres").await;
    assert_eq!(rows(&client, "select session_user").await, [[Some("postgres".to_owned())]]);
    let client = try_connect(headgate.port(), "app", Some("right"), "postgres").await;
    assert_eq!(rows(&client.expect("the right one"), "select session_user").await, [[Some("app".to_owned())]]);
    assert_eq!(code(&headgate, "app", "wrong", "postgres").await, "28P01");
    let none = try_connect(headgate.port(), "app", None, "postgres").await;
    assert!(none.is_err(), "came in without the password that is configured");
    let refused = try_connect(headgate.port(), "other", Some("wrong"), "postgres")
        .await
        .expect_err("the configured password is not the cluster's");
    assert_eq!(refused.code().map(SqlState::code), Some("28P01"), "{refused:?}");
}

#[tokio::test]
async fn the_admin_console_asks_for_its_password_whatever_the_login_method() {
    let postgres = server().await;
    let headgate = Headgate::start(&route_to(postgres.port(), "postgres")).await;
    assert_eq!(code(&headgate, "headgate", ADMIN_PASSWORD, "headgate").await, "let in");
    assert_eq!(code(&headgate, "headgate", "wrong", "headgate").await, "28P01");
    assert_eq!(code(&headgate, "postgres", ADMIN_PASSWORD, "headgate").await, "28P01");
    let none = try_connect(headgate.port(), "headgate", None, "headgate").await;
    assert!(none.is_err(), "the console opened without a password");
}

#[tokio::test]
async fn a_cluster_that_is_down_is_told_as_such_and_the_next_login_after_its_return_works() {
    let mut postgres = Postgres::start(15).await;
    let headgate = Headgate::start(&route_to(postgres.port(), "postgres")).await;
    postgres.server.stop().await.expect("it runs");
    let code = code(&headgate, "postgres", "any", "postgres").await;
    assert!(code.starts_with("08") || code.starts_with("57"), "{code}");
    postgres.server.restart().await.expect("it starts again");
    let client = headgate.connect("postgres", "postgres").await;
    assert_eq!(rows(&client, "select 1").await.len(), 1);
}

#[tokio::test]
async fn a_default_route_leads_to_every_database_that_has_no_route_of_its_own() {
    let postgres = Postgres::start(15).await;
    let sections = [route_to(postgres.port(), "shop").as_str(), "[routes.\"*\"]\ncluster = \"blue\"\n"].concat();
    let headgate = Headgate::start(&sections).await;
    let client = headgate.connect("postgres", "postgres").await;
    rows(&client, "create database made").await;
    let other = headgate.connect("postgres", "made").await;
    assert_eq!(rows(&other, "select current_database()").await, [[Some("made".to_owned())]]);
    // The server itself says what there is not.
    assert_eq!(code(&headgate, "postgres", "", "nowhere").await, "3D000");
    assert_eq!(code(&headgate, "postgres", "", "shop").await, "3D000");
    let routes = headgate.admin("SHOW ROUTES").await;
    let default = routes.last().expect("a route");
    let shown = ["route", "cluster", "sessions"].map(|column| default[column].as_str());
    assert_eq!(shown, ["*", "blue", "2"], "{routes:?}");
}

/// Logs in and writes, again and again; how often that went well.
async fn come_and_go(port: u16, mut go_on: watch::Receiver<bool>) -> u64 {
    let mut times = 0;
    while *go_on.borrow_and_update() {
        let client = try_connect(port, "postgres", None, DATABASE).await;
        let client = client.unwrap_or_else(|error| panic!("login {times}: {error:?}"));
        rows(&client, "insert into t default values").await;
        times += 1;
    }
    times
}

#[tokio::test]
async fn who_logs_in_while_its_route_is_switched_gets_a_session() {
    let world = World::start("create table t (id bigserial primary key)").await;
    world.follow().await;
    world.check().await;
    let (go_on, going) = watch::channel(true);
    let port = world.headgate.port();
    let clients: Vec<_> = (0..8).map(|_| tokio::spawn(come_and_go(port, going.clone()))).collect();
    world.source.until_value(DATABASE, "select count(*) > 50 from t", "t").await;
    world.cutover_without_way_back().await;
    let by_then = world.target.value(DATABASE, "select count(*) from t").await;
    world.target.until_value(DATABASE, &format!("select count(*) > {by_then} + 50 from t"), "t").await;
    go_on.send(false).expect("clients listen");
    let mut times = 0;
    for client in clients {
        times += within("a client ends", SOON, client).await.expect("every login went well");
    }
    assert_eq!(world.target.value(DATABASE, "select count(*) from t").await, times.to_string());
}
