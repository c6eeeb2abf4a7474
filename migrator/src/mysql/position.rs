//! A place in a server's binary log, as the neutral code sees it.

use std::cmp::Ordering;
use std::fmt;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use protocol::mysql::position::{GtidSet, Gtids};
use serde::{Deserialize, Serialize};

use super::client::{self, Version, failed};
use super::sql::quote_literal;
use crate::error::{Error, Result};
use crate::model::position::Position;

/// A place in one server's binary log: the file and offset, which order everything that this server logged, and the
/// GTIDs up to there, which mean the same on every server of its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinlogPosition {
    /// Which server's files these are: its `server_uuid`, or what stands for it on MariaDB.
    pub server: String,
    /// The file's name.
    pub file: String,
    /// The offset in it, in bytes.
    pub offset: u64,
    /// The executed GTIDs as the server writes them; empty where it has none.
    pub gtids: String,
}

impl BinlogPosition {
    /// The GTIDs, where they can be read.
    pub fn gtids(&self) -> Gtids {
        self.gtids.parse().unwrap_or(Gtids::None)
    }
}

impl Position for BinlogPosition {
    fn covers(&self, other: &Self) -> bool {
        if self.server == other.server {
            order(self, other) != Ordering::Less
        } else {
            self.gtids().covers(&other.gtids())
        }
    }
}

impl fmt::Display for BinlogPosition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file, self.offset)
    }
}

/// How far the follower is, as it is stored.
#[derive(Serialize)]
struct Reached<'a> {
    #[serde(flatten)]
    position: &'a BinlogPosition,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<&'a BinlogPosition>,
}

/// What of it is read only by who goes on from there.
#[derive(Deserialize)]
struct Since {
    since: Option<BinlogPosition>,
}

/// A position as it is stored, with the place from which the stream must be read again, where that is another.
pub fn written_since(position: &BinlogPosition, since: Option<&BinlogPosition>) -> Result<String> {
    serde_json::to_string(&Reached { position, since })
        .map_err(|error| Error::fatal("a position cannot be written").because(error))
}

pub(crate) fn unread(error: serde_json::Error) -> Error {
    Error::fatal("a position in Headgate's records on the target cannot be read")
        .because(error)
        .remedy("DROP MIGRATION … WITH (target_objects = 'drop'), then create and start it again")
}

/// The place from which the stream must be read again, where that is another than the position that was stored.
pub fn read_since(text: &str) -> Result<Option<BinlogPosition>> {
    let read: std::result::Result<Since, _> = serde_json::from_str(text);
    read.map(|read| read.since).map_err(unread)
}

/// Orders two files of one server by their numbers, which grow past six digits.
pub fn compare_files(one: &str, other: &str) -> Ordering {
    fn number(file: &str) -> (usize, &str) {
        let digits = file.rsplit_once('.').map_or("", |(_, digits)| digits);
        let digits = digits.trim_start_matches('0');
        (digits.len(), digits)
    }
    number(one).cmp(&number(other)).then_with(|| {
        let base = |file: &str| file.rsplit_once('.').map(|(base, _)| base.to_owned());
        base(one).cmp(&base(other))
    })
}

/// Orders two places in the files of one server.
pub fn order(one: &BinlogPosition, other: &BinlogPosition) -> Ordering {
    compare_files(&one.file, &other.file).then(one.offset.cmp(&other.offset))
}

/// The end of the server's binary log now. What it covers may not be visible to a new snapshot yet.
pub async fn current(session: &mut Conn) -> Result<BinlogPosition> {
    let version = client::version(session).await?;
    let server = server(session).await?;
    end(session, version, server).await
}

