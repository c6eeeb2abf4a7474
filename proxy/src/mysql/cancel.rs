//! How a running statement or a session is ended: by KILL, on the server that has it.

use std::time::Duration;

use bytes::BytesMut;
use protocol::mysql::handshake::Capabilities;

use super::internal_query::{self, Questions};
use super::server_login::{self, Identity, Refused};
use super::sql_text::KillScope;
use crate::registry::ServerKey;
use crate::upstream::Origin;

/// How long another server may take to be asked.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// The statement that ends `thread`, or what it runs.
pub(super) fn statement(ends: KillScope, thread: i64) -> String {
    match ends {
        KillScope::Connection => format!("KILL CONNECTION {thread}"),
        KillScope::Query => format!("KILL QUERY {thread}"),
    }
}

/// Ends a session on a server where the asker has none, with the asker's own rights. Answers the server's error, if
/// it has one.
pub(super) async fn elsewhere(
    server: &ServerKey,
    (identity, origin): (&Identity, Origin),
    ends: KillScope,
) -> Result<Option<(u16, String)>, Refused> {
    let killing = async {
        let mut session = server_login::login(&server.cluster, origin, identity, None).await?;
        let mut questions = Questions::new(session.capabilities);
        questions.query(&statement(ends, server.pid));
        let mut buffer = BytesMut::new();
        let answers = internal_query::ask(&mut session.stream, &mut buffer, &questions).await?;
        server_login::quit(session).await;
        Ok(answers.into_iter().next().and_then(|answer| answer.error))
    };
    tokio::time::timeout(KILL_TIMEOUT, Box::pin(killing))
        .await
        .unwrap_or_else(|_| Err(Refused::Unreachable(std::io::ErrorKind::TimedOut.into())))
}

/// A KILL as a client with these capabilities sends it.
pub(super) fn packet(capabilities: Capabilities, ends: KillScope, thread: i64) -> BytesMut {
    let mut questions = Questions::new(capabilities);
    questions.query(&statement(ends, thread));
    questions.into_words()
}
