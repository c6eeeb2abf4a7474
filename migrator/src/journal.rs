//! What must survive the process: every decision of the control plane, durable before its effect starts.
//!
//! One SQLite file, one connection behind a mutex. A write costs a disk flush, so it runs on a blocking thread and
//! leaves the thread that relays statements alone; a read comes from memory and is done where it is asked for.

mod records;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::cutover::Cutover;
use crate::database::Position;
use crate::error::{Error, Result};

pub(crate) use records::Entry;

/// The journal; clones share one file.
#[derive(Clone)]
pub struct Journal {
    open: Arc<Open>,
}

struct Open {
    connection: Mutex<Connection>,
    path: PathBuf,
    /// Held as long as the journal is open; the kernel lets go of it however the process ends.
    _lock: File,
}

impl Journal {
    /// Opens or creates the journal in `folder`, alone: a second Headgate on the same folder is refused.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("journal.sqlite");
        let failed = |cause: std::io::Error| {
            Error::fatal(format!(
                "the journal folder {} cannot be used",
                folder.display()
            ))
            .remedy("make it a folder that Headgate may write to")
            .because(cause)
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed)?;
        let lock = lock(folder, failed)?;
        let mut connection = Connection::open(&path).map_err(|cause| unusable(&path, cause))?;
        schema::prepare(&mut connection, &path)?;
        let open = Open {
            connection: Mutex::new(connection),
            path,
            _lock: lock,
        };
        Ok(Self {
            open: Arc::new(open),
        })
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
    pub(crate) async fn enter<P: Position>(&self, name: &str, state: &Cutover<P>) -> Result<u64> {
        let (name, text, state_name) = (name.to_owned(), encode(state)?, state.name());
        let (begins, switches, ends) = (
            matches!(state, Cutover::Holding),
            matches!(state, Cutover::Switching),
            matches!(state, Cutover::Switched),
        );
        let at = now();
        self.write(move |transaction| {
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
                     SELECT definition ->> 'route', definition ->> 'target', ?2, ?3
                     FROM migrations WHERE name = ?1
                     ON CONFLICT (route) DO UPDATE
                     SET cluster = excluded.cluster, epoch = excluded.epoch, decided = excluded.decided",
                    params![name, epoch, at],
                )?;
            }
            if ends {
                transaction.execute(
                    "UPDATE migrations SET state = 'switched', since = ?2, error = NULL, remedy = NULL
                     WHERE name = ?1",
                    params![name, at],
                )?;
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
        row.map(|(epoch, text)| Ok((epoch.unsigned_abs(), decode(&text)?)))
            .transpose()
    }

    /// Runs `work` in one transaction on a blocking thread. Once started it ends even if the caller goes away.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let open = Arc::clone(&self.open);
        let write = move || {
            let mut connection = open.connection.lock();
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let outcome = work(&transaction)?;
            transaction.commit()?;
            Ok(outcome)
        };
        let failed = |cause: rusqlite::Error| unusable(&self.open.path, cause);
        match tokio::task::spawn_blocking(write).await {
            Ok(outcome) => outcome.map_err(failed),
            Err(gone) => Err(Error::transient("a journal write did not end").because(gone)),
        }
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        work(&self.open.connection.lock()).map_err(|cause| unusable(&self.open.path, cause))
    }
}

fn lock(folder: &Path, failed: impl Fn(std::io::Error) -> Error) -> Result<File> {
    let path = folder.join("journal.lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(&failed)?;
    match file.try_lock() {
        Ok(()) => {
            // Only a hint for the next one's message; the lock itself is the kernel's.
            let hint = file
                .set_len(0)
                .and_then(|()| write!(file, "{}", std::process::id()));
            hint.map_err(failed)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            let read = Read::by_ref(&mut file).take(20).read_to_string(&mut owner);
            let owner = if read.is_ok() && !owner.is_empty() {
                owner
            } else {
                "unknown".to_owned()
            };
            Err(Error::refused(format!(
                "the journal in {} belongs to another running Headgate (pid {owner})",
                folder.display()
            ))
            .remedy("stop that one first, or give this one a journal folder of its own"))
        }
        Err(TryLockError::Error(cause)) => Err(failed(cause)),
    }
}

fn unusable(path: &Path, cause: rusqlite::Error) -> Error {
    Error::transient(format!(
        "the journal {} cannot be read or written",
        path.display()
    ))
    .remedy("look at the disk's free space and the folder's rights")
    .because(cause)
}

fn encode<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|cause| Error::fatal("a record cannot be written down").because(cause))
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
    let since = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
