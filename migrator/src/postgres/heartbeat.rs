//! The heartbeat: a message that the source writes into its own log now and then, which tells how far behind we are.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::error::{Error, Result};
use crate::follow::heartbeat::{Outstanding, refuse_silence};
use crate::postgres::client::failed;
use crate::postgres::position::Lsn;
use crate::postgres::stream::Stream;

/// What our messages in the log are called.
pub(crate) const PREFIX: &str = "headgate";
/// What a heartbeat's content starts with.
pub(crate) const BEAT: &str = "beat:";
/// What a marker's content starts with.
pub(crate) const MARKER: &str = "marker:";

const EVERY: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(30);
/// A beat that old makes us ask the stream for a sign of life.
const ASK_AFTER: Duration = Duration::from_secs(10);

type Running = Pin<Box<dyn Future<Output = Result<Lsn>> + Send>>;

/// Sends beats through a connection of its own and knows which came back.
pub(crate) struct Heartbeat {
    client: Arc<Client>,
    every: Interval,
    running: Option<Running>,
    outstanding: Outstanding,
    source_end: Lsn,
}

impl Heartbeat {
    /// Beats from now on, as long as [`Heartbeat::beat`] is awaited.
    pub(crate) fn new(client: Client) -> Self {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { client: Arc::new(client), every, running: None, outstanding: Outstanding::new(), source_end: Lsn(0) }
    }

    /// Resolves after each beat that was sent. Cancel safe.
    pub(crate) async fn beat(&mut self) -> Result<()> {
        loop {
            if let Some(running) = &mut self.running {
                let end = running.await;
                self.running = None;
                self.source_end = self.source_end.max(end?);
                return Ok(());
            }
            self.every.tick().await;
            if self.outstanding.are_many() {
                return Ok(());
            }
            self.beat_now();
        }
    }

    /// Sends a beat at once, if none is on its way.
    pub(crate) fn beat_now(&mut self) {
        if self.running.is_some() {
            return;
        }
        let (_, beat) = self.outstanding.send();
        let query = format!(
            "SELECT pg_catalog.pg_logical_emit_message(true, '{PREFIX}', '{BEAT}{beat}');
             SELECT pg_catalog.pg_current_wal_insert_lsn()"
        );
        let client = Arc::clone(&self.client);
        self.running = Some(Box::pin(async move {
            let answer = timeout(TIMEOUT, client.simple_query(&query)).await.map_err(|_| {
                Error::transient(format!("the source did not write a heartbeat within {} s", TIMEOUT.as_secs()))
            })?;
            let messages = answer.map_err(|error| failed("the source refused a heartbeat", error))?;
            let last = messages.iter().rev().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            last.unwrap_or_default().parse()
        }));
    }

    /// These beats, as the log has them after [`BEAT`], are applied.
    pub(crate) fn applied(&mut self, beats: &[String]) {
        self.outstanding.applied(beats);
    }

    /// Fails where the stream has gone silent although beats are in the source's log.
    pub(crate) fn look_after(&self, stream: &mut Stream) -> Result<()> {
        let Some(silence) = self.outstanding.silence(stream.heard()) else {
            return Ok(());
        };
        refuse_silence("change stream", silence)?;
        if silence >= ASK_AFTER {
            stream.ask();
        }
        Ok(())
    }

    /// How old what was applied last is.
    pub(crate) fn lag(&self) -> Option<Duration> {
        self.outstanding.lag(true)
    }

    /// Where the source's log ended when it was last asked.
    pub(crate) fn source_end(&self) -> Lsn {
        self.source_end
    }
}
