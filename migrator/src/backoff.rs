//! How long to wait before the next attempt: longer each time, up to a limit.

use std::time::Duration;

/// The waits between attempts at something that must succeed in the end.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Waits that begin with `first` and double up to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, first, longest }
    }

    /// How long to wait now.
    pub(crate) fn step(&mut self) -> Duration {
        let now = self.next;
        self.next = self.longest.min(now.saturating_mul(2));
        now
    }

    /// Something succeeded: the next wait is the first again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_start_over_after_a_success() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(350));
        let waits: Vec<Duration> = (0..4).map(|_| backoff.step()).collect();
        assert_eq!(waits, [ms(100), ms(200), ms(350), ms(350)]);
        backoff.reset();
        assert_eq!(backoff.step(), ms(100));
    }
}
