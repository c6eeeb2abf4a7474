//! Whatever a stranger sends: no crash, no hang, no memory, a legal answer, and nobody else notices.

use std::time::Duration;

use tests::half_open::{self, Beginning, half_a_client_hello};
use tests::headgate::{Engine, Headgate};
use tests::mysql::Mysql;
use tests::mysql::disposable::Kind;
use tests::mysql::raw::{
    BINLOG_DUMP, CAPABILITIES, CHANGE_USER, CLOSE, Hello, LONG_DATA, PING, PREPARE, Packet, QUERY, Raw, SSL, command,
    login, packet,
};
use tests::wait::{SOON, until, within};
use tests::world::mysql_route_to;

const DATABASE: &str = "shop";

/// Small, so that a test need not send a gigabyte to pass it.
const LIMITS: &str = "[limits]\nframe_bytes_max = \"64KiB\"\nlogin_timeout = \"1s\"\n";

struct Stage {
    mysql: Mysql,
    headgate: Headgate,
    observer: Raw,
}

impl Stage {
    async fn new() -> Self {
        Self::with(LIMITS).await
    }

    /// Where a slow machine has the time to make a key for RSA within a login.
    async fn patient() -> Self {
        Self::with(&LIMITS.replace("\"1s\"", "\"15s\"")).await
    }

    async fn with(limits: &str) -> Self {
        let mysql = Mysql::start(Kind::Mysql97).await;
        mysql.make_database(DATABASE).await;
        mysql.make_account("app", "right", DATABASE).await;
        let sections = [mysql_route_to(mysql.port(), DATABASE).as_str(), limits].concat();
        let headgate = Headgate::start_for(Engine::Mysql, &sections).await;
        let (observer, _) = Raw::login(headgate.port(), "root", DATABASE).await;
        Self { mysql, headgate, observer }
    }

    /// Sends the bytes as the first ones of a connection and returns all packets that come back behind the greeting until
    /// Headgate closes.
    async fn first(&mut self, what: &str, bytes: &[u8]) -> Vec<Packet> {
        let mut raw = Raw::connect(self.headgate.port()).await;
        raw.send(bytes).await;
        let mut answer = Vec::new();
        let hear = async {
            while let Some(packet) = raw.packet().await {
                answer.push(packet);
            }
        };
        within(what, SOON / 2, hear).await;
        self.others_go_on(what).await;
        assert_eq!(answer.first().and_then(|first| first.body.first()), Some(&10));
        answer.split_off(1)
    }

    /// Sends the bytes in a session that is logged in; returns the error with which it ends, if it says one.
    async fn inside(&mut self, what: &str, bytes: &[u8]) -> Option<(u16, String, String)> {
        let (mut raw, _) = Raw::login(self.headgate.port(), "root", DATABASE).await;
        raw.send(bytes).await;
        let mut last = None;
        while let Some(packet) = raw.packet().await {
            last = packet.is_error().then(|| packet.error());
        }
        self.others_go_on(what).await;
        last
    }

    async fn others_go_on(&mut self, what: &str) {
        assert_eq!(self.observer.query("SELECT 1").await.len(), 5, "after {what}, an open session is broken");
        let (mut fresh, _) = Raw::login(self.headgate.port(), "root", DATABASE).await;
        assert_eq!(fresh.query("SELECT 1").await.len(), 5, "after {what}, a new session is broken");
    }

    fn is_small(&self) {
        let peak = self.headgate.memory_peak_kib();
        assert!(peak < 60_000, "strangers made it take {peak} KiB of memory");
    }
}

/// An answer must be nothing, or what a login asks for, and then at most one error with a SQLSTATE.
fn check_refusal(what: &str, answer: &[Packet]) {
    for (at, packet) in answer.iter().enumerate() {
        let last = at + 1 == answer.len();
        match packet.body.first() {
            Some(0xff) if last => {
                let (code, state, text) = packet.error();
                assert!(code >= 1000 && state.len() == 5 && !text.is_empty(), "{what}: {packet:?}");
            }
            Some(0xfe | 1) => {}
            _ => panic!("{what}: neither silence nor an error: {answer:?}"),
        }
    }
}

