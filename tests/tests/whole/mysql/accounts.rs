//! The cluster's own accounts decide who comes in, whatever plugin they have, and nobody writes a password down.

use mysql_async::{ChangeUserOpts, Conn, OptsBuilder, SslOpts};
use tests::headgate::{ADMIN_PASSWORD, Engine, Headgate};
use tests::mysql::disposable::Kind;
use tests::mysql::{Login, Mysql, Pair, finish, rows, try_connect};
use tests::wait::{SOON, within};
use tests::world::{DATABASE, PASSWORD, USER, World, mysql_clusters, mysql_route_to};
use transport::Tls;

/// A server of MariaDB must be told of its plugin of signatures.
const SIGNATURES: &str = "INSTALL SONAME 'auth_ed25519'";

struct Stage {
    server: Mysql,
    headgate: Headgate,
}

impl Stage {
    /// A server with the accounts `app` and `other`, and Headgate in front of it.
    async fn set(kind: Kind, sections: &str) -> Self {
        Self::of(kind, "", sections).await
    }

    /// The same, with further keys of the cluster.
    async fn of(kind: Kind, keys: &str, sections: &str) -> Self {
        let server = Mysql::start(kind).await;
        server.make_database("shop").await;
        server.make_account("app", "right", "shop").await;
        server.make_account("other", "theirs", "shop").await;
        // Old installations have accounts without a name, which are more exact than those for every host.
        let table = match kind {
            Kind::Mariadb1011 => "global_priv",
            Kind::Mysql56 | Kind::Mysql97 => "user",
        };
        let clear = format!("DELETE FROM mysql.{table} WHERE User = ''; FLUSH PRIVILEGES");
        server.sql("", &clear).await;
        let cluster = mysql_route_to(server.port(), "shop");
        let cluster = cluster.replacen("user = \"root\"\n", &format!("user = \"root\"\n{keys}"), 1);
        let sections = [cluster.as_str(), sections].concat();
        let headgate = Headgate::start_for(Engine::Mysql, &sections).await;
        Self { server, headgate }
    }

    async fn comes_in(&self, user: &str, password: &str) -> Result<(), u16> {
        code(try_connect(self.headgate.port(), user, Some(password), "shop").await)
    }

    async fn comes_in_by_tls(&self, user: &str, password: &str) -> Result<(), u16> {
        let tls = SslOpts::default().with_danger_accept_invalid_certs(true);
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.headgate.port())
            .prefer_socket(false)
            .user(Some(user))
            .pass(Some(password))
            .db_name(Some("shop"))
            .ssl_opts(tls);
        code(within("connecting", SOON, Conn::new(options)).await)
    }
}

fn code(connected: Result<Conn, mysql_async::Error>) -> Result<(), u16> {
    match connected {
        Ok(_) => Ok(()),
        Err(mysql_async::Error::Server(error)) => Err(error.code),
        Err(error) => panic!("neither let in nor refused: {error:?}"),
    }
}

async fn the_account_decides(kind: Kind, sections: &str, change: &str) {
    is_decided_by_the_account(&Stage::set(kind, sections).await, change).await;
}

async fn is_decided_by_the_account(stage: &Stage, change: &str) {
    // The second time the password is known.
    for _ in 0..2 {
        assert_eq!(stage.comes_in("app", "right").await, Ok(()));
        assert_eq!(stage.comes_in("app", "wrong").await, Err(1045));
        assert_eq!(stage.comes_in_by_tls("app", "right").await, Ok(()));
        assert_eq!(stage.comes_in_by_tls("app", "wrong").await, Err(1045));
        assert_eq!(stage.comes_in("app", "").await, Err(1045));
        assert_eq!(stage.comes_in("nobody", "right").await, Err(1045));
    }
    stage.server.sql("", change).await;
    assert_eq!(stage.comes_in("app", "right").await, Err(1045), "the old password");
    assert_eq!(stage.comes_in("app", "new").await, Ok(()));
    assert_eq!(stage.comes_in_by_tls("app", "new").await, Ok(()));
}

