//! The snapshots of the moment of the switch: sessions that are opened ahead, a transaction on each side that begins inside
//! the hold, and what of it can be read afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure, Row};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::catalog_tables::{self, Described, Side, among};
use super::digest::{self, Pair};
use super::{definitions, end, snapshot_pair};
use crate::check::Both;
use crate::error::{Error, Result};
use crate::model::definitions::Fingerprint;
use crate::model::switch_proof::{SwitchProgress, SwitchVerdict};
use crate::mysql::Mysql;
use crate::mysql::catalogue::{optional, text};
use crate::mysql::client::{self, Version, failed};
use crate::mysql::fence::writers::own_account;
use crate::mysql::sql::title_of;
use crate::switch_proof::{self, Comparison, LastingPair};

/// Access denied; a right of the server is needed.
const DENIED: u16 = 1227;
const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
/// Opening a snapshot waits for nobody.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a reply may be late where the server has nothing to wait for.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the catalogues may take to be read.
const CATALOGUE_TIMEOUT: Duration = Duration::from_mins(10);

/// The sessions, and what was read before the hold: no catalogue of these servers is seen as of a snapshot.
pub struct Prepared {
    pair: Pair,
    versions: (Version, Version),
    here: Vec<Described>,
    there: Vec<Described>,
    definitions: std::result::Result<Vec<String>, String>,
    unversioned: BTreeMap<String, String>,
    /// Why tables cannot be read without keeping others waiting.
    locks: Option<String>,
}

/// A transaction on each side that sees what was there inside the hold, for as long as its session lives.
pub struct Snapshots {
    prepared: Prepared,
    positions: (String, String),
}

