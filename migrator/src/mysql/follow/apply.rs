//! Writes changes to the target, together with the word how far it is: exactly once, whatever crashes.

use std::sync::Arc;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure};
use protocol::mysql::change::{self, Cell};

use super::coalesce::{Change, coalesce};
use super::statements::{Job, Writer};
use super::tables::{START_ANEW, Tables};
use crate::error::{Error, Result};
use crate::follow::TargetApplier;
use crate::follow::apply::{ApplyError, differs, in_time};
use crate::mysql::client;
use crate::mysql::client::failed;
use crate::mysql::records;
use crate::mysql::sql::quote_literal;
use crate::mysql::{BinlogPosition, Mysql, position};

const STATEMENT_BYTES_MAX: u64 = 1 << 20;
/// How often a piece is written again because it was in the way of other sessions' locks.
const YIELDS_MAX: usize = 20;

/// What every statement runs under: bytes as they are, no foreign keys, which the source has seen to already, values
/// that do not fit refused, and dates as the source has them.
const SESSION: &str =
    "SET SESSION foreign_key_checks = 0, time_zone = '+00:00', autocommit = 1, innodb_lock_wait_timeout = 60";

const STRICT: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'";
const LENIENT: &str = "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'";

/// Something to write, in the source's order.
#[derive(Debug)]
pub(crate) enum Item {
    /// A row changed.
    Change(Change),
    /// A table was emptied.
    Truncate(usize),
}

/// What is written at once.
#[derive(Debug, Default)]
pub(crate) struct ApplyBatch {
    pub(crate) items: Vec<Item>,
    /// How the log describes each table's columns.
    pub(crate) wires: Vec<Option<Arc<[change::Column]>>>,
    /// Where the last of its transactions ends; nothing where that one goes on in the next piece.
    pub(crate) end: Option<BinlogPosition>,
    /// Where the oldest transaction begins that is prepared there and may be committed later.
    pub(crate) since: Option<BinlogPosition>,
}

/// The session that writes.
pub(crate) struct Applier {
    mysql: Mysql,
    session: Conn,
    tables: Arc<Tables>,
    migration: String,
    strict: bool,
    bytes_max: usize,
    /// What the target takes in one packet.
    packet_max: usize,
    /// The target's own word how far it is, and as it is written there.
    stored: BinlogPosition,
    since: Option<BinlogPosition>,
    stored_text: String,
    open: bool,
    /// The open transaction has written its end already.
    ended: bool,
    /// The error of the last failed statement, where that waited for a lock in a deadlock or for too long.
    yielded: Option<u16>,
}

impl TargetApplier for Applier {
    type Position = BinlogPosition;
    type Batch = ApplyBatch;
    fn stored(&self) -> &BinlogPosition {
        &self.stored
    }

    fn is_open(&self) -> bool {
        self.open
    }

    async fn apply(&mut self, piece: &ApplyBatch) -> Result<()> {
        self.mysql.fires().refuse().await?;
        in_time(piece.items.len(), self.write_or_yield(piece)).await
    }
}

impl Applier {
    /// Opens the session and reads how far the target is. A strict one wants every row to be as the source has it.
    pub(crate) async fn open(mysql: &Mysql, mut session: Conn, tables: Arc<Tables>, strict: bool) -> Result<Self> {
        let cannot = |error| failed("cannot prepare the target session that applies", error);
        end_predecessor(mysql, &mut session).await?;
        session.query_drop("SET NAMES binary").await.map_err(cannot)?;
        session.query_drop(SESSION).await.map_err(cannot)?;
        session.query_drop(STRICT).await.map_err(cannot)?;
        let version = client::version(&mut session).await?;
        let mut settings = vec!["SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"];
        if version.is_mysql_from(5, 7, 9) {
            // Rows are found by their key, however many at once and whatever the statistics say.
            settings.push("SET SESSION range_optimizer_max_mem_size = 0");
        }
        if version.is_mysql_from(5, 6, 5) {
            settings.push("SET SESSION eq_range_index_dive_limit = 1");
        }
        for setting in settings {
            session.query_drop(setting).await.map_err(cannot)?;
        }
        let packet: Option<u64> = session.query_first("SELECT @@SESSION.max_allowed_packet").await.map_err(cannot)?;
        let bytes_max = (packet.unwrap_or(1 << 20) / 4).min(STATEMENT_BYTES_MAX);
        let mut applier = Self {
            mysql: mysql.clone(),
            session,
            tables,
            migration: quote_literal(&mysql.key()),
            strict,
            bytes_max: usize::try_from(bytes_max).unwrap_or(1 << 18),
            packet_max: packet.and_then(|packet| usize::try_from(packet).ok()).unwrap_or(usize::MAX),
            stored: BinlogPosition { server: String::new(), file: String::new(), offset: 0, gtids: String::new() },
            since: None,
            stored_text: String::new(),
            open: false,
            ended: false,
            yielded: None,
        };
        let text = applier.progress("").await?;
        let Some(text) = text else {
            return Err(Error::fatal("the target has no record of how far it is").remedy(START_ANEW));
        };
        applier.stored = records::read_position(&text)?;
        applier.since = position::read_since(&text)?;
        applier.stored_text = text;
        Ok(applier)
    }

