//! Counters: AUTO_INCREMENT and sequences, set past the source’s, with a gap, and proved.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use mysql_async::Conn;
use tokio::time::sleep;

use crate::backoff::Backoff;
use crate::error::{Error, Kind, Result};
use crate::model::plan::Plan;
use crate::mysql::catalogue;
use crate::mysql::catalogue::{TextRow, ask, listed, run};
use crate::mysql::schema::triggers;
use crate::mysql::sql::{qualified, title_of};
use crate::mysql::{Mysql, client};

/// Sessions that set counters at the same time; below so many for each, another session is not worth opening.
const SESSIONS: usize = 4;
const WORTH_A_SESSION: usize = 8;
/// Nothing may hold the target's tables for long while writers wait.
const TIMEOUT: &str = "SET SESSION lock_wait_timeout = 10";
/// MariaDB locks the tables that refer to an altered one while it holds the altered one, and sees no deadlock with a
/// transaction of the follower that has the first and wants the second: not waiting at all ends it.
const TIMEOUT_OF_MARIADB: &str = "SET SESSION lock_wait_timeout = 10, innodb_lock_wait_timeout = 0";
/// For how long a counter is tried again.
const TRYING: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(150);

type Name = (String, String);

/// One counter as one side has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// The value that it hands out next, if no session holds others.
    next: i128,
    increment: i128,
    /// The last value in the direction of the increment.
    bound: i128,
    cycles: bool,
    /// How often it began anew.
    round: i128,
    is_sequence: bool,
}

impl State {
    /// The value to set the target's to: past the source's by the gap, but half of what is left stays for use.
    fn wanted(&self, gap: i64) -> i128 {
        let left = ((self.bound - self.next) / self.increment).max(0);
        self.next + self.increment * i128::from(gap.max(0)).min(left / 2)
    }

    /// The statement that sets it to the value, where it is as `self` on the target. A sequence goes back only where it
    /// begins another round.
    fn set(&self, relation: &str, source: &Self, value: i128) -> String {
        if !source.is_sequence {
            return format!("ALTER TABLE {relation} AUTO_INCREMENT = {value}");
        }
        if !source.cycles {
            return format!("SELECT SETVAL({relation}, {value}, 0)");
        }
        let back = (value - self.next) * self.increment < 0;
        let round = source.round.max(self.round + i128::from(back));
        format!("SELECT SETVAL({relation}, {value}, 0, {round})")
    }

    /// Whether `value` is as far as `self` or further.
    fn reaches(&self, value: i128) -> bool {
        if self.increment > 0 { self.next >= value.min(self.bound) } else { self.next <= value.max(self.bound) }
    }

    /// Whether the target's counter must be set so that it is at `value`.
    fn needs(&self, source: &Self, value: i128) -> bool {
        if source.cycles { self.next != source.next } else { !self.reaches(value) }
    }
}

/// Sets the target's counters, proves that none can hand out what the source handed out, and then lets the triggers be,
/// which from now on belong to the target's writers.
pub async fn advance(mysql: &Mysql, plan: &Plan, mut source: Conn, mut target: Conn) -> Result<()> {
    be_patient(&mut target).await?;
    if !plan.counters.is_empty() {
        set(mysql, plan, &mut source, &mut target, mysql.settings().counter_gap).await?;
    }
    triggers::create(mysql, &mut target).await
}

/// Sets them so far ahead of a cutover that the cutover itself will find little to do.
pub async fn advance_early(mysql: &Mysql, plan: &Plan, source: &mut Conn, target: &mut Conn) -> Result<()> {
    if plan.counters.is_empty() {
        return Ok(());
    }
    be_patient(target).await?;
    let gap = mysql.settings().counter_gap.saturating_mul(2);
    match set(mysql, plan, source, target, gap).await {
        // The follower holds a table all the time. The cutover itself finds it at rest.
        Err(failure) if failure.kind() == Kind::Transient => {
            tracing::info!(migration = mysql.name(), %failure, "counters are left to the cutover");
            Ok(())
        }
        outcome => outcome,
    }
}

