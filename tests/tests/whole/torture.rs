//! Random cutovers, rollbacks and rehearsals under a load, with random kills of Headgate and random faults of servers and
//! networks at random places. A short run with a fixed seed is part of every run of the tests; `make torture` runs many
//! rounds. `HEADGATE_TORTURE_SEED` and `HEADGATE_TORTURE_ROUNDS` repeat a run.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tests::arena::{Arena, Cluster, Decision, Pairing, Place, Situation};
use tests::fault::Fault;
use tests::headgate::signal_server;
use tests::history::Verdict;
use tests::mysql::{Mysql, Pair};
use tests::postgres::Postgres;
use tests::statements::Edge;
use tests::wait::{SOON, until};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// How long a fault waits for its place, where the decision does not come there.
const COMES: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn a_few_random_rounds_lose_nothing_on_postgresql() {
    Torture::<Postgres>::run(Pairing::Postgres(14, 18), 4, 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_random_rounds_lose_nothing_on_mysql() {
    Torture::<Mysql>::run(Pairing::Mysql(Pair::Mysql97to97), 4, 11).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "many minutes: `make torture` runs it"]
async fn many_random_rounds_lose_nothing_on_postgresql() {
    let (rounds, seed) = asked();
    Torture::<Postgres>::run(Pairing::Postgres(14, 18), rounds, seed).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "many minutes: `make torture` runs it"]
async fn many_random_rounds_lose_nothing_on_mysql() {
    let (rounds, seed) = asked();
    Torture::<Mysql>::run(Pairing::Mysql(Pair::Mysql97to97), rounds, seed).await;
}

/// How many rounds and which seed the caller asks for.
fn asked() -> (u32, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("HEADGATE_TORTURE_ROUNDS").and_then(|rounds| rounds.try_into().ok());
    (rounds.unwrap_or(100), number("HEADGATE_TORTURE_SEED").unwrap_or_else(rand::random))
}

/// Numbers that follow from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % limit.max(1) as u64).unwrap_or_default()
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// What goes wrong in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hazard {
    Nothing,
    /// Headgate dies.
    Kill,
    /// A server's processes stand still.
    Stopped(usize),
    /// A server crashes and starts again.
    Crashed(usize),
    /// All connections of Headgate with a server end, and new ones too.
    Cut(usize),
    /// Nothing goes through between Headgate and a server.
    Stalled(usize),
    /// A server takes no more connections.
    Crowded(usize),
}

impl fmt::Display for Hazard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, cluster) = match self {
            Self::Nothing => ("nothing", None),
            Self::Kill => ("Headgate killed", None),
            Self::Stopped(cluster) => ("server stopped for a while", Some(cluster)),
            Self::Crashed(cluster) => ("server crashed", Some(cluster)),
            Self::Cut(cluster) => ("connections cut", Some(cluster)),
            Self::Stalled(cluster) => ("connections stalled", Some(cluster)),
            Self::Crowded(cluster) => ("out of connections", Some(cluster)),
        };
        formatter.write_str(what)?;
        cluster.map_or(Ok(()), |cluster| write!(formatter, " on {}", ["blue", "green"][*cluster]))
    }
}

/// What came of all rounds.
#[derive(Default)]
struct Sum {
    switched: u32,
    rolled_back: u32,
    as_before: u32,
    kills: u32,
    faults: u32,
    begun_anew: u32,
    /// Rounds after which something was left that the next statement removed.
    left: u32,
}

struct Torture<S: Cluster> {
    pairing: Pairing,
    arena: Arena<S>,
    dice: Dice,
    /// What is passed from `blue`, and from `green`: by the decision, and by a rehearsal.
    places: [[Vec<Place>; 2]; 2],
    sum: Sum,
    wrong: Vec<String>,
    verdict: Verdict,
}

