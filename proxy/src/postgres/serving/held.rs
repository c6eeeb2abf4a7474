//! A statement that waits at the gate, and what its client is told where it does not go on.

use std::sync::atomic::Ordering::Relaxed;

use bytes::BytesMut;
use protocol::postgres::error_response::Severity;
use protocol::postgres::{command, error_response, frame, reply};

use super::{End, Serving, look_at_orders, newest};
use crate::hold::{HoldResult, hold};
use crate::postgres::trial;
use crate::registry::Activity;
use crate::relay::{GateAccess, Verdict};
use crate::session_gate::Turn;

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
                let end = self.hand_over().await;
                if end.is_none() && self.entry.take_cancel() {
                    return self.refuse_batch(error_response::query_cancelled).await;
                }
                return end;
            }
            Turn::Wary(_) => return self.try_out().await,
            Turn::Closed(_) => {}
        }
        self.wait(false).await
    }

    /// Sends a statement that the source's fence may refuse. One that is a transaction of its own did nothing then, and
    /// waits until the fence is known to be down.
    async fn try_out(&mut self) -> Option<End> {
        self.entry.set_activity(Activity::Serving);
        self.entry.take_cancel();
        self.standing.dares.store(true, Relaxed);
        let held = self.relay.held_bytes();
        let limit = self.plane.limits.frame_bytes_max;
        // What is none passes like any other, and hears the refusal.
        let unit = trial::unit(held, limit).filter(|_| !self.wire.may_commit_midway())?;
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

    /// Waits in line; one that the fence `refused` until that is known to be down.
    async fn wait(&mut self, refused: bool) -> Option<End> {
        let met = {
            let Self { plane, route, startup, passwords, password, entry, wire, relay, standing, prewarmed } = self;
            let password = || newest(passwords, entry, password.as_ref());
            let rang = || look_at_orders(entry, startup, route, password, prewarmed);
            hold(plane, route, standing, relay, wire, refused, rang).await
        };
        let error: fn(&mut BytesMut) = match met {
            HoldResult::Opened => return None,
            HoldResult::Closing => return Some(End::Terminated),
            HoldResult::Left => return Some(End::Left),
            HoldResult::Broken(broken) => return Some(self.abort(&broken)),
            HoldResult::Cancelled => error_response::query_cancelled,
            HoldResult::TooLong => held_too_long,
        };
        self.entry.set_activity(Activity::Serving);
        self.refuse_batch(error).await
    }

    /// Answers the held statement with an error, as the server would: at once, and an extended batch is then passed
    /// over up to its Sync.
    async fn refuse_batch(&mut self, error: fn(&mut BytesMut)) -> Option<End> {
        let limit = self.plane.limits.frame_bytes_max;
        let Ok(Some(first)) = frame::peek(self.relay.held_bytes(), limit) else {
            return Some(End::Violation("invalid message length"));
        };
        let alone = matches!(first.tag, command::QUERY | command::FUNCTION_CALL);
        let mut words = BytesMut::new();
        error(&mut words);
        if alone {
            reply::ReadyStatus::Idle.encode(&mut words);
        }
        if let Err(end) = self.say(&words).await {
            return Some(end);
        }
        let mut skip = 0;
        let mut over = false;
        while !over || skip > 0 {
            let held = self.relay.held_bytes();
            if skip > 0 && !held.is_empty() {
                let step = skip.min(held.len());
                skip -= step;
                self.relay.discard_held(step);
                continue;
            }
            match frame::peek(held, limit) {
                Ok(Some(header)) => {
                    skip = header.total();
                    over = alone || header.tag == command::SYNC;
                    continue;
                }
                Ok(None) => {}
                Err(_) => return Some(End::Violation("invalid message length")),
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
        if alone {
            return None;
        }
        words.clear();
        reply::ReadyStatus::Idle.encode(&mut words);
        self.say(&words).await.err()
    }
}

/// The text for a statement that was held for as long as the limits allow. It was sent nowhere.
fn held_too_long(out: &mut BytesMut) {
    let message = "canceling statement: the database did not become available in time; it was not executed";
    error_response::error(out, Severity::Error, "57014", message);
}
