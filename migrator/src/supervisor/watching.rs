//! Looks every few seconds whether both sides are still defined alike and nobody hides from the log, while changes are
//! followed; and whether the refusal on the old side still stands, once the route was switched.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::migration::{Migration, Worker};
use super::views::DEFINITIONS_REMEDY;
use crate::database::Database;
use crate::model::definitions::named;
use crate::model::plan::Plan;

/// A change of definitions is told within this and the time that reading them takes.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Reading all definitions takes seconds at most; a server that is silent for longer is asked again.
const LOOK_TIMEOUT: Duration = Duration::from_mins(1);

/// Every session's settings are looked through: not as often.
const HIDING_EVERY: Duration = Duration::from_secs(10);
/// Sessions that were seen to hide from the log; what comes after so many changes nothing any more.
const HIDDEN_MAX: usize = 1000;

impl<D: Database> Migration<D> {
    /// Keeps the refusal on the old side up, in a task of its own, until the migration is finished or dropped.
    pub(super) fn spawn_guard(self: &Arc<Self>, completed: bool) {
        let stop = CancellationToken::new();
        let (migration, stopped) = (Arc::clone(self), stop.clone());
        let task = tokio::spawn(async move {
            migration.look_after_switch(completed, &stopped).await;
        });
        self.live().worker = Some(Worker { stop, task });
    }

    pub(super) async fn guard(&self) {
        let Some(over) = self.switched_leg() else {
            return;
        };
        let Ok(database) = self.database_for(over) else {
            return;
        };
        let (fenced, _) = self.definition.ends(over);
        let mut reported = String::new();
        loop {
            let upheld = timeout(LOOK_TIMEOUT, database.uphold_fence()).await;
            let trouble = match upheld {
                Ok(Ok(false)) => return,
                Ok(Ok(true)) => String::new(),
                Ok(Err(error)) => error.full_text(),
                Err(_) => "it did not answer in time".to_owned(),
            };
            if trouble != reported && !trouble.is_empty() {
                tracing::warn!(
                    migration = self.name(),
                    source = fenced,
                    trouble,
                    "it cannot be seen whether the old side still refuses writes; it is looked at again"
                );
            }
            reported = trouble;
            sleep(LOOK_EVERY).await;
        }
    }

    /// Remembers who hides from the log, also after they have gone.
    async fn look_for_hidden(&self, database: &D) {
        let Ok(Ok(found)) = timeout(LOOK_TIMEOUT, database.hiding()).await else {
            return;
        };
        let now = SystemTime::now();
        let mut live = self.live();
        for what in found {
            let room = live.hidden.len() < HIDDEN_MAX;
            match live.hidden.get_mut(&what) {
                Some(seen) => *seen = now,
                None if room => {
                    tracing::warn!(migration = self.name(), session = what, "a session hides from the log");
                    live.hidden.insert(what, now);
                }
                None => {}
            }
        }
    }

    /// Never ends by itself. A server that does not answer is the follower's to report.
    pub(super) async fn watch_definitions(&self, database: &D, plan: &Plan) -> Infallible {
        let mut seen = None;
        let mut looked: Option<Instant> = None;
        loop {
            if looked.is_none_or(|looked| looked.elapsed() >= HIDING_EVERY) {
                looked = Some(Instant::now());
                self.look_for_hidden(database).await;
            }
            if let Ok(Ok(stamp)) = timeout(LOOK_TIMEOUT, database.definitions_stamp()).await
                && seen.as_ref() != Some(&stamp)
                && let Ok(Ok(now)) = timeout(LOOK_TIMEOUT, database.definitions(plan)).await
            {
                self.tell_differences(now.differences);
                seen = Some(stamp);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn tell_differences(&self, differences: Vec<String>) {
        let mut live = self.live();
        if live.differences == differences {
            return;
        }
        if differences.is_empty() {
            tracing::info!(migration = self.name(), "both sides are defined alike again");
        } else {
            tracing::warn!(
                migration = self.name(),
                differences = named(&differences),
                remedy = DEFINITIONS_REMEDY,
                "the definitions of both sides differ"
            );
        }
        live.differences_since = (!differences.is_empty()).then(SystemTime::now);
        live.differences = differences;
    }
}
