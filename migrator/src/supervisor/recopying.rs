//! Tables that are taken anew: after a check that differs, or after something else wrote to the target.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::migration::{Busy, Migration};
use crate::backoff::Backoff;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::model::plan::{Plan, Table};
use crate::model::progress::Stage;
use crate::model::status::State;

/// Tables that are named in a remedy.
const NAMED_MAX: usize = 5;

impl<D: Database> Migration<D> {
    /// Records that a table is taken anew, and has the worker begin with that.
    pub(super) async fn begin_recopy(self: &Arc<Self>, busy: Busy, schema: Option<&str>, table: &str) -> Result<()> {
        let name = self.name();
        let (state, copied, plan) = {
            let live = self.live();
            (live.state, live.copied, live.plan.clone())
        };
        let possible = matches!(state, State::Following | State::Copying | State::Stopped | State::Failed);
        let Some(plan) = plan.filter(|_| copied && possible) else {
            return Err(Error::refused(format!("migration {name} is {state}: no table of it can be taken anew"))
                .remedy(match state {
                    State::Switched | State::Finished | State::RolledBack => {
                        "the target serves the route: what is there is live".to_owned()
                    }
                    State::Copying => format!("wait until SHOW MIGRATION STATUS {name} says following"),
                    _ => format!("START MIGRATION {name} copies all tables"),
                }));
        };
        self.database()?;
        let found = find(name, &plan, schema, table)?;
        let found = (found.schema.clone(), found.name.clone());
        self.halt().await;
        let mut recopy = self.live().recopy.clone();
        if !recopy.contains(&found) {
            recopy.push(found);
        }
        self.journal.begin_recopy(name, &recopy).await?;
        self.follow().residue().void();
        {
            let mut live = self.live();
            live.recopy = recopy;
            live.enter(State::Copying);
            live.note(None);
        }
        self.spawn_worker(true);
        drop(busy);
        Ok(())
    }

    /// Loads what is to be taken anew, before anything is followed again.
    pub(super) async fn recopied(
        &self,
        database: &D,
        plan: &Plan,
        stop: &CancellationToken,
        backoff: &mut Backoff,
    ) -> Result<()> {
        let recopy = self.live().recopy.clone();
        if recopy.is_empty() {
            return Ok(());
        }
        let anew = |table: &&Table| {
            let mut named = recopy.iter();
            named.any(|(schema, name)| *schema == table.schema && *name == table.name)
        };
        let tables: Vec<Table> = plan.tables.iter().filter(anew).cloned().collect();
        let titles: Vec<String> = self.progress.tables().into_keys().collect();
        let ours = |title: &String| tables.iter().any(|table| is_titled(table, title));
        let titles: Vec<String> = titles.into_iter().filter(ours).collect();
        self.at_work(&format!("copying anew: {}", titles.join(", ")));
        for title in &titles {
            self.progress.update(title, |numbers| {
                (numbers.rows_copied, numbers.bytes_copied) = (0, 0);
                numbers.stage = Stage::Waiting;
            });
        }
        let copying = database.recopy(&tables, Arc::clone(&self.progress), stop.clone());
        self.observed(copying, backoff).await?;
        if stop.is_cancelled() {
            return Ok(());
        }
        let tables = self.progress.tables();
        self.journal.set_copied(self.name(), &tables).await?;
        let mut live = self.live();
        live.recopy.clear();
        live.enter(State::Following);
        tracing::info!(migration = self.name(), tables = titles.join(", "), "taken anew");
        Ok(())
    }

    /// The statements that take anew what differed in the last check; nothing where no table did.
    pub(super) fn recopy_remedy(&self) -> Result<Option<String>> {
        let plan = self.live().plan.clone();
        let proofs = self.journal.proofs(self.name())?;
        let differs = |table: &&Table| {
            let mut differing = proofs.iter().filter(|proof| !proof.equal());
            differing.any(|proof| is_titled(table, &proof.table))
        };
        let tables = plan.iter().flat_map(|plan| plan.tables.iter());
        let statements: Vec<String> =
            tables.filter(differs).take(NAMED_MAX).map(|table| table.recopying(self.name())).collect();
        Ok((!statements.is_empty()).then(|| statements.join("; ")))
    }
}

/// Whether checks and the progress name the table so: quoted where the engine would need it.
fn is_titled(table: &Table, title: &str) -> bool {
    let bare = |text: &str| text.replace(['"', '`'], "");
    bare(title) == bare(&format!("{}.{}", table.schema, table.name))
}

fn find<'a>(migration: &str, plan: &'a Plan, schema: Option<&str>, name: &str) -> Result<&'a Table> {
    let named = |same: fn(&str, &str) -> bool| -> Vec<&Table> {
        let is_named =
            |table: &&Table| same(&table.name, name) && schema.is_none_or(|schema| same(&table.schema, schema));
        plan.tables.iter().filter(is_named).collect()
    };
    let mut found = named(|one, other| one == other);
    if found.is_empty() {
        // The console takes words without quotes in small letters.
        found = named(str::eq_ignore_ascii_case);
    }
    match found.as_slice() {
        [only] => Ok(only),
        [] if plan.parents.iter().any(|(_, parent)| parent == name) => {
            Err(Error::refused(format!("table {name} has no rows of its own"))
                .remedy("name its partitions, one after the other"))
        }
        [] => Err(Error::refused(format!("migration {migration} moves no table {name}"))
            .remedy(format!("SHOW MIGRATION TABLES {migration} lists all"))),
        [first, ..] => {
            Err(Error::refused(format!("migration {migration} moves {} tables of the name {name}", found.len()))
                .remedy(format!("name its schema: {}", first.recopying(migration))))
        }
    }
}
