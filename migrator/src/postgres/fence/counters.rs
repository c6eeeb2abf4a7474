//! Sets the target's sequences past the source's, with a gap, and proves it.

use std::fmt::Write as _;

use tokio_postgres::{Client, Row, SimpleQueryMessage};

use crate::error::{Error, Result};
use crate::model::plan::Plan;
use crate::postgres::Postgres;
use crate::postgres::client::failed;
use crate::postgres::sql::{qualified, quote_literal};

/// A session that uses a sequence with a cache may hold this many values that nobody has seen yet, times its cache.
const SESSIONS: i64 = 10;

/// One sequence as one side has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    last: i64,
    called: bool,
    increment: i64,
    min: i64,
    max: i64,
    cache: i64,
    cycles: bool,
}

/// Reads every sequence of the source and sets the target's. One statement on each side, and one to prove it.
pub async fn advance(postgres: &Postgres, plan: &Plan, source: &Client, target: &Client) -> Result<()> {
    if plan.counters.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = plan.counters.iter().map(|counter| qualified(&counter.schema, &counter.name)).collect();
    let (there, here) = tokio::try_join!(read(source, &names, "source"), read(target, &names, "target"))?;
    let gap = postgres.settings().counter_gap.max(0);
    let mut statements = Vec::new();
    for ((name, source), target) in names.iter().zip(&there).zip(&here) {
        if let Some((value, called)) = source.advanced(gap, target) {
            let name = quote_literal(name);
            statements.push(format!("pg_catalog.setval({name}, {value}, {called})"));
        }
    }
    // A select list holds 1664 expressions at most.
    for some in statements.chunks(1000) {
        target
            .batch_execute(&format!("SELECT {}", some.join(", ")))
            .await
            .map_err(|error| failed("cannot set the target's sequences", error))?;
    }
    let reached = read(target, &names, "target").await?;
    for ((name, source), target) in names.iter().zip(&there).zip(&reached) {
        if !target.is_past(source) {
            return Err(Error::fatal(format!(
                "the target's sequence {name} is at {} and the source's at {}",
                target.last, source.last
            ))
            .remedy("set it on the target with setval, or see who resets it there"));
        }
    }
    Ok(())
}

impl State {
    /// Reads a row; one that was never called has no last value there.
    fn read(row: &Row) -> std::result::Result<Self, tokio_postgres::Error> {
        let last: Option<i64> = row.try_get(0)?;
        Ok(Self {
            last: last.unwrap_or_default(),
            called: last.is_some(),
            increment: row.try_get(1)?,
            min: row.try_get(2)?,
            max: row.try_get(3)?,
            cache: row.try_get(4)?,
            cycles: row.try_get(5)?,
        })
    }

    /// The value that it would hand out next.
    fn next(&self) -> i128 {
        i128::from(self.last) + if self.called { i128::from(self.increment) } else { 0 }
    }

    /// The value to set the target's to, where it is not past that already, and whether it counts as handed out.
    fn advanced(&self, gap: i64, target: &Self) -> Option<(i64, bool)> {
        if self.cycles {
            // It hands values out twice by design; it goes on where the source stopped.
            return (*self != *target).then_some((self.last, self.called));
        }
        let (last, increment) = (i128::from(self.last), i128::from(self.increment));
        let bound = i128::from(if increment > 0 { self.max } else { self.min });
        // Half of what is left stays for use: the gap is a precaution and no reason to end a counter.
        let left = ((bound - last) / increment).max(0);
        let steps = i128::from(gap.max(self.cache.saturating_mul(SESSIONS))).min(left / 2);
        if steps == 0 && *self == *target {
            return None;
        }
        let value = i64::try_from(last + increment * steps).ok()?;
        let beyond = if self.increment > 0 { value > target.last } else { value < target.last };
        (beyond || value == target.last && !target.called).then_some((value, true))
    }

    /// Whether the next value of `self` cannot be one that `source` has handed out.
    fn is_past(&self, source: &Self) -> bool {
        let further = if source.increment > 0 { self.next() >= source.next() } else { self.next() <= source.next() };
        if source.cycles {
            return (self.last, self.called) == (source.last, source.called);
        }
        further
    }
}

