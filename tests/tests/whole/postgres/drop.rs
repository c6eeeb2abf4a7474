//! A dropped migration takes along what it made on the target where that is asked for, and nothing else.

use tests::postgres::rows;
use tests::world::{DATABASE, MIGRATION, World, clusters};

const SCHEMA: &str = "create role app login; create role other_app; create schema sales authorization app; create extension pg_trgm;
    create type mood as enum ('sad', 'ok'); create domain positive as int check (value > 0);
    create function double(n int) returns int language sql immutable as 'select n * 2';
    create aggregate total(int) (sfunc = int4pl, stype = int, initcond = '0');
    create table sales.a (id bigserial primary key, b bigint, m mood default 'ok', p positive default 1, d int default double(2));
    create table sales.b (id bigint generated always as identity primary key, a bigint references sales.a, v text);
    alter table sales.a add foreign key (b) references sales.b;
    create index on sales.b using gin (v gin_trgm_ops); create view v as select * from sales.a; create rule nothing as on insert to v do instead nothing;
    create materialized view mv as select count(*) from v; create table parts (id int primary key) partition by range (id);
    create table parts_1 partition of parts for values from (0) to (100); insert into parts values (1);
    create statistics stats on id, a from sales.b; create operator === (leftarg = int, rightarg = int, function = int4eq);
    grant select on sales.a to other_app; insert into sales.a (b) values (null); insert into sales.b (a, v) values (1, 'x')";
/// All that anybody made, but for what came with the database.
const MADE: &str = "select coalesce(string_agg(kind || ' ' || name, ', ' order by kind, name), '') from (
    select 'relation' as kind, oid::regclass::text as name from pg_class where oid >= 16384 and relnamespace <> 'pg_toast'::regnamespace
    union all select 'type', oid::regtype::text from pg_type where oid >= 16384
    union all select 'function', oid::regprocedure::text from pg_proc where oid >= 16384
    union all select 'operator', oid::regoperator::text from pg_operator where oid >= 16384
    union all select 'schema', nspname from pg_namespace where oid >= 16384 and nspname !~ '^pg_'
    union all select 'role', rolname from pg_roles where oid >= 16384
    union all select 'extension', extname from pg_extension where oid >= 16384) made";

async fn drop_with_objects(world: &World) {
    world.headgate.admin("STOP MIGRATION m").await;
    world.headgate.admin("DROP MIGRATION m WITH (target_objects = 'drop')").await;
}

#[tokio::test]
async fn what_a_migration_made_on_the_target_goes_with_it_and_what_others_made_stays() {
    let world = World::start(SCHEMA).await;
    let theirs =
        "create role theirs; create table theirs (id int primary key, v text); insert into theirs values (1, 'kept');
        create view theirs_too as select * from theirs";
    world.target.sql(DATABASE, theirs).await;
    let before = world.target.value(DATABASE, MADE).await;
    world.follow().await;
    world.check().await;
    // Upon what is ours: the server refuses to take that away, and so does the statement.
    world.target.sql(DATABASE, "create view upon as select * from sales.b").await;
    world.headgate.admin("STOP MIGRATION m").await;
    let statement = "DROP MIGRATION m WITH (target_objects = 'drop')";
    let (_, text) = world.headgate.refused(statement).await;
    assert!(text.contains("view public.upon depends on"), "{text}");
    world.target.sql(DATABASE, "drop view upon").await;
    world.headgate.admin(statement).await;
    assert_eq!(world.target.value(DATABASE, MADE).await, before);
    assert_eq!(world.target.value(DATABASE, "select v from theirs_too").await, "kept");
    world.follow().await;
    world.check().await;

    // What serves the route is not dropped.
    world.cutover().await;
    let (_, text) = world.headgate.refused(statement).await;
    assert!(text.contains("what is there is live"), "{text}");
    rows(&world.client().await, "insert into sales.b (v) values ('new')").await;
}

#[tokio::test]
async fn what_others_put_into_a_schema_that_the_migration_made_stays_with_it() {
    let world = World::start("create schema sales; create table sales.a (id int primary key)").await;
    world.follow().await;
    world.target.sql(DATABASE, "create table sales.theirs (id int)").await;
    drop_with_objects(&world).await;
    let left = "select string_agg(relname, ',') from pg_class where relnamespace = 'sales'::regnamespace";
    assert_eq!(world.target.value(DATABASE, left).await, "theirs");
}

#[tokio::test]
async fn a_database_that_the_migration_made_goes_with_it() {
    let (source, target) = tokio::join!(tests::postgres::Postgres::start(14), tests::postgres::Postgres::start(18));
    source.sql("postgres", "create database shop").await;
    source.sql(DATABASE, SCHEMA).await;
    let headgate = tests::headgate::Headgate::start(&clusters(source.port(), target.port())).await;
    let world = World { source, target, headgate };
    world.follow().await;
    drop_with_objects(&world).await;
    let there = "select (select count(*) from pg_database where datname = 'shop')
        + (select count(*) from pg_roles where rolname in ('app', 'other_app'))";
    assert_eq!(world.target.value("postgres", there).await, "0");
    world.start_migration().await;
    world.until_state("following", MIGRATION).await;
    world.check().await;
}
