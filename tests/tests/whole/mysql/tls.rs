//! Connections in TLS: from clients to Headgate, and from Headgate to clusters that demand it; logins without a password in
//! the configuration.

use std::path::PathBuf;

use mysql_async::{Conn, OptsBuilder, SslOpts};
use protocol::mysql::handshake::Capabilities;
use tests::certificates::{Authority, Says, headgate};
use tests::headgate::{Engine, Headgate};
use tests::mysql::disposable::Kind;
use tests::mysql::raw::{CAPABILITIES, Hello, Raw, packet};
use tests::mysql::{Login, Mysql, finish, rows, single, try_connect};
use tests::wait::{SOON, within};
use tests::world::{DATABASE, World};

/// An account's password, which no configuration has.
const PASSWORD: &str = "known to its client alone";

/// What the server sees of the session that asks.
const SEEN: &str = "SELECT CONCAT(CURRENT_USER(), ' ', VARIABLE_VALUE <> '') FROM performance_schema.session_status \
                    WHERE VARIABLE_NAME = 'Ssl_cipher'";
const SEEN_MARIADB: &str = "SELECT CONCAT(CURRENT_USER(), ' ', VARIABLE_VALUE <> '') FROM information_schema.SESSION_STATUS \
                            WHERE VARIABLE_NAME = 'Ssl_cipher'";

/// A server with a certificate; the accounts that Headgate and the application use are for TLS only.
pub(super) async fn server(kind: Kind, (certificate, key): &(PathBuf, PathBuf), authority: &Authority) -> Mysql {
    let ca = authority.file();
    let settings = [("ssl-ca", &ca), ("ssl-cert", certificate), ("ssl-key", key)];
    let settings = settings.map(|(name, path)| (name, path.to_str().expect("the path is text")));
    let mysql = Mysql::start_with(kind, &settings).await;
    mysql.make_database(DATABASE).await;
    let mover = "CREATE USER mover@'%' IDENTIFIED BY 'm' REQUIRE SSL; GRANT ALL ON *.* TO mover@'%' WITH GRANT OPTION";
    mysql.sql("", mover).await;
    // An account without a name at this host would be taken for it otherwise.
    mysql.sql("", "DROP USER IF EXISTS ''@'localhost'").await;
    mysql
}

async fn application(mysql: &Mysql) {
    mysql.make_account("app", PASSWORD, DATABASE).await;
    mysql.sql("", "ALTER USER app@'%' REQUIRE SSL").await;
    let rows = "CREATE TABLE t (id INT PRIMARY KEY, body VARCHAR(40)); INSERT INTO t VALUES (1, 'one'), (2, 'two')";
    mysql.sql(DATABASE, rows).await;
}

fn cluster(name: &str, mysql: &Mysql, tls: &str, authority: &Authority) -> String {
    let (port, tls) = (mysql.port(), authority.trusted_with(tls));
    // The password comes as a token does.
    format!(
        "[clusters.{name}]\nengine = \"mysql\"\nhost = \"localhost\"\nport = {port}\nuser = \"mover\"\n\
         password = {{ command = \"echo m\" }}\n{tls}"
    )
}

fn route() -> String {
    format!("[routes.{DATABASE}]\ncluster = \"blue\"\n")
}

/// Two servers of a kind, a database that only speaks TLS on both, and a Headgate between them that verifies them: with a listener of
/// the same authority, and these further keys of that and sections.
pub(super) async fn world(kind: Kind, authority: &Authority, listener: &str, sections: &str) -> World<Mysql> {
    let signed = |name: &str| authority.sign_openly(name, Says { hosts: &["localhost"], ..Says::default() });
    let (blue, green) = (signed("blue"), signed("green"));
    let (source, target) = tokio::join!(server(kind, &blue, authority), server(kind, &green, authority));
    let sections = [
        cluster("blue", &source, "verify-full", authority),
        cluster("green", &target, "verify-full", authority),
        route(),
        sections.to_owned(),
    ]
    .concat();
    let headgate = headgate(Engine::Mysql, &authority.sign_for_here("listener"), listener, &sections).await;
    World { headgate, source, target }
}

/// A session of the application's in TLS, with a listener that this authority has signed.
pub(super) async fn connect(port: u16, authority: &Authority, password: &str) -> Result<Conn, mysql_async::Error> {
    let ssl = SslOpts::default().with_root_certs(vec![authority.file().into()]).with_disable_built_in_roots(true);
    let options = OptsBuilder::default()
        .ip_or_hostname("localhost")
        .tcp_port(port)
        .user(Some("app"))
        .pass(Some(password))
        .db_name(Some(DATABASE))
        .prefer_socket(false)
        .ssl_opts(ssl);
    within("connecting", SOON, Conn::new(options)).await
}

async fn there_and_back(kind: Kind) {
    let authority = Authority::new();
    let world = world(kind, &authority, "", "").await;
    application(&world.source).await;
    let port = world.headgate.port();
    let mut stays = connect(port, &authority, PASSWORD).await.expect("let in");
    let version = rows(&mut stays, "SELECT VERSION()").await;
    let seen = if format!("{version:?}").contains("Maria") { SEEN_MARIADB } else { SEEN };
    assert_eq!(single(&rows(&mut stays, seen).await, seen), "app@% 1");
    assert!(connect(port, &authority, "wrong").await.is_err());
    // Its account is for TLS only, and the server would see Headgate's own connection.
    let plain = try_connect(port, "app", Some(PASSWORD), DATABASE).await;
    assert!(plain.expect_err("without TLS").to_string().contains("Access denied"));

    world.follow().await;
    world.check().await;
    world.cutover().await;
    for moved in ["there", "back"] {
        if moved == "back" {
            world.roll_back().await;
        }
        let mut anew = connect(port, &authority, PASSWORD).await.expect("a new session");
        for session in [&mut stays, &mut anew] {
            assert_eq!(single(&rows(session, seen).await, seen), "app@% 1", "{moved}");
            rows(session, "UPDATE t SET body = CONCAT(body, '!') WHERE id = 1").await;
        }
    }
    assert!(!world.headgate.log().contains(PASSWORD));
}

