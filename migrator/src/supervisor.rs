//! All migrations of one Headgate: the operator's statements come in here, and what runs is kept running.

mod checking;
mod cutover_request;
mod marks;
mod migration;
mod next_leg;
mod next_steps;
mod proving;
mod recopying;
mod reverifying;
mod sessions;
/// Routes that are looked at together.
const LOOKED_AT_TOGETHER: usize = 8;

#[cfg(test)]
mod tests;
mod views;
mod watching;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::timeout;

use crate::cutover::Cutover;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::journal::{Entry, Journal};
use crate::model::definition::{Definition, Options};
use crate::model::leg::Leg;
use crate::model::progress::TableProgress;
use crate::model::proof::Proof;
use crate::model::report::{CutoverReport, Kind};
use crate::model::status::{CheckStatus, State, Status, Summary, WayBack};
use crate::preflight::{Check, Level};
use crate::traffic::Traffic;
use migration::Migration;

/// Builds the two databases of a migration; fails where the definition names what the configuration lacks.
pub type Factory<D> = Box<dyn Fn(&Definition) -> Result<D> + Send + Sync>;

/// All migrations of one Headgate.
///
/// The order at the start of the process: open the [`Journal`], build the routes with [`Journal::route_clusters`] over
/// the configuration, [`Supervisor::open`] (closes the gates that must be closed), open the listener,
/// [`Supervisor::resume`] (settles what was under way, which opens these gates again, and goes on).
pub struct Supervisor<D: Database> {
    journal: Journal,
    traffic: Arc<dyn Traffic>,
    factory: Factory<D>,
    migrations: RwLock<BTreeMap<String, Arc<Migration<D>>>>,
    /// Definitions come and go one at a time.
    defining: tokio::sync::Mutex<()>,
    /// Names that strangers come up with are looked at a few at a time.
    looking: tokio::sync::Semaphore,
    /// Routes and clusters where nothing was in the way: sessions of the default route come and go.
    unmarked_names: parking_lot::Mutex<BTreeSet<(String, String)>>,
}

const PRECHECK_TIMEOUT: Duration = Duration::from_mins(2);
const CLEAN_UP_TIMEOUT: Duration = Duration::from_mins(2);
/// Thousands of tables take their time.
const REMOVE_TIMEOUT: Duration = Duration::from_mins(10);
/// The longest hold and what comes after it.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(75);

impl<D: Database> Supervisor<D> {
    /// Reads the journal. Call it before the listener opens: it closes the gate of every route whose cutover was
    /// interrupted and must be undone or finished first, and [`Supervisor::resume`] opens it again.
    pub fn open(journal: Journal, traffic: Arc<dyn Traffic>, factory: Factory<D>) -> Result<Arc<Self>> {
        let mut migrations = BTreeMap::new();
        for entry in journal.entries()? {
            let database = factory(&entry.definition);
            let migration = Migration::new(entry, database, journal.clone(), Arc::clone(&traffic));
            if let Some(state) = migration.unsettled()? {
                // Nobody can undo or finish it without its databases.
                migration.database()?;
                // Before the one the fence of the source is up, before the other that of a target which served before.
                if matches!(state, Cutover::Undoing { .. } | Cutover::Switching) {
                    traffic.hold(&migration.definition.route)?;
                }
            }
            migrations.insert(migration.name().to_owned(), Arc::new(migration));
        }
        let supervisor = Self {
            journal,
            traffic,
            factory,
            migrations: RwLock::new(migrations),
            defining: tokio::sync::Mutex::default(),
            looking: tokio::sync::Semaphore::new(LOOKED_AT_TOGETHER),
            unmarked_names: parking_lot::Mutex::default(),
        };
        supervisor.shut_doors()?;
        Ok(Arc::new(supervisor))
    }

    /// The routes that cutovers decided about, and the cluster each is on: they overrule the configuration.
    /// [`Journal::route_clusters`] tells the same before there is a supervisor.
    pub fn route_clusters(&self) -> Result<BTreeMap<String, String>> {
        self.journal.route_clusters()
    }

    /// Goes on after a start of the process: undoes or finishes what a cutover left, then lets every migration that
    /// was running run on. Returns at once; the work goes on behind. Needs a tokio runtime.
    pub fn resume(self: &Arc<Self>) {
        self.look_for_marks();
        for migration in self.all() {
            // What has ended left nothing behind, and its clusters may be gone.
            if migration.has_ended() {
                continue;
            }
            match migration.occupy("the recovery") {
                Ok(busy) => drop(tokio::spawn(migration.resume(busy))),
                Err(error) => tracing::error!(%error, "a migration cannot go on"),
            }
        }
    }

