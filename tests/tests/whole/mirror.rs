//! Both engines mirror one another, file for file and case for case. What one has and the other lacks is listed here
//! with its reason; a reason that no longer holds fails as well.

use std::collections::BTreeSet;
use std::path::Path;

use super::tidy::{check, read, sources};

/// Files that only one engine has, and why.
const FILES: &[(&str, &str)] = &[];

/// Cases that only one engine has, and why.
const CASES: &[(&str, &str)] = &[];

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
    let excused: BTreeSet<&str> = FILES.iter().map(|(file, _)| *file).collect();
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
        for part in text.split("_every_").skip(1) {
            let Some((head, rest)) = part.split_once('!') else {
                continue;
            };
            if !head.chars().all(char::is_alphanumeric) {
                continue;
            }
            let list = rest.split([';', '}', ')']).next().unwrap_or_default();
            let words = list.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            found.extend(words.filter(|word| !word.is_empty()));
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
    let excused: BTreeSet<&str> = CASES.iter().map(|(case, _)| *case).collect();
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