fn hello(user: &str, database: &str) -> Vec<u8> {
    login(user, database, "caching_sha2_password")
}

/// A header alone.
fn header(length: u32, sequence: u8) -> Vec<u8> {
    [&length.to_le_bytes()[..3], &[sequence]].concat()
}

/// The request for TLS.
fn tls_request() -> Vec<u8> {
    let mut body = (CAPABILITIES | SSL).to_le_bytes().to_vec();
    body.extend_from_slice(&0x0100_0000_u32.to_le_bytes());
    body.push(45);
    body.extend_from_slice(&[0; 23]);
    packet(1, &body)
}

#[tokio::test]
async fn first_packets_that_are_none_are_refused() {
    let mut stage = Stage::new().await;
    let tls = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0x5a; 501]].concat();
    let whole = hello("nobody", DATABASE);
    let body = &whole[4..];
    let sized = |length: u32| [header(length, 1).as_slice(), &[b'x'; 64]].concat();
    let with = |capabilities: u32| packet(1, &[&capabilities.to_le_bytes(), &body[4..]].concat());
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing at all", vec![]),
        ("one byte", vec![0]),
        ("three bytes", vec![0, 0, 0]),
        ("a header and no more", header(64, 1)),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("TLS without asking", tls),
        ("length 0", sized(0)),
        ("length 1", sized(1)),
        ("length 31", sized(31)),
        ("length 64 of nothing", sized(64)),
        ("length 2^17 + 1", sized((1 << 17) + 1)),
        ("length 2^24 - 1", sized(0xff_ffff)),
        ("no capabilities", with(0)),
        ("every capability", with(u32::MAX)),
        ("the protocol before 4.1", with(CAPABILITIES & !0x200)),
        ("a query before the login", command(QUERY, b"SELECT 1")),
        ("a PostgreSQL client", b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0shop\0\0".to_vec()),
        ("a name without an end", packet(1, &body[..34])),
        ("no name at all", packet(1, &body[..32])),
        ("a proof cut off", packet(1, &[&body[..37], &[200, 1, 2]].concat())),
        ("no user", hello("", DATABASE)),
        ("a user of 64 KB", hello(&"x".repeat(65_536), DATABASE)),
        (
            "attributes that promise more than they hold",
            packet(1, &[&(CAPABILITIES | 1 << 20).to_le_bytes(), &body[4..], &[250, 9, b'x']].concat()),
        ),
        (
            "attributes of 2^64 bytes",
            packet(
                1,
                &[&(CAPABILITIES | 1 << 20).to_le_bytes(), &body[4..], &[0xfe, 255, 255, 255, 255, 255, 255, 255, 255]]
                    .concat(),
            ),
        ),
        ("a second request for TLS in place of the first", [tls_request(), tls_request()].concat()),
        ("garbage where TLS begins", [tls_request(), vec![0x5a; 4096]].concat()),
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
    let whole = hello("root", DATABASE);
    let app = hello("app", DATABASE);
    let beginnings = [
        &whole[..0],
        &whole[..4],
        &whole[..whole.len() - 1],
        // A request for TLS, and a proof that is asked for, with nothing behind them.
        &tls_request()[..],
        &login("app", DATABASE, "nonsense")[..],
    ];
    for bytes in beginnings {
        // `first` returns when Headgate closes, and fails when it never does.
        stage.first(&format!("{} bytes and silence", bytes.len()), bytes).await;
    }
    // An account with a password that gives none is told at once.
    let reported = stage.first("no password", &app).await;
    assert_eq!(reported[0].error().0, 1045);
}

