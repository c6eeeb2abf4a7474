//! Sessions that move: what they had before the switch they have after it, to the last byte.

use proxy::registry::Movable;
use tests::client::{Frame, Raw};
use tests::message::{
    bind, cancel_request, copy_data, copy_done, describe, execute, flush, parse, query, startup, sync,
};
use tests::postgres::{rows, single};
use tests::stage::Stage;
use tests::wait::{SOON, until};
use tests::world::{DATABASE, World};

const SCHEMA: &str = "create table t (id int primary key, v text); insert into t values (1, 'one')";

async fn ready() -> World {
    let world = World::start(SCHEMA).await;
    world.follow().await;
    world.check().await;
    world
}

fn tags(frames: &[Frame]) -> String {
    frames.iter().map(|frame| char::from(frame.tag)).filter(|tag| *tag != 'S').collect()
}

fn first_row(frames: &[Frame]) -> &[u8] {
    let row = frames.iter().find(|frame| frame.tag == b'D');
    &row.unwrap_or_else(|| panic!("no row in {frames:?}")).body
}

async fn answer(client: &mut Raw, bytes: &[u8]) -> Vec<Frame> {
    client.saying.send(bytes).await;
    client.hearing.until_ready().await
}

#[tokio::test]
async fn settings_of_the_applications_own_making_move_along() {
    let world = ready().await;
    let client = world.client().await;
    rows(&client, "set app.user_id = '42'").await;
    rows(&client, "select set_config('app.tenant', 'it''s', false)").await;
    rows(&client, "set local app.gone = 'x'").await;
    world.cutover().await;
    let found = rows(
        &client,
        "select concat_ws('/', current_setting('app.user_id'), current_setting('app.tenant'), current_setting('server_version_num')::int / 10000)",
    )
    .await;
    assert_eq!(single(&found, "the settings"), "42/it's/18");
}

#[tokio::test]
async fn a_session_with_a_setting_whose_name_was_never_told_ends_visibly() {
    let world = ready().await;
    let mut client = Raw::login(world.headgate.port(), "postgres", DATABASE).await;
    let mut bytes = parse("", "select set_config($1, $2, false)");
    bytes.extend(bind("", "", &["app.secret", "7"]));
    bytes.extend(execute("", 0));
    bytes.extend(sync());
    assert_eq!(tags(&answer(&mut client, &bytes).await), "12DCZ");
    world.cutover().await;
    let reported = answer(&mut client, &query("select 1")).await;
    assert_eq!(reported.first().map(Frame::sqlstate).as_deref(), Some("57P01"), "{reported:?}");
}

/// Ways to set a setting of the application's own making, as a client writes them. Behind each: whether its name can be
/// read there, so that the session moves.
fn ways_to_set() -> Vec<(Vec<u8>, bool)> {
    let text = |sql: &str| query(sql);
    let long = "x".repeat(20_000);
    let value = "v".repeat(100_000);
    // The length of a message is a byte before its text: this one looks like a letter.
    let letter = format!("set app.a = '{}'", "1".repeat(60));
    let set_config: u32 = 2078;
    let mut call = set_config.to_be_bytes().to_vec();
    call.extend([0, 0, 0, 3]);
    for argument in ["app.a", "1", "f"] {
        call.extend(u32::try_from(argument.len()).expect("short").to_be_bytes());
        call.extend(argument.as_bytes());
    }
    call.extend([0, 0]);
    vec![
        (text("set app . a = '1'"), true),
        (text("Set app.a = '1'"), true),
        (text("set/* a */app/* /* b */ */.a -- c\n to '1'"), true),
        (text("set session -- of the tenant\n \"app\".a = '1'"), true),
        (text("select pg_catalog.\"set_config\"( /* a */ 'app.a'::text , '1', false)"), true),
        (text("do 'begin perform set_config(''app.a'', ''1'', false); end'"), true),
        (text(&format!("select '{long}'; set app.a = '1'")), true),
        (text(&format!("/* {long} */ select set_config('app.a', '{value}', false)")), true),
        (text(&format!("set app.a = '{value}'")), true),
        (text(&letter), true),
        (text("select set_config('app.' || 'a', '1', false)"), false),
        (text("select set_config(E'app\\x2ea', '1', false)"), false),
        (text("set U&\"app\".a = '1'"), false),
        (text("do $$ begin execute 'set app.' || 'a = 1'; end $$"), false),
        (text("do $$ begin execute format('set %I.a = 1', 'app'); end $$"), false),
        (text(&format!("select set_config('app.' || left('a{long}', 1), '1', false)")), false),
        (tests::message::frame(b'F', &call), false),
    ]
}

