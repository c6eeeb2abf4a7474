//! Real drivers and clients: the same script reads the same directly and through Headgate, with a cutover in its middle; and
//! they stay connected, over TLS, while their database moves and comes back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tests::certificates::Authority;
use tests::headgate::ADMIN_PASSWORD;
use tests::mysql::disposable::{Kind, find};
use tests::mysql::{Login, Mysql, Pair, node, python};
use tests::staying::{self, Script, UNHURRIED, there_and_back};
use tests::wait::within;
use tests::world::{DATABASE, PASSWORD, USER, World, numbers};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::tls::world;

/// A script takes some seconds, most of them for a statement that is ended by another session.
const TIMEOUT: Duration = Duration::from_mins(2);

fn scripts() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("drivers")
}

/// The rows for LOCAL INFILE, in a file that is removed with this value.
struct Rows(PathBuf);

impl Rows {
    fn new() -> Self {
        let name = format!("headgate-drivers-{}-{}.tsv", std::process::id(), rand::random::<u32>());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, "1\teins\n2\tzwei\n3\tdrei\n").expect("a temporary file");
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        // A file that stays behind harms nobody.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What a driver is started with, besides the script.
#[derive(Clone, Copy)]
enum Driver {
    Rust,
    Python(&'static str),
    Node,
    Client(&'static str),
}

/// How a command-line client hears of a statement: by lines; it answers each before it reads the next.
struct Half {
    first: String,
    second: String,
}

impl Driver {
    fn command(self, port: u16, file: &Path) -> Command {
        let login = ["127.0.0.1", &port.to_string(), USER, PASSWORD, DATABASE];
        match self {
            Self::Rust => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_driver"));
                command.args(login).arg(file);
                command
            }
            Self::Python(name) => {
                let mut command = python();
                command.arg(scripts().join("dbapi.py")).arg(name);
                command.args(login).arg(file);
                command.env("PYTHONWARNINGS", "ignore");
                command
            }
            Self::Node => {
                let mut command = node();
                command.arg(scripts().join("mysql2.mjs"));
                command.args(login).arg(file);
                command
            }
            Self::Client(name) => {
                let login = Login { port, user: USER, password: PASSWORD, database: DATABASE };
                let options = ["--local-infile=1", "--batch", "--unbuffered"];
                if name == "mariadb" { login.mariadb(&options) } else { login.mysql(&options) }
            }
        }
    }

    /// What is written to it before and after the pause.
    fn words(self, file: &Path) -> Half {
        if !matches!(self, Self::Client(_)) {
            return Half { first: String::new(), second: "go on\n".to_owned() };
        }
        let script = std::fs::read_to_string(scripts().join("cli.sql")).expect("it is there");
        let script = script.replace("FILE'", &format!("{}'", file.display()));
        let (first, second) = script.split_once("SELECT 'PAUSE';\n").expect("the script pauses");
        Half { first: format!("{first}SELECT 'PAUSE';\n"), second: second.to_owned() }
    }
}

/// Runs a script to its end, with something in the middle of it, and returns what it told.
async fn run(driver: Driver, port: u16, middle: impl Future<Output = ()>) -> String {
    let rows = Rows::new();
    let Half { first, second } = driver.words(rows.path());
    let mut command = driver.command(port, rows.path());
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true);
    let mut process = command.spawn().expect("tests/servers/fetch brings it");
    let mut words = process.stdin.take().expect("piped");
    let mut reported = BufReader::new(process.stdout.take().expect("piped"));
    let mut errors = process.stderr.take().expect("piped");
    words.write_all(first.as_bytes()).await.expect("it reads");
    let mut text = String::new();
    let until_pause = async {
        // The heading of the client's last answer is the same word as its row.
        let pauses = if matches!(driver, Driver::Client(_)) { 2 } else { 1 };
        let mut seen = 0;
        while seen < pauses {
            let mut line = String::new();
            if reported.read_line(&mut line).await.expect("UTF-8") == 0 {
                break;
            }
            seen += usize::from(line == "PAUSE\n");
            text.push_str(&line);
        }
    };
    within("the script pauses", TIMEOUT, until_pause).await;
    if text.ends_with("PAUSE\n") {
        middle.await;
        words.write_all(second.as_bytes()).await.expect("it reads");
    }
    drop(words);
    let to_the_end = async {
        reported.read_to_string(&mut text).await.expect("UTF-8");
        errors.read_to_string(&mut text).await.expect("UTF-8");
        process.wait().await.expect("it ran")
    };
    let ended = within("the script ends", TIMEOUT, to_the_end).await;
    assert!(ended.success(), "{text}");
    text
}

async fn make(server: &Mysql) {
    let schema = std::fs::read_to_string(scripts().join("schema.sql")).expect("it is there");
    let mut session = server.connect(DATABASE).await;
    // One statement a line: a procedure's body holds semicolons of its own.
    for statement in schema.lines() {
        tests::mysql::rows(&mut session, statement).await;
    }
}

async fn reads_the_same(driver: Driver) {
    let world = World::of(Pair::Mysql97to97, "").await;
    // Directly, on a server of its own: the counters must stand alike.
    let alone = Mysql::start(Pair::Mysql97to97.kinds().0).await;
    alone.make_database(DATABASE).await;
    alone.make_account(USER, PASSWORD, DATABASE).await;
    tokio::join!(make(&alone), make(&world.source));
    let direct = run(driver, alone.port(), async {}).await;
    world.headgate.admin("CREATE MIGRATION m FROM blue TO green FOR ROUTE shop WITH (counter_gap = 0)").await;
    world.headgate.admin("START MIGRATION m").await;
    world.until_state("following", tests::world::MIGRATION).await;
    let cutover = async {
        world.check().await;
        // Without a way back: three of the rows would come to the source otherwise.
        let report = world.row("CUTOVER MIGRATION m WITH (max_hold = '10s', way_back = 'none')").await;
        assert_eq!(report.get("outcome").map(String::as_str), Some("switched"), "{report:?}");
    };
    let through = Box::pin(run(driver, world.headgate.port(), cutover)).await;
    assert_eq!(direct, through, "{}", world.headgate.log());
    assert!(!ADMIN_PASSWORD.is_empty() && !world.headgate.log().contains(PASSWORD));
    // Three rows before the switch, and three that only the target can have.
    let loaded = "SELECT COUNT(*) FROM drv_loaded";
    let [old, new] = [&world.source, &world.target].map(|side| side.value(DATABASE, loaded));
    assert_eq!((old.await, new.await), ("3".to_owned(), "6".to_owned()));
}

#[tokio::test]
async fn mysql_async_reads_the_same_with_a_cutover_in_the_middle() {
    reads_the_same(Driver::Rust).await;
}

#[tokio::test]
async fn pymysql_reads_the_same_with_a_cutover_in_the_middle() {
    reads_the_same(Driver::Python("pymysql")).await;
}

#[tokio::test]
async fn mysql_connector_reads_the_same_with_a_cutover_in_the_middle() {
    reads_the_same(Driver::Python("connector")).await;
}

#[tokio::test]
async fn mysqlclient_reads_the_same_with_a_cutover_in_the_middle() {
    reads_the_same(Driver::Python("mysqlclient")).await;
}

#[tokio::test]
async fn mysql2_of_node_reads_the_same_with_a_cutover_in_the_middle() {
    reads_the_same(Driver::Node).await;
}

#[tokio::test]
async fn the_client_of_mysql_reads_the_same_with_a_cutover_in_the_middle() {
    reads_the_same(Driver::Client("mysql")).await;
}

#[tokio::test]
async fn the_client_of_mariadb_reads_the_same_with_a_cutover_in_the_middle() {
    reads_the_same(Driver::Client("mariadb")).await;
}

/// The rows of each driver that are as they were written, and all of them.
const COUNTED: &str = "SELECT driver, SUM(amount = number * 1.25 AND ratio = number / 4 AND even = (number % 2 = 0)
        AND body = UNHEX(LPAD(HEX(number), 8, '0')) AND note = CONCAT('zwölf ', number)
        AND moment = TIMESTAMP('2024-02-29 12:00:00') + INTERVAL number SECOND AND absent IS NULL), COUNT(*)
    FROM taken GROUP BY driver ORDER BY driver";

