//! A place in the write-ahead log.

use std::fmt;
use std::str::FromStr;

use crate::error::Malformed;

/// A log sequence number: a byte offset in the write-ahead log, written `16/B374D848`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before everything.
    pub const ZERO: Self = Self(0);

    /// Whether everything up to `other` is behind this position.
    #[inline]
    pub const fn covers(self, other: Self) -> bool {
        self.0 >= other.0
    }

    /// How many bytes this position is behind `other`; none where it covers it.
    #[inline]
    pub const fn behind_bytes(self, other: Self) -> u64 {
        other.0.saturating_sub(self.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = Malformed { what: "LSN", at: 0, limit: text.len() };
        let half = |digits: &str| {
            let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            plain.then(|| u32::from_str_radix(digits, 16).ok()).flatten().ok_or(malformed)
        };
        let (high, low) = text.split_once('/').ok_or(malformed)?;
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}
