//! Exact snapshots of the source, and the records on the target that say what was loaded as of which position.

use super::{BinlogPosition, Mysql};
use crate::error::{Error, Result};
use crate::plan::Table;
use mysql_async::Conn;
use tokio_util::sync::CancellationToken;
/// Sessions whose transactions see exactly what was committed before one position.
pub struct Exact {
    /// Everything of the tables that was committed before it is seen, and nothing else.
    pub position: BinlogPosition,
    /// The sessions, in a read-only transaction each.
    pub sessions: Vec<Conn>,
}
/// Opens `count` sessions at one exact position, by a read lock on `tables` that lasts some milliseconds. None when `stop` was cancelled first.
pub async fn exact(
    _mysql: &Mysql,
    _tables: &[Table],
    _count: usize,
    _stop: &CancellationToken,
) -> Result<Option<Exact>> {
    Err(Error::refused("not there"))
}
/// Creates the database of records on the target; finds nothing to do where it is.
pub async fn install_records(_target: &mut Conn) -> Result<()> {
    Err(Error::refused("not there"))
}
