//! Sessions that move: what they had before the switch they have after it, to the last byte.

use tests::mysql::raw::{self, Packet, Raw};
use tests::mysql::{Mysql, Pair, Record, rows};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, World, numbers};

for_every_pair! {
    a_prepared_statement_keeps_its_parameters_types_and_the_pieces_that_were_sent,
    statements_prepared_in_another_encoding_keep_their_bytes,
    a_session_with_an_open_cursor_ends_visibly_and_is_counted,
    a_client_that_reads_late_gets_the_whole_result_of_before_the_switch,
    a_held_execution_is_forgotten_with_its_client_and_runs_for_all_others,
    a_session_may_begin_anew_after_it_moved,
}

const EXECUTE: u8 = 0x17;
const SEND_LONG_DATA: u8 = 0x18;
const CURSOR_READ_ONLY: u8 = 1;
/// `MYSQL_TYPE_…` of what is bound here.
const LONGLONG: u8 = 8;
const BLOB: u8 = 252;
const UNSIGNED: u8 = 0x80;

/// A world whose migration follows and has passed its check, with an account that bare bytes can log in to.
async fn ready(pair: Pair) -> World<Mysql> {
    let schema = format!(
        "CREATE TABLE t (id BIGINT UNSIGNED PRIMARY KEY, v LONGBLOB) ENGINE = InnoDB;
         INSERT INTO t SELECT n, REPEAT('x', 100) FROM {} WHERE n <= 1000;
         CREATE USER plain@'%'; GRANT ALL ON shop.* TO plain@'%'",
        numbers(3)
    );
    let world = World::of(pair, &schema).await;
    world.follow().await;
    world.check().await;
    world
}

async fn bare(world: &World<Mysql>) -> Raw {
    Raw::login(world.headgate.port(), "plain", DATABASE).await.0
}

/// Prepares a statement; the client's number for it.
async fn prepare(client: &mut Raw, text: &[u8]) -> u32 {
    client.send(&raw::command(raw::PREPARE, text)).await;
    let head = client.packet().await.expect("an answer");
    assert!(head.is_ok(), "{head:?}");
    let number = |at: usize| u16::from_le_bytes([head.body[at], head.body[at + 1]]);
    // Columns, then parameters, and behind each of the two that there are an end.
    for count in [number(5), number(7)] {
        for _ in 0..u32::from(count) + u32::from(count > 0) {
            client.packet().await.expect("what was promised");
        }
    }
    u32::from_le_bytes([head.body[1], head.body[2], head.body[3], head.body[4]])
}

/// An execution: bitmap of nulls, types where they are sent, and values.
fn execution(statement: u32, flags: u8, parameters: &[u8]) -> Vec<u8> {
    let mut body = statement.to_le_bytes().to_vec();
    body.push(flags);
    body.extend(1_u32.to_le_bytes());
    body.extend(parameters);
    raw::command(EXECUTE, &body)
}

async fn execute(client: &mut Raw, statement: u32, parameters: &[u8]) -> Vec<Packet> {
    client.send(&execution(statement, 0, parameters)).await;
    client.answer().await
}

/// The rows of a result, as they came.
fn rows_of(packets: &[Packet]) -> Vec<&[u8]> {
    let behind = packets.iter().skip_while(|packet| !packet.is_end()).skip(1);
    behind.take_while(|packet| !packet.is_end()).map(|packet| packet.body.as_slice()).collect()
}

async fn where_it_is(client: &mut Raw) -> String {
    let packets = client.query("SELECT @@port").await;
    let found = rows_of(&packets);
    assert_eq!(found.len(), 1, "{packets:?}");
    String::from_utf8_lossy(&found[0][1..]).into_owned()
}

