//! What an application does with `mysql_async`, told line by line, with one pause in the middle; see
//! `tests/drivers/dbapi.py`: `driver HOST PORT USER PASSWORD DATABASE FILE`.

use std::io::{BufRead as _, Write as _};
use std::time::Duration;

use futures_util::StreamExt as _;
use mysql_async::prelude::Queryable;
use mysql_async::{ChangeUserOpts, Conn, Error, OptsBuilder, Row, Value};

/// Where to log in, and the rows for LOCAL INFILE.
struct Login {
    host: String,
    port: u16,
    user: String,
    password: String,
    database: String,
    file: String,
}

fn tell(what: &str, rows: &[Row]) {
    let shown: Vec<Vec<String>> = rows
        .iter()
        .map(|row| (0..row.len()).map(|at| row.as_ref(at).unwrap_or(&Value::NULL).as_sql(true)).collect())
        .collect();
    say(&format!("{what} {shown:?}"));
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").expect("somebody reads");
    out.flush().expect("somebody reads");
}

async fn connect(login: &Login) -> Conn {
    let options = OptsBuilder::default()
        .ip_or_hostname(&login.host)
        .tcp_port(login.port)
        .user(Some(&login.user))
        .pass(Some(&login.password))
        .db_name(Some(&login.database))
        .prefer_socket(false);
    Conn::new(options).await.expect("a login")
}

async fn ask(session: &mut Conn, what: &str, sql: &str) {
    let rows: Vec<Row> = session.query(sql).await.expect(sql);
    if rows.is_empty() {
        let (rows, id) = (session.affected_rows(), session.last_insert_id());
        say(&format!("{what} {rows} {id:?}"));
    } else {
        tell(what, &rows);
    }
}

async fn bound(session: &mut Conn, what: &str, sql: &str, values: Vec<Value>) {
    let rows: Vec<Row> = session.exec(sql, values).await.expect(sql);
    if rows.is_empty() {
        let (rows, id) = (session.affected_rows(), session.last_insert_id());
        say(&format!("{what} {rows} {id:?}"));
    } else {
        tell(what, &rows);
    }
}

/// Ends a long statement from another connection, and tells how it ended.
async fn kill_a_query(login: &Login, session: &mut Conn) {
    let kill = format!("KILL QUERY {}", session.id());
    let mut other = connect(login).await;
    let mut running = Box::pin(session.query::<Row, _>("SELECT SLEEP(20) FROM drv_many WHERE id < 20"));
    // The statement must be under way before it can be ended; killing a session that is idle does nothing.
    let mut again = tokio::time::interval(Duration::from_millis(50));
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended,
            _ = again.tick() => other.query_drop(&kill).await.expect("one may end one's own"),
        }
    };
    drop(running);
    other.disconnect().await.expect("a farewell");
    match ended {
        Ok(rows) => say(&format!("killed rows {}", rows.len())),
        Err(Error::Server(error)) => say(&format!("killed error {}", error.code)),
        Err(error) => panic!("{error}"),
    }
    // What was pending may hit the next statement of the same session.
    for _ in 0..3 {
        match session.query_drop("SELECT 1").await {
            Ok(()) => {}
            Err(Error::Server(error)) if error.code == 1317 => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn load(login: &Login, session: &mut Conn) {
    let bytes = std::fs::read(&login.file).expect("the rows are there");
    session.set_infile_handler(async move { Ok(futures_util::stream::iter([Ok(bytes.into())]).boxed()) });
    let sql = format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE drv_loaded (half, text)", login.file);
    ask(session, "loaded", &sql).await;
}

/// Everything once; `number` tells the halves apart.
async fn half(login: &Login, auto: &mut Conn, manual: &mut Conn, number: i64) {
    let text = format!("SELECT {number} + 1, 'é', NULL, CAST(1.50 AS DECIMAL(6,2))");
    ask(auto, "text", &text).await;
    let insert = "INSERT INTO drv_rows (half, note) VALUES (?, ?)";
    bound(auto, "insert", insert, vec![number.into(), "one".into()]).await;
    ask(auto, "id", "SELECT LAST_INSERT_ID() > 0").await;
    for value in [1_i64, 2] {
        let sql = "SELECT half, note FROM drv_rows WHERE half <= ? ORDER BY id";
        bound(auto, "prepared", sql, vec![number.into()]).await;
        bound(auto, "bound", "SELECT ? + 0, ?", vec![value.into(), "zwölf".into()]).await;
    }
    let mut results = auto.query_iter("CALL drv_two_results(); SELECT 3, 'c'").await.expect("several results");
    while !results.is_empty() {
        let rows: Vec<Row> = results.collect().await.expect("rows");
        tell("results", &rows);
    }
    drop(results);
    let insert = "INSERT INTO drv_rows (half, note) VALUES (?, 'kept')";
    bound(manual, "inside", insert, vec![number.into()]).await;
    let seen = "SELECT COUNT(*) FROM drv_rows WHERE half = ?";
    bound(manual, "seen", seen, vec![number.into()]).await;
    manual.query_drop("COMMIT").await.expect("a commit");
    let lost = format!("INSERT INTO drv_rows (half, note) VALUES ({number}, 'lost')");
    ask(manual, "undone", &lost).await;
    manual.query_drop("ROLLBACK").await.expect("a rollback");
    load(login, auto).await;
    ask(auto, "counted", "SELECT COUNT(*), SUM(half), MAX(text) FROM drv_loaded").await;
    kill_a_query(login, auto).await;
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("six arguments");
    let login = Login {
        host: next(),
        port: next().parse().expect("a port"),
        user: next(),
        password: next(),
        database: next(),
        file: next(),
    };
    let (mut auto, mut manual) = (connect(&login).await, connect(&login).await);
    manual.query_drop("SET autocommit = 0").await.expect("a setting");
    ask(&mut auto, "state", "SET @mine = 'remembered', SESSION group_concat_max_len = 4711").await;
    Box::pin(half(&login, &mut auto, &mut manual, 1)).await;
    ask(&mut manual, "ended", "COMMIT").await;
    say("PAUSE");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).expect("a line");
    ask(&mut auto, "kept", "SELECT @mine, @@group_concat_max_len, DATABASE()").await;
    Box::pin(half(&login, &mut auto, &mut manual, 2)).await;
    auto.change_user(ChangeUserOpts::default()).await.expect("the same account");
    ask(&mut auto, "changed", "SELECT @mine, DATABASE(), SUBSTRING_INDEX(CURRENT_USER(), '@', 1)").await;
    ask(&mut auto, "all", "SELECT half, note FROM drv_rows ORDER BY half, note").await;
    auto.disconnect().await.expect("a farewell");
    manual.disconnect().await.expect("a farewell");
    say("END");
}
