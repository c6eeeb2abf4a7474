//! A client cannot tell Headgate from the server: the same packets in give the same packets out.

use tests::fault::{Fault, Relay};
use tests::headgate::Headgate;
use tests::mysql::Mysql;
use tests::mysql::disposable::Kind;
use tests::mysql::raw::{
    CAPABILITIES, CLOSE, DEPRECATE_EOF, EXECUTE, FETCH, FIELD_LIST, INIT_DB, LOCAL_FILES, LONG_DATA, MULTI_RESULTS,
    MULTI_STATEMENTS, PACKET_BYTES_MAX, PING, PREPARE, PROCESS_KILL, PS_MULTI_RESULTS, Packet, QUERY, QUERY_ATTRIBUTES,
    QUIT, RESET, RESET_CONNECTION, Raw, SESSION_TRACK, SET_OPTION, STATISTICS, command, packet,
};
use tests::wait::{SOON, within};
use tests::world::mysql_route_to;

const DATABASE: &str = "scripts";

/// What a client says in one go.
enum Step {
    /// Commands, all of whose answers are waited for.
    Say(Vec<u8>),
    /// Commands whose answers differ from one moment to the next; only their beginnings are compared.
    Varying(Vec<u8>),
    /// The last bytes: the server answers and closes. Nothing may follow them, because a server that closes with
    /// something unread resets the connection, and a reset takes its last words along.
    Last(Vec<u8>),
    /// A statement that asks for a file, and the packets of it.
    File(Vec<u8>, Vec<&'static [u8]>),
}

use Step::{File, Last, Say, Varying};

struct Script {
    name: &'static str,
    steps: Vec<Step>,
}

/// A parameter: the number of its type, and its value as it is sent; `None` for NULL.
type Parameter = (u16, Option<Vec<u8>>);

const LONG: u16 = 3;
const DOUBLE: u16 = 5;
const DATETIME: u16 = 12;
const BLOB: u16 = 252;
const STRING: u16 = 253;

fn text(value: &str) -> Parameter {
    let length = u8::try_from(value.len()).expect("a short text");
    (STRING, Some([&[length], value.as_bytes()].concat()))
}

fn number(value: i32) -> Parameter {
    (LONG, Some(value.to_le_bytes().to_vec()))
}

/// What scripts call the statement that they prepared first, and those behind it: servers count as they like.
const S1: u32 = 0x5e5e_5e01;
const S2: u32 = S1 + 1;
const S3: u32 = S1 + 2;

/// A client that agreed on these capabilities.
#[derive(Clone, Copy)]
struct Frames(u32);

impl Frames {
    fn has_attributes(self) -> bool {
        self.0 & QUERY_ATTRIBUTES != 0
    }

    fn query(self, sql: &str) -> Vec<u8> {
        let none: &[u8] = if self.has_attributes() { &[0, 1] } else { &[] };
        command(QUERY, &[none, sql.as_bytes()].concat())
    }

    fn queries(self, all: &[&str]) -> Vec<u8> {
        all.iter().flat_map(|sql| self.query(sql)).collect()
    }

    /// A query with one attribute, where there are any.
    fn query_with_attribute(self, sql: &str) -> Vec<u8> {
        if !self.has_attributes() {
            return self.query(sql);
        }
        let attribute = b"\x01\x01\x00\x01\xfd\x00\x04name\x05value";
        command(QUERY, &[attribute, sql.as_bytes()].concat())
    }

