//! A world for tests of the machine: a source, a target and a gate that do what a script says at each call, and that
//! assert at each call that the journal knows the state to which the call belongs.

mod fence;
mod switch_snapshots;
mod traffic;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::Conductor;
use crate::accounts::Account;
use crate::cutover::Cutover;
use crate::database::{ChangeStream, Comparison, KeyComparison, NextLeg, Preflight, SchemaAndLoad};
use crate::error::{Error, Result};
use crate::follow::Follow;
use crate::journal::Journal;
use crate::model::definition::Definition;
use crate::model::definitions::Compared;
use crate::model::leg::Leg;
use crate::model::mark::Mark;
use crate::model::plan::{Counter, Plan, Settings, Table};
use crate::model::position::Position;
use crate::model::progress::Progress;
use crate::model::proof::{Checked, Proof};
use crate::model::report::Kind;
use crate::model::switch_proof::SwitchVerdict;
use crate::preflight::Check;
use crate::residue::Key;
use crate::switch_proof::Held;
use crate::traffic::{Admission, OpenTransaction};

/// The one number that stands for a place in the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place(pub(crate) u64);

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

impl Position for Place {
    fn covers(&self, other: &Self) -> bool {
        self.0 >= other.0
    }
}

/// What goes wrong at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// The process ends before the call does anything.
    DieBefore,
    /// The process ends when the call has done its work.
    DieAfter,
    /// The call fails and does nothing.
    Fail,
    /// The call does its work, and fails.
    FailAfter,
    /// The call never ends.
    Hang,
    /// The call does its work, and never ends.
    HangAfter,
}

/// What is true outside of the process, and what is true of it while it lives.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Facts {
    pub(crate) barrier: bool,
    /// The source of the first leg refuses writes, and the mark that says so.
    pub(crate) sealed: bool,
    pub(crate) marks: Vec<Mark>,
    /// The same of the source of the second.
    pub(crate) back_sealed: bool,
    pub(crate) back_marks: Vec<Mark>,
    /// Where the next leg begins, as recorded with the refusal.
    pub(crate) next_begins: Option<Place>,
    pub(crate) admission: Option<Admission>,
    /// What is done after the switch was done.
    pub(crate) completed: bool,
    pub(crate) gate_closed: bool,
    pub(crate) route: String,
    pub(crate) calls: Vec<&'static str>,
    pub(crate) mishaps: Vec<(usize, Mishap)>,
    /// Calls that fail, once per entry.
    pub(crate) failing: Vec<&'static str>,
    /// Errors that the follower ends with, the next one last.
    pub(crate) follower_errors: Vec<Error>,
    pub(crate) copy_error: Option<Error>,
    pub(crate) findings: Vec<Check>,
    pub(crate) proofs: Vec<Proof>,
    pub(crate) accounts: Vec<Account>,
    pub(crate) definitions: Compared,
    /// The follower applies what it is asked to.
    pub(crate) follower_idle: bool,
    pub(crate) open: Vec<OpenTransaction>,
    /// Why sessions cannot be opened on the target.
    pub(crate) unopened: Vec<String>,
    /// The journal cannot be written.
    pub(crate) disk_full: bool,
    /// What the comparison of the snapshots comes to; it runs on while there is none.
    pub(crate) switch_verdict: Option<SwitchVerdict>,
    /// What a comparison of rows by their keys comes to.
    pub(crate) differing_rows: Vec<String>,
    journal: Option<Journal>,
    follow: Option<Follow<Place>>,
}

/// The session that keeps the barrier up: with it goes the barrier.
pub(crate) struct Barrier(World);

impl Drop for Barrier {
    fn drop(&mut self) {
        self.0.facts.lock().barrier = false;
    }
}

/// The world; clones are the same one.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) leg: Leg,
    pub(crate) facts: Arc<Mutex<Facts>>,
    pub(crate) folder: Arc<Folder>,
}

/// A folder of its own that goes with the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn definition() -> Definition {
    Definition {
        name: "m".to_owned(),
        source: "blue".to_owned(),
        target: "green".to_owned(),
        route: "shop".to_owned(),
        settings: Settings::default(),
    }
}

pub(crate) fn plan() -> Plan {
    let counter = Counter { schema: "public".to_owned(), name: "ids".to_owned() };
    Plan { counters: vec![counter], ..Plan::default() }
}

