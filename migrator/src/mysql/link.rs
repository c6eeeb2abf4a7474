//! One raw connection for the load: rows come and go as the server's own bytes, with nothing allocated for each.

mod session;

use std::io::{self, ErrorKind};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use mysql_async::{Error as Failure, ServerError};
use protocol::mysql::auth::seal;
use protocol::mysql::frame::{self, HEADER_BYTES};
use protocol::mysql::handshake::Capabilities;
use protocol::mysql::lenenc::{Fields, put_string};
use protocol::mysql::login::{Channel, Client, Credential, Failed, Identity, Login};
use rsa::rand_core::OsRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use transport::{Stream, Tls};

use super::client::{Endpoint, PLUGIN_REMEDY, failed, late};
use crate::error::{Error, Result, TLS_REMEDY};
pub(super) use session::open;

/// A server answers, gives the next bytes or takes them within this, or the connection is taken for dead.
const STALL: Duration = Duration::from_mins(5);
const READ_BYTES: usize = 256 << 10;
/// No server is set to take less in one packet.
const PIECE_BYTES_MAX: usize = 512 << 10;
/// No server sends a larger row: one value holds at most 1 GiB, and so does a packet.
const ROW_BYTES_MAX: usize = (1 << 30) + (64 << 20);
/// Nothing but rows is larger.
const REPLY_BYTES_MAX: usize = 1 << 20;
const ROWS_MAX: usize = 10_000;

/// What this end can do besides what each login needs; above all not the new end of a result: every server speaks the old.
const CAPABILITIES: Capabilities = Capabilities::LONG_FLAG.with(Capabilities::LOCAL_FILES);
const UTF8MB4_GENERAL_CI: u8 = 45;
const COM_QUERY: u8 = 3;

/// A logged-in connection.
pub(super) struct Link {
    stream: Stream,
    incoming: BytesMut,
    outgoing: BytesMut,
    sequence: u8,
}

/// What a statement without rows did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Rows changed.
    pub(super) affected: u64,
    /// Warnings given; the server counts no further than 65,535 here.
    pub(super) warnings: u16,
}

/// What a server answers to a statement.
enum Answer {
    Done(Done),
    /// So many columns; rows follow.
    Columns(u64),
    /// The server asks for the file that LOAD DATA names.
    File,
}

/// A value's bytes, or NULL.
pub(super) type Cell = Option<Bytes>;

/// Why there is no login, and whether it was for TLS, without which it may be tried again where that is only preferred.
struct NotIn {
    error: Error,
    in_tls: bool,
}

impl From<Error> for NotIn {
    fn from(error: Error) -> Self {
        Self { error, in_tls: false }
    }
}

