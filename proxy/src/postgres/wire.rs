//! What the hot loop needs to know of PostgreSQL's frames: headers only, but for three small exceptions.
//!
//! The exceptions: the status byte of ReadyForQuery; ParameterStatus, because after a handover the client must be
//! told what changed; and the last unnamed Parse, because no server view lists it and a client may bind it again.

use bytes::{Bytes, BytesMut};
use protocol::error::Malformed;
use protocol::postgres::session::{Begins, Session as Tracker};
use protocol::postgres::{command, frame, reply};
use tokio::sync::oneshot;

use super::ahead::Ahead;
use super::custom::CustomSettings;
use super::not_movable::NotMovable;
use super::trial;
use crate::registry::{Movable, answer_probes};
use crate::relay::{ClientScan, GateAccess, NextStep, ServerScan, Wire};

/// The largest unnamed Parse that is kept for a handover. Above it the session counts as not movable while that
/// statement lives.
const UNNAMED_BYTES_MAX: usize = 1 << 20;

/// Parameter statuses longer than this are forwarded without being remembered.
const PARAMETER_BYTES_MAX: usize = 4 << 10;

/// The last unnamed statement that the client parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unnamed<'a> {
    /// There is none.
    None,
    /// The whole frame.
    Parse(&'a [u8]),
    /// It was too large to keep.
    TooLarge,
}

/// One session's conversation.
#[derive(Debug)]
pub struct PostgresWire {
    tracker: Tracker,
    frame_bytes_max: usize,
    client_left: usize,
    server_left: usize,
    /// A Parse frame that is going by, until it is known whether it is unnamed.
    capture: Option<Vec<u8>>,
    unnamed: Vec<u8>,
    unnamed_too_large: bool,
    prewarmed: Vec<u8>,
    parameters: Vec<(Bytes, Bytes)>,
    gated: bool,
    probe: Probe,
    custom: CustomSettings,
    /// Bytes of a long statement's body that were not looked at yet; its header may come before them.
    text_left: usize,
    /// A question ahead of a switch whose answer is still to come.
    ahead: Option<Ahead>,
    /// The last answer, and how much the client had sent when it was asked for.
    answered: Option<(u64, Movable)>,
    /// A statement was parsed that may commit before it is over.
    may_commit_midway: bool,
}

/// A statement up to this size is looked at as a whole, and a longer one in the pieces in which it comes.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// `set_config`, called by its number and not in a text.
const SET_CONFIG_OID: [u8; 4] = 2078_u32.to_be_bytes();

/// A question of our own that settles what headers leave in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    None,
    /// Its CloseComplete is to come; whatever comes before answers the client.
    Asked,
    /// Its ReadyForQuery is to come.
    Answered,
}

/// The name of a statement that no client has; closing what is not there is no error.
const PROBE_NAME: &[u8] = b"Sheadgate: nothing has this name\0";

const READY_BYTES: usize = 1;

impl PostgresWire {
    /// A session that is idle behind its login. `gated` is false for replication, which never begins a transaction
    /// that the gate could hold.
    pub fn new(frame_bytes_max: usize, parameters: Vec<(Bytes, Bytes)>, gated: bool) -> Self {
        Self {
            tracker: Tracker::default(),
            frame_bytes_max,
            client_left: 0,
            server_left: 0,
            capture: None,
            unnamed: Vec::new(),
            unnamed_too_large: false,
            prewarmed: Vec::new(),
            parameters,
            gated,
            probe: Probe::None,
            custom: CustomSettings::default(),
            text_left: 0,
            ahead: None,
            answered: None,
            may_commit_midway: false,
        }
    }

