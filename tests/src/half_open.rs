//! Clients that begin a login and do not end it, by the thousand.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::Instant;

use crate::client;
use crate::headgate::{Engine, Headgate};
use crate::mysql::raw;
use crate::wait::{SOON, within};
use crate::world::DATABASE;

/// The most that one of them may cost.
const KIB_EACH_MAX: u64 = 64;

/// Connections that are opened at the same time.
const AT_A_TIME: usize = 64;

/// What a client does before it stands still.
#[derive(Debug, Default)]
pub struct Beginning {
    /// What it sends at once.
    pub first: Vec<u8>,
    /// How many bytes it waits for then.
    pub hears: usize,
    /// What it sends behind them.
    pub then: Vec<u8>,
}

/// A client that ends its login, and goes on.
pub trait Honest: Sized {
    /// What it speaks.
    const ENGINE: Engine;

    /// Logs in, as the superuser of the tests.
    fn come(port: u16) -> impl Future<Output = Self>;

    /// Has a question answered.
    fn ask(&mut self) -> impl Future<Output = ()>;
}

impl Honest for client::Raw {
    const ENGINE: Engine = Engine::Postgres;

    async fn come(port: u16) -> Self {
        Self::login(port, "postgres", "postgres").await
    }

    async fn ask(&mut self) {
        assert_eq!(self.query("SELECT 1").await.len(), 4);
    }
}

impl Honest for raw::Raw {
    const ENGINE: Engine = Engine::Mysql;

    async fn come(port: u16) -> Self {
        Self::login(port, "root", DATABASE).await.0
    }

    async fn ask(&mut self) {
        assert_eq!(self.query("SELECT 1").await.len(), 5);
    }
}

/// Half of what a client says first in TLS.
pub fn half_a_client_hello() -> Vec<u8> {
    [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0x5a; 250]].concat()
}

/// Lets this process, and those that it starts from now on, have at least so many files open.
async fn allow_open_files(count: usize) {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("this is Linux");
    let now = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("Linux tells it");
    let now = now.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(usize::MAX);
    if now >= count {
        return;
    }
    let own = std::process::id().to_string();
    let asked = Command::new("prlimit").args(["--pid", &own, &format!("--nofile={count}:")]).output().await;
    let asked = asked.expect("prlimit can be run");
    assert!(asked.status.success(), "{count} open files: {}", String::from_utf8_lossy(&asked.stderr));
}

/// Opens so many connections, which stand still after one beginning or another.
async fn open(port: u16, count: usize, beginnings: &[Beginning]) -> Vec<TcpStream> {
    let one = async |number: usize| {
        let beginning = &beginnings[number % beginnings.len()];
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("it accepts");
        // A connection that was closed meanwhile is one that is not open any more, and no error.
        let _ = stream.write_all(&beginning.first).await;
        let mut heard = vec![0; beginning.hears];
        if stream.read_exact(&mut heard).await.is_ok() {
            let _ = stream.write_all(&beginning.then).await;
        }
        stream
    };
    let mut streams = Vec::with_capacity(count);
    while streams.len() < count {
        let numbers = streams.len()..count.min(streams.len() + AT_A_TIME);
        streams.extend(within("connecting", SOON, join_all(numbers.map(one))).await);
    }
    streams
}

/// A Headgate with TLS for clients, with these sections, and so long logins of so many sessions.
async fn headgate(engine: Engine, route: &str, login_timeout: Duration, sessions_max: usize) -> Headgate {
    let limits = format!("[limits]\nlogin_timeout = \"{}s\"\n", login_timeout.as_secs());
    let mut headgate = Headgate::prepare_for(engine, &[route, &limits].concat());
    headgate.configure("[listen]\n", &format!("[listen]\ntls = \"allow\"\nsessions_max = {sessions_max}\n"));
    headgate.launch().await;
    headgate
}

/// So many clients stand still in a Headgate with this route: they take little memory, and end at the login's timeout.
pub async fn end_at_the_login_timeout<H: Honest>(
    route: &str,
    (count, login_timeout): (usize, Duration),
    beginnings: &[Beginning],
) {
    allow_open_files(count + 2000).await;
    let headgate = headgate(H::ENGINE, route, login_timeout, 10_000).await;
    let honest = async || H::come(headgate.port()).await.ask().await;
    stand_still(&headgate, (count, login_timeout), beginnings, honest).await;
}

/// Whoever stands still in a Headgate with this route gives way to who logs in, and nobody who is logged in does.
pub async fn give_way<H: Honest>(route: &str, beginnings: &[Beginning]) {
    let headgate = headgate(H::ENGINE, route, SOON * 5, 20).await;
    let port = headgate.port();
    let mut observer = H::come(port).await;
    // Twice as many as there are places; none of them ends by itself before this test does.
    let strangers = open(port, 104, beginnings).await;
    let mut inside = Vec::new();
    for _ in 0..10 {
        let mut honest = H::come(port).await;
        honest.ask().await;
        inside.push(honest);
    }
    // Who is logged in gives way to nobody.
    observer.ask().await;
    for mut honest in inside {
        honest.ask().await;
    }
    assert!(headgate.page("/metrics").await.contains("headgate_logins_failed_total{reason=\"gave way\"}"));
    drop(strangers);
}

/// So many clients stand still in a Headgate whose logins may take `deadline`: memory stays within bounds, `honest` clients
/// come in, and at the deadline all are closed.
async fn stand_still(
    headgate: &Headgate,
    (count, deadline): (usize, Duration),
    beginnings: &[Beginning],
    honest: impl AsyncFn(),
) {
    honest().await;
    let before = headgate.memory_kib();
    let begun = Instant::now();
    let streams = open(headgate.port(), count, beginnings).await;
    let opened = begun.elapsed();
    within("an honest client among them", deadline, honest()).await;
    let kib = headgate.memory_kib().saturating_sub(before);
    let among = begun.elapsed();
    assert!(among < deadline, "the first may be closed already: {among:?}");
    let each = kib / u64::try_from(count).expect("a number");
    assert!(each <= KIB_EACH_MAX, "{count} half-open connections take {kib} KiB");
    let last = Instant::now();
    for mut stream in streams {
        let mut rest = Vec::new();
        let limit = (last + deadline + SOON / 4).saturating_duration_since(Instant::now());
        drop(within("a half-open connection is closed", limit, stream.read_to_end(&mut rest)).await);
    }
    let closed = begun.elapsed();
    honest().await;
    let page = headgate.page("/metrics").await;
    let counted = format!("headgate_logins_failed_total{{reason=\"timeout\"}} {count}\n");
    assert!(page.contains(&counted), "no {counted} in {page}");
    eprintln!("{count} opened in {opened:?}, {kib} KiB ({each} KiB each), all closed after {closed:?}");
}
