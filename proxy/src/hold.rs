//! A statement that waits at its route's closed gate, sent nowhere yet: how the wait ends, and what is counted of it.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::gate::Outcome;
use crate::metrics::HoldEnd;
use crate::plane::Plane;
use crate::registry::Activity;
use crate::relay::{Broken, Relay, Wire};
use crate::route::Route;
use crate::standing::{Standing, Turn};

/// What a held statement met.
pub(crate) enum Met {
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
    plane: &Plane,
    route: &Route,
    standing: &Standing,
    relay: &mut Relay<C, S>,
    wire: &mut W,
    refused: bool,
    mut rang: impl FnMut(),
) -> Met
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
    W: Wire,
{
    let entry = &standing.entry;
    let line = match standing.turn() {
        Turn::Closed(ticket) => ticket.stand_in_line(),
        Turn::Wary(ticket) if refused => ticket.stand_in_line(),
        Turn::Pass | Turn::Elsewhere | Turn::Wary(_) => return Met::Opened,
    };
    plane.metrics.hold_began(&route.name);
    entry.take_cancel();
    entry.set_activity(Activity::Held);
    let deadline = Instant::now() + plane.limits.hold_timeout;
    let met = loop {
        tokio::select! {
            biased;
            () = line.opened(!refused) => break Met::Opened,
            stop = relay.wait_held(wire, standing) => break match stop {
                Ok(_) => Met::Left,
                Err(broken) => Met::Broken(broken),
            },
            () = entry.bell.notified() => {
                rang();
                if entry.take_cancel() {
                    break Met::Cancelled;
                }
                if entry.is_closing() {
                    break Met::Closing;
                }
            }
            () = sleep_until(deadline) => break Met::TooLong,
        }
    };
    let lasted = line.age();
    let (outcome, hold_end) = match met {
        Met::Opened => (Outcome::Released, HoldEnd::Released),
        Met::Cancelled => (Outcome::Cancelled, HoldEnd::Cancelled),
        Met::TooLong => (Outcome::Refused, HoldEnd::Refused),
        Met::Closing | Met::Left | Met::Broken(_) => (Outcome::Gone, HoldEnd::Gone),
    };
    line.finish(outcome);
    plane.metrics.hold_ended(&route.name, hold_end, lasted);
    if matches!(met, Met::TooLong) {
        warn!(client = %entry.client, held_ms = lasted.as_millis(),
            "a held statement was refused at limits.hold_timeout; it was not executed");
    }
    met
}
