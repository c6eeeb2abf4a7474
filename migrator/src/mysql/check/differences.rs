//! What two catalogues say differently of one object, and what of that the target's own print settles.

use std::collections::{BTreeMap, BTreeSet};

use super::inventory::reading::{Catalogue, Seen};
use super::inventory::record::Record;
use super::inventory::{Class, Part};
use super::printed;
use crate::model::definitions::{Definitions, Fingerprint};

/// What stands for an account of the target's that is as the source's, or not there yet.
const AS_THE_SOURCE: &str = "as on the source";

/// What was read of both sides.
pub(crate) struct Sides {
    pub(crate) source: Seen,
    pub(crate) target: Seen,
    pub(crate) catalogues: (Catalogue, Catalogue),
    /// What the source has came from the target, or by a statement that stops the follower.
    pub(crate) comes_back: bool,
}

/// As whom a program runs: compared by itself, because to create one of somebody else's takes a right.
const DEFINER: &str = "definer";

/// An object that is not the same on both sides.
pub(crate) struct Difference {
    pub(super) object: String,
    pub(super) what: String,
    /// Whose definition it is a part of, where the target can be asked how it would write that.
    pub(super) owner: Option<Owner>,
}

type Groups<'a> = BTreeMap<(&'static str, String), Vec<&'a Record>>;

impl Sides {
    /// One side is MySQL and the other MariaDB.
    fn crosses(&self) -> bool {
        self.catalogues.0.version.flavor != self.catalogues.1.version.flavor
    }

