//! What the hot loop needs to know of PostgreSQL's frames: headers only, but for three small exceptions.
//!
//! The exceptions: the status byte of ReadyForQuery; ParameterStatus, because after a handover the client must be
//! told what changed; and the last unnamed Parse, because no server view lists it and a client may bind it again.

use bytes::Bytes;
use protocol::error::Malformed;
use protocol::postgres::session::{Begins, Session as Tracker};
use protocol::postgres::{command, frame, reply};

use crate::relay::{Entrance, Seen, Then, Wire};

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
    spare: Vec<u8>,
    parameters: Vec<(Bytes, Bytes)>,
    gated: bool,
}

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
            spare: Vec::new(),
            parameters,
            gated,
        }
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

    fn admit(&self, tag: u8, gate: &impl Entrance) -> Then {
        if self.tracker.is_full() {
            return Then::Replies;
        }
        if !self.gated || self.tracker.in_batch() || Tracker::begins(tag) != Begins::Batch {
            return Then::More;
        }
        if self.tracker.at_boundary() {
            return if gate.enter() { Then::More } else { Then::Gate };
        }
        // The batches before this one decide whether a transaction is open; only with the gate open may they be
        // left to run together.
        if self.tracker.expecting() > 0 && !gate.is_open() {
            Then::Replies
        } else {
            Then::More
        }
    }

    fn begin_capture(&mut self, tag: u8) {
        match tag {
            command::PARSE => {
                let mut scratch = std::mem::take(&mut self.spare);
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
        if scratch.len().saturating_add(bytes.len()) > UNNAMED_BYTES_MAX {
            // The name is known by now: it is the first thing in the body.
            self.unnamed_too_large |= scratch.get(frame::HEADER_BYTES) == Some(&0);
            self.spare = self.capture.take().unwrap_or_default();
            return;
        }
        scratch.extend_from_slice(bytes);
        let named = scratch
            .get(frame::HEADER_BYTES)
            .is_some_and(|&first| first != 0);
        if named {
            self.spare = self.capture.take().unwrap_or_default();
        } else if frame_left == 0 {
            let whole = self.capture.take().unwrap_or_default();
            self.spare = std::mem::replace(&mut self.unnamed, whole);
            self.unnamed_too_large = false;
        }
    }

    fn remember_parameter(&mut self, body: &[u8]) {
        let Ok(status) = reply::ParameterStatus::parse(Bytes::copy_from_slice(body)) else {
            return;
        };
        match self
            .parameters
            .iter_mut()
            .find(|(name, _)| *name == status.name)
        {
            Some((_, value)) => *value = status.value,
            None => self.parameters.push((status.name, status.value)),
        }
    }
}

impl Wire for PostgresWire {
    fn client(&mut self, bytes: &[u8], gate: &impl Entrance) -> Result<Seen, Malformed> {
        let mut clear = 0;
        loop {
            let rest = bytes.get(clear..).unwrap_or_default();
            if self.client_left > 0 {
                let step = self.client_left.min(rest.len());
                self.client_left -= step;
                if self.capture.is_some() {
                    self.go_on_capture(&rest[..step], self.client_left);
                }
                clear += step;
                if self.client_left > 0 {
                    return Ok(Seen {
                        clear,
                        then: Then::More,
                    });
                }
                continue;
            }
            let Some(header) = frame::peek(rest, self.frame_bytes_max)? else {
                return Ok(Seen {
                    clear,
                    then: Then::More,
                });
            };
            let then = self.admit(header.tag, gate);
            if then != Then::More {
                return Ok(Seen { clear, then });
            }
            self.tracker.client(header.tag);
            self.begin_capture(header.tag);
            self.client_left = header.total();
        }
    }

    fn server(&mut self, bytes: &[u8], gate: &impl Entrance) -> Result<usize, Malformed> {
        let mut clear = 0;
        loop {
            let rest = bytes.get(clear..).unwrap_or_default();
            if self.server_left > 0 {
                let step = self.server_left.min(rest.len());
                self.server_left -= step;
                clear += step;
                if self.server_left > 0 {
                    return Ok(clear);
                }
                continue;
            }
            let Some(header) = frame::peek(rest, self.frame_bytes_max)? else {
                return Ok(clear);
            };
            let body = rest.get(frame::HEADER_BYTES..header.total());
            match header.tag {
                reply::READY_FOR_QUERY => {
                    let Some(body) = body else { return Ok(clear) };
                    self.tracker.ready(reply::ReadyStatus::parse(body)?);
                    if self.tracker.at_boundary() {
                        gate.leave();
                    }
                }
                reply::PARAMETER_STATUS if header.body <= PARAMETER_BYTES_MAX => {
                    let Some(body) = body else { return Ok(clear) };
                    self.remember_parameter(body);
                }
                tag => self.tracker.server(tag),
            }
            self.server_left = header.total();
        }
    }

    fn at_boundary(&self) -> bool {
        self.tracker.at_boundary() && self.client_left == 0 && self.server_left == 0
    }
}
