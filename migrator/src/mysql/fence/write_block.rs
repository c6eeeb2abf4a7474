//! What the fence changes on the server, remembered there before it is changed, and how it goes back.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::super::client::{self, Version, failed};
use super::super::sql::quote_literal;
use super::super::{Mysql, stale_sessions};
use super::{kept, locked, mark};
use crate::error::{Error, Result};
use crate::model::plan::Plan;
use crate::mysql::catalogue::{optional, text};
use std::time::Duration;

/// How long the sessions of an earlier fence have to end.
pub(super) const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Every session that a fence uses, by purpose: the one that waits, and the one that watches it and writes the marker.
pub(super) const PURPOSES: [&str; 2] = ["fence", "marker"];
/// A row says that a fence of this migration may be up, and what the server's settings were before.
const INSTALL: [&str; 2] = [
    "CREATE DATABASE IF NOT EXISTS headgate CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS headgate.fence (
         migration VARCHAR(128) NOT NULL PRIMARY KEY,
         sealed TINYINT NOT NULL,
         event_scheduler VARCHAR(16) NOT NULL,
         persisted VARCHAR(16),
         accounts LONGTEXT) ENGINE=InnoDB",
];
/// Whoever raises a refusal again and whoever lifts it for good take turns, and each of them is quick.
pub(super) const REFUSAL: &str = "refusal";
pub(super) const TURN: Duration = Duration::from_secs(5);
const UNKNOWN_TABLE: u16 = 1146;
const UNKNOWN_DATABASE: u16 = 1049;

/// What was remembered of one fence.
struct Before {
    sealed: bool,
    event_scheduler: String,
    persisted: Option<String>,
    /// The accounts that were locked, where these are the refusal.
    accounts: Option<Vec<(String, String)>>,
}

/// Creates what the fence is remembered in.
pub(in super::super) async fn install(session: &mut Conn) -> Result<()> {
    for statement in INSTALL {
        session
            .query_drop(statement)
            .await
            .map_err(|error| failed("cannot create what the fence is remembered in", error))?;
    }
    Ok(())
}

/// Creates what the fence is remembered in. What an earlier fence of this migration left goes back first. Refuses a
/// source that is read only already: it is not where the writes go, or another migration has fenced it.
pub(super) async fn arm(mysql: &Mysql, session: &mut Conn, version: Version) -> Result<()> {
    install(session).await?;
    lower(mysql, session, version).await?;
    let on: Option<u8> = session
        .query_first("SELECT @@GLOBAL.read_only = 1")
        .await
        .map_err(|error| failed("cannot see whether the source is read only", error))?;
    if on != Some(1) {
        return Ok(());
    }
    let others = others(mysql, session).await?;
    let refusal = Error::refused("the source is read only already");
    Err(match others.first() {
        Some(name) => refusal.remedy(format!("migration {name} has fenced it: finish that one first")),
        None => refusal.remedy("migrate from the server that takes the writes, or SET GLOBAL read_only = OFF on it"),
    })
}

/// Refuses while another migration's fence may be up: accounts that both have locked would be let in by either.
pub(super) async fn refuse_others(mysql: &Mysql, session: &mut Conn) -> Result<()> {
    let others = others(mysql, session).await?;
    let Some(name) = others.first() else {
        return Ok(());
    };
    Err(Error::refused(format!("migration {name} has fenced the source"))
        .remedy(format!("wait until it has switched, then FINISH MIGRATION {name}")))
}

/// Other migrations whose fence may be up on this server.
async fn others(mysql: &Mysql, session: &mut Conn) -> Result<Vec<String>> {
    let (key, name) = (quote_literal(&mysql.key()), quote_literal(mysql.name()));
    session
        .query(format!(
            "SELECT migration FROM headgate.fence
             WHERE migration <> {key} AND SUBSTRING_INDEX(migration, '/', 1) <> {name} ORDER BY migration"
        ))
        .await
        .map_err(unreadable)
}

/// Writes down how the server is set before anything of it is changed.
pub(super) async fn remember(mysql: &Mysql, session: &mut Conn, version: Version) -> Result<()> {
    let persisted = if version.is_mysql_from(8, 0, 0) {
        "(SELECT variable_value FROM performance_schema.persisted_variables WHERE variable_name = 'read_only')"
    } else {
        "NULL"
    };
    let name = quote_literal(&mysql.key());
    session
        .query_drop(format!(
            "INSERT INTO headgate.fence (migration, sealed, event_scheduler, persisted)
             VALUES ({name}, 0, @@GLOBAL.event_scheduler, {persisted})
             ON DUPLICATE KEY UPDATE sealed = 0"
        ))
        .await
        .map_err(|error| failed("cannot write down the source's settings", error))
}

/// Writes down which accounts are about to be locked.
pub(super) async fn remember_accounts(mysql: &Mysql, session: &mut Conn, accounts: &[(String, String)]) -> Result<()> {
    let text = serde_json::to_string(accounts)
        .map_err(|error| Error::fatal("the accounts cannot be written down").because(error))?;
    session
        .exec_drop(
            "INSERT INTO headgate.fence (migration, sealed, event_scheduler, accounts) VALUES (?, 0, '', ?)
             ON DUPLICATE KEY UPDATE sealed = 0, accounts = VALUES(accounts)",
            (mysql.key(), text),
        )
        .await
        .map_err(|error| failed("cannot write down which accounts are locked", error))
}

/// Records that the refusal is meant to stay.
pub(super) async fn seal(mysql: &Mysql, session: &mut Conn) -> Result<()> {
    let name = quote_literal(&mysql.key());
    session
        .query_drop(format!("UPDATE headgate.fence SET sealed = 1 WHERE migration = {name}"))
        .await
        .map_err(|error| failed("cannot record that the fence is sealed", error))
}

