//! Ends the sessions that a killed run or a lost connection left on a server, and waits until they are gone.
//!
//! A session is found by what it told the server at its login, and where the server keeps no such record (MariaDB by
//! default) by a lock of the server's that bears the migration's and the purpose's names and ends with the session.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure};
use tokio::time::{Instant, sleep};

use super::client::failed;
use super::{Mysql, service};
use crate::error::{Error, Result};

const LOOK_EVERY: Duration = Duration::from_millis(10);
/// There is no such thread any more.
const NO_SUCH_THREAD: u16 = 1094;

/// Marks the session as the one with this purpose, so that [`end`] finds it on every server. False where another one
/// is so marked. Only one purpose per session, and servers before 5.7 have room for one such lock.
pub async fn mark(mysql: &Mysql, session: &mut Conn, purpose: &str) -> Result<bool> {
    let got: Option<Option<u8>> = session
        .exec_first("SELECT GET_LOCK(?, 0)", (lock(mysql, purpose),))
        .await
        .map_err(|error| failed("cannot mark a session", error))?;
    Ok(got.flatten() == Some(1))
}

/// Waits until no other session does this. Before 5.7 a session has one lock, whatever it is for.
pub(super) async fn take_turn(mysql: &Mysql, session: &mut Conn, purpose: &str, limit: Duration) -> Result<()> {
    let got: Option<Option<u8>> = session
        .exec_first("SELECT GET_LOCK(?, ?)", (lock(mysql, purpose), limit.as_secs()))
        .await
        .map_err(|error| failed("cannot wait for another session of Headgate's", error))?;
    if got.flatten() == Some(1) {
        return Ok(());
    }
    Err(Error::transient(format!("another session (headgate {}) is not done", mysql.purpose(purpose))))
}

/// Lets the next session do it.
pub(super) async fn end_turn(mysql: &Mysql, session: &mut Conn, purpose: &str) -> Result<()> {
    session
        .exec_drop("DO RELEASE_LOCK(?)", (lock(mysql, purpose),))
        .await
        .map_err(|error| failed("cannot let another session of Headgate's go on", error))
}

/// Names of such locks are at most 64 characters long.
fn lock(mysql: &Mysql, purpose: &str) -> String {
    let mut hasher = DefaultHasher::new();
    mysql.key().hash(&mut hasher);
    format!("headgate {:016x} {purpose:.30}", hasher.finish())
}

/// Ends every session of this migration with this purpose but `session` itself. When it returns, none of their
/// statements can take effect any more.
pub async fn end(mysql: &Mysql, session: &mut Conn, purpose: &str, limit: Duration) -> Result<()> {
    let give_up = Instant::now() + limit;
    let ours = u64::from(session.id());
    loop {
        let mut left = reported(mysql, session, Some(purpose)).await?;
        let holder: Option<Option<u64>> =
            session.exec_first("SELECT IS_USED_LOCK(?)", (lock(mysql, purpose),)).await.map_err(unseen)?;
        left.extend(holder.flatten());
        left.retain(|id| *id != ours);
        let Some(first) = left.first().copied() else {
            return Ok(());
        };
        for id in left {
            kill(session, id).await?;
        }
        if Instant::now() >= give_up {
            return Err(Error::transient(format!(
                "the session {first} of an earlier run (headgate {}) did not end within {} ms",
                mysql.purpose(purpose),
                limit.as_millis()
            ))
            .remedy("it is tried again; look at what this session waits for on the server"));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Ends what is left of the migration's sessions, whatever they were for, without waiting for them.
pub(super) async fn end_all(mysql: &Mysql, session: &mut Conn) -> Result<()> {
    let ours = u64::from(session.id());
    for id in reported(mysql, session, None).await? {
        if id != ours {
            kill(session, id).await?;
        }
    }
    Ok(())
}

/// The sessions by what they told at their login; none where the server does not say.
async fn reported(mysql: &Mysql, session: &mut Conn, purpose: Option<&str>) -> Result<Vec<u64>> {
    let name = format!("headgate {}", mysql.purpose(purpose.unwrap_or_default()));
    let condition = if purpose.is_some() { "=" } else { "LIKE" };
    let name = match purpose {
        Some(_) => name,
        None => format!("{}%", name.replace('\\', "\\\\").replace('_', "\\_").replace('%', "\\%")),
    };
    let query = format!(
        "SELECT processlist_id FROM performance_schema.session_account_connect_attrs
         WHERE attr_name = 'program_name' AND attr_value {condition} ?"
    );
    match session.exec(query, (name,)).await {
        Ok(found) => Ok(found),
        // No such table, or not for this account: the locks must do.
        Err(Failure::Server(reported)) if matches!(reported.code, 1142 | 1146 | 1682 | 1044 | 1049) => Ok(Vec::new()),
        Err(error) => Err(unseen(error)),
    }
}

async fn kill(session: &mut Conn, id: u64) -> Result<()> {
    match service::end_session(session, id).await {
        Ok(()) => Ok(()),
        Err(Failure::Server(reported)) if reported.code == NO_SUCH_THREAD => Ok(()),
        Err(error) => Err(unseen(error)),
    }
}

fn unseen(error: Failure) -> Error {
    failed("cannot end what an earlier run left behind", error)
}
