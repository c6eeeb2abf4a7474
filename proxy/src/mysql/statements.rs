//! The prepared statements of one session: what the client calls them, what its server calls them, and what is needed
//! to prepare them elsewhere.
//!
//! A client keeps the numbers that it was told, while every server counts for itself: numbers are those of the server
//! that prepared the statement first, and exchanged for the present server's.

use std::collections::{BTreeMap, VecDeque};

use protocol::mysql::command;
use protocol::mysql::lenenc::Fields;
use protocol::mysql::reply::Prepared;

use super::session_tracking::Effect;

/// The longest statement that is kept, and the bytes of all texts of a session together.
const TEXT_BYTES_MAX: usize = 1 << 20;
const TEXTS_BYTES_MAX: usize = 16 << 20;

/// The bytes of parameters sent in pieces that are kept for a session.
const PIECES_BYTES_MAX: usize = 4 << 20;

/// What a piece counts for beside its own bytes.
const PIECE_BYTES: usize = 32;

/// A number that no server gives to a statement: it has no such statement, or does not prepare it.
pub const NOBODY: u32 = 0;

/// What MariaDB prepares and MySQL only takes as text. All are answered alike in both ways: with one OK packet.
const WORDS_OF_CONTROL: [&[u8]; 8] =
    [b"begin", b"start", b"commit", b"rollback", b"savepoint", b"release", b"lock", b"unlock"];

/// The parameters' types of the last execution, which count until a client sends others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Types {
    /// None were sent.
    #[default]
    None,
    /// For so many parameters, as they came.
    Known(u64, Vec<u8>),
    /// They were too many to keep.
    Unknown,
}

/// One prepared statement.
#[derive(Clone, Debug, Default)]
pub struct Statement {
    /// The present server's number for it.
    pub server: u32,
    /// Its text; `None` where it was too long to keep.
    pub text: Option<Vec<u8>>,
    /// How many parameters it has.
    pub parameters: u16,
    /// Their types.
    pub types: Types,
    /// The present server has not been told the types.
    pub stale: bool,
    /// Pieces of parameters for the next execution: the parameter's number, and the bytes.
    pub pieces: Vec<(u16, Vec<u8>)>,
    /// Pieces of parameters were too large to keep.
    pub pieces_lost: bool,
    /// A cursor is open.
    pub cursor: bool,
    /// What an execution does to the session.
    pub effect: Effect,
    /// The default database that it was prepared in, by its number.
    pub database: u32,
}

/// A statement that the server has not answered yet.
#[derive(Debug, Default)]
struct Preparing {
    text: Option<Vec<u8>>,
    effect: Effect,
    database: u32,
    /// The start of the last execution that was sent without waiting for the answer.
    execution: Option<Vec<u8>>,
    pieces_lost: bool,
}

/// So much of an execution is kept until the number of its parameters is known.
const EXECUTION_BYTES_MAX: usize = 4 << 10;

