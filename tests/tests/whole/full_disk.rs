//! The disk of the journal and of the log is full from each record of a cutover on, with and without a kill: for how long
//! clients wait, and that nothing of what they were told is lost. One run of it takes minutes: `make faults` prints the table.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use rusqlite::{Connection, OpenFlags};
use tests::disk::SmallDisk;
use tests::headgate::{ADMIN_PASSWORD, signal};
use tests::mysql::{Mysql, Pair};
use tests::postgres::{Postgres, Record};
use tests::wait::{SOON, until, within};
use tests::world::{DATABASE, MIGRATION, PASSWORD, Side, USER, World};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::MissedTickBehavior;
use tokio_postgres::Client;

/// Room for the journal, its log, what is reserved, and the log file.
const DISK_KIB: u32 = 1200;
const WRITERS: u32 = 4;
/// How often each writes: a busy machine keeps up with it.
const PACE: Duration = Duration::from_millis(10);
const MAX_HOLD: Duration = Duration::from_secs(2);
/// The records of a cutover that succeeds, and the one of an undo.
const RECORDS: [&str; 7] = ["Holding", "Fencing", "CatchingUp", "Checking", "Switching", "Switched", "Undoing"];

/// A session of the application.
trait Session: Sized + Send + 'static {
    fn open(port: u16) -> impl Future<Output = Option<Self>> + Send;
    fn write(&mut self, value: &str) -> impl Future<Output = bool> + Send;
    /// Runs a statement in a console of its own.
    fn command(port: u16, statement: String) -> impl Future<Output = bool> + Send;
}

impl Session for Client {
    async fn open(port: u16) -> Option<Self> {
        let session = tests::postgres::try_connect(port, "postgres", None, DATABASE).await;
        session.ok()
    }

    async fn write(&mut self, value: &str) -> bool {
        let insert = format!("INSERT INTO t (v) VALUES ('{value}')");
        self.simple_query(&insert).await.is_ok()
    }

    async fn command(port: u16, statement: String) -> bool {
        let console = tests::postgres::connect(port, "headgate", Some(ADMIN_PASSWORD), "headgate");
        console.await.simple_query(&statement).await.is_ok()
    }
}

impl Session for Conn {
    async fn open(port: u16) -> Option<Self> {
        let session = tests::mysql::try_connect(port, USER, Some(PASSWORD), DATABASE).await;
        session.ok()
    }

    async fn write(&mut self, value: &str) -> bool {
        let insert = format!("INSERT INTO t (v) VALUES ('{value}')");
        self.query_drop(insert).await.is_ok()
    }

    async fn command(port: u16, statement: String) -> bool {
        let console = tests::mysql::connect(port, "headgate", Some(ADMIN_PASSWORD), "headgate");
        console.await.query_drop(statement).await.is_ok()
    }
}

