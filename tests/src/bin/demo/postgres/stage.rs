//! The two throwaway servers, and what Headgate's configuration says of them.

use std::fmt::Write as _;
use std::path::PathBuf;

use tests::postgres::disposable::{Binaries, Options, Server, find};

use super::link::Session;
use super::shop;
use crate::engine;
use crate::failure::{Failure, Result};
use crate::link::{Address, Link as _};
use crate::stage::quoted;

/// The servers that the demo would rather have, and what else will do.
pub(super) const SOURCES: [u32; 5] = [14, 15, 16, 17, 18];
const TARGETS: [u32; 5] = [18, 17, 16, 15, 14];
/// The migrator's account on both servers.
pub(super) const SUPERUSER: &str = "postgres";

/// Starts both servers, and makes the empty database on each.
pub(super) async fn servers() -> Result<(Server, Server)> {
    let (from, to) = versions()?;
    let server = |binaries| Server::start(Options::new(binaries).set("max_wal_size", "2GB"));
    let (source, target) = tokio::join!(server(from), server(to));
    let (source, target) = (source.map_err(reported)?, target.map_err(reported)?);
    for server in [&source, &target] {
        let address = Address::new(server.port(), SUPERUSER, "postgres");
        let link = Session::open(&address, "headgate-demo").await?;
        shop::found(&link.sql).await?;
    }
    Ok((source, target))
}

/// The sections `[login]` and, where PATH has no tools of PostgreSQL, `[migrator]`.
pub(super) fn sections() -> String {
    let mut text = String::from("[login]\nmethod = \"trust\"\n");
    if let Some(folder) = tools() {
        let program = |name: &str| quoted(&folder.join(name));
        let (dump, restore) = (program("pg_dump"), program("pg_restore"));
        let _ = write!(text, "\n[migrator]\npg_dump = {dump}\npg_restore = {restore}\n");
    }
    text
}

impl engine::Server for Server {
    fn name(&self) -> String {
        format!("PostgreSQL {}", self.binaries().version)
    }

    fn port(&self) -> u16 {
        self.port()
    }

    fn folder(&self) -> PathBuf {
        self.socket_dir().to_owned()
    }

    fn pid(&self) -> Option<u32> {
        self.pid()
    }

    fn keep(&mut self) {
        self.keep();
    }
}

fn reported(error: impl std::fmt::Display) -> Failure {
    Failure(error.to_string())
}

/// The oldest server for the source and the newest for the target, two different ones.
fn versions() -> Result<(Binaries, Binaries)> {
    let first = |wanted: &[u32]| wanted.iter().find_map(|version| find(*version).ok());
    let source = first(&SOURCES);
    let target = first(&TARGETS);
    match (source, target) {
        (Some(source), Some(target)) if source.version < target.version => Ok((source, target)),
        _ => {
            let reasons: Vec<String> =
                [14, 18].into_iter().filter_map(|version| find(version).err()).map(|error| error.to_string()).collect();
            Err(Failure(format!("the demo wants two PostgreSQL servers of different versions: {}", reasons.join("; "))))
        }
    }
}

/// Debian keeps the tools of each version in a folder; the newest is taken where PATH has none.
fn tools() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join("pg_dump").is_file()) {
        return None;
    }
    let folders = (14..=18).rev().map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
    folders.into_iter().find(|folder| folder.join("pg_dump").is_file())
}
