//! A client cannot tell Headgate from the server: the same bytes in give the same bytes out.

use tests::client::{Frame, Raw};
use tests::fault::{Fault, Relay};
use tests::headgate::Headgate;
use tests::message::{
    bind, close, copy_data, copy_done, copy_fail, describe, execute, flush, frame, parse, query, startup, sync,
    terminate,
};
use tests::postgres::{Postgres, connect, rows};
use tests::world::route_to;

/// What a client says, and how many times the server gets ready in between; it waits for each.
struct Script {
    name: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    steps: Vec<(Vec<u8>, usize)>,
}

fn script(name: &'static str, steps: Vec<(Vec<u8>, usize)>) -> Script {
    Script { name, parameters: &[], steps }
}

fn login_with(name: &'static str, parameters: &'static [(&'static str, &'static str)]) -> Script {
    let steps = vec![(query("show application_name; show datestyle; show geqo; show client_encoding"), 1)];
    Script { name, parameters, steps }
}

fn refused(name: &'static str, parameters: &'static [(&'static str, &'static str)]) -> Script {
    Script { name, parameters, steps: vec![] }
}

fn scripts() -> Vec<Script> {
    let all = |parts: &[Vec<u8>]| parts.concat();
    let long = "x".repeat(3_000_000);
    vec![
        script("statements in one query, with an error between", vec![(query("select 1; select 1/0; select 2"), 1)]),
        script("an empty query", vec![(query(""), 1), (query(" ; ; "), 1)]),
        script(
            "a transaction that fails and ends",
            vec![(query("begin"), 1), (query("select nonsense"), 1), (query("select 1"), 1), (query("rollback"), 1)],
        ),
        script("notices", vec![(query("do $$ begin raise notice 'one'; raise warning 'two'; end $$"), 1)]),
        script(
            "parameters that the server reports",
            vec![(
                query("set application_name to 'reports'; set datestyle to 'German'; set timezone to 'Asia/Tokyo'"),
                1,
            )],
        ),
        script(
            "one prepared statement",
            vec![
                (all(&[parse("s", "select $1::int + 1 as n, $2::text"), describe(b'S', "s"), sync()]), 1),
                (all(&[bind("", "s", &["41", "é"]), describe(b'P', ""), execute("", 0), sync()]), 1),
                (all(&[close(b'S', "s"), close(b'S', "never was"), sync()]), 1),
                (all(&[bind("", "s", &["41", "é"]), sync()]), 1),
            ],
        ),
        script(
            "a pipeline with several syncs and an error inside",
            vec![(
                all(&[
                    parse("", "select 1"),
                    bind("", "", &[]),
                    execute("", 0),
                    sync(),
                    parse("", "select 1/0"),
                    bind("", "", &[]),
                    execute("", 0),
                    parse("", "select 'skipped'"),
                    bind("", "", &[]),
                    execute("", 0),
                    sync(),
                    parse("", "select 3"),
                    bind("", "", &[]),
                    execute("", 0),
                    sync(),
                ]),
                3,
            )],
        ),
        script(
            "simple queries in a pipeline",
            vec![(all(&[query("select 1"), query("select 2"), query("selec"), query("select 4")]), 4)],
        ),
        script(
            "a simple query in the middle of an extended batch",
            vec![(all(&[parse("", "select 1"), bind("", "", &[]), query("select 2"), execute("", 0), sync()]), 2)],
        ),
        script(
            "a suspended portal",
            vec![
                (query("begin"), 1),
                (
                    all(&[
                        parse("", "select * from generate_series(1, 5)"),
                        bind("p", "", &[]),
                        execute("p", 2),
                        flush(),
                        execute("p", 2),
                        sync(),
                    ]),
                    1,
                ),
                (all(&[execute("p", 2), execute("p", 2), sync()]), 1),
                (query("commit"), 1),
            ],
        ),
        script(
            "COPY out",
            vec![(query("copy (select generate_series(1, 1000)) to stdout"), 1), (query("select 1"), 1)],
        ),
        script(
            "COPY in, good and bad",
            vec![
                (query("truncate pairs"), 1),
                (
                    all(&[query("copy pairs from stdin"), copy_data(b"1\tone\n2\t"), copy_data(b"two\n"), copy_done()]),
                    1,
                ),
                (all(&[query("copy pairs from stdin"), copy_data(b"3\tthree\n"), copy_fail("changed my mind")]), 1),
                (all(&[query("copy pairs from stdin"), copy_data(b"not a number\n"), copy_done()]), 1),
                (query("select * from pairs order by a"), 1),
            ],
        ),
        script(
            "COPY in by the extended protocol",
            vec![
                (query("truncate numbers"), 1),
                (
                    all(&[
                        parse("", "copy numbers from stdin"),
                        bind("", "", &[]),
                        execute("", 0),
                        sync(),
                        copy_data(b"7\n"),
                        copy_done(),
                        sync(),
                    ]),
                    1,
                ),
                (query("select * from numbers"), 1),
            ],
        ),
        script(
            "COPY messages where no COPY is",
            vec![(all(&[copy_data(b"x"), copy_done(), copy_fail("y"), query("select 1")]), 1)],
        ),
        script(
            "a function call",
            vec![(
                frame(
                    b'F',
                    &[177_u32.to_be_bytes().as_slice(), &[0, 1, 0, 0, 0, 2, 0, 0, 0, 1, b'2', 0, 0, 0, 1, b'3', 0, 0]]
                        .concat(),
                ),
                1,
            )],
        ),
        script(
            "rows of several megabytes",
            vec![(query(&format!("select length('{long}'), repeat('y', 5000000)")), 1), (query("select 1"), 1)],
        ),
        script("a query without its final NUL", vec![(frame(b'Q', b"select 1"), 1)]),
        script("a query with a NUL inside", vec![(frame(b'Q', b"select 1\0; select 2\0"), 1)]),
        script(
            "a bind that promises more than it holds",
            vec![(all(&[parse("", "select $1::text"), frame(b'B', &[0, 0, 0, 0, 0, 1, 0, 0, 0, 9, b'x']), sync()]), 1)],
        ),
        script(
            "portals and statements that do not exist",
            vec![(
                all(&[
                    describe(b'S', "none"),
                    sync(),
                    describe(b'P', "none"),
                    sync(),
                    execute("none", 0),
                    sync(),
                    describe(b'?', ""),
                    sync(),
                ]),
                4,
            )],
        ),
        script("a message of no known type", vec![(frame(0xff, b""), 1)]),
        script("leaving in the middle of a pipeline", vec![(all(&[parse("", "select 1"), terminate()]), 1)]),
        login_with(
            "any setting at login",
            &[
                ("application_name", "some app"),
                ("DateStyle", "SQL, DMY"),
                ("options", "-c geqo=off"),
                ("client_encoding", "LATIN1"),
                ("client_min_messages", "debug1"),
            ],
        ),
        login_with("a spelling of an encoding", &[("client_encoding", "utf-8")]),
        refused("an unknown setting at login", &[("nonsense", "1")]),
        refused("an unknown setting in the options", &[("options", "-c nonsense=1")]),
        refused("a broken option", &[("options", "-c=")]),
        refused("a bad value at login", &[("datestyle", "nonsense")]),
        refused("an unknown role", &[("user", "nobody_at_all")]),
    ]
}

