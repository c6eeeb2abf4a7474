//! Who may come in, and what the ones hear who may not.

use std::time::Duration;

use mysql_async::{ChangeUserOpts, Conn, Error};
use tests::headgate::{ADMIN_PASSWORD, Engine, Headgate};
use tests::mysql::disposable::Kind;
use tests::mysql::raw::{CAPABILITIES, Hello, Raw, packet};
use tests::mysql::{Login, Mysql, Pair, finish, rows, single, try_connect};
use tests::wait::{SOON, within};
use tests::world::{DATABASE as MOVED, PASSWORD, USER, World, mysql_route_to};
use tokio::sync::watch;

const DATABASE: &str = "shop";
const TIMEOUT: Duration = SOON;

/// A server that asks everybody but root for a password.
async fn server(kind: Kind) -> Mysql {
    let mysql = Mysql::start(kind).await;
    mysql.make_database(DATABASE).await;
    mysql.make_account("app", "right", DATABASE).await;
    mysql.make_account("other", "different", DATABASE).await;
    mysql
}

async fn headgate(mysql: &Mysql) -> Headgate {
    let sections = mysql_route_to(mysql.port(), DATABASE);
    Headgate::start_for(Engine::Mysql, &sections).await
}

/// The number and text of the refusal.
async fn refusal(port: u16, user: &str, password: Option<&str>, database: &str) -> (u16, String) {
    match try_connect(port, user, password, database).await {
        Ok(_) => (0, "let in".to_owned()),
        Err(Error::Server(error)) => (error.code, error.message),
        Err(error) => panic!("{user} at {database:?}: {error:?}"),
    }
}

async fn code(port: u16, user: &str, password: &str, database: &str) -> u16 {
    refusal(port, user, Some(password), database).await.0
}

async fn current_user(client: &mut Conn) -> String {
    let query = "SELECT CURRENT_USER()";
    single(&rows(client, query).await, query)
}

async fn the_right_password_opens_a_session_of_the_same_user(kind: Kind) {
    let mysql = server(kind).await;
    let headgate = headgate(&mysql).await;
    let port = headgate.port();
    // The second time Headgate may know the password.
    for _ in 0..2 {
        let mut client = headgate.connect_mysql("app", "right", DATABASE).await;
        assert_eq!(current_user(&mut client).await, "app@%");
        assert_eq!(code(port, "app", "wrong", DATABASE).await, 1045);
        assert_eq!(code(port, "app", "different", DATABASE).await, 1045, "the password of another user");
        assert_eq!(code(port, "stranger", "right", DATABASE).await, 1045);
        assert_eq!(code(port, "app", "right", "nowhere").await, 1049);
        assert_eq!(refusal(port, "app", None, DATABASE).await.0, 1045);
    }
}

async fn an_unknown_user_hears_the_same_as_one_with_a_wrong_password(kind: Kind) {
    let mysql = server(kind).await;
    let headgate = headgate(&mysql).await;
    let mut texts = Vec::new();
    for (user, password) in [("app", "wrong"), ("ghost", "wrong")] {
        let (code, text) = refusal(headgate.port(), user, Some(password), DATABASE).await;
        texts.push((code, text.replace(user, "USER")));
    }
    assert_eq!(texts[0], texts[1]);
    let direct = refusal(mysql.port(), "app", Some("wrong"), DATABASE).await;
    let host = |text: &str| text.replace("'localhost'", "'127.0.0.1'");
    assert_eq!(host(&texts[0].1), host(&direct.1.replace("app", "USER")), "the server would say it so");
}

/// Asks who it is with one of the servers' own clients.
async fn asked(login: Login<'_>, mariadb: bool, options: &[&str]) -> String {
    let question = ["--batch", "--skip-column-names", "--execute=SELECT CURRENT_USER()"];
    let options = [options, question.as_slice()].concat();
    let command = if mariadb { login.mariadb(&options) } else { login.mysql(&options) };
    finish(&format!("{options:?}"), TIMEOUT, command).await
}

