//! A statement that the source's fence may refuse: whether it is a transaction of its own, and whether it was refused.

use protocol::postgres::{command, frame, reply};

use crate::relay::Verdict;

/// The fence's SQLSTATE, and the end of its text.
const SQLSTATE: &[u8] = b"C25006\0";
const TEXT: &[u8] = b": this database has moved\0";

/// The length of the transaction at the start of `held`, where all of it is there and it can be sent once more: a simple
/// query, or a batch up to its Sync that leaves no named statement behind.
pub(super) fn unit(held: &[u8], limit: usize) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = held.get(at..)?;
        let header = frame::peek(rest, limit).ok().flatten()?;
        let body = rest.get(frame::HEADER_BYTES..header.total())?;
        at += header.total();
        match header.tag {
            command::QUERY if at == header.total() => {
                return (!may_commit_midway(body)).then_some(at);
            }
            command::SYNC => return (at > header.total()).then_some(at),
            command::PARSE if body.first() != Some(&0) => return None,
            command::PARSE | command::BIND | command::DESCRIBE | command::EXECUTE => {}
            _ => return None,
        }
    }
}

/// Whether the text may do something durable before the statement is over: a procedure may commit.
pub(super) fn may_commit_midway(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let word = text.split(|byte| !byte.is_ascii_alphabetic()).next();
    let word = word.unwrap_or_default();
    // Behind a comment anything may stand.
    word.is_empty() || word.eq_ignore_ascii_case(b"call") || word.eq_ignore_ascii_case(b"do")
}

/// What the frames of an answer say. Whoever was shown a row, or the end of a statement, is not asked to wait.
pub(super) fn judge(answer: &[u8]) -> Verdict {
    let mut at = 0;
    let mut refused = false;
    loop {
        let rest = answer.get(at..).unwrap_or_default();
        let Ok(Some(header)) = frame::peek(rest, usize::MAX >> 1) else {
            return Verdict::Undecided;
        };
        let Some(body) = rest.get(frame::HEADER_BYTES..header.total()) else {
            return Verdict::Undecided;
        };
        at += header.total();
        match header.tag {
            reply::ERROR_RESPONSE if !refused && is_refusal(body) => refused = true,
            reply::READY_FOR_QUERY if refused && body == b"I" && at == answer.len() => {
                return Verdict::Refused;
            }
            // ParseComplete, BindComplete, ParameterDescription, RowDescription, NoData.
            b'1' | b'2' | b't' | b'T' | b'n' if !refused => {}
            _ => return Verdict::Through,
        }
    }
}

/// Whether the fields of an error are those of the fence.
fn is_refusal(body: &[u8]) -> bool {
    let has = |field: &[u8]| memchr::memmem::find(body, field).is_some();
    has(SQLSTATE) && has(TEXT)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn frames(all: &[(u8, &[u8])]) -> BytesMut {
        let mut out = BytesMut::new();
        for (tag, body) in all {
            frame::put(&mut out, *tag, |out| out.extend_from_slice(body));
        }
        out
    }

    const REFUSAL: &[u8] = b"SERROR\0VERROR\0C25006\0Mcannot execute INSERT: this database has moved\0HConnect\0\0";

    #[test]
    fn only_a_refusal_of_the_fence_before_any_result_is_one_however_its_bytes_come() {
        let whole = frames(&[(b'1', b""), (b'2', b""), (b'n', b""), (b'E', REFUSAL), (b'Z', b"I")]);
        for end in 0..whole.len() {
            assert_eq!(judge(&whole[..end]), Verdict::Undecided, "{end}");
        }
        assert_eq!(judge(&whole), Verdict::Refused);
        let other = b"SERROR\0C25006\0Mcannot execute INSERT in a read-only transaction\0\0";
        for through in [
            frames(&[(b'C', b"INSERT 0 1\0"), (b'E', REFUSAL), (b'Z', b"I")]),
            frames(&[(b'D', b"\0\0"), (b'E', REFUSAL), (b'Z', b"I")]),
            frames(&[(b'E', REFUSAL), (b'Z', b"E")]),
            frames(&[(b'E', other), (b'Z', b"I")]),
            frames(&[(b'G', b"\0\0\0")]),
        ] {
            assert_eq!(judge(&through), Verdict::Through);
        }
    }

    #[test]
    fn only_what_can_be_sent_once_more_is_a_unit() {
        let limit = 1 << 20;
        let query = frames(&[(b'Q', b"insert into t values (1)\0")]);
        assert_eq!(unit(&query, limit), Some(query.len()));
        assert_eq!(unit(&query[..query.len() - 1], limit), None, "half of it");
        let batch = [(b'P', &b"\0insert\0\0\0"[..]), (b'B', b"\0\0"), (b'E', b"\0"), (b'S', b"")];
        let whole = frames(&batch);
        assert_eq!(unit(&[&whole[..], &query].concat(), limit), Some(whole.len()));
        assert_eq!(unit(&frames(&batch[..3]), limit), None, "no Sync");
        for not in [
            frames(&[(b'P', b"named\0insert\0\0\0"), (b'S', b"")]),
            frames(&[(b'Q', b"CALL p()\0")]),
            frames(&[(b'Q', b"/* a */ call p()\0")]),
            frames(&[(b'P', b"\0select\0\0\0"), (b'H', b""), (b'S', b"")]),
            frames(&[(b'S', b"")]),
        ] {
            assert_eq!(unit(&not, limit), None);
        }
    }
}
