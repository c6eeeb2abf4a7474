//! The bytes that a session carries, counted while they flow.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// One session's bytes: written by its own task alone, without a lock and without memory that others write to.
#[derive(Debug, Default)]
pub struct Flow {
    from_client: AtomicU64,
    to_client: AtomicU64,
    reported: Mutex<(u64, u64)>,
}

impl Flow {
    /// The session's task: so many bytes of the client went by.
    pub fn from_client(&self, bytes: usize) {
        add(&self.from_client, bytes);
    }

    /// The session's task: so many bytes of the server went by.
    pub fn to_client(&self, bytes: usize) {
        add(&self.to_client, bytes);
    }

    /// All that went by: from the client, to the client.
    pub fn total(&self) -> (u64, u64) {
        (self.from_client.load(Relaxed), self.to_client.load(Relaxed))
    }

    /// What went by since this was asked last, by whomever.
    pub fn take(&self) -> (u64, u64) {
        let mut reported = self.reported.lock();
        let now = self.total();
        let since = (now.0.saturating_sub(reported.0), now.1.saturating_sub(reported.1));
        *reported = now;
        since
    }
}

/// There is one writer, so that nothing is lost between the two.
fn add(counter: &AtomicU64, bytes: usize) {
    let before = counter.load(Relaxed);
    counter.store(before.wrapping_add(bytes as u64), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_told_once() {
        let flow = Flow::default();
        flow.from_client(3);
        flow.to_client(5);
        assert_eq!(flow.take(), (3, 5));
        flow.to_client(2);
        assert_eq!((flow.take(), flow.take()), ((0, 2), (0, 0)));
        assert_eq!(flow.total(), (3, 7));
    }
}
