//! What was read from the binary log and not applied yet.

mod distributed;
mod rows;
mod statements;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use protocol::error::Malformed;
use protocol::mysql::change::{self, Kind};
use protocol::mysql::position::{DomainPositions, GtidSet, Gtids, Origin};

use super::apply::{ApplyBatch, Item};
use super::ddl::harmless::Doubt;
use super::tables::{Announced, START_ANEW, Tables};
use crate::error::{Error, Result};
use crate::follow::batch::{Gathered, PendingChanges, Summary};
use crate::model::position::Position as _;
use crate::mysql::limits::TransactionLimit;
use crate::mysql::position::compare_files;
use crate::mysql::stream::{Raw, name_alone};
use crate::mysql::{BinlogPosition, Mysql};
use distributed::Distributed;

const CHANGES_MAX: usize = 30_000;
/// Descriptions of tables that are kept; the log repeats them.
const LAYOUTS_MAX: usize = 10_000;
/// Rows that only say that a statement ended.
const NO_TABLE: u64 = 0xFF_FFFF;

const FORMAT: u8 = 15;
const COMPRESSED_STATEMENT: u8 = 165;

/// The number of a transaction.
enum Number {
    None,
    Mysql(Origin, u64),
    Mariadb(u32, u32, u64),
}

struct Open {
    /// Where it begins in its file.
    start: u64,
    number: Number,
    /// The target has it already.
    skip: bool,
    /// It goes on until it is committed; else one statement is all.
    begun: bool,
    /// It is compressed: where all of it ends.
    payload_end: Option<u64>,
    /// Changes of ours in it.
    changes: u64,
    /// It is distributed: its changes are put aside until it is committed.
    aside: bool,
}

/// Gathers decoded changes until they are taken.
pub(crate) struct TransactionBuffer {
    migration: Vec<u8>,
    tables: Arc<Tables>,
    server: String,
    stored: BinlogPosition,
    file: String,
    offset: u64,
    gtids: Gtids,
    /// The last file when the stream began.
    last_file: String,
    /// The stream said how its events end.
    knows_format: bool,
    layouts: HashMap<u64, (Bytes, Arc<Announced>)>,
    wires: Vec<Option<Arc<[change::Column]>>>,
    /// Tables whose load is behind us.
    passed: Vec<bool>,
    gathered: Gathered<Item>,
    changes_max: usize,
    open: Option<Open>,
    /// Something ended that is not told yet.
    ended: bool,
    pause_at: Option<BinlogPosition>,
    /// The begin of a transaction that has to wait.
    held: Option<Raw>,
    /// A statement that waits until it is known what it changed.
    doubted: Option<(Raw, Doubt)>,
    /// No statement before this place has changed a definition.
    harmless: Option<BinlogPosition>,
    distributed: Distributed,
}

impl PendingChanges for TransactionBuffer {
    type Position = BinlogPosition;
    type Batch = ApplyBatch;

    fn takes_in(&self) -> bool {
        let ends = self.gathered.is_parted() && self.open.is_none() && !self.is_empty();
        self.gathered.takes_in(self.changes_max, self.open.is_none())
            && self.held.is_none()
            && self.doubted.is_none()
            && !ends
    }

    fn is_between_transactions(&self) -> bool {
        self.open.is_none() || self.doubted.is_some()
    }

    fn is_empty(&self) -> bool {
        self.gathered.items.is_empty() && self.open.is_none() && !self.ended
    }

    fn is_held(&self) -> bool {
        self.held.is_some()
    }

    fn hold_at(&mut self, pause_at: Option<BinlogPosition>) -> Result<()> {
        self.pause_at = pause_at;
        match self.held.take() {
            Some(raw) => self.add(raw),
            None => Ok(()),
        }
    }

    fn has_reached(&self, position: &BinlogPosition) -> bool {
        let offset = self.open.as_ref().map_or(self.offset, |open| open.start);
        self.is_at(offset, position)
    }

    fn beyond(&self, applied: &BinlogPosition, _pause_at: Option<&BinlogPosition>) -> Option<BinlogPosition> {
        let before = self.file.is_empty()
            || applied.server == self.server
                && compare_files(&applied.file, &self.file).then(applied.offset.cmp(&self.offset)).is_ge();
        (!before).then(|| self.here())
    }

    fn take_whole(&mut self) -> Option<(ApplyBatch, Summary<BinlogPosition>)> {
        let waits = self.doubted.is_some() && self.gathered.items.is_empty() && !self.ended;
        if self.is_empty() || waits {
            return None;
        }
        let end = self.here();
        let piece = ApplyBatch { end: Some(end.clone()), since: self.distributed.since(), ..self.take_part() };
        let titles = self.tables.all.iter().map(|table| &table.title);
        let summary = self.gathered.take_summary(end, piece.items.is_empty(), titles);
        self.ended = false;
        Some((piece, summary))
    }