async fn the_clients_of_both_servers_log_in_with_and_without_tls(kind: Kind) {
    let mysql = server(kind).await;
    let headgate = headgate(&mysql).await;
    let login = Login { port: headgate.port(), user: "app", password: "right", database: DATABASE };
    for options in [["--ssl"], ["--skip-ssl"]] {
        assert_eq!(asked(login, true, &options).await, "app@%\n", "{options:?}");
    }
    let tls = asked(login, false, &["--ssl-mode=REQUIRED"]).await;
    assert_eq!(tls, "app@%\n");
    if kind == Kind::Mysql97 {
        // This client knows the old plugin no more, so that without TLS it could not log in on the others either.
        let plain = ["--ssl-mode=DISABLED", "--get-server-public-key"];
        assert_eq!(asked(login, false, &plain).await, "app@%\n");
    }
}

#[tokio::test]
async fn a_password_that_is_known_needs_no_encryption_and_one_that_is_not_does() {
    let mysql = server(Kind::Mysql97).await;
    let headgate = headgate(&mysql).await;
    let login = Login { port: headgate.port(), user: "app", password: "right", database: DATABASE };
    // This client sends a proof that shows the password to nobody, and without TLS and key nothing else.
    let bare = ["--ssl-mode=DISABLED", "--execute=SELECT 1"];
    let output = login.mysql(&bare).output().await.expect("it can be run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("ERROR 2061"), "{said}");
    asked(login, false, &["--ssl-mode=REQUIRED"]).await;
    finish("the quick proof", TIMEOUT, login.mysql(&bare)).await;
}

async fn an_account_without_a_password_needs_none_and_takes_none(kind: Kind) {
    let mysql = server(kind).await;
    let open = format!("CREATE USER 'open'@'%'; GRANT ALL ON `{DATABASE}`.* TO 'open'@'%'");
    mysql.sql("", &open).await;
    let headgate = headgate(&mysql).await;
    let port = headgate.port();
    let client = try_connect(port, "open", None, DATABASE).await;
    assert_eq!(current_user(&mut client.expect("no password")).await, "open@%");
    assert_eq!(code(port, "open", "guess", DATABASE).await, 1045);
    assert_eq!(code(mysql.port(), "open", "guess", DATABASE).await, 1045);
    let (code, text) = refusal(port, "app", None, DATABASE).await;
    assert_eq!(code, 1045);
    assert!(text.contains("(using password: NO)"), "{text}");
}

fn becoming<'a>(user: &'a str, password: &'a str) -> ChangeUserOpts {
    ChangeUserOpts::default()
        .with_user(Some(user.to_owned()))
        .with_pass(Some(password.to_owned()))
        .with_db_name(Some(DATABASE.to_owned()))
}

async fn a_session_becomes_another_users_and_ends_where_the_password_is_wrong(kind: Kind) {
    let mysql = server(kind).await;
    let headgate = headgate(&mysql).await;
    let mut client = headgate.connect_mysql("app", "right", DATABASE).await;
    rows(&mut client, "SET @left = 'over'; CREATE TEMPORARY TABLE left_over (a INT)").await;
    // Once without and once with the password in memory, and back.
    for (user, password) in [("other", "different"), ("app", "right"), ("other", "different")] {
        client.change_user(becoming(user, password)).await.unwrap_or_else(|error| panic!("becoming {user}: {error}"));
        assert_eq!(current_user(&mut client).await, format!("{user}@%"));
        let left = rows(&mut client, "SELECT @left").await;
        assert_eq!(left, [[None]], "what the user before had is left");
        let answer = tests::mysql::try_rows(&mut client, "SELECT * FROM left_over").await;
        assert!(answer.is_err(), "{answer:?}");
    }
    let refused = client.change_user(becoming("app", "wrong")).await;
    match refused {
        Err(Error::Server(error)) => assert_eq!(error.code, 1045, "{error}"),
        other => panic!("{other:?}"),
    }
    let answer = tests::mysql::try_rows(&mut client, "SELECT 1").await;
    assert!(answer.is_err(), "the session goes on: {answer:?}");
    let sessions = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER IN ('app', 'other')";
    mysql.until_value("", sessions, "0").await;
}

