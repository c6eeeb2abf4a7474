//! Whatever a stranger sends: no crash, no hang, no memory, a legal answer, and nobody else notices.

use std::time::Duration;

use tests::client::Raw;
use tests::half_open::{self, Beginning, half_a_client_hello};
use tests::headgate::Headgate;
use tests::message::{first_packet, frame, gss_request, lying_frame, query, ssl_request, startup, startup_of_version};
use tests::postgres::Postgres;
use tests::wait::{SOON, until};
use tests::world::route_to;

/// Small, so that a test need not send a gigabyte to pass it.
const LIMITS: &str = "[limits]\nframe_bytes_max = \"64KiB\"\nlogin_timeout = \"1s\"\n";

struct Stage {
    _postgres: Postgres,
    headgate: Headgate,
    observer: Raw,
}

impl Stage {
    async fn new() -> Self {
        let postgres = Postgres::start(15).await;
        let headgate = Headgate::start(&[route_to(postgres.port(), "postgres").as_str(), LIMITS].concat()).await;
        let observer = Raw::login(headgate.port(), "postgres", "postgres").await;
        Self { _postgres: postgres, headgate, observer }
    }

    /// Sends the bytes as the first ones of a connection and returns all that comes back until Headgate closes.
    async fn first(&mut self, what: &str, bytes: &[u8]) -> Vec<u8> {
        let mut raw = Raw::connect(self.headgate.port()).await;
        raw.send(bytes).await;
        let answer = raw.rest().await;
        self.others_go_on(what).await;
        answer
    }

    /// Sends the bytes in a session that is logged in; returns the SQLSTATE with which it ends, if it says one.
    async fn inside(&mut self, what: &str, bytes: &[u8]) -> Option<String> {
        let mut raw = Raw::login(self.headgate.port(), "postgres", "postgres").await;
        raw.send(bytes).await;
        let mut last = None;
        while let Some(frame) = raw.frame().await {
            assert_ne!(frame.tag, b'Z', "{what}: the session goes on");
            if frame.tag == b'E' {
                last = Some(frame.sqlstate());
            }
        }
        self.others_go_on(what).await;
        last
    }

    async fn others_go_on(&mut self, what: &str) {
        assert_eq!(self.observer.query("select 1").await.len(), 4, "after {what}, an open session is broken");
        let mut fresh = Raw::login(self.headgate.port(), "postgres", "postgres").await;
        assert_eq!(fresh.query("select 1").await.len(), 4, "after {what}, a new session is broken");
    }

    fn is_small(&self) {
        let peak = self.headgate.memory_peak_kib();
        assert!(peak < 60_000, "strangers made it take {peak} KiB of memory");
    }
}

/// An answer must be nothing, or one well-formed error with a SQLSTATE.
fn check_refusal(what: &str, answer: &[u8]) {
    if answer.is_empty() {
        return;
    }
    assert_eq!(answer.first(), Some(&b'E'), "{what}: neither silence nor an error: {answer:?}");
    let text = String::from_utf8_lossy(answer);
    assert!(text.contains("\0C") && text.contains("\0M") && text.ends_with("\0\0"), "{what}: {text:?}");
}

