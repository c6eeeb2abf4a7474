//! What the contenders stand on: durable servers, and the tools.

use std::path::PathBuf;

use tests::postgres::Postgres;
use tests::postgres::disposable::find;

/// Starts a server as a careful person would run it for this size of machine; the same for all contenders.
pub(crate) async fn server(version: u32) -> Postgres {
    let settings = [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("shared_buffers", "1GB"),
        ("max_wal_size", "8GB"),
        ("checkpoint_timeout", "1h"),
        ("maintenance_work_mem", "256MB"),
        ("max_worker_processes", "16"),
    ];
    Postgres::start_with(version, &settings, None).await
}

/// A client program of PostgreSQL.
pub(crate) fn tool(name: &str) -> PathBuf {
    let folder = std::env::var_os("HEADGATE_PG_TOOLS").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| {
        find(15).unwrap_or_else(|error| panic!("{error}; run tests/servers/fetch bench")).root.join("bin")
    });
    folder.join(name)
}
