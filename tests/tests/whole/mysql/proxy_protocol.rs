//! PROXY headers: from load balancers before Headgate, and from Headgate to servers that take them.

use std::net::{Ipv4Addr, SocketAddrV4};

use mysql_async::{Conn, OptsBuilder, SslOpts};
use tests::headgate::{ADMIN_PASSWORD, Engine, Headgate};
use tests::load_balancer::{LoadBalancer, connect_from, local, proxied};
use tests::mysql::disposable::Kind;
use tests::mysql::{Mysql, connect, rows, single, try_connect, try_records};
use tests::wait::{SOON, within};
use tests::world::{DATABASE, PASSWORD, USER, World, mysql_clusters, mysql_route_to};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A load balancer's address, another one, and a client's.
const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 7), 51234);

/// A Headgate that takes headers from these networks, before it runs.
fn behind(networks: &str, sections: &str) -> Headgate {
    let headgate = Headgate::prepare_for(Engine::Mysql, sections);
    headgate.configure("[listen]\n", &format!("[listen]\nproxy_protocol_networks = \"{networks}\"\n"));
    headgate
}

/// Where the sessions of the route are from, as a console on this port lists them.
async fn clients(console: u16) -> Vec<String> {
    let mut console = connect(console, "headgate", Some(ADMIN_PASSWORD), "headgate").await;
    let sessions = try_records(&mut console, "SHOW SESSIONS").await.expect("a list");
    sessions.into_iter().map(|mut session| session.remove("client").unwrap_or_default()).collect()
}

/// What somebody hears who says this from one of this host's addresses.
async fn heard(address: Ipv4Addr, port: u16, words: &[u8]) -> Vec<u8> {
    let mut stream = connect_from(address, port).await;
    stream.write_all(words).await.expect("it is open");
    let mut heard = Vec::new();
    drop(within("it is closed", SOON, stream.read_to_end(&mut heard)).await);
    heard
}

async fn let_in(port: u16, user: &str, password: &str) -> bool {
    try_connect(port, user, Some(password), DATABASE).await.is_ok()
}

async fn value(client: &mut Conn, query: &str) -> String {
    single(&rows(client, query).await, query)
}

#[tokio::test]
async fn a_header_counts_from_named_networks_alone_and_is_needed_from_there() {
    let server = Mysql::start(Kind::Mariadb1011).await;
    server.make_database(DATABASE).await;
    server.make_account(USER, PASSWORD, DATABASE).await;
    let route = mysql_route_to(server.port(), DATABASE);
    let mut headgate = behind("127.0.0.3", &route);
    headgate.launch().await;
    let port = headgate.port();

    // The header is in the clear, before TLS.
    let balancer = LoadBalancer::start(BALANCER, port, &proxied(CLIENT)).await;
    let options = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(balancer.port())
        .user(Some(USER))
        .pass(Some(PASSWORD))
        .db_name(Some(DATABASE))
        .prefer_socket(false)
        .ssl_opts(SslOpts::default().with_danger_accept_invalid_certs(true));
    let session = within("connecting", SOON, Conn::new(options)).await.expect("let in");
    assert_eq!(clients(port).await, [CLIENT.to_string()]);
    drop(session);
    assert!(!let_in(balancer.port(), USER, "wrong").await);
    headgate.logged(&["a login failed", "203.0.113.7:51234"]).await;
    let own = LoadBalancer::start(BALANCER, port, &local()).await;
    let _session = connect(own.port(), USER, Some(PASSWORD), DATABASE).await;
    let listed = clients(port).await;
    assert!(listed.iter().any(|client| client.starts_with("127.0.0.3:")), "{listed:?}");

    // A header of somebody else is not believed, and whoever is to send one must.
    let stranger = LoadBalancer::start(HERE, port, &proxied(CLIENT)).await;
    assert!(!let_in(stranger.port(), USER, PASSWORD).await);
    headgate.logged(&["client=127.0.0.1:", "its address is not in listen.proxy_protocol_networks"]).await;
    assert_eq!(heard(BALANCER, port, &[1; 40]).await, b"", "no greeting");
    headgate.logged(&["client=127.0.0.3:", "does not begin with a PROXY header"]).await;
    assert_eq!(heard(BALANCER, port, b"PROXY TCP4 203.0.113.7 198.51.100.1 51234 3306\r\n").await, b"");
    headgate.logged(&["of version 1 (text), and only version 2 is accepted"]).await;

    let said = headgate.reload(|text| text.replace("\"127.0.0.3\"", "\"10.0.0.0/8, 127.0.0.4\"")).await;
    assert!(!let_in(balancer.port(), USER, PASSWORD).await, "{said}");
    let other = LoadBalancer::start(OTHER, port, &proxied(CLIENT)).await;
    let _session = connect(other.port(), USER, Some(PASSWORD), DATABASE).await;
    assert!(clients(port).await.contains(&CLIENT.to_string()));
    assert_eq!(headgate.shown("listen.proxy_protocol_networks").await, "10.0.0.0/8, 127.0.0.4/32");

    // Half a header takes no longer than a login may.
    let mut hasty = behind("127.0.0.3", &[&route, "[limits]\nlogin_timeout = \"500ms\"\n"].concat());
    hasty.launch().await;
    assert_eq!(heard(BALANCER, hasty.port(), &proxied(CLIENT)[..20]).await, b"");
    hasty.logged(&["no PROXY header came within limits.login_timeout"]).await;
    let page = hasty.page("/metrics").await;
    assert!(page.contains("headgate_logins_failed_total{reason=\"timeout\"} 1\n"), "{page}");
}