/// Runs a script and returns everything that the server said, without what must differ between any two sessions.
async fn transcript(port: u16, script: &Script, bytewise: bool) -> Vec<Frame> {
    let mut raw = Raw::connect(port).await;
    let mut parameters = vec![("user", "postgres"), ("database", "postgres")];
    parameters.retain(|(name, _)| script.parameters.iter().all(|(given, _)| given != name));
    parameters.extend(script.parameters);
    let mut frames = Vec::new();
    let login = [(startup(&parameters), 1)];
    for (bytes, ready) in login.iter().chain(&script.steps) {
        if bytewise {
            raw.saying.send_bytewise(bytes).await;
        } else {
            raw.send(bytes).await;
        }
        for _ in 0..*ready {
            frames.extend(raw.until_ready().await);
        }
    }
    raw.send(&terminate()).await;
    let rest = raw.rest().await;
    assert!(rest.is_empty(), "{}: {} bytes that nothing asked for", script.name, rest.len());
    // The server welcomes before it looks at the settings; Headgate welcomes when the session is there.
    if frames.iter().all(|frame| frame.tag != b'Z') {
        frames.retain(|frame| frame.tag != b'R');
    }
    for frame in &mut frames {
        if frame.tag == b'K' {
            // Which process and which secret is up to each server session.
            frame.body = vec![0; frame.body.len()];
        }
    }
    frames
}

async fn check(direct: u16, through: u16, bytewise: bool) {
    // Made once: a row's description tells its table's own number.
    let tables = "create table pairs (a int, b text); create table numbers (a int)";
    rows(&connect(direct, "postgres", None, "postgres").await, tables).await;
    // Megabytes, byte by byte, would take long and show nothing more.
    let short = |script: &Script| script.steps.iter().all(|(bytes, _)| bytes.len() < 10_000);
    for script in scripts().into_iter().filter(|script| !bytewise || short(script)) {
        let expected = transcript(direct, &script, false).await;
        let seen = transcript(through, &script, bytewise).await;
        let first = expected.iter().zip(&seen).position(|(expected, seen)| expected != seen);
        let at = first.unwrap_or(expected.len().min(seen.len()));
        assert!(
            expected == seen,
            "{}: frame {at} differs:\n  direct:  {}\n  through: {}",
            script.name,
            shown(expected.get(at)),
            shown(seen.get(at))
        );
    }
}

fn shown(frame: Option<&Frame>) -> String {
    frame.map_or("nothing".to_owned(), |frame| {
        format!("{} {}", char::from(frame.tag), String::from_utf8_lossy(&frame.body).escape_debug())
    })
}

#[tokio::test]
async fn every_script_reads_the_same_directly_and_through_headgate() {
    let postgres = Postgres::start(15).await;
    let headgate = Headgate::start(&route_to(postgres.port(), "postgres")).await;
    check(postgres.port(), headgate.port(), false).await;
}

