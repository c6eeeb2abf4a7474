//! The printed rights are enough for a whole migration, and none of them is too much.

mod servers;

use std::collections::BTreeSet;
use std::sync::Arc;

use migrator::accounts::NoSecrets;
use migrator::model::plan::Settings;
use migrator::postgres::{Endpoint, Postgres, PostgresDatabase, Tools};
use migrator::preflight::Check;
use migrator::rights::{Need, Side};
use servers::postgres::{LEAST, Server};
use servers::whole::{errors, found, whole};

/// What is mended may let more be seen.
const ROUNDS: usize = 2;

/// The roles of an application, as a superuser makes them.
const ROLES: &str = "
    CREATE ROLE app LOGIN PASSWORD 'a'; CREATE ROLE reader; GRANT reader TO app; CREATE ROLE counter LOGIN PASSWORD 'c';
    COMMENT ON ROLE app IS 'the shop'; ALTER ROLE app SET statement_timeout = '1min'; ALTER ROLE counter CONNECTION LIMIT 3;
    CREATE ROLE holder; CREATE DATABASE shop OWNER holder;
    REVOKE CONNECT, TEMPORARY ON DATABASE shop FROM PUBLIC; GRANT CONNECT ON DATABASE shop TO app;
    ALTER DATABASE shop SET work_mem = '5MB'; COMMENT ON DATABASE shop IS 'things'; ALTER DATABASE shop CONNECTION LIMIT 40;
    ALTER ROLE app IN DATABASE shop SET lock_timeout = '1min'";

/// Its schema, as its own role makes it.
const SCHEMA: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    GRANT USAGE ON SCHEMA sales TO reader;
    CREATE TABLE sales.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mood mood, amount positive);
    INSERT INTO sales.orders (mood, amount) SELECT 'happy', i FROM generate_series(1, 2000) i;
    CREATE INDEX ON sales.orders (amount); GRANT SELECT ON sales.orders TO reader;
    ALTER DEFAULT PRIVILEGES IN SCHEMA sales GRANT SELECT ON TABLES TO reader;
    CREATE TABLE secrets (id int PRIMARY KEY, who text); INSERT INTO secrets SELECT i, 'w' || i FROM generate_series(1, 50) i;
    ALTER TABLE secrets ENABLE ROW LEVEL SECURITY; ALTER TABLE secrets FORCE ROW LEVEL SECURITY;
    CREATE POLICY own ON secrets USING (who = current_user OR who = 'new') WITH CHECK (true);
    CREATE TABLE days (at date, n int, PRIMARY KEY (at, n)) PARTITION BY RANGE (at);
    CREATE TABLE days_all PARTITION OF days DEFAULT; INSERT INTO days SELECT '2024-01-01'::date + i, i FROM generate_series(1, 100) i;
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.who := NEW.who || '!'; RETURN NEW; END $$;
    CREATE TRIGGER touch BEFORE UPDATE ON secrets FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE VIEW happy AS SELECT * FROM sales.orders WHERE mood = 'happy';
    CREATE MATERIALIZED VIEW sums AS SELECT sum(amount) FROM sales.orders;
    CREATE STATISTICS both_of ON mood, amount FROM sales.orders; COMMENT ON TABLE sales.orders IS 'what was bought'";

/// What belongs to another role, which neither owns a table nor lets anybody in.
const COUNTER: &str = "CREATE SCHEMA counting AUTHORIZATION counter;
    SET ROLE counter; CREATE SEQUENCE counting.calls; SELECT nextval('counting.calls'); RESET ROLE";

/// What only a superuser may create is there before.
const WRAPPER: &str = "CREATE EXTENSION postgres_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO PUBLIC";
const MAPPING: &str = "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw; ALTER SERVER far OWNER TO app;
    CREATE USER MAPPING FOR app SERVER far";

struct World {
    source: Server,
    target: Server,
}

impl World {
    /// Both servers, with the application on the source and its empty database on the target.
    async fn new(from: u32, to: u32) -> Self {
        let (source, target) = (Server::start(from, ""), Server::start(to, ""));
        let admin = source.connect("postgres").await;
        for statement in ROLES.split(';') {
            admin.batch_execute(statement).await.expect(statement);
        }
        let admin = source.connect("shop").await;
        // From version 15 on not everybody may create in the schema public.
        let schemas = "CREATE SCHEMA sales AUTHORIZATION app; GRANT CREATE ON SCHEMA public TO app";
        admin.batch_execute(schemas).await.expect("they are created");
        let owner = Endpoint { user: "app".into(), ..source.endpoint("shop") };
        let owner = migrator::postgres::client::connect_plainly(&owner, "app");
        let owner = owner.await.expect("it may connect");
        owner.batch_execute(SCHEMA).await.expect("it may create there");
        admin.batch_execute(COUNTER).await.expect("it is created");
        admin.batch_execute(WRAPPER).await.expect("it is created");
        admin.batch_execute(MAPPING).await.expect("it is created");
        let there = target.connect("postgres").await;
        there.batch_execute("CREATE DATABASE shop TEMPLATE template0").await.expect("created");
        let inside = target.connect("shop").await;
        inside.batch_execute(WRAPPER).await.expect("it is created");
        for server in [&source, &target] {
            server.ask_for_passwords_of(LEAST);
        }
        Self { source, target }
    }

