//! Definitions of real databases: all classes of the inventory arrive, and every change of one is seen and named.

mod servers;

use std::collections::BTreeSet;
use std::sync::Arc;

use migrator::database::Comparison as _;
use migrator::model::plan::Settings;
use migrator::model::progress::Progress;
use migrator::postgres::check::inventory::{INVENTORY, SKIPPED_TYPES, Treatment};
use migrator::postgres::{PostgresDatabase, load, plan, schema};
use servers::postgres::{Server, migration};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

/// At least one object of every class that PostgreSQL 14 has and a dump carries.
const RICH: &str = r#"
CREATE ROLE app LOGIN PASSWORD 'x' CONNECTION LIMIT 9 VALID UNTIL '2040-01-01';
CREATE ROLE crew;
CREATE ROLE quiet NOINHERIT;
GRANT crew TO app WITH ADMIN OPTION;
COMMENT ON ROLE app IS 'the application';
ALTER ROLE app SET work_mem = '7MB';
ALTER ROLE app IN DATABASE shop SET enable_nestloop = off;
ALTER ROLE ALL SET idle_in_transaction_session_timeout = '1h';
ALTER ROLE ALL IN DATABASE shop SET log_min_duration_statement = '7s';
ALTER DATABASE shop SET search_path = app, public;
ALTER DATABASE shop CONNECTION LIMIT 99;
COMMENT ON DATABASE shop IS 'the shop';
REVOKE CONNECT ON DATABASE shop FROM PUBLIC;
GRANT CONNECT ON DATABASE shop TO app;
ALTER SCHEMA public OWNER TO app;
COMMENT ON SCHEMA public IS 'what everybody sees';
CREATE SCHEMA app AUTHORIZATION app;
GRANT USAGE ON SCHEMA app TO crew;
SET search_path = app;
CREATE EXTENSION hstore SCHEMA public;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() TO crew;
REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(double precision) FROM PUBLIC;
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (a int, b text);
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE DOMAIN positive AS int DEFAULT 1 CHECK (VALUE > 0);
CREATE COLLATION plain FROM "C";
CREATE FUNCTION twice(a int, b int DEFAULT 2) RETURNS int LANGUAGE sql IMMUTABLE SET work_mem = '4MB' AS 'SELECT a * b';
CREATE FUNCTION thrice(a int) RETURNS int LANGUAGE sql IMMUTABLE RETURN a * 3;
CREATE FUNCTION mood_number(m mood) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE PROCEDURE nothing() LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION told() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
GRANT EXECUTE ON FUNCTION twice TO crew;
REVOKE EXECUTE ON FUNCTION thrice FROM PUBLIC;
CREATE AGGREGATE product(int) (SFUNC = int4mul, STYPE = int, INITCOND = '1');
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
CREATE OPERATOR FAMILY fam USING btree;
CREATE OPERATOR CLASS odd FOR TYPE int USING btree FAMILY fam AS OPERATOR 3 =, FUNCTION 1 btint4cmp(int, int);
CREATE CAST (mood AS int) WITH FUNCTION mood_number(mood);
CREATE CONVERSION conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE TEXT SEARCH DICTIONARY dict (TEMPLATE = simple, STOPWORDS = english);
CREATE TEXT SEARCH CONFIGURATION conf (COPY = simple);
ALTER TEXT SEARCH CONFIGURATION conf ALTER MAPPING FOR word WITH dict;
CREATE SEQUENCE loose AS int INCREMENT 5 MAXVALUE 5000 CACHE 3 CYCLE;
CREATE TABLE parents (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, gone int, name text COLLATE plain NOT NULL
    DEFAULT 'it''s', m mood, p pair, s span, d positive, h public.hstore, n numeric(12,2) CHECK (n > 0.5),
    twice int GENERATED ALWAYS AS (n * 2) STORED, at timestamptz DEFAULT now(), kinds varchar(9)[]
    CHECK (kinds <@ ARRAY['a', 'b']::varchar[]), UNIQUE (name, id));
ALTER TABLE parents DROP COLUMN gone;
ALTER TABLE parents ALTER name SET STATISTICS 300, ALTER name SET STORAGE EXTERNAL;
ALTER TABLE parents ALTER n SET (n_distinct = 5);
ALTER TABLE parents SET (autovacuum_enabled = false, toast.autovacuum_enabled = false, fillfactor = 90);
COMMENT ON COLUMN parents.name IS 'a name';
COMMENT ON CONSTRAINT parents_pkey ON parents IS 'a key';
GRANT SELECT (name), UPDATE (n) ON parents TO crew;
GRANT ALL ON parents TO app;
CREATE TABLE children (id serial PRIMARY KEY, parent bigint REFERENCES parents ON DELETE SET NULL DEFERRABLE,
    EXCLUDE USING gist (s WITH &&), s int4range);