    /// Answers `askers` whether the session could move, as far as that is known here. Else it is the server that is to
    /// be asked: whoever takes the frames sends them at once. `sent` is how much the client has sent so far.
    pub fn ask_ahead(&mut self, askers: Vec<oneshot::Sender<Movable>>, is_inside: bool, sent: u64) -> Option<BytesMut> {
        let known = if !self.gated {
            Some(Movable::No(NotMovable::Replication.reason()))
        } else if self.custom.are_unknown() {
            Some(Movable::No(NotMovable::CustomSetting.reason()))
        } else if self.unnamed_too_large {
            Some(Movable::No(NotMovable::PreparedStatement.reason()))
        } else if self.tracker.in_batch() {
            Some(Movable::NotKnown("it is in a batch without its Sync"))
        } else if is_inside || !self.at_boundary() {
            Some(Movable::NotKnown("it is in a transaction"))
        } else {
            self.answered.filter(|(asked_at, _)| *asked_at == sent).map(|(_, answer)| answer)
        };
        if let Some(known) = known {
            answer_probes(askers, known);
            return None;
        }
        self.answered = Some((sent, Movable::NotKnown("its server has not answered yet")));
        self.ahead = Some(Ahead::new(askers));
        Some(Ahead::frames())
    }

    /// A frame of the server while a question ahead of a switch is open; true where it answers that.
    fn hear_ahead(&mut self, tag: u8, body: &[u8]) -> bool {
        if !Ahead::is_answer(tag, body) {
            return false;
        }
        if tag != reply::READY_FOR_QUERY {
            if let Some(ahead) = &mut self.ahead {
                ahead.hear(tag, body);
            }
        } else if let Some(ahead) = self.ahead.take() {
            let answer = ahead.finish();
            self.answered = self.answered.map(|(sent, _)| (sent, answer));
        }
        true
    }

    fn tell_hidden_writes(&mut self, gate: &impl GateAccess) {
        if let Some(what) = self.custom.take_hides_writes() {
            gate.hides_writes(what);
        }
    }

    /// Looks at the next piece of a long statement, of which so many bytes are still to come, and these among them.
    fn learn_piece(&mut self, piece: &[u8], left: usize) {
        let header = left.saturating_sub(self.text_left);
        let piece = piece.get(header..).unwrap_or_default();
        self.text_left -= piece.len().min(self.text_left);
        self.custom.learn_piece(piece, self.text_left == 0);
    }

    /// The length of the transaction at the start of `held`, where all of it is there and it can be sent once more.
    pub(super) fn unit(&self, held: &[u8]) -> Option<usize> {
        trial::unit(held, self.frame_bytes_max).filter(|_| !self.may_commit_midway)
    }

    /// The settings of the application's own making.
    pub fn custom(&self) -> &CustomSettings {
        &self.custom
    }

    /// The frames that settle a doubt which keeps the session from its boundary, where there is one that they settle.
    /// Whoever takes them sends them at once. They touch nothing of the session, not even its unnamed statement.
    pub fn probe(&mut self) -> Option<BytesMut> {
        let alone = self.client_left == 0 && self.probe == Probe::None;
        if !alone || !self.tracker.can_be_settled() {
            return None;
        }
        self.probe = Probe::Asked;
        let mut out = BytesMut::new();
        frame::put(&mut out, command::CLOSE, |out| {
            out.extend_from_slice(PROBE_NAME);
        });
        frame::put(&mut out, command::SYNC, |_| {});
        Some(out)
    }

    /// The parameter statuses that the client was told last.
    pub fn parameters(&self) -> &[(Bytes, Bytes)] {
        &self.parameters
    }

    /// Remembers what the client is told from now on.
    pub fn set_parameters(&mut self, parameters: Vec<(Bytes, Bytes)>) {
        self.parameters = parameters;
    }

