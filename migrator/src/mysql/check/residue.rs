//! Sessions that compare rows by their keys, as both sides have them at the moment.

use std::collections::HashMap;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::time::timeout;

use super::catalog_tables::{self, Side};
use super::digest::{self, Pair};
use super::snapshot_pair;
use crate::check::{KeyPair, KeySessions};
use crate::error::{Error, Result};
use crate::model::plan::Plan;
use crate::mysql::Mysql;
use crate::mysql::client::{self, Version, failed};
use crate::mysql::sql::title;
use crate::residue::Key;

/// The sessions of one comparison.
pub struct Sessions(KeySessions<Pair>);

/// Opening reads both catalogues.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens the sessions, and reads what both catalogues say of the tables.
pub(crate) async fn open(mysql: &Mysql, plan: &Plan) -> Result<Sessions> {
    let opening = async {
        let (mut source, mut target) =
            tokio::try_join!(mysql.connect_source("residue"), mysql.connect_target("residue"))?;
        let (from, to) = (client::version(&mut source).await?, client::version(&mut target).await?);
        prepare(&mut source, from).await?;
        prepare(&mut target, to).await?;
        let mixed = from.flavor != to.flavor;
        let side = |name| Side { name, mixed };
        let mut pair = Pair { source: (source, side("source")), target: (target, side("target")) };
        digest::agree(&mut pair).await?;
        let databases = mysql.databases();
        let here = catalog_tables::read(&mut pair.source.0, pair.source.1, &databases).await?;
        let there = catalog_tables::read(&mut pair.target.0, pair.target.1, &databases).await?;
        let keys: HashMap<_, _> = plan.tables.iter().map(|table| (title(table), table.key.clone())).collect();
        Ok(Sessions(KeySessions::new(pair, here, &there, keys)))
    };
    let opened = timeout(OPEN_TIMEOUT, opening).await;
    opened.unwrap_or_else(|_| Err(Error::transient("the servers did not get ready to compare rows in time")))
}

/// No statement lasts, waits for a lock on a table, or reads more than the rows that it names.
async fn prepare(session: &mut Conn, version: Version) -> Result<()> {
    snapshot_pair::prepare(session).await?;
    let mut settings = vec![
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET SESSION lock_wait_timeout = 1",
        // A date that a server would not take any more is still a key.
        "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'",
    ];
    if version.is_mariadb() {
        settings.push("SET SESSION max_statement_time = 5");
    } else if version.is_mysql_from(5, 7, 9) {
        settings.push("SET SESSION max_execution_time = 5000");
        settings.push("SET SESSION range_optimizer_max_mem_size = 0");
    }
    if version.is_mysql_from(5, 6, 5) {
        settings.push("SET SESSION eq_range_index_dive_limit = 1");
    }
    for setting in settings {
        session
            .query_drop(setting)
            .await
            .map_err(|error| failed("cannot prepare a session that compares rows", error))?;
    }
    Ok(())
}

impl Sessions {
    /// Names the rows of these keys that are not the same on both sides.
    pub(crate) async fn differing(&mut self, table: &str, keys: &[Key]) -> Result<Vec<String>> {
        self.0.differing(table, keys).await
    }
}

impl KeyPair for Pair {
    /// The stream's value is a constant of SQL already.
    fn value(text: &str) -> String {
        text.to_owned()
    }

    /// What could not be hashed shows in the fraction.
    fn is_complete(digest: &str) -> bool {
        let fraction = digest.split_once('.').map_or("", |(_, fraction)| fraction);
        fraction.bytes().all(|digit| digit == b'0')
    }
}