ALTER TABLE children ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY, REPLICA IDENTITY FULL;
ALTER TABLE children OWNER TO app;
CREATE POLICY mine ON children FOR UPDATE TO crew, app USING (id > 0) WITH CHECK (id < 9);
CREATE INDEX parents_lower ON parents (lower(name), (n + 1) DESC NULLS LAST) INCLUDE (at) WHERE n > 5;
ALTER TABLE parents CLUSTER ON parents_pkey;
CREATE INDEX parents_brin ON parents USING brin (at) WITH (pages_per_range = 9);
CREATE TRIGGER seen BEFORE UPDATE OF name ON parents FOR EACH ROW WHEN (old.n IS DISTINCT FROM new.n)
    EXECUTE FUNCTION seen('x', 'y');
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON parents DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION seen();
ALTER TABLE parents DISABLE TRIGGER late;
CREATE STATISTICS st (ndistinct, dependencies) ON name, n FROM parents;
ALTER STATISTICS st SET STATISTICS 200;
CREATE TABLE days (at date NOT NULL, n int DEFAULT 7, PRIMARY KEY (at, n)) PARTITION BY RANGE (at);
CREATE TABLE days_24 PARTITION OF days FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE days_rest PARTITION OF days DEFAULT;
CREATE TABLE days_old (n int DEFAULT 8, at date NOT NULL);
ALTER TABLE days_old ADD PRIMARY KEY (at, n);
ALTER TABLE days ATTACH PARTITION days_old FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE INDEX days_n ON days (n);
CREATE TABLE heir (more text) INHERITS (children);
ALTER TABLE heir ADD PRIMARY KEY (id);
CREATE VIEW named WITH (security_barrier) AS SELECT p.id, p.name AS called, c.parent, (p.n + 1)::int AS n
    FROM parents p LEFT JOIN children c ON c.parent = p.id WHERE p.m = 'ok' AND p.name <> ALL (ARRAY['x', 'y']);
CREATE VIEW counted AS WITH x AS (SELECT name, count(*) FROM parents GROUP BY name) SELECT * FROM x ORDER BY 2 DESC;
CREATE RULE quiet AS ON INSERT TO named DO INSTEAD INSERT INTO parents (name) VALUES (new.called);
CREATE MATERIALIZED VIEW sums AS SELECT m, sum(n) FROM parents GROUP BY m;
CREATE UNIQUE INDEX sums_m ON sums (m);
CREATE EVENT TRIGGER told ON sql_drop EXECUTE FUNCTION told();
ALTER EVENT TRIGGER told DISABLE;
CREATE FOREIGN DATA WRAPPER far OPTIONS (debug 'true');
CREATE SERVER there FOREIGN DATA WRAPPER far OPTIONS (host 'h');
CREATE USER MAPPING FOR app SERVER there OPTIONS (password 'secret');
CREATE FOREIGN TABLE remote (a int OPTIONS (x 'y')) SERVER there OPTIONS (t 'u');
GRANT USAGE ON FOREIGN SERVER there TO crew;
ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA app GRANT SELECT ON TABLES TO crew;
CREATE TRANSFORM FOR public.hstore LANGUAGE sql (FROM SQL WITH FUNCTION pg_catalog.prsd_lextype(internal));
DROP TRANSFORM FOR public.hstore LANGUAGE sql;
INSERT INTO parents (name, n) SELECT 'n' || i, i FROM generate_series(1, 50) i;
"#;

async fn rich(source: &Server, target: &Server) -> (Client, Client, PostgresDatabase) {
    let admin = source.connect("postgres").await;
    admin.batch_execute("CREATE DATABASE shop").await.expect("created");
    let session = source.connect("shop").await;
    session.batch_execute(RICH).await.expect("the schema is legal");
    let postgres = migration("m1", source, target, Settings::default());
    source.mend(target, &postgres).await;
    let plan = plan::read(&postgres).await.expect("read");
    schema::prepare(&postgres, &plan).await.expect("prepared");
    let stop = CancellationToken::new();
    load::run(&postgres, &plan, Arc::new(Progress::default()), stop).await.expect("copied");
    let there = target.connect("shop").await;
    (session, there, postgres)
}

