//! Sessions of MySQL's clients that go on across a switch, on real servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test that panics has found something"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{ChangeUserOpts, Conn, OptsBuilder, Value};
use protocol::mysql::command;
use protocol::mysql::handshake::Capabilities;
use proxy::config::Config;
use proxy::data_plane::DataPlane;
use proxy::listener;
use proxy::metrics::Metrics;
use proxy::mysql::internal_query::{self, Answer, Questions};
use proxy::mysql::server_login::{self, Credential, Identity, ServerSession};
use proxy::mysql::session::MysqlSessions;
use proxy::registry::{Activity, Movable};
use proxy::route::{Cluster, Route};
use proxy::upstream::Origin;
use proxy::workers::Workers;
use tests::mysql::disposable::{Kind, Options, Server, find};
use tokio_util::sync::CancellationToken;

/// Two servers with the same table, and a Headgate before the first.
struct Stage {
    blue: Server,
    green: Server,
    plane: Arc<DataPlane>,
    address: SocketAddr,
}

const SCHEMA: &str = "CREATE DATABASE shop; CREATE TABLE shop.items (id INT AUTO_INCREMENT PRIMARY KEY, \
    name VARCHAR(100)); CREATE PROCEDURE shop.fails() BEGIN START TRANSACTION; \
    INSERT INTO shop.items (name) VALUES ('half'); SIGNAL SQLSTATE '45000'; END";

/// An account that may do no more than an application must.
const APP: [&str; 8] = [
    "CREATE DATABASE depot",
    "CREATE TABLE depot.items (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100))",
    "CREATE DATABASE attic",
    "CREATE TABLE attic.items (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100))",
    "CREATE USER app@localhost IDENTIFIED BY 'secret'",
    "CREATE USER app@'%' IDENTIFIED BY 'secret'",
    "GRANT ALL ON shop.* TO app@'%'",
    "GRANT ALL ON shop.* TO app@localhost",
];

impl Stage {
    async fn new(blue: Kind, green: Kind) -> Self {
        let options = |kind| Options::new(find(kind).expect("its programs")).relaxed();
        let (blue, green) = tokio::join!(Server::start(options(blue)), Server::start(options(green)));
        let (blue, green) = (blue.expect("a server"), green.expect("a server"));
        for server in [&blue, &green] {
            let mut admin = client(server.port(), None).await;
            for statement in SCHEMA.splitn(3, "; ").chain(APP) {
                admin.query_drop(statement).await.expect("a schema");
            }
        }
        let text = format!(
            "[admin]\npassword = \"x\"\n\
             [clusters.blue]\nengine = \"mysql\"\nhost = \"127.0.0.1\"\nport = {}\nuser = \"root\"\n\
             [clusters.green]\nengine = \"mysql\"\nhost = \"127.0.0.1\"\nport = {}\nuser = \"root\"\n\
             [routes.shop]\ncluster = \"blue\"\n[routes.depot]\ncluster = \"blue\"\n\
             [routes.\"*\"]\ncluster = \"blue\"\n[limits]\nhold_timeout = \"20s\"\n",
            blue.port(),
            green.port()
        );
        let config = Config::parse(&text, &|_| None).expect("a valid configuration");
        let metrics = Arc::new(Metrics::new().expect("unique names"));
        let plane = Arc::new(DataPlane::new(&config, metrics, None));
        let sessions = MysqlSessions::new(Arc::clone(&plane), &config).expect("a certificate");
        let listening = listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let address = listening.local_addr().expect("an address");
        let workers = Workers::start(1.try_into().expect("one")).expect("a thread");
        tokio::spawn(async move {
            let stop = CancellationToken::new();
            listener::serve(Arc::new(sessions), listening, &workers, stop).await;
        });
        Self { blue, green, plane, address }
    }

    async fn client(&self) -> Conn {
        client(self.address.port(), Some("shop")).await
    }

    async fn app(&self) -> Conn {
        let options = options(self.address.port(), Some("shop"));
        let options = options.user(Some("app")).pass(Some("secret"));
        within(Conn::new(options)).await.expect("a connection")
    }

    /// A session whose every packet is the test's own.
    async fn raw(&self) -> ServerSession {
        let identity = Identity {
            user: b"root".to_vec(),
            credential: Credential::Clear(zeroize::Zeroizing::default()),
            capabilities: Capabilities::MULTI_RESULTS,
            charset: 45,
            attributes: bytes::Bytes::new(),
            max_packet: 1 << 24,
            plain: false,
        };
        let headgate = Cluster {
            name: "headgate".to_owned(),
            port: self.address.port(),
            ..Cluster::clone(&self.plane.routes.cluster("blue").expect("a cluster"))
        };
        server_login::login(&headgate, Origin::Headgate, &identity, Some("shop")).await.expect("a session")
    }

    fn route(&self) -> Arc<Route> {
        self.plane.routes.route("shop").expect("the route")
    }

    fn route_of(&self, name: &str) -> Arc<Route> {
        self.plane.routes.route(name).expect("the route")
    }