#[tokio::test]
async fn a_password_that_is_garbage_under_every_cover_is_refused() {
    let mut stage = Stage::patient().await;
    let proof = [7; 32];
    let reported = Hello {
        user: "app",
        database: DATABASE,
        plugin: "caching_sha2_password",
        proof: &proof,
        capabilities: CAPABILITIES,
    };
    let whole = packet(1, &reported.body());
    let cases: [(&str, Vec<u8>); 6] = [
        ("nothing", packet(3, &[])),
        ("the password in clear text", packet(3, b"right\0")),
        ("a cipher that is none", packet(3, &[7; 256])),
        ("a cipher that is too long", packet(3, &vec![7; 100_000])),
        ("the key asked for again and again", [packet(3, &[2]), packet(5, &[2]), packet(7, &[2])].concat()),
        ("a cipher of another length behind the key", [packet(3, &[2]), packet(5, &[0xff; 255])].concat()),
    ];
    for (what, bytes) in cases {
        let answer = stage.first(what, &[whole.clone(), bytes].concat()).await;
        check_refusal(what, &answer);
        let last = answer.last().expect("it is told");
        assert_eq!(last.error().0, 1045, "{what}: {last:?}");
    }
    stage.is_small();
}

#[tokio::test]
async fn packets_that_lie_about_their_length_end_their_session_only() {
    let mut stage = Stage::new().await;
    let reported = stage.inside("an empty packet", &packet(0, &[])).await;
    assert_eq!(reported.map(|reported| reported.0), Some(1835));
    // What is promised never comes: the session waits for it, and ends with its client.
    let mut waiting = Vec::new();
    for length in [1_u32, 100, 0x8000, 0xffff, 0xff_ffff] {
        for code in [QUERY, LONG_DATA, CHANGE_USER] {
            let (mut raw, _) = Raw::login(stage.headgate.port(), "root", DATABASE).await;
            raw.send(&[header(length, 0).as_slice(), &[code]].concat()[..4.max(length.min(5) as usize)]).await;
            waiting.push(raw);
        }
    }
    stage.others_go_on("promises").await;
    let count = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'root'";
    for mut raw in waiting {
        raw.finish().await;
        raw.rest().await;
    }
    // The witness and this question.
    stage.mysql.until_value("", count, "2").await;
    stage.is_small();
}

#[tokio::test]
async fn a_packet_over_the_limit_ends_its_session_only_and_says_why() {
    let mut stage = Stage::new().await;
    let (mut raw, _) = Raw::login(stage.headgate.port(), "root", DATABASE).await;
    let fits = format!("SELECT LENGTH('{}')", "x".repeat(60_000));
    assert_eq!(raw.query(&fits).await.len(), 5, "a packet within the limit passes");
    let over = format!("SELECT LENGTH('{}')", "x".repeat(70_000));
    let reported = stage.inside("a query of 70 kB", &command(QUERY, over.as_bytes())).await;
    assert_eq!(reported.map(|reported| reported.0), Some(1835));
    let reported = stage.inside("a row of 70 kB", &command(QUERY, b"SELECT REPEAT('x', 70000)")).await;
    assert!(reported.is_some(), "the client is not told that its session ends");
    stage.is_small();
}

#[tokio::test]
async fn what_is_longer_than_the_servers_limit_is_refused_in_its_own_words() {
    let mysql = Mysql::start_with(Kind::Mysql97, &[("max-allowed-packet", "1M")]).await;
    mysql.make_database(DATABASE).await;
    let sections = mysql_route_to(mysql.port(), DATABASE);
    let headgate = Headgate::start_for(Engine::Mysql, &sections).await;
    let long = command(QUERY, format!("SELECT '{}'", "x".repeat(2_000_000)).as_bytes());
    let mut reported = Vec::new();
    for port in [mysql.port(), headgate.port()] {
        let (mut raw, _) = Raw::login(port, "root", DATABASE).await;
        reported.push(raw.exchange(&long, false, Packet::is_error).await);
    }
    assert_eq!(reported[0], reported[1]);
    assert_eq!(reported[0][0].error().0, 1153);
}

