//! A statement that the source's fence may refuse: whether it is a transaction of its own, and whether it was refused.

use protocol::mysql::command;
use protocol::mysql::frame::{self, HEADER_BYTES};
use protocol::mysql::reply::{self, status};

use super::wire::MysqlWire;
use crate::relay::Verdict;

/// The number of an error for what an option of the server forbids, and the option.
const FORBIDDEN: u16 = 1290;
const OPTIONS: [&[u8]; 2] = [b"--read-only", b"--super-read-only"];

impl MysqlWire {
    /// The length of the command at the start of `held`, where all of it is there, it is a transaction of its own, and it
    /// can be sent once more.
    pub(super) fn unit(&self, held: &[u8]) -> Option<usize> {
        let header = frame::peek(held)?;
        let payload = held.get(HEADER_BYTES..header.total())?;
        let alone = self.status() & status::AUTOCOMMIT != 0 && !header.is_continued();
        let text = match payload.first() {
            Some(&command::QUERY) => Some(self.text_of(payload)),
            Some(&command::STMT_EXECUTE) => self.text_of_execution(payload),
            _ => None,
        };
        (alone && !may_commit_midway(text?)).then_some(header.total())
    }

    fn text_of_execution(&self, payload: &[u8]) -> Option<&[u8]> {
        let named = u32::from_le_bytes(*payload.get(1..)?.first_chunk()?);
        // A cursor would be open already, and pieces of parameters are used up.
        let cursor = *payload.get(5)? & 7 != 0;
        if named == command::LAST_PREPARED || cursor {
            return None;
        }
        let statement = self.statements.get(self.statements.resolve(named)?)?;
        let whole = statement.pieces.is_empty() && !statement.pieces_lost;
        statement.text.as_deref().filter(|_| whole)
    }
}

/// Whether the text may do something durable before the statement is over, as a procedure may.
fn may_commit_midway(text: &[u8]) -> bool {
    const WORDS: [&[u8]; 7] = [b"insert", b"update", b"delete", b"replace", b"select", b"with", b"load"];
    let text = text.trim_ascii_start();
    let word = text.split(|byte| !byte.is_ascii_alphabetic()).next();
    let word = word.unwrap_or_default();
    !WORDS.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// What an answer says, by its first packet.
pub(super) fn judge(answer: &[u8]) -> Verdict {
    let Some(header) = frame::peek(answer) else {
        return Verdict::Undecided;
    };
    match answer.get(HEADER_BYTES) {
        None => return Verdict::Undecided,
        Some(&reply::ERR) => {}
        Some(_) => return Verdict::Through,
    }
    let Some(body) = answer.get(HEADER_BYTES..header.total()) else {
        return Verdict::Undecided;
    };
    let code = body.get(1..).and_then(|rest| rest.first_chunk());
    let forbidden = code.is_some_and(|code| u16::from_le_bytes(*code) == FORBIDDEN);
    let names = |option: &&[u8]| memchr::memmem::find(body, option).is_some();
    if forbidden && OPTIONS.iter().any(names) && answer.len() == header.total() {
        Verdict::Refused
    } else {
        Verdict::Through
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use protocol::mysql::handshake::Capabilities;

    use super::*;

    fn packet(body: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        frame::put(&mut out, &mut 0, body);
        out
    }

    #[test]
    fn only_a_refusal_of_the_fence_as_the_first_word_is_one_however_its_bytes_come() {
        let text =
            b"\xff\x0a\x05#HY000The MySQL server is running with the --read-only option so it cannot execute this";
        let refusal = packet(text);
        for end in 0..refusal.len() {
            assert_eq!(judge(&refusal[..end]), Verdict::Undecided, "{end}");
        }
        assert_eq!(judge(&refusal), Verdict::Refused);
        let other = text.replace(b"--read-only", b"--secure-fi");
        for through in [
            packet(&other),
            packet(&[0, 1, 0, 2, 0, 0, 0]),
            BytesMut::from(&[&packet(&[0, 1, 0, 2, 0, 0, 0])[..], &refusal].concat()[..]),
        ] {
            assert_eq!(judge(&through), Verdict::Through);
        }
    }

    trait Replace {
        fn replace(&self, from: &[u8], to: &[u8]) -> Vec<u8>;
    }

    impl Replace for [u8] {
        fn replace(&self, from: &[u8], to: &[u8]) -> Vec<u8> {
            let at = memchr::memmem::find(self, from).expect("it is there");
            [&self[..at], to, &self[at + from.len()..]].concat()
        }
    }

    #[test]
    fn only_what_can_be_sent_once_more_is_a_unit() {
        let capabilities = Capabilities::default();
        let wire = |status| MysqlWire::new(1 << 20, capabilities, capabilities, status);
        let insert = packet(b"\x03INSERT INTO t VALUES (1)");
        assert_eq!(wire(status::AUTOCOMMIT).unit(&insert), Some(insert.len()));
        assert_eq!(wire(0).unit(&insert), None, "what comes next belongs to it");
        let half = &insert[..insert.len() - 1];
        assert_eq!(wire(status::AUTOCOMMIT).unit(half), None);
        for not in ["CALL p()", "BEGIN", "/* a */ CALL p()", "XA START 'x'"] {
            let command = packet(&[b"\x03", not.as_bytes()].concat());
            assert_eq!(wire(status::AUTOCOMMIT).unit(&command), None, "{not}");
        }
        let unknown = packet(b"\x17\x01\0\0\0\0\x01\0\0\0");
        assert_eq!(wire(status::AUTOCOMMIT).unit(&unknown), None);
    }
}
