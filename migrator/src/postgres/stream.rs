//! The replication client: change stream slots, their snapshots, and the stream itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes};
use postgres_protocol::message::frontend;
use tokio::time::Instant;

use super::client::Endpoint;
use super::link::{Frame, Link, Refusal, unexpected};
use super::position::Lsn;
use super::sql::{quote_ident, quote_literal};
use crate::error::{Error, Result};

/// How long a replication command may take where nothing else bounds it.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the source hears how far we are, so that it neither drops us nor keeps its log.
const FEEDBACK_EVERY: Duration = Duration::from_secs(1);

/// What a new slot's stream starts after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotSnapshot {
    /// Every transaction whose commit record is before this is in the snapshot; every other one is in the stream.
    pub consistent_point: Lsn,
    /// The name to import the snapshot by while the connection that created the slot stays open and idle.
    pub snapshot: String,
}

/// Why a slot could not be created or started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Another connection uses the slot.
    Busy,
    /// A transaction that was open all the time did not end within the lock timeout.
    OpenTransactions,
    /// A slot with that name exists.
    Exists,
    /// There is no such slot, or its log is gone.
    Gone,
}

/// A connection in replication mode that is not streaming.
pub struct Replication {
    link: Link,
}

impl Replication {
    /// Connects to `endpoint`; the server's views show it as `headgate <purpose>`.
    pub async fn connect(endpoint: &Endpoint, purpose: &str) -> Result<Self> {
        Ok(Self { link: Link::connect(endpoint, &format!("headgate {purpose}")).await? })
    }

    /// Runs one statement by the simple protocol.
    pub async fn query(&mut self, statement: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.link
            .query(statement, COMMAND_TIMEOUT)
            .await?
            .map_err(|refusal| Error::fatal("the server refused a replication command").because(refusal))
    }

    /// The timeline of the server's log, and where the log ends.
    pub async fn identify(&mut self) -> Result<(u32, Lsn)> {
        let rows = self.query("IDENTIFY_SYSTEM").await?;
        let field = |index: usize| rows.first().and_then(|row| row.get(index)).cloned().flatten();
        let timeline = field(1).and_then(|timeline| timeline.parse().ok());
        match (timeline, field(2)) {
            (Some(timeline), Some(end)) => Ok((timeline, end.parse()?)),
            _ => Err(unexpected("a system without a timeline")),
        }
    }

    /// The timelines that this one descends from, each with the place where it was left.
    pub async fn history(&mut self, timeline: u32) -> Result<Vec<(u32, Lsn)>> {
        let rows = self.query(&format!("TIMELINE_HISTORY {timeline}")).await?;
        let content = rows.first().and_then(|row| row.get(1)).cloned().flatten().unwrap_or_default();
        let line = |line: &str| {
            let mut fields = line.split_whitespace();
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        };
        Ok(content.lines().filter_map(line).collect())
    }

    /// Creates a logical slot and exports its snapshot, which lives until this connection is used again or closed. One that is
    /// not temporary is kept up to date on standbys, where the version has that: it outlives a failover.
    ///
    /// The server waits for every open transaction to end; after `lock_timeout` it gives up
    /// ([`Obstacle::OpenTransactions`], found by [`obstacle`]).
    pub async fn create_slot(&mut self, slot: &str, temporary: bool, lock_timeout: Duration) -> Result<SlotSnapshot> {
        let slot_name = quote_ident(slot);
        let form =
            |kind: &str, options: &str| format!("CREATE_REPLICATION_SLOT {slot_name}{kind} LOGICAL pgoutput {options}");
        let forms = if temporary {
            vec![form(" TEMPORARY", "(SNAPSHOT 'export')"), form(" TEMPORARY", "EXPORT_SNAPSHOT")]
        } else {
            ["(SNAPSHOT 'export', FAILOVER)", "(SNAPSHOT 'export')", "EXPORT_SNAPSHOT"]
                .map(|options| form("", options))
                .into()
        };
        self.first_accepted(slot, &forms, lock_timeout).await
    }

    /// Creates a slot by the first of these forms that the server's version knows.
    async fn first_accepted(&mut self, slot: &str, forms: &[String], lock_timeout: Duration) -> Result<SlotSnapshot> {
        self.query(&format!("SET lock_timeout = {}", lock_timeout.as_millis())).await?;
        // Each open transaction is waited for with the lock timeout of its own.
        let limit = lock_timeout.saturating_mul(4) + COMMAND_TIMEOUT;
        let mut outcome = Ok(Vec::new());
        for form in forms {
            outcome = self.link.query(form, limit).await?;
            // A syntax that is newer, or an option, which servers refuse as an error of their own.
            let is_unknown = outcome.as_ref().is_err_and(|refusal| ["42601", "XX000"].contains(&refusal.code.as_str()));
            if !is_unknown {
                break;
            }
        }
        let rows = outcome.map_err(|refusal| refused(slot, refusal))?;
        let field = |index: usize| rows.first().and_then(|row| row.get(index)).cloned().flatten();
        let (Some(consistent_point), Some(snapshot)) = (field(1), field(2)) else {
            return Err(unexpected("a slot without a snapshot"));
        };
        Ok(SlotSnapshot { consistent_point: consistent_point.parse()?, snapshot })
    }

