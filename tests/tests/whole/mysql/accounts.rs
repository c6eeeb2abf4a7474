//! The cluster's own accounts decide who comes in, whatever plugin they have, and nobody writes a password down.

use mysql_async::{ChangeUserOpts, Conn, OptsBuilder, SslOpts};
use tests::headgate::{ADMIN_PASSWORD, Engine, Headgate};
use tests::mysql::disposable::Kind;
use tests::mysql::{Mysql, rows, try_connect};
use tests::wait::{SOON, within};
use tests::world::mysql_route_to;

struct Stage {
    server: Mysql,
    headgate: Headgate,
}

impl Stage {
    /// A server with the accounts `app` and `other`, and Headgate in front of it.
    async fn set(kind: Kind, sections: &str) -> Self {
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
        let sections = [mysql_route_to(server.port(), "shop").as_str(), sections].concat();
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
    let stage = Stage::set(kind, sections).await;
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
