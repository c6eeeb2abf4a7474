//! What must survive the process: every decision of the control plane, durable before its effect starts.
//!
//! One SQLite file, one connection that writes and one that reads, each behind a mutex. A write costs a disk flush, so
//! it runs on a blocking thread and leaves the thread that relays statements alone; a read comes from memory and is done
//! where it is asked for, also while a write waits for its disk.
//!
//! Room for the records of a cutover is there before the gate closes: the write-ahead log is made long enough and then
//! overwritten in place, and a file of its own, `journal.room`, gives way when the disk is full nevertheless.

mod legs;
mod records;
mod schema;
mod switch_proofs;
#[cfg(test)]
mod tests;
mod wal;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::cutover::Cutover;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::model::mark::Mark;
use crate::model::position::Position;

pub(crate) use records::Entry;

/// The journal; clones share one file.
#[derive(Clone)]
pub struct Journal {
    open: Arc<Open>,
}

struct Open {
    connection: Mutex<Connection>,
    /// None where the disk has no room for what two connections share.
    reader: Option<Mutex<Connection>>,
    path: PathBuf,
    /// A file that is only room.
    room: PathBuf,
    /// Tests: the next failed decision cannot be looked up.
    #[cfg(test)]
    blind: std::sync::atomic::AtomicBool,
    /// Tests: a decision waits for this, as for a disk that does not answer.
    #[cfg(test)]
    stalled: Mutex<Option<std::sync::mpsc::Receiver<()>>>,
    /// Held as long as the journal is open; the kernel lets go of it however the process ends.
    _lock: File,
}

/// A write that failed.
#[derive(Debug)]
pub(crate) struct Unwritten {
    /// Why.
    pub(crate) error: Error,
    /// It may be on the disk all the same.
    pub(crate) in_doubt: bool,
}

impl From<Unwritten> for Error {
    fn from(unwritten: Unwritten) -> Self {
        unwritten.error
    }
}

/// More than all records of a cutover take in the write-ahead log: eight states of some five pages each.
const LOG_BYTES: u64 = 64 * (4096 + 24) + 32;
/// The room that is given up when the disk is full: some thirty pages.
const ROOM_BYTES: u64 = 128 * 1024;

impl Journal {
    /// Opens or creates the journal in `folder`, alone: a second Headgate on the same folder is refused.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("journal.sqlite");
        let failed = |cause: std::io::Error| {
            Error::fatal(format!("the journal folder {} cannot be used", folder.display()))
                .remedy("make it a folder that Headgate may write to")
                .because(cause)
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let lock = lock(folder, failed)?;
        let room = folder.join("journal.room");
        let (connection, shared) = match schema::open(&path, true) {
            Ok(connection) => (connection, true),
            Err(_) if std::fs::remove_file(&room).is_ok() => (schema::open(&path, true)?, true),
            // Alone, SQLite needs no room for what its connections share.
            Err(error) => (schema::open(&path, false).map_err(|_| error)?, false),
        };
        let reader = if shared {
            let reader = schema::open(&path, true)?;
            Some(Mutex::new(reader))
        } else {
            tracing::error!(
                path = %path.display(),
                "the journal's disk is full: what was decided is served, and nothing new can be decided"
            );
            None
        };
        let open = Open {
            connection: Mutex::new(connection),
            reader,
            path,
            room,
            #[cfg(test)]
            blind: false.into(),
            #[cfg(test)]
            stalled: Mutex::default(),
            _lock: lock,
        };
        if let Err(error) = open.make_room() {
            tracing::warn!(%error, "the journal's disk has no room in reserve");
        }
        Ok(Self { open: Arc::new(open) })
    }

    /// The routes that cutovers decided about, and the cluster each is on: they overrule the configuration.
    pub fn route_clusters(&self) -> Result<BTreeMap<String, String>> {
        self.read(|connection| {
            let mut rows = connection.prepare_cached("SELECT route, cluster FROM routes")?;
            let pairs = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            pairs.collect()
        })
    }

