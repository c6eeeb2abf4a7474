//! Both engines mirror one another, file for file and case for case. What one has and the other lacks is listed here
//! with its reason; a reason that no longer holds fails as well.

use std::collections::BTreeSet;
use std::path::Path;

use super::tidy::{check, read, sources};

/// Files that only one engine has, under what makes it so.
const FILES: &[(&str, &[&str])] = &[
    (
        "each engine has its own peers in the benches",
        &[
            "bench/src/mysql/router.rs",
            "bench/src/postgres/pgbouncer.rs",
        ],
    ),
    (
        "PostgreSQL has roles; MySQL has accounts, with hosts, plugins and grants that must be written out",
        &[
            "migrator/src/postgres/roles.rs",
            "migrator/src/mysql/accounts.rs",
            "migrator/src/mysql/grants.rs",
            "migrator/src/mysql/preflight/accounts.rs",
            "migrator/src/mysql/preflight/rights.rs",
        ],
    ),
    (
        "pg_dump and pg_restore move PostgreSQL's schema; MySQL's is read, taken apart and written for the other version by us",
        &[
            "migrator/src/postgres/tools.rs",
            "migrator/src/mysql/tokens.rs",
            "migrator/src/mysql/preflight/defaults.rs",
            "migrator/src/mysql/defined.rs",
            "migrator/src/mysql/described.rs",
        ],
    ),
    (
        "MySQL has no session that triggers and events leave alone: they come with and after the switch",
        &[
            "migrator/src/mysql/triggers.rs",
            "migrator/src/mysql/switched.rs",
        ],
    ),
    (
        "PostgreSQL's copy is a pipe of bytes under one snapshot; MySQL's cuts tables by key and turns rows into another form",
        &["migrator/src/mysql/chunks.rs", "migrator/src/mysql/rows.rs"],
    ),
    (
        "PostgreSQL's stream has texts and no DDL; MySQL's log has packed values, documents and statements",
        &[
            "migrator/src/postgres/literals.rs",
            "migrator/src/postgres/jobs.rs",
            "migrator/src/mysql/batch/rows.rs",
            "migrator/src/mysql/ddl.rs",
            "migrator/src/mysql/json.rs",
            "migrator/src/mysql/values.rs",
            "protocol/src/postgres/change/replication.rs",
            "protocol/src/postgres/change/transaction.rs",
            "protocol/src/mysql/lenenc.rs",
        ],
    ),
    (
        "PostgreSQL's fence waits for locks by itself; MySQL's must be told who stands in the way of read_only",
        &["migrator/src/mysql/fence/obstacles.rs"],
    ),
    (
        "each engine has its own kinds of proof at login",
        &[
            "protocol/src/postgres/auth/scram.rs",
            "protocol/src/mysql/auth/caching_sha2.rs",
            "protocol/src/mysql/auth/native.rs",
            "protocol/tests/postgres/scram.rs",
            "protocol/tests/mysql/auth.rs",
        ],
    ),
    (
        "the same crate tests, cut by what the engine's bytes are",
        &[
            "protocol/tests/postgres/change.rs",
            "protocol/tests/postgres/reply.rs",
            "protocol/tests/postgres/session.rs",
            "protocol/tests/mysql/position.rs",
            "migrator/tests/postgres_move.rs",
            "migrator/tests/mysql_copy.rs",
            "migrator/tests/mysql_fence.rs",
            "migrator/tests/mysql_precheck.rs",
            "migrator/tests/mysql_schema.rs",
            "migrator/tests/mysql_servers.rs",
        ],
    ),
    (
        "MySQL's server speaks first and judges accounts by host; its login may be sealed by a key of ours",
        &[
            "proxy/src/mysql/accounts.rs",
            "proxy/src/mysql/cipher.rs",
            "proxy/src/mysql/greeting.rs",
            "proxy/src/mysql/host.rs",
            "tests/tests/whole/mysql/accounts.rs",
        ],
    ),
    (
        "a throwaway server of MySQL takes seconds to create, so that one is made and copied",
        &["proxy/src/mysql/disposable/template.rs"],
    ),
    (
        "PostgreSQL lists a session's state; of MySQL's some is learned from statements, and ids of statements are mapped",
        &[
            "proxy/src/postgres/custom.rs",
            "proxy/src/mysql/learned.rs",
            "proxy/src/mysql/lexer.rs",
            "proxy/src/mysql/serving/own.rs",
            "proxy/src/mysql/statements.rs",
            "proxy/src/mysql/variables.rs",
            "proxy/src/mysql/wire/own.rs",
            "proxy/src/mysql/wire/tests.rs",
        ],
    ),
    (
        "clients of MySQL ask the console for variables, and bind values of many types",
        &[
            "proxy/src/program/mysql/dialect.rs",
            "proxy/src/program/mysql/values.rs",
        ],
    ),
    (
        "the harness needs sysbench, drivers and bare bytes of MySQL; PostgreSQL's are in pgbench.rs, client.rs and message.rs",
        &[
            "tests/src/mysql/programs.rs",
            "tests/src/mysql/raw.rs",
            "tests/tests/whole/mysql/drivers.rs",
        ],
    ),
];

