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
    ($($name:ident: $number:ty, $order:ident, $doc:literal;)*) => {
        $(
            #[doc = $doc]
            #[inline]
            pub fn $name(&mut self) -> Result<$number, Malformed> {
                const SIZE: usize = size_of::<$number>();
                let Some(&bytes) = self.rest.first_chunk::<SIZE>() else { return Err(self.malformed()) };
                self.rest.advance(SIZE);
                Ok(<$number>::$order(bytes))
            }
        )*
    };
}

impl Reader {
    /// Begins to read `body`; `what` names it in errors.
    #[inline]
    pub fn new(what: &'static str, body: Bytes) -> Self {
        Self {
            what,
            whole: body.len(),
            rest: body,
        }
    }

    numbers! {
        get_u8: u8, from_be_bytes, "One byte.";
        get_u16: u16, from_be_bytes, "Two bytes, unsigned.";
        get_u32: u32, from_be_bytes, "Four bytes, unsigned.";
        get_u64: u64, from_be_bytes, "Eight bytes, unsigned.";
        get_i16: i16, from_be_bytes, "Two bytes, signed.";
        get_i32: i32, from_be_bytes, "Four bytes, signed.";
        get_i64: i64, from_be_bytes, "Eight bytes, signed.";
        get_u16_le: u16, from_le_bytes, "Two bytes, unsigned, the low one first.";
        get_u32_le: u32, from_le_bytes, "Four bytes, unsigned, the low one first.";
        get_u64_le: u64, from_le_bytes, "Eight bytes, unsigned, the low one first.";
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

    /// One of MySQL's integers, whose first byte tells how long they are. NULL's mark is refused.
    #[inline]
    pub fn lenenc(&mut self) -> Result<u64, Malformed> {
        match self.get_u8()? {
            short @ ..=0xFA => Ok(u64::from(short)),
            0xFC => self.get_u16_le().map(u64::from),
            0xFD => {
                let low = self.get_u16_le()?;
                let high = self.get_u8()?;
                Ok(u64::from(low) | (u64::from(high) << 16))
            }
            0xFE => self.get_u64_le(),
            _ => Err(self.malformed()),
        }
    }

    /// As many bytes as one of MySQL's integers before them tells.
    #[inline]
    pub fn lenenc_slice(&mut self) -> Result<Bytes, Malformed> {
        let count = self.lenenc()?;
        let count = usize::try_from(count).map_err(|_| self.malformed())?;
        self.slice(count)
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
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.malformed())
        }
    }

    /// The error for what is wrong here.
    #[cold]
    pub fn malformed(&self) -> Malformed {
        Malformed {
            what: self.what,
            at: self.whole.saturating_sub(self.rest.len()),
            limit: self.whole,
        }
    }
}
