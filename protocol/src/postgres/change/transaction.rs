//! The messages that begin and end transactions.

use bytes::Bytes;

use crate::error::Malformed;
use crate::postgres::position::Lsn;
use crate::reader::Reader;

/// A transaction begins. Times are microseconds since 2000-01-01 UTC, as everywhere here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Where its commit record stands.
    pub commit: Lsn,
    /// When it committed.
    pub at: i64,
    /// The transaction.
    pub xid: u32,
}

impl Begin {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self { commit: lsn(reader)?, at: reader.get_i64()?, xid: reader.get_u32()? })
    }
}

/// A transaction committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Where its commit record stands.
    pub commit: Lsn,
    /// Where its commit record ends: what to confirm once it is applied.
    pub end: Lsn,
    /// When it committed.
    pub at: i64,
}

impl Commit {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        // Flags, none of which has a meaning yet.
        reader.get_u8()?;
        Ok(Self { commit: lsn(reader)?, end: lsn(reader)?, at: reader.get_i64()? })
    }
}

/// A transaction came from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Where it committed there.
    pub commit: Lsn,
    /// The origin's name.
    pub name: Bytes,
}

impl Origin {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self { commit: lsn(reader)?, name: reader.cstr()? })
    }
}

/// A streamed transaction committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamCommit {
    /// The transaction.
    pub xid: u32,
    /// The commit.
    pub commit: Commit,
}

impl StreamCommit {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self { xid: reader.get_u32()?, commit: Commit::read(reader)? })
    }
}

/// A streamed (sub)transaction was rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamAbort {
    /// The top transaction.
    pub xid: u32,
    /// What was rolled back: a subtransaction, or the same.
    pub subxid: u32,
    /// Where and when; sent since version 4 with parallel streaming.
    pub aborted: Option<(Lsn, i64)>,
}

impl StreamAbort {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        let (xid, subxid) = (reader.get_u32()?, reader.get_u32()?);
        let parallel = reader.remaining() > 0;
        let aborted = if parallel { Some((lsn(reader)?, reader.get_i64()?)) } else { None };
        Ok(Self { xid, subxid, aborted })
    }
}

/// A transaction that is (or was) prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Where its record stands: of the prepare, or of the commit.
    pub record: Lsn,
    /// Where that record ends.
    pub end: Lsn,
    /// When it was written.
    pub at: i64,
    /// The transaction.
    pub xid: u32,
    /// The name that the user gave it.
    pub gid: Bytes,
}

impl Prepared {
    pub(super) fn read_begin(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self {
            record: lsn(reader)?,
            end: lsn(reader)?,
            at: reader.get_i64()?,
            xid: reader.get_u32()?,
            gid: reader.cstr()?,
        })
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        reader.get_u8()?;
        Self::read_begin(reader)
    }
}

/// A prepared transaction was rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// Where its prepare record ends.
    pub prepare_end: Lsn,
    /// Where the rollback's record ends.
    pub end: Lsn,
    /// When it was prepared.
    pub prepared_at: i64,
    /// When it was rolled back.
    pub at: i64,
    /// The transaction.
    pub xid: u32,
    /// The name that the user gave it.
    pub gid: Bytes,
}

impl RolledBack {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        reader.get_u8()?;
        Ok(Self {
            prepare_end: lsn(reader)?,
            end: lsn(reader)?,
            prepared_at: reader.get_i64()?,
            at: reader.get_i64()?,
            xid: reader.get_u32()?,
            gid: reader.cstr()?,
        })
    }
}

fn lsn(reader: &mut Reader) -> Result<Lsn, Malformed> {
    Ok(Lsn(reader.get_u64()?))
}