    /// Where the stream must be read from, so that what was prepared before is known.
    pub(crate) fn since(&self) -> Option<&BinlogPosition> {
        self.since.as_ref()
    }

    async fn progress(&mut self, lock: &str) -> Result<Option<String>> {
        let query =
            format!("SELECT position FROM headgate.progress WHERE migration = _utf8mb4{}{lock}", self.migration);
        let text: Option<Vec<u8>> = self
            .session
            .query_first(query)
            .await
            .map_err(|error| self.missed("cannot read how far the target is", error))?;
        Ok(text.map(|text| String::from_utf8_lossy(&text).into_owned()))
    }

    /// Writes it again at once where it lost a deadlock: the session and the stream are as good as before. The new
    /// transaction looks again how far the target is. What began with an earlier piece cannot begin anew here.
    async fn write_or_yield(&mut self, piece: &ApplyBatch) -> Result<()> {
        let begins_here = !self.open;
        let mut yields = 0;
        loop {
            self.yielded = None;
            match self.write(piece).await {
                Err(error) if self.yielded.is_some() && begins_here && yields < YIELDS_MAX => {
                    yields += 1;
                    tracing::info!(%error, yields, "a group gave way to other sessions and is applied again");
                    self.control("ROLLBACK").await?;
                    self.open = false;
                }
                outcome => return outcome,
            }
        }
    }

    /// Tells what failed, and remembers whether it was for a lock.
    fn missed(&mut self, what: &str, error: Failure) -> Error {
        self.yielded = match &error {
            Failure::Server(reported) if matches!(reported.code, 1205 | 1213) => Some(reported.code),
            _ => None,
        };
        failed(what, error)
    }

    async fn write(&mut self, piece: &ApplyBatch) -> Result<()> {
        let mut next_text = None;
        if let Some(end) = &piece.end {
            next_text = Some(position::written_since(end, piece.since.as_ref())?);
        }
        if !self.open {
            self.control("BEGIN").await?;
            self.open = true;
            self.ended = false;
            // Also waits for a predecessor whose commit is still under way, and tells whether it happened.
            if self.progress(" FOR UPDATE").await?.as_ref() != Some(&self.stored_text) {
                return Err(Error::transient("another follower writes to the target"));
            }
            if let Some(text) = &next_text {
                self.advance(text).await?;
                self.ended = true;
            }
        }
        if !piece.items.is_empty() {
            self.control("SAVEPOINT headgate").await?;
            let outcome = match self.sets(piece) {
                Ok(Some(jobs)) => self.run(jobs).await,
                Ok(None) => Err(ApplyError::InTheWay(String::new())),
                Err(error) => Err(ApplyError::Failed(error)),
            };
            match outcome {
                Ok(()) => {}
                Err(ApplyError::Failed(error)) => return Err(error),
                Err(ApplyError::InTheWay(_)) => self.write_one_by_one(piece).await?,
            }
        }
        if let (Some(end), Some(text)) = (&piece.end, next_text) {
            if !self.ended {
                self.advance(&text).await?;
            }
            self.control("COMMIT").await?;
            self.open = false;
            self.stored = end.clone();
            self.stored_text = text;
        }
        Ok(())
    }

