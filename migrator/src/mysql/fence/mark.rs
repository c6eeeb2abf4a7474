//! The mark of a switch, kept on the source beside the refusal, and how it is read, confirmed and removed.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure, Row};

use super::writers::own_account;
use crate::error::{Error, Result};
use crate::model::mark::{self, Mark, Stage};
use crate::mysql::catalogue::text;
use crate::mysql::client::failed;
use crate::mysql::records;
use crate::mysql::sql::quote_literal;
use crate::mysql::{BinlogPosition, Mysql};

/// What the fence has remembered is kept with the mark: it must be known for as long as the refusal lasts.
const INSTALL: [&str; 2] = [
    "CREATE DATABASE IF NOT EXISTS headgate CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS headgate.switches (
         switch_of VARCHAR(128) NOT NULL PRIMARY KEY, route VARCHAR(255) NOT NULL, source VARCHAR(255) NOT NULL,
         target VARCHAR(255) NOT NULL, epoch BIGINT UNSIGNED NOT NULL, journal VARCHAR(64) NOT NULL,
         switched TINYINT NOT NULL, sealed VARCHAR(32) NOT NULL, moved LONGTEXT NOT NULL,
         event_scheduler VARCHAR(16) NOT NULL, persisted VARCHAR(16), accounts LONGTEXT) ENGINE=InnoDB",
];
const UNKNOWN_TABLE: u16 = 1146;
const UNKNOWN_DATABASE: u16 = 1049;
const DENIED: [u16; 3] = [1044, 1142, 1143];

/// Creates what marks are kept in, on the source, before anything is held.
pub(crate) async fn install(session: &mut Conn) -> Result<()> {
    for statement in INSTALL {
        session
            .query_drop(statement)
            .await
            .map_err(|error| failed("cannot create on the source what the mark of the switch is kept in", error))?;
    }
    Ok(())
}

/// Writes the mark, and before it where the next leg begins, in that leg's progress record; neither where the mark of a
/// later cutover is there.
pub(crate) async fn write(
    mysql: &Mysql,
    session: &mut Conn,
    mark: &Mark,
    next_begins: Option<&BinlogPosition>,
) -> Result<()> {
    let no_later = format!(
        "NOT EXISTS (SELECT 1 FROM headgate.switches AS later WHERE later.switch_of = {} AND later.epoch > {})",
        quote_literal(&mark.migration),
        mark.epoch
    );
    if let Some(at) = next_begins {
        let next = mysql.leg().next().key(mysql.name());
        session
            .query_drop(format!(
                "REPLACE INTO headgate.progress (migration, position)
                 SELECT migration, {} FROM headgate.progress WHERE migration = {} AND {no_later}",
                quote_literal(&records::written(at)?),
                quote_literal(&next)
            ))
            .await
            .map_err(|error| failed("cannot write on the source where the way back begins", error))?;
        if session.affected_rows() == 0 {
            refuse_later(session, &mark.migration, mark.epoch).await?;
            return Err(Error::transient("the source has no record of the way back: it is not armed"));
        }
    }
    let moved = serde_json::to_string(&mysql.databases())
        .map_err(|error| Error::fatal("the mark cannot be written").because(error))?;
    let texts = [&mark.migration, &mark.route, &mark.source, &mark.target].map(|text| quote_literal(text));
    session
        .query_drop(format!(
            "REPLACE INTO headgate.switches (switch_of, route, source, target, epoch, journal, switched, sealed, moved,
                 event_scheduler, persisted, accounts)
             SELECT {}, {}, {}, 0, CONCAT(UTC_TIMESTAMP(), ' UTC'), {}, event_scheduler, persisted, accounts
             FROM headgate.fence WHERE migration = {} AND {no_later}",
            texts.join(", "),
            mark.epoch,
            quote_literal(&mark.journal),
            quote_literal(&moved),
            quote_literal(&mysql.key())
        ))
        .await
        .map_err(|error| failed("cannot write the mark of the switch on the source", error))?;
    if session.affected_rows() == 0 {
        refuse_later(session, &mark.migration, mark.epoch).await?;
        return Err(Error::transient("the source has forgotten what its fence has changed"));
    }
    Ok(())
}