/// Opens a connection and logs in; what the server said behind the welcome comes with it.
async fn log_in(endpoint: &Endpoint, purpose: &str, what: &str) -> Result<(Stream, BytesMut), NotIn> {
    let stream = endpoint.open().await.map_err(|error| match error.kind() {
        ErrorKind::TimedOut => late(endpoint),
        _ => Error::transient(format!("cannot connect to {endpoint:?}")).because(error),
    })?;
    let mut attributes = BytesMut::new();
    put_string(&mut attributes, b"program_name");
    put_string(&mut attributes, format!("headgate {purpose}").as_bytes());
    let password = endpoint.read_password().await?.unwrap_or_default();
    let identity = Identity {
        user: endpoint.user.as_bytes().to_vec(),
        credential: Credential::Clear(password.as_bytes().to_vec().into()),
        capabilities: CAPABILITIES,
        charset: UTF8MB4_GENERAL_CI,
        attributes: attributes.freeze(),
        max_packet: 1 << 30,
        plain: false,
    };
    let is_local = stream.is_local();
    let mut login = Login::new(Client {
        identity: &identity,
        also: Capabilities::default(),
        database: None,
        channel: if is_local { Channel::Socket } else { Channel::Network },
        encryption: transport::mysql::encryption(&endpoint.tls, &stream),
        seal: |key, clear| seal(key, clear, &mut OsRng),
    });
    let step = |incoming: &mut BytesMut, outgoing: &mut BytesMut| login.feed(incoming, outgoing);
    let mut incoming = BytesMut::with_capacity(READ_BYTES);
    let server = (&endpoint.tls, endpoint.host.as_str());
    let outcome = transport::log_in(stream, server, &mut incoming, BytesMut::new(), step).await;
    let outcome = outcome.map_err(|error| NotIn {
        in_tls: transport::is_of_handshake(&error),
        error: match error.kind() {
            ErrorKind::UnexpectedEof => closed(what),
            ErrorKind::InvalidData | ErrorKind::InvalidInput => {
                Error::fatal(format!("{what}: {error}")).remedy(TLS_REMEDY)
            }
            _ => lost(error),
        },
    })?;
    let (stream, _) = outcome.map_err(|failed| match failed {
        Failed::Refused(body) => refused(what, &body),
        Failed::Malformed(_) => malformed(what),
        Failed::Unsupported { why, plugin } => {
            let method = String::from_utf8_lossy(&plugin);
            Error::fatal(format!("{what}: the server {why} (login method {method})")).remedy(PLUGIN_REMEDY)
        }
        other @ (Failed::PasswordNeeded | Failed::UnknownPlugin(_)) => {
            Error::fatal(format!("{what}: {other}")).remedy(PLUGIN_REMEDY)
        }
    })?;
    Ok((stream, incoming))
}

impl Link {
    /// Connects and logs in, without a limit of time.
    async fn connect(endpoint: &Endpoint, purpose: &str) -> Result<Self> {
        let attempt = |tls: Tls| {
            let endpoint = Endpoint { tls, ..endpoint.clone() };
            async move { log_in(&endpoint, purpose, &format!("cannot log in to {endpoint:?}")).await }
        };
        let logged_in = transport::preferring(&endpoint.tls, attempt, |failed: &NotIn| failed.in_tls).await;
        let (stream, incoming) = logged_in.map_err(|failed| failed.error)?;
        Ok(Self { stream, incoming, outgoing: BytesMut::new(), sequence: 0 })
    }

    /// Runs a statement that gives no rows.
    pub(super) async fn execute(&mut self, sql: &str, what: &str) -> Result<Done> {
        match self.ask(sql, what).await? {
            Answer::Done(done) => Ok(done),
            Answer::Columns(_) | Answer::File => Err(malformed(what)),
        }
    }

    /// Runs a query whose few rows are kept.
    pub(super) async fn rows(&mut self, sql: &str, what: &str) -> Result<Vec<Vec<Cell>>> {
        let columns = self.begin_rows(sql, what).await?;
        let mut rows = Vec::new();
        loop {
            let body = self.reply(what).await?;
            if is_end(&body) {
                return Ok(rows);
            }
            if body.first() == Some(&0xFF) {
                return Err(refused(what, &body));
            }
            if rows.len() >= ROWS_MAX {
                return Err(malformed(what));
            }
            let (mut row, mut fields) = (Vec::new(), Fields::new("row", &body));
            for _ in 0..columns {
                let value = fields.value().map_err(|_| malformed(what))?;
                row.push(value.map(Bytes::copy_from_slice));
            }
            rows.push(row);
        }
    }

    /// Begins a query; its rows are then fed on by [`Link::some_rows`]. Tells how many columns each has.
    pub(super) async fn begin_rows(&mut self, sql: &str, what: &str) -> Result<usize> {
        let Answer::Columns(columns) = self.ask(sql, what).await? else {
            return Err(malformed(what));
        };
        let columns = usize::try_from(columns).map_err(|_| malformed(what))?;
        // Their definitions, and the end of them.
        for _ in 0..=columns {
            let body = self.reply(what).await?;
            if body.first() == Some(&0xFF) {
                return Err(refused(what, &body));
            }
        }
        Ok(columns)
    }