#[tokio::test]
async fn packets_out_of_order_are_judged_by_the_server() {
    let mut stage = Stage::new().await;
    let mut wrong = command(QUERY, b"SELECT 1");
    wrong[3] = 7;
    let through = stage.inside("a query with number 7", &wrong).await;
    let (mut direct, _) = Raw::login(stage.mysql.port(), "root", DATABASE).await;
    direct.send(&wrong).await;
    let mut last = None;
    while let Some(packet) = direct.packet().await {
        last = packet.is_error().then(|| packet.error());
    }
    assert_eq!(through, last);
    // At the login it is no harm.
    for number in [0, 2, 255] {
        let mut bytes = hello("nobody at all", DATABASE);
        bytes[3] = number;
        let answer = stage.first("a login with another number", &bytes).await;
        check_refusal("a login with another number", &answer);
    }
}

#[tokio::test]
async fn replication_and_unknown_commands_are_refused_and_the_session_goes_on() {
    let mut stage = Stage::new().await;
    let (mut raw, _) = Raw::login(stage.headgate.port(), "root", DATABASE).await;
    for code in [BINLOG_DUMP, 0x13, 0x15, 0x1e] {
        for body in [&[][..], &[0; 10], &vec![0xff; 60_000][..]] {
            let reported = raw.command(code, body).await;
            assert_eq!(reported[0].error().0, 1235, "{code:x}: {reported:?}");
        }
    }
    for code in [0x00, 0x0b, 0x0f, 0x10, 0x14, 0x1d, 0x20, 0x7f, 0xf9, 0xff] {
        let reported = raw.command(code, &[0xfe; 3]).await;
        assert_eq!(reported[0].error(), (1047, "08S01".to_owned(), "Unknown command".to_owned()), "{code:x}");
    }
    assert_eq!(raw.query("SELECT 1").await.len(), 5);
    stage.others_go_on("unknown commands").await;
    stage.is_small();
}

#[tokio::test]
async fn a_change_of_the_user_that_is_none_ends_its_session_only() {
    let mut stage = Stage::patient().await;
    for (what, body) in [
        ("nothing", &[][..]),
        ("a user without an end", b"root"),
        ("a proof cut off", b"root\0\xc8\x01"),
        ("garbage", &[0xff; 1000]),
        ("a user of 60 KB", &vec![b'x'; 60_000]),
        ("another route", b"root\0\0nowhere\0\x2d\0caching_sha2_password\0"),
        ("a user that is not there", b"nobody\0\0shop\0\x2d\0caching_sha2_password\0"),
    ] {
        let bytes = [
            command(CHANGE_USER, body),
            // The answers to whatever is asked for.
            packet(2, &[7; 32]),
            packet(4, &[7; 256]),
        ]
        .concat();
        let reported = stage.inside(what, &bytes).await;
        assert!(reported.is_some(), "{what}: no word");
    }
    stage.is_small();
}

#[tokio::test]
async fn a_client_that_sends_and_never_reads_costs_no_memory() {
    let mut stage = Stage::new().await;
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let (mut raw, _) = Raw::login(stage.headgate.port(), "root", DATABASE).await;
        let rows = command(QUERY, b"SELECT REPEAT('x', 60000)");
        raw.send(&[rows.repeat(500), command(PING, &[]).repeat(10_000)].concat()).await;
        deaf.push(raw);
    }
    stage.others_go_on("deaf clients").await;
    stage.is_small();
}

