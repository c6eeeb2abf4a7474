//! Follows real change streams from a real source to a real target.

mod servers;

use std::sync::Arc;
use std::time::Duration;

use migrator::error::Result;
use migrator::follow::Follow;
use migrator::model::plan::{Plan, Settings};
use migrator::model::progress::Progress;
use migrator::postgres::records::install_records;
use migrator::postgres::stream::Replication;
use migrator::postgres::{Endpoint, Lsn, PostgresDatabase, follow, plan, schema};
use servers::postgres::{Server, migration};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

const TIMEOUT: Duration = Duration::from_mins(2);

/// Two databases with the same schema, and a stream between them.
struct World {
    source: Client,
    target: Client,
    postgres: PostgresDatabase,
    plan: Plan,
    source_server: Server,
    _target_server: Server,
}

impl World {
    /// Runs `schema` on both sides and starts the stream after it.
    async fn new(schema: &str) -> Self {
        let (source_server, target_server) = (Server::start(14, ""), Server::start(18, ""));
        for server in [&source_server, &target_server] {
            let admin = server.connect("postgres").await;
            admin.batch_execute("CREATE DATABASE shop").await.expect("the database is created");
        }
        let source = source_server.connect("shop").await;
        let target = target_server.connect("shop").await;
        source.batch_execute(schema).await.expect("the schema fits the source");
        target.batch_execute(schema).await.expect("the schema fits the target");
        let postgres = migration("m", &source_server, &target_server, Settings::default());
        let plan = plan::read(&postgres).await.expect("the plan is read");
        let mover = postgres.connect_source("test").await.expect("connected");
        schema::publish(&postgres, &plan, &mover).await.expect("the publication is created");
        let mut creator = Replication::connect(postgres.source(), "test").await.expect("connected");
        let made =
            creator.create_slot(&postgres.slot(), false, Duration::from_secs(10)).await.expect("the slot is created");
        let mover = postgres.connect_target("test").await.expect("connected");
        install_records(&mover).await.expect("the records are there");
        let start = made.consistent_point.to_string();
        for table in &plan.tables {
            target
                .execute(
                    "INSERT INTO headgate.tables VALUES ('m', $1, $2, $3::text::pg_lsn, 'indexed')",
                    &[&table.schema, &table.name, &start],
                )
                .await
                .expect("recorded");
        }
        target
            .execute("INSERT INTO headgate.progress VALUES ('m', $1::text::pg_lsn)", &[&start])
            .await
            .expect("recorded");
        Self { source, target, postgres, plan, source_server, _target_server: target_server }
    }

    fn follow(&self) -> Running {
        self.follow_with(Follow::default())
    }

    fn follow_with(&self, handle: Follow<Lsn>) -> Running {
        let stop = CancellationToken::new();
        let progress = Arc::new(Progress::default());
        let ended = CancellationToken::new();
        let (postgres, plan, reported, counted, stopped, ending) = (
            self.postgres.clone(),
            self.plan.clone(),
            handle.clone(),
            Arc::clone(&progress),
            stop.clone(),
            ended.clone().drop_guard(),
        );
        let task = tokio::spawn(async move {
            let outcome = follow::run(&postgres, &plan, reported, counted, stopped).await;
            if let Err(error) = &outcome {
                eprintln!("the follower ended: {error}");
            }
            drop(ending);
            outcome
        });
        Running { handle, progress, stop, ended, task }
    }

