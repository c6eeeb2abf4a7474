//! Where a session stands, learned from the headers that pass by in both directions.
//!
//! Each Query, Sync and FunctionCall is owed one ReadyForQuery, in order; a session is at a boundary when nothing is
//! owed, no batch lacks its Sync, no COPY is under way and the server said idle. Two things make that less than a
//! counter. In COPY FROM STDIN the server ignores Sync, and a client may have sent some before it knew. And after an
//! error the server skips to the next Sync. What was ignored is only certain once the COPY has ended well; after an
//! error the Syncs in question are *in doubt*: they may still be answered. Counting too much is safe, for the session
//! then merely seems busy; counting too little is not, so doubt counts as owed until something proves it settled.
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING>

use std::collections::VecDeque;

use crate::postgres::command;
use crate::postgres::reply::{self, ReadyStatus};

/// How many unanswered requests are tracked unless told otherwise; a client that sends more must wait for replies.
const OWED_MAX: usize = 4096;

/// What a client frame means where nothing is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// It begins something that must pass the gate.
    Batch,
    /// It begins nothing: the server ignores it here, or only flushes.
    Nothing,
    /// It ends the session.
    Terminates,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    /// A Query or a FunctionCall.
    Request,
    /// The same behind a batch without its Sync: skipped if that batch fails.
    RequestInBatch,
    /// A Sync behind the frames of a batch.
    Sync,
    /// A Sync behind nothing: only ReadyForQuery answers it.
    BareSync,
    /// A Sync behind COPY data and nothing else: a bare one if that COPY has failed.
    CopySync,
    /// The client's end of COPY data behind a whole request; answered by nothing, dropped with that request.
    CopyEnd,
    /// The same inside a batch.
    CopyEndInBatch,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Copy {
    #[default]
    None,
    /// The server wants data and the client has not ended it.
    In,
    /// The client has ended its data and the server has yet to conclude.
    InEnded,
    Out,
    Both,
}

/// The tracker of one session. It allocates nothing per statement.
#[allow(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
#[derive(Clone, Debug)]
pub struct Session {
    owed: VecDeque<Owed>,
    owed_max: usize,
    status: ReadyStatus,
    /// Frames of a batch were sent since the last Sync.
    unsynced: bool,
    /// The Sync of a batch turned out to be ignored, so that the batch is open again.
    reopened: bool,
    copy: Copy,
    /// Syncs that the COPY under way made the server ignore, unless it fails first.
    ignored: usize,
    /// ReadyForQuery that may or may not come, before the certain ones.
    doubtful: usize,
    /// Nothing but ReadyForQuery can come of what is in doubt.
    bare: bool,
    /// The count cannot be trusted any more: the session is never at a boundary again.
    lost: bool,
    /// The COPY under way belongs to the request at the front and not to a batch.
    copy_in_request: bool,
    /// What the client sent last is answered with more than ReadyForQuery: any such answer settles the doubt.
    settles: bool,
}

impl Default for Session {
    fn default() -> Self {
        Self::with_limit(OWED_MAX)
    }
}

impl Session {
    /// A session that is idle behind its login, with at most about `owed_max` requests tracked.
    pub fn with_limit(owed_max: usize) -> Self {
        Self {
            owed: VecDeque::new(),
            owed_max,
            status: ReadyStatus::Idle,
            unsynced: false,
            reopened: false,
            copy: Copy::None,
            ignored: 0,
            doubtful: 0,
            bare: true,
            lost: false,
            copy_in_request: false,
            settles: false,
        }
    }

    /// What a frame means that comes while [`Self::in_batch`] is false.
    #[inline]
    pub const fn begins(tag: u8) -> Begins {
        match tag {
            command::TERMINATE => Begins::Terminates,
            command::FLUSH | command::COPY_DATA | command::COPY_DONE | command::COPY_FAIL => Begins::Nothing,
            // What is unknown begins something until the server says otherwise.
            _ => Begins::Batch,
        }
    }

