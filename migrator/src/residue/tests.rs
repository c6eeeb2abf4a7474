//! The bounded set of changed keys, by itself and against a model.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{ChangedKeys, Generation, Key, Residue, Unknown};

fn mark(residue: &Residue, keys: &[&str]) -> Option<Generation> {
    let mut marking = residue.marking()?;
    for key in keys {
        marking.key("t", 1, |_, written| {
            written.extend_from_slice(key.as_bytes());
            true
        });
    }
    Some(marking.generation())
}

/// As a batch of the follower: marked, then durable.
fn change(residue: &Residue, keys: &[&str]) {
    let marked = mark(residue, keys).expect("it is on");
    residue.applied(marked);
}

fn proved(keys_max: usize) -> Residue {
    let residue = Residue::default();
    let began = residue.check_begins(keys_max);
    residue.check_passed(began);
    residue
}

fn left(residue: &Residue) -> Vec<String> {
    let left = residue.left().expect("known");
    let keys = left.iter().flat_map(|(table, keys)| keys.iter().map(move |key| (table, key)));
    keys.map(|(table, key)| format!("{table}:{}", key.values().collect::<Vec<_>>().join(","))).collect()
}

fn taken(residue: &Residue, most: usize) -> ChangedKeys {
    residue.take(most).expect("something changed")
}

fn names(changed: &ChangedKeys) -> Vec<String> {
    changed.keys.iter().map(|(key, _)| key.values().collect::<String>()).collect()
}

#[test]
fn nothing_is_remembered_before_a_check_and_nothing_known_before_one_has_passed() {
    let residue = Residue::default();
    assert!(mark(&residue, &["1"]).is_none());
    assert_eq!(residue.count(), Err(Unknown::NoCheck));
    let began = residue.check_begins(9);
    change(&residue, &["2"]);
    assert_eq!(residue.count(), Err(Unknown::NoCheck));
    residue.check_passed(began);
    assert_eq!(left(&residue), ["t:2"]);
    residue.void();
    assert!(mark(&residue, &["3"]).is_none());
    assert_eq!(residue.count(), Err(Unknown::NoCheck));
}

#[test]
fn a_passed_check_proves_what_changed_before_it_began_and_nothing_later() {
    let residue = proved(9);
    change(&residue, &["1", "2"]);
    let began = residue.check_begins(9);
    change(&residue, &["2", "3"]);
    assert_eq!(left(&residue), ["t:1", "t:2", "t:3"]);
    residue.check_passed(began);
    assert_eq!(left(&residue), ["t:2", "t:3"]);
    assert_eq!(residue.count(), Ok(2));
}

#[test]
fn a_key_that_changes_while_it_is_compared_stays() {
    let residue = proved(9);
    change(&residue, &["1", "2"]);
    let compared = taken(&residue, 9);
    assert_eq!(names(&compared), ["1", "2"]);
    change(&residue, &["2"]);
    residue.forget("t", &compared.keys);
    assert_eq!(left(&residue), ["t:2"]);
}

#[test]
fn a_change_is_not_compared_before_it_is_durable() {
    let residue = proved(9);
    let first = mark(&residue, &["1"]).expect("on");
    assert!(residue.take(9).is_none());
    let second = mark(&residue, &["2"]).expect("on");
    residue.applied(first);
    assert_eq!(names(&taken(&residue, 9)), ["1"]);
    residue.applied(second);
    let seen: BTreeSet<String> = (0..2).flat_map(|_| names(&taken(&residue, 1))).collect();
    assert_eq!(seen.len(), 2);
}

#[test]
fn every_key_of_every_table_has_its_turn() {
    let residue = proved(99);
    {
        let mut marking = residue.marking().expect("on");
        for number in 0..20_u8 {
            let title = ["a", "b", "c"][usize::from(number % 3)];
            marking.key(title, 1, |_, written| {
                written.push(b'a' + number);
                true
            });
        }
        let marked = marking.generation();
        drop(marking);
        residue.applied(marked);
    }
    let mut seen = BTreeSet::new();
    for _ in 0..12 {
        let changed = taken(&residue, 2);
        seen.extend(names(&changed).into_iter().map(|name| (changed.table.clone(), name)));
    }
    assert_eq!(seen.len(), 20);
}

