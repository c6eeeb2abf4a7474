//! Writes changes to the target, together with the word how far it is: exactly once, whatever crashes.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::poll;
use protocol::postgres::change::Value;
use tokio::time::sleep;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Statement};

use super::coalesce::{Change, Kind, coalesce};
use super::jobs::{Job, one_by_one, set_by_set, truncate};
use super::literals::Literal;
use super::tables::Tables;
use crate::error::{Error, Result};
use crate::follow::TargetApplier;
use crate::follow::apply::{ApplyError, differs, in_time};
use crate::follow::coalesce::Contradiction;
use crate::postgres::Postgres;
use crate::postgres::client::{as_replica, failed};
use crate::postgres::position::Lsn;
use crate::postgres::sql::quote_literal;

/// Statements on their way at the same time. Their parameters are held twice meanwhile.
const IN_FLIGHT_MAX: usize = 256;
/// Prepared statements kept; more come only from tables with many different sets of unchanged columns.
const PREPARED_MAX: usize = 2000;
const ORIGIN_TRIES: usize = 30;

/// What every statement runs under, besides that no triggers fire and no foreign keys are looked at, which the source has
/// seen to already: plans that reach rows by their key whatever the (not yet collected) statistics say.
const SESSION: &str = "SET synchronous_commit = on;
    SET lc_monetary = 'C'; SET plan_cache_mode = force_generic_plan; SET jit = off;
    SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off;
    SET enable_mergejoin = off; SET max_parallel_workers_per_gather = 0";

const LOCK: &str = "SELECT FROM headgate.progress WHERE migration = $1 AND lsn = $2::pg_lsn FOR UPDATE";
const ADVANCE: &str = "UPDATE headgate.progress SET lsn = $2::pg_lsn WHERE migration = $1";

/// Something to write, in the source's order.
#[derive(Debug)]
pub(crate) enum Item {
    /// A row changed.
    Change(Change),
    /// Tables were emptied.
    Truncate(Vec<usize>),
}

/// What is written at once.
#[derive(Debug, Default)]
pub(crate) struct ApplyBatch {
    pub(crate) items: Vec<Item>,
    /// Where the last of its transactions ends; nothing where that one goes on in the next piece.
    pub(crate) end: Option<Lsn>,
}

/// The session that writes.
pub(crate) struct Applier {
    postgres: Postgres,
    client: Client,
    tables: Arc<Tables>,
    /// What the progress record goes by.
    key: String,
    prepared: HashMap<String, Statement>,
    /// The target's own word how far it is.
    stored: Lsn,
    /// On which timeline of the source that is, as far as it is recorded.
    timeline: Option<u32>,
    open: bool,
}

impl TargetApplier for Applier {
    type Position = Lsn;
    type Batch = ApplyBatch;
    fn stored(&self) -> &Lsn {
        &self.stored
    }

    fn is_open(&self) -> bool {
        self.open
    }

    async fn apply(&mut self, piece: &ApplyBatch) -> Result<()> {
        self.postgres.fires().refuse().await?;
        in_time(piece.items.len(), self.write(piece)).await
    }
}

impl Applier {
    /// Opens the session and reads how far the target is.
    pub(crate) async fn open(postgres: &Postgres, client: Client, tables: Arc<Tables>) -> Result<Self> {
        let cannot = |error| failed("cannot prepare the target session that applies", error);
        client.batch_execute(SESSION).await.map_err(cannot)?;
        // Where it may not, nothing that would fire is there.
        as_replica(&client).await?;
        let operators = client.query_one(OPERATOR_SCHEMAS, &[]).await.map_err(cannot)?;
        let schemas: String = operators.try_get(0).map_err(cannot)?;
        if !schemas.is_empty() {
            let set = format!("SET search_path = {schemas}");
            client.batch_execute(&set).await.map_err(cannot)?;
        }
        tag_origin(&client, &postgres.slot()).await?;
        let query = "SELECT lsn::text, timeline FROM headgate.progress WHERE migration = $1";
        let row = client.query_opt(query, &[&postgres.key()]).await.map_err(cannot)?;
        let Some(row) = row else {
            return Err(Error::fatal("the target has no record of how far it is")
                .remedy(super::tables::start_anew(postgres.name())));
        };
        let text: String = row.try_get(0).map_err(cannot)?;
        let timeline: Option<i64> = row.try_get(1).map_err(cannot)?;
        Ok(Self {
            client,
            timeline: timeline.and_then(|timeline| timeline.try_into().ok()),
            tables,
            key: postgres.key(),
            postgres: postgres.clone(),
            prepared: HashMap::new(),
            stored: text.parse()?,
            open: false,
        })
    }