async fn differences(postgres: &PostgresDatabase) -> Vec<String> {
    let plan = migrator::model::plan::Plan::default();
    let compared = postgres.definitions(&plan).await.expect("compared");
    compared.differences
}

/// Statements that change a definition on the source, what names it then, and how it is undone.
const CHANGES: &[(&str, &str, &str)] = &[
    ("CREATE VIEW app.v AS SELECT 1 AS one", "view app.v", "DROP VIEW app.v"),
    (
        "CREATE OR REPLACE VIEW app.counted AS SELECT name, count(*) FROM app.parents GROUP BY name",
        "query of view app.counted",
        "CREATE OR REPLACE VIEW app.counted AS WITH x AS (SELECT name, count(*) FROM app.parents GROUP BY name) SELECT * FROM x ORDER BY 2 DESC",
    ),
    ("CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "function app.f()", "DROP FUNCTION app.f"),
    (
        "CREATE OR REPLACE FUNCTION app.seen() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "function app.seen()",
        "CREATE OR REPLACE FUNCTION app.seen() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    ),
    (
        "ALTER TABLE app.parents ALTER name SET DEFAULT 'other'",
        "default of app.parents.name",
        "ALTER TABLE app.parents ALTER name SET DEFAULT 'it''s'",
    ),
    (
        "ALTER TABLE app.parents ALTER name DROP NOT NULL",
        "column app.parents.name",
        "ALTER TABLE app.parents ALTER name SET NOT NULL",
    ),
    ("ALTER TYPE app.mood ADD VALUE 'glad' BEFORE 'ok'", "label 'glad' of app.mood", ""),
    ("GRANT DELETE ON app.parents TO crew", "table app.parents", "REVOKE DELETE ON app.parents FROM crew"),
    (
        "GRANT UPDATE (at) ON app.parents TO crew",
        "column app.parents.at",
        "REVOKE UPDATE (at) ON app.parents FROM crew",
    ),
    ("ALTER TABLE app.days_rest OWNER TO crew", "table app.days_rest", "ALTER TABLE app.days_rest OWNER TO postgres"),
    (
        "ALTER TABLE app.parents ENABLE ROW LEVEL SECURITY",
        "table app.parents",
        "ALTER TABLE app.parents DISABLE ROW LEVEL SECURITY",
    ),
    (
        "ALTER POLICY mine ON app.children USING (id > 1)",
        "policy mine of app.children",
        "ALTER POLICY mine ON app.children USING (id > 0)",
    ),
    (
        "CREATE RULE r AS ON DELETE TO app.parents DO ALSO NOTIFY x",
        "rule r of app.parents",
        "DROP RULE r ON app.parents",
    ),
    (
        "ALTER SEQUENCE app.loose INCREMENT 7",
        "parameters of sequence app.loose",
        "ALTER SEQUENCE app.loose INCREMENT 5",
    ),
    (
        "ALTER SEQUENCE app.loose OWNED BY app.parents.n",
        "parameters of sequence app.loose",
        "ALTER SEQUENCE app.loose OWNED BY NONE",
    ),
    ("CREATE SCHEMA extra", "schema extra", "DROP SCHEMA extra"),
    (
        "ALTER DATABASE shop SET statement_timeout = '9s'",
        "settings of all roles in this database",
        "ALTER DATABASE shop RESET statement_timeout",
    ),
    ("ALTER ROLE app SET statement_timeout = '9s'", "settings of role app", "ALTER ROLE app RESET statement_timeout"),
    ("GRANT CREATE ON DATABASE shop TO crew", "this database", "REVOKE CREATE ON DATABASE shop FROM crew"),
    (
        "ALTER TABLE app.days DETACH PARTITION app.days_24",
        "inheritance of app.days_24 from app.days",
        "ALTER TABLE app.days ATTACH PARTITION app.days_24 FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
    ),
    (
        "ALTER TABLE app.heir NO INHERIT app.children",
        "inheritance of app.heir from app.children",
        "ALTER TABLE app.heir INHERIT app.children",
    ),
    ("CREATE INDEX later ON app.parents (at)", "index app.later of app.parents", "DROP INDEX app.later"),
    (
        "ALTER TABLE app.parents ADD CONSTRAINT few CHECK (n < 1000)",
        "constraint few of app.parents",
        "ALTER TABLE app.parents DROP CONSTRAINT few",
    ),
    (
        "ALTER DOMAIN app.positive ADD CHECK (VALUE < 99)",
        "constraint positive_check1 of app.positive",
        "ALTER DOMAIN app.positive DROP CONSTRAINT positive_check1",
    ),
    ("ALTER ROLE quiet CREATEDB", "role quiet", "ALTER ROLE quiet NOCREATEDB"),
    ("GRANT crew TO quiet", "membership of quiet in crew", "REVOKE crew FROM quiet"),
    ("CREATE ROLE newcomer", "role newcomer", "DROP ROLE newcomer"),
    ("COMMENT ON TABLE app.days IS 'per day'", "comment on table app.days", "COMMENT ON TABLE app.days IS NULL"),
    ("SELECT lo_create(7777)", "large object 7777", "SELECT lo_unlink(7777)"),
    (
        "ALTER TABLE app.parents ENABLE TRIGGER late",
        "trigger late of app.parents",
        "ALTER TABLE app.parents DISABLE TRIGGER late",
    ),
    (
        "ALTER STATISTICS app.st SET STATISTICS 150",
        "statistics object app.st",
        "ALTER STATISTICS app.st SET STATISTICS 200",
    ),
    ("ALTER SERVER there OPTIONS (SET host 'g')", "server there", "ALTER SERVER there OPTIONS (SET host 'h')"),
    (
        "ALTER USER MAPPING FOR app SERVER there OPTIONS (SET password 'other')",
        "user mapping of app for server there",
        "ALTER USER MAPPING FOR app SERVER there OPTIONS (SET password 'secret')",
    ),
    ("ALTER EVENT TRIGGER told ENABLE", "event trigger told", "ALTER EVENT TRIGGER told DISABLE"),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA app GRANT INSERT ON TABLES TO crew",
        "default privileges of app for r in app",
        "ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA app REVOKE INSERT ON TABLES FROM crew",
    ),
    (
        "GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_logdir() TO crew",
        "privilege EXECUTE to crew on function pg_catalog.pg_ls_logdir()",
        "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_ls_logdir() FROM crew",
    ),
    (
        "ALTER TEXT SEARCH CONFIGURATION app.conf ALTER MAPPING FOR asciiword WITH app.dict",
        "mapping of text search configuration app.conf",
        "ALTER TEXT SEARCH CONFIGURATION app.conf ALTER MAPPING FOR asciiword WITH pg_catalog.simple",
    ),
    (
        "ALTER TABLE app.parents SET (fillfactor = 80)",
        "table app.parents",
        "ALTER TABLE app.parents SET (fillfactor = 90)",
    ),
    (
        "ALTER TABLE app.parents REPLICA IDENTITY FULL",
        "table app.parents",
        "ALTER TABLE app.parents REPLICA IDENTITY DEFAULT",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_class_of_object_arrives_and_every_change_of_one_is_seen_and_named() {
    let (source, target) = (Server::start(14, ""), Server::start(18, ""));
    let (session, there, postgres) = rich(&source, &target).await;
    assert_eq!(differences(&postgres).await, Vec::<String>::new());
    let quiet = postgres.definitions_stamp().await.expect("read");
    // What comes and goes by itself is no change.
    for harmless in [
        "CREATE TEMP TABLE passing (a int PRIMARY KEY, b text DEFAULT 'x')",
        "ANALYZE; VACUUM",
        "UPDATE app.parents SET n = n + 1",
        "TRUNCATE app.days",
        "SELECT nextval('app.loose')",
        "REFRESH MATERIALIZED VIEW app.sums",
    ] {
        for statement in harmless.split(';') {
            session.batch_execute(statement).await.expect(harmless);
        }
        let now = postgres.definitions_stamp().await.expect("read");
        assert_eq!(now, quiet, "{harmless}");
    }
    for (change, object, undo) in CHANGES {
        let before = postgres.definitions_stamp().await.expect("read");
        session.batch_execute(change).await.expect(change);
        let after = postgres.definitions_stamp().await.expect("read");
        assert_ne!(before, after, "{change} left the stamp as it was");
        let found = differences(&postgres).await;
        assert!(found.iter().any(|text| text.starts_with(object)), "{change}: {found:?}");
        if undo.is_empty() {
            there.batch_execute(change).await.expect(change);
        } else {
            session.batch_execute(undo).await.expect(undo);
        }
        let left = differences(&postgres).await;
        assert!(left.is_empty(), "after {change} and {undo}: {left:?}");
    }
}

/// A class that a future version brings, or a column that holds a parsed form without its text, is found here.
#[tokio::test(flavor = "multi_thread")]
async fn the_inventory_knows_every_catalogue_of_every_version_and_no_column_is_skipped_in_silence() {
    let known: BTreeSet<&str> = INVENTORY.iter().map(|(name, _)| *name).collect();
    assert_eq!(known.len(), INVENTORY.len(), "a catalogue stands there twice");
    let mut unseen: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (catalogue, treatment) in INVENTORY {
        if let Treatment::Compared(class) = treatment {
            unseen.extend(class.without.iter().map(|(column, _)| (*catalogue, *column)));
        }
    }
    for major in [14, 15, 18] {
        let server = Server::start(major, "");
        let session = server.connect("postgres").await;
        let rows = session
            .query(
                "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, NULL)
                 FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
                 WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind = 'r'",
                &[],
            )
            .await
            .expect("read");
        for row in rows {
            let (catalogue, column, kind): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
            let (_, treatment) = INVENTORY
                .iter()
                .find(|(name, _)| *name == catalogue)
                .unwrap_or_else(|| panic!("version {major} has {catalogue}, which the inventory lacks"));
            let Treatment::Compared(class) = treatment else {
                continue;
            };
            unseen.retain(|(of, name)| *of != catalogue || *name != column);
            let skipped = SKIPPED_TYPES.iter().any(|(name, _)| *name == kind);
            if skipped && kind == "pg_node_tree" {
                assert!(!class.text.is_empty(), "{catalogue}.{column} has a text that nobody reads");
            }
        }
    }
    // Position caches and the like that only old versions had would stay here for no reason.
    let allowed = BTreeSet::from([("pg_database", "daticulocale")]);
    assert!(unseen.is_subset(&allowed), "left out, and on no server: {unseen:?}");
}

/// What is equal must be called equal, else nobody can cut over.
#[tokio::test(flavor = "multi_thread")]
async fn between_other_versions_and_for_some_schemas_alone_no_difference_is_seen_where_there_is_none() {
    let (old, middle, new) = (Server::start(14, ""), Server::start(15, ""), Server::start(18, ""));
    let (_session, _there, postgres) = rich(&old, &middle).await;
    assert_eq!(differences(&postgres).await, Vec::<String>::new());
    // From 15 on, once more, with what 14 lacks.
    let session = middle.connect("shop").await;
    session
        .batch_execute(
            "GRANT SET ON PARAMETER work_mem TO crew;
             CREATE SCHEMA part; CREATE TABLE part.t (id int PRIMARY KEY, a int, UNIQUE NULLS NOT DISTINCT (a));
             COMMENT ON TABLE part.t IS 'some'; CREATE VIEW part.v WITH (security_invoker) AS SELECT a FROM part.t;
             CREATE TYPE part.kind AS ENUM ('x'); CREATE FUNCTION part.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
             CREATE TABLE part.log (a int, k part.kind); ALTER TABLE part.log REPLICA IDENTITY FULL;
             CREATE TRIGGER t BEFORE INSERT ON part.log FOR EACH ROW EXECUTE FUNCTION app.seen();
             ALTER TABLE part.log DISABLE TRIGGER t; DROP TRIGGER t ON part.log",
        )
        .await
        .expect("version 15 has them");
    for (name, database, schemas) in [("whole", "shop", Vec::new()), ("some", "shop", vec!["part".to_owned()])] {
        let settings = Settings { schemas, ..Settings::default() };
        let admin = new.connect("postgres").await;
        let drop = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
        admin.batch_execute(&drop).await.expect("dropped");
        let postgres = migration(name, &middle, &new, settings);
        middle.mend(&new, &postgres).await;
        let plan = plan::read(&postgres).await.expect("read");
        schema::prepare(&postgres, &plan).await.unwrap_or_else(|error| panic!("{name}: {}", error.full_text()));
        let stop = CancellationToken::new();
        load::run(&postgres, &plan, Arc::new(Progress::default()), stop)
            .await
            .unwrap_or_else(|error| panic!("{name}: {}", error.full_text()));
        assert_eq!(differences(&postgres).await, Vec::<String>::new(), "{name}");
    }
    let parameters = new.connect("postgres").await;
    let row = parameters
        .query_one("SELECT paracl::text FROM pg_parameter_acl WHERE parname = 'work_mem'", &[])
        .await
        .expect("it was carried");
    assert!(row.get::<_, String>(0).contains("crew=s"));
}