    /// Stops all work without changing any state, for the end of the process: a cutover under way is waited for.
    pub async fn shutdown(&self) {
        let stopping = self.all().into_iter().map(|migration| async move {
            let name = migration.name().to_owned();
            match timeout(SHUTDOWN_TIMEOUT, migration.wait_until_free("the shutdown")).await {
                Ok(_busy) => {
                    migration.stop_proof();
                    migration.halt().await;
                }
                Err(_) => {
                    tracing::warn!(migration = name, "its work did not end before the process");
                }
            }
        });
        futures_util::future::join_all(stopping).await;
    }

    /// Defines a migration. Touches no database.
    pub async fn create(&self, definition: Definition) -> Result<()> {
        definition.validate()?;
        let _alone = self.defining.lock().await;
        self.admit(&definition)?;
        let database = (self.factory)(&definition)?;
        self.journal.insert(&definition).await?;
        let name = definition.name.clone();
        let entry = Entry::created(definition);
        let migration = Migration::new(entry, Ok(database), self.journal.clone(), Arc::clone(&self.traffic));
        self.migrations.write().insert(name, Arc::new(migration));
        Ok(())
    }

    fn admit(&self, definition: &Definition) -> Result<()> {
        let Definition { name, source, route, .. } = definition;
        // Asking names a route that does not exist before anything is written down.
        self.unmarked(route)?;
        for other in self.all() {
            if other.name() == name {
                return Err(Error::refused(format!("migration {name} exists already"))
                    .remedy(format!("use another name, or DROP MIGRATION {name} if that one is not needed any more")));
            }
            if other.definition.route == *route && !other.has_ended() {
                let other = other.name();
                return Err(Error::refused(format!("migration {other} moves route {route} already"))
                    .remedy(format!("DROP MIGRATION {other} first")));
            }
        }
        match self.journal.route_clusters()?.get(route) {
            Some(cluster) if cluster != source => {
                Err(Error::refused(format!("route {route} is on cluster {cluster}, not on {source}"))
                    .remedy(format!("CREATE MIGRATION {name} FROM {cluster} TO …")))
            }
            _ => Ok(()),
        }
    }

    /// Runs every check that can say no, stores and returns all findings.
    pub async fn precheck(&self, name: &str) -> Result<Vec<Check>> {
        let migration = self.find(name)?;
        let _busy = migration.occupy("a precheck")?;
        if migration.live().plan.is_some() {
            return Err(Error::refused(format!("migration {name} has begun; a precheck comes before"))
                .remedy(format!("SHOW MIGRATION CHECKS {name} shows what the last one found")));
        }
        self.run_precheck(&migration).await
    }

    async fn run_precheck(&self, migration: &Migration<D>) -> Result<Vec<Check>> {
        let Ok(findings) = timeout(PRECHECK_TIMEOUT, migration.database()?.preflight()).await else {
            return Err(
                Error::transient("the precheck did not end").remedy("look whether both clusters answer, and try again")
            );
        };
        let mut findings = findings?;
        findings.extend(self.mark_findings(migration).await?);
        findings.push(migration.other_routes_finding()?);
        self.journal.set_findings(migration.name(), &findings).await?;
        let good = findings.iter().all(|finding| finding.level != Level::Error);
        let state = if good { State::Prechecked } else { State::Created };
        let current = migration.live().state;
        if matches!(current, State::Created | State::Prechecked) && current != state {
            migration.enter(state, None).await?;
        }
        Ok(findings)
    }

    /// Starts or goes on. The first start runs the precheck; its errors block, all of them in the message.
    pub async fn start(self: &Arc<Self>, name: &str) -> Result<()> {
        let migration = self.find(name)?;
        let _busy = migration.occupy("a start")?;
        let (state, begun, copied) = {
            let live = migration.live();
            let complete = live.copied && live.recopy.is_empty();
            (live.state, live.plan.is_some(), complete)
        };
        if state == State::Switched && migration.take_up_way_back().await? {
            return Ok(());
        }
        if state.is_after_switch() || matches!(state, State::Copying | State::Following | State::Cutover) {
            return Err(Error::refused(format!("migration {name} is {state} already"))
                .remedy(format!("SHOW MIGRATION STATUS {name}")));
        }
        migration.database()?;
        self.unmarked(&migration.definition.route)?;
        if !begun {
            blocked(name, &self.run_precheck(&migration).await?)?;
        }
        migration.enter(if copied { State::Following } else { State::Copying }, None).await?;
        migration.spawn_worker(true);
        Ok(())
    }

