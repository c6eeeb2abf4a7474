//! Reads from the source’s catalogue what will move.

use super::Mysql;
use crate::error::{Error, Result};
use crate::plan::Plan;
/// Reads the plan.
pub async fn read(_mysql: &Mysql) -> Result<Plan> {
    Err(Error::refused("not there"))
}