#[tokio::test]
async fn every_statement_that_sets_a_custom_setting_moves_it_or_ends_its_session() {
    // Of a version that knows transaction_timeout.
    let stage = Stage::start(18).await;
    let setting = "select current_setting('app.a', true)";
    let mut clients = Vec::new();
    for (statement, moves) in ways_to_set() {
        let mut client = stage.client().await;
        let reported = answer(&mut client, &statement).await;
        assert!(reported.iter().all(|frame| frame.tag != b'E'), "{reported:?}");
        let value = answer(&mut client, &query(setting)).await;
        assert!(first_row(&value).len() > 6, "it is not set: {value:?}");
        clients.push((client, statement, moves, first_row(&value).to_vec()));
    }
    let mut timed = stage.client().await;
    answer(&mut timed, &query("set transaction_timeout = '7min'")).await;
    stage.switch().await;
    let limit = answer(&mut timed, &query("show transaction_timeout")).await;
    assert!(first_row(&limit).ends_with(b"7min"), "{limit:?}");
    for (mut client, statement, moves, value) in clients {
        let statement = String::from_utf8_lossy(&statement);
        let statement: String = statement.chars().take(80).collect();
        let reported = answer(&mut client, &query(setting)).await;
        if moves {
            assert_eq!(first_row(&reported), value, "{statement}");
        } else {
            let code = reported.first().map(Frame::sqlstate);
            assert_eq!(code.as_deref(), Some("57P01"), "{statement}");
        }
    }
    assert!(stage.route().handovers().moved > 10);
}

#[tokio::test]
async fn each_session_that_a_switch_will_close_is_named_before_it_and_none_notices() {
    let stage = Stage::start(14).await;
    let named = |why: Movable, statement: &'static str| (why, statement);
    let ties = [
        named(Movable::No("temporary table"), "create temp table x ()"),
        named(Movable::No("held cursor"), "begin; declare c cursor with hold for select 1; commit"),
        named(Movable::No("advisory lock"), "select pg_advisory_lock(1)"),
        named(Movable::No("custom setting"), "select set_config('app.' || 'a', '1', false)"),
        named(Movable::NotKnown("it is in a transaction"), "begin"),
    ];
    let mut clients = Vec::new();
    for (_, statement) in ties {
        let mut client = stage.client().await;
        client.query(statement).await;
        clients.push(client);
    }
    let mut waits = stage.client().await;
    let mut bytes = parse("", "select 1");
    bytes.extend(flush());
    waits.send(&bytes).await;
    assert_eq!(waits.frame().await.map(|frame| frame.tag), Some(b'1'));
    // The question must not take this statement away, nor leave one of its own behind.
    let mut idle = stage.client().await;
    let mut bytes = parse("", "select count(*) from pg_prepared_statements where name <> ''");
    bytes.extend(sync());
    answer(&mut idle, &bytes).await;
    let mut busy = stage.client().await;
    let registry = &stage.plane.registry;
    let expected: Vec<Movable> =
        ties.iter().map(|(why, _)| *why).chain([Movable::NotKnown("it is in a batch without its Sync")]).collect();
    for _ in 0..2 {
        let found = registry.unmovable(DATABASE, SOON).await.into_iter();
        assert_eq!(found.map(|one| one.why).collect::<Vec<_>>(), expected);
    }
    let mut bytes = bind("", "", &[]);
    bytes.extend(execute("", 0));
    bytes.extend(sync());
    let reported = answer(&mut idle, &bytes).await;
    assert_eq!(tags(&reported), "2DCZ", "{reported:?}");
    assert!(first_row(&reported).ends_with(b"0"), "{reported:?}");
    // A client that goes on meanwhile gets its own answers only, in their order.
    let asking = async {
        for _ in 0..100 {
            registry.unmovable(DATABASE, SOON).await;
        }
    };
    let speaking = async {
        for number in 0..300 {
            let reported = busy.query(&format!("select 'number {number}'")).await;
            assert_eq!(tags(&reported), "TDCZ", "{reported:?}");
            assert!(first_row(&reported).ends_with(format!(" {number}").as_bytes()));
        }
    };
    tokio::join!(asking, speaking);
    clients[4].query("commit").await;
    waits.send(&sync()).await;
    waits.until_ready().await;
    stage.switch().await;
    for client in &mut clients[..4] {
        let reported = client.query("select 1").await;
        assert_eq!(reported.first().map(Frame::sqlstate).as_deref(), Some("57P01"));
    }
    for client in [&mut idle, &mut busy, &mut waits, &mut clients[4]] {
        assert_eq!(tags(&client.query("select 1").await), "TDCZ");
    }
}

