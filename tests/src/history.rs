//! A small load through Headgate, of which every client records what it was told: the evidence for the checker.
//!
//! Each client inserts single rows, moves amounts between accounts in transactions, takes a number of the counter and rolls
//! back, and reads what it and the others wrote. An outcome is acknowledged, refused, or unknown where the connection
//! was lost after the statement that commits had been sent.

mod application;
mod contents;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::wait::{until, within};

pub use application::{Application, Failure};
pub use contents::{Contents, Verdict};

/// Clients of a load.
pub const CLIENTS: i64 = 4;
/// Accounts, and what each has at first.
pub const ACCOUNTS: i64 = 8;
/// What each account has at first.
pub const BALANCE: i64 = 1000;
/// How often each client begins anew: a busy machine keeps up with it.
const PACE: Duration = Duration::from_millis(15);
/// How long a load may take to be quiet, or to be served again, whatever happened.
const TIMEOUT: Duration = Duration::from_secs(100);

/// An operation: the client and its number.
pub type Operation = (i64, i64);

/// What was told to the clients.
#[derive(Debug, Default)]
pub struct History {
    /// With the number that the counter gave, where it was told.
    pub acknowledged: BTreeMap<Operation, Option<i64>>,
    /// Operations that must have had no effect.
    pub refused: BTreeSet<Operation>,
    /// Operations that may have had their effect.
    pub unknown: BTreeSet<Operation>,
    /// Whom the counter gave a number.
    handed: BTreeMap<i64, Operation>,
    /// Numbers that were given twice.
    pub twice: Vec<String>,
    /// Reads of something older than what the client had seen or written.
    pub backwards: Vec<String>,
    /// Sums that a part of a transaction was seen in.
    pub torn_reads: Vec<String>,
    /// What clients were shown, and how often.
    pub errors: BTreeMap<String, u64>,
    /// The last number that each client was acknowledged.
    last: BTreeMap<i64, i64>,
}

impl History {
    fn hand(&mut self, number: i64, to: Operation) {
        if let Some(before) = self.handed.insert(number, to) {
            self.twice.push(format!("the counter gave {number} to {before:?} and to {to:?}"));
        }
    }
}

impl History {
    /// A server has crashed. What its counter gave to transactions that had not committed is nobody's: neither engine flushes a
    /// counter before a transaction does, and gives such a number again.
    pub fn crashed(&mut self) {
        let acknowledged = &self.acknowledged;
        self.handed.retain(|_, operation| acknowledged.contains_key(operation));
    }
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    history: Arc<Mutex<History>>,
    going: Arc<RwLock<()>>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Statements that make the load's tables.
    pub fn schema<A: Application>() -> String {
        let accounts: Vec<String> = (1..=ACCOUNTS).map(|id| format!("({id}, {BALANCE})")).collect();
        let registers: Vec<String> = (0..CLIENTS).map(|client| format!("({client}, 0)")).collect();
        let (key, engine) = (A::COUNTER, A::TABLE_OPTIONS);
        format!(
            "CREATE TABLE ledger (id {key} PRIMARY KEY, client INT NOT NULL, number INT NOT NULL, payer INT, payee INT,
                 amount INT NOT NULL, body VARCHAR(200) NOT NULL){engine};
             CREATE TABLE accounts (id INT PRIMARY KEY, balance BIGINT NOT NULL){engine};
             CREATE TABLE registers (client INT PRIMARY KEY, number INT NOT NULL){engine};
             INSERT INTO accounts VALUES {};
             INSERT INTO registers VALUES {}",
            accounts.join(", "),
            registers.join(", ")
        )
    }

    /// Starts the clients.
    pub fn start<A: Application>(port: u16) -> Self {
        let (history, going, stop) = (Arc::default(), Arc::new(RwLock::new(())), Arc::new(AtomicBool::new(false)));
        let clients = (0..CLIENTS)
            .map(|client| {
                let one = Client::<A> {
                    own: client,
                    port,
                    session: None,
                    floor: BTreeMap::new(),
                    history: Arc::clone(&history),
                };
                tokio::spawn(one.run(Arc::clone(&going), Arc::clone(&stop)))
            })
            .collect();
        Self { history, going, stop, clients }
    }

    /// Waits until no client has anything under way; they go on when the guard is dropped.
    pub async fn quiet(&self) -> OwnedRwLockWriteGuard<()> {
        within("the load is quiet", TIMEOUT, Arc::clone(&self.going).write_owned()).await
    }

    /// Waits until every client has been acknowledged something that it began from now on.
    pub async fn until_served(&self) {
        let before = { self.history.lock().last.clone() };
        let now = || async { self.history.lock().last.clone() };
        // One that was under way does not count.
        let served = |now: &BTreeMap<i64, i64>| {
            (0..CLIENTS).all(|client| now.get(&client).unwrap_or(&0) > &(before.get(&client).unwrap_or(&0) + 1))
        };
        until("every client is served", TIMEOUT, now, served).await;
    }

    /// What was told to the clients so far.
    pub fn history(&self) -> parking_lot::MutexGuard<'_, History> {
        self.history.lock()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.iter().for_each(JoinHandle::abort);
    }
}

/// What an operation writes into its row, so that a part of it is seen.
pub fn body((client, number): Operation) -> String {
    format!("{client}-{number} ").repeat(8)
}

/// How an operation ended.
enum Outcome {
    Acknowledged(Option<i64>),
    /// By the client itself.
    RolledBack,
    Refused,
    Unknown,
}

struct Client<A> {
    /// Which one it is.
    own: i64,
    port: u16,
    session: Option<A>,
    /// What it has seen or written of each register.
    floor: BTreeMap<i64, i64>,
    history: Arc<Mutex<History>>,
}

