//! The journal's records of migrations, findings, checks and reports.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension, params};

use super::{Journal, decode, encode, now};
use crate::error::{Error, Result};
use crate::model::definition::Definition;
use crate::model::definitions::Fingerprint;
use crate::model::leg::Leg;
use crate::model::plan::Plan;
use crate::model::progress::TableProgress;
use crate::model::proof::{Checked, Proof};
use crate::model::report::CutoverReport;
use crate::model::status::{CheckStatus, State};
use crate::preflight::Check;

/// A migration as the journal has it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) definition: Definition,
    pub(crate) state: State,
    pub(crate) since: SystemTime,
    pub(crate) error: Option<String>,
    pub(crate) remedy: Option<String>,
    pub(crate) plan: Option<Plan>,
    pub(crate) copied: bool,
    pub(crate) tables: BTreeMap<String, TableProgress>,
    /// Tables that are taken anew, by schema and name.
    pub(crate) recopy: Vec<(String, String)>,
    /// The leg that runs, or whose cutover is under way.
    pub(crate) leg: Leg,
}

impl Entry {
    /// A migration that was defined just now.
    pub(crate) fn created(definition: Definition) -> Self {
        Self {
            definition,
            state: State::Created,
            since: SystemTime::now(),
            error: None,
            remedy: None,
            plan: None,
            copied: false,
            tables: BTreeMap::new(),
            recopy: Vec::new(),
            leg: Leg::FIRST,
        }
    }
}

impl Journal {
    /// Adds a migration in its first state.
    pub(crate) async fn insert(&self, definition: &Definition) -> Result<()> {
        let (name, text, at) = (definition.name.clone(), encode(definition)?, now());
        self.write(move |transaction| {
            transaction.execute(
                "INSERT INTO migrations (name, definition, state, created, since)
                 VALUES (?1, ?2, 'created', ?3, ?3)",
                params![name, text, at],
            )
        })
        .await?;
        Ok(())
    }