    fn execute(self, statement: u32, flags: u8, parameters: &[Parameter]) -> Vec<u8> {
        let mut body = statement.to_le_bytes().to_vec();
        body.push(flags);
        body.extend_from_slice(&1_u32.to_le_bytes());
        if parameters.is_empty() {
            return command(EXECUTE, &body);
        }
        if self.has_attributes() {
            body.push(u8::try_from(parameters.len()).expect("few parameters"));
        }
        let mut nulls = vec![0_u8; parameters.len().div_ceil(8)];
        for (at, (_, value)) in parameters.iter().enumerate() {
            nulls[at / 8] |= u8::from(value.is_none()) << (at % 8);
        }
        body.extend_from_slice(&nulls);
        body.push(1);
        for (kind, _) in parameters {
            body.extend_from_slice(&kind.to_le_bytes());
            if self.has_attributes() {
                body.push(0);
            }
        }
        for value in parameters.iter().filter_map(|(_, value)| value.as_ref()) {
            body.extend_from_slice(value);
        }
        command(EXECUTE, &body)
    }
}

fn prepare(sql: &str) -> Vec<u8> {
    command(PREPARE, sql.as_bytes())
}

/// A command that names a statement, and a number where it takes one.
fn about(code: u8, statement: u32, rest: &[u8]) -> Vec<u8> {
    command(code, &[&statement.to_le_bytes(), rest].concat())
}

fn fetch(statement: u32, rows: u32) -> Vec<u8> {
    about(FETCH, statement, &rows.to_le_bytes())
}

/// A piece of a parameter.
fn piece(statement: u32, parameter: u16, bytes: &[u8]) -> Vec<u8> {
    about(LONG_DATA, statement, &[&parameter.to_le_bytes(), bytes].concat())
}

fn init_db(name: &str) -> Vec<u8> {
    command(INIT_DB, name.as_bytes())
}

const SCHEMA: [&str; 7] = [
    "CREATE TABLE every (
        a TINYINT, b SMALLINT UNSIGNED, c MEDIUMINT, d INT NOT NULL PRIMARY KEY, e BIGINT UNSIGNED, f DECIMAL(20,5),
        g FLOAT, h DOUBLE, i BIT(10), j DATE, k DATETIME, l DATETIME(6), m TIMESTAMP(3) NULL, n TIME(2), o YEAR,
        p CHAR(9), q VARCHAR(300) CHARACTER SET latin1, r BINARY(4), s VARBINARY(300), t TINYBLOB, u TEXT,
        v MEDIUMBLOB, w LONGTEXT, x ENUM('one', 'two'), y SET('a', 'b', 'c'), z POINT) ENGINE = InnoDB",
    "INSERT INTO every VALUES
        (-128, 65535, -8388608, 1, 18446744073709551615, -123456789.12345, 1.5, -2.25e300, b'1010101010', '2024-02-29',
         '2024-02-29 23:59:59', '2024-02-29 23:59:59.123456', '2024-02-29 12:00:00.125', '-838:59:58.99', 2155, 'nine',
         REPEAT('q', 300), 'r', X'00FF', X'FE', REPEAT('u', 255), REPEAT(X'FB', 70000), 'é', 'two', 'a,c',
         POINT(1, 2)),
        (0, 0, 0, 2, 0, 0, 0, 0, b'0', '1000-01-01', '1000-01-01 00:00:00', '1000-01-01 00:00:00', NULL, '00:00:00', 1901,
         '', '', '', '', '', '', '', '', 'one', '', NULL),
        (NULL, NULL, NULL, 3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
         NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    "CREATE TABLE pairs (a INT PRIMARY KEY, b VARCHAR(20)) ENGINE = InnoDB",
    "CREATE PROCEDURE several() BEGIN
        SELECT 1 AS one; UPDATE pairs SET b = 'x' WHERE a < 0; SELECT * FROM every WHERE d = 3; SELECT 'last', 2; END",
    "CREATE PROCEDURE breaks() BEGIN SELECT 1; START TRANSACTION; SELECT * FROM no_such_table; END",
    "CREATE PROCEDURE gives(IN a INT, OUT b INT) BEGIN SELECT a; SET b = a + 1; END",
    "CREATE FUNCTION doubled(a INT) RETURNS INT DETERMINISTIC RETURN a * 2",
];

fn scripts(speech: Frames) -> Vec<Script> {
    let one = |sql: &str| Say(speech.query(sql));
    let all = |parts: &[Vec<u8>]| Say(parts.concat());
    let long = "x".repeat(3_000_000);
    let script = |name, steps| Script { name, steps };
    vec![
        script(
            "statements in one text, with an error between",
            vec![one("SELECT 1; SELECT nonsense; SELECT 2"), one("SELECT 1; DO 1; SELECT 2 WHERE 1 = 0; SELECT 3")],
        ),
        script("an empty text", vec![one(""), one(" ; "), one("-- nothing"), Say(command(QUERY, &[]))]),
        script(
            "a transaction that fails and ends",
            vec![
                one("BEGIN"),
                one("SELECT nonsense"),
                one("SELECT 1"),
                one("ROLLBACK"),
                one("SET autocommit = 0"),
                one("SELECT 1 FROM pairs"),
                one("COMMIT AND CHAIN"),
                Last(speech.query("COMMIT RELEASE")),
            ],
        ),
        script(
            "warnings",
            vec![Say(speech.queries(&[
                "SELECT 1/0, CAST('12x' AS SIGNED)",
                "SHOW WARNINGS",
                "SELECT @@warning_count",
                "DROP TABLE IF EXISTS never_was",
                "SHOW COUNT(*) WARNINGS",
            ]))],
        ),
        script(
            "every type as text",
            vec![
                one("SELECT * FROM every ORDER BY d"),
                one("SELECT * FROM every WHERE d = 77"),
                one("SELECT NULL, TRUE, 1.50, 'é', X'FF', DATE'2024-02-29', COUNT(*), doubled(21) FROM every"),
            ],
        ),
        script(
            "every type as binary",
            vec![
                Say(prepare("SELECT * FROM every ORDER BY d")),
                Say(speech.execute(S1, 0, &[])),
                Say(prepare("SELECT * FROM every WHERE d = ?")),
                Say(speech.execute(S2, 0, &[number(77)])),
            ],
        ),
        script(
            "what changes rows, and what the server tells of it",
            vec![
                one("CREATE TEMPORARY TABLE t (a INT PRIMARY KEY AUTO_INCREMENT, b INT UNIQUE) ENGINE = InnoDB"),
                one("INSERT INTO t (b) VALUES (1), (2), (3)"),
                one("INSERT IGNORE INTO t (b) VALUES (1), (4)"),
                one("INSERT INTO t (b) VALUES (4) ON DUPLICATE KEY UPDATE b = 5"),
                one("UPDATE t SET b = b + 10 WHERE a < 3"),
                one("UPDATE t SET b = b"),
                one("DELETE FROM t WHERE a = 1"),
                Say(speech.queries(&["SELECT LAST_INSERT_ID()", "SELECT ROW_COUNT()"])),
                one("ALTER TABLE t ADD c INT"),
                one("INSERT INTO t (b) VALUES (3)"),
            ],
        ),
        script(
            "a prepared statement and its parameters",
            vec![
                Say(prepare("SELECT ? + 1 AS n, ?, ?, ?")),
                Say(speech.execute(
                    S1,
                    0,
                    &[number(41), text("é"), (STRING, None), (DOUBLE, Some(1.5_f64.to_le_bytes().to_vec()))],
                )),
                Say(speech.execute(
                    S1,
                    0,
                    &[
                        number(-1),
                        (DATETIME, Some(vec![11, 0xe8, 7, 2, 29, 23, 59, 58, 1, 0, 0, 0])),
                        text(""),
                        number(0),
                    ],
                )),
                all(&[about(CLOSE, S1, &[]), command(PING, &[])]),
                Say(prepare("INSERT INTO no_such_table VALUES (?)")),
            ],
        ),
        script(
            "parameters in pieces",
            vec![
                Say(prepare("SELECT LENGTH(?), MD5(?), CAST(? AS CHAR CHARACTER SET binary)")),
                all(&[
                    piece(S1, 0, &[b'x'; 100_000]),
                    piece(S1, 0, b"more"),
                    piece(S1, 2, b"whole"),
                    speech.execute(S1, 0, &[(BLOB, Some(vec![])), text("second"), (BLOB, Some(vec![]))]),
                ]),
                all(&[
                    piece(S1, 0, b"forgotten"),
                    about(RESET, S1, &[]),
                    piece(S1, 0, b""),
                    piece(S1, 2, b"yes"),
                    speech.execute(S1, 0, &[(BLOB, Some(vec![])), text("second"), (BLOB, Some(vec![]))]),
                ]),
            ],
        ),
        script(
            "a cursor",
            vec![
                Say(prepare("SELECT d, q FROM every ORDER BY d")),
                Say(speech.execute(S1, 1, &[])),
                Say(fetch(S1, 2)),
                all(&[speech.query("SELECT 'between'"), fetch(S1, 1)]),
                Say(fetch(S1, 1)),
                Say(fetch(S1, 1)),
                Say(speech.execute(S1, 1, &[])),
                all(&[about(RESET, S1, &[]), fetch(S1, 1)]),
                all(&[speech.execute(S1, 1, &[]), fetch(S1, 1), about(CLOSE, S1, &[])]),
                Say(prepare("SELECT d FROM every WHERE d = 77")),
                all(&[speech.execute(S2, 1, &[]), fetch(S2, 10)]),
                Say(prepare("UPDATE pairs SET b = '' WHERE a = -1")),
                Say(speech.execute(S3, 1, &[])),
            ],
        ),
        script(
            "statements that do not exist",
            vec![
                Say(fetch(77, 1)),
                Say(about(RESET, 77, &[])),
                all(&[about(CLOSE, 77, &[]), piece(77, 0, b"x")]),
                Say(speech.query("SELECT 1")),
            ],
        ),
        script(
            "a procedure of several results",
            vec![
                one("CALL several()"),
                one("CALL several(); SELECT 'behind'; CALL several()"),
                one("CALL breaks()"),
                one("ROLLBACK"),
                one("CALL no_such_procedure()"),
                Say(prepare("CALL gives(?, @b)")),
                all(&[speech.execute(S1, 0, &[number(7)]), speech.query("SELECT @b")]),
                Say(prepare("CALL gives(?, ?)")),
                Say(speech.execute(S2, 0, &[number(7), number(0)])),
            ],
        ),
        script(
            "the fields of a table",
            vec![
                Say(command(FIELD_LIST, b"every\0")),
                Say(command(FIELD_LIST, b"every\0%i%")),
                Say(command(FIELD_LIST, b"no_such_table\0")),
                Say(command(FIELD_LIST, b"no zero")),
            ],
        ),
        script("a line about the server", vec![Varying(command(STATISTICS, &[]))]),
        script(
            "several statements in one text turned off and on",
            vec![
                Say(command(SET_OPTION, &[1, 0])),
                one("SELECT 1; SELECT 2"),
                Say(command(SET_OPTION, &[0, 0])),
                one("SELECT 1; SELECT 2"),
                Say(command(SET_OPTION, &[7, 7])),
            ],
        ),
        script(
            "a session made new",
            vec![
                one("SET @a = 1, sql_mode = 'ANSI'"),
                Say(prepare("SELECT @a")),
                Say(command(RESET_CONNECTION, &[])),
                Say(speech.queries(&["SELECT @a", "SELECT @@sql_mode = 'ANSI'"])),
                Say(fetch(S1, 1)),
                Say(prepare("SELECT @a")),
            ],
        ),
        script(
            "another database",
            vec![
                Say(init_db("mysql")),
                Say(init_db("no_such_database")),
                Say(init_db("")),
                one("SELECT DATABASE()"),
                one("USE scripts"),
                one("SELECT DATABASE()"),
                Say(command(5, b"made_by_command")),
                Say(command(6, b"made_by_command")),
            ],
        ),
        script("a ping", vec![Say(command(PING, &[]).repeat(3))]),
        script(
            "a file of the client's",
            vec![
                one("DELETE FROM pairs"),
                File(
                    speech.query("LOAD DATA LOCAL INFILE 'any' INTO TABLE pairs"),
                    vec![b"1\tone\n2\tt", b"wo\n", b""],
                ),
                File(
                    speech.query("LOAD DATA LOCAL INFILE 'any' INTO TABLE pairs; SELECT 'behind'"),
                    vec![b"2\ttwice\n3\tthree\textra\n", b""],
                ),
                File(speech.query("LOAD DATA LOCAL INFILE 'none' INTO TABLE pairs"), vec![b""]),
                File(speech.query("LOAD DATA LOCAL INFILE 'any' INTO TABLE no_such_table"), vec![b"1\n", b""]),
                one("SELECT * FROM pairs ORDER BY a"),
                one("DELETE FROM pairs"),
            ],
        ),
        script(
            "commands in a pipeline, with errors between",
            vec![
                all(&[
                    speech.queries(&["SELECT 1", "SELEC", "SELECT 1; SELECT 2"]),
                    command(PING, &[]),
                    speech.query("CALL several()"),
                    init_db(DATABASE),
                ]),
                all(&[speech.queries(&[
                    "BEGIN",
                    "INSERT INTO pairs VALUES (9, 'nine')",
                    "ROLLBACK",
                    "SELECT COUNT(*) FROM pairs",
                ])]),
            ],
        ),
        script(
            "what the session tells of its changes",
            vec![
                one("SET session_track_schema = 1, session_track_state_change = 1"),
                one("SET session_track_system_variables = '*'"),
                one("SET session_track_transaction_info = 'CHARACTERISTICS'"),
                one("SET NAMES latin1"),
                one("USE mysql"),
                one("SET sql_mode = '', @a = 1"),
                one("START TRANSACTION READ ONLY"),
                one("SELECT COUNT(*) FROM scripts.pairs"),
                one("COMMIT"),
                one("SET autocommit = 0; SELECT 1"),
                one("CREATE TEMPORARY TABLE scripts.t (a INT)"),
                one("SET NAMES utf8mb4; USE scripts; SELECT nonsense"),
            ],
        ),
        script(
            "state that only the server has",
            vec![
                one("SET @a := 1, @b := 'b'"),
                one("PREPARE p FROM 'SELECT ?, @a'; EXECUTE p USING @b; DEALLOCATE PREPARE p"),
                one("HANDLER every OPEN"),
                one("HANDLER every READ FIRST"),
                one("HANDLER every CLOSE"),
                one("SELECT GET_LOCK('script', 0)"),
                one("SELECT RELEASE_LOCK('script')"),
                one("LOCK TABLES pairs READ"),
                one("INSERT INTO pairs VALUES (1, '')"),
                one("UNLOCK TABLES"),
                one("SAVEPOINT s"),
                one("KILL 999999999"),
                Say(command(PROCESS_KILL, &999_999_999_u32.to_le_bytes())),
            ],
        ),
        script(
            "attributes of statements",
            vec![Say(speech.query_with_attribute("SELECT 1; SELECT 2")), Say(speech.query_with_attribute(""))],
        ),
        script(
            "rows of several megabytes",
            vec![one(&format!("SELECT LENGTH('{long}'), REPEAT('y', 5000000)")), one("SELECT 1")],
        ),
        script(
            "commands that are cut short",
            vec![
                Say(command(EXECUTE, &[1, 0])),
                Say(command(EXECUTE, &[])),
                Say(command(FETCH, &[1, 0, 0, 0])),
                Say(command(RESET, &[1])),
                Say(command(SET_OPTION, &[0])),
            ],
        ),
        script(
            "commands of no known kind",
            vec![
                // The warning that each leaves on the server is gone with the next statement.
                all(&[command(0x1d, &[]), speech.query("SELECT 1")]),
                all(&[command(0x00, &[]), speech.query("SELECT 1")]),
                all(&[command(0x55, b"what"), speech.query("SELECT 1")]),
            ],
        ),
        script("leaving in the middle of a pipeline", vec![all(&[prepare("SELECT 1"), command(QUIT, &[])])]),
    ]
}

const MARK: &str = "the_end_of_a_step";

/// Whether the packet answers the commands that are sent behind each step: an error that nothing else makes, and a ping
/// behind it, after which the session's state is known again.
fn marks() -> impl FnMut(&Packet) -> bool {
    let mut marked = false;
    move |packet| {
        let last = marked;
        marked |= packet.is_error() && packet.error().2.contains(MARK);
        last
    }
}

/// The statements that a session prepared, as its server calls them.
#[derive(Default)]
struct Numbers(Vec<[u8; 4]>);

impl Numbers {
    /// Puts the server's numbers in place of the script's.
    fn put(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for (ours, number) in (S1..).zip(&self.0) {
            let ours = ours.to_le_bytes();
            let mut at = 0;
            while at + 4 <= bytes.len() {
                if bytes[at..at + 4] == ours {
                    bytes[at..at + 4].copy_from_slice(number);
                }
                at += 1;
            }
        }
        bytes
    }

