//! Reads numbers and strings off a message, never past its end and without copying.

use bytes::{Buf, Bytes};

use crate::error::Malformed;

/// What is left of one message.
#[derive(Clone, Debug)]
pub struct Reader {
    what: &'static str,
    rest: Bytes,
    whole: usize,
}

macro_rules! numbers {
    ($($name:ident: $number:ty, $doc:literal;)*) => {
        $(
            #[doc = $doc]
            #[inline]
            pub fn $name(&mut self) -> Result<$number, Malformed> {
                const SIZE: usize = size_of::<$number>();
                let Some(&bytes) = self.rest.first_chunk::<SIZE>() else { return Err(self.malformed()) };
                self.rest.advance(SIZE);
                Ok(<$number>::from_be_bytes(bytes))
            }
        )*
    };
}

impl Reader {
    /// Begins to read `body`; `what` names it in errors.
    #[inline]
    pub fn new(what: &'static str, body: Bytes) -> Self {
        Self { what, whole: body.len(), rest: body }
    }

    numbers! {
        get_u8: u8, "One byte.";
        get_u16: u16, "Two bytes, unsigned.";
        get_u32: u32, "Four bytes, unsigned.";
        get_u64: u64, "Eight bytes, unsigned.";
        get_i16: i16, "Two bytes, signed.";
        get_i32: i32, "Four bytes, signed.";
        get_i64: i64, "Eight bytes, signed.";
    }

    /// The next `count` bytes.
    #[inline]
    pub fn slice(&mut self, count: usize) -> Result<Bytes, Malformed> {
        if count > self.rest.len() {
            return Err(self.malformed());
        }
        Ok(self.rest.split_to(count))
    }

    /// The bytes up to the next zero byte, which is consumed too.
    #[inline]
    pub fn cstr(&mut self) -> Result<Bytes, Malformed> {
        let Some(end) = memchr::memchr(0, &self.rest) else {
            return Err(self.malformed());
        };
        let text = self.rest.split_to(end);
        self.rest.advance(1);
        Ok(text)
    }

    /// All bytes that are left.
    #[inline]
    pub fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    /// How many bytes are left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The first byte that is left, unread.
    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Refuses bytes after the end.
    #[inline]
    pub fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }

    /// The error for what is wrong here.
    #[cold]
    pub fn malformed(&self) -> Malformed {
        Malformed { what: self.what, at: self.whole.saturating_sub(self.rest.len()), limit: self.whole }
    }
}