#[tokio::test]
async fn what_may_hide_writes_from_the_log_is_kept_after_its_session_has_gone() {
    let stage = Stage::start(14).await;
    let hidden = || stage.route().hidden_writes.all();
    let mut client = stage.client().await;
    client.query("show session_replication_role").await;
    client.query("set session_replication_role = origin").await;
    assert_eq!(hidden(), []);
    let pid = client.query("select pg_backend_pid()").await;
    let pid = String::from_utf8_lossy(&first_row(&pid)[6..]).into_owned();
    for _ in 0..2 {
        client.query("set session_replication_role = 'replica'").await;
    }
    let found = hidden();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].what, found[0].pid.to_string(), found[0].until), ("session_replication_role", pid, None));
    drop(client);
    let ended = || async { hidden().iter().all(|one| one.until.is_some()) };
    until("its end is known", SOON, ended, |ended| *ended).await;
    let mut client = Raw::connect(stage.port()).await;
    let start =
        startup(&[("user", "postgres"), ("database", DATABASE), ("options", "-c session_replication_role=replica")]);
    answer(&mut client, &start).await;
    client.query("select 1").await;
    client.query("select pg_replication_origin_session_setup('none')").await;
    let kinds: Vec<&str> = hidden().iter().map(|one| one.what).collect();
    let role = "session_replication_role";
    assert_eq!(kinds, [role, role, "pg_replication_origin_session_setup"]);
}

#[tokio::test]
async fn statements_of_types_with_other_numbers_on_the_target_and_with_semicolons_in_literals_move() {
    // The filler makes the type's number differ.
    let types = "create type filler as enum ('a'); create type mood as enum ('sad', 'glad'); drop type filler";
    let world = World::start(&format!("{types}; {SCHEMA}")).await;
    world.follow().await;
    world.check().await;
    let oid = "select 'mood'::regtype::oid";
    let (old, new) = (
        single(&world.source.sql(DATABASE, oid).await, "a number"),
        single(&world.target.sql(DATABASE, oid).await, "a number"),
    );
    assert_ne!(old, new, "the case needs a type whose numbers differ");
    let old: u32 = old.parse().expect("a number");
    let port = world.headgate.port();
    let mut unnamed = Raw::login(port, "postgres", DATABASE).await;
    let mut body = b"\0select $1 = 'glad'\0\0\x01".to_vec();
    body.extend(old.to_be_bytes());
    let mut bytes = tests::message::frame(b'P', &body);
    bytes.extend(sync());
    assert_eq!(tags(&answer(&mut unnamed, &bytes).await), "1Z");
    let mut quoted = Raw::login(port, "postgres", DATABASE).await;
    let text = "select 1; prepare \"P;\" as select 'a;b' || $$;$$ || E'\\';' -- ; \n || 'c'; select 2";
    answer(&mut quoted, &query(text)).await;
    world.cutover().await;
    let mut bytes = bind("", "", &["glad"]);
    bytes.extend(execute("", 0));
    bytes.extend(sync());
    let reported = answer(&mut unnamed, &bytes).await;
    assert_eq!(tags(&reported), "2DCZ", "{reported:?}");
    assert!(first_row(&reported).ends_with(b"t"), "{reported:?}");
    let reported = answer(&mut quoted, &query("execute \"P;\"")).await;
    assert!(first_row(&reported).ends_with(b"a;b;';c"), "{reported:?}");
}

#[tokio::test]
async fn statements_prepared_in_another_encoding_keep_their_bytes() {
    let world = ready().await;
    let mut client = Raw::connect(world.headgate.port()).await;
    let start = startup(&[("user", "postgres"), ("database", DATABASE), ("client_encoding", "LATIN1")]);
    answer(&mut client, &start).await;
    let mut text = b"prepare p as select 'caf\xe9'::text".to_vec();
    text.push(0);
    answer(&mut client, &tests::message::frame(b'Q', &text)).await;
    let before = answer(&mut client, &query("execute p")).await;
    world.cutover().await;
    let after = answer(&mut client, &query("execute p")).await;
    assert_eq!(first_row(&before), first_row(&after));
    assert!(first_row(&after).ends_with(b"caf\xe9"));
}

