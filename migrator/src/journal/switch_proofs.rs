//! The journal's records of the proofs of switches. They outlive their migration, as the reports do.

use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension, params};

use super::{Journal, decode, encode, now};
use crate::error::Result;
use crate::model::leg::Leg;
use crate::model::switch_proof::{SwitchProof, SwitchVerdict};

impl Journal {
    /// The proof of a switch begins.
    pub(crate) async fn begin_switch_proof(&self, name: &str, leg: Leg, epoch: u64) -> Result<()> {
        let (name, leg, epoch, at) = (name.to_owned(), leg.number(), epoch.cast_signed(), now());
        self.write(move |transaction| {
            transaction.execute(
                "INSERT INTO switch_proofs (migration, leg, epoch, started) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (migration, epoch) DO NOTHING",
                params![name, leg, epoch, at],
            )
        })
        .await?;
        Ok(())
    }

    /// What it came to.
    pub(crate) async fn end_switch_proof(&self, name: &str, epoch: u64, verdict: &SwitchVerdict) -> Result<()> {
        let (name, epoch, verdict, at) = (name.to_owned(), epoch.cast_signed(), encode(verdict)?, now());
        self.write(move |transaction| {
            transaction.execute(
                "UPDATE switch_proofs SET finished = ?3, verdict = ?4 WHERE migration = ?1 AND epoch = ?2",
                params![name, epoch, at, verdict],
            )
        })
        .await?;
        Ok(())
    }

    /// The newest proof of a switch that ended this leg; without a verdict where it was not finished.
    pub(crate) fn switch_proof(&self, name: &str, leg: Leg) -> Result<Option<SwitchProof>> {
        type Row = (i64, i64, Option<i64>, Option<String>);
        let row: Option<Row> = self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT epoch, started, finished, verdict FROM switch_proofs
                     WHERE migration = ?1 AND leg = ?2 ORDER BY epoch DESC LIMIT 1",
                )?
                .query_row(params![name, leg.number()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                .optional()
        })?;
        let at = |millis: i64| SystemTime::UNIX_EPOCH + Duration::from_millis(millis.unsigned_abs());
        row.map(|(epoch, started, finished, verdict)| {
            let verdict: Option<SwitchVerdict> = verdict.map(|verdict| decode(&verdict)).transpose()?;
            let count = |number: fn(&SwitchVerdict) -> u64| verdict.as_ref().map_or(0, number);
            Ok(SwitchProof {
                epoch: epoch.unsigned_abs(),
                started: Some(at(started)),
                finished: finished.map(at),
                ranges_done: count(|verdict| verdict.ranges),
                ranges: count(|verdict| verdict.ranges),
                rows: count(|verdict| verdict.rows),
                verdict,
            })
        })
        .transpose()
    }
}