    /// The unnamed statement that a client may still bind.
    pub fn unnamed(&self) -> Unnamed<'_> {
        if self.unnamed_too_large {
            Unnamed::TooLarge
        } else if self.unnamed.is_empty() {
            Unnamed::None
        } else {
            Unnamed::Parse(&self.unnamed)
        }
    }

    /// Whether the gate applies to this session.
    pub fn is_gated(&self) -> bool {
        self.gated
    }

    fn admit(&self, tag: u8, gate: &impl GateAccess) -> NextStep {
        if self.tracker.is_full() {
            return NextStep::Replies;
        }
        if !self.gated || self.tracker.in_batch() || Tracker::begins(tag) != Begins::Batch {
            return NextStep::More;
        }
        if self.tracker.at_boundary() {
            return if gate.enter() { NextStep::More } else { NextStep::Gate };
        }
        // The batches before this one decide whether a transaction is open; only with the gate open may they be
        // left to run together.
        if self.tracker.owes() && !gate.is_open() { NextStep::Replies } else { NextStep::More }
    }

    fn begin_capture(&mut self, tag: u8) {
        match tag {
            command::PARSE => {
                let mut scratch = std::mem::take(&mut self.prewarmed);
                scratch.clear();
                self.capture = Some(scratch);
            }
            command::QUERY => {
                self.unnamed.clear();
                self.unnamed_too_large = false;
            }
            _ => {}
        }
    }

    fn go_on_capture(&mut self, bytes: &[u8], frame_left: usize) {
        let Some(scratch) = &mut self.capture else {
            return;
        };
        // The name is the first thing in the body; an unnamed one has none.
        let name = frame::HEADER_BYTES
            .checked_sub(scratch.len())
            .map_or(scratch.get(frame::HEADER_BYTES), |at| bytes.get(at))
            .copied();
        let unnamed = name == Some(0);
        if scratch.len().saturating_add(bytes.len()) > UNNAMED_BYTES_MAX {
            self.unnamed_too_large |= unnamed;
            self.prewarmed = self.capture.take().unwrap_or_default();
            return;
        }
        scratch.extend_from_slice(bytes);
        if name.is_some() && !unnamed {
            self.prewarmed = self.capture.take().unwrap_or_default();
        } else if frame_left == 0 {
            let whole = self.capture.take().unwrap_or_default();
            self.prewarmed = std::mem::replace(&mut self.unnamed, whole);
            self.unnamed_too_large = false;
        }
    }

    fn remember_parameter(&mut self, body: &[u8]) {
        let Ok(status) = reply::ParameterStatus::parse(Bytes::copy_from_slice(body)) else {
            return;
        };
        match self.parameters.iter_mut().find(|(name, _)| *name == status.name) {
            Some((_, value)) => *value = status.value,
            None => self.parameters.push((status.name, status.value)),
        }
    }
}

impl Wire for PostgresWire {
    fn client(&mut self, bytes: &mut [u8], gate: &impl GateAccess) -> Result<ClientScan, Malformed> {
        let mut clear = 0;
        loop {
            let rest = bytes.get(clear..).unwrap_or_default();
            if self.client_left > 0 {
                let step = self.client_left.min(rest.len());
                if self.text_left > 0 {
                    self.learn_piece(&rest[..step], self.client_left);
                    self.tell_hidden_writes(gate);
                }
                self.client_left -= step;
                if self.capture.is_some() {
                    self.go_on_capture(&rest[..step], self.client_left);
                }
                clear += step;
                if self.client_left > 0 {
                    return Ok(ClientScan { clear, then: NextStep::More });
                }
                continue;
            }
            let Some(header) = frame::peek(rest, self.frame_bytes_max)? else {
                return Ok(ClientScan { clear, then: NextStep::More });
            };
            let text = matches!(header.tag, command::QUERY | command::PARSE);
            let whole = rest.get(frame::HEADER_BYTES..header.total());
            let called = rest.get(frame::HEADER_BYTES..frame::HEADER_BYTES + SET_CONFIG_OID.len());
            let calls = header.tag == command::FUNCTION_CALL && header.body >= SET_CONFIG_OID.len();
            if text && whole.is_none() && header.total() <= TEXT_BYTES_MAX || calls && called.is_none() {
                return Ok(ClientScan { clear, then: NextStep::More });
            }
            let then = self.admit(header.tag, gate);
            if then != NextStep::More {
                return Ok(ClientScan { clear, then });
            }
            if let Some(whole) = whole.filter(|_| text) {
                self.custom.learn(whole);
                self.tell_hidden_writes(gate);
            } else if text {
                self.text_left = header.body;
            } else if calls && called == Some(&SET_CONFIG_OID) {
                self.custom.set_unknown();
            }
            if header.tag == command::PARSE {
                let text = whole.and_then(|body| body.get(memchr::memchr(0, body)? + 1..));
                self.may_commit_midway |= text.is_none_or(trial::may_commit_midway);
            }
            self.tracker.client(header.tag);
            self.begin_capture(header.tag);
            self.client_left = header.total();
        }
    }