#[tokio::test]
async fn a_client_that_reads_late_gets_the_whole_result_of_before_the_switch() {
    let world = ready().await;
    let port = world.headgate.port();
    let mut late = Vec::new();
    for step in 0_u32..20 {
        let mut client = Raw::login(port, "postgres", DATABASE).await;
        // Around the size at which a socket's buffers are full and the rest waits in Headgate.
        let count = 2_000 + step * 3_000;
        client.saying.send(&query(&format!("select repeat('x', 100) from generate_series(1, {count})"))).await;
        late.push((client, count));
    }
    let idle = "select count(*) = 20 from pg_stat_activity where query like '%repeat%' and pid <> pg_backend_pid() and state in ('idle', 'active')";
    world.source.until_value(DATABASE, idle, "t").await;
    // Those that are blocked in the middle of a result hold their transaction open, and are read to the end first.
    for (client, count) in &mut late {
        if *count > 20_000 {
            let frames = client.hearing.until_ready().await;
            assert_eq!(frames.iter().filter(|frame| frame.tag == b'D').count(), *count as usize);
        }
    }
    world.cutover().await;
    for (mut client, count) in late {
        if count <= 20_000 {
            let frames = client.hearing.until_ready().await;
            assert_eq!(frames.iter().filter(|frame| frame.tag == b'D').count(), count as usize);
        }
        let version = answer(&mut client, &query("show server_version_num")).await;
        assert!(first_row(&version).windows(2).any(|piece| piece == b"18"));
    }
}

#[tokio::test]
async fn an_idle_session_whose_copy_failed_does_not_block_a_rehearsal() {
    let world = ready().await;
    let mut client = Raw::login(world.headgate.port(), "postgres", DATABASE).await;
    // The Sync goes out before the data, as drivers do that pipeline; nobody can tell whether the server took it.
    let mut bytes = parse("", "copy t from stdin");
    bytes.extend(bind("", "", &[]));
    bytes.extend(execute("", 0));
    bytes.extend(sync());
    client.saying.send(&bytes).await;
    while client.hearing.frame().await.expect("an answer").tag != b'G' {}
    let mut bytes = copy_data(b"1\tduplicate\n");
    bytes.extend(copy_done());
    bytes.extend(sync());
    let reported = answer(&mut client, &bytes).await;
    assert_eq!(reported.first().map(Frame::sqlstate).as_deref(), Some("23505"), "{reported:?}");
    let report = world.headgate.admin("REHEARSE MIGRATION m").await;
    let outcome = report.first().and_then(|row| row.get("outcome").cloned());
    assert_eq!(outcome.as_deref(), Some("rehearsed"));
    assert_eq!(tags(&answer(&mut client, &query("select 1")).await), "TDCZ");
}

#[tokio::test]
async fn a_held_batch_without_its_sync_is_cancelled_at_once() {
    let world = ready().await;
    let (mut client, pid, secret) = Raw::login_with_key(world.headgate.port(), "postgres", DATABASE).await;
    let blocker = world.client().await;
    rows(&blocker, "begin; select 1").await;
    let headgate = &world.headgate;
    let statement = "REHEARSE MIGRATION m WITH (max_hold = '8s')";
    let rehearsal = headgate.refused(statement);
    let meanwhile = async {
        let ask = || world.row("SHOW ROUTES");
        until("the gate is closed", SOON, ask, |row| row.get("gate").is_some_and(|gate| gate != "open")).await;
        let mut bytes = parse("", "select 1");
        bytes.extend(describe(b'S', ""));
        bytes.extend(flush());
        client.saying.send(&bytes).await;
        let ask = || world.row("SHOW ROUTES");
        until("it is held", SOON, ask, |row| row.get("statements_held").is_some_and(|held| held == "1")).await;
        let mut canceller = Raw::connect(headgate.port()).await;
        canceller.saying.send(&cancel_request(pid, &secret)).await;
        let reported = client.hearing.frame().await.expect("an error");
        assert_eq!(reported.sqlstate(), "57014");
        let ready = answer(&mut client, &sync()).await;
        assert_eq!(tags(&ready), "Z");
    };
    let (refused, ()) = tokio::join!(rehearsal, meanwhile);
    assert_eq!(refused.0, "55000", "{refused:?}");
    rows(&blocker, "commit").await;
    assert_eq!(tags(&answer(&mut client, &query("select 1")).await), "TDCZ");
}