#[tokio::test]
async fn pieces_and_statements_without_end_cost_no_memory() {
    let mut stage = Stage::new().await;
    let (mut raw, _) = Raw::login(stage.headgate.port(), "root", DATABASE).await;
    let statement = format!("SELECT ?, '{}'", "x".repeat(50_000));
    // Texts and pieces are kept for a handover, as far as that may be.
    for _ in 0..600 {
        raw.send(&command(PREPARE, statement.as_bytes())).await;
        // The statement, its parameter, its two columns, and the ends of both.
        for _ in 0..6 {
            let packet = raw.packet().await.expect("it is prepared");
            assert!(!packet.is_error(), "{packet:?}");
        }
    }
    let mut id = 1_u32.to_le_bytes().to_vec();
    id.extend_from_slice(&[0; 2]);
    let piece = [id.as_slice(), &vec![b'x'; 50_000]].concat();
    for _ in 0..400 {
        raw.send(&command(LONG_DATA, &piece)).await;
    }
    raw.send(&command(CLOSE, &[1])).await;
    stage.others_go_on("pieces").await;
    let peak = stage.headgate.memory_peak_kib();
    assert!(peak < 90_000, "a session made it take {peak} KiB of memory");
}

#[tokio::test]
async fn a_route_that_does_not_exist_is_refused_as_the_server_would() {
    let mut stage = Stage::new().await;
    for database in ["nowhere", "../x", "Shop", "mysql", "information_schema"] {
        let answer = stage.first(&format!("database {database:?}"), &hello("nobody", database)).await;
        check_refusal(database, &answer);
        let last = answer.last().unwrap_or_else(|| panic!("{database}: silence"));
        let text = format!("Unknown database '{database}'");
        assert_eq!(last.error(), (1049, "42000".to_owned(), text));
    }
}

#[tokio::test]
async fn strangers_that_stay_away_free_their_place() {
    let mut stage = Stage::new().await;
    let mut idle = Vec::new();
    for _ in 0..500 {
        idle.push(Raw::connect(stage.headgate.port()).await);
    }
    // All of them say nothing; a client that does is served at once, and each of them is closed in the end.
    stage.others_go_on("500 strangers").await;
    for mut stranger in idle {
        stranger.rest().await;
    }
    let sessions = || async {
        let count = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'root'";
        stage.mysql.value("", count).await
    };
    until("the witness on the server, and this question's session", SOON, sessions, |count| count == "2").await;
    let refused =
        "SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Aborted_connects'";
    assert_eq!(stage.mysql.value("", refused).await, "0");
}

/// What strangers begin with and leave at that: nothing, half a request for TLS, a whole one, and half of what TLS begins with
/// behind it.
fn beginnings() -> [Beginning; 4] {
    let request = tls_request();
    [
        Beginning::default(),
        Beginning { first: request[..18].to_vec(), ..Beginning::default() },
        Beginning { first: request.clone(), ..Beginning::default() },
        Beginning { first: request, hears: 60, then: half_a_client_hello() },
    ]
}

/// A server, and the route to it.
async fn server() -> (Mysql, String) {
    let mysql = Mysql::start(Kind::Mysql97).await;
    mysql.make_database(DATABASE).await;
    let route = mysql_route_to(mysql.port(), DATABASE);
    (mysql, route)
}

#[tokio::test]
async fn a_thousand_half_open_handshakes_take_little_memory_and_end_at_the_login_timeout() {
    let (_mysql, route) = server().await;
    half_open::end_at_the_login_timeout::<Raw>(&route, (1000, Duration::from_secs(5)), &beginnings()).await;
}

#[tokio::test]
#[ignore = "takes a minute, and more open files than a process may have elsewhere"]
async fn ten_thousand_half_open_handshakes_take_little_memory_and_end_at_the_login_timeout() {
    let (_mysql, route) = server().await;
    half_open::end_at_the_login_timeout::<Raw>(&route, (10_000, Duration::from_secs(40)), &beginnings()).await;
}

#[tokio::test]
async fn who_begins_a_login_and_does_not_end_it_gives_way_to_who_does() {
    let (_mysql, route) = server().await;
    half_open::give_way::<Raw>(&route, &beginnings()).await;
}