    /// Learns the number of a statement that was prepared, and takes it out of what the server said.
    fn take(&mut self, said: &mut Packet, prepares: bool) {
        if prepares && said.is_ok() {
            self.0.extend(said.body[1..].first_chunk());
            said.body[1..5].fill(0);
        } else if said.is_error() {
            let mut text = String::from_utf8_lossy(&said.body[3..]).into_owned();
            for number in &self.0 {
                let number = format!("({})", u32::from_le_bytes(*number));
                text = text.replace(&number, "(its own)");
            }
            said.body.truncate(3);
            said.body.extend_from_slice(text.as_bytes());
        }
    }
}

/// What MySQL tracks of a session ends with a number that counts all statements of the server.
fn without_statement_id(said: &mut Packet) {
    const NAME: &[u8] = b"\x0cstatement_id";
    let body = &mut said.body;
    if let Some(at) = body.windows(NAME.len()).position(|part| part == NAME) {
        let from = at + NAME.len();
        let digits = usize::from(body[from]);
        body[from + 1..=from + digits].fill(b'0');
    }
}

/// Runs a script and returns everything that the server said, without what must differ between any two sessions.
async fn transcript(port: u16, capabilities: u32, script: &Script, bytewise: bool) -> Vec<Packet> {
    let logging_in = Raw::login_with(port, "root", DATABASE, capabilities);
    let (mut raw, _, mut welcome) = logging_in.await;
    // How many packets a login takes is up to the plugin that it begins with.
    welcome.sequence = 0;
    let mut reported = vec![welcome];
    let mut numbers = Numbers::default();
    let mark = [init_db(MARK), command(PING, &[])].concat();
    for step in &script.steps {
        let mut answer = Vec::new();
        let mut prepares = false;
        match step {
            Say(bytes) | Varying(bytes) => {
                prepares = bytes.get(4) == Some(&PREPARE);
                let bytes = [numbers.put(bytes), mark.clone()].concat();
                answer = raw.exchange(&bytes, bytewise, marks()).await;
            }
            Last(bytes) => answer = raw.exchange(bytes, bytewise, |_| false).await,
            File(query, pieces) => {
                let first = raw.exchange(query, bytewise, |_| true).await;
                let wanted = first.iter().any(|packet| packet.body[0] == 0xfb);
                answer.extend(first);
                let mut bytes = Vec::new();
                let pieces = if wanted { pieces.as_slice() } else { &[] };
                for (at, piece) in pieces.iter().enumerate() {
                    bytes.extend(packet(u8::try_from(at + 2).expect("few"), piece));
                }
                bytes.extend_from_slice(&mark);
                answer.extend(raw.exchange(&bytes, bytewise, marks()).await);
            }
        }
        for (at, packet) in answer.iter_mut().enumerate() {
            numbers.take(packet, prepares && at == 0);
            without_statement_id(packet);
            if matches!(step, Varying(_)) {
                packet.body.truncate(1);
            }
            if packet.is_end() && packet.body.len() == 5 && capabilities & SESSION_TRACK == 0 {
                // MariaDB says here that the session has changed, of which it told nothing before.
                packet.body[4] &= !0x40;
            }
        }
        reported.extend(answer);
    }
    raw.send(&command(QUIT, &[])).await;
    let rest = raw.rest().await;
    assert!(rest.is_empty(), "{}: {} bytes that nothing asked for", script.name, rest.len());
    reported
}

async fn check(server: &Mysql, through: u16, capabilities: u32, bytewise: bool) {
    let (_, direct) = Raw::greeted(server.port()).await;
    let (_, offered) = Raw::greeted(through).await;
    let agreed = capabilities & direct.capabilities & offered.capabilities;
    // Megabytes, byte by byte, would take long and show nothing more.
    let short = |script: &Script| {
        script.steps.iter().all(|step| match step {
            Say(bytes) | Varying(bytes) | Last(bytes) | File(bytes, _) => bytes.len() < 10_000,
        })
    };
    let mut differences = Vec::new();
    for script in scripts(Frames(agreed)) {
        if bytewise && (!short(&script) || script.name == "every type as text") {
            continue;
        }
        let expected = transcript(server.port(), agreed, &script, false).await;
        let seen = transcript(through, agreed, &script, bytewise).await;
        let first = expected.iter().zip(&seen).position(|(expected, seen)| expected != seen);
        let at = first.unwrap_or(expected.len().min(seen.len()));
        if expected != seen {
            let behind = at.checked_sub(1).and_then(|at| expected.get(at));
            differences.push(format!(
                "{}: packet {at} differs, behind {}:\n  direct:  {}\n  through: {}",
                script.name,
                shown(behind),
                shown(expected.get(at)),
                shown(seen.get(at))
            ));
        }
    }
    assert!(differences.is_empty(), "with {agreed:x}:\n{}", differences.join("\n"));
}

fn shown(packet: Option<&Packet>) -> String {
    packet.map_or("nothing".to_owned(), |packet| {
        let start = &packet.body[..packet.body.len().min(300)];
        format!("{} {:?} of {} bytes", packet.sequence, String::from_utf8_lossy(start), packet.body.len())
    })
}

async fn server(kind: Kind, settings: &[(&str, &str)]) -> Mysql {
    let server = Mysql::start_with(kind, settings).await;
    server.make_database(DATABASE).await;
    let mut session = server.connect(DATABASE).await;
    for statement in SCHEMA {
        tests::mysql::rows(&mut session, statement).await;
    }
    server
}

async fn headgate(port: u16) -> Headgate {
    Headgate::start_for(tests::headgate::Engine::Mysql, &mysql_route_to(port, DATABASE)).await
}

/// All that the scripts use and every server knows.
const PLAIN: u32 = CAPABILITIES | LOCAL_FILES | PS_MULTI_RESULTS;
/// All that any of these servers knows and Headgate carries.
const FULL: u32 = PLAIN | DEPRECATE_EOF | SESSION_TRACK | QUERY_ATTRIBUTES;

async fn every_script_reads_the_same_directly_and_through_headgate(kind: Kind) {
    let mysql = server(kind, &[]).await;
    let headgate = headgate(mysql.port()).await;
    for capabilities in [
        PLAIN,
        PLAIN & !(MULTI_STATEMENTS | MULTI_RESULTS | PS_MULTI_RESULTS),
        PLAIN | DEPRECATE_EOF,
        PLAIN | SESSION_TRACK,
        FULL,
    ] {
        check(&mysql, headgate.port(), capabilities, false).await;
    }
}

async fn every_script_reads_the_same_when_every_byte_comes_alone_from_both_sides(kind: Kind) {
    let mysql = server(kind, &[]).await;
    let relay = Relay::to(mysql.port()).await;
    let headgate = headgate(relay.port()).await;
    relay.set(Fault::Bytewise);
    check(&mysql, headgate.port(), PLAIN, true).await;
    check(&mysql, headgate.port(), FULL, true).await;
}

async fn the_greeting_is_the_servers_but_for_what_headgate_does_itself(kind: Kind) {
    let mysql = server(kind, &[]).await;
    let headgate = headgate(mysql.port()).await;
    let (_, direct) = Raw::greeted(mysql.port()).await;
    let (_, through) = Raw::greeted(headgate.port()).await;
    assert_eq!(through.version, direct.version);
    assert_eq!(through.plugin, direct.plugin);
    // Compression, rows without a description, a second factor, reports of progress; and TLS, which is Headgate's own.
    let carried = !(1 << 5 | 1 << 11 | 1 << 25 | 1 << 26 | 1 << 28 | 1 << 29);
    let (direct, through) = (direct.capabilities & carried, through.capabilities & carried);
    // MariaDB's servers do not say the lowest bit, behind which 32 more of theirs would be.
    assert_eq!(format!("{:x}", through & !1), format!("{:x}", direct & !1));
}

async fn ten_thousand_queries_in_flight_are_all_answered_in_order(kind: Kind) {
    let mysql = server(kind, &[]).await;
    let headgate = headgate(mysql.port()).await;
    let (mut raw, _) = Raw::login(headgate.port(), "root", DATABASE).await;
    let queries: Vec<u8> =
        (0..10_000).flat_map(|number| command(QUERY, format!("SELECT {number}").as_bytes())).collect();
    let mut packets = 0;
    let five_each = |_: &Packet| {
        packets += 1;
        packets == 50_000
    };
    let reported = raw.exchange(&queries, false, five_each).await;
    let rows: Vec<&[u8]> = reported.chunks(5).map(|answer| &answer[3].body[1..]).collect();
    for (number, row) in rows.into_iter().enumerate() {
        assert_eq!(row, number.to_string().as_bytes());
    }
}

async fn the_server_session_ends_when_its_client_goes_away_without_a_word(kind: Kind) {
    let mysql = server(kind, &[]).await;
    let headgate = headgate(mysql.port()).await;
    let (mut raw, _) = Raw::login(headgate.port(), "root", DATABASE).await;
    raw.query("BEGIN").await;
    let id = thread_of(&mut raw).await;
    let count = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {id}");
    assert_eq!(mysql.value("", &count).await, "1");
    drop(raw);
    mysql.until_value("", &count, "0").await;
}

/// The server's own number for a session.
async fn thread_of(raw: &mut Raw) -> String {
    let answer = raw.query("SELECT CONNECTION_ID()").await;
    String::from_utf8_lossy(&answer[3].body[1..]).into_owned()
}

async fn the_servers_own_last_words_reach_the_client(kind: Kind) {
    let mut mysql = server(kind, &[]).await;
    let headgate = headgate(mysql.port()).await;
    let (mut killed, _) = Raw::login(headgate.port(), "root", DATABASE).await;
    let (mut direct, _) = Raw::login(mysql.port(), "root", DATABASE).await;
    let mut words = Vec::new();
    for raw in [&mut direct, &mut killed] {
        let id = thread_of(raw).await;
        raw.send(&command(QUERY, b"SELECT SLEEP(60)")).await;
        let busy = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {id} AND INFO = 'SELECT SLEEP(60)'"
        );
        mysql.until_value("", &busy, "1").await;
        mysql.sql("", &format!("KILL {id}")).await;
        let mut said = Vec::new();
        while let Some(packet) = raw.packet().await {
            said.push(packet);
        }
        words.push(said);
    }
    assert_eq!(words[0], words[1]);