    /// Every migration, by name.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>> {
        type Texts = (Option<String>, Option<String>);
        type Row = (String, String, i64, Option<String>, Option<String>, Option<String>, bool, Texts, u32);
        let rows: Vec<Row> = self.read(|connection| {
            let mut rows = connection.prepare_cached(
                "SELECT definition, json_quote(state), since, error, remedy,
                     coalesce((SELECT l.plan FROM legs AS l WHERE l.migration = m.name AND l.leg = m.leg), plan),
                     copied, tables, recopy, leg
                 FROM migrations AS m ORDER BY name",
            )?;
            let fields = rows.query_map([], |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                    row.get(5)?,
                    row.get(6)?,
                    (row.get(7)?, row.get(8)?),
                    row.get(9)?,
                ))
            })?;
            fields.collect()
        })?;
        let entry = |(definition, state, since, error, remedy, plan, copied, (tables, recopy), leg): Row| {
            Ok(Entry {
                definition: decode(&definition)?,
                state: decode(&state)?,
                since: SystemTime::UNIX_EPOCH + Duration::from_millis(since.unsigned_abs()),
                error,
                remedy,
                plan: plan.map(|plan| decode(&plan)).transpose()?,
                copied,
                tables: tables.map(|tables| decode(&tables)).transpose()?.unwrap_or_default(),
                recopy: recopy.map(|recopy| decode(&recopy)).transpose()?.unwrap_or_default(),
                leg: Leg::new(leg),
            })
        };
        rows.into_iter().map(entry).collect()
    }

    /// Where a migration stands from now on, and what went wrong, if anything. A switched one stays switched.
    pub(crate) async fn set_state(&self, name: &str, state: State, error: Option<&Error>) -> Result<()> {
        let name = name.to_owned();
        let text = error.map(Error::full_text);
        let remedy = error.and_then(Error::remedy_text).map(ToOwned::to_owned);
        self.write(move |transaction| {
            transaction.execute(
                "UPDATE migrations SET state = ?2, since = ?3, error = ?4, remedy = ?5
                 WHERE name = ?1 AND state NOT IN ('switched', 'finished', 'rolledback')",
                params![name, state.name(), now(), text, remedy],
            )
        })
        .await?;
        Ok(())
    }

    /// The migration is over, in one of the two states that say so: nothing of it is left on either side but the refusal.
    pub(crate) async fn finish(&self, name: &str, state: State) -> Result<()> {
        let name = name.to_owned();
        self.write(move |transaction| {
            transaction.execute(
                "UPDATE migrations SET state = ?2, since = ?3, error = NULL, remedy = NULL WHERE name = ?1",
                params![name, state.name(), now()],
            )
        })
        .await?;
        Ok(())
    }

    /// What will move; from here on the target may have been touched.
    pub(crate) async fn set_plan(&self, name: &str, plan: &Plan) -> Result<()> {
        let (name, plan) = (name.to_owned(), encode(plan)?);
        self.write(move |transaction| {
            transaction.execute("UPDATE migrations SET plan = ?2 WHERE name = ?1", params![name, plan])
        })
        .await?;
        Ok(())
    }

    /// All tables are loaded and complete, with these numbers, those that were taken anew too; changes are followed from
    /// here on.
    pub(crate) async fn set_copied(&self, name: &str, tables: &BTreeMap<String, TableProgress>) -> Result<()> {
        let (name, tables, at) = (name.to_owned(), encode(tables)?, now());
        self.write(move |transaction| {
            transaction.execute(
                "UPDATE migrations SET copied = 1, recopy = NULL, tables = ?2, state = 'following', since = ?3
                 WHERE name = ?1",
                params![name, tables, at],
            )
        })
        .await?;
        Ok(())
    }

    /// These tables are taken anew, and what was proved of the migration is void.
    pub(crate) async fn begin_recopy(&self, name: &str, tables: &[(String, String)]) -> Result<()> {
        let (name, tables, at) = (name.to_owned(), encode(&tables)?, now());
        self.write(move |transaction| {
            transaction.execute(
                "UPDATE migrations SET recopy = ?2, state = 'copying', since = ?3, error = NULL, remedy = NULL
                 WHERE name = ?1",
                params![name, tables, at],
            )?;
            transaction.execute("DELETE FROM checks WHERE migration = ?1", [&name])?;
            transaction.execute("DELETE FROM proofs WHERE migration = ?1", [&name])
        })
        .await?;
        Ok(())
    }

    /// Replaces the findings of the last precheck.
    pub(crate) async fn set_findings(&self, name: &str, findings: &[Check]) -> Result<()> {
        let name = name.to_owned();
        let texts = findings.iter().map(encode).collect::<Result<Vec<_>>>()?;
        self.write(move |transaction| {
            transaction.execute("DELETE FROM findings WHERE migration = ?1", [&name])?;
            let mut row = transaction.prepare_cached("INSERT INTO findings (migration, finding) VALUES (?1, ?2)")?;
            texts.iter().try_for_each(|text| row.execute(params![name, text]).map(drop))
        })
        .await
    }

    /// The findings of the last precheck, in its order.
    pub(crate) fn findings(&self, name: &str) -> Result<Vec<Check>> {
        self.texts("SELECT finding FROM findings WHERE migration = ?1 ORDER BY id", name)
    }

    /// Replaces the last finished check, one row per range.
    pub(crate) async fn set_check(&self, name: &str, summary: &CheckStatus, checked: &Checked) -> Result<()> {
        let (name, summary) = (name.to_owned(), encode(summary)?);
        let fingerprint = encode(&checked.fingerprint)?;
        let texts = checked.proofs.iter().map(encode).collect::<Result<Vec<_>>>()?;
        self.write(move |transaction| {
            transaction.execute(
                "INSERT INTO checks (migration, summary, fingerprint, leg)
                 SELECT name, ?2, ?3, leg FROM migrations WHERE name = ?1
                 ON CONFLICT (migration) DO UPDATE
                 SET summary = excluded.summary, fingerprint = excluded.fingerprint, leg = excluded.leg",
                params![name, summary, fingerprint],
            )?;
            transaction.execute("DELETE FROM proofs WHERE migration = ?1", [&name])?;
            let mut row = transaction.prepare_cached("INSERT INTO proofs (migration, proof) VALUES (?1, ?2)")?;
            texts.iter().try_for_each(|text| row.execute(params![name, text]).map(drop))
        })
        .await
    }

    /// The last finished check of the leg that runs: one of another leg says nothing about it.
    pub(crate) fn leg_check(&self, name: &str) -> Result<Option<CheckStatus>> {
        self.text(
            "SELECT summary FROM checks WHERE migration = ?1
             AND leg = (SELECT leg FROM migrations WHERE name = ?1)",
            name,
        )
    }

    /// The last finished check, of whichever leg.
    pub(crate) fn check(&self, name: &str) -> Result<Option<CheckStatus>> {
        self.text("SELECT summary FROM checks WHERE migration = ?1", name)
    }

    /// What the definitions of both sides were in the last finished check of the leg that runs.
    pub(crate) fn fingerprint(&self, name: &str) -> Result<Option<Fingerprint>> {
        self.text(
            "SELECT fingerprint FROM checks WHERE migration = ?1 AND fingerprint IS NOT NULL
             AND leg = (SELECT leg FROM migrations WHERE name = ?1)",
            name,
        )
    }

    /// What the last finished check found, range by range.
    pub(crate) fn proofs(&self, name: &str) -> Result<Vec<Proof>> {
        self.texts("SELECT proof FROM proofs WHERE migration = ?1 ORDER BY id", name)
    }

    /// Adds a report.
    pub(crate) async fn add_report(&self, report: &CutoverReport) -> Result<()> {
        let (name, text) = (report.migration.clone(), encode(report)?);
        self.write(move |transaction| {
            transaction.execute("INSERT INTO reports (migration, report) VALUES (?1, ?2)", params![name, text])
        })
        .await?;
        Ok(())
    }

    /// The newest report.
    pub(crate) fn report(&self, name: &str) -> Result<Option<CutoverReport>> {
        self.text("SELECT report FROM reports WHERE migration = ?1 ORDER BY id DESC LIMIT 1", name)
    }

    /// Forgets a migration and all about it, except where its route is and the reports of its cutovers.
    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.write(move |transaction| transaction.execute("DELETE FROM migrations WHERE name = ?1", [&name])).await?;
        Ok(())
    }

    fn text<T: serde::de::DeserializeOwned>(&self, query: &str, name: &str) -> Result<Option<T>> {
        let text: Option<String> =
            self.read(|connection| connection.prepare_cached(query)?.query_row([name], |row| row.get(0)).optional())?;
        text.map(|text| decode(&text)).transpose()
    }

    fn texts<T: serde::de::DeserializeOwned>(&self, query: &str, name: &str) -> Result<Vec<T>> {
        let texts: Vec<String> = self.read(|connection| {
            let mut rows = connection.prepare_cached(query)?;
            let texts = rows.query_map([name], |row| row.get(0))?;
            texts.collect()
        })?;
        texts.iter().map(|text| decode(text)).collect()
    }
}