    async fn control(&mut self, statement: &str) -> Result<()> {
        self.session.query_drop(statement).await.map_err(|error| self.missed("the target refused to go on", error))
    }

    async fn advance(&mut self, text: &str) -> Result<()> {
        let statement = format!(
            "UPDATE headgate.progress SET position = _utf8mb4{} WHERE migration = _utf8mb4{}",
            quote_literal(text),
            self.migration
        );
        self.session
            .query_drop(statement)
            .await
            .map_err(|error| self.missed("cannot record how far the target is", error))
    }

    /// The statements that come to the same as the piece, set by set; nothing where its changes contradict each other.
    fn sets(&self, piece: &ApplyBatch) -> Result<Option<Vec<Job>>> {
        let mut jobs = Vec::new();
        let is_change = |item: &Item| matches!(item, Item::Change(_));
        for run in piece.items.chunk_by(|one, other| is_change(one) && is_change(other)) {
            if let [Item::Truncate(table)] = run {
                jobs.push(self.empty(*table));
                continue;
            }
            let mut by_table: Vec<Vec<&Change>> = vec![Vec::new(); self.tables.all.len()];
            for item in run {
                if let Item::Change(change) = item {
                    by_table[change.table].push(change);
                }
            }
            for (index, changes) in by_table.into_iter().enumerate() {
                if changes.is_empty() {
                    continue;
                }
                let writer = self.writer(piece, index)?;
                if writer.table.key.is_empty() {
                    writer.keyless(&changes, &mut jobs)?;
                    continue;
                }
                let Ok(effects) = coalesce(changes.into_iter(), &writer.table.key, !self.strict) else {
                    return Ok(None);
                };
                writer.deletes(&effects.deletes, &mut jobs)?;
                writer.inserts(&effects.inserts, &mut jobs)?;
            }
        }
        Ok(Some(jobs))
    }

    fn writer<'a>(&'a self, piece: &'a ApplyBatch, index: usize) -> Result<Writer<'a>> {
        let wire = piece.wires.get(index).and_then(Option::as_deref);
        let (Some(table), Some(wire)) = (self.tables.all.get(index), wire) else {
            return Err(Error::fatal("a change came before its table was described"));
        };
        Ok(Writer { table, index, wire, bytes_max: self.bytes_max, packet_max: self.packet_max, strict: self.strict })
    }

    fn empty(&self, table: usize) -> Job {
        let relation = self.tables.all.get(table).map_or("", |table| &table.relation);
        let sql = format!("DELETE FROM {relation}").into_bytes();
        Job { sql, before: Vec::new(), rows: None, table, lenient: false }
    }

    /// Row by row in the source's own order: it finds the row that is not as it should be.
    async fn write_one_by_one(&mut self, piece: &ApplyBatch) -> Result<()> {
        self.control("ROLLBACK TO SAVEPOINT headgate").await?;
        for item in &piece.items {
            let mut jobs = Vec::new();
            match item {
                Item::Truncate(table) => jobs.push(self.empty(*table)),
                Item::Change(change) => {
                    let writer = self.writer(piece, change.table)?;
                    if writer.table.key.is_empty() {
                        writer.keyless(&[change], &mut jobs)?;
                    } else {
                        let old: Vec<&[Cell]> = change.old.as_deref().into_iter().collect();
                        let new: Vec<&[Cell]> = change.new.as_deref().into_iter().collect();
                        writer.deletes(&old, &mut jobs)?;
                        writer.inserts(&new, &mut jobs)?;
                    }
                }
            }
            match self.run(jobs).await {
                Ok(()) => {}
                Err(ApplyError::Failed(error)) => return Err(error),
                Err(ApplyError::InTheWay(why)) => return Err(self.difference(piece, item, &why)),
            }
        }
        Ok(())
    }

