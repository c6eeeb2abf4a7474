//! Headgate is killed at every record of its journal, every effect and every statement that changes something, and finds
//! the way by itself: a table of what came of it. The records of a cutover are tried with every run of the tests, all places by `make kills`.

use std::fmt::Write as _;
use std::fs;

use tests::arena::{Arena, Cluster, Decision, Pairing, Place, Situation};
use tests::headgate::{Engine, binary};
use tests::mysql::{Mysql, Pair};
use tests::postgres::Postgres;
use tests::statements::Edge;

const START: &str = "START MIGRATION m";
const CHECK: &str = "CHECK MIGRATION m";
const STOP: &str = "STOP MIGRATION m";
const FINISH: &str = "FINISH MIGRATION m";
const DROP: &str = "DROP MIGRATION m WITH (target_objects = 'drop')";

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_record_of_a_cutover_ends_on_one_side_on_postgresql() {
    records::<Postgres>(Pairing::Postgres(14, 18)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_record_of_a_cutover_ends_on_one_side_on_mysql() {
    records::<Mysql>(Pairing::Mysql(Pair::Mysql97to97)).await;
}

/// A part of the matrix for every pair of servers.
macro_rules! anywhere {
    ($part:ident) => {
        mod $part {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "minutes: `make kills` runs it"]
            async fn is_survived_on_postgresql() {
                let mut matrix = Matrix::<Postgres>::begin(Pairing::Postgres(14, 18)).await;
                matrix.$part().await;
                matrix.end(stringify!($part));
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "minutes: `make kills` runs it"]
            async fn is_survived_on_mysql() {
                let mut matrix = Matrix::<Mysql>::begin(Pairing::Mysql(Pair::Mysql97to97)).await;
                matrix.$part().await;
                matrix.end(stringify!($part));
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "minutes: `make kills` runs it"]
            async fn is_survived_on_mariadb() {
                let mut matrix = Matrix::<Mysql>::begin(Pairing::Mysql(Pair::Mariadb1011to1011)).await;
                matrix.$part().await;
                matrix.end(stringify!($part));
            }
        }
    };
}

anywhere!(a_kill_anywhere_in_a_start_or_a_drop);
anywhere!(a_kill_anywhere_in_a_check);
anywhere!(a_kill_anywhere_in_a_cutover_or_a_rollback);
anywhere!(a_kill_anywhere_in_a_finish);

/// The states of a cutover only: their names are written large, those of other records small.
async fn records<S: Cluster>(pairing: Pairing) {
    let is_state = |place: &Place| match place {
        Place::Failpoint(name) => name.strip_prefix("record ").is_some_and(|name| name.starts_with(char::is_uppercase)),
        Place::Statement(_) => false,
    };
    let mut matrix = Matrix::<S>::begin(pairing).await;
    matrix.brief = true;
    matrix.cutovers(is_state).await;
    matrix.end("records");
}

fn edges(places: &[Place]) -> impl Iterator<Item = (&Place, Edge)> {
    places.iter().flat_map(|place| [Edge::Before, Edge::After].map(|edge| (place, edge)))
}

/// Statements only after they are carried out: of a hundred in a row, each comes before the next.
fn fewer_edges(places: &[Place]) -> impl Iterator<Item = (&Place, Edge)> {
    edges(places).filter(|(place, edge)| *edge == Edge::After || matches!(place, Place::Failpoint(_)))
}

/// Places by what passes them; those of a rehearsal that the decision does not pass.
#[derive(Default)]
struct Passed {
    rehearsal: Vec<Place>,
    cutover: Vec<Place>,
}

/// The table, and what it is about at the moment.
struct Matrix<S: Cluster> {
    pairing: Pairing,
    arena: Arena<S>,
    /// Leaves out rehearsals, and what comes before a record: the effect of the one before it is done then. The decision is
    /// tried on both sides.
    brief: bool,
    table: String,
    faults: Vec<String>,
}

impl<S: Cluster> Matrix<S> {
    async fn begin(pairing: Pairing) -> Self {
        let arena = Arena::start(pairing).await;
        Self { pairing, arena, brief: false, table: String::new(), faults: Vec::new() }
    }

    /// A migration that follows, after a rehearsal, on servers that nothing was switched between.
    async fn fresh(&mut self) {
        self.arena = Arena::start(self.pairing).await;
        self.ready().await;
    }

    async fn ready(&mut self) {
        self.arena.follow().await;
        self.arena.find_way_back().await;
        let situation = self.arena.settled(&["following"]).await;
        self.judged("", "", &situation).await;
    }

    /// Every place from the statement that starts a migration to the one that drops it.
    async fn a_kill_anywhere_in_a_start_or_a_drop(&mut self) {
        let nothing = self.arena.situation().await;
        self.judged("", "", &nothing).await;
        self.arena.create().await;
        self.arena.passed();
        self.arena.headgate.admin(START).await;
        let following = self.arena.settled(&["following"]).await;
        let mut starts = self.arena.passed();
        self.judged("", "", &following).await;
        self.arena.headgate.admin(STOP).await;
        self.arena.passed();
        self.arena.headgate.admin(DROP).await;
        let drops = self.arena.passed();
        self.judged("", "", &nothing).await;
        // A precheck of PostgreSQL is one transaction on each side, which is rolled back.
        starts.retain(|place| S::ENGINE == Engine::Mysql || !place.name().contains(" precheck: "));
        self.announce("START", &starts);
        self.announce("DROP", &drops);
        for (place, edge) in fewer_edges(&starts) {
            self.arena.create().await;
            self.killed("START", place, edge, START, "following").await;
            self.arena.headgate.admin(STOP).await;
            self.arena.headgate.admin(DROP).await;
            self.judged("dropped after a kill at", place.name(), &nothing).await;
        }
        for (place, edge) in fewer_edges(&drops) {
            self.arena.create().await;
            self.arena.headgate.admin(START).await;
            self.arena.settled(&["following"]).await;
            self.arena.headgate.admin(STOP).await;
            self.killed("DROP", place, edge, DROP, "").await;
            if self.arena.situation().await.state == "stopped" {
                self.arena.headgate.admin(DROP).await;
                self.judged("dropped after a kill at", place.name(), &nothing).await;
            }
        }
        self.arena.kept.clear();
    }

    /// What the follower does under the load, and a check.
    async fn a_kill_anywhere_in_a_check(&mut self) {
        self.ready().await;
        self.arena.passed();
        self.arena.check().await;
        let places = self.arena.passed();
        self.announce("CHECK", &places);
        for (place, edge) in edges(&places) {
            self.killed("CHECK", place, edge, CHECK, "following").await;
        }
    }

    async fn a_kill_anywhere_in_a_cutover_or_a_rollback(&mut self) {
        self.cutovers(|_| true).await;
    }

    /// Every place that a rehearsal, a cutover and a rollback pass.
    async fn cutovers(&mut self, wanted: impl Fn(&Place) -> bool) {
        self.ready().await;
        let forward = self.learned(self.arena.statement(Decision::Cutover), &wanted).await;
        let backward = if self.arena.back {
            self.learned(self.arena.statement(Decision::Rollback), &wanted).await
        } else {
            Passed::default()
        };
        if !self.arena.back {
            self.fresh().await;
        }
        self.decided_at(&forward, Decision::Cutover).await;
        if self.arena.back {
            self.arena.decide(&self.arena.statement(Decision::Cutover)).await;
            self.arena.at_rest().await;
            self.arena.check().await;
            self.decided_at(&backward, Decision::Rollback).await;
        }
    }

    /// What a rehearsal and the decision after it pass.
    async fn learned(&mut self, decision: String, wanted: impl Fn(&Place) -> bool) -> Passed {
        let situation = self.arena.at_rest().await;
        self.arena.check().await;
        self.arena.passed();
        self.arena.decide(&self.arena.statement(Decision::Rehearsal)).await;
        self.arena.at_rest().await;
        let mut rehearsal = self.arena.passed();
        self.judged("", "", &situation).await;
        self.arena.decide(&decision).await;
        let situation = self.arena.at_rest().await;
        let mut cutover = self.arena.passed();
        self.judged("", "", &situation).await;
        cutover.retain(&wanted);
        rehearsal.retain(|place| !self.brief && wanted(place) && !cutover.contains(place));
        eprintln!("{decision} passes {} places, a rehearsal {} others", cutover.len(), rehearsal.len());
        Passed { rehearsal, cutover }
    }

    async fn decided_at(&mut self, places: &Passed, decision: Decision) {
        let [rehearse, decide, other] =
            [Decision::Rehearsal, decision, decision.reverse()].map(|decision| self.arena.statement(decision));
        for (place, edge) in edges(&places.rehearsal) {
            self.killed("REHEARSE", place, edge, &rehearse, "").await;
        }
        for (place, edge) in edges(&places.cutover) {
            if self.brief && edge == Edge::Before && place.name() != "record Switching" {
                continue;
            }
            let before = self.arena.situation().await;
            self.killed(decision.name(), place, edge, &decide, "").await;
            if self.arena.situation().await == before {
                continue;
            }
            if self.arena.back {
                self.arena.check().await;
                self.arena.decide(&other).await;
                self.arena.at_rest().await;
                self.arena.check().await;
            } else {
                self.fresh().await;
            }
        }
    }

    /// What closes the way back and cleans up.
    async fn a_kill_anywhere_in_a_finish(&mut self) {
        self.switched().await;
        self.arena.passed();
        self.arena.headgate.admin(FINISH).await;
        let finished = self.arena.settled(&["finished"]).await;
        let places = self.arena.passed();
        self.judged("", "", &finished).await;
        self.announce("FINISH", &places);
        for (place, edge) in edges(&places) {
            self.switched().await;
            self.killed("FINISH", place, edge, FINISH, "finished").await;
        }
    }

    async fn switched(&mut self) {
        self.fresh().await;
        self.arena.decide(&self.arena.statement(Decision::Cutover)).await;
        self.arena.settled(&["switched"]).await;
    }

    fn announce(&self, what: &str, places: &[Place]) {
        eprintln!("{}: {what} passes {} places", self.pairing.title(), places.len());
    }

    /// One case. `end` is the state that the statement leads to: where a kill came before it was on its way, it is given
    /// again. A decision is not: with an empty `end` either outcome is one.
    async fn killed(&mut self, what: &str, place: &Place, edge: Edge, statement: &str, end: &str) {
        let before = self.arena.at_rest().await;
        let label = format!(
            "| {} | {what} from {} | {} | {} |",
            self.pairing.title(),
            before.serving,
            place.name().replace('|', "/"),
            edge.name()
        );
        let mut answer = self.arena.die_at(place, edge, statement).await;
        if let Some(Err(refusal)) = &answer {
            // What a kill before it left behind may have voided the proof.
            eprintln!("{label} {refusal}");
            self.arena.check().await;
            answer = self.arena.die_at(place, edge, statement).await;
        }
        let reached = answer.is_none();
        let served = if reached {
            format!("{} ms", self.arena.revive().await.as_millis())
        } else {
            eprintln!("{label} {answer:?}");
            String::new()
        };
        let mut situation = self.arena.at_rest().await;
        let outcome = match situation.state.as_str() {
            state if !end.is_empty() && state != end => {
                self.arena.decide(statement).await;
                situation = self.arena.settled(&[end]).await;
                "begun again"
            }
            _ if !reached => "not reached",
            state if !end.is_empty() && state == end => "done",
            _ if situation == before => "as before",
            "" => "dropped",
            "following" | "switched" if situation.serving == before.serving => "NEITHER",
            "following" => "rolled back",
            "switched" => "switched",
            _ => "NEITHER",
        };
        if outcome == "NEITHER" {
            self.faults.push(format!("{label} {situation:?}"));
        }
        let wrong = if self.judged(&label, outcome, &situation).await { "" } else { ", WRONG" };
        let line = format!("{label} {outcome}{wrong} | {served} |");
        eprintln!("{line}");
        let _ = writeln!(self.table, "{line}");
    }

    /// Whether the checker finds nothing wrong.
    async fn judged(&mut self, label: &str, outcome: &str, situation: &Situation) -> bool {
        let (verdict, faults) = self.arena.judge(situation).await;
        let sound = verdict.is_clean() && faults.is_empty();
        if !sound {
            let fault = format!("{label} {outcome}: {verdict:?} {faults:?}");
            eprintln!("{fault}");
            self.faults.push(fault);
        }
        sound
    }

    fn end(self, part: &str) {
        let head =
            "| servers | statement | place | killed | outcome | clients served after |\n|---|---|---|---|---|---|\n";
        let table = [head, &self.table].concat();
        println!("{table}");
        let folder = binary().parent().and_then(|folder| folder.parent().map(ToOwned::to_owned)).expect("it was built");
        let name = format!("kills-{}-{part}.md", self.pairing.title().to_lowercase().replace(' ', "-"));
        fs::write(folder.join(name), table).expect("the target folder is ours");
        assert!(self.faults.is_empty(), "{:#?}", self.faults);
    }
}
