//! One raw connection for the load: rows come and go as the server's own bytes, with nothing allocated for each.

mod session;

use std::io::ErrorKind;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use mysql_async::{Error as Failure, ServerError};
use protocol::mysql::auth::{self, FAST_OK, FULL_NEEDED, Step, caching_sha2, native, nonce_of};
use protocol::mysql::frame::{self, HEADER_BYTES};
use protocol::mysql::handshake::{Capabilities, Greeting, NONCE_BYTES, Response};
use protocol::mysql::lenenc::{Fields, put_string};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use transport::Stream;

use super::client::{self, CONNECT_TIMEOUT, Endpoint, failed, late};
use crate::error::{Error, Result};

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

/// What this end can do; above all the old end of a result, which every server speaks.
const CAPABILITIES: [Capabilities; 8] = [
    Capabilities::LONG_PASSWORD,
    Capabilities::LONG_FLAG,
    Capabilities::LOCAL_FILES,
    Capabilities::PROTOCOL_41,
    Capabilities::TRANSACTIONS,
    Capabilities::SECURE_CONNECTION,
    Capabilities::PLUGIN_AUTH,
    Capabilities::CONNECT_ATTRS,
];
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

impl Link {
    /// Connects and logs in.
    pub(super) async fn connect(endpoint: &Endpoint, purpose: &str) -> Result<Self> {
        if let Some(link) = Self::within_limit(endpoint, purpose).await? {
            return Ok(link);
        }
        // The server wants to see the whole password before it knows its hash. An ordinary connection shows it,
        // and the server remembers.
        drop(client::connect(endpoint, purpose).await?);
        Self::within_limit(endpoint, purpose)
            .await?
            .ok_or_else(|| Error::transient(format!("{endpoint:?} forgot a login that was just made")))
    }

    async fn within_limit(endpoint: &Endpoint, purpose: &str) -> Result<Option<Self>> {
        let opening = timeout(CONNECT_TIMEOUT, Self::open(endpoint, purpose));
        opening.await.unwrap_or_else(|_| Err(late(endpoint)))
    }

    /// `None` where the login needs an ordinary connection first.
    async fn open(endpoint: &Endpoint, purpose: &str) -> Result<Option<Self>> {
        let stream = endpoint.open().await.map_err(|error| match error.kind() {
            ErrorKind::TimedOut => late(endpoint),
            _ => Error::transient(format!("cannot connect to {endpoint:?}")).because(error),
        })?;
        let mut link =
            Self { stream, incoming: BytesMut::with_capacity(READ_BYTES), outgoing: BytesMut::new(), sequence: 0 };
        let what = format!("cannot log in to {endpoint:?}");
        if !link.log_in(endpoint, purpose, &what).await? {
            return Ok(None);
        }
        session::shed(&mut link).await?;
        Ok(Some(link))
    }

    async fn log_in(&mut self, endpoint: &Endpoint, purpose: &str, what: &str) -> Result<bool> {
        let greeting = Greeting::parse(&self.reply(what).await?).map_err(|_| malformed(what))?;
        let password = endpoint.password.as_deref().unwrap_or_default();
        let common = CAPABILITIES
            .into_iter()
            .fold(Capabilities::default(), Capabilities::with)
            .common(greeting.capabilities.with(Capabilities::LONG_PASSWORD));
        let mut attributes = BytesMut::new();
        put_string(&mut attributes, b"program_name");
        put_string(&mut attributes, format!("headgate {purpose}").as_bytes());
        let response = Response {
            capabilities: common,
            extended: 0,
            max_packet: 1 << 30,
            charset: UTF8MB4_GENERAL_CI,
            user: Bytes::copy_from_slice(endpoint.user.as_bytes()),
            proof: prove(&greeting.plugin, password, &greeting.nonce),
            database: None,
            plugin: greeting.plugin.clone(),
            attributes: attributes.freeze(),
            zstd_level: None,
        };
        let mut body = BytesMut::new();
        response.encode(&mut body);
        self.send(&body).await?;
        let mut method = greeting.plugin;
        loop {
            let reply = self.reply(what).await?;
            match Step::parse(reply).map_err(|_| malformed(what))? {
                Step::Ok(_) => return Ok(true),
                Step::Err(body) => return Err(refused(what, &body)),
                Step::Switch { plugin, data } => {
                    let nonce = nonce_of(&data).ok_or_else(|| malformed(what))?;
                    let proof = prove(&plugin, password, &nonce);
                    self.send(&proof).await?;
                    method = plugin;
                }
                Step::MoreData(data) if data.first() == Some(&FAST_OK) => {}
                Step::MoreData(data) if data.first() == Some(&FULL_NEEDED) => return Ok(false),
                Step::MoreData(_) | Step::OldSwitch | Step::NextFactor => {
                    let method = String::from_utf8_lossy(&method).into_owned();
                    return Err(Error::fatal(format!("{what}: the login method {method} is not known"))
                        .remedy("give Headgate's account caching_sha2_password or mysql_native_password"));
                }
            }
        }
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
            return Err(Error::transient(format!("{what}: the server closed the connection")));
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

async fn moving<T>(step: impl Future<Output = std::io::Result<T>>) -> Result<T> {
    match timeout(STALL, step).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Error::transient("a connection of the load was lost").because(error)),
        Err(_) => Err(Error::transient(format!("nothing moved for {} s on a connection of the load", STALL.as_secs()))),
    }
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

/// What shows that the password is known; empty for an empty password, and where the method is not known.
fn prove(plugin: &[u8], password: &str, nonce: &[u8; NONCE_BYTES]) -> Bytes {
    match plugin {
        _ if password.is_empty() => Bytes::new(),
        auth::NATIVE => Bytes::copy_from_slice(&native::Key::of(password.as_bytes()).prove(nonce)),
        auth::CACHING_SHA2 => Bytes::copy_from_slice(&caching_sha2::prove(password.as_bytes(), nonce)),
        _ => Bytes::new(),
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
