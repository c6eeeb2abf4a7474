//! A migration copies everything, follows every change, proves both sides equal, and says no before it touches anything.

use tests::headgate::Headgate;
use tests::postgres::{Postgres, Record};
use tests::wait::until;
use tests::world::{DATABASE, MIGRATION, World, clusters};

/// What real schemas have.
const SCHEMA: &str = "
create type mood as enum ('sad', 'ok', 'happy');
create domain positive as int check (value > 0);
create type pair as (a int, b text);
create table everything (
    id bigint generated always as identity primary key, flag bool, small smallint, whole int, big bigint, exact numeric,
    single real, double double precision, words text, few varchar(20), fixed char(5), bytes bytea, day date, moment time,
    at timestamp, at_zone timestamptz, span interval, uid uuid, doc json, docb jsonb, numbers int[], texts text[][],
    feeling mood, feelings mood[], counted positive, duo pair, net inet, bits bit varying(9), ranges int4range, xmldoc xml,
    doubled int generated always as (whole * 2) stored);
insert into everything (flag, small, whole, big, exact, single, double, words, few, fixed, bytes, day, moment, at, at_zone,
    span, uid, doc, docb, numbers, texts, feeling, feelings, counted, duo, net, bits, ranges, xmldoc)
select n % 2 = 0, n, n, n * 1000000007::bigint, n / 7.0, n / 3.0, -0.0, repeat('é', n), 'few', 'fix', decode(repeat('00ff', n), 'hex'),
    date '2024-02-29' + n, '12:34:56.789', 'infinity', '2024-02-29 12:34:56.789+02', '1 mon 2 days 3:04:05.6',
    md5(n::text)::uuid, '{\"a\":  1}', '{\"b\": [null, 2]}', array[n, null, 3], '{{a,\"b c\"},{\"\",NULL}}', 'ok', '{sad,happy}', n,
    row(n, 'it''s'::text)::pair, '10.0.0.0/8', '101', '[1,5)', '<a/>' from generate_series(1, 200) n;
insert into everything (double, single, exact) values ('NaN', '-Infinity', 'NaN'), (null, null, null);
create table parts (id int, region text, primary key (id, region)) partition by list (region);
create table parts_north partition of parts for values in ('n');
create table parts_rest partition of parts default;
insert into parts select n, case when n % 3 = 0 then 'n' else 's' end from generate_series(1, 300) n;
create table parents (id int primary key); create table children (id int primary key, parent int references parents on delete cascade);
insert into parents select generate_series(1, 50); insert into children select n, n from generate_series(1, 50) n;
create table toasted (id int primary key, big text, n int);
insert into toasted select n, (select string_agg(md5((n * 1000 + i)::text), '') from generate_series(1, 200) i), 0 from generate_series(1, 20) n;
create index on toasted (n); create view sums as select sum(n) from toasted;
create materialized view frozen as select count(*) as rows from parents;
create sequence loose start 100; select nextval('loose');
create table \"Odd \"\"Name\" (\"Ké y\" text primary key, \"select\" int); insert into \"Odd \"\"Name\" values ('x', 1);
create function log() returns trigger language plpgsql as $$ begin insert into logged values (new.id); return new; end $$;
create table logged (id int); alter table logged replica identity full;
create trigger log after insert on parents for each row execute function log();
";

/// Every table as one digest per table, comparable between the versions.
const DIGESTS: &str = "
select 'everything', md5(string_agg(t::text, ',' order by id)) from everything t union all
select 'parts', md5(string_agg(t::text, ',' order by id)) from parts t union all
select 'north', md5(string_agg(t::text, ',' order by id)) from parts_north t union all
select 'parents', md5(string_agg(t::text, ',' order by id)) from parents t union all
select 'children', md5(string_agg(t::text, ',' order by id)) from children t union all
select 'toasted', md5(string_agg(t::text, ',' order by id)) from toasted t union all
select 'odd', md5(string_agg(t::text, ',')) from \"Odd \"\"Name\" t union all
select 'logged', md5(string_agg(t::text, ',' order by id)) from logged t
";

