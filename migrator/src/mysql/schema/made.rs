//! What a migration makes on its target, recorded there before it is made.

use std::collections::BTreeSet;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::accounts;
use crate::error::{Error, Result};
use crate::mysql::Mysql;
use crate::mysql::catalogue;
use crate::mysql::catalogue::{ask, listed};
use crate::mysql::client::failed;
use crate::mysql::sql::qualified;

const INSTALL: &str = "CREATE TABLE IF NOT EXISTS headgate.made (
     migration VARCHAR(128) NOT NULL, kind VARCHAR(16) NOT NULL, place VARCHAR(255) NOT NULL, name VARCHAR(255) NOT NULL,
     PRIMARY KEY (migration, kind, place, name)) ENGINE=InnoDB";
pub(crate) const DATABASE: &str = "database";
pub(crate) const ACCOUNT: &str = "account";
/// What a killed attempt was creating can take the server a while.
const STALE_SESSIONS_TIMEOUT: Duration = Duration::from_secs(30);
/// The row that says that the record is complete.
const COMPLETE: &str = "complete";
const UNKNOWN_TABLE: u16 = 1146;
const UNKNOWN_DATABASE: u16 = 1049;

/// One thing: its kind, its database or host, its name.
pub(crate) type Object = (String, String, String);

/// Records what will be made: all of the source's that the target does not have. Finds nothing to do where that is done.
pub(crate) async fn record(mysql: &Mysql, source: &mut Conn, target: &mut Conn) -> Result<()> {
    let cannot = |error| failed("cannot record what is made on the target", error);
    target.query_drop(INSTALL).await.map_err(cannot)?;
    let complete = (COMPLETE.to_owned(), String::new(), String::new());
    if recorded(mysql, target).await?.contains(&complete) {
        return Ok(());
    }
    let there = objects(mysql, target).await?;
    let mut made = objects(mysql, source).await?;
    made.retain(|object| !there.contains(object));
    let present: BTreeSet<_> = accounts::all(target).await?.iter().map(accounts::account::Account::key).collect();
    for account in accounts::read(mysql, source).await? {
        if !present.contains(&account.key()) {
            made.insert((ACCOUNT.to_owned(), account.host, account.user));
        }
    }
    made.insert(complete);
    let rows: Vec<_> = made.into_iter().map(|(kind, place, name)| (mysql.key(), kind, place, name)).collect();
    target.query_drop("BEGIN").await.map_err(cannot)?;
    target.exec_batch("INSERT IGNORE INTO headgate.made VALUES (?, ?, ?, ?)", rows).await.map_err(cannot)?;
    target.query_drop("COMMIT").await.map_err(cannot)
}

/// Drops the tables and sequences of an attempt that broke off before anything was loaded, and forgets what it had in mind.
pub(crate) async fn take_back(mysql: &Mysql, target: &mut Conn) -> Result<()> {
    let what = "cannot drop what an attempt to create the schema left on the target";
    crate::mysql::stale_sessions::end(mysql, target, "prepare", STALE_SESSIONS_TIMEOUT).await?;
    let made = recorded(mysql, target).await?;
    let present = objects(mysql, target).await?;
    for (kind, place, name) in present.iter().filter(|object| made.contains(*object)) {
        let relation = qualified(place, name);
        let is_empty = match kind.as_str() {
            "table" => {
                let query = format!("SELECT 1 FROM {relation} LIMIT 1");
                ask(target, &query, what).await?.is_empty()
            }
            "sequence" => true,
            _ => continue,
        };
        if !is_empty {
            return Err(Error::refused(format!("{place}.{name} on the target has rows, and none were loaded yet"))
                .remedy("see who writes to the target, and drop what he put there"));
        }
        let statement = format!("DROP {} {relation}", kind.to_uppercase());
        catalogue::run(target, &statement, what).await?;
    }
    target
        .exec_drop(
            "DELETE FROM headgate.made WHERE migration = ? AND kind NOT IN (?, ?)",
            (mysql.key(), DATABASE, ACCOUNT),
        )
        .await
        .map_err(|error| failed(what, error))
}

pub(crate) async fn recorded(mysql: &Mysql, target: &mut Conn) -> Result<BTreeSet<Object>> {
    let rows = target.exec("SELECT kind, place, name FROM headgate.made WHERE migration = ?", (mysql.key(),)).await;
    match rows {
        Ok(rows) => Ok(rows.into_iter().collect()),
        Err(mysql_async::Error::Server(reported)) if matches!(reported.code, UNKNOWN_TABLE | UNKNOWN_DATABASE) => {
            Ok(BTreeSet::new())
        }
        Err(error) => Err(failed("cannot read what was made on the target", error)),
    }
}

/// What is there in the databases that move.
pub(crate) async fn objects(mysql: &Mysql, session: &mut Conn) -> Result<BTreeSet<Object>> {
    catalogue::prepare(session).await?;
    let databases = listed(mysql);
    let query = format!(
        "SELECT 'database', '', SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN ({databases})
         UNION ALL SELECT CASE TABLE_TYPE WHEN 'VIEW' THEN 'view' WHEN 'SEQUENCE' THEN 'sequence' ELSE 'table' END,
             TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({databases})
         UNION ALL SELECT LOWER(ROUTINE_TYPE), ROUTINE_SCHEMA, ROUTINE_NAME FROM information_schema.ROUTINES
             WHERE ROUTINE_SCHEMA IN ({databases})
         UNION ALL SELECT 'event', EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA IN ({databases})"
    );
    let rows = ask(session, &query, "cannot read the objects of a server").await?;
    let object = |row: &catalogue::TextRow| (row.owned(0), row.owned(1), row.owned(2));
    Ok(rows.iter().map(object).collect())
}