async fn the_admin_console_asks_for_its_own_password(kind: Kind) {
    let mysql = server(kind).await;
    let headgate = headgate(&mysql).await;
    let port = headgate.port();
    assert_eq!(code(port, "headgate", ADMIN_PASSWORD, "headgate").await, 0);
    assert_eq!(code(port, "headgate", "wrong", "headgate").await, 1045);
    assert_eq!(code(port, "root", ADMIN_PASSWORD, "headgate").await, 1045);
    assert_eq!(code(port, "app", "right", "headgate").await, 1045);
    for user in ["headgate", "root"] {
        let none = refusal(port, user, None, "headgate").await;
        assert_eq!(none.0, 1045, "the console opened without a password: {none:?}");
    }
}

async fn a_cluster_that_is_down_is_told_as_such_and_the_next_login_after_its_return_works(kind: Kind) {
    let mut mysql = server(kind).await;
    let headgate = headgate(&mysql).await;
    drop(headgate.connect_mysql("app", "right", DATABASE).await);
    mysql.server.stop().await.expect("it runs");
    let (code, text) = refusal(headgate.port(), "app", Some("right"), DATABASE).await;
    assert_eq!(code, 1053, "{text}");
    assert!(text.contains("'blue'"), "{text}");
    let login = Login { port: headgate.port(), user: "app", password: "right", database: DATABASE };
    for mut client in [login.mariadb(&["--execute=SELECT 1"]), login.mysql(&["--execute=SELECT 1"])] {
        let output = client.output().await.expect("it runs");
        let reported = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(reported.contains("1053") && reported.contains("'blue'"), "{reported}");
    }
    mysql.server.restart().await.expect("it starts again");
    let mut client = headgate.connect_mysql("app", "right", DATABASE).await;
    assert_eq!(current_user(&mut client).await, "app@%");
}

async fn a_headgate_that_starts_before_its_cluster_serves_once_that_is_there(kind: Kind) {
    let mut mysql = server(kind).await;
    mysql.server.stop().await.expect("it runs");
    let headgate = headgate(&mysql).await;
    assert_eq!(code(headgate.port(), "headgate", ADMIN_PASSWORD, "headgate").await, 0, "the console needs no cluster");
    let reported = refusal(headgate.port(), "root", None, DATABASE).await;
    assert_eq!(reported.0, 1053, "{reported:?}");
    mysql.server.restart().await.expect("it starts again");
    let client = try_connect(headgate.port(), "root", None, DATABASE).await;
    let mut client = client.expect("the cluster is there");
    assert_eq!(rows(&mut client, "SELECT 1").await.len(), 1);
}

async fn a_password_that_the_server_has_changed_is_refused_and_the_new_one_accepted(kind: Kind) {
    let mysql = server(kind).await;
    let headgate = headgate(&mysql).await;
    let port = headgate.port();
    drop(headgate.connect_mysql("app", "right", DATABASE).await);
    let change = match kind {
        Kind::Mysql97 => "ALTER USER 'app'@'%' IDENTIFIED BY 'new'",
        Kind::Mysql56 | Kind::Mariadb1011 => "SET PASSWORD FOR 'app'@'%' = PASSWORD('new')",
    };
    mysql.sql("", change).await;
    assert_eq!(code(port, "app", "right", DATABASE).await, 1045);
    assert_eq!(code(port, "app", "new", DATABASE).await, 0);
    assert_eq!(code(port, "app", "right", DATABASE).await, 1045);
    assert_eq!(code(port, "app", "new", DATABASE).await, 0);
    mysql.sql("", "DROP USER 'app'@'%'").await;
    assert_eq!(code(port, "app", "new", DATABASE).await, 1045);
}

async fn a_server_that_is_full_says_so_itself(kind: Kind) {
    // 5.6 and 9.7 have a further place for root, with which Headgate asks for accounts.
    let mysql = Mysql::start_with(kind, &[("max-connections", "12")]).await;
    mysql.make_database(DATABASE).await;
    mysql.make_account("app", "right", DATABASE).await;
    let headgate = headgate(&mysql).await;
    let mut open = vec![headgate.connect_mysql("app", "right", DATABASE).await];
    let reported = loop {
        match try_connect(headgate.port(), "app", Some("right"), DATABASE).await {
            Ok(client) => open.push(client),
            Err(Error::Server(error)) => break error,
            Err(error) => panic!("{error:?}"),
        }
        assert!(open.len() <= 13, "a server for 12 has {}", open.len());
    };
    assert_eq!((reported.code, reported.message.as_str()), (1040, "Too many connections"));
    drop(open.pop());
    tests::wait::until(
        "there is room again",
        SOON,
        || async {
            let trying = try_connect(headgate.port(), "app", Some("right"), DATABASE);
            trying.await.is_ok()
        },
        |there| *there,
    )
    .await;
}

