//! A migration between two servers under a load: Headgate can be killed in it at any place, and what is there afterwards
//! is judged on both servers directly.

mod cluster;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::fault::Relay;
use crate::headgate::{Engine, Headgate};
use crate::history::{Contents, Load, Verdict};
use crate::postgres::Record;
use crate::statements::{Edge, StatementRelay, Statements};
use crate::wait::until;

pub use cluster::{Cluster, Pairing};

/// How long a migration may take to settle after a kill, with a server that has to be reached again.
const SETTLES: Duration = Duration::from_secs(100);
/// How long what is not needed any more may stay: a migration is shown at rest while it tidies up.
const REMOVED: Duration = Duration::from_secs(10);
/// How long a place is waited for after the statement that leads to it was answered.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// Where the program can be killed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A failpoint in the program: a record of the journal or the effect of a state.
    Failpoint(String),
    /// A statement on its way to a server.
    Statement(String),
}

impl Place {
    /// Its name in tables.
    pub fn name(&self) -> &str {
        let (Self::Failpoint(name) | Self::Statement(name)) = self;
        name
    }
}

/// What a decision about the route, or a rehearsal of one, is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// To the target.
    Cutover,
    /// Back to the source.
    Rollback,
    /// Nowhere.
    Rehearsal,
}

impl Decision {
    /// The first word of its statement.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cutover => "CUTOVER",
            Self::Rollback => "ROLLBACK",
            Self::Rehearsal => "REHEARSE",
        }
    }

    /// What goes back.
    #[must_use]
    pub fn reverse(self) -> Self {
        if self == Self::Cutover { Self::Rollback } else { Self::Cutover }
    }
}

/// Which cluster serves the route, and the migration's state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Situation {
    /// The migration's state; empty where there is none.
    pub state: String,
    /// `blue` or `green`.
    pub serving: String,
    /// It was on `green` before: a side that has served refuses from then on while it does not serve.
    pub moved: bool,
}

/// Two servers, Headgate between them and a load, and relays on every way to the servers.
pub struct Arena<S: Cluster> {
    /// `blue` and `green`.
    pub clusters: [S; 2],
    /// What can be done to the connections of Headgate with each of them.
    pub networks: [Relay; 2],
    /// The program.
    pub headgate: Headgate,
    /// The clients.
    pub load: Load,
    /// The statements of Headgate's own sessions.
    pub statements: Statements,
    /// Whether a switch begins a way back.
    pub back: bool,
    relays: [StatementRelay; 2],
    moved: AtomicBool,
    /// What Headgate keeps on both servers, by how things stand.
    pub kept: BTreeMap<Situation, [Vec<String>; 2]>,
}

impl<S: Cluster> Arena<S> {
    /// Starts everything; no migration yet.
    pub async fn start(pairing: Pairing) -> Self {
        let clusters = S::pair(pairing).await;
        clusters[0].sql(crate::world::DATABASE, &Load::schema::<S::Client>()).await;
        let networks = [Relay::to(clusters[0].port()).await, Relay::to(clusters[1].port()).await];
        let statements = Statements::default();
        let relays = [
            StatementRelay::to(S::ENGINE, "blue", networks[0].port(), statements.clone()).await,
            StatementRelay::to(S::ENGINE, "green", networks[1].port(), statements.clone()).await,
        ];
        let sections = S::sections(relays[0].port(), relays[1].port());
        let mut headgate = Headgate::prepare_for(S::ENGINE, &sections);
        fs::create_dir(headgate.failpoints()).expect("the folder is ours");
        headgate.launch().await;
        statements.watch(headgate.pid());
        let load = Load::start::<S::Client>(headgate.port());
        load.until_served().await;
        Self {
            clusters,
            networks,
            headgate,
            load,
            statements,
            back: true,
            relays,
            moved: AtomicBool::new(false),
            kept: BTreeMap::new(),
        }
    }

    /// Where Headgate reaches a cluster.
    pub fn relayed_port(&self, cluster: usize) -> u16 {
        self.relays[cluster].port()
    }

