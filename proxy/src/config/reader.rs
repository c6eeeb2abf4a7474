//! Takes values out of the parsed file and keeps every problem, so that all of them are told at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::keys::keys;
use super::kinds::{Context, Env, Kind, TRUE_OR_FALSE};
use super::nearest;
use super::section::{DefaultValue, Key};

/// What is wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key's dotted path, or the file's path where no key is meant.
    pub key: String,
    /// The line in the file, where there is one.
    pub line: Option<usize>,
    /// What is wrong, and what would be right. Never holds a secret.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.key)?;
        if let Some(line) = self.line {
            write!(formatter, " (line {line})")?;
        }
        write!(formatter, ": {}", self.text)
    }
}

struct Leaf {
    line: usize,
    value: Value,
}

enum Value {
    Text(String),
    Integer(String),
    Boolean(bool),
    Other(&'static str),
}

pub(super) struct Reader<'a> {
    pub(super) context: Context<'a>,
    leaves: BTreeMap<Vec<String>, Leaf>,
    tables: BTreeMap<Vec<String>, usize>,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &str, env: Env<'a>) -> Self {
        let context = Context { engine: None, knows_passwords: false, env: Some(env) };
        let mut reader = Self { context, leaves: BTreeMap::new(), tables: BTreeMap::new(), problems: Vec::new() };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            // The error's own rendering quotes the line, which may hold a password.
            let line = error.span().map(|span| line_of(text, span.start));
            reader.problems.push(Problem {
                key: super::WHOLE_FILE.to_owned(),
                line,
                text: format!("is not TOML: {}", error.message().lines().next().unwrap_or("unreadable")),
            });
        }
        reader.flatten(text, &mut Vec::new(), table.get_ref());
        reader
    }

    fn flatten(&mut self, text: &str, path: &mut Vec<String>, table: &DeTable<'_>) {
        for (name, value) in table {
            path.push(name.get_ref().to_string());
            let line = line_of(text, name.span().start);
            match value.get_ref() {
                // `password = { command = "…" }` is the longer way to write `password_command`.
                DeValue::Table(inner) if *name.get_ref() == "password" && path.len() > 2 => {
                    path.pop();
                    for (part, value) in inner {
                        path.push(format!("password_{}", part.get_ref()));
                        self.leaves.insert(path.clone(), Leaf { line, value: read_value(value.get_ref()) });
                        path.pop();
                    }
                    path.push(String::new());
                }
                DeValue::Table(inner) => {
                    self.tables.insert(path.clone(), line);
                    self.flatten(text, path, inner);
                }
                other => {
                    let value = read_value(other);
                    self.leaves.insert(path.clone(), Leaf { line, value });
                }
            }
            path.pop();
        }
    }

    /// The names under a section such as `clusters`.
    pub(super) fn names(&self, section: &str) -> Vec<String> {
        let names: BTreeSet<&String> = self
            .tables
            .keys()
            .filter(|path| path.first().is_some_and(|first| first == section))
            .filter_map(|path| path.get(1))
            .collect();
        names.into_iter().cloned().collect()
    }

    /// Tells a problem of a key.
    pub(super) fn complain(&mut self, path: &[&str], line: Option<usize>, text: impl Into<String>) {
        self.problems.push(Problem { key: show_path(path), line, text: text.into() });
    }

    /// The line of a section or key, for a complaint about it.
    pub(super) fn line(&self, path: &[&str]) -> Option<usize> {
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        self.tables.get(&path).copied().or_else(|| self.leaves.get(&path).map(|leaf| leaf.line))
    }

    /// Takes one value, or what it is when left out; a complaint names the accepted form, and never a secret.
    pub(super) fn take<T>(&mut self, path: &[&str], kind: &Kind<T>) -> Option<T> {
        let key = key_of(path);
        let (text, line) = match self.raw(path, key) {
            Given::Bad => return None,
            Given::Value(text, line) => (text, Some(line)),
            Given::Nothing => match fallback(path, key) {
                Some(text) => (text.to_owned(), None),
                None if key.default == DefaultValue::Required => {
                    self.complain(path, None, format!("is missing; write {}", key.form));
                    return None;
                }
                None => return (kind.absent)(),
            },
        };
        let value = (kind.read)(&text, &self.context);
        value.map_err(|what| self.complain(path, line, format!("{what}; write {}", key.form))).ok()
    }

    /// Reads a value, or its default, and leaves it to be taken.
    pub(super) fn peek<T>(&self, path: &[&str], kind: &Kind<T>) -> Option<T> {
        let owned: Vec<String> = path.iter().map(ToString::to_string).collect();
        let text = match self.leaves.get(&owned).map(|leaf| &leaf.value) {
            None => fallback(path, key_of(path))?,
            Some(Value::Text(text) | Value::Integer(text)) => text,
            Some(Value::Boolean(_) | Value::Other(_)) => return None,
        };
        (kind.read)(text, &self.context).ok()
    }

    fn raw(&mut self, path: &[&str], key: &Key) -> Given {
        let owned: Vec<String> = path.iter().map(ToString::to_string).collect();
        let Some(leaf) = self.leaves.remove(&owned) else {
            return Given::Nothing;
        };
        match leaf.value {
            Value::Text(text) | Value::Integer(text) => Given::Value(text, leaf.line),
            Value::Boolean(value) if key.form == TRUE_OR_FALSE => Given::Value(value.to_string(), leaf.line),
            Value::Boolean(_) => {
                self.complain(path, Some(leaf.line), format!("is {TRUE_OR_FALSE}; write {}", key.form));
                Given::Bad
            }
            Value::Other(kind) => {
                self.complain(path, Some(leaf.line), format!("is {kind}; write {}", key.form));
                Given::Bad
            }
        }
    }

    /// Complains about everything that nobody took.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        for (path, leaf) in std::mem::take(&mut self.leaves) {
            let shown = show_path(&path);
            let known = || keys().map(|key| key.path);
            let text = if path.len() == 1 && keys().any(|key| key.section() == shown) {
                format!("is a value here; write a section [{shown}]")
            } else {
                match nearest(&pattern_of(&path), known()) {
                    Some(near) => format!("is not a key; did you mean {near}?"),
                    None => "is not a key; `headgate config --reference` lists every key".to_owned(),
                }
            };
            self.problems.push(Problem { key: shown, line: Some(leaf.line), text });
        }
        for (path, line) in std::mem::take(&mut self.tables) {
            let section = path.first().map_or("", String::as_str);
            let of_section = || keys().filter(|key| key.section() == section);
            let depth = if of_section().any(Key::is_named) { 2 } else { 1 };
            if of_section().next().is_some() && path.len() <= depth {
                continue;
            }
            let sections = keys().map(Key::section);
            let text = match nearest(section, sections) {
                Some(near) if near != section => {
                    format!("is not a section; did you mean [{near}]?")
                }
                _ => "is not a section; `headgate config --reference` lists every key".to_owned(),
            };
            self.problems.push(Problem { key: show_path(&path), line: Some(line), text });
        }
        self.problems
    }
}

