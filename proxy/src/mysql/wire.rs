//! What the hot loop needs to know of MySQL's packets: headers and the first bytes, but for a few exceptions.
//!
//! The exceptions: numbers of prepared statements are exchanged in place, the texts of statements are looked at for
//! what no server tells ([`SessionTracking`]), what is needed to prepare a statement elsewhere is kept, and an OK packet is
//! shortened for a client that did not ask to be told of changes to its session.

mod chosen;
mod own;
#[cfg(test)]
mod tests;

use protocol::error::Malformed;
use protocol::mysql::command;
use protocol::mysql::frame::{self, HEADER_BYTES, Header};
use protocol::mysql::handshake::Capabilities;
use protocol::mysql::reply::{self, Prepared, status};
use protocol::mysql::session::{Expected, HEAD_BYTES, Says, Sent, Session as Tracker, Step};

use super::session_tracking::{Marks, Named, SessionTracking};
use super::statements::{self, Statements, Types};
use crate::relay::{ClientScan, GateAccess, NextStep, ServerScan, Wire};

use chosen::Chosen;
use own::OWN_THREADS;
pub use own::Own;

/// A command up to this size is looked at as a whole; of a longer one only so much.
const LOOK_BYTES_MAX: usize = 16 << 10;

/// An OK packet that must be shortened is never larger than this.
const OKAY_BYTES_MAX: usize = 32 << 10;

/// A statement whose failure takes back what its text taught.
const TAUGHT: u32 = 1;
/// A text of several, of which some may have worked when another one fails.
const TAUGHT_IN_PART: u32 = 2;

/// What becomes of the bytes of the packet that is going by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Keep {
    #[default]
    Nothing,
    /// They are the text of a statement that is being prepared, behind so many others.
    Text(usize),
    /// They are the part of a text that is not looked at, behind so many others.
    Tail(usize),
    /// They are a piece of a parameter of this statement, behind so many others.
    Piece(u32, usize),
}

/// One session's conversation.
#[derive(Debug)]
pub struct MysqlWire {
    tracker: Tracker,
    /// What was agreed with the client.
    client: Capabilities,
    /// What was agreed with the server tells more in its OK packets than the client wants to know.
    strip: bool,
    /// The longest payload of either side, however many packets it takes.
    frame_bytes_max: usize,
    client_left: usize,
    server_left: usize,
    /// Bytes of the payload that is going by, with those of its packets that went by already.
    client_frame: usize,
    server_frame: usize,
    keep: Keep,
    own: Option<Own>,
    /// What was known before the statement that is being executed.
    before: Marks,
    /// The last choice of several statements in one text, where the client made one.
    option: Option<u16>,
    /// The databases that the client chooses.
    chosen: Chosen,
    /// The client's statements.
    pub statements: Statements,
    /// What texts told.
    pub learned: SessionTracking,
}

impl MysqlWire {
    /// A session that is idle behind its login: what was agreed with the client, what with the server, and the status
    /// that the server reported.
    pub fn new(frame_bytes_max: usize, client: Capabilities, server: Capabilities, status: u16) -> Self {
        Self {
            tracker: Tracker::new(u64::from(server.0), status),
            client,
            strip: strips(client, server),
            frame_bytes_max,
            client_left: 0,
            server_left: 0,
            client_frame: 0,
            server_frame: 0,
            keep: Keep::Nothing,
            own: None,
            before: Marks::default(),
            option: None,
            chosen: Chosen::default(),
            statements: Statements::default(),
            learned: SessionTracking::default(),
        }
    }

    /// Another server session goes on where this one stood, with statements of these numbers: the client's, and the
    /// server's.
    pub fn move_to(&mut self, server: Capabilities, statements: &[(u32, u32)], named: Vec<Named>) {
        self.tracker = Tracker::new(u64::from(server.0), self.tracker.status());
        self.strip = strips(self.client, server);
        self.statements.renumber(statements);
        self.learned.move_to(named);
    }

    /// The client logged in anew: nothing is left of what it had.
    pub fn begin_anew(&mut self, server: Capabilities, status: u16, database: Option<&str>) {
        *self = Self::new(self.frame_bytes_max, self.client, server, status);
        self.begin_in(database);
    }

    /// The session begins in this default database.
    pub fn begin_in(&mut self, database: Option<&str>) {
        self.chosen = Chosen::begin(database);
    }

    /// What was agreed with the client.
    pub fn client_capabilities(&self) -> Capabilities {
        self.client
    }

    /// The status that the server reported last.
    pub fn status(&self) -> u16 {
        self.tracker.status()
    }

    /// Whether several statements in one text were turned on or off.
    pub fn option(&self) -> Option<u16> {
        self.option
    }

    /// The command that stands next and that Headgate answers itself.
    pub fn take_own(&mut self) -> Option<Own> {
        self.own.take()
    }

