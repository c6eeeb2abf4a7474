//! Moves real databases between real servers.

mod servers;

use std::sync::Arc;
use std::time::Duration;

use migrator::accounts::Verdict;
use migrator::database::{Fencing as _, Preflight as _};
use migrator::error::Kind;
use migrator::model::plan::{Plan, Settings};
use migrator::model::progress::{Progress, Stage};
use migrator::postgres::clean;
use migrator::postgres::fence::counters;
use migrator::postgres::load::range::ClusterPair;
use migrator::postgres::records;
use migrator::postgres::sql::relation;
use migrator::postgres::{Endpoint, PostgresDatabase, fence, load, plan, preflight, schema};
use migrator::preflight::{Check, Level};
use servers::postgres::{Server, between, migration};
use servers::{whole, with_least_rights};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

/// What real schemas have, and what hostile ones do.
const SHOP: &str = r#"
CREATE ROLE shop_owner LOGIN PASSWORD 'x' CONNECTION LIMIT 7;
CREATE ROLE shop_reader;
CREATE ROLE shop_quiet NOINHERIT PASSWORD 'y' IN ROLE pg_read_all_data;
CREATE ROLE both_a;
CREATE ROLE both_b;
GRANT both_a TO both_b WITH ADMIN OPTION;
GRANT shop_reader TO shop_owner;
ALTER ROLE shop_owner SET search_path = "$user", public;
ALTER DATABASE shop SET work_mem = '5MB';
CREATE SCHEMA "we""ird ü";
CREATE SCHEMA "public x";
CREATE TYPE "public x".t AS ENUM ();
CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'happy');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, mood mood, moods mood[],
    p pair, ps pair[], d positive, doc jsonb, tags text[], price numeric(12,2), at timestamptz,
    upper_name text GENERATED ALWAYS AS (upper(name)) STORED, kind regclass, r int4range, b bytea,
    UNIQUE (name, id), CHECK (price >= 0));
ALTER TABLE customers OWNER TO shop_owner;
GRANT SELECT ON customers TO shop_reader;
INSERT INTO customers (name, mood, moods, p, ps, d, doc, tags, price, at, kind, r, b)
SELECT 'n' || i, 'happy', '{sad,"it''s ok"}', ROW(i, 'x,"y'::text)::pair, ARRAY[ROW(i, NULL::text)::pair], i,
    jsonb_build_object('k', i, 'nul', null), ARRAY['a,b', NULL, '"'], i * 1.5,
    '2020-01-01 00:00+00'::timestamptz + i * interval '1 second', 'customers', int4range(i, i + 5),
    decode(md5(i::text), 'hex')
FROM generate_series(1, 20000) i;
CREATE TABLE orders (id serial PRIMARY KEY, customer bigint NOT NULL REFERENCES customers, note text, big text)
    WITH (autovacuum_enabled = false);
INSERT INTO orders (customer, note, big) SELECT i, E'line\nbreak\t\\.', repeat(md5(i::text), 300)
FROM generate_series(1, 3000) i;
CREATE INDEX orders_customer ON orders (customer) WHERE note IS NOT NULL;
CREATE TABLE events (at date NOT NULL, n int, PRIMARY KEY (at, n)) PARTITION BY RANGE (at);
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE events_rest PARTITION OF events DEFAULT;
CREATE INDEX events_n ON events (n);
INSERT INTO events SELECT '2024-01-01'::date + i % 700, i FROM generate_series(1, 5000) i;
CREATE TABLE keyless (a int, b float8, c money, d interval, e xml);
ALTER TABLE keyless REPLICA IDENTITY FULL;
INSERT INTO keyless SELECT i, 0.1 + i, i::money, i * interval '1 hour', '<a/>' FROM generate_series(1, 100) i;
CREATE TABLE empty_of_columns ();
ALTER TABLE empty_of_columns REPLICA IDENTITY FULL;
INSERT INTO empty_of_columns DEFAULT VALUES;
CREATE TABLE "we""ird ü"."new
line; DROP TABLE x; --" ("a""b" int PRIMARY KEY, "select" text, "ü\n" text DEFAULT 'it''s');
INSERT INTO "we""ird ü"."new
line; DROP TABLE x; --" SELECT i, 'v' FROM generate_series(1, 10) i;
CREATE INDEX "in dex" ON "we""ird ü"."new
line; DROP TABLE x; --" ("select");
CREATE SEQUENCE loose INCREMENT -3 MAXVALUE 0 MINVALUE -100000 CACHE 20;
SELECT nextval('loose'), nextval('loose');
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := 'touched'; RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION touch();
CREATE VIEW happy AS SELECT * FROM customers WHERE mood = 'happy';
ALTER VIEW happy OWNER TO shop_owner;
CREATE MATERIALIZED VIEW totals AS SELECT customer, count(*) FROM orders GROUP BY 1;
CREATE UNIQUE INDEX totals_key ON totals (customer);
CREATE POLICY p ON orders USING (true);
CREATE STATISTICS st ON customer, note FROM orders;
COMMENT ON TABLE orders IS 'what was bought';
"#;