    /// A frame from the client is forwarded.
    #[inline]
    pub fn client(&mut self, tag: u8) {
        match tag {
            command::QUERY | command::FUNCTION_CALL => {
                self.watch_for_proof();
                let batch = self.unsynced || self.reopened;
                self.owed.push_back(if batch { Owed::RequestInBatch } else { Owed::Request });
                self.unsynced = false;
                self.reopened = false;
            }
            command::SYNC if self.copy == Copy::In => self.ignored = self.ignored.saturating_add(1),
            command::SYNC => {
                self.owed.push_back(match (self.unsynced, self.copy) {
                    (true, _) => Owed::Sync,
                    (false, Copy::InEnded) => Owed::CopySync,
                    (false, _) => Owed::BareSync,
                });
                self.unsynced = false;
                self.reopened = false;
            }
            command::COPY_DONE | command::COPY_FAIL => match self.copy {
                Copy::In => self.copy = Copy::InEnded,
                Copy::Both => {}
                _ if self.unsynced => self.owed.push_back(Owed::CopyEndInBatch),
                _ if !self.owed.is_empty() => self.owed.push_back(Owed::CopyEnd),
                _ => {}
            },
            tag if command::is_batched(tag) => {
                self.watch_for_proof();
                self.unsynced = true;
            }
            _ => {}
        }
    }

    /// A frame from the server, other than ReadyForQuery, is forwarded.
    #[inline]
    pub fn server(&mut self, tag: u8) {
        if self.settles && !is_asynchronous(tag) {
            self.settles = false;
            self.doubtful = 0;
        }
        match tag {
            reply::COPY_IN_RESPONSE => self.copy_in(),
            reply::COPY_OUT_RESPONSE => self.copy = Copy::Out,
            reply::COPY_BOTH_RESPONSE => self.copy = Copy::Both,
            reply::COPY_DONE if matches!(self.copy, Copy::Out | Copy::Both) => {
                self.copy = Copy::None;
            }
            reply::COMMAND_COMPLETE => {
                self.copy = Copy::None;
                self.ignored = 0;
            }
            reply::ERROR_RESPONSE => self.failed(),
            _ => {}
        }
    }

    /// A ReadyForQuery from the server is forwarded.
    #[inline]
    pub fn ready(&mut self, status: ReadyStatus) {
        self.status = status;
        self.copy = Copy::None;
        self.reopened = false;
        if self.settles {
            // The answer to what was sent last would have come before its ReadyForQuery: this one is an old debt.
            self.doubtful = self.doubtful.saturating_sub(1);
            self.settles = self.doubtful > 0;
            return;
        }
        // The client's ends of COPY data before the request that is answered now go with it.
        if let Some(answered) = self.owed.iter().position(|&owed| !is_copy_end(owed)) {
            let owed = self.owed.drain(..=answered).next_back();
            while self.owed.front() == Some(&Owed::CopyEnd) {
                self.owed.pop_front();
            }
            // What is still in doubt may be this one, if it was not this one that was answered.
            self.bare &= self.doubtful == 0 || owed == Some(Owed::BareSync);
        } else {
            self.doubtful = self.doubtful.saturating_sub(1);
        }
        self.doubt(self.ignored);
    }

    /// Nothing is under way: only here may a session be held or moved.
    #[inline]
    pub fn at_boundary(&self) -> bool {
        self.owed.is_empty()
            && self.doubtful == 0
            && !self.lost
            && !self.in_batch()
            && self.copy == Copy::None
            && self.status == ReadyStatus::Idle
    }

    /// The client is in the middle of a batch or of its COPY data, and the server may wait for the rest.
    #[inline]
    pub fn in_batch(&self) -> bool {
        self.unsynced || self.reopened || self.copy == Copy::In
    }

    /// The server reported an open transaction.
    #[inline]
    pub fn in_transaction(&self) -> bool {
        self.status != ReadyStatus::Idle
    }

    /// At most how many ReadyForQuery are still to come.
    pub fn expecting(&self) -> usize {
        let certain = self.owed.iter().filter(|&&o| !matches!(o, Owed::CopyEnd | Owed::CopyEndInBatch));
        certain.count().saturating_add(self.doubtful)
    }

    /// Whether some of [`Self::expecting`] may never come.
    pub fn in_doubt(&self) -> bool {
        self.doubtful > 0 || self.lost
    }