    /// A command of Headgate's own is sent now; its answer is swallowed.
    pub fn ask(&mut self, command: u8) {
        let header = Header { length: 1, sequence: 0 };
        let expected = Expected { command, tag: 0, cursor: false, own: true };
        self.tracker.command(header, expected);
    }

    /// The length of a payload with one more of its packets.
    fn measure(&self, before: usize, header: Header) -> Result<usize, Malformed> {
        let length = before.saturating_add(header.length);
        if length > self.frame_bytes_max {
            return Err(Malformed { what: "packet", at: 0, limit: self.frame_bytes_max });
        }
        Ok(length)
    }

    fn names_attributes(&self) -> bool {
        self.client.has(Capabilities::QUERY_ATTRIBUTES)
    }

    fn admit(&self, command: u8, gate: &impl GateAccess) -> NextStep {
        if self.tracker.is_full() {
            return NextStep::Replies;
        }
        if !command::begins(command) {
            return NextStep::More;
        }
        if self.at_boundary() {
            return if gate.enter() { NextStep::More } else { NextStep::Gate };
        }
        // What is under way may have passed without the gate, as a ping does, and an error in reply to a KILL leaves
        // doubt outside too.
        if !gate.is_inside() {
            return if gate.enter() { NextStep::More } else { NextStep::Replies };
        }
        // What comes before this one decides whether a transaction is open; only with the gate open may they be left
        // to run together.
        let uncertain = self.tracker.expecting() > 0 || self.tracker.in_doubt();
        if uncertain && !gate.is_open() { NextStep::Replies } else { NextStep::More }
    }

    /// A command goes by: numbers are exchanged, and what a handover needs is kept.
    fn forward(&mut self, header: Header, payload: &mut [u8]) {
        let command = payload.first().copied().unwrap_or_default();
        let mut expected = Expected { command, tag: 0, cursor: false, own: false };
        self.keep = Keep::Nothing;
        match command {
            command::QUERY => {
                expected.tag = self.learn(self.text_of(payload));
                if payload.len() < header.length {
                    self.keep = Keep::Tail(payload.len());
                }
            }
            command::INIT_DB => self.learned.choose(payload.get(1..)),
            command::STMT_PREPARE => {
                let backslash = self.tracker.status() & status::NO_BACKSLASH_ESCAPES == 0;
                let text = payload.get(1..).unwrap_or_default();
                let effect = self.learned.foresee(text, backslash);
                self.learned.pass_over_beyond(header.length > payload.len());
                self.statements.begin(effect, self.learned.database());
                self.keep = Keep::Text(1);
            }
            command::STMT_EXECUTE
            | command::STMT_BULK_EXECUTE
            | command::STMT_FETCH
            | command::STMT_RESET
            | command::STMT_CLOSE
            | command::STMT_SEND_LONG_DATA => {
                expected.tag = self.forward_statement(command, payload);
                expected.cursor = command == command::STMT_EXECUTE && asks_for_cursor(payload);
            }
            command::SET_OPTION => {
                if let Some(&[low, high]) = payload.get(1..3) {
                    expected.tag = u32::from(u16::from_le_bytes([low, high]));
                }
            }
            _ => {}
        }
        self.chosen.goes_by();
        self.tracker.command(header, expected);
        self.client_left = header.length;
    }

    fn tell_hidden_writes(&mut self, gate: &impl GateAccess) {
        if let Some(what) = self.learned.hides_writes.take() {
            gate.hides_writes(what);
        }
    }

    /// The text of a statement goes by. Answers what it taught.
    fn learn(&mut self, text: &[u8]) -> u32 {
        self.before = self.learned.marks;
        let backslash = self.tracker.status() & status::NO_BACKSLASH_ESCAPES == 0;
        let several = self.learned.learn(text, backslash);
        if self.before == self.learned.marks {
            return 0;
        }
        // Behind others that are under way it is not known what was true before.
        if several || self.tracker.expecting() > 0 { TAUGHT_IN_PART } else { TAUGHT }
    }