/// An account whose server must have the password itself, or a signature that only who knows it can make.
const OTHER: &str = "app_other";

/// What the drivers that stay work with.
async fn application(source: &Mysql, kind: Kind) {
    source.make_account(USER, PASSWORD, DATABASE).await;
    source.make_account(OTHER, "", DATABASE).await;
    let other = match kind {
        Kind::Mysql56 | Kind::Mysql97 => format!("ALTER USER {OTHER} IDENTIFIED WITH sha256_password BY '{PASSWORD}'"),
        Kind::Mariadb1011 => format!("ALTER USER {OTHER} IDENTIFIED VIA ed25519 USING PASSWORD('{PASSWORD}')"),
    };
    source.sql("", &other).await;
    let schema = format!(
        "CREATE TABLE taken (driver VARCHAR(60) CHARACTER SET ascii COLLATE ascii_bin, session INT, number INT,
            amount DECIMAL(20, 2), ratio DOUBLE, even BOOLEAN, body VARBINARY(20), note VARCHAR(60) CHARACTER SET utf8mb4,
            moment DATETIME, absent TEXT, PRIMARY KEY (driver, session, number)) ENGINE = InnoDB;
         CREATE TABLE many (id INT PRIMARY KEY, body TEXT) ENGINE = InnoDB;
         INSERT INTO many SELECT n, REPEAT('0123456789abcdef', 8) FROM {} WHERE n <= 500",
        numbers(3)
    );
    source.sql(DATABASE, &schema).await;
}