    /// Up to version 14 the schema public is a superuser's, and only a superuser can give it to one.
    async fn public_as_before(&self, from: u32, to: u32) {
        if from < 15 && to >= 15 {
            let given = "GRANT ALL ON SCHEMA public TO PUBLIC; DO $$ BEGIN
                EXECUTE format('ALTER SCHEMA public OWNER TO %I', pg_get_userbyid(10)); END $$";
            let session = self.target.connect("shop").await;
            session.batch_execute(given).await.expect("it is its owner");
        }
    }

    fn migration(source: Endpoint, target: Endpoint) -> PostgresDatabase {
        let settings = Settings { check_range_rows: 500, ..Settings::default() };
        PostgresDatabase::new(Postgres::new("m", source, target, settings, Tools::default(), Arc::new(NoSecrets)))
    }

    /// Runs a finding's statement where it is to be run, as a superuser.
    async fn mend(&self, check: &Check) {
        let on_target = check.name.starts_with("target") || check.name == "schema_trial";
        let server = if on_target { &self.target } else { &self.source };
        assert!(!check.fix.is_empty(), "{check:#?}");
        let done = server.connect("shop").await.batch_execute(&check.fix).await;
        done.unwrap_or_else(|error| panic!("{check:#?}: {error:?}"));
    }
}

/// A whole migration of a role that has nothing but what is printed; on the source not everybody may create in the schema
/// `public` where it is `closed`.
async fn moves(from: u32, to: u32, closed: bool) {
    let world = World::new(from, to).await;
    let (source, target) = (&world.source, &world.target);
    if closed {
        let close = "REVOKE CREATE ON SCHEMA public FROM PUBLIC";
        let session = source.connect("shop").await;
        session.batch_execute(close).await.expect("it is closed");
    }
    source.grant(Side::Source, LEAST, &[]).await;
    target.grant(Side::Target, LEAST, &[]).await;
    let postgres = World::migration(source.least("shop"), target.least("shop"));
    let checks = found(&postgres).await;
    // Up to version 14 the schema public is a superuser's, and only a superuser can give it to one.
    let given = errors(&checks);
    if from < 15 && to >= 15 {
        assert!(given.len() == 1 && given[0].evidence.contains("schema public"), "{checks:#?}");
        let owner = "ALTER SCHEMA \"public\" OWNER TO \"postgres\"; REVOKE ALL ON SCHEMA \"public\" FROM PUBLIC; ";
        let rest = given[0].fix.strip_prefix(owner).expect(&given[0].fix);
        let everybody =
            format!("GRANT {} ON SCHEMA \"public\" TO PUBLIC; ", if closed { "USAGE" } else { "CREATE, USAGE" });
        let rest = rest.strip_prefix(&everybody).expect(rest);
        assert_eq!(rest, "GRANT ALL ON SCHEMA \"public\" TO \"headgate\" WITH GRANT OPTION");
        world.mend(given[0]).await;
    } else {
        assert!(given.is_empty(), "{checks:#?}");
    }
    let checks = found(&postgres).await;
    assert!(errors(&checks).is_empty(), "{checks:#?}");
    let names: BTreeSet<&str> = checks.iter().map(|check| check.name.as_str()).collect();
    let known = [
        "accounts",
        "materialized_views",
        "max_wal_size",
        "pg_dump",
        "pg_restore",
        "deadlock_timeout",
        "collation",
        "extensions",
        "source_way_back",
    ];
    let rest: Vec<_> = names.iter().filter(|name| !known.contains(name)).collect();
    assert!(rest.is_empty(), "{checks:#?}");
    follows(&postgres, &world).await;
}