    /// A command that names a prepared statement. Answers the client's number for it.
    fn forward_statement(&mut self, command: u8, payload: &mut [u8]) -> u32 {
        let Some(named) = number_at(payload, 1) else {
            return statements::NOBODY;
        };
        if named == command::LAST_PREPARED && self.statements.is_preparing() {
            // The server knows by then whom the client means.
            if command == command::STMT_EXECUTE {
                self.learned.marks = self.statements.effect_of_last().on(self.learned.marks);
                self.statements.execute_last(payload);
            } else if command == command::STMT_SEND_LONG_DATA {
                self.statements.lose_pieces_of_last();
            }
            return statements::NOBODY;
        }
        let client = self.statements.resolve(named).unwrap_or(statements::NOBODY);
        if command == command::STMT_EXECUTE {
            self.learned.doubt_pending();
            self.learned.marks = self.statements.effect(client).on(self.learned.marks);
            self.remember_types(client, payload);
        }
        let server = self.statements.server(client);
        if let Some(place) = payload.get_mut(1..5) {
            place.copy_from_slice(&server.to_le_bytes());
        }
        match command {
            command::STMT_CLOSE => self.statements.close(client),
            command::STMT_SEND_LONG_DATA => {
                let parameter = number_at(payload, 3).map_or(0, |number| number >> 16);
                let parameter = u16::try_from(parameter).unwrap_or_default();
                self.statements.begin_piece(client, parameter);
                self.keep = Keep::Piece(client, 7);
            }
            command::STMT_FETCH => {}
            _ => self.statements.renew(client),
        }
        client
    }

    fn remember_types(&mut self, client: u32, payload: &[u8]) {
        let named = self.names_attributes();
        let Some(statement) = self.statements.get_mut(client) else {
            return;
        };
        let binding = statements::binding(payload, statement.parameters, named);
        let Some(binding) = binding else {
            if statement.parameters > 0 {
                statement.types = Types::Unknown;
            }
            return;
        };
        let Some(end) = binding.types_end else {
            return;
        };
        let block = payload.get(binding.flag_at + 1..end).unwrap_or_default();
        statement.stale = false;
        match &mut statement.types {
            Types::Known(count, known) if *count == binding.count && known == block => {}
            types => *types = Types::Known(binding.count, block.to_vec()),
        }
    }

    /// More of a client's packet goes by.
    fn go_on(&mut self, bytes: &[u8]) {
        let behind = |skip: &mut usize| {
            let now = (*skip).min(bytes.len());
            *skip -= now;
            &bytes[now..]
        };
        match &mut self.keep {
            Keep::Nothing => {}
            Keep::Text(skip) => self.statements.go_on(behind(skip)),
            Keep::Tail(skip) => self.learned.pass_over(behind(skip)),
            Keep::Piece(client, skip) => self.statements.go_on_piece(*client, behind(skip)),
        }
    }

    /// The reply to a command is complete.
    fn conclude(&mut self, ended: Expected, says: Says) {
        let failed = says == Says::Error;
        let status = self.tracker.status();
        self.chosen.conclude(ended.command, failed);
        if failed {
            self.learned.doubt_pending();
        }
        match ended.command {
            command::QUERY if failed && ended.tag == TAUGHT && self.tracker.expecting() == 0 => {
                self.learned.marks = self.before;
            }
            command::QUERY if failed && ended.tag != 0 => {
                self.learned.marks = self.learned.marks.or(self.before);
            }
            command::STMT_PREPARE if failed => self.statements.refused(),
            command::INIT_DB if failed => self.learned.choose(None),
            command::STMT_EXECUTE if !failed && ended.cursor => {
                if let Some(statement) = self.statements.get_mut(ended.tag) {
                    statement.cursor = status & status::CURSOR_EXISTS != 0;
                }
            }
            command::STMT_FETCH if !failed && status & status::LAST_ROW_SENT != 0 => {
                if let Some(statement) = self.statements.get_mut(ended.tag) {
                    statement.cursor = false;
                }
            }
            command::SET_OPTION if !failed => self.option = u16::try_from(ended.tag).ok(),
            command::RESET_CONNECTION if !failed => {
                self.statements.clear();
                self.learned = SessionTracking::default();
            }
            _ => {}
        }
    }
}

/// Whether the server tells the client more than it asked for.
fn strips(client: Capabilities, server: Capabilities) -> bool {
    server.has(Capabilities::SESSION_TRACK) && !client.has(Capabilities::SESSION_TRACK)
}

/// Whether an execution asks for a cursor, of whatever kind.
fn asks_for_cursor(payload: &[u8]) -> bool {
    payload.get(5).is_some_and(|&flags| flags & 7 != 0)
}

