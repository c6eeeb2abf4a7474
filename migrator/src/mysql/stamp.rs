//! Sessions that read the definitions of both sides, and a short text that changes with them.

use std::fmt::Write as _;

use mysql_async::Conn;
use sha2::{Digest, Sha256};

use super::Mysql;
use super::defined::Sides;
use super::inventory::reading::{Catalogue, Seen};
use crate::definitions::Fingerprint;
use crate::error::Result;

/// A session on one side, and what is asked there.
pub(super) struct Side {
    pub(super) session: Conn,
    pub(super) catalogue: Catalogue,
}

impl Side {
    async fn open(mysql: &Mysql, session: impl Future<Output = Result<Conn>>) -> Result<Self> {
        let mut session = session.await?;
        let catalogue = Catalogue::open(mysql, &mut session).await?;
        Ok(Self { session, catalogue })
    }

    async fn read(&mut self, databases: &[String]) -> Result<Seen> {
        self.catalogue.read(&mut self.session, databases).await
    }
}

/// Two sessions that read the definitions of both sides.
pub(super) struct Stamp {
    pub(super) source: Side,
    pub(super) target: Side,
    databases: Vec<String>,
}

impl Stamp {
    /// Opens the sessions, and finds out how the definitions are read.
    pub(super) async fn open(mysql: &Mysql) -> Result<Self> {
        let (source, target) = tokio::try_join!(
            Side::open(mysql, mysql.connect_source("look")),
            Side::open(mysql, mysql.connect_target("look"))
        )?;
        Ok(Self {
            source,
            target,
            databases: mysql.databases(),
        })
    }

    /// Every definition of both sides, as digests.
    pub(super) async fn read(&mut self) -> Result<Fingerprint> {
        Ok(self.sides().await?.fingerprint())
    }

    /// Every definition of both sides.
    pub(super) async fn sides(&mut self) -> Result<Sides> {
        let (source, target) = tokio::try_join!(
            self.source.read(&self.databases),
            self.target.read(&self.databases)
        )?;
        Ok(Sides {
            source,
            target,
            catalogues: (self.source.catalogue.clone(), self.target.catalogue.clone()),
        })
    }

    /// The session on the source.
    pub(super) fn source(&mut self) -> &mut Conn {
        &mut self.source.session
    }
}

/// As [`Stamp::read`], in sessions of its own.
pub(super) async fn fingerprint(mysql: &Mysql) -> Result<Fingerprint> {
    Stamp::open(mysql).await?.read().await
}

/// A short text that changes with it.
pub(super) fn short(fingerprint: &Fingerprint) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(format!("{fingerprint:?}")) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