    /// What both sides are: each side's own words. Of the target's accounts it is only whether they are as the source's,
    /// because more of them come as their passwords become known.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let mut ours = reported(&self.source, |_| true);
        let mut theirs = reported(&self.target, |class| !class.of_accounts && class.later.is_empty());
        let differing: BTreeMap<String, String> =
            self.differences(|class| class.of_accounts).into_iter().map(|one| (one.object, one.what)).collect();
        let (source, target) = (self.source.records.iter(), self.target.records.iter());
        for record in source.filter(|one| one.class.of_accounts) {
            theirs.insert(record.object.clone(), AS_THE_SOURCE.to_owned());
        }
        for record in target.filter(|one| one.class.of_accounts) {
            theirs.extend(differing.get_key_value(&record.object).map(cloned));
        }
        // What the target lacks of them.
        for record in self.source.records.iter().filter(|one| one.class.of_accounts) {
            theirs.extend(differing.get_key_value(&record.object).map(cloned));
        }
        for (side, seen) in [(&mut ours, &self.source), (&mut theirs, &self.target)] {
            let hidden = seen.hidden.keys();
            side.extend(hidden.map(|what| (what.clone(), "cannot be known".to_owned())));
        }
        Fingerprint::of(&ours, &theirs)
    }

    pub(super) fn differences(&self, wanted: impl Fn(&Class) -> bool + Copy) -> Vec<Difference> {
        let ours = self.grouped(&self.source, wanted);
        let theirs = self.grouped(&self.target, wanted);
        let mut found = Vec::new();
        for (key, records) in &ours {
            let there = theirs.get(key).map_or(&[][..], Vec::as_slice);
            let missing = self.is_missing_rightly(key.0, records);
            if missing {
                continue;
            }
            if let Some(what) = self.difference(records, there) {
                found.push(Self::named(&key.1, what, records));
            }
            if !there.is_empty() && definers(records) != definers(there) {
                let what = "differs in definer".to_owned();
                found.push(Difference { owner: None, ..Self::named(&key.1, what, records) });
            }
        }
        for (key, records) in theirs.iter().filter(|(key, _)| !ours.contains_key(*key)) {
            let Some(record) = records.first() else {
                continue;
            };
            let what = if !record.class.later.is_empty() {
                "on the target before the switch"
            } else if self.may_be_more(record) {
                continue;
            } else {
                "not on the source"
            };
            found.push(Self::named(&key.1, what.to_owned(), records));
        }
        found
    }

    fn named(object: &str, what: String, records: &[&Record]) -> Difference {
        let owner = records.first().and_then(|record| owner(record));
        Difference { object: object.to_owned(), what, owner }
    }

    /// By table and object. The families do not have the same names for checks that nobody named.
    fn grouped<'a>(&self, seen: &'a Seen, wanted: impl Fn(&Class) -> bool) -> Groups<'a> {
        let mut groups = Groups::new();
        for record in seen.records.iter().filter(|one| wanted(one.class)) {
            let table = record.class.place(record.table);
            let object = if self.crosses() && printed::is_check(record) {
                let (schema, name) = (record.text("CONSTRAINT_SCHEMA"), record.text("TABLE_NAME"));
                let schema = if schema.is_empty() { record.text("TABLE_SCHEMA") } else { schema };
                format!("checks of {}", crate::mysql::sql::qualified(schema, name))
            } else {
                record.object.clone()
            };
            groups.entry((table, object)).or_default().push(record);
        }
        groups
    }

    /// What is not the same, in words.
    fn difference(&self, ours: &[&Record], theirs: &[&Record]) -> Option<String> {
        let class = ours.first()?.class;
        if !class.later.is_empty() {
            return None;
        }
        if theirs.is_empty() {
            return Some("not on the target".to_owned());
        }
        let versions = (self.catalogues.0.version, self.catalogues.1.version);
        let compared = |column: &str| {
            let is = |(name, _): &&(&str, &str)| name.eq_ignore_ascii_case(column);
            column != DEFINER
                && !class.apart.iter().any(|one| is(&one))
                && !(self.crosses() && printed::is_name_of_check(class, column))
        };
        let same = |(one, other): (&&Record, &&Record)| one.values == other.values;
        if ours.len() == theirs.len() && ours.iter().zip(theirs).all(same) {
            return None;
        }
        let columns = |records: &[&'_ Record]| -> BTreeSet<String> {
            let columns = records.iter().flat_map(|one| one.values.keys());
            columns.filter(|column| compared(column)).cloned().collect()
        };
        let (ours_has, theirs_has) = (columns(ours), columns(theirs));
        // Of a document, each part may be missing.
        let common: BTreeSet<&String> = ours_has
            .union(&theirs_has)
            .filter(|column| column.contains('.') || ours_has.contains(*column) && theirs_has.contains(*column))
            .collect();
        let values = |record: &Record, version| -> Vec<Option<String>> {
            common.iter().map(|column| printed::value(record, column, version, versions)).collect()
        };
        let mut here: Vec<_> = ours.iter().map(|one| values(one, versions.0)).collect();
        let mut there: Vec<_> = theirs.iter().map(|one| values(one, versions.1)).collect();
        here.sort();
        there.sort();
        if here == there {
            return None;
        }
        let first = here.iter().zip(&there).find(|(one, other)| one != other);
        let column = first.and_then(|(one, other)| {
            let at = one.iter().zip(other).position(|(one, other)| one != other)?;
            common.iter().nth(at)
        });
        Some(differs_in(column.copied()))
    }

    /// The target's server has no such table for a reason that is known, or the account is still to come.
    fn is_missing_rightly(&self, table: &str, records: &[&Record]) -> bool {
        let Some(record) = records.first() else {
            return true;
        };
        if !record.class.alone.is_empty() && !self.catalogues.1.knows(table) {
            return true;
        }
        // An older server has no place for it, and did not have it before either.
        if self.comes_back && !self.catalogues.1.knows(table) {
            return true;
        }
        // What may not be read is told apart.
        if self.target.hidden.contains_key(table) {
            return true;
        }
        let Some(account) = &record.account else {
            return false;
        };
        let is = |one: &&Record| one.table == "mysql.user" && one.account.as_ref() == Some(account);
        if self.target.records.iter().any(|one| is(&one)) {
            return self.crosses() && is(record) && record.text("is_role") == "Y";
        }
        // Whoever can log in and is not there yet is told by the check of accounts.
        let own = self.source.records.iter().find(is);
        own.is_some_and(|own| own.text("is_role") != "Y") && !self.is_locked(account)
    }

    fn is_locked(&self, account: &(String, String)) -> bool {
        let mut ours = self.source.records.iter();
        ours.any(|one| {
            one.account.as_ref() == Some(account)
                && (one.text("account_locked") == "Y" || one.text("priv.account_locked") == "true")
        })
    }

    fn may_be_more(&self, record: &Record) -> bool {
        if !record.class.more_on_target.is_empty() {
            return true;
        }
        if self.source.hidden.contains_key(record.table) {
            return true;
        }
        // What the source's server has no place for nobody can have made there.
        if !self.catalogues.0.knows(record.class.place(record.table)) {
            return true;
        }
        let Some(account) = &record.account else {
            return false;
        };
        // Accounts of the target's own are nobody's of the source.
        let mut ours = self.source.records.iter();
        !ours.any(|one| one.account.as_ref() == Some(account))
    }

    /// What of these is left after the target has printed the source's definitions.
    pub(super) fn settled(&self, found: Vec<Difference>, printed: &Printed) -> Vec<Difference> {
        let mut left = Vec::new();
        let mut asked: BTreeSet<Owner> = BTreeSet::new();
        for one in found {
            match &one.owner {
                None => left.push(one),
                Some(_) if one.what.starts_with("not on the") && is_main(&one.object) => {
                    left.push(one);
                }
                Some(owner) => match printed.refused.get(owner) {
                    Some(why) => left.push(Difference { what: format!("{}; {why}", one.what), ..one }),
                    None if printed.records.contains_key(owner) => {
                        asked.insert(owner.clone());
                    }
                    None => left.push(one),
                },
            }
        }
        for owner in asked {
            let ours = printed.records.get(&owner).map_or(&[][..], Vec::as_slice);
            let theirs = self.target.records.iter();
            let theirs = theirs.filter(|one| self::owner(one).as_ref() == Some(&owner));
            left.extend(self.printed_differences(ours, &theirs.collect::<Vec<_>>()));
        }
        left
    }

    /// Both are of one server, so that every letter counts.
    fn printed_differences(&self, ours: &[Record], theirs: &[&Record]) -> Vec<Difference> {
        type TextRow = BTreeMap<String, Vec<BTreeMap<String, Option<String>>>>;
        let reported = |records: &mut dyn Iterator<Item = &Record>| {
            let mut reported = TextRow::new();
            for record in records {
                let mut object = record.object.clone();
                if self.crosses() && printed::is_check(record) {
                    "checks of the table".clone_into(&mut object);
                }
                let compared = record.values.iter().filter(|(column, _)| {
                    let mut apart = record.class.apart.iter();
                    column.as_str() != DEFINER
                        && !apart.any(|(name, _)| name.eq_ignore_ascii_case(column))
                        && !(self.crosses() && printed::is_name_of_check(record.class, column))
                });
                let values = compared.map(|(column, value)| {
                    let value = value.as_deref().map(|value| printed::plain(column, value));
                    (column.clone(), value)
                });
                reported.entry(object).or_default().push(values.collect());
            }
            for rows in reported.values_mut() {
                rows.sort();
            }
            reported
        };
        let (ours, theirs) = (reported(&mut ours.iter()), reported(&mut theirs.iter().copied()));
        let objects: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        objects
            .into_iter()
            .filter_map(|object| {
                let what = match (ours.get(object), theirs.get(object)) {
                    (Some(_), None) => "not on the target".to_owned(),
                    (None, Some(_)) => "not on the source".to_owned(),
                    (Some(ours), Some(theirs)) if ours != theirs => {
                        let rows = ours.iter().zip(theirs).find(|(one, other)| one != other);
                        let column = rows
                            .and_then(|(one, other)| one.keys().find(|column| one.get(*column) != other.get(*column)));
                        differs_in(column)
                    }
                    _ => return None,
                };
                Some(Difference { object: object.clone(), what, owner: None })
            })
            .collect()
    }
}