#[tokio::test]
async fn mysqls_accounts_decide() {
    the_account_decides(Kind::Mysql97, "", "ALTER USER app IDENTIFIED BY 'new'").await;
}

#[tokio::test]
async fn mariadbs_accounts_decide() {
    let change = "SET PASSWORD FOR app = PASSWORD('new')";
    the_account_decides(Kind::Mariadb1011, "", change).await;
}

#[tokio::test]
async fn the_accounts_of_an_old_server_decide() {
    let change = "SET PASSWORD FOR app = PASSWORD('new')";
    the_account_decides(Kind::Mysql56, "", change).await;
}

#[tokio::test]
async fn accounts_decide_where_passwords_are_captured_too() {
    let sections = "[login]\ncapture_passwords = true\n";
    let change = "SET PASSWORD FOR app = PASSWORD('new')";
    the_account_decides(Kind::Mariadb1011, sections, change).await;
}

#[tokio::test]
async fn accounts_of_sha256_decide_with_and_without_tls_to_the_server() {
    for keys in ["tls = \"require\"\n", "tls = \"disable\"\n"] {
        let stage = Stage::of(Kind::Mysql97, keys, "").await;
        let make = |password: &str| format!("ALTER USER app IDENTIFIED WITH sha256_password BY '{password}'");
        stage.server.sql("", &make("right")).await;
        is_decided_by_the_account(&stage, &make("new")).await;
    }
}

#[tokio::test]
async fn accounts_of_signatures_decide_for_clients_with_and_without_tls() {
    let stage = Stage::set(Kind::Mariadb1011, "").await;
    let make = |password: &str| format!("ALTER USER app IDENTIFIED VIA ed25519 USING PASSWORD('{password}')");
    stage.server.sql("", &format!("{SIGNATURES}; {}", make("right"))).await;
    is_decided_by_the_account(&stage, &make("new")).await;
    stage.server.sql("", &make("newer")).await;
    // Neither client is the first that shows this password.
    for mariadb in [true, false] {
        let password = if mariadb { "newer" } else { "newest" };
        stage.server.sql("", &make(password)).await;
        let login = Login { port: stage.headgate.port(), user: "app", password, database: "shop" };
        let question = ["--batch", "--skip-column-names", "--execute=SELECT CURRENT_USER()"];
        let ways: &[&[&str]] = if mariadb {
            &[&["--skip-ssl"], &["--ssl"]]
        } else {
            &[&["--ssl-mode=DISABLED", "--get-server-public-key"], &["--ssl-mode=REQUIRED"]]
        };
        for way in ways {
            let options = [way, &question[..]].concat();
            let command = if mariadb { login.mariadb(&options) } else { login.mysql(&options) };
            assert_eq!(finish(&format!("{options:?}"), SOON, command).await, "app@%\n");
        }
    }
    // The server asks for one proof after the other, whichever is right.
    for (first, second) in [("theirs", "another"), ("another", "theirs")] {
        let both = format!(
            "ALTER USER other IDENTIFIED VIA ed25519 USING PASSWORD('{first}') OR mysql_native_password USING PASSWORD('{second}')"
        );
        stage.server.sql("", &both).await;
        assert_eq!(stage.comes_in("other", "theirs").await, Ok(()), "{both}");
        assert_eq!(stage.comes_in_by_tls("other", "theirs").await, Ok(()), "{both}");
        assert_eq!(stage.comes_in("other", "wrong").await, Err(1045), "{both}");
    }
}

