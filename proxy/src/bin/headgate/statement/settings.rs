//! What may stand in WITH (…), and how its values are read.

use std::str::FromStr;
use std::time::Duration;

use migrator::model::definition::Options;
use migrator::model::plan::Settings;
use proxy::config::{parse_bytes, parse_duration};

use super::{Mistake, nearest_word};

/// One `key = value`, as it was written.
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) position: usize,
}

impl Pair {
    /// A parameter's place; its value is read once it is bound.
    fn is_open(&self) -> bool {
        self.value.strip_prefix('$').is_some_and(|digits| digits.parse::<u8>().is_ok())
    }

    fn refuse(&self, form: &str) -> Mistake {
        Mistake {
            code: "22023",
            text: format!("{:?} is not a value of {}", self.value, self.key),
            hint: format!("write {form}"),
            position: self.position,
        }
    }

    fn number<T: FromStr + PartialOrd + Copy>(&self, least: T, most: T, form: &str) -> Result<T, Mistake> {
        let number = self.value.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| self.refuse(form))
    }

    fn duration(&self) -> Result<Duration, Mistake> {
        parse_duration(&self.value).ok_or_else(|| self.refuse("a duration such as '500ms', '2s' or '1min'"))
    }

    /// The names of a list with commas.
    fn names(&self) -> Vec<String> {
        let names = self.value.split(',').map(str::trim);
        let names = names.filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    }

    fn truth(&self) -> Result<bool, Mistake> {
        match self.value.to_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Ok(true),
            "false" | "off" | "no" | "0" => Ok(false),
            _ => Err(self.refuse("true or false")),
        }
    }

    fn unknown(&self, known: &'static [&'static str]) -> Mistake {
        let hint = nearest_word(&self.key, known.iter().copied());
        Mistake::syntax(format!("there is no option {:?}", self.key), hint, self.position)
    }
}

const WORKERS: &str = "a number from 1 to 64";

/// The settings of a new migration; what is not named keeps its default.
pub(super) fn settings(pairs: Vec<Pair>) -> Result<Given, Mistake> {
    let mut given = Given::default();
    for pair in pairs {
        if pair.is_open() {
            continue;
        }
        match pair.key.as_str() {
            "copy_workers" => {
                given.copy_workers = Some(pair.number(1, 64, WORKERS)?);
            }
            "copy_chunk" => {
                let form = "a size from '1MiB' to '1024GiB', such as '64MiB'";
                let bytes = parse_bytes(&pair.value).filter(|b| (1 << 20..=1 << 40).contains(b));
                given.copy_chunk_bytes = Some(bytes.ok_or_else(|| pair.refuse(form))?);
            }
            "check_workers" => {
                given.check_workers = Some(pair.number(1, 64, WORKERS)?);
            }
            "check_range_rows" => {
                let form = "a number from 100 to 100000000";
                given.check_range_rows = Some(pair.number(100, 100_000_000, form)?);
            }
            "counter_gap" => {
                let form = "a number from 0 to 1000000000";
                given.counter_gap = Some(pair.number(0, 1_000_000_000, form)?);
            }
            "slot_create_timeout" => given.slot_create_timeout = Some(pair.duration()?),
            "schemas" => {
                given.schemas = Some(pair.names());
            }
            _ => {
                return Err(pair.unknown(&[
                    "copy_workers",
                    "copy_chunk",
                    "check_workers",
                    "check_range_rows",
                    "counter_gap",
                    "slot_create_timeout",
                    "schemas",
                ]));
            }
        }
    }
    Ok(given)
}

/// The options of a cutover or rehearsal.
pub(super) fn options(pairs: Vec<Pair>) -> Result<Options, Mistake> {
    let mut options = Options::default();
    for pair in pairs {
        if pair.is_open() {
            continue;
        }
        match pair.key.as_str() {
            "max_hold" => options.max_hold = pair.duration()?,
            "waive_check" => options.waive_check = pair.truth()?,
            "waive_accounts" => options.waive_accounts = pair.names(),
            "waive_sessions" => options.waive_sessions = pair.truth()?,
            _ => {
                return Err(pair.unknown(&["max_hold", "waive_check", "waive_accounts", "waive_sessions"]));
            }
        }
    }
    Ok(options)
}

/// Whether what a migration made on the target goes with it.
pub(super) fn target_objects(pairs: Vec<Pair>) -> Result<bool, Mistake> {
    let mut dropped = false;
    for pair in pairs {
        if pair.is_open() {
            continue;
        }
        match (pair.key.as_str(), pair.value.to_lowercase().as_str()) {
            ("target_objects", "drop") => dropped = true,
            ("target_objects", "keep") => dropped = false,
            ("target_objects", _) => return Err(pair.refuse("'drop' or 'keep'")),
            _ => return Err(pair.unknown(&["target_objects"])),
        }
    }
    Ok(dropped)
}

/// Whether the operator gives up what was written since the switch.
pub(super) fn give_up_switch(pairs: Vec<Pair>) -> Result<bool, Mistake> {
    let mut given_up = false;
    for pair in pairs {
        if pair.is_open() {
            continue;
        }
        match pair.key.as_str() {
            "give_up_switch" => given_up = pair.truth()?,
            _ => return Err(pair.unknown(&["give_up_switch"])),
        }
    }
    Ok(given_up)
}

/// The settings that a statement names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Given {
    copy_workers: Option<usize>,
    copy_chunk_bytes: Option<u64>,
    check_workers: Option<usize>,
    check_range_rows: Option<u64>,
    counter_gap: Option<i64>,
    slot_create_timeout: Option<Duration>,
    schemas: Option<Vec<String>>,
}

impl Given {
    /// What the statement names, over `defaults`.
    pub(crate) fn over(self, defaults: Settings) -> Settings {
        Settings {
            copy_workers: self.copy_workers.unwrap_or(defaults.copy_workers),
            copy_chunk_bytes: self.copy_chunk_bytes.unwrap_or(defaults.copy_chunk_bytes),
            check_workers: self.check_workers.unwrap_or(defaults.check_workers),
            check_range_rows: self.check_range_rows.unwrap_or(defaults.check_range_rows),
            counter_gap: self.counter_gap.unwrap_or(defaults.counter_gap),
            slot_create_timeout: self.slot_create_timeout.unwrap_or(defaults.slot_create_timeout),
            schemas: self.schemas.unwrap_or(defaults.schemas),
        }
    }
}
