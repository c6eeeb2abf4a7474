//! The journal's records of legs: which runs, what the next one would move, and whether going back still loses nothing.

use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension, params};

use super::{Journal, decode, encode, now};
use crate::error::{Error, Result};
use crate::model::leg::Leg;
use crate::model::plan::Plan;

/// What the journal has of a leg that a switch began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LegRecord {
    /// When the switch was decided that began it; `None` while it is only armed.
    pub(crate) begun: Option<SystemTime>,
    /// It cannot go on without the loss of a change: since when, why, and what may mend it.
    pub(crate) lost: Option<(SystemTime, String, Option<String>)>,
}

impl Journal {
    /// The next leg is about to be armed: from here on something of it may be on both sides.
    pub(crate) async fn begin_arming(&self, name: &str, leg: Leg, plan: &Plan) -> Result<()> {
        let (name, plan) = (name.to_owned(), encode(plan)?);
        self.write(move |transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO legs (migration, leg, plan) VALUES (?1, ?2, ?3)",
                params![name, leg.number(), plan],
            )
        })
        .await?;
        Ok(())
    }

    /// It was seen to work: a switch begins it.
    pub(crate) async fn armed(&self, name: &str, leg: Leg) -> Result<()> {
        let name = name.to_owned();
        self.write(move |transaction| {
            transaction
                .execute("UPDATE legs SET armed = 1 WHERE migration = ?1 AND leg = ?2", params![name, leg.number()])
        })
        .await?;
        Ok(())
    }

    /// Nothing of a leg that never began is left.
    pub(crate) async fn disarmed(&self, name: &str, leg: Leg) -> Result<()> {
        let name = name.to_owned();
        self.write(move |transaction| {
            transaction.execute(
                "DELETE FROM legs WHERE migration = ?1 AND leg = ?2 AND begun IS NULL",
                params![name, leg.number()],
            )
        })
        .await?;
        Ok(())
    }

    /// A change can be lost on the way of this leg, or `None`: it goes on, and lost nothing.
    pub(crate) async fn set_lost(&self, name: &str, leg: Leg, error: Option<&Error>) -> Result<()> {
        let name = name.to_owned();
        let (why, remedy) = (error.map(Error::full_text), error.and_then(Error::remedy_text).map(ToOwned::to_owned));
        self.write(move |transaction| {
            let at = why.is_some().then(now);
            transaction.execute(
                "UPDATE legs SET lost = ?3, why = ?4, remedy = ?5 WHERE migration = ?1 AND leg = ?2",
                params![name, leg.number(), at, why, remedy],
            )
        })
        .await?;
        Ok(())
    }

    /// What a leg moves.
    pub(crate) fn leg_plan(&self, name: &str, leg: Leg) -> Result<Option<Plan>> {
        let text: Option<Option<String>> = self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT plan FROM legs WHERE migration = ?1 AND leg = ?2
                     UNION ALL SELECT plan FROM migrations WHERE name = ?1 AND ?2 = 1",
                )?
                .query_row(params![name, leg.number()], |row| row.get(0))
                .optional()
        })?;
        text.flatten().map(|text| decode(&text)).transpose()
    }

    /// What is recorded of a leg; `None` where nothing of it was ever made, and of the first.
    pub(crate) fn leg(&self, name: &str, leg: Leg) -> Result<Option<LegRecord>> {
        type Row = (Option<i64>, Option<i64>, Option<String>, Option<String>);
        let row: Option<Row> = self.read(|connection| {
            connection
                .prepare_cached("SELECT begun, lost, why, remedy FROM legs WHERE migration = ?1 AND leg = ?2")?
                .query_row(params![name, leg.number()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                .optional()
        })?;
        let time = |at: i64| SystemTime::UNIX_EPOCH + Duration::from_millis(at.unsigned_abs());
        Ok(row.map(|(begun, lost, why, remedy)| LegRecord {
            begun: begun.map(time),
            lost: lost.map(|at| (time(at), why.unwrap_or_default(), remedy)),
        }))
    }
}
