//! The sessions that are open now: for SHOW SESSIONS, for cancel requests, and for the way out.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::flow::Flow;
use crate::route::Cluster;

/// What a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Logging in.
    Starting,
    /// Between transactions, or inside one.
    Serving,
    /// A statement of it waits at the gate.
    Held,
    /// Moving to another cluster.
    Moving,
}

impl Activity {
    /// The word that SHOW SESSIONS prints.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Held => "held",
            Self::Moving => "moving",
        }
    }
}

/// How to cancel what a server session runs.
#[derive(Clone, Debug)]
pub struct ServerKey {
    /// The cluster that the session is on.
    pub cluster: Arc<Cluster>,
    /// The pid, or the number of the connection, that the server gave.
    pub pid: i64,
    /// The secret that the server gave.
    pub secret: Bytes,
    /// Its connection is in TLS.
    pub encrypted: bool,
}

/// How a client names its session when it asks to cancel: the pid and the secret that it was told at login. MySQL's
/// clients are told a number and no secret.
pub type ClientKey = (i32, Bytes);

/// One open session, shared between its task and those who look at it.
#[derive(Debug)]
pub struct Entry {
    /// Unique in this process.
    pub id: u64,
    /// The user that logged in.
    pub user: String,
    /// The route.
    pub route: String,
    /// Where the client connects from.
    pub client: SocketAddr,
    /// Whether it does in TLS.
    pub encrypted: bool,
    /// The `application_name` of the startup packet.
    pub application: String,
    /// When the client connected.
    pub since: Instant,
    /// The number of its ticket at the gate.
    pub ticket: u64,
    /// The bytes that it carries.
    pub flow: Arc<Flow>,
    /// Other routes whose gates it passes, with the numbers of its tickets there.
    also: Mutex<Vec<(String, u64)>>,
    activity: AtomicU8,
    server: Mutex<Option<ServerKey>>,
    client_key: Mutex<Option<ClientKey>>,
    cancelled: AtomicBool,
    closing: AtomicBool,
    warming: Mutex<Option<WarmOrder>>,
    probing: Mutex<Vec<oneshot::Sender<Movable>>>,
    /// Rung for the session's task: look at the orders.
    pub notify: Notify,
}

impl Entry {
    /// Says what the session is doing.
    pub fn set_activity(&self, activity: Activity) {
        self.activity.store(activity as u8, Ordering::Relaxed);
    }

    /// What the session is doing.
    pub fn activity(&self) -> Activity {
        match self.activity.load(Ordering::Relaxed) {
            0 => Activity::Starting,
            1 => Activity::Serving,
            2 => Activity::Held,
            _ => Activity::Moving,
        }
    }

    /// The server session that this client's statements run on.
    pub fn server(&self) -> Option<ServerKey> {
        self.server.lock().clone()
    }

    /// Records the server session, at login and after a handover.
    pub fn set_server(&self, key: ServerKey) {
        *self.server.lock() = Some(key);
    }

    /// The session passes the gate of another route too.
    pub fn join(&self, route: &str, ticket: u64) {
        self.also.lock().push((route.to_owned(), ticket));
    }

    /// It passes the gates of these other routes and of no more.
    pub fn rejoin(&self, also: impl Iterator<Item = (String, u64)>) {
        *self.also.lock() = also.collect();
    }

    /// The number of its ticket at the gate of this route.
    pub fn ticket_at(&self, route: &str) -> Option<u64> {
        if self.route == route {
            return Some(self.ticket);
        }
        let also = self.also.lock();
        let at = also.iter().find(|(name, _)| name == route);
        at.map(|(_, ticket)| *ticket)
    }

    /// Takes the order to cancel the held statement, if there is one.
    pub fn take_cancel(&self) -> bool {
        self.cancelled.swap(false, Ordering::SeqCst)
    }

    /// Orders the session to cancel the statement that it holds.
    pub fn order_cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        self.notify.notify_one();
    }

    /// Takes the order to open a session on another cluster ahead of a switch, if there is one.
    pub fn take_warm_order(&self) -> Option<WarmOrder> {
        self.warming.lock().take()
    }

    fn info(&self) -> SessionInfo {
        let server = self.server();
        SessionInfo {
            id: self.id,
            user: self.user.clone(),
            route: self.route.clone(),
            client: self.client,
            application: self.application.clone(),
            activity: self.activity(),
            cluster: server.as_ref().map(|key| key.cluster.name.clone()),
            server_pid: server.as_ref().map(|key| key.pid),
            client_tls: self.encrypted,
            server_tls: server.as_ref().map(|key| key.encrypted),
            age: self.since.elapsed(),
            ticket: self.ticket,
            also: self.also.lock().clone(),
        }
    }

    /// Those who wait to be told whether the session can move.
    pub fn take_probes(&self) -> Vec<oneshot::Sender<Movable>> {
        std::mem::take(&mut self.probing.lock())
    }

    fn probe(&self) -> oneshot::Receiver<Movable> {
        let (sender, receiver) = oneshot::channel();
        self.probing.lock().push(sender);
        self.notify.notify_one();
        receiver
    }

    /// Whether the session was asked to end once its transaction is over.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }
}

