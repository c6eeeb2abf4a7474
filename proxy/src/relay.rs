//! The hot loop: frames both ways, back-pressure both ways, half-close.
//!
//! One task owns both sockets and one buffer for each way. Bytes are looked at once, by the engine's [`Wire`], which
//! clears them to be forwarded; a read is forwarded with one write, however many frames it holds. Neither way waits
//! for the other: a client that sends without reading cannot block the server's replies, nor the reverse.

mod half_duplex;
mod trial;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use protocol::error::Malformed;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::flow::Flow;
use half_duplex::HalfDuplex;

/// What an engine makes of the bytes that go by.
pub trait Wire {
    /// Looks at bytes of the client that were not looked at before, starting where the last call's `clear` ended. It
    /// may change bytes that it clears, but not how many there are.
    fn client(&mut self, bytes: &mut [u8], gate: &impl GateAccess) -> Result<ClientScan, Malformed>;

    /// Looks at bytes of the server that were not looked at before, and may change those that it clears. Where it
    /// swallows some, it is shown what follows them anew.
    fn server(&mut self, bytes: &mut [u8], gate: &impl GateAccess) -> Result<ServerScan, Malformed>;

    /// Whether the session is between transactions, with every reply there and nothing under way.
    fn at_boundary(&self) -> bool;

    /// Whether every reply is there and neither side is in the middle of something, although a transaction may be
    /// open: only here may Headgate speak to either side.
    fn is_answered(&self) -> bool {
        self.at_boundary()
    }

    /// Whether nothing but doubt keeps the session from its boundary, which the server can settle when it is asked.
    fn in_doubt(&self) -> bool {
        false
    }
}

/// The gate, as the hot loop sees it.
pub trait GateAccess {
    /// Tries to begin a transaction.
    fn enter(&self) -> bool;
    /// Whether the gate would let a transaction begin. For those who are inside already and want to go on.
    fn is_open(&self) -> bool;
    /// Whether the session is inside, so that the gate's owner waits for it.
    fn is_inside(&self) -> bool;
    /// The session is between transactions again.
    fn leave(&self);
    /// Whether the session was asked to end at its next boundary.
    fn is_closing(&self) -> bool;
    /// A statement goes by after which the session may write past the log: the setting or function that it names.
    fn hides_writes(&self, what: &'static str) {
        let _ = what;
    }
}

/// How much of the client's bytes may go on, and why not more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientScan {
    /// Bytes cleared from the start of what was shown.
    pub clear: usize,
    /// What stands after them.
    pub then: NextStep,
}

/// How much of the server's bytes may go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerScan {
    /// Bytes cleared from the start of what was shown.
    pub clear: usize,
    /// Bytes behind them that are not for the client: the answer to a question of our own.
    pub swallow: usize,
}

/// What stands after the cleared bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Nothing, or less than a header.
    More,
    /// A statement that would begin a transaction, and the gate did not let it.
    Gate,
    /// A statement that must wait for replies that are still to come.
    Replies,
    /// A statement that Headgate answers itself or puts in other words.
    Own,
}

/// Why the relay came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The next statement stands at the gate; everything before it is forwarded and answered.
    AtGate,
    /// The next statement is one that Headgate answers itself or puts in other words; everything before it is
    /// forwarded and answered.
    Own,
    /// The gate is not open, and the server must be asked whether this session is at its boundary.
    InDoubt,
    /// The client closed its side and everything it had sent is forwarded.
    ClientClosed,
    /// The server closed its side and everything it had sent is forwarded.
    ServerClosed,
    /// The session is at a boundary and was asked to end.
    Closing,
}

/// What the answer to a statement on trial says so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Too little to know.
    Undecided,
    /// It is the client's.
    Through,
    /// The server's fence refused the statement, which did nothing.
    Refused,
}

/// What can go wrong while bytes go by.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The client's socket failed.
    #[error("the client's connection failed: {0}")]
    Client(#[source] io::Error),
    /// The client sent what is not a frame.
    #[error("the client sent a malformed frame: {0}")]
    ClientFrame(Malformed),
    /// The server sent what is not a frame.
    #[error("the server sent a malformed frame: {0}")]
    ServerFrame(Malformed),
}

/// Both ways of one session.
#[derive(Debug)]
pub struct Relay<C, S> {
    /// The client's socket.
    pub client: C,
    /// The server's socket.
    pub server: S,
    inbound: HalfDuplex,
    outbound: HalfDuplex,
    /// Writing to the server failed; it may still have something to say.
    server_deaf: bool,
    flow: Arc<Flow>,
}

