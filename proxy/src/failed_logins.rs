//! Failed logins in the log: who, from where, and why; so many a minute, because anybody can make them fail.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::warn;

const WITHIN: Duration = Duration::from_mins(1);
const LINES_MAX: u32 = 30;

/// What was logged of late.
#[derive(Debug, Default)]
pub struct FailedLogins {
    recent: Mutex<Option<Recent>>,
}

#[derive(Debug)]
struct Recent {
    since: Instant,
    lines: u32,
    /// Not logged.
    more: u64,
}

impl FailedLogins {
    /// A login failed. `reason` never holds a secret.
    pub fn log(&self, client: SocketAddr, user: &str, reason: &dyn Display) {
        if let Some(unlogged) = self.admit(Instant::now()) {
            warn!(%client, user, %reason, unlogged, "a login failed");
        }
    }

    /// Whether a line may be logged, and how many were not since the last time.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut recent = self.recent.lock();
        match recent.as_mut() {
            Some(recent) if now - recent.since < WITHIN => {
                recent.lines += 1;
                if recent.lines > LINES_MAX {
                    recent.more += 1;
                    return None;
                }
                Some(0)
            }
            before => {
                let unlogged = before.map_or(0, |before| before.more);
                *recent = Some(Recent { since: now, lines: 1, more: 0 });
                Some(unlogged)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_a_minute_and_the_next_minute_tells_how_many_there_were_more() {
        let failed = FailedLogins::default();
        let now = Instant::now();
        let logged = (0..1000).filter(|_| failed.admit(now).is_some()).count();
        assert_eq!(logged, LINES_MAX as usize);
        assert_eq!(failed.admit(now + WITHIN), Some(1000 - u64::from(LINES_MAX)));
    }
}