    /// Stops the work at a place from which a start goes on.
    pub async fn stop(&self, name: &str) -> Result<()> {
        let migration = self.find(name)?;
        let _busy = migration.interrupt("a stop").await?;
        let state = migration.live().state;
        if !matches!(state, State::Copying | State::Following) {
            return Err(Error::refused(format!("migration {name} is {state}: nothing runs that could stop"))
                .remedy(format!("SHOW MIGRATION STATUS {name}")));
        }
        migration.halt().await;
        migration.enter(State::Stopped, None).await
    }

    /// Takes a table anew: what is on the target goes, and its rows are loaded again while everything else of the
    /// migration waits. What was proved is void. `schema` is needed where several tables have the name.
    pub async fn recopy(&self, name: &str, schema: Option<&str>, table: &str) -> Result<()> {
        let migration = self.find(name)?;
        let busy = migration.interrupt("a recopy").await?;
        migration.begin_recopy(busy, schema, table).await
    }

    /// Begins to compare both sides; [`Supervisor::check_status`] tells how it goes.
    #[expect(clippy::unused_async, reason = "every statement of the console is awaited alike")]
    pub async fn check(self: &Arc<Self>, name: &str) -> Result<()> {
        self.find(name)?.begin_check()
    }

    /// Runs the cutover up to the decision, then opens again on the source. An undone one is an `Ok` report too.
    pub async fn rehearse(self: &Arc<Self>, name: &str, options: Options) -> Result<CutoverReport> {
        self.find(name)?.begin_cut(Kind::Rehearsal, options).await
    }

    /// Switches the route. Refused where it cannot succeed now; one that had to be undone is an `Ok` report whose
    /// outcome says so. Goes on when the caller goes away.
    pub async fn cutover(self: &Arc<Self>, name: &str, options: Options) -> Result<CutoverReport> {
        self.find(name)?.begin_cut(Kind::Cutover, options).await
    }

    /// Goes back to the source, as a cutover in the other direction: what was written since the switch comes along.
    pub async fn rollback(self: &Arc<Self>, name: &str, options: Options) -> Result<CutoverReport> {
        self.find(name)?.begin_cut(Kind::Rollback, options).await
    }

    /// Closes a migration after its switch, and with it the way back: removes what it left on both sides. The refusal on the source stays, as do
    /// the report and the history. Finishing twice changes nothing.
    ///
    /// Refused before it is proved that both sides were equal at the switch, unless that is waived.
    pub async fn finish(&self, name: &str, waive_proof: bool) -> Result<()> {
        let migration = self.find(name)?;
        let _busy = migration.occupy("a finish")?;
        let state = migration.live().state;
        let over = migration.switched_leg();
        let ends_as = match (state, over) {
            (State::Finished, _) => return Ok(()),
            (State::Cutover, _) | (_, None) => None,
            (_, Some(over)) if over.is_way_back() => Some(State::RolledBack),
            (_, Some(_)) => Some(State::Finished),
        };
        let ends_as = match ends_as {
            Some(ends_as) if migration.unsettled()?.is_none() => ends_as,
            _ => {
                return Err(Error::refused(format!(
                    "migration {name} is {state}; only one whose route was switched can be finished"
                ))
                .remedy(format!("CUTOVER MIGRATION {name}, or DROP MIGRATION {name} to give it up")));
            }
        };
        migration.admit_finish(waive_proof).await?;
        migration.stop_proof();
        migration.halt().await;
        let cleaned = timeout(CLEAN_UP_TIMEOUT, migration.clean_up()).await;
        cleaned.unwrap_or_else(|_| {
            Err(Error::transient("the clean-up did not end")
                .remedy("look whether both clusters answer, and finish again"))
        })?;
        self.journal.finish(name, ends_as).await?;
        let mut live = migration.live();
        live.enter(ends_as);
        live.note(None);
        live.way_back = WayBack::None;
        Ok(())
    }

