//! Managed services: nobody is a superuser, TLS is required, and the provider has roles of its own.

use std::collections::BTreeSet;

use tests::certificates::{Authority, headgate};
use tests::headgate::{Engine, Headgate};
use tests::least::{LEAST, PASSWORD};
use tests::managed::findings;
use tests::postgres::Postgres;
use tests::postgres::psql::{Psql, Staying};
use tests::postgres::services::{ADMIN, Service};
use tests::world::{DATABASE, World};

/// What the application has: owners, logins, a trigger and a rule that write, a foreign key that deletes, a policy, default privileges.
const SCHEMA: &str = include_str!("services/shop.sql");
/// Its logins; no configuration has them.
const LOGINS: [(&str, &str); 2] = [("app", "of its client alone"), ("reporting", "of another client")];
/// Whether everything fires and holds as the application made it.
const WHOLE: &str = "select (select count(*) from pg_trigger where tgname = 'noted' and tgenabled = 'O')
    + (select count(*) from pg_rewrite where rulename = 'logged' and ev_enabled = 'O')
    + (select count(*) from pg_constraint where contype = 'f' and convalidated)";

fn cluster(name: &str, postgres: &Postgres, (user, password): (&str, &str), authority: &Authority) -> String {
    let (port, tls) = (postgres.port(), authority.trusted_with("verify-full"));
    format!(
        "[clusters.{name}]\nhost = \"localhost\"\nport = {port}\nuser = \"{user}\"\npassword = \"{password}\"\n{tls}"
    )
}

/// Both servers are the service's. Headgate has the administrator that it gives to its customer, or a role of its own with what is
/// printed for one.
async fn between(service: Service, own_role: bool, authority: &Authority) -> World {
    let (source, target) = tokio::join!(service.start(15, authority, DATABASE), service.start(18, authority, DATABASE));
    source.sql(DATABASE, &format!("set session authorization {ADMIN}; {SCHEMA}")).await;
    let route = format!("[routes.{DATABASE}]\ncluster = \"blue\"\n");
    if own_role {
        service.let_migrate(&source, "source", 15, DATABASE).await;
        service.let_migrate(&target, "target", 18, DATABASE).await;
    }
    let account = if own_role { (LEAST, PASSWORD) } else { (ADMIN, ADMIN) };
    let clusters = [("blue", &source), ("green", &target)].map(|(name, side)| cluster(name, side, account, authority));
    let sections = [clusters.concat(), route].concat();
    let headgate = headgate(Engine::Postgres, &authority.sign_for_here("listener"), "", &sections).await;
    World { source, target, headgate }
}

fn client(headgate: &Headgate, (user, password): (&'static str, &'static str)) -> Psql {
    Psql::new(headgate.port(), user, password, "sslmode=require")
}

/// The application writes where it is: each write is noted once by its trigger, and a customer's orders go with it.
async fn write(app: &mut Staying, world: &World, serving: &Postgres, customer: u32) {
    let noted = "select count(*) from audit";
    let before: u32 = serving.value(DATABASE, noted).await.parse().expect("a number");
    let orders: u32 =
        app.ask(&format!("select count(*) from orders where customer = {customer}")).await.parse().expect("a number");
    assert!(orders > 0, "the customer {customer} has orders");
    let deleted = format!("delete from customers where id = {customer} returning 'gone'");
    assert_eq!(app.ask(&deleted).await, "gone");
    let after = (before + orders).to_string();
    assert_eq!(serving.value(DATABASE, noted).await, after, "each deleted order is noted once");
    // A rule that would fire for what comes as a row would meet the key.
    assert_eq!(app.ask(&format!("insert into notes values ({customer}); select 'written'")).await, "written");
    // What is noted on one side arrives on the other as a row, and fires nothing there.
    for table in ["audit", "orders", "customers", "notes", "notes_log"] {
        world
            .until_equal(&format!("select count(*), md5(string_agg(t::text, ',' order by t.id)) from {table} t"))
            .await;
    }
}

