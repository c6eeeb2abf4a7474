//! Compares the definitions of both sides: what two servers write otherwise is the same where the target, given the
//! source's definition, writes what it has.

use std::collections::BTreeSet;

use super::differences::{Difference, Owner, is_main};
use super::reprinted;
use super::stamp::Stamp;
use crate::error::Result;
use crate::model::definitions::Compared;
use crate::mysql::Mysql;
use crate::mysql::guard;

/// Reads both sides' and compares them, in sessions of its own.
pub(crate) async fn compare(mysql: &Mysql) -> Result<Compared> {
    let mut stamp = Stamp::open(mysql).await?;
    let sides = stamp.sides().await?;
    let mut fingerprint = sides.fingerprint();
    let guard = guard::definitions(mysql, &mut stamp.target.session).await?;
    fingerprint.add_target(&guard);
    let mut found = sides.differences(|_| true);
    found = without_parts(found);
    let missing = |one: &&Difference| one.what.starts_with("not on the") && is_main(&one.object);
    let owners = found.iter().filter(|one| !missing(one));
    let owners: BTreeSet<Owner> = owners.filter_map(|one| one.owner.clone()).collect();
    let mut sides = sides;
    // Where something is hidden, its text is too, and nothing can be equal anyway.
    let hidden = !sides.source.hidden.is_empty() || !sides.target.hidden.is_empty();
    if !owners.is_empty() && !hidden {
        let printed = reprinted::read(mysql, &mut stamp.target, &owners).await?;
        found = sides.settled(found, &printed);
        let hidden = printed.hidden.into_iter();
        let what = "definitions that both servers print differently";
        sides.target.hidden.extend(hidden.map(|grant| (what.to_owned(), grant)));
    }
    let mut differences: Vec<String> = found.into_iter().map(|one| format!("{} ({})", one.object, one.what)).collect();
    for (side, seen) in [("source", &sides.source), ("target", &sides.target)] {
        let hidden = seen.hidden.iter();
        differences.extend(hidden.map(|(what, grant)| format!("{what} (cannot be known on the {side}: {grant})")));
    }
    differences.sort();
    differences.dedup();
    Ok(Compared { fingerprint, differences })
}

/// Where a whole table is missing, its columns need not be named.
fn without_parts(found: Vec<Difference>) -> Vec<Difference> {
    let whole = |one: &Difference| one.what.starts_with("not on the") && is_main(&one.object);
    let missing: BTreeSet<Owner> = found.iter().filter(|one| whole(one)).filter_map(|one| one.owner.clone()).collect();
    let is_part = |one: &Difference| one.owner.as_ref().is_some_and(|owner| missing.contains(owner));
    let mut kept: Vec<Difference> = Vec::new();
    for one in found {
        let view = one.object.starts_with("view ");
        if !is_part(&one) || whole(&one) || view {
            kept.push(one);
        }
    }
    kept
}
