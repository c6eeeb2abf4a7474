//! Why logins fail, and failed logins in the log: so many a minute, because anybody can make them fail.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;
use protocol::error::Malformed;
use tokio::time::Instant;
use tracing::warn;

const WITHIN: Duration = Duration::from_mins(1);
const LINES_MAX: u32 = 30;

/// Why a connection ended before it became a session.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// It is not the protocol.
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
    /// The client did not prove who it is.
    #[error("authentication failed")]
    Password {
        /// It gave a proof, if a wrong one.
        given: bool,
    },
    /// The client has to come by TLS, and did not.
    #[error("the client came without TLS{}", if *.offered { "" } else { ", which is not offered: write listen.tls_certificate and listen.tls_key" })]
    Insecure {
        /// It could have come with it.
        offered: bool,
    },
    /// It begins with a PROXY header, which nobody said is to be believed.
    #[error(
        "the connection begins with a PROXY header, and its address is not in listen.proxy_protocol_networks: if it is a load \
         balancer's, add it there and send SIGHUP"
    )]
    ProxyHeader,
    /// The client wants what cannot be had.
    #[error("{0}")]
    Unsupported(&'static str),
}

impl Rejected {
    /// The reason by which it is counted.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Io(_) => "connection lost",
            Self::Malformed(_) => "malformed",
            Self::Password { .. } => "password",
            Self::Insecure { .. } => "insecure",
            Self::ProxyHeader => "proxy header",
            Self::Unsupported(_) => "unsupported",
        }
    }
}

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
