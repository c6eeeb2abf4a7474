//! Settings that a server, database or role can change: none of them reaches Headgate's own sessions.

mod servers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use migrator::database::SchemaAndLoad as _;
use migrator::follow::Follow;
use migrator::model::plan::Settings;
use migrator::model::progress::Progress;
use migrator::model::proof::Proof;
use migrator::postgres::{Lsn, PostgresDatabase, check, client, follow, load, plan, schema};
use servers::postgres::{Server, migration};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

/// A row of every type whose text depends on some setting, and what a follower must write again.
const EVERY_TYPE: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TYPE pair AS (a int, b text);
    CREATE TABLE every (id int PRIMARY KEY, t text, ts text[], fs float8[], f4 float4, f8 float8, n numeric, b bytea,
        d date, at timestamptz, ats timestamp, tm time, i interval, m money, j jsonb, jp json, x xml, u uuid, mood mood,
        p pair, ps pair[], r tstzrange, c char(5), v varchar(9), bits bit varying, k regclass, ip inet, q tsvector,
        flag bool, o oid, names name[]);
    ALTER TABLE every REPLICA IDENTITY FULL;
    CREATE VIEW nulls AS SELECT id FROM every WHERE t IS NULL;
";

/// One row's values; `key` makes it unique.
fn row(key: i32) -> String {
    format!(
        "INSERT INTO every VALUES ({key}, E'a\\\\b''c', ARRAY['x', NULL, 'NULL', 'a\"b'], ARRAY[1.1, NULL, 'Infinity'::float8],
         1.1, 0.1 + 0.2, 1234.5600, '\\x00ff27'::bytea, '2024-02-03', '2024-02-03 04:05:06.789+00', '2024-02-03 04:05:06',
         '04:05:06', '1 year 2 mons -3 days 04:05:06.7', 1234.56::money, '{{\"a\": [1, null]}}', '{{\"a\" :1}}', '<a>b</a>',
         'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'ok', ROW(1, NULL)::pair, ARRAY[ROW(1, 'a,b')::pair, NULL],
         tstzrange('2024-01-01 00:00+00', NULL), 'ab', 'cd', B'101', 'every', '10.0.0.1/8', 'a b'::tsvector, true, 7,
         ARRAY['every'::name])"
    )
}

/// Every setting that sessions inherit, with a legal value that is not the built-in one.
async fn odd_values(session: &Client) -> Vec<(String, String)> {
    let rows = session
        .query(
            "SELECT name, CASE vartype
                 WHEN 'bool' THEN CASE boot_val WHEN 'on' THEN 'off' ELSE 'on' END
                 WHEN 'enum' THEN (SELECT v FROM unnest(enumvals) v WHERE v <> boot_val
                     ORDER BY v LIKE 'debug%', v DESC LIMIT 1)
                 WHEN 'integer' THEN CASE name WHEN 'gin_fuzzy_search_limit' THEN '1' WHEN 'extra_float_digits' THEN '-15'
                     WHEN 'lock_timeout' THEN '1' WHEN 'max_stack_depth' THEN '1024'
                     ELSE CASE WHEN boot_val::numeric < max_val::numeric THEN least(boot_val::numeric + 77, max_val::numeric)::text
                         ELSE min_val END END
                 WHEN 'string' THEN CASE name WHEN 'DateStyle' THEN 'SQL, DMY' WHEN 'TimeZone' THEN 'America/St_Johns'
                     WHEN 'search_path' THEN 'nowhere' WHEN 'lc_monetary' THEN 'C.UTF-8' WHEN 'lc_numeric' THEN 'C.UTF-8'
                     WHEN 'lc_time' THEN 'C.UTF-8' WHEN 'default_text_search_config' THEN 'pg_catalog.german'
                     WHEN 'timezone_abbreviations' THEN 'Australia' WHEN 'default_table_access_method' THEN 'heap' END
                 END
             FROM pg_settings WHERE context IN ('user', 'superuser')
               AND category !~ '^(Query Tuning|Resource Usage|Connections and Authentication / TCP|Reporting and Logging|Vacuuming|Statistics|Developer)'
               AND name NOT IN ('transaction_timeout') AND name NOT LIKE 'transaction\\_%' AND name NOT IN ('client_encoding', 'lc_messages', 'exit_on_error',
                   'ignore_system_indexes', 'zero_damaged_pages', 'wal_recycle', 'wal_init_zero', 'wal_compression')
             UNION ALL SELECT 'transaction_timeout', '300' WHERE EXISTS (SELECT FROM pg_settings WHERE name = 'transaction_timeout')
             ORDER BY 1",
            &[],
        )
        .await
        .expect("read");
    rows.iter().filter_map(|row| Some((row.get(0), row.get::<_, Option<String>>(1)?))).collect()
}