#[tokio::test]
async fn rows_of_every_type_are_copied_and_every_kind_of_change_follows() {
    let world = World::start(SCHEMA).await;
    world.follow().await;
    world.until_equal(DIGESTS).await;

    let changes = [
        "update everything set words = words || 'x', feeling = 'happy', duo = (7, null), numbers = null where id % 3 = 0",
        "delete from everything where id % 7 = 0",
        "insert into everything (whole, words) select n, 'later' from generate_series(1, 50) n",
        "update parts set region = 'n' where id = 1; update parts set id = id + 1000 where id > 290",
        "delete from parents where id = 7",
        "insert into parents values (1001); insert into children values (1001, 1001)",
        "update toasted set n = n + 1 where id <= 10; update toasted set id = id + 100 where id > 15",
        "begin; insert into parents values (2000); savepoint s; insert into parents values (2001); rollback to s; commit",
        "begin; insert into parents values (3000); rollback",
        "update \"Odd \"\"Name\" set \"Ké y\" = 'ÿ', \"select\" = null",
        "update logged set id = id + 1 where id = 1001",
        "truncate children; insert into children values (9, 9)",
    ];
    for change in changes {
        world.source.sql(DATABASE, change).await;
    }
    world.until_equal(DIGESTS).await;
    world.check().await;
    let objects = "select (select count(*) from pg_indexes where schemaname = 'public'),
        (select count(*) from pg_constraint where contype in ('f', 'p', 'c') and connamespace = 'public'::regnamespace), (select sum from sums), (select rows from frozen)";
    world.until_equal(objects).await;
}

#[tokio::test]
async fn a_difference_on_the_target_is_found_by_the_check() {
    let world = World::start(
        "create table t (id int primary key, v text); insert into t select n, n::text from generate_series(1, 5000) n",
    )
    .await;
    world.follow().await;
    world.check().await;
    world
        .target
        .sql(
            DATABASE,
            "set application_name = 'headgate m by hand'; set session_replication_role = replica; update t set v = 'other' where id = 2500",
        )
        .await;
    world.headgate.admin("CHECK MIGRATION m").await;
    let ended = |row: &Record| row.get("result").is_some_and(|result| result != "running");
    let ask = || world.row("SHOW MIGRATION CHECK STATUS m");
    let row = until("the check ends", MIGRATION, ask, ended).await;
    assert_eq!(row.get("result").map(String::as_str), Some("different"), "{row:?}");
    let (code, text) = world.headgate.refused("CUTOVER MIGRATION m").await;
    assert_eq!(code, "55000", "{text}");
}

/// The precheck's findings that are errors.
async fn errors(headgate: &Headgate) -> Vec<Record> {
    headgate.admin(&format!("CREATE MIGRATION m FROM blue TO green FOR ROUTE {DATABASE}")).await;
    let findings = headgate.admin("PRECHECK MIGRATION m").await;
    findings.into_iter().filter(|row| row.get("level").is_some_and(|level| level == "error")).collect()
}

fn mentions(findings: &[Record], words: &[&str]) -> bool {
    findings.iter().any(|finding| words.iter().all(|word| finding.values().any(|value| value.contains(word))))
}

#[tokio::test]
async fn a_source_that_does_not_log_for_replication_is_refused_with_the_remedy() {
    let (source, target) =
        tokio::join!(Postgres::start_with(14, &[("wal_level", "replica")], None), Postgres::start(18));
    let world = World::between(source, target, "create table t (id int primary key)", "").await;
    let errors = errors(&world.headgate).await;
    assert!(mentions(&errors, &["wal_level", "logical"]), "{errors:?}");
    let (code, text) = world.headgate.refused("START MIGRATION m").await;
    assert!(code == "55000" && text.contains("wal_level"), "{code} {text}");
}

#[tokio::test]
async fn a_target_that_has_the_tables_is_refused_and_left_as_it_is() {
    let world = World::start("create table t (id int primary key); insert into t values (1)").await;
    world
        .target
        .sql(DATABASE, "create table t (id int primary key, mine text); insert into t values (7, 'mine')")
        .await;
    let errors = errors(&world.headgate).await;
    assert!(mentions(&errors, &["t"]), "{errors:?}");
    world.headgate.refused("START MIGRATION m").await;
    assert_eq!(world.target.value(DATABASE, "select mine from t where id = 7").await, "mine");
    assert_eq!(world.source.value(DATABASE, "select count(*) from pg_replication_slots").await, "0");
}