    async fn close(&self) {
        self.close_gate("shop").await;
    }

    async fn close_gate(&self, name: &str) {
        let route = self.route_of(name);
        route.gate.close();
        for entry in self.plane.registry.of_route(&route.name) {
            entry.notify.notify_one();
        }
        within(route.gate.quiet()).await;
    }

    fn switch(&self) {
        self.switch_route("shop");
    }

    fn switch_route(&self, name: &str) {
        let green = self.plane.routes.cluster("green").expect("a cluster");
        self.route_of(name).switch(&green);
        self.route_of(name).gate.open();
    }

    /// Resolves once so many statements are held at the route's gate.
    async fn until_held(&self, name: &str, count: u64) {
        let route = self.route_of(name);
        within(async {
            while route.gate.in_line() != count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

const SOON: Duration = Duration::from_secs(20);

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("within twenty seconds")
}

fn options(port: u16, database: Option<&str>) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .user(Some("root"))
        .prefer_socket(false)
        .db_name(database)
}

async fn client(port: u16, database: Option<&str>) -> Conn {
    within(Conn::new(options(port, database))).await.expect("a connection")
}

async fn one<T: FromRow + Send + 'static>(conn: &mut Conn, sql: &str) -> T {
    let row: Option<T> = within(conn.query_first(sql)).await.expect(sql);
    row.expect(sql)
}

/// What an application can see of its session, told in one row.
const VISIBLE: &str = "SELECT @number, @unsigned, @text, CHARSET(@text), COLLATION(@text), @bytes, @decimal, @total, @double, \
    @none, @`odd ``name`, LAST_INSERT_ID(), @@sql_mode, @@time_zone, @@group_concat_max_len, @@autocommit, DATABASE(), \
    @@character_set_results, @@sql_select_limit, @@innodb_lock_wait_timeout";

async fn live(conn: &mut Conn) -> mysql_async::Statement {
    for statement in [
        "SET @number = -5, @unsigned = CAST(18446744073709551615 AS UNSIGNED), @text = _latin1 X'E4' COLLATE latin1_bin",
        "SET @bytes = X'00FF27', @decimal = 123.4500, @double = 0.1e0, @none = NULL, @`odd ``name` = 'it''s \\\\ \"'",
        "SELECT SUM(a) INTO @total FROM (SELECT 42 AS a) AS one",
        "SET@touching=7",
        "SET time_zone = '+03:00', group_concat_max_len = 77, innodb_lock_wait_timeout = 3",
        "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
        "INSERT INTO items (name) VALUES ('one'), ('two')",
        "SET autocommit = 0",
        "SET sql_select_limit = 5",
    ] {
        within(conn.query_drop(statement)).await.expect(statement);
    }
    let statement = conn.prep("SELECT ? + @number, ?").await.expect("a statement");
    let found: Option<(i64, String)> = conn.exec_first(&statement, (7, "x")).await.expect("a row");
    assert_eq!(found, Some((2, "x".to_owned())));
    conn.query_drop("COMMIT").await.expect("a commit");
    statement
}

async fn goes_on(stage: &Stage, mut conn: Conn) {
    let statement = live(&mut conn).await;
    let before: Vec<Value> = one::<mysql_async::Row>(&mut conn, VISIBLE).await.unwrap();
    let port: u16 = one(&mut conn, "SELECT @@port").await;
    assert_eq!(port, stage.blue.port());

    stage.close().await;
    let held = tokio::spawn(async move {
        let port: u16 = one(&mut conn, "SELECT @@port").await;
        (conn, port)
    });
    within(async {
        while stage.route().gate.in_line() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stage.switch();
    let (mut conn, port) = within(held).await.expect("no panic");
    assert_eq!(port, stage.green.port(), "{:?}", stage.route().handovers());
    let after: Vec<Value> = one::<mysql_async::Row>(&mut conn, VISIBLE).await.unwrap();
    assert_eq!(before, after);
    // Nothing but the statement that set it has named it.
    assert_eq!(one::<Option<i64>>(&mut conn, "SELECT@touching").await, Some(7));
    let found: Option<(i64, String)> = conn.exec_first(&statement, (8, "y")).await.expect("a row");
    assert_eq!(found, Some((3, "y".to_owned())));
    // What is prepared from now on gets a number that no older statement has.
    let other = conn.prep("SELECT 100 + ?").await.expect("a statement");
    assert_ne!(other.id(), statement.id());
    let found: Option<i64> = conn.exec_first(&other, (1,)).await.expect("a row");
    assert_eq!(found, Some(101));
    let found: Option<(i64, String)> = conn.exec_first(&statement, (9, "z")).await.expect("a row");
    assert_eq!(found, Some((4, "z".to_owned())));
    assert_eq!(stage.route().handovers().moved, 1);
    conn.disconnect().await.expect("a farewell");
}

#[tokio::test]
async fn a_session_goes_on_with_all_that_it_had_on_another_mysql() {
    let stage = Stage::new(Kind::Mysql97, Kind::Mysql97).await;
    let conn = stage.app().await;
    goes_on(&stage, conn).await;
}

#[tokio::test]
async fn a_session_of_mariadb_goes_on_with_all_that_it_had_on_mysql() {
    let stage = Stage::new(Kind::Mariadb1011, Kind::Mysql97).await;
    let conn = stage.client().await;
    goes_on(&stage, conn).await;
}

#[tokio::test]
async fn a_session_of_an_old_mysql_goes_on_and_an_idle_one_follows_when_it_is_told() {
    let stage = Stage::new(Kind::Mysql56, Kind::Mysql97).await;
    let mut idle = stage.client().await;
    idle.query_drop("SET @here = 1").await.expect("a variable");
    let conn = stage.client().await;
    goes_on(&stage, conn).await;
    for entry in stage.plane.registry.of_route("shop") {
        entry.notify.notify_one();
    }
    within(async {
        while stage.route().handovers().moved < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let here: (u16, i64) = one(&mut idle, "SELECT @@port, @here").await;
    assert_eq!(here, (stage.green.port(), 1));
}

#[tokio::test]
async fn a_session_that_cannot_move_ends_with_a_retryable_error_and_is_counted() {
    let stage = Stage::new(Kind::Mysql97, Kind::Mysql97).await;
    let ties = [
        ("temporary table", "CREATE TEMPORARY TABLE mine (a INT)"),
        ("user lock", "SELECT GET_LOCK('mine', 1)"),
        ("handler", "HANDLER items OPEN"),
        ("binary log", "SET sql_log_bin = 0"),
    ];
    let mut sessions = Vec::new();
    for (_, statement) in ties {
        let mut conn = stage.client().await;
        conn.query_drop(statement).await.expect(statement);
        sessions.push(conn);
    }
    let mut movable = stage.client().await;
    movable.query_drop("SELECT 1").await.expect("a row");
    let mut inside = stage.client().await;
    inside.query_drop("BEGIN").await.expect("a transaction");
    let found = stage.plane.registry.unmovable("shop", SOON).await;
    let found: Vec<Movable> = found.into_iter().map(|one| one.why).collect();
    assert_eq!(
        found,
        [
            Movable::No("temporary table"),
            Movable::NotKnown("it may hold a lock of GET_LOCK"),
            Movable::NotKnown("it may write past the binary log"),
            Movable::NotKnown("it is in a transaction"),
        ]
    );
    let hidden = stage.route().hidden_writes.all();
    assert_eq!(hidden.len(), 1, "{hidden:?}");
    assert_eq!((hidden[0].what, hidden[0].until), ("sql_log_bin", None));
    let here: i64 = one(&mut sessions[3], "SELECT CONNECTION_ID()").await;
    assert_eq!(hidden[0].pid, here);
    drop((inside, movable));
    stage.close().await;
    stage.switch();
    for conn in &mut sessions {
        let error = within(conn.query_drop("SELECT 1")).await.expect_err("it cannot move");
        let mysql_async::Error::Server(error) = error else {
            panic!("{error}");
        };
        assert_eq!((error.code, error.state.as_str()), (1053, "08S01"));
    }
    let expected: BTreeMap<&str, u64> = ties.iter().map(|&(reason, _)| (reason, 1)).collect();
    assert_eq!(stage.route().handovers().closed, expected);
    within(async {
        while stage.route().hidden_writes.all()[0].until.is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Ends every session at the switch, and answers why.
async fn all_end(stage: &Stage, sessions: &mut [Conn]) -> BTreeMap<&'static str, u64> {
    stage.close().await;
    stage.switch();
    for conn in sessions {
        let error = within(conn.query_drop("SELECT 1")).await.expect_err("it cannot move");
        assert!(matches!(&error, mysql_async::Error::Server(error) if error.code == 1053), "{error}");
    }
    stage.route().handovers().closed
}

#[tokio::test]
async fn what_routines_and_texts_put_together_left_behind_is_not_lost_silently() {
    let stage = Stage::new(Kind::Mysql97, Kind::Mysql97).await;
    let mut admin = client(stage.blue.port(), Some("shop")).await;
    for routine in [
        "CREATE FUNCTION makes() RETURNS INT DETERMINISTIC MODIFIES SQL DATA BEGIN \
         CREATE TEMPORARY TABLE hidden (a INT); RETURN 1; END",
        "CREATE PROCEDURE sets() SET @hidden = 1",
    ] {
        admin.query_drop(routine).await.expect(routine);
    }
    // The account may neither list temporary tables nor user variables.
    let mut sessions = Vec::new();
    for statements in [
        &["SELECT makes()"][..],
        &["PREPARE p FROM 'CREATE TEMPORARY TABLE hidden (a INT)'", "EXECUTE p", "DEALLOCATE PREPARE p"],
    ] {
        let mut conn = stage.app().await;
        for statement in statements {
            conn.query_drop(*statement).await.expect("a statement");
        }
        sessions.push(conn);
    }
    let mut conn = stage.app().await;
    conn.prep("SELECT name FROM items").await.expect("prepared");
    conn.query_drop("USE information_schema").await.expect("a database");
    sessions.push(conn);
    // The cluster's own account tells of the variable.
    let mut reported = stage.app().await;
    reported.query_drop("CALL sets()").await.expect("a statement");
    let closed = all_end(&stage, &mut sessions).await;
    let expected = [("prepared statement", 1), ("temporary table", 2)];
    assert_eq!(closed, BTreeMap::from(expected));
    let kept: Option<i64> = within(reported.query_first("SELECT @hidden")).await.expect("it moved");
    assert_eq!(kept, Some(1));
}

#[tokio::test]
async fn a_temporary_table_of_mariadb_behind_a_drop_that_found_none_is_not_lost_silently() {
    let stage = Stage::new(Kind::Mariadb1011, Kind::Mariadb1011).await;
    let mut conn = stage.app().await;
    for statement in ["DROP TEMPORARY TABLE IF EXISTS mine", "CREATE TEMPORARY TABLE mine (a INT)"] {
        conn.query_drop(statement).await.expect(statement);
    }
    let closed = all_end(&stage, &mut [conn]).await;
    assert_eq!(closed, BTreeMap::from([("temporary table", 1)]));
}

#[tokio::test]
async fn a_transaction_behind_a_kill_that_failed_is_waited_for() {
    let stage = Stage::new(Kind::Mysql97, Kind::Mysql97).await;
    let mut conn = stage.client().await;
    conn.query_drop("KILL 999999").await.expect_err("nobody has that number");
    conn.query_drop("BEGIN").await.expect("a transaction");
    conn.query_drop("INSERT INTO items (name) VALUES ('late')").await.expect("a row");
    stage.route().gate.close();
    assert_eq!(stage.route().gate.inside().len(), 1);
    conn.query_drop("COMMIT").await.expect("a commit");
    within(stage.route().gate.quiet()).await;
}

#[tokio::test]
async fn a_gate_waits_for_what_an_error_left_open_and_a_held_statement_can_be_killed() {
    let stage = Stage::new(Kind::Mysql97, Kind::Mysql97).await;
    let mut fails = stage.client().await;
    let mut other = stage.client().await;
    let mut killer = stage.client().await;
    fails.query_drop("CALL fails()").await.expect_err("it signals");
    // A refused statement that left nothing open is no reason to wait: the server is asked.
    other.query_drop("SELECT * FROM nowhere").await.expect_err("no such table");
    let gate = Arc::clone(&stage.route().gate);
    gate.close();
    for entry in stage.plane.registry.of_route("shop") {
        entry.notify.notify_one();
    }
    within(async {
        while gate.inside().len() != 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // It is inside still, so its statements go on although the gate is closed.
    let rows: u64 = one(&mut fails, "SELECT COUNT(*) FROM items").await;
    assert_eq!(rows, 1);
    within(fails.query_drop("ROLLBACK")).await.expect("a rollback");
    within(gate.quiet()).await;

    let id = other.id();
    // Drivers keep it in a signed number, and negate what does not fit.
    assert!((1 << 30..1 << 31).contains(&id), "{id}");
    let held = tokio::spawn(async move {
        let killed = other.query_drop("SELECT 1").await;
        (other, killed)
    });
    let waits = || {
        let all = stage.plane.registry.snapshot();
        all.iter().any(|session| session.activity == Activity::Held)
    };
    within(async {
        while !waits() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // A KILL begins nothing, so that it is not held, nor is a ping.
    within(killer.query_drop(format!("KILL QUERY {id}"))).await.expect("a KILL");
    within(killer.ping()).await.expect("a ping");
    let (mut other, killed) = within(held).await.expect("no panic");
    let mysql_async::Error::Server(error) = killed.expect_err("killed") else {
        panic!("no error of the server's");
    };
    assert_eq!((error.code, error.state.as_str()), (1317, "70100"));
    gate.open();
    let rows: u64 = one(&mut other, "SELECT COUNT(*) FROM items").await;
    assert_eq!(rows, 0);
    let sleeping = tokio::spawn(async move { other.query_drop("SELECT SLEEP(100)").await });
    within(async {
        while gate.inside().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    within(killer.query_drop(format!("/* app */ kill {id};"))).await.expect("a KILL");
    within(sleeping).await.expect("no panic").expect_err("killed");
}

async fn ask(session: &mut ServerSession, questions: &Questions) -> Vec<Answer> {
    let ServerSession { stream, buffer, .. } = session;
    within(internal_query::ask(stream, buffer, questions)).await.expect("answers")
}

#[tokio::test]
async fn types_of_parameters_and_pieces_that_were_sent_before_a_switch_count_after_it() {
    let stage = Stage::new(Kind::Mysql97, Kind::Mysql97).await;
    let mut raw = stage.raw().await;
    let mut questions = Questions::new(raw.capabilities);
    questions.command(command::STMT_PREPARE, b"INSERT INTO items (name) VALUES (CONCAT(?, ?))");
    let answers = ask(&mut raw, &questions).await;
    let id = answers[0].prepared.expect("a statement").statement.to_le_bytes();
    let execution = |types: &[u8], values: &[u8]| {
        let bound = u8::from(!types.is_empty());
        [&id[..], &[0, 1, 0, 0, 0, 0, bound], types, values].concat()
    };
    let mut questions = Questions::new(raw.capabilities);
    questions.command(command::STMT_EXECUTE, &execution(&[8, 0, 253, 0], b"\x07\0\0\0\0\0\0\0\x01a"));
    questions.command(command::STMT_SEND_LONG_DATA, &[&id[..], &[1, 0], b"pie"].concat());
    questions.command(command::STMT_SEND_LONG_DATA, &[&id[..], &[1, 0], b"ces"].concat());
    questions.query("SELECT 1");
    let answers = ask(&mut raw, &questions).await;
    assert!(answers.iter().all(|answer| answer.error.is_none()), "{answers:?}");
    stage.close().await;
    stage.switch();
    let mut questions = Questions::new(raw.capabilities);
    questions.command(command::STMT_EXECUTE, &execution(&[], b"\x08\0\0\0\0\0\0\0"));
    questions.command(command::STMT_EXECUTE, &execution(&[], b"\x09\0\0\0\0\0\0\0\x01b"));
    questions.query("SELECT GROUP_CONCAT(name ORDER BY id) FROM items");
    let answers = ask(&mut raw, &questions).await;
    let names = answers[2].rows[0][0].clone().expect("names");
    assert_eq!(String::from_utf8_lossy(&names), "8pieces,9b", "{answers:?}");
}

/// Programs that leave something behind in a session, which no statement of its client names.
const PROGRAMS: [&str; 3] = [
    "CREATE PROCEDURE shop.hides() SET @hidden = 42, @`Odd name` = 'x'",
    "CREATE PROCEDURE shop.keeps() BEGIN CREATE TEMPORARY TABLE kept (a INT) ENGINE = MEMORY; END",
    "CREATE PROCEDURE shop.names() BEGIN SET @text = 'SELECT 1'; PREPARE inner_one FROM @text; END",
];

impl Stage {
    async fn with_programs(blue: Kind, green: Kind) -> Self {
        let stage = Self::new(blue, green).await;
        for server in [&stage.blue, &stage.green] {
            let mut admin = client(server.port(), None).await;
            for program in PROGRAMS {
                admin.query_drop(program).await.expect(program);
            }
        }
        stage
    }

    /// Moves the sessions and tells by which reasons some were closed.
    async fn move_all(&self, sessions: &mut [Conn]) -> BTreeMap<&'static str, u64> {
        self.close().await;
        self.switch();
        for conn in sessions {
            // Whoever was closed is counted; the others must serve.
            drop(within(conn.query_drop("SELECT 1")).await);
        }
        self.route().handovers().closed
    }
}

async fn after(mut conn: Conn, statements: &[&str]) -> Conn {
    for statement in statements {
        within(conn.query_drop(*statement)).await.expect(statement);
    }
    conn
}

#[tokio::test]
async fn what_only_a_procedure_set_or_sql_prepared_goes_along_though_the_account_may_not_ask_for_it() {
    let stage = Stage::with_programs(Kind::Mysql97, Kind::Mysql97).await;
    let long = format!("PREPARE long_one FROM 'SELECT 1 /* {} */'", "x".repeat(2000));
    let mut sessions = [
        after(
            stage.app().await,
            &[
                "CALL hides()",
                "PREPARE `my ``one` FROM 'SELECT ?, ''\u{e4}\\\\\\\\'''",
                "SET @source = 'SELECT 7'",
                "PREPARE other FROM @source",
                "PREPARE gone FROM @source",
                "DEALLOCATE PREPARE gone",
            ],
        )
        .await,
        after(stage.app().await, &[&long]).await,
        after(stage.app().await, &["CALL names()"]).await,
        after(stage.app().await, &["CALL keeps()"]).await,
    ];
    let closed = stage.move_all(&mut sessions).await;
    assert_eq!(closed, BTreeMap::from([("temporary table", 1)]));
    let [first, second, third, _] = &mut sessions;
    let port: u16 = one(first, "SELECT @@port").await;
    assert_eq!(port, stage.green.port());
    let found: (i64, String) = one(first, "SELECT @hidden, @`odd name`").await;
    assert_eq!(found, (42, "x".to_owned()));
    first.query_drop("SET @value = 5").await.expect("a value");
    let found: (i64, String) = one(first, "EXECUTE `my ``one` USING @value").await;
    assert_eq!(found, (5, "\u{e4}\\".to_owned()));
    assert_eq!(one::<i64>(first, "EXECUTE other").await, 7);
    first.query_drop("EXECUTE gone").await.expect_err("it is gone");
    assert_eq!(one::<i64>(second, "EXECUTE long_one").await, 1);
    assert_eq!(one::<i64>(third, "EXECUTE inner_one").await, 1);
}

#[tokio::test]
async fn a_server_that_tells_less_is_left_only_by_sessions_whose_every_text_is_known() {
    let stage = Stage::with_programs(Kind::Mysql56, Kind::Mysql97).await;
    let long = format!("SELECT '{}', @late := 1", "x".repeat(40_000));
    let mut sessions = [
        after(stage.client().await, &["CALL hides()", "PREPARE mine FROM 'SELECT @hidden'"]).await,
        after(stage.client().await, &[&long]).await,
        after(stage.client().await, &["SET @s = 'SELECT 1'", "PREPARE mine FROM @s"]).await,
        after(stage.client().await, &["CALL keeps()"]).await,
    ];
    let closed = stage.move_all(&mut sessions).await;
    let expected = BTreeMap::from([("state not told", 2), ("temporary table", 1)]);
    assert_eq!(closed, expected);
    let [first, ..] = &mut sessions;
    assert_eq!(one::<i64>(first, "EXECUTE mine").await, 42);
    assert_eq!(one::<u16>(first, "SELECT @@port").await, stage.green.port());
}

#[tokio::test]
async fn mariadb_tells_variables_to_anybody_and_texts_tell_what_sql_prepared() {
    let stage = Stage::with_programs(Kind::Mariadb1011, Kind::Mysql97).await;
    let mut sessions = [
        after(
            stage.client().await,
            &["CALL hides()", "EXECUTE IMMEDIATE 'SET @now = 3'", "PREPARE mine FROM \"SELECT 'it''s'\""],
        )
        .await,
        after(stage.client().await, &["CALL names()"]).await,
        after(stage.client().await, &["DROP TEMPORARY TABLE IF EXISTS t", "CREATE TEMPORARY TABLE t (a INT)"]).await,
    ];
    let closed = stage.move_all(&mut sessions).await;
    assert_eq!(closed, BTreeMap::from([("prepared statement", 1), ("temporary table", 1)]));
    let [first, ..] = &mut sessions;
    let found: (u16, i64, i64) = one(first, "SELECT @@port, @hidden, @now").await;
    assert_eq!(found, (stage.green.port(), 42, 3));
    assert_eq!(one::<String>(first, "EXECUTE mine").await, "it's");
}

/// Sessions of the old server move, whatever of its settings the new one calls by another name or limits itself by.
async fn no_setting_ends_a_session_for_nothing(blue: Kind) {
    let stage = Stage::new(blue, Kind::Mysql97).await;
    for server in [&stage.blue, &stage.green] {
        let mut admin = client(server.port(), None).await;
        for statement in
            ["CREATE DATABASE other", "GRANT ALL ON other.* TO app@localhost", "CREATE TABLE other.t (a INT)"]
        {
            admin.query_drop(statement).await.expect(statement);
        }
    }
    let mut sessions = Vec::new();
    let cases: [(&[&str], &str, &str); 6] = [
        (
            &["SET sql_mode = 'ANSI'"],
            "SELECT CONCAT('a' || 'b', FIND_IN_SET('ONLY_FULL_GROUP_BY', @@sql_mode), FIND_IN_SET('ANSI_QUOTES', @@sql_mode) > 0)",
            "ab01",
        ),
        (
            &["SET max_join_size = 5", "SET sql_big_selects = 1"],
            "SELECT CONCAT(@@max_join_size, @@sql_big_selects)",
            "51",
        ),
        (&["SET max_join_size = 5"], "SELECT CONCAT(@@max_join_size, @@sql_big_selects)", "50"),
        (&["USE other"], "SELECT CONCAT(DATABASE(), COUNT(*)) FROM t", "other0"),
        (&["SET TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE"], "SELECT 'pending'", "pending"),
        (&["SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "SELECT 1"], "", ""),
    ];
    for (statements, _, _) in cases {
        let mut conn = stage.client().await;
        for statement in statements {
            conn.query_drop(*statement).await.expect(statement);
        }
        sessions.push(conn);
    }
    stage.close().await;
    stage.switch();
    for ((statements, query, value), conn) in cases.iter().zip(&mut sessions) {
        if query.is_empty() {
            let reported = within(conn.query_drop("SELECT 1")).await.expect_err("not known");
            assert!(matches!(reported, mysql_async::Error::Server(error) if error.code == 1053));
            continue;
        }
        let found: Result<Option<String>, _> = within(conn.query_first(*query)).await;
        let closed = stage.route().handovers().closed;
        let found = found.unwrap_or_else(|error| panic!("{statements:?}: {error}, {closed:?}"));
        assert_eq!(found.as_deref(), Some(*value), "{statements:?}");
    }
    // What was set for the next transaction is still to come.
    let write = "INSERT INTO items (name) VALUES ('x')";
    let refused = within(sessions[4].query_drop(write)).await;
    assert!(matches!(refused, Err(mysql_async::Error::Server(error)) if error.code == 1792));
    for statement in ["COMMIT", write] {
        within(sessions[4].query_drop(statement)).await.expect("the one after it writes");
    }
    let closed = stage.route().handovers().closed;
    assert_eq!(closed, BTreeMap::from([("transaction characteristics", 1)]));
}

#[tokio::test]
async fn no_setting_ends_a_session_of_an_old_mysql_for_nothing() {
    no_setting_ends_a_session_for_nothing(Kind::Mysql56).await;
}

#[tokio::test]
async fn no_setting_ends_a_session_of_mariadb_for_nothing() {
    no_setting_ends_a_session_for_nothing(Kind::Mariadb1011).await;
}

/// The database, the port of the server, and a variable of the session.
async fn place(conn: &mut Conn) -> (Option<String>, u16, Option<i64>) {
    one(conn, "SELECT DATABASE(), @@port, @kept").await
}

fn at(database: &str, server: &Server) -> (Option<String>, u16, Option<i64>) {
    (Some(database.to_owned()), server.port(), Some(7))
}

#[tokio::test]
async fn a_session_passes_the_gate_of_every_route_whose_database_it_chose() {
    let stage = Stage::new(Kind::Mysql97, Kind::Mysql97).await;
    let insert = "INSERT INTO items (name) VALUES ('x')";
    // One of another route, one of the default route, and one that is back in its own database.
    let chosen = [("shop", "USE depot"), ("attic", "SELECT 1; USE `depot`"), ("shop", "USE depot")];
    let mut sessions = Vec::new();
    for (number, (own, choice)) in chosen.into_iter().enumerate() {
        let mut conn = client(stage.address.port(), Some(own)).await;
        conn.query_drop("SET @kept = 7").await.expect("a variable");
        conn.query_drop(choice).await.expect(choice);
        if number == 2 {
            conn.query_drop("USE shop").await.expect("its own");
        }
        conn.query_drop(insert).await.expect("a row");
        sessions.push(conn);
    }
    // A choice that the server refuses binds nobody.
    let mut stranger = stage.app().await;
    stranger.query_drop("USE depot").await.expect_err("no right to it");
    assert_eq!(stage.plane.registry.of_route("depot").len(), 4);

    // Inside a transaction it holds the gate up like any other.
    sessions[0].query_drop("BEGIN").await.expect("a transaction");
    sessions[0].query_drop(insert).await.expect("a row");
    let depot = stage.route_of("depot");
    depot.gate.close();
    let early = tokio::time::timeout(Duration::from_millis(50), depot.gate.quiet()).await;
    assert!(early.is_err(), "quiet with a transaction open");
    sessions[0].query_drop("COMMIT").await.expect("a commit");
    stage.close_gate("depot").await;

    let mut held = Vec::new();
    for mut conn in sessions {
        held.push(tokio::spawn(async move {
            conn.query_drop(insert).await.expect("held, then executed");
            conn
        }));
    }
    stage.until_held("depot", 3).await;
    stage.switch_route("depot");
    let expected = [at("depot", &stage.green), at("depot", &stage.green), at("shop", &stage.blue)];
    for (held, expected) in held.into_iter().zip(expected) {
        let mut conn = within(held).await.expect("no panic");
        assert_eq!(place(&mut conn).await, expected);
        conn.query_drop(insert).await.expect("a row");
    }
    let count = "SELECT COUNT(*) FROM depot.items";
    let mut blue = client(stage.blue.port(), None).await;
    assert_eq!(one::<u64>(&mut blue, count).await, 3, "written behind the switch");
    let mut green = client(stage.green.port(), None).await;
    assert_eq!(one::<u64>(&mut green, count).await, 4);
    drop(stranger);
}

#[tokio::test]
async fn a_database_of_another_cluster_is_gone_to_between_transactions_and_refused_inside() {
    let stage = Stage::new(Kind::Mysql97, Kind::Mariadb1011).await;
    stage.switch_route("depot");
    let mut conn = stage.client().await;
    conn.query_drop("SET @kept = 7").await.expect("a variable");
    conn.query_drop("USE depot").await.expect("it is served");
    assert_eq!(place(&mut conn).await, at("depot", &stage.green));
    conn.query_drop("USE shop").await.expect("it is served");
    assert_eq!(place(&mut conn).await, at("shop", &stage.blue));

    conn.query_drop("BEGIN; INSERT INTO items (name) VALUES ('kept')").await.expect("a transaction");
    let error = conn.query_drop("USE depot").await.expect_err("inside");
    let mysql_async::Error::Server(error) = error else {
        panic!("{error}");
    };
    assert_eq!(error.code, 1049);
    assert!(error.message.contains("outside a transaction"), "{error}");
    conn.query_drop("COMMIT").await.expect("it goes on");
    assert_eq!(one::<u64>(&mut conn, "SELECT COUNT(*) FROM items").await, 1);

    // What cannot move stays, and hears why.
    conn.query_drop("CREATE TEMPORARY TABLE mine (a INT)").await.expect("a table");
    conn.query_drop("USE depot").await.expect_err("a temporary table");
    assert_eq!(place(&mut conn).await, at("shop", &stage.blue));
}

#[tokio::test]
async fn a_choice_inside_a_transaction_waits_for_the_gate_of_its_database() {
    let stage = Stage::new(Kind::Mysql97, Kind::Mysql97).await;
    let mut conn = stage.client().await;
    conn.query_drop("BEGIN").await.expect("a transaction");
    stage.close_gate("depot").await;
    let choosing = tokio::spawn(async move {
        conn.query_drop("USE depot").await.expect("held, then executed");
        conn
    });
    stage.until_held("depot", 1).await;
    let depot = stage.route_of("depot");
    depot.gate.open();
    let mut conn = within(choosing).await.expect("no panic");
    for route in ["shop", "depot"] {
        assert_eq!(stage.route_of(route).gate.inside().len(), 1, "{route}");
    }
    conn.query_drop("INSERT INTO items (name) VALUES ('x'); COMMIT").await.expect("written");
    let count: u64 = one(&mut conn, "SELECT COUNT(*) FROM depot.items").await;
    assert_eq!(count, 1);
    for route in ["shop", "depot"] {
        within(async {
            while !stage.route_of(route).gate.inside().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_change_of_the_user_leads_to_any_route_and_passes_its_gate() {
    let stage = Stage::new(Kind::Mysql97, Kind::Mysql97).await;
    stage.switch_route("depot");
    let mut conn = stage.app().await;
    let become_root = |database: Option<&str>| {
        ChangeUserOpts::default()
            .with_user(Some("root".to_owned()))
            .with_pass(Some(String::new()))
            .with_db_name(database.map(str::to_owned))
    };
    let expected = [
        (Some("depot"), &stage.green, "depot"),
        (Some("attic"), &stage.blue, "attic"),
        (Some("shop"), &stage.blue, "shop"),
        (None, &stage.blue, "shop"),
    ];
    for (database, server, route) in expected {
        within(conn.change_user(become_root(database))).await.expect("a login");
        let (now, port, kept) = place(&mut conn).await;
        assert_eq!((now.as_deref(), port, kept), (database, server.port(), None));
        let sessions = stage.plane.registry.snapshot();
        assert_eq!((sessions[0].user.as_str(), sessions[0].route.as_str()), ("root", route));
        assert_eq!(sessions.len(), 1);
        assert_eq!(stage.plane.registry.of_route(route).len(), 1);
    }
    // Whoever is in no database passes the gate of the route that it came by, and of what it chooses.
    conn.query_drop("USE attic").await.expect("a database");
    within(conn.change_user(become_root(Some("depot")))).await.expect("a login");
    stage.close_gate("depot").await;
    let held = tokio::spawn(async move {
        conn.query_drop("INSERT INTO items (name) VALUES ('x')").await.expect("a row");
        conn
    });
    stage.until_held("depot", 1).await;
    stage.route_of("depot").gate.open();
    let mut conn = within(held).await.expect("no panic");
    let refused = conn.change_user(become_root(Some("headgate"))).await;
    assert!(refused.is_err(), "the console by the way");
}

#[tokio::test]
async fn what_the_fence_refuses_at_a_wary_gate_is_held_and_runs_once_it_is_down() {
    for kind in [Kind::Mysql97, Kind::Mariadb1011, Kind::Mysql56] {
        let stage = Stage::new(kind, Kind::Mysql97).await;
        let insert = "INSERT INTO items (name) VALUES (?)";
        let mut sessions = Vec::new();
        for number in 0..4 {
            let mut conn = stage.app().await;
            let statement = (number % 2 == 0).then_some(insert);
            let statement = match statement {
                Some(text) => Some(conn.prep(text).await.expect("a statement")),
                None => None,
            };
            sessions.push((conn, statement));
        }
        let mut limits = stage.app().await;
        let mut admin = client(stage.blue.port(), None).await;
        stage.close().await;
        let fence = "SET GLOBAL read_only = ON";
        admin.query_drop(fence).await.expect("the fence");
        let mut writing = Vec::new();
        for (mut conn, statement) in sessions {
            writing.push(tokio::spawn(async move {
                match statement {
                    Some(statement) => conn.exec_drop(&statement, ("x",)).await,
                    None => conn.query_drop("INSERT INTO items (name) VALUES ('x')").await,
                }
            }));
        }
        stage.until_held("shop", 4).await;
        let gate = Arc::clone(&stage.route().gate);
        gate.open_warily();
        within(async {
            while gate.log().held < 8 || gate.in_line() < 4 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(gate.inside().is_empty(), "held, and inside");
        // Reads go on, and whoever may have done something before the refusal hears it.
        assert_eq!(one::<u64>(&mut limits, "SELECT COUNT(*) FROM items").await, 0);
        limits.query_drop("BEGIN").await.expect("nothing yet");
        let insert = "INSERT INTO items (name) VALUES ('x')";
        let error = limits.query_drop(insert).await.expect_err("the fence");
        assert!(error.to_string().contains("1290"), "{error}");
        admin.query_drop("SET GLOBAL read_only = OFF").await.expect("down");
        gate.open();
        for writer in writing {
            within(writer).await.expect("no panic").expect("written");
        }
        let count: u64 = one(&mut admin, "SELECT COUNT(*) FROM shop.items").await;
        assert_eq!(count, 4, "{kind:?}");
    }
}