impl World {
    pub(crate) fn new() -> Self {
        let name = format!("headgate-world-{}-{:x}", std::process::id(), rand::random::<u64>());
        let facts =
            Facts { route: "blue".to_owned(), switch_verdict: Some(SwitchVerdict::equal()), ..Facts::default() };
        let folder = Folder(std::env::temp_dir().join(name));
        Self { leg: Leg::FIRST, facts: Arc::new(Mutex::new(facts)), folder: Arc::new(folder) }
    }

    /// What a fresh process finds: connections are gone, the gate is open, the route is where the journal says.
    pub(crate) fn start(&self) -> Journal {
        {
            let mut facts = self.facts.lock();
            (facts.journal, facts.follow) = (None, None);
            (facts.barrier, facts.gate_closed) = (false, false);
        }
        let journal = Journal::open(&self.folder.0).expect("the last process let go of the journal");
        let route = journal.route_clusters().expect("read").remove("shop");
        let mut facts = self.facts.lock();
        facts.route = route.unwrap_or_else(|| "blue".to_owned());
        facts.journal = Some(journal.clone());
        journal
    }

    /// Of the leg that runs, as the journal says; the next one counts as armed.
    pub(crate) fn conductor(&self, journal: &Journal) -> Conductor<World> {
        let leg = journal.entries().expect("read").first().map_or(Leg::FIRST, |entry| entry.leg);
        let definition = definition();
        let (source, target) = definition.ends(leg);
        let snapshots = Held::default();
        snapshots.prepare(());
        Conductor {
            name: "m".to_owned(),
            leg,
            route: "shop".to_owned(),
            source: source.to_owned(),
            target: target.to_owned(),
            database: self.for_leg(leg),
            next: Some(self.for_leg(leg.next())),
            snapshots,
            proof_before: None,
            plan: Arc::new(plan()),
            follow: self.known_follow(),
            journal: journal.clone(),
            traffic: Arc::new(self.for_leg(leg)),
            shown: Arc::default(),
        }
    }

    pub(crate) fn known_follow(&self) -> Follow<Place> {
        self.facts.lock().follow.get_or_insert_default().clone()
    }

    /// The cluster that serves after the switch of this leg.
    fn target(&self) -> String {
        definition().ends(self.leg).1.to_owned()
    }

    /// The number of the leg that runs, by the journal.
    pub(crate) fn legs(&self) -> u32 {
        let path = self.folder.0.join("journal.sqlite");
        let raw = rusqlite::Connection::open(path).expect("opens");
        raw.query_row("SELECT leg FROM migrations", [], |row| row.get(0)).expect("read")
    }

    /// The journal's word on the cutover, as a fresh process would read it.
    pub(crate) fn journalled(&self) -> Option<Cutover<Place>> {
        let journal = self.facts.lock().journal.clone()?;
        journal.cutover("m").expect("read").map(|(_, state)| state)
    }

    /// Counts a call, asserts that the journal knows its state, and says what goes wrong with it.
    fn called(&self, call: &'static str, states: &[&str]) -> Option<Mishap> {
        let state = self.journalled().map_or("none", |state| state.name());
        // An undo that cannot be written is what any process makes of a state before the decision.
        let undone_from = ["Holding", "Fencing", "CatchingUp", "Checking"];
        let unwritten = self.facts.lock().disk_full && states.contains(&"Undoing") && undone_from.contains(&state);
        assert!(states.is_empty() || states.contains(&state) || unwritten, "{call} while the journal says {state}");
        let mut facts = self.facts.lock();
        let index = facts.calls.len();
        facts.calls.push(call);
        if let Some(at) = facts.failing.iter().position(|failing| *failing == call) {
            facts.failing.remove(at);
            return Some(Mishap::Fail);
        }
        facts.mishaps.iter().find(|(at, _)| *at == index).map(|(_, mishap)| *mishap)
    }

    async fn act<T>(&self, call: &'static str, states: &[&str], change: impl FnOnce(&mut Facts) -> T) -> Result<T> {
        let mishap = self.called(call, states);
        match mishap {
            Some(Mishap::DieBefore) => panic!("the process dies before {call}"),
            Some(Mishap::Fail) => return Err(Error::transient(format!("{call} failed"))),
            Some(Mishap::Hang) => std::future::pending().await,
            _ => {}
        }
        let outcome = change(&mut self.facts.lock());
        match mishap {
            Some(Mishap::DieAfter) => panic!("the process dies after {call}"),
            Some(Mishap::FailAfter) => Err(Error::transient(format!("{call} failed"))),
            Some(Mishap::HangAfter) => std::future::pending().await,
            _ => Ok(outcome),
        }
    }

