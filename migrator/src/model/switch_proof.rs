//! The proof of the switch: whether both databases were equal at the moment at which the route changed sides.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// At most this many differences are kept.
pub const DIFFERING_MAX: usize = 100;

/// What the comparison of both databases, as they were at the switch, came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SwitchOutcome {
    /// All rows and definitions were the same.
    Equal,
    /// Something was not.
    Different,
    /// It cannot be known: a snapshot or a part of it is gone.
    Unknown,
}

impl SwitchOutcome {
    /// The outcome's name in every output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Different => "different",
            Self::Unknown => "unknown",
        }
    }
}

/// The verdict over both snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchVerdict {
    /// What it came to.
    pub outcome: SwitchOutcome,
    /// Rows of the source that were compared.
    pub rows: u64,
    /// Tables that were compared.
    pub tables: u64,
    /// Ranges in which they were compared.
    pub ranges: u64,
    /// Where the source's log was when its snapshot was opened.
    pub source_position: String,
    /// Where the target's log was when its snapshot was opened.
    pub target_position: String,
    /// What differs, as `table (range): key` or a definition, at most [`DIFFERING_MAX`], never contents.
    pub differing: Vec<String>,
    /// What cannot be known, and why.
    pub unknown: Vec<String>,
}

impl SwitchVerdict {
    /// Nothing can be said, for one reason.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self {
            outcome: SwitchOutcome::Unknown,
            rows: 0,
            tables: 0,
            ranges: 0,
            source_position: String::new(),
            target_position: String::new(),
            differing: Vec::new(),
            unknown: vec![why.into()],
        }
    }

    /// What is found where there is nothing.
    #[cfg(test)]
    pub(crate) fn equal() -> Self {
        Self { outcome: SwitchOutcome::Equal, unknown: Vec::new(), ..Self::unknown("") }
    }

    /// Whether it is proved that both were equal.
    pub fn is_green(&self) -> bool {
        self.outcome == SwitchOutcome::Equal
    }
}

/// Of a list, the first few, and how many more there are.
fn some(list: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = list.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    match list.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

impl fmt::Display for SwitchVerdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome {
            SwitchOutcome::Equal => write!(
                formatter,
                "proved equal at the switch: {} rows, {} ranges, at positions {} and {}",
                self.rows, self.ranges, self.source_position, self.target_position
            ),
            SwitchOutcome::Different => {
                write!(formatter, "different at the switch: {}", some(&self.differing))?;
                match self.unknown.as_slice() {
                    [] => Ok(()),
                    unknown => write!(formatter, "; and it cannot be known: {}", some(unknown)),
                }
            }
            SwitchOutcome::Unknown => write!(formatter, "cannot be known: {}", some(&self.unknown)),
        }
    }
}

/// How the proof of one switch goes, or what it came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchProof {
    /// The cutover's number.
    pub epoch: u64,
    /// When the comparison began; nothing where it never did.
    pub started: Option<SystemTime>,
    /// When it ended.
    pub finished: Option<SystemTime>,
    /// Ranges that were compared so far.
    pub ranges_done: u64,
    /// Ranges in all; zero until that is known.
    pub ranges: u64,
    /// Rows of the source that were compared so far.
    pub rows: u64,
    /// What it came to; nothing while it is under way.
    pub verdict: Option<SwitchVerdict>,
}

impl SwitchProof {
    /// Whether it is proved that both sides were equal.
    pub fn is_green(&self) -> bool {
        self.verdict.as_ref().is_some_and(SwitchVerdict::is_green)
    }

    /// Its name in every output: `running`, or the outcome's.
    pub fn name(&self) -> &'static str {
        self.verdict.as_ref().map_or("running", |verdict| verdict.outcome.name())
    }
}

impl fmt::Display for SwitchProof {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Some(verdict) => verdict.fmt(formatter),
            None => write!(
                formatter,
                "running: {} of {} ranges are compared, {} rows",
                self.ranges_done, self.ranges, self.rows
            ),
        }
    }
}

/// How far a comparison is; it writes, and the operator's statements read.
#[derive(Debug, Default)]
pub struct SwitchProgress {
    ranges: AtomicU64,
    done: AtomicU64,
    rows: AtomicU64,
}

impl SwitchProgress {
    /// So many ranges there are.
    pub(crate) fn expect(&self, ranges: usize) {
        self.ranges.store(u64::try_from(ranges).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// One more is done, with so many rows.
    pub(crate) fn count(&self, rows: u64) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Ranges that are done.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Ranges in all; zero until that is known.
    pub fn ranges(&self) -> u64 {
        self.ranges.load(Ordering::Relaxed)
    }

    /// Rows of the source that are compared.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::{SwitchOutcome, SwitchVerdict};

    #[test]
    fn a_verdict_says_what_it_is_about() {
        let verdict = SwitchVerdict {
            outcome: SwitchOutcome::Equal,
            rows: 7,
            tables: 2,
            ranges: 3,
            source_position: "0/1".into(),
            target_position: "0/2".into(),
            differing: Vec::new(),
            unknown: Vec::new(),
        };
        let green = "proved equal at the switch: 7 rows, 3 ranges, at positions 0/1 and 0/2";
        assert_eq!(verdict.to_string(), green);
        let names: Vec<String> = (1..=12).map(|number| format!("t (all): ({number})")).collect();
        let differs = SwitchVerdict { outcome: SwitchOutcome::Different, differing: names, ..verdict };
        assert!(differs.to_string().ends_with("t (all): (10); and 2 more"));
        let unknown = SwitchVerdict::unknown("Headgate was restarted");
        assert_eq!(unknown.to_string(), "cannot be known: Headgate was restarted");
        assert!(!unknown.is_green());
    }
}