#[tokio::test]
async fn first_packets_that_are_none_are_refused() {
    let mut stage = Stage::new().await;
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0x5a; 501]].concat();
    let sized = |length: u32| [length.to_be_bytes().as_slice(), &[0, 3, 0, 0], &[b'x'; 64]].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing at all", vec![]),
        ("one byte", vec![0]),
        ("three bytes", vec![0, 0, 0]),
        ("a length and no more", vec![0, 0, 0, 8]),
        ("seven bytes", vec![0, 0, 0, 8, 0, 3, 0]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("TLS without asking", hello),
        ("length 0", sized(0)),
        ("length 3", sized(3)),
        ("length 4", sized(4)),
        ("length 10001", sized(10_001)),
        ("length 2^31-1", sized(0x7fff_ffff)),
        ("length 2^32-1", sized(0xffff_ffff)),
        ("protocol 2.0", startup_of_version(0x0002_0000, &[("user", "postgres")])),
        ("no such request", first_packet(&80_877_199_u32.to_be_bytes())),
        ("a query before the login", query("select 1")),
        ("a password before the login", frame(b'p', b"secret\0")),
        ("no final NUL", first_packet(b"\0\x03\0\0user\0postgres\0")),
        ("a name without a value", first_packet(b"\0\x03\0\0user\0postgres\0database\0\0")),
        ("a name cut off", first_packet(b"\0\x03\0\0user\0postgres\0databa")),
        ("no user", startup(&[("database", "postgres")])),
        ("a value of 64 KB", startup(&[("user", "postgres"), ("options", &"x".repeat(65_536))])),
        ("a cancel request cut short", first_packet(&[4, 210, 22, 46, 0, 0][..])),
        ("a cancel request for nobody", first_packet(&[4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2][..])),
    ];
    for (what, bytes) in cases {
        let answer = stage.first(what, &bytes).await;
        check_refusal(what, &answer);
    }
    stage.is_small();
}

#[tokio::test]
async fn a_stranger_who_says_nothing_more_is_sent_away_at_the_login_timeout() {
    let mut stage = Stage::new().await;
    let whole = startup(&[("user", "postgres"), ("database", "postgres")]);
    let beginnings = [&whole[..0], &whole[..4], &whole[..whole.len() - 1], &ssl_request()[..]];
    for bytes in beginnings {
        // `first` returns when Headgate closes, and fails when it never does.
        stage.first(&format!("{} bytes and silence", bytes.len()), bytes).await;
    }
}

#[tokio::test]
async fn requests_for_encryption_are_answered_and_not_for_ever() {
    let mut stage = Stage::new().await;
    let mut raw = Raw::connect(stage.headgate.port()).await;
    raw.send(&ssl_request()).await;
    assert_eq!(raw.hearing.byte().await, Some(b'N'));
    raw.send(&gss_request()).await;
    assert_eq!(raw.hearing.byte().await, Some(b'N'));
    raw.send(&startup(&[("user", "postgres"), ("database", "postgres")])).await;
    assert!(
        raw.until_ready().await.iter().any(|frame| frame.tag == b'Z'),
        "a client that takes no for an answer may log in"
    );

    let endless = [ssl_request(), gss_request()].concat().repeat(50_000);
    let answer = stage.first("100,000 requests for encryption", &endless).await;
    assert!(answer.len() < 1000, "it answered {} times", answer.len());
    stage.is_small();
}

#[tokio::test]
async fn a_newer_protocol_is_negotiated_down_as_the_server_does() {
    let stage = Stage::new().await;
    for version in [0x0003_0002_u32, 0x0003_270f] {
        let mut raw = Raw::connect(stage.headgate.port()).await;
        let packet = [("user", "postgres"), ("database", "postgres"), ("_pq_.unheard_of", "1")];
        raw.send(&startup_of_version(version, &packet)).await;
        let frames = raw.until_ready().await;
        let negotiation = frames.iter().find(|frame| frame.tag == b'v').expect("NegotiateProtocolVersion");
        assert!(negotiation.body.ends_with(b"_pq_.unheard_of\0"), "{negotiation:?}");
        assert!(frames.iter().any(|frame| frame.tag == b'Z'), "{version:x}: {frames:?}");
    }
}

#[tokio::test]
async fn frames_that_lie_about_their_length_end_their_session_only() {
    let mut stage = Stage::new().await;
    for length in [0, 1, 2, 3, 0x8000_0000, 0xffff_ffff] {
        for tag in [b'Q', b'P', b'd', b'X', 0] {
            let what = format!("frame {tag} of length {length}");
            let code = stage.inside(&what, &lying_frame(tag, length, b"select 1\0")).await;
            assert!(code.is_none_or(|code| code == "08P01"), "{what}");
        }
    }
    stage.is_small();
}

