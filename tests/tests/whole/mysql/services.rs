//! Managed services: nobody has SUPER or its heirs, TLS is required, and the provider has accounts and procedures of its own.

use mysql_async::{Conn, OptsBuilder, SslOpts};
use tests::certificates::{Authority, headgate};
use tests::headgate::Engine;
use tests::managed::findings;
use tests::mysql::disposable::Kind;
use tests::mysql::services::{ADMIN, start_rds};
use tests::mysql::{Mysql, rows, single};
use tests::wait::{SOON, within};
use tests::world::{DATABASE, World};

/// What the application has: a trigger that writes, a foreign key that deletes, a view.
const SCHEMA: &str = include_str!("services/shop.sql");
/// Its account; no configuration has it.
const APP: (&str, &str) = ("app", "of its client alone");

fn cluster(name: &str, mysql: &Mysql, authority: &Authority) -> String {
    let (port, tls) = (mysql.port(), authority.trusted_with("verify-full"));
    format!(
        "[clusters.{name}]\nengine = \"mysql\"\nhost = \"localhost\"\nport = {port}\nuser = \"{ADMIN}\"\n\
         password = \"{ADMIN}\"\n{tls}"
    )
}

/// A session in TLS.
async fn connect(port: u16, (user, password): (&str, &str), database: Option<&str>) -> Conn {
    let ssl = SslOpts::default().with_danger_accept_invalid_certs(true);
    let options = OptsBuilder::default()
        .ip_or_hostname("localhost")
        .tcp_port(port)
        .user(Some(user))
        .pass(Some(password))
        .db_name(database)
        .prefer_socket(false)
        .ssl_opts(ssl);
    within("connecting", SOON, Conn::new(options)).await.expect("let in")
}

/// The application writes where it is: what it deletes is noted once, and the orders go with it.
async fn write(app: &mut Conn, world: &World<Mysql>, serving: &Mysql, customer: u32) {
    let counts = "SELECT CONCAT((SELECT COUNT(*) FROM audit), ' ', (SELECT COUNT(*) FROM orders))";
    let numbers = async || -> Vec<u32> {
        let counted = serving.value(DATABASE, counts).await;
        counted.split(' ').map(|number| number.parse().expect("a number")).collect()
    };
    let before = numbers().await;
    rows(app, &format!("DELETE FROM customers WHERE id = {customer}")).await;
    assert_eq!(numbers().await, [before[0] + 1, before[1] - 2], "one note, two orders");
    for table in ["audit", "orders", "customers"] {
        world.until_equal(&format!("SELECT * FROM {table} ORDER BY id")).await;
    }
}

#[tokio::test]
async fn rds_moves_there_and_back() {
    let authority = Authority::new();
    let (source, target) = tokio::join!(
        start_rds(Kind::Mysql97, "blue", &authority, DATABASE),
        start_rds(Kind::Mysql97, "green", &authority, DATABASE)
    );
    // The administrator makes everything: nobody else can.
    let mut admin = connect(source.port(), (ADMIN, ADMIN), None).await;
    let account =
        format!("SET ROLE ALL; CREATE USER app IDENTIFIED BY '{}' REQUIRE SSL; GRANT ALL ON shop.* TO app", APP.1);
    rows(&mut admin, &format!("{account}; USE {DATABASE}; {SCHEMA}")).await;
    let route = format!("[routes.{DATABASE}]\ncluster = \"blue\"\n");
    let sections = [cluster("blue", &source, &authority), cluster("green", &target, &authority), route].concat();
    let headgate = headgate(Engine::Mysql, &authority.sign_for_here("listener"), "", &sections).await;
    let world = World { source, target, headgate };

    world.headgate.admin("CREATE MIGRATION m FROM blue TO green FOR ROUTE shop").await;
    // The log is purged as soon as the service can, until its own procedure is told otherwise.
    let checks = world.headgate.admin("PRECHECK MIGRATION m").await;
    let [keep] = findings(&checks, "binlog_retention")[..] else { panic!("{checks:?}") };
    world.source.sql("", &keep["fix"]).await;
    // The way back needs the other one's.
    let [keep] = findings(&checks, "target_way_back")[..] else { panic!("{checks:?}") };
    world.target.sql("", &keep["fix"]).await;
    world.start_without_errors().await;
    world.check().await;

    let mut app = connect(world.headgate.port(), APP, Some(DATABASE)).await;
    write(&mut app, &world, &world.source, 1).await;
    world.cutover().await;
    write(&mut app, &world, &world.target, 2).await;
    world.roll_back().await;
    write(&mut app, &world, &world.source, 3).await;
    let mut anew = connect(world.headgate.port(), APP, Some(DATABASE)).await;
    assert_eq!(single(&rows(&mut anew, "SELECT COUNT(*) FROM customers").await, "customers"), "17");
}
