//! Everything that can say no before anything is touched.

use super::Mysql;
use crate::error::{Error, Result};
use crate::preflight::Check;
/// Runs all checks.
pub async fn run(_mysql: &Mysql) -> Result<Vec<Check>> {
    Err(Error::refused("not there"))
}