async fn shop(settings: Settings) -> (Server, Server, PostgresDatabase, Client) {
    let (source, target) = (Server::start(14, ""), Server::start(18, ""));
    source.connect("postgres").await.batch_execute("CREATE DATABASE shop").await.expect("it can be created");
    let session = source.connect("shop").await;
    session.batch_execute(SHOP).await.expect("the schema can be created");
    // The target numbers its types otherwise than the source.
    let elsewhere = target.connect("postgres").await;
    elsewhere
        .batch_execute("CREATE TABLE other (a int); CREATE ROLE both_a; CREATE ROLE both_b")
        .await
        .expect("it can be created");
    let postgres = migration("m1", &source, &target, settings);
    source.mend(&target, &postgres).await;
    (source, target, postgres, session)
}

async fn prepared(postgres: &PostgresDatabase) -> Plan {
    let plan = plan::read(postgres).await.expect("the catalogue can be read");
    schema::prepare(postgres, &plan).await.expect("the target can be prepared");
    plan
}

async fn copied(postgres: &PostgresDatabase, plan: &Plan) -> Arc<Progress> {
    let progress = Arc::new(Progress::default());
    load::run(postgres, plan, Arc::clone(&progress), CancellationToken::new())
        .await
        .expect("the copy comes to its end");
    progress
}