impl<C, S> Relay<C, S>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Starts with what the client and the server had sent behind their logins, `leftover` and `read`; what goes by is
    /// counted in `flow`.
    pub fn new(client: C, server: S, leftover: &[u8], read: &[u8], flow: Arc<Flow>) -> Self {
        Self {
            client,
            server,
            inbound: HalfDuplex::new(leftover),
            outbound: HalfDuplex::new(read),
            server_deaf: false,
            flow,
        }
    }

    /// Bytes of the client that wait to be looked at.
    pub fn held_bytes(&self) -> &[u8] {
        self.inbound.unseen()
    }

    /// Throws held bytes of the client away.
    pub fn discard_held(&mut self, count: usize) {
        self.inbound.discard(count.min(self.inbound.unseen().len()));
    }

    /// Takes all held bytes of the client, for a conversation without the server. Only where nothing waits to be written.
    pub fn take_held(&mut self) -> Vec<u8> {
        let held = self.inbound.unseen().to_vec();
        self.inbound.discard(held.len());
        held
    }

    /// Gives back what [`Relay::take_held`] took and nobody used.
    pub fn give_back(&mut self, held: &[u8]) {
        self.inbound = HalfDuplex::new(held);
    }

    /// Whether everything that the server said is with the client.
    pub fn is_told(&self) -> bool {
        self.outbound.is_empty()
    }

    /// Another server session takes over, of which `read` was read already. Only where [`Relay::is_told`].
    pub fn replace_server(&mut self, server: S, read: &[u8]) -> S {
        self.outbound = HalfDuplex::new(read);
        self.server_deaf = false;
        std::mem::replace(&mut self.server, server)
    }

    /// Forwards until something other than forwarding is to be done. Cancel safe: what was read is kept.
    pub async fn run<W: Wire>(&mut self, wire: &mut W, gate: &impl GateAccess) -> Result<Stop, Broken> {
        poll_fn(|context| self.poll(context, wire, gate)).await
    }

    /// Takes in what the client sends, as far as there is room, and forwards what the server sends by itself, while
    /// a statement is held. Comes back when either side closes. Cancel safe.
    pub async fn wait_held<W: Wire>(&mut self, wire: &mut W, gate: &impl GateAccess) -> Result<Stop, Broken> {
        loop {
            if let Some(stop) = self.more(wire, gate).await? {
                return Ok(stop);
            }
        }
    }

    /// Asks the server something of our own. Only where nothing of the client is half forwarded; the caller sets the
    /// deadline.
    pub async fn inject(&mut self, words: &[u8]) -> io::Result<()> {
        self.server.write_all(words).await?;
        self.server.flush().await
    }

    /// Whether nothing of the client waits to be written.
    pub fn is_forwarded(&self) -> bool {
        !self.inbound.writable()
    }

    /// Takes in more of what the client sends, and forwards what the server says. Comes back with more, or when
    /// either side closes. Cancel safe.
    pub async fn more<W: Wire>(&mut self, wire: &mut W, gate: &impl GateAccess) -> Result<Option<Stop>, Broken> {
        poll_fn(|context| {
            loop {
                if self.poll_server(context, wire, gate)? {
                    continue;
                }
                if self.outbound.closed && self.outbound.is_empty() {
                    return Poll::Ready(Ok(Some(Stop::ServerClosed)));
                }
                return match self.inbound.poll_fill(context, &mut self.client) {
                    Poll::Ready(Ok(_)) if self.inbound.closed => Poll::Ready(Ok(Some(Stop::ClientClosed))),
                    Poll::Ready(Ok(true)) => Poll::Ready(Ok(None)),
                    Poll::Ready(Ok(false)) | Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Err(Broken::Client(error))),
                };
            }
        })
        .await
    }

    /// Tells the client something of our own, behind everything that the server said. Resolves when the words are in
    /// line, not when the client has read them. Cancel safe.
    pub async fn say<W: Wire>(&mut self, wire: &mut W, gate: &impl GateAccess, words: &[u8]) -> Result<(), Broken> {
        poll_fn(|context| {
            while self.outbound.cleared < self.outbound.end || !wire.is_answered() {
                if self.outbound.closed || !self.poll_server(context, wire, gate)? {
                    return if self.outbound.closed { Poll::Ready(Ok(())) } else { Poll::Pending };
                }
            }
            Poll::Ready(Ok(()))
        })
        .await?;
        self.outbound.append(words);
        Ok(())
    }

    fn poll<W: Wire>(
        &mut self,
        context: &mut Context<'_>,
        wire: &mut W,
        gate: &impl GateAccess,
    ) -> Poll<Result<Stop, Broken>> {
        loop {
            let mut moved = self.poll_server(context, wire, gate)?;
            if self.outbound.closed && self.outbound.is_empty() {
                return Poll::Ready(Ok(Stop::ServerClosed));
            }
            if gate.is_closing() && wire.at_boundary() && self.outbound.is_empty() {
                return Poll::Ready(Ok(Stop::Closing));
            }
            match self.inbound.poll_fill(context, &mut self.client) {
                Poll::Ready(Ok(some)) => moved |= some,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Client(error))),
                Poll::Pending => {}
            }
            let mut then = NextStep::More;
            if self.inbound.cleared < self.inbound.end {
                let seen = wire.client(self.inbound.unseen_mut(), gate).map_err(Broken::ClientFrame)?;
                self.inbound.cleared += seen.clear;
                self.flow.from_client(seen.clear);
                then = seen.then;
            }
            if self.server_deaf {
                self.inbound.start = self.inbound.cleared;
            } else {
                match self.inbound.poll_drain(context, &mut self.server) {
                    Poll::Ready(Ok(some)) => moved |= some,
                    Poll::Ready(Err(_)) => {
                        // The server may have said why before it closed, and that text is the client's: go on
                        // reading until the end of it.
                        self.server_deaf = true;
                        moved = true;
                    }
                    Poll::Pending => {}
                }
            }
            // In the middle of a frame of the server nobody may speak to either side.
            if then == NextStep::Gate && wire.at_boundary() && !self.inbound.writable() && self.outbound.is_empty() {
                return Poll::Ready(Ok(Stop::AtGate));
            }
            let may_speak = wire.is_answered() && !self.inbound.writable() && self.outbound.is_empty();
            if then == NextStep::Own && may_speak {
                return Poll::Ready(Ok(Stop::Own));
            }
            if may_speak && wire.in_doubt() && !gate.is_open() {
                return Poll::Ready(Ok(Stop::InDoubt));
            }
            if self.inbound.closed && !self.inbound.writable() && !self.inbound.shut && then == NextStep::More {
                self.inbound.shut = true;
                return Poll::Ready(Ok(Stop::ClientClosed));
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    /// One round of the server's way. True where something moved.
    fn poll_server<W: Wire>(
        &mut self,
        context: &mut Context<'_>,
        wire: &mut W,
        gate: &impl GateAccess,
    ) -> Result<bool, Broken> {
        let mut moved = false;
        match self.outbound.poll_fill(context, &mut self.server) {
            Poll::Ready(Ok(some)) => moved |= some,
            Poll::Ready(Err(_)) => {
                // A server that is killed resets the connection; its last words may still be in our buffer.
                self.outbound.closed = true;
                moved = true;
            }
            Poll::Pending => {}
        }
        if self.outbound.cleared < self.outbound.end {
            loop {
                let heard = wire.server(self.outbound.unseen_mut(), gate).map_err(Broken::ServerFrame)?;
                self.outbound.cleared += heard.clear;
                self.flow.to_client(heard.clear);
                if heard.swallow == 0 {
                    break;
                }
                self.outbound.swallow(heard.swallow);
            }
            if self.outbound.closed {
                // Half a frame is all that will ever come.
                self.outbound.cleared = self.outbound.end;
            }
        }
        match self.outbound.poll_drain(context, &mut self.client) {
            Poll::Ready(Ok(some)) => moved |= some,
            Poll::Ready(Err(error)) => return Err(Broken::Client(error)),
            Poll::Pending => {}
        }
        Ok(moved)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    /// Every byte may go on.
    struct Open;

    impl Wire for Open {
        fn client(&mut self, bytes: &mut [u8], _: &impl GateAccess) -> Result<ClientScan, Malformed> {
            Ok(ClientScan { clear: bytes.len(), then: NextStep::More })
        }

        fn server(&mut self, bytes: &mut [u8], _: &impl GateAccess) -> Result<ServerScan, Malformed> {
            Ok(ServerScan { clear: bytes.len(), swallow: 0 })
        }

        fn at_boundary(&self) -> bool {
            true
        }
    }

    impl GateAccess for Open {
        fn enter(&self) -> bool {
            true
        }

        fn is_open(&self) -> bool {
            true
        }

        fn is_inside(&self) -> bool {
            false
        }

        fn leave(&self) {}

        fn is_closing(&self) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn what_either_side_sent_behind_its_login_comes_first() {
        let ((client, mut at_client), (server, mut at_server)) = (duplex(64), duplex(64));
        let mut relay = Relay::new(client, server, b"select", b"early", Arc::new(Flow::default()));
        at_client.write_all(b" 1").await.expect("room");
        at_server.write_all(b" late").await.expect("room");
        let heard = async {
            let (mut to_client, mut to_server) = ([0; 10], [0; 8]);
            at_client.read_exact(&mut to_client).await.expect("forwarded");
            at_server.read_exact(&mut to_server).await.expect("forwarded");
            (to_client, to_server)
        };
        let mut wire = Open;
        let heard = tokio::select! {
            stop = relay.run(&mut wire, &Open) => panic!("{stop:?}"),
            heard = heard => heard,
        };
        assert_eq!(heard, (*b"early late", *b"select 1"));
    }
}
