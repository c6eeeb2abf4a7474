//! Loads every table.

use super::Mysql;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::progress::Progress;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
/// Loads what is not loaded yet.
pub async fn run(
    _mysql: &Mysql,
    _plan: &Plan,
    _progress: Arc<Progress>,
    _stop: CancellationToken,
) -> Result<()> {
    Err(Error::refused("not there"))
}