impl Statement {
    /// Its text, if a server that does not prepare it answers the text as it would answer the execution.
    pub fn as_control(&self) -> Option<&[u8]> {
        let text = self.text.as_deref().filter(|_| self.parameters == 0)?;
        let mut words = text.split(|byte| !byte.is_ascii_alphabetic()).skip_while(|word| word.is_empty());
        let first = words.next()?;
        let blank = text.len() - text.trim_ascii_start().len();
        (text.get(blank..)?.starts_with(first) && WORDS_OF_CONTROL.iter().any(|word| first.eq_ignore_ascii_case(word)))
            .then_some(text)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Statements {
    known: BTreeMap<u32, Statement>,
    preparing: VecDeque<Preparing>,
    last: Option<u32>,
    text_bytes: usize,
    pieces_bytes: usize,
}

impl Statements {
    /// A statement's text begins to go by.
    pub fn begin(&mut self, effect: Effect, database: u32) {
        self.preparing.push_back(Preparing { text: Some(Vec::new()), effect, database, ..Preparing::default() });
    }

    /// What an execution of the statement that is being prepared last does.
    pub fn effect_of_last(&self) -> Effect {
        self.preparing.back().map(|last| last.effect).unwrap_or_default()
    }

    /// What an execution of the client's statement does.
    pub fn effect(&self, client: u32) -> Effect {
        self.known.get(&client).map(|known| known.effect).unwrap_or_default()
    }

    /// The statement that is being prepared last is executed already.
    pub fn execute_last(&mut self, payload: &[u8]) {
        if let Some(last) = self.preparing.back_mut() {
            let head = payload.get(..EXECUTION_BYTES_MAX).unwrap_or(payload);
            last.execution = Some(head.to_vec());
            last.pieces_lost = false;
        }
    }

    /// A piece of a parameter of it is sent already, and not kept.
    pub fn lose_pieces_of_last(&mut self) {
        if let Some(last) = self.preparing.back_mut() {
            last.pieces_lost = true;
        }
    }

    /// More of it.
    pub fn go_on(&mut self, bytes: &[u8]) {
        let room = TEXTS_BYTES_MAX.saturating_sub(self.text_bytes).min(TEXT_BYTES_MAX);
        if let Some(Preparing { text, .. }) = self.preparing.back_mut() {
            if text.as_ref().is_some_and(|text| text.len() + bytes.len() > room) {
                *text = None;
            }
            if let Some(text) = text {
                text.extend_from_slice(bytes);
            }
        }
    }

    /// The server prepared the oldest one that it was sent. Answers what the client is to call it, and the start of
    /// its last execution, where there was one already.
    pub fn prepared(&mut self, prepared: Prepared) -> (u32, Option<Vec<u8>>) {
        let Preparing { text, effect, database, execution, pieces_lost } =
            self.preparing.pop_front().unwrap_or_default();
        self.text_bytes += text.as_ref().map_or(0, Vec::len);
        // The server's own, so that nothing differs as long as the session has not moved. Two numbers mean something
        // else, and one that is in use is not given again.
        let mut given = prepared.statement;
        while matches!(given, NOBODY | command::LAST_PREPARED) || self.known.contains_key(&given) {
            given = given.wrapping_add(1);
        }
        self.last = Some(given);
        let statement = Statement {
            server: prepared.statement,
            text,
            parameters: prepared.parameters,
            pieces_lost,
            effect,
            database,
            ..Statement::default()
        };
        self.known.insert(given, statement);
        (given, execution)
    }

    /// The server refused the oldest one that it was sent, or the proxy did not send it.
    pub fn refused(&mut self) {
        self.preparing.pop_front();
        self.last = None;
    }

    /// Whom the client means by `number`. The answer to the last PREPARE must be there.
    pub fn resolve(&self, number: u32) -> Option<u32> {
        if number != command::LAST_PREPARED {
            return Some(number);
        }
        self.last
    }

    /// Whether a PREPARE is not answered yet.
    pub fn is_preparing(&self) -> bool {
        !self.preparing.is_empty()
    }

    /// The statement that the client calls so.
    pub fn get_mut(&mut self, client: u32) -> Option<&mut Statement> {
        self.known.get_mut(&client)
    }

    /// The statement that the client calls so.
    pub fn get(&self, client: u32) -> Option<&Statement> {
        self.known.get(&client)
    }

    /// All of them, by the client's number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Statement)> {
        self.known.iter().map(|(&number, statement)| (number, statement))
    }

    /// What the present server calls it. A number that the client was not given goes on as it is, so that the server
    /// answers it in its own words, but never as another statement, nor as one that is being prepared and whose number
    /// the client can only guess: that is [`NOBODY`].
    pub fn server(&self, client: u32) -> u32 {
        match self.known.get(&client) {
            Some(known) => known.server,
            None if self.is_preparing() => NOBODY,
            None if self.known.values().any(|known| known.server == client) => NOBODY,
            None => client,
        }
    }

    /// The client closed it.
    pub fn close(&mut self, client: u32) {
        if let Some(statement) = self.known.remove(&client) {
            self.text_bytes -= statement.text.as_ref().map_or(0, Vec::len);
            self.pieces_bytes -= statement.pieces.iter().map(|(_, piece)| piece.len() + PIECE_BYTES).sum::<usize>();
        }
    }

    /// A piece of a parameter begins to go by.
    pub fn begin_piece(&mut self, client: u32, parameter: u16) {
        let Some(statement) = self.known.get_mut(&client) else {
            return;
        };
        // The server puts the pieces of one parameter together in the same way.
        if statement.pieces.last().is_some_and(|&(last, _)| last == parameter) {
            return;
        }
        if self.pieces_bytes + PIECE_BYTES > PIECES_BYTES_MAX {
            statement.pieces_lost = true;
            return;
        }
        self.pieces_bytes += PIECE_BYTES;
        statement.pieces.push((parameter, Vec::new()));
    }

    /// More of it.
    pub fn go_on_piece(&mut self, client: u32, bytes: &[u8]) {
        let Some(statement) = self.known.get_mut(&client) else {
            return;
        };
        statement.pieces_lost |= self.pieces_bytes + bytes.len() > PIECES_BYTES_MAX;
        if !statement.pieces_lost
            && let Some((_, piece)) = statement.pieces.last_mut()
        {
            piece.extend_from_slice(bytes);
            self.pieces_bytes += bytes.len();
        }
    }

    /// It is executed or reset: pieces and cursor are gone.
    pub fn renew(&mut self, client: u32) {
        if let Some(statement) = self.known.get_mut(&client) {
            statement.cursor = false;
            statement.pieces_lost = false;
            for (_, piece) in statement.pieces.drain(..) {
                self.pieces_bytes -= piece.len() + PIECE_BYTES;
            }
        }
    }

    /// Whether pieces of parameters were too large to keep.
    pub fn has_lost_pieces(&self) -> bool {
        self.known.values().any(|known| known.pieces_lost)
    }

    /// Another server calls them so, and knows none of their parameters' types.
    pub fn renumber(&mut self, numbers: &[(u32, u32)]) {
        for &(client, server) in numbers {
            if let Some(statement) = self.known.get_mut(&client) {
                statement.server = server;
                statement.stale = statement.types != Types::None;
            }
        }
    }

    /// The session is as it was behind its login.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Where the types of an execution stand in its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The byte that says whether types follow.
    pub flag_at: usize,
    /// Parameters and attributes.
    pub count: u64,
    /// The end of the types, where they are sent.
    pub types_end: Option<usize>,
}

/// The statement's flag that says that the number of parameters stands in the packet.
const COUNT_AVAILABLE: u8 = 8;

/// Finds the types in the start of an execution's payload; `None` where there are no parameters or too little is
/// shown. `named` where statements may carry attributes.
pub fn binding(payload: &[u8], parameters: u16, named: bool) -> Option<Binding> {
    let mut fields = Fields::new("execution", payload);
    fields.take(5).ok()?;
    let flags = fields.u8().ok()?;
    fields.u32().ok()?;
    let mut count = u64::from(parameters);
    if named && flags & COUNT_AVAILABLE != 0 {
        count = fields.count().ok()?;
    }
    if count == 0 {
        return None;
    }
    fields.take(usize::try_from(count.div_ceil(8)).ok()?).ok()?;
    let flag_at = fields.at();
    if fields.u8().ok()? == 0 {
        return Some(Binding { flag_at, count, types_end: None });
    }
    for _ in 0..count {
        fields.u16().ok()?;
        if named {
            fields.string().ok()?;
        }
    }
    Some(Binding { flag_at, count, types_end: Some(fields.at()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_with_and_without_attributes() {
        let mut plain = vec![0x17, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0b10, 1];
        plain.extend_from_slice(&[8, 0, 253, 0, 7, 7]);
        let found = Binding { flag_at: 11, count: 2, types_end: Some(16) };
        assert_eq!(binding(&plain, 2, false), Some(found));
        assert_eq!(binding(&plain[..15], 2, false), None);
        assert_eq!(binding(&plain, 0, false), None);
        let mut named = vec![0x17, 1, 0, 0, 0, COUNT_AVAILABLE, 1, 0, 0, 0, 2, 0, 1];
        named.extend_from_slice(&[8, 0, 0, 253, 0, 1, b'a', 9]);
        let found = Binding { flag_at: 12, count: 2, types_end: Some(20) };
        assert_eq!(binding(&named, 1, true), Some(found));
        plain[11] = 0;
        assert_eq!(binding(&plain, 2, false).map(|found| found.types_end), Some(None));
    }

    #[test]
    fn only_what_is_answered_alike_as_text_may_stay_unprepared() {
        let of = |text: &[u8], parameters| Statement { text: Some(text.to_vec()), parameters, ..Statement::default() };
        assert!(of(b"BEGIN", 0).as_control().is_some());
        assert!(of(b" start transaction", 0).as_control().is_some());
        for text in [&b"select 1"[..], b"beginning", b"/* x */ begin", b"check table t", b"'begin'", b""] {
            assert!(of(text, 0).as_control().is_none());
        }
        assert!(of(b"begin", 1).as_control().is_none());
    }

    #[test]
    fn numbers_in_use_are_not_given_again_and_unknown_ones_never_mean_another_statement() {
        let mut statements = Statements::default();
        let prepare = |statements: &mut Statements| {
            statements.begin(Effect::default(), 0);
            statements.go_on(b"select ?");
            let prepared = Prepared { statement: 1, columns: 1, parameters: 1 };
            statements.prepared(prepared).0
        };
        let (first, second) = (prepare(&mut statements), prepare(&mut statements));
        assert_ne!(first, second);
        statements.renumber(&[(first, 9)]);
        assert_eq!(statements.server(first), 9);
        statements.close(first);
        assert_eq!(statements.server(first), NOBODY, "the second is called so");
        assert_eq!(statements.server(77), 77);
        assert_eq!(statements.resolve(command::LAST_PREPARED), Some(second));
        statements.begin(Effect::default(), 0);
        statements.refused();
        assert_eq!(statements.resolve(command::LAST_PREPARED), None);
    }
}