/// Without any one of these rights a migration does not come to its end, whatever the precheck said.
async fn is_needed(from: u32, to: u32, side: Side) {
    let mut idle = Vec::new();
    // The first round leaves nothing out: else all could fail of one and the same.
    for without in 0.. {
        let world = World::new(from, to).await;
        world.public_as_before(from, to).await;
        let server = if side == Side::Source { &world.source } else { &world.target };
        let Some(grant) = server.grants(side, LEAST).into_iter().nth(without) else {
            break;
        };
        // Whoever is a member of an owner may connect as it may.
        let connects = grant.statement.starts_with("GRANT CONNECT");
        if grant.need == Need::Helpful || connects {
            continue;
        }
        let left_out = |of: Side| {
            if of == side && without > 0 { vec![without] } else { Vec::new() }
        };
        for (server, of) in [(&world.source, Side::Source), (&world.target, Side::Target)] {
            server.grant(of, LEAST, &left_out(of)).await;
        }
        if from < 15 && to >= 15 {
            // As the precheck says: what the schema's owner grants there nobody else may.
            let given = format!("GRANT ALL ON SCHEMA public TO {LEAST} WITH GRANT OPTION");
            let session = world.target.connect("shop").await;
            session.batch_execute(&given).await.expect("granted");
        }
        let ends = (world.source.least("shop"), world.target.least("shop"));
        let postgres = World::migration(ends.0, ends.1);
        let moving = tokio::spawn(async move { follows(&postgres, &world).await }).await;
        if without == 0 {
            moving.expect("all rights are enough");
        } else if moving.is_ok() {
            idle.push(grant.statement);
        }
    }
    assert_eq!(idle, Vec::<String>::new(), "nothing fails without them");
}

async fn follows(postgres: &PostgresDatabase, world: &World) {
    let change = "INSERT INTO sales.orders (mood, amount) SELECT 'sad', i FROM generate_series(1, 500) i;
        UPDATE secrets SET who = 'new' WHERE id < 9; DELETE FROM days WHERE n > 90; TRUNCATE sales.orders;
        INSERT INTO sales.orders (mood, amount) VALUES ('sad', 7); SELECT nextval('counting.calls')";
    let change = async || {
        let session = world.source.connect("shop").await;
        session.batch_execute(change).await.expect("it is written");
    };
    whole(postgres, change).await;
    let app = async |server: &Server| {
        let app = Endpoint { user: "app".into(), ..server.endpoint("shop") };
        let session = migrator::postgres::client::connect_plainly(&app, "app").await;
        session.expect("it may connect")
    };
    let write = "INSERT INTO sales.orders (mood, amount) VALUES ('sad', 8)";
    let refused = app(&world.source).await.batch_execute(write).await;
    assert!(refused.is_err(), "the fence stands");
    let new = app(&world.target).await;
    let written = format!("{write}; ALTER TABLE sales.orders ADD more int");
    new.batch_execute(&written).await.expect("it owns what it owned");
}

/// What no right but a superuser's lets one create on the target is named before the start, with what can be done.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_superuser_may_create_is_named_with_what_to_do() {
    let world = World::new(14, 18).await;
    let admin = world.source.connect("shop").await;
    let beyond = [
        ("CREATE OPERATOR FAMILY family USING btree", "family"),
        ("CREATE FOREIGN DATA WRAPPER far", "FOREIGN DATA WRAPPER"),
        (
            "CREATE FUNCTION told() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
             CREATE EVENT TRIGGER told ON ddl_command_end EXECUTE FUNCTION told()",
            "EVENT TRIGGER",
        ),
        ("CREATE FUNCTION outside(internal) RETURNS internal LANGUAGE internal AS 'prsd_lextype'", "outside"),
        ("CREATE EXTENSION pageinspect", "pageinspect"),
    ];
    for (statement, _) in beyond {
        admin.batch_execute(statement).await.expect(statement);
    }
    world.public_as_before(14, 18).await;
    for (server, side) in [(&world.source, Side::Source), (&world.target, Side::Target)] {
        server.grant(side, LEAST, &[]).await;
    }
    let ends = (world.source.least("shop"), world.target.least("shop"));
    let postgres = World::migration(ends.0, ends.1);
    let reported = |checks: &[Check]| -> Vec<String> {
        let of_superusers =
            checks.iter().filter(|check| check.name == "schema_trial" && check.remedy.starts_with("only a superuser"));
        of_superusers.map(|check| check.evidence.clone()).collect()
    };
    let checks = found(&postgres).await;
    let named = reported(&checks);
    for (statement, word) in beyond {
        let named = named.iter().any(|evidence| evidence.contains(word));
        assert!(named, "{statement}: {checks:#?}");
    }
    // Each of both ways ends it.
    let session = world.target.connect("shop").await;
    let raised = format!("ALTER ROLE {LEAST} SUPERUSER");
    session.batch_execute(&raised).await.expect("raised");
    assert_eq!(reported(&found(&postgres).await), Vec::<String>::new());
    let lowered = format!("ALTER ROLE {LEAST} NOSUPERUSER");
    session.batch_execute(&lowered).await.expect("lowered");
    let dropped = "DROP OPERATOR FAMILY family USING btree; DROP FOREIGN DATA WRAPPER far; DROP EVENT TRIGGER told; DROP FUNCTION told;
        DROP FUNCTION outside; DROP EXTENSION pageinspect";
    admin.batch_execute(dropped).await.expect("dropped");
    let checks = found(&postgres).await;
    let left = errors(&checks);
    assert!(left.is_empty(), "{left:#?}");
}

