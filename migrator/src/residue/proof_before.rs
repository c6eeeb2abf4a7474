//! Rows that changed since the last check are compared by their keys: a few at a time while changes are followed, so that
//! few are left, and all that are left inside the hold, before the decision.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::{ChangedKeys, Generation, Key, Residue};
use crate::database::KeyComparison;
use crate::error::{Error, Result};
use crate::model::report::Residual;

/// Keys of one statement inside the hold.
const AT_ONCE: usize = 500;
/// Statements by which equal keys are told from those that are still on their way.
const ASKED_MAX: usize = 24;
/// Rows that are named in a message.
const NAMED_MAX: usize = 10;

/// What compares the rest before the decision: opened ahead of the hold.
pub(crate) struct ProofBefore<D: KeyComparison> {
    sessions: Mutex<D::KeySessions>,
    residue: Residue,
    budget: Duration,
}

impl<D: KeyComparison> ProofBefore<D> {
    pub(crate) fn new(sessions: D::KeySessions, residue: Residue, budget: Duration) -> Self {
        Self { sessions: Mutex::new(sessions), residue, budget }
    }

    /// Compares the rows of all keys that are left, while nothing moves on either side. Fails where one differs, and where
    /// they do not fit into the budget.
    pub(crate) async fn prove(&self, database: &D, migration: &str) -> Result<Residual> {
        let begun = Instant::now();
        let left = self.residue.left().map_err(|unknown| unknown.error(migration))?;
        let all: usize = left.iter().map(|(_, keys)| keys.len()).sum();
        let mut sessions = self.sessions.lock().await;
        let mut compared = 0;
        let comparing = async {
            for (table, keys) in &left {
                for some in keys.chunks(AT_ONCE) {
                    let mut differing = database.differing_rows(&mut sessions, table, some).await?;
                    if !differing.is_empty() {
                        differing.truncate(NAMED_MAX);
                        return Err(different(table, &differing, migration));
                    }
                    compared += some.len();
                }
            }
            Ok(())
        };
        let ended = timeout(self.budget, comparing).await;
        ended.unwrap_or_else(|_| Err(over_budget(all, compared, self.budget, migration)))?;
        Ok(Residual { keys: u64::try_from(all).unwrap_or(u64::MAX), took: begun.elapsed() })
    }
}

fn different(table: &str, rows: &[String], migration: &str) -> Error {
    Error::fatal(format!("rows that changed since the check differ on both sides: {table}: {}", rows.join("; ")))
        .remedy(format!(
            "CHECK MIGRATION {migration} compares everything; SHOW MIGRATION CHECK STATUS {migration} then names what \
             takes the tables anew that differ"
        ))
}

fn over_budget(all: usize, compared: usize, budget: Duration, migration: &str) -> Error {
    Error::transient(format!(
        "{all} keys changed since the check and were left to be proved before the switch; {compared} of them could be \
         compared within the check_budget of {} ms",
        budget.as_millis()
    ))
    .remedy(format!(
        "wait until SHOW MIGRATION STATUS {migration} shows fewer unproved_keys, or CHECK MIGRATION {migration} and try \
         again soon after it; or raise check_budget, and max_hold with it"
    ))
}

/// Those of the keys whose rows are equal on both sides at this moment. Rows on their way to the target are not.
pub(crate) async fn equal_now<D: KeyComparison>(
    database: &D,
    sessions: &mut D::KeySessions,
    changed: &ChangedKeys,
) -> Result<Vec<(Key, Generation)>> {
    let mut equal = Vec::new();
    let mut parts = vec![changed.keys.as_slice()];
    for _ in 0..ASKED_MAX {
        let Some(part) = parts.pop() else {
            break;
        };
        let keys: Vec<Key> = part.iter().map(|(key, _)| key.clone()).collect();
        if database.differing_rows(sessions, &changed.table, &keys).await?.is_empty() {
            equal.extend_from_slice(part);
        } else if part.len() > 1 {
            let (first, second) = part.split_at(part.len() / 2);
            parts.extend([first, second]);
        }
    }
    Ok(equal)
}
