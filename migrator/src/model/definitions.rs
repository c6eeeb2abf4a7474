//! Definitions of both sides by object: compared with one another, and with those that a proof was about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Definitions of one side, by the object's class and name as people write them, such as `view shop.totals`.
pub type Definitions = BTreeMap<String, String>;

/// At most this many objects are named in one message.
const NAMED_MAX: usize = 10;
/// Bytes of a digest that are kept: equal digests mean equal definitions.
const DIGEST_BYTES: usize = 12;

/// What the definitions of both sides were at one moment, without their texts: these may hold secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The source's objects, each with the digest of its definition.
    pub source: BTreeMap<String, String>,
    /// The target's objects.
    pub target: BTreeMap<String, String>,
}

/// Both sides' definitions, read at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// What they were.
    pub fingerprint: Fingerprint,
    /// The objects that are not the same on both sides, each with what is the matter.
    pub differences: Vec<String>,
}

impl Fingerprint {
    /// Of both sides' definitions.
    pub fn of(source: &Definitions, target: &Definitions) -> Self {
        Self { source: digests(source), target: digests(target) }
    }

    /// Adds to the target's what is no definition, and must stay as it is all the same.
    pub fn add_target(&mut self, more: &Definitions) {
        self.target.extend(digests(more));
    }

    /// What is no longer as it was, by side and object, at most ten and a count of the rest.
    pub fn changes(&self, now: &Self) -> Vec<String> {
        let sides = [("source", &self.source, &now.source), ("target", &self.target, &now.target)];
        let mut changes = Vec::new();
        for (side, before, after) in sides {
            let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in names {
                let what = match (before.get(name), after.get(name)) {
                    (Some(_), None) => "is gone",
                    (None, Some(_)) => "is new",
                    (before, after) if before != after => "was changed",
                    _ => continue,
                };
                changes.push(format!("{name} {what} on the {side}"));
            }
        }
        changes
    }
}

/// The first of these texts, and how many more there are.
pub fn named(texts: &[String]) -> String {
    let shown = texts.get(..NAMED_MAX).unwrap_or(texts).join("; ");
    match texts.len().saturating_sub(NAMED_MAX) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

fn digests(definitions: &Definitions) -> BTreeMap<String, String> {
    definitions
        .iter()
        .map(|(name, definition)| {
            let digest = Sha256::digest(definition.as_bytes());
            let mut text = String::new();
            for byte in digest.iter().take(DIGEST_BYTES) {
                let _ = write!(text, "{byte:02x}");
            }
            (name.clone(), text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Definitions, Fingerprint};

    #[test]
    fn every_kind_of_change_on_either_side_is_named() {
        let definitions = |pairs: &[(&str, &str)]| -> Definitions {
            let pairs = pairs.iter();
            pairs.map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
        };
        let before = definitions(&[("view a", "1"), ("view b", "1")]);
        let after = definitions(&[("view b", "2"), ("view c", "1")]);
        let proved = Fingerprint::of(&before, &before);
        assert!(proved.changes(&proved).is_empty());
        assert_eq!(
            proved.changes(&Fingerprint::of(&after, &before)),
            ["view a is gone on the source", "view b was changed on the source", "view c is new on the source"]
        );
        assert_eq!(proved.changes(&Fingerprint::of(&before, &after)).len(), 3);
    }
}
