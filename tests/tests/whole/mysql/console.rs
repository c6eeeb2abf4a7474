//! The admin console: the same statements and columns for clients of MySQL as for those of PostgreSQL.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};
use tests::headgate::{ADMIN_PASSWORD, Engine, Headgate};
use tests::mysql::disposable::Kind;
use tests::mysql::raw::{CAPABILITIES, DEPRECATE_EOF, QUERY, Raw, SESSION_TRACK, command};
use tests::mysql::{Login, Mysql, finish, node, python, rows, single, try_rows};
use tests::wait::SOON;
use tests::world::{mysql_clusters, mysql_route_to};
use tokio::process::Command;

const DATABASE: &str = "shop";
const TIMEOUT: Duration = SOON;

async fn stage() -> (Mysql, Headgate) {
    let mysql = Mysql::start(Kind::Mysql97).await;
    mysql.make_database(DATABASE).await;
    let sections = mysql_route_to(mysql.port(), DATABASE);
    let headgate = Headgate::start_for(Engine::Mysql, &sections).await;
    (mysql, headgate)
}

/// A Headgate whose clusters nobody needs: nothing listens there.
async fn alone() -> Headgate {
    Headgate::start_for(Engine::Mysql, &mysql_clusters(1, 1)).await
}

#[tokio::test]
async fn what_is_there_can_be_shown() {
    let (mysql, headgate) = stage().await;
    let _session = Raw::login(headgate.port(), "root", DATABASE).await;
    let routes = headgate.admin("SHOW ROUTES").await;
    assert_eq!(routes.len(), 1);
    assert_eq!(routes[0].get("cluster").map(String::as_str), Some("blue"), "{routes:?}");
    let clusters = headgate.admin("show clusters;").await;
    assert_eq!(clusters[0].get("port"), Some(&mysql.port().to_string()), "{clusters:?}");
    let sessions = headgate.admin("SHOW SESSIONS").await;
    assert!(sessions.iter().any(|row| row.get("route").is_some_and(|route| route == DATABASE)), "{sessions:?}");
    assert!(!headgate.admin("HELP").await.is_empty());
    assert!(!headgate.admin("SHOW VERSION").await.is_empty());
    let config = format!("{:?}", headgate.admin("SHOW CONFIG").await);
    assert!(!config.contains(ADMIN_PASSWORD), "a secret is shown: {config}");
}

/// Every statement that shows something.
const SHOWING: [&str; 14] = [
    "HELP",
    "SHOW ROUTES",
    "SHOW CLUSTERS",
    "SHOW SESSIONS",
    "SHOW CONFIG",
    "SHOW VERSION",
    "SHOW MIGRATION LIST",
    "SHOW MIGRATION STATUS",
    "SHOW MIGRATION STATUS m",
    "SHOW MIGRATION TABLES m",
    "SHOW MIGRATION CHECKS m",
    "SHOW MIGRATION CHECK STATUS m",
    "SHOW CUTOVER REPORT m",
    "SHOW READINESS m",
];

fn names(columns: &[mysql_async::Column]) -> Vec<String> {
    columns.iter().map(|column| column.name_str().into_owned()).collect()
}

#[tokio::test]
async fn every_statement_has_the_columns_that_it_has_for_postgres() {
    let mysql = alone().await;
    let postgres = Headgate::start(&tests::world::clusters(1, 1)).await;
    let mut console = mysql.mysql_console().await;
    let other = postgres.console().await;
    for statement in SHOWING {
        let prepared = console.prep(statement).await;
        let prepared = prepared.unwrap_or_else(|error| panic!("{statement}: {error}"));
        let seen = names(&prepared.columns());
        assert!(!seen.is_empty(), "{statement} shows nothing");
        let expected = other.prepare(statement).await;
        let expected = expected.unwrap_or_else(|error| panic!("{statement}: {error}"));
        let expected: Vec<&str> = expected.columns().iter().map(tokio_postgres::Column::name).collect();
        assert_eq!(seen, expected, "{statement}");
        // What is executed has the columns that were announced, in both protocols.
        let Ok(result) = console.exec_iter(&prepared, ()).await else {
            assert!(statement.ends_with(" m"), "{statement} is refused");
            continue;
        };
        assert_eq!(names(result.columns_ref()), seen, "{statement}");
        drop(result.drop_result().await);
        let result = console.query_iter(statement).await.expect("as before");
        assert_eq!(names(result.columns_ref()), seen, "{statement}");
        drop(result.drop_result().await);
    }
}