async fn inherited(server: &Server) -> BTreeMap<String, String> {
    let session = client::connect(&server.endpoint("shop"), "test").await.unwrap_or_else(|error| panic!("{error}"));
    let rows = session
        .query(
            "SELECT name, CASE name WHEN 'default_text_search_config' THEN replace(setting, '\"', '') ELSE setting END
             FROM pg_settings WHERE context IN ('user', 'superuser')
               AND category !~ '^(Query Tuning|Resource Usage|Connections and Authentication / TCP|Reporting and Logging|Vacuuming|Statistics)'",
            &[],
        )
        .await
        .expect("read");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn set_all(server: &Server, values: &[(String, String)]) {
    let admin = server.connect("postgres").await;
    for (name, value) in values {
        let set = format!("ALTER DATABASE shop SET {name} = '{value}'");
        admin.batch_execute(&set).await.unwrap_or_else(|error| panic!("{set}: {error}"));
    }
}

/// Copies, follows and checks with whatever both servers' databases are set to.
async fn moves(postgres: &PostgresDatabase, source: &Client, key: i32) {
    let plan = plan::read(postgres).await.expect("read");
    schema::prepare(postgres, &plan).await.unwrap_or_else(|error| panic!("{}", error.full_text()));
    let stop = CancellationToken::new();
    let progress = Arc::new(Progress::default());
    load::run(postgres, &plan, Arc::clone(&progress), stop.clone())
        .await
        .unwrap_or_else(|error| panic!("{}", error.full_text()));
    let handle: Follow<Lsn> = Follow::default();
    let following = {
        let (postgres, plan, handle, stop) = (postgres.clone(), plan.clone(), handle.clone(), stop.clone());
        tokio::spawn(async move { follow::run(&postgres, &plan, handle, Arc::default(), stop).await })
    };
    for statement in [
        row(key),
        format!("UPDATE every SET ts = ts || NULL::text, t = t || 'x' WHERE id = {}", key - 1),
        format!("DELETE FROM every WHERE id = {}", key - 2),
    ] {
        source.batch_execute(&statement).await.expect("it is legal");
    }
    let checking = check::run(postgres, &plan, handle.clone(), progress, stop.clone());
    let checked = tokio::time::timeout(Duration::from_mins(1), checking)
        .await
        .expect("in time")
        .unwrap_or_else(|error| panic!("{}; {following:?}", error.full_text()));
    // The newer target has settings of its own, which are no less a difference here than elsewhere.
    let settings = "settings of all roles in this database (differs in settings)";
    let differs = |proof: &&Proof| !proof.equal() && proof.differing_keys != [settings];
    let unequal: Vec<_> = checked.proofs.iter().filter(differs).collect();
    assert!(unequal.is_empty(), "{unequal:#?}");
    stop.cancel();
    following.await.expect("joined").unwrap_or_else(|error| panic!("{}", error.full_text()));
    // The target's own word: a check whose sessions inherit the same on both sides would be blind.
    let source_rows = texts(source).await;
    let target = client::connect(postgres.target(), "test").await.expect("connected");
    assert_eq!(source_rows, texts(&target).await);
}

async fn texts(session: &Client) -> Vec<String> {
    session.batch_execute("SET search_path = public").await.expect("set");
    let rows = session.query("SELECT t::text FROM every t ORDER BY id", &[]).await.expect("read");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_setting_of_a_server_or_database_reaches_our_sessions_or_changes_a_value_on_its_way() {
    let (source, target) = (Server::start(14, ""), Server::start(18, ""));
    for server in [&source, &target] {
        let admin = server.connect("postgres").await;
        admin.batch_execute("CREATE DATABASE shop").await.expect("created");
    }
    let session = source.connect("shop").await;
    session.batch_execute(EVERY_TYPE).await.expect("legal");
    session.batch_execute("SET search_path = public").await.expect("set");
    for key in 1..=9 {
        session.batch_execute(&row(key)).await.expect("legal");
    }
    let mut walked = 0;
    let mut odd = Vec::new();
    for server in [&source, &target] {
        let clean = inherited(server).await;
        let values = odd_values(&server.connect("shop").await).await;
        let admin = server.connect("postgres").await;
        for (name, value) in &values {
            let set = format!("ALTER DATABASE shop SET {name} = '{value}'");
            admin.batch_execute(&set).await.unwrap_or_else(|error| panic!("{set}: {error}"));
            let seen = inherited(server).await;
            let changed: Vec<_> = seen.iter().filter(|(name, value)| clean.get(*name) != Some(value)).collect();
            assert!(changed.is_empty(), "{set}: {changed:?}");
            admin.batch_execute(&format!("ALTER DATABASE shop RESET {name}")).await.expect("reset");
            walked += 1;
        }
        odd.push(values);
    }
    assert!(walked > 80, "only {walked} settings were walked");
    // Then all of them at once: on the source alone, on the target alone, on both.
    let reset = "ALTER DATABASE shop RESET ALL";
    for (at, (odd_source, odd_target)) in [(true, false), (false, true), (true, true)].into_iter().enumerate() {
        for server in [&source, &target] {
            let admin = server.connect("postgres").await;
            admin.batch_execute(reset).await.expect("reset");
        }
        if odd_source {
            set_all(&source, &odd[0]).await;
        }
        let name = format!("m{at}");
        let admin = target.connect("postgres").await;
        admin.batch_execute("DROP DATABASE shop WITH (FORCE)").await.expect("dropped");
        admin.batch_execute("CREATE DATABASE shop").await.expect("created");
        if odd_target {
            set_all(&target, &odd[1]).await;
        }
        let postgres = migration(&name, &source, &target, Settings::default());
        source.mend(&target, &postgres).await;
        let key = 10 + i32::try_from(at).expect("small");
        moves(&postgres, &session, key).await;
        postgres.clean_up().await.unwrap_or_else(|error| panic!("{}", error.full_text()));
    }
}
