//! Numbers and strings as MySQL's packets carry them: little-endian, and lengths in one to nine bytes.
//!
//! MySQL internals manual, "Basic Data Types".

use bytes::{BufMut, BytesMut};

use crate::error::Malformed;

/// What stands for NULL where a length is expected in a row.
pub const NULL: u8 = 0xFB;

/// Reads one packet's payload, never past its end and without copying.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    what: &'static str,
    rest: &'a [u8],
    whole: usize,
}

impl<'a> Fields<'a> {
    /// Begins to read `payload`; `what` names it in errors.
    #[inline]
    pub fn new(what: &'static str, payload: &'a [u8]) -> Self {
        Self { what, rest: payload, whole: payload.len() }
    }

    /// The next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let Some((bytes, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.malformed());
        };
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    fn number<const SIZE: usize>(&mut self) -> Result<u64, Malformed> {
        let bytes = self.take(SIZE)?;
        let mut wide = [0; 8];
        for (to, from) in wide.iter_mut().zip(bytes) {
            *to = *from;
        }
        Ok(u64::from_le_bytes(wide))
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.take(1).map(|bytes| bytes.first().copied().unwrap_or(0))
    }

    /// Two bytes.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        let number = self.number::<2>()?;
        Ok(u16::try_from(number).unwrap_or(u16::MAX))
    }

    /// Four bytes.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        let number = self.number::<4>()?;
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// A number in one to nine bytes; `None` where NULL stands instead.
    #[inline]
    pub fn integer(&mut self) -> Result<Option<u64>, Malformed> {
        match self.u8()? {
            NULL => Ok(None),
            0xFC => self.number::<2>().map(Some),
            0xFD => self.number::<3>().map(Some),
            0xFE => self.number::<8>().map(Some),
            0xFF => Err(self.malformed()),
            small => Ok(Some(u64::from(small))),
        }
    }

    /// A number in one to nine bytes.
    #[inline]
    pub fn count(&mut self) -> Result<u64, Malformed> {
        self.integer()?.ok_or_else(|| self.malformed())
    }

    /// A string behind its length; `None` where NULL stands instead.
    #[inline]
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let Some(length) = self.integer()? else {
            return Ok(None);
        };
        let length = usize::try_from(length).map_err(|_| self.malformed())?;
        self.take(length).map(Some)
    }

    /// A string behind its length.
    #[inline]
    pub fn string(&mut self) -> Result<&'a [u8], Malformed> {
        self.value()?.ok_or_else(|| self.malformed())
    }

    /// The bytes up to the next zero byte, which is consumed too.
    pub fn cstr(&mut self) -> Result<&'a [u8], Malformed> {
        let Some(end) = memchr::memchr(0, self.rest) else {
            return Err(self.malformed());
        };
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }

    /// All bytes that are left.
    #[inline]
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// How many bytes are left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// How many bytes were read.
    #[inline]
    pub fn at(&self) -> usize {
        self.whole.saturating_sub(self.rest.len())
    }

    /// The error for what is wrong here.
    #[cold]
    pub fn malformed(&self) -> Malformed {
        Malformed { what: self.what, at: self.at(), limit: self.whole }
    }
}

/// Appends a number in one to nine bytes.
pub fn put_count(out: &mut BytesMut, number: u64) {
    match number {
        0..=0xFA => out.put_uint_le(number, 1),
        0xFB..=0xFFFF => {
            out.put_u8(0xFC);
            out.put_uint_le(number, 2);
        }
        0x1_0000..=0xFF_FFFF => {
            out.put_u8(0xFD);
            out.put_uint_le(number, 3);
        }
        _ => {
            out.put_u8(0xFE);
            out.put_u64_le(number);
        }
    }
}

/// Appends a string behind its length.
pub fn put_string(out: &mut BytesMut, string: &[u8]) {
    put_count(out, string.len() as u64);
    out.extend_from_slice(string);
}

/// Appends a string behind its length, or what stands for NULL.
pub fn put_value(out: &mut BytesMut, value: Option<&[u8]>) {
    match value {
        Some(string) => put_string(out, string),
        None => out.put_u8(NULL),
    }
}
