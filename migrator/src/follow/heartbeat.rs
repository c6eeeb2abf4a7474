//! Heartbeats on their way: written to the source, and not applied to the target yet. They tell how far behind it is.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};

/// Beats that did not come back yet; past that no new ones are sent, as the oldest tells the lag.
const OUTSTANDING_MAX: usize = 256;
/// A stream that was silent that long while a beat was due has ended without a word.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// Beats of one run of the follower.
pub(crate) struct Outstanding {
    run: u64,
    sent: u64,
    beats: VecDeque<(u64, Instant)>,
    lag: Option<Duration>,
}

impl Outstanding {
    pub(crate) fn new() -> Self {
        Self { run: rand::random(), sent: 0, beats: VecDeque::new(), lag: None }
    }

    /// Whether no more are sent for now.
    pub(crate) fn are_many(&self) -> bool {
        self.beats.len() >= OUTSTANDING_MAX
    }

    /// The number and the text of a beat that is sent now.
    pub(crate) fn send(&mut self) -> (u64, String) {
        self.sent += 1;
        self.beats.push_back((self.sent, Instant::now()));
        (self.sent, format!("{}-{}", self.run, self.sent))
    }

    /// A beat was not written after all.
    pub(crate) fn withdraw(&mut self, number: u64) {
        self.beats.retain(|(sent, _)| *sent != number);
    }

    /// These beats, by their text, are applied.
    pub(crate) fn applied(&mut self, texts: &[String]) {
        let ours = texts.iter().filter_map(|text| {
            let (run, number) = text.split_once('-')?;
            (run.parse() == Ok(self.run)).then(|| number.parse::<u64>().ok()).flatten()
        });
        let Some(newest) = ours.max() else { return };
        while let Some(&(number, at)) = self.beats.front()
            && number <= newest
        {
            self.lag = Some(at.elapsed());
            self.beats.pop_front();
        }
    }

    /// For how long a stream that was `heard` then owes a beat.
    pub(crate) fn silence(&self, heard: Instant) -> Option<Duration> {
        self.beats.front().map(|&(_, sent)| sent.max(heard).elapsed())
    }

    /// How old what was applied last is: the last beat that came back, or the first that did not, if that is longer and
    /// they are `awaited`.
    pub(crate) fn lag(&self, awaited: bool) -> Option<Duration> {
        let waiting = self.beats.front().map(|(_, at)| at.elapsed()).filter(|_| awaited);
        match (self.lag, waiting) {
            (Some(lag), Some(waiting)) => Some(lag.max(waiting)),
            (lag, waiting) => lag.or(waiting),
        }
    }
}

/// Fails where a stream owes a beat for too long.
pub(crate) fn refuse_silence(stream: &str, silence: Duration) -> Result<()> {
    if silence < SILENCE_MAX {
        return Ok(());
    }
    Err(Error::transient(format!(
        "the {stream} has been silent for {} s although the source writes",
        silence.as_secs()
    )))
}
