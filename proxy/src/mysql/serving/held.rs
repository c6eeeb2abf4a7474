//! A command that waits at the gate, and what its client is told where it does not go on.

use std::sync::atomic::Ordering::Relaxed;

use bytes::BytesMut;
use protocol::mysql::{command, error_response, frame};

use super::{End, Serving, look_at_orders};
use crate::hold::{HoldResult, hold};
use crate::mysql::trial;
use crate::registry::Activity;
use crate::relay::{GateAccess, Verdict};
use crate::session_gate::Turn;

/// Why a held command does not go on.
pub(super) enum Unheld {
    /// Its session ends.
    End(End),
    /// Its client is told this.
    Refused(fn(&mut BytesMut, &mut u8)),
}

impl Serving {
    /// The next statement stands at the gate.
    pub(super) async fn wait_at_gate(&mut self) -> Option<End> {
        match self.standing.turn() {
            // The gate opened just now; then the next try passes.
            Turn::GatePass => {
                self.entry.set_activity(Activity::Serving);
                return None;
            }
            Turn::Elsewhere => {
                let end = self.follow_routes().await;
                if end.is_none() && self.entry.take_cancel() {
                    return self.refuse(error_response::query_interrupted).await;
                }
                return end;
            }
            Turn::Wary(_) => return self.try_out().await,
            Turn::Closed(_) => {}
        }
        self.wait(false).await
    }

    async fn wait(&mut self, refused: bool) -> Option<End> {
        match self.hold(refused).await {
            Ok(()) => None,
            Err(Unheld::End(end)) => Some(end),
            Err(Unheld::Refused(error)) => self.refuse(error).await,
        }
    }

    /// Sends a statement that the source's fence may refuse. One that is a transaction of its own did nothing then, and
    /// waits until the fence is known to be down.
    async fn try_out(&mut self) -> Option<End> {
        self.entry.set_activity(Activity::Serving);
        self.entry.take_cancel();
        self.standing.dares.store(true, Relaxed);
        // What is none passes like any other, and hears the refusal.
        let unit = self.wire.unit(self.relay.held_bytes())?;
        let (relay, wire) = (&mut self.relay, &mut self.wire);
        let tried = relay.try_out(wire, &self.standing, unit, trial::judge).await;
        match tried {
            Err(broken) => Some(self.abort(&broken)),
            Ok(Verdict::Refused) => {
                self.standing.leave();
                self.wait(true).await
            }
            Ok(Verdict::Through | Verdict::Undecided) => None,
        }
    }

    /// Waits until the gates are open; one that the fence `refused` until that is known to be down.
    pub(super) async fn hold(&mut self, refused: bool) -> Result<(), Unheld> {
        let met = {
            let Self { plane, logins, route, identity, entry, wire, relay, standing, prewarmed, .. } = self;
            let rang = || look_at_orders(entry, identity, logins, prewarmed);
            hold(plane, route, standing, relay, wire, refused, rang).await
        };
        let error = match met {
            HoldResult::Opened => return Ok(()),
            HoldResult::Closing => return Err(Unheld::End(End::Terminated)),
            HoldResult::Left => return Err(Unheld::End(End::Left)),
            HoldResult::Broken(broken) => return Err(Unheld::End(self.abort(&broken))),
            HoldResult::Cancelled => error_response::query_interrupted,
            HoldResult::TooLong => error_response::held_too_long,
        };
        self.entry.set_activity(Activity::Serving);
        Err(Unheld::Refused(error))
    }

    /// Answers the command that stands next with an error, once the client has sent all of it.
    pub(super) async fn refuse(&mut self, error: impl FnOnce(&mut BytesMut, &mut u8)) -> Option<End> {
        let Some(header) = frame::peek(self.relay.held_bytes()) else {
            return Some(End::Broken);
        };
        if self.relay.held_bytes().get(frame::HEADER_BYTES) == Some(&command::STMT_PREPARE) {
            // Who executes "the statement prepared last" behind it must not get an older one.
            self.wire.statements.refused();
        }
        let mut header = header;
        let mut skip = header.total();
        loop {
            let held = self.relay.held_bytes();
            if skip > 0 && !held.is_empty() {
                let step = skip.min(held.len());
                skip -= step;
                self.relay.discard_held(step);
                continue;
            }
            if skip == 0 {
                if !header.is_continued() {
                    break;
                }
                if let Some(next) = frame::peek(held) {
                    header = next;
                    skip = header.total();
                    continue;
                }
            }
            tokio::select! {
                biased;
                more = self.relay.more(&mut self.wire, &self.standing) => match more {
                    Ok(None) => {}
                    Ok(Some(_)) => return Some(End::Left),
                    Err(broken) => return Some(self.abort(&broken)),
                },
                () = self.entry.notify.notified() => {
                    if self.entry.is_closing() {
                        return Some(End::Terminated);
                    }
                }
            }
        }
        let mut words = BytesMut::new();
        let mut sequence = header.sequence.wrapping_add(1);
        error(&mut words, &mut sequence);
        self.answer(&words).await
    }
}
