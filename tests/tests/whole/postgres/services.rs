//! Managed services: nobody is a superuser, TLS is required, and the provider has roles of its own.

use tests::certificates::{Authority, headgate};
use tests::headgate::Engine;
use tests::postgres::Postgres;
use tests::postgres::services::{ADMIN, Service};
use tests::world::{DATABASE, World};

/// What the application has: its owner, its login, a trigger, a foreign key, a policy, privileges of its provider's roles.
const SCHEMA: &str = include_str!("services/shop.sql");

fn cluster(name: &str, postgres: &Postgres, authority: &Authority) -> String {
    let (port, tls) = (postgres.port(), authority.trusted_with("verify-full"));
    format!("[clusters.{name}]\nhost = \"localhost\"\nport = {port}\nuser = \"{ADMIN}\"\npassword = \"{ADMIN}\"\n{tls}")
}

async fn moved(service: Service) {
    let authority = Authority::new();
    let (source, target) =
        tokio::join!(service.start(15, &authority, DATABASE), service.start(18, &authority, DATABASE));
    // As the administrator: what it owns, no superuser made.
    source.sql(DATABASE, &format!("set session authorization {ADMIN}; {SCHEMA}")).await;
    let route = format!("[routes.{DATABASE}]\ncluster = \"blue\"\n");
    let sections = [cluster("blue", &source, &authority), cluster("green", &target, &authority), route].concat();
    let headgate = headgate(Engine::Postgres, &authority.sign_for_here("listener"), "", &sections).await;
    let world = World { source, target, headgate };
    world.headgate.admin("CREATE MIGRATION m FROM blue TO green FOR ROUTE shop").await;
    for check in world.headgate.admin("PRECHECK MIGRATION m").await {
        eprintln!("{check:?}");
    }
    world.headgate.admin("START MIGRATION m").await;
    world.until_state("following", tests::world::MIGRATION).await;
    world.check().await;
    for check in world.headgate.admin("SHOW READINESS m").await {
        eprintln!("{check:?}");
    }
    world.cutover().await;
}

#[tokio::test]
async fn rds_moves_there_and_back() {
    moved(Service::Rds).await;
}

#[tokio::test]
async fn cloud_sql_moves_there_and_back() {
    moved(Service::CloudSql).await;
}

#[tokio::test]
async fn azure_moves_there_and_back() {
    moved(Service::Azure).await;
}

#[tokio::test]
async fn neon_moves_there_and_back() {
    moved(Service::Neon).await;
}