    /// Hands rows to `take`, which tells how much it has gathered, until that is `enough` or no whole row is there;
    /// waits for the first. `false` after the last row.
    pub(super) async fn some_rows(
        &mut self,
        what: &str,
        enough: usize,
        mut take: impl FnMut(&[u8]) -> Result<usize>,
    ) -> Result<bool> {
        let mut fed = false;
        loop {
            while let Some(header) = frame::peek(&self.incoming) {
                let gathered = if header.is_continued() {
                    let taken = frame::take(&mut self.incoming, ROW_BYTES_MAX);
                    let Some(payload) = taken.map_err(|_| malformed(what))? else {
                        break;
                    };
                    take(&payload.body)?
                } else {
                    let Some(body) = self.incoming.get(HEADER_BYTES..header.total()) else {
                        break;
                    };
                    if is_end(body) {
                        self.incoming.advance(header.total());
                        return Ok(false);
                    }
                    if body.first() == Some(&0xFF) {
                        return Err(refused(what, body));
                    }
                    let gathered = take(body)?;
                    self.incoming.advance(header.total());
                    gathered
                };
                fed = true;
                if gathered >= enough {
                    return Ok(true);
                }
            }
            if fed {
                return Ok(true);
            }
            self.read_more(what).await?;
        }
    }

    /// Begins `LOAD DATA LOCAL`; `Err` with the server's own refusal where it does not take files.
    pub(super) async fn begin_file(&mut self, sql: &str, what: &str) -> Result<()> {
        match self.ask(sql, what).await? {
            Answer::File => Ok(()),
            Answer::Done(_) | Answer::Columns(_) => Err(malformed(what)),
        }
    }

    /// Sends a piece of the file. Its first four bytes are room for the header, and it is empty but for them afterwards.
    pub(super) async fn file(&mut self, piece: &mut Vec<u8>) -> Result<()> {
        let length = piece.len().saturating_sub(HEADER_BYTES);
        if length == 0 {
            return Ok(());
        }
        let reported = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        if length > PIECE_BYTES_MAX {
            // An enormous row. A file may be cut anywhere, and a server takes no packet above a limit of its own.
            let body = piece.split_off(HEADER_BYTES);
            for part in body.chunks(PIECE_BYTES_MAX) {
                frame::put(&mut self.outgoing, &mut self.sequence, part);
                self.flush().await?;
            }
            return Ok(());
        }
        for (place, byte) in piece.iter_mut().zip([reported[0], reported[1], reported[2], self.sequence]) {
            *place = byte;
        }
        self.sequence = self.sequence.wrapping_add(1);
        moving(self.stream.write_all(piece)).await?;
        piece.truncate(HEADER_BYTES);
        Ok(())
    }

    /// Ends the file and reads what became of it.
    pub(super) async fn end_file(&mut self, what: &str) -> Result<Done> {
        self.send(&[]).await?;
        let body = self.reply(what).await?;
        match read_answer(&body) {
            Some(Answer::Done(done)) => Ok(done),
            _ if body.first() == Some(&0xFF) => Err(refused(what, &body)),
            _ => Err(malformed(what)),
        }
    }

    async fn ask(&mut self, sql: &str, what: &str) -> Result<Answer> {
        let body = self.command(sql, what).await?;
        if body.first() == Some(&0xFF) {
            return Err(refused(what, &body));
        }
        read_answer(&body).ok_or_else(|| malformed(what))
    }

    /// Sends a statement; the answer's first packet.
    async fn command(&mut self, sql: &str, what: &str) -> Result<Bytes> {
        self.sequence = 0;
        let mut body = Vec::with_capacity(sql.len() + 1);
        body.push(COM_QUERY);
        body.extend_from_slice(sql.as_bytes());
        self.send(&body).await?;
        self.reply(what).await
    }

