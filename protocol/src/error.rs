//! The one error for everything that a peer can get wrong.

use thiserror::Error;

/// Bytes that break the protocol: what they were to be, and where they stopped making sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed {what} at byte {at} (limit {limit})")]
pub struct Malformed {
    /// What was being read.
    pub what: &'static str,
    /// The offset in it, in bytes.
    pub at: usize,
    /// The bytes that were there or were allowed.
    pub limit: usize,
}
