//! What is done once the target serves, and the record that it was done: what the owner changes later stays changed.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure};

use super::post_data;
use crate::error::Result;
use crate::mysql::Mysql;
use crate::mysql::client::failed;

const INSTALL: &str =
    "CREATE TABLE IF NOT EXISTS headgate.switched (migration VARCHAR(128) NOT NULL PRIMARY KEY) ENGINE=InnoDB";

/// Enables the events, once.
pub(crate) async fn run(mysql: &Mysql) -> Result<()> {
    let mut target = mysql.connect_target("switched").await?;
    let cannot = |error: Failure| failed("cannot record on the target that it has switched", error);
    target.query_drop(INSTALL).await.map_err(cannot)?;
    if done(mysql, &mut target).await.map_err(cannot)? {
        return Ok(());
    }
    post_data::enable_events(mysql).await?;
    target
        .exec_drop("INSERT IGNORE INTO headgate.switched (migration) VALUES (?)", (mysql.name(),))
        .await
        .map_err(cannot)
}

async fn done(mysql: &Mysql, target: &mut Conn) -> std::result::Result<bool, Failure> {
    let found: Option<u8> =
        target.exec_first("SELECT 1 FROM headgate.switched WHERE migration = ?", (mysql.name(),)).await?;
    Ok(found.is_some())
}
