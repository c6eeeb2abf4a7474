//! Creates the target: its databases, the accounts, the tables without secondary indexes.

use super::Mysql;
use crate::error::{Error, Result};
use crate::plan::Plan;
/// Prepares the target.
pub async fn prepare(_mysql: &Mysql, _plan: &Plan) -> Result<()> {
    Err(Error::refused("not there"))
}
