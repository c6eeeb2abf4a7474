//! A statement that the server may refuse as a whole: its answer is kept back until it is known whether it did.

use std::future::poll_fn;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Broken, GateAccess, Relay, Verdict, Wire};

impl<C, S> Relay<C, S>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Sends the first `unit` held bytes, which are one transaction of their own, and keeps the answer back until
    /// `judge` knows it, or there is no room for more of it. Where it was refused, all is as if it had not been sent.
    pub async fn try_out<W: Wire>(
        &mut self,
        wire: &mut W,
        gate: &impl GateAccess,
        unit: usize,
        judge: impl Fn(&[u8]) -> Verdict,
    ) -> Result<Verdict, Broken> {
        let Some(held) = self.inbound.unseen_mut().get_mut(..unit) else {
            return Ok(Verdict::Through);
        };
        let copy = held.to_vec();
        let seen = wire.client(held, gate).map_err(Broken::ClientFrame)?;
        self.inbound.cleared += seen.clear;
        self.flow.from_client(seen.clear);
        if seen.clear != unit {
            return Ok(Verdict::Through);
        }
        let verdict = poll_fn(|context| {
            loop {
                let mut moved = false;
                match self.inbound.poll_drain(context, &mut self.server) {
                    Poll::Ready(Ok(some)) => moved |= some,
                    Poll::Ready(Err(_)) => self.server_deaf = true,
                    Poll::Pending => {}
                }
                match self.outbound.poll_fill(context, &mut self.server) {
                    // No room for more of it.
                    Poll::Ready(Ok(false)) => return Poll::Ready(Ok(Verdict::Through)),
                    Poll::Ready(Ok(true)) => moved = true,
                    Poll::Ready(Err(_)) => self.outbound.closed = true,
                    Poll::Pending => {}
                }
                if self.outbound.closed || self.server_deaf {
                    return Poll::Ready(Ok(Verdict::Through));
                }
                while self.outbound.cleared < self.outbound.end {
                    let heard = wire.server(self.outbound.unseen_mut(), gate).map_err(Broken::ServerFrame)?;
                    self.outbound.cleared += heard.clear;
                    self.flow.to_client(heard.clear);
                    if heard.swallow == 0 {
                        break;
                    }
                    self.outbound.swallow(heard.swallow);
                }
                let answer = &self.outbound.bytes[self.outbound.start..self.outbound.cleared];
                let whole = self.outbound.cleared == self.outbound.end;
                match judge(answer) {
                    Verdict::Refused if whole && !self.inbound.writable() => {
                        return Poll::Ready(Ok(Verdict::Refused));
                    }
                    Verdict::Through => return Poll::Ready(Ok(Verdict::Through)),
                    Verdict::Refused | Verdict::Undecided if !moved => return Poll::Pending,
                    Verdict::Refused | Verdict::Undecided => {}
                }
            }
        })
        .await?;
        if verdict == Verdict::Refused {
            self.outbound.discard(0);
            let held = [&copy, self.inbound.unseen()].concat();
            self.give_back(&held);
        }
        Ok(verdict)
    }
}
