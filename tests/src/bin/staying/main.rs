//! Applications of Rust's drivers that stay connected while their database moves; see `tests/drivers/staying.py`:
//! `staying DRIVER NAME HOST PORT USER PASSWORD DATABASE TLS AUTHORITY CERTIFICATE KEY`.

mod mysql;
mod postgres;

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const SESSIONS: usize = 3;
/// So many that a driver which prepares what it has seen some times has done so.
const READY: i32 = 7;
/// The rows of the table `many`.
const MANY: i32 = 500;
/// What an application does besides.
const THINKS: Duration = Duration::from_millis(300);
/// The 29th of February 2024, 12:00 UTC.
const MOMENT: u64 = 1_709_208_000;
const COLUMNS: &str = "driver, session, number, amount, ratio, even, body, note, moment, absent";

type Failure = Box<dyn Error + Send + Sync>;

/// Where and how a session logs in, and what its rows are of.
struct Case {
    name: String,
    host: String,
    port: u16,
    user: String,
    password: String,
    database: String,
    tls: String,
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// A session of one driver.
trait Session: Sized + Send {
    /// Logs in.
    fn open(case: Arc<Case>, at: usize) -> impl Future<Output = Result<Self, Failure>> + Send;

    /// One transaction, which writes the row of that number.
    fn work(&mut self, number: i32) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Says farewell.
    fn close(self) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Values of several types in a row of `taken`, each of which follows from the number.
struct Values {
    amount: String,
    ratio: f64,
    even: bool,
    body: Vec<u8>,
    note: String,
    seconds: u64,
}

impl Values {
    fn of(number: i32) -> Self {
        let hundredths = number * 125;
        Self {
            amount: format!("{}.{:02}", hundredths / 100, hundredths % 100),
            ratio: f64::from(number) / 4.0,
            even: number % 2 == 0,
            body: number.to_be_bytes().to_vec(),
            note: format!("zwölf {number}"),
            seconds: MOMENT + u64::from(number.unsigned_abs()),
        }
    }
}

/// An error of ours: what was read is not what was written.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, seen: &T, expected: &T) -> Result<(), Failure> {
    if seen == expected { Ok(()) } else { Err(format!("{what}: {seen:?} and not {expected:?}").into()) }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").expect("somebody reads");
    out.flush().expect("somebody reads");
}

/// What the sessions have done, and what is waited for.
#[derive(Default)]
struct State {
    counts: [i32; SESSIONS],
    errors: usize,
    awaited: Option<([i32; SESSIONS], &'static str)>,
}

async fn live<S: Session>(
    case: Arc<Case>,
    at: usize,
    state: &Mutex<State>,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let mut session = S::open(case, at).await?;
    while !stop.is_cancelled() {
        let number = state.lock().counts[at] + 1;
        session.work(number).await?;
        {
            let mut state = state.lock();
            state.counts[at] = number;
            let counts = state.counts;
            let is_there =
                |(least, _): &mut ([i32; SESSIONS], _)| counts.iter().zip(least).all(|(count, least)| *count >= *least);
            if let Some((_, word)) = state.awaited.take_if(is_there) {
                say(word);
            }
        }
        tokio::time::sleep(THINKS).await;
    }
    session.close().await
}

fn stay<S: Session + 'static>(case: Case) {
    let runtime = Runtime::new().expect("threads");
    let (case, stop) = (Arc::new(case), CancellationToken::new());
    let state = Arc::new(Mutex::new(State { awaited: Some(([READY; SESSIONS], "ready")), ..State::default() }));
    let tasks: Vec<_> = (0..SESSIONS)
        .map(|at| {
            let (case, state, stop) = (Arc::clone(&case), Arc::clone(&state), stop.clone());
            runtime.spawn(async move {
                if let Err(error) = live::<S>(case, at, &state, &stop).await {
                    let mut state = state.lock();
                    state.errors += 1;
                    say(&format!("error in transaction {} of session {at}: {error:?}", state.counts[at] + 1));
                }
            })
        })
        .collect();
    for line in std::io::stdin().lines() {
        if line.expect("text") == "stop" {
            break;
        }
        let mut state = state.lock();
        // The one that is under way may have begun before.
        state.awaited = Some((state.counts.map(|count| count + 2), "progress"));
    }
    stop.cancel();
    for task in tasks {
        runtime.block_on(task).expect("it does not panic");
    }
    let state = state.lock();
    say(&format!("acknowledged {}, errors {}", state.counts.iter().sum::<i32>(), state.errors));
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("eleven arguments");
    let driver = next();
    let case = Case {
        name: next(),
        host: next(),
        port: next().parse().expect("a port"),
        user: next(),
        password: next(),
        database: next(),
        tls: next(),
        authority: next().into(),
        certificate: next().into(),
        key: next().into(),
    };
    match driver.as_str() {
        "tokio-postgres" => stay::<postgres::Staying>(case),
        "mysql_async" => stay::<mysql::Staying>(case),
        other => panic!("no driver is called {other}"),
    }
}