fn differs_in(column: Option<&String>) -> String {
    column.map_or_else(|| "differs".to_owned(), |column| format!("differs in {column}"))
}

fn cloned((object, what): (&String, &String)) -> (String, String) {
    (object.clone(), what.clone())
}

fn definers<'a>(records: &[&'a Record]) -> BTreeSet<&'a str> {
    records.iter().map(|record| record.text(DEFINER)).collect()
}

pub(crate) fn owner(record: &Record) -> Option<Owner> {
    let (kind, schema, name) = match record.class.part {
        Part::Alone => return None,
        Part::Relation(schema, name) => (What::Relation, schema, name),
        Part::Routine(schema, name) => (What::Routine, schema, name),
        Part::Event(schema, name) => (What::Event, schema, name),
    };
    Some(Owner { kind, schema: record.text(schema).to_owned(), name: record.text(name).to_owned() })
}

/// Objects with everything that their server says of them.
fn reported(seen: &Seen, wanted: impl Fn(&Class) -> bool) -> Definitions {
    let mut texts: BTreeMap<&String, Vec<String>> = BTreeMap::new();
    for record in seen.records.iter().filter(|record| wanted(record.class)) {
        texts.entry(&record.object).or_default().push(record.reported());
    }
    texts
        .into_iter()
        .map(|(object, mut texts)| {
            // The servers promise no order.
            texts.sort_unstable();
            (object.clone(), texts.concat())
        })
        .collect()
}

/// What kind of thing has a definition of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// A table, view or sequence.
    Relation,
    /// A function or procedure.
    Routine,
    /// An event.
    Event,
}

/// A thing with a definition of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) kind: What,
    pub(crate) schema: String,
    pub(crate) name: String,
}

/// What the target printed.
#[derive(Debug, Default)]
pub(crate) struct Printed {
    /// As the catalogue of the target shows it, under the names of the source.
    pub(crate) records: BTreeMap<Owner, Vec<Record>>,
    /// The least grant that lets it print, where there is no place for it.
    pub(crate) hidden: Option<String>,
    /// Why the target printed nothing.
    pub(crate) refused: BTreeMap<Owner, String>,
}

/// Whether a thing with all its parts is called so.
pub(super) fn is_main(object: &str) -> bool {
    ["table ", "routine ", "event "].iter().any(|lead| object.starts_with(lead))
}
