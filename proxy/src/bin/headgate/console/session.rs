//! One admin session, whatever its protocol: reads messages, carries statements out, ends.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use proxy::client::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Execute;
use super::answer::{Answer, Refusal};
use crate::statement::Statement;

/// A driver prepares a handful; more is a mistake of the client.
pub(crate) const PREPARED_MAX: usize = 1_000;
/// No message for the console is longer.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// For the rest of a message that has begun, and for a client that does not read its answer.
const PEER_TIMEOUT: Duration = Duration::from_mins(1);

/// A client's connection, both ways buffered.
pub(crate) struct Connection {
    stream: Client,
    /// What was read and not taken yet.
    pub incoming: BytesMut,
    /// What is to be sent with the next flush.
    pub outgoing: BytesMut,
}

impl Connection {
    /// Goes on with a connection after its login.
    pub(crate) fn new(stream: Client, leftover: BytesMut) -> Self {
        Self { stream, incoming: leftover, outgoing: BytesMut::new() }
    }

    /// Reads more; false when the client has closed. An idle client may take its time.
    async fn read(&mut self) -> io::Result<bool> {
        let idle = self.incoming.is_empty();
        let read = self.stream.read_buf(&mut self.incoming);
        let count = if idle { read.await? } else { timeout(PEER_TIMEOUT, read).await?? };
        Ok(count > 0)
    }

    /// Sends what was written.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        let writing = async {
            self.stream.write_all(&self.outgoing).await?;
            self.stream.flush().await
        };
        let written = timeout(PEER_TIMEOUT, writing).await;
        self.outgoing.clear();
        written?
    }
}

/// The conversation in one protocol.
pub(crate) trait Conversation {
    /// A message of the client.
    type Message;

    /// The SQLSTATE of a message that is none.
    const MALFORMED: &'static str;

    /// The connection.
    fn connection(&mut self) -> &mut Connection;

    /// Takes the next message, where all of it was read.
    fn take(&mut self) -> io::Result<Option<Self::Message>>;

    /// Answers a message. False when the session is over.
    fn handle(&mut self, message: Self::Message) -> impl Future<Output = io::Result<bool>> + Send;

    /// Writes the error that is the last thing that the client hears.
    fn refuse_and_end(&mut self, refusal: &Refusal);
}

/// Serves a client that was told that it is logged in, until it leaves.
pub(crate) async fn serve<C: Conversation>(mut session: C) -> io::Result<()> {
    loop {
        match next(&mut session).await {
            Ok(Some(message)) => {
                if !session.handle(message).await? {
                    break;
                }
            }
            Ok(None) => return Ok(()),
            Err(error) => {
                session.refuse_and_end(&Refusal::new(C::MALFORMED, error.to_string(), ""));
                break;
            }
        }
    }
    session.connection().flush().await
}

async fn next<C: Conversation>(session: &mut C) -> io::Result<Option<C::Message>> {
    loop {
        if let Some(message) = session.take()? {
            return Ok(Some(message));
        }
        if !session.connection().read().await? {
            return Ok(None);
        }
    }
}

/// Drivers wrap statements in transactions; here they only change what a client is told.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Transaction {
    /// None is open.
    #[default]
    None,
    /// One is open, and has done something or has not.
    Open {
        /// It has.
        acted: bool,
    },
    /// An error left it open for nothing but its end.
    Failed,
}

impl Transaction {
    /// Carries out a statement.
    pub(crate) async fn run(&mut self, execute: &impl Execute, statement: Statement) -> Result<Answer, Refusal> {
        let ends = matches!(statement, Statement::End { .. });
        if *self == Self::Failed && !ends {
            let text = "current transaction is aborted, commands ignored until end of transaction block";
            return Err(Refusal::new("25P02", text, "send ROLLBACK"));
        }
        match statement {
            Statement::Begin => {
                if *self == Self::None {
                    *self = Self::Open { acted: false };
                }
                Ok(Answer::done("BEGIN"))
            }
            Statement::End { rolled_back } => Ok(self.end(rolled_back)),
            other => {
                if let Self::Open { acted } = self {
                    *acted |= execute.columns(&other).is_empty() && other != Statement::Set;
                }
                execute.execute(other).await
            }
        }
    }

    fn end(&mut self, rolled_back: bool) -> Answer {
        let before = std::mem::take(self);
        let failed = before == Self::Failed;
        let mut answer = Answer::done(if rolled_back || failed { "ROLLBACK" } else { "COMMIT" });
        if rolled_back && before == (Self::Open { acted: true }) {
            let text = "the admin console's statements take effect at once; ROLLBACK took nothing back";
            answer.notice = Some(text.to_owned());
        }
        answer
    }
}