    fn difference(&self, piece: &ApplyBatch, item: &Item, why: &str) -> Error {
        let Item::Change(change) = item else {
            return Error::fatal(format!("the target cannot take a change: {why}"));
        };
        let (verb, row) = match (&change.old, &change.new) {
            (None, Some(new)) => ("insert", new),
            (Some(old), Some(_)) => ("update", old),
            (Some(old), None) => ("delete", old),
            (None, None) => return Error::fatal("a change without a row"),
        };
        let Some(table) = self.tables.all.get(change.table) else {
            return Error::fatal("a change of no table");
        };
        let wire = piece.wires.get(change.table).and_then(Option::as_deref);
        let mut key = Vec::new();
        for &column in &table.key {
            let (Some(cell), Some(wire)) = (row.get(column), wire.and_then(|wire| wire.get(column))) else {
                continue;
            };
            let described = &table.columns[column];
            if !key.is_empty() {
                key.extend_from_slice(b", ");
            }
            key.extend_from_slice(described.name.as_bytes());
            key.push(b'=');
            let purpose = super::values::Purpose::Store;
            let _ = super::values::write(&mut key, cell, *wire, &described.traits, purpose);
        }
        differs(verb, &table.title, &String::from_utf8_lossy(&key), why, &table.recopy)
    }

    async fn run(&mut self, jobs: Vec<Job>) -> Result<(), ApplyError> {
        for job in jobs {
            self.refuse_long(&job)?;
            if job.lenient {
                self.control(LENIENT).await.map_err(ApplyError::Failed)?;
            }
            for set in job.before {
                let done = self.session.query_drop(set).await;
                done.map_err(|error| self.setback(job.table, error))?;
            }
            let outcome = match self.session.query_iter(job.sql).await {
                Ok(result) => {
                    let rows = result.affected_rows();
                    result.drop_result().await.map(|()| rows)
                }
                Err(error) => Err(error),
            };
            if job.lenient {
                self.control(STRICT).await.map_err(ApplyError::Failed)?;
            }
            let rows = outcome.map_err(|error| self.setback(job.table, error))?;
            if let Some(expected) = job.rows
                && expected != rows
            {
                return Err(ApplyError::other_rows(rows, expected));
            }
        }
        Ok(())
    }

    /// The target would end the session where a single row is longer than a packet may be, and say nothing of the row.
    fn refuse_long(&self, job: &Job) -> Result<(), ApplyError> {
        const SERVERS_MAX: usize = 1 << 30;
        let length = job.sql.len() + 1;
        if length <= self.packet_max {
            return Ok(());
        }
        let title = self.tables.all.get(job.table).map_or("the target", |table| &table.title);
        let statement = format!("SET GLOBAL max_allowed_packet = {}", length.next_power_of_two().min(SERVERS_MAX));
        Err(ApplyError::Failed(
            Error::fatal(format!(
                "cannot apply changes to {title}: a row takes {length} bytes, and the target takes {} in one packet",
                self.packet_max
            ))
            .remedy(format!("on the target: {statement}, and set it in its configuration too"))
            .fix(statement),
        ))
    }

    fn setback(&mut self, table: usize, error: Failure) -> ApplyError {
        match &error {
            Failure::Server(reported) if matches!(reported.code, 1062 | 1586) => ApplyError::other_key(),
            _ => {
                let title = self.tables.all.get(table).map_or("the target", |table| &table.title);
                let what = format!("cannot apply changes to {title}");
                ApplyError::Failed(self.missed(&what, error))
            }
        }
    }
}

/// Ends the session of a run of ours that is gone but whose server side has not noticed: it holds a named lock.
async fn end_predecessor(mysql: &Mysql, session: &mut Conn) -> Result<()> {
    let cannot = |error| failed("cannot end the session of an earlier run on the target", error);
    let name = format!("headgate apply {:016x}", crate::mysql::stream::number_of(&mysql.key()));
    let name = quote_literal(&name);
    for _ in 0..3 {
        let got: Option<Option<u8>> =
            session.query_first(format!("SELECT GET_LOCK({name}, 5)")).await.map_err(cannot)?;
        if got.flatten() == Some(1) {
            return Ok(());
        }
        let holder: Option<Option<u64>> =
            session.query_first(format!("SELECT IS_USED_LOCK({name})")).await.map_err(cannot)?;
        if let Some(holder) = holder.flatten() {
            tracing::warn!(session = holder, "ends the session of an earlier follower on the target");
            match session.query_drop(format!("KILL {holder}")).await {
                // It is gone already.
                Err(Failure::Server(reported)) if reported.code == 1094 => {}
                outcome => outcome.map_err(cannot)?,
            }
        }
    }
    Err(Error::transient("another follower's session on the target does not end"))
}
