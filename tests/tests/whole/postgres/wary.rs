//! A gate that had to be opened before it was known that the source's fence is down: what that refuses waits again.

use tests::client::{Frame, Raw};
use tests::message::{bind, describe, execute, parse, query, sync};
use tests::postgres::{connect, rows, single};
use tests::stage::Stage;
use tests::wait::{SOON, until, within};
use tests::world::DATABASE;

/// What the fence leaves on every table.
const FENCE: &str = "create function fence() returns trigger language plpgsql as $$ begin
        raise exception using errcode = '25006', message = 'cannot execute ' || tg_op || ': this database has moved';
    end $$;
    create trigger fence before insert or update or delete or truncate on t execute function fence()";

const SCHEMA: &str = "create table t (id int generated always as identity, v text);
    create table other (id int);
    create procedure half() language plpgsql as $$ begin
        insert into other values (1); commit; insert into t (v) values ('half');
    end $$";

fn sqlstates(frames: &[Frame]) -> Vec<String> {
    let errors = frames.iter().filter(|frame| frame.tag == b'E');
    errors.map(Frame::sqlstate).collect()
}

#[tokio::test]
async fn what_the_fence_refuses_is_held_and_runs_once_it_is_down() {
    let stage = Stage::start(15).await;
    stage.server.sql(DATABASE, SCHEMA).await;
    let route = stage.route();
    // Sessions of all ways to write: plain, with parameters, prepared before, and in one packet without a name.
    let mut prepared = Vec::new();
    for _ in 0..4 {
        let client = connect(stage.port(), "postgres", None, DATABASE).await;
        let insert = "insert into t (v) values ($1)";
        let statement = client.prepare(insert).await.expect("a statement");
        prepared.push((client, statement));
    }
    let mut others: Vec<Raw> = Vec::new();
    for _ in 0..12 {
        others.push(stage.client().await);
    }
    let mut limits = stage.client().await;
    stage.server.sql(DATABASE, FENCE).await;
    route.gate.close();
    within("quiet", SOON, route.gate.quiet()).await;
    let mut writing = Vec::new();
    for (client, statement) in prepared {
        writing.push(tokio::spawn(async move {
            let done = client.execute(&statement, &[&"prepared"]).await;
            done.map_err(|error| error.to_string()).map(drop)
        }));
    }
    for (number, mut client) in others.into_iter().enumerate() {
        writing.push(tokio::spawn(async move {
            let insert = "insert into t (v) values ('x')";
            let words = if number % 2 == 0 {
                query(insert)
            } else {
                [parse("", insert), bind("", "", &[]), describe(b'P', ""), execute("", 0), sync()].concat()
            };
            client.send(&words).await;
            let reported = client.until_ready().await;
            match sqlstates(&reported).first() {
                Some(code) => Err(code.clone()),
                None => Ok(()),
            }
        }));
    }
    let line = || async { route.gate.in_line() };
    until("all are held", SOON, line, |count| *count == 16).await;
    route.gate.open_warily();
    // All were sent, refused, and stand in line again; reads go on.
    let reported = limits.query("select count(*) from t").await;
    assert!(sqlstates(&reported).is_empty(), "{reported:?}");
    until("all are held again", SOON, line, |count| *count == 16).await;
    assert_eq!(route.gate.log().held, 32);
    assert!(route.gate.inside().is_empty(), "held, and inside");

    // What may have done something before it was refused hears of it, and is not done twice.
    for (words, count) in [("call half()", "1"), ("begin; insert into t (v) values ('x')", "1")] {
        let reported = limits.query(words).await;
        assert_eq!(sqlstates(&reported), ["25006"], "{words}");
        let rows = stage.server.sql(DATABASE, "select count(*) from other").await;
        assert_eq!(single(&rows, "rows"), count, "{words}");
    }
    limits.query("rollback").await;

    stage.server.sql(DATABASE, "drop trigger fence on t").await;
    route.gate.open();
    for writer in writing {
        let done = within("it is done", SOON, writer).await.expect("no panic");
        assert_eq!(done, Ok(()));
    }
    let count = stage.server.sql(DATABASE, "select count(*) from t").await;
    assert_eq!(single(&count, "rows"), "16");
    let client = connect(stage.port(), "postgres", None, DATABASE).await;
    rows(&client, "insert into t (v) values ('later')").await;
}
