//! Removes what a migration left on both sides.

use super::Mysql;
use crate::error::{Error, Result};

/// Removes it.
pub async fn run(_mysql: &Mysql) -> Result<()> {
    Err(Error::refused("not there"))
}
