//! What both engines tell when the target does not take a batch, or when a row is not as it should be.

use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;

use crate::error::{Error, Result};

/// How long one batch may take. Its size is bounded, so only a lock or a lost server takes longer.
const BATCH_TIMEOUT: Duration = Duration::from_mins(10);

/// Why statements did not do what they should.
pub(crate) enum ApplyError {
    /// The order within the set mattered, or a row is not as expected.
    InTheWay(String),
    Failed(Error),
}

impl ApplyError {
    /// A statement met another number of rows than it must.
    pub(crate) fn other_rows(found: u64, expected: u64) -> Self {
        Self::InTheWay(format!("{found} rows were there where {expected} were expected"))
    }

    pub(crate) fn other_key() -> Self {
        Self::InTheWay("another row has its key".to_owned())
    }
}

/// A server that stands still ends the writing of a batch of so many changes too.
pub(crate) async fn in_time(changes: usize, writing: impl Future<Output = Result<()>>) -> Result<()> {
    timeout(BATCH_TIMEOUT, writing).await.unwrap_or_else(|_| {
        Err(Error::transient(format!(
            "the target did not take a group of {changes} changes within {} s",
            BATCH_TIMEOUT.as_secs()
        )))
    })
}

/// A row of the target is not as the source says. `recopy` is the statement that takes its table anew.
pub(crate) fn differs(verb: &str, title: &str, key: &str, why: &str, recopy: &str) -> Error {
    let key = if key.is_empty() { "that has no key" } else { key };
    Error::fatal(format!("the target differs from the source: {verb} in {title} of the row {key}: {why}"))
        .remedy(format!("something else wrote to the target: {recopy} takes the table anew"))
}
