//! Ends the sessions that a killed run or a lost connection left on a server, and waits until they are gone.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use super::Postgres;
use super::client::failed;
use crate::error::{Error, Result};

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Ends every session of this migration with this purpose but `session` itself, in the same database. When it
/// returns, none of their statements can take effect any more.
pub(super) async fn end(postgres: &Postgres, session: &Client, purpose: &str, limit: Duration) -> Result<()> {
    let give_up = Instant::now() + limit;
    let name = format!("headgate {}", postgres.purpose(purpose));
    loop {
        let left = session
            .query(
                "SELECT pid, pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
                 WHERE application_name = $1::text::name::text AND usename = current_user
                   AND datname = current_database() AND pid <> pg_backend_pid()",
                &[&name],
            )
            .await
            .map_err(|error| failed("cannot end what an earlier run left behind", error))?;
        let Some(row) = left.first() else {
            return Ok(());
        };
        if Instant::now() >= give_up {
            let pid: i32 = row.try_get(0).unwrap_or_default();
            return Err(Error::transient(format!(
                "the session {pid} of an earlier run ({name}) did not end within {} ms",
                limit.as_millis()
            ))
            .remedy("it is tried again; look at what this session waits for on the server"));
        }
        sleep(LOOK_EVERY).await;
    }
}