impl<S: Cluster> Torture<S> {
    async fn run(pairing: Pairing, rounds: u32, seed: u64) {
        println!("{}: seed {seed}, {rounds} rounds", pairing.title());
        let arena = Arena::start(pairing).await;
        let mut torture = Self {
            pairing,
            arena,
            dice: Dice(seed),
            places: Default::default(),
            sum: Sum::default(),
            wrong: Vec::new(),
            verdict: Verdict::default(),
        };
        torture.begin().await;
        torture.learn().await;
        for round in 1..=rounds {
            torture.round(round).await;
        }
        torture.end(rounds, seed);
    }

    async fn begin(&mut self) {
        self.arena.follow().await;
        self.arena.find_way_back().await;
    }

    /// Everything anew: what a side that stopped serving does without a way back, and what is lost by design.
    async fn anew(&mut self) {
        self.collect();
        self.arena = Arena::start(self.pairing).await;
        self.begin().await;
    }

    /// Which places are passed.
    async fn learn(&mut self) {
        for (from, decision) in [Decision::Cutover, Decision::Rollback].into_iter().enumerate() {
            self.arena.check().await;
            for (which, decision) in [decision, Decision::Rehearsal].into_iter().enumerate().rev() {
                self.arena.passed();
                self.arena.decide(&self.arena.statement(decision)).await;
                let situation = self.arena.at_rest().await;
                self.places[from][which] = self.arena.passed();
                self.arena.judge(&situation).await;
            }
            if !self.arena.back {
                self.anew().await;
                return;
            }
        }
        // What is kept from here on was there before.
        self.arena.check().await;
        let situation = self.arena.at_rest().await;
        self.arena.judge(&situation).await;
    }

    async fn round(&mut self, round: u32) {
        let before = self.arena.situation().await;
        let forward = before.serving == "blue";
        let decision = if forward { Decision::Cutover } else { Decision::Rollback };
        let decision = if self.dice.below(4) == 0 { Decision::Rehearsal } else { decision };
        let places = &self.places[usize::from(!forward)][usize::from(decision == Decision::Rehearsal)];
        let place = self.dice.of(places).clone();
        let edge = *self.dice.of(&[Edge::Before, Edge::After]);
        let cluster = self.dice.below(2);
        let faults = [
            Hazard::Stopped(cluster),
            Hazard::Crashed(cluster),
            Hazard::Cut(cluster),
            Hazard::Stalled(cluster),
            Hazard::Crowded(cluster),
        ];
        let hazard = match self.dice.below(10) {
            0 => Hazard::Nothing,
            1..=5 => Hazard::Kill,
            _ => *self.dice.of(&faults),
        };
        let lasts = Duration::from_millis(300 + self.dice.below(2500) as u64);
        let label = format!(
            "| {round} | {} from {} | {hazard} | {} {} |",
            decision.name(),
            before.serving,
            edge.name(),
            place.name().replace('|', "/")
        );
        self.arena.check().await;
        let statement = self.arena.statement(decision);
        let came = match hazard {
            Hazard::Nothing => {
                self.arena.decide(&statement).await;
                true
            }
            Hazard::Kill => self.arena.die_at(&place, edge, &statement).await.is_none(),
            _ => self.suffer(hazard, lasts, &place, edge, &statement).await,
        };
        match hazard {
            Hazard::Nothing => {}
            Hazard::Kill => self.sum.kills += u32::from(came),
            _ => self.sum.faults += 1,
        }
        if self.arena.headgate.has_ended() {
            self.arena.revive().await;
        } else {
            self.arena.load.until_served().await;
        }
        let after = self.arena.at_rest().await;
        let outcome = self.outcome(&before, &after);
        let (mut verdict, mut faults) = self.arena.judge(&after).await;
        if verdict.is_clean() && !faults.is_empty() && after == before && after.state != "failed" {
            // What a server that was away has kept goes with the next statement.
            println!("left until the next statement: {faults:?}");
            self.sum.left += 1;
            self.arena.check().await;
            self.arena.decide(&self.arena.statement(Decision::Rehearsal)).await;
            self.arena.at_rest().await;
            (verdict, faults) = self.arena.judge(&after).await;
        }
        let sound = verdict.is_clean() && faults.is_empty();
        let line = format!("{label} {outcome}{} |", if came { "" } else { ", the place was not reached" });
        println!("{line}");
        if !sound {
            println!("WRONG: {verdict:?} {faults:?}");
            self.wrong.push(format!("{line} {verdict:?} {faults:?}"));
        }
        if after.state == "failed" || after.serving == "green" && !self.arena.back {
            self.sum.begun_anew += 1;
            self.anew().await;
        }
    }

