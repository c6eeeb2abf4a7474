//! The stream of changes: pgoutput's messages, protocol versions 1 to 4.
//!
//! Texts, tuples and values are slices of the message; one `Vec` per tuple is all that is allocated, and it can be
//! given back. <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>

use bytes::Bytes;

use crate::error::Malformed;
use crate::postgres::position::Lsn;
use crate::reader::Reader;

pub mod replication;
mod transaction;

pub use transaction::{Begin, Commit, Origin, Prepared, RolledBack, StreamAbort, StreamCommit};

/// One message of the stream. `xid` is the (sub)transaction of a message inside a streamed block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A transaction begins.
    Begin(Begin),
    /// It committed.
    Commit(Commit),
    /// It came from elsewhere.
    Origin(Origin),
    /// What a table looks like, before its first change and after each change of its shape.
    Relation {
        /// The streamed transaction.
        xid: Option<u32>,
        /// The table.
        relation: Relation,
    },
    /// A type that a relation uses.
    Type {
        /// The streamed transaction.
        xid: Option<u32>,
        /// Its oid.
        oid: u32,
        /// Its schema; empty for `pg_catalog`.
        schema: Bytes,
        /// Its name.
        name: Bytes,
    },
    /// A new row.
    Insert {
        /// The streamed transaction.
        xid: Option<u32>,
        /// The table's oid.
        relation: u32,
        /// The row.
        new: Tuple,
    },
    /// A changed row.
    Update {
        /// The streamed transaction.
        xid: Option<u32>,
        /// The table's oid.
        relation: u32,
        /// What identified the row; none where the key did not change.
        old: Option<Identity>,
        /// The row now.
        new: Tuple,
    },
    /// A row that is gone.
    Delete {
        /// The streamed transaction.
        xid: Option<u32>,
        /// The table's oid.
        relation: u32,
        /// What identified the row.
        old: Identity,
    },
    /// Tables were emptied.
    Truncate {
        /// The streamed transaction.
        xid: Option<u32>,
        /// With CASCADE.
        cascade: bool,
        /// With RESTART IDENTITY.
        restart_identity: bool,
        /// The tables' oids.
        relations: Vec<u32>,
    },
    /// What `pg_logical_emit_message` said.
    Message(Message),
    /// A block of a large transaction that has not ended yet.
    StreamStart {
        /// The transaction.
        xid: u32,
        /// Whether this is its first block.
        first: bool,
    },
    /// The end of the block.
    StreamStop,
    /// A streamed transaction committed.
    StreamCommit(StreamCommit),
    /// A streamed (sub)transaction was rolled back.
    StreamAbort(StreamAbort),
    /// A transaction begins that will be prepared.
    BeginPrepare(Prepared),
    /// It is prepared.
    Prepare(Prepared),
    /// A prepared transaction committed.
    CommitPrepared(Prepared),
    /// A prepared transaction was rolled back.
    RollbackPrepared(RolledBack),
    /// A streamed transaction is prepared.
    StreamPrepare(Prepared),
}

/// What a table looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Its oid.
    pub oid: u32,
    /// Its schema; empty for `pg_catalog`.
    pub schema: Bytes,
    /// Its name.
    pub name: Bytes,
    /// What identifies a row: `d`efault, `n`othing, `f`ull or `i`ndex.
    pub replica_identity: u8,
    /// Its columns.
    pub columns: Vec<RelationColumn>,
}

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    /// Whether it is part of what identifies a row.
    pub key: bool,
    /// Its name.
    pub name: Bytes,
    /// Its type.
    pub type_oid: u32,
    /// Its type's modifier, or -1.
    pub type_modifier: i32,
}

/// What identified a row before it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The key columns; the others are null.
    Key(Tuple),
    /// The whole row.
    Full(Tuple),
}

/// The values of one row, in the order of the relation's columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuple {
    /// The values.
    pub columns: Vec<Value>,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Null.
    Null,
    /// A large value that did not change and is not sent again.
    UnchangedToast,
    /// The type's text form.
    Text(Bytes),
    /// The type's binary form.
    Binary(Bytes),
}

/// A message of `pg_logical_emit_message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The streamed transaction.
    pub xid: Option<u32>,
    /// Whether it counts only if its transaction commits.
    pub transactional: bool,
    /// Where it stands.
    pub position: Lsn,
    /// Who it is for.
    pub prefix: Bytes,
    /// What it says.
    pub content: Bytes,
}

/// Reads the messages of one stream. Whether a message carries an xid depends on whether it is inside a streamed
/// block, which the decoder follows.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    in_block: bool,
    reusable: Vec<Vec<Value>>,
}

/// How many emptied tuples are kept: an update has two.
const SPARE_MAX: usize = 4;

impl Decoder {
    /// Reads one message.
    #[inline]
    pub fn decode(&mut self, message: Bytes) -> Result<Change, Malformed> {
        let mut reader = Reader::new("pgoutput message", message);
        let change = self.read(&mut reader)?;
        reader.end()?;
        Ok(change)
    }

    /// Takes a tuple back, so that a later one needs no allocation.
    pub fn recycle(&mut self, mut tuple: Tuple) {
        tuple.columns.clear();
        if self.reusable.len() < SPARE_MAX {
            self.reusable.push(tuple.columns);
        }
    }

