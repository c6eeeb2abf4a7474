//! A KILL reaches the statement of the session that is meant, and no other, by either number that a client may know.

use tests::headgate::{Engine, Headgate};
use tests::mysql::disposable::Kind;
use tests::mysql::raw::{PROCESS_KILL, Packet, QUERY, Raw, command};
use tests::mysql::{Mysql, rows, single, try_connect, try_rows};
use tests::world::mysql_route_to;

const DATABASE: &str = "shop";
const SLEEP: &str = "SELECT SLEEP(60)";

async fn stage(kind: Kind) -> (Mysql, Headgate) {
    let mysql = Mysql::start(kind).await;
    mysql.make_database(DATABASE).await;
    let sections = mysql_route_to(mysql.port(), DATABASE);
    let headgate = Headgate::start_for(Engine::Mysql, &sections).await;
    (mysql, headgate)
}

/// The server's own number for a session.
async fn thread_of(raw: &mut Raw) -> u32 {
    let answer = raw.query("SELECT CONNECTION_ID()").await;
    let text = String::from_utf8_lossy(&answer[3].body[1..]).into_owned();
    text.parse().expect("a number")
}

/// Waits until so many sessions sleep.
async fn until_busy(mysql: &Mysql, count: &str) {
    let busy = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = '{SLEEP}'");
    mysql.until_value("", &busy, count).await;
}

/// What a statement that was ended tells: SLEEP gives 1, or an error.
fn was_ended(answer: &[Packet]) -> bool {
    answer.last().is_some_and(Packet::is_error) || answer.get(3).is_some_and(|row| row.body == [1, b'1'])
}

/// What a driver calls the id of its session is Headgate's number, in no list of the server's.
async fn the_list_of_sessions_has_the_servers_number_and_a_kill_takes_both(kind: Kind) {
    let (_mysql, headgate) = stage(kind).await;
    let mut one = try_connect(headgate.port(), "root", None, DATABASE).await.expect("a session");
    let thread = single(&rows(&mut one, "SELECT CONNECTION_ID()").await, "the id");
    let greeted = one.id();
    let listed = rows(&mut one, "SHOW PROCESSLIST").await;
    let has = |id: &str| {
        let mut listed = listed.iter();
        listed.any(|row| row.first().and_then(Option::as_deref) == Some(id))
    };
    assert!(has(&thread), "{listed:?}");
    assert!(!has(&greeted.to_string()), "{greeted}: {listed:?}");
    let mut killer = try_connect(headgate.port(), "root", None, DATABASE).await.expect("a session");
    for number in [&greeted.to_string(), &thread] {
        let killed = try_rows(&mut killer, &format!("KILL QUERY {number}")).await;
        assert!(killed.is_ok(), "{number}: {killed:?}");
    }
}

async fn a_kill_of_a_query_ends_the_statement_of_its_session_and_of_no_other(kind: Kind) {
    let (mysql, headgate) = stage(kind).await;
    let (mut other, _) = Raw::login(headgate.port(), "root", DATABASE).await;
    other.send(&command(QUERY, SLEEP.as_bytes())).await;
    let (mut one, greeting) = Raw::login(headgate.port(), "root", DATABASE).await;
    let thread = thread_of(&mut one).await;
    assert_ne!(greeting.id, thread, "the greeting comes before the server's");
    let (mut killer, _) = Raw::login(headgate.port(), "root", DATABASE).await;
    // As the client libraries say it, and as people do.
    for kill in [
        format!("KILL QUERY {}", greeting.id),
        format!("KILL QUERY {thread}"),
        format!("/* it hangs */ kill query {};", greeting.id),
    ] {
        one.send(&command(QUERY, SLEEP.as_bytes())).await;
        until_busy(&mysql, "2").await;
        let answer = killer.query(&kill).await;
        assert!(answer[0].is_ok(), "{kill}: {answer:?}");
        let ended = one.answer().await;
        assert!(was_ended(&ended), "{kill}: {ended:?}");
        until_busy(&mysql, "1").await;
        let on = one.query("SELECT 1").await;
        assert_eq!(on.len(), 5, "the session goes on: {on:?}");
    }
}

