//! Which distributed transaction (XA) an event of the log is about.

use bytes::Bytes;

use super::Body;
use crate::error::Malformed;

/// The name of a distributed transaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xid {
    format: u64,
    global: Vec<u8>,
    branch: Vec<u8>,
}

impl Xid {
    /// The one that a statement of the log names, such as `XA COMMIT X'61',X'',1`.
    pub fn of(statement: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(statement).ok()?;
        let (_, named) = text.split_once("X'")?;
        let (global, rest) = named.split_once('\'')?;
        let (_, rest) = rest.split_once("X'")?;
        let (branch, rest) = rest.split_once('\'')?;
        let digits = rest.trim_start_matches(',').trim_start();
        let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
        Some(Self { format: digits.get(..end)?.parse().ok()?, global: unhex(global)?, branch: unhex(branch)? })
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    let mut rest = digits;
    while !rest.is_empty() {
        let (pair, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(pair, 16).ok()?);
        rest = after;
    }
    Some(bytes)
}

/// Reads which distributed transaction is prepared, and whether it is committed at once.
pub fn xa_prepare(body: Bytes) -> Result<(Xid, bool), Malformed> {
    let mut body = Body::new("XA prepare event", body);
    let at_once = body.number(1)? != 0;
    let format = body.number(4)?;
    let (global, branch) = (body.length(4)?, body.length(4)?);
    let global = body.slice(global)?.to_vec();
    let branch = body.slice(branch)?.to_vec();
    let xid = Xid { format, global, branch };
    Ok((xid, at_once))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Xid, xa_prepare};

    #[test]
    fn an_event_and_a_statement_name_the_same_transaction() {
        let body = b"\x00\x07\0\0\0\x02\0\0\0\x01\0\0\0abc";
        let named = Xid::of(b"XA COMMIT X'6162',X'63',7").map(|xid| (xid, false));
        assert!(named.is_some());
        assert_eq!(xa_prepare(Bytes::from_static(body)).ok(), named);
    }

    #[test]
    fn what_is_cut_short_names_none() {
        let body = b"\x01\x07\0\0\0\x02\0\0\0\x01\0\0\0abc";
        for end in 0..body.len() {
            let cut = Bytes::from_static(body).slice(..end);
            assert!(xa_prepare(cut).is_err());
        }
        for cut in ["XA COMMIT X'6162',X'63',", "XA COMMIT X'6162',X'63", "XA COMMIT X'61", "XA COMMIT", ""] {
            assert_eq!(Xid::of(cut.as_bytes()), None);
        }
        assert_eq!(Xid::of(b"XA COMMIT X'6',X'',1"), None);
    }
}
