//! Triggers that the target of a way back had by itself: written down on it with all that they are created under, dropped
//! while changes are applied, and put back exactly as they were.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure, Row};

use super::super::archive::{Archive, Kind, Program};
use super::statements::{create_missing, drop_present};
use crate::error::{Error, Result};
use crate::mysql::catalogue::text;
use crate::mysql::client::failed;
use crate::mysql::sql::title_of;
use crate::mysql::{Mysql, fence, schema};

/// A row is what one leg has set aside, and whether it was seen that all of it can be put back.
const INSTALL: &str = "CREATE TABLE IF NOT EXISTS headgate.triggers_aside (
         migration VARCHAR(128) NOT NULL PRIMARY KEY,
         definitions LONGTEXT NOT NULL,
         proved TINYINT NOT NULL) ENGINE=InnoDB";
const NO_TABLE: [u16; 2] = [1049, 1146];

/// What is written down.
pub(super) struct Kept {
    pub(super) archive: Archive,
    proved: bool,
}

/// What this leg has written down on its target.
pub(super) async fn kept(mysql: &Mysql, target: &mut Conn) -> Result<Option<Kept>> {
    let query = "SELECT definitions, CAST(proved AS CHAR) FROM headgate.triggers_aside WHERE migration = ?";
    let found: std::result::Result<Option<Row>, _> = target.exec_first(query, (mysql.key(),)).await;
    let row = match found {
        Ok(row) => row,
        Err(Failure::Server(reported)) if NO_TABLE.contains(&reported.code) => None,
        Err(error) => return Err(failed("cannot read which triggers were set aside on the target", error)),
    };
    row.map(|row| {
        let archive = serde_json::from_str(&text(&row, 0)?)
            .map_err(|error| Error::fatal("headgate.triggers_aside on the target names no triggers").because(error))?;
        Ok(Kept { archive, proved: text(&row, 1)? == "1" })
    })
    .transpose()
}

/// Writes them down once, sees once that they can be put back, and drops those that are there.
pub(super) async fn run(mysql: &Mysql) -> Result<()> {
    let mut target = schema::connect(mysql, "triggers").await?;
    let kept = match kept(mysql, &mut target).await? {
        Some(kept) => kept,
        None => write_down(mysql, &mut target).await?,
    };
    if !kept.proved {
        prove(mysql, &kept.archive, &mut target).await?;
    }
    drop_present(mysql, &kept.archive, &mut target).await
}

async fn write_down(mysql: &Mysql, target: &mut Conn) -> Result<Kept> {
    if let Some(before) = mysql.leg().before()
        && !fence::is_sealed(&mysql.for_leg(before), target).await?
    {
        return Err(Error::transient("the target of the way back is not fenced: its triggers are left alone"));
    }
    let archive = Archive::triggers_of(mysql, target).await?;
    let written = serde_json::to_string(&archive)
        .map_err(|error| Error::fatal("the triggers cannot be written down").because(error))?;
    let proved = archive.of(Kind::Trigger).next().is_none();
    target.query_drop(INSTALL).await.map_err(unwritable)?;
    target
        .exec_drop(
            "INSERT INTO headgate.triggers_aside (migration, definitions, proved) VALUES (?, ?, ?)",
            (mysql.key(), written, proved),
        )
        .await
        .map_err(unwritable)?;
    Ok(Kept { archive, proved })
}

/// Creates all of them anew and compares: what cannot be put back is told while the other side serves, and not when
/// writers wait.
async fn prove(mysql: &Mysql, archive: &Archive, target: &mut Conn) -> Result<()> {
    drop_present(mysql, archive, target).await?;
    let remedy = || {
        format!(
            "give {:?} what the trigger needs, such as its definer or a right of Headgate's account; the way back then goes on by itself. \
             All that was set aside is in headgate.triggers_aside there",
            mysql.target()
        )
    };
    create_missing(mysql, archive, target).await.map_err(|error| error.remedy(remedy()))?;
    let again = Archive::triggers_of(mysql, target).await?;
    // A server keeps the semicolon behind a program that came together with others, and drops that of one alone.
    let plain = |one: &Program| {
        let create = one.create.trim_end_matches(|letter: char| letter == ';' || letter.is_whitespace()).to_owned();
        Program { create, ..one.clone() }
    };
    let again: Vec<Program> = again.of(Kind::Trigger).map(plain).collect();
    for trigger in archive.of(Kind::Trigger) {
        if !again.contains(&plain(trigger)) {
            let title = title_of(&trigger.schema, &trigger.name);
            let what = format!("the trigger {title} of the target cannot be put back exactly as it was");
            return Err(Error::fatal(what).remedy(remedy()));
        }
    }
    target
        .exec_drop("UPDATE headgate.triggers_aside SET proved = 1 WHERE migration = ?", (mysql.key(),))
        .await
        .map_err(unwritable)
}

/// Puts back what is missing, and forgets it: from then on they are the owner's again. Finds nothing to do where nothing
/// is set aside.
pub(crate) async fn put_back(mysql: &Mysql, target: &mut Conn) -> Result<()> {
    let Some(kept) = kept(mysql, target).await? else {
        return Ok(());
    };
    create_missing(mysql, &kept.archive, target).await?;
    target
        .exec_drop("DELETE FROM headgate.triggers_aside WHERE migration = ?", (mysql.key(),))
        .await
        .map_err(unwritable)
}

fn unwritable(error: Failure) -> Error {
    failed("cannot write down which triggers were set aside on the target", error)
}