#[tokio::test]
async fn a_frame_over_the_limit_ends_its_session_only_and_says_why() {
    let mut stage = Stage::new().await;
    let fits = query(&format!("select length('{}')", "x".repeat(60_000)));
    assert_eq!(stage.observer.query("select 1").await.len(), 4);
    let mut raw = Raw::login(stage.headgate.port(), "postgres", "postgres").await;
    raw.send(&fits).await;
    assert_eq!(raw.until_ready().await.len(), 4, "a frame within the limit passes");

    let over = query(&format!("select length('{}')", "x".repeat(70_000)));
    let code = stage.inside("a query of 70 kB", &over).await;
    assert_eq!(code.as_deref(), Some("08P01"));
    let code = stage.inside("a row of 70 kB", &query("select repeat('x', 70000)")).await;
    assert!(code.is_some(), "the client is not told that its session ends");
    stage.is_small();
}

#[tokio::test]
async fn a_second_first_packet_inside_a_session_is_no_second_login() {
    let mut stage = Stage::new().await;
    // Its first four bytes read as a frame of type 0 with an absurd length.
    let again = startup(&[("user", "somebody_else"), ("database", "postgres")]);
    let code = stage.inside("a second startup packet", &again).await;
    assert!(code.is_none_or(|code| code == "08P01"));
}

#[tokio::test]
async fn a_route_that_does_not_exist_is_refused_as_the_server_would() {
    let mut stage = Stage::new().await;
    for database in ["nowhere", "../x", "replication", "Postgres", ""] {
        let packet = startup(&[("user", "nobody"), ("database", database)]);
        let answer = stage.first(&format!("database {database:?}"), &packet).await;
        check_refusal(database, &answer);
        assert!(!answer.is_empty(), "{database}: silence");
    }
}

#[tokio::test]
async fn strangers_that_stay_away_free_their_place() {
    let postgres = Postgres::start(15).await;
    let sections = [route_to(postgres.port(), "postgres").as_str(), "[limits]\nlogin_timeout = \"1s\"\n"].concat();
    let headgate = Headgate::start(&sections).await;
    let mut idle = Vec::new();
    for _ in 0..500 {
        idle.push(Raw::connect(headgate.port()).await);
    }
    // All of them say nothing; a client that does is served at once, and each of them is closed in the end.
    let mut raw = Raw::login(headgate.port(), "postgres", "postgres").await;
    assert_eq!(raw.query("select 1").await.len(), 4);
    for mut stranger in idle {
        stranger.rest().await;
    }
    let sessions = || async {
        postgres.value("postgres", "select count(*) from pg_stat_activity where backend_type = 'client backend'").await
    };
    until("one session on the server, and this question's", SOON, sessions, |count| count == "2").await;
}

/// What strangers begin with and leave at that: nothing, half a request for TLS, a whole one, and half of what TLS begins with, asked
/// for and not.
fn beginnings() -> [Beginning; 5] {
    let request = ssl_request();
    [
        Beginning::default(),
        Beginning { first: request[..4].to_vec(), ..Beginning::default() },
        Beginning { first: request.clone(), ..Beginning::default() },
        Beginning { first: request, hears: 1, then: half_a_client_hello() },
        Beginning { first: half_a_client_hello(), ..Beginning::default() },
    ]
}

/// A server, and the route to it.
async fn server() -> (Postgres, String) {
    let postgres = Postgres::start(15).await;
    let route = route_to(postgres.port(), "postgres");
    (postgres, route)
}

#[tokio::test]
async fn a_thousand_half_open_handshakes_take_little_memory_and_end_at_the_login_timeout() {
    let (_postgres, route) = server().await;
    half_open::end_at_the_login_timeout::<Raw>(&route, (1000, Duration::from_secs(5)), &beginnings()).await;
}

#[tokio::test]
#[ignore = "takes a minute, and more open files than a process may have elsewhere"]
async fn ten_thousand_half_open_handshakes_take_little_memory_and_end_at_the_login_timeout() {
    let (_postgres, route) = server().await;
    half_open::end_at_the_login_timeout::<Raw>(&route, (10_000, Duration::from_secs(40)), &beginnings()).await;
}

#[tokio::test]
async fn who_begins_a_login_and_does_not_end_it_gives_way_to_who_does() {
    let (_postgres, route) = server().await;
    half_open::give_way::<Raw>(&route, &beginnings()).await;
}
