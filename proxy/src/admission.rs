//! Whether a route's sessions are let in: not before its cluster was looked at, and not where that would be wrong.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Whether sessions are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// They are.
    Open,
    /// It is not known yet; what the last look met, where one failed.
    Looking(Option<Arc<str>>),
    /// They are, though it cannot be known whether they should be.
    Unseen {
        /// What keeps it from being known.
        why: Arc<str>,
        /// What to do.
        remedy: Arc<str>,
    },
    /// They are not, for this reason; and what the operator can do.
    Refused {
        /// What was found.
        why: Arc<str>,
        /// What to do.
        remedy: Arc<str>,
    },
}

/// Why a session is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// Its cluster could not be looked at yet.
    NotYet,
    /// Its cluster must not serve the route.
    Away,
}

impl Turned {
    /// What a client is told, in words that are true of any server.
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotYet => "the database system cannot be reached at the moment",
            Self::Away => {
                "this database is not served here: its cluster was, or may have been, switched away from, and Headgate's \
                 journal knows nothing of that; its operator finds in SHOW ROUTES what to do"
            }
        }
    }
}

/// How long a session waits where a look failed: the next one is under way by then.
const NEXT_LOOK: Duration = Duration::from_millis(1500);

/// One route's door.
#[derive(Debug)]
pub struct AdmissionSlot(watch::Sender<Admission>);

impl Default for AdmissionSlot {
    fn default() -> Self {
        Self(watch::Sender::new(Admission::Open))
    }
}

impl AdmissionSlot {
    /// What holds from now on.
    pub fn set(&self, admission: Admission) {
        self.0.send_replace(admission);
    }

    /// What holds now.
    pub fn admission(&self) -> Admission {
        self.0.borrow().clone()
    }

    /// Lets a session in, where it may come in; waits up to `limit` for the first look, and for the next one where that
    /// failed.
    pub async fn pass(&self, limit: Duration) -> Result<(), Turned> {
        let mut watched = self.0.subscribe();
        let first = watched.wait_for(|admission| *admission != Admission::Looking(None));
        let Ok(Ok(_)) = tokio::time::timeout(limit, first).await else {
            return Err(Turned::NotYet);
        };
        let known = watched.wait_for(|admission| !matches!(admission, Admission::Looking(_)));
        match tokio::time::timeout(limit.min(NEXT_LOOK), known).await {
            Ok(Ok(admission)) => match &*admission {
                Admission::Refused { .. } => Err(Turned::Away),
                Admission::Open | Admission::Unseen { .. } => Ok(()),
                Admission::Looking(_) => Err(Turned::NotYet),
            },
            Ok(Err(_)) | Err(_) => Err(Turned::NotYet),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_waits_for_the_first_look_and_for_the_next_and_no_longer() {
        let door = Arc::new(AdmissionSlot::default());
        assert_eq!(door.pass(Duration::ZERO).await, Ok(()));
        door.set(Admission::Looking(None));
        let short = Duration::from_millis(10);
        assert_eq!(door.pass(short).await, Err(Turned::NotYet));
        let waiting = Arc::clone(&door);
        let waiting = tokio::spawn(async move { waiting.pass(Duration::from_secs(30)).await });
        tokio::task::yield_now().await;
        door.set(Admission::Refused { why: "moved".into(), remedy: "follow".into() });
        assert_eq!(waiting.await.expect("it ends"), Err(Turned::Away));
        door.set(Admission::Looking(Some("down".into())));
        let long = Duration::from_hours(1);
        assert_eq!(door.pass(long).await, Err(Turned::NotYet));
        let waiting = Arc::clone(&door);
        let waiting = tokio::spawn(async move { waiting.pass(long).await });
        tokio::task::yield_now().await;
        door.set(Admission::Open);
        assert_eq!(waiting.await.expect("it ends"), Ok(()));
    }
}
