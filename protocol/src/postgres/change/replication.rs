//! What CopyData carries on a replication connection, in both directions.
//!
//! <https://www.postgresql.org/docs/current/protocol-replication.html>

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::Malformed;
use crate::postgres::position::Lsn;
use crate::postgres::{command, frame};
use crate::reader::Reader;

/// What the server sends. Times are microseconds since 2000-01-01 UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replication {
    /// A piece of the stream.
    XLogData {
        /// Where it begins.
        start: Lsn,
        /// The server's end of the log.
        end: Lsn,
        /// The server's clock.
        clock: i64,
        /// One message of the output plugin.
        data: Bytes,
    },
    /// A sign of life.
    PrimaryKeepalive {
        /// The server's end of the log, up to which it has nothing more to send.
        end: Lsn,
        /// The server's clock.
        clock: i64,
        /// Whether it wants a status update at once, or it will close.
        reply_requested: bool,
    },
}

impl Replication {
    /// Reads the body of a CopyData.
    #[inline]
    pub fn parse(body: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new("replication message", body);
        match reader.get_u8()? {
            b'w' => Ok(Self::XLogData {
                start: Lsn(reader.get_u64()?),
                end: Lsn(reader.get_u64()?),
                clock: reader.get_i64()?,
                data: reader.take_rest(),
            }),
            b'k' => {
                let keepalive = Self::PrimaryKeepalive {
                    end: Lsn(reader.get_u64()?),
                    clock: reader.get_i64()?,
                    reply_requested: reader.get_u8()? == 1,
                };
                reader.end()?;
                Ok(keepalive)
            }
            _ => Err(reader.malformed()),
        }
    }
}

/// How far the receiver is: each position is the last byte + 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandbyStatusUpdate {
    /// Received.
    pub written: Lsn,
    /// Durable here: the server may forget what is before.
    pub flushed: Lsn,
    /// Visible here.
    pub applied: Lsn,
    /// The receiver's clock, microseconds since 2000-01-01 UTC.
    pub clock: i64,
}

impl StandbyStatusUpdate {
    /// Appends the CopyData that says it.
    pub fn encode(&self, out: &mut BytesMut) {
        frame::put(out, command::COPY_DATA, |out| {
            out.put_u8(b'r');
            out.put_u64(self.written.0);
            out.put_u64(self.flushed.0);
            out.put_u64(self.applied.0);
            out.put_i64(self.clock);
            out.put_u8(0);
        });
    }
}