    let (mut idle, _) = Raw::login(headgate.port(), "root", DATABASE).await;
    let (mut direct, _) = Raw::login(mysql.port(), "root", DATABASE).await;
    mysql.server.stop().await.expect("it runs");
    let words = [idle.rest().await, direct.rest().await];
    assert_eq!(words[0], words[1], "at a shutdown");
}

on_every_server!(
    every_script_reads_the_same_directly_and_through_headgate,
    every_script_reads_the_same_when_every_byte_comes_alone_from_both_sides,
    the_greeting_is_the_servers_but_for_what_headgate_does_itself,
    ten_thousand_queries_in_flight_are_all_answered_in_order,
    the_server_session_ends_when_its_client_goes_away_without_a_word,
    the_servers_own_last_words_reach_the_client,
);

#[tokio::test]
async fn a_client_that_never_reads_makes_the_server_wait_and_then_gets_everything() {
    let mysql = server(Kind::Mysql97, &[]).await;
    let headgate = headgate(mysql.port()).await;
    let (mut raw, _) = Raw::login(headgate.port(), "root", DATABASE).await;
    let thousand = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000) \
                    SELECT REPEAT('x', 20000) FROM n";
    raw.send(&command(QUERY, thousand.as_bytes()).repeat(5)).await;
    // The server waits for the client, as long as that takes.
    let waits = "SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_STATE = 'executing' \
                 AND PROCESSLIST_INFO LIKE 'WITH RECURSIVE%'";
    mysql.until_value("", waits, "1").await;
    let mut bytes = 0;
    for _ in 0..5 {
        let packets = within("rows", SOON, raw.answer()).await;
        assert_eq!(packets.len(), 1004);
        bytes += packets.iter().map(|packet| packet.body.len()).sum::<usize>();
    }
    assert!(bytes > 100_000_000, "{bytes}");
    let peak = headgate.memory_peak_kib();
    assert!(peak < 60_000, "100 MB of rows for a client that did not read took {peak} KiB of memory");
}

