//! Open writes on the source that its fence does not stop: how a cutover refuses them, for both engines.

use crate::error::{Error, Result};

/// Refuses where there are such writers, named in `passing`; `who_must_not` says which accounts must not be used.
pub(crate) fn refuse(migration: &str, passing: &[String], who_must_not: &str) -> Result<()> {
    if passing.is_empty() {
        return Ok(());
    }
    let writers = passing.join("; ");
    tracing::warn!(migration, writers, "write transactions that the fence does not stop are open on the source");
    Err(Error::refused(format!("writes are open on the source that the fence does not stop: {writers}"))
        .remedy(format!("let these transactions end, or end them, and try again; {who_must_not}")))
}