#[tokio::test]
async fn a_statement_that_is_none_is_refused_with_the_nearest_form() {
    let headgate = alone().await;
    for (wrong, nearest) in [
        ("SHOW ROUTE", "SHOW ROUTES"),
        ("CUTOVER m", "CUTOVER MIGRATION"),
        ("CREATE MIGRATION m FROM", "CREATE MIGRATION"),
        ("selekt 1", "HELP"),
        ("SHOW MIGRATION STATUS m nonsense", "SHOW MIGRATION STATUS"),
    ] {
        let (state, text) = headgate.refused(wrong).await;
        assert_eq!(state, "42601", "{wrong}");
        assert!(text.contains(nearest), "{wrong}: {text}");
    }
}

#[tokio::test]
async fn warnings_tell_an_error_and_its_remedy_once_more() {
    let headgate = alone().await;
    let mut console = headgate.mysql_console().await;
    let refused = try_rows(&mut console, "SHOW ROUTE").await;
    let Err(mysql_async::Error::Server(refused)) = refused else {
        panic!("{refused:?}");
    };
    let warnings = rows(&mut console, "SHOW WARNINGS").await;
    let levels: Vec<Option<&str>> = warnings.iter().map(|row| row[0].as_deref()).collect();
    assert_eq!(levels, [Some("Error"), Some("Note")], "{warnings:?}");
    for row in &warnings {
        let text = row[2].as_deref().expect("a text");
        assert!(refused.message.contains(text), "{text:?}: {refused}");
    }
    assert_eq!(warnings[0][1], Some(refused.code.to_string()), "the error has another number");
    rows(&mut console, "SHOW VERSION").await;
    assert!(rows(&mut console, "SHOW WARNINGS").await.is_empty());
}

#[tokio::test]
async fn odd_statements_do_not_end_the_session() {
    let headgate = alone().await;
    let mut console = headgate.mysql_console().await;
    let long = "x".repeat(1_000_000);
    let deep = "(".repeat(10_000);
    let like = format!("SHOW VARIABLES LIKE '{}'", "%".repeat(900_000));
    let slow = format!("SHOW VARIABLES LIKE '{}x'", "%_".repeat(14));
    for odd in [
        "",
        ";",
        " ;; ; ",
        "-- only a comment",
        "'unterminated",
        "/* open",
        long.as_str(),
        deep.as_str(),
        like.as_str(),
        slow.as_str(),
        "SHOW \u{0}",
        "é",
        "SELECT @@",
        "SELECT @@a.b.c.d",
        "USE elsewhere",
        "CALL nothing()",
        "LOAD DATA LOCAL INFILE 'x' INTO TABLE y",
        "KILL 1",
    ] {
        let _ = try_rows(&mut console, odd).await;
        let _ = console.prep(odd).await;
        let rows = rows(&mut console, "SHOW VERSION").await;
        assert_eq!(rows.len(), 1, "after {:?}", odd.chars().take(20).collect::<String>());
    }
    assert!(!headgate.log().contains("panic"), "{}", headgate.log());
}

#[tokio::test]
async fn odd_commands_do_not_end_the_session_or_end_it_alone() {
    let headgate = alone().await;
    let mut observer = headgate.mysql_console().await;
    for code in 0..=255_u8 {
        for body in [&[][..], &[1, 0, 0, 0], &[0xff; 40]] {
            let mut client = Raw::login_console(headgate.port()).await;
            client.send(&command(code, body)).await;
            client.send(&command(QUERY, b"SHOW VERSION")).await;
            client.send(&command(1, &[])).await;
            client.rest().await;
        }
    }
    assert_eq!(rows(&mut observer, "SHOW VERSION").await.len(), 1);
    let mut client = Raw::login_console(headgate.port()).await;
    client.send(&tests::mysql::raw::packet(0, &[])).await;
    client.rest().await;
    assert_eq!(rows(&mut observer, "SHOW VERSION").await.len(), 1);
    let peak = headgate.memory_peak_kib();
    assert!(peak < 60_000, "it took {peak} KiB of memory");
}

