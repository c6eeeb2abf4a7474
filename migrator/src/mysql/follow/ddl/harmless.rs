//! Whether a statement that might have changed a definition did: by the definitions, not by its text.
//!
//! What the source has now is compared with what the target keeps of it since the migration began. The catalogue may be
//! ahead of the place in the log where the statement stands: where all is as it was, a table may still have been another
//! one in between, with rows of another shape. So the log is read ahead up to now, and a table about which more than one
//! statement speaks must have been left alone by each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use tokio::time::timeout;

use super::{Guard, tables_of};
use crate::error::{Error, Result};
use crate::model::definitions::{Definitions, Fingerprint, named};
use crate::model::leg::Leg;
use crate::model::position::Position as _;
use crate::mysql::catalogue::text;
use crate::mysql::client::failed;
use crate::mysql::records;
use crate::mysql::schema::archive::{Archive, Kind};
use crate::mysql::schema::post_cutover;
use crate::mysql::schema::post_data::disabled;
use crate::mysql::sql::{qualified, quote_ident, quote_literal, title_of};
use crate::mysql::{BinlogPosition, Mysql, position};

/// Reading all definitions and the log from there to now may take a while.
const TIMEOUT: Duration = Duration::from_mins(10);
/// Events of the log that are listed at once: its server holds commits back while it lists them.
const EVENTS_AT_ONCE: usize = 500;

/// A statement of the log that cannot be passed over before it is known what it did.
#[derive(Clone, Debug)]
pub(crate) struct Doubt {
    /// In short what it does.
    pub(crate) what: String,
    /// Where it stands.
    pub(crate) at: BinlogPosition,
}

/// Tells up to where in the log no statement has changed a definition; fails, with names, where one did.
pub(crate) async fn judge(mysql: &Mysql, doubt: &Doubt) -> Result<BinlogPosition> {
    timeout(TIMEOUT, judged(mysql, doubt)).await.unwrap_or_else(|_| {
        Err(Error::transient("it could not be found out in time what a statement of the log has changed"))
    })
}

async fn judged(mysql: &Mysql, doubt: &Doubt) -> Result<BinlogPosition> {
    let mut target = mysql.connect_target("definitions").await?;
    let Some(kept) = Archive::kept(mysql, &mut target).await? else {
        return Err(changed(mysql, doubt, "what was there before is not known"));
    };
    let mut source = mysql.connect_source("definitions").await?;
    // What the definitions show is at least as new as this.
    let settled = position::current(&mut source).await?;
    let (mut was, mut now) = (kept.clone(), Archive::read(mysql).await?);
    let completed = settle(mysql, doubt, &mut source, [&mut was, &mut now]).await?;
    let none = Definitions::new();
    let before = Fingerprint::of(&definitions(&was), &none);
    let changes = before.changes(&Fingerprint::of(&definitions(&now), &none));
    if !changes.is_empty() && !completed {
        // What follows a switch also changes definitions for a moment.
        return Err(Error::transient(format!(
            "what follows the switch is not done, and {} ran on the source at {}: {}",
            doubt.what,
            doubt.at,
            named(&changes)
        )));
    }
    if !changes.is_empty() {
        return Err(changed(mysql, doubt, &named(&changes)));
    }
    let until = position::current(&mut source).await?;
    if until.server != doubt.at.server {
        return Err(changed(mysql, doubt, "the source is another server now, whose log tells nothing of it"));
    }
    let databases: BTreeSet<String> = mysql.databases().into_iter().collect();
    let loaded = records::tables(mysql, &mut target).await?;
    let mut spoken: BTreeMap<(String, String), Vec<Guard>> = BTreeMap::new();
    for (at, database, statement) in statements(&mut source, &doubt.at, &until).await? {
        for (name, guard) in tables_of(&statement, &database) {
            // What came before it was taken anew does not matter any more.
            let is_past =
                loaded.get(&name).is_some_and(|one| one.valid_from.server == at.server && one.valid_from.covers(&at));
            if databases.contains(&name.0) && !is_past {
                spoken.entry(name).or_default().push(guard);
            }
        }
    }
    let there: BTreeSet<(&str, &str)> =
        kept.tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).collect();
    for (name, guards) in &spoken {
        let is_there = there.contains(&(name.0.as_str(), name.1.as_str()));
        let does_nothing = if is_there { Guard::IfAbsent } else { Guard::IfThere };
        if guards.len() > 1 && guards.iter().any(|guard| *guard != does_nothing) {
            let title = title_of(&name.0, &name.1);
            let count = guards.len();
            return Err(changed(
                mysql,
                doubt,
                &format!(
                    "{count} statements changed table {title} and it is as before: its rows in between may have been others"
                ),
            ));
        }
    }
    Ok(settled)
}