/// Opens the sessions, and compares the definitions.
pub(crate) async fn prepare(mysql: &Mysql, proved: Option<&Fingerprint>) -> Result<Prepared> {
    let compared = definitions::compare(mysql).await?;
    // The look inside the hold vouches for what it holds against both sides, and undoes the cutover where that has changed.
    let definitions = match proved {
        Some(proved) if proved.changes(&compared.fingerprint).is_empty() => Ok(compared.differences),
        Some(_) => Err("they changed after the check".to_owned()),
        None => Err("no check had passed that the look inside the hold could have held against them".to_owned()),
    };
    let (mut source, mut target) = tokio::try_join!(mysql.connect_source("proof"), mysql.connect_target("proof"))?;
    let versions = (client::version(&mut source).await?, client::version(&mut target).await?);
    let mut locks = None;
    for (session, version, side) in [(&mut source, versions.0, "source"), (&mut target, versions.1, "target")] {
        snapshot_pair::prepare(session).await?;
        run(session, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
        if version.is_mariadb() {
            locks = locks.or(lasting_locks(session, side).await?);
        }
    }
    let mixed = versions.0.flavor != versions.1.flavor;
    let side = |name| Side { name, mixed };
    let mut pair = Pair { source: (source, side("source")), target: (target, side("target")) };
    digest::agree(&mut pair).await?;
    let databases = mysql.databases();
    let reading = async {
        let here = catalog_tables::read(&mut pair.source.0, pair.source.1, &databases).await?;
        let there = catalog_tables::read(&mut pair.target.0, pair.target.1, &databases).await?;
        let mut unversioned = BTreeMap::new();
        for (session, side) in [&mut pair.source, &mut pair.target] {
            unversioned.extend(without_versions(session, side.name, &databases).await?);
        }
        Ok((here, there, unversioned))
    };
    let read = timeout(CATALOGUE_TIMEOUT, reading).await;
    let (here, there, unversioned) = read.unwrap_or_else(|_| Err(late()))?;
    Ok(Prepared { pair, versions, here, there, definitions, unversioned, locks })
}

/// MariaDB keeps a table's lock beyond a savepoint where the session writes to the log. Returns what lets it do without,
/// where the account may not.
async fn lasting_locks(session: &mut Conn, side: &str) -> Result<Option<String>> {
    let asking = session.query_drop("SET SESSION sql_log_bin = 0");
    match timeout(COMMAND_TIMEOUT, asking).await.map_err(|_| late())? {
        Ok(()) => Ok(None),
        Err(Failure::Server(reported)) if reported.code == DENIED => {
            let account = own_account(session).await?;
            Ok(Some(format!(
                "the {side} would keep a lock on each table that was read, and DDL waiting for it; \
                 GRANT BINLOG ADMIN ON *.* TO {account} lets it do without"
            )))
        }
        Err(error) => Err(failed("cannot prepare the proof of the switch", error)),
    }
}

/// Tables of which the server keeps no older versions of rows.
async fn without_versions(session: &mut Conn, side: &str, databases: &[String]) -> Result<Vec<(String, String)>> {
    let query = format!(
        "SELECT table_schema, table_name, engine FROM information_schema.tables
         WHERE table_schema {} AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND engine <> 'InnoDB'",
        among(databases)
    );
    let rows: Vec<Row> = session
        .query(query)
        .await
        .map_err(|error| failed(&format!("cannot read the {side}'s storage engines"), error))?;
    let each = rows.iter().map(|row| {
        let title = title_of(&text(row, 0)?, &text(row, 1)?);
        let engine = optional(row, 2)?.unwrap_or_default();
        Ok((title, format!("{engine} on the {side} keeps no rows for a snapshot")))
    });
    each.collect()
}

/// Begins both transactions at the same time.
pub(crate) async fn open(mut prepared: Prepared) -> Result<Snapshots> {
    let (pair, versions) = (&mut prepared.pair, prepared.versions);
    let positions = tokio::try_join!(
        begin(&mut pair.source.0, versions.0, "source"),
        begin(&mut pair.target.0, versions.1, "target")
    )?;
    Ok(Snapshots { prepared, positions })
}

/// Begins the transaction; tells where the log is, as far as the server does.
async fn begin(session: &mut Conn, version: Version, side: &str) -> Result<String> {
    let beginning = async {
        session
            .query_drop(BEGIN)
            .await
            .map_err(|error| failed(&format!("cannot open a snapshot of the {side}"), error))?;
        let query = if version.is_mysql_from(8, 2, 0) { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
        // The target may have no log, and the account no right to see where it is.
        let row: Option<Row> = session.query_first(query).await.unwrap_or_default();
        let position = row.map(|row| Ok::<_, Error>(format!("{}:{}", text(&row, 0)?, text(&row, 1)?))).transpose()?;
        Ok(position.unwrap_or_else(|| "the marker".to_owned()))
    };
    let begun = timeout(OPEN_TIMEOUT, beginning).await;
    begun.unwrap_or_else(|_| Err(Error::transient(format!("the {side} did not open a snapshot in time"))))
}

/// Compares all that the snapshots show.
pub(crate) async fn compare(
    mysql: &Mysql,
    snapshots: Snapshots,
    rows_per_second: u64,
    progress: &SwitchProgress,
    stop: &CancellationToken,
) -> Result<SwitchVerdict> {
    let Snapshots { prepared, positions } = snapshots;
    let Prepared { mut pair, here, there, definitions, unversioned, locks, .. } = prepared;
    if let Some(why) = locks {
        return Ok(SwitchVerdict::unknown(why));
    }
    let what = Comparison {
        here,
        there,
        definitions,
        unversioned,
        positions,
        rows_max: mysql.settings().check_range_rows,
        rows_per_second,
    };
    let verdict = switch_proof::compare(&mut pair, what, progress, stop).await?;
    end(pair.source.0).await;
    end(pair.target.0).await;
    Ok(verdict)
}

impl LastingPair for Pair {
    async fn enter(&mut self) -> Result<()> {
        const MARK: &str = "SAVEPOINT headgate_range";
        tokio::try_join!(run(&mut self.source.0, MARK), run(&mut self.target.0, MARK)).map(drop)
    }

    async fn leave(&mut self) -> Result<()> {
        // Unlike the end of the range's statement, this lets go of the metadata lock on the table.
        const BACK: &str = "ROLLBACK TO SAVEPOINT headgate_range";
        tokio::try_join!(run(&mut self.source.0, BACK), run(&mut self.target.0, BACK)).map(drop)
    }

    /// The server refuses to read a table that was made anew or altered after the snapshot.
    async fn hidden(&mut self, _: &Both<Self::Column>) -> Result<Option<String>> {
        Ok(None)
    }
}

async fn run(session: &mut Conn, sql: &str) -> Result<()> {
    timeout(COMMAND_TIMEOUT, session.query_drop(sql))
        .await
        .map_err(|_| late())?
        .map_err(|error| failed("a session of the proof of the switch failed", error))
}

fn late() -> Error {
    Error::transient("a server did not answer the proof of the switch in time")
}