    /// Creates the migration `m` from the cluster that serves to the other one.
    pub async fn create(&self) {
        let (from, to) = if self.situation().await.serving == "blue" { ("blue", "green") } else { ("green", "blue") };
        self.headgate.admin(&format!("CREATE MIGRATION m FROM {from} TO {to} FOR ROUTE shop")).await;
    }

    /// Creates and starts the migration, waits until it follows, and checks it.
    pub async fn follow(&self) {
        self.create().await;
        self.headgate.admin("START MIGRATION m").await;
        self.settled(&["following"]).await;
        self.check().await;
    }

    /// Compares both sides by Headgate itself.
    pub async fn check(&self) {
        let again = || self.headgate.try_admin("CHECK MIGRATION m");
        let _begun = until("the check begins", SETTLES, again, Result::is_ok).await;
        let ask = || self.headgate.try_admin("SHOW MIGRATION CHECK STATUS m");
        let ended = |rows: &Result<Vec<Record>, String>| {
            let rows = rows.as_deref().unwrap_or_default();
            rows.first().is_some_and(|row| row.get("result").is_some_and(|result| result != "running"))
        };
        let row = until("the check ends", SETTLES, ask, ended).await.expect("it ended").remove(0);
        assert_eq!(row.get("result").map(String::as_str), Some("passed"), "{row:?}");
    }

    /// Whether this engine's switches begin a way back; asked of a migration that follows and is checked.
    pub async fn find_way_back(&mut self) {
        self.back = true;
        let armed = self.headgate.try_admin(&self.statement(Decision::Rehearsal)).await;
        self.back = !armed.is_err_and(|refusal| refusal.contains("way back"));
        self.at_rest().await;
    }

    /// The statement of a decision.
    pub fn statement(&self, decision: Decision) -> String {
        let way_back = if self.back { "armed" } else { "none" };
        // Where a server forgets `read_only` over a restart, its accounts are locked too, and no session of theirs can be
        // opened ahead of a rollback.
        let waived = if S::ENGINE == Engine::Mysql { ", waive_sessions = true" } else { "" };
        format!("{} MIGRATION m WITH (max_hold = '5s', way_back = '{way_back}'{waived})", decision.name())
    }

    /// Runs a statement until it goes through, with a check where it was refused.
    pub async fn decide(&self, statement: &str) -> Record {
        loop {
            match self.headgate.try_admin(statement).await {
                Ok(mut rows) if !rows.is_empty() => return rows.remove(0),
                Ok(_) => return Record::new(),
                Err(text) => {
                    eprintln!("{statement}: {text}");
                    self.check().await;
                }
            }
        }
    }

    /// How things stand at this moment.
    pub async fn situation(&self) -> Situation {
        let routes = self.headgate.admin("SHOW ROUTES").await;
        let shop = routes.iter().find(|row| row.get("route").is_some_and(|route| route == "shop"));
        let serving = shop.and_then(|row| row.get("cluster").cloned()).unwrap_or_default();
        let rows = self.headgate.admin("SHOW MIGRATION LIST").await;
        let state = rows.first().and_then(|row| row.get("state").cloned()).unwrap_or_default();
        let moved = self.moved.fetch_or(serving == "green", Ordering::Relaxed) || serving == "green";
        Situation { state, serving, moved }
    }

    /// Waits until nothing is under way: the migration is in a state that lasts, or there is none.
    pub async fn at_rest(&self) -> Situation {
        let ask = || self.headgate.try_admin("SHOW MIGRATION STATUS");
        let satisfied = |rows: &Result<Vec<Record>, String>| rows.as_ref().is_ok_and(|rows| is_at_rest(rows));
        let _rows = until("nothing is under way", SETTLES, ask, satisfied).await;
        self.situation().await
    }