#[tokio::test]
async fn a_table_without_a_key_is_named_and_the_fix_that_is_given_lets_its_updates_follow() {
    let world =
        World::start("create table keyless (a int, b text); insert into keyless values (1, 'one'), (2, 'two')").await;
    let errors = errors(&world.headgate).await;
    let finding = errors.iter().find(|row| mentions(&[(*row).clone()], &["keyless"])).expect("the table is named");
    let fix = finding.get("fix").expect("a statement that mends it");
    assert!(!fix.is_empty(), "{finding:?}");
    world.source.sql(DATABASE, fix).await;
    world.headgate.admin("START MIGRATION m").await;
    world.until_state("following", MIGRATION).await;
    world.source.sql(DATABASE, "update keyless set b = 'changed' where a = 2; delete from keyless where a = 1").await;
    let rows = world.until_equal("select * from keyless order by a").await;
    assert_eq!(rows, [[Some("2".to_owned()), Some("changed".to_owned())]]);
}

#[tokio::test]
async fn a_target_that_cannot_be_reached_is_told_and_nothing_is_touched() {
    let source = Postgres::start(14).await;
    source.sql("postgres", &format!("create database {DATABASE}")).await;
    let headgate = Headgate::start(&clusters(source.port(), 1)).await;
    let errors = errors(&headgate).await;
    assert!(mentions(&errors, &["green"]) || mentions(&errors, &["target"]), "{errors:?}");
    headgate.refused("START MIGRATION m").await;
    assert_eq!(source.value("postgres", "select count(*) from pg_replication_slots").await, "0");
}

#[tokio::test]
async fn a_dropped_migration_leaves_nothing_behind_on_the_source() {
    let world = World::start("create table t (id int primary key); insert into t values (1)").await;
    world.follow().await;
    world.headgate.admin("STOP MIGRATION m").await;
    world.headgate.admin("DROP MIGRATION m").await;
    let left = "select (select count(*) from pg_replication_slots) + (select count(*) from pg_publication)";
    assert_eq!(world.source.value(DATABASE, left).await, "0");
    assert!(world.headgate.admin("SHOW MIGRATION LIST").await.is_empty());
}

#[tokio::test]
async fn what_was_mended_on_the_source_before_anything_was_copied_is_seen_by_the_next_start() {
    let world = World::start("create table good (id int primary key); create table bad (id int primary key)").await;
    // No trial in another database meets it.
    let refuses = "create function no() returns event_trigger language plpgsql as $$ begin
            if exists (select from pg_event_trigger_ddl_commands() where object_identity = 'public.bad') then
                raise exception 'no such table here'; end if; end $$;
        create event trigger no on ddl_command_end execute function no()";
    world.target.sql(DATABASE, refuses).await;
    world.start_migration().await;
    let state = || world.status("state");
    until("the start fails", MIGRATION, state, |state| state == "failed").await;
    world
        .source
        .sql(DATABASE, "drop table bad; create table mended (id int primary key); insert into mended values (7)")
        .await;
    world.headgate.admin("START MIGRATION m").await;
    world.until_state("following", MIGRATION).await;
    world.target.sql(DATABASE, "drop event trigger no; drop function no").await;
    world.check().await;
    // A proof is of a moment, and says of which.
    let readiness = world.headgate.admin("SHOW READINESS m").await;
    let proof = readiness.iter().find(|row| row["check"] == "proof");
    let evidence = proof.map(|row| row["evidence"].clone()).unwrap_or_default();
    assert!(evidence.ends_with(" s ago"), "{evidence}");
    assert_eq!(world.target.value(DATABASE, "select id from mended").await, "7");
    world.headgate.admin("STOP MIGRATION m").await;
    world.headgate.admin("DROP MIGRATION m WITH (target_objects = 'drop')").await;
    let left = "select count(*) from pg_class where relkind = 'r' and oid >= 16384";
    assert_eq!(world.target.value(DATABASE, left).await, "0");
}
