//! What may stand in WITH (…), and how its values are read.

use std::time::Duration;

use migrator::model::definition::Options;
use migrator::model::plan::Settings;
use proxy::config::{Key, Migrator, parse_duration};

use super::mistake::{Mistake, nearest_word};

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

    fn unknown(&self, known: impl IntoIterator<Item = &'static str> + Clone) -> Mistake {
        let hint = nearest_word(&self.key, known);
        Mistake::syntax(format!("there is no option {:?}", self.key), hint, self.position)
    }
}

/// The settings of a new migration; what is not named is as in the configuration.
pub(super) fn settings(pairs: Vec<Pair>) -> Result<Given, Mistake> {
    let mut given = Given::default();
    let mut tried = Migrator::default();
    for pair in pairs {
        if pair.is_open() {
            continue;
        }
        if pair.key == "schemas" {
            given.schemas = Some(pair.names());
            continue;
        }
        let set = tried.set_option(&pair.key, &pair.value);
        let known = || Migrator::options().map(Key::name).chain(["schemas"]);
        set.ok_or_else(|| pair.unknown(known()))?.map_err(|form| pair.refuse(form))?;
        given.options.push((pair.key, pair.value));
    }
    Ok(given)
}

const OPTIONS: [&str; 7] =
    ["max_hold", "waive_check", "waive_accounts", "waive_sessions", "way_back", "proof", "check_budget"];

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
            "way_back" => match pair.value.to_lowercase().as_str() {
                "armed" => options.way_back = true,
                "none" => options.way_back = false,
                _ => return Err(pair.refuse("'armed' or 'none'")),
            },
            "proof" => match pair.value.to_lowercase().as_str() {
                "before" => options.proof_before = true,
                "after" => options.proof_before = false,
                _ => return Err(pair.refuse("'before' or 'after'")),
            },
            "check_budget" => options.check_budget = Some(pair.duration()?),
            _ => return Err(pair.unknown(OPTIONS)),
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
            _ => return Err(pair.unknown(["target_objects"])),
        }
    }
    Ok(dropped)
}

/// Whether the way back is closed without a proof of the switch.
pub(super) fn waive_proof(pairs: Vec<Pair>) -> Result<bool, Mistake> {
    let mut waived = false;
    for pair in pairs {
        if pair.is_open() {
            continue;
        }
        match pair.key.as_str() {
            "waive_proof" => waived = pair.truth()?,
            _ => return Err(pair.unknown(["waive_proof"])),
        }
    }
    Ok(waived)
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
            _ => return Err(pair.unknown(["give_up_switch"])),
        }
    }
    Ok(given_up)
}

/// The settings that a statement names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Given {
    /// Keys of the section `migrator` with their values, which are accepted.
    options: Vec<(String, String)>,
    schemas: Option<Vec<String>>,
}

impl Given {
    /// What the statement names, over the configuration.
    pub(crate) fn over(self, configured: &Migrator) -> Settings {
        let mut migrator = configured.clone();
        for (key, value) in &self.options {
            migrator.set_option(key, value);
        }
        Settings { schemas: self.schemas.unwrap_or_default(), ..settings_of(&migrator) }
    }
}

/// A migration's settings, as the configuration or its statement names them.
pub(crate) fn settings_of(migrator: &Migrator) -> Settings {
    Settings {
        copy_workers: migrator.copy_workers,
        copy_chunk_bytes: migrator.copy_chunk,
        check_workers: migrator.check_workers,
        check_range_rows: migrator.check_range_rows,
        proof_rate: migrator.proof_rate,
        check_budget: migrator.check_budget,
        residue_keys: migrator.residue_keys,
        residue_rate: migrator.residue_rate,
        counter_gap: migrator.counter_gap,
        slot_create_timeout: migrator.slot_create_timeout,
        ..Settings::default()
    }
}
