//! The two throwaway servers, and what Headgate's configuration says of them.

use std::path::{Path, PathBuf};

use tests::mysql::disposable::{Kind, Options, Server, find};

use super::Mysql;
use super::link::Session;
use super::shop;
use crate::engine::{self, Engine as _};
use crate::failure::{Failure, Result};
use crate::link::{Address, Link as _};

/// The migrator's account on both servers.
pub(super) const SUPERUSER: &str = "root";

/// Starts both servers, with the shop's account and empty database on the source: the migration brings both along.
pub(super) async fn servers(kind: Kind) -> Result<(Server, Server)> {
    let binaries = find(kind).map_err(reported)?;
    let server = || {
        let options = Options::new(binaries.clone());
        Server::start(options.set("event-scheduler", "ON"))
    };
    let (source, target) = tokio::join!(server(), server());
    let (source, target) = (source.map_err(reported)?, target.map_err(reported)?);
    let address = Address::new(source.port(), SUPERUSER, "mysql");
    let mut link = Session::open(&address, "headgate-demo").await?;
    shop::found(&mut link.sql, Mysql::PASSWORD.unwrap_or_default()).await?;
    Ok((source, target))
}

/// What the servers are called.
pub(super) fn product(kind: Kind) -> &'static str {
    match kind {
        Kind::Mariadb1011 => "MariaDB",
        Kind::Mysql97 | Kind::Mysql56 => "MySQL",
    }
}

impl engine::Server for Server {
    fn name(&self) -> String {
        self.kind().title().to_owned()
    }

    fn port(&self) -> u16 {
        self.port()
    }

    fn folder(&self) -> PathBuf {
        let data = self.data_dir();
        data.parent().map(Path::to_path_buf).unwrap_or(data)
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