    /// Runs SQL on the source.
    async fn run(&self, sql: &str) {
        self.source.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Follows until everything that is on the source is on the target.
    async fn catch_up(&self) -> Duration {
        let running = self.follow();
        let token = format!("{:x}", rand::random::<u64>());
        let took = self.until_marker(&running, &token).await;
        running.stop().await.expect("the follower stops");
        took
    }

    async fn until_marker(&self, running: &Running, token: &str) -> Duration {
        let begin = Instant::now();
        self.run(&format!("SELECT pg_logical_emit_message(true, 'headgate', 'marker:{token}')")).await;
        tokio::select! {
            waited = running.handle.wait_marker(token, TIMEOUT) => waited.expect("it is applied"),
            () = running.ended.cancelled() => panic!("the follower ended before {token}"),
        }
        begin.elapsed()
    }

    async fn assert_equal(&self) {
        for table in &self.plan.tables {
            let name = migrator::postgres::sql::relation(table);
            let source = contents(&self.source, &name).await;
            let target = contents(&self.target, &name).await;
            assert_eq!(source.len(), target.len(), "{name} has other rows");
            for (source, target) in source.iter().zip(&target) {
                assert_eq!(source, target, "{name} differs");
            }
        }
    }
}

async fn contents(client: &Client, table: &str) -> Vec<String> {
    let query = format!("SELECT whole_row::text FROM {table} AS whole_row ORDER BY 1");
    let rows = client.query(&query, &[]).await.expect("the table can be read");
    rows.iter().map(|row| row.get(0)).collect()
}

struct Running {
    handle: Follow<Lsn>,
    progress: Arc<Progress>,
    stop: CancellationToken,
    ended: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Running {
    async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.task.await.expect("the follower does not panic")
    }
}

const TYPES: &str = r#"
CREATE TYPE mood AS ENUM ('sad', 'it''s, "ok"');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN numbers AS int[];
CREATE TABLE types (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    i2 int2, i4 int4, i8 int8, n numeric, n2 numeric(10,2), f4 float4, f8 float8, m money,
    t text, v varchar(20), c char(5), ch "char", nm name, b bytea, bo bool,
    d date, ti time, tz timetz, ts timestamp, tstz timestamptz(3), iv interval,
    u uuid, j json, jb jsonb, x xml, bi bit(3), vb varbit, ip inet, ci cidr, ma macaddr, ma8 macaddr8,
    po point, li line, ls lseg, bx box, pa path, pg polygon, ci2 circle,
    tsv tsvector, tsq tsquery, r int4range, rs tstzrange, mr int4multirange, o oid, rc regclass, l pg_lsn,
    e mood, dm positive, p pair, ai int[], at text[], ae mood[], ap pair[], ab box[], dn numbers, adn numbers[],
    iv2 int2vector, xi xid, g int GENERATED ALWAYS AS (i4 - 2) STORED);
"#;

const TYPE_ROW: &str = r#"(
    -32768, 2147483647, -9223372036854775808, 'NaN', 12345678.90, 1.1e-38, 0.1, '12.34',
    E'q"uo\\te''s\n\t{},NULL é', 'NULL', 'ab', '\x41', 'n"ame', '\x00ff5c22', true,
    '4713-01-01 BC', '23:59:59.999999', '12:00:00-15:30', 'infinity', '2024-02-29 12:00:00.1234+03',
    '1 year -2 mons 3 days -04:05:06.789', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a" : 1, "a":2}',
    '{"x": null, "y": "\\"}', '<a b="c">&lt;</a>', B'101', B'', '::1/64', '10.0.0.0/8',
    '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', '(1.5,-2)', '{1,2,3}', '[(0,0),(1,1)]', '(1,1),(0,0)',
    '[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))', '<(1,2),3>', '''it''''s'':1A b', 'a & !b', '[1,5)',
    '[2020-01-01 00:00+00,)', '{[1,3),[5,7)}', 4294967295, 'pg_class', '16/B374D848',
    'it''s, "ok"', 7, '(1,"x,""y\\")', '[0:1]={1,NULL}', '{"a,b",NULL,"NULL","","\\","\""}',
    '{sad,"it''s, \"ok\""}', '{"(1,\"a\"\"b\")",NULL}', '{(1,1),(0,0);(2,2),(1,1)}', '{1,2}',
    '{"{1,2}",NULL}', '1 2 3', '123')"#;

