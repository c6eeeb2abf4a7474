//! The heartbeat and the marker: rows that Headgate writes to the source so that its binary log carries them.

use std::pin::Pin;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

use crate::error::{Error, Result};
use crate::follow::heartbeat::{Outstanding, refuse_silence};
use crate::mysql::client::failed;
use crate::mysql::position;
use crate::mysql::sql::quote_literal;
use crate::mysql::{BinlogPosition, Mysql};

/// What a signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Tells how far behind the target is.
    Beat,
    /// Tells that everything before it has come.
    Marker,
}

impl Signal {
    fn text(self) -> &'static str {
        match self {
            Self::Beat => "beat",
            Self::Marker => "marker",
        }
    }

    /// What a row of signals means by its kind.
    pub fn read(kind: &[u8]) -> Option<Self> {
        match kind {
            b"beat" => Some(Self::Beat),
            b"marker" => Some(Self::Marker),
            _ => None,
        }
    }
}

/// The table of signals, in the database of Headgate's records.
pub const TABLE: &str = "signals";

/// One row for each migration and kind, so that it never grows. Texts are bytes, which mean the same everywhere.
const INSTALL: [&str; 2] = [
    "CREATE DATABASE IF NOT EXISTS headgate CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS headgate.signals (
         migration VARBINARY(512) NOT NULL,
         kind VARBINARY(16) NOT NULL,
         token VARBINARY(255) NOT NULL,
         written BIGINT UNSIGNED NOT NULL,
         PRIMARY KEY (migration, kind)) ENGINE=InnoDB",
];

/// How long the source may take to write one signal.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Creates the table of signals on the source; finds nothing to do where it is.
pub async fn install(source: &mut Conn) -> Result<()> {
    let there: Option<u8> = source
        .query_first(
            "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'headgate' AND TABLE_NAME = 'signals'",
        )
        .await
        .map_err(|error| failed("cannot look for Headgate's signals on the source", error))?;
    if there.is_some() {
        return Ok(());
    }
    for statement in INSTALL {
        source
            .query_drop(statement)
            .await
            .map_err(|error| failed("cannot create Headgate's signals on the source", error))?;
    }
    Ok(())
}

/// Writes one signal of the migration and commits it.
pub async fn signal(source: &mut Conn, migration: &str, signal: Signal, token: &str) -> Result<()> {
    let kind = signal.text();
    let statement = format!(
        "REPLACE INTO headgate.signals (migration, kind, token, written)
         VALUES ({}, '{kind}', {}, FLOOR(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000))",
        quote_literal(migration),
        quote_literal(token)
    );
    timeout(TIMEOUT, source.query_drop(statement))
        .await
        .map_err(|_| Error::transient(format!("the source did not write a {kind} within {} s", TIMEOUT.as_secs())))?
        .map_err(|error| failed(&format!("the source refused a {kind}"), error))
}

const EVERY: Duration = Duration::from_secs(1);

type Running = Pin<Box<dyn Future<Output = (Conn, Result<Beaten>)> + Send>>;

/// What came of one beat.
struct Beaten {
    /// Its number, where it was withheld: the source was fenced meanwhile.
    withheld: Option<u64>,
    source_end: BinlogPosition,
}

enum Session {
    Idle(Conn),
    Busy(Running),
    Lost,
}

/// Writes beats through a connection of its own and knows which came back.
pub(crate) struct Heartbeat {
    mysql: Mysql,
    session: Session,
    every: Interval,
    outstanding: Outstanding,
    source_end: Option<BinlogPosition>,
}

impl Heartbeat {
    /// Beats from now on, as long as [`Heartbeat::beat`] is awaited.
    pub(crate) fn new(mysql: &Mysql, session: Conn) -> Self {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            mysql: mysql.clone(),
            session: Session::Idle(session),
            every,
            outstanding: Outstanding::new(),
            source_end: None,
        }
    }

    /// Resolves after each beat that was written. Cancel safe.
    pub(crate) async fn beat(&mut self) -> Result<()> {
        loop {
            if let Session::Busy(running) = &mut self.session {
                let (session, beaten) = running.await;
                self.session = Session::Idle(session);
                let beaten = beaten?;
                self.source_end = Some(beaten.source_end);
                if let Some(withheld) = beaten.withheld {
                    self.outstanding.withdraw(withheld);
                }
                return Ok(());
            }
            self.every.tick().await;
            if self.outstanding.are_many() {
                return Ok(());
            }
            self.beat_now();
        }
    }

    /// Writes a beat at once, if none is on its way; while the fence is up only looks where the log ends.
    pub(crate) fn beat_now(&mut self) {
        let mut session = match std::mem::replace(&mut self.session, Session::Lost) {
            Session::Idle(session) => session,
            other => {
                self.session = other;
                return;
            }
        };
        let silent = self.mysql.is_fenced();
        let sent = (!silent).then(|| self.outstanding.send());
        let mysql = self.mysql.clone();
        self.session = Session::Busy(Box::pin(async move {
            let outcome = async {
                // A fence may have gone up since, and waits for whoever was earlier.
                let beating = mysql.beating().await;
                let mut withheld = None;
                if let Some((number, token)) = sent {
                    if mysql.is_fenced() || is_read_only(&mut session).await? {
                        withheld = Some(number);
                    } else {
                        signal(&mut session, &mysql.key(), Signal::Beat, &token).await?;
                    }
                }
                drop(beating);
                let source_end = in_time(position::current(&mut session)).await?;
                Ok(Beaten { withheld, source_end })
            }
            .await;
            (session, outcome)
        }));
    }

    /// These beats are applied.
    pub(crate) fn applied(&mut self, beats: &[String]) {
        self.outstanding.applied(beats);
    }

    /// Fails where the stream has gone silent although beats are in the source's log.
    pub(crate) fn look_after(&self, heard: Instant) -> Result<()> {
        match self.outstanding.silence(heard).filter(|_| !self.mysql.is_fenced()) {
            Some(silence) => refuse_silence("binary log", silence),
            None => Ok(()),
        }
    }

    /// How old what was applied last is. A beat that the fence kept back never comes.
    pub(crate) fn lag(&self) -> Option<Duration> {
        self.outstanding.lag(!self.mysql.is_fenced())
    }

    /// Where the source's log ended when it was last asked.
    pub(crate) fn source_end(&self) -> Option<&BinlogPosition> {
        self.source_end.as_ref()
    }
}

/// Whether the source is read only: another migration from the same server may have fenced it, whose marker must stay
/// the last word in the log, and Headgate's account passes that fence.
async fn is_read_only(session: &mut Conn) -> Result<bool> {
    let asking = async {
        let on: Option<u8> = session
            .query_first("SELECT @@GLOBAL.read_only = 1")
            .await
            .map_err(|error| failed("cannot see whether the source is read only", error))?;
        Ok(on == Some(1))
    };
    in_time(asking).await
}

async fn in_time<T>(asking: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(TIMEOUT, asking)
        .await
        .unwrap_or_else(|_| Err(Error::transient("the source does not tell where its log ends")))
}