#[tokio::test]
async fn a_plugin_that_headgate_lacks_is_named_to_the_client_and_to_the_operator() {
    let mut stage = Stage::set(Kind::Mariadb1011, "").await;
    let asked = "INSTALL SONAME 'auth_pam_v1'; CREATE USER asked@'%' IDENTIFIED VIA pam USING 'headgate'; GRANT ALL ON shop.* TO asked@'%'";
    stage.server.sql("", asked).await;
    let refused = try_connect(stage.headgate.port(), "asked", Some("right"), "shop").await.expect_err("no such plugin");
    let mysql_async::Error::Server(refused) = refused else { panic!("{refused:?}") };
    assert_eq!(refused.code, 1251, "{refused}");
    assert!(refused.message.contains("the login plugin \"dialog\""), "{refused}");
    let line = stage.headgate.logged(&["WARN", "plugin=\"dialog\""]).await;
    assert!(line.contains("user=asked") && line.contains("mysql_native_password, caching_sha2_password"), "{line}");
    assert!(!line.contains("right"), "{line}");
    // Headgate's own account.
    stage.server.sql("", "GRANT ALL ON *.* TO asked@'%'; CREATE DATABASE target").await;
    stage.headgate.stop().await;
    let clusters = mysql_clusters(stage.server.port(), stage.server.port());
    let clusters = clusters.replacen("user = \"root\"\n", "user = \"asked\"\npassword = \"right\"\n", 1);
    let headgate = Headgate::start_for(Engine::Mysql, &clusters).await;
    headgate.admin("CREATE MIGRATION m FROM blue TO green FOR ROUTE shop").await;
    let said = match headgate.try_admin("PRECHECK MIGRATION m").await {
        Ok(checks) => format!("{checks:?}"),
        Err(error) => error,
    };
    assert!(said.contains("dialog") && said.contains("ed25519 (MariaDB)"), "{said}");
}

/// Servers whose account for Headgate proves itself by signatures, where they can, as the application's on the source does.
async fn signed_world(pair: Pair, sections: &str) -> World<Mysql> {
    let (source, target) = pair.start().await;
    for (server, kind) in [(&source, pair.kinds().0), (&target, pair.kinds().1)] {
        let create = match kind {
            Kind::Mariadb1011 => {
                format!("{SIGNATURES}; CREATE USER mover@'%' IDENTIFIED VIA ed25519 USING PASSWORD('a secret of ours')")
            }
            Kind::Mysql56 | Kind::Mysql97 => "CREATE USER mover@'%' IDENTIFIED BY 'a secret of ours'".to_owned(),
        };
        let grant = "GRANT ALL ON *.* TO mover@'%' WITH GRANT OPTION; DROP USER IF EXISTS ''@'localhost'";
        server.sql("", &format!("{create}; {grant}")).await;
    }
    let clusters = mysql_clusters(source.port(), target.port());
    let clusters = clusters.replace("user = \"root\"\n", "user = \"mover\"\npassword = \"a secret of ours\"\n");
    let schema = "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY) ENGINE = InnoDB; INSERT INTO t VALUES (1), (2)";
    let world = World::of_clusters(source, target, schema, &[&clusters, sections].concat()).await;
    let sign = format!("ALTER USER {USER}@'%' IDENTIFIED VIA ed25519 USING PASSWORD('{PASSWORD}')");
    world.source.sql("", &sign).await;
    world
}

#[tokio::test]
async fn a_database_moves_and_comes_back_with_and_by_accounts_of_signatures() {
    let world = signed_world(Pair::Mariadb1011to1011, "").await;
    let mut stays = world.client().await;
    world.follow().await;
    world.check().await;
    world.cutover().await;
    let stored = format!("SELECT CONCAT(plugin, ' ', authentication_string) FROM mysql.user WHERE User = '{USER}'");
    let signed = world.source.value("", &stored).await;
    assert!(signed.starts_with("ed25519 "), "{signed}");
    assert_eq!(world.target.value("", &stored).await, signed);
    for (moved, side) in [("there", &world.target), ("back", &world.source)] {
        if moved == "back" {
            world.roll_back().await;
        }
        let mut anew = world.client().await;
        for session in [&mut stays, &mut anew] {
            rows(session, "INSERT INTO t VALUES (NULL)").await;
        }
        let count = if moved == "there" { "4" } else { "6" };
        assert_eq!(side.value(DATABASE, "SELECT COUNT(*) FROM t").await, count, "{moved}");
    }
    let log = world.headgate.log();
    assert!(!log.contains(PASSWORD) && !log.contains("a secret of ours"));
    // One challenge in 256 ends with a zero byte, which the driver cuts off.
    let port = world.source.port();
    for _ in 0..700 {
        let options = OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(port).prefer_socket(false);
        let options = options.user(Some("mover")).pass(Some("a secret of ours"));
        let session = transport::mysql::open(options, &Tls::disabled(), None).await.expect("let in");
        session.disconnect().await.expect("left");
    }
}