const TYPE_COLUMNS: &str = "i2,i4,i8,n,n2,f4,f8,m,t,v,c,ch,nm,b,bo,d,ti,tz,ts,tstz,iv,u,j,jb,x,bi,vb,ip,ci,ma,ma8,
    po,li,ls,bx,pa,pg,ci2,tsv,tsq,r,rs,mr,o,rc,l,e,dm,p,ai,at,ae,ap,ab,dn,adn,iv2,xi";

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_as_it_was() {
    let schema = TYPES;
    let keyless = TYPES.split_once("CREATE TABLE types").expect("there is one").1;
    let keyless = keyless.replace("GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "DEFAULT 0");
    let schema = format!("{schema}CREATE TABLE keyless {keyless}; ALTER TABLE keyless REPLICA IDENTITY FULL;");
    let world = World::new(&schema).await;
    for table in ["types", "keyless"] {
        let insert = format!("INSERT INTO {table} ({TYPE_COLUMNS}) VALUES {TYPE_ROW}");
        world.run(&format!("{insert}; {insert}; INSERT INTO {table} DEFAULT VALUES; {insert}")).await;
    }
    world.catch_up().await;
    world.assert_equal().await;
    for table in ["types", "keyless"] {
        world.run(&format!("UPDATE {table} SET ({TYPE_COLUMNS}) = {TYPE_ROW} WHERE i2 IS NULL")).await;
        world.run(&format!("UPDATE {table} SET t = 'other', bx = NULL")).await;
    }
    world.catch_up().await;
    world.assert_equal().await;
    world.run("DELETE FROM keyless WHERE ctid IN (SELECT ctid FROM keyless LIMIT 2)").await;
    world.run("DELETE FROM types WHERE id < 3").await;
    world.catch_up().await;
    world.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_every_kind_come_to_the_same_rows() {
    let world = World::new(
        r#"
        CREATE TABLE big (id int, part int, note text, blob text, PRIMARY KEY (id, part));
        ALTER TABLE big ALTER blob SET STORAGE EXTERNAL;
        CREATE TABLE longkey (k text PRIMARY KEY, v int);
        ALTER TABLE longkey ALTER k SET STORAGE EXTERNAL;
        CREATE TABLE places (id int PRIMARY KEY, place int UNIQUE, CONSTRAINT far EXCLUDE USING btree (place WITH =));
        CREATE TABLE bag (a int, b text);
        ALTER TABLE bag REPLICA IDENTITY FULL;
        CREATE TABLE full_key (id int PRIMARY KEY, blob text);
        ALTER TABLE full_key REPLICA IDENTITY FULL;
        ALTER TABLE full_key ALTER blob SET STORAGE EXTERNAL;
        CREATE TABLE days (at date, n int, v text, PRIMARY KEY (at, n)) PARTITION BY RANGE (at);
        CREATE TABLE days_1 PARTITION OF days FOR VALUES FROM ('2024-01-01') TO ('2024-07-01');
        CREATE TABLE days_2 PARTITION OF days DEFAULT;
        CREATE TABLE parent (id int PRIMARY KEY);
        CREATE TABLE child (id serial PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE);
        CREATE TABLE "we""ird Table" ("a b" int PRIMARY KEY, "ü\" text);
        CREATE TABLE nothing ();
        CREATE TABLE only_key (id int PRIMARY KEY);
        "#,
    )
    .await;
    let running = world.follow();
    world
        .run(
            "INSERT INTO big SELECT i, i % 3, 'n', repeat(md5(i::text), 200) FROM generate_series(1, 200) i;
             UPDATE big SET note = 'x' WHERE id <= 100;
             UPDATE big SET id = id + 1000 WHERE id <= 50;
             UPDATE big SET note = 'again', part = part + 1 WHERE id > 1010;
             DELETE FROM big WHERE id BETWEEN 60 AND 70;
             INSERT INTO big VALUES (61, 0, 'back', 'small');
             INSERT INTO longkey SELECT repeat(md5(i::text), 80), i FROM generate_series(1, 20) i;
             UPDATE longkey SET v = v + 1;
             UPDATE longkey SET k = 'new' || k WHERE v < 10;
             INSERT INTO places SELECT i, i FROM generate_series(1, 10) i;
             INSERT INTO full_key SELECT i, repeat(md5(i::text), 200) FROM generate_series(1, 20) i;
             INSERT INTO bag SELECT i % 4, 'x' FROM generate_series(1, 20) i;
             INSERT INTO bag VALUES (NULL, NULL), (NULL, NULL);
             INSERT INTO days SELECT '2024-06-01'::date + i, i, 'v' FROM generate_series(1, 60) i;
             INSERT INTO parent SELECT generate_series(1, 10); INSERT INTO child (parent) SELECT generate_series(1, 10);
             INSERT INTO \"we\"\"ird Table\" VALUES (1, 'x'), (2, NULL);
             INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
             INSERT INTO only_key SELECT generate_series(1, 5)",
        )
        .await;
    world.until_marker(&running, "one").await;
    world.assert_equal().await;
    // Across transactions, so that the old rows are on the target already.
    for sql in [
        "UPDATE big SET note = 'later'",
        "UPDATE big SET id = id + 5000, note = 'moved' WHERE id < 150",
        "BEGIN; UPDATE big SET part = part + 10; UPDATE big SET part = part - 10, note = 'home'; COMMIT",
        "BEGIN; UPDATE places SET place = -1 WHERE id = 1; UPDATE places SET place = 1 WHERE id = 2;
         UPDATE places SET place = 2 WHERE id = 1; COMMIT",
        "UPDATE full_key SET id = id + 100",
        "BEGIN; DELETE FROM bag WHERE ctid = (SELECT min(ctid) FROM bag WHERE a = 1);
         UPDATE bag SET b = 'y' WHERE a = 2; INSERT INTO bag VALUES (9, 'n');
         DELETE FROM bag WHERE ctid = (SELECT min(ctid) FROM bag WHERE a IS NULL); COMMIT",
        "UPDATE days SET at = '2024-06-05', v = 'w' WHERE n > 30",
        "DELETE FROM parent WHERE id < 4",
        "UPDATE only_key SET id = id + 10",
        "BEGIN; INSERT INTO only_key VALUES (1); DELETE FROM only_key WHERE id = 1; INSERT INTO only_key VALUES (1); COMMIT",
        "BEGIN; DELETE FROM only_key WHERE id = 11; INSERT INTO only_key VALUES (11); UPDATE only_key SET id = id; COMMIT",
    ] {
        world.run(sql).await;
    }
    world.until_marker(&running, "two").await;
    world.assert_equal().await;
    world
        .run(
            "BEGIN; INSERT INTO bag VALUES (5, 'gone'); TRUNCATE bag; INSERT INTO bag VALUES (6, 'stays');
             TRUNCATE parent CASCADE; INSERT INTO parent VALUES (1); COMMIT;
             TRUNCATE days; INSERT INTO days VALUES ('2024-06-05', 1, 'x')",
        )
        .await;
    world.until_marker(&running, "three").await;
    world.assert_equal().await;
    assert!(running.progress.transactions_applied() > 0);
    running.stop().await.expect("the follower stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_missing_on_the_target_stops_the_follower_with_its_key() {
    let world = World::new("CREATE TABLE t (a int, b text, v text, PRIMARY KEY (a, b))").await;
    world.run("INSERT INTO t SELECT i, 'k' || i, 'secret' FROM generate_series(1, 9) i").await;
    world.catch_up().await;
    world
        .target
        .batch_execute("SET application_name = 'headgate m test'; DELETE FROM t WHERE a = 5; RESET application_name")
        .await
        .expect("whoever is named as the migration's sessions are may write");
    world.run("UPDATE t SET v = 'secret too'").await;
    let failure = world.follow().task.await.expect("no panic").expect_err("it must not go on");
    let text = failure.to_string();
    assert_eq!(failure.kind(), migrator::error::Kind::Fatal, "{text}");
    assert!(text.contains("public.t") && text.contains("a=5, b=k5"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    let applied = contents(&world.target, "t").await;
    assert!(applied.iter().all(|row| !row.contains("too")), "half a transaction was applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_in_the_way_on_the_target_stops_the_follower_with_its_key() {
    let world = World::new("CREATE TABLE t (a int PRIMARY KEY)").await;
    world.target.batch_execute("INSERT INTO t VALUES (5)").await.expect("inserted");
    world.run("INSERT INTO t SELECT generate_series(1, 9)").await;
    let failure = world.follow().task.await.expect("no panic").expect_err("it must not go on");
    assert!(failure.to_string().contains("a=5"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_table_stops_the_follower_with_a_remedy() {
    let world = World::new("CREATE TABLE t (a int PRIMARY KEY, b int)").await;
    world.run("ALTER TABLE t ADD COLUMN c int; INSERT INTO t VALUES (1, 2, 3)").await;
    let failure = world.follow().task.await.expect("no panic").expect_err("it must not go on");
    assert!(failure.to_string().contains("public.t") && failure.remedy_text().is_some(), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_was_widened_stops_the_follower_before_a_value_is_cut() {
    for (alter, value) in [
        ("c TYPE varchar(20)", "'longer than ten', 1"),
        ("c TYPE varchar(20)", "'spaces        ', 1"),
        ("n TYPE numeric(12,4)", "'x', 1.2345"),
    ] {
        let schema = "CREATE TABLE t (a int PRIMARY KEY, c varchar(10), n numeric(10,2))";
        let world = World::new(schema).await;
        let running = world.follow();
        world.run("INSERT INTO t VALUES (1, 'x', 0.25)").await;
        world.until_marker(&running, "before").await;
        world.run(&format!("ALTER TABLE t ALTER {alter}; INSERT INTO t VALUES (2, {value})")).await;
        let failure = running.task.await.expect("no panic").expect_err("it must not go on");
        assert_eq!(failure.kind(), migrator::error::Kind::Fatal, "{failure}");
        assert!(failure.to_string().contains("public.t") && failure.remedy_text().is_some(), "{failure}");
        assert_eq!(contents(&world.target, "t").await, ["(1,x,0.25)"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_empties_no_table_that_was_loaded_after_it() {
    let world = World::new(
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent);
         CREATE TABLE late (id int PRIMARY KEY, parent int REFERENCES parent)",
    )
    .await;
    world
        .run(
            "INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 1); TRUNCATE parent CASCADE;
             INSERT INTO parent VALUES (2); INSERT INTO child VALUES (2, 2); INSERT INTO late VALUES (7, 2)",
        )
        .await;
    world
        .target
        .batch_execute("SET session_replication_role = replica; INSERT INTO late VALUES (7, 2)")
        .await
        .expect("loaded");
    let end: String =
        world.source.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.expect("asked").get(0);
    world
        .target
        .execute("UPDATE headgate.tables SET valid_from = $1::text::pg_lsn WHERE table_name = 'late'", &[&end])
        .await
        .expect("recorded");
    world.catch_up().await;
    world.assert_equal().await;
    // All of them this time.
    world.run("TRUNCATE parent CASCADE").await;
    world.catch_up().await;
    assert!(contents(&world.target, "late").await.is_empty());
    world.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_inheriting_tables_are_told_apart() {
    let world = World::new(
        "CREATE TABLE up (id int PRIMARY KEY, v int);
         CREATE TABLE down (PRIMARY KEY (id)) INHERITS (up);
         CREATE TABLE bag (v int);
         CREATE TABLE inner_bag () INHERITS (bag);
         ALTER TABLE bag REPLICA IDENTITY FULL;
         ALTER TABLE inner_bag REPLICA IDENTITY FULL",
    )
    .await;
    world
        .run(
            "INSERT INTO up SELECT i, 0 FROM generate_series(1, 5) i;
             INSERT INTO down SELECT i, 0 FROM generate_series(1, 5) i;
             INSERT INTO bag SELECT 1 FROM generate_series(1, 5);
             INSERT INTO inner_bag SELECT 1 FROM generate_series(1, 5)",
        )
        .await;
    world.catch_up().await;
    for write in [
        "UPDATE ONLY up SET v = 1 WHERE id < 3",
        "UPDATE ONLY up SET id = id + 10 WHERE id = 3",
        "DELETE FROM ONLY up WHERE id = 4",
        "UPDATE ONLY bag SET v = 2 WHERE ctid IN (SELECT ctid FROM ONLY bag LIMIT 2)",
        "DELETE FROM ONLY bag WHERE v = 1",
        "UPDATE inner_bag SET v = 3",
        "TRUNCATE ONLY up",
    ] {
        world.run(write).await;
        world.catch_up().await;
        for table in ["ONLY up", "down", "ONLY bag", "inner_bag"] {
            let source = contents(&world.source, table).await;
            assert_eq!(source, contents(&world.target, table).await, "{table} after {write}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_no_update_may_set_follows_the_source() {
    let world = World::new(
        "CREATE TABLE rev (id int PRIMARY KEY, rev int GENERATED ALWAYS AS IDENTITY, note text, blob text,
            twice int GENERATED ALWAYS AS (id * 2) STORED);
         ALTER TABLE rev ALTER blob SET STORAGE EXTERNAL;
         CREATE TABLE moved (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, blob text);
         ALTER TABLE moved ALTER blob SET STORAGE EXTERNAL;
         CREATE TABLE bag (n int GENERATED ALWAYS AS IDENTITY, v int, blob text);
         ALTER TABLE bag REPLICA IDENTITY FULL;
         ALTER TABLE bag ALTER blob SET STORAGE EXTERNAL",
    )
    .await;
    world
        .run(
            "INSERT INTO rev (id, note, blob) SELECT i, 'n', repeat(md5(i::text), 200) FROM generate_series(1, 20) i;
             INSERT INTO moved (blob) SELECT repeat(md5(i::text), 200) FROM generate_series(1, 20) i;
             INSERT INTO bag (v, blob) SELECT i, repeat(md5(i::text), 200) FROM generate_series(1, 20) i",
        )
        .await;
    world.catch_up().await;
    for write in [
        "UPDATE rev SET rev = DEFAULT, note = NULL WHERE id < 9",
        "UPDATE rev SET note = 'kept' WHERE id > 5",
        "UPDATE rev SET rev = DEFAULT, id = id + 100 WHERE id > 15",
        "BEGIN; UPDATE rev SET rev = DEFAULT WHERE id = 1; UPDATE rev SET blob = 'b' WHERE id = 1; COMMIT",
        "UPDATE moved SET id = DEFAULT WHERE id < 9",
        "UPDATE moved SET blob = 'b' WHERE id < 12",
        "UPDATE bag SET n = DEFAULT WHERE v < 9",
        "UPDATE bag SET v = v + 1",
    ] {
        world.run(write).await;
        world.catch_up().await;
        world.assert_equal().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_larger_than_any_buffer_arrives_whole() {
    let world = World::new("CREATE TABLE t (a int PRIMARY KEY, b text)").await;
    let running = world.follow();
    world.run("INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 300000) i").await;
    world.run("BEGIN; UPDATE t SET b = 'x' WHERE a % 3 = 0; DELETE FROM t WHERE a % 5 = 0; COMMIT").await;
    let mut seen = std::collections::BTreeSet::new();
    let mut applied = Box::pin(world.until_marker(&running, "big"));
    let took = loop {
        tokio::select! {
            took = &mut applied => break took,
            row = world.target.query_one("SELECT count(*) FROM t", &[]) => {
                seen.insert(row.expect("counted").get::<_, i64>(0));
            }
        }
    };
    drop(applied);
    assert!(seen.iter().all(|count| [0, 300_000, 240_000].contains(count)), "torn: {seen:?}");
    world.assert_equal().await;
    eprintln!("big transaction: {took:?}");
    running.stop().await.expect("the follower stops");
}

/// Rows whose sum only stays zero if every transaction arrives whole and once.
const LEDGER: &str = "CREATE TABLE accounts (id int PRIMARY KEY, balance bigint, filler text);
    INSERT INTO accounts SELECT i, 0, repeat('x', 50) FROM generate_series(1, 1000) i;
    CREATE TABLE history (account int, amount int);";

/// Writes transfers until told to stop; returns how many were committed.
fn write(server: &Server, seed: u64, stop: CancellationToken) -> JoinHandle<u64> {
    let endpoint = server.endpoint("shop");
    tokio::spawn(async move {
        let client = migrator::postgres::client::connect(&endpoint, "writer").await.expect("connected");
        client.batch_execute("SET search_path = public").await.expect("set");
        let mut done = 0;
        let mut random = seed;
        while !stop.is_cancelled() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let from = (random >> 33) % 1000 + 1;
            let to = (random >> 43) % 1000 + 1;
            let (low, high) = (from.min(to), from.max(to));
            let sql = format!(
                "BEGIN; UPDATE accounts SET balance = balance - 7 WHERE id = {low};
                 UPDATE accounts SET balance = balance + 7 WHERE id = {high};
                 INSERT INTO history VALUES ({low}, -7), ({high}, 7); COMMIT"
            );
            client.batch_execute(&sql).await.expect("written");
            done += 1;
        }
        done
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_killed_at_any_moment_applies_everything_once() {
    let world = World::new(LEDGER).await;
    let stop = CancellationToken::new();
    let writers: Vec<_> = (0..2).map(|seed| write(&world.source_server, seed, stop.clone())).collect();
    for round in 0_u64..12 {
        let running = world.follow();
        let mut applied = 0;
        while applied < 40 + round * 31 {
            tokio::task::yield_now().await;
            applied = running.progress.transactions_applied();
            assert!(!running.task.is_finished(), "{:?}", running.task.await);
        }
        running.task.abort();
    }
    stop.cancel();
    let mut written = 0;
    for writer in writers {
        written += writer.await.expect("the writer finishes");
    }
    world.catch_up().await;
    world.assert_equal().await;
    let row = world.target.query_one("SELECT count(*) FROM history", &[]).await.expect("counted");
    assert_eq!(row.get::<_, i64>(0), i64::try_from(2 * written).expect("few"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_under_load_stands_exactly_at_its_position() {
    let world = World::new(LEDGER).await;
    let running = world.follow();
    let stop = CancellationToken::new();
    let writers: Vec<_> = (0..2).map(|seed| write(&world.source_server, seed, stop.clone())).collect();
    world.until_marker(&running, "go").await;
    for round in 0..5 {
        running.handle.pause_at(Lsn(0), TIMEOUT).await.expect("it stands still at once");
        let mut other = Replication::connect(world.postgres.source(), "test").await.expect("connected");
        let slot = format!("pause_{round}");
        let made = other.create_slot(&slot, true, Duration::from_secs(10)).await.expect("created");
        running.handle.pause_at(made.consistent_point, TIMEOUT).await.expect("it pauses");
        running.handle.wait_covers(&made.consistent_point, TIMEOUT).await.expect("it arrives");
        let reader = world.source_server.connect("shop").await;
        reader
            .batch_execute(&format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{}'",
                made.snapshot
            ))
            .await
            .expect("imported");
        for table in ["accounts", "history"] {
            let source = contents(&reader, &format!("public.{table}")).await;
            let target = contents(&world.target, &format!("public.{table}")).await;
            assert!(source == target, "{table} differs in round {round}");
        }
        running.handle.resume();
        let took = world.until_marker(&running, &format!("after {round}")).await;
        eprintln!("marker under load: {took:?}, lag {:?}", running.handle.applied().lag);
    }
    stop.cancel();
    for writer in writers {
        writer.await.expect("the writer finishes");
    }
    world.until_marker(&running, "end").await;
    world.assert_equal().await;
    running.stop().await.expect("the follower stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_source_shows_a_small_lag_and_markers_take_milliseconds() {
    let world = World::new("CREATE TABLE t (a int PRIMARY KEY)").await;
    let running = world.follow();
    world.until_marker(&running, "first").await;
    let mut worst = Duration::ZERO;
    for round in 0..50 {
        world.run(&format!("INSERT INTO t VALUES ({round})")).await;
        worst = worst.max(world.until_marker(&running, &format!("m{round}")).await);
    }
    eprintln!("slowest marker: {worst:?}");
    let end: String =
        world.source.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.expect("asked").get(0);
    let end: Lsn = end.parse().expect("a position");
    running.handle.wait_covers(&end, TIMEOUT).await.expect("an idle source is caught up with");
    let applied = running.handle.applied();
    assert!(applied.lag.is_some_and(|lag| lag < Duration::from_secs(1)), "{applied:?}");
    running.stop().await.expect("the follower stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_starts_under_a_pause_applies_nothing_past_it() {
    let world = World::new("CREATE TABLE t (a int PRIMARY KEY)").await;
    let end = world.source.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.expect("asked");
    let end: Lsn = end.get::<_, String>(0).parse().expect("a position");
    world.run("INSERT INTO t VALUES (1)").await;
    let handle = Follow::default();
    let mut paused = Box::pin(handle.pause_at(end, TIMEOUT));
    // The first poll gives the order.
    assert!(futures_util::poll!(&mut paused).is_pending());
    let running = world.follow_with(handle.clone());
    paused.await.expect("it pauses");
    assert!(contents(&world.target, "t").await.is_empty());
    running.handle.resume();
    world.until_marker(&running, "after").await;
    world.assert_equal().await;
    running.stop().await.expect("the follower stops");
}

/// The stream's process on the source, stopped until this is dropped.
struct Frozen(String);

impl Frozen {
    fn new(process: i32) -> Self {
        let frozen = Self(process.to_string());
        frozen.signal("-STOP");
        frozen
    }

    fn signal(&self, signal: &str) {
        let sent = std::process::Command::new("kill").args([signal, &self.0]).status();
        assert!(sent.expect("kill runs").success(), "{signal}");
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_goes_silent_ends_the_follower_for_another_try() {
    let world = World::new("CREATE TABLE t (a int PRIMARY KEY)").await;
    let running = world.follow();
    world.until_marker(&running, "first").await;
    let process = world.source.query_one("SELECT pid FROM pg_stat_replication", &[]).await.expect("there is one");
    let frozen = Frozen::new(process.get(0));
    let outcome = tokio::time::timeout(TIMEOUT, running.task).await.expect("it notices").expect("no panic");
    drop(frozen);
    let failure = outcome.expect_err("it must not wait for ever");
    assert_eq!(failure.kind(), migrator::error::Kind::Transient, "{failure}");
    world.run("INSERT INTO t VALUES (1)").await;
    world.catch_up().await;
    world.assert_equal().await;
}

/// The stream's own connection logs in as ordinary ones do, whatever the server asks for.
async fn log_in_with_a_password(major: u32) {
    // SASLprep makes another text of it.
    let password = "p\u{e4}ss w'ord \u{2168}";
    let server = Server::start(major, "");
    let admin = server.connect("postgres").await;
    for (method, stored) in [("scram-sha-256", "scram-sha-256"), ("md5", "md5"), ("password", "md5")] {
        let role = format!("by_{}", method.replace('-', "_"));
        let create = format!(
            "SET password_encryption = '{stored}';
             CREATE ROLE {role} LOGIN REPLICATION PASSWORD '{}'",
            password.replace('\'', "''"),
        );
        admin.batch_execute(&create).await.expect("it is created");
        server.ask_by(method, &role);
    }
    admin.batch_execute("CREATE ROLE plain LOGIN").await.expect("it is created");
    server.restart();
    let log_in = async |role: &str, password: Option<&str>| {
        let endpoint = Endpoint { password: password.map(Into::into), ..server.endpoint_as(role, "postgres") };
        Replication::connect(&endpoint, "test").await
    };
    for role in ["by_scram_sha_256", "by_md5", "by_password"] {
        let mut session = log_in(role, Some(password)).await.expect(role);
        let answer = session.query("IDENTIFY_SYSTEM").await.expect("it replicates");
        assert_eq!(answer[0].last(), Some(&Some("postgres".to_owned())), "in its database");
        let refused = log_in(role, Some("wrong")).await.map(|_| ()).expect_err("the password is wrong").full_text();
        assert!(refused.contains("refuses a replication connection") && refused.contains("28P01"), "{refused}");
        let refused = log_in(role, None).await.map(|_| ()).expect_err("there is no password").full_text();
        assert!(refused.contains("asks for a password"), "{refused}");
    }
    log_in("postgres", None).await.expect("nobody asks for one");
    let refused = log_in("plain", None).await.map(|_| ()).expect_err("it may not replicate");
    assert!(refused.full_text().contains("(42501)"), "{}", refused.full_text());
    assert!(refused.remedy_text().is_some_and(|remedy| remedy.contains("REPLICATION attribute")), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_logs_in_with_a_password_to_an_old_server() {
    log_in_with_a_password(14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_logs_in_with_a_password_to_a_new_server() {
    log_in_with_a_password(18).await;
}