/// The four bytes at `at` as a number.
fn number_at(payload: &[u8], at: usize) -> Option<u32> {
    let bytes = payload.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

impl Wire for MysqlWire {
    fn client(&mut self, bytes: &mut [u8], gate: &impl GateAccess) -> Result<ClientScan, Malformed> {
        let mut clear = 0;
        let stop = |clear, then| Ok(ClientScan { clear, then });
        loop {
            let rest = bytes.get_mut(clear..).unwrap_or_default();
            if self.client_left > 0 {
                let step = self.client_left.min(rest.len());
                self.client_left -= step;
                if self.keep != Keep::Nothing {
                    self.go_on(&rest[..step]);
                    self.tell_hidden_writes(gate);
                }
                clear += step;
                if self.client_left > 0 {
                    return stop(clear, NextStep::More);
                }
                // The last reply may have come in the middle of a packet that is answered with nothing.
                if gate.is_inside() && self.at_boundary() {
                    gate.leave();
                }
                continue;
            }
            let Some(header) = frame::peek(rest) else {
                return stop(clear, NextStep::More);
            };
            let sent = self.tracker.sent();
            let before = if sent == Sent::Continuation { self.client_frame } else { 0 };
            self.client_frame = self.measure(before, header)?;
            if sent != Sent::Command {
                if sent == Sent::File {
                    self.keep = Keep::Nothing;
                }
                self.tracker.more(header);
                self.client_left = header.length;
                clear += HEADER_BYTES;
                continue;
            }
            if header.length == 0 {
                return Err(Malformed { what: "command", at: HEADER_BYTES, limit: 0 });
            }
            let shown = rest.len().min(header.total());
            let payload = &mut rest[HEADER_BYTES..shown];
            if payload.len() < header.length.min(LOOK_BYTES_MAX) {
                return stop(clear, NextStep::More);
            }
            let command = payload[0];
            let whole = payload.len() == header.length;
            let kill = self.kill(command, payload, whole);
            // A KILL begins nothing, and what it is meant for may be held itself.
            if kill.is_none() {
                let then = self.admit(command, gate);
                if then != NextStep::More {
                    return stop(clear, then);
                }
            }
            self.own = match kill {
                Some((ends, number)) => (number >= OWN_THREADS).then_some(Own::Kill(ends, number)),
                None => self.own(command, payload).or_else(|| self.uses(command, payload).then_some(Own::Use)),
            };
            if self.own.is_some() {
                return stop(clear, NextStep::Own);
            }
            self.forward(header, payload);
            self.tell_hidden_writes(gate);
            clear += HEADER_BYTES;
        }
    }

    fn server(&mut self, bytes: &mut [u8], gate: &impl GateAccess) -> Result<ServerScan, Malformed> {
        let mut clear = 0;
        let forward = |clear| Ok(ServerScan { clear, swallow: 0 });
        loop {
            let rest = bytes.get_mut(clear..).unwrap_or_default();
            if self.server_left > 0 {
                let step = self.server_left.min(rest.len());
                self.server_left -= step;
                clear += step;
                if self.server_left > 0 {
                    return forward(clear);
                }
                continue;
            }
            let Some(header) = frame::peek(rest) else {
                return forward(clear);
            };
            let shown = rest.len().min(header.total());
            let payload = &mut rest[HEADER_BYTES..shown];
            if payload.len() < header.length.min(HEAD_BYTES) {
                return forward(clear);
            }
            let before = if self.tracker.server_continues() { self.server_frame } else { 0 };
            let frame = self.measure(before, header)?;
            let own = self.tracker.front().is_some_and(|front| front.own);
            let shortened = self.strip && self.tracker.is_okay(header, payload);
            if (own || shortened) && payload.len() < header.length {
                if header.length > OKAY_BYTES_MAX {
                    return Err(Malformed { what: "OK packet", at: 0, limit: OKAY_BYTES_MAX });
                }
                return forward(clear);
            }
            self.server_frame = frame;
            let Step { says, ended } = self.tracker.server(header, payload)?;
            if let Says::Prepared(prepared) = says {
                let (client, execution) = self.statements.prepared(prepared);
                if let Some(execution) = execution {
                    self.remember_types(client, &execution);
                }
                let at = Prepared::STATEMENT_AT;
                if let Some(place) = payload.get_mut(at..at + 4) {
                    place.copy_from_slice(&client.to_le_bytes());
                }
            }
            if let Some(ended) = ended {
                self.conclude(ended, says);
            }
            let mut left = header.total();
            let mut swallow = 0;
            if own {
                left = 0;
                swallow = header.total();
            } else if shortened {
                let length = reply::strip_changes(payload)?;
                left = length + HEADER_BYTES;
                swallow = header.length - length;
                let [low, middle, high, _] = u32::try_from(length).unwrap_or_default().to_le_bytes();
                rest[..3].copy_from_slice(&[low, middle, high]);
            }
            if ended.is_some() && self.at_boundary() {
                gate.leave();
            }
            if swallow > 0 {
                return Ok(ServerScan { clear: clear + left, swallow });
            }
            self.server_left = left;
        }
    }

    fn at_boundary(&self) -> bool {
        self.tracker.at_boundary()
            && self.client_left == 0
            && self.server_left == 0
            && !self.learned.marks.inside.locked
    }

    fn is_answered(&self) -> bool {
        self.tracker.is_answered() && self.client_left == 0 && self.server_left == 0
    }

    fn in_doubt(&self) -> bool {
        self.tracker.in_doubt() && self.is_answered()
    }
}