#[tokio::test]
async fn an_account_of_a_plugin_that_the_target_lacks_moves_once_its_client_has_shown_its_password() {
    let world = signed_world(Pair::Mariadb1011toMysql97, "[login]\ncapture_passwords = true\n").await;
    world.headgate.admin("CREATE MIGRATION m FROM blue TO green FOR ROUTE shop").await;
    let reported = async || {
        let checks = world.headgate.admin("PRECHECK MIGRATION m").await;
        let found: Vec<_> = checks.into_iter().filter(|check| check["check"] == "accounts").collect();
        format!("{found:?}")
    };
    let unproved = reported().await;
    for part in [&format!("`{USER}`@`%`"), "it logs in by ed25519, which MySQL 9.7", "login.capture_passwords"] {
        assert!(unproved.contains(part), "{part} is not in {unproved}");
    }
    let mut stays = world.client().await;
    let proved = reported().await;
    assert!(!proved.contains("ed25519"), "{proved}");
    world.headgate.admin("START MIGRATION m").await;
    world.until_state("following", tests::world::MIGRATION).await;
    world.check().await;
    world.cutover().await;
    let mut anew = world.client().await;
    for session in [&mut stays, &mut anew] {
        rows(session, "INSERT INTO t VALUES (NULL)").await;
    }
    assert_eq!(world.target.value(DATABASE, "SELECT COUNT(*) FROM t").await, "4");
}

#[tokio::test]
async fn a_client_becomes_another_user_by_its_own_proof_only() {
    for kind in [Kind::Mysql97, Kind::Mariadb1011] {
        let stage = Stage::set(kind, "").await;
        let mut conn = stage.headgate.connect_mysql("app", "right", "shop").await;
        rows(&mut conn, "SET @mine = 1").await;
        let other = |password: &str| {
            ChangeUserOpts::default()
                .with_user(Some("other".to_owned()))
                .with_pass(Some(password.to_owned()))
                .with_db_name(Some("shop".to_owned()))
        };
        within("changing", SOON, conn.change_user(other("theirs"))).await.expect("changed");
        let now = rows(&mut conn, "SELECT SUBSTRING_INDEX(USER(), '@', 1), @mine, DATABASE()").await;
        let text = |value: &str| Some(value.to_owned());
        assert_eq!(now, vec![vec![text("other"), None, text("shop")]]);
        let changed = within("changing", SOON, conn.change_user(other("wrong"))).await;
        let error = changed.expect_err("refused");
        assert!(matches!(&error, mysql_async::Error::Server(error) if error.code == 1045), "{error:?}");
    }
}

#[tokio::test]
async fn the_console_has_an_account_of_its_own() {
    let stage = Stage::set(Kind::Mysql97, "").await;
    let port = stage.headgate.port();
    let come = async |user, password| code(try_connect(port, user, Some(password), "headgate").await);
    assert_eq!(come("headgate", ADMIN_PASSWORD).await, Ok(()));
    assert_eq!(come("headgate", "wrong").await, Err(1045));
    assert_eq!(come("app", "right").await, Err(1045));
    assert_eq!(code(try_connect(port, "app", Some("right"), "none").await), Err(1049));
}
