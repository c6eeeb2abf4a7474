//! Counters: AUTO_INCREMENT and sequences, set past the source’s.

use super::Mysql;
use crate::error::{Error, Result};
use crate::plan::Plan;
use mysql_async::Conn;
/// Sets the target's counters.
pub async fn advance(_mysql: &Mysql, _plan: &Plan, _source: Conn, _target: Conn) -> Result<()> {
    Err(Error::refused("not there"))
}