/// Whether a session could move to another cluster now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Movable {
    /// Nothing speaks against it.
    Yes,
    /// It would be closed, for this reason.
    No(&'static str),
    /// It could not be asked, for this reason.
    NotKnown(&'static str),
}

/// Answers everybody who asked whether a session can move.
pub(crate) fn answer_probes(askers: Vec<oneshot::Sender<Movable>>, answer: Movable) {
    for asker in askers {
        // Who does not listen any more has given up.
        let _ = asker.send(answer);
    }
}

/// A session that cannot move, or of which that is not known.
#[derive(Clone, Debug)]
pub struct Unmovable {
    /// The session.
    pub session: SessionInfo,
    /// What it answered; never `Yes`.
    pub why: Movable,
}

/// Sessions that are asked at the same time whether they can move: the server works for each of them.
const PROBES_MAX: usize = 16;

/// An order to open a session on another cluster ahead of a switch.
#[derive(Debug)]
pub struct WarmOrder {
    /// The cluster that the route will lead to.
    pub cluster: Arc<Cluster>,
    /// Dropped when the session is open; told why it cannot be opened.
    pub done: mpsc::UnboundedSender<String>,
}

/// What SHOW SESSIONS tells of one session.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// Unique in this process.
    pub id: u64,
    /// The user that logged in.
    pub user: String,
    /// The route.
    pub route: String,
    /// Where the client connects from.
    pub client: SocketAddr,
    /// The `application_name` of the startup packet.
    pub application: String,
    /// What it is doing.
    pub activity: Activity,
    /// The cluster it is on.
    pub cluster: Option<String>,
    /// The pid of its server session.
    pub server_pid: Option<i64>,
    /// Its client's connection is in TLS.
    pub client_tls: bool,
    /// So is the server session's.
    pub server_tls: Option<bool>,
    /// For how long it has been connected.
    pub age: Duration,
    /// Its number at the gate.
    pub ticket: u64,
    /// Other routes whose gates it passes, with its numbers there.
    pub also: Vec<(String, u64)>,
}

impl SessionInfo {
    /// Its number at the gate of this route.
    pub fn ticket_at(&self, route: &str) -> Option<u64> {
        if self.route == route {
            return Some(self.ticket);
        }
        let at = self.also.iter().find(|(name, _)| name == route);
        at.map(|(_, ticket)| *ticket)
    }
}

/// Everything about a new session that does not change.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// The user that logged in.
    pub user: String,
    /// The route.
    pub route: String,
    /// Where the client connects from.
    pub client: SocketAddr,
    /// Whether it does in TLS.
    pub encrypted: bool,
    /// The `application_name` of the startup packet.
    pub application: String,
    /// The number of its ticket at the gate.
    pub ticket: u64,
}

/// All open sessions.
#[derive(Debug, Default)]
pub struct Registry {
    sessions: Mutex<HashMap<u64, Arc<Entry>>>,
    keys: Mutex<HashMap<ClientKey, Arc<Entry>>>,
    next_id: AtomicU64,
    closing: AtomicBool,
    empty: Notify,
}

impl Registry {
    /// Adds a session; it is removed when the returned value is dropped.
    pub fn add(self: &Arc<Self>, new: NewSession) -> Registered {
        self.insert(new, Instant::now(), Arc::default())
    }