    /// On which timeline of the source the target is, as far as it is recorded.
    pub(crate) fn timeline(&self) -> Option<u32> {
        self.timeline
    }

    /// Records the timeline of what comes from now on.
    pub(crate) async fn keep_timeline(&self, timeline: u32) -> Result<()> {
        if self.timeline == Some(timeline) {
            return Ok(());
        }
        let update = "UPDATE headgate.progress SET timeline = $2 WHERE migration = $1";
        let kept = self.client.execute(update, &[&self.key, &i64::from(timeline)]).await;
        kept.map(drop).map_err(|error| failed("cannot record the source's timeline on the target", error))
    }

    async fn write(&mut self, piece: &ApplyBatch) -> Result<()> {
        let mut jobs = Vec::new();
        if !self.open {
            jobs.push(Job::control("BEGIN"));
            // Also waits for a predecessor whose commit is still under way, and tells whether it happened.
            jobs.push(self.progress_job(LOCK, self.stored));
            self.open = true;
        }
        jobs.push(Job::control("SAVEPOINT headgate"));
        let begin = jobs.len();
        let fits = self.gather_sets(&piece.items, &mut jobs).is_ok();
        if !fits {
            jobs.truncate(begin);
        }
        match self.run(jobs).await {
            Ok(()) if fits => {}
            Err((_, ApplyError::Failed(error))) => return Err(error),
            Err((at, ApplyError::InTheWay(_))) if at < begin => {
                return Err(Error::transient("another follower writes to the target"));
            }
            _ => self.write_one_by_one(piece).await?,
        }
        let mut jobs = vec![Job::control("RELEASE SAVEPOINT headgate")];
        if let Some(end) = piece.end {
            jobs.push(self.progress_job(ADVANCE, end));
            jobs.push(Job::control("COMMIT"));
        }
        self.run(jobs).await.map_err(|(_, setback)| match setback {
            ApplyError::Failed(error) => error,
            ApplyError::InTheWay(_) => Error::transient("the target's record of how far it is vanished"),
        })?;
        if let Some(end) = piece.end {
            self.open = false;
            self.stored = end;
        }
        Ok(())
    }

    fn progress_job(&self, sql: &str, position: Lsn) -> Job {
        let text = |text: String| Literal::Text(text.into());
        let parameters = vec![text(self.key.clone()), text(position.to_string())];
        Job { sql: sql.to_owned(), parameters, rows: Some(1), place: "headgate.progress".into() }
    }

    /// In the source's own order every state in between is legal on the target too.
    async fn write_one_by_one(&mut self, piece: &ApplyBatch) -> Result<()> {
        self.client
            .batch_execute("ROLLBACK TO SAVEPOINT headgate")
            .await
            .map_err(|error| failed("the target did not roll back", error))?;
        let mut jobs = Vec::new();
        for item in &piece.items {
            jobs.push(match item {
                Item::Change(change) => one_by_one(&self.tables.all[change.table], change),
                Item::Truncate(tables) => truncate(&self.tables, tables),
            });
        }
        match self.run(jobs).await {
            Ok(()) => Ok(()),
            Err((_, ApplyError::Failed(error))) => Err(error),
            Err((at, ApplyError::InTheWay(why))) => Err(self.difference(piece.items.get(at), &why)),
        }
    }

    fn difference(&self, item: Option<&Item>, why: &str) -> Error {
        let Some(Item::Change(change)) = item else {
            return Error::fatal(format!("the target cannot take a change: {why}"));
        };
        let table = &self.tables.all[change.table];
        let (verb, row) = match &change.kind {
            Kind::Insert(row) => ("insert", row),
            Kind::Update { old, new } => ("update", old.as_ref().unwrap_or(new)),
            Kind::Delete(row) => ("delete", row),
        };
        let mut key = String::new();
        for &column in &table.key {
            let value = match row.get(column) {
                Some(Value::Text(text)) => String::from_utf8_lossy(text).into_owned(),
                _ => "NULL".to_owned(),
            };
            let comma = if key.is_empty() { "" } else { ", " };
            key = format!("{key}{comma}{}={value}", table.columns[column].name);
        }
        let recopy = format!("RECOPY TABLE {} OF MIGRATION {}", table.title, self.postgres.name());
        differs(verb, &table.title, &key, why, &recopy)
    }

    fn gather_sets(&self, items: &[Item], jobs: &mut Vec<Job>) -> Result<(), Contradiction> {
        for run in items.chunk_by(|one, other| matches!((one, other), (Item::Change(_), Item::Change(_)))) {
            if let [Item::Truncate(tables)] = run {
                jobs.push(truncate(&self.tables, tables));
                continue;
            }
            let mut by_table: Vec<Vec<&Change>> = vec![Vec::new(); self.tables.all.len()];
            for item in run {
                if let Item::Change(change) = item {
                    by_table[change.table].push(change);
                }
            }
            for (changes, table) in by_table.into_iter().zip(&self.tables.all) {
                let steps = coalesce(changes.into_iter(), &table.key)?;
                set_by_set(table, &steps, jobs);
            }
        }
        Ok(())
    }

