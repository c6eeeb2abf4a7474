//! The source's binary log as a stream of events, from a position on.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use mysql_async::binlog::events::Event;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, Error as Failure, Sid};
use protocol::mysql::change::Kind;
use protocol::mysql::position::{Gtids, Uuid};
use tokio::time::{Instant, timeout};

use super::client::{self, failed};
use super::{BinlogPosition, Mysql, position};
use crate::error::{Error, Result};
use crate::model::position::Position as _;

/// How often an idle source says that it is there.
const ALIVE_EVERY: Duration = Duration::from_secs(5);
/// A stream that was silent that long has ended without a word.
const SILENCE_MAX: Duration = Duration::from_mins(1);
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// What starts anew a migration whose changes are lost.
const LOST: &str = "the changes since then are lost: let the source keep its log for longer (binlog_expire_logs_seconds, \
    expire_logs_days), then DROP MIGRATION … WITH (target_objects = 'drop'), and create and start it again";

/// One event, still as the server wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(super) kind: Kind,
    /// The event's number, for messages.
    pub(super) number: u8,
    /// Where it ends in its file, as far as 32 bits tell; 0 where it is not in the file.
    pub(super) end: u32,
    /// The server that wrote it.
    pub(super) server: u32,
    pub(super) body: Bytes,
    /// The `server_uuid`, tag and number of a tagged transaction.
    pub(super) tagged: Option<([u8; 16], String, u64)>,
}

/// A running stream.
pub(super) struct Stream {
    inner: BinlogStream,
    heard: Instant,
}

impl Stream {
    /// Opens the stream at `from`, and says where the binary log of the server ended before.
    pub(super) async fn open(
        mysql: &Mysql,
        source: &mut Conn,
        from: &BinlogPosition,
    ) -> Result<(Self, BinlogPosition)> {
        let now = position::current(source).await?;
        let same = now.server == from.server;
        let has_all = if same {
            now.covers(from) && (from.gtids.is_empty() || now.gtids().covers(&from.gtids()))
        } else {
            now.gtids().covers(&from.gtids())
        };
        if !has_all {
            let what = format!("the source's binary log ends at {now} and lacks what was applied up to {from}");
            return Err(Error::fatal(what).remedy(LOST));
        }
        let mut session = mysql.connect_source("stream").await?;
        let version = client::version(&mut session).await?;
        let cannot = |error| failed("cannot prepare the change stream", error);
        let nanos = ALIVE_EVERY.as_nanos();
        session
            .query_drop(format!("SET @master_heartbeat_period = {nanos}, @source_heartbeat_period = {nanos}"))
            .await
            .map_err(cannot)?;
        let mut request = BinlogStreamRequest::new(replica_number(mysql));
        let file = from.file.clone();
        if version.is_mariadb() {
            session.query_drop("SET @mariadb_slave_capability = 4").await.map_err(cannot)?;
        }
        if same {
            // The protocol has 32 bits for the place; beyond them the file is read from its start, and what is
            // applied is passed over.
            let offset = if u32::try_from(from.offset).is_ok() { from.offset } else { 4 };
            request = request.with_filename(file.as_bytes()).with_pos(offset);
        } else {
            match from.gtids() {
                Gtids::Mysql(set) => {
                    let mut sids = Vec::new();
                    for (origin, runs) in set.iter() {
                        let mut text = Uuid(&origin.uuid).to_string();
                        if !origin.tag.is_empty() {
                            text = format!("{text}:{}", origin.tag);
                        }
                        for (first, last) in runs {
                            text = format!("{text}:{first}-{last}");
                        }
                        let sid: Sid<'static> = text
                            .parse()
                            .map_err(|_| Error::fatal("the recorded GTIDs cannot be sent to the source"))?;
                        sids.push(sid);
                    }
                    request = request.with_gtid().with_gtid_set(sids);
                }
                Gtids::Mariadb(positions) => {
                    session
                        .query_drop(format!("SET @slave_connect_state = '{positions}', @slave_gtid_strict_mode = 1"))
                        .await
                        .map_err(cannot)?;
                }
                Gtids::None => {
                    return Err(Error::fatal("the source is another server and there are no GTIDs").remedy(LOST));
                }
            }
        }
        let inner = timeout(START_TIMEOUT, session.get_binlog_stream(request))
            .await
            .map_err(|_| Error::transient("the source did not start the change stream in time"))?
            .map_err(refused)?;
        let heard = Instant::now();
        Ok((Self { inner, heard }, now))
    }