    fn insert(self: &Arc<Self>, new: NewSession, since: Instant, flow: Arc<Flow>) -> Registered {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry {
            id,
            user: new.user,
            route: new.route,
            client: new.client,
            encrypted: new.encrypted,
            application: new.application,
            since,
            ticket: new.ticket,
            flow,
            also: Mutex::default(),
            activity: AtomicU8::new(Activity::Starting as u8),
            server: Mutex::default(),
            client_key: Mutex::default(),
            cancelled: AtomicBool::new(false),
            closing: AtomicBool::new(self.closing.load(Ordering::SeqCst)),
            warming: Mutex::default(),
            probing: Mutex::default(),
            notify: Notify::new(),
        });
        self.sessions.lock().insert(id, Arc::clone(&entry));
        Registered { registry: Arc::clone(self), entry }
    }

    /// Whom that key names. Keys are told to their own clients only, and carry at least 32 random bits.
    pub fn by_key(&self, key: &ClientKey) -> Option<Arc<Entry>> {
        self.keys.lock().get(key).cloned()
    }

    /// Whom the number means that a client of MySQL's was told. Whether the asker may know is the asker's matter.
    pub fn by_client_id(&self, id: u32) -> Option<Arc<Entry>> {
        self.by_key(&(id.cast_signed(), Bytes::new()))
    }

    /// Every session, by age.
    pub fn snapshot(&self) -> Vec<SessionInfo> {
        let sessions = self.sessions.lock();
        let mut all: Vec<SessionInfo> = sessions.values().map(|entry| entry.info()).collect();
        drop(sessions);
        all.sort_by_key(|session| session.id);
        all
    }

    /// The bytes that open sessions carried since this was asked last, with their routes.
    pub fn take_flows(&self) -> Vec<(String, (u64, u64))> {
        let sessions = self.sessions.lock();
        let flows = sessions.values();
        flows.map(|entry| (entry.route.clone(), entry.flow.take())).collect()
    }

    /// How many sessions are open.
    pub fn len(&self) -> usize {
        self.sessions.lock().len()
    }

    /// Whether no session is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Asks every session to end once its transaction is over.
    pub fn close_all(&self) {
        // Those who are still logging in learn of it when they are added.
        self.closing.store(true, Ordering::SeqCst);
        for entry in self.sessions.lock().values() {
            entry.closing.store(true, Ordering::SeqCst);
            entry.notify.notify_one();
        }
    }

    /// Orders every session of `route` to open a session on `cluster` ahead of a switch, and resolves when all have
    /// tried, or at `deadline`. Tells of each that could not be opened why not.
    pub async fn warm(&self, route: &str, cluster: &Arc<Cluster>, deadline: Instant) -> Vec<String> {
        let (done, mut failures) = mpsc::unbounded_channel();
        for entry in self.of_route(route) {
            let order = WarmOrder { cluster: Arc::clone(cluster), done: done.clone() };
            *entry.warming.lock() = Some(order);
            entry.notify.notify_one();
        }
        drop(done);
        let mut unopened = Vec::new();
        // The channel closes with the last order; what is not open by then is opened at the switch.
        while let Ok(Some(why)) = timeout_at(deadline, failures.recv()).await {
            unopened.push(why);
        }
        unopened
    }

    /// The sessions of `route` that a switch would close now, and those that did not say so within `limit`.
    pub async fn unmovable(&self, route: &str, limit: Duration) -> Vec<Unmovable> {
        let deadline = Instant::now() + limit;
        let mut found = Vec::new();
        for group in self.of_route(route).chunks(PROBES_MAX) {
            let asked: Vec<_> = group.iter().map(|entry| (entry, entry.probe())).collect();
            for (entry, answer) in asked {
                let why = match timeout_at(deadline, answer).await {
                    // Where nobody answers any more it has ended.
                    Ok(Ok(Movable::Yes) | Err(_)) => continue,
                    Ok(Ok(why)) => why,
                    Err(_) => Movable::NotKnown("it did not answer in time"),
                };
                let session = entry.info();
                found.push(Unmovable { session, why });
            }
        }
        found.sort_by_key(|one| one.session.id);
        found
    }

    /// The sessions that pass the gate of a route.
    pub fn of_route(&self, route: &str) -> Vec<Arc<Entry>> {
        let sessions = self.sessions.lock();
        sessions.values().filter(|entry| entry.ticket_at(route).is_some()).cloned().collect()
    }

    /// Resolves once no session is open. Cancel safe.
    pub async fn emptied(&self) {
        loop {
            let rung = self.empty.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            if self.is_empty() {
                return;
            }
            rung.await;
        }
    }
}

/// A session's own hold on its entry.
#[derive(Debug)]
pub struct Registered {
    registry: Arc<Registry>,
    entry: Arc<Entry>,
}

impl Registered {
    /// The shared entry.
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// The client goes on under the same number as another session: of another user, or of another route.
    pub fn renew(&mut self, new: NewSession) {
        let Entry { since, flow, .. } = &*self.entry;
        let next = self.registry.insert(new, *since, Arc::clone(flow));
        let key = self.entry.client_key.lock().take();
        if let Some(server) = self.entry.server() {
            next.entry.set_server(server);
        }
        next.entry.set_activity(self.entry.activity());
        if let Some(key) = key {
            let mut keys = self.registry.keys.lock();
            keys.insert(key.clone(), Arc::clone(&next.entry));
            *next.entry.client_key.lock() = Some(key);
        }
        *self = next;
    }

    /// From now on cancel requests with this key mean this session. False where the key is taken.
    #[must_use]
    pub fn listen_for(&self, key: ClientKey) -> bool {
        let mut keys = self.registry.keys.lock();
        if keys.contains_key(&key) {
            return false;
        }
        keys.insert(key.clone(), Arc::clone(&self.entry));
        *self.entry.client_key.lock() = Some(key);
        true
    }

    /// From now on `id` means this session. False where it is taken.
    #[must_use]
    pub fn listen_for_id(&self, id: u32) -> bool {
        self.listen_for((id.cast_signed(), Bytes::new()))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(key) = self.entry.client_key.lock().take() {
            self.registry.keys.lock().remove(&key);
        }
        drop(self.entry.take_probes());
        let mut sessions = self.registry.sessions.lock();
        sessions.remove(&self.entry.id);
        if sessions.is_empty() {
            self.registry.empty.notify_waiters();
        }
    }
}