async fn be_patient(target: &mut Conn) -> Result<()> {
    let settings = if client::version(target).await?.is_mariadb() { TIMEOUT_OF_MARIADB } else { TIMEOUT };
    run(target, settings, "cannot set up a session for the counters").await
}

/// Sets one counter, again and again while somebody holds its table or one that refers to it.
async fn set_one(target: &mut Conn, statement: &str) -> Result<()> {
    let until = Instant::now() + TRYING;
    let mut pause = Backoff::new(PAUSE_MIN, PAUSE_MAX);
    loop {
        match run(target, statement, "cannot set the target's counters").await {
            Err(failure) if failure.kind() == Kind::Transient && Instant::now() < until => {
                sleep(pause.step()).await;
            }
            outcome => return outcome,
        }
    }
}

async fn set(mysql: &Mysql, plan: &Plan, source: &mut Conn, target: &mut Conn, gap: i64) -> Result<()> {
    let wanted: BTreeSet<Name> =
        plan.counters.iter().map(|counter| (counter.schema.clone(), counter.name.clone())).collect();
    let (there, here) =
        tokio::try_join!(read(mysql, source, &wanted, "source"), read(mysql, target, &wanted, "target"))?;
    let mut statements = Vec::new();
    for (name, source) in &there {
        let Some(target) = here.get(name) else {
            return Err(gone(name, "target"));
        };
        let value = if source.cycles { source.next } else { source.wanted(gap) };
        if !target.needs(source, value) {
            continue;
        }
        let relation = qualified(&name.0, &name.1);
        statements.push(target.set(&relation, source, value));
    }
    if statements.is_empty() {
        return Ok(());
    }
    run_all(mysql, &statements, target).await?;
    let reached = read(mysql, target, &wanted, "target").await?;
    for (name, source) in &there {
        let Some(target) = reached.get(name) else {
            return Err(gone(name, "target"));
        };
        if target.needs(source, source.next) {
            return Err(Error::fatal(format!(
                "the counter of {} is at {} on the target and at {} on the source",
                title_of(&name.0, &name.1),
                target.next,
                source.next
            ))
            .remedy("see who resets it on the target, then ask for the cutover again"));
        }
    }
    Ok(())
}

async fn run_all(mysql: &Mysql, statements: &[String], target: &mut Conn) -> Result<()> {
    let count = (statements.len() / WORTH_A_SESSION).clamp(1, SESSIONS);
    let share = |first: usize| statements.iter().skip(first).step_by(count);
    let others = try_join_all((1..count).map(|first| async move {
        let mut session = mysql.connect_target("counters").await?;
        be_patient(&mut session).await?;
        for statement in share(first) {
            set_one(&mut session, statement).await?;
        }
        Ok::<(), Error>(())
    }));
    let own = async {
        for statement in share(0) {
            set_one(target, statement).await?;
        }
        Ok(())
    };
    tokio::try_join!(others, own).map(drop)
}

fn gone(name: &Name, side: &str) -> Error {
    Error::fatal(format!("the counter of {} is gone from the {side}", title_of(&name.0, &name.1)))
        .remedy("no table may be dropped or renamed during a migration: create it again as it was, then try again")
}