#[test]
fn what_does_not_fit_is_known_until_a_check_passes_that_began_later() {
    let residue = proved(3);
    let early = residue.check_begins(3);
    change(&residue, &["1", "2", "3"]);
    assert_eq!(residue.count(), Ok(3));
    change(&residue, &["4", "5"]);
    assert_eq!(residue.count(), Err(Unknown::TooMany(3)));
    residue.check_passed(early);
    assert_eq!(residue.left(), Err(Unknown::TooMany(3)));
    let late = residue.check_begins(3);
    change(&residue, &["6"]);
    residue.check_passed(late);
    assert_eq!(left(&residue), ["t:6"]);
}

#[test]
fn what_no_key_tells_is_known_of_its_table() {
    for columns in [0, 1] {
        let residue = proved(9);
        let mut marking = residue.marking().expect("on");
        marking.key("t", columns, |_, _| false);
        drop(marking);
        assert!(matches!(residue.count(), Err(Unknown::Table(table, _)) if table == "t"));
        let began = residue.check_begins(9);
        residue.check_passed(began);
        assert_eq!(residue.count(), Ok(0));
    }
    let residue = proved(9);
    residue.marking().expect("on").key("t", 1, |_, written| {
        written.push(0xFF);
        true
    });
    assert!(matches!(residue.count(), Err(Unknown::Table(..))));
}

#[test]
fn keys_of_several_columns_are_told_apart() {
    let residue = proved(9);
    let mut marking = residue.marking().expect("on");
    for parts in [["a", "bc"], ["ab", "c"], ["", "abc"]] {
        marking.key("t", 2, |column, written| {
            written.extend_from_slice(parts[column].as_bytes());
            true
        });
    }
    drop(marking);
    assert_eq!(residue.count(), Ok(3));
    assert_eq!(left(&residue), ["t:,abc", "t:a,bc", "t:ab,c"]);
}

#[derive(Clone, Debug)]
enum Step {
    Change(u8),
    Take,
    Forget,
    CheckBegins,
    CheckPasses,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..12).prop_map(Step::Change),
        1 => Just(Step::Take),
        1 => Just(Step::Forget),
        1 => Just(Step::CheckBegins),
        1 => Just(Step::CheckPasses),
    ]
}

proptest! {
    /// Whatever happens: what was proved neither by a check nor by a comparison is left, or it is said that nothing is known.
    #[test]
    fn no_key_is_lost_silently(steps in proptest::collection::vec(step(), 1..80), keys_max in 3_usize..9) {
        let residue = proved(keys_max);
        // By key: the number of its last change. What is proved so far.
        let (mut now, mut changed) = (0_u32, std::collections::BTreeMap::new());
        let (mut compared, mut check) = (None, None);
        for step in steps {
            match step {
                Step::Change(key) => {
                    now += 1;
                    changed.insert(key.to_string(), now);
                    change(&residue, &[&key.to_string()]);
                }
                Step::Take => compared = residue.take(4).map(|keys| (now, keys)),
                Step::Forget => if let Some((then, keys)) = compared.take() {
                    residue.forget("t", &keys.keys);
                    for name in names(&keys) {
                        if changed.get(&name).is_some_and(|last| *last <= then) {
                            changed.remove(&name);
                        }
                    }
                },
                Step::CheckBegins => check = Some((now, residue.check_begins(keys_max))),
                Step::CheckPasses => if let Some((then, began)) = check.take() {
                    residue.check_passed(began);
                    changed.retain(|_, last| *last > then);
                },
            }
            if let Ok(left) = residue.left() {
                let left: BTreeSet<Key> = left.into_iter().flat_map(|(_, keys)| keys).collect();
                for name in changed.keys() {
                    prop_assert!(left.contains(&Key(name.as_str().into())), "{name} is gone");
                }
                prop_assert!(left.len() <= keys_max);
            }
        }
    }
}
