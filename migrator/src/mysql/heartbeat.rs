//! The heartbeat and the marker: rows that Headgate writes to the source so that its binary log carries them.

use crate::error::{Error, Result};
use mysql_async::Conn;

/// What a signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Tells how far behind the target is.
    Beat,
    /// Tells that everything before it has come.
    Marker,
}
/// Creates the table of signals on the source; finds nothing to do where it is.
pub async fn install(_source: &mut Conn) -> Result<()> {
    Err(Error::refused("not there"))
}
/// Writes one signal of the migration and commits it.
pub async fn signal(
    _source: &mut Conn,
    _migration: &str,
    _signal: Signal,
    _token: &str,
) -> Result<()> {
    Err(Error::refused("not there"))
}