#[tokio::test]
async fn every_script_reads_the_same_on_the_newest_server() {
    let postgres = Postgres::start(18).await;
    let headgate = Headgate::start(&route_to(postgres.port(), "postgres")).await;
    check(postgres.port(), headgate.port(), false).await;
}

#[tokio::test]
async fn every_script_reads_the_same_when_every_byte_comes_alone_from_both_sides() {
    let postgres = Postgres::start(15).await;
    let relay = Relay::to(postgres.port()).await;
    let headgate = Headgate::start(&route_to(relay.port(), "postgres")).await;
    relay.set(Fault::Bytewise);
    check(postgres.port(), headgate.port(), true).await;
}

#[tokio::test]
async fn a_client_that_never_reads_makes_the_server_wait_and_then_gets_everything() {
    let postgres = Postgres::start(15).await;
    let headgate = Headgate::start(&route_to(postgres.port(), "postgres")).await;
    let mut raw = Raw::login(headgate.port(), "postgres", "postgres").await;
    let rows = query("select repeat('x', 1000) from generate_series(1, 20000)");
    raw.send(&rows.repeat(5)).await;
    let mut bytes = 0;
    for _ in 0..5 {
        let frames = raw.until_ready().await;
        assert_eq!(frames.iter().filter(|frame| frame.tag == b'D').count(), 20_000);
        bytes += frames.iter().map(|frame| frame.body.len()).sum::<usize>();
    }
    assert!(bytes > 100_000_000, "{bytes}");
    let peak = headgate.memory_peak_kib();
    assert!(peak < 60_000, "100 MB of rows for a client that did not read took {peak} KiB of memory");
}

#[tokio::test]
async fn ten_thousand_queries_in_flight_are_all_answered_in_order() {
    let postgres = Postgres::start(15).await;
    let headgate = Headgate::start(&route_to(postgres.port(), "postgres")).await;
    let Raw { mut hearing, mut saying } = Raw::login(headgate.port(), "postgres", "postgres").await;
    let sender = tokio::spawn(async move {
        for number in 0..10_000 {
            saying.send(&query(&format!("select {number}"))).await;
        }
        saying
    });
    for number in 0..10_000 {
        let frames = hearing.until_ready().await;
        let row = frames.iter().find(|frame| frame.tag == b'D').expect("a row");
        assert!(row.body.ends_with(number.to_string().as_bytes()), "{number}: {row:?}");
    }
    drop(sender.await);
}

#[tokio::test]
async fn the_process_id_that_a_client_is_told_is_the_servers() {
    let postgres = Postgres::start(15).await;
    let headgate = Headgate::start(&route_to(postgres.port(), "postgres")).await;
    let (mut raw, pid, _) = Raw::login_with_key(headgate.port(), "postgres", "postgres").await;
    let frames = raw.query("select pg_backend_pid()").await;
    let row = frames.iter().find(|frame| frame.tag == b'D').expect("a row");
    assert!(row.body.ends_with(pid.to_string().as_bytes()), "told {pid}, but {row:?}");
}

#[tokio::test]
async fn a_notification_reaches_the_session_that_listens_and_no_other() {
    let postgres = Postgres::start(15).await;
    let headgate = Headgate::start(&route_to(postgres.port(), "postgres")).await;
    let mut listener = Raw::login(headgate.port(), "postgres", "postgres").await;
    let mut other = Raw::login(headgate.port(), "postgres", "postgres").await;
    listener.query("listen news").await;
    other.query("notify news, 'hello'").await;
    let heard = listener.frame().await.expect("a notification");
    assert_eq!((heard.tag, heard.body.ends_with(b"news\0hello\0")), (b'A', true), "{heard:?}");
    let frames = other.query("select 1").await;
    assert!(frames.iter().all(|frame| frame.tag != b'A'), "{frames:?}");
}

#[tokio::test]
async fn the_server_session_ends_when_its_client_goes_away_without_a_word() {
    let postgres = Postgres::start(15).await;
    let headgate = Headgate::start(&route_to(postgres.port(), "postgres")).await;
    let (raw, pid, _) = Raw::login_with_key(headgate.port(), "postgres", "postgres").await;
    drop(raw);
    let gone = format!("select count(*) from pg_stat_activity where pid = {pid}");
    postgres.until_value("postgres", &gone, "0").await;
}

#[tokio::test]
async fn the_servers_own_last_words_reach_the_client() {
    let postgres = Postgres::start(15).await;
    let headgate = Headgate::start(&route_to(postgres.port(), "postgres")).await;
    let (mut raw, pid, _) = Raw::login_with_key(headgate.port(), "postgres", "postgres").await;
    postgres.sql("postgres", &format!("select pg_terminate_backend({pid})")).await;
    let last = raw.frame().await.expect("the server says why");
    assert_eq!(last.sqlstate(), "57P01");
    assert_eq!(last.field('M').as_deref(), Some("terminating connection due to administrator command"));
    assert_eq!(raw.frame().await, None);
}
