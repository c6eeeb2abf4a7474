//! Whether something on the target would fire for what is applied: triggers are put back for a switch, and must be out of the way
//! again where it is undone and changes are followed on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::error::{Error, Result};

/// How long writers wait for the target's triggers while the source's fence is taken down.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Whether it may.
#[derive(Debug, Default)]
pub(crate) struct Fires {
    may: AtomicBool,
    /// Held while it is taken out of the way.
    clearing: Mutex<()>,
}

impl Fires {
    /// Nothing would fire any more.
    pub(crate) fn out_of_the_way(&self) {
        self.may.store(false, Ordering::SeqCst);
    }

    /// Waits until what may fire is out of the way, and refuses to apply anything where it did not get there: a follower that
    /// begins anew sees to it first.
    pub(crate) async fn refuse(&self) -> Result<()> {
        if !self.may.load(Ordering::SeqCst) {
            return Ok(());
        }
        // Nobody holds it for longer than the limit.
        drop(self.clearing.lock().await);
        if self.may.load(Ordering::SeqCst) {
            return Err(Error::transient("the target has triggers again that what is applied would fire"));
        }
        Ok(())
    }

    /// Has what was put back taken out of the way again. The source must accept writes whatever became of the target, so that
    /// nothing fails here: where the target does not answer, nothing more is applied before a follower has begun anew.
    pub(crate) async fn clear(&self, migration: &str, clearing: impl Future<Output = Result<()>>) {
        let _clearing = self.clearing.lock().await;
        self.may.store(true, Ordering::SeqCst);
        let late = || Error::transient("the target did not answer in time");
        match timeout(TIMEOUT, clearing).await.unwrap_or_else(|_| Err(late())) {
            Ok(()) => self.out_of_the_way(),
            Err(error) => {
                tracing::warn!(migration, %error, "triggers stay on the target until changes are applied again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_applied_waits_for_triggers_to_go_and_is_refused_where_they_stay() {
        let fires = Fires::default();
        assert!(fires.refuse().await.is_ok());
        let slowly = async {
            tokio::time::sleep(TIMEOUT / 2).await;
            Ok(())
        };
        let ((), applied) = tokio::join!(fires.clear("m", slowly), fires.refuse());
        assert!(applied.is_ok(), "they are gone by then");
        fires.clear("m", pending()).await;
        assert!(fires.refuse().await.is_err());
        fires.clear("m", ready(Err(Error::transient("the target is gone")))).await;
        assert!(fires.refuse().await.is_err());
        fires.out_of_the_way();
        assert!(fires.refuse().await.is_ok());
    }
}