#[tokio::test]
async fn a_headgate_that_is_full_says_what_a_server_would() {
    let mysql = server(Kind::Mysql97).await;
    let sections = mysql_route_to(mysql.port(), DATABASE);
    let mut headgate = Headgate::prepare_for(Engine::Mysql, &sections);
    let file = headgate.folder().join("headgate.toml");
    let text = std::fs::read_to_string(&file).expect("just written");
    let text = text.replacen("[listen]\n", "[listen]\nsessions_max = 3\n", 1);
    std::fs::write(&file, text).expect("the folder is ours");
    headgate.launch().await;
    let mut open = Vec::new();
    // A few places more are for those who only log in, or use the console.
    let (mut raw, first) = loop {
        let mut raw = Raw::connect(headgate.port()).await;
        let first = raw.packet().await.expect("it says why");
        if first.is_error() {
            break (raw, first);
        }
        drop(raw);
        open.push(Raw::login(headgate.port(), "root", DATABASE).await);
        assert!(open.len() < 100, "a Headgate for 3 has {}", open.len());
    };
    assert!(open.len() >= 3, "only {}", open.len());
    assert_eq!(first.error(), (1040, String::new(), "Too many connections".to_owned()));
    assert_eq!(raw.rest().await, b"");
    drop(open.pop());
    tests::wait::until(
        "there is room again",
        SOON,
        || async { Raw::connect(headgate.port()).await.packet().await },
        |first| first.as_ref().is_some_and(|first| !first.is_error()),
    )
    .await;
}

async fn a_login_without_a_database_means_the_only_route_and_begins_in_none(kind: Kind) {
    let mysql = server(kind).await;
    let alone = headgate(&mysql).await;
    let mut client = alone.connect_mysql("app", "right", "").await;
    let database = rows(&mut client, "SELECT DATABASE()").await;
    assert_eq!(database, [[None]]);
    let more = format!("{}[routes.second]\ncluster = \"blue\"\n", mysql_route_to(mysql.port(), DATABASE));
    let several = Headgate::start_for(Engine::Mysql, &more).await;
    let (code, text) = refusal(several.port(), "app", Some("right"), "").await;
    assert_eq!(code, 1046, "{text}");
    assert!(text.contains("second, shop"), "{text}");
}

async fn a_proof_that_is_none_is_a_wrong_password(kind: Kind) {
    let mysql = server(kind).await;
    let headgate = headgate(&mysql).await;
    let (native, sha2) = ("mysql_native_password", "caching_sha2_password");
    // Few, because accounts are read anew for each wrong proof, but not more than once in a second.
    for (plugin, length) in [(native, 20), (native, 21), (sha2, 1), (sha2, 32), ("nonsense", 250)] {
        let proof = &[7_u8; 250][..length];
        let (mut raw, _) = Raw::greeted(headgate.port()).await;
        let hello = Hello { user: "app", database: DATABASE, plugin, proof, capabilities: CAPABILITIES };
        raw.send(&packet(1, &hello.body())).await;
        let last = loop {
            let Some(said) = raw.packet().await else {
                panic!("{plugin:?} with {} bytes: silence", proof.len());
            };
            if said.is_error() || said.is_ok() {
                break said;
            }
            // Whatever is asked for: the same nonsense once more.
            raw.send(&packet(said.sequence.wrapping_add(1), proof)).await;
        };
        assert_eq!(last.error().0, 1045, "{plugin:?} with {} bytes: {last:?}", proof.len());
    }
}