async fn a_prepared_statement_keeps_its_parameters_types_and_the_pieces_that_were_sent(pair: Pair) {
    let world = ready(pair).await;
    let mut client = bare(&world).await;
    let insert = prepare(&mut client, b"INSERT INTO t (id, v) VALUES (?, ?)").await;
    // With types once: an unsigned number that no signed one can hold.
    let mut typed = vec![0, 1, LONGLONG, UNSIGNED, BLOB, 0];
    typed.extend(u64::MAX.to_le_bytes());
    typed.extend([3, b'o', b'n', b'e']);
    assert!(execute(&mut client, insert, &typed).await[0].is_ok());
    let piece = |bytes: &[u8]| {
        let head = [&insert.to_le_bytes()[..], &1_u16.to_le_bytes()].concat();
        raw::command(SEND_LONG_DATA, &[&head[..], bytes].concat())
    };
    client.send(&piece(&[0xff_u8].repeat(40_000))).await;
    client.send(&piece(b"middle")).await;
    // Pieces are answered with nothing: this answer says that they arrived.
    assert!(client.command(raw::PING, b"").await[0].is_ok());
    world.cutover().await;

    client.send(&piece(b"end")).await;
    // Without types: those of the first execution count.
    let mut untyped = vec![0, 0];
    untyped.extend((u64::MAX - 1).to_le_bytes());
    let reported = execute(&mut client, insert, &untyped).await;
    assert!(reported[0].is_ok(), "{reported:?}");
    let found = "SELECT GROUP_CONCAT(CONCAT(id, ':', LENGTH(v), ':', MID(v, 1 + 40000, 6), ':', RIGHT(v, 3)) ORDER BY id) FROM t WHERE id > 5000";
    let found = world.target.value(DATABASE, found).await;
    assert_eq!(found, "18446744073709551614:40009:middle:end,18446744073709551615:3::one");
    assert_eq!(where_it_is(&mut client).await, world.target.port().to_string());
}

async fn statements_prepared_in_another_encoding_keep_their_bytes(pair: Pair) {
    let world = ready(pair).await;
    let mut client = bare(&world).await;
    assert!(client.query("SET NAMES latin1").await[0].is_ok());
    let coffee = prepare(&mut client, b"SELECT 'caf\xe9', HEX('\xe9'), @@port").await;
    let before = execute(&mut client, coffee, &[]).await;
    world.cutover().await;
    let after = execute(&mut client, coffee, &[]).await;
    let (before, after) = (rows_of(&before), rows_of(&after));
    let port = 8;
    assert_eq!(before.len(), 1);
    assert_eq!(before[0][..before[0].len() - port], after[0][..after[0].len() - port]);
    assert_ne!(before, after, "it did not move");
    assert!(after[0].windows(4).any(|piece| piece == b"caf\xe9"));
}

async fn a_session_with_an_open_cursor_ends_visibly_and_is_counted(pair: Pair) {
    let world = ready(pair).await;
    let mut client = bare(&world).await;
    let all = prepare(&mut client, b"SELECT id FROM t ORDER BY id").await;
    client.send(&execution(all, CURSOR_READ_ONLY, &[])).await;
    // The columns and their end; the rows stay until they are fetched.
    while !client.packet().await.expect("an answer").is_end() {}
    assert!(client.command(raw::PING, b"").await[0].is_ok());
    world.cutover().await;
    let reported = client.query("SELECT 1").await;
    let (code, state, _) = reported.last().expect("it is told").error();
    assert_eq!((code, state.as_str()), (1053, "08S01"));
    let report = world.row("SHOW CUTOVER REPORT m").await;
    let reasons = report.get("closed_reasons").map(String::as_str);
    assert_eq!(reasons, Some("open cursor: 1"), "{report:?}");
}