    /// Runs the jobs in order, many on their way at a time. On failure says which one it was.
    async fn run(&mut self, jobs: Vec<Job>) -> Result<(), (usize, ApplyError)> {
        let mut on_their_way: VecDeque<Sent<'_>> = VecDeque::new();
        for (at, job) in jobs.into_iter().enumerate() {
            let statement = match self.prepared.get(&job.sql) {
                Some(statement) => statement.clone(),
                None => match self.client.prepare(&job.sql).await {
                    Ok(statement) => {
                        if self.prepared.len() >= PREPARED_MAX {
                            self.prepared.clear();
                        }
                        self.prepared.insert(job.sql, statement.clone());
                        statement
                    }
                    Err(error) => {
                        // An earlier statement's failure comes first.
                        settle(on_their_way, 0).await?;
                        return Err((at, setback(&job.place, error)));
                    }
                },
            };
            let client = &self.client;
            let Job { parameters, rows, place, .. } = job;
            let mut running: Running<'_> = Box::pin(async move { client.execute_raw(&statement, parameters).await });
            // The first poll sends; the order of sending is the order of execution.
            let done = match poll!(&mut running) {
                std::task::Poll::Ready(done) => Some(done),
                std::task::Poll::Pending => None,
            };
            on_their_way.push_back(Sent { at, rows, place, running, done });
            if on_their_way.len() >= IN_FLIGHT_MAX {
                on_their_way = settle(on_their_way, IN_FLIGHT_MAX / 2).await?;
            }
        }
        settle(on_their_way, 0).await.map(drop)
    }
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<u64, tokio_postgres::Error>> + Send + 'a>>;

struct Sent<'a> {
    at: usize,
    rows: Option<u64>,
    place: Arc<str>,
    running: Running<'a>,
    done: Option<Result<u64, tokio_postgres::Error>>,
}

/// Waits for the oldest statements until only `keep` are on their way.
async fn settle(mut sent: VecDeque<Sent<'_>>, keep: usize) -> Result<VecDeque<Sent<'_>>, (usize, ApplyError)> {
    while sent.len() > keep {
        let Some(Sent { at, rows, place, running, done }) = sent.pop_front() else {
            break;
        };
        let outcome = match done {
            Some(outcome) => outcome,
            None => running.await,
        };
        let found = outcome.map_err(|error| (at, setback(&place, error)))?;
        if let Some(expected) = rows
            && expected != found
        {
            return Err((at, ApplyError::other_rows(found, expected)));
        }
    }
    Ok(sent)
}

fn setback(place: &str, error: tokio_postgres::Error) -> ApplyError {
    match error.code() {
        Some(&SqlState::UNIQUE_VIOLATION) => ApplyError::other_key(),
        Some(&SqlState::EXCLUSION_VIOLATION) => ApplyError::InTheWay("another row excludes it".to_owned()),
        _ => ApplyError::Failed(failed(&format!("cannot apply changes to {place}"), error)),
    }
}

/// The schemas, quoted, of equality operators that do not come with the server: keys of such types need them.
const OPERATOR_SCHEMAS: &str = "SELECT coalesce(string_agg(DISTINCT pg_catalog.quote_ident(n.nspname), ', '), '')
    FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
    WHERE o.oprname = '=' AND o.oprleft = o.oprright AND n.nspname <> 'pg_catalog'";

/// Marks what this session writes as not the target's own, where the role may.
async fn tag_origin(client: &Client, origin: &str) -> Result<()> {
    let name = quote_literal(origin);
    let tag = format!(
        "SELECT pg_catalog.pg_replication_origin_create({name})
             WHERE pg_catalog.pg_replication_origin_oid({name}) IS NULL;
         SELECT pg_catalog.pg_replication_origin_session_setup({name})"
    );
    for _ in 0..ORIGIN_TRIES {
        match client.batch_execute(&tag).await {
            Ok(()) => return Ok(()),
            // The session of a predecessor has not ended yet.
            Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) => {
                sleep(Duration::from_millis(100)).await;
            }
            Err(error) if error.as_db_error().is_some() => {
                tracing::warn!(%error, "changes are applied without a replication origin");
                return Ok(());
            }
            Err(error) => return Err(failed("cannot tag the session that applies", error)),
        }
    }
    Err(Error::transient(format!("the replication origin {origin} is in use by another session")))
}