    fn server(&mut self, bytes: &mut [u8], gate: &impl GateAccess) -> Result<ServerScan, Malformed> {
        let mut clear = 0;
        let forward = |clear| Ok(ServerScan { clear, swallow: 0 });
        loop {
            let rest = bytes.get(clear..).unwrap_or_default();
            if self.server_left > 0 {
                let step = self.server_left.min(rest.len());
                self.server_left -= step;
                clear += step;
                if self.server_left > 0 {
                    return forward(clear);
                }
                continue;
            }
            let Some(header) = frame::peek(rest, self.frame_bytes_max)? else {
                return forward(clear);
            };
            let body = rest.get(frame::HEADER_BYTES..header.total());
            if self.ahead.is_some() {
                let Some(body) = body else {
                    return forward(clear);
                };
                if self.hear_ahead(header.tag, body) {
                    return Ok(ServerScan { clear, swallow: header.total() });
                }
            }
            match header.tag {
                reply::CLOSE_COMPLETE if self.probe == Probe::Asked => {
                    self.probe = Probe::Answered;
                    return Ok(ServerScan { clear, swallow: header.total() });
                }
                reply::READY_FOR_QUERY if header.body != READY_BYTES => {
                    return Err(Malformed { what: "ReadyForQuery", at: 1, limit: READY_BYTES });
                }
                reply::READY_FOR_QUERY if self.probe == Probe::Answered => {
                    if body.is_none() {
                        return forward(clear);
                    }
                    self.probe = Probe::None;
                    self.tracker.settle();
                    if self.tracker.at_boundary() {
                        gate.leave();
                    }
                    return Ok(ServerScan { clear, swallow: header.total() });
                }
                reply::READY_FOR_QUERY => {
                    let Some(body) = body else {
                        return forward(clear);
                    };
                    self.tracker.ready(reply::ReadyStatus::parse(body)?);
                    if self.tracker.at_boundary() {
                        gate.leave();
                    }
                }
                reply::PARAMETER_STATUS if header.body <= PARAMETER_BYTES_MAX => {
                    let Some(body) = body else {
                        return forward(clear);
                    };
                    self.remember_parameter(body);
                }
                tag => self.tracker.server(tag),
            }
            self.server_left = header.total();
        }
    }

