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
