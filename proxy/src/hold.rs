//! A statement that waits at its route's closed gate, sent nowhere yet: how the wait ends, and what is counted of it.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::data_plane::DataPlane;
use crate::gate::Outcome;
use crate::metrics::HoldEnd;
use crate::registry::Activity;
use crate::relay::{Broken, Relay, Wire};
use crate::route::Route;
use crate::session_gate::{SessionGate, Turn};

/// What a held statement met.
pub(crate) enum HoldResult {
    /// The gate opened. The statement counts as held until it has passed, so that whoever cancels it still means it.
    Opened,
    /// Its client cancelled it.
    Cancelled,
    /// It waited for as long as the limits allow.
    TooLong,
    /// Its session was asked to end.
    Closing,
    /// Its client or its server left.
    Left,
    /// One side broke off.
    Broken(Broken),
}

/// Waits in line until the gate opens or the statement is not to be waited for any more. One that was `refused` by the
/// source's fence waits until that is known to be down. `rang` is called whenever the
/// session's bell rings.
pub(crate) async fn hold<C, S, W>(
    plane: &DataPlane,
    route: &Route,
    standing: &SessionGate,
    relay: &mut Relay<C, S>,
    wire: &mut W,
    refused: bool,
    mut rang: impl FnMut(),
) -> HoldResult
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
    W: Wire,
{
    let entry = &standing.entry;
    let line = match standing.turn() {
        Turn::Closed(ticket) => ticket.stand_in_line(),
        Turn::Wary(ticket) if refused => ticket.stand_in_line(),
        Turn::GatePass | Turn::Elsewhere | Turn::Wary(_) => return HoldResult::Opened,
    };
    plane.metrics.hold_began(&route.name);
    entry.take_cancel();
    entry.set_activity(Activity::Held);
    let deadline = Instant::now() + plane.limits.hold_timeout;
    let met = loop {
        tokio::select! {
            biased;
            () = line.opened(!refused) => break HoldResult::Opened,
            stop = relay.wait_held(wire, standing) => break match stop {
                Ok(_) => HoldResult::Left,
                Err(broken) => HoldResult::Broken(broken),
            },
            () = entry.notify.notified() => {
                rang();
                if entry.take_cancel() {
                    break HoldResult::Cancelled;
                }
                if entry.is_closing() {
                    break HoldResult::Closing;
                }
            }
            () = sleep_until(deadline) => break HoldResult::TooLong,
        }
    };
    let lasted = line.age();
    let (outcome, hold_end) = match met {
        HoldResult::Opened => (Outcome::Released, HoldEnd::Released),
        HoldResult::Cancelled => (Outcome::Cancelled, HoldEnd::Cancelled),
        HoldResult::TooLong => (Outcome::Refused, HoldEnd::Refused),
        HoldResult::Closing | HoldResult::Left | HoldResult::Broken(_) => (Outcome::Gone, HoldEnd::Gone),
    };
    line.finish(outcome);
    plane.metrics.hold_ended(&route.name, hold_end, lasted);
    if matches!(met, HoldResult::TooLong) {
        warn!(client = %entry.client, held_ms = lasted.as_millis(),
            "a held statement was refused at limits.hold_timeout; it was not executed");
    }
    met
}