/// On a way back the definitions were kept before the switch that began it, which creates triggers and enables events:
/// leaves out of both what is Headgate's own doing. Tells whether all of that is done.
async fn settle(mysql: &Mysql, doubt: &Doubt, source: &mut Conn, archives: [&mut Archive; 2]) -> Result<bool> {
    let Some(before) = mysql.leg().before() else {
        return Ok(true);
    };
    // All of Headgate's own are before the place where this leg begins.
    if doubt.what.split(' ').any(|word| word == "TRIGGER") {
        return Err(changed(mysql, doubt, "the other side would not get it"));
    }
    let completed = before != Leg::FIRST || post_cutover::is_done(&mysql.for_leg(before), source).await?;
    for archive in archives {
        archive.programs.retain(|program| program.kind != Kind::Trigger);
        for event in archive.programs.iter_mut().filter(|program| program.kind == Kind::Event) {
            event.create = disabled(&event.create);
            event.enabled &= completed;
        }
    }
    Ok(completed)
}

fn changed(mysql: &Mysql, doubt: &Doubt, what: &str) -> Error {
    let name = mysql.name();
    let error = Error::fatal(format!("{} ran on the source at {} during the migration: {what}", doubt.what, doubt.at));
    if mysql.leg() != Leg::FIRST {
        // What a table or a trigger did in between is not known, even where it is undone.
        let is_lost = doubt.what.split(' ').any(|word| ["TABLE", "INDEX", "TRIGGER"].contains(&word));
        return if is_lost { error } else { error.remedy(format!("undo it on {:?}", mysql.source())) };
    }
    error.remedy(format!(
        "undo it on the source and START MIGRATION {name}; where a table was changed, undo it and RECOPY TABLE … OF \
         MIGRATION {name} takes the table anew"
    ))
}

/// Every definition by its class and name.
fn definitions(archive: &Archive) -> Definitions {
    let mut all = Definitions::new();
    for database in &archive.databases {
        let name = format!("database {}", quote_ident(&database.name));
        all.insert(name, format!("{} {}", database.charset, database.collation));
    }
    for table in &archive.tables {
        let name = format!("table {}", qualified(&table.schema, &table.name));
        all.insert(name, without_counter(&table.create));
    }
    for sequence in &archive.sequences {
        let name = format!("sequence {}", qualified(&sequence.schema, &sequence.name));
        all.insert(name, sequence.create.clone());
    }
    let mut order = 0_usize;
    for program in &archive.programs {
        // Triggers fire in the order in which they are listed.
        order = if program.kind == Kind::Trigger { order + 1 } else { 0 };
        let kind = program.kind.word().to_lowercase();
        let name = format!("{kind} {}", qualified(&program.schema, &program.name));
        all.insert(name, format!("{order} {program:?}"));
    }
    all
}

/// A table's definition but for the next value of its counter, which stands among the options behind the last bracket.
fn without_counter(create: &str) -> String {
    let at = create.rfind("\n)").unwrap_or(0);
    let (head, options) = create.split_at(at);
    let options: Vec<&str> = options.split(' ').filter(|word| !word.starts_with("AUTO_INCREMENT=")).collect();
    format!("{head}{}", options.join(" "))
}