enum Given {
    Nothing,
    Bad,
    Value(String, usize),
}

/// Reads a duration such as `10s`.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let millis_per = match unit {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let millis = number.checked_mul(millis_per)?;
    (millis > 0 && millis <= 30 * 24 * 3_600_000).then(|| Duration::from_millis(millis))
}

/// Reads a size such as `64MiB`.
pub fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let per = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(per)
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

/// The text of a key that is left out.
fn fallback<'a>(path: &[&'a str], key: &Key) -> Option<&'a str> {
    match key.default {
        DefaultValue::Text(text) => Some(text),
        DefaultValue::SectionName => path.get(1).copied(),
        DefaultValue::Nothing(_) | DefaultValue::Required => None,
    }
}

fn key_of(path: &[&str]) -> &'static Key {
    let owned: Vec<String> = path.iter().map(ToString::to_string).collect();
    keys().find(|key| key.covers(&owned)).expect("every key that is read is in the table of keys")
}

fn read_value(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed.map_or(Value::Other("a number that is too large"), |n| Value::Integer(n.to_string()))
        }
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(_) => Value::Other("a date or time"),
        DeValue::Array(_) => Value::Other("a list"),
        DeValue::Table(_) => Value::Other("a section"),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

fn pattern_of(path: &[String]) -> String {
    let named = keys().any(|key| key.is_named() && path.first().is_some_and(|s| s == key.section()));
    let parts = path.iter().enumerate().map(|(at, part)| if named && at == 1 { "*" } else { part });
    parts.collect::<Vec<_>>().join(".")
}

fn show_path<S: AsRef<str>>(path: &[S]) -> String {
    let bare = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let parts = path.iter().map(|part| {
        let part = part.as_ref();
        if bare(part) { part.to_owned() } else { format!("{part:?}") }
    });
    parts.collect::<Vec<_>>().join(".")
}
