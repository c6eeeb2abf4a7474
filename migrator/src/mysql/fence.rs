//! The fence: what makes the source refuse writes, also from clients that go around Headgate.

use super::{BinlogPosition, Mysql};
use crate::database::Raised;
use crate::error::{Error, Result};
use crate::plan::Plan;
use std::time::Duration;
/// A raised barrier.
pub struct Fence;
/// Sessions opened ahead of a cutover.
pub struct Ready;
/// Opens them.
pub async fn warm_up(_mysql: &Mysql, _plan: &Plan) -> Result<Ready> {
    Err(Error::refused("not there"))
}
/// Raises the barrier and writes the marker.
pub async fn raise(
    _ready: Option<Ready>,
    _mysql: &Mysql,
    _plan: &Plan,
    _token: &str,
    _patience: Duration,
) -> Result<Raised<Fence, BinlogPosition>> {
    Err(Error::refused("not there"))
}
/// Makes the refusal durable.
pub async fn seal(_mysql: &Mysql, _fence: Fence) -> Result<()> {
    Err(Error::refused("not there"))
}
/// Takes an unsealed barrier down.
pub async fn drop_fence(_mysql: &Mysql, _fence: Fence) -> Result<()> {
    Err(Error::refused("not there"))
}
/// Removes a sealed fence.
pub async fn lift(_mysql: &Mysql, _plan: &Plan) -> Result<()> {
    Err(Error::refused("not there"))
}