    fn read(&mut self, reader: &mut Reader) -> Result<Change, Malformed> {
        let kind = reader.get_u8()?;
        let xid = match kind {
            b'R' | b'Y' | b'I' | b'U' | b'D' | b'T' | b'M' if self.in_block => Some(reader.get_u32()?),
            _ => None,
        };
        Ok(match kind {
            b'I' => {
                let relation = reader.get_u32()?;
                let b'N' = reader.get_u8()? else {
                    return Err(reader.malformed());
                };
                Change::Insert { xid, relation, new: self.tuple(reader)? }
            }
            b'U' => {
                let relation = reader.get_u32()?;
                let mut mark = reader.get_u8()?;
                let old = if mark == b'N' { None } else { Some(self.identity(mark, reader)?) };
                if old.is_some() {
                    mark = reader.get_u8()?;
                }
                if mark != b'N' {
                    return Err(reader.malformed());
                }
                Change::Update { xid, relation, old, new: self.tuple(reader)? }
            }
            b'D' => {
                let relation = reader.get_u32()?;
                let mark = reader.get_u8()?;
                Change::Delete { xid, relation, old: self.identity(mark, reader)? }
            }
            b'B' => Change::Begin(Begin::read(reader)?),
            b'C' => Change::Commit(Commit::read(reader)?),
            b'O' => Change::Origin(Origin::read(reader)?),
            b'R' => Change::Relation { xid, relation: relation(reader)? },
            b'Y' => Change::Type { xid, oid: reader.get_u32()?, schema: reader.cstr()?, name: reader.cstr()? },
            b'T' => truncate(xid, reader)?,
            b'M' => Change::Message(emitted(xid, reader)?),
            b'S' => {
                let started = Change::StreamStart { xid: reader.get_u32()?, first: reader.get_u8()? == 1 };
                self.in_block = true;
                started
            }
            b'E' => {
                self.in_block = false;
                Change::StreamStop
            }
            b'c' => Change::StreamCommit(StreamCommit::read(reader)?),
            b'A' => Change::StreamAbort(StreamAbort::read(reader)?),
            b'b' => Change::BeginPrepare(Prepared::read_begin(reader)?),
            b'P' => Change::Prepare(Prepared::read(reader)?),
            b'K' => Change::CommitPrepared(Prepared::read(reader)?),
            b'r' => Change::RollbackPrepared(RolledBack::read(reader)?),
            b'p' => Change::StreamPrepare(Prepared::read(reader)?),
            _ => return Err(reader.malformed()),
        })
    }

    fn identity(&mut self, mark: u8, reader: &mut Reader) -> Result<Identity, Malformed> {
        match mark {
            b'K' => Ok(Identity::Key(self.tuple(reader)?)),
            b'O' => Ok(Identity::Full(self.tuple(reader)?)),
            _ => Err(reader.malformed()),
        }
    }

    fn tuple(&mut self, reader: &mut Reader) -> Result<Tuple, Malformed> {
        let count = usize::from(reader.get_u16()?);
        // Each value takes a byte at least, so a short message cannot ask for much memory.
        if count > reader.remaining() {
            return Err(reader.malformed());
        }
        let mut columns = self.reusable.pop().unwrap_or_default();
        columns.reserve(count);
        for _ in 0..count {
            columns.push(match reader.get_u8()? {
                b'n' => Value::Null,
                b'u' => Value::UnchangedToast,
                b't' => Value::Text(value(reader)?),
                b'b' => Value::Binary(value(reader)?),
                _ => return Err(reader.malformed()),
            });
        }
        Ok(Tuple { columns })
    }
}

#[inline]
fn value(reader: &mut Reader) -> Result<Bytes, Malformed> {
    let length = usize::try_from(reader.get_i32()?).map_err(|_| reader.malformed())?;
    reader.slice(length)
}

fn relation(reader: &mut Reader) -> Result<Relation, Malformed> {
    /// A column at its smallest: flags, an empty name, type and modifier.
    const COLUMN_BYTES_MIN: usize = 10;
    let oid = reader.get_u32()?;
    let schema = reader.cstr()?;
    let name = reader.cstr()?;
    let replica_identity = reader.get_u8()?;
    let count = usize::from(reader.get_u16()?);
    if count.saturating_mul(COLUMN_BYTES_MIN) > reader.remaining() {
        return Err(reader.malformed());
    }
    let mut columns = Vec::with_capacity(count);
    for _ in 0..count {
        columns.push(RelationColumn {
            key: reader.get_u8()? & 1 == 1,
            name: reader.cstr()?,
            type_oid: reader.get_u32()?,
            type_modifier: reader.get_i32()?,
        });
    }
    Ok(Relation { oid, schema, name, replica_identity, columns })
}

fn truncate(xid: Option<u32>, reader: &mut Reader) -> Result<Change, Malformed> {
    let count = reader.get_u32()?;
    let options = reader.get_u8()?;
    let count = usize::try_from(count).map_err(|_| reader.malformed())?;
    if count.checked_mul(size_of::<u32>()) != Some(reader.remaining()) {
        return Err(reader.malformed());
    }
    let relations = (0..count).map(|_| reader.get_u32()).collect::<Result<_, _>>()?;
    Ok(Change::Truncate { xid, cascade: options & 1 != 0, restart_identity: options & 2 != 0, relations })
}

fn emitted(xid: Option<u32>, reader: &mut Reader) -> Result<Message, Malformed> {
    Ok(Message {
        xid,
        transactional: reader.get_u8()? & 1 == 1,
        position: Lsn(reader.get_u64()?),
        prefix: reader.cstr()?,
        content: value(reader)?,
    })
}