async fn a_kill_ends_the_session_that_is_meant_and_no_other(kind: Kind) {
    let (mysql, headgate) = stage(kind).await;
    let (mut other, _) = Raw::login(headgate.port(), "root", DATABASE).await;
    let (mut killer, own) = Raw::login(headgate.port(), "root", DATABASE).await;
    for by_greeting in [true, false] {
        let (mut one, greeting) = Raw::login(headgate.port(), "root", DATABASE).await;
        let thread = thread_of(&mut one).await;
        let number = if by_greeting { greeting.id } else { thread };
        let answer = killer.query(&format!("KILL {number}")).await;
        assert!(answer[0].is_ok(), "KILL {number}: {answer:?}");
        // Servers say something to a session that is killed while idle, or nothing.
        one.rest().await;
        let left = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {thread}");
        mysql.until_value("", &left, "0").await;
    }
    if kind != Kind::Mysql97 {
        // The command, which MySQL has given up for the statement.
        let (mut one, greeting) = Raw::login(headgate.port(), "root", DATABASE).await;
        let answer = killer.command(PROCESS_KILL, &greeting.id.to_le_bytes()).await;
        assert!(answer[0].is_ok(), "{answer:?}");
        one.rest().await;
    }
    assert_eq!(other.query("SELECT 1").await.len(), 5, "another session");
    let answer = killer.query("KILL 4000000000").await;
    assert_eq!(answer[0].error().0, 1094, "{answer:?}");
    assert_eq!(answer[0].error().2, "Unknown thread id: 4000000000", "as the server would say it");
    // The server interrupts the statement that ends its own session.
    let answer = killer.query(&format!("KILL {}", own.id)).await;
    let interrupted = if kind == Kind::Mariadb1011 { 1927 } else { 1317 };
    assert_eq!(answer[0].error().0, interrupted, "{answer:?}");
    assert_eq!(killer.rest().await, b"");
}

async fn a_session_of_another_account_is_out_of_reach_in_the_servers_own_words(kind: Kind) {
    let (mysql, headgate) = stage(kind).await;
    mysql.make_account("app", "right", DATABASE).await;
    let (mut one, greeting) = Raw::login(headgate.port(), "root", DATABASE).await;
    let thread = thread_of(&mut one).await;
    one.send(&command(QUERY, SLEEP.as_bytes())).await;
    until_busy(&mysql, "1").await;
    let mut app = headgate.connect_mysql("app", "right", DATABASE).await;
    for kill in ["KILL", "KILL QUERY"] {
        for number in [greeting.id, thread] {
            let reported = try_rows(&mut app, &format!("{kill} {number}")).await;
            match reported {
                Err(mysql_async::Error::Server(error)) => {
                    assert_eq!(error.code, 1095, "{error}");
                }
                other => panic!("{kill} {number}: {other:?}"),
            }
        }
    }
    until_busy(&mysql, "1").await;
    let own = try_connect(headgate.port(), "app", Some("right"), DATABASE).await;
    let mut own = own.expect("the right password");
    let id = own.id();
    let thread = single(&rows(&mut own, "SELECT CONNECTION_ID()").await, "the id");
    try_rows(&mut app, &format!("KILL {id}")).await.expect("a session of one's own account");
    let left = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {thread}");
    mysql.until_value("", &left, "0").await;
    let answer = try_rows(&mut own, "SELECT 1").await;
    assert!(answer.is_err(), "{answer:?}");
}

on_every_server!(
    the_list_of_sessions_has_the_servers_number_and_a_kill_takes_both,
    a_kill_of_a_query_ends_the_statement_of_its_session_and_of_no_other,
    a_kill_ends_the_session_that_is_meant_and_no_other,
    a_session_of_another_account_is_out_of_reach_in_the_servers_own_words,
);