    /// As [`Arena::at_rest`], with the migration in one of these states.
    pub async fn settled(&self, states: &[&str]) -> Situation {
        let settles = |situation: &Situation| states.contains(&situation.state.as_str()) || situation.state == "failed";
        let situation = until(&format!("the migration is {states:?}"), SETTLES, || self.at_rest(), settles).await;
        let rows = self.headgate.admin("SHOW MIGRATION STATUS").await;
        assert_ne!(situation.state, "failed", "{rows:?}");
        situation
    }

    /// What was passed since the last call, each place once, in its order: failpoints first.
    pub fn passed(&self) -> Vec<Place> {
        let file = self.headgate.failpoints().join("passed");
        let lines = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(&file);
        let mut places: Vec<Place> = Vec::new();
        let names = lines.lines().filter_map(|line| line.strip_prefix("before "));
        let failpoints = names.map(|name| Place::Failpoint(name.to_owned()));
        let statements = self.statements.take().into_iter().filter(|name| changes_something(name));
        for place in failpoints.chain(statements.map(Place::Statement)) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// Runs a statement with the program dying at a place; the statement's answer where it never got there.
    pub async fn die_at(&mut self, place: &Place, edge: Edge, statement: &str) -> Option<Result<(), String>> {
        self.arm(place, edge);
        let (operator, statement) = (self.headgate.operator(), statement.to_owned());
        let mut asking = tokio::spawn(async move {
            let answer = operator(&statement).await?;
            // What a statement begins may go on behind it.
            let ask = || operator("SHOW MIGRATION STATUS");
            let rows =
                until("nothing is under way", SETTLES, ask, |rows| rows.as_ref().map_or(true, |rows| is_at_rest(rows)));
            rows.await.map(|_| answer)
        });
        let survived = self.survives(&mut asking).await;
        self.disarm();
        if !survived {
            return None;
        }
        let answer = asking.await.expect("it does not panic");
        Some(answer.map(drop))
    }

    /// From now on the program dies at a place.
    pub fn arm(&self, place: &Place, edge: Edge) {
        match place {
            Place::Failpoint(name) => {
                let armed = format!("{} {name}", edge.name());
                fs::write(self.headgate.failpoints().join("armed"), armed).expect("the folder is ours");
            }
            Place::Statement(name) => self.statements.arm(name, edge),
        }
    }

    /// The program may live.
    pub fn disarm(&self) {
        self.statements.disarm();
        let _ = fs::remove_file(self.headgate.failpoints().join("armed"));
    }

    /// Waits until the program is dead, or until it is certain that it does not die of what it was asked for.
    async fn survives(&mut self, asking: &mut tokio::task::JoinHandle<Result<Vec<Record>, String>>) -> bool {
        let begun = Instant::now();
        let mut answered = None;
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            tick.tick().await;
            if self.headgate.has_ended() {
                return false;
            }
            if asking.is_finished() && answered.get_or_insert_with(Instant::now).elapsed() > AFTERWARDS {
                return true;
            }
            assert!(begun.elapsed() < SETTLES, "neither dead nor done");
        }
    }

    /// Starts the program again, and waits until every client is served.
    pub async fn revive(&mut self) -> Duration {
        let begun = Instant::now();
        self.headgate.launch().await;
        self.statements.watch(self.headgate.pid());
        self.load.until_served().await;
        begun.elapsed()
    }

    /// Compares what both servers hold with what the clients were told, and with one another.
    pub async fn judge(&mut self, situation: &Situation) -> (Verdict, Vec<String>) {
        let quiet = self.load.quiet().await;
        let serving = usize::from(situation.serving == "green");
        let [here, there] = [&self.clusters[serving], &self.clusters[1 - serving]];
        let mut faults = Vec::new();
        let contents = Contents::read(here).await;
        let follows = situation.state == "following" || self.runs_back(situation).await;
        if follows {
            let ask = || Contents::read(there);
            let other = until("the other side has followed", SETTLES, ask, |_| true).await;
            if other != contents {
                let read = async || (Contents::read(here).await, Contents::read(there).await);
                until("both sides are equal", SETTLES, read, |(here, there)| here == there).await;
            }
        } else if !situation.state.is_empty() {
            let other = Contents::read(there).await;
            faults.extend(other.torn().into_iter().map(|torn| format!("on the other side: {torn}")));
            if !other.is_within(&contents) {
                faults.push("the other side has what the serving side has not".to_owned());
            }
        }
        if !here.takes_writes().await {
            faults.push(format!("{} serves and refuses writes", situation.serving));
        }
        if situation.moved && there.takes_writes().await {
            faults.push("both sides take writes".to_owned());
        }
        faults.extend(self.leftovers(situation).await);
        let verdict = contents.judged_by(&self.load.history());
        drop(quiet);
        (verdict, faults)
    }

