//! The follower: reads the binary log and keeps the target a prefix of the source.

use super::{BinlogPosition, Mysql};
use crate::error::{Error, Result};
use crate::follow::Follow;
use crate::plan::Plan;
use crate::progress::Progress;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
/// Applies changes until stopped.
pub async fn run(
    _mysql: &Mysql,
    _plan: &Plan,
    _follow: Follow<BinlogPosition>,
    _progress: Arc<Progress>,
    _stop: CancellationToken,
) -> Result<()> {
    Err(Error::refused("not there"))
}
/// Applies changes until everything before the marker with this token, written to the source after the last load, is durable on the target.
pub async fn catch_up(
    _mysql: &Mysql,
    _plan: &Plan,
    _marker: &str,
    _progress: &Arc<Progress>,
    _stop: &CancellationToken,
) -> Result<bool> {
    Err(Error::refused("not there"))
}