/// What a writer was told of one row, and when.
struct Reported {
    value: String,
    written: bool,
    at: Instant,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: `make faults` runs it"]
async fn a_disk_that_is_full_from_any_record_of_a_cutover_on_loses_nothing_on_postgresql() {
    let schema = "create table t (id bigserial primary key, v text)";
    for kill in [false, true] {
        for record in RECORDS {
            let Some((world, disk)) = World::start_on_small_disk(schema, DISK_KIB).await else {
                return;
            };
            round::<Client, Postgres>("PostgreSQL 14 to 18", world, &disk, record, kill).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: `make faults` runs it"]
async fn a_disk_that_is_full_from_any_record_of_a_cutover_on_loses_nothing_on_mysql() {
    let schema = "CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(40)) ENGINE = InnoDB";
    for (name, pair) in [("MySQL 9.7", Pair::Mysql97to97), ("MariaDB 10.11", Pair::Mariadb1011to1011)] {
        for kill in [false, true] {
            for record in RECORDS {
                let Some((world, disk)) = World::of_small_disk(pair, schema, DISK_KIB).await else {
                    return;
                };
                round::<Conn, Mysql>(name, world, &disk, record, kill).await;
            }
        }
    }
}

/// One cutover with the disk full from this record on.
async fn round<C: Session, S: Side>(
    name: &str,
    mut world: World<S>,
    disk: &SmallDisk,
    record: &'static str,
    kill: bool,
) {
    world.follow().await;
    world.check().await;
    let port = world.headgate.port();
    let stop = Arc::new(AtomicBool::new(false));
    let (telling, mut reported) = channel::<Reported>(100_000);
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let (stop, telling) = (Arc::clone(&stop), telling.clone());
            tokio::spawn(async move {
                let mut session = None;
                let mut count = 0_u32;
                let mut pace = tokio::time::interval(PACE);
                pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while !stop.load(Ordering::Relaxed) {
                    let Some(mut open) = session.take() else {
                        session = C::open(port).await;
                        continue;
                    };
                    pace.tick().await;
                    count += 1;
                    let value = format!("{number}-{count}");
                    let written = C::write(&mut open, &value).await;
                    if written {
                        session = Some(open);
                    }
                    let at = Instant::now();
                    let one = Reported { value, written, at };
                    telling.send(one).await.expect("somebody listens");
                }
            })
        })
        .collect();
    drop(telling);
    let mut seen: Vec<Reported> = Vec::new();
    wait_for_all(&mut reported, &mut seen, Instant::now()).await;

    let statement = if record == "Undoing" {
        "REHEARSE MIGRATION m".to_owned()
    } else {
        format!("CUTOVER MIGRATION m WITH (max_hold = '{} s')", MAX_HOLD.as_secs())
    };
    let journal = world.headgate.folder().join("journal/journal.sqlite");
    let pid = world.headgate.pid();
    let catcher = tokio::task::spawn_blocking(move || caught_at(journal, record, pid));
    // What it answers is told by what follows; where the program is killed it is an error.
    let asking = tokio::spawn(C::command(port, statement));
    let caught = within("the record", MIGRATION, catcher).await.expect("the catcher does not panic");
    disk.fill();
    let begun = Instant::now();
    if kill {
        world.headgate.kill().await;
        world.headgate.launch().await;
    } else {
        signal(pid, "CONT").await;
    }
    wait_for_all(&mut reported, &mut seen, begun).await;
    let served = seen_by_all(&seen, begun).expect("all were served") - begun;
    disk.free();
    let _answer = within("the statement ends", MIGRATION, asking).await;
    let settled = |row: &Record| row.get("state").is_some_and(|state| state == "following" || state == "switched");
    let ask = || world.row("SHOW MIGRATION STATUS m");
    let row = until("it is settled", MIGRATION, ask, settled).await;
    let state = row.get("state").cloned().unwrap_or_default();
    stop.store(true, Ordering::Relaxed);
    while let Some(one) = within("the writers end", SOON, reported.recv()).await {
        seen.push(one);
    }
    for writer in writers {
        writer.await.expect("no writer panics");
    }
    // Everything that was acknowledged is there once, and what was not is there at most once.
    let query = "SELECT v FROM t";
    let rows = if state == "switched" {
        world.target.sql(DATABASE, query).await
    } else {
        world.source.sql(DATABASE, query).await
    };
    let there: Vec<String> = rows.into_iter().flatten().flatten().collect();
    let once: BTreeSet<&String> = there.iter().collect();
    assert_eq!(once.len(), there.len(), "a row is there twice");
    let lost: Vec<&str> =
        seen.iter().filter(|one| one.written && !once.contains(&one.value)).map(|one| one.value.as_str()).collect();
    assert_eq!(lost, Vec::<&str>::new(), "acknowledged and not there");
    let errors = seen.iter().filter(|one| !one.written).count();
    let fault = if kill { "killed" } else { "" };
    eprintln!("| {name} | {record} | {caught} | {fault} | {} ms | {errors} | {state} |", served.as_millis());
    if !kill {
        assert_eq!(errors, 0, "a client was shown an error");
    }
    let limit = MAX_HOLD + Duration::from_secs(1);
    assert!(served <= limit, "served after {served:?}");
}

/// Waits until every writer was told of a row written after this moment.
async fn wait_for_all(reported: &mut Receiver<Reported>, seen: &mut Vec<Reported>, after: Instant) {
    let waiting = async {
        while seen_by_all(seen, after).is_none() {
            seen.push(reported.recv().await.expect("the writers go on"));
        }
    };
    within("every client is served", SOON, waiting).await;
}

/// When the last of the writers had its first row written after this moment.
fn seen_by_all(seen: &[Reported], after: Instant) -> Option<Instant> {
    (0..WRITERS)
        .map(|number| {
            let prefix = format!("{number}-");
            let mut of_it = seen.iter().filter(|one| one.written && one.at > after && one.value.starts_with(&prefix));
            of_it.next().map(|one| one.at)
        })
        .collect::<Option<Vec<_>>>()
        .and_then(|firsts| firsts.into_iter().max())
}

/// Stops the process as soon as its journal has this record of a cutover, and returns the last one that it has then.
fn caught_at(journal: PathBuf, record: &str, pid: u32) -> String {
    let mut stopper = Stopper::of(pid);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(journal, flags).expect("the journal is there");
    connection.busy_timeout(Duration::from_secs(1)).expect("it can be set");
    let last = |only: &str| -> Option<String> {
        let query = format!("SELECT state FROM steps WHERE {only} ORDER BY id DESC LIMIT 1");
        let mut statement = connection.prepare_cached(&query).ok()?;
        statement.query_row([], |row| row.get(0)).ok()
    };
    let wanted = format!("state = '{record}'");
    let give_up = Instant::now() + MIGRATION;
    while last(&wanted).is_none() {
        assert!(Instant::now() < give_up, "{record} never came");
        std::thread::yield_now();
    }
    stopper.stop();
    last("true").unwrap_or_default()
}

/// A shell that waits to stop a process: a signal is sent at once then.
struct Stopper(Child);

impl Stopper {
    fn of(pid: u32) -> Self {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("read line; kill -STOP {pid}; echo done")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Self(shell.spawn().expect("there is a shell"))
    }

    fn stop(&mut self) {
        let mut input = self.0.stdin.take().expect("it is piped");
        input.write_all(b"\n").expect("the shell waits");
        let ended = self.0.wait().expect("the shell ends");
        assert!(ended.success());
    }
}
