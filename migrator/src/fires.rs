//! Whether something on the target would fire for what is applied: triggers are put back for a switch, and must be out of the way
//! again where it is undone and changes are followed on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use crate::error::{Error, Result};

/// How long writers wait for the target's triggers while the source's fence is taken down.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Whether it may.
#[derive(Debug, Default)]
pub(crate) struct Fires(AtomicBool);

impl Fires {
    /// Nothing would fire any more.
    pub(crate) fn out_of_the_way(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    /// Refuses to apply anything while something may fire: a follower that begins anew sees to it first.
    pub(crate) fn refuse(&self) -> Result<()> {
        if self.0.load(Ordering::SeqCst) {
            return Err(Error::transient("the target has triggers again that what is applied would fire"));
        }
        Ok(())
    }

    /// Has what was put back taken out of the way again. The source must accept writes whatever became of the target, so that
    /// nothing fails here: where the target does not answer, nothing more is applied before a follower has begun anew.
    pub(crate) async fn clear(&self, migration: &str, clearing: impl Future<Output = Result<()>>) {
        self.0.store(true, Ordering::SeqCst);
        let late = || Error::transient("the target did not answer in time");
        match timeout(TIMEOUT, clearing).await.unwrap_or_else(|_| Err(late())) {
            Ok(()) => self.out_of_the_way(),
            Err(error) => {
                tracing::warn!(migration, %error, "triggers stay on the target until changes are applied again");
            }
        }
    }
}
