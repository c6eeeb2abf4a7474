//! What the precheck finds by trying and by looking, against real servers.

mod servers;

use std::sync::Arc;
use std::time::Duration;

use migrator::accounts::{Secrets, Verdict};
use migrator::database::{Comparison as _, Preflight as _};
use migrator::model::plan::Settings;
use migrator::postgres::{Endpoint, Postgres, PostgresDatabase, Tools, fence, load, plan, preflight, schema};
use migrator::preflight::{Check, Level};
use servers::postgres::{Server, between, migration};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

async fn shop(made: &str) -> (Server, Server, PostgresDatabase, Client) {
    let (source, target) = (Server::start(14, ""), Server::start(18, ""));
    let created = source.connect("postgres").await;
    created.batch_execute("CREATE DATABASE shop").await.expect("it can be created");
    let session = source.connect("shop").await;
    session.batch_execute(made).await.expect("it can be made");
    let postgres = migration("m1", &source, &target, Settings::default());
    (source, target, postgres, session)
}

async fn checked(postgres: &PostgresDatabase) -> Vec<Check> {
    preflight::run(postgres).await.expect("it runs")
}

fn found<'a>(checks: &'a [Check], name: &str, level: Level) -> Vec<&'a Check> {
    checks.iter().filter(|check| check.name == name && check.level == level).collect()
}

async fn mended(session: &Client, checks: &[&Check]) {
    for check in checks {
        assert!(!check.fix.is_empty(), "{check:?}");
        session.batch_execute(&check.fix).await.expect(&check.fix);
    }
}

/// Rows that break what their tables promise, and functions that know only their owner's names.
const BROKEN: &str = r#"
CREATE TABLE parent (id int PRIMARY KEY, a text COLLATE "C", b int, UNIQUE (a, b));
CREATE TABLE child (id int PRIMARY KEY, p int CONSTRAINT one REFERENCES parent, a text COLLATE "POSIX", b int,
    CONSTRAINT two FOREIGN KEY (a, b) REFERENCES parent (a, b) MATCH FULL,
    CONSTRAINT kept FOREIGN KEY (a, b) REFERENCES parent (a, b));
CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
CREATE TABLE of_parts (id int PRIMARY KEY, p int CONSTRAINT three REFERENCES parts);
INSERT INTO parent VALUES (1, 'x', 1);
INSERT INTO parts VALUES (5), (15);
INSERT INTO child VALUES (1, 1, 'x', 1), (2, NULL, NULL, NULL);
INSERT INTO of_parts VALUES (1, 5), (2, 15), (3, NULL);
SET session_replication_role = replica;
INSERT INTO child VALUES (3, 77, 'x', 1), (4, 78, 'x', NULL);
INSERT INTO of_parts VALUES (4, 16);
RESET session_replication_role;
CREATE FUNCTION top() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 9';
CREATE TABLE bounded (id int PRIMARY KEY, v int CONSTRAINT small CHECK (v < top()), w int CONSTRAINT fine CHECK (w > 0));
INSERT INTO bounded VALUES (1, 2, 1), (2, 8, NULL);
CREATE OR REPLACE FUNCTION top() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 5';
CREATE FUNCTION helper(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 0';
CREATE FUNCTION valid(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN helper($1); END';
CREATE TABLE named (id int PRIMARY KEY CONSTRAINT named_valid CHECK (valid(id)), v int);
INSERT INTO named VALUES (1, 1);
CREATE FUNCTION valid_for_index(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN helper($1); END';
CREATE INDEX named_index ON named (valid_for_index(v)) WHERE v > 0;
CREATE FUNCTION valid_for_column(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN helper($1); END';
ALTER TABLE named ADD COLUMN made boolean GENERATED ALWAYS AS (valid_for_column(v)) STORED;
-- A word of its own since version 16.
CREATE TABLE keyword (id int PRIMARY KEY, system_user text CONSTRAINT word CHECK (system_user <> ''), "select" int);
CREATE INDEX word_index ON keyword ((system_user || 'x')) WHERE "select" > 0;
CREATE VIEW words_of AS SELECT system_user FROM keyword;
INSERT INTO keyword VALUES (1, 'me', 1);
CREATE TABLE documents (id int PRIMARY KEY, doc tsvector);
INSERT INTO documents VALUES (1, 'a word');
CREATE MATERIALIZED VIEW words AS SELECT word FROM ts_stat('SELECT doc FROM documents');
"#;

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_expressions_that_the_load_would_refuse_are_told_and_each_statement_ends_its_finding() {
    let (_source, target, postgres, session) = shop(BROKEN).await;
    // What stands by itself on the target is told, and is in nobody's way.
    target.make_database("shop").await;
    let there = target.connect("shop").await;
    there
        .batch_execute("CREATE TABLE beside (id int PRIMARY KEY); CREATE VIEW aside AS SELECT 1 AS one")
        .await
        .expect("it can be created");
    let checks = checked(&postgres).await;
    let rows = found(&checks, "constraint_rows", Level::Error);
    let texts: Vec<&str> = rows.iter().map(|check| check.evidence.as_str()).collect();
    assert_eq!(
        texts,
        [
            "public.bounded: 1 rows break the constraint small",
            "public.child: rows break the foreign key one (2)",
            "public.child: rows break the foreign key two (1)",
            "public.of_parts: rows break the foreign key three (1)",
        ]
    );
    let expressions = found(&checks, "expressions", Level::Error);
    for what in [
        "the constraint named_valid cannot be computed",
        "the index named_index cannot be computed",
        "the generated column made cannot be computed",
        "the materialized view public.words cannot be refreshed",
    ] {
        assert!(
            expressions.iter().any(|check| check.evidence.contains(what) && check.evidence.contains("does not exist")),
            "{what}: {expressions:#?}"
        );
    }
    assert_eq!(expressions.len(), 4, "{expressions:#?}");
    // Nothing of this comes after the copy any more, once each statement was run.
    let with_statement: Vec<&Check> =
        expressions.iter().copied().filter(|check| !check.evidence.contains("materialized")).collect();
    session.batch_execute("DROP MATERIALIZED VIEW words").await.expect("dropped");
    mended(&session, &with_statement).await;
    // A foreign key to a partitioned table cannot be one that was not checked.
    let (parted, others): (Vec<&Check>, Vec<&Check>) =
        rows.iter().copied().partition(|check| check.evidence.contains("of_parts"));
    assert_eq!(parted.len(), 1);
    mended(&session, &others).await;
    session.batch_execute("DELETE FROM of_parts WHERE id = 4").await.expect("mended");
    let checks = checked(&postgres).await;
    for name in ["constraint_rows", "expressions"] {
        assert_eq!(found(&checks, name, Level::Error).len(), 0, "{checks:#?}");
        assert_eq!(found(&checks, name, Level::Ok).len(), 1, "{name}");
    }
    let plan = plan::read(&postgres).await.expect("it can be read");
    schema::prepare(&postgres, &plan).await.expect("prepared");
    load::run(&postgres, &plan, Arc::default(), CancellationToken::new())
        .await
        .expect("the target takes every row and every constraint");
    assert_eq!(found(&checks, "target_others", Level::Warning).len(), 1);
    let compared = postgres.definitions(&plan).await.expect("compared");
    assert_eq!(compared.differences, Vec::<String>::new());
    there
        .batch_execute(
            "CREATE INDEX more ON named (v); ALTER TABLE beside ADD CONSTRAINT into_ours FOREIGN KEY (id) REFERENCES named",
        )
        .await
        .expect("it can be created");
    let compared = postgres.definitions(&plan).await.expect("compared");
    assert_eq!(
        compared.differences,
        [
            "constraint into_ours of public.beside (not on the source)",
            "index public.more of public.named (not on the source)"
        ]
    );
}

/// An auditor's trigger, as many have it.
const AUDITED: &str = "
CREATE TABLE orders (id int PRIMARY KEY);
CREATE TABLE audit (id serial PRIMARY KEY, tag text);
CREATE FUNCTION audit() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO public.audit (tag) VALUES (tg_tag); END $$;
CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION audit()";

#[tokio::test(flavor = "multi_thread")]
async fn an_event_trigger_that_writes_on_ddl_does_not_meet_the_fence_or_is_named_before() {
    let (source, target, postgres, session) = shop(AUDITED).await;
    let plan = plan::read(&postgres).await.expect("it can be read");
    let limit = Duration::from_secs(5);
    // In a superuser's session it does not fire, and the fence rises, stands and falls.
    let checks = checked(&postgres).await;
    assert_eq!(found(&checks, "event_triggers", Level::Ok).len(), 1);
    let raised = fence::raise(None, &postgres, &plan, "one", limit).await;
    fence::seal(raised.expect("it rises").fence, &["SELECT 1".to_owned()]).await.expect("it stands");
    session.batch_execute("INSERT INTO orders VALUES (1)").await.expect_err("it is refused");
    fence::lift(&postgres).await.expect("it falls");
    session
        .batch_execute("INSERT INTO orders VALUES (1); ALTER EVENT TRIGGER audit ENABLE ALWAYS")
        .await
        .expect("it is not refused any more");
    // One that always fires is named: its rows would come behind the marker.
    let checks = checked(&postgres).await;
    let named = found(&checks, "event_triggers", Level::Error);
    assert_eq!(named.len(), 1, "{named:#?}");
    assert!(named[0].evidence.contains("writes to public.audit, behind the marker"), "{named:#?}");
    // Where the migrator may not be a replica, it is named by the precheck and by the fence that it meets.
    session
        .batch_execute(
            "ALTER EVENT TRIGGER audit ENABLE; CREATE ROLE mover LOGIN REPLICATION;
             GRANT CREATE ON DATABASE shop TO mover; ALTER TABLE orders OWNER TO mover;
             ALTER TABLE audit OWNER TO mover; DROP SCHEMA headgate CASCADE",
        )
        .await
        .expect("it can be made");
    let as_mover = between("m2", source.endpoint_as("mover", "shop"), target.endpoint("shop"));
    let checks = checked(&as_mover).await;
    let named = found(&checks, "event_triggers", Level::Error);
    assert_eq!(named.len(), 1, "{named:#?}");
    assert!(named[0].evidence.contains("writes to public.audit, which the fence refuses"), "{named:#?}");
    let failure =
        fence::raise(None, &as_mover, &plan, "two", limit).await.err().expect("it meets the fence's own trigger");
    assert!(failure.full_text().contains("an event trigger of the source"), "{}", failure.full_text());
    mended(&session, &named).await;
    let checks = checked(&as_mover).await;
    assert_eq!(found(&checks, "event_triggers", Level::Ok).len(), 1);
    let raised = fence::raise(None, &as_mover, &plan, "three", limit).await;
    fence::drop_fence(raised.expect("it rises").fence).await.expect("it falls");
    // One that refuses is named too, and no trial stays behind.
    session
        .batch_execute(
            "CREATE FUNCTION never() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
                 RAISE EXCEPTION 'ask the architects'; END $$;
             CREATE EVENT TRIGGER never ON ddl_command_start WHEN TAG IN ('CREATE PUBLICATION')
                 EXECUTE FUNCTION never()",
        )
        .await
        .expect("it can be made");
    let checks = checked(&postgres).await;
    let named = found(&checks, "event_triggers", Level::Error);
    assert!(named.iter().any(|check| check.fix.contains("never")), "{named:#?}");
    let left = session
        .query("SELECT FROM pg_namespace WHERE nspname LIKE 'headgate\\_trial%'", &[])
        .await
        .expect("it answers");
    assert_eq!(left.len(), 0);
}

/// The operator wrote one password into the configuration.
struct One;

impl Secrets for One {
    fn password(&self, user: &str) -> Option<String> {
        (user == "app").then(|| "known".to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_password_can_be_read_the_one_that_headgate_knows_is_set_and_tried() {
    let (source, target, _, session) = shop(
        "CREATE ROLE app LOGIN PASSWORD 'known'; CREATE ROLE other LOGIN PASSWORD 'nobody knows';
         CREATE ROLE mover LOGIN REPLICATION; GRANT app TO mover; GRANT CREATE ON DATABASE shop TO mover;
         ALTER DATABASE shop OWNER TO app; ALTER SCHEMA public OWNER TO app",
    )
    .await;
    let there = target.connect("postgres").await;
    there.batch_execute("CREATE ROLE mover LOGIN CREATEDB CREATEROLE").await.expect("it can be created");
    drop(session);
    let postgres = PostgresDatabase::new(Postgres::new(
        "m1",
        source.endpoint_as("mover", "shop"),
        target.endpoint_as("mover", "shop"),
        Settings::default(),
        Tools::default(),
        Arc::new(One),
    ));
    let plan = plan::read(&postgres).await.expect("it can be read");
    schema::prepare(&postgres, &plan).await.expect("prepared");
    for role in ["app", "other"] {
        target.ask_for_passwords_of(role);
    }
    let accounts = postgres.accounts().await.expect("they can be tried");
    let of = |name: &str| {
        let account = accounts.iter().find(|account| account.name == name);
        &account.expect(name).verdict
    };
    assert!(matches!(of("app"), Verdict::Proved(_)), "{accounts:#?}");
    assert!(matches!(of("other"), Verdict::Unproved { .. }), "nobody has read or tried its password: {accounts:#?}");
    for (password, admitted) in [("known", true), ("wrong", false)] {
        let endpoint = Endpoint { user: "app".into(), password: Some(password.into()), ..target.endpoint("shop") };
        let login = migrator::postgres::client::connect(&endpoint, "test").await;
        assert_eq!(login.is_ok(), admitted, "{password}");
    }
}