/// The marks on the source of `mysql` that concern its databases, and fences that were left without one.
pub(crate) async fn read(mysql: &Mysql) -> Result<Vec<Mark>> {
    let mut session = mysql.connect_source("marks").await?;
    let ours = mysql.databases();
    let mut marks = Vec::new();
    let rows = rows(
        &mut session,
        "SELECT switch_of, route, source, target, CAST(epoch AS CHAR), journal, sealed, CAST(switched AS CHAR), moved
         FROM headgate.switches ORDER BY switch_of",
    )
    .await?;
    for row in &rows {
        let moved: Vec<String> = serde_json::from_str(&text(row, 8)?)
            .map_err(|error| Error::fatal("headgate.switches names no databases").because(error))?;
        let mark = Mark {
            migration: text(row, 0)?,
            route: text(row, 1)?,
            source: text(row, 2)?,
            target: text(row, 3)?,
            epoch: text(row, 4)?.parse().unwrap_or(u64::MAX),
            journal: text(row, 5)?,
            sealed: text(row, 6)?,
            stage: if text(row, 7)? == "1" { Stage::Switched } else { Stage::Sealed },
        };
        if moved.iter().any(|database| ours.contains(database)) {
            marks.push(mark);
        }
    }
    let marked: Vec<String> = rows.iter().map(|row| text(row, 0)).collect::<Result<_>>()?;
    for row in &self::rows(&mut session, "SELECT migration FROM headgate.fence").await? {
        let migration = of_leg(&text(row, 0)?).to_owned();
        if !marked.contains(&migration) {
            marks.push(Mark {
                migration,
                route: String::new(),
                source: String::new(),
                target: String::new(),
                epoch: 0,
                journal: String::new(),
                sealed: String::new(),
                stage: Stage::Fenced,
            });
        }
    }
    Ok(marks)
}

/// Refuses to act for the cutover `epoch` where the server has the mark of a later one.
pub(crate) async fn refuse_later(session: &mut Conn, migration: &str, epoch: u64) -> Result<()> {
    let asked = session.exec_first("SELECT epoch FROM headgate.switches WHERE switch_of = ?", (migration,)).await;
    let found = match asked {
        Ok(found) => found,
        Err(error) if is_absent(&error) => None,
        Err(error) => return Err(failed("the mark of a switch cannot be read", error)),
    };
    mark::refuse_later(migration, found, epoch)
}

/// Writes onto the mark that the switch took place, unless it is of a later cutover than `epoch`.
pub(crate) async fn confirm(mysql: &Mysql, epoch: u64) -> Result<()> {
    let mut session = mysql.connect_source("marks").await?;
    session
        .exec_drop(
            "UPDATE headgate.switches SET switched = 1 WHERE switch_of = ? AND epoch <= ? AND switched = 0",
            (mysql.name(), epoch),
        )
        .await
        .map_err(|error| failed("cannot write the mark of the switch on the source", error))
}

/// The migration of whose leg this is the key.
fn of_leg(key: &str) -> &str {
    match key.rsplit_once('/') {
        Some((migration, number)) if number.parse::<u32>().is_ok() => migration,
        _ => key,
    }
}

/// Removes this migration's mark from the source, if there is one.
pub(crate) async fn remove(mysql: &Mysql) -> Result<()> {
    let mut session = mysql.connect_source("marks").await?;
    remove_in(mysql, &mut session).await
}

/// As [`remove`], in a session on the source.
pub(crate) async fn remove_in(mysql: &Mysql, session: &mut Conn) -> Result<()> {
    let removing = session.exec_drop("DELETE FROM headgate.switches WHERE switch_of = ?", (mysql.name(),));
    match removing.await {
        Ok(()) => Ok(()),
        Err(error) if is_absent(&error) => Ok(()),
        Err(error) => Err(failed("cannot remove the mark of the switch from the source", error)),
    }
}

/// Drops what marks are kept in where there is none.
pub(crate) async fn forget(session: &mut Conn) -> Result<()> {
    let left = session.query_first::<u8, _>("SELECT 1 FROM headgate.switches LIMIT 1");
    match left.await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => session
            .query_drop("DROP TABLE headgate.switches")
            .await
            .map_err(|error| failed("cannot remove Headgate's records from the source", error)),
        Err(error) if is_absent(&error) => Ok(()),
        Err(error) => Err(failed("cannot remove Headgate's records from the source", error)),
    }
}

async fn rows(session: &mut Conn, query: &str) -> Result<Vec<Row>> {
    match session.query(query).await {
        Ok(rows) => Ok(rows),
        Err(error) if is_absent(&error) => Ok(Vec::new()),
        Err(error) => {
            let denied = matches!(&error, Failure::Server(reported) if DENIED.contains(&reported.code));
            let reported = failed("it cannot be known whether a switch away from this cluster took place", error);
            if denied {
                let account = own_account(session).await?;
                return Err(reported.remedy(format!("GRANT SELECT ON headgate.* TO {account}")));
            }
            Err(reported)
        }
    }
}

fn is_absent(error: &Failure) -> bool {
    matches!(error, Failure::Server(reported) if matches!(reported.code, UNKNOWN_TABLE | UNKNOWN_DATABASE))
}