#[tokio::test]
async fn bodies_of_sixteen_megabytes_and_more_are_the_same_in_both_directions() {
    let mysql = server(Kind::Mysql97, &[("max-allowed-packet", "64M")]).await;
    let headgate = headgate(mysql.port()).await;
    let mut direct = Raw::login(mysql.port(), "root", DATABASE).await.0;
    let mut through = Raw::login(headgate.port(), "root", DATABASE).await.0;
    let full = PACKET_BYTES_MAX;
    let sizes = [full - 1, full, full + 1, 2 * full];
    for size in sizes {
        // The command's own byte, and what is around the text.
        let query = |size: usize| {
            let text = "x".repeat(size - 1 - "SELECT LENGTH('')".len());
            command(QUERY, format!("SELECT LENGTH('{text}')").as_bytes())
        };
        // A row is its value behind four bytes of its length, of more than 2^24 bytes behind nine.
        let ahead = if size - 4 > full { 9 } else { 4 };
        let row = command(QUERY, format!("SELECT REPEAT('y', {})", size - ahead).as_bytes());
        let mut seen = Vec::new();
        for raw in [&mut direct, &mut through] {
            let mark = [init_db(MARK), command(PING, &[])].concat();
            let bytes = [query(size), row.clone(), mark].concat();
            seen.push(raw.exchange(&bytes, false, marks()).await);
        }
        assert!(seen[0] == seen[1], "a body of {size} bytes");
        let longest = seen[0].iter().map(|packet| packet.body.len()).max();
        assert_eq!(longest, Some(size.min(full)), "the test itself");
    }
    let peak = headgate.memory_peak_kib();
    assert!(peak < 60_000, "large bodies took {peak} KiB of memory");
}
