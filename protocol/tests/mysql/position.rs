//! Sets of GTIDs: what they hold, and that they read back as they were written.

use std::collections::BTreeSet;

use proptest::prelude::*;

use protocol::mysql::position::{DomainPositions, GtidSet, Gtids, Origin};

const A: &str = "f9ab90a6-e589-11f1-b196-02fc00000001";

fn set(text: &str) -> GtidSet {
    text.parse().unwrap_or_default()
}

#[test]
fn the_form_with_several_tags_of_one_server_is_read_and_written() {
    let text = format!("{A}:1-16:20:mytag:1:3-4,{}", A.replace("f9", "fa")) + ":5";
    assert_eq!(set(&text).to_string(), text);
    assert_eq!(set(&text.replace(',', ",\n ")).to_string(), text);
    let origin =
        |tag: &str| Origin { uuid: set(&format!("{A}:1")).iter().next().expect("one").0.uuid, tag: tag.to_owned() };
    assert!(set(&text).contains(&origin("mytag"), 3));
    assert!(!set(&text).contains(&origin(""), 17));
}

#[test]
fn what_is_no_set_of_gtids_is_refused() {
    for text in ["x", "f9ab:1", "0-1", "1-2-3-4", "0-1-x", "4294967296-1-1"] {
        assert!(text.parse::<Gtids>().is_err(), "{text}");
    }
    for run in ["0", "5-1", "-1", "1-", "+1"] {
        assert!(format!("{A}:{run}").parse::<Gtids>().is_err(), "{run}");
    }
}

#[test]
fn a_domain_that_is_missing_covers_nothing() {
    let at = |text: &str| text.parse::<DomainPositions>().unwrap_or_default();
    assert!(at("0-1-5,1-2-7").covers(&at("0-3-5")));
    assert!(!at("0-1-5").covers(&at("1-2-7")));
    assert!(!at("0-1-4").covers(&at("0-1-5")));
    assert_eq!(at("1-2-7,0-1-5").to_string(), "0-1-5,1-2-7");
    assert!(!Gtids::None.covers(&Gtids::None));
}

proptest! {
    #[test]
    fn runs_hold_exactly_the_numbers_that_were_added(
        runs in prop::collection::vec((1_u64..40, 0_u64..6), 0..30),
        others in prop::collection::vec((1_u64..40, 0_u64..6), 0..8),
    ) {
        let origin = Origin { uuid: [7; 16], tag: String::new() };
        let build = |runs: &[(u64, u64)]| {
            let mut set = GtidSet::default();
            let mut model = BTreeSet::new();
            for &(first, more) in runs {
                set.add_run(origin.clone(), (first, first + more));
                model.extend(first..=first + more);
            }
            (set, model)
        };
        let (set, model) = build(&runs);
        let (other, other_model) = build(&others);
        for number in 0..50 {
            prop_assert_eq!(set.contains(&origin, number), model.contains(&number));
        }
        let text = set.to_string();
        prop_assert_eq!(text.parse::<GtidSet>().ok(), Some(set.clone()));
        prop_assert_eq!(set.covers(&other), model.is_superset(&other_model));
        let mut union = set.clone();
        union.union(&other);
        let all: BTreeSet<u64> = model.union(&other_model).copied().collect();
        for number in 0..50 {
            prop_assert_eq!(union.contains(&origin, number), all.contains(&number));
        }
        let mut less = set;
        for &number in &other_model {
            less.remove(&origin, number);
        }
        for number in 0..50 {
            let left = model.contains(&number) && !other_model.contains(&number);
            prop_assert_eq!(less.contains(&origin, number), left);
        }
        let text = less.to_string();
        prop_assert_eq!(text.parse::<GtidSet>().ok(), Some(less));
    }
}