async fn a_client_that_reads_late_gets_the_whole_result_of_before_the_switch(pair: Pair) {
    let world = ready(pair).await;
    let mut late = Vec::new();
    for step in 0_usize..8 {
        let mut client = bare(&world).await;
        // Around the size at which a socket's buffers are full and the rest waits in Headgate.
        let length = 10 + step * 400;
        let query = format!("SELECT REPEAT('x', {length}) FROM t WHERE id <= 1000");
        client.send(&raw::command(raw::QUERY, query.as_bytes())).await;
        late.push((client, length));
    }
    let count = |client: &Vec<Packet>, length: usize| {
        let found = rows_of(client);
        let whole = found.iter().filter(|row| row.len() > length).count();
        assert_eq!(whole, 1000, "rows of {length} bytes");
    };
    // Those whose result no buffers hold keep the source busy, and are read to the end first.
    for (client, length) in late.iter_mut().filter(|(_, length)| *length > 1000) {
        count(&client.answer().await, *length);
    }
    let busy =
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%REPEAT(%' AND ID <> CONNECTION_ID()";
    world.source.until_value("", busy, "0").await;
    world.cutover().await;
    for (mut client, length) in late {
        if length <= 1000 {
            count(&client.answer().await, length);
        }
        assert_eq!(where_it_is(&mut client).await, world.target.port().to_string());
    }
}

async fn a_held_execution_is_forgotten_with_its_client_and_runs_for_all_others(pair: Pair) {
    let world = ready(pair).await;
    let mut slow = world.client().await;
    rows(&mut slow, "START TRANSACTION; INSERT INTO t VALUES (2000, 'slow')").await;
    let (mut stays, mut leaves) = (bare(&world).await, bare(&world).await);
    let mut statements = Vec::new();
    for client in [&mut stays, &mut leaves] {
        statements.push(prepare(client, b"INSERT INTO t (id, v) VALUES (?, 'held')").await);
    }
    let typed = |id: u64| [&[0, 1, LONGLONG, 0][..], &id.to_le_bytes()].concat();
    let held = |wanted: &'static str| {
        let ask = || world.row("SHOW ROUTES");
        let holds = move |row: &Record| row.get("statements_held").is_some_and(|held| held == wanted);
        until("so many are held", SOON, ask, holds)
    };
    let steps = async {
        let ask = || world.row("SHOW ROUTES");
        until("the gate closes", SOON, ask, |row| row.get("gate").is_some_and(|gate| gate != "open")).await;
        stays.send(&execution(statements[0], 0, &typed(3000))).await;
        // Half of it stands in the socket when its client goes.
        let whole = execution(statements[1], 0, &typed(4000));
        leaves.send(&whole).await;
        held("2").await;
        drop(leaves);
        held("1").await;
        rows(&mut slow, "COMMIT").await;
        stays.answer().await
    };
    let (_, reported) = tokio::join!(world.cutover(), steps);
    assert!(reported[0].is_ok(), "{reported:?}");
    let new = "SELECT GROUP_CONCAT(id ORDER BY id) FROM t WHERE id > 1000";
    assert_eq!(world.target.value(DATABASE, new).await, "2000,3000");
    world.source.until_value(DATABASE, new, "2000,3000").await;
}

async fn a_session_may_begin_anew_after_it_moved(pair: Pair) {
    let world = ready(pair).await;
    let mut client = bare(&world).await;
    assert!(client.query("SET @kept = 5").await[0].is_ok());
    let one = prepare(&mut client, b"SELECT 1").await;
    world.cutover().await;
    let kept = client.query("SELECT @kept").await;
    assert_eq!(rows_of(&kept), [&[1, b'5'][..]]);
    assert!(client.command(raw::INIT_DB, b"shop").await[0].is_ok());
    // Only servers that are newer than 5.6 know it; whoever refuses it changes nothing.
    let reset = client.command(raw::RESET_CONNECTION, b"").await;
    assert!(reset[0].is_ok(), "{reset:?}");
    let kept = client.query("SELECT @kept").await;
    assert_eq!(rows_of(&kept), [&[0xfb][..]]);
    let gone = execute(&mut client, one, &[]).await;
    assert_eq!(gone[0].error().0, 1243, "{gone:?}");
    assert_eq!(where_it_is(&mut client).await, world.target.port().to_string());
}

/// MariaDB prepares what MySQL takes as text only, and drivers do it.
#[tokio::test]
async fn a_begin_that_was_prepared_on_mariadb_goes_on_at_mysql() {
    let world = ready(Pair::Mariadb1011toMysql97).await;
    let mut client = bare(&world).await;
    let begin = prepare(&mut client, b"BEGIN").await;
    let insert = prepare(&mut client, b"INSERT INTO t VALUES (7000, 'x')").await;
    let commit = prepare(&mut client, b"COMMIT").await;
    world.cutover().await;
    for statement in [begin, insert, commit] {
        let reported = execute(&mut client, statement, &[]).await;
        assert!(reported[0].is_ok(), "{reported:?}");
        let inside = reported[0].status() & 1 == 1;
        assert_eq!(inside, statement != commit, "{reported:?}");
    }
    let count = "SELECT COUNT(*) FROM t WHERE id = 7000";
    assert_eq!(world.target.value(DATABASE, count).await, "1");
}
