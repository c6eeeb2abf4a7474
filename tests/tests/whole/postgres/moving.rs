//! Sessions that move: what they had before the switch they have after it, to the last byte.

use tests::client::{Frame, Raw};
use tests::message::{
    bind, cancel_request, copy_data, copy_done, describe, execute, flush, parse, query, startup,
    sync,
};
use tests::postgres::{rows, single};
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
    frames
        .iter()
        .map(|frame| char::from(frame.tag))
        .filter(|tag| *tag != 'S')
        .collect()
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
    let told = answer(&mut client, &query("select 1")).await;
    assert_eq!(
        told.first().map(Frame::sqlstate).as_deref(),
        Some("57P01"),
        "{told:?}"
    );
}

#[tokio::test]
async fn statements_prepared_in_another_encoding_keep_their_bytes() {
    let world = ready().await;
    let mut client = Raw::connect(world.headgate.port()).await;
    let start = startup(&[
        ("user", "postgres"),
        ("database", DATABASE),
        ("client_encoding", "LATIN1"),
    ]);
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
        client
            .saying
            .send(&query(&format!(
                "select repeat('x', 100) from generate_series(1, {count})"
            )))
            .await;
        late.push((client, count));
    }
    let idle = "select count(*) = 20 from pg_stat_activity where query like '%repeat%' and pid <> pg_backend_pid() and state in ('idle', 'active')";
    world.source.until_value(DATABASE, idle, "t").await;
    // Those that are blocked in the middle of a result hold their transaction open, and are read to the end first.
    for (client, count) in &mut late {
        if *count > 20_000 {
            let frames = client.hearing.until_ready().await;
            assert_eq!(
                frames.iter().filter(|frame| frame.tag == b'D').count(),
                *count as usize
            );
        }
    }
    world.cutover().await;
    for (mut client, count) in late {
        if count <= 20_000 {
            let frames = client.hearing.until_ready().await;
            assert_eq!(
                frames.iter().filter(|frame| frame.tag == b'D').count(),
                count as usize
            );
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
    let told = answer(&mut client, &bytes).await;
    assert_eq!(
        told.first().map(Frame::sqlstate).as_deref(),
        Some("23505"),
        "{told:?}"
    );
    let report = world.headgate.admin("REHEARSE MIGRATION m").await;
    let outcome = report.first().and_then(|row| row.get("outcome").cloned());
    assert_eq!(outcome.as_deref(), Some("rehearsed"));
    assert_eq!(tags(&answer(&mut client, &query("select 1")).await), "TDCZ");
}

#[tokio::test]
async fn a_held_batch_without_its_sync_is_cancelled_at_once() {
    let world = ready().await;
    let (mut client, pid, secret) =
        Raw::login_with_key(world.headgate.port(), "postgres", DATABASE).await;
    let blocker = world.client().await;
    rows(&blocker, "begin; select 1").await;
    let headgate = &world.headgate;
    let statement = "REHEARSE MIGRATION m WITH (max_hold = '8s')";
    let rehearsal = headgate.refused(statement);
    let meanwhile = async {
        let ask = || world.row("SHOW ROUTES");
        until("the gate is closed", SOON, ask, |row| {
            row.get("gate").is_some_and(|gate| gate != "open")
        })
        .await;
        let mut bytes = parse("", "select 1");
        bytes.extend(describe(b'S', ""));
        bytes.extend(flush());
        client.saying.send(&bytes).await;
        let ask = || world.row("SHOW ROUTES");
        until("it is held", SOON, ask, |row| {
            row.get("statements_held").is_some_and(|held| held == "1")
        })
        .await;
        let mut canceller = Raw::connect(headgate.port()).await;
        canceller.saying.send(&cancel_request(pid, &secret)).await;
        let told = client.hearing.frame().await.expect("an error");
        assert_eq!(told.sqlstate(), "57014");
        let ready = answer(&mut client, &sync()).await;
        assert_eq!(tags(&ready), "Z");
    };
    let (refused, ()) = tokio::join!(rehearsal, meanwhile);
    assert_eq!(refused.0, "55000", "{refused:?}");
    rows(&blocker, "commit").await;
    assert_eq!(tags(&answer(&mut client, &query("select 1")).await), "TDCZ");
}
