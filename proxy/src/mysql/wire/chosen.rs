//! The default database: what a client chooses by USE or COM_INIT_DB, known before its server hears of it.

use protocol::mysql::command;
use protocol::mysql::reply::status;

use super::MysqlWire;
use crate::mysql::sql_text;

/// What is known of the default database, and of the choice that stands next.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// The database now; `None` where that is not known.
    now: Option<Vec<u8>>,
    /// What the command that stands next chooses, and whether it does nothing else.
    next: Vec<Vec<u8>>,
    lone: bool,
    /// It was looked at, and may go by.
    passed: bool,
    /// What went by and is not answered yet, and whether the command does nothing else.
    going: Option<(Vec<u8>, bool)>,
}

impl Chosen {
    pub(super) fn begin(database: Option<&str>) -> Self {
        Self { now: Some(database.unwrap_or_default().as_bytes().to_vec()), ..Self::default() }
    }

    pub(super) fn goes_by(&mut self) {
        if self.passed {
            self.passed = false;
            self.going = self.next.pop().map(|last| (last, self.lone));
            self.next.clear();
        }
    }

    pub(super) fn conclude(&mut self, ended: u8, failed: bool) {
        if !matches!(ended, command::QUERY | command::INIT_DB) {
            return;
        }
        match self.going.take() {
            Some((name, _)) if !failed => self.now = Some(name),
            // Of several some may have worked.
            Some((_, false)) => self.now = None,
            Some(_) | None => {}
        }
    }
}

impl MysqlWire {
    /// Whether the command chooses databases, and nobody has looked at that yet.
    pub(super) fn uses(&mut self, command: u8, payload: &[u8]) -> bool {
        if self.chosen.passed {
            return false;
        }
        let (next, lone) = match command {
            command::INIT_DB => (vec![payload.get(1..).unwrap_or_default().to_vec()], true),
            command::QUERY => {
                let text = self.text_of(payload);
                let begins = matches!(sql_text::first(text), Some(b'u' | b'U' | b'/' | b'-' | b'#'));
                let several = |text: &[u8]| {
                    let rest = memchr::memchr(b';', text).and_then(|at| text.get(at + 1..));
                    rest.is_some_and(|rest| !rest.trim_ascii().is_empty())
                };
                if !begins && !several(text) {
                    return false;
                }
                let backslash = self.tracker.status() & status::NO_BACKSLASH_ESCAPES == 0;
                sql_text::uses(text, backslash)
            }
            _ => return false,
        };
        if next.is_empty() {
            return false;
        }
        (self.chosen.next, self.chosen.lone) = (next, lone);
        true
    }

    /// The databases that the command chooses which stands next, and whether it does nothing else.
    pub fn next_databases(&self) -> (&[Vec<u8>], bool) {
        (&self.chosen.next, self.chosen.lone)
    }

    /// The command that chooses databases may go by.
    pub fn let_use_pass(&mut self) {
        self.chosen.passed = true;
    }

    /// The command that chooses databases is looked at once more.
    pub fn look_at_use_again(&mut self) {
        self.chosen.passed = false;
    }

    /// The default database, where it is known; an empty name where there is none.
    pub fn database(&self) -> Option<&[u8]> {
        self.chosen.now.as_deref()
    }
}