    /// What of Headgate's is there and should not be, or the other way round, once there was time to remove it. As things
    /// stand for the first time, they should.
    async fn leftovers(&mut self, situation: &Situation) -> Vec<String> {
        let [blue, green] = &self.clusters;
        // What a statement of an operator's installs and the next one finds is no trace of a kill, until all is over.
        let over = ["", "finished"].contains(&situation.state.as_str());
        let kept = async |cluster: &S| if over { cluster.kept_by_headgate().await } else { cluster.in_effect().await };
        let Some(known) = self.kept.get(situation) else {
            self.kept.insert(situation.clone(), [kept(blue).await, kept(green).await]);
            return Vec::new();
        };
        let give_up = Instant::now() + REMOVED;
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tick.tick().await;
            let now = [kept(blue).await, kept(green).await];
            let count = |list: &Vec<String>, one: &String| list.iter().filter(|other| *other == one).count();
            let mut faults = Vec::new();
            for (side, (known, now)) in ["blue", "green"].iter().zip(known.iter().zip(&now)) {
                let more = now.iter().filter(|one| count(now, one) > count(known, one));
                faults.extend(more.map(|one| format!("{side} has {one}")));
                let less = known.iter().filter(|one| count(known, one) > count(now, one));
                faults.extend(less.map(|one| format!("{side} lacks {one}")));
            }
            if faults.is_empty() || Instant::now() > give_up {
                return faults;
            }
        }
    }

    /// Whether changes flow back to the cluster that served before.
    async fn runs_back(&self, situation: &Situation) -> bool {
        if situation.state != "switched" {
            return false;
        }
        let rows = self.headgate.admin("SHOW MIGRATION STATUS m").await;
        rows.first().is_some_and(|row| row.get("way_back").is_some_and(|way| way == "lossless" || way == "interrupted"))
    }
}

/// Whether every migration is in a state that lasts, with nothing under way.
fn is_at_rest(rows: &[Record]) -> bool {
    const LASTING: [&str; 8] =
        ["created", "prechecked", "following", "switched", "finished", "stopped", "failed", "rolledback"];
    let text = |row: &Record, column: &str| row.get(column).cloned().unwrap_or_default();
    rows.iter().all(|row| {
        let at_rest = ["", "following"].contains(&text(row, "stage").as_str());
        let interrupted = !text(row, "interrupted_since").is_empty();
        LASTING.contains(&text(row, "state").as_str()) && at_rest && !interrupted
    })
}

/// Whether a statement may leave something behind, by its name. Reads are not worth a kill.
fn changes_something(name: &str) -> bool {
    const READS: [&str; 10] = [
        "SELECT",
        "SHOW",
        "WITH",
        "SET ",
        "EXPLAIN",
        "BEGIN",
        "START TRANSACTION",
        "SAVEPOINT",
        "RELEASE",
        "DEALLOCATE",
    ];
    const WRITING: [&str; 9] = [
        "setval",
        "emit_message",
        "replication_slot",
        "pg_terminate",
        "GET_LOCK",
        "GLOBAL",
        "PERSIST",
        "LOCK TABLE",
        "CREATE",
    ];
    let statement = name.split_once(": ").map_or(name, |(_, statement)| statement).trim_start_matches('(');
    let begins = |read: &str| statement.get(..read.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(read));
    let reads = READS.iter().any(|read| begins(read));
    !reads || WRITING.iter().any(|word| name.contains(word))
}