on_every_server!(
    the_right_password_opens_a_session_of_the_same_user,
    an_unknown_user_hears_the_same_as_one_with_a_wrong_password,
    the_clients_of_both_servers_log_in_with_and_without_tls,
    an_account_without_a_password_needs_none_and_takes_none,
    a_session_becomes_another_users_and_ends_where_the_password_is_wrong,
    the_admin_console_asks_for_its_own_password,
    a_cluster_that_is_down_is_told_as_such_and_the_next_login_after_its_return_works,
    a_headgate_that_starts_before_its_cluster_serves_once_that_is_there,
    a_password_that_the_server_has_changed_is_refused_and_the_new_one_accepted,
    a_server_that_is_full_says_so_itself,
    a_login_without_a_database_means_the_only_route_and_begins_in_none,
    a_proof_that_is_none_is_a_wrong_password,
);

#[tokio::test]
async fn a_default_route_leads_to_every_database_that_has_no_route_of_its_own() {
    let mysql = server(Kind::Mariadb1011).await;
    let sections = [mysql_route_to(mysql.port(), DATABASE).as_str(), "[routes.\"*\"]\ncluster = \"blue\"\n"].concat();
    let headgate = Headgate::start_for(Engine::Mysql, &sections).await;
    let port = headgate.port();
    let client = try_connect(port, "root", None, "mysql").await;
    let mut client = client.expect("the server has it");
    rows(&mut client, "CREATE DATABASE made").await;
    assert_eq!(code(port, "root", "", "made").await, 0);
    // The server itself says what there is not, and to whom.
    assert_eq!(code(port, "root", "", "nowhere").await, 1049);
    assert_eq!(code(port, "app", "right", "made").await, 1044);
    let routes = headgate.admin("SHOW ROUTES").await;
    let default = routes.last().expect("a route");
    let shown = ["route", "cluster"].map(|column| default[column].as_str());
    assert_eq!(shown, ["*", "blue"], "{routes:?}");
}

#[tokio::test]
async fn an_account_that_requires_encryption_hears_why_it_is_refused() {
    let mysql = server(Kind::Mariadb1011).await;
    for account in ["app@'%'", "app@localhost"] {
        let alter = format!("ALTER USER IF EXISTS {account} REQUIRE SSL");
        mysql.sql("", &alter).await;
    }
    let headgate = headgate(&mysql).await;
    let (code, text) = refusal(headgate.port(), "app", Some("right"), DATABASE).await;
    assert_eq!(code, 1045);
    assert!(text.starts_with("Access denied") && text.contains("REQUIRE SSL"), "{text}");
    let (code, text) = refusal(headgate.port(), "app", Some("wrong"), DATABASE).await;
    assert_eq!(code, 1045);
    assert!(!text.contains("REQUIRE SSL"), "{text}");
}

/// Logs in and writes, again and again; how often that went well.
async fn come_and_go(port: u16, mut go_on: watch::Receiver<bool>) -> u64 {
    let mut times = 0;
    while *go_on.borrow_and_update() {
        let client = try_connect(port, USER, Some(PASSWORD), MOVED).await;
        let mut client = client.unwrap_or_else(|error| panic!("login {times}: {error:?}"));
        rows(&mut client, "INSERT INTO t VALUES (NULL)").await;
        times += 1;
    }
    times
}

#[tokio::test]
async fn who_logs_in_while_its_route_is_switched_gets_a_session() {
    let schema = "CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY) ENGINE = InnoDB";
    // The old sides of both lock accounts: after the switch, and within it.
    for world in
        [World::of(Pair::Mariadb1011to1011, schema).await, World::of_managed_source(Pair::Mysql97to97, schema).await]
    {
        world.follow().await;
        world.check().await;
        let (go_on, going) = watch::channel(true);
        let port = world.headgate.port();
        let clients: Vec<_> = (0..8).map(|_| tokio::spawn(come_and_go(port, going.clone()))).collect();
        world.source.until_value(MOVED, "SELECT COUNT(*) > 50 FROM t", "1").await;
        world.cutover_without_way_back().await;
        let by_then = world.target.value(MOVED, "SELECT COUNT(*) FROM t").await;
        world.target.until_value(MOVED, &format!("SELECT COUNT(*) > {by_then} + 50 FROM t"), "1").await;
        go_on.send(false).expect("clients listen");
        let mut times = 0;
        for client in clients {
            times += within("a client ends", SOON, client).await.expect("every login went well");
        }
        assert_eq!(world.target.value(MOVED, "SELECT COUNT(*) FROM t").await, times.to_string());
    }
}