    /// Makes a state of a migration's cutover durable, with all that the state decides: a new epoch at the start,
    /// the route's cluster at the switch, the migration's end after it. Returns the epoch.
    ///
    /// Where the decision to switch could not be written, the log is read as a restart would read it: only where that
    /// does not tell, the write is in doubt.
    pub(crate) async fn enter<P: Position>(&self, name: &str, state: &Cutover<P>) -> Result<u64, Unwritten> {
        let certain = |error| Unwritten { error, in_doubt: false };
        let (name, text, state_name) = (name.to_owned(), encode(state).map_err(certain)?, state.name());
        let (begins, switches, ends) = (
            matches!(state, Cutover::Holding),
            matches!(state, Cutover::Switching),
            matches!(state, Cutover::Switched),
        );
        let at = now();
        self.commit(state_name, switches, move |transaction| {
            if begins {
                transaction.execute("UPDATE epochs SET last = last + 1", [])?;
                transaction.execute(
                    "INSERT INTO cutovers (migration, state, epoch, entered)
                     SELECT ?1, ?2, last, ?3 FROM epochs WHERE true
                     ON CONFLICT (migration) DO UPDATE
                     SET state = excluded.state, epoch = excluded.epoch, entered = excluded.entered",
                    params![name, text, at],
                )?;
            } else {
                transaction.execute(
                    "UPDATE cutovers SET state = ?2, entered = ?3 WHERE migration = ?1",
                    params![name, text, at],
                )?;
            }
            let epoch: i64 = transaction.query_row(
                "INSERT INTO steps (migration, epoch, state, entered)
                 SELECT migration, epoch, ?2, entered FROM cutovers WHERE migration = ?1 RETURNING epoch",
                params![name, state_name],
                |row| row.get(0),
            )?;
            if switches {
                transaction.execute(
                    "INSERT INTO routes (route, cluster, epoch, decided)
                     SELECT definition ->> 'route', definition ->> CASE leg % 2 WHEN 1 THEN 'target' ELSE 'source' END,
                         ?2, ?3
                     FROM migrations WHERE name = ?1
                     ON CONFLICT (route) DO UPDATE
                     SET cluster = excluded.cluster, epoch = excluded.epoch, decided = excluded.decided",
                    params![name, epoch, at],
                )?;
            }
            if ends {
                go_over(transaction, &name, at)?;
            }
            Ok(epoch.unsigned_abs())
        })
        .await
    }

    /// The last state of a migration's cutover and its epoch; `None` before the first.
    pub(crate) fn cutover<P: Position>(&self, name: &str) -> Result<Option<(u64, Cutover<P>)>> {
        let row: Option<(i64, String)> = self.read(|connection| {
            connection
                .prepare_cached("SELECT epoch, state FROM cutovers WHERE migration = ?1")?
                .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })?;
        row.map(|(epoch, text)| Ok((epoch.unsigned_abs(), decode(&text)?))).transpose()
    }

    /// What tells this journal from every other.
    pub(crate) fn identity(&self) -> Result<String> {
        self.read(|connection| connection.prepare_cached("SELECT id FROM identity")?.query_row([], |row| row.get(0)))
    }

    /// The epoch of the last cutover that this journal began.
    pub(crate) fn last_epoch(&self) -> Result<u64> {
        let last: i64 = self
            .read(|connection| connection.prepare_cached("SELECT last FROM epochs")?.query_row([], |row| row.get(0)))?;
        Ok(last.unsigned_abs())
    }