/// Cases that only one engine has, under what makes it so.
const CASES: &[(&str, &[&str])] = &[];

fn listed<'a>(lists: &[(&str, &[&'a str])]) -> BTreeSet<&'a str> {
    lists
        .iter()
        .flat_map(|(_, all)| all.iter().copied())
        .collect()
}

/// The same place on the other engine's side, where the file is on one's.
fn counterpart(file: &str) -> Option<String> {
    let swap = |part: &str| match part {
        "postgres" => Some("mysql"),
        "mysql" => Some("postgres"),
        _ => None,
    };
    if let Some(name) = file.strip_prefix("migrator/tests/") {
        let (engine, rest) = name.split_once('_')?;
        return swap(engine).map(|other| format!("migrator/tests/{other}_{rest}"));
    }
    let (folder, name) = file.rsplit_once('/')?;
    let mut swapped = false;
    let parts: Vec<&str> = folder
        .split('/')
        .map(|part| {
            let other = swap(part);
            swapped |= other.is_some();
            other.unwrap_or(part)
        })
        .collect();
    swapped.then(|| format!("{}/{name}", parts.join("/")))
}

#[test]
fn every_file_of_one_engine_has_its_twin_or_a_reason() {
    let all: BTreeSet<String> = sources().into_iter().collect();
    let alone: BTreeSet<&String> = all
        .iter()
        .filter(|file| counterpart(file).is_some_and(|twin| !all.contains(&twin)))
        .collect();
    let excused = listed(FILES);
    check(
        "one engine has it, and nothing says why the other has not",
        alone
            .iter()
            .filter(|file| !excused.contains(file.as_str()))
            .map(|file| (*file).clone()),
    );
    check(
        "listed as alone, and is not",
        excused
            .iter()
            .filter(|file| !alone.iter().any(|one| one.as_str() == **file))
            .map(|file| (*file).to_owned()),
    );
}

/// The names of the cases in one engine's folder: tests as they stand, and those that a macro makes for every pair or
/// server.
fn cases(engine: &str) -> BTreeSet<String> {
    let folder = format!("tests/tests/whole/{engine}/");
    let files = sources()
        .into_iter()
        .filter(|file| file.starts_with(&folder) && !file.ends_with("/mod.rs"));
    let mut names = BTreeSet::new();
    for file in files {
        let text = read(&file);
        let mut found = Vec::new();
        for part in text.split("#[tokio::test").skip(1) {
            let after = part.split("async fn ").nth(1).unwrap_or_default();
            found.extend(after.split('(').next());
        }
        for maker in ["for_every_pair! {", "on_every_server! {"] {
            for part in text.split(maker).skip(1) {
                let list = part.split('}').next().unwrap_or_default();
                let words = list.split(|letter: char| letter == ',' || letter.is_whitespace());
                found.extend(words.filter(|word| !word.is_empty()));
            }
        }
        names.extend(found.iter().map(|name| format!("{}::{name}", stem(&file))));
    }
    names
}

fn stem(file: &str) -> String {
    let stem = Path::new(file).file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

#[test]
fn every_case_of_one_engine_is_shown_for_the_other_or_has_a_reason() {
    let (postgres, mysql) = (cases("postgres"), cases("mysql"));
    let alone: BTreeSet<&String> = postgres.symmetric_difference(&mysql).collect();
    let excused = listed(CASES);
    check(
        "one engine shows it, and nothing says why the other does not",
        alone
            .iter()
            .filter(|case| !excused.contains(case.as_str()))
            .map(|case| (*case).clone()),
    );
    check(
        "listed as shown for one engine alone, and is not",
        excused
            .iter()
            .filter(|case| !alone.iter().any(|one| one.as_str() == **case))
            .map(|case| (*case).to_owned()),
    );
}
