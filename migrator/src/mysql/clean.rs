//! Removes what a migration left on both sides, and finds nothing to do where there is nothing.

pub(crate) mod made;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use crate::error::{Error, Result};
use crate::mysql::catalogue::text;
use crate::mysql::check::reprinted;
use crate::mysql::client::failed;
use crate::mysql::context::RECORDS;
use crate::mysql::fence::mark;
use crate::mysql::preflight::trial;
use crate::mysql::schema::triggers::set_aside;
use crate::mysql::sql::{qualified, quote_ident, quote_literal};
use crate::mysql::{Mysql, fence, stale_sessions};

/// Ends the migration's sessions and removes its records from both servers; those of other migrations stay.
/// A sealed fence stays; one that is not sealed is lifted.
pub async fn run(mysql: &Mysql) -> Result<()> {
    let mut source = mysql.connect_source("clean up").await?;
    stale_sessions::end_all(mysql, &mut source).await?;
    fence::forget(mysql, &mut source).await?;
    mark::forget(&mut source).await?;
    forget(mysql, &mut source, "source").await?;
    let mut target = mysql.connect_target("clean up").await?;
    stale_sessions::end_all(mysql, &mut target).await?;
    trial::scratch::recover(mysql).await?;
    reprinted::forget(mysql, &mut target).await?;
    set_aside::put_back(mysql, &mut target).await?;
    forget(mysql, &mut target, "target").await
}

/// Deletes the migration's rows from Headgate's tables, drops those that are empty then, and the database with the last.
async fn forget(mysql: &Mysql, session: &mut Conn, side: &str) -> Result<()> {
    let cannot = |error| failed(&format!("cannot remove Headgate's records from the {side}"), error);
    let rows: Vec<Row> = session
        .query(format!(
            "SELECT t.table_name, MAX(c.column_name = 'migration') FROM information_schema.tables AS t
             JOIN information_schema.columns AS c
               ON c.table_schema = t.table_schema AND c.table_name = t.table_name
             WHERE t.table_schema = {} AND t.table_type = 'BASE TABLE' GROUP BY t.table_name",
            quote_literal(RECORDS)
        ))
        .await
        .map_err(cannot)?;
    let mut kept = 0_usize;
    for row in &rows {
        let name = text(row, 0)?;
        let table = qualified(RECORDS, &name);
        if text(row, 1)? != "1" {
            kept += 1;
            continue;
        }
        session.exec_drop(format!("DELETE FROM {table} WHERE migration = ?"), (mysql.key(),)).await.map_err(cannot)?;
        let left: Option<u8> = session.query_first(format!("SELECT 1 FROM {table} LIMIT 1")).await.map_err(cannot)?;
        if left.is_some() {
            kept += 1;
            continue;
        }
        session.query_drop(format!("DROP TABLE IF EXISTS {table}")).await.map_err(cannot)?;
    }
    if kept > 0 {
        return Ok(());
    }
    let others: Option<u64> = session
        .query_first(format!(
            "SELECT (SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = {0})
                  + (SELECT COUNT(*) FROM information_schema.routines WHERE routine_schema = {0})",
            quote_literal(RECORDS)
        ))
        .await
        .map_err(cannot)?;
    match others {
        Some(0) => {
            session.query_drop(format!("DROP DATABASE IF EXISTS {}", quote_ident(RECORDS))).await.map_err(cannot)
        }
        Some(_) => Ok(()),
        None => Err(Error::transient(format!("the {side} did not say what is left of Headgate's records"))),
    }
}