    fn take_part(&mut self) -> ApplyBatch {
        ApplyBatch { items: self.gathered.take_items(), wires: self.wires.clone(), end: None, since: None }
    }
}

impl TransactionBuffer {
    /// What the changes are of.
    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// What begins before `stored` in the files of that server is skipped, but for distributed transactions that may be
    /// committed later: it is read from `from`. `end` is where the log of the server
    /// that streams ended before. What is gathered at once stays below the target's `limit`.
    pub(crate) fn new(
        mysql: &Mysql,
        tables: Arc<Tables>,
        stored: BinlogPosition,
        from: &BinlogPosition,
        end: BinlogPosition,
        limit: TransactionLimit,
    ) -> Self {
        let (bytes_max, changes_max) = (limit.batch_bytes(u64::MAX), limit.batch_rows(CHANGES_MAX as u64));
        let same = from.server == end.server;
        Self {
            migration: mysql.key().into_bytes(),
            gathered: Gathered::new(tables.all.len(), usize::try_from(bytes_max).unwrap_or(usize::MAX)),
            changes_max: usize::try_from(changes_max).unwrap_or(CHANGES_MAX),
            wires: vec![None; tables.all.len()],
            passed: vec![false; tables.all.len()],
            tables,
            server: end.server,
            last_file: end.file,
            gtids: from.gtids(),
            file: if same { from.file.clone() } else { String::new() },
            offset: if same { from.offset } else { 0 },
            stored,
            knows_format: false,
            layouts: HashMap::new(),
            open: None,
            ended: false,
            pause_at: None,
            held: None,
            doubted: None,
            harmless: None,
            distributed: Distributed::default(),
        }
    }

    /// Where the last complete transaction that was read ends.
    pub(crate) fn here(&self) -> BinlogPosition {
        BinlogPosition {
            server: self.server.clone(),
            file: self.file.clone(),
            offset: self.open.as_ref().map_or(self.offset, |open| open.start),
            gtids: self.gtids.to_string(),
        }
    }

    fn is_at(&self, offset: u64, position: &BinlogPosition) -> bool {
        if position.server != self.server {
            return self.here().covers(position);
        }
        compare_files(&self.file, &position.file).then(offset.cmp(&position.offset)) != Ordering::Less
    }

    /// Reads one event of the stream.
    pub(crate) fn add(&mut self, raw: Raw) -> Result<()> {
        let begins = match raw.kind {
            Kind::Gtid | Kind::GtidTagged | Kind::GtidAnonymous | Kind::GtidMariadb => {
                if self.open.is_some() {
                    return Err(out_of_place(&raw));
                }
                true
            }
            Kind::Query | Kind::TableMap | Kind::Rows(..) | Kind::Payload => self.open.is_none(),
            _ => false,
        };
        if begins {
            if let Some(pause_at) = &self.pause_at
                && self.is_at(self.offset, pause_at)
            {
                self.held = Some(raw);
                return Ok(());
            }
            self.begin(&raw)?;
        }
        self.go_on_to(&raw)?;
        self.read(&raw)
    }

    fn begin(&mut self, raw: &Raw) -> Result<()> {
        let (mut begun, mut aside) = (false, false);
        let number = match raw.kind {
            Kind::Gtid => {
                let (uuid, number) = change::gtid(raw.body.clone()).map_err(unreadable)?;
                let tag = String::new();
                Number::Mysql(Origin { uuid, tag }, number)
            }
            Kind::GtidTagged => match &raw.tagged {
                Some((uuid, tag, number)) => {
                    let (uuid, tag) = (*uuid, tag.clone());
                    Number::Mysql(Origin { uuid, tag }, *number)
                }
                None => return Err(out_of_place(raw)),
            },
            Kind::GtidMariadb => {
                let gtid = change::mariadb_gtid(raw.body.clone()).map_err(unreadable)?;
                begun = !gtid.standalone;
                aside = gtid.prepared;
                Number::Mariadb(gtid.domain, raw.server, gtid.number)
            }
            _ => Number::None,
        };
        let skip = self.stored.server == self.server && !self.is_at(self.offset, &self.stored);
        self.open = Some(Open { start: self.offset, number, skip, begun, payload_end: None, changes: 0, aside });
        Ok(())
    }

