//! What both engines share where changes of one row are reduced to its final effect.

use std::borrow::Cow;

/// The changes contradict each other, as for an update of a row that was just deleted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contradiction;

/// A row's key as bytes from which no other key could come. `bytes` are those of one column.
pub(crate) fn key_of<'r>(key: &[usize], bytes: impl Fn(usize) -> &'r [u8]) -> Cow<'r, [u8]> {
    if let [column] = key {
        return Cow::Borrowed(bytes(*column));
    }
    let mut all = Vec::with_capacity(key.len() * 16);
    for &column in key {
        let part = bytes(column);
        all.extend_from_slice(&part.len().to_be_bytes());
        all.extend_from_slice(part);
    }
    Cow::Owned(all)
}
