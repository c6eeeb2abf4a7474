//! Compares real databases while changes go on, and finds every kind of damage.

mod servers;

use std::sync::Arc;
use std::time::Duration;

use migrator::error::Result;
use migrator::follow::Follow;
use migrator::model::plan::{Plan, Settings};
use migrator::model::progress::Progress;
use migrator::model::proof::Proof;
use migrator::postgres::records::install_records;
use migrator::postgres::stream::Replication;
use migrator::postgres::{Lsn, PostgresDatabase, check, client, follow, plan, schema};
use servers::postgres::{Server, migration};
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

const SCHEMA: &str = r#"
    CREATE TABLE accounts (id int PRIMARY KEY, balance numeric, note text, twice int GENERATED ALWAYS AS (id * 2) STORED);
    INSERT INTO accounts (id, balance, note) SELECT i, i * 1.50, CASE WHEN i % 3 = 0 THEN NULL ELSE 'n' || i END
        FROM generate_series(1, 20000) i;
    CREATE TABLE words (w text, n int, f float8, PRIMARY KEY (w, n));
    INSERT INTO words SELECT 'w' || i, i, i / 3.0 FROM generate_series(1, 3000) i;
    CREATE TABLE bag (a text, b text);
    ALTER TABLE bag REPLICA IDENTITY FULL;
    INSERT INTO bag SELECT 'a', 'b,c' FROM generate_series(1, 10);
    INSERT INTO bag VALUES ('', NULL), (NULL, '');
    CREATE TABLE "we""ird" ("a b" bigint PRIMARY KEY, "ü" jsonb);
    INSERT INTO "we""ird" SELECT i, '{"a": 1}' FROM generate_series(-50, 50) i;
    CREATE INDEX words_f ON words (f) WHERE n > 5;
    CREATE TABLE kinds (k varchar(9) PRIMARY KEY, CONSTRAINT known CHECK (k IN ('a', 'b')));
    CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
    CREATE TRIGGER seen BEFORE INSERT ON kinds FOR EACH ROW EXECUTE FUNCTION seen();
    CREATE TABLE nothing ();
    ALTER TABLE nothing REPLICA IDENTITY FULL;
    CREATE TABLE days (at date, n int, PRIMARY KEY (at, n)) PARTITION BY RANGE (at);
    CREATE TABLE days_all PARTITION OF days DEFAULT;
    INSERT INTO days SELECT '2024-01-01'::date + i, i FROM generate_series(1, 100) i;
    ANALYZE;
"#;

struct World {
    source: Client,
    target: Client,
    postgres: PostgresDatabase,
    plan: Plan,
    handle: Follow<Lsn>,
    progress: Arc<Progress>,
    stop: CancellationToken,
    follower: JoinHandle<Result<()>>,
    source_server: Server,
    _target_server: Server,
}

impl World {
    async fn new() -> Self {
        let (source_server, target_server) = (Server::start(14, ""), Server::start(18, ""));
        for server in [&source_server, &target_server] {
            let admin = server.connect("postgres").await;
            admin.batch_execute("CREATE DATABASE shop").await.expect("the database is created");
        }
        let source = source_server.connect("shop").await;
        let target = target_server.connect("shop").await;
        // Else the guard refuses what is done to the target here.
        target.batch_execute("SET application_name = 'headgate m by hand'").await.expect("anybody may say so");
        source.batch_execute(SCHEMA).await.expect("the schema fits the source");
        target.batch_execute(SCHEMA).await.expect("the schema fits the target");
        // As in version 14.
        target
            .batch_execute("ALTER SCHEMA public OWNER TO postgres; GRANT ALL ON SCHEMA public TO PUBLIC")
            .await
            .expect("the schema has an owner");
        let settings = Settings { check_range_rows: 4000, ..Settings::default() };
        let postgres = migration("m", &source_server, &target_server, settings);
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
            let record = "INSERT INTO headgate.tables VALUES ('m', $1, $2, $3::text::pg_lsn, 'indexed')";
            target.execute(record, &[&table.schema, &table.name, &start]).await.expect("recorded");
        }
        let record = "INSERT INTO headgate.progress VALUES ('m', $1::text::pg_lsn)";
        target.execute(record, &[&start]).await.expect("recorded");
        let handle = Follow::default();
        let progress = Arc::new(Progress::default());
        let stop = CancellationToken::new();
        let follower = {
            let (postgres, plan, handle, stop) = (postgres.clone(), plan.clone(), handle.clone(), stop.clone());
            tokio::spawn(async move { follow::run(&postgres, &plan, handle, Arc::default(), stop).await })
        };
        Self {
            source,
            target,
            postgres,
            plan,
            handle,
            progress,
            stop,
            follower,
            source_server,
            _target_server: target_server,
        }
    }

    async fn check(&self) -> Vec<Proof> {
        let stop = CancellationToken::new();
        let (follow, progress) = (self.handle.clone(), Arc::clone(&self.progress));
        check::run(&self.postgres, &self.plan, follow, progress, stop)
            .await
            .unwrap_or_else(|error| panic!("{error}; follower ended: {}", self.follower.is_finished()))
            .proofs
    }

    /// Damages the target, checks, mends it; the check must find the damage and name these keys.
    async fn damage(&self, harm: &str, mend: &str, table: &str, keys: &[&str]) {
        self.target.batch_execute(harm).await.unwrap_or_else(|error| panic!("{harm}: {error:?}"));
        let different: Vec<Proof> = self.check().await.into_iter().filter(|proof| !proof.equal()).collect();
        assert!(!different.is_empty(), "not found: {harm}");
        assert!(different.iter().all(|proof| proof.table == table), "{harm}: {different:?}");
        let mut named: Vec<&str> =
            different.iter().flat_map(|proof| &proof.differing_keys).map(String::as_str).collect();
        named.sort_unstable();
        if keys.is_empty() {
            assert!(!named.is_empty(), "{harm}: nothing named");
        } else {
            assert_eq!(named, keys, "{harm}");
        }
        self.target.batch_execute(mend).await.unwrap_or_else(|error| panic!("{mend}: {error:?}"));
        assert_all_equal(&self.check().await);
    }
}

