//! What is done once the target serves, and the record that it was done: what the owner changes later stays changed.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure};

use super::post_data;
use crate::error::Result;
use crate::model::leg::Leg;
use crate::mysql::Mysql;
use crate::mysql::client::failed;

const INSTALL: &str =
    "CREATE TABLE IF NOT EXISTS headgate.switched (migration VARCHAR(128) NOT NULL PRIMARY KEY) ENGINE=InnoDB";

const NO_TABLE: [u16; 2] = [1049, 1146];

/// Enables the events, once. Only the first leg has created them: on a way back they were there all the time.
pub(crate) async fn run(mysql: &Mysql) -> Result<()> {
    if mysql.leg() != Leg::FIRST {
        return Ok(());
    }
    let mut target = mysql.connect_target("switched").await?;
    let cannot = |error: Failure| failed("cannot record on the target that it has switched", error);
    target.query_drop(INSTALL).await.map_err(cannot)?;
    if done(mysql, &mut target).await.map_err(cannot)? {
        return Ok(());
    }
    post_data::enable_events(mysql).await?;
    target
        .exec_drop("INSERT IGNORE INTO headgate.switched (migration) VALUES (?)", (mysql.key(),))
        .await
        .map_err(cannot)
}

async fn done(mysql: &Mysql, target: &mut Conn) -> std::result::Result<bool, Failure> {
    let found: Option<u8> =
        target.exec_first("SELECT 1 FROM headgate.switched WHERE migration = ?", (mysql.key(),)).await?;
    Ok(found.is_some())
}

/// Whether it was done on the server of this session, the target of `mysql`.
pub(crate) async fn is_done(mysql: &Mysql, target: &mut Conn) -> Result<bool> {
    match done(mysql, target).await {
        Err(Failure::Server(reported)) if NO_TABLE.contains(&reported.code) => Ok(false),
        outcome => outcome.map_err(|error| failed("cannot see whether the target has switched", error)),
    }
}
