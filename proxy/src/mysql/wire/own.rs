//! Commands that Headgate answers itself or puts in other words: how they are recognised, and what is sent instead.

use bytes::{BufMut, BytesMut};
use protocol::mysql::command;
use protocol::mysql::frame::{self, HEADER_BYTES, Header};
use protocol::mysql::lenenc::Fields;
use protocol::mysql::session::Expected;

use super::{Keep, MysqlWire, asks_for_cursor, number_at};
use crate::mysql::sql_text::{self, KillScope};
use crate::mysql::statements::{self, Types};

/// Numbers of connections from here on are Headgate's own.
pub(super) const OWN_THREADS: u64 = 1 << 30;

/// A command that Headgate answers itself or puts in other words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// A client ends another session of Headgate, or what it runs.
    Kill(KillScope, u64),
    /// The client logs in anew.
    ChangeUser,
    /// The client chooses another default database.
    Use,
    /// An execution that relies on types of parameters which the present server was not told, or on a statement that
    /// it does not prepare.
    Splice(u32),
    /// A command of replication.
    Replication,
    /// A command that nobody knows.
    Unknown,
    /// An execution of the statement that was prepared last, and there is none.
    NoStatement,
}

impl MysqlWire {
    /// The client's command, whole, is sent as `command` in other words.
    pub fn send_instead(&mut self, command: u8) {
        self.begin_own(command, 0, false, 0);
    }

    /// The execution that stands at the start of `held`, with the types of parameters that its client does not send
    /// again: the bytes to be sent in place of the first so many held ones. The rest of it goes by as it is. `None`
    /// where it grows too long for its packet.
    pub fn splice(&mut self, client: u32, held: &[u8]) -> Option<(BytesMut, usize)> {
        let header = frame::peek(held)?;
        let payload = held.get(HEADER_BYTES..)?;
        let named = self.names_attributes();
        if self.statements.server(client) == statements::NOBODY {
            return self.as_text(client, header, payload);
        }
        let statement = self.statements.get_mut(client)?;
        let binding = statements::binding(payload, statement.parameters, named)?;
        let Types::Known(count, types) = &statement.types else {
            return None;
        };
        let length = header.length + types.len();
        if *count != binding.count || length >= frame::SPLIT_BYTES {
            return None;
        }
        let mut out = BytesMut::new();
        out.put_uint_le(length as u64, 3);
        out.put_u8(header.sequence);
        out.put_u8(command::STMT_EXECUTE);
        out.put_u32_le(statement.server);
        out.extend_from_slice(payload.get(5..binding.flag_at)?);
        out.put_u8(1);
        out.extend_from_slice(types);
        statement.stale = false;
        let effect = statement.effect;
        let consumed = binding.flag_at + 1;
        let cursor = asks_for_cursor(payload);
        self.learned.doubt_pending();
        self.learned.marks = effect.on(self.learned.marks);
        self.statements.renew(client);
        self.begin_own(command::STMT_EXECUTE, client, cursor, header.length - consumed);
        Some((out, HEADER_BYTES + consumed))
    }

    /// The text of a statement that the present server does not prepare, in place of its whole execution.
    fn as_text(&mut self, client: u32, header: Header, payload: &[u8]) -> Option<(BytesMut, usize)> {
        let text = self.statements.get(client)?.as_control()?;
        // With attributes agreed on, their number stands before the text.
        let none: &[u8] = if self.names_attributes() { &[0, 1] } else { &[] };
        let length = 1 + none.len() + text.len();
        if payload.len() < header.length || length >= frame::SPLIT_BYTES {
            return None;
        }
        let mut out = BytesMut::new();
        out.put_uint_le(length as u64, 3);
        out.put_u8(header.sequence);
        out.put_u8(command::QUERY);
        out.extend_from_slice(none);
        out.extend_from_slice(text);
        let text_at = HEADER_BYTES + 1 + none.len();
        let taught = self.learn(out.get(text_at..)?);
        self.begin_own(command::QUERY, taught, false, 0);
        Some((out, header.total()))
    }

    fn begin_own(&mut self, command: u8, tag: u32, cursor: bool, left: usize) {
        let header = Header { length: 1, sequence: 0 };
        let expected = Expected { command, tag, cursor, own: false };
        self.tracker.command(header, expected);
        self.client_left = left;
        self.keep = Keep::Nothing;
    }

    /// What a KILL names, where the command is one.
    pub(super) fn kill(&self, command: u8, payload: &[u8], whole: bool) -> Option<(KillScope, u64)> {
        match command {
            command::PROCESS_KILL => Some((KillScope::Connection, u64::from(number_at(payload, 1)?))),
            command::QUERY if whole => {
                let text = self.text_of(payload);
                if !matches!(sql_text::first(text), Some(b'k' | b'K' | b'/' | b'-' | b'#')) {
                    return None;
                }
                sql_text::kill(text)
            }
            _ => None,
        }
    }

    /// Whether the command is one for Headgate itself.
    pub(super) fn own(&self, command: u8, payload: &[u8]) -> Option<Own> {
        match command {
            command::CHANGE_USER => Some(Own::ChangeUser),
            command::STMT_EXECUTE => {
                let named = number_at(payload, 1)?;
                if named == command::LAST_PREPARED && self.statements.is_preparing() {
                    return None;
                }
                let Some(client) = self.statements.resolve(named) else {
                    return Some(Own::NoStatement);
                };
                let statement = self.statements.get(client)?;
                if statement.server == statements::NOBODY {
                    return Some(Own::Splice(client));
                }
                if !statement.stale {
                    return None;
                }
                let binding = statements::binding(payload, statement.parameters, self.names_attributes())?;
                binding.types_end.is_none().then_some(Own::Splice(client))
            }
            _ if command::replicates(command) => Some(Own::Replication),
            _ if command::shape(command).is_none() => Some(Own::Unknown),
            _ => None,
        }
    }

    /// The text of a COM_QUERY, behind its attributes.
    pub(in crate::mysql) fn text_of<'a>(&self, payload: &'a [u8]) -> &'a [u8] {
        let plain = payload.get(1..).unwrap_or_default();
        if !self.names_attributes() {
            return plain;
        }
        query_behind_attributes(payload).unwrap_or_default()
    }
}

/// The text behind the attributes of a COM_QUERY; `None` where too little is shown.
fn query_behind_attributes(payload: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields::new("query", payload);
    fields.u8().ok()?;
    let count = fields.count().ok()?;
    fields.count().ok()?;
    if count == 0 {
        return Some(fields.rest());
    }
    let nulls = fields.take(usize::try_from(count.div_ceil(8)).ok()?).ok()?;
    fields.u8().ok()?;
    let mut kinds = Vec::new();
    for _ in 0..count {
        kinds.push(fields.u16().ok()?.to_le_bytes()[0]);
        fields.string().ok()?;
    }
    for (at, kind) in kinds.into_iter().enumerate() {
        if nulls.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1) {
            continue;
        }
        match kind {
            1 => fields.take(1).map(drop).ok()?,
            2 | 13 => fields.take(2).map(drop).ok()?,
            3 | 4 | 9 => fields.take(4).map(drop).ok()?,
            5 | 8 => fields.take(8).map(drop).ok()?,
            6 => {}
            7 | 10 | 11 | 12 => {
                let length = fields.u8().ok()?;
                fields.take(usize::from(length)).ok()?;
            }
            _ => fields.string().map(drop).ok()?,
        }
    }
    Some(fields.rest())
}
