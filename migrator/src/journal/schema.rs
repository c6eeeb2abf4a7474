//! The journal's tables, and the version that says which of them a file has.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::error::{Error, Result};

/// Each entry takes a file from the version of its index to the next.
const VERSIONS: &[&str] = &[
    "
    CREATE TABLE migrations (
        name TEXT PRIMARY KEY, definition TEXT NOT NULL, state TEXT NOT NULL, created INTEGER NOT NULL,
        since INTEGER NOT NULL, error TEXT, remedy TEXT, plan TEXT, copied INTEGER NOT NULL DEFAULT 0, tables TEXT
    ) STRICT;
    CREATE TABLE epochs (last INTEGER NOT NULL) STRICT;
    INSERT INTO epochs VALUES (0);
    CREATE TABLE cutovers (
        migration TEXT PRIMARY KEY REFERENCES migrations ON DELETE CASCADE,
        state TEXT NOT NULL, epoch INTEGER NOT NULL, entered INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE steps (
        id INTEGER PRIMARY KEY, migration TEXT NOT NULL REFERENCES migrations ON DELETE CASCADE,
        epoch INTEGER NOT NULL, state TEXT NOT NULL, entered INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE findings (
        id INTEGER PRIMARY KEY, migration TEXT NOT NULL REFERENCES migrations ON DELETE CASCADE,
        finding TEXT NOT NULL
    ) STRICT;
    CREATE TABLE checks (
        migration TEXT PRIMARY KEY REFERENCES migrations ON DELETE CASCADE, summary TEXT NOT NULL
    ) STRICT;
    CREATE TABLE proofs (
        id INTEGER PRIMARY KEY, migration TEXT NOT NULL REFERENCES migrations ON DELETE CASCADE,
        proof TEXT NOT NULL
    ) STRICT;
    CREATE TABLE reports (
        id INTEGER PRIMARY KEY, migration TEXT NOT NULL REFERENCES migrations ON DELETE CASCADE,
        report TEXT NOT NULL
    ) STRICT;
    CREATE TABLE routes (
        route TEXT PRIMARY KEY, cluster TEXT NOT NULL, epoch INTEGER NOT NULL, decided INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX steps_by_migration ON steps (migration);
    CREATE INDEX findings_by_migration ON findings (migration);
    CREATE INDEX proofs_by_migration ON proofs (migration);
    CREATE INDEX reports_by_migration ON reports (migration);
",
    "
    ALTER TABLE checks ADD COLUMN fingerprint TEXT;
",
    "
    CREATE TABLE kept (id INTEGER PRIMARY KEY, migration TEXT NOT NULL, report TEXT NOT NULL) STRICT;
    INSERT INTO kept SELECT id, migration, report FROM reports;
    DROP TABLE reports;
    ALTER TABLE kept RENAME TO reports;
    CREATE INDEX reports_by_migration ON reports (migration);
",
    "
    CREATE TABLE identity (id TEXT NOT NULL) STRICT;
    INSERT INTO identity VALUES (lower(hex(randomblob(16))));
",
    "
    ALTER TABLE migrations ADD COLUMN recopy TEXT;
",
    "
    ALTER TABLE migrations ADD COLUMN leg INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE checks ADD COLUMN leg INTEGER NOT NULL DEFAULT 1;
    CREATE TABLE legs (
        migration TEXT NOT NULL REFERENCES migrations ON DELETE CASCADE, leg INTEGER NOT NULL,
        plan TEXT NOT NULL, armed INTEGER NOT NULL DEFAULT 0, begun INTEGER, lost INTEGER, why TEXT, remedy TEXT,
        PRIMARY KEY (migration, leg)
    ) STRICT;
",
    "
    CREATE TABLE switch_proofs (
        migration TEXT NOT NULL, leg INTEGER NOT NULL, epoch INTEGER NOT NULL, started INTEGER NOT NULL,
        finished INTEGER, verdict TEXT, PRIMARY KEY (migration, epoch)
    ) STRICT;
",
];

/// Pages in the write-ahead log at which it is moved into the file: more than a cutover writes, and not much more.
const LOG_PAGES: u32 = 64;

/// Opens the file so that every commit is durable before it returns, and brings it to this version. Connections that
/// share it need some room on the disk even to read.
pub(super) fn open(path: &Path, shared: bool) -> Result<Connection> {
    let mut connection = Connection::open(path).map_err(|cause| unusable(path, cause))?;
    if !shared {
        connection.pragma_update(None, "locking_mode", "exclusive").map_err(|cause| unusable(path, cause))?;
    }
    prepare(&mut connection, path)?;
    Ok(connection)
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<()> {
    let failed = |cause| unusable(path, cause);
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    for (setting, value) in [("journal_mode", "wal"), ("synchronous", "full"), ("foreign_keys", "on")] {
        connection.pragma_update(None, setting, value).map_err(failed)?;
    }
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES).map_err(failed)?;
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    let newest = u32::try_from(VERSIONS.len()).unwrap_or(u32::MAX);
    if version > newest {
        return Err(Error::fatal(format!(
            "the journal {} has version {version}, this Headgate knows up to {newest}",
            path.display()
        ))
        .remedy("run the version that wrote it, or a newer one"));
    }
    for (statements, reached) in VERSIONS.iter().zip(1..).filter(|(_, reached)| *reached > version) {
        let transaction = connection.transaction().map_err(failed)?;
        transaction.execute_batch(statements).map_err(failed)?;
        transaction.pragma_update(None, "user_version", reached).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}

pub(super) fn unusable(path: &Path, cause: rusqlite::Error) -> Error {
    Error::transient(format!("the journal {} cannot be read or written", path.display()))
        .remedy("look at the disk's free space and the folder's rights")
        .because(cause)
}
