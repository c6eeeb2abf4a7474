//! The bytes of one way of a session, from one side's socket to the other's.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Buffers start small, because most sessions are idle, and grow where a peer fills them.
const BUFFER_BYTES_MIN: usize = 8 << 10;
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// The bytes of one way: `[start, cleared)` may be written, `[cleared, end)` waits to be looked at or is held.
#[derive(Debug)]
pub(super) struct HalfDuplex {
    pub(super) bytes: Vec<u8>,
    pub(super) start: usize,
    pub(super) cleared: usize,
    pub(super) end: usize,
    pub(super) closed: bool,
    /// The writer's side was told that no more comes.
    pub(super) shut: bool,
    /// Something was written, and the writer may still keep it back.
    unflushed: bool,
}

impl HalfDuplex {
    pub(super) fn new(leftover: &[u8]) -> Self {
        let mut bytes = vec![0; BUFFER_BYTES_MIN.max(leftover.len())];
        for (to, from) in bytes.iter_mut().zip(leftover) {
            *to = *from;
        }
        Self { bytes, start: 0, cleared: 0, end: leftover.len(), closed: false, shut: false, unflushed: false }
    }

    pub(super) fn unseen(&self) -> &[u8] {
        &self.bytes[self.cleared..self.end]
    }

    pub(super) fn unseen_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.cleared..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end && !self.unflushed
    }

    pub(super) fn writable(&self) -> bool {
        self.start < self.cleared
    }

    /// Makes a full buffer larger, up to the limit.
    fn grow_where_full(&mut self) {
        if self.end == self.bytes.len() && self.end < BUFFER_BYTES_MAX {
            self.bytes.resize((self.end * 2).min(BUFFER_BYTES_MAX), 0);
        }
    }

    /// Whether something can be read.
    fn make_room(&mut self) -> bool {
        if self.end == self.bytes.len() && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.cleared -= self.start;
            self.end -= self.start;
            self.start = 0;
        }
        self.grow_where_full();
        self.end < self.bytes.len()
    }

    /// Reads once. `Ready(true)` where something came, `Ready(false)` where there is no room or the peer closed.
    pub(super) fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut R,
    ) -> Poll<io::Result<bool>> {
        if self.closed || !self.make_room() {
            return Poll::Ready(Ok(false));
        }
        let mut room = ReadBuf::new(&mut self.bytes[self.end..]);
        ready!(Pin::new(reader).poll_read(context, &mut room))?;
        let count = room.filled().len();
        self.end += count;
        // A peer that fills all of it has more: results of this size take one read and one write from then on.
        self.grow_where_full();
        self.closed = count == 0;
        Poll::Ready(Ok(true))
    }

    /// Writes once what is cleared, and flushes where nothing is left. `Ready(true)` where something went.
    pub(super) fn poll_drain<W: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<io::Result<bool>> {
        if !self.writable() {
            if self.unflushed {
                ready!(Pin::new(writer).poll_flush(context))?;
                self.unflushed = false;
            }
            return Poll::Ready(Ok(false));
        }
        let count = ready!(Pin::new(writer).poll_write(context, &self.bytes[self.start..self.cleared]))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        self.start += count;
        if self.start == self.end {
            self.start = 0;
            self.cleared = 0;
            self.end = 0;
        }
        Poll::Ready(Ok(true))
    }

    /// Takes `count` bytes out from behind the cleared ones.
    pub(super) fn swallow(&mut self, count: usize) {
        let from = (self.cleared + count).min(self.end);
        self.bytes.copy_within(from..self.end, self.cleared);
        self.end -= from - self.cleared;
    }

    /// Puts bytes of our own behind the cleared ones; nothing may wait to be looked at.
    pub(super) fn append(&mut self, words: &[u8]) {
        self.bytes.truncate(self.end);
        self.bytes.extend_from_slice(words);
        self.end = self.bytes.len();
        self.cleared = self.end;
        self.bytes.resize(self.end.max(BUFFER_BYTES_MIN), 0);
    }

    pub(super) fn discard(&mut self, count: usize) {
        self.cleared += count;
        self.start = self.cleared;
        if self.start == self.end {
            self.start = 0;
            self.cleared = 0;
            self.end = 0;
        }
    }
}
