//! Managed services: nobody has SUPER or its heirs, TLS is required, and the provider has accounts and procedures of its own.

use mysql_async::{Conn, OptsBuilder, SslOpts};
use tests::certificates::{Authority, headgate};
use tests::headgate::Engine;
use tests::managed::findings;
use tests::mysql::services::{ADMIN, Service};
use tests::mysql::{self, Mysql, rows, single};
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

/// Both servers are of the service, or the target alone: the source is one's own then. Headgate has the administrator that the
/// service gives to its customer.
async fn between(service: Service, source_too: bool, authority: &Authority) -> World<Mysql> {
    let (source, target) = tokio::join!(
        async {
            if source_too {
                return service.start("blue", authority, DATABASE).await;
            }
            let own = Mysql::start(service.kind()).await;
            own.make_database(DATABASE).await;
            let all = "CREATE USER admin@'%' IDENTIFIED BY 'admin'; GRANT ALL ON *.* TO admin@'%' WITH GRANT OPTION";
            own.sql("", all).await;
            own
        },
        service.start("green", authority, DATABASE)
    );
    let account = format!("CREATE USER app IDENTIFIED BY '{}'; GRANT ALL ON shop.* TO app", APP.1);
    source.sql("", &account).await;
    // The administrator makes everything: nobody else can.
    let mut admin = if source_too {
        connect(source.port(), (ADMIN, ADMIN), None).await
    } else {
        mysql::connect(source.port(), ADMIN, Some(ADMIN), "").await
    };
    let roles = if service == Service::RdsMariadb { "DO 0" } else { "SET ROLE ALL" };
    let schema = if service.names_definers() { SCHEMA.to_owned() } else { SCHEMA.replace("DEFINER = app@'%' ", "") };
    rows(&mut admin, &format!("{roles}; USE {DATABASE}; {schema}")).await;
    let blue = if source_too {
        cluster("blue", &source, authority)
    } else {
        let port = source.port();
        format!(
            "[clusters.blue]\nengine = \"mysql\"\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"{ADMIN}\"\n\
             password = \"{ADMIN}\"\ntls = \"disable\"\n"
        )
    };
    let route = format!("[routes.{DATABASE}]\ncluster = \"blue\"\n");
    let sections = [blue, cluster("green", &target, authority), route].concat();
    let headgate = headgate(Engine::Mysql, &authority.sign_for_here("listener"), "", &sections).await;
    let world = World { source, target, headgate };
    world.headgate.admin("CREATE MIGRATION m FROM blue TO green FOR ROUTE shop").await;
    world
}

/// Runs, as somebody who may, the statements of the findings of one check.
async fn mend(world: &World<Mysql>, server: &Mysql, name: &str) {
    let checks = world.headgate.admin("PRECHECK MIGRATION m").await;
    let found = findings(&checks, name);
    assert!(!found.is_empty(), "{name}: {checks:?}");
    for finding in found {
        server.sql("", &finding["fix"]).await;
    }
}

async fn moves_there_and_back(world: &World<Mysql>) {
    world.start_without_errors().await;
    world.check().await;
    let mut app = connect(world.headgate.port(), APP, Some(DATABASE)).await;
    write(&mut app, world, &world.source, 1).await;
    world.cutover().await;
    write(&mut app, world, &world.target, 2).await;
    world.roll_back().await;
    write(&mut app, world, &world.source, 3).await;
    let mut anew = connect(world.headgate.port(), APP, Some(DATABASE)).await;
    assert_eq!(single(&rows(&mut anew, "SELECT COUNT(*) FROM customers").await, "customers"), "17");
}

/// From a server of one's own to one of the service's, and no way back: there nobody may keep everybody from writing.
async fn is_a_target(world: &World<Mysql>) {
    world.start_without_errors().await;
    world.check().await;
    let mut app = connect(world.headgate.port(), APP, Some(DATABASE)).await;
    write(&mut app, world, &world.source, 1).await;
    world.cutover_without_way_back().await;
    let before = "SELECT COUNT(*) FROM customers";
    assert_eq!(single(&rows(&mut app, before).await, before), "19");
    rows(&mut app, "DELETE FROM customers WHERE id = 2").await;
    assert_eq!(world.target.value(DATABASE, before).await, "18");
    assert_eq!(world.source.value(DATABASE, before).await, "19");
}

#[tokio::test]
async fn rds_moves_there_and_back() {
    let authority = Authority::new();
    let world = between(Service::Rds, true, &authority).await;
    // The log is purged as soon as the service can, until its own procedure is told otherwise; the way back needs the other one's.
    mend(&world, &world.source, "binlog_retention").await;
    mend(&world, &world.target, "target_way_back").await;
    moves_there_and_back(&world).await;
}

#[tokio::test]
async fn rds_is_a_target() {
    let authority = Authority::new();
    is_a_target(&between(Service::Rds, false, &authority).await).await;
}