#[tokio::test]
async fn what_takes_headers_sees_the_addresses_of_clients_and_its_database_moves() {
    const NEAR: &str = "of the client there";
    const AT: &str = "SELECT CONCAT(USER(), ' ', CURRENT_USER())";
    let start = || Mysql::start_with(Kind::Mariadb1011, &[("proxy-protocol-networks", "127.0.0.1")]);
    let (source, target) = tokio::join!(start(), start());
    let sections = mysql_clusters(source.port(), target.port()).replace("host =", "proxy_protocol = true\nhost =");
    let schema = format!(
        "CREATE TABLE t (id INT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'one'), (2, 'two');
         CREATE USER {USER}@'127.0.0.3' IDENTIFIED BY '{NEAR}'; GRANT ALL ON {DATABASE}.* TO {USER}@'127.0.0.3'"
    );
    let world = World::of_clusters(source, target, &schema, &sections).await;

    // The account is that of the client's host, and so is its password.
    let balancer = LoadBalancer::start(BALANCER, world.headgate.port(), &[]).await;
    let mut session = connect(balancer.port(), USER, Some(NEAR), DATABASE).await;
    let seen = format!("{USER}@127.0.0.3 {USER}@127.0.0.3");
    assert_eq!(value(&mut session, AT).await, seen);
    let host = value(&mut session, "SELECT HOST FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()").await;
    assert!(host.starts_with("127.0.0.3:"), "{host}");
    assert!(!let_in(balancer.port(), USER, PASSWORD).await, "the password of the account for everywhere");
    assert!(!let_in(world.headgate.port(), USER, NEAR).await, "the password of the account for there");
    let mut elsewhere = world.client().await;
    assert_eq!(value(&mut elsewhere, "SELECT CURRENT_USER()").await, format!("{USER}@%"));

    // Where one side alone sees the addresses of clients, what is for hosts of clients cannot log in on the other.
    let one_side = mysql_clusters(world.source.port(), world.target.port());
    let one_side = one_side.replacen("host =", "proxy_protocol = true\nhost =", 1);
    let between = Headgate::start_for(Engine::Mysql, &one_side).await;
    between.admin("CREATE MIGRATION other FROM blue TO green FOR ROUTE shop").await;
    let checks = between.admin("PRECHECK MIGRATION other").await;
    let accounts: Vec<_> = checks.iter().filter(|check| check["check"] == "accounts").collect();
    let is_near = |evidence: &String| evidence.contains("127.0.0.3") && evidence.contains("only one of both clusters");
    assert!(accounts.len() == 1 && is_near(&accounts[0]["evidence"]), "{accounts:?}");
    drop(between);

    world.follow_without_errors().await;
    world.cutover().await;
    rows(&mut session, "INSERT INTO t VALUES (3, 'moved')").await;
    assert_eq!(value(&mut session, AT).await, seen);
    assert_eq!(world.target.value(DATABASE, "SELECT COUNT(*) FROM t").await, "3");
    assert!(let_in(balancer.port(), USER, NEAR).await);
    world.roll_back().await;
    assert_eq!(value(&mut session, AT).await, seen);
    assert_eq!(world.source.value(DATABASE, "SELECT COUNT(*) FROM t").await, "3");

    // MariaDB takes connections with and without a header: another Headgate shows that none comes without.
    let mut before = behind("127.0.0.0/8", &mysql_route_to(world.source.port(), DATABASE));
    before.launch().await;
    let cluster = mysql_route_to(before.port(), DATABASE).replacen("host =", "proxy_protocol = true\nhost =", 1);
    let headgate = Headgate::start_for(Engine::Mysql, &cluster).await;
    let balancer = LoadBalancer::start(BALANCER, headgate.port(), &[]).await;
    let mut session = connect(balancer.port(), "root", None, DATABASE).await;
    assert_eq!(value(&mut session, "SELECT COUNT(*) FROM t").await, "3");
    let console = LoadBalancer::start(HERE, before.port(), &local()).await;
    let listed = clients(console.port()).await;
    assert!(listed.iter().any(|client| client.starts_with("127.0.0.3:")), "{listed:?}");
    let log = before.log();
    assert!(!log.contains("PROXY header"), "one came without: {log}");
}