    /// Whether a cutover or rehearsal of this migration was ever begun.
    pub(crate) fn has_cut(&self, name: &str) -> Result<bool> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM cutovers WHERE migration = ?1)")?
                .query_row([name], |row| row.get(0))
        })
    }

    /// Whether this journal decided about the switch that a cluster's `mark` tells of.
    pub(crate) fn knows(&self, mark: &Mark) -> Result<bool> {
        if mark.journal.is_empty() {
            return self.has_cut(&mark.migration);
        }
        Ok(mark.journal == self.identity()? && mark.epoch <= self.last_epoch()?)
    }

    /// Whether a later decision of this journal brought the route back to the cluster that `mark` says it left. The journal
    /// of an older copy has none.
    pub(crate) fn came_back(&self, mark: &Mark, cluster: &str) -> Result<bool> {
        if mark.journal != self.identity()? {
            return Ok(false);
        }
        let epoch = i64::try_from(mark.epoch).unwrap_or(i64::MAX);
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM routes WHERE route = ?1 AND cluster = ?2 AND epoch > ?3)",
                )?
                .query_row(params![mark.route, cluster, epoch], |row| row.get(0))
        })
    }

    /// Makes room for all records of a cutover, so that a disk that fills up meanwhile does not come between them.
    pub(crate) async fn reserve(&self) -> Result<()> {
        let open = Arc::clone(&self.open);
        let reserving = tokio::task::spawn_blocking(move || {
            let connection = open.connection.lock();
            // The next write begins at the start of the log. Where it cannot, the log only becomes longer.
            let begun = connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()));
            let longer = wal::extend(&wal::path_of(&open.path), LOG_BYTES);
            begun.map_err(std::io::Error::other).and(longer).and_then(|()| open.make_room())
        });
        let cause: Box<dyn std::error::Error + Send + Sync> = match reserving.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(cause)) => cause.into(),
            Err(cause) => cause.into(),
        };
        Err(Error::refused(format!(
            "the disk of the journal {} has no room for the records of a cutover ({} KiB)",
            self.open.path.display(),
            (LOG_BYTES + ROOM_BYTES) / 1024
        ))
        .remedy("make room on that disk, and try again; nothing was begun")
        .because(cause))
    }

    /// Runs `work` in one transaction on a blocking thread. Once started it ends even if the caller goes away.
    async fn write<T: Send + 'static>(
        &self,
        work: impl Fn(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.commit(failpoint::function_of(&work), false, work).await.map_err(Error::from)
    }

    /// As [`Journal::write`]; a `decision` that fails is looked for on the disk.
    async fn commit<T: Send + 'static>(
        &self,
        name: &'static str,
        decision: bool,
        work: impl Fn(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Unwritten> {
        let open = Arc::clone(&self.open);
        let committing = move || {
            failpoint::before("record", name);
            #[cfg(test)]
            if decision && let Some(stalled) = open.stalled.lock().take() {
                // Nothing is ever sent.
                let _ = stalled.recv();
            }
            let outcome = open.commit(decision, &work);
            failpoint::after("record", name);
            outcome
        };
        match tokio::task::spawn_blocking(committing).await {
            Ok(outcome) => outcome
                .map_err(|(cause, in_doubt)| Unwritten { error: schema::unusable(&self.open.path, cause), in_doubt }),
            Err(gone) => {
                Err(Unwritten { error: Error::transient("a journal write did not end").because(gone), in_doubt: true })
            }
        }
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let connection = self.open.reader.as_ref().unwrap_or(&self.open.connection);
        work(&connection.lock()).map_err(|cause| schema::unusable(&self.open.path, cause))
    }

    /// The next decision does not reach the disk before the sender is dropped.
    #[cfg(test)]
    pub(crate) fn stall(&self) -> std::sync::mpsc::Sender<()> {
        let (sender, receiver) = std::sync::mpsc::channel();
        *self.open.stalled.lock() = Some(receiver);
        sender
    }

    /// From now on a failed decision is in doubt.
    #[cfg(test)]
    pub(crate) fn blind(&self) {
        self.open.blind.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Open {
    /// Commits what `work` does; where the disk is full, once more in the room that was kept. The error tells whether
    /// the commit may be on the disk all the same.
    fn commit<T>(
        &self,
        decision: bool,
        work: &impl Fn(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, (rusqlite::Error, bool)> {
        let mut connection = self.connection.lock();
        let before = decision.then(|| wal::committed(&wal::path_of(&self.path)));
        loop {
            let cause = match attempt(&mut connection, work) {
                Ok(outcome) => return Ok(outcome),
                Err(cause) => cause,
            };
            let in_doubt = match &before {
                None => false,
                Some(Ok(before)) => !self.is_absent(before),
                Some(Err(_)) => true,
            };
            if in_doubt || !is_about_room(&cause) || std::fs::remove_file(&self.room).is_err() {
                return Err((cause, in_doubt));
            }
            tracing::error!(
                path = %self.path.display(), error = %cause,
                "the journal's disk is full; the record is written in the room that was kept for it"
            );
        }
    }

    /// Whether no restart can find a commit that came after `before`.
    fn is_absent(&self, before: &wal::Committed) -> bool {
        #[cfg(test)]
        if self.blind.load(std::sync::atomic::Ordering::SeqCst) {
            return false;
        }
        let log = wal::path_of(&self.path);
        let absent = || wal::committed(&log).is_ok_and(|now| !now.has_more_than(before));
        // All of it was written and only the flush failed: SQLite never reads it, so it may be taken away.
        absent() || wal::cut_back(&log, before).is_ok() && absent()
    }

    fn make_room(&self) -> std::io::Result<()> {
        if self.room.metadata().is_ok_and(|room| room.len() >= ROOM_BYTES) {
            return Ok(());
        }
        let mut file = File::create(&self.room)?;
        let filled = wal::fill(&mut file, ROOM_BYTES, 0xff);
        if filled.is_err() {
            // Half of it would be in the way of what has to be written.
            std::fs::remove_file(&self.room)?;
        }
        filled
    }
}

/// The route is on the target of the leg that ran: the next one runs, where it is armed.
fn go_over(transaction: &Transaction<'_>, name: &str, at: i64) -> rusqlite::Result<()> {
    transaction.execute(
        "UPDATE legs SET begun = ?2 WHERE migration = ?1 AND armed = 1 AND begun IS NULL
         AND leg = (SELECT leg + 1 FROM migrations WHERE name = ?1)",
        params![name, at],
    )?;
    transaction.execute(
        "UPDATE migrations SET since = ?2, error = NULL, remedy = NULL,
             state = CASE
                 WHEN leg % 2 = 1 THEN 'switched'
                 WHEN EXISTS (SELECT 1 FROM legs AS l WHERE l.migration = name AND l.leg = migrations.leg + 1 AND l.armed = 1)
                     THEN 'following'
                 ELSE 'rolledback' END,
             leg = leg + EXISTS (
                 SELECT 1 FROM legs AS l WHERE l.migration = name AND l.leg = migrations.leg + 1 AND l.armed = 1)
         WHERE name = ?1",
        params![name, at],
    )?;
    Ok(())
}

fn attempt<T>(
    connection: &mut Connection,
    work: &impl Fn(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let outcome = work(&transaction)?;
    transaction.commit()?;
    Ok(outcome)
}

fn is_about_room(cause: &rusqlite::Error) -> bool {
    matches!(cause.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen))
}

fn lock(folder: &Path, failed: impl Fn(std::io::Error) -> Error) -> Result<File> {
    let path = folder.join("journal.lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(&failed)?;
    match file.try_lock() {
        Ok(()) => {
            // Only a hint for the next one's message, for which a disk may be too full; the lock itself is the kernel's.
            let _hint = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            let read = Read::by_ref(&mut file).take(20).read_to_string(&mut owner);
            let owner = if read.is_ok() && !owner.is_empty() { owner } else { "unknown".to_owned() };
            Err(Error::refused(format!(
                "the journal in {} belongs to another running Headgate (pid {owner})",
                folder.display()
            ))
            .remedy("stop that one first, or give this one a journal folder of its own"))
        }
        Err(TryLockError::Error(cause)) => Err(failed(cause)),
    }
}

fn encode<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|cause| Error::fatal("a record cannot be written down").because(cause))
}

fn decode<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|cause| {
        Error::fatal("the journal holds a record that this version does not understand")
            .remedy("run the version that wrote it")
            .because(cause)
    })
}

/// Milliseconds since 1970, the journal's only form of time.
fn now() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