    /// Whether replies are owed for certain, beside those in doubt.
    #[inline]
    pub fn owes(&self) -> bool {
        self.owed.iter().any(|&owed| !is_copy_end(owed))
    }

    /// Whether nothing but doubt keeps this session from a boundary, so that a request of the proxy's own can settle
    /// it: whatever comes before its answer is the old debt, and nothing else is owed.
    pub fn can_be_settled(&self) -> bool {
        self.doubtful > 0
            && self.bare
            && !self.lost
            && self.owed.is_empty()
            && !self.in_batch()
            && self.copy == Copy::None
            && self.status == ReadyStatus::Idle
    }

    /// The answer to the proxy's own request came: nothing is in doubt any more.
    pub fn settle(&mut self) {
        self.doubtful = 0;
        self.settles = false;
    }

    /// Whether a COPY is under way, in any direction.
    #[inline]
    pub fn copying(&self) -> bool {
        self.copy != Copy::None
    }

    /// The transaction status that the server reported last.
    #[inline]
    pub fn status(&self) -> ReadyStatus {
        self.status
    }

    /// Whether so much is unanswered that the relay must stop reading from the client.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.owed.len() >= self.owed_max
    }

    fn watch_for_proof(&mut self) {
        if self.doubtful > 0 && self.bare && self.owed.is_empty() && !self.in_batch() {
            self.settles = true;
        }
    }

    /// So many more may or may not be answered.
    fn doubt(&mut self, count: usize) {
        self.bare |= self.doubtful == 0;
        self.doubtful = self.doubtful.saturating_add(count);
        self.ignored = 0;
    }

    /// The request at the front has begun to COPY from the client.
    fn copy_in(&mut self) {
        // With replies in doubt, nobody can tell whose data the client has ended: better busy for ever.
        self.lost |= self.doubtful > 0;
        let mut kept = None;
        self.copy_in_request = is_request(self.owed.front().copied());
        if self.copy_in_request {
            kept = self.owed.pop_front();
        } else {
            // An Execute began it, and what was taken for its Sync came while the server was copying.
            self.reopened = true;
            // Without a Sync or an end of data behind it, all frames of the batch are answered or void by now.
            self.unsynced &= !self.owed.is_empty();
            if let Some(Owed::Sync | Owed::CopySync) = self.owed.front() {
                self.owed.pop_front();
                self.ignored = self.ignored.saturating_add(1);
            }
        }
        while self.owed.front() == Some(&Owed::BareSync) {
            self.owed.pop_front();
            self.ignored = self.ignored.saturating_add(1);
        }
        self.copy = Copy::In;
        if let Some(Owed::CopyEnd | Owed::CopyEndInBatch) = self.owed.front() {
            self.owed.pop_front();
            self.copy = Copy::InEnded;
        }
        if !self.owed.is_empty() {
            // A later Sync or Query was sent after the copy: it closes the batch.
            self.reopened = false;
        }
        if let Some(kept) = kept {
            self.owed.push_front(kept);
        }
    }

    fn failed(&mut self) {
        let front = self.owed.front().copied();
        match self.copy {
            // The Query is answered next, and only then the Syncs behind it that were not ignored.
            Copy::In | Copy::InEnded if self.copy_in_request => {}
            Copy::In | Copy::InEnded => {
                if let Some(sync @ Owed::CopySync) = self.owed.front_mut() {
                    *sync = Owed::BareSync;
                }
                self.doubt(self.ignored);
            }
            _ if front == Some(Owed::RequestInBatch) => {
                // Either the batch failed and the server skips this request, or this request did.
                self.owed.pop_front();
                self.doubt(1);
            }
            _ => {}
        }
        self.copy = Copy::None;
    }
}

const fn is_copy_end(owed: Owed) -> bool {
    matches!(owed, Owed::CopyEnd | Owed::CopyEndInBatch)
}

const fn is_request(owed: Option<Owed>) -> bool {
    matches!(owed, Some(Owed::Request | Owed::RequestInBatch))
}

#[inline]
const fn is_asynchronous(tag: u8) -> bool {
    matches!(tag, reply::NOTICE_RESPONSE | reply::NOTIFICATION_RESPONSE | reply::PARAMETER_STATUS)
}
