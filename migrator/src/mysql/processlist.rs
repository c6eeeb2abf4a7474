//! Reads what the source's sessions do at this moment.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure, Row};
use tokio::time::sleep;

/// The server cannot show some session's statement, because it holds bytes that are no text, and then shows nothing of
/// any session, whichever columns are asked for.
pub(super) const UNSHOWABLE: u16 = 3854;
/// Now, as `innodb_trx` writes times: by the clock of the server's machine, whatever time zones server and session have.
pub(super) const MACHINE_TIME: &str = "CONVERT_TZ(UTC_TIMESTAMP(), '+00:00', 'SYSTEM')";
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// Asks `information_schema.processlist` or `innodb_trx`, again while a statement that cannot be shown runs: such
/// statements are short, as those that write pictures or keys.
pub(super) async fn sessions(session: &mut Conn, query: &str) -> Result<Vec<Row>, Failure> {
    for _ in 1..TRIES {
        match session.query(query).await {
            Err(Failure::Server(reported)) if reported.code == UNSHOWABLE => sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
    session.query(query).await
}

/// The sessions whose transactions have changed something; `None` where the monitor left some out. What else is printed
/// are statements of clients, which stand behind the line that tells whose they are.
pub(crate) fn monitored(status: &str) -> Option<Vec<u64>> {
    let (_, list) = status.split_once("\nLIST OF TRANSACTIONS FOR EACH SESSION:\n")?;
    if status.contains("... truncated...") {
        return None;
    }
    let mut found = Vec::new();
    let (mut changed, mut named) = (false, true);
    for line in list.lines() {
        if line.starts_with("---TRANSACTION ") {
            (changed, named) = (false, false);
        }
        if named {
            continue;
        }
        if let Some((_, entries)) = line.split_once("undo log entries ") {
            changed |= entries.trim() != "0";
        } else if let Some((_, rest)) = line.split_once(" thread id ") {
            named = true;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            if changed && let Ok(id) = digits.parse() {
                found.push(id);
            }
        }
    }
    Some(found)
}