    /// The next event. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Raw> {
        let Ok(next) = timeout(SILENCE_MAX, self.inner.next()).await else {
            let seconds = SILENCE_MAX.as_secs();
            return Err(Error::transient(format!("the source sent nothing for {seconds} s")));
        };
        self.heard = Instant::now();
        match next {
            Some(Ok(event)) => read(&event),
            Some(Err(error)) => Err(refused(error)),
            None => Err(Error::transient("the source ended the change stream")),
        }
    }

    /// The next event that already arrived, if there is one. Never waits.
    pub(super) fn take(&mut self) -> Result<Option<Raw>> {
        match self.inner.next().now_or_never() {
            None => Ok(None),
            Some(Some(Ok(event))) => {
                self.heard = Instant::now();
                read(&event).map(Some)
            }
            Some(Some(Err(error))) => Err(refused(error)),
            Some(None) => Err(Error::transient("the source ended the change stream")),
        }
    }

    /// When something arrived last.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// Nothing was listened for, so silence says nothing.
    pub(super) fn not_listening(&mut self) {
        self.heard = Instant::now();
    }
}

fn read(event: &Event) -> Result<Raw> {
    let header = event.header();
    let number = header.event_type_raw();
    let kind = Kind::of(number);
    let mut tagged = None;
    if kind == Kind::GtidTagged {
        let unreadable = || Error::fatal("the source sent a tagged GTID that cannot be read");
        let data = event.read_data().map_err(|error| unreadable().because(error))?;
        let Some(mysql_async::binlog::events::EventData::GtidEvent(gtid)) = data else {
            return Err(unreadable());
        };
        let tag = gtid.tag().map(ToString::to_string).unwrap_or_default();
        tagged = Some((gtid.sid(), tag, gtid.gno()));
    }
    Ok(Raw {
        kind,
        number,
        end: header.log_pos(),
        server: header.server_id(),
        body: Bytes::copy_from_slice(event.data()),
        tagged,
    })
}

/// A file's name without the four bytes of checksum that MariaDB puts behind the first one, before it says that there
/// are any: the stream begins in the file that was asked for, or in one whose name is as long as that of the last.
pub(super) fn name_alone<'a>(reported: &'a [u8], asked: &str, last: &str) -> &'a [u8] {
    const CHECKSUM_BYTES: usize = 4;
    for (known, exact) in [(asked, true), (last, false)] {
        let longer = reported.len().checked_sub(known.len());
        if !known.is_empty()
            && matches!(longer, Some(0 | CHECKSUM_BYTES))
            && (!exact || reported.starts_with(known.as_bytes()))
        {
            return &reported[..known.len()];
        }
    }
    reported
}

fn refused(error: Failure) -> Error {
    if let Failure::Server(reported) = &error
        && reported.code == 1236
    {
        let text = reported.message.to_ascii_lowercase();
        let what = format!("the source ended the change stream: {}", reported.message);
        // Another run of ours took over, or is about to.
        if text.contains("same server_uuid") || text.contains("same server_id") || text.contains("same server-id") {
            return Error::transient(what);
        }
        return Error::fatal(what).remedy(LOST);
    }
    if matches!(error, Failure::Io(_)) {
        return Error::transient(format!("the change stream broke: {error}"));
    }
    failed("the source refused the change stream", error)
}

/// A number for a name that is the same in every run.
pub(super) fn number_of(name: &str) -> u64 {
    // FNV-1a: the same in every build.
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// The number under which the source knows this stream. The source ends an older stream with the same number: that of
/// a run of ours that is gone. Real servers are not numbered that high.
fn replica_number(mysql: &Mysql) -> u32 {
    let name = format!("{} {:?}", mysql.key(), mysql.target());
    let low = u32::try_from(number_of(&name) & 0x0FFF_FFFF).unwrap_or(1);
    0xE000_0000 | low
}

#[cfg(test)]
mod tests {
    use super::name_alone;

    #[test]
    fn a_checksum_behind_a_name_is_no_part_of_it_even_where_it_looks_like_digits() {
        assert_eq!(name_alone(b"bin.000001378\xFF", "bin.000001", "bin.000009"), b"bin.000001");
        assert_eq!(name_alone(b"bin.000001", "bin.000001", "bin.000009"), b"bin.000001");
        assert_eq!(name_alone(b"bin.0000021234", "", "bin.000009"), b"bin.000002");
        assert_eq!(name_alone(b"bin.000002", "", "bin.000009"), b"bin.000002");
    }
}
