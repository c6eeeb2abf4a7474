//! Sessions that may have written past the log that a migration follows: kept for each route, also after they ended.

use std::net::SocketAddr;
use std::time::SystemTime;

use parking_lot::Mutex;

/// Entries beyond this replace the one that ended first.
const ENTRIES_MAX: usize = 256;

/// What a session did that lets it write without the log, or past what follows the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenWrites {
    /// The session's number in the registry.
    pub session: u64,
    /// The pid of its server session at that time.
    pub pid: i64,
    /// The user that logged in.
    pub user: String,
    /// Where the client connects from.
    pub client: SocketAddr,
    /// The setting or function by which it did.
    pub what: &'static str,
    /// When a statement of that kind went by first.
    pub since: SystemTime,
    /// When the session ended; none while it is open, since it may go on.
    pub until: Option<SystemTime>,
}

/// All such sessions of a route.
#[derive(Debug, Default)]
pub struct HiddenWritesLog(Mutex<Vec<HiddenWrites>>);

impl HiddenWritesLog {
    /// Keeps that a session does so from now on. Once for each session and kind.
    pub fn begin(&self, new: HiddenWrites) {
        let mut all = self.0.lock();
        let known = |one: &HiddenWrites| one.session == new.session && one.what == new.what && one.until.is_none();
        if all.iter().any(known) {
            return;
        }
        if all.len() >= ENTRIES_MAX {
            // Whoever asks since when nothing was hidden is answered the same without the oldest end.
            let ended = all.iter().enumerate().filter(|(_, one)| one.until.is_some());
            if let Some((oldest, _)) = ended.min_by_key(|(_, one)| one.until) {
                all.remove(oldest);
            }
        }
        all.push(new);
    }

    /// The session ended.
    pub fn end(&self, session: u64) {
        let mut all = self.0.lock();
        let mine = all.iter_mut().filter(|one| one.session == session && one.until.is_none());
        for one in mine {
            one.until = Some(SystemTime::now());
        }
    }

    /// Whether an open session may do so.
    pub fn names(&self, session: u64) -> bool {
        let all = self.0.lock();
        all.iter().any(|one| one.session == session && one.until.is_none())
    }

    /// Everything that is kept, the oldest first.
    pub fn all(&self) -> Vec<HiddenWrites> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_latest_end_is_kept_however_many_sessions_there_were() {
        let log = HiddenWritesLog::default();
        let entry = |session| HiddenWrites {
            session,
            pid: 1,
            user: "a".to_owned(),
            client: ([127, 0, 0, 1], 1).into(),
            what: "sql_log_bin",
            since: SystemTime::UNIX_EPOCH + Duration::from_secs(session),
            until: None,
        };
        for session in 0..1000 {
            log.begin(entry(session));
            log.begin(entry(session));
            log.end(session);
        }
        log.begin(entry(1000));
        let all = log.all();
        assert_eq!(all.len(), ENTRIES_MAX);
        assert_eq!(all.iter().filter(|one| one.until.is_none()).count(), 1);
        assert_eq!(all.iter().map(|one| one.session).max(), Some(1000));
    }
}