/// Whether the fence is sealed.
pub(in super::super) async fn is_sealed(mysql: &Mysql, session: &mut Conn) -> Result<bool> {
    Ok(remembered(mysql, session).await?.is_some_and(|before| before.sealed))
}

/// Whether the fence is sealed and a setting of the server keeps it up.
pub(super) async fn is_sealed_by_setting(mysql: &Mysql, session: &mut Conn) -> Result<bool> {
    let before = remembered(mysql, session).await?;
    Ok(before.is_some_and(|before| before.sealed && before.accounts.is_none()))
}

/// Puts the server's settings back, and forgets them only then. Finds nothing to do where nothing is remembered.
pub(super) async fn lower(mysql: &Mysql, session: &mut Conn, version: Version) -> Result<()> {
    kept::take_back(mysql, session, version).await?;
    let Some(before) = remembered(mysql, session).await? else {
        return Ok(());
    };
    let persisted = if version.is_mysql_from(8, 0, 0) {
        let now = kept::persisted(session, version, "read_only").await?;
        now.or_else(|| before.persisted.clone().filter(|was| was == "OFF"))
    } else {
        None
    };
    put_back(mysql, session, &before, persisted).await
}

/// Puts the settings back; `persisted` is what the server would set itself to at its next start.
async fn put_back(mysql: &Mysql, session: &mut Conn, before: &Before, persisted: Option<String>) -> Result<()> {
    if let Some(accounts) = &before.accounts {
        locked::unlock(session, accounts).await?;
    // The setting is the server's: another migration may have fenced it for good meanwhile.
    } else if others(mysql, session).await?.is_empty() {
        let mut statements = Vec::new();
        // The server may let nobody persist anything.
        if persisted.is_some() {
            statements.push(match before.persisted.as_deref() {
                Some("OFF") => "SET PERSIST read_only = OFF",
                _ => "RESET PERSIST IF EXISTS read_only",
            });
        }
        statements.push("SET GLOBAL read_only = OFF");
        if before.event_scheduler == "ON" {
            statements.push("SET GLOBAL event_scheduler = ON");
        }
        for statement in statements {
            session.query_drop(statement).await.map_err(|error| failed("cannot lift the source's fence", error))?;
        }
    }
    let name = quote_literal(&mysql.key());
    session
        .query_drop(format!("DELETE FROM headgate.fence WHERE migration = {name}"))
        .await
        .map_err(|error| failed("cannot forget the source's fence", error))
}

/// Puts back what a fence changed that was never sealed, and so never made durable; one statement less to wait for each.
pub(super) async fn lower_unsealed(mysql: &Mysql, session: &mut Conn) -> Result<()> {
    let Some(before) = remembered(mysql, session).await? else {
        return Ok(());
    };
    put_back(mysql, session, &before, None).await
}

async fn remembered(mysql: &Mysql, session: &mut Conn) -> Result<Option<Before>> {
    let found: std::result::Result<Option<Row>, _> = session
        .query_first(format!(
            "SELECT CAST(sealed AS CHAR), event_scheduler, persisted, accounts FROM headgate.fence WHERE migration = {}",
            quote_literal(&mysql.key())
        ))
        .await;
    let row = match found {
        Ok(row) => row,
        Err(mysql_async::Error::Server(reported)) if matches!(reported.code, UNKNOWN_TABLE | UNKNOWN_DATABASE) => None,
        Err(error) => return Err(unreadable(error)),
    };
    row.map(|row| {
        let accounts = optional(&row, 3)?;
        let accounts = accounts.map(|text| serde_json::from_str(&text)).transpose();
        Ok(Before {
            sealed: text(&row, 0)? == "1",
            event_scheduler: text(&row, 1)?,
            persisted: optional(&row, 2)?,
            accounts: accounts
                .map_err(|error| Error::fatal("headgate.fence on the source names no accounts").because(error))?,
        })
    })
    .transpose()
}

/// Lets writers go on: ends whoever may still raise a fence, and puts the settings back. Finds nothing to do where there is nothing.
pub async fn lift(mysql: &Mysql, _plan: &Plan) -> Result<()> {
    let mut session = mysql.connect_source("lift").await?;
    for purpose in PURPOSES {
        stale_sessions::end(mysql, &mut session, purpose, END_TIMEOUT).await?;
    }
    let version = client::version(&mut session).await?;
    lower(mysql, &mut session, version).await?;
    mysql.set_fenced(false);
    Ok(())
}

/// Lets writers in again where the refusal has stood since a switch, and removes that switch's mark: `session` is on the
/// source of `mysql`. Finds nothing to do where there is nothing.
pub(in super::super) async fn open_again(mysql: &Mysql, session: &mut Conn) -> Result<()> {
    stale_sessions::take_turn(mysql, session, REFUSAL, TURN).await?;
    let version = client::version(session).await?;
    lower(mysql, session, version).await?;
    mark::remove_in(mysql, session).await?;
    stale_sessions::end_turn(mysql, session, REFUSAL).await
}

/// Ends what an unsealed fence left; a sealed one stays in force and is only not remembered any more.
pub(in super::super) async fn forget(mysql: &Mysql, session: &mut Conn) -> Result<()> {
    let version = client::version(session).await?;
    match remembered(mysql, session).await? {
        Some(before) if !before.sealed => lower(mysql, session, version).await,
        _ => Ok(()),
    }
}

fn unreadable(error: mysql_async::Error) -> Error {
    failed("cannot read what the source's fence has changed", error)
}