    /// Runs a statement given as bytes.
    pub(super) async fn execute_bytes(&mut self, sql: &[u8], what: &str) -> Result<Done> {
        self.sequence = 0;
        let mut body = Vec::with_capacity(sql.len() + 1);
        body.push(COM_QUERY);
        body.extend_from_slice(sql);
        self.send(&body).await?;
        let body = self.reply(what).await?;
        match read_answer(&body) {
            Some(Answer::Done(done)) => Ok(done),
            _ if body.first() == Some(&0xFF) => Err(refused(what, &body)),
            _ => Err(malformed(what)),
        }
    }

    async fn send(&mut self, body: &[u8]) -> Result<()> {
        frame::put(&mut self.outgoing, &mut self.sequence, body);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<()> {
        moving(self.stream.write_all(&self.outgoing)).await?;
        self.outgoing.clear();
        Ok(())
    }

    /// The next payload of a reply that is not a row of the load.
    async fn reply(&mut self, what: &str) -> Result<Bytes> {
        loop {
            let taken = frame::take(&mut self.incoming, REPLY_BYTES_MAX).map_err(|_| malformed(what))?;
            if let Some(payload) = taken {
                self.sequence = payload.sequence.wrapping_add(1);
                return Ok(payload.body);
            }
            self.read_more(what).await?;
        }
    }

    async fn read_more(&mut self, what: &str) -> Result<()> {
        self.incoming.reserve(READ_BYTES);
        let count = moving(self.stream.read_buf(&mut self.incoming)).await?;
        if count == 0 {
            return Err(closed(what));
        }
        Ok(())
    }
}

/// One wait of the load on one server, of an ordinary connection too.
pub(super) async fn in_time<T>(what: &str, step: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(STALL, step)
        .await
        .unwrap_or_else(|_| Err(Error::transient(format!("{what}: nothing moved for {} s", STALL.as_secs()))))
}

async fn moving<T>(step: impl Future<Output = io::Result<T>>) -> Result<T> {
    match timeout(STALL, step).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(lost(error)),
        Err(_) => Err(Error::transient(format!("nothing moved for {} s on a connection of the load", STALL.as_secs()))),
    }
}

fn closed(what: &str) -> Error {
    Error::transient(format!("{what}: the server closed the connection"))
}

fn lost(error: io::Error) -> Error {
    Error::transient("a connection of the load was lost").because(error)
}

fn malformed(what: &str) -> Error {
    Error::fatal(format!("{what}: the server's answer cannot be understood"))
}

/// The server's refusal, told as by an ordinary connection.
fn refused(what: &str, body: &[u8]) -> Error {
    let mut rest = body.get(1..).unwrap_or_default();
    if rest.len() < 2 {
        return malformed(what);
    }
    let code = rest.get_u16_le();
    let (state, message) = match rest.strip_prefix(b"#") {
        Some(reported) if reported.len() >= 5 => reported.split_at(5),
        _ => (&b"HY000"[..], rest),
    };
    failed(
        what,
        Failure::Server(ServerError {
            code,
            message: String::from_utf8_lossy(message).into_owned(),
            state: String::from_utf8_lossy(state).into_owned(),
        }),
    )
}

fn is_end(body: &[u8]) -> bool {
    body.first() == Some(&0xFE) && body.len() < 9
}

fn read_answer(body: &[u8]) -> Option<Answer> {
    let mut fields = Fields::new("answer", body);
    match body.first()? {
        0x00 => {
            fields.u8().ok()?;
            let affected = fields.count().ok()?;
            fields.count().ok()?;
            fields.u16().ok()?;
            let warnings = fields.u16().ok()?;
            Some(Answer::Done(Done { affected, warnings }))
        }
        0xFB => Some(Answer::File),
        0xFF => None,
        _ => Some(Answer::Columns(fields.count().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, read_answer};

    #[test]
    fn an_answer_cut_short_is_none() {
        let whole = [0x00, 0xFC, 1, 1, 0, 2, 0, 7, 0];
        assert!(matches!(read_answer(&whole), Some(Answer::Done(done)) if (done.affected, done.warnings) == (257, 7)));
        for end in 0..whole.len() {
            assert!(read_answer(&whole[..end]).is_none());
        }
    }
}