async fn moves_there_and_back(service: Service) {
    let authority = Authority::new();
    let world = between(service, false, &authority).await;
    let checks = world.follow_without_errors().await;
    let sets_role = service != Service::Neon;
    assert_eq!(findings(&checks, "target_triggers").is_empty(), sets_role, "{checks:?}");

    // Where nobody can read verifiers, whoever has shown its password is ready, and who has not is named.
    let hidden = service != Service::Neon;
    let names =
        |names: &[&str]| names.iter().filter(|_| hidden).map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(world.unproved().await, names(&["app", "reporting"]));
    let mut app = client(&world.headgate, LOGINS[0]).stay();
    assert_eq!(&app.ask("show server_version_num").await[..2], "15");
    assert_eq!(world.unproved().await, names(&["reporting"]));
    let counted = client(&world.headgate, LOGINS[1]).ask("select count(*) from customers").await;
    assert_eq!(counted.as_deref(), Ok("200"));
    assert_eq!(world.unproved().await, BTreeSet::new());

    write(&mut app, &world, &world.source, 1).await;
    let rehearsed = world.row("REHEARSE MIGRATION m WITH (max_hold = '10s')").await;
    assert_eq!(rehearsed.get("outcome").map(String::as_str), Some("rehearsed"), "{rehearsed:?}");
    write(&mut app, &world, &world.source, 2).await;
    world.cutover().await;
    assert_eq!(&app.ask("show server_version_num").await[..2], "18");
    world.target.until_value(DATABASE, WHOLE, "3").await;
    write(&mut app, &world, &world.target, 3).await;
    for login in LOGINS {
        let version = client(&world.headgate, login).ask("show server_version_num").await;
        assert_eq!(&version.expect("let in on the target")[..2], "18");
    }
    world.roll_back().await;
    assert_eq!(&app.ask("show server_version_num").await[..2], "15");
    world.source.until_value(DATABASE, WHOLE, "3").await;
    write(&mut app, &world, &world.source, 4).await;
    world.check().await;
    world.cutover().await;
    write(&mut app, &world, &world.target, 5).await;
    world.headgate.admin("FINISH MIGRATION m WITH (waive_proof = true)").await;
    for side in [&world.source, &world.target] {
        side.until_value(DATABASE, WHOLE, "3").await;
        let left = "select count(*) from pg_class where relname = 'set_aside'";
        assert_eq!(side.value(DATABASE, left).await, "0", "what was set aside is forgotten");
    }
    // The provider's are where they were, and nowhere else.
    let memberships =
        "select string_agg(roleid::regrole || ' has ' || member::regrole, ', ' order by 1) from pg_auth_members
        where member::regrole::text in ('app', 'reporting', 'shop_owner')";
    assert_eq!(world.target.value(DATABASE, memberships).await, "shop_owner has app");
}

#[tokio::test]
async fn rds_moves_there_and_back() {
    moves_there_and_back(Service::Rds).await;
}

#[tokio::test]
async fn cloud_sql_moves_there_and_back() {
    moves_there_and_back(Service::CloudSql).await;
}

#[tokio::test]
async fn azure_moves_there_and_back() {
    moves_there_and_back(Service::Azure).await;
}

#[tokio::test]
async fn neon_moves_there_and_back() {
    moves_there_and_back(Service::Neon).await;
}

#[tokio::test]
async fn a_role_with_what_is_printed_for_a_service_moves_there_and_back() {
    let authority = Authority::new();
    let world = between(Service::Rds, true, &authority).await;
    world.follow_without_errors().await;
    let mut app = client(&world.headgate, LOGINS[0]).stay();
    write(&mut app, &world, &world.source, 1).await;
    client(&world.headgate, LOGINS[1]).ask("select 1").await.expect("let in");
    let there = "CUTOVER MIGRATION m WITH (max_hold = '10s', waive_accounts = 'admin')";
    let back = "ROLLBACK MIGRATION m WITH (max_hold = '10s', waive_accounts = 'admin')";
    for (statement, serving, customer) in [(there, &world.target, 2), (back, &world.source, 3)] {
        world.check().await;
        let report = world.row(statement).await;
        assert_eq!(report.get("outcome").map(String::as_str), Some("switched"), "{report:?}");
        write(&mut app, &world, serving, customer).await;
    }
}

/// What the administrator of RDS has given to the service's own role, or has it own.
const OF_THE_SERVICE: &str =
    "grant select on customers to rds_superuser; grant usage, create on schema public to rds_superuser;
    grant execute on function note() to rds_superuser; grant update (name) on customers to rds_superuser;
    create table held (id int primary key); alter table held owner to rds_superuser;
    create policy theirs on customers to rds_superuser using (true)";

/// A server of one's own, between whose sessions and ours there is no TLS.
fn own_cluster(name: &str, postgres: &Postgres) -> String {
    let port = postgres.port();
    format!("[clusters.{name}]\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"postgres\"\ntls = \"disable\"\n")
}

