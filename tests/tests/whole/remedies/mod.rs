//! Every statement that a finding or a refusal tells the operator to run is run by a test, or the table says why there is none.

mod both;
mod mysql;
mod postgres;
mod reading;

use std::collections::BTreeMap;

use self::reading::{Code, Read, Side};
use super::tidy::{check, read, sources};

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// A finding, by its name.
    Finding(&'static str),
    /// Statements that are printed without a finding's name, by how they begin in the source.
    Statement(&'static str),
}

/// How it is shown that what is told ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Tests that run what is told, and see that it ends it.
    By(&'static [&'static str]),
    /// No statement is told, and why that is so.
    Advice(&'static str),
}

type Table = &'static [(Of, Shown)];

/// Each table.
const TABLES: [(Side, Table); 3] =
    [(Side::Both, both::ROWS), (Side::Postgres, postgres::ROWS), (Side::Mysql, mysql::ROWS)];

fn printed() -> Read {
    let texts: BTreeMap<String, String> = sources()
        .into_iter()
        .filter(|file| file.starts_with("migrator/src/") || file.starts_with("proxy/src/bin/headgate/"))
        .filter(|file| !file.ends_with("/tests.rs"))
        .map(|file| (file.clone(), read(&file)))
        .collect();
    Code::parse(texts.iter().map(|(file, text)| (file.as_str(), text.as_str()))).read()
}

/// Each test's name, with the texts of the files that have one of this name.
fn tests() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in sources() {
        let text = read(&file);
        let mut marked = false;
        // A case of every pair takes it, on the first line or on one of its own.
        let text_of_lines = text.replace("(\n    pair: Pair", "(pair: Pair");
        for line in text_of_lines.lines().map(str::trim) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                marked = true;
            } else if let Some((_, name)) =
                line.split_once("fn ").filter(|(_, name)| marked || name.contains("(pair: Pair"))
            {
                let name = name.split(['(', '<']).next().unwrap_or_default();
                found.entry(name.to_owned()).or_default().push(text.clone());
                marked = false;
            }
        }
    }
    found
}

fn rows(side: Side) -> impl Iterator<Item = &'static (Of, Shown)> {
    TABLES.into_iter().filter(move |(one, ..)| *one == side).flat_map(|(_, rows)| rows)
}

/// A statement by the words that tell what it does.
fn begins(text: &str) -> String {
    let words = text.split_whitespace().take(2);
    words.filter(|word| !word.starts_with('{')).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_remedy_is_run_by_a_test_that_sees_what_it_was_for_gone() {
    let printed = printed();
    let tests = tests();
    let mut wrong: Vec<String> =
        printed.unread.iter().map(|place| format!("{place} has a name that cannot be read")).collect();
    for ((side, name), reported) in &printed.findings {
        let of: Vec<_> = rows(*side).filter(|(of, _)| *of == Of::Finding(leaked(name))).collect();
        match of.as_slice() {
            [] => wrong.push(format!("{side:?}: no row for the finding {name} ({:?})", reported.places)),
            [(_, Shown::Advice(_))] if !reported.statements.is_empty() => {
                wrong.push(format!("{side:?}: {name} tells a statement: {:?}", reported.statements));
            }
            [_] => {}
            _ => wrong.push(format!("{side:?}: {name} has two rows")),
        }
    }
    for ((side, statement), place) in &printed.statements {
        let has_row = rows(*side)
            .chain(rows(Side::Both))
            .any(|(of, _)| matches!(of, Of::Statement(text) if statement.starts_with(text)));
        if !has_row {
            wrong.push(format!("{side:?}: no row for the statement {statement:?} ({place})"));
        }
    }
    // Whoever reads a grant can run it as it stands.
    let all = printed.findings.values().flat_map(|reported| reported.statements.iter().chain(&reported.perhaps));
    let all = all.chain(printed.statements.keys().map(|(_, statement)| statement));
    let grants = all.filter(|one| one.starts_with("GRANT ") && one.contains(" ON ") && !one.contains(" TO "));
    wrong.extend(grants.map(|one| format!("to whom? {one:?}")));
    for (side, table) in TABLES {
        for (of, shown) in table {
            let there = match of {
                Of::Finding(name) => printed.findings.contains_key(&(side, (*name).to_owned())),
                Of::Statement(text) => printed
                    .statements
                    .keys()
                    .any(|(one, said)| (*one == side || side == Side::Both) && said.starts_with(text)),
            };
            if !there {
                wrong.push(format!("{side:?}: a row for what is told no more: {of:?}"));
            }
            match shown {
                Shown::Advice(why) if why.len() < 10 => {
                    wrong.push(format!("{side:?}: {of:?} does not say why"));
                }
                Shown::Advice(_) => {}
                Shown::By([]) => {
                    wrong.push(format!("{side:?}: {of:?} names no test"));
                }
                Shown::By(names) => wrong.extend(names.iter().filter_map(|name| {
                    // Who goes through the table of rights takes the findings' names from there.
                    let of_rights = reported(&printed, side, *of).is_some_and(|reported| {
                        let mut places = reported.places.iter();
                        places.any(|place| place.contains("rights"))
                    });
                    let word = match of {
                        Of::Finding(name) => (*name).to_owned(),
                        Of::Statement(text) => begins(text),
                    };
                    match tests.get(*name) {
                        None => Some(format!("{side:?}: {of:?}: there is no test {name}")),
                        Some(files) => {
                            let mentions = files
                                .iter()
                                .any(|text| text.contains(&word) || of_rights && text.contains("grant.check"));
                            (!mentions).then(|| format!("{side:?}: the file of {name} does not mention {word}"))
                        }
                    }
                })),
            }
        }
    }
    print(&printed);
    check("remedies", wrong);
}

fn leaked(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

fn reported(printed: &Read, side: Side, of: Of) -> Option<&reading::Reported> {
    match of {
        Of::Finding(name) => printed.findings.get(&(side, name.to_owned())),
        Of::Statement(_) => None,
    }
}

/// The table, for people: `make remedies`.
fn print(printed: &Read) {
    println!("| engine | finding | statements | shown by |\n|---|---|---|---|");
    for (side, table) in TABLES {
        for (of, shown) in table {
            let reported = reported(printed, side, *of);
            let statements: Vec<String> = reported
                .iter()
                .flat_map(|reported| reported.statements.iter().chain(&reported.perhaps))
                .map(|one| format!("`{}`", one.chars().take(70).collect::<String>()))
                .collect();
            let (name, said) = match of {
                Of::Finding(name) => (*name, statements.join(", ")),
                Of::Statement(text) => ("", format!("`{text}`")),
            };
            let shown = match shown {
                Shown::By(names) => names.join(", "),
                Shown::Advice(why) => format!("no statement: {why}"),
            };
            println!("| {side:?} | {name} | {} | {shown} |", said.replace('|', "\\|"));
        }
    }
}