impl<A: Application> Client<A> {
    async fn run(mut self, going: Arc<RwLock<()>>, stop: Arc<AtomicBool>) {
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            pace.tick().await;
            let _going = going.read().await;
            if self.session.is_none() {
                self.session = A::open(self.port).await;
            }
            let Some(mut session) = self.session.take() else {
                continue;
            };
            if let Err(failure) = self.read(&mut session).await {
                self.shown(&failure);
                continue;
            }
            number += 1;
            let operation = (self.own, number);
            let outcome = match number % 4 {
                0 => self.burn(&mut session, operation).await,
                1 => self.insert(&mut session, operation).await,
                _ => self.transfer(&mut session, operation).await,
            };
            let mut history = self.history.lock();
            match outcome {
                Outcome::Acknowledged(given) => {
                    self.session = Some(session);
                    history.acknowledged.insert(operation, given);
                    history.last.insert(self.own, number);
                }
                Outcome::RolledBack => {
                    self.session = Some(session);
                    history.refused.insert(operation);
                    history.last.insert(self.own, number);
                }
                Outcome::Refused => {
                    history.refused.insert(operation);
                }
                Outcome::Unknown => {
                    history.unknown.insert(operation);
                }
            }
        }
    }

    /// Reads all registers and the sum of all accounts.
    async fn read(&mut self, session: &mut A) -> Result<(), Failure> {
        let numbers = |rows: crate::postgres::Rows| -> Vec<i64> {
            let cells = rows.into_iter().flatten().flatten();
            cells.filter_map(|cell| cell.parse().ok()).collect()
        };
        let registers = numbers(session.ask("SELECT client, number FROM registers ORDER BY client").await?);
        for pair in registers.chunks(2) {
            let (of, number) = (pair[0], pair[1]);
            let floor = self.floor.entry(of).or_default();
            if number < *floor {
                let seen = format!("client {} read {number} of client {of}, after {floor}", self.own);
                self.history.lock().backwards.push(seen);
            }
            *floor = number.max(*floor);
        }
        let sum = numbers(session.ask("SELECT SUM(balance) FROM accounts").await?);
        if registers.chunks_exact(2).count() != (0..CLIENTS).count() || sum != [ACCOUNTS * BALANCE] {
            let seen = format!("client {} read {registers:?} and the sum {sum:?}", self.own);
            self.history.lock().torn_reads.push(seen);
        }
        Ok(())
    }

    /// One row by one statement.
    async fn insert(&self, session: &mut A, operation: Operation) -> Outcome {
        match session.insert(&Self::row(operation, None)).await {
            Ok(given) => {
                self.hand(given, operation);
                Outcome::Acknowledged(given)
            }
            Err(failure) => self.failed(&failure, true),
        }
    }

    /// Takes a number of the counter, and rolls back.
    async fn burn(&self, session: &mut A, operation: Operation) -> Outcome {
        let burned = async {
            session.ask("BEGIN").await?;
            let given = session.insert(&Self::row(operation, None)).await?;
            self.hand(given, operation);
            session.ask("ROLLBACK").await
        };
        match burned.await {
            Ok(_) => Outcome::RolledBack,
            Err(failure) => self.failed(&failure, false),
        }
    }

    /// Moves an amount from one account to another, and notes that in the ledger and in its register.
    async fn transfer(&mut self, session: &mut A, operation: Operation) -> Outcome {
        let (client, number) = operation;
        let payer = (client + number) % ACCOUNTS + 1;
        let payee = payer % ACCOUNTS + 1;
        let amount = number % 7 + 1;
        // In the order of the accounts: no two of them wait for one another.
        let mut steps = [(payer, -amount), (payee, amount)];
        steps.sort_unstable();
        let work = async {
            session.ask("BEGIN").await?;
            for (account, change) in steps {
                let update = format!("UPDATE accounts SET balance = balance + ({change}) WHERE id = {account}");
                session.ask(&update).await?;
            }
            let given = session.insert(&Self::row(operation, Some((payer, payee, amount)))).await?;
            self.hand(given, operation);
            let register = format!("UPDATE registers SET number = {number} WHERE client = {client}");
            session.ask(&register).await?;
            Ok(given)
        };
        let given = match work.await {
            Ok(given) => given,
            Err(failure) => return self.failed(&failure, false),
        };
        match session.ask("COMMIT").await {
            Ok(_) => {
                self.floor.insert(client, number);
                Outcome::Acknowledged(given)
            }
            Err(failure) => self.failed(&failure, true),
        }
    }

    fn row(operation: Operation, moved: Option<(i64, i64, i64)>) -> String {
        let (client, number) = operation;
        let body = body(operation);
        let (parties, amount) = match moved {
            Some((payer, payee, amount)) => (format!("{payer}, {payee}"), amount),
            None => ("NULL, NULL".to_owned(), 0),
        };
        format!(
            "INSERT INTO ledger (client, number, payer, payee, amount, body)
             VALUES ({client}, {number}, {parties}, {amount}, '{body}')"
        )
    }

    fn hand(&self, given: Option<i64>, operation: Operation) {
        if let Some(given) = given {
            self.history.lock().hand(given, operation);
        }
    }

    /// `commits` tells whether the statement was one that would have committed.
    fn failed(&self, failure: &Failure, commits: bool) -> Outcome {
        self.shown(failure);
        match failure {
            Failure::Lost(_) if commits => Outcome::Unknown,
            _ => Outcome::Refused,
        }
    }

    fn shown(&self, failure: &Failure) {
        let (Failure::Lost(text) | Failure::Refused(text)) = failure;
        *self.history.lock().errors.entry(text.clone()).or_default() += 1;
    }
}