/// As [`current`], in one round trip, where it is known whose session this is.
pub(crate) async fn end(session: &mut Conn, version: Version, server: String) -> Result<BinlogPosition> {
    let cannot = |error| failed("cannot read the end of the binary log", error);
    let status = if version.is_mysql_from(8, 2, 0) { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
    let query = if version.is_mariadb() {
        // The GTIDs first: they may fall short of the file's end, and never say more than it.
        format!("SELECT @@GLOBAL.gtid_binlog_pos; {status}")
    } else {
        status.to_owned()
    };
    let mut answers = session.query_iter(query).await.map_err(cannot)?;
    let mut gtids = None;
    if version.is_mariadb() {
        let reported: Vec<Option<String>> = answers.collect().await.map_err(cannot)?;
        gtids = reported.into_iter().next().flatten();
    }
    let rows: Vec<Row> = answers.collect().await.map_err(cannot)?;
    answers.drop_result().await.map_err(cannot)?;
    let Some(mut row) = rows.into_iter().next() else {
        return Err(
            Error::fatal("the server writes no binary log").remedy("start it with log_bin and binlog_format=ROW")
        );
    };
    let file: Option<String> = row.take(0);
    let offset: Option<u64> = row.take(1);
    if !version.is_mariadb() {
        gtids = row.take::<Option<String>, _>("Executed_Gtid_Set").flatten();
    }
    let (Some(file), Some(offset)) = (file, offset) else {
        return Err(Error::fatal("the server tells no end of its binary log"));
    };
    let gtids = gtids.unwrap_or_default();
    let parsed: Gtids =
        gtids.parse().map_err(|error| Error::fatal("the server sent GTIDs that cannot be read").because(error))?;
    Ok(BinlogPosition { server, file, offset, gtids: parsed.to_string() })
}

/// As [`current`], but read before `now`, with exactly the GTIDs that are in the log before its place: a server writes a
/// transaction to its log some time before it tells the GTID. `None` where the file was left meanwhile. Everything
/// before `position` must be committed by `now`.
pub async fn exact(
    session: &mut Conn,
    position: BinlogPosition,
    now: &BinlogPosition,
) -> Result<Option<BinlogPosition>> {
    let Gtids::Mysql(mut before) = now.gtids() else {
        // MariaDB's number of the last transaction says enough: every later one is larger.
        return Ok(Some(position));
    };
    if now.file != position.file || now.server != position.server {
        return Ok(None);
    }
    // What is told by now is in the log from here to its end, or was before.
    let query = format!("SHOW BINLOG EVENTS IN {} FROM {}", quote_literal(&position.file), position.offset);
    let unreadable = |error| failed("cannot read the source's binary log", error);
    let mut events = session.query_iter(query).await.map_err(unreadable)?;
    let mut left_file = false;
    while let Some(mut event) = events.next().await.map_err(unreadable)? {
        let kind: Option<String> = event.take(2);
        match kind.as_deref() {
            Some("Gtid" | "Gtid_tagged") => {
                let info: Option<String> = event.take(5);
                let reported = info.as_deref().and_then(|info| info.split('\'').nth(1));
                let one: GtidSet = reported
                    .and_then(|reported| reported.parse().ok())
                    .ok_or_else(|| Error::fatal("the source shows a GTID that cannot be read"))?;
                for (origin, runs) in one.iter() {
                    for (number, _) in runs {
                        before.remove(origin, *number);
                    }
                }
            }
            Some("Rotate" | "Stop") => left_file = true,
            _ => {}
        }
    }
    events.drop_result().await.map_err(unreadable)?;
    // The next file may hold more of them.
    Ok((!left_file).then(|| BinlogPosition { gtids: before.to_string(), ..position }))
}

/// What tells this server's files from those of another: they mean nothing elsewhere.
pub async fn server(session: &mut Conn) -> Result<String> {
    // MariaDB has no `server_uuid`; newer ones have a `server_uid`, all have where they listen and keep their rows.
    let rows: Vec<(String, String)> = session
        .query(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN
             ('server_uuid', 'server_uid', 'server_id', 'hostname', 'port', 'datadir')",
        )
        .await
        .map_err(|error| failed("cannot ask who the server is", error))?;
    let get = |name: &str| rows.iter().find(|row| row.0 == name).map(|row| &row.1);
    let reported = get("server_uuid").or_else(|| get("server_uid"));
    if let Some(reported) = reported.filter(|reported| !reported.is_empty()) {
        return Ok(reported.clone());
    }
    let parts = ["hostname", "port", "server_id", "datadir"];
    let parts: Vec<&str> = parts.iter().map(|name| get(name).map_or("", String::as_str)).collect();
    Ok(parts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::BinlogPosition;
    use crate::model::position::Position as _;

    fn at(server: &str, file: &str, offset: u64, gtids: &str) -> BinlogPosition {
        BinlogPosition { server: server.to_owned(), file: file.to_owned(), offset, gtids: gtids.to_owned() }
    }

    #[test]
    fn files_are_ordered_by_their_number_and_not_by_their_letters() {
        let late = at("a", "bin.1000000", 4, "");
        let early = at("a", "bin.999999", 7000, "");
        assert!(late.covers(&early) && !early.covers(&late));
        assert!(late.covers(&late.clone()));
        assert!(!at("a", "bin.000007", 99, "").covers(&at("a", "bin.000007", 100, "")));
    }

    #[test]
    fn files_of_another_server_say_nothing() {
        let one = at("a", "bin.000009", 4, "");
        assert!(!one.covers(&at("b", "bin.000001", 4, "")));
        let one = at("a", "bin.000001", 4, "0-1-9");
        assert!(one.covers(&at("b", "bin.000007", 4, "0-2-9")));
    }
}
