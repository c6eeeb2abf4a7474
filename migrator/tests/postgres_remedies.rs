//! Each statement that a finding tells to run is run as it stands, on every version that prints it, and ends the finding.

mod servers;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use migrator::database::{Comparison as _, Fencing as _, Preflight as _};
use migrator::model::plan::Settings;
use migrator::postgres::{Endpoint, client, load, plan, schema};
use migrator::preflight::Check;
use servers::postgres::{Server, between, migration};
use servers::whole::{errors, found, shown};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

/// What the source's configuration has in the way of a migration.
const SOURCE_SETTINGS: &str = "wal_level=replica\nmax_replication_slots=2\nmax_wal_senders=1\n\
    max_slot_wal_keep_size=1GB\nmax_prepared_transactions=4\nmax_connections=20\nmax_locks_per_transaction=10\n\
    search_path='\"$user\", public, app'\ndatestyle='SQL, DMY'\n";
const TARGET_SETTINGS: &str = "wal_level=replica\nmax_replication_slots=0\nmax_wal_senders=0\n\
    max_connections=20\nmax_locks_per_transaction=10\n";

/// Trouble on the source: each of it is a finding with a statement.
const TROUBLE: &str = r#"
CREATE SCHEMA app;
CREATE TABLE "no key" (a int);
CREATE TABLE late (a int PRIMARY KEY DEFERRABLE);
CREATE UNLOGGED TABLE fleeting (a int PRIMARY KEY);
CREATE TABLE ruled (a int PRIMARY KEY);
CREATE RULE "a rule" AS ON UPDATE TO ruled DO ALSO NOTHING; CREATE RULE other AS ON DELETE TO ruled DO ALSO NOTHING;
ALTER TABLE ruled ENABLE ALWAYS RULE "a rule"; ALTER TABLE ruled ENABLE REPLICA RULE other;
CREATE TABLE tr (a int PRIMARY KEY);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER "a trigger" AFTER INSERT ON tr FOR EACH ROW EXECUTE FUNCTION f();
CREATE TRIGGER other AFTER INSERT ON tr FOR EACH ROW EXECUTE FUNCTION f();
ALTER TABLE tr ENABLE ALWAYS TRIGGER "a trigger"; ALTER TABLE tr ENABLE REPLICA TRIGGER other;
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, p int CONSTRAINT one REFERENCES parent, v int CONSTRAINT small CHECK (v < 9));
CREATE FUNCTION helper(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 0';
CREATE FUNCTION valid(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN public.helper($1); END';
CREATE TABLE named (id int PRIMARY KEY CONSTRAINT named_valid CHECK (valid(id)));
INSERT INTO named VALUES (1);
CREATE OR REPLACE FUNCTION valid(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN helper($1); END';
SET session_replication_role = replica; INSERT INTO child VALUES (1, 77, 1); RESET session_replication_role;
ALTER TABLE child DROP CONSTRAINT small; INSERT INTO child VALUES (2, NULL, 10);
ALTER TABLE child ADD CONSTRAINT small CHECK (v < 9) NOT VALID;
UPDATE pg_constraint SET convalidated = true WHERE conname = 'small';
CREATE ROLE clerk LOGIN;
CREATE ROLE boss LOGIN SUPERUSER;
SELECT pg_create_physical_replication_slot('headgate_m1');
CREATE PUBLICATION headgate_m1;
CREATE FUNCTION never() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'ask'; END $$;
CREATE EVENT TRIGGER "no more" ON ddl_command_start WHEN TAG IN ('CREATE PUBLICATION') EXECUTE FUNCTION never();
"#;

/// What is on both sides: on the target it is in the way, each by the word that drops it.
const IN_THE_WAY: &str = r#"
CREATE TABLE "a table" (a int PRIMARY KEY);
CREATE VIEW "a view" AS SELECT 1 AS one;
CREATE MATERIALIZED VIEW "a sum" AS SELECT 1 AS one;
CREATE SEQUENCE "a sequence";
CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
CREATE FOREIGN TABLE "a foreign table" (a int) SERVER s;
CREATE TYPE "a pair" AS (a int, b int);
CREATE TYPE "a mood" AS ENUM ('sad', 'happy');
CREATE DOMAIN "a domain" AS int CHECK (VALUE > 0);
CREATE TYPE "a range" AS RANGE (subtype = int4);
CREATE FUNCTION "a function"(int, text) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE "a procedure"(int) LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE "an aggregate"(int) (SFUNC = int4pl, STYPE = int);
CREATE AGGREGATE "of nothing"(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0');
"#;

/// More relations than there is room for locks, each made by itself.
const MANY: &str = "DO $$ BEGIN FOR i IN 1..60 LOOP
    EXECUTE format('CREATE TABLE many_%s (a int PRIMARY KEY)', i); COMMIT; END LOOP; END $$";

/// An extension that only this server has; up to version 16 one that newer ones do not have any more.
fn extension(major: u32) -> (&'static str, String, Option<PathBuf>) {
    if major < 17 {
        return ("adminpack", String::new(), None);
    }
    let folder = std::env::temp_dir().join(format!("headgate-test-{:032x}", rand::random::<u128>()));
    let inside = folder.join("extension");
    fs::create_dir_all(&inside).expect("it can be created");
    for path in [&folder, &inside] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it can be opened to all");
    }
    let write = |name: &str, text: &str| fs::write(inside.join(name), text).expect("it can be written");
    write("only_here.control", "default_version = '1'\n");
    write("only_here--1.sql", "CREATE FUNCTION only_here() RETURNS int LANGUAGE sql AS 'SELECT 1';\n");
    let setting = format!("extension_control_path = '{}:$system'\n", folder.display());
    ("only_here", setting, Some(folder))
}

async fn run(session: &Client, statement: &str) {
    let done = session.batch_execute(statement).await;
    done.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
}

/// A client of an application, with a name of its own.
async fn application(server: &Server, user: &str) -> Client {
    let endpoint = Endpoint { user: user.into(), ..server.endpoint("shop") };
    let session = client::connect_plainly(&endpoint, "test").await.unwrap_or_else(shown);
    run(&session, "SET application_name = 'till'").await;
    session
}

/// Where a finding's statement is to be run.
fn is_on_target(check: &Check) -> bool {
    check.name.starts_with("target")
        || ["max_wal_size", "accounts", "schema_trial"].contains(&check.name.as_str())
        || check.name == "max_locks_per_transaction" && check.evidence.ends_with("on the target")
}

/// Runs what these findings tell to run, where it is to be run.
async fn mend(checks: &[Check], source: &Server, target: &Server, database: &str) {
    let mut done = BTreeSet::new();
    for check in checks.iter().filter(|check| !check.fix.is_empty()) {
        let server = if is_on_target(check) { target } else { source };
        let creates = check.name == "target_database";
        let session = server.connect(if creates { "postgres" } else { database }).await;
        if done.insert((is_on_target(check), check.fix.clone())) {
            run(&session, &check.fix).await;
        }
    }
}

/// The findings of a migration of everything between superusers: each is there, its statement is run, and it is gone.
async fn superusers(from: u32, to: u32) {
    let (name, setting, folder) = extension(from);
    let idle = if from >= 18 { "idle_replication_slot_timeout=1h\n" } else { "" };
    let source = Server::start(from, &format!("{SOURCE_SETTINGS}{setting}{idle}"));
    let target = Server::start(to, TARGET_SETTINGS);
    for server in [&source, &target] {
        run(&server.connect("postgres").await, "CREATE DATABASE shop").await;
    }
    let session = source.connect("shop").await;
    run(&session, &format!("CREATE EXTENSION {name}")).await;
    for statement in [
        "CREATE SUBSCRIPTION \"it writes\" CONNECTION 'port=1' PUBLICATION p WITH (connect = false)",
        "ALTER SUBSCRIPTION \"it writes\" ENABLE",
        MANY,
        TROUBLE,
        IN_THE_WAY,
        "BEGIN; INSERT INTO parent VALUES (1); PREPARE TRANSACTION 'it''s open'",
    ] {
        run(&session, statement).await;
    }
    let there = target.connect("shop").await;
    run(&there, IN_THE_WAY).await;
    run(&there, "CREATE ROLE clerk NOLOGIN").await;
    // One has a transaction open for long, as a superuser that is none of the server's first; one as the first of all.
    let boss = application(&source, "boss").await;
    run(&boss, "BEGIN; SELECT FROM parent").await;
    let first = application(&source, "postgres").await;
    let postgres = migration("m1", &source, &target, Settings::default());
    run(
        &session,
        "SELECT pg_sleep(greatest(0, 30.5 - extract(epoch FROM clock_timestamp() - xact_start)))
         FROM pg_stat_activity WHERE application_name = 'till' AND state = 'idle in transaction'",
    )
    .await;
    let checks = found(&postgres).await;
    let mut expected = vec![
        ("wal_level", "replica", 1),
        ("max_replication_slots", "1 free", 1),
        ("max_wal_senders", "1 free", 1),
        ("target_way_back", "wal_level is replica", 1),
        ("target_way_back", "no max_replication_slots", 1),
        ("target_way_back", "no max_wal_senders", 1),
        ("max_slot_wal_keep_size", "1GB", 1),
        ("max_locks_per_transaction", "on the source", 1),
        ("max_locks_per_transaction", "on the target", 1),
        ("max_wal_size", "1GB", 1),
        ("client_settings", "search_path", 1),
        ("client_settings", "DateStyle", 1),
        ("replica_identity", "no key", 1),
        ("deferrable_key", "late", 1),
        ("unlogged_tables", "fleeting", 1),
        ("rules", "ruled", 1),
        ("always_triggers", "tr has", 1),
        ("constraint_rows", "one (1)", 1),
        ("constraint_rows", "constraint small", 1),
        ("expressions", "named_valid", 1),
        ("extensions", name, 1),
        ("prepared_transactions", "it''s open", 1),
        ("subscriptions", "it writes", 1),
        ("event_triggers", "no more", 1),
        ("left_overs", "slot", 1),
        ("left_overs", "publication", 1),
        ("long_transactions", "till", 1),
        ("superuser_applications", "boss", 1),
        ("accounts", "clerk: it may not log in", 1),
        ("target_objects", "is on the target already", 13),
    ];
    if from >= 18 {
        expected.push(("idle_replication_slot_timeout", "1h", 1));
    }
    let of = |name: &str, evidence: &str| -> Vec<&Check> {
        let of = |check: &&Check| check.name == name && check.evidence.contains(evidence);
        checks.iter().filter(of).collect()
    };
    for (name, evidence, count) in &expected {
        let reported = of(name, evidence);
        let with_fix = reported.iter().filter(|check| !check.fix.is_empty());
        assert_eq!(with_fix.count(), *count, "{name} {evidence}: {checks:#?}");
    }
    // Nobody is told to take its rights from the server's first superuser.
    let of_first = of("superuser_applications", "as postgres");
    assert!(of_first.len() == 1 && of_first[0].fix.is_empty(), "{checks:#?}");
    drop(first);
    let names: BTreeSet<&str> = expected.iter().map(|(name, ..)| *name).collect();
    let ours: Vec<Check> = checks.iter().filter(|check| names.contains(&*check.name)).cloned().collect();
    mend(&ours, &source, &target, "shop").await;
    boss.batch_execute("SELECT 1").await.expect_err("its session was ended");
    drop((session, there));
    // What a new setting needs is said beside it: a restart reads them all.
    source.restart();
    target.restart();
    let left: Vec<Check> = found(&postgres).await.into_iter().filter(|check| names.contains(&*check.name)).collect();
    let left: Vec<&Check> = left.iter().filter(|check| check.name != "accounts").collect();
    assert_eq!(left, Vec::<&Check>::new());
    let accounts = postgres.accounts().await.unwrap_or_else(shown);
    let clerk = accounts.iter().find(|account| account.name == "clerk").expect("it may log in");
    assert!(matches!(clerk.verdict, migrator::accounts::Verdict::Proved(_)), "{clerk:?}");
    // A list stays a list.
    let plain = application(&source, "boss").await;
    let path: String = plain.query_one("SHOW search_path", &[]).await.expect("it answers").get(0);
    assert_eq!(path, "\"$user\", public, app");
    folder.map(fs::remove_dir_all);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_statement_of_a_precheck_from_14_to_18_ends_its_finding() {
    superusers(14, 18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_statement_of_a_precheck_from_15_to_18_ends_its_finding() {
    superusers(15, 18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_statement_of_a_precheck_from_18_to_18_ends_its_finding() {
    superusers(18, 18).await;
}

/// What a database has that a role without rights may neither see nor carry over.
const ROLES: &str = "
    CREATE ROLE app LOGIN; CREATE ROLE holder; CREATE ROLE reader; CREATE ROLE counter LOGIN;
    CREATE ROLE copier REPLICATION; CREATE ROLE seer BYPASSRLS; CREATE ROLE big SUPERUSER;
    GRANT reader TO app; GRANT pg_read_all_settings TO app; ALTER ROLE reader SET work_mem = '5MB';
    ALTER ROLE app SET log_min_duration_statement = 1;
    CREATE ROLE mover LOGIN; CREATE DATABASE shop OWNER app; REVOKE CONNECT ON DATABASE shop FROM PUBLIC";
const OBJECTS: &str = "
    CREATE EXTENSION postgres_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO PUBLIC;
    CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw; ALTER SERVER far OWNER TO app;
    CREATE USER MAPPING FOR app SERVER far;
    CREATE TABLE supers (a int PRIMARY KEY);
    CREATE TABLE owned (a int PRIMARY KEY); ALTER TABLE owned OWNER TO app;
    ALTER TABLE owned ENABLE ROW LEVEL SECURITY; ALTER TABLE owned FORCE ROW LEVEL SECURITY;
    CREATE TABLE held (a int PRIMARY KEY); ALTER TABLE held OWNER TO holder;
    CREATE SCHEMA counting AUTHORIZATION counter; CREATE SEQUENCE counting.calls; ALTER SEQUENCE counting.calls OWNER TO counter;
    ALTER SCHEMA public OWNER TO app; ALTER DATABASE shop SET log_min_duration_statement = 5";

/// The checks of what Headgate's own roles may do.
const RIGHTS: [&str; 17] = [
    "source_reachable",
    "source_rights",
    "source_sessions",
    "source_passwords",
    "source_origins",
    "source_user_mappings",
    "deadlock_timeout",
    "row_security",
    "target_database",
    "target_rights",
    "target_triggers",
    "target_origins",
    "target_passwords",
    "target_user_mappings",
    "target_row_security",
    "target_roles",
    "schema_trial",
];

/// A role that has no right at all is led to all it needs: each statement is run as a superuser, where it is to be run.
async fn least(from: u32, to: u32) {
    let (source, target) = (Server::start(from, ""), Server::start(to, ""));
    let admin = source.connect("postgres").await;
    for statement in ROLES.split(';') {
        run(&admin, statement).await;
    }
    let session = source.connect("shop").await;
    run(&session, OBJECTS).await;
    if from >= 15 {
        run(&session, "GRANT SET ON PARAMETER log_min_messages TO app").await;
    }
    let there = target.connect("postgres").await;
    run(&there, "CREATE ROLE mover LOGIN; CREATE ROLE holder; CREATE ROLE reader").await;
    let postgres = between("m1", source.endpoint_as("mover", "shop"), target.endpoint_as("mover", "shop"));
    let mut reported: BTreeSet<(String, String)> = BTreeSet::new();
    let mut left = Vec::new();
    for _ in 0..12 {
        left = found(&postgres).await;
        left.retain(|check| RIGHTS.contains(&check.name.as_str()) && !check.fix.is_empty());
        if left.is_empty() {
            break;
        }
        let before = reported.len();
        reported.extend(left.iter().map(|check| (check.name.clone(), check.fix.clone())));
        assert!(reported.len() > before, "what was told did not end it: {left:#?}");
        mend(&left, &source, &target, "shop").await;
        let made: bool = there
            .query_one("SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'shop')", &[])
            .await
            .expect("it answers")
            .get(0);
        if made {
            // What only a superuser may create is there before.
            let inside = target.connect("shop").await;
            let extension = "CREATE EXTENSION IF NOT EXISTS postgres_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO PUBLIC";
            run(&inside, extension).await;
        }
    }
    assert_eq!(left, Vec::<Check>::new(), "after {reported:#?}");
    let mut expected = vec![
        ("source_reachable", "GRANT CONNECT ON DATABASE \"shop\" TO \"mover\""),
        ("source_rights", "ALTER ROLE \"mover\" REPLICATION"),
        ("source_rights", "GRANT CREATE ON DATABASE \"shop\" TO \"mover\""),
        ("source_rights", "GRANT app TO \"mover\""),
        ("source_rights", "ALTER TABLE public.supers OWNER TO \"mover\""),
        ("source_rights", "GRANT USAGE ON SCHEMA counting TO \"mover\""),
        ("source_rights", "GRANT SELECT ON SEQUENCE counting.calls TO \"mover\""),
        ("source_sessions", "GRANT pg_read_all_stats TO \"mover\""),
        ("source_passwords", "GRANT SELECT ON pg_catalog.pg_authid TO \"mover\""),
        ("source_user_mappings", "GRANT SELECT ON pg_catalog.pg_user_mapping TO \"mover\""),
        ("source_origins", "GRANT SELECT ON pg_catalog.pg_replication_origin_status TO \"mover\""),
        ("row_security", "ALTER ROLE mover BYPASSRLS"),
        ("target_database", "CREATE DATABASE \"shop\""),
    ];
    if from >= 15 {
        expected.push(("deadlock_timeout", "GRANT SET ON PARAMETER deadlock_timeout TO \"mover\""));
    }
    if to >= 15 {
        expected.extend([
            ("target_triggers", "GRANT SET ON PARAMETER session_replication_role TO \"mover\""),
            ("target_origins", "GRANT EXECUTE ON FUNCTION pg_catalog.pg_replication_origin_create(text) TO \"mover\""),
            ("target_passwords", "GRANT SELECT ON pg_catalog.pg_authid TO \"mover\""),
            ("target_user_mappings", "GRANT SELECT ON pg_catalog.pg_user_mapping TO \"mover\""),
            ("target_row_security", "ALTER ROLE \"mover\" BYPASSRLS"),
            ("target_roles", "ALTER ROLE \"mover\" CREATEROLE"),
            ("target_roles", "GRANT SET ON PARAMETER \"log_min_duration_statement\" TO \"mover\""),
            ("target_roles", "CREATE ROLE \"big\" SUPERUSER"),
            ("schema_trial", "ALTER ROLE \"mover\" CREATEDB"),
        ]);
    } else {
        expected.push(("target_rights", "ALTER ROLE \"mover\" SUPERUSER"));
    }
    if from >= 15 && to >= 15 {
        expected.push(("target_roles", "GRANT SET ON PARAMETER log_min_messages TO \"mover\" WITH GRANT OPTION"));
    }
    if to >= 16 {
        expected.extend([
            ("target_roles", "ALTER ROLE \"mover\" REPLICATION"),
            ("target_roles", "GRANT \"holder\" TO \"mover\""),
            ("target_roles", "GRANT \"reader\" TO \"mover\" WITH ADMIN OPTION"),
            ("target_roles", "GRANT \"pg_read_all_settings\" TO \"mover\" WITH ADMIN OPTION"),
        ]);
    }
    for (name, fix) in &expected {
        assert!(
            reported.iter().any(|(one, said)| one == name && said.starts_with(fix)),
            "{name}: {fix}: {reported:#?}"
        );
    }
    let broad =
        ["ALL FUNCTIONS", "pg_read_server", "pg_write_server", "pg_execute", "GRANT postgres", "GRANT \"postgres\""];
    for (name, fix) in &reported {
        assert!(!broad.iter().any(|word| fix.contains(word)), "{name}: {fix}");
        let superuser = fix.contains(" SUPERUSER") && to >= 15 && !fix.starts_with("CREATE ROLE \"big\"");
        assert!(!superuser, "{name}: {fix}");
    }
    // Nobody may own something where it may not create: that is told, and the source's owner ends it.
    if from >= 15 {
        let checks = found(&postgres).await;
        let refused: Vec<&Check> = errors(&checks);
        let names = |word: &str| refused.iter().any(|check| check.evidence.contains(word));
        assert!(from > 15 || names("permission denied for schema public"), "{checks:#?}");
        run(&session, "GRANT CREATE ON SCHEMA public TO holder").await;
    }
    // What was granted is enough to begin with. Only programs of the source's version or newer can dump it.
    if from <= 15 {
        let checks = found(&postgres).await;
        assert_eq!(errors(&checks), Vec::<&Check>::new());
        let plan = plan::read(&postgres).await.unwrap_or_else(shown);
        schema::prepare(&postgres, &plan).await.unwrap_or_else(shown);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_rights_is_told_each_that_it_needs_from_14_to_14() {
    least(14, 14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_rights_is_told_each_that_it_needs_from_14_to_15() {
    least(14, 15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_rights_is_told_each_that_it_needs_from_15_to_18() {
    least(15, 18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_rights_is_told_each_that_it_needs_from_18_to_18() {
    least(18, 18).await;
}

/// Options of a user mapping, which the server shows to few.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_side_hides_of_a_user_mapping_cannot_be_known_until_the_least_grant_lets_us_look() {
    let (source, target) = (Server::start(14, ""), Server::start(18, ""));
    let made = "CREATE EXTENSION postgres_fdw; CREATE ROLE app; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw;
        CREATE USER MAPPING FOR app SERVER far OPTIONS (password 'known to few')";
    for server in [&source, &target] {
        run(&server.connect("postgres").await, "CREATE DATABASE shop").await;
        run(&server.connect("shop").await, made).await;
    }
    let there = target.connect("shop").await;
    run(&there, "CREATE ROLE mover LOGIN").await;
    let postgres = between("m1", source.endpoint("shop"), target.endpoint_as("mover", "shop"));
    let reported = async || {
        let plan = plan::read(&postgres).await.unwrap_or_else(shown);
        let compared = postgres.definitions(&plan).await.unwrap_or_else(shown);
        let mut reported = compared.differences;
        reported.retain(|text| text.contains("user mapping"));
        reported
    };
    let unknown = reported().await;
    let grant = "GRANT SELECT ON pg_catalog.pg_user_mapping TO \"mover\"";
    assert_eq!(
        unknown,
        [format!(
            "user mapping of app for server far (cannot be known: a part of it is hidden from us on the target, where {grant} \
             lets us look)"
        )]
    );
    let checks = found(&postgres).await;
    let named = checks.iter().find(|check| check.name == "target_user_mappings");
    assert_eq!(named.expect("it is named before").fix, grant);
    run(&there, grant).await;
    assert_eq!(reported().await, Vec::<String>::new());
    let checks = found(&postgres).await;
    assert!(!checks.iter().any(|check| check.name == "target_user_mappings"));
    // Now a difference is seen, and that it came, without its value.
    let before = postgres.definitions_stamp().await.unwrap_or_else(shown);
    run(&there, "ALTER USER MAPPING FOR app SERVER far OPTIONS (SET password 'another')").await;
    let after = postgres.definitions_stamp().await.unwrap_or_else(shown);
    assert_ne!(before, after, "nobody would look again");
    assert_eq!(reported().await, ["user mapping of app for server far (differs in umoptions)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_readiness_tells_to_run_ends_its_finding_on_14_15_and_18() {
    for major in [14, 15, 18] {
        let source = Server::start(major, "");
        let admin = source.connect("postgres").await;
        for statement in [
            "CREATE DATABASE shop",
            "CREATE DATABASE other",
            "CREATE ROLE mover LOGIN",
            "CREATE ROLE boss LOGIN SUPERUSER",
        ] {
            run(&admin, statement).await;
        }
        let session = source.connect("shop").await;
        run(&session, "CREATE TABLE t (a int PRIMARY KEY)").await;
        let postgres = between("m1", source.endpoint_as("mover", "shop"), source.endpoint("other"));
        let boss = application(&source, "boss").await;
        run(&boss, "BEGIN; INSERT INTO t VALUES (1)").await;
        let reported = async || -> Vec<Check> {
            let checks = postgres.writers(&|| Ok(Vec::new())).await.unwrap_or_else(shown);
            checks
                .into_iter()
                // What the target takes from others ends with a check of the migration, for which this is none.
                .filter(|check| !check.fix.is_empty() && check.name != "foreign_writes")
                .collect()
        };
        let checks = reported().await;
        let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
        assert_eq!(
            names,
            ["writers", "direct_sessions", "replication_origins", "replication_origins"],
            "{major}: {checks:#?}"
        );
        for check in &checks {
            run(&session, &check.fix).await;
        }
        boss.batch_execute("COMMIT").await.expect_err("its session was ended");
        assert_eq!(reported().await, Vec::<Check>::new(), "{major}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_materialized_view_is_as_new_as_its_table_once_the_printed_statement_was_run() {
    for from in [14, 15] {
        let (source, target) = (Server::start(from, ""), Server::start(18, ""));
        run(&source.connect("postgres").await, "CREATE DATABASE shop").await;
        let made =
            "CREATE TABLE t (a int PRIMARY KEY); CREATE MATERIALIZED VIEW \"a sum\" AS SELECT count(*) AS n FROM t";
        run(&source.connect("shop").await, made).await;
        let postgres = migration("m1", &source, &target, Settings::default());
        let checks = found(&postgres).await;
        let named = checks.iter().find(|check| check.name == "materialized_views");
        let fix = &named.expect("it is named").fix;
        let plan = plan::read(&postgres).await.unwrap_or_else(shown);
        schema::prepare(&postgres, &plan).await.unwrap_or_else(shown);
        let stop = CancellationToken::new();
        load::run(&postgres, &plan, Arc::default(), stop).await.unwrap_or_else(shown);
        let there = target.connect("shop").await;
        run(&there, "INSERT INTO t VALUES (1)").await;
        let count = async || -> i64 {
            let row = there.query_one("SELECT n FROM \"a sum\"", &[]).await;
            row.expect("it answers").get(0)
        };
        assert_eq!(count().await, 0);
        run(&there, fix).await;
        assert_eq!(count().await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_may_not_be_read_is_told_with_the_grants_that_let_us_look() {
    let source = Server::start(14, "");
    run(&source.connect("postgres").await, "CREATE DATABASE shop").await;
    let session = source.connect("shop").await;
    let left =
        "CREATE ROLE mover LOGIN; CREATE SCHEMA headgate; CREATE TABLE headgate.switches (migration text PRIMARY KEY,
        route text, source text, target text, epoch bigint, journal text, switched boolean, sealed timestamptz);
        INSERT INTO headgate.switches VALUES ('other', 'shop', 'blue', 'green', 1, 'j', true, now())";
    run(&session, left).await;
    let postgres = between("m1", source.endpoint_as("mover", "shop"), source.endpoint("other"));
    let failure = postgres.marks().await.expect_err("it may not look");
    let remedy = failure.remedy_text().expect("it is told");
    assert!(remedy.starts_with("GRANT USAGE ON SCHEMA headgate TO"), "{remedy}");
    run(&session, remedy).await;
    let marks = postgres.marks().await.unwrap_or_else(shown);
    assert_eq!(marks.len(), 1, "{marks:?}");
}
