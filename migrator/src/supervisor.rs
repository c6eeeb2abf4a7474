//! All migrations of one Headgate: the operator's statements come in here, and what runs is kept running.

mod definition;
mod report;
mod status;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

pub use definition::{Definition, Options};
pub use report::{CutoverReport, Kind, Outcome, Proved, Steps};
pub use status::{CheckStatus, State, Status, Summary, Verdict};

use crate::database::Database;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::preflight::Check;
use crate::progress::TableProgress;
use crate::traffic::Traffic;

/// Builds the two databases of a migration; fails where the definition names what the configuration lacks.
pub type Factory<D> = Box<dyn Fn(&Definition) -> Result<D> + Send + Sync>;

/// All migrations of one Headgate.
pub struct Supervisor<D: Database> {
    database: PhantomData<D>,
}

impl<D: Database> Supervisor<D> {
    /// Reads the journal. Call it before the listener opens: it closes the gate of every route whose cutover was
    /// interrupted and must be undone first, and [`Supervisor::resume`] opens it again.
    pub fn open(
        _journal: Journal,
        _traffic: Arc<dyn Traffic>,
        _factory: Factory<D>,
    ) -> Result<Arc<Self>> {
        absent()
    }

    /// The routes that cutovers decided about, and the cluster each is on: they overrule the configuration.
    /// [`Journal::route_clusters`] tells the same before there is a supervisor.
    pub fn route_clusters(&self) -> Result<BTreeMap<String, String>> {
        absent()
    }

    /// Goes on after a start of the process: undoes or finishes what a cutover left, then lets every migration that
    /// was running run on. Returns at once; the work goes on behind. Needs a tokio runtime.
    pub fn resume(self: &Arc<Self>) {}

    /// Stops all work without changing any state, for the end of the process: a cutover under way is waited for.
    pub async fn shutdown(&self) {}

    /// Defines a migration. Touches no database.
    pub async fn create(&self, _definition: Definition) -> Result<()> {
        absent()
    }

    /// Runs every check that can say no, stores and returns all findings.
    pub async fn precheck(&self, _name: &str) -> Result<Vec<Check>> {
        absent()
    }

    /// Starts or goes on. The first start runs the precheck; its errors block, all of them in the message.
    pub async fn start(self: &Arc<Self>, _name: &str) -> Result<()> {
        absent()
    }

    /// Stops the work at a place from which a start goes on.
    pub async fn stop(&self, _name: &str) -> Result<()> {
        absent()
    }

    /// Begins to compare both sides; [`Supervisor::check_status`] tells how it goes.
    pub async fn check(self: &Arc<Self>, _name: &str) -> Result<()> {
        absent()
    }

    /// Runs the cutover up to the decision, then opens again on the source. An undone one is an `Ok` report too.
    pub async fn rehearse(
        self: &Arc<Self>,
        _name: &str,
        _options: Options,
    ) -> Result<CutoverReport> {
        absent()
    }

    /// Switches the route. Refused where it cannot succeed now; one that had to be undone is an `Ok` report whose
    /// outcome says so. Goes on when the caller goes away.
    pub async fn cutover(
        self: &Arc<Self>,
        _name: &str,
        _options: Options,
    ) -> Result<CutoverReport> {
        absent()
    }

    /// Forgets a migration that does not run, and removes what it left on both sides.
    pub async fn drop_migration(&self, _name: &str) -> Result<()> {
        absent()
    }

    /// One line per migration, by name.
    pub fn list(&self) -> Vec<Summary> {
        Vec::new()
    }

    /// Everything that is known about one migration.
    pub fn status(&self, _name: &str) -> Result<Status> {
        absent()
    }

    /// Every table's numbers, by `schema.table`.
    pub fn tables(&self, _name: &str) -> Result<BTreeMap<String, TableProgress>> {
        absent()
    }

    /// The findings of the last precheck.
    pub fn checks(&self, _name: &str) -> Result<Vec<Check>> {
        absent()
    }

    /// The running check or the last one; `None` before the first.
    pub fn check_status(&self, _name: &str) -> Result<Option<CheckStatus>> {
        absent()
    }

    /// The report of the last cutover or rehearsal; sessions that have moved since are counted in.
    pub fn report(&self, _name: &str) -> Result<Option<CutoverReport>> {
        absent()
    }

    /// What stands between now and a cutover with the default options, and what is in order.
    pub fn readiness(&self, _name: &str) -> Result<Vec<Check>> {
        absent()
    }
}

fn absent<T>() -> Result<T> {
    Err(Error::refused("migrations are being built"))
}
