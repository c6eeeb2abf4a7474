//! The heartbeat: a message that the source writes into its own log now and then, which tells how far behind we are.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::error::{Error, Result};
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
/// Beats that did not come back yet; past that no new ones are sent, as the oldest tells the lag.
const OUTSTANDING_MAX: usize = 256;
/// A beat that old makes us ask the stream for a sign of life.
const ASK_AFTER: Duration = Duration::from_secs(10);
/// A stream that was silent that long while a beat was due has ended without a word.
const SILENCE_MAX: Duration = Duration::from_mins(1);

type Running = Pin<Box<dyn Future<Output = Result<Lsn>> + Send>>;

/// Sends beats through a connection of its own and knows which came back.
pub(crate) struct Heartbeat {
    client: Arc<Client>,
    run: u64,
    every: Interval,
    running: Option<Running>,
    sent: u64,
    outstanding: VecDeque<(u64, Instant)>,
    lag: Option<Duration>,
    source_end: Lsn,
}

impl Heartbeat {
    /// Beats from now on, as long as [`Heartbeat::beat`] is awaited.
    pub(crate) fn new(client: Client) -> Self {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            client: Arc::new(client),
            run: rand::random(),
            every,
            running: None,
            sent: 0,
            outstanding: VecDeque::new(),
            lag: None,
            source_end: Lsn(0),
        }
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
            if self.outstanding.len() >= OUTSTANDING_MAX {
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
        self.sent += 1;
        self.outstanding.push_back((self.sent, Instant::now()));
        let query = format!(
            "SELECT pg_catalog.pg_logical_emit_message(true, '{PREFIX}', '{BEAT}{}-{}');
             SELECT pg_catalog.pg_current_wal_insert_lsn()",
            self.run, self.sent
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
        let ours = beats.iter().filter_map(|beat| {
            let (run, number) = beat.split_once('-')?;
            (run.parse() == Ok(self.run)).then(|| number.parse::<u64>().ok()).flatten()
        });
        let Some(newest) = ours.max() else { return };
        while let Some(&(number, at)) = self.outstanding.front()
            && number <= newest
        {
            self.lag = Some(at.elapsed());
            self.outstanding.pop_front();
        }
    }

    /// Fails where the stream has gone silent although beats are in the source's log.
    pub(crate) fn look_after(&self, stream: &mut Stream) -> Result<()> {
        let Some(&(_, sent)) = self.outstanding.front() else {
            return Ok(());
        };
        let silent = sent.max(stream.heard()).elapsed();
        if silent >= SILENCE_MAX {
            return Err(Error::transient(format!(
                "the change stream has been silent for {} s although the source writes",
                silent.as_secs()
            )));
        }
        if silent >= ASK_AFTER {
            stream.ask();
        }
        Ok(())
    }

    /// How old what was applied last is: the last beat that came back, or the first that did not, if that is longer.
    pub(crate) fn lag(&self) -> Option<Duration> {
        let waiting = self.outstanding.front().map(|(_, at)| at.elapsed());
        match (self.lag, waiting) {
            (Some(lag), Some(waiting)) => Some(lag.max(waiting)),
            (lag, waiting) => lag.or(waiting),
        }
    }

    /// Where the source's log ended when it was last asked.
    pub(crate) fn source_end(&self) -> Lsn {
        self.source_end
    }
}