    /// Forgets a migration that does not run, and removes what it left on both sides; with `made` also what it made on
    /// the target, unless the target serves the route. Returns what of that had to stay.
    pub async fn drop_migration(&self, name: &str, made: bool) -> Result<Vec<String>> {
        let _alone = self.defining.lock().await;
        let migration = self.find(name)?;
        let _busy = migration.occupy("a drop")?;
        let (state, begun) = {
            let live = migration.live();
            (live.state, live.plan.is_some())
        };
        if matches!(state, State::Copying | State::Following | State::Cutover) {
            return Err(
                Error::refused(format!("migration {name} is {state}")).remedy(format!("STOP MIGRATION {name} first"))
            );
        }
        let serves = migration.switched_leg().is_some_and(|over| !over.is_way_back());
        if made && serves {
            let Definition { route, target, .. } = &migration.definition;
            return Err(Error::refused(format!(
                "migration {name} is {state}: {target} serves route {route}, and what is there is live"
            ))
            .remedy(format!("DROP MIGRATION {name} without target_objects")));
        }
        migration.stop_proof();
        migration.halt().await;
        let mut stays = Vec::new();
        if begun {
            let late = || Err(Error::transient("the clean-up did not end").remedy("try again"));
            if made {
                let first = migration.database_for(Leg::FIRST)?;
                let removing = async {
                    migration.clean_up_later().await?;
                    first.remove_made().await
                };
                let removed = timeout(REMOVE_TIMEOUT, removing).await;
                stays = removed.unwrap_or_else(|_| late())?;
            } else {
                let cleaned = timeout(CLEAN_UP_TIMEOUT, migration.clean_up()).await;
                cleaned.unwrap_or_else(|_| late().map(drop::<Vec<String>>))?;
            }
        }
        self.journal.remove(name).await?;
        self.migrations.write().remove(name);
        Ok(stays)
    }

    /// One line per migration, by name.
    pub fn list(&self) -> Vec<Summary> {
        self.all().iter().map(|migration| migration.summary()).collect()
    }

    /// Everything that is known about one migration.
    pub fn status(&self, name: &str) -> Result<Status> {
        Ok(self.find(name)?.status())
    }

    /// Every table's numbers, by `schema.table`.
    pub fn tables(&self, name: &str) -> Result<BTreeMap<String, TableProgress>> {
        Ok(self.find(name)?.progress.tables())
    }

    /// The findings of the last precheck.
    pub fn checks(&self, name: &str) -> Result<Vec<Check>> {
        self.find(name)?;
        self.journal.findings(name)
    }

    /// The running check or the last one; `None` before the first.
    pub fn check_status(&self, name: &str) -> Result<Option<CheckStatus>> {
        self.find(name)?.check_status()
    }

    /// What the last finished check found, range by range.
    pub fn proofs(&self, name: &str) -> Result<Vec<Proof>> {
        self.find(name)?;
        self.journal.proofs(name)
    }

    /// The report of the last cutover or rehearsal; sessions that have moved since are counted in.
    /// Of a migration that was dropped, the last report is there still.
    pub fn report(&self, name: &str) -> Result<Option<CutoverReport>> {
        match self.find(name) {
            Ok(migration) => migration.newest_report(),
            Err(unknown) => match self.journal.report(name)? {
                Some(report) => Ok(Some(report)),
                None => Err(unknown),
            },
        }
    }

    /// What stands between now and a cutover with the default options, and what is in order.
    pub async fn readiness(&self, name: &str) -> Result<Vec<Check>> {
        self.find(name)?.readiness().await
    }

    fn all(&self) -> Vec<Arc<Migration<D>>> {
        self.migrations.read().values().cloned().collect()
    }

    fn find(&self, name: &str) -> Result<Arc<Migration<D>>> {
        self.migrations.read().get(name).cloned().ok_or_else(|| {
            Error::refused(format!("there is no migration {name}"))
                .remedy("SHOW MIGRATION LIST names all; CREATE MIGRATION … FROM … TO … makes one")
        })
    }
}

/// Refuses to start with all errors of a precheck in one message.
fn blocked(name: &str, findings: &[Check]) -> Result<()> {
    let errors: Vec<String> = findings
        .iter()
        .filter(|finding| finding.level == Level::Error)
        .map(|finding| format!("{}: {}", finding.name, finding.evidence))
        .collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(Error::refused(format!(
        "migration {name} cannot start, the precheck found {} errors: {}",
        errors.len(),
        errors.join("; ")
    ))
    .remedy(format!("SHOW MIGRATION CHECKS {name} has the remedies and the statements that mend them")))
}