fn assert_all_equal(proofs: &[Proof]) {
    let different: Vec<&Proof> = proofs.iter().filter(|proof| !proof.equal()).collect();
    assert!(different.is_empty(), "{different:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_databases_are_proven_equal_while_writers_go_on() {
    let world = World::new().await;
    let endpoint = world.source_server.endpoint("shop");
    let writing = CancellationToken::new();
    let writers: Vec<_> = (1..=2)
        .map(|seed| {
            let (endpoint, writing) = (endpoint.clone(), writing.clone());
            tokio::spawn(async move {
                let client = client::connect(&endpoint, "writer").await.expect("connected");
                client.batch_execute("SET search_path = public").await.expect("set");
                let mut number = seed;
                while !writing.is_cancelled() {
                    number = (number * 7919) % 19_997 + 1;
                    let sql = format!(
                        "BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = {number};
                         INSERT INTO bag VALUES ('x', '{number}');
                         INSERT INTO accounts (id, balance) SELECT max(id) + 1, 0 FROM accounts; COMMIT"
                    );
                    // Two writers may choose the same new key; the loser changes nothing.
                    if client.batch_execute(&sql).await.is_err() {
                        client.batch_execute("ROLLBACK").await.expect("rolled back");
                    }
                }
            })
        })
        .collect();
    for _ in 0..4 {
        let before = tokio::time::Instant::now();
        let proofs = world.check().await;
        eprintln!("check under load: {:?}", before.elapsed());
        assert_all_equal(&proofs);
        assert!(proofs.iter().filter(|proof| proof.table == "public.accounts").count() > 3);
        assert!(!world.handle.applied().paused);
    }
    writing.cancel();
    for writer in writers {
        writer.await.expect("the writer ends");
    }
    let tables = world.progress.tables();
    let accounts = &tables["public.accounts"];
    assert!(accounts.ranges > 3 && accounts.ranges == accounts.ranges_equal, "{accounts:?}");
    world.stop.cancel();
    world.follower.await.expect("no panic").expect("the follower stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_damage_to_the_target_is_found_and_its_key_named() {
    let world = World::new().await;
    assert_all_equal(&world.check().await);
    let flip = |sign: &str| format!("UPDATE accounts SET balance = balance {sign} 0.01 WHERE id = 17");
    world.damage(&flip("+"), &flip("-"), "public.accounts", &["(17)"]).await;
    world
        .damage(
            "UPDATE accounts SET balance = balance * 1.0 WHERE id = 19",
            "UPDATE accounts SET balance = 28.50 WHERE id = 19",
            "public.accounts",
            &["(19)"],
        )
        .await;
    world
        .damage(
            "UPDATE accounts SET note = '' WHERE id = 3",
            "UPDATE accounts SET note = NULL WHERE id = 3",
            "public.accounts",
            &["(3)"],
        )
        .await;
    world
        .damage(
            "DELETE FROM words WHERE n = 1234",
            "INSERT INTO words VALUES ('w1234', 1234, 1234 / 3.0)",
            "public.words",
            &["(w1234,1234)"],
        )
        .await;
    for surplus in [-5, 10_000_000] {
        world
            .damage(
                &format!("INSERT INTO accounts VALUES ({surplus}, 1)"),
                &format!("DELETE FROM accounts WHERE id = {surplus}"),
                "public.accounts",
                &[&format!("({surplus})")],
            )
            .await;
    }
    let swap = "UPDATE words SET f = CASE n WHEN 10 THEN 11 / 3.0 ELSE 10 / 3.0 END WHERE n IN (10, 11)";
    let back = "UPDATE words SET f = n / 3.0 WHERE n IN (10, 11)";
    world.damage(swap, back, "public.words", &["(w10,10)", "(w11,11)"]).await;
    world
        .damage(
            "INSERT INTO bag VALUES ('a', 'b,c')",
            "DELETE FROM bag WHERE ctid = (SELECT max(ctid) FROM bag WHERE a = 'a')",
            "public.bag",
            &[],
        )
        .await;
    world
        .damage(
            "UPDATE bag SET a = b, b = a WHERE a = ''",
            "TRUNCATE bag; INSERT INTO bag SELECT 'a', 'b,c' FROM generate_series(1, 10);
             INSERT INTO bag VALUES ('', NULL), (NULL, '')",
            "public.bag",
            &[],
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_constraint_or_trigger_that_is_missing_or_other_fails_the_check() {
    let world = World::new().await;
    let written = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'known'";
    let row = world.source.query_one(written, &[]).await.expect("asked");
    let written: String = row.get(0);
    let again = format!("ALTER TABLE kinds DROP CONSTRAINT known, ADD CONSTRAINT known {written}");
    world.target.batch_execute(&again).await.expect("a server reads what another wrote");
    assert_all_equal(&world.check().await);
    for (harm, mend, named) in [
        (
            "DROP INDEX words_f".to_owned(),
            "CREATE INDEX words_f ON words (f) WHERE n > 5",
            "index public.words_f of public.words",
        ),
        (
            "DROP INDEX words_f; CREATE INDEX words_f ON words (f) WHERE n > 6".to_owned(),
            "DROP INDEX words_f; CREATE INDEX words_f ON words (f) WHERE n > 5",
            "index public.words_f of public.words",
        ),
        (
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'words_f'::regclass".to_owned(),
            "UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'words_f'::regclass",
            "index public.words_f of public.words",
        ),
        (
            "ALTER TABLE kinds DROP CONSTRAINT known".to_owned(),
            &format!("ALTER TABLE kinds ADD CONSTRAINT known {written}"),
            "constraint known of public.kinds",
        ),
        (
            format!("ALTER TABLE kinds DROP CONSTRAINT known, ADD CONSTRAINT known {written} NOT VALID"),
            "ALTER TABLE kinds VALIDATE CONSTRAINT known",
            "constraint known of public.kinds",
        ),
        (
            "ALTER TABLE kinds DISABLE TRIGGER seen".to_owned(),
            "ALTER TABLE kinds ENABLE TRIGGER seen",
            "trigger seen of public.kinds",
        ),
    ] {
        world.target.batch_execute(&harm).await.expect(&harm);
        let proofs = world.check().await;
        let catalogue = proofs.first().expect("the catalogue comes first");
        assert!(!catalogue.equal(), "not found: {harm}");
        let [only] = &catalogue.differing_keys[..] else {
            panic!("{harm}: {catalogue:?}");
        };
        assert!(only.starts_with(named), "{harm}: {only}");
        world.target.batch_execute(mend).await.expect(mend);
        assert_all_equal(&world.check().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_or_column_that_was_added_fails_the_check() {
    let world = World::new().await;
    world.source.batch_execute("CREATE TABLE later (id int PRIMARY KEY)").await.expect("created");
    let proofs = world.check().await;
    assert!(!proofs[0].equal() && proofs[0].range == "catalogue", "{:?}", proofs[0]);
    assert!(proofs[0].differing_keys.iter().any(|key| key.contains("public.later")));
    world.source.batch_execute("DROP TABLE later; ALTER TABLE words ADD COLUMN more int").await.expect("changed");
    let proofs = world.check().await;
    assert!(!proofs[0].equal());
    assert!(proofs[0].differing_keys.iter().any(|key| key.contains("more")), "{:?}", proofs[0]);
}
