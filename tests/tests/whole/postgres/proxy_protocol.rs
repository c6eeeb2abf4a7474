//! PROXY headers: from load balancers before Headgate, and from Headgate to what is before a cluster.

use std::net::{Ipv4Addr, SocketAddrV4};

use tests::client::Raw;
use tests::headgate::{ADMIN_PASSWORD, Headgate, binary};
use tests::load_balancer::{LoadBalancer, connect_from, local, proxied};
use tests::message::{cancel_request, query, ssl_request};
use tests::postgres::{Postgres, connect, try_connect, try_records};
use tests::wait::{SOON, within};
use tests::world::{DATABASE, World, clusters, route_to};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// A load balancer's address, another one, and a client's.
const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 7), 51234);

/// A Headgate that takes headers from these networks, before it runs.
fn behind(networks: &str, sections: &str) -> Headgate {
    let headgate = Headgate::prepare(sections);
    headgate.configure("[listen]\n", &format!("[listen]\nproxy_protocol_networks = \"{networks}\"\n"));
    headgate
}

/// Where the sessions of the route are from, as a console on this port lists them.
async fn clients(console: u16) -> Vec<String> {
    let console = connect(console, "headgate", Some(ADMIN_PASSWORD), "headgate").await;
    let sessions = try_records(&console, "SHOW SESSIONS").await.expect("a list");
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

#[tokio::test]
async fn a_header_counts_from_named_networks_alone_and_is_needed_from_there() {
    let server = Postgres::start(15).await;
    let route = route_to(server.port(), "postgres");
    let mut headgate = behind("127.0.0.3", &route);
    headgate.launch().await;
    let port = headgate.port();

    let balancer = LoadBalancer::start(BALANCER, port, &proxied(CLIENT)).await;
    let session = connect(balancer.port(), "postgres", None, "postgres").await;
    assert_eq!(clients(port).await, [CLIENT.to_string()]);
    drop(session);
    assert!(try_connect(balancer.port(), "postgres", None, "nowhere").await.is_err());
    headgate.logged(&["a login failed", "203.0.113.7:51234"]).await;
    let own = LoadBalancer::start(BALANCER, port, &local()).await;
    let _session = connect(own.port(), "postgres", None, "postgres").await;
    let listed = clients(port).await;
    assert!(listed.iter().any(|client| client.starts_with("127.0.0.3:")), "{listed:?}");

    // A header of somebody else is not believed, and whoever is to send one must.
    let stranger = LoadBalancer::start(HERE, port, &proxied(CLIENT)).await;
    assert!(try_connect(stranger.port(), "postgres", None, "postgres").await.is_err());
    headgate.logged(&["client=127.0.0.1:", "its address is not in listen.proxy_protocol_networks"]).await;
    assert_eq!(heard(BALANCER, port, &ssl_request()).await, b"");
    headgate.logged(&["client=127.0.0.3:", "does not begin with a PROXY header"]).await;
    assert_eq!(heard(BALANCER, port, b"PROXY TCP4 203.0.113.7 198.51.100.1 51234 5432\r\n").await, b"");
    headgate.logged(&["of version 1 (text), and only version 2 is accepted"]).await;

    let said = headgate.reload(|text| text.replace("\"127.0.0.3\"", "\"10.0.0.0/8, 127.0.0.4\"")).await;
    assert!(try_connect(balancer.port(), "postgres", None, "postgres").await.is_err(), "{said}");
    let other = LoadBalancer::start(OTHER, port, &proxied(CLIENT)).await;
    let _session = connect(other.port(), "postgres", None, "postgres").await;
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
    let schema =
        "create table t (id int primary key, v text); insert into t select n, n::text from generate_series(1, 99) n";
    let (source, target) = tokio::join!(Postgres::start(14), Postgres::start(18));
    for server in [&source, &target] {
        server.sql("postgres", &format!("create database {DATABASE}")).await;
    }
    source.sql(DATABASE, schema).await;
    // PostgreSQL takes no headers: another Headgate does, before it, and from everybody on this host.
    let any = route_to(source.port(), "postgres").replace("[routes.postgres]", "[routes.\"*\"]");
    let mut before = behind("127.0.0.0/8", &any);
    before.launch().await;
    let sections = clusters(before.port(), target.port());
    let sections = sections.replacen("host =", "proxy_protocol = true\nhost =", 1);
    let world = World { headgate: Headgate::start(&sections).await, source, target };

    let balancer = LoadBalancer::start(BALANCER, world.headgate.port(), &[]).await;
    let (mut session, pid, secret) = Raw::login_with_key(balancer.port(), "postgres", DATABASE).await;
    let console = LoadBalancer::start(HERE, before.port(), &local()).await;
    let listed = clients(console.port()).await;
    assert!(listed.iter().any(|client| client.starts_with("127.0.0.3:")), "{listed:?}");
    session.send(&query("select pg_sleep(60)")).await;
    let busy = "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active'";
    world.source.until_value(DATABASE, busy, "1").await;
    let mut cancel = Raw::connect(balancer.port()).await;
    cancel.send(&cancel_request(pid, &secret)).await;
    let frames = session.until_ready().await;
    assert!(frames.iter().any(|frame| frame.tag == b'E' && frame.sqlstate() == "57014"), "{frames:?}");

    // The console's own client knows from the configuration that it must send one.
    let config = before.folder().join("headgate.toml");
    let mut sql = Command::new(binary());
    sql.args(["sql", "--config"]).arg(config).arg("SHOW VERSION");
    let output = within("headgate sql", SOON, sql.output()).await.expect("it can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    world.follow_without_errors().await;
    world.cutover().await;
    let frames = session.query("insert into t values (100, 'moved')").await;
    assert!(frames.iter().any(|frame| frame.tag == b'C'), "the session goes on: {frames:?}");
    assert_eq!(world.target.value(DATABASE, "select count(*) from t").await, "100");
    world.roll_back().await;
    assert_eq!(world.source.value(DATABASE, "select count(*) from t").await, "100");
    let log = before.log();
    assert!(!log.contains("PROXY header"), "one came without: {log}");
}