#[tokio::test]
async fn what_a_service_s_own_roles_have_is_named_and_does_not_break_the_schema_elsewhere() {
    let authority = Authority::new();
    let (source, target) = tokio::join!(Service::Rds.start(15, &authority, DATABASE), Postgres::start(18));
    source.sql(DATABASE, &format!("set session authorization {ADMIN}; {SCHEMA}; {OF_THE_SERVICE}")).await;
    let route = format!("[routes.{DATABASE}]\ncluster = \"blue\"\n");
    let clusters = cluster("blue", &source, (ADMIN, ADMIN), &authority) + &own_cluster("green", &target);
    let sections = clusters + &route;
    let headgate = headgate(Engine::Postgres, &authority.sign_for_here("listener"), "", &sections).await;
    let world = World { source, target, headgate };
    world.headgate.admin("CREATE MIGRATION m FROM blue TO green FOR ROUTE shop").await;

    let named = async |level: &str| -> Vec<(String, String)> {
        let checks = world.headgate.admin("PRECHECK MIGRATION m").await;
        let of_roles = checks.iter().filter(|check| check["check"] == "service_roles" && check["level"] == level);
        of_roles.map(|check| (check["evidence"].clone(), check.get("fix").cloned().unwrap_or_default())).collect()
    };
    let owned = named("error").await;
    let [(policy, _), (held, give)] = owned.as_slice() else { panic!("{owned:?}") };
    assert_eq!(held, "rds_superuser owns table public.held");
    assert_eq!(policy, "rds_superuser is named by policy theirs on table public.customers");
    for mend in [give.as_str(), "drop policy theirs on customers"] {
        world.source.sql(DATABASE, &format!("set session authorization {ADMIN}; {mend}")).await;
    }
    assert_eq!(named("error").await, []);
    let left_out = named("warning").await;
    let objects =
        ["function public.note()", "schema public", "table public.customers", "column name of table public.customers"];
    for object in objects {
        let evidence = format!("rds_superuser has a privilege on {object}");
        assert!(left_out.iter().any(|(named, _)| *named == evidence), "{object}: {left_out:?}");
    }
    assert_eq!(left_out.len(), objects.len(), "{left_out:?}");
    // Whoever wants to be rid of one has the statement for it.
    let (_, take_back) =
        left_out.iter().find(|(named, _)| named.ends_with("function public.note()")).expect("it is named");
    world.source.sql(DATABASE, &format!("set session authorization {ADMIN}; {take_back}")).await;
    assert_eq!(named("warning").await.len(), objects.len() - 1);

    world.start_without_errors().await;
    let mut app = client(&world.headgate, LOGINS[0]).stay();
    write(&mut app, &world, &world.source, 1).await;
    client(&world.headgate, LOGINS[1]).ask("select 1").await.expect("let in");
    world.check().await;
    let report = world.row("CUTOVER MIGRATION m WITH (max_hold = '10s', waive_accounts = 'admin')").await;
    assert_eq!(report.get("outcome").map(String::as_str), Some("switched"), "{report:?}");
    write(&mut app, &world, &world.target, 2).await;
    let roles = "select count(*) from pg_roles where rolname ~ '^rds'";
    assert_eq!(world.target.value(DATABASE, roles).await, "0");
    let others = "select has_table_privilege('reporting', 'customers', 'select')::text";
    assert_eq!(world.target.value(DATABASE, others).await, "true");
}

/// From a server of one's own to one of the service's, where Headgate has a role of its own with what is printed for one.
async fn is_a_target(service: Service) {
    let authority = Authority::new();
    let (source, target) = tokio::join!(Postgres::start(15), service.start(18, &authority, DATABASE));
    source.sql("postgres", &format!("create role {ADMIN} login createrole createdb replication superuser")).await;
    source.sql("postgres", &format!("create database {DATABASE} owner {ADMIN}")).await;
    source.sql(DATABASE, &format!("set session authorization {ADMIN}; {SCHEMA}")).await;
    source.sql(DATABASE, &format!("alter role {ADMIN} nosuperuser")).await;
    service.let_migrate(&target, "target", 18, DATABASE).await;
    let route = format!("[routes.{DATABASE}]\ncluster = \"blue\"\n");
    let clusters = own_cluster("blue", &source) + &cluster("green", &target, (LEAST, PASSWORD), &authority);
    let sections = clusters + &route;
    let headgate = headgate(Engine::Postgres, &authority.sign_for_here("listener"), "", &sections).await;
    let world = World { source, target, headgate };
    world.follow_without_errors().await;
    let mut app = client(&world.headgate, LOGINS[0]).stay();
    write(&mut app, &world, &world.source, 1).await;
    // The source shows verifiers and the target does not: what a login reveals is tried there.
    let left = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(world.unproved().await, left(&["admin", "postgres", "reporting"]));
    client(&world.headgate, LOGINS[1]).ask("select 1").await.expect("let in");
    assert_eq!(world.unproved().await, left(&["admin", "postgres"]));
    world.check().await;
    let there = world.row("CUTOVER MIGRATION m WITH (max_hold = '10s', waive_accounts = 'admin, postgres')").await;
    assert_eq!(there.get("outcome").map(String::as_str), Some("switched"), "{there:?}");
    write(&mut app, &world, &world.target, 2).await;
}

#[tokio::test]
async fn rds_is_a_target() {
    is_a_target(Service::Rds).await;
}