    /// Starts the stream of `slot` with the first transaction that ends after `from`.
    pub async fn start(mut self, slot: &str, from: Lsn, publication: &str) -> Result<Stream> {
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {from} (proto_version '1', publication_names {}, messages 'true')",
            quote_ident(slot),
            quote_literal(&quote_ident(publication)),
        );
        let outcome = self.link.query(&command, COMMAND_TIMEOUT).await?;
        outcome.map_err(|refusal| refused(slot, refusal))?;
        let flushed = from;
        Ok(Stream { link: self.link, flushed, reply_now: false, last_feedback: Instant::now(), heard: Instant::now() })
    }
}

/// What stood in the way of [`Replication::create_slot`] or [`Replication::start`], if it was one of those.
pub fn obstacle(error: &Error) -> Option<Obstacle> {
    let refusal = std::error::Error::source(error)?.downcast_ref::<Refusal>()?;
    match refusal.code.as_str() {
        "55006" => Some(Obstacle::Busy),
        "55P03" => Some(Obstacle::OpenTransactions),
        "42710" => Some(Obstacle::Exists),
        "42704" | "55000" => Some(Obstacle::Gone),
        _ => None,
    }
}

fn refused(slot: &str, refusal: Refusal) -> Error {
    let code = refusal.code.clone();
    let what = format!("the source refused the slot {slot}");
    let error = match code.as_str() {
        "55006" | "55P03" => Error::transient(what),
        "42704" | "55000" => Error::fatal(what)
            .remedy("the stream's log is gone, so the copy must start again: DROP MIGRATION … WITH (target_objects = 'drop'), then create it anew"),
        "53400" => Error::fatal(what).remedy("raise max_replication_slots on the source"),
        "42501" => Error::fatal(what).remedy("the role needs the REPLICATION attribute"),
        _ if code.starts_with("57") || code.starts_with("53") => Error::transient(what),
        _ => Error::fatal(what),
    };
    error.because(refusal)
}

/// One message of the stream.
#[derive(Clone, Debug)]
pub enum Event {
    /// A piece of the stream for the decoder.
    Data(Bytes),
    /// Everything whose record ends at or before this position was sent.
    Keepalive(Lsn),
}

/// A running change stream.
pub struct Stream {
    link: Link,
    flushed: Lsn,
    reply_now: bool,
    last_feedback: Instant,
    heard: Instant,
}

impl Stream {
    /// The next message that already arrived, if there is one. Never waits.
    pub fn take(&mut self) -> Result<Option<Event>> {
        match self.link.take()? {
            None => Ok(None),
            Some(Frame::Copy(payload)) => self.read(payload).map(Some),
            Some(Frame::Other(message)) => Err(Link::ending(&message)),
            Some(Frame::CopyBoth) => Err(unexpected("a second start of the stream")),
        }
    }

    fn read(&mut self, mut payload: Bytes) -> Result<Event> {
        match payload.try_get_u8() {
            Ok(b'w') if payload.len() >= 24 => {
                payload.advance(24);
                Ok(Event::Data(payload))
            }
            Ok(b'k') if payload.len() >= 17 => {
                let end = payload.get_u64();
                payload.advance(8);
                if payload.get_u8() != 0 {
                    self.reply_now = true;
                }
                Ok(Event::Keepalive(Lsn(end)))
            }
            _ => Err(unexpected("an unknown replication message")),
        }
    }

    /// Waits until more of the stream arrived, and keeps the source informed meanwhile. Cancel safe.
    pub async fn fill(&mut self) -> Result<()> {
        loop {
            let due = self.feed_back_if_due();
            tokio::select! {
                arrived = self.link.exchange() => {
                    self.heard = Instant::now();
                    return arrived;
                }
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }

    /// Keeps the source informed while nothing more can be taken in. Returns only on failure. Cancel safe.
    pub async fn tend(&mut self) -> Result<()> {
        loop {
            let due = self.feed_back_if_due();
            // Nothing is listened for, so silence says nothing.
            self.heard = Instant::now();
            self.link.flush().await?;
            tokio::time::sleep_until(due).await;
        }
    }

    /// When something arrived last, or would not have been listened to.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// The next message. Cancel safe.
    pub async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.take()? {
                return Ok(event);
            }
            self.fill().await?;
        }
    }

    /// Everything before `position` is durable on the target: the source may forget it.
    pub fn confirm(&mut self, position: Lsn) {
        self.flushed = self.flushed.max(position);
    }

    /// Asks the source to say at once how far it has sent.
    pub fn ask(&mut self) {
        self.feed_back(true);
    }

    fn feed_back_if_due(&mut self) -> Instant {
        if self.reply_now || self.last_feedback.elapsed() >= FEEDBACK_EVERY {
            self.feed_back(false);
        }
        self.last_feedback + FEEDBACK_EVERY
    }

    fn feed_back(&mut self, ask: bool) {
        self.reply_now = false;
        self.last_feedback = Instant::now();
        let position = self.flushed.0;
        let mut status = [0_u8; 34];
        let mut body = &mut status[..];
        body.put_u8(b'r');
        for _ in ["written", "flushed", "applied"] {
            body.put_u64(position);
        }
        body.put_i64(server_time());
        body.put_u8(u8::from(ask));
        if let Ok(frame) = frontend::CopyData::new(&status[..]) {
            frame.write(self.link.outgoing());
        }
    }
}

/// Microseconds since the year 2000, as the protocol counts time. Nothing of ours depends on it.
fn server_time() -> i64 {
    const YEAR_2000: Duration = Duration::from_hours(24 * 10_957);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.saturating_sub(YEAR_2000).as_micros()).unwrap_or(i64::MAX)
}
