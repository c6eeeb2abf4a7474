//! Sessions that compare rows by their keys, as both sides have them at the moment.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Client;

use super::catalogue;
use super::digest::{self, Pair};
use crate::check::{KeyPair, KeySessions};
use crate::error::{Error, Result};
use crate::model::plan::Plan;
use crate::postgres::Postgres;
use crate::postgres::client::failed;
use crate::postgres::sql::{quote_literal, title};
use crate::residue::Key;

/// The sessions of one comparison.
pub struct Sessions(KeySessions<Pair>);

/// Rows are found by their key whatever the statistics say, by one process of the server; nobody's lock is waited for.
const SESSION: &str = "SET xmlbinary = base64; SET quote_all_identifiers = off; SET jit = off;
    SET max_parallel_workers_per_gather = 0; SET enable_seqscan = off;
    SET statement_timeout = '5s'; SET lock_timeout = '1s'";
/// The schemas, quoted, of equality operators that do not come with the server: keys of such types need them.
const OPERATORS: &str = "SELECT pg_catalog.set_config('search_path', coalesce(
        pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(n.nspname), ', '), ''), false)
    FROM pg_catalog.pg_operator AS o JOIN pg_catalog.pg_namespace AS n ON n.oid = o.oprnamespace
    WHERE o.oprname = '=' AND o.oprleft = o.oprright AND n.nspname <> 'pg_catalog'";
/// Opening reads both catalogues.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens the sessions, and reads what both catalogues say of the tables.
pub(crate) async fn open(postgres: &Postgres, plan: &Plan) -> Result<Sessions> {
    let opening = async {
        let (source, target) = tokio::try_join!(session(postgres, true), session(postgres, false))?;
        let hash = digest::agree(&source, &target).await?;
        let schemas = &postgres.settings().schemas;
        let (here, there) =
            tokio::try_join!(catalogue::read(&source, "source", schemas), catalogue::read(&target, "target", schemas))?;
        let keys: HashMap<_, _> = plan.tables.iter().map(|table| (title(table), table.key.clone())).collect();
        Ok(Sessions(KeySessions::new(Pair { source, target, hash }, here, &there, keys)))
    };
    let opened = timeout(OPEN_TIMEOUT, opening).await;
    opened.unwrap_or_else(|_| Err(Error::transient("the servers did not get ready to compare rows in time")))
}

async fn session(postgres: &Postgres, of_source: bool) -> Result<Client> {
    let session =
        if of_source { postgres.connect_source("residue").await? } else { postgres.connect_target("residue").await? };
    session
        .batch_execute(&format!("{SESSION}; {OPERATORS}"))
        .await
        .map_err(|error| failed("cannot prepare a session that compares rows", error))?;
    Ok(session)
}

impl Sessions {
    /// Names the rows of these keys that are not the same on both sides.
    pub(crate) async fn differing(&mut self, table: &str, keys: &[Key]) -> Result<Vec<String>> {
        self.0.differing(table, keys).await
    }
}

impl KeyPair for Pair {
    fn value(text: &str) -> String {
        quote_literal(text)
    }

    fn is_complete(_digest: &str) -> bool {
        true
    }
}