    /// Follows the place in the file. The log tells 32 bits of it.
    fn go_on_to(&mut self, raw: &Raw) -> Result<()> {
        let in_payload = self.open.as_ref().is_some_and(|open| open.payload_end.is_some());
        // What the server makes up for this stream has no place, and a format is told again with its old one.
        if raw.end == 0 || in_payload || matches!(raw.number, 4 | FORMAT) {
            return Ok(());
        }
        let is_heartbeat = matches!(raw.number, 27 | 41);
        if is_heartbeat && (self.open.is_some() || raw.number == 27 && raw.body[..] != *self.file.as_bytes()) {
            return Ok(());
        }
        if raw.number == 41 {
            return Ok(());
        }
        let end = self.offset & !0xFFFF_FFFF | u64::from(raw.end);
        if end >= self.offset {
            self.offset = end;
        } else if self.offset - end > 1 << 31 {
            self.offset = end + (1 << 32);
        } else if raw.kind != Kind::Ignorable {
            return Err(out_of_place(raw));
        }
        Ok(())
    }

    fn end(&mut self) {
        let Some(open) = self.open.take() else { return };
        if let Some(end) = open.payload_end {
            self.offset = end;
        }
        match (open.number, &mut self.gtids) {
            (Number::Mysql(origin, number), Gtids::Mysql(set)) => set.add(origin, number),
            (Number::Mysql(origin, number), gtids) => {
                let mut set = GtidSet::default();
                set.add(origin, number);
                *gtids = Gtids::Mysql(set);
            }
            (Number::Mariadb(domain, server, number), Gtids::Mariadb(positions)) => {
                positions.advance(domain, server, number);
            }
            (Number::Mariadb(domain, server, number), gtids) => {
                let mut positions = DomainPositions::default();
                positions.advance(domain, server, number);
                *gtids = Gtids::Mariadb(positions);
            }
            (Number::None, _) => {}
        }
        if !open.skip {
            self.gathered.transactions += u64::from(open.changes > 0);
            self.ended = true;
        }
    }

    fn read(&mut self, raw: &Raw) -> Result<()> {
        self.knows_format |= raw.number == FORMAT;
        match raw.kind {
            Kind::Rotate => {
                if self.open.is_some() {
                    return Err(out_of_place(raw));
                }
                let (offset, file) = change::rotate(raw.body.clone()).map_err(unreadable)?;
                let file = if self.knows_format { &file[..] } else { name_alone(&file, &self.file, &self.last_file) };
                self.file = String::from_utf8_lossy(file).into_owned();
                self.offset = offset;
                self.layouts.clear();
                Ok(())
            }
            Kind::Xid => {
                self.end();
                Ok(())
            }
            Kind::XaPrepare => self.prepared(raw),
            Kind::Query => self.query(raw),
            Kind::Payload => {
                if let Some(open) = &mut self.open {
                    open.payload_end = Some(self.offset);
                }
                Ok(())
            }
            Kind::TableMap => self.describe(raw),
            Kind::Rows(verb, second) => self.rows(raw, verb, second),
            Kind::Gtid | Kind::GtidTagged | Kind::GtidAnonymous | Kind::GtidMariadb | Kind::Ignorable => Ok(()),
            Kind::Incident => {
                Err(Error::fatal("the source says that its binary log lacks changes (incident event)")
                    .remedy(START_ANEW))
            }
            Kind::PartialRows => {
                self.unread_rows(raw, "only parts of documents (PARTIAL_UPDATE_ROWS)", "binlog_row_value_options=''")
            }
            Kind::CompressedMariadb if raw.number != COMPRESSED_STATEMENT => {
                self.unread_rows(raw, "compressed rows, which are not read,", "log_bin_compress=OFF")
            }
            Kind::CompressedMariadb => {
                Err(Error::fatal("the binary log has a compressed statement, which is not read")
                    .remedy(format!("set log_bin_compress=OFF on the source; {START_ANEW}")))
            }
            Kind::StatementLoad => self.statement("LOAD DATA"),
            Kind::Unknown => {
                Err(Error::fatal(format!("the binary log has an event of the unknown type {}", raw.number))
                    .remedy("a newer Headgate may know it; it must not be passed over"))
            }
        }
    }

    fn is_skipped(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.skip)
    }

    /// Whether nothing of the open transaction is needed any more.
    fn is_passed_over(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.skip && !open.aside)
    }
}

fn unreadable(error: Malformed) -> Error {
    Error::fatal("the source sent an event that cannot be read").because(error)
}

fn out_of_place(raw: &Raw) -> Error {
    Error::fatal(format!("the source sent an event of type {} where it does not belong", raw.number))
}