    fn outcome(&mut self, before: &Situation, after: &Situation) -> &'static str {
        match (before.serving.as_str(), after.serving.as_str()) {
            ("blue", "green") => {
                self.sum.switched += 1;
                "switched"
            }
            ("green", "blue") => {
                self.sum.rolled_back += 1;
                "rolled back"
            }
            _ => {
                self.sum.as_before += 1;
                "as before"
            }
        }
    }

    /// Runs a statement with a fault that begins at a place. Tells whether the place was reached; the fault comes in any
    /// case, and is over at the end.
    async fn suffer(&mut self, hazard: Hazard, lasts: Duration, place: &Place, edge: Edge, statement: &str) -> bool {
        let reached = Arc::new(Notify::new());
        if let Place::Statement(name) = place {
            let notify = Arc::clone(&reached);
            self.arena.statements.meet(name, edge, move || notify.notify_one());
        }
        let asking = tokio::spawn(self.arena.headgate.try_admin(statement));
        // A failpoint of the program is no place for a fault from outside: some time after the beginning is.
        let limit = if matches!(place, Place::Statement(_)) { COMES } else { lasts / 3 };
        let came = timeout(limit, reached.notified()).await.is_ok();
        match hazard {
            Hazard::Stopped(cluster) => {
                let pid = self.arena.clusters[cluster].pid().expect("it runs");
                signal_server(pid, "STOP").await;
                sleep(lasts).await;
                signal_server(pid, "CONT").await;
            }
            Hazard::Crashed(cluster) => {
                self.arena.clusters[cluster].crash().await;
                self.arena.load.history().crashed();
                self.arena.clusters[cluster].restart().await;
            }
            Hazard::Cut(cluster) | Hazard::Stalled(cluster) => {
                let fault = if matches!(hazard, Hazard::Cut(_)) { Fault::Cut } else { Fault::Silence };
                self.arena.networks[cluster].set(fault);
                sleep(lasts).await;
                self.arena.networks[cluster].set(Fault::None);
            }
            Hazard::Crowded(cluster) => {
                let crowd = self.arena.clusters[cluster].crowd().await;
                sleep(lasts).await;
                drop(crowd);
                self.arena.clusters[cluster].disperse().await;
            }
            Hazard::Nothing | Hazard::Kill => {}
        }
        self.arena.disarm();
        let answered = async || asking.is_finished();
        until("the statement is answered", SOON * 6, answered, |answered| *answered).await;
        came
    }

    fn collect(&mut self) {
        let history = self.arena.load.history();
        self.verdict.backwards.extend(history.backwards.iter().cloned());
        self.verdict.twice.extend(history.twice.iter().cloned());
    }

    fn end(mut self, rounds: u32, seed: u64) {
        self.collect();
        let Sum { switched, rolled_back, as_before, kills, faults, begun_anew, left } = self.sum;
        let history = self.arena.load.history();
        println!(
            "{}: seed {seed}: {rounds} rounds, {kills} kills, {faults} faults; {switched} switched, {rolled_back} rolled \
             back, {as_before} as before, {begun_anew} begun anew, {left} with something left until the next statement; lost, doubled, torn, refused and there, reads going \
             backwards, counter values twice: {}; shown to clients: {:?}",
            self.pairing.title(),
            if self.wrong.is_empty() { "0".to_owned() } else { format!("{:#?}", self.wrong) },
            history.errors
        );
        assert!(self.wrong.is_empty() && self.verdict.is_clean(), "seed {seed}: {:#?} {:?}", self.wrong, self.verdict);
    }
}