/// Moves a database there and back under all drivers, with accounts as the server makes them by itself (of
/// `caching_sha2_password` in MySQL, and of `mysql_native_password` in MariaDB), and with [`OTHER`].
async fn no_driver_notices(kind: Kind) {
    let authority = Authority::new();
    let world = world(kind, &authority, "tls = \"allow\"\n", UNHURRIED).await;
    if kind == Kind::Mariadb1011 {
        for server in [&world.source, &world.target] {
            server.sql("", "INSTALL SONAME 'auth_ed25519'").await;
        }
    }
    application(&world.source, kind).await;
    let client = |kind: Kind, name| {
        let binaries = find(kind).unwrap_or_else(|error| panic!("{error}"));
        Script::Python("staying_client.py", Some(binaries.program(name)))
    };
    let drivers = [
        ("PyMySQL", Script::Python("staying_pymysql.py", None)),
        ("mysql2", Script::Node("staying_mysql2.mjs")),
        ("Connector/J", Script::Jdbc("mariadb")),
        ("mysql", client(Kind::Mysql97, "mysql")),
        ("mariadb", client(Kind::Mariadb1011, "mariadb")),
        ("mysql_async", Script::Rust(env!("CARGO_BIN_EXE_staying"), "mysql_async")),
    ];
    let (ca, none) = (authority.file(), Path::new(""));
    let mut logins = Vec::new();
    for (driver, script) in &drivers {
        for (tls, user) in [("verify-full", USER), ("require", USER), ("disable", USER), ("verify-full", OTHER)] {
            let (script, files) = (script.clone(), [&ca, none, none]);
            logins.push(staying::Login { driver, script, tls, user, password: PASSWORD, files });
        }
    }
    there_and_back(&world, &logins, COUNTED).await;
    let configured = std::fs::read_to_string(world.headgate.folder().join("headgate.toml")).expect("it is there");
    assert!(!configured.contains(PASSWORD) && !world.headgate.log().contains(PASSWORD));
}

#[tokio::test]
async fn no_driver_notices_a_move_there_and_back_whatever_its_encryption_and_its_account() {
    for kind in [Kind::Mysql97, Kind::Mariadb1011] {
        no_driver_notices(kind).await;
    }
}
