//! A statement that waits at the gate, and what becomes of it where it does not go on.

use std::sync::atomic::Ordering::Relaxed;

use protocol::error::Malformed;

use super::{End, HoldRefusal, Session, SessionEngine, look_at_orders};
use crate::hold::{HoldResult, hold};
use crate::registry::Activity;
use crate::relay::{GateAccess, Verdict};
use crate::session_gate::Turn;

/// Why a held statement does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unheld {
    /// Its session ends.
    End(End),
    /// Its client is told this.
    Refused(HoldRefusal),
}

impl<E: SessionEngine> Session<E> {
    /// The next statement stands at the gate.
    pub(super) async fn wait_at_gate(&mut self) -> Option<End> {
        match self.gate.turn() {
            // The gate opened just now; then the next try passes.
            Turn::GatePass => {
                self.gate.entry.set_activity(Activity::Serving);
                None
            }
            Turn::Elsewhere => {
                let end = E::follow_routes(self).await;
                if end.is_none() && self.gate.entry.take_cancel() {
                    return E::refuse_held(self, HoldRefusal::Cancelled).await;
                }
                end
            }
            Turn::Wary(_) => self.try_out().await,
            Turn::Closed(_) => self.wait(false).await,
        }
    }

    /// Sends a statement that the source's fence may refuse. One that is a transaction of its own did nothing then, and
    /// waits until the fence is known to be down.
    async fn try_out(&mut self) -> Option<End> {
        self.gate.entry.set_activity(Activity::Serving);
        self.gate.entry.take_cancel();
        self.gate.dares.store(true, Relaxed);
        // What is none passes like any other, and hears the refusal.
        let unit = E::unit(&self.wire, self.relay.held_bytes())?;
        let tried = self.relay.try_out(&mut self.wire, &self.gate, unit, E::judge).await;
        match tried {
            Err(broken) => Some(self.abort(&broken)),
            Ok(Verdict::Refused) => {
                self.gate.leave();
                self.wait(true).await
            }
            Ok(Verdict::Through | Verdict::Undecided) => None,
        }
    }

    /// Waits in line; one that the fence `refused` until that is known to be down.
    async fn wait(&mut self, refused: bool) -> Option<End> {
        match self.hold(refused).await {
            Ok(()) => None,
            Err(Unheld::End(end)) => Some(end),
            Err(Unheld::Refused(why)) => E::refuse_held(self, why).await,
        }
    }

    /// Waits until the gates are open; what the fence `refused` until that is known to be down.
    pub(crate) async fn hold(&mut self, refused: bool) -> Result<(), Unheld> {
        let met = {
            let Self { plane, engine, wire, relay, gate, prewarmed, .. } = self;
            let gate = &*gate;
            let rang = || look_at_orders(engine, gate, prewarmed);
            hold(plane, &gate.route, gate, relay, wire, refused, rang).await
        };
        let why = match met {
            HoldResult::Opened => return Ok(()),
            HoldResult::Closing => return Err(Unheld::End(End::Terminated)),
            HoldResult::Left => return Err(Unheld::End(End::Left)),
            HoldResult::Broken(broken) => return Err(Unheld::End(self.abort(&broken))),
            HoldResult::Cancelled => HoldRefusal::Cancelled,
            HoldResult::TooLong => HoldRefusal::TooLong,
        };
        self.gate.entry.set_activity(Activity::Serving);
        Err(Unheld::Refused(why))
    }

    /// Throws away the statement that stands next, once the client has sent all of it. Of the frame at the start of what
    /// it is shown, `next` tells the length, and whether the statement ends there.
    pub(crate) async fn discard_held(
        &mut self,
        mut next: impl FnMut(&[u8]) -> Result<Option<(usize, bool)>, Malformed>,
    ) -> Result<(), End> {
        let mut skip = 0;
        let mut over = false;
        loop {
            let held = self.relay.held_bytes();
            if skip > 0 && !held.is_empty() {
                let step = skip.min(held.len());
                skip -= step;
                self.relay.discard_held(step);
                continue;
            }
            if skip == 0 {
                if over {
                    return Ok(());
                }
                if let Some(frame) = next(held).map_err(|_| End::ClientBroken)? {
                    (skip, over) = frame;
                    continue;
                }
            }
            tokio::select! {
                biased;
                more = self.relay.more(&mut self.wire, &self.gate) => match more {
                    Ok(None) => {}
                    Ok(Some(_)) => return Err(End::Left),
                    Err(broken) => return Err(self.abort(&broken)),
                },
                () = self.gate.entry.notify.notified() => {
                    if self.gate.is_closing() {
                        return Err(End::Terminated);
                    }
                }
            }
        }
    }
}