#[tokio::test]
async fn prepared_statements_work_as_texts() {
    let (_mysql, headgate) = stage().await;
    let mut console = headgate.mysql_console().await;
    let found: Vec<Row> = console.exec("SHOW ROUTES", ()).await.expect("no parameters");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].get::<String, _>("route").as_deref(), Some(DATABASE));
    assert!(found[0].get::<i64, _>("sessions").is_some_and(|count| count >= 0));
    // A name as a parameter.
    let refused = console.exec::<Row, _, _>("SHOW MIGRATION STATUS ?", (Value::from("ghost"),)).await;
    let refused = refused.expect_err("there is no such migration").to_string();
    assert!(refused.contains("ghost"), "{refused}");
    assert_eq!(rows(&mut console, "SHOW ROUTES").await.len(), 1);
}

#[tokio::test]
async fn several_statements_in_one_text_are_carried_out_one_by_one() {
    let headgate = alone().await;
    let mut console = headgate.mysql_console().await;
    let mut result = console
        .query_iter("SHOW VERSION; SHOW ROUTES; BEGIN; SHOW CLUSTERS; COMMIT")
        .await
        .expect("all of them are right");
    let mut counts = Vec::new();
    while !result.is_empty() {
        let found: Vec<Row> = result.collect().await.expect("rows or nothing");
        counts.push(found.len());
    }
    drop(result);
    // The driver does not count a last result without rows.
    assert_eq!(counts, [1, 1, 0, 2]);
    // A slip at the end does nothing of what stands before it.
    let answer = try_rows(&mut console, "CREATE MIGRATION m FROM blue TO green FOR ROUTE shop; SHOW NONSENSE").await;
    assert!(answer.is_err(), "{answer:?}");
    assert!(rows(&mut console, "SHOW MIGRATION LIST").await.is_empty());
}

#[tokio::test]
async fn a_migration_that_does_not_exist_is_told_as_such() {
    let headgate = alone().await;
    for statement in
        ["START MIGRATION ghost", "SHOW MIGRATION STATUS ghost", "CUTOVER MIGRATION ghost", "DROP MIGRATION ghost"]
    {
        let (_, text) = headgate.refused(statement).await;
        assert!(text.contains("ghost"), "{statement}: {text}");
    }
}

#[tokio::test]
async fn clients_that_agreed_on_more_read_the_same_rows() {
    let (_mysql, headgate) = stage().await;
    let mut reported = Vec::new();
    for more in [0, DEPRECATE_EOF, SESSION_TRACK, DEPRECATE_EOF | SESSION_TRACK] {
        let mut raw = Raw::login_console_with(headgate.port(), CAPABILITIES | more).await;
        let between = usize::from(more & DEPRECATE_EOF == 0);
        raw.send(&command(QUERY, b"SHOW VERSION")).await;
        let count = raw.packet().await.expect("a count").body;
        let columns = usize::from(count[0]);
        assert_eq!(count.len(), 1, "{more:x}");
        let mut all = Vec::new();
        for _ in 0..=columns + between {
            all.push(raw.packet().await.expect("a packet").body);
        }
        let end = raw.packet().await.expect("the end").body;
        assert_eq!(end[0], 0xfe, "{more:x}: {end:?}");
        reported.push(all.last().cloned());
    }
    assert!(reported.iter().all(|row| *row == reported[0]), "{reported:?}");
}

fn login(headgate: &Headgate) -> Login<'static> {
    Login { port: headgate.port(), user: "headgate", password: ADMIN_PASSWORD, database: "headgate" }
}