    fn at_boundary(&self) -> bool {
        self.tracker.at_boundary() && self.client_left == 0 && self.server_left == 0 && self.ahead.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A gate that obeys the test.
    #[derive(Default)]
    struct Fake {
        closed: Cell<bool>,
        inside: Cell<bool>,
    }

    impl GateAccess for Fake {
        fn enter(&self) -> bool {
            self.inside.set(!self.closed.get());
            self.inside.get()
        }

        fn is_open(&self) -> bool {
            !self.closed.get()
        }

        fn is_inside(&self) -> bool {
            self.inside.get()
        }

        fn leave(&self) {
            self.inside.set(false);
        }

        fn is_closing(&self) -> bool {
            false
        }
    }

    fn frames(frames: &[(u8, &[u8])]) -> BytesMut {
        let mut out = BytesMut::new();
        for (tag, body) in frames {
            frame::put(&mut out, *tag, |out| out.extend_from_slice(body));
        }
        out
    }

    fn wire() -> PostgresWire {
        PostgresWire::new(1 << 20, Vec::new(), true)
    }

    fn clear(wire: &mut PostgresWire, gate: &Fake, bytes: &[u8]) -> (usize, NextStep) {
        let seen = wire.client(&mut bytes.to_vec(), gate).expect("whole frames");
        (seen.clear, seen.then)
    }

    #[test]
    fn a_statement_at_a_closed_gate_is_not_cleared() {
        let (mut wire, gate) = (wire(), Fake::default());
        gate.closed.set(true);
        let query = frames(&[(b'Q', b"select 1\0")]);
        assert_eq!(clear(&mut wire, &gate, &query), (0, NextStep::Gate));
        gate.closed.set(false);
        assert_eq!(clear(&mut wire, &gate, &query), (query.len(), NextStep::More));
        assert!(gate.inside.get());
    }

    #[test]
    fn a_transaction_that_has_begun_goes_on_while_the_gate_is_closed() {
        let (mut wire, gate) = (wire(), Fake::default());
        clear(&mut wire, &gate, &frames(&[(b'Q', b"begin\0")]));
        gate.closed.set(true);
        wire.server(&mut frames(&[(b'C', b"BEGIN\0"), (b'Z', b"T")]), &gate).expect("whole frames");
        assert!(gate.inside.get(), "left in the middle of a transaction");
        let commit = frames(&[(b'Q', b"commit\0")]);
        assert_eq!(clear(&mut wire, &gate, &commit), (commit.len(), NextStep::More));
        wire.server(&mut frames(&[(b'C', b"COMMIT\0"), (b'Z', b"I")]), &gate).expect("whole frames");
        assert!(!gate.inside.get(), "still inside after the commit");
        assert_eq!(clear(&mut wire, &gate, &commit), (0, NextStep::Gate));
    }

    #[test]
    fn a_pipeline_runs_together_only_while_the_gate_is_open() {
        let (mut wire, gate) = (wire(), Fake::default());
        let one = frames(&[(b'Q', b"insert\0")]);
        let two = frames(&[(b'Q', b"insert\0"), (b'Q', b"insert\0")]);
        assert_eq!(clear(&mut wire, &gate, &two), (two.len(), NextStep::More));
        gate.closed.set(true);
        assert_eq!(clear(&mut wire, &gate, &one), (0, NextStep::Replies));
        wire.server(&mut frames(&[(b'Z', b"I")]), &gate).expect("whole frames");
        assert_eq!(clear(&mut wire, &gate, &one), (0, NextStep::Replies));
        wire.server(&mut frames(&[(b'Z', b"I")]), &gate).expect("whole frames");
        assert_eq!(clear(&mut wire, &gate, &one), (0, NextStep::Gate));
    }

    #[test]
    fn the_unnamed_statement_is_kept_however_its_bytes_arrive() {
        let parse = frames(&[(b'P', b"\0select $1\0\0\0")]);
        let rest = frames(&[(b'P', b"named\0select 2\0\0\0"), (b'S', b"")]);
        for split in 0..parse.len() {
            let (mut wire, gate) = (wire(), Fake::default());
            let (first, _) = clear(&mut wire, &gate, &parse[..split]);
            clear(&mut wire, &gate, &parse[first..]);
            clear(&mut wire, &gate, &rest);
            assert_eq!(wire.unnamed(), Unnamed::Parse(&parse), "split at {split}");
            clear(&mut wire, &gate, &frames(&[(b'Q', b"select 3\0")]));
            assert_eq!(wire.unnamed(), Unnamed::None);
        }
    }

    #[test]
    fn an_unnamed_statement_that_is_too_large_to_keep_is_known_to_be_there() {
        let (mut wire, gate) = (PostgresWire::new(8 << 20, Vec::new(), true), Fake::default());
        let mut body = vec![0];
        body.resize(2 << 20, b'x');
        clear(&mut wire, &gate, &frames(&[(b'P', &body)]));
        assert_eq!(wire.unnamed(), Unnamed::TooLarge);
    }

    #[test]
    fn what_the_client_was_told_of_parameters_is_remembered() {
        let (mut wire, gate) = (wire(), Fake::default());
        let status = frames(&[(b'S', b"TimeZone\0UTC\0"), (b'S', b"TimeZone\0Asia/Tokyo\0")]);
        for split in 0..status.len() {
            let seen = wire.server(&mut status[..split].to_vec(), &gate).expect("whole frames");
            wire.server(&mut status[seen.clear..].to_vec(), &gate).expect("whole frames");
        }
        let reported = [(Bytes::from_static(b"TimeZone"), Bytes::from_static(b"Asia/Tokyo"))];
        assert_eq!(wire.parameters(), reported);
    }
}
