//! The client's frames, by tag.

/// Bind a statement to values.
pub const BIND: u8 = b'B';
/// Close a statement or portal.
pub const CLOSE: u8 = b'C';
/// A piece of a COPY.
pub const COPY_DATA: u8 = b'd';
/// The end of a COPY.
pub const COPY_DONE: u8 = b'c';
/// A COPY given up.
pub const COPY_FAIL: u8 = b'f';
/// Describe a statement or portal.
pub const DESCRIBE: u8 = b'D';
/// Run a portal.
pub const EXECUTE: u8 = b'E';
/// Send what there is to say so far.
pub const FLUSH: u8 = b'H';
/// Call a function by its oid.
pub const FUNCTION_CALL: u8 = b'F';
/// Parse a statement.
pub const PARSE: u8 = b'P';
/// A password, or a message of a SASL exchange.
pub const PASSWORD: u8 = b'p';
/// One or more statements as text.
pub const QUERY: u8 = b'Q';
/// The end of a batch.
pub const SYNC: u8 = b'S';
/// Good-bye.
pub const TERMINATE: u8 = b'X';

/// Whether this frame is part of a batch that only a Sync ends.
#[inline]
pub const fn is_batched(tag: u8) -> bool {
    matches!(tag, PARSE | BIND | EXECUTE | DESCRIBE | CLOSE)
}