#[tokio::test]
async fn the_clients_mysql_and_mariadb_show_routes() {
    let headgate = alone().await;
    let login = login(&headgate);
    let batch = ["--batch", "--execute=SHOW ROUTES; SHOW WARNINGS; SHOW CLUSTERS"];
    for (name, command) in [
        ("mysql", login.mysql(&batch)),
        ("mysql with TLS", login.mysql(&[&batch[..], &["--ssl-mode=REQUIRED"]].concat())),
        ("mariadb", login.mariadb(&batch)),
    ] {
        let reported = finish(name, TIMEOUT, command).await;
        let lines: Vec<&str> = reported.lines().collect();
        assert!(lines[0].starts_with("route\t"), "{name}: {reported}");
        assert!(lines[1].starts_with("shop\t"), "{name}: {reported}");
        assert!(lines.iter().any(|line| line.starts_with("green\t")), "{name}: {reported}");
    }
    // An error is told with its remedy, and `--show-warnings` asks for it once more.
    let mut wrong = login.mysql(&["--show-warnings", "--execute=SHOW ROUTE"]);
    let output = wrong.output().await.expect("it can be run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("ERROR 1064 (42601)") && said.contains("SHOW ROUTES"), "{said}");
}

async fn driver(name: &str, mut command: Command, script: &str, headgate: &Headgate) {
    let flag = if name == "node" { "--eval" } else { "-c" };
    command.args([flag, script]);
    command.args([&headgate.port().to_string(), ADMIN_PASSWORD]);
    let reported = finish(name, TIMEOUT, command).await;
    assert_eq!(reported, "shop blue 0\nshop blue 0\nghost\n", "{name}");
}

#[tokio::test]
async fn pymysql_shows_routes() {
    let headgate = alone().await;
    let script = "
import sys, pymysql
con = pymysql.connect(host='127.0.0.1', port=int(sys.argv[1]), user='headgate', password=sys.argv[2],
                      database='headgate', cursorclass=pymysql.cursors.DictCursor)
for _ in range(2):
    cur = con.cursor()
    cur.execute('SHOW ROUTES')
    for row in cur.fetchall():
        print(row['route'], row['cluster'], row['sessions'])
    con.commit()
try:
    cur.execute('SHOW MIGRATION STATUS %s', ('ghost',))
except pymysql.MySQLError as error:
    print('ghost' if 'ghost' in str(error) else error)
";
    driver("pymysql", python(), script, &headgate).await;
}

#[tokio::test]
async fn mysql2_of_node_shows_routes() {
    let headgate = alone().await;
    let script = "
const modules = require('node:module').createRequire(process.env.HEADGATE_NODE_MODULES + '/');
const mysql = modules('mysql2/promise');
(async () => {
  const [port, password] = process.argv.slice(-2);
  const con = await mysql.createConnection(
    { host: '127.0.0.1', port: Number(port), user: 'headgate', password, database: 'headgate' });
  for (const run of ['query', 'execute']) {
    const [rows] = await con[run]('SHOW ROUTES');
    for (const row of rows) console.log(row.route, row.cluster, row.sessions);
  }
  try { await con.execute('SHOW MIGRATION STATUS ?', ['ghost']); }
  catch (error) { console.log(error.message.includes('ghost') ? 'ghost' : error); }
  await con.end();
})();
";
    driver("node", node(), script, &headgate).await;
}

/// What tools ask any server before they let people speak.
#[tokio::test]
async fn what_tools_ask_at_first_is_answered() {
    let headgate = alone().await;
    let mut console: Conn = headgate.mysql_console().await;
    for (question, answer) in [
        ("SELECT @@version_comment LIMIT 1", "Headgate admin console"),
        ("SELECT DATABASE()", "headgate"),
        ("SELECT USER()", "headgate"),
        ("SELECT 1", "1"),
        ("SELECT @@session.autocommit", "1"),
    ] {
        assert_eq!(single(&rows(&mut console, question).await, question), answer);
    }
    for statement in [
        "SET NAMES utf8mb4",
        "SET autocommit = 0",
        "SHOW DATABASES",
        "SHOW TABLES",
        "SHOW VARIABLES LIKE 'version%'",
        "USE headgate",
        "ROLLBACK",
    ] {
        rows(&mut console, statement).await;
    }
}