async fn lines(session: &Client, query: &str) -> Vec<String> {
    let rows = session.query(query, &[]).await.expect("the query runs");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Every row and every object of both sides, compared by what the servers say of them.
async fn assert_equal(postgres: &PostgresDatabase, plan: &Plan) {
    let source = postgres.connect_source("test").await.expect("the source answers");
    let target = postgres.connect_target("test").await.expect("the target answers");
    for table in &plan.tables {
        let name = relation(table);
        let query = format!("SELECT t::text FROM ONLY {name} t ORDER BY t::text COLLATE \"C\"");
        let (there, here) = (lines(&source, &query).await, lines(&target, &query).await);
        assert_eq!(there.len(), here.len(), "rows of {name}");
        assert!(there == here, "rows of {name} differ");
    }
    for query in [
        "SELECT pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class c ON c.oid = indexrelid
         WHERE relnamespace::regnamespace::text !~ '^(pg_|headgate|information)' ORDER BY 1",
        "SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) || convalidated
         FROM pg_constraint WHERE contype <> 'n' AND connamespace::regnamespace::text !~ '^(pg_|headgate|information)'
         ORDER BY 1",
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
        "SELECT c.oid::regclass || ' ' || relkind::text || ' ' || pg_get_userbyid(relowner) || has_table_privilege('shop_reader', c.oid, 'SELECT')
             || coalesce(obj_description(c.oid, 'pg_class'), '')
         FROM pg_class c WHERE relkind IN ('r', 'p', 'v', 'm', 'S')
         AND relnamespace::regnamespace::text !~ '^(pg_|headgate|information)' ORDER BY 1",
        "SELECT t::text FROM public.totals t ORDER BY 1",
        "SELECT (setdatabase <> 0)::text || setconfig::text FROM pg_db_role_setting ORDER BY 1",
        "SELECT rolname || rolconnlimit || rolcanlogin || coalesce(rolpassword, '') FROM pg_authid
         WHERE rolname ~ '^shop' ORDER BY 1",
        "SELECT roleid::regrole || ' ' || member::regrole || admin_option FROM pg_auth_members
         WHERE member::regrole::text !~ '^(pg_|headgate)' ORDER BY 1",
        "SELECT polname || polrelid::regclass FROM pg_policy",
        "SELECT stxname || stxrelid::regclass FROM pg_statistic_ext",
    ] {
        let (there, here) = (lines(&source, query).await, lines(&target, query).await);
        assert_eq!(there, here, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_a_schema_has_arrives_as_it_was() {
    let settings = Settings { copy_chunk_bytes: 1 << 20, ..Settings::default() };
    let (_source, _target, postgres, _session) = shop(settings).await;
    let plan = prepared(&postgres).await;
    assert_eq!(plan.tables.len(), 7);
    let progress = copied(&postgres, &plan).await;
    assert_equal(&postgres, &plan).await;
    assert!(progress.tables().values().all(|table| table.stage == Stage::Copied));
    // Once more: there is nothing left to do.
    schema::prepare(&postgres, &plan).await.expect("it is prepared already");
    copied(&postgres, &plan).await;
    assert_equal(&postgres, &plan).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_cut_short_at_any_place_goes_on_and_loads_nothing_twice() {
    let settings = Settings { copy_chunk_bytes: 1 << 20, copy_workers: 2, ..Settings::default() };
    let (_source, _target, postgres, session) = shop(settings).await;
    let plan = prepared(&postgres).await;
    let mut cut = Duration::from_millis(10);
    loop {
        let copying = load::run(&postgres, &plan, Arc::default(), CancellationToken::new());
        if let Ok(outcome) = tokio::time::timeout(cut, copying).await {
            break outcome.expect("the copy comes to its end");
        }
        cut = cut.mul_f32(1.3);
        // What a reload sees is later than what the first load saw.
        session
            .batch_execute("INSERT INTO events VALUES ('2024-05-05', (SELECT max(n) + 1 FROM events))")
            .await
            .expect("the source takes writes");
    }
    assert!(cut > Duration::from_millis(100), "nothing was cut short");
    let target = postgres.connect_target("test").await.expect("the target answers");
    let doubled = lines(&target, "SELECT table_name FROM headgate.tables WHERE state <> 'indexed'").await;
    assert_eq!(doubled, Vec::<String>::new());
    let orders = "SELECT count(*) || ' ' || count(DISTINCT id) FROM public.orders";
    assert_eq!(lines(&target, orders).await, ["3000 3000"]);
    let customers = "SELECT count(*) || ' ' || count(DISTINCT id) FROM public.customers";
    assert_eq!(lines(&target, customers).await, ["20000 20000"]);
    let keyless = "SELECT count(*) || ' ' || count(DISTINCT a) FROM public.keyless";
    assert_eq!(lines(&target, keyless).await, ["100 100"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_a_killed_run_is_still_creating_is_taken_over() {
    let (_source, target, postgres, _session) = shop(Settings::default()).await;
    let plan = plan::read(&postgres).await.expect("the catalogue can be read");
    let watcher = target.connect("postgres").await;
    let create = "CREATE DATABASE shop TEMPLATE template0 STRATEGY file_copy";
    let begun = "SELECT FROM pg_stat_activity WHERE query LIKE 'CREATE DATABASE%' AND state = 'active'
                 AND backend_xid IS NOT NULL";
    // Where nobody looked while it was created, it is created again.
    let orphan = 'seen: loop {
        let session = target.connect("postgres").await;
        let orphan = tokio::spawn(async move { session.batch_execute(create).await });
        while !orphan.is_finished() {
            if !watcher.query(begun, &[]).await.expect("it runs").is_empty() {
                break 'seen orphan;
            }
        }
        let again = watcher.batch_execute("DROP DATABASE IF EXISTS shop").await;
        again.expect("nobody is connected to it");
    };
    schema::prepare(&postgres, &plan).await.expect("the target can be prepared");
    orphan.await.expect("it ends").expect("the orphan created it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_word_of_a_killed_run_does_not_mark_a_table_of_the_next_as_loaded() {
    let (_source, _target, postgres, _session) = shop(Settings::default()).await;
    let plan = prepared(&postgres).await;
    let target = postgres.connect_target("test").await.expect("the target answers");
    let table = plan.tables.first().expect("there is a table");
    let (killed, next) = ("0/10".parse(), "0/20".parse());
    let (killed, next) = (killed.expect("a position"), next.expect("a position"));
    let state = "SELECT state FROM headgate.tables";
    for (statement, expected) in [
        (records::begin_table(&postgres, table, next), "copying"),
        (records::loaded(&postgres, table, killed), "copying"),
        (records::indexed(&postgres, table), "copying"),
        (records::loaded(&postgres, table, next), "loaded"),
        (records::indexed(&postgres, table), "indexed"),
        (records::loaded(&postgres, table, next), "indexed"),
    ] {
        target.batch_execute(&statement).await.expect(&statement);
        assert_eq!(lines(&target, state).await, [expected], "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_gone_lets_the_copy_be_tried_again_with_another() {
    let (_source, target, postgres, _session) = shop(Settings::default()).await;
    prepared(&postgres).await;
    let from_newer = migration("m2", &target, &target, Settings::default());
    for postgres in [&postgres, &from_newer] {
        let Err(failure) = ClusterPair::open(postgres, "00000003-0000001B-1").await else {
            panic!("there was a snapshot of this name");
        };
        assert_eq!(failure.kind(), Kind::Transient, "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_loses_a_connection_goes_on_with_another() {
    let (_source, _target, postgres, _session) = shop(Settings::default()).await;
    let plan = prepared(&postgres).await;
    let locker = postgres.connect_target("test").await.expect("the target answers");
    locker.batch_execute("BEGIN; LOCK TABLE public.orders IN ACCESS EXCLUSIVE MODE").await.expect("it is locked");
    let watching = postgres.connect_target("test").await.expect("the target answers");
    let ending = async {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE application_name = 'headgate m1 copy' AND wait_event_type = 'Lock'";
        while watching.query(end, &[]).await.expect("the target answers").is_empty() {}
        locker.batch_execute("ROLLBACK").await.expect("it is free");
    };
    let ending = tokio::time::timeout(Duration::from_mins(1), ending);
    let copying = load::run(&postgres, &plan, Arc::default(), CancellationToken::new());
    let (copied, ended) = tokio::join!(copying, ending);
    ended.expect("the copy waits for the lock");
    copied.expect("the copy comes to its end");
    assert_equal(&postgres, &plan).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_copy_ends_without_an_error_and_goes_on_later() {
    let (_source, _target, postgres, _session) = shop(Settings::default()).await;
    let plan = prepared(&postgres).await;
    let stop = CancellationToken::new();
    stop.cancel();
    load::run(&postgres, &plan, Arc::new(Progress::default()), stop).await.expect("a stop is no failure");
    copied(&postgres, &plan).await;
    assert_equal(&postgres, &plan).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_blocks_the_start_of_the_stream_is_named() {
    let settings = Settings { slot_create_timeout: Duration::from_millis(50), ..Settings::default() };
    let (source, _target, postgres, _session) = shop(settings).await;
    let plan = prepared(&postgres).await;
    let writer = source.connect("shop").await;
    writer.batch_execute("BEGIN; DELETE FROM keyless WHERE a = 1").await.expect("the writer writes");
    let pid: i32 = writer.query_one("SELECT pg_backend_pid()", &[]).await.expect("it answers").get(0);
    let failure = load::run(&postgres, &plan, Arc::default(), CancellationToken::new())
        .await
        .expect_err("the stream cannot start");
    assert!(failure.full_text().contains(&format!("pid {pid}")), "{failure}");
    writer.batch_execute("ROLLBACK").await.expect("the writer ends");
    copied(&postgres, &plan).await;
    assert_equal(&postgres, &plan).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_fence_refuses_every_writer_until_it_is_lifted() {
    let (source, _target, postgres, _session) = shop(Settings::default()).await;
    let plan = plan::read(&postgres).await.expect("the catalogue can be read");
    let limit = Duration::from_secs(5);
    let ready = fence::warm_up(&postgres, &plan).await.expect("nothing blocks the fence");
    let raised = fence::raise(Some(ready), &postgres, &plan, "t1", limit).await.expect("the fence goes up");

    let client = source.connect("shop").await;
    let read = lines(&client, "SELECT count(*)::text FROM orders").await;
    assert_eq!(read, ["3000"], "reads go on under the barrier");
    client.batch_execute("SET lock_timeout = '50ms'").await.expect("the session works");
    let held = client.batch_execute("DELETE FROM keyless").await.expect_err("writers wait under the barrier");
    assert_eq!(held.code().map(SqlState::code), Some("55P03"));

    fence::seal(raised.fence, &["SELECT 1".to_owned()]).await.expect("the refusal is durable");
    let writes = [
        "INSERT INTO orders (customer) VALUES (1)",
        "UPDATE customers SET name = 'x' WHERE id = 1",
        "DELETE FROM keyless",
        "TRUNCATE events",
        "INSERT INTO events VALUES ('2024-01-02', 99999)",
        "DELETE FROM events_rest",
        "INSERT INTO \"we\"\"ird ü\".\"new\nline; DROP TABLE x; --\" VALUES (77)",
        "INSERT INTO happy (name) VALUES ('x')",
    ];
    for write in writes {
        let refused = client.batch_execute(write).await.expect_err(write);
        assert_eq!(refused.code().map(SqlState::code), Some("25006"), "{write}");
    }
    client
        .batch_execute("BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM keyless WHERE a = 1; ROLLBACK")
        .await
        .expect("a replica passes");
    fence::lift(&postgres).await.expect("the fence comes down");
    fence::lift(&postgres).await.expect("there is nothing left to lift");
    client.batch_execute("DELETE FROM keyless WHERE a = 1").await.expect("writers go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_that_is_dropped_leaves_no_trace_and_one_that_is_blocked_names_the_writer() {
    let (source, _target, postgres, client) = shop(Settings::default()).await;
    let plan = plan::read(&postgres).await.expect("the catalogue can be read");
    let raised = fence::raise(None, &postgres, &plan, "t1", Duration::from_secs(5)).await.expect("it goes up");
    fence::drop_fence(raised.fence).await.expect("it comes down");
    client.batch_execute("DELETE FROM keyless WHERE a = 1").await.expect("writers go on");

    client.batch_execute("BEGIN; DELETE FROM keyless WHERE a = 2").await.expect("the writer writes");
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.expect("it answers").get(0);
    let Err(failure) = fence::raise(None, &postgres, &plan, "t2", Duration::from_millis(100)).await else {
        panic!("the fence went up over an open write");
    };
    assert!(failure.full_text().contains(&format!("pid {pid}")), "{failure}");
    let other = source.connect("shop").await;
    other.batch_execute("DELETE FROM orders WHERE id = 1").await.expect("a failed fence holds nobody");
    client.batch_execute("COMMIT").await.expect("the writer commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_that_was_in_doubt_cannot_land_after_the_fence_was_lifted() {
    let (_source, _target, postgres, client) = shop(Settings::default()).await;
    let plan = plan::read(&postgres).await.expect("the catalogue can be read");
    let raised = fence::raise(None, &postgres, &plan, "t1", Duration::from_secs(5)).await.expect("it goes up");
    fence::lift(&postgres).await.expect("the fence comes down");
    fence::seal(raised.fence, &["SELECT 1".to_owned()]).await.expect_err("the session that could seal is gone");
    client.batch_execute("SET lock_timeout = '50ms'; DELETE FROM keyless WHERE a = 1").await.expect("writers go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_reader_does_not_keep_a_lifted_fence_refusing_writes() {
    let (source, _target, postgres, client) = shop(Settings::default()).await;
    let plan = plan::read(&postgres).await.expect("the catalogue can be read");
    let limit = Duration::from_secs(5);
    let sealed = async |token| {
        let raised = fence::raise(None, &postgres, &plan, token, limit).await?;
        fence::seal(raised.fence, &["SELECT 1".to_owned()]).await
    };
    sealed("t1").await.expect("the refusal is durable");
    let reader = source.connect("shop").await;
    reader.batch_execute("BEGIN; SELECT FROM orders LIMIT 1").await.expect("reads go on");
    fence::lift(&postgres).await.expect("the fence comes down");
    client
        .batch_execute("DELETE FROM orders WHERE id = 1; DELETE FROM keyless WHERE a = 1")
        .await
        .expect("writers go on while the reader reads");
    let Err(refused) = fence::warm_up(&postgres, &plan).await else {
        panic!("the refusal was readied over a trigger that still stands");
    };
    assert!(refused.full_text().contains("orders"), "{refused}");
    client.batch_execute("DELETE FROM orders WHERE id = 2").await.expect("writers still go on");
    reader.batch_execute("COMMIT").await.expect("it ends");
    sealed("t2").await.expect("the next fence is durable");
    let write = "DELETE FROM orders WHERE id = 3";
    let refused = client.batch_execute(write).await.expect_err(write);
    assert_eq!(refused.code().map(SqlState::code), Some("25006"));
    clean::run(&postgres).await.expect("it is cleaned up");
    client.batch_execute(write).await.expect_err("a sealed fence outlives the migration");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_locks_in_another_order_is_let_through_and_the_fence_goes_up_after_it() {
    let (source, _target, postgres, client) = shop(Settings::default()).await;
    let plan = plan::read(&postgres).await.expect("the catalogue can be read");
    let writer = source.connect("shop").await;
    writer.batch_execute("BEGIN; DELETE FROM keyless WHERE a = 1").await.expect("the writer writes");
    let raising = fence::raise(None, &postgres, &plan, "t1", Duration::from_secs(5));
    let writing = async {
        // By then the fence has looked for a deadlock, and the writer would be the one to find it. A fence that may not
        // set when it looks does so after a second, as a writer does that waits for as long.
        let ms = if with_least_rights() { 300 } else { 30 };
        let waits = format!(
            "SELECT FROM pg_locks WHERE relation = 'keyless'::regclass
             AND waitstart < clock_timestamp() - interval '{ms} ms'"
        );
        while client.query(&waits, &[]).await.expect("it runs").is_empty() {}
        writer.batch_execute("DELETE FROM orders WHERE id = 1; COMMIT").await
    };
    let (raised, written) = tokio::join!(raising, writing);
    written.expect("the writer is no victim");
    let raised = raised.expect("the fence goes up after it");
    fence::drop_fence(raised.fence).await.expect("it comes down");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_on_the_source_since_the_plan_stops_the_fence_and_is_named() {
    let (source, _target, postgres, client) = shop(Settings::default()).await;
    let plan = prepared(&postgres).await;
    let limit = Duration::from_secs(5);
    for (change, undo, name) in [
        (
            "CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
            "DROP TABLE events_2025",
            "table public.events_2025 is new",
        ),
        (
            "ALTER TABLE keyless ADD COLUMN late int",
            "ALTER TABLE keyless DROP COLUMN late",
            "table public.keyless differs in column \"late\" integer",
        ),
        ("ALTER TABLE keyless ALTER d TYPE interval(3)", "ALTER TABLE keyless ALTER d TYPE interval", "interval(3)"),
        (
            "ALTER TABLE orders REPLICA IDENTITY FULL",
            "ALTER TABLE orders REPLICA IDENTITY DEFAULT",
            "table public.orders has another replica identity",
        ),
        ("CREATE SEQUENCE fresh", "DROP SEQUENCE fresh", "sequence public.fresh is new"),
        (
            "DROP TABLE empty_of_columns; CREATE TABLE empty_of_columns ();
             ALTER TABLE empty_of_columns REPLICA IDENTITY FULL",
            "ALTER PUBLICATION headgate_m1 ADD TABLE ONLY empty_of_columns",
            "is not published",
        ),
    ] {
        postgres.warm_up(&plan, None).await.expect("nothing is in the way");
        client.batch_execute(change).await.expect(change);
        source.give_away().await;
        let raised = postgres.raise_fence(&plan, "t1", limit).await;
        let mut fence = raised.expect("nobody writes").fence;
        let Err(failure) = postgres.confirm_fence(&plan, &mut fence).await else {
            panic!("the fence held over: {change}");
        };
        assert!(failure.full_text().contains(name), "{failure}");
        postgres.drop_fence(fence, 1).await.expect("dropped");
        let Err(failure) = fence::warm_up(&postgres, &plan).await else {
            panic!("a cutover could begin over: {change}");
        };
        assert!(failure.full_text().contains(name), "{failure}");
        client.batch_execute(undo).await.expect(undo);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_counter_of_the_target_is_past_the_sources() {
    let (_source, _target, postgres, client) = shop(Settings::default()).await;
    let plan = prepared(&postgres).await;
    client
        .batch_execute("SELECT setval('orders_id_seq', 2147483640); SELECT nextval('customers_id_seq')")
        .await
        .expect("the counters move");
    let source = postgres.connect_source("test").await.expect("the source answers");
    let target = postgres.connect_target("test").await.expect("the target answers");
    for _ in 0..2 {
        counters::advance(&postgres, &plan, &source, &target).await.expect("the counters advance");
    }
    let next = lines(
        &target,
        "SELECT nextval('public.customers_id_seq')::text UNION ALL SELECT nextval('public.loose')::text
         UNION ALL SELECT nextval('public.orders_id_seq')::text",
    )
    .await;
    // The last one has seven values left, of which the gap takes half.
    assert_eq!(next, ["30002", "-30060", "2147483644"]);
}

fn found<'a>(checks: &'a [Check], name: &str, level: Level) -> Vec<&'a Check> {
    checks.iter().filter(|check| check.name == name && check.level == level).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_can_say_no_is_told_at_once_with_a_statement_that_mends_it() {
    let source = Server::start(14, "wal_level=replica\nmax_prepared_transactions=2");
    let target = Server::start(18, "");
    for server in [&source, &target] {
        server.connect("postgres").await.batch_execute("CREATE DATABASE shop").await.expect("it can be created");
    }
    let session = source.connect("shop").await;
    session
        .batch_execute(
            "CREATE TABLE \"no key\" (a int); CREATE TABLE taken (a int PRIMARY KEY);
             CREATE UNLOGGED TABLE fleeting (a int PRIMARY KEY); SELECT lo_create(0);
             CREATE TABLE late (a int PRIMARY KEY DEFERRABLE);
             CREATE TABLE tr (a int PRIMARY KEY);
             CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER t AFTER INSERT ON tr FOR EACH ROW EXECUTE FUNCTION f();
             ALTER TABLE tr ENABLE ALWAYS TRIGGER t;
             CREATE SEQUENCE short MAXVALUE 100; SELECT nextval('short');
             CREATE SEQUENCE down INCREMENT -2 MINVALUE -100; SELECT nextval('down'), nextval('down');
             CREATE SEQUENCE long INCREMENT -1; SELECT nextval('long');
             CREATE MATERIALIZED VIEW sums AS SELECT count(*) FROM tr;
             CREATE ROLE same LOGIN PASSWORD 'md5a3556571e93b0d20722ba62be61e8c2d';
             CREATE ROLE other LOGIN PASSWORD 'x'",
        )
        .await
        .expect("the trouble can be made");
    for statement in [
        "CREATE SUBSCRIPTION writes CONNECTION 'port=1' PUBLICATION p WITH (connect = false)",
        "ALTER SUBSCRIPTION writes ENABLE",
    ] {
        session.batch_execute(statement).await.expect("it subscribes");
    }
    target
        .connect("shop")
        .await
        .batch_execute(
            "CREATE TABLE taken (b text); CREATE ROLE other LOGIN PASSWORD 'y';
             CREATE ROLE same LOGIN PASSWORD 'md5a3556571e93b0d20722ba62be61e8c2d'",
        )
        .await
        .expect("it can be made");
    let postgres = migration("m1", &source, &target, Settings::default());
    session
        .batch_execute("BEGIN; INSERT INTO taken VALUES (1); PREPARE TRANSACTION 'it''s open'")
        .await
        .expect("it can be prepared");
    let checks = preflight::run(&postgres).await.expect("the checks run");
    for (name, level, evidence, fix) in [
        ("wal_level", Level::Error, "replica", "ALTER SYSTEM SET wal_level = 'logical'"),
        ("replica_identity", Level::Error, "public.\"no key\"", "ALTER TABLE public.\"no key\" REPLICA IDENTITY FULL"),
        ("unlogged_tables", Level::Error, "public.fleeting", "ALTER TABLE public.fleeting SET LOGGED"),
        ("deferrable_key", Level::Error, "public.late", "ALTER TABLE public.late REPLICA IDENTITY FULL"),
        ("always_triggers", Level::Error, "public.tr", "ALTER TABLE public.tr ENABLE TRIGGER t"),
        ("prepared_transactions", Level::Error, "it''s open", "ROLLBACK PREPARED 'it''s open'"),
        ("target_objects", Level::Error, "public.taken", "DROP TABLE IF EXISTS public.taken CASCADE"),
        ("large_objects", Level::Error, "1 large objects", ""),
        ("counters", Level::Warning, "public.short has 99 values left", ""),
        ("counters", Level::Warning, "public.down has 48 values left", ""),
        ("accounts", Level::Warning, "other: it has another password", ""),
        ("materialized_views", Level::Warning, "public.sums", "REFRESH MATERIALIZED VIEW public.sums"),
        ("subscriptions", Level::Error, "writes", "ALTER SUBSCRIPTION writes DISABLE"),
        ("superuser_applications", Level::Ok, "no application", ""),
        ("source_reachable", Level::Ok, "version 14", ""),
        ("target_reachable", Level::Ok, "version 18", ""),
        ("encoding", Level::Ok, "UTF8", ""),
    ] {
        let findings = found(&checks, name, level);
        assert!(
            findings.iter().any(|check| check.evidence.contains(evidence) && check.fix == fix),
            "{name}: {findings:#?}"
        );
    }
    assert_eq!(found(&checks, "counters", Level::Warning).len(), 2);
    assert_eq!(found(&checks, "accounts", Level::Warning).len(), 1);
    // What a fix says mends it, as it stands.
    for check in checks.iter().filter(|check| !check.fix.is_empty() && check.level == Level::Error) {
        let on_target = check.name == "target_objects";
        let server = if on_target { &target } else { &source };
        let outcome = server.connect("shop").await.batch_execute(&check.fix).await;
        outcome.unwrap_or_else(|error| panic!("{}: {error:?}", check.fix));
    }
    let left: Vec<_> = preflight::run(&postgres)
        .await
        .expect("the checks run")
        .into_iter()
        .filter(|check| check.level == Level::Error)
        .map(|check| check.name)
        .collect();
    assert_eq!(left, ["wal_level", "large_objects"], "a restart and a decision remain");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_cluster_or_a_wrong_password_is_a_finding_and_the_other_side_is_still_checked() {
    let source = Server::start(14, "");
    let session = source.connect("postgres").await;
    session.batch_execute("CREATE DATABASE shop").await.expect("it can be created");
    session.batch_execute("CREATE ROLE mover LOGIN PASSWORD 'right'").await.expect("it can be created");
    source.ask_for_passwords_of("mover");
    let nowhere = Endpoint { port: 1, ..source.endpoint("shop") };
    let mover =
        |password: &str| Endpoint { user: "mover".into(), password: Some(password.into()), ..source.endpoint("shop") };
    let run = |from: Endpoint, to: Endpoint| async move {
        let postgres = between("m1", from, to);
        preflight::run(&postgres).await.expect("the checks run")
    };
    let checks = run(source.endpoint("shop"), nowhere.clone()).await;
    assert_eq!(found(&checks, "target_reachable", Level::Error).len(), 1);
    assert_eq!(found(&checks, "wal_level", Level::Ok).len(), 1);

    let checks = run(mover("wrong"), source.endpoint("other")).await;
    let refused = found(&checks, "source_reachable", Level::Error);
    assert!(refused.iter().any(|check| check.evidence.contains("28P01")), "{refused:?}");
    assert_eq!(found(&checks, "target_reachable", Level::Ok).len(), 1);
    assert!(!format!("{checks:?}").contains("wrong"), "a password is never shown");

    let checks = run(mover("right"), nowhere).await;
    let rights = found(&checks, "source_rights", Level::Error);
    assert!(rights.iter().any(|check| check.fix == "ALTER ROLE \"mover\" REPLICATION"), "{rights:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cleaning_up_leaves_nothing_of_a_migration_on_either_side() {
    let (_source, _target, postgres, session) = shop(Settings::default()).await;
    let plan = prepared(&postgres).await;
    copied(&postgres, &plan).await;
    clean::run(&postgres).await.expect("it is cleaned up");
    clean::run(&postgres).await.expect("there is nothing left to clean");
    let left = "SELECT slot_name::text FROM pg_replication_slots UNION ALL SELECT pubname::text FROM pg_publication
                UNION ALL SELECT nspname::text FROM pg_namespace WHERE nspname = 'headgate'";
    assert_eq!(lines(&session, left).await, Vec::<String>::new());
    let target = postgres.connect_target("test").await.expect("the target answers");
    assert_eq!(lines(&target, left).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_would_refuse_is_told_before_anything_is_copied_and_the_trial_leaves_nothing() {
    let (source, target, _, client) = shop(Settings::default()).await;
    // Both were removed in version 15.
    client
        .batch_execute(
            "CREATE VIEW in_backup AS SELECT pg_is_in_backup() AS yes;
             CREATE VIEW since AS SELECT pg_backup_start_time() AS at;
             ALTER TABLE orders ADD COLUMN gone int; CREATE UNIQUE INDEX ti ON orders (id);
             ALTER TABLE orders REPLICA IDENTITY USING INDEX ti; DROP INDEX ti;
             CREATE TABLE made (a int, b int GENERATED ALWAYS AS (a + 1) STORED PRIMARY KEY)",
        )
        .await
        .expect("version 14 has them");
    let postgres = migration("m1", &source, &target, Settings::default());
    let checks = preflight::run(&postgres).await.expect("it runs");
    let refused = found(&checks, "schema_trial", Level::Error);
    for name in ["in_backup", "since"] {
        assert!(refused.iter().any(|check| check.evidence.contains(name)), "{name}: {refused:#?}");
    }
    assert_eq!(refused.len(), 2, "{refused:#?}");
    // Each remedy is run, and ends its finding.
    let identities = found(&checks, "replica_identity", Level::Error);
    assert_eq!(identities.len(), 2, "{identities:#?}");
    for check in identities {
        client.batch_execute(&check.fix).await.expect(&check.fix);
    }
    client.batch_execute("DROP VIEW in_backup; DROP VIEW since").await.expect("dropped");
    let checks = preflight::run(&postgres).await.expect("it runs");
    for name in ["schema_trial", "replica_identity"] {
        assert_eq!(found(&checks, name, Level::Error).len(), 0, "{name}");
        assert_eq!(found(&checks, name, Level::Ok).len(), 1, "{name}");
    }
    let there = target.connect("postgres").await;
    let left = lines(&there, "SELECT datname::text FROM pg_database WHERE datname LIKE 'headgate%'");
    assert_eq!(left.await, Vec::<String>::new());
}

/// The checks of what the migrator's roles may do.
const RIGHTS: [&str; 6] =
    ["source_rights", "source_sessions", "target_database", "target_rights", "target_origins", "target_roles"];

#[tokio::test(flavor = "multi_thread")]
async fn a_migrator_that_may_not_read_passwords_or_use_origins_is_told_the_least_grant_that_ends_it() {
    let (source, target, _, client) = shop(Settings::default()).await;
    let there = target.connect("postgres").await;
    for (session, more) in [(&client, "REPLICATION"), (&there, "CREATEDB CREATEROLE")] {
        session.batch_execute(&format!("CREATE ROLE mover LOGIN {more}")).await.expect("created");
    }
    client.batch_execute("GRANT shop_owner TO mover").await.expect("granted");
    there.batch_execute("CREATE ROLE shop_owner LOGIN PASSWORD 'another'").await.expect("created");
    let postgres = between("m1", source.endpoint_as("mover", "shop"), target.endpoint_as("mover", "shop"));
    let accounts = postgres.accounts().await.expect("it can be asked");
    let owner = accounts.iter().find(|account| account.name == "shop_owner");
    let owner = owner.expect("it can log in");
    assert!(matches!(&owner.verdict, Verdict::Unproved { .. }), "nobody has read its password: {owner:?}");
    let lacking = async || -> Vec<Check> {
        let checks = preflight::run(&postgres).await.expect("it runs");
        let checks = checks.into_iter();
        checks.filter(|check| check.level != Level::Ok && RIGHTS.contains(&check.name.as_str())).collect()
    };
    // The database comes first, then what is granted inside of it, then what can be tried with that.
    let mut seen = Vec::new();
    for _ in 0..4 {
        for check in lacking().await {
            let broad = ["ALL FUNCTIONS", "SUPERUSER", "GRANT postgres ", "GRANT \"postgres\" "];
            assert!(!broad.iter().any(|word| check.fix.contains(word)), "{}", check.fix);
            let server = if check.name.starts_with("target") { &target } else { &source };
            let database = if check.name == "target_database" { "postgres" } else { "shop" };
            let session = server.connect(database).await;
            session.batch_execute(&check.fix).await.expect(&check.fix);
            let gives = check.fix.contains("GRANT CREATE ON DATABASE \"shop\" TO \"mover\"");
            let owner = check.evidence.contains("owner of the database");
            // On the source nobody is to own the database.
            let needed = owner || check.name.starts_with("source");
            assert!(!gives || needed, "who owns it may create there: {check:#?}");
            assert!(!owner || gives, "who owns it may create there: {check:#?}");
            seen.push(check.evidence);
        }
    }
    assert_eq!(lacking().await, Vec::<Check>::new(), "after {seen:#?}");
    for word in ["mark", "owner of the database", "schema public", "own the table"] {
        let reported = seen.iter().any(|evidence| evidence.contains(word));
        assert!(reported, "{word}: {seen:#?}");
    }
}

/// PostGIS does so with `spatial_ref_sys`. What `pg_extension_config_dump` writes down is written here by hand, because the
/// servers have no such extension.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_table_that_an_extension_declares_as_the_users_own_arrive_and_are_fenced() {
    let (source, target, _, client) = shop(Settings::default()).await;
    let extension = "CREATE EXTENSION hstore;
        CREATE TABLE srs (id serial PRIMARY KEY, name text);
        ALTER EXTENSION hstore ADD TABLE srs; ALTER EXTENSION hstore ADD SEQUENCE srs_id_seq;
        UPDATE pg_extension SET extconfig = ARRAY['srs'::regclass::oid], extcondition = ARRAY['']
        WHERE extname = 'hstore'";
    target.make_database("shop").await;
    let there = target.connect("shop").await;
    for session in [&client, &there] {
        session.batch_execute(extension).await.expect("it can be made");
        let own = "INSERT INTO srs (id, name) VALUES (0, 'brought along')";
        session.batch_execute(own).await.expect("inserted");
    }
    client.batch_execute("INSERT INTO srs (name) VALUES ('mine'), ('yours')").await.expect("inserted");
    let postgres = migration("m1", &source, &target, Settings::default());
    source.mend(&target, &postgres).await;
    let plan = prepared(&postgres).await;
    assert!(plan.tables.iter().any(|table| table.name == "srs"), "it is not fenced");
    assert!(plan.counters.iter().any(|counter| counter.name == "srs_id_seq"));
    copied(&postgres, &plan).await;
    let rows = lines(&there, "SELECT id || name FROM srs ORDER BY 1").await;
    assert_eq!(rows, ["0brought along", "1mine", "2yours"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_the_fence_does_not_stop_is_named_under_the_barrier_and_a_setting_that_differs_before_it() {
    let (source, _target, postgres, client) = shop(Settings::default()).await;
    let there = source.connect("postgres").await;
    there.batch_execute("ALTER SYSTEM SET TimeZone = 'America/New_York'").await.expect("set");
    there.batch_execute("SELECT pg_reload_conf()").await.expect("read");
    let checks = preflight::run(&postgres).await.expect("it runs");
    let differing = found(&checks, "client_settings", Level::Warning);
    let zone = differing.iter().find(|check| check.evidence.contains("TimeZone"));
    let zone = zone.unwrap_or_else(|| panic!("{differing:#?}"));
    client.batch_execute(&zone.fix).await.expect(&zone.fix);
    let plan = prepared(&postgres).await;
    let carried = postgres.connect_target("test").await.expect("connected");
    let settings = lines(&carried, "SELECT unnest(setconfig) FROM pg_db_role_setting").await;
    assert!(settings.contains(&"TimeZone=America/New_York".to_owned()), "{settings:?}");
    let superuser = source.connect("shop").await;
    superuser
        .batch_execute("SET application_name = 'psql'; BEGIN; SELECT txid_current()")
        .await
        .expect("it has a number");
    postgres.warm_up(&plan, None).await.expect("nothing blocks the fence");
    let limit = Duration::from_secs(5);
    let raised = postgres.raise_fence(&plan, "t1", limit).await;
    let mut fence = raised.expect("it holds no lock").fence;
    let refused = postgres.confirm_fence(&plan, &mut fence).await;
    let text = refused.expect_err("it may write behind the fence").full_text();
    let pid = lines(&superuser, "SELECT pg_backend_pid()::text").await;
    assert!(text.contains(&format!("pid {}", pid[0])), "{text}");
    postgres.drop_fence(fence, 1).await.expect("dropped");
    superuser.batch_execute("COMMIT").await.expect("ended");
    postgres.warm_up(&plan, None).await.expect("nothing blocks the fence");
    let raised = postgres.raise_fence(&plan, "t2", limit).await;
    let mut fence = raised.expect("nobody writes").fence;
    postgres.confirm_fence(&plan, &mut fence).await.unwrap_or_else(|error| panic!("{}", error.full_text()));
    postgres.drop_fence(fence, 1).await.expect("dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_overtaken_by_a_later_cutover_neither_seals_nor_lifts() {
    let (source, _target, postgres, client) = shop(Settings::default()).await;
    let root = source.connect("shop").await;
    let later = "INSERT INTO headgate.switches (migration, route, source, target, epoch, journal, switched)
        VALUES ('m1', 'shop', 'blue', 'green', 9, 'j', true)";
    let overtake = async || root.batch_execute(later).await.expect("written");
    whole::superseded(&postgres, "m1", overtake).await;
    client.batch_execute("DELETE FROM keyless WHERE a = 1").await.expect("writers go on");
}