/// Leaves one statement after the other out: each is missed, by a finding whose statement brings it back.
async fn walks(from: u32, to: u32, side: Side) {
    let world = World::new(from, to).await;
    let (source, target) = (&world.source, &world.target);
    let admin = target.connect("postgres").await;
    world.public_as_before(from, to).await;
    source.grant(Side::Source, LEAST, &[]).await;
    target.grant(Side::Target, LEAST, &[]).await;
    let least = (source.least("shop"), target.least("shop"));
    let always: BTreeSet<String> = {
        let checks = found(&World::migration(least.0.clone(), least.1.clone())).await;
        assert!(errors(&checks).is_empty(), "{checks:#?}");
        checks.into_iter().map(|check| check.name).collect()
    };
    let server = if side == Side::Source { source } else { target };
    let count = server.grants(side, LEAST).len();
    assert!(count > 1, "nothing is printed");
    for without in 1..count {
        let user = format!("without_{without}");
        let printed = server.grants(side, &user);
        // What the role inherits from an owner hides that this one lacks.
        let connects = printed[without].statement.starts_with("GRANT CONNECT");
        let without_too: Vec<usize> = (1..count)
            .filter(|&other| connects && printed[other].statement.contains("'GRANT %I TO %s'"))
            .chain([without])
            .collect();
        server.grant(side, &user, &without_too).await;
        let mut ends = least.clone();
        let end = if side == Side::Source { &mut ends.0 } else { &mut ends.1 };
        end.user.clone_from(&user);
        let postgres = World::migration(ends.0, ends.1);
        let grant = &printed[without];
        let missed = |checks: &[Check]| -> Vec<Check> {
            let new = checks.iter().filter(|check| !always.contains(&check.name));
            new.cloned().collect()
        };
        let checks = missed(&found(&postgres).await);
        assert!(
            checks.iter().any(|check| check.name == grant.check && !check.fix.is_empty()),
            "nobody misses {}: {checks:#?}",
            grant.statement
        );
        let mut done = BTreeSet::new();
        let mut left = checks;
        for _ in 0..ROUNDS {
            for check in left.iter().filter(|check| !check.fix.is_empty()) {
                if done.insert(check.fix.clone()) {
                    world.mend(check).await;
                }
            }
            left = missed(&found(&postgres).await);
            if left.is_empty() {
                break;
            }
        }
        assert_eq!(left, Vec::<Check>::new(), "after {done:#?}");
        if side == Side::Target {
            admin.batch_execute(&format!("ALTER DATABASE shop OWNER TO {LEAST}")).await.expect("given back");
        }
        let there = server.connect("shop").await;
        there.batch_execute(&format!("DROP OWNED BY {user}; DROP ROLE {user}")).await.expect("dropped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_the_printed_rights_moves_from_14_to_18() {
    Box::pin(moves(14, 18, false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_the_printed_rights_moves_from_14_to_15_where_not_everybody_may_create() {
    Box::pin(moves(14, 15, true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_the_printed_rights_moves_from_15_to_15() {
    Box::pin(moves(15, 15, false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_the_printed_rights_moves_from_14_to_14() {
    Box::pin(moves(14, 14, false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_printed_right_is_too_much_on_a_source_of_14() {
    walks(14, 18, Side::Source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_printed_right_is_too_much_on_a_target_of_18() {
    walks(14, 18, Side::Target).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_printed_right_is_too_much_on_a_source_of_15() {
    walks(15, 18, Side::Source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_printed_right_is_too_much_on_a_target_of_14() {
    walks(14, 14, Side::Target).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes minutes"]
async fn every_printed_right_is_needed_on_a_source_of_14() {
    is_needed(14, 18, Side::Source).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes minutes"]
async fn every_printed_right_is_needed_on_a_source_of_15() {
    is_needed(15, 15, Side::Source).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes minutes"]
async fn every_printed_right_is_needed_on_a_target_of_18() {
    is_needed(14, 18, Side::Target).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes minutes"]
async fn every_printed_right_is_needed_on_a_target_of_14() {
    is_needed(14, 14, Side::Target).await;
}