/// One statement for all, because a statement that names hundreds of relations takes longer to plan than to run;
/// and one more for those that were never called, of which only the relation itself knows where they start.
async fn read(session: &Client, names: &[String], side: &str) -> Result<Vec<State>> {
    let unreadable = |error| failed(&format!("cannot read the sequences on the {side}"), error);
    let rows = session
        .query(
            "SELECT pg_catalog.pg_sequence_last_value(s.seqrelid), s.seqincrement, s.seqmin, s.seqmax,
                 s.seqcache, s.seqcycle
             FROM unnest($1::text[]) WITH ORDINALITY AS t (name, number)
             JOIN pg_catalog.pg_sequence s ON s.seqrelid = pg_catalog.to_regclass(t.name)
             ORDER BY t.number",
            &[&names],
        )
        .await
        .map_err(unreadable)?;
    let mut states: Vec<State> =
        rows.iter().map(State::read).collect::<std::result::Result<_, _>>().map_err(unreadable)?;
    if states.len() != names.len() {
        return Err(Error::fatal(format!("a sequence of the plan is gone from the {side}")));
    }
    let mut batch = String::new();
    for (name, _) in names.iter().zip(&states).filter(|(_, state)| !state.called) {
        let _ = writeln!(batch, "SELECT last_value, is_called FROM {name};");
    }
    let replies = session.simple_query(&batch).await.map_err(unreadable)?;
    let mut reported = replies.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((row.get(0)?.parse().ok()?, row.get(1)? == "t")),
        _ => None,
    });
    for state in states.iter_mut().filter(|state| !state.called) {
        (state.last, state.called) =
            reported.next().ok_or_else(|| Error::fatal(format!("a sequence on the {side} cannot be read")))?;
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use super::State;

    const UP: State = State { last: 5, called: true, increment: 1, min: 1, max: i64::MAX, cache: 1, cycles: false };
    const NEW: State = State { last: 1, called: false, ..UP };

    #[test]
    fn the_gap_goes_the_way_the_counter_counts() {
        let down = State { last: -5, increment: -2, min: i64::MIN, max: -1, ..UP };
        let new = State { last: -1, called: false, ..down };
        assert_eq!(UP.advanced(100, &NEW), Some((105, true)));
        assert_eq!(down.advanced(100, &new), Some((-205, true)));
    }

    #[test]
    fn a_large_cache_widens_the_gap() {
        assert_eq!(State { cache: 50, ..UP }.advanced(100, &NEW), Some((505, true)));
    }

    #[test]
    fn a_counter_never_goes_back_nor_past_its_end() {
        assert_eq!(UP.advanced(100, &State { last: 106, ..UP }), None);
        assert_eq!(State { max: 50, ..UP }.advanced(100, &NEW), Some((27, true)));
        let down = State { last: 9, increment: -2, ..UP };
        let new = State { last: 99, ..NEW };
        assert_eq!(down.advanced(100, &new), Some((5, true)));
        let only = State { max: 1, ..NEW };
        assert_eq!(only.advanced(100, &only), None);
        assert_eq!(State { last: i64::MAX, ..UP }.advanced(i64::MAX, &NEW), Some((i64::MAX, true)));
    }

    #[test]
    fn a_sequence_that_cycles_has_the_very_state_of_the_source() {
        let cycling = State { last: 77, called: false, max: 100, cycles: true, ..UP };
        let fresh = State { last: 1, ..cycling };
        assert_eq!(cycling.advanced(100, &fresh), Some((77, false)));
        assert_eq!(cycling.advanced(100, &cycling), None);
        assert!(!fresh.is_past(&cycling) && cycling.is_past(&cycling));
    }

    #[test]
    fn a_counter_that_stayed_behind_is_not_past() {
        assert!(!NEW.is_past(&UP));
        assert!(!State { last: 4, ..UP }.is_past(&UP));
        assert!(!State { last: 5, called: false, ..UP }.is_past(&UP));
        assert!(UP.is_past(&UP));
    }
}
