//! Looks every few seconds whether both sides are still defined alike, while changes are followed.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::migration::Migration;
use super::views::DEFINITIONS_REMEDY;
use crate::database::Database;
use crate::definitions::named;
use crate::plan::Plan;

/// A change of definitions is told within this and the time that reading them takes.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Reading all definitions takes seconds at most; a server that is silent for longer is asked again.
const LOOK_PATIENCE: Duration = Duration::from_mins(1);

impl<D: Database> Migration<D> {
    /// Never ends by itself. A server that does not answer is the follower's to report.
    pub(super) async fn watch_definitions(&self, database: &D, plan: &Plan) -> Infallible {
        let mut seen = None;
        loop {
            if let Ok(Ok(stamp)) = timeout(LOOK_PATIENCE, database.definitions_stamp()).await
                && seen.as_ref() != Some(&stamp)
                && let Ok(Ok(now)) = timeout(LOOK_PATIENCE, database.definitions(plan)).await
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
            tracing::info!(
                migration = self.name(),
                "both sides are defined alike again"
            );
        } else {
            tracing::warn!(
                migration = self.name(),
                differences = named(&differences),
                remedy = DEFINITIONS_REMEDY,
                "the definitions of both sides differ"
            );
        }
        live.differences = differences;
    }
}