#[tokio::test]
async fn a_database_moves_there_and_back_in_verified_tls_and_no_configuration_has_the_clients_password() {
    for kind in [Kind::Mysql97, Kind::Mariadb1011] {
        there_and_back(kind).await;
    }
}

#[tokio::test]
async fn a_cluster_that_is_not_what_it_must_be_gets_no_session_and_no_password() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let here = Says { hosts: &["localhost"], ..Says::default() };
    let elsewhere = Says { hosts: &["elsewhere.example"], ..Says::default() };
    let expired = Says { hosts: &["localhost"], expired: true, ..Says::default() };
    let mode = "verify-full";
    let cases = [
        (authority.sign_openly("wrong", elsewhere), "not valid for name"),
        (authority.sign_openly("expired", expired), "expired"),
        (stranger.sign_openly("unknown", here), "UnknownIssuer"),
    ];
    for (shown, why) in cases {
        let mysql = server(Kind::Mysql97, &shown, &authority).await;
        application(&mysql).await;
        let listener = authority.sign_for_here("listener");
        let sections = [cluster("blue", &mysql, mode, &authority), route()].concat();
        let strict = headgate(Engine::Mysql, &listener, "", &sections).await;
        assert!(connect(strict.port(), &authority, PASSWORD).await.is_err(), "{why}");
        strict.logged(&[why]).await;
        // Whoever asks for less gets it.
        let less = [cluster("blue", &mysql, "require", &authority), route()].concat();
        let lax = headgate(Engine::Mysql, &listener, "", &less).await;
        assert!(connect(lax.port(), &authority, PASSWORD).await.is_ok(), "{mode} {why}");
        assert!(!lax.log().contains(" WARN "), "{mode} {why}: {}", lax.log());
    }
    let plain = Mysql::start(Kind::Mysql56).await;
    plain.make_database(DATABASE).await;
    plain.make_account("app", PASSWORD, DATABASE).await;
    let sections = [cluster("blue", &plain, "require", &authority), route()].concat();
    let headgate = Headgate::start_for(Engine::Mysql, &sections).await;
    assert!(try_connect(headgate.port(), "app", Some(PASSWORD), DATABASE).await.is_err());
    headgate.logged(&["does not offer TLS"]).await;
}

#[tokio::test]
async fn clients_come_by_tls_as_the_listener_says_and_are_told_where_they_must() {
    let authority = Authority::new();
    let here = Says { hosts: &["localhost"], ..Says::default() };
    let mysql = server(Kind::Mysql97, &authority.sign_openly("blue", here), &authority).await;
    mysql.make_account("app", PASSWORD, DATABASE).await;
    let sections = [cluster("blue", &mysql, "require", &authority), route()].concat();
    let shown = authority.sign_for_here("listener");
    for (demand, plain, encrypted) in [("off", true, false), ("allow", true, true), ("require", false, true)] {
        let headgate = headgate(Engine::Mysql, &shown, &format!("tls = \"{demand}\"\n"), &sections).await;
        let port = headgate.port();
        let without = try_connect(port, "app", Some(PASSWORD), DATABASE).await.map(drop);
        let with = connect(port, &authority, PASSWORD).await.map(drop);
        assert_eq!((without.is_ok(), with.is_ok()), (plain, encrypted), "{demand}: {without:?} {with:?}");
        if demand == "require" {
            assert!(without.expect_err("refused").to_string().contains("insecure transport"));
        }
        if encrypted {
            let login = Login { port, user: "app", password: PASSWORD, database: DATABASE };
            let asked = ["--ssl-mode=REQUIRED", "--batch", "--skip-column-names", "--execute=SELECT CURRENT_USER()"];
            assert_eq!(finish("mysql", SOON, login.mysql(&asked)).await, "app@%\n");
        }
    }
}

#[tokio::test]
async fn nothing_that_was_said_before_tls_counts_behind_it() {
    let mysql = Mysql::start(Kind::Mysql97).await;
    mysql.make_database(DATABASE).await;
    let sections = format!(
        "[clusters.blue]\nengine = \"mysql\"\nhost = \"127.0.0.1\"\nport = {}\nuser = \"root\"\n{}",
        mysql.port(),
        route()
    );
    let headgate = Headgate::start_for(Engine::Mysql, &sections).await;
    let (mut injected, _) = Raw::greeted(headgate.port()).await;
    // The request for TLS, and a login in the clear behind it, as somebody on the way could add one.
    let capabilities = CAPABILITIES | Capabilities::SSL.0;
    let hello = Hello { user: "root", database: DATABASE, plugin: "mysql_native_password", proof: b"", capabilities };
    let hello = hello.body();
    injected.send(&[packet(1, &hello[..32]), packet(2, &hello)].concat()).await;
    let said = injected.rest().await;
    // An alert of TLS at most: no OK, no error and no question.
    assert!(said.is_empty() || said[0] == 0x15, "{said:?}");
}
