//! Connections that are not logged in yet. Where there is no place for one more, the oldest of them gives way: who logs in is
//! behind that within moments, and who only keeps places occupied becomes the oldest.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// All of them, in the order in which they came.
#[derive(Debug, Default)]
pub struct PendingLogins {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    came: u64,
    tokens: BTreeMap<u64, CancellationToken>,
}

/// One of them; dropped when its login is over, whatever that came to.
#[derive(Debug)]
pub struct PendingLogin {
    all: Arc<PendingLogins>,
    number: u64,
}

impl PendingLogins {
    /// One that came just now, and what is cancelled when it must give way.
    pub fn add(self: &Arc<Self>) -> (PendingLogin, CancellationToken) {
        let token = CancellationToken::new();
        let mut waiting = self.waiting.lock();
        let number = waiting.came;
        waiting.came += 1;
        waiting.tokens.insert(number, token.clone());
        (PendingLogin { all: Arc::clone(self), number }, token)
    }

    /// Has the oldest ones give way, so many of them; says how many there were.
    pub fn end_oldest(&self, count: usize) -> usize {
        let mut waiting = self.waiting.lock();
        let ended = std::iter::from_fn(|| waiting.tokens.pop_first()).take(count);
        ended.map(|(_, token)| token.cancel()).count()
    }
}

impl Drop for PendingLogin {
    fn drop(&mut self) {
        self.all.waiting.lock().tokens.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_is_not_logged_in_gives_way_and_nobody_else() {
        let all = Arc::new(PendingLogins::default());
        let (first, first_ends) = all.add();
        let (_second, second_ends) = all.add();
        let (_third, third_ends) = all.add();
        drop(first);
        assert_eq!(all.end_oldest(1), 1);
        assert!(second_ends.is_cancelled() && !first_ends.is_cancelled() && !third_ends.is_cancelled());
        assert_eq!(all.end_oldest(9), 1);
        assert!(third_ends.is_cancelled());
        assert_eq!(all.end_oldest(1), 0);
    }
}
