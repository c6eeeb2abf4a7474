//! What completes a fence of `read_only` after the switch, as the source remembers it, and how exactly that is taken back.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure, Row};

use super::locked;
use crate::error::{Error, Result};
use crate::mysql::Mysql;
use crate::mysql::catalogue::{optional, text};
use crate::mysql::client::{Version, failed};

/// A row says what was done besides, and how it was before. It is kept for as long as the refusal lasts.
pub(super) const INSTALL: &str = "CREATE TABLE IF NOT EXISTS headgate.fence_durable (
         switch_of VARCHAR(128) NOT NULL PRIMARY KEY,
         scheduler VARCHAR(16),
         accounts LONGTEXT NOT NULL) ENGINE=InnoDB";

const NO_TABLE: [u16; 2] = [1049, 1146];

pub(super) type Accounts = Vec<(String, String)>;

/// What of a setting the server has persisted.
pub(super) async fn persisted(session: &mut Conn, version: Version, name: &str) -> Result<Option<String>> {
    if !version.is_mysql_from(8, 0, 0) {
        return Ok(None);
    }
    session
        .exec_first(
            "SELECT variable_value FROM performance_schema.persisted_variables WHERE variable_name = ?",
            (name,),
        )
        .await
        .map_err(|error| failed("cannot see which settings the source keeps", error))
}

/// What was remembered of what was done besides.
pub(super) struct Kept {
    pub(super) scheduler: Option<String>,
    pub(super) accounts: Accounts,
}

pub(super) async fn remembered(mysql: &Mysql, session: &mut Conn) -> Result<Option<Kept>> {
    let found: std::result::Result<Option<Row>, _> = session
        .exec_first("SELECT scheduler, accounts FROM headgate.fence_durable WHERE switch_of = ?", (mysql.name(),))
        .await;
    let row = match found {
        Ok(row) => row,
        Err(Failure::Server(reported)) if NO_TABLE.contains(&reported.code) => None,
        Err(error) => {
            return Err(failed("cannot read what the source's fence has changed", error));
        }
    };
    row.map(|row| {
        let accounts = serde_json::from_str(&text(&row, 1)?)
            .map_err(|error| Error::fatal("headgate.fence_durable on the source names no accounts").because(error))?;
        let scheduler = optional(&row, 0)?;
        Ok(Kept { scheduler, accounts })
    })
    .transpose()
}

/// Takes back what was done besides, exactly that. Finds nothing to do where there is nothing.
pub(super) async fn take_back(mysql: &Mysql, session: &mut Conn, version: Version) -> Result<()> {
    let Some(kept) = remembered(mysql, session).await? else {
        return Ok(());
    };
    if version.is_mysql_from(8, 0, 0) && persisted(session, version, "event_scheduler").await?.is_some() {
        let statement = match kept.scheduler.as_deref() {
            Some("ON") => "SET PERSIST event_scheduler = ON",
            Some(_) => "SET PERSIST event_scheduler = OFF",
            None => "RESET PERSIST IF EXISTS event_scheduler",
        };
        session.query_drop(statement).await.map_err(|error| failed("cannot lift the source's fence", error))?;
    }
    unlogged(session).await;
    let unlocked = locked::unlock(session, &kept.accounts).await;
    let _was_not_permitted = session.query_drop("SET SESSION sql_log_bin = 1").await;
    unlocked?;
    let cannot = |error| failed("cannot forget the source's fence", error);
    session
        .exec_drop("DELETE FROM headgate.fence_durable WHERE switch_of = ?", (mysql.name(),))
        .await
        .map_err(cannot)?;
    let left: Option<u8> = session.query_first("SELECT 1 FROM headgate.fence_durable LIMIT 1").await.map_err(cannot)?;
    if left.is_none() {
        session.query_drop("DROP TABLE headgate.fence_durable").await.map_err(cannot)?;
    }
    Ok(())
}

/// Replicas of the source have accounts of their own to look after. Where that is not permitted, they follow.
pub(super) async fn unlogged(session: &mut Conn) {
    let _not_permitted = session.query_drop("SET SESSION sql_log_bin = 0").await;
}