/// One statement for all tables, and one for each sequence.
async fn read(mysql: &Mysql, session: &mut Conn, wanted: &BTreeSet<Name>, side: &str) -> Result<BTreeMap<Name, State>> {
    catalogue::prepare(session).await?;
    let what = format!("cannot read the counters of the {side}");
    let databases = listed(mysql);
    // Two plain questions: old servers answer a join of the two by opening every table for every row.
    let types = ask(
        session,
        &format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_TYPE FROM information_schema.COLUMNS
             WHERE TABLE_SCHEMA IN ({databases}) AND EXTRA LIKE '%auto_increment%'"
        ),
        &what,
    )
    .await?;
    let types: BTreeMap<Name, i128> =
        types.iter().map(|row| ((row.owned(0), row.owned(1)), last_value(row.text(2)))).collect();
    let query = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, AUTO_INCREMENT FROM information_schema.TABLES
         WHERE TABLE_SCHEMA IN ({databases}) AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE')"
    );
    let mut states = BTreeMap::new();
    for row in ask(session, &query, &what).await? {
        let name = (row.owned(0), row.owned(1));
        if !wanted.contains(&name) {
            continue;
        }
        let state = if row.text(2) == "SEQUENCE" {
            let query = format!(
                "SELECT next_not_cached_value, increment, minimum_value, maximum_value, cycle_option, cycle_count FROM {}",
                qualified(&name.0, &name.1)
            );
            let rows = ask(session, &query, &what).await?;
            rows.first().map(sequence)
        } else {
            types.get(&name).map(|bound| auto_increment(&row, *bound))
        };
        states.insert(name.clone(), state.ok_or_else(|| gone(&name, side))?);
    }
    match wanted.iter().find(|name| !states.contains_key(*name)) {
        Some(name) => Err(gone(name, side)),
        None => Ok(states),
    }
}

fn sequence(row: &TextRow) -> State {
    let number = |column| row.text(column).parse::<i128>().unwrap_or(0);
    // Zero stands for auto_increment_increment, which goes up.
    let increment = if number(1) == 0 { 1 } else { number(1) };
    State {
        next: number(0),
        increment,
        bound: if increment > 0 { number(3) } else { number(2) },
        cycles: row.is_on(4),
        round: number(5),
        is_sequence: true,
    }
}

fn auto_increment(row: &TextRow, bound: i128) -> State {
    State { next: row.text(3).parse().unwrap_or(1), increment: 1, bound, cycles: false, round: 0, is_sequence: false }
}

/// The greatest value of a column of this type.
fn last_value(column_type: &str) -> i128 {
    let lower = column_type.to_ascii_lowercase();
    let bits = match lower.split(['(', ' ']).next().unwrap_or_default() {
        "tinyint" => 8,
        "smallint" => 16,
        "mediumint" => 24,
        "int" => 32,
        "float" => return 1 << 24,
        "double" => return 1 << 53,
        _ => 64,
    };
    let signed = !lower.contains("unsigned");
    (1 << (bits - i32::from(signed))) - 1
}

#[cfg(test)]
mod tests {
    use super::{State, last_value};

    const UP: State = State { next: 6, increment: 1, bound: 127, cycles: false, round: 0, is_sequence: false };

    #[test]
    fn a_gap_never_ends_a_counter() {
        assert_eq!(UP.wanted(10), 16);
        assert_eq!(UP.wanted(i64::MAX), 66);
        let full = State { next: 127, ..UP };
        assert_eq!(full.wanted(10), 127);
        let over = State { next: 128, ..UP };
        assert_eq!(over.wanted(10), 128);
        assert!(full.reaches(over.next));
    }

    #[test]
    fn a_gap_goes_the_way_the_counter_counts() {
        let down = State { next: -5, increment: -2, bound: -1000, ..UP };
        assert_eq!(down.wanted(10), -25);
        assert!(!down.reaches(-6));
        assert!(State { next: -7, ..down }.reaches(-6));
    }

    #[test]
    fn types_end_where_they_end() {
        assert_eq!(last_value("tinyint(4)"), 127);
        assert_eq!(last_value("tinyint unsigned"), 255);
        assert_eq!(last_value("int(10) unsigned zerofill"), 4_294_967_295);
        assert_eq!(last_value("bigint unsigned"), i128::from(u64::MAX));
        assert_eq!(last_value("bigint(20)"), i128::from(i64::MAX));
    }
}