    /// The same for calls that cannot wait: what would hang fails.
    fn act_now(&self, call: &'static str, states: &[&str], change: impl FnOnce(&mut Facts)) -> Result<()> {
        let mishap = self.called(call, states);
        match mishap {
            Some(Mishap::DieBefore) => panic!("the process dies before {call}"),
            Some(Mishap::Fail | Mishap::Hang) => {
                return Err(Error::transient(format!("{call} failed")));
            }
            _ => {}
        }
        change(&mut self.facts.lock());
        match mishap {
            Some(Mishap::DieAfter) => panic!("the process dies after {call}"),
            Some(Mishap::FailAfter | Mishap::HangAfter) => Err(Error::transient(format!("{call} failed"))),
            _ => Ok(()),
        }
    }
}

impl Preflight for World {
    async fn preflight(&self) -> Result<Vec<Check>> {
        Ok(self.facts.lock().findings.clone())
    }

    async fn accounts(&self) -> Result<Vec<Account>> {
        Ok(self.facts.lock().accounts.clone())
    }
}

impl SchemaAndLoad for World {
    async fn plan(&self) -> Result<Plan> {
        Ok(plan())
    }

    async fn prepare(&self, _plan: &Plan) -> Result<()> {
        self.act("prepare", &[], |_| ()).await
    }

    async fn copy(&self, _: &Plan, progress: Arc<Progress>, stop: CancellationToken) -> Result<()> {
        self.act("copy", &[], |_| ()).await?;
        let error = self.facts.lock().copy_error.take();
        if let Some(error) = error {
            return Err(error);
        }
        progress.update("public.a", |table| {
            (table.rows_estimated, table.rows_copied) = (200, 100);
        });
        if self.facts.lock().follower_idle {
            stop.cancelled().await;
            return Ok(());
        }
        progress.update("public.a", |table| table.rows_copied = 200);
        Ok(())
    }

    async fn recopy(&self, tables: &[Table], progress: Arc<Progress>, _: CancellationToken) -> Result<()> {
        for table in tables {
            let title = format!("{}.{}", table.schema, table.name);
            progress.update(&title, |numbers| numbers.rows_copied = 7);
        }
        self.act("recopy", &[], |_| ()).await
    }

    async fn remove_made(&self) -> Result<Vec<String>> {
        self.act("remove_made", &[], |_| Vec::new()).await
    }

    async fn clean_up(&self) -> Result<()> {
        self.act("clean_up", &[], |_| ()).await
    }
}

impl ChangeStream for World {
    type Position = Place;

    async fn follow(&self, _: &Plan, follow: Follow<Place>, _: Arc<Progress>, stop: CancellationToken) -> Result<()> {
        self.facts.lock().calls.push("follow");
        let error = self.facts.lock().follower_errors.pop();
        if let Some(error) = error {
            return Err(error);
        }
        follow.report_lag(Duration::from_millis(3), 100);
        self.facts.lock().follow = Some(follow);
        stop.cancelled().await;
        Ok(())
    }
}

impl Comparison for World {
    async fn check(&self, _: &Plan, _: Follow<Place>, _: Arc<Progress>, stop: CancellationToken) -> Result<Checked> {
        let look = |facts: &mut Facts| Checked {
            proofs: facts.proofs.clone(),
            fingerprint: facts.definitions.fingerprint.clone(),
        };
        tokio::select! {
            () = stop.cancelled() => Ok(Checked::default()),
            outcome = self.act("check", &[], look) => outcome,
        }
    }

    async fn definitions(&self, _: &Plan) -> Result<Compared> {
        Ok(self.facts.lock().definitions.clone())
    }

    async fn definitions_stamp(&self) -> Result<String> {
        Ok(format!("{:?}", self.facts.lock().definitions))
    }
}

impl KeyComparison for World {
    type KeySessions = ();

    async fn open_key_sessions(&self, _: &Plan) -> Result<()> {
        self.act("open_key_sessions", &[], |_| ()).await
    }

    async fn differing_rows(&self, (): &mut (), _: &str, _: &[Key]) -> Result<Vec<String>> {
        let rows = self.facts.lock().differing_rows.clone();
        self.act("differing_rows", &["Checking"], |_| rows).await
    }
}

/// A run of the machine in a task of its own, whose panic is the end of the process.
pub(crate) async fn run(conductor: Conductor<World>, kind: Kind) -> Option<super::CutoverRun> {
    let running = async move { conductor.run(kind, Duration::from_secs(2)).await };
    tokio::spawn(running).await.ok().map(|course| course.expect("the journal works"))
}