/// The statements of the log between two positions, each with its end, and the database that it means, as the server lists them.
async fn statements(
    source: &mut Conn,
    from: &BinlogPosition,
    until: &BinlogPosition,
) -> Result<Vec<(BinlogPosition, String, String)>> {
    let mut found = Vec::new();
    for file in files(source, from, until).await? {
        let mut at = if file == from.file { from.offset } else { 4 };
        loop {
            let end = if file == until.file { until.offset } else { u64::MAX };
            if at >= end {
                break;
            }
            let query = format!("SHOW BINLOG EVENTS IN {} FROM {at} LIMIT {EVENTS_AT_ONCE}", quote_literal(&file));
            let rows: Vec<Row> =
                source.query(query).await.map_err(|error| failed("cannot read the source's log ahead", error))?;
            let before = at;
            for row in &rows {
                at = number(row, 4).max(at);
                if matches!(text(row, 2)?.as_str(), "Query" | "Query_compressed") {
                    let (database, statement) = stated(&information(row));
                    let ends = BinlogPosition {
                        server: from.server.clone(),
                        file: file.clone(),
                        offset: at,
                        gtids: String::new(),
                    };
                    found.push((ends, database, statement));
                }
            }
            if rows.len() < EVENTS_AT_ONCE || at == before {
                break;
            }
        }
        if file == until.file {
            break;
        }
    }
    Ok(found)
}

async fn files(source: &mut Conn, from: &BinlogPosition, until: &BinlogPosition) -> Result<Vec<String>> {
    if from.file == until.file {
        return Ok(vec![from.file.clone()]);
    }
    let rows: Vec<Row> = source
        .query("SHOW BINARY LOGS")
        .await
        .map_err(|error| failed("cannot list the files of the source's log", error))?;
    let all: Vec<String> = rows.iter().map(|row| text(row, 0)).collect::<Result<_>>()?;
    let first = all.iter().position(|file| *file == from.file);
    Ok(all.into_iter().skip(first.unwrap_or(0)).collect())
}

fn number(row: &Row, column: usize) -> u64 {
    match row.get_opt::<u64, _>(column) {
        Some(Ok(number)) => number,
        _ => 0,
    }
}

/// What the server tells of an event, in whatever encoding its statement was.
fn information(row: &Row) -> String {
    let reported: Option<std::result::Result<Vec<u8>, _>> = row.get_opt(5);
    reported
        .and_then(std::result::Result::ok)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// The server writes the session's database before the statement.
fn stated(reported: &str) -> (String, String) {
    let Some(rest) = reported.strip_prefix("use `") else {
        return (String::new(), reported.to_owned());
    };
    let mut database = String::new();
    let mut letters = rest.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        if letter != '`' {
            database.push(letter);
        } else if letters.next_if(|(_, next)| *next == '`').is_some() {
            database.push('`');
        } else {
            let statement = rest.get(at + 1..).unwrap_or_default();
            return (database, statement.trim_start_matches(';').trim_start().to_owned());
        }
    }
    (database, String::new())
}

#[cfg(test)]
mod tests {
    use super::{stated, without_counter};

    #[test]
    fn the_database_before_a_statement_is_taken_off() {
        let reported = stated("use `a``b`; CREATE TABLE t (a INT)");
        assert_eq!(reported, ("a`b".to_owned(), "CREATE TABLE t (a INT)".to_owned()));
        assert_eq!(stated("BEGIN"), (String::new(), "BEGIN".to_owned()));
    }

    #[test]
    fn the_counter_of_a_table_is_no_part_of_its_definition_and_its_comments_are() {
        let create =
            "CREATE TABLE `t` (\n  `a` int COMMENT 'AUTO_INCREMENT=1'\n) ENGINE=InnoDB AUTO_INCREMENT=7 COMMENT='x'";
        assert_eq!(
            without_counter(create),
            "CREATE TABLE `t` (\n  `a` int COMMENT 'AUTO_INCREMENT=1'\n) ENGINE=InnoDB COMMENT='x'"
        );
    }
}
